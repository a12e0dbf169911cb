//! Events and Message-IDs: an event of ours has one Message-ID, worked out of its own id, so that an answer finds its event
//! without a table. [RFC 5322 §3.6.4]
//!
//! | event id | Message-ID |
//! |---|---|
//! | `$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg` | `<Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg@example.org>` |
//! | `$a/b+c:old.org` | `<a=2fb=2bc=3aold=2eorg@example.org>` |
//!
//! Bytes that are not letters, digits, `-` or `_` are written `=hh`. Decoding and encoding again must give the same.

use ruma_common::{EventId, OwnedEventId};

/// The Message-ID of an event of ours, with its brackets. `domain` is that of this server.
pub fn message_id(event: &EventId, domain: &str) -> String {
    let mut id = String::with_capacity(event.as_str().len() + domain.len() + 3);
    id.push('<');
    for byte in event.as_str().trim_start_matches('$').bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => id.push(char::from(byte)),
            _ => id.push_str(&format!("={byte:02x}")),
        }
    }
    id.push('@');
    id.push_str(domain);
    id.push('>');
    id
}

/// The event whose Message-ID this is, with or without its brackets; `None` for one that is none of ours. Whether there is
/// such an event is not known here.
pub fn event_id_of(message_id: &str, domain: &str) -> Option<OwnedEventId> {
    let bare = message_id.trim();
    let bare = bare.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(bare);
    let (coded, host) = bare.rsplit_once('@')?;
    if !host.eq_ignore_ascii_case(domain) {
        return None;
    }
    let mut bytes = coded.bytes();
    let mut id = vec![b'$'];
    while let Some(byte) = bytes.next() {
        match byte {
            b'=' => {
                let digits = [bytes.next()?, bytes.next()?];
                id.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => id.push(byte),
        }
    }
    let event = OwnedEventId::try_from(String::from_utf8(id).ok()?).ok()?;
    let again = crate::mail::id::message_id(&event, host);
    (again.trim_start_matches('<').trim_end_matches('>') == bare).then_some(event)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma_common::event_id;

    use super::*;

    #[test]
    fn an_event_has_one_message_id() {
        let event = event_id!("$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg");
        let id = message_id(event, "example.org");
        assert_eq!(id, "<Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg@example.org>");
        assert_eq!(event_id_of(&id, "Example.org").as_deref(), Some(event));
        let old = event_id!("$a/b+c:old.org");
        assert_eq!(message_id(old, "example.org"), "<a=2fb=2bc=3aold=2eorg@example.org>");
        assert_eq!(event_id_of(&message_id(old, "example.org"), "example.org").as_deref(), Some(old));
    }

    #[test]
    fn names_of_others_name_no_event() {
        for id in
            ["<abc@elsewhere.org>", "abc", "<a=2@example.org>", "<a=4a@example.org>", "<@>", "", "<a b@example.org>"]
        {
            assert_eq!(event_id_of(id, "example.org"), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_asked(text in ".{0,60}") {
            let _ = event_id_of(&text, "example.org");
        }

        #[test]
        fn an_event_comes_back(name in "[A-Za-z0-9_/+:.-]{1,43}") {
            if let Ok(event) = OwnedEventId::try_from(format!("${name}")) {
                prop_assert_eq!(event_id_of(&message_id(&event, "example.org"), "example.org"), Some(event));
            }
        }
    }
}
