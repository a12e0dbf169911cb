//! `GET /.well-known/matrix/support`: whom to turn to.
//!
//! [CS-API §getwell-knownmatrixsupport]

use axum::extract::State;
use ruma_client_api::discovery::discover_support::Request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Api, Call, Error, Json, Result};

/// Whom people turn to about this server, told at `/.well-known/matrix/support`. Default: nobody, and that address
/// answers 404.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SupportConfig {
    /// Admins, each as a user id ("@admin:example.org") or an e-mail address. Default: none. Needs a restart.
    pub admins: Vec<String>,

    /// Whom to tell of holes in security, in the same forms. Default: none. Needs a restart.
    pub security: Vec<String>,

    /// Address of a page with help. Default: none. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "https://example.org/help")]
    pub page: Option<String>,
}

impl SupportConfig {
    fn contacts(&self) -> Vec<Value> {
        let admins = self.admins.iter().map(|contact| ("m.role.admin", contact));
        let security = self.security.iter().map(|contact| ("m.role.security", contact));
        let contact = |(role, contact): (&str, &String)| {
            let key = if contact.starts_with('@') { "matrix_id" } else { "email_address" };
            json!({ "role": role, key: contact })
        };
        admins.chain(security).map(contact).collect()
    }
}

pub async fn get_support(State(api): State<Api>, _call: Call<Request>) -> Result<Json<Value>> {
    let config = &api.config.support;
    let contacts = config.contacts();
    let mut answer = Map::new();
    if !contacts.is_empty() {
        answer.insert("contacts".to_owned(), contacts.into());
    }
    if let Some(page) = &config.page {
        answer.insert("support_page".to_owned(), page.as_str().into());
    }
    // One of both is needed for an answer.
    if answer.is_empty() { Err(Error::not_found("Nobody is named here")) } else { Ok(Json(answer.into())) }
}
