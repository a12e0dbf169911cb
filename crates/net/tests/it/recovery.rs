//! Servers that are away are left alone, by everybody, and no longer than they are away.

use std::time::Duration;

use http::StatusCode;
use koine_net::{Client, Error, Request, Stage};
use ruma_common::OwnedServerName;

use crate::world::{Closed, Reply, World};

async fn get(client: &Client, server: &OwnedServerName) -> Result<(), Error> {
    client.send(server, Request::get("/")).await?.bytes().await.map(drop)
}

fn name(port: u16) -> OwnedServerName {
    format!("127.0.0.1:{port}").try_into().expect("a server name")
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_ever_more_seldom() {
    let world = World::new();
    let nobody = Closed::new();
    let (client, name) = (world.client(), name(nobody.port));
    let mut last = Duration::ZERO;
    for _ in 0..6 {
        let failed = get(&client, &name).await;
        assert!(matches!(failed, Err(Error::Unreachable { .. })), "{failed:?}");
        let Err(Error::Backoff { until }) = get(&client, &name).await else { panic!("it is left alone") };
        let pause = until - world.clock.now();
        assert!(pause >= last, "{pause:?} after {last:?}");
        last = pause;
        world.clock.pass(pause);
    }
    assert_eq!(client.counters().servers_failing, 1);
    assert!(client.ready_at(&name).is_none());
}

#[tokio::test]
async fn requests_that_wait_for_one_connection_fail_with_it() {
    let world = World::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let name = name(silent.local_addr().expect("an address").port());
    let client = world.client_with(&koine_net::Config { connect_s: 1, ..world.config() });
    let began = std::time::Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, name) = (client.clone(), name.clone());
        requests.spawn(async move { get(&client, &name).await });
    }
    while let Some(failed) = requests.join_next().await {
        let failed = failed.expect("no panic");
        assert!(matches!(failed, Err(Error::Timeout { stage: Stage::Connecting, .. })), "{failed:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "not one after the other");
    assert_eq!(client.counters().connections_opened, 0);
}

#[tokio::test]
async fn what_is_urgent_is_tried_all_the_same() {
    let world = World::new();
    let nobody = Closed::new();
    let (client, name) = (world.client(), name(nobody.port));
    get(&client, &name).await.expect_err("nobody is there");
    let tried = client.send(&name, Request::get("/").urgent()).await;
    assert!(matches!(tried, Err(Error::Unreachable { .. })), "{tried:?}");
}

#[tokio::test]
async fn a_server_that_answers_again_begins_anew() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |seen| match seen.path.as_str() {
        "/" if seen.connection == 0 => Reply::HangUp,
        _ => Reply::json("{}"),
    });
    let (client, name) = (world.client(), name(server.port()));
    get(&client, &name).await.expect_err("it hangs up");
    assert!(client.ready_at(&name).is_some());
    client.send(&name, Request::get("/").urgent()).await.expect("an answer").bytes().await.expect("a body");
    assert!(client.ready_at(&name).is_none());
    get(&client, &name).await.expect("an answer");
}

#[tokio::test]
async fn whoever_waits_is_woken_when_the_server_calls() {
    let world = World::new();
    let nobody = Closed::new();
    let (client, name) = (world.client(), name(nobody.port));
    client.until_ready(&name).await;
    get(&client, &name).await.expect_err("nobody is there");
    let waiting = {
        let (client, name) = (client.clone(), name.clone());
        tokio::spawn(async move { client.until_ready(&name).await })
    };
    tokio::task::yield_now().await;
    assert!(client.heard_from(&name));
    waiting.await.expect("woken");
    assert!(!client.heard_from(&name), "it is news once");
    let failed = get(&client, &name).await;
    assert!(matches!(failed, Err(Error::Unreachable { .. })), "it is tried at once: {failed:?}");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_an_absence_is_none() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |seen| match seen.path.as_str() {
        "/forbidden" => Reply::Now(StatusCode::FORBIDDEN, vec![], r#"{"errcode":"M_FORBIDDEN"}"#.to_owned()),
        "/busy" => Reply::Now(StatusCode::TOO_MANY_REQUESTS, vec![("retry-after", "600".to_owned())], String::new()),
        _ => Reply::status(502),
    });
    let (client, name) = (world.client(), name(server.port()));
    let refused = client.send(&name, Request::get("/forbidden")).await.expect_err("it is forbidden");
    let Error::Status { status, body, .. } = refused else { panic!("{refused}") };
    assert_eq!((status, &body[..]), (StatusCode::FORBIDDEN, &br#"{"errcode":"M_FORBIDDEN"}"#[..]));
    assert!(client.ready_at(&name).is_none());

    client.send(&name, Request::get("/busy")).await.expect_err("it is busy");
    let pause = client.ready_at(&name).expect("it is left alone") - world.clock.now();
    assert_eq!(pause, Duration::from_secs(600));
    assert_eq!(server.connections(), 1, "the connection is fine");

    // Each absence counts, although an answer came.
    client.heard_from(&name);
    for least in [500, 1000, 2000] {
        client.send(&name, Request::get("/gone").urgent()).await.expect_err("a gateway without a server");
        let pause = client.ready_at(&name).expect("it is left alone") - world.clock.now();
        assert!(pause >= Duration::from_millis(least), "{pause:?}");
        world.clock.pass(pause);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_written_is_the_callers_mistake() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |_| Reply::json("{}"));
    let (client, name) = (world.client(), name(server.port()));
    for path in ["no-slash", "/a b", "/a\r\nHost: b"] {
        let failed = client.send(&name, Request::get(path)).await;
        assert!(matches!(failed, Err(Error::Request(_))), "{path:?}: {failed:?}");
        assert!(client.ready_at(&name).is_none());
    }
    assert!(server.seen().is_empty());
}
