//! Asking DNS: the port, and the resolver that the server uses.
//!
//! [`SystemDns`] reads the machine's hosts file and `resolv.conf`, and keeps answers (also that there are none) for as
//! long as they say, in this process and in bounds. Names are asked for as they are: search domains do not apply, for a
//! server name is a full name.

use std::{future::Future, net::IpAddr, pin::Pin, time::Duration};

use hickory_resolver::{
    Resolver as Hickory, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};
use thiserror::Error;

use crate::search::SrvRecord;

/// Answers that are kept.
const CACHE_ENTRIES_MAX: u64 = 16_384;
/// How long an answer is kept at most, whatever it says.
const POSITIVE_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it is kept that there is no answer: short, for somebody is just setting up a server.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(5 * 60);
/// How long one question to one name server may take.
const QUERY_MAX: Duration = Duration::from_secs(3);
/// How often a question is asked.
const ATTEMPTS: usize = 2;

/// An answer to wait for.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, DnsError>> + Send + 'a>>;

/// Why DNS has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DnsError {
    /// There is no such name, or it has no such records.
    #[error("there are no such records")]
    NotFound,
    /// It could not be found out.
    #[error("{0}")]
    Failed(String),
}

/// What is asked of DNS.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of a name (AAAA and A records), aliases followed.
    fn addresses<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<IpAddr>>;

    /// The SRV records of a name, in any order.
    fn services<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<SrvRecord>>;
}

/// The resolver of this machine.
pub struct SystemDns(TokioResolver);

impl SystemDns {
    /// Reads the machine's settings. Where there are none, the name server of this machine is asked, as other programs do.
    pub fn new() -> Result<Self, DnsError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(reason = %error, "the DNS settings of this machine cannot be read; asking 127.0.0.1");
            let local = NameServerConfig::udp_and_tcp([127, 0, 0, 1].into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![local]);
            Hickory::builder_with_config(config, TokioRuntimeProvider::default())
        });
        set(builder.options_mut());
        builder.build().map(Self).map_err(|error| DnsError::Failed(error.to_string()))
    }
}

fn set(options: &mut ResolverOpts) {
    options.cache_size = CACHE_ENTRIES_MAX;
    options.positive_max_ttl = Some(POSITIVE_TTL_MAX);
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    options.timeout = QUERY_MAX;
    options.attempts = ATTEMPTS;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

impl Resolver for SystemDns {
    fn addresses<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let found = self.0.lookup_ip(full_name(name)?).await?;
            some(found.iter().collect())
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<SrvRecord>> {
        Box::pin(async move {
            let found = self.0.lookup(full_name(name)?, RecordType::SRV).await?;
            some(found.answers().iter().filter_map(|record| srv(&record.data)).collect())
        })
    }
}

fn full_name(name: &str) -> Result<Name, DnsError> {
    // What cannot be a name (a label of 64 letters) is not there.
    let mut name = Name::from_ascii(name).map_err(|_| DnsError::NotFound)?;
    name.set_fqdn(true);
    Ok(name)
}

fn srv(data: &RData) -> Option<SrvRecord> {
    let RData::SRV(srv) = data else { return None };
    let mut target = srv.target.to_ascii();
    target.truncate(target.trim_end_matches('.').len());
    Some(SrvRecord { priority: srv.priority, weight: srv.weight, port: srv.port, target })
}

fn some<T>(found: Vec<T>) -> Result<Vec<T>, DnsError> {
    if found.is_empty() { Err(DnsError::NotFound) } else { Ok(found) }
}

impl From<NetError> for DnsError {
    fn from(error: NetError) -> Self {
        use hickory_resolver::{net::DnsError as Dns, proto::op::ResponseCode};
        match &error {
            NetError::Dns(Dns::NoRecordsFound(none))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                Self::NotFound
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that a resolver answers by itself [RFC 6761], so that nobody is asked.
    #[tokio::test]
    async fn special_names_are_answered_on_this_machine() {
        let dns = SystemDns::new().expect("a resolver");
        let addresses = dns.addresses("localhost").await.expect("this machine");
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
        assert_eq!(dns.addresses("koine.invalid").await, Err(DnsError::NotFound));
        assert_eq!(dns.services("_matrix-fed._tcp.koine.invalid").await, Err(DnsError::NotFound));
        let long = format!("{}.org", "a".repeat(64));
        assert_eq!(dns.addresses(&long).await, Err(DnsError::NotFound), "that cannot be a name");
    }
}
