//! What is done, by whom.

use std::io::Write as _;

use flate2::{Compression, write::DeflateEncoder};
use serde_json::json;

use super::{
    Line,
    counters::{self, Counters},
};
use crate::Failure;
use crate::http::escaped;
use crate::matrix::{
    CallError, Client, LAZY_FILTER, LOGIN, Person, SLIDING_SYNC, Server, SyncAsk, login, next_batch, register,
};
use crate::procfs;
use crate::wire::{self, Wire};
use crate::xmpp::peers::Contestant;
use crate::xmpp::scenario::{accounts, enter, is_message, message, sessions};
use crate::xmpp::stream::{Address, Salted, Stream, session};

/// Longest wait for news.
const POLL_MS: u64 = 30_000;
const TEXT: &str = "A sentence as long as most of them are, or a little longer.";
/// Those who hear what is said in the room of XMPP.
const OCCUPANTS: usize = 10;

/// Everything.
pub async fn all(
    contestant: &Contestant,
    operations: usize,
    counters: &mut Counters,
    lines: &mut Vec<Line>,
) -> Result<(), Failure> {
    let server = Server {
        name: "koine".to_owned(),
        authority: format!("127.0.0.1:{}", contestant.web_port.unwrap_or_default()),
        shared_secret: None,
    };
    let mut costs = Costs { pid: contestant.running.pid(), operations, counters, lines };
    matrix(&server, &mut costs).await?;
    xmpp(&contestant.at, &mut costs).await?;
    logins(&server, &contestant.at, &mut costs).await
}

struct Costs<'a> {
    pid: u32,
    operations: usize,
    counters: &'a mut Counters,
    lines: &'a mut Vec<Line>,
}

impl Costs<'_> {
    /// Does it again and again, twice; each time with another number.
    async fn of(&mut self, what: &str, mut deed: impl AsyncFnMut(usize) -> Result<(), Failure>) -> Result<(), Failure> {
        let count = self.operations;
        for number in 0..count.div_ceil(10) {
            deed(3 * count + number).await?;
        }
        let (before, wire_before) = (procfs::usage(&[self.pid]).unwrap_or_default(), Wire::now());
        for number in 0..count {
            deed(number).await?;
        }
        let (after, wire) = (procfs::usage(&[self.pid]).unwrap_or_default(), Wire::now().since(wire_before));
        wire::listen();
        let counting = self.counters.begin()?;
        for number in count..2 * count {
            deed(number).await?;
        }
        let counted = counting.map(counters::Counting::end).transpose()?.unwrap_or_default();
        let dialogue = wire::heard();
        let each = |number: f64| number / count as f64;
        let line = Line {
            what: what.to_owned(),
            cpu_us: each((after.cpu_s - before.cpu_s) * 1e6),
            written_bytes: each((after.written_bytes - before.written_bytes) as f64),
            syscalls: counted.syscalls.map(each),
            allocations: counted.allocations.map(each),
            sent_bytes: each(wire.sent as f64),
            received_bytes: each(wire.received as f64),
            deflated: deflated(&dialogue),
            turns: each(wire.turns as f64),
        };
        println!("{line:?}");
        self.lines.push(line);
        Ok(())
    }
}

/// How large bytes are as one compressed stream, as a share.
fn deflated(bytes: &[u8]) -> f64 {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let small = encoder.write_all(bytes).and_then(|()| encoder.finish());
    small.map_or(1.0, |small| small.len() as f64 / bytes.len().max(1) as f64)
}

async fn pair(server: &Server, of: &str) -> Result<(Client, Client, String), CallError> {
    let (one, other) = (register(server, &format!("{of}-one")).await?, register(server, &format!("{of}-other")).await?);
    let (mut one, mut other) = (Client::new(server, &one), Client::new(server, &other));
    let room = one.create_room("Two").await?;
    other.join(&room).await?;
    Ok((one, other, room))
}

async fn matrix(server: &Server, costs: &mut Costs<'_>) -> Result<(), Failure> {
    let (mut writer, mut reader, room) = pair(server, "matrix").await?;
    costs
        .of("Matrix: a message, acknowledged", async |number| {
            Ok(writer.send(&room, &format!("a{number}"), TEXT).await?)
        })
        .await?;
    let filter = escaped(LAZY_FILTER);
    let ask = SyncAsk { since: None, timeout_ms: 0, filter: Some(&filter) };
    let mut since = next_batch(reader.sync(ask).await?)?;
    costs
        .of("Matrix: a message, read by /sync that waited", async |number| {
            let ask = SyncAsk { since: Some(&since), timeout_ms: POLL_MS, filter: Some(&filter) };
            let sending = async {
                tokio::task::yield_now().await;
                writer.send(&room, &format!("b{number}"), TEXT).await
            };
            let (answer, sent) = tokio::join!(reader.sync(ask), sending);
            sent?;
            since = next_batch(answer?)?;
            Ok(())
        })
        .await?;
    let required = json!([["m.room.name", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]);
    let list = json!({ "ranges": [[0, 19]], "timeline_limit": 1, "required_state": required });
    let body = json!({ "conn_id": "room-list", "lists": { "all_rooms": list } }).to_string();
    let position = |answer: &[u8]| -> Result<String, Failure> {
        let answer: serde_json::Value = serde_json::from_slice(answer)?;
        Ok(answer["pos"].as_str().unwrap_or_default().to_owned())
    };
    let mut pos = position(reader.call("POST", &format!("{SLIDING_SYNC}?timeout=0"), &body).await?)?;
    costs
        .of("Matrix: a message, read by sliding sync that waited", async |number| {
            let path = format!("{SLIDING_SYNC}?timeout={POLL_MS}&pos={pos}");
            let sending = async {
                tokio::task::yield_now().await;
                writer.send(&room, &format!("c{number}"), TEXT).await
            };
            let (answer, sent) = tokio::join!(reader.call("POST", &path, &body), sending);
            sent?;
            pos = position(answer?)?;
            Ok(())
        })
        .await
}

async fn xmpp(at: &Address, costs: &mut Costs<'_>) -> Result<(), Failure> {
    let names: Vec<String> = (0..OCCUPANTS).map(|number| format!("cost{number}")).collect();
    accounts(at, &names).await?;
    let mut streams = sessions(at, &names).await?;
    for stream in &mut streams {
        stream.send("<presence/>").await?;
        stream.until(|stanza| stanza.starts_with("<presence")).await?;
    }
    let address = format!("{}@{}", names[1], at.domain);
    costs
        .of("XMPP: a 1:1 message, archived and received", async |number| {
            streams[0].send(&message(&address, "chat", number)).await?;
            streams[1].count(1, is_message).await.map(drop)
        })
        .await?;
    let room = format!("cost@{}", at.rooms);
    for (number, stream) in streams.iter_mut().enumerate() {
        enter(stream, &room, number).await?;
    }
    costs
        .of("XMPP: a message in a room, archived and received by ten", async |number| {
            streams[0].send(&message(&room, "groupchat", number)).await?;
            for stream in &mut streams {
                stream.count(1, is_message).await?;
            }
            Ok(())
        })
        .await
}

/// From the connection to a session that can be used. TLS comes on top, the same for each: one round trip, and two more
/// where it begins with STARTTLS.
async fn logins(server: &Server, at: &Address, costs: &mut Costs<'_>) -> Result<(), Failure> {
    let nobody = Person { access_token: String::new() };
    register(server, "cost-login").await?;
    costs
        .of("Matrix: login with a password, first sync", async |_| {
            let mut client = Client::new(server, &nobody);
            let answer = client.call("POST", LOGIN, &login("cost-login")).await?;
            let person: Person = serde_json::from_slice(answer)?;
            Client::new(server, &person).sync(SyncAsk { since: None, timeout_ms: 0, filter: None }).await?;
            Ok(())
        })
        .await?;
    accounts(at, &["costlogin".to_owned()]).await?;
    let mut salted = Salted::default();
    costs
        .of("XMPP: login as of 2011 (SASL, bind, stream management)", async |number| {
            let mut stream = session(at, "costlogin", &format!("r{}", number % 8), &mut salted).await?;
            stream.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await?;
            stream.until(|element| element.starts_with("<enabled")).await?;
            stream.send("</stream:stream>").await
        })
        .await?;
    costs
        .of("XMPP: login of today (SASL2 with Bind 2 and stream management)", async |number| {
            let mut stream = Stream::open(at).await?;
            stream.log_in_at_once("costlogin", &format!("r{}", number % 8), &mut salted).await?;
            stream.send("</stream:stream>").await
        })
        .await
}
