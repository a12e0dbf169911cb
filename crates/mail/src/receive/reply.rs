//! Answers of SMTP, and the table from what went wrong to their codes. [RFC 5321 §4.2] [RFC 3463]

use std::borrow::Cow;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// The enhanced code, `2.1.5`; empty where there is none by rule (greetings).
    pub(crate) enhanced: &'static str,
    pub(crate) text: Cow<'static, str>,
}

impl Reply {
    pub(crate) fn new(code: u16, enhanced: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced, text: text.into() }
    }

    /// Whether it says yes.
    pub(crate) fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Whether trying again may help.
    pub(crate) fn is_temporary(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// As it goes over the wire.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let space = if self.enhanced.is_empty() { "" } else { " " };
        // What strangers said may stand in a text: a line stays one.
        let text: String = self.text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        out.extend_from_slice(format!("{} {}{space}{text}\r\n", self.code, self.enhanced).as_bytes());
    }
}

/// Why a mail, or a recipient of it, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody has this address.
    #[error("nobody here has this address")]
    NoSuchRecipient,
    /// The domain is none of ours.
    #[error("this server relays no mail for other domains")]
    NoRelay,
    /// The room takes no mail, or not from this sender.
    #[error("this room takes no mail from you")]
    RoomClosed,
    /// The recipient wants to hear nothing of the sender.
    #[error("the recipient takes no mail from you")]
    Unwanted,
    /// A bounce of a mail that we did not send.
    #[error("this is no answer to a mail from here")]
    ForgedBounce,
    /// The address of an author of ours, from outside.
    #[error("this domain sends its mail itself: {0} is not written by others")]
    SpoofedAuthor(String),
    /// No author, or several.
    #[error("a mail names one author in one From field")]
    NoSingleAuthor,
    /// The author's domain says that this is not from it.
    #[error("{0} asks that mail which it did not send be refused (DMARC)")]
    PolicyOfDomain(String),
    /// Nothing stands by the author, and what this mail does is done for certain authors alone.
    #[error("it is not certain that this is from {0}: the domain does not stand by it")]
    Uncertain(String),
    /// What the domain says could not be found out.
    #[error("who sent this could not be found out now; try again later")]
    SenderUnknown,
    /// The host is on a list of those who are refused.
    #[error("your host is on the list {0}")]
    OnBlockList(String),
    /// Too many mails.
    #[error("too many mails; try again later")]
    TooMany,
    /// Too many strangers.
    #[error("too many strangers write to this recipient; try again later")]
    TooManyStrangers,
    /// It goes round and round.
    #[error("this mail has been through {0} servers, at most {max} are allowed", max = super::accept::RECEIVED_MAX)]
    Loop(usize),
    /// Its headers are too many or too long.
    #[error("the headers have {0} bytes in {1} fields, more than are read here")]
    Headers(usize, usize),
    /// It cannot be a mail.
    #[error("this is no mail: {0}")]
    NoMail(&'static str),
    /// The recipient has no space left.
    #[error("the recipient has no space left for files")]
    RecipientFull,
    /// Our disk or our store.
    #[error("this server cannot keep mail now; try again later")]
    Unavailable,
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let (code, enhanced) = match &refusal {
            Refusal::NoSuchRecipient => (550, "5.1.1"),
            Refusal::NoRelay => (550, "5.7.1"),
            Refusal::RoomClosed | Refusal::Unwanted => (550, "5.7.1"),
            Refusal::ForgedBounce => (550, "5.7.1"),
            Refusal::SpoofedAuthor(_) => (550, "5.7.1"),
            Refusal::NoSingleAuthor => (550, "5.6.0"),
            // [RFC 7372 §3.4]
            Refusal::PolicyOfDomain(_) | Refusal::Uncertain(_) => (550, "5.7.26"),
            Refusal::SenderUnknown => (451, "4.7.24"),
            Refusal::OnBlockList(_) => (554, "5.7.1"),
            Refusal::TooMany | Refusal::TooManyStrangers => (451, "4.7.1"),
            Refusal::Loop(_) => (554, "5.4.6"),
            Refusal::Headers(..) => (552, "5.3.4"),
            Refusal::NoMail(_) => (550, "5.6.0"),
            Refusal::RecipientFull => (452, "4.2.2"),
            Refusal::Unavailable => (452, "4.3.1"),
        };
        Self::new(code, enhanced, refusal.to_string())
    }
}
