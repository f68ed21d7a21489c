//! The compiled form of a policy, and what a worker remembers of it.
//!
//! All that policy says of a new session depends on its [`Classes`] alone. A worker remembers the last answers by these:
//! traffic has few of them, so that rules are nearly never looked at.

use super::classify::{Classes, Classifier, MAX_BYTES, Shape, TooLarge};
use super::{
    ALL_PORTS, Action, Addresses, Decision, Inspection, Log, Mode, NatTarget, Policy, Prefix, Query, Rule,
    RuleId, RuleProfiles, Service, Source, SourceNat, ZoneSet,
};
use crate::key::{InterfaceId, Protocol, ZoneId};
use crate::view::BoundBy;
use alg::Application;
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// The lists of the main classifier.
const RULES: usize = 0;
const SOURCE_NAT: usize = 1;
/// Answers that a worker remembers.
const MEMO: usize = 1024;

/// Nothing, or what [`Policy::compile`] has made of a policy's lists.
#[derive(Clone, Default)]
pub struct Compiled(Option<Arc<Tables>>);

struct Tables {
    /// No other compiled policy of this process has it.
    stamp: u64,
    sessions: Classifier,
    /// By entry of the classifier: the rule that it is of.
    rules: Vec<u32>,
    destination_nat: Classifier,
}

impl core::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compiled").field("bytes", &self.bytes()).finish()
    }
}

impl Compiled {
    fn tables(&self) -> Option<&Tables> {
        self.0.as_deref()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tables().map_or(0, |tables| tables.sessions.bytes() + tables.destination_nat.bytes())
    }
}

/// What policy says of a new session.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'p> {
    /// The rules' word.
    pub decision: Decision,
    /// The entry of source NAT.
    pub source_nat: Option<&'p SourceNat>,
}

#[derive(Clone, Copy)]
struct Remembered {
    /// Of the policy; 0 is none's.
    stamp: u64,
    classes: Classes,
    decision: Decision,
    source_nat: Option<u32>,
}

/// What one worker remembers.
pub struct Memo(Box<[Remembered]>);

impl Default for Memo {
    fn default() -> Self {
        let decision = Decision {
            action: Action::Deny,
            rule: RuleId::NONE,
            application: Application::Unknown,
            mode: Mode::default(),
            log: Log::Off,
            inspection: Inspection::None,
            bound_by: BoundBy::Nothing,
        };
        let nothing = Remembered { stamp: 0, classes: Classes::default(), decision, source_nat: None };
        Self(vec![nothing; MEMO].into_boxed_slice())
    }
}

impl Policy {
    /// Compiles the lists as they are now: whoever changes them compiles again. Without it every answer is found by
    /// looking at one entry after the other.
    ///
    /// # Errors
    /// The lists overlap too much.
    pub fn compile(&mut self) -> Result<(), TooLarge> {
        self.compile_within(MAX_BYTES)
    }

    fn compile_within(&mut self, most: usize) -> Result<(), TooLarge> {
        static STAMP: AtomicU64 = AtomicU64::new(1);
        let any = Addresses::default();
        let groups: Vec<_> = self.rules.iter().zip(0u32..).flat_map(by_source_ports).collect();
        let rules = groups.iter().map(|(rule, _, source_ports, services)| Shape {
            from: rule.from,
            to: rule.to,
            source: &rule.source,
            destination: &rule.destination,
            services,
            source_ports: *source_ports,
        });
        let source_nat = self.source_nat.iter().map(|nat| Shape {
            from: nat.from,
            to: nat.to,
            source: &nat.source,
            destination: &nat.destination,
            services: &[],
            source_ports: ALL_PORTS,
        });
        let sessions = Classifier::new(&[rules.collect(), source_nat.collect()], &self.alg.ports(), most)?;
        let called: Vec<_> = self.destination_nat.iter().map(|nat| only(&nat.called)).collect();
        let destination_nat = self.destination_nat.iter().zip(&called).map(|(nat, called)| Shape {
            from: nat.from,
            to: ZoneSet::any(),
            source: &any,
            destination: called,
            services: &nat.services,
            source_ports: ALL_PORTS,
        });
        let destination_nat = Classifier::new(&[destination_nat.collect()], &[], most)?;
        let rules = groups.iter().map(|(_, number, ..)| *number).collect();
        let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
        self.compiled = Compiled(Some(Arc::new(Tables { stamp, sessions, rules, destination_nat })));
        Ok(())
    }

    /// What policy says of a new session: [`Self::evaluate`] and [`Self::source_nat`] in one.
    #[must_use]
    #[inline]
    pub fn decide(&self, memo: &mut Memo, query: &Query) -> Verdict<'_> {
        let Some(tables) = self.compiled.tables() else {
            let source_nat = self.source_nat(query.from, query.to, query.source, query.destination);
            return Verdict { decision: self.evaluate(query), source_nat };
        };
        let classes = tables.sessions.classes(query);
        let at = place(&classes);
        if let Some(known) = memo.0.get(at)
            && known.stamp == tables.stamp
            && known.classes == classes
        {
            return self.verdict(known);
        }
        let found = Remembered {
            stamp: tables.stamp,
            classes,
            decision: self.decision(tables, &classes, query),
            source_nat: tables.sessions.first(SOURCE_NAT, &classes).and_then(|n| u32::try_from(n).ok()),
        };
        if let Some(known) = memo.0.get_mut(at) {
            *known = found;
        }
        self.verdict(&found)
    }

    #[inline]
    fn verdict(&self, known: &Remembered) -> Verdict<'_> {
        let source_nat = known.source_nat.and_then(|number| self.source_nat.get(number as usize));
        Verdict { decision: known.decision, source_nat }
    }

    fn decision(&self, tables: &Tables, classes: &Classes, query: &Query) -> Decision {
        let entry = tables.sessions.first(RULES, classes);
        let number = entry.and_then(|entry| tables.rules.get(entry)).map(|number| *number as usize);
        let rule = number.and_then(|number| Some((number, self.rules.get(number)?)));
        self.word_of(rule.and_then(|(number, rule)| Some((number, rule, rule.matches(query)?))), query)
    }

    /// The decision of the rule that matches first (with its number, and what its services call the session), or of none.
    pub(super) fn word_of(&self, first: Option<(usize, &Rule, Application)>, query: &Query) -> Decision {
        let Some((number, rule, named)) = first else {
            let application = self.alg.recognise(&RuleProfiles::default(), Application::Unknown, query);
            return Decision {
                action: Action::Deny,
                rule: RuleId::NONE,
                application,
                mode: Mode::default(),
                log: if self.log_default_deny { Log::Both } else { Log::Off },
                inspection: Inspection::None,
                bound_by: BoundBy::Nothing,
            };
        };
        let number = u32::try_from(number).map_or(RuleId::NONE, RuleId);
        let application = self.alg.recognise(&rule.profiles, named, query);
        let Rule { action, mode, log, .. } = *rule;
        let bound_by = if named == Application::Unknown { BoundBy::Port } else { BoundBy::Service };
        let inspection = Inspection::None;
        let decision = Decision { action, rule: number, application, mode, log, inspection, bound_by };
        decision.inspected(&self.alg, &rule.profiles, query.protocol)
    }

    /// The first rule's decision, if the policy is compiled.
    pub(super) fn compiled_decision(&self, query: &Query) -> Option<Decision> {
        let tables = self.compiled.tables()?;
        Some(self.decision(tables, &tables.sessions.classes(query), query))
    }

    /// The first entry of source NAT, if the policy is compiled.
    pub(super) fn compiled_source_nat(&self, query: &Query) -> Option<Option<&SourceNat>> {
        let tables = self.compiled.tables()?;
        let number = tables.sessions.first(SOURCE_NAT, &tables.sessions.classes(query));
        Some(number.and_then(|number| self.source_nat.get(number)))
    }

    /// Number of the first entry of destination NAT, if the policy is compiled.
    pub(super) fn compiled_destination_nat(
        &self,
        from: ZoneId,
        addr: Ipv4Addr,
        protocol: Protocol,
        dport: u16,
    ) -> Option<Option<usize>> {
        let tables = self.compiled.tables()?;
        let addr = IpAddr::V4(addr);
        let query = Query { from, to: ZoneId(0), source: addr, destination: addr, protocol, sport: 0, dport };
        Some(tables.destination_nat.first(0, &tables.destination_nat.classes(&query)))
    }

    /// What an entry of source NAT makes of a source whose session leaves by `egress`. None if it should be translated and
    /// there is no address.
    pub(super) fn source_of(
        &self,
        nat: Option<&SourceNat>,
        source: IpAddr,
        egress: InterfaceId,
    ) -> Option<Source<'_>> {
        let Some(nat) = nat else { return Some(Source::AsIs) };
        match nat.translate {
            NatTarget::Nothing => Some(Source::AsIs),
            NatTarget::Static { inside, outside } => match inside.counterpart(source, &outside)? {
                IpAddr::V4(addr) => Some(Source::Static(addr)),
                IpAddr::V6(_) => None,
            },
            NatTarget::Interface => {
                let address = self.interface_nat.get(usize::from(egress.0))?.as_ref()?;
                Some(Source::Bound(core::slice::from_ref(address), nat.mapping))
            }
            NatTarget::Pool(pool) => {
                let pool = self.pools.get(usize::from(pool)).filter(|pool| !pool.is_empty())?;
                Some(Source::Bound(pool, nat.mapping))
            }
        }
    }
}

impl Verdict<'_> {
    /// What becomes of the session's source, if it leaves by `egress`. None if it should be translated and there is no
    /// address to translate to: it must be refused.
    #[must_use]
    #[inline]
    pub fn source<'p>(&self, policy: &'p Policy, source: IpAddr, egress: InterfaceId) -> Option<Source<'p>> {
        policy.source_of(self.source_nat, source, egress)
    }
}

/// A rule with its number, and those of its services that have these source ports.
type Group<'a> = (&'a Rule, u32, (u16, u16), Vec<Service>);

/// A rule's services by their source ports: one entry of the classifier has one range of them.
fn by_source_ports((rule, number): (&Rule, u32)) -> Vec<Group<'_>> {
    if rule.services.is_empty() {
        return vec![(rule, number, ALL_PORTS, Vec::new())];
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for service in &rule.services {
        // Without a protocol a service has no ports of either kind.
        let ports = if service.protocol.is_none() { ALL_PORTS } else { service.source_ports };
        match groups.iter_mut().find(|group| group.2 == ports) {
            Some(group) => group.3.push(*service),
            None => groups.push((rule, number, ports, vec![*service])),
        }
    }
    groups
}

/// An entry of destination NAT that is called at no address matches nothing, and not everything.
fn only(called: &[Prefix]) -> Addresses {
    let except = if called.is_empty() {
        vec![Prefix { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 }]
    } else {
        Vec::new()
    };
    Addresses { within: called.to_vec(), except }
}

/// Where an answer is remembered.
#[inline]
fn place(classes: &Classes) -> usize {
    let low = u64::from(classes.source) << 32 | u64::from(classes.destination);
    let high = u64::from(classes.service) << 32 | u64::from(classes.from) << 16 | u64::from(classes.to);
    // Fibonacci hashing (Knuth) of both.
    let mixed =
        low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(32);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % MEMO
}

#[cfg(test)]
#[path = "compiled_tests.rs"]
mod tests;
