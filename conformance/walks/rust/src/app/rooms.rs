//! What people do in rooms: lists, conversations, changes, threads, receipts, spaces, search.

use std::collections::HashSet;

use futures_util::StreamExt;
use koine_walk::{PASSWORD, Step, Wrong, earlier, expect, names};
use matrix_sdk::room::edit::EditedContent;
use matrix_sdk::ruma::api::client::receipt::create_receipt::v3::ReceiptType;
use matrix_sdk::ruma::api::client::room::create_room;
use matrix_sdk::ruma::api::client::search::search_events;
use matrix_sdk::ruma::events::room::encryption::RoomEncryptionEventContent;
use matrix_sdk::ruma::events::room::message::{RoomMessageEventContent, RoomMessageEventContentWithoutRelation};
use matrix_sdk::ruma::events::{EmptyStateKey, InitialStateEvent};
use matrix_sdk::ruma::room::RoomType;
use matrix_sdk::ruma::serde::Raw;
use matrix_sdk::ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, assign};
use matrix_sdk::{EncryptionState, RoomState};
use matrix_sdk_ui::notification_client::{NotificationClient, NotificationProcessSetup, NotificationStatus};
use matrix_sdk_ui::room_list_service::{RoomListItem, filters::new_filter_joined};
use matrix_sdk_ui::spaces::SpaceService;
use matrix_sdk_ui::timeline::{RoomExt, Timeline, TimelineFocus};

use crate::device::{Device, SEEN_WITHIN, body, message, say, see, shown};

/// More than the room list asks for in three pages.
const ROOMS: usize = 300;
const MESSAGES: usize = 60;

/// Who walks, and what later steps need from earlier ones.
pub struct Walk {
    pub base: String,
    pub bob_name: String,
    pub alice_name: String,
    pub alice: Device,
    pub bob: Device,
    pub alices_second: Option<Device>,
    pub bobs_second: Option<Device>,
    /// The encrypted conversation, as both have it open.
    pub room: Option<OwnedRoomId>,
    pub alice_sees: Option<Timeline>,
    pub bob_sees: Option<Timeline>,
    pub first: Option<OwnedEventId>,
    pub recovery_key: Option<String>,
    root: Option<OwnedEventId>,
    /// One of the many rooms, and what is written in it.
    plain: OwnedRoomId,
}

fn create(name: &str) -> create_room::v3::Request {
    assign!(create_room::v3::Request::new(), { name: Some(name.to_owned()) })
}

pub fn encrypted(invite: Vec<OwnedUserId>) -> create_room::v3::Request {
    let encryption = InitialStateEvent::new(EmptyStateKey, RoomEncryptionEventContent::with_recommended_defaults());
    assign!(create_room::v3::Request::new(), {
        is_direct: true,
        invite,
        preset: Some(create_room::v3::RoomPreset::TrustedPrivateChat),
        initial_state: vec![encryption.to_raw_any()],
    })
}

impl Walk {
    pub async fn begin(base: &str) -> Step<Self> {
        let (alice_name, bob_name) = names()?;
        let alice = Device::registered(base, &alice_name).await?;
        let bob = Device::registered(base, &bob_name).await?;
        let mut plain = None;
        for n in 0..ROOMS {
            plain = Some(alice.client.send(create(&format!("Room {n}"))).await?.room_id);
        }
        let plain = earlier(plain.as_ref())?;
        Ok(Self {
            base: base.to_owned(),
            bob_name,
            alice_name,
            alice,
            bob,
            alices_second: None,
            bobs_second: None,
            room: None,
            alice_sees: None,
            bob_sees: None,
            first: None,
            recovery_key: None,
            root: None,
            plain,
        })
    }

    pub async fn list(&mut self) -> Step {
        self.alice.start().await?;
        self.bob.start().await?;
        let list = self.alice.sync.room_list_service().all_rooms().await?;
        let (entries, controller) = list.entries_with_dynamic_adapters(ROOMS + 10);
        let mut entries = std::pin::pin!(entries);
        controller.set_filter(Box::new(new_filter_joined()));
        let mut shown: matrix_sdk_ui::eyeball_im::Vector<RoomListItem> = Default::default();
        // A room may be in the list for a moment before its name is.
        let complete = async {
            loop {
                let names: HashSet<_> = shown.iter().filter_map(|room| room.name()).collect();
                if shown.len() >= ROOMS && names.len() >= ROOMS {
                    return names.len();
                }
                for diff in entries.next().await.unwrap_or_default() {
                    diff.apply(&mut shown);
                }
            }
        };
        let in_time = tokio::time::timeout(SEEN_WITHIN, complete).await;
        expect("rooms with names of their own, in time", Some(ROOMS), in_time.ok())?;
        expect("rooms in the list", ROOMS, shown.len())?;
        let newest = shown.front().and_then(|room| room.name());
        expect("the newest room on top", Some(format!("Room {}", ROOMS - 1)), newest)
    }

    pub async fn conversation(&mut self) -> Step {
        let made = self.alice.client.create_room(encrypted(vec![self.bob.user().to_owned()])).await?;
        let id = made.room_id().to_owned();
        let invited = see("the invitation", || async {
            self.bob.client.get_room(&id).filter(|room| room.state() == RoomState::Invited)
        });
        let invited = invited.await?;
        let details = invited.invite_details().await?;
        expect("who invites", Some(self.alice.user().to_owned()), details.inviter.map(|m| m.user_id().to_owned()))?;
        invited.join().await?;
        for device in [&self.alice, &self.bob] {
            let room = device.room(&id).await?;
            see("two members", || async { (room.joined_members_count() == 2).then_some(()) }).await?;
            let is_encrypted = room.latest_encryption_state().await?;
            expect("encryption", true, matches!(is_encrypted, EncryptionState::Encrypted))?;
            see(&format!("a conversation of two on a device of {}", device.user()), || async {
                room.is_direct().await.ok().filter(|direct| *direct)
            })
            .await?;
        }
        (self.alice_sees, self.bob_sees) = (Some(self.alice.open(&id).await?), Some(self.bob.open(&id).await?));
        self.room = Some(id);
        Ok(())
    }

    pub fn both(&self) -> Step<(&Timeline, &Timeline)> {
        match (&self.alice_sees, &self.bob_sees) {
            (Some(alice), Some(bob)) => Ok((alice, bob)),
            _ => Err(Wrong("an earlier step opened no room".to_owned())),
        }
    }

    pub async fn talk(&mut self) -> Step {
        let (alice, bob) = self.both()?;
        let hers = say(alice, "Good morning").await?;
        expect("the same message", &hers, &message(bob, "Good morning").await?)?;
        let seen = shown(bob, "the message", |event| event.event_id() == Some(&hers)).await?;
        expect("it came encrypted", true, seen.encryption_info().is_some())?;
        let his = say(bob, "And to you").await?;
        expect("the answer", &his, &message(alice, "And to you").await?)?;
        let reply = RoomMessageEventContentWithoutRelation::text_plain("Thank you");
        alice.send_reply(reply, his.clone()).await?;
        let seen = shown(bob, "the reply", |event| body(event).as_deref() == Some("Thank you")).await?;
        let to = seen.content().in_reply_to().map(|details| details.event_id);
        expect("what is replied to", Some(his), to)?;
        self.first = Some(hers);
        Ok(())
    }

    pub async fn change(&mut self) -> Step {
        let (alice, bob) = self.both()?;
        let first = earlier(self.first.as_ref())?;
        let item = shown(alice, "the first message", |event| event.event_id() == Some(&first)).await?;
        let new = RoomMessageEventContentWithoutRelation::text_plain("Good evening");
        alice.edit(&item.identifier(), EditedContent::RoomMessage(new)).await?;
        shown(bob, "the edited text", |event| {
            event.event_id() == Some(&first) && body(event).as_deref() == Some("Good evening")
        })
        .await?;

        let item = shown(bob, "the first message", |event| event.event_id() == Some(&first)).await?;
        bob.toggle_reaction(&item.identifier(), "👍").await?;
        let of_bob = self.bob.user().to_owned();
        shown(alice, "the reaction", |event| {
            let reactions = event.content().reactions();
            event.event_id() == Some(&first)
                && reactions.and_then(|all| all.get("👍")).is_some_and(|of| of.contains_key(&of_bob))
        })
        .await?;

        let slip = say(alice, "a slip of the tongue").await?;
        message(bob, "a slip of the tongue").await?;
        let item = shown(alice, "the slip", |event| event.event_id() == Some(&slip)).await?;
        alice.redact(&item.identifier(), Some("slip")).await?;
        let gone = |event: &matrix_sdk_ui::timeline::EventTimelineItem| {
            event.event_id() == Some(&slip) && event.content().is_redacted()
        };
        shown(bob, "the redaction", gone).await.map(drop)
    }

    pub async fn thread(&mut self) -> Step {
        let id = earlier(self.room.as_ref())?;
        let (alice, bob) = self.both()?;
        let root = say(bob, "What shall we read?").await?;
        message(alice, "What shall we read?").await?;
        let focus = || TimelineFocus::Thread { root_event_id: root.clone() };
        let hers = self.alice.room(&id).await?.timeline_builder().with_focus(focus()).build().await?;
        let his = self.bob.room(&id).await?.timeline_builder().with_focus(focus()).build().await?;
        for text in ["Poems", "Maps"] {
            hers.send(RoomMessageEventContent::text_plain(text).into()).await?;
            message(&his, text).await?;
        }
        let summary = shown(bob, "the thread's summary", |event| {
            event.event_id() == Some(&root) && event.content().thread_summary().is_some_and(|s| s.num_replies == 2)
        });
        summary.await?;
        let threads = self.bob.room(&id).await?.list_threads(Default::default()).await?;
        expect("threads", vec![Some(root.clone())], threads.chunk.iter().map(|event| event.event_id()).collect())?;
        self.root = Some(root);
        Ok(())
    }

    pub async fn follow(&mut self) -> Step {
        let (id, root) = (earlier(self.room.as_ref())?, earlier(self.root.as_ref())?);
        let second = Device::logged_in(&self.base, &self.bob_name).await?;
        second.start().await?;
        self.bob.room(&id).await?.subscribe_thread(root.clone(), None).await?;
        let room = second.room(&id).await?;
        // Who writes in a thread follows it already, until it is followed by hand.
        see("the thread, followed by hand", || async {
            room.load_or_fetch_thread_subscription(&root).await.ok().flatten().filter(|follows| !follows.automatic)
        })
        .await?;
        self.bobs_second = Some(second);
        Ok(())
    }

    pub async fn read(&mut self) -> Step {
        let id = earlier(self.room.as_ref())?;
        let (alice, bob) = self.both()?;
        bob.mark_as_read(ReceiptType::Read).await?;
        let last = say(alice, "Are you there?").await?;
        message(bob, "Are you there?").await?;
        let room = self.bob.room(&id).await?;
        see("one unread message", || async { (room.num_unread_messages() == 1).then_some(()) }).await?;
        let plain = self.bob.client.get_room(&id).map(|room| room.unread_notification_counts().notification_count);
        expect("the server counts it as a notification", Some(true), plain.map(|count| count >= 1))?;
        bob.mark_as_read(ReceiptType::Read).await?;
        see("no unread message", || async { (room.num_unread_messages() == 0).then_some(()) }).await?;
        let of_bob = self.bob.user().to_owned();
        shown(alice, "bob's receipt", |event| {
            event.event_id() == Some(&last) && event.read_receipts().contains_key(&of_bob)
        })
        .await
        .map(drop)
    }

    pub async fn notification(&mut self) -> Step {
        let id = earlier(self.room.as_ref())?;
        let (_, bob) = self.both()?;
        let sent = say(bob, "Look at this").await?;
        let setup = NotificationProcessSetup::MultipleProcesses;
        let notifications = NotificationClient::new(self.alice.client.clone(), setup).await?;
        match notifications.get_notification(&id, &sent).await? {
            NotificationStatus::Event(item) => {
                expect("who it is from", self.bob.user(), item.event.sender())?;
                expect("it makes a noise", Some(true), item.is_noisy)?;
                expect("members", 2, item.joined_members_count)
            }
            other => Err(Wrong(format!("expected a notification, seen {other:?}"))),
        }
    }

    pub async fn space(&mut self) -> Step {
        let content = Raw::new(&create_room::v3::CreationContent::new())?;
        let mut content: serde_json::Map<String, serde_json::Value> = content.deserialize_as_unchecked()?;
        content.insert("type".to_owned(), serde_json::to_value(RoomType::Space)?);
        let request = assign!(create("The library"), { creation_content: Some(Raw::new(&content)?.cast_unchecked()) });
        let space = self.alice.client.create_room(request).await?.room_id().to_owned();
        let known = self.alice.room(&space).await?;
        see("the room as a space", || async { known.is_space().then_some(()) }).await?;
        let spaces = SpaceService::new(self.alice.client.clone()).await;
        spaces.add_child_to_space(self.plain.clone(), space.clone()).await?;
        see("the space among the spaces", || async {
            let all = spaces.top_level_joined_spaces().await;
            all.iter().any(|room| room.room_id == space && room.children_count == 1).then_some(())
        })
        .await?;
        let children = spaces.space_room_list(space).await;
        children.paginate().await?;
        expect("its rooms", vec![self.plain.clone()], children.rooms().await.into_iter().map(|r| r.room_id).collect())
    }

    pub async fn search(&mut self) -> Step {
        let timeline = self.alice.open(&self.plain).await?;
        let sent = say(&timeline, "a needle in the hay").await?;
        let criteria = search_events::v3::Criteria::new("NEEDLE".to_owned());
        let categories = assign!(search_events::v3::Categories::new(), { room_events: Some(criteria) });
        let answer = self.alice.client.send(search_events::v3::Request::new(categories)).await?;
        let found = answer.search_categories.room_events.results.into_iter().filter_map(|hit| hit.result);
        let ids: Vec<OwnedEventId> = found.filter_map(|event| event.get_field("event_id").ok().flatten()).collect();
        expect("what is found", vec![sent], ids)?;
        self.alice.look_at(&earlier(self.room.as_ref())?).await;
        Ok(())
    }

    pub async fn decline(&mut self) -> Step {
        let made = self.bob.client.create_room(encrypted(vec![self.alice.user().to_owned()])).await?;
        let id = made.room_id().to_owned();
        let invited = see("the invitation", || async {
            self.alice.client.get_room(&id).filter(|room| room.state() == RoomState::Invited)
        });
        invited.await?.leave().await?;
        // What is declined is forgotten as well; sooner or later the list has it no more.
        see("the room gone", || async {
            self.alice.client.get_room(&id).is_none_or(|room| room.state() == RoomState::Left).then_some(())
        })
        .await
    }

    pub async fn anew(&mut self) -> Step {
        self.bob.sync.stop().await;
        let alice = self.both()?.0;
        say(alice, "while nobody listened").await?;
        self.bob.sync.expire_sessions().await;
        self.bob.start().await?;
        let id = earlier(self.room.as_ref())?;
        self.bob.look_at(&id).await;
        message(self.both()?.1, "while nobody listened").await?;
        say(alice, "and afterwards").await?;
        message(self.both()?.1, "and afterwards").await.map(drop)
    }

    pub async fn page(&mut self) -> Step {
        let id = earlier(self.room.as_ref())?;
        for n in 0..MESSAGES {
            say(self.both()?.0, &format!("message {n}")).await?;
        }
        let second = Device::logged_in(&self.base, &self.bob_name).await?;
        second.start().await?;
        let key = earlier(self.recovery_key.as_ref())?;
        // The recovery key is alice's: on bob's third device only what is not encrypted can be read, which is enough.
        drop(key);
        let timeline = second.open(&id).await?;
        let mut reached = false;
        for _ in 0..20 {
            if timeline.paginate_backwards(40).await? {
                reached = true;
                break;
            }
        }
        expect("the beginning is reached", true, reached)?;
        let first = earlier(self.first.as_ref())?;
        shown(&timeline, "the first message, in its place", |event| event.event_id() == Some(&first)).await?;
        second.client.matrix_auth().logout().await?;
        Ok(())
    }

    pub async fn log_out(&mut self) -> Step {
        let second = self.alices_second.as_ref().ok_or_else(|| Wrong("no second device".to_owned()))?;
        second.sync.stop().await;
        second.client.matrix_auth().logout().await?;
        let refused = second.client.whoami().await;
        let kind = refused.err().and_then(|error| error.client_api_error_kind().map(|kind| kind.errcode().to_string()));
        expect("errcode after logging out", Some("M_UNKNOWN_TOKEN".to_owned()), kind)?;
        let again = Device::logged_in(&self.base, &self.alice_name).await?;
        expect("who logs in once more", self.alice.user(), again.user())?;
        expect("the password is the same", false, PASSWORD.is_empty())
    }
}
