//! One server under load and what has been prepared on it: people, rooms, history. Prepared once, used by every round.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use crate::matrix::{self, CallError, Client, Person, Server};
use crate::meter::Meter;
use crate::scenario::{delivery, directory, history, keys, push, rooms, search, sliding, sync};

/// How many preparing requests are under way at once.
const PREPARING_AT_ONCE: usize = 8;

/// Sizes of the scenarios. The defaults are those of the figures the project measures itself against.
#[derive(Debug, Clone, clap::Args, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// Longest measured part of a scenario, in seconds.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Most operations in a measured part.
    #[arg(long, default_value_t = 50_000)]
    pub ops: u64,
    /// Rooms in `send` and `send-rate`.
    #[arg(long, default_value_t = 20)]
    pub rooms: usize,
    /// Senders in `send` and `send-rate`.
    #[arg(long, default_value_t = 32)]
    pub senders: usize,
    /// Members of each of those rooms.
    #[arg(long, default_value_t = 4)]
    pub members: usize,
    /// Messages offered per second in `send-rate`, whether or not earlier ones are answered.
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    /// Pairs of sender and reader in `seen`.
    #[arg(long, default_value_t = 4)]
    pub pairs: usize,
    /// Syncing members in `fanout`.
    #[arg(long, default_value_t = 200)]
    pub fanout: usize,
    /// Rooms of the accounts in `sync`, `next` and `sliding`, one measurement for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 500, 5_000])]
    #[serde(default)]
    pub account_rooms: Vec<usize>,
    /// Messages in each of these rooms; one in accounts of more than 1,000.
    #[arg(long, default_value_t = 5)]
    pub chatter: usize,
    /// Messages in the room of `page`.
    #[arg(long, default_value_t = 1000)]
    pub history: usize,
    /// Messages per page.
    #[arg(long, default_value_t = 50)]
    pub page: usize,
    /// People who join one room at once in `join-storm`.
    #[arg(long, default_value_t = 500)]
    #[serde(default)]
    pub storm: usize,
    /// Public rooms in `directory` and `directory-search`.
    #[arg(long, default_value_t = 1_000)]
    #[serde(default)]
    pub directory: usize,
    /// Sizes of the files in `media-up` and `media-down`, in bytes; not scaled.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 5_000_000])]
    #[serde(default)]
    pub media: Vec<usize>,
    /// Connections in `idle-sync`.
    #[arg(long, default_value_t = 1_000)]
    #[serde(default)]
    pub idle: usize,
    /// Users in `key-query`, devices in `key-upload` and `to-device`.
    #[arg(long, default_value_t = 1_000)]
    #[serde(default)]
    pub keyed: usize,
    /// Keys in `key-claim`; koine keeps 500 of a device.
    #[arg(long, default_value_t = 500)]
    #[serde(default)]
    pub claims: usize,
    /// Messages in `search`.
    #[arg(long, default_value_t = 20_000)]
    #[serde(default)]
    pub searched: usize,
    /// Multiplies the sizes of what is prepared (fanout, account-rooms, storm, directory, history, and what the
    /// scenarios of clients prepare). Below 1 for slow servers and quick looks.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
}

impl Sizes {
    /// `size` at this scale, at least 1.
    pub fn scaled(&self, size: usize) -> usize {
        ((size as f64 * self.scale).round() as usize).max(1)
    }

    /// Longest measured part.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// A server, its process, and what has been prepared there.
#[derive(Debug)]
pub struct World {
    /// Where and who.
    pub server: Server,
    /// The server's processes, each with its descendants; none where they are not known.
    pub pids: Vec<u32>,
    /// How large everything is.
    pub sizes: Sizes,
    prefix: String,
    people: HashMap<&'static str, Vec<Person>>,
    counter: u64,
    /// Rooms of `send` and `send-rate`.
    pub halls: Option<rooms::Halls>,
    /// Rooms of `seen`.
    pub pairs: Option<delivery::Audience>,
    /// Room of `fanout`.
    pub crowd: Option<delivery::Audience>,
    /// Accounts of `sync`, `next` and `sliding`, by how many rooms they are in.
    pub accounts: BTreeMap<usize, sync::Account>,
    /// Room of `page`.
    pub archive: Option<history::Archive>,
    /// Public rooms of `directory`.
    pub directory: Option<directory::Directory>,
    /// Files of `media-down`, by their size.
    pub files: BTreeMap<usize, Vec<String>>,
    /// Those who wait in `wake-N` and `idle-sync`.
    pub waiting: sliding::Waiting,
    /// Room of `wake-N`.
    pub awake: Option<String>,
    /// People with device keys.
    pub keyed: Vec<keys::Keyed>,
    /// Room of `search`.
    pub library: Option<search::Library>,
    /// Room and gateway of `push`.
    pub bells: Option<push::Bells>,
}

impl World {
    /// Nothing prepared yet. Names begin with the time, so that a server can be driven again and again.
    pub fn new(server: Server, pids: Vec<u32>, sizes: Sizes) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            server,
            pids,
            sizes,
            prefix: format!("b{:x}", now.as_millis()),
            people: HashMap::new(),
            counter: 0,
            halls: None,
            pairs: None,
            crowd: None,
            accounts: BTreeMap::new(),
            archive: None,
            directory: None,
            files: BTreeMap::new(),
            waiting: sliding::Waiting::default(),
            awake: None,
            keyed: Vec::new(),
            library: None,
            bells: None,
        }
    }

    /// What the names of this run's people begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Starts measuring.
    pub fn meter(&self, scenario: &str) -> Meter {
        Meter::start(scenario, &self.server.name, &self.pids)
    }

    /// A number nobody had before: for transaction ids and names.
    pub fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A client for `person`.
    pub fn client(&self, person: &Person) -> Client {
        Client::new(&self.server, person)
    }

    /// The first `count` people of a `crew`, registered where they are not yet. Each scenario has a crew of its own:
    /// rooms made in one would otherwise be news to those who sync in another.
    pub async fn people(&mut self, crew: &'static str, count: usize) -> Result<Vec<Person>, CallError> {
        let missing = self.people.get(crew).map_or(0, Vec::len)..count;
        let names: Vec<String> = missing.map(|number| format!("{}-{crew}{number}", self.prefix)).collect();
        let server = self.server.clone();
        let new = in_parallel(names, move |name| {
            let server = server.clone();
            async move { matrix::register(&server, &name).await }
        })
        .await?;
        let people = self.people.entry(crew).or_default();
        people.extend(new);
        Ok(people.iter().take(count).cloned().collect())
    }

    /// One new person who shares no room with anybody.
    pub async fn stranger(&mut self) -> Result<Person, CallError> {
        let number = self.fresh();
        let name = format!("{}s{number}", self.prefix);
        matrix::register(&self.server, &name).await
    }
}

/// Does `work` with every item, a few at a time, and gives the results in the order of the items.
pub async fn in_parallel<T, R, F, Fut>(items: Vec<T>, work: F) -> Result<Vec<R>, CallError>
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<R, CallError>> + Send + 'static,
    R: Send + 'static,
{
    let mut running = JoinSet::new();
    let mut done: Vec<Option<R>> = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        done.push(None);
        let job = work(item);
        running.spawn(async move { (at, job.await) });
        if running.len() >= PREPARING_AT_ONCE {
            take_one(&mut running, &mut done).await?;
        }
    }
    while !running.is_empty() {
        take_one(&mut running, &mut done).await?;
    }
    Ok(done.into_iter().flatten().collect())
}

async fn take_one<R: 'static>(
    running: &mut JoinSet<(usize, Result<R, CallError>)>,
    done: &mut [Option<R>],
) -> Result<(), CallError> {
    if let Some(finished) = running.join_next().await {
        let (at, result) = finished.expect("a job does not panic and is not cancelled");
        done[at] = Some(result?);
    }
    Ok(())
}
