//! Builds whole frames, for tests, benchmarks and tools. The headers come from smoltcp, so that what our own code
//! parses and checks was not written by it.

use super::{ETHERNET_LEN, ICMP_LEN, IPV4_LEN, TCP_LEN, UDP_LEN, flag};
use core::net::Ipv4Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

/// Who sends a frame to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Sender's MAC address.
    pub source_mac: [u8; 6],
    /// Receiver's MAC address.
    pub destination_mac: [u8; 6],
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
}

impl Ends {
    /// Ends with time to live 64.
    #[must_use]
    pub const fn new(
        source_mac: [u8; 6],
        source: Ipv4Addr,
        destination_mac: [u8; 6],
        destination: Ipv4Addr,
    ) -> Self {
        Self { source_mac, destination_mac, source, destination, ttl: 64 }
    }

    /// The way back.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            source: self.destination,
            destination: self.source,
            ttl: self.ttl,
        }
    }
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags, see [`flag`].
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Options as they stand in the header. Padded with End of Option List; at most 40 bytes.
    pub options: &'a [u8],
}

impl Default for Tcp<'_> {
    fn default() -> Self {
        Self { sport: 1025, dport: 80, seq: 1, ack: 0, flags: flag::ACK, window: 65_000, options: &[] }
    }
}

const SUMS: fn() -> ChecksumCapabilities = ChecksumCapabilities::default;

/// Writes an Ethernet header in front of `body`.
#[must_use]
pub fn ethernet(source_mac: [u8; 6], destination_mac: [u8; 6], ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ETHERNET_LEN + body.len()];
    let repr = EthernetRepr {
        src_addr: EthernetAddress(source_mac),
        dst_addr: EthernetAddress(destination_mac),
        ethertype: EthernetProtocol::from(ethertype),
    };
    let mut frame = EthernetFrame::new_unchecked(&mut out);
    repr.emit(&mut frame);
    frame.payload_mut().copy_from_slice(body);
    out
}

/// An IPv4 packet in its frame: any protocol, any payload, with IP options (padded with End of Option List, at most
/// 40 bytes). Don't-fragment is set, as smoltcp does.
#[must_use]
pub fn ipv4(ends: &Ends, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = IPV4_LEN + options.len().next_multiple_of(4).min(40);
    let mut out = vec![0; header_len + payload.len()];
    let repr = Ipv4Repr {
        src_addr: ends.source,
        dst_addr: ends.destination,
        next_header: IpProtocol::from(protocol),
        payload_len: out.len() - IPV4_LEN,
        hop_limit: ends.ttl,
    };
    repr.emit(&mut Ipv4Packet::new_unchecked(&mut out), &SUMS());
    let (header, body) = out.split_at_mut(header_len);
    body.copy_from_slice(payload);
    for (to, from) in header.iter_mut().skip(IPV4_LEN).zip(options) {
        *to = *from;
    }
    let mut packet = Ipv4Packet::new_unchecked(&mut out);
    packet.set_header_len(header_len as u8);
    packet.fill_checksum();
    ethernet(ends.source_mac, ends.destination_mac, super::ETHERTYPE_IPV4, &out)
}

/// A TCP segment in its frame.
#[must_use]
pub fn tcp(ends: &Ends, header: &Tcp<'_>, payload: &[u8]) -> Vec<u8> {
    let header_len = TCP_LEN + header.options.len().next_multiple_of(4).min(40);
    let mut out = vec![0; header_len + payload.len()];
    let mut packet = TcpPacket::new_unchecked(&mut out);
    packet.set_src_port(header.sport);
    packet.set_dst_port(header.dport);
    packet.set_seq_number(TcpSeqNumber(header.seq as i32));
    packet.set_ack_number(TcpSeqNumber(header.ack as i32));
    packet.set_header_len(header_len as u8);
    packet.set_window_len(header.window);
    packet.set_urgent_at(0);
    // smoltcp sets flags one by one; tests need every combination.
    let (head, body) = out.split_at_mut(header_len);
    body.copy_from_slice(payload);
    for (to, from) in head.iter_mut().skip(TCP_LEN).zip(header.options) {
        *to = *from;
    }
    if let Some(flags) = head.get_mut(13) {
        *flags = header.flags;
    }
    TcpPacket::new_unchecked(&mut out)
        .fill_checksum(&IpAddress::Ipv4(ends.source), &IpAddress::Ipv4(ends.destination));
    ipv4(ends, 6, &[], &out)
}

/// A UDP datagram in its frame.
#[must_use]
pub fn udp(ends: &Ends, sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; UDP_LEN + payload.len()];
    UdpRepr { src_port: sport, dst_port: dport }.emit(
        &mut UdpPacket::new_unchecked(&mut out[..]),
        &IpAddress::Ipv4(ends.source),
        &IpAddress::Ipv4(ends.destination),
        payload.len(),
        |body| body.copy_from_slice(payload),
        &SUMS(),
    );
    ipv4(ends, 17, &[], &out)
}

/// An ICMP echo request in its frame.
#[must_use]
pub fn echo_request(ends: &Ends, ident: u16, seq_no: u16, data: &[u8]) -> Vec<u8> {
    icmp(ends, &Icmpv4Repr::EchoRequest { ident, seq_no, data })
}

/// An ICMP echo reply in its frame.
#[must_use]
pub fn echo_reply(ends: &Ends, ident: u16, seq_no: u16, data: &[u8]) -> Vec<u8> {
    icmp(ends, &Icmpv4Repr::EchoReply { ident, seq_no, data })
}

/// An ICMP error in its frame: type, code, the four bytes behind the checksum, and what it quotes.
#[must_use]
pub fn icmp_error(ends: &Ends, kind: u8, code: u8, rest: u32, quote: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ICMP_LEN];
    out.extend_from_slice(quote);
    for (to, from) in out.iter_mut().skip(4).zip(rest.to_be_bytes()) {
        *to = from;
    }
    let mut packet = Icmpv4Packet::new_unchecked(&mut out[..]);
    packet.set_msg_type(Icmpv4Message::from(kind));
    packet.set_msg_code(code);
    packet.fill_checksum();
    ipv4(ends, 1, &[], &out)
}

fn icmp(ends: &Ends, repr: &Icmpv4Repr<'_>) -> Vec<u8> {
    let mut out = vec![0; repr.buffer_len().max(ICMP_LEN)];
    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut out[..]), &SUMS());
    ipv4(ends, 1, &[], &out)
}

/// An ARP request to everyone: who has `target`? An all-zero `source` makes it a probe (RFC 5227 §2.1.1).
#[must_use]
pub fn arp_request(source_mac: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp([0xFF; 6], ArpOperation::Request, (source_mac, source), ([0; 6], target))
}

/// An ARP request to one MAC address, to see whether the neighbour is still there (RFC 1122 §2.3.2.1).
#[must_use]
pub fn arp_probe(source_mac: [u8; 6], source: Ipv4Addr, mac: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    arp(mac, ArpOperation::Request, (source_mac, source), ([0; 6], target))
}

/// An ARP reply: `source` is at `source_mac`.
#[must_use]
pub fn arp_reply(source_mac: [u8; 6], source: Ipv4Addr, mac: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    arp(mac, ArpOperation::Reply, (source_mac, source), (mac, target))
}

fn arp(
    to: [u8; 6],
    operation: ArpOperation,
    source: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(source.0),
        source_protocol_addr: source.1,
        target_hardware_addr: EthernetAddress(target.0),
        target_protocol_addr: target.1,
    };
    let mut out = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut out));
    ethernet(source.0, to, super::ETHERTYPE_ARP, &out)
}
