//! `GET /sync`: everything an account has to know, now and then whenever something changes.
//!
//! [CS-API §get_matrixclientv3sync]

use std::time::Duration;

use axum::extract::State;
use koine_push::PUSH_RULES;
use ruma_client_api::sync::sync_events::v3;
use tokio::time::Instant;

use super::{out::Out, rooms::Changed};
use crate::{
    Api, Call, Raw, Result, User,
    event::{self, Ignored},
    filter::SyncFilter,
    presence,
    token::SyncToken,
};

/// Longest time a request is kept waiting; a client that asks for more asks again.
const TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);

/// One look at the account, from `since` to `now`.
pub(super) struct Look<'a> {
    pub(super) api: &'a Api,
    pub(super) who: &'a User,
    pub(super) filter: &'a SyncFilter,
    pub(super) since: Option<SyncToken>,
    pub(super) now: SyncToken,
    /// People whom the reader does not want to hear of.
    pub(super) ignored: &'a Ignored,
    /// Tell the whole state, whatever `since` says.
    pub(super) full_state: bool,
    /// Tell the state at the end of the timeline instead of that at its start. [MSC4222]
    pub(super) state_after: bool,
}

pub async fn sync(State(api): State<Api>, call: Call<v3::Request>) -> Result<Raw> {
    let request = call.request;
    let filter = SyncFilter::load(&api, &call.who, request.filter.as_ref())?;
    let mut since = request.since.as_deref().map(|token| api.tokens().parse_sync(token)).transpose()?;
    let wish = presence::parse_state(request.set_presence.as_str())?;
    // [CS-API §presence] The device is there as long as it waits.
    let _polling = api.accounts.presences().poll(&call.who.user_id, &call.who.device_id, wish);
    let timeout = request.timeout.unwrap_or_default().min(TIMEOUT_MAX);
    let deadline = Instant::now() + timeout;
    let inbox = api.rooms.hub().inbox(&call.who.user_id);
    let mut bell = inbox.bell();
    let is_first = since.is_none();
    loop {
        // Before looking, so that what comes while we look wakes us up.
        bell.borrow_and_update();
        let position = api.rooms.shard().position();
        api.rooms.hub().reached(position).await;
        let now = api.tokens().now(position, api.rooms.hub().fleeting());
        let ignored = Ignored::of(&api, &call.who)?;
        let look = Look {
            api: &api,
            who: &call.who,
            filter: &filter,
            ignored: &ignored,
            since,
            now,
            full_state: request.full_state,
            state_after: request.use_state_after,
        };
        let changed = look.changed(&inbox)?;
        let (body, has_news) = look.answer(&changed)?;
        if has_news || since.is_none() || request.full_state || Instant::now() >= deadline {
            if !is_first {
                api.own_requests().answered(&call.who).await;
            }
            return Ok(Raw(body));
        }
        since = Some(now);
        tokio::select! {
            _ = bell.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = api.closing() => return Ok(Raw(body)),
        }
        // Whoever was logged out meanwhile is told so, and nothing else.
        api.accounts.recheck(&call.who)?;
    }
}

impl Look<'_> {
    /// The answer, and whether it holds anything beside the token.
    fn answer(&self, changed: &Changed) -> Result<(bytes::Bytes, bool)> {
        let mut out = Out::with_capacity(1024);
        out.open(b'{');
        let device = self.device_state()?;
        let postbox = self.postbox(&device)?;
        // With messages left over, the next answer begins behind those of this one.
        let to_device = postbox.more_after.unwrap_or(self.now.position);
        out.field("next_batch", &self.api.tokens().print_sync(SyncToken { to_device, ..self.now }));
        let empty = out.mark();
        self.write_messages(&postbox, &mut out);
        let lists = self.device_lists(changed, &mut out)?;
        self.presence(changed, &lists, &mut out)?;
        self.account_data(changed, &mut out)?;
        self.rooms(changed, &mut out)?;
        let has_news = out.mark() > empty;
        self.write_device_state(&device, &mut out);
        out.close(b'}');
        Ok((out.into_bytes(), has_news))
    }

    /// [CS-API §client-config]
    fn account_data(&self, changed: &Changed, out: &mut Out) -> Result<()> {
        if !changed.account {
            return Ok(());
        }
        let user = &self.who.user_id;
        let filter = &self.filter.account_data;
        let after = self.since.filter(|_| !self.full_state).map(|since| since.position);
        let data = self.api.accounts.global_account_data_after(user, after)?;
        let wanted = data.iter().filter(|data| filter.allows_type(&data.kind)).take(filter.limit());
        let mut events: Vec<_> = wanted.map(|data| event::account_data(&data.kind, &data.content)).collect();
        // Who never changed a push rule has none stored, but has rules. [CS-API §push-rules-events]
        let has_rules = data.iter().any(|data| data.kind == PUSH_RULES);
        if after.is_none() && !has_rules && filter.allows_type(PUSH_RULES) {
            events.push(event::account_data(PUSH_RULES, &self.api.push.content(user)?));
        }
        if !events.is_empty() {
            out.open_field("account_data", b'{');
            out.list_field("events", events);
            out.close(b'}');
        }
        Ok(())
    }
}
