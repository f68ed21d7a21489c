//! Turns a TCP segment into a reset, in the same buffer: back to its sender, or on to its receiver.
//!
//! Addresses, ports and numbers are read from the frame as it is then: reset after rewriting, and the reset is
//! rewritten too. IP options, TCP options and payload go; the checksums are computed afresh (no byte of the payload
//! goes on, so that no corruption is laundered).

use super::field::{bytes, get32, put, put16, put32};
use super::{ETHERNET_LEN, IPV4_LEN, Parsed, TCP_LEN, checksum, flag, icmp_error};
use crate::buf::PacketBuf;
use crate::key::Protocol;

/// Turns the segment into the reset that answers it, as a closed port would (RFC 9293 §3.10.7.1): with ACK, the reset
/// takes its sequence number from there; without, it is 0 and acknowledges the segment. False, and nothing changed,
/// if the packet is not TCP, or a reset itself.
#[must_use]
pub fn reset_reply<B: PacketBuf>(buf: &mut B, p: &Parsed) -> bool {
    let turn = |seq: u32, ack: u32, flags: u8| match flags & flag::ACK {
        0 => (0, seq.wrapping_add(p.seq_len()), flag::RST | flag::ACK),
        _ => (ack, 0, flag::RST),
    };
    reset(buf, p, true, turn).is_some()
}

/// Turns the segment into a reset that goes on to its receiver: at its own sequence number, which the receiver expects
/// if the segment is the next one (RFC 5961 §3.2). It acknowledges what the segment does. False, and nothing changed,
/// if the packet is not TCP, or a reset itself.
#[must_use]
pub fn reset_forward<B: PacketBuf>(buf: &mut B, p: &Parsed) -> bool {
    let turn = |seq: u32, ack: u32, flags: u8| match flags & flag::ACK {
        0 => (seq, 0, flag::RST),
        _ => (seq, ack, flag::RST | flag::ACK),
    };
    reset(buf, p, false, turn).is_some()
}

/// Whether a reset may answer the packet: to be asked before its place in the rate of errors is taken.
#[must_use]
pub const fn may_answer(p: &Parsed) -> bool {
    matches!(p.protocol, Protocol::Tcp) && p.tcp_flags & flag::RST == 0
}

fn reset<B: PacketBuf>(
    buf: &mut B,
    p: &Parsed,
    back: bool,
    turn: impl Fn(u32, u32, u8) -> (u32, u32, u8),
) -> Option<()> {
    const LEN: usize = ETHERNET_LEN + IPV4_LEN + TCP_LEN;
    let frame = buf.bytes();
    let (l3, l4) = (usize::from(p.l3), usize::from(p.l4));
    if !may_answer(p) || l3 != ETHERNET_LEN {
        return None;
    }
    let (to, from) = (bytes::<6>(frame, 0)?, bytes::<6>(frame, 6)?);
    let (source, destination) = (get32(frame, l3 + 12)?, get32(frame, l3 + 16)?);
    let [s0, s1, d0, d1] = bytes::<4>(frame, l4)?;
    let (seq, ack, flags) = turn(get32(frame, l4 + 4)?, get32(frame, l4 + 8)?, p.tcp_flags);
    if !buf.trim_back(frame.len().checked_sub(LEN)?) {
        return None;
    }
    let frame = buf.bytes_mut();
    let (macs, ends, ports) = if back {
        ((from, to), (destination, source), [d0, d1, s0, s1])
    } else {
        ((to, from), (source, destination), [s0, s1, d0, d1])
    };
    put(frame, 0, macs.0)?;
    put(frame, 6, macs.1)?;
    let ip_len = (IPV4_LEN + TCP_LEN) as u16;
    put(frame, l3, icmp_error::header(ends.0, ends.1, Protocol::Tcp, ip_len, 0))?;
    let segment = frame.get_mut(ETHERNET_LEN + IPV4_LEN..)?;
    put(segment, 0, ports)?;
    put32(segment, 4, seq)?;
    put32(segment, 8, ack)?;
    put(segment, 12, [0x50, flags])?;
    put16(segment, 14, 0)?;
    put32(segment, 16, 0)?;
    checksum::l4_fill(ends.0, ends.1, Protocol::Tcp, segment).then_some(())
}
