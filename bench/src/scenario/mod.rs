//! The scenarios: what each does is told atop its file, and for users in `bench/README.md`.
//!
//! Every scenario prepares what it needs (once per server, not measured), measures, and gives one [`Line`].

pub mod delivery;
pub mod history;
pub mod idle;
pub mod membership;
pub mod rooms;
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
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 10] = [
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
        }
    }
}
