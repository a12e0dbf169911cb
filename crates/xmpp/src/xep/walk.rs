//! Whether the ledger and what is advertised agree: whoever looks for a feature finds it where the ledger says that it is.

use koine_stanza::{Element, form::Form, ns};

use crate::{Proxy, XmppConfig, testing::World};

/// spec, where it is looked for, what is looked for.
const PROOFS: &str = include_str!("../../../../spec/xmpp-proofs.tsv");
/// What of the extensions is done.
const LEDGER: &str = include_str!("../../../../spec/xmpp-features.tsv");

const ROOM: &str = "walk@rooms.example.org";

/// What an entity says of itself, in lines: features, identities, types and fields of forms, nodes of commands.
async fn says(client: &mut crate::testing::Client, to: &str) -> Vec<String> {
    let answer = client.ask(&format!("<iq type='get' id='w' to='{to}'><query xmlns='{}'/></iq>", ns::DISCO_INFO)).await;
    let query =
        answer.child("query", ns::DISCO_INFO).unwrap_or_else(|| panic!("{to} says nothing: {}", answer.to_xml()));
    let mut lines: Vec<String> = Vec::new();
    for child in query.children() {
        match child.name() {
            "feature" => lines.extend(child.attr("var").map(ToOwned::to_owned)),
            "identity" => lines.extend(child.attr("category").zip(child.kind()).map(|(a, b)| format!("{a}/{b}"))),
            _ => {
                let Some(form) = Form::parse(child) else { continue };
                lines.extend(form.form_type);
                lines.extend(form.fields.into_iter().map(|field| field.var));
            }
        }
    }
    let commands = "http://jabber.org/protocol/commands";
    let ask = format!("<iq type='get' id='c' to='{to}'><query xmlns='{}' node='{commands}'/></iq>", ns::DISCO_ITEMS);
    let items = client.ask(&ask).await;
    let nodes =
        items.children().flat_map(Element::children).filter_map(|item| item.attr("node").map(ToOwned::to_owned));
    lines.extend(nodes);
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_says_is_done_is_found_where_clients_look_for_it() {
    let proxy = Proxy { host: "example.org".into(), port: 7777 };
    let world = World::named("example.org", XmppConfig { proxy: Some(proxy), ..XmppConfig::default() });
    let mut alice = world.connect("alice", "a").await;
    let user = alice.session.user().clone();
    world.core().accounts().set_flag(&user, koine_account::Flag::Admin, true).await.expect("there is");
    alice.send(&format!("<presence to='{ROOM}/alice'><x xmlns='{}'/></presence>", ns::MUC)).await;
    alice
        .ask(&format!(
            "<iq type='set' id='i' to='{ROOM}'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'/></query></iq>",
            ns::MUC_OWNER
        ))
        .await;
    let places = [
        ("server", "example.org"),
        ("account", "alice@example.org"),
        ("rooms", "rooms.example.org"),
        ("room", ROOM),
        ("upload", "upload.example.org"),
        ("pubsub", "pubsub.example.org"),
        ("gateway", "matrix.example.org"),
        ("proxy", "proxy.example.org"),
    ];
    let mut said = std::collections::HashMap::new();
    for (place, address) in places {
        said.insert(place, says(&mut alice, address).await);
    }
    let mut missing = Vec::new();
    let mut found = 0;
    for proof in PROOFS.lines().skip(1) {
        let [spec, place, wanted] = proof.split('\t').collect::<Vec<_>>()[..] else { panic!("{proof}") };
        let row = LEDGER
            .lines()
            .find(|row| row.split('\t').next() == Some(spec))
            .unwrap_or_else(|| panic!("{spec} is in no ledger"));
        let claimed = matches!(row.split('\t').nth(3), Some("yes" | "partly"));
        let is_there = said.get(place).expect("a place").iter().any(|line| line == wanted);
        found += usize::from(is_there);
        if claimed && !is_there {
            missing.push(proof);
        }
        assert!(claimed || !is_there, "{spec} is advertised at the {place}, and the ledger does not know");
    }
    assert!(missing.is_empty(), "claimed and not found: {missing:#?}");
    assert!(found > 60, "only {found} were found");
}
