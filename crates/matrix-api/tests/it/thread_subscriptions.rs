//! Following threads. [MSC4306] [MSC4308]

use serde_json::{Value, json};

use crate::{
    Person, World,
    rooms::{create, text},
};

struct Thread {
    room: String,
    root: String,
}

impl Thread {
    async fn new(world: &World, person: &Person) -> Self {
        let room = create(world, person, json!({})).await;
        let root = say(world, person, &room, "root", json!({ "body": "root" })).await;
        Self { room, root }
    }

    fn path(&self) -> String {
        format!("/unstable/io.element.msc4306/rooms/{}/thread/{}/subscription", self.room, self.root)
    }

    async fn reply(&self, world: &World, person: &Person, txn: &str) -> String {
        let relation = json!({ "rel_type": "m.thread", "event_id": self.root });
        say(world, person, &self.room, txn, json!({ "body": txn, "m.relates_to": relation })).await
    }
}

async fn say(world: &World, person: &Person, room: &str, txn: &str, content: Value) -> String {
    let answer = person.put(world, &format!("/v3/rooms/{room}/send/m.room.message/{txn}"), content).await.ok();
    text(&answer, "event_id")
}

#[tokio::test]
async fn a_thread_that_was_left_is_not_followed_again_for_what_came_before() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let thread = Thread::new(&world, &alice).await;
    let path = thread.path();
    let first = thread.reply(&world, &alice, "first").await;
    assert_eq!(alice.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
    alice.put(&world, &path, json!({ "automatic": first })).await.ok();
    assert_eq!(alice.get(&world, &path).await.ok(), json!({ "automatic": true }));
    alice.put(&world, &path, json!({})).await.ok();
    alice.put(&world, &path, json!({ "automatic": first })).await.ok();
    assert_eq!(alice.get(&world, &path).await.ok(), json!({ "automatic": false }));

    let second = thread.reply(&world, &alice, "second").await;
    alice.call(&world, http::Method::DELETE, &path, Value::Null).await.ok();
    alice.call(&world, http::Method::DELETE, &path, Value::Null).await.ok();
    let third = thread.reply(&world, &alice, "third").await;
    for before in [first, second] {
        let refused = alice.put(&world, &path, json!({ "automatic": before })).await;
        assert_eq!(refused.error(), (409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"));
    }
    let refused = alice.put(&world, &path, json!({ "automatic": thread.root })).await;
    assert_eq!(refused.error(), (400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"));
    alice.put(&world, &path, json!({ "automatic": third })).await.ok();
    assert_eq!(alice.get(&world, &path).await.ok(), json!({ "automatic": true }));
    // Who may not see the thread learns nothing of it.
    assert_eq!(bob.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(bob.put(&world, &path, json!({})).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn sliding_sync_and_a_list_tell_what_changed() {
    let world = World::new();
    let alice = world.person("alice").await;
    let threads = [Thread::new(&world, &alice).await, Thread::new(&world, &alice).await];
    let sync = "/unstable/org.matrix.simplified_msc3575/sync";
    let name = "io.element.msc4308.thread_subscriptions";
    let body = json!({ "extensions": { name: { "enabled": true, "limit": 1 } } });
    let start = alice.post(&world, sync, body.clone()).await.ok();
    assert!(start["extensions"].get(name).is_none(), "{start}");
    for thread in &threads {
        alice.put(&world, &thread.path(), json!({})).await.ok();
    }
    let pos = start["pos"].as_str().expect("a position");
    let news = alice.post(&world, &format!("{sync}?pos={pos}"), body.clone()).await.ok();
    let told = &news["extensions"][name];
    let newest = &told["subscribed"][&threads[1].room][&threads[1].root];
    assert_eq!(newest["automatic"], false);
    assert!(newest["bump_stamp"].is_u64(), "{news}");
    assert!(told["subscribed"].get(&threads[0].room).is_none(), "at most one was wanted");

    let from = told["prev_batch"].as_str().expect("there is more");
    let list = "/unstable/io.element.msc4308/thread_subscriptions";
    let older = alice.get(&world, &format!("{list}?dir=b&from={from}")).await.ok();
    assert!(older["subscribed"][&threads[0].room].is_object(), "{older}");
    assert!(older.get("end").is_none());

    alice.call(&world, http::Method::DELETE, &threads[0].path(), Value::Null).await.ok();
    let pos = news["pos"].as_str().expect("a position");
    let news = alice.post(&world, &format!("{sync}?pos={pos}"), body.clone()).await.ok();
    assert!(news["extensions"][name]["unsubscribed"][&threads[0].room][&threads[0].root].is_object(), "{news}");
    let afresh = alice.post(&world, sync, body).await.ok();
    assert!(afresh["extensions"][name].get("unsubscribed").is_none(), "{afresh}");
    assert_eq!(alice.get(&world, &format!("{list}?dir=f")).await.error(), (400, "M_INVALID_PARAM"));
}
