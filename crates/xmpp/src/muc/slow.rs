//! XEP-0500: MUC Slow Mode: how long somebody waits between two messages. It binds those who write by XMPP.

use std::collections::HashMap;

use koine_projection::muc::Affiliation;
use koine_stanza::{
    Condition, Element, ErrorType, StanzaError,
    form::{Field, Valid},
    ns,
};
use ruma_common::{OwnedUserId, UserId};

use super::settings::Settings;

/// Longest time between two messages, in seconds.
pub(super) const SLOW_MAX_S: u64 = 86_400;
/// People of whom it is remembered when they spoke; those who may speak again make room.
const SPEAKERS_MAX: usize = 10_000;

/// When people spoke, in milliseconds.
pub(super) type Spoke = HashMap<OwnedUserId, u64>;

/// The field of the form of settings. [XEP-0500 §muc-configuration-activation]
pub(super) fn configured(settings: &Settings) -> Field {
    let label = "Seconds between two messages of somebody (0: any number)";
    Field::text("muc#roomconfig_slow_mode_duration", label, &settings.own.slow_mode_s.to_string())
        .with_valid(Valid::integer(0, SLOW_MAX_S))
}

/// The field of what the room tells of itself. [XEP-0500 §client-discovering]
pub(super) fn told(settings: &Settings) -> Field {
    let label = "Seconds between two messages of somebody";
    Field::text("muc#roominfo_slow_mode_duration", label, &settings.own.slow_mode_s.to_string())
}

/// Whether somebody may say something now; if so, it is noted. [XEP-0500 §server-side-rate-limiting]
pub(super) fn may_speak(
    settings: &Settings,
    spoke: &mut Spoke,
    (user, affiliation): (&UserId, Affiliation),
    message: &Element,
    now_ms: u64,
) -> Result<(), StanzaError> {
    let wait_ms = settings.own.slow_mode_s.saturating_mul(1_000);
    if wait_ms == 0 || affiliation >= Affiliation::Admin || !message.has_child("body", ns::CLIENT) {
        return Ok(());
    }
    if spoke.get(user).is_some_and(|last| now_ms < last.saturating_add(wait_ms)) {
        let text = format!("this room is slow: wait {} seconds between two messages", settings.own.slow_mode_s);
        return Err(StanzaError::new(Condition::PolicyViolation, text).with_type(ErrorType::Wait));
    }
    if spoke.len() >= SPEAKERS_MAX {
        spoke.retain(|_, last| now_ms < last.saturating_add(wait_ms));
    }
    spoke.insert(user.to_owned(), now_ms);
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;

    use super::*;

    #[test]
    fn who_spoke_waits_and_admins_do_not() {
        let mut settings = Settings::default();
        settings.own.slow_mode_s = 20;
        let message = Element::new("message", ns::CLIENT).with_child(Element::text_of("body", ns::CLIENT, "x"));
        let mut spoke = Spoke::new();
        let bob = user_id!("@bob:example.org");
        let mut say = |who, now| may_speak(&settings, &mut spoke, (bob, who), &message, now);
        assert!(say(Affiliation::None, 1_000).is_ok());
        let refused = say(Affiliation::None, 20_999).expect_err("too soon");
        assert_eq!((refused.condition, refused.kind), (Condition::PolicyViolation, ErrorType::Wait));
        assert!(say(Affiliation::Admin, 2_000).is_ok());
        assert!(say(Affiliation::None, 21_000).is_ok());
        let state = Element::new("message", ns::CLIENT).with_child(Element::new("active", ns::CHAT_STATES));
        assert!(may_speak(&settings, &mut spoke, (bob, Affiliation::None), &state, 21_001).is_ok());
    }
}
