//! What waits of a session, and how many sessions there are.

use super::*;

fn channel(address: &str) -> Arc<Channel> {
    let state = Shared {
        begun_with: Element::new("body", ns::HTTP_BIND),
        next: 1,
        early: BTreeMap::new(),
        incoming: VecDeque::new(),
        waiting: 0,
        outgoing: String::new(),
        attributes: String::new(),
        held: VecDeque::new(),
        answered: VecDeque::new(),
        quiet_since: Instant::now(),
        ended: None,
        waker: None,
    };
    let household = household(address.parse().expect("an address"));
    let limits = Mutex::new(Limits::bytes(512 * 1024));
    Arc::new(Channel { state: Mutex::new(state), wait: WAIT_MAX, hold: 1, limits, household })
}

/// A request with a stanza of that size; it is taken when this returns.
async fn request(channel: &Arc<Channel>, rid: u64, bytes: usize) -> tokio::task::JoinHandle<String> {
    let stanza = Element::text_of("message", ns::CLIENT, "x".repeat(bytes));
    let body = Element::new("body", ns::HTTP_BIND).with_attr("sid", "s").with_child(stanza);
    let asked = tokio::spawn(channel.clone().take(rid, body, bytes));
    while channel.state.lock().next <= rid && !asked.is_finished() {
        tokio::task::yield_now().await;
    }
    asked
}

#[tokio::test]
async fn nothing_more_is_asked_for_while_too_much_waits_to_be_worked_off() {
    let channel = channel("192.0.2.1");
    let first = request(&channel, 1, 1_000).await;
    let second = request(&channel, 2, WAITING_BYTES_MAX).await;
    assert!(channel.state.lock().is_full());
    // With room each would have answered the one before.
    assert_eq!(channel.state.lock().held.len(), 2);
    channel.state.lock().outgoing.push_str("<message xmlns='jabber:client'/>");
    channel.state.lock().answer(channel.hold);
    assert!(!first.is_finished() && !second.is_finished());
    // As it is worked off, the answers go out.
    {
        let mut state = channel.state.lock();
        while state.pop().is_some() {}
        state.answer(channel.hold);
    }
    assert!(first.await.expect("it is answered").contains("<message"));
    assert_eq!(channel.state.lock().held.len(), 1, "one waits for what comes next");
}

#[tokio::test]
async fn who_sends_on_while_too_much_waits_is_shown_out() {
    let channel = channel("192.0.2.1");
    let (first, second) = (request(&channel, 1, WAITING_BYTES_MAX).await, request(&channel, 2, 1_000).await);
    // The same again, over another connection, is no other.
    let again = request(&channel, 2, 1_000).await;
    assert!(!first.is_finished() && !again.is_finished());
    let third = request(&channel, 3, 1_000).await;
    for asked in [first, again, third] {
        assert!(asked.await.expect("it is answered").contains("policy-violation"));
    }
    drop(second);
    assert!(channel.state.lock().ended.is_some());
}

#[test]
fn one_address_cannot_have_all_sessions() {
    let sessions = Sessions::default();
    let add = |sid: usize, address: &str| sessions.add(&sid.to_string(), &channel(address));
    assert!((0..SESSIONS_PER_ADDRESS_MAX).all(|sid| add(sid, "2001:db8::1")));
    assert!(!add(1_000, "2001:db8::2"), "a household has one network");
    assert!(add(1_001, "2001:db8:0:1::1") && add(1_002, "127.0.0.1"));
    sessions.remove("0");
    assert!(add(1_000, "2001:db8::2"));
    assert!(sessions.get("1000").is_some() && sessions.get("0").is_none());
}
