//! Packets on their way to the worker that owns their flow: a bounded ring from each worker to each other.
//!
//! A ring has one sender and one receiver. Each of them keeps its own place to itself and tells the other once a turn how
//! far it has come, so that a burst moves two shared words between two cores, and each packet one line of its own.

use crate::heap::HeapBuf;
use crate::key::{InterfaceId, WorkerId};
use crate::stage::forward::Plan;
use crate::sync::{AtomicBool, AtomicU32, Ordering, UnsafeCell};
use core::cell::Cell;
use core::mem::MaybeUninit;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Packets that fit one ring: a power of two.
pub const RING: usize = 1024;

/// A packet on its way: a cache line of its own.
#[repr(align(64))]
pub struct Parcel<B> {
    /// The packet, as it came in.
    pub buf: B,
    /// What the sender found out: session and version, which the owner looks at again, or nothing.
    pub plan: Plan,
    /// Where it came in.
    pub ingress: InterfaceId,
    /// How often it was handed on.
    pub hops: u8,
}

const _: () = assert!(size_of::<Parcel<u64>>() == 64);

/// A word that has its cache line, and the one beside it, to itself.
#[repr(align(128))]
struct Apart<T>(T);

/// A ring of `2^n` places.
pub struct Ring<T> {
    /// Up to where places hold something: the sender's.
    filled: Apart<AtomicU32>,
    /// Up to where they were emptied: the receiver's.
    emptied: Apart<AtomicU32>,
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a place is touched by the sender alone or by the receiver alone, as the two words say: who hands it over
// publishes that with Release, who takes it over has read that with Acquire. There is one of each ([`Sender`], [`Receiver`]).
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// An empty ring of at least `places` places, and its two ends.
    #[must_use]
    pub fn pair(places: usize) -> (Sender<T>, Receiver<T>) {
        let ring = Arc::new(Self {
            filled: Apart(AtomicU32::new(0)),
            emptied: Apart(AtomicU32::new(0)),
            places: (0..places.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        });
        let sender =
            Sender { ring: Arc::clone(&ring), next: Cell::new(0), told: Cell::new(0), emptied: Cell::new(0) };
        let receiver = Receiver { ring, next: Cell::new(0), told: Cell::new(0), filled: Cell::new(0) };
        (sender, receiver)
    }

    #[inline]
    fn place(&self, number: u32) -> Option<&UnsafeCell<MaybeUninit<T>>> {
        let mask = self.places.len().wrapping_sub(1);
        self.places.get(number as usize & mask)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Both ends are gone; what they did is seen, because they let go of the ring.
        let mut at = self.emptied.0.load(Ordering::Relaxed);
        let end = self.filled.0.load(Ordering::Relaxed);
        while at != end {
            if let Some(place) = self.place(at) {
                // SAFETY: places from `emptied` to `filled` hold something, and nobody else is there.
                place.with_mut(|at| unsafe { (*at).assume_init_drop() });
            }
            at = at.wrapping_add(1);
        }
    }
}

/// The end that fills a ring.
pub struct Sender<T> {
    ring: Arc<Ring<T>>,
    /// The next place to fill.
    next: Cell<u32>,
    /// The receiver knows of what lies before this one.
    told: Cell<u32>,
    /// What was last read of the receiver's word.
    emptied: Cell<u32>,
}

impl<T> Sender<T> {
    /// Puts something in; the receiver knows of it after [`Self::publish`].
    ///
    /// # Errors
    /// The ring is full: here it is again.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), T> {
        let next = self.next.get();
        if next.wrapping_sub(self.emptied.get()) as usize >= self.ring.places.len() {
            self.emptied.set(self.ring.emptied.0.load(Ordering::Acquire));
            if next.wrapping_sub(self.emptied.get()) as usize >= self.ring.places.len() {
                return Err(value);
            }
        }
        let Some(place) = self.ring.place(next) else { return Err(value) };
        // SAFETY: the receiver has emptied this place, or it was never filled, and does not know of it yet.
        place.with_mut(|at| unsafe {
            (*at).write(value);
        });
        self.next.set(next.wrapping_add(1));
        Ok(())
    }

    /// Tells the receiver of what was pushed.
    #[inline]
    pub fn publish(&self) {
        let next = self.next.get();
        if next != self.told.get() {
            self.told.set(next);
            self.ring.filled.0.store(next, Ordering::Release);
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // What was pushed is the ring's to drop.
        self.publish();
    }
}

/// The end that empties a ring.
pub struct Receiver<T> {
    ring: Arc<Ring<T>>,
    next: Cell<u32>,
    told: Cell<u32>,
    /// What was last read of the sender's word.
    filled: Cell<u32>,
}

impl<T> Receiver<T> {
    /// How many can be popped at least. Brings the first `most` of them near.
    #[inline]
    pub fn look(&self, most: usize) -> usize {
        if self.next.get() == self.filled.get() {
            self.filled.set(self.ring.filled.0.load(Ordering::Acquire));
        }
        let ready = self.filled.get().wrapping_sub(self.next.get()) as usize;
        let count = ready.min(most);
        for ahead in (0..).take(count) {
            if let Some(place) = self.ring.place(self.next.get().wrapping_add(ahead)) {
                crate::prefetch(place);
            }
        }
        ready
    }

    /// Takes the next one out. The sender may use its place after [`Self::release`].
    #[inline]
    pub fn pop(&self) -> Option<T> {
        let next = self.next.get();
        if next == self.filled.get() {
            self.filled.set(self.ring.filled.0.load(Ordering::Acquire));
            if next == self.filled.get() {
                return None;
            }
        }
        let place = self.ring.place(next)?;
        self.next.set(next.wrapping_add(1));
        // SAFETY: the sender has filled this place and does not touch it again before it is released; it is read once.
        Some(place.with_mut(|at| unsafe { (*at).assume_init_read() }))
    }

    /// Gives the places of what was popped back to the sender.
    #[inline]
    pub fn release(&self) {
        let next = self.next.get();
        if next != self.told.get() {
            self.told.set(next);
            self.ring.emptied.0.store(next, Ordering::Release);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // What was not popped is the ring's to drop, and only that.
        self.release();
    }
}

/// Datagrams put together from fragments that fit the ring to one worker.
const LARGE_RING: usize = 256;

/// A datagram in a large buffer on its way. Nothing is known of it but what it says.
pub struct LargeParcel {
    /// The datagram.
    pub buf: HeapBuf,
    /// Where its first fragment came in.
    pub ingress: InterfaceId,
    /// How often it was handed on.
    pub hops: u8,
    /// See [`crate::stage::Item::longest`].
    pub longest: u16,
}

/// The rings of large datagrams: to each worker, from all.
type Large = Arc<[ArrayQueue<LargeParcel>]>;

/// To another worker; none to itself.
type Out<B> = Option<Sender<Parcel<B>>>;
/// From another worker; none from itself.
type In<B> = Option<Receiver<Parcel<B>>>;

/// The ends of one worker, each list by worker.
pub struct Ends<B> {
    senders: Vec<Out<B>>,
    receivers: Vec<In<B>>,
    large: Large,
}

impl<B> Ends<B> {
    /// No ring at all: nothing can be handed off.
    #[must_use]
    pub fn none() -> Self {
        Self::with(&Arc::from([]))
    }

    fn with(large: &Large) -> Self {
        Self { senders: Vec::new(), receivers: Vec::new(), large: Arc::clone(large) }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.senders.len()
    }

    /// The way to another worker.
    #[inline]
    #[must_use]
    pub fn to(&self, worker: WorkerId) -> Option<&Sender<Parcel<B>>> {
        self.senders.get(usize::from(worker.0))?.as_ref()
    }

    /// The ways from all others.
    pub fn from_all(&self) -> impl Iterator<Item = &Receiver<Parcel<B>>> {
        self.receivers.iter().flatten()
    }

    /// The ring of datagrams in large buffers that leads to a worker.
    #[must_use]
    pub fn large(&self, to: WorkerId) -> Option<&ArrayQueue<LargeParcel>> {
        self.large.get(usize::from(to.0))
    }

    /// Tells all others of what was pushed.
    #[inline]
    pub fn publish(&self) {
        for sender in self.senders.iter().flatten() {
            sender.publish();
        }
    }
}

/// All rings, until their workers take their ends.
pub struct Grid<B> {
    ends: Box<[Untaken<B>]>,
}

struct Untaken<B> {
    taken: AtomicBool,
    ends: UnsafeCell<Option<Ends<B>>>,
}

// SAFETY: the ends are touched once, by who sets the flag first.
unsafe impl<B: Send> Sync for Untaken<B> {}

impl<B> Grid<B> {
    /// Rings among `workers` workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let large: Large = (0..workers).map(|_| ArrayQueue::new(LARGE_RING)).collect();
        let mut all: Vec<Ends<B>> = (0..workers).map(|_| Ends::with(&large)).collect();
        for from in 0..workers {
            for to in 0..workers {
                let (sender, receiver) = match Ring::pair(RING) {
                    (sender, receiver) if from != to => (Some(sender), Some(receiver)),
                    _ => (None, None),
                };
                // Row by row: senders come in the order of `to`, receivers in that of `from`.
                if let Some(ends) = all.get_mut(from) {
                    ends.senders.push(sender);
                }
                if let Some(ends) = all.get_mut(to) {
                    ends.receivers.push(receiver);
                }
            }
        }
        let untaken = |ends| Untaken { taken: AtomicBool::new(false), ends: UnsafeCell::new(Some(ends)) };
        Arc::new(Self { ends: all.into_iter().map(untaken).collect() })
    }

    /// The ends of a worker: once.
    #[must_use]
    pub fn take(&self, worker: WorkerId) -> Option<Ends<B>> {
        let untaken = self.ends.get(usize::from(worker.0))?;
        if untaken.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: the flag was false, so nobody else comes here.
        untaken.ends.with_mut(|ends| unsafe { (*ends).take() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_takes_what_fits_and_gives_it_back_in_order() {
        let (sender, receiver) = Ring::pair(4);
        for round in 0..10 {
            for n in 0..4 {
                assert_eq!(sender.push(round * 4 + n), Ok(()));
            }
            assert_eq!(sender.push(99), Err(99));
            assert_eq!((receiver.look(9), receiver.pop()), (0, None), "nothing was published");
            sender.publish();
            assert_eq!(receiver.look(2), 4);
            for n in 0..4 {
                assert_eq!(receiver.pop(), Some(round * 4 + n));
            }
            assert_eq!(sender.push(99), Err(99), "nothing was released");
            receiver.release();
        }
    }

    #[test]
    fn what_is_left_in_a_ring_is_dropped_once() {
        let count = Arc::new(());
        let (sender, receiver) = Ring::pair(8);
        for _ in 0..5 {
            assert!(sender.push(Arc::clone(&count)).is_ok());
        }
        sender.publish();
        assert!(receiver.pop().is_some() && receiver.pop().is_some());
        assert!(sender.push(Arc::clone(&count)).is_ok(), "pushed and not published");
        drop(receiver);
        assert_eq!(Arc::strong_count(&count), 5);
        drop(sender);
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn ends_are_taken_once_and_lead_to_each_other() {
        let grid = Grid::<u8>::new(3);
        let ends: Vec<_> = (0..3).map(|n| grid.take(WorkerId(n)).unwrap()).collect();
        assert!((0..4).all(|n| grid.take(WorkerId(n)).is_none()));
        let parcel = |buf| Parcel { buf, plan: Plan::default(), ingress: InterfaceId(0), hops: 1 };
        for (from, ends) in ends.iter().enumerate() {
            for to in 0..3 {
                let way = ends.to(WorkerId(to));
                assert_eq!(way.is_none(), usize::from(to) == from);
                assert!(way.is_none_or(|way| way.push(parcel(u8::try_from(from).unwrap() * 3 + to)).is_ok()));
            }
            assert!(ends.to(WorkerId(3)).is_none());
            ends.publish();
        }
        for (to, ends) in ends.iter().enumerate() {
            let heard: Vec<_> = ends.from_all().filter_map(|way| way.pop().map(|p| p.buf)).collect();
            let want: Vec<_> =
                (0..3_usize).filter(|from| *from != to).map(|from| (from * 3 + to) as u8).collect();
            assert_eq!(heard, want);
        }
    }
}
