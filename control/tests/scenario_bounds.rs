//! The bounds of inspected streams: what finds no room is repeated by its sender, for a while; then the profile decides. One that
//! only watches loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Blindness, Denial, Side};
use dataplane::counters::Counter;
use dataplane::event::Event;
use dataplane::packet::flag::{ACK, PSH, RST};
use dataplane::view::CloseReason;
use scenario::*;

const FTP_ONLY: &str = r#"
[[rule]]
name = "ftp only"
from = "trust"
to = "untrust"
service = "ftp"
action = "allow"
log = true
"#;

const TIGHT: &str = "
[streams]
flow_bytes = 4096
message_bytes = 4096
";
const PASS: &str = "overflow = \"pass\"\n";
const WATCHED: &str = "
[[alg]]
name = \"watched\"
protocol = \"ftp\"
mode = \"monitor\"
";

fn talk(mode: Mode, more: &str) -> Talk {
    let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, FTP_ONLY, TIGHT, more].concat());
    let pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
    Talk::new(gw, pair)
}

/// What the client says in full: what no ALG would let go on as it is.
fn says() -> Vec<u8> {
    [b"PORT 10,1,0,2,195,81\r\n".as_slice(), &[b'x'; 3_000]].concat()
}

/// Which bytes of it come, ahead of what is missing, until they find no room.
type Fills = fn(&mut Talk, &[u8]);

/// More stretches than may wait.
fn stretches(talk: &mut Talk, says: &[u8]) {
    for at in (22..40).step_by(2) {
        talk.send(Side::Initiator, at, &says[at..=at], PSH | ACK);
    }
}

/// More bytes than may wait.
fn bytes(talk: &mut Talk, says: &[u8]) {
    for at in (22..3_000).step_by(1_000) {
        talk.send(Side::Initiator, at, &says[at..at + 1_000], PSH | ACK);
    }
}

const BOUNDS: [(&str, Fills); 2] = [("stretches", stretches), ("flow-bytes", bytes)];

fn no_room(gw: &mut Gateway) -> Vec<&'static str> {
    gw.core.records().find(|event| match event {
        Event::AlgStreamNoRoom { bound, .. } => Some(bound.name()),
        _ => None,
    })
}

fn denied(gw: &mut Gateway) -> Vec<Denial> {
    gw.core.records().find(|event| match event {
        Event::AlgDenied { denial, .. } => Some(*denial),
        _ => None,
    })
}

fn blind(gw: &mut Gateway) -> Vec<(Application, Blindness)> {
    gw.core.records().find(|event| match event {
        Event::AlgBlind { application, why, .. } => Some((*application, *why)),
        _ => None,
    })
}

/// Chunks of all streams.
fn chunks(gw: &Gateway) -> usize {
    gw.workers.iter().map(|w| w.local().inspected().1).sum()
}

/// Everything once more, from the beginning, as its sender does whose timer has run out.
fn repeat(talk: &mut Talk, says: &[u8]) {
    for (i, part) in says.chunks(500).enumerate() {
        talk.send(Side::Initiator, i * 500, part, PSH | ACK);
    }
}

#[test]
fn at_a_bound_the_sender_repeats_and_then_the_flow_is_reset() {
    each_mode(|mode| {
        for (name, fill) in BOUNDS {
            let mut talk = talk(mode, "");
            let says = says();
            fill(&mut talk, &says);
            assert_eq!(no_room(&mut talk.gw), [name]);
            talk.gw.advance(3_750);
            fill(&mut talk, &says);
            assert_eq!(denied(&mut talk.gw), [], "not yet");
            talk.gw.advance(250);
            let last = if name == "stretches" { 38..39 } else { 2_022..3_022 };
            talk.frame(Side::Initiator, last.start, &says[last], PSH | ACK);
            assert_eq!(denied(&mut talk.gw), [Denial::NoResources]);
            for side in [INSIDE, OUTSIDE] {
                assert!(talk.gw.recv(side).unwrap().tcp().flags & RST != 0, "both ends are told");
            }
            assert_eq!(talk.gw.session().close_reason, CloseReason::AlgDenied);
            assert_eq!(chunks(&talk.gw), 0);
            talk.gw.drain_all();
        }
    });
}

#[test]
fn what_moves_meanwhile_is_reset_by_no_bound() {
    each_mode(|mode| {
        let mut talk = talk(mode, "");
        let says = says();
        stretches(&mut talk, &says);
        talk.gw.advance(3_000);
        // The gap before them closes, and what found no room comes again.
        talk.send(Side::Initiator, 0, &says[..22], PSH | ACK);
        talk.gw.advance(3_000);
        stretches(&mut talk, &says);
        assert_eq!(denied(&mut talk.gw), []);
        repeat(&mut talk, &says);
        assert_eq!(talk.ears[1].next() as usize, says.len());
        talk.gw.drain_all();
    });
}

#[test]
fn at_a_bound_a_flow_passes_unread_where_the_profile_says_so() {
    each_mode(|mode| {
        for (name, fill) in BOUNDS {
            let mut talk = talk(mode, PASS);
            let says = says();
            fill(&mut talk, &says);
            assert_eq!((no_room(&mut talk.gw), blind(&mut talk.gw)), (vec![name], vec![]));
            talk.gw.advance(4_000);
            fill(&mut talk, &says);
            assert_eq!(blind(&mut talk.gw), [(Application::Ftp, Blindness::Lost)]);
            assert_eq!(talk.gw.count(Counter::StreamForgotten), 1);
            repeat(&mut talk, &says);
            assert_eq!(talk.ears[1].bytes.values().copied().collect::<Vec<_>>(), says, "as it was said");
            assert_eq!((denied(&mut talk.gw), talk.gw.expectations()), (vec![], vec![]));
            assert_eq!((chunks(&talk.gw), talk.gw.inspected()), (0, 0));
            talk.gw.drain_all();
        }
    });
}

#[test]
fn who_only_watches_keeps_nothing_from_its_addressee() {
    each_mode(|mode| {
        for (name, fill) in BOUNDS {
            let mut talk = talk(mode, WATCHED);
            let says = says();
            fill(&mut talk, &says);
            assert_eq!(no_room(&mut talk.gw), [name]);
            assert_eq!(blind(&mut talk.gw), [(Application::Ftp, Blindness::Lost)]);
            // What found no room has gone on: it leads no more to anybody's timer.
            let end = if name == "stretches" { 38 } else { 3_021 };
            assert_eq!(talk.ears[1].bytes.last_key_value(), Some((&end, &b'x')));
            repeat(&mut talk, &says);
            assert_eq!(talk.ears[1].bytes.values().copied().collect::<Vec<_>>(), says);
            assert_eq!(denied(&mut talk.gw), []);
            talk.gw.drain_all();
        }
    });
}

#[test]
fn bytes_behind_a_gap_that_nobody_fills_are_forgotten_and_can_be_repeated() {
    each_mode(|mode| {
        let mut talk = talk(mode, "");
        let says = says();
        talk.send(Side::Initiator, 500, &says[500..1_500], PSH | ACK);
        assert!(chunks(&talk.gw) > 0);
        talk.gw.advance(7_750);
        assert!(chunks(&talk.gw) > 0, "not yet");
        talk.gw.advance(500);
        assert_eq!((chunks(&talk.gw), talk.gw.count(Counter::StreamForgotten)), (0, 1));
        repeat(&mut talk, &says);
        let named = six(CLIENT.addr, 50_001);
        assert!(talk.ears[1].text().starts_with(&format!("PORT {named}\r\n")));
        assert_eq!(talk.ears[1].next() as usize, says.len());
        assert_eq!(talk.gw.expectations().len(), 1, "and was read");
        talk.gw.drain_all();
    });
}
