//! XEP-0077: In-Band Registration, for those who have an account: another password, or no account any more. Making one is
//! of the stream.
//!
//! Whoever logged in with the password does either at once, as all clients do it. Whoever came in by a token or a certificate
//! says the password first, in a form.

use std::sync::Arc;

use koine_account::{ChangeError, Class, LimitKey, LoginError, Secret};
use koine_stanza::{
    Condition, Element, ErrorType, StanzaError, StreamCondition, StreamError,
    form::{Field, Form},
};
use ruma_common::{OwnedUserId, UserId};

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    session::Session,
};

/// The protocol.
const REGISTER: &str = "jabber:iq:register";
/// `FORM_TYPE` of changing the password. [XEP-0077 §registrar-formtypes]
const CHANGE: &str = "jabber:iq:register:changepassword";
/// `FORM_TYPE` of closing the account.
const CANCEL: &str = "jabber:iq:register:cancel";

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

/// Whether whoever has this session has shown that they know the password. A token or a certificate is what a program holds: it
/// does not make its finder the owner of the account. [XEP-0257 §sec]
fn has_proven(session: &Session) -> bool {
    session.state().by_password
}

/// What is asked for where it is not proven: the form beside the error. [XEP-0077 §usecases-changepw] [XEP-0077 §usecases-cancel]
fn asks(kind: &str, old: &str, new: Option<&str>) -> StanzaError {
    let needed = |var: &str, kind: &str, label: &str| Field { required: true, ..Field::new(var, kind, label) };
    let mut form = Form::new("form", kind).with(needed("username", "text-single", "Name")).with(needed(
        old,
        "text-private",
        "The password as it is",
    ));
    if let Some(new) = new {
        form = form.with(needed(new, "text-private", "The new password"));
    }
    form.instructions = Some("Show that the account is yours: say its password.".into());
    StanzaError::new(Condition::NotAuthorized, "say the password of the account in this form first")
        .with_type(ErrorType::Modify)
        .with_payload(Element::new("query", REGISTER).with_child(form.element()))
}

/// Whether this is the password of the account. Guesses count as those at the login do.
async fn is_password(core: &Core, user: &UserId, password: &str) -> Result<bool, StanzaError> {
    match core.accounts().log_in(user.as_str(), Secret::from(password)).await {
        Ok(found) => Ok(found == *user),
        Err(LoginError::WrongPassword | LoginError::UserDeactivated) => Ok(false),
        Err(LoginError::Busy(_)) => Err(Condition::ResourceConstraint.into()),
        Err(LoginError::Store(error)) => {
            tracing::error!(user_id = %user, reason = %error, "a password could not be looked at");
            Err(Condition::InternalServerError.into())
        }
    }
}

/// What somebody wants of their account.
enum Wish {
    Password { new: String },
    Cancel,
}

async fn set(core: Arc<Core>, request: Request) -> Answer {
    let session = request.session.clone().ok_or_else(forbidden)?;
    if request.account.is_some() && !request.is_own() {
        return Err(forbidden());
    }
    // Before anything is hashed: there are few places for that, and everybody who logs in needs one.
    if core.accounts().permit(Class::Login, LimitKey::User(session.user())).is_err() {
        return Err(StanzaError::new(Condition::ResourceConstraint, "too many attempts: try again later"));
    }
    let form = Form::within(&request.payload).filter(|form| form.kind == "submit");
    let (wish, old) = match &form {
        Some(form) => of_form(form, &session)?,
        None => (of_fields(&request.payload, &session)?, None),
    };
    let is_theirs = match old {
        Some(old) => is_password(&core, session.user(), &old).await?,
        None => has_proven(&session),
    };
    if !is_theirs {
        return Err(match wish {
            Wish::Cancel => asks(CANCEL, "password", None),
            Wish::Password { .. } => asks(CHANGE, "old_password", Some("password")),
        });
    }
    match wish {
        Wish::Cancel => cancel(core, session.user().clone()),
        Wish::Password { new } => change(&core, &session, new).await?,
    }
    Ok(None)
}

/// Whether this is how somebody is called: by the name, or the whole address.
fn is_name(session: &Session, name: &str) -> bool {
    session.jid().node().is_some_and(|node| node == name) || session.jid().to_bare().as_str() == name
}

fn not_theirs() -> StanzaError {
    StanzaError::new(Condition::NotAllowed, "this is not your name, and a name does not change")
}

fn of_fields(query: &Element, session: &Session) -> Result<Wish, StanzaError> {
    let text = |name: &str| query.child_text(name, REGISTER);
    if query.has_child("remove", REGISTER) {
        // [XEP-0077 §usecases-cancel] Nothing else is said with it.
        return match query.children().count() {
            1 => Ok(Wish::Cancel),
            _ => Err(StanzaError::new(Condition::BadRequest, "whoever removes an account says nothing else")),
        };
    }
    let (Some(name), Some(new)) = (text("username"), text("password")) else {
        return Err(StanzaError::new(Condition::BadRequest, "say your name and the new password"));
    };
    if is_name(session, &name) { Ok(Wish::Password { new }) } else { Err(not_theirs()) }
}

/// The wish, and the password as it is until now.
fn of_form(form: &Form, session: &Session) -> Result<(Wish, Option<String>), StanzaError> {
    let bad = || StanzaError::new(Condition::BadRequest, "this is no form that is understood here");
    let value = |var: &str| form.value(var).map(ToOwned::to_owned);
    let (wish, old) = match form.form_type.as_deref() {
        Some(CANCEL) => (Wish::Cancel, value("password")),
        Some(CHANGE) => (Wish::Password { new: value("password").ok_or_else(bad)? }, value("old_password")),
        _ => return Err(bad()),
    };
    match form.value("username") {
        Some(name) if !is_name(session, name) => Err(not_theirs()),
        _ => Ok((wish, Some(old.unwrap_or_default()))),
    }
}

/// [XEP-0077 §usecases-cancel] Beside the answer, which nobody is there for any more when this is done.
fn cancel(core: Arc<Core>, user: OwnedUserId) {
    tokio::spawn(async move {
        if let Err(error) = core.accounts().deactivate(&user, true).await {
            tracing::error!(user_id = %user, reason = %error, "an account could not be closed");
        }
        if let Err(error) = core.rooms().leave_all(&user).await {
            tracing::warn!(user_id = %user, reason = %error, "a closed account is still in rooms");
        }
    });
}

/// Changes the password. Whoever came in by the old one, or by a token that it got them, has to come again.
/// [CS-API §post_matrixclientv3accountpassword]
async fn change(core: &Arc<Core>, session: &Session, new: String) -> Result<(), StanzaError> {
    let (accounts, user) = (core.accounts(), session.user());
    accounts.set_password(user, Secret::from(new)).await.map_err(|error| refused(&error))?;
    let unavailable = |error: koine_account::StoreUnavailable| {
        tracing::error!(user_id = %user, reason = %error, "sessions go on that came in by the old password");
        StanzaError::from(Condition::InternalServerError)
    };
    accounts.delete_devices_except(user, Some(session.device())).await.map_err(unavailable)?;
    accounts.drop_stream_tokens(user, session.device(), None).await.map_err(unavailable)?;
    // Those that share the device, too.
    for other in core.sessions.of(&session.jid().to_bare()).iter().filter(|other| other.jid() != session.jid()) {
        other.end(StreamError::new(StreamCondition::NotAuthorized, "the password was changed"));
    }
    // It knows the new one.
    session.state().by_password = true;
    Ok(())
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

#[cfg(test)]
mod tests {
    use koine_account::{LimitConfig, Rate};
    use koine_stanza::ns;

    use super::*;
    use crate::{
        XmppConfig,
        testing::{World, condition},
    };

    fn change(fields: &str) -> String {
        format!("<iq type='set' id='c' to='example.org'><query xmlns='{REGISTER}'>{fields}</query></iq>")
    }

    fn form(kind: &str, fields: &[(&str, &str)]) -> String {
        let fields = fields.iter().map(|(var, value)| format!("<field var='{var}'><value>{value}</value></field>"));
        let kind = format!("<field var='FORM_TYPE' type='hidden'><value>{kind}</value></field>");
        change(&format!("<x xmlns='{}' type='submit'>{kind}{}</x>", ns::DATA_FORMS, fields.collect::<String>()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_came_without_the_password_says_it_before_the_account_is_theirs() {
        let world = World::new();
        let (mut alice, mut other) = (world.connect("alice", "a").await, world.connect("alice", "b").await);
        let (accounts, user) = (world.core().accounts(), alice.session.user().clone());
        alice.session.state().by_password = false;
        let fields = "<username>alice</username><password>another secret</password>";
        for (wish, kind, field) in [(change(fields), CHANGE, "old_password"), (change("<remove/>"), CANCEL, "password")]
        {
            let answer = alice.ask(&wish).await;
            assert_eq!(condition(&answer).as_deref(), Some("not-authorized"));
            let asked = answer.child("query", REGISTER).and_then(Form::within).expect("a form beside the error");
            assert_eq!(asked.form_type.as_deref(), Some(kind));
            assert!(asked.field(field).is_some_and(|field| field.kind == "text-private"));
        }
        let guess = [("username", "alice@example.org"), ("old_password", "guess"), ("password", "another secret")];
        assert_eq!(condition(&alice.ask(&form(CHANGE, &guess)).await).as_deref(), Some("not-authorized"));
        assert_eq!(
            condition(&alice.ask(&form(CANCEL, &[("password", "guess")])).await).as_deref(),
            Some("not-authorized")
        );
        assert!(accounts.is_active(&user).expect("read"));
        assert_eq!(accounts.log_in("alice", "secret secret".into()).await.expect("the password is what it was"), user);
        // Nor are other devices logged out.
        let revoke = "<iq type='set' id='r'><revoke xmlns='urn:xmpp:cam:0' id='b'/></iq>";
        assert_eq!(condition(&alice.ask(revoke).await).as_deref(), Some("not-authorized"));

        let known = [("username", "alice"), ("old_password", "secret secret"), ("password", "another secret")];
        assert_eq!(alice.ask(&form(CHANGE, &known)).await.kind(), Some("result"));
        assert_eq!(accounts.log_in("alice", "another secret".into()).await.expect("it was changed"), user);
        // Whoever came by the old password is out; whoever changed it stays.
        let devices: Vec<_> =
            accounts.devices(&user).expect("read").iter().map(|device| device.device_id.to_string()).collect();
        assert_eq!(devices, ["a"]);
        let ended = tokio::spawn(async move { other.next().await }).await;
        assert!(ended.is_err_and(|error| error.is_panic()), "the session has ended");
        assert_eq!(alice.ask(&change(&fields.replace("another", "a third"))).await.kind(), Some("result"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn passwords_are_not_changed_faster_than_people_may_log_in() {
        let limits = LimitConfig { login: Some(Rate { burst: 2, per_second: 0.001 }), ..LimitConfig::unlimited() };
        let world = World::limited("example.org", XmppConfig::default(), limits);
        let mut alice = world.connect("alice", "a").await;
        let wish = change("<username>alice</username><password>another secret</password>");
        for expected in [None, None, Some("resource-constraint")] {
            assert_eq!(condition(&alice.ask(&wish).await).as_deref(), expected);
        }
    }
}
