//! Rule 1: the create event. [RV1 §authorization-rules] [RV11 §authorization-rules] [RV12 §authorization-rules]

use ruma_common::{OwnedUserId, RoomVersionId, room_version_rules::RoomVersionRules};

use super::Refusal;
use crate::{content::raw_field, event::Event, rules};

pub(super) fn check(rules: &RoomVersionRules, event: &Event) -> Result<(), Refusal> {
    // 1. If it has any prev_events, reject.
    if !event.prev_events().is_empty() {
        return Err(Refusal::CreateHasPrevEvents);
    }

    // 2. If the domain of the room_id does not match the domain of the sender, reject.
    //    [RV12] If the event has a room_id, reject: its format does not have one, so that parsing refuses it.
    if !rules.authorization.room_create_event_id_as_room_id
        && event.room_id().server_name() != Some(event.sender().server_name())
    {
        return Err(Refusal::CreateRoomIdOfOtherServer);
    }

    // 3. If content.room_version is present and is not a recognised version, reject.
    if raw_field(event.content(), "room_version").is_some()
        && event.content_field::<RoomVersionId>("room_version").and_then(|version| rules::rules(&version)).is_none()
    {
        return Err(Refusal::CreateVersionUnknown);
    }

    // [RV1..10] 4. If content has no creator property, reject.
    if !rules.authorization.use_room_create_sender && raw_field(event.content(), "creator").is_none() {
        return Err(Refusal::CreateWithoutCreator);
    }

    // [RV12] 4. If additional_creators is present in content and is not an array of strings where each string passes the
    //    same user ID validation applied to sender, reject.
    if rules.authorization.additional_room_creators
        && raw_field(event.content(), "additional_creators").is_some()
        && event.content_field::<Vec<OwnedUserId>>("additional_creators").is_none()
    {
        return Err(Refusal::CreateAdditionalCreators);
    }

    // 5. Otherwise, allow.
    Ok(())
}
