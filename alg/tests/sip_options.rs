//! What SIP's OPTIONS and its answer say of a phone's media: it is shown, and opens nothing.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::{Application, Side};
use common::datagrams::Datagrams;
use common::{Engine, flow};

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;

fn sip() -> Datagrams {
    Datagrams::source_nat(Application::Sip, 5060, 5060)
}

/// The answer of a phone inside to who asks from outside, with a description; its length is right.
fn answer(body: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.9\r\nFrom: <sip:bob@example.net>;tag=b\r\n\
         To: <sip:alice@example.net>;tag=a\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// As RFC 3264 §9 has it: ports of 0, and addresses that mean nothing.
fn can(host: &str) -> String {
    format!(
        "v=0\r\no=alice 7 7 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 0 RTP/AVP 0 8\r\n\
         m=video 0 RTP/AVP 31\r\nc=IN IP4 {host}\r\na=rtcp:53020 IN IP4 {host}\r\n"
    )
}

fn opens_nothing(s: &Datagrams) {
    assert!(s.expectations.is_empty() && s.orders.is_empty(), "{:?} {:?}", s.expectations, s.orders);
    assert!(s.gateway.asked.is_empty(), "nothing is published: {:?}", s.gateway.asked);
}

#[test]
fn what_a_phone_can_do_names_no_inside_address() {
    let mut s = sip();
    assert_eq!(s.text(IN, answer(&can("10.1.0.2"))), answer(&can("198.51.100.1")));
    opens_nothing(&s);
    // What it asks with, too.
    let ask = |text: String| text.replace("SIP/2.0 200 OK", "OPTIONS sip:bob@203.0.113.9 SIP/2.0");
    assert_eq!(s.text(IN, ask(answer(&can("10.1.0.2")))), ask(answer(&can("198.51.100.1"))));
    opens_nothing(&s);
    // The other way it becomes the phone's own again; others' addresses stay.
    assert_eq!(s.text(OUT, answer(&can("198.51.100.1"))), answer(&can("10.1.0.2")));
    assert_eq!(s.text(OUT, answer(&can("203.0.113.9"))), answer(&can("203.0.113.9")));
    // With a port it is no offer either.
    let ready = |host: &str| answer(&can(host).replace("m=audio 0", "m=audio 40000"));
    assert_eq!(s.text(IN, ready("10.1.0.2")), ready("198.51.100.1"));
    opens_nothing(&s);
}

/// Nothing depends on it: it is no reason to lose the answer that says that a phone is there.
#[test]
fn what_cannot_be_read_passes_as_it_is() {
    let many = "m=audio 0 RTP/AVP 0\r\n".repeat(20);
    for body in [
        many.as_str(),
        "m=audio",
        "v=0\r\nc=IN IP4 10.1.0.2\r\na=candidate:1 1 UDP 1 10.1.0.2 9 typ host\r\n",
    ] {
        let mut s = sip();
        assert_eq!(s.text(IN, answer(body)), answer(body));
        opens_nothing(&s);
    }
}

/// Nor is one that is encoded, or that nobody can find.
#[test]
fn a_body_that_is_not_understood_passes() {
    for kind in
        ["application/sdp\r\nContent-Encoding: gzip", "multipart/mixed", "multipart/mixed;boundary=\"\""]
    {
        let odd = answer("\x1f\x08 10.1.0.2").replace("application/sdp", kind);
        let mut s = sip();
        assert_eq!(s.text(IN, &odd), odd);
        opens_nothing(&s);
    }
}

#[test]
fn over_tcp_the_messages_behind_it_are_found() {
    let flow = flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9");
    let mut e = Engine::of(Application::Sip, flow);
    let over_tcp = |host: &str| answer(&can(host)).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    e.client([over_tcp("10.1.0.2"), over_tcp("10.1.0.2")].concat());
    assert_eq!(e.out(IN), [over_tcp("198.51.100.1"), over_tcp("198.51.100.1")].concat());
}
