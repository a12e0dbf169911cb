//! XEP-0055: Jabber Search: people of this server by name, among those whom the asker may find. Matrix clients have the same
//! search.

use std::sync::Arc;

use koine_account::{Class, LimitKey};
use koine_stanza::{
    Condition, Element, StanzaError,
    form::{Field, Form},
};
use ruma_common::UserId;

use crate::{
    core::Core,
    error::unreadable,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const SEARCH: &str = "jabber:iq:search";
/// People answered at most.
const FOUND_MAX: usize = 100;
/// Most people who fit that are looked at, whether the asker may find them or not.
const LOOK_MAX: usize = 2_000;

/// Asked of the server.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, SEARCH)],
    handlers: &[
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Get],
            name: "query",
            ns: SEARCH,
            run: |_, request| Box::pin(async move { get(&request) }),
        },
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Set],
            name: "query",
            ns: SEARCH,
            run: |core, request| Box::pin(set(core, request)),
        },
    ],
};

fn for_own_people() -> StanzaError {
    StanzaError::new(Condition::Forbidden, "people are found by people of this server alone")
}

/// What can be searched for, as fields and as a form. [XEP-0055 §requesting]
fn get(request: &Request) -> Answer {
    request.asker().ok_or_else(for_own_people)?;
    let words = "Part of a name or of an address.";
    let mut form = Form::new("form", SEARCH).with(Field::new("nick", "text-single", "Name or address"));
    form.title = Some("People of this server".into());
    form.instructions = Some(words.into());
    let query = Element::new("query", SEARCH)
        .with_child(Element::text_of("instructions", SEARCH, words))
        .with_child(Element::new("nick", SEARCH))
        .with_child(form.element());
    Ok(Some(query))
}

/// [XEP-0055 §submitting]
async fn set(core: Arc<Core>, request: Request) -> Answer {
    let asker = request.asker().ok_or_else(for_own_people)?.clone();
    if let Err(exceeded) = core.accounts().permit(Class::Message, LimitKey::User(&asker)) {
        return Err(StanzaError::new(Condition::ResourceConstraint, exceeded.to_string()));
    }
    let form = Form::within(&request.payload);
    let fields = ["nick", "first", "last", "email"];
    let words: Vec<String> = match &form {
        Some(form) => fields.iter().filter_map(|field| form.value(field).map(ToOwned::to_owned)).collect(),
        None => fields.iter().filter_map(|field| request.payload.child_text(field, SEARCH)).collect(),
    };
    let term = words.join(" ").trim().replace('*', " ");
    if term.trim().is_empty() {
        return Err(StanzaError::new(Condition::NotAcceptable, "say whom to look for"));
    }
    // Names may be read from the store, all of them.
    let found = tokio::task::spawn_blocking(move || find(&core, &asker, &term)).await;
    let found = found.map_err(|_| StanzaError::from(Condition::InternalServerError))??;
    let query = Element::new("query", SEARCH);
    if form.is_some() {
        let mut table = Form::new("result", SEARCH).with_reported(&[("jid", "Address"), ("nick", "Name")]);
        for (jid, name) in found {
            let row = vec![Field::new("jid", "", "").with(jid), Field::new("nick", "", "").with(name)];
            table = table.with_item(row);
        }
        return Ok(Some(query.with_child(table.element())));
    }
    let item = |(jid, name): (String, String)| {
        Element::new("item", SEARCH).with_attr("jid", jid).with_child(Element::text_of("nick", SEARCH, name))
    };
    Ok(Some(query.with_children(found.into_iter().map(item))))
}

/// Addresses and names of people who fit.
fn find(core: &Core, asker: &UserId, term: &str) -> Result<Vec<(String, String)>, StanzaError> {
    let store = |error: koine_account::StoreUnavailable| {
        tracing::error!(reason = %error, "people could not be searched");
        StanzaError::new(Condition::InternalServerError, "people could not be searched: try again later")
    };
    let mut acquaintances = core.rooms().acquaintances(asker).map_err(|error| unreadable(&error))?;
    let mut found = Vec::new();
    for user in core.accounts().find_people(term, LOOK_MAX).map_err(store)? {
        if found.len() == FOUND_MAX {
            break;
        }
        let may_find = user == *asker || acquaintances.contains(&user).map_err(|error| unreadable(&error))?;
        let Some(jid) = core.jid_of(&user).filter(|_| may_find) else { continue };
        let (name, _) = core.accounts().display_profile(&user).map_err(store)?;
        found.push((jid.to_string(), name.unwrap_or_else(|| user.localpart().to_owned())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use koine_stanza::{Element, ns};

    use super::*;
    use crate::testing::World;

    const ASK: &str =
        "<iq type='set' id='s' to='example.org'><query xmlns='jabber:iq:search'><nick>bo</nick></query></iq>";

    fn items(answer: &Element) -> Vec<String> {
        let query = answer.child("query", SEARCH).expect("an answer");
        query.children().filter_map(|item| item.attr("jid").map(ToOwned::to_owned)).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_shares_a_room_with_the_asker_is_found_and_nobody_else() {
        let world = World::new();
        let mut alice = world.connect("alice", "a").await;
        let mut bob = world.connect("bob", "b").await;
        assert!(items(&alice.ask(ASK).await).is_empty(), "they have nothing to do with each other");
        alice.send("<presence/>").await;
        bob.send("<presence/>").await;
        alice.send("<message to='bob@example.org' type='chat' id='m'><body>hi</body></message>").await;
        bob.until(|stanza| stanza.name() == "message").await;
        assert_eq!(items(&alice.ask(ASK).await), ["bob@example.org"]);
        let form = "<iq type='set' id='f' to='example.org'><query xmlns='jabber:iq:search'><x xmlns='jabber:x:data' type='submit'><field var='nick'><value>bob</value></field></x></query></iq>";
        let answer = alice.ask(form).await;
        let table = answer.child("query", SEARCH).and_then(|query| query.child("x", ns::DATA_FORMS)).expect("a table");
        assert!(table.has_child("reported", ns::DATA_FORMS) && table.has_child("item", ns::DATA_FORMS));
    }
}
