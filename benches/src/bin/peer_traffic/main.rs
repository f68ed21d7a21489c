//! Traffic for other gateways, a look at what they made of it, and the table of what they came to: `benches/peers.sh`
//! and the scripts in `benches/peers/` drive this.
//!
//! - `config`: what `posternd` needs to do the rig's work on DPDK ports.
//! - `frames`, `pcap`: the rig's flows, in random order, for a plug-in or a port that plays them in a loop.
//! - `watch`: a turn of the plug-in `benches/peers/frames.c` inside another DPDK program.
//! - `kernel`: live frames into an interface of the kernel, made by an XDP program (`BPF_PROG_TEST_RUN`).
//! - `look`, `check`: whether what leaves an interface, or was captured, is translated as it must be.
//! - `calibrate`: what this core and its memory do just now.
//! - `postern`, `report`: figures of the worker; the table, the plot and the goals.

mod calibrate;
mod config;
mod kernel;
mod look;
mod played;
mod report;
mod watch;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Traffic for other gateways, a look at what they made of it, and the table of what they came to.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Prints the configuration by which `posternd` does the rig's work on the ports of the plug-in.
    Config(config::Ask),
    /// Writes one datagram of each flow, in random order, in slots of 64 bytes.
    Frames {
        /// How many flows.
        flows: u32,
        /// The file.
        file: PathBuf,
    },
    /// Writes one datagram of each flow, in random order, as a capture file.
    Pcap {
        /// How many flows.
        flows: u32,
        /// The file.
        file: PathBuf,
    },
    /// Has the plug-in play frames, and prints million packets a second, the plug-in's cycles per packet, and how many samples
    /// were found right.
    Watch(watch::Ask),
    /// Receives datagrams on an interface, and prints packets and nanoseconds.
    Kernel {
        /// The interface that they come in at.
        interface: String,
        /// How many flows.
        flows: u32,
        /// How many packets.
        packets: u32,
        /// One flow after the other, rather than random ones.
        #[arg(long)]
        in_order: bool,
    },
    /// Says `ready`, looks at packets that arrive on an interface, and says how many were right.
    Look {
        /// The interface.
        interface: String,
        /// How many packets.
        #[arg(long, default_value_t = 200)]
        packets: u32,
        /// They must be as they were.
        #[arg(long)]
        untranslated: bool,
    },
    /// Looks at the packets of a capture file, and says how many were right.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Prints TSC cycles a second, cycles of an addition that waits for the one before, and nanoseconds of a read from memory
    /// that does.
    Calibrate,
    /// Prints the figures of what `throughput --json` wrote.
    Postern {
        /// The JSON.
        file: PathBuf,
    },
    /// Makes the table, the plot and the list of goals.
    Report(report::Ask),
}

fn main() -> ExitCode {
    let done = match &Args::parse().action {
        Action::Config(ask) => config::run(ask),
        Action::Frames { flows, file } => played::frames(*flows, file),
        Action::Pcap { flows, file } => played::capture(*flows, file),
        Action::Watch(ask) => watch::run(ask),
        Action::Kernel { interface, flows, packets, in_order } => {
            kernel::run(interface, *flows, *packets, *in_order)
        }
        Action::Look { interface, packets, untranslated } => look::run(interface, *packets, !*untranslated),
        Action::Check { file } => played::check(file),
        Action::Calibrate => calibrate::run(),
        Action::Postern { file } => report::postern(file),
        Action::Report(ask) => report::run(ask),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-traffic: {error}");
            ExitCode::FAILURE
        }
    }
}
