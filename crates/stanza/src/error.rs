//! What a stanza that cannot be served is answered with. RFC 6120, section 8.3.

use std::fmt;

use crate::{Element, ns};

/// What the sender may do about an error. [RFC6120 §8.3.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Go on: the condition was only a warning.
    Continue,
    /// Retry after changing what was sent.
    Modify,
    /// Retry after waiting.
    Wait,
}

impl ErrorType {
    /// As in the attribute `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:ident;)*) => {
        /// Defined conditions. [RFC6120 §8.3.3]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Condition {
            $($(#[$doc])* $name,)*
        }

        impl Condition {
            /// Its element.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The condition with that element.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }

            /// The type that the specification goes with it.
            pub fn usual_type(self) -> ErrorType {
                match self { $(Self::$name => ErrorType::$kind,)* }
            }
        }
    };
}

conditions! {
    /// Not to be understood.
    BadRequest = "bad-request", Modify;
    /// Something of that name exists.
    Conflict = "conflict", Cancel;
    /// Not built.
    FeatureNotImplemented = "feature-not-implemented", Cancel;
    /// The sender lacks the permission.
    Forbidden = "forbidden", Auth;
    /// There no longer.
    Gone = "gone", Cancel;
    /// Our fault.
    InternalServerError = "internal-server-error", Cancel;
    /// No such address or item.
    ItemNotFound = "item-not-found", Cancel;
    /// An address that is none.
    JidMalformed = "jid-malformed", Modify;
    /// Does not meet the recipient's criteria.
    NotAcceptable = "not-acceptable", Modify;
    /// Nobody may.
    NotAllowed = "not-allowed", Cancel;
    /// Credentials first.
    NotAuthorized = "not-authorized", Auth;
    /// Against a local policy.
    PolicyViolation = "policy-violation", Modify;
    /// The recipient is away.
    RecipientUnavailable = "recipient-unavailable", Wait;
    /// Elsewhere.
    Redirect = "redirect", Modify;
    /// Registration first.
    RegistrationRequired = "registration-required", Auth;
    /// No such server.
    RemoteServerNotFound = "remote-server-not-found", Cancel;
    /// The server does not answer.
    RemoteServerTimeout = "remote-server-timeout", Wait;
    /// Too much at the moment.
    ResourceConstraint = "resource-constraint", Wait;
    /// The service is not offered.
    ServiceUnavailable = "service-unavailable", Cancel;
    /// Subscription first.
    SubscriptionRequired = "subscription-required", Auth;
    /// None of these.
    UndefinedCondition = "undefined-condition", Cancel;
    /// Out of order.
    UnexpectedRequest = "unexpected-request", Wait;
}

/// An error of a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// What the sender may do.
    pub kind: ErrorType,
    /// What is wrong.
    pub condition: Condition,
    /// A sentence that says what to do.
    pub text: Option<String>,
    /// A condition of the extension at hand.
    pub application: Option<Box<Element>>,
    /// Who says so, where that is not whom the stanza was for.
    pub by: Option<String>,
    /// What stands beside the error in the answer to a request: a form that is to be filled in first.
    pub payload: Option<Box<Element>>,
}

impl StanzaError {
    /// With the usual type, and a sentence.
    pub fn new(condition: Condition, text: impl Into<String>) -> Self {
        Self {
            kind: condition.usual_type(),
            condition,
            text: Some(text.into()),
            application: None,
            by: None,
            payload: None,
        }
    }

    /// With another type than the usual.
    #[must_use]
    pub fn with_type(mut self, kind: ErrorType) -> Self {
        self.kind = kind;
        self
    }

    /// With a condition of an extension.
    #[must_use]
    pub fn with_application(mut self, application: Element) -> Self {
        self.application = Some(Box::new(application));
        self
    }

    /// With something beside the error, in the answer to a request.
    #[must_use]
    pub fn with_payload(mut self, payload: Element) -> Self {
        self.payload = Some(Box::new(payload));
        self
    }

    /// Said by somebody else than whom the stanza was for.
    #[must_use]
    pub fn with_by(mut self, by: &impl ToString) -> Self {
        self.by = Some(by.to_string());
        self
    }

    /// `<error/>`.
    pub fn element(&self) -> Element {
        let text = self
            .text
            .as_deref()
            .map(|text| Element::text_of("text", ns::STANZA_ERRORS, text).with_attr("xml:lang", "en"));
        Element::new("error", ns::CLIENT)
            .with_attr_opt("by", self.by.as_deref())
            .with_attr("type", self.kind.as_str())
            .with_child(Element::new(self.condition.as_str(), ns::STANZA_ERRORS))
            .with_child_opt(text)
            .with_child_opt(self.application.as_deref().cloned())
    }

    /// The answer to `stanza`: its addresses the other way round, its id, this error. [RFC6120 §8.3.1]
    ///
    /// What a message said comes back with it, so that its sender sees which of theirs it was.
    ///
    /// `None` where an error would answer an error or a result, which it must not.
    pub fn answer(&self, stanza: &Element) -> Option<Element> {
        if matches!(stanza.kind(), Some("error")) || (stanza.name() == "iq" && stanza.kind() == Some("result")) {
            return None;
        }
        let answer = Element::new(stanza.name().to_owned(), ns::CLIENT)
            .with_attr_opt("from", stanza.attr("to"))
            .with_attr_opt("to", stanza.attr("from"))
            .with_attr_opt("id", stanza.id())
            .with_attr("type", "error");
        let said = stanza.children().filter(|child| stanza.name() == "message" && child.name() != "error").cloned();
        let payload = self.payload.as_deref().filter(|_| stanza.name() == "iq").cloned();
        Some(answer.with_children(said).with_child_opt(payload).with_child(self.element()))
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.as_str())?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StanzaError {}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> Self {
        Self { kind: condition.usual_type(), condition, text: None, application: None, by: None, payload: None }
    }
}
