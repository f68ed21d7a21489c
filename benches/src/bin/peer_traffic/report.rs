//! The table of a comparison, its plot, and which goals were met.
//!
//! What was measured is a line each: system, `packets` or `sessions`, number of flows, millions a second, and how many
//! cycles of each packet (or session) the generator and the check had, or `-` where nobody knows.

use benches::plot;
use benches::rig::meter::Spread;
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Systems that goals name.
const STAGES: &str = "postern, stages";
const WHOLE: &str = "postern, with ports, generator and check";
const POSTERND: &str = "posternd, DPDK's null ports";
const LIMIT: &str = "testpmd io, the plug-in's frames";
const OVS: &str = "ovs-dpdk ct+nat, one pass";
const VPP: &str = "vpp nat44-ed, its nodes alone";
const KERNEL: &str = "kernel nftables masquerade";
/// VPP 26.10 on an EPYC of 2,445 MHz, cycles in its nodes alone: where it was not run.
const VPP_QUOTED: [(u32, f64); 3] = [(1000, 415.0), (100_000, 1045.0), (1_000_000, 1040.0)];

/// What is to be reported.
#[derive(Args, Debug)]
pub struct Ask {
    /// What was measured.
    figures: PathBuf,
    /// TSC cycles a second.
    #[arg(long)]
    hz: f64,
    /// What a reader must know of the run; a line each above the table.
    #[arg(long)]
    note: Vec<String>,
    /// The systems had no equal chances, or the run was disturbed: no verdict.
    #[arg(long)]
    no_verdict: bool,
    /// The table (tab-separated values).
    #[arg(long)]
    table: PathBuf,
    /// The plot (SVG).
    #[arg(long)]
    plot: PathBuf,
}

/// One system with one number of flows.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    system: String,
    /// `packets` or `sessions`.
    what: String,
    flows: u32,
    /// Millions a second.
    rates: Vec<f64>,
    /// Cycles of generator and check, if they are known.
    apart: Vec<f64>,
}

impl Row {
    fn rate(&self) -> Spread {
        Spread::of(self.rates.iter().copied())
    }

    /// Cycles of each, all told.
    fn cycles(&self, hz: f64) -> f64 {
        hz / 1e6 / self.rate().median
    }

    /// Cycles of generator and check.
    fn apart(&self) -> Option<f64> {
        (!self.apart.is_empty()).then(|| Spread::of(self.apart.iter().copied()).median)
    }

    /// Cycles of each without generator and check, as far as they are known.
    fn net(&self, hz: f64) -> f64 {
        self.cycles(hz) - self.apart().unwrap_or(0.0)
    }
}

/// One goal, or a ratio that nobody has set a goal for.
#[derive(Clone, Debug, PartialEq)]
struct Goal {
    what: String,
    goal: String,
    measured: String,
    met: &'static str,
}

/// Rows of a run.
struct Rows {
    rows: Vec<Row>,
    hz: f64,
}

impl Rows {
    fn read(text: &str, hz: f64) -> Result<Self, String> {
        let mut rows: Vec<Row> = Vec::new();
        for line in text.lines() {
            let wrong = || format!("no figure: {line:?}");
            let fields: Vec<&str> = line.split('\t').collect();
            let &[system, what @ ("packets" | "sessions"), flows, rate, apart] = fields.as_slice() else {
                return Err(wrong());
            };
            let flows = flows.parse().map_err(|_| wrong())?;
            let rate = rate.parse().ok().filter(|r: &f64| *r > 0.0).ok_or_else(wrong)?;
            let apart = if apart == "-" { None } else { Some(apart.parse().map_err(|_| wrong())?) };
            let same = |r: &&mut Row| r.system == system && r.what == what && r.flows == flows;
            match rows.iter_mut().find(same) {
                Some(row) => {
                    row.rates.push(rate);
                    row.apart.extend(apart);
                }
                None => rows.push(Row {
                    system: system.to_owned(),
                    what: what.to_owned(),
                    flows,
                    rates: vec![rate],
                    apart: apart.into_iter().collect(),
                }),
            }
        }
        rows.sort_by(|a, b| (&a.what, a.flows).cmp(&(&b.what, b.flows)));
        Ok(Self { rows, hz })
    }

    fn find(&self, system: &str, what: &str, flows: u32) -> Option<&Row> {
        self.rows.iter().find(|r| r.system == system && r.what == what && r.flows == flows)
    }

    /// Cycles without generator and check.
    fn net(&self, system: &str, what: &str, flows: u32) -> Option<f64> {
        self.find(system, what, flows).map(|r| r.net(self.hz))
    }

    /// The table without notes.
    fn table(&self) -> String {
        let mut text = "system\twhat\tflows\tmillions a second\tmin\tmax\tcycles each\tof these generator and check\ttimes postern\n"
            .to_owned();
        for row in &self.rows {
            let Spread { median, min, max } = row.rate();
            let apart = row.apart().map_or("-".to_owned(), |a| format!("{a:.0}"));
            let ours = [POSTERND, WHOLE, STAGES].iter().find_map(|s| self.find(s, &row.what, row.flows));
            let times =
                ours.map_or("-".to_owned(), |o| format!("{:.2}", row.cycles(self.hz) / o.cycles(self.hz)));
            let Row { system, what, flows, .. } = row;
            let _ = writeln!(
                text,
                "{system}\t{what}\t{flows}\t{median:.3}\t{min:.3}\t{max:.3}\t{:.0}\t{apart}\t{times}",
                row.cycles(self.hz)
            );
        }
        text
    }

    fn bars(&self) -> Vec<plot::Bar> {
        let bar = |row: &Row| {
            let Spread { median, min, max } = row.rate();
            let new = if row.what == "sessions" { ", new sessions" } else { "" };
            (format!("{}, {} flows{new}", row.system, row.flows), [median, min, max])
        };
        self.rows.iter().map(bar).collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let at_least = |what: String, least: f64, unit: &str, measured: Option<f64>| Goal {
            what,
            goal: format!(">= {least}{unit}"),
            measured: measured.map_or("not measured".to_owned(), |m| format!("{m:.2}{unit}")),
            met: measured.map_or("-", |m| if m >= least { "yes" } else { "NO" }),
        };
        // Nobody has set a goal for it.
        let told = |what: String, times: Option<f64>| Goal {
            what,
            goal: "-".to_owned(),
            measured: times.map_or("not measured".to_owned(), |t| format!("{t:.2} x")),
            met: "-",
        };
        let rate = |system, what, flows| self.find(system, what, flows).map(|r| r.rate().median);
        let over = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
        let ratio =
            |system, flows| over(self.net(system, "packets", flows), self.net(STAGES, "packets", flows));
        // Both on null ports of DPDK, both with the plug-in.
        let (whole, limit) = (rate(POSTERND, "packets", 1000), rate(LIMIT, "packets", 1000));
        let mut goals = vec![at_least(
            "posternd over testpmd io, the same ports, 1k flows, rates".to_owned(),
            0.4,
            " x",
            over(whole, limit),
        )];
        for (flows, quoted) in VPP_QUOTED {
            goals.push(at_least(
                format!("ovs-dpdk ct+nat, {flows} flows, cycles over ours"),
                8.0,
                " x",
                ratio(OVS, flows),
            ));
            let same_ports = over(self.net(OVS, "packets", flows), self.net(POSTERND, "packets", flows));
            goals.push(told(
                format!("ovs-dpdk ct+nat over posternd, the same ports, {flows} flows, cycles"),
                same_ports,
            ));
            let ran = ratio(VPP, flows);
            let (name, times) = match ran {
                Some(_) => ("vpp nat44-ed", ran),
                None => {
                    ("vpp nat44-ed (quoted, not run)", over(Some(quoted), self.net(STAGES, "packets", flows)))
                }
            };
            goals.push(at_least(format!("{name}, {flows} flows, cycles over ours"), 3.0, " x", times));
        }
        let million = 1_000_000;
        goals.push(at_least(
            "new UDP sessions, 0 to 1M".to_owned(),
            2.0,
            " M/s",
            rate(STAGES, "sessions", million),
        ));
        for system in [OVS, VPP, KERNEL] {
            let times = over(self.net(system, "sessions", million), self.net(STAGES, "sessions", million));
            goals.push(told(format!("new sessions, {system}, cycles over ours"), times));
        }
        goals
    }
}

/// The list, for people.
fn list(goals: &[Goal], verdict: bool) -> String {
    let mut text = format!("{:<62} {:>10} {:>14}  met\n", "goal", "", "measured");
    for g in goals {
        let met = if verdict { g.met } else { "-" };
        let _ = writeln!(text, "{:<62} {:>10} {:>14}  {met}", g.what, g.goal, g.measured);
    }
    text
}

/// Writes and prints them.
pub fn run(ask: &Ask) -> io::Result<()> {
    let rows = Rows::read(&std::fs::read_to_string(&ask.figures)?, ask.hz).map_err(io::Error::other)?;
    let goals = list(&rows.goals(), !ask.no_verdict);
    let comment = |text: &str| text.lines().fold(String::new(), |all, line| all + "# " + line + "\n");
    let notes: String = ask.note.iter().map(|note| comment(note)).collect();
    let table = rows.table();
    print!("{notes}{table}\n{goals}");
    std::fs::write(&ask.table, notes + &table + &comment(&goals))?;
    plot::bars(&ask.plot, "One core, source NAT of UDP, 60 B", "millions a second", &rows.bars())
        .map_err(io::Error::other)
}

/// Prints the figures of what `throughput --json` wrote: of established flows, and of new ones from an empty table.
pub fn postern(file: &Path) -> io::Result<()> {
    let json = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    print!("{}", ours(&json).ok_or_else(|| io::Error::other("these are no figures of throughput"))?);
    Ok(())
}

fn ours(json: &Value) -> Option<String> {
    let megahertz = json.get("tsc_hz")?.as_f64()? / 1e6;
    let mut text = String::new();
    for row in json.get("rows")?.as_array()? {
        let flows = row.get("flows")?.as_u64()?;
        let median = |value: &Value, name: &str| value.get(name)?.get("median")?.as_f64();
        let mut line = |system: &str, what: &str, cycles: f64, apart: f64| {
            let _ = writeln!(text, "{system}\t{what}\t{flows}\t{:.4}\t{apart:.1}", megahertz / cycles);
        };
        if let Some(steady) = row.get("established").filter(|e| !e.is_null()) {
            let (stages, ports) = (median(steady, "stages")?, median(steady, "ports")?);
            line(STAGES, "packets", stages, 0.0);
            line(WHOLE, "packets", stages + ports, ports);
        }
        if let Some(fill) = row.get("new").and_then(|phases| phases.get(0)) {
            line(STAGES, "sessions", median(fill, "cycles_per_flow")?, 0.0);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: f64 = 2e9;

    fn figures(lines: &[(&str, &str, u32, f64, &str)]) -> Rows {
        let text = lines.iter().fold(String::new(), |all, (system, what, flows, rate, apart)| {
            all + &format!("{system}\t{what}\t{flows}\t{rate}\t{apart}\n")
        });
        Rows::read(&text, HZ).unwrap()
    }

    fn met(rows: &Rows, what: &str) -> (String, &'static str) {
        let goal = rows.goals().into_iter().find(|g| g.what.contains(what)).unwrap();
        (goal.measured, goal.met)
    }

    #[test]
    fn a_row_has_the_median_and_its_ratio() {
        let rows = figures(&[
            (POSTERND, "packets", 1000, 10.0, "100"),
            (OVS, "packets", 1000, 2.0, "40"),
            (OVS, "packets", 1000, 4.0, "60"),
            (OVS, "packets", 1000, 1.0, "50"),
            (KERNEL, "packets", 1000, 0.5, "-"),
        ]);
        let table = rows.table();
        let lines: Vec<_> = table.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "posternd, DPDK's null ports\tpackets\t1000\t10.000\t10.000\t10.000\t200\t100\t1.00",
                "ovs-dpdk ct+nat, one pass\tpackets\t1000\t2.000\t1.000\t4.000\t1000\t50\t5.00",
                "kernel nftables masquerade\tpackets\t1000\t0.500\t0.500\t0.500\t4000\t-\t20.00",
            ]
        );
        assert_eq!(rows.bars()[1], ("ovs-dpdk ct+nat, one pass, 1000 flows".to_owned(), [2.0, 1.0, 4.0]));
    }

    #[test]
    fn goals_are_met_or_not() {
        let mut lines = vec![
            (STAGES, "packets", 1000, 20.0, "0"),
            (POSTERND, "packets", 1000, 10.0, "30"),
            (LIMIT, "packets", 1000, 25.0, "30"),
            // 900 cycles of which 50 are the generator's: 8.5 times 100.
            (OVS, "packets", 1000, 2000.0 / 900.0, "50"),
            (STAGES, "sessions", 1_000_000, 1.9, "0"),
        ];
        let rows = figures(&lines);
        assert_eq!(met(&rows, "testpmd"), ("0.40 x".to_owned(), "yes"));
        assert_eq!(met(&rows, "ovs-dpdk ct+nat, 1000 "), ("8.50 x".to_owned(), "yes"));
        assert_eq!(met(&rows, "the same ports, 1000 "), ("5.00 x".to_owned(), "-"));
        assert_eq!(met(&rows, "quoted, not run), 1000 "), ("4.15 x".to_owned(), "yes"));
        assert_eq!(met(&rows, "ovs-dpdk ct+nat, 100000 "), ("not measured".to_owned(), "-"));
        assert_eq!(met(&rows, "new UDP"), ("1.90 M/s".to_owned(), "NO"));
        assert_eq!(met(&rows, "new sessions, ovs"), ("not measured".to_owned(), "-"));
        // Its own figure takes the place of the quoted one.
        lines.push((VPP, "packets", 1000, 8.0, "0"));
        let rows = figures(&lines);
        assert_eq!(met(&rows, "vpp nat44-ed, 1000 "), ("2.50 x".to_owned(), "NO"));
        assert!(list(&rows.goals(), true).contains(" NO\n") && !list(&rows.goals(), false).contains(" NO\n"));
    }

    #[test]
    fn what_is_no_figure_is_refused() {
        for line in ["a\tpackets\t1\t2", "a\tbytes\t1\t2\t-", "a\tpackets\t1\t0\t-", "a\tpackets\tx\t2\t-"] {
            assert!(Rows::read(line, HZ).is_err_and(|e| e.contains("no figure")), "{line}");
        }
    }

    #[test]
    fn figures_of_the_worker_are_read() {
        let json = serde_json::json!({ "tsc_hz": 2e9, "rows": [
            { "flows": 1000, "established": { "stages": { "median": 100.0 }, "ports": { "median": 60.0 } }, "new": [] },
            { "flows": 1_000_000, "established": null, "new": [
                { "phase": "0 to n", "cycles_per_flow": { "median": 800.0 } },
                { "phase": "n to 2n", "cycles_per_flow": { "median": 900.0 } } ] },
        ] });
        let text = ours(&json).unwrap();
        let expected = "postern, stages\tpackets\t1000\t20.0000\t0.0\n\
            postern, with ports, generator and check\tpackets\t1000\t12.5000\t60.0\n\
            postern, stages\tsessions\t1000000\t2.5000\t0.0\n";
        assert_eq!(text, expected);
        assert!(Rows::read(&text, HZ).is_ok() && ours(&Value::Null).is_none());
    }
}
