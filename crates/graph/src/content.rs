//! Looking at single fields of a JSON object, without building a tree of the rest.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The text of one field of an object; of several with this name the last, as everywhere.
pub(crate) fn raw_field<'a>(object: &'a RawValue, field: &str) -> Option<&'a RawValue> {
    let mut parser = serde_json::Deserializer::from_str(object.get());
    parser.deserialize_map(Finder { field, found: PhantomData }).ok().flatten()
}

/// One field of an object; `None` when it is missing or of another type.
pub(crate) fn field<'a, T: Deserialize<'a>>(object: &'a RawValue, field: &str) -> Option<T> {
    serde_json::from_str(raw_field(object, field)?.get()).ok()
}

struct Finder<'f, 'a> {
    field: &'f str,
    found: PhantomData<&'a RawValue>,
}

impl<'a> Visitor<'a> for Finder<'_, 'a> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(Key(key)) = map.next_key::<Key<'a>>()? {
            if key == self.field {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_whatever_stands_around_it() {
        let object: Box<RawValue> =
            serde_json::from_str(r#"{"a":{"b":1},"\u0062":[2],"c":"x","c":"y"}"#).expect("valid");
        assert_eq!(field::<Vec<u8>>(&object, "b"), Some(vec![2]));
        assert_eq!(field::<String>(&object, "c"), Some("y".to_owned()));
        assert_eq!(field::<String>(&object, "a"), None);
        assert_eq!(field::<String>(&object, "d"), None);
        assert_eq!(raw_field(&object, "a").map(RawValue::get), Some(r#"{"b":1}"#));
    }
}
