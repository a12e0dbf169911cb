//! XEP-0401: Ad-hoc Account Invitation, with what its links lead to: contacts who need not ask (XEP-0379), and accounts made
//! where not everybody may make one (XEP-0445; the stream asks for it). A token for an account is a registration token, as
//! Matrix clients use them.

use std::{sync::Arc, time::Duration};

use data_encoding::BASE32_NOPAD;
use koine_account::{CreateTokenError, Drawer, KeepError, Word};
use koine_stanza::{
    BareJid, Condition, Element, StanzaError,
    form::{Field, Form},
    ns,
};
use ruma_common::{OwnedUserId, UserId};

use super::commands::{self, COMMANDS};
use crate::{
    core::Core,
    iq::{Answer, Request},
    time,
};

/// Inviting a friend.
const INVITE: &str = "urn:xmpp:invite#invite";
/// Inviting to an account.
const ACCOUNT: &str = "urn:xmpp:invite#create-account";
/// `FORM_TYPE` of what is answered.
const INVITATION: &str = "urn:xmpp:invite#invitation";
/// `<preauth/>`. [XEP-0379]
pub(crate) const PREAUTH: &str = "urn:xmpp:pars:0";
/// How long an invitation is good for.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// Chance in a token, in bytes.
const TOKEN_BYTES: usize = 15;

/// Whether a command is one of these.
pub(crate) fn is_one(node: &str) -> bool {
    matches!(node, INVITE | ACCOUNT)
}

/// Those that somebody may use. [XEP-0401 §discover]
pub(crate) fn listed(core: &Core, request: &Request) -> Vec<Element> {
    let item = |node: &str, name: &str| {
        let item = Element::new("item", ns::DISCO_ITEMS).with_attr("jid", request.to.to_string());
        item.with_attr("node", node).with_attr("name", name)
    };
    let mut items = Vec::new();
    if request.asker().is_some() {
        items.push(item(INVITE, "Invite a friend"));
    }
    if commands::is_admin(core, request) {
        items.push(item(ACCOUNT, "Invite somebody to an account here"));
    }
    items
}

pub(crate) async fn run(core: &Arc<Core>, request: &Request, node: &str) -> Answer {
    let session = request.session.as_ref().filter(|_| request.account.is_none() || request.is_own());
    let Some(session) = session else {
        return Err(StanzaError::new(Condition::Forbidden, "people of this server invite others"));
    };
    let (me, own) = (session.user(), session.jid().to_bare());
    let is_admin = commands::is_admin(core, request);
    if node == ACCOUNT && !is_admin {
        return Err(StanzaError::new(Condition::Forbidden, "this is for admins of the server"));
    }
    let answer = |status: &str| {
        let id = request.payload.attr("sessionid").map(ToOwned::to_owned);
        let id = id.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        Element::new("command", COMMANDS).with_attr("node", node).with_attr("sessionid", id).with_attr("status", status)
    };
    if request.payload.attr("action") == Some("cancel") {
        return Ok(Some(answer("canceled")));
    }
    let form = Form::within(&request.payload).filter(|form| form.kind == "submit");
    let expires_ms = core.now_ms() + u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
    // Whoever invites is in the token, where it can be: who makes an account by it has a contact at once.
    let chance = BASE32_NOPAD.encode(&rand::random::<[u8; TOKEN_BYTES]>());
    let subscribes = |form: &Form| form.field("roster-subscription").and_then(Field::bool) != Some(false);
    let (token, uri) = match (node, form) {
        (ACCOUNT, None) => {
            let mut empty = Form::new("form", ACCOUNT)
                .with(Field::new("username", "text-single", "Name of the account, where it is to have a certain one"))
                .with(Field::boolean("roster-subscription", "Becomes your contact", true));
            empty.title = Some("Invite somebody to an account here".into());
            let actions = Element::new("actions", COMMANDS)
                .with_attr("execute", "complete")
                .with_child(Element::new("complete", COMMANDS));
            return Ok(Some(answer("executing").with_child(actions).with_child(empty.element())));
        }
        (ACCOUNT, Some(form)) => {
            let name = form.value("username").map(str::trim).filter(|name| !name.is_empty());
            if let Some(name) = name {
                let free = core.accounts().check_name(name);
                free.map_err(|error| StanzaError::new(Condition::Conflict, error.to_string()))?;
            }
            let token = if subscribes(&form) { with_inviter(&chance, me) } else { chance };
            let host = core.hosts.domain.as_str();
            let at = name.map_or_else(|| host.to_owned(), |name| format!("{name}@{host}"));
            (token.clone(), format!("xmpp:{at}?register;preauth={token}"))
        }
        (_, _) => {
            let token = with_inviter(&chance, me);
            let more = if is_admin || core.config().registration { ";ibr=y" } else { "" };
            (token.clone(), format!("xmpp:{own}?roster;preauth={token}{more}"))
        }
    };
    if node == ACCOUNT || is_admin {
        let made = core.accounts().create_registration_token(Some(token.clone()), Some(1), Some(expires_ms)).await;
        made.map_err(|error| match error {
            CreateTokenError::Store(_) => StanzaError::from(Condition::InternalServerError),
            error => StanzaError::new(Condition::NotAcceptable, error.to_string()),
        })?;
    }
    forget_old(core, me).await;
    core.accounts().keep(me, Drawer::Invitations, &token, Some(expires_ms.to_string())).await.map_err(|error| {
        let condition = match error {
            KeepError::TooMany => Condition::ResourceConstraint,
            _ => Condition::InternalServerError,
        };
        StanzaError::new(condition, error.to_string())
    })?;
    let told = Form::new("result", INVITATION).with(Field::text("uri", "Link", &uri)).with(Field::text(
        "expire",
        "Good until",
        &time::format(expires_ms),
    ));
    Ok(Some(answer("completed").with_child(told.element())))
}

/// A token that says whose invitation it is.
fn with_inviter(chance: &str, inviter: &UserId) -> String {
    let name = inviter.localpart();
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let token = format!("{chance}~{name}");
    if fits && token.len() <= koine_account::REGISTRATION_TOKEN_BYTES_MAX { token } else { chance.to_owned() }
}

/// Whose invitation a token is.
fn inviter(core: &Core, token: &str) -> Option<OwnedUserId> {
    let (_, name) = token.split_once('~')?;
    UserId::parse(format!("@{name}:{}", core.rooms().server_name())).ok()
}

/// Invitations that are not good any more make room.
async fn forget_old(core: &Core, user: &UserId) {
    let now = core.now_ms();
    for (token, expires) in core.accounts().drawer(user, Drawer::Invitations).unwrap_or_default() {
        if expires.parse::<u64>().is_ok_and(|expires| expires < now) {
            let _ = core.accounts().keep(user, Drawer::Invitations, &token, None).await;
        }
    }
}

/// Whether somebody who asks `user` for a subscription was invited to; the invitation is used up. [XEP-0379 §approval]
pub(crate) async fn is_preauthorized(core: &Core, user: &UserId, stanza: &Element) -> bool {
    let Some(token) = stanza.child("preauth", PREAUTH).and_then(|preauth| preauth.attr("token")) else { return false };
    take(core, user, token).await
}

async fn take(core: &Core, user: &UserId, token: &str) -> bool {
    let kept = core.accounts().kept(user, Drawer::Invitations, token).ok().flatten();
    let is_good = kept.and_then(|expires| expires.parse::<u64>().ok()).is_some_and(|expires| expires >= core.now_ms());
    if is_good && let Err(error) = core.accounts().keep(user, Drawer::Invitations, token, None).await {
        tracing::error!(user_id = %user, reason = %error, "an invitation could not be used up");
        return false;
    }
    is_good
}

/// Somebody made an account with an invitation: they and whoever gave it are contacts. [XEP-0401 §redeem-invitation]
pub(crate) async fn redeemed(core: &Arc<Core>, new: &UserId, token: &str) {
    let Some(host) = inviter(core, token).filter(|host| core.is_account(host)) else { return };
    let (Some(own), Some(theirs)) = (core.jid_of(&host), core.jid_of(new)) else { return };
    if !take(core, &host, token).await {
        return;
    }
    befriend(core, (&host, &theirs)).await;
    befriend(core, (new, &own)).await;
    befriend(core, (&host, &theirs)).await;
}

/// Lets somebody know of one's presence, and asks for theirs.
pub(crate) async fn befriend(core: &Arc<Core>, (user, other): (&UserId, &BareJid)) {
    core.say(user, other, Word::Subscribed).await;
    core.say(user, other, Word::Subscribe).await;
}

/// The token of `<preauth/>` in a request before there is an account, if it is good for one. [XEP-0445 §preauth-ibr]
pub(crate) fn good_token(core: &Core, preauth: &Element) -> Result<String, StanzaError> {
    let token = preauth.attr("token").unwrap_or_default();
    let is_good = core.accounts().is_registration_token_valid(token).map_err(|error| {
        tracing::error!(reason = %error, "a registration token could not be read");
        StanzaError::from(Condition::InternalServerError)
    })?;
    match is_good {
        true => Ok(token.to_owned()),
        false => Err(StanzaError::new(Condition::ItemNotFound, "the invitation is unknown, or not good any more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Client, World};

    fn uri(answer: &Element) -> String {
        let form = answer.child("command", COMMANDS).and_then(Form::within).expect("a form");
        form.value("uri").expect("a link").to_owned()
    }

    async fn invite(client: &mut Client) -> String {
        let ask = format!("<iq type='set' id='i' to='example.org'><command xmlns='{COMMANDS}' node='{INVITE}'/></iq>");
        uri(&client.ask(&ask).await)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_was_invited_is_a_contact_without_a_question() {
        let world = World::new();
        let (mut romeo, mut juliet) = (world.connect("romeo", "r").await, world.connect("juliet", "j").await);
        romeo.send("<presence/>").await;
        juliet.send("<presence/>").await;
        let link = invite(&mut romeo).await;
        let token = link.split_once("preauth=").expect("a token").1.split(';').next().expect("one").to_owned();
        let subscribe = |token: &str| {
            format!(
                "<presence to='romeo@example.org' type='subscribe'><preauth xmlns='{PREAUTH}' token='{token}'/></presence>"
            )
        };
        juliet.send(&subscribe(&token)).await;
        juliet.until(|stanza| stanza.kind() == Some("subscribed")).await;
        let contact = world.core().accounts().contact(romeo.session.user(), "juliet@example.org");
        assert!(contact.expect("read").expect("she is one").from);
        assert!(!take(world.core(), romeo.session.user(), &token).await, "it is used up");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_account_made_by_invitation_has_a_contact_at_once() {
        let world = World::new();
        let mut romeo = world.connect("romeo", "r").await;
        let user = romeo.session.user().clone();
        world.core().accounts().set_flag(&user, koine_account::Flag::Admin, true).await.expect("there is");
        let ask = format!(
            "<iq type='set' id='i' to='example.org'><command xmlns='{COMMANDS}' node='{ACCOUNT}'><x xmlns='jabber:x:data' type='submit'><field var='username'><value>juliet</value></field></x></command></iq>"
        );
        let link = uri(&romeo.ask(&ask).await);
        let token = link.strip_prefix("xmpp:juliet@example.org?register;preauth=").expect("it names the account");
        let preauth = Element::new("preauth", PREAUTH).with_attr("token", token);
        assert_eq!(good_token(world.core(), &preauth).expect("it is good"), token);
        let juliet = world.person("juliet").await;
        redeemed(world.core(), &juliet, token).await;
        let contact = world.core().accounts().contact(&juliet, "romeo@example.org").expect("read").expect("there is");
        assert_eq!(contact.subscription(), "both");
    }
}
