//! Packets of a flow, and what they must have become when they leave.
//!
//! Every packet carries its flow's number: a datagram in its first four bytes of payload, a segment in its sequence
//! number. The check shares no code with the gateway: it sums and compares by itself.

use crate::rig::flows::{self, Nat, Place};
use dataplane::key::Protocol;
use dataplane::packet::flag;
use dataplane::table::Direction;

/// Ends of the two cables.
pub mod mac {
    /// The gateway's inside interface.
    pub const GATEWAY_INSIDE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    /// The gateway's outside interface.
    pub const GATEWAY_OUTSIDE: [u8; 6] = [2, 0, 0, 0, 0, 2];
    /// The inside router.
    pub const INSIDE: [u8; 6] = [2, 0, 0, 0, 1, 1];
    /// The outside router.
    pub const OUTSIDE: [u8; 6] = [2, 0, 0, 0, 1, 2];
}

/// Longest header: Ethernet, IPv4, TCP.
pub const HEADERS: usize = 54;
/// Shortest frame, without the FCS.
pub const SHORTEST: usize = 60;
/// Time to live that packets start with.
pub(super) const TTL: u8 = 64;
pub(super) const ETHERNET: usize = 14;
pub(super) const IPV4: usize = 20;

/// What a packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A datagram, or a segment of an established connection with the same data again.
    Data,
    /// TCP only.
    Syn,
    /// TCP only.
    SynAck,
    /// The handshake's last segment. TCP only.
    Ack,
}

/// Writes packets of one protocol, and knows how they are translated.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    protocol: Protocol,
    nat: Nat,
}

pub(super) fn put16(frame: &mut [u8], at: usize, value: u16) {
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn put32(frame: &mut [u8], at: usize, value: u32) {
    if let Some(field) = frame.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn get16(frame: &[u8], at: usize) -> u16 {
    frame.get(at..at + 2).map_or(0, |f| u16::from_be_bytes([f[0], f[1]]))
}

pub(super) fn get32(frame: &[u8], at: usize) -> u32 {
    u32::from(get16(frame, at)) << 16 | u32::from(get16(frame, at + 2))
}

pub(super) const fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

/// RFC 1071, in its plainest form.
pub(super) const fn fold(mut sum: u32) -> u16 {
    sum = halves(sum);
    sum = halves(sum);
    sum as u16
}

/// The sum of bytes as 16-bit words.
pub(super) fn plain_sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0u32, |sum, w| {
        let sum = sum + (u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
        halves(sum)
    })
}

/// Ends of a packet: source and destination, address and port.
pub(super) type Ends = ((u32, u16), (u32, u16));

/// As the packet of a flow arrives; `place` is where it is seen from outside.
#[inline]
fn arriving(nat: Nat, flow: u32, direction: Direction, place: Place) -> Ends {
    let server = (nat.destination(flow), flows::SERVICE);
    match direction {
        Direction::Forward => (nat.inside(nat.endpoint(flow)), server),
        Direction::Reverse => (server, nat.outside(place)),
    }
}

/// As it must leave.
fn leaving(nat: Nat, flow: u32, direction: Direction, place: Place) -> Ends {
    let server = (nat.destination(flow), flows::SERVICE);
    match direction {
        Direction::Forward => (nat.outside(place), server),
        Direction::Reverse => (server, nat.inside(nat.endpoint(flow))),
    }
}

/// Bytes of the transport header.
const fn l4_len(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 20,
        _ => 8,
    }
}

impl Writer {
    /// For one protocol: UDP or TCP, and flows that share their endpoints.
    #[must_use]
    pub const fn new(protocol: Protocol) -> Self {
        Self::of(protocol, Nat::Shared)
    }

    /// The same for flows of either kind.
    #[must_use]
    pub const fn of(protocol: Protocol, nat: Nat) -> Self {
        Self { protocol, nat }
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        self.protocol
    }

    /// Writes the headers of a frame. What lies behind them, but for the flow's number, must be zero, and stays. Handshake
    /// segments have no payload: their frame is padded.
    #[inline]
    pub fn write(self, frame: &mut [u8], flow: u32, direction: Direction, kind: Kind, place: Place) {
        let bare = ETHERNET + IPV4 + l4_len(self.protocol);
        let end = if kind == Kind::Data { frame.len() } else { bare };
        let ip_len = (end - ETHERNET) as u16;
        let Some(head) = frame.first_chunk_mut::<SHORTEST>() else { return };
        let (to, from) = match direction {
            Direction::Forward => (mac::GATEWAY_INSIDE, mac::INSIDE),
            Direction::Reverse => (mac::GATEWAY_OUTSIDE, mac::OUTSIDE),
        };
        let ((source, sport), (destination, dport)) = arriving(self.nat, flow, direction, place);
        head[..6].copy_from_slice(&to);
        head[6..12].copy_from_slice(&from);
        put16(head, 12, 0x0800);
        put16(head, 14, 0x4500);
        put16(head, 16, ip_len);
        put32(head, 18, 0x0000_4000);
        put16(head, 22, u16::from(TTL) << 8 | self.protocol as u16);
        put32(head, 26, source);
        put32(head, 30, destination);
        let addresses = halves(source) + halves(destination);
        let ip =
            0x4500 + u32::from(ip_len) + 0x4000 + (u32::from(TTL) << 8) + self.protocol as u32 + addresses;
        put16(head, 24, !fold(ip));

        put16(head, 34, sport);
        put16(head, 36, dport);
        let l4_len = u32::from(ip_len) - IPV4 as u32;
        let mut sum = addresses + self.protocol as u32 + l4_len + u32::from(sport) + u32::from(dport);
        match self.protocol {
            Protocol::Tcp => {
                let (flags, seq, ack) = segment(flow, kind);
                put32(head, 38, seq);
                put32(head, 42, ack);
                let (offset_flags, window) = (0x5000 | u16::from(flags), 0xffff);
                put16(head, 46, offset_flags);
                put16(head, 48, window);
                put16(head, 52, 0);
                sum += halves(seq) + halves(ack) + u32::from(offset_flags) + u32::from(window);
                put16(head, 50, !fold(sum));
            }
            _ => {
                put16(head, 38, l4_len as u16);
                put32(head, 42, flow);
                sum += l4_len + halves(flow);
                let checksum = !fold(sum);
                put16(head, 40, if checksum == 0 { 0xffff } else { checksum });
            }
        }
    }

    /// The flow of a frame, by the number that it carries.
    #[inline]
    #[must_use]
    pub fn flow(self, frame: &[u8]) -> u32 {
        match self.protocol {
            Protocol::Tcp => {
                let syn = frame.get(47).is_some_and(|f| f & flag::SYN != 0);
                get32(frame, 38).wrapping_sub(u32::from(!syn))
            }
            _ => get32(frame, 42),
        }
    }

    /// Where a frame that leaves says that its flow is seen from outside.
    #[inline]
    #[must_use]
    pub fn source(self, frame: &[u8]) -> Place {
        self.nat.place((get32(frame, 26), get16(frame, 34)))
    }

    /// What is wrong with a frame that leaves, if anything is: addresses, ports, lengths, TTL, both checksums, payload.
    #[must_use]
    pub fn fault(self, frame: &[u8], direction: Direction, place: Place) -> Option<String> {
        let flow = self.flow(frame);
        let rest = frame.get(ETHERNET + IPV4 + if self.protocol == Protocol::Tcp { 20 } else { 12 }..);
        let payload = rest.is_none_or(|rest| rest.iter().all(|b| *b == 0));
        let ends = leaving(self.nat, flow, direction, place);
        let what = header_fault(frame, direction, (self.protocol, TTL - 1), ends)
            .or((!payload).then_some("payload"))?;
        Some(format!("{direction:?} packet of flow {flow}: {what} is wrong: {}", hex(frame, SHORTEST)))
    }
}

/// The first bytes of a frame, for people.
pub(super) fn hex(frame: &[u8], most: usize) -> String {
    frame.iter().take(most).map(|b| format!("{b:02x}")).collect()
}

/// What is wrong with the headers of a frame that leaves between these ends, or with its checksums. Its time to live is one
/// less than at the start, and `most` at most: what the gateway itself has made starts there.
pub(super) fn header_fault(
    frame: &[u8],
    direction: Direction,
    (protocol, most): (Protocol, u8),
    ((source, sport), (destination, dport)): Ends,
) -> Option<&'static str> {
    let (to, from) = match direction {
        Direction::Forward => (mac::OUTSIDE, mac::GATEWAY_OUTSIDE),
        Direction::Reverse => (mac::INSIDE, mac::GATEWAY_INSIDE),
    };
    let ip_len = usize::from(get16(frame, 16));
    let ip = frame.get(ETHERNET..ETHERNET + IPV4).unwrap_or(&[]);
    let l4 = frame.get(ETHERNET + IPV4..ETHERNET + ip_len).unwrap_or(&[]);
    let pseudo = halves(source) + halves(destination) + protocol as u32 + l4.len() as u32;
    let checks = [
        ("destination MAC", frame.get(..6) == Some(&to)),
        ("source MAC", frame.get(6..12) == Some(&from)),
        ("type, version or header length", get16(frame, 12) == 0x0800 && get16(frame, 14) == 0x4500),
        ("length", ip_len >= IPV4 + l4_len(protocol) && frame.len() == ETHERNET + ip_len),
        ("identification or fragment", get32(frame, 18) == 0x0000_4000),
        ("TTL", frame.get(22).is_some_and(|ttl| (TTL - 1..=most).contains(ttl))),
        ("protocol", frame.get(23) == Some(&(protocol as u8))),
        ("IPv4 checksum", fold(plain_sum(ip)) == 0xffff),
        ("source address", get32(frame, 26) == source),
        ("destination address", get32(frame, 30) == destination),
        ("source port", get16(frame, 34) == sport),
        ("destination port", get16(frame, 36) == dport),
        ("transport checksum", fold(halves(pseudo) + plain_sum(l4)) == 0xffff),
    ];
    checks.iter().find(|(_, good)| !good).map(|(what, _)| *what)
}

/// Flags, sequence and acknowledgement number. Both sides start at the flow's number.
const fn segment(flow: u32, kind: Kind) -> (u8, u32, u32) {
    let next = flow.wrapping_add(1);
    match kind {
        Kind::Syn => (flag::SYN, flow, 0),
        Kind::SynAck => (flag::SYN | flag::ACK, flow, next),
        Kind::Ack => (flag::ACK, next, next),
        Kind::Data => (flag::ACK | flag::PSH, next, next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::packet::{Parse, checksum, parse};

    #[test]
    fn what_is_written_is_what_the_gateway_reads() {
        for (protocol, nat) in [Protocol::Udp, Protocol::Tcp]
            .map(|p| (p, Nat::Shared))
            .into_iter()
            .chain([(Protocol::Udp, Nat::Own(4))])
        {
            for kind in [Kind::Data, Kind::Syn, Kind::SynAck, Kind::Ack] {
                if protocol == Protocol::Udp && kind != Kind::Data {
                    continue;
                }
                for len in [60, 590, 1514] {
                    let mut frame = vec![0; len];
                    let writer = Writer::of(protocol, nat);
                    writer.write(&mut frame, 123_456, Direction::Forward, kind, Place::default());
                    let Parse::Ip(parsed) = parse(&frame, mac::GATEWAY_INSIDE) else {
                        panic!("{protocol:?}")
                    };
                    assert_eq!((parsed.src, parsed.sport), nat.inside(nat.endpoint(123_456)));
                    assert_eq!((parsed.dst, parsed.dport), (nat.destination(123_456), flows::SERVICE));
                    let l4 = &frame[34..14 + usize::from(parsed.ip_len)];
                    assert!(checksum::is_valid(&frame[14..34]));
                    assert!(checksum::l4_is_valid(parsed.src, parsed.dst, protocol, l4));
                    assert_eq!(writer.flow(&frame), 123_456);
                }
            }
        }
    }

    #[test]
    fn an_untranslated_packet_is_a_fault() {
        for nat in [Nat::Shared, Nat::Own(4)] {
            let writer = Writer::of(Protocol::Udp, nat);
            let mut frame = vec![0; 60];
            writer.write(&mut frame, 7, Direction::Forward, Kind::Data, Place::default());
            assert!(writer.fault(&frame, Direction::Forward, Place::new(0, 1)).is_some());
            assert!(!writer.source(&frame).is_known(), "not at an address of the gateway's");
        }
    }
}
