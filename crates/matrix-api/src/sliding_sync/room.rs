//! One room of an answer. [MSC4186] Room response

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    sync::Arc,
};

use koine_graph::ClientForm;
use koine_room::{Direction, Membership, Order, Page, Placed, Room, Root, Span, Viewer};
use ruma_common::{OwnedEventId, UserId};
use serde::Serialize;
use serde_json::json;

use super::{
    connection::{Counts, Known, MEMBERS_MAX},
    look::{Candidate, Look},
    request::Form,
};
use crate::{
    Result,
    event::Shown,
    sync::{Out, state_at},
    token::SyncToken,
};

const MEMBER: &str = "m.room.member";

/// What telling of a room came to.
pub(super) struct Outcome {
    /// What the client then knows; `None` where the room is over for it.
    pub(super) known: Option<Known>,
    /// The client knew nothing of the room.
    pub(super) is_initial: bool,
    /// The events told.
    pub(super) timeline: Vec<OwnedEventId>,
}

/// Parts of the state that changed and that an answer tells in words of its own.
#[derive(Default)]
struct Turned {
    names: Cell<bool>,
    avatar: Cell<bool>,
    members: Cell<bool>,
}

/// State to tell of, and what it touches.
#[derive(Default)]
struct News {
    events: Vec<Arc<Placed>>,
    /// Types and state keys that hold nothing any more.
    gone: Vec<(String, String)>,
    names: bool,
    avatar: bool,
    members: bool,
}

#[derive(Serialize)]
struct Hero {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
}

impl Look<'_> {
    /// Tells of a room what its reader does not know; writes nothing when that is nothing.
    pub(super) fn room(&self, candidate: &Candidate, out: &mut Out) -> Result<Outcome> {
        match candidate.record.membership {
            Membership::Invite | Membership::Knock => self.stripped(candidate, out),
            Membership::Join => self.timeline_room(candidate, self.now.order(), out),
            Membership::Leave | Membership::Ban => {
                // What came after they went is not theirs, but for what says so.
                let record = &candidate.record;
                let until = record.left_at.unwrap_or(record.order);
                let mut outcome = self.timeline_room(candidate, until, out)?;
                if candidate.is_over {
                    outcome.known = None;
                }
                Ok(outcome)
            }
        }
    }

    /// A room that the reader may not look into yet. [MSC4186] `invite_state`, for the knocking too
    fn stripped(&self, candidate: &Candidate, out: &mut Out) -> Result<Outcome> {
        let (room, record) = (&candidate.room, &candidate.record);
        let mut known = candidate.known();
        (known.until, known.fleeting, known.membership) = (self.now.order(), self.now.fleeting, record.membership);
        let is_told = candidate
            .known
            .as_ref()
            .is_some_and(|known| known.membership == record.membership && known.until >= record.order);
        if !is_told {
            let shown = room.shown_to(&self.who.user_id, record)?;
            out.open_field(room.id().as_str(), b'{');
            out.field("initial", &true);
            for event in &shown {
                if let Some((field, text)) = door_sign(event.get()) {
                    out.field(field, &text);
                }
            }
            let name = match self.body.form {
                Form::Unstable => "invite_state",
                Form::Merged => "stripped_state",
            };
            out.list_field(name, shown.iter().map(|event| event.get()));
            out.field("bump_stamp", &u64::try_from(record.order).unwrap_or(0));
            if candidate.is_dm {
                out.field("is_dm", &true);
            }
            self.write_places(candidate, out);
            out.close(b'}');
        }
        Ok(Outcome { known: Some(known), is_initial: !is_told, timeline: Vec::new() })
    }

    fn timeline_room(&self, candidate: &Candidate, until: Order, out: &mut Out) -> Result<Outcome> {
        let (room, record) = (&candidate.room, &candidate.record);
        let joined = record.membership == Membership::Join;
        // Who came in after they were told, from an invitation for example, knows nothing of the room.
        let before = candidate.known.as_deref().filter(|known| match joined {
            true => known.membership == Membership::Join && record.joined_at.is_none_or(|joined| joined <= known.until),
            false => true,
        });
        let is_initial = before.is_none();
        let was_joined = before.is_some_and(|known| known.membership == Membership::Join);
        // Who asks for more than before gets the end of the timeline once more, longer.
        let is_expanded =
            joined && before.is_some_and(|known| candidate.config.timeline_limit > known.config.timeline_limit);
        let since = before.map(|known| known.until);

        let mut viewer = Viewer::with_record(room, &self.who.user_id, Some(record.clone()));
        let page = self.page(candidate, &mut viewer, since.filter(|_| !is_expanded), until)?;
        let limited = page.end.is_some();
        let mut known = candidate.known();
        let was_inside = joined || was_joined || (is_initial && record.joined_at.is_some());
        let mut news = match was_inside {
            true => self.state(candidate, before, until, &page, &mut known.members)?,
            false => News::default(),
        };
        // What ended it is theirs to know; of a visit that never was, it is all they may know.
        let ending = !joined && before.is_none_or(|before| record.order > before.until);
        let ending = if ending { room.event_at(record.order)? } else { None };
        let is_told =
            |ending: &Arc<Placed>| news.events.iter().any(|told| told.event.event_id() == ending.event.event_id());
        let ending = ending.filter(|ending| !is_told(ending));
        news.events.extend(ending);
        known.counts = self.counts(candidate)?;
        // Counts are of this moment. Where an event stands behind this look already, the next tells them with it: they alone
        // are no news then.
        let is_behind = room.published().order > until;
        let counts_changed = before.is_none_or(|before| before.counts != known.counts) && !is_behind;
        (known.until, known.fleeting, known.membership) = (until, self.now.fleeting, record.membership);
        known.until = known.until.max(self.now.order());
        known.config = candidate.config.clone();
        let dm_turned = before.map_or(candidate.is_dm, |before| before.is_dm != candidate.is_dm);
        let timeline: Vec<_> = page.events.iter().map(|placed| placed.event.event_id().to_owned()).collect();
        let has_news = is_initial
            || !page.events.is_empty()
            || limited
            || !news.events.is_empty()
            || !news.gone.is_empty()
            || dm_turned
            || news.names
            || news.avatar
            || news.members
            || counts_changed;
        if let (false, Some(before)) = (has_news, before) {
            known.counts = before.counts;
        }
        if has_news {
            out.open_field(room.id().as_str(), b'{');
            if is_initial {
                out.field("initial", &true);
            }
            if is_expanded {
                let name = match self.body.form {
                    Form::Unstable => "unstable_expanded_timeline",
                    Form::Merged => "expanded_timeline",
                };
                out.field(name, &true);
            }
            if was_inside || self.body.form == Form::Unstable {
                self.write_timeline(room, &page, until, &mut viewer, out)?;
                self.write_state(room, &news, &mut viewer, out)?;
            } else {
                out.list_field("stripped_state", news.events.iter().map(|event| stripped(event).to_string()));
            }
            if joined {
                self.write_summary(candidate, is_initial, &news, &known.counts, out)?;
            } else {
                out.field("bump_stamp", &u64::try_from(record.order).unwrap_or(0));
            }
            if dm_turned {
                out.field("is_dm", &candidate.is_dm);
            }
            self.write_places(candidate, out);
            out.close(b'}');
        }
        Ok(Outcome { known: Some(known), is_initial, timeline })
    }

    fn page(&self, candidate: &Candidate, viewer: &mut Viewer<'_>, since: Option<Order>, until: Order) -> Result<Page> {
        let record = &candidate.record;
        let limit = candidate.config.timeline_limit;
        let span = Span { from: Some(until), to: since, direction: Direction::Backward, limit };
        // Who was in the room all the while may see everything: no look at the state of each event.
        let stayed = record.membership == Membership::Join
            && since.is_some_and(|since| record.joined_at.is_some_and(|joined| joined <= since));
        let mut page = candidate
            .room
            .page(span, until, |placed| Ok(!self.ignored.hides(placed) && (stayed || viewer.may_see(placed)?)))?;
        page.events.reverse();
        Ok(page)
    }

    fn state(
        &self,
        candidate: &Candidate,
        before: Option<&Known>,
        until: Order,
        page: &Page,
        members: &mut BTreeSet<ruma_common::OwnedUserId>,
    ) -> Result<News> {
        let (room, required) = (&candidate.room, &candidate.config.required);
        let to = state_at(room, until)?;
        let turned = Turned::default();
        let mut gone = Vec::new();
        let limited = page.end.is_some();
        if limited && self.body.form == Form::Merged {
            // Its client forgets members where it has a gap.
            members.clear();
        }
        let is_lazy = required.lazy();
        let mut events = match before {
            None => {
                members.clear();
                turned.names.set(true);
                turned.avatar.set(true);
                turned.members.set(true);
                required.of(room, to)?
            }
            Some(before) => {
                let from = state_at(room, before.until)?;
                // Without a gap all that changed of members is told, so that the client need not ask for them.
                let is_told = |key: &str| !limited || <&UserId>::try_from(key).is_ok_and(|user| members.contains(user));
                let mut events;
                (events, gone) = changed_state(room, (from, to), &turned, |kind, key| {
                    required.holds(kind, key) || (is_lazy && kind == MEMBER && is_told(key))
                })?;
                if before.config.required != *required {
                    let old = &before.config.required;
                    let is_new = |placed: &Arc<Placed>| {
                        !old.holds(placed.event.kind(), placed.event.state_key().unwrap_or_default())
                    };
                    events.extend(required.of(room, to)?.into_iter().filter(is_new));
                }
                events
            }
        };
        if is_lazy {
            add_speakers(room, to, page, members, &mut events)?;
        }
        let mut seen = BTreeSet::new();
        events.retain(|placed| seen.insert(placed.event.event_id().to_owned()));
        let (names, avatar, members) = (turned.names.get(), turned.avatar.get(), turned.members.get());
        Ok(News { events, gone, names, avatar, members })
    }

    fn counts(&self, candidate: &Candidate) -> Result<Counts> {
        if candidate.record.membership != Membership::Join {
            return Ok(candidate.known().counts);
        }
        let published = candidate.room.published();
        let unread = candidate.room.unread(&self.who.user_id, &candidate.record, &*self.api.unread_rules)?.total();
        let (joined, invited) = (published.joined, published.invited);
        Ok(Counts { joined, invited, notify: unread.notify, highlight: unread.highlight })
    }

    fn write_timeline(
        &self,
        room: &Room,
        page: &Page,
        until: Order,
        viewer: &mut Viewer<'_>,
        out: &mut Out,
    ) -> Result<()> {
        let limited = page.end.is_some();
        let shown = self.shown(room, limited);
        shown.expect(page.events.iter().map(|placed| placed.order), viewer)?;
        if !page.events.is_empty() {
            out.open_field("timeline", b'[');
            for placed in &page.events {
                out.raw(&shown.to_bytes(placed, viewer)?);
            }
            out.close(b']');
        }
        if limited {
            out.field("limited", &true);
        }
        let first = page.events.first().map_or(until, |first| first.order - 1);
        out.field("prev_batch", &self.api.tokens().print_place(first));
        // Those that came while the client listened, in contrast to history.
        let live = self.base.token.map(SyncToken::order);
        let is_live = |placed: &&Arc<Placed>| live.is_some_and(|live| placed.order > live);
        out.field("num_live", &page.events.iter().filter(is_live).count());
        Ok(())
    }

    fn write_state(&self, room: &Room, news: &News, viewer: &mut Viewer<'_>, out: &mut Out) -> Result<()> {
        // The form of today has no words for state that is gone.
        let gone = if self.body.form == Form::Merged { news.gone.as_slice() } else { &[] };
        if news.events.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let shown = self.shown(room, false);
        out.open_field("required_state", b'[');
        for placed in &news.events {
            out.raw(&shown.to_bytes(placed, viewer)?);
        }
        for (kind, key) in gone {
            out.raw(json!({ "type": kind, "state_key": key }).to_string().as_bytes());
        }
        out.close(b']');
        Ok(())
    }

    fn write_summary(
        &self,
        candidate: &Candidate,
        is_initial: bool,
        news: &News,
        counts: &Counts,
        out: &mut Out,
    ) -> Result<()> {
        let room = &candidate.room;
        if news.names {
            let name = text_of(room, "m.room.name", "name")?;
            // `null` takes away what the client knows.
            if name.is_some() || (!is_initial && self.body.form == Form::Merged) {
                out.field("name", &name);
            }
        }
        if news.avatar {
            let avatar = text_of(room, "m.room.avatar", "url")?;
            if avatar.is_some() || !is_initial {
                out.field("avatar", &avatar);
            }
        }
        if (news.names || news.members)
            && let Some(heroes) = self.heroes(room)?
        {
            out.field("heroes", &heroes);
        }
        let facts = self.api.facts().of(room)?;
        let joined = u64::try_from(candidate.record.joined_at.unwrap_or(0)).unwrap_or(0);
        out.field("bump_stamp", &if facts.bump == 0 { joined } else { facts.bump });
        out.field("joined_count", &counts.joined);
        out.field("invited_count", &counts.invited);
        if self.body.form == Form::Unstable {
            out.field("notification_count", &counts.notify);
            out.field("highlight_count", &counts.highlight);
        }
        Ok(())
    }

    /// What the merged form says of every room: how the reader stands to it, and which lists show it.
    fn write_places(&self, candidate: &Candidate, out: &mut Out) {
        if self.body.form == Form::Unstable {
            return;
        }
        out.field("membership", candidate.record.membership.as_str());
        let names = self.body.lists.keys().enumerate().filter(|(number, _)| candidate.lists & (1u128 << number) != 0);
        let names: Vec<&String> = names.map(|(_, name)| name).collect();
        if !names.is_empty() {
            out.field("lists", &names);
        }
    }

    /// Those who name a room without a name, as they are called in it.
    fn heroes(&self, room: &Room) -> Result<Option<Vec<Hero>>> {
        let Some(users) = room.heroes(&self.who.user_id)? else { return Ok(None) };
        let heroes = users.into_iter().map(|user| {
            let member = room.current(MEMBER, user.as_str())?;
            let field =
                |name: &str| member.as_ref().and_then(|member| member.event.content_field::<Option<String>>(name));
            Ok(Hero {
                displayname: field("displayname").flatten(),
                avatar_url: field("avatar_url").flatten(),
                user_id: user.into(),
            })
        });
        heroes.collect::<Result<_>>().map(Some)
    }

    fn shown<'s>(&'s self, room: &'s Room, bundles: bool) -> Shown<'s> {
        Shown { who: self.who, room, form: ClientForm::WithoutRoomId, bundles, ignored: self.ignored }
    }
}

impl Candidate {
    /// What was known before, or nothing.
    fn known(&self) -> Known {
        let known = self.known.as_deref().cloned().unwrap_or_else(|| Known {
            until: Order::MIN,
            fleeting: 0,
            membership: Membership::Leave,
            config: self.config.clone(),
            members: BTreeSet::new(),
            counts: Counts::default(),
            extensions: 0,
            is_dm: false,
        });
        Known { extensions: self.extensions, config: self.config.clone(), is_dm: self.is_dm, ..known }
    }
}

/// Events, and the kinds and keys of those that are there no more.
type Changes = (Vec<Arc<Placed>>, Vec<(String, String)>);

/// What is wanted of what changed, and what of it is there no more.
fn changed_state(
    room: &Room,
    (from, to): (Root, Root),
    turned: &Turned,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<Changes> {
    if from == to {
        return Ok((Vec::new(), Vec::new()));
    }
    let touched = RefCell::new(Vec::new());
    let events = room.state_changes(from, to, |kind, key| {
        match kind {
            "m.room.name" | "m.room.canonical_alias" => turned.names.set(true),
            "m.room.avatar" => turned.avatar.set(true),
            MEMBER => turned.members.set(true),
            _ => {}
        }
        let is_wanted = wanted(kind, key);
        if is_wanted {
            touched.borrow_mut().push((kind.to_owned(), key.to_owned()));
        }
        is_wanted
    })?;
    let mut gone = touched.into_inner();
    if gone.len() == events.len() {
        return Ok((events, Vec::new()));
    }
    let is_there = |kind: &str, key: &str| {
        events.iter().any(|event| event.event.kind() == kind && event.event.state_key() == Some(key))
    };
    gone.retain(|(kind, key)| !is_there(kind, key));
    Ok((events, gone))
}

/// [CS-API §stripped-state]
fn stripped(placed: &Placed) -> serde_json::Value {
    let event = &placed.event;
    let content: serde_json::Value = serde_json::from_str(event.content().get()).unwrap_or_default();
    json!({ "type": event.kind(), "state_key": event.state_key(), "sender": event.sender(), "content": content })
}

/// The members who speak in the timeline or are spoken of as members, each once. [MSC4186] `$LAZY`
fn add_speakers(
    room: &Room,
    state: Root,
    page: &Page,
    members: &mut BTreeSet<ruma_common::OwnedUserId>,
    events: &mut Vec<Arc<Placed>>,
) -> Result<()> {
    let mut speakers: BTreeSet<&UserId> = BTreeSet::new();
    for placed in &page.events {
        speakers.insert(placed.event.sender());
        if placed.event.kind() == MEMBER
            && let Some(Ok(user)) = placed.event.state_key().map(<&UserId>::try_from)
        {
            speakers.insert(user);
        }
    }
    if members.len() + speakers.len() > MEMBERS_MAX {
        members.clear();
    }
    for speaker in speakers {
        if members.insert(speaker.to_owned()) {
            events.extend(room.state_event(state, MEMBER, speaker.as_str())?);
        }
    }
    Ok(())
}

/// Some text in the room's state; `None` for none, or an empty one.
fn text_of(room: &Room, kind: &str, field: &str) -> Result<Option<String>> {
    let event = room.current(kind, "")?;
    Ok(event.and_then(|event| event.event.content_field::<String>(field)).filter(|text| !text.is_empty()))
}

/// What a stripped event says about how the room looks from outside.
fn door_sign(event: &str) -> Option<(&'static str, String)> {
    let event: serde_json::Value = serde_json::from_str(event).ok()?;
    let (field, text) = match event["type"].as_str()? {
        "m.room.name" => ("name", &event["content"]["name"]),
        "m.room.avatar" => ("avatar", &event["content"]["url"]),
        _ => return None,
    };
    let text = text.as_str().filter(|text| !text.is_empty())?;
    Some((field, text.to_owned()))
}
