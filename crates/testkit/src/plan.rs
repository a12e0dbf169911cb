//! What a seed settles before anything happens: the servers, their people, who does what when, and what befalls the
//! network.

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use ruma_common::RoomVersionId;

use crate::{chance, network::Weather};

/// Most servers of a world.
pub const SERVERS_MAX: usize = 8;
/// Most people of one server.
const PEOPLE_MAX: usize = 3;
/// How long people act.
const STORM: Duration = Duration::from_secs(600);

/// Somebody: the number of their server, and theirs on it. The first of the first made the room; nobody has as much
/// power, so that nobody can be parted from the room for good by two who throw each other out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person(pub usize, pub usize);

impl Person {
    /// Who made the room.
    pub const MAKER: Self = Self(0, 0);
}

/// Something that somebody does in the room.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Says something.
    Say,
    /// Sets one of a few pieces of state: type and state key.
    Set(&'static str, &'static str),
    /// Empties one of the newest messages.
    Redact,
    /// Comes in through this server.
    Join(usize),
    /// Goes.
    Leave,
    /// Asks somebody in.
    Invite(Person),
    /// Throws somebody out.
    Kick(Person),
    /// Shuts somebody out.
    Ban(Person),
    /// Takes that back.
    Unban(Person),
    /// Gives somebody this power.
    Empower(Person, i64),
    /// Sets how much power it takes to set state.
    AskOfState(i64),
    /// Says who may come in.
    OpenDoor(&'static str),
}

/// Something that befalls servers.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// These are cut off from the others.
    CutOff(Vec<usize>),
    /// All reach each other again.
    Heal,
    /// This one crashes, and is back at once.
    Crash(usize),
}

/// Everything that a seed settles.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The version of the room.
    pub version: RoomVersionId,
    /// How many people each server has.
    pub people: Vec<usize>,
    /// Who is in the room from the beginning, with what power.
    pub first: Vec<(Person, i64)>,
    /// What it takes to set state.
    pub state_default: i64,
    /// The weather while people act.
    pub weather: Weather,
    /// Who does what when, counted from the beginning of the storm.
    pub deeds: Vec<(Duration, Person, Deed)>,
    /// What happens to the network when.
    pub mishaps: Vec<(Duration, Mishap)>,
}

impl Plan {
    /// What `seed` settles. Without a version, that is settled too.
    pub fn new(seed: u64, version: Option<RoomVersionId>) -> Self {
        let mut chance = chance::of(seed, "plan");
        let versions = koine_graph::ROOM_VERSIONS;
        let drawn = versions.choose(&mut chance).expect("there are versions").clone();
        let people: Vec<usize> =
            (0..chance.random_range(2..=SERVERS_MAX)).map(|_| chance.random_range(1..=PEOPLE_MAX)).collect();
        let everybody: Vec<Person> = people
            .iter()
            .enumerate()
            .flat_map(|(server, count)| (0..*count).map(move |no| Person(server, no)))
            .collect();
        let mut first = Vec::new();
        for person in everybody.iter().filter(|person| **person != Person::MAKER) {
            if chance.random_bool(0.75) {
                first.push((*person, *[0, 0, 0, 50, 50, 75].choose(&mut chance).expect("not empty")));
            }
        }
        let mut plan = Self {
            seed,
            version: version.unwrap_or(drawn),
            people,
            first,
            state_default: if chance.random_bool(0.5) { 0 } else { 50 },
            weather: Weather {
                delay_ms: (1, *[50, 400, 3_000].choose(&mut chance).expect("not empty")),
                lost: *[0.0, 0.02, 0.2].choose(&mut chance).expect("not empty"),
                unanswered: *[0.0, 0.02, 0.1].choose(&mut chance).expect("not empty"),
                twice: *[0.0, 0.05, 0.3].choose(&mut chance).expect("not empty"),
            },
            deeds: Vec::new(),
            mishaps: Vec::new(),
        };
        plan.draw_deeds(&everybody, &mut chance);
        plan.draw_mishaps(&mut chance);
        plan
    }

    fn draw_deeds(&mut self, everybody: &[Person], chance: &mut StdRng) {
        let mut at = Duration::ZERO;
        for _ in 0..chance.random_range(20..=100) {
            // Bursts, and pauses between them.
            at += Duration::from_millis(match chance.random_bool(0.7) {
                true => chance.random_range(0..200),
                false => chance.random_range(0..15_000),
            });
            let who = *everybody.choose(chance).expect("somebody is there");
            let deed = self.draw_deed(who, everybody, chance);
            self.deeds.push((at.min(STORM), who, deed));
        }
    }

    fn draw_deed(&self, who: Person, everybody: &[Person], chance: &mut StdRng) -> Deed {
        let others: Vec<Person> =
            everybody.iter().copied().filter(|other| *other != Person::MAKER && *other != who).collect();
        let other = others.choose(chance).copied();
        let server = chance.random_range(0..self.people.len());
        let level = *[0, 0, 25, 50, 75].choose(chance).expect("not empty");
        match (chance.random_range(0..100), other) {
            (0..30, _) => Deed::Say,
            (30..40, _) => Deed::Set("m.room.topic", ""),
            (40..46, _) => Deed::Set("m.room.name", ""),
            (46..56, _) => Deed::Set("test.thing", ["a", "b"].choose(chance).expect("not empty")),
            (56..60, _) => Deed::Redact,
            (60..68, _) => Deed::Join(server),
            (68..72, _) if who != Person::MAKER => Deed::Leave,
            (72..76, Some(other)) => Deed::Invite(other),
            (76..80, Some(other)) => Deed::Kick(other),
            (80..85, Some(other)) => Deed::Ban(other),
            (85..88, Some(other)) => Deed::Unban(other),
            (88..94, Some(other)) => Deed::Empower(other, level),
            (94..96, _) => Deed::AskOfState(*[0, 50].choose(chance).expect("not empty")),
            (96..100, _) => Deed::OpenDoor(["public", "public", "invite"].choose(chance).expect("not empty")),
            _ => Deed::Say,
        }
    }

    fn draw_mishaps(&mut self, chance: &mut StdRng) {
        let end = self.deeds.last().map_or(Duration::ZERO, |(at, ..)| *at);
        let servers = self.people.len();
        let mut at = Duration::ZERO;
        loop {
            at += Duration::from_millis(chance.random_range(1_000..60_000));
            if at >= end {
                return;
            }
            if chance.random_bool(0.2) {
                self.mishaps.push((at, Mishap::Crash(chance.random_range(0..servers))));
                continue;
            }
            let island = (0..servers).filter(|_| chance.random_bool(0.4)).collect();
            self.mishaps.push((at, Mishap::CutOff(island)));
            at += Duration::from_millis(chance.random_range(500..90_000));
            self.mishaps.push((at, Mishap::Heal));
        }
    }
}
