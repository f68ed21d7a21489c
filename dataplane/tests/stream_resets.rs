//! Resets through the stream engine: where they leave, what their receivers ask, and forged ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use alg::Side::{Initiator, Responder};
use dataplane::stream::segment::flags::{ACK, PSH, RST, SYN};
use dataplane::stream::segment::{Arrival, Limits, Options, Refusal, Segment, Timestamp};
use streams::gate::{Gate, Out, segment};
use streams::wire::*;

#[test]
fn a_reset_discards_what_is_held_and_leaves_where_its_receiver_expects_it() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b', GROW, 7, b'x']);
    w.server_acks(6);
    // The client has sent 7 bytes, the server has 6 others.
    let out = w.gate.step(&segment(Initiator, c(7), S, RST | ACK, b""));
    let [reset] = &out[..] else { panic!("{out:?}") };
    assert_eq!((reset.seq, reset.has(RST), reset.payload.len()), (c(6), true, 0));
    assert_eq!(w.gate.pool.left(), w.gate.pool.capacity(), "nothing is kept");
}

#[test]
fn a_reset_reaches_a_receiver_that_may_not_have_the_last_bytes() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b']);
    let out = w.gate.step(&segment(Initiator, c(4), S, RST, b""));
    let mut at: Vec<_> = out.iter().filter(|o| o.has(RST)).map(|o| o.seq.wrapping_sub(C)).collect();
    at.sort_unstable();
    assert_eq!(at, [0, 6], "at what it has acknowledged, and behind what was sent");
}

/// The receiver has some of the bytes that were sent to it: to it neither number is exact. It asks (RFC 5961 §3.2), and the answer
/// is a reset at the number that it has asked with (RFC 9293 §3.10.7.1).
#[test]
fn a_reset_that_its_receiver_challenges_is_repeated_where_that_stands() {
    let mut w = Wire::with(Options { mss: Some(4), ..Options::default() }, Limits::default());
    let places = |outs: Vec<Out>| {
        let mut at: Vec<_> = outs.iter().filter(|o| o.has(RST)).map(|o| o.seq.wrapping_sub(C)).collect();
        at.sort_unstable();
        (at, outs.len())
    };
    // A grown message, and the beginning of another, which is held: 4 + 2 bytes leave.
    let out = w.client(0, &[GROW, 2, b'a', b'b']);
    assert_eq!(bytes(&out, Responder).len(), 2);
    w.client(4, &[GROW, 9, b'x']);
    assert_eq!(places(w.gate.step(&segment(Initiator, c(7), S, RST | ACK, b""))), (vec![0, 6], 2));
    // The server has the first four, of which it has not yet told, and says something of its own.
    for payload in [&b""[..], &[PASS, 1, b'y']] {
        let out = w.gate.step(&segment(Responder, S, c(4), ACK, payload));
        let [question] = &out[..] else { panic!("{out:?}") };
        assert_eq!((question.to, question.flags, question.payload.len()), (Initiator, ACK, 0));
        assert_eq!((question.seq, question.ack), (S, c(2)), "inside the edit: its start");
        let answer = segment(Initiator, question.ack, 0, RST, b"");
        assert_eq!(places(w.gate.step(&answer)), (vec![4, 6], 2));
    }
    // It has all of them, and the resets were lost.
    let out = w.server_acks(6);
    assert_eq!(acks(&out, Initiator), [c(7)], "what was held was acknowledged on its behalf");
    assert_eq!(places(w.gate.step(&segment(Initiator, out[0].ack, 0, RST, b""))), (vec![6], 1));
}

#[test]
fn nothing_but_a_question_of_the_other_end_goes_on_behind_a_reset() {
    let reset = |w: &mut Wire| {
        w.client(0, &[GROW, 2, b'a', b'b']);
        w.gate.step(&segment(Initiator, c(4), S, RST, b""));
    };
    let refused = |w: &mut Wire, segment: &Segment<'_>| {
        assert_eq!(w.gate.step(segment), []);
        assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Unplaced));
    };
    let mut w = Wire::new();
    reset(&mut w);
    // What its own sender said before it, and comes late.
    refused(&mut w, &segment(Initiator, c(4), S, ACK | PSH, &[PASS, 0]));
    // What acknowledges bytes that were never sent, or nothing at all.
    refused(&mut w, &segment(Responder, S, c(7), ACK, b""));
    refused(&mut w, &segment(Responder, S, 0, PSH, b"y"));
    // The gateway has reset both ends: nobody is there to be asked.
    let mut w = Wire::new();
    w.gate.stream.clear(&mut w.gate.pool);
    refused(&mut w, &segment(Responder, S, c(0), ACK, b""));
    refused(&mut w, &segment(Initiator, c(0), S, ACK, b""));
}

#[test]
fn a_forged_reset_is_not_made_exact() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b']);
    w.server_acks(6);
    let out = w.gate.step(&segment(Initiator, c(50), S, RST, b""));
    assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Reset));
    assert!(out.iter().all(|o| !o.has(RST)));
    // Who is asked and really is gone answers at the number that it is asked with.
    let [challenge] = &out[..] else { panic!("{out:?}") };
    let out = w.gate.step(&segment(Initiator, challenge.ack, 0, RST, b""));
    assert!(out[0].has(RST));
}

/// Nobody reads any more, and the numbers stay moved: what is forged still ends nothing.
#[test]
fn a_forged_reset_of_a_stream_that_passes_is_not_believed() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b']);
    w.server_acks(6);
    w.gate.stream.set_blind();
    let out = w.client(4, b"blind");
    assert_eq!(bytes(&out, Responder), [(c(6), b"blind".to_vec())]);
    let out = w.gate.step(&segment(Initiator, c(50), S, RST, b""));
    assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Reset));
    let [challenge] = &out[..] else { panic!("{out:?}") };
    assert_eq!((challenge.to, challenge.has(RST)), (Initiator, false));
    // What came last may be lost behind the gateway: it leaves at both places.
    let out = w.gate.step(&segment(Initiator, c(9), 0, RST, b""));
    let mut at: Vec<_> = out.iter().filter(|o| o.has(RST)).map(|o| o.seq.wrapping_sub(C)).collect();
    at.sort_unstable();
    assert_eq!(at, [6, 11]);
}

/// The client has reset, with a clock, and the server has some of its bytes: it may ask. Answers the clock.
fn reset_with_clock() -> (Wire, Options) {
    let options =
        Options { timestamp: Some(Timestamp { value: 500, echo: 500 }), len: 12, ..Options::default() };
    let mut w = Wire::with(options, Limits::default());
    w.gate.step(&Segment { options, ..segment(Initiator, c(0), S, ACK | PSH, &[GROW, 2, b'a', b'b']) });
    w.gate.step(&Segment { options, ..segment(Initiator, c(4), S, RST | ACK, b"") });
    (w, options)
}

/// The attack: who knows the tuple makes up questions, and with them what the server has got, or keeps the session alive.
#[test]
fn a_forged_question_behind_a_reset_moves_nothing() {
    let (mut w, options) = reset_with_clock();
    let stamp = |value| Options { timestamp: Some(Timestamp { value, echo: 500 }), ..options };
    let question = Segment { options, ..segment(Responder, S, c(2), ACK, b"") };
    let none = Options { timestamp: None, len: 0, ..options };
    let before = format!("{:?}", w.gate.stream);
    for forged in [
        // Beyond what was sent, and long before.
        Segment { ack: c(7), ..question },
        Segment { ack: c(0).wrapping_sub(65_536), ..question },
        Segment { ack: c(1 << 31), ..question },
        // Outside of the server's window: 10,000 bytes, and a FIN behind them.
        Segment { seq: S + 10_002, ..question },
        Segment { seq: S.wrapping_sub(65_536), ..question },
        Segment { seq: S + (1 << 31), ..question },
        // Older than what the server has sent before (PAWS), or without a clock.
        Segment { options: stamp(499), ..question },
        Segment { options: none, ..question },
        // Resets, the client's own too.
        Segment { seq: S + 10_002, flags: RST, ..question },
        Segment { from: Initiator, seq: c(70_000), flags: RST, ..question },
        Segment { from: Initiator, seq: c(0).wrapping_sub(65_536), flags: RST, ..question },
    ] {
        assert_eq!(w.gate.step(&forged), [], "{forged:?}");
        assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Unplaced), "{forged:?}");
        assert_eq!(format!("{:?}", w.gate.stream), before, "{forged:?}");
    }
    // The server's own question, from the end of its window.
    for seq in [S, S + 10_000] {
        let out = w.gate.step(&Segment { seq, options: stamp(501), ..question });
        assert_eq!((out.len(), out[0].to, out[0].ack), (1, Initiator, c(2)));
    }
}

/// Also before it has said anything, an end is reset at the number that it expects, or not at all.
#[test]
fn a_forged_reset_of_a_connection_that_opens_is_not_made_exact() {
    let syn = segment(Initiator, CLIENT, 0, SYN, b"");
    let syn_ack = segment(Responder, SERVER, C, SYN | ACK, b"");
    let refused = |gate: &mut Gate, forged: &Segment<'_>, why| {
        let out = gate.step(forged);
        assert_eq!(gate.arrival, Arrival::Refused(why), "{forged:?}");
        assert!(out.iter().all(|out| !out.has(RST)) && !gate.stream.is_reset(), "{out:?}");
    };
    let mut gate = Gate::default();
    gate.step(&syn);
    // The server answers a SYN by what acknowledges it.
    for (ack, flags) in [(C.wrapping_add(1), RST | ACK), (CLIENT, RST | ACK), (0, RST)] {
        refused(&mut gate, &segment(Responder, 0, ack, flags, b""), Refusal::Unplaced);
    }
    for offset in [1, u32::MAX, 1 << 31] {
        refused(&mut gate, &segment(Initiator, c(offset), 0, RST, b""), Refusal::Reset);
    }
    gate.step(&syn_ack);
    refused(&mut gate, &segment(Initiator, c(1), 0, RST, b""), Refusal::Reset);
    refused(&mut gate, &segment(Responder, S + 1, 0, RST, b""), Refusal::Reset);
    let out = gate.step(&segment(Responder, S, C, RST | ACK, b""));
    assert!(out[0].has(RST) && gate.stream.is_reset(), "where the client expects it");

    let mut gate = Gate::default();
    gate.step(&syn);
    let out = gate.step(&segment(Responder, 0, C, RST | ACK, b""));
    assert!(out[0].has(RST) && gate.stream.is_reset(), "a closed port");
}

/// A SYN+ACK that acknowledges another SYN is the client's to reset, and moves no stream.
#[test]
fn a_syn_ack_that_answers_nothing_begins_nothing() {
    let mut gate = Gate::default();
    gate.step(&segment(Initiator, CLIENT, 0, SYN, b""));
    let before = format!("{:?}", gate.stream);
    let out = gate.step(&segment(Responder, 77, C.wrapping_add(9), SYN | ACK, b""));
    assert_eq!((out.len(), out[0].seq, out[0].ack), (1, 77, C.wrapping_add(9)));
    assert_eq!(format!("{:?}", gate.stream), before);
}

/// The gateway has reset both ends. One that goes on is told again: so often, and only if it can be that end.
#[test]
fn an_end_that_has_not_taken_the_gateways_reset_is_told_again_so_often() {
    let (mut w, options) = reset_with_clock();
    let told = |w: &mut Wire, segment: Segment<'_>| w.gate.stream.is_told_again(&segment);
    let question = Segment { options, ..segment(Responder, S, c(2), ACK, b"") };
    for forged in [
        Segment { ack: c(7), ..question },
        Segment { seq: S + 10_002, ..question },
        Segment { options: Options::default(), ..question },
        Segment { flags: RST | ACK, ..question },
        Segment { flags: PSH, ..question },
    ] {
        assert!(!told(&mut w, forged), "{forged:?}");
    }
    let sender = Segment { options, ..segment(Initiator, c(4), S, ACK, b"more") };
    let often = (0..100).filter(|n| told(&mut w, if n % 2 == 0 { question } else { sender })).count();
    assert_eq!(often, 8);
    let mut w = Wire::new();
    assert!(!told(&mut w, segment(Responder, S, c(0), ACK, b"")), "nobody has reset it");
}
