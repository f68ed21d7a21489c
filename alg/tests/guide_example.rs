//! The worked example of docs/alg-guide.md: it compiles, does what the guide says, and the guide quotes it.
//!
//! `guide/greet.rs` is written as a file of `alg/src` would be: what it names of the crate is found here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod common;
#[path = "guide/greet.rs"]
mod greet;
#[path = "../src/reader.rs"]
mod reader;

use alg::rules::{Pattern, Rule};
use alg::{Action, Blindness, CommandPolicy, Denial, Opener, Order, Probe, Profile, Side, StreamAlg};
use alg::{contract, rules, tables};
use common::fuzz_body::{self, Runs};
use common::{Engine, end, flow};
use greet::{ANSWER_MS, Greet, MAX_LINE, WAIT_MS, probe};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::path::PathBuf;

const C: Side = Side::Initiator;
const S: Side = Side::Responder;
const PORT: u16 = 7777;

impl Runs for Greet {
    fn why_blind(&self) -> Option<Blindness> {
        self.blindness()
    }
}

/// A client behind source NAT that has said its name.
fn greeted() -> Engine<Greet> {
    let mut flow = flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9");
    (flow.responder.port, flow.responder_translated.port) = (PORT, PORT);
    let mut engine = Engine::with(Greet::default(), flow);
    engine.client("HELLO ada\n");
    engine
}

/// The body of the fuzz target.
pub fn fuzz_greet(script: &[u8]) {
    let mut profile = Profile::default();
    fuzz_body::stream(Greet::default(), PORT, &profile, MAX_LINE, script);
    profile.rules = CommandPolicy::new([Rule {
        argument: Some(Pattern::regex(" 40003$").unwrap()),
        action: Some(Action::Deny),
        ..Default::default()
    }]);
    fuzz_body::stream(Greet::default(), PORT, &profile, MAX_LINE, script);
}

#[test]
fn a_listen_is_translated_and_opens_when_the_server_agrees() {
    for size in [1, 7, 1000] {
        let mut e = greeted();
        e.feed_cut(C, b"LISTEN 7 40000\r\n", &[size]);
        assert_eq!(e.out(C), "HELLO ada\nLISTEN 7 41024\r\n");
        let request = e.expectations[0];
        assert_eq!((request.tag, request.opener, request.armed), (1, Opener::Peer(S), false));
        assert_eq!((request.listener, request.published), (end("10.1.0.2:40000"), end("198.51.100.1:41024")));
        assert_eq!(request.lifetime_ms, WAIT_MS);
        assert_eq!(e.orders, []);
        e.feed_cut(S, b"OK 7\r\n", &[size]);
        assert_eq!((e.out(S).as_str(), &e.orders[..]), ("OK 7\r\n", &[Order::Activate { tag: 1 }][..]));
        assert_eq!(e.facts[0].before.as_slice(), b"LISTEN 7 40000");
        assert_eq!(e.facts[0].after.as_slice(), b"LISTEN 7 41024");
    }
}

#[test]
fn a_refusal_and_a_late_answer_close_it() {
    for (answer, at_ms) in [("NO 7\n", 0), ("OK 7\n", ANSWER_MS)] {
        let mut e = greeted();
        e.client("LISTEN 7 40000\n");
        e.now_ms = at_ms;
        e.server("OK 8\n").server(answer).server("OK 7\n");
        assert_eq!(e.orders, [Order::Close { tag: 1, children: false }], "{answer}");
    }
}

#[test]
fn what_is_refused_leaves_the_stream_and_is_answered() {
    let mut e = greeted();
    e.profile.forbidden_ports.push((3389, 3389));
    e.client("LISTEN 1 1023\nLISTEN 2 3389\nLISTEN 3 40000\nLISTEN 4 40001\n");
    assert_eq!(e.out(C), "HELLO ada\nLISTEN 3 41024\n");
    assert_eq!(e.out(S), "NO 1\nNO 2\nNO 4\n");
    let denials: Vec<_> = e.facts.iter().map(|fact| fact.denial).collect();
    let low = Some(Denial::PrivilegedPort);
    assert_eq!((e.denial, denials), (None, vec![low, low, None, Some(Denial::Limit)]));
    // The server never answers: the wish makes room.
    e.now_ms = ANSWER_MS;
    e.client("LISTEN 5 40002\n");
    assert_eq!((e.expectations.len(), e.expectations[1].tag), (2, 2));
}

#[test]
fn without_room_the_connection_goes_on() {
    let mut e = greeted();
    e.gateway.room = 0;
    e.client("LISTEN 1 40000\n");
    e.gateway.room = usize::MAX;
    e.gateway.error = Some(alg::PublishError::PortsExhausted);
    e.client("LISTEN 2 40000\n");
    assert_eq!((e.out(C).as_str(), e.out(S).as_str()), ("HELLO ada\n", "NO 1\nNO 2\n"));
    assert_eq!((e.denial, e.expectations.len()), (None, 0));
}

#[test]
fn what_finds_no_room_afterwards_is_taken_back() {
    let mut e = greeted();
    let before = e.alg;
    let mut answer = alg::Answer::default();
    let bytes = b"x\nLISTEN 7 40000\n";
    let flow = e.gateway.flow;
    let mut cx =
        alg::Context { flow: &flow, profile: &e.profile, gateway: &mut e.gateway, tables: &mut e.tables };
    e.alg.inspect(&mut cx, C, 10, bytes, &mut answer);
    assert!(e.alg.refuse(&flow, &mut e.tables, C, (10, bytes), Denial::NoResources, &mut answer));
    let edits: Vec<_> = answer.edits.iter().map(|e| (e.start, e.len, e.with.len())).collect();
    assert_eq!((edits, answer.reply.as_slice()), (vec![(2, 15, 0)], &b"NO 7\n"[..]));
    assert!(answer.expectations.is_empty());
    assert_eq!(answer.facts[0].denial, Some(Denial::NoResources));
    // It waits for no answer.
    assert_ne!(e.alg, before, "the tag is used up");
    e.client("LISTEN 8 40000\n");
    assert_eq!(e.expectations[0].tag, 2);
}

#[test]
fn rules_decide() {
    let mut e = greeted();
    let rule = |argument: &str, action| Rule {
        methods: Box::new(["LISTEN".into()]),
        argument: Some(Pattern::regex(argument).unwrap()),
        action: Some(action),
        ..Default::default()
    };
    e.profile.rules = CommandPolicy::new([rule(" 40001$", Action::Deny), rule(" 40002$", Action::Reset)]);
    e.client("LISTEN 1 40001\n").server("OK 1\n");
    assert_eq!((e.out(S).as_str(), e.denial, e.expectations.len()), ("NO 1\nOK 1\n", None, 0));
    e.client("LISTEN 2 40002\n");
    assert_eq!((e.denial, e.facts[1].rule), (Some(Denial::Policy), Some(1)));
}

#[test]
fn what_cannot_be_read_is_denied() {
    for line in
        ["LISTEN \n", "LISTEN 7\n", "LISTEN 7 \n", "LISTEN 7 +40000\n", "LISTEN 7 65536\n", "LISTEN 7 1 2\n"]
    {
        assert_eq!(greeted().client(line).denial, Some(Denial::Malformed), "{line}");
    }
    assert_eq!(greeted().client("x".repeat(MAX_LINE)).denial, Some(Denial::TooLong));
}

#[test]
fn another_protocol_goes_on_unread() {
    for (from, first) in [(C, "POST / HTTP/1.1\n\n"), (C, "LISTEN 7 40000\n"), (C, "HELLo"), (S, "220 hi\n")]
    {
        let mut e = Engine::with(Greet::default(), greeted().gateway.flow);
        e.feed(from, first).client("HELLO ada\nLISTEN 7 40000\n").server("OK 7\n");
        assert_eq!(e.blind(), Some(Blindness::OtherProtocol), "{first}");
        assert!(e.out(C).ends_with("LISTEN 7 40000\n"));
        assert_eq!((e.expectations.len(), e.orders.len()), (0, 0));
    }
    assert_eq!(
        [probe(b"HELLO "), probe(b"HEL"), probe(b"HI")],
        [Probe::Certain, Probe::Unsure, Probe::NotMine]
    );
}

const LINES: [&str; 8] = [
    "HELLO ada\n",
    "LISTEN 7 40000\r\n",
    "LISTEN 8 40003\n",
    "LISTEN 9 80\n",
    "OK 7\n",
    "NO 8\r\n",
    "LISTEN x\n",
    "anything\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(said in vec((select(&LINES[..]), any::<bool>()), 1..16)) {
        let first = [&[10][..], b"HELLO ada\n"].concat();
        let rest = said.iter().flat_map(|(line, from)| {
            [&[line.len() as u8 | u8::from(*from) << 7], line.as_bytes()].concat()
        });
        fuzz_greet(&first.into_iter().chain(rest).collect::<Vec<_>>());
    }

    #[test]
    fn random_bytes_keep_the_contract(script in vec(any::<u8>(), 0..400)) {
        fuzz_greet(&script);
    }
}

fn repository(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lines without their indentation: a quoted function stands at the margin.
fn unindented(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_start).collect()
}

/// Each block names the file that it is a part of.
#[test]
fn the_guide_quotes_what_is_there() {
    let guide = repository("docs/alg-guide.md");
    let mut quoted = 0;
    for block in guide.split("\n```").skip(1).step_by(2) {
        let (info, text) = block.split_once('\n').unwrap();
        if info == "text" {
            continue;
        }
        let file = info.strip_prefix("rust ").unwrap_or_else(|| panic!("```{info}: which file?"));
        let source = repository(file);
        let (source, text) = (unindented(&source), unindented(text));
        assert!(
            source.windows(text.len()).any(|lines| lines == text),
            "{file} has no such lines:\n{text:#?}"
        );
        quoted += usize::from(file == "alg/tests/guide/greet.rs");
    }
    assert!(quoted >= 8, "{quoted} parts of the example");
}
