//! A server in memory that takes mail over a real connection: what tests of this crate begin with.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use koine_account::{AccountConfig, Accounts, LimitConfig, NewAccount, PasswordConfig, Registration};
use koine_graph::SigningKey;
use koine_media::Media;
use koine_room::{CreateRoom, Membership, Preset, Profile, Room, Rooms, RoomsConfig};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};

use crate::{Cores, Dialect, Dns, Encryption, Mail, MailConfig, Peer};

/// Longest that a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server.
pub(crate) struct World {
    pub(crate) mail: Mail,
    _folder: tempfile::TempDir,
    closing: watch::Sender<bool>,
}

/// A connection to it.
pub(crate) struct Client {
    stream: TcpStream,
}

impl World {
    /// One that believes whoever connects.
    pub(crate) fn new() -> Self {
        let mut config = MailConfig::default();
        config.incoming.trusted_networks = koine_net::guard::LOOPBACK.to_vec();
        Self::with(config)
    }

    pub(crate) fn with(config: MailConfig) -> Self {
        let passwords = PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4096 };
        let accounts = AccountConfig {
            passwords,
            registration: Registration::Open,
            limits: LimitConfig::unlimited(),
            ..AccountConfig::default()
        };
        let domain = DomainId(1);
        let server_name: OwnedServerName = "example.org".try_into().expect("a server name");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let accounts = Accounts::new(shard.clone(), domain, server_name.clone(), accounts, clock);
        let rooms = RoomsConfig {
            domain,
            server_name: server_name.clone(),
            signing_key: SigningKey::from_seed("test", &[7; 32]).expect("a valid key id"),
            cache_bytes: 16 * 1024 * 1024,
            now: MilliSecondsSinceUnixEpoch::now,
            opaque_id: koine_room::opaque_id,
        };
        let rooms = Rooms::open(shard.clone(), rooms).expect("an empty store opens");
        let place = koine_media::Place { domain, server_name, folder: folder.path().to_owned() };
        let media = Media::open(shard, place, koine_media::Config::default()).expect("an empty folder opens");
        let dns = Dns::open(config.resolver).expect("a resolver");
        let now = MilliSecondsSinceUnixEpoch::now;
        let mail = Mail::new(Cores { domain, rooms, accounts, media, dns, config, now });
        mail.start();
        Self { mail, _folder: folder, closing: watch::Sender::new(false) }
    }

    /// One that judges who sends: `mail.example` names 192.0.2.1 as its host, of other domains nothing is known.
    pub(crate) async fn judging() -> Self {
        Self::with(MailConfig {
            resolver: Some(names(&[("mail.example", "v=spf1 ip4:192.0.2.1 -all")]).await),
            ..MailConfig::default()
        })
    }

    /// Sends a mail from a host that the author's domain names, or from another; the last answer.
    pub(crate) async fn send_from(&self, is_named: bool, from: &str, to: &[&str], mail: &str) -> String {
        let host = if is_named { [192, 0, 2, 1] } else { [198, 51, 100, 9] };
        let mut client = self.connect_from(Dialect::Smtp, host.into()).await;
        client.greet().await;
        client.mail(from, to, mail).await
    }

    pub(crate) fn core(&self) -> &Arc<crate::core::Core> {
        &self.mail.0
    }

    /// Makes an account.
    pub(crate) async fn person(&self, name: &str) -> OwnedUserId {
        let wanted =
            NewAccount { name: Some(name.to_owned()), password: Some("secret secret".into()), ..NewAccount::default() };
        self.core().accounts().create(wanted).await.expect("the name is free").0
    }

    /// A connection, as if from an address.
    pub(crate) async fn connect_from(&self, dialect: Dialect, address: IpAddr) -> Client {
        let mut client = Client { stream: self.served(Encryption::None, dialect, address).await };
        let greeting = client.answer().await;
        assert!(greeting.starts_with("220") || greeting.starts_with('5'), "{greeting}");
        client
    }

    /// The other end of a connection that is served.
    pub(crate) async fn served(&self, encryption: Encryption, dialect: Dialect, address: IpAddr) -> TcpStream {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound");
        let (mail, closing) = (self.mail.clone(), self.closing.subscribe());
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.expect("the test connects");
            mail.serve(socket, encryption, dialect, Peer { address, closing }).await;
        });
        TcpStream::connect(port).await.expect("it listens")
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_from(Dialect::Smtp, [127, 0, 0, 1].into()).await
    }

    /// Sends a mail; the last answer.
    pub(crate) async fn send(&self, from: &str, to: &[&str], mail: &str) -> String {
        let mut client = self.connect().await;
        client.greet().await;
        client.mail(from, to, mail).await
    }

    /// The room of two.
    pub(crate) fn room(&self, user: &UserId, ghost: &str) -> Option<Arc<Room>> {
        let ghost = UserId::parse(format!("@{ghost}:example.org")).expect("a name");
        let no = self.core().rooms().room_of_two(user, &ghost).expect("the store can be read")?;
        Some(self.core().rooms().room_by_no(no).expect("it is there"))
    }

    /// What was said in a room, oldest first.
    pub(crate) fn said(&self, room: &Room) -> Vec<Value> {
        let newest = room.newest(i64::MIN, i64::MAX, 200).expect("the store can be read");
        let said = newest.into_iter().rev().filter(|placed| placed.event.kind() == "m.room.message");
        said.map(|placed| serde_json::from_str(placed.event.content().get()).expect("JSON")).collect()
    }

    /// Accepts what an account was asked.
    pub(crate) async fn join(&self, user: &UserId, room: &Room) {
        let joined = self.core().rooms().join(user, room.id(), &Profile::default(), None, Map::new()).await;
        joined.expect("they were invited");
    }

    /// Says something in a room; the event.
    pub(crate) async fn say(&self, user: &UserId, room: &Room, body: &str) -> ruma_common::OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).expect("JSON");
        let sender = koine_room::Sender { user, device: None };
        self.core().rooms().send(sender, room.id(), "m.room.message", &content, None).await.expect("it is said")
    }

    /// A room with an address, and what it says of mail.
    pub(crate) async fn room_with_address(&self, creator: &UserId, name: &str, rule: Value) -> Arc<Room> {
        let new = CreateRoom {
            creator: creator.to_owned(),
            profile: Profile::default(),
            version: RoomVersionId::V11,
            preset: Preset::PrivateChat,
            creation_content: Map::new(),
            power_levels: Map::new(),
            initial_state: vec![koine_room::InitialState {
                kind: "koine.mail.room".into(),
                state_key: String::new(),
                content: rule,
            }],
            name: None,
            topic: None,
            alias: Some(format!("#{name}:example.org").try_into().expect("an alias")),
            invite: Vec::new(),
            is_direct: false,
            listed: false,
        };
        let id = self.core().rooms().create(new).await.expect("it can be made");
        self.core().rooms().room(&id).expect("it is there")
    }

    pub(crate) fn membership(&self, room: &Room, user: &str) -> Option<Membership> {
        room.local_membership(&UserId::parse(format!("@{user}:example.org")).expect("a name"))
    }

    /// Every file of the media store.
    pub(crate) fn files(&self) -> usize {
        self.core().cores.media.list(|_| true).expect("the store can be read").len()
    }
}

/// A resolver that knows these texts, and of all other names that there is nothing.
async fn names(texts: &'static [(&'static str, &'static str)]) -> SocketAddr {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut query = [0; 1_500];
        while let Ok((length, asker)) = socket.recv_from(&mut query).await {
            if let Some(answer) = answer(&query[..length], texts) {
                // Whoever asked may be gone.
                let _ = socket.send_to(&answer, asker).await;
            }
        }
    });
    address
}

/// [RFC 1035 §4.1] The question again, with what is known.
fn answer(query: &[u8], texts: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    while let Some(length) = query.get(at).map(|length| usize::from(*length)).filter(|length| *length > 0) {
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let is_text = question.get(question.len() - 4..)? == [0, 16, 0, 1];
    let text = texts.iter().find(|(name, _)| is_text && *name == labels.join(".")).map(|(_, text)| text);
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x85, if text.is_some() { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(text.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    if let Some(text) = text {
        let length = u8::try_from(text.len()).ok()?;
        answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, length + 1, length]);
        answer.extend_from_slice(text.as_bytes());
    }
    Some(answer)
}

impl Client {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // The other side may have had enough.
        let _ = self.stream.write_all(bytes).await;
    }

    /// One answer, all its lines.
    pub(crate) async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let read = async {
            loop {
                match self.stream.read_u8().await {
                    Ok(byte) => answer.push(byte),
                    Err(_) => return,
                }
                let text = String::from_utf8_lossy(&answer);
                let last = text.trim_end_matches("\r\n").rsplit("\r\n").next().unwrap_or_default();
                if text.ends_with("\r\n") && last.as_bytes().get(3) != Some(&b'-') {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer was to come");
        String::from_utf8_lossy(&answer).trim_end().to_owned()
    }

    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.answer().await
    }

    pub(crate) async fn greet(&mut self) {
        let answer = self.ask("EHLO client.example").await;
        assert!(answer.starts_with("250"), "{answer}");
    }

    /// Sends a mail; the last answer.
    pub(crate) async fn mail(&mut self, from: &str, to: &[&str], mail: &str) -> String {
        let answer = self.ask(&format!("MAIL FROM:<{from}>")).await;
        if !answer.starts_with("250") {
            return answer;
        }
        let mut taken = 0;
        let mut last = String::new();
        for to in to {
            last = self.ask(&format!("RCPT TO:<{to}>")).await;
            taken += usize::from(last.starts_with("250"));
        }
        if taken == 0 {
            return last;
        }
        let answer = self.ask("DATA").await;
        assert!(answer.starts_with("354"), "{answer}");
        let mail = mail.replace("\r\n", "\n").replace('\n', "\r\n");
        self.write(format!("{mail}\r\n.\r\n").as_bytes()).await;
        self.answer().await
    }
}
