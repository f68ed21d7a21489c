//! Half-open connections through the stream engine (RFC 9293 §3.5.1): an end has lost its connection and dials again from the same
//! port, while the other end, the engine or both hold the old one. And who only says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use alg::Side::{self, Initiator, Responder};
use dataplane::stream::segment::flags::{ACK, FIN, PSH, RST, SYN};
use dataplane::stream::segment::{Arrival, Limits, Options, Refusal, Segment, Timestamp};
use streams::gate::{Gate, Out, segment};
use streams::wire::*;

/// The first number of the client's next connection, and of a rebooted server's.
const NEXT: u32 = 0x4000_0000;
const NEXT_SERVER: u32 = 0x7000_0000;

/// A connection in which the client has said so much, of which the server has acknowledged so much, and where both are then, each
/// in its own numbers: the client as it was told last, the server wherever a reset may find it.
struct Talk {
    says: &'static [u8],
    acked: Option<u32>,
    client: u32,
    server: &'static [u32],
}

const TALKS: [Talk; 6] = [
    Talk { says: b"", acked: None, client: 0, server: &[0] },
    Talk { says: b"\0\x02ab", acked: Some(4), client: 4, server: &[4] },
    // Edited, and the server has all of it, or some, or none.
    Talk { says: b"\x01\x02ab", acked: Some(6), client: 4, server: &[6] },
    Talk { says: b"\x01\x02ab", acked: Some(4), client: 2, server: &[4, 6] },
    Talk { says: b"\x01\x02ab", acked: None, client: 0, server: &[0, 6] },
    // The beginning of a second message is held, and was acknowledged on the server's behalf.
    Talk { says: b"\x01\x02ab\x01\x07x", acked: Some(6), client: 7, server: &[6] },
];

impl Talk {
    fn open(&self, options: Options) -> Wire {
        let mut w = Wire::with(options, Limits::default());
        if !self.says.is_empty() {
            w.gate.step(&Segment { options, ..segment(Initiator, C, S, ACK | PSH, self.says) });
        }
        if let Some(offset) = self.acked {
            w.gate.step(&Segment { options, ..segment(Responder, S, c(offset), ACK, b"") });
        }
        w
    }
}

/// What is refused, and the one question that its sender is asked then.
fn asked(gate: &mut Gate, strange: &Segment<'_>) -> Out {
    let out = gate.step(strange);
    assert_eq!(gate.arrival, Arrival::Refused(Refusal::Syn), "{strange:?}");
    let [question] = &out[..] else { panic!("{out:?}") };
    assert_eq!((question.to, question.flags, question.payload.len()), (strange.from, ACK, 0));
    question.clone()
}

/// Where resets leave for an end, from `first` on, ascending.
fn resets(outs: &[Out], to: Side, first: u32) -> Vec<u32> {
    assert!(outs.iter().all(|o| o.to == to && o.has(RST) && o.payload.is_empty()), "{outs:?}");
    let mut at: Vec<_> = outs.iter().map(|o| o.seq.wrapping_sub(first)).collect();
    at.sort_unstable();
    at
}

#[test]
fn a_client_that_has_lost_its_connection_is_asked_and_resets_it_where_each_end_is() {
    for talk in &TALKS {
        let mut w = talk.open(Options::default());
        let question = asked(&mut w.gate, &segment(Initiator, NEXT, 0, SYN, b""));
        assert_eq!((question.seq, question.ack), (S, c(talk.client)), "{:?}", talk.says);
        let out = w.gate.step(&segment(Initiator, question.ack, 0, RST, b""));
        assert_eq!(resets(&out, Responder, C), talk.server, "{:?}", talk.says);
        assert!(w.gate.stream.is_reset());
        assert_eq!(w.gate.pool.left(), w.gate.pool.capacity(), "nothing is kept");
    }
}

/// The old connection has a clock, and so has the new SYN; what its sender resets has none.
#[test]
fn the_clock_of_a_new_syn_is_not_that_of_the_connection() {
    let clock =
        |value| Options { timestamp: Some(Timestamp { value, echo: 9 }), len: 12, ..Options::default() };
    for talk in &TALKS {
        let mut w = talk.open(clock(500));
        for (new, echo) in [(3, 500), (90_000, 501)] {
            let syn = Segment { options: clock(new), ..segment(Initiator, NEXT, 0, SYN, b"") };
            let question = asked(&mut w.gate, &syn);
            assert_eq!(question.timestamp, Some(Timestamp { value: 500, echo }));
            // The client lives, and goes on at the old clock.
            let alive = Segment { options: clock(501), ..segment(Initiator, question.ack, S, ACK, b"") };
            w.gate.step(&alive);
            assert_eq!(w.gate.arrival, Arrival::Taken, "{:?}", talk.says);
        }
        let out = w.gate.step(&segment(Initiator, c(talk.client), 0, RST, b""));
        assert_eq!(resets(&out, Responder, C), talk.server);
    }
}

/// What the client has said in vain, and what the server was told of it, stays where it was.
#[test]
fn a_server_that_stands_in_between_asks_and_is_told() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b']);
    let question = asked(&mut w.gate, &segment(Initiator, NEXT, 0, SYN, b""));
    let reset = segment(Initiator, question.ack, 0, RST, b"");
    assert_eq!(resets(&w.gate.step(&reset), Responder, C), [0, 6]);
    // It has five of the six bytes.
    let out = w.server_acks(5);
    assert_eq!((out.len(), out[0].to, out[0].ack), (1, Initiator, c(2)), "the start of the edit");
    let out = w.gate.step(&segment(Initiator, out[0].ack, 0, RST, b""));
    assert_eq!(resets(&out, Responder, C), [5, 6]);
}

/// The attack: who knows the tuple forges the new SYN, and what would have to follow it.
#[test]
fn a_forged_syn_ends_and_moves_nothing() {
    for talk in &TALKS {
        let mut w = talk.open(Options::default());
        let client = c(talk.client);
        for number in [NEXT, C, client.wrapping_add(9), client.wrapping_add(10_000)] {
            for payload in [&b""[..], b"early"] {
                asked(&mut w.gate, &segment(Initiator, number, 0, SYN, payload));
            }
            let beyond = number.wrapping_add(1);
            // Made up like a handshake, of which the ends know nothing.
            asked(&mut w.gate, &segment(Responder, NEXT_SERVER, beyond, SYN | ACK, b""));
            let out = w.gate.step(&segment(Initiator, beyond, NEXT_SERVER + 1, ACK, b""));
            assert!(matches!(w.gate.arrival, Arrival::Refused(_)), "{out:?}");
            for reset in
                [segment(Initiator, beyond, 0, RST, b""), segment(Responder, 0, beyond, RST | ACK, b"")]
            {
                w.gate.step(&reset);
                assert_eq!(w.gate.arrival, Arrival::Refused(Refusal::Reset), "exact in what is made up only");
            }
        }
        assert!(!w.gate.stream.is_reset());
        // What was under way goes on.
        let rest = match talk.says {
            b"\x01\x02ab\x01\x07x" => &b"yyyyyy"[..],
            _ => &[],
        };
        w.gate.step(&segment(Responder, S, c(*talk.server.last().unwrap()), ACK, b""));
        let offset = u32::try_from(talk.says.len()).unwrap();
        let out = w.client(offset, &[rest, &[GROW, 1, b'z']].concat());
        let heard: Vec<u8> = bytes(&out, Responder).into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert!(heard.ends_with(&[GROW, 1, b'z', b'z']), "{heard:?}");
    }
}

/// Both have lost it: the server knows nothing that it could challenge. What it answers is not of this connection either.
#[test]
fn a_server_that_has_lost_the_connection_too_is_asked_and_resets_it() {
    for talk in &TALKS {
        let mut w = talk.open(Options::default());
        let answer = segment(Responder, NEXT_SERVER, NEXT.wrapping_add(1), SYN | ACK, b"");
        let question = asked(&mut w.gate, &answer);
        assert_eq!((question.ack, talk.server.contains(&question.seq.wrapping_sub(C))), (S, true));
        let out = w.gate.step(&segment(Responder, question.ack, 0, RST, b""));
        assert_eq!(resets(&out, Initiator, S), [0]);
        assert!(w.gate.stream.is_reset());
    }
}

#[test]
fn what_repeats_the_handshake_passes() {
    let mut w = Wire::new();
    w.client(0, &[GROW, 2, b'a', b'b']);
    w.server_acks(6);
    for (repeated, ack) in [
        (segment(Initiator, CLIENT, 0, SYN, b""), 0),
        // The client's last segment of the handshake was lost behind the gateway.
        (segment(Responder, SERVER, C, SYN | ACK, b""), C),
    ] {
        let out = w.gate.step(&repeated);
        let [out] = &out[..] else { panic!("{out:?}") };
        assert_eq!((out.onward, out.seq, out.ack, out.flags), (true, repeated.seq, ack, repeated.flags));
    }
    // The same first number, and an answer to another SYN.
    asked(&mut w.gate, &segment(Responder, SERVER, NEXT.wrapping_add(1), SYN | ACK, b""));
    assert_eq!(bytes(&w.client(4, &[PASS, 0]), Responder).len(), 1);
}

/// Between the server's answer and the client's, a SYN with another number is no repetition. It was taken for the client's, and
/// whatever that said then was refused.
#[test]
fn a_strange_syn_does_not_move_a_connection_that_opens() {
    for (from, number) in [(Initiator, NEXT), (Responder, NEXT_SERVER)] {
        let mut w = Wire::new();
        w.gate.opening = [true; 2];
        let question = asked(&mut w.gate, &segment(from, number, 0, SYN, b""));
        assert_eq!(question.ack, if from == Initiator { C } else { S });
        assert_eq!(bytes(&w.client(0, &[GROW, 1, b'a']), Responder), [(C, vec![GROW, 1, b'a', b'a'])]);
        w.gate.step(&segment(Responder, S, c(4), ACK, &[GROW, 1, b'b']));
        assert_eq!(w.gate.arrival, Arrival::Taken);
    }
    // Its sender has lost the attempt.
    let mut w = Wire::new();
    w.gate.opening = [true; 2];
    let question = asked(&mut w.gate, &segment(Initiator, NEXT, 0, SYN, b""));
    let out = w.gate.step(&segment(Initiator, question.ack, 0, RST, b""));
    assert_eq!(resets(&out, Responder, C), [0]);
    // As long as nobody has answered the first one, another takes its place.
    let mut gate = Gate::default();
    gate.step(&segment(Initiator, CLIENT, 0, SYN, b""));
    gate.opening = [true; 2];
    let out = gate.step(&segment(Initiator, NEXT, 0, SYN, b""));
    assert_eq!((out.len(), out[0].seq, out[0].flags), (1, NEXT, SYN));
    gate.step(&segment(Responder, SERVER, NEXT + 1, SYN | ACK, b""));
    let out = gate.step(&segment(Initiator, NEXT + 1, S, ACK, &[GROW, 1, b'a']));
    assert_eq!(bytes(&out, Responder), [(NEXT + 1, vec![GROW, 1, b'a', b'a'])]);
}

/// What is asked acknowledges. A server that is told that its SYN+ACK has come does not repeat it, and the client may not have it yet.
#[test]
fn the_clients_part_of_the_handshake_is_not_said_for_it() {
    let opens = || {
        let mut gate = Gate::default();
        gate.step(&segment(Initiator, CLIENT, 0, SYN, b""));
        gate.opening = [true; 2];
        gate.step(&segment(Responder, SERVER, C, SYN | ACK, b""));
        gate
    };
    let strange = segment(Responder, NEXT_SERVER, 0, SYN, b"");
    let mut gate = opens();
    assert_eq!(gate.step(&strange), []);
    assert_eq!(gate.arrival, Arrival::Refused(Refusal::Syn));
    assert_eq!(gate.step(&segment(Responder, S + 9, 0, RST, b"")), []);
    // The client has answered.
    gate.step(&segment(Initiator, C, S, ACK, b""));
    asked(&mut gate, &strange);
}

/// Where the server stands in the older connection, in numbers that the gateway has never seen, or has forgotten.
const OLDER: u32 = 0x1234_5678;
const OLDER_SERVER: u32 = 0x9abc_def0;

fn dialled() -> Gate {
    let mut gate = Gate::default();
    gate.step(&segment(Initiator, CLIENT, 0, SYN, b""));
    gate
}

/// It passes as it came, without bytes; the connection that opens is what it was.
fn passes_as_it_came(gate: &mut Gate, older: &Segment<'_>, flags: u8) {
    let out = gate.step(older);
    let [out] = &out[..] else { panic!("{older:?}: {out:?}") };
    assert_eq!((out.onward, out.to, out.flags), (true, older.from.other(), flags));
    assert_eq!((out.seq, out.ack, out.payload.len()), (older.seq, older.ack, 0));
    assert!(!gate.stream.is_reset());
}

/// The gateway has started anew, or the session has aged, and the server still has the connection.
#[test]
fn a_server_with_an_older_connection_challenges_the_syn_and_is_reset() {
    let clock = Options { timestamp: Some(Timestamp { value: 7, echo: 8 }), len: 12, ..Options::default() };
    let challenge = segment(Responder, OLDER_SERVER, OLDER, ACK, b"");
    for (said, flags) in [
        (challenge, ACK),
        (Segment { options: clock, ..challenge }, ACK),
        // What it repeats says the same; nobody reads its bytes, and nobody takes them.
        (Segment { flags: PSH | ACK, payload: b"250 old\r\n", ..challenge }, ACK),
        (Segment { flags: FIN | ACK, ..challenge }, ACK),
        // It waits for the rest of an older handshake.
        (Segment { flags: SYN | ACK, ..challenge }, SYN | ACK),
    ] {
        let mut gate = dialled();
        let before = format!("{:?}", gate.stream);
        passes_as_it_came(&mut gate, &said, flags);
        gate.opening = [true; 2];
        passes_as_it_came(&mut gate, &segment(Initiator, OLDER, 0, RST, b""), RST);
        assert_eq!(format!("{:?}", gate.stream), before, "{said:?}");
        // The client's SYN again, which opens the connection, and is read from its first byte.
        for (from, seq, ack, flags) in
            [(Initiator, CLIENT, 0, SYN), (Responder, SERVER, C, SYN | ACK), (Initiator, C, S, ACK)]
        {
            let out = gate.step(&segment(from, seq, ack, flags, b""));
            assert_eq!((out.len(), out[0].seq, out[0].ack), (1, seq, ack));
        }
        let out = gate.step(&segment(Initiator, C, S, ACK, &[GROW, 1, b'a']));
        assert_eq!(bytes(&out, Responder), [(C, vec![GROW, 1, b'a', b'a'])]);
    }
}

#[test]
fn every_challenge_of_an_older_connection_is_answered_once() {
    let mut gate = dialled();
    let reset = |at| segment(Initiator, at, 0, RST, b"");
    for at in [OLDER, OLDER + 1, c(65_536), c(0).wrapping_sub(1)] {
        passes_as_it_came(&mut gate, &segment(Responder, OLDER_SERVER, at, ACK, b""), ACK);
        // Where nobody has asked, and twice.
        gate.step(&reset(at.wrapping_add(2)));
        assert_eq!(gate.arrival, Arrival::Refused(Refusal::Reset));
        passes_as_it_came(&mut gate, &reset(at), RST);
        assert_eq!(gate.step(&reset(at)), []);
        assert_eq!(gate.arrival, Arrival::Refused(Refusal::Reset));
    }
}

/// The attack: who knows the tuple forges a challenge, so that the client itself resets the connection that it opens.
#[test]
fn a_forged_challenge_does_not_reset_the_connection_that_opens() {
    let mut gate = dialled();
    let before = format!("{:?}", gate.stream);
    for forged in [
        // A server that has just got the SYN takes a reset in its window.
        segment(Responder, OLDER_SERVER, C, ACK, b""),
        segment(Responder, OLDER_SERVER, c(1), ACK, b""),
        segment(Responder, OLDER_SERVER, c(65_535), ACK, b""),
        // These ask nothing.
        segment(Responder, OLDER_SERVER, OLDER, PSH, b"x"),
        segment(Responder, OLDER_SERVER, OLDER, RST, b""),
        segment(Responder, OLDER_SERVER, OLDER, RST | ACK, b""),
    ] {
        assert_eq!(gate.step(&forged), [], "{forged:?}");
        assert_eq!(gate.arrival, Arrival::Refused(Refusal::Unplaced), "{forged:?}");
        assert_eq!(format!("{:?}", gate.stream), before, "{forged:?}");
        gate.step(&segment(Initiator, forged.ack, 0, RST, b""));
        assert_eq!(gate.stream.is_reset(), forged.ack == C);
        if gate.stream.is_reset() {
            gate = dialled();
        }
    }
    // A SYN+ACK that answers nothing is the client's to reset, and that goes no further where it might be taken.
    for ack in [c(1), c(65_535)] {
        gate.opening = [true; 2];
        gate.step(&segment(Responder, OLDER_SERVER, ack, SYN | ACK, b""));
        gate.step(&segment(Initiator, ack, 0, RST, b""));
        assert_eq!(gate.arrival, Arrival::Refused(Refusal::Reset));
    }
    // The client begins elsewhere meanwhile.
    gate.opening = [true; 2];
    passes_as_it_came(&mut gate, &segment(Responder, OLDER_SERVER, OLDER, ACK, b""), ACK);
    for number in [OLDER - 1, CLIENT] {
        gate.opening = [true; 2];
        gate.step(&segment(Initiator, number, 0, SYN, b""));
    }
    gate.step(&segment(Initiator, OLDER, 0, RST, b""));
    assert_eq!(gate.arrival, Arrival::Refused(Refusal::Reset));
    // The server has answered meanwhile: what is asked of the older one is asked no more.
    gate.opening = [true; 2];
    passes_as_it_came(&mut gate, &segment(Responder, OLDER_SERVER, OLDER, ACK, b""), ACK);
    gate.step(&segment(Responder, SERVER, C, SYN | ACK, b""));
    let out = gate.step(&segment(Initiator, OLDER, 0, RST, b""));
    assert_eq!(gate.arrival, Arrival::Refused(Refusal::Reset));
    assert!(out.iter().all(|o| o.to == Initiator && !o.has(RST)));
    gate.step(&segment(Responder, OLDER_SERVER, OLDER, ACK, b""));
    assert_eq!(gate.arrival, Arrival::Refused(Refusal::Acknowledgement));
}
