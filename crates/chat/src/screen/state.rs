//! What the screen shows, as plain data: no terminal, no engine. [`update`](super::update) changes it, [`draw`](super::draw)
//! shows it, tests do both.

use std::collections::{HashMap, HashSet, VecDeque};

use ratatui::layout::Rect;

use super::editor::Editor;

/// A room in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomRow {
    pub id: String,
    pub name: String,
    pub topic: String,
    pub unread: u64,
    pub highlights: u64,
    pub encrypted: bool,
    pub public: bool,
    pub shows_past: bool,
    pub space: bool,
    pub invited: bool,
    pub inviter: Option<String>,
    /// Spaces it is in.
    pub parents: Vec<String>,
    /// When something was last said.
    pub latest_ms: u64,
    pub members: u64,
}

/// What became of a message of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sending {
    #[default]
    Done,
    Waiting,
    Failed(String),
}

/// What kind of line of a timeline it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Text,
    Notice,
    Emote,
    File,
    Image,
    State,
    Day,
    ReadMarker,
    Start,
    Removed,
    Undecryptable,
}

/// One line of a timeline: a message, or what is between messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Stable while the timeline is open.
    pub key: String,
    pub event_id: Option<String>,
    pub transaction_id: Option<String>,
    pub kind: Kind,
    pub sender: String,
    pub name: String,
    pub time_ms: u64,
    pub body: String,
    pub own: bool,
    pub editable: bool,
    pub edited: bool,
    /// Code and words of [`crate::trust`].
    pub trust: &'static str,
    pub words: &'static str,
    pub device: Option<String>,
    pub reply: Option<(String, String)>,
    pub reactions: Vec<(String, usize, bool)>,
    pub thread: Option<u32>,
    pub readers: Vec<String>,
    pub sending: Sending,
    pub file: Option<String>,
}

impl Item {
    /// What it says is not to be shown, for this reason.
    pub fn unreadable(&mut self, (code, words): crate::trust::Finding) {
        self.kind = Kind::Undecryptable;
        (self.trust, self.words) = (code, words);
        self.body.clear();
        self.file = None;
        self.editable = false;
    }

    /// Whether it is something somebody said.
    pub fn is_message(&self) -> bool {
        !matches!(self.kind, Kind::Day | Kind::ReadMarker | Kind::Start | Kind::State)
    }
}

/// A member of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRow {
    pub user_id: String,
    pub name: String,
    pub mark: &'static str,
    pub trust: &'static str,
    pub invited: bool,
    pub power: String,
    pub unsigned_devices: usize,
}

/// A device of somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRow {
    pub device_id: String,
    pub name: String,
    pub mark: &'static str,
    pub words: &'static str,
    pub blocked: bool,
}

/// An account of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountRow {
    pub label: String,
    pub user_id: String,
    pub current: bool,
}

/// Whether the server is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    #[default]
    Starting,
    Online,
    Lost(String),
    /// Nothing brings it back by itself.
    Ended(String),
}

/// What the keys go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    #[default]
    Rooms,
    Timeline,
    Composer,
}

/// What a form is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Login,
    Create,
    Join,
    Invite,
    React,
    Settings,
    Recover,
    SendFile,
    SearchMessages,
    FilterRooms,
}

/// One field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub label: &'static str,
    pub value: Value,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Editor),
    Secret(Editor),
    Switch(bool),
}

impl Field {
    pub fn text(label: &'static str, value: &str) -> Self {
        Self { label, value: Value::Text(Editor::new(value)) }
    }

    pub fn secret(label: &'static str) -> Self {
        Self { label, value: Value::Secret(Editor::default()) }
    }

    pub fn switch(label: &'static str, on: bool) -> Self {
        Self { label, value: Value::Switch(on) }
    }

    pub fn as_text(&self) -> String {
        match &self.value {
            Value::Text(editor) | Value::Secret(editor) => editor.text().to_owned(),
            Value::Switch(_) => String::new(),
        }
    }

    pub fn is_on(&self) -> bool {
        matches!(self.value, Value::Switch(true))
    }
}

/// Something in front of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Popup {
    Help {
        scroll: u16,
    },
    Form {
        purpose: Purpose,
        title: &'static str,
        text: String,
        fields: Vec<Field>,
        at: usize,
        busy: bool,
        error: String,
    },
    Text {
        title: String,
        text: String,
        scroll: u16,
    },
    Members {
        rows: Vec<MemberRow>,
        at: usize,
    },
    Devices {
        user: String,
        rows: Vec<DeviceRow>,
        at: usize,
    },
    Accounts {
        rows: Vec<AccountRow>,
        at: usize,
    },
    Question {
        text: String,
        yes: Effect,
    },
    Asked {
        who: String,
        flow: String,
    },
    Emoji {
        emoji: Vec<(String, String)>,
        answered: bool,
    },
}

/// What is to become of a room; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub name: Option<String>,
    pub topic: Option<String>,
    /// Anybody may join, or whoever is invited.
    pub public: Option<bool>,
    /// New members read what was said before they came.
    pub shows_past: Option<bool>,
    pub encrypt: bool,
}

/// What the engine is to do. `update` returns these; nothing else reaches out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Login { server: String, user: String, password: String },
    Open { room: String },
    OpenThread { room: String, root: String },
    CloseThread,
    Older,
    Send { text: String, emote: bool, reply: Option<String>, edit: Option<String> },
    React { key: String, with: String },
    Redact { key: String },
    Retry { key: String },
    Read,
    Typing(bool),
    Members { room: String },
    Devices { user: String },
    Block { user: String, device: String, block: bool },
    AcceptIdentity { user: String },
    Join { room: String },
    Leave { room: String },
    Invite { room: String, user: String },
    Create { name: String, topic: String, plain: bool, public: bool, invite: String },
    Settings { room: String, changes: Changes },
    Recover { key: String },
    SendFile { path: String },
    SaveFile { event: String },
    Picture { event: String },
    Verify { user: Option<String> },
    AcceptVerification { who: String, flow: String },
    AnswerEmoji(bool),
    CancelVerification,
    Accounts,
    Switch { label: String },
    Keep,
    Quit,
}

/// A picture in half blocks: rows of pairs of colours, upper and lower.
pub type Picture = Vec<Vec<([u8; 3], [u8; 3])>>;

/// What happened: a key, or news from the engine.
#[derive(Clone, Debug)]
pub enum Event {
    Key(crossterm::event::KeyEvent),
    Mouse(crossterm::event::MouseEvent),
    Paste(String),
    Redraw,
    /// An account is open.
    Opened {
        label: String,
        user_id: String,
        verified: bool,
        room: Option<String>,
        drafts: HashMap<String, String>,
    },
    /// No account is there.
    NoAccount,
    LoginFailed(String),
    Rooms(Vec<RoomRow>),
    Timeline {
        room: String,
        thread: bool,
        items: Vec<Item>,
    },
    Typing {
        room: String,
        names: Vec<String>,
    },
    Connection(Connection),
    Verified(bool),
    Members {
        room: String,
        rows: Vec<MemberRow>,
    },
    Devices {
        user: String,
        rows: Vec<DeviceRow>,
    },
    /// Members of the open room whose identity is another than it was.
    Changed {
        room: String,
        users: Vec<String>,
    },
    /// Something failed beside the screen, which goes on.
    Stumbled(String),
    Accounts(Vec<AccountRow>),
    Picture {
        event: String,
        picture: Picture,
    },
    /// Show a room that was just made or joined.
    Show(String),
    Note(String),
    Trouble(String),
    /// Words that stay until they are closed: a recovery key.
    Tell {
        title: String,
        text: String,
    },
    Asked {
        who: String,
        flow: String,
    },
    Emoji(Vec<(String, String)>),
    VerificationEnded(String),
}

/// Where things were drawn, for the mouse.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    pub rooms: Rect,
    pub timeline: Rect,
    pub composer: Rect,
    /// Row on screen to index in the list of visible rooms.
    pub room_rows: Vec<(u16, usize)>,
    /// Row on screen to index of the item.
    pub item_rows: Vec<(u16, usize)>,
}

/// One pane of messages.
#[derive(Clone, Debug, Default)]
pub struct Pane {
    pub items: Vec<Item>,
    /// Key of the selected item; the end is followed without one.
    pub selected: Option<String>,
    /// Index of the last item shown while one is selected.
    pub bottom: usize,
}

impl Pane {
    /// Index of the selected item.
    pub fn at(&self) -> Option<usize> {
        let key = self.selected.as_ref()?;
        self.items.iter().position(|item| item.key == *key)
    }

    /// The selected item, or the last message.
    pub fn current(&self) -> Option<&Item> {
        match self.at() {
            Some(at) => self.items.get(at),
            None => self.items.iter().rev().find(|item| item.is_message()),
        }
    }
}

/// Everything the screen knows.
#[derive(Clone, Debug, Default)]
pub struct App {
    pub label: String,
    pub user_id: String,
    pub verified: bool,
    pub connection: Connection,
    pub rooms: Vec<RoomRow>,
    pub collapsed: HashSet<String>,
    pub room_filter: String,
    /// Index in the list of visible rooms.
    pub room_at: usize,
    pub room: Option<String>,
    pub pane: Pane,
    /// Root of the open thread, and its messages.
    pub thread: Option<String>,
    pub thread_pane: Pane,
    pub composer: Editor,
    pub reply: Option<(String, String)>,
    pub edit: Option<String>,
    /// What was typed elsewhere, by room or thread.
    pub drafts: HashMap<String, String>,
    pub typing: Vec<String>,
    /// Members of the open room whose identity is another than it was.
    pub changed: Vec<String>,
    pub focus: Focus,
    pub popup: Option<Popup>,
    /// What comes to the front once `popup` was closed: nothing that came by itself takes the place of what somebody reads or fills in.
    pub waiting: VecDeque<Popup>,
    pub search: String,
    pub note: String,
    pub is_trouble: bool,
    pub pictures: HashMap<String, Picture>,
    pub areas: Areas,
    pub told_typing: bool,
    /// How often the account was opened anew because the engine stumbled.
    pub stumbles: u32,
    pub quit: bool,
}

/// A row of the list of rooms as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Index in `rooms`.
    pub index: usize,
    pub indented: bool,
}

impl App {
    /// Rooms in the order they are shown: invitations, rooms, then spaces with what is in them.
    pub fn shown_rooms(&self) -> Vec<Shown> {
        let filter = self.room_filter.to_lowercase();
        let fits = |room: &RoomRow| filter.is_empty() || room.name.to_lowercase().contains(&filter);
        let mut order: Vec<usize> = (0..self.rooms.len()).collect();
        order.sort_by_key(|index| {
            let room = &self.rooms[*index];
            (!room.invited, std::cmp::Reverse(room.latest_ms), room.name.to_lowercase(), room.id.clone())
        });
        let spaces: HashSet<&str> =
            self.rooms.iter().filter(|room| room.space && !room.invited).map(|room| room.id.as_str()).collect();
        let in_space = |room: &RoomRow| room.parents.iter().any(|parent| spaces.contains(parent.as_str()));
        let mut shown = Vec::new();
        for index in &order {
            let room = &self.rooms[*index];
            if (room.invited || (!room.space && !in_space(room))) && fits(room) {
                shown.push(Shown { index: *index, indented: false });
            }
        }
        for space in order.iter().filter(|index| self.rooms[**index].space && !self.rooms[**index].invited) {
            let id = &self.rooms[*space].id;
            let inside: Vec<usize> = order
                .iter()
                .copied()
                .filter(|index| {
                    let room = &self.rooms[*index];
                    !room.space && !room.invited && room.parents.contains(id) && fits(room)
                })
                .collect();
            if !inside.is_empty() || fits(&self.rooms[*space]) {
                shown.push(Shown { index: *space, indented: false });
            }
            if !self.collapsed.contains(id) || !filter.is_empty() {
                shown.extend(inside.into_iter().map(|index| Shown { index, indented: true }));
            }
        }
        shown
    }

    /// The open room.
    pub fn open_room(&self) -> Option<&RoomRow> {
        let id = self.room.as_ref()?;
        self.rooms.iter().find(|room| room.id == *id)
    }

    /// The pane the keys go to.
    pub fn active(&self) -> &Pane {
        if self.thread.is_some() { &self.thread_pane } else { &self.pane }
    }

    /// As [`active`](Self::active).
    pub fn active_mut(&mut self) -> &mut Pane {
        if self.thread.is_some() { &mut self.thread_pane } else { &mut self.pane }
    }

    /// Under which key what is being typed is kept.
    pub fn draft_key(&self) -> Option<String> {
        let room = self.room.as_ref()?;
        Some(match &self.thread {
            Some(root) => format!("{room} {root}"),
            None => room.clone(),
        })
    }
}
