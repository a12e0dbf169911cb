//! A mail server that takes what it is given, or behaves as badly as a test wants.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What it took.
#[derive(Clone, Debug)]
pub struct Taken {
    pub from: String,
    pub to: String,
    pub mail: String,
    pub tls: bool,
}

/// How it behaves: what it answers to a verb, where that is not what it should.
#[derive(Clone, Debug, Default)]
pub struct Mood {
    /// Verb (`CONNECT`, `EHLO`, `MAIL`, `RCPT`, `DATA`, `.`, `STARTTLS`) and answer; the answer `!` ends the connection, and
    /// `~` says nothing any more.
    pub odd: Vec<(&'static str, &'static str)>,
    /// Lines of EHLO beside the usual.
    pub offers: Vec<&'static str>,
    /// Offers TLS.
    pub tls: bool,
    /// Ends the connection after so many mails.
    pub mails_max: Option<usize>,
}

/// A running server.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub taken: Arc<Mutex<Vec<Taken>>>,
    pub mood: Arc<Mutex<Mood>>,
    /// Commands as they came, over all connections.
    pub heard: Arc<Mutex<Vec<String>>>,
    pub connections: Arc<Mutex<usize>>,
    /// Its certificate, as a file of authorities.
    pub certificate: String,
}

impl Server {
    pub async fn new() -> Self {
        Self::named("mx.example.net").await
    }

    /// With a certificate for that name.
    pub async fn named(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            taken: Arc::default(),
            mood: Arc::default(),
            heard: Arc::default(),
            connections: Arc::default(),
            certificate: made.cert.pem(),
        };
        let (running, acceptor) = (server.clone(), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *running.connections.lock() += 1;
                let (running, acceptor) = (running.clone(), acceptor.clone());
                tokio::spawn(async move { running.serve(stream, acceptor).await });
            }
        });
        server
    }

    pub fn behave(&self, odd: &[(&'static str, &'static str)]) {
        self.mood.lock().odd = odd.to_vec();
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().clone()
    }

    async fn serve(&self, stream: TcpStream, acceptor: TlsAcceptor) {
        let mut stream = BufReader::new(stream);
        if self.say(&mut stream, "CONNECT", "220 mx.example.net ready").await.is_none() {
            return;
        }
        if self.converse(&mut stream, false).await != Some(true) {
            return;
        }
        if let Ok(stream) = acceptor.accept(stream.into_inner()).await {
            self.converse(&mut BufReader::new(stream), true).await;
        }
    }

    /// Answers a verb; nothing if the connection is to end.
    async fn say(&self, stream: &mut (impl AsyncWrite + Unpin), verb: &str, usual: &str) -> Option<bool> {
        let odd = self.mood.lock().odd.iter().find(|(odd, _)| *odd == verb).map(|(_, answer)| *answer);
        let answer = match odd {
            Some("!") => return None,
            Some("~") => return std::future::pending().await,
            Some(answer) => answer,
            None => usual,
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        Some(odd.is_none_or(|odd| odd.starts_with(['2', '3'])))
    }

    /// Until the end, or until TLS begins.
    async fn converse(&self, stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin), tls: bool) -> Option<bool> {
        let (mut from, mut to, mut mails) = (String::new(), String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return Some(false);
            }
            let line = line.trim_end().to_owned();
            self.heard.lock().push(line.clone());
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let path =
                || line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned());
            match verb.as_str() {
                "EHLO" => {
                    let mut offers = self.mood.lock().offers.clone();
                    if self.mood.lock().tls && !tls {
                        offers.push("STARTTLS");
                    }
                    let lines: String = offers.iter().map(|offer| format!("250-{offer}\r\n")).collect();
                    self.say(stream, "EHLO", &format!("250-mx.example.net\r\n{lines}250 ENHANCEDSTATUSCODES")).await?;
                }
                "STARTTLS" => {
                    if self.say(stream, "STARTTLS", "220 go ahead").await? {
                        return Some(true);
                    }
                }
                "MAIL" => {
                    if self.say(stream, "MAIL", "250 2.1.0 ok").await? {
                        from = path()?;
                    }
                }
                "RCPT" => {
                    if self.say(stream, "RCPT", "250 2.1.5 ok").await? {
                        to = path()?;
                    }
                }
                "DATA" => {
                    if !self.say(stream, "DATA", "354 go ahead").await? {
                        continue;
                    }
                    let mut mail = Vec::new();
                    while !mail.ends_with(b"\r\n.\r\n") {
                        let byte = stream.read_u8().await.ok()?;
                        mail.push(byte);
                    }
                    mail.truncate(mail.len() - 3);
                    if self.say(stream, ".", "250 2.0.0 taken").await? {
                        let mail = String::from_utf8(mail).expect("mails are text").replace("\r\n..", "\r\n.");
                        self.taken.lock().push(Taken { from: from.clone(), to: to.clone(), mail, tls });
                        mails += 1;
                        if self.mood.lock().mails_max == Some(mails) {
                            return None;
                        }
                    }
                }
                "AUTH" => {
                    self.say(stream, "AUTH", "535 5.7.8 no").await?;
                }
                "QUIT" => {
                    self.say(stream, "QUIT", "221 bye").await;
                    return Some(false);
                }
                _ => {
                    self.say(stream, "RSET", "250 2.0.0 ok").await?;
                }
            }
        }
    }
}
