//! User-interactive authentication on the wire: the `auth` key of requests, and the 401 that asks for more.
//!
//! [CS-API §user-interactive-api-in-the-rest-api]

use http::StatusCode;
use koine_account::{AuthData, Challenge, InteractError, Passed, Purpose, Secret, StageFailure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Api, Error, Result, User};

/// The `auth` key, taken as kindly as it can be.
///
/// COMPAT(matrix-js-sdk, Element Web): `auth: {}` for "tell me the flows".
/// COMPAT(sytest, older clients): `user` beside the password instead of an `identifier`.
#[derive(Debug, Default, Deserialize)]
pub struct Auth {
    #[serde(rename = "type")]
    stage: Option<String>,
    session: Option<String>,
    identifier: Option<Identifier>,
    user: Option<String>,
    password: Option<Secret>,
    token: Option<String>,
}

/// Whom a password is said to belong to. [CS-API §identifier-types]
#[derive(Debug, Deserialize)]
pub struct Identifier {
    /// The kind of identifier; only `m.id.user` leads to an account here.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A user id or local part.
    pub user: Option<String>,
}

impl From<Auth> for AuthData {
    fn from(auth: Auth) -> Self {
        let user = auth.identifier.and_then(|identifier| identifier.user).or(auth.user);
        Self { stage: auth.stage, session: auth.session, user, password: auth.password, token: auth.token }
    }
}

/// Asks the caller to prove that they are who their token says, for one purpose.
pub async fn prove_owner(api: &Api, who: &User, operation: &'static str, auth: Option<Auth>) -> Result<Passed> {
    prove(api, &Purpose::Owner { user_id: who.user_id.clone(), operation }, auth).await
}

/// The same, unless an application service acts as them: it has proven itself by its token. [AS-API §deleting-devices]
pub async fn prove_owner_or_service(
    api: &Api,
    who: &User,
    operation: &'static str,
    auth: Option<Auth>,
) -> Result<Option<Passed>> {
    match who.is_service {
        true => Ok(None),
        false => prove_owner(api, who, operation, auth).await.map(Some),
    }
}

/// Asks the caller to pass the stages for this purpose.
pub async fn prove(api: &Api, purpose: &Purpose, auth: Option<Auth>) -> Result<Passed> {
    api.accounts.interact(purpose, auth.map(Into::into)).await.map_err(refuse)
}

fn refuse(error: InteractError) -> Error {
    match error {
        InteractError::Challenge(challenge) => ask(&challenge),
        InteractError::OtherUser => Error::forbidden("This is the password of somebody else's account"),
        InteractError::RegistrationClosed => Error::forbidden("Registration is closed: an admin can make an account"),
        InteractError::LimitExceeded(error) => error.into(),
        InteractError::Busy(error) => error.into(),
        InteractError::Store(error) => error.into(),
    }
}

fn ask(challenge: &Challenge) -> Error {
    let names = |stages: &[koine_account::Stage]| stages.iter().map(|stage| stage.as_str()).collect::<Vec<_>>();
    let flows: Vec<Value> = challenge.flows.iter().map(|flow| json!({ "stages": names(flow) })).collect();
    let mut body = Map::new();
    body.insert("session".to_owned(), challenge.session.clone().into());
    body.insert("flows".to_owned(), flows.into());
    body.insert("params".to_owned(), json!({}));
    body.insert("completed".to_owned(), names(&challenge.completed).into());
    if let Some(failure) = challenge.failure {
        let errcode = match failure {
            StageFailure::WrongPassword => "M_FORBIDDEN",
            StageFailure::InvalidToken => "M_UNAUTHORIZED",
            StageFailure::UnknownStage => "M_UNRECOGNIZED",
            StageFailure::Incomplete => "M_MISSING_PARAM",
        };
        body.insert("errcode".to_owned(), errcode.into());
        body.insert("error".to_owned(), failure.to_string().into());
    }
    Error::with_body(StatusCode::UNAUTHORIZED, body)
}
