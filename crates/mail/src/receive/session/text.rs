//! The text of a mail in a session: where it ends, what of it is kept, and why it may be refused at its end.
//! [RFC 5321 §4.5.2] [RFC 3030]

use super::{Dialect, Envelope, Mode, Session, Step};
use crate::receive::reply::Reply;

/// Longest line of a mail. The rule is 1,000 with its end; programs exceed it, and nothing here depends on it.
const LINE_BYTES_MAX: usize = 65_536;
/// Once a mail has this many times the bytes that are allowed, waiting for its end is over.
pub(super) const EXCESS_MAX: usize = 2;

/// Where its text stands.
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    /// Bytes that the gate holds for it.
    pub(super) held: usize,
    /// Why it will be refused at its end, if it will.
    pub(super) wrong: Option<Wrong>,
    /// All bytes that came, those that were not kept too.
    pub(super) came: usize,
    pub(super) line_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A CR or LF that stands alone.
    LoneLineEnd,
    /// A line without end.
    LongLine,
    /// More than is taken.
    TooLarge,
    /// More than there is memory for.
    NoMemory,
}

/// How much of the end of a mail was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// Within a line.
    Within,
    /// After a CR within a line.
    Cr,
    /// At the beginning of a line.
    Start,
    /// After a dot at the beginning of a line.
    Alone,
    /// After that, a CR.
    AloneCr,
}

impl<R> Session<R> {
    /// Takes text until the dot, `\r\n.\r\n`. A dot at the beginning of a line is doubled, and one of them goes.
    pub(super) fn data(&mut self, mut dot: Dot) -> Option<Step<R>> {
        let waiting = self.input.get(self.at..).unwrap_or_default();
        if waiting.is_empty() {
            return Some(Step::Read);
        }
        let mut kept = Vec::with_capacity(waiting.len());
        let mut wrong = None;
        let mut used = 0;
        let mut is_over = false;
        for byte in waiting.iter().copied() {
            used += 1;
            (dot, is_over) = match (dot, byte) {
                (Dot::AloneCr, b'\n') => (Dot::Start, true),
                (Dot::AloneCr, _) => {
                    // A CR after a dot, and no line end: the line said something else.
                    kept.push(b'\r');
                    wrong = Some(Wrong::LoneLineEnd);
                    kept.push(byte);
                    (if byte == b'\r' { Dot::Cr } else { Dot::Within }, false)
                }
                (Dot::Start, b'.') => (Dot::Alone, false),
                (Dot::Alone, b'\r') => (Dot::AloneCr, false),
                (Dot::Cr, b'\n') => {
                    kept.push(byte);
                    (Dot::Start, false)
                }
                (Dot::Cr, _) => {
                    wrong = Some(Wrong::LoneLineEnd);
                    kept.push(byte);
                    (if byte == b'\r' { Dot::Cr } else { Dot::Within }, false)
                }
                (_, b'\r') => {
                    kept.push(byte);
                    (Dot::Cr, false)
                }
                (_, byte) => {
                    if byte == b'\n' {
                        wrong = Some(Wrong::LoneLineEnd);
                    }
                    kept.push(byte);
                    (Dot::Within, false)
                }
            };
            if is_over {
                break;
            }
        }
        self.at += used;
        self.text.wrong = self.text.wrong.or(wrong);
        self.keep(&kept);
        if is_over {
            return Some(self.finish());
        }
        self.mode = Mode::Data(dot);
        self.check_excess()
    }

    pub(super) fn chunk(&mut self, left: usize, is_last: bool) -> Option<Step<R>> {
        let waiting = self.input.get(self.at..).unwrap_or_default();
        let piece = waiting.get(..left.min(waiting.len())).unwrap_or_default().to_vec();
        self.at += piece.len();
        self.keep(&piece);
        let left = left - piece.len();
        if left > 0 {
            self.mode = Mode::Chunk(left, is_last);
            return self.check_excess().or(Some(Step::Read));
        }
        self.mode = Mode::Command;
        if self.mail.as_ref().is_none_or(|mail| mail.recipients.is_empty()) {
            self.forget_text();
            return None;
        }
        if !is_last {
            match self.text.wrong {
                Some(wrong) => self.refuse_text(wrong),
                None => self.say(250, "2.0.0", "go on"),
            }
            return None;
        }
        if has_lone_line_end(&self.text.bytes) {
            self.text.wrong = self.text.wrong.or(Some(Wrong::LoneLineEnd));
        }
        Some(self.finish())
    }

    /// Whoever sends without end is not listened to until it comes.
    pub(super) fn check_excess(&mut self) -> Option<Step<R>> {
        let max = self.rules.message_bytes_max.saturating_mul(EXCESS_MAX);
        (self.text.came > max).then(|| self.close(552, "5.3.4", "far too large"))
    }

    /// Keeps some of a mail, while it is one that will be taken.
    pub(super) fn keep(&mut self, piece: &[u8]) {
        self.text.came = self.text.came.saturating_add(piece.len());
        for byte in piece {
            self.text.line_bytes = if *byte == b'\n' { 0 } else { self.text.line_bytes + 1 };
            if self.text.line_bytes > LINE_BYTES_MAX {
                self.text.wrong = self.text.wrong.or(Some(Wrong::LongLine));
            }
        }
        if self.text.wrong.is_none() {
            if self.text.came > self.rules.message_bytes_max {
                self.text.wrong = Some(Wrong::TooLarge);
            } else if !self.rules.gate.hold(piece.len()) {
                self.text.wrong = Some(Wrong::NoMemory);
            } else {
                self.text.held += piece.len();
                self.text.bytes.extend_from_slice(piece);
            }
        }
        if self.text.wrong.is_some() {
            self.release();
        }
    }

    pub(super) fn finish(&mut self) -> Step<R> {
        self.idle = 0;
        if let Some(wrong) = self.text.wrong {
            self.refuse_text(wrong);
            self.forget_mail();
            self.mode = Mode::Command;
            return Step::Read;
        }
        let Some(mail) = self.mail.take() else { return self.close(503, "5.5.1", "no mail has begun") };
        self.mode = Mode::Asking;
        let helo = self.helo.clone().unwrap_or_default();
        let envelope = Envelope { helo, tls: self.tls, from: mail.from, recipients: mail.recipients };
        // What the gate holds for it is given back when it is done.
        Step::Message(envelope, std::mem::take(&mut self.text.bytes))
    }

    pub(super) fn refuse_text(&mut self, wrong: Wrong) {
        let reply = match wrong {
            Wrong::LoneLineEnd => Reply::new(550, "5.6.0", "a lone CR or LF: lines end with CR LF and nothing else"),
            Wrong::LongLine => Reply::new(550, "5.6.0", format!("a line has more than {LINE_BYTES_MAX} bytes")),
            Wrong::TooLarge => {
                Reply::new(552, "5.3.4", format!("at most {} bytes are taken", self.rules.message_bytes_max))
            }
            Wrong::NoMemory => Reply::new(452, "4.3.1", "too many mails come in at once; try again later"),
        };
        let count = match self.rules.dialect {
            Dialect::Lmtp => self.mail.as_ref().map_or(1, |mail| mail.recipients.len()),
            Dialect::Smtp => 1,
        };
        (0..count).for_each(|_| reply.write(&mut self.out));
        self.errors += 1;
    }

    pub(super) fn forget_text(&mut self) {
        self.release();
        self.text = Text::new();
    }

    pub(super) fn release(&mut self) {
        self.rules.gate.release(self.text.held);
        self.text.held = 0;
        self.text.bytes = Vec::new();
    }
}

impl Text {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), held: 0, wrong: None, came: 0, line_bytes: 0 }
    }
}

/// Whether a CR or a LF stands without the other.
fn has_lone_line_end(bytes: &[u8]) -> bool {
    let mut before = 0;
    for byte in bytes {
        if (before == b'\r') != (*byte == b'\n') {
            return true;
        }
        before = *byte;
    }
    before == b'\r'
}
