//! Where requests go and in whose name [SS-API §resolving-server-names], and where they do not.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, StatusCode};
use koine_net::{Client, Config, Error, Limits, Parts, Request, Response};
use ruma_common::ServerName;
use url::Url;

use crate::world::{Closed, Reply, Seen, Server, World};

fn ok(_: &Seen) -> Reply {
    Reply::json("{}")
}

async fn get(client: &Client, server: &str) -> Result<Response, Error> {
    client.send(<&ServerName>::try_from(server).expect("a server name"), Request::get("/hello?a=b")).await
}

/// One request was seen, in this name, with a certificate asked for this host.
#[track_caller]
fn assert_seen(server: &Server, host: &str, sni: Option<&str>) {
    let seen = server.seen();
    let [seen] = &seen[..] else { panic!("one request, not {seen:?}") };
    assert_eq!((seen.host.as_str(), seen.path.as_str(), seen.sni.as_deref()), (host, "/hello?a=b", sni));
}

/// Says for `a.org` what it should, and refuses everybody else.
fn delegation(to: String) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| match seen.path.as_str() {
        "/.well-known/matrix/server" => Reply::json(format!(r#"{{"m.server":"{to}"}}"#)),
        _ => Reply::status(404),
    }
}

#[tokio::test]
async fn an_address_is_used_as_it_is_and_needs_a_certificate_for_it() {
    let world = World::new();
    let server = world.server(&["127.0.0.1"], ok);
    let name = format!("127.0.0.1:{}", server.port());
    get(&world.client(), &name).await.expect("an answer");
    assert_seen(&server, &name, None);
    assert!(world.dns.asked().is_empty());

    let other = world.server(&["a.org"], ok);
    let refused = get(&world.client(), &format!("127.0.0.1:{}", other.port())).await;
    assert!(matches!(refused, Err(Error::Tls { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_name_with_a_port_is_looked_up_and_nothing_else() {
    let world = World::new();
    let server = world.server(&["a.org"], ok);
    world.dns.address("a.org", &["127.0.0.1"]);
    let name = format!("a.org:{}", server.port());
    get(&world.client(), &name).await.expect("an answer");
    assert_seen(&server, &name, Some("a.org"));
    assert_eq!(world.dns.asked(), ["a.org"]);
}

#[tokio::test]
async fn a_well_known_delegates_and_is_remembered() {
    let world = World::new();
    let server = world.server(&["d.org"], |seen| if seen.nth == 0 { Reply::json("{}") } else { Reply::HangUp });
    let delegated = format!("d.org:{}", server.port());
    let web = world.web(&["a.org"], delegation(delegated.clone()));
    world.dns.address("a.org", &["127.0.0.1"]);
    world.dns.address("d.org", &["127.0.0.1"]);
    let client = world.client();
    get(&client, "a.org").await.expect("an answer").bytes().await.expect("a body");
    assert_seen(&server, &delegated, Some("d.org"));
    let seen = web.seen();
    assert_eq!((seen.len(), seen[0].host.as_str()), (1, format!("a.org:{}", world.web_port).as_str()));
    // The connection does not last, what is known does.
    get(&client, "a.org").await.expect("an answer");
    assert_eq!((server.connections(), web.seen().len()), (2, 0));
    // Not for ever.
    world.clock.pass(koine_net::well_known::KEEP_DEFAULT);
    client.route(<&ServerName>::try_from("a.org").expect("a name")).await.expect("a route");
    assert_eq!(web.seen().len(), 1);
}

#[tokio::test]
async fn srv_records_say_where_but_not_in_whose_name() {
    for (delegated, service, host) in [
        (None, "_matrix-fed._tcp.a.org", "a.org"),
        (None, "_matrix._tcp.a.org", "a.org"),
        (Some("d.org"), "_matrix-fed._tcp.d.org", "d.org"),
        (Some("d.org"), "_matrix._tcp.d.org", "d.org"),
    ] {
        let world = World::new();
        let server = world.server(&[host], ok);
        let web = match delegated {
            Some(to) => world.web(&["a.org"], delegation(to.to_owned())),
            None => world.web(&["a.org"], |_| Reply::status(404)),
        };
        world.dns.address("a.org", &["127.0.0.1"]);
        world.dns.address("m.org", &["127.0.0.1"]);
        world.dns.service(service, "m.org", server.port());
        get(&world.client(), "a.org").await.unwrap_or_else(|error| panic!("{service}: {error}"));
        assert_seen(&server, host, Some(host));
        assert_eq!(web.seen().len(), 1);
    }
}

#[tokio::test]
async fn the_next_target_is_tried_when_one_is_gone() {
    let world = World::new();
    let server = world.server(&["a.org"], ok);
    world.dns.address("gone.org", &["127.0.0.1"]);
    world.dns.address("m.org", &["127.0.0.1"]);
    world.dns.service("_matrix-fed._tcp.a.org", "nowhere.org", 1);
    let nobody = Closed::new();
    world.dns.service("_matrix-fed._tcp.a.org", "gone.org", nobody.port);
    world.dns.service("_matrix-fed._tcp.a.org", "m.org", server.port());
    get(&world.client(), "a.org").await.expect("an answer");
    assert_seen(&server, "a.org", Some("a.org"));
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_not_found() {
    let world = World::new();
    for name in ["a.org", "a.org:8448"] {
        let refused = get(&world.client(), name).await;
        assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn redirects_of_a_well_known_are_followed_and_those_of_a_server_are_not() {
    let world = World::new();
    let server = world.server(&["d.org"], |_| Reply::redirect("https://elsewhere.org/"));
    let (delegated, port) = (format!("d.org:{}", server.port()), world.web_port);
    let web = world.web(&["a.org", "www.a.org"], move |seen| match seen.path.as_str() {
        "/.well-known/matrix/server" => Reply::redirect(format!("https://www.a.org:{port}/there")),
        "/there" => Reply::redirect("/here"),
        _ => Reply::json(format!(r#"{{"m.server":"{delegated}"}}"#)),
    });
    for name in ["a.org", "www.a.org", "d.org"] {
        world.dns.address(name, &["127.0.0.1"]);
    }
    let refused = get(&world.client(), "a.org").await.expect_err("a redirect is no answer");
    assert_eq!(refused.status(), Some(StatusCode::FOUND));
    assert_eq!(web.seen().len(), 3);
    assert!(!world.dns.asked().contains(&"elsewhere.org".to_owned()));
}

#[tokio::test]
async fn what_a_place_in_the_configuration_says_goes_before_dns() {
    let world = World::new();
    let server = world.server(&["a.org"], ok);
    let place = |key: &str, place: String| Config {
        allow_ranges: Vec::new(),
        static_destinations: [(key.to_owned(), place)].into(),
        ..world.config()
    };
    let port = server.port();
    let with_port = format!("a.org:{port}");
    for (config, name) in [
        (place("a.org", format!("127.0.0.1:{port}")), "a.org"),
        (place("a.org", "127.0.0.1".to_owned()), &*with_port),
        (place(&with_port, "127.0.0.1".to_owned()), &*with_port),
    ] {
        // The guard takes the operator's word.
        get(&world.client_with(&config), name).await.expect("an answer");
        assert_seen(&server, name, Some("a.org"));
    }
    assert!(world.dns.asked().is_empty());
}

#[tokio::test]
async fn addresses_that_are_not_of_the_internet_are_refused() {
    let world = World::new();
    let server = world.server(&["a.org", "127.0.0.1"], ok);
    let port = server.port();
    let web = world.web(&["d.org"], delegation(format!("127.0.0.1:{port}")));
    world.dns.address("a.org", &["127.0.0.1"]);
    world.dns.address("mapped.org", &["::ffff:127.0.0.1"]);
    world.dns.address("s.org", &["127.0.0.1"]);
    world.dns.address("d.org", &["127.0.0.1"]);
    world.dns.service("_matrix-fed._tcp.s.org", "a.org", port);
    let config = Config { allow_ranges: Vec::new(), ..world.config() };
    let names =
        ["a.org", "mapped.org", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"].map(|host| format!("{host}:{port}"));
    for name in names.into_iter().chain(["s.org".to_owned(), "d.org".to_owned()]) {
        let refused = get(&world.client_with(&config), &name).await;
        assert!(matches!(refused, Err(Error::Guarded { .. })), "{name}: {refused:?}");
    }
    assert_eq!((server.connections(), web.connections()), (0, 0));
    // A name with addresses of both kinds is reached by those that are allowed.
    world.dns.address("a.org", &["10.255.255.1", "127.0.0.1"]);
    get(&world.client(), &format!("a.org:{port}")).await.expect("an answer");
}

#[tokio::test]
async fn a_request_is_signed_for_whom_it_is_for_and_not_for_whom_it_goes_to() {
    let world = World::new();
    let server = world.server(&["d.org"], ok);
    let _web = world.web(&["a.org"], delegation(format!("d.org:{}", server.port())));
    world.dns.address("a.org", &["127.0.0.1"]);
    world.dns.address("d.org", &["127.0.0.1"]);
    let request = Request::put("/send/1", "{}").signed(|to_sign| {
        let text = format!(
            "{} {} {} {}",
            to_sign.destination,
            to_sign.method,
            to_sign.path_and_query,
            to_sign.body.map_or(0, bytes::Bytes::len)
        );
        HeaderValue::from_str(&text).expect("a header value")
    });
    let client = world.client();
    client.send(<&ServerName>::try_from("a.org").expect("a name"), request).await.expect("an answer");
    let seen = server.seen();
    assert_eq!(seen[0].headers["authorization"], "a.org PUT /send/1 2");
    assert_eq!(seen[0].headers["content-type"], "application/json");
    assert!(seen[0].headers["user-agent"].to_str().expect("text").starts_with("Koine/"));
}

#[tokio::test]
async fn other_addresses_can_be_fetched_from_with_the_guard_looking() {
    let world = World::new();
    let server = world.server(&["cdn.org"], |seen| match seen.path.as_str() {
        "/file?v=1" => Reply::Now(StatusCode::OK, vec![("content-type", "image/png".to_owned())], "bytes".to_owned()),
        _ => Reply::redirect("/file?v=1"),
    });
    world.dns.address("cdn.org", &["127.0.0.1"]);
    let url = |path: &str| {
        let url = format!("https://cdn.org:{}{path}", server.port());
        Url::parse(&url).expect("a URL")
    };
    let (client, limits) = (world.client(), Limits::default());
    let response = client.fetch(&url("/file?v=1#part"), HeaderMap::new(), limits).await.expect("an answer");
    assert_eq!(response.headers["content-type"], "image/png");
    assert_eq!(response.bytes().await.expect("a body"), "bytes");
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.host.as_str(), seen.sni.as_deref()),
        (format!("cdn.org:{}", server.port()).as_str(), Some("cdn.org"))
    );

    let redirect = client.fetch(&url("/moved"), HeaderMap::new(), limits).await.expect_err("it is not followed");
    assert_eq!(redirect.status(), Some(StatusCode::FOUND));
    let plain = Url::parse("http://cdn.org/").expect("a URL");
    let refused = client.fetch(&plain, HeaderMap::new(), limits).await;
    assert!(matches!(refused, Err(Error::Request(_))), "{refused:?}");
    let strict = world.client_with(&Config { allow_ranges: Vec::new(), ..world.config() });
    let refused = strict.fetch(&url("/file?v=1"), HeaderMap::new(), limits).await;
    assert!(matches!(refused, Err(Error::Guarded { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_place_in_the_configuration_that_is_none_is_named() {
    let world = World::new();
    for (name, place) in [("a.org", "https://b.org/"), ("a.org/", "b.org"), ("a.org", "")] {
        let config = Config { static_destinations: [(name.to_owned(), place.to_owned())].into(), ..world.config() };
        let parts = Parts { dns: world.dns.clone(), clock: Arc::new(Instant::now), well_known_port: 443 };
        let error = Client::with_parts(&config, parts).expect_err("that is no place");
        assert!(error.to_string().contains("static_destinations"), "{error}");
    }
}
