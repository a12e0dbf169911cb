//! XEP-0452: MUC Mention Notifications: members who are mentioned while none of their sessions is in the room.

use std::sync::Arc;

use koine_room::{Placed, ReadError, Room};
use koine_stanza::{Element, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::Value;

use super::{hall, name, settings::Settings, words};
use crate::{
    core::Core,
    iq::{At, Extension},
    time,
};

/// The protocol.
const MENTIONED: &str = "urn:xmpp:mmn:0";
/// Most people who are told of one message.
const TOLD_MAX: usize = 50;

/// Messages alone: there are no requests.
pub(crate) const EXTENSION: Extension = Extension { features: &[(At::Room, MENTIONED)], handlers: &[] };

/// Tells those whom a message mentions. Costs nothing where it mentions nobody.
pub(super) async fn tell(core: &Arc<Core>, room: &Arc<Room>, placed: &Placed) -> Result<(), ReadError> {
    let event = &placed.event;
    if event.kind() != "m.room.message" || !event.content().get().contains("m.mentions") {
        return Ok(());
    }
    let mentions: Option<Value> = event.content_field("m.mentions");
    let users = mentions.as_ref().and_then(|mentions| mentions.get("user_ids")).and_then(Value::as_array);
    let users = users.into_iter().flatten().filter_map(|user| <&UserId>::try_from(user.as_str()?).ok());
    let users: Vec<OwnedUserId> =
        users.filter(|user| *user != event.sender()).take(TOLD_MAX).map(ToOwned::to_owned).collect();
    if users.is_empty() || !Settings::of(core.rooms(), room)?.own.forward_mentions {
        return Ok(());
    }
    let address = name::address(core, room)?;
    for user in users {
        if !room.is_joined(&user) || core.has_blocked(&user, event.sender()) || is_there(core, room, &user).await {
            continue;
        }
        let Some(to) = core.address_of(&user) else { continue };
        let Some(words) = words::of_event(core, room, placed) else { continue };
        let id = hall::occupant_id(core, room.id(), event.sender());
        let stanza_id = Element::new("stanza-id", ns::STANZA_ID)
            .with_attr("by", address.to_string())
            .with_attr("id", event.event_id().as_str());
        let mut message = words.message;
        message.set_attr("from", Some(format!("{address}/{}", words::nick_in(room, placed))));
        message.set_attr("to", Some(address.to_string()));
        message.push(Element::new("occupant-id", ns::OCCUPANT_ID).with_attr("id", id));
        message.push(stanza_id);
        crate::xep::push::wake(core, &user, &message).await;
        let stamp = time::format(event.origin_server_ts().get().into());
        let forwarded = Element::new("forwarded", ns::FORWARD)
            .with_child(Element::new("delay", ns::DELAY).with_attr("stamp", stamp))
            .with_child(message);
        let told = Element::new("message", ns::CLIENT)
            .with_attr("from", address.to_string())
            .with_attr("to", to.to_string())
            .with_child(Element::new("mentions", MENTIONED).with_child(forwarded));
        core.tell_account(&to, told).await;
    }
    Ok(())
}

async fn is_there(core: &Core, room: &Room, user: &UserId) -> bool {
    let Some(hall) = core.muc.hall(room.no()) else { return false };
    let inside = hall.inside.lock().await;
    let nicks = inside.nicks_of(user);
    nicks.iter().any(|nick| inside.occupant(nick).is_some_and(|occupant| !occupant.seats.is_empty()))
}
