//! Rule 10: changing power levels. [RV1 §authorization-rules] [RV6 §authorization-rules] [RV10 §authorization-rules]
//! [RV12 §authorization-rules]
//!
//! "Added, changed or removed" looks at what stands in the two events, not at the defaults behind it, as the first
//! implementation does.

use ruma_common::UserId;

use super::{AuthState, Refusal, Room, Verdict};
use crate::{
    event::Event,
    power_levels::{Field, Level, Levels, Map, Said, creators},
};

pub(super) fn check<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event, has: Level) -> Verdict<S> {
    let rules = &room.rules.authorization;
    let new = event.levels(rules.integer_power_levels).map_err(|_| Refusal::PowerLevelsUsers)?;

    if rules.integer_power_levels {
        // [RV10] 1. If any of the properties users_default, events_default, state_default, ban, redact, kick, or invite in
        //    content are present and not an integer, reject.
        if let Some(field) = Field::ALL.into_iter().find(|field| new.number(*field) == Said::Malformed) {
            return Err(Refusal::PowerLevelsNumber(field.name()).into());
        }
        // [RV10] 2. If either of the properties events or notifications in content are present and not an object with
        //    values that are integers, reject.
        for (name, map) in [("events", &new.events), ("notifications", &new.notifications)] {
            if !map.is_well_formed() {
                return Err(Refusal::PowerLevelsMap(name).into());
            }
        }
    }

    // 3. If the users property in content is not an object with keys that are valid user IDs with values that are integers
    //    [RV1..9] (or a string that is an integer), reject.
    if !new.users.is_well_formed() || new.users.iter().any(|(user, _)| <&UserId>::try_from(user).is_err()) {
        return Err(Refusal::PowerLevelsUsers.into());
    }

    // [RV12] 4. If the users property in content contains the sender of the m.room.create event or any of the
    //    additional_creators array, reject.
    if rules.explicitly_privilege_room_creators {
        let named = |creator: &_| new.users.get(AsRef::<UserId>::as_ref(creator).as_str()) != Said::Nothing;
        if let Some(creator) = creators(rules, &room.create).into_iter().find(named) {
            return Err(Refusal::PowerLevelsOfCreator(creator).into());
        }
    }

    // 5. If there is no previous m.room.power_levels event in the room, allow.
    let Some(current) = room.get("m.room.power_levels", "")? else { return Ok(()) };
    let current = current.levels(rules.integer_power_levels).map_err(|_| Refusal::PowerLevelsUsers)?;
    Ok(compare(&current, &new, event.sender(), has, rules.limit_notifications_power_levels)?)
}

fn compare(current: &Levels, new: &Levels, sender: &UserId, has: Level, notifications: bool) -> Result<(), Refusal> {
    // 6. For the properties users_default, events_default, state_default, ban, redact, kick, invite check if they were
    //    added, changed or removed. For each found alteration:
    for field in Field::ALL {
        let (current, new) = (current.number(field), new.number(field));
        if current == Said::Malformed || new == Said::Malformed {
            return Err(Refusal::PowerLevelsNumber(field.name()));
        }
        if current == new {
            continue;
        }
        // 1. If the current value is higher than the sender's current power level, reject.
        not_beyond_current(field.name(), current.value(), has)?;
        // 2. If the new value is higher than the sender's current power level, reject.
        not_beyond_new(field.name(), new.value(), has)?;
    }

    // 7. For each entry being changed in, or removed from, the events [RV6] or notifications properties: if the current
    //    value is greater than the sender's current power level, reject.
    // 8. For each entry being added to, or changed in, the events [RV6] or notifications properties: if the new value is
    //    greater than the sender's current power level, reject.
    let mut maps = vec![("events", &current.events, &new.events)];
    if notifications {
        maps.push(("notifications", &current.notifications, &new.notifications));
    }
    for (name, current, new) in maps {
        if !current.is_well_formed() || !new.is_well_formed() {
            return Err(Refusal::PowerLevelsMap(name));
        }
        for (key, current, new) in changes(current, new) {
            not_beyond_current(key, current, has)?;
            not_beyond_new(key, new, has)?;
        }
    }

    for (user, current, new) in changes(&current.users, &new.users) {
        // 9. For each entry being changed in, or removed from, the users property, other than the sender's own entry: if
        //    the current value is greater than or equal to the sender's current power level, reject.
        if let Some(current) = current.filter(|current| user != sender.as_str() && Level::Number(*current) >= has) {
            return Err(Refusal::PowerLevelsOfEqual { user: user.to_owned(), current, has });
        }
        // 10. For each entry being added to, or changed in, the users property: if the new value is greater than the
        //     sender's current power level, reject.
        not_beyond_new(user, new, has)?;
    }

    // 11. Otherwise, allow.
    Ok(())
}

/// Entries that are not the same in both: name, current value, new value.
fn changes<'a>(current: &'a Map, new: &'a Map) -> impl Iterator<Item = (&'a str, Option<i64>, Option<i64>)> {
    let kept = current.iter().map(|(key, level)| (key, level, new.value(key)));
    let added = new.iter().filter(|(key, _)| current.get(key) == Said::Nothing).map(|(key, level)| (key, None, level));
    kept.chain(added).filter(|(_, current, new)| current != new)
}

fn not_beyond_current(field: &str, current: Option<i64>, has: Level) -> Result<(), Refusal> {
    match current {
        Some(current) if !has.reaches(current) => {
            Err(Refusal::PowerLevelsCurrent { field: field.to_owned(), current, has })
        }
        _ => Ok(()),
    }
}

fn not_beyond_new(field: &str, new: Option<i64>, has: Level) -> Result<(), Refusal> {
    match new {
        Some(new) if !has.reaches(new) => Err(Refusal::PowerLevelsNew { field: field.to_owned(), new, has }),
        _ => Ok(()),
    }
}
