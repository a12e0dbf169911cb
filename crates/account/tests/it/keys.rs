//! Keys of devices and messages to them, where their bounds are.

use std::collections::BTreeMap;

use koine_account::{
    Claim, KeyUpload, ONE_TIME_KEYS_MAX, Postbox, QUEUE_MESSAGES_MAX, Recipient, Registration, SENDER_MESSAGES_MAX,
    ToDevice, UploadKeysError,
};
use koine_store::Position;
use ruma_common::{CanonicalJsonValue, DeviceId, OwnedDeviceId, OwnedUserId, device_id};
use serde_json::value::to_raw_value;

use crate::World;

const ALGORITHM: &str = "signed_curve25519";

async fn device(world: &World) -> (OwnedUserId, OwnedDeviceId) {
    let user = world.person("anna").await;
    let session = world.accounts.start_session(&user, koine_account::NewSession::default()).await.expect("a session");
    (user, session.device_id)
}

fn one_time_keys(numbers: std::ops::Range<usize>, content: &str) -> KeyUpload {
    let keys = numbers.map(|n| (format!("{ALGORITHM}:{n}"), CanonicalJsonValue::from(content)));
    KeyUpload { one_time_keys: keys.collect(), ..KeyUpload::default() }
}

async fn claim(world: &World, (user_id, device_id): (&OwnedUserId, &OwnedDeviceId), count: usize) -> Vec<String> {
    let claim = Claim { user_id: user_id.clone(), device_id: device_id.clone(), algorithm: ALGORITHM.to_owned() };
    let given = world.accounts.claim_keys(vec![claim; count]).await.expect("a store that works");
    given.into_iter().map(|given| given.key_id).collect()
}

#[tokio::test]
async fn a_key_that_was_given_out_is_not_taken_again() {
    let world = World::new(Registration::Open);
    let (user, device) = device(&world).await;
    let upload = async |numbers, content| {
        let state = world.accounts.upload_keys(&user, &device, one_time_keys(numbers, content)).await?;
        Ok::<_, UploadKeysError>(
            state.one_time_keys.into_iter().collect::<BTreeMap<_, _>>().remove(ALGORITHM).unwrap_or(0),
        )
    };
    assert_eq!(upload(0..300, "a").await.expect("room for them"), 300);
    assert_eq!(claim(&world, (&user, &device), 300).await.len(), 300);
    assert_eq!(upload(0..300, "a").await.expect("nothing to do"), 0);
    // The same names for other keys, once the first are gone.
    assert_eq!(upload(0..10, "b").await.expect("other keys"), 10);
    assert_eq!(upload(0..10, "b").await.expect("nothing to do"), 10);
    assert!(matches!(upload(0..10, "c").await, Err(UploadKeysError::IdInUse(_))));
    assert_eq!(claim(&world, (&user, &device), 20).await.len(), 10);
    // However many keys go through, what is remembered of them is bounded, and they keep coming.
    for round in 2..8 {
        let numbers = round * ONE_TIME_KEYS_MAX..(round + 1) * ONE_TIME_KEYS_MAX;
        assert_eq!(upload(numbers, "x").await.expect("room for them"), ONE_TIME_KEYS_MAX as u64);
        assert!(matches!(upload(0..1, "one more").await, Err(UploadKeysError::TooMany { .. })));
        assert_eq!(claim(&world, (&user, &device), ONE_TIME_KEYS_MAX + 1).await.len(), ONE_TIME_KEYS_MAX);
    }
    world.accounts.delete_devices(&user, vec![device.clone()]).await.expect("all of it goes in one command");
    assert_eq!(claim(&world, (&user, &device), 1).await, [""; 0]);
    assert!(matches!(upload(0..1, "a").await, Err(UploadKeysError::UnknownDevice)));
}

#[tokio::test]
async fn a_full_postbox_loses_what_comes_and_goes_with_its_device() {
    let world = World::new(Registration::Open);
    let (user, device) = device(&world).await;
    let from: &DeviceId = device_id!("SENDER");
    let content = to_raw_value(&serde_json::json!({ "n": 1 })).expect("JSON");
    let people: Vec<OwnedUserId> =
        (0..9).map(|n| format!("@sender{n}:example.org").try_into().expect("a user id")).collect();
    let send = |sender: usize, n: u64| {
        let message = (user.clone(), Recipient::Device(device.to_string()), content.clone());
        let sent = ToDevice { kind: "test".to_owned(), txn_id: n.to_string(), messages: vec![message] };
        world.accounts.send_to_device((&people[sender], from), sent)
    };
    // One alone cannot fill it.
    for n in 0..SENDER_MESSAGES_MAX + 1_005 {
        send(0, n).await.expect("a store that works");
    }
    let waiting = world.accounts.postbox((&user, &device), Position(0), world.shard.position(), usize::MAX);
    assert_eq!(waiting.expect("a store that works").messages.len() as u64, SENDER_MESSAGES_MAX + 1_000);
    for n in 0..QUEUE_MESSAGES_MAX {
        send(1 + n as usize % 8, n).await.expect("a store that works");
    }
    let postbox = |known: Position, limit: usize| -> Postbox {
        world.accounts.postbox((&user, &device), known, world.shard.position(), limit).expect("a store that works")
    };
    let all = postbox(Position(0), usize::MAX);
    assert_eq!(all.messages.len() as u64, QUEUE_MESSAGES_MAX);
    // Room again for as many as were read.
    let some = postbox(Position(0), 10);
    let read = some.more_after.expect("there are more");
    world.accounts.throw_away_acknowledged(&user, &device, &postbox(read, 10));
    for n in 100_000..100_020 {
        send(1, n).await.expect("a store that works");
    }
    assert_eq!(postbox(read, usize::MAX).messages.len() as u64, QUEUE_MESSAGES_MAX);
    world.accounts.delete_devices(&user, vec![device.clone()]).await.expect("all of it goes in one command");
    assert!(postbox(Position(0), 10).messages.is_empty());
    assert!(!world.accounts.device_state(&user, &device).expect("a store that works").has_messages);
}
