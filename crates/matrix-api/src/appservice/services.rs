//! All application services, and whose is what.

use std::{collections::HashMap, ops::Deref, sync::Arc};

use koine_net::{Client, Error as NetError, Limits, WebRequest, http::header};
use ruma_common::UserId;
use subtle::ConstantTimeEq as _;
use url::Url;

use super::registration::{Namespace, Registration};

/// How long and how large an answer of a service may be.
pub(super) const LIMITS: Limits = Limits {
    headers: std::time::Duration::from_secs(30),
    stall: std::time::Duration::from_secs(15),
    total: std::time::Duration::from_secs(60),
    body_bytes_max: 1024 * 1024,
};

/// The application services of a server, and how they are reached.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    all: Vec<Service>,
    web: Option<Client>,
}

/// One of them. Cloning it costs a counter.
#[derive(Clone, Debug)]
pub struct Service(Arc<Registration>);

impl Deref for Service {
    type Target = Registration;

    fn deref(&self) -> &Registration {
        &self.0
    }
}

/// Two services cannot be told apart.
#[derive(Debug, thiserror::Error)]
#[error("two application services have the same {0}")]
pub struct NotApart(&'static str);

impl Services {
    /// None.
    pub fn none() -> Self {
        Self(Arc::new(Inner { all: Vec::new(), web: None }))
    }

    /// These, reached by this client. Their addresses are the operator's word: the guard does not look at them.
    pub fn new(registrations: Vec<Registration>, web: Client) -> Result<Self, NotApart> {
        let mut seen: HashMap<&str, ()> = HashMap::new();
        for registration in &registrations {
            if seen.insert(&registration.id, ()).is_some() {
                return Err(NotApart("id"));
            }
        }
        let tokens: HashMap<&str, ()> = registrations.iter().map(|one| (one.as_token.as_str(), ())).collect();
        if tokens.len() != registrations.len() {
            return Err(NotApart("as_token"));
        }
        let all = registrations.into_iter().map(|registration| Service(Arc::new(registration))).collect();
        Ok(Self(Arc::new(Inner { all, web: Some(web) })))
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Service] {
        &self.0.all
    }

    /// Whose token this is.
    pub(crate) fn by_token(&self, token: &str) -> Option<&Service> {
        self.0.all.iter().find(|service| service.as_token.as_bytes().ct_eq(token.as_bytes()).into())
    }

    /// Whether an id of a user is kept for a service other than `own`.
    pub(crate) fn keeps_user(&self, user: &UserId, own: Option<&Service>) -> bool {
        self.others(own).any(|service| service.sender == user || is_exclusive(&service.users, user.as_str()))
    }

    /// The same for an alias.
    pub(crate) fn keeps_alias(&self, alias: &str, own: Option<&Service>) -> bool {
        self.others(own).any(|service| is_exclusive(&service.aliases, alias))
    }

    /// Whether requests of this user are not counted.
    pub(crate) fn is_unlimited(&self, user: &UserId) -> bool {
        self.0.all.iter().any(|service| !service.is_rate_limited && service.has_user(user))
    }

    fn others<'a>(&'a self, own: Option<&'a Service>) -> impl Iterator<Item = &'a Service> {
        self.0.all.iter().filter(move |service| own.is_none_or(|own| own.id != service.id))
    }

    /// Sends a request to a service, as this server. `path` begins with a slash.
    pub(crate) async fn call(
        &self,
        service: &Service,
        mut request: WebRequest,
    ) -> Result<koine_net::bytes::Bytes, NetError> {
        let unreachable = || NetError::NotFound(format!("the application service {}", service.id));
        let web = self.0.web.as_ref().ok_or_else(unreachable)?;
        let token = format!("Bearer {}", service.hs_token);
        let token = header::HeaderValue::try_from(token).map_err(|error| NetError::Request(error.to_string()))?;
        // [AS-API §authorisation]
        request.headers.insert(header::AUTHORIZATION, token);
        web.web(request.trusted()).await?.bytes().await
    }
}

impl Service {
    /// The address of an endpoint of it. `None` if it is reached nowhere.
    pub(crate) fn address(&self, segments: &[&str], query: &str) -> Option<Url> {
        let mut url = self.url.clone()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(["_matrix", "app", "v1"]).extend(segments);
        url.set_query((!query.is_empty()).then_some(query));
        Some(url)
    }

    /// Whether it may act as this user.
    pub(crate) fn has_user(&self, user: &UserId) -> bool {
        self.sender == user || matches(&self.users, user.as_str())
    }

    /// Whether an alias is in its namespace.
    pub(crate) fn has_alias(&self, alias: &str) -> bool {
        matches(&self.aliases, alias)
    }

    /// Whether a room is.
    pub(crate) fn has_room(&self, room: &str) -> bool {
        matches(&self.rooms, room)
    }
}

fn matches(namespaces: &[Namespace], id: &str) -> bool {
    namespaces.iter().any(|namespace| namespace.regex.is_match(id))
}

fn is_exclusive(namespaces: &[Namespace], id: &str) -> bool {
    namespaces.iter().any(|namespace| namespace.is_exclusive && namespace.regex.is_match(id))
}
