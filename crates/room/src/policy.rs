//! Policy servers: a room may name a server without whose signature an event is not welcome. [SS-API §policy-servers]
//!
//! Who sends from here asks before anybody sees the event: [`Rooms::change`] works a command out, has its event signed,
//! and works it out again with the signed one in place of a new one. What comes from elsewhere without a signature that
//! counts is brought to the policy server in the name of who forgot to; what that one does not sign is soft-failed.
//!
//! Not asked for are the state of a room that somebody joins and history from before: what stands there has been judged by
//! the room, and nothing would come of a refusal. Which policy holds is looked up once for each state of the room, so
//! that a message costs no look.

use std::sync::Arc;

use koine_graph::{
    Event, PublicKey,
    signatures::{is_signed_with, with_signature},
};
use ruma_common::{OwnedServerName, ServerName};
use serde_json::{Map, Value};

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    room::{Head, Room},
    state::Root,
    write::NewEvent,
};

/// The type of the state event that names the policy server. [CS-API §mroompolicy]
const POLICY_TYPE: &str = "m.room.policy";
/// The id of every policy server's key. [SS-API §validating-policy-server-signatures]
pub const POLICY_KEY_ID: &str = "ed25519:policy_server";
/// How often one event is brought to the policy server, if the room changes its policy meanwhile.
const ROUNDS_MAX: usize = 2;

/// What a policy server said when it did not sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRefusal {
    /// The status, as of http.
    pub status: u16,
    /// What it said, for who wants to send. [SS-API §validating-policy-server-signatures]
    pub body: Map<String, Value>,
}

/// The server that a room names, and the key that counts.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    via: OwnedServerName,
    /// Nothing, if what stands there is no key: then no signature counts.
    key: Option<PublicKey>,
}

/// The policy of a state.
pub(crate) type Remembered = Option<(Root, Option<Arc<Policy>>)>;

impl Policy {
    /// [SS-API §determining-if-a-policy-server-is-enabled-in-a-room] As far as the event alone tells.
    fn of(event: &Event) -> Option<Self> {
        let via: OwnedServerName = event.content_field("via")?;
        let keys: Map<String, Value> = event.content_field("public_keys")?;
        let key = keys.get("ed25519")?.as_str()?;
        Some(Self { via, key: PublicKey::from_base64(key).ok() })
    }

    pub(crate) fn server(&self) -> &ServerName {
        &self.via
    }

    /// Whether the policy server recommends an event.
    pub(crate) fn has_signed(&self, room: &Room, event: &Event) -> bool {
        let key = self.key.as_ref();
        key.is_some_and(|key| is_signed_with(room.rules(), event, &self.via, (POLICY_KEY_ID, key)))
    }
}

impl NewEvent<'_> {
    /// Whether `event` is what became of it.
    pub(crate) fn is(&self, event: &Event) -> bool {
        event.kind() == self.kind && event.sender() == self.sender && event.state_key() == self.state_key
    }
}

impl Room {
    /// The policy server whose signature an event of this type needs, in the state that the writer sees.
    pub(crate) fn policy(
        &self,
        head: &Head,
        kind: &str,
        state_key: Option<&str>,
    ) -> Result<Option<Arc<Policy>>, ReadError> {
        // [SS-API §post_matrixpolicyv1sign] A policy server that is gone could not be got rid of otherwise.
        if kind == POLICY_TYPE && state_key == Some("") {
            return Ok(None);
        }
        let Some(policy) = self.named_policy(head.state)? else { return Ok(None) };
        // It serves the rooms that its people are in: nobody is made a policy server against their will.
        Ok(self.has_server(&policy.via)?.then_some(policy))
    }

    fn named_policy(&self, state: Root) -> Result<Option<Arc<Policy>>, ReadError> {
        if let Some((_, policy)) = self.policy.lock().as_ref().filter(|(known, _)| *known == state) {
            return Ok(policy.clone());
        }
        let named = match self.core.state_get(state, POLICY_TYPE, "")? {
            Some(id) => self.known(&id)?,
            None => None,
        };
        let policy = named.as_ref().and_then(Policy::of).map(Arc::new);
        *self.policy.lock() = Some((state, policy.clone()));
        Ok(policy)
    }
}

impl Rooms {
    /// Does what `command` does, which adds one event at most. Where the room has a policy server that one is asked in
    /// between, without anybody waiting for the room; `command` then runs twice.
    pub(crate) async fn change<T>(
        &self,
        room: &Arc<Room>,
        command: impl FnMut(&mut Head) -> Result<T, CommandError> + Send,
    ) -> Result<T, CommandError> {
        self.change_for(room, true, command).await
    }

    /// The same; `urgent`: somebody waits for it, so that a policy server which failed lately is asked nevertheless.
    pub(crate) async fn change_for<T>(
        &self,
        room: &Arc<Room>,
        urgent: bool,
        mut command: impl FnMut(&mut Head) -> Result<T, CommandError> + Send,
    ) -> Result<T, CommandError> {
        let mut signed = None;
        for _ in 0..=ROUNDS_MAX {
            let undecided = {
                let mut head = room.head.lock();
                head.signed = signed.take();
                let done = command(&mut head);
                head.signed = None;
                match done {
                    Err(CommandError::Undecided(event)) => *event,
                    done => return done,
                }
            };
            signed = Some(self.ask_for_policy(room, undecided, urgent).await?);
        }
        Err(CommandError::Unsettled)
    }

    /// An event of ours that is not in its room yet, signed by the policy server if it needs that.
    pub async fn recommended(&self, room: &Arc<Room>, event: Event) -> Result<Event, CommandError> {
        self.ask_for_policy(room, event, true).await
    }

    /// The event with the signature that it needs now.
    pub(crate) async fn ask_for_policy(
        &self,
        room: &Arc<Room>,
        event: Event,
        urgent: bool,
    ) -> Result<Event, CommandError> {
        let policy = {
            let head = room.head.lock();
            room.policy(&head, event.kind(), event.state_key())?
        };
        let Some(policy) = policy.filter(|policy| !policy.has_signed(room, &event)) else { return Ok(event) };
        let silent = || CommandError::PolicyServerSilent(policy.via.clone());
        let elsewhere = self.elsewhere.get().ok_or_else(silent)?;
        let signature = elsewhere.policy_signature(&policy.via, &event, urgent).await?;
        let signed = with_signature(room.rules(), &event, &policy.via, (POLICY_KEY_ID, &signature));
        let signed = signed.map_err(|error| CommandError::BadContent(error.to_string()))?;
        match policy.has_signed(room, &signed) {
            true => Ok(signed),
            false => {
                tracing::debug!(room_id = %room.id(), peer = %policy.via, "a policy server signed with another key than the room names");
                Err(silent())
            }
        }
    }
}
