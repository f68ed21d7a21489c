//! Gives a UDP packet another payload, or turns it round as an answer to its sender.

use super::field::{bytes, put};
use super::{Parsed, UDP_LEN, checksum};
use crate::buf::PacketBuf;
use crate::key::Protocol;

/// TTL of an answer.
const TTL: u8 = 64;

/// Puts a new payload into a datagram: room, bytes, lengths, checksums. A datagram without a checksum stays without. `leave`
/// says that the device that it leaves by may fill the checksum in. False if there is no room in the buffer; the packet is then
/// of no use any more.
#[must_use]
pub fn replace_payload<B: PacketBuf>(buf: &mut B, parsed: &mut Parsed, payload: &[u8], leave: bool) -> bool {
    let old = usize::from(parsed.payload_len);
    let resized = match payload.len().checked_sub(old) {
        Some(more) => buf.append(more),
        None => buf.trim_back(old - payload.len()),
    };
    if !resized {
        return false;
    }
    match fill(buf.bytes_mut(), parsed, payload) {
        Some(true) if !buf.leave_checksum(leave.then_some(Protocol::Udp)) => {
            let udp = buf.bytes_mut().get_mut(parsed.segment());
            udp.is_some_and(|udp| checksum::l4_fill(parsed.src, parsed.dst, Protocol::Udp, udp))
        }
        Some(_) => true,
        None => false,
    }
}

/// All but the checksum of UDP. Answers whether there is one.
fn fill(frame: &mut [u8], parsed: &mut Parsed, payload: &[u8]) -> Option<bool> {
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let udp_len = u16::try_from(UDP_LEN + payload.len()).ok()?;
    parsed.payload_len = u16::try_from(payload.len()).ok()?;
    parsed.ip_len = u16::try_from(l4.checked_sub(l3)? + usize::from(udp_len)).ok()?;
    frame.get_mut(parsed.payload_range())?.copy_from_slice(payload);
    let header = frame.get_mut(l3..l4)?;
    put(header, 2, parsed.ip_len.to_be_bytes())?;
    if !checksum::ipv4_fill(header) {
        return None;
    }
    let udp = frame.get_mut(parsed.segment())?;
    put(udp, 4, udp_len.to_be_bytes())?;
    Some(bytes::<2>(udp, 6)? != [0, 0])
}

/// Turns a datagram round: what its sender gets as if the addressee had sent it. False if it is no UDP.
#[must_use]
pub fn turn_round(frame: &mut [u8], parsed: &Parsed) -> bool {
    parsed.protocol == Protocol::Udp && turn(frame, parsed).is_some()
}

fn turn(frame: &mut [u8], parsed: &Parsed) -> Option<()> {
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let (to, from) = (bytes::<6>(frame, 0)?, bytes::<6>(frame, 6)?);
    put(frame, 0, from)?;
    put(frame, 6, to)?;
    let header = frame.get_mut(l3..l4)?;
    let (source, destination) = (bytes::<4>(header, 12)?, bytes::<4>(header, 16)?);
    put(header, 12, destination)?;
    put(header, 16, source)?;
    put(header, 8, [TTL])?;
    if !checksum::ipv4_fill(header) {
        return None;
    }
    // Swapped words leave the UDP checksum as it is.
    let udp = frame.get_mut(parsed.segment())?;
    let (sport, dport) = (bytes::<2>(udp, 0)?, bytes::<2>(udp, 2)?);
    put(udp, 0, dport)?;
    put(udp, 2, sport)
}
