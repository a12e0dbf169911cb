//! Connections are used again, shared, bounded and not trusted to last.

use std::sync::Arc;

use http::Method;
use koine_net::{Client, Config, Error, Request};
use ruma_common::OwnedServerName;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::world::{Reply, Seen, Server, World, server_http2};

fn ok(_: &Seen) -> Reply {
    Reply::json("{}")
}

fn name_of(server: &Server) -> OwnedServerName {
    format!("127.0.0.1:{}", server.port()).try_into().expect("a server name")
}

async fn get(client: &Client, server: &OwnedServerName) -> Result<(), Error> {
    client.send(server, Request::get("/")).await?.bytes().await.map(drop)
}

#[tokio::test]
async fn requests_in_turn_share_a_connection() {
    let world = World::new();
    for two in [false, true] {
        let server = match two {
            true => server_http2(&world, &["127.0.0.1"], ok),
            false => world.server(&["127.0.0.1"], ok),
        };
        let (client, name) = (world.client(), name_of(&server));
        for _ in 0..5 {
            get(&client, &name).await.expect("an answer");
        }
        assert_eq!(server.connections(), 1, "HTTP/2: {two}");
        assert_eq!(server.seen().len(), 5);
        let counters = client.counters();
        let counted = (counters.requests, counters.connections_opened, counters.connections_reused);
        assert_eq!(counted, (5, 1, 4), "HTTP/2: {two}");
    }
}

#[tokio::test]
async fn requests_at_once_share_a_connection_over_http2() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let waiting = gate.clone();
    let server = server_http2(&world, &["127.0.0.1"], move |_| Reply::When(waiting.clone()));
    let (client, name) = (world.client(), name_of(&server));
    let mut requests = JoinSet::new();
    for _ in 0..10 {
        let (client, name) = (client.clone(), name.clone());
        requests.spawn(async move { get(&client, &name).await });
    }
    server.until_active(10).await;
    gate.add_permits(10);
    while let Some(done) = requests.join_next().await {
        done.expect("no panic").expect("an answer");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn no_more_requests_than_allowed_are_made_at_once() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let waiting = gate.clone();
    let server = world.server(&["127.0.0.1"], move |_| Reply::When(waiting.clone()));
    let client = world.client_with(&Config { requests_per_server_max: 2, ..world.config() });
    let name = name_of(&server);
    let mut requests = JoinSet::new();
    for _ in 0..5 {
        let (client, name) = (client.clone(), name.clone());
        requests.spawn(async move { get(&client, &name).await });
    }
    server.until_active(2).await;
    gate.add_permits(5);
    while let Some(done) = requests.join_next().await {
        done.expect("no panic").expect("an answer");
    }
    assert_eq!(server.active_most(), 2);
    assert!(server.connections() <= 2, "{} connections", server.connections());
}

#[tokio::test]
async fn the_queue_for_a_server_has_an_end() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |_| Reply::Never);
    let client = world.client_with(&Config { requests_per_server_max: 1, ..world.config() });
    let name = name_of(&server);
    let mut requests = JoinSet::new();
    // One is being answered, 32 wait, and there is one more.
    for _ in 0..34 {
        let (client, name) = (client.clone(), name.clone());
        requests.spawn(async move { get(&client, &name).await });
    }
    let first = requests.join_next().await.expect("one ends").expect("no panic");
    assert!(matches!(first, Err(Error::Busy { waiting: 32 })), "{first:?}");
    assert!(client.ready_at(&name).is_none(), "that is not the server's fault");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_no_failure() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |seen| if seen.nth == 0 { ok(seen) } else { Reply::HangUp });
    let (client, name) = (world.client(), name_of(&server));
    for _ in 0..3 {
        get(&client, &name).await.expect("an answer");
    }
    assert_eq!((server.connections(), server.seen().len()), (3, 5), "two were asked twice");
    assert_eq!(client.counters().failures, 0);
    // But what must not happen twice is not sent twice.
    let posted = client.send(&name, Request::new(Method::POST, "/")).await;
    assert!(matches!(posted, Err(Error::Broken(_))), "{posted:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_not_asked_for_ever() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |_| Reply::HangUp);
    let failed = get(&world.client(), &name_of(&server)).await;
    assert!(matches!(failed, Err(Error::Broken(_))), "{failed:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn connections_of_all_servers_together_are_bounded() {
    let world = World::new();
    let (one, two) = (world.server(&["127.0.0.1"], ok), world.server(&["127.0.0.1"], ok));
    let client = world.client_with(&Config { connections_max: 1, ..world.config() });
    for _ in 0..3 {
        get(&client, &name_of(&one)).await.expect("an answer");
        get(&client, &name_of(&two)).await.expect("the idle one gives way");
    }
    assert_eq!((one.connections(), two.connections()), (3, 3));
}
