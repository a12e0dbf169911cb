//! `sync` and `next`: `/sync` of accounts in few and in many rooms (`--account-rooms`; `sliding` asks the same accounts).
//!
//! Each room was made by somebody else, the account has joined it, and five messages were said there (one, in accounts of many
//! rooms). `sync` is the initial one, without filter: whole state and the server's own timeline limit, one request at a time. Every
//! request asks for another (unused) timeout, because some servers keep the answer to an equal initial sync for minutes and
//! would be measured handing out a copy. In `next` one message is said in one of the rooms, each time in another, and the account syncs on
//! from where it was. Its operation is the message and the sync, its latency that of the sync; `sync_cpu_ms` is what is left when
//! sending alone is taken off.

use std::time::Instant;

use crate::http::{escaped, find};
use crate::matrix::{CallError, Client, LAZY_FILTER, Person, SyncAsk, joined_rooms, next_batch};
use crate::meter::{Line, Tally};
use crate::scenario::rooms::TEXT;
use crate::world::{World, in_parallel};

/// How many people own the rooms.
const OWNERS: usize = 16;
/// In accounts of more rooms one message is said in each.
const CHATTY_ROOMS_MAX: usize = 1_000;
/// Messages that are sent alone, to know what sending costs.
const ALONE_MAX: u64 = 2_000;
/// How long a sync waits for the message that was just sent.
const POLL_MS: u64 = 30_000;
/// From one message to the next so many rooms are passed over: a prime, so that all have their turn.
const STRIDE: usize = 7_919;

/// An account in many rooms.
#[derive(Debug, Clone)]
pub struct Account {
    pub(super) person: Person,
    /// The rooms, each with its owner.
    rooms: Vec<(String, Person)>,
    /// Where `next` ended.
    since: Option<String>,
}

/// The account in so many rooms, made where there is none yet.
pub(super) async fn account(world: &mut World, rooms: usize) -> Result<Account, CallError> {
    if let Some(account) = world.accounts.get(&rooms) {
        return Ok(account.clone());
    }
    let chatter = if rooms > CHATTY_ROOMS_MAX { world.sizes.chatter.min(1) } else { world.sizes.chatter };
    let owners = world.people("owner", OWNERS).await?;
    let person = world.stranger().await?;
    let batch = world.fresh();
    let (server, guest) = (world.server.clone(), person.clone());
    let jobs = (0..rooms).map(|room| (room, owners[room % owners.len()].clone())).collect();
    let rooms_made = in_parallel(jobs, move |(room, person): (usize, Person)| {
        let (server, guest) = (server.clone(), guest.clone());
        async move {
            let mut owner = Client::new(&server, &person);
            let id = owner.create_room_patiently(&format!("Room {room}")).await?;
            Client::new(&server, &guest).join_patiently(&id).await?;
            for number in 0..chatter {
                owner.send_patiently(&id, &format!("s{batch}-{room}-{number}"), TEXT).await?;
            }
            Ok((id, person))
        }
    })
    .await?;
    let account = Account { person, rooms: rooms_made, since: None };
    world.accounts.insert(rooms, account.clone());
    Ok(account)
}

/// `sync`.
pub async fn initial(world: &mut World, rooms: usize) -> Result<Line, CallError> {
    let account = account(world, rooms).await?;
    let mut client = world.client(&account.person);
    let mut answer_bytes = 0;
    let mut tally = Tally::default();
    let first_timeout = world.fresh() * 10_000;
    let meter = world.meter(&format!("sync-{rooms}"));
    let until = Instant::now() + world.sizes.duration();
    for number in 0..world.sizes.ops {
        let asked = Instant::now();
        let ask = SyncAsk { since: None, timeout_ms: first_timeout + number, filter: None };
        match client.sync(ask).await {
            Ok(answer) => {
                tally.latencies.push(asked.elapsed());
                answer_bytes = answer.len();
                let joined = joined_rooms(answer)?;
                if joined != rooms {
                    return Err(CallError::Incomplete(joined, rooms, "joined rooms"));
                }
            }
            Err(error) => tally.fail(&error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    let line = meter.finish(tally).with("rooms", rooms as f64);
    Ok(line.with("answer_kb", answer_bytes as f64 / 1e3))
}

/// `next`.
pub async fn next(world: &mut World, rooms: usize) -> Result<Line, CallError> {
    let account = account(world, rooms).await?;
    let name = format!("next-{rooms}");
    let mut news = News { batch: world.fresh(), said: 0, clients: Vec::new(), rooms: &account.rooms };
    news.clients.extend(account.rooms.iter().take(OWNERS).map(|(_, owner)| world.client(owner)));
    let mut reader = world.client(&account.person);
    let filter = escaped(LAZY_FILTER);
    let mut since = account.since.clone();
    // The account is there before anything is said, as a client is that has synced.
    let on = async |reader: &mut Client, since: &mut Option<String>| {
        let ask = SyncAsk { since: since.as_deref(), timeout_ms: 0, filter: Some(&filter) };
        *since = Some(next_batch(reader.sync(ask).await?)?);
        Ok::<_, CallError>(())
    };
    on(&mut reader, &mut since).await?;

    let alone = world.meter(&name);
    let mut sent_alone = Tally::default();
    let until = Instant::now() + world.sizes.duration();
    for _ in 0..ALONE_MAX.min(world.sizes.ops) {
        let began = Instant::now();
        let outcome = news.say().await;
        sent_alone.take(began, &outcome);
        if Instant::now() >= until {
            break;
        }
    }
    let alone = alone.finish(sent_alone).server_cpu_ms_per_op;

    on(&mut reader, &mut since).await?;
    let (mut tally, mut answer_bytes) = (Tally::default(), 0);
    let meter = world.meter(&name);
    let until = Instant::now() + world.sizes.duration();
    for _ in 0..world.sizes.ops {
        let text = news.say().await?;
        let asked = Instant::now();
        let ask = SyncAsk { since: since.as_deref(), timeout_ms: POLL_MS, filter: Some(&filter) };
        let answer = reader.sync(ask).await?;
        let elapsed = asked.elapsed();
        answer_bytes = answer.len();
        match find(answer, text.as_bytes()) {
            Some(_) => tally.latencies.push(elapsed),
            None => tally.fail(&"a sync without the message that was sent before it"),
        }
        since = Some(next_batch(answer)?);
        if Instant::now() >= until {
            break;
        }
    }
    let line = meter.finish(tally).with("rooms", rooms as f64).with("answer_kb", answer_bytes as f64 / 1e3);
    if let Some(account) = world.accounts.get_mut(&rooms) {
        account.since = since;
    }
    Ok(match (line.server_cpu_ms_per_op, alone) {
        (Some(both), Some(alone)) => line.with("send_alone_cpu_ms", alone).with("sync_cpu_ms", (both - alone).max(0.0)),
        _ => line,
    })
}

/// Who says something, room after room.
struct News<'a> {
    batch: u64,
    said: usize,
    /// The owner of a room is found by the room's number.
    clients: Vec<Client>,
    rooms: &'a [(String, Person)],
}

impl News<'_> {
    /// Says the next thing, and gives it.
    async fn say(&mut self) -> Result<String, CallError> {
        let room = turn(self.said, self.rooms.len());
        let text = format!("news-{}-{};", self.batch, self.said);
        let at = room % self.clients.len();
        self.clients[at].send(&self.rooms[room].0, &format!("n{}-{}", self.batch, self.said), &text).await?;
        self.said += 1;
        Ok(text)
    }
}

/// Which of so many rooms has its turn.
fn turn(number: usize, rooms: usize) -> usize {
    number.wrapping_mul(STRIDE) % rooms.max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_room_has_its_turn_before_any_has_a_second() {
        for rooms in [1, 10, 500, 5_000] {
            let visited: HashSet<usize> = (0..rooms).map(|number| turn(number, rooms)).collect();
            assert_eq!(visited.len(), rooms);
        }
    }
}
