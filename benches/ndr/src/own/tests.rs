//! The generator against a small device of our own: source NAT in a few lines, with every fault that the generator must see.

use super::*;
use dataplane::buf::PacketBuf;
use dataplane::heap::{HeapBuf, HeapPool};
use dataplane::packet::{build, checksum, flag};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::rc::Rc;

const HZ: u64 = 1_000_000_000;
const OUTSIDE: u32 = 0xcb00_7101;
const CLIENT_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SERVER_GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];
const GATEWAY_MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// Steps a microsecond each time that it is read.
#[derive(Clone)]
struct Ticks(Rc<Cell<u64>>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + HZ / 1_000_000);
        self.0.get()
    }

    fn hz(&self) -> u64 {
        HZ
    }
}

/// A device with two ports, 0 to the clients and 1 to the servers.
struct Device {
    clock: Ticks,
    pool: HeapPool,
    out: [VecDeque<HeapBuf>; 2],
    by_client: HashMap<(End, u8), u16>,
    by_port: HashMap<(u16, u8), End>,
    next_port: u16,
    /// Frames a second that it carries; its bucket holds a burst of 100.
    rate: f64,
    credit: f64,
    last: u64,
    /// Most sessions.
    most: usize,
    /// Faults.
    deaf: bool,
    corrupts: bool,
    remaps: bool,
    bounces: bool,
    /// TCP segments with any of these flags are lost.
    eats: u8,
    /// Sends first datagrams on, and keeps nothing of most of them: all but one in so many.
    forgets: u16,
    /// When it begins to lose every frame, and when that ends.
    outage: (u64, u64),
    /// Frames that each port has sent on.
    forwarded: [u64; 2],
}

impl Device {
    fn takes(&mut self, from: usize, mut buf: HeapBuf) {
        let Parse::Ip(p) = parse(buf.bytes(), GATEWAY_MAC[from]) else {
            return self.arp(from, buf.bytes());
        };
        let now = self.clock.0.get();
        self.credit = (self.credit + (now - self.last) as f64 / HZ as f64 * self.rate).min(100.0);
        self.last = now;
        if self.credit < 1.0 {
            return;
        }
        self.credit -= 1.0;
        if p.protocol == Protocol::Tcp && p.tcp_flags & self.eats != 0 {
            return;
        }
        if (self.outage.0..self.outage.1).contains(&now) {
            return;
        }
        let to = 1 - from;
        let number = p.protocol as u8;
        let frame = buf.bytes_mut();
        if from == 0 {
            let client = (p.src, p.sport);
            if self.remaps {
                self.by_client.remove(&(client, number));
            }
            if !self.by_client.contains_key(&(client, number)) {
                if self.by_client.len() >= self.most {
                    return;
                }
                self.next_port += 1;
                self.by_client.insert((client, number), self.next_port);
                if self.next_port.is_multiple_of(self.forgets) {
                    self.by_port.insert((self.next_port, number), client);
                }
            }
            let port = self.by_client[&(client, number)];
            frame[26..30].copy_from_slice(&OUTSIDE.to_be_bytes());
            frame[34..36].copy_from_slice(&port.to_be_bytes());
        } else {
            let Some((address, port)) = self.by_port.get(&(p.dport, number)).copied() else { return };
            frame[30..34].copy_from_slice(&address.to_be_bytes());
            frame[36..38].copy_from_slice(&port.to_be_bytes());
        }
        frame[..6].copy_from_slice(&MAC[to]);
        frame[6..12].copy_from_slice(&GATEWAY_MAC[to]);
        assert!(checksum::ipv4_fill(&mut frame[14..34]));
        let get = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let (source, destination) = (get(26), get(30));
        let end = 14 + usize::from(p.ip_len);
        if !self.corrupts {
            assert!(checksum::l4_fill(source, destination, p.protocol, &mut frame[34..end]));
        }
        if self.bounces && from == 0 {
            // To another server than was asked for.
            frame[33] ^= 1;
            assert!(checksum::ipv4_fill(&mut frame[14..34]));
            let wrong = u32::from_be_bytes(frame[30..34].try_into().unwrap());
            assert!(checksum::l4_fill(source, wrong, p.protocol, &mut frame[34..end]));
        }
        self.forwarded[to] += 1;
        self.out[to].push_back(buf);
    }

    fn arp(&mut self, from: usize, frame: &[u8]) {
        if self.deaf {
            return;
        }
        let ours = [CLIENT_GATEWAY, SERVER_GATEWAY][from];
        // A request for our address: operation 1, target at 38.
        if frame[21] == 1 && frame[38..42] == ours.octets() {
            let asks = Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31]);
            let reply = build::arp_reply(GATEWAY_MAC[from], ours, MAC[from], asks);
            self.out[from].extend(self.pool.copy_of(&reply));
        }
    }
}

struct Jack {
    device: Rc<RefCell<Device>>,
    side: usize,
    /// Frames of a burst that this port takes: a slow NIC takes fewer.
    takes: usize,
}

impl Port for Jack {
    type Buf = HeapBuf;

    fn rx_burst(&mut self, burst: &mut Burst<HeapBuf>) -> usize {
        let mut device = self.device.borrow_mut();
        let before = burst.len();
        while !burst.is_full() {
            let Some(buf) = device.out[self.side].pop_front() else { break };
            burst.push(buf);
        }
        burst.len() - before
    }

    fn tx_burst(&mut self, burst: &mut Burst<HeapBuf>) -> usize {
        let sent = burst.len().min(self.takes);
        for (n, buf) in burst.drain(..).enumerate() {
            if n < self.takes {
                self.device.borrow_mut().takes(self.side, buf);
            }
        }
        sent
    }
}

type Generated = Own<Jack, HeapPool, Ticks>;

fn device() -> Device {
    let clock = Ticks(Rc::new(Cell::new(0)));
    Device {
        clock,
        pool: HeapPool::new(4096),
        out: Default::default(),
        by_client: HashMap::new(),
        by_port: HashMap::new(),
        next_port: 1024,
        rate: 1e9,
        credit: 0.0,
        last: 0,
        most: usize::MAX,
        deaf: false,
        corrupts: false,
        remaps: false,
        bounces: false,
        eats: 0,
        forgets: 1,
        outage: (0, 0),
        forwarded: [0; 2],
    }
}

fn try_join(device: Device, takes: usize) -> Result<(Generated, Rc<RefCell<Device>>), GeneratorError> {
    let (clock, pool) = (device.clock.clone(), device.pool.clone());
    let device = Rc::new(RefCell::new(device));
    let leg = |side: usize, ours: [u8; 4], gateway| {
        let jack = Jack { device: Rc::clone(&device), side, takes };
        Leg::new(jack, MAC[side], ours.into(), gateway)
    };
    let legs = (leg(0, [10, 1, 0, 2], CLIENT_GATEWAY), leg(1, [203, 0, 113, 2], SERVER_GATEWAY));
    let plan = Plan::read("10.2.0.1-10.2.0.200", "1024-2047", "198.51.100.2-198.51.100.9", 9).unwrap();
    let about = About { name: "test".to_owned(), link: None };
    let pace = Pace { open: 20_000.0, drain: 0.001, resolve: 0.3 };
    Own::new(about, legs.0, legs.1, pool, clock, (plan, pace)).map(|own| (own, device))
}

fn join(device: Device) -> (Generated, Rc<RefCell<Device>>) {
    try_join(device, BURST).unwrap()
}

fn trial(load: Load, rate: f64) -> Trial {
    Trial { number: 1, load, size: Size::Imix, rate, seconds: 0.2 }
}

const BOTH: Load = Load::Established { both: true };
const ONE: Load = Load::Established { both: false };

#[test]
fn what_a_good_device_is_offered_comes_back() {
    let (mut own, device) = join(device());
    own.open(1000).unwrap();
    assert_eq!(device.borrow().by_client.len(), 1000);
    for load in [BOTH, ONE] {
        let outcome = own.run(&trial(load, 20_000.0)).unwrap();
        assert_eq!((outcome.offered, outcome.wrong), (outcome.returned, 0), "{outcome:?}");
        assert!((outcome.rate() / 20_000.0 - 1.0).abs() < 0.01, "{outcome:?}");
        let latency = outcome.latency.unwrap();
        assert!(latency.p50 > 0 && latency.p50 <= latency.max && latency.max < 1_000_000, "{latency:?}");
    }
    let outcome = own.run(&trial(Load::Burst { frames: 500 }, 0.0)).unwrap();
    assert_eq!((outcome.offered, outcome.returned, outcome.wrong), (500, 500, 0));
}

#[test]
fn both_directions_have_half_of_the_rate() {
    let (mut own, device) = join(device());
    own.open(100).unwrap();
    let before = device.borrow().forwarded;
    let outcome = own.run(&trial(BOTH, 20_000.0)).unwrap();
    let after = device.borrow().forwarded;
    let [down, up] = [after[0] - before[0], after[1] - before[1]];
    assert_eq!(down + up, outcome.offered);
    assert!(down.abs_diff(up) <= 1, "{down} {up}");
}

#[test]
fn loss_is_what_the_device_drops() {
    let (mut own, _) = join(Device { rate: 25_000.0, ..device() });
    own.open(100).unwrap();
    let fine = own.run(&trial(ONE, 20_000.0)).unwrap();
    assert_eq!(fine.returned, fine.offered);
    let lossy = own.run(&trial(ONE, 50_000.0)).unwrap();
    assert_eq!(lossy.wrong, 0);
    assert!((0.45..0.51).contains(&lossy.loss()), "{lossy:?}");
}

#[test]
fn new_sessions_are_counted_when_they_are_there() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (mut own, device) = join(device());
        let outcome = own.run(&trial(Load::New { transport }, 10_000.0)).unwrap();
        assert_eq!((outcome.offered, outcome.returned, outcome.wrong), (2000, 2000, 0), "{transport:?}");
        assert_eq!(device.borrow().by_client.len(), 2000, "each is another flow");
        // The next trial does not use them again.
        own.run(&trial(Load::New { transport }, 10_000.0)).unwrap();
        assert_eq!(device.borrow().by_client.len(), 4000);
        if transport == Transport::Tcp {
            // SYN, ACK, FIN and the last ACK one way; SYN+ACK and FIN the other.
            assert_eq!(device.borrow().forwarded, [4000 * 2, 4000 * 4]);
        }
    }
}

#[test]
fn a_first_datagram_that_leaves_no_session_is_none() {
    let (mut own, _) = join(Device { forgets: 4, ..device() });
    let outcome = own.run(&trial(Load::New { transport: Transport::Udp }, 10_000.0)).unwrap();
    assert_eq!((outcome.offered, outcome.returned, outcome.wrong), (2000, 500, 0));
}

#[test]
fn recovery_is_the_time_of_the_last_loss() {
    let load = Load::Recovery { both: true };
    // Nothing is lost.
    let (mut own, _) = join(device());
    own.open(100).unwrap();
    let outcome = own.run(&trial(load, 20_000.0)).unwrap();
    assert_eq!((outcome.returned, outcome.wrong, outcome.recovery), (outcome.offered, 0, Some(0.0)));
    assert!((outcome.rate() / 15_000.0 - 1.0).abs() < 0.01, "the rate, then half of it: {outcome:?}");
    assert!((outcome.seconds - 0.4).abs() < 0.001, "{outcome:?}");
    // From too much: the device is at ease at half of it.
    let (mut own, _) = join(Device { rate: 15_000.0, ..device() });
    own.open(100).unwrap();
    let outcome = own.run(&trial(load, 20_000.0)).unwrap();
    assert!(outcome.loss() > 0.05 && outcome.recovery.is_some_and(|s| s < 0.003), "{outcome:?}");
    // It loses frames for 50 ms after the change, which comes 200 ms after the start.
    let (mut own, device_) = join(device());
    own.open(100).unwrap();
    let start = device_.borrow().clock.0.get();
    device_.borrow_mut().outage = (start + HZ / 10, start + HZ / 4);
    let outcome = own.run(&trial(load, 20_000.0)).unwrap();
    assert!(outcome.recovery.is_some_and(|s| (s - 0.05).abs() < 0.003), "{outcome:?}");
    // And to the end.
    let start = device_.borrow().clock.0.get();
    device_.borrow_mut().outage = (start, u64::MAX);
    let outcome = own.run(&trial(load, 20_000.0)).unwrap();
    assert_eq!((outcome.returned, outcome.recovery), (0, Some(0.2)));
}

#[test]
fn frames_that_our_own_port_refuses_are_no_loss_of_the_device() {
    let (mut own, _) = try_join(device(), 1).unwrap();
    own.open(100).unwrap();
    let outcome = own.run(&trial(Load::Recovery { both: false }, 5e6)).unwrap();
    assert_eq!((outcome.returned, outcome.recovery), (outcome.offered, Some(0.0)), "{outcome:?}");
}

#[test]
fn udp_and_tcp_have_addresses_of_their_own() {
    let (mut own, _) = join(device());
    assert_eq!((own.unused(Transport::Udp), own.unused(Transport::Tcp)), (Some(1_638_400), Some(1_638_400)));
    own.run(&trial(Load::New { transport: Transport::Tcp }, 1000.0)).unwrap();
    own.open(5).unwrap();
    assert_eq!((own.unused(Transport::Udp), own.unused(Transport::Tcp)), (Some(1_638_395), Some(1_638_200)));
}

#[test]
fn a_full_table_shows_in_every_kind_of_session() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (mut own, _) = join(Device { most: 1500, ..device() });
        let outcome = own.run(&trial(Load::New { transport }, 10_000.0)).unwrap();
        assert_eq!((outcome.offered, outcome.returned), (2000, 1500), "{transport:?}");
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        let (mut own, _) = join(Device { most: 1500, ..device() });
        let held = own.run(&trial(Load::Hold { sessions: 1500, transport }, 20_000.0)).unwrap();
        assert_eq!((held.offered, held.returned, held.wrong), (1500, 1500, 0), "{transport:?}");
        let more = own.run(&trial(Load::Hold { sessions: 1, transport }, 20_000.0)).unwrap();
        assert_eq!((more.offered, more.returned), (1, 0), "{transport:?}");
    }
}

#[test]
fn tcp_sessions_at_once_are_opened_say_something_and_are_closed() {
    let hold = Load::Hold { sessions: 500, transport: Transport::Tcp };
    let (mut own, gateway) = join(device());
    own.open(10).unwrap();
    let before = gateway.borrow().forwarded;
    let held = own.run(&trial(hold, 20_000.0)).unwrap();
    assert_eq!((held.offered, held.returned, held.wrong, held.latency), (500, 500, 0, None));
    assert!((held.rate() / 20_000.0 - 1.0).abs() < 0.01, "that at which they were opened: {held:?}");
    let after = gateway.borrow().forwarded;
    // SYN, ACK, data, its ACK, FIN and the last ACK one way; SYN+ACK, data and FIN the other.
    assert_eq!([after[0] - before[0], after[1] - before[1]], [500 * 3, 500 * 6]);
    // They took the place of the flows that were open.
    assert!(own.run(&trial(ONE, 10.0)).is_err());
}

#[test]
fn a_tcp_session_counts_when_all_of_it_has_passed() {
    for (eats, new) in [(flag::FIN, 0), (flag::PSH, 2000), (flag::SYN, 0), (flag::ACK, 0)] {
        let (mut own, _) = join(Device { eats, ..device() });
        let outcome = own.run(&trial(Load::New { transport: Transport::Tcp }, 10_000.0)).unwrap();
        assert_eq!((outcome.offered, outcome.returned, outcome.wrong), (2000, new, 0), "{eats:#x}");
        // Nothing that is lost leaves a session that was held.
        let hold = Load::Hold { sessions: 100, transport: Transport::Tcp };
        let held = own.run(&trial(hold, 20_000.0)).unwrap();
        assert_eq!((held.offered, held.returned, held.wrong), (100, 0, 0), "{eats:#x}");
    }
}

#[test]
fn data_that_is_another_session_s_is_wrong() {
    // A whole segment of another flow, on this one's addresses.
    let (mut own, device) = join(device());
    let hold = Load::Hold { sessions: 10, transport: Transport::Tcp };
    assert_eq!(own.run(&trial(hold, 1000.0)).unwrap().wrong, 0);
    let flow = own.tally.flows.start;
    let (client, server) = (own.plan.client(flow), own.plan.server(flow));
    let servers = flow.wrapping_mul(2).wrapping_add(1);
    let mut frame = [0; 60];
    let what = frame::Segment {
        seq: servers,
        ack: flow.wrapping_add(1 + frame::DATA),
        flags: flag::PSH | flag::ACK,
        data: Some(flow + 1),
    };
    frame::segment(&mut frame, (GATEWAY_MAC[0], MAC[0]), server, client, what);
    let wrong = device.borrow_mut().pool.copy_of(&frame).unwrap();
    device.borrow_mut().out[0].push_back(wrong);
    let before = own.tally.wrong;
    own.receive();
    assert_eq!(own.tally.wrong, before + 1);
}

#[test]
fn flows_that_do_not_open_are_an_error() {
    let (mut own, _) = join(Device { most: 900, ..device() });
    let error = own.open(1000).unwrap_err().to_string();
    assert!(error.starts_with("of 1000 flows") && error.contains("900 came through"), "{error}");
    assert!(own.run(&trial(ONE, 10.0)).is_ok(), "those that came are open");
    let (mut own, _) = join(device());
    assert!(own.run(&trial(ONE, 10.0)).unwrap_err().to_string().contains("no flows are open"));
}

#[test]
fn addresses_that_run_out_are_said() {
    let (mut own, _) = join(device());
    let error = own
        .run(&trial(Load::Hold { sessions: u32::MAX, transport: Transport::Udp }, 1.0))
        .unwrap_err()
        .to_string();
    assert!(error.contains("4294967295 more sessions") && error.contains("1638400 are left"), "{error}");
}

#[test]
fn wrong_frames_are_seen() {
    // Every 61st is looked at, of 2000 there and as many back.
    let (mut own, _) = join(Device { corrupts: true, ..device() });
    let outcome = own.run(&trial(Load::New { transport: Transport::Udp }, 10_000.0)).unwrap();
    assert!((60..80).contains(&outcome.wrong), "{outcome:?}");
    // A mapping that changes.
    let (mut own, _) = join(Device { remaps: true, ..device() });
    let _ = own.open(10);
    let outcome = own.run(&trial(ONE, 1000.0)).unwrap();
    assert_eq!((outcome.wrong, outcome.returned), (outcome.offered, 0));
    // Another server.
    let (mut own, _) = join(Device { bounces: true, ..device() });
    for transport in [Transport::Udp, Transport::Tcp] {
        let outcome = own.run(&trial(Load::New { transport }, 1000.0)).unwrap();
        assert_eq!((outcome.wrong, outcome.returned), (outcome.offered, 0), "{transport:?}");
    }
}

#[test]
fn frames_of_another_trial_count_nowhere() {
    let (mut own, device) = join(device());
    own.open(10).unwrap();
    own.run(&trial(ONE, 1000.0)).unwrap();
    // A late one: what the device kept.
    let mut frame = [0; 60];
    let mark = Mark { trial: own.number, flow: own.open.start, stamp: 1 };
    let source = own.seen_of(own.open.start).unwrap();
    let server = own.plan.server(own.open.start);
    frame::datagram(&mut frame, (GATEWAY_MAC[1], MAC[1]), source, server, mark);
    let late = device.borrow_mut().pool.copy_of(&frame).unwrap();
    device.borrow_mut().out[1].push_back(late);
    let outcome = own.run(&trial(ONE, 1000.0)).unwrap();
    assert_eq!((outcome.returned, outcome.wrong), (outcome.offered, 0));
}

#[test]
fn a_slow_port_offers_less() {
    let (mut own, _) = try_join(device(), 1).unwrap();
    let few = Trial { seconds: 0.002, ..trial(Load::New { transport: Transport::Udp }, 5e6) };
    let outcome = own.run(&few).unwrap();
    assert!(outcome.rate() < 4e6 && outcome.returned == outcome.offered, "{outcome:?}");
}

#[test]
fn a_gateway_that_does_not_answer_is_named() {
    let error = try_join(Device { deaf: true, ..device() }, BURST).err().unwrap().to_string();
    assert!(error.contains("10.1.0.1") && error.contains("client side"), "{error}");
}

#[test]
fn the_generator_answers_for_its_addresses_and_not_for_the_gateway_s() {
    let (mut own, device) = join(device());
    let ask = |target: [u8; 4]| build::arp_request(GATEWAY_MAC[0], CLIENT_GATEWAY, target.into());
    for target in [[10, 2, 0, 7], [10, 1, 0, 1]] {
        let request = device.borrow_mut().pool.copy_of(&ask(target)).unwrap();
        device.borrow_mut().out[0].push_back(request);
    }
    own.receive();
    assert_eq!(own.client.queued(), 1, "one answer");
}
