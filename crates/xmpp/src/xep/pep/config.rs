//! The configuration of a node as a form. [XEP-0060 §registrar-formtypes-config]

use koine_account::{Access, NODE_ITEMS_MAX, NodeConfig, SendLast};
use koine_stanza::{
    Condition, StanzaError,
    form::{Field, Form},
};

/// Groups of contacts that a form names at most.
const GROUPS_MAX: usize = 100;
/// Longest title, and longest name of a type.
const TEXT_BYTES_MAX: usize = 1_000;
/// The form's type.
pub(super) const NODE_CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";

/// The form, filled in.
pub(super) fn form(kind: &str, form_type: &str, config: &NodeConfig) -> Form {
    let models: Vec<(&str, &str)> = Access::ALL.iter().map(|access| (access.as_str(), "")).collect();
    let mut groups = Field::new("pubsub#roster_groups_allowed", "list-multi", "Groups of contacts that may read");
    groups.values = config.groups.clone();
    let moments = [("never", ""), ("on_sub", ""), ("on_sub_and_presence", "")];
    let publishers = [("publishers", "Whoever is a publisher")];
    Form::new(kind, form_type)
        .with(Field::text("pubsub#title", "A name for people", &config.title))
        .with(Field::text("pubsub#type", "Namespace of the items", &config.item_type))
        .with(Field::list("pubsub#access_model", "Whom it is open to", config.access.as_str(), &models))
        .with(groups)
        .with(Field::boolean("pubsub#persist_items", "Items are kept", config.persist))
        .with(Field::text("pubsub#max_items", "Most items kept", &config.max_items.to_string()))
        .with(Field::boolean("pubsub#deliver_payloads", "Items are sent whole", config.payloads))
        .with(Field::boolean("pubsub#deliver_notifications", "Items are told", true))
        .with(Field::boolean("pubsub#notify_retract", "It is told what is taken back", config.notify_retract))
        .with(Field::boolean("pubsub#notify_delete", "It is told that the node is deleted", config.notify_delete))
        .with(Field::boolean("pubsub#notify_config", "It is told that this changed", config.notify_config))
        .with(Field::list(
            "pubsub#send_last_published_item",
            "When the newest is sent",
            config.send_last.as_str(),
            &moments,
        ))
        .with(Field::list("pubsub#publish_model", "Who may publish", "publishers", &publishers))
}

/// `config`, with what a form says. What is not known is an error, so that nobody believes that it is obeyed.
pub(super) fn apply(form: &Form, mut config: NodeConfig) -> Result<NodeConfig, StanzaError> {
    let bad = |text: &str| StanzaError::new(Condition::NotAcceptable, text);
    for field in &form.fields {
        let value = field.value().unwrap_or_default();
        let yes = || field.bool().ok_or_else(|| bad("a field is neither true nor false"));
        match field.var.trim_start_matches("pubsub#") {
            "access_model" => {
                config.access = Access::parse(value).ok_or_else(|| bad("there is no such access model"))?;
            }
            "max_items" if value == "max" => config.max_items = NODE_ITEMS_MAX,
            "max_items" => {
                let number: u64 = value.parse().map_err(|_| bad("`max_items` is a number, or `max`"))?;
                if number > NODE_ITEMS_MAX {
                    return Err(bad("more items than are kept here: ask for `max`"));
                }
                config.max_items = number.max(1);
            }
            "persist_items" => config.persist = yes()?,
            "deliver_payloads" => config.payloads = yes()?,
            "notify_retract" => config.notify_retract = yes()?,
            "notify_delete" => config.notify_delete = yes()?,
            "notify_config" => config.notify_config = yes()?,
            "send_last_published_item" => {
                config.send_last = SendLast::parse(value).ok_or_else(|| bad("there is no such moment"))?;
            }
            "title" | "type" if value.len() > TEXT_BYTES_MAX => return Err(bad("a text is too long")),
            "title" => config.title = value.to_owned(),
            "type" => config.item_type = value.to_owned(),
            "roster_groups_allowed" => config.groups = field.values.iter().take(GROUPS_MAX).cloned().collect(),
            // Only this is done here.
            "publish_model" if matches!(value, "publishers" | "") => {}
            "deliver_notifications" if yes()? => {}
            "notification_type"
            | "itemreply"
            | "language"
            | "description"
            | "purge_offline"
            | "presence_based_delivery"
            | "notify_sub"
            | "collection"
            | "node_type"
            | "contact"
            | "item_expire"
            | "subscribe"
            | "max_payload_size" => {}
            _ => return Err(bad("the form asks for what is not offered here")),
        }
    }
    Ok(config)
}

/// Whether a node is configured as the options of a publisher say. `wanted` is the default with these options applied; so
/// what differs from the default counts, and what does not is left to the node. [XEP-0060 §publisher-publish-options]
pub(super) fn meets(present: &NodeConfig, wanted: &NodeConfig) -> bool {
    let usual = NodeConfig::default();
    let same = |differs: bool, equal: bool| !differs || equal;
    same(wanted.access != usual.access, present.access == wanted.access)
        && same(wanted.persist != usual.persist, present.persist == wanted.persist)
        && same(wanted.max_items != usual.max_items, present.max_items == wanted.max_items)
        && same(wanted.send_last != usual.send_last, present.send_last == wanted.send_last)
}
