//! Packet buffers on the heap and ports inside the process: the whole journey without an EAL.
//!
//! The longest datagrams are put together in such buffers too, whatever the ports' are.
//!
//! A [`HeapPool`] counts the buffers that are out, so that a test can tell that none leaked; a [`HeapPort`] is one
//! (port, queue) of a worker, and its [`HeapWire`] the cable that a test holds the other end of.

use crate::buf::{BufPool, DATA_ROOM, HEADROOM, PacketBuf};
use crate::port::{Burst, Port};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

struct Shared {
    live: AtomicUsize,
    capacity: usize,
    /// Bytes of one buffer.
    room: usize,
    free: ArrayQueue<Box<[u8]>>,
}

/// A bounded pool of buffers. Clones share it. It makes buffers as they are first needed and keeps them afterwards.
#[derive(Clone)]
pub struct HeapPool(Arc<Shared>);

impl HeapPool {
    /// A pool of `capacity` buffers, each as large as a NIC's.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_data_room(capacity, DATA_ROOM)
    }

    /// A pool of `capacity` buffers with `data_room` bytes each behind their headroom.
    #[must_use]
    pub fn with_data_room(capacity: usize, data_room: usize) -> Self {
        let free = ArrayQueue::new(capacity.max(1));
        let room = HEADROOM.saturating_add(data_room);
        Self(Arc::new(Shared { live: AtomicUsize::new(0), capacity, room, free }))
    }

    /// The same, with all of its buffers made at once.
    #[must_use]
    pub fn reserved(capacity: usize, data_room: usize) -> Self {
        let pool = Self::with_data_room(capacity, data_room);
        for _ in 0..capacity {
            // Touched, so that no page is missing later. The queue holds as many.
            let _ = pool.0.free.push(vec![0xff; pool.0.room].into_boxed_slice());
        }
        pool
    }

    /// Buffers that are out.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.live.load(Ordering::Acquire)
    }

    /// Buffers that may be out at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// A buffer with `frame` in it. None if the pool is empty or the frame too long.
    #[must_use]
    pub fn copy_of(&mut self, frame: &[u8]) -> Option<HeapBuf> {
        let mut buf = self.alloc()?;
        if !buf.append(frame.len()) {
            return None;
        }
        buf.bytes_mut().copy_from_slice(frame);
        Some(buf)
    }
}

impl fmt::Debug for HeapPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapPool").field("live", &self.live()).field("capacity", &self.capacity()).finish()
    }
}

impl BufPool for HeapPool {
    type Buf = HeapBuf;

    fn alloc(&mut self) -> Option<HeapBuf> {
        let shared = &self.0;
        let below = |n: usize| (n < shared.capacity).then_some(n + 1);
        shared.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).ok()?;
        let data = shared.free.pop().unwrap_or_else(|| vec![0; shared.room].into_boxed_slice());
        Some(HeapBuf { data, start: HEADROOM, len: 0, pool: Arc::clone(shared) })
    }
}

/// A packet on the heap. Dropping it gives it back to its pool.
pub struct HeapBuf {
    /// As many bytes as its pool's buffers have, but while it is dropped.
    data: Box<[u8]>,
    /// `start + len <= data.len()`.
    start: usize,
    len: usize,
    pool: Arc<Shared>,
}

impl Drop for HeapBuf {
    fn drop(&mut self) {
        // The queue holds as many as may be out; if it were full, the heap takes the buffer back.
        let _ = self.pool.free.push(core::mem::take(&mut self.data));
        self.pool.live.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for HeapBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapBuf").field("start", &self.start).field("bytes", &self.bytes()).finish()
    }
}

impl PacketBuf for HeapBuf {
    fn bytes(&self) -> &[u8] {
        self.data.get(self.start..self.start + self.len).unwrap_or(&[])
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.start..self.start + self.len).unwrap_or(&mut [])
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        self.data.len().saturating_sub(self.start + self.len)
    }

    fn prepend(&mut self, n: usize) -> bool {
        let Some(start) = self.start.checked_sub(n) else { return false };
        self.start = start;
        self.len += n;
        true
    }

    fn append(&mut self, n: usize) -> bool {
        let fits = n <= self.tailroom();
        if fits {
            self.len += n;
        }
        fits
    }

    fn trim_front(&mut self, n: usize) -> bool {
        let fits = n <= self.len;
        if fits {
            self.start += n;
            self.len -= n;
        }
        fits
    }

    fn trim_back(&mut self, n: usize) -> bool {
        let fits = n <= self.len;
        if fits {
            self.len -= n;
        }
        fits
    }
}

type Queue = Arc<ArrayQueue<HeapBuf>>;

/// One queue of an in-process port, as a worker owns it.
#[derive(Debug)]
pub struct HeapPort {
    rx: Queue,
    tx: Queue,
}

/// The other end of the cable: feeds the receive queues, takes what was sent.
#[derive(Clone, Debug)]
pub struct HeapWire {
    rx: Vec<Queue>,
    tx: Queue,
}

impl HeapPort {
    /// A port of one queue, `capacity` packets deep each way.
    #[must_use]
    pub fn pair(capacity: usize) -> (Self, HeapWire) {
        let (rx, tx) = (queue(capacity), queue(capacity));
        (Self { rx: Arc::clone(&rx), tx: Arc::clone(&tx) }, HeapWire { rx: vec![rx], tx })
    }

    /// A port of `queues` receive queues, one a worker, and one common way out.
    #[must_use]
    pub fn multi(queues: usize, capacity: usize) -> (Vec<Self>, HeapWire) {
        let tx = queue(capacity);
        let rx: Vec<_> = (0..queues).map(|_| queue(capacity)).collect();
        let ports = rx.iter().map(|rx| Self { rx: Arc::clone(rx), tx: Arc::clone(&tx) }).collect();
        (ports, HeapWire { rx, tx })
    }
}

fn queue(capacity: usize) -> Queue {
    Arc::new(ArrayQueue::new(capacity.max(1)))
}

impl Port for HeapPort {
    type Buf = HeapBuf;

    fn rx_burst(&mut self, burst: &mut Burst<HeapBuf>) -> usize {
        let before = burst.len();
        while !burst.is_full() {
            let Some(buf) = self.rx.pop() else { break };
            burst.push(buf);
        }
        burst.len() - before
    }

    fn tx_burst(&mut self, burst: &mut Burst<HeapBuf>) -> usize {
        let mut sent = 0;
        for buf in burst.drain(..) {
            // What does not fit comes back as the error, and is freed with it.
            sent += usize::from(self.tx.push(buf).is_ok());
        }
        sent
    }
}

impl HeapWire {
    /// Receive queues of the port.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.rx.len()
    }

    /// Puts a packet on the first receive queue.
    ///
    /// # Errors
    /// The packet, if the queue is full.
    pub fn send(&self, buf: HeapBuf) -> Result<(), HeapBuf> {
        self.send_to(0, buf)
    }

    /// Puts a packet on receive queue `queue`.
    ///
    /// # Errors
    /// The packet, if the queue is full or there is none of that number.
    pub fn send_to(&self, queue: usize, buf: HeapBuf) -> Result<(), HeapBuf> {
        match self.rx.get(queue) {
            Some(q) => q.push(buf),
            None => Err(buf),
        }
    }

    /// The next packet that the port sent.
    #[must_use]
    pub fn recv(&self) -> Option<HeapBuf> {
        self.tx.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = HEADROOM + DATA_ROOM;

    #[test]
    fn pool_is_bounded_counts_and_recycles() {
        let mut pool = HeapPool::new(2);
        let a = pool.copy_of(&[1, 2, 3]).unwrap();
        let b = pool.alloc().unwrap();
        assert_eq!(pool.live(), 2);
        assert!(pool.alloc().is_none());
        let at = a.bytes().as_ptr();
        drop(a);
        assert_eq!(pool.live(), 1);
        let c = pool.copy_of(&[4]).unwrap();
        assert_eq!((c.bytes(), c.bytes().as_ptr(), c.headroom()), (&[4u8][..], at, HEADROOM));
        drop((b, c));
        assert_eq!(pool.live(), 0);
        assert!(pool.copy_of(&[0; DATA_ROOM + 1]).is_none());
        assert_eq!(pool.live(), 0);
        assert!(HeapPool::new(0).alloc().is_none());
        let mut large = HeapPool::with_data_room(1, 70_000);
        assert!(large.copy_of(&[0; 70_001]).is_none());
        assert_eq!(large.copy_of(&[5; 70_000]).unwrap().bytes(), &[5; 70_000]);
    }

    #[test]
    fn room_is_never_overdrawn() {
        let mut b = HeapPool::new(1).copy_of(&[7; 10]).unwrap();
        assert!(
            !b.prepend(HEADROOM + 1) && !b.append(DATA_ROOM - 9) && !b.trim_front(11) && !b.trim_back(11)
        );
        assert_eq!(b.bytes(), &[7; 10]);
        assert!(b.prepend(HEADROOM) && b.append(DATA_ROOM - 10));
        assert_eq!((b.bytes().len(), b.headroom(), b.tailroom()), (ROOM, 0, 0));
        assert_eq!(&b.bytes()[HEADROOM..HEADROOM + 10], &[7; 10]);
        assert!(b.trim_front(ROOM) && b.bytes().is_empty() && b.prepend(ROOM));
        assert!(!b.prepend(usize::MAX) && !b.append(usize::MAX) && !b.trim_front(usize::MAX));
    }

    #[test]
    fn wire_carries_both_ways_per_queue() {
        let mut pool = HeapPool::new(8);
        let (mut ports, wire) = HeapPort::multi(2, 2);
        wire.send_to(1, pool.copy_of(&[1]).unwrap()).unwrap();
        wire.send(pool.copy_of(&[0]).unwrap()).unwrap();
        assert!(wire.send_to(2, pool.copy_of(&[9]).unwrap()).is_err());
        let mut burst = Burst::new();
        assert_eq!(ports[1].rx_burst(&mut burst), 1);
        assert_eq!(ports[0].rx_burst(&mut burst), 1);
        assert_eq!(ports[0].rx_burst(&mut burst), 0);
        burst.push(pool.copy_of(&[2]).unwrap());
        assert_eq!(ports[0].tx_burst(&mut burst), 2);
        assert!(burst.is_empty());
        assert_eq!(wire.recv().unwrap().bytes(), &[1]);
        assert_eq!(wire.recv().unwrap().bytes(), &[0]);
        assert!(wire.recv().is_none());
        assert_eq!(pool.live(), 0);
    }
}
