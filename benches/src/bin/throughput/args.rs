//! The command line.

use crate::cases::{self, Case, Workload};
use benches::rig::flows::{MOST_POOLED, Nat};
use benches::rig::talk::Exchange;
use benches::rig::wire::Size;
use clap::{Parser, ValueEnum};
use dataplane::key::Protocol;
use std::path::PathBuf;

/// Measures one worker between two ports of this process.
#[derive(Parser, Debug)]
#[command(version, about)]
pub struct Args {
    /// Run only this workload; the suite otherwise.
    #[arg(long, value_enum)]
    workload: Option<Workload>,
    /// The suite without what takes long: 8M flows, and a quarter of the packets and of the new flows.
    #[arg(long, conflicts_with = "workload")]
    quick: bool,
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
    /// Switch all ALGs off. The workloads `alg` and `algs-idle` measure both.
    #[arg(long)]
    no_algs: bool,
    /// What the sessions of the workload `alg` speak; a list runs one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ftp,sip-udp,sip-tcp,rtsp")]
    exchange: Vec<ExchangeArg>,
    /// Each message of it comes in two segments.
    #[arg(long)]
    split: bool,
    /// Pinholes that wait meanwhile and that no packet meets; with --callgrind, of established and new flows.
    #[arg(long, value_parser = number, requires = "callgrind")]
    pinholes: Option<u32>,
    /// An inside endpoint of its own for each flow, and a pool of so many translated addresses: each flow chooses a port and
    /// makes a binding. Without it 20,000 endpoints share the ports of one address.
    #[arg(long, value_name = "ADDRESSES", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_POOLED)))]
    pool: Option<u16>,
    /// Source NAT maps each session by itself (endpoint-dependent).
    #[arg(long, requires = "pool")]
    endpoint_dependent: bool,
    /// Packets of one repetition; default: 4M, or 1M with --quick.
    #[arg(long, value_parser = number)]
    packets: Option<u32>,
    /// Repetitions, interleaved.
    #[arg(long, default_value_t = 3)]
    pub repetitions: u32,
    /// Most packets that a port gives at once.
    #[arg(long, default_value_t = dataplane::port::BURST)]
    pub burst: usize,
    /// Core to run on; default: the last one.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// A JSON object on standard output instead of the tables.
    #[arg(long)]
    pub json: bool,
    /// Write the JSON object to this file too.
    #[arg(long, value_name = "FILE")]
    pub json_to: Option<PathBuf>,
    /// Write the plot of latencies (SVG) to this file.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Print which goals were met, with what the table's race against others came to (the JSON that it wrote).
    #[arg(long, value_name = "FILE")]
    pub goals: Option<PathBuf>,
    /// For valgrind --tool=callgrind --collect-atstart=no: so many packets (or new flows), counted in the stages alone.
    /// Nothing is timed.
    #[arg(long, value_name = "PACKETS", value_parser = number)]
    pub callgrind: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolArg {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExchangeArg {
    Ftp,
    SipUdp,
    SipTcp,
    Rtsp,
}

impl From<ExchangeArg> for Exchange {
    fn from(arg: ExchangeArg) -> Self {
        match arg {
            ExchangeArg::Ftp => Self::Ftp,
            ExchangeArg::SipUdp => Self::SipUdp,
            ExchangeArg::SipTcp => Self::SipTcp,
            ExchangeArg::Rtsp => Self::Rtsp,
        }
    }
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
    /// Packets of one repetition.
    pub fn packets(&self) -> u32 {
        self.packets.unwrap_or(if self.quick { 1_000_000 } else { 4_000_000 })
    }

    /// What is to be measured.
    pub fn cases(&self) -> Vec<Case> {
        let Some(workload) = self.workload else { return cases::suite(self.quick) };
        let exchanges = match workload {
            Workload::Alg => self.exchange.as_slice(),
            _ => self.exchange.get(..1).unwrap_or_default(),
        };
        let case = |flows: &u32, exchange: &ExchangeArg| Case {
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
            exchange: (*exchange).into(),
            split: self.split && workload == Workload::Alg,
            pinholes: self.pinholes.unwrap_or(0),
            nat: self.pool.map_or(Nat::Shared, Nat::Own),
            dependent: self.endpoint_dependent,
        };
        exchanges.iter().flat_map(|e| self.flows.iter().map(move |flows| case(flows, e))).collect()
    }
}
