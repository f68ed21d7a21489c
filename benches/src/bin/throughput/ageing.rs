//! Ageing: what it costs the worker that the control core looks at the sessions, one after the other, on a core of its own.
//!
//! All sessions open within one second of virtual time, which is their timeout, and are used once more at its end. In the
//! second that follows control comes to each of them, finds it used, and sets it down for later. A repetition is a slice of
//! that second, and as many packets while control rests.

use crate::report::{Machine, Row};
use benches::rig::frame::Kind;
use benches::rig::gateway::{Rig, Time, Turns};
use benches::rig::meter::{Run, Spread};
use benches::rig::spec::{RigError, Spec};
use benches::rig::wire::Plan;
use dataplane::table::Direction;
use serde_json::{Value, json};

/// Virtual milliseconds of one repetition: so many thousandths of the sessions are looked at. Two turns of control's wheel;
/// three repetitions fit the second.
const SLICE: u32 = 256;

/// Control rests, control ages.
pub struct Pair {
    /// What the worker took while control rested.
    pub rests: Run,
    /// What it took while control aged.
    pub ages: Run,
    turns: Turns,
}

/// A gateway whose sessions are due in the second that begins now.
///
/// # Errors
/// See [`RigError`].
pub fn rig(spec: &Spec, flows: u32, frequency: f64) -> Result<Rig, RigError> {
    let mut rig = Rig::new(spec, frequency)?;
    rig.set_time(Time::Packets(flows.div_ceil(900)));
    rig.open(0, flows, false);
    rig.set_time(Time::Packets(u32::MAX));
    rig.open(0, flows, false);
    rig.set_control(false);
    // On to the moment at which the first of them are due.
    rig.set_time(Time::Packets(1));
    rig.wire().borrow_mut().plan(Direction::Forward, Plan::Random { flows, left: 110 }, Kind::Data);
    rig.run();
    rig.set_time(Time::Packets(u32::MAX));
    Ok(rig)
}

/// One repetition of each. Which comes first is to change: what comes second finds the host another.
pub fn pair(
    rig: &mut Rig,
    flows: u32,
    (packets, burst): (u32, usize),
    control: usize,
    ages_first: bool,
) -> Pair {
    let plan = |rig: &Rig| {
        let mut wire = rig.wire().borrow_mut();
        wire.set_strict(false);
        wire.set_burst(burst);
        wire.plan(Direction::Forward, Plan::Random { flows, left: u64::from(packets) }, Kind::Data);
        wire.plan(Direction::Reverse, Plan::Idle, Kind::Data);
    };
    let rests = |rig: &mut Rig| {
        plan(rig);
        rig.run()
    };
    let before = (!ages_first).then(|| rests(rig));
    plan(rig);
    rig.set_time(Time::Packets((packets / SLICE).max(1)));
    let (ages, turns) = rig.run_beside(control);
    rig.set_time(Time::Packets(u32::MAX));
    let rests = before.unwrap_or_else(|| rests(rig));
    rig.wire().borrow_mut().set_strict(true);
    Pair { rests, ages, turns }
}

fn spread(row: &Row, of: impl Fn(&Pair) -> f64) -> Spread {
    Spread::of(row.ageing.iter().map(of))
}

/// How much more a packet costs while control ages, in percent: the differences within a repetition.
pub fn more_percent(row: &Row) -> Spread {
    spread(row, |pair| (pair.ages.stages() / pair.rests.stages() - 1.0) * 100.0)
}

/// Sessions that control looks at in a second, in millions, and its cycles for each.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn visits(machine: &Machine, row: &Row) -> (Spread, Spread) {
    let seconds = |run: &Run| (run.total.max(1)) as f64 / machine.frequency;
    (
        spread(row, |pair| pair.turns.work as f64 / seconds(&pair.ages) / 1e6),
        spread(row, |pair| pair.turns.cycles as f64 / pair.turns.work.max(1) as f64),
    )
}

/// The table.
pub fn table(machine: &Machine, rows: &[Row]) {
    let mut rows = rows.iter().filter(|row| !row.ageing.is_empty()).peekable();
    if rows.peek().is_none() {
        return;
    }
    println!(
        "\nAgeing: stage cycles of the worker per packet while the control core, on another core, rests, and while it looks at\n\
         sessions whose time may be over: M/s of them, and its cycles for each."
    );
    println!(
        "{:<28} {:>8} {:>8} {:>8} {:>15} {:>8} {:>8} {:>6}",
        "traffic", "rests", "ages", "more", "min-max", "M/s", "cycles", "lost"
    );
    for row in rows {
        let (more, (rate, cycles)) = (more_percent(row), visits(machine, row));
        let lost: u64 = row.ageing.iter().map(|pair| pair.rests.lost() + pair.ages.lost()).sum();
        println!(
            "{:<28} {:>8.1} {:>8.1} {:>6.1} % {:>15} {:>8.2} {:>8.0} {:>6}",
            row.case.name(),
            spread(row, |pair| pair.rests.stages()).median,
            spread(row, |pair| pair.ages.stages()).median,
            more.median,
            format!("{:.1}-{:.1}", more.min, more.max),
            rate.median,
            cycles.median,
            lost,
        );
    }
}

/// A row's object, if it was measured.
pub fn json(machine: &Machine, row: &Row) -> Option<Value> {
    let three = |s: Spread| json!({ "median": s.median, "min": s.min, "max": s.max });
    (!row.ageing.is_empty()).then(|| {
        let (rate, cycles) = visits(machine, row);
        json!({
            "rests": three(spread(row, |pair| pair.rests.stages())),
            "ages": three(spread(row, |pair| pair.ages.stages())),
            "more_percent": three(more_percent(row)),
            "million_visits_a_second": three(rate),
            "control_cycles_a_visit": three(cycles),
        })
    })
}
