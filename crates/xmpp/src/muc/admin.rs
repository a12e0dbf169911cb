//! Roles and affiliations by request. [XEP-0045 §moderator] [XEP-0045 §admin]
//!
//! Whoever lacks the privilege gets `forbidden`; what nobody may do to somebody, `not-allowed`.

use std::sync::Arc;

use koine_projection::muc::{Affiliation, Role};
use koine_room::Room;
use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};

use super::{
    hall::Inside,
    name, refused,
    standing::{self, Promotion},
    unreadable,
};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// Most people changed with one request.
const ITEMS_MAX: usize = 500;

/// Lists and changes.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Room, ns::MUC_ADMIN)],
    handlers: &[Handler {
        at: &[At::Room],
        verbs: &[Verb::Get, Verb::Set],
        name: "query",
        ns: ns::MUC_ADMIN,
        run: |core, request| Box::pin(answer(core, request)),
    }],
};

/// Who asks, about which room.
struct Asked<'a> {
    core: &'a Arc<Core>,
    room: Arc<Room>,
    address: BareJid,
    actor: OwnedUserId,
    standing: (Affiliation, Role),
    members_only: bool,
    semi_anonymous: bool,
}

async fn answer(core: Arc<Core>, request: Request) -> Answer {
    let address = request.to.to_bare();
    let Some(room) = name::room(&core, &address)? else {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room"));
    };
    let Some(actor) = core.person_of(&request.from.to_bare()) else {
        return Err(StanzaError::from(Condition::Forbidden));
    };
    let settings = super::settings::Settings::of(core.rooms(), &room).map_err(|error| unreadable(&error))?;
    let standing = standing::of(&room, &actor, settings.members_only).map_err(|error| unreadable(&error))?;
    let (members_only, semi_anonymous) = (settings.members_only, settings.own.semi_anonymous);
    let asked = Asked { core: &core, room, address, actor, standing, members_only, semi_anonymous };
    let items: Vec<&Element> =
        request.payload.children().filter(|item| item.is("item", ns::MUC_ADMIN)).take(ITEMS_MAX).collect();
    match request.verb {
        Verb::Get => asked.list(items.first().copied()).await,
        Verb::Set => asked.change(&items).await,
    }
}

impl Asked<'_> {
    /// [XEP-0045 §modifyban] [XEP-0045 §modifymember] [XEP-0045 §modifyvoice] [XEP-0045 §modifymod]
    async fn list(&self, item: Option<&Element>) -> Answer {
        let bad = || StanzaError::new(Condition::BadRequest, "an item names the role or the affiliation to list");
        let item = item.ok_or_else(bad)?;
        let mut query = Element::new("query", ns::MUC_ADMIN);
        match (item.attr("affiliation"), item.attr("role")) {
            (Some(affiliation), None) => {
                let wanted = Affiliation::parse(affiliation).ok_or_else(bad)?;
                // Whoever is in a room where everybody is known may know its members: encryption needs them.
                let needed = match wanted {
                    Affiliation::Outcast | Affiliation::None => Affiliation::Admin,
                    _ if self.semi_anonymous => Affiliation::Admin,
                    _ if self.members_only => Affiliation::Member,
                    _ => Affiliation::None,
                };
                let is_in = self.is_in().await;
                if self.standing.0 < needed
                    || (needed == Affiliation::None && !is_in && self.standing.0 < Affiliation::Member)
                {
                    return Err(StanzaError::new(Condition::Forbidden, "this list is not for everybody"));
                }
                if wanted == Affiliation::None {
                    return Err(bad());
                }
                for user in standing::list(&self.room, wanted, self.members_only).map_err(|error| unreadable(&error))? {
                    let Some(jid) = self.core.address_of(&user) else { continue };
                    let nick = standing::reserved_nick(&self.room, &user).map_err(|error| unreadable(&error))?;
                    let item = Element::new("item", ns::MUC_ADMIN)
                        .with_attr("affiliation", wanted.as_str())
                        .with_attr("jid", jid.to_string())
                        .with_attr_opt("nick", nick.filter(|_| wanted != Affiliation::Outcast));
                    query.push(item);
                }
            }
            (None, Some(role)) => {
                let wanted = Role::parse(role).filter(|role| *role != Role::None).ok_or_else(bad)?;
                let may = match wanted {
                    Role::Moderator => self.standing.0 >= Affiliation::Admin,
                    _ => self.standing.1 >= Role::Moderator,
                };
                if !may {
                    return Err(StanzaError::new(Condition::Forbidden, "this list is for those who keep order"));
                }
                let Some(hall) = self.core.muc.hall(self.room.no()) else { return Ok(Some(query)) };
                let inside = hall.inside.lock().await;
                for (nick, occupant) in inside.occupants.iter().filter(|(_, occupant)| occupant.role == wanted) {
                    let real = occupant.seats.last().map(|seat| seat.jid.to_string());
                    let real = real.or_else(|| self.core.address_of(&occupant.user).map(|jid| jid.to_string()));
                    let item = Element::new("item", ns::MUC_ADMIN)
                        .with_attr("affiliation", occupant.affiliation.as_str())
                        .with_attr("role", occupant.role.as_str())
                        .with_attr("nick", nick.as_str())
                        .with_attr_opt("jid", real);
                    query.push(item);
                }
            }
            _ => return Err(bad()),
        }
        Ok(Some(query))
    }

    async fn is_in(&self) -> bool {
        let Some(hall) = self.core.muc.hall(self.room.no()) else { return false };
        let inside = hall.inside.lock().await;
        !inside.nicks_of(&self.actor).is_empty()
    }

    /// All or nothing: what may not be is found before anything is done.
    async fn change(&self, items: &[&Element]) -> Answer {
        if items.is_empty() {
            return Err(StanzaError::new(Condition::BadRequest, "there is nothing to change"));
        }
        let mut changes = Vec::with_capacity(items.len());
        for item in items {
            changes.push(self.check(item).await?);
        }
        for change in changes {
            self.apply(change).await?;
        }
        Ok(None)
    }

    async fn check(&self, item: &Element) -> Result<Change, StanzaError> {
        let reason = item.child_text("reason", ns::MUC_ADMIN);
        match (item.attr("role"), item.attr("affiliation")) {
            // [XEP-0045 §bizrules-iq]
            (Some(_), Some(_)) => {
                Err(StanzaError::new(Condition::BadRequest, "either the role or the affiliation is changed"))
            }
            (Some(role), None) => self.check_role(item, role, reason).await,
            (None, Some(affiliation)) => self.check_affiliation(item, affiliation, reason).await,
            (None, None) => Err(StanzaError::new(Condition::BadRequest, "an item names a role or an affiliation")),
        }
    }

    async fn check_role(&self, item: &Element, role: &str, reason: Option<String>) -> Result<Change, StanzaError> {
        let to = Role::parse(role).ok_or_else(|| StanzaError::new(Condition::BadRequest, "there is no such role"))?;
        let nick =
            item.attr("nick").ok_or_else(|| StanzaError::new(Condition::BadRequest, "roles are given by nickname"))?;
        let gone = || StanzaError::new(Condition::ItemNotFound, "nobody in the room has this nickname");
        let hall = self.core.muc.hall(self.room.no()).ok_or_else(gone)?;
        let inside = hall.inside.lock().await;
        let target = inside.occupant(nick).ok_or_else(gone)?;
        let needed = match to {
            Role::Moderator => self.standing.0 >= Affiliation::Admin,
            // Taking it away takes as much.
            _ if target.role == Role::Moderator && to != Role::None => self.standing.0 >= Affiliation::Admin,
            _ => self.standing.1 >= Role::Moderator,
        };
        let refused = || StanzaError::new(Condition::Forbidden, "your role does not suffice for this");
        if self.standing.1 < Role::Moderator && self.standing.0 < Affiliation::Admin {
            return Err(refused());
        }
        // [XEP-0045 §kick] [XEP-0045 §revokevoice] [XEP-0045 §revokemod]: not those who stand above, nor admins' standing.
        let is_own = target.user == self.actor;
        let protected = match to {
            Role::None => {
                !is_own
                    && (target.affiliation > self.standing.0
                        || (target.affiliation == self.standing.0 && target.affiliation >= Affiliation::Admin))
            }
            _ => to < target.role && target.affiliation >= Affiliation::Admin,
        };
        if protected {
            return Err(StanzaError::new(Condition::NotAllowed, "this person stands too high for this"));
        }
        if !needed {
            return Err(refused());
        }
        Ok(Change::Role { user: target.user.clone(), to, reason })
    }

    async fn check_affiliation(
        &self,
        item: &Element,
        affiliation: &str,
        reason: Option<String>,
    ) -> Result<Change, StanzaError> {
        let bad = |text: &str| StanzaError::new(Condition::BadRequest, text);
        let to = Affiliation::parse(affiliation).ok_or_else(|| bad("there is no such affiliation"))?;
        let user = match (item.attr("jid"), item.attr("nick")) {
            (Some(jid), _) => {
                let jid =
                    Jid::new(jid).map_err(|_| StanzaError::new(Condition::JidMalformed, "`jid` is no address"))?;
                self.core
                    .person_of(&jid.to_bare())
                    .ok_or_else(|| StanzaError::new(Condition::ItemNotFound, "there can be no such person"))?
            }
            (None, Some(nick)) => self.by_nick(nick).await?,
            (None, None) => return Err(bad("affiliations are given by address")),
        };
        let from = standing::of(&self.room, &user, self.members_only).map_err(|error| unreadable(&error))?.0;
        let own = self.standing.0;
        // [XEP-0045 §ban]
        if user == self.actor && to == Affiliation::Outcast && own >= Affiliation::Admin {
            return Err(StanzaError::new(Condition::Conflict, "nobody bans themselves"));
        }
        // [XEP-0045 §affil-priv] Admins move people between outcast, none and member; owners do the rest.
        let needed = if to.max(from) >= Affiliation::Admin { Affiliation::Owner } else { Affiliation::Admin };
        let steps_down = user == self.actor && to < from && to > Affiliation::Outcast;
        if own < needed && !steps_down {
            // [XEP-0045 §ban]: an admin cannot ban one who stands higher.
            return Err(match own >= Affiliation::Admin && from >= own {
                true => StanzaError::new(Condition::NotAllowed, "this person stands too high for this"),
                false => StanzaError::new(Condition::Forbidden, "your affiliation does not suffice for this"),
            });
        }
        if from == Affiliation::Owner && to < Affiliation::Owner {
            let owners = standing::list(&self.room, Affiliation::Owner, self.members_only)
                .map_err(|error| unreadable(&error))?;
            // [XEP-0045 §revokeowner]
            if owners.iter().all(|owner| *owner == user) {
                return Err(StanzaError::new(Condition::Conflict, "a room has an owner: make somebody else one first"));
            }
        }
        Ok(Change::Affiliation { user, from, to, reason })
    }

    async fn by_nick(&self, nick: &str) -> Result<OwnedUserId, StanzaError> {
        let gone = || StanzaError::new(Condition::ItemNotFound, "nobody in the room has this nickname");
        let hall = self.core.muc.hall(self.room.no()).ok_or_else(gone)?;
        let inside = hall.inside.lock().await;
        Ok(inside.occupant(nick).ok_or_else(gone)?.user.clone())
    }

    async fn apply(&self, change: Change) -> Result<(), StanzaError> {
        match change {
            Change::Role { user, to, reason } => match to {
                Role::None => self.kick(&user, reason.as_deref()).await,
                Role::Moderator => {
                    let levels = standing::levels(&self.room).map_err(|error| unreadable(&error))?;
                    // Admins and owners are moderators already, and stay what they are.
                    if levels.user_level(&user).reaches(levels.kick()) {
                        return Ok(());
                    }
                    standing::set_level(self.core, &self.actor, &self.room, &user, Some(levels.kick())).await
                }
                Role::Participant => set_voice(self.core, &self.room, &self.actor, &user, true).await,
                Role::Visitor => set_voice(self.core, &self.room, &self.actor, &user, false).await,
            },
            Change::Affiliation { user, from, to, reason } => {
                let present = self.is_present(&user).await;
                let change = Promotion {
                    actor: &self.actor,
                    target: &user,
                    to,
                    reason: reason.as_deref(),
                    members_only: self.members_only,
                };
                standing::set_affiliation(self.core, &self.room, change).await?;
                if !present && from != to {
                    self.tell_absent(&user, to).await;
                }
                Ok(())
            }
        }
    }

    async fn kick(&self, user: &UserId, reason: Option<&str>) -> Result<(), StanzaError> {
        if *user == *self.actor {
            // One's own room rules forbid kicking oneself; leaving is the same.
            return self.core.rooms().leave(user, self.room.id(), reason).await.map_err(|error| refused(&error));
        }
        self.core.rooms().kick(&self.actor, self.room.id(), user, reason).await.map_err(|error| refused(&error))
    }

    async fn is_present(&self, user: &UserId) -> bool {
        let Some(hall) = self.core.muc.hall(self.room.no()) else { return false };
        let inside = hall.inside.lock().await;
        !inside.nicks_of(user).is_empty()
    }

    /// [XEP-0045 §grantmember] Occupants learn of a change that concerns somebody who is not there.
    async fn tell_absent(&self, user: &UserId, to: Affiliation) {
        let Some(hall) = self.core.muc.hall(self.room.no()) else { return };
        let inside: tokio::sync::MutexGuard<'_, Inside> = hall.inside.lock().await;
        let Some(jid) = self.core.address_of(user) else { return };
        for (_, viewer, seat) in inside.seats() {
            if inside.settings.own.semi_anonymous && viewer.role < Role::Moderator {
                continue;
            }
            let item = Element::new("item", ns::MUC_USER)
                .with_attr("affiliation", to.as_str())
                .with_attr("jid", jid.to_string())
                .with_attr("role", "none");
            let message = Element::new("message", ns::CLIENT)
                .with_attr("from", self.address.to_string())
                .with_attr("to", seat.jid.to_string())
                .with_attr("id", format!("affiliation-{}", self.core.now_ms()))
                .with_child(Element::new("x", ns::MUC_USER).with_child(item));
            super::hall::tell(self.core, seat, message).await;
        }
    }
}

enum Change {
    Role { user: OwnedUserId, to: Role, reason: Option<String> },
    Affiliation { user: OwnedUserId, from: Affiliation, to: Affiliation, reason: Option<String> },
}

/// Voice is a level: that of messages, or one below it. [XEP-0045 §grantvoice] [XEP-0045 §revokevoice]
/// [XEP-0045 §voiceapprove]
pub(super) async fn set_voice(
    core: &Core,
    room: &Arc<Room>,
    actor: &UserId,
    user: &UserId,
    voice: bool,
) -> Result<(), StanzaError> {
    let levels = standing::levels(room).map_err(|error| unreadable(&error))?;
    let (speak, default) = (levels.level_for_event("m.room.message", false), levels.users_default());
    let level = match voice {
        true if default >= speak => None,
        true => Some(speak),
        false if default < speak => None,
        false => Some(speak - 1),
    };
    standing::set_level(core, actor, room, user, level).await
}
