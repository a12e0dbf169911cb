//! What ends a stream. RFC 6120, section 4.9.

use std::fmt;

use crate::{Element, escape, ns, reader::XmlError};

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Defined conditions. [RFC6120 §4.9.3]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StreamCondition {
            $($(#[$doc])* $name,)*
        }

        impl StreamCondition {
            /// Its element.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The condition with that element.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

conditions! {
    /// XML that cannot be processed here, such as text between stanzas.
    BadFormat = "bad-format";
    /// A prefix that is not declared, or a wrong one.
    BadNamespacePrefix = "bad-namespace-prefix";
    /// Another stream takes the place of this one.
    Conflict = "conflict";
    /// Nothing was heard for too long.
    ConnectionTimeout = "connection-timeout";
    /// The host is served here no longer.
    HostGone = "host-gone";
    /// The host is not served here.
    HostUnknown = "host-unknown";
    /// A stanza between servers without an address.
    ImproperAddressing = "improper-addressing";
    /// Our fault.
    InternalServerError = "internal-server-error";
    /// A `from` that the sender did not prove.
    InvalidFrom = "invalid-from";
    /// A namespace of the stream or its content that is none.
    InvalidNamespace = "invalid-namespace";
    /// XML that breaks a schema.
    InvalidXml = "invalid-xml";
    /// Not authorized yet, or no longer.
    NotAuthorized = "not-authorized";
    /// No XML.
    NotWellFormed = "not-well-formed";
    /// Against a local policy: too big, too many, too slow.
    PolicyViolation = "policy-violation";
    /// The remote server cannot be reached.
    RemoteConnectionFailed = "remote-connection-failed";
    /// A new negotiation is needed.
    Reset = "reset";
    /// Too much at the moment.
    ResourceConstraint = "resource-constraint";
    /// XML that XMPP forbids: comments, processing instructions, document types, entities.
    RestrictedXml = "restricted-xml";
    /// Another host serves this.
    SeeOtherHost = "see-other-host";
    /// The server ends.
    SystemShutdown = "system-shutdown";
    /// None of these.
    UndefinedCondition = "undefined-condition";
    /// Not UTF-8.
    UnsupportedEncoding = "unsupported-encoding";
    /// A feature that is not offered.
    UnsupportedFeature = "unsupported-feature";
    /// A first-level element that is not understood.
    UnsupportedStanzaType = "unsupported-stanza-type";
    /// A version that is not 1.0.
    UnsupportedVersion = "unsupported-version";
}

/// An error that ends a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// What is wrong.
    pub condition: StreamCondition,
    /// A sentence for whoever reads the log of the peer.
    pub text: Option<String>,
    /// A condition of the extension at hand.
    pub application: Option<Box<Element>>,
}

impl StreamError {
    /// With a sentence.
    pub fn new(condition: StreamCondition, text: impl Into<String>) -> Self {
        Self { condition, text: Some(text.into()), application: None }
    }

    /// With a condition of an extension.
    #[must_use]
    pub fn with_application(mut self, application: Element) -> Self {
        self.application = Some(Box::new(application));
        self
    }

    /// What is within `<stream:error/>`.
    pub fn children(&self) -> Vec<Element> {
        let mut children = vec![Element::new(self.condition.as_str(), ns::STREAM_ERRORS)];
        if let Some(text) = &self.text {
            children.push(Element::text_of("text", ns::STREAM_ERRORS, text.clone()).with_attr("xml:lang", "en"));
        }
        children.extend(self.application.as_deref().cloned());
        children
    }
}

/// An element of the stream itself with the prefix `stream`, which some readers look for. `declare` declares the prefix,
/// where the stream has no header that does. [RFC6120 §4.8.5] [RFC7395 §3.3.3]
pub fn stream_element(name: &str, children: &[Element], declare: bool) -> String {
    let mut out = format!("<stream:{name}");
    if declare {
        out.push_str(" xmlns:stream='");
        escape(ns::STREAM, &mut out);
        out.push('\'');
    }
    if children.is_empty() {
        out.push_str("/>");
        return out;
    }
    out.push('>');
    for child in children {
        // Never without its namespace: whether the default of the place is ours depends on the transport.
        child.write(&mut out, "");
    }
    out.push_str("</stream:");
    out.push_str(name);
    out.push('>');
    out
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.as_str())?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self {
        Self { condition, text: None, application: None }
    }
}

impl From<XmlError> for StreamError {
    fn from(error: XmlError) -> Self {
        let condition = match error {
            XmlError::NotWellFormed(_) => StreamCondition::NotWellFormed,
            XmlError::Restricted(_) => StreamCondition::RestrictedXml,
            XmlError::Prefix => StreamCondition::BadNamespacePrefix,
            XmlError::Text => StreamCondition::BadFormat,
            XmlError::Encoding => StreamCondition::UnsupportedEncoding,
            XmlError::TooLong(_) | XmlError::TooMany(..) => StreamCondition::PolicyViolation,
        };
        Self::new(condition, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_written_with_the_prefix_that_everybody_knows() {
        let error = StreamError::new(StreamCondition::HostUnknown, "not here");
        assert_eq!(
            stream_element("error", &error.children(), false),
            "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>not here</text></stream:error>"
        );
        assert_eq!(StreamCondition::parse("restricted-xml"), Some(StreamCondition::RestrictedXml));
    }
}
