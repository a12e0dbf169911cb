//! What can go wrong between another server and us, and whose doing it was.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thiserror::Error;

/// Most bytes of an error's body that are kept.
pub const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Most characters of an error's body that a message shows.
const EXCERPT_CHARS_MAX: usize = 200;

/// Why a request has no answer, or not the one hoped for.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// The name leads nowhere: it does not exist, has no addresses, or says itself that it offers no such service.
    #[error("no server is found by the name {0}")]
    NotFound(String),
    /// DNS did not answer, or could not. Ours or theirs; worth another try.
    #[error("DNS could not say where {name} is: {reason}")]
    Dns {
        /// Whom we asked for.
        name: String,
        /// What the resolver said.
        reason: String,
    },
    /// The name leads to an address that is not part of the internet and that the configuration does not allow.
    #[error("{name} is at {address}, where servers are not looked for")]
    Guarded {
        /// Whom we asked for.
        name: String,
        /// The first such address.
        address: IpAddr,
    },
    /// No address of the server takes connections.
    #[error("cannot connect to {name}: {reason}")]
    Unreachable {
        /// Whom we connected to.
        name: String,
        /// What the operating system said about the last address that was tried.
        reason: Arc<std::io::Error>,
    },
    /// The certificate is not for this server, is not to be believed, or the handshake failed otherwise. A server that is
    /// set up wrongly, or an attack.
    #[error("{name} has no certificate to be believed: {reason}")]
    Tls {
        /// Whom the certificate should be for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server took too long.
    #[error("{stage} took longer than {}", seconds(.limit))]
    Timeout {
        /// What did.
        stage: Stage,
        /// How long it might have taken.
        limit: Duration,
    },
    /// The server failed lately and is left alone for a while. Nothing was sent.
    #[error("the server failed lately and is left alone until later")]
    Backoff {
        /// When it may be tried again.
        until: Instant,
    },
    /// Too many of our requests wait for this server already. Nothing was sent.
    #[error("{waiting} requests wait for this server already")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The connection broke, or what came over it is not HTTP. The request may have been acted upon.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is longer than we take.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// How many bytes might have come.
        limit: u64,
    },
    /// The server answered, but with an error (or a redirect, which is not followed).
    #[error("the server answered {status}: {}", excerpt(.body))]
    Status {
        /// The status, none of 200 to 299.
        status: StatusCode,
        /// The headers of the answer.
        headers: Box<HeaderMap>,
        /// The first [`ERROR_BODY_BYTES_MAX`] bytes of the body: JSON with `errcode`, as a rule.
        body: Bytes,
    },
    /// The request cannot be written down as HTTP: a mistake of the caller.
    #[error("this is no request: {0}")]
    Request(String),
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Finding the server: DNS and `.well-known`.
    Finding,
    /// Connecting and the TLS handshake.
    Connecting,
    /// Waiting for a connection, because others use all there may be.
    Waiting,
    /// From the request to the headers of its answer.
    Headers,
    /// From one part of the body to the next.
    Body,
    /// Everything together.
    Total,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Finding => "finding the server",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting for a connection",
            Self::Headers => "the answer",
            Self::Body => "the next part of the answer",
            Self::Total => "the whole answer",
        })
    }
}

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Ours: a mistake, a limit or a setting of our own. Nobody else need be blamed or left alone.
    Ours,
    /// Nobody's in particular: the server, or the way to it, does not work now. Counts for back-off.
    Away,
    /// The server works, and refuses this request.
    Refused,
    /// The server does what no server should.
    Misbehaved,
}

impl Error {
    /// Whose doing it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Guarded { .. } | Self::Backoff { .. } | Self::Busy { .. } | Self::Request(_) => Fault::Ours,
            Self::Timeout { stage: Stage::Waiting, .. } => Fault::Ours,
            Self::NotFound(_) | Self::Dns { .. } | Self::Unreachable { .. } | Self::Tls { .. } => Fault::Away,
            Self::Timeout { .. } | Self::Broken(_) => Fault::Away,
            Self::TooLarge { .. } => Fault::Misbehaved,
            Self::Status { status, .. } if is_away(*status) => Fault::Away,
            Self::Status { .. } => Fault::Refused,
        }
    }

    /// The status of the answer, if there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What proxies answer in the place of a server that is not there, and servers that want to be left alone. A plain 500 may
/// concern this one request and is for the caller to judge.
fn is_away(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504 | 520..=530)
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs_f32())
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut excerpt: String = clean.clone().take(EXCERPT_CHARS_MAX).collect();
    if clean.count() > EXCERPT_CHARS_MAX {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(code).expect("a status");
        Error::Status { status, headers: Box::default(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn a_message_shows_no_more_than_a_line_of_what_a_stranger_wrote() {
        let long = format!("line\r\nERROR forged{}", "x".repeat(1000));
        let message = status(403, &long).to_string();
        assert!(!message.contains('\n') && message.chars().count() < 250, "{message}");
        assert_eq!(status(404, "{}").to_string(), "the server answered 404 Not Found: {}");
    }

    #[test]
    fn a_refused_request_is_no_reason_to_leave_a_server_alone() {
        for (code, fault) in
            [(400, Fault::Refused), (403, Fault::Refused), (404, Fault::Refused), (500, Fault::Refused)]
        {
            assert_eq!(status(code, "").fault(), fault, "{code}");
        }
        for code in [429, 502, 503, 504, 520, 522] {
            assert_eq!(status(code, "").fault(), Fault::Away, "{code}");
        }
    }
}
