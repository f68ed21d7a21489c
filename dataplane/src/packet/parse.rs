//! Parse: headers once, to offsets and the fields that the later stages ask for.
//!
//! The checks stand in the order of the RFCs, one [`DropReason`] each: Ethernet II, then IPv4 (RFC 791, RFC 1812 §5.2.2,
//! §5.3.7, §4.2.2.6), then TCP (RFC 9293 §3.1), UDP (RFC 768) or ICMP (RFC 792). What parses is well formed: every
//! offset of [`Parsed`] lies in the frame, and no header reaches beyond the IP total length.
//!
//! Not checked here, for want of knowledge: that the source is not one of our own addresses, that the destination is
//! not the broadcast address of a connected network, and transport checksums but ICMP's (a forwarder passes those
//! through; inspection verifies them first).

use super::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ICMP_LEN, IPV4_LEN, TCP_LEN, UDP_LEN};
use super::{Fragment, IpOptions, Quoted, checksum, flag, icmp};
use crate::drop_reason::DropReason;
use crate::key::{Addrs, FlowKey, Protocol, ZoneId};
use core::ops::Range;

/// What a packet is. Plain numbers, in host order; offsets count from the start of the frame.
///
/// It stays true to what arrived: rewriting changes the frame and not this. Offsets stay valid as long as no header
/// grows or shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// TCP: sequence number.
    pub seq: u32,
    /// TCP: acknowledgement number.
    pub ack: u32,
    /// Source port; see [`FlowKey::sport`] for ICMP.
    pub sport: u16,
    /// Destination port; see [`FlowKey::dport`] for ICMP.
    pub dport: u16,
    /// TCP: window field, unscaled.
    pub window: u16,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header.
    pub l4: u16,
    /// Offset of the transport payload (ICMP: of what follows the first 8 bytes).
    pub payload: u16,
    /// Bytes of transport payload. UDP: as its length field says.
    pub payload_len: u16,
    /// IP total length. What the frame has behind it is padding and belongs to no one.
    pub ip_len: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Time to live as received.
    pub ttl: u8,
    /// TCP: the flags, see [`flag`].
    pub tcp_flags: u8,
    /// ICMP: the type, see [`icmp`].
    pub icmp_type: u8,
    /// Options of the IP header.
    pub options: IpOptions,
    /// Don't fragment.
    pub df: bool,
}

impl Parsed {
    /// The key of its flow, as it arrives from `scope`.
    #[inline]
    #[must_use]
    pub const fn key(&self, scope: ZoneId) -> FlowKey {
        FlowKey {
            addrs: Addrs::V4(self.src, self.dst),
            sport: self.sport,
            dport: self.dport,
            protocol: self.protocol,
            scope,
        }
    }

    /// True for an ICMP error: a message about another packet, which no error ever answers.
    #[inline]
    #[must_use]
    pub const fn is_icmp_error(&self) -> bool {
        matches!(self.icmp_type, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
    }

    /// Bytes from the Ethernet header to the end of the IP packet: the frame without its padding.
    #[inline]
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        self.l3 as usize + self.ip_len as usize
    }

    /// Where the transport header and its payload lie. UDP: without what the IP packet has behind the datagram.
    #[inline]
    #[must_use]
    pub const fn segment(&self) -> Range<usize> {
        self.l4 as usize..self.payload as usize + self.payload_len as usize
    }

    /// Where the payload lies.
    #[inline]
    #[must_use]
    pub const fn payload_range(&self) -> Range<usize> {
        self.payload as usize..self.payload as usize + self.payload_len as usize
    }

    /// True if all of `flags` are set.
    #[inline]
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.tcp_flags & flags == flags
    }

    /// TCP: sequence space that the segment takes: its payload, and one each for SYN and FIN (RFC 9293 §3.4).
    #[inline]
    #[must_use]
    pub const fn seq_len(&self) -> u32 {
        self.payload_len as u32
            + (self.tcp_flags & flag::SYN != 0) as u32
            + (self.tcp_flags & flag::FIN != 0) as u32
    }

    /// True if the transport checksum is right. Reads all of the packet.
    #[must_use]
    pub fn l4_checksum_is_valid(&self, frame: &[u8]) -> bool {
        frame.get(self.segment()).is_some_and(|s| checksum::l4_is_valid(self.src, self.dst, self.protocol, s))
    }

    /// TCP: the options. Other protocols have none.
    #[must_use]
    pub fn tcp_options<'a>(&self, frame: &'a [u8]) -> TcpOptions<'a> {
        let (at, end) = match self.protocol {
            Protocol::Tcp => (usize::from(self.l4) + TCP_LEN, usize::from(self.payload)),
            _ => (0, 0),
        };
        TcpOptions { bytes: frame.get(..end).unwrap_or(&[]), at }
    }
}

/// What came of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// An IPv4 packet.
    Ip(Parsed),
    /// An ICMP error, and the packet that it is about.
    Error(Parsed, Quoted),
    /// A fragment of a datagram.
    Fragment(Fragment),
    /// ARP for IPv4 over Ethernet: for the control core.
    Arp,
    /// Neither.
    Drop(DropReason),
}

/// Parses a frame that came in on an interface with the address `our_mac`.
#[inline]
#[must_use]
pub fn parse(frame: &[u8], our_mac: [u8; 6]) -> Parse {
    match ethernet(frame, our_mac) {
        Ok(p) => p,
        Err(reason) => Parse::Drop(reason),
    }
}

fn ethernet(frame: &[u8], our_mac: [u8; 6]) -> Result<Parse, DropReason> {
    let Some((header, body)) = frame.split_first_chunk::<ETHERNET_LEN>() else {
        return Err(DropReason::EthTruncated);
    };
    let [d0, d1, d2, d3, d4, d5, .., t0, t1] = *header;
    let group = d0 & 1 != 0;
    if !group && [d0, d1, d2, d3, d4, d5] != our_mac {
        return Err(DropReason::EthNotForUs);
    }
    match u16::from_be_bytes([t0, t1]) {
        // RFC 1812 §5.3.4: a router does not forward what came as a link-layer broadcast.
        ETHERTYPE_IPV4 if [d0, d1, d2, d3, d4, d5] == [0xFF; 6] => Err(DropReason::EthBroadcast),
        ETHERTYPE_IPV4 if group => Err(DropReason::EthMulticast),
        ETHERTYPE_IPV4 => {
            let parsed = match ipv4(body)? {
                Ipv4::Whole(parsed) => parsed,
                Ipv4::Fragment(fragment) => return Ok(Parse::Fragment(fragment)),
            };
            if parsed.is_icmp_error() {
                return Ok(Parse::Error(parsed, Quoted::read(frame, &parsed)?));
            }
            Ok(Parse::Ip(parsed))
        }
        ETHERTYPE_ARP => arp(body),
        _ => Err(DropReason::EthTypeUnsupported),
    }
}

/// RFC 826: hardware type Ethernet, protocol type IPv4, their address lengths, and all 28 bytes.
fn arp(body: &[u8]) -> Result<Parse, DropReason> {
    match body.first_chunk::<28>() {
        Some([0, 1, 8, 0, 6, 4, ..]) => Ok(Parse::Arp),
        _ => Err(DropReason::ArpInvalid),
    }
}

enum Ipv4 {
    Whole(Parsed),
    Fragment(Fragment),
}

/// RFC 1812 §5.2.2 in its order, but that the checksum needs the header length first.
fn ipv4(body: &[u8]) -> Result<Ipv4, DropReason> {
    let Some(h) = body.first_chunk::<IPV4_LEN>() else { return Err(DropReason::Ipv4Truncated) };
    if h[0] >> 4 != 4 {
        return Err(DropReason::Ipv4Version);
    }
    let header_len = usize::from(h[0] & 0x0F) * 4;
    if header_len < IPV4_LEN {
        return Err(DropReason::Ipv4HeaderLength);
    }
    let Some(header) = body.get(..header_len) else { return Err(DropReason::Ipv4HeaderLength) };
    if !checksum::is_valid(header) {
        return Err(DropReason::Ipv4Checksum);
    }
    let ip_len = u16::from_be_bytes([h[2], h[3]]);
    let Some(segment) = body.get(header_len..usize::from(ip_len)) else {
        return Err(DropReason::Ipv4TotalLength);
    };
    let options = IpOptions::read(header.get(IPV4_LEN..).unwrap_or(&[]))?;
    let src = u32::from_be_bytes([h[12], h[13], h[14], h[15]]);
    let dst = u32::from_be_bytes([h[16], h[17], h[18], h[19]]);
    addresses(src, dst)?;
    let fragment = u16::from_be_bytes([h[6], h[7]]);
    let Some(protocol) = Protocol::from_number(h[9]) else { return Err(DropReason::ProtocolUnsupported) };
    if Fragment::is(fragment) {
        let len = segment.len() as u16;
        return Fragment::read(h, fragment, protocol, header_len as u8, len).map(Ipv4::Fragment);
    }
    // At most 14 + 60.
    let l4 = (ETHERNET_LEN + header_len) as u16;
    let mut p = Parsed {
        src,
        dst,
        seq: 0,
        ack: 0,
        sport: 0,
        dport: 0,
        window: 0,
        l3: ETHERNET_LEN as u16,
        l4,
        payload: l4,
        payload_len: 0,
        ip_len,
        protocol,
        ttl: h[8],
        tcp_flags: 0,
        icmp_type: 0,
        options,
        df: fragment & 0x4000 != 0,
    };
    match protocol {
        Protocol::Tcp => tcp(&mut p, segment)?,
        Protocol::Udp => udp(&mut p, segment)?,
        Protocol::Icmp => icmp_message(&mut p, segment)?,
    }
    Ok(Ipv4::Whole(p))
}

/// RFC 1812 §5.3.7, §4.2.3.1: neither "this network" (0/8), loopback (127/8), multicast (224/4), reserved nor the
/// limited broadcast (240/4).
#[inline]
pub(crate) const fn is_host(addr: u32) -> bool {
    let net = (addr >> 24) as u8;
    net != 0 && net != 127 && net < 224
}

/// RFC 1812 §5.3.7, §4.2.3.1: "this network", loopback and the reserved addresses are no host's; multicasts and the
/// limited broadcast are not routed here, and nothing comes from them.
fn addresses(src: u32, dst: u32) -> Result<(), DropReason> {
    for addr in [src, dst] {
        match addr >> 24 {
            0 => return Err(DropReason::Ipv4ThisNetwork),
            127 => return Err(DropReason::Ipv4Loopback),
            240.. if addr != u32::MAX => return Err(DropReason::Ipv4Reserved),
            _ => {}
        }
    }
    match (src >> 24, dst >> 24) {
        (224.., _) => Err(DropReason::Ipv4SourceInvalid),
        (_, 224..=239) => Err(DropReason::Ipv4Multicast),
        (_, 240..) => Err(DropReason::Ipv4Broadcast),
        _ => Ok(()),
    }
}

/// RFC 9293 §3.1.
fn tcp(p: &mut Parsed, segment: &[u8]) -> Result<(), DropReason> {
    let Some(h) = segment.first_chunk::<TCP_LEN>() else { return Err(DropReason::TcpTruncated) };
    let header_len = usize::from(h[12] >> 4) * 4;
    let Some(payload_len) = segment.len().checked_sub(header_len) else {
        return Err(DropReason::TcpHeaderLength);
    };
    if header_len < TCP_LEN {
        return Err(DropReason::TcpHeaderLength);
    }
    let flags = h[13];
    if !flags_are_sane(flags) {
        return Err(DropReason::TcpFlags);
    }
    p.sport = u16::from_be_bytes([h[0], h[1]]);
    p.dport = u16::from_be_bytes([h[2], h[3]]);
    if p.sport == 0 || p.dport == 0 {
        return Err(DropReason::TcpPortZero);
    }
    p.seq = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
    p.ack = u32::from_be_bytes([h[8], h[9], h[10], h[11]]);
    p.window = u16::from_be_bytes([h[14], h[15]]);
    p.tcp_flags = flags;
    p.payload = p.l4 + header_len as u16;
    p.payload_len = payload_len as u16;
    Ok(())
}

/// RFC 9293 §3.5, §3.10.7.4: after the SYN every segment but a reset carries ACK; SYN goes with neither FIN nor RST.
#[inline]
pub(crate) const fn flags_are_sane(flags: u8) -> bool {
    let syn = flags & flag::SYN != 0;
    let bad_syn = syn && flags & (flag::FIN | flag::RST) != 0;
    !bad_syn && flags & (flag::SYN | flag::RST | flag::ACK) != 0
}

/// RFC 768. A length field below the IP payload is legal: what lies behind belongs to no one.
fn udp(p: &mut Parsed, segment: &[u8]) -> Result<(), DropReason> {
    let Some(h) = segment.first_chunk::<UDP_LEN>() else { return Err(DropReason::UdpTruncated) };
    let len = u16::from_be_bytes([h[4], h[5]]);
    if usize::from(len) < UDP_LEN || usize::from(len) > segment.len() {
        return Err(DropReason::UdpLength);
    }
    p.sport = u16::from_be_bytes([h[0], h[1]]);
    p.dport = u16::from_be_bytes([h[2], h[3]]);
    // A source port of 0 means that no answer is wanted: there is nothing to keep a session for.
    if p.sport == 0 || p.dport == 0 {
        return Err(DropReason::UdpPortZero);
    }
    p.payload = p.l4 + UDP_LEN as u16;
    p.payload_len = len - UDP_LEN as u16;
    Ok(())
}

/// RFC 792: echo and echo reply, whose identifier stands where the asking end's port would, and errors.
fn icmp_message(p: &mut Parsed, message: &[u8]) -> Result<(), DropReason> {
    let Some(h) = message.first_chunk::<ICMP_LEN>() else { return Err(DropReason::IcmpTruncated) };
    let id = u16::from_be_bytes([h[4], h[5]]);
    match (h[0], h[1]) {
        (icmp::ECHO_REQUEST, 0) => p.sport = id,
        (icmp::ECHO_REPLY, 0) => p.dport = id,
        // Codes: RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1; RFC 1122 §3.2.2.5.
        (icmp::UNREACHABLE, 0..=15) | (icmp::TIME_EXCEEDED, 0 | 1) | (icmp::PARAMETER_PROBLEM, 0..=2) => {}
        // RFC 6633 §4: routers and firewalls drop it.
        (icmp::SOURCE_QUENCH, _) => return Err(DropReason::IcmpSourceQuench),
        _ => return Err(DropReason::IcmpTypeUnsupported),
    }
    if !checksum::is_valid(message) {
        return Err(DropReason::IcmpChecksum);
    }
    p.icmp_type = h[0];
    p.payload = p.l4 + ICMP_LEN as u16;
    p.payload_len = (message.len() - ICMP_LEN) as u16;
    Ok(())
}

/// TCP options of a frame (RFC 9293 §3.2). Gives each option's kind and where its data lies in the frame (behind kind
/// and length). NOPs are skipped; it ends at End of Option List, at the header's end, or at what does not fit.
#[derive(Clone, Debug)]
pub struct TcpOptions<'a> {
    /// The frame up to the end of the TCP header.
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for TcpOptions<'_> {
    type Item = (u8, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.bytes.get(self.at..)? {
                [1, ..] => self.at += 1,
                [kind @ 2..=u8::MAX, len @ 2..=u8::MAX, ..] => {
                    let end = self.at + usize::from(len);
                    if end > self.bytes.len() {
                        self.at = self.bytes.len();
                        return None;
                    }
                    let data = self.at + 2..end;
                    self.at = end;
                    return Some((kind, data));
                }
                _ => {
                    self.at = self.bytes.len();
                    return None;
                }
            }
        }
    }
}
