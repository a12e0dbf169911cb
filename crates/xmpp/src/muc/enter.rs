//! Entering a room, changing nickname and availability there, and leaving. [XEP-0045 §enter] [XEP-0045 §exit]

use std::sync::Arc;

use koine_graph::Membership;
use koine_projection::muc::{self as standing_of, Affiliation, Role, SETTINGS};
use koine_room::{CommandError, CreateRoom, InitialState, Preset, Profile, Room};
use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, json};

use super::{
    hall::{Hall, Inside, Notice, OCCUPANTS_MAX, Occupant, SHOWN_MEMBERS_MAX, Seat, tell},
    happened, history, name, refused,
    settings::{Own, Settings},
    standing, unreadable, user_x, versions,
};
use crate::{core::Core, session::Session};

/// Longest nickname, in bytes.
pub(super) const NICK_BYTES_MAX: usize = 256;
/// Rooms made from XMPP have the version that new rooms of Matrix clients have.
const ROOM_VERSION: RoomVersionId = RoomVersionId::V11;

/// Takes a presence for a room or for somebody in it.
pub(crate) async fn presence(
    core: &Arc<Core>,
    stanza: &Element,
    from: &Jid,
    to: &Jid,
    session: Option<&Arc<Session>>,
) -> Result<(), StanzaError> {
    match stanza.kind() {
        None => available(core, stanza, from, to, session).await.map_err(|error| error.with_by(&to.to_bare())),
        Some("unavailable") => {
            let Some(room) = name::room(core, &to.to_bare())? else { return Ok(()) };
            if let Some(hall) = core.muc.hall(room.no()) {
                let status = stanza.children().filter(|child| child.is("status", ns::CLIENT)).cloned().collect();
                leave(core, &hall, &room, from, (stanza.id(), status)).await;
            }
            Ok(())
        }
        // [XEP-0045 §impl-service-ghosts] Whoever cannot be reached is not there.
        Some("error") => {
            if let Some(room) = name::room(core, &to.to_bare())?
                && let Some(hall) = core.muc.hall(room.no())
            {
                end_seat(core, &hall, from, vec![333]).await;
            }
            Ok(())
        }
        // Neither probes nor subscriptions are requests to enter or leave. [XEP-0045 §bizrules-presence]
        Some(_) => Ok(()),
    }
}

async fn available(
    core: &Arc<Core>,
    stanza: &Element,
    from: &Jid,
    to: &Jid,
    session: Option<&Arc<Session>>,
) -> Result<(), StanzaError> {
    let joins = stanza.has_child("x", ns::MUC);
    let Some(nick) = to.resource() else {
        return Err(StanzaError::new(Condition::JidMalformed, "to enter a room, send presence to room/nickname"));
    };
    let nick = nick.to_string();
    if nick.trim().is_empty() || nick.len() > NICK_BYTES_MAX {
        return Err(StanzaError::new(Condition::NotAcceptable, "a nickname is not blank and has at most 256 bytes"));
    }
    let Some(user) = core.person_of(&from.to_bare()) else {
        return Err(StanzaError::new(Condition::JidMalformed, "this address cannot be in a room"));
    };
    crate::im::slow_down(core, &user, session.is_some()).await?;
    let address = to.to_bare();
    let (room, made) = match name::room(core, &address)? {
        Some(room) => (room, false),
        None if joins => make(core, &address, &user, &nick, session.is_some()).await?,
        None => return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room")),
    };
    let hall = core.muc.open(&room)?;
    let mut inside = hall.inside.lock().await;
    if made {
        inside.locked = Some(user.clone());
    }
    let visit = Visit { core, hall: &hall, room: &room, user: &user, from, to, nick: &nick, stanza, session, made };
    let done = match inside.nick_of(from).map(ToOwned::to_owned) {
        Some(_) if joins => visit.again(&mut inside).await,
        Some(old) if old == nick => visit.update(&mut inside, &nick).await,
        Some(old) => visit.rename(&mut inside, &old).await,
        None if joins => visit.enter(&mut inside).await,
        None => {
            visit.not_here().await;
            Ok(())
        }
    };
    if !inside.has_seats() {
        core.muc.close(&hall);
    }
    done
}

/// One session on its way into a room.
struct Visit<'a> {
    core: &'a Arc<Core>,
    hall: &'a Arc<Hall>,
    room: &'a Arc<Room>,
    user: &'a OwnedUserId,
    from: &'a Jid,
    to: &'a Jid,
    nick: &'a str,
    stanza: &'a Element,
    session: Option<&'a Arc<Session>>,
    made: bool,
}

impl Visit<'_> {
    fn seat(&self) -> Seat {
        Seat {
            jid: self.from.clone(),
            room: self.to.to_bare(),
            presence: shown(self.stanza),
            since: self.room.published().order,
            session: self.session.map(Arc::downgrade),
        }
    }

    async fn enter(&self, inside: &mut Inside) -> Result<(), StanzaError> {
        prepare(self.core, self.room, inside)?;
        happened::catch_up(self.core, self.hall, self.room, inside).await.map_err(|error| unreadable(&error))?;
        // [XEP-0045 §enter-locked]
        if inside.locked.as_ref().is_some_and(|maker| maker != self.user) {
            return Err(StanzaError::new(Condition::ItemNotFound, "the room is being set up"));
        }
        let members_only = inside.settings.members_only;
        let before = standing::of(self.room, self.user, members_only).map_err(|error| unreadable(&error))?;
        // [XEP-0045 §enter-banned]
        if before.0 == Affiliation::Outcast {
            return Err(StanzaError::new(Condition::Forbidden, "you are banned from this room"));
        }
        let password = inside.settings.own.password.clone();
        self.check_password(inside, password.as_deref())?;
        self.check_nick(inside)?;
        // [XEP-0045 §enter-maxusers] Admins and owners come in anyway.
        let most = inside.settings.own.occupants_max.unwrap_or(OCCUPANTS_MAX).min(OCCUPANTS_MAX);
        let present = inside.occupants.values().filter(|occupant| !occupant.seats.is_empty()).count();
        if present >= most && before.0 < Affiliation::Admin && inside.occupant(self.nick).is_none() {
            return Err(StanzaError::new(Condition::ServiceUnavailable, "the room is full")
                .with_type(koine_stanza::ErrorType::Wait));
        }
        let may_ask_in = before.0 >= Affiliation::Member || password.is_some();
        self.become_member(may_ask_in).await?;
        self.core.muc.note(self.from, self.hall.no)?;
        let standing = standing::of(self.room, self.user, members_only).map_err(|error| unreadable(&error))?;
        // Shown by Matrix alone until now: the session takes that place.
        for shown in inside.nicks_of(self.user).to_vec() {
            if inside.occupant(&shown).is_some_and(|occupant| occupant.seats.is_empty()) {
                let gone = inside.remove(&shown).expect("it was there a line ago");
                if shown != self.nick {
                    self.hall
                        .announce(self.core, inside, (&shown, &gone), Notice { gone: true, ..Notice::default() })
                        .await;
                }
            }
        }
        let version = self.tell_affiliations(inside, standing.0).await?;
        self.show_others(inside).await;
        let first = inside.occupant(self.nick).is_none();
        inside.seat(self.nick, self.user, standing, self.seat());
        self.present(inside, first, version.as_ref()).await;
        self.say_what_was(inside).await
    }

    /// Already in: everything is told again, as if just entered. [XEP-0045 §bizrules-presence]
    async fn again(&self, inside: &mut Inside) -> Result<(), StanzaError> {
        let nick = inside.nick_of(self.from).map(ToOwned::to_owned).unwrap_or_default();
        if nick != self.nick {
            self.rename(inside, &nick).await?;
        }
        self.set_presence(inside, self.nick);
        let standing =
            standing::of(self.room, self.user, inside.settings.members_only).map_err(|error| unreadable(&error))?;
        let version = self.tell_affiliations(inside, standing.0).await?;
        self.show_others(inside).await;
        self.present(inside, true, version.as_ref()).await;
        self.say_what_was(inside).await
    }

    /// [XEP-0045 §changepres]
    async fn update(&self, inside: &mut Inside, nick: &str) -> Result<(), StanzaError> {
        self.set_presence(inside, nick);
        if let Some(occupant) = inside.occupant(nick) {
            let notice = Notice { id: self.stanza.id(), ..Notice::default() };
            self.hall.announce(self.core, inside, (nick, occupant), notice).await;
        }
        Ok(())
    }

    /// [XEP-0045 §changenick]
    async fn rename(&self, inside: &mut Inside, old: &str) -> Result<(), StanzaError> {
        self.check_nick(inside)?;
        // All sessions under the old nickname keep it but this one.
        let Some((_, left, last)) = inside.unseat(self.from) else { return Ok(()) };
        let notice = Notice { gone: true, codes: &[303], new_nick: Some(self.nick), ..Notice::default() };
        farewell(self.core, self.hall, inside, (old, &left), last, notice).await;
        let first = inside.occupant(self.nick).is_none();
        let since = left.seats.first().map_or(i64::MIN, |seat| seat.since);
        inside.seat(self.nick, self.user, (left.affiliation, left.role), Seat { since, ..self.seat() });
        if let Some(occupant) = inside.occupant(self.nick).filter(|_| first) {
            let notice = Notice { id: self.stanza.id(), ..Notice::default() };
            self.hall.announce(self.core, inside, (self.nick, occupant), notice).await;
        }
        Ok(())
    }

    /// [XEP-0045 §enter-conflict]
    fn check_nick(&self, inside: &Inside) -> Result<(), StanzaError> {
        let conflict = || {
            StanzaError::new(Condition::Conflict, "somebody else has this nickname")
                .with_type(koine_stanza::ErrorType::Cancel)
        };
        if inside.occupant(self.nick).is_some_and(|occupant| occupant.user != *self.user) {
            return Err(conflict());
        }
        // [XEP-0045 §security-anon] Whoever looks like another is taken for them.
        if inside.looks_like_another(self.nick, self.user) {
            let text = "somebody has a nickname that looks like this one";
            return Err(StanzaError::new(Condition::Conflict, text).with_type(koine_stanza::ErrorType::Cancel));
        }
        match inside.reserved.get(self.nick) {
            Some(other) if other != self.user => Err(conflict()),
            _ => Ok(()),
        }
    }

    /// [XEP-0045 §enter-pw] Whoever is a member by Matrix was let in there; whoever made the room has just chosen.
    fn check_password(&self, inside: &Inside, password: Option<&str>) -> Result<(), StanzaError> {
        let Some(password) = password else { return Ok(()) };
        let said = self.stanza.child("x", ns::MUC).and_then(|x| x.child_text("password", ns::MUC));
        let membership = standing::membership(self.room, self.user).map_err(|error| unreadable(&error))?;
        let by_matrix = membership == Some(Membership::Join) && !joined_by_xmpp(self.room, self.user);
        let is_in = !inside.nicks_of(self.user).is_empty();
        if said.as_deref() == Some(password) || is_in || (by_matrix && !self.is_maker(inside)) {
            return Ok(());
        }
        Err(StanzaError::new(Condition::NotAuthorized, "this room has a password"))
    }

    fn is_maker(&self, inside: &Inside) -> bool {
        inside.settings.own.made_by.as_deref() == Some(self.user.as_str())
    }

    /// Who speaks in a room is a member of it. `may_ask_in`: they are on the list of members, or know the password.
    async fn become_member(&self, may_ask_in: bool) -> Result<(), StanzaError> {
        let read = |error| unreadable(&error);
        let membership = standing::membership(self.room, self.user).map_err(read)?;
        if membership == Some(Membership::Join) {
            return Ok(());
        }
        let profile = self.core.room_profile(self.user, self.nick);
        let extra = by_xmpp(self.nick);
        let rooms = self.core.rooms();
        let join = || rooms.join(self.user, self.room.id(), &profile, None, extra.clone());
        let refusal = match join().await {
            Ok(()) => return Ok(()),
            Err(error @ (CommandError::Refused(_) | CommandError::Forbidden(_))) => error,
            Err(error) => return Err(refused(&error)),
        };
        // Not asked in at the moment: somebody who may does.
        if may_ask_in && let Some(inviter) = standing::inviter(self.room).map_err(read)? {
            rooms
                .invite(&inviter, self.room.id(), (self.user, &Profile::default()), None, Map::new())
                .await
                .map_err(|error| refused(&error))?;
            return join().await.map_err(|error| refused(&error));
        }
        // [XEP-0045 §enter-members]
        Err(StanzaError::new(Condition::RegistrationRequired, refusal.to_string()))
    }

    /// Before any presence, for who keeps the list of affiliations; what stands in their own. [XEP-0463 §self]
    async fn tell_affiliations(&self, inside: &mut Inside, own: Affiliation) -> Result<Option<Element>, StanzaError> {
        let told = versions::entered(self.core, self.room, inside, (self.stanza, own), &self.seat()).await;
        told.map_err(|error| unreadable(&error))
    }

    /// Presence of everybody else, first. [XEP-0045 §order]
    async fn show_others(&self, inside: &Inside) {
        let seat = self.seat();
        let viewer = Occupant::new(self.user, (Affiliation::None, self.role(inside)));
        for (nick, occupant) in &inside.occupants {
            if inside.nick_of(self.from) == Some(nick) {
                continue;
            }
            // Other sessions of the same nickname come with one's own presence.
            if nick == self.nick && occupant.user == *self.user {
                continue;
            }
            let whom = (nick.as_str(), occupant, occupant.seats.last());
            let presence = self.hall.presence(self.core, inside, whom, (&viewer, &seat), Notice::default());
            tell(self.core, &seat, presence).await;
        }
    }

    fn role(&self, inside: &Inside) -> Role {
        standing::of(self.room, self.user, inside.settings.members_only).map_or(Role::Visitor, |(_, role)| role)
    }

    /// One's own presence: to everybody, and to oneself with what one should know. [XEP-0045 §enter-pres]
    async fn present(&self, inside: &Inside, to_everybody: bool, version: Option<&Element>) {
        let Some(occupant) = inside.occupant(self.nick) else { return };
        let Some(own) = occupant.seats.iter().find(|seat| seat.jid == *self.from) else { return };
        if to_everybody {
            let whom = (self.nick, occupant, Some(own));
            self.hall.tell_others(self.core, inside, whom, Some(self.from), Notice::default()).await;
            // One's other sessions under the same nickname.
            for seat in occupant.seats.iter().filter(|seat| seat.jid != *self.from) {
                let presence = self.hall.presence(self.core, inside, whom, (occupant, seat), Notice::default());
                tell(self.core, seat, presence).await;
            }
        }
        let mut codes = Vec::new();
        // [XEP-0045 §enter-nonanon]
        if !inside.settings.own.semi_anonymous {
            codes.push(100);
        }
        // [XEP-0045 §enter-logging]
        if inside.settings.logged {
            codes.push(170);
        }
        if self.made {
            codes.push(201);
        }
        let notice = Notice { own_codes: &codes, id: self.stanza.id(), extra: version, ..Notice::default() };
        let presence = self.hall.presence(self.core, inside, (self.nick, occupant, Some(own)), (occupant, own), notice);
        tell(self.core, own, presence).await;
    }

    async fn say_what_was(&self, inside: &Inside) -> Result<(), StanzaError> {
        let Some(own) = inside.seats().find(|(_, _, seat)| seat.jid == *self.from).map(|(_, _, seat)| seat) else {
            return Ok(());
        };
        let wish = self.stanza.child("x", ns::MUC).and_then(|x| x.child("history", ns::MUC));
        let wish = history::Wish::parse(wish, self.core.now_ms());
        for message in history::before_entering(self.core, self.hall, self.room, inside, self.user, own, &wish)? {
            tell(self.core, own, message).await;
        }
        tell(self.core, own, history::subject(self.core, self.hall, self.room, inside, own)?).await;
        Ok(())
    }

    fn set_presence(&self, inside: &mut Inside, nick: &str) {
        let Some(occupant) = inside.occupants.get_mut(nick) else { return };
        if let Some(at) = occupant.seats.iter().position(|seat| seat.jid == *self.from) {
            // The last seat is the one that speaks for all.
            let mut seat = occupant.seats.remove(at);
            seat.presence = shown(self.stanza);
            seat.session = self.session.map(Arc::downgrade);
            occupant.seats.push(seat);
        }
    }

    /// Presence from somebody who thinks to be in the room, and is not. [XEP-0045 §enter-gc]
    async fn not_here(&self) {
        let reason = Element::text_of("reason", ns::MUC_USER, "You are not in the room.");
        let item = Element::new("item", ns::MUC_USER)
            .with_attr("affiliation", "none")
            .with_attr("role", "none")
            .with_child(reason);
        let mut x = Element::new("x", ns::MUC_USER).with_child(item);
        for code in user_x(&[110, 307, 333]).take_children() {
            x.push(code);
        }
        let kick = Element::new("presence", ns::CLIENT)
            .with_attr("from", self.to.to_string())
            .with_attr("to", self.from.to_string())
            .with_attr("type", "unavailable")
            .with_child(x);
        tell(self.core, &self.seat(), kick).await;
    }
}

/// What of a presence others see: everything but what only the room may say. [XEP-0045 §bizrules-presence]
fn shown(stanza: &Element) -> Vec<Element> {
    let hidden = |child: &Element| {
        matches!(child.ns(), ns::MUC | ns::MUC_USER | ns::OCCUPANT_ID | ns::STANZA_ID | "urn:xmpp:hats:0")
    };
    stanza.children().filter(|child| !hidden(child)).cloned().collect()
}

/// Reads the settings, and shows members who are here by Matrix, once.
fn prepare(core: &Core, room: &Room, inside: &mut Inside) -> Result<(), StanzaError> {
    if inside.ready {
        return Ok(());
    }
    let read = |error| unreadable(&error);
    inside.settings = Settings::of(core.rooms(), room).map_err(read)?;
    inside.reserved = standing::reserved_nicks(room).map_err(read)?;
    inside.hats = super::hats::of(room).map_err(read)?;
    inside.ready = true;
    let members_only = inside.settings.members_only;
    inside.levels_at = happened::levels_at(room).map_err(read)?;
    let levels = standing::levels(room).map_err(read)?;
    // In a large room, only those with a level of their own are shown before they speak.
    let large = room.published().joined > 5 * SHOWN_MEMBERS_MAX as u64;
    let people: Vec<OwnedUserId> = match large {
        true => levels.users().filter_map(|(user, _)| OwnedUserId::try_from(user).ok()).collect(),
        false => {
            let members = room.state_events(room.published().state, Some("m.room.member")).map_err(read)?;
            members.iter().filter_map(|placed| OwnedUserId::try_from(placed.event.state_key()?).ok()).collect()
        }
    };
    for user in people {
        if inside.count() >= SHOWN_MEMBERS_MAX {
            break;
        }
        show_member(core, room, inside, &user, &levels, members_only).map_err(read)?;
    }
    Ok(())
}

/// Adds a member who is here by Matrix; the nickname, if they were added.
pub(super) fn show_member(
    core: &Core,
    room: &Room,
    inside: &mut Inside,
    user: &UserId,
    levels: &koine_graph::PowerLevels,
    members_only: bool,
) -> Result<Option<String>, koine_room::ReadError> {
    if !inside.nicks_of(user).is_empty() || inside.settings.own.made_by.as_deref() == Some(user.as_str()) {
        return Ok(None);
    }
    let Some(member) = room.current("m.room.member", user.as_str())? else { return Ok(None) };
    let by_xmpp = member.event.content_field::<serde_json::Value>("koine.xmpp").is_some();
    if member.event.membership() != Some(Membership::Join) || by_xmpp {
        return Ok(None);
    }
    Ok(Some(add_member(core, room, inside, user, levels, members_only)?))
}

/// Adds somebody without a session, under a nickname made from the name they have in the room.
pub(super) fn add_member(
    _core: &Core,
    room: &Room,
    inside: &mut Inside,
    user: &UserId,
    levels: &koine_graph::PowerLevels,
    members_only: bool,
) -> Result<String, koine_room::ReadError> {
    let member = room.current("m.room.member", user.as_str())?;
    let name = member.and_then(|placed| placed.event.content_field::<String>("displayname"));
    let name = name.as_deref().map(str::trim).filter(|name| !name.is_empty() && name.len() <= NICK_BYTES_MAX / 2);
    let name = name.unwrap_or(user.localpart());
    // A nickname is a resource of an address.
    let fits = |nick: &str| koine_stanza::resource_part(nick).ok().map(std::borrow::Cow::into_owned);
    let wanted = fits(name).or_else(|| fits(user.localpart())).unwrap_or_else(|| "member".to_owned());
    let mut nick = wanted.clone();
    if inside.occupant(&nick).is_some() || inside.looks_like_another(&nick, user) {
        nick = format!("{wanted} ({user})");
    }
    let known = standing::known(room, user, members_only)?;
    let standing = (standing_of::affiliation(levels, user, known), standing_of::role(levels, user));
    inside.add(&nick, user, standing);
    Ok(nick)
}

/// Makes the room at an address. [XEP-0045 §createroom]
async fn make(
    core: &Arc<Core>,
    address: &koine_stanza::BareJid,
    user: &OwnedUserId,
    nick: &str,
    is_ours: bool,
) -> Result<(Arc<Room>, bool), StanzaError> {
    let alias = address.node().and_then(|node| name::alias(core, node));
    let Some(alias) = alias else {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room"));
    };
    if !is_ours {
        return Err(StanzaError::new(Condition::NotAllowed, "only people of this server make rooms here"));
    }
    let _making = core.muc.making.lock().await;
    if let Some(room) = name::room(core, address)? {
        return Ok((room, false));
    }
    let own = Own { made_by: Some(user.to_string()), ..Own::default() };
    let settings = InitialState {
        kind: SETTINGS.to_owned(),
        state_key: String::new(),
        content: serde_json::to_value(&own).unwrap_or_default(),
    };
    let mut levels = standing_of::levels_of_new_room(Some(user));
    if let Some(events) = levels.get_mut("events").and_then(serde_json::Value::as_object_mut) {
        // Everybody reserves their own nickname.
        events.insert(standing::NICK.to_owned(), json!(0));
    }
    let new = CreateRoom {
        creator: user.clone(),
        profile: core.room_profile(user, nick),
        version: ROOM_VERSION,
        preset: Preset::PublicChat,
        creation_content: Map::new(),
        power_levels: levels,
        initial_state: vec![settings],
        name: None,
        topic: None,
        alias: Some(alias),
        invite: Vec::new(),
        is_direct: false,
        listed: true,
    };
    let id = core.rooms().create(new).await.map_err(|error| refused(&error))?;
    let room = core.rooms().room(&id).map_err(|error| unreadable(&error))?;
    Ok((room, true))
}

/// Somebody leaves of their own accord. Whoever has no standing in an open room is not kept as its member.
/// [XEP-0045 §exit]
async fn leave(
    core: &Arc<Core>,
    hall: &Arc<Hall>,
    room: &Arc<Room>,
    from: &Jid,
    (id, status): (Option<&str>, Vec<Element>),
) {
    let mut inside = hall.inside.lock().await;
    let Some((nick, mut left, last)) = inside.unseat(from) else { return };
    core.muc.forget(from, hall.no);
    if let Some(seat) = left.seats.first_mut() {
        seat.presence = status;
    }
    farewell(core, hall, &inside, (&nick, &left), last, Notice { gone: true, id, ..Notice::default() }).await;
    let abandoned = inside.locked.as_ref() == Some(&left.user) && !inside.has_seats();
    let stays =
        left.affiliation > Affiliation::None || inside.settings.members_only || !inside.nicks_of(&left.user).is_empty();
    if !inside.has_seats() {
        core.muc.close(hall);
    }
    drop(inside);
    if abandoned {
        // Its maker went away before saying how the room is to be: it never came to be.
        if let Err(error) = super::owner::dissolve(core, room, &left.user, None).await {
            tracing::info!(room_id = %room.id(), %error, "a room that was never set up could not be dissolved");
        }
        return;
    }
    if !stays
        && last
        && joined_by_xmpp(room, &left.user)
        && let Err(error) = core.rooms().leave(&left.user, room.id(), None).await
    {
        tracing::debug!(room_id = %room.id(), user_id = %left.user, reason = %error, "an occupant who went stays a member");
    }
}

/// What the membership of somebody says who came by XMPP.
pub(super) fn by_xmpp(nick: &str) -> Map<String, serde_json::Value> {
    Map::from_iter([("koine.xmpp".to_owned(), json!({ "nick": nick }))])
}

pub(super) fn joined_by_xmpp(room: &Room, user: &UserId) -> bool {
    let member = room.current("m.room.member", user.as_str()).ok().flatten();
    member.is_some_and(|placed| placed.event.content_field::<serde_json::Value>("koine.xmpp").is_some())
}

/// A session is not in the room any more.
pub(super) async fn end_seat(core: &Arc<Core>, hall: &Arc<Hall>, from: &Jid, codes: Vec<u16>) {
    let mut inside = hall.inside.lock().await;
    let Some((nick, mut left, last)) = inside.unseat(from) else { return };
    core.muc.forget(from, hall.no);
    if let Some(seat) = left.seats.first_mut() {
        seat.presence.clear();
    }
    farewell(core, hall, &inside, (&nick, &left), last, Notice { gone: true, codes: &codes, ..Notice::default() })
        .await;
    if !inside.has_seats() {
        core.muc.close(hall);
    }
}

/// Tells that a seat is empty: everybody, if it was the last under that nickname, or else the session alone.
pub(super) async fn farewell(
    core: &Arc<Core>,
    hall: &Hall,
    inside: &Inside,
    whom: (&str, &Occupant),
    last: bool,
    notice: Notice<'_>,
) {
    if last {
        return hall.announce(core, inside, whom, notice).await;
    }
    let (nick, left) = whom;
    for seat in &left.seats {
        let presence = hall.presence(core, inside, (nick, left, Some(seat)), (left, seat), notice);
        tell(core, seat, presence).await;
    }
}
