//! Verifying a device or a person by comparing emoji (SAS): both sides see the same seven, or somebody is in between.
//!
//! One side asks (`verify --device ID`, `verify @user:server`), the other waits (`verify --accept`). People answer the
//! question; a script answers it with a line `yes` or `no` on standard input after the `emoji` line, or says beforehand what
//! it expects (`--expect`), or that it believes everything (`--emoji-match`, for tests).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use matrix_sdk::{
    Client, Room,
    encryption::verification::{
        Emoji, SasState, SasVerification, Verification, VerificationRequest, VerificationRequestState,
    },
    event_handler::{EventHandlerDropGuard, EventHandlerHandle},
    ruma::{
        OwnedUserId, UserId,
        events::{
            key::verification::{VerificationMethod, request::ToDeviceKeyVerificationRequestEvent},
            room::{
                member::{MembershipState, StrippedRoomMemberEvent},
                message::{MessageType, OriginalSyncRoomMessageEvent},
            },
        },
    },
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Done, user};
use crate::{ask, cli::seconds, failure::Failure, harmless, identity, output::Output, session::Session};

/// Requests that wait for an answer at once; more are dropped, and can be made again.
const REQUESTS_MAX: usize = 16;
/// One long poll while the other side thinks.
const POLL: Duration = Duration::from_secs(2);

/// `koine-chat verify`
#[derive(clap::Args)]
pub struct Args {
    /// Whom, if it is somebody else: @name:server.
    pub user: Option<String>,
    /// Which device; all of them are asked without this.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Wait for the other side to ask, and accept.
    #[arg(long, conflicts_with = "device")]
    pub accept: bool,
    /// Believe the identity this person has now without comparing anything, if it is another than it was.
    #[arg(long, requires = "user", conflicts_with_all = ["device", "accept"])]
    pub accept_change: bool,
    /// Take the emoji for equal without asking. For tests.
    #[arg(long)]
    pub emoji_match: bool,
    /// The seven names the emoji must have, separated by commas.
    #[arg(long, value_name = "NAMES", conflicts_with = "emoji_match")]
    pub expect: Option<String>,
    /// Seconds until it is given up.
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Duration,
    /// Seconds this device stays to pass on keys after its owner's other device was verified.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    pub linger: Duration,
}

#[derive(Serialize)]
struct Waiting {
    r#type: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<String>,
}

#[derive(Serialize)]
struct EmojiLine {
    r#type: &'static str,
    emoji: Vec<EmojiName>,
}

#[derive(Serialize)]
struct EmojiName {
    symbol: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
struct Verified {
    r#type: &'static str,
    user_id: String,
    device_id: String,
    /// Whether the other device is trusted now.
    verified: bool,
    /// Whether this device is.
    own_device_verified: bool,
}

/// Verifies.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let client = &session.client;
    if let (true, Some(who)) = (args.accept_change, &args.user) {
        let who = user(who)?;
        session.catch_up().await?;
        client.encryption().request_user_identity(&who).await?;
        identity::accept(client, &who).await?;
        return out.say(&Done::new("accept-change"), || format!("The identity that {who} has now is believed."));
    }
    let (asked, mut asks) = mpsc::channel(REQUESTS_MAX);
    let handlers = listen(client, &asked);
    session.catch_up().await?;
    let flow = async {
        let request = match args.accept {
            true => accept(args, client, &mut asks, out).await?,
            false => request(args, client, out).await?,
        };
        let sas = agree(&request).await?;
        compare(args, &sas, out).await
    };
    let ended = AtomicBool::new(false);
    let mut syncing = std::pin::pin!(keep_syncing(session, &ended));
    let done = tokio::select! {
        done = tokio::time::timeout(args.timeout, flow) => {
            // What ended it is seen before the engine has drawn its conclusions (who is trusted now), which it does in the
            // same poll: that is not cut short.
            ended.store(true, Ordering::Relaxed);
            match (done, syncing.await) {
                (Ok(Ok(_)), Err(failure)) => Err(failure),
                (Ok(done), _) => done,
                (Err(_), _) => Err(Failure::TimedOut("the other side did not answer in time".to_owned())),
            }
        },
        failed = &mut syncing => match failed {
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::Local("the engine stopped".to_owned())),
        },
    };
    for handler in handlers {
        client.remove_event_handler(handler);
    }
    let sas = done?;
    if sas.is_self_verification() {
        pass_on_keys(session, args.linger).await?;
    } else {
        session.catch_up().await?;
    }
    tell(client, &sas, out).await
}

/// Hears of requests: to this device, or in a room.
pub fn listen(client: &Client, asked: &mpsc::Sender<(OwnedUserId, String)>) -> [EventHandlerHandle; 2] {
    let to_device = asked.clone();
    let in_room = asked.clone();
    [
        // What this device asks for itself comes back, too.
        client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent, client: Client| {
            let asked = to_device.clone();
            async move {
                if client.device_id() != Some(&*event.content.from_device) {
                    let _ = asked.try_send((event.sender, event.content.transaction_id.to_string()));
                }
            }
        }),
        client.add_event_handler(move |event: OriginalSyncRoomMessageEvent, client: Client| {
            let asked = in_room.clone();
            async move {
                let by_others = client.user_id() != Some(&*event.sender);
                if by_others && matches!(event.content.msgtype, MessageType::VerificationRequest(_)) {
                    let _ = asked.try_send((event.sender, event.event_id.to_string()));
                }
            }
        }),
    ]
}

/// The protocol lives on what sync brings, until it has ended.
async fn keep_syncing(session: &Session, ended: &AtomicBool) -> Result<(), Failure> {
    while !ended.load(Ordering::Relaxed) {
        match session.wait_for_news(POLL).await {
            Ok(_) => {}
            Err(Failure::Network(_)) => tokio::time::sleep(POLL).await,
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Waits for a request and accepts it.
async fn accept(
    args: &Args,
    client: &Client,
    asks: &mut mpsc::Receiver<(OwnedUserId, String)>,
    out: &Output,
) -> Result<VerificationRequest, Failure> {
    let wanted = args.user.as_deref().map(user).transpose()?;
    // People ask in a conversation of two, and may have begun one just for that.
    let _joining = wanted.as_ref().map(|wanted| join_conversations(client, wanted));
    for room in client.invited_rooms() {
        let from = room.invite_details().await.map(|invite| invite.inviter_id).ok();
        if from.is_some() && from == wanted && room.is_direct().await.unwrap_or_default() {
            room.join().await?;
        }
    }
    out.say(&Waiting { r#type: "verification", state: "waiting", user_id: None, flow_id: None }, || {
        "Waiting for the other device to ask for verification.".to_owned()
    })?;
    loop {
        let Some((who, flow)) = asks.recv().await else {
            return Err(Failure::Local("no requests can be heard".to_owned()));
        };
        let own = client.user_id().is_some_and(|own| own == who);
        if !wanted.as_ref().map_or(own || args.user.is_none(), |wanted| *wanted == who) {
            continue;
        }
        let Some(request) = client.encryption().get_verification_request(&who, &flow).await else { continue };
        if request.we_started() || request.is_cancelled() || request.is_done() {
            continue;
        }
        let line =
            Waiting { r#type: "verification", state: "asked", user_id: Some(who.to_string()), flow_id: Some(flow) };
        out.say(&line, || format!("{} asks for verification.", harmless::line(who.as_str())))?;
        request.accept_with_methods(vec![VerificationMethod::SasV1]).await?;
        return Ok(request);
    }
}

/// While the value lives, invitations of somebody to a conversation of two are accepted.
fn join_conversations(client: &Client, wanted: &UserId) -> EventHandlerDropGuard {
    let (own, wanted) = (client.user_id().map(ToOwned::to_owned), wanted.to_owned());
    let handler = client.add_event_handler(move |event: StrippedRoomMemberEvent, room: Room| {
        let asked_in = event.content.is_direct == Some(true)
            && event.content.membership == MembershipState::Invite
            && event.sender == wanted
            && own.as_ref().is_some_and(|own| event.state_key == *own);
        async move {
            if asked_in {
                // Not from within: what joining waits for comes by the sync that this is part of.
                tokio::spawn(async move { room.join().await });
            }
        }
    });
    client.event_handler_drop_guard(handler)
}

/// Asks.
async fn request(args: &Args, client: &Client, out: &Output) -> Result<VerificationRequest, Failure> {
    let encryption = client.encryption();
    let own = client.user_id().ok_or_else(|| Failure::Local("the session has no user".to_owned()))?;
    let whom = match &args.user {
        Some(text) => user(text)?,
        None => own.to_owned(),
    };
    let methods = vec![VerificationMethod::SasV1];
    // What the server knows now, not what this device learnt a while ago.
    let identity = encryption.request_user_identity(&whom).await?;
    let request = match &args.device {
        Some(id) => {
            let device = encryption.get_device(&whom, id.as_str().into()).await.map_err(matrix_sdk::Error::from)?;
            let device =
                device.ok_or_else(|| Failure::NotFound(format!("{whom} has no device {id} that can encrypt")))?;
            device.request_verification_with_methods(methods).await?
        }
        None => {
            let identity = identity
                .ok_or_else(|| Failure::NotFound(format!("{whom} has not set up verification; name a --device")))?;
            identity.request_verification_with_methods(methods).await?
        }
    };
    let line = Waiting {
        r#type: "verification",
        state: "requested",
        user_id: Some(whom.to_string()),
        flow_id: Some(request.flow_id().to_owned()),
    };
    out.say(&line, || format!("Asked {}; it must accept.", harmless::line(whom.as_str())))?;
    Ok(request)
}

/// From the request to the exchange of keys: whoever asked begins it.
pub async fn agree(request: &VerificationRequest) -> Result<SasVerification, Failure> {
    let mut changes = request.changes();
    let mut state = request.state();
    loop {
        match state {
            VerificationRequestState::Ready { .. } if request.we_started() => {
                if let Some(sas) = request.start_sas().await? {
                    return Ok(sas);
                }
            }
            VerificationRequestState::Transitioned { verification: Verification::SasV1(sas) } => {
                if !sas.we_started() {
                    sas.accept().await?;
                }
                return Ok(sas);
            }
            VerificationRequestState::Transitioned { .. } => {
                return Err(Failure::NotConfirmed("the other side wants a way that is not known here".to_owned()));
            }
            VerificationRequestState::Cancelled(info) => {
                return Err(Failure::NotConfirmed(format!("cancelled: {}", info.reason())));
            }
            VerificationRequestState::Done => {
                return Err(Failure::NotConfirmed("another device answered first".to_owned()));
            }
            _ => {}
        }
        state = changes.next().await.ok_or_else(|| Failure::Local("the verification went away".to_owned()))?;
    }
}

/// From the keys to the answer and its acknowledgement.
async fn compare(args: &Args, sas: &SasVerification, out: &Output) -> Result<SasVerification, Failure> {
    let mut changes = sas.changes();
    let mut state = sas.state();
    let mut answered = false;
    loop {
        match state {
            SasState::KeysExchanged { .. } if !answered => {
                let emoji =
                    sas.emoji().ok_or_else(|| Failure::NotConfirmed("the other side has no emoji".to_owned()))?;
                answered = true;
                // The other side may end it while this one thinks.
                let same = tokio::select! {
                    same = same(args, emoji, out) => same?,
                    failure = cancelled(sas) => return Err(failure),
                };
                if same {
                    sas.confirm().await?;
                } else {
                    sas.mismatch().await?;
                    return Err(Failure::NotConfirmed(
                        "the emoji differ: somebody may be in between. Nothing was verified".to_owned(),
                    ));
                }
            }
            SasState::Done { .. } => return Ok(sas.clone()),
            SasState::Cancelled(info) => return Err(Failure::NotConfirmed(format!("cancelled: {}", info.reason()))),
            _ => {}
        }
        state = changes.next().await.ok_or_else(|| Failure::Local("the verification went away".to_owned()))?;
    }
}

async fn cancelled(sas: &SasVerification) -> Failure {
    let mut changes = sas.changes();
    while let Some(state) = changes.next().await {
        if let SasState::Cancelled(info) = state {
            return Failure::NotConfirmed(format!("cancelled: {}", info.reason()));
        }
    }
    std::future::pending().await
}

async fn same(args: &Args, emoji: [Emoji; 7], out: &Output) -> Result<bool, Failure> {
    let names: Vec<EmojiName> =
        emoji.iter().map(|one| EmojiName { symbol: one.symbol, name: one.description }).collect();
    let shown: Vec<String> = names.iter().map(|one| format!("{} {}", one.symbol, one.name)).collect();
    out.say(&EmojiLine { r#type: "emoji", emoji: names }, || shown.join("   "))?;
    if args.emoji_match {
        return Ok(true);
    }
    if let Some(expected) = &args.expect {
        return Ok(is_expected(expected, &emoji.map(|one| one.description)));
    }
    out.note("Does the other device show the same seven, in this order? (yes/no)");
    // Reading blocks; sync goes on beside it.
    let answer = tokio::task::spawn_blocking(ask::read_line).await;
    let answer = answer.map_err(|error| Failure::Local(error.to_string()))??;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn is_expected(expected: &str, names: &[&str]) -> bool {
    let expected: Vec<String> = expected.split(',').map(|name| name.trim().to_lowercase()).collect();
    expected.len() == names.len() && expected.iter().zip(names).all(|(a, b)| *a == b.to_lowercase())
}

/// After two devices of one person verified each other: the new one asks for the secrets of the account, the old one gives
/// them. Both stay until the new one has them.
async fn pass_on_keys(session: &Session, linger: Duration) -> Result<(), Failure> {
    let encryption = session.client.encryption();
    let has_all = async || {
        encryption.cross_signing_status().await.is_some_and(|status| status.is_complete())
            && encryption.backups().are_enabled().await
    };
    let had_all = has_all().await;
    let began = Instant::now();
    while began.elapsed() < linger {
        session.wait_for_news(Duration::from_secs(1).min(linger)).await?;
        if !had_all && has_all().await {
            break;
        }
    }
    Ok(())
}

async fn tell(client: &Client, sas: &SasVerification, out: &Output) -> Result<(), Failure> {
    let encryption = client.encryption();
    let other = sas.other_device();
    let device = encryption.get_device(other.user_id(), other.device_id()).await.map_err(matrix_sdk::Error::from)?;
    let own = encryption.get_own_device().await.map_err(matrix_sdk::Error::from)?;
    let line = Verified {
        r#type: "verified",
        user_id: other.user_id().to_string(),
        device_id: other.device_id().to_string(),
        verified: device.is_some_and(|device| device.is_verified()),
        own_device_verified: own.is_some_and(|device| device.is_verified_with_cross_signing()),
    };
    out.say(&line, || format!("Verified: {} of {}.", line.device_id, harmless::line(&line.user_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_emoji_are_all_seven_in_order() {
        let names = ["Dog", "Cat", "Lion", "Horse", "Unicorn", "Pig", "Elephant"];
        assert!(is_expected("dog, cat,lion,horse,unicorn,pig,elephant", &names));
        assert!(!is_expected("cat,dog,lion,horse,unicorn,pig,elephant", &names));
        assert!(!is_expected("dog", &names));
    }
}
