//! Finding what was said by the words that were said.
//!
//! [CS-API §server-side-search] [`words`] takes a text apart, in every script; [`index`] follows the log and writes down
//! which words stand where; [`find`] answers. Why the index lies in the shard: `docs/design/0008-search.md`.

mod find;
mod index;
mod words;

use serde::Deserialize;
use serde_json::value::RawValue;

pub use self::find::{Found, Hit, LOOK_MAX, SearchQuery};
pub(crate) use self::index::{Indexed, forget, note_old, start};
use crate::room::Placed;

/// Where a text stands in an event. [CS-API §post_matrixclientv3search] `keys`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `content.body`, of messages.
    Body,
    /// `content.name`, of rooms.
    Name,
    /// `content.topic`, of rooms.
    Topic,
}

impl Field {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Body, Self::Name, Self::Topic];

    /// The letter that stands before each word of it in the index.
    fn letter(self) -> char {
        match self {
            Self::Body => 'b',
            Self::Name => 'n',
            Self::Topic => 't',
        }
    }
}

/// The text of an event that can be searched for. Of an edit, what it edits the message to.
fn text(placed: &Placed) -> Option<(Field, String)> {
    #[derive(Deserialize)]
    struct Content {
        body: Option<String>,
        name: Option<String>,
        topic: Option<String>,
        #[serde(rename = "m.new_content")]
        new: Option<NewContent>,
    }
    #[derive(Deserialize)]
    struct NewContent {
        body: Option<String>,
    }
    let event = &placed.event;
    let field = match (event.kind(), event.state_key()) {
        ("m.room.message", None) => Field::Body,
        ("m.room.name", Some("")) => Field::Name,
        ("m.room.topic", Some("")) => Field::Topic,
        _ => return None,
    };
    let content: &RawValue = event.content();
    let content: Content = serde_json::from_str(content.get()).ok()?;
    let text = match field {
        Field::Body => content.new.and_then(|new| new.body).or(content.body),
        Field::Name => content.name,
        Field::Topic => content.topic,
    };
    Some((field, text.filter(|text| !text.is_empty())?))
}
