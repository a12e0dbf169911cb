//! What is said in rooms, as mails.

use koine_mail::out::{Deliver, OutConfig};
use koine_media::Description;
use koine_room::ReceiptType;
use mail_parser::{Message, MessageParser, MimeHeaders as _};
use ruma_common::{EventId, MilliSecondsSinceUnixEpoch};
use serde_json::{Value, json};

use super::{
    server::Server,
    world::{World, alice, ghost},
};

fn parsed(mail: &str) -> Message<'_> {
    MessageParser::new().parse(mail).expect("a mail")
}

/// What a mail says.
fn text(mail: &str) -> String {
    parsed(mail).body_text(0).expect("text").replace("\r\n", "\n").trim().to_owned()
}

fn id_of(event: &str) -> String {
    format!("{}@example.org", event.trim_start_matches('$'))
}

#[tokio::test]
async fn lines_become_one_mail_after_a_minute_of_silence() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    let first = world.say(&room, "Hello Bob").await;
    world.settle().await;
    world.pass(30);
    world.say(&room, "are you there? Grüße").await;
    world.settle().await;
    world.pass(40);
    world.settle().await;
    assert!(server.taken().is_empty(), "the second line was 40 seconds ago");
    world.pass(21);
    world.settle().await;
    let taken = server.taken();
    let [taken] = taken.as_slice() else { panic!("one mail: {taken:?}") };
    assert_eq!(taken.to, "bob@example.net");
    assert!(taken.from.starts_with("bounces+") && taken.from.ends_with("@example.org"), "{}", taken.from);
    let mail = parsed(&taken.mail);
    assert_eq!(mail.subject(), Some("Chat with Alice"));
    let from = mail.from().and_then(|from| from.first()).expect("a sender");
    assert_eq!((from.name(), from.address()), (Some("Alice"), Some("alice@example.org")));
    let to = mail.to().and_then(|to| to.first()).expect("a recipient");
    assert_eq!((to.name(), to.address()), (Some("Bob"), Some("bob@example.net")));
    assert_eq!(mail.message_id(), Some(id_of(first.as_str()).as_str()));
    assert_eq!(text(&taken.mail), "Hello Bob\nare you there? Grüße");
    assert!(taken.mail.is_ascii(), "it needs no extension");
    assert!(taken.mail.lines().all(|line| line.len() <= 998));
    assert_eq!(taken.mail.matches("DKIM-Signature:").count(), 2);
}

#[tokio::test]
async fn nobody_waits_longer_than_ten_minutes() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    for _ in 0..12 {
        world.say(&room, "and").await;
        world.settle().await;
        world.pass(55);
    }
    world.settle().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(text(&taken[0].mail).lines().count(), 12);
}

#[tokio::test]
async fn lines_that_are_collected_survive_a_restart() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "one").await;
    world.settle().await;
    let world = world.restarted(|_| {});
    world.say(&room, "two").await;
    let world = world.restarted(|_| {});
    world.after_silence().await;
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(text(&taken[0].mail), "one\ntwo");
}

#[tokio::test]
async fn an_answer_to_a_mail_stands_in_its_thread() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    let came = json!({ "msgtype": "m.text", "body": "Lunch?", "koine.mail": {
        "message_id": "<2@example.net>", "references": ["<0@example.net>", "<1@example.net>"], "in_reply_to": ["<1@example.net>"],
        "subject": "Re: Lunch", "from": "bob@example.net" } });
    world.send(&ghost("bob@example.net"), &room, "m.room.message", came).await;
    let first = world.say(&room, "Yes").await;
    world.after_silence().await;
    world.say(&room, "At noon").await;
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 2, "what came by mail is not sent back: {taken:?}");
    let mail = parsed(&taken[0].mail);
    assert_eq!(mail.subject(), Some("Re: Lunch"));
    assert_eq!(mail.in_reply_to().as_text(), Some("2@example.net"));
    let references: Vec<&str> = mail.references().as_text_list().expect("several").iter().map(AsRef::as_ref).collect();
    assert_eq!(references, ["0@example.net", "1@example.net", "2@example.net"]);
    let next = parsed(&taken[1].mail);
    assert_eq!(
        (next.subject(), next.in_reply_to().as_text()),
        (Some("Re: Lunch"), Some(id_of(first.as_str()).as_str()))
    );
}

#[tokio::test]
async fn reading_is_told_where_both_want_it() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    let bob = ghost("bob@example.net");
    let came = |n: u32, headers: Value| {
        json!({ "msgtype": "m.text", "body": "Lunch?", "koine.mail": {
            "message_id": format!("<{n}@example.net>"), "references": [], "in_reply_to": [], "subject": "Lunch",
            "from": "bob@example.net", "headers": headers } })
    };
    let asks = json!({ "Disposition-Notification-To": "Bob <bob@example.net>" });
    let for_another = json!({ "Disposition-Notification-To": "eve@example.net" });
    let mut mails = Vec::new();
    for (n, headers) in (0..).zip([asks.clone(), json!({}), for_another, asks]) {
        mails.push(world.send(&bob, &room, "m.room.message", came(n, headers)).await);
    }
    let read = async |event: &EventId| {
        world.rooms.set_receipt(&alice(), &room, ReceiptType::Read, event, None).await.expect("it is taken");
        world.after_silence().await;
    };
    read(&mails[0]).await;
    assert_eq!(server.taken().len(), 0, "she does not tell");
    let tells = json!({ "read_receipts": true }).to_string();
    world.accounts.set_account_data(&alice(), None, "koine.mail", tells).await.expect("it is taken");
    for mail in &mails[1..] {
        read(mail).await;
    }
    let taken = server.taken();
    let [report] = taken.as_slice() else { panic!("one asks for itself: {taken:?}") };
    assert!(report.mail.contains("Original-Message-ID: <3@example.net>"), "{}", report.mail);
    assert!(report.mail.contains("report-type=\"disposition-notification\""), "{}", report.mail);
}

#[tokio::test]
async fn a_thread_is_a_conversation_of_its_own() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room_named(Some("Team"), &["bob@example.net", "carla@example.net"]).await;
    let root = world.say(&room, "Plans for May").await;
    world.after_silence().await;
    let relation = json!({ "rel_type": "m.thread", "event_id": root });
    world
        .send(
            &alice(),
            &room,
            "m.room.message",
            json!({ "msgtype": "m.text", "body": "I am away", "m.relates_to": relation }),
        )
        .await;
    world.say(&room, "Something else").await;
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 6, "three mails for two: {taken:?}");
    let mail = parsed(&taken[0].mail);
    assert_eq!(mail.subject(), Some("Team"));
    assert_eq!(mail.to().map(|to| to.iter().count()), Some(2), "both see each other");
    let in_thread = taken.iter().find(|taken| taken.mail.contains("I am away")).expect("it was sent");
    assert_eq!(parsed(&in_thread.mail).in_reply_to().as_text(), Some(id_of(root.as_str()).as_str()));
    assert_eq!(parsed(&in_thread.mail).subject(), Some("Re: Team"));
}

#[tokio::test]
async fn edits_and_redactions_before_sending_change_the_mail() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    let first = world.say(&room, "Helo").await;
    let second = world.say(&room, "nonsense").await;
    world.settle().await;
    let edit = json!({ "msgtype": "m.text", "body": "* Hello", "m.new_content": { "msgtype": "m.text", "body": "Hello" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": first } });
    world.send(&alice(), &room, "m.room.message", edit).await;
    let (user, alice) = (alice(), koine_room::Sender { user: &alice(), device: None });
    world.rooms.redact(alice, &room, &second, None, None).await.expect("it is hers");
    assert_eq!(user, alice.user);
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(text(&taken[0].mail), "Hello");
    // And after it, the others are told as far as that can be.
    let edit = json!({ "msgtype": "m.text", "body": "* Hello!", "m.new_content": { "msgtype": "m.text", "body": "Hello!" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": first } });
    world.send(&user, &room, "m.room.message", edit).await;
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert!(taken[1].mail.contains(&format!("Chat-Edit: <{}>", id_of(first.as_str()))), "{}", taken[1].mail);
    assert_eq!(text(&taken[1].mail), "Edited: Hello!");
    world.rooms.redact(alice, &room, &first, None, None).await.expect("it is hers");
    world.after_silence().await;
    assert_eq!(server.taken().len(), 2, "a mail cannot be taken back");
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].1["koine.mail.status"]["state"], "sent");
}

#[tokio::test]
async fn a_reaction_is_a_mail_of_its_own_kind() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    let came = json!({ "msgtype": "m.text", "body": "Hi", "koine.mail": { "message_id": "<1@example.net>", "subject": "Hi" } });
    let came = world.send(&ghost("bob@example.net"), &room, "m.room.message", came).await;
    let relation = json!({ "rel_type": "m.annotation", "event_id": came, "key": "👍" });
    world.send(&alice(), &room, "m.reaction", json!({ "m.relates_to": relation })).await;
    world.settle().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let mail = parsed(&taken[0].mail);
    assert_eq!(
        mail.content_disposition().map(|how| how.ctype().to_owned()).as_deref(),
        Some("reaction"),
        "{}",
        taken[0].mail
    );
    assert_eq!(mail.in_reply_to().as_text(), Some("1@example.net"));
    assert_eq!(mail.parts[0].text_contents().map(str::trim), Some("👍"));
}

#[tokio::test]
async fn reactions_and_edits_in_a_row_are_one_mail_each() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    let line = world.say(&room, "Helo").await;
    world.after_silence().await;
    assert_eq!(server.taken().len(), 1);
    let react = async |key: &str| {
        let relation = json!({ "rel_type": "m.annotation", "event_id": line, "key": key });
        world.send(&alice(), &room, "m.reaction", json!({ "m.relates_to": relation })).await
    };
    let reactions =
        |at: usize| parsed(&server.taken()[at].mail).parts[0].text_contents().map(|text| text.trim().to_owned());
    for key in ["👍", "🎉"] {
        react(key).await;
    }
    world.settle().await;
    assert_eq!(server.taken().len(), 2, "what was said at once goes at once");
    assert_eq!(reactions(1).as_deref(), Some("👍 🎉"));
    react("🙂").await;
    world.settle().await;
    let taken_back = react("🙁").await;
    world.settle().await;
    assert_eq!(server.taken().len(), 2, "the others wait for what follows");
    let sender = koine_room::Sender { user: &alice(), device: None };
    world.rooms.redact(sender, &room, &taken_back, None, None).await.expect("it is hers");
    world.after_silence().await;
    assert_eq!(server.taken().len(), 3);
    assert_eq!(reactions(2).as_deref(), Some("🙂"));
    let edit = async |body: &str| {
        let content = json!({ "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": { "msgtype": "m.text", "body": body },
            "m.relates_to": { "rel_type": "m.replace", "event_id": line } });
        world.send(&alice(), &room, "m.room.message", content).await;
        world.settle().await;
    };
    for body in ["Hell", "Hello", "Hello Bob"] {
        edit(body).await;
    }
    // A line beside them is a line.
    world.say(&room, "Lunch?").await;
    world.after_silence().await;
    let said: Vec<String> = server.taken()[3..].iter().map(|taken| text(&taken.mail)).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for expected in ["Edited: Hell", "Edited: Hello Bob", "Lunch?"] {
        assert!(said.iter().any(|said| said == expected), "{said:?}");
    }
}

#[tokio::test]
async fn nothing_is_mailed_out_of_an_encrypted_room_and_its_author_is_told_once() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "before").await;
    world.settle().await;
    let content = serde_json::value::to_raw_value(&json!({ "algorithm": "m.megolm.v1.aes-sha2" })).expect("JSON");
    let sender = koine_room::Sender { user: &alice(), device: None };
    world.rooms.set_state(sender, &room, "m.room.encryption", "", &content).await.expect("she may");
    world.say(&room, "secret").await;
    world
        .send(&alice(), &room, "m.room.encrypted", json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x" }))
        .await;
    world.after_silence().await;
    assert!(server.taken().is_empty(), "{:?}", server.taken());
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].0.contains("encrypted"));
}

#[tokio::test]
async fn files_are_attached_or_linked() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig { attached_bytes_max: 1_000, ..OutConfig::default() }).await;
    let room = world.room(&["bob@example.net"]).await;
    for (name, bytes) in [("small.txt", vec![b'x'; 600]), ("large.bin", vec![0; 5_000])] {
        let mut upload = world.media.begin_upload(&alice(), None).await.expect("there is room");
        upload.write(&bytes).await.expect("there is room");
        let about = Description { content_type: Some("text/plain".into()), file_name: Some(name.into()) };
        let url = upload.finish(about, MilliSecondsSinceUnixEpoch::now()).await.expect("there is room");
        let content = json!({ "msgtype": "m.file", "body": name, "url": url, "info": { "mimetype": "text/plain" } });
        world.send(&alice(), &room, "m.room.message", content).await;
    }
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let mail = parsed(&taken[0].mail);
    let attached: Vec<_> =
        mail.attachments().map(|part| part.attachment_name().unwrap_or_default().to_owned()).collect();
    assert_eq!(attached, ["small.txt"]);
    assert_eq!(mail.attachment(0).expect("it is there").contents(), vec![b'x'; 600]);
    let text = mail.body_text(0).expect("text").into_owned();
    let link = text.split_whitespace().find(|word| word.starts_with("https://")).expect("a link");
    let path = link.strip_prefix("https://web.example.org").expect("at our web server").to_owned();
    let fetch = async |path: String| {
        use tower::ServiceExt as _;
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        world.out.router().oneshot(request).await.expect("it answers").status().as_u16()
    };
    assert_eq!(fetch(path.clone()).await, 200);
    assert_eq!(fetch(path.replace("/large", "/other").replace("mailed/", "mailed/x")).await, 404);
    world.pass(31 * 24 * 60 * 60);
    assert_eq!(fetch(path).await, 404, "links run out");
}

#[tokio::test]
async fn names_cannot_break_out_of_their_header() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room_named(Some("Evil\r\nBcc: victim@example.com"), &["bob@example.net"]).await;
    let profile =
        koine_room::Profile { displayname: Some("Al\r\nX-Evil: 1\r\n\r\nice \"q\" <x@y>".into()), avatar_url: None };
    world.rooms.profile_changed(&alice(), &profile).await.expect("she may");
    world.say(&room, ".\r\nMAIL FROM:<evil>\r\n.\r\nend").await;
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let head = taken[0].mail.split("\r\n\r\n").next().expect("a head");
    assert!(!head.lines().any(|line| line.starts_with("Bcc:") || line.starts_with("X-Evil:")), "{head}");
    let mail = parsed(&taken[0].mail);
    assert_eq!(mail.from().and_then(|from| from.first()).and_then(|from| from.address()), Some("alice@example.org"));
    assert!(mail.body_text(0).expect("text").contains("MAIL FROM:<evil>"));
}

#[tokio::test]
async fn the_outbox_gets_mails_instead_of_the_world() {
    let world = World::new(OutConfig { deliver: Deliver::Outbox, ..OutConfig::default() }).await;
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "Hello").await;
    world.after_silence().await;
    let folder = world.folder.path().join("outbox/new");
    let files: Vec<_> = std::fs::read_dir(folder).expect("the folder is there").collect();
    assert_eq!(files.len(), 1);
    let mail = std::fs::read_to_string(files[0].as_ref().expect("readable").path()).expect("readable");
    assert!(mail.contains("X-Original-To: bob@example.net") && mail.contains("Hello"), "{mail}");
    assert_eq!(world.out.queue().expect("readable").waiting, 0);
}
