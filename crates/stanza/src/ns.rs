//! Namespaces, each under the name of what it is.

/// Stanzas between client and server; what every stanza is in while it is inside of the server. RFC 6120.
pub const CLIENT: &str = "jabber:client";
/// Stanzas between servers. RFC 6120.
pub const SERVER: &str = "jabber:server";
/// Stanzas of components. XEP-0114.
pub const COMPONENT: &str = "jabber:component:accept";
/// The stream itself. RFC 6120.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Conditions of stream errors. RFC 6120.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions of stanza errors. RFC 6120.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// `xml:` as in `xml:lang`.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// STARTTLS. RFC 6120.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL. RFC 6120.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding. RFC 6120.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Contact lists. RFC 6121.
pub const ROSTER: &str = "jabber:iq:roster";
/// Data forms. XEP-0004.
pub const DATA_FORMS: &str = "jabber:x:data";
/// Service discovery: who are you. XEP-0030.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// Service discovery: whom do you know. XEP-0030.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// Multi-user chat. XEP-0045.
pub const MUC: &str = "http://jabber.org/protocol/muc";
/// What a room says of its users. XEP-0045.
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// Roles and affiliations. XEP-0045.
pub const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
/// Configuration. XEP-0045.
pub const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
/// Result sets. XEP-0059.
pub const RSM: &str = "http://jabber.org/protocol/rsm";
/// Publish-subscribe. XEP-0060.
pub const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// Its events.
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// Its owner's requests.
pub const PUBSUB_OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
/// Its errors.
pub const PUBSUB_ERRORS: &str = "http://jabber.org/protocol/pubsub#errors";
/// Chat states. XEP-0085.
pub const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Delivery receipts. XEP-0184.
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// Pings. XEP-0199.
pub const PING: &str = "urn:xmpp:ping";
/// Delayed delivery. XEP-0203.
pub const DELAY: &str = "urn:xmpp:delay";
/// Carbons. XEP-0280.
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// Forwarded stanzas. XEP-0297.
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// Corrections. XEP-0308.
pub const CORRECT: &str = "urn:xmpp:message-correct:0";
/// The archive. XEP-0313.
pub const MAM: &str = "urn:xmpp:mam:2";
/// Displayed markers. XEP-0333.
pub const CHAT_MARKERS: &str = "urn:xmpp:chat-markers:0";
/// Hints for keeping and copying. XEP-0334.
pub const HINTS: &str = "urn:xmpp:hints";
/// Ids that stay. XEP-0359.
pub const STANZA_ID: &str = "urn:xmpp:sid:0";
/// How a message is encrypted. XEP-0380.
pub const EME: &str = "urn:xmpp:eme:0";
/// Who is who in a room. XEP-0421.
pub const OCCUPANT_ID: &str = "urn:xmpp:occupant-id:0";
/// Retraction. XEP-0424.
pub const RETRACT: &str = "urn:xmpp:message-retract:1";
/// Retraction by moderators. XEP-0425.
pub const MODERATE: &str = "urn:xmpp:message-moderate:1";
/// What clients that know better should not show. XEP-0428.
pub const FALLBACK: &str = "urn:xmpp:fallback:0";
/// Reactions. XEP-0444.
pub const REACTIONS: &str = "urn:xmpp:reactions:0";
/// Replies. XEP-0461.
pub const REPLY: &str = "urn:xmpp:reply:0";
/// Stream management. XEP-0198.
pub const SM: &str = "urn:xmpp:sm:3";
/// Whether somebody looks. XEP-0352.
pub const CSI: &str = "urn:xmpp:csi:0";
/// SASL in one element. XEP-0388.
pub const SASL2: &str = "urn:xmpp:sasl:2";
/// Binding within it. XEP-0386.
pub const BIND2: &str = "urn:xmpp:bind:0";
/// Tokens to come back with. XEP-0484.
pub const FAST: &str = "urn:xmpp:fast:0";
/// What authentication can be tied to. XEP-0440.
pub const SASL_CB: &str = "urn:xmpp:sasl-cb:0";
/// Bounds of a stream. XEP-0478.
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// Sessions of RFC 3921, which mean nothing any more.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Registration. XEP-0077.
pub const REGISTER: &str = "jabber:iq:register";
/// Registration, as a feature of streams. XEP-0077.
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// Streams over WebSocket. RFC 7395.
pub const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
/// Streams over HTTP. XEP-0124.
pub const HTTP_BIND: &str = "http://jabber.org/protocol/httpbind";
/// Streams over HTTP, as XMPP has them. XEP-0206.
pub const XBOSH: &str = "urn:xmpp:xbosh";
