//! Latency: how long packets take at shares of the highest rate.

use crate::cases::Case;
use crate::report::{Machine, Row};
use benches::plot::{self, Line, PlotError};
use benches::rig::gateway::Rig;
use benches::rig::meter::Spread;
use serde_json::{Value, json};
use std::path::Path;

/// Shares of the highest rate, in percent.
pub const LOADS: [u32; 3] = [10, 50, 90];

/// What one repetition came to at one load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Million packets a second that left.
    pub mpps: f64,
    /// From the moment that a packet was due to its tx, in nanoseconds: half, 99 %, 99.9 % of the packets took no longer.
    pub sojourn: [f64; 3],
    /// The same from rx to tx.
    pub worker: [f64; 3],
    /// Packets that found the queue full.
    pub lost: u64,
    /// Packets that the gateway took and did not send.
    pub dropped: u64,
}

/// The highest rate in million packets a second, and one point a load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// With the generator and the check on the same core.
    pub highest: f64,
    /// In the order of [`LOADS`].
    pub points: [Point; LOADS.len()],
}

impl Latency {
    /// Packets that the gateway took and did not send.
    pub fn dropped(&self) -> u64 {
        self.points.iter().map(|point| point.dropped).sum()
    }
}

/// Measures one repetition.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub fn measure(case: &Case, machine: &Machine, rig: &mut Rig) -> Latency {
    let packets = u64::from(machine.packets / 8).max(1000);
    let mega = |(count, cycles): (u64, u64)| count as f64 / (cycles as f64 / machine.frequency) / 1e6;
    rig.wire().borrow_mut().set_strict(false);
    rig.wire().borrow_mut().set_size(case.size);
    let highest = mega(rig.paced(case.flows, packets, 0.0));
    let mut latency = Latency { highest, ..Latency::default() };
    for (load, point) in LOADS.iter().zip(&mut latency.points) {
        let mean = machine.frequency / (highest * 1e6 * f64::from(*load) / 100.0);
        let (left, cycles) = rig.paced(case.flows, packets, mean);
        point.mpps = mega((left, cycles));
        point.dropped = packets.saturating_sub(left);
        let wire = rig.wire().borrow();
        let Some(pace) = wire.pace() else { continue };
        point.lost = pace.lost();
        let ns = |cycles: u64| cycles as f64 / machine.frequency * 1e9;
        for (n, share) in [0.5, 0.99, 0.999].into_iter().enumerate() {
            let (sojourn, worker) = pace.quantile(share);
            (point.sojourn[n], point.worker[n]) = (ns(sojourn), ns(worker));
        }
    }
    rig.wire().borrow_mut().set_pace(None);
    rig.wire().borrow_mut().set_strict(true);
    latency
}

/// Median over the repetitions, load by load.
fn medians(runs: &[Latency]) -> Latency {
    let median = |of: &dyn Fn(&Latency) -> f64| Spread::of(runs.iter().map(of)).median;
    let points = std::array::from_fn(|n| Point {
        mpps: median(&|r| r.points[n].mpps),
        sojourn: std::array::from_fn(|q| median(&|r| r.points[n].sojourn[q])),
        worker: std::array::from_fn(|q| median(&|r| r.points[n].worker[q])),
        lost: runs.iter().map(|r| r.points[n].lost).sum(),
        dropped: runs.iter().map(|r| r.points[n].dropped).sum(),
    });
    Latency { highest: median(&|r| r.highest), points }
}

fn measured(rows: &[Row]) -> impl Iterator<Item = (&Row, Latency)> {
    rows.iter().filter(|r| !r.latency.is_empty()).map(|r| (r, medians(&r.latency)))
}

/// The table.
pub fn table(rows: &[Row]) {
    if measured(rows).next().is_none() {
        return;
    }
    println!(
        "\nLatency in nanoseconds, medians of the repetitions. Poisson arrivals at a share of the highest rate, generator and\n\
         check on the same core; `due` counts from when the packet was due, waiting in the queue included, `rx` from rx_burst."
    );
    println!(
        "{:<28} {:>5} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6}",
        "traffic", "load", "Mpps", "due p50", "due p99", "due p99.9", "rx p50", "rx p99", "rx p99.9", "lost"
    );
    for (row, latency) in measured(rows) {
        for (load, p) in LOADS.iter().zip(latency.points) {
            println!(
                "{:<28} {:>4}% {:>7.2} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>6}",
                row.case.name(),
                load,
                p.mpps,
                p.sojourn[0],
                p.sojourn[1],
                p.sojourn[2],
                p.worker[0],
                p.worker[1],
                p.worker[2],
                p.lost
            );
        }
    }
}

/// A row's object, if it was measured.
pub fn json(row: &Row) -> Option<Value> {
    let latency = (!row.latency.is_empty()).then(|| medians(&row.latency))?;
    let quantiles = |q: [f64; 3]| json!({ "p50": q[0], "p99": q[1], "p999": q[2] });
    let points: Vec<_> = LOADS
        .iter()
        .zip(latency.points)
        .map(|(load, p)| {
            json!({
                "load_percent": load,
                "mpps": p.mpps,
                "due_to_tx_ns": quantiles(p.sojourn),
                "rx_to_tx_ns": quantiles(p.worker),
                "lost": p.lost,
                "dropped": p.dropped,
            })
        })
        .collect();
    Some(json!({ "highest_mpps": latency.highest, "points": points }))
}

/// Takes the times of one kind.
type Times = fn(Point) -> [f64; 3];

/// Writes the plot, if there is anything to plot.
///
/// # Errors
/// The file cannot be written.
pub fn plot(path: &Path, rows: &[Row]) -> Result<(), PlotError> {
    let mut lines: Vec<Line> = Vec::new();
    for (row, latency) in measured(rows) {
        let kinds: [(&str, Times); 2] = [("rx", |p| p.worker), ("due", |p| p.sojourn)];
        for (quantile, name) in [(0, "p50"), (2, "p99.9")] {
            for (since, of) in kinds {
                let points = LOADS.iter().zip(latency.points);
                let points = points.map(|(load, p)| (f64::from(*load), of(p)[quantile])).collect();
                lines.push((format!("{since} to tx, {name}, {}", row.case.name()), points));
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    plot::lines(
        path,
        "Latency of one worker: from rx to tx, and from when a packet was due",
        ("% of the highest rate", "nanoseconds"),
        &lines,
    )
}
