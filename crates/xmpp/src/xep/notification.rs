//! XEP-0492: Chat Notification Settings: what a bookmark says of a room is what push rules say of it, for Matrix clients and for
//! services that wake devices.
//!
//! | bookmark | push rules |
//! |---|---|
//! | `<never/>` | an override for the room that does nothing |
//! | `<on-mention/>` | a rule of the room that does nothing: mentions stand above it |
//! | `<always/>` | a rule of the room that notifies |
//!
//! Settings for certain kinds of clients stay in the bookmark; the one for all counts.

use koine_push::{EditError, Kind, NewRule, Position, Ruleset};
use koine_stanza::{BareJid, Element};
use ruma_common::{OwnedUserId, RoomId};
use serde_json::{Value, json};

use super::bookmarks::NODE;
use crate::{core::Core, muc};

/// The protocol.
const SETTINGS: &str = "urn:xmpp:notification-settings:1";

/// When somebody wants to be notified of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Never,
    OnMention,
    Always,
}

impl Setting {
    fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnMention => "on-mention",
            Self::Always => "always",
        }
    }

    /// What a bookmark says, for all kinds of clients.
    fn of_bookmark(conference: &Element) -> Option<Self> {
        let notify = conference.child("extensions", NODE)?.child("notify", SETTINGS)?;
        let for_all = |child: &&Element| child.ns() == SETTINGS && child.attr("identity-category").is_none();
        let name = notify.children().find(for_all)?.name();
        [Self::Never, Self::OnMention, Self::Always].into_iter().find(|setting| setting.name() == name)
    }

    fn of_rules(rules: &Ruleset, room: &RoomId) -> Option<Self> {
        let notifies = |actions: &[Value]| actions.iter().any(|action| action == "notify");
        let rule = |kind| rules.get(kind, room.as_str()).filter(|rule| rule.enabled);
        if rule(Kind::Override).is_some_and(|rule| !notifies(&rule.actions)) {
            return Some(Self::Never);
        }
        let rule = rule(Kind::Room)?;
        Some(if notifies(&rule.actions) { Self::Always } else { Self::OnMention })
    }
}

/// A bookmark was published: its room is notified of as it says, if it says anything.
pub(super) async fn adopt(core: &Core, owner: &OwnedUserId, id: &str, conference: &Element) {
    let Some(setting) = Setting::of_bookmark(conference) else { return };
    let room = BareJid::new(id).ok().and_then(|address| muc::room_at(core, &address).ok().flatten());
    let Some(room) = room else { return };
    let id = room.id();
    if core.cores.push.ruleset(owner).is_ok_and(|rules| Setting::of_rules(&rules, id) == Some(setting)) {
        return;
    }
    let change = |rules: &mut Ruleset| -> Result<(), EditError> {
        for kind in [Kind::Override, Kind::Room] {
            match rules.remove(kind, id.as_str()) {
                Ok(()) | Err(EditError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let never = setting == Setting::Never;
        let here = json!({ "kind": "event_match", "key": "room_id", "pattern": id });
        let sound = json!({ "set_tweak": "sound", "value": "default" });
        let new = NewRule {
            kind: if never { Kind::Override } else { Kind::Room },
            rule_id: id.to_string(),
            actions: if setting == Setting::Always { vec![json!("notify"), sound] } else { Vec::new() },
            conditions: never.then(|| vec![here]),
            pattern: None,
        };
        rules.put(new, Position::default())
    };
    if let Err(error) = core.cores.push.change(owner, change).await {
        tracing::warn!(user_id = %owner, reason = %error, "a bookmark's notification setting is not in force");
    }
}

/// A bookmark as it is to be, where push rules say something else of its room.
pub(super) fn refreshed(conference: &Element, rules: &Ruleset, room: &RoomId) -> Option<Element> {
    let setting = Setting::of_rules(rules, room)?;
    if Setting::of_bookmark(conference) == Some(setting) {
        return None;
    }
    let mut new = conference.clone();
    new.retain_children(|child| !child.is("extensions", NODE));
    let mut extensions =
        conference.child("extensions", NODE).cloned().unwrap_or_else(|| Element::new("extensions", NODE));
    let before = extensions.child("notify", SETTINGS).cloned();
    extensions.retain_children(|child| child.ns() != SETTINGS);
    // Settings for certain kinds of clients stay.
    let mut notify = before.unwrap_or_else(|| Element::new("notify", SETTINGS));
    notify.retain_children(|child| child.attr("identity-category").is_some());
    notify.push(Element::new(setting.name(), SETTINGS));
    extensions.push(notify);
    new.push(extensions);
    Some(new)
}
