//! The packet buffer seam: what the journey needs of an mbuf, and a heap buffer that gives the same.
//!
//! A [`Packet`] is one on the long way: in its port's buffer, or in one of the gateway's own that hold the longest datagram.
//!
//! Buffers are move-only. Whoever holds one frees it by dropping it, exactly once.

use crate::heap::HeapBuf;
use crate::key::Protocol;

/// Bytes reserved before a new packet, as DPDK's `RTE_PKTMBUF_HEADROOM`.
pub const HEADROOM: usize = 128;
/// Data room of one buffer after its headroom, in bytes.
pub const DATA_ROOM: usize = 2048;

/// What a packet is that a device has put together from TCP segments (LRO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Bytes of payload that each of them had, but the last, which may have had fewer.
    pub segment: u16,
    /// Pieces of memory that it lies in.
    pub pieces: u16,
}

/// One packet in one contiguous piece of memory, starting at its Ethernet header.
///
/// None of the calls allocates, and none panics: those that can fail say so and leave the packet as it was.
pub trait PacketBuf: Sized + Send {
    /// The packet.
    fn bytes(&self) -> &[u8];
    /// The packet, to be changed in place.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Bytes that [`Self::prepend`] can still give.
    fn headroom(&self) -> usize;
    /// Bytes that [`Self::append`] can still give.
    fn tailroom(&self) -> usize;
    /// Grows the packet by `n` bytes in front. False if there is no room. The new bytes hold anything.
    #[must_use]
    fn prepend(&mut self, n: usize) -> bool;
    /// Grows the packet by `n` bytes behind. False if there is no room. The new bytes hold anything.
    #[must_use]
    fn append(&mut self, n: usize) -> bool;
    /// Cuts `n` bytes off the front. False if the packet is shorter.
    #[must_use]
    fn trim_front(&mut self, n: usize) -> bool;
    /// Cuts `n` bytes off the end. False if the packet is shorter.
    #[must_use]
    fn trim_back(&mut self, n: usize) -> bool;
    /// Asks the CPU to bring near what says where the packet lies. It will be written.
    #[inline]
    fn prefetch(&self) {}
    /// Likewise the packet's first bytes, once it is known where it lies.
    #[inline]
    fn prefetch_bytes(&self) {
        if let Some(first) = self.bytes().first() {
            crate::prefetch_to_write(first);
        }
    }
    /// True if the packet lies in one segment. Of what does not, the journey takes aggregates alone.
    fn is_linear(&self) -> bool {
        true
    }
    /// Bytes of the packet over all its segments.
    #[inline(always)]
    fn total_len(&self) -> usize {
        self.bytes().len()
    }
    /// What it is put together from, if a device has put it together and says so.
    fn aggregate(&self) -> Option<Aggregate> {
        None
    }
    /// Copies bytes of the packet from `at` on, over all its segments. False if there are not so many.
    #[must_use]
    fn copy_out(&self, at: usize, into: &mut [u8]) -> bool {
        let found = self.bytes().get(at..).and_then(|rest| rest.get(..into.len()));
        found.map(|found| into.copy_from_slice(found)).is_some()
    }
    /// Leaves the checksum of TCP or UDP to the device that sends the packet, or takes that back. True if it is left: the field
    /// then holds anything. Only for what leaves through a port that fills checksums in ([`crate::port::Port::fills_checksums`]).
    fn leave_checksum(&mut self, to_device: Option<Protocol>) -> bool {
        let _ = to_device;
        false
    }
    /// Leaves it to the device that sends an aggregate to cut it. True if it is left: the packet then is of no use for anything else.
    /// Only for what leaves through a port that takes it ([`crate::port::Port::cuts`]).
    fn leave_whole(&mut self) -> bool {
        false
    }
    /// Fills in a checksum that was left to a device, since none will: the packet is about to be copied.
    fn fill_checksum(&mut self) {}
}

/// Where new packets (errors, resets, ARP) come from.
pub trait BufPool {
    /// What it gives.
    type Buf: PacketBuf;
    /// An empty packet with full headroom, or none if the pool is empty.
    fn alloc(&mut self) -> Option<Self::Buf>;
}

/// A packet on the long way.
pub enum Packet<B> {
    /// In a buffer of a port.
    Port(B),
    /// In one that holds the longest datagram: it was put together from fragments, or has grown out of the port's. It is
    /// copied to buffers of the port when it leaves.
    Large(HeapBuf),
}

macro_rules! either {
    ($packet:expr, $buf:ident => $do:expr) => {
        match $packet {
            Self::Port($buf) => $do,
            Self::Large($buf) => $do,
        }
    };
}

impl<B: PacketBuf> PacketBuf for Packet<B> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        either!(self, buf => buf.bytes())
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        either!(self, buf => buf.bytes_mut())
    }

    fn headroom(&self) -> usize {
        either!(self, buf => buf.headroom())
    }

    fn tailroom(&self) -> usize {
        either!(self, buf => buf.tailroom())
    }

    fn prepend(&mut self, n: usize) -> bool {
        either!(self, buf => buf.prepend(n))
    }

    fn append(&mut self, n: usize) -> bool {
        either!(self, buf => buf.append(n))
    }

    fn trim_front(&mut self, n: usize) -> bool {
        either!(self, buf => buf.trim_front(n))
    }

    fn trim_back(&mut self, n: usize) -> bool {
        either!(self, buf => buf.trim_back(n))
    }

    #[inline]
    fn is_linear(&self) -> bool {
        either!(self, buf => buf.is_linear())
    }

    fn total_len(&self) -> usize {
        either!(self, buf => buf.total_len())
    }

    fn aggregate(&self) -> Option<Aggregate> {
        either!(self, buf => buf.aggregate())
    }

    fn copy_out(&self, at: usize, into: &mut [u8]) -> bool {
        either!(self, buf => buf.copy_out(at, into))
    }

    fn leave_checksum(&mut self, to_device: Option<Protocol>) -> bool {
        either!(self, buf => buf.leave_checksum(to_device))
    }

    fn leave_whole(&mut self) -> bool {
        either!(self, buf => buf.leave_whole())
    }

    fn fill_checksum(&mut self) {
        either!(self, buf => buf.fill_checksum());
    }
}
