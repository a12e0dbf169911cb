//! Mails that come back. Every mail goes out with a return address of its own, `bounces+TOKEN@DOMAIN`, whose token only we
//! can make: what comes back there is about that mail, or forged. [RFC 3461] [RFC 3464] [RFC 5321 §6.1]
//!
//! A token is the number of the mail and the beginning of an HMAC of it, in base32. It is believed for [`KEPT_MS`].

use data_encoding::BASE32_NOPAD;
use koine_store::{CommitError, Direction, StoreError};
use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};
use subtle::ConstantTimeEq as _;

use super::{
    Out, queue,
    status::Status,
    tables::{ITEM, SENT, SentRecord},
};

/// What the local part of a return address begins with.
pub const PREFIX: &str = "bounces+";
/// How long after it was sent a mail may come back.
pub(crate) const KEPT_MS: u64 = 14 * 24 * 60 * 60 * 1_000;
/// Bytes of the HMAC in a token: 80 bits that cannot be guessed.
const PROOF_BYTES: usize = 10;
/// Rows swept at once.
const SWEEP: usize = 500;
/// Recipients of one report that are looked at.
const RECIPIENTS_MAX: usize = 50;

/// What a mail to a return address came to. Whatever it is, the mail is taken: telling forgers more is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The mail is lost, and its author was told.
    Failed,
    /// The mail is late, and its author was told.
    Delayed,
    /// It arrived, or was passed on.
    Delivered,
    /// The address was not made by us, or is too old.
    Forged,
    /// It has a sender: bounces have none.
    HasSender,
    /// It is no report of delivery: an automatic answer, perhaps.
    NoReport,
}

/// What a report says of a recipient. [RFC 3464 §2.3]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Report {
    action: String,
    status: String,
    diagnostic: String,
}

impl Report {
    /// The code and the words: `550 5.1.1`, `no such user`.
    fn said(&self) -> (String, String) {
        let diagnostic = self.diagnostic.split_once(';').map_or(self.diagnostic.as_str(), |(_, words)| words).trim();
        let (code, words) = match diagnostic.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(code) => (code, diagnostic[3..].trim_start_matches(['-', ' '])),
            None => ("", diagnostic),
        };
        let words = words.strip_prefix(self.status.as_str()).unwrap_or(words).trim();
        ([code, self.status.as_str()].join(" ").trim().to_owned(), words.to_owned())
    }

    /// Whether the recipient does not exist, rather than this mail being unwelcome. [RFC 3463 §3.2]
    fn is_nobody(&self) -> bool {
        matches!(self.status.as_str(), "5.1.1" | "5.1.2" | "5.1.3" | "5.1.6" | "5.1.10" | "5.2.1")
    }
}

impl Out {
    /// The return address of a mail.
    pub(crate) fn return_address(&self, id: u64) -> String {
        format!("{PREFIX}{}@{}", self.token(id), self.host())
    }

    fn token(&self, id: u64) -> String {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.mac("bounce", &[&id.to_string()])[..PROOF_BYTES]);
        BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
    }

    /// The number of the mail that a return address was made for. `local` is the part before the `@`.
    fn returned(&self, local: &str) -> Option<u64> {
        let token = local.strip_prefix(PREFIX)?;
        let bytes = BASE32_NOPAD.decode(token.to_ascii_uppercase().as_bytes()).ok()?;
        let id = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let is_ours: bool = self.token(id).as_bytes().ct_eq(token.to_ascii_lowercase().as_bytes()).into();
        is_ours.then_some(id)
    }

    /// Whether a local part is that of a return address of ours; others are refused as nobody's.
    pub fn is_return_address(&self, local: &str) -> bool {
        self.returned(local).is_some()
    }

    /// Takes a mail that came to a return address. `sender` is the envelope's; empty for a bounce.
    ///
    /// # Errors
    /// The store's, and then the mail is to be refused for now.
    pub async fn bounced(&self, local: &str, sender: &str, mail: &[u8]) -> Result<Outcome, CommitError> {
        if !sender.is_empty() {
            return Ok(Outcome::HasSender);
        }
        let Some(id) = self.returned(local) else { return Ok(Outcome::Forged) };
        let Some(sent) = self.was_sent(id)? else { return Ok(Outcome::Forged) };
        let reports = reports(mail);
        // There is one recipient: what the report calls it after forwarding does not matter.
        let worst = |action: &str| reports.iter().find(|report| report.action == action);
        if let Some(report) = worst("failed") {
            let (code, words) = report.said();
            self.failed(id, &sent, &code, &words, report.is_nobody()).await?;
            return Ok(Outcome::Failed);
        }
        if let Some(report) = worst("delayed") {
            let (code, words) = report.said();
            let status = Status { state: "delayed", recipient: &sent.recipient, code: Some(&code), text: &words };
            self.tell(sent.room, &sent.events, &status).await;
            return Ok(Outcome::Delayed);
        }
        Ok(if reports.is_empty() { Outcome::NoReport } else { Outcome::Delivered })
    }

    /// What a mail was, whether it was handed over or still waits.
    fn was_sent(&self, id: u64) -> Result<Option<SentRecord>, StoreError> {
        let view = self.shard().view();
        if let Some(sent) = view.get(&SENT, self.domain(), &id)? {
            return Ok(Some(sent).filter(|sent| self.now_ms().saturating_sub(sent.sent_ms) <= KEPT_MS));
        }
        let item = view.get(&ITEM, self.domain(), &id)?;
        Ok(item.map(|item| SentRecord {
            recipient: item.recipient,
            room: item.room,
            author: item.author,
            events: item.events,
            sent_ms: item.created_ms,
        }))
    }

    /// A mail is lost: says so where it was written, and no more is sent to an address that is nobody's.
    pub(crate) async fn failed(
        &self,
        id: u64,
        sent: &SentRecord,
        code: &str,
        words: &str,
        is_nobody: bool,
    ) -> Result<(), CommitError> {
        let status = Status { state: "failed", recipient: &sent.recipient, code: Some(code), text: words };
        self.tell(sent.room, &sent.events, &status).await;
        if is_nobody {
            self.suppress(sent.recipient.clone(), format!("{code} {words}").trim().to_owned()).await?;
        }
        let domain = self.domain();
        let commit = self.shard().submit(move |txn| {
            queue::take(txn, domain, id)?;
            txn.delete(&SENT, domain, &id);
            Ok::<(), StoreError>(())
        });
        commit.await.map(drop)
    }

    /// Forgets mails that cannot come back any more.
    pub(crate) async fn sweep_sent(&self) -> Result<(), CommitError> {
        let view = self.shard().view();
        let mut old = Vec::new();
        for row in view.scan(&SENT, self.domain(), .., Direction::Forward).take(SWEEP) {
            let (id, sent) = row?;
            if self.now_ms().saturating_sub(sent.sent_ms) > KEPT_MS {
                old.push(id);
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        let domain = self.domain();
        self.shard().submit(move |txn| old.iter().for_each(|id| txn.delete(&SENT, domain, id))).await.map(drop)
    }
}

/// What the parts of a report say, one for each recipient. Nothing for what is no report. [RFC 3464 §2]
fn reports(mail: &[u8]) -> Vec<Report> {
    let Some(message) = MessageParser::new().parse(mail) else { return Vec::new() };
    let is_report = message.content_type().is_some_and(|kind| {
        kind.ctype().eq_ignore_ascii_case("multipart")
            && kind.subtype().is_some_and(|sub| sub.eq_ignore_ascii_case("report"))
    });
    if !is_report {
        return Vec::new();
    }
    let Some(text) = status_part(&message) else { return Vec::new() };
    // The first group is about the report, the others are about a recipient each. [RFC 3464 §2.1.2]
    groups(&text)
        .skip(1)
        .take(RECIPIENTS_MAX)
        .map(|fields| {
            let field = |name: &str| {
                let found = fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            };
            Report {
                action: field("Action").to_ascii_lowercase(),
                status: field("Status").split_ascii_whitespace().next().unwrap_or_default().to_owned(),
                diagnostic: field("Diagnostic-Code"),
            }
        })
        .collect()
}

fn status_part(message: &Message<'_>) -> Option<String> {
    let part = message.parts.iter().find(|part| {
        part.content_type().is_some_and(|kind| {
            kind.ctype().eq_ignore_ascii_case("message")
                && kind.subtype().is_some_and(|sub| {
                    sub.eq_ignore_ascii_case("delivery-status") || sub.eq_ignore_ascii_case("global-delivery-status")
                })
        })
    })?;
    match &part.body {
        PartType::Text(text) | PartType::Html(text) => Some(text.clone().into_owned()),
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        PartType::Message(inner) => Some(String::from_utf8_lossy(inner.raw_message()).into_owned()),
        PartType::Multipart(_) => None,
    }
}

/// Groups of fields, between empty lines; lines that go on are put together.
fn groups(text: &str) -> impl Iterator<Item = Vec<(String, String)>> {
    let mut all: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for line in text.lines() {
        if line.trim().is_empty() {
            if all.last().is_some_and(|group| !group.is_empty()) {
                all.push(Vec::new());
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = all.last_mut().and_then(|group| group.last_mut()) {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':')
            && let Some(group) = all.last_mut()
        {
            group.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    all.into_iter().filter(|group| !group.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNCE: &str = "From: MAILER-DAEMON@mx.example.net\r\nTo: bounces+x@example.org\r\nSubject: Undelivered\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
        --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n\
        Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 <bob@example.net>: no such\r\n    user here\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ny\r\n--b--\r\n";

    #[test]
    fn a_report_says_what_became_of_a_mail() {
        let reports = reports(BOUNCE.as_bytes());
        let [report] = reports.as_slice() else { panic!("one recipient: {reports:?}") };
        assert_eq!(report.action, "failed");
        assert_eq!(report.said(), ("550 5.1.1".into(), "<bob@example.net>: no such user here".into()));
        assert!(report.is_nobody());
    }

    #[test]
    fn what_is_no_report_says_nothing() {
        assert!(reports(b"Subject: I am away\r\n\r\nAction: failed\r\n").is_empty());
        assert!(reports(b"").is_empty());
        let cut = &BOUNCE.as_bytes()[..BOUNCE.len() / 2];
        let _ = reports(cut);
    }

    #[test]
    fn a_report_without_words_has_its_status() {
        let report = Report { action: "failed".into(), status: "5.0.0".into(), diagnostic: String::new() };
        assert_eq!(report.said(), ("5.0.0".into(), String::new()));
        assert!(!report.is_nobody());
        let report = Report { action: "failed".into(), status: "5.7.1".into(), diagnostic: "X; spam".into() };
        assert_eq!(report.said(), ("5.7.1".into(), "spam".into()));
    }
}
