use super::*;
use proptest::prelude::*;

/// A packet of a test: seconds, fraction, length on the wire, bytes.
type Sample = (u32, u32, u32, &'static [u8]);
const SAMPLES: [Sample; 2] = [(1_700_000_000, 5, 4, b"abcd"), (1_700_000_001, 999, 60, b"abcde")];

fn word(n: u32, big: bool) -> [u8; 4] {
    if big { n.to_be_bytes() } else { n.to_le_bytes() }
}

fn half(n: u16, big: bool) -> [u8; 2] {
    if big { n.to_be_bytes() } else { n.to_le_bytes() }
}

fn pcap(big: bool, magic: u32, link: u32, packets: &[Sample]) -> Vec<u8> {
    let mut out = word(magic, big).to_vec();
    out.extend(half(2, big));
    out.extend(half(4, big));
    for n in [0, 0, 65_535, link] {
        out.extend(word(n, big));
    }
    for (seconds, fraction, wire, data) in packets {
        for n in [*seconds, *fraction, data.len() as u32, *wire] {
            out.extend(word(n, big));
        }
        out.extend(*data);
    }
    out
}

/// A block of a pcapng file.
fn block(kind: u32, big: bool, body: &[u8]) -> Vec<u8> {
    let length = word(12 + body.len().next_multiple_of(4) as u32, big);
    let mut out = word(kind, big).to_vec();
    out.extend(length);
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(length);
    out
}

fn section(big: bool) -> Vec<u8> {
    let body = [&word(0x1a2b_3c4d, big)[..], &half(1, big), &half(0, big), &[0xff; 8]].concat();
    block(0x0a0d_0d0a, big, &body)
}

fn interface(big: bool, link: u16, snap: u32, options: &[u8]) -> Vec<u8> {
    block(1, big, &[&half(link, big)[..], &half(0, big), &word(snap, big), options].concat())
}

fn option(code: u16, big: bool, value: &[u8]) -> Vec<u8> {
    let mut out = [half(code, big), half(value.len() as u16, big)].concat();
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn enhanced(big: bool, interface: u32, units: u64, wire: u32, data: &[u8]) -> Vec<u8> {
    let words = [interface, (units >> 32) as u32, units as u32, data.len() as u32, wire];
    let mut body: Vec<u8> = words.iter().flat_map(|n| word(*n, big)).collect();
    body.extend(data);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(option(1, big, b"a comment"));
    block(6, big, &body)
}

fn read_all(bytes: &[u8]) -> Result<Vec<Packet>, CaptureError> {
    let mut capture = Capture::open(bytes)?;
    let (mut packets, mut packet) = (Vec::new(), Packet::default());
    while capture.next(&mut packet)? {
        packets.push(packet.clone());
    }
    assert_eq!(capture.packets(), packets.len() as u64);
    Ok(packets)
}

#[test]
fn pcap_of_either_byte_order_and_resolution() {
    for big in [false, true] {
        for (magic, unit) in [(0xa1b2_c3d4, 1_000), (0xa1b2_3c4d, 1)] {
            let packets = read_all(&pcap(big, magic, 101, &SAMPLES)).unwrap();
            let expected = SAMPLES.map(|(seconds, fraction, wire_len, data)| Packet {
                at: Some(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit),
                link: LinkType::RAW,
                wire_len,
                data: data.to_vec(),
            });
            assert_eq!(packets, expected, "big-endian: {big}, {magic:x}");
        }
    }
    // A frame check sequence of four bytes is announced in the high half.
    assert_eq!(
        read_all(&pcap(false, 0xa1b2_c3d4, 0x2400_0001, &SAMPLES)).unwrap()[0].link,
        LinkType::ETHERNET
    );
    assert_eq!(read_all(&pcap(false, 0xa1b2_c3d4, 1, &[])).unwrap(), []);
}

#[test]
fn pcapng_with_several_interfaces_and_sections() {
    for big in [false, true] {
        let offset = if big { 1_700_000_000_i64.to_be_bytes() } else { 1_700_000_000_i64.to_le_bytes() };
        let file = [
            section(big),
            interface(big, 1, 0, &[]),
            interface(big, 101, 0, &[option(9, big, &[9]), option(14, big, &offset)].concat()),
            interface(big, 113, 0, &option(9, big, &[0x8a])),
            block(5, big, &[0; 12]), // statistics
            enhanced(big, 0, 1_700_000_000_000_007, 4, b"abcd"),
            enhanced(big, 1, 7, 90, b"abcde"),
            block(0x0bad, big, b"something"), // unknown
            enhanced(big, 2, 1_024 + 512, 1, b"x"),
            section(!big),
            interface(!big, 228, 3, &[]),
            block(3, !big, &[&word(5, !big)[..], b"abc"].concat()), // a simple packet, cut at 3 bytes
        ]
        .concat();
        let packets = read_all(&file).unwrap();
        let packet = |at, link, wire_len, data: &[u8]| Packet { at, link, wire_len, data: data.to_vec() };
        assert_eq!(
            packets,
            [
                packet(Some(1_700_000_000_000_007_000), LinkType::ETHERNET, 4, b"abcd"),
                packet(Some(1_700_000_000_000_000_007), LinkType::RAW, 90, b"abcde"),
                packet(Some(1_500_000_000), LinkType::LINUX_SLL, 1, b"x"),
                packet(None, LinkType::IPV4, 5, b"abc"),
            ]
        );
    }
}

#[test]
fn what_is_no_capture_is_told_apart() {
    let found = |bytes: &[u8]| match read_all(bytes) {
        Err(CaptureError::NoCapture { found }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(found(b""), "it is empty");
    assert_eq!(found(b"\xa1\xb2"), "it is too short");
    assert_eq!(found(b"#!/bin/sh\necho this is no capture\n"), "it begins with something else");
    assert_eq!(found(b"\x1f\x8b\x08\x00 and so on, for a while"), "it is compressed with gzip");
    assert_eq!(found(&pcap(false, 0xa1b2_cd34, 1, &[])), "it is a pcap file of a modified format");
}

#[test]
fn errors_say_where() {
    let good = pcap(false, 0xa1b2_c3d4, 1, &SAMPLES);
    let error = read_all(&good[..good.len() - 2]).unwrap_err();
    assert_eq!(error.to_string(), "cut short at byte 63, after 1 packets: 2 more bytes expected");
    let long = pcap(false, 0xa1b2_c3d4, 1, &[]);
    let long = [long, vec![0; 8], word(LONG, false).to_vec(), vec![0; 4]].concat();
    let error = read_all(&long).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad length of a packet at byte 24, after 0 packets; expected at most 16 MiB"
    );
    let nobody = [section(false), enhanced(false, 0, 7, 4, b"abcd")].concat();
    let error = read_all(&nobody).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad interface of a packet at byte 28, after 0 packets; expected one that was described"
    );
    let mut torn = [section(false), interface(false, 1, 0, &[])].concat();
    let end = torn.len();
    torn[end - 4] ^= 1;
    assert!(read_all(&torn).unwrap_err().to_string().contains("end of a block"));
    let fast = [section(false), interface(false, 1, 0, &option(9, false, &[20]))].concat();
    assert!(read_all(&fast).unwrap_err().to_string().contains("time resolution"));
}

const LONG: u32 = (16 << 20) + 1;

#[test]
fn a_file_that_ends_anywhere_is_cut_short_or_whole() {
    let files = [
        pcap(true, 0xa1b2_3c4d, 1, &SAMPLES),
        [
            section(true),
            interface(true, 1, 0, &[]),
            enhanced(true, 0, 7, 4, b"abcd"),
            enhanced(true, 0, 8, 1, b"x"),
        ]
        .concat(),
    ];
    for file in files {
        for end in 0..file.len() {
            match read_all(&file[..end]) {
                Ok(packets) => assert!(packets.len() < 2),
                Err(CaptureError::CutShort { at, .. }) => assert_eq!(at, end as u64),
                Err(CaptureError::NoCapture { found }) => assert!(end < 24, "{found} at {end}"),
                Err(other) => panic!("{other} at {end}"),
            }
        }
        assert_eq!(read_all(&file).unwrap().len(), 2);
    }
}

/// An IPv4 header and nothing else.
const IP: &[u8] = &[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2, 192, 0, 2, 1];

fn carries_ip(link: LinkType, header: &[u8]) -> Seen<'static> {
    let data = [header, IP].concat();
    let seen = read(link, data.leak()).unwrap();
    assert_eq!((seen.carries, seen.body), (Layer::Type(0x0800), IP), "{link:?}");
    seen
}

#[test]
fn link_layers_lead_to_the_ip_packet() {
    let macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let seen = carries_ip(LinkType::ETHERNET, &[&macs[..], &[8, 0]].concat());
    assert_eq!((seen.macs, seen.group, seen.tags), (Some(macs), false, 0));
    let tagged =
        carries_ip(LinkType::ETHERNET, &[&macs[..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0]].concat());
    assert_eq!(tagged.tags, 2);
    let group = carries_ip(LinkType::ETHERNET, &[&[0xff; 6][..], &macs[6..], &[8, 0]].concat());
    assert!(group.group);
    carries_ip(LinkType::RAW, &[]);
    carries_ip(LinkType::IPV4, &[]);
    carries_ip(LinkType::NULL, &[2, 0, 0, 0]);
    carries_ip(LinkType::NULL, &[0, 0, 0, 2]);
    carries_ip(LinkType::LOOP, &[0, 0, 0, 2]);
    let sll = |kind: u8| [&[0, kind, 0, 1, 0, 6][..], &[0; 8], &[8, 0]].concat();
    assert!(!carries_ip(LinkType::LINUX_SLL, &sll(4)).group);
    assert!(carries_ip(LinkType::LINUX_SLL, &sll(1)).group);
    let sll2 = |kind: u8| [&[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, kind, 6][..], &[0; 8]].concat();
    assert!(!carries_ip(LinkType::LINUX_SLL2, &sll2(0)).group);
    assert!(carries_ip(LinkType::LINUX_SLL2, &sll2(2)).group);
}

#[test]
fn what_is_not_ip_says_so() {
    let carries = |link, data: &'static [u8]| read(link, data).map(|seen| seen.carries);
    assert_eq!(carries(LinkType::RAW, &[0x60, 0]), Ok(Layer::Type(0x86dd)));
    assert_eq!(carries(LinkType::NULL, &[30, 0, 0, 0]), Ok(Layer::Type(0x86dd)));
    assert_eq!(carries(LinkType::NULL, &[7, 0, 0, 0]), Ok(Layer::Other));
    assert_eq!(carries(LinkType::ETHERNET, &[0; 14]), Ok(Layer::Other), "a length: IEEE 802.3");
    assert_eq!(carries(LinkType::ETHERNET, &[0; 13]), Err(NoLink::Short));
    assert_eq!(
        carries(LinkType::ETHERNET, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0]),
        Err(NoLink::Short)
    );
    assert_eq!(carries(LinkType::RAW, &[]), Err(NoLink::Short));
    assert_eq!(carries(LinkType(127), &[0; 64]), Err(NoLink::Unknown));
}

proptest! {
    /// Whatever a file holds: packets or an error, and never more packets than bytes.
    #[test]
    fn garbage_is_read_to_its_end_or_refused(
        start in prop_oneof![
            Just(pcap(false, 0xa1b2_c3d4, 1, &[])),
            Just(pcap(true, 0xa1b2_3c4d, 276, &SAMPLES)),
            Just([section(false), interface(false, 1, 0, &[])].concat()),
            Just([section(true), interface(true, 113, 9, &[])].concat()),
            Just(Vec::new()),
        ],
        kinds in proptest::collection::vec((0u32..8, proptest::collection::vec(any::<u8>(), 0..64)), 0..8),
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let big = start.first() == Some(&0xa1) || start.get(8) == Some(&0x1a);
        let blocks = kinds.iter().flat_map(|(kind, body)| block(*kind, big, body));
        let file: Vec<u8> = start.iter().copied().chain(blocks).chain(garbage.iter().copied()).collect();
        let Ok(mut capture) = Capture::open(&file[..]) else { return Ok(()) };
        let mut packet = Packet::default();
        let mut packets = 0;
        while matches!(capture.next(&mut packet), Ok(true)) {
            packets += 1;
            prop_assert!(packets <= file.len());
            let _ = read(packet.link, &packet.data);
        }
    }

    #[test]
    fn no_link_layer_panics_on_any_bytes(
        link in prop_oneof![Just(0u16), Just(1), Just(12), Just(101), Just(108), Just(113), Just(228), Just(229), Just(276), any::<u16>()],
        data in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        if let Ok(seen) = read(LinkType(link), &data) {
            prop_assert!(data.ends_with(seen.body));
        }
    }
}
