//! Fragment: what one fragment of a datagram says of itself, and how a datagram is cut into fragments (RFC 791 §3.2).

use super::field::{bytes, get16, put, put16};
use super::{ETHERNET_LEN, IPV4_LEN, TCP_LEN, checksum};
use crate::buf::PacketBuf;
use crate::drop_reason::DropReason;
use crate::key::Protocol;
use arrayvec::ArrayVec;

/// Longest IPv4 header, in bytes.
pub const MAX_HEADER: usize = 60;
/// Longest IPv4 datagram, in bytes.
pub const MAX_DATAGRAM: usize = 65_535;
/// Bits of the field that has the offset: don't fragment, more fragments, and the offset in units of eight bytes.
const DF: u16 = 0x4000;
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1FFF;

/// A fragment's header. Its place in the datagram is sound: see [`Self::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Identification.
    pub id: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Where its bytes begin in the datagram's payload.
    pub offset: u16,
    /// How many they are. At least one.
    pub len: u16,
    /// Bytes of its IP header.
    pub header_len: u8,
    /// Others follow it.
    pub more: bool,
    /// Don't fragment.
    pub df: bool,
    /// The ECN field (RFC 3168 §5).
    pub ecn: u8,
}

impl Fragment {
    /// Reads a header whose length and total length are known to be right; `offset_field` is its flags and offset.
    ///
    /// # Errors
    /// The fragment has no bytes, ends between units of eight though others follow, reaches beyond the longest datagram,
    /// or cuts a TCP header (RFC 1858 §3, RFC 3128).
    pub(super) fn read(
        h: &[u8; IPV4_LEN],
        offset_field: u16,
        protocol: Protocol,
        header_len: u8,
        len: u16,
    ) -> Result<Self, DropReason> {
        let (offset, more) = ((offset_field & OFFSET) * 8, offset_field & MORE != 0);
        if len == 0 || more && !len.is_multiple_of(8) {
            return Err(DropReason::FragmentMalformed);
        }
        if usize::from(offset) + usize::from(len) + usize::from(header_len) > MAX_DATAGRAM {
            return Err(DropReason::FragmentTooLong);
        }
        // UDP and ICMP headers are one unit long: nothing cuts them.
        let cuts = if offset == 0 { usize::from(len) < TCP_LEN } else { usize::from(offset) < TCP_LEN };
        if protocol == Protocol::Tcp && cuts {
            return Err(DropReason::FragmentTiny);
        }
        Ok(Self {
            src: u32::from_be_bytes([h[12], h[13], h[14], h[15]]),
            dst: u32::from_be_bytes([h[16], h[17], h[18], h[19]]),
            id: u16::from_be_bytes([h[4], h[5]]),
            protocol,
            offset,
            len,
            header_len,
            more,
            df: offset_field & DF != 0,
            ecn: h[1] & 3,
        })
    }

    /// Whether flags and offset are those of a fragment.
    #[inline]
    pub(super) const fn is(offset_field: u16) -> bool {
        offset_field & (MORE | OFFSET) != 0
    }

    /// Where its payload lies in its frame.
    #[must_use]
    pub const fn payload(&self) -> core::ops::Range<usize> {
        let at = ETHERNET_LEN + self.header_len as usize;
        at..at + self.len as usize
    }

    /// Its IP length.
    #[must_use]
    pub const fn ip_len(&self) -> u16 {
        self.header_len as u16 + self.len
    }
}

/// Makes the header of a first fragment that of its datagram: `ip_len` bytes long, whole. `df` and `ecn` are those of all its
/// fragments together. None if it is too short.
pub(crate) fn make_whole(frame: &mut [u8], header_len: u8, ip_len: u16, df: bool, ecn: u8) -> Option<()> {
    let header = frame.get_mut(ETHERNET_LEN..ETHERNET_LEN + usize::from(header_len))?;
    let [tos] = bytes::<1>(header, 1)?;
    put(header, 1, [tos & !3 | ecn])?;
    put16(header, 2, ip_len)?;
    put16(header, 6, if df { DF } else { 0 })?;
    checksum::ipv4_fill(header).then_some(())
}

/// Lets a datagram be fragmented whose sender forbade it, because the gateway has made it longer. It gets an identification,
/// since one that is never fragmented needs none (RFC 6864 §4). None if it is no IPv4 packet.
pub(crate) fn allow(frame: &mut [u8], header_len: usize, id: u16) -> Option<()> {
    let header = frame.get_mut(ETHERNET_LEN..ETHERNET_LEN + header_len)?;
    put16(header, 4, id)?;
    put16(header, 6, 0)?;
    checksum::ipv4_fill(header).then_some(())
}

/// A datagram that is being cut into fragments.
pub struct Cut<'a> {
    ethernet: [u8; ETHERNET_LEN],
    first: &'a [u8],
    /// The header of all others: without options that only the first has.
    later: ArrayVec<u8, MAX_HEADER>,
    payload: &'a [u8],
    offset: usize,
    size: usize,
}

impl<'a> Cut<'a> {
    /// Cuts an IPv4 datagram in its frame, which is no fragment, to IP packets of at most `size` bytes. None if it is
    /// not whole, or if `size` holds no header and eight bytes.
    #[must_use]
    pub fn new(frame: &'a [u8], size: usize) -> Option<Self> {
        let ip = frame.get(ETHERNET_LEN..)?;
        let [version] = bytes::<1>(ip, 0)?;
        let header_len = usize::from(version & 0x0F) * 4;
        let (first, payload) = ip.get(..usize::from(get16(ip, 2)?))?.split_at_checked(header_len)?;
        let sound = header_len >= IPV4_LEN && !Fragment::is(get16(first, 6)?);
        if !sound || size < header_len + 8 {
            return None;
        }
        Some(Self { ethernet: bytes(frame, 0)?, first, later: later(first)?, payload, offset: 0, size })
    }

    /// Puts the next fragment into an empty buffer; a datagram that fits is its own only one. False if there is none left, or
    /// the buffer holds no header and eight bytes.
    #[must_use]
    pub fn fill<B: PacketBuf>(&mut self, buf: &mut B) -> bool {
        self.try_fill(buf).is_some()
    }

    /// Nothing is left.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.offset >= self.payload.len()
    }

    fn try_fill<B: PacketBuf>(&mut self, buf: &mut B) -> Option<()> {
        let header = if self.offset == 0 { self.first } else { self.later.as_slice() };
        let ahead = ETHERNET_LEN + header.len();
        let room = (self.size - header.len()).min(buf.tailroom().checked_sub(ahead)?);
        let rest = self.payload.get(self.offset..).filter(|rest| !rest.is_empty() || self.offset == 0)?;
        let more = rest.len() > room;
        let len = if more { room & !7 } else { rest.len() };
        if more && len == 0 || !buf.append(ahead + len) {
            return None;
        }
        let frame = buf.bytes_mut();
        put(frame, 0, self.ethernet)?;
        frame.get_mut(ahead..)?.copy_from_slice(rest.get(..len)?);
        let place = frame.get_mut(ETHERNET_LEN..ahead)?;
        place.copy_from_slice(header);
        put16(place, 2, (header.len() + len) as u16)?;
        let flags = get16(place, 6)? & !(MORE | OFFSET);
        put16(place, 6, flags | if more { MORE } else { 0 } | (self.offset / 8) as u16)?;
        self.offset += len.max(1);
        checksum::ipv4_fill(place).then_some(())
    }
}

/// The header of all fragments but the first: of the options, those that say that they are copied (RFC 791 §3.1).
fn later(first: &[u8]) -> Option<ArrayVec<u8, MAX_HEADER>> {
    const COPIED: u8 = 0x80;
    let (fixed, mut rest) = first.split_at_checked(IPV4_LEN)?;
    let mut header = ArrayVec::new();
    header.try_extend_from_slice(fixed).ok()?;
    // Every turn takes a byte or more of at most 40.
    loop {
        rest = match *rest {
            [] | [0, ..] => break,
            [1, ref tail @ ..] => tail,
            [kind, len @ 2..=u8::MAX, ..] => {
                let (option, tail) = rest.split_at_checked(usize::from(len))?;
                if kind & COPIED != 0 {
                    header.try_extend_from_slice(option).ok()?;
                }
                tail
            }
            _ => return None,
        };
    }
    while header.len() % 4 != 0 {
        header.try_push(0).ok()?;
    }
    let words = (header.len() / 4) as u8;
    put(&mut header, 0, [0x40 | words])?;
    Some(header)
}
