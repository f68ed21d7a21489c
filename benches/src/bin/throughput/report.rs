//! Tables and JSON.

use crate::cases::{Case, Workload};
use benches::rig::flows::ENDPOINTS;
use benches::rig::meter::{Run, Spread};
use serde_json::json;

/// Where and how it ran.
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
            checked: 0,
            wrong: 0,
            faults: Vec::new(),
            bytes_per_session: 0.0,
            huge: false,
            drops: Vec::new(),
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
        "Cycles are TSC cycles per packet; stages are the worker's poll less ports, generator and check. Headers are warm\n\
         from the generator. Flows in random order. Source NAT to one address, endpoint-independent: {ENDPOINTS} inside\n\
         endpoints, so many flows share a translated port. Frame lengths without the FCS. Reading the counter costs {} cycles.",
        m.overhead
    );
}

/// The tables.
pub fn tables(m: &Machine, calibration: [Spread; 2], rows: &[Row]) {
    let [latency, width] = calibration;
    println!(
        "Calibration: {:.2} cycles per dependent multiply ({:.2} to {:.2}), {:.2} per round of independent work ({:.2} to {:.2}).\n\
         Other work took the core {} times.\n",
        latency.median,
        latency.min,
        latency.max,
        width.median,
        width.min,
        width.max,
        preemptions()
    );
    let steady: Vec<_> = rows.iter().filter(|r| !r.runs.is_empty()).collect();
    if !steady.is_empty() {
        println!(
            "{:<42} {:>7} {:>15} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6}",
            "traffic",
            "stages",
            "min-max",
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
        println!(
            "{:<42} {:>7.1} {:>15} {:>7.1} {:>7.2} {:>7.2} {:>6.0} {:>6.0} {:>6.0} {:>6} {:>7.0} {:>6} {:>6}",
            row.case.name(),
            stages.median,
            format!("{:.1}-{:.1}", stages.min, stages.max),
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
pub fn json(m: &Machine, [latency, width]: [Spread; 2], rows: &[Row]) {
    let three = |s: Spread| json!({ "median": s.median, "min": s.min, "max": s.max });
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let steady = (!row.runs.is_empty()).then(|| {
                json!({
                    "stages": three(spread(&row.runs, Run::stages)),
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
                "checked": row.checked,
                "wrong": row.wrong,
                "bytes_per_session": row.bytes_per_session,
                "hugepages": row.huge,
                "drops": row.drops.iter().map(|(name, n)| (*name, *n)).collect::<std::collections::BTreeMap<_, _>>(),
            })
        })
        .collect();
    let all = json!({
        "tsc_hz": m.frequency,
        "cpu": m.cpu,
        "burst": m.burst,
        "packets": m.packets,
        "repetitions": m.repetitions,
        "calibration": { "latency": three(latency), "width": three(width) },
        "preemptions": preemptions(),
        "rows": rows,
    });
    println!("{all}");
}
