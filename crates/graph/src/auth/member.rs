//! Rule 5: member events. [RV1 §authorization-rules] [RV7 §authorization-rules] [RV8 §authorization-rules]
//! [RV10 §authorization-rules] [RV12 §authorization-rules]

use ruma_common::{OwnedUserId, UserId};

use super::{AuthState, Refusal, Room, Verdict, third_party};
use crate::{
    content::raw_field,
    event::{Event, Membership},
    power_levels::creators,
};

pub(super) fn check<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event) -> Verdict<S> {
    // 1. If there is no state_key property, or no membership property in content, reject.
    let target = event.state_key().and_then(|state_key| <&UserId>::try_from(state_key).ok());
    let target = target.ok_or(Refusal::MemberWithoutTarget)?;
    let membership = event.content_field::<String>("membership").ok_or(Refusal::MemberWithoutMembership)?;

    // [RV8] 2. If content has a join_authorised_via_users_server key: if the event is not validly signed by the homeserver
    //    of the user ID denoted by the key, reject. (Signatures are checked before, see the module above.)

    match Membership::from_name(&membership) {
        Some(Membership::Join) => join(room, event, target),
        Some(Membership::Invite) => invite(room, event, target),
        Some(Membership::Leave) => leave(room, event, target),
        Some(Membership::Ban) => ban(room, event, target),
        Some(Membership::Knock) if room.rules.authorization.knocking => knock(room, event, target),
        // 8. Otherwise, the membership is unknown. Reject.
        _ => Err(Refusal::MembershipUnknown(membership).into()),
    }
}

/// 3. If membership is join:
fn join<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event, target: &UserId) -> Verdict<S> {
    let rules = &room.rules.authorization;
    // 1. If the only previous event is an m.room.create and the state_key is the creator, allow.
    //    [RV11] ... is the sender of the m.room.create, allow.
    if event.prev_events() == [room.create.event_id()]
        && creators(rules, &room.create).first().is_some_and(|creator| creator == target)
    {
        return Ok(());
    }

    // 2. If the sender does not match state_key, reject.
    if event.sender() != target {
        return Err(Refusal::JoinForOther.into());
    }

    // 3. If the sender is banned, reject.
    let current = room.membership(target)?;
    if current == Some(Membership::Ban) {
        return Err(Refusal::JoinWhileBanned.into());
    }

    let asked_in = matches!(current, Some(Membership::Invite | Membership::Join));
    let join_rule = room.join_rule()?;
    match join_rule.as_str() {
        // 4. If the join_rule is invite [RV7: or knock] then allow if membership state is invite or join.
        "invite" if asked_in => Ok(()),
        "knock" if rules.knocking && asked_in => Ok(()),
        "invite" => Err(Refusal::JoinWithoutInvite.into()),
        "knock" if rules.knocking => Err(Refusal::JoinWithoutInvite.into()),

        // [RV8] 5. If the join_rule is restricted [RV10: or knock_restricted]:
        //    1. If membership state is join or invite, allow.
        "restricted" if rules.restricted_join_rule && asked_in => Ok(()),
        "knock_restricted" if rules.knock_restricted_join_rule && asked_in => Ok(()),
        "restricted" if rules.restricted_join_rule => vouched(room, event),
        "knock_restricted" if rules.knock_restricted_join_rule => vouched(room, event),

        // 6. If the join_rule is public, allow.
        "public" => Ok(()),

        // 7. Otherwise, reject.
        _ => Err(Refusal::JoinRule(join_rule).into()),
    }
}

/// 2. If the join_authorised_via_users_server key in content is not a user with sufficient permission to invite other
///    users or is not a joined member of the room, reject. 3. Otherwise, allow.
fn vouched<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event) -> Verdict<S> {
    let voucher = event.content_field::<OwnedUserId>("join_authorised_via_users_server");
    let voucher = voucher.ok_or(Refusal::JoinWithoutVoucher)?;
    if room.membership(&voucher)? != Some(Membership::Join) {
        return Err(Refusal::VoucherNotJoined(voucher).into());
    }
    let levels = room.power_levels()?;
    let (needed, has) = (levels.invite(), levels.user_level(&voucher));
    if !has.reaches(needed) {
        return Err(Refusal::VoucherLevel { voucher, needed, has }.into());
    }
    Ok(())
}

/// 4. If membership is invite:
fn invite<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event, target: &UserId) -> Verdict<S> {
    // 1. If content has a third_party_invite property:
    if raw_field(event.content(), "third_party_invite").is_some() {
        return third_party::check(room, event, target);
    }

    // 2. If the sender's current membership state is not join, reject.
    if room.membership(event.sender())? != Some(Membership::Join) {
        return Err(Refusal::SenderNotJoined.into());
    }

    // 3. If target user's current membership state is join or ban, reject.
    match room.membership(target)? {
        Some(Membership::Join) => return Err(Refusal::InviteOfJoined(target.to_owned()).into()),
        Some(Membership::Ban) => return Err(Refusal::InviteOfBanned(target.to_owned()).into()),
        _ => {}
    }

    // 4. If the sender's power level is greater than or equal to the invite level, allow. 5. Otherwise, reject.
    let levels = room.power_levels()?;
    let (needed, has) = (levels.invite(), levels.user_level(event.sender()));
    if has.reaches(needed) { Ok(()) } else { Err(Refusal::InviteLevel { needed, has }.into()) }
}

/// 5. If membership is leave:
fn leave<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event, target: &UserId) -> Verdict<S> {
    let current = room.membership(target)?;

    // 1. If the sender matches state_key, allow if and only if that user's current membership state is invite, join,
    //    [RV7] or knock.
    if event.sender() == target {
        return match current {
            Some(Membership::Invite | Membership::Join) => Ok(()),
            Some(Membership::Knock) if room.rules.authorization.knocking => Ok(()),
            _ => Err(Refusal::LeaveWithoutMembership.into()),
        };
    }

    // 2. If the sender's current membership state is not join, reject.
    if room.membership(event.sender())? != Some(Membership::Join) {
        return Err(Refusal::SenderNotJoined.into());
    }

    // 3. If the target user's current membership state is ban, and the sender's power level is less than the ban level,
    //    reject.
    let levels = room.power_levels()?;
    let has = levels.user_level(event.sender());
    if current == Some(Membership::Ban) && !has.reaches(levels.ban()) {
        return Err(Refusal::UnbanLevel { needed: levels.ban(), has }.into());
    }

    // 4. If the sender's power level is greater than or equal to the kick level, and the target user's power level is
    //    less than the sender's power level, allow. 5. Otherwise, reject.
    if !has.reaches(levels.kick()) {
        return Err(Refusal::KickLevel { needed: levels.kick(), has }.into());
    }
    let target = levels.user_level(target);
    if target < has { Ok(()) } else { Err(Refusal::KickOfEqual { target, has }.into()) }
}

/// 6. If membership is ban:
fn ban<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event, target: &UserId) -> Verdict<S> {
    // 1. If the sender's current membership state is not join, reject.
    if room.membership(event.sender())? != Some(Membership::Join) {
        return Err(Refusal::SenderNotJoined.into());
    }

    // 2. If the sender's power level is greater than or equal to the ban level, and the target user's power level is less
    //    than the sender's power level, allow. 3. Otherwise, reject.
    let levels = room.power_levels()?;
    let has = levels.user_level(event.sender());
    if !has.reaches(levels.ban()) {
        return Err(Refusal::BanLevel { needed: levels.ban(), has }.into());
    }
    let target = levels.user_level(target);
    if target < has { Ok(()) } else { Err(Refusal::BanOfEqual { target, has }.into()) }
}

/// [RV7] 7. If membership is knock:
fn knock<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event, target: &UserId) -> Verdict<S> {
    // 1. If the join_rule is anything other than knock [RV10: or knock_restricted], reject.
    let join_rule = room.join_rule()?;
    let restricted = room.rules.authorization.knock_restricted_join_rule && join_rule == "knock_restricted";
    if join_rule != "knock" && !restricted {
        return Err(Refusal::KnockJoinRule.into());
    }

    // 2. If sender does not match state_key, reject.
    if event.sender() != target {
        return Err(Refusal::KnockForOther.into());
    }

    // 3. If the sender's current membership is not ban, invite, or join, allow. 4. Otherwise, reject.
    match room.membership(target)? {
        Some(Membership::Ban) => Err(Refusal::KnockWhileBanned.into()),
        Some(Membership::Invite | Membership::Join) => Err(Refusal::KnockWhileMember.into()),
        _ => Ok(()),
    }
}
