//! What the server tells of itself in forms beside its features [XEP-0128]: whom to turn to [XEP-0157], where to look when it is
//! out of order [XEP-0455], and what becomes of data [XEP-0504].

use koine_stanza::form::{Field, Form};
use ruma_common::UserId;

use crate::core::Core;

/// `FORM_TYPE` of contact addresses.
const CONTACT: &str = "http://jabber.org/network/serverinfo";
/// `FORM_TYPE` of where to look.
const OUTAGE: &str = "urn:xmpp:sos:0";
/// `FORM_TYPE` of what becomes of data.
const DATA_POLICY: &str = "urn:xmpp:data-policy:0";

/// Whom people turn to, and what they should know.
#[derive(Clone, Debug, Default)]
pub struct Support {
    /// Admins, as user ids or e-mail addresses.
    pub admins: Vec<String>,
    /// Whom to tell of holes in security, in the same forms.
    pub security: Vec<String>,
    /// A page with help.
    pub page: Option<String>,
    /// Pages that tell what is wrong when the server cannot.
    pub status_pages: Vec<String>,
    /// The terms of service.
    pub terms: Option<String>,
}

/// A contact as an address that clients can open.
fn uri(contact: &str) -> String {
    match UserId::parse(contact).ok().and_then(|user| crate::address_of(&user)) {
        Some(jid) => format!("xmpp:{jid}"),
        None => format!("mailto:{contact}"),
    }
}

/// What is said about the server.
pub(super) fn forms(core: &Core) -> Vec<Form> {
    let support = &core.config().support;
    let list = |var: &str, values: Vec<String>| Field {
        var: var.into(),
        kind: "list-multi".into(),
        values,
        ..Field::default()
    };
    let mut forms = Vec::new();
    let admins: Vec<String> = support.admins.iter().map(|contact| uri(contact)).collect();
    let security: Vec<String> = support.security.iter().map(|contact| uri(contact)).collect();
    let contacts = [
        ("abuse-addresses", admins.clone()),
        ("admin-addresses", admins.clone()),
        ("security-addresses", security),
        ("status-addresses", support.status_pages.clone()),
        ("support-addresses", support.page.clone().into_iter().chain(admins).collect()),
    ];
    let mut form = Form::new("result", CONTACT);
    for (var, values) in contacts.into_iter().filter(|(_, values)| !values.is_empty()) {
        form = form.with(list(var, values));
    }
    if !form.fields.is_empty() {
        forms.push(form);
    }
    if !support.status_pages.is_empty() {
        forms.push(Form::new("result", OUTAGE).with(list("external-status-addresses", support.status_pages.clone())));
    }
    let say = |var: &str, kind: &str, value: &str| Field::new(var, kind, "").with(value);
    // Passwords come through TLS from Matrix clients, and are kept as what proves them; messages stay until they are taken back.
    let mut policy = Form::new("result", DATA_POLICY)
        .with(say("auth_data", "list-single", "plain"))
        .with(say("data_transmission", "list-single", "encrypted"))
        .with(say("encryption_algorithm", "text-single", "TLS"))
        .with(say("data_retention", "text-single", "infinite"))
        .with(say("data_deletion", "boolean", "true"))
        .with(say("encryption_at_rest", "boolean", "false"));
    if let Some(terms) = &support.terms {
        policy = policy.with(say("tos", "text-single", terms));
    }
    forms.push(policy);
    forms
}

#[cfg(test)]
mod tests {
    use koine_stanza::ns;

    use super::*;
    use crate::{XmppConfig, testing::World};

    #[tokio::test(flavor = "multi_thread")]
    async fn whom_to_turn_to_is_told_and_is_part_of_what_the_server_is() {
        let support = Support {
            admins: vec!["@root:example.org".into(), "root@example.net".into()],
            status_pages: vec!["https://status.example.net/s.json".into()],
            ..Support::default()
        };
        let world = World::named("example.org", XmppConfig { support, ..XmppConfig::default() });
        let mut alice = world.connect("alice", "a").await;
        let ask = "<iq type='get' id='d' to='example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
        let answer = alice.ask(ask).await;
        let query = answer.child("query", ns::DISCO_INFO).expect("an answer");
        let forms: Vec<Form> = query.children().filter_map(Form::parse).collect();
        let form = |kind: &str| forms.iter().find(|form| form.form_type.as_deref() == Some(kind)).expect(kind);
        let admins = form(CONTACT).field("admin-addresses").expect("somebody");
        assert_eq!(admins.values, ["xmpp:root@example.org", "mailto:root@example.net"]);
        assert_eq!(form(OUTAGE).value("external-status-addresses"), Some("https://status.example.net/s.json"));
        assert_eq!(form(DATA_POLICY).value("data_retention"), Some("infinite"));
    }
}
