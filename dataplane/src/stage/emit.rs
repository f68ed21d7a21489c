//! Emit: packets from what the stream engine lets go, and segments for it from packets.

use crate::buf::PacketBuf;
use crate::key::{Addrs, Protocol};
use crate::packet::{ETHERNET_LEN, IPV4_LEN, Parsed, TCP_LEN, checksum, flag, icmp_error, rewrite};
use crate::stage::Hit;
use crate::stream::Stream;
use crate::stream::chunk::Pool;
use crate::stream::segment::{Emission, Options, Payload, Segment, Timestamp};
use alg::Side;
use arrayvec::ArrayVec;
use core::ops::Range;

/// Bytes of IP and TCP header without options.
pub(crate) const HEADERS: u16 = (IPV4_LEN + TCP_LEN) as u16;

/// By how much a maximum segment size is lowered, so that most edits that grow a message need no second segment.
const HEADWAY: u16 = 64;

/// TCP option kinds (IANA, TCP parameters).
mod kind {
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const TIMESTAMP: u8 = 8;
    pub(super) const MD5: u8 = 19;
    pub(super) const AUTHENTICATION: u8 = 29;
    /// What stays on a SYN. Others become NOPs: Fast Open (34), Multipath TCP (30), encryption (69), experiments.
    pub(super) const KEPT: [u8; 4] = [MSS, WINDOW_SCALE, SACK_PERMITTED, TIMESTAMP];
}

fn four(bytes: Option<&[u8]>) -> Option<u32> {
    bytes.and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_be_bytes(*b))
}

/// The options of a segment as the engine needs them.
fn options(parsed: &Parsed, frame: &[u8]) -> Options {
    let mut options = Options {
        len: u8::try_from((parsed.payload - parsed.l3).saturating_sub(HEADERS)).unwrap_or(u8::MAX),
        ..Options::default()
    };
    let syn = parsed.has(flag::SYN);
    for (kind, range) in parsed.tcp_options(frame) {
        let data = frame.get(range).unwrap_or_default();
        match (kind, data) {
            (kind::MSS, [high, low]) if syn => options.mss = Some(u16::from_be_bytes([*high, *low])),
            (kind::WINDOW_SCALE, [scale]) if syn => options.window_scale = Some(*scale),
            (kind::SACK_PERMITTED, []) if syn => options.sack_permitted = true,
            (kind::TIMESTAMP, [..]) if data.len() == 8 => {
                let both = four(data.get(..4)).zip(four(data.get(4..)));
                options.timestamp = both.map(|(value, echo)| Timestamp { value, echo });
            }
            (kind::MD5 | kind::AUTHENTICATION, _) => options.signed = true,
            _ => {}
        }
    }
    options
}

/// A packet as the engine sees it.
pub(crate) fn segment<'a>(from: Side, parsed: &Parsed, frame: &'a [u8]) -> Segment<'a> {
    let l4 = usize::from(parsed.l4);
    let urgent =
        frame.get(l4 + 18..).and_then(|b| b.first_chunk::<2>()).map_or(0, |b| u16::from_be_bytes(*b));
    Segment {
        from,
        seq: parsed.seq,
        ack: parsed.ack,
        window: parsed.window,
        flags: parsed.tcp_flags,
        urgent,
        options: options(parsed, frame),
        payload: frame.get(parsed.payload_range()).unwrap_or_default(),
    }
}

/// Writes TCP's checksum afresh, or leaves it to the device if it may be left.
fn seal<B: PacketBuf>(
    buf: &mut B,
    segment: Range<usize>,
    source: u32,
    destination: u32,
    leave: bool,
) -> bool {
    buf.leave_checksum(leave.then_some(Protocol::Tcp))
        || buf
            .bytes_mut()
            .get_mut(segment)
            .is_some_and(|segment| checksum::l4_fill(source, destination, Protocol::Tcp, segment))
}

/// Turns the packet that came into what it goes on as. `parsed` then says so. `leave` says that the device that it leaves by may
/// fill the checksum in. False if it does not fit: the packet is of no use then.
pub(crate) fn alter<B: PacketBuf>(
    buf: &mut B,
    parsed: &mut Parsed,
    stream: &Stream,
    chunks: &Pool,
    from: Side,
    emission: &Emission,
    leave: bool,
) -> bool {
    if parsed.has(flag::SYN) {
        return alter_syn(buf, parsed, stream, emission);
    }
    let frame = buf.bytes_mut();
    let numbers = rewrite::set_seq_ack(frame, parsed, emission.seq, emission.ack)
        && rewrite::set_window(frame, parsed, emission.window);
    if !numbers {
        return false;
    }
    let mut first = true;
    let _ = rewrite::map_sack(frame, parsed, |left, right| {
        stream.map_sack(from, parsed.ack, core::mem::take(&mut first), (left, right))
    });
    let Payload::Kept { side, at, len } = emission.payload else { return true };
    if !resize(buf, parsed, len) {
        return false;
    }
    let frame = buf.bytes_mut();
    let place = frame.get_mut(parsed.payload_range());
    if !place.is_some_and(|place| stream.copy(chunks, side, at, place)) {
        return false;
    }
    if let Some(timestamp) = emission.timestamp {
        set_timestamp(frame, parsed, timestamp);
    }
    let l4 = usize::from(parsed.l4);
    let Some(header) = frame.get_mut(l4..l4 + TCP_LEN) else { return false };
    let urgent = emission.urgent.to_be_bytes();
    if let [_, _, _, _, _, _, _, _, _, _, _, _, _, flags, _, _, _, _, high, low] = header {
        *flags = emission.flags;
        [*high, *low] = urgent;
    }
    parsed.tcp_flags = emission.flags;
    // Of headers alone a device would save nothing.
    seal(buf, parsed.segment(), parsed.src, parsed.dst, leave && len > 0)
}

/// A SYN keeps the options that the engine carries, and loses what would go around it, and ECN, whose echo an edited stream
/// would have to invent. A signed one is left alone, but for what it has behind its header.
fn alter_syn<B: PacketBuf>(buf: &mut B, parsed: &mut Parsed, stream: &Stream, emission: &Emission) -> bool {
    let cut = emission.payload != Payload::Own;
    if cut && !resize(buf, parsed, 0) {
        return false;
    }
    if stream.is_blind() || options(parsed, buf.bytes()).signed {
        return !cut || seal(buf, parsed.segment(), parsed.src, parsed.dst, false);
    }
    let frame = buf.bytes_mut();
    let mss = options(parsed, frame).mss;
    if let Some(mss) = mss.filter(|mss| *mss >= 2 * HEADWAY) {
        let _ = rewrite::clamp_mss(frame, parsed, mss - HEADWAY);
    }
    let _ = rewrite::remove_options(frame, parsed, |kind| !kind::KEPT.contains(&kind));
    if !rewrite::set_seq_ack(frame, parsed, emission.seq, emission.ack) {
        return false;
    }
    let l4 = usize::from(parsed.l4);
    if let Some([offset, flags]) = frame.get_mut(l4 + 12..l4 + 14) {
        // The lowest bit beside the header length is accurate ECN's (RFC 3168, RFC 7560).
        *offset &= 0xf0;
        *flags &= !(flag::ECE | flag::CWR);
    }
    parsed.tcp_flags &= !(flag::ECE | flag::CWR);
    seal(buf, parsed.segment(), parsed.src, parsed.dst, false)
}

fn set_timestamp(frame: &mut [u8], parsed: &Parsed, timestamp: Timestamp) {
    let place = parsed.tcp_options(frame).find(|(k, range)| *k == kind::TIMESTAMP && range.len() == 8);
    if let Some((_, range)) = place
        && let Some([v0, v1, v2, v3, e0, e1, e2, e3]) = frame.get_mut(range)
    {
        [*v0, *v1, *v2, *v3] = timestamp.value.to_be_bytes();
        [*e0, *e1, *e2, *e3] = timestamp.echo.to_be_bytes();
    }
}

/// Gives a packet a payload of `len` bytes, whatever they are: room, lengths, the IP header's checksum. TCP's is the
/// caller's.
fn resize<B: PacketBuf>(buf: &mut B, parsed: &mut Parsed, len: usize) -> bool {
    // What a frame has behind its packet is padding.
    let Some(padding) = buf.bytes().len().checked_sub(parsed.frame_len()) else { return false };
    let old = usize::from(parsed.payload_len);
    let header = usize::from(parsed.ip_len).saturating_sub(old);
    let sizes = u16::try_from(header + len).ok().zip(u16::try_from(len).ok());
    let Some((ip_len, payload_len)) = sizes else { return false };
    let resized = buf.trim_back(padding)
        && match len.checked_sub(old) {
            Some(more) => buf.append(more),
            None => buf.trim_back(old - len),
        };
    if !resized {
        return false;
    }
    (parsed.payload_len, parsed.ip_len) = (payload_len, ip_len);
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let Some(header) = buf.bytes_mut().get_mut(l3..l4) else { return false };
    let Some(length) = header.get_mut(2..4) else { return false };
    length.copy_from_slice(&ip_len.to_be_bytes());
    checksum::ipv4_fill(header)
}

/// TCP options of the engine's own segments: timestamp, then SACK blocks.
fn own_options(emission: &Emission) -> ArrayVec<u8, 40> {
    const NOP: u8 = 1;
    let mut out = ArrayVec::new();
    if let Some(t) = emission.timestamp {
        out.extend([NOP, NOP, kind::TIMESTAMP, 10]);
        out.extend(t.value.to_be_bytes());
        out.extend(t.echo.to_be_bytes());
    }
    // At most 12 and 4 + 3 * 8 bytes.
    if let Ok(len) = u8::try_from(2 + 8 * emission.sack.len())
        && !emission.sack.is_empty()
    {
        out.extend([NOP, NOP, 5, len]);
        for (left, right) in &emission.sack {
            out.extend(left.to_be_bytes());
            out.extend(right.to_be_bytes());
        }
    }
    out
}

/// Writes a whole packet into an empty buffer, as it leaves for `emission.to`: translated, without its L2 header. `leave` is that
/// of [`alter`].
pub(crate) fn build<B: PacketBuf>(
    buf: &mut B,
    hit: &Hit<'_>,
    stream: &Stream,
    chunks: &Pool,
    emission: &Emission,
    leave: bool,
) -> bool {
    // The answer to this packet arrives as the other key says; what leaves is that key turned round.
    let answer = hit.session.key(hit.direction.other());
    let Addrs::V4(destination, source) = answer.addrs else { return false };
    let Payload::Kept { side, at, len } = emission.payload else { return false };
    let options = own_options(emission);
    let head = ETHERNET_LEN + IPV4_LEN + TCP_LEN + options.len();
    let Ok(ip_len) = u16::try_from(head - ETHERNET_LEN + len) else { return false };
    if !buf.append(head + len) {
        return false;
    }
    let frame = buf.bytes_mut();
    let Some((ethernet, packet)) = frame.split_at_mut_checked(ETHERNET_LEN) else { return false };
    ethernet.fill(0);
    if let [.., high, low] = ethernet {
        [*high, *low] = crate::packet::ETHERTYPE_IPV4.to_be_bytes();
    }
    let Some((ip, tcp)) = packet.split_at_mut_checked(IPV4_LEN) else { return false };
    ip.copy_from_slice(&icmp_error::header(source, destination, Protocol::Tcp, ip_len, 0));
    let mut header = ArrayVec::<u8, 60>::new();
    header.extend(answer.dport.to_be_bytes());
    header.extend(answer.sport.to_be_bytes());
    header.extend(emission.seq.to_be_bytes());
    header.extend(emission.ack.to_be_bytes());
    // In words of four bytes: 5 and at most 10.
    let words = u8::try_from((TCP_LEN + options.len()) / 4).unwrap_or(5);
    header.extend([words << 4, emission.flags]);
    header.extend(emission.window.to_be_bytes());
    header.extend([0, 0]);
    header.extend(emission.urgent.to_be_bytes());
    header.extend(options);
    let Some((place, payload)) = tcp.split_at_mut_checked(header.len()) else { return false };
    place.copy_from_slice(&header);
    stream.copy(chunks, side, at, payload)
        && seal(buf, ETHERNET_LEN + IPV4_LEN..head + len, source, destination, leave && len > 0)
}
