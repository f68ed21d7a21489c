//! Scripted exchanges with the FTP ALG and a gateway that publishes every port as itself plus 10,000.

use super::*;
use alg::{Application, Endpoint, FlowContext, Parity, Profile, PublishError, Tables, Transport};
use core::net::{IpAddr, Ipv4Addr};

struct Plus10000;

impl Gateway for Plus10000 {
    fn publish(
        &mut self,
        side: Side,
        _: Transport,
        endpoint: Endpoint,
        _: u16,
        _: Parity,
    ) -> Result<Endpoint, PublishError> {
        Ok(match side {
            Side::Initiator => Endpoint::new(OUTSIDE, endpoint.port + 10_000),
            Side::Responder => endpoint,
        })
    }

    fn to_inside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }

    fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }
}

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

fn flow() -> FlowContext {
    let client = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
    let server = Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), 21);
    FlowContext {
        id: 1,
        transport: Transport::Tcp,
        now_ms: 0,
        initiator: Endpoint::new(client, 40_000),
        initiator_translated: Endpoint::new(OUTSIDE, 40_000),
        responder: server,
        responder_translated: server,
    }
}

const ISN: u32 = 0xffff_fff0;

struct Run {
    engine: Engine,
    answer: Answer,
    payload: Payload,
}

impl Run {
    fn new() -> Self {
        let mut engine = Engine::new(Bound::for_application(Application::Ftp).unwrap());
        engine.syn(Side::Initiator, ISN);
        engine.syn(Side::Responder, 5_000);
        Self { engine, answer: Answer::default(), payload: Payload::new() }
    }

    fn read(&mut self, segment: &Segment<'_>) -> Outcome {
        let mut cx = Context {
            flow: &flow(),
            profile: &Profile::default(),
            gateway: &mut Plus10000,
            tables: &mut Tables::new(),
        };
        self.engine.read(&mut cx, segment, &mut self.answer, &mut self.payload)
    }

    /// Sends `payload` of the client at `offset`; gives the outcome and what leaves.
    fn client(&mut self, offset: u32, payload: &[u8]) -> (Outcome, Vec<u8>) {
        let segment = Segment {
            from: Side::Initiator,
            seq: ISN.wrapping_add(1).wrapping_add(offset),
            syn: false,
            fin: false,
            payload,
        };
        let outcome = self.read(&segment);
        let left = match outcome {
            Outcome::Pass { .. } => payload.to_vec(),
            Outcome::Replace { .. } => self.payload.to_vec(),
            _ => Vec::new(),
        };
        (outcome, left)
    }
}

fn seq(offset: u32) -> u32 {
    ISN.wrapping_add(1).wrapping_add(offset)
}

const PORT: &[u8] = b"PORT 10,1,0,2,19,137\r\n"; // port 5001
const PORT_OUT: &[u8] = b"PORT 198,51,100,1,58,153\r\n"; // port 15001, 4 bytes longer

#[test]
fn a_grown_command_shifts_what_follows_and_what_is_acknowledged() {
    let mut r = Run::new();
    assert_eq!(r.client(0, b"USER a\r\n"), (Outcome::Pass { seq: seq(0) }, b"USER a\r\n".to_vec()));
    assert_eq!(r.client(8, PORT), (Outcome::Replace { seq: seq(8) }, PORT_OUT.to_vec()));
    assert_eq!(r.client(30, b"NLST\r\n").0, Outcome::Pass { seq: seq(34) });
    // The server acknowledges in its space; the client must see its own.
    assert_eq!(r.engine.acknowledge(Side::Responder, seq(34)), seq(30));
    assert_eq!(r.engine.acknowledge(Side::Responder, seq(40)), seq(36));
    assert_eq!(r.engine.translate_seq(Side::Initiator, seq(36)), seq(40));
}

#[test]
fn any_number_of_edits_pass_as_long_as_they_are_acknowledged() {
    let mut r = Run::new();
    for i in 0..1_000u32 {
        let (at, grown) = (i * 22, i * 26);
        assert_eq!(r.client(at, PORT), (Outcome::Replace { seq: seq(grown) }, PORT_OUT.to_vec()), "{i}");
        assert_eq!(r.engine.acknowledge(Side::Responder, seq(grown + 26)), seq(at + 22));
    }
}

#[test]
fn unacknowledged_edits_are_bounded_and_the_sender_gets_through_later() {
    let mut r = Run::new();
    let mut passed = 0;
    while r.client(passed * 22, PORT).0 != Outcome::EditsFull {
        passed += 1;
        assert!(passed < 20);
    }
    assert!(passed >= 4);
    assert_eq!(r.engine.acknowledge(Side::Responder, seq(passed * 26)), seq(passed * 22));
    assert_eq!(r.client(passed * 22, PORT).0, Outcome::Replace { seq: seq(passed * 26) });
}

#[test]
fn a_retransmission_is_edited_again_whatever_its_boundaries() {
    let mut r = Run::new();
    let mut stream = b"NOOP\r\n".to_vec();
    stream.extend_from_slice(PORT);
    stream.extend_from_slice(b"NLST\r\n");
    let mut edited = b"NOOP\r\n".to_vec();
    edited.extend_from_slice(PORT_OUT);
    edited.extend_from_slice(b"NLST\r\n");
    assert_eq!(r.client(0, &stream).1, edited);
    assert_eq!(r.client(0, &stream).1, edited);
    for cut in 1..stream.len() {
        let mut got = r.client(0, &stream[..cut]).1;
        let (outcome, rest) = r.client(u32::try_from(cut).unwrap(), &stream[cut..]);
        let (Outcome::Pass { seq: at } | Outcome::Replace { seq: at }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(at, seq(u32::try_from(got.len()).unwrap()), "cut at {cut}");
        got.extend(rest);
        assert_eq!(got, edited, "cut at {cut}");
    }
}

#[test]
fn a_segment_ahead_of_its_turn_waits_for_the_sender() {
    let mut r = Run::new();
    assert_eq!(r.client(6, PORT).0, Outcome::OutOfOrder);
    assert_eq!(r.client(0, b"NOOP\r\n").0, Outcome::Pass { seq: seq(0) });
    assert_eq!(r.client(6, PORT).1, PORT_OUT);
}

#[test]
fn half_a_command_refuses_the_flow_and_half_of_anything_else_passes() {
    let mut r = Run::new();
    assert_eq!(r.client(0, b"RETR some"), (Outcome::Pass { seq: seq(0) }, b"RETR some".to_vec()));
    assert_eq!(r.client(9, b"thing\r\nPA"), (Outcome::Pass { seq: seq(9) }, b"thing\r\nPA".to_vec()));
    assert_eq!(r.client(18, b"SV\r\nPORT 10,1").0, Outcome::Deny(Denial::SplitMessage));
    // Nothing of the refused segment stuck: the engine is where it was.
    assert_eq!(r.client(18, b"SV\r\nPORT 10,1,0,2,19,137\r\n").1, b"SV\r\nPORT 198,51,100,1,58,153\r\n");
}

#[test]
fn a_segment_that_repeats_and_adds_is_read_from_where_it_adds() {
    let mut r = Run::new();
    r.client(0, PORT);
    let mut both = PORT.to_vec();
    both.extend_from_slice(PORT);
    let (_, left) = r.client(0, &both);
    assert_eq!(left, [PORT_OUT, PORT_OUT].concat());
    assert_eq!(r.answer.facts.len(), 1, "the first command was not read twice");
}

#[test]
fn a_fin_does_not_overtake_the_rest_of_an_edit() {
    let mut r = Run::new();
    r.client(0, PORT);
    let segment = Segment { from: Side::Initiator, seq: seq(0), syn: false, fin: true, payload: &PORT[..10] };
    let outcome = r.read(&segment);
    assert_eq!(outcome, Outcome::OutOfOrder);
}

#[test]
fn keep_alives_and_pure_acknowledgements_move_with_the_stream() {
    let mut r = Run::new();
    r.client(0, PORT);
    assert_eq!(r.client(22, b"").0, Outcome::Pass { seq: seq(26) });
    // A keep-alive lies one byte back; its garbage byte is not parsed.
    let facts = r.answer.facts.len();
    assert!(matches!(r.client(21, b"\0").0, Outcome::Replace { .. } | Outcome::Pass { .. }));
    assert_eq!(facts, r.answer.facts.len());
}

#[test]
fn the_acknowledgement_behind_a_fin_passes() {
    let mut run = Run::new();
    run.client(0, PORT);
    let end = u32::try_from(PORT.len()).unwrap();
    let mut send = |seq, fin, payload: &[u8]| {
        let segment = Segment { from: Side::Initiator, seq, syn: false, fin, payload };
        run.read(&segment)
    };
    assert_eq!(send(seq(end), true, b""), Outcome::Pass { seq: seq(end + 4) });
    // The FIN has taken one number. Without this the peer would repeat its own FIN until it gives up.
    assert_eq!(send(seq(end + 1), false, b""), Outcome::Pass { seq: seq(end + 5) });
    // A FIN or bytes ahead of missing ones wait for them.
    assert_eq!(send(seq(end + 10), true, b""), Outcome::OutOfOrder);
    assert_eq!(send(seq(end + 10), false, b"x"), Outcome::OutOfOrder);
}
