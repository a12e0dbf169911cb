//! `federation-catch-up`: a server comes back to a room in which ten thousand things were said while it was away.
//!
//! Somebody of the measured server is in a small room. Then the pretended servers go on without it, and when it is back they send what servers
//! send to one that was away: the newest event of the room, in a transaction. What lies before that the server has to ask for. The
//! clocks stop when a syncing client has the newest message, and when a client that reads backwards from there has had all
//! of them: servers by design leave a gap that is longer than what they fetch at once, and fill it when somebody reads.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ruma_common::ServerName;
use serde_json::Value;

use super::Federating;
use super::house::{House, Sending};
use super::join::join;
use crate::Failure;
use crate::http::escaped;
use crate::matrix::{Client, LAZY_FILTER, SyncAsk, next_batch, register};
use crate::meter::{Line, Meter, Tally};

/// Members of the room.
const MEMBERS: usize = 10;
/// Longest wait for the newest message, and then for all of them.
const WAIT_MAX: Duration = Duration::from_secs(1_800);
/// How long a sync waits for news.
const POLL_MS: u64 = 5_000;
/// Messages of a page.
const PAGE: usize = 100;
/// Readings from the end to the beginning that may bring nothing new before what is missing is given up, and the
/// time from one to the next.
const VAIN_READINGS_MAX: usize = 5;
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What a message begins with, before its number.
const MARK: &str = "said-meanwhile-";

/// Measures it in a new room.
pub async fn catch_up(house: &Arc<House>, up: &Federating, room: &str, missed: usize) -> Result<Line, Failure> {
    let room_id = house.show(room, MEMBERS);
    let line = measure(house, up, (room, &room_id), missed).await;
    house.forget(&room_id);
    line
}

async fn measure(
    house: &Arc<House>,
    up: &Federating,
    (room, room_id): (&str, &str),
    missed: usize,
) -> Result<Line, Failure> {
    let person = register(&up.server, &format!("absent-{room}")).await?;
    let mut client = Client::new(&up.server, &person);
    join(house, up, &mut client, (room_id, MEMBERS)).await?;
    let filter = escaped(LAZY_FILTER);
    let first = SyncAsk { since: None, timeout_ms: 0, filter: Some(&filter) };
    let mut since = next_batch(client.sync(first).await?)?;
    let destination = <&ServerName>::try_from(up.name.as_str()).map_err(|error| Failure::Words(error.to_string()))?;
    let mut sending = Sending::to(house, destination).await?;

    let newest = house.go_on(room_id, missed, text)?;
    let asked_before = house.asked();
    let meter = Meter::start("federation-catch-up", &up.server.name, &up.running.pids());
    let began = Instant::now();
    // Some servers answer when they have what lies before, some at once.
    let sent = tokio::spawn(async move { sending.send(&[newest]).await });
    let mut seen = HashSet::new();
    while !seen.contains(&(missed - 1)) {
        if began.elapsed() > WAIT_MAX {
            return Err(Failure::Words(format!("the newest message did not arrive within {} s", WAIT_MAX.as_secs())));
        }
        let ask = SyncAsk { since: Some(&since), timeout_ms: POLL_MS, filter: Some(&filter) };
        let answer: Value = serde_json::from_slice(client.sync(ask).await?)?;
        since = answer["next_batch"].as_str().unwrap_or_default().to_owned();
        note(&answer["rooms"]["join"][room_id]["timeline"]["events"], &mut seen);
    }
    let newest_after = began.elapsed();
    let of_sync = seen.len();
    let mut tally = Tally::default();
    read_back(&mut client, room_id, missed, (&mut seen, &mut tally)).await?;
    let all_after = began.elapsed();
    let line = meter.finish_with_ops(tally, missed as u64);
    let refused = sent.await.map_err(|error| Failure::Words(error.to_string()))??;
    if let Some(refused) = refused.first() {
        return Err(Failure::Words(format!("the newest event was refused: {refused}")));
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(line
        .with("members", MEMBERS as f64)
        .with("missed", missed as f64)
        .with("newest_ms", ms(newest_after))
        .with("all_ms", ms(all_after))
        .with("came_with_sync", of_sync as f64)
        .with("asked_of_others", (house.asked() - asked_before) as f64))
}

/// Reads from the end to the beginning, again and again, until all messages were there.
async fn read_back(
    client: &mut Client,
    room_id: &str,
    missed: usize,
    (seen, tally): (&mut HashSet<usize>, &mut Tally),
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut vain = 0;
    while vain < VAIN_READINGS_MAX && began.elapsed() < WAIT_MAX {
        let had = seen.len();
        let mut from: Option<String> = None;
        loop {
            let at = from.as_deref().map(|from| format!("&from={}", escaped(from))).unwrap_or_default();
            let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit={PAGE}{at}", escaped(room_id));
            let asked = Instant::now();
            let page: Value = serde_json::from_slice(client.call("GET", &path, "").await?)?;
            tally.latencies.push(asked.elapsed());
            note(&page["chunk"], seen);
            if seen.len() >= missed {
                return Ok(());
            }
            let end = page["end"].as_str().map(ToOwned::to_owned);
            if end.is_none() || end == from || began.elapsed() > WAIT_MAX {
                break;
            }
            from = end;
        }
        vain = if seen.len() > had { 0 } else { vain + 1 };
        tokio::time::sleep(READ_AGAIN_AFTER).await;
    }
    Err(Failure::Words(format!(
        "reading backwards, {} of {missed} messages came in {:.0} s, and then no more",
        seen.len(),
        began.elapsed().as_secs_f64()
    )))
}

fn text(number: usize) -> String {
    format!("{MARK}{number}.")
}

/// The number in the text of a message.
fn number_of(text: &str) -> Option<usize> {
    text.strip_prefix(MARK)?.strip_suffix('.')?.parse().ok()
}

fn note(events: &Value, seen: &mut HashSet<usize>) {
    let texts = events.as_array().into_iter().flatten().filter_map(|event| event["content"]["body"].as_str());
    seen.extend(texts.filter_map(number_of));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_known_by_their_number_and_others_are_not_counted() {
        let message = |text: String| json!({ "type": "m.room.message", "content": { "body": text } });
        let mut seen = HashSet::new();
        note(
            &json!([message(text(7)), message(text(12)), message(text(7)), message("said-meanwhile-".into())]),
            &mut seen,
        );
        note(&json!([{ "type": "m.room.name", "content": { "name": "said-meanwhile-3." } }]), &mut seen);
        note(&Value::Null, &mut seen);
        assert_eq!(seen, HashSet::from([7, 12]));
    }
}
