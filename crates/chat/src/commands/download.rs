//! Fetching a file that was sent, decrypted.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use matrix_sdk::{
    Client,
    deserialized_responses::TimelineEvent,
    media::{MediaFormat, MediaRequestParameters},
    ruma::events::room::MediaSource,
};
use serde::Serialize;
use serde_json::Value;

use super::event_id;
use crate::{again, event, failure::Failure, harmless, output::Output, session::Session};

/// `koine-chat download`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name.
    pub room: String,
    /// The message that carries the file.
    pub event: String,
    /// Where to write it; `-` is standard output. Without this: the file's own name, here. Nothing is overwritten.
    #[arg(long, short)]
    pub output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    event_id: String,
    path: String,
    size: usize,
    encrypted: bool,
}

/// The file an event carries, if it carries one.
pub fn source(event: &TimelineEvent) -> Option<MediaSource> {
    let json: Value = event.raw().deserialize_as_unchecked().ok()?;
    let content = json.pointer("/content/m.new_content").or_else(|| json.get("content"))?;
    serde_json::from_value(content.clone()).ok()
}

/// Its bytes.
pub async fn bytes(client: &Client, source: MediaSource) -> Result<Vec<u8>, Failure> {
    let request = MediaRequestParameters { source, format: MediaFormat::File };
    Ok(client.media().get_media_content(&request, true).await?)
}

/// Fetches it.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let id = event_id(&args.event)?;
    let mut events = [room.load_or_fetch_event(&id, None).await?];
    session.client.encryption().wait_for_e2ee_initialization_tasks().await;
    again::with_backup(&room, &mut events).await;
    let [carrier] = events;
    let line = event::line(&room, &carrier).await;
    if carrier.kind.is_utd() {
        return Err(Failure::CannotDecrypt(format!("{id} cannot be read: {}", line.encryption.words)));
    }
    let source = source(&carrier).ok_or_else(|| Failure::NotFound(format!("{id} carries no file")))?;
    let encrypted = matches!(source, MediaSource::Encrypted(_));
    let data = bytes(&session.client, source).await?;
    let name = line.file.map(|file| file.name).unwrap_or_default();
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(own_name(&name)));
    if path.as_os_str() == "-" {
        return out.bytes(&data);
    }
    write_new(&path, &data)?;
    let line = Line {
        r#type: "downloaded",
        event_id: id.to_string(),
        path: path.display().to_string(),
        size: data.len(),
        encrypted,
    };
    out.say(&line, || harmless::line(&line.path))
}

/// A stranger's file name as a name in this folder and nowhere else.
pub fn own_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().map(|letter| if harmless::acts(letter) { '_' } else { letter }).take(100).collect();
    match name.trim_start_matches('.') {
        "" => "download".to_owned(),
        name => name.to_owned(),
    }
}

pub fn write_new(path: &Path, data: &[u8]) -> Result<(), Failure> {
    let said = |error: std::io::Error| Failure::Local(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().create_new(true).write(true).open(path).map_err(said)?;
    file.write_all(data).map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_file_name_leads_nowhere_else() {
        assert_eq!(own_name("../../.bashrc"), "bashrc");
        assert_eq!(own_name("C:\\evil\\cat.png"), "cat.png");
        assert_eq!(own_name("a\u{1b}b"), "a_b");
        assert_eq!(own_name(".."), "download");
    }
}
