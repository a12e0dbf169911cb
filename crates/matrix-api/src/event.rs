//! Events as their readers see them: the one place that puts them into the client's form.
//!
//! [CS-API §room-event-format] An event is JSON already; what is added is `unsigned`, which differs from reader to
//! reader. It is written by hand next to it, without a tree in between: every event of every `/sync` comes through here.

use std::{collections::BTreeMap, sync::Arc};

use koine_account::{IgnoredUsers, InviteRule, InviteRules};
use koine_graph::ClientForm;
use koine_room::{Bundle, Order, Placed, Receipt, Room, Viewer};
use ruma_common::{MilliSecondsSinceUnixEpoch, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Api, Error, Result, User};

/// Events shown to one reader in one room.
pub(crate) struct Shown<'a> {
    pub(crate) who: &'a User,
    pub(crate) room: &'a Room,
    /// With or without the room's id.
    pub(crate) form: ClientForm,
    /// With what is known of each event's children. [CS-API §aggregations-of-child-events]
    pub(crate) bundles: bool,
    /// People whose children do not count.
    pub(crate) ignored: &'a Ignored,
}

/// People that a reader does not want to hear of [CS-API §ignoring-users], or to be invited by
/// [CS-API §invite-permission].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ignored(Arc<IgnoredUsers>, InviteRules);

impl Ignored {
    /// Those whom `who` ignores.
    pub(crate) fn of(api: &Api, who: &User) -> Result<Self> {
        Ok(Self(api.accounts.ignored_users(&who.user_id)?, api.accounts.invite_rules(&who.user_id)?))
    }

    /// Whether `user` is one of them.
    pub(crate) fn contains(&self, user: &str) -> bool {
        !self.0.is_empty() && <&UserId>::try_from(user).is_ok_and(|user| self.0.contains(user))
    }

    /// Whether the reader is not to be told of an invitation by `sender`.
    pub(crate) fn hides_invitation_by(&self, sender: &UserId) -> bool {
        self.0.contains(sender) || self.1.rule_for(sender) != InviteRule::Allow
    }

    /// Whether an event is not to be shown: what the ignored say, but not what they do to the room's state.
    pub(crate) fn hides(&self, placed: &Placed) -> bool {
        !self.0.is_empty() && !placed.event.is_state() && self.0.contains(placed.event.sender())
    }
}

impl Shown<'_> {
    /// Appends the event.
    pub(crate) fn write(&self, placed: &Placed, viewer: &mut Viewer<'_>, out: &mut Vec<u8>) -> Result<()> {
        let bundle = match self.bundles {
            true => self.room.bundle(viewer, placed, |user| self.ignored.contains(user))?,
            false => Bundle::default(),
        };
        self.write_with(placed, &bundle, viewer, out)
    }

    /// The event by itself.
    pub(crate) fn to_bytes(&self, placed: &Placed, viewer: &mut Viewer<'_>) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(placed.event.json().len());
        self.write(placed, viewer, &mut out)?;
        Ok(out)
    }

    /// Appends a list of events.
    pub(crate) fn write_list<'p>(
        &self,
        events: impl IntoIterator<Item = &'p Arc<Placed>>,
        viewer: &mut Viewer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let events: Vec<_> = events.into_iter().collect();
        self.expect(events.iter().map(|placed| placed.order), viewer)?;
        out.push(b'[');
        for (number, placed) in events.into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            self.write(placed, viewer, out)?;
        }
        out.push(b']');
        Ok(())
    }

    /// Prepares for showing events at these places: whether each has children is then learnt at once.
    pub(crate) fn expect(&self, orders: impl Iterator<Item = Order> + Clone, viewer: &mut Viewer<'_>) -> Result<()> {
        let count = orders.clone().count();
        if let (true, Some(first), Some(last)) = (self.bundles, orders.clone().min(), orders.max()) {
            // As many as there are events: where these lie far apart, asking for each costs less than looking between.
            viewer.expect(first..=last, count)?;
        }
        Ok(())
    }

    fn write_with(&self, placed: &Placed, bundle: &Bundle, viewer: &mut Viewer<'_>, out: &mut Vec<u8>) -> Result<()> {
        placed.event.write_client_json(self.room.rules(), self.form, None, out);
        // The object is complete; `unsigned` goes in before its end.
        out.pop();
        out.extend_from_slice(b",\"unsigned\":{");
        self.write_unsigned(placed, viewer, out)?;
        if !bundle.is_empty() {
            self.write_bundle(bundle, viewer, out)?;
        }
        out.extend_from_slice(b"}}");
        Ok(())
    }

    /// [CS-API §definition-clientevent] UnsignedData
    fn write_unsigned(&self, placed: &Placed, viewer: &mut Viewer<'_>, out: &mut Vec<u8>) -> Result<()> {
        let event = &placed.event;
        let sent = i128::from(u64::from(event.origin_server_ts().get()));
        let age = i128::from(u64::from(MilliSecondsSinceUnixEpoch::now().get())) - sent;
        out.extend_from_slice(b"\"age\":");
        out.extend_from_slice(age.to_string().as_bytes());
        out.extend_from_slice(b",\"membership\":\"");
        out.extend_from_slice(viewer.membership_at(placed)?.as_str().as_bytes());
        out.push(b'"');
        if let Some((device, id)) = &placed.txn
            && event.sender() == self.who.user_id
            && *device == *self.who.device_id
        {
            write_field(out, "transaction_id", id);
        }
        if let Some(replaced) = &placed.replaces {
            write_field(out, "replaces_state", replaced);
            if let Some(replaced) = self.room.event(replaced)? {
                out.extend_from_slice(b",\"prev_content\":");
                out.extend_from_slice(replaced.event.content().get().as_bytes());
                // COMPAT(clients that show who invited somebody): not specified, and told by Synapse.
                write_field(out, "prev_sender", replaced.event.sender());
            }
        }
        if let Some(redaction) = &placed.redacted_by
            && let Some(redaction) = self.room.event(redaction)?
        {
            out.extend_from_slice(b",\"redacted_because\":");
            redaction.event.write_client_json(self.room.rules(), self.form, None, out);
        }
        Ok(())
    }

    /// [CS-API §aggregations-of-child-events] `m.relations`
    fn write_bundle(&self, bundle: &Bundle, viewer: &mut Viewer<'_>, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(b",\"m.relations\":{");
        let mut separator: &[u8] = b"";
        let mut begin = |name: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(separator);
            separator = b",";
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
        };
        if !bundle.references.is_empty() {
            #[derive(Serialize)]
            struct Reference<'a> {
                event_id: &'a ruma_common::EventId,
            }
            begin("m.reference", out);
            let chunk: Vec<_> = bundle.references.iter().map(|event_id| Reference { event_id }).collect();
            out.extend_from_slice(b"{\"chunk\":");
            write_json(out, &chunk);
            out.push(b'}');
        }
        if let Some(edit) = &bundle.replace {
            begin("m.replace", out);
            self.write_with(edit, &Bundle::default(), viewer, out)?;
        }
        if let Some(thread) = &bundle.thread {
            begin("m.thread", out);
            out.extend_from_slice(b"{\"latest_event\":");
            // The newest event of a thread has children of its own, such as its edits; it is never a root itself.
            let children = self.room.bundle(viewer, &thread.latest, |user| self.ignored.contains(user))?;
            self.write_with(&thread.latest, &Bundle { thread: None, ..children }, viewer, out)?;
            out.extend_from_slice(b",\"count\":");
            write_json(out, &thread.count);
            out.extend_from_slice(b",\"current_user_participated\":");
            write_json(out, &thread.participated);
            out.push(b'}');
        }
        out.push(b'}');
        Ok(())
    }
}

/// Account data as an event. [CS-API §client-config]
pub(crate) fn account_data(kind: &str, content: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + kind.len() + 32);
    out.extend_from_slice(b"{\"type\":");
    write_json(&mut out, kind);
    out.extend_from_slice(b",\"content\":");
    out.extend_from_slice(content.as_bytes());
    out.push(b'}');
    out
}

/// Receipts as one `m.receipt` event; `None` when there are none. [CS-API §mreceipt]
pub(crate) fn receipts(receipts: &[Receipt]) -> Option<Box<RawValue>> {
    #[derive(Serialize)]
    struct Read<'a> {
        ts: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Event<T> {
        #[serde(rename = "type")]
        kind: &'static str,
        content: T,
    }
    type ByUser<'a> = BTreeMap<&'a str, Read<'a>>;
    let mut content: BTreeMap<&str, BTreeMap<&str, ByUser<'_>>> = BTreeMap::new();
    for receipt in receipts {
        let readers = content.entry(receipt.event_id.as_str()).or_default().entry(receipt.kind.as_str()).or_default();
        let read = Read { ts: receipt.ts, thread_id: receipt.thread.as_deref() };
        // One event, one reader: only one receipt can be told, and the one that disregards threads says more. [MSC4102]
        if read.thread_id.is_none() || !readers.contains_key(receipt.user.as_str()) {
            readers.insert(receipt.user.as_str(), read);
        }
    }
    if content.is_empty() {
        return None;
    }
    serde_json::value::to_raw_value(&Event { kind: "m.receipt", content }).map_err(Error::internal).ok()
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    write_json(out, value);
}

fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("strings, numbers and lists of them can always be written");
}

#[cfg(test)]
mod tests {
    use koine_room::ReceiptType;
    use ruma_common::{event_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_unthreaded_receipt_wins_over_a_threaded_one_for_the_same_event() {
        let receipt = |thread: Option<&str>, ts| Receipt {
            user: user_id!("@a:b.c").to_owned(),
            kind: ReceiptType::Read,
            thread: thread.map(ToOwned::to_owned),
            event_id: event_id!("$e").to_owned(),
            ts,
        };
        let expected = json!({ "type": "m.receipt", "content": { "$e": { "m.read": { "@a:b.c": { "ts": 1 } } } } });
        for both in [[receipt(None, 1), receipt(Some("main"), 2)], [receipt(Some("main"), 2), receipt(None, 1)]] {
            let event = receipts(&both).expect("event");
            assert_eq!(serde_json::from_str::<Value>(event.get()).expect("JSON"), expected);
        }
        assert!(receipts(&[]).is_none());
    }

    #[test]
    fn account_data_is_spliced_as_it_is() {
        assert_eq!(account_data("m.\"x\"", r#"{"b":1, "a":2}"#), br#"{"type":"m.\"x\"","content":{"b":1, "a":2}}"#);
    }
}
