//! Backups of room keys. [CS-API §server-side-key-backups]
//!
//! `versions.rs` has the operations on backups as a whole, `room_keys.rs` those on the keys in one: each comes three
//! times, for all keys, those of a room, and one.

mod room_keys;
mod versions;

use ruma_client_api::backup as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::create_backup_version::v3::Request, _, _>("matrix.key_backup.create", versions::create);
    endpoints
        .add::<ruma::get_latest_backup_info::v3::Request, _, _>("matrix.key_backup.get_newest", versions::get_newest);
    endpoints.add::<ruma::get_backup_info::v3::Request, _, _>("matrix.key_backup.get", versions::get);
    endpoints.add::<ruma::update_backup_version::v3::Request, _, _>("matrix.key_backup.update", versions::update);
    endpoints.add::<ruma::delete_backup_version::v3::Request, _, _>("matrix.key_backup.delete", versions::delete);
    endpoints.add::<ruma::add_backup_keys::v3::Request, _, _>("matrix.key_backup.put_keys", room_keys::put_all);
    endpoints.add::<ruma::add_backup_keys_for_room::v3::Request, _, _>(
        "matrix.key_backup.put_keys_of_room",
        room_keys::put_room,
    );
    endpoints.add::<ruma::add_backup_keys_for_session::v3::Request, _, _>(
        "matrix.key_backup.put_key",
        room_keys::put_session,
    );
    endpoints.add::<ruma::get_backup_keys::v3::Request, _, _>("matrix.key_backup.get_keys", room_keys::get_all);
    endpoints.add::<ruma::get_backup_keys_for_room::v3::Request, _, _>(
        "matrix.key_backup.get_keys_of_room",
        room_keys::get_room,
    );
    endpoints.add::<ruma::get_backup_keys_for_session::v3::Request, _, _>(
        "matrix.key_backup.get_key",
        room_keys::get_session,
    );
    endpoints
        .add::<ruma::delete_backup_keys::v3::Request, _, _>("matrix.key_backup.delete_keys", room_keys::delete_all);
    endpoints.add::<ruma::delete_backup_keys_for_room::v3::Request, _, _>(
        "matrix.key_backup.delete_keys_of_room",
        room_keys::delete_room,
    );
    endpoints.add::<ruma::delete_backup_keys_for_session::v3::Request, _, _>(
        "matrix.key_backup.delete_key",
        room_keys::delete_session,
    );
}
