//! What the control socket needs to know of a running gateway. The daemon answers from the dataplane's shared state;
//! tests answer from a fake.

use crate::audit::{Followers, Names};
use crate::config::{Config, ConfigError, Report};
use crate::requests::Requests;
use dataplane::counters::{Counter, WorkerCounters};
use dataplane::drop_reason::DropReason;
use dataplane::key::{Tick, WorkerId};
use dataplane::policy::ProfileId;
use dataplane::view::{ExpectationView, SessionView};
use std::sync::Arc;

/// A running gateway. Called from the server's own thread, at any time: nothing here may block, or look at more than one
/// place of an arena.
pub trait Gateway: Send + Sync + 'static {
    /// What runs, and how full it is.
    fn status(&self) -> StatusView;

    /// An interface by its name, with all that is known of its device.
    fn interface(&self, name: &str) -> Option<InterfaceDetail>;

    /// Size of the session arena: sessions have indexes below it.
    fn session_capacity(&self) -> u32;

    /// The live session at an index, consistent in itself.
    fn session(&self, index: u32) -> Option<SessionView>;

    /// Size of the expectation arena.
    fn expectation_capacity(&self) -> u32;

    /// The expectation in use at an index.
    fn expectation(&self, index: u32) -> Option<ExpectationView>;

    /// Counters of each worker.
    fn counters(&self) -> Vec<CountersView>;

    /// Names of zones and rules.
    fn names(&self) -> Arc<Names>;

    /// The ALG profiles of the policy in force.
    fn algs(&self) -> Vec<AlgView>;

    /// The configuration in force.
    fn policy(&self) -> Arc<PolicyView>;

    /// Compiles a configuration, and throws the outcome away. May take its time: it has a thread of its own.
    ///
    /// # Errors
    /// What is wrong with it, in the order of the text; never an empty list.
    fn check(&self, name: &str, text: &str) -> Result<Config, Vec<Problem>>;

    /// What of a valid candidate a commit cannot put in force, one sentence each.
    fn restart_needed(&self, candidate: &Config) -> Vec<String>;

    /// The way to the control core, for what changes something.
    fn requests(&self) -> &Requests;

    /// The audit records as they are written.
    fn followers(&self) -> &Followers;

    /// The moment that ages are counted to.
    fn now(&self) -> Tick;
}

/// What runs, and how full it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusView {
    /// Version of the daemon.
    pub version: String,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Workers, by number.
    pub workers: Vec<WorkerView>,
    /// Sessions in use.
    pub sessions_in_use: u64,
    /// Most sessions.
    pub sessions_capacity: u64,
    /// Expectations in use.
    pub expectations_in_use: u64,
    /// Most expectations.
    pub expectations_capacity: u64,
    /// Generation of the policy in force.
    pub policy_generation: u32,
    /// The configuration file, as given.
    pub config_file: String,
    /// Interfaces, in the order of the configuration.
    pub interfaces: Vec<InterfaceView>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerView {
    /// Number.
    pub id: u8,
    /// The CPU that it is pinned to.
    pub core: Option<u32>,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Packets dropped.
    pub drops: u64,
}

impl WorkerView {
    /// From a worker's counters.
    #[must_use]
    pub fn of(id: WorkerId, core: Option<u32>, counters: &WorkerCounters) -> Self {
        Self {
            id: id.0,
            core,
            rx_packets: counters.get(Counter::RxPackets),
            tx_packets: counters.get(Counter::TxPackets),
            sessions_opened: counters.get(Counter::SessionsOpened),
            drops: counters.dropped_total(),
        }
    }
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceView {
    /// Name.
    pub name: String,
    /// Device, as configured.
    pub device: String,
    /// Zone.
    pub zone: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// MAC address.
    pub mac: [u8; 6],
    /// VLAN; none for frames without a tag.
    pub vlan: Option<u16>,
    /// Whether the link is up.
    pub link_up: bool,
    /// Speed of the link in Mbit/s; 0 if unknown.
    pub link_mbps: u32,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// What was counted.
    pub counters: Option<InterfaceCounters>,
    /// What could not be had of its device, and why.
    pub lacks: Vec<String>,
}

/// An interface with all that is known of its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceDetail {
    /// What listings show.
    pub view: InterfaceView,
    /// Driver of its device, as DPDK calls it.
    pub driver: String,
    /// How its device is set up.
    pub settings: Vec<Setting>,
    /// What each worker counted.
    pub workers: Vec<InterfaceWorker>,
    /// How often the link came up since the start.
    pub link_ups: u64,
    /// How often it went down.
    pub link_downs: u64,
    /// The device was pulled out.
    pub removed: bool,
    /// What the device counts, by its driver's names.
    pub xstats: Vec<(String, u64)>,
}

/// A choice about a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// What it is about.
    pub what: String,
    /// What was chosen.
    pub chosen: String,
    /// What could not be had, and why; empty if nothing lacks.
    pub lacks: String,
}

/// What a worker counted on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceWorker {
    /// The worker.
    pub worker: u8,
    /// Packets that came in at its queue.
    pub rx_packets: u64,
    /// Of those, packets that it handed to another worker, which owns their flow.
    pub handed_off: u64,
    /// Packets that it sent.
    pub tx_packets: u64,
}

/// What workers counted on an interface, and what its device lost, since the start. Bytes are without VLAN tags. Interfaces
/// that share a device show its losses each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets lost because the receive queue was full.
    pub rx_missed: u64,
    /// Packets received broken.
    pub rx_errors: u64,
    /// Packets lost because no buffer was free.
    pub rx_no_buffer: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that came in at another worker than their flow's.
    pub handed_off: u64,
}

/// An ALG profile of the policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlgView {
    /// Name.
    pub name: String,
    /// Protocol.
    pub protocol: &'static str,
    /// Mode.
    pub mode: &'static str,
    /// Ports that are this protocol where the rule's service names no application.
    pub ports: Vec<u16>,
    /// It is for rules that name no profile of its protocol.
    pub default: bool,
    /// What the sessions that its ALG reads call it.
    pub profile: ProfileId,
    /// Generation of the policy from which on they do.
    pub since: u32,
    /// Its other settings, by the keys of the configuration.
    pub options: Vec<(&'static str, String)>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyView {
    /// Generation of its policy.
    pub generation: u32,
    /// The file that it was read from, or the name that a commit gave it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// One worker's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountersView {
    /// The worker.
    pub worker: WorkerId,
    /// What it did.
    pub counters: Vec<Count>,
    /// What it dropped, by reason.
    pub drops: Vec<Count>,
}

impl CountersView {
    /// Reads a worker's counters.
    #[must_use]
    pub fn of(worker: WorkerId, counters: &WorkerCounters) -> Self {
        let count = |c: &Counter| Count { name: c.name(), value: counters.get(*c), help: c.help() };
        let drop = |r: &DropReason| Count { name: r.name(), value: counters.dropped(*r), help: r.help() };
        Self {
            worker,
            counters: Counter::ALL.iter().map(count).collect(),
            drops: DropReason::ALL.iter().map(drop).collect(),
        }
    }
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Name.
    pub name: &'static str,
    /// Value.
    pub value: u64,
    /// One sentence for an operator.
    pub help: &'static str,
}

/// Something wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 if it belongs to none.
    pub line: u32,
    /// Column in characters, from 1; 0 if it belongs to none.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What was expected; may be empty.
    pub expected: String,
}

impl From<&ConfigError> for Problem {
    /// The text of a configuration error says "what is wrong; expected what": clients get the two parts.
    fn from(error: &ConfigError) -> Self {
        let text = error.problem.to_string();
        let (message, expected) = text.split_once("; expected ").unwrap_or((&text, ""));
        let (line, column) = error.place.map_or((0, 0), |place| (place.line, place.column));
        Self { line, column, message: message.to_owned(), expected: expected.to_owned() }
    }
}

impl From<String> for Problem {
    /// A sentence that belongs to no line.
    fn from(message: String) -> Self {
        Self { line: 0, column: 0, message, expected: String::new() }
    }
}

/// All errors of a report, as [`Gateway::check`] answers them.
#[must_use]
pub fn problems(report: &Report) -> Vec<Problem> {
    report.errors.iter().map(Problem::from).collect()
}
