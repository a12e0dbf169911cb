//! From the engine's timeline to the lines of the screen.

use matrix_sdk::ruma::events::room::message::MessageType;
use matrix_sdk_ui::timeline::{
    AnyOtherStateEventContentChange, EmbeddedEvent, EncryptedMessage, EventSendState, EventTimelineItem,
    MembershipChange, MsgLikeContent, MsgLikeKind, Profile, TimelineDetails, TimelineItem, TimelineItemContent,
    TimelineItemKind, VirtualTimelineItem,
};

use super::state::{Item, Kind, Sending};
use crate::trust;

/// Characters of what is answered that are shown above the answer.
const QUOTE_MAX: usize = 80;

/// One item of the engine as a line of the screen.
pub fn item(from: &TimelineItem, own: &str) -> Item {
    let key = from.unique_id().0.clone();
    match from.kind() {
        TimelineItemKind::Virtual(between) => {
            let (kind, time_ms) = match between {
                VirtualTimelineItem::DateDivider(at) => (Kind::Day, u64::from(at.get())),
                VirtualTimelineItem::ReadMarker => (Kind::ReadMarker, 0),
                VirtualTimelineItem::TimelineStart => (Kind::Start, 0),
            };
            Item { key, kind, time_ms, ..Item::default() }
        }
        TimelineItemKind::Event(event) => Item { key, ..said(event, own) },
    }
}

fn said(event: &EventTimelineItem, own: &str) -> Item {
    let mut item = Item {
        event_id: event.event_id().map(ToString::to_string),
        transaction_id: event.transaction_id().map(ToString::to_string),
        sender: event.sender().to_string(),
        name: name(event.sender_profile(), event.sender().as_str()),
        time_ms: u64::from(event.timestamp().get()),
        own: event.is_own(),
        editable: event.is_editable(),
        trust: "plain",
        words: "not encrypted",
        sending: match event.send_state() {
            None | Some(EventSendState::Sent { .. }) => Sending::Done,
            Some(EventSendState::NotSentYet { .. }) => Sending::Waiting,
            Some(EventSendState::SendingFailed { error, is_recoverable }) => match is_recoverable {
                true => Sending::Waiting,
                false => Sending::Failed(crate::failure::words(error)),
            },
        },
        readers: event.read_receipts().keys().filter(|user| *user != own).map(ToString::to_string).collect(),
        ..Item::default()
    };
    if let Some(info) = event.encryption_info() {
        (item.trust, item.words) = trust::of(info);
        item.device = info.sender_device.as_ref().map(ToString::to_string);
    } else if event.is_local_echo() {
        (item.trust, item.words) = ("", "still being sent");
    }
    content(event.content(), own, &mut item);
    item
}

fn content(content: &TimelineItemContent, own: &str, item: &mut Item) {
    match content {
        TimelineItemContent::MsgLike(like) => like_message(like, own, item),
        other => {
            item.kind = Kind::State;
            item.body = change(other);
        }
    }
}

fn like_message(like: &MsgLikeContent, own: &str, item: &mut Item) {
    match &like.kind {
        MsgLikeKind::Message(message) => {
            item.edited = message.is_edited();
            message.body().clone_into(&mut item.body);
            item.kind = match message.msgtype() {
                MessageType::Emote(_) => Kind::Emote,
                // Its text is for clients that do not know what it is.
                MessageType::VerificationRequest(_) => {
                    "asks to verify each other".clone_into(&mut item.body);
                    Kind::Notice
                }
                MessageType::Notice(_) => Kind::Notice,
                MessageType::Image(image) => {
                    item.file = Some(image.filename().to_owned());
                    Kind::Image
                }
                MessageType::File(file) => named(item, file.filename()),
                MessageType::Audio(file) => named(item, file.filename()),
                MessageType::Video(file) => named(item, file.filename()),
                _ => Kind::Text,
            };
        }
        MsgLikeKind::Sticker(sticker) => {
            item.file = Some(sticker.content().body.clone());
            item.kind = Kind::Image;
        }
        MsgLikeKind::Poll(poll) => {
            item.body = format!("asks: {}", poll.fallback_text().unwrap_or_else(|| "a poll".to_owned()));
        }
        MsgLikeKind::Redacted => item.kind = Kind::Removed,
        MsgLikeKind::UnableToDecrypt(encrypted) => {
            item.kind = Kind::Undecryptable;
            (item.trust, item.words) = match encrypted {
                EncryptedMessage::MegolmV1AesSha2 { cause, .. } => trust::cause(*cause, false),
                _ => ("malformed", "it is encrypted in a way that is not known here"),
            };
        }
        MsgLikeKind::Other(other) => {
            item.kind = Kind::Notice;
            item.body = format!("[{}]", other.event_type());
        }
        MsgLikeKind::LiveLocation(_) => {
            item.kind = Kind::Notice;
            "shares where they are".clone_into(&mut item.body);
        }
    }
    item.reply = like.in_reply_to.as_ref().map(|reply| match &reply.event {
        TimelineDetails::Ready(event) => quote(event),
        _ => ("…".to_owned(), "a message that is not loaded".to_owned()),
    });
    item.reactions =
        like.reactions.iter().map(|(key, by)| (key.clone(), by.len(), by.keys().any(|user| *user == own))).collect();
    item.thread = like.thread_summary.as_ref().map(|thread| thread.num_replies).filter(|count| *count > 0);
}

fn named(item: &mut Item, name: &str) -> Kind {
    item.file = Some(name.to_owned());
    Kind::File
}

fn quote(event: &EmbeddedEvent) -> (String, String) {
    let mut inner = Item::default();
    content(&event.content, "", &mut inner);
    let text = match inner.kind {
        Kind::Undecryptable => "cannot be read".to_owned(),
        Kind::Removed => "removed".to_owned(),
        _ => inner.file.unwrap_or(inner.body),
    };
    (name(&event.sender_profile, event.sender.as_str()), text.chars().take(QUOTE_MAX).collect())
}

fn name(profile: &TimelineDetails<Profile>, user: &str) -> String {
    match profile {
        TimelineDetails::Ready(Profile { display_name: Some(name), display_name_ambiguous, .. }) => {
            // Two of one name are told apart by what nobody can choose twice.
            if *display_name_ambiguous { format!("{name} ({user})") } else { name.clone() }
        }
        _ => user.to_owned(),
    }
}

/// A change of the room in words.
fn change(content: &TimelineItemContent) -> String {
    match content {
        TimelineItemContent::MembershipChange(change) => {
            let who = change.user_id();
            match change.change() {
                Some(MembershipChange::Joined) => "joined".to_owned(),
                Some(MembershipChange::Left) => "left".to_owned(),
                Some(MembershipChange::Invited) => format!("invited {who}"),
                Some(MembershipChange::InvitationAccepted) => "accepted the invitation".to_owned(),
                Some(MembershipChange::InvitationRejected) => "declined the invitation".to_owned(),
                Some(MembershipChange::InvitationRevoked) => format!("took back the invitation of {who}"),
                Some(MembershipChange::Kicked) => format!("removed {who}"),
                Some(MembershipChange::Banned | MembershipChange::KickedAndBanned) => {
                    format!("removed {who} for good")
                }
                Some(MembershipChange::Unbanned) => format!("lets {who} back in"),
                Some(MembershipChange::Knocked) => "asks to be let in".to_owned(),
                _ => "is a member".to_owned(),
            }
        }
        TimelineItemContent::ProfileChange(change) => match change.displayname_change() {
            Some(name) => format!("is now called {}", name.new.as_deref().unwrap_or("by their user id")),
            None => "changed their picture".to_owned(),
        },
        TimelineItemContent::OtherState(state) => match state.content() {
            AnyOtherStateEventContentChange::RoomEncryption(_) => "made the room encrypted".to_owned(),
            AnyOtherStateEventContentChange::RoomName(_) => "changed the room's name".to_owned(),
            AnyOtherStateEventContentChange::RoomTopic(_) => "changed what the room is about".to_owned(),
            AnyOtherStateEventContentChange::RoomCreate(_) => "made this room".to_owned(),
            AnyOtherStateEventContentChange::RoomPowerLevels(_) => "changed who may do what".to_owned(),
            AnyOtherStateEventContentChange::RoomJoinRules(_) => "changed who may join".to_owned(),
            AnyOtherStateEventContentChange::RoomHistoryVisibility(_) => {
                "changed who may read what was said".to_owned()
            }
            AnyOtherStateEventContentChange::RoomGuestAccess(_) => "changed whether guests may join".to_owned(),
            AnyOtherStateEventContentChange::RoomCanonicalAlias(_) => "changed the room's address".to_owned(),
            AnyOtherStateEventContentChange::RoomAvatar(_) => "changed the room's picture".to_owned(),
            AnyOtherStateEventContentChange::RoomPinnedEvents(_) => "changed what is pinned".to_owned(),
            AnyOtherStateEventContentChange::RoomTombstone(_) => "moved this room elsewhere".to_owned(),
            AnyOtherStateEventContentChange::RoomServerAcl(_) => "changed which servers may take part".to_owned(),
            AnyOtherStateEventContentChange::SpaceChild(_) => "changed what is in this space".to_owned(),
            AnyOtherStateEventContentChange::SpaceParent(_) => "changed in which space this room is".to_owned(),
            other => format!("changed {}", other.event_type()),
        },
        _ => "did something that is not known here".to_owned(),
    }
}
