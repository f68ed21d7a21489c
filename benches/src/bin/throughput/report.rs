//! Tables and JSON.

use crate::ageing;
use crate::cases::{Case, Workload};
use crate::latency::{self, Latency};
use crate::several::{self, Pair, Triple};
use crate::turns::{self, Turns};
use benches::rig::crew::Together;
use benches::rig::flows::Nat;
use benches::rig::gateway::Memory;
use benches::rig::meter::{Run, Spread};
use serde_json::{Value, json};

/// Where and how it ran.
#[derive(Clone, Copy)]
pub struct Machine {
    /// TSC cycles per second.
    pub frequency: f64,
    /// Cycles of one reading of the counter.
    pub overhead: u64,
    /// The core, if the thread is bound to one.
    pub cpu: Option<usize>,
    /// Most packets that a port gives at once.
    pub burst: usize,
    /// Packets of a repetition.
    pub packets: u32,
    /// Repetitions.
    pub repetitions: u32,
}

impl Machine {
    /// Millions a second of what takes so many cycles.
    pub fn mega(&self, cycles: f64) -> f64 {
        if cycles > 0.0 { self.frequency / 1e6 / cycles } else { 0.0 }
    }
}

/// How often this thread lost its core against its will.
pub fn preemptions() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("nonvoluntary_ctxt_switches:"));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// A case and what it came to.
pub struct Row {
    /// The case.
    pub case: Case,
    /// Repetitions of established or mixed traffic.
    pub runs: Vec<Run>,
    /// Fewer packets of the same with the parts of the stages told apart.
    pub split: Vec<Run>,
    /// Repetitions of: from empty to n.
    pub fill: Vec<Run>,
    /// From n to 2n.
    pub grow: Vec<Run>,
    /// n more, while the first of them end.
    pub settling: Vec<Run>,
    /// n more, while as many end.
    pub churn: Vec<Run>,
    /// 2n end, and none begins.
    pub delete: Vec<Run>,
    /// Sessions that were to end then, in all repetitions, and sessions that did not.
    pub ended: u64,
    /// See above.
    pub kept: u64,
    /// Sessions were to end beside those that began, and in some repetition none did.
    pub endless: bool,
    /// Repetitions of latency.
    pub latency: Vec<Latency>,
    /// Repetitions of workers that take turns.
    pub turns: Vec<Pair>,
    /// Repetitions of workers on cores of their own.
    pub cores: Vec<Triple>,
    /// Turns with ALGs on and off.
    pub algs: Turns,
    /// Repetitions of control at rest, and of control that ages.
    pub ageing: Vec<ageing::Pair>,
    /// Packets that were checked in full, set-up included.
    pub checked: u64,
    /// Packets that were wrong.
    pub wrong: u64,
    /// What was wrong with the first.
    pub faults: Vec<String>,
    /// What the gateway takes.
    pub memory: Memory,
    /// Most sessions that were seen open.
    pub sessions: u64,
    /// Drops by reason.
    pub drops: Vec<(&'static str, u64)>,
}

impl Row {
    /// Nothing measured yet.
    pub fn new(case: Case) -> Self {
        Self {
            case,
            runs: Vec::new(),
            split: Vec::new(),
            fill: Vec::new(),
            grow: Vec::new(),
            settling: Vec::new(),
            churn: Vec::new(),
            delete: Vec::new(),
            ended: 0,
            kept: 0,
            endless: false,
            latency: Vec::new(),
            turns: Vec::new(),
            cores: Vec::new(),
            algs: Turns::default(),
            ageing: Vec::new(),
            checked: 0,
            wrong: 0,
            faults: Vec::new(),
            memory: Memory::default(),
            sessions: 0,
            drops: Vec::new(),
        }
    }

    /// All repetitions of whatever was measured.
    fn all_runs(&self) -> impl Iterator<Item = &Run> {
        let new = [&self.fill, &self.grow, &self.settling, &self.churn, &self.delete];
        let of_one = self.runs.iter().chain(&self.split).chain(new.into_iter().flatten());
        let of_several = self.turns.iter().flatten().chain(self.cores.iter().flatten());
        let ageing = self.ageing.iter().flat_map(|pair| [&pair.rests, &pair.ages]);
        of_one.chain(of_several.map(|together| &together.run)).chain(self.algs.runs()).chain(ageing)
    }

    /// Bytes per session: its binding too, where each has one of its own.
    pub fn bytes_a_session(&self) -> f64 {
        if self.memory.own { self.memory.with_binding() } else { self.memory.a_session }
    }

    /// What was lost that should not have been. No workload but latency brings more packets than the worker takes; there what
    /// finds the queue full is the rate's or the machine's doing, and only what the gateway has dropped counts. Messages are
    /// held, joined and parted by those who read them: their bytes are compared instead.
    pub fn unexpected_loss(&self) -> Option<String> {
        let lost: u64 = match self.case.workload {
            Workload::Alg => 0,
            Workload::Latency => self.latency.iter().map(Latency::dropped).sum(),
            _ => self.all_runs().map(Run::lost).sum(),
        };
        if lost > 0 {
            return Some(format!("{lost} packets were lost"));
        }
        if self.endless {
            return Some("no session ended".to_owned());
        }
        (self.kept > 0).then(|| format!("{} of {} sessions did not end", self.kept, self.ended))
    }

    /// Adds what several workers say of the packets that they checked.
    pub fn verdict(&mut self, of: &[Together]) {
        for together in of {
            self.checked += together.checked;
            self.wrong += together.wrong;
            self.faults.extend(together.faults.iter().cloned());
        }
    }
}

fn spread(runs: &[Run], of: impl Fn(&Run) -> f64) -> Spread {
    Spread::of(runs.iter().map(of))
}

/// Median quantile of the bursts.
fn quantile(runs: &[Run], share: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    spread(runs, |r| r.bursts.quantile(share) as f64).median
}

/// Median cycles per packet of the parts that can be told apart, and of all else.
fn parts(row: &Row) -> [f64; 3] {
    let rest = |run: &Run| run.stages() - run.parts().0 - run.parts().1;
    let of: [&dyn Fn(&Run) -> f64; 3] = [&|run| run.parts().0, &|run| run.parts().1, &rest];
    of.map(|of| spread(&row.split, of).median)
}

fn lost(runs: &[Run]) -> u64 {
    runs.iter().map(Run::lost).sum()
}

/// What is true of every line.
pub fn head(m: &Machine) {
    let core = m.cpu.map_or("no core in particular".to_owned(), |c| format!("core {c}"));
    println!(
        "One worker on {core}, TSC {:.0} MHz. {} packets a repetition, {} repetitions interleaved, bursts of {}.",
        m.frequency / 1e6,
        m.packets,
        m.repetitions,
        m.burst
    );
    println!(
        "Cycles are TSC cycles per packet; stages are the worker's poll less ports, generator and check: turn (commands, time,\n\
         handoff rings), plan (headers, hash, lookup), carry (the rest: compare, track, translate, count, send; all of what is\n\
         not on the straight line), from a run of a quarter of the packets, since telling them apart costs the stages something.\n\
         Headers are warm from the generator. Flows in random order. Source NAT, endpoint-independent: {}, many flows at one\n\
         translated port; where a pool is named, an inside endpoint, a port and a binding for each flow. Frame lengths without the\n\
         FCS. Reading the counter costs {} cycles.",
        Nat::Shared,
        m.overhead
    );
}

/// The tables.
pub fn tables(m: &Machine, calibration: [Spread; 2], rows: &[Row]) {
    let [latency, width] = calibration;
    println!(
        "Calibration: {:.2} cycles per dependent multiply ({:.2} to {:.2}), {:.2} per round of independent work ({:.2} to {:.2}).\n\
         Other work took the core {} times; {} polls in which it had it for long are in no figure.\n",
        latency.median,
        latency.min,
        latency.max,
        width.median,
        width.min,
        width.max,
        preemptions(),
        rows.iter().flat_map(Row::all_runs).map(|run| run.taken).sum::<u64>(),
    );
    let steady: Vec<_> = rows.iter().filter(|r| !r.runs.is_empty()).collect();
    if !steady.is_empty() {
        println!(
            "{:<42} {:>7} {:>15} {:>5} {:>5} {:>5} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6}",
            "traffic",
            "stages",
            "min-max",
            "turn",
            "plan",
            "carry",
            "ports",
            "Mpps",
            "alone",
            "p50",
            "p99",
            "p99.9",
            "lost",
            "B/sess",
            "pages",
            "wrong"
        );
    }
    for row in &steady {
        let (stages, ports) = (spread(&row.runs, Run::stages), spread(&row.runs, Run::ports));
        let told = |cycles: f64| if row.split.is_empty() { "-".to_owned() } else { format!("{cycles:.1}") };
        let [turn, plan, carry] = parts(row).map(told);
        println!(
            "{:<42} {:>7.1} {:>15} {:>5} {:>5} {:>5} {:>7.1} {:>7.2} {:>7.2} {:>6.0} {:>6.0} {:>6.0} {:>6} {:>7.0} {:>6} {:>6}",
            row.case.name(),
            stages.median,
            format!("{:.1}-{:.1}", stages.min, stages.max),
            turn,
            plan,
            carry,
            ports.median,
            m.mega(stages.median + ports.median),
            m.mega(stages.median),
            quantile(&row.runs, 0.5),
            quantile(&row.runs, 0.99),
            quantile(&row.runs, 0.999),
            lost(&row.runs),
            row.bytes_a_session(),
            if row.memory.is_huge { "huge" } else { "small" },
            row.wrong,
        );
    }
    let new: Vec<_> = rows.iter().filter(|r| r.case.workload == Workload::New).collect();
    if !new.is_empty() {
        println!(
            "\nNew flows: cycles of the stages per flow that begins (where none begins: per session that ends), and million of them a\n\
             second of the worker's core at that. The control core takes its turns on the same core; its cycles are apart. Timeouts\n\
             (UDP new; TCP SYN sent, SYN received, established) 1 s of virtual time, so that 2n live; hold-down 120 s; close records\n\
             counted and not written. Mapping endpoint-independent: {}; where a pool is named, an inside endpoint,\n\
             a port of the pool and a binding for each flow. TCP: three segments, {} flows apart.",
            Nat::Shared,
            4096
        );
        println!(
            "{:<40} {:<24} {:>9} {:>15} {:>9} {:>9} {:>9} {:>6} {:>6}",
            "traffic", "phase", "cycles", "min-max", "M/s", "control", "freed", "lost", "wrong"
        );
    }
    for row in &new {
        for (phase, runs, [each, control]) in phases(row) {
            let cycles = spread(runs, each);
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let freed = spread(runs, |r| r.freed as f64).median;
            println!(
                "{:<40} {:<24} {:>9.0} {:>15} {:>9.2} {:>9.0} {:>9.0} {:>6} {:>6}",
                row.case.name(),
                phase,
                cycles.median,
                format!("{:.0}-{:.0}", cycles.min, cycles.max),
                m.mega(cycles.median),
                spread(runs, control).median,
                freed,
                lost(runs),
                row.wrong,
            );
        }
    }
    memory(rows);
    for row in rows.iter().filter(|r| !r.drops.is_empty()) {
        let drops: Vec<_> = row.drops.iter().map(|(name, n)| format!("{n} {name}")).collect();
        println!("{}: dropped {}", row.case.name(), drops.join(", "));
    }
    let checked: u64 = rows.iter().map(|r| r.checked).sum();
    println!(
        "\n{checked} packets were checked in full: addresses, ports, mapping, TTL, lengths, both checksums, payload."
    );
}

/// From so many flows on what each takes is told apart from what a gateway takes in any case.
pub const MANY: u32 = 100_000;

/// The largest gateway of each kind.
fn memory(rows: &[Row]) {
    for own in [false, true] {
        let many = rows
            .iter()
            .filter(|row| row.memory.planned > 0 && row.case.flows >= MANY && row.memory.own == own);
        let Some(row) = many.max_by_key(|row| row.memory.planned) else { continue };
        let Memory { a_session, a_binding, planned, huge, .. } = row.memory;
        let mega = |bytes: u64| bytes >> 20;
        println!(
            "Memory of {}, {} sessions open: {:.0} B a session ({a_session:.0}{}), {} MiB in all (packets and what ALGs hold apart),\n\
             {} MiB of it on {} hugepages of 2 MiB.",
            row.case.name(),
            row.sessions,
            row.bytes_a_session(),
            if own { format!(" and {a_binding:.0} for its binding") } else { String::new() },
            mega(planned),
            mega(huge),
            huge >> 21,
        );
    }
}

/// A figure of a run.
pub type Figure = fn(&Run) -> f64;

/// The phases of new flows: their name, their runs, cycles of the stages and of control for each flow or session.
pub fn phases(row: &Row) -> [(&'static str, &[Run], [Figure; 2]); 4] {
    let begins: [Figure; 2] = [Run::per_flow, Run::control_per_flow];
    [
        ("fill, 0 to n", &row.fill, begins),
        ("grow, n to 2n", &row.grow, begins),
        ("n begin while n end", &row.churn, begins),
        ("delete, 2n to 0", &row.delete, [Run::per_end, Run::control_per_end]),
    ]
}

/// One object.
pub fn json(m: &Machine, [chain, width]: [Spread; 2], rows: &[Row]) -> Value {
    let three = |s: Spread| json!({ "median": s.median, "min": s.min, "max": s.max });
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let [turn, plan, carry] = parts(row);
            let steady = (!row.runs.is_empty()).then(|| {
                json!({
                    "stages": three(spread(&row.runs, Run::stages)),
                    "turn": turn,
                    "plan": plan,
                    "carry": carry,
                    "ports": three(spread(&row.runs, Run::ports)),
                    "mpps": m.mega(spread(&row.runs, |r| r.stages() + r.ports()).median),
                    "mpps_of_the_stages": m.mega(spread(&row.runs, Run::stages).median),
                    "p50": quantile(&row.runs, 0.5),
                    "p99": quantile(&row.runs, 0.99),
                    "p999": quantile(&row.runs, 0.999),
                    "lost": lost(&row.runs),
                })
            });
            let phases: Vec<_> = phases(row)
                .into_iter()
                .filter(|(_, runs, _)| !runs.is_empty())
                .map(|(phase, runs, [each, control])| {
                    json!({
                        "phase": phase,
                        "cycles_per_flow": three(spread(runs, each)),
                        "million_sessions_a_second": m.mega(spread(runs, each).median),
                        "control_cycles_per_flow": three(spread(runs, control)),
                        "lost": lost(runs),
                    })
                })
                .collect();
            json!({
                "name": row.case.name(),
                "protocol": row.case.protocol.name(),
                "flows": row.case.flows,
                "both": row.case.both,
                "rules": row.case.rules,
                "algs": row.case.algs,
                "nat": row.case.nat.to_string(),
                "endpoint_dependent": row.case.dependent,
                "established": steady,
                "new": phases,
                "latency": latency::json(row),
                "workers": several::json(m, row),
                "algs_in_turns": turns::json(m, row),
                "ageing": ageing::json(m, row),
                "checked": row.checked,
                "wrong": row.wrong,
                "sessions": row.sessions,
                "memory": {
                    "bytes_per_session": row.bytes_a_session(),
                    "bytes_per_session_that_shares_its_binding": row.memory.a_session,
                    "bytes_per_binding": row.memory.a_binding,
                    "bytes": row.memory.planned,
                    "hugepage_bytes": row.memory.huge,
                },
                "hugepages": row.memory.is_huge,
                "drops": row.drops.iter().map(|(name, n)| (*name, *n)).collect::<std::collections::BTreeMap<_, _>>(),
            })
        })
        .collect();
    json!({
        "tsc_hz": m.frequency,
        "cpu": m.cpu,
        "burst": m.burst,
        "packets": m.packets,
        "repetitions": m.repetitions,
        "calibration": { "latency": three(chain), "width": three(width) },
        "preemptions": preemptions(),
        "rows": rows,
    })
}
