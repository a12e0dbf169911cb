//! XEP-0357: Push Notifications: services that wake the devices of an account.

use std::sync::Arc;

use koine_account::Drawer;
use koine_stanza::{Condition, Element, Jid, StanzaError, form::Form, ns};
use ruma_common::UserId;

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const PUSH: &str = "urn:xmpp:push:0";
/// What a notification says. [XEP-0357 §publishing]
const SUMMARY: &str = "urn:xmpp:push:summary";

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

/// A message came for an account: services that it named are told that there is something, not what.
pub(crate) async fn wake(core: &Arc<Core>, user: &UserId, message: &Element) {
    let said = message.has_child("body", ns::CLIENT) || koine_projection::message::encryption(message).is_some();
    if !said {
        return;
    }
    let Some(account) = core.jid_of(user) else { return };
    // Whoever looks at a session of theirs need not be woken.
    let looked_at = core.sessions.of(&account).iter().any(|session| {
        let state = session.state();
        state.presence.is_some() && !state.inactive && !session.is_resumable()
    });
    if looked_at {
        return;
    }
    for (registered, options) in core.accounts().drawer(user, Drawer::Push).unwrap_or_default() {
        let Some((service, node)) = registered.split_once('\n') else { continue };
        let options =
            koine_stanza::reader::document(options.as_bytes(), koine_stanza::reader::Limits::bytes(65_536)).ok();
        let summary = Form::new("form", SUMMARY).element();
        let item = Element::new("item", ns::PUBSUB).with_child(Element::new("notification", PUSH).with_child(summary));
        let publish = Element::new("publish", ns::PUBSUB).with_attr("node", node).with_child(item);
        let options = options.map(|form| Element::new("publish-options", ns::PUBSUB).with_child(form));
        let request = Element::new("iq", ns::CLIENT)
            .with_attr("from", account.to_string())
            .with_attr("to", service)
            .with_attr("id", format!("p{:x}", rand::random::<u64>()))
            .with_attr("type", "set")
            .with_child(Element::new("pubsub", ns::PUBSUB).with_child(publish).with_child_opt(options));
        Box::pin(core.route(request, None)).await;
    }
}
