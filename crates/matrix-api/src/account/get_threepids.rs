//! `GET /account/3pid`: the e-mail addresses and telephone numbers of the account. There are none yet.
//!
//! [CS-API §get_matrixclientv3account3pid]

use ruma_client_api::account::get_3pids::v3;

use crate::{Call, Result, Ruma};

pub async fn get_threepids(_call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    Ok(Ruma(v3::Response::new(Vec::new())))
}
