//! The task of one room elsewhere: who of ours is in it, comes back to it, and goes. [XEP-0045 §user]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use koine_room::{CommandError, CreateRoom, Preset, Profile, Room};
use koine_stanza::{BareJid, Element, Jid, ns};
use ruma_common::{OwnedRoomId, OwnedUserId, RoomAliasId, RoomVersionId, UserId};
use serde_json::{Map, json};
use tokio::sync::{mpsc, oneshot};

use super::{RESOURCE, Word, inward::Occupant, mirror, tables};
use crate::{core::Core, time};

/// Most people of ours in one room elsewhere.
const SEATS_MAX: usize = 1_000;
/// Most occupants of a room elsewhere that are known.
pub(super) const OCCUPANTS_MAX: usize = 20_000;
/// Longest that a room elsewhere takes to let somebody in.
const ENTER_TIME: Duration = Duration::from_secs(40);
/// Nicknames that are tried when others have them already.
const NICKS_MAX: u32 = 5;
/// Messages of before that a room elsewhere is asked for when it is mirrored first.
const HISTORY: &str = "30";
/// After so long without a word of it, a room elsewhere is asked whether we are still in it. [XEP-0410]
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// How often is looked what is due.
const TICK: Duration = Duration::from_secs(5);
/// First and longest wait before trying again to come back.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// Most messages that wait for somebody of ours to be in the room again.
const UNSENT_MAX: usize = 100;
/// The id of the question whether somebody is still in the room.
pub(super) const PING: &str = "koine.portal.ping";
/// The id of the question what the room is called.
pub(super) const INFO: &str = "koine.portal.info";
/// The id of the question whether there is such a room: entering one that is not there makes it.
pub(super) const LOOK: &str = "koine.portal.look";

type Reply = oneshot::Sender<Result<OwnedRoomId, CommandError>>;

/// Somebody of ours in the room elsewhere, or on the way.
pub(super) struct Seat {
    /// Their address.
    pub(super) jid: Jid,
    pub(super) nick: String,
    pub(super) state: State,
    /// Who waits for it.
    replies: Vec<Reply>,
    /// Nicknames that were taken, or attempts to come back that went wrong.
    tries: u32,
    /// They were in it before: a server that is away for a while does not end that.
    returns: bool,
    pub(super) unsent: VecDeque<Element>,
}

/// How far somebody is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Asked to be let in at that moment.
    Entering(Instant),
    In,
    /// Tries again at that moment.
    Waiting(Instant),
}

pub(super) struct Worker {
    pub(super) address: BareJid,
    /// The room elsewhere as somebody here.
    pub(super) mirror: OwnedUserId,
    /// The room that mirrors it, once there is one.
    pub(super) room: Option<Arc<Room>>,
    pub(super) seats: BTreeMap<OwnedUserId, Seat>,
    /// Who is there, by nickname.
    pub(super) there: HashMap<String, Occupant>,
    /// The mirror was made just now: all that the room tells of before is new.
    pub(super) is_new: bool,
    heard: Instant,
    pinged: Option<Instant>,
}

/// Starts the task; it ends with the program.
pub(super) fn start(core: &Arc<Core>, address: BareJid, mut words: mpsc::Receiver<Word>) {
    let weak = Arc::downgrade(core);
    let Some(mirror) = mirror(core, &address) else { return };
    tokio::spawn(async move {
        let (seats, there) = (BTreeMap::new(), HashMap::new());
        let mut worker =
            Worker { address, mirror, room: None, seats, there, is_new: false, heard: Instant::now(), pinged: None };
        let mut tick = tokio::time::interval(TICK);
        loop {
            let word = tokio::select! {
                word = words.recv() => match word {
                    Some(word) => Some(word),
                    None => return,
                },
                _ = tick.tick() => None,
            };
            let Some(core) = Weak::upgrade(&weak) else { return };
            match word {
                Some(word) => worker.take(&core, word).await,
                None => worker.look(&core).await,
            }
        }
    });
}

impl Worker {
    async fn take(&mut self, core: &Arc<Core>, word: Word) {
        match word {
            Word::Enter { user, reply } => self.enter(core, user, reply).await,
            Word::Return { user, nick } => {
                self.find_room(core);
                if self.sit(core, &user, nick, true).is_some() {
                    self.ask_in(core, &user).await;
                }
            }
            Word::Stanza { stanza, user } => {
                self.heard = Instant::now();
                self.pinged = None;
                self.hear(core, &stanza, &user).await;
            }
            Word::Doubt => self.doubt(core).await,
            Word::Happened { placed } => self.tell(core, &placed).await,
        }
    }

    /// The room that mirrors this one, if it was made before.
    fn find_room(&mut self, core: &Core) {
        if self.room.is_none() {
            let rooms = core.portals.rooms.read();
            let id = rooms.iter().find(|(_, address)| **address == self.address).map(|(id, _)| id.clone());
            drop(rooms);
            self.room = id.and_then(|id| core.rooms().room(&id).ok());
        }
    }

    async fn enter(&mut self, core: &Arc<Core>, user: OwnedUserId, reply: Reply) {
        self.find_room(core);
        if let Some(seat) = self.seats.get_mut(&user) {
            match (seat.state, &self.room) {
                (State::In, Some(room)) => drop(reply.send(Ok(room.id().to_owned()))),
                _ => seat.replies.push(reply),
            }
            return;
        }
        if self.seats.len() >= SEATS_MAX || core.jid_of(&user).is_none() {
            let full = "as many people of this server as may be are in that room";
            return drop(reply.send(Err(CommandError::Forbidden(full.into()))));
        }
        let name = core.profile_of(&user).displayname.unwrap_or_default();
        let name = Some(name.trim()).filter(|name| !name.is_empty() && name.len() <= 200);
        let fits = name.and_then(|name| koine_stanza::resource_part(name).ok());
        let nick = fits.map_or_else(|| user.localpart().to_owned(), std::borrow::Cow::into_owned);
        let Some(jid) = self.sit(core, &user, nick, false) else { return };
        if let Some(seat) = self.seats.get_mut(&user) {
            seat.replies.push(reply);
        }
        match self.room.is_some() {
            true => self.ask_in(core, &user).await,
            false => self.question(core, &jid, LOOK).await,
        }
    }

    /// Asks the room what it is.
    async fn question(&self, core: &Arc<Core>, jid: &Jid, id: &str) {
        let question = Element::new("iq", ns::CLIENT)
            .with_attr("from", jid.to_string())
            .with_attr("to", self.address.to_string())
            .with_attr("type", "get")
            .with_attr("id", id)
            .with_child(Element::new("query", ns::DISCO_INFO));
        Box::pin(core.send_elsewhere(question)).await;
    }

    /// Somebody is on the way; their address.
    fn sit(&mut self, core: &Core, user: &UserId, nick: String, returns: bool) -> Option<Jid> {
        let jid: Jid = core.jid_of(user)?.with_resource(RESOURCE).ok()?.into();
        let state = State::Entering(Instant::now());
        let (replies, unsent) = (Vec::new(), VecDeque::new());
        let seat = Seat { jid: jid.clone(), nick, state, replies, tries: 0, returns, unsent };
        self.seats.insert(user.to_owned(), seat);
        Some(jid)
    }

    /// Asks to be let in. [XEP-0045 §enter]
    pub(super) async fn ask_in(&mut self, core: &Arc<Core>, user: &UserId) {
        let is_first = !self.seats.values().any(|seat| seat.state == State::In);
        let mut history = Element::new("history", ns::MUC);
        let last = self.room.as_ref().map(|room| room.newest(i64::MIN, room.published().order, 1));
        let last = last.and_then(|last| Some(last.ok()?.first()?.event.origin_server_ts().get().into()));
        match (is_first, last) {
            (false, _) => history.set_attr("maxstanzas", Some("0")),
            (true, Some(last)) => history.set_attr("since", Some(time::format(last))),
            (true, None) => history.set_attr("maxstanzas", Some(HISTORY)),
        }
        if is_first {
            self.there.clear();
        }
        let Some(seat) = self.seats.get_mut(user) else { return };
        seat.state = State::Entering(Instant::now());
        let presence = Element::new("presence", ns::CLIENT)
            .with_attr("from", seat.jid.to_string())
            .with_attr("to", format!("{}/{}", self.address, seat.nick))
            .with_child(Element::new("x", ns::MUC).with_child(history));
        Box::pin(core.send_elsewhere(presence)).await;
    }

    /// They are in. [XEP-0045 §enter-pres]
    pub(super) async fn entered(&mut self, core: &Arc<Core>, user: &UserId, nick: &str, is_new: bool) {
        let is_first = !self.seats.values().any(|seat| seat.state == State::In);
        let Some(seat) = self.seats.get_mut(user).filter(|seat| seat.state != State::In) else { return };
        if is_new && !seat.returns {
            // [XEP-0045 §createroom] Nobody was there: it goes as it came.
            let gone = self.seats.remove(user);
            if let Some(mut seat) = gone {
                self.send_unavailable(core, &seat.jid, nick).await;
                answer(&mut seat.replies, || Err(CommandError::NoSuchAlias(self.address.to_string())));
            }
            return;
        }
        if is_new {
            // It was forgotten there while we were away: as it comes, it will do. [XEP-0045 §createroom-instant]
            let form = Element::new("x", ns::DATA_FORMS).with_attr("type", "submit");
            let unlock = Element::new("iq", ns::CLIENT)
                .with_attr("from", seat.jid.to_string())
                .with_attr("to", self.address.to_string())
                .with_attr("type", "set")
                .with_attr("id", "koine.portal.unlock")
                .with_child(Element::new("query", ns::MUC_OWNER).with_child(form));
            Box::pin(core.send_elsewhere(unlock)).await;
        }
        nick.clone_into(&mut seat.nick);
        (seat.state, seat.tries, seat.returns) = (State::In, 0, true);
        let made = match &self.room {
            Some(_) => Ok(()),
            None => self.make_room(core).await,
        };
        let Some(seat) = self.seats.get_mut(user) else { return };
        let room = match (made, &self.room) {
            (Ok(()), Some(room)) => room.clone(),
            (failed, _) => {
                let reason = failed.err().map_or_else(String::new, |error| error.to_string());
                tracing::error!(room = %self.address, reason, "a room elsewhere cannot be mirrored");
                let (jid, mut replies) = (seat.jid.clone(), std::mem::take(&mut seat.replies));
                self.seats.remove(user);
                self.send_unavailable(core, &jid, nick).await;
                return answer(&mut replies, || Err(CommandError::NotReachable));
            }
        };
        tables::sit(core, &self.address, user, nick).await;
        answer(&mut seat.replies, || Ok(room.id().to_owned()));
        let unsent = std::mem::take(&mut seat.unsent);
        let jid = seat.jid.clone();
        if is_first {
            self.all_are_here(core, &room).await;
            self.question(core, &jid, INFO).await;
        }
        for message in unsent {
            Box::pin(core.send_elsewhere(message)).await;
        }
    }

    /// The room that mirrors this one. Nobody of another server may come in: whoever joins has come in elsewhere.
    async fn make_room(&mut self, core: &Arc<Core>) -> Result<(), CommandError> {
        let alias = format!("#{}:{}", self.mirror.localpart(), core.rooms().server_name());
        let alias = RoomAliasId::parse(alias).map_err(|error| CommandError::InvalidParam(error.to_string()))?;
        let name = self.address.node().unwrap_or_default().to_owned();
        let levels = json!({ "users": { self.mirror.as_str(): 100 }, "invite": 0, "events": {
            "m.room.topic": 0, "m.room.name": 100, "m.room.power_levels": 100, "m.room.history_visibility": 100,
            "m.room.canonical_alias": 100, "m.room.tombstone": 100, "m.room.server_acl": 100, "m.room.encryption": 100,
            "m.room.join_rules": 100, "m.room.avatar": 100,
        } });
        let new = CreateRoom {
            creator: self.mirror.clone(),
            profile: Profile { displayname: Some(self.address.to_string()), avatar_url: None },
            version: RoomVersionId::V11,
            preset: Preset::PublicChat,
            creation_content: Map::from_iter([("m.federate".to_owned(), json!(false))]),
            power_levels: levels.as_object().cloned().unwrap_or_default(),
            initial_state: Vec::new(),
            name: Some(name),
            topic: None,
            alias: Some(alias),
            invite: Vec::new(),
            is_direct: false,
            listed: false,
        };
        let id = core.rooms().create(new).await?;
        let room = core.rooms().room(&id)?;
        core.portals.rooms.write().insert(id, self.address.clone());
        tables::keep(core, &self.address, &room).await;
        (self.room, self.is_new) = (Some(room), true);
        Ok(())
    }

    /// They were not let in. [XEP-0045 §enter-conflict and before]
    pub(super) async fn refused(&mut self, core: &Arc<Core>, user: &UserId, error: &Element) {
        let condition = error.children().find(|child| child.ns() == ns::STANZA_ERRORS && child.name() != "text");
        let condition = condition.map_or("undefined-condition", Element::name).to_owned();
        let text = error.child_text("text", ns::STANZA_ERRORS);
        let Some(seat) = self.seats.get_mut(user) else { return };
        if condition == "conflict" && seat.tries < NICKS_MAX {
            seat.tries += 1;
            seat.nick.push('_');
            return self.ask_in(core, user).await;
        }
        let passes = matches!(
            &*condition,
            "remote-server-not-found" | "remote-server-timeout" | "resource-constraint" | "service-unavailable"
        ) || error.kind() == Some("wait");
        if passes && seat.returns {
            return self.wait(user);
        }
        let at = &self.address;
        let words = match &*condition {
            "registration-required" => format!("{at} is for members only, and you are none"),
            "not-authorized" => format!("{at} asks for a password, which cannot be given here"),
            "forbidden" => format!("you are banned from {at}"),
            "conflict" => format!("your name is taken in {at}, and so are others like it"),
            "service-unavailable" => format!("{at} is full, or takes nobody"),
            "not-acceptable" => format!("{at} does not take your name"),
            "not-allowed" => format!("{at} does not exist, and you may not make it"),
            "item-not-found" | "gone" => format!("{at} does not exist, or is locked"),
            other => format!("{at} does not let you in: {other}"),
        };
        let said = text
            .filter(|text| !text.trim().is_empty())
            .map_or_else(|| words.clone(), |text| format!("{words} ({text})"));
        let refusal = || {
            Err(match &*condition {
                "remote-server-not-found" | "remote-server-timeout" => CommandError::NotReachable,
                "item-not-found" | "gone" | "not-allowed" => CommandError::NoSuchAlias(at.to_string()),
                _ => CommandError::Forbidden(said.clone()),
            })
        };
        let mut replies = std::mem::take(&mut seat.replies);
        let returns = seat.returns;
        answer(&mut replies, refusal);
        match returns {
            true => self.end(core, user, &said).await,
            false => drop(self.seats.remove(user)),
        }
    }

    /// Tries again later.
    fn wait(&mut self, user: &UserId) {
        let Some(seat) = self.seats.get_mut(user) else { return };
        let wait = WAIT.0.saturating_mul(1 << seat.tries.min(10)).min(WAIT.1);
        seat.tries += 1;
        seat.state = State::Waiting(Instant::now() + wait);
    }

    /// They are in the room elsewhere no more, and so they are not in this one. [XEP-0045 §kick] [XEP-0045 §ban]
    pub(super) async fn end(&mut self, core: &Arc<Core>, user: &UserId, reason: &str) {
        self.seats.remove(user);
        tables::stand_up(core, &self.address, user).await;
        let Some(room) = self.room.clone().filter(|room| room.is_joined(user)) else { return };
        if let Err(error) = core.rooms().kick(&self.mirror, room.id(), user, Some(reason)).await {
            tracing::warn!(room_id = %room.id(), reason = %error, "somebody stays in the mirror of a room that they left");
        }
    }

    /// Somebody of ours was sent out, or the room ended; what it says of that.
    pub(super) async fn sent_out(&mut self, core: &Arc<Core>, user: &UserId, presence: &Element) {
        let x = presence.child("x", ns::MUC_USER);
        let has = |code: &str| {
            x.is_some_and(|x| x.children().any(|child| child.name() == "status" && child.attr("code") == Some(code)))
        };
        let item = x.and_then(|x| x.child("item", ns::MUC_USER));
        let destroy = x.and_then(|x| x.child("destroy", ns::MUC_USER));
        let reason = destroy.or(item).and_then(|told| told.child_text("reason", ns::MUC_USER)).unwrap_or_default();
        let why = match () {
            () if destroy.is_some() => {
                let on = destroy.and_then(|destroy| destroy.attr("jid"));
                on.map_or_else(
                    || "the room was closed".to_owned(),
                    |on| format!("the room was closed; it goes on at {on}"),
                )
            }
            () if has("301") => "banned from the room".to_owned(),
            () if has("307") && !has("333") => "removed from the room".to_owned(),
            () if has("321") || has("322") => "the room is for members only now".to_owned(),
            // Its server ends, or has lost us: we come back.
            () => {
                self.there.remove(&self.seats.get(user).map(|seat| seat.nick.clone()).unwrap_or_default());
                return self.wait(user);
            }
        };
        let said = if reason.is_empty() { why } else { format!("{why}: {reason}") };
        self.end(core, user, &said).await;
    }

    /// They left here, and so they leave there.
    pub(super) async fn leave(&mut self, core: &Arc<Core>, user: &UserId) {
        let Some(seat) = self.seats.remove(user) else { return };
        tables::stand_up(core, &self.address, user).await;
        self.there.remove(&seat.nick);
        self.send_unavailable(core, &seat.jid, &seat.nick).await;
    }

    async fn send_unavailable(&self, core: &Arc<Core>, jid: &Jid, nick: &str) {
        let presence = Element::new("presence", ns::CLIENT)
            .with_attr("from", jid.to_string())
            .with_attr("to", format!("{}/{nick}", self.address))
            .with_attr("type", "unavailable");
        Box::pin(core.send_elsewhere(presence)).await;
    }

    /// A message of somebody of ours goes out, or waits until they are in.
    pub(super) async fn send(&mut self, core: &Arc<Core>, user: &UserId, message: Element) {
        let Some(seat) = self.seats.get_mut(user) else { return };
        if seat.state == State::In {
            return Box::pin(core.send_elsewhere(message)).await;
        }
        if seat.unsent.len() < UNSENT_MAX {
            seat.unsent.push_back(message);
        }
    }

    /// Nobody of ours is in the room any more, as far as it says: all come back.
    pub(super) async fn lost(&mut self, core: &Arc<Core>) {
        let users: Vec<_> =
            self.seats.iter().filter(|(_, seat)| seat.state == State::In).map(|(user, _)| user.clone()).collect();
        for user in &users {
            if let Some(seat) = self.seats.get_mut(user) {
                seat.state = State::Waiting(Instant::now());
            }
        }
        for user in &users {
            self.ask_in(core, user).await;
        }
    }

    /// Who of ours hears what is said there: it comes to each of them, and is taken once.
    pub(super) fn ears(&self) -> Option<&OwnedUserId> {
        self.seats.iter().find(|(_, seat)| seat.state == State::In).map(|(user, _)| user)
    }

    /// What is due.
    async fn look(&mut self, core: &Arc<Core>) {
        let now = Instant::now();
        let due = |wanted: fn(State, Instant) -> bool| {
            move |(user, seat): (&OwnedUserId, &Seat)| wanted(seat.state, now).then(|| user.clone())
        };
        let again: Vec<_> =
            self.seats.iter().filter_map(due(|state, now| matches!(state, State::Waiting(at) if at <= now))).collect();
        for user in again {
            self.ask_in(core, &user).await;
        }
        let late: Vec<_> = self
            .seats
            .iter()
            .filter_map(due(|state, now| matches!(state, State::Entering(since) if now - since > ENTER_TIME)))
            .collect();
        for user in late {
            let Some(seat) = self.seats.get_mut(&user) else { continue };
            answer(&mut seat.replies, || Err(CommandError::NotReachable));
            match seat.returns {
                true => self.wait(&user),
                false => drop(self.seats.remove(&user)),
            }
        }
        if self.pinged.is_some_and(|at| now - at > ENTER_TIME) {
            self.pinged = None;
            self.heard = now;
            return self.lost(core).await;
        }
        if now - self.heard > SILENCE_MAX {
            self.ping(core).await;
        }
    }

    /// A connection has ended: what was asked by it may never be answered, and is asked again.
    async fn doubt(&mut self, core: &Arc<Core>) {
        let asked = |seat: &Seat| seat.returns && matches!(seat.state, State::Entering(_));
        let asked: Vec<_> = self.seats.iter().filter(|(_, seat)| asked(seat)).map(|(user, _)| user.clone()).collect();
        for user in asked {
            self.wait(&user);
        }
        self.pinged = None;
        self.ping(core).await;
    }

    /// Asks whether we are still in the room. [XEP-0410]
    async fn ping(&mut self, core: &Arc<Core>) {
        let Some(seat) = self.ears().and_then(|user| self.seats.get(user)).filter(|_| self.pinged.is_none()) else {
            return;
        };
        let ping = Element::new("iq", ns::CLIENT)
            .with_attr("from", seat.jid.to_string())
            .with_attr("to", format!("{}/{}", self.address, seat.nick))
            .with_attr("type", "get")
            .with_attr("id", PING)
            .with_child(Element::new("ping", ns::PING));
        self.pinged = Some(Instant::now());
        Box::pin(core.send_elsewhere(ping)).await;
    }
}

fn answer(replies: &mut Vec<Reply>, with: impl Fn() -> Result<OwnedRoomId, CommandError>) {
    for reply in replies.drain(..) {
        // Who does not wait any more need not know.
        let _ = reply.send(with());
    }
}
