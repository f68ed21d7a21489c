//! Unguessable numbers without a system call: a keyed hash of a counter.

use crate::key::{Addrs, FlowKey, Protocol, ZoneId};
use crate::table::HashKey;

/// One worker's numbers. The same secret and worker give the same sequence, so that tests can be replayed. A copy
/// knows what will be drawn next.
#[derive(Clone)]
pub struct Rng {
    key: HashKey,
    count: u64,
    stream: u16,
}

impl Rng {
    /// The sequence of one worker.
    #[must_use]
    pub fn new(secret: [u64; 4], stream: u16) -> Self {
        Self {
            key: HashKey::new(secret.map(|w| w.rotate_left(23) ^ 0xa5a5_5a5a_c3c3_3c3c)),
            count: 0,
            stream,
        }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.key
            .hash(&FlowKey {
                addrs: Addrs::V6([self.count, self.count.rotate_left(32)], [u64::from(self.stream), 0]),
                sport: self.stream,
                dport: 0,
                protocol: Protocol::Udp,
                scope: ZoneId(u16::MAX),
            })
            .0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn sequences_differ_by_worker_and_do_not_repeat() {
        let mut seen = HashSet::new();
        for stream in 0..4 {
            let mut rng = Rng::new([1, 2, 3, 4], stream);
            for _ in 0..10_000 {
                assert!(seen.insert(rng.draw()));
            }
        }
    }
}
