//! From an http request to a typed one, with proof of who asks.
//!
//! Order matters: the token is checked before a body is read, so that strangers cannot make us read one where only
//! users may speak.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, RawPathParams, Request};
use bytes::Bytes;
use http::{Method, StatusCode, header::AUTHORIZATION, request::Parts};
use koine_account::Session;
use ruma_common::{
    OwnedDeviceId, OwnedUserId,
    api::{
        IncomingRequest, Metadata,
        auth_scheme::{
            AccessToken, AccessTokenOptional, AppserviceToken, AppserviceTokenOptional, AuthScheme, NoAccessToken,
            NoAuthentication,
        },
        error::DeserializationError,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    Api, Error, Result, Service,
    body::{self, JSON_BYTES_MAX},
};

/// A request in ruma's words.
#[derive(Debug)]
pub struct Call<M, const BODY_MAX: usize = JSON_BYTES_MAX>
where
    M: Metadata<Authentication: Proof>,
{
    /// Who asks, as far as this endpoint wants to know.
    pub who: <M::Authentication as Proof>::Who,
    /// What is asked.
    pub request: M,
    /// Where from.
    pub peer: Peer,
}

/// A request whose body we parse ourselves, kinder or faster than ruma does. `M` still says path, method and who may ask.
#[derive(Debug)]
pub struct Loose<M, B, const BODY_MAX: usize = JSON_BYTES_MAX>
where
    M: Metadata<Authentication: Proof>,
{
    /// Who asks, as far as this endpoint wants to know.
    pub who: <M::Authentication as Proof>::Who,
    /// The variable parts of the path, decoded, in order.
    pub path: Vec<String>,
    /// The query string as sent, without the question mark.
    pub query: String,
    /// The body.
    pub body: B,
    /// Where from.
    pub peer: Peer,
}

/// Somebody with a valid access token, and not locked out.
#[derive(Debug, Clone)]
pub struct User(Arc<Session>);

/// The same, or locked out: may do nothing but log out. [CS-API §account-locking]
#[derive(Debug, Clone)]
pub struct UserEvenLocked(pub User);

/// The address a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// How each of ruma's kinds of authentication is proven. A handler cannot get at a [`User`] in any other way.
pub trait Proof: AuthScheme {
    /// What the proof yields.
    type Who: Send + std::fmt::Debug;

    /// Checks the request.
    fn prove(api: &Api, parts: &Parts, peer: Peer) -> Result<Self::Who>;
}

impl Proof for AccessToken {
    type Who = User;

    fn prove(api: &Api, parts: &Parts, peer: Peer) -> Result<User> {
        user_of(api, parts, &needed_token(parts)?, peer)
    }
}

/// Whoever the token is of; of an application service, the user that it acts as.
fn user_of(api: &Api, parts: &Parts, token: &str, peer: Peer) -> Result<User> {
    match api.services.by_token(token) {
        Some(service) => acting_as(api, service, parts),
        None => Ok(User(api.accounts.authenticate(token, Some(peer.0))?)),
    }
}

/// [AS-API §identity-assertion] Whom the query names, or the service's own user.
fn acting_as(api: &Api, service: &Service, parts: &Parts) -> Result<User> {
    let named = Named::of(parts)?;
    let user_id = named.user_id.as_deref().unwrap_or(&service.sender);
    if !service.has_user(user_id) {
        return Err(Error::forbidden("The application service may not act as this user"));
    }
    let session = api.accounts.session_for(user_id, None)?;
    let session = session.ok_or_else(|| Error::forbidden("The application service has not registered this user"))?;
    let Some(device_id) = &named.device_id else { return Ok(User(session)) };
    let on_device = api.accounts.session_for(user_id, Some(device_id))?;
    let unknown = || Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN_DEVICE", "The user has no such device");
    Ok(User(on_device.ok_or_else(unknown)?))
}

/// Whom a request of an application service is made for.
#[derive(Debug, Default, serde::Deserialize)]
struct Named {
    user_id: Option<OwnedUserId>,
    #[serde(alias = "org.matrix.msc3202.device_id")]
    device_id: Option<OwnedDeviceId>,
}

impl Named {
    fn of(parts: &Parts) -> Result<Self> {
        let query = axum::extract::Query::<Self>::try_from_uri(&parts.uri);
        Ok(query.map_err(|_| Error::invalid_param("user_id or device_id cannot be read"))?.0)
    }
}

impl Proof for AccessTokenOptional {
    type Who = Option<User>;

    fn prove(api: &Api, parts: &Parts, peer: Peer) -> Result<Option<User>> {
        match access_token(parts) {
            Some(token) => user_of(api, parts, &token, peer).map(Some),
            None => Ok(None),
        }
    }
}

impl Proof for NoAccessToken {
    type Who = ();

    fn prove(_api: &Api, _parts: &Parts, _peer: Peer) -> Result<()> {
        Ok(())
    }
}

impl Proof for NoAuthentication {
    type Who = ();

    fn prove(_api: &Api, _parts: &Parts, _peer: Peer) -> Result<()> {
        Ok(())
    }
}

impl Proof for AppserviceToken {
    type Who = Service;

    fn prove(api: &Api, parts: &Parts, peer: Peer) -> Result<Service> {
        let token = needed_token(parts)?;
        if let Some(service) = api.services.by_token(&token) {
            return Ok(service.clone());
        }
        // Whose token is none learns that first.
        api.accounts.authenticate(&token, Some(peer.0))?;
        Err(Error::forbidden("Only application services may ask for this"))
    }
}

/// To everybody else these endpoints are open.
impl Proof for AppserviceTokenOptional {
    type Who = Option<Service>;

    fn prove(api: &Api, parts: &Parts, _peer: Peer) -> Result<Option<Service>> {
        Ok(access_token(parts).and_then(|token| api.services.by_token(&token).cloned()))
    }
}

impl Deref for User {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl User {
    /// Refuses what the suspended may not do. [CS-API §account-suspension]
    pub fn not_suspended(&self) -> Result<()> {
        if !self.is_suspended {
            return Ok(());
        }
        Err(Error::new(StatusCode::FORBIDDEN, "M_USER_SUSPENDED", "You cannot do this while suspended"))
    }
}

impl FromRequestParts<Api> for UserEvenLocked {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        let peer = Peer::of(parts, api);
        let session = api.accounts.authenticate_even_locked(&needed_token(parts)?, Some(peer.0))?;
        Ok(Self(User(session)))
    }
}

impl FromRequestParts<Api> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        let peer = Peer::of(parts, api);
        AccessToken::prove(api, parts, peer)
    }
}

impl FromRequestParts<Api> for Peer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        Ok(Self::of(parts, api))
    }
}

impl Peer {
    fn of(parts: &Parts, api: &Api) -> Self {
        if api.config.trust_forwarded_for
            && let Some(address) = forwarded_for(parts)
        {
            return Self(address);
        }
        let connected = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Self(connected.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip().to_canonical()))
    }
}

/// The last address, which is the one our own proxy wrote; those before it are whatever the sender liked to say.
fn forwarded_for(parts: &Parts) -> Option<IpAddr> {
    let last = parts.headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

/// [CS-API §using-access-tokens]
fn needed_token(parts: &Parts) -> Result<std::borrow::Cow<'_, str>> {
    access_token(parts)
        .ok_or_else(|| Error::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "An access token is needed"))
}

/// The token in the header, or else in the query (deprecated, but still served).
fn access_token(parts: &Parts) -> Option<std::borrow::Cow<'_, str>> {
    if let Some(header) = parts.headers.get(AUTHORIZATION) {
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into());
    }
    let query = parts.uri.query()?;
    let token = query.split('&').find_map(|pair| pair.strip_prefix("access_token="))?;
    // Our tokens need no escaping, so whatever does is not one of ours: left as it is, it will not be known.
    (!token.is_empty()).then_some(token.into())
}

impl<M, const BODY_MAX: usize> FromRequest<Api> for Call<M, BODY_MAX>
where
    M: IncomingRequest + Metadata<Authentication: Proof> + Send,
{
    type Rejection = Error;

    async fn from_request(request: Request, api: &Api) -> Result<Self> {
        let opened = open::<M>(request, api, BODY_MAX).await?;
        let Opened { who, parts, path, body, peer } = opened;
        let body: &[u8] = if body.is_empty() && M::METHOD != Method::GET { b"{}" } else { &body };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let request = M::try_from_http_request_inner(http::Request::from_parts(parts, body), &path)
            .map_err(|error| refuse(error, body))?;
        Ok(Self { who, request, peer })
    }
}

impl<M, B, const BODY_MAX: usize> FromRequest<Api> for Loose<M, B, BODY_MAX>
where
    M: Metadata<Authentication: Proof>,
    B: LooseBody,
{
    type Rejection = Error;

    async fn from_request(request: Request, api: &Api) -> Result<Self> {
        let Opened { who, parts, path, body, peer } = open::<M>(request, api, BODY_MAX).await?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        Ok(Self { who, path, query, body: B::from_checked(body)?, peer })
    }
}

/// What a [`Loose`] body can be.
pub trait LooseBody: Sized {
    /// Takes bytes that are UTF-8 and not nested too deeply.
    fn from_checked(bytes: Bytes) -> Result<Self>;
}

/// Bytes that are UTF-8 and not nested too deeply, and otherwise yours to parse.
#[derive(Debug)]
pub struct Checked(pub Bytes);

impl LooseBody for Checked {
    fn from_checked(bytes: Bytes) -> Result<Self> {
        Ok(Self(bytes))
    }
}

impl<T: DeserializeOwned> LooseBody for T {
    fn from_checked(bytes: Bytes) -> Result<Self> {
        body::parse(&bytes)
    }
}

struct Opened<W> {
    who: W,
    parts: Parts,
    path: Vec<String>,
    body: Bytes,
    peer: Peer,
}

async fn open<M>(request: Request, api: &Api, bytes_max: usize) -> Result<Opened<<M::Authentication as Proof>::Who>>
where
    M: Metadata<Authentication: Proof>,
{
    let (mut parts, body) = request.into_parts();
    let peer = Peer::of(&parts, api);
    let who = match M::Authentication::prove(api, &parts, peer) {
        Ok(who) => who,
        Err(error) => {
            body::drain(body).await;
            return Err(error);
        }
    };
    let path = path_arguments(&mut parts).await?;
    let body =
        if M::METHOD == Method::GET { Bytes::new() } else { body::read(&parts.headers, body, bytes_max).await? };
    body::check(&body)?;
    Ok(Opened { who, parts, path, body, peer })
}

/// The decoded variables of the path, in order.
async fn path_arguments(parts: &mut Parts) -> Result<Vec<String>> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_not_utf8| Error::invalid_param("The path is not UTF-8"))?;
    let mut arguments: Vec<String> = params.iter().map(|(_, value)| value.to_owned()).collect();
    if parts.extensions.get::<crate::endpoints::EmptyLast>().is_some() {
        arguments.push(String::new());
    }
    Ok(arguments)
}

/// What ruma could not read, in the errcode the specification has for it.
fn refuse(error: DeserializationError, body: &[u8]) -> Error {
    match error {
        DeserializationError::Utf8(_) => Error::not_json("The request is not UTF-8"),
        DeserializationError::Json(error) => body::refuse_json(body, &error),
        DeserializationError::Query(error) => {
            let message = error.to_string();
            match message.starts_with("missing field") {
                true => Error::missing_param(format!("In the query: {message}")),
                false => Error::invalid_param(format!("In the query: {message}")),
            }
        }
        DeserializationError::Ident(error) => Error::invalid_param(format!("Not a valid identifier: {error}")),
        other => Error::invalid_param(format!("Not as expected: {other}")),
    }
}
