//! The address guard: servers are named by strangers, and must not be able to name our own network.
//!
//! Whoever can send us an event can make us connect to a host of their choosing. An address that is not part of the
//! public internet is refused unless the configuration allows it. What is judged is the address that is then connected
//! to, not a name that DNS may answer differently a moment later (rebinding).
//!
//! The ranges are those of the IANA registries of special-purpose addresses [RFC 6890] that are not globally reachable.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A range of addresses, written `10.0.0.0/8` or `fd00::/8`; a lone address is a range of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    base: IpAddr,
    bits: u8,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no range of addresses; write it like 10.0.0.0/8 or fd00::/8")]
pub struct RangeError(String);

impl Range {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(first: [u16; 8], bits: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = first;
        Self { base: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
    }

    /// Whether the address lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                same_bits(u32::from(base).into(), u32::from(address).into(), 32 - u32::from(self.bits))
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                same_bits(u128::from(base), u128::from(address), 128 - u32::from(self.bits))
            }
            _ => false,
        }
    }
}

fn same_bits(base: u128, address: u128, free: u32) -> bool {
    // Shifting by all 128 bits is no shift: such a range holds everything.
    (base ^ address).checked_shr(free).unwrap_or(0) == 0
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let wrong = || RangeError(text.to_owned());
        let (base, bits) = text.split_once('/').map_or((text, None), |(base, bits)| (base, Some(bits)));
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let all = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > all { Err(wrong()) } else { Ok(Self { base, bits }) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Range {
    fn schema_name() -> Cow<'static, str> {
        "AddressRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A range of addresses, like 10.0.0.0/8 or fd00::/8." })
    }
}

/// Loopback in both families: what a cluster on one machine needs to be allowed.
pub const LOOPBACK: [Range; 2] = [Range::v4(127, 0, 0, 0, 8), Range::v6([0, 0, 0, 0, 0, 0, 0, 1], 128)];

/// What no server on the internet has.
const NOT_PUBLIC: [Range; 28] = [
    Range::v4(0, 0, 0, 0, 8),                         // this network; 0.0.0.0 connects to loopback
    Range::v4(10, 0, 0, 0, 8),                        // private
    Range::v4(100, 64, 0, 0, 10),                     // behind a carrier's NAT
    Range::v4(127, 0, 0, 0, 8),                       // loopback
    Range::v4(169, 254, 0, 0, 16),                    // link-local; clouds serve credentials there
    Range::v4(172, 16, 0, 0, 12),                     // private
    Range::v4(192, 0, 0, 0, 24),                      // protocol assignments
    Range::v4(192, 0, 2, 0, 24),                      // documentation
    Range::v4(192, 88, 99, 0, 24),                    // 6to4 relays
    Range::v4(192, 168, 0, 0, 16),                    // private
    Range::v4(198, 18, 0, 0, 15),                     // benchmarks
    Range::v4(198, 51, 100, 0, 24),                   // documentation
    Range::v4(203, 0, 113, 0, 24),                    // documentation
    Range::v4(224, 0, 0, 0, 4),                       // multicast
    Range::v4(240, 0, 0, 0, 4),                       // reserved, broadcast
    Range::v6([0; 8], 96),                            // unspecified, loopback, IPv4-compatible
    Range::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),  // NAT64 within one network
    Range::v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64),      // discard
    Range::v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64),      // dummy prefix
    Range::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),     // protocol assignments, Teredo
    Range::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    Range::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),     // documentation
    Range::v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),     // segment routing
    Range::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),      // private
    Range::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),     // link-local
    Range::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),     // site-local, once
    Range::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),      // multicast
    Range::v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),     // translated IPv4
];

/// Judges addresses.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Vec<Range>,
}

impl Guard {
    /// A guard that lets pass what is public and what lies in one of these ranges.
    pub fn new(allowed: Vec<Range>) -> Self {
        Self { allowed }
    }

    /// Whether we may connect there.
    pub fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6 clothes is judged as what it is, and as what it looks like.
        let bare = address.to_canonical();
        let inner = embedded(bare);
        [Some(bare), inner].into_iter().flatten().all(|address| self.allows_one(address))
    }

    fn allows_one(&self, address: IpAddr) -> bool {
        let within = |ranges: &[Range]| ranges.iter().any(|range| range.contains(address));
        within(&self.allowed) || !within(&NOT_PUBLIC)
    }
}

/// The IPv4 address that packets to an IPv6 address are in the end sent to, by NAT64 or 6to4.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let four = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(IpAddr::from([a, b, c, d]))
    };
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
    }

    fn ranges(texts: &[&str]) -> Vec<Range> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    #[test]
    fn what_is_not_on_the_internet_is_refused() {
        let guard = Guard::default();
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!guard.allows(address(text)), "{text} should be refused");
        }
    }

    #[test]
    fn what_is_on_the_internet_is_allowed() {
        let guard = Guard::default();
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2001:4860:4860::8888",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
        ] {
            assert!(guard.allows(address(text)), "{text} should be allowed");
        }
    }

    #[test]
    fn the_configuration_opens_what_it_names_and_nothing_else() {
        let guard = Guard::new(ranges(&["127.0.0.0/8", "fd00::/8", "10.0.0.7"]));
        for text in ["127.0.0.1", "::ffff:127.0.0.1", "fd00::1", "10.0.0.7", "1.1.1.1", "64:ff9b::7f00:1"] {
            assert!(guard.allows(address(text)), "{text} should be allowed");
        }
        for text in ["::1", "fc00::1", "10.0.0.8", "192.168.0.1", "64:ff9b::a00:8"] {
            assert!(!guard.allows(address(text)), "{text} should be refused");
        }
        assert!(LOOPBACK[0].contains(address("127.3.2.1")) && LOOPBACK[1].contains(address("::1")));
        assert!(!LOOPBACK[1].contains(address("::2")));
    }

    #[test]
    fn a_range_is_read_strictly() {
        for bad in ["", "/", "10.0.0.0/33", "10.0.0/8", "::/129", "example.org", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        let everything = Guard::new(ranges(&["0.0.0.0/0", "::/0"]));
        assert!(everything.allows(address("127.0.0.1")) && everything.allows(address("fe80::1")));
    }

    proptest! {
        #[test]
        fn a_range_survives_printing_and_parsing(base: u128, bits in 0..=128_u8, four: bool) {
            let base = if four { IpAddr::from((base as u32).to_be_bytes()) } else { IpAddr::from(base.to_be_bytes()) };
            let range = Range { base, bits: if four { bits % 33 } else { bits } };
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            prop_assert!(range.contains(base));
        }

        #[test]
        fn a_mapped_address_is_judged_as_the_address_it_is(bits: u32) {
            let four = Ipv4Addr::from(bits);
            let guard = Guard::default();
            prop_assert_eq!(guard.allows(four.into()), guard.allows(four.to_ipv6_mapped().into()));
        }
    }
}
