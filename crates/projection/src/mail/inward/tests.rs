//! Mails in the shapes that programs give them.

use mail_parser::MessageParser;
use proptest::prelude::*;

use super::*;

const HEAD: &str = "From: Bob Baker <Bob@Mail.example>\r\nTo: alice@example.org\r\nMessage-ID: <1@mail.example>\r\nSubject: Lunch\r\n\
                    Date: Mon, 2 Nov 2026 10:00:00 +0100\r\n";

fn inward(rest: &str) -> Inward {
    let text = format!("{HEAD}{rest}");
    read(&MessageParser::default().parse(text.as_bytes()).expect("the test wrote a mail"))
}

fn contents(rest: &str, above: &[&str]) -> Vec<Value> {
    let mail = inward(rest);
    let count = if let What::Said { files, .. } = &mail.what { files.len() } else { 0 };
    let files: Vec<Stored> = (0..count).map(|at| Stored { mxc: format!("mxc://example.org/{at}"), size: 1 }).collect();
    let above = above.iter().map(|line| (*line).to_owned()).collect();
    let verdict = json!({ "dmarc": "pass" });
    mail.contents(&Place {
        files: &files,
        source: "mxc://example.org/source",
        verdict: &verdict,
        above,
        relation: None,
    })
}

#[test]
fn a_plain_mail_is_its_text() {
    let mail = inward("References: <0@mail.example>\r\nIn-Reply-To: <0@mail.example>\r\n\r\nHello Alice\r\n");
    assert_eq!(mail.message_id.as_deref(), Some("<1@mail.example>"));
    assert_eq!(mail.in_reply_to, ["<0@mail.example>"]);
    let author = mail.author.expect("there is one");
    assert_eq!((author.address.to_string().as_str(), author.name.as_deref()), ("bob@mail.example", Some("Bob Baker")));
    assert_eq!(mail.date_ms, Some(1_793_610_000_000));
    let content = contents("\r\nHello Alice\r\n", &["Lunch"]).remove(0);
    assert_eq!(content["body"], "Lunch\n\nHello Alice");
    assert_eq!(content["msgtype"], "m.text");
    assert!(content.get("formatted_body").is_none(), "{content}");
    assert_eq!(content[KEEPSAKE]["from"], "bob@mail.example");
    assert_eq!(content[KEEPSAKE]["verdict"]["dmarc"], "pass");
    assert_eq!(content[KEEPSAKE]["source"], "mxc://example.org/source");
}

#[test]
fn text_is_preferred_and_html_goes_beside_it() {
    let rest = "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSch=F6n!\r\n\
        --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Sch\u{f6}n<b>!</b></p><script>x</script>\r\n--b--\r\n";
    let content = contents(rest, &[]).remove(0);
    assert_eq!(content["body"], "Schön!");
    assert_eq!(content["formatted_body"], "<p>Schön<b>!</b></p>");
}

#[test]
fn html_alone_is_read_as_text() {
    let rest = "Content-Type: text/html\r\n\r\n<div>One</div><div>Two <a href=\"https://e.org/\">here</a></div>\
        <blockquote type=cite>old</blockquote>";
    let content = contents(rest, &[]).remove(0);
    assert_eq!(content["body"], "One\nTwo here (https://e.org/)");
    assert!(content["formatted_body"].as_str().is_some_and(|html| html.contains("<details>")), "{content}");
}

#[test]
fn quotes_and_signatures_are_folded() {
    let content = contents("\r\nYes\r\n-- \r\nBob\r\n\r\nOn Monday Alice wrote:\r\n> Lunch?\r\n", &[]).remove(0);
    assert_eq!(content["body"], "Yes");
    let html = content["formatted_body"].as_str().expect("something is folded");
    assert!(html.starts_with("Yes<details><summary>Signature</summary>"), "{html}");
    assert!(html.contains("&gt; Lunch?"), "{html}");
}

#[test]
fn files_are_events_of_their_own() {
    let rest = "Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: multipart/related; boundary=r\r\n\r\n\
        --r\r\nContent-Type: text/html\r\n\r\n<p>Look <img src=\"cid:p1\" alt=\"cat\"></p>\r\n\
        --r\r\nContent-Type: image/png; name=\"../cat.png\"\r\nContent-ID: <p1>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0=\r\n\
        --r--\r\n--m\r\nContent-Type: application/zip\r\nContent-Disposition: attachment; filename*=utf-8''%C3%BCber.zip\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nUEsDBA==\r\n--m--\r\n";
    let contents = contents(rest, &[]);
    let kinds: Vec<&str> = contents.iter().filter_map(|content| content["msgtype"].as_str()).collect();
    assert_eq!(kinds, ["m.text", "m.image", "m.file"]);
    assert_eq!(contents[1]["body"], "cat.png");
    assert_eq!(contents[2]["body"], "über.zip");
    let html = contents[0]["formatted_body"].as_str().expect("html");
    assert!(html.contains("<img src=\"mxc://example.org/0\" alt=\"cat\">"), "{html}");
    assert_eq!(contents[2][KEEPSAKE]["part"], 1);
}

#[test]
fn a_mail_of_a_file_alone_is_that_file() {
    let rest = "Content-Type: image/jpeg; name=a.jpg\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\n/9j/\r\n";
    let contents = contents(rest, &[]);
    assert_eq!(contents.len(), 1);
    assert_eq!(contents[0]["msgtype"], "m.image");
}

#[test]
fn what_programs_send_is_marked() {
    let content = contents("Auto-Submitted: auto-replied\r\n\r\nI am away\r\n", &[]).remove(0);
    assert_eq!(content["msgtype"], "m.notice");
    let content = contents("Auto-Submitted: no\r\n\r\nI am here\r\n", &[]).remove(0);
    assert_eq!(content["msgtype"], "m.text");
}

#[test]
fn a_reaction_is_a_reaction() {
    let rest = "In-Reply-To: <0@mail.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Disposition: reaction\r\n\r\n👍\r\n";
    assert_eq!(inward(rest).what, What::Reactions(vec!["👍".into()]));
    let rest = "Content-Type: text/plain\r\nContent-Disposition: reaction\r\n\r\nno emoji\r\n";
    assert!(matches!(inward(rest).what, What::Said { .. }));
}

#[test]
fn a_report_that_a_mail_was_shown_names_it() {
    let rest = "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b\r\n\r\nI read it\r\n\
        --b\r\nContent-Type: message/disposition-notification\r\n\r\nReporting-UA: x\r\nOriginal-Message-ID: <abc@example.org>\r\n\
        Disposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n";
    assert_eq!(inward(rest).what, What::Read(vec!["<abc@example.org>".into()]));
}

#[test]
fn the_wish_to_be_told_of_reading_is_kept() {
    let mail = inward("Disposition-Notification-To: Bob <bob@mail.example>\r\n\r\nhi\r\n");
    assert_eq!(mail.headers["Disposition-Notification-To"], "Bob <bob@mail.example>");
}

#[test]
fn a_local_part_in_quotes_is_no_name() {
    for (from, address, name) in [
        (r#""bob b"@mail.example"#, r#""bob b"@mail.example"#, None),
        (r#"<"bob b"@mail.example>"#, r#""bob b"@mail.example"#, None),
        (r#""bob.b"@mail.example"#, "bob.b@mail.example", None),
        (r#""Bob B" <bob@mail.example>"#, "bob@mail.example", Some("Bob B")),
    ] {
        let text = format!("From: {from}\r\n\r\nhi");
        let author = read(&MessageParser::default().parse(&text).expect("a mail")).author;
        let author = author.unwrap_or_else(|| panic!("{from} has an author"));
        assert_eq!((author.address.to_string().as_str(), author.name.as_deref()), (address, name), "{from}");
    }
    let nobody = read(&MessageParser::default().parse("From: @mail.example\r\n\r\nhi").expect("a mail"));
    assert_eq!(nobody.author, None);
}

#[test]
fn a_mail_of_two_authors_has_none() {
    let two = "From: a@x.org\r\nFrom: b@y.org\r\n\r\nhi";
    assert_eq!(read(&MessageParser::default().parse(two).expect("a mail")).author, None);
    let two = "From: a@x.org, b@y.org\r\n\r\nhi";
    assert_eq!(read(&MessageParser::default().parse(two).expect("a mail")).author, None);
}

#[test]
fn names_that_turn_lines_round_do_not() {
    let text = "From: \"alice@bank.org\u{202e}\u{200b}\" <eve@evil.org>\r\nSubject: =?utf-8?B?4oCuZXZpbA==?=\r\n\r\nhi";
    let mail = read(&MessageParser::default().parse(text).expect("a mail"));
    assert_eq!(mail.author.and_then(|author| author.name).as_deref(), Some("alice@bank.org"));
    assert_eq!(mail.subject.as_deref(), Some("evil"));
}

#[test]
fn lists_speak_for_themselves() {
    let mail = inward("List-Id: \"The List\" <list.example.net>\r\nList-Post: <mailto:list@example.net>\r\n\r\nhi");
    let list = list(&mail).expect("it came by a list");
    assert_eq!((list.address.to_string().as_str(), list.name.as_deref()), ("list@example.net", Some("The List")));
}

#[test]
fn what_is_too_long_for_an_event_is_cut_and_says_so() {
    let long = format!("\r\n{}", "lorem ipsum \u{1f600} dolor\r\n".repeat(20_000));
    let content = contents(&long, &[]).remove(0);
    let size = serde_json::to_string(&content).expect("text is JSON").len();
    assert!(size < 60_000, "{size}");
    assert!(content["body"].as_str().is_some_and(|body| body.contains("[cut here")));
}

#[test]
fn answers_and_forwards_have_the_same_subject() {
    for subject in ["Lunch", "Re: Lunch", "RE: AW: lunch", "Fwd: Re[2]: Lunch", "回复：Lunch"] {
        let expected = if subject.starts_with('回') { "回复：lunch" } else { "lunch" };
        assert_eq!(bare_subject(subject), expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut text = HEAD.as_bytes().to_vec();
        text.extend(bytes);
        if let Some(message) = MessageParser::default().parse(&text) {
            let mail = read(&message);
            let verdict = json!({});
            let place = Place { files: &[], source: "mxc://x/y", verdict: &verdict, above: vec![], relation: None };
            for content in mail.contents(&place) {
                prop_assert!(serde_json::to_string(&content).expect("JSON").len() < 60_000);
            }
        }
    }
}
