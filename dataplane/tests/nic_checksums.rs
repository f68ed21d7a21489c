//! What a port says it has found broken is counted as dropped, and nothing else is made of it.

use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::handoff::Grid;
use dataplane::heap::{HeapBuf, HeapPool, HeapPort};
use dataplane::key::{Tick, WorkerId};
use dataplane::port::{Burst, Port};
use dataplane::shared::{Setup, Shared};
use dataplane::worker::Worker;
use std::sync::Arc;

/// A port that has found so many broken packets, once.
struct Broken(HeapPort, usize);

impl Port for Broken {
    type Buf = HeapBuf;

    fn rx_burst(&mut self, burst: &mut Burst<HeapBuf>) -> usize {
        self.0.rx_burst(burst)
    }

    fn tx_burst(&mut self, burst: &mut Burst<HeapBuf>) -> usize {
        self.0.tx_burst(burst)
    }

    fn refused(&mut self) -> usize {
        std::mem::take(&mut self.1)
    }
}

#[test]
fn broken_packets_are_counted() {
    let shared = Shared::new(Setup { sessions: 64, expectations: 64, ..Setup::default() }).unwrap();
    let (mut queues, _wire) = HeapPort::multi(1, 16);
    let ports = vec![Broken(queues.remove(0), 7)];
    let mut worker = Worker::new(Arc::clone(&shared), Grid::new(1), WorkerId(0), ports, HeapPool::new(16));
    assert_eq!([worker.poll(Tick(1)), worker.poll(Tick(1))], [7, 0], "it was work, once");
    let counters = &shared.lane(WorkerId(0)).unwrap().counters;
    assert_eq!((counters.dropped(DropReason::NicChecksum), counters.dropped_total()), (7, 7));
    assert_eq!(counters.get(Counter::RxPackets), 7, "what is dropped was received");
}
