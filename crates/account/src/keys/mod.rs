//! End-to-end encryption, the server's side: a library of public keys, and a postbox for each device.
//!
//! The server keeps what devices publish about themselves, hands it to who asks, and tells everybody concerned that it
//! changed. It could read nothing: private keys never come here. Signatures are checked where the specification has
//! the server check them; whom to trust is for the clients to decide. [CS-API §end-to-end-encryption]
//!
//! One file, one story: `device_keys.rs` who a device is, `one_time.rs` the keys that are given out once,
//! `cross_signing.rs` who vouches for a user's devices, `signatures.rs` who signed whom, `changes.rs` whose keys changed
//! since, `backup.rs` room keys kept for later, `to_device.rs` the postbox. `device.rs` is where a device's keys go when
//! it goes.
//!
//! Other servers: `device_stream.rs` is what they are told of our devices, `remote.rs` what we remember of theirs,
//! `others.rs` asks them, `outgoing.rs` keeps messages to them until they have them and knows which of theirs we had.

mod backup;
mod changes;
mod cross_signing;
mod device;
mod device_keys;
mod device_stream;
mod one_time;
mod others;
mod outgoing;
mod remote;
mod signatures;
mod signed;
pub(crate) mod tables;
mod to_device;

pub use backup::{
    BACKUP_BYTES_MAX, BACKUP_KEYS_MAX, BACKUP_VERSIONS_MAX, BackedUpKey, Backup, BackupError, BackupKeys, BackupState,
    KeyScope, SESSION_DATA_BYTES_MAX,
};
pub use cross_signing::{CrossSigningKeys, UploadCrossSigningError};
pub use device::DeviceState;
pub(crate) use device::{device_renamed, forget_device};
pub use device_keys::{DEVICE_KEYS_BYTES_MAX, KeyUpload, UploadKeysError, UserKeys};
pub(crate) use device_stream::note_device;
pub use device_stream::{DeviceChange, DeviceList, ToldDevice, told_elsewhere};
pub use one_time::{ALGORITHMS_MAX, CLAIMS_MAX, Claim, ClaimedKey, ONE_TIME_KEY_BYTES_MAX, ONE_TIME_KEYS_MAX};
pub use others::{AnswerOf, KeysElsewhere, NoAnswer, OtherServers, WantedKeys};
pub use outgoing::{OUTGOING_BYTES_MAX, OUTGOING_UNITS_MAX, Outgoing, RECEIVED_MAX, ReceivedMessages};
pub(crate) use remote::Flights;
pub use remote::{REMOTE_DEVICES_MAX, RemoteChange, RemoteDevices, RemoteOutcome};
pub use signatures::{SIGNATURES_MAX, SignatureRefused, SignedObjects};
pub use to_device::{
    MESSAGE_BYTES_MAX, Postbox, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX, RECIPIENTS_MAX, Recipient, SENDER_MESSAGES_MAX,
    SendToDeviceError, TO_DEVICE_TYPE_BYTES_MAX, ToDevice,
};
