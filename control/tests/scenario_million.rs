//! A million sessions through the real path, and then none: every record, table slot, port, binding and expectation
//! comes back, and each session was recorded once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use control::audit::Records;
use control::core::Core;
use dataplane::counters::Counter;
use dataplane::event::{Event, Ref, Stamped};
use dataplane::key::{Protocol, WorkerId};
use dataplane::packet::{build, checksum};
use dataplane::view::{CloseReason, ExpectationView, SessionView};
use scenario::gateway::MODES;
use scenario::*;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Instant;

/// Clients by address and port, destinations of each; once for UDP, once for TCP.
const CLIENTS: u8 = 25;
const PORTS: u16 = 1_000;
const DESTINATIONS: u8 = 20;
const SESSIONS: u64 = CLIENTS as u64 * PORTS as u64 * DESTINATIONS as u64 * 2;
/// FTP control connections, each with a pinhole; half of the pinholes are met.
const FTP: u16 = 40;
/// Frames between two polls.
const BATCH: usize = 2_000;

const SIZES: &str = "
[dataplane]
sessions = 1000500
expectations = 1024
alg_sessions = 256
bindings = 131072
events = 8192
";
const LIVES: &str = "
[timeouts]
tcp_syn_sent = 40
udp_new = 40
tcp_established = 40
expectation = 20
port_hold_down = 10
";

/// Counts, and knows every session.
#[derive(Default)]
struct Counted {
    opened: HashSet<u64>,
    closed: HashSet<u64>,
    twice: u64,
    not_by_timeout: u64,
    packets: u64,
    expired: u64,
    hits: u64,
}

fn number(id: Ref) -> u64 {
    u64::from(id.version) << 32 | u64::from(id.index)
}

impl Records for Counted {
    fn session_opened(&mut self, view: &SessionView) {
        self.twice += u64::from(!self.opened.insert(number(view.id)));
    }

    fn session_closed(&mut self, view: &SessionView) {
        self.twice += u64::from(!self.closed.insert(number(view.id)));
        self.not_by_timeout += u64::from(view.close_reason != CloseReason::Timeout);
        self.packets += view.packets[0] + view.packets[1];
    }

    fn expectation_expired(&mut self, _: &ExpectationView) {
        self.expired += 1;
    }

    fn event(&mut self, _: WorkerId, event: &Stamped) {
        self.hits += u64::from(matches!(event.event, Event::ExpectationHit { .. }));
    }
}

fn frame(protocol: Protocol, client: u8, destination: u8) -> Vec<u8> {
    let from = Host { addr: Ipv4Addr::new(10, 1, 0, 100 + client), ..CLIENT };
    let ends = from.to(Ipv4Addr::new(203, 0, 113, 1 + destination));
    match protocol {
        Protocol::Tcp => {
            build::tcp(&ends, &build::Tcp { sport: 1, dport: 80, flags: 2, ..Default::default() }, b"")
        }
        _ => build::udp(&ends, 1, 53, b"question"),
    }
}

/// The frame from another port.
fn from_port(frame: &mut [u8], protocol: Protocol, port: u16) {
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    let word = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let (source, destination) = (word(26), word(30));
    assert!(checksum::l4_fill(source, destination, protocol, &mut frame[34..]));
}

#[test]
fn a_million_sessions_come_and_go() {
    let start = Instant::now();
    let text = [SIZES, LIVES, LINKS, NAT, ALLOW].concat();
    let mut gw = Gateway::with(MODES[1], &text, Sizes::default(), Counted::default());

    for n in 0..FTP {
        let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000 + n), (SERVER, 21));
        let line = format!("PORT 10,1,0,2,195,{n}\r\n");
        let seen = ftp.say(&mut gw, Side::Initiator, &line);
        ftp.say(&mut gw, Side::Responder, "200 PORT command successful.\r\n");
        let numbers: Vec<u16> =
            seen.trim_end().split([' ', ',']).skip(5).map(|n| n.parse().unwrap()).collect();
        let published = numbers[0] << 8 | numbers[1];
        if n % 2 == 0 {
            Pair::new((SERVER, 20 + n), (GW_OUTSIDE, published), (CLIENT, 195 << 8 | n)).handshake(&mut gw);
        }
    }
    let children = u64::from(FTP / 2);
    let total = SESSIONS + u64::from(FTP) + children;
    assert_eq!(gw.count(Counter::ExpectationsHit), children);
    println!("{} FTP sessions after {:?}", FTP, start.elapsed());

    let mut batch = 0;
    let mut left = 0_u64;
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        for client in 0..CLIENTS {
            for destination in 0..DESTINATIONS {
                let mut frame = frame(protocol, client, destination);
                for port in 0..PORTS {
                    from_port(&mut frame, protocol, 2_000 + port);
                    gw.inject(INSIDE, &frame);
                    batch += 1;
                    if batch == BATCH {
                        batch = 0;
                        gw.run();
                        left += std::iter::from_fn(|| gw.recv_raw(OUTSIDE)).count() as u64;
                        gw.advance_by(10, 10);
                    }
                }
            }
        }
    }
    gw.run();
    left += std::iter::from_fn(|| gw.recv_raw(OUTSIDE)).count() as u64;
    println!("opened after {:?}", start.elapsed());
    assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
    assert_eq!(left, SESSIONS);
    assert_eq!(gw.shared.sessions_in_use(), total);
    assert_eq!(gw.shared.table.live() as u64, total * 2, "two keys each");
    // One port for an endpoint, whatever it speaks to.
    let endpoints = u32::from(CLIENTS) * u32::from(PORTS);
    let ports = |gw: &Gateway<Counted>, protocol| {
        let pool = gw.shared.registry.find(GW_OUTSIDE).unwrap();
        gw.shared.registry.get(pool).unwrap().in_use(protocol)
    };
    assert_eq!(ports(&gw, Protocol::Udp), endpoints);
    assert_eq!(ports(&gw, Protocol::Tcp), endpoints + 2 * u32::from(FTP));
    gw.assert_balance(0);

    let shared = gw.shared.bytes_per_session();
    let each = shared + Core::<Counted>::BYTES_PER_SESSION as f64;
    println!("memory per session: {each:.1} bytes, {shared:.1} of them shared");
    assert!(each <= 256.0, "{each}");

    // They age in the order in which they came.
    gw.advance_by(60_000, 100);
    println!("aged after {:?}", start.elapsed());
    // What a parent outlives its child by.
    gw.advance_by(120_000, 1_000);
    // Resting ports come back 64 a millisecond and worker.
    gw.advance_by(1_000, 1);
    println!("empty after {:?}", start.elapsed());
    assert_eq!(gw.shared.table.live(), 0, "table slots");
    assert_eq!(gw.shared.sessions_in_use(), 0);
    assert_eq!(gw.ports_held(), (0, 0));
    gw.assert_empty();
    assert_eq!(gw.count(Counter::SessionsOpened), total);
    assert_eq!(gw.count(Counter::SessionsFreed), total);

    let rx = gw.count(Counter::RxPackets);
    let records = gw.core.records();
    assert_eq!((records.opened.len() as u64, records.closed.len() as u64), (total, total));
    assert_eq!(records.opened, records.closed);
    assert_eq!((records.twice, records.not_by_timeout), (0, 0));
    assert_eq!(records.packets, rx, "every packet in one record");
    assert_eq!((records.expired, records.hits), (children, children));
}
