//! `postern-ndr`: RFC 2544 style searches through a gateway, by our own generator or another.

#[cfg(all(test, feature = "dpdk"))]
mod documented;

use clap::{Args, Parser, Subcommand};
use ndr::campaign;
use ndr::external::External;
use ndr::generator::{Generator, GeneratorError};
use ndr::report;
use ndr::suite::{Runner, Settings, Suite};
use ndr::trial::Size;
#[cfg(feature = "dpdk")]
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Searches for what a gateway carries without loss.
///
/// The gateway stands between the generator's two ports. See docs/bare-metal.md for the procedures step by step.
#[derive(Parser, Debug)]
#[command(name = "postern-ndr", version)]
struct Cli {
    #[command(subcommand)]
    generator: Which,
}

#[derive(Subcommand, Debug)]
enum Which {
    /// Our own generator, on two DPDK ports.
    #[cfg(feature = "dpdk")]
    Own {
        #[command(flatten)]
        own: OwnArgs,
        #[command(flatten)]
        what: What,
    },
    /// Another generator, driven by a program that speaks JSON lines (benches/ndr/drive_trex.py is one).
    Other {
        #[command(flatten)]
        what: What,
        /// The program and its arguments, behind `--`.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// What to search for.
#[derive(Args, Debug)]
struct What {
    /// Procedures, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "throughput,latency")]
    suite: Vec<Suite>,
    /// Frame sizes with the FCS (64 to 1518), or imix.
    #[arg(long, value_parser = Size::read, value_delimiter = ',', default_values_t = Settings::default().sizes)]
    sizes: Vec<Size>,
    /// Shares of loss that a throughput may have: 0 is the NDR.
    #[arg(long, value_delimiter = ',', default_values_t = Settings::default().losses)]
    loss: Vec<f64>,
    /// Established flows.
    #[arg(long, default_value_t = Settings::default().flows, value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
    /// Traffic both ways at once.
    #[arg(long)]
    both: bool,
    /// Seconds of a trial (RFC 2544 wants 60 for what is reported).
    #[arg(long, default_value_t = Settings::default().seconds)]
    seconds: f64,
    /// Trials that must pass again at what was found.
    #[arg(long, default_value_t = Settings::default().confirmations)]
    confirm: u32,
    /// Share of the figure to which it is searched.
    #[arg(long, default_value_t = Settings::default().resolution)]
    resolution: f64,
    /// Highest rate of frames to ask for, where the link's speed is not known or less is wanted.
    #[arg(long)]
    most_frames: Option<f64>,
    /// Highest rate of new sessions to ask for.
    #[arg(long, default_value_t = Settings::default().most_new)]
    most_new: f64,
    /// Most new sessions of one trial, which is shorter then: RFC 9693's N. The gateway's table and its addresses must hold as
    /// many. A trial never takes more than a 32nd of our own addresses and ports that were not used before.
    #[arg(long, default_value_t = Settings::default().new_sessions, value_parser = clap::value_parser!(u32).range(1..))]
    new_sessions: u32,
    /// Most sessions at once to ask for.
    #[arg(long, default_value_t = Settings::default().most_sessions)]
    most_sessions: u32,
    /// Rate at which flows and held sessions are opened, and at which it is looked whether new sessions are there. UDP sessions
    /// that have seen no answer must live longer than either takes (`udp_new`).
    #[arg(long, default_value_t = Settings::default().open)]
    open: f64,
    /// Longest burst to try, in frames. Without it: what the link carries in --burst-seconds, or a million if nobody knows its
    /// speed.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    most_burst: Option<u32>,
    /// Seconds of the longest burst (RFC 2544 wants 2).
    #[arg(long, default_value_t = Settings::default().burst_seconds)]
    burst_seconds: f64,
    /// Searches for the longest burst; the report has the mean (RFC 2544 wants 50).
    #[arg(long, default_value_t = Settings::default().burst_trials)]
    burst_trials: u32,
    /// Trials of latency at each rate; the report has the mean of each figure (RFC 2544 wants 20).
    #[arg(long, default_value_t = Settings::default().latency_trials)]
    latency_trials: u32,
    /// Seconds of a trial of latency, if not as of others (RFC 2544 wants 120).
    #[arg(long)]
    latency_seconds: Option<f64>,
    /// Trials of recovery; the report has the mean.
    #[arg(long, default_value_t = Settings::default().recovery_trials)]
    recovery_trials: u32,
    /// Seconds between trials that make sessions: longer than the gateway's timeouts for them.
    #[arg(long, default_value_t = Settings::default().settle)]
    settle: f64,
    /// Folder for ndr.tsv, which is written anew with each figure, and the plots.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Fails if a figure of the report is below 1, or a frame came out wrong: for trying the whole out.
    #[arg(long)]
    check: bool,
}

impl What {
    fn settings(&self) -> Settings {
        Settings {
            sizes: self.sizes.clone(),
            losses: self.loss.clone(),
            flows: self.flows,
            both: self.both,
            seconds: self.seconds,
            confirmations: self.confirm,
            resolution: self.resolution,
            most_frames: self.most_frames,
            most_new: self.most_new,
            new_sessions: self.new_sessions,
            most_sessions: self.most_sessions,
            open: self.open,
            most_burst: self.most_burst,
            burst_seconds: self.burst_seconds,
            burst_trials: self.burst_trials,
            latency_trials: self.latency_trials,
            latency_seconds: self.latency_seconds,
            recovery_trials: self.recovery_trials,
            settle: self.settle,
        }
    }
}

#[cfg(feature = "dpdk")]
#[derive(Args, Debug)]
struct OwnArgs {
    /// The port on the clients' side, as the gateway's configuration writes devices (0000:3b:00.0, memif:...).
    #[arg(long)]
    client: String,
    /// The port on the servers' side.
    #[arg(long)]
    server: String,
    /// Our address on the clients' link, and the gateway's there: 10.1.0.2,10.1.0.1.
    #[arg(long, value_name = "OURS,GATEWAY", value_parser = link)]
    client_link: (Ipv4Addr, Ipv4Addr),
    /// Our address on the servers' link, and the gateway's there.
    #[arg(long, value_name = "OURS,GATEWAY", value_parser = link)]
    server_link: (Ipv4Addr, Ipv4Addr),
    /// The clients: addresses that the gateway finds on the clients' link, or behind our address there.
    #[arg(long)]
    clients: String,
    /// Their ports.
    #[arg(long, default_value = "1024-65535")]
    client_ports: String,
    /// The servers.
    #[arg(long)]
    servers: String,
    /// The servers' port. 9 is discard.
    #[arg(long, default_value_t = 9)]
    server_port: u16,
    /// The core that the generator keeps to.
    #[arg(long)]
    core: Option<usize>,
    /// Memory for DPDK, in megabytes.
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// Seconds that late frames have after a trial.
    #[arg(long, default_value_t = 2.0)]
    drain: f64,
    /// A further EAL argument; may be given again.
    #[arg(long, allow_hyphen_values = true)]
    eal_arg: Vec<String>,
}

/// Our address on a link, and the gateway's there.
#[cfg(feature = "dpdk")]
fn link(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let read = |text: &str| text.trim().parse().ok();
    text.split_once(',').and_then(|(ours, theirs)| Some((read(ours)?, read(theirs)?))).ok_or_else(|| {
        format!("`{text}` is no link: expected our address and the gateway's, as in 10.1.0.2,10.1.0.1")
    })
}

#[cfg(feature = "dpdk")]
impl OwnArgs {
    fn plan(&self) -> Result<ndr::own::plan::Plan, ndr::own::plan::PlanError> {
        ndr::own::plan::Plan::read(&self.clients, &self.client_ports, &self.servers, self.server_port)
    }
}

#[cfg(feature = "dpdk")]
fn own(args: OwnArgs, open: f64) -> Result<Box<dyn Generator>, GeneratorError> {
    use ndr::own::{Pace, dpdk};
    let plan = args.plan().map_err(|error| GeneratorError::Port(error.to_string()))?;
    let end = |device: String, (address, gateway)| dpdk::End { device, address, gateway };
    let (client, server) = (end(args.client, args.client_link), end(args.server, args.server_link));
    let start = dpdk::Start { memory_mb: args.memory, core: args.core, eal_args: args.eal_arg };
    dpdk::generator(&client, &server, &start, plan, Pace { open, drain: args.drain, ..Pace::default() })
}

fn run(cli: Cli) -> Result<(), String> {
    let (mut generator, what): (Box<dyn Generator>, What) = match cli.generator {
        #[cfg(feature = "dpdk")]
        Which::Own { own: args, what } => (own(args, what.open).map_err(|e| e.to_string())?, what),
        Which::Other { command, what } => {
            (Box::new(External::start(&command).map_err(|e| e.to_string())?), what)
        }
    };
    let (settings, suites) = (what.settings(), &what.suite);
    let mut progress = |line: &str| eprintln!("{line}");
    let mut runner = Runner::new(&mut *generator, &settings, &mut progress);
    let found = campaign::run(&mut runner, suites, what.out.as_deref())
        .map_err(|error| format!("the report cannot be written: {error}"))?;
    print!("{}", report::table(&found.rows));
    if !found.failures.is_empty() {
        return Err(found.failures.join("\npostern-ndr: "));
    }
    match found.rows.iter().find(|row| what.check && !row.holds()) {
        Some(row) => Err(format!(
            "{} at {} B does not hold: {:?}, {:?}",
            row.suite.name(),
            row.size,
            row.answer,
            row.outcome
        )),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern-ndr: {error}");
            ExitCode::FAILURE
        }
    }
}
