//! The on-disk engine, the default: fjall, an LSM tree, in one folder.
//!
//! One keyspace of fjall per [`koine_store::Space`], all sharing one journal; a commit is one batch of the journal and
//! one `fdatasync`. What fjall writes is fjall's business; what stands around it is ours:
//!
//! ```text
//! store/
//! ├── FORMAT    one line: whose folder this is, and in which format
//! ├── LOCK      held while a process uses it
//! └── db/       fjall's
//! ```
//!
//! Opening changes nothing before it knows that the folder is ours, whole, and of a format it knows ([`OpenError`] says
//! what to do otherwise). fjall quietly cuts a journal at the first place it cannot read, which is right for the torn
//! end that a crash leaves and wrong for anything else; `journal.rs` tells the two apart beforehand.
//!
//! A full disk: commits are refused while less than [`EmbeddedConfig::reserve_bytes`] is free, before anything is
//! written; reads go on. The reserve is what fjall needs to tidy up in the background.
//!
//! What is not here: backups ([`koine_store::export`]), media content, and any meaning of the bytes.

mod config;
mod engine;
mod folder;
mod journal;

pub use self::{
    config::{CACHE_BYTES_DEFAULT, EmbeddedConfig, RESERVE_BYTES_DEFAULT},
    engine::EmbeddedEngine,
    folder::OpenError,
};
