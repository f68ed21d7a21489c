//! Quote: the packet that an ICMP error is about, found in the error and translated there (RFC 792, RFC 5508 §4).
//!
//! An error quotes the packet as it left the gateway: its IP header and at least eight bytes behind it, which hold the
//! ports. Nothing of a transport header but those, the TCP sequence number and the checksum is read or changed, and
//! those last two only where they were quoted.

use super::checksum::{self, Delta};
use super::field::{bytes, get16, get32, put16, put32};
use super::rewrite;
use super::{IPV4_LEN, Parsed, TCP_LEN, icmp};
use crate::drop_reason::DropReason;
use crate::key::{Addrs, FlowKey, Protocol, ZoneId};

/// What an error quotes of a transport header at least, in bytes (RFC 792).
const LEAST: usize = 8;

/// Code of "fragmentation needed and DF set" (RFC 792).
const TOO_LONG: u8 = 4;

/// MTUs of links, by which who is told none guesses one (RFC 1191 §7.1).
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// A quoted packet. Offsets count from the start of the frame that the error came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its source address.
    pub src: u32,
    /// Its destination address.
    pub dst: u32,
    /// Its source port; see [`FlowKey::sport`] for ICMP.
    pub sport: u16,
    /// Its destination port; see [`FlowKey::dport`] for ICMP.
    pub dport: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// ICMP: its type.
    icmp_type: u8,
    l3: u16,
    l4: u16,
}

impl Quoted {
    /// Finds the packet that an error quotes. What it says is checked as far as RFC 5508 REQ-3 asks: the IP header and
    /// its checksum; the transport checksum is not, for most of what it covers is seldom quoted.
    ///
    /// # Errors
    /// Too little is quoted, it is no packet that could have a session, or the error is not addressed to its sender.
    pub fn read(frame: &[u8], error: &Parsed) -> Result<Self, DropReason> {
        let l3 = usize::from(error.payload);
        let quote = frame.get(l3..error.frame_len()).ok_or(DropReason::IcmpErrorTruncated)?;
        let h = quote.first_chunk::<IPV4_LEN>().ok_or(DropReason::IcmpErrorTruncated)?;
        let header_len = usize::from(h[0] & 0x0F) * 4;
        if h[0] >> 4 != 4 || header_len < IPV4_LEN {
            return Err(DropReason::IcmpErrorQuote);
        }
        let (header, rest) = quote.split_at_checked(header_len).ok_or(DropReason::IcmpErrorTruncated)?;
        if !checksum::is_valid(header) {
            return Err(DropReason::IcmpErrorQuote);
        }
        // Other fragments than the first have no ports.
        let first = u16::from_be_bytes([h[6], h[7]]) & 0x1FFF == 0;
        let protocol = Protocol::from_number(h[9]).filter(|_| first).ok_or(DropReason::IcmpErrorQuote)?;
        let start = rest.first_chunk::<LEAST>().ok_or(DropReason::IcmpErrorTruncated)?;
        let [a, b] = [[start[0], start[1]], [start[2], start[3]]].map(u16::from_be_bytes);
        let id = u16::from_be_bytes([start[4], start[5]]);
        let (sport, dport, icmp_type) = match (protocol, start[0], start[1]) {
            (Protocol::Tcp | Protocol::Udp, ..) => (a, b, 0),
            (Protocol::Icmp, icmp::ECHO_REQUEST, 0) => (id, 0, icmp::ECHO_REQUEST),
            (Protocol::Icmp, icmp::ECHO_REPLY, 0) => (0, id, icmp::ECHO_REPLY),
            // Nothing answers an error, and nothing else has sessions (RFC 1122 §3.2.2).
            (Protocol::Icmp, ..) => return Err(DropReason::IcmpErrorQuote),
        };
        let quoted = Self {
            src: u32::from_be_bytes([h[12], h[13], h[14], h[15]]),
            dst: u32::from_be_bytes([h[16], h[17], h[18], h[19]]),
            sport,
            dport,
            protocol,
            icmp_type,
            l3: error.payload,
            // At most 14 + 60 + 8 + 60.
            l4: error.payload + header_len as u16,
        };
        if quoted.src != error.dst {
            return Err(DropReason::IcmpErrorAddressee);
        }
        Ok(quoted)
    }

    /// The key of the packets that answer the quoted one, as they arrive from `scope`: the error goes their way.
    #[must_use]
    pub const fn answer_key(&self, scope: ZoneId) -> FlowKey {
        FlowKey {
            addrs: Addrs::V4(self.dst, self.src),
            sport: self.dport,
            dport: self.sport,
            protocol: self.protocol,
            scope,
        }
    }

    /// Makes the quoted packet what its sender sent, and the error one from `from` to that sender. `sent` is the key of the
    /// packet as it came from its sender, `seq` its sequence number there (TCP; none leaves it). All checksums stay
    /// right. The error's own must have been verified: it is made anew. False if the offsets do not fit the frame.
    #[must_use]
    pub fn translate(
        &self,
        frame: &mut [u8],
        error: &Parsed,
        from: u32,
        sent: &FlowKey,
        seq: Option<u32>,
    ) -> bool {
        let Addrs::V4(source, destination) = sent.addrs else { return false };
        self.restore(frame, (source, sent.sport), (destination, sent.dport), seq).is_some()
            && rewrite::set_source(frame, error, from, 0)
            && rewrite::set_destination(frame, error, source, 0)
            && frame
                .get_mut(error.segment())
                .is_some_and(|message| checksum::l4_fill(from, source, Protocol::Icmp, message))
    }

    fn restore(
        &self,
        frame: &mut [u8],
        source: (u32, u16),
        destination: (u32, u16),
        seq: Option<u32>,
    ) -> Option<()> {
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        let addresses = Delta::default().u32(self.src, source.0).u32(self.dst, destination.0);
        put32(frame, l3 + 12, source.0)?;
        put32(frame, l3 + 16, destination.0)?;
        put16(frame, l3 + 10, addresses.apply(get16(frame, l3 + 10)?))?;
        let mut l4_delta = addresses;
        match (self.protocol, self.icmp_type) {
            (Protocol::Icmp, asks) => {
                let id = if asks == icmp::ECHO_REQUEST { source.1 } else { destination.1 };
                // ICMP has no pseudo header.
                l4_delta = Delta::default().u16(get16(frame, l4 + 4)?, id);
                put16(frame, l4 + 4, id)?;
            }
            (Protocol::Tcp | Protocol::Udp, _) => {
                l4_delta = l4_delta.u16(self.sport, source.1).u16(self.dport, destination.1);
                put16(frame, l4, source.1)?;
                put16(frame, l4 + 2, destination.1)?;
            }
        }
        if let (Protocol::Tcp, Some(seq)) = (self.protocol, seq) {
            l4_delta = l4_delta.u32(get32(frame, l4 + 4)?, seq);
            put32(frame, l4 + 4, seq)?;
        }
        let sum_at = l4 + checksum::offset(self.protocol);
        // TCP's lies behind the eight bytes that are surely there.
        let Some(sum) = get16(frame, sum_at) else { return Some(()) };
        let sum = match self.protocol {
            Protocol::Udp => l4_delta.apply_udp(sum),
            Protocol::Tcp | Protocol::Icmp => l4_delta.apply(sum),
        };
        put16(frame, sum_at, sum)
    }

    /// The MTU of the link that the quoted packet was too long for. None if the error says something else. A router of before
    /// RFC 1191 names none: then it is the next one that links have.
    #[must_use]
    pub fn next_hop_mtu(&self, frame: &[u8], error: &Parsed) -> Option<u16> {
        let l4 = usize::from(error.l4);
        let [kind, code, _, _, _, _, high, low] = bytes::<8>(frame, l4)?;
        if (kind, code) != (icmp::UNREACHABLE, TOO_LONG) {
            return None;
        }
        let len = self.total_len(frame)?;
        let named = Some(u16::from_be_bytes([high, low])).filter(|mtu| *mtu > 0);
        named.or_else(|| PLATEAUS.into_iter().find(|mtu| *mtu < len))
    }

    /// What its header says of the length of the quoted packet.
    fn total_len(&self, frame: &[u8]) -> Option<u16> {
        get16(frame, usize::from(self.l3) + 2)
    }

    /// TCP: bytes of payload that the quoted packet had at most. How long its options are need not be quoted.
    #[must_use]
    pub fn most_payload(&self, frame: &[u8]) -> u16 {
        self.total_len(frame).unwrap_or(0).saturating_sub(self.l4 - self.l3 + TCP_LEN as u16)
    }

    /// TCP: the quoted sequence number.
    #[must_use]
    pub fn seq(&self, frame: &[u8]) -> Option<u32> {
        let tcp = self.protocol == Protocol::Tcp;
        bytes::<4>(frame, usize::from(self.l4) + 4).map(u32::from_be_bytes).filter(|_| tcp)
    }
}
