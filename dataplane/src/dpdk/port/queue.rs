//! Queues of a port: what a worker receives from and sends to, and gives back when the port goes.

use super::Inner;
use crate::buf::{Aggregate, PacketBuf};
use crate::dpdk::{Mbuf, Mempool};
use crate::port::{Burst, Port};
use dpdk_sys as sys;
use std::{
    cell::Cell,
    ffi::c_uint,
    marker::PhantomData,
    mem,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// No queue.
const NONE: u16 = u16::MAX;
/// Segments that a device is asked to cut to. Some cut to none that are shorter, or longer.
const SEGMENTS: RangeInclusive<u16> = 536..=9_000;

/// A queue that somebody has, given back when it goes.
struct Taken {
    port: Arc<Inner>,
    queue: u16,
    of: fn(&Inner) -> &[AtomicBool],
}

impl Taken {
    fn take(port: &Arc<Inner>, queue: u16, of: fn(&Inner) -> &[AtomicBool]) -> Option<Self> {
        let taken = of(port).get(usize::from(queue))?;
        (!taken.swap(true, Ordering::AcqRel)).then(|| Self { port: Arc::clone(port), queue, of })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(taken) = (self.of)(&self.port).get(usize::from(self.queue)) {
            taken.store(false, Ordering::Release);
        }
    }
}

/// A queue of a port to send, and perhaps one to receive. Its owner may move to another thread, and has it alone.
pub struct EthQueue {
    port: Arc<Inner>,
    port_id: u16,
    queue: u16,
    /// The receive queue, or [`NONE`].
    rx: u16,
    /// Received packets say whether their checksums are wrong.
    looks: bool,
    /// Received packets may be aggregates.
    merges: bool,
    /// One of both: what comes in is to be looked at.
    examines: bool,
    /// Checksums may be left to the device.
    fills: bool,
    /// Aggregates of at most so many pieces may be left to it.
    pieces: u16,
    /// More is to be done than to send: something may be asked of the device for what leaves, or it was pulled out.
    prepares: bool,
    /// Packets that were refused and that nobody has asked for yet.
    wrong: usize,
    /// Of those, aggregates that there was no buffer for.
    without_room: usize,
    /// Where a second segment of one comes from.
    pool: Mempool,
    receives: Option<Taken>,
    /// None once the device was pulled out.
    sends: Option<Taken>,
    /// DPDK's queues have no locks: one thread at a time.
    _one_thread: PhantomData<Cell<()>>,
}

impl EthQueue {
    /// Transmit queue `tx` and receive queue `rx` of a port that runs. None if somebody has one of them.
    pub(super) fn take(port: &Arc<Inner>, tx: u16, rx: Option<u16>) -> Option<Self> {
        let sends = Taken::take(port, tx, |port| &port.taken)?;
        let receives = match rx {
            Some(rx) => Some(Taken::take(port, rx, |port| &port.polled)?),
            None => None,
        };
        Some(Self {
            port: Arc::clone(port),
            port_id: port.id,
            queue: tx,
            rx: rx.unwrap_or(NONE),
            looks: port.looks,
            merges: port.merges,
            examines: port.looks || port.merges,
            fills: port.fills,
            pieces: port.pieces,
            prepares: port.fills || port.pieces > 0,
            wrong: 0,
            without_room: 0,
            pool: port.pool.clone(),
            receives,
            sends: Some(sends),
            _one_thread: PhantomData,
        })
    }

    /// The number of the transmit queue.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// Whether the queue believes what packets say of their checksums, whatever the device can do. For tests: no device that
    /// is software says anything.
    pub fn believe(&mut self, on: bool) {
        self.looks = on;
        self.examines = on || self.merges;
    }

    /// Whether received packets may be aggregates, whatever the device can do. For tests likewise.
    pub fn merge(&mut self, on: bool) {
        self.merges = on;
        self.examines = on || self.looks;
    }

    /// Whether checksums are left to the device, whatever it can do. For tests: what comes out of a ring is what was given to it.
    pub fn fill(&mut self, on: bool) {
        self.fills = on;
        self.prepares = on || self.pieces > 0;
    }

    /// Of how many pieces aggregates may be that are left to the device, whatever it can do. For tests likewise.
    pub fn cut(&mut self, pieces: u16) {
        self.pieces = pieces;
        self.prepares = self.fills || pieces > 0;
    }

    /// Gives the queues back: the device was pulled out.
    #[cold]
    fn leave(&mut self) {
        self.rx = NONE;
        self.prepares = true;
        self.receives = None;
        self.sends = None;
    }

    /// Looks at what came behind `len`.
    fn examine(&mut self, burst: &mut Burst<Mbuf>, len: usize) {
        if self.looks {
            self.refuse_wrong(burst, len);
        }
        if self.merges {
            let (before, pool) = (burst.len(), &mut self.pool);
            let mut number = 0;
            burst.retain(|mbuf| {
                number += 1;
                number <= len || mbuf.settle(pool)
            });
            self.without_room += before - burst.len();
            self.wrong += before - burst.len();
        }
    }

    /// Takes out of a burst what came behind `len` and has a wrong checksum.
    fn refuse_wrong(&mut self, burst: &mut Burst<Mbuf>, len: usize) {
        if !burst.iter().skip(len).any(Mbuf::checksum_is_wrong) {
            return;
        }
        let before = burst.len();
        let mut number = 0;
        burst.retain(|mbuf| {
            number += 1;
            number <= len || !mbuf.checksum_is_wrong()
        });
        self.wrong += before - burst.len();
    }

    /// Makes a burst ready for the device: what it was asked for is written down as its driver wants it. What it cannot send, or
    /// all of it where the device is gone, is freed.
    #[cold]
    fn prepare(&mut self, burst: &mut Burst<Mbuf>) {
        if self.is_gone() {
            burst.clear();
            return;
        }
        burst.retain(Mbuf::brief_device);
        let mut ready = 0;
        // Each turn makes some ready or frees one.
        while let Some(rest) = burst.get_mut(ready..).filter(|rest| !rest.is_empty()) {
            // SAFETY: an Mbuf is a pointer to an mbuf that is ours, and there are as many as we say. The queue is ours alone.
            ready += usize::from(unsafe {
                let count = rest.len() as u16;
                sys::postern_eth_tx_prepare(self.port_id, self.queue, rest.as_mut_ptr().cast(), count)
            });
            let _refused = burst.pop_at(ready);
        }
    }
}

impl Port for EthQueue {
    type Buf = Mbuf;

    #[inline]
    fn rx_burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        if self.port.gone.load(Ordering::Relaxed) {
            self.leave();
        }
        if self.rx == NONE {
            return 0;
        }
        let len = burst.len();
        let room = burst.remaining_capacity() as u16;
        // SAFETY: the burst has room for that many pointers behind its `len`, an Mbuf is one, and DPDK says how many
        // of them it has written, each an mbuf that is now ours. The queue runs and is ours alone.
        unsafe {
            let free = burst.as_mut_ptr().add(len).cast();
            let came = usize::from(sys::postern_eth_rx_burst(self.port_id, self.rx, free, room));
            burst.set_len(len + came);
        }
        // A NIC has written the headers to the last-level cache at best.
        for mbuf in burst.iter().skip(len) {
            mbuf.prefetch_bytes();
        }
        if self.examines {
            self.examine(burst, len);
        }
        burst.len() - len
    }

    #[inline]
    fn is_gone(&self) -> bool {
        self.sends.is_none()
    }

    fn without_room(&mut self) -> usize {
        mem::take(&mut self.without_room)
    }

    fn cuts(&self, aggregate: Aggregate) -> bool {
        aggregate.pieces <= self.pieces && SEGMENTS.contains(&aggregate.segment)
    }

    #[inline]
    fn fills_checksums(&self) -> bool {
        self.fills
    }

    #[inline]
    fn refused(&mut self) -> usize {
        mem::take(&mut self.wrong)
    }

    #[inline]
    fn tx_burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        if self.prepares {
            self.prepare(burst);
        }
        let len = burst.len();
        if burst.is_empty() {
            return 0;
        }
        // SAFETY: the burst holds `len` pointers, an Mbuf is one, and from here on they are no longer the burst's.
        // DPDK takes the first `sent` of them; the others are freed here. The queue runs and is ours alone.
        unsafe {
            burst.set_len(0);
            let first = burst.as_mut_ptr().cast();
            let sent = usize::from(sys::postern_eth_tx_burst(self.port_id, self.queue, first, len as u16));
            if sent < len {
                sys::rte_pktmbuf_free_bulk(first.add(sent), (len - sent) as c_uint);
            }
            sent
        }
    }
}
