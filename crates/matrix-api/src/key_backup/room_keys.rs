//! `/room_keys/keys`: the keys in a backup.
//!
//! [CS-API §put_matrixclientv3room_keyskeys] [CS-API §put_matrixclientv3room_keyskeysroomid]
//! [CS-API §put_matrixclientv3room_keyskeysroomidsessionid] [CS-API §get_matrixclientv3room_keyskeys]
//! [CS-API §get_matrixclientv3room_keyskeysroomid] [CS-API §get_matrixclientv3room_keyskeysroomidsessionid]
//! [CS-API §delete_matrixclientv3room_keyskeys] [CS-API §delete_matrixclientv3room_keyskeysroomid]
//! [CS-API §delete_matrixclientv3room_keyskeysroomidsessionid]

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{BackedUpKey, BackupKeys, BackupState, KeyScope};
use ruma_client_api::backup::{
    add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session, delete_backup_keys,
    delete_backup_keys_for_room, delete_backup_keys_for_session, get_backup_keys, get_backup_keys_for_room,
    get_backup_keys_for_session,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::versions::{NoBody, object, parse_version};
use crate::{Api, Error, Json, Loose, Result, User};

/// How large a body may be: clients send some hundred keys at once.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// [CS-API §definition-keybackupdata]
#[derive(Debug, Serialize, Deserialize)]
pub struct Key {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct OfRoom {
    sessions: BTreeMap<String, Key>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct All {
    rooms: BTreeMap<String, OfRoom>,
}

impl Key {
    fn into_core(self) -> Result<BackedUpKey> {
        Ok(BackedUpKey {
            session_data: object(&self.session_data, "session_data")?,
            first_message_index: self.first_message_index,
            forwarded_count: self.forwarded_count,
            is_verified: self.is_verified,
        })
    }

    fn from_core(key: BackedUpKey) -> Result<Self> {
        Ok(Self {
            session_data: RawValue::from_string(key.session_data).map_err(Error::internal)?,
            first_message_index: key.first_message_index,
            forwarded_count: key.forwarded_count,
            is_verified: key.is_verified,
        })
    }
}

impl OfRoom {
    fn into_core(self) -> Result<BTreeMap<String, BackedUpKey>> {
        self.sessions.into_iter().map(|(id, key)| Ok((id, key.into_core()?))).collect()
    }

    fn from_core(keys: BTreeMap<String, BackedUpKey>) -> Result<Self> {
        let sessions = keys.into_iter().map(|(id, key)| Ok((id, Key::from_core(key)?)));
        Ok(Self { sessions: sessions.collect::<Result<_>>()? })
    }
}

pub async fn put_all(
    State(api): State<Api>,
    call: Loose<add_backup_keys::v3::Request, All, BODY_BYTES_MAX>,
) -> Result<Json<Value>> {
    let rooms = call.body.rooms.into_iter().map(|(id, room)| Ok((id, room.into_core()?)));
    put(&api, &call.who, &call.query, rooms.collect::<Result<_>>()?).await
}

pub async fn put_room(
    State(api): State<Api>,
    call: Loose<add_backup_keys_for_room::v3::Request, OfRoom, BODY_BYTES_MAX>,
) -> Result<Json<Value>> {
    let [room_id] = path(call.path)?;
    put(&api, &call.who, &call.query, BTreeMap::from([(room_id, call.body.into_core()?)])).await
}

pub async fn put_session(
    State(api): State<Api>,
    call: Loose<add_backup_keys_for_session::v3::Request, Key>,
) -> Result<Json<Value>> {
    let [room_id, session_id] = path(call.path)?;
    let session = BTreeMap::from([(session_id, call.body.into_core()?)]);
    put(&api, &call.who, &call.query, BTreeMap::from([(room_id, session)])).await
}

async fn put(api: &Api, who: &User, query: &str, keys: BackupKeys) -> Result<Json<Value>> {
    let state = api.accounts.back_up_keys(&who.user_id, version_in(query)?, keys).await?;
    Ok(answer(state))
}

pub async fn get_all(State(api): State<Api>, call: Loose<get_backup_keys::v3::Request, NoBody>) -> Result<Json<All>> {
    let keys = api.accounts.backed_up_keys(&call.who.user_id, version_in(&call.query)?, KeyScope::All)?;
    let rooms = keys.into_iter().map(|(id, sessions)| Ok((id, OfRoom::from_core(sessions)?)));
    Ok(Json(All { rooms: rooms.collect::<Result<_>>()? }))
}

pub async fn get_room(
    State(api): State<Api>,
    call: Loose<get_backup_keys_for_room::v3::Request, NoBody>,
) -> Result<Json<OfRoom>> {
    let [room_id] = path(call.path)?;
    let version = version_in(&call.query)?;
    let mut keys = api.accounts.backed_up_keys(&call.who.user_id, version, KeyScope::Room(&room_id))?;
    Ok(Json(OfRoom::from_core(keys.remove(&room_id).unwrap_or_default())?))
}

pub async fn get_session(
    State(api): State<Api>,
    call: Loose<get_backup_keys_for_session::v3::Request, NoBody>,
) -> Result<Json<Key>> {
    let [room_id, session_id] = path(call.path)?;
    let version = version_in(&call.query)?;
    let scope = KeyScope::Session(&room_id, &session_id);
    let mut keys = api.accounts.backed_up_keys(&call.who.user_id, version, scope)?;
    let key = keys.remove(&room_id).and_then(|mut sessions| sessions.remove(&session_id));
    Ok(Json(Key::from_core(key.ok_or_else(|| Error::not_found("There is no such key in the backup"))?)?))
}

pub async fn delete_all(
    State(api): State<Api>,
    call: Loose<delete_backup_keys::v3::Request, NoBody>,
) -> Result<Json<Value>> {
    delete(&api, &call.who, &call.query, KeyScope::All).await
}

pub async fn delete_room(
    State(api): State<Api>,
    call: Loose<delete_backup_keys_for_room::v3::Request, NoBody>,
) -> Result<Json<Value>> {
    let [room_id] = path(call.path)?;
    delete(&api, &call.who, &call.query, KeyScope::Room(&room_id)).await
}

pub async fn delete_session(
    State(api): State<Api>,
    call: Loose<delete_backup_keys_for_session::v3::Request, NoBody>,
) -> Result<Json<Value>> {
    let [room_id, session_id] = path(call.path)?;
    delete(&api, &call.who, &call.query, KeyScope::Session(&room_id, &session_id)).await
}

async fn delete(api: &Api, who: &User, query: &str, scope: KeyScope<'_>) -> Result<Json<Value>> {
    Ok(answer(api.accounts.delete_backed_up_keys(&who.user_id, version_in(query)?, scope).await?))
}

fn answer(state: BackupState) -> Json<Value> {
    Json(json!({ "count": state.count, "etag": state.etag.to_string() }))
}

fn path<const N: usize>(path: Vec<String>) -> Result<[String; N]> {
    path.try_into().map_err(|_| Error::unrecognized())
}

/// `version` of the query string. Ours need no escaping, so whatever does is not one of ours.
fn version_in(query: &str) -> Result<u64> {
    let version = query.split('&').find_map(|pair| pair.strip_prefix("version="));
    parse_version(version.ok_or_else(|| Error::missing_param("In the query: version is missing"))?)
}
