//! The steps of finding a server, as a table and by chance.

use rand::{SeedableRng, rngs::StdRng};

use super::*;

/// Priority, weight, port, target.
type Srv = (u16, u16, u16, &'static str);

/// What a pretend world says. Absent: [`Answer::Nothing`].
#[derive(Default)]
struct World {
    well_known: &'static [(&'static str, &'static str)],
    srv: &'static [(&'static str, &'static [Srv])],
}

impl World {
    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::WellKnown(host) => match self.well_known.iter().find(|(name, _)| name == host) {
                Some((_, delegated)) => Answer::Delegated(Authority::parse(delegated).expect("a server name")),
                None => Answer::Nothing,
            },
            Question::Srv(service, host) => {
                let name = service.query_name(host);
                match self.srv.iter().find(|(known, _)| *known == name) {
                    Some((_, records)) => Answer::Records(records.iter().map(record).collect()),
                    None => Answer::Nothing,
                }
            }
        }
    }

    /// The questions in order, and how it ended.
    fn search(&self, server: &str) -> (Vec<String>, Step) {
        let mut chance = StdRng::seed_from_u64(7);
        let mut asked = Vec::new();
        let mut step = Search::begin(Authority::parse(server).expect("a server name"));
        while let Step::Ask(question, search) = step {
            asked.push(match &question {
                Question::WellKnown(host) => format!("https://{host}"),
                Question::Srv(service, host) => service.query_name(host),
            });
            assert!(asked.len() <= 3, "a search asks at most three questions: {asked:?}");
            step = search.answer(self.answer(&question), &mut chance);
        }
        (asked, step)
    }
}

fn record(&(priority, weight, port, target): &(u16, u16, u16, &str)) -> SrvRecord {
    SrvRecord { priority, weight, port, target: target.to_owned() }
}

/// `host header | certificate | target, target`
fn line(step: &Step) -> String {
    match step {
        Step::Found(route) => {
            let targets: Vec<_> =
                route.targets.iter().map(|target| format!("{}:{}", target.host, target.port)).collect();
            format!("{} | {} | {}", route.host_header, route.certificate, targets.join(", "))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn every_step_of_the_specification_leads_where_it_says() {
    let well_known = |pair: &'static [(&'static str, &'static str)]| World { well_known: pair, ..World::default() };
    let fed: World = World {
        srv: &[
            ("_matrix-fed._tcp.a.org", &[(10, 0, 443, "m.a.org")]),
            ("_matrix._tcp.a.org", &[(1, 1, 1, "old.a.org")]),
        ],
        ..World::default()
    };
    let old = World { srv: &[("_matrix._tcp.a.org", &[(10, 0, 443, "m.a.org")])], ..World::default() };
    let delegated_fed = World {
        well_known: &[("a.org", "d.org")],
        srv: &[
            ("_matrix-fed._tcp.d.org", &[(10, 0, 443, "m.d.org")]),
            ("_matrix-fed._tcp.a.org", &[(1, 1, 1, "no.org")]),
        ],
    };
    let delegated_old = World {
        well_known: &[("a.org", "d.org"), ("d.org", "e.org")],
        srv: &[("_matrix._tcp.d.org", &[(10, 0, 443, "m.d.org")])],
    };
    let nothing = World::default();
    let cases: &[(&str, &World, &str, &[&str], &str)] = &[
        ("1", &nothing, "192.0.2.1", &[], "192.0.2.1 | 192.0.2.1 | 192.0.2.1:8448"),
        ("1", &nothing, "192.0.2.1:80", &[], "192.0.2.1:80 | 192.0.2.1 | 192.0.2.1:80"),
        ("1", &nothing, "[2001:db8::1]", &[], "[2001:db8::1] | [2001:db8::1] | [2001:db8::1]:8448"),
        ("1", &nothing, "[2001:db8::1]:80", &[], "[2001:db8::1]:80 | [2001:db8::1] | [2001:db8::1]:80"),
        ("2", &fed, "a.org:8448", &[], "a.org:8448 | a.org | a.org:8448"),
        ("2", &fed, "a.org:80", &[], "a.org:80 | a.org | a.org:80"),
        (
            "3.1",
            &well_known(&[("a.org", "192.0.2.1")]),
            "a.org",
            &["https://a.org"],
            "192.0.2.1 | 192.0.2.1 | 192.0.2.1:8448",
        ),
        (
            "3.1",
            &well_known(&[("a.org", "192.0.2.1:80")]),
            "a.org",
            &["https://a.org"],
            "192.0.2.1:80 | 192.0.2.1 | 192.0.2.1:80",
        ),
        (
            "3.1",
            &well_known(&[("a.org", "[2001:db8::1]:80")]),
            "a.org",
            &["https://a.org"],
            "[2001:db8::1]:80 | [2001:db8::1] | [2001:db8::1]:80",
        ),
        ("3.2", &well_known(&[("a.org", "d.org:443")]), "a.org", &["https://a.org"], "d.org:443 | d.org | d.org:443"),
        ("3.3", &delegated_fed, "a.org", &["https://a.org", "_matrix-fed._tcp.d.org"], "d.org | d.org | m.d.org:443"),
        (
            "3.4",
            &delegated_old,
            "a.org",
            &["https://a.org", "_matrix-fed._tcp.d.org", "_matrix._tcp.d.org"],
            "d.org | d.org | m.d.org:443",
        ),
        (
            "3.5",
            &well_known(&[("a.org", "d.org")]),
            "a.org",
            &["https://a.org", "_matrix-fed._tcp.d.org", "_matrix._tcp.d.org"],
            "d.org | d.org | d.org:8448",
        ),
        ("4", &fed, "a.org", &["https://a.org", "_matrix-fed._tcp.a.org"], "a.org | a.org | m.a.org:443"),
        (
            "5",
            &old,
            "a.org",
            &["https://a.org", "_matrix-fed._tcp.a.org", "_matrix._tcp.a.org"],
            "a.org | a.org | m.a.org:443",
        ),
        (
            "6",
            &nothing,
            "a.org",
            &["https://a.org", "_matrix-fed._tcp.a.org", "_matrix._tcp.a.org"],
            "a.org | a.org | a.org:8448",
        ),
    ];
    for (number, world, server, questions, outcome) in cases {
        let (asked, step) = world.search(server);
        assert_eq!(&asked, questions, "step {number}: {server}");
        assert_eq!(&line(&step), outcome, "step {number}: {server}");
    }
}

#[test]
fn a_server_that_delegates_to_itself_or_in_a_ring_is_asked_once() {
    let world = World { well_known: &[("a.org", "b.org"), ("b.org", "a.org")], ..World::default() };
    let (asked, step) = world.search("a.org");
    assert_eq!(asked.iter().filter(|question| question.starts_with("https")).count(), 1);
    assert_eq!(line(&step), "b.org | b.org | b.org:8448");
}

#[test]
fn a_service_that_is_decidedly_not_offered_ends_the_search() {
    let world = World { srv: &[("_matrix-fed._tcp.a.org", &[(0, 0, 0, "")])], ..World::default() };
    assert_eq!(world.search("a.org").1, Step::NotOffered);
}

#[test]
fn an_answer_to_another_question_counts_as_none() {
    let mut chance = StdRng::seed_from_u64(1);
    let Step::Ask(_, search) = Search::begin(Authority::parse("a.org").expect("a name")) else { panic!("a question") };
    let step = search.answer(Answer::Records(vec![record(&(0, 0, 1, "x.org"))]), &mut chance);
    let Step::Ask(Question::Srv(Service::MatrixFed, _), search) = step else { panic!("{step:?}") };
    let step = search.answer(Answer::Delegated(Authority::parse("x.org:1").expect("a name")), &mut chance);
    assert!(matches!(step, Step::Ask(Question::Srv(Service::Matrix, _), _)), "{step:?}");
}

#[test]
fn srv_records_are_tried_by_priority_and_drawn_by_weight() {
    let records =
        [(10, 90, 1, "often"), (10, 10, 2, "seldom"), (10, 0, 3, "hardly"), (5, 0, 4, "first"), (20, 9, 5, "last")];
    let mut chance = StdRng::seed_from_u64(42);
    let mut seconds = std::collections::HashMap::<String, u32>::new();
    for _ in 0..1000 {
        let ordered = in_order(records.iter().map(record).collect(), &mut chance);
        assert_eq!(ordered.len(), records.len());
        assert_eq!(ordered[0].target, "first");
        assert_eq!(ordered[4].target, "last");
        *seconds.entry(ordered[1].target.clone()).or_default() += 1;
    }
    assert!((850..950).contains(&seconds["often"]), "{seconds:?}");
    assert!((50..150).contains(&seconds["seldom"]), "{seconds:?}");
}

#[test]
fn a_flood_of_srv_records_is_cut() {
    let mut chance = StdRng::seed_from_u64(1);
    let records = (0..5000).map(|port| record(&(0, u16::MAX, port, "m.org"))).collect();
    let Step::Found(route) = found_srv(Authority::parse("a.org").expect("a name"), records, &mut chance) else {
        panic!("a route")
    };
    assert_eq!(route.targets.len(), SRV_RECORDS_MAX);
}
