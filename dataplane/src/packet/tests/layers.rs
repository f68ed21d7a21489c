//! Layers of frames, and checksums filled in as a device would.

use super::*;
use crate::key::Protocol;
use crate::packet::{Layers, build, layers};

fn tcp(payload: &[u8]) -> Vec<u8> {
    build::tcp(&ends(), &build::Tcp { options: &[1, 1, 1, 1], ..build::Tcp::default() }, payload)
}

/// The same with a tag.
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat()
}

#[test]
fn headers_are_found_behind_a_tag_too() {
    let (frame, udp) = (tcp(b"abc"), build::udp(&ends(), 1, 2, b"xyz"));
    let of = |frame: &[u8]| Layers::of(frame).map(|l| (l.l2, l.l3, l.l4, l.protocol, l.headers()));
    assert_eq!(of(&frame), Some((14, 20, 24, Protocol::Tcp, 58)));
    assert_eq!(of(&tagged(&frame)), Some((18, 20, 24, Protocol::Tcp, 62)));
    assert_eq!(of(&udp), Some((14, 20, 8, Protocol::Udp, 42)));
    assert_eq!(of(&frame[..58]), of(&frame), "the headers are enough");
    assert_eq!(of(&frame[..57]), None);
}

#[test]
fn what_has_no_such_checksum_has_no_layers() {
    let mut fragment = tcp(b"abc");
    fragment[20] = 0x20;
    let mut short = build::udp(&ends(), 1, 2, b"xyz");
    short[38..40].copy_from_slice(&[0, 7]);
    let mut long = short.clone();
    long[38..40].copy_from_slice(&[0, 12]);
    let arp = build::arp_request([2; 6], ends().source, ends().destination);
    let doubly = tagged(&tagged(&tcp(b"")));
    let echo = build::echo_request(&ends(), 1, 1, b"x");
    for frame in [fragment, short, long, arp, doubly, echo, Vec::new()] {
        assert_eq!(Layers::of(&frame), None, "{frame:02x?}");
        assert!(!layers::fill(&mut frame.clone()));
    }
}

#[test]
fn a_device_that_adds_up_the_rest_comes_to_the_checksum() {
    for frame in [tcp(b"an odd number"), build::udp(&ends(), 1, 2, b"even")] {
        for frame in [tagged(&frame), frame] {
            let layers = Layers::of(&frame).unwrap();
            let mut left = frame.clone();
            assert!(layers.put_pseudo(&mut left));
            let at = layers.l2 + layers.l3;
            let sum = !checksum::sum(&left[at..]);
            let field = at + checksum::offset(layers.protocol);
            assert_eq!(frame[field..field + 2], sum.to_be_bytes());
            let mut to_cut = left.clone();
            assert!(layers.put_pseudo_to_cut(&mut to_cut));
            // The device adds what it needs of each segment: here, of the only one.
            let length = u16::try_from(frame.len() - at).unwrap();
            let known = u16::from_be_bytes([to_cut[field], to_cut[field + 1]]);
            assert_eq!(checksum::join(known, length).to_be_bytes(), left[field..field + 2]);
            assert_eq!(to_cut[layers.l2 + 10..layers.l2 + 12], [0, 0]);
            left[field] ^= 0x55;
            assert!(layers::fill(&mut left));
            assert_eq!(left, frame);
        }
    }
}
