//! The queue of a session: order, confirmation, resumption, patience.

use std::task::Waker;

use koine_stanza::StreamCondition;

use super::*;

const ME: &str = "a@b/c";

fn message(body: &str) -> Outgoing {
    Element::new("message", ns::CLIENT)
        .with_attr("from", "x@y/z")
        .with_child(Element::text_of("body", ns::CLIENT, body))
        .into()
}

fn presence(from: &str) -> Outgoing {
    Element::new("presence", ns::CLIENT).with_attr("from", from).into()
}

fn push(outbox: &mut Outbox, outgoing: Outgoing) -> bool {
    outbox.push(outgoing, || StreamCondition::ResourceConstraint.into())
}

/// What a connection writes now.
fn written(outbox: &mut Outbox, connection: u64) -> String {
    let mut out = String::new();
    let mut cx = Context::from_waker(Waker::noop());
    let _ = outbox.poll(&mut cx, connection, |outgoing| {
        outgoing.write(ME, false, |piece| out.push_str(piece));
        true
    });
    out
}

#[test]
fn a_shared_stanza_gets_each_address() {
    let shared = Rendered::new(&Element::new("message", ns::CLIENT).with_attr("from", "r@s"));
    let mut out = String::new();
    Outgoing::addressed(&shared).write("a'b@c", true, |piece| out.push_str(piece));
    assert_eq!(out, "<message xmlns='jabber:client' to='a&apos;b@c' from='r@s'/>");
    let element = Outgoing::addressed(&shared).element(ME).expect("what was written is XML");
    assert_eq!(element.attr("to"), Some(ME));
}

#[test]
fn what_was_not_confirmed_is_sent_again_in_order() {
    let mut outbox = Outbox { counts: Some(Counts::default()), ..Outbox::default() };
    let first = outbox.attach().expect("it has not ended");
    for body in ["1", "2", "3"] {
        assert!(push(&mut outbox, message(body)));
    }
    assert_eq!(written(&mut outbox, first).matches("<body>").count(), 3);
    assert!(push(&mut outbox, message("4")));
    assert_eq!(outbox.confirm(1), Ok(()));
    let second = outbox.attach().expect("it has not ended");
    outbox.rewind();
    assert_eq!(written(&mut outbox, first), "", "the first connection has it no longer");
    let again = written(&mut outbox, second);
    let bodies: Vec<_> = again.split("<body>").skip(1).map(|rest| &rest[..1]).collect();
    assert_eq!(bodies, ["2", "3", "4"]);
    assert_eq!(outbox.confirm(5), Err(TooHigh { h: 5, sent: 4 }));
    assert_eq!(outbox.confirm(0), Err(TooHigh { h: 0, sent: 4 }));
    assert_eq!(outbox.confirm(4), Ok(()));
    assert_eq!((outbox.len(), outbox.bytes.bytes), (0, 0));
}

#[test]
fn counts_begin_anew_after_the_last_number() {
    let counts = Counts { handled: 0, confirmed: u32::MAX };
    let mut outbox = Outbox { counts: Some(counts), ..Outbox::default() };
    let connection = outbox.attach().expect("it has not ended");
    push(&mut outbox, message("1"));
    push(&mut outbox, message("2"));
    written(&mut outbox, connection);
    assert_eq!(outbox.confirm(1), Ok(()));
    assert!(!outbox.has_unconfirmed());
}

#[test]
fn nobody_who_does_not_look_is_woken_by_presence() {
    let mut outbox = Outbox::default();
    let connection = outbox.attach().expect("it has not ended");
    outbox.set_inactive(true);
    let typing = Element::new("message", ns::CLIENT).with_child(Element::new("composing", ns::CHAT_STATES));
    push(&mut outbox, presence("x@y/1"));
    push(&mut outbox, presence("x@y/2"));
    push(&mut outbox, presence("x@y/1"));
    push(&mut outbox, typing.into());
    assert_eq!(written(&mut outbox, connection), "");
    push(&mut outbox, message("now"));
    let now = written(&mut outbox, connection);
    assert!(now.starts_with("<presence from='x@y/2'/><presence from='x@y/1'/><message"), "{now}");
    assert!(!now.contains("composing"));
    push(&mut outbox, presence("x@y/1"));
    outbox.set_inactive(false);
    assert_eq!(written(&mut outbox, connection), "<presence from='x@y/1'/>");
    assert_eq!(outbox.bytes.bytes, 0);
}

#[test]
fn a_session_that_reads_nothing_ends() {
    let mut outbox = Outbox::default();
    let connection = outbox.attach().expect("it has not ended");
    for _ in 0..WAITING_STANZAS_MAX {
        assert!(push(&mut outbox, message("x")));
    }
    assert!(!push(&mut outbox, message("x")));
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Todo::Wrote(_)) = outbox.poll(&mut cx, connection, |_| true) {}
    assert!(matches!(outbox.poll(&mut cx, connection, |_| true), Poll::Ready(Todo::End(_))));
}

#[test]
fn many_who_read_nothing_share_what_there_is() {
    const ALL: usize = 16 * WAITING_BYTES_SURE;
    let all = Arc::new(AllWaiting::new(ALL));
    let body = "x".repeat(WAITING_BYTES_SURE / 4);
    let fill = |outbox: &mut Outbox| {
        while push(outbox, message(&body)) {}
        outbox.bytes.bytes
    };
    let mut alone = Outbox::among(&all);
    let had = fill(&mut alone);
    assert!(had > ALL / 3 && had < ALL * 2 / 3, "{had}: as much as it leaves others");
    let mut many: Vec<Outbox> = (0..20).map(|_| Outbox::among(&all)).collect();
    for outbox in &mut many {
        fill(outbox);
    }
    assert!(all.bytes.load(Ordering::Relaxed) < ALL + 21 * 2 * WAITING_BYTES_SURE);
    // Whoever reads what they get has it, whatever waits for the others.
    let mut reads = Outbox::among(&all);
    let connection = reads.attach().expect("it is new");
    for _ in 0..100 {
        assert!(push(&mut reads, message(&body)));
        assert!(!written(&mut reads, connection).is_empty());
    }
    drop((alone, many, reads));
    assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
}
