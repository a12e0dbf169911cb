//! One connection to a mail server, as its client. [RFC 5321] [RFC 2920] [RFC 3207] [RFC 4954] [RFC 6531]
//!
//! What the other side may make of us is bounded: how long it takes, how much it says. What was said before TLS began means
//! nothing after.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::Engine as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// Longest line of an answer. RFC 5321 says 512; some say more.
const LINE_BYTES_MAX: usize = 4_096;
/// Most lines of an answer.
const LINES_MAX: usize = 100;
/// Bytes of an answer's words that are kept.
const WORDS_BYTES_MAX: usize = 1_024;

/// How long each step may take. [RFC 5321 §4.5.3.2]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until it greets.
    pub(crate) greeting: Duration,
    /// An answer to a command.
    pub(crate) command: Duration,
    /// Until the next piece of a mail is taken.
    pub(crate) piece: Duration,
    /// The answer to a whole mail.
    pub(crate) end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { greeting: seconds(120), command: seconds(180), piece: seconds(180), end: seconds(600) }
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// Its words, the lines joined by blanks; with the enhanced code in front, where there is one.
    pub(crate) words: String,
}

impl Reply {
    pub(crate) fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    pub(crate) fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// The enhanced code. [RFC 2034]
    pub(crate) fn enhanced(&self) -> Option<&str> {
        let first = self.words.split(' ').next()?;
        let mut parts = first.split('.');
        let class = parts.next().filter(|class| matches!(*class, "2" | "4" | "5"))?;
        let fine = parts.clone().count() == 2 && parts.all(|part| matches!(part.parse::<u16>(), Ok(0..=999)));
        (fine && class == (self.code / 100).to_string()).then_some(first)
    }

    /// Both codes: `550 5.1.1`.
    pub(crate) fn codes(&self) -> String {
        match self.enhanced() {
            Some(enhanced) => format!("{} {enhanced}", self.code),
            None => self.code.to_string(),
        }
    }

    /// The words without the enhanced code.
    pub(crate) fn text(&self) -> &str {
        match self.enhanced() {
            Some(enhanced) => self.words[enhanced.len()..].trim_start(),
            None => &self.words,
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmtpError {
    /// The connection broke, or took too long, or the other side does not speak SMTP.
    #[error("{0}")]
    Broken(String),
    /// The server says no to a step.
    #[error("{step}: {} {}", reply.code, reply.words)]
    Refused { step: Step, reply: Reply },
    /// It cannot do what this mail needs.
    #[error("the server does not offer {0}")]
    Lacks(&'static str),
}

/// The steps of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Greeting,
    Hello,
    StartTls,
    Auth,
    From,
    Recipient,
    Data,
    End,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::From => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::End => "end of data",
        })
    }
}

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    pub(crate) pipelining: bool,
    pub(crate) eight_bit: bool,
    pub(crate) utf8: bool,
    pub(crate) starttls: bool,
    /// Largest mail, where it says.
    pub(crate) size: Option<u64>,
    pub(crate) says_size: bool,
    pub(crate) auth: Vec<String>,
}

impl Offers {
    /// [RFC 5321 §4.1.1.1] The lines behind the first.
    fn read(lines: &[String]) -> Self {
        let mut offers = Self::default();
        for line in lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => offers.pipelining = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.utf8 = true,
                "STARTTLS" => offers.starttls = true,
                "SIZE" => {
                    offers.says_size = true;
                    offers.size = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
                }
                "AUTH" => offers.auth = words.map(str::to_ascii_uppercase).collect(),
                _ => {}
            }
        }
        offers
    }
}

/// The wire.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Between the two.
    None,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(wire) => Pin::new(wire).poll_read(cx, buf),
            Self::Tls(wire) => Pin::new(wire).poll_read(cx, buf),
            Self::None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(wire) => Pin::new(wire).poll_write(cx, bytes),
            Self::Tls(wire) => Pin::new(wire).poll_write(cx, bytes),
            Self::None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(wire) => Pin::new(wire).poll_flush(cx),
            Self::Tls(wire) => Pin::new(wire).poll_flush(cx),
            Self::None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(wire) => Pin::new(wire).poll_shutdown(cx),
            Self::Tls(wire) => Pin::new(wire).poll_shutdown(cx),
            Self::None => Poll::Ready(Ok(())),
        }
    }
}

/// A connection.
pub(crate) struct Session {
    wire: Wire,
    /// What was read and not used yet.
    read: Vec<u8>,
    pub(crate) offers: Offers,
    patience: Patience,
    /// All of a mail was sent: whether it was taken only the answer tells.
    is_handed_over: bool,
}

/// What stands on the envelope.
pub(crate) struct Envelope<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) mail: &'a [u8],
}

impl Session {
    /// Over a fresh connection: waits for the greeting.
    pub(crate) async fn greeted(stream: TcpStream, patience: Patience) -> Result<Self, SmtpError> {
        Self::begin(Wire::Plain(stream), patience).await
    }

    /// The same where TLS came first.
    pub(crate) async fn greeted_tls(stream: TlsStream<TcpStream>, patience: Patience) -> Result<Self, SmtpError> {
        Self::begin(Wire::Tls(Box::new(stream)), patience).await
    }

    async fn begin(wire: Wire, patience: Patience) -> Result<Self, SmtpError> {
        let mut session = Self { wire, read: Vec::new(), offers: Offers::default(), patience, is_handed_over: false };
        let (reply, _) = session.reply(patience.greeting).await?;
        match reply.code {
            220 => Ok(session),
            _ => Err(SmtpError::Refused { step: Step::Greeting, reply }),
        }
    }

    /// Whether the last mail may have been taken although no answer came.
    pub(crate) fn may_have_taken(&self) -> bool {
        self.is_handed_over
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }

    /// Says who we are, and hears what is offered.
    pub(crate) async fn hello(&mut self, name: &str) -> Result<(), SmtpError> {
        self.write(format!("EHLO {name}\r\n").as_bytes()).await?;
        let (reply, lines) = self.reply(self.patience.command).await?;
        if reply.code == 250 {
            self.offers = Offers::read(&lines);
            return Ok(());
        }
        // [RFC 5321 §3.2] An old server.
        if reply.is_permanent() {
            self.write(format!("HELO {name}\r\n").as_bytes()).await?;
            let (reply, _) = self.reply(self.patience.command).await?;
            self.offers = Offers::default();
            return match reply.code {
                250 => Ok(()),
                _ => Err(SmtpError::Refused { step: Step::Hello, reply }),
            };
        }
        Err(SmtpError::Refused { step: Step::Hello, reply })
    }

    /// The plain connection, on which TLS begins now. What was heard so far is forgotten; what came behind the answer is an
    /// attack, for the server had to wait. [RFC 3207 §4.2]
    pub(crate) async fn start_tls(&mut self) -> Result<TcpStream, SmtpError> {
        self.write(b"STARTTLS\r\n").await?;
        let (reply, _) = self.reply(self.patience.command).await?;
        if reply.code != 220 {
            return Err(SmtpError::Refused { step: Step::StartTls, reply });
        }
        if !self.read.is_empty() {
            return Err(SmtpError::Broken("something was said in the clear after STARTTLS".to_owned()));
        }
        self.offers = Offers::default();
        match std::mem::replace(&mut self.wire, Wire::None) {
            Wire::Plain(stream) => Ok(stream),
            _ => Err(SmtpError::Broken("TLS was begun twice".to_owned())),
        }
    }

    /// Goes on over TLS.
    pub(crate) fn over(&mut self, stream: TlsStream<TcpStream>) {
        self.wire = Wire::Tls(Box::new(stream));
    }

    /// Logs in; only where nobody listens. [RFC 4954]
    pub(crate) async fn log_in(&mut self, name: &str, password: &str) -> Result<(), SmtpError> {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let offered = |mechanism: &str| self.offers.auth.iter().any(|known| known == mechanism);
        let (plain, login) = (offered("PLAIN"), offered("LOGIN"));
        let reply = if plain {
            let response = encode(&format!("\0{name}\0{password}"));
            self.command(&format!("AUTH PLAIN {response}\r\n")).await?
        } else if login {
            let mut reply = self.command("AUTH LOGIN\r\n").await?;
            for word in [name, password] {
                if reply.code != 334 {
                    break;
                }
                reply = self.command(&format!("{}\r\n", encode(word))).await?;
            }
            reply
        } else {
            return Err(SmtpError::Lacks("AUTH PLAIN or LOGIN"));
        };
        match reply.code {
            235 => Ok(()),
            _ => Err(SmtpError::Refused { step: Step::Auth, reply }),
        }
    }

    /// Hands over a mail for one recipient. Once the last byte is sent, only an answer tells whether it was taken.
    pub(crate) async fn send(&mut self, envelope: &Envelope<'_>) -> Result<Reply, SmtpError> {
        self.is_handed_over = false;
        let Envelope { from, to, mail } = envelope;
        self.open(from, to, mail).await?;
        let reply = self.command("DATA\r\n").await?;
        if reply.code != 354 {
            return self.refused(Step::Data, reply).await;
        }
        self.is_handed_over = true;
        self.write(&stuffed(mail)).await?;
        let (reply, _) = self.reply(self.patience.end).await?;
        match reply.code {
            250..=259 => Ok(reply),
            _ => Err(SmtpError::Refused { step: Step::End, reply }),
        }
    }

    /// The envelope alone: whether a mail would be taken.
    pub(crate) async fn would_take(&mut self, from: &str, to: &str) -> Result<(), SmtpError> {
        self.open(from, to, b"").await?;
        self.command("RSET\r\n").await.map(drop)
    }

    async fn open(&mut self, from: &str, to: &str, mail: &[u8]) -> Result<(), SmtpError> {
        let mut parameters = String::new();
        if self.offers.says_size && !mail.is_empty() {
            if let Some(max) = self.offers.size.filter(|max| (mail.len() as u64) > *max) {
                // [RFC 1870 §6.2]
                let words = format!("5.3.4 the mail has {} bytes, the server takes {max}", mail.len());
                return Err(SmtpError::Refused { step: Step::From, reply: Reply { code: 552, words } });
            }
            parameters.push_str(&format!(" SIZE={}", mail.len()));
        }
        // [RFC 6531 §3.2]
        let needs_utf8 = !(from.is_ascii() && to.is_ascii() && is_head_ascii(mail));
        if needs_utf8 && !self.offers.utf8 {
            return Err(SmtpError::Lacks("SMTPUTF8"));
        }
        if !mail.is_ascii() {
            if !self.offers.eight_bit {
                return Err(SmtpError::Lacks("8BITMIME"));
            }
            parameters.push_str(" BODY=8BITMIME");
        }
        if needs_utf8 {
            parameters.push_str(" SMTPUTF8");
        }
        let (mail_from, rcpt_to) = (format!("MAIL FROM:<{from}>{parameters}\r\n"), format!("RCPT TO:<{to}>\r\n"));
        let (from, to) = if self.offers.pipelining {
            self.write(format!("{mail_from}{rcpt_to}").as_bytes()).await?;
            (self.reply(self.patience.command).await?.0, self.reply(self.patience.command).await?.0)
        } else {
            let from = self.command(&mail_from).await?;
            if !from.is_positive() {
                return self.refused(Step::From, from).await.map(drop);
            }
            (from, self.command(&rcpt_to).await?)
        };
        if from.code != 250 {
            return self.refused(Step::From, from).await.map(drop);
        }
        match to.code {
            250 | 251 => Ok(()),
            _ => self.refused(Step::Recipient, to).await.map(drop),
        }
    }

    /// The server said no; the connection is fit for another mail, unless it ends it.
    async fn refused(&mut self, step: Step, reply: Reply) -> Result<Reply, SmtpError> {
        if reply.code != 421 {
            self.command("RSET\r\n").await?;
        }
        Err(SmtpError::Refused { step, reply })
    }

    /// Takes leave, and does not wait long for it to be taken.
    pub(crate) async fn quit(mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() {
            let _ = self.reply(Duration::from_secs(2)).await;
        }
        let _ = self.wire.shutdown().await;
    }

    async fn command(&mut self, line: &str) -> Result<Reply, SmtpError> {
        self.write(line.as_bytes()).await?;
        Ok(self.reply(self.patience.command).await?.0)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SmtpError> {
        for piece in bytes.chunks(64 * 1024) {
            match timeout(self.patience.piece, self.wire.write_all(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(SmtpError::Broken(format!("the connection broke: {error}"))),
                Err(_) => return Err(SmtpError::Broken("the server stopped reading".to_owned())),
            }
        }
        match timeout(self.patience.piece, self.wire.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SmtpError::Broken(format!("the connection broke: {error}"))),
            Err(_) => Err(SmtpError::Broken("the server stopped reading".to_owned())),
        }
    }

    async fn reply(&mut self, patience: Duration) -> Result<(Reply, Vec<String>), SmtpError> {
        match timeout(patience, self.read_reply()).await {
            Ok(reply) => reply,
            Err(_) => Err(SmtpError::Broken(format!("the server did not answer for {} s", patience.as_secs()))),
        }
    }

    /// [RFC 5321 §4.2.1]
    async fn read_reply(&mut self) -> Result<(Reply, Vec<String>), SmtpError> {
        let garbage = |what: &str| SmtpError::Broken(format!("what the server says is no SMTP: {what}"));
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let code = line.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
            let code: u16 = code.and_then(|code| code.parse().ok()).ok_or_else(|| garbage("an answer has no code"))?;
            if !(200..600).contains(&code) {
                return Err(garbage("an answer has an odd code"));
            }
            let more = match line.as_bytes().get(3) {
                Some(b'-') => true,
                Some(b' ') | None => false,
                Some(_) => return Err(garbage("an answer has no code")),
            };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if !more {
                return Ok((Reply { code, words: joined(code, &lines) }, lines));
            }
            if lines.len() == LINES_MAX {
                return Err(garbage("an answer has no end"));
            }
        }
    }

    async fn line(&mut self) -> Result<String, SmtpError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(SmtpError::Broken("what the server says is no SMTP: a line has no end".to_owned()));
            }
            let mut piece = [0; 2048];
            match self.wire.read(&mut piece).await {
                Ok(0) => return Err(SmtpError::Broken("the server ended the connection".to_owned())),
                Ok(read) => self.read.extend_from_slice(&piece[..read]),
                Err(error) => return Err(SmtpError::Broken(format!("the connection broke: {error}"))),
            }
        }
    }
}

/// The words of an answer; an enhanced code stands there once.
fn joined(code: u16, lines: &[String]) -> String {
    let first = lines.first().map(String::as_str).unwrap_or_default();
    let reply = Reply { code, words: first.to_owned() };
    let enhanced = reply.enhanced().unwrap_or_default();
    let mut words = first.to_owned();
    for line in lines.iter().skip(1) {
        let line = line.strip_prefix(enhanced).unwrap_or(line).trim();
        if !line.is_empty() && words.len() + line.len() < WORDS_BYTES_MAX {
            words.push(' ');
            words.push_str(line);
        }
    }
    let mut end = words.len().min(WORDS_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.truncate(end);
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A mail as it goes over the wire: lines end with CRLF and nothing else does, a dot in front of a line is doubled, and the
/// end is said. [RFC 5321 §4.5.2]
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + mail.len() / 64 + 8);
    let mut at_start = true;
    let mut bytes = mail.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                // Alone it is one all the same: nobody is to see an end of line where others see none.
                bytes.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
                at_start = true;
            }
            b'\n' => {
                out.extend_from_slice(b"\r\n");
                at_start = true;
            }
            byte => {
                if at_start && byte == b'.' {
                    out.push(b'.');
                }
                out.push(byte);
                at_start = false;
            }
        }
    }
    if !at_start {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// Whether the header fields hold ASCII alone.
fn is_head_ascii(mail: &[u8]) -> bool {
    let end = mail.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(mail.len());
    mail[..end].is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_within_a_mail_ends_it() {
        assert_eq!(stuffed(b"a\r\n.\r\n.b\n.\nc\r.\rd"), b"a\r\n..\r\n..b\r\n..\r\nc\r\n..\r\nd\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
        assert_eq!(stuffed(b"a\r\n"), b"a\r\n.\r\n");
    }

    #[test]
    fn enhanced_codes_are_read_where_there_are_some() {
        let reply = |code, words: &str| Reply { code, words: words.to_owned() };
        assert_eq!(reply(550, "5.1.1 no such user").codes(), "550 5.1.1");
        assert_eq!(reply(550, "5.1.1 no such user").text(), "no such user");
        assert_eq!(reply(550, "4.1.1 odd").codes(), "550");
        assert_eq!(reply(550, "5.1 odd").codes(), "550");
        assert_eq!(reply(451, "come back").text(), "come back");
        let lines = ["5.7.1 one".to_owned(), "5.7.1 two\u{7}".to_owned()];
        assert_eq!(joined(550, &lines), "5.7.1 one two ");
    }

    #[test]
    fn offers_are_read_whatever_their_case() {
        let lines = ["mx greets", "pipelining", "SIZE 1000", "8bitmime", "AUTH plain LOGIN", "X-ODD 1"];
        let offers = Offers::read(&lines.map(str::to_owned));
        assert!(offers.pipelining && offers.eight_bit && !offers.starttls && !offers.utf8);
        assert_eq!((offers.size, offers.auth), (Some(1000), vec!["PLAIN".to_owned(), "LOGIN".to_owned()]));
    }
}
