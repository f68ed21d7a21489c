//! SIP calls over UDP behind source NAT: what is rewritten, opened and closed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;
#[path = "sip_calls/forks.rs"]
mod forks;
#[path = "sip_calls/media.rs"]
mod media;

use alg::sip::Rewrite;
use alg::{Application, Denial, ExpectationRequest, Opener, Order, Side, Transport};
use common::datagrams::Datagrams;
use common::end;

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;

fn sip() -> Datagrams {
    Datagrams::source_nat(Application::Sip, 5060, 5060)
}

fn lines(text: &[&str]) -> String {
    text.iter().map(|l| format!("{l}\r\n")).collect()
}

/// A message of these header lines and this body, with the right length.
fn message(head: &[&str], body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{}{kind}Content-Length: {}\r\n\r\n{body}", lines(head), body.len())
}

fn sdp(addr: &str, media: &[&str]) -> String {
    let session = format!("v=0\r\no=- 1 1 IN IP4 {addr}\r\ns=-\r\nc=IN IP4 {addr}\r\nt=0 0\r\n");
    session + &lines(media)
}

fn invite(body: &str) -> String {
    message(
        &[
            "INVITE sip:bob@203.0.113.9 SIP/2.0",
            "Via: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1;rport",
            "From: \"10.1.0.2\" <sip:alice@10.1.0.2>;tag=a",
            "To: <sip:bob@203.0.113.9>",
            "Call-ID: abc@10.1.0.2",
            "CSeq: 1 INVITE",
            "m: <sip:alice@10.1.0.2:5060>",
        ],
        body,
    )
}

fn reply(status: &str, method: &str, body: &str) -> String {
    message(
        &[
            &format!("SIP/2.0 {status}"),
            "v: SIP/2.0/UDP 198.51.100.1:20001;branch=z9hG4bK1;rport=20001;received=198.51.100.1",
            "f: <sip:alice@10.1.0.2>;tag=a",
            "t: <sip:bob@203.0.113.9>;tag=b",
            "i: abc@10.1.0.2",
            &format!("CSeq: 1 {method}"),
            "Contact: <sip:bob@203.0.113.9>",
        ],
        body,
    )
}

fn opened(e: &ExpectationRequest) -> (String, String, Opener, Option<String>, Application) {
    let text = |e: alg::Endpoint| e.to_string();
    (text(e.listener), text(e.published), e.opener, e.reverse.map(text), e.application)
}

const AUDIO: &str = "m=audio 40000 RTP/AVP 0 101";

#[test]
fn an_offer_is_rewritten_where_it_must_be_and_nowhere_else() {
    let mut s = sip();
    let left = s.text(IN, invite(&sdp("10.1.0.2", &[AUDIO, "a=rtpmap:0 PCMU/8000"])));
    let body = "v=0\r\no=- 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
        m=audio 41024 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n";
    let expected = message(
        &[
            "INVITE sip:bob@203.0.113.9 SIP/2.0",
            "Via: SIP/2.0/UDP 198.51.100.1:20001;branch=z9hG4bK1;rport",
            "From: \"10.1.0.2\" <sip:alice@10.1.0.2>;tag=a",
            "To: <sip:bob@203.0.113.9>",
            "Call-ID: abc@10.1.0.2",
            "CSeq: 1 INVITE",
            "m: <sip:alice@198.51.100.1:20001>",
        ],
        body,
    );
    assert_eq!(left, expected);
    // Early media from the signalling peer; RTCP beside it.
    let peer = Opener::Peer(OUT);
    assert_eq!(
        s.expectations.iter().map(opened).collect::<Vec<_>>(),
        [
            ("10.1.0.2:40000".into(), "198.51.100.1:41024".into(), peer, None, Application::Rtp),
            ("10.1.0.2:40001".into(), "198.51.100.1:41025".into(), peer, None, Application::Rtcp),
        ]
    );
    assert!(s.expectations.iter().all(|e| e.armed && e.transport == Transport::Udp));
}

#[test]
fn an_answer_names_who_may_send_and_where_to() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    let first: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    let answer = reply("200 OK", "INVITE", &sdp("203.0.113.77", &["m=audio 6000 RTP/AVP 0"]));
    let read = s.text(OUT, &answer);
    let restored = answer.replace(
        "198.51.100.1:20001;branch=z9hG4bK1;rport=20001;received=198.51.100.1",
        "10.1.0.2:5060;branch=z9hG4bK1;rport=5060;received=10.1.0.2",
    );
    assert_eq!(read, restored, "the Via is the phone's own again; a media server's address stays");
    let host = Opener::Host(OUT, end("203.0.113.77:1").addr);
    let expected = [
        (
            "10.1.0.2:40000".into(),
            "198.51.100.1:41024".into(),
            host,
            Some("203.0.113.77:6000".into()),
            Application::Rtp,
        ),
        (
            "10.1.0.2:40001".into(),
            "198.51.100.1:41025".into(),
            host,
            Some("203.0.113.77:6001".into()),
            Application::Rtcp,
        ),
    ];
    assert_eq!(s.expectations.iter().map(opened).collect::<Vec<_>>(), expected);
    assert_eq!(
        s.expectations.iter().map(|e| e.tag).collect::<Vec<_>>(),
        first,
        "the same pinholes, named anew"
    );
}

#[test]
fn bye_closes_the_call_and_its_media() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    let tags: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    s.send(OUT, reply("200 OK", "INVITE", &sdp("203.0.113.9", &["m=audio 6000 RTP/AVP 0"]))).unwrap();
    s.send(OUT, reply("401 Unauthorized", "BYE", "")).unwrap();
    assert!(s.orders.is_empty(), "it will come again");
    s.send(OUT, reply("200 OK", "BYE", "")).unwrap();
    let closed: Vec<Order> = tags.iter().map(|tag| Order::Close { tag: *tag, children: true }).collect();
    assert_eq!(s.orders, closed);
    s.send(OUT, reply("200 OK", "BYE", "")).unwrap();
    assert!(s.orders.is_empty(), "once");
}

#[test]
fn a_refused_call_closes_its_pinholes_and_a_refused_re_invite_does_not() {
    for status in ["486 Busy Here", "401 Unauthorized", "487 Request Terminated", "302 Moved"] {
        let mut s = sip();
        s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
        s.send(OUT, reply("180 Ringing", "INVITE", "")).unwrap();
        assert!(s.orders.is_empty());
        s.send(OUT, reply(status, "INVITE", "")).unwrap();
        assert_eq!(s.orders.len(), 2, "{status}");
        assert!(matches!(s.orders[0], Order::Close { children: false, .. }));
    }
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    s.send(OUT, reply("200 OK", "INVITE", &sdp("203.0.113.9", &["m=audio 6000 RTP/AVP 0"]))).unwrap();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    s.send(OUT, reply("488 Not Acceptable Here", "INVITE", "")).unwrap();
    assert!(s.orders.is_empty());
}

#[test]
fn a_call_from_outside_reaches_the_phone_and_its_answer_opens() {
    let mut s = sip();
    let request = message(
        &[
            "INVITE sip:alice@198.51.100.1:20001 SIP/2.0",
            "Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bK9",
            "Route: <sip:198.51.100.1:20001;lr>",
            "From: <sip:bob@example.net>;tag=b",
            "To: <sip:alice@example.net>",
            "Call-ID: in",
            "CSeq: 7 INVITE",
            "Contact: <sip:bob@192.0.2.200:5070>",
        ],
        &sdp("203.0.113.50", &["m=audio 7000 RTP/AVP 0", "a=rtcp:7009"]),
    );
    let read = s.text(OUT, &request);
    assert!(read.starts_with("INVITE sip:alice@10.1.0.2:5060 SIP/2.0\r\n"));
    assert!(read.contains("Route: <sip:10.1.0.2:5060;lr>"));
    assert!(s.expectations.is_empty(), "nobody inside has named an endpoint yet");
    let ok = message(
        &[
            "SIP/2.0 200 OK",
            "Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bK9",
            "From: <sip:bob@example.net>;tag=b",
            "To: <sip:alice@example.net>;tag=a",
            "Call-ID: in",
            "CSeq: 7 INVITE",
            "Contact: <sip:alice@10.1.0.2>",
        ],
        &sdp("10.1.0.2", &[AUDIO]),
    );
    let left = s.text(IN, &ok);
    assert!(left.contains("Contact: <sip:alice@198.51.100.1:20001>\r\n"), "{left}");
    let host = Opener::Host(OUT, end("203.0.113.50:1").addr);
    let expected = [
        (
            "10.1.0.2:40000".into(),
            "198.51.100.1:41024".into(),
            host,
            Some("203.0.113.50:7000".into()),
            Application::Rtp,
        ),
        (
            "10.1.0.2:40001".into(),
            "198.51.100.1:41025".into(),
            host,
            Some("203.0.113.50:7009".into()),
            Application::Rtcp,
        ),
    ];
    assert_eq!(s.expectations.iter().map(opened).collect::<Vec<_>>(), expected);
}

#[test]
fn third_parties_and_low_ports_are_refused_in_sips_words() {
    for (body, denial, status) in [
        (sdp("10.1.0.3", &[AUDIO]), Denial::ThirdPartyAddress, "SIP/2.0 403 Forbidden\r\n"),
        (sdp("10.1.0.2", &["m=audio 22 RTP/AVP 0"]), Denial::PrivilegedPort, "SIP/2.0 403 Forbidden\r\n"),
        (sdp("10.1.0.2", &[AUDIO, "a=rtcp:53"]), Denial::PrivilegedPort, "SIP/2.0 403 Forbidden\r\n"),
        (sdp("10.1.0.2", &[AUDIO, "a=rtcp:4000 IN IP4 10.1.0.3"]), Denial::ThirdPartyAddress, "SIP/2.0 403"),
        (sdp("10.1.0.2", &["m=audio x RTP/AVP 0"]), Denial::Malformed, "SIP/2.0 400 Bad Request\r\n"),
        (sdp("10.1.0.2", &[AUDIO; 7]), Denial::TooMany, "SIP/2.0 503 Service Unavailable\r\n"),
    ] {
        let mut s = sip();
        assert_eq!(s.send(IN, invite(&body)), Err(denial), "{body}");
        let reply = String::from_utf8(s.reply.clone()).unwrap();
        assert!(reply.starts_with(status), "{reply}");
        assert!(reply.contains("Via: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1;rport\r\n"));
        assert!(reply.contains("\r\nCall-ID: abc@10.1.0.2\r\nCSeq: 1 INVITE\r\n"));
        assert!(
            reply.contains("To: <sip:bob@203.0.113.9>;tag=") && reply.ends_with("Content-Length: 0\r\n\r\n")
        );
        assert_eq!(s.facts.len(), 1);
    }
    // Nor does an answer lead the phone to a port of another host that is not for media.
    for media in [&["m=audio 53 RTP/AVP 0"][..], &["m=audio 6000 RTP/AVP 0", "a=rtcp:53"]] {
        for host in ["203.0.113.77", "203.0.113.9"] {
            let mut s = sip();
            s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
            let answer = reply("200 OK", "INVITE", &sdp(host, media));
            assert_eq!(s.send(OUT, answer), Err(Denial::PrivilegedPort), "{host} {media:?}");
        }
    }
    let mut s = sip();
    s.profile.third_party = true;
    let left = s.text(IN, invite(&sdp("10.1.0.3", &[AUDIO])));
    assert!(
        left.contains("c=IN IP4 10.1.0.3\r\n") && s.expectations.is_empty(),
        "allowed, and nothing opened"
    );
    let mut s = sip();
    s.profile.forbidden_ports.push((40000, 40000));
    assert_eq!(s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))), Err(Denial::PrivilegedPort));
}

#[test]
fn media_between_two_inside_phones_stays_inside() {
    // Another phone, 10.1.0.7, has its media published as 198.51.100.1:30000.
    let mut s = sip();
    s.gateway.published.insert((end("198.51.100.1:1").addr, 30000), end("10.1.0.7:4000"));
    s.gateway.published.insert((end("198.51.100.1:1").addr, 30001), end("10.1.0.7:4001"));
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    let read = s.text(OUT, reply("200 OK", "INVITE", &sdp("198.51.100.1", &["m=audio 30000 RTP/AVP 0"])));
    assert!(read.ends_with("c=IN IP4 10.1.0.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"), "{read}");
}

#[test]
fn full_rewriting_is_undone_on_the_way_back() {
    let mut s = sip();
    s.profile.sip.rewrite = Rewrite::Full;
    let left = s.text(IN, invite(&sdp("10.1.0.2", &[AUDIO])));
    assert!(!left.replace("\"10.1.0.2\"", "").contains("10.1.0.2"), "{left}");
    assert!(
        left.contains("Call-ID: abc@198.51.100.1\r\n") && left.contains("<sip:alice@198.51.100.1>;tag=a")
    );
    let answer = reply("200 OK", "INVITE", &sdp("203.0.113.9", &["m=audio 6000 RTP/AVP 0"]))
        .replace("alice@10.1.0.2", "alice@198.51.100.1")
        .replace("abc@10.1.0.2", "abc@198.51.100.1");
    let read = s.text(OUT, answer);
    assert!(read.contains("i: abc@10.1.0.2\r\n") && read.contains("f: <sip:alice@10.1.0.2>;tag=a"), "{read}");
    assert_eq!(s.expectations[0].reverse, Some(end("203.0.113.9:6000")), "one call on both sides");
}

/// Headers that carry addresses, a line each: what an inside phone writes, what leaves with little rewriting, what leaves
/// with full rewriting.
const HEADERS: [(&str, &str, &str); 27] = [
    ("Via: SIP/2.0/UDP {own}:5060;branch=z9", "Via: SIP/2.0/UDP {seen}:20001;branch=z9", ""),
    ("v: SIP/2.0/UDP {own};rport", "v: SIP/2.0/UDP {seen}:20001;rport", ""),
    ("Contact: <sip:a@{own}:5060;ob>;q=0.5", "Contact: <sip:a@{seen}:20001;ob>;q=0.5", ""),
    (
        "Route: <sip:203.0.113.9;lr>, <sip:{own}:5060;lr>",
        "Route: <sip:203.0.113.9;lr>, <sip:{seen}:20001;lr>",
        "",
    ),
    ("Record-Route: <sip:{own}:5060;lr>", "Record-Route: <sip:{seen}:20001;lr>", ""),
    ("Path: <sip:{own};lr>", "Path: <sip:{seen}:20001;lr>", ""),
    ("Service-Route: <sip:{own}:5060;lr>", "Service-Route: <sip:{seen}:20001;lr>", ""),
    ("Refer-To: <sip:b@{own}:5060?Subject=x>", "Refer-To: <sip:b@{seen}:20001?Subject=x>", ""),
    ("r: sip:b@{own}:5060", "r: sip:b@{seen}:20001", ""),
    ("Referred-By: <sip:a@{own}>", "Referred-By: <sip:a@{own}>", "Referred-By: <sip:a@{seen}>"),
    ("b: <sip:a@{own}>", "b: <sip:a@{own}>", "b: <sip:a@{seen}>"),
    (
        "P-Asserted-Identity: <sip:a@{own}>",
        "P-Asserted-Identity: <sip:a@{own}>",
        "P-Asserted-Identity: <sip:a@{seen}>",
    ),
    (
        "P-Preferred-Identity: sip:a@{own}",
        "P-Preferred-Identity: sip:a@{own}",
        "P-Preferred-Identity: sip:a@{seen}",
    ),
    (
        "Remote-Party-ID: <sip:a@{own}>;privacy=off",
        "Remote-Party-ID: <sip:a@{own}>;privacy=off",
        "Remote-Party-ID: <sip:a@{seen}>;privacy=off",
    ),
    (
        "Diversion: <sip:a@{own}>;reason=x",
        "Diversion: <sip:a@{own}>;reason=x",
        "Diversion: <sip:a@{seen}>;reason=x",
    ),
    (
        "History-Info: <sip:a@{own}>;index=1",
        "History-Info: <sip:a@{own}>;index=1",
        "History-Info: <sip:a@{seen}>;index=1",
    ),
    ("Reply-To: <sip:a@{own}>", "Reply-To: <sip:a@{own}>", "Reply-To: <sip:a@{seen}>"),
    (
        "Call-Info: <http://{own}/a.jpg>;purpose=icon",
        "Call-Info: <http://{own}/a.jpg>;purpose=icon",
        "Call-Info: <http://{seen}/a.jpg>;purpose=icon",
    ),
    (
        "Alert-Info: <http://{own}/bell>",
        "Alert-Info: <http://{own}/bell>",
        "Alert-Info: <http://{seen}/bell>",
    ),
    ("Error-Info: <sip:e@{own}>", "Error-Info: <sip:e@{own}>", "Error-Info: <sip:e@{seen}>"),
    (
        "P-Called-Party-ID: <sip:a@{own}>",
        "P-Called-Party-ID: <sip:a@{own}>",
        "P-Called-Party-ID: <sip:a@{seen}>",
    ),
    ("In-Reply-To: 1@{own}, 2@{own}", "In-Reply-To: 1@{own}, 2@{own}", "In-Reply-To: 1@{seen}, 2@{seen}"),
    (
        "Replaces: 98@{own};to-tag=1;from-tag=2",
        "Replaces: 98@{own};to-tag=1;from-tag=2",
        "Replaces: 98@{seen};to-tag=1;from-tag=2",
    ),
    ("Join: 98@{own};to-tag=1", "Join: 98@{own};to-tag=1", "Join: 98@{seen};to-tag=1"),
    (
        "Target-Dialog: 98@{own};local-tag=1",
        "Target-Dialog: 98@{own};local-tag=1",
        "Target-Dialog: 98@{seen};local-tag=1",
    ),
    (
        "Refer-To: <sip:b@{own}:5060?Replaces=98%40{own}%3Bto-tag%3D1>",
        "Refer-To: <sip:b@{seen}:20001?Replaces=98%40{own}%3Bto-tag%3D1>",
        "Refer-To: <sip:b@{seen}:20001?Replaces=98%40{seen}%3Bto-tag%3D1>",
    ),
    ("Warning: 399 {own} \"{own}\"", "Warning: 399 {own} \"{own}\"", "Warning: 399 {seen} \"{own}\""),
];

#[test]
fn every_header_that_carries_an_address() {
    for (written, minimal, full) in HEADERS {
        for (rewrite, left) in
            [(Rewrite::Minimal, minimal), (Rewrite::Full, if full.is_empty() { minimal } else { full })]
        {
            let mut s = sip();
            s.profile.sip.rewrite = rewrite;
            let text = |form: &str| form.replace("{own}", "10.1.0.2").replace("{seen}", "198.51.100.1");
            let request = |line: &str| {
                lines(&["OPTIONS sip:b@example.net SIP/2.0", &text(line), "Call-ID: x", "CSeq: 1 OPTIONS"])
                    + "\r\n"
            };
            assert_eq!(s.text(IN, request(written)), request(left), "{rewrite:?}");
            // What the other side repeats of it, translated back: the same again, but for a port that was not written.
            let back = s.text(OUT, request(left));
            let with_port = |t: &str| t.replace("10.1.0.2:5060", "10.1.0.2");
            assert_eq!(with_port(&back), with_port(&request(written)), "{rewrite:?}, on the way back");
        }
    }
}

#[test]
fn without_translation_nothing_is_rewritten_but_opened() {
    let mut flow = common::flow("10.1.0.2", "10.1.0.2", "203.0.113.9", "203.0.113.9");
    (flow.initiator.port, flow.initiator_translated.port) = (5060, 5060);
    (flow.responder.port, flow.responder_translated.port) = (5060, 5060);
    let mut s = Datagrams::new(Application::Sip, flow);
    let request = invite(&sdp("10.1.0.2", &[AUDIO]));
    assert_eq!(s.text(IN, &request), request);
    assert_eq!(s.expectations.len(), 2);
    let answer = reply("183 Session Progress", "INVITE", &sdp("203.0.113.9", &["m=audio 6000 RTP/AVP 0"]));
    assert_eq!(s.text(OUT, &answer), answer);
    assert_eq!(opened(&s.expectations[0]).3, Some("203.0.113.9:6000".into()));
}

#[test]
fn a_session_has_no_more_calls_than_its_profile_says() {
    let mut s = sip();
    s.profile.sip.max_dialogs = 2;
    let call = |id: &str| invite(&sdp("10.1.0.2", &[AUDIO])).replace("abc@", &format!("{id}@"));
    s.send(IN, call("one")).unwrap();
    s.send(IN, call("two")).unwrap();
    s.send(IN, call("one")).unwrap();
    assert_eq!(s.send(IN, call("three")), Err(Denial::Limit));
    assert!(s.reply.starts_with(b"SIP/2.0 503 Service Unavailable\r\n"));
    // One ends.
    s.send(OUT, reply("486 Busy Here", "INVITE", "").replace("abc@", "one@")).unwrap();
    s.send(IN, call("three")).unwrap();
    assert_eq!(s.send(IN, call("four")), Err(Denial::Limit));
    // Or nobody answers.
    s.now_ms = 240_000;
    s.send(IN, call("four")).unwrap();
}

/// RTP and RTCP are idle together, each pair for itself, and none outlives its call.
#[test]
fn the_pinholes_of_a_pair_are_a_group() {
    let mut s = sip();
    s.profile.sip.media_idle_s = 60;
    s.profile.sip.max_call_s = 600;
    let offer = ["m=video 40000/2 RTP/AVP 96", "m=image 40010 udptl t38", "m=message 40020 TCP/MSRP *"];
    s.send(IN, invite(&sdp("10.1.0.2", &offer))).unwrap();
    let groups = |s: &Datagrams| -> Vec<(u32, alg::Group)> {
        s.expectations.iter().map(|e| (e.tag, e.group.unwrap())).collect()
    };
    let [rtp, rtcp, rtp2, rtcp2, fax, tcp] = groups(&s)[..] else { unreachable!("{:?}", s.expectations) };
    for (a, b) in [(rtp, rtcp), (rtp2, rtcp2), (fax, fax), (tcp, tcp)] {
        assert_eq!((a.1.next, b.1.next), (b.0, a.0));
    }
    assert_eq!((rtp.1.idle_ms, fax.1.idle_ms, tcp.1.idle_ms), (60_000, 60_000, 0), "TCP knows itself");
    assert_eq!((rtp.1.ends_ms, rtp.1.peer), (600_000, 0));
    s.now_ms = 100_000;
    let answer = ["m=video 6000/2 RTP/AVP 96", "m=image 0 udptl t38", "m=message 0 TCP/MSRP *"];
    s.send(OUT, reply("200 OK", "INVITE", &sdp("203.0.113.9", &answer))).unwrap();
    let [rtp, .., rtcp2] = groups(&s)[..] else { unreachable!("{:?}", s.expectations) };
    assert_eq!((rtp.1.ends_ms, rtp.1.peer, rtcp2.1.peer), (500_000, 6_000, 6_003), "since its INVITE");
}
