//! User-interactive authentication and registration tokens.

use koine_account::{
    AuthData, Challenge, CreateError, InteractError, NewAccount, Passed, Purpose, Registration, Stage, StageFailure,
};
use ruma_common::OwnedUserId;

use crate::World;

fn owner(user_id: &OwnedUserId, operation: &'static str) -> Purpose {
    Purpose::Owner { user_id: user_id.clone(), operation }
}

fn password(user: &str, password: &str, session: Option<&str>) -> Option<AuthData> {
    Some(AuthData {
        stage: Some("m.login.password".to_owned()),
        session: session.map(ToOwned::to_owned),
        user: Some(user.to_owned()),
        password: Some(password.into()),
        token: None,
    })
}

fn challenge(step: Result<Passed, InteractError>) -> Challenge {
    match step {
        Err(InteractError::Challenge(challenge)) => *challenge,
        other => panic!("a challenge was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn nothing_succeeds_without_being_asked_for_first() {
    let world = World::new(Registration::Open);
    let asked = challenge(world.accounts.interact(&Purpose::Register, None).await);
    assert_eq!(asked.flows, [vec![Stage::Dummy]]);
    assert_eq!((asked.completed.len(), asked.failure), (0, None));
    let asked = challenge(world.accounts.interact(&Purpose::Register, Some(AuthData::default())).await);
    assert_eq!(asked.failure, None);
    let dummy =
        AuthData { stage: Some("m.login.dummy".to_owned()), session: Some(asked.session), ..AuthData::default() };
    assert!(world.accounts.interact(&Purpose::Register, Some(dummy)).await.is_ok());
}

#[tokio::test]
async fn the_owner_of_an_account_proves_it_with_the_password() {
    let world = World::new(Registration::Open);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let purpose = owner(&alice, "delete_device");
    let step = async |auth| world.accounts.interact(&purpose, auth).await;
    let wrong = challenge(step(password("alice", "guess", None)).await);
    assert_eq!(wrong.failure, Some(StageFailure::WrongPassword));
    let session = wrong.session.as_str();
    let other = step(password(bob.as_str(), "bob's secret", Some(session))).await;
    assert!(matches!(other, Err(InteractError::OtherUser)));
    let unknown = AuthData { stage: Some("m.login.dummy".to_owned()), ..AuthData::default() };
    assert_eq!(challenge(step(Some(unknown)).await).failure, Some(StageFailure::UnknownStage));
    let passed = step(password("@ALICE:example.org", "alice's secret", Some(session))).await.expect("the password");

    let again = Some(AuthData { session: Some(session.to_owned()), ..AuthData::default() });
    assert!(step(again.clone()).await.is_ok(), "what is passed stays passed until it is done");
    let elsewhere = world.accounts.interact(&owner(&alice, "deactivate"), again.clone()).await;
    assert_ne!(challenge(elsewhere).session, session, "and only for what it was passed for");
    world.accounts.interaction_done(&passed);
    assert_ne!(challenge(step(again).await).session, session);
}

#[tokio::test]
async fn a_registration_token_is_good_for_as_many_as_it_says() {
    let world = World::new(Registration::Token);
    let token = world.accounts.create_registration_token(Some("come-in".into()), Some(1), None).await.expect("new");
    let show = |token: &str| {
        Some(AuthData {
            stage: Some("m.login.registration_token".to_owned()),
            token: Some(token.to_owned()),
            ..AuthData::default()
        })
    };
    let step = async |auth| world.accounts.interact(&Purpose::Register, auth).await;
    assert_eq!(challenge(step(show("guess")).await).failure, Some(StageFailure::InvalidToken));
    let passed = step(show(&token)).await.expect("valid");
    assert!(!world.accounts.is_registration_token_valid(&token).expect("readable"), "somebody is using it");
    assert_eq!(world.accounts.registration_tokens().expect("readable")[0].pending, 1);

    let join = |name: &str| NewAccount {
        name: Some(name.to_owned()),
        registration_token: passed.registration_token.clone(),
        ..NewAccount::default()
    };
    world.accounts.create(join("alice")).await.expect("the token permits it");
    assert!(matches!(world.accounts.create(join("bob")).await, Err(CreateError::Invitation(_))));
    world.accounts.interaction_done(&passed);
    let listed = world.accounts.registration_tokens().expect("readable").remove(0);
    assert_eq!((listed.pending, listed.completed), (0, 1));
}

#[tokio::test]
async fn a_registration_token_expires() {
    let world = World::new(Registration::Token);
    let expires = Some(1_700_000_000_000 + 1000);
    let token = world.accounts.create_registration_token(None, None, expires).await.expect("new");
    assert!(world.accounts.is_registration_token_valid(&token).expect("readable"));
    world.pass_ms(1000);
    assert!(!world.accounts.is_registration_token_valid(&token).expect("readable"));
}

#[tokio::test]
async fn nobody_registers_where_it_is_closed() {
    let world = World::new(Registration::Closed);
    let step = world.accounts.interact(&Purpose::Register, None).await;
    assert!(matches!(step, Err(InteractError::RegistrationClosed)));
}
