//! The four, and the operations of each.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::crowd;
use crate::http::escaped;
use crate::matrix::{
    CallError, Client, LAZY_FILTER, LOGIN, Person, SLIDING_SYNC, Server, SyncAsk, login, next_batch, register,
};
use crate::meter::{Line, Meter, Tally};

/// Longest measuring of one operation at one size.
const LONGEST: Duration = Duration::from_secs(3);
/// Writers who fill a room at once.
const WRITERS: usize = 32;
/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Series {
    Members,
    History,
    Rooms,
    Accounts,
}

impl Series {
    pub const ALL: [Self; 4] = [Self::Members, Self::History, Self::Rooms, Self::Accounts];

    /// In names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::History => "history",
            Self::Rooms => "rooms",
            Self::Accounts => "accounts",
        }
    }

    /// What its sizes count.
    pub fn across(self) -> &'static str {
        match self {
            Self::Members => "members of the room",
            Self::History => "events in the room",
            Self::Rooms => "rooms of the account",
            Self::Accounts => "accounts of the server",
        }
    }

    /// Operations whose cost is that of what they answer or tell, with the reason.
    pub fn grows_by_nature(self, operation: &str) -> Option<&'static str> {
        Some(match (self, operation) {
            (Self::Members, "list of members") => "names every member",
            (Self::Rooms, "first sync") => "tells of every room",
            (Self::Rooms, "new name of oneself") => "is an event in every room",
            _ => return None,
        })
    }

    /// Measures at each size.
    pub async fn measure(self, bench: Bench, sizes: &[usize], lines: &mut Vec<Line>) -> Result<(), CallError> {
        match self {
            Self::Members => members(&bench, sizes, lines).await,
            Self::History => history(&bench, sizes, lines).await,
            Self::Rooms => rooms(&bench, sizes, lines).await,
            Self::Accounts => accounts(&bench, sizes, lines).await,
        }
    }
}

/// A server to measure.
pub struct Bench {
    pub server: Server,
    pub domain: String,
    pub pid: u32,
    pub operations: usize,
}

impl Bench {
    async fn person(&self, name: &str) -> Result<(Person, Client), CallError> {
        let person = register(&self.server, name).await?;
        let client = Client::new(&self.server, &person);
        Ok((person, client))
    }

    /// Does the same again and again, each time with another number.
    async fn operation(
        &self,
        name: &str,
        size: usize,
        lines: &mut Vec<Line>,
        mut work: impl AsyncFnMut(usize) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        // What is read for the first time is read from disk, and kept.
        work(usize::MAX).await?;
        let (mut tally, began) = (Tally::default(), Instant::now());
        let meter = Meter::start(name, &self.server.name, &[self.pid]);
        for number in 0..self.operations {
            let asked = Instant::now();
            work(number).await?;
            tally.latencies.push(asked.elapsed());
            if began.elapsed() > LONGEST {
                break;
            }
        }
        let line = meter.finish(tally).with("size", size as f64);
        eprintln!("{name} at {size}: {:.3} ms of CPU", line.server_cpu_ms_per_op.unwrap_or_default());
        lines.push(line);
        Ok(())
    }

    /// Sends messages, one after the other.
    async fn sends(
        &self,
        client: &mut Client,
        room: &str,
        size: usize,
        lines: &mut Vec<Line>,
    ) -> Result<(), CallError> {
        self.operation("message", size, lines, async |number| {
            client.send(room, &format!("g{size}-{number}"), "a message of the usual length, or nearly").await
        })
        .await
    }

    /// One message is new to somebody who asks for news.
    async fn news(
        &self,
        (writer, reader): (&mut Client, &mut Client),
        room: &str,
        size: usize,
        lines: &mut Vec<Line>,
    ) -> Result<(), CallError> {
        let filter = escaped(LAZY_FILTER);
        let ask = |since| SyncAsk { since, timeout_ms: 0, filter: Some(&filter) };
        let since = next_batch(reader.sync(ask(None)).await?)?;
        writer.send(room, &format!("n{size}"), "news").await?;
        self.operation("sync of one message", size, lines, async |_| reader.sync(ask(Some(&since))).await.map(drop))
            .await
    }
}

fn room_path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", escaped(room))
}

/// One room; its members come from the crowd.
async fn members(bench: &Bench, sizes: &[usize], lines: &mut Vec<Line>) -> Result<(), CallError> {
    let (_, mut owner) = bench.person("owner").await?;
    let (_, mut reader) = bench.person("reader").await?;
    let room = owner.create_room("A room that grows").await?;
    reader.join(&room).await?;
    let mut there = 2;
    for size in sizes.iter().copied() {
        if size > there {
            crowd::make(&bench.server, there..size).await?;
            crowd::lead_into(&bench.server, (&room, &bench.domain), there..size).await?;
            there = size;
        }
        bench.sends(&mut owner, &room, size, lines).await?;
        bench.news((&mut owner, &mut reader), &room, size, lines).await?;
        let filter = escaped(LAZY_FILTER);
        bench
            .operation("first sync", size, lines, async |_| {
                reader.sync(SyncAsk { since: None, timeout_ms: 0, filter: Some(&filter) }).await.map(drop)
            })
            .await?;
        bench.operation("page of history", size, lines, async |_| reader.page(&room, None, 50).await.map(drop)).await?;
        let topic = room_path(&room, "state/m.room.topic/");
        bench
            .operation("change of state", size, lines, async |number| {
                let body = json!({ "topic": format!("Number {number}") }).to_string();
                owner.call("PUT", &topic, &body).await.map(drop)
            })
            .await?;
        // They come and go, so that the room stays as large as it is.
        let mut speaker = crowd::service(&bench.server);
        let guest = 10_000_000 + size;
        crowd::make(&bench.server, guest..guest + 1).await?;
        let escaped_room = escaped(&room);
        bench
            .operation("coming in and going", size, lines, async |_| {
                for how in ["join", "leave"] {
                    speaker.call("POST", &crowd::path((&escaped_room, &bench.domain), how, guest), "{}").await?;
                }
                Ok(())
            })
            .await?;
        let list = room_path(&room, "members");
        bench
            .operation("list of members", size, lines, async |_| reader.call("GET", &list, "").await.map(drop))
            .await?;
    }
    Ok(())
}

/// One room in which more and more was said.
async fn history(bench: &Bench, sizes: &[usize], lines: &mut Vec<Line>) -> Result<(), CallError> {
    let mut writers = Vec::new();
    let (_, mut owner) = bench.person("owner").await?;
    let room = owner.create_room("A room with a history").await?;
    for number in 0..WRITERS {
        let (_, mut writer) = bench.person(&format!("writer{number}")).await?;
        writer.join(&room).await?;
        writers.push(writer);
    }
    let (mut there, mut middle) = (0, None);
    for size in sizes.iter().copied() {
        let mut writing = tokio::task::JoinSet::new();
        let share = size.saturating_sub(there).div_ceil(WRITERS);
        for (number, mut writer) in writers.drain(..).enumerate() {
            let (room, from) = (room.clone(), there + number * share);
            writing.spawn(async move {
                for number in from..from + share {
                    // Words that are rare, and some that are not.
                    let text = format!("unique{number} dozen{} sentence number and so on", number % (share + 1));
                    writer.send(&room, &format!("h{number}"), &text).await?;
                }
                Ok::<_, CallError>(writer)
            });
        }
        while let Some(writer) = writing.join_next().await {
            writers.push(writer.expect("no writer panics or is cancelled")?);
        }
        let half = there + size.saturating_sub(there) / 2;
        there = size;
        let mut reader = writers.pop().expect("there are writers");
        bench.sends(&mut owner, &room, size, lines).await?;
        bench.news((&mut owner, &mut reader), &room, size, lines).await?;
        bench.operation("newest page", size, lines, async |_| reader.page(&room, None, 50).await.map(drop)).await?;
        let oldest = room_path(&room, "messages?dir=f&limit=50");
        bench.operation("oldest page", size, lines, async |_| reader.call("GET", &oldest, "").await.map(drop)).await?;
        let search = async |reader: &mut Client, word: &str| {
            let ask = json!({ "search_categories": { "room_events": { "search_term": word } } }).to_string();
            let answer = reader.call("POST", "/_matrix/client/v3/search", &ask).await?;
            let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
            let found = &answer["search_categories"]["room_events"]["results"][0]["result"];
            Ok::<_, CallError>(found["event_id"].as_str().map(str::to_owned).zip(found["origin_server_ts"].as_u64()))
        };
        let word = format!("unique{half}");
        // The index is behind for a moment.
        for _ in 0..600 {
            middle = search(&mut reader, &word).await?;
            if middle.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let Some((event, time)) = middle.clone() else { return Err(CallError::Incomplete(0, 1, "messages found")) };
        bench
            .operation("search for a rare word", size, lines, async |_| search(&mut reader, &word).await.map(drop))
            .await?;
        let context = room_path(&room, &format!("context/{}?limit=10", escaped(&event)));
        bench
            .operation("what stands around a message", size, lines, async |_| {
                reader.call("GET", &context, "").await.map(drop)
            })
            .await?;
        let date = format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?ts={time}&dir=b", escaped(&room));
        bench
            .operation("message of a time", size, lines, async |_| reader.call("GET", &date, "").await.map(drop))
            .await?;
        writers.push(reader);
    }
    Ok(())
}

/// One account in more and more rooms, each made by somebody else.
async fn rooms(bench: &Bench, sizes: &[usize], lines: &mut Vec<Line>) -> Result<(), CallError> {
    let (_, mut guest) = bench.person("guest").await?;
    let mut owners = Vec::new();
    for number in 0..WRITERS {
        owners.push(bench.person(&format!("owner{number}")).await?);
    }
    let (_, mut newcomer) = bench.person("newcomer").await?;
    let (mut there, mut room) = (0, String::new());
    for size in sizes.iter().copied() {
        while there < size {
            let at = there % owners.len();
            room = owners[at].1.create_room(&format!("Room {there}")).await?;
            guest.join(&room).await?;
            there += 1;
        }
        let owner = &mut owners[(there - 1) % WRITERS].1;
        bench.sends(owner, &room, size, lines).await?;
        bench.news((owner, &mut guest), &room, size, lines).await?;
        let filter = escaped(LAZY_FILTER);
        bench
            .operation("first sync", size, lines, async |_| {
                guest.sync(SyncAsk { since: None, timeout_ms: 0, filter: Some(&filter) }).await.map(drop)
            })
            .await?;
        let path = format!("{SLIDING_SYNC}?timeout=0");
        bench
            .operation("first screen (sliding sync)", size, lines, async |number| {
                let required = json!([["m.room.name", ""], ["m.room.member", "$LAZY"], ["m.room.avatar", ""]]);
                let list = json!({ "ranges": [[0, 19]], "timeline_limit": 1, "required_state": required });
                let ask = json!({ "conn_id": format!("c{}", number % 8), "lists": { "all": list } }).to_string();
                guest.call("POST", &path, &ask).await.map(drop)
            })
            .await?;
        let escaped_room = escaped(&room);
        let path = |how: &str| format!("/_matrix/client/v3/rooms/{escaped_room}/{how}");
        bench
            .operation("coming in and going", size, lines, async |_| {
                newcomer.call("POST", &path("join"), "{}").await?;
                newcomer.call("POST", &path("leave"), "{}").await.map(drop)
            })
            .await?;
        let name = format!("/_matrix/client/v3/profile/{}/displayname", escaped(&format!("@guest:{}", bench.domain)));
        bench
            .operation("new name of oneself", size, lines, async |number| {
                let body = json!({ "displayname": format!("Guest {}", number % 1_000) }).to_string();
                guest.call("PUT", &name, &body).await.map(drop)
            })
            .await?;
    }
    Ok(())
}

/// A server with more and more accounts, most of which do nothing.
async fn accounts(bench: &Bench, sizes: &[usize], lines: &mut Vec<Line>) -> Result<(), CallError> {
    let (_, mut alice) = bench.person("alice").await?;
    let (_, mut bob) = bench.person("bob").await?;
    let room = alice.create_room("Two of many").await?;
    bob.join(&room).await?;
    let hall = alice.create_room("Where some of the crowd are").await?;
    let (mut there, mut guest) = (2, 10_000_000);
    for size in sizes.iter().copied() {
        crowd::make(&bench.server, there..size.max(there)).await?;
        // The directory has those who are somewhere in public.
        crowd::lead_into(&bench.server, (&hall, &bench.domain), there..size.min(1_000).max(there)).await?;
        there = size.max(there);
        bench.sends(&mut alice, &room, size, lines).await?;
        bench.news((&mut alice, &mut bob), &room, size, lines).await?;
        let mut speaker = crowd::service(&bench.server);
        bench
            .operation("new account", size, lines, async |_| {
                guest += 1;
                let body = json!({
                    "type": "m.login.application_service", "username": format!("crowd-{guest}"), "inhibit_login": true,
                });
                speaker.call("POST", "/_matrix/client/v3/register", &body.to_string()).await.map(drop)
            })
            .await?;
        bench
            .operation("login", size, lines, async |_| alice.call("POST", LOGIN, &login("bob")).await.map(drop))
            .await?;
        let profile = format!("/_matrix/client/v3/profile/{}", escaped(&format!("@crowd-7:{}", bench.domain)));
        bench.operation("profile", size, lines, async |_| alice.call("GET", &profile, "").await.map(drop)).await?;
        bench
            .operation("search for a person", size, lines, async |_| {
                let body = json!({ "search_term": "crowd-77", "limit": 10 }).to_string();
                alice.call("POST", "/_matrix/client/v3/user_directory/search", &body).await.map(drop)
            })
            .await?;
    }
    Ok(())
}
