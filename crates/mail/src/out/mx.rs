//! Where the mails of a domain go: its MX records in their order, or the domain itself. [RFC 5321 §5.1] [RFC 7505]

use std::{future::Future, net::IpAddr, pin::Pin};

use hickory_resolver::{
    TokioResolver,
    net::{DnsError as Dns, NetError},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
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

/// What sending asks of DNS.
pub trait Lookup: Send + Sync + 'static {
    /// MX records: preference and host, in any order.
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answering<'a, Vec<(u16, String)>>;
    /// Addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str) -> Answering<'a, Vec<IpAddr>>;
    /// TXT records, the parts of each joined.
    fn texts<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<String>>;
}

impl Lookup for TokioResolver {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answering<'a, Vec<(u16, String)>> {
        Box::pin(async move {
            let found = self.lookup(full_name(domain)?, RecordType::MX).await.map_err(failed)?;
            let found = found.answers().iter().filter_map(|record| match &record.data {
                RData::MX(mx) => Some((mx.preference, host(&mx.exchange))),
                _ => None,
            });
            some(found.collect())
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answering<'a, Vec<IpAddr>> {
        Box::pin(async move { some(self.lookup_ip(full_name(host)?).await.map_err(failed)?.iter().collect()) })
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

fn host(name: &Name) -> String {
    let mut host = name.to_ascii();
    host.truncate(host.trim_end_matches('.').len());
    host.to_ascii_lowercase()
}

fn full_name(name: &str) -> Result<Name, LookupError> {
    let mut name = Name::from_ascii(name).map_err(|_| LookupError::NotFound)?;
    name.set_fqdn(true);
    Ok(name)
}

fn some<T>(found: Vec<T>) -> Result<Vec<T>, LookupError> {
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

/// The servers of a domain, best first, at most [`EXCHANGES_MAX`]. `own` is our name: behind ourselves nobody is tried.
pub(crate) async fn exchanges(dns: &dyn Lookup, domain: &str, own: &str) -> Result<Vec<String>, NoWay> {
    // An address in brackets is its own server.
    if domain.starts_with('[') {
        return Ok(vec![domain.to_owned()]);
    }
    let Ok(url::Host::Domain(domain)) = url::Host::parse(domain) else { return Err(NoWay::NoDomain) };
    let mut found = match dns.exchanges(&domain).await {
        Ok(found) => found,
        // [RFC 5321 §5.1] The implicit MX.
        Err(LookupError::NotFound) => {
            return match dns.addresses(&domain).await {
                Ok(_) if domain == own => Err(NoWay::Loop),
                Ok(_) => Ok(vec![domain]),
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
    if hosts.is_empty() { Err(NoWay::Null) } else { Ok(hosts.into_iter().take(EXCHANGES_MAX).collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zone(Vec<(u16, &'static str)>, bool);

    impl Lookup for Zone {
        fn exchanges<'a>(&'a self, _: &'a str) -> Answering<'a, Vec<(u16, String)>> {
            Box::pin(async { some(self.0.iter().map(|(n, host)| (*n, (*host).to_owned())).collect()) })
        }

        fn addresses<'a>(&'a self, _: &'a str) -> Answering<'a, Vec<IpAddr>> {
            let there = self.1;
            Box::pin(async move { if there { Ok(vec![[192, 0, 2, 1].into()]) } else { Err(LookupError::NotFound) } })
        }

        fn texts<'a>(&'a self, _: &'a str) -> Answering<'a, Vec<String>> {
            Box::pin(async { Err(LookupError::NotFound) })
        }
    }

    #[tokio::test]
    async fn servers_are_tried_in_their_order() {
        let find = async |zone: Zone| exchanges(&zone, "example.net", "mx.example.org").await;
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
        assert_eq!(exchanges(&zone, "bücher.example", "x").await, Ok(vec!["xn--bcher-kva.example".to_owned()]));
        assert_eq!(exchanges(&zone, "[192.0.2.1]", "x").await, Ok(vec!["[192.0.2.1]".to_owned()]));
    }
}
