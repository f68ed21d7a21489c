//! Why the daemon does not run: one sentence each.

use crate::config::Report;
use std::process::ExitCode;

/// Why it does not run, or ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used\n{0}")]
    Config(#[from] Report),
    /// A replay.
    #[error(transparent)]
    Replay(#[from] crate::replay::ReplayError),
    /// Built without the feature `dpdk`.
    #[cfg(not(feature = "dpdk"))]
    #[error(
        "this build has no DPDK: it can check configurations, and run none; build it with the feature `dpdk`"
    )]
    NoDpdk,
    /// The control socket.
    #[cfg(feature = "dpdk")]
    #[error(transparent)]
    Socket(#[from] crate::server::StartError),
    /// The audit log.
    #[cfg(feature = "dpdk")]
    #[error(transparent)]
    Audit(#[from] crate::audit::OpenError),
    /// The shared state.
    #[cfg(feature = "dpdk")]
    #[error(transparent)]
    Setup(#[from] dataplane::shared::SetupError),
    /// The control core's own memory.
    #[cfg(feature = "dpdk")]
    #[error(transparent)]
    Memory(#[from] dataplane::memory::NoMemory),
    /// DPDK.
    #[cfg(feature = "dpdk")]
    #[error(transparent)]
    Eal(#[from] dataplane::dpdk::EalError),
    /// Buffers of packets.
    #[cfg(feature = "dpdk")]
    #[error("{0}; raise memory_mb under [dataplane], or free memory")]
    Pool(#[from] dataplane::dpdk::MempoolError),
    /// A port.
    #[cfg(feature = "dpdk")]
    #[error("interface \"{interface}\": {source}")]
    Port {
        /// The interface of the configuration.
        interface: String,
        /// What is wrong.
        source: dataplane::dpdk::PortError,
    },
    /// A device that cannot serve so many workers.
    #[cfg(feature = "dpdk")]
    #[error("interface \"{interface}\": {source}")]
    Device {
        /// The interface of the configuration.
        interface: String,
        /// What it lacks.
        source: dataplane::dpdk::plan::Refusal,
    },
    /// A worker's core.
    #[cfg(feature = "dpdk")]
    #[error("worker {worker}: {source}")]
    Worker {
        /// The worker.
        worker: u8,
        /// What is wrong.
        source: dataplane::dpdk::LcoreError,
    },
    /// The system refuses something small.
    #[cfg(feature = "dpdk")]
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The answer.
        source: std::io::Error,
    },
    /// A worker ended on its own.
    #[cfg(feature = "dpdk")]
    #[error("a worker ended unexpectedly: the gateway cannot go on")]
    WorkerLost,
}

impl Failure {
    /// 2 for what was given (the configuration, a capture), 1 for all else.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(2),
            Self::Replay(error) if error.is_input() => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}
