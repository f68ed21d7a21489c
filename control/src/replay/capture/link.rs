//! Link layers: where the IP packet begins, and what stands before it.

use core::fmt::{self, Display, Formatter};

/// A link-layer type by its number in the registry of tcpdump.org.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the address family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// IP, of whatever version.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: the address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked".
    pub const LINUX_SLL: Self = Self(113);
    /// IPv4.
    pub const IPV4: Self = Self(228);
    /// IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked", second version.
    pub const LINUX_SLL2: Self = Self(276);

    /// The link layers that [`read`] understands, for people.
    pub const KNOWN: &str =
        "Ethernet (1), raw IP (101, 228, 229), Linux cooked (113, 276), loopback (0, 108)";
}

impl Display for LinkType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the link layer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// This EtherType.
    Type(u16),
    /// Something without one: spanning tree, an address family that is not IP.
    Other,
}

/// A packet without its link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// What it carries.
    pub carries: Layer,
    /// The MAC addresses, destination and source, where there are two.
    pub macs: Option<[u8; 12]>,
    /// To a group or to everyone.
    pub group: bool,
    /// VLAN tags that stood before.
    pub tags: usize,
    /// What is carried.
    pub body: &'a [u8],
}

/// Most VLAN tags of a frame.
const MOST_TAGS: usize = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.3: below, it is a length.
const FIRST_ETHERTYPE: u16 = 0x0600;

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLink {
    /// Of a type that is not known.
    Unknown,
    /// Shorter than its header.
    Short,
}

/// Reads the link layer of a packet.
///
/// # Errors
/// See [`NoLink`].
pub fn read(link: LinkType, data: &[u8]) -> Result<Seen<'_>, NoLink> {
    let plain = |carries, body| Seen { carries, macs: None, group: false, tags: 0, body };
    match link {
        LinkType::ETHERNET => {
            let (header, body) = data.split_first_chunk::<14>().ok_or(NoLink::Short)?;
            let [macs @ .., high, low] = *header;
            let seen = tagged(u16::from_be_bytes([high, low]), body)?;
            Ok(Seen { macs: Some(macs), group: macs.first().is_some_and(|first| first & 1 != 0), ..seen })
        }
        LinkType::RAW | LinkType(12) | LinkType::IPV4 | LinkType::IPV6 => {
            let version = data.first().ok_or(NoLink::Short)? >> 4;
            Ok(plain(Layer::Type(if version == 6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }), data))
        }
        LinkType::NULL | LinkType::LOOP => {
            let (family, body) = data.split_first_chunk::<4>().ok_or(NoLink::Short)?;
            // Address families are small: whichever order makes it small is right.
            let family = u32::from_be_bytes(*family).min(u32::from_le_bytes(*family));
            let carries = match family {
                2 => Layer::Type(ETHERTYPE_IPV4),
                // Linux, NetBSD and OpenBSD, FreeBSD, macOS.
                10 | 24 | 28 | 30 => Layer::Type(ETHERTYPE_IPV6),
                _ => Layer::Other,
            };
            Ok(plain(carries, body))
        }
        LinkType::LINUX_SLL => {
            let (header, body) = data.split_first_chunk::<16>().ok_or(NoLink::Short)?;
            let [_, kind, .., high, low] = *header;
            let seen = tagged(u16::from_be_bytes([high, low]), body)?;
            Ok(Seen { group: is_group(kind), ..seen })
        }
        LinkType::LINUX_SLL2 => {
            let (header, body) = data.split_first_chunk::<20>().ok_or(NoLink::Short)?;
            let [high, low, .., _, _, _, _, _, _, _, _] = *header;
            let seen = tagged(u16::from_be_bytes([high, low]), body)?;
            Ok(Seen { group: header.get(10).is_some_and(|kind| is_group(*kind)), ..seen })
        }
        _ => Err(NoLink::Unknown),
    }
}

/// Linux cooked: broadcast or multicast.
const fn is_group(kind: u8) -> bool {
    matches!(kind, 1 | 2)
}

/// What stands behind an EtherType: VLAN tags (IEEE 802.1Q, 802.1ad and its forerunner) are taken off.
fn tagged(mut ethertype: u16, mut body: &[u8]) -> Result<Seen<'_>, NoLink> {
    let mut tags = 0;
    while matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) && tags < MOST_TAGS {
        let ([_, _, high, low], rest) = body.split_first_chunk::<4>().ok_or(NoLink::Short)?;
        ethertype = u16::from_be_bytes([*high, *low]);
        body = rest;
        tags += 1;
    }
    let carries = if ethertype < FIRST_ETHERTYPE { Layer::Other } else { Layer::Type(ethertype) };
    Ok(Seen { carries, macs: None, group: false, tags, body })
}
