//! What admins are told of accounts. [XEP-0133]

use koine_account::{Drawer, UserInfo};
use koine_stanza::{
    Condition, StanzaError,
    form::{Field, Form},
    ns,
};
use ruma_common::OwnedUserId;

use super::{ADMIN, LISTED_MAX, people};
use crate::{core::Core, time};

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

/// How many there are of some kind, or who they are.
pub(super) fn of_all(core: &Core, node: &str, label: &str) -> Result<Form, StanzaError> {
    let which = node.strip_prefix("get-").and_then(|rest| rest.split('-').next()).unwrap_or_default();
    let (mut people, mut count) = (Vec::new(), 0_usize);
    for_all(core, |user| {
        let Some(jid) = core.jid_of(&user.user_id).filter(|jid| is_meant(core, which, user, jid)) else { return };
        count += 1;
        if people.len() < LISTED_MAX {
            people.push(jid.to_string());
        }
    })?;
    let form = Form::new("result", ADMIN);
    Ok(match node.ends_with("num") {
        true => form.with(Field::text(&format!("{which}usersnum"), label, &count.to_string())),
        false => {
            let mut field = Field::new(&format!("{which}userjids"), "jid-multi", label);
            field.values = people;
            form.with(field)
        }
    })
}

/// What some users have.
pub(super) fn of_users(core: &Core, node: &str, form: &Form) -> Result<Form, StanzaError> {
    let addresses = form.field("accountjids").or_else(|| form.field("accountjid"));
    let addresses = addresses.map(|field| field.values.clone()).unwrap_or_default();
    if addresses.is_empty() {
        return Err(super::bad("bad-payload", "say whom it is about"));
    }
    let mut told = Form::new("result", ADMIN);
    for address in addresses.iter().take(LISTED_MAX) {
        let (jid, user) = people::named(core, address)?;
        let whom = Field { kind: "jid-multi".into(), ..Field::text("accountjids", "", &jid.to_string()) };
        let sessions = core.sessions.of(&jid);
        told = match node {
            "get-user-roster" => {
                let mut roster = Field::new("roster", "text-multi", "Contacts");
                let contacts = core.accounts().contacts(&user).map_err(|error| unreadable(&error))?;
                roster.values =
                    contacts.into_iter().filter(|(_, contact)| contact.listed).map(|(jid, _)| jid).collect();
                told.with(whom).with(roster)
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
    Ok(told)
}
