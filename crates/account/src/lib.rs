//! People: credentials, sessions, devices, profiles, account data.
//!
//! Protocol-neutral: what Matrix and XMPP each call by their own names is kept here once. [`Accounts`] is the whole of
//! it for one domain; every change goes through the shard's writer with an entry in the log ([`Kind`]), and what is
//! acknowledged is durable.
//!
//! Not here: rooms (who is deactivated or renamed still has to be carried into them by the caller), push rules.
//! What end-to-end encryption needs of a server is in `keys/`.
//!
//! Costs: authenticating a request is one SHA-256 and one look into a bounded cache; a login is one Argon2id on a bounded
//! pool; account data changed since a position costs what changed.

mod account_data;
mod attached;
mod certificates;
mod config;
mod contacts;
mod core;
mod dehydrated;
mod device;
mod drawers;
mod error;
mod filter;
mod hasher;
mod ignored;
mod interactive;
mod invitation;
mod invite_rules;
mod keys;
mod limit;
mod log;
mod login_token;
mod names;
mod nodes;
mod openid;
mod password;
mod people;
mod presence;
mod profile;
mod secret;
mod session;
mod tables;
mod threads;
mod user;

pub use account_data::{ACCOUNT_DATA_KIND_BYTES_MAX, AccountData, RoomAccountData, SetAccountDataError};
pub use attached::{AttachDevice, StreamToken};
pub use certificates::{
    CERTIFICATE_BYTES_MAX, CERTIFICATE_NAME_BYTES_MAX, CERTIFICATES_MAX, Certificate, CertificateError,
    CertificateHash, Holder, certificate_hash,
};
pub use config::{AccountConfig, Registration};
pub use contacts::{
    CONTACT_ADDRESS_BYTES_MAX, CONTACT_GROUPS_MAX, CONTACT_NAME_BYTES_MAX, CONTACTS_MAX, Contact, ContactError, Edited,
    Heard, Word,
};
pub use core::{Accounts, Clock};
pub use dehydrated::{DEHYDRATED_BYTES_MAX, DehydrateError, DehydratedDevice};
pub use device::{Device, PutDeviceError, RenameError};
pub use drawers::{DRAWER_NAME_BYTES_MAX, DRAWER_TEXT_BYTES_MAX, DRAWER_THINGS_MAX, Drawer, KeepError};
pub use error::StoreUnavailable;
pub use hasher::Busy;
pub use ignored::IgnoredUsers;
pub use interactive::{AuthData, Challenge, InteractError, Passed, Purpose, Stage, StageFailure};
pub use invitation::{CreateTokenError, InvitationRefused, REGISTRATION_TOKEN_BYTES_MAX, RegistrationToken};
pub use invite_rules::{InviteRule, InviteRules};
pub use keys::{
    ALGORITHMS_MAX, BACKUP_BYTES_MAX, BACKUP_KEYS_MAX, BACKUP_VERSIONS_MAX, BackedUpKey, Backup, BackupError,
    BackupKeys, BackupState, CLAIMS_MAX, Claim, ClaimedKey, CrossSigningKeys, DEVICE_KEYS_BYTES_MAX, DeviceState,
    KeyScope, KeyUpload, MESSAGE_BYTES_MAX, ONE_TIME_KEY_BYTES_MAX, ONE_TIME_KEYS_MAX, Postbox, QUEUE_BYTES_MAX,
    QUEUE_MESSAGES_MAX, RECIPIENTS_MAX, Recipient, SENDER_MESSAGES_MAX, SESSION_DATA_BYTES_MAX, SIGNATURES_MAX,
    SendToDeviceError, SignatureRefused, SignedObjects, TO_DEVICE_TYPE_BYTES_MAX, ToDevice, UploadCrossSigningError,
    UploadKeysError, UserKeys,
};
pub use keys::{
    AnswerOf, DeviceChange, DeviceList, KeysElsewhere, NoAnswer, OUTGOING_BYTES_MAX, OUTGOING_UNITS_MAX, OtherServers,
    Outgoing, RECEIVED_MAX, REMOTE_DEVICES_MAX, ReceivedMessages, RemoteChange, RemoteDevices, RemoteOutcome,
    ToldDevice, WantedKeys, told_elsewhere,
};
pub use limit::{Class, LimitConfig, LimitExceeded, LimitKey, Limits, Rate};
pub use log::{Kind, user_of};
pub use login_token::{LOGIN_TOKEN_LIFE, LOGIN_TOKENS_MAX};
pub use names::{NAME_BYTES_MAX, NameRefused};
pub use nodes::{
    Access, NODE_ITEM_BYTES_MAX, NODE_ITEMS_MAX, NODE_NAME_BYTES_MAX, NODE_PEERS_MAX, NODE_SERVICE, NODE_STRANGERS_MAX,
    NODE_STRANGERS_PER_DOMAIN_MAX, NODES_MAX, NodeConfig, NodeError, NodeItem, NodePeer, Publishing, SendLast,
};
pub use openid::OPENID_TOKEN_LIFE;
pub use password::{PASSWORD_BYTES_MAX, PasswordConfig, ScramHash, ScramKeys};
pub use people::{PEOPLE_MAX, SEARCH_TERM_CHARS_MAX, person_fits};
pub use presence::{
    IDLE_AFTER, OFFLINE_AFTER, Person, Polling, Presence, PresenceState, Presences, SAID_FOR, STATUS_CHARS_MAX,
};
pub use profile::{DISPLAY_NAME_CHARS_MAX, PROFILE_BYTES_MAX, PROFILE_KEY_BYTES_MAX, Profile, ProfileError};
pub use secret::Secret;
pub use session::{
    AuthenticateError, Credentials, DEVICE_ID_BYTES_MAX, DEVICE_NAME_CHARS_MAX, NewSession, Session, StartSessionError,
};
pub use tables::ALL as TABLES;
pub use threads::{SubscribeError, THREAD_SUBSCRIPTIONS_MAX, ThreadSubscription};
pub use user::{ChangeError, CreateError, Flag, LoginError, NewAccount, PasswordRefused, UserInfo, check_password};
