//! RTSP: what a SETUP publishes, what its reply opens, and what passes untouched.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::profile::WhenEncrypted;
use alg::rules::{Pattern, Rule};
use alg::{Action, Application, Blindness, CommandPolicy, Denial, Opener, Order, Side};
use common::{Engine, end, flow};

const C: Side = Side::Initiator;
const S: Side = Side::Responder;

fn rtsp() -> Engine {
    let mut flow = flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9");
    (flow.responder.port, flow.responder_translated.port) = (554, 554);
    Engine::of(Application::Rtsp, flow)
}

fn setup(transport: &str) -> String {
    format!("SETUP rtsp://203.0.113.9/a/track1 RTSP/1.0\r\nCSeq: 3\r\nTransport: {transport}\r\n\r\n")
}

fn ok(transport: &str) -> String {
    format!("RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: 12;timeout=60\r\nTransport: {transport}\r\n\r\n")
}

#[test]
fn a_pair_is_published_and_opened_when_the_server_agrees() {
    // The variants of real clients and servers.
    for (asked, left, answered, read) in [
        (
            "RTP/AVP;unicast;client_port=50000-50001",
            "RTP/AVP;unicast;client_port=51024-51025",
            "RTP/AVP;unicast;client_port=51024-51025;server_port=6000-6001;ssrc=1A",
            "RTP/AVP;unicast;client_port=50000-50001;server_port=6000-6001;ssrc=1A",
        ),
        (
            "RTP/AVP/UDP;unicast;destination=10.1.0.2;client_port=50000/50001;mode=play",
            "RTP/AVP/UDP;unicast;destination=198.51.100.1;client_port=51024/51025;mode=play",
            "RTP/AVP;destination=198.51.100.1;client_port=51024/51025;server_port=6000-6001;source=203.0.113.9",
            "RTP/AVP;destination=10.1.0.2;client_port=50000/50001;server_port=6000-6001;source=203.0.113.9",
        ),
        (
            "RTP/AVP;unicast;destination=10.1.0.2:50000;client_port=50000-50001",
            "RTP/AVP;unicast;destination=198.51.100.1:50000;client_port=51024-51025",
            "RTP/AVP;unicast;server_port=6000-6001",
            "RTP/AVP;unicast;server_port=6000-6001",
        ),
        (
            "RTP/AVP/UDP;unicast;dest_addr=\"10.1.0.2:50000\"/\"10.1.0.2:50001\"",
            "RTP/AVP/UDP;unicast;dest_addr=\"198.51.100.1:51024\"/\"198.51.100.1:51025\"",
            "RTP/AVP/UDP;unicast;dest_addr=\":51024\"/\":51025\";src_addr=\"203.0.113.9:6000\"/\"203.0.113.9:6001\"",
            "RTP/AVP/UDP;unicast;dest_addr=\":50000\"/\":50001\";src_addr=\"203.0.113.9:6000\"/\"203.0.113.9:6001\"",
        ),
    ] {
        for size in [1, 9, 1000] {
            let mut e = rtsp();
            e.feed_cut(C, setup(asked).as_bytes(), &[size]);
            assert_eq!((e.denial, e.out(C)), (None, setup(left)));
            assert_eq!(e.expectations.len(), 2);
            assert!(e.expectations.iter().all(|x| !x.armed && x.opener == Opener::Peer(S)));
            e.feed_cut(S, ok(answered).as_bytes(), &[size]);
            assert_eq!((e.denial, e.out(S)), (None, ok(read)));
            let opened: Vec<_> = e.expectations[2..]
                .iter()
                .map(|x| (x.tag, x.armed, x.listener, x.published, x.reverse, x.application))
                .collect();
            let (rtp, rtcp) = (Application::Rtp, Application::Rtcp);
            let inside = |p: &str| end(&format!("10.1.0.2:{p}"));
            let outside = |p: &str| end(&format!("198.51.100.1:{p}"));
            let server = |p: &str| Some(end(&format!("203.0.113.9:{p}")));
            assert_eq!(
                opened,
                [
                    (4, true, inside("50000"), outside("51024"), server("6000"), rtp),
                    (5, true, inside("50001"), outside("51025"), server("6001"), rtcp),
                ]
            );
        }
    }
}

/// RTP and RTCP at one port (RFC 5761), which clients write as a range of one.
#[test]
fn one_port_written_twice() {
    let mut e = rtsp();
    e.client(setup("RTP/AVP;unicast;client_port=50000-50000"));
    assert_eq!(e.out(C), setup("RTP/AVP;unicast;client_port=51024-51024"));
    e.server(ok("RTP/AVP;unicast;client_port=51024-51024;server_port=6000-6000"));
    assert_eq!(e.out(S), ok("RTP/AVP;unicast;client_port=50000-50000;server_port=6000-6000"));
    let opened: Vec<_> = e.expectations.iter().map(|x| (x.tag, x.armed, x.published.port)).collect();
    assert_eq!(opened, [(4, false, 51_024), (4, true, 51_024)]);
}

#[test]
fn several_offers_and_the_one_that_the_server_takes() {
    let mut e = rtsp();
    let offer =
        "RTP/AVP/TCP;unicast;interleaved=0-1,RTP/AVP;unicast;client_port=50000-50001, RTP/AVP;multicast";
    e.client(setup(offer));
    assert!(e.out(C).contains("interleaved=0-1,RTP/AVP;unicast;client_port=51024-51025, RTP/AVP;multicast"));
    e.server(ok("RTP/AVP/TCP;unicast;interleaved=0-1"));
    assert_eq!(e.expectations.len(), 2, "nothing more is opened");
    let closed = [4, 5].map(|tag| Order::Close { tag, children: false });
    assert_eq!(e.orders, closed, "what was not taken is closed");
}

#[test]
fn a_refused_setup_closes_and_teardown_closes_with_its_media() {
    let mut e = rtsp();
    e.client(setup("RTP/AVP;unicast;client_port=50000-50001"));
    e.server("RTSP/1.0 461 Unsupported Transport\r\nCSeq: 3\r\n\r\n");
    assert_eq!(e.orders, [4, 5].map(|tag| Order::Close { tag, children: false }));

    let mut e = rtsp();
    e.client(setup("RTP/AVP;unicast;client_port=50000-50001"));
    e.server(ok("RTP/AVP;unicast;client_port=51024-51025;server_port=6000-6001"));
    e.client("PLAY rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 4\r\nSession: 12\r\n\r\n");
    e.server("RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n");
    assert!(e.orders.is_empty());
    e.client("TEARDOWN rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 5\r\nSession: 12\r\n\r\n");
    assert!(e.orders.is_empty(), "only when the server agrees");
    e.server("RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n");
    assert_eq!(e.orders, [4, 5].map(|tag| Order::Close { tag, children: true }));

    let mut e = rtsp();
    e.profile.rtsp.teardown_closes_media = false;
    e.client(setup("RTP/AVP;unicast;client_port=50000-50001"));
    e.server(ok("RTP/AVP;unicast;client_port=51024-51025;server_port=6000-6001"));
    e.client("TEARDOWN rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 5\r\nSession: 12\r\n\r\n");
    e.server("RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n");
    assert_eq!(e.orders, [4, 5].map(|tag| Order::Close { tag, children: false }));
}

#[test]
fn interleaved_frames_are_passed_by_their_length() {
    let mut frame = b"$\0\x00\x40".to_vec();
    frame.extend_from_slice(setup("RTP/AVP;unicast;client_port=22-23").as_bytes());
    frame.resize(4 + 0x40, b'\n');
    let options = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    let get = "GET_PARAMETER * RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 6\r\n\r\n$\0\0\x02ab";
    let sent = [options.as_bytes(), &frame, &frame, get.as_bytes(), &frame, options.as_bytes()].concat();
    for size in [1, 3, 5, 100, 10_000] {
        let mut e = rtsp();
        e.feed_cut(C, &sent, &[size]);
        assert_eq!((e.denial, e.held(C).as_str(), &e.stream(C).out), (None, "", &sent));
        assert!(e.expectations.is_empty());
    }
}

#[test]
fn multicast_is_left_alone() {
    let mut e = rtsp();
    let asked = setup("RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457;ttl=16");
    e.client(&asked).server(ok("RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457;ttl=16"));
    assert_eq!((e.out(C), e.denial, e.expectations.len()), (asked, None, 0));
}

#[test]
fn what_is_refused() {
    for (transport, denial) in [
        ("RTP/AVP;unicast;destination=10.1.0.3;client_port=50000-50001", Denial::ThirdPartyAddress),
        ("RTP/AVP;unicast;dest_addr=\"10.1.0.3:50000\"", Denial::ThirdPartyAddress),
        ("RTP/AVP;unicast;client_port=80-81", Denial::PrivilegedPort),
        ("RTP/AVP;unicast;client_port=50000-50009", Denial::Malformed),
        ("RTP/AVP;unicast;client_port=0-1", Denial::Malformed),
        ("RTP/AVP;unicast;client_port=x", Denial::Malformed),
        ("RTP/AVP;unicast;client_port=50000-50001\r\nTransport: x", Denial::Malformed),
    ] {
        let mut e = rtsp();
        e.client(setup(transport));
        assert_eq!((e.denial, e.expectations.len()), (Some(denial), 0), "{transport}");
    }
    // A ninth track is refused, and the session lives.
    let mut e = rtsp();
    for n in 0..9 {
        e.client(setup(&format!("RTP/AVP;unicast;client_port={0}", 50_000 + 2 * n)));
    }
    assert_eq!((e.denial, e.expectations.len()), (None, 8));
    assert_eq!(e.facts.last().and_then(|fact| fact.denial), Some(Denial::Limit));
    assert!(
        !e.out(C).contains("50016")
            && e.out(S).ends_with("RTSP/1.0 503 Service Unavailable\r\nCSeq: 3\r\n\r\n")
    );
    let mut e = rtsp();
    e.server("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").server(setup("RTP/AVP;client_port=50000-50001"));
    assert_eq!(e.denial, Some(Denial::WrongSide));
}

#[test]
fn media_from_another_server_is_an_option() {
    let answer = ok("RTP/AVP;unicast;client_port=51024-51025;server_port=6000-6001;source=203.0.113.77");
    let mut e = rtsp();
    e.client(setup("RTP/AVP;unicast;client_port=50000-50001")).server(&answer);
    assert_eq!(e.denial, Some(Denial::ThirdPartyAddress));
    let mut e = rtsp();
    e.profile.rtsp.other_source = true;
    e.client(setup("RTP/AVP;unicast;client_port=50000-50001")).server(&answer);
    assert_eq!(e.expectations[2].opener, Opener::Host(S, end("203.0.113.77:1").addr));
    assert_eq!(e.expectations[2].reverse, Some(end("203.0.113.77:6000")));
    let mut e = rtsp();
    e.profile.rtsp.other_source = true;
    e.client(setup("RTP/AVP;unicast;client_port=50000-50001"));
    e.server(ok("RTP/AVP;unicast;client_port=51024-51025;server_port=6000-6001"));
    assert_eq!(e.expectations[2].opener, Opener::AnyHost(S));
}

#[test]
fn a_server_behind_destination_nat() {
    let mut flow = flow("192.0.2.7", "192.0.2.7", "10.1.0.2", "198.51.100.1");
    (flow.responder.port, flow.responder_translated.port) = (554, 554);
    let mut e = Engine::of(Application::Rtsp, flow);
    e.client(setup("RTP/AVP;unicast;client_port=50000-50001"));
    e.server(ok("RTP/AVP;unicast;client_port=50000-50001;server_port=6000-6001;source=10.1.0.2"));
    let read = "RTP/AVP;unicast;client_port=50000-50001;server_port=7024-7025;source=198.51.100.1";
    assert_eq!(e.out(S), ok(read));
    // Whoever speaks first, by one pinhole that holds the published port.
    let opened: Vec<_> = e.expectations[2..]
        .iter()
        .map(|x| (x.armed, x.opener, x.listener, x.published, x.reverse, x.application))
        .collect();
    let wanted = [("6000", "7024", "50000", Application::Rtp), ("6001", "7025", "50001", Application::Rtcp)];
    let wanted = wanted.map(|(own, seen, client, what)| {
        let (own, seen) = (end(&format!("10.1.0.2:{own}")), end(&format!("198.51.100.1:{seen}")));
        (true, Opener::Peer(C), own, seen, Some(end(&format!("192.0.2.7:{client}"))), what)
    });
    assert_eq!(opened, wanted);
    assert_eq!(e.orders, [4, 5].map(|tag| Order::Close { tag, children: false }));
    e.orders.clear();
    e.client("TEARDOWN rtsp://198.51.100.1/a RTSP/1.0\r\nCSeq: 5\r\n\r\n");
    e.server("RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n");
    let tags = [4, 5, 6, 7].map(|tag| Order::Close { tag, children: true });
    assert_eq!(e.orders, tags);
}

#[test]
fn another_protocol_is_never_read() {
    for (first, why) in [
        (&b"POST / HTTP/1.1\r\n\r\n"[..], Blindness::OtherProtocol),
        (b"GET / HTTP/1.0\r\n", Blindness::OtherProtocol),
        (b"\x16\x03\x01\0", Blindness::Encrypted),
        (b"$\0\0\x04abcd", Blindness::OtherProtocol),
    ] {
        for size in [1, 100] {
            let mut e = rtsp();
            e.feed_cut(C, first, &[size]).client(setup("RTP/AVP;unicast;client_port=50000-50001"));
            assert_eq!((e.blind(), e.expectations.len()), (Some(why), 0), "{first:?}");
        }
    }
}

/// Apple's players: what a tunnel carries needs no pinhole, and is told apart from another protocol, however it is cut.
#[test]
fn a_tunnel_over_http_is_told_of_as_one() {
    const GET: &str = "GET /film HTTP/1.0\r\nUser-Agent: QTS\r\nx-sessioncookie: tD9hKgAAfB8ABCftAAAAAw\r\n\
        Accept: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\n\r\n";
    const POST: &str = "POST /film HTTP/1.1\r\nX-SessionCookie: tD9hKgAAfB8ABCftAAAAAw\r\n\
        Content-Type: application/x-rtsp-tunnelled\r\nContent-Length: 32767\r\n\r\nU0VUVVAgcnRzcDovLw==";
    let (tunnel, other) = (Blindness::Tunnelled, Blindness::OtherProtocol);
    for (text, why) in [
        (GET.to_owned(), tunnel),
        (POST.to_owned(), tunnel),
        (GET.replace("\r\n", "\n"), tunnel),
        (GET.replace("x-sessioncookie", "cookie"), other),
        (GET.replace("application/x-rtsp-tunnelled", "*/*"), other),
        (GET.replace("GET ", "PUT "), other),
        (GET.replace("HTTP/1.0", "HTTP/2.0"), other),
        (GET.replace("User-Agent: QTS", "no header"), other),
        (GET.replace("QTS", &"Q".repeat(2_048)), other),
    ] {
        for size in [1, 7, 10_000] {
            let mut e = rtsp();
            let setup = setup("RTP/AVP;unicast;client_port=50000-50001");
            e.feed_cut(C, text.as_bytes(), &[size]).server("HTTP/1.0 200 OK\r\n\r\n").client(&setup);
            assert_eq!((e.blind(), e.expectations.len()), (Some(why), 0), "{text}");
            assert_eq!(e.out(C), text.clone() + &setup);
        }
    }
    // Who wants all to be read wants no tunnel.
    let mut e = rtsp();
    e.profile.encrypted = WhenEncrypted::Deny;
    e.client(GET);
    assert_eq!(e.denial, Some(Denial::Unsupported));
    // A server does not begin one.
    let mut e = rtsp();
    e.server(GET);
    assert_eq!(e.blind(), Some(other));
}

fn denying(action: Action) -> Engine {
    let mut e = rtsp();
    e.profile.rules = CommandPolicy::new([Rule {
        application: Some(Application::Rtsp),
        methods: Box::new(["SETUP".into(), "ANNOUNCE".into()]),
        filename: Some(Pattern::regex("^/a/").unwrap()),
        action: Some(action),
        ..Rule::default()
    }]);
    e
}

#[test]
fn what_a_rule_denies_is_answered_and_does_not_go_on() {
    let options = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    let setup = setup("RTP/AVP;client_port=50000-50001");
    let announce = "ANNOUNCE rtsp://203.0.113.9/a/b RTSP/2.0\r\nCSeq: 4\r\nContent-Length: 6\r\n\r\nv=0\r\n ";
    let sent = [options, &setup, announce, options].concat();
    for size in [1, 7, 10_000] {
        let mut e = denying(Action::Deny);
        e.feed_cut(C, sent.as_bytes(), &[size]);
        assert_eq!((e.denial, e.out(C)), (None, options.repeat(2)), "{size}");
        let refused = "RTSP/1.0 403 Forbidden\r\nCSeq: 3\r\n\r\nRTSP/2.0 403 Forbidden\r\nCSeq: 4\r\n\r\n";
        assert_eq!((e.out(S).as_str(), e.expectations.len()), (refused, 0));
        assert!(e.facts.iter().all(|f| f.after.is_empty() && f.rule == Some(0)) && e.facts.len() == 2);
    }
    // Within a frame of the server's there is no place for an answer; nor is there for what is reset, or too long.
    let mut e = denying(Action::Deny);
    e.server("RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n$\0\0\x09abc").client(&setup);
    assert_eq!((e.denial, e.expectations.len()), (Some(Denial::Policy), 0));
    let mut e = denying(Action::Reset);
    e.client(&setup);
    assert_eq!((e.denial, e.facts[0].rule), (Some(Denial::Policy), Some(0)));
    let mut e = denying(Action::Deny);
    e.client(announce.replace("Length: 6", "Length: 60000"));
    assert_eq!(e.denial, Some(Denial::Policy));
}

#[test]
fn what_only_sip_shortens_is_no_length_and_what_stands_before_a_host_is_none() {
    // A server that knows no `l:` reads the next request where a reader of SIP would see a body.
    let hidden = setup("RTP/AVP;client_port=50000-50001");
    let mut e = denying(Action::Deny);
    e.client(format!("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nl: {}\r\n\r\n{hidden}", hidden.len()));
    assert!(e.out(S).contains("403 Forbidden") && !e.out(C).contains("SETUP"), "{}", e.out(C));
    let mut e = rtsp();
    e.profile.rules = CommandPolicy::new([Rule {
        domain: Some(Pattern::set(["evil.example"])),
        action: Some(Action::Reset),
        ..Rule::default()
    }]);
    e.client("DESCRIBE rtsp://ok.example:x@evil.example:554/a RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    assert_eq!(e.denial, Some(Denial::Policy));
}

#[test]
fn teardown_of_one_track_and_of_one_session() {
    let request = |method: &str, cseq: u16, track: &str, more: &str| {
        format!("{method} rtsp://203.0.113.9/a{track} RTSP/1.0\r\nCSeq: {cseq}\r\n{more}\r\n")
    };
    let reply = |cseq: u16, code: u16, more: &str| format!("RTSP/1.0 {code} x\r\nCSeq: {cseq}\r\n{more}\r\n");
    let three = || {
        let mut e = rtsp();
        for (n, track, session) in [(0, "/1", "A"), (1, "/2", "A"), (2, "/1", "B")] {
            let ports = format!("Transport: RTP/AVP;client_port={0}-{1}\r\n", 50_000 + 2 * n, 50_001 + 2 * n);
            let chosen =
                format!("Session: {session};timeout=60\r\nTransport: RTP/AVP;server_port=6000-6001\r\n");
            e.client(request("SETUP", n, track, &ports)).server(reply(n, 200, &chosen));
        }
        e.orders.clear();
        e
    };
    let closed =
        |tags: &[u32]| -> Vec<_> { tags.iter().map(|&tag| Order::Close { tag, children: true }).collect() };
    for (track, session, tags) in [
        ("/1", "Session: A\r\n", &[4, 5][..]),
        ("/2", "", &[8, 9]),
        ("", "Session: A\r\n", &[4, 5, 8, 9]),
        ("/", "Session: B\r\n", &[12, 13]),
        ("", "", &[4, 5, 8, 9, 12, 13]),
    ] {
        let mut e = three();
        e.client(request("TEARDOWN", 7, track, session)).server(reply(7, 454, ""));
        assert_eq!(e.orders, [], "refused");
        e.client(request("TEARDOWN", 8, track, session)).server(reply(8, 200, ""));
        assert_eq!(e.orders, closed(tags), "{track} {session}");
    }
    // Two under way at once.
    let mut e = three();
    e.client(request("TEARDOWN", 7, "/1", "Session: A\r\n")).client(request("TEARDOWN", 8, "/2", ""));
    e.server(reply(7, 200, "")).server(reply(8, 200, ""));
    assert_eq!(e.orders, closed(&[4, 5, 8, 9]));
}

#[test]
fn the_log_has_the_transport_as_it_came_and_as_it_left() {
    let mut e = rtsp();
    e.client(setup("RTP/AVP;destination=10.1.0.2;client_port=50000-50001"));
    e.server(ok("RTP/AVP;client_port=51024-51025;server_port=6000-6001"));
    let told: Vec<_> = e
        .facts
        .iter()
        .map(|f| [&f.before, &f.after].map(|t| String::from_utf8_lossy(t).into_owned()))
        .collect();
    let wanted = [
        [
            "Transport: RTP/AVP;destination=10.1.0.2;client_port=50000-50001",
            "Transport: RTP/AVP;destination=198.51.100.1;client_port=51024-51025",
        ],
        [
            "Transport: RTP/AVP;client_port=51024-51025;server_port=6000-6001",
            "Transport: RTP/AVP;client_port=50000-50001;server_port=6000-6001",
        ],
    ];
    assert_eq!(told, wanted);
}
