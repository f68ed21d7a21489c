//! SIP registrations: several accounts at one contact, of which each lives as long as its own registrar's word; and what a registrar
//! says that nobody has asked for.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::{Application, Denial, Order, Side, Transport};
use common::datagrams::Datagrams;

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;
/// The tag of the pinhole to a phone's contact at port 5060.
const CONTACT: u32 = 1 << 31 | 5060;
/// Marks the tag of one over TCP.
const OVER_TCP: u32 = 1 << 17;
/// The session that a phone begins with.
const FIRST: u64 = 1_000_000;
const ALICE: &str = "alice@example.net";
const BOB: &str = "bob@example.net";

/// A phone that sends from port 51000 and is called at port 5060, for all of its accounts.
struct Phone {
    s: Datagrams,
    /// As its registrar knows its contact.
    published: String,
}

impl Phone {
    fn new() -> Self {
        let s = Datagrams::source_nat(Application::Sip, 51_000, 5060);
        let mut phone = Self { s, published: "198.51.100.1:6084".to_owned() };
        phone.is_of(FIRST);
        phone
    }

    /// What comes from now on is of another session.
    fn is_of(&mut self, session: u64) {
        (self.s.gateway.flow.id, self.s.gateway.flow.group) = (session, session);
    }

    /// Alice asks to be called at a port, and the registrar lists it behind the others.
    fn registers_at(&mut self, port: u32, listed: &mut String) {
        let (id, contact) = (port.to_string(), at(ALICE, 600).replace("5060", &port.to_string()));
        self.asks(ALICE, &id, &contact);
        *listed += &contact.replace(&format!("10.1.0.2:{port}"), &self.published);
        self.s.send(OUT, response(ALICE, &id, listed)).unwrap();
    }

    /// An account asks; `contact` is a whole header, or none.
    fn asks(&mut self, account: &str, id: &str, contact: &str) -> Vec<Order> {
        self.s.send(IN, request(account, id, contact)).unwrap();
        if let Some(e) = self.s.expectations.first() {
            self.published = e.published.to_string();
        }
        self.s.orders.clone()
    }

    /// The registrar answers it with 200.
    fn agrees(&mut self, account: &str, id: &str, contact: &str) -> Vec<Order> {
        let contact = contact.replace("10.1.0.2:5060", &self.published);
        self.s.send(OUT, response(account, id, &contact)).unwrap();
        self.s.orders.clone()
    }

    fn registers(&mut self, account: &str, id: &str, seconds: u32) {
        let contact = at(account, seconds);
        self.asks(account, id, &contact);
        let orders = self.agrees(account, id, &contact);
        assert!(orders.contains(&Order::Activate { tag: CONTACT }), "{orders:?}");
    }

    fn lifetimes(&self) -> Vec<u32> {
        let lifetimes = self.s.orders.iter().filter_map(|order| match order {
            Order::Lifetime { tag: CONTACT, ms } => Some(*ms),
            _ => None,
        });
        lifetimes.collect()
    }
}

fn user(account: &str) -> &str {
    account.split('@').next().unwrap()
}

fn at(account: &str, seconds: u32) -> String {
    format!("Contact: <sip:{}@10.1.0.2:5060>;expires={seconds}\r\n", user(account))
}

fn request(account: &str, id: &str, contact: &str) -> String {
    format!(
        "REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:51000;branch=z9hG4bK1\r\n\
         From: <sip:{account}>;tag=a\r\nTo: <sip:{account}>\r\nCall-ID: {id}\r\nCSeq: 1 REGISTER\r\n\
         {contact}Content-Length: 0\r\n\r\n"
    )
}

fn response(account: &str, id: &str, contact: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 198.51.100.1:20001;branch=z9hG4bK1\r\n\
         From: <sip:{account}>;tag=a\r\nTo: <sip:{account}>;tag=r\r\nCall-ID: {id}\r\nCSeq: 1 REGISTER\r\n\
         {contact}Content-Length: 0\r\n\r\n"
    )
}

const fn at_port(port: u32) -> u32 {
    1 << 31 | port
}

fn closed(orders: &[Order]) -> bool {
    orders.contains(&Order::Close { tag: CONTACT, children: false })
}

/// Each way to leave, with the registrar's answer to it.
fn ways_to_leave(account: &str) -> [(String, String); 4] {
    let star = || "Contact: *\r\nExpires: 0\r\n".to_owned();
    [
        (star(), String::new()),
        (at(account, 0), String::new()),
        (at(account, 0), at(account, 0)),
        // It only asks what is registered, and hears that nothing is.
        (String::new(), String::new()),
    ]
}

#[test]
fn an_account_that_leaves_does_not_close_anothers_contact() {
    // Another user of the domain, and the same user of another one.
    for other in [BOB, "alice@example.org"] {
        for (leave, agreed) in ways_to_leave(ALICE) {
            let mut p = Phone::new();
            p.registers(ALICE, "1", 3_600);
            p.registers(other, "2", 600);
            p.s.now_ms = 10_000;
            p.asks(ALICE, "3", &leave);
            assert!(p.lifetimes().iter().all(|ms| *ms >= 622_000), "{leave}: {:?}", p.s.orders);
            let orders = p.agrees(ALICE, "3", &agreed);
            assert!(!closed(&orders), "{leave}: {orders:?}");
            assert_eq!(p.lifetimes(), [622_000], "{leave}: as long as the other's");
            // The last one to leave closes it.
            p.asks(other, "4", &at(other, 0));
            assert_eq!(p.lifetimes(), [32_000]);
            assert!(closed(&p.agrees(other, "4", "")), "{leave}");
        }
    }
}

#[test]
fn a_shorter_registration_does_not_shorten_anothers() {
    let mut p = Phone::new();
    p.registers(ALICE, "1", 3_600);
    p.registers(BOB, "2", 60);
    assert_eq!(p.lifetimes(), [3_632_000]);
    // Its own it does.
    p.registers(ALICE, "3", 120);
    assert_eq!(p.lifetimes(), [152_000]);
}

/// One that has asked, and has no answer yet, is not shut out by another that leaves meanwhile.
#[test]
fn an_account_that_is_about_to_be_registered_finds_its_pinhole() {
    let mut p = Phone::new();
    p.registers(ALICE, "1", 3_600);
    p.asks(ALICE, "2", &at(ALICE, 0));
    p.s.now_ms = 1_000;
    p.asks(BOB, "3", &at(BOB, 600));
    let orders = p.agrees(ALICE, "2", "");
    assert!(!closed(&orders), "{orders:?}");
    assert_eq!(p.lifetimes(), [32_000]);
    p.agrees(BOB, "3", &at(BOB, 600));
    assert_eq!(p.lifetimes(), [632_000]);
}

/// More accounts than a contact knows by name.
#[test]
fn an_exchange_with_many_accounts_is_reached_until_the_last_has_left() {
    let mut p = Phone::new();
    let accounts: Vec<String> = (0..12).map(|n| format!("line{n}@example.net")).collect();
    for (n, account) in accounts.iter().enumerate() {
        p.registers(account, &format!("in{n}"), 600);
    }
    for (n, account) in accounts.iter().enumerate().take(11) {
        p.asks(account, &format!("out{n}"), &at(account, 0));
        let orders = p.agrees(account, &format!("out{n}"), "");
        assert!(!closed(&orders), "{account}: {orders:?}");
    }
    assert_eq!(p.lifetimes(), [632_000]);
}

/// Whoever sends from the registrar's address has a day of everything, if he is believed.
#[test]
fn what_nobody_has_asked_for_opens_and_keeps_nothing() {
    let day = at(ALICE, 86_400);
    let mut p = Phone::new();
    assert_eq!(p.agrees(ALICE, "1", &day), [], "nothing was asked");
    // A call's contact, which closes with it.
    let invite = request(ALICE, "c", &at(ALICE, 600)).replace("REGISTER", "INVITE");
    p.s.send(IN, invite).unwrap();
    p.published = p.s.expectations[0].published.to_string();
    assert_eq!(p.agrees(ALICE, "c", &day), []);
    p.s.send(OUT, response(ALICE, "c", "").replace("REGISTER", "INVITE")).unwrap();
    assert_eq!(p.agrees(ALICE, "c", &day), []);
    let asked = at(ALICE, 600);
    p.asks(ALICE, "1", &asked);
    // Another request's number, or another request's Call-ID.
    let other = response(ALICE, "1", &day).replace("10.1.0.2:5060", &p.published);
    p.s.send(OUT, other.replace("CSeq: 1 ", "CSeq: 2 ")).unwrap();
    assert_eq!(p.s.orders, []);
    assert_eq!(p.agrees(ALICE, "2", &day), []);
    // Nor does it end what is registered.
    assert!(p.agrees(ALICE, "1", &asked).contains(&Order::KeepSession { ms: 632_000 }));
    for contact in ["", &at(ALICE, 0)] {
        assert_eq!(p.agrees(ALICE, "2", contact), []);
    }
    // The phone has given its request up.
    p.asks(ALICE, "3", &asked);
    p.s.now_ms = 32_000;
    assert_eq!(p.agrees(ALICE, "3", &day), []);
    // Its own side does not agree with itself.
    p.asks(ALICE, "4", &asked);
    p.s.send(IN, response(ALICE, "4", &day)).unwrap();
    assert_eq!(p.s.orders, []);
    p.s.send(OUT, response(ALICE, "c", "").replace("REGISTER", "BYE")).unwrap();
    assert_eq!(p.lifetimes(), [600_000], "its registration is left: {:?}", p.s.orders);
}

/// An answer to a question of one's own is none about a contact that was not asked for.
#[test]
fn an_agreement_opens_no_contact_but_its_own() {
    let mut p = Phone::new();
    let invite = request(ALICE, "c", &at(ALICE, 600)).replace("REGISTER", "INVITE");
    p.s.send(IN, invite).unwrap();
    p.published = p.s.expectations[0].published.to_string();
    p.asks(ALICE, "1", "");
    assert_eq!(p.agrees(ALICE, "1", &at(ALICE, 86_400)), []);
    // What was registered before may be repeated by the answer to any.
    p.registers(ALICE, "2", 600);
    p.s.now_ms = 100_000;
    p.asks(ALICE, "3", "");
    p.agrees(ALICE, "3", &at(ALICE, 900));
    assert_eq!(p.lifetimes(), [932_000]);
}

/// Where the registration finds no room the session is not kept for it.
#[test]
fn a_registration_that_finds_no_room_keeps_no_session() {
    let mut p = Phone::new();
    let mut listed = String::new();
    for port in 6_000..6_008 {
        p.registers_at(port, &mut listed);
        assert!(p.s.orders.contains(&Order::KeepSession { ms: 632_000 }), "{port}: {:?}", p.s.orders);
    }
    p.asks(ALICE, "ninth", &at(ALICE, 86_400));
    let orders = p.agrees(ALICE, "ninth", &(listed + &at(ALICE, 86_400)));
    assert!(orders.contains(&Order::KeepSession { ms: 632_000 }), "not a day: {orders:?}");
    assert!(!orders.contains(&Order::Activate { tag: CONTACT }) && p.lifetimes().is_empty(), "{orders:?}");
    assert_eq!(p.s.tables.take_refused_calls(), 1);
}

/// A phone that starts anew again and again, each time at another port, with a registrar that lists what it was before.
#[test]
fn a_contact_behind_many_old_ones_is_registered() {
    let mut p = Phone::new();
    let mut listed = String::new();
    for port in 6_000..6_008 {
        p.registers_at(port, &mut listed);
        assert!(p.s.orders.contains(&Order::Activate { tag: at_port(port) }), "{port}: {:?}", p.s.orders);
    }
    assert_eq!(p.s.tables.take_refused_calls(), 0);
    // More than are read: it is counted.
    p.asks(ALICE, "many", &at(ALICE, 600));
    p.s.send(OUT, response(ALICE, "many", &listed.repeat(3))).unwrap();
    assert_eq!(p.s.tables.take_refused_calls(), 1);
}

/// The same with a registrar that keeps one contact: what it lists no more makes room, and is closed.
#[test]
fn a_contact_that_is_listed_no_more_makes_room() {
    let mut p = Phone::new();
    for port in 6_000..6_020 {
        p.s.now_ms += 1_000;
        p.registers_at(port, &mut String::new());
        let orders = &p.s.orders;
        assert!(orders.contains(&Order::Activate { tag: at_port(port) }), "{port}: {orders:?}");
        let leaves: Vec<_> = orders.iter().filter(|order| matches!(order, Order::Close { .. })).collect();
        let oldest = Order::Close { tag: at_port(port - 8), children: false };
        assert_eq!(leaves, if port < 6_008 { vec![] } else { vec![&oldest] }, "{port}");
    }
    assert_eq!(p.s.tables.take_refused_calls(), 0);
}

/// The clock turns over within 50 days; what is over for 25 of them was never a registration to come.
#[test]
fn a_contact_that_has_long_left_is_not_taken_for_a_registered_one() {
    const HOUR: u32 = 3_600_000;
    let mut p = Phone::new();
    p.s.tables = alg::Tables::with_calls(4_096);
    p.registers_at(5_062, &mut String::new());
    for hour in 1..=26 * 24 {
        p.s.now_ms = hour * HOUR;
        p.registers(BOB, &format!("{hour}"), 7_200);
    }
    let contact = at(BOB, 600).replace("5060", "5062");
    p.asks(BOB, "again", &contact);
    let known = contact.replace("10.1.0.2:5062", &p.published);
    p.s.send(OUT, response(BOB, "again", &known)).unwrap();
    let lives = Order::Lifetime { tag: at_port(5_062), ms: 632_000 };
    assert!(p.s.orders.contains(&lives), "not for what Alice has left: {:?}", p.s.orders);
}

/// Blanks before a parameter, and a comma within another.
#[test]
fn how_long_a_contact_is_asked_for_is_read_as_it_is_written() {
    let told = |seconds: u32| {
        format!("Contact: <sip:alice@10.1.0.2:5060>;methods=\"INVITE, ACK\"; expires = {seconds}\r\n")
    };
    let mut p = Phone::new();
    p.asks(ALICE, "1", &told(7_200));
    p.agrees(ALICE, "1", &told(7_200));
    assert_eq!(p.lifetimes(), [7_232_000]);
    p.asks(ALICE, "2", &told(0));
    assert_eq!(p.lifetimes(), [32_000], "it leaves");
    assert!(closed(&p.agrees(ALICE, "2", &told(0))));
}

/// Without translation, at another port than the session's: nobody has published it.
#[test]
fn a_contact_that_nobody_translates_is_registered() {
    let mut p = Phone::new();
    p.s.gateway.flow.initiator_translated = p.s.gateway.flow.initiator;
    p.asks(ALICE, "1", &at(ALICE, 600));
    p.s.gateway.published.clear();
    let orders = p.agrees(ALICE, "1", &at(ALICE, 600));
    assert!(orders.contains(&Order::Activate { tag: CONTACT }), "{orders:?}");
    assert_eq!(p.lifetimes(), [632_000]);
}

/// The Via's port and the contact's are one number and two listeners.
#[test]
fn replies_over_udp_find_a_phone_whose_contact_is_over_tcp() {
    let mut p = Phone::new();
    let over_tcp = at(ALICE, 600).replace("5060>", "5060;transport=tcp>");
    p.s.send(IN, request(ALICE, "1", &over_tcp).replace("10.1.0.2:51000", "10.1.0.2:5060")).unwrap();
    let asked: Vec<_> = p.s.expectations.iter().map(|e| (e.tag, e.transport, e.armed)).collect();
    let tcp = (CONTACT | OVER_TCP, Transport::Tcp, false);
    assert_eq!(asked, [tcp, (CONTACT, Transport::Udp, true)], "the contact waits for the registrar");
}

/// More phones than are remembered: they are refused, so that no answer is lost.
#[test]
fn a_request_that_cannot_be_remembered_is_refused() {
    let mut p = Phone::new();
    p.s.tables = alg::Tables::with_calls(8);
    for n in 0..8 {
        p.is_of(n);
        p.asks(ALICE, "1", "");
    }
    p.is_of(8);
    assert_eq!(p.s.send(IN, request(ALICE, "1", "")), Err(Denial::Limit));
    assert!(p.s.reply.starts_with(b"SIP/2.0 503 "), "{:?}", String::from_utf8_lossy(&p.s.reply));
    assert_eq!(p.s.tables.take_refused_calls(), 1);
    p.s.now_ms = 32_000;
    p.asks(ALICE, "1", "");
}

/// One phone that asks and asks, a guesser of passwords outside, and whoever spoofs the registrar in the phone's own session: each takes
/// from himself alone.
#[test]
fn a_flood_of_requests_keeps_nobody_else_from_being_registered() {
    let mut p = Phone::new();
    p.s.tables = alg::Tables::with_calls(64);
    let contact = at(ALICE, 600);
    p.asks(ALICE, "mine", &contact);
    for n in 0..10_000 {
        p.is_of(1);
        p.asks(BOB, &format!("{n}"), "");
        p.is_of(2);
        p.s.send(OUT, request(BOB, &format!("{n}"), "")).unwrap();
        p.is_of(FIRST);
        p.s.send(OUT, request(BOB, &format!("{n}"), "")).unwrap();
    }
    assert_eq!(p.s.tables.take_refused_calls(), 3 * (10_000 - 8));
    p.agrees(ALICE, "mine", &contact);
    assert!(p.s.orders.contains(&Order::KeepSession { ms: 632_000 }), "{:?}", p.s.orders);
    // Whoever comes later finds a place, too.
    for n in 10..40 {
        p.is_of(n);
        p.registers(ALICE, "1", 600);
    }
    assert_eq!(p.s.tables.take_refused_calls(), 0);
}

/// All phones come back after a power cut, each asked for its password first, and those that the gateway is sized for all find a place.
#[test]
fn as_many_phones_as_there_are_places_register_at_once() {
    const PHONES: u64 = 3_072;
    let mut p = Phone::new();
    p.s.tables = alg::Tables::with_calls(4_096);
    for n in 0..PHONES {
        p.is_of(n);
        p.asks(ALICE, "1", &at(ALICE, 600));
    }
    for n in 0..PHONES {
        p.is_of(n);
        p.s.send(OUT, response(ALICE, "1", "").replace("200 OK", "401 Unauthorized")).unwrap();
        p.asks(ALICE, "1", &at(ALICE, 600));
        p.agrees(ALICE, "1", &at(ALICE, 600));
        assert!(p.s.orders.contains(&Order::KeepSession { ms: 632_000 }), "{n}: {:?}", p.s.orders);
    }
    assert_eq!(p.s.tables.take_refused_calls(), 0);
}

/// A registrar repeats its answer for as long as the phone repeats its request; the phone may have said something else meanwhile.
#[test]
fn an_answer_that_is_repeated_undoes_nothing() {
    let second = |text: String| text.replace("CSeq: 1 ", "CSeq: 2 ");
    let mut p = Phone::new();
    p.registers(ALICE, "0", 3_600);
    let (leaves, comes) = (at(ALICE, 0), at(ALICE, 3_600));
    // Its repetition is on the way, before the first answer and behind it.
    p.asks(ALICE, "1", &leaves);
    p.asks(ALICE, "1", &leaves);
    assert!(closed(&p.agrees(ALICE, "1", "")));
    p.asks(ALICE, "1", &leaves);
    p.s.send(IN, second(request(ALICE, "1", &comes))).unwrap();
    assert_eq!(p.agrees(ALICE, "1", ""), [], "it undoes nothing that came later");
    let known = comes.replace("10.1.0.2:5060", &p.published);
    p.s.send(OUT, second(response(ALICE, "1", &known))).unwrap();
    assert_eq!(p.lifetimes(), [3_632_000]);
    // Nor does it bring back what has left.
    assert_eq!(p.agrees(ALICE, "1", &comes), []);
    p.asks(ALICE, "3", &leaves);
    p.agrees(ALICE, "3", "");
    p.s.send(OUT, second(response(ALICE, "1", &known))).unwrap();
    assert_eq!(p.s.orders, []);
}

/// What is not the last word leaves the request open; a refusal ends it.
#[test]
fn a_request_waits_for_a_final_response() {
    let mut p = Phone::new();
    let contact = at(ALICE, 600);
    for (code, counts) in [("100 Trying", true), ("401 Unauthorized", false), ("503 Unavailable", false)] {
        p.asks(ALICE, code, &contact);
        p.s.send(OUT, response(ALICE, code, "").replace("200 OK", code)).unwrap();
        assert_eq!(!p.agrees(ALICE, code, &contact).is_empty(), counts, "{code}");
    }
}

/// Two accounts, of which one is called at another port.
#[test]
fn a_session_lives_as_long_as_any_account_of_it() {
    let mut p = Phone::new();
    p.registers(ALICE, "1", 3_600);
    let contact = at(BOB, 60).replace("5060", "5070");
    p.asks(BOB, "2", &contact);
    let known = contact.replace("10.1.0.2:5070", &p.published);
    p.s.send(OUT, response(BOB, "2", &known)).unwrap();
    assert!(p.s.orders.contains(&Order::KeepSession { ms: 3_632_000 }), "{:?}", p.s.orders);
}

/// 3GPP's T1 is 2 s: an answer may come after two minutes.
#[test]
fn an_answer_counts_for_as_long_as_messages_are_repeated() {
    for (transaction_s, late_ms, counts) in [(32, 32_000, false), (128, 32_000, true), (128, 128_000, false)]
    {
        let mut p = Phone::new();
        p.s.profile.sip.transaction_s = transaction_s;
        p.asks(ALICE, "1", &at(ALICE, 600));
        assert_eq!(p.s.expectations[0].lifetime_ms, transaction_s * 1000);
        p.s.now_ms = late_ms;
        let orders = p.agrees(ALICE, "1", &at(ALICE, 600));
        assert_eq!(orders.contains(&Order::Activate { tag: CONTACT }), counts, "{transaction_s} {late_ms}");
        assert_eq!(p.lifetimes(), if counts { vec![600_000 + 128_000] } else { vec![] });
    }
}
