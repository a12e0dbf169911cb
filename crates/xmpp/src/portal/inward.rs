//! Who is in a room elsewhere and what is said there, as members and events of the room that mirrors it.

use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use koine_projection::message::{self, Act};
use koine_room::{Profile, Room, Sender};
use koine_stanza::{BareJid, Element, Jid, ns};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};
use sha2::Sha256;

use super::{
    DEVICE,
    outward::InMirror,
    tables,
    worker::{INFO, LOOK, OCCUPANTS_MAX, PING, Seat, State, Worker},
};
use crate::{core::Core, known, time};

/// How local names begin of people in rooms elsewhere whose addresses those rooms hide. No account can have such a name.
const HIDDEN: &str = "_xmppocc_";
/// How long somebody types who said so once. [XEP-0085]
const COMPOSING_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// Somebody in a room elsewhere.
pub(super) struct Occupant {
    /// As whom they speak here.
    pub(super) user: OwnedUserId,
}

/// Where an occupant is told of: under a nickname, with an address if the room shows it, and an id if it gives one.
#[derive(Clone, Copy)]
struct Trace<'a> {
    nick: &'a str,
    jid: Option<&'a str>,
    id: Option<&'a str>,
}

impl Worker {
    /// A stanza of the room elsewhere, for somebody of ours in it.
    pub(super) async fn hear(&mut self, core: &Arc<Core>, stanza: &Element, user: &UserId) {
        match (stanza.name(), stanza.kind()) {
            ("presence", _) => self.presence(core, stanza, user).await,
            ("message", Some("error")) => self.bounced(core, stanza, user).await,
            ("message", Some("groupchat")) if self.ears().is_some_and(|ears| ears == user) => {
                self.message(core, stanza).await;
            }
            ("message", Some("groupchat")) => {}
            // A word in private has no place in the room that all see; whoever says it should know.
            ("message", _)
                if stanza.has_child("body", ns::CLIENT)
                    && stanza.attr("from").is_some_and(|from| from.contains('/')) =>
            {
                let text = "people who are here by Matrix take no private messages through the room";
                let error = koine_stanza::StanzaError::new(koine_stanza::Condition::ServiceUnavailable, text);
                if let Some(answer) = error.answer(stanza) {
                    Box::pin(core.send_elsewhere(answer)).await;
                }
            }
            ("message", _) => {}
            ("iq", Some("get" | "set")) => {
                let answer = match stanza.children().next().is_some_and(|child| child.is("ping", ns::PING)) {
                    true => Some(crate::iq::result(stanza, None)),
                    false => {
                        let error = koine_stanza::StanzaError::from(koine_stanza::Condition::ServiceUnavailable);
                        error.answer(stanza)
                    }
                };
                if let Some(answer) = answer {
                    Box::pin(core.send_elsewhere(answer)).await;
                }
            }
            ("iq", _) => self.answered(core, stanza, user).await,
            _ => {}
        }
    }

    async fn answered(&mut self, core: &Arc<Core>, stanza: &Element, user: &UserId) {
        match stanza.id() {
            Some(LOOK) => {
                let not_there = ["item-not-found", "gone", "remote-server-not-found", "remote-server-timeout"];
                let error = stanza.child("error", ns::CLIENT);
                // Whoever does not tell what they are may still let somebody in.
                match error.filter(|error| not_there.iter().any(|name| error.has_child(name, ns::STANZA_ERRORS))) {
                    Some(error) => self.refused(core, user, error).await,
                    None => self.ask_in(core, user).await,
                }
            }
            Some(INFO) => {
                let identity = stanza.child("query", ns::DISCO_INFO);
                let identity = identity.and_then(|query| query.child("identity", ns::DISCO_INFO));
                let name = identity.and_then(|identity| identity.attr("name")).map(str::trim);
                if let Some(name) = name.filter(|name| !name.is_empty()) {
                    self.set_state(core, "m.room.name", &json!({ "name": name })).await;
                }
            }
            // [XEP-0410 §performing] Who says these knows us. `item-not-found` would be another nickname of ours, but is also said
            // of a room that its server has forgotten; to come in once more harms nobody.
            Some(PING) => {
                let knows_us = ["service-unavailable", "feature-not-implemented"];
                let error = stanza.child("error", ns::CLIENT);
                if error.is_some_and(|error| !knows_us.iter().any(|name| error.has_child(name, ns::STANZA_ERRORS))) {
                    self.lost(core).await;
                }
            }
            _ => {}
        }
    }

    async fn presence(&mut self, core: &Arc<Core>, stanza: &Element, user: &UserId) {
        let Some(from) = stanza.attr("from").and_then(|from| Jid::new(from).ok()) else { return };
        let x = stanza.child("x", ns::MUC_USER);
        let has = |code: &str| {
            x.is_some_and(|x| {
                x.children().any(|child| child.is("status", ns::MUC_USER) && child.attr("code") == Some(code))
            })
        };
        let seat = self.seats.get(user).map(|seat| (seat.nick.clone(), seat.state));
        if stanza.kind() == Some("error") {
            if let (Some(error), Some((_, State::Entering(_)))) = (stanza.child("error", ns::CLIENT), seat) {
                self.refused(core, user, error).await;
            }
            return;
        }
        let Some(nick) = from.resource().map(ToOwned::to_owned) else {
            // [XEP-0045 §destroyroom] Some services say it so.
            return;
        };
        let is_own = has("110") || seat.as_ref().is_some_and(|(own, _)| *own == nick);
        let item = x.and_then(|x| x.child("item", ns::MUC_USER));
        let trace = Trace {
            nick: &nick,
            jid: item.and_then(|item| item.attr("jid")),
            id: stanza.child("occupant-id", ns::OCCUPANT_ID).and_then(Element::id),
        };
        match stanza.kind() {
            None if is_own => {
                if self.seats.contains_key(user) {
                    self.there.insert(nick.clone(), Occupant { user: user.to_owned() });
                    self.entered(core, user, &nick, has("201")).await;
                }
            }
            None => self.came(core, trace).await,
            Some("unavailable") => {
                let new = item.and_then(|item| item.attr("nick")).filter(|_| has("303"));
                if let Some(new) = new {
                    // [XEP-0045 §changenick] The presence under the new one follows.
                    if let Some(occupant) = self.there.remove(&nick) {
                        self.there.insert(new.to_owned(), occupant);
                    }
                    if is_own && let Some(seat) = self.seats.get_mut(user) {
                        new.clone_into(&mut seat.nick);
                        tables::sit(core, &self.address, user, new).await;
                    }
                } else if is_own {
                    if self.seats.contains_key(user) {
                        self.there.remove(&nick);
                        self.sent_out(core, user, stanza).await;
                    }
                } else {
                    let reason = item.and_then(|item| item.child_text("reason", ns::MUC_USER));
                    self.went(core, &nick, reason.as_deref()).await;
                }
            }
            Some(_) => {}
        }
    }

    /// As whom an occupant speaks here: as themselves, where the room shows who they are; or else by a name made of the id, or
    /// the nickname, that they have in that room alone.
    fn identity(&self, core: &Core, trace: Trace<'_>) -> Option<OwnedUserId> {
        let real = trace.jid.and_then(|jid| Jid::new(jid).ok()).map(|jid| jid.to_bare());
        let real = real.filter(|jid| self.knows(jid));
        // Nobody elsewhere says who speaks as somebody of ours, or of another network.
        if let Some(user) = real.and_then(|jid| core.person_of(&jid)).filter(|user| core.is_ghost(user)) {
            return Some(user);
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&core.secret).expect("a key of any length is good for HMAC");
        mac.update(self.address.as_str().as_bytes());
        let (kind, text) = trace.id.map_or((b"\0nick\0".as_slice(), trace.nick), |id| (b"\0id\0".as_slice(), id));
        mac.update(kind);
        mac.update(text.as_bytes());
        let name = data_encoding::BASE32_NOPAD.encode(&mac.finalize().into_bytes()[..20]).to_ascii_lowercase();
        UserId::parse(format!("@{HIDDEN}{name}:{}", core.rooms().server_name())).ok()
    }

    /// Whether the room is believed about whose address that is: of the people of its own server alone. Of others it says what it
    /// likes, and they would be heard here saying what they never said.
    fn knows(&self, jid: &BareJid) -> bool {
        let host = self.address.domain();
        // Rooms have a host below that of their server's people.
        let parent = host.split_once('.').map(|(_, parent)| parent);
        jid.domain() == host || Some(jid.domain()) == parent
    }

    async fn came(&mut self, core: &Arc<Core>, trace: Trace<'_>) {
        if let Some(occupant) = self.there.get(trace.nick) {
            let user = occupant.user.clone();
            return self.be_member(core, &user, trace.nick).await;
        }
        if self.there.len() >= OCCUPANTS_MAX {
            return;
        }
        let is_seat = |seat: &Seat| seat.nick == trace.nick || Some(seat.jid.as_str()) == trace.jid;
        if let Some((user, _)) = self.seats.iter().find(|(_, seat)| is_seat(seat)) {
            self.there.insert(trace.nick.to_owned(), Occupant { user: user.clone() });
            return;
        }
        let Some(user) = self.identity(core, trace) else { return };
        self.there.insert(trace.nick.to_owned(), Occupant { user: user.clone() });
        self.be_member(core, &user, trace.nick).await;
    }

    async fn went(&mut self, core: &Arc<Core>, nick: &str, reason: Option<&str>) {
        let Some(gone) = self.there.remove(nick) else { return };
        if self.there.values().any(|occupant| occupant.user == gone.user) || self.seats.contains_key(&gone.user) {
            return;
        }
        let Some(room) = self.room.clone().filter(|room| room.is_joined(&gone.user)) else { return };
        if let Err(error) = core.rooms().leave(&gone.user, room.id(), reason).await {
            tracing::debug!(room_id = %room.id(), reason = %error, "somebody who went stays in the mirror of a room");
        }
    }

    /// Makes somebody who is there a member under their nickname. People of ours come by themselves.
    async fn be_member(&self, core: &Arc<Core>, user: &UserId, nick: &str) {
        let Some(room) = self.room.as_ref().filter(|_| !core.is_account(user)) else { return };
        let done = match room.is_joined(user) {
            false => {
                let profile = Profile { displayname: Some(nick.to_owned()), avatar_url: None };
                core.rooms().join(user, room.id(), &profile, None, Map::new()).await
            }
            true => {
                let member = room.current("m.room.member", user.as_str()).ok().flatten();
                let shown = member.and_then(|member| member.event.content_field::<String>("displayname"));
                if shown.as_deref() == Some(nick) {
                    return;
                }
                let content =
                    to_raw_value(&json!({ "membership": "join", "displayname": nick })).expect("text is JSON");
                let sender = Sender { user, device: None };
                core.rooms().set_state(sender, room.id(), "m.room.member", user.as_str(), &content).await.map(drop)
            }
        };
        if let Err(error) = done {
            tracing::debug!(room_id = %room.id(), user_id = %user, reason = %error, "an occupant is no member of the mirror");
        }
    }

    /// All who are in the room were named: they are members, and nobody else of elsewhere is.
    pub(super) async fn all_are_here(&self, core: &Arc<Core>, room: &Arc<Room>) {
        for (nick, occupant) in &self.there {
            self.be_member(core, &occupant.user, nick).await;
        }
        let joined = room.joined_members().unwrap_or_default();
        for (user, _) in joined {
            let is_there = self.there.values().any(|occupant| occupant.user == user);
            if !is_there && user != self.mirror && !core.is_account(&user) {
                // Who is gone need not be told.
                let _ = core.rooms().leave(&user, room.id(), None).await;
            }
        }
    }

    async fn set_state(&self, core: &Arc<Core>, kind: &str, content: &Value) {
        let Some(room) = &self.room else { return };
        let content = to_raw_value(content).expect("text is JSON");
        let sender = Sender { user: &self.mirror, device: None };
        if let Err(error) = core.rooms().set_state(sender, room.id(), kind, "", &content).await {
            tracing::debug!(room_id = %room.id(), reason = %error, "what a room elsewhere is like is not shown in its mirror");
        }
    }

    /// What somebody of ours said was not taken there.
    async fn bounced(&mut self, core: &Arc<Core>, stanza: &Element, user: &UserId) {
        let Some(error) = stanza.child("error", ns::CLIENT) else { return };
        let Some(room) = self.room.clone() else { return };
        let event = stanza.id().and_then(|id| OwnedEventId::try_from(id).ok());
        let placed = event.and_then(|event| room.event(&event).ok().flatten());
        let Some(placed) = placed.filter(|placed| placed.event.sender() == user) else { return };
        if error.has_child("not-acceptable", ns::STANZA_ERRORS)
            && self.seats.get(user).is_some_and(|seat| seat.state == State::In)
        {
            // It does not know us any more, as after it began anew: we come back, and say it again.
            self.lost(core).await;
            return self.tell(core, &placed).await;
        }
        if placed.event.kind() == "m.room.topic"
            && let Some(before) = placed.replaces.as_ref().and_then(|id| room.event(id).ok().flatten())
        {
            let content: Value = serde_json::from_str(before.event.content().get()).unwrap_or_default();
            self.set_state(core, "m.room.topic", &content).await;
        }
        let condition = error.children().find(|child| child.ns() == ns::STANZA_ERRORS).map_or("unknown", Element::name);
        let why = error.child_text("text", ns::STANZA_ERRORS).unwrap_or_else(|| condition.replace('-', " "));
        let name = self.seats.get(user).map_or_else(|| user.to_string(), |seat| seat.nick.clone());
        let body = format!("What {name} said was not taken by {}: {why}", self.address);
        let relation = json!({ "m.in_reply_to": { "event_id": placed.event.event_id() } });
        let content = json!({ "msgtype": "m.notice", "body": body, "m.relates_to": relation });
        self.add(core, &room, (&self.mirror, "m.room.message", &content), None, None).await;
    }

    /// A message to all. [XEP-0045 §message]
    async fn message(&mut self, core: &Arc<Core>, stanza: &Element) {
        let Some(from) = stanza.attr("from").and_then(|from| Jid::new(from).ok()) else { return };
        let Some(room) = self.room.clone() else { return };
        if let Some(subject) = stanza.child("subject", ns::CLIENT).filter(|_| !stanza.has_child("body", ns::CLIENT)) {
            let (subject, shown) = (subject.text(), room.current("m.room.topic", "").ok().flatten());
            let shown = shown.and_then(|shown| shown.event.content_field::<String>("topic")).unwrap_or_default();
            if subject != shown {
                let text = json!([{ "body": subject, "mimetype": "text/plain" }]);
                let content = json!({ "topic": subject, "m.topic": { "m.text": text } });
                self.set_state(core, "m.room.topic", &content).await;
            }
            // With the subject ends what is told of before. [XEP-0045 §enter-subject]
            self.is_new = false;
            return;
        }
        let ours = |child: &&Element| {
            child.is("stanza-id", ns::STANZA_ID) && child.attr("by").is_some_and(|by| by == self.address.as_str())
        };
        let id = stanza.children().find(ours).and_then(Element::id).map(ToOwned::to_owned);
        if id.as_ref().is_some_and(|id| tables::event_named(core, &room, id).is_some()) {
            return;
        }
        let Some(nick) = from.resource() else { return self.said_by_room(core, &room, stanza).await };
        // What we said comes back: now it has a name that all there know.
        if let Some(event) = stanza.id().and_then(|id| OwnedEventId::try_from(id).ok())
            && let Some(placed) = room.event(&event).ok().flatten()
            && (self.seats.contains_key(placed.event.sender()) || room.is_joined(placed.event.sender()))
            && core.is_account(placed.event.sender())
        {
            // Once: a name that it has is not taken away again.
            if let Some(id) = id.as_ref().filter(|_| tables::name_of(core, &room, &event).is_none()) {
                tables::name(core, &room, &event, id).await;
            }
            return;
        }
        let delay = stanza.child("delay", ns::DELAY).and_then(|delay| delay.attr("stamp")).and_then(time::parse);
        // Of before, without a name: whether it is here already cannot be told, unless nothing is.
        if delay.is_some() && id.is_none() && !self.is_new {
            return;
        }
        // What somebody of ours said with an XMPP client went out through here: that it came back means that it was taken, once.
        let sent = stanza.id().and_then(|id| core.portals.sent.remove(&(self.address.clone(), id.to_owned())));
        let sent = sent.map(|(_, sent)| sent);
        if let Some(sent) = sent.filter(|sent| self.seats.contains_key(&sent.user) && room.is_joined(&sent.user)) {
            return self.said(core, &room, &sent.stanza, (&sent.user, nick), (id, None)).await;
        }
        let known = self.there.get(nick).map(|occupant| occupant.user.clone()).filter(|user| !core.is_account(user));
        let trace = Trace { nick, jid: None, id: stanza.child("occupant-id", ns::OCCUPANT_ID).and_then(Element::id) };
        let Some(sender) = known.filter(|_| delay.is_none()).or_else(|| self.identity(core, trace)) else { return };
        self.said(core, &room, stanza, (&sender, nick), (id, delay)).await;
    }

    /// The room itself speaks: what a moderator takes back. [XEP-0425] What it is like may have changed, too.
    async fn said_by_room(&self, core: &Arc<Core>, room: &Arc<Room>, stanza: &Element) {
        if let Some(retract) = stanza.child("retract", ns::RETRACT).filter(|retract| retract.has_ns(ns::MODERATE)) {
            let Some(event) = retract.id().and_then(|id| tables::event_named(core, room, id)) else { return };
            let reason = retract.child_text("reason", ns::RETRACT);
            let sender = Sender { user: &self.mirror, device: Some(DEVICE) };
            let txn = format!("moderated {event}");
            if let Err(error) = core.rooms().redact(sender, room.id(), &event, reason.as_deref(), Some(&txn)).await {
                tracing::debug!(room_id = %room.id(), reason = %error, "what was taken back elsewhere stays in the mirror");
            }
        }
    }

    async fn said(
        &self,
        core: &Arc<Core>,
        room: &Arc<Room>,
        stanza: &Element,
        (sender, nick): (&UserId, &str),
        (id, at): (Option<String>, Option<u64>),
    ) {
        if !message::lasts(stanza) {
            if let Some(state) = stanza.children().find(|child| child.ns() == ns::CHAT_STATES).filter(|_| at.is_none())
            {
                let time = (state.name() == "composing").then_some(COMPOSING_TIME);
                // Who is no member here does not type here.
                let _ = core.rooms().set_typing(sender, room.id(), time);
            }
            return;
        }
        if at.is_none() && !core.is_account(sender) {
            // Whoever says too much waits, and what is said in that room with them. It never fails for who may wait.
            let _ = crate::im::slow_down(core, sender, true).await;
        }
        self.be_member(core, sender, nick).await;
        let mut stanza = stanza.clone();
        stanza.retain_children(|child| child.ns() != ns::DELAY);
        let act = message::read(&stanza, &InMirror { core, room, address: &self.address, speaker: sender });
        match act {
            Act::Send { kind, content } => self.add(core, room, (sender, kind, &content), id, at).await,
            Act::Retract { target } => {
                let is_theirs =
                    room.event(&target).ok().flatten().is_some_and(|placed| placed.event.sender() == sender);
                if is_theirs {
                    self.redact(core, room, sender, &target).await;
                }
            }
            Act::React { target, keys } => {
                let had = known::reactions(room, sender, &target).unwrap_or_default();
                for (_, event) in had.iter().filter(|(key, _)| !keys.contains(key)) {
                    self.redact(core, room, sender, event).await;
                }
                for key in keys.iter().filter(|key| !had.iter().any(|(there, _)| there == *key)) {
                    let relation = json!({ "rel_type": "m.annotation", "event_id": target, "key": key });
                    let content = json!({ "m.relates_to": relation });
                    self.add(core, room, (sender, "m.reaction", &content), None, at).await;
                }
            }
            Act::Nothing => {}
        }
    }

    async fn redact(&self, core: &Arc<Core>, room: &Arc<Room>, sender: &UserId, event: &OwnedEventId) {
        let (sender, txn) = (Sender { user: sender, device: Some(DEVICE) }, format!("taken back {event}"));
        if let Err(error) = core.rooms().redact(sender, room.id(), event, None, Some(&txn)).await {
            tracing::debug!(room_id = %room.id(), reason = %error, "what was taken back elsewhere stays in the mirror");
        }
    }

    /// Adds an event for something that happened there; `id` is what the room calls it.
    async fn add(
        &self,
        core: &Arc<Core>,
        room: &Arc<Room>,
        (sender, kind, content): (&UserId, &str, &Value),
        id: Option<String>,
        at: Option<u64>,
    ) {
        let content = match to_raw_value(content) {
            Ok(content) => content,
            Err(error) => return tracing::debug!(reason = %error, "a message of a room elsewhere cannot be kept"),
        };
        let at = at.and_then(|at| at.try_into().ok()).map(MilliSecondsSinceUnixEpoch);
        let txn = id.clone().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let sender = Sender { user: sender, device: Some(DEVICE) };
        match core.rooms().send_at(sender, room.id(), (kind, &content), Some(&txn), at).await {
            Ok(event) => {
                if let Some(id) = id {
                    tables::name(core, room, &event, &id).await;
                }
            }
            Err(error) => {
                tracing::warn!(room_id = %room.id(), reason = %error, "what was said elsewhere is not in the mirror");
            }
        }
    }
}
