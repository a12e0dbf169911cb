//! Where stanzas go. [RFC6120 §10] [RFC6121 §8]

use std::sync::Arc;

use koine_stanza::{Condition, Element, Jid, StanzaError, ns};

use crate::{
    address::Place,
    core::Core,
    iq::{self, Request, Verb},
    session::Session,
};

impl Core {
    /// Takes a stanza with a proven `from` and brings it to whoever answers for its `to`. `session` is the session of
    /// ours that sent it, if any. Stanzas of one stream are routed one after the other.
    ///
    /// A stanza of a session without `to` is for its own account. [RFC6120 §10.3]
    pub(crate) async fn route(self: &Arc<Self>, mut stanza: Element, session: Option<&Arc<Session>>) {
        let (Some(from), to) = (stanza.attr("from").and_then(|jid| Jid::new(jid).ok()), stanza.attr("to")) else {
            return;
        };
        let to = match to {
            None => Jid::from(from.to_bare()),
            Some(to) => match Jid::new(to) {
                Ok(to) => to,
                Err(_) => {
                    return self
                        .refuse(&stanza, &StanzaError::new(Condition::JidMalformed, "`to` is no address"))
                        .await;
                }
            },
        };
        if stanza.name() != "presence" || stanza.attr("to").is_some() {
            stanza.set_attr("to", Some(to.to_string()));
        }
        if let Some(session) = session
            && let Err(error) = crate::suspended::check(self, &mut stanza, &to, session).await
        {
            return self.refuse(&stanza, &error).await;
        }
        if session.is_none() && crate::portal::takes(self, &stanza, &from, &to) {
            return;
        }
        let done = match stanza.name() {
            "iq" => self.route_iq(&stanza, from, to, session).await,
            "message" => crate::im::message(self, &stanza, &from, &to, session).await,
            "presence" => Box::pin(crate::im::presence(self, &stanza, &from, &to, session)).await,
            _ => Ok(()),
        };
        if let Err(error) = done {
            self.refuse(&stanza, &error).await;
        }
    }

    async fn route_iq(
        self: &Arc<Self>,
        stanza: &Element,
        from: Jid,
        to: Jid,
        session: Option<&Arc<Session>>,
    ) -> Result<(), StanzaError> {
        let place = self.place(&to);
        if place == Place::Room && to.resource().is_some() {
            return crate::muc::request_to_occupant(self, stanza, &from, &to, session).await;
        }
        let verb = match stanza.kind() {
            Some("get") => Verb::Get,
            Some("set") => Verb::Set,
            Some("result" | "error") => {
                if session.is_some_and(|session| crate::xep::pep::answered(self, stanza, session)) {
                    return Ok(());
                }
                if session.is_none() && crate::xep::pep::answered_remote(self, stanza, &from).await {
                    return Ok(());
                }
                if crate::xep::push::answered(self, stanza, &from).await {
                    return Ok(());
                }
                // An answer to whoever asked; one that nobody awaits goes nowhere.
                if place == Place::Elsewhere || to.resource().is_some() {
                    self.deliver(stanza.clone()).await;
                }
                return Ok(());
            }
            _ => return Err(StanzaError::new(Condition::BadRequest, "the type of an iq is get, set, result or error")),
        };
        if place == Place::Elsewhere {
            self.send_elsewhere(stanza.clone()).await;
            return Ok(());
        }
        if let Place::Account(user) = &place
            && self.has_blocked_address(user, &from)
        {
            // [XEP-0191 §block]
            return Err(StanzaError::new(Condition::ServiceUnavailable, "there is nobody of that name"));
        }
        if let (Place::Account(_), Ok(full)) = (&place, to.clone().try_into_full()) {
            // [RFC6121 §8.5.3.2.3] A session answers for itself.
            return match self.sessions.get(&full) {
                Some(session) if session.send(stanza.clone()) => Ok(()),
                _ => Err(StanzaError::new(Condition::ServiceUnavailable, "that session is not here")),
            };
        }
        let id = stanza.id().filter(|id| !id.is_empty());
        let (Some(_), Some(payload)) = (id, stanza.children().next()) else {
            return Err(StanzaError::new(Condition::BadRequest, "an iq has an id and one payload"));
        };
        let Some(at) = iq::at(&place) else {
            return Err(StanzaError::new(Condition::ServiceUnavailable, "there is nobody of that name"));
        };
        let account = match place {
            // [RFC6121 §8.5.1]
            Place::Account(user) if !self.is_account(&user) => {
                if verb == Verb::Get && payload.is("query", ns::DISCO_ITEMS) {
                    let nothing = crate::xep::disco::of_nobody(payload);
                    self.deliver(iq::result(stanza, Some(nothing))).await;
                    return Ok(());
                }
                return Err(StanzaError::new(Condition::ServiceUnavailable, "there is nobody of that name"));
            }
            Place::Account(user) => Some(user),
            _ => None,
        };
        let payload = payload.clone();
        let request = Request { from, to, verb, payload, session: session.cloned(), account };
        let payload = iq::answer(self, at, request).await?;
        self.deliver(iq::result(stanza, payload)).await;
        if let Some(session) = session {
            let behind = std::mem::take(&mut session.state().behind);
            for stanza in behind {
                session.send(stanza);
            }
            let ends = session.state().ends.take();
            if let Some(why) = ends {
                session.end(why);
            }
        }
        Ok(())
    }

    /// Answers a stanza with an error, where errors are answered.
    pub(crate) async fn refuse(self: &Arc<Self>, stanza: &Element, error: &StanzaError) {
        // [RFC6120 §8.3.1] Never an error for an error.
        if let Some(answer) = error.answer(stanza) {
            self.deliver(answer).await;
        }
    }

    /// Hands a finished stanza to the session or server that its `to` names, with no further questions asked. What is for a
    /// session that is gone is dropped.
    pub(crate) async fn deliver(self: &Arc<Self>, stanza: Element) {
        let Some(to) = stanza.attr("to").and_then(|to| Jid::new(to).ok()) else { return };
        match (self.place(&to), to.try_into_full()) {
            (Place::Elsewhere, _) => Box::pin(self.send_elsewhere(stanza)).await,
            (Place::Account(_), Ok(full)) => {
                if let Some(session) = self.sessions.get(&full) {
                    session.send(stanza);
                }
            }
            _ => {}
        }
    }
}
