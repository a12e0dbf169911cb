//! The state map against the plain map that it stands for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Plain = BTreeMap<(String, String), OwnedEventId>;

fn event_id(number: u64) -> OwnedEventId {
    // Both sorts of id: hashes, and the free ones of versions 1 and 2.
    let id = if number.is_multiple_of(3) {
        format!("${number}:example.org")
    } else {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        format!("${}", URL_SAFE_NO_PAD.encode(crate::hashes::sha256(&number.to_le_bytes())))
    };
    OwnedEventId::try_from(id).expect("an event id")
}

fn edits(plain: &Plain) -> Vec<Edit> {
    plain.iter().map(|((kind, key), id)| Edit::set(kind, key, id.clone())).collect()
}

fn built(nodes: &mut MemoryNodes, plain: &Plain) -> StateMap {
    let change = StateMap::EMPTY.apply(nodes, edits(plain)).expect("nothing to fetch");
    nodes.keep(change)
}

fn contents(nodes: &MemoryNodes, map: StateMap) -> Plain {
    let entry = |entry: Entry| ((entry.kind.to_string(), entry.state_key.to_string()), entry.event_id);
    map.iter(nodes).map(|found| found.map(entry).expect("all nodes are there")).collect()
}

/// A state of a large room: `members` members, and the usual rest.
fn large(members: u64) -> Plain {
    let mut plain: Plain =
        (0..members).map(|n| (("m.room.member".to_owned(), format!("@user{n}:example.org")), event_id(n))).collect();
    for (n, kind) in ["create", "power_levels", "join_rules", "name", "topic", "history_visibility"].iter().enumerate()
    {
        plain.insert((format!("m.room.{kind}"), String::new()), event_id(1_000_000 + n as u64));
    }
    plain
}

#[test]
fn an_empty_state_has_nothing_and_reads_nothing() {
    let nodes = MemoryNodes::new();
    assert_eq!(StateMap::EMPTY.get(&nodes, "m.room.create", ""), Ok(None));
    assert_eq!(StateMap::EMPTY.len(&nodes), Ok(0));
    assert!(StateMap::EMPTY.iter(&nodes).next().is_none());
    assert_eq!(StateMap::EMPTY.diff(&nodes, StateMap::EMPTY), Ok(Vec::new()));
    assert!(StateMap::EMPTY.remove(&nodes, "a", "b").is_ok_and(|change| change.map.is_empty()));
}

#[test]
fn a_fresh_room_is_one_small_node() {
    let change = StateMap::EMPTY.apply(&MemoryNodes::new(), edits(&large(2))).expect("nothing to fetch");
    assert_eq!(change.nodes.len(), 1);
    assert!(change.nodes.iter().all(|new| new.bytes.len() < 1024));
}

#[test]
fn a_member_more_in_a_large_room_costs_few_small_nodes() {
    let mut nodes = MemoryNodes::new();
    let map = built(&mut nodes, &large(20_000));
    let mut total = 0;
    for n in 0..100 {
        let change = map.insert(&nodes, "m.room.member", &format!("@new{n}:example.org"), &event_id(n)).expect("there");
        assert!(change.nodes.len() <= 6, "{} nodes", change.nodes.len());
        assert!(change.nodes.iter().all(|new| new.bytes.len() <= 1024));
        total += change.nodes.iter().map(|new| new.bytes.len()).sum::<usize>();
    }
    assert!(total / 100 < 2_000, "{} bytes", total / 100);
}

#[test]
fn a_difference_reads_what_differs() {
    struct Counting<'a>(&'a MemoryNodes, std::cell::Cell<usize>);
    impl NodeSource for Counting<'_> {
        type Error = NodeMissing;
        fn node(&self, id: &NodeId) -> Result<Arc<Node>, NodeMissing> {
            self.1.set(self.1.get() + 1);
            self.0.node(id)
        }
    }
    let mut nodes = MemoryNodes::new();
    let before = built(&mut nodes, &large(20_000));
    let change = before.insert(&nodes, "m.room.topic", "", &event_id(7)).expect("there");
    let after = nodes.keep(change);
    let counting = Counting(&nodes, Default::default());
    let difference = before.diff(&counting, after).expect("there");
    assert_eq!(difference.len(), 1);
    assert!(counting.1.get() <= 6, "{} nodes read", counting.1.get());
}

#[test]
fn setting_what_holds_already_changes_nothing() {
    let mut nodes = MemoryNodes::new();
    let map = built(&mut nodes, &large(100));
    let change = map.insert(&nodes, "m.room.member", "@user5:example.org", &event_id(5)).expect("there");
    assert_eq!(change.map, map);
    assert!(change.nodes.is_empty());
}

#[test]
fn damaged_nodes_are_refused() {
    let mut nodes = MemoryNodes::new();
    let change = StateMap::EMPTY.apply(&nodes, edits(&large(40))).expect("nothing to fetch");
    for new in &change.nodes {
        assert_eq!(Node::decode(&new.bytes).as_ref(), Ok(&*new.node));
        for length in 0..new.bytes.len() {
            let _ = Node::decode(&new.bytes[..length]);
        }
        assert_eq!(Node::decode(&[&new.bytes[..], &[0]].concat()), Err(NodeError));
    }
    assert_eq!(Node::decode(&[]), Err(NodeError));
    assert_eq!(Node::decode(&[9, 9, 9]), Err(NodeError));
    let map = nodes.keep(change);
    assert_eq!(MemoryNodes::new().node(&map.root()), Err(NodeMissing(map.root())));
}

/// Few types and keys, so that edits meet.
fn any_plain(max: usize) -> impl Strategy<Value = Plain> {
    let key = ("[a-d]{1,2}", prop_oneof![Just(String::new()), "@[a-e]{1,3}:x"]);
    prop::collection::btree_map(key, (0_u64..50).prop_map(event_id), 0..max)
}

proptest! {
    #[test]
    fn its_shape_does_not_depend_on_how_it_came_about(
        plain in any_plain(120), others in any_plain(60), order in any::<prop::sample::Index>(),
    ) {
        let mut nodes = MemoryNodes::new();
        let at_once = built(&mut nodes, &plain);
        // One by one, from some place on, with others that come and go.
        let mut map = built(&mut nodes, &others);
        let mut one_by_one: Vec<Edit> = edits(&plain);
        if !one_by_one.is_empty() {
            let at = order.index(one_by_one.len());
            one_by_one.rotate_left(at);
        }
        for edit in one_by_one {
            let change = map.apply(&nodes, [edit]).expect("there");
            map = nodes.keep(change);
        }
        for (kind, key) in others.keys().filter(|key| !plain.contains_key(*key)) {
            let change = map.remove(&nodes, kind, key).expect("there");
            map = nodes.keep(change);
        }
        prop_assert_eq!(map, at_once);
        prop_assert_eq!(map.len(&nodes), Ok(plain.len() as u64));
        prop_assert_eq!(&contents(&nodes, map), &plain);
        for ((kind, key), id) in &plain {
            let found = map.get(&nodes, kind, key).expect("there");
            prop_assert_eq!(found.as_ref(), Some(id));
        }
        prop_assert_eq!(map.get(&nodes, "zz", ""), Ok(None));
    }

    #[test]
    fn difference_and_edits_are_inverse(one in any_plain(120), other in any_plain(120)) {
        let mut nodes = MemoryNodes::new();
        let before = built(&mut nodes, &one);
        let after = built(&mut nodes, &other);
        let difference = before.diff(&nodes, after).expect("there");
        let expected = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)))
            .filter(|key| one.get(*key) != other.get(*key)).count();
        prop_assert_eq!(difference.len(), expected);
        let change = before.apply(&nodes, difference.iter().map(Difference::edit)).expect("there");
        prop_assert_eq!(nodes.keep(change), after);
        let mut back = after.diff(&nodes, before).expect("there");
        for difference in &mut back {
            std::mem::swap(&mut difference.before, &mut difference.after);
        }
        prop_assert_eq!(back, difference);
    }

    #[test]
    fn types_are_found_together(plain in any_plain(150), kind in "[a-d]{1,2}") {
        let mut nodes = MemoryNodes::new();
        let map = built(&mut nodes, &plain);
        let found: BTreeMap<String, OwnedEventId> = map.iter_type(&nodes, &kind)
            .map(|entry| entry.map(|entry| (entry.state_key.to_string(), entry.event_id)).expect("there"))
            .collect();
        let expected: BTreeMap<String, OwnedEventId> = plain.iter()
            .filter(|((other, _), _)| *other == kind).map(|((_, key), id)| (key.clone(), id.clone())).collect();
        let others = map.iter_except_type(&nodes, &kind)
            .map(|entry| entry.map(|entry| ((entry.kind.to_string(), entry.state_key.to_string()), entry.event_id)).expect("there"));
        let others: BTreeMap<(String, String), OwnedEventId> = others.collect();
        prop_assert_eq!(others.len() + found.len(), plain.len());
        prop_assert!(others.iter().all(|(key, id)| key.0 != kind && plain.get(key) == Some(id)));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_are_a_node_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Node::decode(&bytes);
    }
}
