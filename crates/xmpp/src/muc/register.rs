//! Registering with a room: a nickname that nobody else gets there. [XEP-0045 §register]

use std::sync::Arc;

use koine_room::CommandError;
use koine_stanza::{
    Condition, Element, StanzaError,
    form::{Field, Form},
};
use serde_json::json;

use super::{enter::NICK_BYTES_MAX, name, refused, standing, unreadable};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// In-band registration. [XEP-0077]
const REGISTER: &str = "jabber:iq:register";
/// `FORM_TYPE` of the form.
const FORM: &str = "http://jabber.org/protocol/muc#register";

/// Nicknames.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Room, REGISTER)],
    handlers: &[Handler {
        at: &[At::Room],
        verbs: &[Verb::Get, Verb::Set],
        name: "query",
        ns: REGISTER,
        run: |core, request| Box::pin(answer(core, request)),
    }],
};

async fn answer(core: Arc<Core>, request: Request) -> Answer {
    let Some(room) = name::room(&core, &request.to.to_bare())? else {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room"));
    };
    let Some(user) = core.person_of(&request.from.to_bare()) else { return Err(Condition::NotAllowed.into()) };
    let read = |error| unreadable(&error);
    let had = standing::reserved_nick(&room, &user).map_err(read)?;
    if request.verb == Verb::Get {
        let query = Element::new("query", REGISTER);
        if let Some(nick) = had {
            let registered = query.with_child(Element::new("registered", REGISTER));
            return Ok(Some(registered.with_child(Element::text_of("username", REGISTER, nick))));
        }
        let nick = Field { required: true, ..Field::new("muc#register_roomnick", "text-single", "Nickname") };
        let mut form = Form::new("form", FORM).with(nick);
        form.title = Some("Register with this room".into());
        form.instructions = Some("Choose the nickname that will be yours in this room.".into());
        return Ok(Some(query.with_child(form.element())));
    }
    let nick = match request.payload.has_child("remove", REGISTER) {
        true => None,
        false => {
            let form = Form::within(&request.payload).filter(|form| form.kind == "submit");
            let nick = form.as_ref().and_then(|form| form.value("muc#register_roomnick")).map(str::trim);
            match nick {
                Some(nick) if !nick.is_empty() && nick.len() <= NICK_BYTES_MAX => Some(nick.to_owned()),
                _ => {
                    return Err(StanzaError::new(
                        Condition::BadRequest,
                        "the form names a nickname of at most 256 bytes",
                    ));
                }
            }
        }
    };
    if let Some(nick) = &nick {
        let conflict = || StanzaError::new(Condition::Conflict, "somebody else has this nickname");
        if standing::reserved_nicks(&room).map_err(read)?.get(nick).is_some_and(|other| *other != user) {
            return Err(conflict());
        }
        if let Some(hall) = core.muc.hall(room.no())
            && hall.inside.lock().await.occupant(nick).is_some_and(|occupant| occupant.user != user)
        {
            return Err(conflict());
        }
    }
    let content = nick.map_or_else(|| json!({}), |nick| json!({ "nick": nick }));
    match standing::set_state(&core, &user, &room, standing::NICK, user.as_str(), &content).await {
        Ok(()) => Ok(None),
        // Whoever is not in the room, or may not set this there.
        Err(CommandError::Refused(_) | CommandError::NotJoined) => Err(StanzaError::new(
            Condition::NotAllowed,
            "this room does not let you register: enter it, or ask its admins",
        )),
        Err(error) => Err(refused(&error)),
    }
}
