//! Packets in fixed memory: a pointer each, a head line and a data room, as an mbuf has.
//!
//! The ports take from and give back to one [`Stock`], last in first out, without an atomic. What the gateway drops
//! comes back through a lock-free queue.

use crate::rig::pace::Times;
use core::mem;
use core::ptr::NonNull;
use crossbeam::queue::ArrayQueue;
use dataplane::buf::{BufPool, DATA_ROOM, HEADROOM, PacketBuf};
use dataplane::memory::{Backing, NoMemory, Region};
use dataplane::sync::AtomicU64;
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of a buffer's data room.
const ROOM: usize = HEADROOM + DATA_ROOM;
/// Bytes from one buffer to the next: an odd number of cache lines, so that the headers spread over all cache sets.
const STRIDE: usize = LINE + ROOM + 2 * LINE;
const LINE: usize = 64;
const _: () = assert!(STRIDE.is_multiple_of(LINE) && (STRIDE / LINE) % 2 == 1);

/// The first line of a buffer.
#[repr(C, align(64))]
struct Head {
    home: &'static Home,
    /// `start + len <= ROOM`.
    start: u16,
    len: u16,
    times: Times,
}

const _: () = assert!(size_of::<Head>() == LINE);

struct Home {
    strays: ArrayQueue<Free>,
    /// Never read: it keeps the memory mapped.
    _memory: Region<AtomicU64>,
}

/// A buffer that nobody has.
struct Free(NonNull<Head>);

// SAFETY: a free buffer belongs to whoever holds the value, alone; its memory lives as long as the process.
unsafe impl Send for Free {}

/// A packet. As large as a pointer; dropping it gives its buffer back.
pub struct Packet(NonNull<Head>);

// SAFETY: a packet belongs to whoever holds it, alone; dropping it pushes it on a queue for many producers.
unsafe impl Send for Packet {}

impl Packet {
    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: the pointer is to a head that Stock::new wrote, in memory that is never unmapped, and we alone hold it.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut Head {
        // SAFETY: as in head(), and `self` is borrowed mutably.
        unsafe { self.0.as_mut() }
    }

    #[inline(always)]
    fn room(&self) -> *mut u8 {
        // SAFETY: ROOM bytes follow the head's line, in the same buffer (Stock::new).
        unsafe { self.0.as_ptr().cast::<u8>().add(LINE) }
    }

    /// Notes when it came.
    pub fn set_times(&mut self, times: Times) {
        self.head_mut().times = times;
    }

    /// When it came, if that was noted.
    #[must_use]
    pub fn times(&self) -> Times {
        self.head().times
    }

    /// Makes the packet `len` bytes long, at the usual headroom. The bytes are those that were there.
    pub fn reset(&mut self, len: usize) {
        let len = u16::try_from(len.min(DATA_ROOM)).unwrap_or(0);
        let head = self.head_mut();
        head.start = HEADROOM as u16;
        head.len = len;
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // The queue holds every buffer that there is.
        let _ = self.head().home.strays.push(Free(self.0));
    }
}

impl PacketBuf for Packet {
    #[inline(always)]
    fn prefetch(&self) {
        dataplane::prefetch_to_write(self.0.as_ptr());
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        let head = self.head();
        // SAFETY: start + len <= ROOM (every method keeps it), all bytes were initialised by the kernel, we hold them.
        unsafe {
            core::slice::from_raw_parts(self.room().add(usize::from(head.start)), usize::from(head.len))
        }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, len) = (usize::from(self.head().start), usize::from(self.head().len));
        // SAFETY: as in bytes(), and `self` is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.room().add(start), len) }
    }

    fn headroom(&self) -> usize {
        usize::from(self.head().start)
    }

    fn tailroom(&self) -> usize {
        ROOM - usize::from(self.head().start) - usize::from(self.head().len)
    }

    fn prepend(&mut self, n: usize) -> bool {
        let fits = n <= self.headroom();
        if fits {
            let n = n as u16;
            self.head_mut().start -= n;
            self.head_mut().len += n;
        }
        fits
    }

    fn append(&mut self, n: usize) -> bool {
        let fits = n <= self.tailroom();
        if fits {
            self.head_mut().len += n as u16;
        }
        fits
    }

    fn trim_front(&mut self, n: usize) -> bool {
        let fits = n <= usize::from(self.head().len);
        if fits {
            self.head_mut().start += n as u16;
            self.head_mut().len -= n as u16;
        }
        fits
    }

    #[inline(always)]
    fn trim_back(&mut self, n: usize) -> bool {
        let fits = n <= usize::from(self.head().len);
        if fits {
            self.head_mut().len -= n as u16;
        }
        fits
    }
}

/// The free buffers. Aligned, as the station that they belong to.
#[repr(align(128))]
pub struct Stock {
    free: Vec<NonNull<Head>>,
    home: &'static Home,
    backing: Backing,
    capacity: usize,
}

impl Stock {
    /// `count` buffers, zeroed. They stay mapped until the process ends.
    ///
    /// # Errors
    /// No memory.
    pub fn new(count: usize) -> Result<Self, NoMemory> {
        let memory: Region<AtomicU64> = Region::new("packet buffers", count * STRIDE / 8)?;
        let backing = memory.backing();
        // An atomic may be written through a shared reference: so may the memory that it stands for.
        let base = memory.as_ptr().cast::<u8>().cast_mut();
        let home: &'static Home =
            Box::leak(Box::new(Home { strays: ArrayQueue::new(count.max(1)), _memory: memory }));
        let free = (0..count)
            .filter_map(|n| {
                // SAFETY: the region has count * STRIDE bytes; it is page-aligned, so every STRIDE is line-aligned.
                let at = unsafe { base.add(n * STRIDE) }.cast::<Head>();
                // SAFETY: as above; nobody else has the address.
                unsafe { at.write(Head { home, start: HEADROOM as u16, len: 0, times: Times::default() }) };
                NonNull::new(at)
            })
            .collect();
        Ok(Self { free, home, backing, capacity: count })
    }

    /// A packet with the bytes that it had last.
    #[inline]
    pub fn take(&mut self) -> Option<Packet> {
        if self.free.is_empty() {
            while let Some(stray) = self.home.strays.pop() {
                self.free.push(stray.0);
            }
        }
        self.free.pop().map(Packet)
    }

    /// Takes a packet back. One of another stock goes home by itself.
    #[inline]
    pub fn give(&mut self, packet: Packet) {
        if core::ptr::eq(packet.head().home, self.home) {
            self.free.push(packet.0);
            mem::forget(packet);
        }
    }

    /// Buffers that somebody has.
    #[must_use]
    pub fn out(&self) -> usize {
        self.capacity - self.free.len() - self.home.strays.len()
    }

    /// What backs the buffers.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.backing
    }
}

/// Where the gateway's own packets come from: the same stock.
#[derive(Clone)]
pub struct SharedStock(pub Rc<RefCell<Stock>>);

impl BufPool for SharedStock {
    type Buf = Packet;

    fn alloc(&mut self) -> Option<Packet> {
        let mut packet = self.0.borrow_mut().take()?;
        packet.reset(0);
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_whichever_way_they_go() {
        let mut stock = Stock::new(4).unwrap();
        let mut all: Vec<_> = std::iter::from_fn(|| stock.take()).collect();
        assert_eq!((all.len(), stock.out()), (4, 4));
        stock.give(all.pop().unwrap());
        drop(all.pop());
        assert_eq!(stock.out(), 2);
        drop(all);
        assert_eq!(stock.out(), 0);
        // Kept until they are counted: a packet that is dropped could be taken again.
        let again: Vec<_> = std::iter::from_fn(|| stock.take()).collect();
        assert_eq!(again.len(), 4);
    }

    #[test]
    fn a_packet_of_another_stock_goes_home() {
        let (mut mine, mut other) = (Stock::new(1).unwrap(), Stock::new(1).unwrap());
        let packet = mine.take().unwrap();
        other.give(packet);
        assert_eq!((mine.out(), other.out()), (0, 0));
        assert!(mine.take().is_some());
    }

    #[test]
    fn a_packet_grows_and_shrinks_within_its_room() {
        let mut stock = Stock::new(1).unwrap();
        let mut p = stock.take().unwrap();
        p.reset(60);
        assert_eq!((p.bytes().len(), p.headroom()), (60, HEADROOM));
        assert!(p.prepend(HEADROOM) && !p.prepend(1));
        assert!(p.append(DATA_ROOM - 60) && !p.append(1));
        assert!(p.trim_back(10) && p.trim_front(10) && !p.trim_back(ROOM));
        assert_eq!(p.bytes_mut().len(), ROOM - 20);
    }
}
