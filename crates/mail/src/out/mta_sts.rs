//! MTA-STS: a domain says by HTTPS that its mail servers speak TLS and what they are called; from then on for as long as it
//! says, mails go there so or not at all. [RFC 8461]

use std::time::Duration;

use koine_net::{Limits, WebRequest, url::Url};

use super::{
    Out,
    tables::{POLICY, PolicyRecord},
};

/// Longest policy. [RFC 8461 §3.3]
const POLICY_BYTES_MAX: u64 = 64 * 1024;
/// Hosts that a policy names at most.
const HOSTS_MAX: usize = 100;
/// For how long a policy is believed at most: what §3.2 allows.
const AGE_MAX_S: u64 = 31_557_600;
/// How the policy is fetched.
const LIMITS: Limits = Limits {
    headers: Duration::from_secs(30),
    stall: Duration::from_secs(15),
    total: Duration::from_secs(60),
    body_bytes_max: POLICY_BYTES_MAX,
};

/// What a domain asks of whoever sends mail to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    mx: Vec<String>,
}

impl Policy {
    /// Whether mails may go to a host. [RFC 8461 §4.1]
    pub(crate) fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => *pattern == host,
        })
    }
}

/// A policy as it is written. [RFC 8461 §3.2]
#[derive(Debug, PartialEq, Eq)]
struct Written {
    enforce: bool,
    mx: Vec<String>,
    max_age_s: u64,
}

fn parse(text: &str) -> Option<Written> {
    let (mut version, mut mode, mut age, mut mx) = (None, None, None, Vec::new());
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.trim() {
            "version" => version = version.or(Some(value)),
            "mode" => mode = mode.or(Some(value)),
            "max_age" => age = age.or(value.parse::<u64>().ok()),
            "mx" if mx.len() < HOSTS_MAX => mx.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    let enforce = match mode? {
        "enforce" => true,
        "testing" | "none" => false,
        _ => return None,
    };
    (version? == "STSv1" && (!enforce || !mx.is_empty())).then_some(Written {
        enforce,
        mx,
        max_age_s: age?.min(AGE_MAX_S),
    })
}

/// The id that the TXT record tells. [RFC 8461 §3.1]
fn id(records: &[String]) -> Option<String> {
    let mut ours = records.iter().filter(|record| record.starts_with("v=STSv1;"));
    let (only, None) = (ours.next()?, ours.next()) else { return None };
    let id = only.split(';').find_map(|field| field.trim().strip_prefix("id="))?.trim();
    (!id.is_empty() && id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| id.to_owned())
}

impl Out {
    /// What a domain asks; nothing where it asks nothing. A policy that was seen holds also while it cannot be fetched.
    pub(crate) async fn policy(&self, domain: &str) -> Option<Policy> {
        let known = self.shard().get(&POLICY, self.domain(), domain).ok().flatten();
        let known = known.filter(|policy| policy.until_ms > self.now_ms());
        let told = self.0.cores.dns.texts(&format!("_mta-sts.{domain}")).await.ok().as_deref().and_then(id);
        let held =
            |known: Option<PolicyRecord>| known.filter(|policy| policy.enforce).map(|policy| Policy { mx: policy.mx });
        let Some(id) = told.filter(|id| known.as_ref().is_none_or(|known| known.id != *id)) else { return held(known) };
        let Some(written) = self.fetch(domain).await else { return held(known) };
        let record = PolicyRecord {
            id,
            enforce: written.enforce,
            mx: written.mx.clone(),
            until_ms: self.now_ms() + written.max_age_s * 1_000,
        };
        let (tenant, name, row) = (self.domain(), domain.to_owned(), record.clone());
        if let Err(error) = self.shard().submit(move |txn| txn.put(&POLICY, tenant, name.as_str(), &row)).await {
            tracing::warn!(peer = domain, reason = %error, "a policy of TLS could not be kept");
        }
        held(Some(record))
    }

    async fn fetch(&self, domain: &str) -> Option<Written> {
        let url = Url::parse(&format!("https://mta-sts.{domain}/.well-known/mta-sts.txt")).ok()?;
        let answer = match self.0.cores.web.web(WebRequest::get(url, LIMITS)).await {
            Ok(answer) => answer.bytes().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(text) => parse(std::str::from_utf8(&text).ok()?),
            Err(error) => {
                tracing::debug!(peer = domain, reason = %error, "a policy of TLS could not be fetched");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmax_age: 604800\r\nodd: x\r\n";
        let written = parse(text).expect("the example of the RFC");
        assert!(written.enforce);
        assert_eq!(written.max_age_s, 604_800);
        let policy = Policy { mx: written.mx };
        assert!(policy.allows("mail.example.com") && policy.allows("MX.example.net"));
        assert!(
            !policy.allows("example.net") && !policy.allows("a.b.example.net") && !policy.allows("mail.example.org")
        );
    }

    #[test]
    fn what_is_no_policy_is_none() {
        for text in [
            "",
            "version: STSv2\nmode: enforce\nmx: a\nmax_age: 1",
            "version: STSv1\nmode: maybe\nmx: a\nmax_age: 1",
            "version: STSv1\nmode: enforce\nmax_age: 1",
            "version: STSv1\nmode: enforce\nmx: a",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("version: STSv1\nmode: none\nmax_age: 99999999999").map(|it| it.max_age_s), Some(AGE_MAX_S));
        assert_eq!(id(&["v=STSv1; id=20160831085700Z;".into()]).as_deref(), Some("20160831085700Z"));
        assert_eq!(id(&["v=STSv1; id=1;".into(), "v=STSv1; id=2;".into()]), None);
        assert_eq!(id(&["v=spf1 -all".into()]), None);
    }
}
