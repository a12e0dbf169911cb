//! Nodes: what an account publishes to others, item by item. [XEP-0163] [XEP-0060]
//!
//! An item is XML that the caller has checked, under an id that is unique in its node. The newest stands last. Whom a node is
//! open to, and who is told of its items, its configuration says; that the caller obeys it.

use koine_store::{Direction, DomainId, KeyRange, StoreError, Txn};
use ruma_common::UserId;
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::{NODE, NODE_ITEM, NODE_ITEM_AT, NODE_PEER, USER},
};

/// Most nodes of one account.
pub const NODES_MAX: usize = 500;
/// Most items of one node; what `max` means in its configuration.
pub const NODE_ITEMS_MAX: u64 = 5_000;
/// Longest name of a node, and longest id of an item.
pub const NODE_NAME_BYTES_MAX: usize = 1023;
/// Largest item.
pub const NODE_ITEM_BYTES_MAX: usize = 256 * 1024;
/// The localpart under which nodes are kept that belong to the server's own service and to no account. Nobody can have it.
pub const NODE_SERVICE: &str = "_pubsub";
/// Most people with a standing at one node.
pub const NODE_PEERS_MAX: usize = 1_000;
/// Most people of one other domain who are there as subscribers alone, which whoever likes can be at an open node.
pub const NODE_STRANGERS_PER_DOMAIN_MAX: usize = 100;
/// Most such people of all other domains; what is left of [`NODE_PEERS_MAX`] is for our own people and those whom the owner names.
pub const NODE_STRANGERS_MAX: usize = 800;

/// Whom a node is open to. [XEP-0060 §accessmodels]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever is told of the owner's presence.
    Presence,
    /// Contacts in certain groups of the owner's list.
    Roster,
    /// Whoever asks and is let in.
    Authorize,
    /// Whoever is on the node's list of members.
    Whitelist,
}

impl Access {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Presence, Self::Roster, Self::Authorize, Self::Whitelist];

    /// Its word in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Presence => "presence",
            Self::Roster => "roster",
            Self::Authorize => "authorize",
            Self::Whitelist => "whitelist",
        }
    }

    /// The model of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.as_str() == word)
    }
}

/// When the newest item is sent to somebody who did not ask. [XEP-0060 §publisher-publish-success-last]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendLast {
    /// Never.
    Never,
    /// To new subscribers.
    OnSubscription,
    /// To these, and to whoever becomes available.
    OnPresence,
}

impl SendLast {
    /// Its word in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnSubscription => "on_sub",
            Self::OnPresence => "on_sub_and_presence",
        }
    }

    /// The moment of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Never, Self::OnSubscription, Self::OnPresence].into_iter().find(|moment| moment.as_str() == word)
    }
}

/// How a node works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Whom it is open to.
    pub access: Access,
    /// Most items that it keeps; the oldest go.
    pub max_items: u64,
    /// It keeps items at all.
    pub persist: bool,
    /// Items are sent whole, not by id alone.
    pub payloads: bool,
    /// It is told when items are taken back.
    pub notify_retract: bool,
    /// It is told when the node is deleted.
    pub notify_delete: bool,
    /// It is told when the configuration changes.
    pub notify_config: bool,
    /// See there.
    pub send_last: SendLast,
    /// A name for people.
    pub title: String,
    /// Namespace of the items.
    pub item_type: String,
    /// Groups of the list of contacts, for [`Access::Roster`].
    pub groups: Vec<String>,
}

impl Default for NodeConfig {
    /// [XEP-0163 §defaults]
    fn default() -> Self {
        Self {
            access: Access::Presence,
            max_items: 1,
            persist: true,
            payloads: true,
            notify_retract: true,
            notify_delete: true,
            notify_config: false,
            send_last: SendLast::OnPresence,
            title: String::new(),
            item_type: String::new(),
            groups: Vec::new(),
        }
    }
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeItem {
    /// Who published it, as an address.
    pub publisher: String,
    /// Its payload as XML; empty where it has none.
    pub payload: String,
    /// When, in milliseconds since the epoch.
    pub ts: u64,
    /// Where in the log.
    pub position: u64,
    /// Where in the log an item of its id was first there. [XEP-0413]
    pub created: u64,
}

/// An item as it was kept before it was known when it was first there.
#[derive(Deserialize)]
struct ItemOfFormat1 {
    publisher: String,
    payload: String,
    ts: u64,
    position: u64,
}

impl koine_store::Value for NodeItem {
    fn encode(
        &self,
        arena: &mut koine_store::bytes::BytesMut,
    ) -> Result<koine_store::bytes::Bytes, koine_store::ValueError> {
        koine_store::encode_stored(2, self, arena)
    }

    fn decode(bytes: koine_store::bytes::Bytes) -> Result<Self, koine_store::ValueError> {
        if bytes.first() != Some(&1) {
            return koine_store::decode_stored(2, &bytes);
        }
        let ItemOfFormat1 { publisher, payload, ts, position } = koine_store::decode_stored(1, &bytes)?;
        Ok(Self { publisher, payload, ts, position, created: position })
    }
}

/// What somebody else has to do with a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePeer {
    /// `member`, `publisher`, `publish-only`, `outcast` or empty.
    pub affiliation: String,
    /// Addresses that have subscribed, with the state of that: `subscribed` or `pending`.
    pub subscriptions: Vec<(String, String)>,
}

/// Why a node was not changed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// There is no such node.
    #[error("there is no such node")]
    NoSuchNode,
    /// There is no such item.
    #[error("there is no such item")]
    NoSuchItem,
    /// There is such a node already.
    #[error("there is a node of that name already")]
    Exists,
    /// The node is not configured as the publisher wants it.
    #[error("the node is configured otherwise")]
    OtherConfig,
    /// More than [`NODES_MAX`], or [`NODE_PEERS_MAX`].
    #[error("at most {NODES_MAX} nodes can be kept, and {NODE_PEERS_MAX} people at each")]
    TooMany,
    /// Larger than [`NODE_ITEM_BYTES_MAX`], or a name longer than [`NODE_NAME_BYTES_MAX`].
    #[error("there are {0} bytes, at most {NODE_ITEM_BYTES_MAX} are allowed, and {NODE_NAME_BYTES_MAX} for names")]
    TooLarge(usize),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for NodeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// What is published.
#[derive(Clone, Debug)]
pub struct Publishing {
    /// Where.
    pub node: String,
    /// Its id.
    pub id: String,
    /// See [`NodeItem`].
    pub publisher: String,
    /// See [`NodeItem`].
    pub payload: String,
    /// What the configuration of the node must say, where it says something; a new node gets it.
    pub precondition: fn(&NodeConfig, &NodeConfig) -> bool,
    /// The configuration of a node that is new; also what `precondition` gets as its second argument.
    pub config: NodeConfig,
}

impl Accounts {
    /// The configuration of a node.
    pub fn node(&self, user_id: &UserId, node: &str) -> Result<Option<NodeConfig>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        Ok(self.shard.get(&NODE, self.domain, &(localpart, node))?)
    }

    /// All nodes of an account.
    pub fn nodes(&self, user_id: &UserId) -> Result<Vec<(String, NodeConfig)>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let rows = view.prefix(&NODE, self.domain, &(localpart,), Direction::Forward);
        rows.map(|row| row.map(|((_, node), config)| (node, config)).map_err(StoreUnavailable::from)).collect()
    }

    /// An item of a node.
    pub fn node_item(&self, user_id: &UserId, node: &str, id: &str) -> Result<Option<NodeItem>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        Ok(self.shard.get(&NODE_ITEM, self.domain, &(localpart, node, id))?)
    }

    /// The newest items of a node, at most `limit`, newest first.
    pub fn node_items(
        &self,
        user_id: &UserId,
        node: &str,
        limit: usize,
    ) -> Result<Vec<(String, NodeItem)>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let mut items = Vec::new();
        for row in view.prefix(&NODE_ITEM_AT, self.domain, &(localpart, node), Direction::Backward).take(limit) {
            let (_, id) = row?;
            let item = view.get(&NODE_ITEM, self.domain, &(localpart, node, id.as_str()))?;
            items.push((id, item.ok_or_else(|| StoreUnavailable::damaged("an item without its row"))?));
        }
        Ok(items)
    }

    /// Makes a node.
    pub async fn create_node(&self, user_id: &UserId, node: &str, config: NodeConfig) -> Result<(), NodeError> {
        self.on_node(user_id, node, move |txn, domain, key| {
            if txn.get(&NODE, domain, key)?.is_some() {
                return Err(NodeError::Exists);
            }
            create(txn, domain, key, &config)
        })
        .await
    }

    /// Changes the configuration of a node. What it does not keep any more goes.
    pub async fn configure_node(&self, user_id: &UserId, node: &str, config: NodeConfig) -> Result<(), NodeError> {
        self.on_node(user_id, node, move |txn, domain, key| {
            txn.get(&NODE, domain, key)?.ok_or(NodeError::NoSuchNode)?;
            txn.put(&NODE, domain, key, &config);
            trim(txn, domain, key, &config)
        })
        .await
    }

    /// Publishes an item, in the place of the one that had its id. Makes the node where there is none. Whether it was made,
    /// and how it is configured.
    pub async fn publish(&self, user_id: &UserId, new: Publishing) -> Result<(bool, NodeConfig), NodeError> {
        if new.payload.len() > NODE_ITEM_BYTES_MAX || new.id.len() > NODE_NAME_BYTES_MAX {
            return Err(NodeError::TooLarge(new.payload.len()));
        }
        let (owner, ts, node) = (user_id.to_owned(), self.now_ms(), new.node.clone());
        self.on_node(user_id, &node, move |txn, domain, key| {
            let present = txn.get(&NODE, domain, key)?;
            let made = present.is_none();
            let config = match present {
                Some(config) if !(new.precondition)(&config, &new.config) => return Err(NodeError::OtherConfig),
                Some(config) => config,
                None => {
                    create(txn, domain, key, &new.config)?;
                    new.config
                }
            };
            if config.persist {
                let row = (key.0.clone(), key.1.clone(), new.id);
                let mut created = None;
                if let Some(old) = txn.get(&NODE_ITEM, domain, &row)? {
                    created = Some(old.created);
                    txn.delete(&NODE_ITEM_AT, domain, &(key.0.clone(), key.1.clone(), old.position));
                }
                let position = txn.append(log::entry(domain, &owner, Kind::Node, key.1.clone())).0;
                let item = NodeItem {
                    publisher: new.publisher,
                    payload: new.payload,
                    ts,
                    position,
                    created: created.unwrap_or(position),
                };
                txn.put(&NODE_ITEM, domain, &row, &item);
                txn.put(&NODE_ITEM_AT, domain, &(key.0.clone(), key.1.clone(), position), &row.2);
                trim(txn, domain, key, &config)?;
            }
            Ok((made, config))
        })
        .await
    }

    /// Takes an item back.
    pub async fn retract(&self, user_id: &UserId, node: &str, id: &str) -> Result<NodeConfig, NodeError> {
        let id = id.to_owned();
        self.on_node(user_id, node, move |txn, domain, key| {
            let config = txn.get(&NODE, domain, key)?.ok_or(NodeError::NoSuchNode)?;
            let row = (key.0.clone(), key.1.clone(), id);
            let item = txn.get(&NODE_ITEM, domain, &row)?.ok_or(NodeError::NoSuchItem)?;
            txn.delete(&NODE_ITEM_AT, domain, &(key.0.clone(), key.1.clone(), item.position));
            txn.delete(&NODE_ITEM, domain, &row);
            Ok(config)
        })
        .await
    }

    /// Takes all items back; with `delete` the node goes too. How it is, or was, configured.
    pub async fn purge_node(&self, user_id: &UserId, node: &str, delete: bool) -> Result<NodeConfig, NodeError> {
        self.on_node(user_id, node, move |txn, domain, key| {
            let config = txn.get(&NODE, domain, key)?.ok_or(NodeError::NoSuchNode)?;
            let part = (key.0.as_str(), key.1.as_str());
            txn.delete_range(&NODE_ITEM, domain, KeyRange::prefix(&part))?;
            txn.delete_range(&NODE_ITEM_AT, domain, KeyRange::prefix(&part))?;
            if delete {
                txn.delete_range(&NODE_PEER, domain, KeyRange::prefix(&part))?;
                txn.delete(&NODE, domain, key);
            }
            Ok(config)
        })
        .await
    }

    /// What somebody has to do with a node, by bare address.
    pub fn node_peer(&self, user_id: &UserId, node: &str, peer: &str) -> Result<Option<NodePeer>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        Ok(self.shard.get(&NODE_PEER, self.domain, &(localpart, node, peer))?)
    }

    /// Everybody who has something to do with a node.
    pub fn node_peers(&self, user_id: &UserId, node: &str) -> Result<Vec<(String, NodePeer)>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let rows = view.prefix(&NODE_PEER, self.domain, &(localpart, node), Direction::Forward);
        rows.map(|row| row.map(|((_, _, peer), what)| (peer, what)).map_err(StoreUnavailable::from)).collect()
    }

    /// Changes what somebody has to do with a node; who ends with nothing is forgotten.
    pub async fn edit_node_peer<R: Send + 'static>(
        &self,
        user_id: &UserId,
        node: &str,
        peer: &str,
        edit: impl FnOnce(&mut NodePeer) -> R + Send + 'static,
    ) -> Result<R, NodeError> {
        let (peer, own_host) = (peer.to_owned(), self.server_name.host().to_owned());
        if peer.len() > crate::contacts::CONTACT_ADDRESS_BYTES_MAX {
            return Err(NodeError::TooLarge(peer.len()));
        }
        self.on_node(user_id, node, move |txn, domain, key| {
            txn.get(&NODE, domain, key)?.ok_or(NodeError::NoSuchNode)?;
            let row = (key.0.clone(), key.1.clone(), peer);
            let known = txn.get(&NODE_PEER, domain, &row)?;
            let is_new = known.is_none();
            let mut known = known.unwrap_or_default();
            let answer = edit(&mut known);
            if is_new && known != NodePeer::default() {
                let range = KeyRange::prefix(&(key.0.as_str(), key.1.as_str()));
                let there = txn.scan(&NODE_PEER, domain, range)?;
                let is_stranger = known.affiliation.is_empty() && host_of(&row.2) != own_host;
                if there.len() >= NODE_PEERS_MAX || (is_stranger && !has_room_for(&there, host_of(&row.2), &own_host)) {
                    return Err(NodeError::TooMany);
                }
            }
            match known == NodePeer::default() {
                true => txn.delete(&NODE_PEER, domain, &row),
                false => txn.put(&NODE_PEER, domain, &row, &known),
            }
            Ok(answer)
        })
        .await
    }

    pub(crate) async fn erase_nodes(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        for (node, _) in self.nodes(user_id)? {
            match self.purge_node(user_id, &node, true).await {
                Ok(_) | Err(NodeError::NoSuchNode) => {}
                Err(NodeError::Store(error)) => return Err(error),
                Err(_) => return Err(StoreUnavailable::damaged("a node that cannot be deleted")),
            }
        }
        Ok(())
    }

    async fn on_node<R: Send + 'static>(
        &self,
        user_id: &UserId,
        node: &str,
        work: impl FnOnce(&mut Txn, DomainId, &(String, String)) -> Result<R, NodeError> + Send + 'static,
    ) -> Result<R, NodeError> {
        if node.len() > NODE_NAME_BYTES_MAX {
            return Err(NodeError::TooLarge(node.len()));
        }
        let localpart = self.key(user_id).ok_or(NodeError::UnknownUser)?.to_owned();
        let (domain, key) = (self.domain, (localpart, node.to_owned()));
        let commit = move |txn: &mut Txn| -> Result<R, NodeError> {
            if key.0 != NODE_SERVICE {
                txn.get(&USER, domain, key.0.as_str())?.ok_or(NodeError::UnknownUser)?;
            }
            work(txn, domain, &key)
        };
        self.change(commit).await?
    }
}

/// The host of an address.
fn host_of(address: &str) -> &str {
    let bare = address.split_once('/').map_or(address, |(bare, _)| bare);
    bare.split_once('@').map_or(bare, |(_, host)| host)
}

/// Whether one more person of another domain may subscribe.
fn has_room_for(there: &[((String, String, String), NodePeer)], host: &str, own_host: &str) -> bool {
    let strangers = there.iter().filter(|(_, peer)| peer.affiliation.is_empty()).map(|((_, _, peer), _)| host_of(peer));
    let (mut of_host, mut all) = (0, 0);
    for other in strangers.filter(|other| *other != own_host) {
        all += 1;
        of_host += usize::from(other == host);
    }
    all < NODE_STRANGERS_MAX && of_host < NODE_STRANGERS_PER_DOMAIN_MAX
}

fn create(txn: &mut Txn, domain: DomainId, key: &(String, String), config: &NodeConfig) -> Result<(), NodeError> {
    if txn.scan(&NODE, domain, KeyRange::prefix(&(key.0.as_str(),)))?.len() >= NODES_MAX {
        return Err(NodeError::TooMany);
    }
    txn.put(&NODE, domain, key, config);
    Ok(())
}

/// Drops the oldest items past what the node keeps.
fn trim(txn: &mut Txn, domain: DomainId, key: &(String, String), config: &NodeConfig) -> Result<(), NodeError> {
    let keeps = if config.persist { config.max_items.clamp(1, NODE_ITEMS_MAX) } else { 0 };
    let items = txn.scan(&NODE_ITEM_AT, domain, KeyRange::prefix(&(key.0.as_str(), key.1.as_str())))?;
    let surplus = items.len().saturating_sub(usize::try_from(keeps).unwrap_or(usize::MAX));
    for (at, id) in items.into_iter().take(surplus) {
        txn.delete(&NODE_ITEM_AT, domain, &at);
        txn.delete(&NODE_ITEM, domain, &(key.0.clone(), key.1.clone(), id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use koine_store::{MemoryEngine, Shard};
    use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, owned_server_name};

    use super::*;
    use crate::{AccountConfig, NewAccount};

    async fn subscribe(accounts: &Accounts, owner: &OwnedUserId, address: &str) -> Result<(), NodeError> {
        let text = address.to_owned();
        let edit = move |peer: &mut NodePeer| peer.subscriptions.push((text, "subscribed".to_owned()));
        accounts.edit_node_peer(owner, "news", address, edit).await
    }

    #[tokio::test]
    async fn strangers_of_one_domain_leave_room_at_a_node_for_others() {
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        let (clock, name) = (Arc::new(MilliSecondsSinceUnixEpoch::now), owned_server_name!("example.org"));
        let accounts = Accounts::new(shard, DomainId(1), name, AccountConfig::default(), clock);
        let wanted = NewAccount { name: Some("alice".into()), ..NewAccount::default() };
        let (alice, _) = accounts.create(wanted).await.expect("the name is free");
        accounts.create_node(&alice, "news", NodeConfig::default()).await.expect("there is room");
        for number in 0..NODE_STRANGERS_PER_DOMAIN_MAX {
            let address = format!("s{number}@hostile.example");
            subscribe(&accounts, &alice, &address).await.expect("there is room");
        }
        let one_more = subscribe(&accounts, &alice, "one-more@hostile.example").await;
        assert!(matches!(one_more, Err(NodeError::TooMany)));
        // Who is there changes what they have, others come, and so do those whom the owner names.
        subscribe(&accounts, &alice, "s1@hostile.example").await.expect("they are there");
        subscribe(&accounts, &alice, "bob@elsewhere.example").await.expect("there is room");
        subscribe(&accounts, &alice, "carol@example.org").await.expect("there is room");
        let name = |peer: &mut NodePeer| peer.affiliation = "member".to_owned();
        accounts.edit_node_peer(&alice, "news", "friend@hostile.example", name).await.expect("the owner wants it");
        assert_eq!(accounts.node_peers(&alice, "news").expect("read").len(), NODE_STRANGERS_PER_DOMAIN_MAX + 3);
    }
}
