//! A checked configuration as plain data. References are resolved: a zone is its number, a service its ports.

use super::source::Place;
use alg::ftp::FtpOptions;
use alg::profile::WhenEncrypted;
use alg::rtsp::RtspOptions;
use alg::sip::SipOptions;
use alg::tftp::TftpOptions;
use core::net::Ipv4Addr;
use dataplane::device::Device;
use dataplane::expect::ExpectationLimits;
use dataplane::key::{InterfaceId, ZoneId};
use dataplane::policy::{
    Action, Addresses, AlgMode, AlgProtocol, Log as RuleLog, Mapping, Mode, OnChange, OnCommit, Prefix,
    RuleProfiles, Service, Timeouts, ZoneSettings,
};
use dataplane::port::Spread;
use dataplane::stream::segment::Overflow;
use ipnet::Ipv4Net;
use std::path::PathBuf;

/// A configuration that has passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file's name, for messages.
    pub file: String,
    /// `[gateway]`.
    pub gateway: Gateway,
    /// `[dataplane]`.
    pub dataplane: Dataplane,
    /// `[[interface]]`, by [`InterfaceId`].
    pub interfaces: Vec<Interface>,
    /// `[[route]]`. Connected networks are not among them.
    pub routes: Vec<Route>,
    /// `[[neighbor]]`.
    pub neighbors: Vec<Neighbor>,
    /// Zone names by [`ZoneId`]: those of interfaces in their order, then those that are only declared. A reload
    /// cannot change interfaces, so the zone that a session came from keeps its number.
    pub zones: Vec<String>,
    /// What `[[zone]]` says, by [`ZoneId`].
    pub zone_settings: Vec<ZoneSettings>,
    /// `[[address]]`.
    pub addresses: Vec<AddressSet>,
    /// `[[service]]`; predefined ones are not among them.
    pub services: Vec<NamedService>,
    /// `[[alg]]`.
    pub algs: Vec<Alg>,
    /// By protocol: which of them is for rules that name none.
    pub default_algs: RuleProfiles,
    /// `[[rule]]`; the first match wins.
    pub rules: Vec<Rule>,
    /// `[[nat]]` of the types `source` and `static`; the first match wins.
    pub nats: Vec<Nat>,
    /// `[[nat]]` of the types `destination` and `static`; the first match wins.
    pub destination_nats: Vec<DestinationNat>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[streams]`.
    pub streams: dataplane::stream::segment::Limits,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[log]`.
    pub log: Log,
    /// `[control]`.
    pub control: Control,
}

/// A device, and what the interfaces on it need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortNeeds<'a> {
    /// The device.
    pub device: &'a Device,
    /// The first interface on it, for messages.
    pub interface: &'a str,
    /// The largest MTU of those on it.
    pub mtu: u16,
    /// Whether frames to other MAC addresses than its own must come in.
    pub promiscuous: bool,
    /// How it is set up.
    pub nic: NicSettings,
}

/// How a device is set up. The interfaces on one device agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicSettings {
    /// Whether packets are spread over its receive queues.
    pub spread: Spread,
    /// Whether it is used for what it can do beyond packets.
    pub offloads: bool,
    /// Whether checksums of what the gateway writes are left to it.
    pub tx_checksums: bool,
    /// Whether it puts TCP segments together.
    pub lro: bool,
    /// Whether it cuts what another has put together.
    pub tso: bool,
    /// Receive descriptors of each queue.
    pub rx_descriptors: u16,
    /// Transmit descriptors of each queue.
    pub tx_descriptors: u16,
}

impl Default for NicSettings {
    fn default() -> Self {
        Self {
            spread: Spread::Auto,
            offloads: true,
            tx_checksums: false,
            lro: false,
            tso: false,
            rx_descriptors: 1_024,
            tx_descriptors: 1_024,
        }
    }
}

impl Config {
    /// The devices, by the number of their port.
    #[must_use]
    pub fn ports(&self) -> Vec<PortNeeds<'_>> {
        let mut ports: Vec<PortNeeds<'_>> = Vec::new();
        for interface in &self.interfaces {
            let promiscuous = interface.mac.is_some();
            match ports.get_mut(usize::from(interface.port)) {
                Some(port) => {
                    port.mtu = port.mtu.max(interface.mtu);
                    port.promiscuous |= promiscuous;
                }
                None => ports.push(PortNeeds {
                    device: &interface.device,
                    interface: &interface.name,
                    mtu: interface.mtu,
                    promiscuous,
                    nic: interface.nic,
                }),
            }
        }
        ports
    }

    /// Addresses that are the gateway's for translation: of destination NAT, static NAT and pools.
    pub fn translated(&self) -> impl Iterator<Item = Ipv4Net> {
        let pools = self.nats.iter().filter_map(|nat| match &nat.translate {
            Translate::Pool(addresses) => Some(addresses),
            Translate::Interface | Translate::Static { .. } | Translate::Nothing => None,
        });
        // What is only excepted is somebody's own.
        let called = self.destination_nats.iter().filter(|nat| nat.target != Target::Nothing);
        called.flat_map(|nat| nat.called.iter().copied()).chain(pools.flatten().copied().map(Ipv4Net::from))
    }
}

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// What the gateway is called in logs.
    pub name: String,
    /// What a commit does to sessions that an older policy admitted.
    pub on_commit: OnCommit,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { name: "postern".into(), on_commit: OnCommit::default() }
    }
}

/// What a worker does when its queues are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Idle {
    /// Poll if all devices are PCI ones, else sleep.
    #[default]
    Auto,
    /// Poll without pause.
    Busy,
    /// Sleep for a moment after some empty polls.
    Sleep,
    /// Wait on the core, with little power, for moments that grow.
    Pause,
}

/// `[dataplane]`. Sizes are fixed at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// Worker i runs on core `workers[i]`. Empty: one worker on the last core. Cores may repeat.
    pub workers: Vec<u16>,
    /// Most sessions.
    pub sessions: u32,
    /// Most expectations.
    pub expectations: u32,
    /// Most sessions with an ALG bound.
    pub alg_sessions: u32,
    /// Most endpoint-independent NAT bindings.
    pub bindings: u32,
    /// Room of each worker's event ring, in events.
    pub events: u32,
    /// What a worker does when its queues are empty.
    pub idle: Idle,
    /// Empty polls before a worker sleeps.
    pub idle_polls: u32,
    /// How long it sleeps, in microseconds.
    pub idle_sleep_us: u32,
    /// DPDK memory in MiB; none to derive it from the sizes.
    pub memory_mb: Option<u32>,
    /// Added to the EAL arguments.
    pub eal_args: Vec<String>,
    /// Test mode: every packet goes to a random worker first.
    pub misroute: bool,
}

impl Default for Dataplane {
    fn default() -> Self {
        Self {
            workers: Vec::new(),
            sessions: 262_144,
            expectations: 65_536,
            alg_sessions: 16_384,
            bindings: 262_144,
            events: 8_192,
            idle: Idle::Auto,
            idle_polls: 256,
            idle_sleep_us: 50,
            memory_mb: None,
            eal_args: Vec::new(),
            misroute: false,
        }
    }
}

impl Dataplane {
    /// The core of each worker, on a machine whose last usable core is `last`.
    #[must_use]
    pub fn worker_cores(&self, last: u16) -> Vec<u16> {
        if self.workers.is_empty() { vec![last] } else { self.workers.clone() }
    }
}

/// `[[interface]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its device.
    pub device: Device,
    /// Which of the devices that is, in the order in which interfaces name them.
    pub port: u16,
    /// Its 802.1Q VLAN; none for frames without a tag.
    pub vlan: Option<u16>,
    /// Its zone.
    pub zone: ZoneId,
    /// Its addresses with their prefix lengths; the first is the primary.
    pub addresses: Vec<Ipv4Net>,
    /// Largest IP packet, in bytes, without the tag.
    pub mtu: u16,
    /// Its MAC address; none to take the device's.
    pub mac: Option<[u8; 6]>,
    /// How its device is set up.
    pub nic: NicSettings,
    /// Where it stands.
    pub place: Place,
}

/// `[[route]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub to: Ipv4Net,
    /// Next hop; none if the network is on the link of `interface`.
    pub via: Option<Ipv4Addr>,
    /// Egress.
    pub interface: InterfaceId,
}

/// `[[neighbor]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Where it is.
    pub interface: InterfaceId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// `[[address]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Its name.
    pub name: String,
    /// What it stands for.
    pub prefixes: Vec<Prefix>,
}

/// `[[service]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedService {
    /// Its name.
    pub name: String,
    /// What it stands for; one per range of ports.
    pub services: Vec<Service>,
}

/// `[[alg]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alg {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: AlgProtocol,
    /// How far it goes.
    pub mode: AlgMode,
    /// Ports that are this protocol where the rule's service names no application; none for its own port.
    pub ports: Option<Vec<u16>>,
    /// What becomes of its sessions when it is switched off or goes.
    pub on_change: OnChange,
    /// Sessions that no port and no service binds are looked at for its protocol.
    pub detect: bool,
    /// What becomes of a session at the bound of its streams, if it says so.
    pub overflow: Option<Overflow>,
    /// `[alg.limits]`: how many pinholes its sessions may have.
    pub limits: ExpectationLimits,
    /// What it allows.
    pub settings: AlgSettings,
    /// `[[alg.rule]]`; the first match wins.
    pub rules: Vec<alg::rules::Rule>,
}

/// What a profile allows: [`alg::Profile`] without its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlgSettings {
    /// What the standard demands is demanded, whatever the mode.
    pub strict: bool,
    /// A message may name an address that is not its sender's own.
    pub third_party: bool,
    /// Lowest port that a pinhole may lead to.
    pub lowest_port: u16,
    /// Ports that no pinhole may lead to.
    pub forbidden_ports: Vec<(u16, u16)>,
    /// What becomes of encrypted control sessions.
    pub encrypted: WhenEncrypted,
    /// FTP alone.
    pub ftp: FtpOptions,
    /// TFTP alone.
    pub tftp: TftpOptions,
    /// SIP alone.
    pub sip: SipOptions,
    /// RTSP alone.
    pub rtsp: RtspOptions,
}

impl Default for AlgSettings {
    fn default() -> Self {
        let profile = alg::Profile::default();
        Self {
            strict: profile.strict,
            third_party: profile.third_party,
            lowest_port: profile.lowest_port,
            forbidden_ports: profile.forbidden_ports.to_vec(),
            encrypted: profile.encrypted,
            ftp: profile.ftp,
            tftp: profile.tftp,
            sip: profile.sip,
            rtsp: profile.rtsp,
        }
    }
}

/// Zones of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zones {
    /// Every zone, also those that a later reload may add.
    Any,
    /// These.
    Only(Vec<ZoneId>),
}

/// `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name; `rule N`, counted from 1, if the file gives none.
    pub name: String,
    /// Where sessions come from.
    pub from: Zones,
    /// Where they go.
    pub to: Zones,
    /// Original source.
    pub source: Addresses,
    /// Translated destination.
    pub destination: Addresses,
    /// Services; empty for any.
    pub services: Vec<Service>,
    /// What it does.
    pub action: Action,
    /// How deep it looks.
    pub mode: Mode,
    /// What goes to the audit log.
    pub log: RuleLog,
    /// The ALG profiles that it names: places in [`Config::algs`].
    pub profiles: RuleProfiles,
    /// Where it stands.
    pub place: Place,
}

/// `[[nat]]`: source NAT, and what leaves of static NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// Where sessions come from.
    pub from: Zones,
    /// Where they go.
    pub to: Zones,
    /// Original source.
    pub source: Addresses,
    /// Translated destination.
    pub destination: Addresses,
    /// What they are translated to.
    pub translate: Translate,
    /// What a port of an interface or a pool is kept for.
    pub mapping: Mapping,
    /// Where it stands.
    pub place: Place,
}

/// What source NAT translates to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translate {
    /// The first address of the egress interface.
    Interface,
    /// The addresses of a pool.
    Pool(Vec<Ipv4Addr>),
    /// The address at the same place of a network of the same size.
    Static {
        /// The networks of the sources.
        inside: Ipv4Net,
        /// What they are seen as.
        outside: Ipv4Net,
    },
    /// Nothing: an exception from the entries behind it.
    Nothing,
}

/// `[[nat]]`: destination NAT, and what comes in of static NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationNat {
    /// Where sessions come from.
    pub from: Zones,
    /// Addresses as they are called.
    pub called: Vec<Ipv4Net>,
    /// Services as they are called; empty for any.
    pub services: Vec<Service>,
    /// Who is meant.
    pub target: Target,
    /// Where it stands.
    pub place: Place,
}

/// Who is meant by an address that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This host.
    Host {
        /// Its address.
        addr: Ipv4Addr,
        /// Its port; none to keep the port.
        port: Option<u16>,
    },
    /// The host at the same place of this network.
    Network(Ipv4Net),
    /// Who has the address: an exception from the entries behind it.
    Nothing,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// ICMP errors that a worker sends in a second.
    pub icmp_errors_per_second: u32,
    /// Denied packets, and streams without room, that a worker reports in a second.
    pub deny_events_per_second: u32,
    /// How many pinholes there may be.
    pub expectations: ExpectationLimits,
    /// Percent of a worker's room for inspected sessions that one host may take alone.
    pub host_share: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            icmp_errors_per_second: 1_000,
            deny_events_per_second: 100,
            expectations: ExpectationLimits::default(),
            host_share: 75,
        }
    }
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Audit {
    /// Nowhere.
    Off,
    /// Standard output.
    #[default]
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where audit records go.
    pub audit: Audit,
    /// What the control core itself logs, on standard error.
    pub level: tracing::Level,
    /// Whether packets that no rule matches are recorded.
    pub deny: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { audit: Audit::default(), level: tracing::Level::INFO, deny: true }
    }
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The Unix socket of the gRPC service.
    pub socket: PathBuf,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/postern/control.sock".into() }
    }
}
