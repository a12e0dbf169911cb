//! Addresses: what is taken is written in its one form, and the form of a form is itself, of the whole and of each part; node
//! and local part lead back to each other.
#![no_main]

use koine_projection::id;
use koine_stanza::Jid;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for part in [koine_stanza::local_part, koine_stanza::resource_part] {
        if let Ok(form) = part(text) {
            assert_eq!(part(&form), Ok(form.clone()), "the form of a form");
        }
    }
    if let Ok(jid) = Jid::new(text) {
        let again = Jid::new(jid.as_str()).expect("an address in its form is one");
        assert_eq!(jid, again);
        if let Some(node) = jid.node() {
            if let Some(local) = id::local_from_node(node) {
                let _ = id::node_from_local(&local);
            }
        }
    }
    if let Some(node) = id::node_from_local(text) {
        assert_eq!(id::local_from_node(&node).as_deref(), Some(text), "there and back");
    }
    if let Some(address) = koine_projection::mail::Address::parse(text) {
        let _ = address.without_detail();
    }
});
