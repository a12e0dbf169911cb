//! What the log tells of a room, for those who are in it by XMPP.
//!
//! The work grows with the occupants that are told, not with the room: a message looks at its sender's nickname alone.

use std::sync::Arc;

use koine_graph::Membership;
use koine_projection::muc::{self as standing_of, Affiliation, MEMBER, Role, SETTINGS};
use koine_room::{Placed, ReadError, Room};
use koine_stanza::{Element, ns};
use ruma_common::{OwnedUserId, UserId};

use super::{
    activity, enter,
    hall::{Hall, Inside, Notice, Seat, tell, tell_alike},
    hats, history, mentioned,
    settings::Settings,
    standing, user_x, versions, words,
};
use crate::core::Core;

/// Tells the occupants of a room of an event.
pub(crate) async fn happened(core: &Arc<Core>, room: &Arc<Room>, placed: &Placed) -> Result<(), ReadError> {
    if placed.event.state_key().is_none() {
        mentioned::tell(core, room, placed).await?;
        activity::said(core, room, placed).await?;
    }
    let Some(hall) = core.muc.hall(room.no()) else { return Ok(()) };
    let mut inside = hall.inside.lock().await;
    if !inside.ready {
        return Ok(());
    }
    let told = Told { core, hall: &hall, room, placed };
    let done = match (placed.event.kind(), placed.event.state_key()) {
        ("m.room.member", Some(member)) => match OwnedUserId::try_from(member) {
            Ok(member) => told.member(&mut inside, &member).await,
            Err(_) => Ok(()),
        },
        ("m.room.topic", Some("")) => told.subject(&inside).await,
        ("m.room.tombstone", Some("")) => told.moved(&mut inside).await,
        ("m.room.power_levels", Some("")) => told.levels(&mut inside).await,
        (standing::NICK, Some(_)) => {
            inside.reserved = standing::reserved_nicks(room)?;
            told.standings(&mut inside).await
        }
        (MEMBER, Some(_)) => told.standings(&mut inside).await,
        (
            "m.room.name"
            | "m.room.avatar"
            | "m.room.join_rules"
            | "m.room.history_visibility"
            | "m.room.encryption"
            | SETTINGS,
            Some(""),
        ) => told.settings(&mut inside).await,
        (_, Some(_)) => Ok(()),
        (_, None) => told.words(&mut inside).await,
    };
    if placed.event.state_key().is_some() && may_change_affiliations(placed.event.kind()) {
        versions::changed(core, room, &mut inside).await?;
    }
    done
}

/// Whether state of a type may make somebody's affiliation another.
fn may_change_affiliations(kind: &str) -> bool {
    matches!(kind, "m.room.member" | "m.room.power_levels" | "m.room.join_rules" | standing::NICK | MEMBER | SETTINGS)
}

struct Told<'a> {
    core: &'a Arc<Core>,
    hall: &'a Arc<Hall>,
    room: &'a Arc<Room>,
    placed: &'a Placed,
}

impl Told<'_> {
    /// Whether a session entered before this.
    fn concerns(&self, seat: &Seat) -> bool {
        seat.since < self.placed.order
    }

    async fn words(&self, inside: &mut Inside) -> Result<(), ReadError> {
        if words::is_echo(self.placed) {
            return Ok(());
        }
        let Some(words) = words::of_event(self.core, self.room, self.placed) else { return Ok(()) };
        let sender = self.placed.event.sender();
        // Somebody who was not shown before appears before they speak.
        if inside.nicks_of(sender).is_empty() && words.nick.is_none() {
            self.appear(inside, sender).await?;
        }
        let inside = &*inside;
        let message = |seat: &Seat| history::spoken(self.core, self.hall, inside, words.clone(), self.placed, seat);
        tell_alike(self.core, inside, |seat| self.concerns(seat), message).await;
        Ok(())
    }

    async fn appear(&self, inside: &mut Inside, user: &UserId) -> Result<(), ReadError> {
        let levels = standing::levels(self.room)?;
        let members_only = inside.settings.members_only;
        let nick = enter::add_member(self.core, self.room, inside, user, &levels, members_only)?;
        if let Some(occupant) = inside.occupant(&nick) {
            self.hall.announce(self.core, inside, (&nick, occupant), Notice::default()).await;
        }
        Ok(())
    }

    async fn subject(&self, inside: &Inside) -> Result<(), ReadError> {
        let message = |seat: &Seat| history::subject_message(self.core, self.hall, inside, self.placed, seat);
        tell_alike(self.core, inside, |seat| self.concerns(seat), message).await;
        Ok(())
    }

    async fn member(&self, inside: &mut Inside, member: &UserId) -> Result<(), ReadError> {
        match self.placed.event.membership() {
            Some(Membership::Join) => {
                let known = !inside.nicks_of(member).is_empty();
                if !known && inside.count() < super::hall::SHOWN_MEMBERS_MAX {
                    let levels = standing::levels(self.room)?;
                    let members_only = inside.settings.members_only;
                    if let Some(nick) = enter::show_member(self.core, self.room, inside, member, &levels, members_only)?
                        && let Some(occupant) = inside.occupant(&nick)
                    {
                        self.hall.announce(self.core, inside, (&nick, occupant), Notice::default()).await;
                    }
                }
                Ok(())
            }
            Some(Membership::Leave | Membership::Ban) => self.gone(inside, member).await,
            _ => self.standings(inside).await,
        }
    }

    /// Somebody left, or was made to. [XEP-0045 §kick] [XEP-0045 §ban]
    async fn gone(&self, inside: &mut Inside, member: &UserId) -> Result<(), ReadError> {
        let sender = self.placed.event.sender();
        let banned = self.placed.event.membership() == Some(Membership::Ban);
        let codes: &[u16] = match () {
            () if banned => &[301],
            () if sender == member => &[],
            // Out of a members-only room goes who is no member any more. [XEP-0045 §revokemember]
            () if inside.settings.members_only && self.affiliation(inside, member)? == Affiliation::None => &[321],
            () => &[307],
        };
        let actor = inside.speaker(sender, None).filter(|_| sender != member).map(ToOwned::to_owned);
        let reason = self.placed.event.content_field::<String>("reason");
        let nicks: Vec<String> = inside.nicks_of(member).to_vec();
        for nick in nicks {
            // Whoever came in again since then stays.
            let still = |seat: &Seat| !self.concerns(seat);
            if inside
                .occupant(&nick)
                .is_some_and(|occupant| !occupant.seats.is_empty() && occupant.seats.iter().all(still))
            {
                continue;
            }
            let Some(mut gone) = self.hall.take_out(self.core, inside, &nick) else { continue };
            gone.affiliation = if banned { Affiliation::Outcast } else { self.affiliation(inside, member)? };
            let notice =
                Notice { gone: true, codes, actor: actor.as_deref(), reason: reason.as_deref(), ..Notice::default() };
            self.hall.announce(self.core, inside, (&nick, &gone), notice).await;
        }
        if !inside.has_seats() {
            self.core.muc.close(self.hall);
        }
        Ok(())
    }

    fn affiliation(&self, inside: &Inside, user: &UserId) -> Result<Affiliation, ReadError> {
        Ok(standing::of(self.room, user, inside.settings.members_only)?.0)
    }

    /// New levels may also make the room moderated, or open its subject.
    async fn levels(&self, inside: &mut Inside) -> Result<(), ReadError> {
        self.standings(inside).await?;
        if Settings::of(self.core.rooms(), self.room)? != inside.settings {
            self.settings(inside).await?;
        }
        Ok(())
    }

    async fn standings(&self, inside: &mut Inside) -> Result<(), ReadError> {
        standings(self.core, self.hall, self.room, inside).await
    }

    /// [XEP-0045 §roomconfig-notify]
    async fn settings(&self, inside: &mut Inside) -> Result<(), ReadError> {
        // Whoever entered since was let in by these settings, and everybody was told then.
        if self.placed.order <= inside.settings_at {
            return Ok(());
        }
        let now = Settings::of(self.core.rooms(), self.room)?;
        let id = words::id_of(self.placed);
        settings(self.core, self.hall, self.room, inside, now, (Some(&id), |seat| self.concerns(seat))).await
    }

    /// The room goes on elsewhere, or not at all. [XEP-0045 §destroyroom]
    async fn moved(&self, inside: &mut Inside) -> Result<(), ReadError> {
        let to = self.placed.event.content_field::<String>("replacement_room");
        let to = to.and_then(|id| <&ruma_common::RoomId>::try_from(id.as_str()).ok().map(ToOwned::to_owned));
        let to = match to.map(|id| self.core.rooms().room(&id)) {
            Some(Ok(room)) => Some(super::name::address(self.core, &room)?.to_string()),
            _ => None,
        };
        let reason = self.placed.event.content_field::<String>("body");
        let end = Ending { to: to.as_deref(), reason: reason.as_deref(), password: None };
        destroyed(self.core, self.hall, inside, end).await;
        Ok(())
    }
}

/// Where in the room its present levels stand.
pub(super) fn levels_at(room: &Room) -> Result<Option<i64>, ReadError> {
    Ok(room.current("m.room.power_levels", "")?.map(|placed| placed.order))
}

/// Before somebody enters: the room may be ahead of what its occupants were told, and whoever gave somebody a role or changed the
/// settings has had the answer already.
pub(super) async fn catch_up(
    core: &Arc<Core>,
    hall: &Arc<Hall>,
    room: &Room,
    inside: &mut Inside,
) -> Result<(), ReadError> {
    let at = room.published().order;
    let now = Settings::of(core.rooms(), room)?;
    if now != inside.settings {
        inside.settings_at = at;
        settings(core, hall, room, inside, now, (None, |_: &Seat| true)).await?;
    }
    match levels_at(room)? == inside.levels_at {
        true => Ok(()),
        false => standings(core, hall, room, inside).await,
    }
}

/// Whoever's affiliation or role changed is presented anew to everybody.
async fn standings(core: &Arc<Core>, hall: &Hall, room: &Room, inside: &mut Inside) -> Result<(), ReadError> {
    inside.levels_at = levels_at(room)?;
    let levels = standing::levels(room)?;
    let before = std::mem::replace(&mut inside.hats, hats::of(room)?);
    let members_only = inside.settings.members_only;
    let mut changed = Vec::new();
    for (nick, occupant) in &inside.occupants {
        let known = standing::known(room, &occupant.user, members_only)?;
        let now =
            (standing_of::affiliation(&levels, &occupant.user, known), standing_of::role(&levels, &occupant.user));
        let other_hat = before.get(&occupant.user) != inside.hats.get(&occupant.user);
        if (other_hat || now != (occupant.affiliation, occupant.role)) && now.0 != Affiliation::Outcast {
            changed.push((nick.clone(), now));
        }
    }
    for (nick, now) in changed {
        if let Some(occupant) = inside.occupants.get_mut(&nick) {
            (occupant.affiliation, occupant.role) = now;
        }
        if let Some(occupant) = inside.occupant(&nick) {
            hall.announce(core, inside, (&nick, occupant), Notice::default()).await;
        }
    }
    Ok(())
}

/// Tells those of the occupants whom it `concerns` that the settings are others, in a message with this `id`.
async fn settings(
    core: &Arc<Core>,
    hall: &Arc<Hall>,
    room: &Room,
    inside: &mut Inside,
    now: Settings,
    (id, concerns): (Option<&str>, impl Fn(&Seat) -> bool),
) -> Result<(), ReadError> {
    let before = std::mem::replace(&mut inside.settings, now);
    let (mut codes, now) = (Vec::new(), &inside.settings);
    if before.own.semi_anonymous != now.own.semi_anonymous {
        codes.push(if now.own.semi_anonymous { 173 } else { 172 });
    }
    if before.logged != now.logged {
        codes.push(if now.logged { 170 } else { 171 });
    }
    let mut rest = before.clone();
    (rest.own.semi_anonymous, rest.logged) = (now.own.semi_anonymous, now.logged);
    // Whatever else changed, privacy is not concerned.
    if codes.is_empty() || rest != *now {
        codes.insert(0, 104);
    }
    let message = |seat: &Seat| {
        Element::new("message", ns::CLIENT)
            .with_attr("from", seat.room.to_string())
            .with_attr_opt("id", id)
            .with_attr("type", "groupchat")
            .with_child(user_x(&codes))
    };
    tell_alike(core, inside, concerns, message).await;
    if inside.settings.members_only && !before.members_only {
        only_members_stay(core, hall, room, inside).await?;
    }
    Ok(())
}

/// The room became members-only: whoever is none goes. [XEP-0045 §roomconfig-notify, 322]
async fn only_members_stay(
    core: &Arc<Core>,
    hall: &Arc<Hall>,
    room: &Room,
    inside: &mut Inside,
) -> Result<(), ReadError> {
    let levels = standing::levels(room)?;
    let mut strangers = Vec::new();
    for (nick, occupant) in &inside.occupants {
        // Being in the room made nobody a member while it was open.
        let known = standing_of::Known { inside: false, ..standing::known(room, &occupant.user, true)? };
        let affiliation = standing_of::affiliation(&levels, &occupant.user, known);
        if affiliation == Affiliation::None && !occupant.seats.is_empty() {
            strangers.push((nick.clone(), occupant.user.clone()));
        }
    }
    for (nick, user) in strangers {
        let Some(mut gone) = hall.take_out(core, inside, &nick) else { continue };
        gone.affiliation = Affiliation::None;
        hall.announce(core, inside, (&nick, &gone), Notice { gone: true, codes: &[322], ..Notice::default() }).await;
        if let Err(error) = core.rooms().leave(&user, room.id(), None).await {
            tracing::debug!(room_id = %room.id(), user_id = %user, reason = %error, "somebody removed from a room stays its member");
        }
    }
    standings(core, hall, room, inside).await
}

/// What those who are sent out of a room that ends are told.
#[derive(Clone, Copy, Default)]
pub(super) struct Ending<'a> {
    /// Where it goes on.
    pub(super) to: Option<&'a str>,
    /// The password there.
    pub(super) password: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
}

/// Everybody is sent out of a room that is no more.
pub(super) async fn destroyed(core: &Arc<Core>, hall: &Arc<Hall>, inside: &mut Inside, end: Ending<'_>) {
    let mut destroy = Element::new("destroy", ns::MUC_USER).with_attr_opt("jid", end.to);
    for (name, text) in [("password", end.password), ("reason", end.reason)] {
        if let Some(text) = text {
            destroy.push(Element::text_of(name, ns::MUC_USER, text));
        }
    }
    let nicks: Vec<String> = inside.occupants.keys().cloned().collect();
    for nick in nicks {
        let Some(mut gone) = hall.take_out(core, inside, &nick) else { continue };
        (gone.affiliation, gone.role) = (Affiliation::None, Role::None);
        // Each is told of their own going alone: all go at once.
        for seat in &gone.seats {
            let notice = Notice { gone: true, extra: Some(&destroy), ..Notice::default() };
            let presence = hall.presence(core, inside, (&nick, &gone, Some(seat)), (&gone, seat), notice);
            tell(core, seat, presence).await;
        }
    }
    core.muc.close(hall);
}
