//! The steps, in order.

use std::collections::BTreeSet;

use koine_walk::{PASSWORD, Step, Wrong, earlier, expect, names, registration};
use matrix_sdk::RoomMemberships;
use matrix_sdk::config::SyncSettings;
use matrix_sdk::media::{MediaFormat, MediaRequestParameters, MediaThumbnailSettings};
use matrix_sdk::room::{MessagesOptions, Receipts};
use matrix_sdk::ruma::api::client::filter::FilterDefinition;
use matrix_sdk::ruma::api::client::receipt::create_receipt::v3::ReceiptType;
use matrix_sdk::ruma::api::client::room::create_room;
use matrix_sdk::ruma::api::client::sync::sync_events::v3::Filter;
use matrix_sdk::ruma::events::receipt::ReceiptThread;
use matrix_sdk::ruma::events::room::MediaSource;
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use matrix_sdk::ruma::{OwnedEventId, OwnedMxcUri, OwnedRoomId, TransactionId, assign, uint};
use serde_json::{Value, json};

use crate::device::{Device, ephemeral, refusal, timeline};

const MESSAGES: usize = 200;
/// Enough to turn every loop over pages into an error when pages do not come to an end.
const PAGES_MAX: usize = 20;

/// Who walks, and what later steps need from earlier ones.
pub struct Walk {
    base: String,
    alice_name: String,
    alice: Device,
    phone: Option<Device>,
    bob: Device,
    room: OwnedRoomId,
    first: Option<OwnedEventId>,
    last: Option<OwnedEventId>,
    picture: Option<(OwnedMxcUri, usize)>,
}

fn text(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body })
}

impl Walk {
    pub async fn begin(base: &str) -> Step<Self> {
        let (alice_name, bob_name) = names()?;
        let alice = Device::registered(base, &alice_name).await?;
        let bob = Device::registered(base, &bob_name).await?;
        expect("local part", alice_name.as_str(), alice.user().localpart())?;
        let again = bob.client.send(registration(&bob_name)).await;
        expect("errcode of a name that is taken", "M_USER_IN_USE".to_owned(), refusal(again.map_err(Into::into)))?;
        Ok(Self {
            base: base.to_owned(),
            alice_name,
            alice,
            phone: None,
            bob,
            room: OwnedRoomId::try_from("!none:localhost")?,
            first: None,
            last: None,
            picture: None,
        })
    }

    fn phone(&self) -> Step<&Device> {
        self.phone.as_ref().ok_or_else(|| Wrong("nobody logged in on the phone".to_owned()))
    }

    /// Sends anything as `device`.
    async fn send_as(&self, device: &Device, kind: &str, content: Value) -> Step<OwnedEventId> {
        Ok(device.room(&self.room)?.send_raw(kind, content).await?.response.event_id)
    }

    pub async fn log_in(&mut self) -> Step {
        let phone = Device::logged_in(&self.base, &self.alice_name, PASSWORD).await.map_err(|(wrong, _)| wrong)?;
        expect("user of the second device", self.alice.user(), phone.user())?;
        let names: BTreeSet<_> =
            self.alice.client.devices().await?.devices.into_iter().filter_map(|d| d.display_name).collect();
        expect("names of devices", BTreeSet::from(["phone".to_owned(), "walk".to_owned()]), names)?;
        let Err((_, errcode)) = Device::logged_in(&self.base, &self.alice_name, "not the password").await else {
            return Err(Wrong("expected a wrong password to be refused, seen a login".to_owned()));
        };
        self.phone = Some(phone);
        expect("errcode of a wrong password", "M_FORBIDDEN".to_owned(), errcode)
    }

    pub async fn create(&mut self) -> Step {
        let request = assign!(create_room::v3::Request::new(), {
            name: Some("The walk".to_owned()),
            topic: Some("one step at a time".to_owned()),
            preset: Some(create_room::v3::RoomPreset::PrivateChat),
        });
        self.room = self.alice.client.create_room(request).await?.room_id().to_owned();
        for device in [&self.alice, self.phone()?] {
            device.sync_until("the new room", |seen| seen.rooms.joined.get(&self.room).map(drop)).await?;
            let room = device.room(&self.room)?;
            expect("name", Some("The walk".to_owned()), room.name())?;
            expect("topic", Some("one step at a time".to_owned()), room.topic())?;
            expect("is public", Some(false), room.is_public())?;
        }
        Ok(())
    }

    pub async fn invite(&self) -> Step {
        let uninvited = self.bob.client.join_room_by_id(&self.room).await;
        expect("errcode for one who is not invited", "M_FORBIDDEN".to_owned(), refusal(uninvited))?;
        self.alice.room(&self.room)?.invite_user_by_id(self.bob.user()).await?;
        self.bob.sync_until("the invitation", |seen| seen.rooms.invited.get(&self.room).map(drop)).await?;
        let room = self.bob.room(&self.room)?;
        expect("name in the invitation", Some("The walk".to_owned()), room.name())?;
        let inviter = room.invite_details().await?.inviter.map(|member| member.user_id().to_owned());
        expect("who invites", Some(self.alice.user().to_owned()), inviter)
    }

    pub async fn join(&self) -> Step {
        self.bob.room(&self.room)?.join().await?;
        self.bob.sync_until("the joined room", |seen| seen.rooms.joined.get(&self.room).map(drop)).await?;
        let members = self.bob.room(&self.room)?.members(RoomMemberships::JOIN).await?;
        let members: BTreeSet<_> = members.iter().map(|m| m.user_id().to_owned()).collect();
        expect("members", BTreeSet::from([self.alice.user().to_owned(), self.bob.user().to_owned()]), members)
    }

    pub async fn send(&mut self) -> Step {
        let room = self.alice.room(&self.room)?;
        let (content, txn) = (RoomMessageEventContent::text_plain("Good morning"), TransactionId::new());
        let sent = room.send(content.clone()).with_transaction_id(txn.clone()).await?.response.event_id;
        let again = room.send(content).with_transaction_id(txn.clone()).await?.response.event_id;
        expect("event id of a repeated transaction", &sent, &again)?;
        let seen = self.bob.event(&self.room, &sent, "the message").await?;
        expect("text", &json!("Good morning"), &seen["content"]["body"])?;
        expect("sender", &json!(self.alice.user()), &seen["sender"])?;
        let mine = self.alice.event(&self.room, &sent, "one's own message").await?;
        expect("own transaction id", &json!(txn), &mine["unsigned"]["transaction_id"])?;
        self.first = Some(sent);
        Ok(())
    }

    pub async fn edit(&self) -> Step {
        let first = earlier(self.first.as_ref())?;
        let mut content = text("* Good evening");
        content["m.new_content"] = text("Good evening");
        content["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": first });
        let edit = self.send_as(&self.alice, "m.room.message", content).await?;
        let seen = self.bob.event(&self.room, &edit, "the edit").await?;
        expect("new text", &json!("Good evening"), &seen["content"]["m.new_content"]["body"])?;
        let original: Value = self.bob.room(&self.room)?.event(&first, None).await?.raw().deserialize_as_unchecked()?;
        expect(
            "edit bundled with the original",
            &json!(edit),
            &original["unsigned"]["m.relations"]["m.replace"]["event_id"],
        )
    }

    pub async fn react(&self) -> Step {
        let relation = json!({ "rel_type": "m.annotation", "event_id": earlier(self.first.as_ref())?, "key": "👍" });
        let sent = self.send_as(&self.bob, "m.reaction", json!({ "m.relates_to": relation })).await?;
        let seen = self.alice.event(&self.room, &sent, "the reaction").await?;
        expect("reaction", &relation, &seen["content"]["m.relates_to"])
    }

    pub async fn reply(&self) -> Step {
        let mut content = text("And to you");
        content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": earlier(self.first.as_ref())? } });
        let sent = self.send_as(&self.bob, "m.room.message", content.clone()).await?;
        expect("reply", &content, &self.alice.event(&self.room, &sent, "the reply").await?["content"])
    }

    pub async fn redact(&self) -> Step {
        let sent = self.send_as(&self.bob, "m.room.message", text("a slip of the tongue")).await?;
        self.alice.event(&self.room, &sent, "what is going to be redacted").await?;
        let redaction = self.bob.room(&self.room)?.redact(&sent, Some("slip"), None).await?.event_id;
        let seen = self.alice.event(&self.room, &redaction, "the redaction").await?;
        expect("reason", &json!("slip"), &seen["content"]["reason"])?;
        let gone: Value = self.alice.room(&self.room)?.event(&sent, None).await?.raw().deserialize_as_unchecked()?;
        expect("content after redaction", &json!({}), &gone["content"])
    }

    pub async fn media(&mut self) -> Step {
        let picture = png(320, 200);
        let kind = "image/png".parse().map_err(|_| Wrong("image/png is no content type".to_owned()))?;
        let uri = self.alice.client.media().upload(&kind, picture.clone(), None).await?.content_uri;
        let content = json!({ "msgtype": "m.image", "body": "hill.png", "url": uri });
        let sent = self.send_as(&self.alice, "m.room.message", content).await?;
        let seen = self.bob.event(&self.room, &sent, "the picture's event").await?;
        expect("address of the picture", &json!(uri), &seen["content"]["url"])?;
        let fetched = self.fetch(&uri, MediaFormat::File).await?;
        expect("same bytes", true, fetched == picture)?;
        self.picture = Some((uri, picture.len()));
        Ok(())
    }

    async fn fetch(&self, uri: &OwnedMxcUri, format: MediaFormat) -> Step<Vec<u8>> {
        let request = MediaRequestParameters { source: MediaSource::Plain(uri.clone()), format };
        Ok(self.bob.client.media().get_media_content(&request, false).await?)
    }

    pub async fn thumbnail(&self) -> Step {
        let (uri, size) = earlier(self.picture.as_ref())?;
        let settings = MediaThumbnailSettings::new(uint!(64), uint!(64));
        let thumbnail = self.fetch(&uri, MediaFormat::Thumbnail(settings)).await?;
        expect("it is smaller than the picture", true, !thumbnail.is_empty() && thumbnail.len() < size)
    }

    pub async fn paginate(&mut self) -> Step {
        self.bob.sync().await?;
        for n in 0..MESSAGES {
            let device = if n % 2 == 0 { &self.bob } else { &self.alice };
            self.last = Some(self.send_as(device, "m.room.message", text(&format!("message {n}"))).await?);
        }
        let mut filter = FilterDefinition::default();
        filter.room.timeline.limit = Some(uint!(10));
        let settings = SyncSettings::new().filter(Filter::FilterDefinition(filter)).timeout(Default::default());
        let seen = self.bob.client.sync_once(settings).await?;
        let update = seen
            .rooms
            .joined
            .get(&self.room)
            .ok_or_else(|| Wrong("expected the room in the sync, seen none".into()))?;
        expect("timeline is limited", true, update.timeline.limited)?;

        let body = |event: &Value| event["content"]["body"].as_str().map(ToOwned::to_owned);
        let mut bodies: Vec<_> = timeline(&seen, &self.room).iter().rev().map(body).collect();
        let (mut from, mut oldest) = (update.timeline.prev_batch.clone(), Value::Null);
        for _ in 0..PAGES_MAX {
            let Some(token) = from else { break };
            let options = assign!(MessagesOptions::backward().from(token.as_str()), { limit: uint!(40) });
            let page = self.bob.room(&self.room)?.messages(options).await?;
            for event in &page.chunk {
                oldest = event.raw().deserialize_as_unchecked()?;
                bodies.push(body(&oldest));
            }
            from = page.end;
        }
        bodies.truncate(MESSAGES);
        let expected: Vec<_> = (0..MESSAGES).rev().map(|n| Some(format!("message {n}"))).collect();
        expect("all of them, newest first", expected, bodies)?;
        expect("the very first event", &json!("m.room.create"), &oldest["type"])
    }

    pub async fn receipts(&self) -> Step {
        let last = earlier(self.last.as_ref())?;
        self.alice.sync().await?;
        let receipt = self.bob.room(&self.room)?;
        receipt.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, last.clone()).await?;
        let find = |seen: &_| {
            let receipts = ephemeral(seen, &self.room, "m.receipt")?;
            receipts["content"][last.as_str()]["m.read"].get(self.bob.user().as_str()).cloned()
        };
        let seen = self.alice.sync_until("the receipt", find).await?;
        expect("it carries a time", true, seen["ts"].is_u64())
    }

    pub async fn typing(&self) -> Step {
        let find = |seen: &_| ephemeral(seen, &self.room, "m.typing").map(|e| e["content"]["user_ids"].clone());
        self.bob.room(&self.room)?.typing_notice(true).await?;
        expect("who types", json!([self.bob.user()]), self.alice.sync_until("typing", find).await?)?;
        self.bob.room(&self.room)?.typing_notice(false).await?;
        expect("who types afterwards", json!([]), self.alice.sync_until("the end of typing", find).await?)
    }

    pub async fn read_markers(&self) -> Step {
        let (first, last) = (earlier(self.first.as_ref())?, earlier(self.last.as_ref())?);
        let receipts = Receipts::new().fully_read_marker(first.clone()).public_read_receipt(last);
        self.alice.room(&self.room)?.send_multiple_receipts(receipts).await?;
        let find = |seen: &matrix_sdk::sync::SyncResponse| {
            let data = &seen.rooms.joined.get(&self.room)?.account_data;
            data.iter().filter_map(|e| e.deserialize_as_unchecked::<Value>().ok()).find(|e| e["type"] == "m.fully_read")
        };
        let seen = self.phone()?.sync_until("the marker on the second device", find).await?;
        expect("marker", &json!(first), &seen["content"]["event_id"])
    }

    pub async fn second_device(&self) -> Step {
        let newcomer = Device::logged_in(&self.base, &self.alice_name, PASSWORD).await.map_err(|(wrong, _)| wrong)?;
        let mut seen = Vec::new();
        for device in [&self.alice, self.phone()?, &newcomer] {
            device.sync().await?;
            let options = assign!(MessagesOptions::backward(), { limit: uint!(50) });
            let page = device.room(&self.room)?.messages(options).await?;
            seen.push(page.chunk.iter().filter_map(|e| e.event_id()).collect::<Vec<_>>());
        }
        expect("length of the page", 50, seen[0].len())?;
        expect("what the second device sees", &seen[0], &seen[1])?;
        expect("what a third device sees", &seen[0], &seen[2])?;
        newcomer.client.matrix_auth().logout().await?;
        Ok(())
    }

    pub async fn profile(&self) -> Step {
        let (uri, _) = earlier(self.picture.as_ref())?;
        self.bob.client.account().set_display_name(Some("Bob the Walker")).await?;
        self.bob.client.account().set_avatar_url(Some(&uri)).await?;
        let wanted = json!({ "membership": "join", "displayname": "Bob the Walker", "avatar_url": uri });
        let find = |seen: &_| timeline(seen, &self.room).into_iter().find(|e| e["content"] == wanted).map(drop);
        self.alice.sync_until("the member event with name and avatar", find).await?;
        let member = self.alice.room(&self.room)?.get_member(self.bob.user()).await?;
        let name = member.and_then(|m| m.display_name().map(ToOwned::to_owned));
        expect("display name in the room", Some("Bob the Walker".to_owned()), name)
    }

    pub async fn leave(&self) -> Step {
        let room = self.bob.room(&self.room)?;
        room.leave().await?;
        let refused = room.send_raw("m.room.message", text("one more thing")).await;
        expect("the SDK lets nobody send who left", true, refused.is_err())?;
        room.forget().await?;
        Ok(())
    }

    pub async fn log_out(&self) -> Step {
        let phone = self.phone()?;
        phone.client.matrix_auth().logout().await?;
        let after = phone.client.whoami().await.map_err(Into::into);
        expect("errcode after logging out", "M_UNKNOWN_TOKEN".to_owned(), refusal(after))?;
        expect("the other device", self.alice.user().to_owned(), self.alice.client.whoami().await?.user_id)
    }
}

/// An uncompressed picture with a gradient.
fn png(width: u32, height: u32) -> Vec<u8> {
    let row = |y: u32| std::iter::once(0).chain((0..width).flat_map(move |x| [x as u8, y as u8, (x * y) as u8]));
    let rows: Vec<u8> = (0..height).flat_map(row).collect();
    // zlib with stored blocks: no compressor needed.
    let mut data = vec![0x78, 0x01];
    let mut blocks = rows.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        data.push(u8::from(blocks.peek().is_none()));
        data.extend(length.to_le_bytes());
        data.extend((!length).to_le_bytes());
        data.extend(block);
    }
    let (a, b) =
        rows.iter().fold((1u32, 0u32), |(a, b), &v| ((a + u32::from(v)) % 65521, (a + u32::from(v) + b) % 65521));
    data.extend((b << 16 | a).to_be_bytes());

    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", data), (b"IEND", Vec::new())] {
        picture.extend((data.len() as u32).to_be_bytes());
        let named = [kind.as_slice(), &data].concat();
        picture.extend(&named);
        picture.extend(crc32(&named).to_be_bytes());
    }
    picture
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}
