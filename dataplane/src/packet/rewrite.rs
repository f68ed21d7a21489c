//! Rewrite: changes header fields in place and keeps the checksums right by what changed (RFC 1624), so that a
//! checksum that was wrong on arrival stays wrong.
//!
//! Every call reads the old values from the frame, not from [`Parsed`], of which it takes the offsets only. Calls may
//! follow each other in any order. They return false, and change nothing, if the offsets do not fit the frame.

use super::checksum::{self, Delta};
use super::field::{get16, get32, put16, put32};
use super::{Parsed, TCP_LEN, icmp};
use crate::key::Protocol;
use core::ops::Range;

/// Which end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Source.
    Source,
    /// Destination.
    Destination,
}

/// Sets the source address and port (ICMP: of an echo request, the identifier).
#[must_use]
pub fn set_source(frame: &mut [u8], p: &Parsed, addr: u32, port: u16) -> bool {
    set_endpoint(frame, p, End::Source, addr, port)
}

/// Sets the destination address and port (ICMP: of an echo reply, the identifier).
#[must_use]
pub fn set_destination(frame: &mut [u8], p: &Parsed, addr: u32, port: u16) -> bool {
    set_endpoint(frame, p, End::Destination, addr, port)
}

/// Sets the address and port of one end. An ICMP echo has one identifier, at the end that asked; the port of the
/// other end is ignored.
#[inline]
#[must_use]
pub fn set_endpoint(frame: &mut [u8], p: &Parsed, end: End, addr: u32, port: u16) -> bool {
    try_endpoint(frame, p, end, addr, port).is_some()
}

#[inline]
fn try_endpoint(frame: &mut [u8], p: &Parsed, end: End, addr: u32, port: u16) -> Option<()> {
    let (l3, l4) = (usize::from(p.l3), usize::from(p.l4));
    let addr_at = l3 + if end == End::Source { 12 } else { 16 };
    let port_at = match (p.protocol, end, p.icmp_type) {
        (Protocol::Icmp, End::Source, icmp::ECHO_REQUEST)
        | (Protocol::Icmp, End::Destination, icmp::ECHO_REPLY) => Some(l4 + 4),
        (Protocol::Icmp, ..) => None,
        (_, End::Source, _) => Some(l4),
        (_, End::Destination, _) => Some(l4 + 2),
    };
    // Everything is read, hence in bounds, before anything is written.
    let old_addr = get32(frame, addr_at)?;
    let sum_at = l4 + checksum::offset(p.protocol);
    let (ip_sum, l4_sum) = (get16(frame, l3 + 10)?, get16(frame, sum_at)?);
    let ip_delta = Delta::default().u32(old_addr, addr);
    // ICMP has no pseudo header.
    let mut l4_delta = if p.protocol == Protocol::Icmp { Delta::default() } else { ip_delta };
    if let Some(at) = port_at {
        l4_delta = l4_delta.u16(get16(frame, at)?, port);
        put16(frame, at, port)?;
    }
    put32(frame, addr_at, addr)?;
    put16(frame, l3 + 10, ip_delta.apply(ip_sum))?;
    put16(frame, sum_at, apply(p.protocol, l4_delta, l4_sum))
}

#[inline]
const fn apply(protocol: Protocol, delta: Delta, sum: u16) -> u16 {
    match protocol {
        Protocol::Udp => delta.apply_udp(sum),
        Protocol::Tcp | Protocol::Icmp => delta.apply(sum),
    }
}

/// Takes one off the time to live (RFC 1812 §5.3.1). False, and nothing changed, if it is 1 or 0: the packet must not
/// go on.
#[inline]
#[must_use]
pub fn decrement_ttl(frame: &mut [u8], p: &Parsed) -> bool {
    let mut turn = || {
        let l3 = usize::from(p.l3);
        let (old, sum) = (get16(frame, l3 + 8)?, get16(frame, l3 + 10)?);
        if old < 0x0200 {
            return None;
        }
        let new = old - 0x0100;
        put16(frame, l3 + 8, new)?;
        put16(frame, l3 + 10, Delta::default().u16(old, new).apply(sum))
    };
    turn().is_some()
}

/// TCP: sets sequence and acknowledgement number.
#[must_use]
pub fn set_seq_ack(frame: &mut [u8], p: &Parsed, seq: u32, ack: u32) -> bool {
    let mut turn = || {
        let l4 = tcp_at(p)?;
        let (old_seq, old_ack) = (get32(frame, l4 + 4)?, get32(frame, l4 + 8)?);
        let sum = get16(frame, l4 + 16)?;
        let delta = Delta::default().u32(old_seq, seq).u32(old_ack, ack);
        put32(frame, l4 + 4, seq)?;
        put32(frame, l4 + 8, ack)?;
        put16(frame, l4 + 16, delta.apply(sum))
    };
    turn().is_some()
}

/// TCP: sets the window field.
#[must_use]
pub fn set_window(frame: &mut [u8], p: &Parsed, window: u16) -> bool {
    let mut turn = || {
        let l4 = tcp_at(p)?;
        let (old, sum) = (get16(frame, l4 + 14)?, get16(frame, l4 + 16)?);
        put16(frame, l4 + 14, window)?;
        put16(frame, l4 + 16, Delta::default().u16(old, window).apply(sum))
    };
    turn().is_some()
}

/// TCP: lowers the maximum segment size option to `max` (RFC 9293 §3.7.1). True if it changed something.
///
/// The option means something on SYN segments only; the caller asks for those.
pub fn clamp_mss(frame: &mut [u8], p: &Parsed, max: u16) -> bool {
    edit_options(frame, p, |kind, data| match (kind, data) {
        (MSS, [hi, lo]) if u16::from_be_bytes([*hi, *lo]) > max => {
            [*hi, *lo] = max.to_be_bytes();
            true
        }
        _ => false,
    })
}

/// TCP: maps the blocks of the SACK option (RFC 2018 §3), left and right edge each. A block that maps to none is left
/// out; the room that it took becomes NOPs. True if anything changed.
pub fn map_sack(frame: &mut [u8], p: &Parsed, mut map: impl FnMut(u32, u32) -> Option<(u32, u32)>) -> bool {
    if p.protocol != Protocol::Tcp {
        return false;
    }
    let region = options_region(p);
    // A copy: options are at most 40 bytes.
    let mut copy = [0u8; 40];
    let Some(old) = frame.get(region.clone()) else { return false };
    let Some(bytes) = copy.get_mut(..old.len()) else { return false };
    bytes.copy_from_slice(old);
    for (kind, range) in p.tcp_options(frame) {
        let at = range.start - region.start;
        if kind != SACK || range.len() % 8 != 0 {
            continue;
        }
        let mut to = at;
        for block in 0..range.len() / 8 {
            let from = at + block * 8;
            let (Some(left), Some(right)) = (get32(bytes, from), get32(bytes, from + 4)) else { continue };
            if let Some((left, right)) = map(left, right) {
                let _ = put32(bytes, to, left);
                let _ = put32(bytes, to + 4, right);
                to += 8;
            }
        }
        let kept = (to - at) as u8;
        if let Some(len) = bytes.get_mut(at - 1).filter(|_| kept > 0) {
            *len = 2 + kept;
        }
        let gone = if kept > 0 { to } else { at - 2 };
        if let Some(rest) = bytes.get_mut(gone..at + range.len()) {
            rest.fill(NOP);
        }
    }
    replace(frame, p, region, &copy)
}

/// TCP: turns the options whose kind `drop` names into NOPs. True if there were any.
pub fn remove_options(frame: &mut [u8], p: &Parsed, mut drop: impl FnMut(u8) -> bool) -> bool {
    if p.protocol != Protocol::Tcp {
        return false;
    }
    let region = options_region(p);
    let mut copy = [0u8; 40];
    let Some(old) = frame.get(region.clone()) else { return false };
    let Some(bytes) = copy.get_mut(..old.len()) else { return false };
    bytes.copy_from_slice(old);
    for (kind, range) in p.tcp_options(frame) {
        let (from, to) = (range.start - 2 - region.start, range.end - region.start);
        if drop(kind) {
            bytes.get_mut(from..to).unwrap_or(&mut []).fill(NOP);
        }
    }
    replace(frame, p, region, &copy)
}

const NOP: u8 = 1;
const MSS: u8 = 2;
const SACK: u8 = 5;

/// Offset of the TCP header.
#[inline]
const fn tcp_at(p: &Parsed) -> Option<usize> {
    match p.protocol {
        Protocol::Tcp => Some(p.l4 as usize),
        _ => None,
    }
}

/// Where the TCP options lie. At an even offset of the header, so that sums over it join.
fn options_region(p: &Parsed) -> Range<usize> {
    usize::from(p.l4) + TCP_LEN..usize::from(p.payload)
}

/// Changes option data in place. True if `edit` said so of any.
fn edit_options(frame: &mut [u8], p: &Parsed, mut edit: impl FnMut(u8, &mut [u8]) -> bool) -> bool {
    if p.protocol != Protocol::Tcp {
        return false;
    }
    let region = options_region(p);
    let mut copy = [0u8; 40];
    let Some(old) = frame.get(region.clone()) else { return false };
    let Some(bytes) = copy.get_mut(..old.len()) else { return false };
    bytes.copy_from_slice(old);
    let mut changed = false;
    for (kind, range) in p.tcp_options(frame) {
        let range = range.start - region.start..range.end - region.start;
        changed |= bytes.get_mut(range).is_some_and(|data| edit(kind, data));
    }
    changed && replace(frame, p, region, &copy)
}

/// Puts new options in place of the old, of the same length. True if they differ.
fn replace(frame: &mut [u8], p: &Parsed, region: Range<usize>, new: &[u8; 40]) -> bool {
    let sum_at = usize::from(p.l4) + 16;
    let Some(sum) = get16(frame, sum_at) else { return false };
    let Some(old) = frame.get_mut(region) else { return false };
    let Some(new) = new.get(..old.len()) else { return false };
    if old == new {
        return false;
    }
    let delta = Delta::default().sums(checksum::sum(old), checksum::sum(new));
    old.copy_from_slice(new);
    put16(frame, sum_at, delta.apply(sum)).is_some()
}
