//! The mouse: a click goes where it points, the wheel scrolls what is below it. By the places in which things were drawn last.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::{
    state::{App, Effect, Focus},
    update::{enter_room, scroll},
};

/// What it does to the screen.
pub fn point(app: &mut App, mouse: MouseEvent) -> Vec<Effect> {
    if app.popup.is_some() {
        return Vec::new();
    }
    let spot = Position::new(mouse.column, mouse.row);
    let areas = app.areas.clone();
    match mouse.kind {
        MouseEventKind::Down(MouseButton::Left) if areas.rooms.contains(spot) => {
            app.focus = Focus::Rooms;
            if let Some((_, at)) = areas.room_rows.iter().find(|(row, _)| *row == mouse.row) {
                app.room_at = *at;
                return enter_room(app);
            }
        }
        MouseEventKind::Down(MouseButton::Left) if areas.timeline.contains(spot) => {
            app.focus = Focus::Timeline;
            if let Some((_, at)) = areas.item_rows.iter().find(|(row, _)| *row == mouse.row) {
                let key = app.active().items.get(*at).map(|item| item.key.clone());
                app.active_mut().selected = key;
            }
        }
        MouseEventKind::Down(MouseButton::Left) if areas.composer.contains(spot) => app.focus = Focus::Composer,
        MouseEventKind::ScrollUp if areas.rooms.contains(spot) => app.room_at = app.room_at.saturating_sub(1),
        MouseEventKind::ScrollDown if areas.rooms.contains(spot) => {
            app.room_at = (app.room_at + 1).min(app.shown_rooms().len().saturating_sub(1));
        }
        MouseEventKind::ScrollUp => return scroll(app, -3),
        MouseEventKind::ScrollDown => return scroll(app, 3),
        _ => {}
    }
    Vec::new()
}
