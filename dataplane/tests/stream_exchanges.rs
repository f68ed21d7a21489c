//! Scripted exchanges with the stream engine: what no stack of the property tests does on its own (SACK blocks, urgent data,
//! old timestamps, forged resets, a first copy that dies on the way), and each rule by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use alg::Side::{Initiator, Responder};
use dataplane::stream::chunk::{CHUNK, Pool};
use dataplane::stream::segment::flags::{ACK, FIN, SYN, URG};
use dataplane::stream::segment::{Arrival, Bound, Limits, Options, Refusal, Segment, Tally, Timestamp};
use streams::gate::{Gate, Out, segment};
use streams::wire::*;

#[test]
fn a_message_that_is_cut_is_held_and_acknowledged_on_behalf_of_its_receiver() {
    let mut w = Wire::new();
    for (at, byte) in [GROW, 3, b'a', b'b'].into_iter().enumerate() {
        let out = w.client(at as u32, &[byte]);
        assert_eq!(acks(&out, Initiator), [c(at as u32 + 1)], "Nagle goes on");
        assert!(bytes(&out, Responder).is_empty());
    }
    let out = w.client(4, b"c");
    assert_eq!(bytes(&out, Responder), [(c(0), vec![GROW, 3, b'a', b'b', b'c', b'a', b'b', b'c'])]);
    assert!(acks(&out, Initiator).is_empty(), "the receiver's own acknowledgement is on its way");
    assert_eq!(acks(&w.server_acks(8), Initiator), [c(5)]);
}

#[test]
fn nothing_is_acknowledged_beyond_what_the_receiver_has_and_the_unfinished_rest() {
    let mut w = Wire::new();
    // A whole message, and the beginning of one.
    let out = w.client(0, &[PASS, 1, b'x', GROW, 2]);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![PASS, 1, b'x'])]);
    assert!(acks(&out, Initiator).is_empty());
    // As long as the receiver has not all of the whole one, nothing of the rest is acknowledged.
    assert_eq!(acks(&w.server_acks(2), Initiator), [c(2)]);
    assert_eq!(acks(&w.server_acks(3), Initiator), [c(5)]);
    // What was told stays told.
    let out = w.client(5, b"yz");
    assert_eq!(bytes(&out, Responder), [(c(3), vec![GROW, 2, b'y', b'z', b'y', b'z'])]);
    assert_eq!(acks(&w.server_acks(3), Initiator), [c(5)], "never backwards");
    assert_eq!(acks(&w.server_acks(6), Initiator), [c(5)], "inside the edit: its start, or what was told");
    assert_eq!(acks(&w.server_acks(9), Initiator), [c(7)]);
}

#[test]
fn an_acknowledgement_is_never_held() {
    let mut w = Wire::new();
    let server = |w: &mut Wire| w.gate.step(&segment(Responder, S, C, ACK, &[PASS, 1, b'x']));
    assert_eq!(bytes(&server(&mut w), Initiator), [(S, vec![PASS, 1, b'x'])]);
    // The client's half message acknowledges it. The bytes stay, the acknowledgement goes on.
    let out = w.gate.step(&segment(Initiator, C, S + 3, ACK, &[GROW]));
    assert!(bytes(&out, Responder).is_empty());
    assert_eq!(acks(&out, Responder), [S + 3]);
    // The next byte says nothing new: the server must not count duplicates.
    let out = w.gate.step(&segment(Initiator, c(1), S + 3, ACK, &[2]));
    assert_eq!(acks(&out, Responder), [] as [u32; 0]);
}

#[test]
fn what_is_emitted_again_carries_the_latest_acknowledgement() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 1, b'a']);
    w.gate.step(&segment(Responder, S, C, ACK, &[PASS, 2, b'x', b'y']));
    w.gate.step(&segment(Initiator, c(3), S + 4, ACK, b""));
    // The client's first segment again, with the acknowledgement of then.
    let out = w.client(0, &[GROW, 1, b'a']);
    let again = out.iter().find(|o| !o.payload.is_empty()).unwrap();
    assert_eq!((again.seq, again.ack, again.payload.as_slice()), (c(0), S + 4, &[GROW, 1, b'a', b'a'][..]));
}

#[test]
fn the_first_copy_wins() {
    let mut w = Wire::new();
    // The first copy dies behind the gateway: its time to live was low. The second says something else.
    let out = w.client(0, &[PASS, 2, b'o', b'k']);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![PASS, 2, b'o', b'k'])]);
    let out = w.client(0, &[PASS, 2, b'n', b'o']);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![PASS, 2, b'o', b'k'])]);
    assert_eq!(w.gate.tally.conflicts, 1);
    // Held bytes likewise, and bytes behind a gap.
    w.client(4, &[GROW, 2, b'a']);
    w.client(6, b"b");
    w.client(9, b"X");
    let out = w.client(7, b"cPY");
    let want = [GROW, 2, b'a', b'c', b'a', b'c', b'P', b'X'];
    assert_eq!(bytes(&out, Responder)[0].1[..6], want[..6]);
    assert_eq!(w.gate.decided[0][10..], [] as [u8; 0], "P is the first byte of an unfinished message");
    assert_eq!(w.gate.tally.conflicts, 3);
}

#[test]
fn what_overlaps_bytes_behind_a_gap_does_not_change_them() {
    let mut w = Wire::new();
    w.client(4, b"cd");
    let out = w.client(0, &[PASS, 6, b'a', b'b', b'X', b'Y', b'e', b'f']);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![PASS, 6, b'a', b'b', b'c', b'd', b'e', b'f'])]);
    assert_eq!(w.gate.tally.conflicts, 1);
}

/// The attack: what an inspector reads is put together from other copies than what the receiver reads.
#[test]
fn pieces_behind_a_gap_that_contradict_each_other_are_counted_and_the_first_wins() {
    let mut w = Wire::new();
    w.client(4, b"cd");
    w.client(8, b"gh");
    assert!(w.gate.arrival == Arrival::Taken && w.gate.tally.conflicts == 0);
    // The same again, beyond either end of what is there, or in it.
    for (at, same) in [(4, &b"cd"[..]), (5, b"d"), (3, b"bcd"), (7, b"fgh"), (3, b"bcdefgh")] {
        w.client(at, same);
    }
    assert_eq!(w.gate.tally.conflicts, 0);
    for (n, (at, other)) in
        [(4, &b"X"[..]), (5, b"X"), (9, b"X"), (3, b"bcdX"), (7, b"XgX")].into_iter().enumerate()
    {
        w.client(at, other);
        assert_eq!(w.gate.tally.conflicts as usize, n + 1, "{other:?} at {at}");
    }
    let out = w.client(0, &[PASS, 8, b'a', b'X', b'X']);
    assert_eq!(bytes(&out, Responder), [(c(0), b"\0\x08abcdefgh".to_vec())]);
    assert_eq!(w.gate.tally.conflicts, 6);
}

/// What an edit has replaced is gone. Who repeats it says the same, or it is noticed all the same.
#[test]
fn a_repetition_of_what_was_edited_that_says_something_else_is_counted() {
    let mut w = Wire::new();
    let said = [PASS, 2, b'a', b'b', GROW, 3, b'x', b'y', b'z', PASS, 2, b'c', b'd'];
    w.client(0, &said);
    let left = b"\0\x02ab\x01\x03xyzxyz\0\x02cd";
    let mut conflicts = 0;
    for (start, stop) in [(0, 13), (0, 9), (6, 9), (4, 13), (7, 13), (6, 8), (9, 13)] {
        let mut again = said[start..stop].to_vec();
        w.client(start as u32, &again);
        assert_eq!(w.gate.tally.conflicts, conflicts, "the same from {start} to {stop}");
        for at in 0..again.len() {
            again[at] ^= 1;
            let out = w.client(start as u32, &again);
            again[at] ^= 1;
            // A part of what was replaced cannot be compared.
            let told = !(6..9).contains(&(start + at)) || (start <= 6 && stop >= 9);
            conflicts += u32::from(told);
            assert_eq!(
                w.gate.tally.conflicts,
                conflicts,
                "another byte at {} of {start} to {stop}",
                start + at
            );
            for (seq, bytes) in bytes(&out, Responder) {
                let from = seq.wrapping_sub(C) as usize;
                assert_eq!(left[from..from + bytes.len()], bytes, "the first copy goes on");
            }
        }
    }
}

#[test]
fn segments_out_of_order_wait_and_ask_for_what_is_missing() {
    let options = Options { sack_permitted: true, ..Options::default() };
    let mut w = Wire::with(options, Limits::default());
    let out = w.client(6, b"ef");
    assert!(bytes(&out, Responder).is_empty());
    let own = out.iter().find(|o| o.to == Initiator).unwrap();
    assert_eq!((own.ack, own.sack.as_slice()), (c(0), &[(c(6), c(8))][..]), "as a receiver would");
    w.client(2, b"ab");
    let out = w.client(4, b"cd");
    assert_eq!(out.iter().find(|o| o.to == Initiator).unwrap().sack, [(c(2), c(8))]);
    let out = w.client(0, &[PASS, 6]);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![PASS, 6, b'a', b'b', b'c', b'd', b'e', b'f'])]);
    assert_eq!(w.gate.tally.out_of_order, 3);
}

#[test]
fn sack_blocks_round_inward_and_never_name_what_is_held() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b', PASS, 2, b'x', b'y', GROW, 9]);
    // The server has: GROW 2 | abab | PASS 2 x y. Offsets 0..2, 2..6, 6..10.
    let map = |w: &Wire, l: u32, r: u32| w.gate.stream.map_sack(Responder, c(0), true, (c(l), c(r)));
    assert_eq!(map(&w, 6, 10), Some((c(4), c(8))));
    assert_eq!(map(&w, 3, 10), Some((c(4), c(8))), "the left edge goes to the end of the edit");
    assert_eq!(map(&w, 1, 5), Some((c(1), c(2))), "the right edge to its start");
    assert_eq!(map(&w, 3, 5), None);
    assert_eq!(map(&w, 6, 11), None, "nobody can have what was never sent");
    assert_eq!((map(&w, 10, 6), map(&w, 7, 7)), (None, None), "no block is empty");
}

#[test]
fn sack_blocks_of_what_was_acknowledged_on_behalf_go_no_further() {
    let mut w = Wire::new();
    w.client(0, &[PASS, 2, b'x', b'y']);
    w.server_acks(4);
    // The beginning of a message is held and acknowledged; whole, it leaves as 4..10.
    w.client(4, &[GROW, 2]);
    w.client(6, b"ab");
    w.client(8, &[PASS, 2, b'x', b'y']);
    let map = |w: &Wire, l: u32, r: u32| w.gate.stream.map_sack(Responder, c(4), true, (c(l), c(r)));
    assert_eq!(map(&w, 5, 6), None, "the client was told that 6 bytes have come: to it this is a duplicate");
    assert_eq!(map(&w, 10, 14), Some((c(8), c(12))));
}

/// Linux repeats its blocks of before beside the acknowledgement of a FIN that waited behind a gap. Only a first block may tell of
/// what is acknowledged as well, and then it tells of duplicates (RFC 2883 §4).
#[test]
fn sack_blocks_of_what_is_acknowledged_stand_first_or_go_no_further() {
    let mut w = Wire::new();
    w.client(0, &[PASS, 8, b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h']);
    w.client(10, &[PASS, 4, b'i', b'j', b'k', b'l']);
    w.server_acks(10);
    let map = |w: &Wire, ack: u32, first: bool, l: u32, r: u32| {
        w.gate.stream.map_sack(Responder, c(ack), first, (c(l), c(r)))
    };
    for (l, r) in [(2, 6), (2, 10), (0, 2)] {
        assert_eq!(map(&w, 10, true, l, r), Some((c(l), c(r))), "it has come twice");
        assert_eq!(map(&w, 10, false, l, r), None, "left over");
    }
    for first in [true, false] {
        assert_eq!(map(&w, 10, first, 12, 14), Some((c(12), c(14))));
        assert_eq!(map(&w, 10, first, 10, 14), None, "the byte before a block has not come");
        assert_eq!(map(&w, 10, first, 8, 14), None);
        // Its segment was overtaken. Beside the latest acknowledgement it would tell of duplicates.
        assert_eq!(map(&w, 2, first, 4, 8), None);
        assert_eq!(map(&w, 2, first, 4, 12), None);
        assert_eq!(map(&w, 2, first, 12, 14), Some((c(12), c(14))));
    }
    // Where edits have moved what lies before, nobody knows what has come twice; behind them it is known.
    w.server_acks(16);
    w.client(16, &[GROW, 1, b'm', PASS, 2, b'n', b'o']);
    w.server_acks(24);
    assert_eq!(map(&w, 24, true, 2, 6), None);
    assert_eq!(map(&w, 24, true, 19, 24), None);
    assert_eq!(map(&w, 24, true, 20, 24), Some((c(19), c(23))));
    // Also if one takes as much away as the other has added: between them all was moved.
    w.client(23, &[SHRINK, 2, b'p', b'q']);
    w.server_acks(27);
    assert_eq!(map(&w, 27, true, 20, 24), None);
    assert_eq!(map(&w, 27, true, 27, 27), None);
    w.client(27, &[PASS, 1, b'r']);
    w.server_acks(30);
    assert_eq!(map(&w, 30, true, 27, 30), Some((c(27), c(30))));
}

#[test]
fn the_urgent_pointer_moves_with_its_byte() {
    let mut w = Wire::new();
    // ABOR: the byte before the pointer is the urgent one. A grown message stands in front of it.
    let message = [GROW, 2, b'a', b'b', PASS, 2, 0xff, 0xf2];
    let urgent = Segment { urgent: 8, ..segment(Initiator, c(0), S, ACK | URG, &message) };
    let out = w.gate.step(&urgent);
    let [out] = &out[..] else { panic!("{out:?}") };
    assert!(out.has(URG));
    assert_eq!((out.urgent, out.payload.len()), (10, 10));
    // Held with its message, it leaves with it.
    let held = Segment { urgent: 2, ..segment(Initiator, c(8), S, ACK | URG, &[SHRINK, 2]) };
    assert!(bytes(&w.gate.step(&held), Responder).is_empty());
    w.server_acks(10);
    let out = w.client(10, b"ab");
    assert_eq!(
        (out[0].payload.as_slice(), out[0].urgent, out[0].has(URG)),
        (&[SHRINK, 2, b'a'][..], 2, true)
    );
    // Behind the pointer nothing is urgent.
    w.server_acks(13);
    assert!(!w.client(12, &[PASS, 0])[0].has(URG));
}

#[test]
fn a_repeated_segment_does_not_take_the_urgent_pointer_back() {
    let mut w = Wire::new();
    let say =
        |at: u32| Segment { urgent: 4, ..segment(Initiator, c(at), S, ACK | URG, &[PASS, 2, 0xff, 0xf2]) };
    assert_eq!(w.gate.step(&say(0))[0].urgent, 4);
    assert_eq!(w.gate.step(&say(4))[0].urgent, 4);
    let again = w.gate.step(&say(0));
    assert_eq!((again[0].payload.len(), again[0].urgent), (4, 8), "the newest pointer, from an older byte");
}

#[test]
fn what_is_urgent_in_an_edit_is_urgent_until_its_receiver_has_all_of_it() {
    let mut w = Wire::with(Options { mss: Some(4), ..Options::default() }, Limits::default());
    // The pointer stands between `a` and `b`, and what they became is one.
    let urgent = Segment { urgent: 3, ..segment(Initiator, c(0), S, ACK | URG, &[GROW, 2, b'a', b'b']) };
    let pointers = |outs: Vec<Out>| outs.iter().map(|o| (o.payload.len(), o.urgent)).collect::<Vec<_>>();
    assert_eq!(pointers(w.gate.step(&urgent)), [(4, 6), (2, 2)]);
    // The second of them is lost.
    w.server_acks(4);
    assert_eq!(pointers(w.client(2, b"ab")), [(2, 2)]);
    w.server_acks(6);
    assert_eq!(pointers(w.client(4, &[PASS, 0])), [(2, 0)]);
}

fn stamped(value: u32, echo: u32) -> Options {
    Options { timestamp: Some(Timestamp { value, echo }), len: 12, ..Options::default() }
}

#[test]
fn timestamps_are_the_newest_and_old_segments_are_not_read() {
    let mut w = Wire::with(stamped(100, 0), Limits::default());
    let client = |w: &mut Wire, at: u32, value: u32, payload: &[u8]| {
        w.gate.step(&Segment { options: stamped(value, 100), ..segment(Initiator, c(at), S, ACK, payload) })
    };
    // The own acknowledgement carries the server's last clock and echoes the client's.
    let out = client(&mut w, 0, 110, &[GROW, 2]);
    let own = out.iter().find(|o| o.to == Initiator).unwrap();
    assert_eq!(own.timestamp, Some(Timestamp { value: 100, echo: 110 }));
    // What was held leaves with the newest of its sender.
    let out = client(&mut w, 2, 120, b"ab");
    assert_eq!(out[0].timestamp, Some(Timestamp { value: 120, echo: 100 }));
    // PAWS: a segment from before is no news, whatever its number.
    let out = client(&mut w, 4, 90, &[PASS, 0]);
    assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Timestamp));
    assert!(bytes(&out, Responder).is_empty());
    assert_eq!(acks(&out, Initiator).len(), 1, "RFC 7323 §5.3: it is answered");
    // A repeated segment that was overtaken keeps its receiver's PAWS happy.
    let out = client(&mut w, 0, 120, &[GROW, 2, b'a', b'b']);
    assert_eq!(out[0].timestamp.map(|t| t.value), Some(120));
}

#[test]
fn a_window_of_zero_is_passed_on_and_probed() {
    let mut w = Wire::new();
    let closed = Segment { window: 0, ..segment(Responder, S, c(0), ACK, b"") };
    let out = w.gate.step(&closed);
    assert_eq!((out[0].to, out[0].window), (Initiator, 0));
    // The probe of the client goes on as one byte, and again as the same byte.
    for _ in 0..2 {
        assert_eq!(
            bytes(&w.client(0, &[PASS]), Responder),
            [] as [(u32, Vec<u8>); 0],
            "one byte is unfinished here"
        );
    }
    let out = w.client(1, &[3]);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![PASS])], "no more than one byte into a closed window");
    assert_eq!(bytes(&w.client(1, &[3]), Responder), [(c(0), vec![PASS])]);
    // Open again: the rest follows the acknowledgement.
    let out = w.gate.step(&Segment { window: 100, ..segment(Responder, S, c(0), ACK, b"") });
    assert_eq!(bytes(&out, Responder), [(c(1), vec![3])]);
}

#[test]
fn growth_waits_for_the_window_and_the_edge_never_goes_back() {
    let mut w = Wire::with_window(Options::default(), Limits::default(), 8);
    let window = |w: &mut Wire, ack: u32, window: u16| {
        w.gate.step(&Segment { window, ..segment(Responder, S, c(ack), ACK, b"") })
    };
    let out = window(&mut w, 0, 8);
    assert_eq!(out[0].window, 8);
    // The client fills it; what it grows by has no room at the server.
    let out = w.client(0, &[GROW, 6, b'a', b'b', b'c', b'd', b'e', b'f']);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![GROW, 6, b'a', b'b', b'c', b'd', b'e', b'f'])]);
    let out = window(&mut w, 8, 0);
    assert_eq!((acks(&out, Initiator), out[0].window), (vec![c(2)], 0));
    let out = window(&mut w, 8, 4);
    assert_eq!(bytes(&out, Responder), [(c(8), b"abcd".to_vec())]);
    let client = out.iter().find(|o| o.to == Initiator).unwrap();
    assert_eq!(client.ack.wrapping_add(u32::from(client.window)), c(8), "the edge that the client knows");
    let out = window(&mut w, 12, 10);
    assert_eq!(bytes(&out, Responder), [(c(12), b"ef".to_vec())]);
    let out = window(&mut w, 14, 10);
    assert_eq!((out[0].ack, out[0].window), (c(8), 10));
}

#[test]
fn a_message_longer_than_the_window_of_its_receiver_can_be_held() {
    let mut w = Wire::with_window(Options::default(), Limits::default(), 2);
    let out = w.gate.step(&Segment { window: 2, ..segment(Responder, S, c(0), ACK, b"") });
    assert_eq!(out[0].window, 2);
    let message = [GROW, 4, b'a', b'b', b'c', b'd'];
    for at in (0..6).step_by(2) {
        let out = w.client(at, &message[at as usize..at as usize + 2]);
        if at < 4 {
            let own = out.iter().find(|o| o.to == Initiator).unwrap();
            assert_eq!((own.ack, own.window), (c(at + 2), 2));
        } else {
            assert_eq!(bytes(&out, Responder), [(c(0), vec![GROW, 4])]);
        }
    }
}

#[test]
fn a_fin_waits_behind_what_is_missing_and_follows_what_is_held() {
    let mut w = Wire::new();
    let fin = |w: &mut Wire, at: u32, payload: &[u8]| {
        w.gate.step(&segment(Initiator, c(at), S, ACK | FIN, payload))
    };
    let out = fin(&mut w, 3, b"y");
    assert!(out.iter().all(|o| !o.has(FIN)), "the bytes before it are missing");
    let out = w.client(0, &[PASS, 2, b'x']);
    let last = out.last().unwrap();
    assert_eq!((last.payload.as_slice(), last.has(FIN)), (&[PASS, 2, b'x', b'y'][..], true));
    assert_eq!(acks(&w.server_acks(5), Initiator), [c(5)]);

    // Behind an unfinished message: nothing can finish it any more. It goes on as it is, and the FIN behind it.
    let mut w = Wire::new();
    assert!(bytes(&w.client(0, &[GROW, 9, b'a']), Responder).is_empty());
    let out = fin(&mut w, 3, b"");
    assert_eq!((out[0].payload.as_slice(), out[0].has(FIN)), (&[GROW, 9, b'a'][..], true));
    // Repeated, it is emitted again; and the acknowledgement of all but the FIN claims no FIN.
    let out = fin(&mut w, 3, b"");
    assert!(out.iter().any(|o| o.has(FIN)));
    assert_eq!(acks(&w.server_acks(3), Initiator), [c(3)]);
    assert_eq!(acks(&w.server_acks(4), Initiator), [c(4)]);
}

#[test]
fn keep_alives_are_answered_by_who_lives_and_their_garbage_is_not_read() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b', GROW]);
    w.server_acks(6);
    for garbage in [&b""[..], b"\0"] {
        let out = w.client(4, garbage);
        let [probe] = &out[..] else { panic!("{out:?}") };
        assert_eq!((probe.to, probe.seq, probe.payload.len()), (Responder, c(5), 0));
    }
    assert_eq!(w.gate.tally.conflicts, 0);
    // The server answers, and the client learns that all it sent has arrived, the unfinished byte too.
    assert_eq!(acks(&w.server_acks(6), Initiator), [c(5)]);
}

/// The attack: an acknowledgement of what is under way, by who does not know where the other end stands. What is kept would be gone
/// before its receiver has it.
#[test]
fn an_acknowledgement_from_outside_of_its_senders_window_is_not_believed() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b']);
    let before = format!("{:?}", w.gate.stream);
    for ahead in [10_002, 1 << 20, 1 << 31, 0_u32.wrapping_sub(65_536)] {
        let out = w.gate.step(&segment(Responder, S.wrapping_add(ahead), c(6), ACK, b""));
        assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Acknowledgement), "{ahead:#x}");
        assert!(out.iter().all(|out| out.to == Responder), "it is asked: {out:?}");
        assert_eq!(format!("{:?}", w.gate.stream), before, "{ahead:#x}");
    }
    // At the end of the window, with a FIN behind it, and what comes again.
    for ahead in [10_001, 10_000, 0, u32::MAX] {
        assert_eq!(
            acks(&w.gate.step(&segment(Responder, S.wrapping_add(ahead), c(6), ACK, b"")), Initiator),
            [c(4)]
        );
    }
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_not_believed() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a']);
    let out = w.server_acks(3);
    assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Acknowledgement));
    assert!(acks(&out, Initiator).is_empty(), "held bytes are not acknowledged by it");
}

#[test]
fn a_deleted_message_is_acknowledged_though_nothing_leaves() {
    let mut w = Wire::new();
    let out = w.client(0, &[DELETE, 2, b'a', b'b']);
    assert!(bytes(&out, Responder).is_empty());
    assert_eq!(acks(&out, Initiator), [c(4)]);
    let out = w.client(4, &[PASS, 1, b'x']);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![PASS, 1, b'x'])]);
    assert_eq!(acks(&w.server_acks(3), Initiator), [c(7)]);
}

#[test]
fn a_grown_message_is_cut_to_the_receivers_segments() {
    let options = Options { mss: Some(10), ..Options::default() };
    let mut w = Wire::with(options, Limits::default());
    let out = w.client(0, &[GROW, 8, b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h']);
    let lengths: Vec<_> =
        bytes(&out, Responder).iter().map(|(seq, b)| (seq.wrapping_sub(C), b.len())).collect();
    assert_eq!(lengths, [(0, 10), (10, 8)]);
    assert!(out[0].onward && !out[1].onward);
}

#[test]
fn the_hold_limit_lets_the_beginning_go_and_the_engine_repeats_it_alone() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 9]);
    w.gate.now = 999;
    assert_eq!(w.gate.tick(), []);
    w.gate.now = 1_000;
    let out = w.gate.tick();
    assert_eq!(bytes(&out, Responder), [(c(0), vec![GROW, 9])]);
    // The client was told that it arrived, so that nobody else can repeat it.
    w.gate.now = 1_100;
    assert_eq!(w.gate.tick(), [], "the first time is counted from here");
    w.gate.now = 2_100;
    assert_eq!(bytes(&w.gate.tick(), Responder), [(c(0), vec![GROW, 9])]);
    w.gate.now = 3_000;
    assert_eq!(w.gate.tick(), [], "and then more slowly");
    w.gate.now = 4_100;
    assert_eq!(bytes(&w.gate.tick(), Responder).len(), 1);
    w.server_acks(2);
    w.gate.now = 60_000;
    assert_eq!(w.gate.tick(), []);
    assert!(!w.gate.stream.waits());
}

#[test]
fn a_closed_window_is_asked_about_for_as_long_as_its_receiver_answers() {
    let said = || vec![(c(0), vec![GROW, 9])];
    for answers in [false, true] {
        let mut w = Wire::new();
        w.client(0, &[GROW, 9]);
        w.gate.now = 1_000;
        assert_eq!(bytes(&w.gate.tick(), Responder), said());
        // The client was told of these bytes: the engine alone can ask.
        let says = |w: &mut Wire, window: u16| {
            let _ = w.gate.step(&Segment { window, ..segment(Responder, S, c(0), ACK, b"") });
        };
        says(&mut w, 0);
        let mut asked = 0;
        w.gate.tick();
        for _ in 0..40 {
            w.gate.now += 64_000;
            let out = bytes(&w.gate.tick(), Responder);
            if !out.is_empty() {
                assert_eq!(out, said());
                asked += 1;
                if answers {
                    says(&mut w, 0);
                }
            }
        }
        assert_eq!(asked, if answers { 40 } else { 10 }, "{answers}");
        // It opens.
        says(&mut w, 100);
        w.gate.tick();
        w.gate.now += 1_000;
        assert_eq!(bytes(&w.gate.tick(), Responder), said(), "{answers}");
    }
}

/// The sender has lost its power, and a server that hangs answers for ever: the session must age some day.
#[test]
fn a_closed_window_is_not_asked_about_for_ever_for_a_sender_that_is_silent() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 9]);
    let rounds = |w: &mut Wire| {
        let mut asked = 0;
        for _ in 0..400 {
            w.gate.now += 64_000;
            if !bytes(&w.gate.tick(), Responder).is_empty() {
                let _ = w.gate.step(&Segment { window: 0, ..segment(Responder, S, c(0), ACK, b"") });
                asked += 1;
            }
        }
        asked
    };
    let first = rounds(&mut w);
    assert!((120..140).contains(&first), "{first}");
    assert_eq!(rounds(&mut w), 0);
    w.gate.step(&segment(Initiator, C + 1, S, ACK, b""));
    assert!(rounds(&mut w) >= 120, "its keep-alive");
}

/// What went when the window opened may be acknowledged yet.
#[test]
fn what_an_open_window_lets_go_is_not_repeated_at_once() {
    let mut w = Wire::new();
    let says =
        |w: &mut Wire, window: u16| w.gate.step(&Segment { window, ..segment(Responder, S, c(0), ACK, b"") });
    says(&mut w, 0);
    w.client(0, &[PASS, 2, b'a', b'b']);
    w.gate.tick();
    w.gate.now = 5_000;
    assert_eq!(bytes(&w.gate.tick(), Responder), [(c(0), vec![PASS])], "it is asked");
    says(&mut w, 0);
    // Long after, it opens.
    w.gate.now = 6_000;
    assert_eq!(
        bytes(&says(&mut w, 100), Responder),
        [(c(0), vec![PASS, 2, b'a', b'b'])],
        "and what was asked with"
    );
    // The client can repeat it too: the engine stands behind with four times its second.
    for (now, repeated) in [(6_100, 0), (10_000, 0), (10_100, 1)] {
        w.gate.now = now;
        assert_eq!(bytes(&w.gate.tick(), Responder).len(), repeated, "{now}");
    }
}

#[test]
fn a_sender_that_was_told_all_and_repeats_anything_makes_the_engine_repeat_all() {
    let mut w = Wire::new();
    for (at, byte) in [GROW, 2, b'a'].into_iter().enumerate() {
        w.client(at as u32, &[byte]);
    }
    // The whole message leaves, and is lost. The client repeats its last byte only: it was told of the others.
    w.client(3, b"b");
    let out = w.client(3, b"b");
    assert_eq!(bytes(&out, Responder), [(c(0), vec![GROW, 2, b'a', b'b', b'a', b'b'])]);
}

#[test]
fn bytes_of_the_gateways_own_stand_between_the_peers() {
    let mut w = Wire::new();
    let server =
        |w: &mut Wire, at: u32, payload: &[u8]| w.gate.step(&segment(Responder, S + at, C, ACK, payload));
    server(&mut w, 0, &[PASS, 1, b'x']);
    w.gate.step(&segment(Initiator, C, S + 3, ACK, b""));
    assert!(w.gate.stream.insert(&mut w.gate.pool, Responder, b"550 no"));
    let out = w.gate.tick();
    assert_eq!(bytes(&out, Initiator), [(S + 3, b"550 no".to_vec())]);
    let out = server(&mut w, 3, &[PASS, 1, b'y']);
    assert_eq!(bytes(&out, Initiator), [(S + 9, vec![PASS, 1, b'y'])]);
    assert_eq!(acks(&w.gate.step(&segment(Initiator, C, S + 12, ACK, b"")), Responder), [S + 6]);
}

#[test]
fn a_blind_flow_passes_as_it_comes_moved_by_its_edits() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b']);
    w.gate.stream.set_blind();
    w.server_acks(6);
    // Out of order, with a message that would be edited: neither is looked at.
    let out = w.client(20, &[GROW, 1, b'z']);
    assert_eq!(bytes(&out, Responder), [(c(22), vec![GROW, 1, b'z'])]);
    assert_eq!(acks(&w.server_acks(25), Initiator), [c(23)]);
    assert_eq!(w.gate.pool.left(), w.gate.pool.capacity());
}

/// Its sender may not have heard that it has come: what was deleted comes again when nobody reads any more.
#[test]
fn what_was_deleted_stays_so_in_a_blind_flow() {
    for acknowledged in [true, false] {
        let mut w = Wire::new();
        w.client(0, &[PASS, 1, b'x']);
        if acknowledged {
            w.server_acks(3);
        }
        w.client(3, &[DELETE, 2, b'a', b'b']);
        w.gate.stream.set_blind();
        w.server_acks(3);
        // All of it, a part, and a part with what follows it. The server stands behind three bytes.
        let mut news = Vec::new();
        for (at, payload) in [(3, &[DELETE, 2, b'a', b'b'][..]), (5, b"ab"), (6, b"bnew")] {
            for (seq, bytes) in bytes(&w.client(at, payload), Responder) {
                let place = seq.wrapping_sub(c(3)).cast_signed();
                let fresh = bytes.iter().zip(place..).filter(|(_, place)| *place >= 0);
                news.extend(fresh.map(|(byte, place)| (place, *byte)));
            }
        }
        assert_eq!(news, [(0, b'n'), (1, b'e'), (2, b'w')]);
    }
}

#[test]
fn signed_segments_are_not_touched() {
    let options = Options { signed: true, ..Options::default() };
    let mut w = Wire::with(options, Limits::default());
    assert!(w.gate.stream.is_blind());
    let out = w.client(0, &[GROW, 2, b'a', b'b']);
    assert_eq!(bytes(&out, Responder), [(c(0), vec![GROW, 2, b'a', b'b'])]);
    assert_eq!(out[0].window, 10_000);
}

/// A client could have itself read by nobody.
#[test]
fn a_connection_that_one_end_alone_would_sign_is_read() {
    let signed = |from, seq, ack, flags| {
        let options = Options { signed: true, ..Options::default() };
        Segment { options, window: 10_000, ..segment(from, seq, ack, flags, b"") }
    };
    for client in [true, false] {
        let mut gate = Gate::with_limits(Limits::default());
        let [syn, answer] = [(Initiator, CLIENT, 0, SYN), (Responder, SERVER, C, SYN | ACK)];
        for ((from, seq, ack, flags), signs) in [(syn, client), (answer, !client)] {
            let options = Options { signed: signs, ..Options::default() };
            let out = gate.step(&Segment { options, ..signed(from, seq, ack, flags) });
            assert!(out[0].onward);
        }
        gate.step(&segment(Initiator, C, S, ACK, b""));
        let mut w = Wire { gate };
        assert!(!w.gate.stream.is_blind());
        assert_eq!(bytes(&w.client(0, &[GROW, 1, b'a']), Responder), [(c(0), vec![GROW, 1, b'a', b'a'])]);
    }
    // Nor does what a SYN has behind its header pass unread.
    let out = Gate::default().step(&Segment { payload: b"DELE x", ..signed(Initiator, CLIENT, 0, SYN) });
    assert_eq!((out[0].flags, out[0].payload.len()), (SYN, 0));
    // A server that has the option drops a SYN that is signed with no key of its own: the next one is not.
    let mut gate = Gate::with_limits(Limits::default());
    gate.step(&signed(Initiator, CLIENT, 0, SYN));
    gate.opening = [true; 2];
    gate.step(&segment(Initiator, CLIENT, 0, SYN, b""));
    gate.step(&signed(Responder, SERVER, C, SYN | ACK));
    assert!(!gate.stream.is_blind());
}

/// Who knows the tuple does not know the number that a SYN+ACK has to acknowledge.
#[test]
fn a_forged_signed_answer_to_a_syn_moves_nothing() {
    let mut gate = Gate::with_limits(Limits::default());
    let plain = |from, seq, ack, flags| Segment { window: 10_000, ..segment(from, seq, ack, flags, b"") };
    gate.step(&plain(Initiator, CLIENT, 0, SYN));
    let options = Options { signed: true, ..Options::default() };
    gate.step(&Segment { options, ..plain(Responder, 77, c(1 << 29), SYN | ACK) });
    assert!(!gate.stream.is_blind());
    // The true one is still to come.
    gate.opening = [false, true];
    gate.step(&plain(Responder, SERVER, C, SYN | ACK));
    gate.step(&plain(Initiator, C, S, ACK));
    let mut w = Wire { gate };
    assert_eq!(bytes(&w.client(0, &[PASS, 1, b'x']), Responder), [(c(0), vec![PASS, 1, b'x'])]);
    let out = w.gate.step(&segment(Responder, S, c(3), ACK, b"y"));
    assert!(!matches!(w.gate.arrival, Arrival::Refused(_)), "{out:?}");
}

/// The SYN has offered more than the gateway has room for: its sender keeps to what it was told.
#[test]
fn who_uses_the_window_of_a_syn_is_believed_though_there_is_no_room() {
    let mut w = Wire::with(Options::default(), Limits { bytes: 4_096, ..Limits::default() });
    for at in (0..9_000).step_by(1_000) {
        w.client(at, &[b'x'; 1_000]);
        assert!(!matches!(w.gate.arrival, Arrival::Refused(_)), "at {at}");
    }
    assert!(w.gate.tally.no_room > 0);
}

#[test]
fn the_bound_of_a_flow_makes_its_sender_repeat() {
    let limits = Limits { bytes: 64, ..Limits::default() };
    let mut w = Wire::with(Options::default(), limits);
    let full: Vec<u8> = [PASS, 60].into_iter().chain([b'x'; 60]).collect();
    assert_eq!(bytes(&w.client(0, &full), Responder).len(), 1);
    // Nothing of it was acknowledged: two more bytes fit, and no third.
    let out = w.client(62, &[PASS, 9, b'y']);
    assert_eq!(w.gate.tally.no_room, 1);
    assert_eq!(acks(&out, Initiator), [c(0)]);
    w.server_acks(62);
    assert_eq!(bytes(&w.client(62, &[PASS, 9, b'y']), Responder), [(c(62), vec![PASS, 9, b'y'])]);
}

/// A FIN that came with bytes for which there is no room comes again with them, and passes with them once nobody reads any more.
#[test]
fn a_fin_without_room_ends_nothing() {
    let fin = |w: &mut Wire, at: u32, payload: &[u8]| {
        w.gate.step(&segment(Initiator, c(at), S, ACK | FIN, payload))
    };
    let mut w = Wire::with(Options::default(), Limits { bytes: 64, ..Limits::default() });
    let full: Vec<u8> = [PASS, 62].into_iter().chain([b'x'; 62]).collect();
    w.client(0, &full);
    assert!(fin(&mut w, 64, b"end").iter().all(|o| !o.has(FIN)));
    assert_eq!(w.gate.tally.no_room, 1);
    // And one behind a gap.
    fin(&mut w, 70, b"");
    w.server_acks(64);
    w.gate.stream.set_blind();
    w.gate.stream.forget_apart(&mut w.gate.pool, Initiator, &mut Tally::default());
    w.gate.pool.keep_back(usize::MAX);
    let out = fin(&mut w, 64, b"end");
    assert!(out.iter().any(|o| o.has(FIN) && o.payload == b"end"), "{out:?}");
}

#[test]
fn what_has_no_room_says_what_was_full() {
    let full = |w: &mut Wire, offset: u32, payload: &[u8]| {
        w.gate.tally = Tally::default();
        w.client(offset, payload);
        assert_eq!(w.gate.tally.no_room > 0, w.gate.tally.bound.is_some());
        w.gate.tally.bound
    };
    // Bytes ahead of missing ones may take half of what a direction has; those in order all of it.
    let mut w = Wire::with(Options::default(), Limits { bytes: 64, ..Limits::default() });
    assert_eq!(full(&mut w, 4, &[b'x'; 40]), Some(Bound::Flow));
    assert_eq!(full(&mut w, 4, &[b'x'; 30]), None);
    assert_eq!(full(&mut w, 0, &[GROW; 80]), Some(Bound::Flow));
    // Each behind a gap of its own. One that touches another is none more.
    let mut w = Wire::new();
    for i in 0..8 {
        assert_eq!(full(&mut w, 2 + 2 * i, b"x"), None);
    }
    assert_eq!(full(&mut w, 40, b"x"), Some(Bound::Stretches));
    assert_eq!(full(&mut w, 3, b"x"), None);
    assert_eq!(full(&mut w, 40, b"x"), None);
    // The memory of all streams.
    let mut w = Wire::new();
    w.gate.pool = Pool::new(1);
    assert_eq!(full(&mut w, 0, &[PASS; CHUNK + 1]), Some(Bound::Memory));
    assert_eq!(full(&mut w, 10, b"x"), None);
    assert_eq!(full(&mut w, 20, b"x"), Some(Bound::Memory));
}

#[test]
fn a_syn_with_data_loses_it() {
    let mut gate = Gate::default();
    let out = gate.step(&segment(Initiator, CLIENT, 0, SYN, b"fast"));
    assert_eq!((out[0].has(SYN), out[0].payload.len()), (true, 0));
}
