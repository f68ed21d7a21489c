//! What was found, as a table for people, tab-separated values, and plots.

use crate::search::Answer;
use crate::suite::{Row, Suite};
use benches::plot::{self, Bar, Line, PlotError};
use std::fmt::Write;
use std::path::Path;

/// The columns of the tab-separated values.
pub const COLUMNS: &str = "procedure\tsize\tat\tbound\tvalue\tunit\tgbit_s_on_the_link\tlimit\toffered\treturned\twrong\tp50_ns\tp90_ns\tp99_ns\tp99_9_ns\tmax_ns\ttrials";

impl Suite {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Loss => "loss",
            Self::Bursts => "bursts",
            Self::Recovery => "recovery",
            Self::NewUdp => "new-udp",
            Self::NewTcp => "new-tcp",
            Self::Sessions => "sessions",
            Self::SessionsTcp => "sessions-tcp",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Throughput | Self::Latency | Self::Loss => "frames/s",
            Self::Bursts => "frames",
            Self::Recovery => "ms",
            Self::NewUdp | Self::NewTcp => "sessions/s",
            Self::Sessions | Self::SessionsTcp => "sessions",
        }
    }
}

const fn bound(answer: Answer) -> &'static str {
    match answer {
        Answer::Exactly(_) => "=",
        Answer::AtLeast(_) => ">=",
        Answer::Below(_) => "<",
    }
}

fn gigabits(row: &Row) -> Option<f64> {
    matches!(row.suite, Suite::Throughput | Suite::Latency | Suite::Loss)
        .then(|| row.answer.load() * row.size.bits_on_the_link() / 1e9)
}

/// Tab-separated values, a header first.
#[must_use]
pub fn tsv(rows: &[Row]) -> String {
    let mut out = format!("{COLUMNS}\n");
    for row in rows {
        let o = &row.outcome;
        let gbit = gigabits(row).map_or_else(|| "-".to_owned(), |g| format!("{g:.4}"));
        let limit = row.limit.map_or_else(|| "-".to_owned(), |limit| format!("{limit:.0}"));
        let _ = write!(
            out,
            "{}\t{}\t{}\t{}\t{:.0}\t{}\t{gbit}\t{limit}\t{}\t{}\t{}",
            row.suite.name(),
            row.size,
            row.at,
            bound(row.answer),
            row.answer.load(),
            row.suite.unit(),
            o.offered,
            o.returned,
            o.wrong,
        );
        match o.latency {
            Some(l) => {
                let _ = write!(out, "\t{}\t{}\t{}\t{}\t{}", l.p50, l.p90, l.p99, l.p99_9, l.max);
            }
            None => out.push_str("\t-\t-\t-\t-\t-"),
        }
        let _ = writeln!(out, "\t{}", row.trials);
    }
    out
}

/// A table for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<12} {:>5} {:>7}  {:>2} {:>14} {:<10} {:>8} {:>9} {:>10} {:>10} {:>10}\n",
        "procedure", "size", "at", "", "value", "unit", "Gbit/s", "of limit", "loss", "p50 us", "p99.9 us"
    );
    for row in rows {
        let us = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
        let (p50, p999) = row.outcome.latency.map_or(("-".into(), "-".into()), |l| (us(l.p50), us(l.p99_9)));
        let gbit = gigabits(row).map_or_else(|| "-".to_owned(), |g| format!("{g:.3}"));
        let at = match row.suite {
            Suite::Latency | Suite::Loss | Suite::Recovery => format!("{:.0} %", row.at * 100.0),
            Suite::Throughput => format!("{} %", row.at * 100.0),
            _ => "-".to_owned(),
        };
        let limit = row
            .limit
            .map_or_else(|| "-".to_owned(), |limit| format!("{:.1} %", row.answer.load() / limit * 100.0));
        let wrong =
            if row.outcome.wrong > 0 { format!("  {} wrong", row.outcome.wrong) } else { String::new() };
        let _ = writeln!(
            out,
            "{:<12} {:>5} {at:>7}  {:>2} {:>14.0} {:<10} {gbit:>8} {limit:>9} {:>10.6} {p50:>10} {p999:>10}{wrong}",
            row.suite.name(),
            row.size.to_string(),
            bound(row.answer),
            row.answer.load(),
            row.suite.unit(),
            row.outcome.loss(),
        );
    }
    out
}

/// Writes the tab-separated values: `ndr.tsv`.
///
/// # Errors
/// It cannot be written.
pub fn write(folder: &Path, rows: &[Row]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("ndr.tsv"), tsv(rows))
}

/// Writes the plots that the rows allow: `throughput.svg`, `latency.svg`.
///
/// # Errors
/// A file cannot be written.
pub fn plots(folder: &Path, title: &str, rows: &[Row]) -> Result<(), PlotError> {
    let bars: Vec<Bar> = rows
        .iter()
        .filter(|row| row.suite == Suite::Throughput)
        .map(|row| {
            let million = row.answer.load() / 1e6;
            let name = format!("{} B, loss <= {} % {}", row.size, row.at * 100.0, bound(row.answer));
            (name, [million; 3])
        })
        .collect();
    if !bars.is_empty() {
        plot::bars(&folder.join("throughput.svg"), title, "million frames a second", &bars)?;
    }
    let mut lines: Vec<Line> = Vec::new();
    for row in rows.iter().filter(|row| row.suite == Suite::Latency) {
        let Some(latency) = row.outcome.latency else { continue };
        for (what, ns) in [("p50", latency.p50), ("p99.9", latency.p99_9)] {
            let name = format!("{} B {what}", row.size);
            let point = (row.at * 100.0, ns as f64 / 1000.0);
            match lines.iter_mut().find(|line| line.0 == name) {
                Some(line) => line.1.push(point),
                None => lines.push((name, vec![point])),
            }
        }
    }
    if !lines.is_empty() {
        plot::lines(
            &folder.join("latency.svg"),
            title,
            ("% of the rate without loss", "microseconds"),
            &lines,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Latency, Outcome, Size};

    fn rows() -> Vec<Row> {
        let latency = Some(Latency { p50: 5_100, p90: 6_000, p99: 7_000, p99_9: 40_250, max: 90_000 });
        let outcome = Outcome { offered: 1000, returned: 999, seconds: 1.0, latency, ..Outcome::default() };
        let limit = Some(1_488_095.2);
        let row =
            |suite, at, answer| Row { suite, size: Size::Fixed(64), at, answer, limit, outcome, trials: 9 };
        vec![
            row(Suite::Throughput, 0.001, Answer::Exactly(1_488_095.0)),
            row(Suite::Latency, 0.5, Answer::Exactly(744_047.0)),
            Row {
                outcome: Outcome::default(),
                limit: None,
                ..row(Suite::NewTcp, 0.0, Answer::AtLeast(1_000_000.0))
            },
            Row { outcome: Outcome::default(), limit: None, ..row(Suite::Sessions, 0.0, Answer::Below(1.0)) },
            Row { limit: None, ..row(Suite::SessionsTcp, 0.0, Answer::Exactly(50_000.0)) },
            Row { limit: None, ..row(Suite::Recovery, 1.1, Answer::Exactly(3.0)) },
        ]
    }

    #[test]
    fn every_line_has_every_column() {
        let text = tsv(&rows());
        let columns = COLUMNS.split('\t').count();
        assert!(text.lines().all(|line| line.split('\t').count() == columns), "{text}");
        let first: Vec<_> = text.lines().nth(1).unwrap().split('\t').collect();
        let expected = ["throughput", "64", "0.001", "=", "1488095", "frames/s", "1.0000", "1488095"];
        assert_eq!(first[..8], expected);
        assert!(text.contains("new-tcp\t64\t0\t>=\t1000000\tsessions/s\t-\t-\t"));
        assert!(text.contains("\nsessions\t64\t0\t<\t1\tsessions\t-\t"));
        assert!(text.contains("\nsessions-tcp\t64\t0\t=\t50000\tsessions\t-\t"));
        assert!(text.contains("\nrecovery\t64\t1.1\t=\t3\tms\t-\t-\t"));
    }

    #[test]
    fn people_see_bounds_and_microseconds() {
        let text = table(&rows());
        for words in ["0.1 %", "50 %", "100.0 %", "50.0 %", "110 %", ">=", "5.1", "40.2"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn plots_are_written_where_there_is_something_to_show() {
        let folder = tempfile::tempdir().unwrap();
        plots(folder.path(), "t", &rows()).unwrap();
        for (file, words) in [("throughput.svg", "64 B"), ("latency.svg", "p99.9")] {
            assert!(std::fs::read_to_string(folder.path().join(file)).unwrap().contains(words));
        }
        let empty = tempfile::tempdir().unwrap();
        plots(empty.path(), "t", &[]).unwrap();
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    }
}
