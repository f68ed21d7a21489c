//! From a captured packet to the frame that the gateway gets: which side it comes from, and what the capture itself has
//! spoilt (its cut, checksums that were left to a NIC, VLAN tags).

use super::capture::{Layer, NoLink, Packet, Seen, read};
use super::tuple::Header;
use core::net::{IpAddr, Ipv6Addr};
use dataplane::key::Protocol;
use dataplane::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, checksum};
use ipnet::{IpNet, Ipv4Net};

/// Longest IP packet.
const LONGEST: usize = 65_535;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where the networks of `--inside` are.
    Inside,
    /// Where everything else is.
    Outside,
}

impl Side {
    /// Its name in comments.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
        }
    }
}

/// Why the gateway never gets a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// ARP: in replay nobody asks for a MAC address.
    Arp,
    /// A link layer that is not understood.
    Link,
    /// Shorter than its link layer.
    Short,
    /// The capture has only the beginning of it.
    Truncated,
    /// Both ends are on one side: it does not pass the gateway.
    SameSide,
}

impl Unfit {
    /// The name among drop reasons, and a sentence for people.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Arp => ("arp", "ARP; routes and neighbours are not consulted."),
            Self::Link => ("link-unsupported", "Of a link layer that is not understood."),
            Self::Short => ("link-truncated", "Shorter than its link-layer header."),
            Self::Truncated => {
                ("capture-truncated", "The capture has only the beginning of the packet (snap length).")
            }
            Self::SameSide => {
                ("same-side", "Both ends are on one side of the gateway, so it would not pass there.")
            }
        }
    }

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Arp, Self::Link, Self::Short, Self::Truncated, Self::SameSide];
}

/// What was put right in packets, because the capturing host had spoilt it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Checksums that were still to be computed by the NIC.
    pub checksums: u64,
    /// IP lengths of 0, left to a segmenting NIC.
    pub lengths: u64,
    /// Packets whose VLAN tags were taken off.
    pub tagged: u64,
}

/// How packets are told apart and made.
#[derive(Clone, Debug)]
pub struct Sorter {
    inside: Vec<IpNet>,
    /// Addresses of the gateway for translation: they count as inside for who sends to them.
    translated: Vec<Ipv4Net>,
    macs: [[u8; 6]; 2],
    every_checksum: bool,
    /// What was put right so far.
    pub repairs: Repairs,
}

impl Sorter {
    /// A sorter for a gateway with these MAC addresses, inside and outside. With `every_checksum`, wrong checksums are
    /// put right whatever they are.
    #[must_use]
    pub fn new(
        inside: Vec<IpNet>,
        translated: Vec<Ipv4Net>,
        macs: [[u8; 6]; 2],
        every_checksum: bool,
    ) -> Self {
        Self { inside, translated, macs, every_checksum, repairs: Repairs::default() }
    }

    fn is_inside(&self, addr: IpAddr) -> bool {
        self.inside.iter().any(|net| net.contains(&addr))
    }

    fn is_behind(&self, addr: IpAddr) -> bool {
        self.is_inside(addr)
            || matches!(addr, IpAddr::V4(v4) if self.translated.iter().any(|net| net.contains(&v4)))
    }

    /// Writes the frame of a packet as it reaches the gateway. Answers on which side.
    ///
    /// # Errors
    /// Why it never does. The frame is there all the same, if the link layer is understood; else it is empty.
    pub fn frame(&mut self, packet: &Packet, frame: &mut Vec<u8>) -> Result<Side, Unfit> {
        frame.clear();
        let seen = read(packet.link, &packet.data).map_err(|no| match no {
            NoLink::Unknown => Unfit::Link,
            NoLink::Short if is_cut(packet) => Unfit::Truncated,
            NoLink::Short => Unfit::Short,
        })?;
        let body = seen.body.get(..LONGEST).unwrap_or(seen.body);
        let header = match seen.carries {
            Layer::Type(ETHERTYPE_IPV4) => Header::read(body),
            _ => None,
        };
        let ends = match (header, seen.carries) {
            (Some(h), _) => Some((IpAddr::V4(h.source), IpAddr::V4(h.destination))),
            (None, Layer::Type(ETHERTYPE_IPV6)) => ends_v6(body),
            _ => None,
        };
        // What has no addresses is judged by the gateway; where it comes from makes no difference.
        let side = match ends {
            Some((source, _)) if self.is_inside(source) => Side::Inside,
            _ => Side::Outside,
        };
        let group = seen.group || ends.is_some_and(|(_, destination)| is_group(destination));
        self.ethernet(&seen, side, group, frame);
        let at = frame.len();
        frame.extend_from_slice(body);

        if seen.carries == Layer::Type(ETHERTYPE_ARP) {
            return Err(Unfit::Arp);
        }
        if is_cut(packet) && header.is_none_or(|h| body.len() < h.total.max(h.len)) {
            return Err(Unfit::Truncated);
        }
        if let Some((_, destination)) = ends.filter(|_| !group)
            && self.is_behind(destination) == (side == Side::Inside)
        {
            return Err(Unfit::SameSide);
        }
        self.repairs.tagged += u64::from(seen.tags > 0);
        if let (Some(header), Some(ip)) = (header, frame.get_mut(at..)) {
            self.repair(header, ip);
        }
        Ok(side)
    }

    /// Writes the Ethernet header: to the gateway, unless it is to a group.
    fn ethernet(&self, seen: &Seen<'_>, side: Side, group: bool, frame: &mut Vec<u8>) {
        let [inside, outside] = self.macs;
        let (own, other) = if side == Side::Inside { (inside, outside) } else { (outside, inside) };
        match seen.macs {
            Some(macs) if seen.group => frame.extend_from_slice(&macs),
            Some([.., a, b, c, d, e, f]) => frame.extend_from_slice(&[own, [a, b, c, d, e, f]].concat()),
            None if group => frame.extend_from_slice(&[[0xff; 6], other].concat()),
            None => frame.extend_from_slice(&[own, other].concat()),
        }
        let ethertype = match seen.carries {
            Layer::Type(ethertype) => ethertype,
            // IEEE 802.3: a length.
            Layer::Other => 0,
        };
        frame.extend_from_slice(&ethertype.to_be_bytes());
    }

    /// Puts right what the capturing host had left to its NIC.
    fn repair(&mut self, header: Header, ip: &mut [u8]) {
        let whole = ip.len();
        let mut total = header.total;
        if total == 0
            && whole > header.len
            && let Some(length) = ip.get_mut(2..4)
        {
            // Segmentation offload: the packet is longer than it may say, or says nothing.
            total = whole;
            length.copy_from_slice(&u16::try_from(whole).unwrap_or(u16::MAX).to_be_bytes());
            let filled = ip.get_mut(..header.len).is_some_and(checksum::ipv4_fill);
            self.repairs.lengths += u64::from(filled);
        }
        let Some((head, rest)) = ip.split_at_mut_checked(header.len) else { return };
        let blank = head.get(10..12) == Some(&[0, 0]);
        if !checksum::is_valid(head) && (self.every_checksum || blank) && checksum::ipv4_fill(head) {
            self.repairs.checksums += 1;
        }
        let Some(segment) = total.checked_sub(header.len).and_then(|len| rest.get_mut(..len)) else { return };
        let Some(protocol) = Protocol::from_number(header.protocol).filter(|_| !header.fragment) else {
            return;
        };
        let (source, destination) = (header.source.to_bits(), header.destination.to_bits());
        if checksum::l4_is_valid(source, destination, protocol, segment) {
            return;
        }
        let left = self.every_checksum || is_left_to_nic(source, destination, protocol, segment);
        if left && checksum::l4_fill(source, destination, protocol, segment) {
            self.repairs.checksums += 1;
        }
    }
}

/// Whether a wrong checksum is one that the NIC was to complete: nothing, or the sum of the pseudo header alone, as the
/// stacks leave it.
fn is_left_to_nic(source: u32, destination: u32, protocol: Protocol, segment: &[u8]) -> bool {
    if protocol == Protocol::Icmp {
        return false;
    }
    let at = checksum::offset(protocol);
    let Some(field) = segment.get(at..).and_then(|rest| rest.first_chunk::<2>()) else { return false };
    let field = u16::from_be_bytes(*field);
    let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    // With segmentation offload, the length is left out too.
    field == 0 || [len, 0].iter().any(|len| checksum::pseudo(source, destination, protocol, *len) == field)
}

/// The capture has less of the packet than there was.
fn is_cut(packet: &Packet) -> bool {
    packet.data.len() < packet.wire_len as usize
}

/// To everyone, or to a group.
fn is_group(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_multicast(),
    }
}

/// Source and destination of an IPv6 packet.
fn ends_v6(ip: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let header = ip.first_chunk::<40>()?;
    let addr = |at: usize| header.get(at..).and_then(|h| h.first_chunk::<16>()).map(|a| Ipv6Addr::from(*a));
    Some((addr(8)?.into(), addr(24)?.into()))
}
