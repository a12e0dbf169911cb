//! `GET /initialSync`: everything as it is now; and the same of one room, which may be one that anyone may read.
//!
//! [CS-API §get_matrixclientv3initialsync] [CS-API §get_matrixclientv3roomsroomidinitialsync]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Direction, Membership, Room, Root, Span, Viewer};
use ruma_common::RoomId;
use serde::{Deserialize, de::IgnoredAny};

use super::{InitialSync, RoomInitialSync};
use crate::{
    Api, Loose, Raw, Result, User,
    event::{self, Ignored, Shown},
    presence,
    rooms::{path, query, room},
    sync::Out,
};

/// Messages of a room when nothing is said.
const LIMIT_DEFAULT: usize = 20;
/// Most messages of a room.
const LIMIT_MAX: usize = 100;
/// Most people whose presence is told.
const PEOPLE_MAX: usize = 500;

#[derive(Debug, Deserialize)]
struct Query {
    limit: Option<usize>,
    #[serde(default)]
    archived: bool,
}

/// One look at rooms.
struct Look<'a> {
    api: &'a Api,
    who: &'a User,
    ignored: Ignored,
    limit: usize,
}

pub async fn initial_sync(State(api): State<Api>, call: Loose<InitialSync, IgnoredAny>) -> Result<Raw> {
    let query: Query = query(&call.query)?;
    let who = &call.who;
    // From here on somebody listens.
    let _inbox = api.rooms.hub().inbox(&who.user_id);
    let position = api.rooms.shard().position();
    api.rooms.hub().reached(position).await;
    let now = api.tokens().now(position, api.rooms.hub().fleeting());
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let look = Look { api: &api, who, ignored: Ignored::of(&api, who)?, limit };
    let mut out = Out::with_capacity(16 * 1024);
    out.open(b'{');
    out.field("end", &api.tokens().print_sync(now));
    let people = presence::people_around(&api, &who.user_id, PEOPLE_MAX)?;
    let people = people.iter().filter_map(|user| presence::event(&api, user, &look.ignored));
    out.list_field("presence", people.map(|event| event.to_string()));
    out.open_field("rooms", b'[');
    for (no, record) in api.rooms.memberships(&who.user_id)? {
        let is_wanted = match record.membership {
            Membership::Join | Membership::Invite | Membership::Knock => true,
            Membership::Leave | Membership::Ban => query.archived && !record.forgotten && record.left_at.is_some(),
        };
        if is_wanted {
            look.room(&*api.rooms.room_by_no(no)?, &mut out)?;
        }
    }
    out.close(b']');
    let data = api.accounts.global_account_data_after(&who.user_id, None)?;
    out.list_field("account_data", data.iter().map(|data| event::account_data(&data.kind, &data.content)));
    out.close(b'}');
    Ok(Raw(out.into_bytes()))
}

pub async fn room_initial_sync(State(api): State<Api>, call: Loose<RoomInitialSync, IgnoredAny>) -> Result<Raw> {
    let id: &RoomId = path(&call.path, 0)?;
    let room = room(&api, id)?;
    let look = Look { api: &api, who: &call.who, ignored: Ignored::of(&api, &call.who)?, limit: LIMIT_DEFAULT };
    // Refuses who has nothing to look for here, before anything is said.
    Viewer::new(&room, &call.who.user_id)?.newest()?;
    let mut out = Out::with_capacity(16 * 1024);
    look.room(&room, &mut out)?;
    Ok(Raw(out.into_bytes()))
}

impl Look<'_> {
    fn room(&self, room: &Room, out: &mut Out) -> Result<()> {
        let user = &self.who.user_id;
        let mut viewer = Viewer::new(room, user)?;
        out.open(b'{');
        out.field("room_id", room.id());
        if let Some(membership) = viewer.membership() {
            out.field("membership", membership.as_str());
        }
        let visibility = if self.api.rooms.is_listed(room.id())? { "public" } else { "private" };
        out.field("visibility", visibility);
        let shown = Shown { who: self.who, room, form: ClientForm::Full, bundles: false, ignored: &self.ignored };
        if viewer.membership() == Some(Membership::Invite) {
            let record = viewer.record().cloned();
            let order = record.map(|record| record.order);
            if let Some(invitation) = order.map(|order| room.event_at(order)).transpose()?.flatten() {
                out.raw_field("invite", &shown.to_bytes(&invitation, &mut viewer)?);
            }
        } else if viewer.membership() != Some(Membership::Knock) {
            self.messages(room, &mut viewer, &shown, out)?;
            let state = viewer.state()?;
            let state = room.state_changes(Root::EMPTY, state, |_, _| true)?;
            let mut list = Vec::new();
            shown.write_list(&state, &mut viewer, &mut list)?;
            out.raw_field("state", &list);
        }
        let data = self.api.accounts.room_account_data_after(user, None)?;
        let data = data.iter().filter(|data| data.room_id == room.id());
        out.list_field("account_data", data.map(|data| event::account_data(&data.kind, &data.content)));
        out.close(b'}');
        Ok(())
    }

    /// The newest messages, the oldest first.
    fn messages(&self, room: &Room, viewer: &mut Viewer<'_>, shown: &Shown<'_>, out: &mut Out) -> Result<()> {
        let newest = viewer.newest()?;
        let span = Span { from: None, to: None, direction: Direction::Backward, limit: self.limit };
        let mut page = room.page(span, newest, |placed| Ok(!self.ignored.hides(placed) && viewer.may_see(placed)?))?;
        page.events.reverse();
        let start = page.events.first().map_or(newest, |first| first.order - 1);
        out.open_field("messages", b'{');
        out.field("start", &self.api.tokens().print_place(start));
        out.field("end", &self.api.tokens().print_place(newest));
        let mut list = Vec::new();
        shown.write_list(&page.events, viewer, &mut list)?;
        out.raw_field("chunk", &list);
        out.close(b'}');
        Ok(())
    }
}
