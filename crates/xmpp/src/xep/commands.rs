//! XEP-0050: Ad-Hoc Commands, and XEP-0133: Service Administration with them. Those are for admins of the server; invitations
//! ([`invite`](super::invite)) are for everybody.
//!
//! | file | what |
//! |---|---|
//! | `commands/people.rs` | what is done with accounts |
//! | `commands/told.rs` | what is told of them |

mod people;
mod told;

use std::sync::Arc;

use koine_stanza::{
    Condition, Element, StanzaError,
    form::{Field, Form},
    ns,
};

use super::{invite, notices};
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
    features: &[(At::Host, COMMANDS), (At::Host, ADMIN), (At::Host, ns::DATA_FORMS)],
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

const WHOM: &[(&str, &str, &str)] = &[("accountjids", "jid-multi", "Addresses")];
const TEXT: &str = "text-multi";

const fn command(
    node: &'static str,
    name: &'static str,
    fields: &'static [(&'static str, &'static str, &'static str)],
) -> Command {
    Command { node, name, fields }
}

/// [XEP-0133 §usecases] Lists of whom the server speaks with are settings, and it is stopped where it was started.
const ALL: &[Command] = &[
    command(
        "add-user",
        "Add a user",
        &[
            ("accountjid", "jid-single", "Address"),
            ("password", "text-private", "Password"),
            ("password-verify", "text-private", "The password again"),
        ],
    ),
    command("delete-user", "Delete users", WHOM),
    command("disable-user", "Lock users out", WHOM),
    command("reenable-user", "Let users in again", WHOM),
    command("end-user-session", "End sessions", WHOM),
    command(
        "change-user-password",
        "Change a password",
        &[("accountjid", "jid-single", "Address"), ("password", "text-private", "Password")],
    ),
    command("get-user-roster", "Contacts of a user", WHOM),
    command("get-user-lastlogin", "When a user was last here", WHOM),
    command("user-stats", "What a user has and does", &[("accountjid", "jid-single", "Address")]),
    command("get-registered-users-num", "How many users there are", &[]),
    command("get-disabled-users-num", "How many users are locked out", &[]),
    command("get-online-users-num", "How many users are online", &[]),
    command("get-active-users-num", "How many users are active", &[]),
    command("get-idle-users-num", "How many users are idle", &[]),
    command("get-registered-users-list", "Who has an account", &[]),
    command("get-disabled-users-list", "Who is locked out", &[]),
    command("get-online-users-list", "Who is online", &[]),
    command("get-active-users", "Who is active", &[]),
    command("get-idle-users", "Who is idle", &[]),
    command("announce", "Tell all who are online", &[("announcement", TEXT, "Announcement")]),
    command("set-motd", "Set the message of the day", &[("motd", TEXT, "Message of the day")]),
    command("edit-motd", "Change the message of the day", &[("motd", TEXT, "Message of the day")]),
    command("delete-motd", "Delete the message of the day", &[]),
    command("set-welcome", "Set the welcome of new users", &[("welcome", TEXT, "Welcome")]),
    command("delete-welcome", "Delete the welcome of new users", &[]),
    command("edit-admin", "Say who is an admin", &[("adminjids", "jid-multi", "Addresses of all admins")]),
];

/// The list, for who discovers. [XEP-0050 §retrieve]
pub(crate) fn listed(core: &Core, request: &Request) -> Vec<Element> {
    let mut items = invite::listed(core, request);
    if !is_admin(core, request) {
        return items;
    }
    let item = |command: &Command| {
        Element::new("item", ns::DISCO_ITEMS)
            .with_attr("jid", request.to.to_string())
            .with_attr("node", format!("{ADMIN}#{}", command.node))
            .with_attr("name", command.name)
    };
    items.extend(ALL.iter().map(item));
    items
}

/// A node that is a command, or the list of them, for who asks what it is. [XEP-0050 §discover]
pub(crate) fn about(core: &Core, request: &Request, node: &str) -> Option<Element> {
    let name = match node {
        COMMANDS => None,
        node => Some(listed(core, request).into_iter().find(|item| item.attr("node") == Some(node))?),
    };
    let name = name.as_ref().and_then(|item| item.attr("name"));
    let identity = Element::new("identity", ns::DISCO_INFO)
        .with_attr("category", "automation")
        .with_attr("type", if node == COMMANDS { "command-list" } else { "command-node" })
        .with_attr_opt("name", name);
    let features = [COMMANDS, ns::DATA_FORMS].map(|var| Element::new("feature", ns::DISCO_INFO).with_attr("var", var));
    let query = Element::new("query", ns::DISCO_INFO).with_attr("node", node);
    Some(query.with_child(identity).with_children(features))
}

pub(crate) fn is_admin(core: &Core, request: &Request) -> bool {
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
    if invite::is_one(&node) {
        return invite::run(&core, &request, &node).await;
    }
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
        return Ok(Some(answer("completed").with_child_opt(at_once(&core, command).await?.map(|form| form.element()))));
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
            field.values = present(&core, command)?;
            empty = empty.with(field);
        }
        let actions = Element::new("actions", COMMANDS)
            .with_attr("execute", "complete")
            .with_child(Element::new("complete", COMMANDS));
        return Ok(Some(answer("executing").with_child(actions).with_child(empty.element())));
    };
    let told = match command.node {
        "get-user-roster" | "get-user-lastlogin" | "user-stats" => Some(told::of_users(&core, command.node, &form)?),
        "announce" | "set-motd" | "edit-motd" | "set-welcome" => {
            notices::change(&core, command.node, &form.fields).await?;
            None
        }
        _ => {
            people::change(&core, command.node, &form).await?;
            None
        }
    };
    if let Some(told) = told {
        return Ok(Some(answer("completed").with_child(told.element())));
    }
    let note = Element::text_of("note", COMMANDS, "Done.").with_attr("type", "info");
    Ok(Some(answer("completed").with_child(note)))
}

/// What a command without a form does, and tells.
async fn at_once(core: &Arc<Core>, command: &Command) -> Result<Option<Form>, StanzaError> {
    match command.node {
        "delete-motd" | "delete-welcome" => notices::change(core, command.node, &[]).await.map(|()| None),
        _ => told::of_all(core, command.node, command.name).map(Some),
    }
}

/// What a form is filled in with.
fn present(core: &Core, command: &Command) -> Result<Vec<String>, StanzaError> {
    match command.node {
        "edit-motd" => {
            Ok(notices::motd(core).map(|text| text.lines().map(ToOwned::to_owned).collect()).unwrap_or_default())
        }
        "edit-admin" => told::admins(core),
        _ => Ok(Vec::new()),
    }
}
