//! Service discovery of rooms, self-pings, and requests between occupants. [XEP-0045 §entity] [XEP-0410]

use std::sync::Arc;

use koine_projection::muc::Affiliation;
use koine_room::{DirectoryQuery, Room};
use koine_stanza::{
    BareJid, Condition, Element, Jid, StanzaError,
    form::{Field, Form},
    ns,
    rsm::PageWish,
};

use super::{hall::tell, name, settings::Settings, standing, unreadable};
use crate::{
    core::Core,
    iq::{self, Answer, At, Extension, Handler, Request, Verb},
    session::Session,
};

/// Stable ids of reflected messages. [XEP-0045 §message]
const STABLE_ID: &str = "http://jabber.org/protocol/muc#stable_id";
/// [XEP-0410]
const SELF_PING: &str = "http://jabber.org/protocol/muc#self-ping-optimization";
/// `FORM_TYPE` of what a room tells of itself.
const ROOM_INFO: &str = "http://jabber.org/protocol/muc#roominfo";
/// Most rooms on one page of the list.
const ITEMS_MAX: usize = 200;

/// Discovery.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[
        (At::RoomService, ns::MUC),
        (At::RoomService, STABLE_ID),
        (At::RoomService, ns::OCCUPANT_ID),
        (At::RoomService, ns::RSM),
        (At::Room, ns::DISCO_INFO),
        (At::Room, ns::DISCO_ITEMS),
        (At::Room, ns::MUC),
        (At::Room, "http://jabber.org/protocol/muc#request"),
        (At::Room, STABLE_ID),
        (At::Room, SELF_PING),
        (At::Room, ns::OCCUPANT_ID),
        (At::Room, ns::STANZA_ID),
        (At::Room, ns::CHAT_STATES),
        (At::Room, ns::CORRECT),
        (At::Room, ns::CHAT_MARKERS),
        (At::Room, ns::REACTIONS),
        (At::Room, ns::REPLY),
        (At::Room, ns::PING),
        (At::Host, "jabber:x:conference"),
    ],
    handlers: &[
        Handler {
            at: &[At::Room],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::DISCO_INFO,
            run: |core, request| Box::pin(info(core, request)),
        },
        Handler {
            at: &[At::Room],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::DISCO_ITEMS,
            run: |core, request| Box::pin(items(core, request)),
        },
        Handler {
            at: &[At::RoomService],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::DISCO_ITEMS,
            run: |core, request| Box::pin(rooms(core, request)),
        },
        Handler {
            at: &[At::Room],
            verbs: &[Verb::Get],
            name: "ping",
            ns: ns::PING,
            run: |core, request| Box::pin(ping(core, request)),
        },
    ],
};

fn no_such_room() -> StanzaError {
    StanzaError::new(Condition::ItemNotFound, "there is no such room")
}

fn find(core: &Core, request: &Request) -> Result<Arc<Room>, StanzaError> {
    name::room(core, &request.to.to_bare())?.ok_or_else(no_such_room)
}

/// Whether somebody may learn what a room is like: whoever is in it, asked in, or on its lists, and everybody where it is in the
/// directory or may be known of in Matrix.
pub(crate) fn may_know(core: &Core, room: &Room, asker: &BareJid) -> Result<bool, StanzaError> {
    let (read, person) = (|error| unreadable(&error), core.person_of(asker));
    if core.rooms().may_preview(room, person.as_deref()).map_err(read)? {
        return Ok(true);
    }
    let settings = Settings::of(core.rooms(), room).map_err(read)?;
    let Some(person) = person else { return Ok(settings.listed) };
    let (affiliation, _) = standing::of(room, &person, settings.members_only).map_err(read)?;
    Ok(affiliation >= Affiliation::Member || (settings.listed && affiliation > Affiliation::Outcast))
}

/// A room that the asker of a request may know of; for others it is as if there were none.
pub(super) fn find_known(core: &Core, request: &Request) -> Result<Arc<Room>, StanzaError> {
    let room = find(core, request)?;
    if may_know(core, &room, &request.from.to_bare())? { Ok(room) } else { Err(no_such_room()) }
}

async fn ping(core: Arc<Core>, request: Request) -> Answer {
    find(&core, &request)?;
    Ok(None)
}

/// [XEP-0045 §disco-roominfo]
async fn info(core: Arc<Core>, request: Request) -> Answer {
    let room = find(&core, &request)?;
    let read = |error| unreadable(&error);
    let asker = core.person_of(&request.from.to_bare());
    if let Some(node) = request.payload.attr("node") {
        // [XEP-0045 §reservednick]
        if node == "x-roomuser-item" {
            let mut query = Element::new("query", ns::DISCO_INFO).with_attr("node", node);
            let nick = asker.map(|user| standing::reserved_nick(&room, &user)).transpose().map_err(read)?.flatten();
            if let Some(nick) = nick {
                query.push(identity(&nick));
            }
            return Ok(Some(query));
        }
        // [XEP-0045 §impl-service-traffic] All traffic is allowed.
        let condition = if node == "http://jabber.org/protocol/muc#traffic" {
            Condition::ServiceUnavailable
        } else {
            Condition::ItemNotFound
        };
        return Err(StanzaError::new(condition, "there is no such node"));
    }
    let settings = Settings::of(core.rooms(), &room).map_err(read)?;
    let knows = may_know(&core, &room, &request.from.to_bare())?;
    if !knows && !settings.own.open_with_password {
        return Err(no_such_room());
    }
    let fallback = request.to.node().map(ToString::to_string).unwrap_or_default();
    let name = settings.name.as_deref().filter(|_| knows);
    let mut query = Element::new("query", ns::DISCO_INFO).with_child(identity(name.unwrap_or(&fallback)));
    let flags = [
        if settings.listed { "muc_public" } else { "muc_hidden" },
        "muc_persistent",
        if settings.members_only { "muc_membersonly" } else { "muc_open" },
        if settings.moderated { "muc_moderated" } else { "muc_unmoderated" },
        if settings.own.semi_anonymous { "muc_semianonymous" } else { "muc_nonanonymous" },
        if settings.own.password.is_some() { "muc_passwordprotected" } else { "muc_unsecured" },
    ];
    for feature in iq::features(At::Room).chain(flags) {
        query.push(Element::new("feature", ns::DISCO_INFO).with_attr("var", feature));
    }
    if !knows {
        // That it takes a password is all that whoever does not know it needs to know.
        return Ok(Some(query));
    }
    let present = match core.muc.hall(room.no()) {
        Some(hall) => hall.inside.lock().await.count(),
        None => usize::try_from(room.published().joined).unwrap_or(usize::MAX),
    };
    let topic = room
        .current("m.room.topic", "")
        .map_err(read)?
        .and_then(|placed| placed.event.content_field::<String>("topic"));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut form = Form::new("result", ROOM_INFO)
        .with(Field::text("muc#roominfo_description", "Description", &text(&settings.own.description)))
        .with(Field::text("muc#roominfo_subject", "Subject", &topic.unwrap_or_default()))
        .with(Field::boolean("muc#roominfo_subjectmod", "Occupants may change the subject", settings.open_subject))
        .with(Field::text("muc#roominfo_occupants", "Occupants", &present.to_string()))
        .with(Field::boolean("muc#roomconfig_changesubject", "Occupants may change the subject", settings.open_subject))
        .with(Field::boolean("muc#roomconfig_allowinvites", "Occupants may invite others", settings.open_invites));
    if let Some(language) = &settings.own.language {
        form = form.with(Field::text("muc#roominfo_lang", "Language", language));
    }
    if let Some(max) = settings.own.occupants_max {
        form = form.with(Field::text("muc#maxusers", "Most occupants", &max.to_string()));
    }
    form = form.with(super::slow::told(&settings));
    let more = [
        super::hats::hash(&super::hats::of(&room).map_err(read)?),
        super::picture::hash(&core, &room).await.map_err(read)?,
        super::activity::told(&room, &settings, core.now_ms()).map_err(read)?,
    ];
    form.fields.extend(more.into_iter().flatten());
    Ok(Some(query.with_child(form.element())))
}

fn identity(name: &str) -> Element {
    Element::new("identity", ns::DISCO_INFO)
        .with_attr("category", "conference")
        .with_attr("type", "text")
        .with_attr("name", name)
}

/// Who is in the room, for who is in it too, and for everybody where it is public. [XEP-0045 §disco-roomitems]
async fn items(core: Arc<Core>, request: Request) -> Answer {
    let room = find_known(&core, &request)?;
    let mut query = Element::new("query", ns::DISCO_ITEMS);
    let Some(hall) = core.muc.hall(room.no()) else { return Ok(Some(query)) };
    let inside = hall.inside.lock().await;
    let public = inside.settings.listed && !inside.settings.members_only && !inside.settings.own.semi_anonymous;
    if inside.nick_of(&request.from).is_none() && !public {
        return Ok(Some(query));
    }
    for nick in inside.occupants.keys().take(ITEMS_MAX) {
        query.push(Element::new("item", ns::DISCO_ITEMS).with_attr("jid", format!("{}/{nick}", request.to.to_bare())));
    }
    Ok(Some(query))
}

/// The public rooms. [XEP-0045 §disco-rooms]
async fn rooms(core: Arc<Core>, request: Request) -> Answer {
    if request.payload.attr("node").is_some() {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such node"));
    }
    let wish = PageWish::within(&request.payload);
    let limit = koine_room::DIRECTORY_PAGE_MAX;
    let (mut found, mut since) = (Vec::new(), None);
    loop {
        let query = DirectoryQuery { limit, since, ..DirectoryQuery::default() };
        let page = core.rooms().directory(&query).map_err(|error| unreadable(&error))?;
        for summary in page.rooms {
            if summary.room_type.is_some() {
                continue;
            }
            let room = core.rooms().room(&summary.room_id).map_err(|error| unreadable(&error))?;
            let jid = name::address(&core, &room).map_err(|error| unreadable(&error))?;
            let name = summary.name.or_else(|| jid.node().map(ToString::to_string)).unwrap_or_default();
            found.push((jid.to_string(), name));
        }
        since = page.next;
        if since.is_none() || found.len() >= koine_room::DIRECTORY_LOOK_MAX {
            break;
        }
    }
    let pages = wish.is_some() || found.len() > ITEMS_MAX;
    let none = || StanzaError::new(Condition::ItemNotFound, "the page was to begin at a room that is not in the list");
    let (page, given) = wish.unwrap_or_default().cut(found, ITEMS_MAX, |(jid, _)| jid.clone()).ok_or_else(none)?;
    let items = page
        .into_iter()
        .map(|(jid, name)| Element::new("item", ns::DISCO_ITEMS).with_attr("jid", jid).with_attr("name", name));
    let query = Element::new("query", ns::DISCO_ITEMS).with_children(items);
    Ok(Some(query.with_child_opt(pages.then(|| given.element()))))
}

/// A request, or an answer, from one occupant to another. Both keep their real addresses to themselves.
/// [XEP-0045 §bizrules-iq]
pub(crate) async fn request_to_occupant(
    core: &Arc<Core>,
    stanza: &Element,
    from: &Jid,
    to: &Jid,
    session: Option<&Arc<Session>>,
) -> Result<(), StanzaError> {
    let is_answer = matches!(stanza.kind(), Some("result" | "error"));
    let payload = stanza.children().next();
    // [XEP-0045 §disco-occupant]
    let discovers = payload.is_some_and(|payload| matches!(payload.ns(), ns::DISCO_INFO | ns::DISCO_ITEMS));
    let outside = || {
        let condition = if discovers { Condition::BadRequest } else { Condition::NotAcceptable };
        StanzaError::new(condition, "you are not in this room").with_by(&to.to_bare())
    };
    let room = match name::room(core, &to.to_bare())? {
        Some(room) => room,
        None if is_answer => return Ok(()),
        None => return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room")),
    };
    let hall = core.muc.hall(room.no()).ok_or_else(outside)?;
    let inside = hall.inside.lock().await;
    let own = inside.nick_of(from).ok_or_else(outside)?;
    let nick = to.resource().map(ToString::to_string).unwrap_or_default();
    let ping = payload.is_some_and(|payload| payload.is("ping", ns::PING));
    // [XEP-0410 §serveroptimisation] Whoever asks for themselves is told that they are there.
    if own == nick && ping && stanza.kind() == Some("get") {
        let answer = iq::result(stanza, None);
        drop(inside);
        core.deliver(answer).await;
        return Ok(());
    }
    let Some(occupant) = inside.occupant(&nick) else {
        if is_answer {
            return Ok(());
        }
        return Err(
            StanzaError::new(Condition::ItemNotFound, "nobody in the room has this nickname").with_by(&to.to_bare())
        );
    };
    // Cards are the account's, not the session's; and whoever is here by Matrix has no session.
    let card = payload.is_some_and(|payload| payload.is("vCard", "vcard-temp"));
    if stanza.kind() == Some("get") && card {
        let account = core.address_of(&occupant.user);
        drop(inside);
        let Some(account) = account else { return Err(Condition::ServiceUnavailable.into()) };
        return card_of(core, stanza, from, &account, session).await;
    }
    let Some(seat) = occupant.seats.last() else {
        return match is_answer {
            true => Ok(()),
            false => Err(StanzaError::new(Condition::ServiceUnavailable, "this member is not here by XMPP")),
        };
    };
    let mut passed = stanza.clone();
    passed.set_attr("from", Some(format!("{}/{own}", seat.room)));
    passed.set_attr("to", Some(seat.jid.to_string()));
    tell(core, seat, passed).await;
    Ok(())
}

/// Asks the account behind an occupant for its card, without saying who it is.
async fn card_of(
    core: &Arc<Core>,
    stanza: &Element,
    from: &Jid,
    account: &koine_stanza::BareJid,
    session: Option<&Arc<Session>>,
) -> Result<(), StanzaError> {
    let Some(user) = core.user_of(account) else {
        return Err(StanzaError::new(Condition::ServiceUnavailable, "this occupant has no card here"));
    };
    let payload = stanza.children().next().cloned().unwrap_or_else(|| Element::new("vCard", "vcard-temp"));
    let request = Request {
        from: from.clone(),
        to: Jid::from(account.clone()),
        verb: Verb::Get,
        payload,
        session: session.cloned(),
        account: Some(user),
    };
    let card = iq::answer(core, At::Account, request).await?;
    core.deliver(iq::result(stanza, card)).await;
    Ok(())
}
