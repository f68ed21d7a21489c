//! Throughput of one worker: cycles per packet in the stages, apart from the ports, the generator and the check.
//!
//! Without flags for a single workload it runs the suite. See `--help`; `benches/README.md` says how to read it.

mod cases;
mod report;

use benches::rig::gateway::{Rig, RigError};
use benches::rig::meter::{Run, Spread};
use benches::rig::wire::{Plan, Size};
use benches::rig::{flows, frame::Kind, gateway::Time, probe};
use cases::{Case, Workload};
use clap::{Parser, ValueEnum};
use dataplane::key::Protocol;
use dataplane::memory::Backing;
use dataplane::table::Direction;
use report::Row;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Virtual time where sessions are opened: new flows a millisecond. With a timeout of one second as many thousand live.
const NEW_PER_MS: u32 = 2000;
/// As above, for the mix of established and new flows, in packets a millisecond: a tenth of them are new.
const MIX_PER_MS: u32 = 5000;

/// Measures one worker between two ports of this process.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    /// Run only this workload; the suite otherwise.
    #[arg(long, value_enum)]
    workload: Option<WorkloadArg>,
    /// Transport protocol.
    #[arg(long, value_enum, default_value = "udp")]
    protocol: ProtocolArg,
    /// Flows; a list runs one after the other. K and M are known.
    #[arg(long, value_delimiter = ',', default_value = "1,1k,100k,1M", value_parser = number)]
    flows: Vec<u32>,
    /// Frame length without the FCS: 60 to 1514, or imix (60, 590, 1514 as 7:4:1).
    #[arg(long, default_value = "60", value_parser = size)]
    size: Size,
    /// Packets of both directions.
    #[arg(long)]
    both: bool,
    /// Rules that do not match, before the one that does.
    #[arg(long, default_value_t = 10)]
    rules: u32,
    /// Switch all ALGs off.
    #[arg(long)]
    no_algs: bool,
    /// Packets of one repetition.
    #[arg(long, default_value = "4M", value_parser = number)]
    packets: u32,
    /// Repetitions, interleaved.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Most packets that a port gives at once.
    #[arg(long, default_value_t = dataplane::port::BURST)]
    burst: usize,
    /// Core to run on; default: the last one.
    #[arg(long)]
    cpu: Option<usize>,
    /// A JSON object on standard output instead of the tables.
    #[arg(long)]
    json: bool,
    /// For valgrind --tool=callgrind --collect-atstart=no: after the flows are open, this many packets, counted in the
    /// stages alone. Nothing is timed.
    #[arg(long, value_name = "PACKETS", value_parser = number)]
    callgrind: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadArg {
    /// Flows that exist.
    Established,
    /// Flows that begin and end.
    New,
    /// Nine tenths established, one tenth new.
    Mix,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolArg {
    Udp,
    Tcp,
}

fn number(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let n: u32 =
        digits.parse().map_err(|_| format!("{text:?}: expected a number such as 100, 100k or 8M"))?;
    n.checked_mul(unit).filter(|n| (1..=16_000_000).contains(n)).ok_or_else(|| "expected 1 to 16M".to_owned())
}

fn size(text: &str) -> Result<Size, String> {
    match (text, text.parse()) {
        ("imix", _) => Ok(Size::Imix),
        (_, Ok(len @ 60..=1514)) => Ok(Size::Fixed(len)),
        _ => Err("expected 60 to 1514, or imix".to_owned()),
    }
}

impl Args {
    fn cases(&self) -> Vec<Case> {
        let Some(workload) = self.workload else { return cases::suite() };
        let workload = match workload {
            WorkloadArg::Established => Workload::Established,
            WorkloadArg::New => Workload::New,
            WorkloadArg::Mix => Workload::Mix,
        };
        let case = |flows: &u32| Case {
            workload,
            protocol: match self.protocol {
                ProtocolArg::Udp => Protocol::Udp,
                ProtocolArg::Tcp => Protocol::Tcp,
            },
            flows: *flows,
            size: self.size,
            both: self.both,
            rules: self.rules,
            algs: !self.no_algs,
        };
        self.flows.iter().map(case).collect()
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.callgrind {
        Some(packets) => callgrind(&args, packets),
        None => measure(&args),
    }
}

/// The fixed run for callgrind: the first case.
fn callgrind(args: &Args, packets: u32) -> ExitCode {
    let Some(case) = args.cases().into_iter().next() else { return ExitCode::FAILURE };
    // The frequency only matters where time is real.
    let rig = Rig::new(&case.spec(), 1e9).map(|mut rig| {
        rig.set_time(Time::Packets(NEW_PER_MS));
        rig.open(0, case.flows, true);
        rig.wire().borrow_mut().set_size(case.size);
        rig.callgrind(case.flows, u64::from(packets));
        let wire = rig.wire().borrow();
        let (wrong, lost) = (wire.verdict().1, wire.tally().offered - wire.tally().delivered);
        (wrong, lost)
    });
    match rig {
        Ok((0, 0)) => ExitCode::SUCCESS,
        Ok((wrong, lost)) => {
            eprintln!("throughput: {wrong} wrong packets, {lost} lost");
            ExitCode::FAILURE
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &RigError) -> ExitCode {
    eprintln!("throughput: {error}");
    ExitCode::FAILURE
}

fn measure(args: &Args) -> ExitCode {
    let pinned = pin(args.cpu);
    let machine = report::Machine {
        frequency: probe::frequency(),
        overhead: probe::overhead(),
        cpu: pinned,
        burst: args.burst,
        packets: args.packets,
        repetitions: args.repetitions,
    };
    if !args.json {
        report::head(&machine);
    }
    let mut cases = args.cases();
    cases.retain(|case| match case.memory_missing() {
        None => true,
        Some(reason) => {
            eprintln!("throughput: {}: skipped: {reason}", case.name());
            false
        }
    });
    let mut rows: Vec<Row> = cases.into_iter().map(Row::new).collect();
    let mut calibration = Vec::new();
    // A rig serves all established cases that differ only in their traffic.
    let mut rigs: Vec<(benches::rig::gateway::Spec, u32, Rig)> = Vec::new();
    for repetition in 1..=args.repetitions.max(1) {
        for row in &mut rows {
            if std::io::stderr().is_terminal() {
                eprintln!("throughput: {repetition} of {}: {}", args.repetitions, row.case.name());
            }
            calibration.push(probe::calibration());
            let result = match row.case.workload {
                Workload::Established => established(args, &machine, row, &mut rigs),
                Workload::New => new_sessions(args, &machine, row),
                Workload::Mix => mix(args, &machine, row),
            };
            if let Err(error) = result {
                return fail(&error);
            }
        }
    }
    let of = |f: fn(&probe::Calibration) -> f64| Spread::of(calibration.iter().map(f));
    let calibration = [of(|c| c.latency), of(|c| c.width)];
    if args.json {
        report::json(&machine, calibration, &rows);
    } else {
        report::tables(&machine, calibration, &rows);
    }
    let wrong: u64 = rows.iter().map(|row| row.wrong).sum();
    if wrong > 0 {
        eprintln!("throughput: {wrong} packets came out wrong");
        for fault in rows.iter().flat_map(|row| &row.faults) {
            eprintln!("throughput: {fault}");
        }
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
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
    let wire = rig.wire().borrow();
    let (checked, wrong, faults) = wire.verdict();
    (row.checked, row.wrong) = (checked, wrong + wire.shared_ports() as u64);
    row.faults = faults.to_vec();
    row.bytes_per_session = rig.bytes_per_session();
    row.huge = rig.backing() == Backing::Huge;
    row.drops = rig.drops();
}

fn traffic(case: &Case, args: &Args, rig: &mut Rig, plan: impl Fn(u64) -> Plan) -> Run {
    let packets = u64::from(args.packets);
    {
        let mut wire = rig.wire().borrow_mut();
        wire.set_strict(false);
        wire.set_size(case.size);
        wire.set_burst(args.burst);
        let left = if case.both { packets / 2 } else { packets };
        wire.plan(Direction::Forward, plan(left), Kind::Data);
        let reverse = if case.both { Plan::Random { flows: case.flows, left } } else { Plan::Idle };
        wire.plan(Direction::Reverse, reverse, Kind::Data);
    }
    let run = rig.run();
    rig.wire().borrow_mut().set_strict(true);
    run
}

fn established(
    args: &Args,
    machine: &report::Machine,
    row: &mut Row,
    rigs: &mut Vec<(benches::rig::gateway::Spec, u32, Rig)>,
) -> Result<(), RigError> {
    let (case, spec) = (row.case.clone(), row.case.spec());
    let found = rigs.iter().position(|(s, flows, _)| *s == spec && *flows == case.flows);
    let at = match found {
        Some(at) => at,
        None => {
            let mut rig = Rig::new(&spec, machine.frequency)?;
            rig.open(0, case.flows, true);
            // Control rests: what it has to do is measured with new sessions.
            rig.set_control(false);
            rigs.push((spec, case.flows, rig));
            rigs.len() - 1
        }
    };
    if let Some((_, flows, rig)) = rigs.get_mut(at) {
        let flows = *flows;
        row.runs.push(traffic(&case, args, rig, |left| Plan::Random { flows, left }));
        note(row, rig);
    }
    Ok(())
}

/// Fill from empty to n, from n to 2n, then n more while as many end.
fn new_sessions(args: &Args, machine: &report::Machine, row: &mut Row) -> Result<(), RigError> {
    let n = row.case.flows;
    let mut rig = Rig::new(&row.case.spec(), machine.frequency)?;
    let packets_per_flow = if row.case.protocol == Protocol::Tcp { 3 } else { 1 };
    // 2n live when the first end.
    let per_ms = (2 * n / 1000).max(1);
    rig.set_time(Time::Packets(per_ms * packets_per_flow));
    {
        let mut wire = rig.wire().borrow_mut();
        wire.set_burst(args.burst);
        wire.set_strict(false);
        wire.set_learn(true);
    }
    for (phase, from) in [0, n, 2 * n, 3 * n].into_iter().enumerate() {
        let run = rig.open(from, from + n, false);
        match phase {
            0 => row.fill.push(run),
            1 => row.grow.push(run),
            // The first sessions end at the start of the third: it settles there.
            2 => {}
            _ => row.churn.push(run),
        }
    }
    note(row, &rig);
    Ok(())
}

/// A tenth of the packets begin a flow that ends a second later.
fn mix(args: &Args, machine: &report::Machine, row: &mut Row) -> Result<(), RigError> {
    let case = row.case.clone();
    let flows = case.flows;
    let mut rig = Rig::new(&case.spec(), machine.frequency)?;
    rig.open(0, flows, true);
    rig.set_time(Time::Packets(MIX_PER_MS));
    let next = flows.next_multiple_of(flows::ENDPOINTS);
    row.runs.push(traffic(&case, args, &mut rig, |left| Plan::Mix { flows, left, next }));
    note(row, &rig);
    Ok(())
}
