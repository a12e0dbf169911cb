//! Messages there and back.

use proptest::prelude::*;
use ruma_common::{owned_event_id, owned_user_id};

use super::*;

struct Room;

impl Names for Room {
    fn user_of(&self, address: &BareJid) -> Option<OwnedUserId> {
        (address.to_string() == "bob@example.org").then(|| owned_user_id!("@bob:example.org"))
    }

    fn address_of(&self, user: &UserId) -> Option<BareJid> {
        (user == "@bob:example.org").then(|| BareJid::new("bob@example.org").expect("an address"))
    }

    fn event_of(&self, id: &str) -> Option<OwnedEventId> {
        matches!(id, "first" | "$first").then(|| owned_event_id!("$first"))
    }

    fn name_of(&self, event: &EventId) -> String {
        if event == "$first" { "first".into() } else { event.to_string() }
    }

    fn author_of(&self, _: &EventId) -> Option<(String, String)> {
        Some(("bob@example.org".into(), "What?\nHow?".into()))
    }

    fn file_of(&self, url: &str) -> Option<File> {
        let file = File {
            mxc: "mxc://example.org/cat".into(),
            mime: Some("image/png".into()),
            size: Some(7),
            name: Some("cat.png".into()),
        };
        (url == "https://example.org/f/cat.png").then_some(file)
    }

    fn url_of(&self, mxc: &str, name: &str) -> Option<String> {
        (mxc == "mxc://example.org/cat").then(|| format!("https://example.org/f/{name}"))
    }
}

fn chat(children: Vec<Element>) -> Element {
    Element::new("message", ns::CLIENT).with_attr("type", "chat").with_attr("id", "m1").with_children(children)
}

fn sent(message: &Element) -> (&'static str, Value) {
    match read(message, &Room) {
        Act::Send { kind, content } => (kind, content),
        other => panic!("{other:?}"),
    }
}

fn said(text: &str) -> Element {
    Element::text_of("body", ns::CLIENT, text)
}

proptest! {
    #[test]
    fn any_text_comes_back_as_it_was(text in "(/me )?[ -~éß\n]{1,80}") {
        let message = chat(vec![said(&text)]);
        let (kind, content) = sent(&message);
        prop_assert_eq!(write(kind, &content, &Room), Some(vec![said(&text)]));
    }

    #[test]
    fn what_came_with_a_message_comes_back_with_it(text in "[ -~]{1,40}", thread in "[a-z]{1,9}", asks in any::<bool>()) {
        let mut children = vec![said(&text), Element::text_of("thread", ns::CLIENT, thread)];
        if asks {
            children.push(Element::new("request", ns::RECEIPTS));
        }
        let (kind, content) = sent(&chat(children.clone()));
        prop_assert_eq!(write(kind, &content, &Room), Some(children));
    }
}

#[test]
fn text_with_marks_has_html() {
    let (_, content) = sent(&chat(vec![said("so *loud*")]));
    assert_eq!(content["formatted_body"], "so <strong>loud</strong>");
    assert_eq!(content[KEEPSAKE], json!({ "id": "m1" }));
    let (_, content) = sent(&chat(vec![said("so *loud*"), Element::new("unstyled", UNSTYLED)]));
    assert_eq!(content.get("formatted_body"), None);
}

#[test]
fn a_body_that_no_event_has_room_for_is_not_read() {
    let long = "*a ".repeat(EVENT_BYTES_MAX);
    for more in [vec![], vec![Element::new("reply", ns::REPLY).with_attr("id", "first")]] {
        let message = chat([vec![said(&long)], more].concat());
        let ((_, content), steps) = crate::cost::steps(|| sent(&message));
        assert_eq!(steps, 0);
        assert_eq!(content["body"], long, "the room is to say how much is too much");
        assert_eq!(content.get("formatted_body"), None);
    }
    let fits = format!("*a*{}", "a".repeat(EVENT_BYTES_MAX - 3));
    assert!(sent(&chat(vec![said(&fits)])).1.get("formatted_body").is_some());
}

#[test]
fn html_is_marked_and_text_that_looks_marked_is_not() {
    let content = json!({
        "msgtype": "m.text", "body": "**x**", "format": "org.matrix.custom.html", "formatted_body": "<b>x</b>",
    });
    assert_eq!(write("m.room.message", &content, &Room), Some(vec![said("*x*")]));
    let content = json!({ "msgtype": "m.text", "body": "a *x* b" });
    let written = write("m.room.message", &content, &Room).expect("it says something");
    assert!(written.contains(&Element::new("unstyled", UNSTYLED)));
}

#[test]
fn an_edit_is_an_edit_on_both_sides() {
    let replace = Element::new("replace", ns::CORRECT).with_attr("id", "first");
    let (_, content) = sent(&chat(vec![said("better"), replace.clone()]));
    assert_eq!(content["m.relates_to"], json!({ "rel_type": "m.replace", "event_id": "$first" }));
    assert_eq!((&content["body"], &content["m.new_content"]["body"]), (&json!("* better"), &json!("better")));
    assert_eq!(write("m.room.message", &content, &Room), Some(vec![said("better"), replace.clone()]));
    let content = json!({
        "msgtype": "m.text", "body": "* better", "m.new_content": { "msgtype": "m.text", "body": "better" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": "$first" },
    });
    assert_eq!(write("m.room.message", &content, &Room), Some(vec![said("better"), replace]));
}

#[test]
fn an_answer_names_what_it_answers_and_its_quote_is_marked() {
    let content = json!({
        "msgtype": "m.text", "body": "> <@bob:example.org> What?\n\nSo.",
        "m.relates_to": { "m.in_reply_to": { "event_id": "$first" } },
    });
    let written = write("m.room.message", &content, &Room).expect("it says something");
    assert_eq!(written[0], said("> What?\n> How?\nSo."));
    let (_, content) = sent(&chat(written));
    assert_eq!(content["body"], "So.");
    assert_eq!(content["m.relates_to"], json!({ "m.in_reply_to": { "event_id": "$first" } }));
}

#[test]
fn reactions_and_retractions_name_events() {
    let message = chat(reactions("first", ["👍".to_owned(), "👍".to_owned(), "🎉".to_owned()]));
    let keys = vec!["👍".to_owned(), "🎉".to_owned()];
    assert_eq!(read(&message, &Room), Act::React { target: owned_event_id!("$first"), keys });
    assert_eq!(read(&chat(retraction("first")), &Room), Act::Retract { target: owned_event_id!("$first") });
    assert_eq!(read(&chat(retraction("other")), &Room), Act::Nothing);
}

#[test]
fn a_file_of_ours_is_a_file_in_both() {
    let content =
        json!({ "msgtype": "m.image", "body": "cat.png", "url": "mxc://example.org/cat", "info": { "w": 3 } });
    let written = write("m.room.message", &content, &Room).expect("it says something");
    assert_eq!(written[0], said("https://example.org/f/cat.png"));
    assert!(!written.iter().any(|child| child.attr("begin").is_some()), "the link stays whole for who shows it");
    let (_, again) = sent(&chat(written.clone()));
    assert_eq!(
        (&again["msgtype"], &again["url"], &again["info"]["w"]),
        (&json!("m.image"), &content["url"], &json!(3))
    );
    assert_eq!(write("m.room.message", &again, &Room), Some(written));
}

#[test]
fn a_file_described_in_the_older_way_is_a_file_too() {
    let source = Element::new("reference", "urn:xmpp:reference:0").with_attr("uri", "https://example.org/f/cat.png");
    let sharing = Element::new("media-sharing", "urn:xmpp:sims:1")
        .with_child(Element::new("sources", "urn:xmpp:sims:1").with_child(source));
    let reference = Element::new("reference", "urn:xmpp:reference:0").with_attr("type", "data").with_child(sharing);
    let (_, content) = sent(&chat(vec![said("Look at the cat"), reference]));
    assert_eq!((&content["msgtype"], &content["url"]), (&json!("m.image"), &json!("mxc://example.org/cat")));
}

#[test]
fn markup_beside_the_text_is_html() {
    let strong = Element::new("span", markup::MARKUP)
        .with_attr("start", "3")
        .with_attr("end", "7")
        .with_child(Element::new("strong", markup::MARKUP));
    let markup = Element::new("markup", markup::MARKUP).with_child(strong);
    let (_, content) = sent(&chat(vec![said("so loud *not*"), markup]));
    assert_eq!(content["formatted_body"], "so <strong>loud</strong> *not*");
}

/// Both networks see plainly that a message is encrypted for others, whatever the scheme, and nothing of what it says.
#[test]
fn whoever_cannot_read_a_message_is_told_so() {
    for (space, scheme) in
        [("eu.siacs.conversations.axolotl", "OMEMO"), ("urn:xmpp:omemo:2", "OMEMO"), ("urn:xmpp:openpgp:0", "OpenPGP")]
    {
        let secret = Element::new("encrypted", space);
        let label = Element::new("encryption", ns::EME).with_attr("namespace", space);
        let fallback = said("I sent you an encrypted message, but your program cannot read it.");
        let children = vec![secret, label, Element::new("store", ns::HINTS), fallback];
        let (kind, content) = sent(&chat(children.clone()));
        let told = content["body"].as_str().expect("words for people");
        assert!(told.contains("encrypted") && told.contains(scheme) && told.contains("XMPP"), "{told}");
        assert_eq!(content["msgtype"], "m.notice");
        assert_eq!(write(kind, &content, &Room), Some(children), "XMPP devices get what they can read");
    }
    let written =
        write("m.room.encrypted", &json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgAEo" }), &Room);
    let written = written.expect("words for people");
    let body = written.iter().find(|child| child.is("body", ns::CLIENT)).map(Element::text).expect("a fallback");
    assert!(body.contains("encrypted") && body.contains("Matrix"), "{body}");
    let label = written.iter().find(|child| child.is("encryption", ns::EME)).expect("a label");
    assert_eq!(
        (label.attr("namespace"), label.attr("name")),
        (Some("m.megolm.v1.aes-sha2"), Some("Matrix encryption"))
    );
    assert!(!written.iter().any(|child| child.to_xml().contains("AwgAEo")));
}

#[test]
fn encrypted_messages_say_so_on_the_other_side() {
    let secret = Element::new("encrypted", "eu.siacs.conversations.axolotl");
    let (kind, content) = sent(&chat(vec![secret.clone()]));
    assert!(content["body"].as_str().expect("words").contains("OMEMO"));
    assert_eq!(write(kind, &content, &Room), Some(vec![secret]));
    let written = write("m.room.encrypted", &json!({ "algorithm": "m.megolm.v1.aes-sha2" }), &Room);
    assert!(written.expect("words").iter().any(|child| child.is("encryption", ns::EME)));
}

#[test]
fn what_servers_say_is_not_taken_from_events() {
    let content = json!({
        "msgtype": "m.text", "body": "x",
        KEEPSAKE: { "payload": "<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='a@b'/><received xmlns='urn:xmpp:carbons:2'/>" },
    });
    assert_eq!(write("m.room.message", &content, &Room), Some(vec![said("x")]));
    let content = json!({ "msgtype": "m.text", "body": "x", KEEPSAKE: { "payload": "<unclosed>" } });
    assert_eq!(write("m.room.message", &content, &Room), Some(vec![said("x")]), "what is damaged counts as not there");
}

#[test]
fn what_a_mail_quotes_is_folded_for_xmpp_too() {
    let content = json!({
        "msgtype": "m.text", "body": "Yes", "format": "org.matrix.custom.html",
        "formatted_body": "<p>Yes, <b>now</b></p><details><summary>Signature</summary>Bob</details><details><summary>Quoted text</summary><details>old</details>older</details>",
        "koine.mail": { "source": "mxc://example.org/cat" },
    });
    let body = |content: &Value| {
        let message = chat(write("m.room.message", content, &Room).expect("it says something"));
        message.child_text("body", ns::CLIENT)
    };
    let expected = "Yes, *now*\n\n[with what it quotes: https://example.org/f/mail.eml]";
    assert_eq!(body(&content).as_deref(), Some(expected));
    let mut of_matrix = content;
    of_matrix.as_object_mut().expect("an object").remove("koine.mail");
    assert!(body(&of_matrix).is_some_and(|body| body.contains("older")), "what people fold themselves is shown");
}
