//! `directory` and `directory-search`: the list of public rooms, read page by page, and searched.
//!
//! Eight people publish rooms, each with a name and a topic. `directory` reads them fifty at a time to the end and begins again; what
//! it read has to be all of them. `directory-search` asks for one of twenty words, each of which a twentieth of the rooms has in
//! its name, and for the first twenty that match.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::matrix::{CallError, Client, Person};
use crate::meter::{Line, Tally};
use crate::world::{World, in_parallel};

/// How many people publish.
const PUBLISHERS: usize = 8;
/// Rooms of a page.
const PAGE: usize = 50;
/// Most rooms of an answer to a search.
const FOUND_MAX: usize = 20;
/// Some servers list a room a while after it was made; so long is waited, and looked so often.
const LISTED_WAIT_MAX: Duration = Duration::from_secs(120);
const LISTED_LOOK_EVERY: Duration = Duration::from_millis(200);
const PUBLIC_ROOMS: &str = "/_matrix/client/v3/publicRooms";
/// In turns part of the rooms' names, none of them part of another.
const WORDS: [&str; 20] = [
    "anvil",
    "badger",
    "cellar",
    "dragonfly",
    "ember",
    "fjord",
    "gazebo",
    "harbour",
    "inkwell",
    "juniper",
    "kettle",
    "lantern",
    "meadow",
    "nutmeg",
    "orchard",
    "pumpkin",
    "quarry",
    "rhubarb",
    "saffron",
    "thicket",
];

/// Somebody who reads the list, and how long it is.
#[derive(Debug, Clone)]
pub struct Directory {
    reader: Person,
    rooms: usize,
}

#[derive(Deserialize)]
struct Listed {
    chunk: Vec<serde::de::IgnoredAny>,
    next_batch: Option<String>,
    #[serde(default)]
    total_room_count_estimate: usize,
}

/// One answer. [CS-API §post_matrixclientv3publicrooms]
async fn ask(client: &mut Client, body: &Value) -> Result<Listed, CallError> {
    let answer = client.call("POST", PUBLIC_ROOMS, &body.to_string()).await?;
    serde_json::from_slice(answer).map_err(|error| CallError::Unreadable("publicRooms", error))
}

async fn publish(world: &mut World) -> Result<Directory, CallError> {
    if let Some(directory) = &world.directory {
        return Ok(directory.clone());
    }
    let publishers = world.people("publisher", PUBLISHERS).await?;
    let rooms = world.sizes.scaled(world.sizes.directory);
    let server = world.server.clone();
    let jobs = (0..rooms).map(|room| (room, publishers[room % publishers.len()].clone())).collect();
    in_parallel(jobs, move |(room, person): (usize, Person)| {
        let server = server.clone();
        async move {
            let word = WORDS[room % WORDS.len()];
            let body = json!({
                "preset": "public_chat", "visibility": "public", "name": format!("The {word} of house {room}"),
                "topic": "Where neighbours meet, and what they talk about when they do.",
            });
            Client::new(&server, &person).create_room_of(&body).await.map(drop)
        }
    })
    .await?;
    let reader = world.stranger().await?;
    let mut client = world.client(&reader);
    let until = Instant::now() + LISTED_WAIT_MAX;
    loop {
        let listed = ask(&mut client, &json!({ "limit": 1 })).await?.total_room_count_estimate;
        if listed >= rooms {
            break;
        }
        if Instant::now() >= until {
            return Err(CallError::Incomplete(listed, rooms, "published rooms"));
        }
        tokio::time::sleep(LISTED_LOOK_EVERY).await;
    }
    let directory = Directory { reader, rooms };
    world.directory = Some(directory.clone());
    Ok(directory)
}

/// `directory`.
pub async fn page(world: &mut World) -> Result<Line, CallError> {
    let directory = publish(world).await?;
    let mut client = world.client(&directory.reader);
    let (mut tally, mut since, mut read) = (Tally::default(), None::<String>, 0);
    let meter = world.meter("directory");
    let until = Instant::now() + world.sizes.duration();
    for _ in 0..world.sizes.ops {
        let mut body = json!({ "limit": PAGE });
        if let Some(since) = &since {
            body["since"] = json!(since);
        }
        let asked = Instant::now();
        match ask(&mut client, &body).await {
            Ok(listed) => {
                tally.latencies.push(asked.elapsed());
                read += listed.chunk.len();
                since = listed.next_batch;
                if since.is_none() {
                    if read < directory.rooms {
                        return Err(CallError::Incomplete(read, directory.rooms, "published rooms"));
                    }
                    read = 0;
                }
            }
            Err(error) => {
                tally.fail(&error);
                (since, read) = (None, 0);
            }
        }
        if Instant::now() >= until {
            break;
        }
    }
    Ok(meter.finish(tally).with("rooms", directory.rooms as f64).with("page", PAGE as f64))
}

/// `directory-search`.
pub async fn search(world: &mut World) -> Result<Line, CallError> {
    let directory = publish(world).await?;
    let mut client = world.client(&directory.reader);
    let mut tally = Tally::default();
    let meter = world.meter("directory-search");
    let until = Instant::now() + world.sizes.duration();
    for (_, (number, word)) in (0..world.sizes.ops).zip(WORDS.iter().enumerate().cycle()) {
        let with_it = having(number, directory.rooms);
        let body = json!({ "limit": FOUND_MAX, "filter": { "generic_search_term": word } });
        let asked = Instant::now();
        match ask(&mut client, &body).await {
            Ok(found) => {
                tally.latencies.push(asked.elapsed());
                if found.chunk.len() < with_it.min(FOUND_MAX) {
                    return Err(CallError::Incomplete(found.chunk.len(), with_it.min(FOUND_MAX), "rooms found"));
                }
            }
            Err(error) => tally.fail(&error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    Ok(meter.finish(tally).with("rooms", directory.rooms as f64))
}

/// How many of so many rooms have the word of that number.
fn having(word: usize, rooms: usize) -> usize {
    (rooms + WORDS.len() - 1 - word) / WORDS.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_with_a_word_are_counted_as_they_are_named() {
        for rooms in [1, 19, 20, 21, 100, 1_003] {
            for word in 0..WORDS.len() {
                let named = (0..rooms).filter(|room| room % WORDS.len() == word).count();
                assert_eq!(having(word, rooms), named, "word {word} of {rooms} rooms");
            }
        }
    }

    #[test]
    fn no_word_is_part_of_another() {
        for word in WORDS {
            let containing = WORDS.iter().filter(|other| other.contains(word)).count();
            assert_eq!(containing, 1, "{word}");
        }
    }
}
