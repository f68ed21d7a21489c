//! SIP registrations of several accounts at one contact: each lives as long as its own registrar's word.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::{Application, Order, Side};
use common::datagrams::Datagrams;

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;
/// The tag of the pinhole to a phone's contact at port 5060.
const CONTACT: u32 = 1 << 31 | 5060;
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
        Self { s, published: "198.51.100.1:6084".to_owned() }
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
