//! The one timer of the stream engine: however many sessions wait, all of them are looked at when it is time, and never so many at
//! once that packets wait for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::counters::Counter;
use dataplane::packet::flag::{ACK, PSH};
use scenario::*;

const FTP_ONLY: &str = r#"
[[rule]]
name = "ftp only"
from = "trust"
to = "untrust"
service = "ftp"
action = "allow"

[[alg]]
name = "watched"
protocol = "ftp"
mode = "monitor"
"#;

/// Sessions that wait at once. Their profile only watches: any other holds a line of FTP until its end comes.
const MANY: u16 = 5_000;
/// Most that a worker looks at in one turn.
const A_TURN: usize = 64;

/// A gateway in which each of many clients has said half a command, and what each of them is.
fn half_lines(mode: Mode) -> (Gateway, Vec<Pair>) {
    let large = SMALL
        .replace("\nsessions = 4096", "\nsessions = 16384")
        .replace("alg_sessions = 64", "alg_sessions = 8192");
    let sizes = Sizes { pool: 32_768, depth: 16_384, ..Sizes::default() };
    let text = [&large, SHORT, LINKS, FTP_ONLY].concat();
    let mut gw = Gateway::with(mode, &text, sizes, kept::Kept::default());
    let mut pairs = Vec::new();
    for n in 0..MANY {
        let mut pair = Pair::connect(&mut gw, (CLIENT, 20_000 + n), (SERVER, 21));
        gw.inject(INSIDE, &pair.frame(Side::Initiator, PSH | ACK, b"PO"));
        gw.run();
        assert!(gw.recv(INSIDE).unwrap().payload.is_empty(), "acknowledged, since nobody else has it");
        gw.assert_silent();
        pair.sent(Side::Initiator, 2);
        pairs.push(pair);
    }
    (gw, pairs)
}

/// Half commands that have arrived, by the client's port.
fn arrived(gw: &mut Gateway) -> Vec<u16> {
    let mut ports = Vec::new();
    while let Some(seen) = gw.recv(OUTSIDE) {
        assert_eq!(seen.payload, b"PO");
        ports.push(seen.source.1);
    }
    ports.sort_unstable();
    ports
}

#[test]
fn all_that_is_held_is_let_go_and_repeated_at_the_same_tick() {
    each_mode(|mode| {
        let (mut gw, _) = half_lines(mode);
        let all: Vec<_> = (20_000..20_000 + MANY).collect();
        gw.advance_by(900, 100);
        assert!(arrived(&mut gw).is_empty(), "nothing is held for long enough");
        gw.advance_by(200, 100);
        assert_eq!(arrived(&mut gw), all);
        assert_eq!(gw.count(Counter::StreamReleased), u64::from(MANY));
        // Nobody has acknowledged them, and their senders will not repeat them.
        gw.advance_by(1_200, 100);
        assert_eq!(arrived(&mut gw), all);
        assert_eq!(gw.count(Counter::StreamRepeated), u64::from(MANY));
        gw.drain_all();
    });
}

#[test]
fn a_turn_of_a_worker_looks_at_a_part() {
    let (mut gw, mut pairs) = half_lines(gateway::MODES[0]);
    let fresh = &mut pairs[0];
    gw.now = gw.now.plus(1_000);
    gw.core.turn(gw.now);
    for turn in 1..=usize::from(MANY).div_ceil(A_TURN) {
        // A packet that comes meanwhile goes on in its turn.
        let frame = fresh.frame(Side::Responder, PSH | ACK, b"220 ready\r\n");
        gw.inject(OUTSIDE, &frame);
        fresh.sent(Side::Responder, 11);
        assert!(gw.workers[0].poll(gw.now) > 0, "it does not rest");
        let heard = gw.recv(INSIDE).unwrap();
        assert_eq!(heard.payload, b"220 ready\r\n", "turn {turn}");
        assert_eq!(arrived(&mut gw).len(), A_TURN.min(usize::from(MANY) - (turn - 1) * A_TURN));
    }
    gw.drain_all();
}
