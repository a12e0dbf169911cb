//! The timeline: messages from the bottom up, with marks of trust, answers, reactions, threads, receipts and pictures.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use super::{
    draw::{CHOSEN, DIM, GOOD, STRONG, TROUBLE, WARNING},
    state::{App, Item, Kind, Pane, Picture, Sending},
    wrap::{cut, wrap},
};
use crate::{event::clock, harmless, trust};

/// Colours of names.
const COLOURS: [Color; 6] = [Color::Cyan, Color::Green, Color::Magenta, Color::Blue, Color::Yellow, Color::LightRed];
/// Columns before what somebody says: the time and the mark of trust.
const INDENT: usize = 8;

/// Draws the messages of the open room or thread.
pub fn draw(frame: &mut Frame, app: &mut App, area: Rect) {
    app.areas.timeline = area;
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if width == 0 || height == 0 {
        return;
    }
    let thread = app.thread.is_some();
    let search = app.search.clone();
    let pane = if thread { &app.thread_pane } else { &app.pane };
    if pane.items.is_empty() {
        frame.render_widget(Paragraph::new(Line::styled(cut("Nothing was said here yet.", width), DIM)), area);
        return;
    }
    let draw_one = |item: &Item| {
        let picture = item.event_id.as_ref().and_then(|event| app.pictures.get(event));
        lines(item, width, picture, &search)
    };
    let bottom = bottom(pane, height, |item| draw_one(item).len());
    let chosen = pane.at();
    // From the bottom up, until the space is full.
    let mut rows: Vec<(Line, usize)> = Vec::new();
    for at in (0..=bottom).rev() {
        let mut block: Vec<(Line, usize)> = draw_one(&pane.items[at]).into_iter().map(|line| (line, at)).collect();
        if chosen == Some(at) {
            for (line, _) in &mut block {
                line.style = line.style.patch(CHOSEN);
            }
        }
        block.append(&mut rows);
        rows = block;
        if rows.len() >= height {
            break;
        }
    }
    let skipped = rows.len().saturating_sub(height);
    let blank = height.saturating_sub(rows.len());
    let mut shown = vec![Line::default(); blank];
    for (row, (line, at)) in rows.into_iter().skip(skipped).enumerate() {
        let y = area.y + u16::try_from(blank + row).unwrap_or(0);
        app.areas.item_rows.push((y, at));
        shown.push(line);
    }
    frame.render_widget(Paragraph::new(shown), area);
    if thread {
        app.thread_pane.bottom = bottom;
    } else {
        app.pane.bottom = bottom;
    }
}

/// The last item to show: the very last, or one so that the selected is in view, moved as little as possible.
fn bottom(pane: &Pane, height: usize, tall: impl Fn(&Item) -> usize) -> usize {
    let last = pane.items.len() - 1;
    let Some(chosen) = pane.at() else { return last };
    let was = pane.bottom.clamp(chosen, last);
    let mut space = height;
    for at in (chosen..=was).rev() {
        let needed = tall(&pane.items[at]);
        if needed > space {
            // The selected one is above what would be seen: it goes to the top.
            let mut filled = 0;
            for (down, item) in pane.items.iter().enumerate().skip(chosen) {
                filled += tall(item);
                if filled >= height {
                    return if filled > height && down > chosen { down - 1 } else { down };
                }
            }
            return last;
        }
        space -= needed;
    }
    was
}

/// One item's lines.
fn lines(item: &Item, width: usize, picture: Option<&Picture>, search: &str) -> Vec<Line<'static>> {
    match item.kind {
        Kind::Day => return vec![middle(&day(item.time_ms), width)],
        Kind::ReadMarker => return vec![middle("new", width).style(WARNING)],
        Kind::Start => return vec![middle("the beginning", width)],
        Kind::State => {
            let text = cut(&format!("       {} {}", harmless::line(&item.name), harmless::line(&item.body)), width);
            return vec![Line::styled(text, DIM)];
        }
        _ => {}
    }
    let mut lines = Vec::new();
    if let Some((who, what)) = &item.reply {
        let text = format!("{}┌ {}: {}", " ".repeat(INDENT), harmless::line(who), harmless::line(what));
        lines.push(Line::styled(cut(&text, width), DIM));
    }
    let (mark, mark_style) = mark(item);
    let name = harmless::line(&item.name);
    let name_style = Style::new().fg(colour(&item.sender)).add_modifier(Modifier::BOLD);
    let text = said(item);
    let lead = match item.kind {
        Kind::Emote => format!("* {name} "),
        _ => format!("{name}: "),
    };
    let body_width = width.saturating_sub(INDENT).max(1);
    let lead = cut(&lead, body_width);
    // The name takes its space on the first line; it is put in place of as many blanks.
    let blanks = " ".repeat(lead.width());
    let wrapped = wrap(&format!("{}{text}", blanks.replace(' ', "\u{a0}")), body_width);
    let style = body_style(item, search);
    for (row, line) in wrapped.into_iter().enumerate() {
        if row == 0 {
            let rest = line.strip_prefix(&blanks.replace(' ', "\u{a0}")).unwrap_or_default().to_owned();
            lines.push(Line::from(vec![
                Span::styled(format!("{} ", clock(item.time_ms)), DIM),
                Span::styled(format!("{mark} "), mark_style),
                Span::styled(lead.clone(), name_style),
                Span::styled(rest, style),
            ]));
        } else {
            lines.push(Line::from(vec![Span::raw(" ".repeat(INDENT)), Span::styled(line, style)]));
        }
    }
    let ending = ending(item);
    if !ending.is_empty()
        && let Some(last) = lines.last_mut()
    {
        last.spans.extend(ending);
    }
    if trust::is_warning(item.trust) && item.kind != Kind::Undecryptable {
        lines.push(Line::styled(cut(&format!("{}! {}", " ".repeat(INDENT), item.words), width), WARNING));
    }
    if let Some(picture) = picture {
        lines.extend(picture.iter().map(|row| picture_line(row, width)));
    }
    below(item, width, &mut lines);
    lines
}

fn below(item: &Item, width: usize, lines: &mut Vec<Line<'static>>) {
    if !item.reactions.is_empty() {
        let mut spans = vec![Span::raw(" ".repeat(INDENT))];
        for (key, count, own) in item.reactions.iter().take(20) {
            let style = if *own { STRONG.fg(Color::Cyan) } else { Style::new() };
            spans.push(Span::styled(format!("{} {count}  ", cut(&harmless::line(key), 20)), style));
        }
        lines.push(Line::from(spans));
    }
    if let Some(count) = item.thread {
        let text = format!("{}↳ {count} in the thread (t)", " ".repeat(INDENT));
        lines.push(Line::styled(cut(&text, width), Style::new().fg(Color::Cyan)));
    }
    if !item.readers.is_empty() {
        let names: Vec<String> = item.readers.iter().take(5).map(|name| harmless::line(name)).collect();
        let more = if item.readers.len() > 5 { " …" } else { "" };
        let text = cut(&format!("✓ {}{more}", names.join(", ")), width);
        let gap = width.saturating_sub(text.width());
        lines.push(Line::styled(format!("{}{text}", " ".repeat(gap)), DIM));
    }
}

fn said(item: &Item) -> String {
    match item.kind {
        Kind::Undecryptable => format!("🔒 cannot be read: {}", item.words),
        Kind::Removed => "removed".to_owned(),
        Kind::File => format!("📎 {} (s saves it)", harmless::line(item.file.as_deref().unwrap_or("file"))),
        Kind::Image => {
            format!("🖼 {} (v shows it, s saves it)", harmless::line(item.file.as_deref().unwrap_or("image")))
        }
        _ => harmless::text(&item.body),
    }
}

fn body_style(item: &Item, search: &str) -> Style {
    let found = !search.is_empty() && item.body.to_lowercase().contains(&search.to_lowercase());
    match item.kind {
        _ if found => Style::new().add_modifier(Modifier::UNDERLINED),
        Kind::Undecryptable => WARNING,
        Kind::Removed => DIM,
        Kind::Notice | Kind::Emote => Style::new().add_modifier(Modifier::ITALIC),
        _ => Style::new(),
    }
}

fn ending(item: &Item) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    if item.edited {
        spans.push(Span::styled(" (edited)", DIM));
    }
    match &item.sending {
        Sending::Done => {}
        Sending::Waiting => spans.push(Span::styled(" … sending", DIM)),
        Sending::Failed(reason) => {
            spans.push(Span::styled(format!(" not sent: {} (R tries again)", harmless::line(reason)), TROUBLE));
        }
    }
    spans
}

fn mark(item: &Item) -> (&'static str, Style) {
    match item.trust {
        "verified" => (trust::mark(item.trust), GOOD),
        "plain" | "" => (" ", DIM),
        code if trust::is_warning(code) || item.kind == Kind::Undecryptable => ("!", WARNING),
        code => (trust::mark(code), DIM),
    }
}

fn middle(text: &str, width: usize) -> Line<'static> {
    let text = cut(&format!("── {text} ──"), width);
    let gap = width.saturating_sub(text.width()) / 2;
    Line::styled(format!("{}{text}", " ".repeat(gap)), DIM)
}

fn picture_line(row: &[([u8; 3], [u8; 3])], width: usize) -> Line<'static> {
    let mut spans = vec![Span::raw(" ".repeat(INDENT))];
    for (upper, lower) in row.iter().take(width.saturating_sub(INDENT)) {
        let colour = |[red, green, blue]: [u8; 3]| Color::Rgb(red, green, blue);
        spans.push(Span::styled("▀", Style::new().fg(colour(*upper)).bg(colour(*lower))));
    }
    Line::from(spans)
}

fn colour(sender: &str) -> Color {
    let sum = sender.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    COLOURS[sum % COLOURS.len()]
}

/// A day, as 2026-11-30. Civil date from days since 1970, after the usual 400-year cycle.
fn day(time_ms: u64) -> String {
    let days = i64::try_from(time_ms / 86_400_000).unwrap_or(0) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400_000), "2000-02-29");
        assert_eq!(day(1_795_996_800_000), "2026-11-30");
    }
}
