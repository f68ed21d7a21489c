//! The port seam: bursts in, bursts out.

use crate::buf::{Aggregate, PacketBuf};
use arrayvec::ArrayVec;

/// Most packets of one rx or tx burst.
pub const BURST: usize = 64;

/// A burst of packets. Fixed capacity, no heap.
pub type Burst<B> = ArrayVec<B, BURST>;

/// Whether packets are spread over a device's receive queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// Where the device is known to do it in a way that serves.
    #[default]
    Auto,
    /// Also where it is doubtful.
    On,
    /// One receive queue, where the driver can have one.
    Off,
}

/// One (port, queue) as one worker owns it.
pub trait Port {
    /// Its packets.
    type Buf: PacketBuf;
    /// Appends up to the free capacity of `burst`; returns how many came.
    fn rx_burst(&mut self, burst: &mut Burst<Self::Buf>) -> usize;
    /// Sends the burst in order. Consumes all of it: what the device refuses is freed. Returns how many were sent;
    /// the caller counts the difference.
    fn tx_burst(&mut self, burst: &mut Burst<Self::Buf>) -> usize;
    /// Packets that it has refused since this was last asked: they are freed, and were in no burst. The device has pointed out that
    /// their checksums are wrong; or they are of [`Self::without_room`]. Ports that are software do not look.
    fn refused(&mut self) -> usize {
        0
    }
    /// Of those, aggregates that there was no buffer for.
    fn without_room(&mut self) -> usize {
        0
    }
    /// Whether it fills in checksums that were left to it ([`PacketBuf::leave_checksum`]). No other port may get such packets.
    fn fills_checksums(&self) -> bool {
        false
    }
    /// Whether it takes an aggregate whole, and cuts it ([`PacketBuf::leave_whole`]). No other port may get one.
    fn cuts(&self, aggregate: Aggregate) -> bool {
        let _ = aggregate;
        false
    }
    /// True once the device was pulled out: it receives and sends nothing any more.
    fn is_gone(&self) -> bool {
        false
    }
    /// What it received last has been planned: headers read, sessions found. For ports that measure; others do nothing.
    fn planned(&mut self) {}
}
