//! Who may know whether somebody is there: asking, granting, taking back. [RFC6121 §3]

use std::sync::Arc;

use koine_account::{ContactError, Edited, Heard, Word};
use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError, ns};
use ruma_common::UserId;

use super::{presence::show_to, roster};
use crate::{address::Place, core::Core};

impl Core {
    /// A session of `user` says a word about subscriptions to somebody.
    pub(super) async fn said(
        self: &Arc<Self>,
        user: &UserId,
        from: &BareJid,
        to: &BareJid,
        word: Word,
        stanza: &Element,
    ) -> Result<(), StanzaError> {
        if from == to {
            // Whoever is oneself needs no permission.
            return Ok(());
        }
        let edited = self.accounts().edit_contact(user, &to.to_string(), move |contact| contact.say(word)).await;
        let edited = edited.map_err(|error| refused(&error))?;
        if edited.shows() {
            roster::push(self, user, &to.to_string()).await;
        }
        if edited.answer.passes {
            let mut stanza = stanza.clone();
            stanza.set_attr("from", Some(from.to_string()));
            stanza.set_attr("to", Some(to.to_string()));
            self.carry(from, to, word, stanza).await;
        }
        self.follow_from(user, to, &edited).await;
        Ok(())
    }

    /// The same without a session: the account's server speaks for it.
    pub(crate) async fn say(self: &Arc<Self>, user: &UserId, to: &BareJid, word: Word) {
        let Some(from) = self.jid_of(user) else { return };
        let stanza = Element::new("presence", ns::CLIENT).with_attr("type", word.as_str());
        if let Err(error) = Box::pin(self.said(user, &from, to, word, &stanza)).await {
            tracing::warn!(user_id = %user, reason = %error, "a subscription could not be changed");
        }
    }

    /// Brings a word to the account or server that it is for.
    async fn carry(self: &Arc<Self>, from: &BareJid, to: &BareJid, word: Word, stanza: Element) {
        match self.place(&Jid::from(to.clone())) {
            Place::Account(_) => Box::pin(self.heard(from, to, word, &stanza)).await,
            Place::Elsewhere => Box::pin(self.send_elsewhere(stanza)).await,
            Place::Matrix => {
                // Whoever lives in Matrix is asked into a conversation.
                let (Some(me), Some(peer)) = (self.person_of(from), self.person_of(to)) else { return };
                if word == Word::Subscribe
                    && let Err(error) = Box::pin(self.conversation(&me, &peer)).await
                {
                    tracing::debug!(user_id = %peer, reason = %error, "somebody could not be asked into a conversation");
                }
            }
            Place::Mail => Box::pin(crate::xep::gateway::word(self, from, to, word)).await,
            _ => {}
        }
    }

    /// Somebody says a word about subscriptions to an account of ours.
    pub(crate) async fn heard(self: &Arc<Self>, from: &BareJid, to: &BareJid, word: Word, stanza: &Element) {
        let Some(user) = self.user_of(to).filter(|user| self.is_account(user)) else { return };
        let sender = self.person_of(from);
        if sender.as_ref().is_some_and(|sender| self.has_blocked(&user, sender)) {
            return;
        }
        let mut stanza = stanza.clone();
        stanza.set_attr("from", Some(from.to_string()));
        stanza.set_attr("to", Some(to.to_string()));
        let request = stanza.to_xml();
        let edit = move |contact: &mut koine_account::Contact| contact.hear(word, &request);
        let edited = match self.accounts().edit_contact(&user, &from.to_string(), edit).await {
            Ok(edited) => edited,
            Err(error) => {
                tracing::warn!(user_id = %user, reason = %error, "a word about a subscription was not kept");
                return;
            }
        };
        if edited.shows() {
            roster::push(self, &user, &from.to_string()).await;
        }
        if edited.answer.passes {
            let interested = word != Word::Subscribe;
            for session in self.sessions.of(to) {
                let wants = session.priority().is_some() || (interested && session.state().wants_roster);
                if wants {
                    session.send(stanza.clone());
                }
            }
        }
        if let Some(answer) = edited.answer.answer {
            let answer = Element::new("presence", ns::CLIENT)
                .with_attr("from", to.to_string())
                .with_attr("to", from.to_string())
                .with_attr("type", answer.as_str());
            self.carry(to, from, Word::Subscribed, answer).await;
        }
        self.follow_from(&user, from, &edited).await;
        // [XEP-0379] Whoever was invited need not be asked about.
        if word == Word::Subscribe && crate::xep::invite::is_preauthorized(self, &user, &stanza).await {
            return Box::pin(crate::xep::invite::befriend(self, (&user, from))).await;
        }
        let asks = word == Word::Subscribe && edited.answer.passes;
        // Whoever never used XMPP is asked as Matrix has it.
        if asks
            && !self.accounts().uses_xmpp(&user).unwrap_or(true)
            && let Some(sender) = sender
            && let Err(error) = Box::pin(self.conversation(&sender, &user)).await
        {
            tracing::debug!(user_id = %user, reason = %error, "somebody could not be asked into a conversation");
        }
    }

    /// Whoever may know now learns who is there; whoever may not any more, that nobody is. [RFC6121 §3.1.5] [RFC6121 §3.2.1]
    async fn follow_from(self: &Arc<Self>, user: &UserId, other: &BareJid, edited: &Edited<Heard>) {
        if edited.answer.from_changed {
            show_to(self, user, other, edited.after.from).await;
        }
    }
}

/// What a contact that was not changed is answered with.
pub(super) fn refused(error: &ContactError) -> StanzaError {
    let condition = match error {
        ContactError::UnknownUser => Condition::ItemNotFound,
        ContactError::TooMany => Condition::ResourceConstraint,
        ContactError::TooLong => Condition::NotAcceptable,
        ContactError::Store(_) => Condition::InternalServerError,
    };
    StanzaError::new(condition, error.to_string())
}
