//! Asking the policy server of a room whether it recommends an event. [SS-API §post_matrixpolicyv1sign]
//!
//! When that is needed, and what comes of the answer, is the room's to say.

use std::{collections::HashMap, time::Duration};

use http::Method;
use koine_graph::Event;
use koine_room::{CommandError, POLICY_KEY_ID, PolicyRefusal};
use ruma_common::ServerName;
use serde_json::Value;

use crate::{
    Federation, PeerError,
    peers::{Bounds, parse},
};

/// Largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the answer may take: whoever says something in the room waits for it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

impl Federation {
    /// A policy server's signature under an event, in base64.
    pub(super) async fn ask_policy_server(
        &self,
        server: &ServerName,
        event: &Event,
        urgent: bool,
    ) -> Result<String, CommandError> {
        let silent = || CommandError::PolicyServerSilent(server.to_owned());
        // It may have our own name: another program beside this one, at the same place.
        let bounds = Bounds { bytes: ANSWER_BYTES_MAX, time: ANSWER_TIME_MAX, urgent };
        let call = (Method::POST, "/_matrix/policy/v1/sign");
        let answer = match self.ask_bytes(server, call, Some(event.json()), bounds).await {
            Ok(answer) => answer,
            Err(PeerError::Refused { status, body, .. }) if status.is_client_error() => {
                let Ok(Value::Object(body)) = serde_json::from_slice(&body) else { return Err(silent()) };
                let refusal = PolicyRefusal { status: status.as_u16(), body };
                return Err(CommandError::NotRecommended(Box::new(refusal)));
            }
            Err(error) => {
                tracing::debug!(peer = %server, reason = %error, "a policy server did not answer");
                return Err(silent());
            }
        };
        let signatures: HashMap<String, HashMap<String, String>> = parse(&answer).map_err(|_| silent())?;
        let own = signatures.get(server.as_str()).and_then(|own| own.get(POLICY_KEY_ID));
        own.cloned().ok_or_else(silent)
    }
}
