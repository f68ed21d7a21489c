//! The bindings against a model: maps and counters.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

#[derive(Clone, Debug)]
enum Step {
    Open { inside: (u8, u16), random: u64 },
    Publish { inside: (u8, u16), count: u16, parity: Parity },
    Retain { which: usize },
    Release { which: usize },
    Wait { ms: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    // Few endpoints, so that they meet.
    let inside = || (0u8..3, prop_oneof![2000u16..2012, 65_530..=65_535u16]);
    let parity = prop_oneof![Just(Parity::Any), Just(Parity::Even), Just(Parity::Odd)];
    prop_oneof![
        4 => (inside(), any::<u64>()).prop_map(|(inside, random)| Step::Open { inside, random }),
        2 => (inside(), 1u16..5, parity)
            .prop_map(|(inside, count, parity)| Step::Publish { inside, count, parity }),
        1 => any::<usize>().prop_map(|which| Step::Retain { which }),
        5 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => (0u32..2 * HOLD).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What should be: by inside endpoint, the id, the outside port and the references.
#[derive(Default)]
struct Model {
    live: HashMap<(IpAddr, u16), (BindingId, u16, u32)>,
    /// One entry a reference.
    held: Vec<(IpAddr, u16)>,
    ended: Vec<BindingId>,
}

impl Model {
    fn refer(&mut self, b: &Bench, inside: (IpAddr, u16), id: BindingId) -> Result<(), TestCaseError> {
        let port = b.port(id);
        let entry = self.live.entry(inside).or_insert((id, port, 0));
        prop_assert_eq!((entry.0, entry.1), (id, port), "one inside endpoint, one outside endpoint");
        entry.2 += 1;
        self.held.push(inside);
        Ok(())
    }

    fn check(&self, b: &Bench) -> Result<(), TestCaseError> {
        prop_assert_eq!(b.bindings.len(), self.live.len());
        prop_assert_eq!(b.bindings.iter().count(), self.live.len());
        let outside: HashSet<u16> = self.live.values().map(|(_, port, _)| *port).collect();
        prop_assert_eq!(outside.len(), self.live.len(), "two endpoints never share a port");
        for (inside, (id, port, refs)) in &self.live {
            let binding = b.bindings.get(*id).unwrap();
            let key = BindingKey { protocol: TCP, addr: inside.0, port: inside.1, pool: b.outside.pool };
            prop_assert_eq!(binding.inside, key);
            prop_assert_eq!((binding.outside_port, binding.refs), (*port, *refs));
            prop_assert_eq!(binding.outside_addr, b.outside.addr);
            prop_assert_eq!(b.bindings.find(&key), Some(*id));
            prop_assert!(b.ports().is_taken(TCP, *port));
        }
        for id in &self.ended {
            prop_assert!(b.bindings.get(*id).is_none());
        }
        prop_assert_eq!(b.ports().in_use(TCP) as usize, self.live.len() + b.hold.len());
        prop_assert_eq!(b.hold.lost(), 0);
        Ok(())
    }
}

proptest! {
    #[test]
    fn behaves_as_maps(steps in prop::collection::vec(step(), 1..200), capacity in 1u32..24) {
        let mut b = bench(2, capacity);
        let mut now = Tick(u32::MAX - HOLD);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Open { inside: (n, port), random } => match b.open((host(n), port), random) {
                    Ok(id) => model.refer(&b, (host(n), port), id)?,
                    Err(error) => {
                        prop_assert_eq!(error, BindError::TableFull);
                        prop_assert!(!model.live.contains_key(&(host(n), port)));
                        prop_assert_eq!(model.live.len(), capacity as usize);
                    }
                },
                Step::Publish { inside: (n, port), count, parity } => {
                    let fresh = (0..count).all(|i| {
                        port.checked_add(i).is_none_or(|p| !model.live.contains_key(&(host(n), p)))
                    });
                    if let Ok(published) = b.publish((host(n), port), count, parity) {
                        prop_assert_eq!(published.ids.len(), usize::from(count));
                        for (i, id) in (0..count).zip(published.ids) {
                            prop_assert_eq!(b.port(id), published.port + i);
                            model.refer(&b, (host(n), port + i), id)?;
                        }
                        let even = published.port % 2 == 0;
                        prop_assert!(!fresh || parity == Parity::Any || even == (parity == Parity::Even));
                    } else if fresh {
                        let room = capacity as usize - model.live.len();
                        prop_assert!(room < usize::from(count) || port.checked_add(count - 1).is_none());
                    }
                }
                Step::Retain { which } => {
                    if let Some(inside) = model.held.get(which % model.held.len().max(1)).copied() {
                        let id = model.live[&inside].0;
                        prop_assert!(b.bindings.retain(id));
                        model.refer(&b, inside, id)?;
                    }
                }
                Step::Release { which } => {
                    if model.held.is_empty() {
                        continue;
                    }
                    let inside = model.held.swap_remove(which % model.held.len());
                    let entry = model.live.get_mut(&inside).unwrap();
                    let id = entry.0;
                    entry.2 -= 1;
                    if entry.2 == 0 {
                        model.live.remove(&inside);
                        model.ended.push(id);
                    }
                    prop_assert!(b.release(id, now));
                    if !model.live.contains_key(&inside) {
                        prop_assert!(!b.release(id, now), "a stale id does nothing");
                    }
                }
                Step::Wait { ms } => {
                    now = now.plus(ms);
                    b.hold.expire(now, HOLD, usize::MAX);
                }
            }
            model.check(&b)?;
        }
        for inside in core::mem::take(&mut model.held) {
            let id = model.live[&inside].0;
            prop_assert!(b.release(id, now));
        }
        prop_assert!(b.bindings.is_empty());
        b.hold.expire(now.plus(HOLD), HOLD, usize::MAX);
        prop_assert!(b.hold.is_empty());
        prop_assert_eq!(b.ports().in_use(TCP), 0);
        prop_assert_eq!(b.bindings.index.len(), 0);
    }
}
