//! Previews of pages that a server on loopback has.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use koine_media::{PreviewError, Previews};
use koine_net::{Client, Config};
use ruma_common::{MilliSecondsSinceUnixEpoch, server_name};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::House;

/// A red picture, 4 by 2 pixels, as PNG.
const PICTURE: &[u8] = b"\
    \x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x04\x00\x00\x00\x02\x08\x02\x00\
    \x00\x00\xf0\xca\xea\x34\x00\x00\x00\x10\x49\x44\x41\x54\x78\xda\x63\xf8\xcf\xc0\x00\x47\x0c\xc8\x1c\x00\x6f\
    \xaa\x07\xf9\x68\xdd\xaf\xa7\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// A web server that counts its requests.
async fn web() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (kind, more, body): (_, _, &[u8]) = match head.split(' ').nth(1) {
                Some("/page") => ("text/html", "", b"<title>Page</title><meta property=og:image content=/red.png>"),
                Some("/red.png") => ("image/png", "", PICTURE),
                Some("/moved") => ("text/html", "Location: /page\r\n", b""),
                Some("/inside") => ("text/html", "Location: http://10.0.0.1/\r\n", b""),
                _ => ("application/zip", "", b"PK"),
            };
            let status = if more.is_empty() { "200 OK" } else { "302 Found" };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(&[answer.as_bytes(), body].concat()).await;
        }
    });
    (address, asked)
}

fn now() -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(1_000_000_u32.into())
}

fn client() -> Client {
    Client::new(&Config::default().with_loopback()).expect("a client")
}

#[tokio::test]
async fn a_page_is_previewed_with_its_picture_and_remembered() {
    let (house, (address, asked)) = (House::new(), web().await);
    let media = house.open();
    let previews = Previews::new(media.clone(), client());
    let json = previews.preview(&format!("{address}/moved#part"), now()).await.expect("a preview");
    let preview: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(preview["og:title"], "Page");
    assert_eq!(preview["og:image:width"], 4);
    assert_eq!(preview["og:image:height"], 2);
    assert_eq!(preview["matrix:image:size"], PICTURE.len());
    let picture = preview["og:image"].as_str().expect("an address");
    let id = <&ruma_common::MxcUri>::from(picture).media_id().expect("an id");
    let item = media.find(server_name!("example.org"), id).expect("readable").expect("here");
    assert_eq!((item.content_type.as_deref(), item.owner), (Some("image/png"), None));
    let before = asked.load(Ordering::SeqCst);
    assert_eq!(previews.preview(&format!("{address}/moved"), now()).await.expect("a preview"), json);
    assert_eq!(asked.load(Ordering::SeqCst), before, "it is remembered");
}

#[tokio::test]
async fn what_is_no_page_has_an_empty_preview() {
    let (house, (address, _)) = (House::new(), web().await);
    let previews = Previews::new(house.open(), client());
    assert_eq!(previews.preview(&format!("{address}/file.zip"), now()).await.expect("a preview"), "{}");
}

#[tokio::test]
async fn pages_inside_the_house_are_not_fetched() {
    let (house, (address, _)) = (House::new(), web().await);
    let media = house.open();
    let guarded = Previews::new(media.clone(), Client::new(&Config::default()).expect("a client"));
    assert!(matches!(guarded.preview(&format!("{address}/page"), now()).await, Err(PreviewError::Unreachable)));
    let loopback = Previews::new(media, client());
    let led_inside = loopback.preview(&format!("{address}/inside"), now()).await;
    assert!(matches!(led_inside, Err(PreviewError::Unreachable)), "{led_inside:?}");
    assert!(matches!(loopback.preview("file:///etc/passwd", now()).await, Err(PreviewError::NotAnAddress)));
}
