//! The tables of accounts: only this crate names them.
//!
//! A user is known in them by the local part: all of a domain's accounts share the rest.
//!
//! Invariants: every token named by a device exists and names that device, and the other way round. Every row of
//! [`DATA`] has exactly one row in [`DATA_AT`], at its position.

use koine_store::{Space, Table, TableInfo, bytes::Bytes, stored};
use serde::{Deserialize, Serialize};

use crate::{
    contacts::Contact,
    keys::tables as keys,
    nodes::{NodeConfig, NodeItem, NodePeer},
    password::PasswordRecord,
    secret::TokenHash,
};

/// local part → account.
pub(crate) const USER: Table<String, UserRecord> = Table::new("account.user", Space::Accounts, 0x40);
/// (local part, device id) → device.
pub(crate) const DEVICE: Table<(String, String), DeviceRecord> = Table::new("account.device", Space::Accounts, 0x41);
/// hash of a token → what it is good for.
pub(crate) const TOKEN: Table<TokenHash, TokenRecord> = Table::new("account.token", Space::Accounts, 0x42);
/// (local part, field) → its value, as JSON.
pub(crate) const PROFILE: Table<(String, String), Bytes> = Table::new("account.profile", Space::Accounts, 0x43);
/// (local part, room id or "", type) → account data.
pub(crate) const DATA: Table<(String, String, String), DataRecord> = Table::new("account.data", Space::Accounts, 0x44);
/// (local part, log position) → the account data that changed there last.
pub(crate) const DATA_AT: Table<(String, u64), DataKey> = Table::new("account.data_at", Space::Accounts, 0x45);
/// (local part, number) → filter, as JSON.
pub(crate) const FILTER: Table<(String, u64), Bytes> = Table::new("account.filter", Space::Accounts, 0x46);
/// (local part, hash of a filter) → its number.
pub(crate) const FILTER_NO: Table<(String, [u8; 32]), u64> = Table::new("account.filter_no", Space::Accounts, 0x47);
/// registration token → its uses.
pub(crate) const INVITATION: Table<String, InvitationRecord> =
    Table::new("account.registration_token", Space::Accounts, 0x48);

/// hash of an OpenID token → whose it is.
pub(crate) const OPENID: Table<TokenHash, OpenIdRecord> = Table::new("account.openid", Space::Accounts, 0x49);
/// (end, hash of an OpenID token): which ends first.
pub(crate) const OPENID_END: Table<(u64, TokenHash), ()> = Table::new("account.openid_end", Space::Accounts, 0x4a);

/// (local part, room id, thread root) → whether the account follows the thread.
pub(crate) const THREAD_SUBSCRIPTION: Table<(String, String, String), ThreadRecord> =
    Table::new("account.thread_subscription", Space::Accounts, 0x5e);
/// (local part, log position) → the subscription that changed there last.
pub(crate) const THREAD_SUBSCRIPTION_AT: Table<(String, u64), ThreadKey> =
    Table::new("account.thread_subscription_at", Space::Accounts, 0x5f);
/// local part → how many rows [`THREAD_SUBSCRIPTION`] has for it.
pub(crate) const THREADS: Table<String, u64> = Table::new("account.threads", Space::Accounts, 0xa1);
/// local part → the packed device. Its row in [`DEVICE`] exists too.
pub(crate) const DEHYDRATED: Table<String, DehydratedRecord> = Table::new("account.dehydrated", Space::Accounts, 0xa0);

/// (local part, address) → contact.
pub(crate) const CONTACT: Table<(String, String), Contact> = Table::new("account.contact", Space::Accounts, 0xc0);
/// (local part, log position) → the contact that changed there last.
pub(crate) const CONTACT_AT: Table<(String, u64), String> = Table::new("account.contact_at", Space::Accounts, 0xc1);
/// local part → how many rows [`CONTACT`] has for it.
pub(crate) const CONTACTS: Table<String, u64> = Table::new("account.contacts", Space::Accounts, 0xc2);
/// (local part, node) → how it works.
pub(crate) const NODE: Table<(String, String), NodeConfig> = Table::new("account.node", Space::Accounts, 0xc3);
/// (local part, node, id) → item.
pub(crate) const NODE_ITEM: Table<(String, String, String), NodeItem> =
    Table::new("account.node_item", Space::Accounts, 0xc4);
/// (local part, node, log position) → the id of the item that was published there.
pub(crate) const NODE_ITEM_AT: Table<(String, String, u64), String> =
    Table::new("account.node_item_at", Space::Accounts, 0xc5);
/// (local part, node, bare address) → what somebody has to do with the node.
pub(crate) const NODE_PEER: Table<(String, String, String), NodePeer> =
    Table::new("account.node_peer", Space::Accounts, 0xc6);
/// (local part, drawer, name) → a thing kept there.
pub(crate) const DRAWER: Table<(String, String, String), String> = Table::new("account.drawer", Space::Accounts, 0xc7);

/// All of them, for the test that no two tables of the server share rows.
pub const ALL: &[TableInfo] = &[
    USER.info(),
    DEVICE.info(),
    TOKEN.info(),
    PROFILE.info(),
    DATA.info(),
    DATA_AT.info(),
    FILTER.info(),
    FILTER_NO.info(),
    INVITATION.info(),
    OPENID.info(),
    OPENID_END.info(),
    THREAD_SUBSCRIPTION.info(),
    THREAD_SUBSCRIPTION_AT.info(),
    THREADS.info(),
    DEHYDRATED.info(),
    crate::attached::ATTACHED.info(),
    crate::certificates::CERTIFICATE.info(),
    crate::certificates::CERTIFICATE_OF.info(),
    CONTACT.info(),
    CONTACT_AT.info(),
    CONTACTS.info(),
    NODE.info(),
    NODE_ITEM.info(),
    NODE_ITEM_AT.info(),
    NODE_PEER.info(),
    DRAWER.info(),
    keys::DEVICE_KEYS.info(),
    keys::DEVICE_STATE.info(),
    keys::ONE_TIME.info(),
    keys::ONE_TIME_NO.info(),
    keys::FALLBACK.info(),
    keys::CROSS_SIGNING.info(),
    keys::SIGNATURE.info(),
    keys::CHANGED.info(),
    keys::CHANGED_AT.info(),
    keys::BACKUP.info(),
    keys::BACKUP_KEY.info(),
    keys::BACKUP_NEWEST.info(),
    keys::TO_DEVICE.info(),
    keys::TO_DEVICE_CROWD.info(),
    keys::TO_DEVICE_TXN.info(),
    keys::DEVICE_STREAM.info(),
    keys::REMOTE_USER.info(),
    keys::REMOTE_DEVICE.info(),
    keys::OUTGOING.info(),
    keys::OUTGOING_STATE.info(),
    keys::RECEIVED.info(),
    keys::RECEIVED_NO.info(),
    keys::RECEIVED_STATE.info(),
];

/// An account.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    pub(crate) created_ms: u64,
    /// Without one nobody can log in with a password.
    pub(crate) password: Option<PasswordRecord>,
    pub(crate) is_admin: bool,
    pub(crate) is_deactivated: bool,
    pub(crate) is_erased: bool,
    pub(crate) is_locked: bool,
    pub(crate) is_suspended: bool,
    /// How many filters were ever stored.
    pub(crate) filters: u64,
}

/// A device.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct DeviceRecord {
    pub(crate) display_name: Option<String>,
    pub(crate) created_ms: u64,
    pub(crate) seen_ms: u64,
    pub(crate) seen_ip: Option<String>,
    /// All tokens of the device, of either kind.
    pub(crate) tokens: Vec<TokenHash>,
}

/// What a token is good for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) localpart: String,
    pub(crate) device_id: String,
    pub(crate) kind: TokenKind,
    pub(crate) expires_ms: Option<u64>,
    /// Tokens that this one replaces: they are revoked when it is first used, not before, since the client may never
    /// have received this one.
    pub(crate) replaces: Vec<TokenHash>,
}

/// The kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TokenKind {
    Access,
    Refresh,
}

/// Account data.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DataRecord {
    pub(crate) position: u64,
    pub(crate) content: String,
}

/// The rest of the key of a row in [`DATA`].
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DataKey {
    pub(crate) room: String,
    pub(crate) kind: String,
}

/// A registration token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct InvitationRecord {
    pub(crate) uses_allowed: Option<u64>,
    pub(crate) completed: u64,
    pub(crate) expires_ms: Option<u64>,
}

/// An OpenID token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OpenIdRecord {
    pub(crate) localpart: String,
    pub(crate) expires_ms: u64,
}

/// What an account has to do with a thread.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ThreadRecord {
    pub(crate) position: u64,
    pub(crate) is_subscribed: bool,
    pub(crate) is_automatic: bool,
}

/// The rest of the key of a row in [`THREAD_SUBSCRIPTION`].
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ThreadKey {
    pub(crate) room: String,
    pub(crate) root: String,
}

/// A packed device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DehydratedRecord {
    pub(crate) device_id: String,
    /// A JSON object.
    pub(crate) device_data: String,
}

stored!(
    UserRecord,
    DeviceRecord,
    TokenRecord,
    DataRecord,
    DataKey,
    InvitationRecord,
    OpenIdRecord,
    ThreadRecord,
    ThreadKey,
    DehydratedRecord,
    Contact,
    NodeConfig,
    NodePeer,
);
