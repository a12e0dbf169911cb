//! Whether a mail is from whom it says it is: SPF, DKIM, DMARC and ARC, judged by mail-auth, in one verdict.
//! [RFC 7208] [RFC 6376] [RFC 9989] [RFC 8617]
//!
//! A mail is *verified* when the domain of its author stands by it: by a signature, or by naming the host that sent it. For
//! domains that publish no policy the same is asked; only what follows from a failure is theirs to wish.

use std::{net::IpAddr, time::Duration};

use koine_projection::mail::Address;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DmarcResult, SpfOutput, SpfResult,
    dmarc::{Policy, verify::DmarcParameters},
    spf::verify::SpfParameters,
};
use serde_json::{Value, json};

use super::reply::Refusal;
use crate::core::Core;

/// Longest that all the questions about one mail may take together.
const JUDGING_MAX: Duration = Duration::from_secs(45);
/// Longest that the lists of hosts who are refused are asked, all together: whoever connects waits for the greeting.
const LISTS_MAX: Duration = Duration::from_secs(15);
/// Most signatures of one mail that are looked at; further ones are not asked about.
const SIGNATURES_MAX: usize = 16;

/// What became of each way to tell. The words are those of RFC 8601.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) spf: &'static str,
    pub(super) dkim: &'static str,
    pub(super) dmarc: &'static str,
    pub(super) arc: &'static str,
    /// The author's domain stands by the mail.
    pub(super) is_verified: bool,
    /// Whoever sent it has looked at that already.
    pub(super) is_trusted: bool,
    /// The domains that stand by it.
    domains: Vec<String>,
}

impl Verdict {
    /// Of a mail that somebody in front of us has looked at.
    fn unasked() -> Self {
        Self {
            spf: "none",
            dkim: "none",
            dmarc: "none",
            arc: "none",
            is_verified: false,
            is_trusted: true,
            domains: vec![],
        }
    }

    /// Whether a domain stands by the mail.
    pub(super) fn stands_by(&self, domain: &str) -> bool {
        self.domains.iter().any(|by| is_aligned(by, domain))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "spf": self.spf, "dkim": self.dkim, "dmarc": self.dmarc, "arc": self.arc,
            "verified": self.is_verified, "trusted": self.is_trusted,
        })
    }
}

/// What is known of where a mail came from.
pub(super) struct Origin<'a> {
    pub(super) address: IpAddr,
    pub(super) is_trusted: bool,
    pub(super) helo: &'a str,
    pub(super) from: Option<&'a Address>,
}

/// Judges a mail by `author`.
///
/// # Errors
/// What the author's domain wishes of mails that fail; `SenderUnknown` where it could not be asked.
pub(super) async fn judge(core: &Core, text: &[u8], author: &Address, origin: &Origin<'_>) -> Result<Verdict, Refusal> {
    if origin.is_trusted {
        return Ok(Verdict::unasked());
    }
    let judged = tokio::time::timeout(JUDGING_MAX, ask(core, text, author, origin)).await;
    judged.unwrap_or(Err(Refusal::SenderUnknown))
}

async fn ask(core: &Core, text: &[u8], author: &Address, origin: &Origin<'_>) -> Result<Verdict, Refusal> {
    let judge = core.cores.dns.judge();
    let message = AuthenticatedMessage::parse(text).ok_or(Refusal::NoMail("its headers cannot be read"))?;
    if message.dkim_headers.len() > SIGNATURES_MAX {
        return Err(Refusal::NoMail("it has too many signatures"));
    }
    let spf = spf(core, origin).await;
    let dkim = judge.verify_dkim(&message).await;
    let arc = judge.verify_arc(&message).await;
    let domain = origin.from.map_or(origin.helo, |from| from.domain());
    let dmarc = judge.verify_dmarc(DmarcParameters::new(&message, &dkim, domain, &spf)).await;

    let signed = dkim.iter().filter(|output| *output.result() == DkimResult::Pass);
    let mut domains: Vec<String> = signed.filter_map(|output| Some(output.signature()?.d.clone())).collect();
    domains.extend((spf.result() == SpfResult::Pass).then(|| spf.domain().to_owned()));
    let dmarc_results = [dmarc.dkim_result(), dmarc.spf_result()];
    let passes = dmarc_results.contains(&&DmarcResult::Pass);
    let unknown = dmarc_results.iter().any(|result| matches!(result, DmarcResult::TempError(_)))
        || (!passes
            && dmarc.policy() != Policy::Unspecified
            && (spf.result() == SpfResult::TempError
                || dkim.iter().any(|output| matches!(output.result(), DkimResult::TempError(_)))));
    let has_policy = dmarc.policy() != Policy::Unspecified;
    let word = match (passes, unknown, has_policy) {
        (true, ..) => "pass",
        (_, true, _) => "temperror",
        (_, _, true) => "fail",
        _ => "none",
    };
    if word == "temperror" && core.config().incoming.honour_reject {
        // Tomorrow's answer may be a refusal: it is waited for.
        return Err(Refusal::SenderUnknown);
    }
    if word == "fail" && dmarc.policy() == Policy::Reject && core.config().incoming.honour_reject {
        return Err(Refusal::PolicyOfDomain(author.domain().to_owned()));
    }
    Ok(Verdict {
        spf: spf_word(spf.result()),
        dkim: best(dkim.iter().map(mail_auth::DkimOutput::result)),
        dmarc: word,
        arc: dkim_word(arc.result()),
        is_verified: passes || domains.iter().any(|by| is_aligned(by, author.domain())),
        is_trusted: false,
        domains,
    })
}

async fn spf(core: &Core, origin: &Origin<'_>) -> SpfOutput {
    let (judge, address) = (core.cores.dns.judge(), origin.address.to_canonical());
    match origin.from {
        Some(from) => {
            let sender = from.to_string();
            judge.verify_spf(SpfParameters::verify_mail_from(address, origin.helo, core.hostname(), &sender)).await
        }
        None => judge.verify_spf(SpfParameters::verify_ehlo(address, origin.helo, core.hostname())).await,
    }
}

/// Whether the domain that stands by a mail is the author's, or one above or below it. A domain that anybody may register
/// under (`co.uk`) signs nothing, for nobody holds its keys.
fn is_aligned(domain: &str, author: &str) -> bool {
    let (domain, author) = (domain.trim_end_matches('.').to_ascii_lowercase(), author.trim_end_matches('.'));
    let is_below = |below: &str, above: &str| {
        above.contains('.') && below.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
    };
    domain == author || is_below(&domain, author) || is_below(author, &domain)
}

fn spf_word(result: SpfResult) -> &'static str {
    match result {
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::SoftFail => "softfail",
        SpfResult::Neutral => "neutral",
        SpfResult::TempError => "temperror",
        SpfResult::PermError => "permerror",
        SpfResult::None => "none",
    }
}

fn dkim_word(result: &DkimResult) -> &'static str {
    match result {
        DkimResult::Pass => "pass",
        DkimResult::Neutral(_) => "neutral",
        DkimResult::Fail(_) => "fail",
        DkimResult::PermError(_) => "permerror",
        DkimResult::TempError(_) => "temperror",
        DkimResult::None => "none",
    }
}

/// The best of several signatures: one that holds is enough.
fn best<'a>(results: impl Iterator<Item = &'a DkimResult>) -> &'static str {
    let words: Vec<_> = results.map(dkim_word).collect();
    let order = ["pass", "temperror", "fail", "permerror", "neutral"];
    order.into_iter().find(|word| words.contains(word)).unwrap_or("none")
}

/// Whether a host is on one of the lists that the operator refuses. A list that does not answer says nothing. [RFC 5782]
pub(super) async fn check_block_lists(core: &Core, address: IpAddr) -> Result<(), Refusal> {
    tokio::time::timeout(LISTS_MAX, ask_block_lists(core, address)).await.unwrap_or(Ok(()))
}

async fn ask_block_lists(core: &Core, address: IpAddr) -> Result<(), Refusal> {
    for list in &core.config().incoming.block_lists {
        let name = format!("{}.{}.", reversed(address.to_canonical()), list.trim_end_matches('.'));
        let Ok(found) = core.cores.dns.resolver().ipv4_lookup(name).await else { continue };
        let is_listed = found.answers().iter().any(|record| match &record.data {
            // Other answers are errors of the list: "you ask too often". [RFC 5782 §2.1]
            hickory_resolver::proto::rr::RData::A(a) => {
                let [first, second, ..] = a.0.octets();
                first == 127 && second != 255
            }
            _ => false,
        });
        if is_listed {
            return Err(Refusal::OnBlockList(list.clone()));
        }
    }
    Ok(())
}

/// An address as such lists have it: backwards.
fn reversed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_stands_by_its_own_authors_alone() {
        for (domain, author, expected) in [
            ("example.org", "example.org", true),
            ("mail.example.org", "example.org", true),
            ("Example.org", "mail.example.org", true),
            ("badexample.org", "example.org", false),
            ("org", "example.org", false),
            ("evil.org", "example.org", false),
        ] {
            assert_eq!(is_aligned(domain, author), expected, "{domain} {author}");
        }
    }

    #[test]
    fn addresses_are_asked_about_backwards() {
        assert_eq!(reversed("192.0.2.1".parse().unwrap()), "1.2.0.192");
        assert!(reversed("2001:db8::1".parse().unwrap()).starts_with("1.0.0.0."));
    }
}
