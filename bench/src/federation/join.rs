//! `federation-join` and `federation-receive`: somebody joins a room of many members and says something; then messages
//! come in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ruma_common::ServerName;
use serde_json::Value;

use super::Federating;
use super::house::{House, Sending};
use crate::Failure;
use crate::http::escaped;
use crate::matrix::{Client, register};
use crate::meter::{Line, Meter, Tally};
use crate::procfs;

/// Events of one transaction. [SS-API §transactions]
const TRANSACTION_EVENTS: usize = 50;
/// How often it is looked whether the state is complete, and for how long.
const COMPLETE_LOOK_EVERY: Duration = Duration::from_millis(20);
const COMPLETE_WAIT_MAX: Duration = Duration::from_secs(600);

/// Joins a new room of so many members, and receives messages in it.
pub async fn join_and_receive(
    house: &Arc<House>,
    up: &Federating,
    (room, members): (&str, usize),
    messages: usize,
) -> Result<Vec<Line>, Failure> {
    let room_id = house.show(room, members);
    let person = register(&up.server, &format!("joiner-{room}")).await?;
    let mut client = Client::new(&up.server, &person);
    let lines = async {
        let join = join(house, up, &mut client, (&room_id, members)).await?;
        let receive = receive(house, up, (&room_id, members), messages).await?;
        Ok(vec![join, receive])
    };
    let lines = lines.await;
    house.forget(&room_id);
    lines
}

/// Joins, says something, and waits until everybody is known.
pub async fn join(
    house: &Arc<House>,
    up: &Federating,
    client: &mut Client,
    (room, members): (&str, usize),
) -> Result<Line, Failure> {
    let via = escaped(house.servers[0].name.as_str());
    let path = format!("/_matrix/client/v3/join/{}?server_name={via}&via={via}", escaped(room));
    let before = procfs::resident_mb(&up.running.pids()).unwrap_or_default();
    let meter = Meter::start("federation-join", &up.server.name, &up.running.pids());
    let began = Instant::now();
    let mut tally = Tally::default();
    client.call("POST", &path, "{}").await?;
    tally.latencies.push(began.elapsed());
    let joined = began.elapsed();
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/first", escaped(room));
    let answer = client.call("PUT", &path, r#"{"msgtype":"m.text","body":"here I am"}"#).await?;
    let said: Value = serde_json::from_slice(answer)?;
    let sendable = began.elapsed();
    house.follow(room, said["event_id"].as_str().unwrap_or_default());
    let path = format!("/_matrix/client/v3/rooms/{}/joined_members", escaped(room));
    let complete = loop {
        // A server that does not know yet may wait with its answer, or say that it does not know.
        if let Ok(answer) = client.call("GET", &path, "").await {
            let answer: Value = serde_json::from_slice(answer)?;
            if answer["joined"].as_object().is_some_and(|joined| joined.len() == members + 1) {
                break began.elapsed();
            }
        }
        if began.elapsed() > COMPLETE_WAIT_MAX {
            return Err(Failure::Words(format!("not all of {members} members were known after ten minutes")));
        }
        tokio::time::sleep(COMPLETE_LOOK_EVERY).await;
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let line = meter.finish_with_ops(tally, members as u64);
    Ok(line
        .with("members", members as f64)
        .with("joined_ms", ms(joined))
        .with("sendable_ms", ms(sendable))
        .with("complete_ms", ms(complete))
        .with("resident_before_mb", before))
}

async fn receive(
    house: &Arc<House>,
    up: &Federating,
    (room, members): (&str, usize),
    messages: usize,
) -> Result<Line, Failure> {
    let destination = <&ServerName>::try_from(up.name.as_str()).map_err(|error| Failure::Words(error.to_string()))?;
    let mut sending = Sending::to(house, destination).await?;
    // The first finds out who we are, and whatever else is found out once.
    sending.send(&house.messages(room, TRANSACTION_EVENTS)).await?;
    let meter = Meter::start("federation-receive", &up.server.name, &up.running.pids());
    let mut tally = Tally::default();
    let mut left = messages;
    while left > 0 {
        let events = house.messages(room, left.min(TRANSACTION_EVENTS));
        left -= events.len();
        let began = Instant::now();
        let errors = sending.send(&events).await?;
        tally.latencies.push(began.elapsed());
        errors.iter().for_each(|error| tally.fail(error));
    }
    let taken = (messages as u64).saturating_sub(tally.errors);
    Ok(meter.finish_with_ops(tally, taken).with("members", members as f64))
}
