//! Who talks to whom, as far as one packet says: what packets of the capture are told apart by.

use alg::Endpoint;
use core::net::{IpAddr, Ipv4Addr};
use dataplane::packet::icmp;

/// Shortest IPv4 header, in bytes.
const HEADER: usize = 20;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Both ends of a flow, the sender first. The port of an ICMP echo is its identifier at the asking end, 0 at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// IP protocol.
    pub protocol: u8,
    /// Sender.
    pub source: Endpoint,
    /// Receiver.
    pub destination: Endpoint,
}

impl Tuple {
    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }

    /// The same for both directions.
    #[must_use]
    pub fn either_way(self) -> Self {
        let order = |end: Endpoint| (end.addr, end.port);
        if order(self.source) <= order(self.destination) { self } else { self.reversed() }
    }
}

/// What the header of an IPv4 packet says, whole or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
    /// Protocol.
    pub protocol: u8,
    /// Bytes of the header.
    pub len: usize,
    /// Bytes of the packet.
    pub total: usize,
    /// Identification.
    pub id: u16,
    /// A fragment; the first one has the ports.
    pub fragment: bool,
    /// Not at the beginning of its packet.
    pub later: bool,
}

impl Header {
    /// Reads the header of an IPv4 packet. None if there is none.
    #[must_use]
    pub fn read(ip: &[u8]) -> Option<Self> {
        let h = ip.first_chunk::<HEADER>()?;
        let len = usize::from(h[0] & 0x0f) * 4;
        if h[0] >> 4 != 4 || len < HEADER {
            return None;
        }
        let fragment = u16::from_be_bytes([h[6], h[7]]) & 0x3fff;
        Some(Self {
            source: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            destination: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
            protocol: h[9],
            len,
            total: usize::from(u16::from_be_bytes([h[2], h[3]])),
            id: u16::from_be_bytes([h[4], h[5]]),
            fragment: fragment != 0,
            later: fragment & 0x1fff != 0,
        })
    }
}

/// The ends of a packet of TCP, UDP or ICMP; of an ICMP error, those of the flow that it is about. None if the packet
/// does not say.
#[must_use]
pub fn of(ip: &[u8]) -> Option<Tuple> {
    let header = Header::read(ip)?;
    let message = ip.get(header.len..)?;
    if header.protocol == ICMP
        && let Some(quoted) = about(message)
    {
        // The error goes to whoever sent what it quotes.
        return ends(quoted).map(Tuple::reversed);
    }
    ends(ip)
}

/// What an ICMP error quotes.
fn about(message: &[u8]) -> Option<&[u8]> {
    const REDIRECT: u8 = 5;
    const SOURCE_QUENCH: u8 = 4;
    const PARAMETER: u8 = 12;
    match *message.first()? {
        icmp::UNREACHABLE | SOURCE_QUENCH | REDIRECT | icmp::TIME_EXCEEDED | PARAMETER => message.get(8..),
        _ => None,
    }
}

fn ends(ip: &[u8]) -> Option<Tuple> {
    let header = Header::read(ip)?;
    if header.later {
        return None;
    }
    let l4 = ip.get(header.len..)?;
    let port = |at: usize| l4.get(at..).and_then(|b| b.first_chunk()).map(|b| u16::from_be_bytes(*b));
    let (sport, dport) = match header.protocol {
        TCP | UDP => (port(0)?, port(2)?),
        ICMP => match *l4.first()? {
            icmp::ECHO_REQUEST => (port(4)?, 0),
            icmp::ECHO_REPLY => (0, port(4)?),
            _ => return None,
        },
        _ => return None,
    };
    Some(Tuple {
        protocol: header.protocol,
        source: Endpoint::new(IpAddr::V4(header.source), sport),
        destination: Endpoint::new(IpAddr::V4(header.destination), dport),
    })
}
