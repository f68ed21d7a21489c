//! `postern-ndr`: RFC 2544 style searches through a gateway, by our own generator or another.

use clap::{Args, Parser, Subcommand};
use ndr::external::External;
use ndr::generator::{Generator, GeneratorError};
use ndr::report;
use ndr::suite::{Runner, Settings, Suite};
use ndr::trial::Size;
use std::fs;
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
    #[arg(long, value_parser = Size::read, value_delimiter = ',', default_value = "64,128,256,512,1024,1280,1518,imix")]
    sizes: Vec<Size>,
    /// Shares of loss that a throughput may have: 0 is the NDR.
    #[arg(long, value_delimiter = ',', default_value = "0,0.005")]
    loss: Vec<f64>,
    /// Established flows.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
    /// Traffic both ways at once.
    #[arg(long)]
    both: bool,
    /// Seconds of a trial (RFC 2544 wants 60 for what is reported).
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Trials that must pass again at what was found.
    #[arg(long, default_value_t = 1)]
    confirm: u32,
    /// Share of the figure to which it is searched.
    #[arg(long, default_value_t = 0.005)]
    resolution: f64,
    /// Highest rate of frames to ask for, where the link's speed is not known or less is wanted.
    #[arg(long)]
    most_frames: Option<f64>,
    /// Highest rate of new sessions to ask for.
    #[arg(long, default_value_t = 5e6)]
    most_new: f64,
    /// Most sessions at once to ask for.
    #[arg(long, default_value_t = 10_000_000)]
    most_sessions: u32,
    /// Rate at which flows and held sessions are opened.
    #[arg(long, default_value_t = 50_000.0)]
    open: f64,
    /// Longest burst to try.
    #[arg(long, default_value_t = 1_000_000)]
    most_burst: u32,
    /// Seconds between trials that make sessions: longer than the gateway's timeouts for them.
    #[arg(long, default_value_t = 1.0)]
    settle: f64,
    /// Folder for ndr.tsv and the plots.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Fails if a figure of the report is below 1, or a frame came out wrong: for trying the whole out.
    #[arg(long)]
    check: bool,
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
fn own(args: OwnArgs, open: f64) -> Result<Box<dyn Generator>, GeneratorError> {
    use ndr::own::{Pace, dpdk, plan::Plan};
    let plan = Plan::read(&args.clients, &args.client_ports, &args.servers, args.server_port)
        .map_err(|error| GeneratorError::Port(error.to_string()))?;
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
    let name = generator.about().name;
    let settings = Settings {
        sizes: what.sizes,
        losses: what.loss,
        flows: what.flows,
        both: what.both,
        seconds: what.seconds,
        confirmations: what.confirm,
        resolution: what.resolution,
        most_frames: what.most_frames,
        most_new: what.most_new,
        most_sessions: what.most_sessions,
        open: what.open,
        most_burst: what.most_burst,
        settle: what.settle,
    };
    let mut progress = |line: &str| eprintln!("{line}");
    let mut runner = Runner::new(&mut *generator, &settings, &mut progress);
    let mut rows = Vec::new();
    for suite in what.suite {
        rows.extend(runner.run(suite).map_err(|error| format!("{}: {error}", suite.name()))?);
    }
    print!("{}", report::table(&rows));
    if let Some(folder) = what.out {
        let failed = |error: std::io::Error| format!("cannot write to {}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(failed)?;
        fs::write(folder.join("ndr.tsv"), report::tsv(&rows)).map_err(failed)?;
        report::plots(&folder, &name, &rows).map_err(|error| error.to_string())?;
    }
    let bad =
        rows.iter().find(|row| row.outcome.wrong > 0 || row.answer.passed().is_none_or(|value| value < 1.0));
    match bad.filter(|_| what.check) {
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
