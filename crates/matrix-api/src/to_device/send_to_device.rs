//! `PUT /sendToDevice/{eventType}/{txnId}`: messages for devices, outside of rooms.
//!
//! [CS-API §put_matrixclientv3sendtodeviceeventtypetxnid]

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{Recipient, ToDevice};
use ruma_client_api::to_device::send_event_to_device::v3;
use ruma_common::OwnedUserId;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Api, Empty, Error, Loose, Result};

/// How large a body may be: clients put the keys for some hundred devices into one.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Deserialize)]
pub struct Body {
    /// User, device or `*`, content.
    messages: BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>,
}

pub async fn send_to_device(State(api): State<Api>, call: Loose<v3::Request, Body, BODY_BYTES_MAX>) -> Result<Empty> {
    let [kind, txn_id] = <[String; 2]>::try_from(call.path).map_err(|_| Error::unrecognized())?;
    let mut messages = Vec::new();
    for (user_id, devices) in call.body.messages {
        for (device_id, content) in devices {
            messages.push((user_id.clone(), Recipient::of(device_id), content));
        }
    }
    let sender = (&*call.who.user_id, &*call.who.device_id);
    api.accounts.send_to_device(sender, ToDevice { kind, txn_id, messages }).await?;
    Ok(Empty)
}
