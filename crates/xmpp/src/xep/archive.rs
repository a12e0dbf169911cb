//! XEP-0313: Message Archive Management, for accounts; with preferences [XEP-0441], pages [XEP-0059] and words [XEP-0431].
//!
//! The archive of an account is the timelines of its rooms of two, read as one in the order of the log. An event's id is its
//! id in the archive.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use koine_room::{Field as SearchField, Hit, Order, Placed, ReadError, Room, RoomNo, SearchQuery, Span, Viewer};
use koine_stanza::{
    Condition, Element, Jid, StanzaError,
    form::{Field, Form},
    ns,
    rsm::{PageGiven, PageWish},
};
use koine_store::Direction;
use ruma_common::{EventId, OwnedRoomId, OwnedUserId, UserId};

use crate::{
    core::Core,
    error::unreadable,
    im::Talk,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    time,
    xep::order::Order as Order0413,
};

/// Events on a page where none is asked for.
const PAGE_DEFAULT: usize = 50;
/// Most events on a page.
const PAGE_MAX: usize = 250;
/// Most ids that one question names.
const IDS_MAX: usize = 100;
/// Most events that one question looks at in one room.
pub(crate) const LOOK_MAX: usize = 20_000;
/// More than the core of the specification. [XEP-0313 §support]
pub(crate) const EXTENDED: &str = "urn:xmpp:mam:2#extended";
/// Whether messages of rooms are asked for. [XEP-0313 §groupchat-field]
const GROUPCHAT: &str = "urn:xmpp:mam:2#groupchat-field";
/// What stands where a message was. [XEP-0424 §tombstones]
pub(crate) const TOMBSTONES: &str = "urn:xmpp:message-retract:1#tombstone";
/// Words to look for. [XEP-0431 §usecases]
const FULLTEXT: &str = "{urn:xmpp:fulltext:0}fulltext";
/// How long a question for words waits for the index to know the newest of them.
const INDEX_WAIT: Duration = Duration::from_secs(5);
/// Ids are ours. [XEP-0359 §disco]
const STABLE_IDS: &str = ns::STANZA_ID;

/// Asked of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[
        (At::Account, ns::MAM),
        (At::Account, EXTENDED),
        (At::Account, GROUPCHAT),
        (At::Account, STABLE_IDS),
        (At::Account, ns::RETRACT),
        (At::Account, TOMBSTONES),
        (At::Host, ns::RSM),
    ],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get, Verb::Set],
            name: "query",
            ns: ns::MAM,
            run: |core, request| {
                Box::pin(async move {
                    match request.verb {
                        Verb::Get => Ok(Some(Element::new("query", ns::MAM).with_child(form().element()))),
                        Verb::Set => search(&core, &request).await,
                    }
                })
            },
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "metadata",
            ns: ns::MAM,
            run: |core, request| Box::pin(async move { metadata(&core, &request) }),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get, Verb::Set],
            name: "prefs",
            ns: ns::MAM,
            run: |_, request| Box::pin(async move { preferences(&request) }),
        },
    ],
};

/// The form to ask with. [XEP-0313 §query-form]
pub(crate) fn form() -> Form {
    let ids = Field::new("ids", "list-multi", "Only these");
    Form::new("form", ns::MAM)
        .with(Field::new("with", "jid-single", "With whom"))
        .with(Field::new("start", "text-single", "Not before this time"))
        .with(Field::new("end", "text-single", "Not after this time"))
        .with(Field::new("before-id", "text-single", "Before this message"))
        .with(Field::new("after-id", "text-single", "After this message"))
        .with(ids)
        .with(Field::boolean("include-groupchat", "Messages of rooms too (they are in the rooms' archives)", false))
        .with(Field::new(FULLTEXT, "text-single", "With these words"))
}

/// What is asked of an archive.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) with: Option<Jid>,
    start_ms: Option<u64>,
    end_ms: Option<u64>,
    /// Only events above this order.
    pub(crate) after: Option<Order>,
    /// Only events below this order.
    pub(crate) before: Option<Order>,
    pub(crate) ids: Vec<String>,
    /// Only what has these words.
    pub(crate) words: Option<String>,
}

/// The page that is asked for.
pub(crate) struct Asked {
    pub(crate) wanted: Wanted,
    pub(crate) direction: Direction,
    pub(crate) limit: usize,
}

/// The newest first, pages too. [XEP-0413 §MAM]
pub(crate) fn is_reversed(query: &Element) -> Result<bool, StanzaError> {
    Ok(Order0413::within(query)?.is_some_and(|order| order.descending))
}

impl Asked {
    /// What a query asks; `place` finds where an event stands.
    pub(crate) fn read(
        query: &Element,
        place: impl Fn(&str) -> Result<Order, StanzaError>,
    ) -> Result<Self, StanzaError> {
        let mut wanted = Wanted::read(query, &place)?;
        let wish = PageWish::within(query).unwrap_or_default();
        let limit = wish.max.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
        // What comes after is older, where the newest come first.
        let reversed = is_reversed(query)?;
        let (after, before) = if reversed { (&wish.before, &wish.after) } else { (&wish.after, &wish.before) };
        if let Some(after) = after.as_ref().filter(|after| !after.is_empty()) {
            let after = place(after)?;
            wanted.after = Some(wanted.after.map_or(after, |other| other.max(after)));
        }
        let backward = wish.before.is_some() != reversed;
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        if let Some(before) = before.as_deref().filter(|before| !before.is_empty()) {
            let before = place(before)?;
            wanted.before = Some(wanted.before.map_or(before, |other| other.min(before)));
        }
        Ok(Self { wanted, direction, limit })
    }
}

impl Wanted {
    /// Whether something said then is asked for.
    pub(crate) fn is_in_time(&self, ts: u64) -> bool {
        self.start_ms.is_none_or(|start| ts >= start) && self.end_ms.is_none_or(|end| ts <= end)
    }

    /// Whether something that stands there is asked for.
    fn is_between(&self, order: Order) -> bool {
        self.after.is_none_or(|after| order > after) && self.before.is_none_or(|before| order < before)
    }

    /// Where a page begins and where the archive ends, as it is read in a direction.
    pub(crate) fn span(&self, direction: Direction) -> (Option<Order>, Option<Order>) {
        let (low, high) = (self.after, self.before.map(|before| before - 1));
        match direction {
            Direction::Backward => (high, low),
            Direction::Forward => (low, high),
        }
    }

    fn read(query: &Element, place: &impl Fn(&str) -> Result<Order, StanzaError>) -> Result<Self, StanzaError> {
        let Some(form) = Form::within(query) else { return Ok(Self::default()) };
        let bad = |text: &str| StanzaError::new(Condition::BadRequest, text);
        if form.form_type.as_deref().is_some_and(|kind| kind != ns::MAM) {
            return Err(bad("this form is not for the archive"));
        }
        let mut wanted = Self::default();
        for field in &form.fields {
            let value = field.value().unwrap_or_default();
            let moment = || time::parse(value).ok_or_else(|| bad("this is no time"));
            match field.var.as_str() {
                "with" => {
                    let jid = Jid::new(value)
                        .map_err(|_| StanzaError::new(Condition::JidMalformed, "`with` is no address"))?;
                    wanted.with = Some(jid);
                }
                "start" => wanted.start_ms = Some(moment()?),
                "end" => wanted.end_ms = Some(moment()?),
                "after-id" => wanted.after = Some(place(value)?),
                "before-id" => wanted.before = Some(place(value)?),
                FULLTEXT => wanted.words = Some(value.to_owned()).filter(|words| !words.trim().is_empty()),
                // Rooms have archives of their own: there are none here, whether wanted or not.
                "include-groupchat" if field.bool().is_some() => {}
                "ids" => wanted.ids = field.values.iter().take(IDS_MAX).cloned().collect(),
                _ => {
                    return Err(StanzaError::new(
                        Condition::FeatureNotImplemented,
                        "the form has a field that is not known here",
                    ));
                }
            }
        }
        Ok(wanted)
    }
}

/// Where an event of one of the account's rooms of two stands.
fn place(core: &Core, me: &UserId, id: &str) -> Result<Order, StanzaError> {
    Ok(find(core, me, id).map_err(|error| unreadable(&error))?.ok_or_else(no_such)?.1.order)
}

pub(crate) fn no_such() -> StanzaError {
    StanzaError::new(Condition::ItemNotFound, "there is no such message in this archive")
}

/// An event of a room of two, with the other of the two.
type OfTwo = (Arc<Room>, Arc<Placed>, OwnedUserId);

/// An event of one of the account's rooms of two, with the other of the two.
fn find(core: &Core, me: &UserId, id: &str) -> Result<Option<OfTwo>, ReadError> {
    let Ok(id) = <&EventId>::try_from(id) else { return Ok(None) };
    let Some((room, placed)) = core.rooms().find_event(id)? else { return Ok(None) };
    let Some(pair) = core.rooms().pair_of(room.no())? else { return Ok(None) };
    let Some((_, peer)) = Core::pair_from(&pair, me) else { return Ok(None) };
    let mut viewer = Viewer::new(&room, me)?;
    let seen = !placed.is_outlier() && viewer.may_see(&placed)?;
    drop(viewer);
    Ok(seen.then_some((room, placed, peer)))
}

/// One message of an archive.
pub(crate) struct Found {
    pub(crate) order: Order,
    pub(crate) id: String,
    pub(crate) ts: u64,
    pub(crate) message: Element,
}

/// What some rooms have of the words asked for, as far as `user` may see it, in the direction asked for; at most one more
/// than the page has. [XEP-0431 §usecases]
pub(crate) async fn with_words(
    core: &Arc<Core>,
    user: &UserId,
    rooms: Vec<OwnedRoomId>,
    asked: &Asked,
    words: &str,
) -> Result<Vec<Hit>, StanzaError> {
    core.rooms().until_indexed(INDEX_WAIT).await;
    let (core, user, term) = (core.clone(), user.to_owned(), words.to_owned());
    // It reads for as long as it takes.
    let found = tokio::task::spawn_blocking(move || {
        let query = SearchQuery {
            term: &term,
            fields: &[SearchField::Body],
            rooms: Some(&rooms),
            up_to: i64::MAX,
            by_rank: false,
        };
        core.rooms().search(&user, &query, |_, placed| !placed.event.is_state())
    });
    let found = found.await.map_err(|_| StanzaError::from(Condition::InternalServerError))?;
    let mut hits = found.map_err(|error| unreadable(&error))?.hits;
    hits.retain(|hit| {
        asked.wanted.is_between(hit.placed.order)
            && asked.wanted.is_in_time(hit.placed.event.origin_server_ts().get().into())
    });
    hits.sort_by_key(|hit| hit.placed.order);
    if asked.direction == Direction::Backward {
        hits.reverse();
    }
    hits.truncate(asked.limit + 1);
    Ok(hits)
}

/// Words in all rooms of two, or in those with one person.
async fn search_words(
    core: &Arc<Core>,
    me: &UserId,
    asked: &Asked,
    words: &str,
) -> Result<(Vec<Found>, bool), StanzaError> {
    let read = |error: ReadError| unreadable(&error);
    let mut rooms = Vec::new();
    for (_, no) in rooms_asked(core, me, &asked.wanted).map_err(read)? {
        rooms.push(core.rooms().room_by_no(no).map_err(read)?.id().to_owned());
    }
    let mut found = Vec::new();
    for hit in with_words(core, me, rooms, asked, words).await? {
        let pair = core.rooms().pair_of(hit.room.no()).map_err(read)?;
        let Some((_, peer)) = pair.and_then(|pair| Core::pair_from(&pair, me)) else { continue };
        if core.has_blocked(me, &peer) && *hit.placed.event.sender() == peer {
            continue;
        }
        let talk = Talk::new(core, &hit.room, (me, &peer));
        found.extend(archived(core, &talk, (me, &peer), &hit.placed).map_err(read)?);
    }
    let complete = found.len() <= asked.limit;
    found.truncate(asked.limit);
    Ok((found, complete))
}

async fn search(core: &Arc<Core>, request: &Request) -> Answer {
    let session = request.own_session()?;
    let me = session.user();
    core.im.note_reader(session.jid());
    let query = &request.payload;
    let asked = Asked::read(query, |id| place(core, me, id))?;
    let (page, complete) = match &asked.wanted.words {
        _ if !asked.wanted.ids.is_empty() => (by_id(core, me, &asked.wanted.ids)?, true),
        Some(words) => search_words(core, me, &asked, words).await?,
        None => read(core, me, &asked.wanted, asked.direction, asked.limit).map_err(|error| unreadable(&error))?,
    };
    let (messages, fin) = results(query, page, complete);
    for message in messages {
        let message = message.with_attr("from", session.jid().to_bare().to_string());
        session.send(message.with_attr("to", session.jid().to_string()));
    }
    Ok(Some(fin))
}

/// A page as messages without addresses, in order, and what ends it. [XEP-0313 §results]
pub(crate) fn results(query: &Element, mut page: Vec<Found>, complete: bool) -> (Vec<Element>, Element) {
    page.sort_by_key(|found| found.order);
    if is_reversed(query).unwrap_or(false) {
        page.reverse();
    }
    let given = PageGiven {
        first: page.first().map(|found| found.id.clone()),
        last: page.last().map(|found| found.id.clone()),
        index: None,
        count: None,
    };
    // [XEP-0313 §query-paging-flip]
    if query.has_child("flip-page", ns::MAM) {
        page.reverse();
    }
    let result = |found: Found| {
        let delay = Element::new("delay", ns::DELAY).with_attr("stamp", time::format(found.ts));
        let forwarded = Element::new("forwarded", ns::FORWARD).with_child(delay).with_child(found.message);
        let result = Element::new("result", ns::MAM)
            .with_attr_opt("queryid", query.attr("queryid"))
            .with_attr("id", found.id)
            .with_child(forwarded);
        Element::new("message", ns::CLIENT).with_child(result)
    };
    let fin = Element::new("fin", ns::MAM)
        .with_attr_opt("queryid", query.attr("queryid"))
        .with_attr_opt("complete", complete.then_some("true"))
        .with_child(given.element());
    (page.into_iter().map(result).collect(), fin)
}

/// All rooms of two, or those with one person.
fn rooms_asked(core: &Core, me: &UserId, wanted: &Wanted) -> Result<Vec<(OwnedUserId, RoomNo)>, ReadError> {
    let Some(with) = &wanted.with else { return core.rooms().rooms_of_two(me) };
    let Some(peer) = core.person_of(&with.to_bare()) else { return Ok(Vec::new()) };
    let rooms = core.rooms().rooms_with(me, &peer)?;
    Ok(rooms.into_iter().map(|no| (peer.clone(), no)).collect())
}

/// A page of all rooms of two, or of those with one person; and whether there is nothing further.
fn read(
    core: &Core,
    me: &UserId,
    wanted: &Wanted,
    direction: Direction,
    limit: usize,
) -> Result<(Vec<Found>, bool), ReadError> {
    let rooms = rooms_asked(core, me, wanted)?;
    let mut opened = Vec::with_capacity(rooms.len());
    for (peer, no) in rooms {
        let room = core.rooms().room_by_no(no)?;
        opened.push((room.published().order, peer, room));
    }
    // The newest first, so that a page of the newest need not look at rooms long silent.
    opened.sort_by_key(|(newest, _, _)| std::cmp::Reverse(*newest));
    let mut found: Vec<Found> = Vec::new();
    let mut kept = BTreeSet::new();
    let mut complete = true;
    for (newest, peer, room) in opened {
        if wanted.after.is_some_and(|after| newest <= after) {
            continue;
        }
        let is_full = kept.len() > limit;
        if direction == Direction::Backward && is_full && kept.first().is_some_and(|oldest| newest < *oldest) {
            break;
        }
        let (some, all) = read_room(core, (me, &peer), &room, wanted, direction, limit)?;
        complete &= all;
        for one in some {
            kept.insert(one.order);
            found.push(one);
        }
        while kept.len() > limit + 1 {
            match direction {
                Direction::Backward => kept.pop_first(),
                Direction::Forward => kept.pop_last(),
            };
        }
    }
    found.sort_by_key(|found| found.order);
    let surplus = found.len().saturating_sub(limit);
    complete &= surplus == 0;
    match direction {
        Direction::Backward => drop(found.drain(..surplus)),
        Direction::Forward => found.truncate(limit),
    }
    Ok((found, complete))
}

/// Up to one more than `limit` of one room, and whether there is nothing further.
fn read_room(
    core: &Core,
    (me, peer): (&UserId, &UserId),
    room: &Room,
    wanted: &Wanted,
    direction: Direction,
    limit: usize,
) -> Result<(Vec<Found>, bool), ReadError> {
    let mut viewer = Viewer::new(room, me)?;
    let Ok(newest) = viewer.newest() else { return Ok((Vec::new(), true)) };
    let (mut from, to) = wanted.span(direction);
    let talk = Talk::new(core, room, (me, peer));
    let blocked = core.has_blocked(me, peer);
    let mut found = Vec::new();
    let mut looked = 0;
    loop {
        let span = Span { from, to, direction, limit: limit + 1 - found.len() };
        let page = room.page(span, newest, |placed| {
            looked += 1;
            let ts = u64::from(placed.event.origin_server_ts().get());
            let hidden = blocked && placed.event.sender() == peer;
            Ok(wanted.is_in_time(ts) && !hidden && !placed.event.is_state() && viewer.may_see(placed)?)
        })?;
        for placed in &page.events {
            found.extend(archived(core, &talk, (me, peer), placed)?);
        }
        match page.end {
            Some(end) if found.len() <= limit && looked < LOOK_MAX => from = Some(end),
            end => return Ok((found, end.is_none())),
        }
    }
}

fn by_id(core: &Core, me: &UserId, ids: &[String]) -> Result<Vec<Found>, StanzaError> {
    let mut all = Vec::new();
    for id in ids {
        // [XEP-0313 §query-uids] All of them or none.
        let (room, placed, peer) = find(core, me, id).map_err(|error| unreadable(&error))?.ok_or_else(no_such)?;
        let found = archived(core, &Talk::new(core, &room, (me, &peer)), (me, &peer), &placed);
        all.push(found.map_err(|error| unreadable(&error))?.ok_or_else(no_such)?);
    }
    Ok(all)
}

/// An event as a message of the archive, with addresses.
fn archived(
    core: &Core,
    talk: &Talk<'_>,
    (me, peer): (&UserId, &UserId),
    placed: &Placed,
) -> Result<Option<Found>, ReadError> {
    let Some(mut message) = talk.message(placed)? else { return Ok(None) };
    let sender = placed.event.sender();
    let recipient = if sender == me { peer } else { me };
    let (Some(from), Some(to)) = (core.address_of(sender), core.address_of(recipient)) else { return Ok(None) };
    message.set_attr("from", Some(core.speaker(&from, placed).to_string()));
    message.set_attr("to", Some(to.to_string()));
    // Nobody types any more.
    message.retain_children(|child| child.ns() != ns::CHAT_STATES);
    let ts = placed.event.origin_server_ts().get().into();
    Ok(Some(Found { order: placed.order, id: placed.event.event_id().to_string(), ts, message }))
}

/// The first and the last message. [XEP-0313 §metadata]
fn metadata(core: &Arc<Core>, request: &Request) -> Answer {
    let me = request.own_session()?.user();
    let mut metadata = Element::new("metadata", ns::MAM);
    for (name, direction) in [("start", Direction::Forward), ("end", Direction::Backward)] {
        let page = read(core, me, &Wanted::default(), direction, 1).map_err(|error| unreadable(&error))?.0;
        if let Some(found) = page.first() {
            let end = Element::new(name, ns::MAM).with_attr("id", found.id.as_str());
            metadata.push(end.with_attr("timestamp", time::format(found.ts)));
        }
    }
    Ok(Some(metadata))
}

/// The timeline of a room is its archive, so everything that lasts is in it: that is what is answered, whatever is wished.
/// [XEP-0441]
fn preferences(request: &Request) -> Answer {
    request.own_session()?;
    let prefs = Element::new("prefs", ns::MAM).with_attr("default", "always");
    Ok(Some(prefs.with_child(Element::new("always", ns::MAM)).with_child(Element::new("never", ns::MAM))))
}
