//! The place of an entry in the tree.

use crate::hashes::sha256;

/// 96 bits: 32 of the hash of the type, then 64 of the hash of the state key. Read four bits at a time from the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(u128);

/// Steps of four bits in a path.
pub(crate) const STEPS: u8 = 24;

/// Steps that the type makes up.
pub(crate) const TYPE_STEPS: u8 = 8;

impl Path {
    /// The path of an entry.
    pub fn of(kind: &str, state_key: &str) -> Self {
        let [a, b, c, d, ..] = sha256(kind.as_bytes());
        let [e, f, g, h, i, j, k, l, ..] = sha256(state_key.as_bytes());
        Self(u128::from_be_bytes([0, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l]))
    }

    /// The smallest path of a type, which shares its first [`TYPE_STEPS`] steps with all of the type.
    pub(crate) fn of_type(kind: &str) -> Self {
        Self(Self::of(kind, "").0 >> 64 << 64)
    }

    /// The four bits of one step.
    pub(crate) fn step(self, at: u8) -> u8 {
        let bits = self.0 >> (4 * u32::from(STEPS - 1 - at.min(STEPS - 1)));
        u8::try_from(bits & 0xf).expect("four bits fit into eight")
    }

    /// How many steps two paths have in common, from the top.
    pub(crate) fn common(self, other: Self) -> u8 {
        let zeros = (self.0 ^ other.0).leading_zeros().saturating_sub(32);
        u8::try_from(zeros / 4).map_or(STEPS, |steps| steps.min(STEPS))
    }

    /// The path with all steps from `at` on set to zero.
    pub(crate) fn up_to(self, at: u8) -> Self {
        let rest = 4 * u32::from(STEPS - at.min(STEPS));
        Self(self.0.checked_shr(rest).and_then(|bits| bits.checked_shl(rest)).unwrap_or(0))
    }

    pub(crate) fn to_bytes(self) -> [u8; 12] {
        let [_, _, _, _, bytes @ ..] = self.0.to_be_bytes();
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 12]) -> Self {
        let mut all = [0; 16];
        for (to, from) in all.iter_mut().skip(4).zip(bytes) {
            *to = from;
        }
        Self(u128::from_be_bytes(all))
    }
}
