//! A connection of SMTP or LMTP: bytes, times, TLS. What is said is the session's business (`session.rs`).

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use koine_projection::mail::Address;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    accept::{self, Came},
    limit::Gate,
    recipient::Recipient,
    reply::{Refusal, Reply},
    session::{Dialect, Rules, Session, Step},
    verdict,
};
use crate::core::{Core, Mail};

/// Longest wait for a command. [RFC 5321 §4.5.3.2.7]
const COMMAND_MAX: Duration = Duration::from_secs(300);
/// Longest wait for a piece of a mail. [RFC 5321 §4.5.3.2.5]
const PIECE_MAX: Duration = Duration::from_secs(180);
/// Longest that an answer may take to be sent.
const WRITE_MAX: Duration = Duration::from_secs(60);
/// From the wish for TLS to the end of the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// Longest session: who drips bytes holds a connection no longer.
const SESSION_MAX: Duration = Duration::from_secs(3600);
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Holds `true` once the server ends.
    pub closing: watch::Receiver<bool>,
}

/// Whether a connection is encrypted.
pub enum Encryption {
    /// It stays in the clear.
    None,
    /// It begins in the clear, and may go on encrypted.
    Offered(TlsAcceptor),
    /// From the first byte. [RFC 8314 §3]
    First(TlsAcceptor),
}

impl Mail {
    /// Serves a connection until it ends.
    pub async fn serve(&self, mut socket: TcpStream, encryption: Encryption, dialect: Dialect, peer: Peer) {
        let core = &self.0;
        let incoming = &core.config().incoming;
        let rules = Rules {
            dialect,
            hostname: core.hostname().to_owned(),
            message_bytes_max: incoming.message_bytes_max,
            recipients_max: incoming.recipients_max,
            tls_offered: matches!(encryption, Encryption::Offered(_)),
            gate: core.gate.clone(),
        };
        let mut talk = Talk {
            core: core.clone(),
            is_trusted: core.is_trusted(dialect, peer.address),
            peer,
            begun: Instant::now(),
        };
        let session = match talk.welcome().await {
            Ok(()) => Session::new(rules),
            Err(refusal) => Session::turned_away(rules, &refusal.into()),
        };
        let mut session = session;
        let tls = match encryption {
            Encryption::None => None,
            Encryption::Offered(acceptor) => Some(acceptor),
            Encryption::First(acceptor) => {
                session.begun_encrypted();
                if let Some(mut stream) = talk.shake_hands(acceptor, socket).await {
                    talk.run(&mut session, &mut stream).await;
                    let _ = timeout(WRITE_MAX, stream.shutdown()).await;
                }
                return;
            }
        };
        if !talk.greet(&mut session, &mut socket).await {
            return;
        }
        if !talk.run(&mut session, &mut socket).await {
            return;
        }
        let Some(acceptor) = tls else { return };
        if let Some(mut stream) = talk.shake_hands(acceptor, socket).await {
            session.encrypted();
            talk.run(&mut session, &mut stream).await;
            let _ = timeout(WRITE_MAX, stream.shutdown()).await;
        }
    }
}

impl Core {
    /// Whether the other side has looked at senders already.
    fn is_trusted(&self, dialect: Dialect, address: IpAddr) -> bool {
        let address = address.to_canonical();
        dialect == Dialect::Lmtp
            || self.config().incoming.trusted_networks.iter().any(|network| network.contains(address))
    }

    /// The time since any fixed moment.
    pub(super) fn since_epoch(&self) -> Duration {
        Duration::from_millis(self.now().get().into())
    }
}

/// One connection, encrypted or not.
struct Talk {
    core: Arc<Core>,
    peer: Peer,
    is_trusted: bool,
    begun: Instant,
}

impl Talk {
    async fn shake_hands(&self, acceptor: TlsAcceptor, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
        match timeout(HANDSHAKE_MAX, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(peer = %self.peer.address, reason = %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer.address, "TLS handshake took too long"),
        }
        None
    }

    /// Whether the other side is listened to at all.
    async fn welcome(&self) -> Result<(), Refusal> {
        if self.is_trusted {
            return Ok(());
        }
        verdict::check_block_lists(&self.core, self.peer.address).await
    }

    /// Greets, and waits for the first byte; whether to go on. Before it the connection has no buffer: thousands of silent
    /// ones cost next to nothing.
    async fn greet(&mut self, session: &mut Session<Recipient>, socket: &mut TcpStream) -> bool {
        if !flush(session, socket).await {
            return false;
        }
        let mut first = [0];
        tokio::select! {
            // Whatever came, or that nothing did, is told by reading.
            _ = timeout(COMMAND_MAX, socket.peek(&mut first)) => {}
            _ = self.peer.closing.wait_for(|closing| *closing) => {}
        }
        true
    }

    /// Goes on until the end, or until TLS is to begin: `true`.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        session: &mut Session<Recipient>,
        stream: &mut S,
    ) -> bool {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match session.step() {
                Step::Read => {
                    if !flush(session, stream).await {
                        return false;
                    }
                    let wait = if session.is_in_text() { PIECE_MAX } else { COMMAND_MAX };
                    let left = SESSION_MAX.saturating_sub(self.begun.elapsed());
                    let read = tokio::select! {
                        read = timeout(wait.min(left), stream.read(&mut buffer)) => read,
                        _ = self.peer.closing.wait_for(|closing| *closing) => {
                            session.end("this server ends; come back later");
                            continue;
                        }
                    };
                    match read {
                        Ok(Ok(0) | Err(_)) => return false,
                        Ok(Ok(count)) => session.feed(buffer.get(..count).unwrap_or_default()),
                        Err(_) => session.end("too slow"),
                    }
                }
                Step::StartTls => return flush(session, stream).await,
                Step::Close => {
                    flush(session, stream).await;
                    let _ = timeout(WRITE_MAX, stream.shutdown()).await;
                    return false;
                }
                Step::Sender(from) => {
                    let refused = self.sender(from.as_ref()).err().map(Reply::from);
                    session.sender(from, refused);
                }
                Step::Recipient(text) => {
                    let answer = self.core.recipient(&text, session.sender_is_null());
                    session.recipient(answer.map_err(Reply::from));
                }
                Step::Message(envelope, text) => {
                    let came = Came { address: self.peer.address, is_trusted: self.is_trusted };
                    // To its end, also when the other side is gone: half of it would be done.
                    let work = accept::accept(self.core.clone(), envelope, text, came);
                    let replies = tokio::spawn(work).await.unwrap_or_else(|error| {
                        tracing::error!(reason = %error, "a mail could not be taken");
                        Vec::new()
                    });
                    session.done(&replies);
                }
            }
        }
    }

    /// Whether a mail may begin.
    fn sender(&self, _from: Option<&Address>) -> Result<(), Refusal> {
        if self.is_trusted {
            return Ok(());
        }
        let gate: &Gate = &self.core.gate;
        gate.mail_from(self.peer.address, self.core.since_epoch())
    }
}

/// Sends what there is to say; whether that was possible.
async fn flush<S: AsyncWrite + Unpin>(session: &mut Session<Recipient>, stream: &mut S) -> bool {
    if session.out.is_empty() {
        return true;
    }
    let out = std::mem::take(&mut session.out);
    let write = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    matches!(timeout(WRITE_MAX, write).await, Ok(Ok(())))
}
