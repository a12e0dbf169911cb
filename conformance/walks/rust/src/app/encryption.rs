//! What is said of keys: recovery, backup, emoji, files.

use std::time::Duration;

use koine_walk::{Step, Wrong, earlier, expect};
use matrix_sdk::attachment::AttachmentConfig;
use matrix_sdk::encryption::VerificationState;
use matrix_sdk::encryption::verification::{
    SasState, SasVerification, Verification, VerificationRequest, VerificationRequestState,
};
use matrix_sdk::media::{MediaFormat, MediaRequestParameters};
use matrix_sdk::ruma::UserId;
use matrix_sdk::ruma::events::key::verification::request::ToDeviceKeyVerificationRequestEvent;
use matrix_sdk::ruma::events::room::message::{MessageType, OriginalSyncRoomMessageEvent};
use matrix_sdk::{Client, Room};

use crate::device::{Device, message, say, see, shown};
use crate::rooms::Walk;

/// How often the services are stopped and begun again while two people compare emoji.
const COME_BACK_EVERY: Duration = Duration::from_secs(3);

impl Walk {
    pub async fn recovery(&mut self) -> Step {
        for (number, device) in [&self.alice, &self.bob].into_iter().enumerate() {
            let status = device.client.encryption().cross_signing_status().await;
            expect("all cross-signing keys", Some(true), status.map(|status| status.is_complete()))?;
            let recovery = device.client.encryption().recovery();
            let key = recovery.enable().wait_for_backups_to_upload().await?;
            if number == 0 {
                self.recovery_key = Some(key);
            }
            expect(
                "a backup on the server",
                true,
                device.client.encryption().backups().fetch_exists_on_server().await?,
            )?;
        }
        Ok(())
    }

    pub async fn recover(&mut self) -> Step {
        let id = earlier(self.room.as_ref())?;
        let second = Device::logged_in(&self.base, &self.alice_name).await?;
        second.start().await?;
        second.client.encryption().recovery().recover(&earlier(self.recovery_key.as_ref())?).await?;
        verified(&second).await?;
        let timeline = second.open(&id).await?;
        timeline.paginate_backwards(50).await?;
        message(&timeline, "And to you").await?;
        message(&timeline, "Good evening").await?;
        self.alices_second = Some(second);
        Ok(())
    }

    pub async fn verify_device(&mut self) -> Step {
        let second = self.bobs_second.as_ref().ok_or_else(|| Wrong("no second device".to_owned()))?;
        let requested = asked_of(&self.bob.client);
        let own = second.client.encryption().get_user_identity(self.bob.user()).await?;
        let own = own.ok_or_else(|| Wrong("expected one's own identity, seen none".to_owned()))?;
        let asking = own.request_verification().await?;
        let asked = found(&self.bob.client, &requested).await?;
        compare(asking, asked).await?;
        verified(second).await?;
        let backups = second.client.encryption().backups();
        see("the backup on the second device", || async { backups.are_enabled().await.then_some(()) }).await
    }

    /// Their messages go through the room. What matrix-sdk answers by itself it sends when the connection `encryption` comes
    /// back, which takes half a minute where nothing else happens; so both come back again and again, as apps do.
    pub async fn verify_person(&mut self) -> Step {
        let requested = asked_of(&self.bob.client);
        let identity = self.alice.client.encryption().request_user_identity(self.bob.user()).await?;
        let identity = identity.ok_or_else(|| Wrong("expected bob's identity, seen none".to_owned()))?;
        expect("verified before", false, identity.is_verified())?;
        let asking = identity.request_verification().await?;
        let asked = found(&self.bob.client, &requested).await?;
        let come_back = async {
            loop {
                tokio::time::sleep(COME_BACK_EVERY).await;
                for device in [&self.alice, &self.bob] {
                    device.sync.stop().await;
                    device.sync.start().await;
                }
            }
        };
        let compared = async {
            compare(asking, asked).await?;
            self.know_each_other().await
        };
        tokio::select! {
            compared = compared => compared,
            () = come_back => Err(Wrong("the services come back for ever".to_owned())),
        }
    }

    async fn know_each_other(&self) -> Step {
        for (one, other) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            see("the other as verified", || async {
                let identity = one.client.encryption().get_user_identity(other.user()).await.ok().flatten()?;
                identity.is_verified().then_some(())
            })
            .await?;
        }
        Ok(())
    }

    pub async fn everybody(&mut self) -> Step {
        let id = earlier(self.room.as_ref())?;
        say(self.both()?.0, "for all of you").await?;
        message(self.both()?.1, "for all of you").await?;
        for device in [self.alices_second.as_ref(), self.bobs_second.as_ref()].into_iter().flatten() {
            message(&device.open(&id).await?, "for all of you").await?;
        }
        Ok(())
    }

    pub async fn file(&mut self) -> Step {
        let id = earlier(self.room.as_ref())?;
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n * 7) as u8).collect();
        let room = self.alice.room(&id).await?;
        let kind = "application/octet-stream".parse().map_err(|_| Wrong("no content type".to_owned()))?;
        let sent = room.send_attachment("numbers.bin", &kind, bytes.clone(), AttachmentConfig::new()).await?;
        let sent = sent.event_id;
        let seen = shown(self.both()?.1, "the file, decrypted", |event| {
            event.event_id() == Some(&sent) && !event.content().is_unable_to_decrypt()
        })
        .await?;
        let content = seen.content().as_message().map(|message| message.msgtype().clone());
        let Some(MessageType::File(file)) = content else {
            return Err(Wrong(format!("expected a file, seen {:?}", seen.content())));
        };
        let request = MediaRequestParameters { source: file.source, format: MediaFormat::File };
        let fetched = self.bob.client.media().get_media_content(&request, false).await?;
        expect("the same bytes, deciphered", true, fetched == bytes)
    }
}

async fn verified(device: &Device) -> Step {
    let state = device.client.encryption().verification_state();
    see("a device that is vouched for", || async { (state.get() == VerificationState::Verified).then_some(()) }).await
}

type Requested = std::sync::Arc<std::sync::Mutex<Option<(matrix_sdk::ruma::OwnedUserId, String)>>>;

/// Notes who asks to compare emoji, by whichever way.
fn asked_of(client: &Client) -> Requested {
    let requested = Requested::default();
    let note = {
        let requested = requested.clone();
        move |user: &UserId, flow: String| {
            if let Ok(mut requested) = requested.lock() {
                *requested = Some((user.to_owned(), flow));
            }
        }
    };
    let by_device = note.clone();
    client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent| {
        by_device(&event.sender, event.content.transaction_id.to_string());
        std::future::ready(())
    });
    client.add_event_handler(move |event: OriginalSyncRoomMessageEvent, _: Room| {
        if let MessageType::VerificationRequest(_) = &event.content.msgtype {
            note(&event.sender, event.event_id.to_string());
        }
        std::future::ready(())
    });
    requested
}

async fn found(client: &Client, requested: &Requested) -> Step<VerificationRequest> {
    see("the request to compare emoji", || async {
        let (user, flow) = requested.lock().ok()?.clone()?;
        client.encryption().get_verification_request(&user, &flow).await
    })
    .await
}

async fn compare(asking: VerificationRequest, asked: VerificationRequest) -> Step {
    asked.accept().await?;
    see("the request accepted", || async { asking.is_ready().then_some(()) }).await?;
    let one = asking.start_sas().await?.ok_or_else(|| Wrong("expected emoji, seen no way to them".to_owned()))?;
    let other: SasVerification = see("the comparison on the other side", || async {
        match asked.state() {
            VerificationRequestState::Transitioned { verification: Verification::SasV1(sas) } => Some(sas),
            _ => None,
        }
    })
    .await?;
    other.accept().await?;
    let (mine, yours) = (emoji(&one).await?, emoji(&other).await?);
    expect("the same emoji", &mine, &yours)?;
    one.confirm().await?;
    other.confirm().await?;
    for sas in [&one, &other] {
        see("the end of the comparison", || async { matches!(sas.state(), SasState::Done { .. }).then_some(()) })
            .await?;
    }
    Ok(())
}

async fn emoji(sas: &SasVerification) -> Step<Vec<String>> {
    see("emoji", || async { sas.emoji().map(|all| all.iter().map(|one| one.description.to_owned()).collect()) }).await
}
