//! The workloads.

use crate::turns;
use benches::rig::flows::Nat;
use benches::rig::spec::{Spec, Timeouts};
use benches::rig::talk::Exchange;
use benches::rig::talk::peers::MOST_SESSIONS;
use benches::rig::wire::Size;
use clap::ValueEnum;
use dataplane::key::Protocol;

/// What happens to the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// They exist.
    Established,
    /// They begin and end.
    New,
    /// Nine tenths of the packets are of flows that exist, one tenth begin one.
    Mix,
    /// They exist, and packets arrive at a given rate.
    Latency,
    /// They exist; two workers take turns on one core, and packets come to the right one or to the wrong one.
    Handoff,
    /// They exist; two workers on cores of their own.
    Cores,
    /// Their ends speak a protocol that an ALG reads; ALGs on and off, in turns.
    Alg,
    /// They exist, and no ALG reads them; all ALGs on and all off, in turns.
    AlgsIdle,
    /// They exist; the control core looks at one after the other whether its time is over, on a core of its own.
    Ageing,
}

/// Workers where there are several.
pub const SEVERAL: u8 = 2;
/// Flows that may begin in one repetition of a mix.
const MIX_BEGINS: u32 = 1_200_000;
/// Fewest sessions of which messages are measured: every turn keeps its distribution.
const LEAST_SESSIONS: u32 = 100;
/// Above this many flows a gateway is built once, measured, and ended before the next.
const MANY: u32 = 4_000_000;

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Case {
    /// What happens to the flows.
    pub workload: Workload,
    /// Their protocol.
    pub protocol: Protocol,
    /// How many there are, or begin in one phase.
    pub flows: u32,
    /// Frame lengths.
    pub size: Size,
    /// Both directions.
    pub both: bool,
    /// Rules before the one that matches.
    pub rules: u32,
    /// ALGs on. Where both are measured in turns it says nothing.
    pub algs: bool,
    /// What is spoken, of [`Workload::Alg`].
    pub exchange: Exchange,
    /// Each of its messages comes in two segments.
    pub split: bool,
    /// Pinholes that wait meanwhile.
    pub pinholes: u32,
    /// Who shares a translated port with whom.
    pub nat: Nat,
    /// Source NAT maps each session by itself.
    pub dependent: bool,
}

/// Phases of [`Workload::New`] in which flows begin: as many each time.
pub const PHASES: u32 = 4;

impl Case {
    /// The same with an endpoint for each flow, and a pool that is large enough.
    pub fn own(self) -> Self {
        Self { nat: Nat::own(self.ports()), ..self }
    }

    /// Flows that have begun when all is over: where each has a port of its own, none is free again.
    fn ports(&self) -> u32 {
        match self.workload {
            Workload::New => self.flows.saturating_mul(PHASES),
            Workload::Mix => self.flows.saturating_add(MIX_BEGINS),
            _ => self.flows,
        }
    }

    /// The gateway that it needs.
    pub fn spec(&self) -> Spec {
        let (sessions, timeouts) = match self.workload {
            Workload::Established
            | Workload::Latency
            | Workload::Handoff
            | Workload::Cores
            | Workload::AlgsIdle => (self.flows.max(1024), Timeouts::Default),
            // As many as calls fit.
            Workload::Alg => ((self.flows * 8).max(16_384), Timeouts::Default),
            // Twice as many live, and those that wait to be freed.
            Workload::New => (self.flows.saturating_mul(5) / 2 + 65_536, Timeouts::Both(1)),
            // Those that have begun before stay.
            Workload::Mix => (self.flows + MIX_BEGINS, Timeouts::Opening(1)),
            Workload::Ageing => (self.flows.max(1024), Timeouts::Both(1)),
        };
        let workers = match self.workload {
            Workload::Handoff | Workload::Cores => SEVERAL,
            _ => 1,
        };
        let (protocol, inspected) = match self.workload {
            Workload::Alg => (self.exchange.transport(), self.flows),
            _ => (self.protocol, 0),
        };
        let Self { rules, algs, pinholes, nat, dependent, .. } = *self;
        Spec { protocol, sessions, rules, algs, timeouts, workers, inspected, pinholes, nat, dependent }
    }

    /// Whether its gateway takes so much memory that no other may live beside it.
    pub fn is_big(&self) -> bool {
        self.flows > MANY
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let flows = match self.flows {
            n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
            n if n >= 1_000 && n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
            n => n.to_string(),
        };
        let size = match self.size {
            Size::Imix => "IMIX".to_owned(),
            Size::Fixed(len) => format!("{len} B"),
        };
        let mut name = match self.workload {
            Workload::New => format!("{} new flows, {flows}", self.protocol.name()),
            Workload::Mix => format!("{} {size}, {flows} flows and 10 % new", self.protocol.name()),
            Workload::Alg => format!("{}, {flows} sessions", self.exchange.name()),
            _ => format!("{} {size}, {flows} flows", self.protocol.name()),
        };
        if self.both {
            name.push_str(", both ways");
        }
        if self.rules > 100 {
            name.push_str(&format!(", {} rules", self.rules));
        }
        if self.split {
            name.push_str(", in two segments");
        }
        if !self.algs {
            name.push_str(", ALGs off");
        }
        if let Nat::Own(pool) = self.nat {
            name.push_str(&format!(", pool of {pool}"));
        }
        if self.dependent {
            name.push_str(", endpoint-dependent");
        }
        name
    }

    /// Why it cannot run here, if it cannot.
    pub fn memory_missing(&self) -> Option<String> {
        if self.workload == Workload::Alg && self.flows > MOST_SESSIONS {
            return Some(format!("its sessions share the ports of one address: {MOST_SESSIONS} at most"));
        }
        if self.workload == Workload::Alg && self.flows < LEAST_SESSIONS {
            return Some(format!(
                "a turn is a message of each: the notes of so many turns want {LEAST_SESSIONS} sessions"
            ));
        }
        if !self.nat.has_ports_for(self.ports()) {
            return Some(format!("{} has no port for each of {} flows", self.nat, self.ports()));
        }
        if self.nat != Nat::Shared && self.workload == Workload::Alg {
            return Some("its sessions share the ports of one address".to_owned());
        }
        let binding = if self.nat == Nat::Shared { 0 } else { 60 };
        let need = u64::from(self.spec().sessions) * (320 + binding) + (64 << 20);
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let free = kib("MemAvailable:")? * 1024;
        let huge = kib("HugePages_Free:").unwrap_or(0) * (2 << 20);
        if need > free.max(huge) {
            return Some(format!("it needs {} MiB, and {} MiB are available", need >> 20, free >> 20));
        }
        (self.is_big() && need > huge).then(|| {
            format!(
                "on small pages it would measure the page tables; reserve {} hugepages of 2 MiB (vm.nr_hugepages)",
                need >> 21
            )
        })
    }
}

/// The default suite; `quick` leaves out what takes long.
pub fn suite(quick: bool) -> Vec<Case> {
    use Protocol::{Tcp, Udp};
    let base = Case {
        workload: Workload::Established,
        protocol: Udp,
        flows: 1000,
        size: Size::Fixed(60),
        both: false,
        rules: 10,
        algs: true,
        exchange: Exchange::Ftp,
        split: false,
        pinholes: 0,
        nat: Nat::Shared,
        dependent: false,
    };
    let case = |protocol, flows| Case { protocol, flows, ..base.clone() };
    let million = 1_000_000;
    let mut counts = vec![1, 1000, 100_000, million];
    if !quick {
        counts.push(8 * million);
    }
    let mut cases: Vec<_> = counts.iter().map(|n| case(Udp, *n)).collect();
    cases.extend(counts.iter().map(|n| case(Tcp, *n)));
    cases.extend([1000, million].map(|n| Case { both: true, ..case(Udp, n) }));
    cases.extend([1000, million].map(|n| Case { both: true, ..case(Tcp, n) }));
    cases.extend([Size::Imix, Size::Fixed(1514)].map(|size| Case { size, ..case(Udp, 1000) }));
    cases.extend([Size::Imix, Size::Fixed(1514)].map(|size| Case { size, ..case(Udp, million) }));
    cases.extend([1000, million].map(|n| Case { size: Size::Fixed(1514), ..case(Tcp, n) }));
    cases.push(Case { rules: 1000, ..case(Udp, 1000) });
    cases.extend([1000, million].map(|n| Case { dependent: true, ..case(Udp, n).own() }));
    let of = |workload, case: Case| Case { workload, ..case };
    let new = if quick { 250_000 } else { million };
    for n in [100_000, million] {
        cases.push(of(Workload::Mix, case(Udp, n)));
    }
    if !quick {
        cases.push(of(Workload::Mix, case(Tcp, 100_000)));
    }
    for protocol in [Udp, Tcp] {
        cases.push(of(Workload::New, case(protocol, new)));
        cases.push(of(Workload::New, case(protocol, new)).own());
    }
    cases.push(of(Workload::New, Case { rules: 1000, ..case(Udp, new) }));
    cases.extend([1000, new].map(|n| Case { dependent: true, ..of(Workload::New, case(Udp, n)).own() }));
    for n in [1000, million] {
        cases.push(of(Workload::Latency, case(Udp, n)));
    }
    for workload in [Workload::Handoff, Workload::Cores] {
        cases.extend([1000, 100_000, million].map(|n| of(workload, case(Udp, n))));
    }
    cases.extend(turns::suite(&case(Tcp, 1000)));
    let many = of(Workload::Ageing, case(Udp, if quick { million } else { 10 * million }));
    cases.extend([many.clone(), many.own()]);
    cases
}
