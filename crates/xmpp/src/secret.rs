//! A secret of the server, made once: what outsiders must not be able to work out is made with it.

use koine_store::{DomainId, Shard, Space, Table};

/// () → the secret.
const SECRET: Table<u8, Vec<u8>> = Table::new("xmpp.secret", Space::Index, 0x80);
/// The only row.
const ROW: u8 = 0;

/// The secret of a domain, made when there is none. Blocks for as long as the store takes.
///
/// # Errors
/// The store's words, if it cannot be read or written.
pub(crate) fn open(shard: &Shard, domain: DomainId) -> Result<[u8; 32], String> {
    let read = || -> Result<Option<[u8; 32]>, String> {
        let row = shard.get(&SECRET, domain, &ROW).map_err(|error| error.to_string())?;
        Ok(row.and_then(|bytes| bytes.try_into().ok()))
    };
    if let Some(secret) = read()? {
        return Ok(secret);
    }
    let new: [u8; 32] = rand::random();
    let made = shard.submit(move |txn| {
        if !matches!(txn.get(&SECRET, domain, &ROW), Ok(Some(_))) {
            txn.put(&SECRET, domain, &ROW, &new.to_vec());
        }
    });
    made.wait().map_err(|error| error.to_string())?;
    read()?.ok_or_else(|| "the secret that was written is not there".to_owned())
}
