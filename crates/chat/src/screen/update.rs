//! What events do to the screen: keys by where the focus is, news from the engine by what they are. Returns what the engine is
//! to do; does nothing itself.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    forms, mouse,
    state::{App, Connection, Effect, Event, Focus, Kind, Popup, Purpose, Sending},
};
use crate::stumble;

/// Pictures that are kept at once.
const PICTURES_MAX: usize = 50;
/// Times an account is opened anew by itself.
const STUMBLES_MAX: u32 = 20;
/// Popups that wait for their turn; more are dropped, and can be asked for again.
const WAITING_MAX: usize = 16;

/// Takes an event in.
pub fn update(app: &mut App, event: Event) -> Vec<Effect> {
    let effects = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => press(app, key),
        Event::Mouse(mouse) => mouse::point(app, mouse),
        Event::Paste(text) => paste(app, &text),
        Event::Key(_) | Event::Redraw => Vec::new(),
        other => news(app, other),
    };
    if app.popup.is_none() {
        app.popup = app.waiting.pop_front();
    }
    effects
}

/// Shows something that came by itself, or after a while: at once if nothing is in front, else when its turn comes.
fn bring(app: &mut App, popup: Popup) {
    if app.popup.is_none() {
        app.popup = Some(popup);
    } else if app.waiting.len() < WAITING_MAX {
        app.waiting.push_back(popup);
    }
}

fn is_verification(popup: &Popup) -> bool {
    matches!(popup, Popup::Emoji { .. } | Popup::Asked { .. })
}

fn news(app: &mut App, event: Event) -> Vec<Effect> {
    match event {
        Event::Opened { label, user_id, verified, room, drafts } => {
            // Words that are told once, a recovery key, outlive the account they are told in.
            let told = app.popup.take().into_iter().chain(std::mem::take(&mut app.waiting));
            let waiting = told.filter(|popup| matches!(popup, Popup::Text { .. })).collect();
            *app = App { label, user_id, verified, drafts, waiting, stumbles: app.stumbles, ..App::default() };
            if let Some(room) = room {
                return open(app, room);
            }
        }
        Event::NoAccount => app.popup = Some(forms::login("")),
        Event::LoginFailed(reason) => match &mut app.popup {
            Some(Popup::Form { busy, error, .. }) => {
                *busy = false;
                *error = reason;
            }
            _ => trouble(app, reason),
        },
        Event::Rooms(rooms) => {
            // The order changes with what is said; the choice stays with the room.
            let chosen = app.shown_rooms().get(app.room_at).map(|shown| app.rooms[shown.index].id.clone());
            app.rooms = rooms;
            let shown = app.shown_rooms();
            let there = shown.iter().position(|one| Some(&app.rooms[one.index].id) == chosen.as_ref());
            app.room_at = there.unwrap_or(app.room_at.min(shown.len().saturating_sub(1)));
        }
        Event::Timeline { room, thread, items } => {
            if app.room.as_ref() != Some(&room) || thread && app.thread.is_none() {
                return Vec::new();
            }
            let pane = if thread { &mut app.thread_pane } else { &mut app.pane };
            pane.items = items;
            if pane.selected.is_some() && pane.at().is_none() {
                pane.selected = None;
            }
            if pane.selected.is_none() && app.popup.is_none() && app.focus != Focus::Rooms {
                return vec![Effect::Read];
            }
        }
        Event::Typing { room, names } if app.room.as_ref() == Some(&room) => app.typing = names,
        Event::Changed { room, users } if app.room.as_ref() == Some(&room) => app.changed = users,
        Event::Stumbled(words) => return stumbled(app, &words),
        Event::Connection(connection) => {
            if connection == Connection::Online && app.connection != Connection::Online && app.is_trouble {
                app.note.clear();
                app.is_trouble = false;
            }
            app.connection = connection;
        }
        Event::Verified(verified) => app.verified = verified,
        Event::Members { room, rows } if app.room.as_ref() == Some(&room) => {
            bring(app, Popup::Members { rows, at: 0 });
        }
        Event::Devices { user, rows } => {
            // After one was blocked the list is shown again where it was.
            let at = match &app.popup {
                Some(Popup::Devices { user: shown, at, .. }) if *shown == user => *at,
                _ => 0,
            };
            app.popup.take_if(|popup| matches!(popup, Popup::Devices { .. }));
            bring(app, Popup::Devices { user, rows, at });
        }
        Event::Accounts(rows) => bring(app, Popup::Accounts { rows, at: 0 }),
        Event::Picture { event, picture } => {
            if app.pictures.len() >= PICTURES_MAX {
                app.pictures.clear();
            }
            app.pictures.insert(event, picture);
        }
        Event::Show(room) => return open(app, room),
        Event::Note(text) => {
            app.note = text;
            app.is_trouble = false;
        }
        Event::Trouble(text) => trouble(app, text),
        Event::Tell { title, text } => bring(app, Popup::Text { title, text, scroll: 0 }),
        Event::Asked { who, flow } => bring(app, Popup::Asked { who, flow }),
        Event::Emoji(emoji) => bring(app, Popup::Emoji { emoji, answered: false }),
        Event::VerificationEnded(text) => {
            app.popup.take_if(|popup| is_verification(popup));
            app.waiting.retain(|popup| !is_verification(popup));
            app.note = text;
            app.is_trouble = false;
        }
        _ => {}
    }
    Vec::new()
}

/// The engine failed beside the screen. If a session expired in the middle, what was to be sent is kept and sent once the account is
/// opened anew; anything else is told.
fn stumbled(app: &mut App, words: &str) -> Vec<Effect> {
    if stumble::is_expiry(words) && app.stumbles < STUMBLES_MAX && !app.label.is_empty() {
        app.stumbles += 1;
        return vec![Effect::Switch { label: app.label.clone() }];
    }
    trouble(app, format!("Something failed inside ({words}). What you typed is kept; closing and opening helps."));
    Vec::new()
}

fn trouble(app: &mut App, text: String) {
    app.note = text;
    app.is_trouble = true;
}

/// Keeps what was typed here, opens a room, brings back what was typed there.
pub fn open(app: &mut App, room: String) -> Vec<Effect> {
    let mut effects = stow(app);
    app.thread = None;
    app.room = Some(room.clone());
    app.pane = super::state::Pane::default();
    app.typing.clear();
    app.changed.clear();
    bring_back(app);
    if let Some(at) = app.shown_rooms().iter().position(|shown| app.rooms[shown.index].id == room) {
        app.room_at = at;
    }
    app.focus = Focus::Composer;
    effects.extend([Effect::Open { room }, Effect::Keep]);
    effects
}

fn stow(app: &mut App) -> Vec<Effect> {
    if let Some(key) = app.draft_key() {
        let text = app.composer.take();
        // What replaces a sent message is no draft of a new one.
        match text.is_empty() || app.edit.is_some() {
            true => app.drafts.remove(&key),
            false => app.drafts.insert(key, text),
        };
    }
    app.reply = None;
    app.edit = None;
    match std::mem::take(&mut app.told_typing) {
        true => vec![Effect::Typing(false)],
        false => Vec::new(),
    }
}

fn bring_back(app: &mut App) {
    let draft = app.draft_key().and_then(|key| app.drafts.get(&key).cloned()).unwrap_or_default();
    app.composer = super::editor::Editor::new(&draft);
}

fn press(app: &mut App, key: KeyEvent) -> Vec<Effect> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && matches!(key.code, KeyCode::Char('c' | 'q')) {
        let mut effects = stow(app);
        effects.extend([Effect::Keep, Effect::Quit]);
        app.quit = true;
        return effects;
    }
    if app.popup.is_some() {
        return forms::press(app, key);
    }
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::F(1) => return show(app, Popup::Help { scroll: 0 }),
        KeyCode::Tab => {
            app.focus = match app.focus {
                Focus::Rooms => Focus::Timeline,
                Focus::Timeline => Focus::Composer,
                Focus::Composer => Focus::Rooms,
            };
            return Vec::new();
        }
        KeyCode::BackTab => {
            app.focus = match app.focus {
                Focus::Rooms => Focus::Composer,
                Focus::Timeline => Focus::Rooms,
                Focus::Composer => Focus::Timeline,
            };
            return Vec::new();
        }
        KeyCode::Up if alt => return neighbour(app, -1),
        KeyCode::Down if alt => return neighbour(app, 1),
        KeyCode::Char('k') if control => return show(app, forms::filter(&app.room_filter)),
        KeyCode::Char('n') if control => return next_unread(app),
        KeyCode::PageUp => return scroll(app, -10),
        KeyCode::PageDown => return scroll(app, 10),
        KeyCode::Esc => return back(app),
        _ => {}
    }
    match app.focus {
        Focus::Rooms => rooms_key(app, key),
        Focus::Timeline => timeline_key(app, key),
        Focus::Composer => composer_key(app, key),
    }
}

fn show(app: &mut App, popup: Popup) -> Vec<Effect> {
    app.popup = Some(popup);
    Vec::new()
}

fn back(app: &mut App) -> Vec<Effect> {
    app.note.clear();
    app.is_trouble = false;
    if app.reply.take().is_some() {
        return Vec::new();
    }
    if app.edit.take().is_some() {
        app.composer.take();
        return Vec::new();
    }
    if app.active().selected.is_some() {
        app.active_mut().selected = None;
        return vec![Effect::Read];
    }
    if app.thread.is_some() {
        let mut effects = stow(app);
        app.thread = None;
        bring_back(app);
        effects.push(Effect::CloseThread);
        return effects;
    }
    if !app.room_filter.is_empty() {
        app.room_filter.clear();
        return Vec::new();
    }
    app.focus = Focus::Rooms;
    Vec::new()
}

fn neighbour(app: &mut App, step: isize) -> Vec<Effect> {
    let shown = app.shown_rooms();
    let rooms: Vec<usize> =
        shown.iter().enumerate().filter(|(_, one)| !app.rooms[one.index].space).map(|(at, _)| at).collect();
    let here = rooms.iter().position(|at| *at == app.room_at).unwrap_or(0);
    match rooms.get(here.saturating_add_signed(step)) {
        Some(at) if *at != app.room_at => {
            app.room_at = *at;
            enter_room(app)
        }
        _ => Vec::new(),
    }
}

fn next_unread(app: &mut App) -> Vec<Effect> {
    let shown = app.shown_rooms();
    let unread = |at: &usize| shown.get(*at).is_some_and(|one| app.rooms[one.index].unread > 0);
    match (app.room_at + 1..shown.len()).chain(0..app.room_at).find(unread) {
        Some(at) => {
            app.room_at = at;
            enter_room(app)
        }
        None => Vec::new(),
    }
}

/// Opens what is chosen in the list of rooms: a room, a space, or the question what to do about an invitation.
pub fn enter_room(app: &mut App) -> Vec<Effect> {
    let shown = app.shown_rooms();
    let Some(room) = shown.get(app.room_at).map(|one| app.rooms[one.index].clone()) else { return Vec::new() };
    if room.space && !room.invited {
        if !app.collapsed.remove(&room.id) {
            app.collapsed.insert(room.id);
        }
        return Vec::new();
    }
    if room.invited {
        let who = room.inviter.unwrap_or_else(|| "somebody".to_owned());
        let text = format!("{who} invites you to {}. Join?", room.name);
        return show(app, Popup::Question { text, yes: Effect::Join { room: room.id } });
    }
    open(app, room.id)
}

fn rooms_key(app: &mut App, key: KeyEvent) -> Vec<Effect> {
    let last = app.shown_rooms().len().saturating_sub(1);
    let here = app.shown_rooms().get(app.room_at).map(|one| app.rooms[one.index].clone());
    match key.code {
        KeyCode::Up | KeyCode::Char('k') => app.room_at = app.room_at.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => app.room_at = (app.room_at + 1).min(last),
        KeyCode::Home | KeyCode::Char('g') => app.room_at = 0,
        KeyCode::End | KeyCode::Char('G') => app.room_at = last,
        KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => return enter_room(app),
        KeyCode::Char('/') => return show(app, forms::filter(&app.room_filter)),
        KeyCode::Char('c') => return show(app, forms::create()),
        KeyCode::Char('o') => return show(app, forms::join()),
        KeyCode::Char('a') => return vec![Effect::Accounts],
        KeyCode::Char('V') => return show(app, forms::trust_this_device()),
        KeyCode::Char('v') => return vec![Effect::Verify { user: None }],
        KeyCode::Char('x') => {
            if let Some(room) = here {
                let what = if room.invited { "Decline the invitation to" } else { "Leave" };
                let text = format!("{what} {}?", room.name);
                return show(app, Popup::Question { text, yes: Effect::Leave { room: room.id } });
            }
        }
        KeyCode::Char('?') => return show(app, Popup::Help { scroll: 0 }),
        KeyCode::Char('q') => {
            let text = "Close koine-chat? What you typed is kept.".to_owned();
            return show(app, Popup::Question { text, yes: Effect::Quit });
        }
        _ => {}
    }
    Vec::new()
}

/// Moves the selection; older messages are asked for at the top.
pub fn scroll(app: &mut App, step: isize) -> Vec<Effect> {
    let pane = app.active_mut();
    let last = pane.items.len().saturating_sub(1);
    let here = pane.at().unwrap_or(if step < 0 { pane.items.len() } else { last });
    let there = here.saturating_add_signed(step);
    if there > last || pane.items.is_empty() {
        pane.selected = None;
        return vec![Effect::Read];
    }
    pane.selected = pane.items.get(there).map(|item| item.key.clone());
    if app.focus == Focus::Composer {
        app.focus = Focus::Timeline;
    }
    if there < 5 && step < 0 { vec![Effect::Older] } else { Vec::new() }
}

fn timeline_key(app: &mut App, key: KeyEvent) -> Vec<Effect> {
    let current = app.active().current().cloned();
    match key.code {
        KeyCode::Up | KeyCode::Char('k') => return scroll(app, -1),
        KeyCode::Down | KeyCode::Char('j') => return scroll(app, 1),
        KeyCode::Home | KeyCode::Char('g') => return scroll(app, isize::MIN / 2),
        KeyCode::End | KeyCode::Char('G') => {
            app.active_mut().selected = None;
            return vec![Effect::Read];
        }
        KeyCode::Char('?') => return show(app, Popup::Help { scroll: 0 }),
        KeyCode::Char('/') => return show(app, forms::search(&app.search)),
        KeyCode::Char('n') => return find(app, true),
        KeyCode::Char('N') => return find(app, false),
        KeyCode::Char('w') => return app.room.clone().map(|room| Effect::Members { room }).into_iter().collect(),
        KeyCode::Char('I') => return show(app, forms::invite()),
        KeyCode::Char('S') => {
            if let Some(room) = app.open_room().cloned() {
                return show(app, forms::settings(&room));
            }
        }
        KeyCode::Char('u') => return show(app, forms::send_file()),
        KeyCode::Char('i' | 'c') => app.focus = Focus::Composer,
        _ => {}
    }
    let Some(item) = current.filter(super::state::Item::is_message) else {
        if matches!(key.code, KeyCode::Char('r' | 'e' | 'x' | 'd' | 't' | '+' | 'v' | 's' | 'R') | KeyCode::Enter) {
            trouble(app, "This line is no message: ↑ and ↓ choose one.".to_owned());
        }
        return Vec::new();
    };
    match key.code {
        KeyCode::Char('r') => {
            if let Some(event) = &item.event_id {
                app.reply = Some((event.clone(), item.name.clone()));
                app.focus = Focus::Composer;
            }
        }
        KeyCode::Char('e') if item.own && item.editable => return begin_edit(app, &item),
        KeyCode::Char('e') => trouble(app, "Only your own messages can be edited.".to_owned()),
        KeyCode::Char('x' | 'd') => {
            let text = format!("Remove this message of {} for everybody?", item.name);
            return show(app, Popup::Question { text, yes: Effect::Redact { key: item.key } });
        }
        KeyCode::Char('t') | KeyCode::Right => return open_thread(app, &item),
        KeyCode::Char('+') => {
            app.active_mut().selected = Some(item.key);
            return show(app, forms::react());
        }
        KeyCode::Char('v') if item.kind == Kind::Image => {
            return item.event_id.map(|event| Effect::Picture { event }).into_iter().collect();
        }
        KeyCode::Char('s') if item.file.is_some() => {
            return item.event_id.map(|event| Effect::SaveFile { event }).into_iter().collect();
        }
        KeyCode::Char('R') if matches!(item.sending, Sending::Failed(_)) => {
            return vec![Effect::Retry { key: item.key }];
        }
        KeyCode::Char('v') => trouble(app, "This message is no picture.".to_owned()),
        KeyCode::Char('s') => trouble(app, "This message carries no file.".to_owned()),
        KeyCode::Enter => return show(app, forms::details(&item)),
        _ => {}
    }
    Vec::new()
}

fn begin_edit(app: &mut App, item: &super::state::Item) -> Vec<Effect> {
    app.reply = None;
    app.edit = Some(item.key.clone());
    app.composer = super::editor::Editor::new(&item.body);
    app.focus = Focus::Composer;
    Vec::new()
}

fn open_thread(app: &mut App, item: &super::state::Item) -> Vec<Effect> {
    let (Some(room), Some(root), None) = (app.room.clone(), item.event_id.clone(), &app.thread) else {
        return Vec::new();
    };
    let mut effects = stow(app);
    app.thread = Some(root.clone());
    app.thread_pane = super::state::Pane::default();
    bring_back(app);
    app.focus = Focus::Composer;
    effects.push(Effect::OpenThread { room, root });
    effects
}

/// The next message before (or after) the selection that holds what is searched for.
pub fn find(app: &mut App, back: bool) -> Vec<Effect> {
    let wanted = app.search.to_lowercase();
    if wanted.is_empty() {
        return Vec::new();
    }
    let pane = app.active();
    let fits = |at: &usize| {
        let item = &pane.items[*at];
        item.is_message() && (item.body.to_lowercase().contains(&wanted) || item.name.to_lowercase().contains(&wanted))
    };
    let here = pane.at().unwrap_or(pane.items.len());
    let found = match back {
        true => (0..here).rev().find(fits),
        false => (here + 1..pane.items.len()).find(fits),
    };
    match found {
        Some(at) => {
            let key = pane.items[at].key.clone();
            app.active_mut().selected = Some(key);
            app.focus = Focus::Timeline;
            Vec::new()
        }
        None => {
            trouble(app, format!("“{}” is not in what is loaded; PageUp loads more.", app.search));
            if back { vec![Effect::Older] } else { Vec::new() }
        }
    }
}

fn composer_key(app: &mut App, key: KeyEvent) -> Vec<Effect> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Char('?') if app.composer.is_empty() && app.edit.is_none() => {
            return show(app, Popup::Help { scroll: 0 });
        }
        KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => app.composer.insert("\n"),
        KeyCode::Enter => return send(app),
        KeyCode::Char('j') if control => app.composer.insert("\n"),
        KeyCode::Char('u') if control => {
            app.composer.take();
        }
        KeyCode::Char('w') if control => app.composer.delete_word(),
        KeyCode::Char('a') if control => app.composer.home(),
        KeyCode::Char('e') if control => app.composer.end(),
        KeyCode::Char(letter) if !control && !alt => app.composer.insert(letter.encode_utf8(&mut [0; 4])),
        KeyCode::Backspace if alt => app.composer.delete_word(),
        KeyCode::Backspace => app.composer.backspace(),
        KeyCode::Delete => app.composer.delete(),
        KeyCode::Left => app.composer.left(),
        KeyCode::Right => app.composer.right(),
        KeyCode::Home => app.composer.home(),
        KeyCode::End => app.composer.end(),
        KeyCode::Up if app.composer.is_empty() => {
            let own = app.active().items.iter().rev().find(|item| item.own && item.editable).cloned();
            return match own {
                Some(item) => begin_edit(app, &item),
                None => scroll(app, -1),
            };
        }
        KeyCode::Up => {
            app.focus = Focus::Timeline;
        }
        _ => return Vec::new(),
    }
    typed(app)
}

/// After a change of the text: it is kept, and others are told that somebody types.
fn typed(app: &mut App) -> Vec<Effect> {
    let types = !app.composer.is_empty() && !app.composer.text().starts_with('/');
    let mut effects = Vec::new();
    if let Some(key) = app.draft_key()
        && app.edit.is_none()
    {
        app.drafts.insert(key, app.composer.text().to_owned());
        effects.push(Effect::Keep);
    }
    if types != app.told_typing && app.room.is_some() {
        app.told_typing = types;
        effects.push(Effect::Typing(types));
    }
    effects
}

fn send(app: &mut App) -> Vec<Effect> {
    if app.room.is_none() || app.composer.text().trim().is_empty() {
        return Vec::new();
    }
    let text = app.composer.text().to_owned();
    if text.starts_with('/') && !text.starts_with("//") {
        return match super::slash::read(app, &text) {
            Ok(effects) => {
                app.composer.take();
                let mut all = typed(app);
                all.extend(effects);
                all
            }
            Err(words) => {
                trouble(app, words);
                Vec::new()
            }
        };
    }
    app.composer.take();
    let text = text.strip_prefix('/').filter(|rest| rest.starts_with('/')).map_or(text.clone(), ToOwned::to_owned);
    let effect =
        Effect::Send { text, emote: false, reply: app.reply.take().map(|(event, _)| event), edit: app.edit.take() };
    app.active_mut().selected = None;
    let mut effects = typed(app);
    effects.push(effect);
    effects
}

fn paste(app: &mut App, text: &str) -> Vec<Effect> {
    if app.popup.is_some() {
        forms::paste(app, text);
    } else if app.room.is_some() {
        app.focus = Focus::Composer;
        app.composer.insert(text);
        return typed(app);
    }
    Vec::new()
}

/// What a form asks the engine for once it is filled in; the form's own words if something is missing.
pub fn submit(app: &mut App, purpose: Purpose) -> Vec<Effect> {
    forms::submit(app, purpose)
}
