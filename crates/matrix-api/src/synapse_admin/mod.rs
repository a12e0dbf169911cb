//! The admin API of Synapse, as far as it fits: what the tools that operators have ask for.
//!
//! Not of Matrix's specification; the shapes are those of <https://element-hq.github.io/synapse/latest/usage/administration/admin_api/>.
//! What is served is listed in `docs/admin-api.md`. What is not (shadow bans, experimental features, consent, background
//! updates, statistics of media) answers `M_UNRECOGNIZED`, as any unknown endpoint does.
//!
//! Everybody who asks must be an admin of this server: [`Asked`] and [`Told`] are requests, [`admin`] who may make them.

mod devices;
mod jobs;
mod media;
mod notices;
mod registration_tokens;
mod reports;
mod room_actions;
mod rooms;
mod user_actions;
mod users;

use http::Method;
use ruma_common::{
    OwnedRoomId, OwnedUserId, RoomAliasId, UserId,
    api::auth_scheme::{AccessToken, NoAccessToken},
    metadata,
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

pub(crate) use self::{jobs::Jobs, notices::notices_user};
use crate::{Api, Endpoints, Error, Json, Loose, Result, User, admin::admins_only};

/// A question of an admin. The path is that of the line that serves it.
pub struct Asking;
/// A command of an admin, with a body. The path likewise.
pub struct Telling;
/// What anybody may ask.
pub struct Anybody;

metadata! {
    @for Asking,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_synapse/admin",
}
metadata! {
    @for Telling,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_synapse/admin",
}
metadata! {
    @for Anybody,
    method: GET,
    rate_limited: false,
    authentication: NoAccessToken,
    path: "/_synapse/admin",
}

/// A request without a body.
type Asked = Loose<Asking, IgnoredAny>;
/// A request with one.
type Told<B> = Loose<Telling, B>;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add_at("admin.server_version", Method::GET, "/_synapse/admin/v1/server_version", server_version);
    users::endpoints(endpoints);
    user_actions::endpoints(endpoints);
    devices::endpoints(endpoints);
    rooms::endpoints(endpoints);
    room_actions::endpoints(endpoints);
    media::endpoints(endpoints);
    registration_tokens::endpoints(endpoints);
    reports::endpoints(endpoints);
    notices::endpoints(endpoints);
}

async fn server_version(_call: Loose<Anybody, IgnoredAny>) -> Result<Json<Value>> {
    Ok(Json(json!({ "server_version": concat!("Koine ", env!("CARGO_PKG_VERSION")) })))
}

/// An admin, and nobody else.
fn admin(who: &User) -> Result<&UserId> {
    admins_only(who)?;
    Ok(&who.user_id)
}

/// A user of this server, in use or not.
fn user(api: &Api, path: &[String], index: usize) -> Result<OwnedUserId> {
    let text = path.get(index).map(String::as_str).unwrap_or_default();
    let user = UserId::parse(text).map_err(|_| Error::invalid_param(format!("{text:?} is no user id")))?;
    match api.accounts.is_local(&user) {
        true => Ok(user),
        false => Err(Error::invalid_param("Only users of this server can be looked up")),
    }
}

/// The same, who is known.
fn known_user(api: &Api, path: &[String], index: usize) -> Result<koine_account::UserInfo> {
    let user = user(api, path, index)?;
    api.accounts.user(&user)?.ok_or_else(|| Error::not_found("User not found"))
}

/// A room, by its id or an alias.
fn room(api: &Api, path: &[String], index: usize) -> Result<OwnedRoomId> {
    let text = path.get(index).map(String::as_str).unwrap_or_default();
    if let Ok(alias) = <&RoomAliasId>::try_from(text) {
        return Ok(api.rooms.resolve_alias(alias)?);
    }
    OwnedRoomId::try_from(text).map_err(|_| Error::invalid_param(format!("{text:?} is no room id")))
}

/// Places of a list: from where, and how many.
#[derive(Debug, serde::Deserialize)]
struct Page {
    #[serde(default)]
    from: usize,
    #[serde(default = "hundred")]
    limit: usize,
}

/// Most things on one page.
const PAGE_MAX: usize = 1_000;

fn hundred() -> usize {
    100
}

impl Page {
    /// The page of `all`, and where the next one begins.
    fn of<T>(&self, all: Vec<T>) -> (Vec<T>, Option<usize>) {
        let limit = self.limit.min(PAGE_MAX);
        let end = self.from.saturating_add(limit);
        let next = (end < all.len()).then_some(end);
        (all.into_iter().skip(self.from).take(limit).collect(), next)
    }
}
