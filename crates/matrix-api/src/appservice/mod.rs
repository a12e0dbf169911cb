//! Application services: bridges and bots that have users, aliases and rooms of their own.
//!
//! [AS-API §application-services] A service proves itself by a token of its registration and may act as each of its users.
//! [`transactions`] tells it what happens, as a durable reader of the log; [`ask`] asks what only it knows.

pub(crate) mod ask;
mod fleeting;
mod interest;
mod ping;
mod registration;
mod services;
mod set_visibility;
mod transactions;

use koine_account::{CreateError, NewAccount};
use ruma_client_api::appservice::request_ping::v1;

pub use self::{
    registration::{Registration, RegistrationError},
    services::{NotApart, Service, Services},
    transactions::TABLES,
};
use crate::{Api, Endpoints};

/// Begins to tell the services what happens, and keeps their names for them: whatever makes an account, by whichever
/// protocol, has to pass there. [AS-API §registration]
pub(crate) fn start(api: &Api) {
    let services = api.services.clone();
    api.accounts.reserve_names(move |user| services.keeps_user(user, None));
    for service in api.services.all() {
        let (weak, service) = (api.downgrade(), service.clone());
        let accounts = api.accounts.clone();
        tokio::spawn(async move {
            // The user that a service acts as has to be there before it does.
            let wanted =
                NewAccount { name: Some(service.sender.localpart().to_owned()), is_own: true, ..NewAccount::default() };
            match accounts.create(wanted).await {
                Ok(_) | Err(CreateError::NameTaken) => {}
                Err(error) => {
                    tracing::error!(service = service.id, reason = %error, "an application service has no user to act as");
                }
            }
            drop(accounts);
            transactions::run(weak, service).await;
        });
    }
}

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<v1::Request, _, _>("matrix.appservice.ping", ping::ping);
    endpoints
        .add::<set_visibility::SetVisibility, _, _>("matrix.appservice.set_visibility", set_visibility::set_visibility);
}
