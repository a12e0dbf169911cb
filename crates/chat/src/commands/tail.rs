//! Following a room, or all: what is said from now on, decrypted, with what is to be known about each message.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use matrix_sdk::{Room, deserialized_responses::TimelineEvent, ruma::OwnedRoomId, sync::SyncResponse};
use serde::Serialize;

use super::rooms;
use crate::{
    again,
    cli::seconds,
    event::{self, Line},
    failure::Failure,
    harmless,
    output::Output,
    session::Session,
};

/// One long poll.
const POLL: Duration = Duration::from_secs(30);
/// Messages without a key that are kept in mind, in case it comes.
const WAITING_MAX: usize = 1000;
/// Pauses after a connection was lost.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// `koine-chat tail`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name; all rooms without one.
    pub room: Option<String>,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
    /// End after so many seconds: code 10 if --count was not reached, 0 without --count.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// What came since this device last asked, too.
    #[arg(long)]
    pub missed: bool,
    /// Changes of state, too: names, topics, comings and goings.
    #[arg(long)]
    pub state: bool,
    /// Not what this account says itself.
    #[arg(long)]
    pub no_own: bool,
    /// End with code 6 if something cannot be read.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Serialize)]
struct Ready {
    r#type: &'static str,
}

#[derive(Serialize)]
struct Connection {
    r#type: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Membership {
    r#type: &'static str,
    room_id: String,
    membership: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inviter: Option<String>,
}

/// Follows.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let began = Instant::now();
    let mut follower = Follower { args, session, out, only: None, shown: 0, waiting: VecDeque::new() };
    if args.missed {
        if let Some(wanted) = &args.room {
            follower.only = session.room(wanted).await.ok().map(|room| room.room_id().to_owned());
        }
        let news = session.wait_for_news(Duration::ZERO).await?;
        follower.show(&news).await?;
    } else {
        session.catch_up().await?;
    }
    if let Some(wanted) = &args.room {
        follower.only = Some(session.room(wanted).await?.room_id().to_owned());
    }
    out.say(&Ready { r#type: "ready" }, || "(following; Ctrl-C ends)".to_owned())?;
    tokio::select! {
        ended = follower.follow(began) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

struct Follower<'a> {
    args: &'a Args,
    session: &'a Session,
    out: &'a Output,
    only: Option<OwnedRoomId>,
    shown: u64,
    waiting: VecDeque<(Room, TimelineEvent)>,
}

impl Follower<'_> {
    async fn follow(&mut self, began: Instant) -> Result<(), Failure> {
        let encryption = self.session.client.encryption();
        let mut keys = encryption.room_keys_received_stream().await.map(Box::pin);
        let mut pause = PAUSE_MIN;
        let mut lost = false;
        while !self.is_enough() {
            let left = self.args.timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
            if left == Some(Duration::ZERO) {
                return self.timed_out();
            }
            let patience = left.map_or(POLL, |left| left.min(POLL));
            // A poll is never cut short: what it brings was acknowledged by the next one, and must have been kept.
            let news = self.session.wait_for_news(patience).await;
            match news {
                Ok(news) => {
                    if lost {
                        self.connection("back", None)?;
                    }
                    lost = false;
                    pause = PAUSE_MIN;
                    self.show(&news).await?;
                }
                Err(Failure::Network(reason)) => {
                    if !lost {
                        self.connection("lost", Some(reason))?;
                    }
                    lost = true;
                    tokio::time::sleep(left.map_or(pause, |left| left.min(pause))).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(failure) => return Err(failure),
            }
            if let Some(keys) = &mut keys {
                // Whether any came; which ones does not matter, trying is cheap.
                let mut came = false;
                while let Ok(Some(_)) = tokio::time::timeout(Duration::ZERO, keys.next()).await {
                    came = true;
                }
                if came {
                    self.look_again().await?;
                }
            }
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.args.count.is_some_and(|count| self.shown >= count)
    }

    fn timed_out(&self) -> Result<(), Failure> {
        match self.args.count {
            Some(count) => Err(Failure::TimedOut(format!("{} of {count} messages came in time", self.shown))),
            None => Ok(()),
        }
    }

    fn connection(&self, state: &'static str, reason: Option<String>) -> Result<(), Failure> {
        let line = Connection { r#type: "connection", state, reason };
        self.out.say(&line, || format!("(connection {state})"))
    }

    async fn show(&mut self, news: &SyncResponse) -> Result<(), Failure> {
        for (room_id, update) in &news.rooms.joined {
            let Some(room) = self.followed(room_id) else { continue };
            for event in &update.timeline.events {
                self.one(&room, event).await?;
            }
        }
        for (room_id, update) in &news.rooms.left {
            let Some(room) = self.followed(room_id) else { continue };
            for event in &update.timeline.events {
                self.one(&room, event).await?;
            }
            self.membership(&room).await?;
        }
        for room_id in news.rooms.invited.keys() {
            if let Some(room) = self.followed(room_id) {
                self.membership(&room).await?;
            }
        }
        Ok(())
    }

    fn followed(&self, room_id: &OwnedRoomId) -> Option<Room> {
        match &self.only {
            Some(only) if only != room_id => None,
            _ => self.session.client.get_room(room_id),
        }
    }

    async fn membership(&self, room: &Room) -> Result<(), Failure> {
        let line = rooms::line(room).await;
        let inviter = room.invite_details().await.ok().map(|invite| invite.inviter_id.to_string());
        let line = Membership {
            r#type: "membership",
            room_id: line.room_id,
            membership: line.membership,
            name: line.name,
            inviter,
        };
        self.out.say(&line, || format!("({}: {} {})", line.membership, harmless::line(&line.name), line.room_id))
    }

    async fn one(&mut self, room: &Room, event: &TimelineEvent) -> Result<(), Failure> {
        if self.is_enough() {
            return Ok(());
        }
        let line = event::line(room, event).await;
        if event.kind.is_utd() {
            if self.waiting.len() == WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back((room.clone(), event.clone()));
        }
        if (line.kind == "state" && !self.args.state) || (self.args.no_own && self.is_own(&line)) {
            return Ok(());
        }
        self.say(room, &line).await?;
        self.shown += 1;
        if self.args.strict && line.kind == "undecryptable" {
            return Err(Failure::CannotDecrypt(format!("{} cannot be read: {}", line.event_id, line.encryption.words)));
        }
        Ok(())
    }

    fn is_own(&self, line: &Line) -> bool {
        self.session.client.user_id().is_some_and(|own| own.as_str() == line.sender)
    }

    async fn say(&self, room: &Room, line: &Line) -> Result<(), Failure> {
        let place = match self.only {
            Some(_) => String::new(),
            None => format!("{} | ", harmless::line(&crate::session::name_of(room).await)),
        };
        self.out.say(line, || format!("{place}{}", line.sentence()))
    }

    async fn look_again(&mut self) -> Result<(), Failure> {
        for (room, event) in std::mem::take(&mut self.waiting) {
            match again::decrypt(&room, &event).await {
                Some(read) => {
                    let mut line = event::line(&room, &read).await;
                    line.again = true;
                    self.say(&room, &line).await?;
                }
                None => self.waiting.push_back((room, event)),
            }
        }
        Ok(())
    }
}
