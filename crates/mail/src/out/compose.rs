//! A mail, written from the events that it is to say: whenever it is tried, so that what was edited or taken back meanwhile
//! is said as it is now. Its name and its beginning stay the same. [RFC 5322] [RFC 2045] [RFC 9078] [RFC 8098]

use std::sync::Arc;

use koine_projection::mail::{
    Address, KEEPSAKE,
    outward::{self, Line, Shown},
};
use koine_room::{Placed, ReadError, Room, Viewer};
use mail_builder::{
    MessageBuilder,
    headers::{address::Address as Mailbox, date::Date, message_id::MessageId, raw::Raw, text::Text},
    mime::MimePart,
};
use ruma_common::{MxcUri, OwnedEventId, UserId};
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, sync::SemaphorePermit};

use super::{
    Out,
    tables::{ItemRecord, What},
};

/// People of ours who are named in `Cc`; of larger rooms none are.
const COPIES_MAX: usize = 20;
/// Memory that mails under way may take together, in KiB.
pub(crate) const LETTERS_KIB: usize = 96 * 1024;
/// What a byte of a file takes while it becomes a mail.
const GROWTH: u64 = 4;

/// A mail, ready to be sent.
pub(crate) struct Letter<'a> {
    pub(crate) bytes: Vec<u8>,
    /// Lets others take the memory when it goes.
    _memory: SemaphorePermit<'a>,
}

/// Who writes.
struct From {
    name: String,
    address: String,
}

impl Out {
    /// Writes a mail; `None` if there is nothing to say any more: everything was taken back, or the room is gone or encrypted.
    pub(crate) async fn compose(&self, item: &ItemRecord) -> Result<Option<Letter<'_>>, ReadError> {
        let room = match self.rooms().room_by_no(item.room) {
            Ok(room) => room,
            Err(ReadError::NoSuchRoom) => return Ok(None),
            Err(error) => return Err(error),
        };
        if room.current("m.room.encryption", "")?.is_some() {
            return Ok(None);
        }
        let Ok(author) = <&UserId>::try_from(item.author.as_str()) else { return Ok(None) };
        let mut events: Vec<Arc<Placed>> = Vec::new();
        for id in &item.events {
            let Ok(id) = OwnedEventId::try_from(id.as_str()) else { continue };
            events.extend(room.event(&id)?.filter(|placed| placed.redacted_by.is_none()));
        }
        let (Some(last), Some(first)) =
            (events.last(), item.events.first().and_then(|id| OwnedEventId::try_from(id.as_str()).ok()))
        else {
            return Ok(None);
        };
        let sent_s = i64::try_from(u64::from(last.event.origin_server_ts().get()) / 1_000).unwrap_or(0);
        let mut mail = self.headed(&room, author, item)?.date(Date::new(sent_s));
        mail = mail.message_id(match item.what {
            // What is read has a name already.
            What::Receipt => format!("read.{}", self.message_id(&first)),
            _ => self.message_id(&first),
        });
        let (mail, memory) = match item.what {
            What::Lines => self.lines(mail, &room, author, &events).await?,
            What::Reaction => {
                let mut keys: Vec<String> = Vec::new();
                for relation in events.iter().filter_map(|placed| placed.event.content_field::<Value>("m.relates_to")) {
                    let key = outward::header_text(relation["key"].as_str().unwrap_or_default(), 32);
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                // [RFC 9078 §2]
                let part =
                    MimePart::new("text/plain", keys.join(" ")).header("Content-Disposition", Raw::new("reaction"));
                (mail.body(part), self.memory(0).await)
            }
            What::Edit => {
                let content: Value = serde_json::from_str(last.event.content().get()).unwrap_or_default();
                let Some(line) = outward::line(last.event.kind(), content.get("m.new_content").unwrap_or(&content))
                else {
                    return Ok(None);
                };
                let edited = item.heading.in_reply_to.clone().unwrap_or_default();
                let mail = mail.header("Chat-Edit", MessageId::new(edited));
                (mail.text_body(format!("Edited: {}\n", line.text)), self.memory(0).await)
            }
            What::Receipt => (self.receipt_body(mail, author, item), self.memory(0).await),
        };
        let Ok(bytes) = mail.write_to_vec() else { return Ok(None) };
        // Signed as it is sent.
        Ok(Some(Letter { bytes: with_line_ends(bytes), _memory: memory }))
    }

    async fn memory(&self, bytes: u64) -> SemaphorePermit<'_> {
        let kib = (bytes * GROWTH / 1024).clamp(16, LETTERS_KIB as u64);
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        self.0.letters.acquire_many(permits).await.expect("nobody closes this semaphore")
    }

    /// A mail with its headers.
    fn headed(&self, room: &Room, author: &UserId, item: &ItemRecord) -> Result<MessageBuilder<'static>, ReadError> {
        let from = self.from(room, author)?;
        let (mut to, mut is_named) = (Vec::new(), false);
        if item.what == What::Receipt {
            to.push(Mailbox::new_address(None::<String>, item.recipient.clone()));
        } else {
            for user in self.correspondents(room.no())?.iter() {
                let Some(address) = self.address_of_ghost(user) else { continue };
                let address_text = address.to_string();
                is_named |= address_text == item.recipient;
                to.push(Mailbox::new_address(self.correspondent_name(room, user, &address), address_text));
            }
            // Whoever left since then.
            if !is_named {
                to.push(Mailbox::new_address(None::<String>, item.recipient.clone()));
            }
        }
        let mut mail = MessageBuilder::new()
            .from(Mailbox::new_address(Some(from.name), from.address.clone()))
            .to(Mailbox::new_list(to))
            .subject(Text::new(item.heading.subject.clone()));
        if item.what != What::Receipt {
            let copies = self.copies(room, author);
            if !copies.is_empty() {
                mail = mail.cc(Mailbox::new_list(copies));
            }
        }
        if let Some(id) = item.heading.in_reply_to.clone() {
            mail = mail.in_reply_to(MessageId::new(id));
        }
        if !item.heading.references.is_empty() {
            mail = mail.references(MessageId::new_list(item.heading.references.iter().cloned()));
        }
        if item.what == What::Receipt {
            mail = mail.header("Auto-Submitted", Raw::new("auto-replied"));
        } else {
            mail = mail.header("Chat-Version", Raw::new("1.0"));
            // [RFC 8098 §2.1] Only whoever tells asks to be told.
            if self.tells_reading(author) && item.what == What::Lines {
                mail = mail.header("Disposition-Notification-To", Mailbox::new_address(None::<String>, from.address));
            }
        }
        Ok(mail)
    }

    /// Who writes: an account with its own address, anybody else of the room with the room's.
    fn from(&self, room: &Room, author: &UserId) -> Result<From, ReadError> {
        let name = self.name_in(room, author);
        if self.accounts().is_local(author)
            && !author.localpart().starts_with('_')
            && let Some(address) = Address::new(author.localpart(), self.host())
        {
            return Ok(From { name, address: address.to_string() });
        }
        let name = format!("{name} ({author})");
        let alias = room.current("m.room.canonical_alias", "")?;
        let alias = alias.and_then(|alias| alias.event.content_field::<String>("alias"));
        let local = alias.as_deref().and_then(|alias| {
            let (name, server) = alias.strip_prefix('#')?.split_once(':')?;
            (server == self.rooms().server_name().as_str()).then(|| koine_projection::room_name::node_of_alias(name))?
        });
        let local = local.unwrap_or_else(|| koine_projection::room_name::node_of_id(room.id()));
        let address = Address::new(&local, &format!("rooms.{}", self.host()));
        Ok(From {
            name,
            address: address.map_or_else(|| format!("nobody@{}", self.host()), |address| address.to_string()),
        })
    }

    /// The name of a correspondent without the address that rooms show behind it.
    fn correspondent_name(&self, room: &Room, user: &UserId, address: &Address) -> Option<String> {
        let name = self.name_in(room, user);
        let name = name.strip_suffix(&format!("({address})")).unwrap_or(&name).trim();
        (!name.is_empty() && name != user.localpart() && !name.contains('@')).then(|| name.to_owned())
    }

    /// The others of ours in the room.
    fn copies(&self, room: &Room, author: &UserId) -> Vec<Mailbox<'static>> {
        if room.published().joined > COPIES_MAX as u64 * 2 {
            return Vec::new();
        }
        let mut people = room.local_joined();
        people.retain(|user| user != author && !user.localpart().starts_with('_'));
        people.sort();
        if people.len() > COPIES_MAX {
            return Vec::new();
        }
        let address = |user: &UserId| Address::new(user.localpart(), self.host()).map(|address| address.to_string());
        people
            .iter()
            .filter_map(|user| Some(Mailbox::new_address(Some(self.name_in(room, user)), address(user)?)))
            .collect()
    }

    async fn lines(
        &self,
        mut mail: MessageBuilder<'static>,
        room: &Room,
        author: &UserId,
        events: &[Arc<Placed>],
    ) -> Result<(MessageBuilder<'static>, SemaphorePermit<'_>), ReadError> {
        let mut lines = Vec::new();
        // As those see it whom it is for; others may not be of ours.
        let people = self.correspondents(room.no())?;
        let reader = people.first().map_or(author, |reader| reader);
        for placed in events {
            let edit = room.bundle(&mut Viewer::new(room, reader)?, placed, |_| false)?.replace;
            let content: Value = match &edit {
                Some(edit) => edit.event.content_field("m.new_content").unwrap_or_default(),
                None => serde_json::from_str(placed.event.content().get()).unwrap_or_default(),
            };
            lines.extend(outward::line(placed.event.kind(), &content));
        }
        let mut attached = Vec::new();
        let mut left = self.config().attached_bytes_max;
        for line in &mut lines {
            if line.sealed {
                line.text.push_str("\n(A file that is encrypted for others was shown here.)");
            }
            let Some(file) = line.file.take() else { continue };
            match self.size_of(&file) {
                Some(size) if size <= left => {
                    left -= size;
                    attached.push(file);
                }
                Some(size) => self.linked(line, &file, size),
                None => line.text.push_str(&format!("\n({} was shown here; it cannot be mailed.)", file.name)),
            }
        }
        let memory = self.memory(self.config().attached_bytes_max - left).await;
        let automatic = !lines.is_empty() && lines.iter().all(|line| line.automatic);
        let (text, html) = outward::joined(&lines);
        mail = mail.text_body(format!("{}\n", text.trim_matches('\n')));
        if let Some(html) = html {
            mail = mail.html_body(format!("<!doctype html>\n<html><body>\n{html}</body></html>\n"));
        }
        for file in attached {
            match self.read(&file).await {
                Ok(bytes) => mail = mail.attachment(file.mime, file.name, bytes),
                Err(error) => return Err(ReadError::Damaged(format!("the file {}: {error}", file.mxc))),
            }
        }
        if automatic {
            // [RFC 3834 §5] A program said it.
            mail = mail.header("Auto-Submitted", Raw::new("auto-generated"));
        }
        Ok((mail, memory))
    }

    fn item_of(&self, file: &Shown) -> Option<koine_media::Item> {
        let (server, id) = <&MxcUri>::from(file.mxc.as_str()).parts().ok()?;
        self.0.cores.media.find(server, id).ok().flatten()
    }

    /// How large a file of ours is; `None` for those of others.
    fn size_of(&self, file: &Shown) -> Option<u64> {
        self.item_of(file).map(|item| item.size)
    }

    fn linked(&self, line: &mut Line, file: &Shown, size: u64) {
        let Ok((_, id)) = <&MxcUri>::from(file.mxc.as_str()).parts() else { return };
        let link = self.link(id, &file.name);
        let days = self.config().link_days;
        let about = format!("{} ({} KiB, for {days} days): ", file.name, size.div_ceil(1024));
        if line.html.is_some() {
            let html = format!(
                "{}<a href=\"{}\">{}</a>",
                outward::escaped(&about),
                outward::escaped(&link),
                outward::escaped(&link)
            );
            line.html = line.html.take().map(|before| format!("{before}<br>{html}"));
        }
        line.text = format!("{}\n{about}{link}", line.text).trim_start().to_owned();
    }

    async fn read(&self, file: &Shown) -> std::io::Result<Vec<u8>> {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let item = self.item_of(file).ok_or_else(gone)?;
        let content = self.0.cores.media.content(&item).await.map_err(std::io::Error::other)?;
        let mut bytes = Vec::with_capacity(usize::try_from(content.size).unwrap_or(0));
        content.file.take(self.config().attached_bytes_max).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// [RFC 8098 §3]
    fn receipt_body(
        &self,
        mail: MessageBuilder<'static>,
        reader: &UserId,
        item: &ItemRecord,
    ) -> MessageBuilder<'static> {
        let original = item.heading.in_reply_to.clone().unwrap_or_default();
        let address =
            Address::new(reader.localpart(), self.host()).map(|address| address.to_string()).unwrap_or_default();
        let facts = format!(
            "Reporting-UA: {}; Koine\r\nFinal-Recipient: rfc822; {address}\r\nOriginal-Message-ID: <{original}>\r\n\
             Disposition: manual-action/MDN-sent-automatically; displayed\r\n",
            self.host()
        );
        let text = "Your message was displayed. This does not say that it was read or understood.\n";
        let report = MimePart::new(
            mail_builder::headers::content_type::ContentType::new("multipart/report")
                .attribute("report-type", "disposition-notification"),
            vec![
                MimePart::new("text/plain", text),
                MimePart::new("message/disposition-notification", facts).transfer_encoding("7bit"),
            ],
        );
        mail.body(report)
    }

    /// Whether somebody of ours tells senders of mails what they have read: account data `koine.mail` says
    /// `{"read_receipts": true}`.
    pub(crate) fn tells_reading(&self, user: &UserId) -> bool {
        let data = self.accounts().account_data(user, None, "koine.mail").ok().flatten();
        let data: Value = data.and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
        data["read_receipts"].as_bool() == Some(true)
    }

    /// The address that a mail wants to be told at that it was read: only ever its sender's. [RFC 8098 §2.1]
    pub(crate) fn wants_receipt(&self, placed: &Placed) -> Option<String> {
        let sender = self.address_of_ghost(placed.event.sender())?;
        let came: Value = placed.event.content_field(KEEPSAKE)?;
        let asked = came["headers"].as_object()?.iter().find_map(|(name, value)| {
            name.eq_ignore_ascii_case("disposition-notification-to").then(|| value.as_str().map(ToOwned::to_owned))?
        })?;
        let bare = asked.rsplit_once('<').map_or(asked.as_str(), |(_, rest)| rest.trim_end().trim_end_matches('>'));
        (Address::parse(bare.trim())? == sender).then(|| sender.to_string())
    }
}

/// A mail whose lines all end with CRLF, and in which neither stands alone. [RFC 5322 §2.3]
fn with_line_ends(mail: Vec<u8>) -> Vec<u8> {
    let is_fine = |(at, byte): (usize, &u8)| match byte {
        b'\n' => at > 0 && mail.get(at - 1) == Some(&b'\r'),
        b'\r' => mail.get(at + 1) == Some(&b'\n'),
        _ => true,
    };
    if mail.iter().enumerate().all(is_fine) {
        return mail;
    }
    let mut out = Vec::with_capacity(mail.len() + mail.len() / 32);
    let mut bytes = mail.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            byte => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_both_and_nothing_else_does() {
        assert_eq!(with_line_ends(b"a\nb\r\nc\rd\n\n".to_vec()), b"a\r\nb\r\nc\r\nd\r\n\r\n");
        assert_eq!(with_line_ends(b"a\r\n".to_vec()), b"a\r\n");
    }
}
