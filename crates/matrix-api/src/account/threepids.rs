//! `…/account/3pid` and the requests for tokens: e-mail addresses and telephone numbers of accounts.
//!
//! [CS-API §adding-account-administrative-contact-information] Accounts have none here and no identity server is trusted, so
//! there is nothing to validate, to add or to bind; what that means for each request the specification says. To take away
//! what is not there is done.

use axum::extract::State;
use http::StatusCode;
use ruma_client_api::account as ruma;
use ruma_common::{
    api::{IncomingRequest, Metadata, auth_scheme::AccessToken},
    metadata,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use crate::{
    Api, Call, Endpoints, Error, Json, Loose, Proof, Result,
    interactive::{self, Auth},
};

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    type ByEmail = ruma::request_3pid_management_token_via_email::v3::Request;
    type ByTelephone = ruma::request_3pid_management_token_via_msisdn::v3::Request;
    type RegisterByEmail = ruma::request_registration_token_via_email::v3::Request;
    type RegisterByTelephone = ruma::request_registration_token_via_msisdn::v3::Request;
    type PasswordByEmail = ruma::request_password_change_token_via_email::v3::Request;
    type PasswordByTelephone = ruma::request_password_change_token_via_msisdn::v3::Request;

    endpoints.add::<ruma::get_3pids::v3::Request, _, _>("matrix.account.get_threepids", list);
    endpoints.add::<AddDeprecated, _, _>("matrix.account.add_threepid", add_from_identity_server);
    endpoints.add::<ruma::add_3pid::v3::Request, _, _>("matrix.account.add_threepid", add);
    endpoints.add::<ruma::bind_3pid::v3::Request, _, _>("matrix.account.bind_threepid", bind);
    endpoints.add::<ruma::delete_3pid::v3::Request, _, _>(
        "matrix.account.delete_threepid",
        remove::<ruma::delete_3pid::v3::Request>,
    );
    endpoints.add::<ruma::unbind_3pid::v3::Request, _, _>(
        "matrix.account.unbind_threepid",
        remove::<ruma::unbind_3pid::v3::Request>,
    );
    endpoints.add::<ByEmail, _, _>("matrix.account.request_threepid_token", deny::<ByEmail>);
    endpoints.add::<ByTelephone, _, _>("matrix.account.request_threepid_token", deny::<ByTelephone>);
    endpoints.add::<RegisterByEmail, _, _>("matrix.account.request_registration_token", deny::<RegisterByEmail>);
    endpoints
        .add::<RegisterByTelephone, _, _>("matrix.account.request_registration_token", deny::<RegisterByTelephone>);
    endpoints.add::<PasswordByEmail, _, _>("matrix.account.request_password_token", nobody::<PasswordByEmail>);
    endpoints.add::<PasswordByTelephone, _, _>("matrix.account.request_password_token", nobody::<PasswordByTelephone>);
}

/// `POST /account/3pid`, which ruma has no type for any more.
pub struct AddDeprecated;

metadata! {
    @for AddDeprecated,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/account/3pid",
        1.1 => "/_matrix/client/v3/account/3pid",
    }
}

/// [CS-API §get_matrixclientv3account3pid]
async fn list(_call: Call<ruma::get_3pids::v3::Request>) -> Json<Value> {
    Json(json!({ "threepids": [] }))
}

#[derive(Debug, Deserialize)]
struct Credentials {
    #[serde(rename = "three_pid_creds")]
    _credentials: IdentityServer,
}

#[derive(Debug, Deserialize)]
struct IdentityServer {
    #[serde(rename = "id_server")]
    _name: String,
    #[serde(rename = "sid")]
    _session: String,
    #[serde(rename = "client_secret")]
    _secret: String,
}

/// [CS-API §post_matrixclientv3account3pid]
async fn add_from_identity_server(_call: Loose<AddDeprecated, Credentials>) -> Result<Json<Value>> {
    let message = "This server trusts no identity server, so none can vouch for an address";
    Err(Error::new(StatusCode::FORBIDDEN, "M_THREEPID_AUTH_FAILED", message))
}

#[derive(Debug, Deserialize)]
struct Session {
    auth: Option<Auth>,
    #[serde(rename = "sid")]
    _session: String,
    #[serde(rename = "client_secret")]
    _secret: String,
}

/// [CS-API §post_matrixclientv3account3pidadd]
async fn add(State(api): State<Api>, call: Loose<ruma::add_3pid::v3::Request, Session>) -> Result<Json<Value>> {
    interactive::prove_owner(&api, &call.who, "add_threepid", call.body.auth).await?;
    let message = "No address was validated in this session";
    Err(Error::new(StatusCode::BAD_REQUEST, "M_THREEPID_AUTH_FAILED", message))
}

/// [CS-API §post_matrixclientv3account3pidbind]
async fn bind(_call: Loose<ruma::bind_3pid::v3::Request, IdentityServer>) -> Result<Json<Value>> {
    Err(Error::new(StatusCode::BAD_REQUEST, "M_SERVER_NOT_TRUSTED", "This server trusts no identity server"))
}

#[derive(Debug, Deserialize)]
pub struct Address {
    #[serde(rename = "medium")]
    _medium: String,
    #[serde(rename = "address")]
    _address: String,
    #[serde(default, rename = "id_server")]
    _id_server: IgnoredAny,
}

/// [CS-API §post_matrixclientv3account3piddelete] [CS-API §post_matrixclientv3account3pidunbind] Whether an identity server
/// knows the address is not known here.
async fn remove<M: Metadata<Authentication: Proof>>(_call: Loose<M, Address>) -> Json<Value> {
    Json(json!({ "id_server_unbind_result": "no-support" }))
}

/// [CS-API §post_matrixclientv3account3pidemailrequesttoken] [CS-API §post_matrixclientv3account3pidmsisdnrequesttoken]
/// [CS-API §post_matrixclientv3registeremailrequesttoken] [CS-API §post_matrixclientv3registermsisdnrequesttoken]
async fn deny<M>(_call: Call<M>) -> Result<Json<Value>>
where
    M: IncomingRequest + Metadata<Authentication: Proof> + Send,
{
    let message = "This server takes neither e-mail addresses nor telephone numbers";
    Err(Error::new(StatusCode::FORBIDDEN, "M_THREEPID_DENIED", message))
}

/// [CS-API §post_matrixclientv3accountpasswordemailrequesttoken]
/// [CS-API §post_matrixclientv3accountpasswordmsisdnrequesttoken]
async fn nobody<M>(_call: Call<M>) -> Result<Json<Value>>
where
    M: IncomingRequest + Metadata<Authentication: Proof> + Send,
{
    Err(Error::new(StatusCode::BAD_REQUEST, "M_THREEPID_NOT_FOUND", "No account has this address"))
}
