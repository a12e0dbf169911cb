//! The screen without a terminal: events in, effects and pictures out.

use std::collections::HashMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend};

use super::{
    draw::draw,
    forms,
    state::{
        App, Changes, Connection, DeviceRow, Effect, Event, Focus, Item, Kind, MemberRow, Popup, RoomRow, Sending,
    },
    update::update,
};
use crate::harmless;

fn picture(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

fn key(app: &mut App, code: KeyCode) -> Vec<Effect> {
    update(app, Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn typed(app: &mut App, text: &str) -> Vec<Effect> {
    text.chars().flat_map(|letter| key(app, KeyCode::Char(letter))).collect()
}

fn row(id: &str, name: &str) -> RoomRow {
    RoomRow { id: id.into(), name: name.into(), encrypted: true, members: 2, ..RoomRow::default() }
}

fn said(key: &str, name: &str, body: &str) -> Item {
    Item {
        key: key.into(),
        event_id: Some(format!("${key}")),
        sender: format!("@{name}:x"),
        name: name.into(),
        body: body.into(),
        time_ms: 43_200_000,
        trust: "verified",
        words: "from a verified device of a verified person",
        ..Item::default()
    }
}

/// An account is there.
fn log_in(app: &mut App) {
    let opened = Event::Opened {
        label: "one".into(),
        user_id: "@me:x".into(),
        verified: true,
        room: None,
        drafts: HashMap::new(),
    };
    update(app, opened);
}

/// Somebody with three rooms, one of them open.
fn opened() -> App {
    let mut app = App::default();
    log_in(&mut app);
    let mut space = row("!space", "Work");
    space.space = true;
    let mut inside = row("!inside", "Plans");
    inside.parents = vec!["!space".into()];
    inside.unread = 3;
    let mut invitation = row("!new", "Party");
    (invitation.invited, invitation.inviter) = (true, Some("@bob:x".into()));
    update(&mut app, Event::Rooms(vec![row("!tea", "Tea"), space, inside, invitation]));
    app.room_at = 1;
    let effects = key(&mut app, KeyCode::Enter);
    assert!(effects.contains(&Effect::Open { room: "!tea".into() }));
    let items = vec![
        Item { key: "day".into(), kind: Kind::Day, time_ms: 1_795_996_800_000, ..Item::default() },
        said("1", "bob", "hello"),
        Item { own: true, editable: true, ..said("2", "me", "hi there") },
    ];
    update(&mut app, Event::Timeline { room: "!tea".into(), thread: false, items });
    update(&mut app, Event::Connection(Connection::Online));
    app
}

#[test]
fn rooms_messages_and_writing_are_on_the_screen() {
    let mut app = opened();
    let seen = picture(&mut app, 90, 12);
    let expected = "\
┌ Rooms ─────────────────────┐🔒  Tea  2 members
│✉ Party                     │
│  Tea                       │
│▾ Work                      │
│    Plans                  3│
│                            │                      ── 2026-11-30 ──
│                            │12:00 ✔ bob: hello
│                            │12:00 ✔ me: hi there
│                            │┌──────────────────────────────────────────────────────────┐";
    let begin: Vec<&str> = seen.lines().take(9).collect();
    let wanted: Vec<&str> = expected.lines().take(9).collect();
    assert_eq!(begin.join("\n"), wanted.join("\n"), "\n{seen}");
    assert!(seen.contains("Write an encrypted message"));
    assert!(seen.ends_with("● @me:x Enter sends  Tab goes on  ? keys"), "{seen}");
}

#[test]
fn a_message_is_sent_and_an_answer_belongs_to_what_it_answers() {
    let mut app = opened();
    let effects = typed(&mut app, "good morning");
    assert!(effects.contains(&Effect::Typing(true)));
    let effects = key(&mut app, KeyCode::Enter);
    let plain = Effect::Send { text: "good morning".into(), emote: false, reply: None, edit: None };
    assert!(effects.contains(&plain), "{effects:?}");
    assert!(app.composer.is_empty());
    key(&mut app, KeyCode::BackTab);
    key(&mut app, KeyCode::Up);
    key(&mut app, KeyCode::Up);
    key(&mut app, KeyCode::Char('r'));
    typed(&mut app, "and to you");
    let effects = key(&mut app, KeyCode::Enter);
    let reply = Effect::Send { text: "and to you".into(), emote: false, reply: Some("$1".into()), edit: None };
    assert!(effects.contains(&reply), "{effects:?}");
}

#[test]
fn the_last_own_message_is_edited_with_the_up_key_and_others_are_not() {
    let mut app = opened();
    key(&mut app, KeyCode::Up);
    assert_eq!(app.composer.text(), "hi there");
    typed(&mut app, "!");
    let effects = key(&mut app, KeyCode::Enter);
    let edit = Effect::Send { text: "hi there!".into(), emote: false, reply: None, edit: Some("2".into()) };
    assert!(effects.contains(&edit), "{effects:?}");
    app.focus = Focus::Timeline;
    app.pane.selected = Some("1".into());
    key(&mut app, KeyCode::Char('e'));
    assert!(app.is_trouble && app.edit.is_none());
}

#[test]
fn what_was_typed_is_there_again_when_its_room_is() {
    let mut app = opened();
    typed(&mut app, "half a");
    update(&mut app, Event::Show("!inside".into()));
    assert!(app.composer.is_empty());
    update(&mut app, Event::Show("!tea".into()));
    assert_eq!(app.composer.text(), "half a");
    update(&mut app, Event::Connection(Connection::Lost("no route".into())));
    assert_eq!(app.composer.text(), "half a");
    assert!(picture(&mut app, 90, 12).contains("offline, trying again: no route"));
}

#[test]
fn a_message_that_was_not_sent_says_why_and_is_sent_again() {
    let mut app = opened();
    let failed = Item { own: true, sending: Sending::Failed("too large".into()), ..said("3", "me", "big") };
    update(&mut app, Event::Timeline { room: "!tea".into(), thread: false, items: vec![failed] });
    assert!(picture(&mut app, 90, 12).contains("not sent: too large"));
    app.focus = Focus::Timeline;
    assert_eq!(key(&mut app, KeyCode::Char('R')), [Effect::Retry { key: "3".into() }]);
}

#[test]
fn what_cannot_be_read_and_what_cannot_be_trusted_say_why() {
    let mut app = opened();
    let mut unread = said("3", "bob", "");
    (unread.kind, unread.trust, unread.words) = (Kind::Undecryptable, "before-you-joined", "sent before you joined");
    let mut unsigned = said("4", "bob", "psst");
    (unsigned.trust, unsigned.words) = ("unsigned-device", "this device is not verified by its owner");
    update(&mut app, Event::Timeline { room: "!tea".into(), thread: false, items: vec![unread, unsigned] });
    let seen = picture(&mut app, 100, 14);
    assert!(seen.contains("cannot be read: sent before you joined"), "{seen}");
    assert!(seen.contains("! this device is not verified by its owner"), "{seen}");
}

#[test]
fn an_invitation_is_asked_about() {
    let mut app = opened();
    app.focus = Focus::Rooms;
    app.room_at = 0;
    key(&mut app, KeyCode::Enter);
    assert!(picture(&mut app, 90, 20).contains("@bob:x invites you to Party. Join?"));
    assert_eq!(key(&mut app, KeyCode::Char('y')), [Effect::Join { room: "!new".into() }]);
}

#[test]
fn a_space_closes_and_opens() {
    let mut app = opened();
    app.focus = Focus::Rooms;
    app.room_at = 2;
    key(&mut app, KeyCode::Enter);
    assert!(!picture(&mut app, 90, 12).contains("Plans"));
    key(&mut app, KeyCode::Enter);
    assert!(picture(&mut app, 90, 12).contains("Plans"));
}

#[test]
fn a_newcomer_is_told_what_this_is_and_asked_for_an_address_and_a_name() {
    let mut app = App::default();
    update(&mut app, Event::NoAccount);
    let seen = picture(&mut app, 90, 24);
    assert!(seen.contains("Welcome to koine-chat") && seen.contains("Server:") && seen.contains("Password:"), "{seen}");
    forms::fill(app.popup.as_mut().unwrap(), &["http://localhost:8008", "alice", "wonderland"]);
    assert!(!picture(&mut app, 90, 24).contains("wonderland"));
    let wish =
        Effect::Login { server: "http://localhost:8008".into(), user: "alice".into(), password: "wonderland".into() };
    assert_eq!(key(&mut app, KeyCode::Enter), [wish]);
    update(&mut app, Event::LoginFailed("wrong password".into()));
    assert!(picture(&mut app, 90, 24).contains("wrong password"));
}

#[test]
fn commands_are_read_and_unknown_ones_keep_what_was_typed() {
    let mut app = opened();
    typed(&mut app, "/join #tea:example.org");
    let effects = key(&mut app, KeyCode::Enter);
    assert!(effects.contains(&Effect::Join { room: "#tea:example.org".into() }));
    typed(&mut app, "/nonsense");
    key(&mut app, KeyCode::Enter);
    assert_eq!(app.composer.text(), "/nonsense");
    assert!(app.is_trouble);
}

#[test]
fn search_goes_through_what_is_loaded() {
    let mut app = opened();
    app.focus = Focus::Timeline;
    key(&mut app, KeyCode::Char('/'));
    typed(&mut app, "HELLO");
    key(&mut app, KeyCode::Enter);
    assert_eq!(app.pane.selected.as_deref(), Some("1"));
    key(&mut app, KeyCode::Char('n'));
    assert!(app.is_trouble);
}

#[test]
fn the_mouse_opens_rooms_and_chooses_messages() {
    let mut app = opened();
    picture(&mut app, 90, 12);
    let click = |column, row| {
        Event::Mouse(MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column,
            row,
            modifiers: KeyModifiers::NONE,
        })
    };
    update(&mut app, click(40, 6));
    assert_eq!(app.pane.selected.as_deref(), Some("1"));
    let effects = update(&mut app, click(5, 4));
    assert!(effects.contains(&Effect::Open { room: "!inside".into() }), "{effects:?}");
}

#[test]
fn help_shows_all_keys_and_any_key_closes_it() {
    let mut app = opened();
    key(&mut app, KeyCode::Char('?'));
    assert!(picture(&mut app, 100, 60).contains("Everywhere"));
    key(&mut app, KeyCode::Esc);
    assert_eq!(app.popup, None);
}

#[test]
fn older_messages_are_asked_for_at_the_top_and_the_selection_stays_in_view() {
    let mut app = opened();
    let many: Vec<Item> = (0..100).map(|number| said(&number.to_string(), "bob", &format!("line {number}"))).collect();
    update(&mut app, Event::Timeline { room: "!tea".into(), thread: false, items: many });
    app.focus = Focus::Timeline;
    let mut effects = Vec::new();
    for _ in 0..98 {
        effects = key(&mut app, KeyCode::Up);
        let chosen = app.pane.current().unwrap().body.clone();
        assert!(picture(&mut app, 90, 12).contains(&chosen), "{chosen}");
    }
    assert_eq!(effects, [Effect::Older]);
    for _ in 0..97 {
        key(&mut app, KeyCode::Down);
        let chosen = app.pane.current().unwrap().body.clone();
        assert!(picture(&mut app, 90, 12).contains(&chosen), "{chosen}");
    }
}

#[test]
fn what_comes_by_itself_waits_behind_what_is_read_and_a_recovery_key_is_closed_on_purpose() {
    let mut app = App::default();
    update(&mut app, Event::NoAccount);
    log_in(&mut app);
    update(&mut app, Event::Tell { title: "You are in".into(), text: "EsTc 1234".into() });
    update(&mut app, Event::Asked { who: "@bob:x".into(), flow: "f".into() });
    update(&mut app, Event::Rooms(vec![row("!tea", "Tea")]));
    typed(&mut app, "hello");
    assert!(picture(&mut app, 90, 20).contains("EsTc 1234"));
    key(&mut app, KeyCode::Enter);
    assert!(picture(&mut app, 90, 20).contains("@bob:x wants to verify"));
    update(&mut app, Event::VerificationEnded("cancelled".into()));
    assert_eq!(app.popup, None);
}

#[test]
fn whose_identity_changed_is_shown_until_somebody_decides() {
    let mut app = opened();
    update(&mut app, Event::Changed { room: "!tea".into(), users: vec!["@bob:x".into()] });
    assert!(picture(&mut app, 100, 14).contains("! the identity of @bob:x is another than it was"));
    let bob = MemberRow { user_id: "@bob:x".into(), name: "bob".into(), trust: "changed", ..MemberRow::default() };
    update(&mut app, Event::Members { room: "!tea".into(), rows: vec![bob] });
    key(&mut app, KeyCode::Char('A'));
    assert!(picture(&mut app, 100, 20).contains("Believe the new one"));
    assert_eq!(key(&mut app, KeyCode::Char('y')), [Effect::AcceptIdentity { user: "@bob:x".into() }]);
    update(&mut app, Event::Changed { room: "!tea".into(), users: Vec::new() });
    assert!(!picture(&mut app, 100, 14).contains("another than it was"));
}

#[test]
fn settings_change_what_was_changed_in_the_form() {
    let mut app = opened();
    app.focus = Focus::Timeline;
    key(&mut app, KeyCode::Char('S'));
    typed(&mut app, " time");
    for _ in 0..2 {
        key(&mut app, KeyCode::Tab);
    }
    key(&mut app, KeyCode::Char(' '));
    key(&mut app, KeyCode::Enter);
    let changes = Changes { name: Some("Tea time".into()), public: Some(true), ..Changes::default() };
    assert_eq!(key(&mut app, KeyCode::Enter), [Effect::Settings { room: "!tea".into(), changes }]);
}

#[test]
fn a_device_is_blocked_from_the_list_of_members() {
    let mut app = opened();
    let bob = MemberRow { user_id: "@bob:x".into(), name: "bob".into(), ..MemberRow::default() };
    update(&mut app, Event::Members { room: "!tea".into(), rows: vec![bob] });
    assert_eq!(key(&mut app, KeyCode::Char('d')), [Effect::Devices { user: "@bob:x".into() }]);
    let device = |blocked| DeviceRow {
        device_id: "PHONE".into(),
        words: "not verified by its owner",
        blocked,
        ..DeviceRow::default()
    };
    update(&mut app, Event::Devices { user: "@bob:x".into(), rows: vec![device(false)] });
    assert!(picture(&mut app, 100, 14).contains("PHONE"));
    let block = |block| Effect::Block { user: "@bob:x".into(), device: "PHONE".into(), block };
    assert_eq!(key(&mut app, KeyCode::Char('b')), [block(true)]);
    update(&mut app, Event::Devices { user: "@bob:x".into(), rows: vec![device(true)] });
    assert_eq!(key(&mut app, KeyCode::Char('b')), [block(false)]);
}

#[test]
fn an_engine_that_stumbles_over_a_session_is_begun_anew_and_other_words_are_shown() {
    let mut app = opened();
    typed(&mut app, "half a");
    let effects = update(&mut app, Event::Stumbled("Session expired".into()));
    assert_eq!(effects, [Effect::Switch { label: "one".into() }]);
    assert!(update(&mut app, Event::Stumbled("something else".into())).is_empty());
    assert!(app.is_trouble && app.note.contains("something else"));
    assert_eq!(app.composer.text(), "half a");
}

#[test]
fn the_choice_stays_with_its_room_when_the_order_changes() {
    let mut app = opened();
    app.focus = Focus::Rooms;
    let newer = RoomRow { latest_ms: 5, ..row("!new", "New") };
    update(&mut app, Event::Rooms(vec![row("!tea", "Tea"), newer]));
    let shown = app.shown_rooms();
    assert_eq!(app.rooms[shown[app.room_at].index].id, "!tea");
}

#[test]
fn what_is_pasted_is_kept_like_what_is_typed() {
    let mut app = opened();
    let effects = update(&mut app, Event::Paste("from elsewhere".into()));
    assert!(effects.contains(&Effect::Keep), "{effects:?}");
    assert_eq!(app.composer.text(), "from elsewhere");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_terminal_of_any_size_shows_any_text_and_obeys_none(width in 0..120_u16, height in 0..40_u16, name in any::<String>(), body in any::<String>(), typed_text in any::<String>()) {
        let mut app = opened();
        let room = RoomRow { topic: body.clone(), ..row("!tea", &name) };
        update(&mut app, Event::Rooms(vec![room]));
        let item = Item { reply: Some((name.clone(), body.clone())), reactions: vec![(name.clone(), 1, true)], readers: vec![name.clone()], ..said("9", &name, &body) };
        update(&mut app, Event::Timeline { room: "!tea".into(), thread: false, items: vec![item] });
        update(&mut app, Event::Paste(typed_text.clone()));
        update(&mut app, Event::Typing { room: "!tea".into(), names: vec![name.clone()] });
        let mut popups = vec![None, Some(Popup::Help { scroll: 3 }), Some(forms::create()), Some(forms::search(&typed_text))];
        popups.push(Some(Popup::Text { title: name.clone(), text: body.clone(), scroll: 99 }));
        let device = DeviceRow { device_id: name.clone(), name: body.clone(), ..DeviceRow::default() };
        popups.push(Some(Popup::Devices { user: name.clone(), rows: vec![device], at: 0 }));
        let member = MemberRow { user_id: name.clone(), name: body.clone(), trust: "changed", ..MemberRow::default() };
        popups.push(Some(Popup::Members { rows: vec![member], at: 0 }));
        app.changed = vec![name.clone()];
        popups.push(Some(Popup::Emoji { emoji: vec![("🐶".into(), "Dog".into()); 7], answered: false }));
        for popup in popups {
            app.popup = popup;
            for focus in [Focus::Rooms, Focus::Timeline, Focus::Composer] {
                app.focus = focus;
                let seen = picture(&mut app, width, height);
                prop_assert!(!seen.chars().any(|letter| letter != '\n' && harmless::acts(letter)));
            }
        }
    }

    #[test]
    fn any_keys_in_any_order_do_no_harm(keys in prop::collection::vec((0..24_u8, any::<char>(), any::<bool>()), 0..80)) {
        let mut app = opened();
        for (which, letter, control) in keys {
            let code = match which {
                0 => KeyCode::Enter, 1 => KeyCode::Esc, 2 => KeyCode::Tab, 3 => KeyCode::BackTab, 4 => KeyCode::Up,
                5 => KeyCode::Down, 6 => KeyCode::Left, 7 => KeyCode::Right, 8 => KeyCode::PageUp, 9 => KeyCode::PageDown,
                10 => KeyCode::Home, 11 => KeyCode::End, 12 => KeyCode::Backspace, 13 => KeyCode::Delete, 14 => KeyCode::F(1),
                15 => KeyCode::Char(['r', 'e', 'x', 't', '+', 'v', 's', 'w', 'I', 'S', 'u', '/', 'n', 'c', 'o', 'a', 'V', 'y'][letter as usize % 18]),
                _ => KeyCode::Char(letter),
            };
            let modifiers = if control { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
            update(&mut app, Event::Key(KeyEvent::new(code, modifiers)));
            picture(&mut app, 80, 20);
        }
    }
}
