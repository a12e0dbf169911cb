//! Finding a server: from its name to the hosts and ports to try. Pure.
//!
//! Specified in [SS-API §resolving-server-names]. A [`Search`] says what it wants to know next, takes the answer, and in
//! the end has a [`Route`]. Who asks DNS and fetches `.well-known` is `discover`; turning the hosts of a route into
//! addresses is `connect`, which looks at the addresses with the guard's eyes.

use rand::Rng;

use crate::name::{Authority, Host, PORT_DEFAULT};

/// Most SRV records of one answer that are used, by priority and weight.
pub const SRV_RECORDS_MAX: usize = 16;

/// Most SRV records of one answer that are looked at.
const SRV_RECORDS_READ_MAX: usize = 256;

/// Which service a SRV record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `_matrix-fed._tcp`, the registered one.
    MatrixFed,
    /// `_matrix._tcp`, deprecated.
    Matrix,
}

impl Service {
    /// The name to ask DNS for.
    pub fn query_name(self, host: &str) -> String {
        match self {
            Self::MatrixFed => format!("_matrix-fed._tcp.{host}"),
            Self::Matrix => format!("_matrix._tcp.{host}"),
        }
    }
}

/// A SRV record [RFC 2782].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Among equal priorities, how often this one should come first.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, without the dot at its end; empty if the service is decidedly not offered.
    pub target: String,
}

/// What a search wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What `https://<host>/.well-known/matrix/server` says.
    WellKnown(String),
    /// Which SRV records there are.
    Srv(Service, String),
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The `m.server` of a valid `.well-known`.
    Delegated(Authority),
    /// The SRV records that were found, in any order.
    Records(Vec<SrvRecord>),
    /// Nothing, or nothing usable. The search goes on with the next step.
    Nothing,
}

/// Where requests for a server go, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The `Host` header (or `:authority`) of requests.
    pub host_header: String,
    /// Whom the certificate has to be for.
    pub certificate: Host,
    /// What to connect to, best first.
    pub targets: Vec<Target>,
}

/// A host and port to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name or address.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Find this out, and give the answer to [`Search::answer`].
    Ask(Question, Search),
    /// Done.
    Found(Route),
    /// Done: the name's owner says in DNS that there is no such service (a SRV record with the target `.`).
    NotOffered,
}

/// A search under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Whom we look for: the server itself, or whom it delegates to.
    subject: Authority,
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    WellKnown,
    Srv(Service),
}

impl Search {
    /// Begins to look for a server.
    pub fn begin(server: Authority) -> Step {
        match (&server.host, server.port) {
            // [SS-API §resolving-server-names] 1: an IP literal, with its port or 8448.
            (Host::Address(_), port) => Step::Found(direct(&server, port.unwrap_or(PORT_DEFAULT))),
            // 2: a name with a port.
            (Host::Name(_), Some(port)) => Step::Found(direct(&server, port)),
            // 3: a name without.
            (Host::Name(name), None) => {
                let question = Question::WellKnown(name.clone());
                Step::Ask(question, Self { subject: server, asked: Asked::WellKnown })
            }
        }
    }

    /// Goes on. An answer that does not fit the question counts as none.
    pub fn answer(self, answer: Answer, chance: &mut impl Rng) -> Step {
        match (self.asked, answer) {
            (Asked::WellKnown, Answer::Delegated(delegated)) => match (&delegated.host, delegated.port) {
                // 3.1: an IP literal, with its port or 8448.
                (Host::Address(_), port) => Step::Found(direct(&delegated, port.unwrap_or(PORT_DEFAULT))),
                // 3.2: a name with a port.
                (Host::Name(_), Some(port)) => Step::Found(direct(&delegated, port)),
                // 3.3: a name without. Its own `.well-known` is not asked for: delegation has one step.
                (Host::Name(_), None) => ask_srv(Service::MatrixFed, delegated),
            },
            // 4: no usable `.well-known`.
            (Asked::WellKnown, _) => ask_srv(Service::MatrixFed, self.subject),
            // 3.3, 3.4, 4 and 5: SRV records say where, but `Host` and certificate stay those of the name.
            (Asked::Srv(_), Answer::Records(records)) if !records.is_empty() => {
                found_srv(self.subject, records, chance)
            }
            // 3.4 and 5: the deprecated name.
            (Asked::Srv(Service::MatrixFed), _) => ask_srv(Service::Matrix, self.subject),
            // 3.5 and 6: no SRV records at all.
            (Asked::Srv(Service::Matrix), _) => Step::Found(direct(&self.subject, PORT_DEFAULT)),
        }
    }
}

/// To the host itself.
fn direct(subject: &Authority, port: u16) -> Route {
    let target = Target { host: subject.host.clone(), port };
    Route { host_header: subject.text.clone(), certificate: subject.host.clone(), targets: vec![target] }
}

fn ask_srv(service: Service, subject: Authority) -> Step {
    let question = Question::Srv(service, subject.host.to_string());
    Step::Ask(question, Search { subject, asked: Asked::Srv(service) })
}

/// [SS-API §resolving-server-names] differs: the target of a SRV record may not be an alias, which binds who publishes it;
/// one that is an alias nevertheless is followed, as resolvers do, rather than lost.
fn found_srv(subject: Authority, mut records: Vec<SrvRecord>, chance: &mut impl Rng) -> Step {
    records.truncate(SRV_RECORDS_READ_MAX);
    let targets: Vec<_> = in_order(records, chance)
        .into_iter()
        .filter(|record| Authority::parse(&record.target).is_some_and(|target| target.port.is_none()))
        .take(SRV_RECORDS_MAX)
        .map(|record| Target { host: Host::Name(record.target.to_ascii_lowercase()), port: record.port })
        .collect();
    if targets.is_empty() {
        return Step::NotOffered;
    }
    Step::Found(Route { host_header: subject.text, certificate: subject.host, targets })
}

/// The order to try records in: by priority; among equals by chance, in proportion to their weights [RFC 2782].
pub(crate) fn in_order(records: Vec<SrvRecord>, chance: &mut impl Rng) -> Vec<SrvRecord> {
    in_order_by(records, |record| (record.priority, record.weight), chance)
}

/// The same for whatever has a priority and a weight.
pub(crate) fn in_order_by<T>(mut records: Vec<T>, of: impl Fn(&T) -> (u16, u16), chance: &mut impl Rng) -> Vec<T> {
    // Records without weight first, so that the draw below gives them "a very small chance" and no more.
    records.sort_by_key(&of);
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let (priority, _) = of(first);
        let equals = records.iter().map(&of).take_while(|(other, _)| *other == priority);
        let total: u32 = equals.clone().map(|(_, weight)| u32::from(weight)).sum();
        let drawn = chance.random_range(0..=total);
        let mut sum = 0;
        let place = equals.take_while(|(_, weight)| {
            sum += u32::from(*weight);
            sum < drawn
        });
        let place = place.count();
        ordered.push(records.remove(place));
    }
    ordered
}

#[cfg(test)]
mod tests;
