//! XEP-0049: Private XML Storage.

use std::sync::Arc;

use koine_account::{Drawer, KeepError};
use koine_stanza::{Condition, Element, StanzaError};

use super::{bookmarks, pep::parse};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const PRIVATE: &str = "jabber:iq:private";

/// Asked of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, PRIVATE)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "query",
            ns: PRIVATE,
            run: |core, request| Box::pin(get(core, request)),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "query",
            ns: PRIVATE,
            run: |core, request| Box::pin(set(core, request)),
        },
    ],
};

/// Under which name an element is kept.
fn name(element: &Element) -> String {
    format!("{} {}", element.name(), element.ns())
}

/// What a request is about: elements of other namespaces.
fn things(request: &Request) -> Result<Vec<&Element>, StanzaError> {
    let things: Vec<&Element> = request.payload.children().collect();
    // [XEP-0049 §errors]
    if things.is_empty() || things.iter().any(|thing| thing.ns() == PRIVATE || thing.ns().is_empty()) {
        return Err(StanzaError::new(
            Condition::BadRequest,
            "say what is kept, by an element of a namespace of its own",
        ));
    }
    Ok(things)
}

async fn get(core: Arc<Core>, request: Request) -> Answer {
    let user = request.own_session()?.user().clone();
    let mut query = Element::new("query", PRIVATE);
    for thing in things(&request)? {
        if thing.is("storage", bookmarks::OLD) {
            query.push(bookmarks::old_form(&core, &user).await);
            continue;
        }
        let kept = core.accounts().kept(&user, Drawer::Private, &name(thing)).map_err(|error| unkept(&error.into()))?;
        let kept = kept.and_then(|kept| parse(&kept));
        query.push(kept.unwrap_or_else(|| Element::new(thing.name().to_owned(), thing.ns().to_owned())));
    }
    Ok(Some(query))
}

async fn set(core: Arc<Core>, request: Request) -> Answer {
    let user = request.own_session()?.user().clone();
    for thing in things(&request)? {
        if thing.is("storage", bookmarks::OLD) {
            bookmarks::take_old_form(&core, &user, thing).await;
            continue;
        }
        let kept = core.accounts().keep(&user, Drawer::Private, &name(thing), Some(thing.to_xml())).await;
        kept.map_err(|error| unkept(&error))?;
    }
    Ok(None)
}

fn unkept(error: &KeepError) -> StanzaError {
    let condition = match error {
        KeepError::TooMany | KeepError::TooLarge(_) => Condition::ResourceConstraint,
        KeepError::UnknownUser => Condition::ItemNotFound,
        KeepError::Store(_) => Condition::InternalServerError,
    };
    StanzaError::new(condition, error.to_string())
}
