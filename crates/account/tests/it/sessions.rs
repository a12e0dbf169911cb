//! Tokens and devices.

use koine_account::{AuthenticateError, Credentials, Flag, NewSession, Registration, RenameError};
use ruma_common::device_id;

use crate::World;

fn refreshable() -> NewSession {
    NewSession { device_id: Some("PHONE".to_owned()), refreshable: true, ..NewSession::default() }
}

fn tokens(credentials: &Credentials) -> (String, String) {
    let refresh = credentials.refresh_token.as_ref().expect("refreshable");
    (credentials.access_token.expose().to_owned(), refresh.expose().to_owned())
}

#[tokio::test]
async fn a_token_proves_who_and_on_which_device() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let token = world.token(&alice, "PHONE").await;
    let session = world.accounts.authenticate(&token, None).expect("just granted");
    assert_eq!((&session.user_id, session.device_id.as_str()), (&alice, "PHONE"));
    for wrong in ["", "koa_", "nonsense", &token[1..]] {
        assert!(matches!(world.accounts.authenticate(wrong, None), Err(AuthenticateError::UnknownToken)), "{wrong}");
    }
}

#[tokio::test]
async fn logging_in_on_a_device_again_ends_the_session_before() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let before = world.token(&alice, "PHONE").await;
    world.accounts.authenticate(&before, None).expect("valid so far");
    let after = world.token(&alice, "PHONE").await;
    assert!(world.accounts.authenticate(&before, None).is_err());
    assert!(world.accounts.authenticate(&after, None).is_ok());
    assert_eq!(world.accounts.devices(&alice).expect("readable").len(), 1);
}

#[tokio::test]
async fn a_deleted_device_takes_its_tokens_along() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let (phone, laptop) = (world.token(&alice, "PHONE").await, world.token(&alice, "LAPTOP").await);
    for token in [&phone, &laptop] {
        world.accounts.authenticate(token, None).expect("valid so far");
    }
    world.accounts.delete_devices_except(&alice, Some(device_id!("LAPTOP"))).await.expect("durable");
    assert!(world.accounts.authenticate(&phone, None).is_err());
    assert!(world.accounts.authenticate(&laptop, None).is_ok());
    assert_eq!(world.accounts.device(&alice, device_id!("PHONE")).expect("readable"), None);
}

#[tokio::test]
async fn sessions_outlive_the_process() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let token = world.token(&alice, "PHONE").await;
    let restarted = World::over(world.shard.clone(), Registration::Open);
    assert!(restarted.accounts.authenticate(&token, None).is_ok());
}

#[tokio::test]
async fn a_token_expires_and_is_refreshed() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let first = world.accounts.start_session(&alice, refreshable()).await.expect("an account");
    let lifetime = first.expires_in.expect("refreshable tokens expire");
    let (access, refresh) = tokens(&first);
    world.pass_ms(u64::try_from(lifetime.as_millis()).expect("short"));
    assert!(matches!(world.accounts.authenticate(&access, None), Err(AuthenticateError::TokenExpired)));
    let (next, _) = tokens(&world.accounts.refresh(&refresh).await.expect("valid"));
    assert_eq!(world.accounts.authenticate(&next, None).expect("fresh").device_id, "PHONE");
}

#[tokio::test]
async fn the_old_refresh_token_is_good_until_a_new_one_is_used() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let first = tokens(&world.accounts.start_session(&alice, refreshable()).await.expect("an account"));
    // The answer to this one is lost on the way.
    let lost = tokens(&world.accounts.refresh(&first.1).await.expect("valid"));
    let second = tokens(&world.accounts.refresh(&first.1).await.expect("still valid"));
    assert!(world.accounts.authenticate(&lost.0, None).is_err(), "what was never received is revoked");
    assert!(world.accounts.refresh(&lost.1).await.is_err());

    world.accounts.authenticate(&second.0, None).expect("fresh");
    world.shard.submit(|_| {}).await.expect("the revocation is durable before this");
    assert!(world.accounts.refresh(&first.1).await.is_err(), "revoked by the use of its successor");
    assert!(world.accounts.authenticate(&first.0, None).is_err());

    let third = tokens(&world.accounts.refresh(&second.1).await.expect("valid"));
    let fourth = tokens(&world.accounts.refresh(&third.1).await.expect("valid without using the access token"));
    assert!(world.accounts.refresh(&second.1).await.is_err(), "revoked by the use of its successor");
    assert!(world.accounts.authenticate(&fourth.0, None).is_ok());
    assert!(world.accounts.refresh(&fourth.0).await.is_err(), "an access token refreshes nothing");
    assert!(world.accounts.authenticate(&fourth.1, None).is_err(), "a refresh token opens nothing");
}

#[tokio::test]
async fn where_a_device_was_seen_is_kept_coarsely() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let token = world.token(&alice, "PHONE").await;
    let seen = || world.accounts.devices(&alice).expect("readable").remove(0);
    let before = world.shard.position();
    let address = "192.0.2.7".parse().expect("an address");
    world.accounts.authenticate(&token, Some(address)).expect("valid");
    assert_eq!(world.shard.position(), before, "a request writes nothing");
    world.pass_ms(11 * 60 * 1000);
    world.accounts.authenticate(&token, Some(address)).expect("valid");
    world.shard.submit(|_| {}).await.expect("what was submitted before is durable");
    assert_eq!(seen().last_seen_ip.as_deref(), Some("192.0.2.7"));
}

#[tokio::test]
async fn only_devices_that_are_there_are_renamed() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    world.token(&alice, "PHONE").await;
    world.accounts.rename_device(&alice, device_id!("PHONE"), "Jungle Phone".into()).await.expect("there");
    let device = world.accounts.device(&alice, device_id!("PHONE")).expect("readable").expect("there");
    assert_eq!(device.display_name.as_deref(), Some("Jungle Phone"));
    let refused = world.accounts.rename_device(&alice, device_id!("TABLET"), "x".into()).await;
    assert!(matches!(refused, Err(RenameError::UnknownDevice)));
}

#[tokio::test]
async fn a_session_that_ended_is_known_to_have_ended_by_those_who_hold_it() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let (phone, laptop) = (world.token(&alice, "PHONE").await, world.token(&alice, "LAPTOP").await);
    let prove = |token: &str| world.accounts.authenticate(token, None).expect("valid so far");
    let (phone, laptop) = (prove(&phone), prove(&laptop));
    world.accounts.delete_devices(&alice, vec!["PHONE".into()]).await.expect("durable");
    assert!(matches!(world.accounts.recheck(&phone), Err(AuthenticateError::UnknownToken)));
    assert!(world.accounts.recheck(&laptop).is_ok());
    world.accounts.set_flag(&alice, Flag::Locked, true).await.expect("an account");
    assert!(matches!(world.accounts.recheck(&laptop), Err(AuthenticateError::UserLocked)));
}
