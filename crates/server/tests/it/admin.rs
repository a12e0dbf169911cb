//! The operator's commands, carried out by a running server.

use std::{io::Write as _, process::Stdio};

use serde_json::json;

use crate::running::{Running, free_ports, koine, run, text};

#[test]
fn an_account_is_made_listed_changed_and_closed() {
    let server = Running::start(&["--no-demo"]);
    let made = server.admin_json(&["user", "create", "carol", "--generate"]);
    assert_eq!(made["user_id"], "@carol:localhost");
    let password = made["generated_password"].as_str().expect("a password");
    let token = server.token("carol", password);

    let shown = server.admin_json(&["user", "show", "carol"]);
    assert_eq!(shown["devices"].as_array().map(Vec::len), Some(1), "{shown}");

    let set = server.admin_json(&["user", "password", "@carol:localhost", "--generate", "--log-out"]);
    assert_eq!(server.log_in("carol", password).0, 403, "the old password is gone");
    assert_eq!(server.ask("GET", "/_matrix/client/v3/account/whoami", Some(&token), None).0, 401);
    server.token("carol", set["generated_password"].as_str().expect("a password"));

    server.admin_json(&["user", "deactivate", "carol"]);
    assert_eq!(server.log_in("carol", set["generated_password"].as_str().expect("a password")).0, 403);
    assert_eq!(server.admin_json(&["user", "list"]), json!([]));
    assert_eq!(server.admin_json(&["user", "list", "--all"])[0]["is_deactivated"], true);
}

#[test]
fn a_password_is_read_from_standard_input() {
    let server = Running::start(&["--no-demo"]);
    let mut command = koine(&["user", "create", "dave", "--data-dir"]);
    let mut child = command.arg(&server.data_dir).stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("it was asked for").write_all(b"horse battery\n").expect("it reads");
    assert!(child.wait().is_ok_and(|status| status.success()));
    server.token("dave", "horse battery");
}

#[test]
fn rooms_are_listed_and_shown() {
    let server = Running::start(&[]);
    let rooms = server.admin_json(&["room", "list"]);
    assert_eq!(rooms[0]["name"], "Welcome");
    let shown = server.admin_json(&["room", "show", "#welcome:localhost"]);
    assert_eq!(shown["room_id"], rooms[0]["room_id"]);
    assert_eq!(shown["joined_members"].as_array().map(Vec::len), Some(2));
    let readable = text(&server.admin(&["room", "show", "#welcome:localhost"]).stdout);
    assert!(readable.contains("name       Welcome"), "{readable}");
}

#[test]
fn registration_tokens_are_made_listed_and_deleted() {
    let server = Running::start(&["--no-demo"]);
    assert_eq!(server.admin_json(&["token", "create", "sesame", "--uses", "3"])["token"], "sesame");
    let made_up = server.admin_json(&["token", "create"]);
    assert_eq!(server.admin_json(&["token", "list"]).as_array().map(Vec::len), Some(2));
    server.admin_json(&["token", "delete", made_up["token"].as_str().expect("a token")]);
    assert_eq!(server.admin_json(&["token", "list"])[0]["uses_allowed"], 3);
    assert!(!server.admin(&["token", "delete", "sesam"]).status.success());
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let server = Running::start(&["--no-demo"]);
    let refused = |args: &[&str], word: &str| {
        let output = server.admin(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    };
    refused(&["user", "show", "nobody"], "there is no account @nobody:localhost");
    refused(&["user", "create", "with spaces", "--generate"], "koine:");
    refused(&["room", "show", "!nowhere:localhost"], "koine:");
    let nobody = run(&["user", "list", "--data-dir", "no-such-folder"]);
    assert!(text(&nobody.stderr).contains("no server runs on the data folder no-such-folder"));
}

#[test]
fn a_backup_restores_everything() {
    let server = Running::start(&[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("koine.tar");
    let name = file.to_str().expect("a temporary folder has a plain name");
    server.admin_json(&["backup", name]);
    let again = server.admin(&["backup", name]);
    assert!(text(&again.stderr).contains("is there already"), "{}", text(&again.stderr));
    let rooms = server.admin_json(&["room", "list"]);

    let restored = folder.path().join("restored");
    let restored_name = restored.to_str().expect("a temporary folder has a plain name");
    let output = run(&["restore", name, "--data-dir", restored_name]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(&["restore", name, "--data-dir", restored_name]);
    assert!(text(&output.stderr).contains("is not empty"), "{}", text(&output.stderr));

    let copy = Running::start_in(&restored, free_ports(), &[]);
    assert_eq!(copy.admin_json(&["room", "list"]), rooms);
    copy.token("bob", "builder");
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("note.txt");
    std::fs::write(&file, "hello").expect("a writable folder");
    let target = folder.path().join("data");
    let output = koine(&["restore"]).arg(&file).arg("--data-dir").arg(&target).output().expect("the program starts");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("is no backup of Koine"), "{}", text(&output.stderr));
}
