//! Account data, filters, and who is ignored.

use koine_account::{Kind, Registration, user_of};
use ruma_common::{room_id, user_id};

use crate::World;

#[tokio::test]
async fn what_changed_since_a_position_is_told_once_and_in_order() {
    let world = World::new(Registration::Open);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let set = async |user, kind: &str, content: &str| {
        world.accounts.set_account_data(user, None, kind, content.to_owned()).await.expect("set")
    };
    let first = set(&alice, "a", "{\"n\":1}").await;
    let second = set(&alice, "b", "{\"n\":2}").await;
    set(&bob, "b", "{\"n\":3}").await;
    set(&alice, "a", "{\"n\":4}").await;
    let kinds = |position| -> Vec<(String, String)> {
        let data = world.accounts.global_account_data_after(&alice, position).expect("readable");
        data.into_iter().map(|data| (data.kind, data.content)).collect()
    };
    let row = |kind: &str, content: &str| (kind.to_owned(), content.to_owned());
    assert_eq!(kinds(Some(first)), [row("b", "{\"n\":2}"), row("a", "{\"n\":4}")]);
    assert_eq!(kinds(Some(second)), [row("a", "{\"n\":4}")]);
    assert_eq!(kinds(Some(world.shard.position())), []);
    assert_eq!(kinds(None), [row("a", "{\"n\":4}"), row("b", "{\"n\":2}")]);
}

#[tokio::test]
async fn rooms_have_account_data_of_their_own() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let room = room_id!("!room:example.org");
    world.accounts.set_account_data(&alice, Some(room), "k", "{\"n\":1}".into()).await.expect("set");
    assert_eq!(world.accounts.account_data(&alice, None, "k").expect("readable"), None);
    assert_eq!(world.accounts.account_data(&alice, Some(room), "k").expect("readable").as_deref(), Some("{\"n\":1}"));
    let all = world.accounts.room_account_data_after(&alice, None).expect("readable");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].room_id, room);
    assert!(world.accounts.global_account_data_after(&alice, None).expect("readable").is_empty());
}

#[tokio::test]
async fn changes_are_told_in_the_log() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let before = world.shard.position();
    let position = world.accounts.set_account_data(&alice, None, "k", "{\"n\":1}".into()).await.expect("set");
    let entries = world.shard.log_after(before, 10).expect("readable");
    let [(at, entry)] = &entries[..] else { panic!("one entry") };
    assert_eq!((*at, Kind::of(entry.kind)), (position, Some(Kind::AccountData)));
    assert_eq!(user_of(&entry.subject).as_ref(), Some(&alice));
    assert_eq!(&entry.body[..], b"\0k");
}

#[tokio::test]
async fn the_ignored_are_known_at_once() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let ignored = || world.accounts.ignored_users(&alice).expect("readable");
    assert!(ignored().is_empty());
    let content = r#"{"ignored_users":{"@spam:example.org":{},"nonsense":{}}}"#.to_owned();
    world.accounts.set_account_data(&alice, None, "m.ignored_user_list", content).await.expect("set");
    assert!(ignored().contains(user_id!("@spam:example.org")));
    assert_eq!(ignored().len(), 1);
    world.accounts.set_account_data(&alice, None, "m.ignored_user_list", "[]".into()).await.expect("set");
    assert!(ignored().is_empty());
}

#[tokio::test]
async fn the_same_filter_has_the_same_id() {
    let world = World::new(Registration::Open);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let store = async |user, filter: &str| world.accounts.store_filter(user, filter.to_owned()).await.expect("stored");
    let one = store(&alice, "{}").await;
    let other = store(&alice, r#"{"room":{}}"#).await;
    assert_ne!(one, other);
    assert_eq!(store(&alice, "{}").await, one);
    assert_eq!(world.accounts.filter(&alice, &other).expect("readable").as_deref(), Some(&br#"{"room":{}}"#[..]));
    assert_eq!(world.accounts.filter(&bob, &one).expect("readable"), None);
    assert_eq!(world.accounts.filter(&alice, "{").expect("readable"), None);
}

#[tokio::test]
async fn the_oldest_filter_gives_way() {
    let world = World::new(Registration::Open);
    let alice = world.person("alice").await;
    let mut ids = Vec::new();
    for number in 0..1001 {
        ids.push(world.accounts.store_filter(&alice, format!("{{\"n\":{number}}}")).await.expect("stored"));
    }
    let kept = |id: &str| world.accounts.filter(&alice, id).expect("readable").is_some();
    assert_eq!((kept(&ids[0]), kept(&ids[1]), kept(&ids[1000])), (false, true, true));
    let again = world.accounts.store_filter(&alice, "{\"n\":0}".to_owned()).await.expect("stored");
    assert!(kept(&again));
}
