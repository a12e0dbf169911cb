//! The people of a room. [CS-API §get_matrixclientv3roomsroomidmembers]

use std::sync::Arc;

use ruma_common::OwnedUserId;
use serde::Deserialize;

use crate::{
    error::ReadError,
    membership::Profile,
    room::{Placed, Room},
    tables::{Membership, Order},
    visibility::Viewer,
};

/// Which members are asked for. With both set, either is enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberFilter {
    /// Those with this membership.
    pub membership: Option<Membership>,
    /// Those with any other than this.
    pub not_membership: Option<Membership>,
}

impl MemberFilter {
    fn passes(&self, membership: Option<Membership>) -> bool {
        match (self.membership, self.not_membership) {
            (None, None) => true,
            (Some(wanted), None) => membership == Some(wanted),
            (None, Some(unwanted)) => membership != Some(unwanted),
            (Some(wanted), Some(unwanted)) => membership == Some(wanted) || membership != Some(unwanted),
        }
    }
}

impl Room {
    /// Membership events that the viewer may see: of now, or of the place `at`.
    ///
    /// # Errors
    /// `NotJoined` for who never was in the room.
    pub fn members(
        &self,
        viewer: &mut Viewer<'_>,
        at: Option<Order>,
        filter: MemberFilter,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        let newest = viewer.newest()?;
        let state = match at {
            Some(at) if at < newest => {
                match self.event_at(at)?.filter(|placed| viewer.may_see(placed).unwrap_or(false)) {
                    Some(placed) => placed.current,
                    // Before anything that the viewer may see: the first they saw were those there when they came.
                    None => viewer.state_on_joining()?,
                }
            }
            _ => viewer.state()?,
        };
        let mut members = self.state_events(state, Some("m.room.member"))?;
        members.retain(|placed| filter.passes(placed.event.membership().map(Membership::from)));
        Ok(members)
    }

    /// Who is joined, with the profiles they have in this room.
    pub fn joined_members(&self) -> Result<Vec<(OwnedUserId, Profile)>, ReadError> {
        let members = self.state_events(self.published().state, Some("m.room.member"))?;
        let joined = members
            .into_iter()
            .filter(|placed| placed.event.membership().map(Membership::from) == Some(Membership::Join));
        Ok(joined
            .filter_map(|placed| {
                let user = OwnedUserId::try_from(placed.event.state_key()?).ok()?;
                Some((user, profile_in(&placed)))
            })
            .collect())
    }
}

/// The profile that a membership event carries.
pub(crate) fn profile_in(placed: &Placed) -> Profile {
    #[derive(Default, Deserialize)]
    struct Content {
        #[serde(default)]
        displayname: serde_json::Value,
        #[serde(default)]
        avatar_url: serde_json::Value,
    }
    let content: Content = serde_json::from_str(placed.event.content().get()).unwrap_or_default();
    let text = |value: serde_json::Value| value.as_str().map(ToOwned::to_owned);
    Profile { displayname: text(content.displayname), avatar_url: text(content.avatar_url) }
}
