//! `/_synapse/admin/v1/media` and `/users/{userId}/media`: what people keep here, and deleting it.
//!
//! Quarantine is not built: what must not be seen is deleted.

use axum::extract::State;
use http::Method;
use koine_media::{Item, MediaId};
use ruma_common::{MilliSecondsSinceUnixEpoch, ServerName, UserId};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{Asked, Page, Told, admin, known_user};
use crate::{Api, Endpoints, Error, Json, Result, rooms::query};

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    let own = "/_synapse/admin/v1/users/{user_id}/media";
    endpoints.add_at("admin.media.list", Method::GET, own, list);
    endpoints.add_at("admin.media.delete_of_user", Method::DELETE, own, delete_of_user);
    let one = "/_synapse/admin/v1/media/{server_name}/{media_id}";
    endpoints.add_at("admin.media.get", Method::GET, one, get);
    endpoints.add_at("admin.media.delete", Method::DELETE, one, delete);
    for path in ["/_synapse/admin/v1/media/delete", "/_synapse/admin/v1/media/{server_name}/delete"] {
        endpoints.add_at("admin.media.delete_old", Method::POST, path, delete_old);
    }
}

fn shown(item: &Item) -> Value {
    json!({
        "media_id": item.id.as_str(),
        "media_type": item.content_type,
        "media_length": item.size,
        "upload_name": item.file_name,
        "created_ts": item.created,
        "last_access_ts": null,
        "quarantined_by": null,
        "safe_from_quarantine": false,
    })
}

async fn list(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    let page: Page = query(&call.query)?;
    let all = newest_first(&api, &user)?;
    let total = all.len();
    let (found, next) = page.of(all);
    let mut answer = json!({ "media": found.iter().map(shown).collect::<Vec<_>>(), "total": total });
    if let Some(next) = next {
        answer["next_token"] = json!(next);
    }
    Ok(Json(answer))
}

fn newest_first(api: &Api, user: &UserId) -> Result<Vec<Item>> {
    let mut all = api.media.list(|item| item.owner.as_deref() == Some(user))?;
    all.sort_by_key(|item| std::cmp::Reverse(item.created));
    Ok(all)
}

async fn delete_of_user(State(api): State<Api>, call: Told<IgnoredAny>) -> Result<Json<Value>> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    let page: Page = query(&call.query)?;
    let (found, _) = page.of(newest_first(&api, &user)?);
    delete_all(&api, found).await
}

/// A file of this server.
fn find(api: &Api, path: &[String]) -> Result<Item> {
    let server = <&ServerName>::try_from(path[0].as_str()).map_err(|_| Error::invalid_param("Not a server name"))?;
    if server != api.rooms.server_name() {
        return Err(Error::invalid_param("Only media of this server can be looked up and deleted"));
    }
    api.media.find(server, &path[1])?.ok_or_else(|| Error::not_found("Unknown media"))
}

async fn get(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    Ok(Json(json!({ "media_info": shown(&find(&api, &call.path)?) })))
}

async fn delete(State(api): State<Api>, call: Told<IgnoredAny>) -> Result<Json<Value>> {
    admin(&call.who)?;
    let item = find(&api, &call.path)?;
    delete_all(&api, vec![item]).await
}

#[derive(Debug, Deserialize)]
struct Old {
    before_ts: Option<u64>,
    #[serde(default)]
    size_gt: u64,
}

async fn delete_old(State(api): State<Api>, call: Told<IgnoredAny>) -> Result<Json<Value>> {
    admin(&call.who)?;
    let old: Old = query(&call.query)?;
    let before = old.before_ts.ok_or_else(|| Error::missing_param("`before_ts` is missing"))?;
    let before = MilliSecondsSinceUnixEpoch(
        before.try_into().map_err(|_| Error::invalid_param("`before_ts` is no time in milliseconds"))?,
    );
    let found = api.media.list(|item| item.created < before && item.size > old.size_gt)?;
    delete_all(&api, found).await
}

async fn delete_all(api: &Api, items: Vec<Item>) -> Result<Json<Value>> {
    let mut deleted: Vec<MediaId> = Vec::with_capacity(items.len());
    for item in items {
        if api.media.delete(&item.id).await.map_err(Error::internal)? {
            deleted.push(item.id);
        }
    }
    let deleted: Vec<&str> = deleted.iter().map(MediaId::as_str).collect();
    Ok(Json(json!({ "deleted_media": deleted, "total": deleted.len() })))
}
