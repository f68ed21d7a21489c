//! Throughput of workers: cycles per packet in the stages, apart from the ports, the generator and the check.
//!
//! Without flags for a single workload it runs the suite. See `--help`; `benches/README.md` says how to read it.

mod ageing;
mod args;
mod cases;
mod collect;
mod goals;
mod latency;
mod report;
mod several;
mod turns;

use args::Args;
use benches::rig::crew::Crew;
use benches::rig::gateway::{Rig, Time};
use benches::rig::meter::{Run, Spread};
use benches::rig::spec::{RigError, Spec};
use benches::rig::wire::Plan;
use benches::rig::{flows, frame::Kind, probe};
use cases::{Case, Workload};
use clap::Parser;
use dataplane::key::Protocol;
use dataplane::table::Direction;
use report::{Machine, Row};
use std::fmt::Display;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Of so many packets one more is sent to tell the parts of the stages apart.
const SPLIT: u32 = 4;
/// Most virtual milliseconds in which all sessions end: twice their timeout, and as much for their grace periods.
const MOST_DRAIN: u32 = 4000;
/// Virtual milliseconds that the mix of established and new flows takes: those that begin in its first three quarters end in it.
const MIX_MS: u32 = 4000;

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(packets) = args.callgrind else { return measure(&args) };
    let Some(case) = args.cases().into_iter().next() else { return ExitCode::FAILURE };
    match collect::run(&case, packets) {
        Ok((0, 0)) => ExitCode::SUCCESS,
        Ok((wrong, lost)) => fail(&format!("{wrong} wrong packets, {lost} lost")),
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn Display) -> ExitCode {
    eprintln!("throughput: {error}");
    ExitCode::FAILURE
}

fn measure(args: &Args) -> ExitCode {
    let cores = several::cores();
    let pinned = pin(args.cpu);
    let machine = Machine {
        frequency: probe::frequency(),
        overhead: probe::overhead(),
        cpu: pinned,
        burst: args.burst,
        packets: args.packets(),
        repetitions: args.repetitions.max(1),
    };
    if !args.json {
        report::head(&machine);
    }
    let mut cases = args.cases();
    cases.retain(|case| match missing(case, &cores) {
        None => true,
        Some(reason) => {
            eprintln!("throughput: {}: skipped: {reason}", case.name());
            false
        }
    });
    let mut bench = Bench { machine, calibration: Vec::new(), rigs: Vec::new(), crews: Vec::new(), cores };
    let mut rows: Vec<Row> = cases.into_iter().map(Row::new).collect();
    if let Err(error) = bench.repeat(&mut rows) {
        return fail(&error);
    }
    let Bench { machine, calibration, .. } = bench;
    let of = |f: fn(&probe::Calibration) -> f64| Spread::of(calibration.iter().map(f));
    let calibration = [of(|c| c.latency), of(|c| c.width)];
    let json = report::json(&machine, calibration, &rows);
    if args.json {
        println!("{json}");
    } else {
        report::tables(&machine, calibration, &rows);
        latency::table(&rows);
        several::tables(&machine, &rows);
        turns::tables(&machine, &rows);
        ageing::table(&machine, &rows);
    }
    if let Some(path) = &args.json_to
        && let Err(error) = std::fs::write(path, json.to_string())
    {
        return fail(&format!("{}: {error}", path.display()));
    }
    if let Some(path) = &args.plot
        && let Err(error) = latency::plot(path, &rows)
    {
        return fail(&error);
    }
    if let Some(path) = &args.goals {
        goals::print(&machine, &rows, path);
    }
    let mut code = ExitCode::SUCCESS;
    for row in &rows {
        if let Some(loss) = row.unexpected_loss() {
            eprintln!("throughput: {}: {loss}", row.case.name());
            code = ExitCode::FAILURE;
        }
    }
    let wrong: u64 = rows.iter().map(|row| row.wrong).sum();
    if wrong > 0 {
        eprintln!("throughput: {wrong} packets came out wrong");
        for fault in rows.iter().flat_map(|row| &row.faults) {
            eprintln!("throughput: {fault}");
        }
        code = ExitCode::FAILURE;
    }
    code
}

/// Why a case cannot run here, if it cannot.
fn missing(case: &Case, cores: &[usize]) -> Option<String> {
    if matches!(case.workload, Workload::Cores | Workload::Ageing)
        && cores.len() < usize::from(cases::SEVERAL)
    {
        return Some("it needs two cores".to_owned());
    }
    case.memory_missing()
}

/// Binds this thread to a core; which one, if that worked.
fn pin(cpu: Option<usize>) -> Option<usize> {
    let cores = core_affinity::get_core_ids()?;
    let id = match cpu {
        Some(wanted) => cores.into_iter().find(|c| c.id == wanted)?,
        None => cores.into_iter().next_back()?,
    };
    core_affinity::set_for_current(id).then_some(id.id)
}

/// Notes what a rig says of itself and of the packets that it checked since the last time.
fn note(row: &mut Row, rig: &Rig) {
    let mut wire = rig.wire().borrow_mut();
    let (checked, wrong, faults) = wire.take_verdict();
    row.checked += checked;
    row.wrong += wrong + wire.misplaced() as u64;
    row.faults.extend(faults);
    row.memory = rig.memory();
    row.sessions = row.sessions.max(rig.sessions());
    row.drops = rig.drops();
}

/// The measuring, repetition by repetition.
struct Bench {
    machine: Machine,
    calibration: Vec<probe::Calibration>,
    /// A rig serves all established cases that differ only in their traffic.
    rigs: Vec<(Spec, u32, Rig)>,
    crews: Vec<(Spec, u32, Crew)>,
    /// Of workers on cores of their own.
    cores: Vec<usize>,
}

impl Bench {
    /// All repetitions, interleaved; those of big cases one after the other.
    fn repeat(&mut self, rows: &mut [Row]) -> Result<(), RigError> {
        for repetition in 1..=self.machine.repetitions {
            for row in rows.iter_mut().filter(|row| !row.case.is_big()) {
                self.once(row, repetition)?;
            }
        }
        self.rigs.clear();
        self.crews.clear();
        for row in rows.iter_mut().filter(|row| row.case.is_big()) {
            for repetition in 1..=self.machine.repetitions {
                self.once(row, repetition)?;
            }
            self.rigs.clear();
            self.crews.clear();
        }
        Ok(())
    }

    fn once(&mut self, row: &mut Row, repetition: u32) -> Result<(), RigError> {
        if std::io::stderr().is_terminal() {
            eprintln!("throughput: {repetition} of {}: {}", self.machine.repetitions, row.case.name());
        }
        self.calibration.push(probe::calibration());
        match row.case.workload {
            Workload::Established => self.established(row),
            Workload::New => self.new_sessions(row),
            Workload::Mix => self.mix(row),
            Workload::Latency => self.latency(row),
            Workload::Handoff => self.handoff(row),
            // Its repetitions are interleaved within.
            Workload::Cores if repetition == 1 => self.cores(row),
            Workload::Alg if repetition == 1 => turns::messages(row, row.case.exchange, &self.machine),
            Workload::AlgsIdle if repetition == 1 => turns::unread(row, &self.machine),
            Workload::Cores | Workload::Alg | Workload::AlgsIdle => Ok(()),
            Workload::Ageing => self.ageing(row),
        }
    }

    /// The rig of a case, its flows open.
    fn rig(&mut self, case: &Case) -> Result<&mut Rig, RigError> {
        let spec = case.spec();
        let at = match self.rigs.iter().position(|(s, flows, _)| *s == spec && *flows == case.flows) {
            Some(at) => at,
            None => {
                let mut rig = Rig::new(&spec, self.machine.frequency)?;
                rig.open(0, case.flows, true);
                // Control rests: what it has to do is measured with new sessions.
                rig.set_control(false);
                self.rigs.push((spec, case.flows, rig));
                self.rigs.len() - 1
            }
        };
        Ok(&mut self.rigs[at].2)
    }

    fn established(&mut self, row: &mut Row) -> Result<(), RigError> {
        let (packets, burst) = (self.machine.packets, self.machine.burst);
        let rig = self.rig(&row.case)?;
        let flows = row.case.flows;
        let plan = |left| Plan::Random { flows, left };
        row.runs.push(traffic(&row.case, (packets, burst), rig, plan));
        // What parts the stages have is measured apart, since it costs the stages something.
        rig.wire().borrow_mut().set_splits(true);
        row.split.push(traffic(&row.case, (packets / SPLIT, burst), rig, plan));
        rig.wire().borrow_mut().set_splits(false);
        note(row, rig);
        Ok(())
    }

    /// Fill from empty to n, from n to 2n, then n more while as many end; then nothing comes, and all end.
    fn new_sessions(&mut self, row: &mut Row) -> Result<(), RigError> {
        let n = row.case.flows;
        let mut rig = Rig::new(&row.case.spec(), self.machine.frequency)?;
        let packets_per_flow = if row.case.protocol == Protocol::Tcp { 3 } else { 1 };
        // 2n live when the first end.
        let per_ms = (2 * n / 1000).max(1);
        rig.set_time(Time::Packets(per_ms * packets_per_flow));
        {
            let mut wire = rig.wire().borrow_mut();
            wire.set_burst(self.machine.burst);
            wire.set_strict(false);
            wire.set_learn(true);
        }
        rig.wire().borrow_mut().make_room(n.saturating_mul(cases::PHASES));
        for phase in 0..cases::PHASES {
            let from = phase * n;
            let run = rig.open(from, from + n, false);
            match phase {
                0 => row.fill.push(run),
                1 => row.grow.push(run),
                // The first sessions end at the start of the third: it settles there.
                2 => row.settling.push(run),
                _ => row.churn.push(run),
            }
        }
        note(row, &rig);
        let open = rig.sessions();
        let run = rig.drain(MOST_DRAIN);
        row.kept += rig.sessions();
        row.ended += open;
        row.delete.push(run);
        Ok(())
    }

    /// A tenth of the packets begin a flow that ends a second later.
    fn mix(&mut self, row: &mut Row) -> Result<(), RigError> {
        let case = row.case.clone();
        let flows = case.flows;
        let mut rig = Rig::new(&case.spec(), self.machine.frequency)?;
        rig.open(0, flows, true);
        rig.set_time(Time::Packets((self.machine.packets / MIX_MS).max(1)));
        let next = flows.next_multiple_of(flows::ENDPOINTS);
        rig.wire().borrow_mut().make_room(next + self.machine.packets / 10 + 1);
        let shape = (self.machine.packets, self.machine.burst);
        let run = traffic(&case, shape, &mut rig, |left| Plan::Mix { flows, left, next });
        row.endless |= run.freed == 0;
        row.runs.push(run);
        note(row, &rig);
        Ok(())
    }

    fn latency(&mut self, row: &mut Row) -> Result<(), RigError> {
        let machine = self.machine;
        let rig = self.rig(&Case { workload: Workload::Established, ..row.case.clone() })?;
        row.latency.push(latency::measure(&row.case, &machine, rig));
        note(row, rig);
        Ok(())
    }

    fn handoff(&mut self, row: &mut Row) -> Result<(), RigError> {
        let spec = row.case.spec();
        let flows = row.case.flows;
        let at = match self.crews.iter().position(|(s, f, _)| *s == spec && *f == flows) {
            Some(at) => at,
            None => {
                self.crews.push((spec.clone(), flows, Crew::new(&spec, flows)?));
                self.crews.len() - 1
            }
        };
        let pair = several::in_turns(&mut self.crews[at].2, u64::from(self.machine.packets));
        row.verdict(&pair);
        row.turns.push(pair);
        Ok(())
    }

    fn ageing(&mut self, row: &mut Row) -> Result<(), RigError> {
        let (packets, burst) = (self.machine.packets, self.machine.burst);
        let spec = row.case.spec();
        let flows = row.case.flows;
        let at = match self.rigs.iter().position(|(s, f, _)| *s == spec && *f == flows) {
            Some(at) => at,
            None => {
                self.rigs.push((spec.clone(), flows, ageing::rig(&spec, flows, self.machine.frequency)?));
                self.rigs.len() - 1
            }
        };
        let rig = &mut self.rigs[at].2;
        // The worker has the last core, and control the one before.
        let control = self.cores.get(1).copied().unwrap_or(0);
        let ages_first = row.ageing.len() % 2 == 1;
        row.ageing.push(ageing::pair(rig, flows, (packets, burst), control, ages_first));
        note(row, rig);
        Ok(())
    }

    fn cores(&mut self, row: &mut Row) -> Result<(), RigError> {
        row.cores = several::on_cores(&row.case, &self.machine, &self.cores)?;
        for triple in row.cores.clone() {
            row.verdict(&triple);
        }
        Ok(())
    }
}

fn traffic(case: &Case, (packets, burst): (u32, usize), rig: &mut Rig, plan: impl Fn(u64) -> Plan) -> Run {
    let packets = u64::from(packets);
    {
        let mut wire = rig.wire().borrow_mut();
        wire.set_strict(false);
        wire.set_size(case.size);
        wire.set_burst(burst);
        let left = if case.both { packets / 2 } else { packets };
        wire.plan(Direction::Forward, plan(left), Kind::Data);
        let reverse = if case.both { Plan::Random { flows: case.flows, left } } else { Plan::Idle };
        wire.plan(Direction::Reverse, reverse, Kind::Data);
    }
    let run = rig.run();
    rig.wire().borrow_mut().set_strict(true);
    run
}
