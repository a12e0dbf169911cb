//! `POST /search`: messages, names and topics of the account's rooms that have all the words asked for.
//!
//! [CS-API §post_matrixclientv3search] A page token says where the first page ended and up to where the log was known then,
//! so that pages do not move when more is said. A page that is full has one, even if nothing comes after it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Field, Hit, Order, Placed, Room, Root, SEARCH_LOOK_MAX, SearchQuery, Viewer};
use ruma_client_api::search::search_events::v3;
use ruma_common::OwnedRoomId;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    Api, Error, Loose, Raw, Result, User,
    event::{Ignored, Shown},
    filter::RoomEventFilter,
    sync::Out,
};

/// Results on a page when nothing is said.
const LIMIT_DEFAULT: usize = 10;
/// Most results on a page.
const LIMIT_MAX: usize = 100;
/// Neighbours on each side when nothing is said.
const CONTEXT_DEFAULT: usize = 5;
/// Most neighbours on each side.
const CONTEXT_MAX: usize = 20;
/// Rooms that one question may name.
const ROOMS_MAX: usize = 10_000;
/// How long the index may take to know what was said right before.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
pub struct Body {
    search_categories: Categories,
}

#[derive(Debug, Deserialize)]
struct Categories {
    room_events: Option<Criteria>,
}

#[derive(Debug, Deserialize)]
struct Criteria {
    search_term: String,
    keys: Option<Vec<String>>,
    #[serde(default)]
    filter: Option<Box<RawValue>>,
    #[serde(default)]
    order_by: OrderBy,
    event_context: Option<EventContext>,
    #[serde(default)]
    include_state: bool,
    #[serde(default)]
    groupings: Groupings,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderBy {
    Recent,
    #[default]
    Rank,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct EventContext {
    before_limit: Option<usize>,
    after_limit: Option<usize>,
    #[serde(default)]
    include_profile: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    key: GroupKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GroupKey {
    RoomId,
    Sender,
}

/// What of a filter says which rooms are searched.
#[derive(Debug, Default, Deserialize)]
struct Rooms {
    rooms: Option<Vec<OwnedRoomId>>,
}

pub async fn post_search(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Raw> {
    let Some(criteria) = call.body.search_categories.room_events else {
        return Ok(Raw("{\"search_categories\":{}}".into()));
    };
    let page = Page::parse(&api, &call.query)?;
    api.rooms.until_indexed(PATIENCE).await;
    let (who, reader) = (call.who, api.clone());
    // It may read for a while.
    let answered = tokio::task::spawn_blocking(move || answer(&reader, &who, &criteria, page)).await;
    answered.map_err(Error::internal)?
}

/// A place in an answer.
#[derive(Clone, Copy)]
struct Page {
    up_to: Order,
    skip: usize,
}

impl Page {
    fn parse(api: &Api, query: &str) -> Result<Self> {
        let nonsense = || Error::invalid_param("next_batch is not from a search");
        let Some(token) = query.split('&').find_map(|pair| pair.strip_prefix("next_batch=")) else {
            let newest = Order::try_from(api.rooms.shard().position().0).unwrap_or(Order::MAX);
            return Ok(Self { up_to: newest, skip: 0 });
        };
        let (skip, place) = token.split_once('.').ok_or_else(nonsense)?;
        let skip: usize = skip.parse().map_err(|_| nonsense())?;
        let up_to = api.tokens().parse_place(place).map_err(|_| nonsense())?;
        Ok(Self { up_to, skip: skip.min(SEARCH_LOOK_MAX) })
    }

    fn print(self, api: &Api) -> String {
        format!("{}.{}", self.skip, api.tokens().print_place(self.up_to))
    }
}

fn answer(api: &Api, who: &User, criteria: &Criteria, page: Page) -> Result<Raw> {
    let (filter, only) = match &criteria.filter {
        Some(json) => {
            let rooms: Rooms = serde_json::from_str(json.get()).map_err(|error| Error::bad_json(error.to_string()))?;
            (RoomEventFilter::parse(json.get())?, rooms.rooms)
        }
        None => (RoomEventFilter::default(), None),
    };
    if only.as_ref().is_some_and(|only| only.len() > ROOMS_MAX) {
        return Err(Error::invalid_param(format!("A search names at most {ROOMS_MAX} rooms")));
    }
    let limit = filter.limit_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let ignored = Ignored::of(api, who)?;
    let fields = fields(criteria.keys.as_deref());
    let query = SearchQuery {
        term: &criteria.search_term,
        fields: &fields,
        rooms: only.as_deref(),
        up_to: page.up_to,
        by_rank: criteria.order_by == OrderBy::Rank,
    };
    let wanted = |room: &Room, placed: &Placed| filter.allows(room.id(), placed) && !ignored.hides(placed);
    let found = api.rooms.search(&who.user_id, &query, wanted)?;
    let shown: Vec<&Hit> = found.hits.iter().skip(page.skip).take(limit).collect();
    let next = (shown.len() == limit).then(|| Page { skip: page.skip + limit, ..page }.print(api));

    let mut out = Out::with_capacity(2048 * shown.len() + 256);
    out.open(b'{');
    out.open_field("search_categories", b'{');
    out.open_field("room_events", b'{');
    out.field("count", &found.hits.len());
    out.field("highlights", &found.highlights);
    out.open_field("results", b'[');
    for hit in &shown {
        write_hit(api, who, hit, criteria.event_context, &ignored, &mut out)?;
    }
    out.close(b']');
    if let Some(next) = &next {
        out.field("next_batch", next);
    }
    if !criteria.groupings.group_by.is_empty() {
        out.field("groups", &groups(&criteria.groupings, &shown));
    }
    if criteria.include_state {
        write_state(who, &shown, &ignored, &mut out)?;
    }
    for _ in 0..3 {
        out.close(b'}');
    }
    Ok(Raw(out.into_bytes()))
}

fn fields(keys: Option<&[String]>) -> Vec<Field> {
    let Some(keys) = keys else { return Field::ALL.to_vec() };
    let known = [("content.body", Field::Body), ("content.name", Field::Name), ("content.topic", Field::Topic)];
    known.into_iter().filter(|(name, _)| keys.iter().any(|key| key == name)).map(|(_, field)| field).collect()
}

fn write_hit(
    api: &Api,
    who: &User,
    hit: &Hit,
    context: Option<EventContext>,
    ignored: &Ignored,
    out: &mut Out,
) -> Result<()> {
    let Hit { room, placed, rank } = hit;
    let mut viewer = Viewer::new(room, &who.user_id)?;
    let shown = Shown { who, room, form: ClientForm::Full, bundles: true, ignored };
    out.open(b'{');
    out.field("rank", rank);
    out.raw_field("result", &shown.to_bytes(placed, &mut viewer)?);
    if let Some(wanted) = context {
        let side = |limit: Option<usize>| limit.unwrap_or(CONTEXT_DEFAULT).min(CONTEXT_MAX);
        let (before, after) = (side(wanted.before_limit), side(wanted.after_limit));
        let both = 2 * before.max(after);
        let mut around = room.context(&mut viewer, placed.event.event_id(), both, |placed| !ignored.hides(placed))?;
        around.before.truncate(before);
        around.after.truncate(after);
        let start = around.before.last().unwrap_or(placed).order - 1;
        let end = around.after.last().unwrap_or(placed).order;
        out.open_field("context", b'{');
        out.field("start", &api.tokens().print_place(start));
        out.field("end", &api.tokens().print_place(end));
        for (name, events) in [("events_before", &around.before), ("events_after", &around.after)] {
            let mut list = Vec::new();
            shown.write_list(events, &mut viewer, &mut list)?;
            out.raw_field(name, &list);
        }
        if wanted.include_profile {
            let events = around.before.iter().chain([placed]).chain(&around.after);
            out.field("profile_info", &profiles(room, events.map(|placed| &**placed))?);
        }
        out.close(b'}');
    }
    out.close(b'}');
    Ok(())
}

/// What the senders were called when they said it.
fn profiles<'p>(room: &Room, events: impl Iterator<Item = &'p Placed>) -> Result<BTreeMap<String, Value>> {
    let mut profiles = BTreeMap::new();
    for placed in events {
        let sender = placed.event.sender();
        if profiles.contains_key(sender.as_str()) {
            continue;
        }
        let member = room.state_event(placed.state_before, "m.room.member", sender.as_str())?;
        let content: Map<String, Value> =
            member.and_then(|member| serde_json::from_str(member.event.content().get()).ok()).unwrap_or_default();
        let mut profile = Map::new();
        for name in ["displayname", "avatar_url"] {
            if let Some(value @ Value::String(_)) = content.get(name) {
                profile.insert(name.to_owned(), value.clone());
            }
        }
        profiles.insert(sender.to_string(), Value::Object(profile));
    }
    Ok(profiles)
}

/// The results of the page by room or by sender, in the order of their first result.
fn groups(groupings: &Groupings, shown: &[&Hit]) -> Value {
    let keys: BTreeSet<GroupKey> = groupings.group_by.iter().map(|group| group.key).collect();
    let mut groups = Map::new();
    for key in keys {
        let mut by_value: BTreeMap<String, (usize, Vec<&str>)> = BTreeMap::new();
        for hit in shown {
            let value = match key {
                GroupKey::RoomId => hit.room.id().as_str(),
                GroupKey::Sender => hit.placed.event.sender().as_str(),
            };
            let order = by_value.len() + 1;
            let group = by_value.entry(value.to_owned()).or_insert((order, Vec::new()));
            group.1.push(hit.placed.event.event_id().as_str());
        }
        let by_value: Map<String, Value> = by_value
            .into_iter()
            .map(|(value, (order, results))| (value, json!({ "order": order, "results": results })))
            .collect();
        let name = if key == GroupKey::RoomId { "room_id" } else { "sender" };
        groups.insert(name.to_owned(), Value::Object(by_value));
    }
    Value::Object(groups)
}

/// The state of each room of the page, as the reader may see it now.
fn write_state(who: &User, shown: &[&Hit], ignored: &Ignored, out: &mut Out) -> Result<()> {
    out.open_field("state", b'{');
    let mut told = BTreeSet::new();
    for hit in shown {
        let room = &hit.room;
        if !told.insert(room.no()) {
            continue;
        }
        let mut viewer = Viewer::new(room, &who.user_id)?;
        let state = room.state_changes(Root::EMPTY, viewer.state()?, |_, _| true)?;
        let events = Shown { who, room, form: ClientForm::Full, bundles: false, ignored };
        let mut list = Vec::new();
        events.write_list(&state, &mut viewer, &mut list)?;
        out.raw_field(room.id().as_str(), &list);
    }
    out.close(b'}');
    Ok(())
}
