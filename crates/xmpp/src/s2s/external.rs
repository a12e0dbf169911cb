//! SASL EXTERNAL between servers: who holds the key of a certificate for a host is that host. [XEP-0178 §3] [RFC6120 §6.3.4]

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_stanza::{Element, Jid, StreamCondition, StreamError, ns, reader::Limits};
use tokio::time::timeout;

use super::wire::{Ended, Wire};
use crate::{
    core::Core,
    sasl::Failure,
    stream::{
        NEGOTIATION_MAX,
        transport::{Incoming, Transport, next},
    },
};

/// The mechanism.
pub(super) const EXTERNAL: &str = "EXTERNAL";
/// Attempts on one stream.
const ATTEMPTS_MAX: u32 = 3;

impl Wire {
    /// Whether the certificate that was shown is for the host that the header names.
    pub(super) fn is_vouched(&self, core: &Core) -> bool {
        let (Some(theirs), Some(_), Some(servers)) = (&self.theirs, &self.ours, &core.config().servers) else {
            return false;
        };
        if self.chain.is_empty() || core.is_served(theirs) || core.is_blocked_server(theirs) {
            return false;
        }
        let vouched = servers.vouches(&self.chain, theirs);
        if let Err(reason) = &vouched {
            tracing::debug!(server = theirs, reason, "the certificate of a server does not prove who it is");
        }
        vouched.is_ok()
    }

    /// One attempt.
    pub(super) async fn external(&mut self, core: &Arc<Core>, auth: &Element) -> Result<(), Ended> {
        let late =
            |_| Ended::Error(StreamError::new(StreamCondition::ConnectionTimeout, "it took too long to prove it"));
        let proven = timeout(NEGOTIATION_MAX, self.prove_external(core, auth)).await.map_err(late)??;
        let theirs = match proven {
            Ok(theirs) => theirs,
            Err(failure) => {
                self.failures += 1;
                self.tcp.send(&failure.element(ns::SASL));
                return match self.failures {
                    ..ATTEMPTS_MAX => Ok(()),
                    _ => Err(StreamCondition::PolicyViolation.into()),
                };
            }
        };
        self.tcp.send(&Element::new("success", ns::SASL));
        self.tcp.restart();
        self.tcp.set_limits(Limits::bytes(core.config().stanza_bytes_max));
        self.certified = Some(theirs.clone());
        tracing::debug!(server = theirs, "a server has proven by its certificate who it is");
        timeout(NEGOTIATION_MAX, self.begin_anew(core, &theirs)).await.map_err(late)?
    }

    /// The stream after the proof. [RFC6120 §6.4.6]
    async fn begin_anew(&mut self, core: &Arc<Core>, theirs: &str) -> Result<(), Ended> {
        self.headers(core).await?;
        if self.theirs.as_deref().is_some_and(|now| now != theirs) {
            let error = StreamError::new(StreamCondition::InvalidFrom, "that is not who you have proven to be");
            return Err(Ended::Error(error));
        }
        self.theirs = Some(theirs.to_owned());
        let features = super::incoming::features(core, self);
        self.tcp.send_of_stream("features", &features);
        if let Some(ours) = self.ours.clone() {
            self.welcome(core, theirs, &ours);
        }
        Ok(())
    }

    async fn prove_external(&mut self, core: &Core, auth: &Element) -> Result<Result<String, Failure>, Ended> {
        if self.certified.is_some() {
            return Err(Ended::Error(StreamError::new(StreamCondition::PolicyViolation, "you have proven it")));
        }
        if auth.attr("mechanism") != Some(EXTERNAL) {
            return Ok(Err(Failure::InvalidMechanism));
        }
        let mut text = auth.text();
        if text.trim().is_empty() {
            // [RFC6120 §6.4.2] No initial response: it is asked for.
            self.tcp.send(&Element::text_of("challenge", ns::SASL, "="));
            text = match next(&mut self.tcp).await? {
                Incoming::Element(response) if response.is("response", ns::SASL) => response.text(),
                Incoming::Element(_) => return Ok(Err(Failure::Aborted)),
                _ => return Err(StreamCondition::BadFormat.into()),
            };
        }
        let wanted = match text.trim() {
            "" | "=" => None,
            text => match BASE64_STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(wanted) => Some(wanted).filter(|wanted| !wanted.is_empty()),
                None => return Ok(Err(Failure::IncorrectEncoding)),
            },
        };
        let Some(theirs) = self.theirs.clone() else { return Ok(Err(Failure::NotAuthorized)) };
        // [XEP-0178 §3] Who it wants to be is who its header says it is.
        let is_same = wanted
            .is_none_or(|wanted| Jid::new(&wanted).is_ok_and(|jid| jid.node().is_none() && jid.domain() == theirs));
        Ok(match (is_same, self.is_vouched(core)) {
            (false, _) => Err(Failure::InvalidAuthzid),
            (true, false) => Err(Failure::NotAuthorized),
            (true, true) => Ok(theirs),
        })
    }
}
