//! Tags: how a user sorts rooms. They are room account data, `m.tag`, with endpoints of their own.
//!
//! [CS-API §get_matrixclientv3useruseridroomsroomidtags]
//! [CS-API §put_matrixclientv3useruseridroomsroomidtagstag]
//! [CS-API §delete_matrixclientv3useruseridroomsroomidtagstag]

use axum::extract::State;
use ruma_client_api::tag::{create_tag, delete_tag, get_tags};
use ruma_common::{RoomId, UserId};
use serde_json::{Map, Value, json};

use super::is_own;
use crate::{Api, Call, Checked, Empty, Error, Json, Loose, Result, User, body};

const KIND: &str = "m.tag";
/// How many tags a room can have.
const TAGS_MAX: usize = 100;
/// How long a tag may be. [CS-API §room-tagging]
const TAG_BYTES_MAX: usize = 255;

pub async fn get_tags(State(api): State<Api>, call: Call<get_tags::v3::Request>) -> Result<Json<Value>> {
    is_own(&call.who, &call.request.user_id)?;
    let content = api.accounts.account_data(&call.request.user_id, Some(&call.request.room_id), KIND)?;
    Ok(Json(json!({ "tags": tags_in(content.as_deref()) })))
}

pub async fn create_tag(State(api): State<Api>, call: Loose<create_tag::v3::Request, Checked>) -> Result<Empty> {
    // COMPAT(several): a tag without an order is sent with no body at all.
    let info: Map<String, Value> = body::parse(&call.body.0)?;
    if info.get("order").is_some_and(|order| !order.is_number()) {
        return Err(Error::bad_json("`order` is a number"));
    }
    edit_tags(&api, &call.who, &call.path, move |tags, tag| {
        if tags.len() < TAGS_MAX || tags.contains_key(&tag) {
            tags.insert(tag, Value::Object(info));
        }
    })
    .await
}

pub async fn delete_tag(State(api): State<Api>, call: Loose<delete_tag::v3::Request, Checked>) -> Result<Empty> {
    edit_tags(&api, &call.who, &call.path, |tags, tag| {
        tags.remove(&tag);
    })
    .await
}

async fn edit_tags(
    api: &Api,
    who: &User,
    path: &[String],
    edit: impl FnOnce(&mut Map<String, Value>, String) + Send + 'static,
) -> Result<Empty> {
    let [user_id, room_id, tag] = path else { return Err(Error::unrecognized()) };
    let user_id = UserId::parse(user_id).map_err(|_| Error::invalid_param("Not a user id"))?;
    let room_id = RoomId::parse(room_id).map_err(|_| Error::invalid_param("Not a room id"))?;
    is_own(who, &user_id)?;
    if tag.len() > TAG_BYTES_MAX {
        return Err(Error::invalid_param(format!(
            "The tag has {} bytes, at most {TAG_BYTES_MAX} are allowed",
            tag.len()
        )));
    }
    let tag = tag.clone();
    let edited = api.accounts.edit_account_data(&user_id, Some(&room_id), KIND, move |content| {
        let before = tags_in(content);
        let mut tags = before.clone();
        edit(&mut tags, tag);
        (tags != before).then(|| json!({ "tags": tags }).to_string())
    });
    edited.await?;
    Ok(Empty)
}

fn tags_in(content: Option<&str>) -> Map<String, Value> {
    let content: Option<Value> = content.and_then(|content| serde_json::from_str(content).ok());
    match content.and_then(|mut content| content.get_mut("tags").map(Value::take)) {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    }
}
