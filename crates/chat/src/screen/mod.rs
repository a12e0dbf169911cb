//! The screen, for people: what is shown ([`state`]), what events do to it ([`update`]), how it is drawn ([`draw`]), and the
//! engine that does the rest ([`engine`]). Only this file knows a terminal.

mod draw;
mod draw_items;
mod draw_popup;
mod editor;
mod engine;
mod follow;
mod forms;
mod items;
mod keep;
mod mouse;
mod perform;
mod picture;
mod slash;
mod state;
#[cfg(test)]
mod tests;
mod update;
mod wrap;

use std::{
    io::{self, IsTerminal, Stdout},
    time::Duration,
};

use crossterm::{
    event::{
        DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event as TerminalEvent,
        EventStream,
    },
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use futures_util::StreamExt;
use ratatui::{Terminal, backend::CrosstermBackend};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use self::{
    engine::Engine,
    keep::Kept,
    state::{App, Effect, Event},
};
use crate::{account::Accounts, cli::Common, failure::Failure, stumble};

/// News that wait to be shown, and wishes that wait to be done.
const QUEUE: usize = 256;
/// How often what was typed is written to disk while somebody types.
const KEEP_EVERY: Duration = Duration::from_millis(500);

/// Opens the screen until somebody closes it.
pub async fn run(common: &Common) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "the screen needs a terminal; `koine-chat --help` lists what scripts can ask".to_owned(),
        ));
    }
    let accounts = Accounts::new(common.data_dir.clone())?;
    let (events, news) = mpsc::channel(QUEUE);
    let (effects, wishes) = mpsc::channel(QUEUE);
    let mut terminal = Screen::open(events.downgrade())?;
    let engine = tokio::spawn(Engine::new(common.clone(), accounts.clone(), events).run(wishes));
    let done = show(&mut terminal.terminal, &accounts, news, &effects).await;
    drop(terminal);
    drop(effects);
    // The store is closed in order; a server that does not answer is not waited for.
    match tokio::time::timeout(Duration::from_secs(3), engine).await {
        Ok(Err(ended)) if ended.is_panic() => {
            let words = stumble::words(&*ended.into_panic());
            Err(Failure::Local(format!("the engine failed ({words}); what you typed is kept")))
        }
        _ => done,
    }
}

/// The terminal in the state that the screen needs; as it was, when dropped.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    fn open(events: mpsc::WeakSender<Event>) -> Result<Self, Failure> {
        // A panic of the screen must not leave a terminal that nobody can use; one beside it leaves the screen as it is.
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some("main") {
                restore();
                before(panic);
            } else if let Some(events) = events.upgrade() {
                let _ = events.try_send(Event::Stumbled(stumble::words(panic.payload())));
            }
        }));
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, EnableMouseCapture)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let _ = execute!(io::stdout(), DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

async fn show(
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    accounts: &Accounts,
    mut news: mpsc::Receiver<Event>,
    effects: &mpsc::Sender<Effect>,
) -> Result<(), Failure> {
    let mut app = App::default();
    let mut keys = EventStream::new();
    // Whoever ends the process, or the terminal, from outside loses nothing that was typed.
    let (mut terminated, mut hung_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut unkept = false;
    let mut tick = tokio::time::interval(KEEP_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    terminal.draw(|frame| draw::draw(frame, &mut app))?;
    while !app.quit {
        let event = tokio::select! {
            key = keys.next() => match key {
                Some(Ok(TerminalEvent::Key(key))) => Event::Key(key),
                Some(Ok(TerminalEvent::Mouse(mouse))) => Event::Mouse(mouse),
                Some(Ok(TerminalEvent::Paste(text))) => Event::Paste(text),
                Some(Ok(_)) => Event::Redraw,
                // The terminal is gone.
                Some(Err(_)) | None => break,
            },
            event = news.recv() => match event {
                Some(event) => event,
                None => break,
            },
            _ = terminated.recv() => break,
            _ = hung_up.recv() => break,
            _ = tick.tick(), if unkept => {
                unkept = false;
                keep(&app, accounts);
                continue;
            }
        };
        let mut asked = update::update(&mut app, event);
        // What came meanwhile is shown at once: a burst is one picture, not many.
        while let Ok(event) = news.try_recv() {
            asked.extend(update::update(&mut app, event));
        }
        for effect in asked {
            match effect {
                Effect::Keep => unkept = true,
                // What was typed belongs to the account that is open now.
                Effect::Switch { .. } => {
                    keep(&app, accounts);
                    let _ = effects.try_send(effect);
                }
                effect => {
                    if effects.try_send(effect).is_err() {
                        "Too much at once; try again.".clone_into(&mut app.note);
                        app.is_trouble = true;
                    }
                }
            }
        }
        terminal.draw(|frame| draw::draw(frame, &mut app))?;
    }
    keep(&app, accounts);
    Ok(())
}

fn keep(app: &App, accounts: &Accounts) {
    if app.label.is_empty() {
        return;
    }
    let mut drafts = app.drafts.clone();
    if let (Some(key), false, None) = (app.draft_key(), app.composer.is_empty(), &app.edit) {
        drafts.insert(key, app.composer.text().to_owned());
    }
    drafts.retain(|_, text| !text.is_empty());
    Kept { room: app.room.clone(), drafts }.save(accounts, &app.label);
}
