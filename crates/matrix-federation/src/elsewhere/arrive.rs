//! The answer that is a room's state: checked and kept while it arrives. Whatever its size, memory holds a few batches
//! of it and what [`Keeping`] may hold. [SS-API §put_matrixfederationv2send_joinroomideventid]
//! [SS-API §get_matrixfederationv1stateroomid]

use std::collections::HashMap;

use koine_graph::{Event, RoomVersionRules};
use koine_room::{KEEPING_EVENTS_MAX, Keeping, Part, ReceiveError};
use ruma_common::OwnedServerName;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::{
    Federation, PeerError,
    pdu::{BATCH, Checked},
    peers::Arriving,
    pieces::{Piece, Pieces, Wanted},
    receive::FetchError,
};

/// Bytes of events that are checked together.
const BATCH_BYTES: usize = 1024 * 1024;
/// Items that are no events at all before we think that none of it is what we asked for.
const JUNK_MAX: usize = 100;
/// Servers of a room that we hear of.
const SERVERS_MAX: usize = 20_000;

/// `/send_join`.
pub(super) const ROOM: Wanted =
    Wanted { lists: &["state", "auth_chain", "servers_in_room"], fields: &["event", "members_omitted"] };
/// `/state`.
pub(crate) const STATE: Wanted = Wanted { lists: &["pdus", "auth_chain"], fields: &[] };

/// What an answer said beside its events.
#[derive(Default)]
pub(crate) struct Told {
    /// Fields that were asked for, as JSON.
    fields: HashMap<&'static str, Vec<u8>>,
    /// The create events of the state: there should be one.
    pub(super) creates: Vec<Event>,
    /// The servers in the room, as far as they have names.
    pub(super) servers: Vec<OwnedServerName>,
    /// Events, and those among them that are not signed as they should be.
    pub(super) count: usize,
    pub(super) refused: usize,
    junk: usize,
}

impl Federation {
    /// Takes an answer apart, checks its events on all cores and hands them to `keeping`. After an error the answer is
    /// not to be used, whatever was kept of it.
    pub(crate) async fn keep_arriving(
        &self,
        mut body: Arriving,
        rules: &RoomVersionRules,
        keeping: &mut Keeping,
        wanted: Wanted,
    ) -> Result<Told, FetchError> {
        let at_once = std::thread::available_parallelism().map_or(2, usize::from) + 1;
        let mut told = Told::default();
        let (mut pieces, mut found) = (Pieces::new(wanted), Vec::new());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut checking: JoinSet<Checked<Part>> = JoinSet::new();
        loop {
            let chunk = body.next().await?;
            match &chunk {
                Some(chunk) => pieces.feed(chunk, &mut found),
                None => pieces.end(),
            }
            .map_err(|error| unusable(&error.to_string()))?;
            for Piece { name, json } in found.drain(..) {
                match name {
                    "state" | "pdus" => batch.push((Part::State, json)),
                    "auth_chain" => batch.push((Part::AuthChain, json)),
                    "servers_in_room" => told.server(&json)?,
                    _ => {
                        told.fields.insert(name, json);
                        continue;
                    }
                }
                bytes += batch.last().map_or(0, |(_, json)| json.len());
                if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                    if checking.len() >= at_once {
                        told.keep_next(&mut checking, keeping).await?;
                    }
                    self.check_aside(rules, &mut checking, std::mem::take(&mut batch));
                    bytes = 0;
                }
            }
            if chunk.is_none() {
                break;
            }
        }
        self.check_aside(rules, &mut checking, batch);
        while !checking.is_empty() {
            told.keep_next(&mut checking, keeping).await?;
        }
        Ok(told)
    }

    fn check_aside(
        &self,
        rules: &RoomVersionRules,
        checking: &mut JoinSet<Checked<Part>>,
        batch: Vec<(Part, Vec<u8>)>,
    ) {
        let (federation, rules) = (self.clone(), rules.clone());
        checking.spawn(async move { federation.check_batch(rules, batch).await });
    }
}

impl Told {
    /// A field that was asked for, if it is there and what it should be.
    pub(super) fn field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(self.fields.get(name)?).ok()
    }

    fn server(&mut self, json: &[u8]) -> Result<(), FetchError> {
        if self.servers.len() >= SERVERS_MAX {
            return Err(unusable(&format!("it names more than {SERVERS_MAX} servers")));
        }
        self.servers.extend(serde_json::from_slice::<OwnedServerName>(json).ok());
        Ok(())
    }

    /// Waits for a batch and keeps what passed.
    async fn keep_next(
        &mut self,
        checking: &mut JoinSet<Checked<Part>>,
        keeping: &mut Keeping,
    ) -> Result<(), FetchError> {
        let Some(Ok(checked)) = checking.join_next().await else {
            return Err(unusable("its events could not be checked"));
        };
        self.junk += checked.junk;
        self.refused += checked.refused;
        self.count += checked.passed.len() + checked.refused;
        if self.junk > JUNK_MAX {
            return Err(unusable(&format!("more than {JUNK_MAX} of its events are none")));
        }
        if self.count > KEEPING_EVENTS_MAX {
            return Err(ReceiveError::TooMany { max: KEEPING_EVENTS_MAX }.into());
        }
        let (mut state, mut auth_chain) = (Vec::new(), Vec::new());
        for (part, event) in checked.passed {
            match part {
                Part::State if !event.is_state() => return Err(unusable("its state has events that are no state")),
                Part::State => {
                    if event.is("m.room.create", "") {
                        self.creates.push(event.clone());
                    }
                    state.push(event);
                }
                Part::AuthChain => auth_chain.push(event),
            }
        }
        keeping.add(Part::State, state).await?;
        keeping.add(Part::AuthChain, auth_chain).await?;
        Ok(())
    }
}

fn unusable(what: &str) -> FetchError {
    PeerError::Unusable(what.to_owned()).into()
}
