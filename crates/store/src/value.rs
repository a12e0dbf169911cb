//! Values: what stands at a key.
//!
//! `Bytes`, `Vec<u8>` and `String` are stored as they are, `u64` and `i64` as eight bytes, `()` as nothing. Records are
//! written with postcard behind one byte that names their format; [`stored!`](crate::stored) does it for a type that
//! serde knows:
//!
//! ```
//! # use serde::{Serialize, Deserialize};
//! #[derive(Serialize, Deserialize)]
//! struct Device { name: Option<String>, seen_ms: u64 }
//! #[derive(Serialize, Deserialize)]
//! struct Session { device: String }
//! koine_store::stored!(Device, Session);
//! ```
//!
//! postcard is not self-describing: no `skip_serializing_if`, `flatten`, `untagged` or `serde_json::Value` in a record;
//! JSON is kept as a string or as bytes. Any change of the fields is a new format (`stored!(Device = 2)`); to go on
//! reading the old one, implement [`Value`] by hand with [`decode_stored`] for each format byte that exists.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Why a value could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Written in a format that this program does not know.
    #[error("the record has format {found}, and this version of Koine knows {known}")]
    Format {
        /// The record's first byte.
        found: u8,
        /// What the reader expected.
        known: u8,
    },
    /// Not a record of this type.
    #[error("the record is damaged: {0}")]
    Damaged(String),
    /// The type holds something that postcard cannot express.
    #[error("the record cannot be written: {0}")]
    Unwritable(String),
}

/// A type that can be stored.
pub trait Value: Sized + Send + Sync + 'static {
    /// The stored form. `arena` is scratch space that many values share: append to it, then split off what you wrote.
    fn encode(&self, arena: &mut BytesMut) -> Result<Bytes, ValueError>;

    /// Reads the stored form.
    fn decode(bytes: Bytes) -> Result<Self, ValueError>;
}

impl Value for Bytes {
    fn encode(&self, _: &mut BytesMut) -> Result<Bytes, ValueError> {
        Ok(self.clone())
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        Ok(bytes)
    }
}

fn copy(bytes: &[u8], arena: &mut BytesMut) -> Bytes {
    arena.extend_from_slice(bytes);
    arena.split().freeze()
}

impl Value for Vec<u8> {
    fn encode(&self, arena: &mut BytesMut) -> Result<Bytes, ValueError> {
        Ok(copy(self, arena))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        Ok(bytes.into())
    }
}

impl Value for String {
    fn encode(&self, arena: &mut BytesMut) -> Result<Bytes, ValueError> {
        Ok(copy(self.as_bytes(), arena))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        Self::from_utf8(bytes.into()).map_err(|error| ValueError::Damaged(error.to_string()))
    }
}

macro_rules! eight_bytes {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn encode(&self, arena: &mut BytesMut) -> Result<Bytes, ValueError> {
                Ok(copy(&self.to_be_bytes(), arena))
            }

            fn decode(bytes: Bytes) -> Result<Self, ValueError> {
                let bytes = bytes.as_ref().try_into();
                bytes.map(Self::from_be_bytes).map_err(|_| ValueError::Damaged("not eight bytes".to_owned()))
            }
        }
    )*};
}

eight_bytes!(u64, i64);

impl Value for () {
    fn encode(&self, _: &mut BytesMut) -> Result<Bytes, ValueError> {
        Ok(Bytes::new())
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        if bytes.is_empty() { Ok(()) } else { Err(ValueError::Damaged("not empty".to_owned())) }
    }
}

macro_rules! tuple {
    ($($part:ident),+) => {
        /// Small tuples are records of format 1.
        impl<$($part: Serialize + DeserializeOwned + Send + Sync + 'static),+> Value for ($($part,)+) {
            fn encode(&self, arena: &mut BytesMut) -> Result<Bytes, ValueError> {
                encode_stored(1, self, arena)
            }

            fn decode(bytes: Bytes) -> Result<Self, ValueError> {
                decode_stored(1, &bytes)
            }
        }
    };
}

tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);

/// Writes a record: the format byte, then postcard.
pub fn encode_stored<T: Serialize>(format: u8, record: &T, arena: &mut BytesMut) -> Result<Bytes, ValueError> {
    arena.put_u8(format);
    if let Err(error) = postcard::to_io(record, (&mut *arena).writer()) {
        arena.clear();
        return Err(ValueError::Unwritable(error.to_string()));
    }
    Ok(arena.split().freeze())
}

/// Reads a record that [`encode_stored`] wrote in the same format.
pub fn decode_stored<T: DeserializeOwned>(format: u8, bytes: &[u8]) -> Result<T, ValueError> {
    let (found, body) = bytes.split_first().ok_or_else(|| ValueError::Damaged("it is empty".to_owned()))?;
    if *found != format {
        return Err(ValueError::Format { found: *found, known: format });
    }
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Ok(record),
        Ok((_, rest)) => Err(ValueError::Damaged(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(ValueError::Damaged(error.to_string())),
    }
}

/// Makes serde types storable: `stored!(Device, Session)`, or with a format other than 1, `stored!(Device = 2)`.
#[macro_export]
macro_rules! stored {
    ($($type:ty $(= $format:literal)?),+ $(,)?) => {$(
        impl $crate::Value for $type {
            fn encode(
                &self,
                arena: &mut $crate::bytes::BytesMut,
            ) -> ::core::result::Result<$crate::bytes::Bytes, $crate::ValueError> {
                $crate::encode_stored($crate::stored!(@format $($format)?), self, arena)
            }

            fn decode(bytes: $crate::bytes::Bytes) -> ::core::result::Result<Self, $crate::ValueError> {
                $crate::decode_stored($crate::stored!(@format $($format)?), &bytes)
            }
        }
    )+};
    (@format) => { 1 };
    (@format $format:literal) => { $format };
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old(u32);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New(u32);
    stored!(Old, New = 2);

    fn there_and_back<V: Value + PartialEq + std::fmt::Debug>(value: &V) {
        let mut arena = BytesMut::new();
        let bytes = value.encode(&mut arena).expect("these can be written");
        assert!(arena.is_empty(), "an encoder splits off what it wrote");
        assert_eq!(&V::decode(bytes).expect("just written"), value);
    }

    #[test]
    fn values_come_back_as_they_were() {
        there_and_back(&Bytes::from_static(b"raw"));
        there_and_back(&b"raw".to_vec());
        there_and_back(&"grüezi".to_owned());
        there_and_back(&u64::MAX);
        there_and_back(&-1i64);
        there_and_back(&());
        there_and_back(&("a".to_owned(), 7u64, Some(false)));
        there_and_back(&Old(300));
        there_and_back(&New(300));
    }

    #[test]
    fn another_format_is_named_and_not_guessed_at() {
        let bytes = Old(300).encode(&mut BytesMut::new()).expect("this can be written");
        assert_eq!(New::decode(bytes), Err(ValueError::Format { found: 1, known: 2 }));
    }

    #[test]
    fn cut_and_padded_records_are_damaged() {
        let bytes = Old(300).encode(&mut BytesMut::new()).expect("this can be written");
        for wrong in [&bytes[..0], &bytes[..1], &bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat()] {
            assert!(matches!(decode_stored::<Old>(1, wrong), Err(ValueError::Damaged(_))), "{wrong:?}");
        }
    }
}
