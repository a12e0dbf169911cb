//! What is in front of the rest: forms, questions, lists, texts. How they begin, what keys do to them, what they end in.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    state::{App, Changes, Effect, Field, Item, Kind, Popup, Purpose, RoomRow, Sending, Value},
    update,
};

fn form(purpose: Purpose, title: &'static str, text: &str, fields: Vec<Field>) -> Popup {
    Popup::Form { purpose, title, text: text.to_owned(), fields, at: 0, busy: false, error: String::new() }
}

/// The first thing a newcomer sees.
pub fn login(server: &str) -> Popup {
    form(
        Purpose::Login,
        "Welcome to koine-chat",
        "A client for Matrix, the open network for messages. What you write is encrypted on this machine and decrypted on those \
         of the people you write to; the server in between cannot read it.\n\nYou need an account on a Matrix server. Its address \
         can be a name (example.org) or a URL (http://localhost:8008). The keys are kept on this machine alone, for you alone.",
        vec![Field::text("Server", server), Field::text("Name", ""), Field::secret("Password")],
    )
}

/// A new room.
pub fn create() -> Popup {
    form(
        Purpose::Create,
        "New room",
        "Encrypted, for people you invite, unless you say otherwise.",
        vec![
            Field::text("Name", ""),
            Field::text("Topic", ""),
            Field::text("Invite (@name:server, with spaces between)", ""),
            Field::switch("Anybody may join", false),
            Field::switch("Not encrypted", false),
        ],
    )
}

/// Joining by address.
pub fn join() -> Popup {
    form(Purpose::Join, "Join a room", "Its address looks like #tea:example.org.", vec![Field::text("Address", "#")])
}

/// Inviting.
pub fn invite() -> Popup {
    form(Purpose::Invite, "Invite", "Somebody's user id looks like @name:example.org.", vec![Field::text("User", "@")])
}

/// Reacting.
pub fn react() -> Popup {
    form(Purpose::React, "React", "👍  ❤  😄  🎉  👀  🙏 - or anything else.", vec![Field::text("With", "👍")])
}

/// A room's settings.
pub fn settings(room: &RoomRow) -> Popup {
    let mut fields = vec![
        Field::text("Name", &room.name),
        Field::text("Topic", &room.topic),
        Field::switch("Anybody may join", room.public),
        Field::switch("New members read what was said before they came", room.shows_past),
    ];
    let text = match room.encrypted {
        true => "This room is encrypted. That cannot be undone.",
        false => {
            fields.push(Field::switch("Encrypt from now on (cannot be undone)", false));
            "This room is not encrypted: servers can read what is said here."
        }
    };
    form(Purpose::Settings, "Settings of the room", text, fields)
}

/// Verifying this device.
pub fn trust_this_device() -> Popup {
    form(
        Purpose::Recover,
        "Make this device trusted",
        "With the recovery key of your account this device can read old messages, and others see that it is yours. (With another \
         device at hand, close this and press v in the list of rooms to compare emoji instead.)",
        vec![Field::secret("Recovery key")],
    )
}

/// Sending a file.
pub fn send_file() -> Popup {
    form(Purpose::SendFile, "Send a file", "It is encrypted if the room is.", vec![Field::text("File", "")])
}

/// Searching what is loaded.
pub fn search(last: &str) -> Popup {
    form(
        Purpose::SearchMessages,
        "Search what is loaded",
        "n goes on to older ones, N to newer ones.",
        vec![Field::text("For", last)],
    )
}

/// Narrowing the list of rooms.
pub fn filter(last: &str) -> Popup {
    form(
        Purpose::FilterRooms,
        "Find a room",
        "Enter shows those that fit, Esc all again.",
        vec![Field::text("Name", last)],
    )
}

/// What is to be known about a message.
pub fn details(item: &Item) -> Popup {
    let mut text = format!("From {} ({})\n", item.name, item.sender);
    match item.kind {
        Kind::Undecryptable => text.push_str(&format!("It cannot be read: {}.\n", item.words)),
        _ if item.trust == "plain" => text.push_str("It was not encrypted.\n"),
        _ => text.push_str(&format!("Encrypted, {}.\n", item.words)),
    }
    if let Some(device) = &item.device {
        text.push_str(&format!("Device {device}\n"));
    }
    if let Some(event) = &item.event_id {
        text.push_str(&format!("Event {event}\n"));
    }
    if let Sending::Failed(reason) = &item.sending {
        text.push_str(&format!("It was not sent: {reason}. R sends it again.\n"));
    }
    if !item.readers.is_empty() {
        text.push_str(&format!("Read by {}\n", item.readers.join(", ")));
    }
    Popup::Text { title: "Message".to_owned(), text, scroll: 0 }
}

/// A key while something is in front.
pub fn press(app: &mut App, key: KeyEvent) -> Vec<Effect> {
    let Some(mut popup) = app.popup.take() else { return Vec::new() };
    match &mut popup {
        Popup::Help { scroll } => match key.code {
            code if scrolled(scroll, code) => {}
            _ => return Vec::new(),
        },
        // It may be a recovery key: whoever goes on typing does not close it.
        Popup::Text { scroll, .. } => match key.code {
            KeyCode::Enter | KeyCode::Esc => return Vec::new(),
            code => {
                scrolled(scroll, code);
            }
        },
        Popup::Members { rows, at } => match key.code {
            KeyCode::Down | KeyCode::Char('j') => *at = (*at + 1).min(rows.len().saturating_sub(1)),
            KeyCode::Up | KeyCode::Char('k') => *at = at.saturating_sub(1),
            KeyCode::Char('v') => {
                let user = rows.get(*at).map(|row| row.user_id.clone());
                return user.map(|user| Effect::Verify { user: Some(user) }).into_iter().collect();
            }
            KeyCode::Enter | KeyCode::Char('d') => {
                let user = rows.get(*at).map(|row| row.user_id.clone());
                return user.map(|user| Effect::Devices { user }).into_iter().collect();
            }
            KeyCode::Char('A') => {
                let row = rows.get(*at).filter(|row| row.trust == "changed");
                let question = row.map(|row| Popup::Question {
                    text: format!(
                        "The identity of {} is another than it was. Believe the new one without comparing emoji? Whoever \
                         runs their server could have made it.",
                        row.user_id
                    ),
                    yes: Effect::AcceptIdentity { user: row.user_id.clone() },
                });
                if question.is_some() {
                    app.popup = question;
                    return Vec::new();
                }
            }
            KeyCode::Char('I') => {
                app.popup = Some(invite());
                return Vec::new();
            }
            _ => return Vec::new(),
        },
        Popup::Devices { user, rows, at } => match key.code {
            KeyCode::Down | KeyCode::Char('j') => *at = (*at + 1).min(rows.len().saturating_sub(1)),
            KeyCode::Up | KeyCode::Char('k') => *at = at.saturating_sub(1),
            KeyCode::Char('b') => {
                let block = rows.get(*at).map(|row| Effect::Block {
                    user: user.clone(),
                    device: row.device_id.clone(),
                    block: !row.blocked,
                });
                // It stays until the engine shows how the devices stand now.
                app.popup = Some(popup);
                return block.into_iter().collect();
            }
            KeyCode::Char('v') => return vec![Effect::Verify { user: Some(user.clone()) }],
            _ => return Vec::new(),
        },
        Popup::Accounts { rows, at } => match key.code {
            KeyCode::Down | KeyCode::Char('j') => *at = (*at + 1).min(rows.len().saturating_sub(1)),
            KeyCode::Up | KeyCode::Char('k') => *at = at.saturating_sub(1),
            KeyCode::Char('n') => {
                app.popup = Some(login(""));
                return Vec::new();
            }
            KeyCode::Enter => {
                let label = rows.get(*at).filter(|row| !row.current).map(|row| row.label.clone());
                return label.map(|label| [Effect::Keep, Effect::Switch { label }]).into_iter().flatten().collect();
            }
            _ => return Vec::new(),
        },
        Popup::Question { yes, .. } => match key.code {
            KeyCode::Char('y' | 'Y') | KeyCode::Enter => {
                if *yes == Effect::Quit {
                    app.quit = true;
                }
                return vec![yes.clone()];
            }
            _ => return Vec::new(),
        },
        Popup::Asked { who, flow } => match key.code {
            KeyCode::Char('y' | 'Y') | KeyCode::Enter => {
                return vec![Effect::AcceptVerification { who: who.clone(), flow: flow.clone() }];
            }
            KeyCode::Char('n' | 'N') | KeyCode::Esc => return vec![Effect::CancelVerification],
            _ => {}
        },
        Popup::Emoji { answered, .. } => match key.code {
            KeyCode::Char('y' | 'Y') if !*answered => {
                *answered = true;
                app.popup = Some(popup);
                return vec![Effect::AnswerEmoji(true)];
            }
            KeyCode::Char('n' | 'N') if !*answered => return vec![Effect::AnswerEmoji(false)],
            KeyCode::Esc => return vec![Effect::CancelVerification],
            _ => {}
        },
        Popup::Form { .. } => return form_key(app, popup, key),
    }
    app.popup = Some(popup);
    Vec::new()
}

fn scrolled(scroll: &mut u16, code: KeyCode) -> bool {
    *scroll = match code {
        KeyCode::Down | KeyCode::Char('j') => scroll.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
        KeyCode::PageDown => scroll.saturating_add(10),
        KeyCode::PageUp => scroll.saturating_sub(10),
        _ => return false,
    };
    true
}

fn form_key(app: &mut App, mut popup: Popup, key: KeyEvent) -> Vec<Effect> {
    let Popup::Form { purpose, fields, at, busy, .. } = &mut popup else { return Vec::new() };
    let purpose = *purpose;
    let last = fields.len().saturating_sub(1);
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        // Without an account there is nothing behind the first form.
        KeyCode::Esc if purpose == Purpose::Login && app.user_id.is_empty() => {}
        KeyCode::Esc => {
            if purpose == Purpose::FilterRooms {
                app.room_filter.clear();
            }
            return Vec::new();
        }
        KeyCode::Tab | KeyCode::Down => *at = if *at == last { 0 } else { *at + 1 },
        KeyCode::BackTab | KeyCode::Up => *at = if *at == 0 { last } else { *at - 1 },
        KeyCode::Enter if *at < last => *at += 1,
        KeyCode::Enter if *busy => {}
        KeyCode::Enter => {
            app.popup = Some(popup);
            return update::submit(app, purpose);
        }
        code => {
            if let Some(field) = fields.get_mut(*at) {
                type_into(&mut field.value, code, control);
            }
        }
    }
    app.popup = Some(popup);
    Vec::new()
}

fn type_into(value: &mut Value, code: KeyCode, control: bool) {
    match value {
        Value::Switch(on) => {
            if matches!(code, KeyCode::Char(' ') | KeyCode::Left | KeyCode::Right) {
                *on = !*on;
            }
        }
        Value::Text(editor) | Value::Secret(editor) => match code {
            KeyCode::Char('u') if control => {
                editor.take();
            }
            KeyCode::Char('w') if control => editor.delete_word(),
            KeyCode::Char(letter) if !control => editor.insert(letter.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => editor.backspace(),
            KeyCode::Delete => editor.delete(),
            KeyCode::Left => editor.left(),
            KeyCode::Right => editor.right(),
            KeyCode::Home => editor.home(),
            KeyCode::End => editor.end(),
            _ => {}
        },
    }
}

/// Pastes into a form, on one line.
pub fn paste(app: &mut App, text: &str) {
    if let Some(Popup::Form { fields, at, .. }) = &mut app.popup
        && let Some(Field { value: Value::Text(editor) | Value::Secret(editor), .. }) = fields.get_mut(*at)
    {
        editor.insert(text.trim().lines().next().unwrap_or_default());
    }
}

/// What a filled-in form asks for.
pub fn submit(app: &mut App, purpose: Purpose) -> Vec<Effect> {
    let Some(Popup::Form { fields, busy, error, .. }) = &mut app.popup else { return Vec::new() };
    let texts: Vec<String> = fields.iter().map(|field| field.as_text().trim().to_owned()).collect();
    let text = |at: usize| texts.get(at).cloned().unwrap_or_default();
    let on = |at: usize| fields.get(at).is_some_and(Field::is_on);
    if purpose == Purpose::Login {
        let password = fields.get(2).map(Field::as_text).unwrap_or_default();
        if text(1).is_empty() || password.is_empty() {
            "A name and a password are needed.".clone_into(error);
            return Vec::new();
        }
        *busy = true;
        error.clear();
        return vec![Effect::Login { server: text(0), user: text(1), password }];
    }
    let room = app.room.clone();
    let effects = match (purpose, room) {
        (Purpose::Create, _) if !text(0).is_empty() => {
            vec![Effect::Create { name: text(0), topic: text(1), invite: text(2), public: on(3), plain: on(4) }]
        }
        (Purpose::Join, _) if text(0).len() > 1 => vec![Effect::Join { room: text(0) }],
        (Purpose::Invite, Some(room)) if text(0).len() > 1 => vec![Effect::Invite { room, user: text(0) }],
        (Purpose::React, Some(_)) if !text(0).is_empty() => {
            let with = text(0);
            let key = app.active().selected.clone();
            key.map(|key| Effect::React { key, with }).into_iter().collect()
        }
        (Purpose::Settings, Some(room)) => {
            let before = app.rooms.iter().find(|row| row.id == room).cloned().unwrap_or_default();
            let changed = |new: String, old: &str| (new != old).then_some(new);
            let turned = |new: bool, old: bool| (new != old).then_some(new);
            let changes = Changes {
                name: changed(text(0), &before.name),
                topic: changed(text(1), &before.topic),
                public: turned(on(2), before.public),
                shows_past: turned(on(3), before.shows_past),
                encrypt: on(4),
            };
            vec![Effect::Settings { room, changes }]
        }
        (Purpose::Recover, _) if !text(0).is_empty() => vec![Effect::Recover { key: text(0) }],
        (Purpose::SendFile, Some(_)) if !text(0).is_empty() => vec![Effect::SendFile { path: text(0) }],
        (Purpose::SearchMessages, _) => {
            app.search = text(0);
            app.popup = None;
            return update::find(app, true);
        }
        (Purpose::FilterRooms, _) => {
            app.room_filter = text(0);
            app.room_at = 0;
            app.focus = super::state::Focus::Rooms;
            Vec::new()
        }
        _ => return Vec::new(),
    };
    app.popup = None;
    effects
}

/// A form that was filled in before, for tests and for trying again.
#[cfg(test)]
pub fn fill(popup: &mut Popup, values: &[&str]) {
    if let Popup::Form { fields, at, .. } = popup {
        for (field, value) in fields.iter_mut().zip(values) {
            if let Value::Text(editor) | Value::Secret(editor) = &mut field.value {
                *editor = super::editor::Editor::new(value);
            }
        }
        *at = fields.len() - 1;
    }
}
