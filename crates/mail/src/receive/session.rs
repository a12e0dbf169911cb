//! One session of SMTP or LMTP as a machine without sockets: bytes go in, answers come out, and what only the rest of the
//! server knows is asked for. [RFC 5321] [RFC 2033] [RFC 1870] [RFC 2920] [RFC 3030] [RFC 3207] [RFC 6152] [RFC 6531]
//!
//! Lines end with CR LF and nothing else. Where two servers disagree about the end of a line, one mail becomes two, the
//! second one forged ("smuggling"); so a lone CR or LF anywhere in a mail has it refused, and one in a command ends the
//! session. What is received before TLS begins is thrown away with everything that was said until then.

use std::{borrow::Cow, sync::Arc};

use koine_projection::mail::Address;
use smtp_proto::{Error as ParseError, Request};

mod text;

use self::text::{Dot, Text, Wrong};

use super::{limit::Gate, reply::Reply};

/// Longest line of a command, with its end. [RFC 5321 §4.5.3.1.4] has 512, to which extensions add.
const COMMAND_BYTES_MAX: usize = 2_048;
/// Commands that were wrong, or named somebody who is not here, until the session is ended.
const ERRORS_MAX: u32 = 20;
/// Commands of a session that bring no mail.
const IDLE_COMMANDS_MAX: u32 = 1_000;
/// Mails of one session.
pub(super) const MAILS_MAX: u32 = 1_000;

/// Which of the two is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Other servers, from anywhere.
    Smtp,
    /// A mail server in front of us, that gets an answer for each recipient. [RFC 2033]
    Lmtp,
}

/// What a session is allowed.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) dialect: Dialect,
    pub(super) hostname: String,
    pub(super) message_bytes_max: usize,
    pub(super) recipients_max: usize,
    /// TLS can begin.
    pub(super) tls_offered: bool,
    pub(super) gate: Arc<Gate>,
}

/// Who sends what to whom, `R` being what is known of a recipient.
#[derive(Debug)]
pub(super) struct Envelope<R> {
    /// What the sender calls itself.
    pub(super) helo: String,
    /// Whether it came over TLS.
    pub(super) tls: bool,
    /// Where failures are told; `None` for mails that are such news themselves.
    pub(super) from: Option<Address>,
    pub(super) recipients: Vec<R>,
}

/// What the machine wants next.
#[derive(Debug)]
pub(super) enum Step<R> {
    /// More bytes, after what is in `out` was sent.
    Read,
    /// TLS, after what is in `out` was sent.
    StartTls,
    /// The end, after what is in `out` was sent.
    Close,
    /// Whether a mail may begin: [`Session::sender`].
    Sender(Option<Address>),
    /// Whether there is such a recipient: [`Session::recipient`].
    Recipient(String),
    /// What becomes of a mail: [`Session::done`], with an answer for each recipient.
    Message(Envelope<R>, Vec<u8>),
}

/// A mail that is being put together.
struct Mail<R> {
    from: Option<Address>,
    recipients: Vec<R>,
}

enum Mode {
    Command,
    /// A command without end: nothing of it matters.
    SkipLine(usize),
    /// Until the dot. How much of `\r\n.\r\n` has been seen.
    Data(Dot),
    /// So many bytes of a piece, and whether it is the last.
    Chunk(usize, bool),
    /// The rest of the server decides.
    Asking,
    Closed,
}

pub(super) struct Session<R> {
    rules: Rules,
    pub(super) out: Vec<u8>,
    input: Vec<u8>,
    /// How much of it was understood.
    at: usize,
    mode: Mode,
    helo: Option<String>,
    tls: bool,
    mail: Option<Mail<R>>,
    text: Text,
    errors: u32,
    idle: u32,
    mails: u32,
}

impl<R> Session<R> {
    pub(super) fn new(rules: Rules) -> Self {
        let mut session = Self {
            rules,
            out: Vec::new(),
            input: Vec::new(),
            at: 0,
            mode: Mode::Command,
            helo: None,
            tls: false,
            mail: None,
            text: Text::new(),
            errors: 0,
            idle: 0,
            mails: 0,
        };
        let service = match session.rules.dialect {
            Dialect::Smtp => "ESMTP",
            Dialect::Lmtp => "LMTP",
        };
        let hello = format!("{} {service} Koine", session.rules.hostname);
        session.say(220, "", hello);
        session
    }

    /// A session that is over before it begins.
    pub(super) fn turned_away(rules: Rules, reply: &Reply) -> Self {
        let mut session = Self::new(rules);
        session.out.clear();
        reply.write(&mut session.out);
        session.mode = Mode::Closed;
        session
    }

    /// Bytes that came. Call it only after [`Step::Read`], with what one read gave.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    /// TLS has begun: nothing that was said before counts. [RFC 3207 §4.2]
    pub(super) fn encrypted(&mut self) {
        self.input.clear();
        self.at = 0;
        self.helo = None;
        self.forget_mail();
        self.tls = true;
        self.mode = Mode::Command;
    }

    /// TLS was there from the first byte. Who was turned away still is.
    pub(super) fn begun_encrypted(&mut self) {
        self.tls = true;
    }

    /// Whether the sender has said anything of a mail that is not done.
    pub(super) fn is_in_text(&self) -> bool {
        matches!(self.mode, Mode::Data(_) | Mode::Chunk(..))
    }

    /// Whether the mail that has begun is news of another: it names no sender.
    pub(super) fn sender_is_null(&self) -> bool {
        self.mail.as_ref().is_some_and(|mail| mail.from.is_none())
    }

    /// Goes on as far as it can.
    pub(super) fn step(&mut self) -> Step<R> {
        loop {
            if self.errors >= ERRORS_MAX && !matches!(self.mode, Mode::Closed) {
                return self.close(421, "4.7.0", "too many errors");
            }
            let step = match self.mode {
                Mode::Closed => Some(Step::Close),
                Mode::Asking => Some(Step::Read),
                Mode::Command => self.command(),
                Mode::SkipLine(skipped) => self.skip_line(skipped),
                Mode::Data(dot) => self.data(dot),
                Mode::Chunk(left, is_last) => self.chunk(left, is_last),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// The answer to [`Step::Sender`].
    pub(super) fn sender(&mut self, from: Option<Address>, refused: Option<Reply>) {
        self.mode = Mode::Command;
        match refused {
            None => {
                self.mail = Some(Mail { from, recipients: Vec::new() });
                self.say(250, "2.1.0", "go on");
            }
            Some(reply) => self.refuse(&reply),
        }
    }

    /// The answer to [`Step::Recipient`].
    pub(super) fn recipient(&mut self, answer: Result<R, Reply>) {
        self.mode = Mode::Command;
        match (answer, &mut self.mail) {
            (Ok(recipient), Some(mail)) => {
                mail.recipients.push(recipient);
                self.say(250, "2.1.5", "go on");
            }
            (Err(reply), _) => self.refuse(&reply),
            (Ok(_), None) => self.wrong(503, "5.5.1", "no mail has begun"),
        }
    }

    /// The answer to [`Step::Message`]: one for each recipient, in their order.
    pub(super) fn done(&mut self, replies: &[Reply]) {
        self.mode = Mode::Command;
        self.forget_mail();
        match self.rules.dialect {
            Dialect::Lmtp => replies.iter().for_each(|reply| reply.write(&mut self.out)),
            Dialect::Smtp => {
                let fallback = Reply::new(451, "4.3.0", "try again later");
                overall(replies).unwrap_or(&fallback).write(&mut self.out);
            }
        }
    }

    /// Says that it is over, for a reason that lies with us or in time.
    pub(super) fn end(&mut self, text: &'static str) {
        self.say(421, "4.3.2", text);
        self.mode = Mode::Closed;
    }

    fn command(&mut self) -> Option<Step<R>> {
        let waiting = self.input.get(self.at..).unwrap_or_default();
        let Some(end) = waiting.iter().position(|byte| *byte == b'\n') else {
            let length = waiting.len();
            if length > COMMAND_BYTES_MAX {
                self.wrong(500, "5.5.2", "the line is too long");
                self.mode = Mode::SkipLine(length);
                self.at = self.input.len();
                return None;
            }
            return Some(Step::Read);
        };
        let line = waiting.get(..=end).unwrap_or_default().to_vec();
        self.at += line.len();
        if line.len() > COMMAND_BYTES_MAX {
            self.wrong(500, "5.5.2", "the line is too long");
            return None;
        }
        let is_clean = line.strip_suffix(b"\r\n").is_some_and(|text| !text.contains(&b'\r') && !text.contains(&0));
        if !is_clean {
            return Some(self.close(500, "5.5.2", "lines end with CR LF and nothing else"));
        }
        let parsed = Request::parse(&mut line.iter()).map(Request::into_owned);
        match parsed {
            Ok(Request::StartTls | Request::Data | Request::Rset | Request::Quit) if !is_one_word(&line) => {
                self.wrong(501, "5.5.4", "this command is said without anything behind it");
                None
            }
            Ok(request) => self.obey(request),
            Err(error) => {
                self.misunderstood(&error);
                None
            }
        }
    }

    fn skip_line(&mut self, skipped: usize) -> Option<Step<R>> {
        let waiting = self.input.get(self.at..).unwrap_or_default();
        match waiting.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.at += end + 1;
                self.mode = Mode::Command;
                None
            }
            None => {
                let skipped = skipped + waiting.len();
                self.at = self.input.len();
                if skipped > 32 * COMMAND_BYTES_MAX {
                    return Some(self.close(421, "4.7.0", "the line has no end"));
                }
                self.mode = Mode::SkipLine(skipped);
                Some(Step::Read)
            }
        }
    }

    fn misunderstood(&mut self, error: &ParseError) {
        match error {
            ParseError::UnknownCommand | ParseError::NeedsMoreData { .. } => {
                self.wrong(500, "5.5.1", "this command is not known here");
            }
            ParseError::InvalidSenderAddress => self.wrong(501, "5.1.7", "this is no address"),
            ParseError::InvalidRecipientAddress => self.wrong(501, "5.1.3", "this is no address"),
            ParseError::UnsupportedParameter { .. } => self.wrong(555, "5.5.4", "a parameter is not known here"),
            ParseError::InvalidParameter { .. } => self.wrong(501, "5.5.4", "a parameter cannot have this value"),
            _ => self.wrong(501, "5.5.2", "this cannot be understood"),
        }
    }

    fn obey(&mut self, request: Request<String>) -> Option<Step<R>> {
        self.idle += 1;
        if self.idle > IDLE_COMMANDS_MAX {
            return Some(self.close(421, "4.7.0", "too many commands"));
        }
        let is_lmtp = self.rules.dialect == Dialect::Lmtp;
        match request {
            Request::Lhlo { host } if is_lmtp => self.greet(&host, true),
            Request::Ehlo { host } if !is_lmtp => self.greet(&host, true),
            Request::Helo { host } if !is_lmtp => self.greet(&host, false),
            Request::Ehlo { .. } | Request::Helo { .. } => self.wrong(500, "5.5.1", "LMTP is spoken here: say LHLO"),
            Request::Lhlo { .. } => self.wrong(500, "5.5.1", "SMTP is spoken here: say EHLO"),
            Request::StartTls => return self.start_tls(),
            Request::Mail { from } => return self.begin_mail(&from),
            Request::Rcpt { to } => return self.name_recipient(to.address),
            Request::Data => self.begin_data(),
            Request::Bdat { chunk_size, is_last } => return self.begin_chunk(chunk_size, is_last),
            Request::Rset => {
                self.forget_mail();
                self.say(250, "2.0.0", "forgotten");
            }
            Request::Noop { .. } => self.say(250, "2.0.0", "nothing done"),
            Request::Quit => return Some(self.close(221, "2.0.0", "goodbye")),
            Request::Help { .. } => self.say(214, "2.0.0", "see RFC 5321"),
            // Who is here is told to nobody. [RFC 5321 §7.3]
            Request::Vrfy { .. } => self.say(252, "2.5.2", "send a mail and see"),
            _ => self.wrong(502, "5.5.1", "this command is not served here"),
        }
        None
    }

    fn greet(&mut self, host: &str, extended: bool) {
        self.forget_mail();
        self.helo = Some(host.trim().to_owned());
        let hostname = self.rules.hostname.clone();
        if !extended {
            self.say(250, "", hostname);
            return;
        }
        let (recipients, mails) = (self.rules.recipients_max, MAILS_MAX);
        let mut lines = vec![
            hostname,
            "PIPELINING".into(),
            format!("SIZE {}", self.rules.message_bytes_max),
            "8BITMIME".into(),
            "SMTPUTF8".into(),
            "CHUNKING".into(),
            "ENHANCEDSTATUSCODES".into(),
            // [RFC 9422]
            format!("LIMITS RCPTMAX={recipients} MAILMAX={mails}"),
        ];
        if self.rules.tls_offered && !self.tls {
            lines.push("STARTTLS".into());
        }
        let last = lines.len() - 1;
        for (at, line) in lines.iter().enumerate() {
            let dash = if at == last { ' ' } else { '-' };
            self.out.extend_from_slice(format!("250{dash}{line}\r\n").as_bytes());
        }
    }

    fn start_tls(&mut self) -> Option<Step<R>> {
        if self.tls || !self.rules.tls_offered {
            self.wrong(502, "5.5.1", "TLS is spoken already, or not at all");
            return None;
        }
        self.say(220, "2.0.0", "begin");
        Some(Step::StartTls)
    }

    fn begin_mail(&mut self, from: &smtp_proto::MailFrom<String>) -> Option<Step<R>> {
        if self.helo.is_none() {
            self.wrong(503, "5.5.1", "say who you are first");
            return None;
        }
        if self.mail.is_some() {
            self.wrong(503, "5.5.1", "a mail has begun already");
            return None;
        }
        self.mails += 1;
        if self.mails > MAILS_MAX {
            return Some(self.close(421, "4.7.0", "too many mails in one session"));
        }
        if from.flags & smtp_proto::MAIL_BODY_BINARYMIME != 0 {
            self.wrong(555, "5.6.1", "BINARYMIME is not served here");
            return None;
        }
        if from.size != usize::MAX && from.size > self.rules.message_bytes_max {
            self.wrong(552, "5.3.4", format!("at most {} bytes are taken", self.rules.message_bytes_max));
            return None;
        }
        let address = match from.address.as_str() {
            "" => None,
            text => match path(text) {
                Some(address) => Some(address),
                None => {
                    self.wrong(501, "5.1.7", "this is no address");
                    return None;
                }
            },
        };
        self.mode = Mode::Asking;
        Some(Step::Sender(address))
    }

    fn name_recipient(&mut self, address: String) -> Option<Step<R>> {
        let Some(mail) = &self.mail else {
            self.wrong(503, "5.5.1", "say who it is from first");
            return None;
        };
        if mail.recipients.len() >= self.rules.recipients_max {
            let text = format!("at most {} recipients; send the rest afterwards", self.rules.recipients_max);
            self.wrong(452, "4.5.3", text);
            return None;
        }
        self.mode = Mode::Asking;
        Some(Step::Recipient(address))
    }

    fn begin_data(&mut self) {
        if self.text.came > 0 {
            self.wrong(503, "5.5.1", "this mail comes in pieces");
        } else if self.has_recipients() {
            self.say(354, "", "go on, and end with a dot");
            self.mode = Mode::Data(Dot::Start);
        }
    }

    fn begin_chunk(&mut self, size: usize, is_last: bool) -> Option<Step<R>> {
        if size > self.rules.message_bytes_max.saturating_mul(text::EXCESS_MAX) {
            return Some(self.close(552, "5.3.4", "far too large"));
        }
        if !self.has_recipients() {
            if size > self.rules.message_bytes_max {
                return Some(Step::Close);
            }
            // What follows is no command: it is read and thrown away. [RFC 3030 §2]
            self.text.wrong = self.text.wrong.or(Some(Wrong::TooLarge));
        }
        self.mode = Mode::Chunk(size, is_last);
        None
    }

    /// Whether a mail has somebody to go to; says so if not.
    fn has_recipients(&mut self) -> bool {
        match &self.mail {
            None => self.wrong(503, "5.5.1", "say who it is from first"),
            Some(mail) if mail.recipients.is_empty() => self.wrong(554, "5.5.1", "there is no recipient who takes it"),
            Some(_) => return true,
        }
        false
    }

    fn forget_mail(&mut self) {
        self.mail = None;
        self.forget_text();
    }

    fn say(&mut self, code: u16, enhanced: &'static str, text: impl Into<Cow<'static, str>>) {
        Reply::new(code, enhanced, text).write(&mut self.out);
    }

    /// An answer to something that should not have been said.
    fn wrong(&mut self, code: u16, enhanced: &'static str, text: impl Into<Cow<'static, str>>) {
        self.errors += 1;
        self.say(code, enhanced, text);
    }

    fn refuse(&mut self, reply: &Reply) {
        self.errors += 1;
        reply.write(&mut self.out);
    }

    fn close(&mut self, code: u16, enhanced: &'static str, text: &'static str) -> Step<R> {
        self.say(code, enhanced, text);
        self.forget_mail();
        self.mode = Mode::Closed;
        Step::Close
    }
}

impl<R> Drop for Session<R> {
    fn drop(&mut self) {
        self.rules.gate.release(self.text.held);
    }
}

/// Whether a line is a command and nothing more. [RFC 5321 §4.1.1] [RFC 3207 §4]
fn is_one_word(line: &[u8]) -> bool {
    !line.trim_ascii().iter().any(u8::is_ascii_whitespace)
}

/// The address of a path; the route that old senders put before it says nothing. [RFC 5321 §4.1.2]
pub(super) fn path(text: &str) -> Option<Address> {
    let text = match text.strip_prefix('@') {
        Some(route) => route.split_once(':')?.1,
        None => text,
    };
    // Quotes may have gone with the reading of the command.
    Address::parse(text).or_else(|| text.rsplit_once('@').and_then(|(local, domain)| Address::new(local, domain)))
}

/// One answer for all recipients: if any took it, it is taken; else what may still become a yes comes first.
fn overall(replies: &[Reply]) -> Option<&Reply> {
    replies
        .iter()
        .find(|reply| reply.is_temporary())
        .or_else(|| replies.iter().find(|reply| reply.is_positive()))
        .or_else(|| replies.first())
}
