//! `GET /account/whoami`: whose access token is this?
//!
//! [CS-API §get_matrixclientv3accountwhoami]

use ruma_client_api::account::whoami::v3;

use crate::{Call, Result, Ruma};

pub async fn whoami(call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    let mut response = v3::Response::new(call.who.user_id.clone(), false);
    // An application service acts on no device unless it names one.
    response.device_id = Some(call.who.device_id.clone()).filter(|device| !device.as_str().is_empty());
    Ok(Ruma(response))
}
