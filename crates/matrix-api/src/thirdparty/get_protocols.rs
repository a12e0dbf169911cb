//! `GET /thirdparty/protocols` and `/thirdparty/protocol/{protocol}`: which networks are reachable.
//!
//! [CS-API §get_matrixclientv3thirdpartyprotocols] [CS-API §get_matrixclientv3thirdpartyprotocolprotocol]

use ruma_client_api::thirdparty::{get_protocol, get_protocols};

use crate::{Call, Empty, Error, Result};

/// None: an object without keys.
pub async fn get_protocols(_call: Call<get_protocols::v3::Request>) -> Empty {
    Empty
}

pub async fn get_protocol(_call: Call<get_protocol::v3::Request>) -> Result<Empty> {
    Err(Error::not_found("This network is not known here"))
}
