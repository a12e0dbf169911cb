//! The authorization rules, as stories in rooms of the versions that differ.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use koine_graph::{
    Level, PowerLevels, ROOM_VERSIONS, SigningKey,
    auth::{self, Refusal, check_auth_events},
    json::{Json, parse},
    signatures::sign_object,
};
use ruma_common::RoomVersionId;
use serde_json::{Value, json, value::to_raw_value};

use crate::world::{World, user};

const MEMBER: &str = "m.room.member";

fn id(name: &str) -> String {
    user(name).to_string()
}

fn membership(word: &str) -> Value {
    json!({ "membership": word })
}

/// Sets alice's wish as power levels, with her and the others that are named.
fn levels(world: &World, users: &[(&str, i64)], rest: Value) -> Value {
    let creators_infinite = world.rules.authorization.explicitly_privilege_room_creators;
    let mut content = rest;
    let mut map: serde_json::Map<String, Value> =
        users.iter().map(|(name, level)| (id(name), (*level).into())).collect();
    if !creators_infinite {
        map.insert(id("alice"), 100.into());
    }
    content["users"] = map.into();
    content
}

/// alice (100 or creator), bob (50), carol and dave (0), all joined; doors open.
fn peopled(version: &RoomVersionId) -> World {
    let mut world = World::open(version);
    for name in ["bob", "carol", "dave"] {
        world.join(name);
    }
    let content = levels(&world, &[("bob", 50)], json!({}));
    world.ok("alice", "m.room.power_levels", Some(""), content);
    world
}

fn versions_with(has: impl Fn(&koine_graph::RoomVersionRules) -> bool) -> Vec<RoomVersionId> {
    ROOM_VERSIONS.into_iter().filter(|version| has(&koine_graph::rules(version).expect("supported"))).collect()
}

#[test]
fn rooms_of_all_versions_can_be_made_and_talked_in() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        world.ok("carol", "m.room.message", None, json!({"body": "hi"}));
        assert_eq!(
            world.refused("carol", "m.room.topic", Some(""), json!({"topic": "t"})),
            Refusal::EventLevel { kind: "m.room.topic".into(), needed: 50, has: Level::Number(0) }
        );
        assert_eq!(world.refused("erin", "m.room.message", None, json!({})), Refusal::SenderNotJoined);
    }
}

#[test]
fn create_comes_first_and_is_well_formed() {
    for version in &ROOM_VERSIONS {
        let create = json!({ "creator": id("alice") });
        let mut world = World::new(version);
        world.room_id = world.room_id.filter(|_| world.rules.event_format.require_room_create_room_id);
        assert_eq!(world.refused("alice", "m.room.create", Some(""), create.clone()), Refusal::CreateHasPrevEvents);
        let mut world = World::empty(version);
        let mut odd = create.clone();
        odd["room_version"] = json!("one of ours");
        assert_eq!(world.refused("alice", "m.room.create", Some(""), odd.clone()), Refusal::CreateVersionUnknown);
        odd["room_version"] = json!(11);
        assert_eq!(world.refused("alice", "m.room.create", Some(""), odd), Refusal::CreateVersionUnknown);
        if !world.rules.authorization.use_room_create_sender {
            assert_eq!(world.refused("alice", "m.room.create", Some(""), json!({})), Refusal::CreateWithoutCreator);
        }
        if world.rules.authorization.room_create_event_id_as_room_id {
            for odd in [json!("@bob:x"), json!(["bob"]), json!([5])] {
                let content = json!({ "additional_creators": odd });
                let refusal = world.refused("alice", "m.room.create", Some(""), content);
                assert_eq!(refusal, Refusal::CreateAdditionalCreators);
            }
        } else {
            let refusal = world.refused("alice:elsewhere", "m.room.create", Some(""), create.clone());
            assert_eq!(refusal, Refusal::CreateRoomIdOfOtherServer);
        }
        let mut known = create;
        known["room_version"] = json!(version.as_str());
        world.ok("alice", "m.room.create", Some(""), known);
        assert_eq!(
            world.refused("bob", MEMBER, Some(&id("bob")), membership("join")),
            Refusal::JoinWithoutInvite,
            "only the creator joins a room that has nothing but its creation"
        );
    }
}

#[test]
fn a_room_for_one_server_is_for_one_server() {
    let mut world = World::empty(&RoomVersionId::V11);
    world.ok("alice", "m.room.create", Some(""), json!({ "m.federate": false }));
    world.join("alice");
    world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
    world.join("bob");
    let home = ruma_common::OwnedServerName::try_from("example.org").expect("a server name");
    let refusal = world.refused("bob:elsewhere", MEMBER, Some("@bob:elsewhere"), membership("join"));
    assert_eq!(refusal, Refusal::NotFederated { home });
}

#[test]
fn joining_follows_the_join_rules() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let erin = &id("erin");
        let knocking = world.rules.authorization.knocking;
        assert_eq!(world.refused("bob", MEMBER, Some(erin), membership("join")), Refusal::JoinForOther);
        world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "invite" }));
        assert_eq!(world.refused("erin", MEMBER, Some(erin), membership("join")), Refusal::JoinWithoutInvite);
        world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "knock" }));
        let refusal = world.refused("erin", MEMBER, Some(erin), membership("join"));
        let expected = if knocking { Refusal::JoinWithoutInvite } else { Refusal::JoinRule("knock".into()) };
        assert_eq!(refusal, expected);
        world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "private" }));
        let refusal = world.refused("erin", MEMBER, Some(erin), membership("join"));
        assert_eq!(refusal, Refusal::JoinRule("private".into()));
        world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "invite" }));
        world.ok("carol", MEMBER, Some(erin), membership("invite"));
        world.join("erin");
        world.join("erin");
        world.ok("bob", MEMBER, Some(&id("carol")), membership("ban"));
        assert_eq!(world.refused("carol", MEMBER, Some(&id("carol")), membership("join")), Refusal::JoinWhileBanned);
    }
}

#[test]
fn a_member_event_needs_target_and_membership() {
    let mut world = peopled(&RoomVersionId::V11);
    assert_eq!(world.refused("bob", MEMBER, None, membership("join")), Refusal::MemberWithoutTarget);
    assert_eq!(world.refused("bob", MEMBER, Some("bob"), membership("join")), Refusal::MemberWithoutTarget);
    assert_eq!(world.refused("bob", MEMBER, Some(&id("bob")), json!({})), Refusal::MemberWithoutMembership);
    let refusal = world.refused("bob", MEMBER, Some(&id("bob")), membership("dance"));
    assert_eq!(refusal, Refusal::MembershipUnknown("dance".into()));
}

#[test]
fn restricted_rooms_want_somebody_to_vouch() {
    for version in versions_with(|rules| rules.authorization.restricted_join_rule) {
        let mut world = peopled(&version);
        let knock_restricted = world.rules.authorization.knock_restricted_join_rule;
        for rule in ["restricted", "knock_restricted"] {
            let name = &format!("erin_{}", rule.len());
            let content = json!({ "join_rule": rule, "allow": [] });
            world.ok("alice", "m.room.join_rules", Some(""), content);
            let by = |who: &str| json!({ "membership": "join", "join_authorised_via_users_server": id(who) });
            let mut tries = |content: Value| world.refused(name, MEMBER, Some(&id(name)), content);
            if rule == "knock_restricted" && !knock_restricted {
                assert_eq!(tries(by("bob")), Refusal::JoinRule(rule.into()));
                continue;
            }
            assert_eq!(tries(membership("join")), Refusal::JoinWithoutVoucher);
            assert_eq!(tries(by("frank")), Refusal::VoucherNotJoined(user("frank")));
            let content = levels(&world, &[("bob", 50)], json!({ "invite": 20 }));
            world.ok("alice", "m.room.power_levels", Some(""), content);
            let refusal = world.refused(name, MEMBER, Some(&id(name)), by("carol"));
            let expected = Refusal::VoucherLevel { voucher: user("carol"), needed: 20, has: Level::Number(0) };
            assert_eq!(refusal, expected);
            world.ok(name, MEMBER, Some(&id(name)), by("bob"));
            // Once inside, nobody needs to vouch any more.
            world.join(name);
        }
    }
    let mut world = peopled(&RoomVersionId::V7);
    world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "restricted" }));
    let content = json!({ "membership": "join", "join_authorised_via_users_server": id("bob") });
    let refusal = world.refused("erin", MEMBER, Some(&id("erin")), content);
    assert_eq!(refusal, Refusal::JoinRule("restricted".into()));
}

#[test]
fn inviting_needs_membership_and_level() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let erin = &id("erin");
        assert_eq!(world.refused("frank", MEMBER, Some(erin), membership("invite")), Refusal::SenderNotJoined);
        let refusal = world.refused("carol", MEMBER, Some(&id("bob")), membership("invite"));
        assert_eq!(refusal, Refusal::InviteOfJoined(user("bob")));
        world.ok("bob", MEMBER, Some(erin), membership("ban"));
        let refusal = world.refused("carol", MEMBER, Some(erin), membership("invite"));
        assert_eq!(refusal, Refusal::InviteOfBanned(user("erin")));
        let content = levels(&world, &[("bob", 50)], json!({ "invite": 30 }));
        world.ok("alice", "m.room.power_levels", Some(""), content);
        let refusal = world.refused("carol", MEMBER, Some(&id("frank")), membership("invite"));
        assert_eq!(refusal, Refusal::InviteLevel { needed: 30, has: Level::Number(0) });
        let refusal = world.refused("carol", "m.room.third_party_invite", Some("t"), json!({}));
        assert_eq!(refusal, Refusal::InviteLevel { needed: 30, has: Level::Number(0) });
        world.ok("bob", MEMBER, Some(&id("frank")), membership("invite"));
    }
}

#[test]
fn leaving_kicking_and_lifting_bans() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let carol = &id("carol");
        let leave = || membership("leave");
        assert_eq!(world.refused("erin", MEMBER, Some(&id("erin")), leave()), Refusal::LeaveWithoutMembership);
        assert_eq!(world.refused("erin", MEMBER, Some(carol), leave()), Refusal::SenderNotJoined);
        let refusal = world.refused("carol", MEMBER, Some(&id("dave")), leave());
        assert_eq!(refusal, Refusal::KickLevel { needed: 50, has: Level::Number(0) });
        let content = levels(&world, &[("bob", 50), ("carol", 50)], json!({ "ban": 60 }));
        world.ok("alice", "m.room.power_levels", Some(""), content);
        let refusal = world.refused("bob", MEMBER, Some(carol), leave());
        assert_eq!(refusal, Refusal::KickOfEqual { target: Level::Number(50), has: Level::Number(50) });
        let refusal = world.refused("bob", MEMBER, Some(&id("dave")), membership("ban"));
        assert_eq!(refusal, Refusal::BanLevel { needed: 60, has: Level::Number(50) });
        world.ok("alice", MEMBER, Some(&id("dave")), membership("ban"));
        let refusal = world.refused("bob", MEMBER, Some(&id("dave")), leave());
        assert_eq!(refusal, Refusal::UnbanLevel { needed: 60, has: Level::Number(50) });
        world.ok("alice", MEMBER, Some(&id("dave")), leave());
        world.ok("bob", MEMBER, Some(&id("dave")), leave());
        world.ok("carol", MEMBER, Some(carol), leave());
        let (refusal, expected) = (world.refused("bob", MEMBER, Some(&id("alice")), membership("ban")), 60);
        assert_eq!(refusal, Refusal::BanLevel { needed: expected, has: Level::Number(50) });
    }
}

#[test]
fn nobody_bans_equals() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let content = levels(&world, &[("bob", 50), ("carol", 50)], json!({}));
        world.ok("alice", "m.room.power_levels", Some(""), content);
        let refusal = world.refused("bob", MEMBER, Some(&id("carol")), membership("ban"));
        assert_eq!(refusal, Refusal::BanOfEqual { target: Level::Number(50), has: Level::Number(50) });
        let refusal = world.refused("bob", MEMBER, Some(&id("alice")), membership("ban"));
        let creator = world.rules.authorization.explicitly_privilege_room_creators;
        let target = if creator { Level::Creator } else { Level::Number(100) };
        assert_eq!(refusal, Refusal::BanOfEqual { target, has: Level::Number(50) });
    }
}

#[test]
fn knocking_where_it_is_known() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let erin = &id("erin");
        if !world.rules.authorization.knocking {
            let refusal = world.refused("erin", MEMBER, Some(erin), membership("knock"));
            assert_eq!(refusal, Refusal::MembershipUnknown("knock".into()));
            continue;
        }
        assert_eq!(world.refused("erin", MEMBER, Some(erin), membership("knock")), Refusal::KnockJoinRule);
        world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "knock_restricted" }));
        if !world.rules.authorization.knock_restricted_join_rule {
            assert_eq!(world.refused("erin", MEMBER, Some(erin), membership("knock")), Refusal::KnockJoinRule);
            world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "knock" }));
        }
        assert_eq!(world.refused("bob", MEMBER, Some(erin), membership("knock")), Refusal::KnockForOther);
        assert_eq!(world.refused("bob", MEMBER, Some(&id("bob")), membership("knock")), Refusal::KnockWhileMember);
        world.ok("erin", MEMBER, Some(erin), membership("knock"));
        world.ok("erin", MEMBER, Some(erin), membership("leave"));
        world.ok("bob", MEMBER, Some(erin), membership("ban"));
        assert_eq!(world.refused("erin", MEMBER, Some(erin), membership("knock")), Refusal::KnockWhileBanned);
    }
}

#[test]
fn third_party_invites_are_redeemed_with_the_right_signature() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let identity = SigningKey::from_seed("0", &[9; 32]).expect("a fine version");
        let signed = |mxid: &str, token: &str, key: &SigningKey| {
            let json = json!({ "mxid": mxid, "token": token }).to_string();
            let Ok(Json::Object(mut object)) = parse(json.as_bytes()) else { unreachable!("an object") };
            sign_object(&mut object, "identity.example.org", key);
            serde_json::from_slice::<Value>(&object.to_bytes()).expect("JSON")
        };
        let invite = |signed: Value| json!({ "membership": "invite", "third_party_invite": { "signed": signed } });
        let erin = &id("erin");
        let good = signed(erin, "t1", &identity);
        let mut tries = |content: Value| world.refused("bob", MEMBER, Some(erin), content);
        assert_eq!(tries(invite(good.clone())), Refusal::ThirdPartyInviteUnknown);
        assert_eq!(
            tries(json!({ "membership": "invite", "third_party_invite": {} })),
            Refusal::ThirdPartyInviteUnsigned
        );
        assert_eq!(tries(invite(json!({ "mxid": erin }))), Refusal::ThirdPartyInviteIncomplete);
        assert_eq!(tries(invite(signed(&id("frank"), "t1", &identity))), Refusal::ThirdPartyInviteOfOther);

        let other = STANDARD_NO_PAD.encode([1; 32]);
        let keys = json!({
            "public_key": other,
            "public_keys": [{ "public_key": identity.public().to_base64() }],
        });
        world.ok("bob", "m.room.third_party_invite", Some("t1"), keys);
        let refusal = world.refused("carol", MEMBER, Some(erin), invite(good.clone()));
        assert_eq!(refusal, Refusal::ThirdPartyInviteBySomebodyElse);
        let forger = SigningKey::from_seed("0", &[7; 32]).expect("a fine version");
        let refusal = world.refused("bob", MEMBER, Some(erin), invite(signed(erin, "t1", &forger)));
        assert_eq!(refusal, Refusal::ThirdPartyInviteForged);
        world.ok("bob", MEMBER, Some(erin), membership("ban"));
        let refusal = world.refused("bob", MEMBER, Some(erin), invite(good.clone()));
        assert_eq!(refusal, Refusal::InviteOfBanned(user("erin")));
        world.ok("bob", MEMBER, Some(erin), membership("leave"));
        world.ok("bob", MEMBER, Some(erin), invite(good));
    }
}

#[test]
fn aliases_are_special_in_old_rooms() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let aliases = || json!({ "aliases": [] });
        if world.rules.authorization.special_case_room_aliases {
            assert_eq!(world.refused("bob", "m.room.aliases", None, aliases()), Refusal::AliasesWithoutStateKey);
            let refusal = world.refused("bob", "m.room.aliases", Some("elsewhere"), aliases());
            assert_eq!(refusal, Refusal::AliasesOfOtherServer);
            // Even of people who are not in the room.
            world.ok("erin", "m.room.aliases", Some("example.org"), aliases());
        } else {
            world.ok("bob", "m.room.aliases", Some("elsewhere"), aliases());
            assert_eq!(
                world.refused("erin", "m.room.aliases", Some("example.org"), aliases()),
                Refusal::SenderNotJoined
            );
        }
    }
}

#[test]
fn state_under_a_user_id_is_for_that_user() {
    let mut world = peopled(&RoomVersionId::V11);
    world.ok("bob", "org.example.note", Some(&id("bob")), json!({}));
    assert_eq!(world.refused("bob", "org.example.note", Some(&id("carol")), json!({})), Refusal::StateOfOtherUser);
}

#[test]
fn power_levels_are_well_formed() {
    for version in &ROOM_VERSIONS {
        let mut world = World::new(version);
        let strict = world.rules.authorization.integer_power_levels;
        let mut tries = |content: Value| {
            let prev = world.last.clone();
            let state = world.before(&prev);
            let event = {
                let (draft, _) = world.draft(&prev, "alice", "m.room.power_levels", Some(""), &content, None);
                world.seal(draft)
            };
            auth::check(&world.rules, &event, &crate::world::At(&world, state)).err()
        };
        let refused = |refusal: Refusal| Some(koine_graph::auth::CheckError::Refused(refusal));
        assert_eq!(tries(json!({})), None);
        assert_eq!(tries(json!({ "users": [] })), refused(Refusal::PowerLevelsUsers));
        assert_eq!(tries(json!({ "users": { "bob": 5 } })), refused(Refusal::PowerLevelsUsers));
        assert_eq!(tries(json!({ "users": { "@bob:x": true } })), refused(Refusal::PowerLevelsUsers));
        assert_eq!(tries(json!({ "users": { "@bob:x": 7 } })), None);
        let only = |refusal: Refusal| strict.then_some(koine_graph::auth::CheckError::Refused(refusal));
        assert_eq!(tries(json!({ "users": { "@bob:x": " 7 " } })), only(Refusal::PowerLevelsUsers));
        assert_eq!(tries(json!({ "ban": "50" })), only(Refusal::PowerLevelsNumber("ban")));
        assert_eq!(tries(json!({ "events": 5 })), only(Refusal::PowerLevelsMap("events")));
        assert_eq!(tries(json!({ "notifications": { "room": "5" } })), only(Refusal::PowerLevelsMap("notifications")));
        let alice = json!({ "users": { "@alice:example.org": 100 } });
        let creators_infinite = world.rules.authorization.explicitly_privilege_room_creators;
        let expected = creators_infinite
            .then(|| koine_graph::auth::CheckError::Refused(Refusal::PowerLevelsOfCreator(user("alice"))));
        let prev = world.last.clone();
        let state = world.before(&prev);
        let (draft, _) = world.draft(&prev, "alice", "m.room.power_levels", Some(""), &alice, None);
        let event = world.seal(draft);
        assert_eq!(auth::check(&world.rules, &event, &crate::world::At(&world, state)).err(), expected);
    }
}

#[test]
fn power_levels_change_only_within_reach() {
    const LEVELS: &str = "m.room.power_levels";
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let base = || json!({ "kick": 60, "events": { "a": 60, "b": 40, "m.room.power_levels": 50 }, "notifications": { "room": 60 } });
        let users = [("bob", 50), ("carol", 50), ("dave", 40)];
        let content = levels(&world, &users, base());
        world.ok("alice", LEVELS, Some(""), content);
        let has = Level::Number(50);

        let mut tries = |change: &dyn Fn(&mut Value)| {
            let mut content = levels(&world, &users, base());
            change(&mut content);
            world.refused("bob", LEVELS, Some(""), content)
        };
        let current = |field: &str| Refusal::PowerLevelsCurrent { field: field.into(), current: 60, has };
        let new = |field: &str| Refusal::PowerLevelsNew { field: field.into(), new: 51, has };
        assert_eq!(tries(&|content| content["kick"] = json!(10)), current("kick"));
        assert_eq!(
            tries(&|content| {
                content.as_object_mut().expect("object").remove("kick");
            }),
            current("kick")
        );
        assert_eq!(tries(&|content| content["ban"] = json!(51)), new("ban"));
        assert_eq!(tries(&|content| content["events"]["a"] = json!(10)), current("a"));
        assert_eq!(
            tries(&|content| {
                content["events"].as_object_mut().expect("object").remove("a");
            }),
            current("a")
        );
        assert_eq!(tries(&|content| content["events"]["b"] = json!(51)), new("b"));
        assert_eq!(tries(&|content| content["events"]["c"] = json!(51)), new("c"));
        let of_equal = Refusal::PowerLevelsOfEqual { user: id("carol"), current: 50, has };
        assert_eq!(tries(&|content| content["users"][id("carol")] = json!(10)), of_equal);
        assert_eq!(
            tries(&|content| {
                content["users"].as_object_mut().expect("object").remove(&id("carol"));
            }),
            of_equal
        );
        assert_eq!(tries(&|content| content["users"][id("dave")] = json!(51)), new(&id("dave")));
        assert_eq!(tries(&|content| content["users"][id("bob")] = json!(51)), new(&id("bob")));
        assert_eq!(tries(&|content| content["users"][id("erin")] = json!(51)), new(&id("erin")));

        let mut content = levels(&world, &users, base());
        content["notifications"]["room"] = json!(10);
        if world.rules.authorization.limit_notifications_power_levels {
            assert_eq!(world.refused("bob", LEVELS, Some(""), content), current("room"));
        } else {
            world.ok("bob", LEVELS, Some(""), content);
            let content = levels(&world, &users, base());
            world.ok("alice", LEVELS, Some(""), content);
        }

        // Within reach: up to one's own level, and down with oneself.
        let mut content = levels(&world, &users, base());
        content["users"][id("dave")] = json!(50);
        content["users"][id("bob")] = json!(45);
        content["events"]["b"] = json!(50);
        content["ban"] = json!(50);
        world.ok("bob", LEVELS, Some(""), content);
    }
}

#[test]
fn old_redactions_are_judged_by_the_rules() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        world.join("erin:elsewhere");
        let message = world.ok("alice", "m.room.message", None, json!({ "body": "hi" }));
        let mut redaction = |sender: &str| {
            let prev = world.last.clone();
            let (mut draft, state) = world.draft(&prev, sender, "m.room.redaction", None, &json!({}), None);
            draft.redacts = Some(message.event_id().to_owned());
            let event = if sender.contains(':') && world.rules.authorization.special_case_room_redaction {
                let server = ruma_common::ServerName::parse("elsewhere").expect("a server name");
                let hash =
                    |id: &ruma_common::EventId| world.events.get(id).map(|event| event.reference_hash(&world.rules));
                let legacy = koine_graph::Legacy { opaque_id: "r", reference_hash: &hash };
                draft.seal_with(&world.rules, &server, &crate::world::key(), Some(&legacy)).expect("a fine draft")
            } else {
                world.seal(draft)
            };
            (event.clone(), world.add(event, state).err())
        };
        let (_, by_bob) = redaction("bob");
        let (_, by_carol) = redaction("carol");
        let (event, by_erin) = redaction("erin:elsewhere");
        assert_eq!((by_bob, by_carol), (None, None));
        let special = world.rules.authorization.special_case_room_redaction;
        assert_eq!(by_erin, special.then_some(Refusal::RedactLevel { needed: 50, has: Level::Number(0) }));
        if !special {
            let levels = PowerLevels::new(&world.rules.authorization, None, None);
            assert!(!auth::may_redact(&world.rules, &levels, &event, &message));
        }
    }
}

#[test]
fn levels_without_power_levels_event() {
    for version in &ROOM_VERSIONS {
        let world = World::new(version);
        let create = world.events.values().find(|event| event.kind() == "m.room.create");
        let levels = PowerLevels::new(&world.rules.authorization, create, None);
        let infinite = world.rules.authorization.explicitly_privilege_room_creators;
        let expected = if infinite { Level::Creator } else { Level::Number(100) };
        assert_eq!(levels.user_level(&user("alice")), expected);
        assert_eq!(levels.user_level(&user("bob")), Level::Number(0));
        assert_eq!((levels.ban(), levels.kick(), levels.redact(), levels.invite()), (50, 50, 50, 0));
        assert_eq!((levels.level_for_event("x", true), levels.level_for_event("x", false)), (50, 0));
        assert_eq!(levels.notifications("room"), 50);
        assert_eq!(levels.creators(), [user("alice")]);
    }
}

#[test]
fn additional_creators_are_above_all_numbers() {
    let mut world = World::empty(&RoomVersionId::V12);
    world.ok("alice", "m.room.create", Some(""), json!({ "additional_creators": [id("bob")] }));
    world.join("alice");
    world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
    world.join("bob");
    world.join("carol");
    let content = json!({ "users": { id("carol"): 1_000_000 }, "state_default": 1_000_000 });
    world.ok("bob", "m.room.power_levels", Some(""), content);
    let refusal = world.refused("carol", MEMBER, Some(&id("bob")), membership("leave"));
    assert_eq!(refusal, Refusal::KickOfEqual { target: Level::Creator, has: Level::Number(1_000_000) });
    let content = json!({ "users": { id("bob"): 100 } });
    assert_eq!(
        world.refused("alice", "m.room.power_levels", Some(""), content),
        Refusal::PowerLevelsOfCreator(user("bob"))
    );
    let refusal = world.refused("alice", MEMBER, Some(&id("bob")), membership("ban"));
    assert_eq!(refusal, Refusal::BanOfEqual { target: Level::Creator, has: Level::Creator });
}

#[test]
fn auth_events_are_the_ones_that_are_needed() {
    let needed = |version: &RoomVersionId, kind: &str, state_key: Option<&str>, content: Value| {
        let rules = koine_graph::rules(version).expect("supported");
        let content = to_raw_value(&content).expect("JSON");
        let keys = auth::needed(&rules, kind, &user("a"), state_key, &content);
        keys.into_iter().map(|(kind, key)| format!("{}|{key}", kind.trim_start_matches("m.room."))).collect::<Vec<_>>()
    };
    let (a, b) = ("@a:example.org", "@b:example.org");
    let v11 = &RoomVersionId::V11;
    assert!(needed(v11, "m.room.create", Some(""), json!({})).is_empty());
    assert_eq!(needed(v11, "x", None, json!({})), ["create|", "power_levels|", "member|@a:example.org"]);
    assert_eq!(needed(&RoomVersionId::V12, "x", None, json!({})), ["power_levels|", "member|@a:example.org"]);
    let base = ["power_levels|", "member|@a:example.org"];
    let rest = |version: &RoomVersionId, key: &str, content: Value| {
        let all = needed(version, MEMBER, Some(key), content);
        all.into_iter().filter(|key| key != "create|" && !base.contains(&key.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(rest(v11, a, membership("join")), ["join_rules|"]);
    assert_eq!(rest(v11, a, membership("knock")), ["join_rules|"]);
    assert!(rest(&RoomVersionId::V6, a, membership("knock")).is_empty());
    assert!(rest(v11, a, membership("leave")).is_empty());
    assert_eq!(rest(v11, b, membership("ban")), ["member|@b:example.org"]);
    assert_eq!(rest(v11, b, membership("invite")), ["member|@b:example.org", "join_rules|"]);
    let third = json!({ "membership": "invite", "third_party_invite": { "signed": { "token": "t" } } });
    assert_eq!(rest(v11, b, third), ["member|@b:example.org", "join_rules|", "third_party_invite|t"]);
    let vouched = || json!({ "membership": "join", "join_authorised_via_users_server": "@c:x" });
    assert_eq!(rest(v11, a, vouched()), ["join_rules|", "member|@c:x"]);
    assert_eq!(rest(&RoomVersionId::V7, a, vouched()), ["join_rules|"]);
}

#[test]
fn auth_events_that_are_not_sound_are_refused() {
    for version in &ROOM_VERSIONS {
        let mut world = peopled(version);
        let topic = world.ok("bob", "m.room.topic", Some(""), json!({ "topic": "t" }));
        let message = world.ok("carol", "m.room.message", None, json!({ "body": "hi" }));
        let sound: Vec<_> = message.auth_events().iter().map(|id| world.events[id].clone()).collect();
        let check = |auth_events: &[_]| check_auth_events(&world.rules, &message, auth_events, |_| false);
        assert_eq!(check(&sound), Ok(()));
        let unwanted = Refusal::AuthEventUnwanted { kind: "m.room.topic".into(), state_key: String::new() };
        assert_eq!(check(&[&sound[..], std::slice::from_ref(&topic)].concat()), Err(unwanted));
        let twice = check(&[&sound[..], &sound[..1]].concat());
        assert!(matches!(twice, Err(Refusal::AuthEventTwice { .. })));
        let rejected = check_auth_events(&world.rules, &message, &sound, |_| true);
        assert_eq!(rejected, Err(Refusal::AuthEventRejected(sound[0].event_id().to_owned())));
        let create = world.events.values().find(|event| event.kind() == "m.room.create").expect("there");
        let without: Vec<_> = sound.iter().filter(|event| event.kind() != "m.room.create").cloned().collect();
        if world.rules.event_format.allow_room_create_in_auth_events {
            assert_eq!(check(&without), Err(Refusal::AuthEventsWithoutCreate));
        } else {
            let unwanted = Refusal::AuthEventUnwanted { kind: "m.room.create".into(), state_key: String::new() };
            assert_eq!(check(&[&sound[..], std::slice::from_ref(create)].concat()), Err(unwanted));
        }
    }
    // Of another room: from version 12 on rooms have different names even when made alike by others.
    let mut one = peopled(&RoomVersionId::V12);
    let message = one.ok("carol", "m.room.message", None, json!({}));
    let mut other = World::empty(&RoomVersionId::V12);
    other.ok("bob", "m.room.create", Some(""), json!({}));
    other.join("bob");
    other.ok("bob", "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
    let foreign = other.ok("carol", MEMBER, Some(&id("carol")), membership("join"));
    let refusal = check_auth_events(&one.rules, &message, std::slice::from_ref(&foreign), |_| false);
    assert_eq!(refusal, Err(Refusal::AuthEventOfOtherRoom(foreign.event_id().to_owned())));
    let prev = other.last.clone();
    let state = other.before(&prev);
    let verdict = auth::check(&one.rules, &message, &crate::world::At(&other, state));
    assert_eq!(verdict, Err(koine_graph::auth::CheckError::Refused(Refusal::RoomNotOfCreate)));
}
