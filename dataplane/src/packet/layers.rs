//! Layers: where the headers of a frame lie, as a device is told that fills in a checksum, and that checksum in software.
//!
//! For whole IPv4 packets with TCP or UDP in them, whose frames may have a tag.

use super::field::{bytes, get16, get32, put16};
use super::{ETHERNET_LEN, ETHERTYPE_IPV4, IPV4_LEN, TCP_LEN, UDP_LEN, checksum, vlan};
use crate::key::Protocol;
use core::ops::Range;

/// How long the headers of a frame are, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Ethernet, with its tag.
    pub l2: usize,
    /// IPv4.
    pub l3: usize,
    /// TCP or UDP.
    pub l4: usize,
    /// Which of them.
    pub protocol: Protocol,
    /// Of that header and its payload.
    len: u16,
    source: u32,
    destination: u32,
}

impl Layers {
    /// Looks at a frame, or at the start of one that has all its headers. None if it is something else.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let l2 = match vlan::tag(frame) {
            vlan::Tag::None => ETHERNET_LEN,
            vlan::Tag::Vlan(_) => ETHERNET_LEN + vlan::TAG_LEN,
            vlan::Tag::Stacked | vlan::Tag::Truncated => return None,
        };
        if get16(frame, l2 - 2)? != ETHERTYPE_IPV4 {
            return None;
        }
        let [version, ..] = bytes::<IPV4_LEN>(frame, l2)?;
        let l3 = usize::from(version & 0x0F) * 4;
        let whole = get16(frame, l2 + 6)? & 0x3FFF == 0;
        if version >> 4 != 4 || l3 < IPV4_LEN || !whole {
            return None;
        }
        let [number] = bytes::<1>(frame, l2 + 9)?;
        let behind = get16(frame, l2 + 2)?.checked_sub(u16::try_from(l3).ok()?)?;
        let at = l2 + l3;
        let protocol = Protocol::from_number(number)?;
        let (l4, len) = match protocol {
            Protocol::Tcp => {
                let [offset] = bytes::<1>(frame, at + 12)?;
                let l4 = usize::from(offset >> 4) * 4;
                (l4, (l4 >= TCP_LEN).then_some(behind)?)
            }
            // What lies behind the datagram belongs to no one.
            Protocol::Udp => (UDP_LEN, get16(frame, at + 4).filter(|len| *len <= behind)?),
            Protocol::Icmp => return None,
        };
        if usize::from(len) < l4 || frame.len() < at + l4 {
            return None;
        }
        let (source, destination) = (get32(frame, l2 + 12)?, get32(frame, l2 + 16)?);
        Some(Self { l2, l3, l4, protocol, len, source, destination })
    }

    /// Bytes of all headers.
    #[must_use]
    pub const fn headers(&self) -> usize {
        self.l2 + self.l3 + self.l4
    }

    /// Where header and payload of TCP or UDP lie.
    const fn segment(&self) -> Range<usize> {
        let at = self.l2 + self.l3;
        at..at + self.len as usize
    }

    /// Where the checksum stands.
    const fn at(&self) -> usize {
        self.l2 + self.l3 + checksum::offset(self.protocol)
    }

    /// Puts the sum of the pseudo header where the checksum stands, as devices want it that add up the rest.
    #[must_use]
    pub fn put_pseudo(&self, frame: &mut [u8]) -> bool {
        let sum = checksum::pseudo(self.source, self.destination, self.protocol, self.len);
        put16(frame, self.at(), sum).is_some()
    }

    /// The same as devices want it that cut the packet: without a length, which each segment has of its own. Nor is there a
    /// checksum of the IPv4 header.
    #[must_use]
    pub fn put_pseudo_to_cut(&self, frame: &mut [u8]) -> bool {
        let sum = checksum::pseudo(self.source, self.destination, self.protocol, 0);
        put16(frame, self.at(), sum).and_then(|()| put16(frame, self.l2 + 10, 0)).is_some()
    }
}

/// Writes the checksum of TCP or UDP afresh. False, and nothing changed, if the frame has none that can be.
#[must_use]
pub fn fill(frame: &mut [u8]) -> bool {
    let Some(layers) = Layers::of(frame) else { return false };
    let Some(segment) = frame.get_mut(layers.segment()) else { return false };
    checksum::l4_fill(layers.source, layers.destination, layers.protocol, segment)
}
