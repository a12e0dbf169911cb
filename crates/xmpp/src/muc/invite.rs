//! Asking people into a room, and being asked. [XEP-0045 §invite-mediated] [XEP-0249]
//!
//! An invitation is a membership. Whoever is asked in by Matrix hears of it by the log; whoever was away, when they come.

use std::sync::Arc;

use koine_graph::Membership;
use koine_room::{Placed, Profile, ReadError, Room};
use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use super::{name, refused, settings::Settings, speak::Said, standing, unreadable};
use crate::{address::Place, core::Core, session::Session};

/// Most people invited with one stanza.
pub(super) const INVITES_MAX: usize = 50;
/// Most invitations told to who was away.
const PENDING_MAX: usize = 100;
/// In a membership: what XMPP had to do with it.
const BY_XMPP: &str = "koine.xmpp";

/// An invitation as it is told.
struct Invitation<'a> {
    room: &'a BareJid,
    by: Option<&'a BareJid>,
    reason: Option<&'a str>,
    password: Option<&'a str>,
}

impl Invitation<'_> {
    /// In both forms: some clients know the one, some the other.
    fn message(&self, to: &BareJid, more: Option<&Element>) -> Element {
        let mut invite = Element::new("invite", ns::MUC_USER).with_attr_opt("from", self.by.map(ToString::to_string));
        if let Some(reason) = self.reason {
            invite.push(Element::text_of("reason", ns::MUC_USER, reason));
        }
        let direct = Element::new("x", "jabber:x:conference").with_attr("jid", self.room.to_string());
        Element::new("message", ns::CLIENT)
            .with_attr("from", self.room.to_string())
            .with_attr("to", to.to_string())
            .with_child(
                Element::new("x", ns::MUC_USER)
                    .with_child(invite.with_child_opt(more.cloned()))
                    .with_child_opt(self.password.map(|word| Element::text_of("password", ns::MUC_USER, word))),
            )
            .with_child(direct.with_attr_opt("reason", self.reason).with_attr_opt("password", self.password))
    }
}

/// Somebody of ours was asked in, as the log tells.
pub(crate) async fn invited(core: &Arc<Core>, room: &Room, placed: &Placed) -> Result<(), ReadError> {
    let event = &placed.event;
    if event.kind() != "m.room.member" || event.membership() != Some(Membership::Invite) {
        return Ok(());
    }
    // They were told by the stanza that invited them.
    if event.content_field::<Value>(BY_XMPP).is_some() {
        return Ok(());
    }
    let Some(user) = event.state_key().and_then(|user| <&UserId>::try_from(user).ok()) else { return Ok(()) };
    let Some(account) = core.jid_of(user).filter(|account| core.sessions.is_connected(account)) else { return Ok(()) };
    if let Some(message) = message(core, room, placed, user, &account)? {
        core.tell_account(&account, message).await;
    }
    Ok(())
}

fn message(
    core: &Core,
    room: &Room,
    placed: &Placed,
    user: &UserId,
    account: &BareJid,
) -> Result<Option<Element>, ReadError> {
    let sender = placed.event.sender();
    if core.has_blocked(user, sender) {
        return Ok(None);
    }
    let (address, by) = (name::address(core, room)?, core.address_of(sender));
    let reason = placed.event.content_field::<String>("reason");
    let password = Settings::of(core.rooms(), room)?.own.password;
    let invitation =
        Invitation { room: &address, by: by.as_ref(), reason: reason.as_deref(), password: password.as_deref() };
    Ok(Some(invitation.message(account, None)))
}

/// A session came, the first of its account: tells it where its account is asked in.
pub(crate) fn pending(core: &Core, session: &Session) -> Result<(), ReadError> {
    let user: &OwnedUserId = session.user();
    let Some(account) = core.jid_of(user) else { return Ok(()) };
    let memberships = core.rooms().memberships(user)?.into_iter();
    let invited = memberships.filter(|(_, record)| record.membership == koine_room::Membership::Invite);
    for (no, _) in invited.take(PENDING_MAX) {
        // Conversations are entered, not asked into.
        if core.rooms().pair_of(no)?.is_some() {
            continue;
        }
        let Ok(room) = core.rooms().room_by_no(no) else { continue };
        let Some(placed) = room.current("m.room.member", user.as_str())? else { continue };
        if let Some(message) = message(core, &room, &placed, user, &account)? {
            session.send(message);
        }
    }
    Ok(())
}

/// Somebody asks somebody into a room, past the room. [XEP-0249] Where it is one of ours, and whoever asks may, that is an
/// invitation in the room too, so that it is seen in Matrix. Whether it became one.
pub(crate) async fn asked_directly(core: &Arc<Core>, stanza: &Element, (me, peer): (&UserId, &UserId)) -> bool {
    let Some(direct) = stanza.child("x", "jabber:x:conference").filter(|_| stanza.kind() != Some("error")) else {
        return false;
    };
    let address = direct.attr("jid").and_then(|jid| BareJid::new(jid).ok());
    let Some(address) = address.filter(|address| core.place(&Jid::from(address.clone())) == Place::Room) else {
        return false;
    };
    let Ok(Some(room)) = name::room(core, &address) else { return false };
    let extra = Map::from_iter([(BY_XMPP.to_owned(), json!({}))]);
    let asked = (peer, &Profile::default());
    match core.rooms().invite(me, room.id(), asked, direct.attr("reason"), extra).await {
        Ok(()) => true,
        Err(reason) => {
            tracing::debug!(room_id = %room.id(), user_id = %me, %reason, "a direct invitation is none in the room");
            false
        }
    }
}

impl Said<'_> {
    /// [XEP-0045 §invite-mediated]
    pub(super) async fn invite(&self, invite: &Element) -> Result<(), StanzaError> {
        let hall = self.hall()?;
        let (members_only, password) = {
            let inside = hall.inside.lock().await;
            self.occupant(&inside)?;
            (inside.settings.members_only, inside.settings.own.password.clone())
        };
        let malformed = || StanzaError::new(Condition::JidMalformed, "whom to invite is in the attribute `to`");
        let invited: BareJid = invite.attr("to").and_then(|to| Jid::new(to).ok()).ok_or_else(malformed)?.to_bare();
        let Some(user) = self.core.person_of(&invited) else {
            return Err(StanzaError::new(Condition::ItemNotFound, "this address cannot be in a room"));
        };
        if self.core.accounts().is_local(&user) && !self.core.is_ghost(&user) {
            let there =
                self.core.accounts().is_active(&user).map_err(|_| StanzaError::from(Condition::ResourceConstraint))?;
            if !there {
                return Err(StanzaError::new(Condition::ItemNotFound, "there is no such account"));
            }
        }
        let reason = invite.child_text("reason", ns::MUC_USER);
        let membership = standing::membership(self.room, &user).map_err(|error| unreadable(&error))?;
        if !matches!(membership, Some(Membership::Join | Membership::Invite)) {
            let profile = Profile::default();
            let extra = Map::from_iter([(BY_XMPP.to_owned(), json!({}))]);
            let rooms = self.core.rooms();
            match rooms.invite(self.user, self.room.id(), (&user, &profile), reason.as_deref(), extra).await {
                Ok(()) => {}
                // An open room needs no invitation of its own.
                Err(_) if !members_only && membership != Some(Membership::Ban) => {}
                Err(error) => return Err(refused(&error)),
            }
        }
        let (room, by) = (self.to.to_bare(), self.from.to_bare());
        let (reason, password) = (reason.as_deref(), password.as_deref());
        let invitation = Invitation { room: &room, by: Some(&by), reason, password };
        let message = invitation.message(&invited, invite.child("continue", ns::MUC_USER));
        self.core.tell_account(&invited, message.with_attr_opt("id", self.stanza.id())).await;
        Ok(())
    }

    /// [XEP-0045 §invite-mediated]
    pub(super) async fn decline(&self, decline: &Element) -> Result<(), StanzaError> {
        let Some(to) = decline.attr("to").and_then(|to| Jid::new(to).ok()) else {
            return Err(StanzaError::new(
                Condition::JidMalformed,
                "whose invitation is declined is in the attribute `to`",
            ));
        };
        let member = self.room.current("m.room.member", self.user.as_str()).map_err(|error| unreadable(&error))?;
        let asked = member.filter(|placed| placed.event.membership() == Some(Membership::Invite));
        let by = asked.as_ref().map(|placed| placed.event.sender().to_owned());
        // The room speaks to nobody else in the name of strangers: to who asked them in, or somebody who is there and may have.
        let reached = self.core.person_of(&to.to_bare());
        let is_for = reached.is_some_and(|to| by.as_ref() == Some(&to) || self.room.is_joined(&to));
        let may = asked.is_some()
            || !Settings::of(self.core.rooms(), self.room).map_err(|error| unreadable(&error))?.members_only;
        if !may || !is_for {
            return Err(StanzaError::new(Condition::Forbidden, "nobody there has asked you in"));
        }
        if asked.is_some() {
            let reason = decline.child_text("reason", ns::MUC_USER);
            let rooms = self.core.rooms();
            rooms.leave(self.user, self.room.id(), reason.as_deref()).await.map_err(|error| refused(&error))?;
        }
        let mut passed = decline.clone();
        passed.set_attr("to", None::<String>);
        passed.set_attr("from", Some(self.from.to_bare().to_string()));
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", self.to.to_bare().to_string())
            .with_attr("to", to.to_bare().to_string())
            .with_attr_opt("id", self.stanza.id())
            .with_child(Element::new("x", ns::MUC_USER).with_child(passed));
        self.core.tell_account(&to.to_bare(), message).await;
        Ok(())
    }
}
