//! What is measured: mails taken in, how soon they are seen, and a queue in which many wait.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::peers::{self, Contestant, DOMAIN};
use super::wire::{Wire, letter};
use crate::matrix::{Client, SyncAsk, next_batch, register};
use crate::meter::quantile_ms;
use crate::{Failure, http, procfs};

/// Sizes.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
pub struct Sizes {
    /// Connections that send at the same time, each to another account.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Small mails, all connections together, and their bytes.
    #[arg(long, default_value_t = 2_000)]
    pub small: usize,
    #[arg(long, default_value_t = 10_000)]
    pub small_bytes: usize,
    /// Large ones.
    #[arg(long, default_value_t = 24)]
    pub large: usize,
    #[arg(long, default_value_t = 5_000_000)]
    pub large_bytes: usize,
    /// Mails, one after the other, of which it is seen how soon a client has them.
    #[arg(long, default_value_t = 200)]
    pub seen: usize,
    /// Mails that wait in the queue, to a hundred recipients.
    #[arg(long, default_value_t = 100_000)]
    pub queue: usize,
}

/// Correspondents in the room whose mails wait.
const CORRESPONDENTS: usize = 100;
/// How long the last mails may take to be delivered.
const DELIVERY_MAX: Duration = Duration::from_secs(300);
/// How long it may take until all mails wait.
const QUEUE_MAX: Duration = Duration::from_secs(600);
/// How long a server is left alone before its memory is looked at.
const SETTLING_TIME: Duration = Duration::from_secs(3);

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub what: String,
    pub server: String,
    pub count: usize,
    pub per_second: Option<f64>,
    /// Of the server's processes, for one mail.
    pub cpu_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub memory_mb: Option<f64>,
}

fn line(what: &str, server: &str, count: usize) -> Line {
    let (what, server) = (what.to_owned(), server.to_owned());
    Line { what, server, count, per_second: None, cpu_ms: None, p50_ms: None, p99_ms: None, memory_mb: None }
}

fn cpu_s(contestant: &Contestant) -> f64 {
    procfs::usage(&contestant.pids).unwrap_or_default().cpu_s
}

fn recipient(n: usize) -> String {
    format!("person{n}@{DOMAIN}")
}

/// Somebody who writes to one account and is known to it.
fn sender(n: usize) -> String {
    format!("sender{n}@far.example")
}

/// Accounts that have let their senders in; their clients.
pub async fn prepare(contestant: &Contestant, sizes: &Sizes) -> Result<Vec<Client>, Failure> {
    let Some(server) = &contestant.matrix else { return Ok(Vec::new()) };
    let mut clients = Vec::new();
    for n in 0..sizes.connections {
        let person = register(server, &format!("person{n}")).await?;
        let mut client = Client::new(server, &person);
        let mut wire = Wire::open(contestant.smtp).await?;
        let mail = letter(&sender(n), &recipient(n), &format!("first{n}"), 1_000);
        wire.send(&sender(n), &recipient(n), &mail).await?;
        let synced: serde_json::Value =
            serde_json::from_slice(client.call("GET", "/_matrix/client/v3/sync?timeout=0", "").await?)?;
        let invited = synced["rooms"]["invite"].as_object().and_then(|rooms| rooms.keys().next().cloned());
        let room = invited.ok_or_else(|| Failure::Words("the first mail asked nobody in".to_owned()))?;
        client.join(&room).await?;
        clients.push(client);
    }
    Ok(clients)
}

/// Mails of one size over several connections. `tag` makes their names this round's.
pub async fn taken_in(
    contestant: &Contestant,
    what: &str,
    (count, bytes): (usize, usize),
    connections: usize,
    tag: &str,
) -> Result<Line, Failure> {
    let each = count / connections;
    // Made before, so that making them takes nobody's time.
    let batches: Vec<Vec<Vec<u8>>> = (0..connections)
        .map(|n| (0..each).map(|at| letter(&sender(n), &recipient(n), &format!("{tag}-{n}-{at}"), bytes)).collect())
        .collect();
    let lying = contestant.delivered.as_deref().map_or(0, peers::mails_in);
    let (began, cpu_before) = (Instant::now(), cpu_s(contestant));
    let sending = batches.iter().enumerate().map(|(n, mails)| async move {
        let mut wire = Wire::open(contestant.smtp).await?;
        let mut times = Vec::new();
        for mail in mails {
            let begun = Instant::now();
            wire.send(&sender(n), &recipient(n), mail).await?;
            times.push(begun.elapsed());
        }
        Ok::<_, Failure>(times)
    });
    let mut times: Vec<Duration> = try_join_all(sending).await?.into_iter().flatten().collect();
    let took = began.elapsed();
    if let Some(folder) = &contestant.delivered {
        while peers::mails_in(folder) < lying + times.len() {
            if began.elapsed() > took + DELIVERY_MAX {
                return Err(Failure::Words("what was taken was not delivered".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // What is left to do after the answer is part of it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cpu = cpu_s(contestant) - cpu_before;
    times.sort_unstable();
    Ok(Line {
        per_second: Some(times.len() as f64 / took.as_secs_f64()),
        cpu_ms: Some(cpu * 1e3 / times.len() as f64),
        p50_ms: Some(quantile_ms(&times, 0.5)),
        p99_ms: Some(quantile_ms(&times, 0.99)),
        ..line(what, &contestant.participant.name, times.len())
    })
}

/// From the answer 250, and from the first command, until a waiting client has the message.
pub async fn seen(
    contestant: &Contestant,
    (after_answer, after_command): (&str, &str),
    client: &mut Client,
    count: usize,
    tag: &str,
) -> Result<[Line; 2], Failure> {
    let mut wire = Wire::open(contestant.smtp).await?;
    let mut since = next_batch(client.sync(SyncAsk { since: None, timeout_ms: 0, filter: None }).await?)?;
    let (mut times, mut whole) = (Vec::new(), Vec::new());
    for n in 0..count {
        let name = format!("{tag}-seen-{n}-end");
        let mail = letter(&sender(0), &recipient(0), &name, 2_000);
        let sending = async {
            // The client is to wait already.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let begun = Instant::now();
            wire.send(&sender(0), &recipient(0), &mail).await?;
            Ok::<_, Failure>((begun, Instant::now()))
        };
        let (client, since, name) = (&mut *client, &mut since, &name);
        let seeing = async move {
            loop {
                let ask = SyncAsk { since: Some(since.as_str()), timeout_ms: 30_000, filter: None };
                let body = client.sync(ask).await?;
                let came = Instant::now();
                let is_there = http::find(body, name.as_bytes()).is_some();
                *since = next_batch(body)?;
                if is_there {
                    return Ok::<_, Failure>(came);
                }
            }
        };
        let ((begun, answered), came) = tokio::try_join!(sending, seeing)?;
        // It may be there before the answer is.
        times.push(came.saturating_duration_since(answered));
        whole.push(came.duration_since(begun));
    }
    Ok([(after_answer, times), (after_command, whole)].map(|(what, mut times)| {
        times.sort_unstable();
        Line {
            p50_ms: Some(quantile_ms(&times, 0.5)),
            p99_ms: Some(quantile_ms(&times, 0.99)),
            ..line(what, &contestant.participant.name, times.len())
        }
    }))
}

/// Memory and start of a server in whose queue nothing waits, and many.
pub async fn queue(binary: Option<&Path>, folder: &Path, count: usize) -> Result<Vec<Line>, Failure> {
    let outgoing = "silence_s = 1\nper_account_day = 100000000";
    let start = async || peers::koine(binary, folder, outgoing).await;
    let (first, _) = start().await?;
    let server = first.matrix.as_ref().ok_or_else(|| Failure::Words("it serves no clients".to_owned()))?;
    let person = register(server, "writer").await?;
    let mut client = Client::new(server, &person);
    let people: Vec<String> = (0..CORRESPONDENTS).map(|n| format!("@_mail_reader{n}=40far.example:{DOMAIN}")).collect();
    let body = json!({ "preset": "trusted_private_chat", "invite": people }).to_string();
    let made: serde_json::Value =
        serde_json::from_slice(&client.call_patiently("POST", "/_matrix/client/v3/createRoom", &body).await?)?;
    let room = made["room_id"].as_str().unwrap_or_default().to_owned();
    wait_for_all(&mut client, &room).await?;
    drop(first);
    let mut lines = Vec::new();
    let (again, took) = start().await?;
    lines.push(started(&again, took, "start with an empty queue", 0).await);
    let server = again.matrix.as_ref().ok_or_else(|| Failure::Words("it serves no clients".to_owned()))?;
    let mut client = Client::new(server, &person);
    let (began, cpu_before) = (Instant::now(), cpu_s(&again));
    let mut last = None;
    for n in 0..count / CORRESPONDENTS {
        last = Some(say(&mut client, &room, n, last.as_deref()).await?);
    }
    while waiting(binary, folder)? < count {
        if began.elapsed() > QUEUE_MAX {
            return Err(Failure::Words(format!("only {} mails wait", waiting(binary, folder)?)));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let cpu = cpu_s(&again) - cpu_before;
    lines.push(Line {
        cpu_ms: Some(cpu * 1e3 / count as f64),
        per_second: Some(count as f64 / began.elapsed().as_secs_f64()),
        memory_mb: procfs::resident_mb(&again.pids),
        ..line("a mail put into the queue, what was said included", "koine", count)
    });
    drop(again);
    let (last, took) = start().await?;
    lines.push(started(&last, took, "start with a full queue", count).await);
    Ok(lines)
}

/// Says something; the event. As an answer to another it is a mail of its own.
async fn say(client: &mut Client, room: &str, n: usize, last: Option<&str>) -> Result<String, Failure> {
    let mut content = json!({ "msgtype": "m.text", "body": format!("line {n}") });
    if let Some(last) = last {
        content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": last } });
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/q{n}");
    let said: serde_json::Value =
        serde_json::from_slice(&client.call_patiently("PUT", &path, &content.to_string()).await?)?;
    Ok(said["event_id"].as_str().unwrap_or_default().to_owned())
}

async fn wait_for_all(client: &mut Client, room: &str) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/joined_members");
        let members: serde_json::Value = serde_json::from_slice(client.call("GET", &path, "").await?)?;
        if members["joined"].as_object().is_some_and(|joined| joined.len() > CORRESPONDENTS) {
            return Ok(());
        }
        if began.elapsed() > QUEUE_MAX {
            return Err(Failure::Words("the correspondents do not come".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn started(contestant: &Contestant, took: Duration, what: &str, count: usize) -> Line {
    tokio::time::sleep(SETTLING_TIME).await;
    Line {
        p50_ms: Some(took.as_secs_f64() * 1e3),
        memory_mb: procfs::resident_mb(&contestant.pids),
        ..line(what, "koine", count)
    }
}

/// How many mails wait, as the operator is told.
fn waiting(binary: Option<&Path>, folder: &Path) -> Result<usize, Failure> {
    let binary = binary.ok_or_else(|| Failure::Words("there is no koine".to_owned()))?;
    let mut command = std::process::Command::new(binary);
    command.args(["mail", "queue", "--json", "--config"]).arg(folder.join("koine.toml"));
    let said: serde_json::Value = serde_json::from_str(&crate::compare::process::output(&mut command)?)?;
    Ok(said["waiting"].as_u64().unwrap_or_default() as usize)
}
