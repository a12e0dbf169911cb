//! Carrying mails to where they go: one destination at a time has one connection, and what waits for it goes over that.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use koine_store::{CommitError, StoreError};
use tokio::net::TcpStream;

use super::{
    Out,
    config::{Deliver, SmarthostTls},
    dane::Demand,
    mx::{self, Found, LookupError, NoWay},
    outbox,
    queue::{self, SMARTHOST},
    schedule,
    smtp::{Envelope, Session, SmtpError, Step},
    tables::{ItemRecord, SENT, SentRecord},
};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// Mails over one connection, after which a new one is made.
const MAILS_PER_CONNECTION: u32 = 100;

/// A connection to where the mails of a destination go.
pub(crate) struct Link {
    session: Session,
    /// Which server it is.
    host: String,
    /// How it is talked to.
    how: &'static str,
    mails: u32,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoLink {
    /// For now: what waits goes on waiting.
    Later(String),
    /// For good: every mail for the destination is lost.
    Never { code: String, words: String },
}

/// What became of an attempt.
#[derive(Debug)]
enum Verdict {
    /// It is theirs now.
    Sent,
    /// There is nothing to send any more.
    Void,
    /// At once, over another connection.
    Again,
    /// This mail not now.
    Later(String),
    /// This mail never.
    Never { code: String, words: String, is_nobody: bool },
    /// Nothing for this destination now.
    Closed(String),
}

impl Out {
    /// Works off what waits for a destination, as far as its time has come.
    pub(crate) async fn serve_lane(&self, lane: &str) -> Result<(), CommitError> {
        let mut link = None;
        let served = self.work_off(lane, &mut link).await;
        if let Some(Link { session, .. }) = link {
            session.quit().await;
        }
        served
    }

    async fn work_off(&self, lane: &str, link: &mut Option<Link>) -> Result<(), CommitError> {
        loop {
            let items = self.ready_items(lane, self.now_ms())?;
            if items.is_empty() {
                return self.rest(lane, self.now_ms()).await;
            }
            for (id, item) in items {
                if let Some(other) = self.other_lane(lane, &item) {
                    self.move_to(id, other).await?;
                    continue;
                }
                let verdict = self.attempt(link, id, &item).await?;
                tracing::debug!(peer = lane, mail = id, attempts = item.attempts + 1, ?verdict, "a mail was tried");
                match verdict {
                    Verdict::Sent | Verdict::Void => self.done(id, &item, matches!(verdict, Verdict::Sent)).await?,
                    Verdict::Again => {}
                    Verdict::Later(reason) => {
                        let next_ms = self.now_ms() + schedule::item_wait_ms(item.attempts + 1);
                        self.put_off(id, next_ms, reason).await?;
                    }
                    Verdict::Never { code, words, is_nobody } => {
                        self.failed(id, &sent(&item, self.now_ms()), &code, &words, is_nobody).await?;
                    }
                    Verdict::Closed(reason) => {
                        tracing::info!(peer = lane, %reason, "mails wait for a server");
                        return self.lane_failed(lane, self.now_ms(), reason, schedule::lane_wait_ms).await;
                    }
                }
            }
        }
    }

    /// Where a mail belongs, if the configuration has changed since it was queued.
    fn other_lane(&self, lane: &str, item: &ItemRecord) -> Option<String> {
        match (self.config().deliver, lane) {
            (Deliver::Smarthost, SMARTHOST) => None,
            (Deliver::Smarthost, _) => Some(SMARTHOST.to_owned()),
            (_, SMARTHOST) => {
                Some(item.recipient.rsplit_once('@').map_or_else(String::new, |(_, host)| host.to_owned()))
            }
            _ => None,
        }
    }

    async fn attempt(&self, link: &mut Option<Link>, id: u64, item: &ItemRecord) -> Result<Verdict, CommitError> {
        if self.is_suppressed(&item.recipient)? {
            let words = "nothing is sent to this address any more".to_owned();
            return Ok(Verdict::Never { code: "550 5.1.1".into(), words, is_nobody: false });
        }
        let letter = match self.compose(item).await {
            Ok(Some(letter)) => letter,
            Ok(None) => return Ok(Verdict::Void),
            Err(error) => {
                tracing::error!(mail = id, reason = %error, "a mail could not be written");
                return Ok(Verdict::Later(error.to_string()));
            }
        };
        let from = self.return_address(id);
        if self.config().deliver == Deliver::Outbox {
            let folder = self.outbox_folder();
            let name = format!("{}.{id}.{}", self.now_ms(), self.host());
            return Ok(match outbox::deliver(&folder, name, (&from, &item.recipient), letter.bytes).await {
                Ok(_) => Verdict::Sent,
                Err(error) => Verdict::Closed(format!("the folder {} cannot be written: {error}", folder.display())),
            });
        }
        let signed = match self.keys().await {
            Ok(keys) => keys.sign(&letter.bytes),
            Err(error) => Err(error),
        };
        let mail = match signed {
            Ok(mail) => mail,
            Err(error) => {
                tracing::error!(reason = %error, "mails cannot be signed, and wait");
                return Ok(Verdict::Closed(error));
            }
        };
        let envelope = Envelope { from: &from, to: &ascii_domain(&item.recipient), mail: &mail };
        if link.as_ref().is_some_and(|link| link.mails >= MAILS_PER_CONNECTION)
            && let Some(full) = link.take()
        {
            full.session.quit().await;
        }
        if link.is_none() {
            match self.connect(&item.lane).await {
                Ok(made) => *link = Some(made),
                Err(NoLink::Later(reason)) => return Ok(Verdict::Closed(reason)),
                Err(NoLink::Never { code, words }) => {
                    return Ok(Verdict::Never { is_nobody: code.ends_with("5.1.2"), code, words });
                }
            }
        }
        let Some(open) = link.as_mut() else { return Ok(Verdict::Closed("there is no connection".into())) };
        open.mails += 1;
        let (sent, host) = (open.session.send(&envelope).await, open.host.clone());
        Ok(match sent {
            Ok(_) => Verdict::Sent,
            Err(SmtpError::Broken(reason)) => {
                // A connection that served others before may just have been let go: that is nobody's fault.
                let (first, unsure) = (open.mails == 1, open.session.may_have_taken());
                *link = None;
                match (first, unsure) {
                    (_, true) => Verdict::Later(format!("{host}: {reason}")),
                    (true, false) => Verdict::Closed(format!("{host}: {reason}")),
                    (false, false) => Verdict::Again,
                }
            }
            Err(SmtpError::Lacks(what)) => Verdict::Never {
                code: if what == "SMTPUTF8" { "553 5.6.7" } else { "554 5.6.3" }.into(),
                words: format!("{host} does not offer {what}"),
                is_nobody: false,
            },
            Err(SmtpError::Refused { step, reply }) => {
                if reply.code == 421 {
                    *link = None;
                    return Ok(Verdict::Closed(format!("{host}: 421 {}", reply.words)));
                }
                let words = reply.text().to_owned();
                if !reply.is_permanent() {
                    return Ok(Verdict::Later(format!("{host}: {} {words}", reply.codes())));
                }
                let nobody = ["5.1.1", "5.1.3", "5.1.6", "5.1.10", "5.2.1"];
                let is_nobody = step == Step::Recipient
                    && match reply.enhanced() {
                        Some(enhanced) => nobody.contains(&enhanced),
                        None => matches!(reply.code, 550 | 553),
                    };
                Verdict::Never { code: reply.codes(), words, is_nobody }
            }
        })
    }

    async fn done(&self, id: u64, item: &ItemRecord, was_sent: bool) -> Result<(), CommitError> {
        let (domain, record) = (self.domain(), sent(item, self.now_ms()));
        let commit = self.shard().submit(move |txn| {
            queue::take(txn, domain, id)?;
            if was_sent {
                txn.put(&SENT, domain, &id, &record);
            }
            Ok::<(), StoreError>(())
        });
        commit.await.map(drop)
    }

    /// A connection over which the mails of a destination go.
    pub(crate) async fn connect(&self, lane: &str) -> Result<Link, NoLink> {
        match self.config().deliver {
            Deliver::Smarthost => self.smarthost().await,
            Deliver::Internet => self.server_of(lane).await,
            Deliver::Outbox | Deliver::Nowhere => {
                Err(NoLink::Later("nothing is sent, as the configuration says".into()))
            }
        }
    }

    async fn server_of(&self, domain: &str) -> Result<Link, NoLink> {
        let servers = mx::exchanges(&*self.0.cores.dns, domain, &self.0.cores.hostname).await;
        let servers = servers.map_err(|error| match error {
            NoWay::Later(_) => NoLink::Later(error.to_string()),
            error => NoLink::Never { code: error.code().to_owned(), words: error.to_string() },
        })?;
        let policy = if domain.starts_with('[') { None } else { self.policy(domain).await };
        let mut last = NoLink::Later("its servers cannot be reached".to_owned());
        for host in &servers.hosts {
            let reached = async {
                let found = self.found_addresses(host).await?;
                let demand = self.demand(domain, host, servers.are_proven, &found, policy.as_ref()).await?;
                let session = self.server(host, self.allowed(host, found.records)?, &demand).await?;
                Ok((session, demand))
            };
            match reached.await {
                Ok((session, demand)) => {
                    let how = demand.how(session.is_tls());
                    return Ok(Link { session, host: host.clone(), how, mails: 0 });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A server by its name, greeted, over TLS as it is asked for, or as far as it can be had.
    async fn server(&self, host: &str, addresses: Vec<SocketAddr>, demand: &Demand) -> Result<Session, NoLink> {
        let mut last = NoLink::Later(format!("{host} cannot be reached"));
        for address in addresses {
            let mut plain = false;
            loop {
                match self.greet(host, address, demand, plain).await {
                    Ok(session) => return Ok(session),
                    // [RFC 7435] TLS that does not work is no reason to keep a mail from who asks for none.
                    Err((_, true)) if !plain && matches!(demand, Demand::Nothing) => plain = true,
                    Err((error, _)) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// The addresses of a host, wherever they lead.
    async fn found_addresses(&self, host: &str) -> Result<Found<IpAddr>, NoLink> {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let none = || NoLink::Later(format!("{host} has no address"));
        match literal {
            Some(literal) => {
                let literal = literal.strip_prefix("ipv6:").unwrap_or(literal);
                literal.parse().map(|address| Found::unproven(vec![address], host)).map_err(|_| none())
            }
            None => match self.0.cores.dns.addresses(host).await {
                Ok(found) => Ok(found),
                Err(LookupError::NotFound) => Err(none()),
                Err(LookupError::Failed(reason)) => Err(NoLink::Later(format!("DNS has no answer: {reason}"))),
            },
        }
    }

    /// Those of a host's addresses that may be connected to.
    fn allowed(&self, host: &str, found: Vec<IpAddr>) -> Result<Vec<SocketAddr>, NoLink> {
        let allowed: Vec<_> = found.into_iter().filter(|address| self.0.cores.guard.allows(*address)).collect();
        if allowed.is_empty() {
            let words = format!("{host} has no address on the internet");
            return Err(NoLink::Never { code: "550 5.4.4".into(), words });
        }
        let port = self.config().port;
        Ok(allowed.into_iter().take(mx::ADDRESSES_MAX).map(|address| SocketAddr::new(address, port)).collect())
    }

    /// One attempt; whether it was TLS that failed.
    async fn greet(
        &self,
        host: &str,
        address: SocketAddr,
        demand: &Demand,
        plain: bool,
    ) -> Result<Session, (NoLink, bool)> {
        let later = |reason: String| (NoLink::Later(reason), false);
        let stream = dial(address).await.map_err(|reason| later(format!("{host} ({address}): {reason}")))?;
        let mut session =
            Session::greeted(stream, self.0.patience).await.map_err(|error| (no_link(host, &error), false))?;
        session.hello(&self.0.cores.hostname).await.map_err(|error| (no_link(host, &error), false))?;
        if session.offers.starttls && !plain {
            let tls = match session.start_tls().await {
                Ok(stream) => self.0.tls.begin(stream, host, demand).await,
                Err(error) => Err(format!("{host}: {error}")),
            };
            let stream = tls.map_err(|reason| (NoLink::Later(reason), true))?;
            session.over(stream);
            session.hello(&self.0.cores.hostname).await.map_err(|error| (no_link(host, &error), true))?;
        }
        if !matches!(demand, Demand::Nothing) && !session.is_tls() {
            return Err(later(format!("{host} offers no TLS, which it has to")));
        }
        Ok(session)
    }

    /// The operator named it: the guard need not look.
    async fn smarthost(&self) -> Result<Link, NoLink> {
        let later = NoLink::Later;
        let config = &self.config().smarthost;
        let Some(host) = &config.host else {
            return Err(later("no smarthost is named (mail.outgoing.smarthost.host)".into()));
        };
        let target = (host.as_str(), config.port);
        let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(target)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(later(format!("{host}: {error}"))),
            Err(_) => return Err(later(format!("{host} did not answer for {} s", CONNECT_MAX.as_secs()))),
        };
        let failed = |error: SmtpError| NoLink::Later(format!("{host}: {error}"));
        let mut session = match config.tls {
            SmarthostTls::Implicit => {
                let stream = self.0.tls.begin(stream, host, &Demand::Believed).await.map_err(later)?;
                Session::greeted_tls(stream, self.0.patience).await.map_err(failed)?
            }
            _ => Session::greeted(stream, self.0.patience).await.map_err(failed)?,
        };
        session.hello(&self.0.cores.hostname).await.map_err(failed)?;
        if config.tls == SmarthostTls::Starttls {
            if !session.offers.starttls {
                return Err(later(format!("{host} offers no STARTTLS; nothing is said to it in the clear")));
            }
            let stream = session.start_tls().await.map_err(failed)?;
            session.over(self.0.tls.begin(stream, host, &Demand::Believed).await.map_err(later)?);
            session.hello(&self.0.cores.hostname).await.map_err(failed)?;
        }
        if let Some(name) = &config.username {
            if !session.is_tls() {
                return Err(later("a password is not sent without TLS (mail.outgoing.smarthost.tls)".into()));
            }
            let password = config.password_file.as_ref().map_or(Ok(String::new()), |path| {
                std::fs::read_to_string(path).map_err(|error| later(format!("{}: {error}", path.display())))
            })?;
            session.log_in(name, password.lines().next().unwrap_or_default()).await.map_err(failed)?;
        }
        let how = if session.is_tls() { "with TLS" } else { "without TLS" };
        Ok(Link { session, host: host.clone(), how, mails: 0 })
    }

    /// How far a mail to an address would come, told step by step; nothing is sent.
    pub async fn test(&self, address: &str) -> Vec<String> {
        let mut told = Vec::new();
        let Some(address) = koine_projection::mail::Address::parse(address) else {
            return vec![format!("{address} is no address of mail")];
        };
        match self.is_suppressed(&address.to_string()) {
            Ok(true) => {
                told.push("nothing is sent to this address: it is on the list of `koine mail suppress`".to_owned());
            }
            Ok(false) => {}
            Err(error) => told.push(error.to_string()),
        }
        let domain = address.domain();
        match self.config().deliver {
            Deliver::Outbox => {
                told.push(format!("mails go into the folder {}", self.outbox_folder().display()));
                return told;
            }
            Deliver::Nowhere => {
                told.push("mails wait: mail.outgoing.deliver is \"nowhere\"".to_owned());
                return told;
            }
            Deliver::Smarthost => told.push("mails go to the smarthost".to_owned()),
            Deliver::Internet => match mx::exchanges(&*self.0.cores.dns, domain, &self.0.cores.hostname).await {
                Ok(servers) => {
                    told.push(format!("mails for {domain} go to {}", servers.hosts.join(", then ")));
                    let policy = self.policy(domain).await;
                    told.push(match policy {
                        Some(_) => "the domain asks for TLS with a certificate that is believed (MTA-STS)".to_owned(),
                        None => "the domain has no policy of TLS (MTA-STS)".to_owned(),
                    });
                }
                Err(error) => {
                    told.push(format!("{}: {error}", error.code()));
                    return told;
                }
            },
        }
        match self.connect(domain).await {
            Ok(mut link) => {
                told.push(format!("{} answers, {}", link.host, link.how));
                let to = ascii_domain(&address.to_string());
                match link.session.would_take(&format!("postmaster@{}", self.host()), &to).await {
                    Ok(()) => told.push(format!("it takes mails for {address}")),
                    Err(error) => told.push(format!("it does not take mails for {address}: {error}")),
                }
                link.session.quit().await;
            }
            Err(NoLink::Later(reason)) => told.push(format!("not now: {reason}")),
            Err(NoLink::Never { code, words }) => told.push(format!("never: {code} {words}")),
        }
        told
    }
}

/// What a server that cannot be talked to means.
fn no_link(host: &str, error: &SmtpError) -> NoLink {
    // Also a greeting of 5xx may be of today only: another server, or another hour. [RFC 5321 §4.2.1]
    NoLink::Later(format!("{host}: {error}"))
}

async fn dial(address: SocketAddr) -> Result<TcpStream, String> {
    match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer for {} s", CONNECT_MAX.as_secs())),
    }
}

/// The address with its domain as DNS writes it.
fn ascii_domain(address: &str) -> String {
    let Some((local, domain)) = address.rsplit_once('@') else { return address.to_owned() };
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(domain)) => format!("{local}@{domain}"),
        _ => address.to_owned(),
    }
}

fn sent(item: &ItemRecord, now_ms: u64) -> SentRecord {
    SentRecord {
        recipient: item.recipient.clone(),
        room: item.room,
        author: item.author.clone(),
        events: item.events.clone(),
        sent_ms: now_ms,
    }
}
