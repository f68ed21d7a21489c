//! What leaves: a burst for each interface, sent when it is full and at the end of each poll.

use super::Local;
use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::key::InterfaceId;
use crate::packet::vlan;
use crate::port::{BURST, Port};
use crate::stage::{Context, NextHop};

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Whether what leaves for this next hop may leave its checksum to the device. What has to wait for it may not: it is copied.
    pub(crate) fn leaves_checksums(&self, cx: &Context<'_>, hop: &NextHop) -> bool {
        hop.mac.is_some() && self.port_to(cx, hop.interface).is_some_and(Port::fills_checksums)
    }

    /// The port that an interface is on.
    pub(crate) fn port_to(&self, cx: &Context<'_>, egress: InterfaceId) -> Option<&P> {
        cx.fib.interface(egress).and_then(|interface| self.ports.get(usize::from(interface.port)))
    }

    /// Puts a packet into the next burst of an interface. Interfaces that share a port have bursts of their own.
    pub(crate) fn transmit(&mut self, cx: &Context<'_>, egress: InterfaceId, buf: P::Buf) {
        let number = usize::from(egress.0);
        let Some(burst) = self.tx.get_mut(number) else {
            self.drop(cx, DropReason::TxNoPort, 1);
            return;
        };
        burst.push(buf);
        if burst.is_full() {
            self.flush_one(cx, number);
        }
    }

    pub(super) fn flush(&mut self, cx: &Context<'_>) {
        for number in 0..cx.fib.interfaces().len().min(self.tx.len()) {
            self.flush_one(cx, number);
        }
    }

    fn flush_one(&mut self, cx: &Context<'_>, number: usize) {
        let Some(burst) = self.tx.get_mut(number).filter(|burst| !burst.is_empty()) else { return };
        let packets = burst.len();
        let id = InterfaceId(u16::try_from(number).unwrap_or(u16::MAX));
        let interface = cx.fib.interface(id);
        let port = interface.and_then(|interface| self.ports.get_mut(usize::from(interface.port)));
        let (Some(interface), Some(port)) = (interface, port) else {
            burst.clear();
            self.drop(cx, DropReason::TxNoPort, packets);
            return;
        };
        let mut tags = 0;
        if let Some(id) = interface.vlan {
            // The few bytes in front are there: every buffer starts with headroom.
            burst.retain(|buf| vlan::insert(buf, id));
            tags = vlan::TAG_LEN as u64;
        }
        let mut lengths = [0; BURST];
        let mut bytes = 0;
        for (length, buf) in lengths.iter_mut().zip(burst.iter()) {
            *length = buf.total_len() as u64;
            bytes += *length;
        }
        let sent = port.tx_burst(burst);
        let mut refused = DropReason::TxFull;
        if sent < packets {
            bytes = lengths.iter().take(sent).sum();
            if port.is_gone() {
                refused = DropReason::TxNoPort;
            }
        }
        self.count(cx, Counter::TxPackets, sent as u64);
        self.count(cx, Counter::TxBytes, bytes);
        if let Some(counters) = self.counters_of(cx, id) {
            counters.sent(sent as u64, bytes - tags * sent as u64);
        }
        self.drop(cx, refused, packets.saturating_sub(sent));
    }
}
