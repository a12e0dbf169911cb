//! XEP-0433: Extended Channel Search: public rooms by their names, descriptions and addresses. The list is the one that Matrix
//! clients search.

use std::sync::Arc;

use koine_room::{DirectoryQuery, Summary};
use koine_stanza::{
    Condition, Element, ErrorType, StanzaError,
    form::{Field, Form, Valid},
    rsm::PageWish,
};

use super::{name, settings::Settings, unreadable};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const SEARCH: &str = "urn:xmpp:channel-search:0:search";
/// `FORM_TYPE` of the form.
const PARAMS: &str = "urn:xmpp:channel-search:0:search-params";
/// Errors of the extension.
const ERRORS: &str = "urn:xmpp:channel-search:0:error";
/// Largest rooms first.
const BY_USERS: &str = "{urn:xmpp:channel-search:0:order}nusers";
/// By address.
const BY_ADDRESS: &str = "{urn:xmpp:channel-search:0:order}address";
/// The kind of room that there is here.
const MUC_TYPE: &str = "xep-0045";
/// Most rooms on one page.
const PAGE_MAX: usize = 100;

/// Asked of the service, of whoever may see the public rooms: everybody.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::RoomService, SEARCH)],
    handlers: &[Handler {
        at: &[At::RoomService],
        verbs: &[Verb::Get],
        name: "search",
        ns: SEARCH,
        run: |core, request| Box::pin(search(core, request)),
    }],
};

/// [XEP-0433 §usecases-search-form]
fn form() -> Form {
    let types = Field {
        kind: "list-multi".into(),
        values: vec![MUC_TYPE.into()],
        ..Field::list("types", "Kinds of rooms", MUC_TYPE, &[(MUC_TYPE, "Multi-user chats")])
    };
    Form::new("form", PARAMS)
        .with(Field::new("q", "text-single", "Search for"))
        .with(Field::boolean("all", "All rooms, whatever is searched for", false))
        .with(Field::boolean("sinname", "Search in names", true))
        .with(Field::boolean("sindescription", "Search in descriptions", true))
        .with(Field::boolean("sinaddress", "Search in addresses", true))
        .with(
            Field::text("min_users", "Least number of members", "0").with_valid(Valid::integer(0, u64::from(u32::MAX))),
        )
        .with(types)
        .with(Field::list("key", "Order", BY_USERS, &[(BY_USERS, "Members"), (BY_ADDRESS, "Address")]))
}

/// With a condition of the extension.
fn bad(condition: Condition, name: &'static str, text: &str) -> StanzaError {
    StanzaError::new(condition, text).with_type(ErrorType::Modify).with_application(Element::new(name, ERRORS))
}

/// What is searched for.
struct Wanted {
    words: Vec<String>,
    in_name: bool,
    in_description: bool,
    in_address: bool,
    least: u64,
    by_address: bool,
    /// Whether ordinary rooms are asked for at all.
    rooms: bool,
}

impl Wanted {
    fn read(form: &Form) -> Result<Self, StanzaError> {
        if form.form_type.as_deref() != Some(PARAMS) {
            return Err(StanzaError::new(Condition::BadRequest, "this is another form than the one to search with"));
        }
        let flag = |var: &str, usual: bool| form.field(var).and_then(Field::bool).unwrap_or(usual);
        let text = form.value("q").map(str::trim).filter(|text| !text.is_empty());
        let all = flag("all", false);
        // [XEP-0433 §usecases-support-request-conflictingoptions]
        if all && text.is_some() {
            let vars = ["all", "q"].map(|var| Element::text_of("var", ERRORS, var));
            let conflict = Element::new("conflicting-fields", ERRORS).with_children(vars);
            return Err(StanzaError::new(Condition::BadRequest, "either all rooms, or those with these words")
                .with_type(ErrorType::Modify)
                .with_application(conflict));
        }
        if !all && text.is_none() {
            // [XEP-0433 §usecases-search-request-nosearch]
            return Err(match form.field("q") {
                Some(_) => bad(Condition::BadRequest, "invalid-search-terms", "there are no words to search for"),
                None => bad(Condition::BadRequest, "no-search-conditions", "say what to search for, or ask for all")
                    .with_type(ErrorType::Cancel),
            });
        }
        let wanted = Self {
            words: text.unwrap_or_default().to_lowercase().split_whitespace().map(ToOwned::to_owned).collect(),
            in_name: flag("sinname", true),
            in_description: flag("sindescription", true),
            in_address: flag("sinaddress", true) && flag("sinaddr", true),
            least: form.value("min_users").and_then(|least| least.trim().parse().ok()).unwrap_or(0),
            by_address: match form.value("key") {
                None | Some("" | BY_USERS) => false,
                Some(BY_ADDRESS) => true,
                Some(_) => {
                    let text = "rooms are ordered by members or by address";
                    return Err(bad(Condition::FeatureNotImplemented, "invalid-sort-key", text));
                }
            },
            rooms: form
                .field("types")
                .is_none_or(|types| types.values.is_empty() || types.values.iter().any(|kind| kind == MUC_TYPE)),
        };
        let looks_somewhere = wanted.in_name || wanted.in_description || wanted.in_address;
        if !wanted.words.is_empty() && !looks_somewhere {
            return Err(bad(
                Condition::BadRequest,
                "no-search-scope",
                "say where to search: names, descriptions, addresses",
            ));
        }
        Ok(wanted)
    }

    fn is_met(&self, found: &Found) -> bool {
        let has = |text: &str, word: &str| text.to_lowercase().contains(word);
        let meets = |word: &String| {
            (self.in_name && has(&found.name, word))
                || (self.in_description && found.description.as_deref().is_some_and(|text| has(text, word)))
                || (self.in_address && has(&found.address, word))
        };
        found.users >= self.least && self.words.iter().all(meets)
    }
}

/// A room as it is told of.
struct Found {
    address: String,
    name: String,
    description: Option<String>,
    language: Option<String>,
    users: u64,
    is_open: bool,
    semi_anonymous: bool,
}

impl Found {
    fn element(&self) -> Element {
        let text = |name: &'static str, text: &str| Element::text_of(name, SEARCH, text);
        let mode = if self.semi_anonymous { "muc_semianonymous" } else { "{urn:xmpp:channel-search:0:anonymity}none" };
        Element::new("item", SEARCH)
            .with_attr("address", self.address.as_str())
            .with_child(text("name", &self.name))
            .with_child_opt(self.description.as_deref().map(|description| text("description", description)))
            .with_child_opt(self.language.as_deref().map(|language| text("language", language)))
            .with_child(text("nusers", &self.users.to_string()))
            .with_child(text("service-type", MUC_TYPE))
            .with_child_opt(self.is_open.then(|| Element::new("is-open", SEARCH)))
            .with_child(text("anonymity-mode", mode))
    }
}

fn found(core: &Core, summary: Summary) -> Result<Found, koine_room::ReadError> {
    let room = core.rooms().room(&summary.room_id)?;
    let (address, settings) = (name::address(core, &room)?, Settings::of(core.rooms(), &room)?);
    let node = address.node().map(ToString::to_string);
    Ok(Found {
        name: summary.name.or(node).unwrap_or_default(),
        description: settings.own.description.or(summary.topic),
        language: settings.own.language,
        users: summary.joined,
        is_open: !settings.members_only,
        semi_anonymous: settings.own.semi_anonymous,
        address: address.to_string(),
    })
}

async fn search(core: Arc<Core>, request: Request) -> Answer {
    let Some(form) = Form::within(&request.payload) else {
        return Ok(Some(Element::new("search", SEARCH).with_child(self::form().element())));
    };
    let wanted = Wanted::read(&form)?;
    let mut all = Vec::new();
    let mut since = None;
    if wanted.rooms {
        loop {
            let query = DirectoryQuery { limit: koine_room::DIRECTORY_PAGE_MAX, since, ..DirectoryQuery::default() };
            let page = core.rooms().directory(&query).map_err(|error| unreadable(&error))?;
            for summary in page.rooms.into_iter().filter(|summary| summary.room_type.is_none()) {
                let room = found(&core, summary).map_err(|error| unreadable(&error))?;
                if wanted.is_met(&room) {
                    all.push(room);
                }
            }
            since = page.next;
            if since.is_none() || all.len() >= koine_room::DIRECTORY_LOOK_MAX {
                break;
            }
        }
    }
    match wanted.by_address {
        true => all.sort_by(|a, b| a.address.cmp(&b.address)),
        false => all.sort_by(|a, b| b.users.cmp(&a.users).then_with(|| a.address.cmp(&b.address))),
    }
    let none = || StanzaError::new(Condition::ItemNotFound, "the page was to begin at a room that is not in the list");
    let wish = PageWish::within(&request.payload).unwrap_or_default();
    let (page, given) = wish.cut(all, PAGE_MAX, |room| room.address.clone()).ok_or_else(none)?;
    let result = Element::new("result", SEARCH).with_children(page.iter().map(Found::element));
    Ok(Some(result.with_child(given.element())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(fields: &[(&str, &str)]) -> String {
        let form = fields
            .iter()
            .fold(Form::new("submit", PARAMS), |form, (var, value)| form.with(Field::new(var, "", "").with(*value)));
        let query = Element::new("iq", "jabber:client").with_attr("type", "get").with_attr("id", "s");
        let error = Wanted::read(&form).err().expect("it cannot be searched for");
        error.answer(&query).expect("requests are answered").to_xml()
    }

    #[test]
    fn a_search_without_words_and_one_with_too_many_wishes_say_what_is_wrong() {
        let both = refused(&[("all", "1"), ("q", "tea")]);
        assert!(
            both.contains("<bad-request") && both.contains("conflicting-fields") && both.contains("<var"),
            "{both}"
        );
        let nothing = refused(&[("sinname", "1")]);
        assert!(nothing.contains("no-search-conditions") && nothing.contains("type='cancel'"), "{nothing}");
        assert!(refused(&[("q", "  ")]).contains("invalid-search-terms"));
    }
}
