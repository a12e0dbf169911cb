//! Making accounts, logging in to them, closing them.

use koine_account::{
    AuthenticateError, CreateError, Flag, LoginError, NewAccount, NewSession, Registration, ScramHash,
    StartSessionError,
};

use crate::World;

#[tokio::test]
async fn a_name_is_had_by_one() {
    let world = World::new(Registration::Open);
    let alice = world.person("Alice").await;
    assert_eq!(alice, "@alice:example.org");
    let again = NewAccount { name: Some("aLICE".to_owned()), ..NewAccount::default() };
    assert!(matches!(world.accounts.create(again).await, Err(CreateError::NameTaken)));
    let (made_up, _) = world.accounts.create(NewAccount::default()).await.expect("a name is made up");
    assert!(!made_up.localpart().is_empty());
}

#[tokio::test]
async fn of_many_who_want_a_name_at_once_one_gets_it() {
    let world = World::new(Registration::Open);
    let wanting = (0..8).map(|_| {
        let accounts = world.accounts.clone();
        tokio::spawn(async move {
            let wanted = NewAccount { name: Some("zoe".to_owned()), ..NewAccount::default() };
            accounts.create(wanted).await.is_ok()
        })
    });
    let mut got = 0;
    for one in wanting.collect::<Vec<_>>() {
        got += usize::from(one.await.expect("no panic"));
    }
    assert_eq!(got, 1);
}

#[tokio::test]
async fn the_password_lets_in_under_every_spelling_of_the_name() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    for name in ["alice", "ALICE", "@alice:example.org", "@Alice:example.org"] {
        let proven = world.accounts.log_in(name, "alice's secret".into()).await;
        assert_eq!(proven.expect("the right password"), alice, "{name}");
    }
    for (name, password) in [("alice", "wrong"), ("bob", "alice's secret"), ("@alice:elsewhere.org", "alice's secret")]
    {
        let refused = world.accounts.log_in(name, password.into()).await;
        assert!(matches!(refused, Err(LoginError::WrongPassword)), "{name}");
    }
    let keys = world.accounts.scram_keys("alice", ScramHash::Sha256).expect("readable");
    assert_eq!(keys.expect("made with the password").iterations, 4096);
}

#[tokio::test]
async fn a_new_password_replaces_the_old_one() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    world.accounts.set_password(&alice, "new".into()).await.expect("an account");
    assert!(world.accounts.log_in("alice", "alice's secret".into()).await.is_err());
    assert!(world.accounts.log_in("alice", "new".into()).await.is_ok());
}

#[tokio::test]
async fn a_closed_account_is_closed_for_ever() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let token = world.token(&alice, "PHONE").await;
    world.accounts.set_profile_field(&alice, "displayname", "Alice".into()).await.expect("set");
    world.accounts.deactivate(&alice, true).await.expect("an account");

    assert!(matches!(world.accounts.authenticate(&token, None), Err(AuthenticateError::UnknownToken)));
    assert!(world.accounts.log_in("alice", "alice's secret".into()).await.is_err());
    let session = world.accounts.start_session(&alice, NewSession::default()).await;
    assert!(matches!(session, Err(StartSessionError::UserDeactivated)));
    assert!(matches!(world.accounts.check_name("alice"), Err(CreateError::NameTaken)));
    assert_eq!(world.accounts.profile(&alice).expect("readable"), None);
    world.accounts.deactivate(&alice, true).await.expect("nothing is left to do");
    assert!(world.accounts.set_password(&alice, "new".into()).await.is_err());
    let known = world.accounts.user(&alice).expect("readable").expect("still listed");
    assert!(known.is_deactivated && known.is_erased && !known.has_password);
}

#[tokio::test]
async fn locking_takes_effect_with_the_next_request() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let token = world.token(&alice, "PHONE").await;
    assert!(world.accounts.authenticate(&token, None).is_ok());
    world.accounts.set_flag(&alice, Flag::Locked, true).await.expect("an account");
    assert!(matches!(world.accounts.authenticate(&token, None), Err(AuthenticateError::UserLocked)));
    assert!(world.accounts.authenticate_even_locked(&token, None).is_ok());
    world.accounts.set_flag(&alice, Flag::Locked, false).await.expect("an account");
    world.accounts.set_flag(&alice, Flag::Admin, true).await.expect("an account");
    assert!(world.accounts.authenticate(&token, None).expect("unlocked").is_admin);
}

#[tokio::test]
async fn users_are_listed_page_by_page() {
    let world = World::new(Registration::Open);
    for name in ["carol", "alice", "bob"] {
        world.person(name).await;
    }
    let names = |after, limit| -> Vec<String> {
        let users = world.accounts.users(after, limit).expect("readable");
        users.into_iter().map(|user| user.user_id.localpart().to_owned()).collect()
    };
    assert_eq!(names(None, 2), ["alice", "bob"]);
    assert_eq!(names(Some("bob"), 2), ["carol"]);
}

#[tokio::test]
async fn a_reserved_name_is_for_programs_that_the_server_trusts() {
    let world = World::new(Registration::Open);
    world.accounts.reserve_names(|user| user.localpart().starts_with("irc_"));
    let wanted = || NewAccount { name: Some("irc_bob".into()), ..NewAccount::default() };
    assert!(matches!(world.accounts.check_name("irc_bob"), Err(CreateError::Reserved)));
    assert!(matches!(world.accounts.create(wanted()).await, Err(CreateError::Reserved)));
    // However it is written.
    let upper = NewAccount { name: Some("IRC_bob".into()), ..NewAccount::default() };
    assert!(world.accounts.create(upper).await.is_err());
    world.accounts.create(NewAccount { is_own: true, ..wanted() }).await.expect("the program may");
    assert!(matches!(world.accounts.check_name("irc_bob"), Err(CreateError::NameTaken)));
}
