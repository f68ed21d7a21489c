//! Depart: a packet of the long way leaves, in fragments if its egress takes none so long.
//!
//! Whether it may be fragmented was seen before it was changed ([`crate::worker::Local::check_mtu`]).

use crate::buf::{BufPool, Packet, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::key::InterfaceId;
use crate::packet::ETHERNET_LEN;
use crate::packet::fragment::Cut;
use crate::port::Port;
use crate::stage::Context;
use crate::worker::Local;

/// Every host takes packets as long as this whole (RFC 791 §3.1): shorter fragments are of use to nobody.
const LEAST: u16 = 576;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Sends a packet whose L2 header is written. `longest` is that of [`crate::stage::Item`].
    pub(crate) fn depart(
        &mut self,
        cx: &Context<'_>,
        egress: InterfaceId,
        packet: Packet<P::Buf>,
        longest: u16,
    ) {
        let mtu = cx.fib.interface(egress).map_or(0, |interface| interface.mtu);
        match packet {
            Packet::Port(buf) if buf.bytes().len() <= ETHERNET_LEN + usize::from(mtu) => {
                self.transmit(cx, egress, buf);
            }
            mut packet => {
                packet.fill_checksum();
                // What cannot leave was counted.
                let _ = self.cut(cx, egress, packet.bytes(), longest);
            }
        }
    }

    /// Sends a frame in fragments no longer than the longest that it came in, nor than the egress takes. The identification
    /// stays. False if there is no buffer for all of them.
    pub(crate) fn cut(&mut self, cx: &Context<'_>, egress: InterfaceId, frame: &[u8], longest: u16) -> bool {
        let mtu = cx.fib.interface(egress).map_or(0, |interface| interface.mtu);
        let Some(mut cut) = Cut::new(frame, usize::from(longest.max(LEAST).min(mtu))) else {
            self.drop(cx, DropReason::FragmentationNeeded, 1);
            return false;
        };
        let mut made = 0;
        // Each turn sends eight bytes or more, or is the last.
        loop {
            let Some(mut buf) = self.buffer(cx) else { break };
            if !cut.fill(&mut buf) {
                self.drop(cx, DropReason::PoolEmpty, 1);
                break;
            }
            self.transmit(cx, egress, buf);
            made += 1;
            if cut.is_done() {
                break;
            }
        }
        if made > 1 {
            self.count(cx, Counter::DatagramsFragmented, 1);
            self.count(cx, Counter::FragmentsMade, made);
        }
        cut.is_done()
    }
}
