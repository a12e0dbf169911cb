//! `GET /.well-known/matrix/server`: where this server is reached, if not under its name.
//! [SS-API §getwell-knownmatrixserver]

use axum::extract::State;
use serde_json::json;

use crate::{
    Error, Federation,
    answer::{Raw, Result},
};

/// The setting as other servers read it.
pub async fn well_known(State(federation): State<Federation>) -> Result<Raw> {
    let name = federation.config().reached_at.as_ref();
    let name = name.ok_or_else(|| Error::not_found("This server is reached under its name"))?;
    Ok(Raw::of(&json!({ "m.server": name })))
}
