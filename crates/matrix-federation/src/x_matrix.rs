//! The `X-Matrix` header: who sends a request, and the signature that proves it. [SS-API §request-authentication]

use ruma_common::{OwnedServerName, ServerName};

/// Longest header that is looked at.
const HEADER_BYTES_MAX: usize = 4_096;

/// A parsed header; nothing of it is proven.
#[derive(Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// Who claims to send.
    pub origin: OwnedServerName,
    /// Whom it is for; old servers do not say.
    pub destination: Option<String>,
    /// The key that signed.
    pub key: String,
    /// The signature, in base64.
    pub signature: String,
}

/// Our own header, in the form that old servers understand too.
pub fn header(origin: &ServerName, destination: &ServerName, key: &str, signature: &str) -> String {
    format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="{key}",sig="{signature}""#)
}

impl XMatrix {
    /// Reads a header: quoted values or bare ones, names in whatever case, spaces around commas.
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > HEADER_BYTES_MAX {
            return None;
        }
        let (scheme, mut rest) = header.trim_start().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("x-matrix") {
            return None;
        }
        let (mut origin, mut destination, mut key, mut signature) = (None, None, None, None);
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (name, after) = rest.split_once('=')?;
            let (value, after) = value(after.trim_start_matches([' ', '\t']))?;
            rest = after;
            let place = match name.trim_end().to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                "sig" => &mut signature,
                _ => continue,
            };
            // Said twice: nobody knows which one others believe.
            if place.replace(value).is_some() {
                return None;
            }
        }
        Some(Self { origin: OwnedServerName::try_from(origin?).ok()?, destination, key: key?, signature: signature? })
    }
}

/// A value and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // COMPAT(older servers): colons, and whatever else is no separator, without quotes.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_are_understood() {
        let wanted = XMatrix {
            origin: OwnedServerName::try_from("a.example:8448").expect("a name"),
            destination: Some("b.example".into()),
            key: "ed25519:1".into(),
            signature: "abc+/=".into(),
        };
        for text in [
            r#"X-Matrix origin="a.example:8448",destination="b.example",key="ed25519:1",sig="abc+/=""#,
            r#"x-matrix   ORIGIN=a.example:8448 ,	destination=b.example, key=ed25519:1,unknown=x,sig="abc+\/=""#,
        ] {
            assert_eq!(XMatrix::parse(text).as_ref(), Some(&wanted), "{text}");
        }
        let (origin, to) = (wanted.origin.clone(), OwnedServerName::try_from("b.example").expect("a name"));
        assert_eq!(XMatrix::parse(&header(&origin, &to, "ed25519:1", "abc+/=")), Some(wanted));
    }

    #[test]
    fn what_is_not_such_a_header_is_refused() {
        for text in [
            "",
            "Bearer x",
            "X-Matrix",
            "X-Matrix origin=a",
            r#"X-Matrix origin="a,key=b,sig=c"#,
            "X-Matrix origin=a,origin=b,key=k,sig=s",
            "X-Matrix origin=not/a/name,key=k,sig=s",
        ] {
            assert_eq!(XMatrix::parse(text), None, "{text}");
        }
    }
}
