//! What the screen asks for, done.

use std::{env, path::PathBuf, sync::Arc};

use futures_util::StreamExt;
use matrix_sdk::{
    Client, Room, RoomMemberships,
    encryption::verification::{SasState, VerificationRequest},
    room::edit::EditedContent,
    ruma::{
        OwnedEventId, RoomId, RoomOrAliasId,
        api::client::receipt::create_receipt::v3::ReceiptType,
        events::{
            StateEventType,
            room::message::{RoomMessageEventContent, RoomMessageEventContentWithoutRelation},
            room::power_levels::UserPowerLevel,
        },
    },
};
use matrix_sdk_ui::timeline::{
    AttachmentConfig, AttachmentSource, EventTimelineItem, RoomExt, Timeline, TimelineFocus,
};
use parking_lot::Mutex;
use serde_json::json;

use super::{
    engine::{Engine, Verifying},
    picture,
    state::{AccountRow, DeviceRow, Effect, Event, MemberRow},
};
use crate::{
    commands::{backup, create, devices, download, event_id, members, recover, upload, user, verify},
    failure::Failure,
    heard, identity,
    session::{Session, no_room_address},
};

/// Events fetched at once when somebody goes back.
const PAGE: u16 = 50;

/// Does what was asked for.
pub async fn perform(engine: &mut Engine, effect: Effect) {
    let Some(session) = engine.session.clone() else { return };
    if session.offline {
        match effect {
            Effect::Older | Effect::Read | Effect::Typing(_) => return,
            Effect::Redact { .. }
            | Effect::Retry { .. }
            | Effect::Join { .. }
            | Effect::Leave { .. }
            | Effect::Invite { .. }
            | Effect::Create { .. }
            | Effect::Settings { .. }
            | Effect::Recover { .. }
            | Effect::SaveFile { .. }
            | Effect::Picture { .. }
            | Effect::Verify { .. } => {
                return engine.tell(Event::Trouble("this cannot be done with --offline".to_owned())).await;
            }
            _ => {}
        }
    }
    let done = match effect {
        Effect::Accounts => {
            accounts(engine).await;
            Ok(())
        }
        Effect::Open { room } => open(engine, &session, &room).await,
        Effect::OpenThread { room, root } => open_thread(engine, &session, &room, &root).await,
        Effect::CloseThread => {
            engine.thread = None;
            Ok(())
        }
        Effect::AnswerEmoji(same) => {
            answer(engine, same);
            Ok(())
        }
        Effect::CancelVerification => {
            cancel(engine);
            Ok(())
        }
        Effect::Verify { .. } | Effect::AcceptVerification { .. } => {
            verification(engine, session, effect);
            Ok(())
        }
        effect => {
            match about_timeline(engine, effect) {
                Ok(()) => {}
                Err(effect) => about_rooms(engine, session, effect),
            }
            Ok(())
        }
    };
    if let Err(failure) = done {
        let failure: Failure = failure;
        engine.tell(Event::Trouble(failure.to_string())).await;
    }
}

/// Shows the accounts of this machine.
pub async fn accounts(engine: &Engine) {
    let current = engine.session.as_ref().map(|session| session.label.clone());
    let rows = engine.accounts.labels().into_iter().map(|label| AccountRow {
        user_id: engine.accounts.load(&label).map_or_else(|_| "damaged".to_owned(), |one| one.user_id.to_string()),
        current: current.as_ref() == Some(&label),
        label,
    });
    engine.tell(Event::Accounts(rows.collect())).await;
}

fn room_of(client: &Client, id: &str) -> Result<Room, Failure> {
    let id = RoomId::parse(id).map_err(|_| no_room_address(id))?;
    client.get_room(&id).ok_or_else(|| Failure::NotFound("that room is not known here".to_owned()))
}

async fn open(engine: &mut Engine, session: &Session, id: &str) -> Result<(), Failure> {
    engine.thread = None;
    engine.open = None;
    let room = room_of(&session.client, id)?;
    let focus = TimelineFocus::Live { hide_threaded_events: true };
    let timeline = room.timeline_builder().with_focus(focus).build().await.map_err(timeline_failure)?;
    engine.open = Some(engine.follow(id, false, Arc::new(timeline)));
    Ok(())
}

async fn open_thread(engine: &mut Engine, session: &Session, id: &str, root: &str) -> Result<(), Failure> {
    engine.thread = None;
    let room = room_of(&session.client, id)?;
    let focus = TimelineFocus::Thread { root_event_id: event_id(root)? };
    let timeline = room.timeline_builder().with_focus(focus).build().await.map_err(timeline_failure)?;
    engine.thread = Some(engine.follow(id, true, Arc::new(timeline)));
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn timeline_failure(error: matrix_sdk_ui::timeline::Error) -> Failure {
    Failure::Local(error.to_string())
}

async fn find(timeline: &Timeline, key: &str) -> Result<EventTimelineItem, Failure> {
    let items = timeline.items().await;
    let item = items.iter().find(|item| item.unique_id().0 == key).and_then(|item| item.as_event()).cloned();
    item.ok_or_else(|| Failure::NotFound("that message is no longer there".to_owned()))
}

/// What is about the open room or thread; given back if it is not.
fn about_timeline(engine: &mut Engine, effect: Effect) -> Result<(), Effect> {
    let Some(open) = engine.thread.as_ref().or(engine.open.as_ref()) else { return Err(effect) };
    let timeline = open.timeline.clone();
    match effect {
        Effect::Older => engine.beside(async move {
            timeline.paginate_backwards(PAGE).await.map_err(timeline_failure)?;
            Ok(None)
        }),
        Effect::Send { text, emote, reply, edit } => {
            engine.beside(async move { send(&timeline, &text, emote, reply, edit).await.map(|()| None) });
        }
        Effect::React { key, with } => engine.beside(async move {
            let item = find(&timeline, &key).await?;
            timeline.toggle_reaction(&item.identifier(), &with).await.map_err(timeline_failure)?;
            Ok(None)
        }),
        Effect::Redact { key } => engine.beside(async move {
            let item = find(&timeline, &key).await?;
            timeline.redact(&item.identifier(), None).await.map_err(timeline_failure)?;
            Ok(None)
        }),
        Effect::Retry { key } => engine.beside(async move {
            let item = find(&timeline, &key).await?;
            if let Some(handle) = item.local_echo_send_handle() {
                handle.unwedge().await.map_err(|error| Failure::Local(error.to_string()))?;
                timeline.room().send_queue().set_enabled(true);
            }
            Ok(None)
        }),
        Effect::Read => engine.beside(async move {
            // A receipt that does not get through is sent with the next one.
            let _ = timeline.mark_as_read(ReceiptType::Read).await;
            Ok(None)
        }),
        Effect::Typing(typing) => engine.beside(async move {
            let _ = timeline.room().typing_notice(typing).await;
            Ok(None)
        }),
        Effect::SendFile { path } => engine.beside(async move {
            let parcel = upload::parcel(&home(&path), None, None)?;
            let config = AttachmentConfig { info: Some(parcel.info()), ..AttachmentConfig::default() };
            let source = AttachmentSource::Data { bytes: parcel.data, filename: parcel.name };
            // In the queue it keeps its place among what is said, and waits there while the server is away.
            timeline.send_attachment(source, parcel.mime, config).use_send_queue().await.map_err(timeline_failure)?;
            Ok(None)
        }),
        Effect::SaveFile { event } => engine.beside(async move { save(timeline.room(), &event).await.map(Some) }),
        Effect::Picture { event } => engine.beside(async move {
            let id = event_id(&event)?;
            let carrier = timeline.room().load_or_fetch_event(&id, None).await?;
            let source =
                download::source(&carrier).ok_or_else(|| Failure::NotFound("there is no picture".to_owned()))?;
            let bytes = download::bytes(&timeline.room().client(), source).await?;
            let small = tokio::task::spawn_blocking(move || picture::preview(&bytes)).await;
            match small.ok().flatten() {
                Some(picture) => Ok(Some(Event::Picture { event, picture })),
                None => Err(Failure::Local("that picture cannot be shown here; s saves it".to_owned())),
            }
        }),
        other => return Err(other),
    }
    Ok(())
}

async fn send(
    timeline: &Timeline,
    text: &str,
    emote: bool,
    reply: Option<String>,
    edit: Option<String>,
) -> Result<(), Failure> {
    if let Some(key) = edit {
        let item = find(timeline, &key).await?;
        let content = EditedContent::RoomMessage(RoomMessageEventContentWithoutRelation::text_plain(text));
        return timeline.edit(&item.identifier(), content).await.map_err(timeline_failure);
    }
    if let Some(answered) = reply {
        let answered: OwnedEventId = event_id(&answered)?;
        let content = RoomMessageEventContentWithoutRelation::text_plain(text);
        return timeline.send_reply(content, answered).await.map_err(timeline_failure);
    }
    let content = match emote {
        true => RoomMessageEventContent::emote_plain(text),
        false => RoomMessageEventContent::text_plain(text),
    };
    timeline.send(content.into()).await.map_err(timeline_failure)?;
    Ok(())
}

fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// Into the folder for downloads if there is one, here otherwise; under another name if there is such a file.
async fn save(room: &Room, event: &str) -> Result<Event, Failure> {
    let id = event_id(event)?;
    let carrier = room.load_or_fetch_event(&id, None).await?;
    let source = download::source(&carrier).ok_or_else(|| Failure::NotFound("there is no file".to_owned()))?;
    let line = crate::event::line(room, &carrier).await;
    let name = download::own_name(&line.file.map(|file| file.name).unwrap_or_default());
    let bytes = download::bytes(&room.client(), source).await?;
    let downloads = home("~/Downloads");
    let folder = if downloads.is_dir() { downloads } else { PathBuf::from(".") };
    for number in 0..100 {
        let name = if number == 0 { name.clone() } else { format!("{number}-{name}") };
        let path = folder.join(name);
        if !path.exists() {
            download::write_new(&path, &bytes)?;
            return Ok(Event::Note(format!("Saved as {}.", path.display())));
        }
    }
    Err(Failure::Local(format!("there are too many files called {name} in {}", folder.display())))
}

/// What is about rooms, people and this device.
fn about_rooms(engine: &mut Engine, session: Arc<Session>, effect: Effect) {
    let client = session.client.clone();
    match effect {
        Effect::Members { room } => engine.beside(async move {
            let rows = member_rows(&client, &room_of(&client, &room)?, session.offline).await?;
            Ok(Some(Event::Members { room, rows }))
        }),
        Effect::Devices { user: whose } => {
            engine.beside(async move { devices_of(&client, whose, session.offline).await.map(Some) });
        }
        Effect::Block { user: whose, device, block } => engine.beside(async move {
            devices::block(&client, &user(&whose)?, &device, block).await?;
            devices_of(&client, whose, true).await.map(Some)
        }),
        Effect::AcceptIdentity { user: whose } => engine.beside(async move {
            identity::accept(&client, &user(&whose)?).await?;
            Ok(Some(Event::Note(format!("The identity that {whose} has now is believed."))))
        }),
        Effect::Join { room } => engine.beside(async move {
            let address = RoomOrAliasId::parse(&room).map_err(|_| no_room_address(&room))?;
            let joined = client.join_room_by_id_or_alias(&address, &[]).await?;
            Ok(Some(Event::Show(joined.room_id().to_string())))
        }),
        Effect::Leave { room } => engine.beside(async move {
            room_of(&client, &room)?.leave().await?;
            Ok(Some(Event::Note("You left the room.".to_owned())))
        }),
        Effect::Invite { room, user: whom } => engine.beside(async move {
            room_of(&client, &room)?.invite_user_by_id(&user(&whom)?).await?;
            Ok(Some(Event::Note(format!("{whom} is invited."))))
        }),
        Effect::Create { name, topic, plain, public, invite } => engine.beside(async move {
            let args = create::Args {
                name: Some(name),
                topic: Some(topic).filter(|topic| !topic.is_empty()),
                plain,
                public,
                invite: invite.split([' ', ',']).filter(|one| !one.is_empty()).map(ToOwned::to_owned).collect(),
                ..create::Args::default()
            };
            let room = client.create_room(create::request(args)?).await?;
            Ok(Some(Event::Show(room.room_id().to_string())))
        }),
        Effect::Settings { room, changes } => engine.beside(async move {
            let room = room_of(&client, &room)?;
            if let Some(name) = changes.name {
                room.send_state_event_raw(&StateEventType::RoomName.to_string(), "", json!({ "name": name })).await?;
            }
            if let Some(topic) = changes.topic {
                room.send_state_event_raw(&StateEventType::RoomTopic.to_string(), "", json!({ "topic": topic }))
                    .await?;
            }
            if let Some(public) = changes.public {
                let content = json!({ "join_rule": if public { "public" } else { "invite" } });
                room.send_state_event_raw(&StateEventType::RoomJoinRules.to_string(), "", content).await?;
            }
            if let Some(shows_past) = changes.shows_past {
                let content = json!({ "history_visibility": if shows_past { "shared" } else { "joined" } });
                room.send_state_event_raw(&StateEventType::RoomHistoryVisibility.to_string(), "", content).await?;
            }
            if changes.encrypt {
                room.enable_encryption().await?;
            }
            Ok(Some(Event::Note("The room's settings are changed.".to_owned())))
        }),
        Effect::Recover { key } => engine.beside(async move {
            heard::begin_to_count();
            if recover::with_key(&client, key.trim()).await?.is_some() {
                let title = "This device is trusted now, but".to_owned();
                return Ok(Some(Event::Tell { title, text: recover::ANOTHER_KEY.to_owned() }));
            }
            for room in client.joined_rooms() {
                // Rooms of which the backup holds nothing answer that there is nothing.
                let _ = client.encryption().backups().download_room_keys_for_room(room.room_id()).await;
            }
            Ok(Some(match backup::about_damage(heard::unopened()) {
                Some(text) => {
                    Event::Tell { title: "This device is trusted now, and reads old messages".to_owned(), text }
                }
                None => Event::Note("This device is trusted now, and reads old messages.".to_owned()),
            }))
        }),
        _ => {}
    }
}

async fn member_rows(client: &Client, room: &Room, offline: bool) -> Result<Vec<MemberRow>, Failure> {
    let members = match offline {
        true => room.members_no_sync(RoomMemberships::ACTIVE).await?,
        false => room.members(RoomMemberships::ACTIVE).await?,
    };
    let changed = identity::changed(room).await;
    let mut rows = Vec::new();
    for member in members {
        let (trust, mark) = match changed.contains(member.user_id()) {
            true => members::CHANGED,
            false => members::trust(client, member.user_id()).await,
        };
        let devices = client.encryption().get_user_devices(member.user_id()).await?;
        rows.push(MemberRow {
            user_id: member.user_id().to_string(),
            name: member.name().to_owned(),
            mark,
            trust,
            invited: member.membership().as_str() == "invite",
            power: match member.power_level() {
                UserPowerLevel::Int(level) if i64::from(level) >= 100 => "administrator".to_owned(),
                UserPowerLevel::Int(level) if i64::from(level) >= 50 => "moderator".to_owned(),
                UserPowerLevel::Int(_) => String::new(),
                _ => "creator".to_owned(),
            },
            unsigned_devices: devices.devices().filter(|device| !device.is_cross_signed_by_owner()).count(),
        });
    }
    rows.sort_by_key(|row| (row.power.is_empty(), row.name.to_lowercase()));
    Ok(rows)
}

async fn devices_of(client: &Client, whose: String, offline: bool) -> Result<Event, Failure> {
    let encryption = client.encryption();
    let id = user(&whose)?;
    if !offline {
        encryption.request_user_identity(&id).await?;
    }
    let known = encryption.get_user_devices(&id).await?;
    let mut rows: Vec<DeviceRow> = known
        .devices()
        .map(|device| {
            let (mark, words) = devices::state(&device);
            DeviceRow {
                device_id: device.device_id().to_string(),
                name: device.display_name().unwrap_or_default().to_owned(),
                mark,
                words,
                blocked: device.is_blacklisted(),
            }
        })
        .collect();
    rows.sort_by(|one, other| one.device_id.cmp(&other.device_id));
    Ok(Event::Devices { user: whose, rows })
}

fn verification(engine: &mut Engine, session: Arc<Session>, effect: Effect) {
    let verifying = engine.verifying.clone();
    let events = engine.events.clone();
    engine.beside(async move {
        let request = match effect {
            Effect::AcceptVerification { who, flow } => {
                let who = user(&who)?;
                let request = session.client.encryption().get_verification_request(&who, &flow).await;
                let request = request.ok_or_else(|| Failure::NotFound("the request is gone".to_owned()))?;
                request.accept().await?;
                request
            }
            Effect::Verify { user: whom } => {
                let own = session.client.user_id().map(ToOwned::to_owned);
                let whom = match whom.as_deref().map(user).transpose()? {
                    Some(whom) => whom,
                    None => own.ok_or_else(|| Failure::Local("the session has no user".to_owned()))?,
                };
                let identity = session.client.encryption().request_user_identity(&whom).await?;
                let identity =
                    identity.ok_or_else(|| Failure::NotFound(format!("{whom} has not set up verification")))?;
                let text = format!(
                    "Asked {whom}: accept it there. Without a conversation of two it begins with an invitation."
                );
                let _ = events.send(Event::Note(text)).await;
                identity.request_verification().await?
            }
            _ => return Ok(None),
        };
        verifying.lock().request = Some(request.clone());
        let ended = flow(&request, &verifying, &events).await;
        *verifying.lock() = Verifying::default();
        let text = match ended {
            Ok(()) => "Verified.".to_owned(),
            Err(failure) => failure.to_string(),
        };
        Ok(Some(Event::VerificationEnded(text)))
    });
}

async fn flow(
    request: &VerificationRequest,
    verifying: &Mutex<Verifying>,
    events: &tokio::sync::mpsc::Sender<Event>,
) -> Result<(), Failure> {
    let sas = verify::agree(request).await?;
    verifying.lock().sas = Some(sas.clone());
    let mut changes = sas.changes();
    let mut state = sas.state();
    let mut shown = false;
    loop {
        match state {
            SasState::KeysExchanged { .. } if !shown => {
                shown = true;
                let emoji =
                    sas.emoji().ok_or_else(|| Failure::NotConfirmed("the other side has no emoji".to_owned()))?;
                let emoji = emoji.iter().map(|one| (one.symbol.to_owned(), one.description.to_owned())).collect();
                let _ = events.send(Event::Emoji(emoji)).await;
            }
            SasState::Done { .. } => return Ok(()),
            SasState::Cancelled(info) => return Err(Failure::NotConfirmed(format!("cancelled: {}", info.reason()))),
            _ => {}
        }
        state = changes.next().await.ok_or_else(|| Failure::Local("the verification went away".to_owned()))?;
    }
}

fn answer(engine: &mut Engine, same: bool) {
    let Some(sas) = engine.verifying.lock().sas.clone() else { return };
    engine.beside(async move {
        match same {
            true => sas.confirm().await?,
            false => sas.mismatch().await?,
        }
        Ok(None)
    });
}

fn cancel(engine: &mut Engine) {
    let Some(request) = engine.verifying.lock().request.clone() else { return };
    engine.beside(async move {
        request.cancel().await?;
        Ok(None)
    });
}
