//! Turns a packet into the gateway's answer to its sender, in the same buffer: ICMP errors (RFC 792, RFC 1812 §4.3.2)
//! and echo replies.
//!
//! An error quotes the packet as it arrived: call these before anything is rewritten. The answer leaves where the
//! packet came in, to the MAC address that it came from.

use super::checksum::{self, Delta};
use super::field::{bytes, get16, get32, put, put16, put32};
use super::{ETHERNET_LEN, ICMP_LEN, IPV4_LEN, Parsed, icmp};
use crate::buf::PacketBuf;
use crate::key::Protocol;
use core::net::Ipv4Addr;

/// "Net unreachable" (RFC 792).
pub const NET: u8 = 0;
/// "Host unreachable" (RFC 792).
pub const HOST: u8 = 1;
/// "Port unreachable" (RFC 792).
pub const PORT: u8 = 3;
/// "Communication administratively prohibited" (RFC 1812 §5.2.7.1).
pub const PROHIBITED: u8 = 13;

/// Largest ICMP error, in bytes of IP (RFC 1812 §4.3.2.3).
pub const MAX_ERROR: usize = 576;
/// What an error has before its quotation.
const GROWTH: usize = IPV4_LEN + ICMP_LEN;
/// Time to live of our own packets (RFC 1700).
pub(super) const TTL: u8 = 64;
/// Precedence "internetwork control" (RFC 1812 §4.3.2.5).
const TOS: u8 = 0xC0;

/// Turns the packet into "time to live exceeded in transit" (type 11, code 0), from `gateway`, the address of the
/// interface that it came in on. False, and nothing changed, if no error may be sent about it.
#[must_use]
pub fn time_exceeded<B: PacketBuf>(buf: &mut B, p: &Parsed, gateway: Ipv4Addr) -> bool {
    error(buf, p, gateway, icmp::TIME_EXCEEDED, 0, 0).is_some()
}

/// Turns the packet into "fragmentation needed and DF set" (type 3, code 4) with the next hop's `mtu` (RFC 1191 §4).
/// False, and nothing changed, if no error may be sent about it.
#[must_use]
pub fn fragmentation_needed<B: PacketBuf>(buf: &mut B, p: &Parsed, gateway: Ipv4Addr, mtu: u16) -> bool {
    error(buf, p, gateway, icmp::UNREACHABLE, 4, u32::from(mtu)).is_some()
}

/// Turns the packet into "destination unreachable" (type 3) with a code of RFC 792 or RFC 1812 §5.2.7.1. False, and
/// nothing changed, if no error may be sent about it. The frame may hold the start of the packet alone.
#[must_use]
pub fn unreachable<B: PacketBuf>(buf: &mut B, p: &Parsed, gateway: Ipv4Addr, code: u8) -> bool {
    error(buf, p, gateway, icmp::UNREACHABLE, code, 0).is_some()
}

/// Whether an error may be sent about a packet, and can be: to be asked before its place in the rate is taken.
#[must_use]
pub fn may_answer(frame: &[u8], p: &Parsed) -> bool {
    quote(frame, p).is_some()
}

/// How many bytes an error about the packet quotes. None if no error may be sent about it.
fn quote(frame: &[u8], p: &Parsed) -> Option<usize> {
    if !is_answerable(frame, p) || usize::from(p.l3) != ETHERNET_LEN {
        return None;
    }
    let there = frame.len().checked_sub(ETHERNET_LEN)?;
    let quote = usize::from(p.ip_len).min(MAX_ERROR - GROWTH).min(there);
    // RFC 792: the header and eight bytes, or all that there is.
    let least = usize::from(p.l4 - p.l3) + 8;
    (quote >= least.min(usize::from(p.ip_len))).then_some(quote)
}

/// RFC 1812 §4.3.2.7: not about ICMP errors, fragments but the first, broadcasts, multicasts of either layer, nor what
/// comes from no single host.
fn is_answerable(frame: &[u8], p: &Parsed) -> bool {
    let l3 = usize::from(p.l3);
    let one_host = |at| get32(frame, at).is_some_and(|a| !matches!(a >> 24, 0 | 127 | 224..));
    let unicast = frame.first().is_some_and(|b| b & 1 == 0) && frame.get(6).is_some_and(|b| b & 1 == 0);
    let first = get16(frame, l3 + 6).is_some_and(|f| f & 0x1FFF == 0);
    let error = p.protocol == Protocol::Icmp
        && !frame.get(usize::from(p.l4)).is_some_and(|t| matches!(*t, icmp::ECHO_REPLY | icmp::ECHO_REQUEST));
    unicast && first && !error && one_host(l3 + 12) && one_host(l3 + 16)
}

fn error<B: PacketBuf>(
    buf: &mut B,
    p: &Parsed,
    gateway: Ipv4Addr,
    kind: u8,
    code: u8,
    rest: u32,
) -> Option<()> {
    let frame = buf.bytes();
    let quote = quote(frame, p)?;
    let (ours, theirs) = (bytes::<6>(frame, 0)?, bytes::<6>(frame, 6)?);
    let (ethertype, sender) = (get16(frame, 12)?, get32(frame, usize::from(p.l3) + 12)?);
    let excess = frame.len().checked_sub(ETHERNET_LEN + quote)?;
    if !buf.prepend(GROWTH) || !buf.trim_back(excess) {
        return None;
    }
    // Only fields that are surely there from now on: the frame is ETHERNET_LEN + GROWTH + quote bytes long.
    let ip_len = (GROWTH + quote) as u16;
    let frame = buf.bytes_mut();
    put(frame, 0, theirs)?;
    put(frame, 6, ours)?;
    put16(frame, 12, ethertype)?;
    let body = frame.get_mut(ETHERNET_LEN..)?;
    let head = header(gateway.to_bits(), sender, Protocol::Icmp, ip_len, TOS);
    put(body, 0, head)?;
    let message = body.get_mut(IPV4_LEN..)?;
    put(message, 0, [kind, code, 0, 0])?;
    put32(message, 4, rest)?;
    checksum::l4_fill(0, 0, Protocol::Icmp, message).then_some(())
}

/// An IPv4 header of our own: no options, DF, identification 0 (RFC 6864 §4: an atomic datagram).
pub(crate) fn header(source: u32, destination: u32, protocol: Protocol, len: u16, tos: u8) -> [u8; IPV4_LEN] {
    let mut h = [0; IPV4_LEN];
    let [l0, l1] = len.to_be_bytes();
    let [s0, s1, s2, s3] = source.to_be_bytes();
    let [d0, d1, d2, d3] = destination.to_be_bytes();
    h[..12].copy_from_slice(&[0x45, tos, l0, l1, 0, 0, 0x40, 0, TTL, protocol as u8, 0, 0]);
    h[12..].copy_from_slice(&[s0, s1, s2, s3, d0, d1, d2, d3]);
    let [c0, c1] = checksum::checksum(&h).to_be_bytes();
    h[10] = c0;
    h[11] = c1;
    h
}

/// Turns an echo request to one of our addresses into its reply (RFC 792, RFC 1812 §4.3.3.6). False, and nothing
/// changed, if it is something else.
#[must_use]
pub fn echo_reply<B: PacketBuf>(buf: &mut B, p: &Parsed) -> bool {
    if p.protocol != Protocol::Icmp || p.icmp_type != icmp::ECHO_REQUEST || !is_answerable(buf.bytes(), p) {
        return false;
    }
    let frame = buf.bytes_mut();
    let (l3, l4) = (usize::from(p.l3), usize::from(p.l4));
    let mut turn = || {
        let (ours, theirs) = (bytes::<6>(frame, 0)?, bytes::<6>(frame, 6)?);
        let (sender, us) = (bytes::<4>(frame, l3 + 12)?, bytes::<4>(frame, l3 + 16)?);
        let (ttl, ip_sum) = (get16(frame, l3 + 8)?, get16(frame, l3 + 10)?);
        let (kind, icmp_sum) = (get16(frame, l4)?, get16(frame, l4 + 2)?);
        put(frame, 0, theirs)?;
        put(frame, 6, ours)?;
        // Swapping the addresses leaves the header's sum as it is.
        put(frame, l3 + 12, us)?;
        put(frame, l3 + 16, sender)?;
        let new_ttl = (u16::from(TTL) << 8) | (ttl & 0x00FF);
        put16(frame, l3 + 8, new_ttl)?;
        put16(frame, l3 + 10, Delta::default().u16(ttl, new_ttl).apply(ip_sum))?;
        let new_kind = (u16::from(icmp::ECHO_REPLY) << 8) | (kind & 0x00FF);
        put16(frame, l4, new_kind)?;
        put16(frame, l4 + 2, Delta::default().u16(kind, new_kind).apply(icmp_sum))
    };
    turn().is_some()
}
