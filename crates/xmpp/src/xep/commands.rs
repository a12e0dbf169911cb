//! XEP-0050: Ad-Hoc Commands, and XEP-0133: Service Administration with them. For admins of the server.

use std::sync::Arc;

use koine_account::{Flag, NewAccount, Secret};
use koine_stanza::{
    BareJid, Condition, Element, StanzaError, StreamCondition, StreamError,
    form::{Field, Form},
    ns,
};
use ruma_common::OwnedUserId;

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
pub(crate) const COMMANDS: &str = "http://jabber.org/protocol/commands";
/// The meaning of the forms' fields.
const ADMIN: &str = "http://jabber.org/protocol/admin";
/// Most people that one list names.
const LISTED_MAX: usize = 1_000;

/// Asked of the server, or of an admin's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, COMMANDS), (At::Host, ADMIN)],
    handlers: &[Handler {
        at: &[At::Host, At::Account],
        verbs: &[Verb::Set],
        name: "command",
        ns: COMMANDS,
        run: |core, request| Box::pin(run(core, request)),
    }],
};

/// A command.
struct Command {
    /// Behind `http://jabber.org/protocol/admin#`.
    node: &'static str,
    /// For people.
    name: &'static str,
    /// What is asked for: name, type, label. None: it is done at once.
    fields: &'static [(&'static str, &'static str, &'static str)],
}

const ALL: &[Command] = &[
    Command {
        node: "add-user",
        name: "Add a user",
        fields: &[
            ("accountjid", "jid-single", "Address"),
            ("password", "text-private", "Password"),
            ("password-verify", "text-private", "The password again"),
        ],
    },
    Command { node: "delete-user", name: "Delete users", fields: &[("accountjids", "jid-multi", "Addresses")] },
    Command { node: "disable-user", name: "Lock users out", fields: &[("accountjids", "jid-multi", "Addresses")] },
    Command { node: "reenable-user", name: "Let users in again", fields: &[("accountjids", "jid-multi", "Addresses")] },
    Command { node: "end-user-session", name: "End sessions", fields: &[("accountjids", "jid-multi", "Addresses")] },
    Command {
        node: "change-user-password",
        name: "Change a password",
        fields: &[("accountjid", "jid-single", "Address"), ("password", "text-private", "Password")],
    },
    Command { node: "get-registered-users-num", name: "How many users there are", fields: &[] },
    Command { node: "get-registered-users-list", name: "Who has an account", fields: &[] },
    Command { node: "get-online-users-num", name: "How many users are online", fields: &[] },
    Command { node: "get-online-users-list", name: "Who is online", fields: &[] },
];

/// The list, for who discovers. [XEP-0050 §retrieve]
pub(crate) fn listed(core: &Core, request: &Request) -> Vec<Element> {
    if !is_admin(core, request) {
        return Vec::new();
    }
    let item = |command: &Command| {
        Element::new("item", ns::DISCO_ITEMS)
            .with_attr("jid", request.to.to_string())
            .with_attr("node", format!("{ADMIN}#{}", command.node))
            .with_attr("name", command.name)
    };
    ALL.iter().map(item).collect()
}

fn is_admin(core: &Core, request: &Request) -> bool {
    let user = request.asker().and_then(|user| core.accounts().user(user).ok().flatten());
    user.is_some_and(|user| user.is_admin)
}

fn error(condition: Condition, text: &str) -> StanzaError {
    StanzaError::new(condition, text)
}

/// With a condition of the extension. [XEP-0050 §errors]
fn bad(name: &'static str, text: &str) -> StanzaError {
    error(Condition::BadRequest, text).with_application(Element::new(name, COMMANDS))
}

async fn run(core: Arc<Core>, request: Request) -> Answer {
    let node = request.payload.attr("node").unwrap_or_default().to_owned();
    let name = node.strip_prefix(ADMIN).and_then(|node| node.strip_prefix('#'));
    let command = name.and_then(|name| ALL.iter().find(|command| command.node == name));
    let command = command.ok_or_else(|| error(Condition::ItemNotFound, "there is no such command"))?;
    if request.account.is_some() && !request.is_own() {
        return Err(error(Condition::Forbidden, "this is for the owner of the account alone"));
    }
    if !is_admin(&core, &request) {
        return Err(error(Condition::Forbidden, "this is for admins of the server"));
    }
    let session = request.payload.attr("sessionid").map(ToOwned::to_owned);
    let answer = |status: &str| {
        let id = session.clone().unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        Element::new("command", COMMANDS)
            .with_attr("node", node.as_str())
            .with_attr("sessionid", id)
            .with_attr("status", status)
    };
    let form = Form::within(&request.payload);
    match request.payload.attr("action") {
        Some("cancel") => return Ok(Some(answer("canceled"))),
        None | Some("execute" | "complete" | "next") => {}
        Some("prev") => return Err(bad("bad-action", "there is no step before this one")),
        Some(_) => return Err(bad("malformed-action", "there is no such action")),
    }
    if command.fields.is_empty() {
        return Ok(Some(answer("completed").with_child(told(&core, command)?.element())));
    }
    let Some(form) = form.filter(|form| form.kind == "submit") else {
        if session.is_some() {
            return Err(bad("bad-payload", "the form is missing"));
        }
        let mut empty = Form::new("form", ADMIN);
        empty.title = Some(command.name.to_owned());
        for (var, kind, label) in command.fields {
            let mut field = Field::new(var, kind, label);
            field.required = true;
            empty = empty.with(field);
        }
        let actions = Element::new("actions", COMMANDS)
            .with_attr("execute", "complete")
            .with_child(Element::new("complete", COMMANDS));
        return Ok(Some(answer("executing").with_child(actions).with_child(empty.element())));
    };
    done(&core, command, &form).await?;
    let note = Element::text_of("note", COMMANDS, "Done.").with_attr("type", "info");
    Ok(Some(answer("completed").with_child(note)))
}

/// What a command without a form tells.
fn told(core: &Core, command: &Command) -> Result<Form, StanzaError> {
    let unreadable = |error: koine_account::StoreUnavailable| {
        tracing::error!(reason = %error, "accounts could not be read");
        StanzaError::new(Condition::InternalServerError, "accounts could not be read: try again later")
    };
    let online = command.node.starts_with("get-online");
    let mut people = Vec::new();
    let mut after: Option<String> = None;
    let mut count = 0_usize;
    loop {
        let page = core.accounts().users(after.as_deref(), LISTED_MAX).map_err(unreadable)?;
        let Some(last) = page.last().map(|user| user.user_id.localpart().to_owned()) else { break };
        after = Some(last);
        for user in page.into_iter().filter(|user| !user.is_deactivated) {
            let Some(jid) = core.jid_of(&user.user_id) else { continue };
            if !online || core.sessions.is_connected(&jid) {
                count += 1;
                if people.len() < LISTED_MAX {
                    people.push(jid.to_string());
                }
            }
        }
    }
    let form = Form::new("result", ADMIN);
    let (number, list) = match online {
        true => ("onlineusersnum", "onlineuserjids"),
        false => ("registeredusersnum", "registereduserjids"),
    };
    Ok(match command.node.ends_with("num") {
        true => form.with(Field::text(number, command.name, &count.to_string())),
        false => {
            let mut field = Field::new(list, "jid-multi", command.name);
            field.values = people;
            form.with(field)
        }
    })
}

/// Does what a command with a form does.
async fn done(core: &Arc<Core>, command: &Command, form: &Form) -> Result<(), StanzaError> {
    let named = form.field("accountjids").or_else(|| form.field("accountjid"));
    let named = named.map(|field| field.values.clone()).unwrap_or_default();
    if named.is_empty() {
        return Err(bad("bad-payload", "say whom it is about"));
    }
    let password = form.value("password").unwrap_or_default();
    for address in named.iter().take(LISTED_MAX) {
        let jid = koine_stanza::Jid::new(address).map(|jid| jid.to_bare());
        let jid = jid.map_err(|_| error(Condition::JidMalformed, "this is no address"))?;
        if command.node == "add-user" {
            if form.value("password-verify").is_some_and(|again| again != password) {
                return Err(bad("bad-payload", "the passwords differ"));
            }
            add(core, &jid, password).await?;
            continue;
        }
        let user = core.user_of(&jid).filter(|user| core.accounts().user(user).ok().flatten().is_some());
        let user = user.ok_or_else(|| error(Condition::ItemNotFound, "there is no such account"))?;
        change(core, command, &jid, &user, password).await?;
    }
    Ok(())
}

async fn add(core: &Arc<Core>, jid: &BareJid, password: &str) -> Result<(), StanzaError> {
    if jid.domain().as_str() != core.hosts.domain {
        return Err(error(Condition::NotAcceptable, "accounts of this server end with its name"));
    }
    let name =
        jid.node().map(ToString::to_string).ok_or_else(|| error(Condition::BadRequest, "an account has a name"))?;
    let wanted = NewAccount { name: Some(name), password: Some(Secret::from(password)), ..NewAccount::default() };
    let created = core.accounts().create(wanted).await;
    created.map(drop).map_err(|problem| match problem {
        koine_account::CreateError::NameTaken => error(Condition::Conflict, "there is such an account already"),
        problem => error(Condition::NotAcceptable, &problem.to_string()),
    })
}

async fn change(
    core: &Arc<Core>,
    command: &Command,
    jid: &BareJid,
    user: &OwnedUserId,
    password: &str,
) -> Result<(), StanzaError> {
    let changed = match command.node {
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
    if matches!(command.node, "delete-user" | "disable-user" | "end-user-session") {
        for session in core.sessions.of(jid) {
            session.end(StreamError::new(StreamCondition::NotAuthorized, "an admin ended this session"));
        }
    }
    Ok(())
}
