//! `search`: looking for words in a room of many messages, by default 20,000 (`--searched 1000000` for a million).
//!
//! Every message has words of its own beside common ones. Asked is for a word that one message has, for one that a
//! hundredth has, and for two common ones together, in turns.

use std::time::Instant;

use serde_json::{Value, json};

use crate::matrix::{CallError, Client, Person};
use crate::meter::{Line, Tally};
use crate::world::{World, in_parallel};

/// How many people wrote, at once.
const WRITERS: usize = 32;

/// A room with much to find.
#[derive(Debug, Clone)]
pub struct Library {
    reader: Person,
    messages: usize,
}

/// The text of message `number`: about thirty words of a vocabulary with few common and many rare ones.
fn text(number: usize) -> String {
    let words = (0..12).map(|at| {
        let seed = number.wrapping_mul(2_654_435_761).wrapping_add(at * 40_503);
        // The lower the number of a word, the more often it is said.
        let word = (seed % 97) * (seed / 97 % 89) + at;
        format!("wort{word}")
    });
    let words: Vec<String> = words.collect();
    format!("unique{number} century{} everyday {}", number % 100, words.join(" "))
}

async fn fill(world: &mut World) -> Result<Library, CallError> {
    let people = world.people("author", WRITERS).await?;
    let messages = world.sizes.scaled(world.sizes.searched);
    let room = world.client(&people[0]).create_room_patiently("A library").await?;
    for person in &people[1..] {
        world.client(person).join_patiently(&room).await?;
    }
    let (server, writers) = (world.server.clone(), people.len());
    let jobs = people.iter().cloned().enumerate().collect();
    let began = Instant::now();
    // All at once: a few at a time would leave a server idle that syncs once for many.
    let mut jobs: Vec<(usize, Person)> = jobs;
    let mut writing = tokio::task::JoinSet::new();
    while let Some((first, person)) = jobs.pop() {
        let (server, room) = (server.clone(), room.clone());
        writing.spawn(async move {
            let mut client = Client::new(&server, &person);
            for number in (first..messages).step_by(writers) {
                client.send_patiently(&room, &format!("l{number}"), &text(number)).await?;
            }
            Ok::<_, CallError>(())
        });
    }
    while let Some(done) = writing.join_next().await {
        done.expect("a writer does not panic and is not cancelled")?;
    }
    eprintln!("{messages} messages were written in {:.0} s", began.elapsed().as_secs_f64());
    // Servers index behind; the last message tells when they are done.
    let reader = people[0].clone();
    let last = format!("unique{}", messages - 1);
    let found = in_parallel(vec![reader.clone()], move |person: Person| {
        let (server, last) = (server.clone(), last.clone());
        async move {
            let mut client = Client::new(&server, &person);
            for _ in 0..600 {
                if ask(&mut client, &last).await? > 0 {
                    return Ok(true);
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Ok(false)
        }
    });
    match found.await?.first() {
        Some(true) => Ok(Library { reader, messages }),
        _ => Err(CallError::Incomplete(messages - 1, messages, "messages that can be found")),
    }
}

async fn ask(client: &mut Client, term: &str) -> Result<u64, CallError> {
    let body = json!({ "search_categories": { "room_events": { "search_term": term, "order_by": "recent" } } });
    let answer = client.call("POST", "/_matrix/client/v3/search", &body.to_string()).await?;
    let answer: Value = serde_json::from_slice(answer).map_err(|error| CallError::Unreadable("search", error))?;
    Ok(answer["search_categories"]["room_events"]["count"].as_u64().unwrap_or(0))
}

/// `search`.
pub async fn search(world: &mut World) -> Result<Line, CallError> {
    let library = match &world.library {
        Some(library) => library.clone(),
        None => fill(world).await?,
    };
    world.library = Some(library.clone());
    let mut client = world.client(&library.reader);
    let mut tally = Tally::default();
    let meter = world.meter("search");
    let until = Instant::now() + world.sizes.duration();
    for number in 0..world.sizes.ops as usize {
        let at = number.wrapping_mul(7_919) % library.messages;
        let term = match number % 3 {
            0 => format!("unique{at}"),
            1 => format!("century{}", at % 100),
            _ => "everyday wort5".to_owned(),
        };
        let began = Instant::now();
        match ask(&mut client, &term).await {
            Ok(0) if number % 3 == 0 => tally.fail(&format!("nothing was found for {term}")),
            Ok(_) => tally.latencies.push(began.elapsed()),
            Err(error) => tally.fail(&error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    Ok(meter.finish(tally).with("messages", library.messages as f64))
}
