//! What is in front of the rest, drawn.

use ratatui::{
    Frame,
    layout::{Constraint, Flex, Layout, Position, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};
use unicode_width::UnicodeWidthStr;

use super::{
    draw::{CHOSEN, DIM, STRONG, TROUBLE, WARNING},
    slash,
    state::{Field, Popup, Value},
    wrap::{cut, wrap},
};
use crate::harmless;

/// Keys and what they do, by where they do it.
const KEYS: &[(&str, &[(&str, &str)])] = &[
    (
        "Everywhere",
        &[
            ("Tab, Shift-Tab", "rooms, messages, writing"),
            ("Alt-↑, Alt-↓", "previous, next room"),
            ("Ctrl-N", "next room with something new"),
            ("Ctrl-K", "find a room by name"),
            ("PageUp, PageDown", "older and newer messages"),
            ("Esc", "back"),
            ("?, F1", "these keys"),
            ("Ctrl-Q, Ctrl-C", "close; what you typed is kept"),
        ],
    ),
    (
        "Rooms",
        &[
            ("↑ ↓ Enter", "choose, open; opens and closes spaces, answers invitations"),
            ("c", "make a room"),
            ("o", "join a room by its address"),
            ("x", "leave, or decline"),
            ("/", "find"),
            ("a", "accounts: switch, add"),
            ("v", "verify this device with another one"),
            ("V", "verify this device with the recovery key"),
            ("q", "close"),
        ],
    ),
    (
        "Messages",
        &[
            ("↑ ↓", "choose one"),
            ("Enter", "what is to be known about it: encryption, device, readers"),
            ("r", "answer"),
            ("t", "its thread"),
            ("+", "react"),
            ("e", "edit (your own)"),
            ("x", "remove"),
            ("v, s", "show a picture, save a file"),
            ("R", "send again what was not sent"),
            ("/, n, N", "search what is loaded, older, newer"),
            ("w", "who is here; v verifies somebody, d shows their devices, b there blocks one"),
            ("I", "invite"),
            ("S", "settings of the room"),
            ("u", "send a file"),
        ],
    ),
    (
        "Writing",
        &[
            ("Enter", "send"),
            ("Alt-Enter, Ctrl-J", "new line"),
            ("↑ in an empty line", "edit what you said last"),
            ("Ctrl-U, Ctrl-W", "clear, remove a word"),
        ],
    ),
    (
        "Marks",
        &[
            ("✔", "from a verified person"),
            ("·", "encrypted, from a person not verified"),
            ("!", "look at it: Enter says why"),
            ("○", "not encrypted"),
        ],
    ),
];

/// Draws it, as large as it needs to be and fits.
pub fn draw(frame: &mut Frame, popup: &Popup, area: Rect) {
    let (title, lines, scroll, cursor) = match popup {
        Popup::Help { scroll } => ("Keys".to_owned(), help(), *scroll, None),
        Popup::Text { title, text, scroll } => {
            (harmless::line(title), with_answers(text, "Enter closes this", area), *scroll, None)
        }
        Popup::Form { title, text, fields, at, busy, error, .. } => {
            let (lines, cursor) = form(text, fields, *at, *busy, error, area);
            ((*title).to_owned(), lines, 0, Some(cursor))
        }
        Popup::Members { rows, at } => {
            let lines = rows.iter().enumerate().map(|(index, row)| {
                let invited = if row.invited { " (invited)" } else { "" };
                let mut spans = vec![
                    Span::raw(format!("{} ", row.mark)),
                    Span::styled(harmless::line(&row.name), STRONG),
                    Span::styled(format!("  {}{invited}  {}", harmless::line(&row.user_id), row.power), DIM),
                ];
                if row.trust == "changed" {
                    spans.push(Span::styled("  ! their identity is another than it was", TROUBLE));
                }
                if row.unsigned_devices > 0 {
                    let text = format!("  ! {} of their devices not verified by them", row.unsigned_devices);
                    spans.push(Span::styled(text, WARNING));
                }
                chosen(Line::from(spans), index == *at)
            });
            let scroll = u16::try_from(at.saturating_sub(usize::from(area.height / 2))).unwrap_or(0);
            (
                "Members - v verifies, d shows devices, I invites, A believes a new identity".to_owned(),
                lines.collect(),
                scroll,
                None,
            )
        }
        Popup::Devices { user, rows, at } => {
            let mut lines: Vec<Line> = rows
                .iter()
                .enumerate()
                .map(|(index, row)| {
                    let style = if row.mark == "!" { WARNING } else { DIM };
                    let spans = vec![
                        Span::raw(format!("{} ", row.mark)),
                        Span::styled(harmless::line(&row.device_id), STRONG),
                        Span::raw(format!("  {}  ", harmless::line(&row.name))),
                        Span::styled(row.words, style),
                    ];
                    chosen(Line::from(spans), index == *at)
                })
                .collect();
            if lines.is_empty() {
                lines.push(Line::styled("None that can encrypt.", DIM));
            }
            let scroll = u16::try_from(at.saturating_sub(usize::from(area.height / 2))).unwrap_or(0);
            let title = format!("Devices of {} - b gives one no keys, or again, v verifies", harmless::line(user));
            (title, lines, scroll, None)
        }
        Popup::Accounts { rows, at } => {
            let lines = rows.iter().enumerate().map(|(index, row)| {
                let mark = if row.current { "● " } else { "  " };
                let text = format!("{mark}{}  {}", harmless::line(&row.user_id), harmless::line(&row.label));
                chosen(Line::from(text), index == *at)
            });
            ("Accounts - Enter switches, n adds one".to_owned(), lines.collect(), 0, None)
        }
        Popup::Question { text, .. } => ("".to_owned(), with_answers(text, "y yes   any other key: no", area), 0, None),
        Popup::Asked { who, .. } => {
            let text = format!("{} wants to verify: you compare seven emoji on both screens.", harmless::line(who));
            ("Verification".to_owned(), with_answers(&text, "y begin   n not now", area), 0, None)
        }
        Popup::Emoji { emoji, answered } => {
            let mut lines: Vec<Line> =
                emoji.iter().map(|(symbol, name)| Line::from(format!("  {symbol}  {name}"))).collect();
            lines.push(Line::default());
            lines.push(match answered {
                true => Line::styled("Waiting for the other side …", DIM),
                false => Line::styled("Does the other screen show the same, in this order?   y yes   n no", WARNING),
            });
            ("Compare".to_owned(), lines, 0, None)
        }
    };
    let wide = lines.iter().map(Line::width).max().unwrap_or(0).max(title.width() + 2);
    let width = u16::try_from(wide + 4).unwrap_or(area.width).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(area.height).min(area.height);
    let [row] = Layout::vertical([Constraint::Length(height)]).flex(Flex::Center).areas(area);
    let [place] = Layout::horizontal([Constraint::Length(width)]).flex(Flex::Center).areas(row);
    let block =
        Block::bordered().title(format!(" {title} ")).border_style(Style::new().fg(ratatui::style::Color::Cyan));
    let inner = block.inner(place);
    let last = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(inner.height);
    // A form keeps the line that is typed into in view.
    let scroll = match cursor {
        Some((_, row)) => row.saturating_sub(inner.height.saturating_sub(1)),
        None => scroll.min(last),
    };
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    if inner.width < 3 || inner.height == 0 {
        return;
    }
    let inside = Rect { x: inner.x + 1, width: inner.width - 2, ..inner };
    frame.render_widget(Paragraph::new(lines).scroll((scroll, 0)), inside);
    if let Some((column, row)) = cursor
        && column < inside.width
        && row >= scroll
    {
        frame.set_cursor_position(Position::new(inside.x + column, inside.y + (row - scroll).min(inside.height - 1)));
    }
}

fn chosen(line: Line<'static>, is: bool) -> Line<'static> {
    if is { line.style(CHOSEN) } else { line }
}

/// Columns for prose: wide enough to read, never wider than the terminal.
fn prose_width(area: Rect) -> usize {
    usize::from(area.width.saturating_sub(4)).clamp(1, 72)
}

fn prose(text: &str, area: Rect) -> Vec<Line<'static>> {
    wrap(&harmless::text(text), prose_width(area)).into_iter().map(Line::from).collect()
}

fn with_answers(text: &str, answers: &'static str, area: Rect) -> Vec<Line<'static>> {
    let mut lines = prose(text, area);
    lines.push(Line::default());
    lines.push(Line::styled(answers, DIM));
    lines
}

fn help() -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (place, keys) in KEYS {
        lines.push(Line::styled(*place, STRONG));
        lines.extend(keys.iter().map(|(key, what)| Line::from(format!("  {key:<20} {what}"))));
        lines.push(Line::default());
    }
    lines.push(Line::styled("Commands, typed where messages are", STRONG));
    lines.extend(slash::COMMANDS.iter().map(|(command, what)| Line::from(format!("  {command:<26} {what}"))));
    lines
}

fn form(
    text: &str,
    fields: &[Field],
    at: usize,
    busy: bool,
    error: &str,
    area: Rect,
) -> (Vec<Line<'static>>, (u16, u16)) {
    let width = prose_width(area);
    let mut lines = prose(text, area);
    lines.push(Line::default());
    let mut cursor = (0, 0);
    for (index, field) in fields.iter().enumerate() {
        let label = format!("{}: ", field.label);
        let space = width.saturating_sub(label.width() + 1).max(1);
        let (value, before) = match &field.value {
            Value::Text(editor) => (harmless::line(editor.text()), harmless::line(editor.before())),
            Value::Secret(editor) => {
                let stars = |text: &str| "•".repeat(text.chars().count());
                (stars(editor.text()), stars(editor.before()))
            }
            Value::Switch(on) => (if *on { "[x] (space)" } else { "[ ] (space)" }.to_owned(), " ".to_owned()),
        };
        let shift = before.width().saturating_sub(space);
        let value: String = if shift > 0 { tail(&value, shift, space) } else { cut(&value, space) };
        if index == at {
            let column = label.width() + before.width().min(space);
            cursor = (u16::try_from(column).unwrap_or(0), u16::try_from(lines.len()).unwrap_or(0));
        }
        let line = Line::from(vec![Span::styled(label, if index == at { STRONG } else { DIM }), Span::raw(value)]);
        lines.push(chosen(line, index == at));
    }
    lines.push(Line::default());
    lines.push(match (busy, error.is_empty()) {
        (true, _) => Line::styled("One moment …", DIM),
        (_, false) => Line::default(),
        _ => Line::styled("Tab goes on, Enter on the last line does it, Esc leaves it.", DIM),
    });
    if !error.is_empty() {
        lines.extend(wrap(&harmless::line(error), width).into_iter().map(|line| Line::styled(line, TROUBLE)));
    }
    (lines, cursor)
}

/// What is left of a text when its first columns are not shown.
fn tail(text: &str, skip: usize, space: usize) -> String {
    let mut skipped = 0;
    let rest: String = text
        .chars()
        .skip_while(|letter| {
            skipped += letter.to_string().width();
            skipped <= skip
        })
        .collect();
    cut(&rest, space)
}
