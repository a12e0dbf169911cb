//! A world from its beginning to its judgement.

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
    time::Duration,
};

use koine_room::{CommandError, CreateRoom, Preset, Profile};
use ruma_common::{OwnedRoomId, OwnedServerName, OwnedUserId};
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use crate::{
    agreement::{Count, Side, differences, untold},
    chance, clock,
    deeds::Actor,
    house::House,
    network::{Network, Weather},
    plan::{Deed, Mishap, Person, Plan},
};

/// How long everything may take to become quiet after the storm.
const QUIET_WITHIN: Duration = Duration::from_secs(6 * 3_600);
/// Nothing was asked for so long: it is quiet.
const QUIET: Duration = Duration::from_secs(1_500);
/// How long a message may take to everybody in fine weather.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Pages of history that a server may need to have all of it.
const PAGES_MAX: usize = 200;

/// How a world ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What it was, in a line.
    pub what: String,
    /// What is not as it should be. Empty: all agree.
    pub failures: Vec<String>,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

impl Outcome {
    /// The same for the same course of events.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for line in &self.trace {
            hash.update(line);
        }
        hash.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Lets the world of a plan run its course.
///
/// # Panics
/// If the world cannot even begin.
pub fn simulate(plan: Plan) -> Outcome {
    let began = Arc::new(OnceLock::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .on_thread_start({
            let began = began.clone();
            move || {
                if let Some(began) = began.get() {
                    clock::begin(*began);
                }
            }
        })
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let now = Instant::now();
        clock::begin(*began.get_or_init(|| now));
        chance::begin(plan.seed);
        let world = Arc::new(World::begin(plan).await);
        world.storm().await;
        world.judge().await
    })
}

struct World {
    plan: Plan,
    network: Arc<Network>,
    houses: Vec<House>,
    room: OwnedRoomId,
}

impl World {
    /// The servers, their people, the room, and in it those who are there from the first.
    async fn begin(plan: Plan) -> Self {
        let network = Network::new(plan.seed);
        let houses: Vec<House> =
            (0..plan.people.len()).map(|number| House::new(&network, &format!("s{number}.example"))).collect();
        for (house, count) in houses.iter().zip(&plan.people) {
            for number in 0..*count {
                house.open_account(&name_of(number)).await;
            }
        }
        let maker = houses[0].user(&name_of(0));
        let creators_are_named =
            plan.version.rules().is_some_and(|rules| rules.authorization.explicitly_privilege_room_creators);
        let mut users = Map::new();
        for (Person(server, number), level) in &plan.first {
            users.insert(houses[*server].user(&name_of(*number)).to_string(), json!(level));
        }
        if !creators_are_named {
            users.insert(maker.to_string(), json!(100));
        }
        let power_levels = json!({ "users": users, "state_default": plan.state_default });
        let wanted = CreateRoom {
            creator: maker,
            profile: Profile::default(),
            version: plan.version.clone(),
            preset: Preset::PublicChat,
            creation_content: Map::new(),
            power_levels: power_levels.as_object().cloned().unwrap_or_default(),
            initial_state: vec![],
            name: None,
            topic: None,
            alias: None,
            invite: vec![],
            is_direct: false,
            listed: false,
        };
        let room = houses[0].rooms().create(wanted).await.expect("the room is made");
        let world = Self { plan, network, houses, room };
        world.get_acquainted().await;
        for (person, _) in &world.plan.first {
            world.act(0, *person, &Deed::Join(0)).await;
            sleep(Duration::from_secs(1)).await;
        }
        world
    }

    /// Whoever is asked something learns the keys of who asks. Of a server whose keys nobody could get before it went
    /// away, no event can be believed, and no two servers need agree about it.
    async fn get_acquainted(&self) {
        for house in &self.houses {
            for other in self.houses.iter().filter(|other| other.name() != house.name()) {
                let known = house.rooms().profile_elsewhere(&other.user(&name_of(0))).await;
                assert!(known.is_ok(), "{} does not reach {}", house.name(), other.name());
            }
        }
    }

    fn house(&self, person: Person) -> &House {
        &self.houses[person.0]
    }

    fn user(&self, person: Person) -> OwnedUserId {
        self.house(person).user(&name_of(person.1))
    }

    fn server(&self, number: usize) -> OwnedServerName {
        self.houses[number].name().clone()
    }

    async fn act(&self, number: usize, person: Person, deed: &Deed) {
        let user = self.user(person);
        let actor = Actor {
            rooms: self.house(person).rooms(),
            user: &user,
            room: &self.room,
            name: &|person| self.user(person),
            server: &|number| self.server(number),
        };
        let done = actor.act(deed, number).await;
        let said = done.as_ref().map_or_else(|error| format!("not: {error}"), |()| "done".to_owned());
        self.network.note(&format!("{user} {deed:?} {said}"));
        if let Err(CommandError::Damaged(_) | CommandError::Store(_)) = done {
            self.network.fail(format!("{user} {deed:?}: {said}"));
        }
    }

    /// People act, whatever the network and the servers do.
    async fn storm(self: &Arc<Self>) {
        self.network.set_weather(self.plan.weather);
        let start = Instant::now();
        let mut acting = tokio::task::JoinSet::new();
        for (number, (at, person, deed)) in self.plan.deeds.iter().cloned().enumerate() {
            let world = self.clone();
            acting.spawn(async move {
                tokio::time::sleep_until(start + at).await;
                world.act(number, person, &deed).await;
            });
        }
        for (at, mishap) in self.plan.mishaps.iter().cloned() {
            let world = self.clone();
            acting.spawn(async move {
                tokio::time::sleep_until(start + at).await;
                world.network.note(&format!("{mishap:?}"));
                match mishap {
                    Mishap::CutOff(island) => {
                        world.network.cut_off(island.into_iter().map(|number| world.server(number)));
                    }
                    Mishap::Heal => world.network.cut_off([]),
                    Mishap::Crash(number) => world.houses[number].crash(),
                }
            });
        }
        while let Some(done) = acting.join_next().await {
            if let Err(error) = done {
                self.network.fail(format!("a task of somebody's panicked: {error}"));
            }
        }
        self.network.set_weather(Weather::FINE);
        self.network.cut_off([]);
    }

    /// Waits until nobody asks anybody anything.
    async fn quiet(&self, how_long: Duration) {
        let deadline = Instant::now() + QUIET_WITHIN;
        let mut seen = usize::MAX;
        loop {
            let now = self.network.trace().len();
            if now == seen {
                return;
            }
            seen = now;
            if Instant::now() > deadline {
                self.network.fail("the servers do not come to rest".to_owned());
                return;
            }
            sleep(how_long).await;
        }
    }

    /// The servers that are in the room, the maker's first. Servers that only believe so are told apart.
    fn sides(&self) -> (Vec<Side>, Vec<Side>) {
        let room = |house: &House| house.room(&self.room).filter(|room| room.is_attended());
        let side = |house: &House| room(house).map(|room| Side { server: house.name().clone(), room });
        let all: Vec<Side> = self.houses.iter().filter_map(side).collect();
        let listed = all.first().and_then(|first| first.room.servers().ok()).unwrap_or_default();
        all.into_iter().partition(|side| listed.contains(&side.server))
    }

    /// Everybody says something, so that all branches meet; then the servers are compared.
    async fn judge(&self) -> Outcome {
        self.network.note("the storm is over");
        self.quiet(QUIET).await;
        for round in 0..3 {
            let mut order: Vec<usize> = (0..self.houses.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for number in order {
                let Some(room) = self.houses[number].room(&self.room) else { continue };
                let mut people = room.local_joined();
                people.sort();
                let Some(user) = people.first() else { continue };
                let no = user.localpart().trim_start_matches('u').parse().unwrap_or(0);
                self.act(1_000 + round, Person(number, no), &Deed::Say).await;
                sleep(TOLD_WITHIN).await;
            }
        }
        self.quiet(QUIET).await;
        let (sides, ghosts) = self.sides();
        for side in &sides {
            self.fetch_all(side).await;
        }
        let mut failures = self.network.failures();
        failures.extend(differences(&sides));
        failures.extend(sides.first().into_iter().flat_map(|first| untold(first, &ghosts)));
        let count = sides.first().map_or(Ok(Count::default()), Side::count).unwrap_or_default();
        let gaps: usize = sides.iter().filter_map(|side| side.count().ok()).map(|count| count.gaps).sum();
        let what = format!(
            "version {:<2} {} servers of {} in the room, {} ghosts, {} events, {} soft-failed, {gaps} in gaps, {} lines",
            self.plan.version,
            sides.len(),
            self.houses.len(),
            ghosts.len(),
            count.accepted,
            count.soft_failed,
            self.network.trace().len(),
        );
        Outcome { seed: self.plan.seed, what, failures, trace: self.network.trace() }
    }

    /// Goes back to the room's beginning.
    async fn fetch_all(&self, side: &Side) {
        let Some(house) = self.houses.iter().find(|house| *house.name() == side.server) else { return };
        for _ in 0..PAGES_MAX {
            match house.rooms().fetch_history(&side.room, 50).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.network.fail(format!("{} gets no history: {error}", side.server)),
            }
        }
        self.network.fail(format!("{} finds no end of the history", side.server));
    }
}

fn name_of(number: usize) -> String {
    format!("u{number}")
}
