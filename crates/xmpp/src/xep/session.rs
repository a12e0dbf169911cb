//! Sessions of RFC 3921: a request that means nothing since RFC 6121, and that older clients still wait for.

use koine_stanza::ns;

use crate::iq::{At, Extension, Handler, Verb};

/// COMPAT(clients of RFC 3921): the session stands with the resource; saying so again is harmless. [RFC6121 §1.4]
pub(crate) const EXTENSION: Extension = Extension {
    features: &[],
    handlers: &[Handler {
        at: &[At::Host, At::Account],
        verbs: &[Verb::Set],
        name: "session",
        ns: ns::SESSION,
        run: |_, _| Box::pin(async { Ok(None) }),
    }],
};
