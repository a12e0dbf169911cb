//! What a new session costs in a room of many devices: so many people, so many devices each, all with real keys, and one who says
//! something. `bench/E2EE.md` has what came out.
//!
//! ```text
//! cargo run --release -p koine-chat --features engine --example crowd -- --url http://127.0.0.1:8008 --server-pid PID
//! ```
//!
//! Every device is a whole client of matrix-sdk, the engine of koine-chat, that logs in and uploads its keys; most then leave
//! memory, and a few stay to read what is said. The first message makes an Olm session with every device, those after it begin
//! a new Megolm session each, which goes over the Olm sessions that are there. The time runs from the call until the server
//! acknowledged the message, which it gets after all keys. The rate limits of the server must be out of the way (`koine local`).

use std::{
    error::Error,
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use matrix_sdk::{
    Client, Room,
    config::SyncSettings,
    room::MessagesOptions,
    ruma::{
        OwnedRoomId, RoomId,
        api::client::{
            account::register::v3::Request as Register,
            room::create_room::v3::{Request as CreateRoom, RoomPreset},
            uiaa::{AuthData, Dummy},
        },
    },
};
use serde_json::json;
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PASSWORD: &str = "correct horse battery staple";
/// People who prepare at once.
const PREPARING: usize = 8;
/// Clock ticks of a second in /proc.
const TICKS: f64 = 100.0;

/// What a new session costs in a room of many devices.
#[derive(Parser)]
struct Options {
    /// A server with open registration.
    #[arg(long)]
    url: String,
    /// People beside the one who speaks.
    #[arg(long, default_value_t = 500)]
    members: usize,
    /// Devices of each.
    #[arg(long, default_value_t = 2)]
    devices: usize,
    /// New sessions after the first.
    #[arg(long, default_value_t = 10)]
    again: usize,
    /// Devices that read along.
    #[arg(long, default_value_t = 5)]
    readers: usize,
    /// The server's process, whose CPU is counted then.
    #[arg(long)]
    server_pid: Option<u32>,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = Options::parse();
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let speaker = register(&options.url, &format!("c{run:x}-speaker")).await?;
    let mut request = CreateRoom::new();
    request.preset = Some(RoomPreset::PublicChat);
    let room = speaker.create_room(request).await?;
    room.enable_encryption().await?;
    let id = room.room_id().to_owned();

    let prepared = Instant::now();
    let mut readers = Vec::new();
    let mut working = JoinSet::new();
    for number in 0..options.members {
        if working.len() >= PREPARING {
            readers.extend(working.join_next().await.transpose()?.transpose()?.flatten());
        }
        let (url, name, id) = (options.url.clone(), format!("c{run:x}-{number}"), id.clone());
        let (devices, stays) = (options.devices, number < options.readers);
        working.spawn(async move { Outcome::Ok(comes(&url, &name, devices, &id).await?.filter(|_| stays)) });
    }
    while let Some(done) = working.join_next().await {
        readers.extend(done??);
    }
    let prepared = prepared.elapsed();
    speaker.sync_once(quick()).await?;

    let total = options.members * options.devices;
    let mut rows = Vec::new();
    for number in 0..=options.again {
        if number > 0 {
            room.discard_room_key().await?;
        }
        let (own, servers) = (cpu(None), options.server_pid.map(|pid| cpu(Some(pid))));
        let began = Instant::now();
        let sent =
            room.send_raw("m.room.message", json!({ "msgtype": "m.text", "body": format!("hello {number}") })).await?;
        let seconds = began.elapsed().as_secs_f64();
        let server_cpu = servers.map(|before| cpu(options.server_pid) - before);
        rows.push((seconds, cpu(None) - own, server_cpu));
        let session = sent.encryption_info.as_ref().and_then(|info| info.session_id()).unwrap_or_default().to_owned();
        let row = json!({
            "type": if number == 0 { "first" } else { "renewed" }, "devices": total, "seconds": seconds,
            "client_cpu_s": rows[number].1, "server_cpu_s": server_cpu, "session": session,
        });
        println!("{row}");
    }
    let last = format!("hello {}", options.again);
    for reader in &readers {
        reads(reader, &id, &last).await?;
    }
    let renewed = &rows[1..];
    println!(
        "{}",
        json!({
            "type": "summary", "members": options.members, "devices": total, "prepared_s": prepared.as_secs_f64(),
            "first_s": rows[0].0, "renewed_s_median": median(renewed.iter().map(|row| row.0)),
            "renewed_client_cpu_s_median": median(renewed.iter().map(|row| row.1)),
            "renewed_server_cpu_s_median": median(renewed.iter().filter_map(|row| row.2)),
            "readers_that_decrypted": readers.len(), "client_peak_mb": peak_mb(),
        })
    );
    Ok(())
}

/// Somebody comes with all devices and joins; the last device is given back.
async fn comes(url: &str, name: &str, devices: usize, room: &RoomId) -> Outcome<Option<Client>> {
    let first = register(url, name).await?;
    first.sync_once(quick()).await?;
    let mut last = first.clone();
    for _ in 1..devices {
        let device = Client::builder().homeserver_url(url).build().await?;
        device.matrix_auth().login_username(name, PASSWORD).await?;
        device.sync_once(quick()).await?;
        last = device;
    }
    first.join_room_by_id(room).await?;
    Ok(Some(last))
}

async fn register(url: &str, name: &str) -> Outcome<Client> {
    let client = Client::builder().homeserver_url(url).build().await?;
    let mut request = Register::new();
    request.username = Some(name.to_owned());
    request.password = Some(PASSWORD.to_owned());
    request.auth = Some(AuthData::Dummy(Dummy::new()));
    client.matrix_auth().register(request).await?;
    client.sync_once(quick()).await?;
    Ok(client)
}

fn quick() -> SyncSettings {
    SyncSettings::new().timeout(Duration::ZERO)
}

/// A device that stayed must have the text, decrypted.
async fn reads(client: &Client, id: &OwnedRoomId, wanted: &str) -> Outcome<()> {
    while !client.sync_once(quick()).await?.to_device.is_empty() {}
    let room: Room = client.get_room(id).ok_or("the room is not known to a reader")?;
    let page = room.messages(MessagesOptions::backward()).await?;
    let read = page.chunk.iter().any(|event| event.raw().json().get().contains(wanted));
    if read { Ok(()) } else { Err(format!("{:?} does not read {wanted:?}", client.user_id()).into()) }
}

/// Seconds of processor that a process, or this one, took.
fn cpu(pid: Option<u32>) -> f64 {
    let path = pid.map_or("/proc/self/stat".to_owned(), |pid| format!("/proc/{pid}/stat"));
    let stat = fs::read_to_string(path).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() * 1024.0 / 1e6
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
