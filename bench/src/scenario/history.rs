//! `page`: reading a room of 1,000 messages backwards, 50 at a time, again and again from its end.

use std::time::Instant;

use crate::matrix::{CallError, Client, Person};
use crate::meter::{Line, Tally};
use crate::scenario::rooms::TEXT;
use crate::world::{World, in_parallel};

/// How many people wrote the history, at once.
const WRITERS: usize = 8;

/// A room with a past.
#[derive(Debug, Clone)]
pub struct Archive {
    reader: Person,
    room: String,
}

async fn write(world: &mut World) -> Result<Archive, CallError> {
    let people = world.people("writer", WRITERS).await?;
    let batch = world.fresh();
    let total = world.sizes.scaled(world.sizes.history);
    let (owner, others) = people.split_first().expect("there are writers");
    let room = world.client(owner).create_room_patiently("An archive").await?;
    for person in others {
        world.client(person).join_patiently(&room).await?;
    }
    let (server, id) = (world.server.clone(), room.clone());
    let share = total.div_ceil(people.len());
    in_parallel(people.clone(), move |person: Person| {
        let (server, room) = (server.clone(), id.clone());
        async move {
            let mut client = Client::new(&server, &person);
            for number in 0..share {
                client.send_patiently(&room, &format!("h{batch}-{number}"), TEXT).await?;
            }
            Ok(())
        }
    })
    .await?;
    Ok(Archive { reader: owner.clone(), room })
}

/// `page`.
pub async fn page(world: &mut World) -> Result<Line, CallError> {
    let archive = match &world.archive {
        Some(archive) => archive.clone(),
        None => write(world).await?,
    };
    world.archive = Some(archive.clone());
    let mut client = world.client(&archive.reader);
    let full_pages = world.sizes.scaled(world.sizes.history) / world.sizes.page;
    let mut tally = Tally::default();
    let mut from: Option<String> = None;
    let mut pages_read = 0;
    let meter = world.meter("page");
    let until = Instant::now() + world.sizes.duration();
    for _ in 0..world.sizes.ops {
        let asked = Instant::now();
        match client.page(&archive.room, from.as_deref(), world.sizes.page).await {
            Ok(page) if page.chunk.len() < world.sizes.page && pages_read < full_pages => {
                return Err(CallError::Incomplete(page.chunk.len(), world.sizes.page, "events of a page"));
            }
            Ok(page) => {
                tally.latencies.push(asked.elapsed());
                pages_read += 1;
                // Only full pages count: before the room's beginning is reached, start again at its end.
                from = page.end.filter(|_| pages_read < full_pages);
            }
            Err(error) => {
                tally.fail(&error);
                from = None;
            }
        }
        if from.is_none() {
            pages_read = 0;
        }
        if Instant::now() >= until {
            break;
        }
    }
    Ok(meter.finish(tally).with("page", world.sizes.page as f64))
}
