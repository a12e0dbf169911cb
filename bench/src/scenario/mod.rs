//! The scenarios: what each does is told atop its file, and for users in `bench/README.md`.
//!
//! Every scenario prepares what it needs (once per server, not measured), measures, and gives one [`Line`].

pub mod delivery;
pub mod history;
pub mod idle;
pub mod keys;
pub mod membership;
pub mod push;
pub mod rooms;
pub mod search;
pub mod sliding;
pub mod sync;

use crate::matrix::CallError;
use crate::meter::Line;
use crate::world::World;

/// What can be measured, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// The server rests: memory, and CPU per second.
    Idle,
    /// Messages as fast as 32 senders get their answers.
    Send,
    /// Messages at a fixed offered rate.
    SendRate,
    /// From sending a message to reading it from `/sync`.
    Seen,
    /// One sender, 200 readers at `/sync`.
    Fanout,
    /// Initial sync of an account in 500 rooms.
    SyncMany,
    /// Initial sync of an account in 20 rooms.
    SyncFew,
    /// Pages of 50 messages, backwards.
    Page,
    /// Creating rooms.
    Create,
    /// Joining rooms.
    Join,
    /// The first answer of sliding sync to an account in 5,000 rooms.
    FirstScreen,
    /// A waiting device is woken, while one other waits.
    #[value(name = "wake-1")]
    Wake1,
    /// The same while 100 others wait.
    #[value(name = "wake-100")]
    Wake100,
    /// The same while 1,000 others wait.
    #[value(name = "wake-1000")]
    Wake1000,
    /// Memory of connections that wait for nothing.
    IdleSync,
    /// What a device uploads after its login: device keys, one-time keys, a fallback key.
    KeyUpload,
    /// The devices of 1,000 users in one question.
    KeyQuery,
    /// One-time keys of one device, claimed by fifty at once.
    KeyClaim,
    /// A message to each of 1,000 devices in one request.
    ToDevice,
    /// Words in many messages.
    Search,
    /// Notifications to a push gateway, 1,000 a second.
    Push,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Idle,
        Self::Send,
        Self::SendRate,
        Self::Seen,
        Self::Fanout,
        Self::SyncMany,
        Self::SyncFew,
        Self::Page,
        Self::Create,
        Self::Join,
        Self::FirstScreen,
        Self::Wake1,
        Self::Wake100,
        Self::Wake1000,
        Self::IdleSync,
        Self::KeyUpload,
        Self::KeyQuery,
        Self::KeyClaim,
        Self::ToDevice,
        Self::Search,
        Self::Push,
    ];

    /// What clients of today ask for beside messages and rooms; prepared at some length.
    pub const CLIENTS: [Self; 12] = [
        Self::FirstScreen,
        Self::Wake1,
        Self::Wake100,
        Self::Wake1000,
        Self::IdleSync,
        Self::SyncMany,
        Self::KeyUpload,
        Self::KeyQuery,
        Self::KeyClaim,
        Self::ToDevice,
        Self::Search,
        Self::Push,
    ];

    /// What is measured when nothing is said.
    pub const USUAL: [Self; 10] = [
        Self::Idle,
        Self::Send,
        Self::SendRate,
        Self::Seen,
        Self::Fanout,
        Self::SyncMany,
        Self::SyncFew,
        Self::Page,
        Self::Create,
        Self::Join,
    ];

    /// Name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Send => "send",
            Self::SendRate => "send-rate",
            Self::Seen => "seen",
            Self::Fanout => "fanout",
            Self::SyncMany => "sync-many",
            Self::SyncFew => "sync-few",
            Self::Page => "page",
            Self::Create => "create",
            Self::Join => "join",
            Self::FirstScreen => "first-screen",
            Self::Wake1 => "wake-1",
            Self::Wake100 => "wake-100",
            Self::Wake1000 => "wake-1000",
            Self::IdleSync => "idle-sync",
            Self::KeyUpload => "key-upload",
            Self::KeyQuery => "key-query",
            Self::KeyClaim => "key-claim",
            Self::ToDevice => "to-device",
            Self::Search => "search",
            Self::Push => "push",
        }
    }

    /// Prepares and measures.
    pub async fn run(self, world: &mut World) -> Result<Line, CallError> {
        match self {
            Self::Idle => Ok(idle::rest(world).await),
            Self::Send => rooms::send(world).await,
            Self::SendRate => rooms::send_at_rate(world).await,
            Self::Seen => delivery::seen(world).await,
            Self::Fanout => delivery::fanout(world).await,
            Self::SyncMany => sync::initial_many(world).await,
            Self::SyncFew => sync::initial_few(world).await,
            Self::Page => history::page(world).await,
            Self::Create => membership::create(world).await,
            Self::Join => membership::join(world).await,
            Self::FirstScreen => sliding::first_screen(world).await,
            Self::Wake1 => sliding::wake(world, "wake-1", 1).await,
            Self::Wake100 => sliding::wake(world, "wake-100", 100).await,
            Self::Wake1000 => sliding::wake(world, "wake-1000", 1_000).await,
            Self::IdleSync => sliding::idle(world).await,
            Self::KeyUpload => keys::upload(world).await,
            Self::KeyQuery => keys::query(world).await,
            Self::KeyClaim => keys::claim(world).await,
            Self::ToDevice => keys::to_device(world).await,
            Self::Search => search::search(world).await,
            Self::Push => push::push(world).await,
        }
    }
}
