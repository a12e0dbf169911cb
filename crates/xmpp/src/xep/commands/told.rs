//! What admins are told of accounts. [XEP-0133]

use koine_account::{Drawer, UserInfo};
use koine_stanza::{
    Condition, Element, StanzaError,
    form::{Field, Form},
    ns,
};
use ruma_common::OwnedUserId;

use super::{ADMIN, LISTED_MAX, people};
use crate::{core::Core, im::roster_item, time};

fn unreadable(error: &koine_account::StoreUnavailable) -> StanzaError {
    tracing::error!(reason = %error, "accounts could not be read");
    StanzaError::new(Condition::InternalServerError, "accounts could not be read: try again later")
}

/// Calls `each` with every account in use.
fn for_all(core: &Core, mut each: impl FnMut(&UserInfo)) -> Result<(), StanzaError> {
    let mut after: Option<String> = None;
    loop {
        let page = core.accounts().users(after.as_deref(), LISTED_MAX).map_err(|error| unreadable(&error))?;
        let Some(last) = page.last().map(|user| user.user_id.localpart().to_owned()) else { return Ok(()) };
        after = Some(last);
        page.iter().filter(|user| !user.is_deactivated).for_each(&mut each);
    }
}

/// Everybody who is an admin.
pub(super) fn admin_ids(core: &Core) -> Result<Vec<OwnedUserId>, StanzaError> {
    let mut admins = Vec::new();
    for_all(core, |user| admins.extend(user.is_admin.then(|| user.user_id.clone())))?;
    Ok(admins)
}

/// Their addresses.
pub(super) fn admins(core: &Core) -> Result<Vec<String>, StanzaError> {
    let jids = admin_ids(core)?.into_iter().filter_map(|user| core.jid_of(&user)).map(|jid| jid.to_string());
    Ok(jids.take(LISTED_MAX).collect())
}

/// Whether somebody is one of those whom a command is about.
fn is_meant(core: &Core, which: &str, user: &UserInfo, jid: &koine_stanza::BareJid) -> bool {
    let sessions = || core.sessions.of(jid);
    // [XEP-0133 §get-active-users-num] Who is away is idle; who looks is active.
    let is_away = |session: &std::sync::Arc<crate::session::Session>| {
        let state = session.state();
        state.inactive
            || state.presence.as_ref().is_none_or(|presence| {
                matches!(presence.stanza.child_text("show", ns::CLIENT).as_deref(), Some("away" | "xa"))
            })
    };
    match which {
        "registered" => true,
        "disabled" => user.is_locked,
        "online" => core.sessions.is_connected(jid),
        "active" => sessions().iter().any(|session| !is_away(session)),
        "idle" => core.sessions.is_connected(jid) && sessions().iter().all(is_away),
        _ => false,
    }
}

/// Whom a command is about: `registered` of `get-registered-users-num`.
fn which(node: &str) -> &str {
    node.strip_prefix("get-").and_then(|rest| rest.split('-').next()).unwrap_or_default()
}

/// How many there are of some kind.
pub(super) fn number(core: &Core, node: &str, label: &str) -> Result<Form, StanzaError> {
    let (which, mut count) = (which(node), 0_usize);
    for_all(core, |user| {
        let jid = core.jid_of(&user.user_id);
        count += usize::from(jid.is_some_and(|jid| is_meant(core, which, user, &jid)));
    })?;
    Ok(Form::new("result", ADMIN).with(Field::text(&format!("{which}usersnum"), label, &count.to_string())))
}

/// Who they are, `most` of them; and how many there are in all.
pub(super) fn list(core: &Core, node: &str, label: &str, most: usize) -> Result<(Form, usize), StanzaError> {
    let (which, mut people, mut count) = (which(node), Vec::new(), 0_usize);
    for_all(core, |user| {
        let Some(jid) = core.jid_of(&user.user_id).filter(|jid| is_meant(core, which, user, jid)) else { return };
        count += 1;
        if people.len() < most {
            people.push(jid.to_string());
        }
    })?;
    let field = Field { values: people, ..Field::new(&format!("{which}userjids"), "jid-multi", label) };
    Ok((Form::new("result", ADMIN).with(field), count))
}

/// What some users have.
pub(super) fn of_users(core: &Core, node: &str, form: &Form) -> Result<Element, StanzaError> {
    let addresses = form.field("accountjids").or_else(|| form.field("accountjid"));
    let addresses = addresses.map(|field| field.values.clone()).unwrap_or_default();
    if addresses.is_empty() {
        return Err(super::bad("bad-payload", "say whom it is about"));
    }
    let mut told = Form::new("result", ADMIN);
    let mut rosters = Vec::new();
    for address in addresses.iter().take(LISTED_MAX) {
        let (jid, user) = people::named(core, address)?;
        let whom = Field { kind: "jid-multi".into(), ..Field::text("accountjids", "", &jid.to_string()) };
        let sessions = core.sessions.of(&jid);
        told = match node {
            "get-user-roster" => {
                // [XEP-0133 §get-user-roster] Beside the fields, as clients get their own.
                let contacts = core.accounts().contacts(&user).map_err(|error| unreadable(&error))?;
                let listed = contacts.iter().filter(|(_, contact)| contact.listed);
                let items = listed.map(|(jid, contact)| roster_item(jid, contact));
                rosters.push(Element::new("query", ns::ROSTER).with_children(items));
                told.with(whom)
            }
            "get-user-lastlogin" => {
                let seen = core.accounts().devices(&user).map_err(|error| unreadable(&error))?.into_iter();
                let seen = seen.map(|device| u64::from(device.last_seen.get())).max();
                let left = core.accounts().kept(&user, Drawer::LastSeen, "").map_err(|error| unreadable(&error))?;
                let left = left.as_deref().and_then(|left| left.split_once(' ')?.0.parse::<u64>().ok());
                let last = seen.max(left).map(time::format).unwrap_or_default();
                told.with(whom).with(Field::text("lastlogin", "Last here", &last))
            }
            _ => {
                let contacts = core.accounts().contacts(&user).map_err(|error| unreadable(&error))?;
                let size = contacts.iter().filter(|(_, contact)| contact.listed).count().to_string();
                let mut resources = Field::new("onlineresources", "text-multi", "Sessions");
                resources.values = sessions.iter().map(|session| session.jid().resource().to_string()).collect();
                let mut places = Field::new("ipaddresses", "text-multi", "Where from");
                for device in core.accounts().devices(&user).map_err(|error| unreadable(&error))? {
                    places.values.extend(device.last_seen_ip);
                }
                places.values.sort();
                places.values.dedup();
                told.with(whom).with(places).with(Field::text("rostersize", "Contacts", &size)).with(resources)
            }
        };
    }
    Ok(told.element().with_children(rosters))
}
