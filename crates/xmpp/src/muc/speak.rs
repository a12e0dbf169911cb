//! Messages to a room and to somebody in it. [XEP-0045 §message] [XEP-0045 §privatemessage]

use std::sync::Arc;

use koine_projection::muc::Role;
use koine_room::{Room, Sender};
use koine_stanza::{
    Condition, Element, Jid, StanzaError,
    form::{Field, Form},
    ns,
};
use ruma_common::OwnedUserId;
use serde_json::json;

use super::{
    hall::{Hall, Inside, Occupant, Seat, tell, tell_alike},
    invite, name, refused,
    settings::PrivateMessages,
    slow, standing, words,
};
use crate::{core::Core, session::Session};

/// `FORM_TYPE` of asking for voice.
const REQUEST: &str = "http://jabber.org/protocol/muc#request";

/// Takes a message for a room or for somebody in it.
pub(crate) async fn message(
    core: &Arc<Core>,
    stanza: &Element,
    from: &Jid,
    to: &Jid,
    session: Option<&Arc<Session>>,
) -> Result<(), StanzaError> {
    let address = to.to_bare();
    let room = match name::room(core, &address)? {
        Some(room) => room,
        // Errors and answers to what no longer is end here.
        None if stanza.kind() == Some("error") => return Ok(()),
        None => return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room").with_by(&address)),
    };
    if stanza.kind() == Some("error") {
        return bounced(core, &room, stanza, from).await;
    }
    let Some(user) = core.person_of(&from.to_bare()) else {
        return Err(StanzaError::new(Condition::JidMalformed, "this address cannot be in a room"));
    };
    crate::im::slow_down(core, &user, session.is_some()).await?;
    let said = Said { core, room: &room, stanza, from, to, user: &user };
    let done = match (to.resource(), stanza.kind()) {
        (None, Some("groupchat")) => said.to_all().await,
        // [XEP-0045 §privatemessage]
        (Some(_), Some("groupchat")) => {
            Err(StanzaError::new(Condition::BadRequest, "a message to one occupant is of type chat, not groupchat"))
        }
        (Some(nick), _) => said.to_one(nick).await,
        (None, _) => said.to_room().await,
    };
    done.map_err(|error| error.with_by(&address))
}

/// Whoever cannot be reached any more is not there. [XEP-0045 §impl-service-ghosts]
async fn bounced(core: &Arc<Core>, room: &Arc<Room>, stanza: &Element, from: &Jid) -> Result<(), StanzaError> {
    const DELIVERY: [&str; 6] = [
        "gone",
        "item-not-found",
        "recipient-unavailable",
        "redirect",
        "remote-server-not-found",
        "remote-server-timeout",
    ];
    let error = stanza.child("error", ns::CLIENT);
    if error.is_some_and(|error| DELIVERY.iter().any(|name| error.has_child(name, ns::STANZA_ERRORS)))
        && let Some(hall) = core.muc.hall(room.no())
    {
        super::enter::end_seat(core, &hall, from, vec![333]).await;
    }
    Ok(())
}

/// A message on its way to a room.
pub(super) struct Said<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) room: &'a Arc<Room>,
    pub(super) stanza: &'a Element,
    pub(super) from: &'a Jid,
    pub(super) to: &'a Jid,
    pub(super) user: &'a OwnedUserId,
}

fn outside() -> StanzaError {
    StanzaError::new(Condition::NotAcceptable, "you are not in this room").with_type(koine_stanza::ErrorType::Modify)
}

impl Said<'_> {
    pub(super) fn hall(&self) -> Result<Arc<Hall>, StanzaError> {
        self.core.muc.hall(self.room.no()).ok_or_else(outside)
    }

    pub(super) fn occupant<'i>(&self, inside: &'i Inside) -> Result<(String, &'i Occupant), StanzaError> {
        let nick = inside.nick_of(self.from).ok_or_else(outside)?;
        Ok((nick.to_owned(), inside.occupant(nick).ok_or_else(outside)?))
    }

    async fn to_all(&self) -> Result<(), StanzaError> {
        let hall = self.hall()?;
        let mut inside = hall.inside.lock().await;
        let mut spoke = std::mem::take(&mut inside.spoke);
        let slow = self.occupant(&inside).and_then(|(_, occupant)| {
            let who = (occupant.user.as_ref(), occupant.affiliation);
            slow::may_speak(&inside.settings, &mut spoke, who, self.stanza, self.core.now_ms())
        });
        inside.spoke = spoke;
        slow?;
        let (nick, occupant) = self.occupant(&inside)?;
        // A subject alone changes the subject. [XEP-0045 §subject-mod]
        let has_text = self.stanza.has_child("body", ns::CLIENT) || self.stanza.has_child("thread", ns::CLIENT);
        if let Some(subject) = self.stanza.child("subject", ns::CLIENT).filter(|_| !has_text) {
            let subject = subject.text();
            drop(inside);
            return self.set_subject(&subject).await;
        }
        if occupant.role < Role::Participant {
            return Err(StanzaError::new(Condition::Forbidden, "you have no voice in this room"));
        }
        match words::of_stanza(self.core, self.room, self.stanza, (self.user, &nick), &inside)? {
            words::Meant::Passing => {
                self.pass_on(&hall, &inside, &nick, occupant).await;
                Ok(())
            }
            words::Meant::Commands { commands, passes_on } => {
                // The log brings it to everybody, in the order of the room.
                drop(inside);
                for command in commands {
                    self.command(command).await?;
                }
                if passes_on {
                    let inside = hall.inside.lock().await;
                    let (nick, occupant) = self.occupant(&inside)?;
                    self.pass_on(&hall, &inside, &nick, occupant).await;
                }
                Ok(())
            }
        }
    }

    async fn command(&self, command: words::Command) -> Result<(), StanzaError> {
        let (rooms, id) = (self.core.rooms(), self.room.id());
        let sender = Sender { user: self.user, device: None };
        let done = match command {
            words::Command::Send { kind, content } => rooms.send(sender, id, &kind, &content, None).await.map(drop),
            words::Command::Redact { event, txn } => {
                rooms.redact(sender, id, &event, None, txn.as_deref()).await.map(drop)
            }
            words::Command::Read { event } => return self.core.mark_read(self.user, self.room, &event).await,
        };
        done.map_err(|error| refused(&error))
    }

    /// What is true for a moment only goes to whoever is here now.
    async fn pass_on(&self, hall: &Hall, inside: &Inside, nick: &str, occupant: &Occupant) {
        if let Some(composing) = words::composing(self.stanza) {
            let time = composing.then_some(words::COMPOSING_TIME);
            // Whoever is not in the room does not type there; nobody needs to know.
            let _ = self.core.rooms().set_typing(self.user, self.room.id(), time);
        }
        let mut message = words::clean(self.stanza);
        message.push(hall.occupant_id(self.core, &occupant.user));
        let message = |seat: &Seat| {
            let mut message = message.clone();
            message.set_attr("from", Some(format!("{}/{nick}", seat.room)));
            message
        };
        tell_alike(self.core, inside, |_| true, message).await;
    }

    async fn set_subject(&self, subject: &str) -> Result<(), StanzaError> {
        let content =
            json!({ "topic": subject, "m.topic": { "m.text": [{ "body": subject, "mimetype": "text/plain" }] } });
        standing::set_state(self.core, self.user, self.room, "m.room.topic", "", &content)
            .await
            .map_err(|error| refused(&error))
    }

    /// To one occupant: past the room's history, to their sessions; a member without one gets it in their chat.
    async fn to_one(&self, nick: &str) -> Result<(), StanzaError> {
        let hall = self.hall()?;
        let inside = hall.inside.lock().await;
        let (own_nick, sender) = self.occupant(&inside)?;
        let Some(recipient) = inside.occupant(nick) else {
            return Err(StanzaError::new(Condition::ItemNotFound, "nobody in the room has this nickname"));
        };
        let may = match inside.settings.own.private_messages {
            PrivateMessages::Anyone => true,
            PrivateMessages::Participants => sender.role >= Role::Participant,
            PrivateMessages::Moderators => sender.role >= Role::Moderator,
            PrivateMessages::None => false,
        };
        if !may {
            return Err(StanzaError::new(Condition::Forbidden, "private messages are not for everybody in this room"));
        }
        let mut message = words::clean(self.stanza);
        message.retain_children(|child| child.ns() != ns::MUC_USER);
        if recipient.seats.is_empty() {
            let user = recipient.user.clone();
            drop(inside);
            return self.core.say_outside(self.from, &user, &message).await;
        }
        message.push(Element::new("x", ns::MUC_USER));
        message.push(hall.occupant_id(self.core, self.user));
        for seat in &recipient.seats {
            let mut message = message.clone();
            message.set_attr("from", Some(format!("{}/{own_nick}", seat.room)));
            message.set_attr("to", Some(seat.jid.to_string()));
            tell(self.core, seat, message).await;
        }
        Ok(())
    }

    /// To the room itself: invitations, their refusal, asking for voice and giving it.
    async fn to_room(&self) -> Result<(), StanzaError> {
        if let Some(x) = self.stanza.child("x", ns::MUC_USER) {
            for invite in x.children().filter(|child| child.is("invite", ns::MUC_USER)).take(invite::INVITES_MAX) {
                self.invite(invite).await?;
            }
            if let Some(decline) = x.child("decline", ns::MUC_USER) {
                return self.decline(decline).await;
            }
            return Ok(());
        }
        if let Some(form) = Form::within(self.stanza).filter(|form| form.form_type.as_deref() == Some(REQUEST)) {
            return match form.field("muc#request_allow") {
                Some(_) => self.answer_request(&form).await,
                None => self.ask_for_voice(&form).await,
            };
        }
        // [XEP-0045 §message] Only messages of type groupchat are for all.
        Err(StanzaError::new(Condition::BadRequest, "a message to the room is of type groupchat"))
    }

    /// [XEP-0045 §requestvoice] [XEP-0045 §voiceapprove]
    async fn ask_for_voice(&self, form: &Form) -> Result<(), StanzaError> {
        if form.value("muc#role") != Some("participant") {
            return Err(StanzaError::new(Condition::BadRequest, "what can be asked for is the role participant"));
        }
        let hall = self.hall()?;
        let inside = hall.inside.lock().await;
        let (nick, occupant) = self.occupant(&inside)?;
        if occupant.role >= Role::Participant {
            return Err(StanzaError::new(Condition::BadRequest, "you have voice already"));
        }
        let mut request = Form::new("form", REQUEST)
            .with(Field::text("muc#role", "Requested role", "participant"))
            .with(Field { kind: "jid-single".into(), ..Field::text("muc#jid", "User", &self.from.to_string()) })
            .with(Field::text("muc#roomnick", "Nickname", &nick))
            .with(Field::boolean("muc#request_allow", "Give voice to this person?", false));
        request.title = Some("Voice request".into());
        for (_, moderator, seat) in inside.seats() {
            if moderator.role == Role::Moderator {
                let message = Element::new("message", ns::CLIENT)
                    .with_attr("from", seat.room.to_string())
                    .with_attr("to", seat.jid.to_string())
                    .with_attr_opt("id", self.stanza.id())
                    .with_child(request.element());
                tell(self.core, seat, message).await;
            }
        }
        Ok(())
    }

    async fn answer_request(&self, form: &Form) -> Result<(), StanzaError> {
        let hall = self.hall()?;
        let user = {
            let inside = hall.inside.lock().await;
            let (_, moderator) = self.occupant(&inside)?;
            if moderator.role < Role::Moderator {
                return Err(StanzaError::new(Condition::Forbidden, "only moderators give voice"));
            }
            let nick = form.value("muc#roomnick").unwrap_or_default();
            let Some(asker) = inside.occupant(nick) else {
                return Err(StanzaError::new(Condition::ItemNotFound, "whoever asked is gone"));
            };
            if asker.role >= Role::Participant {
                return Ok(());
            }
            asker.user.clone()
        };
        match form.field("muc#request_allow").and_then(Field::bool) {
            Some(true) => super::admin::set_voice(self.core, self.room, self.user, &user, true).await,
            _ => Ok(()),
        }
    }
}
