//! Who is in a room by XMPP, under which nickname, and what they are told. [XEP-0045 §user]

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, OnceLock, Weak},
};

use hmac::{Hmac, Mac as _};
use koine_projection::muc::{Affiliation, Role};
use koine_room::{Order, Room, RoomNo};
use koine_stanza::{BareJid, Element, Jid, ns};
use ruma_common::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use sha2::Sha256;

use super::{settings::Settings, user_x};
use crate::{
    core::Core,
    outbox::{Outgoing, Rendered},
    session::Session,
};

/// Members without a session here who are shown as occupants when somebody enters; others appear when they speak.
pub(super) const SHOWN_MEMBERS_MAX: usize = 200;
/// Most occupants of a room, whatever its settings say.
pub(super) const OCCUPANTS_MAX: usize = 20_000;

/// A room that somebody is in by XMPP.
pub(super) struct Hall {
    pub(super) no: RoomNo,
    pub(super) id: OwnedRoomId,
    /// Held while something is told, so that everybody is told everything in one order.
    pub(super) inside: tokio::sync::Mutex<Inside>,
}

/// Who is there.
#[derive(Default)]
pub(super) struct Inside {
    /// Nobody is let in but this one, who has not said yet how the room is to be. [XEP-0045 §createroom]
    pub(super) locked: Option<OwnedUserId>,
    pub(super) occupants: BTreeMap<String, Occupant>,
    nick_of: HashMap<Jid, String>,
    nicks_of: HashMap<OwnedUserId, Vec<String>>,
    /// Nicknames by what they look like.
    looks: HashMap<String, Vec<String>>,
    pub(super) settings: Settings,
    /// Up to where in the room these settings were told already, when somebody entered before the log told of them.
    pub(super) settings_at: i64,
    /// Nicknames that somebody has reserved.
    pub(super) reserved: HashMap<String, OwnedUserId>,
    /// Settings were read, and members shown.
    pub(super) ready: bool,
    /// Where in the room those levels stand by which everybody was shown last.
    pub(super) levels_at: Option<i64>,
    /// Everybody's affiliation, where somebody keeps the list.
    pub(super) affiliations: Option<super::versions::Affiliations>,
    /// Who wears which hat.
    pub(super) hats: super::hats::Hats,
    /// When people spoke, where the room is slow.
    pub(super) spoke: super::slow::Spoke,
}

/// Somebody under a nickname: somebody's sessions, or a member who is in the room by Matrix.
pub(super) struct Occupant {
    pub(super) user: OwnedUserId,
    pub(super) affiliation: Affiliation,
    pub(super) role: Role,
    /// Empty for who is here by Matrix alone.
    pub(super) seats: Vec<Seat>,
    /// Their occupant id, once it was told.
    id: OnceLock<String>,
}

impl Occupant {
    /// Somebody without a session.
    pub(super) fn new(user: &UserId, (affiliation, role): (Affiliation, Role)) -> Self {
        Self { user: user.to_owned(), affiliation, role, seats: Vec::new(), id: OnceLock::new() }
    }
}

/// One session of an occupant.
pub(super) struct Seat {
    /// The full address.
    pub(super) jid: Jid,
    /// The address by which it knows the room.
    pub(super) room: BareJid,
    /// What it said in its presence.
    pub(super) presence: Vec<Element>,
    /// It is told events after this one.
    pub(super) since: Order,
    /// The session, where it is one of ours.
    pub(super) session: Option<Weak<Session>>,
}

impl Hall {
    pub(super) fn new(room: &Room) -> Self {
        Self { no: room.no(), id: room.id().to_owned(), inside: tokio::sync::Mutex::default() }
    }
}

/// What a nickname looks like: the same for those that people cannot tell apart. (Unicode Technical Standard 39, section 4)
pub(super) fn look(nick: &str) -> String {
    unicode_security::confusable_detection::skeleton(nick).collect()
}

impl Inside {
    /// Somebody by nickname.
    pub(super) fn occupant(&self, nick: &str) -> Option<&Occupant> {
        self.occupants.get(nick)
    }

    /// The nickname of a session.
    pub(super) fn nick_of(&self, jid: &Jid) -> Option<&str> {
        self.nick_of.get(jid).map(String::as_str)
    }

    /// The nicknames of somebody.
    pub(super) fn nicks_of(&self, user: &UserId) -> &[String] {
        self.nicks_of.get(user).map(Vec::as_slice).unwrap_or_default()
    }

    /// The nickname under which somebody's words are shown: the one that they were said under while it is still theirs.
    pub(super) fn speaker(&self, user: &UserId, said: Option<&str>) -> Option<&str> {
        let nicks = self.nicks_of(user);
        let said = nicks.iter().find(|nick| Some(nick.as_str()) == said);
        said.or_else(|| nicks.first()).map(String::as_str)
    }

    /// Whether a nickname looks like that of somebody else in the room, though it is another.
    pub(super) fn looks_like_another(&self, nick: &str, user: &UserId) -> bool {
        let alike = self.looks.get(&look(nick)).into_iter().flatten();
        alike.filter(|there| *there != nick).any(|there| self.occupant(there).is_some_and(|other| other.user != *user))
    }

    /// How many people are there.
    pub(super) fn count(&self) -> usize {
        self.occupants.len()
    }

    /// Whether a session is there.
    pub(super) fn has_seats(&self) -> bool {
        !self.nick_of.is_empty()
    }

    /// Puts a session under a nickname.
    pub(super) fn seat(&mut self, nick: &str, user: &UserId, standing: (Affiliation, Role), seat: Seat) {
        self.nick_of.insert(seat.jid.clone(), nick.to_owned());
        self.add(nick, user, standing).seats.push(seat);
    }

    /// Adds somebody without a session.
    pub(super) fn add(&mut self, nick: &str, user: &UserId, standing: (Affiliation, Role)) -> &mut Occupant {
        let nicks = self.nicks_of.entry(user.to_owned()).or_default();
        if !nicks.iter().any(|there| there == nick) {
            nicks.push(nick.to_owned());
        }
        if !self.occupants.contains_key(nick) {
            self.looks.entry(look(nick)).or_default().push(nick.to_owned());
        }
        self.occupants.entry(nick.to_owned()).or_insert_with(|| Occupant::new(user, standing))
    }

    /// Takes somebody out with all their sessions.
    pub(super) fn remove(&mut self, nick: &str) -> Option<Occupant> {
        let gone = self.occupants.remove(nick)?;
        if let Entry::Occupied(mut alike) = self.looks.entry(look(nick)) {
            alike.get_mut().retain(|there| there != nick);
            if alike.get().is_empty() {
                alike.remove();
            }
        }
        for seat in &gone.seats {
            self.nick_of.remove(&seat.jid);
        }
        if let Some(nicks) = self.nicks_of.get_mut(&gone.user) {
            nicks.retain(|there| there != nick);
            if nicks.is_empty() {
                self.nicks_of.remove(&gone.user);
            }
        }
        Some(gone)
    }

    /// Takes one session out, and its occupant if it was the last; the nickname, the seat, and whether the occupant is gone.
    pub(super) fn unseat(&mut self, jid: &Jid) -> Option<(String, Occupant, bool)> {
        let nick = self.nick_of.remove(jid)?;
        let occupant = self.occupants.get_mut(&nick)?;
        let at = occupant.seats.iter().position(|seat| seat.jid == *jid)?;
        let seat = occupant.seats.remove(at);
        let mut left = Occupant::new(&occupant.user, (occupant.affiliation, occupant.role));
        left.seats.push(seat);
        let last = occupant.seats.is_empty();
        if last {
            self.remove(&nick);
        }
        Some((nick, left, last))
    }

    /// Every session with its occupant.
    pub(super) fn seats(&self) -> impl Iterator<Item = (&str, &Occupant, &Seat)> {
        self.occupants
            .iter()
            .flat_map(|(nick, occupant)| occupant.seats.iter().map(move |seat| (nick.as_str(), occupant, seat)))
    }
}

/// A change of presence, as it is told to everybody.
#[derive(Clone, Copy, Default)]
pub(super) struct Notice<'a> {
    /// They go.
    pub(super) gone: bool,
    /// Status codes for everybody, beside those of the seat itself.
    pub(super) codes: &'a [u16],
    /// Status codes for the session that it is about.
    pub(super) own_codes: &'a [u16],
    /// Their new nickname.
    pub(super) new_nick: Option<&'a str>,
    /// Who did this.
    pub(super) actor: Option<&'a str>,
    /// Why.
    pub(super) reason: Option<&'a str>,
    /// The id of the stanza that this answers, for the session that sent it.
    pub(super) id: Option<&'a str>,
    /// A child of `x` beside the item, such as `<destroy/>`.
    pub(super) extra: Option<&'a Element>,
}

impl Hall {
    /// The presence of somebody for one session. `about` is the seat it tells of, `None` for who is here by Matrix.
    pub(super) fn presence(
        &self,
        core: &Core,
        inside: &Inside,
        (nick, occupant, about): (&str, &Occupant, Option<&Seat>),
        (viewer, seat): (&Occupant, &Seat),
        notice: Notice<'_>,
    ) -> Element {
        let is_self = about.is_some() && std::ptr::eq(viewer, occupant);
        let shows_jid = !inside.settings.own.semi_anonymous || viewer.role == Role::Moderator || is_self;
        let real = || match about {
            Some(about) => Some(about.jid.to_string()),
            None => core.address_of(&occupant.user).map(|jid| format!("{jid}/matrix")),
        };
        let role = if notice.gone && notice.new_nick.is_none() { Role::None } else { occupant.role };
        let mut item = Element::new("item", ns::MUC_USER)
            .with_attr("affiliation", occupant.affiliation.as_str())
            .with_attr("role", role.as_str());
        if shows_jid {
            item.set_attr("jid", real());
        }
        item.set_attr("nick", notice.new_nick);
        if let Some(actor) = notice.actor {
            item.push(Element::new("actor", ns::MUC_USER).with_attr("nick", actor));
        }
        if let Some(reason) = notice.reason {
            item.push(Element::text_of("reason", ns::MUC_USER, reason));
        }
        let mut codes = notice.codes.to_vec();
        if is_self {
            codes.push(110);
            codes.extend_from_slice(notice.own_codes);
        }
        let mut x = Element::new("x", ns::MUC_USER).with_child(item).with_child_opt(notice.extra.cloned());
        for code in user_x(&codes).take_children() {
            x.push(code);
        }
        let mut presence = Element::new("presence", ns::CLIENT)
            .with_attr("from", format!("{}/{nick}", seat.room))
            .with_attr("to", seat.jid.to_string());
        if notice.gone {
            presence.set_attr("type", Some("unavailable"));
        }
        if about.is_some_and(|about| about.jid == seat.jid) {
            presence.set_attr("id", notice.id);
        }
        if let Some(about) = about {
            presence = presence.with_children(about.presence.iter().cloned());
        }
        let id = occupant.id.get_or_init(|| occupant_id(core, &self.id, &occupant.user));
        let hats = super::hats::shown(&inside.hats, &occupant.user).filter(|_| !notice.gone);
        presence
            .with_child_opt(hats)
            .with_child(x)
            .with_child(Element::new("occupant-id", ns::OCCUPANT_ID).with_attr("id", id.as_str()))
    }

    /// Takes somebody out with all their sessions, who say nothing of themselves any more.
    pub(super) fn take_out(&self, core: &Core, inside: &mut Inside, nick: &str) -> Option<Occupant> {
        let mut gone = inside.remove(nick)?;
        for seat in &mut gone.seats {
            core.muc.forget(&seat.jid, self.no);
            seat.presence.clear();
        }
        Some(gone)
    }

    /// Tells everybody of a change of somebody's presence, themselves last, also when they are out already.
    /// [XEP-0045 §enter-pres]
    pub(super) async fn announce(
        &self,
        core: &Arc<Core>,
        inside: &Inside,
        whom: (&str, &Occupant),
        notice: Notice<'_>,
    ) {
        let (nick, occupant) = whom;
        // A nickname with several sessions is presented as the one that spoke last.
        let about = occupant.seats.last();
        self.tell_others(core, inside, (nick, occupant, about), None, notice).await;
        for seat in &occupant.seats {
            let presence = self.presence(core, inside, (nick, occupant, about), (occupant, seat), notice);
            tell(core, seat, presence).await;
        }
    }

    /// Tells everybody but themselves, and but one session, of a change of somebody's presence. It is written once for each
    /// name that the room is entered by, and for moderators, who may see more.
    pub(super) async fn tell_others(
        &self,
        core: &Arc<Core>,
        inside: &Inside,
        whom: (&str, &Occupant, Option<&Seat>),
        but: Option<&Jid>,
        notice: Notice<'_>,
    ) {
        let mut written: Vec<(&BareJid, bool, Arc<Rendered>)> = Vec::new();
        for (_, viewer, seat) in inside.seats() {
            if std::ptr::eq(viewer, whom.1) || Some(&seat.jid) == but {
                continue;
            }
            let sees_more = viewer.role == Role::Moderator;
            let known = written.iter().find(|(room, more, _)| **room == seat.room && *more == sees_more);
            let presence = known.map(|(_, _, presence)| presence.clone()).unwrap_or_else(|| {
                let mut presence = self.presence(core, inside, whom, (viewer, seat), notice);
                presence.set_attr("to", None::<String>);
                let presence = Rendered::new(&presence);
                written.push((&seat.room, sees_more, presence.clone()));
                presence
            });
            tell_shared(core, seat, &presence).await;
        }
    }

    /// Who is who, whatever the nickname. [XEP-0421 §id-generation]: of a key of the server, the room and the person.
    pub(super) fn occupant_id(&self, core: &Core, user: &UserId) -> Element {
        Element::new("occupant-id", ns::OCCUPANT_ID).with_attr("id", occupant_id(core, &self.id, user))
    }
}

/// The id of somebody in a room. [XEP-0421]
pub(super) fn occupant_id(core: &Core, room: &RoomId, user: &UserId) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&core.secret).expect("a key of any length is good for HMAC");
    mac.update(room.as_bytes());
    mac.update(b"\0");
    mac.update(user.as_bytes());
    data_encoding::BASE32_NOPAD.encode(&mac.finalize().into_bytes()).to_ascii_lowercase()
}

/// Tells those sessions that `concerns` says of what differs only in the name by which they know the room, of which there is mostly
/// one: it is made and written as XML once for each.
pub(super) async fn tell_alike(
    core: &Arc<Core>,
    inside: &Inside,
    concerns: impl Fn(&Seat) -> bool,
    make: impl Fn(&Seat) -> Element,
) {
    let mut written: Vec<(&BareJid, Arc<Rendered>)> = Vec::new();
    for (_, _, seat) in inside.seats().filter(|(_, _, seat)| concerns(seat)) {
        let known = written.iter().find(|(room, _)| **room == seat.room).map(|(_, stanza)| stanza.clone());
        let stanza = known.unwrap_or_else(|| {
            let mut stanza = make(seat);
            stanza.set_attr("to", None::<String>);
            let stanza = Rendered::new(&stanza);
            written.push((&seat.room, stanza.clone()));
            stanza
        });
        tell_shared(core, seat, &stanza).await;
    }
}

/// Sends a stanza without `to`, which many get, to one session of them.
async fn tell_shared(core: &Arc<Core>, seat: &Seat, stanza: &Arc<Rendered>) {
    match &seat.session {
        Some(session) => {
            if let Some(session) = session.upgrade() {
                session.send_shared(stanza);
            }
        }
        None => {
            if let Some(stanza) = Outgoing::addressed(stanza).element(seat.jid.as_str()) {
                core.deliver(stanza).await;
            }
        }
    }
}

/// Sends to one session.
pub(super) async fn tell(core: &Arc<Core>, seat: &Seat, stanza: Element) {
    match &seat.session {
        Some(session) => {
            if let Some(session) = session.upgrade() {
                session.send(stanza);
            }
        }
        None => core.deliver(stanza).await,
    }
}
