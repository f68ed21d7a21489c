//! Scripted exchanges with the stream engine about links further on that take no segments as long as it makes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use alg::Side::{Initiator, Responder};
use dataplane::stream::segment::flags::{ACK, FIN, PSH};
use dataplane::stream::segment::{Limits, Options};
use dataplane::stream::{Narrowed, TooLong};
use streams::gate::{Out, segment};
use streams::wire::*;

/// A connection with long segments, on which the client has said 1,457 bytes and that it closes, and so many left in one
/// segment. The first 102 of them were acknowledged while their message was held.
fn long() -> Wire {
    let mut w = Wire::with(Options { mss: Some(1_460), ..Options::default() }, Limits::default());
    let more: Vec<_> = (0..300_u16).flat_map(|i| [PASS, 2, i as u8, (i >> 8) as u8]).collect();
    let said = [&[KEEP, 255][..], &[b'k'; 255], &more].concat();
    let out = w.client(0, &said[..102]);
    assert_eq!(acks(&out, Initiator), [c(102)]);
    let out = w.gate.step(&segment(Initiator, c(102), S, ACK | PSH | FIN, &said[102..]));
    assert!(bytes(&out, Responder) == [(c(0), said)]);
    w
}

/// A router says that a segment of the client's at an offset, so long, was too long for its link.
fn too_long(w: &mut Wire, offset: u32, len: u16, room: u16) -> (Narrowed, Vec<Out>) {
    w.gate.narrow(Initiator, &TooLong { seq: c(offset), len, room })
}

/// Where the segments that leave for the server begin, and how long they are.
fn lengths(outs: &[Out]) -> Vec<(u32, usize)> {
    bytes(outs, Responder).iter().map(|(seq, b)| (seq.wrapping_sub(C), b.len())).collect()
}

/// Its sender cannot do it: some of it was acknowledged (RFC 1191 §6.4, §6.5).
#[test]
fn what_is_too_long_for_a_link_further_on_leaves_again_in_shorter_segments() {
    let mut w = long();
    let (whose, out) = too_long(&mut w, 0, 1_457, 1_260);
    assert_eq!((whose, lengths(&out)), (Narrowed::Theirs, vec![(0, 1_260), (1_260, 197)]));
    assert_eq!([out[0].has(FIN), out[1].has(FIN)], [false, true], "the end comes again as well");
    let again = bytes(&out, Responder).into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert!(again == w.gate.decided[0]);
    // Others that were on their way were too long as well. They were sent again with the first.
    assert_eq!(too_long(&mut w, 0, 1_457, 1_260), (Narrowed::Theirs, vec![]));
    assert_eq!(too_long(&mut w, 600, 800, 1_300), (Narrowed::Theirs, vec![]), "nor is a wider one news");
    assert_eq!((w.gate.tally.narrowed, w.gate.tally.repeated), (1, 1));
    // Whatever leaves from then on fits.
    w.gate.now = 60_000;
    w.gate.tick();
    w.gate.now = 120_000;
    assert_eq!(lengths(&w.gate.tick()), [(0, 1_260), (1_260, 197)]);
    // The other direction is another way.
    let out = w.gate.step(&segment(Responder, S, c(1_458), ACK, &[PASS, 0].repeat(700)));
    assert_eq!(bytes(&out, Initiator).iter().map(|b| b.1.len()).collect::<Vec<_>>(), [1_400]);
}

/// RFC 5927 §4.1, §7: who does not see the flow has to guess what is on its way.
#[test]
fn an_error_about_what_is_not_on_its_way_is_not_believed() {
    let mut w = long();
    for offset in [u32::MAX, 1_458, 1_459, 1 << 30, 1 << 31] {
        assert_eq!(too_long(&mut w, offset, 1_457, 600), (Narrowed::Unknown, vec![]), "at {offset}");
    }
    w.server_acks(100);
    assert_eq!(too_long(&mut w, 0, 1_457, 600), (Narrowed::Unknown, vec![]), "it has arrived");
    w.gate.now = 60_000;
    w.gate.tick();
    w.gate.now = 120_000;
    assert_eq!(lengths(&w.gate.tick()), [(100, 1_357)], "as long as before");
    w.server_acks(1_458);
    for offset in [100, 1_457, 1_458] {
        assert_eq!(too_long(&mut w, offset, 1_457, 600), (Narrowed::Unknown, vec![]), "all has arrived");
    }
    assert_eq!(w.gate.tally.narrowed, 0);
}

/// Nor does one that guesses right make a flow crawl, or the gateway repeat for ever.
#[test]
fn segments_become_no_shorter_than_any_end_takes_and_not_by_a_byte_each_time() {
    let mut w = long();
    let (_, out) = too_long(&mut w, 0, 1_457, 0);
    assert_eq!(lengths(&out), [(0, 536), (536, 536), (1_072, 385)]);
    assert_eq!(too_long(&mut w, 0, 536, 28).1, []);
    let mut w = long();
    let times = (500..1_457).rev().filter(|room| !too_long(&mut w, 0, 1_457, *room).1.is_empty());
    assert_eq!(times.count(), 8);
    w.gate.now = 60_000;
    w.gate.tick();
    w.gate.now = 120_000;
    assert_eq!(lengths(&w.gate.tick())[0], (0, 536));
}

#[test]
fn an_error_about_what_only_the_engine_has_is_not_for_its_sender() {
    let mut w = Wire::with(Options { mss: Some(256), ..Options::default() }, Limits::default());
    let said = [&[KEEP, 255][..], &[b'k'; 255]].concat();
    w.client(0, &said[..256]);
    assert_eq!(lengths(&w.client(256, &said[256..])), [(0, 256), (256, 1)]);
    assert_eq!(too_long(&mut w, 0, 256, 1_260).0, Narrowed::Ours);
    assert_eq!(
        too_long(&mut w, 0, 257, 1_260).0,
        Narrowed::Theirs,
        "its last byte can be repeated by its sender"
    );
    assert_eq!(too_long(&mut w, 256, 1, 1_260).0, Narrowed::Theirs);
}

/// What passes with its own payload is its sender's to make shorter.
#[test]
fn an_error_about_a_stream_that_passes_is_for_its_sender() {
    let mut w = Wire::with(Options { mss: Some(1_460), ..Options::default() }, Limits::default());
    w.client(0, &[GROW, 1, b'a']);
    w.gate.stream.set_blind();
    w.server_acks(4);
    let out = w.client(3, &[b'x'; 1_400]);
    assert_eq!(lengths(&out), [(4, 1_400)]);
    assert_eq!(too_long(&mut w, 4, 1_400, 1_260), (Narrowed::Theirs, vec![]));
    assert_eq!(too_long(&mut w, 3, 1_400, 1_260), (Narrowed::Unknown, vec![]));
}
