//! DANE: a domain says by DNS, signed, which certificates its mail servers have. [RFC 7672] [RFC 7671] [RFC 6698]
//!
//! Whether an answer was signed is what `proven.rs` tells; here it is told what such records ask for, and whether a
//! certificate is one of them. The records win over MTA-STS: a policy never lets in whom they shut out. [RFC 8461 §2]

use std::sync::Arc;

use hickory_resolver::proto::rr::rdata::{
    TLSA,
    tlsa::{CertUsage, Matching, Selector},
};
use rustls::{
    CertificateError, Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    Out,
    deliver::NoLink,
    mta_sts::Policy,
    mx::{Found, LookupError},
};

/// Records of one server that are looked at.
const RECORDS_MAX: usize = 32;
/// Certificates of a chain that are looked at.
const CHAIN_MAX: usize = 10;

/// What is asked of TLS with a server.
#[derive(Clone, Debug)]
pub(crate) enum Demand {
    /// As far as it can be had.
    Nothing,
    /// There has to be TLS, with whatever certificate.
    Encrypted,
    /// The certificate has to be for the host, from an authority that is believed.
    Believed,
    /// It has to be one of those that DNS names.
    Named(Arc<Dane>),
}

impl Demand {
    /// How a connection that meets it is described.
    pub(crate) fn how(&self, is_tls: bool) -> &'static str {
        match self {
            Self::Named(_) => "with TLS and a certificate that DNS names (DANE)",
            Self::Believed => "with TLS and a certificate that is believed",
            _ if is_tls => "with TLS",
            _ => "without TLS",
        }
    }
}

/// The records of a server, and what it may be called.
#[derive(Debug)]
pub(crate) struct Dane {
    /// Where the records stand: whom TLS asks for. [RFC 7672 §8.1]
    pub(crate) base: String,
    /// Names that a certificate may bear, where names count. [RFC 7672 §3.2.2]
    names: Vec<String>,
    records: Vec<TLSA>,
}

impl Dane {
    /// What can be used of the records; nothing if that is nothing. [RFC 7672 §3.1] [RFC 7671 §9]
    fn new(base: String, names: Vec<String>, found: &[TLSA]) -> Option<Self> {
        let usable = |record: &&TLSA| {
            let size = match record.matching {
                Matching::Sha256 => Some(32),
                Matching::Sha512 => Some(64),
                Matching::Raw => None,
                _ => return false,
            };
            // [RFC 7672 §3.1.3] Authorities of the public, usages 0 and 1, are none that mail servers agree on.
            matches!(record.cert_usage, CertUsage::DaneTa | CertUsage::DaneEe)
                && matches!(record.selector, Selector::Full | Selector::Spki)
                && size.map_or(!record.cert_data.is_empty(), |size| record.cert_data.len() == size)
        };
        let usable: Vec<&TLSA> = found.iter().filter(usable).take(RECORDS_MAX).collect();
        // Where a better digest of the same thing stands, the lesser one counts for nothing.
        let is_outdone = |record: &TLSA| {
            record.matching == Matching::Sha256
                && usable.iter().any(|other| {
                    other.matching == Matching::Sha512
                        && (other.cert_usage, other.selector) == (record.cert_usage, record.selector)
                })
        };
        let records: Vec<TLSA> = usable.iter().filter(|record| !is_outdone(record)).map(|&it| it.clone()).collect();
        (!records.is_empty()).then_some(Self { base, names, records })
    }

    /// Whether a server is who it should be, by its certificate and those it sent with it.
    pub(crate) fn check(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), Error> {
        let of = |usage: CertUsage| self.records.iter().filter(move |record| record.cert_usage == usage);
        // [RFC 7672 §3.1.1] Neither names nor dates count: the record says all.
        if of(CertUsage::DaneEe).any(|record| is_match(record, own)) {
            return Ok(());
        }
        let mut wrong = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for record in of(CertUsage::DaneTa) {
            // The authority may stand in DNS itself. [RFC 7672 §3.1.2]
            let whole = matches!((record.selector, record.matching), (Selector::Full, Matching::Raw))
                .then(|| CertificateDer::from(record.cert_data.as_slice()));
            let sent = others.iter().take(CHAIN_MAX).filter(|certificate| is_match(record, certificate)).cloned();
            for authority in sent.chain(whole) {
                match self.stems_from(authority, own, others, now, provider) {
                    Ok(()) => return Ok(()),
                    Err(error) => wrong = error,
                }
            }
        }
        Err(wrong)
    }

    /// Whether an authority stands by the certificate, for one of our names.
    fn stems_from(
        &self,
        authority: CertificateDer<'_>,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.into_owned())?;
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let judge = judge.map_err(|error| Error::General(error.to_string()))?;
        let mut wrong = Error::InvalidCertificate(CertificateError::NotValidForName);
        for name in &self.names {
            let Ok(name) = ServerName::try_from(name.as_str()) else { continue };
            let others = others.get(..others.len().min(CHAIN_MAX)).unwrap_or_default();
            match judge.verify_server_cert(own, others, &name, &[], now) {
                Ok(_) => return Ok(()),
                Err(error) => wrong = error,
            }
        }
        Err(wrong)
    }
}

/// Whether a record names a certificate. [RFC 6698 §2.1]
fn is_match(record: &TLSA, certificate: &CertificateDer<'_>) -> bool {
    let key;
    let selected: &[u8] = match record.selector {
        Selector::Full => certificate,
        Selector::Spki => match public_key(certificate) {
            Some(found) => {
                key = found;
                &key
            }
            None => return false,
        },
        _ => return false,
    };
    match record.matching {
        Matching::Raw => record.cert_data == selected,
        Matching::Sha256 => record.cert_data == Sha256::digest(selected).as_slice(),
        Matching::Sha512 => record.cert_data == Sha512::digest(selected).as_slice(),
        _ => false,
    }
}

/// The SubjectPublicKeyInfo of a certificate, DER.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let mut store = RootCertStore::empty();
    store.add(certificate.clone().into_owned()).ok()?;
    // What an anchor keeps is the inside of the SEQUENCE.
    let inside = store.roots.first()?.subject_public_key_info.to_vec();
    let mut whole = vec![0x30];
    match inside.len() {
        length @ 0..=0x7f => whole.push(u8::try_from(length).ok()?),
        length => {
            let bytes = length.to_be_bytes();
            let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            whole.push(0x80 | u8::try_from(bytes.len()).ok()?);
            whole.extend(bytes);
        }
    }
    whole.extend(inside);
    Some(whole)
}

impl Out {
    /// What is asked of a server of a domain. `is_proven` if it is signed that the server is one, `host` what was found
    /// of its addresses.
    pub(crate) async fn demand(
        &self,
        domain: &str,
        host: &str,
        is_proven: bool,
        addresses: &Found<std::net::IpAddr>,
        policy: Option<&Policy>,
    ) -> Result<Demand, NoLink> {
        // [RFC 7672 §2.2.1] [RFC 7672 §2.2.2] Where the way there is not signed, records at its end prove nothing.
        if is_proven && addresses.is_proven {
            match self.records_of(domain, host, addresses).await? {
                Some(Records::Usable(dane)) => return Ok(Demand::Named(Arc::new(dane))),
                // [RFC 7672 §2.2] TLS there is, says DNS, though not which.
                Some(Records::Unusable) if policy.is_none() && !self.config().require_tls => {
                    return Ok(Demand::Encrypted);
                }
                _ => {}
            }
        }
        match policy {
            // [RFC 8461 §5]
            Some(policy) if !policy.allows(host) => {
                Err(NoLink::Later(format!("{host} is not among the servers that the policy of {domain} names")))
            }
            Some(_) => Ok(Demand::Believed),
            None if self.config().require_tls => Ok(Demand::Believed),
            None => Ok(Demand::Nothing),
        }
    }

    /// The records of a server, where it is called by an alias first what that leads to. [RFC 7672 §2.2.3]
    async fn records_of(
        &self,
        domain: &str,
        host: &str,
        addresses: &Found<std::net::IpAddr>,
    ) -> Result<Option<Records>, NoLink> {
        let mut bases = vec![addresses.name.clone()];
        if addresses.name != host {
            bases.push(host.to_owned());
        }
        for base in &bases {
            // The port is that of SMTP between servers, whatever ours is set to for trying things out.
            let found = match self.0.cores.dns.certificates(&format!("_25._tcp.{base}")).await {
                Ok(found) if found.is_proven => found.records,
                Ok(_) | Err(LookupError::NotFound) => continue,
                // [RFC 7672 §2.1.2] Whoever swallows the answer must not have mails go without.
                Err(LookupError::Failed(reason)) => {
                    return Err(NoLink::Later(format!(
                        "the certificates of {base} cannot be looked up in DNS: {reason}"
                    )));
                }
            };
            let mut names = bases.clone();
            names.push(domain.to_owned());
            return Ok(Some(match Dane::new(base.clone(), names, &found) {
                Some(dane) => Records::Usable(dane),
                None => Records::Unusable,
            }));
        }
        Ok(None)
    }
}

enum Records {
    Usable(Dane),
    Unusable,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _};

    use super::*;

    struct Made {
        authority: CertificateDer<'static>,
        own: CertificateDer<'static>,
        own_key: Vec<u8>,
    }

    /// An authority, and a certificate for `mx.example.net` that it signed.
    fn made() -> Made {
        let mut of_authority = CertificateParams::new(Vec::new()).expect("no names");
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = of_authority.self_signed(&key).expect("a certificate").der().clone();
        let issuer = Issuer::new(of_authority, key);
        let own_key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec!["mx.example.net".to_owned()]).expect("a name");
        let own = own.signed_by(&own_key, &issuer).expect("a certificate").der().clone();
        Made { authority, own, own_key: own_key.subject_public_key_info() }
    }

    fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> TLSA {
        let data = match matching {
            1 => Sha256::digest(data).to_vec(),
            2 => Sha512::digest(data).to_vec(),
            _ => data.to_vec(),
        };
        TLSA::new(usage.into(), selector.into(), matching.into(), data)
    }

    fn dane(name: &str, records: &[TLSA]) -> Option<Dane> {
        Dane::new("mx.example.net".into(), vec![name.to_owned()], records)
    }

    fn accepts(name: &str, records: &[TLSA], own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let dane = dane(name, records).expect("something usable");
        dane.check(own, others, UnixTime::now(), &provider).is_ok()
    }

    #[test]
    fn a_certificate_of_its_own_is_known_by_itself_or_by_its_key() {
        let made = made();
        let other = self::made();
        for matching in 0..=2 {
            for (selector, data) in [(0, made.own.as_ref()), (1, made.own_key.as_slice())] {
                let records = [record(3, selector, matching, data)];
                // The name does not count, and there need be no authority.
                assert!(accepts("elsewhere.example", &records, &made.own, &[]), "3 {selector} {matching}");
                assert!(!accepts("mx.example.net", &records, &other.own, &[]), "3 {selector} {matching}");
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let late = UnixTime::since_unix_epoch(Duration::from_secs(90_000_000_000));
        let dane = dane("x.example", &[record(3, 1, 1, &made.own_key)]).expect("usable");
        assert!(dane.check(&made.own, &[], late, &provider).is_ok(), "dates do not count");
    }

    #[test]
    fn an_authority_stands_by_certificates_for_a_name() {
        let made = made();
        let other = self::made();
        for matching in 0..=2 {
            for selector in 0..=1 {
                let key = public_key(&made.authority).expect("a key");
                let data = if selector == 0 { made.authority.as_ref() } else { &key };
                let records = [record(2, selector, matching, data)];
                let chain = [made.authority.clone()];
                assert!(accepts("mx.example.net", &records, &made.own, &chain), "2 {selector} {matching}");
                assert!(!accepts("mx.example.org", &records, &made.own, &chain), "another name");
                assert!(!accepts("mx.example.net", &records, &other.own, &chain), "of another authority");
                let is_whole = (selector, matching) == (0, 0);
                let unsent = accepts("mx.example.net", &records, &made.own, std::slice::from_ref(&other.authority));
                assert_eq!(unsent, is_whole, "an authority that is in DNS whole need not be sent");
            }
        }
        // An authority that is in DNS whole need not be sent.
        assert!(accepts("mx.example.net", &[record(2, 0, 0, &made.authority)], &made.own, &[]));
        assert!(!accepts("mx.example.net", &[record(2, 0, 1, &made.authority)], &made.own, &[]));
    }

    #[test]
    fn one_record_of_several_is_enough_and_the_better_digest_counts() {
        let made = made();
        let other = self::made();
        let wrong = record(3, 1, 1, &other.own_key);
        assert!(accepts("x.example", &[wrong.clone(), record(3, 0, 1, &made.own)], &made.own, &[]));
        assert!(accepts("x.example", &[wrong.clone(), record(3, 1, 0, &made.own_key)], &made.own, &[]));
        let weaker = [record(3, 1, 1, &made.own_key), record(3, 1, 2, &other.own_key)];
        assert!(!accepts("x.example", &weaker, &made.own, &[]), "SHA-512 of another key is there");
    }

    #[test]
    fn records_that_mean_nothing_to_mail_are_none() {
        let made = made();
        for (usage, selector, matching) in [(0, 0, 1), (1, 1, 1), (4, 1, 1), (255, 1, 1), (3, 2, 1), (3, 1, 3)] {
            assert!(dane("x.example", &[record(usage, selector, matching, &made.own)]).is_none());
        }
        assert!(dane("x.example", &[TLSA::new(3.into(), 1.into(), 1.into(), vec![1; 31])]).is_none());
        assert!(dane("x.example", &[TLSA::new(3.into(), 1.into(), 0.into(), Vec::new())]).is_none());
        assert!(dane("x.example", &[]).is_none());
    }

    #[test]
    fn the_key_of_a_certificate_is_the_one_it_was_made_with() {
        let made = made();
        assert_eq!(public_key(&made.own), Some(made.own_key));
        assert_eq!(public_key(&CertificateDer::from(vec![0x30, 0x01, 0x00])), None);
    }
}
