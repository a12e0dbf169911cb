//! Sending a file. In an encrypted room the file is encrypted before it leaves this machine, and the server keeps ciphertext.

use std::{fs, io::Read, path::PathBuf};

use matrix_sdk::{
    attachment::{AttachmentConfig, AttachmentInfo, BaseAudioInfo, BaseFileInfo, BaseImageInfo, BaseVideoInfo},
    ruma::{UInt, events::room::message::TextMessageEventContent},
};
use serde::Serialize;

use crate::{failure::Failure, output::Output, session::Session, stumble};

/// Bytes of a file. Servers have limits of their own, mostly lower.
const FILE_MAX: u64 = 1 << 30;

/// `koine-chat upload`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name.
    pub room: String,
    /// The file; `-` takes standard input.
    pub file: PathBuf,
    /// What it is called, instead of its own name.
    #[arg(long)]
    pub name: Option<String>,
    /// Words to go with it.
    #[arg(long)]
    pub caption: Option<String>,
    /// Its MIME type, instead of the one its name and content suggest.
    #[arg(long, value_name = "MIME")]
    pub r#type: Option<String>,
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    room_id: String,
    event_id: String,
    name: String,
    mime: String,
    size: usize,
    encrypted: bool,
}

/// A file ready to be sent.
pub struct Parcel {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub mime: mime::Mime,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Parcel {
    /// What receivers are told about it.
    pub fn info(&self) -> AttachmentInfo {
        let size = UInt::try_from(self.data.len() as u64).ok();
        match self.mime.type_() {
            mime::IMAGE => {
                let (width, height) = dimensions(&self.data);
                AttachmentInfo::Image(BaseImageInfo { width, height, size, ..BaseImageInfo::default() })
            }
            mime::VIDEO => AttachmentInfo::Video(BaseVideoInfo { size, ..BaseVideoInfo::default() }),
            mime::AUDIO => AttachmentInfo::Audio(BaseAudioInfo { size, ..BaseAudioInfo::default() }),
            _ => AttachmentInfo::File(BaseFileInfo { size }),
        }
    }
}

/// Reads a file and finds out what it is.
pub fn parcel(file: &PathBuf, name: Option<&str>, mime: Option<&str>) -> Result<Parcel, Failure> {
    let mut data = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_MAX + 1).read_to_end(&mut data)?;
    } else {
        let said = |error: std::io::Error| Failure::Local(format!("{}: {error}", file.display()));
        fs::File::open(file).map_err(said)?.take(FILE_MAX + 1).read_to_end(&mut data).map_err(said)?;
    }
    if data.len() as u64 > FILE_MAX {
        return Err(Failure::Usage(format!("the file has more than {FILE_MAX} bytes")));
    }
    let own = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.map(ToOwned::to_owned).or(own.filter(|name| name != "-")).unwrap_or_else(|| "file".to_owned());
    let mime = match mime {
        Some(mime) => mime.parse().map_err(|_| Failure::Usage(format!("{mime} is no MIME type")))?,
        None => guess(&name, &data),
    };
    Ok(Parcel { name, mime, data })
}

fn dimensions(data: &[u8]) -> (Option<UInt>, Option<UInt>) {
    let reader = image::ImageReader::new(std::io::Cursor::new(data)).with_guessed_format().ok();
    match reader.and_then(|reader| reader.into_dimensions().ok()) {
        Some((width, height)) => (Some(width.into()), Some(height.into())),
        None => (None, None),
    }
}

/// By content for pictures, by name for the rest.
fn guess(name: &str, data: &[u8]) -> mime::Mime {
    if let Ok(format) = image::guess_format(data)
        && let Ok(mime) = format.to_mime_type().parse()
    {
        return mime;
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "txt" | "md" | "log" => mime::TEXT_PLAIN,
        "html" | "htm" => mime::TEXT_HTML,
        "json" => mime::APPLICATION_JSON,
        "pdf" => mime::APPLICATION_PDF,
        "mp4" | "m4v" => known("video/mp4"),
        "webm" => known("video/webm"),
        "mp3" => known("audio/mpeg"),
        "ogg" | "opus" => known("audio/ogg"),
        "flac" => known("audio/flac"),
        "zip" => known("application/zip"),
        _ => mime::APPLICATION_OCTET_STREAM,
    }
}

fn known(mime: &str) -> mime::Mime {
    mime.parse().unwrap_or(mime::APPLICATION_OCTET_STREAM)
}

/// Sends it.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let parcel = parcel(&args.file, args.name.as_deref(), args.r#type.as_deref())?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let encrypted = room.latest_encryption_state().await?.is_encrypted();
    let size = parcel.data.len();
    let sent = stumble::survive(|| {
        let caption = args.caption.as_ref().map(TextMessageEventContent::plain);
        let config = AttachmentConfig::new().info(parcel.info()).caption(caption);
        room.send_attachment(&parcel.name, &parcel.mime, parcel.data.clone(), config).into_future()
    })
    .await?;
    let line = Line {
        r#type: "uploaded",
        room_id: room.room_id().to_string(),
        event_id: sent.event_id.to_string(),
        name: parcel.name,
        mime: parcel.mime.to_string(),
        size,
        encrypted,
    };
    out.say(&line, || line.event_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_is_told_by_its_content_before_its_name() {
        assert_eq!(guess("cat.txt", b"\x89PNG\r\n\x1a\n"), mime::IMAGE_PNG);
        assert_eq!(guess("notes.TXT", b"hello"), mime::TEXT_PLAIN);
        assert_eq!(guess("unknown", b"hello"), mime::APPLICATION_OCTET_STREAM);
    }
}
