//! What the configuration form of a room says, and where the room keeps it. [XEP-0045 §roomconfig]
//!
//! What Matrix has a state event for is there; the rest is in one of ours, [`SETTINGS`].
//!
//! A password is the room's own way of asking in: to Matrix the room is for those who are invited, and whoever comes by XMPP
//! with the password is invited by the room. Like everything that the form says it is state of the room, which its members
//! can read.

use koine_projection::muc::SETTINGS;
use koine_room::{ReadError, Room};
use koine_stanza::form::{Field, Form};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// `FORM_TYPE` of the form.
pub(super) const ROOM_CONFIG: &str = "http://jabber.org/protocol/muc#roomconfig";
/// Who may read what was said.
const HISTORY: &str = "m.room.history_visibility";
/// Its value where a room is a public archive.
const FOR_ALL: &str = "world_readable";
/// Longest text of a field, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 4_096;

/// Who may send private messages through the room. [XEP-0045 §registrar-formtype-owner]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PrivateMessages {
    #[default]
    Anyone,
    Participants,
    Moderators,
    None,
}

/// The part of the settings that Matrix has no place for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Own {
    pub(super) description: Option<String>,
    pub(super) language: Option<String>,
    /// Only moderators are told who is behind a nickname. Matrix members know anyway.
    pub(super) semi_anonymous: bool,
    pub(super) private_messages: PrivateMessages,
    /// Most occupants; `None`: no bound of the room's own.
    pub(super) occupants_max: Option<usize>,
    /// Seconds that somebody waits between two messages; 0: none. [XEP-0500]
    pub(super) slow_mode_s: u64,
    /// Members who are mentioned and not there are told. [XEP-0452]
    pub(super) forward_mentions: bool,
    /// Whoever comes by XMPP has to say it. [XEP-0045 §enter-pw]
    pub(super) password: Option<String>,
    /// One is asked in because there is a password, not because the room is for members alone.
    pub(super) open_with_password: bool,
    /// Who made the room from XMPP. They are present when they enter, not because they are a member.
    pub(super) made_by: Option<String>,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            description: None,
            language: None,
            semi_anonymous: false,
            private_messages: PrivateMessages::default(),
            occupants_max: None,
            slow_mode_s: 0,
            forward_mentions: true,
            password: None,
            open_with_password: false,
            made_by: None,
        }
    }
}

/// The settings of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) name: Option<String>,
    pub(super) own: Own,
    pub(super) members_only: bool,
    pub(super) moderated: bool,
    pub(super) listed: bool,
    /// Whoever may speak may change the subject.
    pub(super) open_subject: bool,
    /// Whoever is in may invite.
    pub(super) open_invites: bool,
    /// What is said is there for everybody to read, without entering. [XEP-0045 §enter-logging]
    pub(super) logged: bool,
}

impl Settings {
    /// As the room has them now.
    pub(super) fn of(rooms: &koine_room::Rooms, room: &Room) -> Result<Self, ReadError> {
        let text = |kind: &str, field: &str| -> Result<Option<String>, ReadError> {
            let found = room.current(kind, "")?.and_then(|placed| placed.event.content_field::<String>(field));
            Ok(found.filter(|text| !text.is_empty()))
        };
        let own = room.current(SETTINGS, "")?;
        let own: Own =
            own.and_then(|placed| serde_json::from_str(placed.event.content().get()).ok()).unwrap_or_default();
        let levels = super::standing::levels(room)?;
        let invites = text("m.room.join_rules", "join_rule")?.as_deref() != Some("public");
        Ok(Self {
            name: text("m.room.name", "name")?,
            members_only: invites && !(own.password.is_some() && own.open_with_password),
            own,
            moderated: levels.level_for_event("m.room.message", false) > levels.users_default(),
            listed: rooms.is_listed(room.id())?,
            open_subject: levels.level_for_event("m.room.topic", true)
                <= levels.level_for_event("m.room.message", false),
            open_invites: levels.invite() <= levels.users_default(),
            logged: text(HISTORY, "history_visibility")?.as_deref() == Some(FOR_ALL),
        })
    }

    /// The form with these settings filled in.
    pub(super) fn form(&self, kind: &str) -> Form {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let own = &self.own;
        let whois = if own.semi_anonymous { "moderators" } else { "anyone" };
        let private = match own.private_messages {
            PrivateMessages::Anyone => "anyone",
            PrivateMessages::Participants => "participants",
            PrivateMessages::Moderators => "moderators",
            PrivateMessages::None => "none",
        };
        let max = own.occupants_max.map_or_else(|| "none".to_owned(), |max| max.to_string());
        let maxima = [("none", "none"), ("10", "10"), ("50", "50"), ("100", "100"), ("500", "500"), ("1000", "1000")];
        let f = |name: &str| format!("muc#roomconfig_{name}");
        let mut form = Form::new(kind, ROOM_CONFIG)
            .with(Field::text(&f("roomname"), "Name", &text(&self.name)))
            .with(Field::text(&f("roomdesc"), "Description", &text(&own.description)))
            .with(Field::text(&f("lang"), "Language", &text(&own.language)))
            .with(Field::boolean(&f("persistentroom"), "The room stays when nobody is in it (it always does)", true))
            .with(Field::boolean(&f("publicroom"), "List the room in the directory", self.listed))
            .with(Field::boolean(&f("membersonly"), "Only members may enter", self.members_only))
            .with(Field::boolean(&f("moderatedroom"), "Only those with voice may speak", self.moderated))
            .with(Field::boolean(&f("passwordprotectedroom"), "A password is needed to enter", own.password.is_some()))
            .with(Field {
                kind: "text-private".into(),
                ..Field::text(&f("roomsecret"), "The password", &text(&own.password))
            })
            .with(Field::boolean(&f("changesubject"), "Occupants may change the subject", self.open_subject))
            .with(Field::boolean(&f("allowinvites"), "Occupants may invite others", self.open_invites))
            .with(Field::boolean(&f("enablelogging"), "Everybody may read what is said, without entering", self.logged))
            .with(Field::list(&f("maxusers"), "Most occupants", &max, &maxima))
            .with(super::slow::configured(self))
            .with(Field::boolean(
                &f("forwardmentions"),
                "Members who are mentioned and not there are told",
                own.forward_mentions,
            ))
            .with(Field::list(
                &f("whois"),
                "Who may see who is behind a nickname",
                whois,
                &[("moderators", "Moderators"), ("anyone", "Anyone")],
            ))
            .with(Field::list(
                &f("allowpm"),
                "Who may send private messages",
                private,
                &[
                    ("anyone", "Anyone"),
                    ("participants", "Those with voice"),
                    ("moderators", "Moderators"),
                    ("none", "Nobody"),
                ],
            ));
        form.title = Some(format!("Settings of {}", self.name.as_deref().unwrap_or("this room")));
        form
    }

    /// These settings with what a submitted form says.
    ///
    /// # Errors
    /// A sentence for a value that cannot be.
    pub(super) fn with(&self, form: &Form) -> Result<Self, &'static str> {
        let mut new = self.clone();
        let (mut secret, mut protected) = (None, None);
        for field in &form.fields {
            let Some(name) = field.var.strip_prefix("muc#roomconfig_") else { continue };
            let value = field.value().unwrap_or_default();
            if value.len() > TEXT_BYTES_MAX {
                return Err("a value of the form is too long");
            }
            let truth = || field.bool().ok_or("a boolean of the form is neither true nor false");
            let text = Some(value.to_owned()).filter(|text| !text.is_empty());
            match name {
                "roomname" => new.name = text,
                "roomdesc" => new.own.description = text,
                "lang" => new.own.language = text,
                "publicroom" => new.listed = truth()?,
                "membersonly" => new.members_only = truth()?,
                "moderatedroom" => new.moderated = truth()?,
                "changesubject" => new.open_subject = truth()?,
                "allowinvites" => new.open_invites = truth()?,
                "enablelogging" => new.logged = truth()?,
                "roomsecret" => secret = Some(text),
                "passwordprotectedroom" => protected = Some(truth()?),
                "maxusers" => {
                    new.own.occupants_max = match value {
                        "" | "none" | "0" => None,
                        number => Some(number.parse().map_err(|_| "maxusers is a number or none")?),
                    }
                }
                "slow_mode_duration" => {
                    let seconds =
                        value.trim().parse::<u64>().ok().filter(|seconds| *seconds <= super::slow::SLOW_MAX_S);
                    new.own.slow_mode_s = seconds.ok_or("slow_mode_duration is a number of seconds, at most a day")?;
                }
                "forwardmentions" => new.own.forward_mentions = truth()?,
                "whois" => {
                    new.own.semi_anonymous = match value {
                        "anyone" => false,
                        "moderators" => true,
                        _ => return Err("whois is anyone or moderators"),
                    }
                }
                "allowpm" => {
                    new.own.private_messages = match value {
                        "anyone" => PrivateMessages::Anyone,
                        "participants" => PrivateMessages::Participants,
                        "moderators" => PrivateMessages::Moderators,
                        "none" => PrivateMessages::None,
                        _ => return Err("allowpm is anyone, participants, moderators or none"),
                    }
                }
                _ => {}
            }
        }
        // A secret alone changes nothing; a form without one keeps the one that is.
        new.own.password = match protected.unwrap_or(self.own.password.is_some()) {
            true => secret.unwrap_or_else(|| self.own.password.clone()),
            false => None,
        };
        if protected == Some(true) && new.own.password.is_none() {
            return Err("a room with a password needs one that is not empty");
        }
        new.own.open_with_password = new.own.password.is_some() && !new.members_only;
        Ok(new)
    }

    /// The state that has to be set to come from `self` to `new`: type and content.
    pub(super) fn changes(&self, new: &Self, levels: &Map<String, Value>) -> Vec<(&'static str, Value)> {
        let mut changes = Vec::new();
        if self.name != new.name {
            changes.push(("m.room.name", json!({ "name": new.name.clone().unwrap_or_default() })));
        }
        if self.own != new.own {
            changes.push((SETTINGS, serde_json::to_value(&new.own).unwrap_or_default()));
        }
        if self.logged != new.logged {
            let who = if new.logged { FOR_ALL } else { "shared" };
            changes.push((HISTORY, json!({ "history_visibility": who })));
        }
        let mut wanted = levels.clone();
        let default = levels.get("users_default").and_then(Value::as_i64).unwrap_or(0);
        if self.moderated != new.moderated {
            let speak = if new.moderated { default + 1 } else { default };
            wanted.insert("events_default".into(), json!(speak));
            if let Some(events) = wanted.get_mut("events").and_then(Value::as_object_mut) {
                events.remove("m.room.message");
            }
        }
        if self.open_subject != new.open_subject {
            let speak = wanted.get("events_default").and_then(Value::as_i64).unwrap_or(0);
            let kick = levels.get("kick").and_then(Value::as_i64).unwrap_or(50);
            let events = wanted.entry("events").or_insert_with(|| json!({}));
            if let Some(events) = events.as_object_mut() {
                events.insert("m.room.topic".into(), json!(if new.open_subject { speak } else { kick }));
            }
        }
        if self.open_invites != new.open_invites {
            let kick = levels.get("kick").and_then(Value::as_i64).unwrap_or(50);
            wanted.insert("invite".into(), json!(if new.open_invites { default } else { kick }));
        }
        if wanted != *levels {
            changes.push(("m.room.power_levels", Value::Object(wanted)));
        }
        let invites = |settings: &Self| settings.members_only || settings.own.open_with_password;
        if invites(self) != invites(new) {
            changes.push(("m.room.join_rules", json!({ "join_rule": if invites(new) { "invite" } else { "public" } })));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_filled_in_with_what_is_changes_nothing() {
        let settings = Settings { name: Some("A Dark Cave".into()), open_subject: true, ..Settings::default() };
        assert_eq!(settings.with(&settings.form("submit")).as_ref(), Ok(&settings));
        assert!(settings.changes(&settings, &Map::new()).is_empty());
    }

    #[test]
    fn a_password_closes_the_room_to_matrix_without_making_it_members_only() {
        let settings = Settings::default();
        let form = |protected, secret: &str| {
            let field = |name: &str| format!("muc#roomconfig_{name}");
            Form::new("submit", ROOM_CONFIG)
                .with(Field::boolean(&field("passwordprotectedroom"), "", protected))
                .with(Field::text(&field("roomsecret"), "", secret))
        };
        let new = settings.with(&form(true, "cauldronburn")).expect("it can be so");
        assert_eq!(new.own.password.as_deref(), Some("cauldronburn"));
        let changes = settings.changes(&new, &Map::new());
        assert!(changes.contains(&("m.room.join_rules", json!({ "join_rule": "invite" }))), "{changes:?}");
        assert!(settings.with(&form(true, "")).is_err());
        let open = new.with(&form(false, "cauldronburn")).expect("it can be so");
        assert_eq!(open, settings);
        let changes = new.changes(&open, &Map::new());
        assert!(changes.contains(&("m.room.join_rules", json!({ "join_rule": "public" }))), "{changes:?}");
    }

    #[test]
    fn a_log_for_everybody_is_what_matrix_lets_everybody_read() {
        let settings = Settings::default();
        let new = Settings { logged: true, ..settings.clone() };
        let change = |from: &Settings, to| from.changes(to, &Map::new());
        let event = |who| vec![("m.room.history_visibility", json!({ "history_visibility": who }))];
        assert_eq!(change(&settings, &new), event("world_readable"));
        assert_eq!(change(&new, &settings), event("shared"));
    }

    #[test]
    fn moderation_is_a_level() {
        let settings = Settings::default();
        let new = Settings { moderated: true, ..settings.clone() };
        let changes = settings.changes(&new, &Map::new());
        assert_eq!(changes, vec![("m.room.power_levels", json!({ "events_default": 1 }))]);
    }
}
