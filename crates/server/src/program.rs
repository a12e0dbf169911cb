//! The running program: everything opened in order, wired together, and closed in the opposite order.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use koine_account::Accounts;
use koine_matrix_api::{Api, ApiConfig, Cores};
use koine_media::{Media, Previews};
use koine_net::Client;
use koine_push::{PushRules, PusherCores, Pushers};
use koine_room::{Rooms, RoomsConfig};
use koine_store::{DomainId, Shard};
use koine_store_embedded::{EmbeddedConfig, EmbeddedEngine};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName};
use tokio::{sync::mpsc, time::timeout};
use tracing::{info, warn};

use crate::{
    admin::Socket,
    appservices,
    config::{Config, ListenerConfig, Serves},
    federation, housekeeping,
    listener::{
        ListenError, Listener, Services,
        tls::{Certificates, TlsError},
    },
    mail,
    metrics::Metrics,
    process, shared_secret,
    shutdown::{self, GRACE, Shutdown},
    signing_key::{self, KeyFileError},
    xmpp,
};

/// The tenant of the only domain, so far.
pub const DOMAIN: DomainId = DomainId(1);
/// Holds the server's name, so that a data folder is not opened under another one.
pub const NAME_FILE: &str = "server-name";
/// The database within the data folder.
pub const STORE_FOLDER: &str = "store";
/// Uploaded files within the data folder.
pub const MEDIA_FOLDER: &str = "media";

/// Why the program cannot start. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made or written to.
    #[error("cannot use the data folder {}: {reason}; it must be writable for the user that runs koine", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The data belongs to another name.
    #[error("the data folder {} belongs to {there}, not to {wanted}; start it with that name, or choose another folder", path.display())]
    OtherName {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        there: String,
        /// Who wants it.
        wanted: OwnedServerName,
    },
    /// The database.
    #[error("{0}")]
    Engine(#[from] koine_store_embedded::OpenError),
    /// What is in the database.
    #[error("cannot open the store in {}: {reason}", path.display())]
    Store {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: koine_store::OpenError,
    },
    /// The rooms.
    #[error("cannot open the rooms: {0}")]
    Rooms(#[from] koine_room::ReadError),
    /// The pushers.
    #[error("cannot open the pushers: {0}")]
    Pushers(#[from] koine_store::StoreError),
    /// The application services.
    #[error("{0}")]
    Services(#[from] appservices::ServicesError),
    /// The media.
    #[error("{0}")]
    Media(#[from] koine_media::OpenError),
    /// The signing key.
    #[error("{0}")]
    Key(#[from] KeyFileError),
    /// The client of other servers.
    #[error("{0}")]
    Network(#[from] koine_net::SetupError),
    /// XMPP.
    #[error("cannot open what XMPP keeps: {0}")]
    Xmpp(String),
    /// Mail.
    #[error("cannot open mail: {0}")]
    Mail(String),
    /// The certificate.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// A listener.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Signals, the admin socket.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// What admin commands and the first start work with.
pub struct Server {
    /// The configuration in force.
    pub config: Config,
    /// People.
    pub accounts: Arc<Accounts>,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// What they are kept in.
    pub shard: Shard,
    /// Mails that go out, if mail is wanted.
    pub mail: OnceLock<koine_mail::out::Out>,
}

/// A program that is open and reachable, but takes no requests before [`Program::run`].
pub struct Program {
    server: Arc<Server>,
    listeners: Vec<Listener>,
    certificates: Option<Certificates>,
    admin: Option<Socket>,
    announcer: shutdown::Announcer,
    shutdown: Shutdown,
    media: Media,
    previews: Previews,
    /// Closes when the last connection has ended.
    all_ended: mpsc::Receiver<()>,
}

impl Program {
    /// Opens everything. Needs the runtime; blocks for as long as the store takes to open.
    pub fn open(config: Config) -> Result<Self, StartError> {
        let files = process::raise_open_files();
        prepare_folder(&config)?;
        let data_dir = config.data_dir.clone();
        let shard = open_shard(&config)?;
        let server = open_cores(config, shard)?;
        let config = &server.config;
        let metrics = Metrics::new();
        metrics.watch_store(server.shard.clone());
        let (announcer, shutdown) = shutdown::channel();
        let client = Client::new(&config.federation.network)?;
        let media = open_media(&server, client.clone())?;
        let (servers, web) = (client.clone(), client.clone());
        let others = federation::open(&server, media.clone(), &client, &data_dir)?;
        let previews = Previews::new(media.clone(), client.clone());
        let router = router(&server, media.clone(), previews.clone(), client, &metrics, &shutdown)?;
        let watch = |name, endpoint| koine_matrix_api::watched(name, metrics.clone(), endpoint);
        let router = router.merge(koine_matrix_federation::watched_router(others, watch));
        let mail = mail::open(&server, media.clone(), web)?;
        let router = match server.mail.get() {
            Some(out) => router.merge(out.router()),
            None => router,
        };
        let wanted = listeners_wanted(config);
        let in_the_clear = |serves| matches!(serves, Serves::Http | Serves::XmppBytestreams);
        let tls_wanted = wanted.iter().any(|listener| listener.tls || !in_the_clear(listener.serves));
        let certificates = match tls_wanted {
            true => Some(Certificates::open(&config.tls, &data_dir, &certificate_names(config))?),
            false => None,
        };
        let xmpp = xmpp::open(&server, media.clone(), servers, certificates.as_ref())?;
        let router = router.merge(xmpp.router(shutdown.receiver())).merge(xmpp.files());
        let (alive, all_ended) = mpsc::channel(1);
        let open = |listener: &ListenerConfig, services: Services| {
            let (certificates, metrics) = (certificates.clone(), metrics.clone());
            Listener::open(listener.clone(), services, certificates, metrics, shutdown.clone(), alive.clone())
        };
        let services = || Services { router: router.clone(), xmpp: Some(xmpp.clone()), mail: mail.clone() };
        let mut listeners = Vec::new();
        for listener in &wanted {
            listeners.push(open(listener, services())?);
        }
        if config.metrics.enabled {
            let services = Services { router: metrics.clone().router(), xmpp: None, mail: None };
            listeners.push(open(&ListenerConfig::new(config.metrics.address, false), services)?);
        }
        let admin = Socket::open(&data_dir)?;
        info!(server_name = %config.server_name, data_dir = %data_dir.display(), open_files_max = files, "open");
        Ok(Self { server, listeners, certificates, admin, announcer, shutdown, media, previews, all_ended })
    }

    /// What it works with.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Serves until asked to end; requests that run by then are finished.
    pub async fn run(self) -> io::Result<()> {
        let Self { server, listeners, certificates, admin, announcer, shutdown, media, previews, mut all_ended } = self;
        let listening: Vec<_> = listeners.into_iter().map(|listener| tokio::spawn(listener.run())).collect();
        let admin = admin.map(|socket| tokio::spawn(socket.run(server.clone())));
        if let Some(certificates) = certificates {
            tokio::spawn(reload_at_hangup(certificates, shutdown.clone()));
        }
        tokio::spawn(housekeeping::run(server.shard.clone(), server.rooms.clone(), media, previews, shutdown.clone()));
        shutdown::asked_to_end().await?;
        info!("ending: no new requests, those that run are finished");
        announcer.announce();
        for task in listening {
            // A listener that failed has logged why.
            let _ = task.await;
        }
        if timeout(GRACE, all_ended.recv()).await.is_err() {
            warn!("some requests did not end within {} seconds and are cut off", GRACE.as_secs());
        }
        if let Some(admin) = admin {
            admin.abort();
            let _ = admin.await;
        }
        server.shard.close();
        info!("ended");
        Ok(())
    }
}

fn prepare_folder(config: &Config) -> Result<(), StartError> {
    let path = &config.data_dir;
    let refuse = |reason| StartError::DataDir { path: path.clone(), reason };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refuse)?;
    let file = path.join(NAME_FILE);
    let wanted = &config.server_name;
    match fs::read_to_string(&file) {
        Ok(there) if there.trim() == wanted.as_str() => Ok(()),
        Ok(there) => {
            Err(StartError::OtherName { path: path.clone(), there: there.trim().to_owned(), wanted: wanted.clone() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(file, format!("{wanted}\n")).map_err(refuse),
        Err(error) => Err(refuse(error)),
    }
}

fn open_shard(config: &Config) -> Result<Shard, StartError> {
    let path = config.data_dir.join(STORE_FOLDER);
    // Of the memory budget, a quarter is for blocks of the database; the rest is for what was read from them.
    let config = EmbeddedConfig { cache_bytes: config.memory_budget.bytes() / 4, ..EmbeddedConfig::new(&path) };
    let engine = EmbeddedEngine::open(&config)?;
    Shard::open(Arc::new(engine)).map_err(|reason| StartError::Store { path, reason })
}

fn open_cores(config: Config, shard: Shard) -> Result<Arc<Server>, StartError> {
    let signing_key = signing_key::open(&config.data_dir, &mut rand::rng())?;
    let server_name = config.server_name.clone();
    let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
    let accounts = Accounts::new(shard.clone(), DOMAIN, server_name.clone(), config.accounts.clone(), clock);
    let rooms = RoomsConfig {
        domain: DOMAIN,
        server_name,
        signing_key,
        cache_bytes: config.memory_budget.bytes() / 2,
        now: MilliSecondsSinceUnixEpoch::now,
        opaque_id: koine_room::opaque_id,
    };
    let rooms = Rooms::open(shard.clone(), rooms)?;
    Ok(Arc::new(Server { config, accounts, rooms, shard, mail: OnceLock::new() }))
}

fn open_media(server: &Server, client: Client) -> Result<Media, StartError> {
    let place = koine_media::Place {
        domain: DOMAIN,
        server_name: server.config.server_name.clone(),
        folder: server.config.data_dir.join(MEDIA_FOLDER),
    };
    Ok(Media::open_with(server.shard.clone(), place, server.config.media.clone(), Some(client))?)
}

fn router(
    server: &Arc<Server>,
    media: Media,
    previews: Previews,
    client: Client,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) -> Result<axum::Router, StartError> {
    let config = ApiConfig {
        public_base_url: server.config.public_base_url.clone(),
        support: server.config.support.clone(),
        policy_server_key: server.config.policy_server_key.clone(),
        turn: server.config.turn.clone(),
        ..ApiConfig::default()
    };
    let push = Arc::new(PushRules::new(server.accounts.clone()));
    let services = appservices::open(server, client.clone())?;
    let pushers = Pushers::open(PusherCores {
        domain: DOMAIN,
        accounts: server.accounts.clone(),
        rooms: server.rooms.clone(),
        rules: push.clone(),
        web: client,
        now: MilliSecondsSinceUnixEpoch::now,
    })?;
    pushers.start();
    let cores = Cores {
        accounts: server.accounts.clone(),
        rooms: server.rooms.clone(),
        media,
        previews: Some(previews),
        push: push.clone(),
        pushers,
        unread_rules: push,
        services,
        config,
        observer: metrics.clone(),
        closing: shutdown.receiver(),
    };
    let router = koine_matrix_api::router(Api::new(cores));
    Ok(match &server.config.registration_shared_secret {
        Some(secret) => router.merge(shared_secret::router(server.accounts.clone(), secret.as_str().into())),
        None => router,
    })
}

/// The listeners of the configuration, and one for components where there are some and nothing is said of it.
fn listeners_wanted(config: &Config) -> Vec<ListenerConfig> {
    let mut wanted = config.listeners.clone();
    let is_said = wanted.iter().any(|listener| listener.serves == Serves::XmppComponent);
    if !config.xmpp.components.is_empty() && !is_said {
        wanted.push(ListenerConfig::xmpp_component(xmpp::COMPONENT_ADDRESS));
    }
    wanted
}

/// Whom the self-made certificate is for.
fn certificate_names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let own = config.server_name.host().trim_matches(['[', ']']).to_owned();
    if !names.contains(&own) {
        names.push(own);
    }
    names
}

async fn reload_at_hangup(certificates: Certificates, shutdown: Shutdown) {
    let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    let Ok(mut hangup) = hangup else { return };
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            () = shutdown.announced() => return,
        }
        match certificates.reload() {
            Ok(()) => info!("the certificate was read again"),
            Err(error) => warn!(reason = %error, "the certificate could not be read again; the old one stays in use"),
        }
    }
}
