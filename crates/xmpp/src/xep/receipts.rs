//! XEP-0184: Message Delivery Receipts, for people who are here by Matrix alone: the server answers for them once one of their
//! devices has asked what comes behind a message, and so has it. XMPP clients answer for themselves.

use std::{sync::Arc, time::Duration};

use koine_room::Placed;
use koine_stanza::{Element, Jid, ns};
use ruma_common::{OwnedUserId, UserId};
use tokio::sync::Semaphore;

use crate::{
    core::Core,
    iq::{At, Extension},
};

/// Messages that are waited for; of those beyond, nothing is said.
const AWAITED_MAX: usize = 2_000;
/// How long a device is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether it has the message.
const LOOK: Duration = Duration::from_millis(250);

/// How many messages may be waited for beside those that are.
pub(crate) struct Receipts(Arc<Semaphore>);

impl Default for Receipts {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AWAITED_MAX)))
    }
}

/// Messages alone: there are no requests. What was said while nobody was there is in the rooms, which is said here as well.
/// [XEP-0160]
pub(crate) const EXTENSION: Extension =
    Extension { features: &[(At::Host, ns::RECEIPTS), (At::Host, "msgoffline")], handlers: &[] };

/// A message that wants a receipt was put into a conversation: waits, beside the reading of the log, until a Matrix device of
/// `peer` has it, if they have no XMPP session that answers.
pub(crate) fn await_device(core: &Arc<Core>, (from, peer): (Jid, OwnedUserId), message: &Element, placed: &Placed) {
    if !message.has_child("request", ns::RECEIPTS) {
        return;
    }
    let (Some(account), Some(id)) = (core.jid_of(&peer), message.id().map(ToOwned::to_owned)) else { return };
    if !core.sessions.takers(&account).is_empty() || !core.is_account(&peer) {
        return;
    }
    let Ok(permit) = core.receipts.0.clone().try_acquire_owned() else { return };
    let Ok(position) = u64::try_from(placed.order) else { return };
    let weak = Arc::downgrade(core);
    tokio::spawn(async move {
        let _permit = permit;
        let until = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < until {
            let Some(core) = weak.upgrade() else { return };
            if has_asked_behind(&core, &peer, position) {
                let received = Element::new("received", ns::RECEIPTS).with_attr("id", id);
                let receipt = Element::new("message", ns::CLIENT)
                    .with_attr("from", account.to_string())
                    .with_attr("to", from.to_string())
                    .with_attr("type", "chat")
                    .with_attr("id", format!("r{:x}", rand::random::<u64>()))
                    .with_child(received);
                return core.deliver_to_person(receipt, &from).await;
            }
            drop(core);
            tokio::time::sleep(LOOK).await;
        }
    });
}

fn has_asked_behind(core: &Core, peer: &UserId, position: u64) -> bool {
    core.rooms().hub().acknowledged(peer).is_some_and(|acknowledged| acknowledged.0 >= position)
}

impl Core {
    /// A message that is not kept, to a session, or to whoever takes messages of an account.
    async fn deliver_to_person(self: &Arc<Self>, message: Element, to: &Jid) {
        let bare = to.to_bare();
        if self.user_of(&bare).is_none() || to.resource().is_some() {
            return self.deliver(message).await;
        }
        for session in self.sessions.takers(&bare) {
            session.send(message.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_is_here_by_matrix_has_received_what_their_device_asks_behind() {
        let world = World::new();
        let bob = world.person("bob").await;
        let mut alice = world.connect("alice", "a").await;
        alice.send("<presence/>").await;
        let inbox = world.core().rooms().hub().inbox(&bob);
        alice.send("<message to='bob@example.org' type='chat' id='m1'><body>x</body><request xmlns='urn:xmpp:receipts'/></message>").await;
        let position = world.core().shard().position();
        world.core().rooms().hub().reached(position).await;
        // What a long poll does that comes back for more.
        let _ = inbox.changes_after(position, 0);
        let receipt = alice.until(|stanza| stanza.has_child("received", ns::RECEIPTS)).await;
        assert_eq!(receipt.attr("from"), Some("bob@example.org"));
        assert_eq!(receipt.child("received", ns::RECEIPTS).and_then(Element::id), Some("m1"));
    }
}
