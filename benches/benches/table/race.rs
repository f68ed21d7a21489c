//! The race: rounds in turns, medians, ratios.

use crate::contestants::{BURST, Contestant, Sessions};
use crate::present;
use benches::rig::flows::Walk;
use benches::rig::meter::Spread;
use benches::rig::probe;
use serde_json::json;

/// Rounds of each table.
const ROUNDS: usize = 301;

/// What one size came to.
pub struct Outcome {
    sessions: u32,
    /// Name, cycles per lookup and touch, whether on hugepages, keys in a stash.
    tables: Vec<(&'static str, Spread, bool, u64)>,
}

/// Races the tables on random keys of the sessions.
pub fn run(sessions: &Sessions, tables: &[Box<dyn Contestant + '_>]) -> Outcome {
    let mut walk = Walk::new(11);
    let mut cycles = vec![Vec::new(); tables.len()];
    for _ in 0..ROUNDS {
        for (table, cycles) in tables.iter().zip(&mut cycles) {
            // Keys of its own: nobody finds lines that another has warmed.
            let keys = present(&mut walk, sessions);
            let from = probe::cycles();
            let found: usize = keys.chunks_exact(BURST).map(|burst| table.lookup(burst)).sum();
            let spent = probe::cycles() - from;
            assert_eq!(found, keys.len(), "{}", table.name());
            cycles.push(spent as f64 / keys.len() as f64);
        }
    }
    let tables = tables.iter().zip(cycles);
    let tables = tables.map(|(t, c)| (t.name(), Spread::of(c.into_iter()), t.on_hugepages(), t.stashed()));
    Outcome { sessions: sessions.len(), tables: tables.collect() }
}

impl Outcome {
    /// How many times ours a table's median is.
    fn times(&self, name: &str) -> Option<f64> {
        let ours = self.tables.first()?.1.median;
        let other = self.tables.iter().find(|t| t.0 == name)?.1.median;
        Some(other / ours)
    }
}

/// Prints the table, and writes it as JSON where `RACE_JSON` says.
pub fn report(outcomes: &[Outcome]) {
    println!(
        "\nBulk lookup and touch of the session ({BURST} keys at once, both directions, random order, table full to its capacity,\n\
         in turns, {ROUNDS} rounds): TSC cycles per key, median (least), and how many times ours."
    );
    println!(
        "{:>10}  {:<12} {:>8} {:>8} {:>7} {:>6} {:>8}",
        "sessions", "table", "cycles", "least", "x ours", "pages", "stashed"
    );
    let mut rows = Vec::new();
    for outcome in outcomes {
        for (name, cycles, huge, stashed) in &outcome.tables {
            println!(
                "{:>10}  {name:<12} {:>8.1} {:>8.1} {:>7.2} {:>6} {stashed:>8}",
                outcome.sessions,
                cycles.median,
                cycles.min,
                outcome.times(name).unwrap_or(0.0),
                if *huge { "huge" } else { "small" },
            );
        }
        rows.push(json!({
            "sessions": outcome.sessions,
            "cycles": outcome.tables.iter().map(|t| (t.0, t.1.median)).collect::<std::collections::BTreeMap<_, _>>(),
            "on_hugepages": outcome.tables.iter().map(|t| (t.0, t.2)).collect::<std::collections::BTreeMap<_, _>>(),
            "times_librte_hash": outcome.times("librte_hash"),
            "times_hashbrown": outcome.times("hashbrown"),
        }));
    }
    println!("No insert failed below the configured capacity.");
    if let Some(path) = std::env::var_os("RACE_JSON")
        && let Err(error) = std::fs::write(&path, json!({ "rows": rows }).to_string())
    {
        eprintln!("table: {}: {error}", path.display());
    }
}
