//! Transaction ids are remembered so that a request told twice has one effect; after a day nobody tells it again.
//! [CS-API §transaction-identifiers]

use koine_store::Direction;
use ruma_common::{EventId, MilliSecondsSinceUnixEpoch};

use crate::{error::CommandError, registry::Rooms, tables::TXN};

/// How long a transaction id is remembered.
pub const TXN_KEPT_MS: u64 = 24 * 3_600 * 1_000;
/// Rows looked at in one go.
pub const TXN_LOOK_MAX: usize = 5_000;

/// Where in the table a walk goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnPlace(Option<(String, String, String, String)>);

impl TxnPlace {
    /// Nothing was looked at, or everything.
    pub fn is_at_the_start(&self) -> bool {
        self.0.is_none()
    }
}

impl Rooms {
    /// Forgets the old ones among the next rows of the table of transaction ids. How many, and where to go on: after the
    /// last row it begins anew.
    pub async fn forget_transactions(
        &self,
        place: TxnPlace,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<(usize, TxnPlace), CommandError> {
        let domain = self.core.domain();
        let oldest = u64::from(now.get()).saturating_sub(TXN_KEPT_MS);
        let start = place.0.unwrap_or_default();
        let rows: Vec<_> = {
            let view = self.core.shard.view();
            view.scan(&TXN, domain, start.., Direction::Forward).take(TXN_LOOK_MAX).collect::<Result<_, _>>()?
        };
        let next = match rows.last() {
            Some((last, _)) if rows.len() == TXN_LOOK_MAX => TxnPlace(Some(last.clone())),
            _ => TxnPlace::default(),
        };
        let mut old = Vec::new();
        for (key, event_id) in rows {
            // What else stands here has a life of its own.
            let Ok(id) = <&EventId>::try_from(event_id.as_str()) else { continue };
            let Some(placed) = self.core.event(id)? else { continue };
            if u64::from(placed.event.origin_server_ts().get()) < oldest {
                old.push(key);
            }
        }
        let count = old.len();
        if count > 0 {
            self.core
                .shard
                .submit(move |txn| {
                    for key in &old {
                        txn.delete(&TXN, domain, key);
                    }
                })
                .await?;
        }
        Ok((count, next))
    }
}
