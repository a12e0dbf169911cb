//! A minimal HTTP/1.1 client: one keep-alive connection, one request at a time, plain TCP.
//!
//! It exists so that the load generator's own share of the machine stays small: one write per request, one buffer per
//! connection, no header map. It knows what homeservers send [RFC 9112 §6]: `Content-Length` and chunked bodies. TLS,
//! redirects, compression and pipelining are left to real clients.

use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest answer read. An initial sync of thousands of rooms fits; a runaway server does not take the machine along.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Longest wait for one whole answer. Above any long poll the scenarios ask for.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(300);
/// Longest accepted head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Connecting, writing or reading failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The server ended the connection in the middle of an answer.
    #[error("the server closed the connection in the middle of an answer")]
    Cut,
    /// The bytes are not an HTTP/1.1 answer this client understands.
    #[error("not an HTTP answer: {0}")]
    Garbled(&'static str),
    /// The answer exceeds [`ANSWER_BYTES_MAX`].
    #[error("the answer exceeds {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// No complete answer within [`ANSWER_WAIT_MAX`].
    #[error("no answer within {} s", ANSWER_WAIT_MAX.as_secs())]
    TimedOut,
}

/// What came back. The body borrows the connection's buffer until the next request.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// Body with any chunking removed.
    pub body: &'a [u8],
}

/// One connection to one server, opened at the first request and again whenever the server has closed it.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    stream: Option<TcpStream>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Connection {
    /// A connection to `authority` (`host:port`), not opened yet.
    pub fn new(authority: &str) -> Self {
        Self { authority: authority.to_owned(), stream: None, inbox: Vec::new(), outbox: Vec::new() }
    }

    /// Sends one request and reads the whole answer. `headers` is a block of complete lines (may be empty); what the body
    /// is stands there, or else it is JSON.
    ///
    /// A kept connection that turns out to be closed is opened anew once: that is a server ending an idle
    /// connection, not a failure. Every request here is idempotent or repeated harmlessly.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer<'_>, HttpError> {
        self.outbox.clear();
        self.outbox
            .extend_from_slice(format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}", self.authority).as_bytes());
        if method != "GET" {
            if !headers.contains("Content-Type:") {
                self.outbox.extend_from_slice(b"Content-Type: application/json\r\n");
            }
            self.outbox.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        self.outbox.extend_from_slice(b"\r\n");
        self.outbox.extend_from_slice(body);

        let kept = self.stream.is_some();
        let first = self.exchange_in_time().await;
        let nothing_came = self.inbox.is_empty();
        let (status, range) = match first {
            Err(HttpError::Io(_) | HttpError::Cut) if kept && nothing_came => self.exchange_in_time().await?,
            other => other?,
        };
        Ok(Answer { status, body: self.inbox.get(range).unwrap_or_default() })
    }

    async fn exchange_in_time(&mut self) -> Result<(u16, Range<usize>), HttpError> {
        let result = match tokio::time::timeout(ANSWER_WAIT_MAX, self.exchange()).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::TimedOut),
        };
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    async fn exchange(&mut self) -> Result<(u16, Range<usize>), HttpError> {
        self.inbox.clear();
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.authority).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("opened just above");
        crate::wire::say(&self.outbox);
        stream.write_all(&self.outbox).await?;

        let head = loop {
            if let Some(end) = find(&self.inbox, b"\r\n\r\n") {
                let head = Head::parse(&self.inbox[..end])?;
                if head.status != 100 {
                    break Head { length: end + 4, ..head };
                }
                self.inbox.drain(..end + 4);
                continue;
            }
            if self.inbox.len() > HEAD_BYTES_MAX {
                return Err(HttpError::Garbled("the head does not end"));
            }
            read_more(stream, &mut self.inbox).await?;
        };
        let body = match head.body {
            BodyLength::Known(length) => {
                let end = head.length.checked_add(length).filter(|end| *end <= ANSWER_BYTES_MAX);
                let end = end.ok_or(HttpError::TooLarge)?;
                self.inbox.reserve(end.saturating_sub(self.inbox.len()));
                while self.inbox.len() < end {
                    read_more(stream, &mut self.inbox).await?;
                }
                head.length..end
            }
            BodyLength::Chunked => read_chunks(stream, &mut self.inbox, head.length).await?,
        };
        if head.close {
            self.stream = None;
        }
        Ok((head.status, body))
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    body: BodyLength,
    close: bool,
    length: usize,
}

#[derive(Debug, PartialEq)]
enum BodyLength {
    Known(usize),
    Chunked,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, HttpError> {
        let text = std::str::from_utf8(bytes).map_err(|_| HttpError::Garbled("the head is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| code.parse().ok())
            .ok_or(HttpError::Garbled("no status line"))?;
        let mut head = Self { status, body: BodyLength::Known(0), close: false, length: 0 };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| HttpError::Garbled("a length that is no number"))?;
                head.body = BodyLength::Known(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                head.body = BodyLength::Chunked;
            } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
                head.close = true;
            }
        }
        Ok(head)
    }
}

/// Reads a chunked body and compacts it in place, so that it lies in one piece from `start`.
async fn read_chunks(stream: &mut TcpStream, inbox: &mut Vec<u8>, start: usize) -> Result<Range<usize>, HttpError> {
    let (mut read, mut written) = (start, start);
    loop {
        let line_end = loop {
            if let Some(at) = find(&inbox[read..], b"\r\n") {
                break read + at;
            }
            read_more(stream, inbox).await?;
        };
        let size = chunk_size(&inbox[read..line_end]).ok_or(HttpError::Garbled("a chunk without size"))?;
        let data = line_end + 2;
        let next = data.checked_add(size).and_then(|end| end.checked_add(2)).ok_or(HttpError::TooLarge)?;
        while inbox.len() < next {
            read_more(stream, inbox).await?;
        }
        if size == 0 {
            return Ok(start..written);
        }
        inbox.copy_within(data..data + size, written);
        written += size;
        read = next;
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    usize::from_str_radix(text.split(';').next()?.trim(), 16).ok()
}

async fn read_more(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<(), HttpError> {
    if inbox.len() > ANSWER_BYTES_MAX {
        return Err(HttpError::TooLarge);
    }
    if inbox.capacity() - inbox.len() < 4 << 10 {
        inbox.reserve(16 << 10);
    }
    let had = inbox.len();
    match stream.read_buf(inbox).await? {
        0 => Err(HttpError::Cut),
        _ => {
            crate::wire::hear(&inbox[had..]);
            Ok(())
        }
    }
}

/// Where `needle` begins in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// Percent-encodes one path segment or query value: everything but the unreserved characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn head_with_length_and_close_is_read_whatever_the_case() {
        let head = Head::parse(b"HTTP/1.1 429 Too Many\r\ncontent-LENGTH: 12\r\nConnection: close").expect("a head");
        assert_eq!(head, Head { status: 429, body: BodyLength::Known(12), close: true, length: 0 });
    }

    #[test]
    fn room_ids_are_escaped_whole() {
        assert_eq!(escaped("!a:localhost:80"), "%21a%3Alocalhost%3A80");
    }

    async fn answered_with(answer: &'static [u8]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let authority = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                for piece in answer.chunks(7) {
                    stream.write_all(piece).await.expect("a reader");
                    tokio::task::yield_now().await;
                }
            }
        });
        Connection::new(&authority)
    }

    #[tokio::test]
    async fn chunked_body_arrives_in_one_piece() {
        let text =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        let mut connection = answered_with(text).await;
        let answer = connection.request("GET", "/", "", b"").await.expect("an answer");
        assert_eq!((answer.status, answer.body), (200, &b"abcd0123456789"[..]));
    }

    #[tokio::test]
    async fn closed_kept_connection_is_opened_again() {
        let mut connection = answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        for _ in 0..3 {
            let answer = connection.request("PUT", "/", "", b"{}").await.expect("an answer");
            assert_eq!(answer.body, b"ok");
        }
    }
}
