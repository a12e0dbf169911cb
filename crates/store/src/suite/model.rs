//! Random work against an engine and against a map, compared after every step.
#![expect(missing_docs, reason = "the name of each check says what it checks")]

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Subject,
    contract::{commit, get, rows},
};
use crate::{
    engine::{ByteRange, Snapshot},
    table::Space,
    view::Direction,
};

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*: good enough to choose test data.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn key(&mut self) -> Vec<u8> {
        let length = 1 + self.below(3);
        (0..length).map(|_| [0, 1, b'a', 0xfe, 0xff][self.below(5) as usize]).collect()
    }
}

type Model = BTreeMap<(usize, Vec<u8>), Bytes>;

pub fn random_work_agrees_with_a_model(subject: &Subject) {
    let engine = subject.engine.as_ref();
    let mut dice = Dice(0x5eed);
    let mut model = Model::new();
    let mut held: Vec<(Box<dyn Snapshot>, Model)> = Vec::new();
    for round in 0..150u64 {
        commit(engine, |batch| {
            for _ in 0..dice.below(8) {
                let (space, key) = (Space::ALL[dice.below(2) as usize], dice.key());
                if dice.below(3) == 0 {
                    model.remove(&(space.number(), key.clone()));
                    batch.delete(space, key);
                } else {
                    let value = Bytes::from(format!("{round} {}", dice.below(1000)));
                    model.insert((space.number(), key.clone()), value.clone());
                    batch.put(space, key, value);
                }
            }
        });
        compare(engine.snapshot().as_ref(), &model, &mut dice);
        match dice.below(10) {
            0 => held.push((engine.snapshot(), model.clone())),
            1 if !held.is_empty() => {
                let (snapshot, model) = held.remove(dice.below(held.len() as u64) as usize);
                compare(snapshot.as_ref(), &model, &mut dice);
            }
            _ => {}
        }
    }
    for (snapshot, model) in held {
        compare(snapshot.as_ref(), &model, &mut dice);
    }
}

fn compare(snapshot: &dyn Snapshot, model: &Model, dice: &mut Dice) {
    let (space, key) = (Space::ALL[dice.below(2) as usize], dice.key());
    assert_eq!(get(snapshot, space, &key), model.get(&(space.number(), key.clone())).cloned());
    let range = ByteRange { start: key, end: (dice.below(3) > 0).then(|| dice.key()) };
    let in_model = |((at, key), value): (&(usize, Vec<u8>), &Bytes)| {
        (*at == space.number() && range.contains(key)).then(|| (Bytes::from(key.clone()), value.clone()))
    };
    let mut expected: Vec<_> = model.iter().filter_map(in_model).collect();
    assert_eq!(rows(snapshot, space, range.clone(), Direction::Forward), expected);
    expected.reverse();
    assert_eq!(rows(snapshot, space, range, Direction::Backward), expected);
}
