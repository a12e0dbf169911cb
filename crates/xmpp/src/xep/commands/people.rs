//! What admins do with accounts. [XEP-0133]

use std::{collections::HashSet, sync::Arc};

use koine_account::{Flag, NewAccount, Secret};
use koine_stanza::{BareJid, Condition, StanzaError, StreamCondition, StreamError, form::Form};
use ruma_common::OwnedUserId;

use super::{LISTED_MAX, bad, error, told};
use crate::core::Core;

/// The account that a form names.
pub(super) fn named(core: &Core, address: &str) -> Result<(BareJid, OwnedUserId), StanzaError> {
    let jid = koine_stanza::Jid::new(address).map(|jid| jid.to_bare());
    let jid = jid.map_err(|_| error(Condition::JidMalformed, "this is no address"))?;
    let user = core.user_of(&jid).filter(|user| core.accounts().user(user).ok().flatten().is_some());
    let user = user.ok_or_else(|| error(Condition::ItemNotFound, "there is no such account"))?;
    Ok((jid, user))
}

/// Does what a command with a form does.
pub(super) async fn change(core: &Arc<Core>, node: &str, form: &Form) -> Result<(), StanzaError> {
    if node == "edit-admin" {
        return edit_admins(core, form).await;
    }
    let addresses = form.field("accountjids").or_else(|| form.field("accountjid"));
    let addresses = addresses.map(|field| field.values.clone()).unwrap_or_default();
    if addresses.is_empty() {
        return Err(bad("bad-payload", "say whom it is about"));
    }
    let password = form.value("password").unwrap_or_default();
    for address in addresses.iter().take(LISTED_MAX) {
        if node == "add-user" {
            if form.value("password-verify").is_some_and(|again| again != password) {
                return Err(error(Condition::NotAcceptable, "the passwords differ"));
            }
            let jid = koine_stanza::Jid::new(address).map(|jid| jid.to_bare());
            let jid = jid.map_err(|_| error(Condition::JidMalformed, "this is no address"))?;
            add(core, &jid, password).await?;
            continue;
        }
        // One session, where an address names one. [XEP-0133 §end-user-session]
        let full = koine_stanza::FullJid::new(address).ok().filter(|_| node == "end-user-session");
        let (jid, user) = named(core, address)?;
        apply(core, node, (&jid, full.as_ref()), &user, password).await?;
    }
    Ok(())
}

/// Those who are named are admins, and nobody else. [XEP-0133 §edit-admin]
async fn edit_admins(core: &Arc<Core>, form: &Form) -> Result<(), StanzaError> {
    let field = form.field("adminjids").ok_or_else(|| bad("bad-payload", "say who is to be an admin"))?;
    let mut wanted = HashSet::new();
    for address in field.values.iter().take(LISTED_MAX) {
        wanted.insert(named(core, address)?.1);
    }
    if wanted.is_empty() {
        return Err(error(Condition::NotAcceptable, "somebody has to be an admin"));
    }
    let present: HashSet<OwnedUserId> = told::admin_ids(core)?.into_iter().collect();
    for (users, flag) in [(wanted.difference(&present), true), (present.difference(&wanted), false)] {
        for user in users {
            let set = core.accounts().set_flag(user, Flag::Admin, flag).await;
            set.map_err(|problem| error(Condition::NotAcceptable, &problem.to_string()))?;
        }
    }
    Ok(())
}

async fn add(core: &Arc<Core>, jid: &BareJid, password: &str) -> Result<(), StanzaError> {
    if jid.domain() != core.hosts.domain {
        return Err(error(Condition::NotAcceptable, "accounts of this server end with its name"));
    }
    let name =
        jid.node().map(ToString::to_string).ok_or_else(|| error(Condition::BadRequest, "an account has a name"))?;
    let wanted = NewAccount { name: Some(name), password: Some(Secret::from(password)), ..NewAccount::default() };
    let created = core.accounts().create(wanted).await;
    created.map(drop).map_err(|problem| match problem {
        koine_account::CreateError::NameTaken => error(Condition::Conflict, "there is such an account already"),
        problem @ koine_account::CreateError::Reserved => error(Condition::Conflict, &problem.to_string()),
        problem => error(Condition::NotAcceptable, &problem.to_string()),
    })
}

async fn apply(
    core: &Arc<Core>,
    node: &str,
    (jid, one): (&BareJid, Option<&koine_stanza::FullJid>),
    user: &OwnedUserId,
    password: &str,
) -> Result<(), StanzaError> {
    let changed = match node {
        "delete-user" => match core.accounts().deactivate(user, true).await {
            Ok(()) => {
                if let Err(problem) = core.rooms().leave_all(user).await {
                    tracing::warn!(user_id = %user, reason = %problem, "a closed account is still in rooms");
                }
                Ok(())
            }
            refused => refused,
        },
        "disable-user" => core.accounts().set_flag(user, Flag::Locked, true).await,
        "reenable-user" => core.accounts().set_flag(user, Flag::Locked, false).await,
        "change-user-password" => core.accounts().set_password(user, Secret::from(password)).await,
        _ => Ok(()),
    };
    changed.map_err(|problem| error(Condition::NotAcceptable, &problem.to_string()))?;
    if matches!(node, "delete-user" | "disable-user" | "end-user-session") {
        for session in core.sessions.of(jid).into_iter().filter(|session| one.is_none_or(|one| one == session.jid())) {
            session.end(StreamError::new(StreamCondition::NotAuthorized, "an admin ended this session"));
        }
    }
    Ok(())
}
