//! How long SIP calls are remembered: those that nobody asked for, those that were refused, those whose phones speak late.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::sip::SipOptions;
use alg::{Application, DatagramAlg, Denial, FlowContext, Order, Side};
use common::datagrams::Datagrams;

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;
/// How long a call is remembered that nobody has answered.
const EARLY_MS: u32 = 240_000;
const LONGEST_MS: u32 = 43_200_000;
/// How long one that has ended is known as such.
const ENDED_MS: u32 = 32_000;

fn sip() -> Datagrams {
    Datagrams::source_nat(Application::Sip, 5060, 5060)
}

fn with_body(head: &str, host: &str, port: u16) -> String {
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    );
    format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn without_body(head: &str) -> String {
    format!("{head}Content-Length: 0\r\n\r\n")
}

/// What the phone inside sends within its call; `to` has the other's tag, if that is known.
fn request(method: &str, id: &str, to: &str) -> String {
    format!(
        "{method} sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>{to}\r\nCall-ID: {id}\r\nCSeq: 1 {method}\r\n"
    )
}

fn response(status: &str, method: &str, id: &str, tag: &str) -> String {
    format!(
        "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 198.51.100.1:20001;branch=z9hG4bK1\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>;tag={tag}\r\nCall-ID: {id}\r\n\
         CSeq: 1 {method}\r\n"
    )
}

fn invite(id: &str) -> String {
    with_body(&request("INVITE", id, ""), "10.1.0.2", 40000)
}

fn answer(status: &str, id: &str, tag: &str) -> String {
    with_body(&response(status, "INVITE", id, tag), "203.0.113.9", 6000)
}

/// The same of a phone inside, to a caller outside.
fn inside(status: &str, tag: &str) -> String {
    with_body(&response(status, "INVITE", "c", tag), "10.1.0.2", 40000)
        .replace("198.51.100.1:20001", "203.0.113.9")
}

fn lifetimes(s: &Datagrams) -> Vec<u32> {
    s.expectations.iter().map(|e| e.lifetime_ms).collect()
}

/// The engine had no room for what the last datagram asked for.
fn refuse(s: &mut Datagrams, payload: &str) {
    let flow = FlowContext { now_ms: s.now_ms, ..s.gateway.flow };
    let mut answer = alg::Answer::default();
    s.alg.refuse(&flow, &mut s.tables, payload.as_bytes(), Denial::NoResources, &mut answer);
}

/// Responses that no request has asked for, each of a call of its own.
#[test]
fn responses_begin_no_more_calls_than_a_session_may_have() {
    let mut s = sip();
    s.profile.sip.max_dialogs = 2;
    s.send(OUT, answer("200 OK", "one", "b")).unwrap();
    s.send(OUT, answer("200 OK", "two", "b")).unwrap();
    assert_eq!(s.send(OUT, answer("200 OK", "three", "b")), Err(Denial::Limit));
    assert_eq!(s.send(IN, invite("four")), Err(Denial::Limit));
    s.now_ms = EARLY_MS - 1;
    s.send(OUT, answer("200 OK", "one", "b")).unwrap();
    s.now_ms = EARLY_MS;
    s.send(IN, invite("four")).unwrap();
    s.send(IN, invite("five")).unwrap();
}

/// A response to a call that is over, or that the gateway has forgotten.
#[test]
fn a_call_begun_by_a_response_waits_for_the_other_side() {
    let ask = |method: &str| without_body(&request(method, "c", ";tag=b"));
    let begin = |s: &mut Datagrams| {
        // A call that ended so long ago that it is forgotten.
        s.now_ms = 0_u32.wrapping_sub(ENDED_MS);
        s.send(IN, invite("c")).unwrap();
        s.send(OUT, answer("200 OK", "c", "b")).unwrap();
        assert_eq!(lifetimes(s), [LONGEST_MS; 2]);
        s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
        assert_eq!(s.orders.len(), 2);
        s.now_ms = 0;
        // The caller is inside: what it named is forgotten, and its next offer opens again.
        s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    };
    let mut s = sip();
    begin(&mut s);
    s.now_ms = 1_000;
    // Not even what the same side says later keeps it.
    s.send(OUT, with_body(&response("200 OK", "INVITE", "c", "b"), "203.0.113.9", 6000)).unwrap();
    s.now_ms = EARLY_MS - 1;
    s.send(IN, with_body(&request("UPDATE", "c", ";tag=b"), "10.1.0.2", 40000)).unwrap();
    assert_eq!(s.expectations[0].reverse.map(|e| e.port), Some(6000), "it is still known");

    let mut s = sip();
    begin(&mut s);
    s.now_ms = EARLY_MS;
    s.send(IN, with_body(&request("UPDATE", "c", ";tag=b"), "10.1.0.2", 40000)).unwrap();
    assert_eq!(s.expectations[0].reverse, None, "it is over");

    // ACK says that the caller has had its answer.
    let mut s = sip();
    begin(&mut s);
    s.now_ms = 10_000;
    s.send(IN, ask("ACK")).unwrap();
    s.now_ms = EARLY_MS + 1;
    s.send(IN, with_body(&request("UPDATE", "c", ";tag=b"), "10.1.0.2", 40000)).unwrap();
    assert_eq!(s.expectations[0].reverse.map(|e| e.port), Some(6000));
    assert_eq!(lifetimes(&s), [LONGEST_MS - EARLY_MS - 1; 2]);
}

/// The callee of a call that the gateway does not know answers from inside: its media are open for as long as one that rings.
#[test]
fn media_of_a_call_that_nobody_asked_for_are_not_open_for_hours() {
    let mut s = sip();
    s.send(IN, inside("200 OK", "b")).unwrap();
    assert_eq!(lifetimes(&s), [EARLY_MS; 2]);
    s.now_ms = 100_000;
    s.send(IN, inside("200 OK", "b")).unwrap();
    assert_eq!(lifetimes(&s), [EARLY_MS - 100_000; 2], "no longer by saying it again");
    let tags: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    let ack = without_body(&request("ACK", "c", ";tag=b")).replace("10.1.0.2:5060", "203.0.113.9");
    s.send(OUT, ack).unwrap();
    let lives = |tag: &u32| Order::Lifetime { tag: *tag, ms: LONGEST_MS - 100_000 };
    assert_eq!(s.orders, tags.iter().map(lives).collect::<Vec<_>>());
}

#[test]
fn a_refused_response_leaves_no_call_behind() {
    let mut s = sip();
    s.profile.sip.max_dialogs = 1;
    let ok = answer("200 OK", "one", "b");
    s.send(OUT, &ok).unwrap();
    refuse(&mut s, &ok);
    s.send(IN, invite("two")).unwrap();
}

/// What had no room was a later request of the call: the call itself goes on.
#[test]
fn a_refused_request_within_a_call_leaves_the_call() {
    for method in ["UPDATE", "PRACK", "INFO", "INVITE"] {
        let mut s = sip();
        s.profile.sip.max_dialogs = 1;
        s.send(IN, invite("c")).unwrap();
        s.send(OUT, answer("183 Session Progress", "c", "b")).unwrap();
        let later = with_body(&request(method, "c", ";tag=b"), "10.1.0.2", 42000);
        s.send(IN, &later).unwrap();
        refuse(&mut s, &later);
        assert_eq!(s.send(IN, invite("other")), Err(Denial::Limit), "{method}");
        s.send(OUT, without_body(&response("486 Busy Here", "INVITE", "c", "b"))).unwrap();
        assert_eq!(s.orders.len(), 2, "{method}: its pinholes close");
    }
    // What would have begun it does not.
    let mut s = sip();
    s.profile.sip.max_dialogs = 1;
    s.send(IN, invite("c")).unwrap();
    refuse(&mut s, &invite("c"));
    s.send(IN, invite("other")).unwrap();
}

#[test]
fn what_rings_after_the_answer_opens_nothing_and_keeps_nothing() {
    let mut s = sip();
    s.profile.sip.max_dialogs = 1;
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    let tags: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    s.send(OUT, answer("183 Session Progress", "c", "late")).unwrap();
    assert!(s.expectations.is_empty() && s.orders.is_empty());
    s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
    let close = |tag: &u32| Order::Close { tag: *tag, children: true };
    assert_eq!(s.orders, tags.iter().map(close).collect::<Vec<_>>());
    s.send(IN, invite("other")).unwrap();
}

/// A dialog that nobody has answered does not outlive the one that was.
#[test]
fn bye_ends_the_call_of_a_dialog_that_was_never_answered() {
    let mut s = sip();
    s.profile.sip.max_dialogs = 1;
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    s.send(OUT, answer("200 OK", "c", "b").replace("INVITE", "UPDATE").replace("tag=b", "tag=z")).unwrap();
    assert_eq!(lifetimes(&s), [EARLY_MS; 2], "not as long as the call that it is of");
    s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
    assert_eq!(s.orders.len(), 4, "its pinholes close as well");
    s.send(IN, invite("other")).unwrap();
}

/// A phone at another port than it sends from leaves its registrar while it is in a call: the end of the call is the end of its
/// pinhole, also where the registrar names nobody when it agrees.
#[test]
fn a_contact_that_has_left_does_not_stay_open_after_its_call() {
    let mut s = Datagrams::source_nat(Application::Sip, 51_000, 5060);
    let register = |expires: u32| {
        let contact = format!("Contact: <sip:alice@10.1.0.2:5060>;expires={expires}\r\n");
        without_body(
            &(request("REGISTER", "r", "") + &contact).replace("10.1.0.2:5060;br", "10.1.0.2:51000;br"),
        )
    };
    s.send(IN, register(3600)).unwrap();
    let (tag, published) = (s.expectations[0].tag, s.expectations[0].published);
    let contact = format!("Contact: <sip:alice@{published}>;expires=3600\r\n");
    s.send(OUT, without_body(&(response("200 OK", "REGISTER", "r", "b") + &contact))).unwrap();
    let call = (request("INVITE", "c", "") + "Contact: <sip:alice@10.1.0.2:5060>\r\n")
        .replace("10.1.0.2:5060;br", "10.1.0.2:51000;br");
    s.send(IN, without_body(&call)).unwrap();
    s.send(OUT, without_body(&response("200 OK", "INVITE", "c", "b"))).unwrap();
    s.send(IN, register(0)).unwrap();
    s.send(OUT, without_body(&response("200 OK", "REGISTER", "r", "b"))).unwrap();
    s.now_ms = 1_000;
    s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
    assert_eq!(s.orders, [Order::Close { tag, children: false }]);
}

/// Late, or again: what a network repeats of a call that has ended.
#[test]
fn what_comes_after_the_end_of_a_call_does_not_begin_it_again() {
    for late in [
        (OUT, answer("200 OK", "c", "b")),
        (OUT, answer("183 Session Progress", "c", "z")),
        (OUT, answer("200 OK", "c", "b").replace("INVITE", "UPDATE")),
        (IN, with_body(&request("ACK", "c", ";tag=b"), "10.1.0.2", 40000)),
        (IN, with_body(&request("UPDATE", "c", ";tag=b"), "10.1.0.2", 40000)),
        (IN, with_body(&request("INVITE", "c", ";tag=b"), "10.1.0.2", 40000)),
    ] {
        let mut s = sip();
        s.profile.sip.max_dialogs = 1;
        s.send(IN, invite("c")).unwrap();
        s.send(OUT, answer("200 OK", "c", "b")).unwrap();
        s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
        s.now_ms = ENDED_MS - 1;
        let left = s.text(late.0, &late.1);
        assert!(s.expectations.is_empty() && s.orders.is_empty(), "{left}");
        assert!(!left.contains("c=IN IP4 10.1.0.2"), "nothing of the inside leaves: {left}");
        let length = left.split("\r\n\r\n").nth(1).unwrap().len();
        assert!(left.contains(&format!("Content-Length: {length}\r\n")), "{left}");
        s.send(IN, without_body(&request("ACK", "c", ";tag=b"))).unwrap();
        s.send(IN, invite("other")).unwrap();
    }
    // Whoever calls anew with the same name is heard.
    let mut s = sip();
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, without_body(&response("486 Busy Here", "INVITE", "c", "b"))).unwrap();
    assert_eq!(s.orders.len(), 2);
    s.send(IN, invite("c")).unwrap();
    assert_eq!(lifetimes(&s), [EARLY_MS; 2]);
}

/// A phone inside that rings when another has answered: its tone opens nothing, and says nothing of the inside.
#[test]
fn a_tone_that_comes_too_late_is_translated_and_opens_nothing() {
    let mut s = sip();
    let call = without_body(&request("INVITE", "c", "")).replace("10.1.0.2:5060", "203.0.113.9");
    s.send(OUT, call).unwrap();
    s.send(IN, inside("200 OK", "b")).unwrap();
    assert_eq!(s.expectations.len(), 2);
    let left = s.text(IN, inside("183 Session Progress", "late"));
    assert!(left.contains("c=IN IP4 198.51.100.1\r\n") && left.contains("m=audio 40000 "), "{left}");
    assert!(s.expectations.is_empty() && s.orders.is_empty());
}

/// Its own side's word is no answer: the call still only rings.
#[test]
fn a_caller_does_not_answer_itself() {
    let mut s = sip();
    s.send(IN, invite("c")).unwrap();
    s.send(IN, inside("200 OK", "b")).unwrap();
    assert_eq!(lifetimes(&s), [EARLY_MS; 2]);
    assert!(s.orders.is_empty(), "{:?}", s.orders);
    s.send(OUT, answer("183 Session Progress", "c", "b")).unwrap();
    assert_eq!(lifetimes(&s), [EARLY_MS; 2]);
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    assert_eq!(lifetimes(&s), [LONGEST_MS; 2]);
}

/// There is no room for the contact of a call: the call is not begun either, and nothing of it is held.
#[test]
fn a_message_that_finds_no_room_leaves_nothing_behind() {
    let mut s = Datagrams::source_nat(Application::Sip, 51_000, 5060);
    s.tables = alg::Tables::with_calls(8);
    s.profile.sip.max_dialogs = 8;
    // Each at a port of its own: eight contacts, and eight calls.
    let call = |n: u16| {
        let contact = format!("Contact: <sip:alice@10.1.0.2:{}>\r\n", 6000 + n);
        without_body(&(request("INVITE", &format!("c{n}"), "") + &contact))
            .replace("10.1.0.2:5060;br", "10.1.0.2:51000;br")
    };
    for n in 0..7 {
        s.send(IN, call(n)).unwrap();
    }
    // A registration takes the last place for a contact.
    let register = request("REGISTER", "r", "") + "Contact: <sip:alice@10.1.0.2:7000>;expires=60\r\n";
    s.send(IN, without_body(&register).replace("10.1.0.2:5060;br", "10.1.0.2:51000;br")).unwrap();
    assert_eq!(s.send(IN, call(7)), Err(Denial::Limit));
    assert_eq!(s.tables.take_refused_calls(), 1);
    // The call that it would have begun has left its place to another.
    let plain =
        without_body(&request("INVITE", "plain", "")).replace("10.1.0.2:5060;br", "10.1.0.2:51000;br");
    s.send(IN, plain).unwrap();
    assert_eq!(s.send(IN, call(8)), Err(Denial::Limit));
}

/// A 2xx that is refused, for what it names, has decided nothing: the phones go on ringing.
#[test]
fn a_refused_answer_ends_no_other_dialog() {
    let mut s = sip();
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, answer("183 Session Progress", "c", "b")).unwrap();
    s.send(OUT, answer("183 Session Progress", "c", "y")).unwrap();
    let low = with_body(&response("200 OK", "INVITE", "c", "z"), "203.0.113.9", 80);
    assert_eq!(s.send(OUT, low), Err(Denial::PrivilegedPort));
    s.send(OUT, answer("200 OK", "c", "z")).unwrap();
    let closed = s.orders.iter().filter(|o| matches!(o, Order::Close { .. })).count();
    assert_eq!(closed, 4, "what the others have opened closes now: {:?}", s.orders);
}

/// Two phones have answered, and one of them was hung up on. It had not heard the ACK, and answers again.
#[test]
fn a_dialog_that_bye_has_ended_is_not_answered_anew() {
    let mut s = sip();
    s.profile.sip.max_dialogs = 1;
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    s.send(OUT, answer("200 OK", "c", "z")).unwrap();
    s.send(OUT, without_body(&response("200 OK", "BYE", "c", "z"))).unwrap();
    assert_eq!(s.orders.len(), 2);
    s.send(OUT, answer("200 OK", "c", "z")).unwrap();
    assert!(s.expectations.is_empty() && s.orders.is_empty());
    s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
    s.send(IN, invite("other")).unwrap();
}

/// The tags of the pinholes that the last message asked for.
fn tags(s: &Datagrams) -> Vec<u32> {
    s.expectations.iter().map(|e| e.tag).collect()
}

/// Each of them lives so long from now.
fn live(tags: &[u32], ms: u32) -> Vec<Order> {
    tags.iter().map(|tag| Order::Lifetime { tag: *tag, ms }).collect()
}

#[test]
fn a_call_rings_for_as_long_as_its_profile_says() {
    let mut s = sip();
    s.profile.sip = SipOptions { max_dialogs: 1, ringing_s: 600, early_media_s: 60, ..s.profile.sip };
    s.send(IN, invite("c")).unwrap();
    assert_eq!(lifetimes(&s), [60_000; 2]);
    s.now_ms = 599_999;
    assert_eq!(s.send(IN, invite("other")), Err(Denial::Limit));
    s.now_ms = 600_000;
    s.profile.sip.early_media_s = 3_600;
    s.send(IN, invite("other")).unwrap();
    assert_eq!(lifetimes(&s), [600_000; 2], "media do not wait for longer than their call");
}

/// A proxy has it ring for longer than timer C, and the phone says so once a minute (RFC 3261 §13.3.1.1).
#[test]
fn the_media_of_a_phone_that_rings_on_wait_for_it() {
    let mut s = sip();
    s.send(IN, invite("c")).unwrap();
    let tags = tags(&s);
    s.now_ms = 100_000;
    s.send(OUT, without_body(&response("100 Trying", "INVITE", "c", "b"))).unwrap();
    assert!(s.orders.is_empty());
    s.send(OUT, without_body(&response("180 Ringing", "INVITE", "c", "b"))).unwrap();
    assert_eq!(s.orders, live(&tags, EARLY_MS));
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    s.send(OUT, without_body(&response("180 Ringing", "INVITE", "c", "b"))).unwrap();
    assert!(s.orders.is_empty(), "it was answered");
}

#[test]
fn a_call_whose_bye_nobody_answers_is_not_known_for_hours() {
    let bye = without_body(&request("BYE", "c", ";tag=b"));
    for disconnect_s in [120, 30] {
        let ms = disconnect_s * 1000;
        let mut s = sip();
        s.profile.sip = SipOptions { max_dialogs: 1, disconnect_s, ..s.profile.sip };
        s.send(IN, invite("c")).unwrap();
        s.send(OUT, answer("200 OK", "c", "b")).unwrap();
        let tags = tags(&s);
        // Who does not know the dialog ends nothing.
        s.send(IN, without_body(&request("BYE", "c", ";tag=z"))).unwrap();
        assert!(s.orders.is_empty());
        s.now_ms = 1_000;
        s.send(IN, &bye).unwrap();
        assert_eq!(s.orders, live(&tags, ms));
        s.now_ms = 5_000;
        s.send(IN, &bye).unwrap();
        assert!(s.orders.is_empty(), "not anew for each repetition");
        s.now_ms = 1_000 + ms - 1;
        assert_eq!(s.send(IN, invite("other")), Err(Denial::Limit));
        s.now_ms = 1_000 + ms;
        s.send(IN, invite("other")).unwrap();
    }
}

#[test]
fn a_call_whose_bye_is_refused_goes_on() {
    let bye = |s: &mut Datagrams| s.send(IN, without_body(&request("BYE", "c", ";tag=b"))).unwrap();
    let mut s = sip();
    s.profile.sip.max_dialogs = 1;
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    let tags = tags(&s);
    bye(&mut s);
    s.now_ms = 1_000;
    s.send(OUT, without_body(&response("401 Unauthorized", "BYE", "c", "b"))).unwrap();
    assert_eq!(s.orders, live(&tags, LONGEST_MS - 1_000));
    s.now_ms = 3_600_000;
    assert_eq!(s.send(IN, invite("other")), Err(Denial::Limit), "it is known");
    bye(&mut s);
    assert_eq!(s.orders, live(&tags, 120_000));
    s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
    assert_eq!(s.orders.iter().filter(|o| matches!(o, Order::Close { .. })).count(), 2);
    s.send(IN, invite("other")).unwrap();
}

/// Of two phones that have answered one is hung up on, and does not say that it has heard.
#[test]
fn a_bye_of_one_dialog_does_not_end_another() {
    let mut s = sip();
    s.profile.sip.max_dialogs = 1;
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    s.send(OUT, answer("200 OK", "c", "z")).unwrap();
    for tag in ["b", "z"] {
        s.now_ms += 200_000;
        s.send(IN, without_body(&request("BYE", "c", &format!(";tag={tag}")))).unwrap();
        assert!(s.orders.is_empty(), "{tag}: {:?}", s.orders);
        s.now_ms += 200_000;
        assert_eq!(s.send(IN, invite("other")), Err(Denial::Limit), "{tag}");
    }
}

/// Phones refresh their calls (RFC 4028), so silence says that nobody is there any more.
#[test]
fn a_call_of_which_nothing_is_heard_is_forgotten_where_the_profile_says_so() {
    let mut s = sip();
    s.profile.sip = SipOptions { max_dialogs: 1, call_idle_s: 600, ..s.profile.sip };
    s.send(IN, invite("c")).unwrap();
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    assert_eq!(lifetimes(&s), [600_000; 2]);
    let tags = tags(&s);
    s.now_ms = 599_999;
    s.send(OUT, without_body(&response("200 OK", "UPDATE", "c", "b"))).unwrap();
    assert_eq!(s.orders, live(&tags, 600_000));
    s.now_ms += 599_999;
    assert_eq!(s.send(IN, invite("other")), Err(Denial::Limit));
    s.now_ms += 1;
    s.send(IN, invite("other")).unwrap();
    // The longest time of a call counts all the same.
    s.profile.sip.max_call_s = 300;
    s.send(OUT, answer("200 OK", "other", "b")).unwrap();
    assert_eq!(lifetimes(&s), [300_000; 2]);
}

/// The caller's phone answers at another port than it calls from.
fn invite_with_contact(id: &str) -> String {
    let head = request("INVITE", id, "") + "Contact: <sip:alice@10.1.0.2:5070>\r\n";
    with_body(&head, "10.1.0.2", 40000)
}

/// The pinhole of the contact, and the orders of the last message that are for it.
fn contact_of(s: &Datagrams) -> u32 {
    s.expectations.iter().find(|e| e.application == Application::Sip).unwrap().tag
}

fn orders_for(s: &Datagrams, wanted: u32) -> Vec<Order> {
    let is_for = |order: &&Order| match **order {
        Order::Activate { tag } | Order::Lifetime { tag, .. } | Order::Close { tag, .. } => tag == wanted,
        Order::KeepSession { .. } => false,
    };
    s.orders.iter().filter(is_for).copied().collect()
}

/// Its contact's pinhole is open as long as the call is known, whoever hangs up.
#[test]
fn a_contact_lasts_no_longer_than_a_call_whose_bye_nobody_answers() {
    for from in [IN, OUT] {
        let mut s = sip();
        s.send(IN, invite_with_contact("c")).unwrap();
        let tag = contact_of(&s);
        s.send(OUT, answer("200 OK", "c", "b")).unwrap();
        assert_eq!(orders_for(&s, tag), [Order::Activate { tag }, Order::Lifetime { tag, ms: LONGEST_MS }]);
        let bye = match from {
            IN => without_body(&request("BYE", "c", ";tag=b")),
            OUT => without_body(&request("BYE", "c", ";tag=a")).replace(";tag=a\r\nTo", ";tag=b\r\nTo"),
        };
        s.now_ms = 1_000;
        s.send(from, &bye).unwrap();
        assert_eq!(orders_for(&s, tag), [Order::Lifetime { tag, ms: 120_000 }], "{from:?}");
        s.now_ms = 2_000;
        s.send(from, &bye).unwrap();
        assert!(orders_for(&s, tag).is_empty(), "not anew for each repetition");
        let refused = match from {
            IN => response("401 Unauthorized", "BYE", "c", "b"),
            OUT => response("401 Unauthorized", "BYE", "c", "a").replace(";tag=a\r\nTo", ";tag=b\r\nTo"),
        };
        s.send(if from == IN { OUT } else { IN }, without_body(&refused)).unwrap();
        assert_eq!(orders_for(&s, tag), [Order::Lifetime { tag, ms: LONGEST_MS - 2_000 }], "it goes on");
    }
}

#[test]
fn a_contact_that_others_need_is_open_for_them_after_a_bye() {
    let mut s = sip();
    let mut tag = 0;
    for id in ["c", "d"] {
        s.send(IN, invite_with_contact(id)).unwrap();
        tag = contact_of(&s);
        s.send(OUT, answer("200 OK", id, "b")).unwrap();
    }
    let mut bye = |id: &str, ms| {
        s.send(IN, without_body(&request("BYE", id, ";tag=b"))).unwrap();
        assert_eq!(orders_for(&s, tag), [Order::Lifetime { tag, ms }], "{id}");
        s.now_ms += 200_000;
    };
    bye("c", LONGEST_MS);
    // Nobody knows the first any more.
    bye("d", 120_000);
}

#[test]
fn a_contact_lasts_as_long_as_a_call_of_which_something_is_heard() {
    let mut s = sip();
    s.profile.sip.call_idle_s = 600;
    s.send(IN, invite_with_contact("c")).unwrap();
    let tag = contact_of(&s);
    s.send(OUT, answer("200 OK", "c", "b")).unwrap();
    assert_eq!(orders_for(&s, tag), [Order::Activate { tag }, Order::Lifetime { tag, ms: 600_000 }]);
    s.now_ms = 599_999;
    s.send(OUT, without_body(&response("200 OK", "UPDATE", "c", "b"))).unwrap();
    assert_eq!(orders_for(&s, tag).last(), Some(&Order::Lifetime { tag, ms: 600_000 }));
    s.now_ms = 1_000_000;
    s.send(IN, without_body(&request("BYE", "c", ";tag=b"))).unwrap();
    assert_eq!(orders_for(&s, tag), [Order::Lifetime { tag, ms: 120_000 }]);
}

/// 3GPP's T1 is 2 s: what belongs to a call comes for two minutes after its end.
#[test]
fn a_call_that_has_ended_is_known_for_as_long_as_messages_are_repeated() {
    for (transaction_s, late_ms, begins) in
        [(32, 31_999, false), (32, 32_000, true), (128, 127_999, false), (128, 128_000, true)]
    {
        let mut s = sip();
        s.profile.sip = SipOptions { max_dialogs: 1, transaction_s, ..s.profile.sip };
        s.send(IN, invite("c")).unwrap();
        s.send(OUT, answer("200 OK", "c", "b")).unwrap();
        s.send(OUT, without_body(&response("200 OK", "BYE", "c", "b"))).unwrap();
        s.now_ms = late_ms;
        s.send(OUT, answer("200 OK", "c", "b")).unwrap();
        assert_eq!(s.send(IN, invite("other")).is_err(), begins, "{transaction_s} {late_ms}");
    }
}
