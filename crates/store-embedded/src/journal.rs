//! Tells a journal that a crash cut short from one that is damaged, without touching it.
//!
//! A batch in fjall's journal (3.1.13, little-endian):
//!
//! ```text
//! 01 · items u32 · sequence number u64
//!   02 · kind u8 · compression u8 · keyspace u64 · key length u16 · value length u32 · length on disk u32 · key · value
//!   04 · keyspace u64                        (a cleared keyspace; we never do that)
//! 03 · xxh3 of the items u64 · "FJL" 03
//! ```
//!
//! We sync after every batch, so a crash can leave at most one unreadable batch, the last, never acknowledged, with
//! nothing behind it but the zeros the file was made with or parts of that same batch. Whatever is unreadable and is
//! followed by a whole batch with a right checksum was readable once: that journal is damaged, and opening it would
//! silently lose what follows. Damage in the very last batch cannot be told from a crash.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: [u8; 4] = *b"FJL\x03";
/// Bytes of a start marker.
const START_BYTES: usize = 1 + 4 + 8;
/// Longest value we could have written, with room to spare: a longer one is not a value.
const VALUE_BYTES_MAX: usize = 2 * koine_store::COMMAND_BYTES_MAX;

/// Looks at all journals in `db`: `Ok(Err(what is wrong))`.
pub(crate) fn inspect(db: &Path) -> io::Result<Result<(), String>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(db)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
            match number {
                Some(number) => journals.push((number, path)),
                None => return Ok(Err(format!("{} is not the name of a journal", path.display()))),
            }
        }
    }
    journals.sort();
    if journals.is_empty() {
        return Ok(Err("the journal db/*.jnl is missing".to_owned()));
    }
    if let Some(gap) = journals.windows(2).find(|pair| pair[1].0 != pair[0].0 + 1) {
        return Ok(Err(format!("the journal db/{}.jnl is missing", gap[0].0 + 1)));
    }
    for (_, path) in journals {
        if let Some(at) = damage(&path)? {
            return Ok(Err(format!("the journal {} cannot be read from byte {at} on", name(&path))));
        }
    }
    Ok(Ok(()))
}

fn name(path: &Path) -> String {
    let file: PathBuf = path.iter().skip(path.iter().count().saturating_sub(2)).collect();
    file.display().to_string()
}

/// Where the journal is damaged, if it is.
fn damage(path: &Path) -> io::Result<Option<u64>> {
    let mut reader = Reader { inner: BufReader::with_capacity(64 * 1024, File::open(path)?), at: 0 };
    let mut newest = None;
    let broken = loop {
        let start = reader.at;
        match reader.batch() {
            // Sequence numbers only grow.
            Ok(sequence) if newest.is_none_or(|newest| sequence > newest) => newest = Some(sequence),
            Ok(_) => break start,
            Err(Stop::Unreadable) => break start,
            Err(Stop::Io(error)) => return Err(error),
        }
    };
    reader.batch_after(broken).map(|found| found.then_some(broken))
}

enum Stop {
    /// Not a batch, or not all of one.
    Unreadable,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Unreadable } else { Self::Io(error) }
    }
}

struct Reader {
    inner: BufReader<File>,
    at: u64,
}

impl Reader {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    /// Reads one batch and gives its sequence number.
    fn batch(&mut self) -> Result<u64, Stop> {
        let [START] = self.bytes()? else { return Err(Stop::Unreadable) };
        let items = u32::from_le_bytes(self.bytes()?);
        let sequence = u64::from_le_bytes(self.bytes()?);
        let mut hasher = Xxh3::new();
        for _ in 0..items {
            self.item(&mut hasher)?;
        }
        let [END] = self.bytes()? else { return Err(Stop::Unreadable) };
        let checksum = u64::from_le_bytes(self.bytes()?);
        let magic = self.bytes()?;
        if magic == MAGIC && checksum == hasher.digest() { Ok(sequence) } else { Err(Stop::Unreadable) }
    }

    fn item(&mut self, hasher: &mut Xxh3) -> Result<(), Stop> {
        let [tag] = self.bytes()?;
        hasher.update(&[tag]);
        match tag {
            ITEM => {}
            CLEAR => {
                hasher.update(&self.bytes::<8>()?);
                return Ok(());
            }
            _ => return Err(Stop::Unreadable),
        }
        // kind, compression, keyspace
        hasher.update(&self.bytes::<10>()?);
        let lengths = self.bytes::<10>()?;
        hasher.update(&lengths);
        let [k0, k1, _, _, _, _, v0, v1, v2, v3] = lengths;
        let length = usize::from(u16::from_le_bytes([k0, k1])) + u32::from_le_bytes([v0, v1, v2, v3]) as usize;
        if length > VALUE_BYTES_MAX {
            return Err(Stop::Unreadable);
        }
        let mut rest = length;
        let mut chunk = [0; 4096];
        while rest > 0 {
            let part = &mut chunk[..rest.min(4096)];
            self.inner.read_exact(part)?;
            hasher.update(part);
            rest -= part.len();
        }
        self.at += length as u64;
        Ok(())
    }

    /// A whole batch begins somewhere behind `broken`.
    fn batch_after(&mut self, broken: u64) -> io::Result<bool> {
        let end = self.last_block(broken)?.unwrap_or(broken);
        self.inner.seek(SeekFrom::Start(broken))?;
        let mut rest = Vec::new();
        self.inner.by_ref().take((end - broken).min(REST_BYTES_MAX)).read_to_end(&mut rest)?;
        for at in 1..rest.len() {
            // A start marker with an item behind it, or bytes that look so by chance.
            if rest[at] != START || rest.get(at + START_BYTES) != Some(&ITEM) {
                continue;
            }
            self.inner.seek(SeekFrom::Start(broken + at as u64))?;
            match self.batch() {
                Ok(_) => return Ok(true),
                Err(Stop::Unreadable) => {}
                Err(Stop::Io(error)) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Where the last block ends, from `start` on, that is not all zeros. Behind it are only the zeros that the file was
    /// made with: megabytes of them, usually.
    fn last_block(&mut self, start: u64) -> io::Result<Option<u64>> {
        self.inner.seek(SeekFrom::Start(start))?;
        let mut block = vec![0; ZEROS.len()];
        let (mut at, mut end) = (start, None);
        loop {
            let length = self.inner.read(&mut block)?;
            if length == 0 {
                return Ok(end);
            }
            at += length as u64;
            if block[..length] != ZEROS[..length] {
                end = Some(at);
            }
        }
    }
}

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A journal is changed for a new one at 64 MB, give or take a batch.
const REST_BYTES_MAX: u64 = 256 * 1024 * 1024;
