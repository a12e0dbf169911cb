//! The last messages of a room, or one message: from the server, or from what is kept here.

use matrix_sdk::{deserialized_responses::TimelineEvent, room::MessagesOptions};
use serde::Serialize;

use super::event_id;
use crate::{again, event, failure::Failure, output::Output, session::Session};

/// Messages at once.
const LIMIT_MAX: u32 = 1000;

/// `koine-chat read`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name.
    pub room: String,
    /// How many events.
    #[arg(long, default_value = "20", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    pub limit: u32,
    /// Those before this place, which a "more" line gave.
    #[arg(long, value_name = "PLACE", conflicts_with = "event")]
    pub before: Option<String>,
    /// This one alone.
    #[arg(long, value_name = "EVENT")]
    pub event: Option<String>,
    /// Changes of state, too.
    #[arg(long)]
    pub state: bool,
    /// End with code 6 if something cannot be read.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Serialize)]
struct More {
    r#type: &'static str,
    before: String,
}

/// Prints, the oldest first.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let mut more = None;
    let mut events: Vec<TimelineEvent> = match (&args.event, session.offline) {
        (Some(wanted), false) => vec![room.load_or_fetch_event(&event_id(wanted)?, None).await?],
        (Some(wanted), true) => {
            let wanted = event_id(wanted)?;
            let (cache, _guard) = room.event_cache().await.map_err(|error| Failure::Store(error.to_string()))?;
            let found = cache.find_event(&wanted).await.map_err(|error| Failure::Store(error.to_string()))?;
            vec![found.ok_or_else(|| Failure::NotFound(format!("{wanted} is not kept here")))?]
        }
        (None, true) => {
            let (cache, _guard) = room.event_cache().await.map_err(|error| Failure::Store(error.to_string()))?;
            let all = cache.events().await.map_err(|error| Failure::Store(error.to_string()))?;
            let skipped = all.len().saturating_sub(args.limit as usize);
            all.into_iter().skip(skipped).collect()
        }
        (None, false) => {
            let mut options = MessagesOptions::backward().from(args.before.as_deref());
            options.limit = args.limit.into();
            let page = room.messages(options).await?;
            more = page.end;
            page.chunk.into_iter().rev().collect()
        }
    };
    if !session.offline {
        // Keys that the backup has are fetched before anybody is told that they are missing.
        session.client.encryption().wait_for_e2ee_initialization_tasks().await;
        again::with_backup(&room, &mut events).await;
    }
    let mut unread = 0;
    for event in &events {
        let line = event::line(&room, event).await;
        if line.kind == "state" && !args.state && args.event.is_none() {
            continue;
        }
        unread += usize::from(line.kind == "undecryptable");
        out.say(&line, || line.sentence())?;
    }
    if let Some(before) = more
        && out.is_json()
    {
        out.say(&More { r#type: "more", before }, String::new)?;
    }
    match args.strict && unread > 0 {
        true => Err(Failure::CannotDecrypt(format!("{unread} of {} events cannot be read", events.len()))),
        false => Ok(()),
    }
}
