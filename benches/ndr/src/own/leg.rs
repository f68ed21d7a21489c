//! One port of the generator: its station, the gateway's, what waits to be sent.

use super::frame::Stations;
use dataplane::buf::{BufPool, PacketBuf};
use dataplane::packet::build;
use dataplane::port::{Burst, Port};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame};
use std::net::Ipv4Addr;

/// One port.
pub struct Leg<P: Port> {
    port: P,
    mac: [u8; 6],
    /// Our own address on the link: asks for the gateway's.
    address: Ipv4Addr,
    gateway: Ipv4Addr,
    gateway_mac: Option<[u8; 6]>,
    out: Burst<P::Buf>,
}

impl<P: Port> Leg<P> {
    /// The port, its MAC address, an address of its own, and the gateway's on its link.
    #[must_use]
    pub fn new(port: P, mac: [u8; 6], address: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        Self { port, mac, address, gateway, gateway_mac: None, out: Burst::new() }
    }

    pub(super) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    pub(super) fn knows_gateway(&self) -> bool {
        self.gateway_mac.is_some()
    }

    /// Asks who has the gateway's address, unless that is known. True if it is.
    pub(super) fn ask(&mut self, pool: &mut impl BufPool<Buf = P::Buf>) -> bool {
        if self.knows_gateway() {
            return true;
        }
        self.push_frame(pool, &build::arp_request(self.mac, self.address, self.gateway));
        false
    }

    /// Takes an ARP frame: learns the gateway's MAC address, and answers for every address but the gateway's.
    pub(super) fn answer(&mut self, pool: &mut impl BufPool<Buf = P::Buf>, frame: &[u8]) {
        let Some(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = EthernetFrame::new_checked(frame)
            .and_then(|frame| ArpPacket::new_checked(frame.payload()))
            .and_then(|packet| ArpRepr::parse(&packet))
            .ok()
        else {
            return;
        };
        if source_protocol_addr == self.gateway {
            self.gateway_mac = Some(source_hardware_addr.0);
        }
        // An announcement asks for its own sender (RFC 5227 §3), and needs no answer.
        let asks_others =
            target_protocol_addr != self.gateway && target_protocol_addr != source_protocol_addr;
        if operation == ArpOperation::Request && asks_others {
            let reply = build::arp_reply(
                self.mac,
                target_protocol_addr,
                source_hardware_addr.0,
                source_protocol_addr,
            );
            self.push_frame(pool, &reply);
        }
    }

    fn push_frame(&mut self, pool: &mut impl BufPool<Buf = P::Buf>, frame: &[u8]) {
        self.push_bytes(pool, frame.len(), |to| to.copy_from_slice(frame));
    }

    /// Queues a frame of `len` bytes that `write` fills, for the gateway. False if there is no buffer or no gateway.
    pub(super) fn push(
        &mut self,
        pool: &mut impl BufPool<Buf = P::Buf>,
        len: u16,
        write: impl FnOnce(&mut [u8], Stations),
    ) -> bool {
        let Some(gateway) = self.gateway_mac else { return false };
        let stations = (self.mac, gateway);
        self.push_bytes(pool, usize::from(len), |frame| write(frame, stations))
    }

    fn push_bytes(
        &mut self,
        pool: &mut impl BufPool<Buf = P::Buf>,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        if self.out.is_full() {
            // Answers come in between: they do not count as offered.
            self.flush();
        }
        let Some(mut buf) = pool.alloc() else { return false };
        if !buf.append(len) {
            return false;
        }
        write(buf.bytes_mut());
        self.out.push(buf);
        true
    }

    /// Sends what is queued; how many frames the device refused.
    pub(super) fn flush(&mut self) -> u64 {
        let queued = self.out.len();
        if queued == 0 {
            return 0;
        }
        (queued - self.port.tx_burst(&mut self.out).min(queued)) as u64
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.out.len()
    }

    pub(super) fn receive(&mut self, burst: &mut Burst<P::Buf>) {
        self.port.rx_burst(burst);
    }
}
