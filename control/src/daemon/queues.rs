//! Receive queues that never receive: a driver may grant queues that its device never fills. Looked at by the control core, in
//! what workers count anyway.
//!
//! That a queue is empty proves nothing by itself: few flows may all belong to the others, and so may many that a pattern
//! makes. But the gateway has the hash and the table that the device was given, so it knows of each session at which queue its
//! packets come in. If many had to come in at a queue and none did, the device does not use it. Of a device that spreads by a hash of
//! its own the same holds by chance: that none of 64 times *n* flows comes in at one of *n* queues has a chance of less than
//! e⁻⁶⁴.

use dataplane::dpdk::plan::{Choice, Plan};
use dataplane::fib::Fib;
use dataplane::key::FlowKey;
use dataplane::shared::{Lane, Shared};
use dataplane::table::Direction;

/// Sessions that one look counts at most.
const STEP: u32 = 16_384;

/// What is enough to say that a queue never receives.
#[derive(Clone, Copy, Debug)]
pub struct Enough {
    /// Packets that the port has received.
    pub packets: u64,
    /// Living sessions whose packets had to come in at the queue; and as many for each queue of the port in all.
    pub sessions: u64,
}

impl Default for Enough {
    fn default() -> Self {
        Self { packets: 100_000, sessions: 64 }
    }
}

/// What each receive queue of a port has brought since the start, as far as it belongs to an interface. Where there are several,
/// worker *n* polls queue *n*.
pub fn received(shared: &Shared, fib: &Fib, port: u16) -> Vec<u64> {
    let on = |lane: &Lane| {
        let each = fib.interfaces().iter().zip(&lane.interfaces);
        each.filter(|(interface, _)| interface.port == port).map(|(_, counters)| counters.read()[0]).sum()
    };
    shared.lanes().iter().map(on).collect()
}

/// The tuples of a session whose packets have come in at a port, one for each direction. Only of sessions whose ends have both
/// sent: their replies are taken to come in where what they answer leaves.
pub fn arrived(shared: &Shared, fib: &Fib, port: u16, index: u32) -> [Option<FlowKey>; 2] {
    let Some(view) = shared.arena.view(index).filter(|view| view.packets.iter().all(|count| *count > 0))
    else {
        return [None; 2];
    };
    let came = |direction: Direction, key: FlowKey| {
        let session = shared.arena.resolve(view.id)?;
        let back = session.adjacency(direction.other(), fib.topology())?;
        let interface = fib.interface(fib.adjacency(back)?.interface)?;
        (interface.port == port && interface.zone == key.scope).then_some(key)
    };
    [came(Direction::Forward, view.forward), came(Direction::Reverse, view.reverse)]
}

/// What became of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has never received anything, and should have.
    Silent {
        /// Which.
        queue: u16,
        /// Packets that the others have received.
        others: u64,
    },
    /// It receives after all.
    Receives {
        /// Which.
        queue: u16,
    },
}

/// The receive queues of one port.
#[derive(Debug)]
pub struct Queues {
    plan: Plan,
    enough: Enough,
    /// By queue: it was said that it never receives.
    silent: Vec<bool>,
    survey: Survey,
}

/// Sessions by the queue that their packets had to come in at, counted in steps.
#[derive(Debug, Default)]
struct Survey {
    /// The session at which the next step begins.
    next: u32,
    due: Vec<u64>,
    all: u64,
}

impl Queues {
    /// Those of a port that is set up so.
    pub fn new(plan: Plan, enough: Enough) -> Self {
        let silent = vec![false; usize::from(plan.rx_queues)];
        Self { plan, enough, silent, survey: Survey::default() }
    }

    /// Looks once. `received` tells how many packets each queue has received since the start (workers without a queue may follow);
    /// `arrived` the tuples of a session, one
    /// for each direction, whose packets have come in at this port; there are `records` sessions.
    pub fn look(
        &mut self,
        received: impl Fn() -> Vec<u64>,
        records: u32,
        arrived: impl Fn(u32) -> [Option<FlowKey>; 2],
    ) -> Vec<Change> {
        // A single queue receives what there is.
        if self.silent.len() < 2 {
            return Vec::new();
        }
        if self.is_suspect(&received()) {
            let plan = &self.plan;
            self.survey
                .step(self.silent.len(), records, |index| arrived(index).map(|key| plan.rx_queue_for(&key?)));
        } else {
            self.survey = Survey::default();
        }
        // Read after the sessions: what they had to bring is there.
        self.judge(&received())
    }

    /// Whether a queue has nothing of much, and nothing was said of it.
    fn is_suspect(&self, received: &[u64]) -> bool {
        let empty = received.iter().zip(&self.silent).any(|(count, silent)| *count == 0 && !silent);
        empty && received.iter().sum::<u64>() >= self.enough.packets
    }

    fn judge(&mut self, received: &[u64]) -> Vec<Change> {
        let others: u64 = received.iter().sum();
        let sessions = self.enough.sessions;
        let sure = self.survey.all >= sessions.saturating_mul(self.silent.len() as u64)
            && others >= self.enough.packets;
        let mut changes = Vec::new();
        for ((queue, count), silent) in (0..).zip(received).zip(&mut self.silent) {
            if *silent && *count > 0 {
                *silent = false;
                changes.push(Change::Receives { queue });
            }
            let due = self.survey.due.get(usize::from(queue)).copied().unwrap_or(0);
            if !*silent && *count == 0 && sure && due >= sessions {
                *silent = true;
                changes.push(Change::Silent { queue, others });
            }
        }
        changes
    }

    /// What an operator is shown of queues that never receive. None if there are none.
    pub fn shown(&self) -> Option<Choice> {
        let silent: Vec<String> = (0_u16..)
            .zip(&self.silent)
            .filter(|&(_, silent)| *silent)
            .map(|(queue, _)| queue.to_string())
            .collect();
        if silent.is_empty() {
            return None;
        }
        let (used, all) = (self.silent.len() - silent.len(), self.silent.len());
        let why = format!(
            "nothing has ever come in at queue {}, though packets of many sessions had to: the device does not use it",
            silent.join(", ")
        );
        Some(Choice::new("queues in use", format!("{used} of {all}")).but(why))
    }
}

impl Survey {
    /// Counts some more sessions. `queues_of` tells at which queues the packets of one came in, if at any of this port.
    fn step(&mut self, queues: usize, records: u32, queues_of: impl Fn(u32) -> [Option<u16>; 2]) {
        if self.next >= records {
            // Once through, and it was not enough: from the start, or one session would count twice.
            *self = Self::default();
        }
        self.due.resize(queues, 0);
        let end = self.next.saturating_add(STEP).min(records);
        for queue in (self.next..end).flat_map(queues_of).flatten() {
            if let Some(due) = self.due.get_mut(usize::from(queue)) {
                *due += 1;
                self.all += 1;
            }
        }
        self.next = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alg::Application;
    use dataplane::dpdk::plan::{DescLimits, Nic, Wish, plan};
    use dataplane::fib::{AdjacencyId, Interface};
    use dataplane::home::Home;
    use dataplane::key::{InterfaceId, Protocol, Tick, WorkerId, ZoneId};
    use dataplane::policy::{Log, RuleId};
    use dataplane::port::Spread;
    use dataplane::session::{Init, Magazine};
    use dataplane::shared::Setup;
    use dataplane::view::State;
    use std::net::Ipv4Addr;

    const ENOUGH: Enough = Enough { packets: 1_000, sessions: 8 };

    /// A NIC that hashes all it is asked to, or all but UDP, with so many queues.
    fn port(queues: u16, hashes_udp: bool) -> Queues {
        let mut nic = Nic {
            driver: "net_ixgbe".into(),
            pci: true,
            rx_queues: queues,
            tx_queues: queues,
            rx_desc: DescLimits::default(),
            tx_desc: DescLimits::default(),
            reta: 128,
            key: 40,
            flows: u64::MAX,
            ..Nic::default()
        };
        let wish = Wish {
            number: 0,
            workers: queues,
            rx_desc: 1_024,
            tx_desc: 1_024,
            spread: Spread::Auto,
            offloads: true,
            tx_checksums: false,
            lro: false,
            tso: false,
            one_pool: true,
            nodes: vec![None; usize::from(queues)],
        };
        let home = Home::new(u8::try_from(queues).unwrap());
        let mut plan_of = |flows| {
            nic.flows = flows;
            plan(&nic, &wish, &home).unwrap()
        };
        let mut plan = plan_of(u64::MAX);
        if !hashes_udp {
            // Whichever bit it is without which it says that it lacks UDP.
            plan = (0..64)
                .map(|bit| plan_of(!(1_u64 << bit)))
                .find(|plan| plan.choices.iter().any(|choice| choice.lacks.contains("ports of UDP")))
                .unwrap();
        }
        Queues::new(plan, ENOUGH)
    }

    fn key(protocol: Protocol, port: u16) -> FlowKey {
        let (from, to) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(198, 51, 100, 2));
        FlowKey::v4(protocol, ZoneId(0), (from, port), (to, 53))
    }

    /// As many sessions as there are ports, each seen in one direction.
    fn udp(index: u32) -> [Option<FlowKey>; 2] {
        [None, Some(key(Protocol::Udp, u16::try_from(index).unwrap()))]
    }

    #[test]
    fn a_queue_that_had_to_receive_and_did_not_is_told_once_and_when_it_does() {
        let mut queues = port(2, true);
        assert_eq!(queues.look(|| vec![999, 0], 64, udp), [], "few packets");
        assert_eq!(queues.shown(), None);
        assert_eq!(queues.look(|| vec![1_000, 0], 64, udp), [Change::Silent { queue: 1, others: 1_000 }]);
        let shown = queues.shown().unwrap();
        assert_eq!((shown.what, shown.chosen.as_str()), ("queues in use", "1 of 2"));
        assert!(shown.lacks.contains("at queue 1,"), "{}", shown.lacks);
        assert_eq!(queues.look(|| vec![2_000, 0], 64, udp), [], "once");
        assert_eq!(queues.look(|| vec![2_000, 1], 64, udp), [Change::Receives { queue: 1 }]);
        assert_eq!(queues.look(|| vec![9_000, 1], 64, udp), []);
        assert_eq!(queues.shown(), None);
    }

    #[test]
    fn few_sessions_or_such_as_belong_to_other_queues_say_nothing() {
        let much = || vec![1_000_000, 0];
        let mut queues = port(2, true);
        // 7 for each queue.
        assert_eq!(queues.look(much, 14, udp), []);
        // Many, all of which belong to the first queue: a pattern, as a generator may have.
        let plan = port(2, true).plan;
        let first = |index: u32| udp(index).map(|key| key.filter(|key| plan.rx_queue_for(key) == Some(0)));
        let mut queues = port(2, true);
        assert_eq!(queues.look(much, 10_000, first), []);
        // A flow of much, seen both ways.
        let elephant = |index| if index == 0 { [udp(1)[1]; 2] } else { [None; 2] };
        assert_eq!(queues.look(much, 10_000, elephant), []);
        // Enough for the queue, and too few for the port.
        let mut queues = port(2, true);
        let second = |index: u32| udp(index).map(|key| key.filter(|key| plan.rx_queue_for(key) == Some(1)));
        let last = (1..).find(|last| (0..*last).flat_map(second).flatten().count() == 8).unwrap();
        assert_eq!(queues.look(much, last, second), []);
        // Of a device that spreads as it was told these would all have come in at the silent queue.
        let last = (last..).find(|last| (0..*last).flat_map(second).flatten().count() == 16).unwrap();
        assert_eq!(queues.look(much, last, second), [Change::Silent { queue: 1, others: 1_000_000 }]);
    }

    #[test]
    fn what_the_device_spreads_by_addresses_alone_does_not_count() {
        let much = || vec![1_000_000, 0];
        assert_eq!(port(2, false).look(much, 10_000, udp), []);
        let icmp = |index: u32| [Some(key(Protocol::Icmp, u16::try_from(index).unwrap())), None];
        assert_eq!(port(2, true).look(much, 10_000, icmp), []);
        let tcp = |index: u32| [Some(key(Protocol::Tcp, u16::try_from(index).unwrap())), None];
        assert_eq!(port(2, false).look(much, 10_000, tcp).len(), 1);
    }

    #[test]
    fn each_silent_queue_is_told_and_a_port_of_one_never() {
        let mut queues = port(4, true);
        let told = queues.look(|| vec![600, 0, 600, 0], 1_000, udp);
        let silent = |queue| Change::Silent { queue, others: 1_200 };
        assert_eq!(told, [silent(1), silent(3)]);
        assert!(queues.shown().unwrap().lacks.contains("at queue 1, 3,"));
        assert_eq!(queues.look(|| vec![600, 0, 600, 1], 1_000, udp), [Change::Receives { queue: 3 }]);
        assert!(queues.shown().unwrap().lacks.contains("at queue 1,"));
        assert_eq!(port(1, true).look(|| vec![0], 1_000, udp), []);
        // All of them receive, or none does: a cable without traffic.
        assert_eq!(port(2, true).look(|| vec![600, 600], 1_000, udp), []);
        assert_eq!(port(2, true).look(|| vec![0, 0], 1_000, udp), []);
    }

    #[test]
    fn sessions_are_counted_in_steps_and_each_once() {
        let much = || vec![1_000_000, 0];
        let mut queues = port(2, true);
        // One step has half of what is enough for the queue; the same half again would make it.
        let few = |index: u32| if index < 8 { udp(index) } else { [None; 2] };
        for _ in 0..4 {
            assert_eq!(queues.look(much, STEP, few), []);
        }
        // What is enough lies behind the first step.
        let late = |index: u32| if index >= STEP { udp(index - STEP) } else { [None; 2] };
        let mut queues = port(2, true);
        assert_eq!(queues.look(much, STEP + 64, late), []);
        assert_eq!(queues.look(much, STEP + 64, late).len(), 1);
    }

    /// Zone 1 is on port 0 in two VLANs, zone 2 on port 1. Each has a neighbour; these are adjacencies 1 and 2.
    fn gateway() -> (std::sync::Arc<Shared>, Fib) {
        let setup = Setup { workers: 2, sessions: 64, bindings: 64, alg_sessions: 1, ..Setup::default() };
        let interface = |port, vlan, zone| Interface {
            name: format!("{port}.{vlan}"),
            port,
            vlan: Some(vlan),
            zone: ZoneId(zone),
            mac: [2; 6],
            mtu: 1_500,
            addresses: Vec::new(),
        };
        let interfaces = vec![interface(0, 1, 1), interface(0, 2, 1), interface(1, 3, 2)];
        let neighbor = |interface| (InterfaceId(interface), Ipv4Addr::new(10, 0, 0, 9), [4; 6]);
        (Shared::new(setup).unwrap(), Fib::new(interfaces, &[], &[neighbor(1), neighbor(2)]))
    }

    #[test]
    fn a_queue_has_what_its_worker_received_on_all_interfaces_of_the_port() {
        let (shared, fib) = gateway();
        for (worker, interface, packets) in [(0, 0, 5), (0, 1, 7), (0, 2, 100), (1, 1, 3)] {
            let lane = shared.lane(WorkerId(worker)).unwrap();
            lane.interfaces[interface].received(packets, 60);
        }
        assert_eq!(received(&shared, &fib, 0), [12, 3]);
        assert_eq!(received(&shared, &fib, 1), [100, 0]);
    }

    #[test]
    fn a_session_s_packets_came_in_where_those_of_the_other_end_leave() {
        let (shared, fib) = gateway();
        let (client, server) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(198, 51, 100, 2));
        let forward = FlowKey::v4(Protocol::Udp, ZoneId(1), (client, 40_000), (server, 53));
        let init = Init {
            owner: WorkerId(0),
            state: State::UdpNew,
            forward,
            reverse: forward.reversed(ZoneId(2)),
            application: Application::Unknown,
            rule: RuleId(0),
            policy_generation: 1,
            created: Tick(1),
            parent: None,
            expectation: None,
            binding: None,
            alg_slot: None,
            log: Log::Off,
        };
        let index = shared.arena.alloc(&mut Magazine::default()).unwrap();
        let at = |port| arrived(&shared, &fib, port, index);
        assert_eq!(at(0), [None; 2], "no session");
        let session = shared.arena.get(index).unwrap();
        session.open(&init);
        session.touch(Direction::Forward, 60, Tick(2));
        session.set_adjacency(Direction::Forward, fib.topology(), AdjacencyId(2));
        assert_eq!((at(0), at(1)), ([None; 2], [None; 2]), "nobody has answered");
        session.touch(Direction::Reverse, 60, Tick(3));
        session.set_adjacency(Direction::Reverse, fib.topology(), AdjacencyId(1));
        assert_eq!((at(0), at(1)), ([Some(forward), None], [None, Some(init.reverse)]));
        // A route that has changed since, and one to another zone than the packets came from.
        session.set_adjacency(Direction::Reverse, fib.topology() + 1, AdjacencyId(1));
        assert_eq!((at(0), at(1)), ([None; 2], [None; 2]));
        session.set_adjacency(Direction::Forward, fib.topology(), AdjacencyId(1));
        session.set_adjacency(Direction::Reverse, fib.topology(), AdjacencyId(1));
        assert_eq!((at(0), at(1)), ([Some(forward), None], [None; 2]));
    }

    #[test]
    fn a_queue_that_receives_while_sessions_are_counted_is_not_silent() {
        let mut queues = port(2, true);
        let calls = std::cell::Cell::new(0);
        let received = || {
            calls.set(calls.get() + 1);
            vec![1_000_000, u64::from(calls.get() > 1)]
        };
        assert_eq!(queues.look(received, 64, udp), []);
    }
}
