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
/// How many people of a list somebody wants to see. [XEP-0133 §registrar-formtype]
const MAX_ITEMS: &str = "max_items";
/// What [`MAX_ITEMS`] may be; `none` is for no limit but ours.
const LENGTHS: [(&str, &str); 7] =
    [("25", "25"), ("50", "50"), ("75", "75"), ("100", "100"), ("150", "150"), ("200", "200"), ("none", "None")];

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
/// Lists may be long, so one is asked first how much of them to show. [XEP-0133 §get-registered-users-list]
const HOW_MANY: &[(&str, &str, &str)] = &[(MAX_ITEMS, "list-single", "How many to show")];
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
    // [XEP-0133 §get-user-stats] differs: asks for several, as for the list of contacts; `accountjid` is taken too.
    command("user-stats", "What users have and do", WHOM),
    command("get-registered-users-num", "How many users there are", &[]),
    command("get-disabled-users-num", "How many users are locked out", &[]),
    command("get-online-users-num", "How many users are online", &[]),
    command("get-active-users-num", "How many users are active", &[]),
    command("get-idle-users-num", "How many users are idle", &[]),
    command("get-registered-users-list", "Who has an account", HOW_MANY),
    command("get-disabled-users-list", "Who is locked out", HOW_MANY),
    command("get-online-users-list", "Who is online", HOW_MANY),
    command("get-active-users", "Who is active", HOW_MANY),
    command("get-idle-users", "Who is idle", HOW_MANY),
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
            empty = empty.with(match *var {
                MAX_ITEMS => Field { values: Vec::new(), ..Field::list(var, label, "", &LENGTHS) },
                _ => Field { required: true, values: present(&core, command)?, ..Field::new(var, kind, label) },
            });
        }
        let actions = Element::new("actions", COMMANDS)
            .with_attr("execute", "complete")
            .with_child(Element::new("complete", COMMANDS));
        return Ok(Some(answer("executing").with_child(actions).with_child(empty.element())));
    };
    match done(&core, command, &form).await {
        Ok(told) => Ok(Some(answer("completed").with_children(told))),
        Err(error) => {
            let told = failed(error)?;
            Ok(Some(answer("completed").with_child(told)))
        }
    }
}

/// A command that was understood, and failed. [XEP-0050 §impl-commands] What XEP-0133 has an error for stays one, and so does
/// what nobody should have sent. [XEP-0133 §errors]
fn failed(error: StanzaError) -> Result<Element, StanzaError> {
    match error.condition {
        Condition::ItemNotFound | Condition::JidMalformed | Condition::NotAcceptable => {
            let text = error.text.unwrap_or_default();
            Ok(Element::text_of("note", COMMANDS, text).with_attr("type", "error"))
        }
        _ => Err(error),
    }
}

/// Does what a command with a form does; what is told then.
async fn done(core: &Arc<Core>, command: &Command, form: &Form) -> Result<Vec<Element>, StanzaError> {
    if command.fields == HOW_MANY {
        let most = how_many(form.value(MAX_ITEMS))?;
        let (told, in_all) = told::list(core, command.node, command.name, most)?;
        let note = (in_all > most).then(|| {
            let text = format!("The first {most} of {in_all}.");
            Element::text_of("note", COMMANDS, text).with_attr("type", "warn")
        });
        return Ok(note.into_iter().chain([told.element()]).collect());
    }
    match command.node {
        "get-user-roster" | "get-user-lastlogin" | "user-stats" => {
            return Ok(vec![told::of_users(core, command.node, form)?]);
        }
        "announce" | "set-motd" | "edit-motd" | "set-welcome" => {
            notices::change(core, command.node, &form.fields).await?;
        }
        _ => people::change(core, command.node, form).await?,
    }
    Ok(vec![Element::text_of("note", COMMANDS, "Done.").with_attr("type", "info")])
}

/// What a command without a form does, and tells.
async fn at_once(core: &Arc<Core>, command: &Command) -> Result<Option<Form>, StanzaError> {
    match command.node {
        "delete-motd" | "delete-welcome" => notices::change(core, command.node, &[]).await.map(|()| None),
        _ => told::number(core, command.node, command.name).map(Some),
    }
}

/// The length of a list that is asked for; as long as lists may be, where nothing is said.
fn how_many(wanted: Option<&str>) -> Result<usize, StanzaError> {
    match wanted.map(str::trim) {
        None | Some("" | "none") => Ok(LISTED_MAX),
        Some(number) => {
            let number = number.parse::<usize>().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(|| bad("bad-payload", "max_items is a number above 0, or none"))?;
            Ok(number.min(LISTED_MAX))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_wants_a_list_is_asked_first_how_long_it_may_be() {
        let world = World::new();
        let mut admin = world.connect("admin", "a").await;
        for name in ["bob", "carol"] {
            world.person(name).await;
        }
        let user = admin.session.user().clone();
        world.core().accounts().set_flag(&user, koine_account::Flag::Admin, true).await.expect("there is");
        let ask = |attributes: &str, form: &str| {
            format!(
                "<iq type='set' id='l' to='example.org'><command xmlns='{COMMANDS}' node='{ADMIN}#get-registered-users-list' {attributes}>{form}</command></iq>"
            )
        };
        let submit = |most: &str| {
            format!("<x xmlns='jabber:x:data' type='submit'><field var='max_items'><value>{most}</value></field></x>")
        };
        let answered = |answer: Element| answer.child("command", COMMANDS).cloned().expect("a command");

        let first = answered(admin.ask(&ask("action='execute'", "")).await);
        assert_eq!(first.attr("status"), Some("executing"));
        let form = Form::within(&first).expect("a form");
        assert_eq!((form.kind.as_str(), form.fields[0].var.as_str()), ("form", "max_items"));
        let session = format!("sessionid='{}' action='complete'", first.attr("sessionid").expect("a session"));

        let all = answered(admin.ask(&ask(&session, &submit("25"))).await);
        assert_eq!((all.attr("status"), all.attr("sessionid")), (Some("completed"), first.attr("sessionid")));
        let people = Form::within(&all).and_then(|form| form.field("registereduserjids").cloned()).expect("a list");
        assert_eq!(people.values, ["admin@example.org", "bob@example.org", "carol@example.org"]);
        assert!(!all.has_child("note", COMMANDS));

        let some = answered(admin.ask(&ask("", &submit("2"))).await);
        assert_eq!(some.child_text("note", COMMANDS).as_deref(), Some("The first 2 of 3."));
        let answer = admin.ask(&ask("", &submit("many"))).await;
        assert!(answer.to_xml().contains("bad-payload"), "{}", answer.to_xml());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_command_that_fails_is_completed_and_says_so() {
        let world = World::new();
        let mut admin = world.connect("admin", "a").await;
        let user = admin.session.user().clone();
        world.core().accounts().set_flag(&user, koine_account::Flag::Admin, true).await.expect("there is");
        let run = |node: &str, fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(var, value)| format!("<field var='{var}'><value>{value}</value></field>"));
            format!(
                "<iq type='set' id='r' to='example.org'><command xmlns='{COMMANDS}' node='{ADMIN}#{node}'><x xmlns='jabber:x:data' type='submit'>{}</x></command></iq>",
                fields.collect::<String>()
            )
        };
        let differs = [("accountjid", "eve@example.org"), ("password", "one"), ("password-verify", "other")];
        for command in [
            run("add-user", &differs),
            run("add-user", &[("accountjid", "eve@elsewhere.example"), ("password", "one two")]),
            run("reenable-user", &[("accountjids", "nobody@example.org")]),
        ] {
            let answer = admin.ask(&command).await;
            let command = answer.child("command", COMMANDS).expect("a command");
            let note = command.child("note", COMMANDS).expect("a note");
            assert_eq!((command.attr("status"), note.kind()), (Some("completed"), Some("error")));
        }
        let none = admin.ask(&run("reenable-user", &[])).await;
        assert!(none.to_xml().contains("bad-payload"), "{}", none.to_xml());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn admins_see_contacts_as_their_owner_does() {
        let world = World::new();
        let mut admin = world.connect("admin", "a").await;
        let user = admin.session.user().clone();
        world.core().accounts().set_flag(&user, koine_account::Flag::Admin, true).await.expect("there is");
        let add = format!(
            "<iq type='set' id='a'><query xmlns='{}'><item jid='romeo@montague.example' name='Romeo'><group>Friends</group></item></query></iq>",
            ns::ROSTER
        );
        assert_eq!(admin.ask(&add).await.kind(), Some("result"));
        let ask = format!(
            "<iq type='set' id='r' to='example.org'><command xmlns='{COMMANDS}' node='{ADMIN}#get-user-roster'><x xmlns='jabber:x:data' type='submit'><field var='accountjids'><value>admin@example.org</value></field></x></command></iq>"
        );
        let answer = admin.ask(&ask).await;
        let told = answer.child("command", COMMANDS).and_then(|command| command.child("x", ns::DATA_FORMS));
        let roster = told.and_then(|form| form.child("query", ns::ROSTER)).expect("a list of contacts");
        let item = roster.child("item", ns::ROSTER).expect("a contact");
        assert_eq!((item.attr("jid"), item.attr("name")), (Some("romeo@montague.example"), Some("Romeo")));
        assert_eq!(item.child_text("group", ns::ROSTER).as_deref(), Some("Friends"));
    }
}
