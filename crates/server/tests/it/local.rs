//! `koine local`: what it says, what it serves, how it ends, and what it does not put up with.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::json;

use crate::running::{Running, free_ports, run, text};

#[test]
fn first_start_makes_two_people_and_a_room_to_talk_in() {
    let server = Running::start(&[]);
    for shown in ["@alice:localhost", "wonderland", "@bob:localhost", "#welcome:localhost", "http://localhost:"] {
        assert!(server.greeting.contains(shown), "{shown} is missing in\n{}", server.greeting);
    }
    let (alice, bob) = (server.token("alice", "wonderland"), server.token("bob", "builder"));
    let (status, room) = server.ask("GET", "/_matrix/client/v3/directory/room/%23welcome:localhost", None, None);
    assert_eq!(status, 200, "{room}");
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", room["room_id"].as_str().expect("an id"));
    let (status, sent) =
        server.ask("PUT", &path, Some(&alice), Some(json!({ "msgtype": "m.text", "body": "Hello Bob" })));
    assert_eq!(status, 200, "{sent}");
    let (_, news) = server.ask("GET", "/_matrix/client/v3/sync", Some(&bob), None);
    assert!(news.to_string().contains("Hello Bob"), "{news}");
}

#[test]
fn a_second_start_finds_what_the_first_left() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Running::start_in(folder.path(), free_ports(), &[]);
    server.token("alice", "wonderland");
    server.interrupt();
    assert!(server.ended());
    let server = Running::start_in(folder.path(), free_ports(), &[]);
    assert!(server.greeting.contains("@alice:localhost"), "{}", server.greeting);
    server.token("alice", "wonderland");
}

#[test]
fn the_end_answers_those_who_wait_and_is_clean() {
    let server = Running::start(&[]);
    let token = server.token("alice", "wonderland");
    let (_, first) = server.ask("GET", "/_matrix/client/v3/sync", Some(&token), None);
    let since = first["next_batch"].as_str().expect("a token").to_owned();
    let path = format!("/_matrix/client/v3/sync?timeout=30000&since={since}");
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| tell.send(server.ask("GET", &path, Some(&token), None)));
        // Once it is counted as open, the long poll waits.
        assert!(told.recv_timeout(Duration::from_millis(500)).is_err(), "nothing happened, so nothing is answered");
        server.interrupt();
        let (status, answer) = told.recv_timeout(Duration::from_secs(10)).expect("an answer at the end");
        assert_eq!(status, 200, "{answer}");
        assert!(answer["next_batch"].is_string());
    });
    assert!(server.ended());
}

#[test]
fn silent_connections_keep_nobody_out() {
    let server = Running::start(&["--no-demo"]);
    let silent: Vec<_> =
        (0..400).map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("there is place")).collect();
    let (status, _) = server.ask("GET", "/_matrix/client/versions", None, None);
    assert_eq!(status, 200);
    drop(silent);
}

#[test]
fn mail_servers_are_greeted_before_they_say_anything() {
    let server = Running::start(&["--no-demo"]);
    for (at, greeting) in [(8, "220 localhost ESMTP"), (9, "220 localhost LMTP")] {
        let mut silent = TcpStream::connect(("127.0.0.1", server.port + at)).expect("there is place");
        silent.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        let mut said = vec![0; greeting.len()];
        silent.read_exact(&mut said).expect("a greeting");
        assert_eq!(text(&said), greeting);
    }
}

#[test]
fn heads_of_requests_are_bounded() {
    let server = Running::start(&["--no-demo"]);
    let answer = |head: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("there is place");
        // It may hang up in the midst of what it does not want to hear.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        text(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let end = "Host: localhost\r\nConnection: close\r\n\r\n";
    let path = "/_matrix/client/versions";
    assert_eq!(answer(&format!("GET {path} HTTP/1.1\r\n{end}")), "200");
    assert_eq!(answer(&format!("GET {path} HTTP/1.1\r\n{}{end}", "X-More: 1\r\n".repeat(200))), "431");
    assert_eq!(answer(&format!("GET {path}?{} HTTP/1.1\r\n{end}", "a".repeat(40_000))), "414");
    assert_eq!(answer("NONSENSE\r\n\r\n"), "400");
}

#[test]
fn numbers_and_health_are_served_beside() {
    let server = Running::start(&["--no-demo"]);
    server.ask("GET", "/_matrix/client/versions", None, None);
    let (status, metrics) = server.ask_at(server.port + 2, "GET", "/metrics", None, None);
    assert_eq!(status, 200);
    for name in ["koine_requests_total", "koine_store_commits_total", "koine_process_resident_memory_bytes"] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
    assert_eq!(server.ask_at(server.port + 2, "GET", "/health", None, None).0, 200);
    assert_eq!(server.ask("GET", "/metrics", None, None).0, 404, "numbers are not for clients");
}

#[test]
fn accounts_by_shared_secret_are_made_only_where_one_is_set() {
    const PATH: &str = "/_synapse/admin/v1/register";
    let without = Running::start(&["--no-demo"]);
    assert_eq!(without.ask("GET", PATH, None, None).0, 404);
    let with = Running::start(&["--no-demo", "--registration-shared-secret", "sesame"]);
    let (status, answer) = with.ask("GET", PATH, None, None);
    assert_eq!(status, 200);
    let body = json!({ "nonce": answer["nonce"], "username": "eve", "password": "guess", "mac": "00" });
    assert_eq!(with.ask("POST", PATH, None, Some(body)).0, 403);
}

#[test]
fn a_folder_in_use_or_of_another_name_is_refused_with_a_sentence() {
    let server = Running::start(&["--no-demo"]);
    let folder = server.data_dir.to_str().expect("a temporary folder has a plain name");
    let port = free_ports().to_string();
    let refused = |name: &str, word: &str| {
        let output = run(&["local", "--data-dir", folder, "--port-base", &port, "--server-name", name]);
        assert!(!output.status.success());
        let error = text(&output.stderr);
        assert!(error.contains(word) && error.trim().lines().count() == 1, "{error}");
    };
    refused("localhost", "use");
    refused("other.example", "belongs to localhost");
    assert_eq!(server.ask("GET", "/_matrix/client/versions", None, None).0, 200);
}

#[test]
fn a_port_in_use_is_refused_with_a_sentence() {
    let server = Running::start(&["--no-demo"]);
    let output = run(&["local", "--ephemeral", "--port-base", &server.port.to_string()]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("is taken by another program"), "{}", text(&output.stderr));
}
