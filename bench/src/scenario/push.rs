//! `push`: notifications to a push gateway, offered at 1,000 a second.
//!
//! A room of 101 people, a hundred of whom have a pusher; one message is a hundred notifications, and messages fall
//! due at a hundredth of the rate. The gateway is part of this tool and takes whatever comes. An operation is a notification
//! that arrived; its latency is from when its message fell due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http::find;
use crate::matrix::{CallError, Client, Person};
use crate::meter::{Line, Tally};
use crate::world::{World, in_parallel};

/// People who are notified of each message.
const PEOPLE: usize = 100;
/// What a server may still have to send once the last message was sent.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// People with pushers, and the gateway.
#[derive(Debug, Clone)]
pub struct Bells {
    room: String,
    sender: Person,
    gateway: Arc<Gateway>,
}

/// Counts what arrives.
#[derive(Debug, Default)]
struct Gateway {
    arrived: AtomicU64,
    /// When each message fell due, by its number, and how long its notifications took.
    due: Mutex<Vec<Instant>>,
    took: Mutex<Vec<Duration>>,
}

impl Gateway {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().talk(stream));
        }
    }

    /// One connection: request after request, each answered with nothing rejected.
    async fn talk(self: Arc<Self>, mut stream: TcpStream) {
        let mut inbox = Vec::new();
        loop {
            let Some((start, length)) = head(&inbox) else {
                match stream.read_buf(&mut inbox).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                }
            };
            if inbox.len() < start + length {
                match stream.read_buf(&mut inbox).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                }
            }
            self.note(&inbox[start..start + length]);
            inbox.drain(..start + length);
            let answer =
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"rejected\":[]}";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }

    fn note(&self, body: &[u8]) {
        let now = Instant::now();
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        // Counts of what is unread come as well, and are no notifications.
        let Some(text) = body["notification"]["content"]["body"].as_str() else { return };
        let Some(number) = text.strip_prefix("bell ").and_then(|number| number.parse::<usize>().ok()) else { return };
        if let Some(due) = self.due.lock().get(number) {
            self.took.lock().push(now.saturating_duration_since(*due));
            self.arrived.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where the body of the first request begins, and how long it is.
fn head(inbox: &[u8]) -> Option<(usize, usize)> {
    let end = find(inbox, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&inbox[..end]).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some((end + 4, length.unwrap_or(0)))
}

async fn hang_up(world: &mut World) -> Result<Bells, CallError> {
    let gateway = Arc::new(Gateway::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(crate::http::HttpError::from)?;
    let port = listener.local_addr().map_err(crate::http::HttpError::from)?.port();
    tokio::spawn(gateway.clone().serve(listener));
    let people = world.people("bell", PEOPLE + 1).await?;
    let (sender, others) = people.split_first().expect("there are people");
    let room = world.client(sender).create_room_patiently("Bells").await?;
    let (server, id) = (world.server.clone(), room.clone());
    in_parallel(others.iter().cloned().enumerate().collect(), move |(number, person): (usize, Person)| {
        let (server, room) = (server.clone(), id.clone());
        async move {
            let mut client = Client::new(&server, &person);
            client.join_patiently(&room).await?;
            let pusher = json!({
                "kind": "http", "app_id": "org.example.bench", "pushkey": format!("bell-{number}"),
                "app_display_name": "bench", "device_display_name": "bench", "lang": "en", "append": true,
                "data": { "url": format!("http://127.0.0.1:{port}/_matrix/push/v1/notify") },
            });
            client.call_patiently("POST", "/_matrix/client/v3/pushers/set", &pusher.to_string()).await.map(drop)
        }
    })
    .await?;
    Ok(Bells { room, sender: sender.clone(), gateway })
}

/// `push`.
pub async fn push(world: &mut World) -> Result<Line, CallError> {
    let bells = match &world.bells {
        Some(bells) => bells.clone(),
        None => hang_up(world).await?,
    };
    world.bells = Some(bells.clone());
    let gateway = &bells.gateway;
    let (rate, batch) = (world.sizes.rate / PEOPLE as f64, world.fresh());
    let total = ((rate * world.sizes.seconds) as usize).max(1);
    gateway.took.lock().clear();
    gateway.arrived.store(0, Ordering::Relaxed);
    let mut client = world.client(&bells.sender);
    let meter = world.meter("push");
    let began = Instant::now();
    *gateway.due.lock() = (0..total).map(|number| began + Duration::from_secs_f64(number as f64 / rate)).collect();
    let mut failed = Tally::default();
    for number in 0..total {
        tokio::time::sleep_until((began + Duration::from_secs_f64(number as f64 / rate)).into()).await;
        if let Err(error) = client.send(&bells.room, &format!("p{batch}-{number}"), &format!("bell {number}")).await {
            failed.fail(&error);
        }
    }
    let wanted = (total * PEOPLE) as u64;
    let deadline = Instant::now() + DRAIN_MAX;
    while gateway.arrived.load(Ordering::Relaxed) < wanted && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    failed.latencies = std::mem::take(&mut *gateway.took.lock());
    let arrived = failed.latencies.len() as u64;
    let line = meter.finish(failed).with("offered_per_s", world.sizes.rate);
    Ok(line.with("never_arrived", wanted.saturating_sub(arrived) as f64))
}
