//! What ALGs cost: the same traffic through a gateway whose ALGs are on and through one whose ALGs are off, in turns.

use crate::cases::{Case, Workload};
use crate::report::{Machine, Row};
use benches::rig::gateway::Rig;
use benches::rig::meter::{Run, Spread};
use benches::rig::spec::{RigError, Spec};
use benches::rig::talk::Exchange;
use benches::rig::talk::peers::Dialogue;
use benches::rig::wire::Plan;
use benches::rig::{frame::Kind, wire::Size};
use dataplane::counters::Counter;
use dataplane::table::Direction;
use serde_json::{Value, json};

/// Packets of a turn of traffic that no ALG reads.
const PACKETS_A_TURN: u64 = 65_536;
/// So many packets of other workloads take the time of one message.
const PACKETS_A_MESSAGE: u64 = 16;

/// One turn of each.
#[derive(Clone, Debug)]
pub struct Turn {
    /// ALGs on.
    on: Run,
    /// ALGs off.
    off: Run,
    /// Messages, or packets where nobody reads any, of each of the two.
    units: u64,
}

/// All turns of a case.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    list: Vec<Turn>,
    /// Pinholes that were opened, the set-up's included, for each message.
    pinholes: f64,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn each(run: &Run, units: u64) -> f64 {
    run.stages() * run.offered as f64 / units.max(1) as f64
}

impl Turns {
    /// Those of which something was measured: not turns during whose polls somebody else had the core all the time.
    fn of(turns: impl Iterator<Item = Turn>) -> Vec<Turn> {
        let counted = |run: &Run| run.set_aside < run.offered;
        turns.filter(|t| counted(&t.on) && counted(&t.off)).collect()
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All runs, for what they say besides.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.list.iter().flat_map(|t| [&t.on, &t.off])
    }

    fn spread(&self, of: impl Fn(&Turn) -> f64) -> Spread {
        Spread::of(self.list.iter().map(of))
    }

    /// Stage cycles of a message with ALGs.
    fn on(&self) -> Spread {
        self.spread(|t| each(&t.on, t.units))
    }

    /// And without.
    fn off(&self) -> Spread {
        self.spread(|t| each(&t.off, t.units))
    }

    /// What the ALG adds: the differences within a turn.
    fn added(&self) -> Spread {
        self.spread(|t| each(&t.on, t.units) - each(&t.off, t.units))
    }

    /// The same in percent.
    pub fn added_percent(&self) -> Spread {
        self.spread(|t| (each(&t.on, t.units) / each(&t.off, t.units) - 1.0) * 100.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn packets(&self) -> f64 {
        self.spread(|t| t.on.offered as f64 / t.units.max(1) as f64).median
    }
}

/// Turns about: on and off, then off and on.
fn alternate<T>(turns: u64, mut turn: impl FnMut(bool) -> T) -> Vec<[T; 2]> {
    (0..turns)
        .map(|n| {
            if n % 2 == 0 {
                let on = turn(true);
                [on, turn(false)]
            } else {
                let off = turn(false);
                [turn(true), off]
            }
        })
        .collect()
}

fn note(row: &mut Row, (checked, wrong, faults): (u64, u64, &[String])) {
    row.checked += checked;
    row.wrong += wrong;
    row.faults.extend_from_slice(faults);
}

/// Messages of an exchange.
///
/// # Errors
/// See [`RigError`].
pub fn messages(row: &mut Row, exchange: Exchange, machine: &Machine) -> Result<(), RigError> {
    let Case { flows, split, .. } = row.case;
    let build = |algs| {
        let spec = Spec { algs, ..row.case.spec() };
        Rig::talking(&spec, machine.frequency, (exchange, split), flows)
    };
    let mut rigs = [build(true)?, build(false)?];
    let rounds = exchange.messages_a_cycle();
    let a_turn = u64::from(rounds) * u64::from(flows.max(1));
    let wanted = u64::from(machine.packets) / PACKETS_A_MESSAGE * u64::from(machine.repetitions);
    let runs = alternate((wanted / a_turn).max(4), |on| rigs[usize::from(!on)].talk(rounds));
    row.algs.list = Turns::of(runs.into_iter().map(|[(on, units), (off, _)]| Turn { on, off, units }));
    let [on, off] = &rigs;
    row.drops = on.drops();
    row.drops.extend(off.drops());
    row.algs.pinholes = pinholes(on);
    for rig in &rigs {
        note(row, rig.traffic().borrow().verdict());
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn pinholes(rig: &Rig<Dialogue>) -> f64 {
    rig.counter(Counter::ExpectationsOpened) as f64 / rig.traffic().borrow().said().max(1) as f64
}

/// Traffic of established sessions that no ALG reads.
///
/// # Errors
/// See [`RigError`].
pub fn unread(row: &mut Row, machine: &Machine) -> Result<(), RigError> {
    let flows = row.case.flows;
    let build = |algs| {
        let mut rig = Rig::new(&Spec { algs, ..row.case.spec() }, machine.frequency)?;
        rig.open(0, flows, true);
        rig.set_control(false);
        rig.wire().borrow_mut().set_strict(false);
        rig.wire().borrow_mut().set_size(row.case.size);
        Ok::<_, RigError>(rig)
    };
    let mut rigs = [build(true)?, build(false)?];
    let wanted = u64::from(machine.packets) * u64::from(machine.repetitions);
    let runs = alternate((wanted / PACKETS_A_TURN).max(4), |on| {
        let rig = &mut rigs[usize::from(!on)];
        let plan = Plan::Random { flows, left: PACKETS_A_TURN };
        rig.wire().borrow_mut().plan(Direction::Forward, plan, Kind::Data);
        rig.run()
    });
    row.algs.list = Turns::of(runs.into_iter().map(|[on, off]| Turn { on, off, units: PACKETS_A_TURN }));
    for rig in &rigs {
        note(row, rig.wire().borrow().verdict());
    }
    Ok(())
}

/// The cases of the suite.
pub fn suite(base: &Case) -> Vec<Case> {
    let mut cases = vec![Case { workload: Workload::AlgsIdle, size: Size::Fixed(60), ..base.clone() }];
    for exchange in Exchange::ALL {
        for split in [false, true] {
            if !split || exchange != Exchange::SipUdp {
                cases.push(Case { workload: Workload::Alg, exchange, split, ..base.clone() });
            }
        }
    }
    cases
}

/// The tables.
pub fn tables(machine: &Machine, rows: &[Row]) {
    let of = |workload| rows.iter().filter(move |r| r.case.workload == workload && !r.algs.is_empty());
    if of(Workload::Alg).next().is_some() {
        println!(
            "\nMessages that an ALG reads: stage cycles of a message with ALGs on, and of the same messages with ALGs off, in turns; `added`\n\
             is the median of the differences. Pinholes are opened and closed on the way; the control core's turns are apart. Million\n\
             messages a second are those of one core, ports, generator and check left out. Ports have no hold-down."
        );
        println!(
            "{:<40} {:>7} {:>15} {:>7} {:>7} {:>15} {:>7} {:>8} {:>8} {:>6}",
            "messages", "on", "min-max", "off", "added", "min-max", "M/s", "packets", "pinholes", "wrong"
        );
    }
    for row in of(Workload::Alg) {
        let (on, added) = (row.algs.on(), row.algs.added());
        println!(
            "{:<40} {:>7.0} {:>15} {:>7.0} {:>7.0} {:>15} {:>7.3} {:>8.2} {:>8.2} {:>6}",
            row.case.name(),
            on.median,
            format!("{:.0}-{:.0}", on.min, on.max),
            row.algs.off().median,
            added.median,
            format!("{:.0}-{:.0}", added.min, added.max),
            machine.frequency / 1e6 / on.median.max(1.0),
            row.algs.packets(),
            row.algs.pinholes,
            row.wrong,
        );
    }
    for row in of(Workload::AlgsIdle) {
        let more = row.algs.added_percent();
        println!(
            "\nTraffic that no ALG reads ({}), all ALGs on beside all off, in {} turns: {:.1} and {:.1} cycles a packet, {:+.2} % in the\n\
             median ({:+.2} to {:+.2}).",
            row.case.name(),
            row.algs.list.len(),
            row.algs.on().median,
            row.algs.off().median,
            more.median,
            more.min,
            more.max
        );
    }
}

/// A row's object, if it was measured.
pub fn json(machine: &Machine, row: &Row) -> Option<Value> {
    if row.algs.is_empty() {
        return None;
    }
    let three = |s: Spread| json!({ "median": s.median, "min": s.min, "max": s.max });
    let on = row.algs.on();
    let mut object = json!({
        "turns": row.algs.list.len(),
        "on": three(on),
        "off": three(row.algs.off()),
        "added": three(row.algs.added()),
        "added_percent": three(row.algs.added_percent()),
        "per_second": machine.frequency / on.median.max(1.0),
        "packets": row.algs.packets(),
    });
    if row.case.workload == Workload::Alg {
        object["split"] = row.case.split.into();
        object["pinholes"] = row.algs.pinholes.into();
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_change_who_begins() {
        let mut order = Vec::new();
        let pairs = alternate(2, |on| {
            order.push(on);
            on
        });
        assert_eq!(order, [true, false, false, true]);
        assert_eq!(pairs, [[true, false], [true, false]]);
    }

    #[test]
    fn what_is_added_is_the_difference_within_a_turn() {
        let run = |total, apart| Run { offered: 20, total, apart, ..Run::default() };
        let turn = |on: u64, off: u64| Turn { on: run(on + 7, 7), off: run(off + 9, 9), units: 10 };
        let turns = Turns { list: vec![turn(300, 100), turn(900, 800), turn(500, 300)], pinholes: 0.0 };
        assert!((turns.added().median - 20.0).abs() < 1e-9 && (turns.on().median - 50.0).abs() < 1e-9);
        assert!((turns.added_percent().median - 66.6).abs() < 0.1 && (turns.packets() - 2.0).abs() < 1e-9);
    }
}
