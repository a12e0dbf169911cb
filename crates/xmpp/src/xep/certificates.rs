//! XEP-0257: Client Certificate Management for SASL EXTERNAL: the list of certificates by which programs of an account come in.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_account::{Certificate, CertificateError};
use koine_stanza::{Condition, Element, StanzaError, StreamCondition, StreamError};

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    session::{Session, SessionState},
    stream::tls::Presented,
};

/// The protocol.
const SASL_CERT: &str = "urn:xmpp:saslcert:1";

/// Asked of one's own account, or of the server, which is the same.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, SASL_CERT), (At::Account, SASL_CERT)],
    handlers: &[
        Handler {
            at: &[At::Host, At::Account],
            verbs: &[Verb::Get],
            name: "items",
            ns: SASL_CERT,
            run: |core, request| Box::pin(async move { items(&core, &request) }),
        },
        Handler {
            at: &[At::Host, At::Account],
            verbs: &[Verb::Set],
            name: "append",
            ns: SASL_CERT,
            run: |core, request| Box::pin(append(core, request)),
        },
        Handler {
            at: &[At::Host, At::Account],
            verbs: &[Verb::Set],
            name: "disable",
            ns: SASL_CERT,
            run: |core, request| Box::pin(disable(core, request)),
        },
        Handler {
            at: &[At::Host, At::Account],
            verbs: &[Verb::Set],
            name: "revoke",
            ns: SASL_CERT,
            run: |core, request| Box::pin(revoke(core, request)),
        },
    ],
};

/// The session of the account whose list it is.
fn owner(request: &Request) -> Result<&Arc<Session>, StanzaError> {
    let session = request.session.as_ref().filter(|_| request.account.is_none() || request.is_own());
    session.ok_or_else(|| StanzaError::new(Condition::Forbidden, "certificates are their owner's affair alone"))
}

/// The same, who may change it, too: a token that was stolen makes itself no certificate, which would outlive it.
fn manager(request: &Request) -> Result<&Arc<Session>, StanzaError> {
    let session = owner(request)?;
    let text = match &*session.state() {
        SessionState { by_password: true, .. } => return Ok(session),
        SessionState { came_by: Some(came_by), .. } if came_by.may_manage => return Ok(session),
        SessionState { came_by: Some(_), .. } => "who came in by this certificate changes no certificates",
        _ => "log in with the password to change certificates",
    };
    Err(StanzaError::new(Condition::Forbidden, text))
}

fn name(request: &Request) -> Result<String, StanzaError> {
    let name = request.payload.child_text("name", SASL_CERT).filter(|name| !name.trim().is_empty());
    name.ok_or_else(|| StanzaError::new(Condition::BadRequest, "say the name of the certificate"))
}

fn unavailable(error: &koine_account::StoreUnavailable) -> StanzaError {
    tracing::error!(reason = %error, "a list of certificates is not available");
    Condition::InternalServerError.into()
}

fn items(core: &Arc<Core>, request: &Request) -> Answer {
    let session = owner(request)?;
    let listed = core.accounts().certificates(session.user()).map_err(|error| unavailable(&error))?;
    let sessions = core.sessions.of(&session.jid().to_bare());
    let items = listed.into_iter().map(|certificate| {
        let hash = certificate.hash();
        let came = sessions.iter().filter(|session| came_by(session, hash));
        let resources =
            came.map(|session| Element::text_of("resource", SASL_CERT, session.jid().resource().to_string()));
        let users = Element::new("users", SASL_CERT).with_children(resources);
        Element::new("item", SASL_CERT)
            .with_child(Element::text_of("name", SASL_CERT, certificate.name))
            .with_child(Element::text_of("x509cert", SASL_CERT, BASE64_STANDARD.encode(certificate.der)))
            .with_child_opt(Some(users).filter(|users| users.children().next().is_some()))
    });
    Ok(Some(Element::new("items", SASL_CERT).with_children(items)))
}

fn came_by(session: &Session, hash: koine_account::CertificateHash) -> bool {
    session.state().came_by.as_ref().is_some_and(|came_by| came_by.hash == hash)
}

async fn append(core: Arc<Core>, request: Request) -> Answer {
    let user = manager(&request)?.user().clone();
    let text = request.payload.child_text("x509cert", SASL_CERT).unwrap_or_default();
    let text: String = text.split_whitespace().collect();
    let bad = |text: &str| StanzaError::new(Condition::BadRequest, text);
    let der = BASE64_STANDARD.decode(text).map_err(|_| bad("a certificate is sent as Base64 of its DER form"))?;
    let presented = Presented::of(&der).ok_or_else(|| bad("this is no certificate"))?;
    if *presented.validity.end() < core.now_ms() / 1_000 {
        return Err(StanzaError::new(Condition::NotAcceptable, "this certificate has expired"));
    }
    let may_manage = !request.payload.has_child("no-cert-management", SASL_CERT);
    let wanted = Certificate { name: name(&request)?, der, may_manage };
    core.accounts().add_certificate(&user, wanted).await.map_err(|error| refused(&error))?;
    Ok(None)
}

fn refused(error: &CertificateError) -> StanzaError {
    let condition = match error {
        CertificateError::UnknownUser => Condition::RegistrationRequired,
        CertificateError::TooMany => Condition::ResourceConstraint,
        CertificateError::TooLarge(_) => Condition::NotAcceptable,
        CertificateError::Listed => Condition::Conflict,
        CertificateError::Store(_) => Condition::InternalServerError,
    };
    StanzaError::new(condition, error.to_string())
}

async fn take_off(core: &Core, request: &Request) -> Result<koine_account::CertificateHash, StanzaError> {
    let (user, name) = (manager(request)?.user(), name(request)?);
    let removed = core.accounts().remove_certificate(user, &name).await.map_err(|error| unavailable(&error))?;
    removed.ok_or_else(|| StanzaError::new(Condition::ItemNotFound, "there is no certificate of that name"))
}

/// What ends the sessions of whoever came in by a certificate that was revoked.
pub(crate) fn revoked() -> StreamError {
    StreamError::new(StreamCondition::NotAuthorized, "the certificate that you came in by was revoked")
}

/// Nobody comes in by it any more; whoever did stays.
async fn disable(core: Arc<Core>, request: Request) -> Answer {
    take_off(&core, &request).await.map(|_| None)
}

/// Whoever came in by it goes, too.
async fn revoke(core: Arc<Core>, request: Request) -> Answer {
    let asking = manager(&request)?.clone();
    let hash = take_off(&core, &request).await?;
    let came = core.sessions.of(&asking.jid().to_bare()).into_iter().filter(|session| came_by(session, hash));
    for session in came {
        match Arc::ptr_eq(&session, &asking) {
            // It is answered first.
            true => session.state().ends = Some(revoked()),
            false => session.end(revoked()),
        }
    }
    Ok(None)
}
