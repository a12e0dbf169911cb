//! User-interactive authentication: a request that has to be asked for in stages.
//!
//! [CS-API §user-interactive-authentication-api]. A session belongs to one purpose: who passed the stages of one request
//! has not passed those of another. Sessions live in memory only, bounded in number and time; a client whose session is
//! gone is given a new one.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use ruma_common::{OwnedUserId, UserId};

use crate::{
    Accounts, Busy, Class, LimitExceeded, LimitKey, LoginError, Registration, Secret, StoreUnavailable, names, secret,
};

/// How many sessions there may be; the oldest gives way.
const SESSIONS_MAX: usize = 10_000;
/// How long a session lives.
const SESSION_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// How long the ids of sessions are.
const SESSION_ID_LENGTH: usize = 24;

/// A stage of authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `m.login.dummy`: nothing to prove.
    Dummy,
    /// `m.login.password`
    Password,
    /// `m.login.registration_token`
    RegistrationToken,
}

impl Stage {
    /// Its name in the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dummy => "m.login.dummy",
            Self::Password => "m.login.password",
            Self::RegistrationToken => "m.login.registration_token",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Dummy, Self::Password, Self::RegistrationToken].into_iter().find(|stage| stage.as_str() == name)
    }
}

/// What the stages are passed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Making an account.
    Register,
    /// Something that the owner of an account alone may do.
    Owner {
        /// Who has to prove that they are.
        user_id: OwnedUserId,
        /// What for; any constant text that tells it from other things.
        operation: &'static str,
    },
}

/// What a client says in one step. What it did not say is `None`.
#[derive(Debug, Clone, Default)]
pub struct AuthData {
    /// The stage it tries.
    pub stage: Option<String>,
    /// The session it goes on with.
    pub session: Option<String>,
    /// For the password stage: a user id or local part.
    pub user: Option<String>,
    /// For the password stage.
    pub password: Option<Secret>,
    /// For the stage of registration tokens.
    pub token: Option<String>,
}

/// What has to be done still. Every protocol has a form for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// What to name in the next step.
    pub session: String,
    /// The sequences of stages to choose from.
    pub flows: Vec<Vec<Stage>>,
    /// The stages passed.
    pub completed: Vec<Stage>,
    /// Why the last step failed, if it did.
    pub failure: Option<StageFailure>,
}

/// Why a step failed that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StageFailure {
    /// Not the password.
    #[error("the password is wrong")]
    WrongPassword,
    /// Not a valid registration token.
    #[error("the registration token is not valid")]
    InvalidToken,
    /// A stage that no flow has.
    #[error("this stage is not part of any flow")]
    UnknownStage,
    /// A stage without what it needs.
    #[error("the stage lacks what it needs")]
    Incomplete,
}

/// All stages of a flow are passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    session: String,
    /// The registration token that was shown on the way.
    pub registration_token: Option<String>,
}

/// What came of a step.
#[derive(Debug, thiserror::Error)]
pub enum InteractError {
    /// Go on with this.
    #[error("more has to be proven")]
    Challenge(Box<Challenge>),
    /// A valid password, of somebody else's account.
    #[error("this is somebody else's account")]
    OtherUser,
    /// Nobody makes accounts here but admins.
    #[error("registration is closed")]
    RegistrationClosed,
    /// Too many attempts.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// See there.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Sessions that are under way.
#[derive(Debug, Default)]
pub(crate) struct InteractiveSessions(Mutex<HashMap<String, InteractiveSession>>);

#[derive(Debug, Clone)]
struct InteractiveSession {
    purpose: Purpose,
    started: Duration,
    completed: Vec<Stage>,
    registration_token: Option<String>,
}

impl Accounts {
    /// One step: `auth` as the client sent it, if it sent any. `Ok` when nothing is left to prove; then
    /// [`Accounts::interaction_done`] is to be told once the purpose is fulfilled.
    pub async fn interact(&self, purpose: &Purpose, auth: Option<AuthData>) -> Result<Passed, InteractError> {
        let flows = self.flows(purpose)?;
        let now = self.uptime();
        let auth = auth.unwrap_or_default();
        let (id, mut session) = self.interactive.continue_or_start(auth.session.as_deref(), purpose, now);

        let mut failure = None;
        if let Some(name) = auth.stage.as_deref() {
            let next = flows.iter().filter_map(|flow| flow.strip_prefix(&session.completed[..])?.first().copied());
            let next: Vec<Stage> = next.collect();
            match Stage::named(name) {
                // [CS-API §user-interactive-api-in-the-rest-api] Stages that are passed cannot be tried again.
                Some(stage) if session.completed.contains(&stage) => {}
                Some(stage) if next.contains(&stage) => {
                    match self.try_stage(stage, &auth, purpose, &mut session).await? {
                        None => session.completed.push(stage),
                        Some(failed) => failure = Some(failed),
                    }
                }
                _ => failure = Some(StageFailure::UnknownStage),
            }
        }
        self.interactive.keep(&id, &session, now);
        if flows.contains(&session.completed) {
            return Ok(Passed { session: id, registration_token: session.registration_token });
        }
        Err(InteractError::Challenge(Box::new(Challenge { session: id, flows, completed: session.completed, failure })))
    }

    /// What the stages were passed for is done, so that they are worth nothing any more.
    pub fn interaction_done(&self, passed: &Passed) {
        self.interactive.0.lock().remove(&passed.session);
    }

    fn flows(&self, purpose: &Purpose) -> Result<Vec<Vec<Stage>>, InteractError> {
        match (purpose, self.config.registration) {
            (Purpose::Owner { .. }, _) => Ok(vec![vec![Stage::Password]]),
            (Purpose::Register, Registration::Open) => Ok(vec![vec![Stage::Dummy]]),
            (Purpose::Register, Registration::Token) => Ok(vec![vec![Stage::RegistrationToken]]),
            (Purpose::Register, Registration::Closed) => Err(InteractError::RegistrationClosed),
        }
    }

    async fn try_stage(
        &self,
        stage: Stage,
        auth: &AuthData,
        purpose: &Purpose,
        session: &mut InteractiveSession,
    ) -> Result<Option<StageFailure>, InteractError> {
        match (stage, purpose) {
            (Stage::Dummy, _) => Ok(None),
            (Stage::Password, Purpose::Owner { user_id, .. }) => self.try_password(user_id, auth).await,
            (Stage::RegistrationToken, Purpose::Register) => {
                let Some(token) = auth.token.as_deref() else { return Ok(Some(StageFailure::Incomplete)) };
                if !self.is_registration_token_valid(token)? {
                    return Ok(Some(StageFailure::InvalidToken));
                }
                session.registration_token = Some(token.to_owned());
                Ok(None)
            }
            // No flow of the one purpose has the stage of the other.
            (Stage::Password, Purpose::Register) | (Stage::RegistrationToken, Purpose::Owner { .. }) => {
                Ok(Some(StageFailure::UnknownStage))
            }
        }
    }

    async fn try_password(&self, user_id: &UserId, auth: &AuthData) -> Result<Option<StageFailure>, InteractError> {
        let Some(password) = auth.password.clone() else { return Ok(Some(StageFailure::Incomplete)) };
        self.permit(Class::Login, LimitKey::User(user_id))?;
        // Who is asking is known already; a client that does not say it again means the same.
        let name = auth.user.as_deref().unwrap_or(user_id.as_str());
        let is_same =
            names::meant_localparts(name, &self.server_name).iter().any(|localpart| localpart == user_id.localpart());
        match self.log_in(if is_same { user_id.as_str() } else { name }, password).await {
            Ok(proven) if proven == user_id => Ok(None),
            Ok(_) => Err(InteractError::OtherUser),
            Err(LoginError::WrongPassword | LoginError::UserDeactivated) => Ok(Some(StageFailure::WrongPassword)),
            Err(LoginError::Busy(error)) => Err(error.into()),
            Err(LoginError::Store(error)) => Err(error.into()),
        }
    }
}

impl InteractiveSessions {
    /// The session of this id, if it is there and for this purpose; otherwise a new one.
    fn continue_or_start(&self, id: Option<&str>, purpose: &Purpose, now: Duration) -> (String, InteractiveSession) {
        let sessions = self.0.lock();
        if let Some(id) = id
            && let Some(session) = sessions.get(id)
            && session.purpose == *purpose
            && now < session.started + SESSION_AGE_MAX
        {
            return (id.to_owned(), session.clone());
        }
        let id = secret::new_name(SESSION_ID_LENGTH, secret::LOWER_CASE, &mut rand::rng());
        let session = InteractiveSession {
            purpose: purpose.clone(),
            started: now,
            completed: Vec::new(),
            registration_token: None,
        };
        (id, session)
    }

    fn keep(&self, id: &str, session: &InteractiveSession, now: Duration) {
        let mut sessions = self.0.lock();
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(id) {
            sessions.retain(|_, session| now < session.started + SESSION_AGE_MAX);
            if sessions.len() >= SESSIONS_MAX
                && let Some(oldest) =
                    sessions.iter().min_by_key(|(_, session)| session.started).map(|(id, _)| id.clone())
            {
                sessions.remove(&oldest);
            }
        }
        sessions.insert(id.to_owned(), session.clone());
    }

    /// How many are about to make an account with this token.
    pub(crate) fn pending(&self, token: &str, now: Duration) -> u64 {
        let sessions = self.0.lock();
        let pending = sessions.values().filter(|session| {
            session.registration_token.as_deref() == Some(token) && now < session.started + SESSION_AGE_MAX
        });
        pending.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_bounded_and_die() {
        let sessions = InteractiveSessions::default();
        let mut first = String::new();
        for number in 0..SESSIONS_MAX + 5 {
            let now = Duration::from_millis(number as u64 / 10);
            let (id, session) = sessions.continue_or_start(None, &Purpose::Register, now);
            sessions.keep(&id, &session, now);
            if number == 0 {
                first = id;
            }
        }
        assert_eq!(sessions.0.lock().len(), SESSIONS_MAX);
        let again = |id: &str, now| sessions.continue_or_start(Some(id), &Purpose::Register, now).0 == id;
        let last = sessions.0.lock().keys().next().cloned().expect("there are many");
        assert!(again(&last, Duration::from_secs(60)));
        assert!(!again(&last, SESSION_AGE_MAX * 2));
        let _ = first;
    }

    #[test]
    fn a_session_serves_one_purpose_only() {
        let sessions = InteractiveSessions::default();
        let (id, session) = sessions.continue_or_start(None, &Purpose::Register, Duration::ZERO);
        sessions.keep(&id, &session, Duration::ZERO);
        let user_id = ruma_common::owned_user_id!("@alice:example.org");
        let other = Purpose::Owner { user_id, operation: "deactivate" };
        assert_ne!(sessions.continue_or_start(Some(&id), &other, Duration::ZERO).0, id);
    }
}
