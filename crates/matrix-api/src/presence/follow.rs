//! Carries changes of presence to the connected people who share a room, because accounts know nothing of rooms; and
//! those of our own to other servers.

use std::time::Duration;

use koine_account::Presences;

use crate::Api;

/// How often it is looked who went away or became idle.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Changes within this time are told together, and only as they are at its end.
const GATHERING: Duration = Duration::from_millis(50);

pub(super) fn start(api: &Api) {
    let weak = api.downgrade();
    let presences: Presences = api.accounts.presences().clone();
    tokio::spawn(async move {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            let changed = tokio::select! {
                changed = presences.changed() => changed,
                _ = sweep.tick() => {
                    if weak.upgrade().is_none() {
                        return;
                    }
                    presences.sweep();
                    continue;
                }
            };
            let Some(api) = weak.upgrade() else { return };
            for (person, user) in changed {
                if let Err(error) = api.rooms.presence_changed(&user, person) {
                    tracing::error!(user_id = %user, reason = %error, "a change of presence could not be told");
                }
                if api.accounts.is_local(&user) {
                    let presence = presences.get(&user).unwrap_or_default();
                    api.rooms.tell_presence(&user, &super::content(&presence));
                }
            }
            drop(api);
            tokio::time::sleep(GATHERING).await;
        }
    });
}
