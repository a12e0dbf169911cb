//! Accounts: who am I, registration, passwords.

mod whoami;

use ruma_client_api::account as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::whoami::v3::Request, _, _>("matrix.account.whoami", whoami::whoami);
}
