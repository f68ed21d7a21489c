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

/// How many places ahead of the one that it fills a sender asks for: the receiver had them last.
const AHEAD: u32 = 8;

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
    places: Box<[Place<T>]>,
}

type Place<T> = UnsafeCell<MaybeUninit<T>>;

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
        let receiver = Receiver { ring, next: 0, told: 0, filled: 0 };
        (sender, receiver)
    }

    #[inline]
    fn place(&self, number: u32) -> Option<&Place<T>> {
        let mask = self.places.len().wrapping_sub(1);
        self.places.get(number as usize & mask)
    }

    /// `count` places from this one on, at most all: up to the last one, and on from the first.
    #[inline]
    fn stretch(&self, number: u32, count: u32) -> [&[Place<T>]; 2] {
        let (before, behind) = self
            .places
            .split_at_checked(number as usize & self.places.len().wrapping_sub(1))
            .unwrap_or_default();
        let near = behind.len().min(count as usize);
        let rest = before.len().min((count as usize).saturating_sub(near));
        [behind.get(..near).unwrap_or_default(), before.get(..rest).unwrap_or_default()]
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
        if let Some(ahead) = self.ring.place(next.wrapping_add(AHEAD)) {
            crate::prefetch_to_write(ahead);
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
    next: u32,
    told: u32,
    /// What was last read of the sender's word.
    filled: u32,
}

impl<T> Receiver<T> {
    /// How many of at most `most` can be popped. Brings them near.
    #[inline]
    pub fn look(&mut self, most: u32) -> u32 {
        if self.filled.wrapping_sub(self.next) < most {
            self.filled = self.ring.filled.0.load(Ordering::Acquire);
        }
        let count = self.filled.wrapping_sub(self.next).min(most);
        for part in self.ring.stretch(self.next, count) {
            part.iter().for_each(crate::prefetch);
        }
        count
    }

    /// Shows those of the next `count` that can be popped, where they lie.
    #[inline]
    pub fn show(&mut self, count: u32, mut see: impl FnMut(&T)) {
        let count = self.filled.wrapping_sub(self.next).min(count);
        for part in self.ring.stretch(self.next, count) {
            for place in part {
                // SAFETY: the sender has filled this place and does not touch it before it is released; nobody pops it
                // meanwhile, because this end is borrowed.
                place.with_mut(|at| see(unsafe { (*at).assume_init_ref() }));
            }
        }
    }

    /// Takes the next one out. The sender may use its place after [`Self::release`].
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.filled {
            self.filled = self.ring.filled.0.load(Ordering::Acquire);
            if self.next == self.filled {
                return None;
            }
        }
        let place = self.ring.place(self.next)?;
        self.next = self.next.wrapping_add(1);
        // SAFETY: the sender has filled this place and does not touch it again before it is released; it is read once.
        Some(place.with_mut(|at| unsafe { (*at).assume_init_read() }))
    }

    /// Takes the next `count` out, those that [`Self::look`] found at most, each before the next is touched.
    #[inline]
    pub fn take(&mut self, count: u32, mut each: impl FnMut(T)) {
        let count = self.filled.wrapping_sub(self.next).min(count);
        for part in self.ring.stretch(self.next, count) {
            for place in part {
                self.next = self.next.wrapping_add(1);
                // SAFETY: as in `pop`.
                each(place.with_mut(|at| unsafe { (*at).assume_init_read() }));
            }
        }
    }

    /// Gives the places of what was popped back to the sender.
    #[inline]
    pub fn release(&mut self) {
        if self.next != self.told {
            self.told = self.next;
            self.ring.emptied.0.store(self.next, Ordering::Release);
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

/// The ends at which one worker hands off, by worker.
pub struct Ends<B> {
    senders: Vec<Out<B>>,
    large: Large,
}

impl<B> Ends<B> {
    /// No ring at all: nothing can be handed off.
    #[must_use]
    pub fn none() -> Self {
        Self::with(&Arc::from([]))
    }

    fn with(large: &Large) -> Self {
        Self { senders: Vec::new(), large: Arc::clone(large) }
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

/// The ways from all other workers to one.
pub type Arrivals<B> = Vec<Receiver<Parcel<B>>>;

/// All rings, until their workers take their ends.
pub struct Grid<B> {
    ends: Box<[Untaken<B>]>,
}

struct Untaken<B> {
    taken: AtomicBool,
    ends: UnsafeCell<Option<(Ends<B>, Arrivals<B>)>>,
}

// SAFETY: the ends are touched once, by who sets the flag first.
unsafe impl<B: Send> Sync for Untaken<B> {}

impl<B> Grid<B> {
    /// Rings among `workers` workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let large: Large = (0..workers).map(|_| ArrayQueue::new(LARGE_RING)).collect();
        let mut all: Vec<(Ends<B>, Arrivals<B>)> =
            (0..workers).map(|_| (Ends::with(&large), Vec::new())).collect();
        for from in 0..workers {
            for to in 0..workers {
                let (sender, receiver) = match Ring::pair(RING) {
                    (sender, receiver) if from != to => (Some(sender), Some(receiver)),
                    _ => (None, None),
                };
                // Row by row: senders come in the order of `to`, receivers in that of `from`.
                if let Some((ends, _)) = all.get_mut(from) {
                    ends.senders.push(sender);
                }
                if let Some((_, arrivals)) = all.get_mut(to) {
                    arrivals.extend(receiver);
                }
            }
        }
        let untaken = |ends| Untaken { taken: AtomicBool::new(false), ends: UnsafeCell::new(Some(ends)) };
        Arc::new(Self { ends: all.into_iter().map(untaken).collect() })
    }

    /// The ends of a worker: once.
    #[must_use]
    pub fn take(&self, worker: WorkerId) -> Option<(Ends<B>, Arrivals<B>)> {
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
        let (sender, mut receiver) = Ring::pair(4);
        for round in 0..10 {
            for n in 0..4 {
                assert_eq!(sender.push(round * 4 + n), Ok(()));
            }
            assert_eq!(sender.push(99), Err(99));
            assert_eq!((receiver.look(9), receiver.pop()), (0, None), "nothing was published");
            receiver.show(9, |n| panic!("{n} was not published"));
            sender.publish();
            assert_eq!((receiver.look(2), receiver.look(9)), (2, 4));
            let mut seen = Vec::new();
            receiver.show(3, |n| seen.push(*n - round * 4));
            assert_eq!(seen, [0, 1, 2]);
            assert_eq!(receiver.pop(), Some(round * 4));
            let mut taken = Vec::new();
            receiver.take(2, |n| taken.push(n - round * 4));
            receiver.take(9, |n| taken.push(n - round * 4));
            assert_eq!(taken, [1, 2, 3], "across the last place too, in three rounds of four");
            assert_eq!(sender.push(99), Err(99), "nothing was released");
            receiver.release();
            // The next round begins one place on.
            assert_eq!((sender.push(99), sender.publish(), receiver.pop()), (Ok(()), (), Some(99)));
            receiver.release();
        }
    }

    #[test]
    fn what_is_left_in_a_ring_is_dropped_once() {
        let count = Arc::new(());
        let (sender, mut receiver) = Ring::pair(8);
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
        let mut ends: Vec<_> = (0..3).map(|n| grid.take(WorkerId(n)).unwrap()).collect();
        assert!((0..4).all(|n| grid.take(WorkerId(n)).is_none()));
        let parcel = |buf| Parcel { buf, plan: Plan::default(), ingress: InterfaceId(0), hops: 1 };
        for (from, (ends, _)) in ends.iter().enumerate() {
            for to in 0..3 {
                let way = ends.to(WorkerId(to));
                assert_eq!(way.is_none(), usize::from(to) == from);
                assert!(way.is_none_or(|way| way.push(parcel(u8::try_from(from).unwrap() * 3 + to)).is_ok()));
            }
            assert!(ends.to(WorkerId(3)).is_none());
            ends.publish();
        }
        for (to, (_, arrivals)) in ends.iter_mut().enumerate() {
            let heard: Vec<_> = arrivals.iter_mut().filter_map(|way| way.pop().map(|p| p.buf)).collect();
            let want: Vec<_> =
                (0..3_usize).filter(|from| *from != to).map(|from| (from * 3 + to) as u8).collect();
            assert_eq!(heard, want);
        }
    }
}
