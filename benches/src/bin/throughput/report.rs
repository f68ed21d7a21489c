//! Tables and JSON.

use crate::ageing;
use crate::cases::{Case, Workload};
use crate::latency::{self, Latency};
use crate::several::{self, Pair, Triple};
use crate::turns::{self, Turns};
use benches::rig::crew::Together;
use benches::rig::flows::ENDPOINTS;
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
    /// Repetitions of: from empty to n.
    pub fill: Vec<Run>,
    /// From n to 2n.
    pub grow: Vec<Run>,
    /// n more, while as many end.
    pub churn: Vec<Run>,
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
    /// Bytes per session, all told.
    pub bytes_per_session: f64,
    /// Records lie on hugepages.
    pub huge: bool,
    /// Drops by reason.
    pub drops: Vec<(&'static str, u64)>,
}

impl Row {
    /// Nothing measured yet.
    pub fn new(case: Case) -> Self {
        Self {
            case,
            runs: Vec::new(),
            fill: Vec::new(),
            grow: Vec::new(),
            churn: Vec::new(),
            latency: Vec::new(),
            turns: Vec::new(),
            cores: Vec::new(),
            algs: Turns::default(),
            ageing: Vec::new(),
            checked: 0,
            wrong: 0,
            faults: Vec::new(),
            bytes_per_session: 0.0,
            huge: false,
            drops: Vec::new(),
        }
    }

    /// All repetitions of whatever was measured.
    fn all_runs(&self) -> impl Iterator<Item = &Run> {
        let of_one = self.runs.iter().chain(&self.fill).chain(&self.grow).chain(&self.churn);
        let of_several = self.turns.iter().flatten().chain(self.cores.iter().flatten());
        let ageing = self.ageing.iter().flat_map(|pair| [&pair.rests, &pair.ages]);
        of_one.chain(of_several.map(|together| &together.run)).chain(self.algs.runs()).chain(ageing)
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

/// Median cycles per packet of the parts that can be told apart.
fn parts(row: &Row) -> (f64, f64) {
    (spread(&row.runs, |r| r.parts().0).median, spread(&row.runs, |r| r.parts().1).median)
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
         not on the straight line). Headers are warm from the generator. Flows in random order. Source NAT to one address, endpoint-independent: {ENDPOINTS} inside\n\
         endpoints, so many flows share a translated port. Frame lengths without the FCS. Reading the counter costs {} cycles.",
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
        let (turn, plan) = parts(row);
        println!(
            "{:<42} {:>7.1} {:>15} {:>5.1} {:>5.1} {:>5.1} {:>7.1} {:>7.2} {:>7.2} {:>6.0} {:>6.0} {:>6.0} {:>6} {:>7.0} {:>6} {:>6}",
            row.case.name(),
            stages.median,
            format!("{:.1}-{:.1}", stages.min, stages.max),
            turn,
            plan,
            stages.median - turn - plan,
            ports.median,
            m.frequency / 1e6 / (stages.median + ports.median),
            m.frequency / 1e6 / stages.median,
            quantile(&row.runs, 0.5),
            quantile(&row.runs, 0.99),
            quantile(&row.runs, 0.999),
            lost(&row.runs),
            row.bytes_per_session,
            if row.huge { "huge" } else { "small" },
            row.wrong,
        );
    }
    let new: Vec<_> = rows.iter().filter(|r| r.case.workload == Workload::New).collect();
    if !new.is_empty() {
        println!(
            "\nNew flows: cycles of the stages per flow that begins, and million flows a second of the worker's core at that. The\n\
             control core takes its turns on the same core; its cycles per flow are apart. Timeout 1 s of virtual time\n\
             (so that 2n live), hold-down 120 s, close records counted and not written. TCP: three segments, {} flows apart.",
            4096
        );
        println!(
            "{:<32} {:<12} {:>9} {:>15} {:>9} {:>9} {:>9} {:>6} {:>6}",
            "traffic", "phase", "cycles", "min-max", "M/s", "control", "freed", "lost", "wrong"
        );
    }
    for row in &new {
        for (phase, runs) in phases(row) {
            let cycles = spread(runs, Run::per_flow);
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let freed = spread(runs, |r| r.freed as f64).median;
            println!(
                "{:<32} {:<12} {:>9.0} {:>15} {:>9.2} {:>9.0} {:>9.0} {:>6} {:>6}",
                row.case.name(),
                phase,
                cycles.median,
                format!("{:.0}-{:.0}", cycles.min, cycles.max),
                m.frequency / 1e6 / cycles.median,
                spread(runs, Run::control_per_flow).median,
                freed,
                lost(runs),
                row.wrong,
            );
        }
    }
    for row in rows.iter().filter(|r| !r.drops.is_empty()) {
        let drops: Vec<_> = row.drops.iter().map(|(name, n)| format!("{n} {name}")).collect();
        println!("{}: dropped {}", row.case.name(), drops.join(", "));
    }
    let checked: u64 = rows.iter().map(|r| r.checked).sum();
    println!(
        "\n{checked} packets were checked in full: addresses, ports, mapping, TTL, lengths, both checksums, payload."
    );
}

fn phases(row: &Row) -> [(&'static str, &[Run]); 3] {
    [("0 to n", &row.fill), ("n to 2n", &row.grow), ("and delete", &row.churn)]
}

/// One object.
pub fn json(m: &Machine, [chain, width]: [Spread; 2], rows: &[Row]) -> Value {
    let three = |s: Spread| json!({ "median": s.median, "min": s.min, "max": s.max });
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let steady = (!row.runs.is_empty()).then(|| {
                json!({
                    "stages": three(spread(&row.runs, Run::stages)),
                    "turn": parts(row).0,
                    "plan": parts(row).1,
                    "ports": three(spread(&row.runs, Run::ports)),
                    "p50": quantile(&row.runs, 0.5),
                    "p99": quantile(&row.runs, 0.99),
                    "p999": quantile(&row.runs, 0.999),
                    "lost": lost(&row.runs),
                })
            });
            let phases: Vec<_> = phases(row)
                .into_iter()
                .filter(|(_, runs)| !runs.is_empty())
                .map(|(phase, runs)| {
                    json!({
                        "phase": phase,
                        "cycles_per_flow": three(spread(runs, Run::per_flow)),
                        "control_cycles_per_flow": three(spread(runs, Run::control_per_flow)),
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
                "established": steady,
                "new": phases,
                "latency": latency::json(row),
                "workers": several::json(m, row),
                "algs_in_turns": turns::json(m, row),
                "ageing": ageing::json(m, row),
                "checked": row.checked,
                "wrong": row.wrong,
                "bytes_per_session": row.bytes_per_session,
                "hugepages": row.huge,
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
