//! SIP sessions that belong together: a phone that sends from another port than it is called at, whose peer's replies and calls come
//! to that. They share calls, media and contacts, whichever of them a message travels on.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::{Application, Denial, FlowContext, Opener, Order, Side, Transport};
use common::datagrams::Datagrams;
use common::end;

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;
const CONTACT: u32 = 1 << 31 | 5060;

/// The phone, and the session that it has begun. It sends from port 51000, and its Via and its Contact name 5060.
struct Phone {
    s: Datagrams,
    first: FlowContext,
    child: FlowContext,
}

impl Phone {
    fn new() -> Self {
        let s = Datagrams::source_nat(Application::Sip, 51_000, 5060);
        let first = s.gateway.flow;
        // As the gateway publishes it.
        let seen = end("198.51.100.1:6084");
        let child = FlowContext {
            id: 2,
            turned: true,
            initiator: first.responder,
            initiator_translated: first.responder,
            responder: end("10.1.0.2:5060"),
            responder_translated: seen,
            ..first
        };
        Self { s, first, child }
    }

    fn on_first(&mut self, from: Side, text: impl AsRef<[u8]>) -> Result<String, Denial> {
        self.s.gateway.flow = self.first;
        self.s.send(from, text).map(|out| String::from_utf8(out).unwrap())
    }

    fn on_child(&mut self, from: Side, text: impl AsRef<[u8]>) -> Result<String, Denial> {
        self.s.gateway.flow = self.child;
        self.s.send(from, text).map(|out| String::from_utf8(out).unwrap())
    }

    fn tags(&self) -> Vec<u32> {
        self.s.expectations.iter().filter(|e| e.application != Application::Sip).map(|e| e.tag).collect()
    }
}

fn with_body(head: &str, host: &str, port: u16) -> String {
    let body = format!("v=0\r\nc=IN IP4 {host}\r\nm=audio {port} RTP/AVP 0\r\n");
    format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn from_phone(method: &str, more: &str) -> String {
    format!(
        "{method} sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>{more}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:alice@10.1.0.2:5060>\r\n"
    )
}

fn to_phone(status: &str, method: &str) -> String {
    format!(
        "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 198.51.100.1:6084;branch=z9hG4bK1\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>;tag=b\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n"
    )
}

fn bye_from_outside() -> String {
    "BYE sip:alice@198.51.100.1:6084 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\nFrom: <sip:bob@example.net>;tag=b\r\n\
     To: <sip:alice@example.net>;tag=a\r\nCall-ID: c\r\nCSeq: 7 BYE\r\n\r\n"
        .to_owned()
}

fn answer_to_bye() -> String {
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.9\r\nFrom: <sip:bob@example.net>;tag=b\r\n\
     To: <sip:alice@example.net>;tag=a\r\nCall-ID: c\r\nCSeq: 7 BYE\r\n\r\n"
        .to_owned()
}

#[test]
fn a_registration_that_is_answered_at_the_via_lives_as_long_as_it_was_agreed() {
    let mut p = Phone::new();
    let register = from_phone("REGISTER", "").replace(":5060>\r\n", ":5060>;expires=3600\r\n") + "\r\n";
    p.on_first(IN, &register).unwrap();
    assert_eq!(
        p.s.expectations.iter().map(|e| (e.tag, e.lifetime_ms)).collect::<Vec<_>>(),
        [(CONTACT, 32_000)]
    );
    let ok = to_phone("200 OK", "REGISTER") + "Contact: <sip:alice@198.51.100.1:6084>;expires=3600\r\n\r\n";
    let heard = p.on_child(IN, &ok).unwrap();
    assert!(heard.contains("Contact: <sip:alice@10.1.0.2:5060>;expires=3600\r\n"), "{heard}");
    let ms = 3_632_000;
    let lives = Order::Lifetime { tag: CONTACT, ms };
    assert_eq!(p.s.orders, [Order::Activate { tag: CONTACT }, lives, Order::KeepSession { ms }]);
    // It leaves by the session that it has come by.
    let leave = register.replace("3600", "0");
    p.on_first(IN, leave).unwrap();
    assert_eq!(p.s.orders[0], Order::Lifetime { tag: CONTACT, ms: 32_000 });
    p.on_child(IN, to_phone("200 OK", "REGISTER") + "\r\n").unwrap();
    assert!(p.s.orders.contains(&Order::Close { tag: CONTACT, children: false }));
}

/// The phone calls; what answers it comes to its Via.
#[test]
fn a_call_is_one_call_on_all_its_sessions() {
    for answers_at in [IN, OUT] {
        let mut p = Phone::new();
        p.on_first(IN, with_body(&from_phone("INVITE", ""), "10.1.0.2", 40000)).unwrap();
        let offered = p.tags();
        assert_eq!(offered.len(), 2);
        p.on_child(IN, with_body(&to_phone("200 OK", "INVITE"), "203.0.113.9", 6000)).unwrap();
        assert_eq!(p.tags(), offered, "the same pinholes, with both ends now");
        let rtp = p.s.expectations[0];
        assert_eq!((rtp.listener, rtp.reverse), (end("10.1.0.2:40000"), Some(end("203.0.113.9:6000"))));
        assert_eq!(rtp.opener, Opener::Peer(IN), "who begins that session is the one outside");
        assert!(p.s.orders.contains(&Order::Lifetime { tag: CONTACT, ms: 43_200_000 }), "{:?}", p.s.orders);
        p.on_first(IN, from_phone("ACK", ";tag=b") + "\r\n").unwrap();
        p.on_child(IN, bye_from_outside()).unwrap();
        let waits = |tag: &u32| Order::Lifetime { tag: *tag, ms: 120_000 };
        let waiting = [CONTACT].iter().chain(&offered).map(waits).collect::<Vec<_>>();
        assert_eq!(p.s.orders, waiting, "nothing closes yet");
        // The phone answers by either.
        if answers_at == IN { p.on_first(IN, answer_to_bye()) } else { p.on_child(OUT, answer_to_bye()) }
            .unwrap();
        for tag in &offered {
            assert!(p.s.orders.contains(&Order::Close { tag: *tag, children: true }), "{:?}", p.s.orders);
        }
        assert!(p.s.orders.contains(&Order::Close { tag: CONTACT, children: false }));
    }
}

/// The phone is called at its contact, by a session that need not live as long as the call.
#[test]
fn a_call_to_a_contact_holds_it_open() {
    let mut p = Phone::new();
    let invite = bye_from_outside()
        .replace("BYE", "INVITE")
        .replace("CSeq: 7", "Contact: <sip:bob@203.0.113.9>\r\nCSeq: 7");
    let invite = with_body(invite.trim_end_matches("\r\n\r\n"), "203.0.113.9", 6000).replacen(
        "INVITEContent",
        "INVITE\r\nContent",
        1,
    );
    p.on_child(IN, invite.replace(";tag=a", "")).unwrap();
    let ok = answer_to_bye().replace("7 BYE\r\n\r\n", "7 INVITE\r\nContact: <sip:alice@10.1.0.2:5060>\r\n");
    p.on_first(IN, with_body(&ok, "10.1.0.2", 40000)).unwrap();
    let contact = p.s.expectations.iter().find(|e| e.tag == CONTACT).unwrap();
    assert_eq!((contact.armed, contact.lifetime_ms), (true, 43_200_000));
    let media = p.tags();
    assert_eq!(media.len(), 2);
    // By the session that it was called on it is held too, though that leads there itself.
    let mut q = Phone::new();
    q.on_child(IN, invite.replace(";tag=a", "")).unwrap();
    q.on_child(OUT, with_body(&ok, "10.1.0.2", 40000)).unwrap();
    let contact = q.s.expectations.iter().find(|e| e.tag == CONTACT).unwrap();
    assert_eq!((contact.armed, contact.lifetime_ms, contact.opener), (true, 43_200_000, Opener::Peer(IN)));
    assert_eq!(q.tags(), media, "named alike on both");
    // Another session of the same phone, that no pinhole has opened, is another one.
    p.child.group = 2;
    p.on_child(IN, bye_from_outside()).unwrap();
    p.on_child(OUT, answer_to_bye()).unwrap();
    assert!(p.s.orders.is_empty());
}

/// Where nothing is translated replies come to the Via's port all the same.
#[test]
fn replies_find_a_phone_that_is_not_translated() {
    let mut p = Phone::new();
    p.first.initiator_translated = p.first.initiator;
    p.on_first(IN, from_phone("OPTIONS", "").replace("Contact", "X") + "\r\n").unwrap();
    let [e] = p.s.expectations[..] else { unreachable!("{:?}", p.s.expectations) };
    assert_eq!((e.tag, e.armed, e.listener, e.published), (CONTACT, true, e.published, end("10.1.0.2:5060")));
    assert_eq!((e.opener, e.lifetime_ms), (Opener::Peer(OUT), 32_000));
    // Those that other hosts, or the session itself, wait at open nothing.
    for via in ["10.1.0.2:51000", "10.1.0.9:5060", "10.1.0.2:80"] {
        let options =
            from_phone("OPTIONS", "").replace("Contact", "X").replace("10.1.0.2:5060;b", &format!("{via};b"));
        p.on_first(IN, options + "\r\n").unwrap();
        assert!(p.s.expectations.is_empty(), "{via}");
    }
}

/// A phone has two lines, which send from ports of their own. Its peer calls both, and is itself called as it was from the start: that
/// opens nothing, for one as little as for the other.
#[test]
fn who_calls_by_a_pinhole_is_called_back_without_one() {
    let mut p = Phone::new();
    let invite = bye_from_outside()
        .replace("BYE", "INVITE")
        .replace(";tag=a", "")
        .replace("CSeq: 7", "Contact: <sip:bob@203.0.113.9:5060>\r\nCSeq: 7");
    p.on_child(IN, &invite).unwrap();
    assert_eq!(p.s.expectations, []);
    // So does his answer, where the phone has called by that session.
    let mut p = Phone::new();
    p.on_child(OUT, from_phone("INVITE", "") + "\r\n").unwrap();
    let ok = to_phone("200 OK", "INVITE") + "Contact: <sip:bob@203.0.113.9:5060>\r\n\r\n";
    p.on_child(IN, ok).unwrap();
    assert_eq!(p.s.expectations, []);
}

/// A phone that changes to TCP for a long request is called over UDP as before (RFC 3261 §18.1.1).
#[test]
fn a_contact_over_udp_that_a_session_over_tcp_names_is_over_udp() {
    for (named, tag, transport) in [
        (";transport=udp", CONTACT, Transport::Udp),
        (";transport=TCP", CONTACT | 1 << 17, Transport::Tcp),
        ("", CONTACT | 1 << 17, Transport::Tcp),
    ] {
        let mut p = Phone::new();
        p.first.transport = Transport::Tcp;
        let invite = from_phone("INVITE", "").replace("5060>", &format!("5060{named}>"));
        p.on_first(IN, invite + "\r\n").unwrap();
        let asked: Vec<_> = p.s.expectations.iter().map(|e| (e.tag, e.transport)).collect();
        assert!(asked.contains(&(tag, transport)), "{named}: {asked:?}");
    }
}

/// One port over UDP and over TCP: two contacts, and two pinholes, whichever session names them.
#[test]
fn a_contact_over_tcp_is_another_than_that_over_udp() {
    const OVER_TCP: u32 = 1 << 17;
    let mut p = Phone::new();
    let tcp = "<sip:alice@10.1.0.2:5060;transport=tcp>";
    let both = format!("Contact: <sip:alice@10.1.0.2:5060>, {tcp}\r\n");
    let register = from_phone("REGISTER", "").replace("Contact: <sip:alice@10.1.0.2:5060>\r\n", &both);
    p.on_first(IN, register + "\r\n").unwrap();
    let asked: Vec<_> = p.s.expectations.iter().map(|e| (e.tag, e.transport)).collect();
    assert_eq!(asked, [(CONTACT, Transport::Udp), (CONTACT | OVER_TCP, Transport::Tcp)]);
    // The peer has called by TCP.
    p.child.transport = Transport::Tcp;
    let invite = bye_from_outside().replace("BYE", "INVITE").replace(";tag=a", "");
    p.on_child(IN, invite).unwrap();
    let ok = answer_to_bye().replace("7 BYE\r\n", &format!("7 INVITE\r\nContact: {tcp}\r\n"));
    p.on_child(OUT, ok).unwrap();
    let asked: Vec<_> = p.s.expectations.iter().map(|e| (e.tag, e.transport)).collect();
    assert_eq!(asked, [(CONTACT | OVER_TCP, Transport::Tcp)]);
}
