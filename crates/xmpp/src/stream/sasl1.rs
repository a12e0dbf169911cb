//! SASL as RFC 6120 carries it. [RFC6120 §6.4]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_stanza::{Element, ns};
use ruma_common::OwnedUserId;

use super::{
    client::{Negotiation, element},
    transport::{Broken, Transport},
};
use crate::sasl::{Attempt, Exchange, Failure, Offer, Proven, Step};

impl Negotiation {
    /// One attempt: who it is, if it succeeded.
    pub(super) async fn sasl1(
        &mut self,
        transport: &mut dyn Transport,
        auth: &Element,
        offer: &Offer,
    ) -> Result<Option<OwnedUserId>, Broken> {
        match self.exchange(transport, auth, offer).await? {
            Ok(proven) => {
                self.by_password = proven.is_by_password();
                let mut success = Element::new("success", ns::SASL);
                if let Some(data) = proven.data {
                    success.push_text(BASE64_STANDARD.encode(data));
                }
                transport.send(&success);
                self.came_by = proven.came_by;
                Ok(Some(proven.user))
            }
            Err(failure) => {
                transport.send(&failure.element(ns::SASL));
                self.attempt()?;
                Ok(None)
            }
        }
    }

    async fn exchange(
        &mut self,
        transport: &mut dyn Transport,
        auth: &Element,
        offer: &Offer,
    ) -> Result<Result<Proven, Failure>, Broken> {
        let security = transport.security().clone();
        let core = self.core().clone();
        let address = Some(self.address);
        let attempt = Attempt { core: &core, security: &security, offer, address, agent: None, count: None };
        let mut exchange = match Exchange::new(auth.attr("mechanism").unwrap_or_default(), &attempt, false) {
            Ok(exchange) => exchange,
            Err(failure) => return Ok(Err(failure)),
        };
        let text = auth.text();
        // [RFC6120 §6.4.2] Nothing is no answer; `=` is an empty one.
        let mut message = match text.trim() {
            "" => {
                transport.send(&Element::text_of("challenge", ns::SASL, "="));
                None
            }
            "=" => Some(Vec::new()),
            text => match BASE64_STANDARD.decode(text) {
                Ok(message) => Some(message),
                Err(_) => return Ok(Err(Failure::IncorrectEncoding)),
            },
        };
        loop {
            let given = match message.take() {
                Some(given) => given,
                None => match self.response(transport).await? {
                    Ok(given) => given,
                    Err(failure) => return Ok(Err(failure)),
                },
            };
            match exchange.step(&given, &attempt).await {
                Ok((Step::Done(proven), _)) => return Ok(Ok(proven)),
                Ok((Step::Challenge(challenge), Some(next))) => {
                    let text = BASE64_STANDARD.encode(challenge);
                    transport.send(&Element::text_of("challenge", ns::SASL, text));
                    exchange = next;
                }
                Ok((Step::Challenge(_), None)) => return Ok(Err(Failure::MalformedRequest)),
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }

    async fn response(&mut self, transport: &mut dyn Transport) -> Result<Result<Vec<u8>, Failure>, Broken> {
        let element = element(transport).await?;
        Ok(match (element.name(), element.ns()) {
            ("response", ns::SASL) => match element.text().trim() {
                "=" => Ok(Vec::new()),
                text => BASE64_STANDARD.decode(text).map_err(|_| Failure::IncorrectEncoding),
            },
            ("abort", ns::SASL) => Err(Failure::Aborted),
            _ => Err(Failure::MalformedRequest),
        })
    }
}
