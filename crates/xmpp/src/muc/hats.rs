//! XEP-0317: Hats: power levels that roles and affiliations do not tell apart, as something that people wear. They are read
//! here, and changed where levels are.

use std::{collections::HashMap, sync::Arc};

use koine_graph::{Level, PowerLevels};
use koine_projection::muc;
use koine_room::{ReadError, Room};
use koine_stanza::{
    Condition, Element, StanzaError,
    form::{Field, Form},
};
use ruma_common::{OwnedUserId, UserId};
use sha2::{Digest as _, Sha256};

use super::{name, standing, unreadable};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const HATS: &str = "urn:xmpp:hats:0";
/// Commands of rooms. [XEP-0050]
const COMMANDS: &str = "http://jabber.org/protocol/commands";
/// The command that lists hats.
const LIST: &str = "urn:xmpp:hats:commands:list";
/// Most hats of a room that are told of.
const HATS_MAX: usize = 200;

/// What rooms show and list.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Room, HATS), (At::Room, COMMANDS)],
    handlers: &[Handler {
        at: &[At::Room],
        verbs: &[Verb::Set],
        name: "command",
        ns: COMMANDS,
        run: |core, request| Box::pin(async move { command(&core, &request) }),
    }],
};

/// Who wears which.
pub(super) type Hats = HashMap<OwnedUserId, i64>;

/// The hats of a room now.
pub(super) fn of(room: &Room) -> Result<Hats, ReadError> {
    Ok(worn(&standing::levels(room)?))
}

fn worn(levels: &PowerLevels) -> Hats {
    let known = muc::told_levels(levels);
    let worn = levels.users().filter_map(|(user, _)| {
        let user = OwnedUserId::try_from(user).ok()?;
        match levels.user_level(&user) {
            Level::Number(level) if level > levels.users_default() && !known.contains(&level) => Some((user, level)),
            _ => None,
        }
    });
    worn.take(HATS_MAX).collect()
}

fn title(level: i64) -> String {
    format!("Level {level}")
}

/// `<hats/>` in somebody's presence. [XEP-0317 §presence]
pub(super) fn shown(hats: &Hats, user: &UserId) -> Option<Element> {
    let level = *hats.get(user)?;
    let hat = Element::new("hat", HATS).with_attr("title", title(level)).with_attr("uri", muc::hat_uri(level));
    Some(Element::new("hats", HATS).with_child(hat))
}

/// Which hats there are, each once.
fn kinds(hats: &Hats) -> Vec<i64> {
    let mut levels: Vec<i64> = hats.values().copied().collect();
    levels.sort_unstable();
    levels.dedup();
    levels
}

/// The field by which clients learn that the list is another. [XEP-0317 §disco]
pub(super) fn hash(hats: &Hats) -> Option<Field> {
    let kinds = kinds(hats);
    let uris: String = kinds.iter().map(|level| muc::hat_uri(*level) + "\n").collect();
    let hash: String = Sha256::digest(uris.as_bytes()).iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    (!kinds.is_empty()).then(|| Field::text("hats#hash", "Hats", &hash))
}

fn command(core: &Arc<Core>, request: &Request) -> Answer {
    let Some(room) = name::room(core, &request.to.to_bare())? else {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room"));
    };
    if request.payload.attr("node") != Some(LIST) {
        return Err(StanzaError::new(
            Condition::ItemNotFound,
            "hats are levels here, which are not changed by commands",
        ));
    }
    let user = core.person_of(&request.from.to_bare());
    if !user.is_some_and(|user| room.is_joined(&user)) {
        return Err(StanzaError::new(Condition::Forbidden, "this is for those who are in the room"));
    }
    let hats = of(&room).map_err(|error| unreadable(&error))?;
    let mut table = Form::new("result", "urn:xmpp:hats:commands");
    table = table.with_reported(&[("hats#title", "Title"), ("hats#uri", "Name")]);
    for level in kinds(&hats) {
        let field = |var: &str, value: String| Field::new(var, "", "").with(value);
        table = table.with_item(vec![field("hats#title", title(level)), field("hats#uri", muc::hat_uri(level))]);
    }
    let answer = Element::new("command", COMMANDS)
        .with_attr("node", LIST)
        .with_attr("sessionid", format!("{:016x}", rand::random::<u64>()))
        .with_attr("status", "completed");
    Ok(Some(answer.with_child(table.element())))
}
