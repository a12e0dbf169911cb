//! XEP-0280: Message Carbons. Which messages are copied, and to whom, is told in `im/happened.rs`.

use koine_stanza::{Element, ns};

use crate::iq::{Answer, At, Extension, Handler, Request, Verb};

/// The rules for what is copied. [XEP-0280 §recommended-rules]
const RULES: &str = "urn:xmpp:carbons:rules:0";

/// Switched on and off by each session for itself.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, ns::CARBONS), (At::Host, RULES), (At::Account, ns::CARBONS), (At::Account, RULES)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "enable",
            ns: ns::CARBONS,
            run: |_, request| Box::pin(async move { switch(&request, true) }),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "disable",
            ns: ns::CARBONS,
            run: |_, request| Box::pin(async move { switch(&request, false) }),
        },
    ],
};

fn switch(request: &Request, on: bool) -> Answer {
    request.own_session()?.state().carbons = on;
    Ok(None::<Element>)
}
