//! The straight line of established flows against the long way: whatever arrives, both must give the same packets, the
//! same counts and the same sessions.
//!
//! With one worker, the misroute mode sends every packet the long way and back to the same worker: that is the oracle.
#![cfg(not(postern_loom))]
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use arrayvec::ArrayVec;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::fib::{Fib, Interface};
use dataplane::handoff::Grid;
use dataplane::heap::{HeapPool, HeapPort, HeapWire};
use dataplane::key::{InterfaceId, Protocol, Tick, WorkerId, ZoneId};
use dataplane::packet::build::{Ends, Tcp, tcp, udp};
use dataplane::packet::{checksum, flag};
use dataplane::policy::{
    Action, Log, Mapping, Mode, NatAddress, NatTarget, Policy, Rule, Service, SourceNat, ZoneSet,
};
use dataplane::shared::{Setup, Shared};
use dataplane::view::SessionView;
use dataplane::worker::Worker;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::sync::Arc;

const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 3];
const CLIENT_ADDR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SERVER_ADDR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// MTU of the outside, small enough to be exceeded.
const MTU: u16 = 600;
const FLOWS: u16 = 12;
/// Flows from here on are to a service that is denied.
const DENIED: u16 = 10;
/// Bindings that fit: fewer than there are flows.
const BINDINGS: u32 = 14;

type Counts = Vec<(&'static str, u64)>;

struct Gateway {
    worker: Worker<HeapPort, HeapPool>,
    wires: [HeapWire; 2],
    pool: HeapPool,
    shared: Arc<Shared>,
    now: u32,
}

fn zone(n: u16) -> ZoneSet {
    let mut set = ZoneSet::empty();
    set.insert(ZoneId(n));
    set
}

impl Gateway {
    fn new(long_way: bool, nat: Option<Mapping>) -> Self {
        let setup = Setup {
            sessions: 64,
            bindings: BINDINGS,
            expectations: 8,
            alg_sessions: 8,
            misroute: long_way,
            ..Setup::default()
        };
        let shared = Shared::new(setup).unwrap();
        let interface = |name: &str, n, address, mtu| Interface {
            name: name.to_owned(),
            port: n,
            vlan: None,
            zone: ZoneId(n),
            mac: GATEWAY,
            mtu,
            addresses: vec![(address, 24)],
        };
        shared.fib.store(Arc::new(Fib::new(
            vec![interface("in", 0, Ipv4Addr::new(10, 1, 0, 1), 1500), interface("out", 1, OUTSIDE, MTU)],
            &[],
            &[(InterfaceId(0), CLIENT_ADDR, CLIENT), (InterfaceId(1), SERVER_ADDR, SERVER)],
        )));
        let pool_addr = shared.registry.register(OUTSIDE).unwrap();
        let rule = |name: &str, services, action| Rule {
            name: name.to_owned(),
            from: zone(0),
            to: zone(1),
            source: Vec::new().into(),
            destination: Vec::new().into(),
            services,
            action,
            mode: Mode::default(),
            log: Log::Off,
            profiles: [None; 4],
        };
        let denied = Service {
            protocol: None,
            ports: (0, 0),
            source_ports: (0, u16::MAX),
            application: alg::Application::Unknown,
        };
        let denied = [Protocol::Tcp, Protocol::Udp].map(|protocol| Service {
            protocol: Some(protocol),
            ports: (1000, 1999),
            ..denied
        });
        let mut policy = Policy {
            generation: 1,
            rules: vec![rule("some", denied.to_vec(), Action::Deny), rule("all", vec![], Action::Allow)],
            source_nat: if let Some(mapping) = nat {
                vec![SourceNat {
                    from: zone(0),
                    to: zone(1),
                    source: Vec::new().into(),
                    destination: Vec::new().into(),
                    translate: NatTarget::Interface,
                    mapping,
                }]
            } else {
                vec![]
            },
            interface_nat: vec![None, Some(NatAddress { addr: OUTSIDE, pool: pool_addr })],
            ..Policy::default()
        };
        if !long_way {
            // So that the compiled form is held against the entries one by one, too.
            policy.compile().unwrap();
        }
        shared.policy.store(Arc::new(policy));
        let (inside, a) = HeapPort::pair(256);
        let (outside, b) = HeapPort::pair(256);
        let pool = HeapPool::new(2048);
        let worker =
            Worker::new(Arc::clone(&shared), Grid::new(1), WorkerId(0), vec![inside, outside], pool.clone());
        Self { worker, wires: [a, b], pool, shared, now: 1 }
    }

    /// Sends a burst into one side; gives what leaves on both.
    fn pass(&mut self, side: usize, frames: &[Vec<u8>]) -> [Vec<Vec<u8>>; 2] {
        for frame in frames {
            let buf = self.pool.copy_of(frame).unwrap();
            assert!(self.wires[side].send(buf).is_ok());
        }
        self.now += 3;
        while self.worker.poll(Tick(self.now)) > 0 {}
        [0, 1].map(|w: usize| {
            use dataplane::buf::PacketBuf;
            std::iter::from_fn(|| self.wires[w].recv()).map(|b| b.bytes().to_vec()).collect()
        })
    }

    fn state(&self) -> (Vec<SessionView>, Counts, Counts) {
        let sessions = (0..self.shared.arena.records()).filter_map(|i| self.shared.arena.view(i)).collect();
        let counters = &self.shared.lanes()[0].counters;
        let counts = Counter::ALL.iter().map(|c| (c.name(), counters.get(*c))).collect();
        let drops = DropReason::ALL.iter().map(|r| (r.name(), counters.dropped(*r))).collect();
        (sessions, counts, drops)
    }
}

/// One packet of a flow, with whatever may be odd about it.
#[derive(Clone, Debug)]
struct Shape {
    flow: u16,
    is_tcp: bool,
    reply: bool,
    flags: u8,
    ttl: u8,
    payload: usize,
    padding: usize,
    fragment_bits: u16,
    no_udp_sum: bool,
    /// A byte of the headers to flip, with its mask, and whether to mend the IP checksum afterwards.
    flip: Option<(usize, u8, bool)>,
}

fn mappings() -> impl Strategy<Value = Option<Mapping>> {
    let [alike, apart] = [Mapping::EndpointIndependent, Mapping::EndpointDependent].map(Some);
    prop_oneof![Just(None), Just(alike), Just(apart)]
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let flags = prop_oneof![
        6 => Just(flag::ACK),
        3 => Just(flag::ACK | flag::PSH),
        2 => Just(flag::SYN),
        2 => Just(flag::SYN | flag::ACK),
        1 => Just(flag::FIN | flag::ACK),
        1 => Just(flag::RST),
        1 => Just(flag::ACK | flag::URG),
        1 => any::<u8>(),
    ];
    let ttl = prop_oneof![8 => 2u8..=255, 1 => 0u8..=2];
    let payload = prop_oneof![4 => 0usize..40, 1 => 500usize..700];
    let fragment_bits = prop_oneof![8 => Just(0u16), 4 => Just(0x4000), 1 => any::<u16>()];
    let flip = prop_oneof![
        6 => Just(None),
        1 => (0usize..54, 1u8..=255, any::<bool>()).prop_map(Some),
    ];
    let shape = (
        (0..FLOWS, any::<bool>(), any::<bool>(), flags, ttl),
        (payload, 0usize..20, fragment_bits, any::<bool>(), flip),
    )
        .prop_map(
            |((flow, is_tcp, reply, flags, ttl), (payload, padding, fragment_bits, no_udp_sum, flip))| {
                Shape { flow, is_tcp, reply, flags, ttl, payload, padding, fragment_bits, no_udp_sum, flip }
            },
        );
    proptest::collection::vec(shape, 1..48)
}

fn frame(shape: &Shape, nat: Option<Mapping>) -> Vec<u8> {
    let service = if shape.flow >= DENIED { 1_234 } else { 80 };
    let (client_port, server_port) = (40_000 + shape.flow, service);
    let seen = if nat.is_some() { OUTSIDE } else { CLIENT_ADDR };
    let (mut ends, sport, dport) = if shape.reply {
        (Ends::new(SERVER, SERVER_ADDR, GATEWAY, seen), server_port, client_port)
    } else {
        (Ends::new(CLIENT, CLIENT_ADDR, GATEWAY, SERVER_ADDR), client_port, server_port)
    };
    ends.ttl = shape.ttl;
    let payload: ArrayVec<u8, 700> = (0..shape.payload).map(|i| (i % 256) as u8).collect();
    let mut frame = if shape.is_tcp {
        let header = Tcp { sport, dport, seq: 1, ack: 1, flags: shape.flags, window: 1000, options: &[] };
        tcp(&ends, &header, &payload)
    } else {
        udp(&ends, sport, dport, &payload)
    };
    if shape.no_udp_sum && !shape.is_tcp {
        frame[40..42].fill(0);
    }
    frame[20..22].copy_from_slice(&shape.fragment_bits.to_be_bytes());
    let mut mend = true;
    if let Some((at, mask, mends)) = shape.flip
        && let Some(byte) = frame.get_mut(at)
    {
        *byte ^= mask;
        mend = mends;
    }
    if mend && frame[14] == 0x45 {
        assert!(checksum::ipv4_fill(&mut frame[14..34]));
    }
    frame.extend(std::iter::repeat_n(0xa5, shape.padding));
    frame
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_give_the_same(nat in mappings(), bursts in proptest::collection::vec(shapes(), 1..8)) {
        let (mut straight, mut long) = (Gateway::new(false, nat), Gateway::new(true, nat));
        // Half of the flows are established, so that most packets find something; the others begin in bursts.
        let mut openers = Vec::new();
        for flow in 0..FLOWS / 2 {
            for (is_tcp, reply, flags) in [
                (true, false, flag::SYN), (true, true, flag::SYN | flag::ACK), (true, false, flag::ACK),
                (false, false, 0), (false, true, 0),
            ] {
                openers.push(Shape {
                    flow, is_tcp, reply, flags, ttl: 64, payload: 0, padding: 0, fragment_bits: 0,
                    no_udp_sum: false, flip: None,
                });
            }
        }
        for opener in openers {
            let frames = [frame(&opener, nat)];
            let side = usize::from(opener.reply);
            prop_assert_eq!(straight.pass(side, &frames), long.pass(side, &frames));
        }
        for burst in bursts {
            for side in [false, true] {
                let frames: Vec<_> = burst.iter().filter(|s| s.reply == side).map(|s| frame(s, nat)).collect();
                let side = usize::from(side);
                prop_assert_eq!(straight.pass(side, &frames), long.pass(side, &frames));
            }
            prop_assert_eq!(straight.state(), long.state());
        }
    }
}
