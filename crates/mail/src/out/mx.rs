//! Where the mails of a domain go: its MX records in their order, or the domain itself. [RFC 5321 §5.1] [RFC 7505]

use std::{future::Future, net::IpAddr, pin::Pin};

use hickory_resolver::{
    TokioResolver,
    net::{DnsError as Dns, NetError},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType, rdata::TLSA},
    },
};
use rand::seq::SliceRandom as _;

/// Servers of one domain that are tried.
pub(crate) const EXCHANGES_MAX: usize = 5;
/// Addresses of one server that are tried.
pub(crate) const ADDRESSES_MAX: usize = 4;

/// An answer to wait for.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, LookupError>> + Send + 'a>>;

/// Why DNS has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is no such name, or it has no such records.
    #[error("there are no such records")]
    NotFound,
    /// It could not be found out.
    #[error("{0}")]
    Failed(String),
}

/// Records that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// At least one.
    pub records: Vec<T>,
    /// The name that has them: another than was asked for, where that is an alias.
    pub name: String,
    /// Whether their signatures were checked (DNSSEC).
    pub is_proven: bool,
}

impl<T> Found<T> {
    /// Records that nobody signed.
    pub fn unproven(records: Vec<T>, name: &str) -> Self {
        Self { records, name: name.to_owned(), is_proven: false }
    }
}

/// What sending asks of DNS.
pub trait Lookup: Send + Sync + 'static {
    /// MX records: preference and host, in any order.
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answering<'a, Found<(u16, String)>>;
    /// Addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str) -> Answering<'a, Found<IpAddr>>;
    /// TLSA records. Who proves nothing need not look.
    fn certificates<'a>(&'a self, name: &'a str) -> Answering<'a, Found<TLSA>>;
    /// TXT records, the parts of each joined.
    fn texts<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<String>>;
}

impl Lookup for TokioResolver {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answering<'a, Found<(u16, String)>> {
        Box::pin(async move {
            let found = self.lookup(full_name(domain)?, RecordType::MX).await.map_err(failed)?;
            let found = found.answers().iter().filter_map(|record| match &record.data {
                RData::MX(mx) => Some((mx.preference, host(&mx.exchange))),
                _ => None,
            });
            Ok(Found::unproven(some(found.collect())?, domain))
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answering<'a, Found<IpAddr>> {
        Box::pin(async move {
            let found = self.lookup_ip(full_name(host)?).await.map_err(failed)?;
            Ok(Found::unproven(some(found.iter().collect())?, host))
        })
    }

    fn certificates<'a>(&'a self, _: &'a str) -> Answering<'a, Found<TLSA>> {
        Box::pin(async { Err(LookupError::NotFound) })
    }

    fn texts<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<String>> {
        Box::pin(async move {
            let found = self.lookup(full_name(name)?, RecordType::TXT).await.map_err(failed)?;
            let found = found.answers().iter().filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
                _ => None,
            });
            some(found.collect())
        })
    }
}

pub(super) fn host(name: &Name) -> String {
    let mut host = name.to_ascii();
    host.truncate(host.trim_end_matches('.').len());
    host.to_ascii_lowercase()
}

pub(super) fn full_name(name: &str) -> Result<Name, LookupError> {
    let mut name = Name::from_ascii(name).map_err(|_| LookupError::NotFound)?;
    name.set_fqdn(true);
    Ok(name)
}

pub(super) fn some<T>(found: Vec<T>) -> Result<Vec<T>, LookupError> {
    if found.is_empty() { Err(LookupError::NotFound) } else { Ok(found) }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: NetError) -> LookupError {
    match &error {
        NetError::Dns(Dns::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            LookupError::NotFound
        }
        _ => LookupError::Failed(error.to_string()),
    }
}

/// Why there is no way to a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoWay {
    /// [RFC 7505 §3]
    #[error("the domain takes no mail")]
    Null,
    /// No records, and no addresses.
    #[error("there is no such domain, or it has no mail server")]
    NoDomain,
    /// It is ours, though nobody of ours has such an address.
    #[error("the mail server of the domain is this one, which knows nothing of it")]
    Loop,
    /// Another time perhaps.
    #[error("DNS has no answer: {0}")]
    Later(String),
}

impl NoWay {
    /// As a mail server would say it. [RFC 3463]
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Null => "556 5.1.10",
            Self::NoDomain => "550 5.1.2",
            Self::Loop => "554 5.4.6",
            Self::Later(_) => "451 4.4.3",
        }
    }
}

/// The servers of a domain, best first, at most [`EXCHANGES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers {
    pub(crate) hosts: Vec<String>,
    /// Whether it is proven that these are they. Where the domain is its own server there is nothing to prove.
    pub(crate) are_proven: bool,
}

/// Where the mails of a domain go. `own` is our name: behind ourselves nobody is tried.
pub(crate) async fn exchanges(dns: &dyn Lookup, domain: &str, own: &str) -> Result<Servers, NoWay> {
    // An address in brackets is its own server.
    if domain.starts_with('[') {
        return Ok(Servers { hosts: vec![domain.to_owned()], are_proven: false });
    }
    let Ok(url::Host::Domain(domain)) = url::Host::parse(domain) else { return Err(NoWay::NoDomain) };
    let (mut found, are_proven) = match dns.exchanges(&domain).await {
        Ok(found) => (found.records, found.is_proven),
        // [RFC 5321 §5.1] The implicit MX.
        Err(LookupError::NotFound) => {
            return match dns.addresses(&domain).await {
                Ok(_) if domain == own => Err(NoWay::Loop),
                Ok(_) => Ok(Servers { hosts: vec![domain], are_proven: true }),
                Err(LookupError::NotFound) => Err(NoWay::NoDomain),
                Err(LookupError::Failed(reason)) => Err(NoWay::Later(reason)),
            };
        }
        Err(LookupError::Failed(reason)) => return Err(NoWay::Later(reason)),
    };
    if let [(_, only)] = found.as_slice()
        && (only.is_empty() || only == ".")
    {
        return Err(NoWay::Null);
    }
    // [RFC 5321 §5.1] Among equals by chance.
    found.shuffle(&mut rand::rng());
    found.sort_by_key(|(preference, _)| *preference);
    if let Some((preference, _)) = found.iter().find(|(_, host)| host.eq_ignore_ascii_case(own)).cloned() {
        found.retain(|(other, _)| *other < preference);
        if found.is_empty() {
            return Err(NoWay::Loop);
        }
    }
    let hosts: Vec<String> = found.into_iter().map(|(_, host)| host).filter(|host| !host.is_empty()).collect();
    match hosts.is_empty() {
        true => Err(NoWay::Null),
        false => Ok(Servers { hosts: hosts.into_iter().take(EXCHANGES_MAX).collect(), are_proven }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zone(Vec<(u16, &'static str)>, bool);

    impl Lookup for Zone {
        fn exchanges<'a>(&'a self, name: &'a str) -> Answering<'a, Found<(u16, String)>> {
            Box::pin(async move {
                let found = some(self.0.iter().map(|(n, host)| (*n, (*host).to_owned())).collect())?;
                Ok(Found::unproven(found, name))
            })
        }

        fn addresses<'a>(&'a self, name: &'a str) -> Answering<'a, Found<IpAddr>> {
            let found = if self.1 { vec![[192, 0, 2, 1].into()] } else { Vec::new() };
            Box::pin(async move { Ok(Found::unproven(some(found)?, name)) })
        }

        fn certificates<'a>(&'a self, _: &'a str) -> Answering<'a, Found<TLSA>> {
            Box::pin(async { Err(LookupError::NotFound) })
        }

        fn texts<'a>(&'a self, _: &'a str) -> Answering<'a, Vec<String>> {
            Box::pin(async { Err(LookupError::NotFound) })
        }
    }

    #[tokio::test]
    async fn servers_are_tried_in_their_order() {
        let find = async |zone: Zone| exchanges(&zone, "example.net", "mx.example.org").await.map(|found| found.hosts);
        let hosts = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(find(Zone(vec![(20, "b"), (10, "a"), (30, "c")], true)).await, hosts(&["a", "b", "c"]));
        assert_eq!(find(Zone(vec![], true)).await, hosts(&["example.net"]));
        assert_eq!(find(Zone(vec![], false)).await, Err(NoWay::NoDomain));
        assert_eq!(find(Zone(vec![(0, "")], true)).await, Err(NoWay::Null));
        assert_eq!(find(Zone(vec![(10, "a"), (20, "mx.example.org"), (30, "c")], true)).await, hosts(&["a"]));
        assert_eq!(find(Zone(vec![(20, "MX.example.org"), (30, "c")], true)).await, Err(NoWay::Loop));
        let many = (0..50).map(|n| (n, "x")).collect();
        assert_eq!(find(Zone(many, true)).await.map(|hosts| hosts.len()), Ok(EXCHANGES_MAX));
    }

    #[tokio::test]
    async fn a_domain_of_other_letters_is_asked_for_as_dns_writes_it() {
        let zone = Zone(vec![], true);
        let find = async |name: &str| exchanges(&zone, name, "x").await.map(|found| found.hosts);
        assert_eq!(find("bücher.example").await, Ok(vec!["xn--bcher-kva.example".to_owned()]));
        assert_eq!(find("[192.0.2.1]").await, Ok(vec!["[192.0.2.1]".to_owned()]));
    }
}
