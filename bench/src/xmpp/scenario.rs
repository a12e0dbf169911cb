//! What is measured. Every scenario makes the people it needs, once per server.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};

use super::peers::Contestant;
use super::stream::{Address, Salted, Stream, session};
use crate::Failure;
use crate::procfs;

/// Sizes.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
pub struct Sizes {
    /// Logins.
    #[arg(long, default_value_t = 300)]
    pub logins: usize,
    /// Pairs who write to each other at once, and messages of each.
    #[arg(long, default_value_t = 10)]
    pub pairs: usize,
    #[arg(long, default_value_t = 300)]
    pub messages: usize,
    /// Messages of one sender that are on their way at once.
    #[arg(long, default_value_t = 8)]
    pub window: usize,
    /// Occupants of the room, and messages said there.
    #[arg(long, default_value_t = 50)]
    pub occupants: usize,
    #[arg(long, default_value_t = 200)]
    pub room_messages: usize,
    /// Pages of 50 read from an archive.
    #[arg(long, default_value_t = 300)]
    pub pages: usize,
    /// Contacts who are told of somebody's presence, and how often it changes.
    #[arg(long, default_value_t = 100)]
    pub contacts: usize,
    #[arg(long, default_value_t = 50)]
    pub presences: usize,
    /// People of whom everybody knows everybody, and how often the presence of all changes at once.
    #[arg(long, default_value_t = 40)]
    #[serde(default)]
    pub crowd: usize,
    #[arg(long, default_value_t = 20)]
    #[serde(default)]
    pub storms: usize,
    /// Sessions that do nothing, one measurement for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 20_000])]
    pub idle: Vec<usize>,
}

/// Accounts that share the idle sessions: no server lets one have thousands.
const IDLE_PER_ACCOUNT: usize = 100;
/// How long a process is left alone between two looks at its memory, and how often it is looked at.
const SETTLING_TIME: Duration = Duration::from_secs(1);
const SETTLING_LOOKS_MAX: usize = 10;
/// Sessions that log in at the same time.
const LOGINS_AT_ONCE: usize = 8;

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    Login,
    Chat,
    Room,
    Archive,
    Presence,
    Storm,
    Idle,
}

impl Scenario {
    /// All there are. The archive that is read is the one that chatting fills.
    pub const ALL: [Self; 7] =
        [Self::Login, Self::Chat, Self::Room, Self::Archive, Self::Presence, Self::Storm, Self::Idle];

    /// For the report.
    pub fn what(self) -> &'static str {
        match self {
            Self::Login => "login (SCRAM-SHA-1, resource bound)",
            Self::Chat => "1:1 message, archived",
            Self::Room => "copy of a message in a room",
            Self::Archive => "archive page of 50",
            Self::Presence => "presence told to one contact",
            Self::Storm => "presence told to one contact, of all at once",
            Self::Idle => "one more idle session",
        }
    }
}

/// What came of one scenario at one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub server: String,
    pub scenario: Scenario,
    /// Operations measured.
    pub count: usize,
    pub elapsed_s: f64,
    /// CPU of the server for one operation.
    pub cpu_ms: f64,
    /// From sending to coming, where one is waited for.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Memory that one operation left.
    pub kb: Option<f64>,
    /// CPU of this tool meanwhile.
    #[serde(default)]
    pub generator_cpu_s: f64,
}

/// CPU and time since it began.
struct Meter {
    pid: u32,
    began: Instant,
    cpu_s: f64,
    generator: Duration,
}

impl Meter {
    fn start(contestant: &Contestant) -> Self {
        let pid = contestant.running.pid();
        Self {
            pid,
            began: Instant::now(),
            cpu_s: procfs::usage(&[pid]).unwrap_or_default().cpu_s,
            generator: procfs::own_cpu(),
        }
    }

    fn line(self, contestant: &Contestant, scenario: Scenario, count: usize, mut took: Vec<Duration>) -> Line {
        let elapsed_s = self.began.elapsed().as_secs_f64();
        let cpu_s = procfs::usage(&[self.pid]).unwrap_or_default().cpu_s - self.cpu_s;
        took.sort_unstable();
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).map(|took| took.as_secs_f64() * 1e3);
        Line {
            server: contestant.participant.name.clone(),
            scenario,
            count,
            elapsed_s,
            cpu_ms: cpu_s * 1e3 / count as f64,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            kb: None,
            generator_cpu_s: procfs::own_cpu().saturating_sub(self.generator).as_secs_f64(),
        }
    }
}

/// Makes accounts that are not there yet.
pub async fn accounts(at: &Address, names: &[String]) -> Result<(), Failure> {
    for name in names {
        let mut stream = Stream::open(at).await?;
        // From an earlier round.
        if let Err(error) = stream.register(name).await
            && !error.to_string().contains("conflict")
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Names of people of one scenario.
fn names(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{of}{number}")).collect()
}

/// A session for each name.
pub async fn sessions(at: &Address, names: &[String]) -> Result<Vec<Stream>, Failure> {
    let mut streams = Vec::with_capacity(names.len());
    for some in names.chunks(LOGINS_AT_ONCE) {
        let logins = some.iter().map(|name| async move { session(at, name, "bench", &mut Salted::default()).await });
        streams.extend(try_join_all(logins).await?);
    }
    Ok(streams)
}

impl Scenario {
    /// Measures it.
    pub async fn run(self, contestant: &Contestant, sizes: &Sizes, round: usize) -> Result<Vec<Line>, Failure> {
        match self {
            Self::Login => login(contestant, sizes).await,
            Self::Chat => chat(contestant, sizes).await,
            Self::Room => room(contestant, sizes, round).await,
            Self::Archive => archive(contestant, sizes).await,
            Self::Presence => presence(contestant, sizes, round).await,
            Self::Storm => storm(contestant, sizes, round).await,
            Self::Idle => idle(contestant, sizes).await,
        }
    }
}

async fn login(contestant: &Contestant, sizes: &Sizes) -> Result<Vec<Line>, Failure> {
    let names = names("login", LOGINS_AT_ONCE);
    accounts(&contestant.at, &names).await?;
    // What it costs a client to begin is its own affair.
    let mut salted: Vec<Salted> = names.iter().map(|_| Salted::default()).collect();
    for (name, salted) in names.iter().zip(&mut salted) {
        session(&contestant.at, name, "warm", salted).await?;
    }
    let each = sizes.logins / LOGINS_AT_ONCE;
    let meter = Meter::start(contestant);
    let people = names.iter().zip(&mut salted).map(|(name, salted)| async move {
        let mut took = Vec::with_capacity(each);
        for number in 0..each {
            let began = Instant::now();
            let mut stream = session(&contestant.at, name, &format!("r{number}"), salted).await?;
            took.push(began.elapsed());
            stream.send("</stream:stream>").await?;
        }
        Ok::<_, Failure>(took)
    });
    let took: Vec<_> = try_join_all(people).await?.concat();
    Ok(vec![meter.line(contestant, Scenario::Login, took.len(), took)])
}

/// A message with its number in it.
pub fn message(to: &str, kind: &str, id: usize) -> String {
    format!(
        "<message to='{to}' type='{kind}' id='m{id}'><body>Number {id}: a sentence as long as most of them are, or a little longer.</body></message>"
    )
}

/// One of these came.
pub fn is_message(stanza: &str) -> bool {
    stanza.starts_with("<message") && stanza.contains("Number")
}

/// Enters a room under a name with that number; the first makes it. [XEP-0045 §enter] [XEP-0045 §createroom-instant]
pub async fn enter(stream: &mut Stream, room: &str, number: usize) -> Result<(), Failure> {
    let muc = "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>";
    stream.send(&format!("<presence to='{room}/n{number}'>{muc}</presence>")).await?;
    stream.until(|stanza| stanza.starts_with("<message") && stanza.contains("<subject")).await?;
    if number == 0 {
        let open =
            "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>";
        stream.ask("open", &format!("<iq type='set' id='open' to='{room}'>{open}</iq>")).await?;
    }
    Ok(())
}

/// Pairs write without waiting for more than the window; then one pair alone, one message after the other.
async fn chat(contestant: &Contestant, sizes: &Sizes) -> Result<Vec<Line>, Failure> {
    let (writers, readers) = (names("writer", sizes.pairs), names("reader", sizes.pairs));
    accounts(&contestant.at, &[writers.clone(), readers.clone()].concat()).await?;
    let mut from = sessions(&contestant.at, &writers).await?;
    let mut to = sessions(&contestant.at, &readers).await?;
    for stream in from.iter_mut().chain(&mut to) {
        stream.send("<presence/>").await?;
        stream.until(|stanza| stanza.starts_with("<presence")).await?;
    }
    // The first makes the conversation.
    for (from, to) in from.iter_mut().zip(&mut to) {
        from.send(&message(to.jid.split('/').next().unwrap_or_default(), "chat", 0)).await?;
        to.count(1, is_message).await?;
    }
    let meter = Meter::start(contestant);
    let pairs = from.iter_mut().zip(&mut to).map(|(from, to)| async move {
        let address = to.jid.split('/').next().unwrap_or_default().to_owned();
        let (mut sent, mut came) = (0, 0);
        while came < sizes.messages {
            while sent < sizes.messages && sent - came < sizes.window {
                from.send(&message(&address, "chat", sent)).await?;
                sent += 1;
            }
            to.count(1, is_message).await?;
            came += 1;
        }
        Ok::<_, Failure>(())
    });
    try_join_all(pairs).await?;
    let mut line = meter.line(contestant, Scenario::Chat, sizes.pairs * sizes.messages, Vec::new());
    let mut took = Vec::new();
    let address = to[0].jid.split('/').next().unwrap_or_default().to_owned();
    for number in 0..sizes.messages {
        let began = Instant::now();
        from[0].send(&message(&address, "chat", number)).await?;
        to[0].count(1, is_message).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).map(|took| took.as_secs_f64() * 1e3);
    (line.p50_ms, line.p99_ms) = (at(0.5), at(0.99));
    Ok(vec![line])
}

async fn room(contestant: &Contestant, sizes: &Sizes, round: usize) -> Result<Vec<Line>, Failure> {
    let names = names("occupant", sizes.occupants);
    accounts(&contestant.at, &names).await?;
    let mut streams = sessions(&contestant.at, &names).await?;
    let address = format!("hall{round}@{}", contestant.at.rooms);
    for (number, stream) in streams.iter_mut().enumerate() {
        enter(stream, &address, number).await?;
    }
    let meter = Meter::start(contestant);
    let mut took = Vec::new();
    for number in 0..sizes.room_messages {
        let began = Instant::now();
        let speaker = number % streams.len();
        streams[speaker].send(&message(&address, "groupchat", number)).await?;
        for came in join_all(streams.iter_mut().map(|stream| stream.count(1, is_message))).await {
            took.push(came?[0].duration_since(began));
        }
    }
    let copies = sizes.room_messages * streams.len();
    Ok(vec![meter.line(contestant, Scenario::Room, copies, took)])
}

/// The archive that [`chat`] has filled, read by one of those who wrote.
async fn archive(contestant: &Contestant, sizes: &Sizes) -> Result<Vec<Line>, Failure> {
    let mut reader = session(&contestant.at, "writer0", "archive", &mut Salted::default()).await?;
    let with = format!("reader0@{}", contestant.at.domain);
    let meter = Meter::start(contestant);
    let (mut took, mut before) = (Vec::new(), String::new());
    for number in 0..sizes.pages {
        let form = format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field><field var='with'><value>{with}</value></field></x>"
        );
        let page = format!("<set xmlns='http://jabber.org/protocol/rsm'><max>50</max><before>{before}</before></set>");
        let began = Instant::now();
        let xml = format!("<iq type='set' id='p{number}'><query xmlns='urn:xmpp:mam:2'>{form}{page}</query></iq>");
        let answer = reader.ask(&format!("p{number}"), &xml).await?;
        took.push(began.elapsed());
        // Back to the newest from the oldest page.
        let is_over = answer.contains("complete='true'") || answer.contains("complete=\"true\"");
        let first = answer.split_once("<first").and_then(|(_, rest)| rest.split_once('>')?.1.split('<').next());
        before = if is_over { String::new() } else { first.unwrap_or_default().to_owned() };
    }
    Ok(vec![meter.line(contestant, Scenario::Archive, sizes.pages, took)])
}

/// Whether a stanza is a presence from an address.
fn is_presence(stanza: &str, from: &str) -> bool {
    let head = stanza.split('>').next().unwrap_or_default();
    let said = [format!("from='{from}'"), format!("from=\"{from}\"")];
    head.starts_with("<presence") && said.iter().any(|said| head.contains(said.as_str()))
}

/// Somebody whom many know goes and comes.
async fn presence(contestant: &Contestant, sizes: &Sizes, round: usize) -> Result<Vec<Line>, Failure> {
    // Others in each round: who knows somebody already need not ask again.
    let known = vec![format!("known-{round}")];
    let knowing = names(&format!("contact-{round}-"), sizes.contacts);
    accounts(&contestant.at, &[known.clone(), knowing.clone()].concat()).await?;
    let mut center = sessions(&contestant.at, &known).await?.remove(0);
    let mut contacts = sessions(&contestant.at, &knowing).await?;
    let address = center.jid.split('/').next().unwrap_or_default().to_owned();
    center.ask("r", "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").await?;
    center.send("<presence/>").await?;
    for contact in &mut contacts {
        contact.send("<presence/>").await?;
        contact.send(&format!("<presence to='{address}' type='subscribe'/>")).await?;
        let bare = contact.jid.split('/').next().unwrap_or_default().to_owned();
        // Not every server remembers a yes that comes before the question.
        center.until(|stanza| is_presence(stanza, &bare) && stanza.contains("subscribe")).await?;
        center.send(&format!("<presence to='{bare}' type='subscribed'/>")).await?;
        contact.until(|stanza| is_presence(stanza, &center.jid)).await?;
    }
    let meter = Meter::start(contestant);
    let mut took = Vec::new();
    for number in 0..sizes.presences {
        let began = Instant::now();
        center.send(&format!("<presence><status>Change {number}.</status></presence>")).await?;
        let mark = format!("Change {number}.");
        let told = |stanza: &str| stanza.starts_with("<presence") && stanza.contains(&mark);
        for came in join_all(contacts.iter_mut().map(|contact| contact.count(1, told))).await {
            took.push(came?[0].duration_since(began));
        }
    }
    Ok(vec![meter.line(contestant, Scenario::Presence, sizes.presences * contacts.len(), took)])
}

/// Whether a presence asks to be told of the other's.
fn is_question(stanza: &str, from: &str) -> bool {
    let head = stanza.split('>').next().unwrap_or_default();
    is_presence(stanza, from) && (head.contains("type='subscribe'") || head.contains("type=\"subscribe\""))
}

/// `asker` gets to know `other`: asks, is let, and is told that the other is there. [RFC 6121 §3.1]
async fn befriend(asker: &mut Stream, other: &mut Stream) -> Result<(), Failure> {
    let bare = |stream: &Stream| stream.jid.split('/').next().unwrap_or_default().to_owned();
    let (from, to) = (bare(asker), bare(other));
    asker.send(&format!("<presence to='{to}' type='subscribe'/>")).await?;
    other.until(|stanza| is_question(stanza, &from)).await?;
    other.send(&format!("<presence to='{from}' type='subscribed'/>")).await?;
    asker.until(|stanza| is_presence(stanza, &other.jid)).await.map(drop)
}

/// Everybody knows everybody, and all change at once, as when a network comes back.
async fn storm(contestant: &Contestant, sizes: &Sizes, round: usize) -> Result<Vec<Line>, Failure> {
    let names = names(&format!("crowd-{round}-"), sizes.crowd);
    accounts(&contestant.at, &names).await?;
    let mut crowd = sessions(&contestant.at, &names).await?;
    for stream in &mut crowd {
        stream.ask("r", "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").await?;
        stream.send("<presence/>").await?;
        let own = stream.jid.clone();
        stream.until(|stanza| is_presence(stanza, &own)).await?;
    }
    for later in 1..crowd.len() {
        let (earlier, rest) = crowd.split_at_mut(later);
        for other in earlier {
            befriend(&mut rest[0], other).await?;
            befriend(other, &mut rest[0]).await?;
        }
    }
    let others = crowd.len().saturating_sub(1);
    let meter = Meter::start(contestant);
    let mut took = Vec::new();
    for number in 0..sizes.storms {
        let began = Instant::now();
        for stream in &mut crowd {
            stream.send(&format!("<presence><status>Storm {number}.</status></presence>")).await?;
        }
        let mark = format!("Storm {number}.");
        let told = crowd.iter_mut().map(|stream| {
            // One's own is no news.
            let (own, mark) = (stream.jid.clone(), &mark);
            stream.count(others, move |stanza| {
                stanza.starts_with("<presence") && stanza.contains(mark.as_str()) && !is_presence(stanza, &own)
            })
        });
        for came in join_all(told).await {
            took.extend(came?.into_iter().map(|at| at.duration_since(began)));
        }
    }
    Ok(vec![meter.line(contestant, Scenario::Storm, sizes.storms * others * crowd.len(), took)])
}

async fn idle(contestant: &Contestant, sizes: &Sizes) -> Result<Vec<Line>, Failure> {
    let most = sizes.idle.iter().copied().max().unwrap_or(0);
    let names = names("idle", most.div_ceil(IDLE_PER_ACCOUNT));
    accounts(&contestant.at, &names).await?;
    let pid = contestant.running.pid();
    let mut salted: Vec<Salted> = names.iter().map(|_| Salted::default()).collect();
    // What a server needs to begin at all is not the sessions'.
    for number in 0..IDLE_PER_ACCOUNT {
        session(&contestant.at, &names[0], &format!("warm{number}"), &mut salted[0]).await?;
    }
    let mut before_mb = settled_mb(pid).await;
    let (mut held, mut lines) = (Vec::with_capacity(most), Vec::new());
    for wanted in &sizes.idle {
        let meter = Meter::start(contestant);
        let had = held.len();
        while held.len() < *wanted {
            let from = held.len() / IDLE_PER_ACCOUNT;
            let number = held.len() % IDLE_PER_ACCOUNT;
            held.push(session(&contestant.at, &names[from], &format!("i{number}"), &mut salted[from]).await?);
        }
        let more = (held.len() - had).max(1);
        let mut line = meter.line(contestant, Scenario::Idle, more, Vec::new());
        line.count = held.len();
        let now_mb = settled_mb(pid).await;
        line.kb = Some((now_mb - before_mb) * 1e3 / more as f64);
        before_mb = now_mb;
        lines.push(line);
    }
    Ok(lines)
}

/// What a process has resident once that does not change any more.
async fn settled_mb(pid: u32) -> f64 {
    let mut last = procfs::resident_mb(&[pid]).unwrap_or(0.0);
    for _ in 0..SETTLING_LOOKS_MAX {
        tokio::time::sleep(SETTLING_TIME).await;
        let now = procfs::resident_mb(&[pid]).unwrap_or(0.0);
        if (now - last).abs() < now * 0.002 {
            return now;
        }
        last = now;
    }
    last
}
