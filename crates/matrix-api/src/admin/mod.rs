//! What admins of this server do to accounts. [CS-API §server-administration]

mod lock_user;
mod suspend_user;
mod whois;

pub(crate) use whois::sessions;

use koine_account::UserInfo;
use ruma_client_api::admin as ruma;
use ruma_common::UserId;

use crate::{Api, Endpoints, Error, Result, User};

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_user_info::v3::Request, _, _>("matrix.admin.whois", whois::whois);
    endpoints.add::<ruma::is_user_locked::v1::Request, _, _>("matrix.admin.is_locked", lock_user::is_locked);
    endpoints.add::<ruma::lock_user::v1::Request, _, _>("matrix.admin.lock_user", lock_user::lock_user);
    endpoints
        .add::<ruma::is_user_suspended::v1::Request, _, _>("matrix.admin.is_suspended", suspend_user::is_suspended);
    endpoints.add::<ruma::suspend_user::v1::Request, _, _>("matrix.admin.suspend_user", suspend_user::suspend_user);
}

/// Refuses everybody but admins: before an account is looked up, so that strangers do not learn who is here.
pub(crate) fn admins_only(who: &User) -> Result<()> {
    if who.is_admin { Ok(()) } else { Err(Error::forbidden("You are not an admin of this server")) }
}

/// The account that an admin asks for.
fn account(api: &Api, user: &UserId) -> Result<UserInfo> {
    if !api.accounts.is_local(user) {
        return Err(Error::invalid_param("This is not a user of this server"));
    }
    let found = api.accounts.user(user)?.filter(|user| !user.is_deactivated);
    found.ok_or_else(|| Error::not_found("There is no such user"))
}

/// The same, to be locked or suspended: neither the admin's own nor another admin's.
fn account_to_moderate(api: &Api, who: &User, user: &UserId) -> Result<UserInfo> {
    admins_only(who)?;
    if who.user_id == user {
        return Err(Error::forbidden("This is your own account"));
    }
    let found = account(api, user)?;
    if found.is_admin { Err(Error::forbidden("This is the account of another admin")) } else { Ok(found) }
}
