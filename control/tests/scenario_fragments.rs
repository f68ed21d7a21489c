//! Fragments through the gateway: put together, translated, read, and cut again to what the egress takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::packet::{build, checksum};
use dataplane::reassembly::{DATAGRAMS, FRAGMENTS, PER_SOURCE};
use proptest::prelude::*;
use scenario::fragments::{identified, join, piece, split};
use scenario::gateway::MODES;
use scenario::*;
use std::net::Ipv4Addr;

const FRAGMENT_TIMEOUT: u32 = 3_000;

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n / 8) as u8 ^ seed).collect()
}

/// Everything that left through an interface, as frames.
fn sent(gw: &mut Gateway, interface: usize) -> Vec<Vec<u8>> {
    use dataplane::buf::PacketBuf;
    std::iter::from_fn(|| gw.recv_raw(interface)).map(|buf| buf.bytes().to_vec()).collect()
}

fn feed(gw: &mut Gateway, interface: usize, frames: &[Vec<u8>]) {
    for frame in frames {
        gw.inject(interface, frame);
    }
    gw.run();
}

/// A datagram in fragments from the client to the server and back, through source NAT: 5,000 bytes on links of 1,500.
/// Each fragment arrives before the next is sent, so that a repeated one comes before the last.
fn there_and_back(gw: &mut Gateway, arrange: impl Fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>) {
    let payload = bytes(5_000, 1);
    let out = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &payload), 777);
    arrange(split(&out, 1_480)).into_iter().for_each(|piece| feed(gw, INSIDE, &[piece]));
    let left = sent(gw, OUTSIDE);
    assert_eq!(left.len(), 4, "drops: {:?}", gw.drops());
    let whole = join(&left, 1_500);
    assert_eq!(whole[18..20], 777_u16.to_be_bytes(), "the identification stays");
    let seen = Seen::read(OUTSIDE, &whole);
    assert_eq!((seen.source.0, seen.destination, seen.ttl), (GW_OUTSIDE, (SERVER.addr, 53), 63));
    assert_eq!(seen.payload, payload);
    let answer = bytes(3_000, 2);
    let back = identified(build::udp(&SERVER.to(GW_OUTSIDE), 53, seen.source.1, &answer), 9);
    arrange(split(&back, 1_000)).into_iter().for_each(|piece| feed(gw, OUTSIDE, &[piece]));
    let left = sent(gw, INSIDE);
    assert_eq!(left.len(), 4, "no longer than they came");
    let seen = Seen::read(INSIDE, &join(&left, 1_020));
    assert_eq!((seen.source, seen.destination), ((SERVER.addr, 53), (CLIENT.addr, 5000)));
    assert_eq!(seen.payload, answer);
    gw.assert_silent();
}

#[test]
fn in_any_order_and_repeated() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        there_and_back(&mut gw, |pieces| pieces);
        assert_eq!(gw.session().packets, [1, 1]);
        there_and_back(&mut gw, |pieces| pieces.into_iter().rev().collect());
        assert_eq!(gw.drops(), [].into());
        // All but the last twice: whoever repeats the last begins another datagram.
        there_and_back(&mut gw, |pieces| {
            let (last, others) = pieces.split_last().unwrap();
            others.iter().chain(others).chain([last]).cloned().collect()
        });
        assert_eq!(gw.drops(), [("fragment-duplicate", 6)].into());
        let joined = [Counter::DatagramsReassembled, Counter::FragmentsJoined, Counter::FragmentsMade];
        assert_eq!(joined.map(|c| gw.count(c)), [6, 24, 24]);
        gw.assert_balance(0);
        gw.drain();
    });
}

/// Whichever worker each fragment comes in at.
#[test]
fn spread_over_workers() {
    for mode in MODES.into_iter().filter(|mode| mode.workers > 1) {
        for first in 0..2 {
            let mut gw = Gateway::new(mode, &standard());
            let frame = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &bytes(6_000, 3)), 5);
            for (n, piece) in split(&frame, 1_480).iter().enumerate() {
                gw.inject_at(INSIDE, (first + n) % 2, piece);
            }
            gw.run();
            let left = sent(&mut gw, OUTSIDE);
            assert_eq!(Seen::read(OUTSIDE, &join(&left, 1_500)).payload, bytes(6_000, 3));
            gw.assert_balance(0);
            gw.drain();
        }
    }
}

#[test]
fn two_datagrams_at_once_do_not_mix() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let frames: Vec<_> = [(1, CLIENT), (2, CLIENT), (1, CLIENT2)]
            .into_iter()
            .map(|(id, host)| {
                let payload = bytes(4_000, id as u8 ^ host.addr.octets()[3]);
                split(&identified(build::udp(&host.to(SERVER.addr), 5000, 53, &payload), id), 1_480)
            })
            .collect();
        for n in 0..3 {
            let pieces: Vec<_> = frames.iter().map(|pieces| pieces[n].clone()).collect();
            feed(&mut gw, INSIDE, &pieces);
        }
        let left = sent(&mut gw, OUTSIDE);
        let mut seen: Vec<_> =
            left.chunks(3).map(|three| Seen::read(OUTSIDE, &join(three, 1_500)).payload).collect();
        let mut expected = [(1, 2), (2, 2), (1, 3)].map(|(id, host)| bytes(4_000, id ^ host)).to_vec();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
        // What comes from another zone completes nothing.
        feed(
            &mut gw,
            INSIDE,
            &split(&identified(build::udp(&CLIENT.to(SERVER.addr), 1, 2, &[1; 2_000]), 9), 1_480)[..1],
        );
        let forged = Host { interface: DMZ, ..CLIENT };
        feed(
            &mut gw,
            DMZ,
            &split(&identified(build::udp(&forged.to(SERVER.addr), 1, 2, &[1; 2_000]), 9), 1_480)[1..],
        );
        gw.assert_silent();
        gw.advance(FRAGMENT_TIMEOUT);
        assert_eq!(gw.drops(), [("fragment-timeout", 2)].into());
        gw.drain();
    });
}

#[test]
fn echo_and_tcp_too() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let ping = identified(build::echo_request(&CLIENT.to(SERVER.addr), 7, 1, &bytes(4_000, 4)), 1);
        feed(&mut gw, INSIDE, &split(&ping, 1_480));
        let seen = Seen::read(OUTSIDE, &join(&sent(&mut gw, OUTSIDE), 1_500));
        assert_eq!((seen.source.0, seen.payload.len()), (GW_OUTSIDE, 4_000));
        // The longest that there is, and to the gateway itself.
        let ping = identified(build::echo_request(&CLIENT.to(GW_INSIDE), 7, 1, &bytes(65_507, 5)), 2);
        feed(&mut gw, INSIDE, &split(&ping, 1_480));
        let left = sent(&mut gw, INSIDE);
        assert_eq!(left.len(), 45);
        let seen = Seen::read(INSIDE, &join(&left, 1_500));
        assert_eq!((seen.icmp.unwrap().0, seen.payload), (0, bytes(65_507, 5)));
        let mut pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
        let _ = &mut pair;
        let segment = pair.frame(alg::Side::Initiator, dataplane::packet::flag::ACK, &bytes(1_400, 6));
        feed(&mut gw, INSIDE, &split(&identified(segment, 3), 400));
        let seen = Seen::read(OUTSIDE, &join(&sent(&mut gw, OUTSIDE), 576));
        assert_eq!(seen.payload, bytes(1_400, 6));
        assert_eq!(gw.drops(), [].into());
        gw.assert_balance(0);
        gw.drain();
    });
}

/// One that is too long for its egress: in fragments, unless its sender forbids it.
#[test]
fn to_a_narrower_link() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let frame = build::udp(&CLIENT.to(DMZ_HOST.addr), 5000, 53, &bytes(1_450, 7));
        feed(&mut gw, INSIDE, &[identified(frame.clone(), 3)]);
        let left = sent(&mut gw, DMZ);
        assert_eq!((left.len(), left[0].len()), (2, 14 + 20 + 1_376));
        assert_eq!(Seen::read(DMZ, &join(&left, 1_400)).payload, bytes(1_450, 7));
        let error = gw.pass(INSIDE, &frame, INSIDE);
        assert_eq!(error.icmp, Some((3, 4, 1400)));
        // Fragments of which the sender forbids more: what was no longer than the link passes as it came, and still forbids it.
        let mut fragments = frame.clone();
        fragments[18..20].copy_from_slice(&[0, 4]);
        assert!(checksum::ipv4_fill(&mut fragments[14..34]));
        feed(&mut gw, INSIDE, &split(&fragments, 1_000));
        let left = sent(&mut gw, DMZ);
        assert!(left.iter().all(|frame| frame[20] & 0x40 != 0 && frame.len() <= 14 + 1_020));
        assert_eq!(Seen::read(DMZ, &join(&left, 1_020)).payload, bytes(1_450, 7));
        feed(&mut gw, INSIDE, &split(&fragments, 1_400));
        let error = gw.recv(INSIDE).unwrap();
        assert_eq!((error.icmp, error.destination.0), (Some((3, 4, 1400)), CLIENT.addr));
        gw.assert_silent();
        assert_eq!(gw.drops(), [("fragmentation-needed", 2)].into());
        gw.assert_balance(0);
        gw.drain();
    });
}

/// A datagram waits for its neighbour as a whole, and a long one does not wait, but asks.
#[test]
fn to_a_neighbour_that_is_not_known_yet() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let known = build::arp_reply(STRANGER.mac, STRANGER.addr, gateway_mac(OUTSIDE), GW_OUTSIDE);
        for (len, waits) in [(5_000, true), (20_000, false)] {
            let frame = identified(build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, &bytes(len, 8)), 3);
            feed(&mut gw, INSIDE, &split(&frame, 1_480));
            let mut asked = sent(&mut gw, OUTSIDE);
            assert_eq!(asked.pop().map(|frame| frame[12..14].to_vec()), Some(vec![8, 6]), "ARP");
            assert!(asked.is_empty());
            feed(&mut gw, OUTSIDE, std::slice::from_ref(&known));
            gw.advance_by(20, 5);
            let left = sent(&mut gw, OUTSIDE);
            if waits {
                assert_eq!(Seen::read(OUTSIDE, &join(&left, 1_500)).payload, bytes(len, 8));
                gw = Gateway::new(mode, &standard());
                continue;
            }
            assert_eq!((left.len(), gw.drops()), (0, [("neighbor-pending", 1)].into()));
            feed(&mut gw, INSIDE, &split(&frame, 1_480));
            assert_eq!(Seen::read(OUTSIDE, &join(&sent(&mut gw, OUTSIDE), 1_500)).payload, bytes(len, 8));
        }
        gw.assert_balance(0);
    });
}

#[test]
fn one_that_never_comes() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let frame = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &bytes(5_000, 1)), 3);
        let pieces = split(&frame, 1_480);
        for missing in 0..pieces.len() {
            let mut some = pieces.clone();
            some.remove(missing);
            feed(&mut gw, INSIDE, &some);
            gw.advance(FRAGMENT_TIMEOUT - 250);
            assert_eq!(gw.dropped(DropReason::FragmentTimeout), 3 * missing as u64);
            gw.advance(250);
            assert_eq!(gw.drops(), [("fragment-timeout", 3 * (missing as u64 + 1))].into());
            // Too late: alone it is nothing.
            feed(&mut gw, INSIDE, &pieces[missing..=missing]);
            gw.assert_silent();
            gw.advance(FRAGMENT_TIMEOUT);
            gw.reload(
                &[&standard().replace("[timeouts]", "[timeouts]\nfragment_timeout = 0.5"), ""].concat(),
            );
            feed(&mut gw, INSIDE, &some);
            gw.advance(500);
            let drops = gw.drops();
            gw = Gateway::new(mode, &standard());
            assert_eq!(drops, [("fragment-timeout", 3 * missing as u64 + 7)].into(), "the timeout is hot");
            for _ in 0..=missing {
                feed(&mut gw, INSIDE, &some);
                gw.advance(FRAGMENT_TIMEOUT);
            }
        }
        gw.assert_balance(0);
        gw.drain();
    });
}

/// Teardrop and its like (RFC 5722): all of the datagram goes, and what comes of it later.
#[test]
fn overlaps_spoil_the_datagram() {
    each_mode(|mode| {
        let frame = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &bytes(2_992, 1)), 3);
        for bad in [
            piece(&frame, 992, 2_000, true),
            piece(&frame, 0, 1_008, true),
            piece(&frame, 8, 16, true),
            // A second end, bytes behind the end, and an end before bytes that are there.
            piece(&frame, 2_000, 2_992, false),
            piece(&frame, 2_992, 3_000, true),
            piece(&frame, 1_000, 1_500, false),
            // The place of the last, and it says that others follow.
            piece(&frame, 2_000, 3_000, true),
        ] {
            let mut gw = Gateway::new(mode, &standard());
            let pieces = split(&frame, 1_000);
            feed(&mut gw, INSIDE, &[pieces[0].clone(), pieces[2].clone(), bad]);
            assert_eq!(gw.drops(), [("fragment-overlap", 3)].into());
            feed(&mut gw, INSIDE, &pieces);
            gw.assert_silent();
            assert_eq!(gw.drops(), [("fragment-overlap", 6)].into());
            gw.advance(FRAGMENT_TIMEOUT);
            feed(&mut gw, INSIDE, &pieces);
            assert_eq!(sent(&mut gw, OUTSIDE).len(), 3, "another datagram of that identification");
            gw.assert_balance(0);
            gw.drain();
        }
    });
}

#[test]
fn more_fragments_than_a_datagram_may_have() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let fits = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &bytes(FRAGMENTS * 8 - 8, 1)), 3);
        feed(&mut gw, INSIDE, &split(&fits, 8));
        assert_eq!(sent(&mut gw, OUTSIDE).len(), 1, "it fits what every host takes whole");
        let more = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &bytes(FRAGMENTS * 8, 1)), 4);
        feed(&mut gw, INSIDE, &split(&more, 8));
        gw.assert_silent();
        assert_eq!(gw.drops(), [("fragment-too-many", FRAGMENTS as u64 + 1)].into());
        gw.assert_balance(0);
        gw.drain();
    });
}

/// RFC 3168 §5.3.
#[test]
fn congestion_is_kept_and_contradictions_are_not() {
    each_mode(|mode| {
        let frame = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &bytes(2_000, 1)), 3);
        let marked = |fields: [u8; 2]| {
            let mut pieces = split(&frame, 1_200);
            for (piece, field) in pieces.iter_mut().zip(fields) {
                piece[15] = 0xb8 | field;
                assert!(checksum::ipv4_fill(&mut piece[14..34]));
            }
            pieces
        };
        let mut gw = Gateway::new(mode, &standard());
        for (fields, whole) in [([2, 2], 2), ([2, 3], 3), ([3, 1], 3), ([0, 0], 0), ([0, 2], 0)] {
            feed(&mut gw, INSIDE, &marked(fields));
            let left = sent(&mut gw, OUTSIDE);
            assert_eq!(left.iter().map(|f| f[15]).collect::<Vec<_>>(), [0xb8 | whole; 2], "{fields:?}");
        }
        feed(&mut gw, INSIDE, &marked([3, 0]));
        gw.assert_silent();
        assert_eq!(gw.drops(), [("fragment-ecn", 2)].into());
        gw.assert_balance(0);
        gw.drain();
    });
}

/// Beginnings from everywhere, and no ends: who sends all of a datagram at once gets it through all the same.
#[test]
fn a_flood_of_beginnings_stops_nobody() {
    let mut gw = Gateway::new(MODES[0], &standard());
    let begin = |gw: &mut Gateway, host: Host, id: u16| {
        let frame = identified(build::udp(&host.to(SERVER.addr), 5000, 53, &bytes(2_000, 1)), id);
        feed(gw, INSIDE, &split(&frame, 1_480)[..1]);
    };
    for id in 0..PER_SOURCE + 20 {
        begin(&mut gw, CLIENT2, id);
    }
    assert_eq!(gw.drops(), [("fragment-source-limit", 20)].into());
    for n in 0..DATAGRAMS * 2 {
        let addr = Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 5).to_bits() + u32::from(n % 250));
        begin(&mut gw, Host { addr, ..CLIENT2 }, 1_000 + n);
    }
    assert_eq!(gw.dropped(DropReason::FragmentTableFull), u64::from(DATAGRAMS + PER_SOURCE));
    there_and_back(&mut gw, |pieces| pieces);
    gw.advance(FRAGMENT_TIMEOUT);
    gw.assert_balance(0);
    gw.drain();
}

const SIP: &str = r#"
[[rule]]
name = "calls"
from = "trust"
to = "untrust"
service = "sip"
action = "allow"
"#;

fn invite(filling: usize) -> String {
    let body = "v=0\r\no=alice 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n";
    format!(
        "INVITE sip:bob@198.51.100.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@10.1.0.2>;tag=1\r\nTo: <sip:bob@198.51.100.2>\r\nCall-ID: one@10.1.0.2\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@10.1.0.2:5060>\r\nX-Filling: {}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        "f".repeat(filling),
        body.len(),
    )
}

fn calls() -> String {
    [SMALL, SHORT, LINKS, NAT, SIP].concat()
}

/// An INVITE in fragments is read whole: translated within, its pinholes open.
#[test]
fn a_message_in_fragments_is_read_whole() {
    each_mode(|mode| {
        for turned in [false, true] {
            let mut gw = Gateway::new(mode, &calls());
            let frame =
                identified(build::udp(&CLIENT.to(SERVER.addr), 5060, 5060, invite(2_500).as_bytes()), 3);
            let mut pieces = split(&frame, 1_480);
            if turned {
                pieces.reverse();
            }
            feed(&mut gw, INSIDE, &pieces);
            let seen = Seen::read(OUTSIDE, &join(&sent(&mut gw, OUTSIDE), 1_500));
            let text = seen.text();
            assert!(!text.contains("Via: SIP/2.0/UDP 10.1.0.2"), "{text}");
            assert!(text.contains("c=IN IP4 198.51.100.1\r\n"), "{text}");
            assert!(text.contains(&"f".repeat(2_500)));
            assert!(!gw.expectations().is_empty(), "no pinhole for the media");
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// The gateway made it longer than the link takes: it leaves in fragments, though its sender forbade them.
#[test]
fn what_an_alg_made_longer_leaves_in_fragments() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &calls());
        let filling = 1_472 - invite(0).len();
        let message = invite(filling);
        assert_eq!(message.len(), 1_472);
        feed(&mut gw, INSIDE, &[build::udp(&CLIENT.to(SERVER.addr), 5060, 5060, message.as_bytes())]);
        let left = sent(&mut gw, OUTSIDE);
        assert_eq!(left.len(), 2, "drops: {:?}", gw.drops());
        let whole = join(&left, 1_500);
        assert_eq!(whole[20] & 0x40, 0);
        let seen = Seen::read(OUTSIDE, &whole);
        assert!(seen.payload.len() > 1_472 && seen.text().contains("c=IN IP4 198.51.100.1\r\n"));
        assert_eq!(gw.count(Counter::DatagramsFragmented), 1);
        gw.assert_balance(0);
        gw.drain_all();
    });
}

/// The same where the port's buffers have no room for it either.
#[test]
fn what_grows_out_of_its_buffer_moves_to_a_larger_one() {
    let sizes = Sizes { room: 1_520, ..Sizes::default() };
    let mut gw = Gateway::with(MODES[0], &calls(), sizes, scenario::kept::Kept::default());
    let message = invite(1_472 - invite(0).len());
    feed(&mut gw, INSIDE, &[build::udp(&CLIENT.to(SERVER.addr), 5060, 5060, message.as_bytes())]);
    let seen = Seen::read(OUTSIDE, &join(&sent(&mut gw, OUTSIDE), 1_500));
    assert!(seen.text().contains("c=IN IP4 198.51.100.1\r\n"));
    gw.assert_balance(0);
    gw.drain_all();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the fragments and their order, the same leaves as if the datagram had come in one piece.
    #[test]
    fn any_fragments_in_any_order_are_the_datagram(
        len in 1usize..12_000,
        size in 1usize..180,
        keys in proptest::collection::vec(any::<u16>(), FRAGMENTS),
        mode in 0usize..4,
    ) {
        let frame = identified(build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &bytes(len, 9)), 3);
        let mut pieces = split(&frame, size * 8);
        prop_assume!(pieces.len() <= FRAGMENTS);
        let mut order = keys.iter();
        pieces.sort_by_cached_key(|_| *order.next().unwrap());
        let mut gw = Gateway::new(MODES[mode], &standard());
        feed(&mut gw, INSIDE, &pieces);
        let seen = Seen::read(OUTSIDE, &join(&sent(&mut gw, OUTSIDE), 1_500));
        prop_assert_eq!(seen.payload, bytes(len, 9));
        prop_assert_eq!(gw.drops(), [].into());
        gw.assert_balance(0);
        gw.drain();
    }
}
