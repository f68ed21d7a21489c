//! The compiled policy: an immutable snapshot that control publishes and workers read.
//!
//! Rules see the original source and the translated destination.
//!
//! Here are the snapshot's types; `evaluate` reads it for one session, `compiled` does so faster, by way of `classify` and
//! `partition`; `profiles` are those of the ALGs; `prefix` and `zone_set` are its small parts.

mod classify;
mod compiled;
mod evaluate;
mod partition;
mod prefix;
mod profiles;
mod zone_set;

pub use classify::{MAX_BYTES as MAX_COMPILED_BYTES, TooLarge};
pub use compiled::{Compiled, Memo, Verdict};
pub use prefix::PrefixError;
pub use profiles::{
    AlgMode, AlgProfile, AlgProfiles, AlgProtocol, BUILT_IN, Candidates, Inspection, MAX_ALG_RULES,
    MAX_PROFILES, OnChange, ProfileId, RuleProfiles,
};

use crate::expect::ExpectationLimits;
use crate::key::{Protocol, ZoneId};
use crate::packet::IpOptions;
use crate::session::Session;
use crate::view::{BoundBy, State};
use alg::Application;
use core::net::{IpAddr, Ipv4Addr};

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Admit the session.
    Allow,
    /// Drop without an answer.
    Deny,
    /// Drop with an answer: a TCP reset, or ICMP administratively prohibited.
    Reject,
}

/// A set of zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneSet(pub [u64; 4]);

/// Most zones of one policy.
pub const MAX_ZONES: usize = 256;

/// An address range written as a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Network address, host bits zero.
    pub addr: IpAddr,
    /// Prefix length in bits.
    pub len: u8,
}

/// A set of addresses: those within one of some prefixes, but for those within one of some others.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Where they are; none for anywhere.
    pub within: Vec<Prefix>,
    /// Where they are not, whatever `within` says.
    pub except: Vec<Prefix>,
}

impl From<Vec<Prefix>> for Addresses {
    fn from(within: Vec<Prefix>) -> Self {
        Self { within, except: Vec::new() }
    }
}

/// Every port.
pub const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// One service of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Protocol, or none for any.
    pub protocol: Option<Protocol>,
    /// First and last destination port; ignored for ICMP and any.
    pub ports: (u16, u16),
    /// First and last source port, likewise.
    pub source_ports: (u16, u16),
    /// What the service is, if its name says so.
    pub application: Application,
}

/// How deep a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// At each packet by itself: no session and no translation. Answers need a rule of their own.
    Packet,
    /// At sessions. No ALG reads them.
    Stateful,
    /// At sessions, and at what they say where their application has an ALG.
    #[default]
    Alg,
}

/// Which records are written of the sessions of a rule. Any but [`Self::Off`] has its denials recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Log {
    /// None.
    Off = 0,
    /// That it opened.
    Start = 1,
    /// That it ended.
    End = 2,
    /// Both.
    #[default]
    Both = 3,
}

impl Log {
    /// From the two low bits of a number.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Off,
            1 => Self::Start,
            2 => Self::End,
            _ => Self::Both,
        }
    }

    /// Whether an open record is wanted.
    #[must_use]
    pub const fn start(self) -> bool {
        self as u8 & Self::Start as u8 != 0
    }

    /// Whether a close record is.
    #[must_use]
    pub const fn end(self) -> bool {
        self as u8 & Self::End as u8 != 0
    }

    /// Whether any record is.
    #[must_use]
    pub const fn any(self) -> bool {
        self as u8 != 0
    }
}

/// One rule. No service matches every service.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name in logs.
    pub name: String,
    /// Zones that the session comes from.
    pub from: ZoneSet,
    /// Zones that it goes to.
    pub to: ZoneSet,
    /// Original source.
    pub source: Addresses,
    /// Translated destination.
    pub destination: Addresses,
    /// Services.
    pub services: Vec<Service>,
    /// What it does.
    pub action: Action,
    /// How deep it looks.
    pub mode: Mode,
    /// What is recorded.
    pub log: Log,
    /// The ALG profiles of its sessions, where they are not the default ones.
    pub profiles: RuleProfiles,
}

/// Source NAT of a zone pair, or an exception from it.
#[derive(Clone, Debug)]
pub struct SourceNat {
    /// Zones that the session comes from.
    pub from: ZoneSet,
    /// Zones that it goes to.
    pub to: ZoneSet,
    /// Original source.
    pub source: Addresses,
    /// Translated destination.
    pub destination: Addresses,
    /// Where to.
    pub translate: NatTarget,
    /// How an interface's address or a pool is used.
    pub mapping: Mapping,
}

/// What a translation to an interface or a pool is kept for (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mapping {
    /// For an inside endpoint, whoever it talks to.
    #[default]
    EndpointIndependent,
    /// For one session: address and port-dependent. Its port is chosen so that replies come in at the session's owner.
    EndpointDependent,
}

/// What source NAT translates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatTarget {
    /// The first address of the egress interface.
    Interface,
    /// An address of this pool of [`Policy::pools`].
    Pool(u16),
    /// The address that stands for the source, one for one; its port stays. [`Policy::destination_nat`] has the way back.
    Static {
        /// Networks of one size, address by address.
        inside: Prefix,
        /// As it is seen.
        outside: Prefix,
    },
    /// Nothing: the session is not translated.
    Nothing,
}

/// Destination NAT of a zone: what is sent to an outside address goes to a host inside; or an exception from that.
#[derive(Clone, Debug)]
pub struct DestinationNat {
    /// Zones that the session comes from.
    pub from: ZoneSet,
    /// Addresses as they are called.
    pub called: Vec<Prefix>,
    /// Services as they are called; none for any.
    pub services: Vec<Service>,
    /// Where it goes.
    pub target: DestinationTarget,
}

/// What destination NAT makes of an address that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationTarget {
    /// This host.
    Host {
        /// Its address.
        addr: Ipv4Addr,
        /// Its port; none leaves the port as it is. ICMP has none.
        port: Option<u16>,
    },
    /// The host at the same place of another network of the same size; the port stays.
    Network {
        /// As it is called.
        outside: Prefix,
        /// As it is.
        inside: Prefix,
    },
    /// Who has the address: it is not translated.
    Nothing,
}

/// What the policy says of a destination as it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// No entry is about it.
    Unlisted,
    /// An exception: it is meant as it is.
    AsCalled,
    /// This host and port (0 for ICMP) are meant.
    Host(Ipv4Addr, u16),
}

/// What the policy says of the source of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// It stays.
    AsIs,
    /// It is seen at this address, and at its own port.
    Static(Ipv4Addr),
    /// It gets a port of the first of these addresses that has one, with its other sessions or for this one alone.
    Bound(&'a [NatAddress], Mapping),
}

impl<'a> Source<'a> {
    /// The addresses of the binding that it needs, none if it needs none; and whose that is.
    #[must_use]
    #[inline]
    pub const fn bound(&self) -> (&'a [NatAddress], Mapping) {
        match *self {
            Self::AsIs | Self::Static(_) => (&[], Mapping::EndpointIndependent),
            Self::Bound(addresses, mapping) => (addresses, mapping),
        }
    }
}

/// Index of a translated address in the gateway's registry of port spaces. Never reused while the gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolAddr(pub u16);

impl PoolAddr {
    /// An address without a port space: whoever is seen there keeps its ports.
    pub const NONE: Self = Self(u16::MAX);
}

/// A translated address and its place in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatAddress {
    /// The address.
    pub addr: Ipv4Addr,
    /// Its port space.
    pub pool: PoolAddr,
}

/// How long sessions stay without packets, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP: SYN seen, nothing else.
    pub tcp_syn_sent: u32,
    /// TCP: SYN answered, handshake unfinished.
    pub tcp_syn_received: u32,
    /// TCP: established.
    pub tcp_established: u32,
    /// TCP: one end has sent FIN.
    pub tcp_fin_wait: u32,
    /// TCP: both ends have sent FIN.
    pub tcp_time_wait: u32,
    /// TCP: reset.
    pub tcp_reset: u32,
    /// UDP: only one side has sent.
    pub udp_new: u32,
    /// UDP: both sides have sent.
    pub udp_stream: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// Expectation that nothing has met.
    pub expectation: u32,
    /// A translated port after its last session, before its next.
    pub port_hold_down: u32,
    /// A fragment that waits for the rest of its datagram.
    pub fragment: u32,
}

impl Timeouts {
    /// How long a session in `state` stays without packets, in milliseconds.
    #[must_use]
    pub const fn of(&self, state: State) -> u32 {
        match state {
            State::TcpSynSent | State::TcpSimultaneous => self.tcp_syn_sent,
            State::TcpSynReceived => self.tcp_syn_received,
            State::TcpEstablished => self.tcp_established,
            State::TcpFinInitiator | State::TcpFinResponder => self.tcp_fin_wait,
            State::TcpTimeWait => self.tcp_time_wait,
            State::TcpReset => self.tcp_reset,
            State::UdpNew => self.udp_new,
            State::UdpStream => self.udp_stream,
            State::IcmpEcho => self.icmp,
            State::Closed => 0,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent: 30_000,
            tcp_syn_received: 60_000,
            tcp_established: 7_440_000,
            tcp_fin_wait: 120_000,
            tcp_time_wait: 120_000,
            tcp_reset: 10_000,
            udp_new: 30_000,
            udp_stream: 300_000,
            icmp: 60_000,
            expectation: 120_000,
            port_hold_down: 120_000,
            fragment: 3_000,
        }
    }
}

/// What the gateway tells hosts of a zone, and takes from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneSettings {
    /// Kinds of IP options that pass.
    pub ip_options: IpOptions,
    /// Whether they are told that a network or a host cannot be reached.
    pub unreachables: bool,
    /// Whether they are told that nothing listens at an address of the gateway: by a reset or a port unreachable.
    pub closed_ports: ClosedPorts,
}

impl Default for ZoneSettings {
    fn default() -> Self {
        Self { ip_options: IpOptions::NONE, unreachables: true, closed_ports: ClosedPorts::Drop }
    }
}

/// What the gateway answers where nothing of its own listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClosedPorts {
    /// Nothing.
    #[default]
    Drop,
    /// As a host would: a TCP reset, an ICMP port unreachable.
    Reject,
}

/// What becomes of the sessions that an older policy admitted. Control sees to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnCommit {
    /// They stay.
    #[default]
    Keep,
    /// Those that this policy would not admit as they are end.
    Reevaluate,
    /// They end.
    Close,
}

/// The snapshot.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Counts commits, from 1.
    pub generation: u32,
    /// Zone names by [`ZoneId`].
    pub zones: Vec<String>,
    /// What differs from the defaults by zone, by [`ZoneId`].
    pub zone_settings: Vec<ZoneSettings>,
    /// Rules, first match wins; no match denies.
    pub rules: Vec<Rule>,
    /// Whether any rule is of [`Mode::Packet`]: packets that open nothing are asked about too.
    pub has_packet_rules: bool,
    /// Source NAT, first match wins.
    pub source_nat: Vec<SourceNat>,
    /// Pools of source NAT.
    pub pools: Vec<Vec<NatAddress>>,
    /// Destination NAT, first match wins.
    pub destination_nat: Vec<DestinationNat>,
    /// Addresses of destination NAT, static NAT and of pools, first and last of each run, ascending and apart: what comes
    /// to them and neither a session nor an entry claims ends here.
    pub translated: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// First address of each interface, by [`crate::key::InterfaceId`], with its port space; none without an address.
    pub interface_nat: Vec<Option<NatAddress>>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Bounds of inspected streams.
    pub streams: crate::stream::segment::Limits,
    /// ALGs.
    pub alg: AlgProfiles,
    /// How many pinholes there may be.
    pub expectations: ExpectationLimits,
    /// Percent of a worker's places for inspected sessions that one host may have with those that it has opened, while no
    /// other host has any. As many times what is left it may have in any case, and a third of that of the memory of streams.
    pub host_share: u8,
    /// What becomes of older sessions.
    pub on_commit: OnCommit,
    /// Write a record for packets that no rule matches.
    pub log_default_deny: bool,
    /// A TCP segment without a session may be from the middle of a connection whose beginning nobody here saw, and opens
    /// a session if a rule allows it. Off in a gateway: a connection begins with its SYN.
    pub tcp_pick_up: bool,
    /// What [`Policy::compile`] has made of the lists above.
    pub compiled: Compiled,
}

impl Policy {
    /// The ALG profile that reads a session. None if a commit has switched it off or taken it away.
    #[inline]
    #[must_use]
    pub fn profile_of(&self, session: &Session) -> Option<&AlgProfile> {
        self.alg.find(session.profile(), session.policy_generation())
    }
}

/// Number of a rule in [`Policy::rules`], or [`RuleId::NONE`] (default deny, or a child without one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(pub u32);

impl RuleId {
    /// No rule.
    pub const NONE: Self = Self(u32::MAX);
}

/// What policy says of a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub action: Action,
    /// The rule that matched.
    pub rule: RuleId,
    /// What the session is taken for.
    pub application: Application,
    /// How deep to look.
    pub mode: Mode,
    /// What to record.
    pub log: Log,
    /// Who reads it.
    pub inspection: Inspection,
    /// What says so.
    pub bound_by: BoundBy,
}

/// A new session, as policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Ingress zone.
    pub from: ZoneId,
    /// Egress zone.
    pub to: ZoneId,
    /// Original source.
    pub source: IpAddr,
    /// Translated destination.
    pub destination: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Source port, original (0 for ICMP).
    pub sport: u16,
    /// Destination port, translated (0 for ICMP).
    pub dport: u16,
}
