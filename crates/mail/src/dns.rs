//! Asking DNS about senders and recipients. One resolver for all of mail, with its cache.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
};
use mail_auth::MessageAuthenticator;

use crate::out::{Lookup, Proven};

/// Answers that are kept.
const CACHE_ENTRIES_MAX: u64 = 16_384;
/// How long one question to one name server may take.
const QUERY_MAX: Duration = Duration::from_secs(4);
/// How often a question is asked.
const ATTEMPTS: usize = 2;

/// The resolver, and the judge of senders who asks it.
#[derive(Clone)]
pub struct Dns(MessageAuthenticator);

impl Dns {
    /// Of the machine, or the resolver at an address.
    ///
    /// # Errors
    /// A sentence, if the settings of the machine cannot be used.
    pub fn open(resolver: Option<SocketAddr>) -> Result<Self, String> {
        let mut builder = match resolver {
            Some(address) => Resolver::builder_with_config(asking(address), TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(reason = %error, "the DNS settings of this machine cannot be read; asking 127.0.0.1");
                Resolver::builder_with_config(asking(([127, 0, 0, 1], 53).into()), TokioRuntimeProvider::default())
            }),
        };
        set(builder.options_mut());
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self(MessageAuthenticator(resolver)))
    }

    /// Who judges senders.
    pub(crate) fn judge(&self) -> &MessageAuthenticator {
        &self.0
    }

    /// Answers for who sends: proven where `validates` says that the resolver at an address checks signatures.
    ///
    /// # Errors
    /// A sentence, if that resolver is none that can be believed.
    pub fn for_sending(&self, resolver: Option<SocketAddr>, validates: bool) -> Result<Arc<dyn Lookup>, String> {
        let usual = self.resolver().clone();
        match (validates, resolver) {
            (false, _) => Ok(Arc::new(usual)),
            (true, Some(resolver)) => Ok(Arc::new(Proven::new(resolver, usual)?)),
            (true, None) => Err("mail.resolver_validates: mail.resolver has to say which one does".to_owned()),
        }
    }

    /// The resolver itself.
    pub fn resolver(&self) -> &TokioResolver {
        &self.0.0
    }
}

fn asking(address: SocketAddr) -> ResolverConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn set(options: &mut ResolverOpts) {
    options.cache_size = CACHE_ENTRIES_MAX;
    options.timeout = QUERY_MAX;
    options.attempts = ATTEMPTS;
}
