//! Questions about the server and its accounts: software [XEP-0092], time [XEP-0202], last activity [XEP-0012].

use std::sync::Arc;

use koine_account::Drawer;
use koine_stanza::{Condition, Element, StanzaError};

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    time,
};

const VERSION: &str = "jabber:iq:version";
const TIME: &str = "urn:xmpp:time";
const LAST: &str = "jabber:iq:last";

/// Asked of the server; last activity also of accounts.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, VERSION), (At::Host, TIME), (At::Host, LAST), (At::Account, LAST)],
    handlers: &[
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Get],
            name: "query",
            ns: VERSION,
            run: |_, _| {
                Box::pin(async {
                    let version = Element::new("query", VERSION)
                        .with_child(Element::text_of("name", VERSION, "Koine"))
                        .with_child(Element::text_of("version", VERSION, env!("CARGO_PKG_VERSION")));
                    Ok(Some(version))
                })
            },
        },
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Get],
            name: "time",
            ns: TIME,
            run: |core, _| {
                Box::pin(async move {
                    let now = Element::new("time", TIME)
                        .with_child(Element::text_of("tzo", TIME, "+00:00"))
                        .with_child(Element::text_of("utc", TIME, time::format(core.now_ms())));
                    Ok(Some(now))
                })
            },
        },
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Get],
            name: "query",
            ns: LAST,
            run: |core, _| {
                Box::pin(async move {
                    let seconds = core.started.elapsed().as_secs();
                    Ok(Some(Element::new("query", LAST).with_attr("seconds", seconds.to_string())))
                })
            },
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "query",
            ns: LAST,
            run: |core, request| Box::pin(async move { last(&core, &request) }),
        },
    ],
};

/// [XEP-0012 §offline] For those who are told of the account's presence.
fn last(core: &Arc<Core>, request: &Request) -> Answer {
    let forbidden = || StanzaError::new(Condition::Forbidden, "this is for those who are told of their presence");
    let user = request.account.as_ref().filter(|user| core.is_account(user)).ok_or_else(forbidden)?;
    if !request.is_own() {
        let contact = core.accounts().contact(user, &request.from.to_bare().to_string()).ok().flatten();
        let blocked = core.person_of(&request.from.to_bare()).is_some_and(|asker| core.has_blocked(user, &asker));
        if blocked || !contact.is_some_and(|contact| contact.from) {
            return Err(forbidden());
        }
    }
    let there = core
        .jid_of(user)
        .is_some_and(|account| core.sessions.of(&account).iter().any(|session| session.priority().is_some()));
    if there {
        return Ok(Some(Element::new("query", LAST).with_attr("seconds", "0")));
    }
    let seen = core.accounts().kept(user, Drawer::LastSeen, "").ok().flatten();
    let seen = seen.as_deref().and_then(|seen| seen.split_once(' '));
    let Some((at, status)) = seen.and_then(|(at, status)| Some((at.parse::<u64>().ok()?, status))) else {
        return Err(StanzaError::new(Condition::ItemNotFound, "they were never here"));
    };
    let seconds = core.now_ms().saturating_sub(at) / 1_000;
    Ok(Some(Element::new("query", LAST).with_attr("seconds", seconds.to_string()).with_text(status)))
}
