//! ALG profiles: what there is, which one a session gets, and how a profile lives on from one commit to the next.
//!
//! A session keeps the small number of its profile. A profile that has the same protocol and name after a commit keeps its
//! number, so that its sessions have its new settings from the next message on. What a commit switches off or takes away
//! may stay for the sessions that have it: see [`OnChange`].

use super::{Action, Decision, Mode, Query};
use crate::expect::ExpectationLimits;
use crate::key::Protocol;
use crate::stream::segment::Overflow;
use crate::view::BoundBy;
use alg::Application;
use alg::rules::Rule;
use std::collections::HashSet;
use std::sync::Arc;

/// Most profiles of a policy, those of no file included.
pub const MAX_PROFILES: usize = 64;
/// Most rules of one profile's command policy: those of a policy, of the one before it and of all kept profiles together
/// have numbers that differ.
pub const MAX_ALG_RULES: usize = 256;
const _: () = assert!(3 * MAX_PROFILES * MAX_ALG_RULES < u16::MAX as usize);

/// Protocols that have an ALG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlgProtocol {
    /// FTP.
    Ftp = 0,
    /// TFTP.
    Tftp = 1,
    /// SIP, over UDP and TCP.
    Sip = 2,
    /// RTSP.
    Rtsp = 3,
}

impl AlgProtocol {
    /// All, in the order of their number.
    pub const ALL: [Self; 4] = [Self::Ftp, Self::Tftp, Self::Sip, Self::Rtsp];

    /// The application of its control sessions.
    #[must_use]
    pub const fn application(self) -> Application {
        match self {
            Self::Ftp => Application::Ftp,
            Self::Tftp => Application::Tftp,
            Self::Sip => Application::Sip,
            Self::Rtsp => Application::Rtsp,
        }
    }

    /// The protocol whose control sessions have this application.
    #[must_use]
    pub fn of(application: Application) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.application() == application)
    }

    /// Its name in configuration and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.application().name()
    }

    /// Whether its ALG reads sessions of this transport.
    #[must_use]
    pub const fn runs_over(self, transport: Protocol) -> bool {
        match self {
            Self::Ftp | Self::Rtsp => matches!(transport, Protocol::Tcp),
            Self::Tftp => matches!(transport, Protocol::Udp),
            Self::Sip => matches!(transport, Protocol::Tcp | Protocol::Udp),
        }
    }

    /// The ports that IANA assigned. The second ones of SIP and RTSP are for TLS; RTSP's third is its alternate one, which servers
    /// without privileges use.
    #[must_use]
    pub const fn ports(self) -> &'static [u16] {
        match self {
            Self::Ftp => &[21],
            Self::Tftp => &[69],
            Self::Sip => &[5060, 5061],
            Self::Rtsp => &[554, 322, 8554],
        }
    }

    /// Whether a port is the protocol's own over a transport that it runs over. TLS has no datagrams.
    fn has_port(self, transport: Protocol, port: u16) -> bool {
        self.ports().contains(&port) && (port != 5061 || transport == Protocol::Tcp)
    }
}

/// How far an ALG goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AlgMode {
    /// Not bound.
    Off,
    /// Reads and says what it would do, and does nothing of it.
    Monitor,
    /// Pinholes and policy, no rewriting.
    Inspect,
    /// Pinholes, policy and rewriting.
    #[default]
    Full,
    /// The same, and what the protocol's standard demands is demanded.
    Strict,
}

impl AlgMode {
    /// All, each one further than the last.
    pub const ALL: [Self; 5] = [Self::Off, Self::Monitor, Self::Inspect, Self::Full, Self::Strict];

    /// The name in configuration and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Monitor => "monitor",
            Self::Inspect => "inspect",
            Self::Full => "full",
            Self::Strict => "strict",
        }
    }
}

/// What becomes of the sessions of a profile that a commit switches off or takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnChange {
    /// They are read on with the settings that they had.
    #[default]
    Keep,
    /// They are read no more, and go on.
    Drop,
}

/// Number of a profile: the same as long as the profile is there. Another one may get it later: a session has the profile of
/// its number only if that had it when the session was admitted ([`AlgProfile::since`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProfileId(pub u8);

impl ProfileId {
    /// No profile.
    pub const NONE: Self = Self(u8::MAX);
}

/// One profile.
#[derive(Clone, Debug)]
pub struct AlgProfile {
    /// Its number. Within a policy that was not published yet, its place.
    pub id: ProfileId,
    /// Generation of the policy that gave it its number.
    pub since: u32,
    /// Its name, unique in its protocol.
    pub name: String,
    /// What it reads.
    pub protocol: AlgProtocol,
    /// How far it goes.
    pub mode: AlgMode,
    /// Ports that are this protocol where the rule's service names no application. None: the protocol's own ports, which
    /// for other protocols than FTP count only where a rule names the profile.
    pub ports: Option<Vec<u16>>,
    /// Sessions that no port and no service binds are looked at for this protocol.
    pub detect: bool,
    /// What becomes of its sessions when it is switched off or goes.
    pub on_change: OnChange,
    /// A rule names it.
    pub by_rule: bool,
    /// What becomes of a session at a bound of its streams, if the profile says so.
    pub overflow: Option<Overflow>,
    /// How many pinholes its sessions may have.
    pub limits: ExpectationLimits,
    /// What is allowed.
    pub settings: Arc<alg::Profile>,
}

/// Name of the profile that a protocol has where no file says anything. No file can use it.
pub const BUILT_IN: &str = "built-in";

impl AlgProfile {
    /// The profile of a protocol of which the file says nothing.
    #[must_use]
    pub fn built_in(protocol: AlgProtocol) -> Self {
        Self {
            id: ProfileId::NONE,
            since: 0,
            name: BUILT_IN.to_owned(),
            protocol,
            mode: AlgMode::default(),
            ports: None,
            detect: false,
            on_change: OnChange::default(),
            by_rule: false,
            overflow: None,
            limits: ExpectationLimits::NONE,
            settings: Arc::default(),
        }
    }

    /// Whether sessions are bound to it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode != AlgMode::Off
    }

    /// Whether sessions are looked at for it.
    fn detects(&self) -> bool {
        self.detect && self.is_on()
    }

    /// Whether all that the ALG answers is done: nothing of it need be looked through.
    #[must_use]
    pub const fn does_all(&self) -> bool {
        matches!(self.mode, AlgMode::Full | AlgMode::Strict)
    }

    /// What becomes of a session at a bound of its streams; `usual` is for profiles that do not care. One that watches ends
    /// no session; one that is strict, or that a rule asks for, lets nothing pass unread unless it says so.
    #[must_use]
    pub fn overflow(&self, usual: Overflow) -> Overflow {
        match (self.mode, self.overflow) {
            (AlgMode::Monitor, _) => Overflow::Pass,
            (_, Some(overflow)) => overflow,
            (AlgMode::Strict, None) => Overflow::Reset,
            (_, None) if self.settings.strict || self.by_rule => Overflow::Reset,
            (_, None) => usual,
        }
    }

    /// The ports that are this protocol, where ports count.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        self.ports.as_deref().unwrap_or(self.protocol.ports())
    }

    /// Whether a port is this protocol's, for a session that has the profile by its rule or else by default.
    fn has_port(&self, transport: Protocol, port: u16, by_rule: bool) -> bool {
        match &self.ports {
            Some(ports) => ports.contains(&port),
            None => (by_rule || self.protocol == AlgProtocol::Ftp) && self.protocol.has_port(transport, port),
        }
    }

    /// Whether it is the profile of a session that has this number and was admitted by the policy of this generation.
    fn is_of(&self, id: ProfileId, admitted: u32) -> bool {
        self.id == id && self.since <= admitted
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.protocol, &self.name) == (other.protocol, &other.name)
    }

    /// The rules of its command policy.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.settings.rules.rules()
    }

    fn number_rules(&mut self, number: impl FnMut(&Rule) -> u16) {
        if !self.rules().is_empty() {
            Arc::make_mut(&mut self.settings).rules.renumber(number);
        }
    }
}

/// The profiles that a rule names, by [`AlgProtocol`]: places in [`AlgProfiles::list`].
pub type RuleProfiles = [Option<u8>; AlgProtocol::ALL.len()];

/// Whether a session gets an ALG, and with which settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Inspection {
    /// Nobody reads it.
    #[default]
    None,
    /// The ALG of its application does, with this profile.
    Profile(ProfileId),
    /// What it says first decides: [`AlgProfiles::candidates`] are looked for.
    Detect,
}

/// The profiles whose protocols a session is looked at for, by [`AlgProtocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidates([(ProfileId, u32); AlgProtocol::ALL.len()]);

impl Candidates {
    /// Whether there is one.
    fn any(&self) -> bool {
        self.0.iter().any(|(id, _)| *id != ProfileId::NONE)
    }

    /// The profile of an application, if the session may still turn out to be of it. It may not where a commit has taken the
    /// profile away, or switched it off.
    #[must_use]
    pub fn of(&self, profiles: &AlgProfiles, application: Application) -> Option<ProfileId> {
        let (id, since) = AlgProtocol::of(application).and_then(|p| self.0.get(p as usize).copied())?;
        let is_same = |profile: &&AlgProfile| (profile.id, profile.since) == (id, since) && profile.detects();
        profiles.list.iter().find(is_same).map(|profile| profile.id)
    }
}

/// The ALG profiles of a policy. FTP is on by default (RFC 5382 REQ-6 allows that one); the others where a rule's service
/// names their application, or a rule names a profile of theirs.
#[derive(Clone, Debug)]
pub struct AlgProfiles {
    /// All, in the order of the file; then the built-in ones of protocols that the file leaves without a default.
    list: Vec<AlgProfile>,
    /// By [`AlgProtocol`]: the place of the profile for rules that name none.
    defaults: [u8; AlgProtocol::ALL.len()],
    /// Of older policies, for the sessions that have them.
    kept: Vec<AlgProfile>,
    /// Where the search for a number that nobody has begins.
    next: u8,
    /// The same for the rules of profiles.
    next_rule: u16,
}

impl Default for AlgProfiles {
    fn default() -> Self {
        Self::new(Vec::new(), [None; AlgProtocol::ALL.len()])
    }
}

impl AlgProfiles {
    /// Of these profiles, at most [`MAX_PROFILES`] less one for each protocol; further ones are left out. `defaults` are the
    /// places of the default profiles by [`AlgProtocol`]; a protocol without one gets a built-in profile.
    #[must_use]
    pub fn new(mut list: Vec<AlgProfile>, defaults: RuleProfiles) -> Self {
        list.truncate(MAX_PROFILES - AlgProtocol::ALL.len());
        let defaults = AlgProtocol::ALL.map(|protocol| {
            let known = defaults[protocol as usize].filter(|place| usize::from(*place) < list.len());
            known.unwrap_or_else(|| {
                list.push(AlgProfile::built_in(protocol));
                u8::try_from(list.len() - 1).unwrap_or(u8::MAX)
            })
        });
        let mut rules = 0u16..;
        for (place, profile) in (0u8..).zip(&mut list) {
            profile.id = ProfileId(place);
            profile.number_rules(|_| rules.next().unwrap_or(u16::MAX));
        }
        let next = u8::try_from(list.len()).unwrap_or(0);
        Self { list, defaults, kept: Vec::new(), next, next_rule: rules.next().unwrap_or(0) }
    }

    /// The profiles of this policy: first those of the file, in its order.
    #[must_use]
    pub fn list(&self) -> &[AlgProfile] {
        &self.list
    }

    /// What older policies left to their sessions.
    #[must_use]
    pub fn kept(&self) -> &[AlgProfile] {
        &self.kept
    }

    /// Whether this is the default profile of its protocol.
    #[must_use]
    pub fn is_default(&self, profile: &AlgProfile) -> bool {
        self.of(&RuleProfiles::default(), profile.protocol).is_some_and(|(own, _)| own.id == profile.id)
    }

    /// The profile that a session has, if it is to be read by it: of its number, and of the generation of the policy that
    /// admitted it.
    #[must_use]
    pub fn find(&self, id: ProfileId, admitted: u32) -> Option<&AlgProfile> {
        // One that is switched off may have been kept as it was.
        self.list.iter().chain(&self.kept).find(|profile| profile.is_of(id, admitted) && profile.is_on())
    }

    /// The same, switched on or off.
    #[must_use]
    pub fn named(&self, id: ProfileId, admitted: u32) -> Option<&AlgProfile> {
        self.list.iter().chain(&self.kept).find(|profile| profile.is_of(id, admitted))
    }

    /// Takes over the numbers of the policy that this one, of this generation, replaces, and what its sessions are to keep.
    /// The same again changes nothing.
    pub fn follow(&mut self, old: &Self, generation: u32) {
        self.follow_rules(old);
        let known = || old.list.iter().chain(&old.kept);
        let mut taken: Vec<ProfileId> = known().map(|profile| profile.id).collect();
        let mut next = old.next;
        for profile in &mut self.list {
            if let Some(same) = known().find(|other| other.is_same(profile)) {
                (profile.id, profile.since) = (same.id, same.since);
                continue;
            }
            // There are fewer profiles in two policies, and kept ones, than numbers.
            while taken.contains(&ProfileId(next)) || ProfileId(next) == ProfileId::NONE {
                next = next.wrapping_add(1);
            }
            // A session of a profile that is long gone may still have the number: it was admitted before.
            (profile.id, profile.since) = (ProfileId(next), generation);
            taken.push(profile.id);
            next = next.wrapping_add(1);
        }
        self.next = next;
        let stays = |profile: &&AlgProfile| {
            let on_change = match self.list.iter().find(|new| new.is_same(profile)) {
                Some(new) if new.is_on() => return false,
                Some(new) => new.on_change,
                None => profile.on_change,
            };
            profile.is_on() && on_change == OnChange::Keep
        };
        // The newest first: what is too much is the oldest.
        self.kept = known().filter(stays).take(MAX_PROFILES).cloned().collect();
    }

    /// Gives a rule that has the same profile and name the number that it had: its rates go on.
    fn follow_rules(&mut self, old: &Self) {
        let known = || old.list.iter().chain(&old.kept);
        let mut taken: HashSet<u16> = known().flat_map(AlgProfile::rules).map(|rule| rule.number).collect();
        let mut next = old.next_rule;
        for profile in &mut self.list {
            let had = known().find(|other| other.is_same(profile)).map_or(&[][..], AlgProfile::rules);
            profile.number_rules(|rule| {
                if let Some(same) = had.iter().find(|other| other.name == rule.name) {
                    return same.number;
                }
                // There are fewer rules than numbers: see `MAX_ALG_RULES`.
                while !taken.insert(next) {
                    next = next.wrapping_add(1);
                }
                next
            });
        }
        self.next_rule = next.wrapping_add(1);
    }

    /// Ports that must be told from their neighbours.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.list.iter().flat_map(AlgProfile::ports).copied().collect()
    }

    /// The profile of a protocol for sessions of a rule that names these, and whether the rule names it.
    fn of(&self, named: &RuleProfiles, protocol: AlgProtocol) -> Option<(&AlgProfile, bool)> {
        let number = protocol as usize;
        let by_rule = named.get(number).copied().flatten();
        let place = by_rule.or_else(|| self.defaults.get(number).copied())?;
        Some((self.list.get(usize::from(place))?, by_rule.is_some()))
    }

    /// What a session is taken for that its rule calls `application`.
    pub(super) fn recognise(
        &self,
        named: &RuleProfiles,
        application: Application,
        query: &Query,
    ) -> Application {
        if application != Application::Unknown {
            return application;
        }
        if query.protocol == Protocol::Icmp {
            return Application::Ping;
        }
        let has_port = |protocol: &AlgProtocol| {
            protocol.runs_over(query.protocol)
                && self
                    .of(named, *protocol)
                    .is_some_and(|(p, by_rule)| p.has_port(query.protocol, query.dport, by_rule))
        };
        AlgProtocol::ALL.into_iter().find(has_port).map_or(Application::Unknown, AlgProtocol::application)
    }

    /// Who reads a session of a rule that names these profiles.
    #[must_use]
    pub fn inspection(
        &self,
        named: &RuleProfiles,
        application: Application,
        transport: Protocol,
    ) -> Inspection {
        let protocol = AlgProtocol::of(application).filter(|protocol| protocol.runs_over(transport));
        match protocol.and_then(|protocol| self.of(named, protocol)) {
            Some((profile, _)) if profile.is_on() => Inspection::Profile(profile.id),
            _ => Inspection::None,
        }
    }

    /// Who asks that sessions of a rule that names these profiles are looked at, where nobody has said what they are.
    #[must_use]
    pub fn candidates(&self, named: &RuleProfiles, transport: Protocol) -> Candidates {
        Candidates(AlgProtocol::ALL.map(|protocol| {
            let asks = self.of(named, protocol).filter(|(p, _)| p.detects() && protocol.runs_over(transport));
            asks.map_or((ProfileId::NONE, 0), |(profile, _)| (profile.id, profile.since))
        }))
    }

    /// Who reads a session that came through a pinhole: the profile of its parent, if its application is the parent's.
    #[must_use]
    pub fn inspection_of_child(
        &self,
        (parent, admitted): (ProfileId, u32),
        application: Application,
        transport: Protocol,
    ) -> Inspection {
        let protocol = AlgProtocol::of(application).filter(|protocol| protocol.runs_over(transport));
        match self.find(parent, admitted) {
            Some(profile) if Some(profile.protocol) == protocol => Inspection::Profile(parent),
            _ => Inspection::None,
        }
    }
}

impl Decision {
    /// Who reads the session, if it is admitted at all.
    pub(super) fn inspected(self, profiles: &AlgProfiles, named: &RuleProfiles, transport: Protocol) -> Self {
        let admitted = self.action == Action::Allow && self.mode == Mode::Alg;
        let inspection = match self.application {
            _ if !admitted => Inspection::None,
            Application::Unknown if profiles.candidates(named, transport).any() => Inspection::Detect,
            application => profiles.inspection(named, application, transport),
        };
        let bound = matches!(inspection, Inspection::Profile(_));
        Self { inspection, bound_by: if bound { self.bound_by } else { BoundBy::Nothing }, ..self }
    }
}

#[cfg(test)]
#[path = "profiles_tests.rs"]
mod tests;
