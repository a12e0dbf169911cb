//! XEP-0077: In-Band Registration, for those who have an account: another password, or no account any more. Making one is
//! of the stream.

use std::sync::Arc;

use koine_account::{ChangeError, Secret};
use koine_stanza::{Condition, Element, StanzaError};

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const REGISTER: &str = "jabber:iq:register";

/// Asked of the server, or of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, REGISTER)],
    handlers: &[
        Handler {
            at: &[At::Host, At::Account],
            verbs: &[Verb::Get],
            name: "query",
            ns: REGISTER,
            run: |_, request| Box::pin(async move { get(&request) }),
        },
        Handler {
            at: &[At::Host, At::Account],
            verbs: &[Verb::Set],
            name: "query",
            ns: REGISTER,
            run: |core, request| Box::pin(set(core, request)),
        },
    ],
};

/// [XEP-0077 §usecases-register]
fn get(request: &Request) -> Answer {
    let session = request.session.as_ref().ok_or_else(forbidden)?;
    let name = session.jid().node().map(ToString::to_string).unwrap_or_default();
    let query = Element::new("query", REGISTER)
        .with_child(Element::new("registered", REGISTER))
        .with_child(Element::text_of("username", REGISTER, name))
        .with_child(Element::new("password", REGISTER));
    Ok(Some(query))
}

fn forbidden() -> StanzaError {
    StanzaError::new(Condition::Forbidden, "this is for accounts of this server, each for itself")
}

async fn set(core: Arc<Core>, request: Request) -> Answer {
    let session = request.session.clone().ok_or_else(forbidden)?;
    if request.account.is_some() && !request.is_own() {
        return Err(forbidden());
    }
    // [XEP-0257 §sec] What a program holds does not make its finder the owner of the account.
    if session.state().came_by.is_some() {
        return Err(StanzaError::new(Condition::NotAuthorized, "who came in by a certificate does not do this"));
    }
    let user = session.user().clone();
    let text = |name: &str| request.payload.child_text(name, REGISTER);
    if request.payload.has_child("remove", REGISTER) {
        // [XEP-0077 §usecases-cancel] Nothing else is said with it.
        if request.payload.children().count() != 1 {
            return Err(StanzaError::new(Condition::BadRequest, "whoever removes an account says nothing else"));
        }
        // Beside the answer, which nobody is there for any more when this is done.
        tokio::spawn(async move {
            if let Err(error) = core.accounts().deactivate(&user, true).await {
                tracing::error!(user_id = %user, reason = %error, "an account could not be closed");
            }
            if let Err(error) = core.rooms().leave_all(&user).await {
                tracing::warn!(user_id = %user, reason = %error, "a closed account is still in rooms");
            }
        });
        return Ok(None);
    }
    let (Some(name), Some(password)) = (text("username"), text("password")) else {
        return Err(StanzaError::new(Condition::BadRequest, "say your name and the new password"));
    };
    if session.jid().node().is_none_or(|node| node != name) {
        return Err(StanzaError::new(Condition::NotAllowed, "this is not your name, and a name does not change"));
    }
    core.accounts().set_password(&user, Secret::from(password)).await.map_err(|error| refused(&error))?;
    Ok(None)
}

fn refused(error: &ChangeError) -> StanzaError {
    let condition = match error {
        ChangeError::UnknownUser | ChangeError::UserDeactivated => Condition::RegistrationRequired,
        ChangeError::Password(_) => Condition::NotAcceptable,
        ChangeError::Busy(_) => Condition::ResourceConstraint,
        _ => Condition::InternalServerError,
    };
    StanzaError::new(condition, error.to_string())
}
