//! One session of somebody by XMPP over plain TCP: as little work as a client can do, so that the server's is what is measured.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::scan::Scanner;
use crate::Failure;

type HmacSha1 = Hmac<Sha1>;

/// Everybody's password: who knows the name knows it.
pub const PASSWORD: &str = "a password for measuring";
/// How long a server may say nothing to somebody who waits.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Where a server listens, and what it calls itself.
#[derive(Debug, Clone)]
pub struct Address {
    /// Of its clients.
    pub port: u16,
    /// Its domain.
    pub domain: String,
    /// The domain of its rooms.
    pub rooms: String,
}

/// What SCRAM needs that costs the client time, kept from one login to the next: salt and iterations, and what follows.
#[derive(Debug, Default)]
pub struct Salted(Option<(String, [u8; 20])>);

/// A stream.
pub struct Stream {
    tcp: TcpStream,
    scanner: Scanner,
    buffer: Vec<u8>,
    /// Its full address, once there is a session.
    pub jid: String,
}

fn broken(what: &str) -> Failure {
    Failure::Words(format!("XMPP: {what}"))
}

fn io(error: std::io::Error) -> Failure {
    Failure::Io("an XMPP stream".to_owned(), error)
}

impl Stream {
    /// A stream that nobody has logged in on.
    pub async fn open(at: &Address) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(("127.0.0.1", at.port)).await.map_err(io)?;
        tcp.set_nodelay(true).map_err(io)?;
        let mut stream = Self { tcp, scanner: Scanner::default(), buffer: vec![0; READ_BYTES], jid: String::new() };
        stream.header(&at.domain).await?;
        Ok(stream)
    }

    async fn header(&mut self, domain: &str) -> Result<(), Failure> {
        self.scanner = Scanner::default();
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        self.send(&header).await?;
        self.until(|stanza| stanza.starts_with("<stream:features")).await.map(drop)
    }

    /// Sends as it is.
    pub async fn send(&mut self, xml: &str) -> Result<(), Failure> {
        crate::wire::say(xml.as_bytes());
        self.tcp.write_all(xml.as_bytes()).await.map_err(io)
    }

    /// The next element below the header.
    pub async fn next(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(element) = self.scanner.take() {
                return Ok(element);
            }
            let Ok(read) = timeout(SILENCE_MAX, self.tcp.read(&mut self.buffer)).await else {
                let waited_s = SILENCE_MAX.as_secs();
                return Err(broken(&format!("{} was told nothing for {waited_s} s, and waits for more", self.jid)));
            };
            let read = read.map_err(io)?;
            if read == 0 {
                return Err(broken("the server ended the stream"));
            }
            crate::wire::hear(&self.buffer[..read]);
            self.scanner.feed(&self.buffer[..read]);
        }
    }

    /// The next element that `wanted` says yes to.
    pub async fn until(&mut self, wanted: impl Fn(&str) -> bool) -> Result<String, Failure> {
        loop {
            let element = self.next().await?;
            if wanted(&element) {
                return Ok(element);
            }
        }
    }

    /// Sends a request, and gives its answer.
    pub async fn ask(&mut self, id: &str, xml: &str) -> Result<String, Failure> {
        self.send(xml).await?;
        let marks = [format!("id='{id}'"), format!("id=\"{id}\"")];
        let is_answer = |stanza: &str| {
            let head = stanza.split('>').next().unwrap_or_default();
            head.starts_with("<iq") && marks.iter().any(|mark| head.contains(mark.as_str()))
        };
        let answer = self.until(is_answer).await?;
        let head = answer.split('>').next().unwrap_or_default();
        match head.contains("type='error'") || head.contains("type=\"error\"") {
            true => Err(broken(&answer)),
            false => Ok(answer),
        }
    }

    /// Makes an account on a stream that nobody is logged in on.
    pub async fn register(&mut self, name: &str) -> Result<(), Failure> {
        let xml = format!(
            "<iq type='set' id='reg'><query xmlns='jabber:iq:register'><username>{name}</username><password>{PASSWORD}</password></query></iq>"
        );
        self.ask("reg", &xml).await.map(drop)
    }

    /// Logs in by SCRAM-SHA-1, and binds a resource. [RFC6120 §6] [RFC6120 §7]
    pub async fn log_in(
        &mut self,
        at: &Address,
        name: &str,
        resource: &str,
        salted: &mut Salted,
    ) -> Result<(), Failure> {
        let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
        let (bare, first) = first_message(name, resource);
        self.send(&format!("<auth xmlns='{sasl}' mechanism='SCRAM-SHA-1'>{first}</auth>")).await?;
        let last = self.last_message(&bare, salted).await?;
        self.send(&format!("<response xmlns='{sasl}'>{last}</response>")).await?;
        self.success().await?;
        self.header(&at.domain).await?;
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        );
        self.ask("bind", &bind).await?;
        self.jid = format!("{name}@{}/{resource}", at.domain);
        Ok(())
    }

    /// The same in one go, with stream management: what clients of today do. [XEP-0388] [XEP-0386]
    pub async fn log_in_at_once(&mut self, name: &str, resource: &str, salted: &mut Salted) -> Result<(), Failure> {
        let sasl = "urn:xmpp:sasl:2";
        let (bare, first) = first_message(name, resource);
        let bind = "<bind xmlns='urn:xmpp:bind:0'><tag>bench</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
        self.send(&format!(
            "<authenticate xmlns='{sasl}' mechanism='SCRAM-SHA-1'><initial-response>{first}</initial-response>{bind}</authenticate>"
        ))
        .await?;
        let last = self.last_message(&bare, salted).await?;
        self.send(&format!("<response xmlns='{sasl}'>{last}</response>")).await?;
        let success = self.success().await?;
        match success.contains("<bound") {
            true => Ok(()),
            false => Err(broken(&success)),
        }
    }

    async fn success(&mut self) -> Result<String, Failure> {
        let outcome = self.until(|element| element.starts_with("<success") || element.starts_with("<failure")).await?;
        if outcome.starts_with("<success") { Ok(outcome) } else { Err(broken(&outcome)) }
    }

    /// Waits for the challenge; the answer to it. [RFC5802 §3]
    async fn last_message(&mut self, bare: &str, salted: &mut Salted) -> Result<String, Failure> {
        let challenge =
            self.until(|element| element.starts_with("<challenge") || element.starts_with("<failure")).await?;
        let server_first = text_of(&challenge).and_then(|text| BASE64_STANDARD.decode(text).ok());
        let server_first = server_first.and_then(|bytes| String::from_utf8(bytes).ok());
        let server_first = server_first.ok_or_else(|| broken(&challenge))?;
        let part = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(count)) = (part("r="), part("s="), part("i=")) else {
            return Err(broken(&server_first));
        };
        let key = format!("{salt},{count}");
        let salted = match &salted.0 {
            Some((known, salted)) if *known == key => *salted,
            _ => {
                let salt = BASE64_STANDARD.decode(salt).map_err(|_| broken("a salt that is no base64"))?;
                let made = pbkdf2(PASSWORD.as_bytes(), &salt, count.parse().unwrap_or(0));
                salted.0 = Some((key, made));
                made
            }
        };
        let without_proof = format!("c=biws,r={nonce}");
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha1::digest(client_key), format!("{bare},{server_first},{without_proof}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        Ok(BASE64_STANDARD.encode(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof))))
    }

    /// Waits until `count` elements have come that `wanted` says yes to; when each did.
    pub async fn count(&mut self, count: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<Instant>, Failure> {
        let mut came = Vec::with_capacity(count);
        while came.len() < count {
            if wanted(&self.next().await?) {
                came.push(Instant::now());
            }
        }
        Ok(came)
    }
}

/// A whole session: connected and logged in.
pub async fn session(at: &Address, name: &str, resource: &str, salted: &mut Salted) -> Result<Stream, Failure> {
    let mut stream = Stream::open(at).await?;
    stream.log_in(at, name, resource, salted).await?;
    Ok(stream)
}

/// client-first-message-bare, and the whole in base64. [RFC5802 §7]
fn first_message(name: &str, resource: &str) -> (String, String) {
    let bare = format!("n={name},r=koine-bench-{name}-{resource}");
    let first = BASE64_STANDARD.encode(format!("n,,{bare}"));
    (bare, first)
}

fn text_of(element: &str) -> Option<&str> {
    element.split_once('>')?.1.split('<').next()
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 20] {
    let mut mac = HmacSha1::new_from_slice(key).expect("any length is a key");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// PBKDF2 of one block. [RFC5802 §2.2]
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 20] {
    let mut last = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut sum = last;
    for _ in 1..iterations {
        last = hmac(password, &last);
        sum.iter_mut().zip(last).for_each(|(sum, last)| *sum ^= last);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salted_password_is_that_of_the_specification() {
        let salt = BASE64_STANDARD.decode("QSXCR+Q6sek8bf92").expect("base64");
        let client_key = hmac(&pbkdf2(b"pencil", &salt, 4096), b"Client Key");
        assert_eq!(BASE64_STANDARD.encode(client_key), "4jTEe/bDZpbdbYUrmaqiuiZVVyg=");
    }
}
