//! `/room_keys/version`: backups as a whole.
//!
//! [CS-API §post_matrixclientv3room_keysversion] [CS-API §get_matrixclientv3room_keysversion]
//! [CS-API §get_matrixclientv3room_keysversionversion] [CS-API §put_matrixclientv3room_keysversionversion]
//! [CS-API §delete_matrixclientv3room_keysversionversion]

use axum::extract::State;
use koine_account::Backup;
use ruma_client_api::backup::{
    create_backup_version, delete_backup_version, get_backup_info, get_latest_backup_info, update_backup_version,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{Api, Empty, Error, Json, Loose, Result, User};

#[derive(Debug, Deserialize)]
pub struct NewVersion {
    algorithm: String,
    auth_data: Box<RawValue>,
    /// If it is there, it is that of the path.
    version: Option<String>,
}

/// What is told of a backup.
#[derive(Debug, Serialize)]
pub struct Info {
    algorithm: String,
    auth_data: Box<RawValue>,
    count: u64,
    etag: String,
    version: String,
}

pub async fn create(
    State(api): State<Api>,
    call: Loose<create_backup_version::v3::Request, NewVersion>,
) -> Result<Json<Value>> {
    let auth_data = object(&call.body.auth_data, "auth_data")?;
    let version = api.accounts.create_backup(&call.who.user_id, call.body.algorithm, auth_data).await?;
    Ok(Json(json!({ "version": version.to_string() })))
}

pub async fn get_newest(
    State(api): State<Api>,
    call: Loose<get_latest_backup_info::v3::Request, NoBody>,
) -> Result<Json<Info>> {
    info(api.accounts.backup(&call.who.user_id, None)?)
}

pub async fn get(State(api): State<Api>, call: Loose<get_backup_info::v3::Request, NoBody>) -> Result<Json<Info>> {
    let version = named(&call.path)?;
    info(api.accounts.backup(&call.who.user_id, Some(version))?)
}

pub async fn update(
    State(api): State<Api>,
    call: Loose<update_backup_version::v3::Request, NewVersion>,
) -> Result<Empty> {
    if call.body.version.is_some() && call.body.version.as_ref() != call.path.first() {
        return Err(Error::invalid_param("The version of the body is not that of the path"));
    }
    let auth_data = object(&call.body.auth_data, "auth_data")?;
    let version = named(&call.path)?;
    api.accounts.update_backup(&call.who.user_id, version, call.body.algorithm, auth_data).await?;
    Ok(Empty)
}

pub async fn delete(State(api): State<Api>, call: Loose<delete_backup_version::v3::Request, NoBody>) -> Result<Empty> {
    let who: &User = &call.who;
    api.accounts.delete_backup(&who.user_id, named(&call.path)?).await?;
    Ok(Empty)
}

/// A body that says nothing.
#[derive(Debug, Deserialize)]
pub struct NoBody {}

/// The version that the path names; what is no number is no version of ours.
fn named(path: &[String]) -> Result<u64> {
    path.first().map_or_else(|| Err(Error::unrecognized()), |version| parse_version(version))
}

/// The version of this name.
pub(super) fn parse_version(version: &str) -> Result<u64> {
    version.parse().map_err(|_| Error::not_found("There is no such version of the backup"))
}

/// JSON that is an object, as text.
pub(super) fn object(json: &RawValue, name: &str) -> Result<String> {
    match json.get().starts_with('{') {
        true => Ok(json.get().to_owned()),
        false => Err(Error::bad_json(format!("{name} is an object"))),
    }
}

fn info(backup: Option<Backup>) -> Result<Json<Info>> {
    let backup = backup.ok_or_else(|| Error::not_found("There is no such backup"))?;
    Ok(Json(Info {
        algorithm: backup.algorithm,
        auth_data: RawValue::from_string(backup.auth_data).map_err(Error::internal)?,
        count: backup.state.count,
        etag: backup.state.etag.to_string(),
        version: backup.version.to_string(),
    }))
}
