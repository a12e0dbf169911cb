//! Stanzas for other servers and components.

use std::sync::Arc;

use koine_stanza::{Condition, Element, StanzaError};

use crate::core::Core;

impl Core {
    /// Sends a stanza, whose `from` is ours, to another server. What cannot be delivered comes back as an error.
    pub(crate) async fn send_elsewhere(self: &Arc<Self>, stanza: Element) {
        let error =
            StanzaError::new(Condition::RemoteServerNotFound, "other XMPP servers are not reached from here yet");
        if let Some(answer) = error.answer(&stanza) {
            self.deliver(answer).await;
        }
    }
}
