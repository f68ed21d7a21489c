//! The compiled form of a policy, and what a worker remembers of it.
//!
//! All that policy says of a new session depends on its [`Classes`] alone. A worker remembers the last answers by these:
//! traffic has few of them, so that rules are nearly never looked at.

use super::classify::{Classes, Classifier, MAX_BYTES, Shape, TooLarge};
use super::{
    Action, Addresses, Decision, NatTarget, Policy, Prefix, Query, Rule, RuleId, SourceNat, ZoneSet,
};
use crate::key::{Protocol, ZoneId};
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
            log: false,
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
        let rules = self.rules.iter().map(|rule| Shape {
            from: rule.from,
            to: rule.to,
            source: &rule.source,
            destination: &rule.destination,
            services: &rule.services,
        });
        let source_nat = self.source_nat.iter().map(|nat| Shape {
            from: nat.from,
            to: nat.to,
            source: &nat.source,
            destination: &nat.destination,
            services: &[],
        });
        let sessions = Classifier::new(&[rules.collect(), source_nat.collect()], &self.alg.ftp_ports, most)?;
        let called: Vec<_> = self.destination_nat.iter().map(|nat| hosts(&nat.destination)).collect();
        let destination_nat = self.destination_nat.iter().zip(&called).map(|(nat, called)| Shape {
            from: nat.from,
            to: ZoneSet::any(),
            source: &any,
            destination: called,
            services: &nat.services,
        });
        let destination_nat = Classifier::new(&[destination_nat.collect()], &[], most)?;
        let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
        self.compiled = Compiled(Some(Arc::new(Tables { stamp, sessions, destination_nat })));
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
        let number = tables.sessions.first(RULES, classes);
        let rule = number.and_then(|number| Some((number, self.rules.get(number)?)));
        self.word_of(rule.and_then(|(number, rule)| Some((number, rule, rule.matches(query)?))), query)
    }

    /// The decision of the rule that matches first (with its number, and what its services call the session), or of none.
    pub(super) fn word_of(&self, first: Option<(usize, &Rule, Application)>, query: &Query) -> Decision {
        let Some((number, rule, named)) = first else {
            let application = self.alg.recognise(Application::Unknown, query);
            return Decision {
                action: Action::Deny,
                rule: RuleId::NONE,
                application,
                log: self.log_default_deny,
            };
        };
        let number = u32::try_from(number).map_or(RuleId::NONE, RuleId);
        let application = self.alg.recognise(named, query);
        Decision { action: rule.action, rule: number, application, log: rule.log }
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
        let query = Query { from, to: ZoneId(0), source: addr, destination: addr, protocol, dport };
        Some(tables.destination_nat.first(0, &tables.destination_nat.classes(&query)))
    }

    /// The addresses of an entry of source NAT, of a session that leaves by `egress`; empty if it is not translated. None
    /// if it should be and there is no address.
    pub(super) fn addresses_of(
        &self,
        nat: Option<&SourceNat>,
        egress: crate::key::InterfaceId,
    ) -> Option<&[super::NatAddress]> {
        match nat.map(|nat| nat.translate) {
            None | Some(NatTarget::Nothing) => Some(&[]),
            Some(NatTarget::Interface) => {
                let address = self.interface_nat.get(usize::from(egress.0))?.as_ref()?;
                Some(core::slice::from_ref(address))
            }
            Some(NatTarget::Pool(pool)) => {
                self.pools.get(usize::from(pool)).map(Vec::as_slice).filter(|pool| !pool.is_empty())
            }
        }
    }
}

impl Verdict<'_> {
    /// The addresses that source NAT may translate the session to, which leaves by `egress`; empty if it is not
    /// translated. None if it should be and there is no address: it must be refused.
    #[must_use]
    #[inline]
    pub fn source_addresses<'p>(
        &self,
        policy: &'p Policy,
        egress: crate::key::InterfaceId,
    ) -> Option<&'p [super::NatAddress]> {
        policy.addresses_of(self.source_nat, egress)
    }
}

/// An entry of destination NAT that is called at no address matches nothing, and not everything.
fn hosts(called: &[super::NatAddress]) -> Addresses {
    let host = |addr| Prefix { addr: IpAddr::V4(addr), len: 32 };
    let within: Vec<_> = called.iter().map(|nat| host(nat.addr)).collect();
    let except = if within.is_empty() {
        vec![Prefix { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 }]
    } else {
        Vec::new()
    };
    Addresses { within, except }
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
