//! The port seam: bursts in, bursts out.

use crate::buf::PacketBuf;
use arrayvec::ArrayVec;

/// Most packets of one rx or tx burst.
pub const BURST: usize = 64;

/// A burst of packets. Fixed capacity, no heap.
pub type Burst<B> = ArrayVec<B, BURST>;

/// One (port, queue) as one worker owns it.
pub trait Port {
    /// Its packets.
    type Buf: PacketBuf;
    /// Appends up to the free capacity of `burst`; returns how many came.
    fn rx_burst(&mut self, burst: &mut Burst<Self::Buf>) -> usize;
    /// Sends the burst in order. Consumes all of it: what the device refuses is freed. Returns how many were sent;
    /// the caller counts the difference.
    fn tx_burst(&mut self, burst: &mut Burst<Self::Buf>) -> usize;
    /// What it received last has been planned: headers read, sessions found. For ports that measure; others do nothing.
    fn planned(&mut self) {}
}
