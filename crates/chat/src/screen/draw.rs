//! The screen, drawn from its state. Everything that strangers wrote passes through [`harmless`] here. A terminal of any size
//! will do; of no size, nothing is drawn.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph},
};
use unicode_width::UnicodeWidthStr;

use super::{
    draw_items, draw_popup,
    state::{App, Areas, Connection, Focus},
    wrap::{cut, wrap},
};
use crate::harmless;

/// Columns of the list of rooms, if there is space for both.
const ROOMS_WIDTH: u16 = 30;
/// Columns below which only what the keys go to is shown.
const BOTH_MIN: u16 = 70;
/// Lines of the composer.
const COMPOSER_MAX: u16 = 8;

pub const DIM: Style = Style::new().fg(Color::DarkGray);
pub const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
pub const WARNING: Style = Style::new().fg(Color::Yellow);
pub const TROUBLE: Style = Style::new().fg(Color::Red);
pub const GOOD: Style = Style::new().fg(Color::Green);
pub const CHOSEN: Style = Style::new().bg(Color::Indexed(237));

/// Draws everything.
pub fn draw(frame: &mut Frame, app: &mut App) {
    let area = frame.area();
    app.areas = Areas::default();
    if area.width == 0 || area.height == 0 {
        return;
    }
    let [main, status] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
    if area.width >= BOTH_MIN {
        let [left, right] = Layout::horizontal([Constraint::Length(ROOMS_WIDTH), Constraint::Min(0)]).areas(main);
        rooms(frame, app, left);
        room(frame, app, right);
    } else if app.focus == Focus::Rooms || app.room.is_none() {
        rooms(frame, app, main);
    } else {
        room(frame, app, main);
    }
    status_line(frame, app, status);
    if let Some(popup) = app.popup.clone() {
        draw_popup::draw(frame, &popup, area);
    }
}

fn border(focused: bool) -> Style {
    if focused { Style::new().fg(Color::Cyan) } else { DIM }
}

fn rooms(frame: &mut Frame, app: &mut App, area: Rect) {
    let title = match app.room_filter.is_empty() {
        true => " Rooms ".to_owned(),
        false => format!(" Rooms: {} ", harmless::line(&app.room_filter)),
    };
    let block = Block::bordered().title(title).border_style(border(app.focus == Focus::Rooms));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    app.areas.rooms = area;
    let shown = app.shown_rooms();
    let height = usize::from(inner.height);
    if height == 0 || inner.width == 0 {
        return;
    }
    if shown.is_empty() {
        let text = if app.rooms.is_empty() {
            "No rooms yet. c makes one, o joins one by its address, ? shows all keys."
        } else {
            "No room fits."
        };
        let lines: Vec<Line> = wrap(text, usize::from(inner.width)).into_iter().map(Line::from).collect();
        frame.render_widget(Paragraph::new(lines).style(DIM), inner);
        return;
    }
    let first = app.room_at.saturating_sub(height.saturating_sub(1));
    let mut lines = Vec::new();
    for (at, one) in shown.iter().enumerate().skip(first).take(height) {
        let room = &app.rooms[one.index];
        let row = inner.y + u16::try_from(at - first).unwrap_or(0);
        app.areas.room_rows.push((row, at));
        let mark = match (room.invited, room.space, room.encrypted) {
            (true, ..) => "✉ ",
            (_, true, _) if app.collapsed.contains(&room.id) => "▸ ",
            (_, true, _) => "▾ ",
            (_, _, true) => "  ",
            _ => "○ ",
        };
        let indent = if one.indented { "  " } else { "" };
        let count = match (room.unread, room.invited) {
            (0, _) => String::new(),
            (many, _) => format!(" {many}"),
        };
        let space = usize::from(inner.width).saturating_sub(indent.len() + 2 + count.width());
        let name = cut(&harmless::line(&room.name), space);
        let gap = " ".repeat(space.saturating_sub(name.width()));
        let style = match (room.unread > 0 || room.invited, room.space) {
            (true, _) => STRONG,
            (_, true) => DIM.add_modifier(Modifier::BOLD),
            _ => Style::new(),
        };
        let count_style = if room.highlights > 0 { TROUBLE.add_modifier(Modifier::BOLD) } else { GOOD };
        let mut line = Line::from(vec![
            Span::raw(indent),
            Span::styled(mark, if room.encrypted || room.space || room.invited { DIM } else { WARNING }),
            Span::styled(name, style),
            Span::raw(gap),
            Span::styled(count, count_style),
        ]);
        if at == app.room_at && app.focus == Focus::Rooms {
            line = line.style(CHOSEN);
        } else if app.room.as_ref() == Some(&room.id) {
            line = line.style(Style::new().fg(Color::Cyan));
        }
        lines.push(line);
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn room(frame: &mut Frame, app: &mut App, area: Rect) {
    let Some(room) = app.open_room().cloned() else {
        welcome(frame, app, area);
        return;
    };
    let typed_width = usize::from(area.width.saturating_sub(4));
    let typed = wrap(&shown_typed(app), typed_width);
    let lines = u16::try_from(typed.len()).unwrap_or(COMPOSER_MAX).clamp(1, COMPOSER_MAX);
    let hint = app.reply.is_some() || app.edit.is_some() || !app.changed.is_empty() || !app.typing.is_empty();
    let hint = u16::from(hint);
    let [head, middle, above, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(hint),
        Constraint::Length(lines + 2),
    ])
    .areas(area);
    let lock = if room.encrypted { ("🔒 ", DIM) } else { ("○ not encrypted ", WARNING) };
    let name = harmless::line(&room.name);
    let about = match &app.thread {
        Some(_) => "  thread - Esc goes back".to_owned(),
        None if room.topic.is_empty() => format!("  {} members", room.members),
        None => format!("  {}", harmless::line(&room.topic)),
    };
    let width = usize::from(head.width);
    let about = cut(&about, width.saturating_sub(lock.0.width() + name.width()));
    let title = Line::from(vec![
        Span::styled(lock.0, lock.1),
        Span::styled(cut(&name, width), if app.focus == Focus::Timeline { STRONG.fg(Color::Cyan) } else { STRONG }),
        Span::styled(about, DIM),
    ]);
    frame.render_widget(Paragraph::new(title), head);
    draw_items::draw(frame, app, middle);
    hints(frame, app, above);
    composer(frame, app, below);
}

fn welcome(frame: &mut Frame, app: &App, area: Rect) {
    let text = match app.user_id.is_empty() {
        true => "Opening …",
        false => "Choose a room on the left with the arrow keys and Enter. ? shows all keys.",
    };
    let lines: Vec<Line> = wrap(text, usize::from(area.width)).into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines).style(DIM).centered(), area);
}

fn hints(frame: &mut Frame, app: &App, area: Rect) {
    let line = match (&app.reply, &app.edit) {
        (Some((_, name)), _) => {
            Line::styled(format!(" ↳ answering {} - Esc takes it back", harmless::line(name)), WARNING)
        }
        (_, Some(_)) => Line::styled(" editing - Esc takes it back", WARNING),
        _ if !app.changed.is_empty() => {
            let names: Vec<String> = app.changed.iter().take(3).map(|name| harmless::line(name)).collect();
            let text = format!(" ! the identity of {} is another than it was: w in the messages", names.join(", "));
            Line::styled(text, TROUBLE)
        }
        _ => {
            let names: Vec<String> = app.typing.iter().take(3).map(|name| harmless::line(name)).collect();
            Line::styled(format!(" {} typing …", names.join(", ")), DIM)
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn shown_typed(app: &App) -> String {
    harmless::text(app.composer.text())
}

fn composer(frame: &mut Frame, app: &mut App, area: Rect) {
    let focused = app.focus == Focus::Composer;
    let block = Block::bordered().border_style(border(focused));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    app.areas.composer = area;
    if inner.width < 2 || inner.height == 0 {
        return;
    }
    let width = usize::from(inner.width - 1);
    if app.composer.is_empty() {
        let text = match app.open_room().is_some_and(|room| room.encrypted) {
            true => "Write an encrypted message",
            false => "Write a message - it is not encrypted",
        };
        frame.render_widget(Paragraph::new(Line::styled(cut(text, width), DIM)), inner);
    }
    let typed = wrap(&shown_typed(app), width);
    let before = wrap(&harmless::text(app.composer.before()), width);
    let row = before.len().saturating_sub(1);
    let column = before.last().map_or(0, |line| line.width());
    let first = row.saturating_sub(usize::from(inner.height - 1));
    if !app.composer.is_empty() {
        let lines: Vec<Line> = typed.into_iter().skip(first).take(usize::from(inner.height)).map(Line::from).collect();
        frame.render_widget(Paragraph::new(lines), inner);
    }
    if focused && app.popup.is_none() {
        let x = inner.x + u16::try_from(column).unwrap_or(0).min(inner.width - 1);
        let y = inner.y + u16::try_from(row - first).unwrap_or(0).min(inner.height - 1);
        frame.set_cursor_position(Position::new(x, y));
    }
}

fn status_line(frame: &mut Frame, app: &App, area: Rect) {
    let mut spans = Vec::new();
    match &app.connection {
        Connection::Starting => spans.push(Span::styled(" … connecting ", DIM)),
        Connection::Online => spans.push(Span::styled(" ● ", GOOD)),
        Connection::Lost(reason) => {
            spans.push(Span::styled(format!(" ○ offline, trying again: {} ", harmless::line(reason)), WARNING));
        }
        Connection::Ended(reason) => spans.push(Span::styled(format!(" ✖ {} ", harmless::line(reason)), TROUBLE)),
    }
    if !app.user_id.is_empty() {
        spans.push(Span::styled(format!("{} ", harmless::line(&app.user_id)), DIM));
        if !app.verified {
            spans.push(Span::styled("this device is not verified: V in the list of rooms ", WARNING));
        }
    }
    if app.note.is_empty() {
        let hint = match app.focus {
            Focus::Rooms => "Enter opens  c makes a room  o joins one  ? keys",
            Focus::Timeline => "↑↓ choose  r answer  t thread  + react  ? keys",
            Focus::Composer => "Enter sends  Tab goes on  ? keys",
        };
        spans.push(Span::styled(hint, DIM));
    } else {
        spans.push(Span::styled(harmless::line(&app.note), if app.is_trouble { TROUBLE } else { GOOD }));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}
