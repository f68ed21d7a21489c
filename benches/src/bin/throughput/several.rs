//! Several workers: what a handoff costs, and what a second core brings.

use crate::cases::{Case, SEVERAL};
use crate::report::{Machine, Row};
use benches::rig::crew::{self, Crew, Phase, Together, Traffic};
use benches::rig::meter::Spread;
use benches::rig::spec::RigError;
use serde_json::{Value, json};

/// Packets to the right worker, and packets to the wrong one.
pub type Pair = [Together; 2];
/// One worker alone, all with packets to the right one, all with packets to the wrong one.
pub type Triple = [Together; 3];

const PHASES: [Phase; 3] = [Phase::Alone, Phase::All(Traffic::Symmetric), Phase::All(Traffic::Asymmetric)];

/// One repetition of workers that take turns on one core.
pub fn in_turns(crew: &mut Crew, packets: u64) -> Pair {
    [Traffic::Symmetric, Traffic::Asymmetric].map(|traffic| crew.traffic(traffic, packets))
}

/// All repetitions of workers on cores of their own, interleaved.
///
/// # Errors
/// See [`RigError`].
pub fn on_cores(case: &Case, machine: &Machine, cores: &[usize]) -> Result<Vec<Triple>, RigError> {
    let repetitions = machine.repetitions.max(1) as usize;
    let phases = PHASES.repeat(repetitions);
    let packets = u64::from(machine.packets) / 2;
    let mut results = crew::on_cores(&case.spec(), case.flows, packets, cores, &phases)?.into_iter();
    let mut next = || results.next().unwrap_or_default();
    Ok((0..repetitions).map(|_| [next(), next(), next()]).collect())
}

/// The cores of [`on_cores`]: the last ones, the one that a single worker would have first. To be asked before a thread is
/// bound to one.
pub fn cores() -> Vec<usize> {
    let mut cores: Vec<_> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
    cores.reverse();
    cores.truncate(usize::from(SEVERAL));
    cores
}

fn spread<const N: usize>(runs: &[[Together; N]], of: impl Fn(&[Together; N]) -> f64) -> Spread {
    Spread::of(runs.iter().map(of))
}

/// Stage cycles of all workers per packet.
fn stages(t: &Together) -> f64 {
    t.run.stages()
}

/// Million packets a second of all workers together.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mpps(t: &Together, machine: &Machine) -> f64 {
    if t.elapsed == 0 { 0.0 } else { t.run.delivered as f64 / t.elapsed as f64 * machine.frequency / 1e6 }
}

/// What a packet to the wrong worker costs more, in cycles: the differences within a repetition.
pub fn handoff_cost(runs: &[Pair]) -> Spread {
    spread(runs, |[right, wrong]| stages(wrong) - stages(right))
}

/// The same on cores of their own.
pub fn handoff_cost_on_cores(runs: &[Triple]) -> Spread {
    spread(runs, |[_, right, wrong]| stages(wrong) - stages(right))
}

fn lost<const N: usize>(runs: &[[Together; N]]) -> u64 {
    runs.iter().flatten().map(|t| t.run.lost()).sum()
}

/// The tables.
pub fn tables(machine: &Machine, rows: &[Row]) {
    let rows_of =
        |n: bool| rows.iter().filter(move |r| if n { !r.turns.is_empty() } else { !r.cores.is_empty() });
    if rows_of(true).next().is_some() {
        println!(
            "\nHandoff: {SEVERAL} workers that take turns on one core. Stage cycles of all workers per packet; `more` is what a packet\n\
             costs more that arrives at the wrong worker (no cache line changes its core here)."
        );
        println!(
            "{:<28} {:>8} {:>8} {:>8} {:>15} {:>6}",
            "traffic", "right", "wrong", "more", "min-max", "lost"
        );
    }
    for row in rows_of(true) {
        let more = handoff_cost(&row.turns);
        println!(
            "{:<28} {:>8.1} {:>8.1} {:>8.1} {:>15} {:>6}",
            row.case.name(),
            spread(&row.turns, |[right, _]| stages(right)).median,
            spread(&row.turns, |[_, wrong]| stages(wrong)).median,
            more.median,
            format!("{:.1}-{:.1}", more.min, more.max),
            lost(&row.turns),
        );
    }
    if rows_of(false).next().is_some() {
        println!(
            "\nTwo workers on two cores, each with its generator and check. `alone`: one works and the other sleeps. Cycles are those of\n\
             the stages, of both workers per packet; `x` is how many times the packets of one worker alone both forward together."
        );
        println!(
            "{:<28} {:>7} {:>7} {:>7} {:>7} {:>15} {:>7} {:>7} {:>7} {:>5} {:>5} {:>6}",
            "traffic",
            "alone",
            "right",
            "wrong",
            "more",
            "min-max",
            "Mpps",
            "right",
            "wrong",
            "x",
            "x",
            "lost"
        );
    }
    for row in rows_of(false) {
        let cycles = [0, 1, 2].map(|n| spread(&row.cores, |t| stages(&t[n])).median);
        let rates = [0, 1, 2].map(|n| spread(&row.cores, |t| mpps(&t[n], machine)).median);
        let times = scaling(&row.cores, machine);
        let more = handoff_cost_on_cores(&row.cores);
        println!(
            "{:<28} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>15} {:>7.2} {:>7.2} {:>7.2} {:>5.2} {:>5.2} {:>6}",
            row.case.name(),
            cycles[0],
            cycles[1],
            cycles[2],
            more.median,
            format!("{:.1}-{:.1}", more.min, more.max),
            rates[0],
            rates[1],
            rates[2],
            times[0].median,
            times[1].median,
            lost(&row.cores),
        );
    }
}

/// How many times the packets of one worker alone both forward: with packets to the right worker, and to the wrong one.
fn scaling(runs: &[Triple], machine: &Machine) -> [Spread; 2] {
    [1, 2].map(|n| spread(runs, |t| mpps(&t[n], machine) / mpps(&t[0], machine).max(f64::MIN_POSITIVE)))
}

/// A row's object, if it was measured.
pub fn json(machine: &Machine, row: &Row) -> Option<Value> {
    let three = |s: Spread| json!({ "median": s.median, "min": s.min, "max": s.max });
    if !row.turns.is_empty() {
        return Some(json!({
            "right": three(spread(&row.turns, |[right, _]| stages(right))),
            "wrong": three(spread(&row.turns, |[_, wrong]| stages(wrong))),
            "more": three(handoff_cost(&row.turns)),
            "lost": lost(&row.turns),
        }));
    }
    if row.cores.is_empty() {
        return None;
    }
    let each = |n: usize| {
        json!({
            "stages": three(spread(&row.cores, |t| stages(&t[n]))),
            "mpps": three(spread(&row.cores, |t| mpps(&t[n], machine))),
        })
    };
    let [right, wrong] = scaling(&row.cores, machine).map(three);
    Some(json!({
        "alone": each(0), "right": each(1), "wrong": each(2),
        "times_right": right, "times_wrong": wrong,
        "more": three(handoff_cost_on_cores(&row.cores)),
        "lost": lost(&row.cores),
    }))
}
