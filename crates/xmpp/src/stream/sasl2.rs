//! SASL in one element, with the resource and a token in the same breath. [XEP-0388] [XEP-0386] [XEP-0484]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, Mac as _};
use koine_stanza::{Element, ns, reader::Limits};
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use sha2::Sha256;

use super::{
    client::{Agent, Bound, Negotiation, element, new_id},
    features,
    transport::{Broken, Transport},
};
use crate::sasl::{Attempt, Exchange, Failure, Offer, Proven, Step, token_text};

/// How long a token is good for.
const TOKEN_LIFE_MS: u64 = 21 * 24 * 60 * 60 * 1000;
/// A token that ends before this is replaced when it is used.
const TOKEN_ROTATE_MS: u64 = 20 * 24 * 60 * 60 * 1000;
/// Bytes of what a client calls itself that become part of its resource.
const TAG_BYTES_MAX: usize = 64;

/// What came of it.
pub(super) enum Outcome {
    Refused,
    /// A resource is still to be bound.
    Proven(OwnedUserId, Agent),
    Bound(Bound),
}

impl Negotiation {
    /// One attempt.
    pub(super) async fn sasl2(
        &mut self,
        transport: &mut dyn Transport,
        request: &Element,
        offer: &Offer,
    ) -> Result<Outcome, Broken> {
        if !features::knew(request, self.core(), offer, transport.security()) {
            transport.send(&features::other_version());
            return Ok(Outcome::Refused);
        }
        let (proven, agent) = match self.prove(transport, request, offer).await? {
            Ok(proven) => proven,
            Err(failure) => {
                transport.send(&failure.element(ns::SASL2));
                self.attempt()?;
                return Ok(Outcome::Refused);
            }
        };
        transport.set_limits(Limits::bytes(self.core().config().stanza_bytes_max));
        self.by_password = proven.is_by_password();
        self.came_by.clone_from(&proven.came_by);
        let mut success = Element::new("success", ns::SASL2);
        if let Some(data) = &proven.data {
            success.push(Element::text_of("additional-data", ns::SASL2, BASE64_STANDARD.encode(data)));
        }
        let (bound, answers) = self.inline(request, &proven.user, &agent).await?;
        let identity = match &bound {
            Some(bound) => bound.session.jid().to_string(),
            None => self.core().jid_of(&proven.user).map(|jid| jid.to_string()).unwrap_or_default(),
        };
        success.push(Element::text_of("authorization-identifier", ns::SASL2, identity));
        answers.into_iter().for_each(|answer| success.push(answer));
        if let Some(token) = self.token(request, &proven, &agent).await {
            success.push(token);
        }
        transport.send(&success);
        match bound {
            Some(bound) => {
                transport.send_of_stream("features", &features::of_session(self.core(), &bound.session));
                Ok(Outcome::Bound(bound))
            }
            None => Ok(Outcome::Proven(proven.user, agent)),
        }
    }

    /// The exchange of the mechanism itself.
    async fn prove(
        &mut self,
        transport: &mut dyn Transport,
        request: &Element,
        offer: &Offer,
    ) -> Result<Result<(Proven, Agent), Failure>, Broken> {
        let security = transport.security().clone();
        let core = self.core().clone();
        let fast = request.child("fast", ns::FAST);
        let count = fast.and_then(|fast| fast.attr("count")).and_then(|count| count.parse().ok());
        let agent = request.child("user-agent", ns::SASL2).and_then(|agent| agent.attr("id"));
        let attempt = Attempt { core: &core, security: &security, offer, address: Some(self.address), agent, count };
        let name = request.attr("mechanism").unwrap_or_default();
        let mut exchange = match Exchange::new(name, &attempt, fast.is_some()) {
            Ok(exchange) => exchange,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut message = match request.child_text("initial-response", ns::SASL2) {
            Some(text) => match BASE64_STANDARD.decode(text.trim()) {
                Ok(message) => Some(message),
                Err(_) => return Ok(Err(Failure::IncorrectEncoding)),
            },
            None => {
                transport.send(&Element::new("challenge", ns::SASL2));
                None
            }
        };
        let proven = loop {
            let given = match message.take() {
                Some(given) => given,
                None => {
                    let element = element(transport).await?;
                    match (element.name(), element.ns()) {
                        ("response", ns::SASL2) => match BASE64_STANDARD.decode(element.text().trim()) {
                            Ok(given) => given,
                            Err(_) => return Ok(Err(Failure::IncorrectEncoding)),
                        },
                        ("abort", ns::SASL2) => return Ok(Err(Failure::Aborted)),
                        _ => return Ok(Err(Failure::MalformedRequest)),
                    }
                }
            };
            match exchange.step(&given, &attempt).await {
                Ok((Step::Done(proven), _)) => break proven,
                Ok((Step::Challenge(challenge), Some(next))) => {
                    let text = BASE64_STANDARD.encode(challenge);
                    transport.send(&Element::text_of("challenge", ns::SASL2, text));
                    exchange = next;
                }
                Ok((Step::Challenge(_), None)) => return Ok(Err(Failure::MalformedRequest)),
                Err(failure) => return Ok(Err(failure)),
            }
        };
        // [XEP-0388 §2.3] The header's `from`, if there is one, is who it proves to be.
        match &self.claimed {
            Some(claimed) if core.jid_of(&proven.user).as_ref() != Some(claimed) => Ok(Err(Failure::NotAuthorized)),
            _ => {
                let agent = self::agent(request, &proven.user, &core.secret);
                Ok(Ok((proven, agent)))
            }
        }
    }

    /// Resumption, else binding, as asked for in the same element. [XEP-0386 §3.2]
    async fn inline(
        &mut self,
        request: &Element,
        user: &OwnedUserId,
        agent: &Agent,
    ) -> Result<(Option<Bound>, Vec<Element>), Broken> {
        let mut answers = Vec::new();
        if let Some(wanted) = request.child("resume", ns::SM) {
            match self.resume(user, wanted).await? {
                Ok((bound, resumed)) => return Ok((Some(bound), vec![resumed])),
                Err(failed) => answers.push(failed),
            }
        }
        let Some(wanted) = request.child("bind", ns::BIND2) else { return Ok((None, answers)) };
        let resource = self.resource(wanted, user, agent);
        let bound = self.start(user, resource, agent.clone()).await.map_err(|error| {
            koine_stanza::StreamError::new(koine_stanza::StreamCondition::ResourceConstraint, error.to_string())
        })?;
        let mut told = Element::new("bound", ns::BIND2);
        for feature in wanted.children() {
            match (feature.name(), feature.ns()) {
                ("enable", ns::CARBONS) => bound.session.state().carbons = true,
                ("enable", ns::SM) => told.push(Self::enable(self.core(), &bound.session, feature)),
                ("inactive", ns::CSI) => bound.session.set_inactive(true),
                _ => {}
            }
        }
        answers.push(told);
        Ok((Some(bound), answers))
    }

    /// The resource of an installation: the same each time. [XEP-0386 §3.2.1]
    fn resource(&self, wanted: &Element, user: &UserId, agent: &Agent) -> String {
        let own = match &agent.device {
            Some(device) => hashed(&self.core().secret, &["resource", device.as_str(), user.as_str()]),
            None => new_id(),
        };
        let tag = wanted.child_text("tag", ns::BIND2).unwrap_or_default();
        let is_good = !tag.is_empty() && tag.len() <= TAG_BYTES_MAX && koine_stanza::resource_part(&tag).is_ok();
        if is_good { format!("{tag}/{own}") } else { own }
    }

    /// A token, where one was asked for or is due. [XEP-0484 §3.3]
    async fn token(&self, request: &Element, proven: &Proven, agent: &Agent) -> Option<Element> {
        let (core, device) = (self.core(), agent.device.as_deref()?);
        let accounts = core.accounts();
        let unavailable = |error: koine_account::StoreUnavailable| {
            tracing::warn!(reason = %error, "a token could not be given");
        };
        if proven.came_by.is_some() {
            // It would outlive the certificate, which does the same service.
            return None;
        }
        let now_ms = core.now_ms();
        let mut mechanism = request.child("request-token", ns::FAST).and_then(|wanted| wanted.attr("mechanism"));
        let held = accounts.stream_tokens(&proven.user, device).map_err(unavailable).ok()?;
        if let Some(used) = proven.token {
            // Older ones go now that this one is known to have arrived. [XEP-0484 §3.5]
            let invalidate = request.child("fast", ns::FAST).and_then(|fast| fast.attr("invalidate"));
            let is_over = matches!(invalidate, Some("true" | "1"));
            let keep = (!is_over).then_some(used);
            accounts.drop_stream_tokens(&proven.user, device, keep).await.map_err(unavailable).ok()?;
            let used = held.iter().find(|token| token.serial == used);
            let is_due = used.is_some_and(|token| token.expires_ms < now_ms + TOKEN_ROTATE_MS);
            if mechanism.is_none() && is_due && !is_over {
                mechanism = used.map(|token| token.mechanism.as_str());
            }
        }
        let mechanism = mechanism?.to_owned();
        crate::sasl::Ht::named(&mechanism)?;
        self.ensure_device(&proven.user, device, agent).await?;
        let expires_ms = now_ms + TOKEN_LIFE_MS;
        let token = accounts.new_stream_token(&proven.user, device, mechanism, expires_ms).await;
        let token = token.map_err(unavailable).ok()??;
        let text = token_text(&core.secret, &proven.user, device, token.serial);
        let element = Element::new("token", ns::FAST);
        Some(element.with_attr("token", text).with_attr("expiry", crate::time::format(expires_ms)))
    }

    /// A token belongs to a device, which may not be in the list before a resource is bound.
    async fn ensure_device(&self, user: &UserId, device: &DeviceId, agent: &Agent) -> Option<()> {
        let wanted = koine_account::AttachDevice {
            device_id: Some(device.to_string()),
            name: agent.name.clone(),
            address: Some(self.address),
        };
        self.core().accounts().attach_device(user, wanted).await.ok().map(|_| ())
    }
}

/// What the client says about itself. [XEP-0388 §2.3]
fn agent(request: &Element, user: &UserId, secret: &[u8; 32]) -> Agent {
    let Some(said) = request.child("user-agent", ns::SASL2) else { return Agent::default() };
    let texts = ["software", "device"].map(|name| said.child_text(name, ns::SASL2));
    let name: Vec<_> = texts.into_iter().flatten().filter(|text| !text.trim().is_empty()).collect();
    let device = said.attr("id").map(|id| device_of(id, user, secret));
    Agent { device, name: (!name.is_empty()).then(|| name.join(", ")) }
}

/// The device of an installation. Others see it, and must not learn the installation's own id from it.
pub(crate) fn device_of(agent_id: &str, user: &UserId, secret: &[u8; 32]) -> OwnedDeviceId {
    format!("XMPP{}", hashed(secret, &["device", agent_id, user.as_str()])).into()
}

fn hashed(secret: &[u8; 32], parts: &[&str]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length is a key");
    for part in parts {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    BASE32_NOPAD.encode(&mac.finalize().into_bytes()[..10])
}
