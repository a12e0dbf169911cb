//! XEP-0494: Client Access Management: the devices of the account, those of Matrix as well, and logging them out.

use std::sync::Arc;

use koine_stanza::{Condition, Element, StanzaError};
use ruma_common::OwnedDeviceId;

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    time,
};

/// The protocol.
const ACCESS: &str = "urn:xmpp:cam:0";

/// Asked of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Account, ACCESS)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "list",
            ns: ACCESS,
            run: |core, request| Box::pin(async move { list(&core, &request) }),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "revoke",
            ns: ACCESS,
            run: |core, request| Box::pin(revoke(core, request)),
        },
    ],
};

fn unreadable(error: &koine_account::StoreUnavailable) -> StanzaError {
    tracing::error!(reason = %error, "devices could not be read or changed");
    StanzaError::new(Condition::InternalServerError, "the list could not be read or changed: try again later")
}

/// [XEP-0494 §listing-clients]
fn list(core: &Core, request: &Request) -> Answer {
    let session = request.own_session()?;
    let user = session.user();
    let sessions = core.sessions.of(&session.jid().to_bare());
    let devices = core.accounts().devices(user).map_err(|error| unreadable(&error))?;
    let mut clients = Element::new("clients", ACCESS);
    for device in devices {
        let of_xmpp = sessions.iter().any(|session| *session.device() == device.device_id);
        let tokens = core.accounts().stream_tokens(user, &device.device_id).map_err(|error| unreadable(&error))?;
        let mut auth = Element::new("auth", ACCESS);
        match tokens.is_empty() {
            true if of_xmpp => auth.push(Element::new("password", ACCESS)),
            true => auth.push(Element::new("grant", ACCESS)),
            false => auth.push(Element::new("fast", ACCESS)),
        }
        let mut client = Element::new("client", ACCESS)
            .with_attr("id", device.device_id.as_str())
            .with_attr("connected", of_xmpp.to_string())
            .with_attr("type", if of_xmpp || !tokens.is_empty() { "session" } else { "access" });
        client.push(Element::text_of("last-seen", ACCESS, time::format(device.last_seen.get().into())));
        client.push(auth);
        client.push(Element::new("permission", ACCESS).with_attr("status", "unrestricted"));
        if let Some(name) = device.display_name {
            let agent = Element::new("user-agent", ACCESS).with_child(Element::text_of("device", ACCESS, name));
            client.push(agent);
        }
        clients.push(client);
    }
    Ok(Some(clients))
}

/// A device is logged out: its sessions end, and its tokens are worth nothing. [XEP-0494 §revoking-access]
async fn revoke(core: Arc<Core>, request: Request) -> Answer {
    let session = request.own_session()?;
    let user = session.user().clone();
    let id = request.payload.id().filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| StanzaError::new(Condition::BadRequest, "say which client, by its `id`"))?;
    let id = OwnedDeviceId::from(id);
    // As in Matrix: others are logged out by who shows the password, so that a stolen token does not lock its owner out.
    if *session.device() != id && !session.state().by_password {
        return Err(StanzaError::new(Condition::NotAuthorized, "log in with the password to log out other clients"));
    }
    let known = core.accounts().device(&user, &id).map_err(|error| unreadable(&error))?;
    if known.is_none() {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such client"));
    }
    let here = core.jid_of(&user).map(|jid| core.sessions.of(&jid)).unwrap_or_default();
    let tokens = core.accounts().stream_tokens(&user, &id).map_err(|error| unreadable(&error))?;
    if tokens.is_empty() && here.iter().any(|session| *session.device() == id) {
        // It knows the password, and would be back at once.
        let text = "this client logged in with the password: change that instead";
        let application = Element::new("password-reset-required", ACCESS);
        return Err(StanzaError::new(Condition::ServiceUnavailable, text).with_application(application));
    }
    core.accounts().delete_devices(&user, vec![id]).await.map_err(|error| unreadable(&error))?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, condition};

    #[tokio::test(flavor = "multi_thread")]
    async fn devices_are_listed_and_logged_out() {
        let world = World::new();
        let mut desk = world.connect("alice", "desk").await;
        let (user, phone) = (desk.session.user().clone(), OwnedDeviceId::from("PHONE"));
        let accounts = world.core().accounts();
        accounts.put_device(&user, &phone, Some("Element".into())).await.expect("a device of Matrix");
        let all = desk.ask("<iq type='get' id='l'><list xmlns='urn:xmpp:cam:0'/></iq>").await;
        let clients: Vec<_> = all.child("clients", ACCESS).expect("a list").children().collect();
        let told: Vec<_> = clients.iter().map(|client| (client.id(), client.attr("connected"))).collect();
        assert_eq!(told, [(Some("PHONE"), Some("false")), (Some("desk"), Some("true"))]);
        let revoke = "<iq type='set' id='r'><revoke xmlns='urn:xmpp:cam:0' id='PHONE'/></iq>";
        assert_eq!(desk.ask(revoke).await.kind(), Some("result"));
        assert_eq!(condition(&desk.ask(revoke).await).as_deref(), Some("item-not-found"));
        assert!(accounts.device(&user, &phone).expect("read").is_none());
        let itself = desk.ask("<iq type='set' id='s'><revoke xmlns='urn:xmpp:cam:0' id='desk'/></iq>").await;
        let error = itself.child("error", koine_stanza::ns::CLIENT).expect("it knows the password");
        assert!(error.has_child("password-reset-required", ACCESS));
    }
}
