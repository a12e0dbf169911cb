//! Invitations to an address, such as of e-mail, once it is known whose that is. [SS-API §third-party-invites]
//!
//! An identity server tells the server of whoever owns the address (`3pid/onbind`), and that one asks the server of who
//! invited (`exchange_third_party_invite`), which invites in its own people's name. What proves the whole is a signature of the
//! identity server, which the rules of the room compare with the keys in its state; nobody is believed on the way.

use std::time::Duration;

use axum::{body::Body, extract::State};
use http::{Method, StatusCode};
use koine_graph::Event;
use koine_room::{CommandError, Profile, Room};
use ruma_common::{OwnedRoomId, OwnedUserId, RoomId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Error, Federation, PeerError, Signed,
    answer::{Raw, Result},
    peers::{Bounds, segment},
    request::{BODY_BYTES_MAX, read},
};

/// Most invitations that one address may have waiting: each is brought to another server, and anybody may say they were
/// an identity server.
pub const INVITATIONS_MAX: usize = 20;
/// How long another server may take to invite.
const EXCHANGE_BOUNDS: Bounds = Bounds { bytes: 64 * 1024, time: Duration::from_secs(30), urgent: false };

/// An invitation before anybody signed it.
#[derive(Deserialize)]
struct Partial {
    #[serde(rename = "type")]
    kind: String,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    state_key: OwnedUserId,
    content: PartialContent,
}

#[derive(Deserialize)]
struct PartialContent {
    membership: String,
    third_party_invite: Proof,
}

#[derive(Deserialize)]
struct Proof {
    display_name: Option<String>,
    signed: SignedProof,
}

/// What the identity server signed.
#[derive(Deserialize)]
struct SignedProof {
    token: String,
    mxid: OwnedUserId,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl SignedProof {
    fn into_json(self) -> Value {
        let mut all = self.rest;
        all.insert("token".into(), json!(self.token));
        all.insert("mxid".into(), json!(self.mxid));
        Value::Object(all)
    }
}

/// [SS-API §put_matrixfederationv1exchange_third_party_inviteroomid]
pub async fn exchange(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let id = signed.path.room(0)?;
    let partial: Partial = signed.parse()?;
    let invalid = |what: &str| Err(Error::invalid_param(what.to_owned()));
    if partial.kind != "m.room.member" || partial.content.membership != "invite" {
        return invalid("This is no invitation");
    }
    if partial.room_id != id {
        return invalid("The invitation is to another room than the path names");
    }
    if partial.sender.server_name() != federation.server_name() {
        return invalid("The inviting user is of another server");
    }
    federation.attended(&id, &signed.origin)?;
    federation.invite_by_address(&partial.sender, &id, &partial.state_key, partial.content.third_party_invite).await?;
    Ok(Raw::of(&json!({})))
}

/// What an identity server knows now.
#[derive(Deserialize)]
struct Bound {
    mxid: OwnedUserId,
    invites: Vec<Waiting>,
}

/// An invitation that waited for it.
#[derive(Deserialize)]
struct Waiting {
    mxid: OwnedUserId,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    signed: SignedProof,
}

/// [SS-API §put_matrixfederationv13pidonbind] Open to everybody: the signatures are the proof, for who can judge them.
pub async fn on_bind(State(federation): State<Federation>, body: Body) -> Result<Raw> {
    let body = read(body, BODY_BYTES_MAX).await?;
    let bound: Bound = serde_json::from_slice(&body)
        .map_err(|error| Error::bad_json(format!("The body is not as expected: {error}")))?;
    if bound.mxid.server_name() != federation.server_name() || !federation.accounts().is_active(&bound.mxid)? {
        return Err(Error::not_found(format!("There is no user {} here", bound.mxid)));
    }
    if bound.invites.len() > INVITATIONS_MAX {
        return Err(Error::invalid_param(format!("At most {INVITATIONS_MAX} invitations may be told of at once")));
    }
    if bound.invites.iter().any(|waiting| waiting.mxid != bound.mxid || waiting.signed.mxid != bound.mxid) {
        return Err(Error::invalid_param("An invitation is for somebody else"));
    }
    let mut asking = tokio::task::JoinSet::new();
    for waiting in bound.invites {
        let federation = federation.clone();
        asking.spawn(async move { federation.claim_invitation(waiting).await });
    }
    let mut unreached = 0;
    while let Some(asked) = asking.join_next().await {
        unreached += usize::from(!asked.unwrap_or(false));
    }
    match unreached {
        0 => Ok(Raw::of(&json!({}))),
        // To be told again: those that were brought are where they belong.
        some => {
            let message = format!("The servers of {some} who invited could not be reached");
            Err(Error::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message))
        }
    }
}

impl Federation {
    /// Has an invitation made by the server of who sent it. `false`: that server could not be reached.
    async fn claim_invitation(&self, waiting: Waiting) -> bool {
        let Waiting { mxid, room_id, sender, signed } = waiting;
        if sender.server_name() == self.server_name() {
            let proof = Proof { display_name: None, signed };
            if let Err(error) = self.invite_by_address(&sender, &room_id, &mxid, proof).await {
                tracing::debug!(%room_id, user_id = %mxid, reason = %error, "an invitation to an address came to nothing");
            }
            return true;
        }
        let mut invite = Map::new();
        if let Ok(Some(room)) = self.known_room(&room_id)
            && let Some(name) = original(&room, &signed.token).and_then(|event| event.content_field("display_name"))
        {
            invite.insert("display_name".into(), Value::String(name));
        }
        invite.insert("signed".into(), signed.into_json());
        let event = json!({
            "type": "m.room.member",
            "room_id": room_id,
            "sender": sender,
            "state_key": mxid,
            "content": { "membership": "invite", "third_party_invite": invite },
        });
        let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{}", segment(room_id.as_str()));
        let body = event.to_string();
        let call = (Method::PUT, path.as_str());
        match self.ask_bytes(sender.server_name(), call, Some(body.as_bytes()), EXCHANGE_BOUNDS).await {
            Ok(_) => true,
            Err(PeerError::Refused { status, message, .. }) if status.is_client_error() => {
                tracing::debug!(peer = %sender.server_name(), %room_id, reason = %message, "an invitation was not exchanged");
                true
            }
            Err(error) => {
                tracing::debug!(peer = %sender.server_name(), %room_id, reason = %error, "an invitation was not exchanged");
                false
            }
        }
    }

    /// Invites in the name of somebody of ours who invited an address. [SS-API §verifying-the-invite] is the rules' part.
    async fn invite_by_address(
        &self,
        sender: &OwnedUserId,
        room: &RoomId,
        target: &OwnedUserId,
        proof: Proof,
    ) -> std::result::Result<(), CommandError> {
        let here = self.rooms().room(room)?;
        // The rules would make somebody who is in the room, and whose proof somebody kept, an invited one.
        if here.is_joined(target) {
            return Ok(());
        }
        // What others call the address is what who invited said, if they said it.
        let told = original(&here, &proof.signed.token).and_then(|event| event.content_field("display_name"));
        let mut invite = Map::new();
        invite.insert("display_name".into(), json!(told.or(proof.display_name).unwrap_or_default()));
        invite.insert("signed".into(), proof.signed.into_json());
        let extra = Map::from_iter([("third_party_invite".to_owned(), Value::Object(invite))]);
        self.rooms().invite(sender, room, (target, &Profile::default()), None, extra).await
    }
}

/// The invitation of an address that a token stands for.
fn original(room: &Room, token: &str) -> Option<Event> {
    room.current("m.room.third_party_invite", token).ok().flatten().map(|placed| placed.event.clone())
}
