//! `koine local`: a server for this machine alone, without configuration; for trying things and for tests.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use koine_account::{LimitConfig, Registration};
use rand::{Rng as _, distr::Alphanumeric};
use ruma_common::OwnedServerName;

use crate::{
    config::{Config, ListenerConfig},
    demo::{self, Demo},
    program::{Program, Server, StartError},
    xmpp::ComponentConfig,
};

/// Ports without `--port-base`.
const PORTS: Ports = Ports {
    plain: 8008,
    tls: 8448,
    metrics: 9008,
    xmpp: 5222,
    xmpp_tls: 5223,
    xmpp_server: 5269,
    xmpp_server_tls: 5270,
    component: 5347,
    bytestreams: 7777,
    smtp: 2525,
    lmtp: 2424,
};

/// Runs a server for this machine alone: no configuration, open registration, two accounts and a room to begin with
#[derive(Debug, Args)]
pub struct Local {
    /// Keep the data in a temporary folder, which is removed in the end
    #[arg(long)]
    ephemeral: bool,
    /// Where the data is kept
    #[arg(long, value_name = "DIR", default_value = "koine-data", conflicts_with = "ephemeral")]
    data_dir: PathBuf,
    /// The name in ids. [default: localhost, with --port-base localhost:<TLS port>]
    #[arg(long, value_name = "NAME")]
    server_name: Option<OwnedServerName>,
    /// Listen on N (plain), N+1 (TLS), N+2 (metrics), N+3 and N+4 (XMPP), N+5 and N+6 (its servers), N+7 (its components), N+8
    /// (SMTP), N+9 (LMTP) and N+10 (XMPP's streams of bytes) instead of 8008, 8448, 9008, 5222, 5223, 5269, 5270, 5347, 2525,
    /// 2424 and 7777
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65525))]
    port_base: Option<u16>,
    /// Make no accounts and no room
    #[arg(long)]
    no_demo: bool,
    /// Certificate chain to use instead of a self-made one (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File with the certificates of authorities (PEM) that other servers of this machine are believed by
    #[arg(long, value_name = "FILE")]
    federation_ca: Option<PathBuf>,
    /// Where another server of this machine is, as hs2=127.0.0.1:8449, so that its name need not be in DNS
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = server_at)]
    server_at: Vec<(String, String)>,
    /// A component of XMPP, as irc.localhost=secret
    #[arg(long, value_name = "HOST=SECRET", value_parser = component)]
    component: Vec<(String, String)>,
    /// Join rooms of other servers without waiting for their members (`federation.partial_joins`)
    #[arg(long)]
    partial_joins: bool,
    /// A registration of an application service (YAML), as `appservices.registrations` has them
    #[arg(long, value_name = "FILE")]
    appservice: Vec<PathBuf>,
    /// Let programs that know this secret make accounts at /_synapse/admin/v1/register. For tests
    #[arg(long, value_name = "SECRET")]
    registration_shared_secret: Option<String>,
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    tls: u16,
    metrics: u16,
    xmpp: u16,
    xmpp_tls: u16,
    xmpp_server: u16,
    xmpp_server_tls: u16,
    component: u16,
    bytestreams: u16,
    smtp: u16,
    lmtp: u16,
}

impl Ports {
    fn from(base: u16) -> Self {
        Self {
            plain: base,
            tls: base + 1,
            metrics: base + 2,
            xmpp: base + 3,
            xmpp_tls: base + 4,
            xmpp_server: base + 5,
            xmpp_server_tls: base + 6,
            component: base + 7,
            bytestreams: base + 10,
            smtp: base + 8,
            lmtp: base + 9,
        }
    }

    fn listeners(self, host: IpAddr) -> [ListenerConfig; 9] {
        let listener = |port, tls| ListenerConfig::new(SocketAddr::from((host, port)), tls);
        let xmpp = |port, tls| ListenerConfig::xmpp_client(SocketAddr::from((host, port)), tls);
        [
            listener(self.plain, false),
            listener(self.tls, true),
            xmpp(self.xmpp, false),
            xmpp(self.xmpp_tls, true),
            ListenerConfig::xmpp_server(SocketAddr::from((host, self.xmpp_server)), false),
            ListenerConfig::xmpp_server(SocketAddr::from((host, self.xmpp_server_tls)), true),
            ListenerConfig::xmpp_bytestreams(SocketAddr::from((host, self.bytestreams))),
            ListenerConfig::smtp(SocketAddr::from((host, self.smtp))),
            ListenerConfig::lmtp(SocketAddr::from((host, self.lmtp))),
        ]
    }
}

/// The addresses that `localhost` may stand for. Some clients try the one of IPv6 and no other; some machines have none.
fn loopback() -> impl Iterator<Item = IpAddr> {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].into_iter().take(if has_ipv6 {
        2
    } else {
        1
    })
}

impl Local {
    /// What the log shows unless KOINE_LOG says otherwise: the screen belongs to the greeting.
    pub const LOG_FILTER: &'static str = "warn";

    /// Runs until asked to end. `started` is when the program was.
    pub async fn run(self, started: Instant) -> Result<(), StartError> {
        let folder = if self.ephemeral { Folder::temporary()? } else { Folder::Lasting(self.data_dir.clone()) };
        let ports = self.port_base.map_or(PORTS, Ports::from);
        let demo_wanted = !self.no_demo;
        let program = Program::open(self.config(folder.path(), ports))?;
        let server = program.server().clone();
        let demo = match demo_wanted {
            true => demo::prepare(&server).await.unwrap_or_else(|error| {
                tracing::warn!(reason = %error, "no demo accounts");
                None
            }),
            false => None,
        };
        print!(
            "{}",
            Greeting { server: &server, ports, folder: &folder, demo, elapsed: started.elapsed().as_secs_f64() }
        );
        drop(server);
        program.run().await?;
        folder.remove();
        Ok(())
    }

    fn config(self, data_dir: &Path, ports: Ports) -> Config {
        let name = self.server_name.unwrap_or_else(|| match self.port_base {
            Some(_) => {
                OwnedServerName::try_from(format!("localhost:{}", ports.tls)).expect("a name with a port is a name")
            }
            None => OwnedServerName::try_from("localhost").expect("localhost is a name"),
        });
        let mut config = Config::new(name);
        config.data_dir = data_dir.to_owned();
        config.public_base_url = Some(format!("http://localhost:{}", ports.plain));
        config.listeners = loopback().flat_map(|host| ports.listeners(host)).collect();
        config.metrics.address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.metrics));
        config.xmpp.plain_on_loopback = true;
        if !self.component.is_empty() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.component));
            config.listeners.push(ListenerConfig::xmpp_component(address));
            let components = self.component.into_iter().map(|(host, secret)| ComponentConfig { host, secret });
            config.xmpp.components = components.collect();
        }
        config.mail.enabled = true;
        config.mail.outgoing.deliver = koine_mail::out::Deliver::Outbox;
        // Whoever tries things out does not wait a minute.
        config.mail.outgoing.silence_s = 5;
        // Whoever is on this machine may try things out in whatever name; no domain is asked about it.
        config.mail.incoming.trusted_networks = koine_net::guard::LOOPBACK.to_vec();
        config.accounts.registration = Registration::Open;
        config.accounts.limits = LimitConfig::unlimited();
        config.registration_shared_secret = self.registration_shared_secret;
        config.appservices.registrations = self.appservice;
        config.tls.certificate = self.tls_cert;
        config.tls.key = self.tls_key;
        config.federation.network = config.federation.network.with_loopback();
        config.federation.network.extra_authorities = self.federation_ca;
        config.federation.network.static_destinations.extend(self.server_at);
        config.federation.partial_joins = self.partial_joins;
        config
    }
}

/// What it names is checked when the client of other servers is made.
fn server_at(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').ok_or("it is written NAME=ADDRESS")?;
    Ok((name.to_owned(), address.to_owned()))
}

fn component(text: &str) -> Result<(String, String), String> {
    let (host, secret) = text.split_once('=').ok_or("it is written HOST=SECRET")?;
    Ok((host.to_owned(), secret.to_owned()))
}

/// Where the data is.
enum Folder {
    /// Kept.
    Lasting(PathBuf),
    /// Removed in the end.
    Temporary(PathBuf),
}

impl Folder {
    fn temporary() -> io::Result<Self> {
        let name: String = rand::rng().sample_iter(Alphanumeric).take(8).map(char::from).collect();
        let path = std::env::temp_dir().join(format!("koine-{name}"));
        fs::create_dir(&path)?;
        Ok(Self::Temporary(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Lasting(path) | Self::Temporary(path) => path,
        }
    }

    fn remove(self) {
        if let Self::Temporary(path) = self
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), reason = %error, "the temporary folder could not be removed");
        }
    }
}

/// What a person sees first.
struct Greeting<'a> {
    server: &'a Server,
    ports: Ports,
    folder: &'a Folder,
    demo: Option<Demo>,
    elapsed: f64,
}

impl fmt::Display for Greeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, ports, folder, demo, elapsed } = self;
        let name = &server.config.server_name;
        let kept = match folder {
            Folder::Lasting(path) => path.display().to_string(),
            Folder::Temporary(path) => format!("{} (removed in the end)", path.display()),
        };
        writeln!(f, "\n  Koine is ready: {name}, after {elapsed:.2} s\n")?;
        writeln!(f, "  In a client    http://localhost:{}     as the address of the homeserver", ports.plain)?;
        writeln!(f, "  TLS            https://localhost:{}    with a certificate of its own making", ports.tls)?;
        writeln!(f, "  XMPP           localhost:{} with STARTTLS, localhost:{} with TLS", ports.xmpp, ports.xmpp_tls)?;
        writeln!(
            f,
            "  Mail           localhost:{} takes mail for people here (SMTP), localhost:{} too (LMTP)",
            ports.smtp, ports.lmtp
        )?;
        writeln!(f, "  Sent mail      {}     as a Maildir", folder.path().join("outbox").display())?;
        writeln!(f, "  Numbers        http://127.0.0.1:{}/metrics", ports.metrics)?;
        writeln!(f, "  Data           {kept}\n")?;
        if let Some(demo) = demo {
            let width = demo.people.iter().map(|person| person.user_id.as_str().len()).max().unwrap_or_default();
            let width = width.max(demo.room.as_str().len());
            for person in &demo.people {
                writeln!(f, "  Account        {:<width$}   password: {}", person.user_id, person.password)?;
                if let Some(jid) = koine_xmpp::address_of(&person.user_id) {
                    writeln!(f, "                 {jid:<width$}   the same in XMPP")?;
                }
            }
            writeln!(f, "  Room           {:<width$}   both are in it", demo.room)?;
            if !demo.is_new {
                writeln!(f, "                 (as they were made; you may have changed them since)")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "  Everybody on this machine may register. Ctrl-C ends the server.\n")
    }
}
