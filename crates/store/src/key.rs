//! Keys: values written so that comparing the bytes compares the values.
//!
//! Integers are big-endian (signed ones with the sign bit flipped). Strings and byte strings end with `00 00`, and a
//! zero byte inside is written `00 ff`: `"a"` sorts before `"a\0"`, before `"ab"`, whatever follows in a tuple. So no
//! encoded key is the beginning of another of the same type, and tuples sort by their parts from left to right.
//!
//! Lookups take borrowed forms ([`AsKey`]): `&str` for `String`, `("anna", 7)` for `(String, u64)`. Leading parts of a
//! tuple ([`PrefixOf`]) name a range: `("anna",)`, or `(Begins("an"),)` for the strings that begin so.

use thiserror::Error;

use crate::log::Position;

/// Why bytes are not a key of the expected type. Means a damaged row, or a table read with another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The bytes end early.
    #[error("the key ends early")]
    Short,
    /// Bytes are left over.
    #[error("the key has {0} bytes too many")]
    Long(usize),
    /// A string is not UTF-8, or a bool is neither 0 nor 1.
    #[error("the key holds a value that its type does not have")]
    Value,
}

/// A type that can be a key, or part of one.
pub trait Key: AsKey<Self> + Sized + Send + Sync + 'static {
    /// Takes one value from the front of `input`.
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError>;
}

/// A form in which a key `K` may be given: itself, or something borrowed that encodes to the same bytes.
pub trait AsKey<K: ?Sized> {
    /// Appends the encoded key to `out`.
    fn encode(&self, out: &mut Vec<u8>);
}

/// The leading parts of a key `K`: all of it, or the first parts of a tuple.
pub trait PrefixOf<K: ?Sized> {
    /// Appends the encoded parts to `out`.
    fn encode_prefix(&self, out: &mut Vec<u8>);
}

/// As the last part of a prefix: every string that begins so.
#[derive(Debug, Clone, Copy)]
pub struct Begins<'a>(pub &'a str);

impl<K, Q: AsKey<K> + ?Sized> AsKey<K> for &Q {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<K, Q: AsKey<K> + ?Sized> PrefixOf<K> for Q {
    fn encode_prefix(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }
}

impl PrefixOf<String> for Begins<'_> {
    fn encode_prefix(&self, out: &mut Vec<u8>) {
        escape(self.0.as_bytes(), out);
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], KeyError> {
    let (taken, rest) = input.split_at_checked(count).ok_or(KeyError::Short)?;
    *input = rest;
    Ok(taken)
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], KeyError> {
    take(input, N)?.try_into().map_err(|_| KeyError::Short)
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl AsKey<$type> for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }

        impl Key for $type {
            fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
                Ok(Self::from_be_bytes(take_array(input)?))
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64);

const SIGN: u64 = 1 << 63;

impl AsKey<i64> for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.cast_unsigned() ^ SIGN).encode(out);
    }
}

impl Key for i64 {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok((u64::decode(input)? ^ SIGN).cast_signed())
    }
}

impl AsKey<bool> for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Key for bool {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(KeyError::Value),
        }
    }
}

impl AsKey<Position> for Position {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Key for Position {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok(Self(u64::decode(input)?))
    }
}

impl<const N: usize> AsKey<[u8; N]> for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Key for [u8; N] {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        take_array(input)
    }
}

const ZERO_INSIDE: u8 = 0xff;
const END: [u8; 2] = [0, 0];

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut parts = bytes.split(|byte| *byte == 0);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(&[0, ZERO_INSIDE]);
        out.extend_from_slice(part);
    }
}

fn unescape(input: &mut &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut out = Vec::new();
    loop {
        let zero = input.iter().position(|byte| *byte == 0).ok_or(KeyError::Short)?;
        out.extend_from_slice(take(input, zero)?);
        match take_array::<2>(input)? {
            END => return Ok(out),
            [0, ZERO_INSIDE] => out.push(0),
            _ => return Err(KeyError::Value),
        }
    }
}

fn encode_string(bytes: &[u8], out: &mut Vec<u8>) {
    escape(bytes, out);
    out.extend_from_slice(&END);
}

macro_rules! strings {
    ($($form:ty => $key:ty),*) => {$(
        impl AsKey<$key> for $form {
            fn encode(&self, out: &mut Vec<u8>) {
                encode_string(self.as_ref(), out);
            }
        }
    )*};
}

strings!(str => String, String => String, [u8] => Vec<u8>, Vec<u8> => Vec<u8>, bytes::Bytes => Vec<u8>);

impl Key for String {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Self::from_utf8(unescape(input)?).map_err(|_| KeyError::Value)
    }
}

impl Key for Vec<u8> {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        unescape(input)
    }
}

/// The key of a table with one row.
impl AsKey<()> for () {
    fn encode(&self, _: &mut Vec<u8>) {}
}

impl Key for () {
    fn decode(_: &mut &[u8]) -> Result<Self, KeyError> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($part:ident $form:ident $index:tt),+) => {
        impl<$($part,)+ $($form: AsKey<$part>,)+> AsKey<($($part,)+)> for ($($form,)+) {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)+
            }
        }

        impl<$($part: Key,)+> Key for ($($part,)+) {
            fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
                Ok(($($part::decode(input)?,)+))
            }
        }
    };
}

tuple!(A QA 0);
tuple!(A QA 0, B QB 1);
tuple!(A QA 0, B QB 1, C QC 2);
tuple!(A QA 0, B QB 1, C QC 2, D QD 3);
tuple!(A QA 0, B QB 1, C QC 2, D QD 3, E QE 4);

/// `(first parts.., last part) of (first parts.., last part, the rest..)`.
macro_rules! tuple_prefix {
    ($($part:ident $form:ident $index:tt),*; $last:ident $last_form:ident $last_index:tt; $($rest:ident),+) => {
        impl<$($part, $form: AsKey<$part>,)* $last, $last_form: PrefixOf<$last>, $($rest,)+>
            PrefixOf<($($part,)* $last, $($rest,)+)> for ($($form,)* $last_form,)
        {
            fn encode_prefix(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)*
                self.$last_index.encode_prefix(out);
            }
        }
    };
}

tuple_prefix!(; A QA 0; B);
tuple_prefix!(; A QA 0; B, C);
tuple_prefix!(; A QA 0; B, C, D);
tuple_prefix!(; A QA 0; B, C, D, E);
tuple_prefix!(A QA 0; B QB 1; C);
tuple_prefix!(A QA 0; B QB 1; C, D);
tuple_prefix!(A QA 0; B QB 1; C, D, E);
tuple_prefix!(A QA 0, B QB 1; C QC 2; D);
tuple_prefix!(A QA 0, B QB 1; C QC 2; D, E);
tuple_prefix!(A QA 0, B QB 1, C QC 2; D QD 3; E);

/// Decodes a whole key; bytes left over are an error.
pub(crate) fn decode_all<K: Key>(mut input: &[u8]) -> Result<K, KeyError> {
    let key = K::decode(&mut input)?;
    if input.is_empty() { Ok(key) } else { Err(KeyError::Long(input.len())) }
}

#[cfg(test)]
#[path = "key/tests.rs"]
mod tests;
