//! `POST /pushers/set`: where an application wants to be told, or that it does no longer.
//!
//! [CS-API §post_matrixclientv3pushersset] E-mail is not a kind of pusher here.

use axum::extract::State;
use koine_push::Pusher;
use ruma_client_api::push::set_pusher::v3;
use ruma_common::MilliSecondsSinceUnixEpoch;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Api, Empty, Error, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Wanted {
    app_id: String,
    pushkey: String,
    /// `null` removes the pusher; there is a difference to its being absent.
    kind: Value,
    app_display_name: Option<String>,
    device_display_name: Option<String>,
    profile_tag: Option<String>,
    lang: Option<String>,
    data: Option<Map<String, Value>>,
    #[serde(default)]
    append: bool,
}

pub async fn set_pusher(State(api): State<Api>, call: Loose<v3::Request, Wanted>) -> Result<Empty> {
    let (user, wanted) = (&call.who, call.body);
    match &wanted.kind {
        Value::Null => {
            api.pushers.delete(&user.user_id, &wanted.app_id, &wanted.pushkey).await?;
            return Ok(Empty);
        }
        Value::String(kind) if kind == "http" => {}
        _ => return Err(Error::invalid_param("The kind of a pusher is http here, or null to remove it")),
    }
    let missing = |name: &str| Error::missing_param(format!("{name} is missing"));
    let pusher = Pusher {
        app_id: wanted.app_id,
        pushkey: wanted.pushkey,
        app_display_name: wanted.app_display_name.ok_or_else(|| missing("app_display_name"))?,
        device_display_name: wanted.device_display_name.ok_or_else(|| missing("device_display_name"))?,
        profile_tag: wanted.profile_tag,
        lang: wanted.lang.ok_or_else(|| missing("lang"))?,
        data: wanted.data.ok_or_else(|| missing("data"))?,
        device_id: user.device_id.clone(),
        created_ms: MilliSecondsSinceUnixEpoch::now().get().into(),
    };
    if !pusher.data.contains_key("url") {
        return Err(missing("data.url"));
    }
    api.pushers.set(&user.user_id, pusher, wanted.append).await?;
    Ok(Empty)
}
