//! Profiles: what users say about themselves to everybody. [CS-API §profiles]

use koine_store::{Direction, StoreError, Txn, bytes::Bytes};
use ruma_common::UserId;
use serde_json::{Map, Value};

use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::{PROFILE, USER},
};

/// How large a profile may be, as JSON. [CS-API §put_matrixclientv3profileuseridkeyname]
pub const PROFILE_BYTES_MAX: usize = 64 * 1024;
/// How long the name of a field may be.
pub const PROFILE_KEY_BYTES_MAX: usize = 255;
/// How long a display name may be; it goes into the member event of every room.
pub const DISPLAY_NAME_CHARS_MAX: usize = 256;
/// How long the address of an avatar may be, for the same reason.
pub const AVATAR_URL_BYTES_MAX: usize = 1000;

/// A profile, in alphabetical order.
pub type Profile = Map<String, Value>;

/// Why a field of a profile was not set.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// Not a name for a field: `avatar_url`, `displayname`, or one with dots like `m.tz` and `org.example.job`.
    #[error("this cannot be the name of a field")]
    BadKey,
    /// Longer than [`PROFILE_KEY_BYTES_MAX`].
    #[error("the name of the field has {0} bytes, at most {PROFILE_KEY_BYTES_MAX} are allowed")]
    KeyTooLarge(usize),
    /// A value that this field cannot have.
    #[error("{0}")]
    BadValue(&'static str),
    /// The profile would be larger than [`PROFILE_BYTES_MAX`].
    #[error("the profile would have {0} bytes, at most {PROFILE_BYTES_MAX} are allowed")]
    ProfileTooLarge(usize),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Accounts {
    /// The whole profile of a user of ours; `None` if there is no such account, or not any more.
    pub fn profile(&self, user_id: &UserId) -> Result<Option<Profile>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let view = self.shard.view();
        match view.get(&USER, self.domain, localpart)? {
            Some(user) if !user.is_deactivated => {}
            _ => return Ok(None),
        }
        let rows = view.prefix(&PROFILE, self.domain, &(localpart,), Direction::Forward);
        let fields = rows.map(|row| {
            let ((_, key), value) = row?;
            let value = serde_json::from_slice(&value).map_err(|_| StoreUnavailable::damaged("a profile field"))?;
            Ok((key, value))
        });
        fields.collect::<Result<Profile, StoreUnavailable>>().map(Some)
    }

    /// One field of a profile.
    pub fn profile_field(&self, user_id: &UserId, key: &str) -> Result<Option<Value>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let Some(value) = self.shard.get(&PROFILE, self.domain, &(localpart, key))? else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).map_err(|_| StoreUnavailable::damaged("a profile field"))
    }

    /// The display name and the avatar, as they go into member events.
    pub fn display_profile(&self, user_id: &UserId) -> Result<(Option<String>, Option<String>), StoreUnavailable> {
        let text = |key| Ok(self.profile_field(user_id, key)?.and_then(|value| value.as_str().map(ToOwned::to_owned)));
        text("displayname").and_then(|name| Ok((name, text("avatar_url")?)))
    }

    /// Sets a field of a profile. `displayname` and `avatar_url` have to be carried into rooms by whoever calls this.
    /// Setting either to `null` or to nothing removes it.
    pub async fn set_profile_field(&self, user_id: &UserId, key: &str, value: Value) -> Result<(), ProfileError> {
        check_key(key)?;
        let value = checked_value(key, value)?;
        let mut profile = self.profile(user_id)?.ok_or(ProfileError::UnknownUser)?;
        let bytes = value.as_ref().map(|value| Bytes::from(value.to_string()));
        match value {
            Some(value) => profile.insert(key.to_owned(), value),
            None => profile.remove(key),
        };
        let size = Value::Object(profile).to_string().len();
        if bytes.is_some() && size > PROFILE_BYTES_MAX {
            return Err(ProfileError::ProfileTooLarge(size));
        }
        Ok(self.write_profile_field(user_id, key, bytes).await?)
    }

    /// Removes a field of a profile, if it is there.
    pub async fn delete_profile_field(&self, user_id: &UserId, key: &str) -> Result<(), ProfileError> {
        check_key(key)?;
        Ok(self.write_profile_field(user_id, key, None).await?)
    }

    async fn write_profile_field(
        &self,
        user_id: &UserId,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<(), StoreUnavailable> {
        let (domain, owner, key) = (self.domain, user_id.to_owned(), key.to_owned());
        let commit = move |txn: &mut Txn| {
            let row = (owner.localpart().to_owned(), key);
            match value {
                Some(value) => txn.put(&PROFILE, domain, &row, &value),
                None => txn.delete(&PROFILE, domain, &row),
            }
            txn.append(log::entry(domain, &owner, Kind::Profile, row.1));
        };
        self.change(commit).await?;
        self.person_changed(user_id.localpart())
    }

    pub(crate) async fn erase_profile(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        let view = self.shard.view();
        let rows = view.prefix(&PROFILE, self.domain, &(user_id.localpart(),), Direction::Forward);
        let keys = rows.map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, StoreError>>()?;
        let (domain, owner) = (self.domain, user_id.to_owned());
        let commit = move |txn: &mut Txn| {
            for key in keys {
                txn.delete(&PROFILE, domain, &key);
            }
            txn.append(log::entry(domain, &owner, Kind::Profile, ""));
        };
        self.change(commit).await
    }
}

/// [CS-API §put_matrixclientv3profileuseridkeyname] Two old names, and for all others the common namespaced grammar.
fn check_key(key: &str) -> Result<(), ProfileError> {
    if key.len() > PROFILE_KEY_BYTES_MAX {
        return Err(ProfileError::KeyTooLarge(key.len()));
    }
    let is_namespaced = || {
        let mut segments = 0;
        let all_good = key.split('.').all(|segment| {
            segments += 1;
            segment.starts_with(|first: char| first.is_ascii_lowercase() || (segments > 1 && first.is_ascii_digit()))
                && segment.chars().all(|other| matches!(other, 'a'..='z' | '0'..='9' | '_' | '-'))
        });
        all_good && segments > 1
    };
    match key {
        "displayname" | "avatar_url" => Ok(()),
        _ if is_namespaced() => Ok(()),
        _ => Err(ProfileError::BadKey),
    }
}

/// What a field is set to, if anything.
fn checked_value(key: &str, value: Value) -> Result<Option<Value>, ProfileError> {
    match (key, value) {
        // COMPAT(matrix-js-sdk and others): they unset a name by sending none.
        ("displayname" | "avatar_url", Value::Null) => Ok(None),
        ("displayname" | "avatar_url", Value::String(text)) if text.is_empty() => Ok(None),
        ("displayname", Value::String(name)) if name.chars().count() > DISPLAY_NAME_CHARS_MAX => {
            Err(ProfileError::BadValue("a display name has at most 256 characters"))
        }
        ("displayname", value @ Value::String(_)) => Ok(Some(value)),
        ("displayname", _) => Err(ProfileError::BadValue("a display name is a string")),
        ("avatar_url", Value::String(url)) if url.len() > AVATAR_URL_BYTES_MAX => {
            Err(ProfileError::BadValue("the address of an avatar has at most 1000 bytes"))
        }
        // COMPAT(Complement, older bridges): other addresses than mxc:// ones are kept, as every server does.
        ("avatar_url", value @ Value::String(_)) => Ok(Some(value)),
        ("avatar_url", _) => Err(ProfileError::BadValue("the address of an avatar is a string")),
        ("m.tz", value @ Value::String(_)) => Ok(Some(value)),
        ("m.tz", _) => Err(ProfileError::BadValue("a time zone is a string")),
        (_, value) => Ok(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_names_from_a_namespace() {
        for good in ["displayname", "avatar_url", "m.tz", "org.example.job", "m.example_field", "us.cloke.msc4175.tz"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "job", "Org.example", "org..job", ".job", "org.", "org.ex ample"] {
            assert!(matches!(check_key(bad), Err(ProfileError::BadKey)), "{bad}");
        }
        assert!(matches!(check_key(&format!("m.{}", "a".repeat(255))), Err(ProfileError::KeyTooLarge(257))));
    }
}
