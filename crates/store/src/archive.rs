//! Export and import: all rows of a snapshot in one file. The backup, and the way from one engine to another.
//!
//! ```text
//! "KOINE ARCHIVE\n" · version u16 · layout u64 · crc32 of these u32
//! frames: length u32 · crc32 u32 · payload           (the checksum covers the frame's number, u64, and the payload)
//!   01 · rows: space u8 · key length u32 · value length u32 · key · value
//!   02 · rows u64 · bytes u64                         (the last frame, and nothing behind it)
//! ```
//!
//! Numbers are big-endian. Both directions stream: memory is bounded by one frame and one batch. An import reads the
//! archive twice, first to see that it is whole, and marks the store as unfinished until its last batch.
//!
//! The identity of the data is not exported: a restored store may give positions out again that the original gave to
//! something else, so it is another store, and tokens of the original are not valid there.

use std::io::{self, Read, Seek, SeekFrom, Write};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::{
    COMMAND_BYTES_MAX, KEY_BYTES_MAX,
    batch::Batch,
    engine::{ByteRange, CommitFailure, Engine, Snapshot},
    error::{EngineError, StoreError},
    log::{FACTS, IDENTITY, LAYOUT, LAYOUT_KNOWN, RESTORING},
    table::{DomainId, Space},
    value::Value,
    view::Direction,
};

const MAGIC: &[u8; 14] = b"KOINE ARCHIVE\n";
/// The version of the format that this program writes.
const VERSION: u16 = 1;
const ROWS: u8 = 1;
const LAST: u8 = 2;
/// Space, length of the key, length of the value.
const ROW_HEAD: usize = 1 + 4 + 4;
/// A frame is written out when it is this large.
const FRAME_BYTES: usize = 256 * 1024;
/// The largest frame: one that was nearly full, then took the largest row.
const FRAME_BYTES_MAX: usize = FRAME_BYTES + ROW_HEAD + KEY_BYTES_MAX + COMMAND_BYTES_MAX;
/// An import commits when it has gathered so much.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Why an export or import did not succeed.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The file could not be read or written.
    #[error("the archive could not be read or written: {0}")]
    Io(#[from] io::Error),
    /// Some other file.
    #[error("this is not an archive of a Koine store")]
    NotAnArchive,
    /// Written by a later version.
    #[error(
        "the archive was made by a newer version of Koine ({what} {found}, this one knows {known}); restore it with \
         that version or a newer one"
    )]
    Newer {
        /// Which of the two numbers.
        what: &'static str,
        /// The number in the archive.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// Not what was written.
    #[error("the archive is damaged in part {frame}: {what}; take another copy of it. Nothing was restored")]
    Damaged {
        /// Which frame, counted from 1; 0 is the head.
        frame: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// There is something in the store already.
    #[error("the store to restore into is not empty; restore into a new data folder")]
    NotEmpty,
    /// The store to export could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store could not be written. It is unfinished: remove it and begin anew.
    #[error("the store could not be written ({0}); remove the half-restored data folder and restore again")]
    Commit(String),
}

impl From<EngineError> for ArchiveError {
    fn from(error: EngineError) -> Self {
        Self::Store(error.into())
    }
}

/// What went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Writes all rows of `snapshot` to `out`. The caller syncs and closes it.
pub fn export(snapshot: &dyn Snapshot, out: &mut impl Write) -> Result<Summary, ArchiveError> {
    let layout = snapshot.get(FACTS.space(), &fact(LAYOUT))?.map_or(Ok(LAYOUT_KNOWN), u64::decode);
    let layout = layout.map_err(|error| StoreError::Value { table: FACTS.name(), error })?;
    let skipped = [fact(LAYOUT), fact(IDENTITY)];
    let mut frames = FrameWriter::begin(out, layout)?;
    let mut summary = Summary::default();
    for space in Space::ALL {
        for row in snapshot.scan(space, ByteRange::all(), Direction::Forward) {
            let (key, value) = row?;
            if space == FACTS.space() && skipped.iter().any(|fact| *fact == key) {
                continue;
            }
            summary.rows += 1;
            summary.bytes += (key.len() + value.len()) as u64;
            frames.row(space, &key, &value)?;
        }
    }
    frames.end(summary)?;
    Ok(summary)
}

/// Reads a whole archive and says what is in it, or what is wrong with it.
pub fn verify(input: &mut impl Read) -> Result<Summary, ArchiveError> {
    FrameReader::begin(input)?.each_row(|_, _, _| Ok(()))
}

/// Fills an empty engine from an archive. Nothing is written unless the whole archive is sound. Not for an engine that
/// has a [`crate::Shard`].
pub fn import(engine: &dyn Engine, input: &mut (impl Read + Seek)) -> Result<Summary, ArchiveError> {
    let start = input.stream_position()?;
    verify(input)?;
    let snapshot = engine.snapshot();
    for space in Space::ALL {
        if snapshot.scan(space, ByteRange::all(), Direction::Forward).next().transpose()?.is_some() {
            return Err(ArchiveError::NotEmpty);
        }
    }
    input.seek(SeekFrom::Start(start))?;
    let frames = FrameReader::begin(input)?;
    let layout = frames.layout;
    let mut batch = Batch::new();
    batch.put(FACTS.space(), fact(RESTORING), Bytes::new());
    let summary = frames.each_row(|space, key, value| {
        batch.put(space, key, value);
        if batch.bytes() >= BATCH_BYTES { commit(engine, std::mem::take(&mut batch)) } else { Ok(()) }
    })?;
    batch.delete(FACTS.space(), fact(RESTORING));
    batch.put(FACTS.space(), fact(LAYOUT), Bytes::copy_from_slice(&layout.to_be_bytes()));
    batch.put(FACTS.space(), fact(IDENTITY), Bytes::copy_from_slice(&rand::random::<[u8; 8]>()));
    commit(engine, batch)?;
    Ok(summary)
}

fn commit(engine: &dyn Engine, batch: Batch) -> Result<(), ArchiveError> {
    engine.commit(batch).map_err(|failure| match failure {
        CommitFailure::Refused(reason) => ArchiveError::Commit(reason),
        CommitFailure::Broken(error) => ArchiveError::Commit(error.to_string()),
    })
}

fn fact(name: &str) -> Vec<u8> {
    FACTS.key(DomainId::HOUSE, name)
}

struct FrameWriter<'a, W> {
    out: &'a mut W,
    frame: Vec<u8>,
    number: u64,
}

impl<'a, W: Write> FrameWriter<'a, W> {
    fn begin(out: &'a mut W, layout: u64) -> Result<Self, ArchiveError> {
        let head = [MAGIC.as_slice(), &VERSION.to_be_bytes(), &layout.to_be_bytes()].concat();
        out.write_all(&head)?;
        out.write_all(&crc32fast::hash(&head).to_be_bytes())?;
        Ok(Self { out, frame: vec![ROWS], number: 0 })
    }

    fn row(&mut self, space: Space, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        if self.frame.len() >= FRAME_BYTES {
            self.flush()?;
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| io::Error::other("a row is too long"));
        self.frame.push(u8::try_from(space.number()).expect("there are few spaces"));
        self.frame.extend_from_slice(&length(key)?.to_be_bytes());
        self.frame.extend_from_slice(&length(value)?.to_be_bytes());
        self.frame.extend_from_slice(key);
        self.frame.extend_from_slice(value);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        self.number += 1;
        let length = u32::try_from(self.frame.len()).map_err(|_| io::Error::other("a row is too long"))?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&checksum(self.number, &self.frame).to_be_bytes())?;
        self.out.write_all(&self.frame)?;
        self.frame.truncate(1);
        Ok(())
    }

    fn end(mut self, summary: Summary) -> Result<(), ArchiveError> {
        if self.frame.len() > 1 {
            self.flush()?;
        }
        self.frame = [[LAST].as_slice(), &summary.rows.to_be_bytes(), &summary.bytes.to_be_bytes()].concat();
        self.flush()?;
        self.out.flush()?;
        Ok(())
    }
}

fn checksum(number: u64, frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(frame);
    hasher.finalize()
}

struct FrameReader<'a, R> {
    input: &'a mut R,
    layout: u64,
    number: u64,
}

impl<'a, R: Read> FrameReader<'a, R> {
    fn begin(input: &'a mut R) -> Result<Self, ArchiveError> {
        let mut head = [0; MAGIC.len() + 2 + 8];
        match input.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ArchiveError::NotAnArchive),
            read => read?,
        }
        let Some(([v0, v1], layout)) = head.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk()) else {
            return Err(ArchiveError::NotAnArchive);
        };
        let layout = u64::from_be_bytes(layout.try_into().expect("eight bytes are left"));
        let mut this = Self { input, layout, number: 0 };
        let mut sum = [0; 4];
        this.exact(&mut sum)?;
        if u32::from_be_bytes(sum) != crc32fast::hash(&head) {
            return Err(this.damaged("its head was changed"));
        }
        for (what, found, known) in [
            ("format", u64::from(u16::from_be_bytes([*v0, *v1])), u64::from(VERSION)),
            ("layout", layout, LAYOUT_KNOWN),
        ] {
            if found > known {
                return Err(ArchiveError::Newer { what, found, known });
            }
        }
        Ok(this)
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Damaged { frame: self.number, what }
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends early"),
            _ => error.into(),
        })
    }

    /// The next frame, its checksum checked.
    fn frame(&mut self) -> Result<Bytes, ArchiveError> {
        self.number += 1;
        let mut head = [0; 8];
        self.exact(&mut head)?;
        let [l0, l1, l2, l3, sum @ ..] = head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(self.damaged("a length makes no sense"));
        }
        let mut frame = BytesMut::zeroed(length);
        self.exact(&mut frame)?;
        if checksum(self.number, &frame) != u32::from_be_bytes(sum) {
            return Err(self.damaged("a checksum is wrong"));
        }
        Ok(frame.freeze())
    }

    fn each_row(
        mut self,
        mut row: impl FnMut(Space, Bytes, Bytes) -> Result<(), ArchiveError>,
    ) -> Result<Summary, ArchiveError> {
        let mut summary = Summary::default();
        loop {
            let mut frame = self.frame()?;
            match frame.split_to(1)[0] {
                ROWS => {}
                LAST => return self.end(&frame, summary),
                _ => return Err(self.damaged("a part is of an unknown kind")),
            }
            while !frame.is_empty() {
                let (space, key, value) = take_row(&mut frame).ok_or_else(|| self.damaged("a row makes no sense"))?;
                summary.rows += 1;
                summary.bytes += (key.len() + value.len()) as u64;
                row(space, key, value)?;
            }
        }
    }

    fn end(self, frame: &[u8], summary: Summary) -> Result<Summary, ArchiveError> {
        if frame != [summary.rows.to_be_bytes(), summary.bytes.to_be_bytes()].concat() {
            return Err(self.damaged("rows are missing"));
        }
        match self.input.read(&mut [0])? {
            0 => Ok(summary),
            _ => Err(self.damaged("something follows its end")),
        }
    }
}

fn take_row(frame: &mut Bytes) -> Option<(Space, Bytes, Bytes)> {
    if frame.len() < ROW_HEAD {
        return None;
    }
    let head = frame.split_to(ROW_HEAD);
    let length = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (key, value) = (length(1), length(5));
    let space = *Space::ALL.get(usize::from(head[0]))?;
    if key == 0 || key > KEY_BYTES_MAX || frame.len() < key + value {
        return None;
    }
    Some((space, frame.split_to(key), frame.split_to(value)))
}
