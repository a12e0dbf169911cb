//! Who is meant by a message: mentions. XEP-0513, with XEP-0372 for clients that know nothing newer; [CS-API §user-and-room-mentions].
//!
//! | XMPP | Matrix |
//! |---|---|
//! | `<mention occupantid='…'/>` in rooms, `<mention jid='…'/>` elsewhere | `user_ids` of `m.mentions` |
//! | `<mention mentions='urn:xmpp:mentions:0#channel'/>` | `room` of `m.mentions` |
//! | `<reference type='mention' uri='xmpp:…'/>` [XEP-0372] | `user_ids`; written beside the newer form |
//!
//! # Losses
//!
//! | what | in which direction |
//! |---|---|
//! | which words it is that mention somebody | to Matrix, where the HTML says so or nothing does |
//! | roles, affiliations, hats, spaces and servers as groups; the wish that nobody is notified: such a mention is none | to Matrix |

use koine_stanza::{BareJid, Element};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use crate::message::Names;

/// [XEP-0513]
pub const MENTIONS: &str = "urn:xmpp:mentions:0";
/// All in the room. [XEP-0513 §channel]
pub const CHANNEL: &str = "urn:xmpp:mentions:0#channel";
/// [XEP-0372]
const REFERENCE: &str = "urn:xmpp:reference:0";
/// Most people that a message mentions.
const MENTIONED_MAX: usize = 100;
/// Most children of a message that are looked at for whom they mean: each person twice, and all of them. Finding out whom
/// one means may cost as much as there are people in a room.
const LOOKED_AT_MAX: usize = 2 * MENTIONED_MAX + 1;

/// `m.mentions` of a message; `None` where it mentions nobody.
pub fn read(message: &Element, names: &impl Names) -> Option<Value> {
    let mut users: Vec<OwnedUserId> = Vec::new();
    let mut room = false;
    let said = message.children().filter(|child| matches!(child.ns(), MENTIONS | REFERENCE));
    for child in said.take(LOOKED_AT_MAX) {
        let user = match child.ns() {
            // [XEP-0513 §noping]
            MENTIONS if child.name() == "mention" && !child.has_child("noping", MENTIONS) => {
                if let Some(group) = child.attr("mentions") {
                    room |= group == CHANNEL && child.attr("uri").is_none();
                    continue;
                }
                let occupant = child.attr("occupantid").and_then(|id| names.user_of_occupant(id));
                occupant.or_else(|| names.user_of(&BareJid::new(child.attr("jid")?).ok()?))
            }
            REFERENCE if child.name() == "reference" && child.kind() == Some("mention") => {
                let jid = child.attr("uri").and_then(|uri| BareJid::new(uri.strip_prefix("xmpp:")?).ok());
                jid.and_then(|jid| names.user_of(&jid))
            }
            _ => continue,
        };
        if let Some(user) = user
            && users.len() < MENTIONED_MAX
            && !users.contains(&user)
        {
            users.push(user);
        }
    }
    let mut mentions = Map::new();
    if !users.is_empty() {
        mentions.insert("user_ids".into(), json!(users));
    }
    if room {
        mentions.insert("room".into(), json!(true));
    }
    (!mentions.is_empty()).then_some(Value::Object(mentions))
}

/// The children of a message that say whom an event mentions.
pub fn write(content: &Value, names: &impl Names) -> Vec<Element> {
    let Some(mentions) = content.get("m.mentions") else { return Vec::new() };
    let users = mentions.get("user_ids").and_then(Value::as_array).into_iter().flatten();
    let mut children = Vec::new();
    for user in users.filter_map(|user| <&UserId>::try_from(user.as_str()?).ok()).take(MENTIONED_MAX) {
        let (address, occupant) = (names.address_of(user), names.occupant_of(user));
        let jid = address.as_ref().filter(|_| occupant.is_none()).map(ToString::to_string);
        if occupant.is_some() || jid.is_some() {
            let mention = Element::new("mention", MENTIONS).with_attr_opt("occupantid", occupant);
            children.push(mention.with_attr_opt("jid", jid));
        }
        if let Some(address) = address {
            let reference = Element::new("reference", REFERENCE).with_attr("type", "mention");
            children.push(reference.with_attr("uri", format!("xmpp:{address}")));
        }
    }
    if mentions.get("room").and_then(Value::as_bool) == Some(true) {
        children.push(Element::new("mention", MENTIONS).with_attr("mentions", CHANNEL));
    }
    children
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use koine_stanza::ns;
    use proptest::prelude::*;
    use ruma_common::{EventId, OwnedEventId};

    use super::*;
    use crate::message::File;

    /// A room in which ids of occupants are names backwards.
    #[derive(Default)]
    struct Room {
        occupants_looked_up: Cell<usize>,
    }

    impl Names for Room {
        fn user_of(&self, address: &BareJid) -> Option<OwnedUserId> {
            UserId::parse(format!("@{}:{}", address.node()?, address.domain())).ok()
        }

        fn address_of(&self, user: &UserId) -> Option<BareJid> {
            BareJid::new(&format!("{}@{}", user.localpart(), user.server_name())).ok()
        }

        fn user_of_occupant(&self, id: &str) -> Option<OwnedUserId> {
            self.occupants_looked_up.set(self.occupants_looked_up.get() + 1);
            UserId::parse(id.chars().rev().collect::<String>()).ok()
        }

        fn occupant_of(&self, user: &UserId) -> Option<String> {
            Some(user.as_str().chars().rev().collect())
        }

        fn event_of(&self, _: &str) -> Option<OwnedEventId> {
            None
        }

        fn name_of(&self, event: &EventId) -> String {
            event.to_string()
        }

        fn author_of(&self, _: &EventId) -> Option<(String, String)> {
            None
        }

        fn file_of(&self, _: &str) -> Option<File> {
            None
        }

        fn url_of(&self, _: &str, _: &str) -> Option<String> {
            None
        }
    }

    proptest! {
        #[test]
        fn whoever_is_mentioned_is_mentioned_there_and_back(
            people in proptest::collection::btree_set("[a-z]{1,8}", 0..5),
            room in any::<bool>(),
        ) {
            let mut mentions = Map::new();
            if !people.is_empty() {
                let ids: Vec<String> = people.iter().map(|name| format!("@{name}:example.org")).collect();
                mentions.insert("user_ids".into(), json!(ids));
            }
            if room {
                mentions.insert("room".into(), json!(true));
            }
            let content = json!({ "m.mentions": mentions });
            let message = Element::new("message", ns::CLIENT).with_children(write(&content, &Room::default()));
            let expected = (!mentions.is_empty()).then_some(Value::Object(mentions));
            prop_assert_eq!(read(&message, &Room::default()), expected);
        }
    }

    #[test]
    fn whom_a_message_means_is_looked_up_for_so_many_and_no_more() {
        let mention = Element::new("mention", MENTIONS).with_attr("occupantid", "nobody");
        let message = Element::new("message", ns::CLIENT).with_children(std::iter::repeat_n(mention, 10_000));
        let names = Room::default();
        assert_eq!(read(&message, &names), None);
        assert_eq!(names.occupants_looked_up.get(), LOOKED_AT_MAX);
    }

    #[test]
    fn who_is_not_to_be_notified_is_not_mentioned() {
        let mention = Element::new("mention", MENTIONS).with_attr("jid", "bob@example.org");
        let quiet = mention.clone().with_child(Element::new("noping", MENTIONS));
        let message = |child| Element::new("message", ns::CLIENT).with_child(child);
        assert_eq!(read(&message(mention), &Room::default()), Some(json!({ "user_ids": ["@bob:example.org"] })));
        assert_eq!(read(&message(quiet), &Room::default()), None);
        let hats = Element::new("mention", MENTIONS).with_attr("mentions", "urn:xmpp:mentions:0#moderators");
        assert_eq!(read(&message(hats), &Room::default()), None);
    }
}
