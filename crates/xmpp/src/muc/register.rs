//! Registering with a room: a nickname that nobody else gets there. [XEP-0045 §register]

use std::sync::Arc;

use koine_graph::Membership;
use koine_room::{CommandError, Room};
use koine_stanza::{
    Condition, Element, StanzaError,
    form::{Field, Form},
};
use ruma_common::OwnedUserId;
use serde_json::json;

use super::{
    enter::{self, NICK_BYTES_MAX},
    name, refused, standing, unreadable,
};
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
    match register(&core, &room, &user, nick).await {
        Ok(()) => Ok(None),
        // Whoever may not come in, or may not set this there.
        Err(CommandError::Refused(_) | CommandError::Forbidden(_) | CommandError::NotJoined) => Err(StanzaError::new(
            Condition::NotAllowed,
            "this room does not let you register: be asked in, or ask its admins",
        )),
        Err(error) => Err(refused(&error)),
    }
}

/// Whoever registers becomes a member of the room, and whoever takes it back and is not there stops being one.
/// [XEP-0045 §register]
async fn register(
    core: &Arc<Core>,
    room: &Arc<Room>,
    user: &OwnedUserId,
    nick: Option<String>,
) -> Result<(), CommandError> {
    let is_member = standing::membership(room, user)? == Some(Membership::Join);
    if let Some(nick) = nick.as_ref().filter(|_| !is_member) {
        let profile = core.room_profile(user, nick);
        core.rooms().join(user, room.id(), &profile, None, enter::by_xmpp(nick)).await?;
    }
    let is_over = nick.is_none();
    let content = nick.map_or_else(|| json!({}), |nick| json!({ "nick": nick }));
    standing::set_state(core, user, room, standing::NICK, user.as_str(), &content).await?;
    if is_over && enter::joined_by_xmpp(room, user) {
        let is_there = match core.muc.hall(room.no()) {
            Some(hall) => !hall.inside.lock().await.nicks_of(user).is_empty(),
            None => false,
        };
        if !is_there {
            core.rooms().leave(user, room.id(), None).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        muc::tests::{ROOM, make},
        testing::World,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_registers_is_a_member_without_being_there() {
        let world = World::new();
        let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
        make(&mut alice, "alice").await;
        let set =
            |inner: &str| format!("<iq type='set' id='r' to='{ROOM}'><query xmlns='{REGISTER}'>{inner}</query></iq>");
        let form = format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{FORM}</value></field><field var='muc#register_roomnick'><value>bobby</value></field></x>"
        );
        let members = format!(
            "<iq type='get' id='m' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query></iq>"
        );
        assert_eq!(bob.ask(&set(&form)).await.kind(), Some("result"));
        let listed = alice.ask(&members).await.to_xml();
        assert!(listed.contains("jid='bob@example.org'") && listed.contains("nick='bobby'"), "{listed}");
        assert_eq!(bob.ask(&set("<remove/>")).await.kind(), Some("result"));
        assert!(!alice.ask(&members).await.to_xml().contains("bob@"));
        let address = koine_stanza::BareJid::new(ROOM).expect("an address");
        let room = name::room(world.core(), &address).expect("read").expect("it is there");
        let membership = standing::membership(&room, bob.session.user()).expect("read");
        assert_ne!(membership, Some(Membership::Join), "he has no more to do with it");
    }
}
