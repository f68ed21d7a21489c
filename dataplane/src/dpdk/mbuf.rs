//! A packet in DPDK's memory. Move-only; dropping it gives it back to its pool.

use super::Mempool;
use crate::buf::{Aggregate, BufPool, PacketBuf};
use crate::key::Protocol;
use crate::packet::{Layers, layers};
use dpdk_sys::{mbuf as field, rte_mbuf};
use std::{mem, ptr::NonNull, slice};

/// One packet. As large as a pointer, so that a burst of them is the array that DPDK wants.
///
/// The journey works on linear packets. Of a packet in several segments only the first is visible, it does not grow
/// behind, and it is not cut behind: whoever gets one drops it, unless it is an aggregate ([`PacketBuf::aggregate`]).
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

/// What is asked of the device that sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To send it as it is.
    Nothing,
    /// To fill in the checksum of TCP or UDP.
    Checksum,
    /// To cut it into segments with so many bytes of payload.
    Segments(u16),
}

// A burst is handed to DPDK as an array of pointers.
const _: () = assert!(mem::size_of::<Mbuf>() == mem::size_of::<*mut rte_mbuf>());

// SAFETY: an mbuf belongs to whoever holds it, and may be freed on any thread: pools are multi-producer.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over an mbuf.
    ///
    /// # Safety
    /// Nobody else holds or will free `raw`, its fields are sound, and its pool is a [`super::Mempool`].
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self(raw)
    }

    /// Appends another packet as further segments, for tests of what is not linear. Fails, giving both back
    /// to their pools, if DPDK refuses (too many segments).
    #[must_use]
    pub fn chain(mut self, tail: Self) -> Option<Self> {
        self.attach(tail).then_some(self)
    }

    /// Appends another packet as further segments. False, and the other is given back to its pool, if DPDK refuses.
    fn attach(&mut self, tail: Self) -> bool {
        // SAFETY: both are whole packets that we alone hold; on success the head holds the tail.
        let ok = unsafe { dpdk_sys::postern_pktmbuf_chain(self.raw(), tail.raw()) } == 0;
        if ok {
            mem::forget(tail);
        }
        ok
    }

    /// Makes of a packet that a device on a port with LRO has received what the journey expects. An aggregate lies in two segments at
    /// least, also where one could hold it: so nobody takes it for a packet. A checksum that its sender has left to hardware is
    /// filled in. False if there is no buffer for the second segment.
    pub(super) fn settle(&mut self, pool: &mut Mempool) -> bool {
        // SAFETY: we hold the mbuf.
        let flags = unsafe { field::ol_flags(self.raw()) };
        if !self.is_linear() {
            return true;
        }
        if flags & dpdk_sys::POSTERN_AGGREGATE != 0 {
            return self.split(pool);
        }
        if flags & dpdk_sys::POSTERN_L4_CKSUM_MASK == dpdk_sys::POSTERN_L4_CKSUM_NONE {
            // What has no such checksum is as it was.
            let _ = layers::fill(self.bytes_mut());
        }
        true
    }

    /// Moves the last byte of a linear packet to a second segment. False if there is none, or no buffer for it.
    fn split(&mut self, pool: &mut Mempool) -> bool {
        let Some(last) = self.bytes().last().copied() else { return false };
        let Some(mut tail) = pool.alloc().filter(|_| self.trim_back(1)) else { return false };
        let room = tail.append(1);
        tail.bytes_mut().fill(last);
        room && self.attach(tail)
    }

    /// Says of the packet that a device has put it together from segments with so many bytes of payload. For tests: no device that
    /// is software does.
    pub fn set_aggregate(&mut self, segment: u16) {
        // SAFETY: we alone hold the mbuf.
        unsafe {
            field::set_ol_flags(self.raw(), dpdk_sys::POSTERN_AGGREGATE);
            dpdk_sys::postern_pktmbuf_lengths(self.raw(), 0, 0, 0, u64::from(segment));
        }
    }

    /// Says of the packet that its sender has left the checksum of TCP or UDP to hardware. For tests likewise.
    pub fn set_unfilled(&mut self) {
        // SAFETY: we alone hold the mbuf.
        unsafe { field::set_ol_flags(self.raw(), dpdk_sys::POSTERN_L4_CKSUM_NONE) }
    }

    /// True if the device found the checksum of the IPv4 header, or that of TCP or UDP, wrong.
    #[inline(always)]
    pub(super) fn checksum_is_wrong(&self) -> bool {
        // SAFETY: we hold the mbuf.
        let flags = unsafe { field::ol_flags(self.raw()) };
        flags & dpdk_sys::POSTERN_IP_CKSUM_MASK == dpdk_sys::POSTERN_IP_CKSUM_BAD
            || flags & dpdk_sys::POSTERN_L4_CKSUM_MASK == dpdk_sys::POSTERN_L4_CKSUM_BAD
    }

    /// Says of the packet that a checksum is wrong: of its IPv4 header, or else of TCP or UDP. For tests: no device that is
    /// software says so.
    pub fn set_checksum_wrong(&mut self, of_header: bool) {
        let flag = if of_header { dpdk_sys::POSTERN_IP_CKSUM_BAD } else { dpdk_sys::POSTERN_L4_CKSUM_BAD };
        // SAFETY: we alone hold the mbuf.
        unsafe { field::set_ol_flags(self.raw(), flag) }
    }

    /// What is asked of the device that sends the packet.
    pub fn asked(&self) -> Asked {
        match self.asked_flags() {
            0 => Asked::Nothing,
            flags if flags & dpdk_sys::POSTERN_SEND_SEGMENTS != 0 => Asked::Segments(self.segment()),
            _ => Asked::Checksum,
        }
    }

    /// The same as bits of `ol_flags`.
    #[inline(always)]
    fn asked_flags(&self) -> u64 {
        // SAFETY: we hold the mbuf.
        unsafe { field::ol_flags(self.raw()) & dpdk_sys::POSTERN_SEND_MASK }
    }

    /// Asks something of the device that sends the packet, and nothing else.
    fn ask(&mut self, flags: u64) {
        // SAFETY: we alone hold the mbuf.
        unsafe {
            let others = field::ol_flags(self.raw()) & !dpdk_sys::POSTERN_SEND_MASK;
            field::set_ol_flags(self.raw(), others | flags);
        }
    }

    /// Writes down for the device what is asked of it: where the headers are, and the sum that it adds to. False if it cannot be
    /// said: the packet must not leave then.
    pub(super) fn brief_device(&mut self) -> bool {
        let segment = match self.asked() {
            Asked::Nothing => return true,
            Asked::Checksum => 0,
            Asked::Segments(segment) => segment,
        };
        let Some(layers) = Layers::of(self.bytes()) else { return false };
        let [l2, l3, l4] = [layers.l2, layers.l3, layers.l4].map(|bytes| bytes as u64);
        // SAFETY: we alone hold the mbuf.
        unsafe { dpdk_sys::postern_pktmbuf_lengths(self.raw(), l2, l3, l4, u64::from(segment)) };
        let frame = self.bytes_mut();
        if segment == 0 { layers.put_pseudo(frame) } else { layers.put_pseudo_to_cut(frame) }
    }

    /// Bytes of payload of the segments that it was put together from, or that it shall be cut to.
    fn segment(&self) -> u16 {
        // SAFETY: we hold the mbuf.
        unsafe { dpdk_sys::postern_pktmbuf_segment(self.raw()) }
    }

    #[inline(always)]
    fn raw(&self) -> *mut rte_mbuf {
        self.0.as_ptr()
    }

    /// Bytes of data in the first segment.
    #[inline(always)]
    fn data_len(&self) -> u16 {
        // SAFETY: we hold the mbuf.
        unsafe { field::data_len(self.raw()) }
    }

    /// Bytes from the start of the buffer to the data.
    #[inline(always)]
    fn data_off(&self) -> u16 {
        // SAFETY: we hold the mbuf.
        unsafe { field::data_off(self.raw()) }
    }

    /// First byte of the data.
    #[inline(always)]
    fn data(&self) -> *mut u8 {
        // SAFETY: the data lies within the buffer, as DPDK and the methods below keep it.
        unsafe { field::buf_addr(self.raw()).add(usize::from(self.data_off())) }
    }

    /// Sets where the data starts and how long it is; the packet changes by as much as the segment does.
    ///
    /// # Safety
    /// `data_off + data_len` is at most the buffer's length.
    #[inline(always)]
    unsafe fn set_data(&mut self, data_off: u16, data_len: u16) {
        let m = self.raw();
        // SAFETY: we alone hold the mbuf, and the caller vouches for the bounds.
        unsafe {
            let other_segments = field::pkt_len(m).wrapping_sub(u32::from(field::data_len(m)));
            field::set_data_off(m, data_off);
            field::set_data_len(m, data_len);
            field::set_pkt_len(m, other_segments.wrapping_add(u32::from(data_len)));
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we hold the mbuf, and nobody uses it after this.
        unsafe { dpdk_sys::postern_pktmbuf_free(self.raw()) }
    }
}

impl PacketBuf for Mbuf {
    #[inline(always)]
    fn prefetch(&self) {
        crate::prefetch_to_write(self.raw());
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the data lies within the buffer, which is ours as long as the mbuf is.
        unsafe { slice::from_raw_parts(self.data(), usize::from(self.data_len())) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; no other mbuf shares the buffer, because nothing here makes indirect mbufs.
        unsafe { slice::from_raw_parts_mut(self.data(), usize::from(self.data_len())) }
    }

    #[inline(always)]
    fn headroom(&self) -> usize {
        usize::from(self.data_off())
    }

    #[inline(always)]
    fn tailroom(&self) -> usize {
        if !self.is_linear() {
            return 0;
        }
        // SAFETY: we hold the mbuf.
        let buf_len = usize::from(unsafe { field::buf_len(self.raw()) });
        buf_len.saturating_sub(usize::from(self.data_off()) + usize::from(self.data_len()))
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> bool {
        let (off, len) = (self.data_off(), self.data_len());
        let Some(n) = u16::try_from(n).ok().filter(|n| *n <= off) else { return false };
        // The end stays: off + len <= buf_len <= u16::MAX, so that the new length fits too.
        let Some(len) = len.checked_add(n) else { return false };
        // SAFETY: the data's end has not moved, and its start is still within the buffer.
        unsafe { self.set_data(off - n, len) };
        true
    }

    #[inline]
    fn append(&mut self, n: usize) -> bool {
        if n > self.tailroom() {
            return false;
        }
        let Ok(len) = u16::try_from(usize::from(self.data_len()) + n) else { return false };
        // SAFETY: the tailroom has the bytes.
        unsafe { self.set_data(self.data_off(), len) };
        true
    }

    #[inline]
    fn trim_front(&mut self, n: usize) -> bool {
        let (off, len) = (self.data_off(), self.data_len());
        let Some(n) = u16::try_from(n).ok().filter(|n| *n <= len) else { return false };
        let Some(off) = off.checked_add(n) else { return false };
        // SAFETY: the data's end has not moved, and its start has not passed it.
        unsafe { self.set_data(off, len - n) };
        true
    }

    #[inline]
    fn trim_back(&mut self, n: usize) -> bool {
        let len = self.data_len();
        let Some(n) = u16::try_from(n).ok().filter(|n| *n <= len && self.is_linear()) else { return false };
        // SAFETY: the data only became shorter.
        unsafe { self.set_data(self.data_off(), len - n) };
        true
    }

    #[inline(always)]
    fn is_linear(&self) -> bool {
        // SAFETY: we hold the mbuf.
        unsafe { field::nb_segs(self.raw()) == 1 }
    }

    #[inline(always)]
    fn total_len(&self) -> usize {
        // SAFETY: we hold the mbuf.
        unsafe { field::pkt_len(self.raw()) as usize }
    }

    fn aggregate(&self) -> Option<Aggregate> {
        // SAFETY: we hold the mbuf.
        let (flags, pieces) = unsafe { (field::ol_flags(self.raw()), field::nb_segs(self.raw())) };
        let merged = flags & dpdk_sys::POSTERN_AGGREGATE != 0;
        merged.then(|| Aggregate { segment: self.segment(), pieces })
    }

    fn copy_out(&self, at: usize, into: &mut [u8]) -> bool {
        let (Ok(at), Ok(len)) = (u32::try_from(at), u32::try_from(into.len())) else { return false };
        // SAFETY: we hold the mbuf and all its segments, and `into` has room for as many bytes as we say.
        unsafe { dpdk_sys::postern_pktmbuf_copy_out(self.raw(), at, len, into.as_mut_ptr().cast()) == 0 }
    }

    fn leave_whole(&mut self) -> bool {
        self.ask(
            dpdk_sys::POSTERN_SEND_IPV4 | dpdk_sys::POSTERN_SEND_TCP_CKSUM | dpdk_sys::POSTERN_SEND_SEGMENTS,
        );
        true
    }

    fn leave_checksum(&mut self, to_device: Option<Protocol>) -> bool {
        let flags = match to_device {
            Some(Protocol::Tcp) => dpdk_sys::POSTERN_SEND_IPV4 | dpdk_sys::POSTERN_SEND_TCP_CKSUM,
            Some(Protocol::Udp) => dpdk_sys::POSTERN_SEND_IPV4 | dpdk_sys::POSTERN_SEND_UDP_CKSUM,
            Some(Protocol::Icmp) | None => 0,
        };
        self.ask(flags);
        flags != 0
    }

    fn fill_checksum(&mut self) {
        if self.asked_flags() != 0 {
            self.ask(0);
            // What was left has one.
            let _ = layers::fill(self.bytes_mut());
        }
    }
}
