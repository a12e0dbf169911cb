//! A folder instead of the world: every mail becomes a file of a Maildir, which mail programs can open.
//!
//! A file is written under `tmp/` and synced, and then moved to `new/`: whoever looks there sees whole mails only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Puts a mail there.
pub(crate) async fn deliver(
    folder: &Path,
    name: String,
    (from, to): (&str, &str),
    mail: Vec<u8>,
) -> io::Result<PathBuf> {
    let folder = folder.to_owned();
    let head = format!("Return-Path: <{from}>\r\nX-Original-To: {to}\r\n");
    let written = tokio::task::spawn_blocking(move || write(&folder, &name, head.as_bytes(), &mail));
    written.await.map_err(io::Error::other)?
}

fn write(folder: &Path, name: &str, head: &[u8], mail: &[u8]) -> io::Result<PathBuf> {
    for part in ["tmp", "new", "cur"] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(part))?;
    }
    let (under_way, there) = (folder.join("tmp").join(name), folder.join("new").join(name));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&under_way)?;
    file.write_all(head)?;
    file.write_all(mail)?;
    file.sync_all()?;
    fs::rename(&under_way, &there)?;
    File::open(folder.join("new"))?.sync_all()?;
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mail_appears_whole_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("outbox");
        let mail = b"Subject: x\r\n\r\ny\r\n".to_vec();
        let path =
            deliver(&place, "1.host".into(), ("a@b.example", "c@d.example"), mail).await.expect("a writable folder");
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text, "Return-Path: <a@b.example>\r\nX-Original-To: c@d.example\r\nSubject: x\r\n\r\ny\r\n");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(place.join("tmp")).expect("a folder").count(), 0);
    }
}
