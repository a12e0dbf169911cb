//! Servers that do what none should: each is given up in bounded time and memory.

use std::time::Duration;

use koine_net::{Client, Error, Limits, Request, Response, Stage};
use ruma_common::{OwnedServerName, ServerName};
use tokio::net::TcpListener;

use crate::world::{Reply, Seen, Server, World};

const MEBIBYTE: u64 = 1024 * 1024;

/// So short that a test is not long; what is waited for never comes, so it is never too short.
const SHORT: Duration = Duration::from_millis(50);

fn name_of(server: &Server) -> OwnedServerName {
    format!("127.0.0.1:{}", server.port()).try_into().expect("a server name")
}

async fn ask(client: &Client, server: &ServerName, limits: Limits) -> Result<Response, Error> {
    client.send(server, Request::get("/").limits(limits)).await
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |_| Reply::Endless(None));
    let limits = Limits { body_bytes_max: MEBIBYTE, ..Limits::default() };
    let response = ask(&world.client(), &name_of(&server), limits).await.expect("it begins well");
    let mut body = response.body;
    let mut bytes = 0;
    let error = loop {
        match body.chunk().await {
            Ok(chunk) => bytes += chunk.expect("there is no end").len() as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::TooLarge { limit: MEBIBYTE }), "{error}");
    assert!(bytes <= MEBIBYTE);
    assert!(body.chunk().await.is_err(), "an error is not the end of a body");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_not_begun() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |_| Reply::Endless(Some(MEBIBYTE + 1)));
    let limits = Limits { body_bytes_max: MEBIBYTE, ..Limits::default() };
    let mut response = ask(&world.client(), &name_of(&server), limits).await.expect("it begins well");
    assert!(matches!(response.body.chunk().await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn a_body_that_stops_is_given_up_and_the_server_left_alone() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |_| Reply::Stall);
    let (client, name) = (world.client(), name_of(&server));
    let limits = Limits { stall: SHORT, ..Limits::default() };
    let failed = ask(&client, &name, limits).await.expect("it begins well").bytes().await;
    assert!(matches!(failed, Err(Error::Timeout { stage: Stage::Body, .. })), "{failed:?}");
    assert!(client.ready_at(&name).is_some());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_and_left_alone() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], |_| Reply::Never);
    let (client, name) = (world.client(), name_of(&server));
    let failed = ask(&client, &name, Limits { headers: SHORT, ..Limits::default() }).await;
    assert!(matches!(failed, Err(Error::Timeout { stage: Stage::Headers, .. })), "{failed:?}");
    assert!(client.ready_at(&name).is_some());
    let total =
        client.send(&name, Request::get("/").urgent().limits(Limits { total: SHORT, ..Limits::default() })).await;
    assert!(matches!(total, Err(Error::Timeout { stage: Stage::Total, .. })), "{total:?}");
}

#[tokio::test]
async fn a_port_that_takes_connections_and_never_speaks_is_given_up() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let client = world.client_with(&koine_net::Config { connect_s: 1, ..world.config() });
    let name: OwnedServerName = format!("127.0.0.1:{port}").try_into().expect("a server name");
    let failed = ask(&client, &name, Limits::default()).await;
    assert!(matches!(failed, Err(Error::Timeout { stage: Stage::Connecting, .. })), "{failed:?}");
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let world = World::new();
    let long = |_: &Seen| {
        let header = |_| ("x-long", "x".repeat(8 * 1024));
        Reply::Now(http::StatusCode::OK, (0..20).map(header).collect(), String::new())
    };
    let many = |_: &Seen| {
        Reply::Now(http::StatusCode::OK, (0..300).map(|_| ("x-many", String::new())).collect(), String::new())
    };
    for server in [world.server(&["127.0.0.1"], long), world.server(&["127.0.0.1"], many)] {
        let failed = ask(&world.client(), &name_of(&server), Limits::default()).await;
        assert!(matches!(failed, Err(Error::Broken(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_believed_ends_it_before_a_word_is_said() {
    let world = World::new();
    world.dns.address("a.org", &["127.0.0.1"]);
    for (why, server) in [
        ("for another", world.server(&["b.org"], |_| Reply::json("{}"))),
        ("from nobody we know", world.impostor(&["a.org"])),
        ("out of date", world.expired(&["a.org"])),
    ] {
        let name: OwnedServerName = format!("a.org:{}", server.port()).try_into().expect("a server name");
        let failed = ask(&world.client(), &name, Limits::default()).await;
        assert!(matches!(failed, Err(Error::Tls { .. })), "{why}: {failed:?}");
        assert!(server.seen().is_empty(), "{why}");
    }
}

#[tokio::test]
async fn a_well_known_that_misbehaves_is_given_up_and_the_search_goes_on() {
    fn ring(seen: &Seen) -> Reply {
        Reply::redirect(if seen.path == "/a" { "/b" } else { "/a" })
    }
    fn for_ever(seen: &Seen) -> Reply {
        Reply::redirect(format!("{}x", seen.path))
    }
    fn plain(_: &Seen) -> Reply {
        Reply::redirect("http://a.org/")
    }
    fn endless(_: &Seen) -> Reply {
        Reply::Endless(None)
    }
    fn nonsense(_: &Seen) -> Reply {
        Reply::json(r#"{"m.server":"d.org/../../"}"#)
    }
    fn broken(_: &Seen) -> Reply {
        Reply::HangUp
    }
    type Case = (fn(&Seen) -> Reply, usize);
    let cases: [Case; 6] = [(ring, 3), (for_ever, 11), (plain, 1), (endless, 1), (nonsense, 1), (broken, 1)];
    for (number, (replies, asked)) in cases.into_iter().enumerate() {
        let world = World::new();
        let server = world.server(&["a.org"], |_| Reply::json("{}"));
        let web = world.web(&["a.org"], replies);
        world.dns.address("a.org", &["127.0.0.1"]);
        world.dns.service("_matrix-fed._tcp.a.org", "a.org", server.port());
        let (client, name) = (world.client(), <&ServerName>::try_from("a.org").expect("a name"));
        ask(&client, name, Limits::default()).await.unwrap_or_else(|error| panic!("case {number}: {error}"));
        assert_eq!(web.seen().len(), asked, "case {number}");
        // The error is remembered, for a while.
        client.route(name).await.expect("a route");
        assert_eq!(web.seen().len(), 0, "case {number}");
        world.clock.pass(koine_net::well_known::KEEP_ERROR_MIN);
        client.route(name).await.expect("a route");
        assert_eq!(web.seen().len(), asked, "case {number}");
    }
}
