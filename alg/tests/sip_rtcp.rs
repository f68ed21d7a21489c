//! RTCP that does not stand beside its RTP: `a=rtcp` names another port, or another host (RFC 3605).
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::{Application, Denial, Opener, Order, Side};
use common::datagrams::Datagrams;
use common::{end, flow};

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;
const AUDIO: &str = "m=audio 40000 RTP/AVP 0";
const THEIRS: &str = "m=audio 7000 RTP/AVP 0";

fn sip() -> Datagrams {
    Datagrams::source_nat(Application::Sip, 5060, 5060)
}

fn routed() -> Datagrams {
    let mut flow = flow("10.1.0.2", "10.1.0.2", "203.0.113.9", "203.0.113.9");
    for end in [
        &mut flow.initiator,
        &mut flow.initiator_translated,
        &mut flow.responder,
        &mut flow.responder_translated,
    ] {
        end.port = 5060;
    }
    Datagrams::new(Application::Sip, flow)
}

fn sdp(host: &str, media: &str, rtcp: &str) -> String {
    format!("v=0\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n{media}\r\na=rtcp:{rtcp}\r\n")
}

/// The phone's INVITE, or the answer to it.
fn message(line: &str, body: &str) -> String {
    let tag = if line.starts_with("SIP/2.0 ") { ";tag=b" } else { "" };
    format!(
        "{line}\r\nVia: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bK1\r\nFrom: <sip:alice@example.net>;tag=a\r\n\
         To: <sip:bob@example.net>{tag}\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn invite(body: &str) -> String {
    message("INVITE sip:bob@203.0.113.9 SIP/2.0", body)
}

fn answer(body: &str) -> String {
    message("SIP/2.0 200 OK", body)
}

/// The description that leaves.
fn told(s: &mut Datagrams, from: Side, payload: &str) -> String {
    s.text(from, payload).split("\r\n\r\n").nth(1).unwrap().to_owned()
}

/// What is opened: the listener, who may open it, and where the listener may send to.
fn opened(s: &Datagrams) -> Vec<(Application, String, Opener, Option<String>)> {
    let text = |e: alg::Endpoint| e.to_string();
    s.expectations.iter().map(|e| (e.application, text(e.listener), e.opener, e.reverse.map(text))).collect()
}

/// Where a page makes a browser's phone name a neighbour, the neighbour is not opened.
#[test]
fn a_hidden_phone_names_no_other_host_for_its_rtcp() {
    let body = sdp("10.1.0.2", AUDIO, "40009 IN IP4 10.1.0.3");
    let mut s = sip();
    assert_eq!(s.send(IN, invite(&body)), Err(Denial::ThirdPartyAddress));
    // Where the profile lets it, the line stays, and nothing is opened for it.
    s.profile.third_party = true;
    assert_eq!(
        told(&mut s, IN, &invite(&body)),
        body.replace("c=IN IP4 10.1.0.2", "c=IN IP4 198.51.100.1").replace("audio 40000", "audio 41024")
    );
    assert_eq!(opened(&s), [(Application::Rtp, "10.1.0.2:40000".into(), Opener::Peer(OUT), None)]);
    let low = sdp("10.1.0.2", AUDIO, "53 IN IP4 10.1.0.3");
    assert_eq!(s.send(IN, invite(&low)), Err(Denial::PrivilegedPort));
}

#[test]
fn a_phone_that_nothing_hides_may_name_another_host_for_its_rtcp() {
    let body = sdp("10.1.0.2", AUDIO, "40009 IN IP4 10.1.0.3");
    let mut s = routed();
    assert_eq!(told(&mut s, IN, &invite(&body)), body);
    assert_eq!(opened(&s), [(Application::Rtp, "10.1.0.2:40000".into(), Opener::Peer(OUT), None)]);
}

/// The peer's media servers: each may send what it was named for, and is sent that.
#[test]
fn rtp_and_rtcp_of_the_other_side_may_have_a_host_each() {
    for host in ["203.0.113.50", "203.0.113.9"] {
        let mut s = sip();
        s.send(IN, invite(&sdp("10.1.0.2", AUDIO, "40009"))).unwrap();
        let body = sdp(host, THEIRS, "7009 IN IP4 203.0.113.51");
        assert_eq!(told(&mut s, OUT, &answer(&body)), body, "{host}");
        let other = |host: &str| Opener::Host(OUT, end(&format!("{host}:1")).addr);
        let rtp = if host == "203.0.113.9" { Opener::Peer(OUT) } else { other(host) };
        assert_eq!(
            opened(&s),
            [
                (Application::Rtp, "10.1.0.2:40000".into(), rtp, Some(format!("{host}:7000"))),
                (
                    Application::Rtcp,
                    "10.1.0.2:40009".into(),
                    other("203.0.113.51"),
                    Some("203.0.113.51:7009".into())
                ),
            ],
            "{host}"
        );
        let low = sdp(host, THEIRS, "53 IN IP4 203.0.113.51");
        assert_eq!(s.send(OUT, answer(&low)), Err(Denial::PrivilegedPort));
    }
}

/// Nothing would take the reference of a port that was published for it: another flow's would be named.
#[test]
fn rtcp_of_the_senders_own_is_not_published_where_its_rtp_is_anothers() {
    let mut s = sip();
    s.profile.third_party = true;
    let body = sdp("10.1.0.3", AUDIO, "40009 IN IP4 10.1.0.2");
    assert_eq!(told(&mut s, IN, &invite(&body)), body);
    assert_eq!(opened(&s), [], "media of another host's");
}

/// A port lies between the two of RTP, as it was published, whoever has RTCP.
#[test]
fn several_ports_of_a_medium_lie_where_they_were_published() {
    for rtcp in ["40009 IN IP4 10.1.0.3", "40001"] {
        let mut s = sip();
        s.profile.third_party = true;
        let left = told(&mut s, IN, &invite(&sdp("10.1.0.2", "m=audio 40000/2 RTP/AVP 0", rtcp)));
        assert!(left.contains("m=audio 41024/2 RTP/AVP 0"), "{left}");
        let rtp: Vec<_> = s.expectations.iter().filter(|e| e.application == Application::Rtp).collect();
        let ports: Vec<_> = rtp.iter().map(|e| (e.listener.port, e.published.port)).collect();
        assert_eq!(ports, [(40_000, 41_024), (40_002, 41_026)], "{rtcp}");
    }
}

/// What a new offer takes away from the phone's own port has no pinhole any more.
#[test]
fn rtcp_that_moves_to_another_host_leaves_no_pinhole_behind() {
    for rtcp in ["40009 IN IP4 10.1.0.3", "40000"] {
        let mut s = sip();
        s.profile.third_party = true;
        s.send(IN, invite(&sdp("10.1.0.2", AUDIO, "40001"))).unwrap();
        let before: Vec<_> = s.expectations.iter().filter(|e| e.application == Application::Rtcp).collect();
        let [rtcp_pinhole] = before[..] else { panic!("{before:?}") };
        let closes = Order::Close { tag: rtcp_pinhole.tag, children: true };
        s.send(IN, invite(&sdp("10.1.0.2", AUDIO, rtcp)).replace("CSeq: 1", "CSeq: 2")).unwrap();
        assert!(s.orders.contains(&closes), "{rtcp}: {:?}", s.orders);
    }
}

/// The other side passes on what the inside has published: each port leads where it has led.
#[test]
fn published_rtcp_that_comes_back_is_the_insides() {
    for line in ["41033", "41033 IN IP4 198.51.100.1"] {
        let mut s = sip();
        s.send(IN, invite(&sdp("10.1.0.2", AUDIO, "40009"))).unwrap();
        let back = sdp("198.51.100.1", "m=audio 41024 RTP/AVP 0", line);
        let expected =
            sdp("10.1.0.2", AUDIO, &line.replace("41033", "40009").replace("198.51.100.1", "10.1.0.2"));
        assert_eq!(told(&mut s, OUT, &answer(&back)), expected);
    }
}

#[test]
fn rtcp_that_nobody_is_to_send_stays_as_it_is() {
    for host in ["0.0.0.0", "224.2.1.1"] {
        let mut s = sip();
        let left = told(&mut s, IN, &invite(&sdp("10.1.0.2", AUDIO, &format!("40009 IN IP4 {host}"))));
        assert!(left.ends_with(&format!("a=rtcp:40009 IN IP4 {host}\r\n")), "{left}");
        assert_eq!(opened(&s), [(Application::Rtp, "10.1.0.2:40000".into(), Opener::Peer(OUT), None)]);
    }
}

#[test]
fn rtcp_of_a_callee_at_an_address_of_ipv6_opens_nothing() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", AUDIO, "40009"))).unwrap();
    let body = sdp("203.0.113.9", THEIRS, "7009 IN IP6 2001:db8::9");
    assert_eq!(told(&mut s, OUT, &answer(&body)), body);
    let rtp = (Application::Rtp, "10.1.0.2:40000".into(), Opener::Peer(OUT), Some("203.0.113.9:7000".into()));
    assert_eq!(opened(&s), [rtp]);
}
