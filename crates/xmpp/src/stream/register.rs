//! Making an account before logging in. [XEP-0077 §3.1] Where not everybody may, an invitation goes before it. [XEP-0445]

use koine_account::{Class, CreateError, LimitKey, NewAccount, Secret};
use koine_stanza::{Condition, Element, StanzaError, ns};

use super::{
    client::Negotiation,
    transport::{Broken, Transport},
};
use crate::{iq, xep::invite};

/// Accounts made on one stream.
const MADE_MAX: u32 = 3;

impl Negotiation {
    /// Whether a request of somebody who has no account yet may be about making one.
    pub(super) fn may_register(&self, request: &Element) -> bool {
        let invited = self.invitation.is_some() || request.has_child("preauth", invite::PREAUTH);
        invited || self.core().config().registration
    }

    /// Answers a request of somebody who has no account yet; anything but registration is refused.
    pub(super) async fn register(&mut self, transport: &mut dyn Transport, request: &Element) -> Result<(), Broken> {
        let preauth = request.child("preauth", invite::PREAUTH).filter(|_| request.kind() == Some("set"));
        let may = self.core().config().registration || self.invitation.is_some();
        let answer = match request.child("query", ns::REGISTER) {
            _ if preauth.is_some() => self.preauth(preauth),
            Some(query) if may => self.answer(request, query).await,
            Some(_) => Err(StanzaError::new(Condition::NotAllowed, "an account takes an invitation here")),
            None => Err(StanzaError::new(Condition::NotAuthorized, "log in first")),
        };
        let answer = match answer {
            Ok(payload) => Some(iq::result(request, payload)),
            Err(error) => error.answer(request),
        };
        if let Some(answer) = answer {
            transport.send(&answer);
        }
        Ok(())
    }

    /// [XEP-0445 §preauth-ibr] It counts as used when there is an account.
    fn preauth(&mut self, preauth: Option<&Element>) -> Result<Option<Element>, StanzaError> {
        let permitted = self.core().accounts().permit(Class::Registration, LimitKey::Address(self.address)).is_ok();
        let Some(preauth) = preauth.filter(|_| permitted) else {
            return Err(StanzaError::new(Condition::ResourceConstraint, "too many invitations were tried"));
        };
        self.invitation = Some(invite::good_token(self.core(), preauth)?);
        Ok(None)
    }

    async fn answer(&mut self, request: &Element, query: &Element) -> Result<Option<Element>, StanzaError> {
        match request.kind() {
            Some("get") => {
                let text = "Choose a name and a password.";
                let form = Element::new("query", ns::REGISTER)
                    .with_child(Element::text_of("instructions", ns::REGISTER, text))
                    .with_child(Element::new("username", ns::REGISTER))
                    .with_child(Element::new("password", ns::REGISTER));
                Ok(Some(form))
            }
            Some("set") => self.make_account(query).await.map(|()| None),
            _ => Err(Condition::BadRequest.into()),
        }
    }

    async fn make_account(&mut self, query: &Element) -> Result<(), StanzaError> {
        let field = |name| query.child_text(name, ns::REGISTER).filter(|text| !text.is_empty());
        let (Some(name), Some(password)) = (field("username"), field("password")) else {
            return Err(StanzaError::new(Condition::NotAcceptable, "a name and a password are needed"));
        };
        let accounts = self.core().accounts().clone();
        let permitted = accounts.permit(Class::Registration, LimitKey::Address(self.address)).is_ok();
        if !permitted || self.made >= MADE_MAX {
            return Err(StanzaError::new(Condition::ResourceConstraint, "too many new accounts; try again later"));
        }
        let name = koine_stanza::local_part(&name)
            .map_err(|_| StanzaError::new(Condition::JidMalformed, "this cannot be a name"))?;
        let account = NewAccount {
            name: Some(name.into_owned()),
            password: Some(Secret::from(password)),
            registration_token: self.invitation.clone(),
            ..NewAccount::default()
        };
        match accounts.create(account).await {
            Ok((user, _)) => {
                self.made += 1;
                if let Some(token) = self.invitation.take() {
                    Box::pin(invite::redeemed(&self.core().clone(), &user, &token)).await;
                }
                Ok(())
            }
            Err(CreateError::Invitation(error)) => Err(StanzaError::new(Condition::NotAllowed, error.to_string())),
            Err(CreateError::NameTaken) => Err(StanzaError::new(Condition::Conflict, "somebody has this name")),
            Err(error @ CreateError::Reserved) => Err(StanzaError::new(Condition::Conflict, error.to_string())),
            Err(error @ (CreateError::Name(_) | CreateError::Password(_))) => {
                Err(StanzaError::new(Condition::NotAcceptable, error.to_string()))
            }
            Err(CreateError::Busy(_)) => Err(Condition::ResourceConstraint.into()),
            Err(error) => {
                tracing::error!(reason = %error, "an account could not be made");
                Err(Condition::InternalServerError.into())
            }
        }
    }
}
