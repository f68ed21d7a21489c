//! Two phones inside that a proxy outside joins: how each is told of the other.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::{Application, Side};
use common::datagrams::Datagrams;
use common::end;

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;
/// The other phone, as it is known outside.
const OTHER: &str = "198.51.100.1:30060";
const ROUTED: &str = "Record-Route: <sip:203.0.113.9;lr>\r\n";

/// The session of a phone at 10.1.0.2:5060, which is 198.51.100.1:20001 outside; another is at 10.1.0.7:5060.
fn sip() -> Datagrams {
    let mut s = Datagrams::source_nat(Application::Sip, 5060, 5060);
    let other = end(OTHER);
    s.gateway.published.insert((other.addr, other.port), end("10.1.0.7:5060"));
    s
}

fn head(first: &str, more: &str, cseq: &str, tags: [&str; 2]) -> String {
    let [from, to] = tags;
    format!(
        "{first}\r\n{more}From: <sip:bob@example.net>{from}\r\nTo: <sip:alice@example.net>{to}\r\nCall-ID: abc\r\n\
         CSeq: {cseq}\r\nContact: <sip:bob@{OTHER}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A request that the proxy brings from the other phone.
fn brought(method: &str, more: &str, to: &str) -> String {
    let vias = "Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKp\r\n\
                Via: SIP/2.0/UDP 198.51.100.1:30060;branch=z9hG4bKb\r\n";
    let first = format!("{method} sip:alice@198.51.100.1:20001 SIP/2.0");
    head(&first, &format!("{vias}{more}"), &format!("1 {method}"), [";tag=b", to])
}

/// What the phone inside asks the other for.
fn asks(s: &mut Datagrams, method: &str, cseq: u32, to: &str) {
    let request = format!(
        "{method} sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK{cseq}\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>{to}\r\nCall-ID: own\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:alice@10.1.0.2:5060>\r\nContent-Length: 0\r\n\r\n"
    );
    s.send(IN, request).unwrap();
}

/// The other phone's answer, as the proxy brings it.
fn answer(s: &mut Datagrams, status: &str, method: &str, cseq: u32, more: &str) -> String {
    let via = format!("Via: SIP/2.0/UDP 198.51.100.1:20001;branch=z9hG4bK{cseq}\r\n");
    let answer = format!(
        "SIP/2.0 {status}\r\n{via}{more}From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>;tag=b\r\n\
         Call-ID: own\r\nCSeq: {cseq} {method}\r\nContact: <sip:bob@{OTHER}>\r\nContent-Length: 0\r\n\r\n"
    );
    s.text(OUT, answer)
}

#[track_caller]
fn names(read: &str, contact: &str) {
    assert!(read.contains(&format!("Contact: <sip:bob@{contact}>\r\n")), "{read}");
}

#[test]
fn a_dialog_without_a_proxy_goes_from_phone_to_phone() {
    names(&sip().text(OUT, brought("INVITE", "", "")), "10.1.0.7:5060");
    let mut s = sip();
    asks(&mut s, "INVITE", 1, "");
    names(&answer(&mut s, "180 Ringing", "INVITE", 1, ""), "10.1.0.7:5060");
    names(&answer(&mut s, "200 OK", "INVITE", 1, ""), "10.1.0.7:5060");
    // Where the call is sent elsewhere.
    let mut s = sip();
    asks(&mut s, "INVITE", 1, "");
    names(&answer(&mut s, "302 Moved Temporarily", "INVITE", 1, ""), "10.1.0.7:5060");
}

#[test]
fn a_dialog_that_a_proxy_stays_in_goes_through_it() {
    // Whichever header comes first.
    let behind = brought("INVITE", "", "").replacen("Content-Length", &format!("{ROUTED}Content-Length"), 1);
    for invite in [brought("INVITE", ROUTED, ""), behind] {
        let read = sip().text(OUT, invite);
        names(&read, OTHER);
        assert!(read.starts_with("INVITE sip:alice@10.1.0.2:5060 "), "its own is its own: {read}");
    }
    let mut s = sip();
    asks(&mut s, "INVITE", 1, "");
    names(&answer(&mut s, "180 Ringing", "INVITE", 1, ROUTED), OTHER);
    names(&answer(&mut s, "200 OK", "INVITE", 1, ROUTED), OTHER);
    // What comes later says nothing of the proxy: it has brought it.
    asks(&mut s, "INVITE", 2, ";tag=b");
    names(&answer(&mut s, "200 OK", "INVITE", 2, ""), OTHER);
    asks(&mut s, "SUBSCRIBE", 3, ";tag=b");
    names(&answer(&mut s, "200 OK", "SUBSCRIBE", 3, ""), OTHER);
    for method in ["INVITE", "UPDATE", "NOTIFY"] {
        names(&s.text(OUT, brought(method, "", ";tag=a")), OTHER);
    }
}

#[test]
fn a_via_of_the_other_phone_stays_as_the_proxy_wrote_it() {
    for more in ["", ROUTED] {
        let read = sip().text(OUT, brought("INVITE", more, ""));
        assert!(read.contains("Via: SIP/2.0/UDP 198.51.100.1:30060;branch=z9hG4bKb\r\n"), "{read}");
    }
}
