//! The rules of people, from the outside: kept as account data, changed one at a time, in force at once.

use std::sync::Arc;

use koine_account::{AccountConfig, Accounts, NewAccount};
use koine_push::{ChangeError, EditError, Kind, NewRule, PUSH_RULES, Position, PushRules, Ruleset};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, owned_server_name, user_id};
use serde_json::{Value, json};

struct House {
    accounts: Arc<Accounts>,
    rules: Arc<PushRules>,
    alice: OwnedUserId,
}

impl House {
    async fn new() -> Self {
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty store opens");
        let clock = Arc::new(|| MilliSecondsSinceUnixEpoch(1000u32.into()));
        let name = owned_server_name!("example.org");
        let accounts = Accounts::new(shard, DomainId(1), name, AccountConfig::default(), clock);
        let wanted = NewAccount { name: Some("alice".to_owned()), ..NewAccount::default() };
        let (alice, _) = accounts.create(wanted).await.expect("the account is made");
        let rules = Arc::new(PushRules::new(accounts.clone()));
        Self { accounts, rules, alice }
    }

    async fn mute(&self, room: &str) -> Result<(), ChangeError> {
        let rule =
            NewRule { kind: Kind::Room, rule_id: room.to_owned(), actions: vec![], conditions: None, pattern: None };
        self.rules.change(&self.alice, |rules| rules.put(rule.clone(), Position::default())).await
    }

    fn stored(&self) -> Option<Value> {
        let stored = self.accounts.account_data(&self.alice, None, PUSH_RULES).expect("readable");
        stored.map(|json| serde_json::from_str(&json).expect("JSON"))
    }
}

#[tokio::test]
async fn whoever_changed_nothing_has_the_servers_rules_and_shares_their_compiled_form() {
    let house = House::new().await;
    let rules = house.rules.ruleset(&house.alice).expect("readable");
    assert_eq!(rules, Ruleset::server_default(&house.alice));
    assert_eq!(house.stored(), None);
    let content: Value = serde_json::from_str(&house.rules.content(&house.alice).expect("readable")).expect("JSON");
    assert_eq!(content["global"]["room"], json!([]));
    assert_eq!(content["global"]["override"][0]["rule_id"], ".m.rule.master");
    let of_alice = house.rules.matcher(&house.alice).expect("compiled");
    let of_bob = house.rules.matcher(user_id!("@bob:example.org")).expect("compiled");
    assert!(Arc::ptr_eq(&of_alice, &of_bob));
}

#[tokio::test]
async fn a_change_is_account_data_and_in_force_at_once() {
    let house = House::new().await;
    let before = house.rules.matcher(&house.alice).expect("compiled");
    house.mute("!a:example.org").await.expect("changed");
    let stored = house.stored().expect("stored");
    assert_eq!(stored["global"]["room"][0]["rule_id"], "!a:example.org");
    assert_eq!(stored["global"]["underride"][3]["rule_id"], ".m.rule.message");
    let after = house.rules.matcher(&house.alice).expect("compiled");
    assert!(!Arc::ptr_eq(&before, &after));
    let again = house.rules.matcher(&house.alice).expect("compiled");
    assert!(Arc::ptr_eq(&after, &again), "compiled once");
}

#[tokio::test]
async fn a_change_that_is_not_allowed_stores_nothing() {
    let house = House::new().await;
    let error = house.rules.change(&house.alice, |rules| rules.remove(Kind::Room, "!a:example.org")).await;
    assert!(matches!(error, Err(ChangeError::Edit(EditError::NotFound))), "{error:?}");
    assert_eq!(house.stored(), None);
    let nobody = user_id!("@nobody:example.org");
    let error = house.rules.change(nobody, |rules| rules.set_enabled(Kind::Underride, ".m.rule.message", false)).await;
    assert!(matches!(error, Err(ChangeError::UnknownUser)), "{error:?}");
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    let house = Arc::new(House::new().await);
    let changes: Vec<_> = (0..10)
        .map(|number| {
            let house = house.clone();
            tokio::spawn(async move { house.mute(&format!("!{number}:example.org")).await.expect("changed") })
        })
        .collect();
    for change in changes {
        change.await.expect("no panic");
    }
    assert_eq!(house.rules.ruleset(&house.alice).expect("readable").of(Kind::Room).len(), 10);
}

#[tokio::test]
async fn all_rules_together_are_bounded() {
    let house = House::new().await;
    let large = |number: usize| NewRule {
        kind: Kind::Override,
        rule_id: number.to_string(),
        actions: vec![json!({ "set_tweak": "sound", "value": "x".repeat(7_900) })],
        conditions: None,
        pattern: None,
    };
    let mut refused = None;
    for number in 0..40 {
        let change = house.rules.change(&house.alice, |rules| rules.put(large(number), Position::default())).await;
        if let Err(error) = change {
            refused = Some((number, error));
            break;
        }
    }
    let (number, error) = refused.expect("the bound is met");
    assert!(number > 20, "{number}");
    assert!(matches!(error, ChangeError::Edit(EditError::TooLarge(_))), "{error:?}");
}

#[tokio::test]
async fn rules_that_cannot_be_read_are_replaced_by_the_servers() {
    let house = House::new().await;
    let broken = r#"{"global":{"override":"none of your business"}}"#.to_owned();
    house.accounts.set_account_data(&house.alice, None, PUSH_RULES, broken).await.expect("stored");
    let rules = house.rules.ruleset(&house.alice).expect("readable");
    assert_eq!(rules, Ruleset::server_default(&house.alice));
    house.mute("!a:example.org").await.expect("and can be changed again");
    assert_eq!(house.stored().expect("stored")["global"]["room"][0]["enabled"], true);
}
