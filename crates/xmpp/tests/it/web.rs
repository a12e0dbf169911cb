//! Streams over the web server.

use std::net::SocketAddr;

use axum::{Router, body::Body, extract::ConnectInfo};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use koine_stanza::{
    Element, ns,
    reader::{Limits, document},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt as _;

use crate::server::World;

fn router(world: &World) -> Router {
    world.xmpp.router(world.closing.subscribe())
}

fn parse(text: &str) -> Element {
    document(text.as_bytes(), Limits::bytes(1 << 20)).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A request and its answer.
async fn ask(router: &Router, method: &str, path: &str, body: String) -> (http::response::Parts, String) {
    let mut request = Request::builder().method(method).uri(path).body(Body::from(body)).expect("a request");
    let here: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    request.extensions_mut().insert(ConnectInfo(here));
    let (head, body) = router.clone().oneshot(request).await.expect("it answers").into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    (head, String::from_utf8(bytes.to_vec()).expect("text"))
}

async fn post(router: &Router, body: &str) -> Element {
    parse(&ask(router, "POST", "/http-bind", body.to_owned()).await.1)
}

#[tokio::test]
async fn scripts_find_where_streams_are() {
    let world = World::new().await;
    let (head, text) = ask(&router(&world), "GET", "/.well-known/host-meta", String::new()).await;
    assert_eq!(head.headers["access-control-allow-origin"], "*");
    let xrd = parse(text.trim_start_matches("<?xml version='1.0' encoding='UTF-8'?>"));
    let links: Vec<_> = xrd.children().filter_map(|link| link.attr("href")).collect();
    assert_eq!(links, ["https://example.org/http-bind", "wss://example.org/xmpp-websocket"]);
    let (_, text) = ask(&router(&world), "GET", "/.well-known/host-meta.json", String::new()).await;
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["links"][1]["rel"], "urn:xmpp:alt-connections:websocket");
}

#[tokio::test]
async fn a_session_stands_over_requests() {
    let world = World::new().await;
    world.person("alice").await;
    let router = router(&world);
    let body = |rid: u32, attributes: &str, content: &str| {
        format!("<body xmlns='{}' xmlns:xmpp='urn:xmpp:xbosh' rid='{rid}' {attributes}>{content}</body>", ns::HTTP_BIND)
    };
    let begin = "to='example.org' wait='1' hold='1' ver='1.6' xmpp:version='1.0' xml:lang='en'";
    let begun = post(&router, &body(10, begin, "")).await;
    let sid = format!("sid='{}'", begun.attr("sid").expect("a session"));
    assert!(begun.has_child("features", ns::STREAM), "{begun:?}");
    let auth =
        format!("<auth xmlns='{}' mechanism='PLAIN'>{}</auth>", ns::SASL, BASE64_STANDARD.encode("\0alice\0secret"));
    let proven = post(&router, &body(11, &sid, &auth)).await;
    assert!(proven.has_child("success", ns::SASL), "{proven:?}");
    // The same request again: the same answer.
    assert_eq!(post(&router, &body(11, &sid, &auth)).await, proven);
    let again = post(&router, &body(12, &format!("{sid} xmpp:restart='true'"), "")).await;
    assert!(again.child("features", ns::STREAM).is_some_and(|features| features.has_child("bind", ns::BIND)));
    let bind = format!("<iq xmlns='jabber:client' id='1' type='set'><bind xmlns='{}'/></iq>", ns::BIND);
    let bound = post(&router, &body(13, &sid, &bind)).await;
    assert_eq!(bound.child("iq", ns::CLIENT).and_then(|iq| iq.kind()), Some("result"), "{bound:?}");
    // Two requests in the wrong order are understood in the right one.
    let ping = |id| {
        format!("<iq xmlns='jabber:client' id='{id}' type='get' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    };
    let (late, early) = (body(15, &sid, &ping("b")), body(14, &sid, &ping("a")));
    let (second, first) = tokio::join!(post(&router, &late), async {
        tokio::task::yield_now().await;
        post(&router, &early).await
    });
    let of = |body: &Element| body.children().filter_map(Element::id).map(str::to_owned).collect::<Vec<_>>();
    let mut ids = [of(&first), of(&second)].concat();
    let mut rid = 16;
    while ids.len() < 2 {
        ids.extend(of(&post(&router, &body(rid, &sid, "")).await));
        rid += 1;
    }
    assert_eq!(ids, ["a", "b"]);
    // Nothing to say: the request waits, and is answered with nothing.
    assert_eq!(post(&router, &body(rid, &sid, "")).await.children().count(), 0);
    let ended = post(&router, &body(rid + 1, &format!("{sid} type='terminate'"), "")).await;
    assert_eq!(ended.kind(), Some("terminate"), "{ended:?}");
    let gone = post(&router, &body(rid + 2, &sid, "")).await;
    assert_eq!((gone.kind(), gone.attr("condition")), (Some("terminate"), Some("item-not-found")));
}

#[tokio::test]
async fn a_session_stands_over_web_socket() {
    let world = World::new().await;
    world.person("alice").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let service = router(&world).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let socket = TcpStream::connect(address).await.expect("it listens");
    let request = Request::builder()
        .uri(format!("ws://{address}/xmpp-websocket"))
        .header("host", address.to_string())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "xmpp")
        .body(())
        .expect("a request");
    let (mut socket, response) = tokio_tungstenite::client_async(request, socket).await.expect("an upgrade");
    assert_eq!(response.headers()["sec-websocket-protocol"], "xmpp");
    let mut say = async |text: &str, answers: usize| {
        socket.send(Message::text(text)).await.expect("the server reads");
        let mut elements = Vec::new();
        while elements.len() < answers {
            if let Some(Ok(Message::Text(text))) = socket.next().await {
                elements.push(parse(&text));
            }
        }
        elements
    };
    let open = format!("<open xmlns='{}' to='example.org' version='1.0'/>", ns::FRAMING);
    let begun = say(&open, 2).await;
    assert!(begun[0].is("open", ns::FRAMING) && begun[1].is("features", ns::STREAM), "{begun:?}");
    let message = BASE64_STANDARD.encode("\0alice\0secret");
    let auth = format!("<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>", ns::SASL);
    assert!(say(&auth, 1).await[0].is("success", ns::SASL));
    assert!(say(&open, 2).await[1].has_child("bind", ns::BIND));
    let bind = format!("<iq xmlns='jabber:client' id='1' type='set'><bind xmlns='{}'/></iq>", ns::BIND);
    assert_eq!(say(&bind, 1).await[0].kind(), Some("result"));
    let close = say(&format!("<close xmlns='{}'/>", ns::FRAMING), 1).await;
    assert!(close[0].is("close", ns::FRAMING));
}
