//! What `https://<host>/.well-known/matrix/server` says, and how long to believe it. Pure.
//!
//! Specified in [SS-API §getwell-knownmatrixserver] and [SS-API §resolving-server-names] 3. Fetching is `discover`'s.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use thiserror::Error;
use url::Url;

use crate::name::Authority;

/// Longest body that is read.
pub const BODY_BYTES_MAX: usize = 50 * 1024;
/// Most redirects that are followed.
pub const REDIRECTS_MAX: usize = 10;
/// How long an answer is kept that does not say [SS-API §resolving-server-names].
pub const KEEP_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an answer is kept at most, whatever it says [SS-API §resolving-server-names].
pub const KEEP_MAX: Duration = Duration::from_secs(48 * 60 * 60);
/// How long an answer is kept at least, so that nobody makes us ask before every request.
pub const KEEP_MIN: Duration = Duration::from_secs(5 * 60);
/// How long the first error is kept; doubled with each further one.
pub const KEEP_ERROR_MIN: Duration = Duration::from_secs(60);
/// How long an error is kept at most [SS-API §resolving-server-names].
pub const KEEP_ERROR_MAX: Duration = Duration::from_secs(60 * 60);
/// Most hosts in the cache. Past it, what would be dropped soonest is dropped now.
pub const ENTRIES_MAX: usize = 16_384;

/// Why a `.well-known` is of no use. The search goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// Not a success.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// Not JSON, or without the property.
    #[error("it is not JSON with the property m.server")]
    Json,
    /// The property is there but not a server name.
    #[error("{0:?} is no server name")]
    Name(String),
    /// The body is longer than [`BODY_BYTES_MAX`].
    #[error("it is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`REDIRECTS_MAX`] redirects.
    #[error("it redirects more than {REDIRECTS_MAX} times")]
    TooManyRedirects,
    /// A redirect to where we have been.
    #[error("it redirects in a ring")]
    Loop,
    /// A redirect to what is no `https` address.
    #[error("it redirects to what is no https address")]
    BadRedirect,
    /// It cannot be fetched.
    #[error("{0}")]
    Unreachable(String),
}

/// What a final answer says: whom the server delegates to.
pub fn read(status: StatusCode, body: &[u8]) -> Result<Authority, Unusable> {
    #[derive(Deserialize)]
    struct WellKnown {
        #[serde(rename = "m.server")]
        server: String,
    }
    if status != StatusCode::OK {
        return Err(Unusable::Status(status));
    }
    // "should assume that the body is JSON regardless of type" [SS-API §getwell-knownmatrixserver]
    let WellKnown { server } = serde_json::from_slice(body).map_err(|_| Unusable::Json)?;
    Authority::parse(&server).ok_or_else(|| Unusable::Name(server.chars().take(100).collect()))
}

/// How long the headers say that an answer holds, within the bounds.
pub fn keep(headers: &HeaderMap, now: SystemTime) -> Duration {
    said(headers, now).unwrap_or(KEEP_DEFAULT).clamp(KEEP_MIN, KEEP_MAX)
}

/// `Cache-Control` goes before `Expires` [RFC 9111 §5.3].
fn said(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut max_age = None;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" => max_age = Some(whole_seconds(value.trim().trim_matches('"'))?),
                _ => {}
            }
        }
    }
    if max_age.is_some() {
        return max_age;
    }
    let expires = headers.get(header::EXPIRES)?;
    // "a recipient MUST interpret invalid date formats, especially the value "0", as representing a time in the past"
    let Some(expires) = date(expires.to_str().ok()) else { return Some(Duration::ZERO) };
    let sent = headers.get(header::DATE).and_then(|sent| date(sent.to_str().ok())).unwrap_or(now);
    Some(expires.duration_since(sent).unwrap_or_default())
}

/// A number too large to read is a long time [RFC 9111 §1.2.2].
fn whole_seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

fn date(text: Option<&str>) -> Option<SystemTime> {
    text.and_then(|text| httpdate::parse_http_date(text).ok())
}

/// The addresses a fetch has been to.
#[derive(Debug)]
pub struct Trail {
    visited: Vec<Url>,
}

impl Trail {
    /// Begins at a host's own address. `None` if no URL can be made of the host.
    pub fn begin(host: &str, port: u16) -> Option<Self> {
        let url = Url::parse(&format!("https://{host}:{port}/.well-known/matrix/server")).ok()?;
        Some(Self { visited: vec![url] })
    }

    /// Where to ask now.
    pub fn url(&self) -> &Url {
        self.visited.last().expect("a trail begins somewhere")
    }

    /// Whether this answer sends us elsewhere; if so, the trail has gone there.
    pub fn follow(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<bool, Unusable> {
        const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
        if !REDIRECTS.contains(&status.as_u16()) {
            return Ok(false);
        }
        let location: Option<&str> = text(headers, &header::LOCATION);
        let mut next = location.and_then(|to| self.url().join(to).ok()).ok_or(Unusable::BadRedirect)?;
        next.set_fragment(None);
        if next.scheme() != "https" || !next.has_host() || !next.username().is_empty() || next.password().is_some() {
            return Err(Unusable::BadRedirect);
        }
        if self.visited.contains(&next) {
            return Err(Unusable::Loop);
        }
        if self.visited.len() > REDIRECTS_MAX {
            return Err(Unusable::TooManyRedirects);
        }
        self.visited.push(next);
        Ok(true)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What was found, also that nothing was.
#[derive(Debug, Default)]
pub struct Cache {
    hosts: HashMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    delegated: Option<Authority>,
    /// Errors in a row.
    errors: u32,
    until: Instant,
}

impl Cache {
    /// What is known of a host: `None` if it has to be asked, `Some(None)` if it was asked in vain.
    pub fn get(&self, host: &str, now: Instant) -> Option<Option<Authority>> {
        self.hosts.get(host).filter(|entry| now < entry.until).map(|entry| entry.delegated.clone())
    }

    /// Keeps an answer.
    pub fn put(&mut self, host: &str, found: Option<(Authority, Duration)>, now: Instant) {
        let entry = match found {
            Some((delegated, keep)) => Entry { delegated: Some(delegated), errors: 0, until: now + keep },
            None => {
                let errors = self.hosts.get(host).map_or(0, |entry| entry.errors);
                let keep = KEEP_ERROR_MIN.saturating_mul(1 << errors.min(16)).min(KEEP_ERROR_MAX);
                Entry { delegated: None, errors: errors.saturating_add(1), until: now + keep }
            }
        };
        if self.hosts.len() >= ENTRIES_MAX && !self.hosts.contains_key(host) {
            let soonest = self.hosts.iter().min_by_key(|(_, entry)| entry.until).map(|(host, _)| host.clone());
            soonest.and_then(|host| self.hosts.remove(&host));
        }
        self.hosts.insert(host.to_owned(), entry);
    }

    /// Forgets that a host was asked in vain: it shows signs of life.
    pub fn forget_error(&mut self, host: &str) {
        if self.hosts.get(host).is_some_and(|entry| entry.delegated.is_none()) {
            self.hosts.remove(host);
        }
    }

    /// Drops what is too old to be used. How often a host failed is remembered for as long as errors are kept.
    pub fn sweep(&mut self, now: Instant) {
        self.hosts.retain(|_, entry| now < entry.until + KEEP_ERROR_MAX);
    }

    /// How many hosts are known.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

#[cfg(test)]
mod tests;
