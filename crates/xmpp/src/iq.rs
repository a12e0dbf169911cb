//! Requests that want an answer (`<iq/>`), and the table of who answers them. [RFC6120 §8.2.3]

use std::{future::Future, pin::Pin, sync::Arc};

use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use ruma_common::OwnedUserId;

use crate::{address::Place, core::Core, session::Session};

/// What a request is answered with: an optional payload, or an error.
pub(crate) type Answer = Result<Option<Element>, StanzaError>;
/// An [`Answer`] to come.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Kinds of addresses that requests come to, as [`Handler`]s and features name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The server: `example.org`.
    Host,
    /// An account by its bare address: `alice@example.org`. The account need not be the asker's.
    Account,
    /// The service with the rooms: `rooms.example.org`.
    RoomService,
    /// A room by its bare address.
    Room,
    /// The service that takes files.
    UploadService,
    /// The service with people and rooms of Matrix servers.
    MatrixService,
    /// The service with what nobody's account publishes.
    PubsubService,
    /// The service with people who are reached by mail.
    MailService,
    /// The service by which two clients send each other bytes.
    ProxyService,
}

/// Whether a request asks or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `type='get'`
    Get,
    /// `type='set'`
    Set,
}

/// A request with a proven sender.
pub(crate) struct Request {
    /// Who asks: the full address of a session of ours, or an address of a server that proved to be it.
    pub(crate) from: Jid,
    /// Whom.
    pub(crate) to: Jid,
    /// Asks or changes.
    pub(crate) verb: Verb,
    /// The payload.
    pub(crate) payload: Element,
    /// The session that asks, if it is one of ours.
    pub(crate) session: Option<Arc<Session>>,
    /// The account asked, where `to` is one.
    pub(crate) account: Option<OwnedUserId>,
}

impl Request {
    /// The account that asks, if it is ours.
    pub(crate) fn asker(&self) -> Option<&OwnedUserId> {
        self.session.as_ref().map(|session| session.user())
    }

    /// Whether somebody asks their own account.
    pub(crate) fn is_own(&self) -> bool {
        self.account.is_some() && self.asker() == self.account.as_ref()
    }

    /// The session of the account that is asked, or the error for anybody else. [RFC6120 §8.3.3.4]
    pub(crate) fn own_session(&self) -> Result<&Arc<Session>, StanzaError> {
        match &self.session {
            Some(session) if self.is_own() => Ok(session),
            _ => Err(StanzaError::new(Condition::Forbidden, "this is for the owner of the account alone")),
        }
    }
}

/// Somebody who answers requests with a certain payload at a certain kind of address.
pub(crate) struct Handler {
    /// Where.
    pub(crate) at: &'static [At],
    /// Asks, changes, or both.
    pub(crate) verbs: &'static [Verb],
    /// The payload's name; empty for every name in the namespace.
    pub(crate) name: &'static str,
    /// The payload's namespace.
    pub(crate) ns: &'static str,
    /// Answers.
    pub(crate) run: fn(Arc<Core>, Request) -> Answering,
}

/// What one extension brings. Its file in `xep/` has one of these; `xep/mod.rs` lists them.
pub(crate) struct Extension {
    /// What is advertised where. [XEP-0030]
    pub(crate) features: &'static [(At, &'static str)],
    /// Requests that it answers.
    pub(crate) handlers: &'static [Handler],
}

/// Answers a request: always with exactly one result or error, unless it goes on to somebody else who will.
pub(crate) async fn answer(core: &Arc<Core>, at: At, request: Request) -> Answer {
    let mut of_name = false;
    for extension in crate::xep::ALL {
        for handler in extension.handlers {
            let named = handler.ns == request.payload.ns()
                && (handler.name.is_empty() || handler.name == request.payload.name());
            if !named || !handler.at.contains(&at) {
                continue;
            }
            of_name = true;
            if handler.verbs.contains(&request.verb) {
                return (handler.run)(core.clone(), request).await;
            }
        }
    }
    // [RFC6120 §8.4]: an unknown payload is service-unavailable; a known one of the wrong type is our bad-request.
    match of_name {
        true => {
            Err(StanzaError::new(Condition::BadRequest, "this request exists only with the other type, get or set"))
        }
        false => Err(StanzaError::new(Condition::ServiceUnavailable, "nobody here answers this request")),
    }
}

/// Features advertised at a kind of address, from the list of extensions alone.
pub(crate) fn features(at: At) -> impl Iterator<Item = &'static str> {
    crate::xep::ALL
        .iter()
        .flat_map(|extension| extension.features)
        .filter(move |(place, _)| *place == at)
        .map(|(_, feature)| *feature)
}

/// The kind of address that a place is, for requests; `None` where requests are not answered by the server.
pub(crate) fn at(place: &Place) -> Option<At> {
    match place {
        Place::Host => Some(At::Host),
        Place::Account(_) => Some(At::Account),
        Place::RoomService => Some(At::RoomService),
        Place::Room => Some(At::Room),
        Place::UploadService => Some(At::UploadService),
        Place::MatrixService => Some(At::MatrixService),
        Place::PubsubService => Some(At::PubsubService),
        Place::MailService => Some(At::MailService),
        Place::ProxyService => Some(At::ProxyService),
        Place::Matrix | Place::Mail | Place::Elsewhere | Place::Nobody => None,
    }
}

/// `<iq type='result'/>` for a request.
pub(crate) fn result(request: &Element, payload: Option<Element>) -> Element {
    Element::new("iq", ns::CLIENT)
        .with_attr_opt("from", request.attr("to"))
        .with_attr_opt("to", request.attr("from"))
        .with_attr_opt("id", request.id())
        .with_attr("type", "result")
        .with_child_opt(payload)
}
