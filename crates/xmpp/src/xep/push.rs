//! XEP-0357: Push Notifications: services that wake the devices of an account.
//!
//! A service is told that there is something and how much, not from whom nor what: what goes through the hands of makers of
//! telephones says no more than it must. [XEP-0357 §security] A service that refuses is asked no more.

use std::sync::Arc;

use koine_account::Drawer;
use koine_stanza::{
    Condition, Element, ErrorType, Jid, StanzaError,
    form::{Field, Form},
    ns,
};
use quick_cache::sync::Cache;
use ruma_common::{OwnedUserId, UserId};

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const PUSH: &str = "urn:xmpp:push:0";
/// What a notification says. [XEP-0357 §publishing]
const SUMMARY: &str = "urn:xmpp:push:summary";

/// What the options of a registration mean. [XEP-0357 §enabling]
const OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";
/// Requests to services whose answers are awaited; of those beyond, a refusal changes nothing.
const AWAITED_MAX: usize = 10_000;
/// Accounts of which it is counted what they have not seen.
const COUNTED_MAX: usize = 50_000;

/// What is remembered of requests to services.
pub(crate) struct Pushes {
    /// By the id of a request: whose it is, and which registration.
    awaited: Cache<String, (OwnedUserId, String)>,
    /// Messages that came since somebody looked.
    unseen: Cache<OwnedUserId, u64>,
}

impl Default for Pushes {
    fn default() -> Self {
        Self { awaited: Cache::new(AWAITED_MAX), unseen: Cache::new(COUNTED_MAX) }
    }
}

/// Asked of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Account, PUSH)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "enable",
            ns: PUSH,
            run: |core, request| Box::pin(enable(core, request)),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "disable",
            ns: PUSH,
            run: |core, request| Box::pin(disable(core, request)),
        },
    ],
};

fn service(request: &Request) -> Result<Jid, StanzaError> {
    let jid =
        request.payload.attr("jid").ok_or_else(|| StanzaError::new(Condition::BadRequest, "`jid` is the service"))?;
    Jid::new(jid).map_err(|_| StanzaError::new(Condition::JidMalformed, "`jid` is no address"))
}

/// The name of a registration: service and node.
fn name(service: &Jid, node: &str) -> String {
    format!("{service}\n{node}")
}

async fn enable(core: Arc<Core>, request: Request) -> Answer {
    let user = request.own_session()?.user().clone();
    let service = service(&request)?;
    let node = request.payload.attr("node").unwrap_or_default();
    let form = Form::within(&request.payload);
    if form.is_some_and(|form| form.form_type.as_deref() != Some(OPTIONS)) {
        return Err(StanzaError::new(Condition::BadRequest, "this form holds no options for publishing"));
    }
    let options = request.payload.child("x", ns::DATA_FORMS).map_or_else(String::new, Element::to_xml);
    keep(&core, &user, &name(&service, node), Some(options)).await?;
    Ok(None)
}

async fn disable(core: Arc<Core>, request: Request) -> Answer {
    let user = request.own_session()?.user().clone();
    let service = service(&request)?;
    let node = request.payload.attr("node");
    let known = core.accounts().drawer(&user, Drawer::Push).unwrap_or_default();
    let all_of_service = format!("{service}\n");
    for (registered, _) in known {
        let meant = match node {
            Some(node) => registered == name(&service, node),
            None => registered.starts_with(&all_of_service),
        };
        if meant {
            keep(&core, &user, &registered, None).await?;
        }
    }
    Ok(None)
}

async fn keep(core: &Core, user: &UserId, name: &str, options: Option<String>) -> Result<(), StanzaError> {
    core.accounts().keep(user, Drawer::Push, name, options).await.map_err(|error| {
        let condition = match error {
            koine_account::KeepError::TooMany | koine_account::KeepError::TooLarge(_) => Condition::ResourceConstraint,
            _ => Condition::InternalServerError,
        };
        StanzaError::new(condition, error.to_string())
    })
}

/// Somebody looks: nothing is unseen.
pub(crate) fn seen(core: &Core, user: &UserId) {
    core.pushes.unseen.remove(user);
}

/// A message came for an account: services that it named are told that there is something, not what.
/// [XEP-0357 §publishing]
pub(crate) async fn wake(core: &Arc<Core>, user: &UserId, message: &Element) {
    let said = message.has_child("body", ns::CLIENT) || koine_projection::message::encryption(message).is_some();
    if !said {
        return;
    }
    let Some(account) = core.jid_of(user) else { return };
    // Whoever looks at a session of theirs need not be woken.
    let looked_at = core.sessions.of(&account).iter().any(|session| {
        let is_attached = !session.is_resumable() || session.connection.try_lock().is_err();
        let state = session.state();
        state.presence.is_some() && !state.inactive && is_attached
    });
    if looked_at {
        return;
    }
    let registered = core.accounts().drawer(user, Drawer::Push).unwrap_or_default();
    if registered.is_empty() {
        return;
    }
    let count = core.pushes.unseen.get(user).unwrap_or(0).saturating_add(1);
    core.pushes.unseen.insert(user.to_owned(), count);
    let summary = Form::new("submit", SUMMARY)
        .with(Field { kind: String::new(), ..Field::text("message-count", "", &count.to_string()) });
    for (registered, options) in registered {
        let Some((service, node)) = registered.split_once('\n') else { continue };
        let options = super::pep::parse(&options);
        let notification = Element::new("notification", PUSH).with_child(summary.element());
        let item = Element::new("item", ns::PUBSUB).with_child(notification);
        let publish = Element::new("publish", ns::PUBSUB)
            .with_attr_opt("node", Some(node).filter(|node| !node.is_empty()))
            .with_child(item);
        let options = options.map(|form| Element::new("publish-options", ns::PUBSUB).with_child(form));
        let id = format!("p{:032x}", rand::random::<u128>());
        core.pushes.awaited.insert(id.clone(), (user.to_owned(), registered.clone()));
        let request = Element::new("iq", ns::CLIENT)
            .with_attr("from", account.to_string())
            .with_attr("to", service)
            .with_attr("id", id)
            .with_attr("type", "set")
            .with_child(Element::new("pubsub", ns::PUBSUB).with_child(publish).with_child_opt(options));
        Box::pin(core.route(request, None)).await;
    }
}

/// An answer of a service, if it is one to a request of ours: one that refuses is not asked again. [XEP-0357 §publishing]
pub(crate) async fn answered(core: &Arc<Core>, stanza: &Element, from: &Jid) -> bool {
    let Some((user, registered)) = stanza.id().and_then(|id| core.pushes.awaited.get(id)) else { return false };
    let is_theirs = registered.split_once('\n').is_some_and(|(service, _)| service == from.to_string());
    if !is_theirs {
        return false;
    }
    core.pushes.awaited.remove(stanza.id().unwrap_or_default());
    let error = stanza.child("error", ns::CLIENT).filter(|_| stanza.kind() == Some("error"));
    // Whoever has too much to do is asked again next time.
    if error.is_some_and(|error| error.kind() != Some(ErrorType::Wait.as_str())) {
        tracing::info!(user_id = %user, service = %from, "a push service refuses: it is asked no more");
        let _ = keep(core, &user, &registered, None).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_is_told_how_much_there_is_and_one_that_refuses_is_left_alone() {
        let world = World::new();
        let (mut alice, bob) = (world.connect("alice", "phone").await, world.connect("bob", "b").await);
        // A session that pretends to be a push service.
        let mut service = world.connect("service", "push").await;
        let enable = format!(
            "<iq type='set' id='e'><enable xmlns='{PUSH}' jid='service@example.org/push' node='n1'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{OPTIONS}</value></field><field var='secret'><value>s3</value></field></x></enable></iq>"
        );
        assert_eq!(alice.ask(&enable).await.kind(), Some("result"));
        let user = alice.session.user().clone();
        let say = "<message to='alice@example.org' type='chat' id='m'><body>wake up</body></message>";
        for count in ["1", "2"] {
            bob.send(say).await;
            let pushed = service.until(|stanza| stanza.name() == "iq").await;
            assert_eq!(pushed.attr("from"), Some("alice@example.org"));
            let pubsub = pushed.child("pubsub", ns::PUBSUB).expect("it is published");
            let publish = pubsub.child("publish", ns::PUBSUB).expect("to a node");
            assert_eq!(publish.attr("node"), Some("n1"));
            let options = pubsub.child("publish-options", ns::PUBSUB).and_then(Form::within).expect("as it was asked");
            assert_eq!(options.value("secret"), Some("s3"));
            let notification = publish.children().next().and_then(|item| item.child("notification", PUSH));
            let summary = notification.and_then(Form::within).expect("a summary");
            assert_eq!((summary.form_type.as_deref(), summary.value("message-count")), (Some(SUMMARY), Some(count)));
            assert!(!pushed.to_xml().contains("wake up") && !pushed.to_xml().contains("bob"), "nothing but that");
            let id = pushed.id().expect("an id");
            service.send(&format!("<iq type='result' id='{id}' to='alice@example.org'/>")).await;
            assert_eq!(world.core().accounts().drawer(&user, Drawer::Push).expect("read").len(), 1);
        }
        bob.send(say).await;
        let pushed = service.until(|stanza| stanza.name() == "iq").await;
        let refusal = format!(
            "<iq type='error' id='{}' to='alice@example.org'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
            pushed.id().expect("an id")
        );
        service.send(&refusal).await;
        assert!(world.core().accounts().drawer(&user, Drawer::Push).expect("read").is_empty());
    }
}
