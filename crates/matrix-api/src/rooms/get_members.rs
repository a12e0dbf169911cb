//! `GET /rooms/{roomId}/members`: membership events of a room.
//!
//! [CS-API §get_matrixclientv3roomsroomidmembers]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{MemberFilter, Membership, Viewer};
use ruma_client_api::membership::get_member_events::v3;
use ruma_events::room::member::MembershipState;

use super::{room, until_whole};
use crate::{
    Api, Call, Error, Raw, Result,
    event::{Ignored, Shown},
};

pub async fn get_members(State(api): State<Api>, call: Call<v3::Request>) -> Result<Raw> {
    let request = &call.request;
    let filter = MemberFilter {
        membership: request.membership.as_ref().map(parse).transpose()?,
        not_membership: request.not_membership.as_ref().map(parse).transpose()?,
    };
    let at = request.at.as_deref().map(|token| api.tokens().parse_place(token)).transpose()?;
    let room = room(&api, &request.room_id)?;
    until_whole(&room).await?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    let members = room.members(&mut viewer, at, filter)?;
    let ignored = Ignored::default();
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: false, ignored: &ignored };
    let mut out = Vec::with_capacity(512 * members.len().min(256));
    out.extend_from_slice(b"{\"chunk\":");
    shown.write_list(&members, &mut viewer, &mut out)?;
    out.push(b'}');
    Ok(Raw(out.into()))
}

fn parse(word: &MembershipState) -> Result<Membership> {
    koine_graph::Membership::from_name(word.as_str())
        .map(Membership::from)
        .ok_or_else(|| Error::invalid_param(format!("{word} is no membership")))
}
