//! The generator's frames: what they carry, and what they must have become.

use super::plan::End;
use dataplane::key::Protocol;
use dataplane::packet::{ETHERNET_LEN, ETHERTYPE_IPV4, IPV4_LEN, Parsed, TCP_LEN, UDP_LEN, checksum};

/// Tells our datagrams from others'.
const MAGIC: u16 = 0x506e;
/// Bytes of a mark.
pub const MARK: usize = 16;
/// Shortest frame, without the FCS.
const SHORTEST: usize = 60;
const TTL: u8 = 64;

/// What a datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The trial that it belongs to.
    pub trial: u16,
    /// Its flow.
    pub flow: u32,
    /// When it was sent, in cycles.
    pub stamp: u64,
}

/// The two stations of a cable: ours, then the gateway's.
pub type Stations = ([u8; 6], [u8; 6]);

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(field) = frame.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

/// Ethernet and IPv4, around `len` bytes of transport.
fn headers(
    frame: &mut [u8],
    (ours, theirs): Stations,
    protocol: Protocol,
    source: End,
    destination: End,
    len: usize,
) {
    put(frame, 0, &theirs);
    put(frame, 6, &ours);
    put(frame, 12, &ETHERTYPE_IPV4.to_be_bytes());
    let total = (IPV4_LEN + len) as u16;
    put(frame, 14, &[0x45, 0]);
    put(frame, 16, &total.to_be_bytes());
    put(frame, 18, &[0, 0, 0x40, 0, TTL, protocol as u8, 0, 0]);
    put(frame, 26, &source.0.to_be_bytes());
    put(frame, 30, &destination.0.to_be_bytes());
    let filled = frame.get_mut(ETHERNET_LEN..ETHERNET_LEN + IPV4_LEN).is_some_and(checksum::ipv4_fill);
    debug_assert!(filled);
    put(frame, 34, &source.1.to_be_bytes());
    put(frame, 36, &destination.1.to_be_bytes());
}

/// Fills the frame with a datagram that carries the mark, and zeros behind it. It is at least 60 bytes long.
pub fn datagram(frame: &mut [u8], stations: Stations, source: End, destination: End, mark: Mark) {
    let Some(len) = frame.len().checked_sub(ETHERNET_LEN + IPV4_LEN).filter(|_| frame.len() >= SHORTEST)
    else {
        return;
    };
    if let Some(rest) = frame.get_mut(SHORTEST - 2..) {
        rest.fill(0);
    }
    headers(frame, stations, Protocol::Udp, source, destination, len);
    put(frame, 38, &(len as u16).to_be_bytes());
    put(frame, 40, &[0, 0]);
    put(frame, 42, &MAGIC.to_be_bytes());
    put(frame, 44, &mark.trial.to_be_bytes());
    put(frame, 46, &mark.flow.to_be_bytes());
    put(frame, 50, &mark.stamp.to_be_bytes());
    // Zeros add nothing to a sum: only headers and mark are read.
    let marked = frame.get(34..34 + UDP_LEN + MARK).map_or(0, checksum::sum);
    let pseudo = checksum::pseudo(source.0, destination.0, Protocol::Udp, len as u16);
    let value = match !checksum::join(marked, pseudo) {
        0 => 0xFFFF,
        value => value,
    };
    put(frame, 40, &value.to_be_bytes());
}

/// The mark of a datagram of ours.
#[must_use]
pub fn mark(frame: &[u8], parsed: &Parsed) -> Option<Mark> {
    let [m0, m1, t0, t1, f0, f1, f2, f3, s @ ..] =
        *frame.get(parsed.payload_range())?.first_chunk::<MARK>()?;
    (u16::from_be_bytes([m0, m1]) == MAGIC).then(|| Mark {
        trial: u16::from_be_bytes([t0, t1]),
        flow: u32::from_be_bytes([f0, f1, f2, f3]),
        stamp: u64::from_be_bytes(s),
    })
}

/// What a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Its flags.
    pub flags: u8,
    /// The flow, in the [`DATA`] bytes of its payload; none for a segment without.
    pub data: Option<u32>,
}

/// Bytes of the payload of a segment that has one. The shortest frame has room for it.
pub const DATA: u32 = 4;

/// Fills a frame of 60 bytes with a segment.
pub fn segment(frame: &mut [u8], stations: Stations, source: End, destination: End, what: Segment) {
    frame.fill(0);
    let len = TCP_LEN + if what.data.is_some() { DATA as usize } else { 0 };
    headers(frame, stations, Protocol::Tcp, source, destination, len);
    put(frame, 38, &what.seq.to_be_bytes());
    put(frame, 42, &what.ack.to_be_bytes());
    put(frame, 46, &[0x50, what.flags, 0xff, 0xff]);
    if let Some(data) = what.data {
        put(frame, 34 + TCP_LEN, &data.to_be_bytes());
    }
    let filled = frame
        .get_mut(34..34 + len)
        .is_some_and(|segment| checksum::l4_fill(source.0, destination.0, Protocol::Tcp, segment));
    debug_assert!(filled);
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::packet::{Parse, flag, parse};
    use proptest::prelude::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 1, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 1];

    proptest! {
        #[test]
        fn datagrams_are_sound_and_carry_their_mark(
            len in 60usize..=1514, source: (u32, u16), destination: (u32, u16), trial: u16, flow: u32, stamp: u64,
        ) {
            // Addresses that a router takes.
            let source = (0x0a00_0000 | source.0 >> 8, source.1.max(1));
            let destination = (0x0b00_0000 | destination.0 >> 8, destination.1.max(1));
            // A buffer that another frame was in.
            let mut frame = vec![0xa5; len];
            let mark_in = Mark { trial, flow, stamp };
            datagram(&mut frame, (OURS, THEIRS), source, destination, mark_in);
            let Parse::Ip(parsed) = parse(&frame, THEIRS) else { return Err(TestCaseError::fail("parse")) };
            prop_assert_eq!((parsed.src, parsed.sport), source);
            prop_assert_eq!((parsed.dst, parsed.dport), destination);
            prop_assert!(parsed.l4_checksum_is_valid(&frame));
            prop_assert_eq!(parsed.frame_len(), len);
            prop_assert_eq!(mark(&frame, &parsed), Some(mark_in));
        }
    }

    #[test]
    fn segments_are_sound() {
        let mut frame = [0xa5; 60];
        let (source, destination) = ((0x0a01_0002, 5), (0x0b01_0002, 80));
        let syn = Segment { seq: 7, ack: 8, flags: flag::SYN, data: None };
        segment(&mut frame, (OURS, THEIRS), source, destination, syn);
        let Parse::Ip(parsed) = parse(&frame, THEIRS) else { panic!("{frame:?}") };
        assert_eq!((parsed.seq, parsed.ack, parsed.tcp_flags, parsed.payload_len), (7, 8, flag::SYN, 0));
        assert!(parsed.l4_checksum_is_valid(&frame));
        assert_eq!(mark(&frame, &parsed), None);
        let data = Segment { flags: flag::PSH | flag::ACK, data: Some(0x0102_0304), ..syn };
        segment(&mut frame, (OURS, THEIRS), source, destination, data);
        let Parse::Ip(parsed) = parse(&frame, THEIRS) else { panic!("{frame:?}") };
        assert_eq!(u32::from(parsed.payload_len), DATA);
        assert!(parsed.l4_checksum_is_valid(&frame));
        assert_eq!(frame[parsed.payload_range()], [1, 2, 3, 4]);
    }

    #[test]
    fn another_s_datagram_has_no_mark() {
        let mut frame = [0; 60];
        let mark_in = Mark { trial: 1, flow: 2, stamp: 3 };
        datagram(&mut frame, (OURS, THEIRS), (0x0a01_0002, 5), (0x0b01_0002, 80), mark_in);
        frame[42] ^= 1;
        let Parse::Ip(parsed) = parse(&frame, THEIRS) else { panic!("{frame:?}") };
        assert_eq!(mark(&frame, &parsed), None);
    }
}
