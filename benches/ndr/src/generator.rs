//! The seam to whatever makes the traffic.

use crate::trial::{Outcome, Size, Transport, Trial};
use thiserror::Error;

/// Why a generator does not work.
#[derive(Debug, Error)]
pub enum GeneratorError {
    /// The program that drives it cannot be run, or ended.
    #[error("the generator `{program}` {what}")]
    Program {
        /// Its command.
        program: String,
        /// What happened.
        what: String,
    },
    /// It said that it cannot.
    #[error("the generator refuses: {0}")]
    Refused(String),
    /// Nobody answers for the next hop.
    #[error(
        "nobody answers ARP for {0}, the gateway's address on the {1} side; is it up, and is this the right port?"
    )]
    NoGateway(std::net::Ipv4Addr, &'static str),
    /// Flows that must exist do not get through even at a crawl.
    #[error(
        "of {wanted} flows that were opened at {rate:.0} a second, {came} came through; the gateway's policy, its session limit \
         or its addresses (a port for each flow) may forbid the rest"
    )]
    Closed {
        /// How many were opened.
        wanted: u32,
        /// How many came out.
        came: u32,
        /// At which rate, a second.
        rate: f64,
    },
    /// The addresses that the generator was given are too few.
    #[error(
        "{wanted} more sessions need addresses and ports of their own, and {left} are left: give more clients, ports or servers"
    )]
    Addresses {
        /// New sessions of the trial.
        wanted: u64,
        /// What is left.
        left: u64,
    },
    /// DPDK does not do what we want.
    #[error("{0}")]
    Port(String),
}

/// What a generator is.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// For the report.
    pub name: String,
    /// Speed of one link, in bits a second, if it is known.
    pub link: Option<f64>,
}

impl About {
    /// Most frames that the links carry in a second.
    #[must_use]
    pub fn line_rate(&self, size: Size, both: bool) -> Option<f64> {
        let links = if both { 2.0 } else { 1.0 };
        self.link.map(|bits| links * bits / size.bits_on_the_link())
    }
}

/// Makes traffic into a device, and looks at what comes out.
pub trait Generator {
    /// What it is.
    fn about(&self) -> About;

    /// Opens so many flows, one datagram each, so that the device knows them. They replace those of before.
    ///
    /// # Errors
    /// They do not all come through, or the generator fails.
    fn open(&mut self, flows: u32) -> Result<(), GeneratorError>;

    /// Does a trial. Returns when late frames have had their time.
    ///
    /// # Errors
    /// The generator fails, or cannot do such a trial. A device that loses everything is no error.
    fn run(&mut self, trial: &Trial) -> Result<Outcome, GeneratorError>;

    /// How many sessions it can still begin whose addresses and ports were not used before. None: they do not run out.
    fn unused(&self, _transport: Transport) -> Option<u64> {
        None
    }

    /// Lets time pass between trials. A generator that must answer the device meanwhile does.
    fn wait(&mut self, seconds: f64) {
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)));
    }
}
