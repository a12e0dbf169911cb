//! XEP-0463: MUC Affiliations Versioning: who has which affiliation, told on entering to whoever has another list, and then change
//! by change. A version is a hash of the list, so it is the same after a restart.

use std::{collections::BTreeMap, sync::Arc};

use data_encoding::BASE32_NOPAD;
use koine_projection::muc::{Affiliation, Role};
use koine_room::{ReadError, Room};
use koine_stanza::{Condition, Element, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};
use sha2::{Digest as _, Sha256};

use super::{
    hall::{Inside, Seat, tell},
    standing,
};
use crate::{
    core::Core,
    iq::{At, Extension},
};

/// The protocol.
const VERSIONS: &str = "urn:xmpp:muc:affiliations:1";
/// Bytes of a version.
const VERSION_BYTES: usize = 15;

/// Part of entering: there are no requests.
pub(crate) const EXTENSION: Extension = Extension { features: &[(At::Room, VERSIONS)], handlers: &[] };

/// Everybody's affiliation but none.
pub(super) type Affiliations = BTreeMap<OwnedUserId, Affiliation>;

fn all(room: &Room, members_only: bool) -> Result<Affiliations, ReadError> {
    let mut all = Affiliations::new();
    for kind in [Affiliation::Outcast, Affiliation::Member, Affiliation::Admin, Affiliation::Owner] {
        all.extend(standing::list(room, kind, members_only)?.into_iter().map(|user| (user, kind)));
    }
    Ok(all)
}

fn version(all: &Affiliations) -> String {
    let mut hash = Sha256::new();
    for (user, affiliation) in all {
        hash.update(format!("{user} {}\n", affiliation.as_str()));
    }
    let hash = hash.finalize();
    BASE32_NOPAD.encode(hash.get(..VERSION_BYTES).unwrap_or_default()).to_ascii_lowercase()
}

fn mav(since: Option<&str>, until: &str) -> Element {
    Element::new("mav", VERSIONS).with_attr_opt("since", since).with_attr("until", until)
}

fn item(core: &Core, user: &UserId, affiliation: Affiliation) -> Option<Element> {
    let jid = core.address_of(user)?;
    let item = Element::new("item", ns::MUC_USER).with_attr("affiliation", affiliation.as_str());
    Some(item.with_attr("jid", jid.to_string()))
}

/// Somebody enters who keeps the list: tells it, unless they have it, and from now on what changes. What stands in their own
/// presence. [XEP-0463 §self]
pub(super) async fn entered(
    core: &Arc<Core>,
    room: &Room,
    inside: &mut Inside,
    (stanza, affiliation): (&Element, Affiliation),
    seat: &Seat,
) -> Result<Option<Element>, ReadError> {
    let Some(wish) = stanza.child("x", ns::MUC).and_then(|x| x.child("mav", VERSIONS)) else { return Ok(None) };
    let message = Element::new("message", ns::CLIENT)
        .with_attr("from", seat.room.to_string())
        .with_attr("to", seat.jid.to_string())
        .with_attr_opt("id", stanza.id());
    // [XEP-0463 §errors] As with the lists themselves.
    let sees_all = affiliation >= Affiliation::Admin;
    if inside.settings.own.semi_anonymous && !sees_all {
        let error = StanzaError::new(Condition::Forbidden, "this list is not for everybody").with_by(&seat.room);
        tell(core, seat, message.with_attr("type", "error").with_child(error.element())).await;
        return Ok(None);
    }
    let all = all(room, inside.settings.members_only)?;
    let current = version(&all);
    if wish.attr("since") != Some(current.as_str()) {
        let told = all.iter().filter(|(_, kind)| sees_all || **kind > Affiliation::Outcast);
        let items = told.filter_map(|(user, kind)| item(core, user, *kind));
        let x = Element::new("x", ns::MUC_USER).with_child(mav(None, &current)).with_children(items);
        tell(core, seat, message.with_child(x)).await;
    }
    inside.affiliations = Some(all);
    Ok(Some(mav(None, &current)))
}

/// Something about the room changed: where somebody keeps the list, everybody is told of each affiliation that is another now.
/// [XEP-0463 §changes]
pub(super) async fn changed(core: &Arc<Core>, room: &Room, inside: &mut Inside) -> Result<(), ReadError> {
    let Some(mut known) = inside.affiliations.take() else { return Ok(()) };
    let now = all(room, inside.settings.members_only)?;
    let mut users: Vec<OwnedUserId> = known.keys().chain(now.keys()).cloned().collect();
    users.sort();
    users.dedup();
    for user in users.into_iter().filter(|user| known.get(user) != now.get(user)).collect::<Vec<_>>() {
        let since = version(&known);
        let affiliation = now.get(&user).copied();
        match affiliation {
            Some(affiliation) => drop(known.insert(user.clone(), affiliation)),
            None => drop(known.remove(&user)),
        }
        let until = version(&known);
        let Some(item) = item(core, &user, affiliation.unwrap_or(Affiliation::None)) else { continue };
        let x = Element::new("x", ns::MUC_USER).with_child(mav(Some(&since), &until)).with_child(item);
        for (_, viewer, seat) in inside.seats() {
            if inside.settings.own.semi_anonymous && viewer.role < Role::Moderator {
                continue;
            }
            let message = Element::new("message", ns::CLIENT)
                .with_attr("from", seat.room.to_string())
                .with_attr("to", seat.jid.to_string())
                .with_child(x.clone());
            tell(core, seat, message).await;
        }
    }
    inside.affiliations = Some(now);
    Ok(())
}
