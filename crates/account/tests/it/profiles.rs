//! Profiles.

use koine_account::{ProfileError, Registration};
use ruma_common::user_id;
use serde_json::{Value, json};

use crate::World;

#[tokio::test]
async fn fields_are_set_read_and_removed() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let profile = || Value::Object(world.accounts.profile(&alice).expect("readable").expect("an account"));
    assert_eq!(profile(), json!({}));
    let set = async |key: &str, value: Value| world.accounts.set_profile_field(&alice, key, value).await.expect("set");
    set("displayname", "Alice".into()).await;
    set("avatar_url", "mxc://example.org/abc".into()).await;
    set("org.example.jobs", json!(["gardener"])).await;
    assert_eq!(
        profile(),
        json!({ "avatar_url": "mxc://example.org/abc", "displayname": "Alice", "org.example.jobs": ["gardener"] })
    );
    world.accounts.delete_profile_field(&alice, "org.example.jobs").await.expect("removed");
    set("avatar_url", "".into()).await;
    assert_eq!(profile(), json!({ "displayname": "Alice" }));
    assert_eq!(world.accounts.display_profile(&alice).expect("readable"), (Some("Alice".to_owned()), None));
    assert_eq!(world.accounts.profile(user_id!("@nobody:example.org")).expect("readable"), None);
}

#[tokio::test]
async fn a_profile_is_bounded() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let half = Value::String("x".repeat(40 * 1024));
    world.accounts.set_profile_field(&alice, "m.one", half.clone()).await.expect("fits");
    let refused = world.accounts.set_profile_field(&alice, "m.two", half).await;
    assert!(matches!(refused, Err(ProfileError::ProfileTooLarge(_))));
    let refused = world.accounts.set_profile_field(&alice, "displayname", 7.into()).await;
    assert!(matches!(refused, Err(ProfileError::BadValue(_))));
}
