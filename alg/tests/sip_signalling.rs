//! SIP registrations, framing over TCP, other protocols, and the command policy.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::rules::{Pattern, Rule};
use alg::{Action, Application, Blindness, CommandPolicy, Denial, Opener, Order, Side, Uses};
use common::datagrams::Datagrams;
use common::{Engine, end, flow};

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;
/// The tag of the pinhole to a phone's contact at port 5060.
const CONTACT: u32 = 1 << 31 | 5060;

fn sip() -> Datagrams {
    Datagrams::source_nat(Application::Sip, 5060, 5060)
}

fn register(contact: &str, expires: &str) -> String {
    format!(
        "REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1;rport\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:alice@example.net>\r\nCall-ID: reg\r\nCSeq: 1 REGISTER\r\n\
         Contact: {contact}\r\n{expires}Content-Length: 0\r\n\r\n"
    )
}

fn registered(status: &str, contact: &str, expires: &str) -> String {
    let contact = if contact.is_empty() { String::new() } else { format!("Contact: {contact}\r\n") };
    format!(
        "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 198.51.100.1:20001;branch=z9hG4bK1;rport=20001;received=198.51.100.1\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:alice@example.net>;tag=r\r\nCall-ID: reg\r\n\
         CSeq: 1 REGISTER\r\n{contact}{expires}Content-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_registration_is_open_to_its_registrar_when_and_as_long_as_that_agrees() {
    let mut s = sip();
    let left = s.text(IN, register("<sip:alice@10.1.0.2:5060>;expires=600", ""));
    assert!(left.contains("Contact: <sip:alice@198.51.100.1:20001>;expires=600\r\n"));
    let [e] = s.expectations[..] else { unreachable!("one pinhole") };
    assert_eq!((e.tag, e.armed, e.uses), (CONTACT, false, Uses::Many));
    assert_eq!(
        (e.opener, e.listener, e.published),
        (Opener::Peer(OUT), end("10.1.0.2:5060"), end("198.51.100.1:20001"))
    );
    assert_eq!(e.lifetime_ms, 32_000, "how long it lives is the registrar's word");
    // Refused: it stays shut.
    s.send(OUT, registered("401 Unauthorized", "", "")).unwrap();
    assert!(s.orders.is_empty());
    // The registrar shortens it.
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=600", "")).unwrap();
    let read = s
        .text(OUT, registered("200 OK", "<sip:alice@198.51.100.1:20001>;expires=120, <sip:x@192.0.2.1>", ""));
    assert!(read.contains("Contact: <sip:alice@10.1.0.2:5060>;expires=120, <sip:x@192.0.2.1>\r\n"));
    let ms = 152_000;
    let expected =
        [Order::Activate { tag: CONTACT }, Order::Lifetime { tag: CONTACT, ms }, Order::KeepSession { ms }];
    assert_eq!(s.orders, expected);
    // Expires as a header, and bounded by the profile.
    s.profile.sip.longest_registration_s = 100;
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=600", "")).unwrap();
    s.send(OUT, registered("200 OK", "<sip:alice@198.51.100.1:20001>", "Expires: 7200\r\n")).unwrap();
    assert_eq!(s.orders[2], Order::KeepSession { ms: 132_000 });
}

/// `received` is an address and no endpoint: whoever has the port 5060 of that address has nothing to do with it.
#[test]
fn received_is_not_taken_for_anothers_published_port() {
    let mut s = sip();
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=600", "")).unwrap();
    s.gateway.published.insert((end("198.51.100.1:5060").addr, 5060), end("10.1.0.117:61204"));
    let read = s.text(OUT, registered("200 OK", "<sip:alice@198.51.100.1:20001>", ""));
    assert!(
        read.contains("Via: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1;rport=5060;received=10.1.0.2\r\n"),
        "{read}"
    );
    // One of the inside that a proxy there has added publishes nothing, and names no port.
    s.gateway.asked.clear();
    let told = "REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK2;received=10.1.0.2\r\n";
    let left = s.text(
        IN,
        register("<sip:alice@10.1.0.2:5060>", "").replacen(
            "REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1;rport\r\n",
            told,
            1,
        ),
    );
    assert!(left.contains(";branch=z9hG4bK2;received=198.51.100.1\r\n"), "{left}");
    assert_eq!(s.gateway.asked.len(), 1, "the contact alone: {:?}", s.gateway.asked);
}

#[test]
fn a_phone_that_sends_from_another_port_is_open_for_the_answer_and_no_longer() {
    // Its Via and its Contact name port 5060: answers go there, so it is open before the registrar has agreed.
    let mut s = Datagrams::source_nat(Application::Sip, 51_000, 5060);
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=86400", "")).unwrap();
    let [e] = s.expectations[..] else { unreachable!("one pinhole for both") };
    assert_eq!((e.listener, e.armed, e.lifetime_ms), (end("10.1.0.2:5060"), true, 32_000));
    s.send(OUT, registered("403 Forbidden", "", "")).unwrap();
    assert_eq!(s.orders, []);
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=86400", "")).unwrap();
    let contact = format!("<sip:alice@{}>;expires=600", e.published);
    s.send(OUT, registered("200 OK", &contact, "")).unwrap();
    assert!(s.orders.contains(&Order::Lifetime { tag: CONTACT, ms: 632_000 }), "{:?}", s.orders);
}

#[test]
fn leaving_closes_it() {
    let mut s = sip();
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=0", "")).unwrap();
    assert!(s.expectations.is_empty());
    // A registrar that agrees need not name what it has forgotten.
    assert_eq!(s.orders, [Order::Lifetime { tag: CONTACT, ms: 32_000 }]);
    s.send(OUT, registered("200 OK", "", "")).unwrap();
    assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }]);
    s.send(IN, register("*", "Expires: 0\r\n")).unwrap();
    s.send(OUT, registered("200 OK", "", "")).unwrap();
    assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }]);
}

#[test]
fn nobody_registers_somebody_else() {
    let mut s = sip();
    let other = register("<sip:alice@10.1.0.3:5060>", "");
    assert_eq!(s.send(IN, &other), Err(Denial::ThirdPartyAddress));
    assert!(s.reply.starts_with(b"SIP/2.0 403 Forbidden\r\n"));
    assert_eq!(s.send(IN, register("<sip:alice@10.1.0.2:22>", "")), Err(Denial::PrivilegedPort));
    s.profile.third_party = true;
    assert_eq!(s.text(IN, &other), other.replace("UDP 10.1.0.2:5060", "UDP 198.51.100.1:20001"));
    assert!(s.expectations.is_empty());
}

#[test]
fn a_contact_at_another_port_is_published_for_itself() {
    let mut s = sip();
    let left = s.text(IN, register("<sip:alice@10.1.0.2:5070>", ""));
    assert!(left.contains("Contact: <sip:alice@198.51.100.1:6094>"), "{left}");
    assert_eq!(
        (s.expectations[0].listener, s.expectations[0].published),
        (end("10.1.0.2:5070"), end("198.51.100.1:6094"))
    );
    // A request to it finds the way back.
    let options =
        "OPTIONS sip:alice@198.51.100.1:6094 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\nCall-ID: x\r\n\r\n";
    assert!(s.text(OUT, options).starts_with("OPTIONS sip:alice@10.1.0.2:5070 SIP/2.0\r\n"));
}

/// What a URI says of its transport decides whose port it is.
#[test]
fn a_request_to_a_contact_over_tcp_finds_the_way_back_on_a_session_over_udp() {
    let mut s = sip();
    let left = s.text(IN, register("<sip:alice@10.1.0.2:5060;transport=tcp>", ""));
    assert!(left.contains("<sip:alice@198.51.100.1:6084;transport=tcp>"), "{left}");
    let ask = |at: &str| {
        format!(
            "OPTIONS sip:alice@{at};transport=tcp SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\n\
             Route: <sip:{at};lr;transport=tcp>\r\nCall-ID: x\r\n\r\n"
        )
    };
    assert_eq!(s.text(OUT, ask("198.51.100.1:6084")), ask("10.1.0.2:5060"));
    // The other way, too.
    assert_eq!(s.text(IN, ask("10.1.0.2:5060")), ask("198.51.100.1:6084"));
    // Where nothing is led over TCP it is the session's own end.
    let mut s = sip();
    assert_eq!(s.text(OUT, ask("198.51.100.1:20001")), ask("10.1.0.2:5060"));
    assert_eq!(s.text(IN, ask("10.1.0.2:5060")), ask("198.51.100.1:20001"));
}

#[test]
fn keep_alives_pass_and_other_protocols_are_never_read() {
    let stun = |kind: [u8; 2]| [&kind[..], b"\0\0\x21\x12\xa4\x42abcdefghijkl"].concat();
    let bindings = [[0, 0x01], [0, 0x11], [1, 0x01], [1, 0x11]].map(stun);
    for first in [&b"\r\n\r\n"[..], b"\0\0\0\0"].into_iter().chain(bindings.iter().map(Vec::as_slice)) {
        let mut s = sip();
        assert_eq!(s.send(IN, first).unwrap(), first);
        s.send(IN, register("<sip:alice@10.1.0.2:5060>", "")).unwrap();
        assert_eq!(s.expectations.len(), 1);
    }
    // TURN's Allocate, Refresh, Send, Data, CreatePermission and ChannelBind; an Allocate's answers; Shared Secret; the magic amiss.
    let turn = [[0, 3], [0, 4], [0, 0x16], [0, 0x17], [0, 8], [0, 9], [1, 3], [1, 0x13], [0, 2]].map(stun);
    let amiss = b"\0\x01\0\0\x21\x12\xa4\x43abcdefghijkl";
    let others = [&b"POST / HTTP/1.1\r\n\r\n"[..], b"\x80\x01binary", b"HELO x\r\n", amiss];
    for first in others.into_iter().chain(turn.iter().map(Vec::as_slice)) {
        let mut s = sip();
        s.send(IN, first).unwrap();
        assert_eq!(s.alg.blindness(), Some(Blindness::OtherProtocol));
        let later = register("<sip:alice@10.1.0.2:5060>", "");
        assert_eq!(s.text(IN, &later), later);
        assert!(s.expectations.is_empty());
    }
}

#[test]
fn what_is_not_of_sips_form_is_refused_or_passes_as_the_profile_says() {
    let good = register("<sip:alice@10.1.0.2:5060>", "");
    for bad in [
        good.replace("Call-ID: reg\r\n", ""),
        good.replace("Content-Length: 0", "Content-Length: 10"),
        good.replace("Contact:", "Con tact:"),
        good.replace("\r\n\r\n", ""),
        good.replace("Content-Length: 0", "Content-Length: 0\r\nl: 1"),
        good.replace("From:", "f: <sip:bob@example.net>\r\nFrom:"),
        good.replace("CSeq:", "CSeq: 1 INVITE\r\nCSeq:"),
        good.replace("Call-ID:", "i: other\r\nCall-ID:"),
    ] {
        let mut s = sip();
        s.send(IN, &good).unwrap();
        assert_eq!(s.send(IN, &bad), Err(Denial::Malformed), "{bad}");
        s.profile.sip.pass_malformed = true;
        assert_eq!(s.text(IN, &bad), bad);
        assert!(s.expectations.is_empty());
    }
    let mut s = sip();
    let long = good.replace("Call-ID: reg", &format!("Call-ID: reg\r\nSubject: {}", "x".repeat(17_000)));
    assert_eq!(s.send(IN, &long), Err(Denial::TooLong));
}

#[test]
fn policy_by_method_user_and_domain() {
    let deny = |rule: Rule| CommandPolicy::new([Rule { action: Some(Action::Deny), ..rule }]);
    let message = "MESSAGE sip:bob@chat.example SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2\r\nFrom: <sip:eve@a>;tag=1\r\n\
         To: <sip:bob@chat.example>\r\nCall-ID: m\r\nCSeq: 1 MESSAGE\r\nContent-Length: 2\r\n\r\nhi";
    for rule in [
        Rule { methods: Box::new(["message".into()]), ..Rule::default() },
        Rule { user: Some(Pattern::set(["eve"])), ..Rule::default() },
        Rule { domain: Some(Pattern::regex("^chat\\.").unwrap()), ..Rule::default() },
    ] {
        let mut s = sip();
        s.profile.rules = deny(rule);
        assert_eq!(s.send(IN, message), Err(Denial::Policy));
        assert!(s.reply.starts_with(b"SIP/2.0 403 Forbidden\r\nVia: SIP/2.0/UDP 10.1.0.2\r\n"));
        assert_eq!(s.facts[0].rule, Some(0));
        assert!(s.send(IN, register("<sip:alice@10.1.0.2>", "")).is_ok());
    }
    // Nobody is another by what is written around the URI, nor by an `@` that only some read.
    for (from, denial) in [
        ("\"bob@home\" <sip:eve@a>", Denial::Policy),
        ("<sip:eve:secret@a>", Denial::Policy),
        ("sip:eve@a;tag=bob@a", Denial::Policy),
        ("<sip:bob@x@eve>", Denial::Malformed),
    ] {
        let mut s = sip();
        s.profile.rules = deny(Rule { user: Some(Pattern::set(["eve"])), ..Rule::default() });
        assert_eq!(s.send(IN, message.replace("<sip:eve@a>", from)), Err(denial), "{from}");
        assert!(s.send(IN, message.replace("<sip:eve@a>", "\"eve@a\" <sip:bob@a>")).is_ok());
    }
    let mut s = sip();
    s.profile.sip.unknown_methods = false;
    assert_eq!(s.send(IN, message.replace("MESSAGE", "DANCE")), Err(Denial::Unsupported));
    assert!(s.send(IN, message).is_ok());
    let mut s = sip();
    s.profile.sip.mask_software = true;
    let named = message.replace("Call-ID", "User-Agent: Phone 1.2\r\nCall-ID");
    assert!(s.text(IN, named).contains("User-Agent: masked\r\n"));
}

fn tcp() -> Engine {
    let mut flow = flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9");
    (flow.responder.port, flow.responder_translated.port) = (5060, 5060);
    Engine::of(Application::Sip, flow)
}

fn tcp_message(method: &str, contact: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: text/plain\r\n" };
    format!(
        "{method} sip:example.net SIP/2.0\r\nVia: SIP/2.0/TCP 10.1.0.2:5060;branch=z9hG4bK1\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:alice@example.net>\r\nCall-ID: reg\r\nCSeq: 1 {method}\r\n\
         Contact: <{contact}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn messages_over_tcp_however_cut() {
    let own = "sip:alice@10.1.0.2:40000;transport=tcp";
    let seen = "sip:alice@198.51.100.1:20001;transport=tcp";
    let (one, two) =
        (tcp_message("OPTIONS", own, ""), tcp_message("MESSAGE", own, "REGISTER sip:x SIP/2.0\r\n\r\n"));
    let sent = format!("{one}\r\n\r\n{two}{one}");
    for size in [1, 2, 7, 100, 10_000] {
        let mut e = tcp();
        e.feed_cut(IN, sent.as_bytes(), &[size]);
        assert_eq!((e.denial, e.held(IN).as_str()), (None, ""));
        assert_eq!(e.out(IN), sent.replace(own, seen), "by {size}");
    }
}

#[test]
fn a_refused_request_over_tcp_leaves_the_connection() {
    for size in [1, 50, 10_000] {
        let mut e = tcp();
        e.profile.rules = CommandPolicy::new([Rule {
            methods: Box::new(["MESSAGE".into()]),
            action: Some(Action::Deny),
            ..Rule::default()
        }]);
        let own = "sip:alice@10.1.0.2:40000;transport=tcp";
        let (good, bad) = (tcp_message("OPTIONS", own, ""), tcp_message("MESSAGE", own, ""));
        e.feed_cut(IN, format!("{good}{bad}{good}").as_bytes(), &[size]);
        assert_eq!(e.denial, None);
        assert_eq!(e.out(IN).matches("OPTIONS sip:").count(), 2);
        assert!(!e.out(IN).contains("MESSAGE"));
        assert!(
            e.out(OUT)
                .starts_with("SIP/2.0 403 Forbidden\r\nVia: SIP/2.0/TCP 10.1.0.2:5060;branch=z9hG4bK1\r\n")
        );
    }
}

#[test]
fn a_body_that_nobody_reads_is_not_held() {
    let mut e = tcp();
    let body = "x".repeat(100_000);
    let message = tcp_message("MESSAGE", "sip:alice@example.net", &body);
    e.client(&message[..1000]);
    assert_eq!(e.held(IN), "");
    e.client(&message[1000..]).client(tcp_message("OPTIONS", "sip:a@b", ""));
    assert_eq!(
        (e.denial, e.out(IN).len()),
        (None, message.len() + tcp_message("OPTIONS", "sip:a@b", "").len())
    );
}

#[test]
fn what_a_connection_begins_with_decides() {
    for (first, why) in [
        (&b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"[..], Blindness::OtherProtocol),
        (b"\x16\x03\x01\x02\0", Blindness::Encrypted),
        (b"\0\x03\0\x58\x21\x12\xa4\x42", Blindness::OtherProtocol),
    ] {
        for size in [1, 3, 1000] {
            let mut e = tcp();
            let later = tcp_message("REGISTER", "sip:alice@10.1.0.2:5060", "");
            e.feed_cut(IN, first, &[size]).client(&later);
            assert_eq!(e.blind(), Some(why), "{first:?}");
            assert!(e.expectations.is_empty() && e.out(IN).ends_with(&later));
        }
    }
    // Inside a later body, too: only what stands at a message's start is one.
    let mut e = tcp();
    let inner = tcp_message("REGISTER", "sip:alice@10.1.0.2:5060", "");
    e.client(tcp_message("MESSAGE", "sip:alice@example.net", &inner));
    assert!(e.expectations.is_empty());
    // What does not continue with SIP ends the flow.
    let mut e = tcp();
    e.client(tcp_message("OPTIONS", "sip:a@b", "")).client("nonsense\r\nmore\r\n\r\n");
    assert_eq!(e.denial, Some(Denial::Malformed));
}

#[test]
fn a_contact_over_tcp_is_published() {
    let mut e = tcp();
    e.client(tcp_message("REGISTER", "sip:alice@10.1.0.2:5060;transport=tcp", ""));
    assert!(e.out(IN).contains("Contact: <sip:alice@198.51.100.1:6084;transport=tcp>"), "{}", e.out(IN));
    assert!(e.out(IN).contains("Via: SIP/2.0/TCP 10.1.0.2:5060;"), "replies come over the connection");
    assert_eq!(e.expectations[0].transport, alg::Transport::Tcp);
}

/// The port over TCP is another than the one that the session itself, over UDP, is seen at.
#[test]
fn a_contact_over_another_transport_has_a_port_of_its_own() {
    let mut e = phone();
    let contacts =
        |udp: &str, tcp: &str| format!("Contact: <sip:alice@{udp}>, <sip:alice@{tcp};transport=tcp>");
    let own = contacts("10.1.0.2:51000", "10.1.0.2:51000");
    let register = request("REGISTER", "r", "").replace("Contact: <sip:alice@10.1.0.2:5060>", &own);
    let out = String::from_utf8(e.send(IN, register).unwrap()).unwrap();
    let told = contacts("198.51.100.1:20001", "198.51.100.1:52024");
    assert!(out.contains(&told), "{out}");
    let asked: Vec<_> = e.expectations.iter().map(|e| (e.transport, e.published.port)).collect();
    assert_eq!(asked, [(alg::Transport::Udp, 20_001), (alg::Transport::Tcp, 52_024)]);
    // And back.
    let ok = response("200 OK", "REGISTER", "r", &format!("{told}\r\n"));
    let back = String::from_utf8(e.send(OUT, ok).unwrap()).unwrap();
    assert!(back.contains(&own), "{back}");
}

/// A phone that sends from port 51000 and wants its calls at port 5060.
fn phone() -> Datagrams {
    Datagrams::source_nat(Application::Sip, 51_000, 5060)
}

fn request(method: &str, id: &str, more: &str) -> String {
    format!(
        "{method} sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:51000;branch=z9hG4bK1;rport\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>\r\nCall-ID: {id}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:alice@10.1.0.2:5060>\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

fn response(status: &str, method: &str, id: &str, more: &str) -> String {
    format!(
        "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 198.51.100.1:20001;branch=z9hG4bK1\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>;tag=b\r\nCall-ID: {id}\r\n\
         CSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

/// What the other side of a subscription says.
fn notify(id: &str, state: &str) -> String {
    format!(
        "NOTIFY sip:alice@198.51.100.1:20001 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\n\
         From: <sip:bob@example.net>;tag=b\r\nTo: <sip:alice@example.net>;tag=a\r\nCall-ID: {id}\r\nCSeq: 9 NOTIFY\r\n\
         Subscription-State: {state}\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_contact_is_shut_until_the_call_is_answered_and_again_when_it_is_over() {
    let close = [Order::Close { tag: CONTACT, children: false }];
    let mut s = phone();
    s.send(IN, request("INVITE", "c", "")).unwrap();
    let [e] = s.expectations[..] else { unreachable!("one pinhole") };
    assert_eq!((e.tag, e.armed, e.uses, e.lifetime_ms), (CONTACT, false, Uses::Many, 240_000));
    assert_eq!((e.opener, e.listener), (Opener::Peer(OUT), end("10.1.0.2:5060")));
    s.send(OUT, response("100 Trying", "INVITE", "c", "")).unwrap();
    assert_eq!(s.orders, [], "nobody has answered");
    // An early dialog: the callee may send UPDATE.
    s.send(OUT, response("180 Ringing", "INVITE", "c", "")).unwrap();
    assert_eq!(s.orders, [Order::Activate { tag: CONTACT }, Order::Lifetime { tag: CONTACT, ms: 240_000 }]);
    s.now_ms = 10_000;
    s.send(OUT, response("200 OK", "INVITE", "c", "")).unwrap();
    assert_eq!(s.orders[1], Order::Lifetime { tag: CONTACT, ms: 43_190_000 }, "as long as a call may last");
    s.send(OUT, response("200 OK", "BYE", "c", "")).unwrap();
    assert_eq!(s.orders, close);
    // Refused.
    s.send(IN, request("INVITE", "c", "")).unwrap();
    s.send(OUT, response("486 Busy Here", "INVITE", "c", "")).unwrap();
    assert_eq!(s.orders, close);
}

#[test]
fn the_contact_of_who_answers_is_open_at_once() {
    let mut s = Datagrams::source_nat(Application::Sip, 51_000, 5060);
    s.send(IN, request("OPTIONS", "o", "")).unwrap();
    assert_eq!((s.expectations.len(), s.orders.len()), (0, 0), "no dialog, no way in");
    let invite = "INVITE sip:alice@198.51.100.1:20001 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\n\
        From: <sip:bob@example.net>;tag=b\r\nTo: <sip:alice@example.net>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\r\n";
    s.send(OUT, invite).unwrap();
    let answer = |status: &str| {
        format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 203.0.113.9\r\nFrom: <sip:bob@example.net>;tag=b\r\n\
             To: <sip:alice@example.net>;tag=a\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@10.1.0.2:5060>\r\n\r\n"
        )
    };
    s.send(IN, answer("100 Trying")).unwrap();
    assert!(s.expectations.is_empty());
    s.send(IN, answer("180 Ringing")).unwrap();
    assert_eq!(s.expectations.iter().map(|e| (e.tag, e.armed)).collect::<Vec<_>>(), [(CONTACT, true)]);
    s.send(IN, answer("486 Busy Here")).unwrap();
    assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }]);
}

#[test]
fn a_subscription_holds_its_contact_until_it_ends() {
    for (method, refused) in [("SUBSCRIBE", "489 Bad Event"), ("REFER", "603 Declined")] {
        let mut s = phone();
        s.send(IN, request(method, "s", "Expires: 600\r\n")).unwrap();
        assert_eq!(s.expectations.iter().map(|e| (e.tag, e.armed)).collect::<Vec<_>>(), [(CONTACT, false)]);
        s.send(OUT, response(refused, method, "s", "")).unwrap();
        assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }]);
        s.send(IN, request(method, "s", "Expires: 600\r\n")).unwrap();
        s.send(OUT, response("202 Accepted", method, "s", "Expires: 600\r\n")).unwrap();
        assert_eq!(
            s.orders,
            [Order::Activate { tag: CONTACT }, Order::Lifetime { tag: CONTACT, ms: 632_000 }]
        );
        s.send(OUT, notify("s", "active;expires=500")).unwrap();
        assert!(s.orders.is_empty());
        s.send(OUT, notify("s", "Terminated;reason=noresource")).unwrap();
        assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }], "{method}");
    }
    // What is transferred within a call does not end it.
    let mut s = phone();
    s.send(IN, request("INVITE", "c", "")).unwrap();
    s.send(OUT, response("200 OK", "INVITE", "c", "")).unwrap();
    s.send(IN, request("REFER", "c", "")).unwrap();
    s.send(OUT, response("202 Accepted", "REFER", "c", "")).unwrap();
    s.send(OUT, notify("c", "terminated")).unwrap();
    assert!(s.orders.is_empty());
}

/// Every NOTIFY names a contact, the last one too (RFC 6665 §4.2.2): that needs it no more.
#[test]
fn the_last_notify_leaves_no_contact_open() {
    let mut s = phone();
    let asks = "SUBSCRIBE sip:alice@198.51.100.1:20001 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\n\
        From: <sip:bob@example.net>;tag=b\r\nTo: <sip:alice@example.net>\r\nCall-ID: s\r\nCSeq: 1 SUBSCRIBE\r\n\
        Contact: <sip:bob@203.0.113.9>\r\nExpires: 600\r\n\r\n";
    s.send(OUT, asks).unwrap();
    let says = |state: &str| {
        request("NOTIFY", "s", &format!("Subscription-State: {state}\r\n"))
            .replace("To: <sip:bob@example.net>", "To: <sip:bob@example.net>;tag=b")
    };
    let agrees = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.9\r\nFrom: <sip:bob@example.net>;tag=b\r\n\
        To: <sip:alice@example.net>;tag=a\r\nCall-ID: s\r\nCSeq: 1 SUBSCRIBE\r\nExpires: 600\r\n\
        Contact: <sip:alice@10.1.0.2:5060>\r\n\r\n";
    s.send(IN, agrees).unwrap();
    s.send(IN, says("active;expires=600")).unwrap();
    assert_eq!(s.expectations.iter().map(|e| e.tag).collect::<Vec<_>>(), [CONTACT]);
    s.send(IN, says("terminated;reason=timeout")).unwrap();
    assert_eq!(s.expectations, []);
    assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }]);
}

#[test]
fn a_contact_that_another_call_or_the_registrar_needs_stays_open() {
    let mut s = phone();
    s.send(
        IN,
        register("<sip:alice@10.1.0.2:5060>;expires=600", "")
            .replace("10.1.0.2:5060;br", "10.1.0.2:51000;br"),
    )
    .unwrap();
    let contact = format!("<sip:alice@{}>;expires=600", s.expectations[0].published);
    s.send(OUT, registered("200 OK", &contact, "")).unwrap();
    for id in ["one", "two"] {
        s.send(IN, request("INVITE", id, "")).unwrap();
        assert_eq!(s.expectations[0].lifetime_ms, 632_000, "never shorter than it was");
        s.send(OUT, response("180 Ringing", "INVITE", id, "")).unwrap();
        assert_eq!(s.orders[1], Order::Lifetime { tag: CONTACT, ms: 632_000 });
    }
    s.send(OUT, response("486 Busy Here", "INVITE", "one", "")).unwrap();
    assert_eq!(s.orders, [], "the other call has it");
    s.now_ms = 100_000;
    s.send(OUT, response("486 Busy Here", "INVITE", "two", "")).unwrap();
    assert_eq!(s.orders, [Order::Lifetime { tag: CONTACT, ms: 532_000 }], "it is registered");
    // The phone leaves, and calls on.
    s.send(IN, request("INVITE", "three", "")).unwrap();
    s.send(OUT, response("200 OK", "INVITE", "three", "")).unwrap();
    s.send(
        IN,
        register("<sip:alice@10.1.0.2:5060>;expires=0", "").replace("10.1.0.2:5060;br", "10.1.0.2:51000;br"),
    )
    .unwrap();
    assert_eq!(s.orders, []);
    s.send(OUT, registered("200 OK", &contact.replace("600", "0"), "")).unwrap();
    assert_eq!(s.orders, []);
    s.send(OUT, response("200 OK", "BYE", "three", "")).unwrap();
    assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }]);
}

/// `Contact: *` is of all that a phone has registered, also at ports that it does not send from.
#[test]
fn a_phone_that_leaves_with_a_star_leaves_with_all_its_contacts() {
    let from_51000 = |text: String| text.replace("10.1.0.2:5060;br", "10.1.0.2:51000;br");
    let tag = |port: u32| 1 << 31 | port;
    let mut s = phone();
    let join = |s: &mut Datagrams, user: &str, ports: &[u16]| {
        let own: Vec<_> = ports.iter().map(|port| format!("<sip:alice@10.1.0.2:{port}>")).collect();
        let of = |text: String| text.replace("sip:alice@example.net", &format!("sip:{user}@example.net"));
        s.send(IN, of(from_51000(register(&own.join(", "), "Expires: 600\r\n")))).unwrap();
        let seen: Vec<_> = s.expectations.iter().map(|e| format!("<sip:alice@{}>", e.published)).collect();
        s.send(OUT, of(registered("200 OK", &seen.join(", "), "Expires: 600\r\n"))).unwrap();
    };
    join(&mut s, "alice", &[5060, 5070]);
    join(&mut s, "alice", &[5080]);
    join(&mut s, "bob", &[5090]);
    // One of them is held by a call.
    s.send(IN, request("INVITE", "c", "")).unwrap();
    s.send(OUT, response("200 OK", "INVITE", "c", "")).unwrap();
    s.now_ms = 1_000;
    s.send(IN, from_51000(register("*", "Expires: 3600\r\n"))).unwrap();
    assert_eq!(s.orders, [], "no contact leaves so");
    s.send(IN, from_51000(register("*", "Expires: 0\r\n"))).unwrap();
    let soon = |port| Order::Lifetime { tag: tag(port), ms: 32_000 };
    assert_eq!(s.orders, [soon(5070), soon(5080)], "it closes if the registrar says nothing of it");
    s.send(OUT, registered("401 Unauthorized", "", "")).unwrap();
    assert_eq!(s.orders, []);
    s.send(IN, from_51000(register("*", "Expires: 0\r\n"))).unwrap();
    s.send(OUT, registered("200 OK", "", "")).unwrap();
    let close = |port| Order::Close { tag: tag(port), children: false };
    assert!([5070, 5080].iter().all(|port| s.orders.contains(&close(*port))), "{:?}", s.orders);
    assert!([5060, 5090].iter().all(|port| !s.orders.contains(&close(*port))), "a call's, and another's");
    s.send(OUT, response("200 OK", "BYE", "c", "")).unwrap();
    assert_eq!(s.orders, [close(5060)], "not for the rest of the registration");
    s.send(IN, from_51000(register("*", "Expires: 0\r\n"))).unwrap();
    s.send(OUT, registered("200 OK", "", "")).unwrap();
    assert!(!s.orders.contains(&close(5070)), "once");
}

/// A call of which nobody has heard the end holds no contact open.
#[test]
fn a_contact_of_a_call_that_was_forgotten_leaves_with_its_registration() {
    let mut s = phone();
    let from_51000 = |text: String| text.replace("10.1.0.2:5060;br", "10.1.0.2:51000;br");
    s.send(IN, from_51000(register("<sip:alice@10.1.0.2:5060>;expires=3600", ""))).unwrap();
    let contact = format!("<sip:alice@{}>;expires=3600", s.expectations[0].published);
    s.send(OUT, registered("200 OK", &contact, "")).unwrap();
    s.send(IN, request("INVITE", "c", "")).unwrap();
    s.now_ms = 300_000;
    s.send(IN, from_51000(register("<sip:alice@10.1.0.2:5060>;expires=0", ""))).unwrap();
    assert_eq!(s.orders, [Order::Lifetime { tag: CONTACT, ms: 32_000 }]);
    s.send(OUT, registered("200 OK", &contact.replace("3600", "0"), "")).unwrap();
    assert_eq!(s.orders, [Order::Close { tag: CONTACT, children: false }]);
}

/// What a side says itself does not open its own contact.
#[test]
fn a_contact_is_not_opened_by_who_wants_it() {
    let mut s = phone();
    // To a call that nobody has made.
    let own = |status: &str, id: &str| {
        let body = "v=0\r\nc=IN IP4 10.1.0.2\r\nm=audio 40000 RTP/AVP 0\r\n";
        let kind = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        response(status, "INVITE", id, "Contact: <sip:alice@10.1.0.2:5060>\r\n")
            .replace("198.51.100.1:20001", "203.0.113.9")
            .replace("Content-Length: 0\r\n\r\n", &kind)
    };
    let ways_in = |s: &Datagrams| -> Vec<(u32, bool)> {
        let contacts = s.expectations.iter().filter(|e| e.application == Application::Sip);
        contacts.map(|e| (e.tag, e.armed)).collect()
    };
    s.send(IN, own("200 OK", "none")).unwrap();
    assert_eq!(ways_in(&s), [(CONTACT, false)]);
    assert_eq!(s.orders, []);
    let ack = "ACK sip:alice@198.51.100.1:20001 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\n\
        From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>;tag=b\r\nCall-ID: none\r\nCSeq: 1 ACK\r\n\r\n";
    s.send(OUT, ack).unwrap();
    assert!(
        s.orders.contains(&Order::Activate { tag: CONTACT }),
        "the other side has spoken: {:?}",
        s.orders
    );
    // To its own call.
    let mut s = phone();
    s.send(IN, request("INVITE", "c", "")).unwrap();
    s.send(IN, own("200 OK", "c")).unwrap();
    assert_eq!(ways_in(&s), [(CONTACT, false)]);
    assert_eq!(s.orders, []);
    // Nor by a word of its own side's that names none.
    s.send(IN, response("180 Ringing", "INVITE", "c", "")).unwrap();
    assert_eq!(s.orders, []);
    s.send(OUT, response("180 Ringing", "INVITE", "c", "")).unwrap();
    assert!(s.orders.contains(&Order::Activate { tag: CONTACT }));
}

/// A call that leaves nothing behind where it is refused.
#[test]
fn a_refused_call_holds_nothing() {
    let mut s = phone();
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=600", "")).unwrap();
    let contact = format!("<sip:alice@{}>;expires=600", s.expectations[0].published);
    s.send(OUT, registered("200 OK", &contact, "")).unwrap();
    let bad = request("INVITE", "c", "Content-Type: application/sdp\r\n")
        .replace("Length: 0\r\n\r\n", "Length: 7\r\n\r\nm=audio");
    assert_eq!(s.send(IN, bad), Err(Denial::Malformed));
    s.send(IN, register("<sip:alice@10.1.0.2:5060>;expires=0", "")).unwrap();
    assert_eq!(s.orders, [Order::Lifetime { tag: CONTACT, ms: 32_000 }], "no call needs it");
}

/// Over TCP a Via leads nowhere: with full rewriting its address changes, its port does not, and it comes back as it was.
#[test]
fn a_via_over_tcp_is_hidden_by_full_rewriting() {
    for (sent, left) in [
        ("10.1.0.2:5060", "198.51.100.1:5060"),
        ("10.1.0.2", "198.51.100.1"),
        ("10.1.0.2:40000", "198.51.100.1:20001"),
    ] {
        let mut e = tcp();
        e.profile.sip.rewrite = alg::sip::Rewrite::Full;
        // Another inside host has that port.
        e.gateway.published.insert((end("198.51.100.1:5060").addr, 5060), end("10.1.0.117:61204"));
        let request = tcp_message("OPTIONS", "sip:alice@example.net", "").replace("10.1.0.2:5060", sent);
        e.client(&request);
        assert_eq!(e.out(IN), request.replace(sent, left));
        let answer = |via: &str| {
            format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP {via};branch=z9\r\nCall-ID: reg\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n"
            )
        };
        e.server(answer(left));
        assert_eq!(e.out(OUT), answer(sent));
    }
}
