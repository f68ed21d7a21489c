//! IPv6 addresses in messages of IPv4 sessions: refused as a third party's, or left as they are. Nothing is opened for them, and no
//! address of the one version stands where the other is said to.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::{Application, Denial, Opener, Order, Side};
use common::datagrams::Datagrams;
use common::{Engine, flow};

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;

fn sip() -> Datagrams {
    Datagrams::source_nat(Application::Sip, 5060, 5060)
}

fn rtsp() -> Engine {
    let mut flow = flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9");
    (flow.responder.port, flow.responder_translated.port) = (554, 554);
    Engine::of(Application::Rtsp, flow)
}

/// A request of the phone inside, or its peer's answer to one.
fn message(line: &str, method: &str, contact: &str, body: &str) -> String {
    let via = if line.starts_with("SIP") { "198.51.100.1:20001" } else { "10.1.0.2:5060" };
    let to = if line.starts_with("SIP") { ";tag=b" } else { "" };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{line}\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK1\r\nFrom: <sip:alice@example.net>;tag=a\r\n\
         To: <sip:alice@example.net>{to}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nContact: <{contact}>\r\n{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn sdp(connection: &str, more: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP6 2001:db8::2\r\ns=-\r\nc={connection}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n{more}"
    )
}

#[test]
fn a_phone_is_not_registered_at_an_address_of_ipv6() {
    for contact in ["sip:alice@[2001:db8::2]:5060", "sip:alice@[::ffff:10.1.0.2]:5060", "sip:alice@[::1]"] {
        let register = message("REGISTER sip:example.net SIP/2.0", "REGISTER", contact, "");
        assert_eq!(sip().send(IN, &register), Err(Denial::ThirdPartyAddress), "{contact}");
        let mut s = sip();
        s.profile.third_party = true;
        assert!(s.text(IN, &register).contains(contact));
        assert!(s.expectations.is_empty());
    }
}

#[test]
fn a_contact_of_ipv6_in_a_call_stays_as_it_is() {
    let mut s = sip();
    let invite = message(
        "INVITE sip:bob@203.0.113.9 SIP/2.0",
        "INVITE",
        "sip:alice@[2001:db8::2]:5070",
        &sdp("IN IP4 10.1.0.2", ""),
    );
    let left = s.text(IN, invite);
    assert!(
        left.contains("<sip:alice@[2001:db8::2]:5070>") && left.contains("o=- 1 1 IN IP6 2001:db8::2\r\n")
    );
    assert_eq!(s.expectations.len(), 2, "RTP and RTCP");
    assert!(s.expectations.iter().all(|e| e.listener.addr.is_ipv4() && e.opener == Opener::Peer(OUT)));
}

#[test]
fn media_of_ipv6_are_refused_behind_nat_and_open_nothing_elsewhere() {
    let invite =
        |body: &str| message("INVITE sip:bob@203.0.113.9 SIP/2.0", "INVITE", "sip:alice@10.1.0.2:5060", body);
    let mut s = sip();
    let six = sdp("IN IP6 2001:db8::2", "");
    assert_eq!(s.send(IN, invite(&six)), Err(Denial::ThirdPartyAddress));
    assert!(s.reply.starts_with(b"SIP/2.0 "), "its sender is told");
    s.profile.third_party = true;
    assert!(s.text(IN, invite(&six)).ends_with(&six));
    assert!(s.expectations.is_empty());

    // The answer to a call names them: it passes, for what it is worth.
    let mut s = sip();
    s.send(IN, invite(&sdp("IN IP4 10.1.0.2", ""))).unwrap();
    assert_eq!(s.expectations.len(), 2);
    let ok = message("SIP/2.0 200 OK", "INVITE", "sip:bob@203.0.113.9", &six);
    assert!(s.text(OUT, ok).ends_with(&six));
    assert!(s.expectations.is_empty());
}

#[test]
fn rtcp_at_an_address_of_ipv6_is_refused_or_stays() {
    let body = sdp("IN IP4 10.1.0.2", "a=rtcp:40001 IN IP6 2001:db8::2\r\n");
    let invite = message("INVITE sip:bob@203.0.113.9 SIP/2.0", "INVITE", "sip:alice@10.1.0.2:5060", &body);
    assert_eq!(sip().send(IN, &invite), Err(Denial::ThirdPartyAddress));
    let mut s = sip();
    s.profile.third_party = true;
    let left = s.text(IN, &invite);
    assert!(
        left.contains("c=IN IP4 198.51.100.1\r\n") && left.contains("a=rtcp:40001 IN IP6 2001:db8::2\r\n"),
        "{left}"
    );
}

#[test]
fn tracks_of_rtsp_at_addresses_of_ipv6() {
    let setup = |transport: &str| {
        format!("SETUP rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 3\r\nTransport: {transport}\r\n\r\n")
    };
    let ok = |transport: &str| {
        format!("RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: 1\r\nTransport: {transport}\r\n\r\n")
    };
    for transport in [
        "RTP/AVP;unicast;destination=2001:db8::2;client_port=50000-50001",
        "RTP/AVP/UDP;unicast;dest_addr=\"[2001:db8::2]:50000\"/\"[2001:db8::2]:50001\"",
    ] {
        assert_eq!(rtsp().client(setup(transport)).denial, Some(Denial::ThirdPartyAddress), "{transport}");
        let mut e = rtsp();
        e.profile.third_party = true;
        e.client(setup(transport));
        assert_eq!((e.out(IN), e.expectations.len()), (setup(transport), 0));
    }
    let chosen = "RTP/AVP;unicast;client_port=51024-51025;server_port=6000-6001;source=2001:db8::9";
    for other_source in [false, true] {
        let mut e = rtsp();
        e.profile.rtsp.other_source = other_source;
        e.client(setup("RTP/AVP;unicast;client_port=50000-50001")).server(ok(chosen));
        if !other_source {
            assert_eq!(e.denial, Some(Denial::ThirdPartyAddress));
            continue;
        }
        assert_eq!(e.out(OUT), ok(&chosen.replace("51024-51025", "50000-50001")));
        assert!(e.expectations.iter().all(|x| !x.armed), "what was offered stays shut");
        assert_eq!(e.orders, [4, 5].map(|tag| Order::Close { tag, children: false }));
    }
}

/// A bounce is one whatever the profile says of other protocols' third parties.
#[test]
fn data_ports_of_ftp_at_addresses_of_ipv6() {
    for line in ["EPRT |2|2001:db8::2|40000|\r\n", "EPRT |2|::ffff:10.1.0.2|40000|\r\n"] {
        let mut e = Engine::source_nat();
        e.profile.third_party = true;
        e.client(line);
        assert_eq!((e.denial, e.expectations.len()), (Some(Denial::ThirdPartyAddress), 0), "{line}");
    }
}
