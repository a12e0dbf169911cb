//! `GET /thirdparty/location` and `/thirdparty/user`: what a room or a user is in another network, and the other way round.
//!
//! [CS-API §get_matrixclientv3thirdpartylocationprotocol] [CS-API §get_matrixclientv3thirdpartyuserprotocol]
//! [CS-API §get_matrixclientv3thirdpartylocation] [CS-API §get_matrixclientv3thirdpartyuser]

use ruma_client_api::thirdparty as ruma;

use crate::{Call, Empty, Error, Result};

pub async fn location_for_protocol(_call: Call<ruma::get_location_for_protocol::v3::Request>) -> Result<Empty> {
    Err(Error::not_found("No room leads into this network"))
}

pub async fn user_for_protocol(_call: Call<ruma::get_user_for_protocol::v3::Request>) -> Result<Empty> {
    Err(Error::not_found("Nobody of this network is known here"))
}

pub async fn location_for_alias(_call: Call<ruma::get_location_for_room_alias::v3::Request>) -> Result<Empty> {
    Err(Error::not_found("This room leads into no other network"))
}

pub async fn user_for_user_id(_call: Call<ruma::get_user_for_user_id::v3::Request>) -> Result<Empty> {
    Err(Error::not_found("This user is in no other network"))
}
