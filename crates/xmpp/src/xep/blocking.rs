//! XEP-0191: Blocking Command, with reports to the operator (XEP-0377). The list is the one of people whom the account ignores in
//! Matrix; whole servers, and single sessions, which Matrix cannot ignore, are in a drawer of the account.

use std::{collections::HashSet, sync::Arc};

use koine_account::Drawer;
use koine_room::Reported;
use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use crate::{
    core::Core,
    im,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const BLOCKING: &str = "urn:xmpp:blocking";
/// Reports. [XEP-0377]
const REPORTING: &str = "urn:xmpp:reporting:1";
/// Most reports that one request makes.
const REPORTS_MAX: usize = 10;
/// Longest id of a message in a report.
const REPORTED_ID_BYTES_MAX: usize = 1_023;
/// The account data that is the list. [CS-API §mignored_user_list]
const LIST: &str = "m.ignored_user_list";
/// Most addresses on the list.
const BLOCKED_MAX: usize = 10_000;

/// Asked of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, BLOCKING), (At::Account, BLOCKING), (At::Host, REPORTING)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "blocklist",
            ns: BLOCKING,
            run: |core, request| Box::pin(async move { list(&core, &request) }),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "block",
            ns: BLOCKING,
            run: |core, request| Box::pin(change(core, request, true)),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "unblock",
            ns: BLOCKING,
            run: |core, request| Box::pin(change(core, request, false)),
        },
    ],
};

fn item(address: &str) -> Element {
    Element::new("item", BLOCKING).with_attr("jid", address)
}

fn list(core: &Core, request: &Request) -> Answer {
    let session = request.own_session()?;
    session.state().wants_blocklist = true;
    let addresses = addresses(core, session.user())?;
    Ok(Some(Element::new("blocklist", BLOCKING).with_children(addresses.iter().map(|address| item(address)))))
}

/// Everything that is blocked.
fn addresses(core: &Core, me: &UserId) -> Result<Vec<String>, StanzaError> {
    let people = core.accounts().ignored_users(me).map_err(|error| unkept(&error))?;
    let mut addresses: Vec<String> =
        people.iter().filter_map(|user| Some(core.address_of(user)?.to_string())).collect();
    addresses.extend(core.blocked_addresses(me).iter().cloned());
    addresses.sort();
    Ok(addresses)
}

/// Something to be blocked, or not any more.
enum Named {
    /// Somebody, with all their sessions.
    Person(BareJid, OwnedUserId),
    /// A server, a session of somebody, or a session of a server. [XEP-0191 §matching]
    Other(Jid),
}

fn named(core: &Core, me: &UserId, address: Jid) -> Result<Named, StanzaError> {
    let is_own =
        core.jid_of(me).is_some_and(|own| own == address.to_bare()) || address.to_string() == core.hosts.domain;
    if is_own {
        return Err(StanzaError::new(Condition::NotAcceptable, "nobody blocks themselves, or their own server"));
    }
    match core.person_of(&address.to_bare()).filter(|_| address.resource().is_none() && address.node().is_some()) {
        Some(user) => Ok(Named::Person(address.to_bare(), user)),
        None => Ok(Named::Other(address)),
    }
}

async fn change(core: Arc<Core>, request: Request, block: bool) -> Answer {
    let session = request.own_session()?.clone();
    let me = session.user();
    let mut all: Vec<Named> = Vec::new();
    let mut reports = Vec::new();
    for item in request.payload.children().filter(|child| child.is("item", BLOCKING)).take(BLOCKED_MAX) {
        let address = item.attr("jid").and_then(|jid| Jid::new(jid).ok());
        let address = address.ok_or_else(|| StanzaError::new(Condition::JidMalformed, "`jid` is no address"))?;
        if let Some(report) = item.child("report", REPORTING).filter(|_| block && reports.len() < REPORTS_MAX) {
            reports.push((address.to_bare(), report.clone()));
        }
        all.push(named(&core, me, address)?);
    }
    let pushed: Vec<String> = all.iter().map(address_of).collect();
    if block && all.is_empty() {
        // [XEP-0191 §block]
        return Err(StanzaError::new(Condition::BadRequest, "say whom to block"));
    }
    if all.is_empty() {
        // [XEP-0191 §unblockall]
        for address in addresses(&core, me)? {
            let Ok(address) = Jid::new(&address) else { continue };
            all.extend(named(&core, me, address).ok());
        }
    }
    let people: Vec<(&BareJid, &OwnedUserId)> = all.iter().filter_map(Named::person).collect();
    if block {
        for (address, _) in &people {
            // [XEP-0191 §block] To them, the account goes offline.
            if knows(&core, me, address) {
                im::show_to(&core, me, address, false).await;
            }
        }
    }
    ignore(&core, me, people.iter().map(|(_, user)| user.to_string()).collect(), block).await?;
    for other in all.iter().filter(|named| named.person().is_none()) {
        let text = block.then(String::new);
        core.accounts().keep(me, Drawer::Blocked, &address_of(other), text).await.map_err(|error| {
            let condition = match error {
                koine_account::KeepError::TooMany | koine_account::KeepError::TooLarge(_) => {
                    Condition::ResourceConstraint
                }
                _ => Condition::InternalServerError,
            };
            StanzaError::new(condition, error.to_string())
        })?;
    }
    core.blocked.remove(me);
    if !block {
        for (address, _) in &people {
            if knows(&core, me, address) {
                im::show_to(&core, me, address, true).await;
            }
        }
    }
    push(&core, me, block, &pushed);
    for (address, report) in reports {
        self::report(&core, me, &address, &report).await?;
    }
    Ok(None)
}

impl Named {
    fn person(&self) -> Option<(&BareJid, &OwnedUserId)> {
        match self {
            Self::Person(address, user) => Some((address, user)),
            Self::Other(_) => None,
        }
    }
}

fn address_of(named: &Named) -> String {
    match named {
        Named::Person(address, _) => address.to_string(),
        Named::Other(address) => address.to_string(),
    }
}

/// Changes whom the account ignores.
async fn ignore(core: &Core, me: &UserId, users: Vec<String>, block: bool) -> Result<(), StanzaError> {
    let edit = move |old: Option<&str>| {
        let mut content: Map<String, Value> = old.and_then(|old| serde_json::from_str(old).ok()).unwrap_or_default();
        let list = content.entry("ignored_users").or_insert_with(|| json!({}));
        if !list.is_object() {
            *list = json!({});
        }
        let list = list.as_object_mut()?;
        for user in users {
            match block {
                true if list.len() < BLOCKED_MAX => drop(list.insert(user, json!({}))),
                true => {}
                false => drop(list.remove(&user)),
            }
        }
        Some(Value::Object(content).to_string())
    };
    core.accounts().edit_account_data(me, None, LIST, edit).await.map(drop).map_err(|error| {
        tracing::error!(user_id = %me, reason = %error, "a block list could not be kept");
        StanzaError::new(Condition::InternalServerError, "the list could not be kept: try again later")
    })
}

/// Tells the operator why somebody is blocked, where Matrix clients' reports are as well. [XEP-0377 §blocking]
async fn report(core: &Core, me: &UserId, address: &BareJid, report: &Element) -> Result<(), StanzaError> {
    let why = match report.attr("reason") {
        Some("urn:xmpp:reporting:spam") => "Spam",
        Some("urn:xmpp:reporting:abuse") => "Abuse",
        _ => return Err(StanzaError::new(Condition::BadRequest, "a report has a reason: spam or abuse")),
    };
    let said = report.child_text("text", REPORTING).unwrap_or_default();
    let mut reason = format!("{why} by {address}, reported with a block");
    if !said.trim().is_empty() {
        reason.push_str(&format!(": {}", said.trim()));
    }
    let mut events = Vec::new();
    for id in
        report.children().filter(|child| child.is("stanza-id", ns::STANZA_ID)).filter_map(Element::id).take(REPORTS_MAX)
    {
        let Some(id) = <&ruma_common::EventId>::try_from(id).ok().filter(|_| id.len() <= REPORTED_ID_BYTES_MAX) else {
            continue;
        };
        // Only what the reporter can have seen.
        if let Ok(Some((room, placed))) = core.rooms().find_event(id)
            && room.is_joined(me)
        {
            events.push((room.id().to_owned(), placed.event.event_id().to_owned()));
        }
    }
    let mut what: Vec<Reported<'_>> = events.iter().map(|(room, event)| Reported::Event(room, event)).collect();
    let user = core.person_of(address);
    what.extend(user.as_deref().map(Reported::User));
    for what in what {
        core.rooms().report(me, what, &reason).await.map_err(|error| crate::error::refused(&error))?;
    }
    Ok(())
}

impl Core {
    /// Servers and sessions that an account has blocked.
    pub(crate) fn blocked_addresses(&self, owner: &UserId) -> Arc<HashSet<String>> {
        if let Some(known) = self.blocked.get(owner) {
            return known;
        }
        let kept = self.accounts().drawer(owner, Drawer::Blocked).unwrap_or_else(|error| {
            tracing::error!(user_id = %owner, reason = %error, "a block list could not be read");
            Vec::new()
        });
        let addresses: Arc<HashSet<String>> = Arc::new(kept.into_iter().map(|(address, _)| address).collect());
        self.blocked.insert(owner.to_owned(), addresses.clone());
        addresses
    }

    /// Whether an account wants to hear nothing from an address: somebody, a session of theirs, or their server.
    /// [XEP-0191 §matching]
    pub(crate) fn has_blocked_address(&self, owner: &UserId, other: &Jid) -> bool {
        let addresses = self.blocked_addresses(owner);
        if !addresses.is_empty() {
            let host = other.domain().to_string();
            let of_host = other.resource().map(|resource| format!("{host}/{resource}"));
            let matches = |address: &str| addresses.contains(address);
            if matches(&other.to_string()) || matches(&host) || of_host.is_some_and(|address| matches(&address)) {
                return true;
            }
        }
        self.person_of(&other.to_bare()).is_some_and(|other| self.has_blocked(owner, &other))
    }
}

/// Whether somebody is told of the account's presence.
fn knows(core: &Core, me: &UserId, address: &BareJid) -> bool {
    core.accounts().contact(me, &address.to_string()).is_ok_and(|contact| contact.is_some_and(|contact| contact.from))
}

/// Tells sessions that asked for the list. [XEP-0191 §block]
fn push(core: &Core, me: &UserId, block: bool, named: &[String]) {
    let Some(account) = core.jid_of(me) else { return };
    let name = if block { "block" } else { "unblock" };
    let payload = Element::new(name, BLOCKING).with_children(named.iter().map(|address| item(address)));
    for session in core.sessions.of(&account) {
        if !session.state().wants_blocklist {
            continue;
        }
        let push = Element::new("iq", ns::CLIENT)
            .with_attr("from", account.to_string())
            .with_attr("to", session.jid().to_string())
            .with_attr("id", format!("b{:x}", rand::random::<u64>()))
            .with_attr("type", "set")
            .with_child(payload.clone());
        session.send(push);
    }
}

fn unkept(error: &koine_account::StoreUnavailable) -> StanzaError {
    tracing::error!(reason = %error, "a block list could not be read");
    StanzaError::new(Condition::InternalServerError, "the list could not be read: try again later")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, condition};

    fn is_message(stanza: &Element) -> bool {
        stanza.name() == "message"
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn servers_and_sessions_are_blocked_too() {
        let world = World::new();
        let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
        let block =
            |jid: &str| format!("<iq type='set' id='b'><block xmlns='{BLOCKING}'><item jid='{jid}'/></block></iq>");
        assert_eq!(
            condition(&bob.ask(&block("example.org")).await).as_deref(),
            Some("not-acceptable"),
            "his own server"
        );
        for jid in ["evil.example", "alice@example.org/a"] {
            assert_eq!(bob.ask(&block(jid)).await.kind(), Some("result"));
        }
        bob.send("<presence/>").await;
        alice.send("<message to='bob@example.org' type='chat' id='m'><body>x</body></message>").await;
        assert_eq!(condition(&alice.until(is_message).await).as_deref(), Some("service-unavailable"));
        alice.send("<iq type='get' id='q' to='bob@example.org/b'><query xmlns='jabber:iq:version'/></iq>").await;
        assert_eq!(
            condition(&alice.until(|stanza| stanza.name() == "iq").await).as_deref(),
            Some("service-unavailable")
        );
        let user = bob.session.user().clone();
        let stranger = Jid::new("spam@evil.example/x").expect("an address");
        assert!(world.core().has_blocked_address(&user, &stranger));
        let list = bob.ask(&format!("<iq type='get' id='l'><blocklist xmlns='{BLOCKING}'/></iq>")).await;
        assert_eq!(list.children().next().map(|list| list.children().count()), Some(2));
        bob.ask(&format!("<iq type='set' id='u'><unblock xmlns='{BLOCKING}'/></iq>")).await;
        assert!(!world.core().has_blocked_address(&user, &stranger));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_report_with_a_block_comes_to_the_operator() {
        let world = World::new();
        let (alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
        bob.send("<presence/>").await;
        alice.send("<message to='bob@example.org' type='chat' id='m'><body>Buy!</body></message>").await;
        let spam = bob.until(is_message).await;
        let id = spam.child("stanza-id", ns::STANZA_ID).and_then(Element::id).expect("an id").to_owned();
        let block = format!(
            "<iq type='set' id='b'><block xmlns='{BLOCKING}'><item jid='alice@example.org'><report xmlns='{REPORTING}' reason='urn:xmpp:reporting:spam'><text>Again</text><stanza-id xmlns='{}' by='bob@example.org' id='{id}'/></report></item></block></iq>",
            ns::STANZA_ID
        );
        assert_eq!(bob.ask(&block).await.kind(), Some("result"));
        let reports = world.core().rooms().reports(0, 10).expect("read");
        assert_eq!(reports.len(), 2, "the message, and who wrote it");
        assert_eq!(reports[0].1.event_id.as_deref(), Some(id.as_str()));
        assert_eq!(reports[1].1.user_id.as_deref(), Some("@alice:example.org"));
        assert!(reports[1].1.reason.contains("Again"));
    }
}
