//! The scenarios: what each does is told atop its file, and for users in `bench/README.md`.
//!
//! Every scenario prepares what it needs (once per server, not measured), measures, and gives one [`Line`]. Some are measured
//! at several sizes: each is a [`Step`] of its own, with a name of its own in the reports.

pub mod delivery;
pub mod directory;
pub mod history;
pub mod idle;
pub mod keys;
pub mod media;
pub mod membership;
mod picture;
pub mod push;
pub mod rooms;
pub mod search;
pub mod sliding;
pub mod sync;

use clap::ValueEnum as _;

use crate::matrix::CallError;
use crate::meter::Line;
use crate::world::{Sizes, World};

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
    /// Initial sync of accounts in 10, 500 and 5,000 rooms.
    Sync,
    /// The sync that brings one new message, of the same accounts.
    Next,
    /// The first answer of sliding sync, to the same accounts.
    Sliding,
    /// Pages of 50 messages, backwards.
    Page,
    /// Creating rooms.
    Create,
    /// Joining rooms.
    Join,
    /// Hundreds join one room at once.
    JoinStorm,
    /// The list of public rooms, page by page.
    Directory,
    /// The list of public rooms, searched.
    DirectorySearch,
    /// Files of 100 KB and of 5 MB, up.
    MediaUp,
    /// The same, down.
    MediaDown,
    /// Pictures, uploaded and made small.
    Thumbnail,
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

/// One scenario at one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub scenario: Scenario,
    /// Rooms of the account, or bytes of a file; 0 where the scenario has no size of that kind.
    size: usize,
}

impl Scenario {
    /// What clients of today ask for beside messages and rooms; prepared at some length.
    pub const CLIENTS: [Self; 11] = [
        Self::Sliding,
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

    /// What is measured when nothing is said.
    pub const USUAL: [Self; 17] = [
        Self::Idle,
        Self::Send,
        Self::SendRate,
        Self::Seen,
        Self::Fanout,
        Self::Sync,
        Self::Next,
        Self::Sliding,
        Self::Page,
        Self::Create,
        Self::Join,
        Self::JoinStorm,
        Self::Directory,
        Self::DirectorySearch,
        Self::MediaUp,
        Self::MediaDown,
        Self::Thumbnail,
    ];

    /// Name on the command line, and the beginning of those in reports.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The sizes at which it is measured.
    pub fn steps(self, sizes: &Sizes) -> Vec<Step> {
        let mut at: Vec<usize> = match self {
            Self::Sync | Self::Next | Self::Sliding => {
                sizes.account_rooms.iter().map(|rooms| sizes.scaled(*rooms)).collect()
            }
            Self::MediaUp | Self::MediaDown => sizes.media.clone(),
            _ => vec![0],
        };
        // At a small scale some are the same.
        at.dedup();
        at.into_iter().map(|size| Step { scenario: self, size }).collect()
    }
}

impl Step {
    /// Name in reports.
    pub fn name(self) -> String {
        let name = self.scenario.name();
        match self.scenario {
            Scenario::MediaUp | Scenario::MediaDown => format!("{name}-{}", media::size_in_words(self.size)),
            _ if self.size > 0 => format!("{name}-{}", self.size),
            _ => name,
        }
    }

    /// In how many rooms an account has to be for it.
    pub fn account_rooms(self) -> Option<usize> {
        matches!(self.scenario, Scenario::Sync | Scenario::Next | Scenario::Sliding).then_some(self.size)
    }

    /// Prepares and measures.
    pub async fn run(self, world: &mut World) -> Result<Line, CallError> {
        match self.scenario {
            Scenario::Idle => Ok(idle::rest(world).await),
            Scenario::Send => rooms::send(world).await,
            Scenario::SendRate => rooms::send_at_rate(world).await,
            Scenario::Seen => delivery::seen(world).await,
            Scenario::Fanout => delivery::fanout(world).await,
            Scenario::Sync => sync::initial(world, self.size).await,
            Scenario::Next => sync::next(world, self.size).await,
            Scenario::Sliding => sliding::first_screen(world, self.size).await,
            Scenario::Page => history::page(world).await,
            Scenario::Create => membership::create(world).await,
            Scenario::Join => membership::join(world).await,
            Scenario::JoinStorm => membership::join_storm(world).await,
            Scenario::Directory => directory::page(world).await,
            Scenario::DirectorySearch => directory::search(world).await,
            Scenario::MediaUp => media::up(world, self.size).await,
            Scenario::MediaDown => media::down(world, self.size).await,
            Scenario::Thumbnail => media::thumbnail(world).await,
            Scenario::Wake1 => sliding::wake(world, "wake-1", 1).await,
            Scenario::Wake100 => sliding::wake(world, "wake-100", 100).await,
            Scenario::Wake1000 => sliding::wake(world, "wake-1000", 1_000).await,
            Scenario::IdleSync => sliding::idle(world).await,
            Scenario::KeyUpload => keys::upload(world).await,
            Scenario::KeyQuery => keys::query(world).await,
            Scenario::KeyClaim => keys::claim(world).await,
            Scenario::ToDevice => keys::to_device(world).await,
            Scenario::Search => search::search(world).await,
            Scenario::Push => push::push(world).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn sizes(arguments: &[&str]) -> Sizes {
        let command = Sizes::augment_args(clap::Command::new("bench"));
        let matches = command.try_get_matches_from([&["bench"], arguments].concat()).expect("sizes that are known");
        Sizes::from_arg_matches(&matches).expect("sizes")
    }

    fn named(scenario: Scenario, arguments: &[&str]) -> Vec<String> {
        scenario.steps(&sizes(arguments)).into_iter().map(Step::name).collect()
    }

    #[test]
    fn a_scenario_of_several_sizes_has_a_step_for_each() {
        assert_eq!(named(Scenario::Sync, &[]), ["sync-10", "sync-500", "sync-5000"]);
        assert_eq!(named(Scenario::Next, &["--scale", "0.1"]), ["next-1", "next-50", "next-500"]);
        assert_eq!(named(Scenario::Sliding, &["--account-rooms", "7"]), ["sliding-7"]);
        assert_eq!(named(Scenario::MediaUp, &["--scale", "0.1"]), ["media-up-100kb", "media-up-5mb"]);
        assert_eq!(named(Scenario::JoinStorm, &[]), ["join-storm"]);
    }

    #[test]
    fn sizes_that_are_the_same_at_a_small_scale_are_measured_once() {
        assert_eq!(named(Scenario::Sync, &["--account-rooms", "10,20", "--scale", "0.01"]), ["sync-1"]);
    }

    #[test]
    fn wake_is_named_as_on_the_command_line() {
        assert_eq!(named(Scenario::Wake1000, &[]), ["wake-1000"]);
        assert_eq!(named(Scenario::Idle, &[]), ["idle"]);
    }
}
