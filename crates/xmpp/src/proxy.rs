//! Streams of bytes between two clients that cannot reach each other: both come here by SOCKS5 (RFC 1928), each names the same
//! meeting, and when the one who asked for it says so, what one sends the other gets. [XEP-0065 §mediated]
//!
//! What is waited for, and how many may wait, is bounded; who may begin is for `xep/bytestreams.rs` to say.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ruma_common::OwnedUserId;
use sha1::{Digest as _, Sha1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    address::household,
    core::{Core, Xmpp},
    stream::Peer,
};

/// Meetings that one or both have come to, and that have not begun. Past it the one that has waited for longest makes room: which
/// of them are of our own people is known only when a stream begins, which it does at once.
const WAITING_MAX: usize = 1_000;
/// The same of those that one address, or network of IPv6, came to first.
const WAITING_PER_ADDRESS_MAX: usize = 20;
/// How long whoever has come waits for the other, and both for the beginning.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long it may take to say which meeting one comes to.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// A stream on which nothing moves for this long is over.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Streams of one account at once.
const STREAMS_PER_ACCOUNT_MAX: usize = 16;
/// Bytes that are on their way in one direction.
const BUFFER_BYTES: usize = 16 * 1024;
/// Most bytes that are dropped of what somebody sent before the beginning.
const EARLY_BYTES_MAX: usize = 256 * 1024;

/// What a meeting is known by. [XEP-0065 §direct-proto-dstaddr]
type Hash = [u8; 20];

/// The hash of a stream's id and the addresses of both, as they name it to SOCKS5.
pub(crate) fn hash_of(id: &str, requester: &str, target: &str) -> Hash {
    Sha1::new().chain_update(id).chain_update(requester).chain_update(target).finalize().into()
}

/// Where clients find it.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The name or address of this machine.
    pub host: String,
    /// The port that takes SOCKS5.
    pub port: u16,
}

/// Who waits for whom.
#[derive(Default)]
pub(crate) struct Meetings {
    waiting: Mutex<HashMap<Hash, Meeting>>,
    serial: AtomicU64,
    /// How many streams an account has.
    running: Mutex<HashMap<OwnedUserId, usize>>,
}

struct Meeting {
    /// Which it is: others may have had the same name.
    serial: u64,
    /// For whom it counts.
    household: Option<IpAddr>,
    state: Attendance,
}

enum Attendance {
    /// The first, who is let go of when the other end of `ended` is dropped.
    One { socket: TcpStream, ended: oneshot::Sender<()> },
    /// Both, whose stream begins with this.
    Both { sockets: Sockets, begin: oneshot::Sender<Begun> },
}

/// The connections of both.
type Sockets = (TcpStream, TcpStream);

/// A stream that begins.
struct Begun {
    sockets: Sockets,
    _running: Running,
}

/// A stream that counts for an account.
pub(crate) struct Running {
    core: Arc<Core>,
    user: OwnedUserId,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.core.meetings.running.lock().entry(self.user.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Why a stream does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// Nobody has come to such a meeting.
    Nobody,
    /// One of them has not come.
    OneAlone,
    /// The account has [`STREAMS_PER_ACCOUNT_MAX`].
    TooMany,
}

/// Begins the stream of a meeting that both have come to.
pub(crate) fn begin(core: &Arc<Core>, user: &OwnedUserId, hash: &Hash) -> Result<(), NotBegun> {
    let mut waiting = core.meetings.waiting.lock();
    match waiting.get(hash) {
        Some(Meeting { state: Attendance::Both { .. }, .. }) => {}
        Some(_) => return Err(NotBegun::OneAlone),
        None => return Err(NotBegun::Nobody),
    }
    let running = {
        let mut all = core.meetings.running.lock();
        let count = all.entry(user.clone()).or_default();
        if *count >= STREAMS_PER_ACCOUNT_MAX {
            return Err(NotBegun::TooMany);
        }
        *count += 1;
        Running { core: core.clone(), user: user.clone() }
    };
    match waiting.remove(hash).map(|meeting| meeting.state) {
        // Whoever waited no longer just now does not take it, and it counts no more.
        Some(Attendance::Both { sockets, begin }) => {
            // What was sent before is for nobody. [XEP-0065 §impl-streamhost] What comes behind the answer is.
            drop_early(&sockets.0);
            drop_early(&sockets.1);
            begin.send(Begun { sockets, _running: running }).map_err(|_| NotBegun::Nobody)
        }
        _ => Err(NotBegun::Nobody),
    }
}

impl Xmpp {
    /// Serves somebody who comes to a meeting, until the stream is over.
    pub async fn serve_bytestream(&self, mut socket: TcpStream, peer: Peer) {
        let core = self.0.clone();
        let mut closing = peer.closing.clone();
        let served = async {
            let household = household(peer.address);
            let greeted = timeout(GREETING_MAX, greet(&mut socket, &core, household)).await;
            let Ok(Ok(hash)) = greeted else {
                tracing::debug!(peer = %peer.address, "somebody who wanted a stream of bytes did not say which");
                return;
            };
            meet(&core, socket, (hash, household)).await;
        };
        tokio::select! {
            () = served => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
}

/// What is answered to a request. [RFC1928 §6]
#[derive(Clone, Copy)]
enum Reply {
    Welcome = 0,
    Refused = 2,
    OtherCommand = 7,
    OtherAddress = 8,
}

/// Learns which meeting somebody comes to. [RFC1928 §3] [XEP-0065 §direct-proto]
async fn greet(socket: &mut TcpStream, core: &Core, household: Option<IpAddr>) -> std::io::Result<Hash> {
    let not_ours = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let [version, methods] = read(socket).await?;
    if version != 5 {
        return Err(not_ours());
    }
    let mut offered = [0; u8::MAX as usize];
    let offered = offered.get_mut(..usize::from(methods)).ok_or_else(not_ours)?;
    socket.read_exact(offered).await?;
    // The name of the meeting is all the proof there is.
    let is_offered = offered.contains(&0);
    socket.write_all(&[5, if is_offered { 0 } else { 0xff }]).await?;
    let [version, command, _, kind] = if is_offered { read(socket).await? } else { return Err(not_ours()) };
    if version != 5 {
        return Err(not_ours());
    }
    if command != 1 {
        return refuse(socket, Reply::OtherCommand).await;
    }
    // Addresses are names here: the hash in hexadecimal digits.
    if kind != 3 {
        return refuse(socket, Reply::OtherAddress).await;
    }
    let [length] = read(socket).await?;
    let mut name = [0; u8::MAX as usize];
    let name = name.get_mut(..usize::from(length)).ok_or_else(not_ours)?;
    socket.read_exact(name).await?;
    let [_, _] = read(socket).await?;
    let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(name).ok().and_then(|hash| Hash::try_from(hash).ok());
    let Some(hash) = hash else { return refuse(socket, Reply::OtherAddress).await };
    let has_room = {
        let waiting = core.meetings.waiting.lock();
        match waiting.get(&hash) {
            None => has_room(&waiting, household),
            Some(meeting) => matches!(meeting.state, Attendance::One { .. }),
        }
    };
    if !has_room {
        return refuse(socket, Reply::Refused).await;
    }
    let mut reply = vec![5, Reply::Welcome as u8, 0, 3, length];
    reply.extend_from_slice(name);
    reply.extend_from_slice(&[0, 0]);
    socket.write_all(&reply).await?;
    Ok(hash)
}

async fn read<const N: usize>(socket: &mut TcpStream) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn refuse<T>(socket: &mut TcpStream, why: Reply) -> std::io::Result<T> {
    socket.write_all(&[5, why as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Err(std::io::ErrorKind::ConnectionRefused.into())
}

/// What somebody does at a meeting.
enum Part {
    /// The first waits for the second, who takes care of both.
    Waits { serial: u64, over: oneshot::Receiver<()> },
    /// The second waits for the beginning.
    Carries { serial: u64, begun: oneshot::Receiver<Begun>, ended: oneshot::Sender<()> },
    /// There is no room any more.
    Goes,
}

impl Meetings {
    fn arrive(&self, socket: TcpStream, hash: Hash, household: Option<IpAddr>) -> Part {
        let mut waiting = self.waiting.lock();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        match waiting.remove(&hash) {
            None if !has_room(&waiting, household) => Part::Goes,
            None => {
                let longest = waiting.iter().min_by_key(|(_, meeting)| meeting.serial).map(|(hash, _)| *hash);
                if let Some(longest) = longest.filter(|_| waiting.len() >= WAITING_MAX) {
                    waiting.remove(&longest);
                }
                let (ended, over) = oneshot::channel();
                waiting.insert(hash, Meeting { serial, household, state: Attendance::One { socket, ended } });
                Part::Waits { serial, over }
            }
            Some(Meeting { state: Attendance::One { socket: first, ended }, household, .. }) => {
                let (begin, begun) = oneshot::channel();
                let state = Attendance::Both { sockets: (first, socket), begin };
                waiting.insert(hash, Meeting { serial, household, state });
                Part::Carries { serial, begun, ended }
            }
            Some(both) => {
                waiting.insert(hash, both);
                Part::Goes
            }
        }
    }

    /// A meeting is waited for no longer; whether it still was one to wait for.
    fn forget(&self, hash: &Hash, serial: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let is_there = waiting.get(hash).is_some_and(|meeting| meeting.serial == serial);
        is_there && waiting.remove(hash).is_some()
    }
}

/// Whether one more may come from there.
fn has_room(waiting: &HashMap<Hash, Meeting>, household: Option<IpAddr>) -> bool {
    let here = waiting.values().filter(|meeting| household.is_some() && meeting.household == household);
    here.count() < WAITING_PER_ADDRESS_MAX
}

async fn meet(core: &Core, socket: TcpStream, (hash, household): (Hash, Option<IpAddr>)) {
    match core.meetings.arrive(socket, hash, household) {
        Part::Goes => {}
        Part::Waits { serial, mut over } => {
            // The connection counts for as long as the stream lasts that the other takes care of.
            if timeout(WAIT_MAX, &mut over).await.is_err() && !core.meetings.forget(&hash, serial) {
                let _ = over.await;
            }
        }
        Part::Carries { serial, mut begun, ended } => {
            let begun = match timeout(WAIT_MAX, &mut begun).await {
                Ok(begun) => begun.ok(),
                Err(_) if core.meetings.forget(&hash, serial) => None,
                // It began just now.
                Err(_) => begun.await.ok(),
            };
            if let Some(Begun { sockets, _running }) = begun {
                relay(sockets).await;
            }
            drop(ended);
        }
    }
}

/// Brings to each what the other sends, until both have nothing to say, or nothing moves.
async fn relay((first, second): Sockets) {
    let moved = AtomicBool::new(false);
    let (from_first, to_first) = first.into_split();
    let (from_second, to_second) = second.into_split();
    let both = async { tokio::join!(pump(from_first, to_second, &moved), pump(from_second, to_first, &moved)) };
    let quiet = async {
        loop {
            sleep(IDLE_MAX).await;
            if !moved.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    };
    tokio::select! {
        _ = both => {}
        () = quiet => {}
    }
}

/// Drops what somebody has sent so far.
fn drop_early(socket: &TcpStream) {
    let (mut buffer, mut dropped) = ([0; BUFFER_BYTES], 0);
    while dropped < EARLY_BYTES_MAX
        && let Ok(read @ 1..) = socket.try_read(&mut buffer)
    {
        dropped += read;
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, moved: &AtomicBool) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        moved.store(true, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
        moved.store(true, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn strangers_do_not_take_all_places() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (meetings, mut kept) = (Meetings::default(), Vec::new());
        for number in 0..=WAITING_PER_ADDRESS_MAX {
            let socket = TcpStream::connect(address).await.expect("it listens");
            let hash = hash_of(&number.to_string(), "a", "b");
            let part = meetings.arrive(socket, hash, household("2001:db8::1".parse().expect("an address")));
            assert_eq!(matches!(part, Part::Waits { .. }), number < WAITING_PER_ADDRESS_MAX, "{number}");
            kept.push(part);
        }
        let socket = TcpStream::connect(address).await.expect("it listens");
        let other =
            meetings.arrive(socket, hash_of("x", "a", "b"), household("2001:db8:0:1::1".parse().expect("an address")));
        assert!(matches!(other, Part::Waits { .. }));
        // Whom one of those waits for comes in, from wherever.
        let socket = TcpStream::connect(address).await.expect("it listens");
        let second =
            meetings.arrive(socket, hash_of("0", "a", "b"), household("2001:db8::1".parse().expect("an address")));
        assert!(matches!(second, Part::Carries { .. }));
    }
}
