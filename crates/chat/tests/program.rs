//! The program as scripts meet it: exit codes and last words that can be relied on, without a server.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn chat(data: &Path, words: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_koine-chat"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KOINE_CHAT")) {
        program.env_remove(name);
    }
    program.args(["--json", "--data-dir"]).arg(data).args(words).env("KOINE_CHAT_PASSWORD", "secret");
    program.stdin(Stdio::null()).output().unwrap()
}

fn fails(words: &[&str], code: u8, name: &str) {
    let data = tempfile::tempdir().unwrap();
    let done = chat(data.path(), words);
    let errors = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(i32::from(code)), "{words:?}: {errors}");
    let last: Value = serde_json::from_str(errors.lines().last().unwrap_or_default()).unwrap();
    assert_eq!((&last["code"], &last["failure"]), (&code.into(), &name.into()), "{words:?}: {errors}");
    assert!(done.stdout.is_empty());
    assert!(!errors.contains("secret"));
}

#[test]
fn a_command_without_an_account_says_that_nobody_is_logged_in() {
    for words in [&["whoami"][..], &["rooms", "--offline"], &["send", "#a:b", "hello"], &["logout"]] {
        fails(words, 3, "not-logged-in");
    }
}

#[test]
fn a_command_line_without_sense_is_a_failure_like_others() {
    for words in [&["nonsense"][..], &["send"], &["tail", "--timeout", "-1"], &["login", "alice"], &[]] {
        fails(words, 2, "usage");
    }
}

#[test]
fn a_server_that_is_not_there_is_a_failure_of_the_network() {
    fails(&["login", "alice", "--homeserver", "http://127.0.0.1:9"], 5, "network");
}

#[test]
fn help_and_version_are_no_failures() {
    let data = tempfile::tempdir().unwrap();
    for words in [&["--help"][..], &["--version"], &["send", "--help"]] {
        let done = chat(data.path(), words);
        assert_eq!(done.status.code(), Some(0), "{words:?}");
        assert!(!done.stdout.is_empty() && done.stderr.is_empty(), "{words:?}");
    }
}
