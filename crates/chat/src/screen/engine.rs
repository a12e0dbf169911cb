//! Between the screen and matrix-sdk: follows the server and the open timeline, does what the screen asks for, and tells what
//! came of it. Nothing here waits on anything that the screen would have to wait for.

use std::{sync::Arc, time::Duration};

use matrix_sdk::{
    RoomState,
    encryption::verification::{SasVerification, VerificationRequest},
    event_handler::{EventHandlerDropGuard, EventHandlerHandle},
    ruma::RoomId,
};
use matrix_sdk_ui::Timeline;
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    follow,
    keep::Kept,
    perform,
    state::{Connection, Effect, Event},
};
use crate::{
    account::Accounts,
    cli::Common,
    commands::{login, opening, verify},
    failure::Failure,
    session::Session,
};

/// Pauses after a connection was lost.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// One long poll.
const POLL: Duration = Duration::from_secs(30);
/// Requests for verification that wait at once.
const ASKED_MAX: usize = 16;

/// A timeline that is followed.
pub struct Open {
    pub timeline: Arc<Timeline>,
    following: AbortHandle,
    _typing: Option<EventHandlerDropGuard>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// A verification that is going on.
#[derive(Default)]
pub struct Verifying {
    pub request: Option<VerificationRequest>,
    pub sas: Option<SasVerification>,
}

/// The engine of one account, or of none yet.
pub struct Engine {
    pub common: Common,
    pub accounts: Accounts,
    pub events: mpsc::Sender<Event>,
    pub session: Option<Arc<Session>>,
    pub open: Option<Open>,
    pub thread: Option<Open>,
    pub verifying: Arc<Mutex<Verifying>>,
    handlers: Vec<EventHandlerHandle>,
    tasks: JoinSet<()>,
}

impl Engine {
    /// With nothing open.
    pub fn new(common: Common, accounts: Accounts, events: mpsc::Sender<Event>) -> Self {
        Self {
            common,
            accounts,
            events,
            session: None,
            open: None,
            thread: None,
            verifying: Arc::default(),
            handlers: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Opens the account that is meant, does what comes, ends when nobody asks any more.
    pub async fn run(mut self, mut effects: mpsc::Receiver<Effect>) {
        match self.accounts.choose(self.common.account.as_deref()) {
            Ok(label) => self.switch(&label).await,
            Err(Failure::NotLoggedIn(_)) => self.tell(Event::NoAccount).await,
            Err(_) => {
                // Several, and none was used last: whoever sits there chooses.
                let labels = self.accounts.labels();
                if let Some(label) = labels.first() {
                    self.switch(&label.clone()).await;
                }
                perform::accounts(&self).await;
            }
        }
        while let Some(effect) = effects.recv().await {
            match effect {
                Effect::Quit => break,
                Effect::Login { server, user, password } => self.log_in(server, user, password).await,
                Effect::Switch { label } => self.switch(&label).await,
                other => perform::perform(&mut self, other).await,
            }
        }
        self.close().await;
    }

    /// News for the screen. If it is gone, so is the reason to tell.
    pub async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    /// Does something beside everything else; failures are told.
    pub fn beside(&mut self, work: impl Future<Output = Result<Option<Event>, Failure>> + Send + 'static) {
        let events = self.events.clone();
        // Finished ones make room.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            let event = match work.await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(failure) => Event::Trouble(failure.to_string()),
            };
            let _ = events.send(event).await;
        });
    }

    async fn close(&mut self) {
        self.open = None;
        self.thread = None;
        self.tasks.shutdown().await;
        if let Some(session) = self.session.take() {
            for handler in self.handlers.drain(..) {
                session.client.remove_event_handler(handler);
            }
        }
    }

    async fn switch(&mut self, label: &str) {
        self.close().await;
        let opened = async {
            let lock = self.accounts.lock(label, self.common.wait)?;
            Session::open(&self.accounts, label, lock, opening(&self.common)).await
        };
        match opened.await {
            Ok(session) => {
                self.accounts.remember(label);
                self.begin(session).await;
            }
            Err(failure) => {
                self.tell(Event::Connection(Connection::Ended("the account could not be opened".to_owned()))).await;
                self.tell(Event::Tell { title: "This account cannot be opened".to_owned(), text: failure.to_string() })
                    .await;
            }
        }
    }

    async fn log_in(&mut self, server: String, user: String, password: String) {
        let server = match login::server_of(&user, Some(server.as_str()).filter(|server| !server.is_empty())) {
            Ok(server) => server,
            Err(failure) => return self.tell(Event::LoginFailed(failure.to_string())).await,
        };
        let wish = login::Wish { user, server, password, label: None, device_name: None, backup: true };
        match login::log_in(wish, &self.accounts, &self.common).await {
            Ok((session, made)) => {
                self.close().await;
                self.begin(session).await;
                if made.recovery_key.is_some() || !made.verified {
                    let title = "You are in".to_owned();
                    self.tell(Event::Tell { title, text: login::describe(&made) }).await;
                }
            }
            Err(failure) => self.tell(Event::LoginFailed(failure.to_string())).await,
        }
    }

    /// Shows what is kept here at once, then follows the server.
    async fn begin(&mut self, session: Session) {
        let session = Arc::new(session);
        self.session = Some(session.clone());
        let kept = Kept::load(&self.accounts, &session.label);
        let known = |room: &String| {
            RoomId::parse(room)
                .ok()
                .and_then(|id| session.client.get_room(&id))
                .is_some_and(|room| room.state() == RoomState::Joined)
        };
        self.tell(Event::Opened {
            label: session.label.clone(),
            user_id: session.client.user_id().map(ToString::to_string).unwrap_or_default(),
            verified: follow::is_verified(&session.client).await,
            room: kept.room.filter(known),
            drafts: kept.drafts,
        })
        .await;
        self.tell(Event::Rooms(follow::rooms(&session.client).await)).await;
        // With --offline what is said waits until the account is opened without it.
        session.client.send_queue().set_enabled(!session.offline).await;
        session.client.send_queue().respawn_tasks_for_rooms_with_unsent_requests().await;
        let (asked, asks) = mpsc::channel(ASKED_MAX);
        self.handlers.extend(verify::listen(&session.client, &asked));
        self.tasks.spawn(follow::asked(asks, self.events.clone()));
        match session.offline {
            true => self.tell(Event::Connection(Connection::Ended("offline, as asked for".to_owned()))).await,
            false => {
                self.tasks.spawn(follow_server(session, self.events.clone()));
            }
        }
    }

    /// Follows a timeline until it is dropped.
    pub fn follow(&mut self, room: &str, thread: bool, timeline: Arc<Timeline>) -> Open {
        let (typing, guard) = match thread {
            true => (None, None),
            false => {
                let (guard, typing) = timeline.room().subscribe_to_typing_notifications();
                (Some(typing), Some(guard))
            }
        };
        let place = follow::Place {
            room: room.to_owned(),
            thread,
            offline: self.session.as_ref().is_some_and(|session| session.offline),
        };
        let following = self.tasks.spawn(follow::timeline(place, timeline.clone(), typing, self.events.clone()));
        Open { timeline, following, _typing: guard }
    }
}

/// Long polls, one after another; what is lost comes back by itself.
async fn follow_server(session: Arc<Session>, events: mpsc::Sender<Event>) {
    let mut pause = PAUSE_MIN;
    let mut patience = Duration::ZERO;
    loop {
        match session.wait_for_news(patience).await {
            Ok(_) => {
                if patience.is_zero() {
                    // What was not sent while the server was away is sent now.
                    session.client.send_queue().set_enabled(true).await;
                }
                patience = POLL;
                pause = PAUSE_MIN;
                let rooms = follow::rooms(&session.client).await;
                let verified = follow::is_verified(&session.client).await;
                for event in [Event::Connection(Connection::Online), Event::Rooms(rooms), Event::Verified(verified)] {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
            Err(failure @ (Failure::NotLoggedIn(_) | Failure::Store(_))) => {
                let _ = events.send(Event::Connection(Connection::Ended(failure.to_string()))).await;
                return;
            }
            Err(failure) => {
                patience = Duration::ZERO;
                let reason = match failure {
                    Failure::Network(reason) => reason,
                    other => other.to_string(),
                };
                if events.send(Event::Connection(Connection::Lost(reason))).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
