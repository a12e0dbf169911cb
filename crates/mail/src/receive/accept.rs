//! A mail on its way into rooms: what is refused is refused before anything is written, and what is taken is on disk before the
//! answer says so.
//!
//! A mail that could be taken only in part (the disk is full, the program ends) is answered with "come back"; whoever sends it
//! again finds what was written and adds what was not. That is what the transaction ids are for, which are made of the
//! Message-ID: a mail stands in a room once, however often it comes.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use koine_media::{Description, MediaId, UploadError};
use koine_projection::mail::{
    Address, KEEPSAKE,
    inward::{self, Inward, Named, Place, Stored, What},
};
use koine_room::{ReceiptType, Room, Sender};
use mail_parser::{Message, MessageParser};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Value, json, value::to_raw_value};
use sha2::{Digest as _, Sha256};

use super::{
    people::{Speaker, Target, refused, unreadable},
    recipient::Recipient,
    reply::{Refusal, Reply},
    session::Envelope,
    verdict::{self, Origin, Verdict},
};
use crate::{core::Core, out::Outcome};

/// Most servers that a mail has been through. [RFC 5321 §6.3] wants at least 100; loops are shorter than that.
pub(super) const RECEIVED_MAX: usize = 100;
/// Most bytes of headers.
const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Most header fields.
const HEADERS_MAX: usize = 1_000;
/// Most places at which a mail may begin something within itself: a part that has parts, a mail in a mail.
const NESTING_MAX: usize = 1_000;
/// People that are named as not in a conversation.
const LEFT_OUT_MAX: usize = 10;
/// The device in whose name mails are sent: it makes a transaction id count.
const DEVICE: &str = "mail";

/// Where a mail came from.
pub(super) struct Came {
    pub(super) address: IpAddr,
    pub(super) is_trusted: bool,
}

/// Takes a mail; an answer for each recipient, in their order.
pub(super) async fn accept(core: Arc<Core>, envelope: Envelope<Recipient>, text: Vec<u8>, came: Came) -> Vec<Reply> {
    let count = envelope.recipients.len();
    tracing::debug!(peer = %came.address, tls = envelope.tls, recipients = count, bytes = text.len(), "a mail came");
    let outcomes = match take(&core, &envelope, &text, &came).await {
        Ok(outcomes) => outcomes,
        Err(refusal) => vec![Err(refusal); count],
    };
    for refusal in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        tracing::debug!(peer = %came.address, reason = %refusal, "a mail was not taken");
    }
    let reply = |outcome: Result<(), Refusal>| match outcome {
        Ok(()) => Reply::new(250, "2.0.0", "taken"),
        Err(refusal) => refusal.into(),
    };
    outcomes.into_iter().map(reply).collect()
}

type Outcomes = Vec<Result<(), Refusal>>;

async fn take(core: &Arc<Core>, envelope: &Envelope<Recipient>, text: &[u8], came: &Came) -> Result<Outcomes, Refusal> {
    check_shape(text)?;
    let message = MessageParser::default().parse(text).ok_or(Refusal::NoMail("it has no headers"))?;
    let passed = message.headers().iter().filter(|header| header.name() == "Received").count();
    if passed > RECEIVED_MAX {
        return Err(Refusal::Loop(passed));
    }
    let mail = inward::read(&message);
    let mut outcomes: Outcomes = Vec::new();
    for recipient in &envelope.recipients {
        outcomes.push(match recipient {
            Recipient::Bounce(address) => bounce(core, address, text).await,
            Recipient::Account(_) | Recipient::Room(_) => Ok(()),
        });
    }
    let is_bounce = |recipient: &Recipient| matches!(recipient, Recipient::Bounce(_));
    if envelope.recipients.iter().all(is_bounce) {
        return Ok(outcomes);
    }
    if envelope.from.is_none() && !matches!(mail.what, What::Read(_)) {
        // News of mails goes to the address that they came from; this is the echo of a forged one.
        return Err(Refusal::ForgedBounce);
    }
    let author = mail.author.as_ref().ok_or(Refusal::NoSingleAuthor)?;
    if core.is_ours(author.address.domain()) {
        return Err(Refusal::SpoofedAuthor(author.address.to_string()));
    }
    let origin = Origin {
        address: came.address,
        is_trusted: came.is_trusted,
        helo: &envelope.helo,
        from: envelope.from.as_ref(),
    };
    let verdict = verdict::judge(core, text, &author.address, &origin).await?;
    let incoming = Incoming::new(core, mail, &message, verdict)?;
    incoming.deliver(&envelope.recipients, outcomes).await
}

/// News of a mail that we sent.
async fn bounce(core: &Arc<Core>, address: &Address, text: &[u8]) -> Result<(), Refusal> {
    let Some(out) = core.out.get() else { return Err(Refusal::ForgedBounce) };
    match out.bounced(address.local(), "", text).await {
        Ok(Outcome::Forged) => Err(Refusal::ForgedBounce),
        Ok(outcome) => {
            tracing::debug!(?outcome, "a mail came back");
            Ok(())
        }
        Err(error) => {
            tracing::error!(reason = %error, "news of a mail could not be kept");
            Err(Refusal::Unavailable)
        }
    }
}

/// What is checked before anything is read: how much there is of what reading costs by.
fn check_shape(text: &[u8]) -> Result<(), Refusal> {
    let mut fields = 0;
    let mut end = text.len();
    let mut start = 0;
    while let Some(length) = text.get(start..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        let line = text.get(start..start + length).unwrap_or_default();
        if line.is_empty() || line == b"\r" {
            end = start;
            break;
        }
        fields += usize::from(!line.starts_with(b" ") && !line.starts_with(b"\t"));
        start += length + 1;
        if start > HEADER_BYTES_MAX || fields > HEADERS_MAX {
            return Err(Refusal::Headers(start, fields));
        }
    }
    if end > HEADER_BYTES_MAX {
        return Err(Refusal::Headers(end, fields));
    }
    // Cheaper than reading it, and more than there can be.
    let mut marks = 0;
    for at in text.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
        let before = |word: &[u8]| {
            at.checked_sub(word.len())
                .and_then(|from| text.get(from..at))
                .is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        marks += usize::from(before(b"multipart") || before(b"message"));
        if marks > NESTING_MAX {
            return Err(Refusal::NoMail("it holds too many mails or parts within one another"));
        }
    }
    Ok(())
}

/// A mail that may come in.
struct Incoming<'a> {
    core: &'a Arc<Core>,
    message: &'a Message<'a>,
    mail: Inward,
    verdict: Verdict,
    speaker: Speaker,
    /// Who wrote it, where a list speaks.
    by: Option<Named>,
    /// What all transaction ids of this mail begin with.
    name: String,
}

/// What a mail and its files became in the media store.
struct Kept {
    files: Vec<Stored>,
    source: String,
    ids: Vec<String>,
}

impl<'a> Incoming<'a> {
    fn new(core: &'a Arc<Core>, mut mail: Inward, message: &'a Message<'a>, verdict: Verdict) -> Result<Self, Refusal> {
        let author = mail.author.clone().ok_or(Refusal::NoSingleAuthor)?;
        // What comes by a list is said by the list, in the name of whoever wrote it: an answer goes there.
        let list = inward::list(&mail).filter(|list| !core.is_ours(list.address.domain()));
        let (speaks, by, is_verified) = match list {
            Some(list) => {
                let is_verified = verdict.stands_by(list.address.domain());
                (list, Some(author), is_verified)
            }
            None => (author, None, verdict.is_verified),
        };
        let user = core.person_of(&speaks.address).ok_or(Refusal::NoMail("its author's address is too long"))?;
        let is_trusted = verdict.is_trusted;
        let speaker = Speaker { user, address: speaks.address, name: speaks.name, is_verified, is_trusted };
        if !speaker.is_certain() {
            // Nothing says above a reaction or a receipt that it may be forged: the one are words, the other is nothing.
            match mail.what {
                What::Reactions(_) => mail.what = inward::words(message),
                What::Read(_) => return Err(Refusal::Uncertain(speaker.address.domain().to_owned())),
                What::Said { .. } | What::Report => {}
            }
        }
        // A mail without a name is known by all of it.
        let hash = match &mail.message_id {
            Some(id) => Sha256::digest(id.as_bytes()),
            None => Sha256::digest(message.raw_message()),
        };
        let name = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { core, message, mail, verdict, speaker, by, name })
    }

    async fn deliver(&self, recipients: &[Recipient], mut outcomes: Outcomes) -> Result<Outcomes, Refusal> {
        let referred = self.core.rooms_referred_to(&self.mail).map_err(unreadable)?;
        // Which recipients are told by what becomes of which room.
        let mut targets: BTreeMap<Target, Vec<usize>> = BTreeMap::new();
        for (at, recipient) in recipients.iter().enumerate() {
            match self.check(recipient, &referred) {
                Err(refusal) => {
                    if let Some(outcome) = outcomes.get_mut(at) {
                        *outcome = Err(refusal);
                    }
                }
                Ok(None) => {}
                Ok(Some(target)) => targets.entry(target).or_default().push(at),
            }
        }
        if targets.is_empty() {
            return Ok(outcomes);
        }
        let owner = owner(&targets, recipients, &self.speaker.user);
        let kept = match &self.mail.what {
            What::Said { .. } => Some(self.keep(&owner).await?),
            _ => None,
        };
        let mut is_anywhere = false;
        for (target, of) in targets {
            let delivered = self.deliver_to(&target, &referred, kept.as_ref()).await;
            let refusals = match delivered {
                Ok((refusals, is_new)) => {
                    is_anywhere |= is_new;
                    refusals
                }
                Err(refusal) => {
                    of.iter()
                        .filter_map(|at| outcomes.get_mut(*at).map(|outcome| *outcome = Err(refusal.clone())))
                        .count();
                    continue;
                }
            };
            for at in of {
                let Some(Recipient::Account(account)) = recipients.get(at) else { continue };
                let refused = refusals.iter().find(|(user, _)| user == account);
                if let (Some((_, refusal)), Some(outcome)) = (refused, outcomes.get_mut(at)) {
                    *outcome = Err(refusal.clone());
                }
            }
        }
        if let (false, Some(kept)) = (is_anywhere, kept) {
            self.throw_away(&kept.ids).await;
        }
        Ok(outcomes)
    }

    /// Where a mail for somebody goes, if they want it. `None`: nowhere, and that is fine.
    fn check(&self, recipient: &Recipient, referred: &[Arc<Room>]) -> Result<Option<Target>, Refusal> {
        match recipient {
            Recipient::Bounce(_) => Ok(None),
            Recipient::Room(room) => Ok(Some(Target::Room(room.clone()))),
            Recipient::Account(account) => {
                self.core.check_wanted(account, &self.speaker.user)?;
                if !self.speaker.is_trusted {
                    self.core.gate.mail_for(account, self.core.since_epoch())?;
                }
                self.target_of(account, referred).map(Some)
            }
        }
    }

    /// Whom a mail to an account is between: all whom it names, if the account is among them. Whoever gets it in secret has
    /// it from its author alone; so has everybody where the author may be another, and there is no such conversation yet.
    fn target_of(&self, account: &OwnedUserId, referred: &[Arc<Room>]) -> Result<Target, Refusal> {
        if self.by.is_some() {
            return Ok(Target::Two(account.clone()));
        }
        let named = self.mail.to.iter().chain(&self.mail.cc);
        let mut people: std::collections::BTreeSet<OwnedUserId> =
            named.filter_map(|named| self.core.person_of(&named.address)).collect();
        let is_named = people.contains(account);
        people.insert(self.speaker.user.clone());
        if !(is_named && people.len() > 2 && people.len() <= inward::PEOPLE_MAX) {
            return Ok(Target::Two(account.clone()));
        }
        if self.speaker.is_certain() {
            return Ok(Target::Circle(people));
        }
        let there = self.core.circle_with(&self.speaker, &people, referred, account)?;
        Ok(there.map_or_else(|| Target::Two(account.clone()), Target::There))
    }

    /// Correspondents whom a mail names and who are not where it is said, though its author may have meant them to be.
    fn left_out(&self, target: &Target, room: &Room) -> Vec<Address> {
        let is_meant = match target {
            Target::Circle(_) | Target::There(_) => true,
            Target::Two(_) => self.by.is_none() && !self.speaker.is_certain(),
            Target::Room(_) => false,
        };
        let named = self.mail.to.iter().chain(&self.mail.cc).filter(|_| is_meant);
        let outside = named.filter(|named| {
            let person = self.core.person_of(&named.address);
            person.is_some_and(|person| self.core.correspondent(&person).is_some() && !room.is_joined(&person))
        });
        outside.map(|named| named.address.clone()).take(LEFT_OUT_MAX).collect()
    }

    /// Brings the mail into one room; who of it refuses, and whether the mail was not there before.
    async fn deliver_to(
        &self,
        target: &Target,
        referred: &[Arc<Room>],
        kept: Option<&Kept>,
    ) -> Result<(Vec<(OwnedUserId, Refusal)>, bool), Refusal> {
        let core = self.core;
        let (room, refusals) = match &self.mail.what {
            // These say nothing that anybody would have to be asked for.
            What::Reactions(_) | What::Read(_) | What::Report => {
                let there = referred.iter().filter(|room| room.is_joined(&self.speaker.user)).cloned();
                return self.note_in(there.collect()).await.map(|()| (Vec::new(), true));
            }
            What::Said { .. } => {
                let _making = core.making.lock().await;
                core.room_for(&self.speaker, target, referred, self.mail.subject.as_deref()).await?
            }
        };
        let kept = kept.ok_or(Refusal::Unavailable)?;
        let is_new = self.say(&room, &self.left_out(target, &room), kept).await?;
        Ok((refusals, is_new))
    }

    /// What the mail says becomes events; whether they were not there before.
    async fn say(&self, room: &Arc<Room>, left_out: &[Address], kept: &Kept) -> Result<bool, Refusal> {
        let answered = self.core.answered(room, &self.mail).map_err(unreadable)?;
        let subject = |text: &str| inward::bare_subject(text);
        let shows_subject = match (&answered, &self.mail.subject) {
            (_, None) => false,
            (None, Some(_)) => true,
            // What Matrix or XMPP began has no subject; what a mail began may get another.
            (Some(answered), Some(mine)) => {
                answered.subject.as_ref().is_some_and(|theirs| subject(theirs) != subject(mine))
            }
        };
        let mut above = Vec::new();
        if !self.speaker.is_certain() {
            let address = &self.speaker.address;
            above.push(format!("⚠ It is not certain that this is from {address}: the domain does not stand by it."));
        }
        if !left_out.is_empty() {
            let names: Vec<String> = left_out.iter().map(ToString::to_string).collect();
            above.push(format!("⚠ It also names {}, not in this conversation.", names.join(", ")));
        }
        above.extend(self.mail.subject.clone().filter(|_| shows_subject));
        above.extend(self.by.as_ref().map(|by| match &by.name {
            Some(name) => format!("{name} ({}) writes:", by.address),
            None => format!("{} writes:", by.address),
        }));
        let verdict = self.verdict.json();
        let place = Place {
            files: &kept.files,
            source: &kept.source,
            verdict: &verdict,
            above,
            relation: answered.as_ref().map(|answered| &answered.relation),
        };
        let mut first = None;
        for (number, content) in self.mail.contents(&place).into_iter().enumerate() {
            let event = self.send(room, "m.room.message", &content, number).await?;
            first.get_or_insert(event);
        }
        let Some(first) = first else { return Ok(true) };
        if let Some(name) = &self.mail.message_id {
            self.core.remember(room.no(), name, &first).await?;
        }
        let placed = room.event(&first).map_err(unreadable)?;
        let came: Option<Value> = placed.and_then(|placed| placed.event.content_field(KEEPSAKE));
        Ok(came.as_ref().and_then(|came| came.get("source")).and_then(Value::as_str) == Some(kept.source.as_str()))
    }

    async fn send(
        &self,
        room: &Room,
        kind: &str,
        content: &Value,
        number: usize,
    ) -> Result<ruma_common::OwnedEventId, Refusal> {
        let content = to_raw_value(content).map_err(|_| Refusal::NoMail("it cannot be kept"))?;
        let sender = Sender { user: &self.speaker.user, device: Some(DEVICE) };
        let txn = format!("{}.{number}", self.name);
        self.core.rooms().send(sender, room.id(), kind, &content, Some(&txn)).await.map_err(refused)
    }

    /// Reactions, and that something was read: in whichever room what they are about is.
    async fn note_in(&self, rooms: Vec<Arc<Room>>) -> Result<(), Refusal> {
        for room in rooms {
            match &self.mail.what {
                What::Reactions(keys) => {
                    let Some(answered) = self.core.answered(&room, &self.mail).map_err(unreadable)? else { continue };
                    for (number, key) in keys.iter().enumerate() {
                        let relation = json!({ "rel_type": "m.annotation", "event_id": answered.parent, "key": key });
                        let content = json!({ "m.relates_to": relation });
                        match self.send(&room, "m.reaction", &content, number).await {
                            // Said before: that is fine.
                            Ok(_) | Err(Refusal::RoomClosed) => {}
                            Err(refusal) => return Err(refusal),
                        }
                    }
                    return Ok(());
                }
                What::Read(names) => {
                    for name in names {
                        let Some(placed) = self.core.event_named(&room, name).map_err(unreadable)? else { continue };
                        let (user, event) = (&self.speaker.user, placed.event.event_id());
                        let set = self.core.rooms().set_receipt(user, room.id(), ReceiptType::Read, event, None).await;
                        if let Err(Refusal::Unavailable) = set.map_err(refused) {
                            return Err(Refusal::Unavailable);
                        }
                    }
                }
                _ => {}
            }
        }
        match &self.mail.what {
            // [RFC 9078 §2] A reaction to something that is not here is nothing.
            What::Reactions(_) => Err(Refusal::NoMail("what it reacts to is not known here")),
            _ => Ok(()),
        }
    }

    /// Brings the mail and its files into the media store. After an error nothing of it is kept.
    async fn keep(&self, owner: &UserId) -> Result<Kept, Refusal> {
        let mut kept = Kept { files: Vec::new(), source: String::new(), ids: Vec::new() };
        let What::Said { files, .. } = &self.mail.what else { return Ok(kept) };
        let subject = self.mail.subject.as_deref().unwrap_or("mail");
        let mut all = vec![(self.message.raw_message(), "message/rfc822", format!("{subject}.eml"))];
        all.extend(files.iter().map(|file| (inward::bytes(self.message, file), file.mime.as_str(), file.name.clone())));
        for (at, (bytes, mime, name)) in all.into_iter().enumerate() {
            match self.upload(owner, bytes, mime, name).await {
                Ok(mxc) => {
                    kept.ids.extend(mxc.rsplit('/').next().map(ToOwned::to_owned));
                    match at {
                        0 => kept.source = mxc,
                        _ => kept.files.push(Stored { mxc, size: bytes.len() as u64 }),
                    }
                }
                Err(refusal) => {
                    self.throw_away(&kept.ids).await;
                    return Err(refusal);
                }
            }
        }
        Ok(kept)
    }

    async fn upload(&self, owner: &UserId, bytes: &[u8], mime: &str, name: String) -> Result<String, Refusal> {
        let description = Description { content_type: Some(mime.to_owned()), file_name: Some(name) };
        let done = async {
            let mut upload = self.core.cores.media.begin_upload(owner, Some(bytes.len() as u64)).await?;
            upload.write(bytes).await?;
            upload.finish(description, self.core.now()).await
        };
        done.await.map(|mxc| mxc.to_string()).map_err(|error| match error {
            UploadError::AccountFull { .. } => Refusal::RecipientFull,
            error => {
                tracing::warn!(user_id = %owner, reason = %error, "a mail could not be kept");
                Refusal::Unavailable
            }
        })
    }

    async fn throw_away(&self, ids: &[String]) {
        for id in ids.iter().filter_map(|id| MediaId::parse(id)) {
            if let Err(error) = self.core.cores.media.delete(&id).await {
                tracing::warn!(reason = %error, "a file of a mail that was refused stays");
            }
        }
    }
}

/// Whose files the files of a mail are: the first account's that gets it, or the author's where only rooms do.
fn owner(targets: &BTreeMap<Target, Vec<usize>>, recipients: &[Recipient], speaker: &OwnedUserId) -> OwnedUserId {
    let account = targets.iter().find_map(|(target, of)| match target {
        Target::Two(account) => Some(account),
        Target::Circle(people) => people.iter().find(|user| !user.localpart().starts_with('_')),
        Target::There(_) => of.iter().find_map(|at| match recipients.get(*at) {
            Some(Recipient::Account(account)) => Some(account),
            _ => None,
        }),
        Target::Room(_) => None,
    });
    account.unwrap_or(speaker).clone()
}
