//! Canonical JSON against the examples of the specification and against `serde_json`.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn canonical(text: &str) -> String {
    let mut out = Vec::new();
    parse(text.as_bytes()).expect("valid JSON").write(&mut out);
    String::from_utf8(out).expect("canonical JSON is UTF-8")
}

#[test]
fn examples_of_the_specification() {
    // [appendices §examples]
    for (given, expected) in [
        ("{}", "{}"),
        ("{ \"one\": 1, \"two\": \"Two\" }", r#"{"one":1,"two":"Two"}"#),
        (r#"{"b": "2", "a": "1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",
                "three_pids": [{"medium": "email", "address": "john.doe@example.org"},
                {"medium": "msisdn", "address": "123456789"}]}}}"#,
            r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}"#,
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
        (
            r#"{"a": "\u0000\u001F\u0008\u0009\u000a\u000c\u000d\"\\\/"}"#,
            "{\"a\":\"\\u0000\\u001f\\b\\t\\n\\f\\r\\\"\\\\/\"}",
        ),
        (r#"{"a": 1, "b": 2, "a": 3}"#, r#"{"a":3,"b":2}"#),
        (r#"["\ud83d\ude00"]"#, "[\"😀\"]"),
    ] {
        assert_eq!(canonical(given), expected);
    }
}

#[test]
fn numbers_outside_of_canonical_json_are_told_apart() {
    for text in ["0", "-1", "9007199254740991", "-9007199254740991"] {
        assert!(parse(text.as_bytes()).expect("valid").is_canonical(), "{text}");
        assert_eq!(canonical(text), text);
    }
    for text in ["-0", "1.0", "1e3", "9007199254740992", "-9007199254740992", "1.5E-7"] {
        assert!(!parse(text.as_bytes()).expect("valid").is_canonical(), "{text}");
        assert_eq!(canonical(text), text);
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "nul",
        "\"\n\"",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"",
        "[1 2]",
        "{} {}",
        "'a'",
        "\"\\u12g4\"",
    ] {
        assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        assert!(serde_json::from_str::<Value>(text).is_err(), "{text:?}");
    }
    assert_eq!(parse(b"[\"\xff\"]"), Err(JsonError::NotUtf8(2)));
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(parse(deep(DEPTH_MAX).as_bytes()).is_ok());
    assert_eq!(parse(deep(DEPTH_MAX + 2).as_bytes()), Err(JsonError::TooDeep));
    assert_eq!(parse("[".repeat(1_000_000).as_bytes()), Err(JsonError::TooDeep));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-INTEGER_MAX..=INTEGER_MAX).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn printing_and_parsing_agree_with_serde_json(value in any_json()) {
        let pretty = serde_json::to_string_pretty(&value).expect("prints");
        let tree = parse(pretty.as_bytes()).expect("parses");
        prop_assert!(tree.is_canonical());
        let mut out = Vec::new();
        tree.write(&mut out);
        let ours: Value = serde_json::from_slice(&out).expect("parses");
        prop_assert_eq!(&ours, &value);
        // The canonical form is its own canonical form.
        let mut again = Vec::new();
        parse(&out).expect("parses").write(&mut again);
        prop_assert_eq!(out, again);
    }

    #[test]
    fn any_bytes_are_taken_or_refused_as_serde_json_does(text in "[\\[\\]{}:,\"\\\\ux0-9a-e.+ -]{0,24}") {
        let theirs = serde_json::from_str::<Value>(&text);
        // The other one wants numbers to fit into a float; ours are kept as they are written.
        let too_large = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
        prop_assert_eq!(parse(text.as_bytes()).is_ok(), theirs.is_ok() || too_large);
    }
}
