//! The rules of each room version, as a table of switches. The table itself is ruma's.

use ruma_common::RoomVersionId;
pub use ruma_common::room_version_rules::RoomVersionRules;

/// Room versions that are supported, oldest first.
pub const ROOM_VERSIONS: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The rules of a room version; `None` for one that is not supported.
pub fn rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    if ROOM_VERSIONS.contains(version) { version.rules() } else { None }
}
