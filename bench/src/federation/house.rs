//! A pretended server: it answers what a server asks of the ones that are in a room, when it joins or was away, and sends
//! events. It is as many servers as there are addresses it listens at, which share one process and a certificate.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use koine_graph::json::{self, Json, Object};
use koine_graph::signatures::sign_object;
use koine_graph::{Event, SigningKey};
use parking_lot::Mutex;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::{ClientConfig, ServerConfig, pki_types};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Failure;
use crate::federation::certificates::Authority;
use crate::federation::past::Past;
use crate::federation::room::{Room, Signer};

/// How long a server's keys hold.
const KEYS_VALID_MS: u64 = 24 * 3_600 * 1_000;

/// The pretended server.
pub struct House {
    /// Every server that it is, the one with the rooms first.
    pub servers: Vec<Signer>,
    rooms: Mutex<HashMap<String, Shown>>,
    client: Arc<ClientConfig>,
    asked: AtomicU64,
}

/// A room as it is told to who joins.
struct Shown {
    room: Room,
    state: Bytes,
    members: Bytes,
    ids: Vec<String>,
    /// What the state that is no membership and the maker's membership are called: they allow everything else.
    allowing: Vec<String>,
    /// The membership events that joins were answered with, and their ids.
    joins: Vec<(String, Bytes)>,
    /// What was said while servers were away.
    past: Past,
}

impl House {
    /// Listens at `count` addresses of loopback from 127.0.0.2 on, until the runtime ends.
    pub async fn open(authority: &Authority, count: usize) -> Result<Arc<Self>, Failure> {
        let io = |error| Failure::Io("the pretended server cannot listen".to_owned(), error);
        let first = TcpListener::bind(("127.0.0.2", 0)).await.map_err(io)?;
        let port = first.local_addr().map_err(io)?.port();
        let addresses: Vec<String> = (0..count).map(|number| format!("127.0.0.{}", number + 2)).collect();
        let mut listeners = vec![first];
        for address in addresses.iter().skip(1) {
            listeners.push(TcpListener::bind((address.as_str(), port)).await.map_err(io)?);
        }
        let servers = addresses.iter().enumerate().map(|(number, address)| {
            let seed = [u8::try_from(number % 251).unwrap_or_default(); 32];
            let name = OwnedServerName::try_from(format!("{address}:{port}")).expect("a server's name");
            Signer { name, key: SigningKey::from_seed("1", &seed).expect("a key") }
        });
        let servers = servers.collect();
        let tls = authority.vouch(addresses)?.server()?;
        let house =
            Arc::new(Self { servers, rooms: Mutex::default(), client: authority.client()?, asked: AtomicU64::new(0) });
        for listener in listeners {
            tokio::spawn(house.clone().serve(listener, tls.clone()));
        }
        Ok(house)
    }

    /// Makes a room and shows it to who asks.
    pub fn show(&self, name: &str, members: usize) -> String {
        let room = Room::new(name, &self.servers, members);
        let joined = |events: &[Event]| Bytes::from(events.iter().map(text).collect::<Vec<_>>().join(","));
        let (state, members) = (joined(&room.state), joined(&room.members));
        let ids = room.state.iter().chain(&room.members).map(|event| event.event_id().to_string()).collect();
        let allowing = room.state.iter().chain(room.members.first());
        let allowing = allowing.map(|event| event.event_id().to_string()).collect();
        let id = room.id.to_string();
        let shown = Shown { room, state, members, ids, allowing, joins: Vec::new(), past: Past::default() };
        self.rooms.lock().insert(id.clone(), shown);
        id
    }

    /// Forgets a room.
    pub fn forget(&self, room: &str) {
        self.rooms.lock().remove(room);
    }

    /// What follows comes after this event.
    pub fn follow(&self, room: &str, event: &str) {
        if let (Some(shown), Ok(event)) = (self.rooms.lock().get_mut(room), event.try_into()) {
            shown.room.follow(event);
        }
    }

    /// Messages that follow each other.
    pub fn messages(&self, room: &str, count: usize) -> Vec<Event> {
        let mut rooms = self.rooms.lock();
        let shown = rooms.get_mut(room).expect("a room that is shown");
        (0..count).map(|number| shown.room.message(&self.servers[0], &format!("message {number}"))).collect()
    }

    /// Says so many things, which are not sent but told to who asks; the newest.
    pub fn go_on(&self, room: &str, count: usize, text: impl Fn(usize) -> String) -> Result<Event, Failure> {
        let mut rooms = self.rooms.lock();
        let shown = rooms.get_mut(room).expect("a room that is shown");
        let mut newest = None;
        for number in 0..count {
            let event = shown.room.message(&self.servers[0], &text(number));
            shown.past.keep(event.clone());
            newest = Some(event);
        }
        newest.ok_or_else(|| Failure::Words("nothing was to be said".to_owned()))
    }

    /// How often it was asked for something so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, tls: Arc<ServerConfig>) {
        let acceptor = TlsAcceptor::from(tls);
        while let Ok((stream, _)) = listener.accept().await {
            let (house, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let address = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
                let _ = stream.set_nodelay(true);
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| house.clone().answer(address.clone(), request));
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A peer that hangs up is no news.
                let _ = serving.await;
            });
        }
    }

    async fn answer(
        self: Arc<Self>,
        address: String,
        request: hyper::Request<Incoming>,
    ) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let path: Vec<String> = parts.uri.path().split('/').map(decoded).collect();
        let path: Vec<&str> = path.iter().skip(2).map(String::as_str).collect();
        self.asked.fetch_add(1, Ordering::Relaxed);
        let at = parameters(&query, "event_id").into_iter().next().unwrap_or_default();
        let answer = match path.as_slice() {
            ["key", "v2", "server", ..] => self.keys(&address).map(Bytes::from),
            ["federation", "v1", "version"] => Some(Bytes::from_static(br#"{"server":{"name":"pretended"}}"#)),
            ["federation", "v1", "make_join", room, user] => {
                self.rooms.lock().get(*room).map(|shown| shown.room.template(user).to_string().into())
            }
            ["federation", "v2", "send_join", room, id] => {
                self.joined(room, id, &body, query.contains("omit_members=true"))
            }
            ["federation", "v1", "state", room] => self.rooms.lock().get(*room).map(|shown| shown.whole(&at)),
            ["federation", "v1", "state_ids", room] => self.rooms.lock().get(*room).map(|shown| shown.ids(&at)),
            ["federation", "v1", "get_missing_events", room] => {
                let asked = serde_json::from_slice(&body).ok();
                let rooms = self.rooms.lock();
                rooms.get(*room).zip(asked).map(|(shown, asked)| listed("events", &shown.past.between(&asked)))
            }
            ["federation", "v1", "backfill", room] => {
                let from = parameters(&query, "v").into_iter().filter_map(|id| id.try_into().ok()).collect();
                let limit = parameters(&query, "limit").first().and_then(|limit| limit.parse().ok()).unwrap_or(0);
                self.rooms.lock().get(*room).map(|shown| self.transaction(&shown.past.before(from, limit)))
            }
            ["federation", "v1", "event", id] => self.event(id),
            ["federation", "v1", "send", _] => Some(accepted(&body)),
            _ => None,
        };
        let (status, body) = match answer {
            Some(body) => (200, body),
            None => (404, Bytes::from_static(br#"{"errcode":"M_NOT_FOUND","error":"not pretended"}"#)),
        };
        let mut response = hyper::Response::new(Full::new(body));
        *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
        response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// The keys of the server at one of our addresses.
    fn keys(&self, address: &str) -> Option<Vec<u8>> {
        let server = self.servers.iter().find(|server| server.name == address)?;
        let until = u64::from(MilliSecondsSinceUnixEpoch::now().get()) + KEYS_VALID_MS;
        let word = json!({
            "server_name": server.name, "valid_until_ts": until, "old_verify_keys": {},
            "verify_keys": { (server.key.id()): { "key": server.key.public().to_base64() } },
        });
        let word = word.to_string();
        let Ok(Json::Object(mut word)) = json::parse(word.as_bytes()) else { return None };
        sign_object(&mut word, server.name.as_str(), &server.key);
        Some(word.to_bytes())
    }

    /// [SS-API §put_matrixfederationv2send_joinroomideventid]
    fn joined(&self, room: &str, id: &str, event: &Bytes, omit_members: bool) -> Option<Bytes> {
        let mut rooms = self.rooms.lock();
        let shown = rooms.get_mut(room)?;
        shown.joins.push((id.to_owned(), event.clone()));
        let servers: Vec<&str> = self.servers.iter().map(|server| server.name.as_str()).collect();
        let maker = shown.room.members.first().map(text).unwrap_or_default();
        let mut out = json!({ "members_omitted": omit_members, "servers_in_room": servers }).to_string().into_bytes();
        out.pop();
        out.extend_from_slice(b",\"event\":");
        out.extend_from_slice(event);
        out.extend_from_slice(b",\"auth_chain\":[");
        out.extend_from_slice(maker.as_bytes());
        if !omit_members {
            out.push(b',');
            out.extend_from_slice(&shown.state);
        }
        out.extend_from_slice(b"],\"state\":[");
        out.extend_from_slice(&shown.state);
        if !omit_members {
            out.push(b',');
            out.extend_from_slice(&shown.members);
        }
        out.extend_from_slice(b"]}");
        Some(out.into())
    }

    fn event(&self, id: &str) -> Option<Bytes> {
        let rooms = self.rooms.lock();
        let mut all = rooms.values().flat_map(|shown| shown.room.state.iter().chain(&shown.room.members));
        let said = rooms.values().find_map(|shown| shown.past.get(id));
        let event = said.or_else(|| all.find(|event| event.event_id() == id))?;
        Some(self.transaction(&[event]))
    }

    /// Events as a transaction has them.
    fn transaction(&self, events: &[&Event]) -> Bytes {
        let head = json!({ "origin": self.servers[0].name, "origin_server_ts": 1 }).to_string();
        let list = String::from_utf8(listed("pdus", events).to_vec()).expect("JSON is UTF-8");
        format!("{},{}", &head[..head.len() - 1], &list[1..]).into()
    }
}

impl Shown {
    /// The joins that come before an event. One that somebody asks for while joining comes before their own.
    fn joins_before(&self, event: &str) -> &[(String, Bytes)] {
        if self.past.get(event).is_some() { &self.joins } else { &[] }
    }

    /// [SS-API §get_matrixfederationv1stateroomid]
    fn whole(&self, at: &str) -> Bytes {
        let mut out = b"{\"auth_chain\":[".to_vec();
        out.extend_from_slice(&self.state);
        for maker in self.room.members.iter().take(1) {
            out.push(b',');
            out.extend_from_slice(maker.json());
        }
        out.extend_from_slice(b"],\"pdus\":[");
        out.extend_from_slice(&self.state);
        out.push(b',');
        out.extend_from_slice(&self.members);
        for (_, join) in self.joins_before(at) {
            out.push(b',');
            out.extend_from_slice(join);
        }
        out.extend_from_slice(b"]}");
        out.into()
    }

    /// [SS-API §get_matrixfederationv1state_idsroomid]
    fn ids(&self, at: &str) -> Bytes {
        let joins = self.joins_before(at).iter().map(|(id, _)| id);
        let ids: Vec<&String> = self.ids.iter().chain(joins).collect();
        json!({ "pdu_ids": ids, "auth_chain_ids": self.allowing }).to_string().into()
    }
}

/// A connection over which the pretended server sends.
pub struct Sending {
    house: Arc<House>,
    destination: OwnedServerName,
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    transactions: u64,
}

impl Sending {
    /// Connects to the server called `destination`, an address with a port.
    pub async fn to(house: &Arc<House>, destination: &ServerName) -> Result<Self, Failure> {
        let io = |error| Failure::Io(format!("{destination} is not reached"), error);
        let stream = TcpStream::connect(destination.as_str()).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        let name = pki_types::ServerName::try_from(destination.host().to_owned());
        let name = name.map_err(|error| Failure::Words(error.to_string()))?;
        let stream = TlsConnector::from(house.client.clone()).connect(name, stream).await.map_err(io)?;
        let http = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = http.map_err(|error| Failure::Words(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self { house: house.clone(), destination: destination.to_owned(), sender, transactions: 0 })
    }

    /// Sends events in one transaction; the errors that the server answers. [SS-API §put_matrixfederationv1sendtxnid]
    pub async fn send(&mut self, events: &[Event]) -> Result<Vec<String>, Failure> {
        let from = &self.house.servers[0];
        self.transactions += 1;
        let now = MilliSecondsSinceUnixEpoch::now();
        let path = format!("/_matrix/federation/v1/send/{}-{}", now.get(), self.transactions);
        let events: Vec<String> = events.iter().map(text).collect();
        let body =
            format!(r#"{{"origin":"{}","origin_server_ts":{},"pdus":[{}]}}"#, from.name, now.get(), events.join(","));
        let request = hyper::Request::builder()
            .method("PUT")
            .uri(&path)
            .header("host", self.destination.as_str())
            .header("content-type", "application/json")
            .header("authorization", authorization(from, &self.destination, &path, &body))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Words(error.to_string()))?;
        let in_words = |error: hyper::Error| Failure::Words(format!("a transaction: {error}"));
        self.sender.ready().await.map_err(in_words)?;
        let answer = self.sender.send_request(request).await.map_err(in_words)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(in_words)?.to_bytes();
        if !status.is_success() {
            return Err(Failure::Words(format!("a transaction: {status} {}", String::from_utf8_lossy(&body))));
        }
        let answer: Value = serde_json::from_slice(&body)?;
        let results = answer["pdus"].as_object().into_iter().flatten();
        Ok(results.filter_map(|(_, result)| result["error"].as_str().map(ToOwned::to_owned)).collect())
    }
}

/// [SS-API §request-authentication]
fn authorization(from: &Signer, to: &ServerName, path: &str, body: &str) -> String {
    let text = |text: &str| Json::String(text.to_owned().into());
    let mut object = Object::with_capacity(6);
    object.insert("method", text("PUT"));
    object.insert("uri", text(path));
    object.insert("origin", text(from.name.as_str()));
    object.insert("destination", text(to.as_str()));
    object.insert("content", json::parse(body.as_bytes()).expect("our own JSON"));
    let mut signed = Vec::new();
    object.write_without(&["signatures"], &mut signed);
    let signature = base64::engine::general_purpose::STANDARD_NO_PAD.encode(from.key.sign(&signed));
    format!(r#"X-Matrix origin="{}",destination="{to}",key="{}",sig="{signature}""#, from.name, from.key.id())
}

/// Events in a list of that name.
fn listed(name: &str, events: &[&Event]) -> Bytes {
    let events: Vec<String> = events.iter().map(|event| text(event)).collect();
    format!("{{\"{name}\":[{}]}}", events.join(",")).into()
}

/// The values of a parameter of a query.
fn parameters(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).collect()
}

/// Every event is welcome.
fn accepted(transaction: &[u8]) -> Bytes {
    let transaction: Value = serde_json::from_slice(transaction).unwrap_or_default();
    let _ = transaction["pdus"].as_array().map_or(0, Vec::len);
    Bytes::from_static(br#"{"pdus":{}}"#)
}

fn text(event: &Event) -> String {
    String::from_utf8(event.json().to_vec()).expect("JSON is UTF-8")
}

/// A segment of a path without its escapes.
fn decoded(segment: &str) -> String {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let digits = [bytes.clone().next(), bytes.clone().nth(1)].map(|digit| digit.map(char::from));
        match (byte, digits) {
            (b'%', [Some(high), Some(low)]) => {
                let value =
                    high.to_digit(16).zip(low.to_digit(16)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                out.push(value.unwrap_or(byte));
                bytes.nth(1);
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_without_their_escapes() {
        let query = "v=%24a%2Fb&limit=10&v=%24c&ver=1";
        assert_eq!(parameters(query, "v"), ["$a/b", "$c"]);
        assert_eq!(parameters(query, "limit"), ["10"]);
        assert!(parameters("", "v").is_empty());
    }
}
