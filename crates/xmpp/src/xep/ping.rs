//! XEP-0199: XMPP Ping.

use koine_stanza::ns;

use crate::iq::{At, Extension, Handler, Verb};

/// The server and accounts of ours answer; sessions are asked themselves.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[
        (At::Host, ns::PING),
        (At::Account, ns::PING),
        (At::RoomService, ns::PING),
        (At::UploadService, ns::PING),
        (At::PubsubService, ns::PING),
        (At::MatrixService, ns::PING),
        (At::ProxyService, ns::PING),
    ],
    handlers: &[Handler {
        at: &[
            At::Host,
            At::Account,
            At::RoomService,
            At::UploadService,
            At::MatrixService,
            At::PubsubService,
            At::MailService,
            At::ProxyService,
        ],
        verbs: &[Verb::Get],
        name: "ping",
        ns: ns::PING,
        // [XEP-0199 §protocol]: an empty result.
        run: |_, _| Box::pin(async { Ok(None) }),
    }],
};
