//! Segments: an aggregate of TCP segments, as a device has put it together, read and cut again into what it was.
//!
//! Its headers lie in its first piece; its payload over all of them. What is read of it is what [`parse`] reads of a packet:
//! its offsets and fields, with the lengths of the whole.

use super::checksum::Delta;
use super::field::{get16, get32, put16, put32};
use super::{ETHERNET_LEN, IPV4_LEN, Layers, Parse, Parsed, TCP_LEN, checksum, flag, layers, parse};
use crate::buf::PacketBuf;
use crate::drop_reason::DropReason;
use crate::key::Protocol;
use arrayvec::ArrayVec;

/// Bytes of the longest headers: Ethernet, IPv4 and TCP with all the options that they can have.
const MOST_HEADERS: usize = ETHERNET_LEN + 60 + 60;
type Headers = ArrayVec<u8, MOST_HEADERS>;

/// Reads the headers of an aggregate without a tag.
///
/// # Errors
/// What [`parse`] has against them; or it is no TCP with data, its headers lie in several pieces, its lengths do not fit, or it has
/// flags that nobody puts together (SYN, RST, URG).
pub fn read<B: PacketBuf>(whole: &B, our_mac: [u8; 6]) -> Result<Parsed, DropReason> {
    let invalid = DropReason::AggregateInvalid;
    let frame = whole.bytes();
    let layers = Layers::of(frame).ok_or(invalid)?;
    if layers.l2 != ETHERNET_LEN || layers.protocol != Protocol::Tcp {
        return Err(invalid);
    }
    let mut headers = Headers::new();
    let own = frame.get(..layers.headers()).ok_or(invalid)?;
    headers.try_extend_from_slice(own).map_err(|_| invalid)?;
    let ip_len = get16(&headers, ETHERNET_LEN + 2).ok_or(invalid)?;
    // As if there were no payload. A checksum that was wrong stays wrong.
    let alone = u16::try_from(layers.l3 + layers.l4).map_err(|_| invalid)?;
    let sum = get16(&headers, ETHERNET_LEN + 10).ok_or(invalid)?;
    put16(&mut headers, ETHERNET_LEN + 2, alone).ok_or(invalid)?;
    put16(&mut headers, ETHERNET_LEN + 10, Delta::default().u16(ip_len, alone).apply(sum)).ok_or(invalid)?;
    let mut parsed = match parse(&headers, our_mac) {
        Parse::Ip(parsed) => parsed,
        Parse::Drop(reason) => return Err(reason),
        Parse::Arp | Parse::Error(..) | Parse::Fragment(_) => return Err(invalid),
    };
    parsed.ip_len = ip_len;
    parsed.payload_len = ip_len.checked_sub(alone).filter(|payload| *payload > 0).ok_or(invalid)?;
    let fits = whole.total_len() == parsed.frame_len();
    if !fits || parsed.tcp_flags & (flag::SYN | flag::RST | flag::URG) != 0 {
        return Err(invalid);
    }
    Ok(parsed)
}

/// An aggregate that is being cut.
pub struct Segments {
    headers: Headers,
    l4: usize,
    payload: usize,
    size: usize,
    /// Bytes of payload that are in segments already, and how many these are.
    at: usize,
    made: u16,
}

impl Segments {
    /// Of what [`read`] has read, as its headers are now. None if `size` is 0.
    #[must_use]
    pub fn of<B: PacketBuf>(whole: &B, parsed: &Parsed, size: u16) -> Option<Self> {
        let mut headers = Headers::new();
        headers.try_extend_from_slice(whole.bytes().get(..usize::from(parsed.payload))?).ok()?;
        let (l4, payload) = (usize::from(parsed.l4), usize::from(parsed.payload_len));
        (size > 0).then_some(Self { headers, l4, payload, size: usize::from(size), at: 0, made: 0 })
    }

    /// Nothing is left.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.at >= self.payload
    }

    /// Puts the next segment into an empty buffer, as its sender had sent it. `leave` says that the device may fill the checksum in
    /// that it leaves by. False if nothing is left, or it does not fit the buffer.
    #[must_use]
    pub fn fill<B: PacketBuf>(&mut self, whole: &B, buf: &mut B, leave: bool) -> bool {
        self.try_fill(whole, buf).is_some()
            && (buf.leave_checksum(leave.then_some(Protocol::Tcp)) || layers::fill(buf.bytes_mut()))
    }

    fn try_fill<B: PacketBuf>(&mut self, whole: &B, buf: &mut B) -> Option<()> {
        let rest = self.payload.checked_sub(self.at).filter(|rest| *rest > 0)?;
        let (ahead, len) = (self.headers.len(), rest.min(self.size));
        if !buf.append(ahead + len) {
            return None;
        }
        let (headers, payload) = buf.bytes_mut().split_at_mut_checked(ahead)?;
        headers.copy_from_slice(&self.headers);
        if !whole.copy_out(ahead + self.at, payload) {
            return None;
        }
        let (l4, first, last) = (self.l4, self.at == 0, len == rest);
        let ip = headers.get_mut(ETHERNET_LEN..l4).filter(|ip| ip.len() >= IPV4_LEN)?;
        put16(ip, 2, u16::try_from(ahead + len - ETHERNET_LEN).ok()?)?;
        // Senders count on from packet to packet; where none may be fragmented nobody looks (RFC 6864 §4).
        let id = get16(ip, 4)?.wrapping_add(self.made);
        put16(ip, 4, id)?;
        if !checksum::ipv4_fill(ip) {
            return None;
        }
        let tcp = headers.get_mut(l4..).filter(|tcp| tcp.len() >= TCP_LEN)?;
        let seq = get32(tcp, 4)?.wrapping_add(u32::try_from(self.at).ok()?);
        put32(tcp, 4, seq)?;
        // What the last one said ends it, and what the first one said begins it (RFC 3168 §6.1.2).
        let begins = if first { 0 } else { flag::CWR };
        let ends = if last { 0 } else { flag::FIN | flag::PSH };
        *tcp.get_mut(13)? &= !(begins | ends);
        (self.at, self.made) = (self.at + len, self.made.wrapping_add(1));
        Some(())
    }
}
