//! Names of zones and rules, for people: what numbers meant under the policy that was in force.

use dataplane::event::Ref;
use dataplane::key::ZoneId;
use dataplane::policy::{Policy, RuleId};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

/// Names of zones and rules. Zone numbers mean the same under every policy of one run; rule numbers do not, so the
/// rules of earlier generations are kept for the sessions that they admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Generation of the policy that `rules` belong to.
    pub generation: u32,
    /// Zones, by [`ZoneId`].
    pub zones: Vec<String>,
    /// Rules, by [`RuleId`].
    pub rules: Vec<String>,
    /// Rules of earlier generations, the newest first; at most [`Self::REMEMBERED`].
    pub earlier: VecDeque<(u32, Vec<String>)>,
    /// Rules of ALG profiles as `PROFILE/RULE`, by their number, which means the same as long as it is used.
    pub alg_rules: HashMap<u16, String>,
}

impl Names {
    /// How many earlier policies are remembered. Sessions may outlive the policy that admitted them.
    pub const REMEMBERED: usize = 16;

    /// The names of a first policy.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        Self {
            generation: policy.generation,
            zones: policy.zones.clone(),
            rules: policy.rules.iter().map(|r| r.name.clone()).collect(),
            earlier: VecDeque::new(),
            alg_rules: alg_rules(policy).collect(),
        }
    }

    /// The names after `policy` is committed: its own, and those of the last generations.
    #[must_use]
    pub fn after(&self, policy: &Policy) -> Self {
        let mut next = Self::of(policy);
        next.earlier = self.earlier.clone();
        next.earlier.push_front((self.generation, self.rules.clone()));
        next.earlier.truncate(Self::REMEMBERED);
        // Events of the last policy may still come; a number is given again only when all others were.
        next.alg_rules = self.alg_rules.clone();
        next.alg_rules.extend(alg_rules(policy));
        next
    }

    /// A zone's name, `#N` if there is none.
    #[must_use]
    pub fn zone(&self, zone: ZoneId) -> Cow<'_, str> {
        self.zones
            .get(usize::from(zone.0))
            .map_or_else(|| format!("#{}", zone.0).into(), |z| z.as_str().into())
    }

    /// A rule's name under the policy of `generation`; `default` for none, `#N` if the policy is forgotten.
    #[must_use]
    pub fn rule(&self, rule: RuleId, generation: u32) -> Cow<'_, str> {
        if rule == RuleId::NONE {
            return "default".into();
        }
        let rules = if generation == self.generation {
            Some(&self.rules)
        } else {
            self.earlier.iter().find(|(g, _)| *g == generation).map(|(_, rules)| rules)
        };
        rules
            .and_then(|rules| rules.get(usize::try_from(rule.0).ok()?))
            .map_or_else(|| format!("#{}", rule.0).into(), |r| r.as_str().into())
    }

    /// The name of an ALG profile's rule, `PROFILE/RULE`; `#N` if nobody knows it.
    #[must_use]
    pub fn alg_rule(&self, number: u16) -> Cow<'_, str> {
        self.alg_rules.get(&number).map_or_else(|| format!("#{number}").into(), |name| name.as_str().into())
    }

    /// Whether a rule of this policy, or of one that is remembered, has this name.
    #[must_use]
    pub fn knows_rule(&self, name: &str) -> bool {
        let earlier = self.earlier.iter().flat_map(|(_, rules)| rules);
        name == "default" || self.rules.iter().chain(earlier).any(|rule| rule == name)
    }
}

fn alg_rules(policy: &Policy) -> impl Iterator<Item = (u16, String)> {
    let profiles = policy.alg.list().iter().chain(policy.alg.kept());
    let rules = profiles.flat_map(|profile| profile.rules().iter().map(move |rule| (profile, rule)));
    rules.map(|(profile, rule)| (rule.number, format!("{}/{}", profile.name, rule.name)))
}

/// The name of a session or expectation in listings and records: `INDEX.VERSION`.
#[must_use]
pub fn id(of: Ref) -> String {
    format!("{}.{}", of.index, of.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(generation: u32, rules: &[&str]) -> Policy {
        let rule = |name: &&str| dataplane::policy::Rule {
            name: (*name).to_owned(),
            from: dataplane::policy::ZoneSet([0; 4]),
            to: dataplane::policy::ZoneSet([0; 4]),
            source: Vec::new().into(),
            destination: Vec::new().into(),
            services: Vec::new(),
            action: dataplane::policy::Action::Allow,
            mode: dataplane::policy::Mode::default(),
            log: dataplane::policy::Log::Off,
            profiles: [None; 4],
        };
        Policy {
            generation,
            zones: vec!["trust".to_owned()],
            rules: rules.iter().map(rule).collect(),
            ..Policy::default()
        }
    }

    #[test]
    fn a_rule_is_named_by_the_policy_that_admitted() {
        let first = Names::of(&policy(1, &["web", "ftp"]));
        let second = first.after(&policy(2, &["ftp"]));
        assert_eq!(second.rule(RuleId(1), 1), "ftp");
        assert_eq!(second.rule(RuleId(0), 1), "web");
        assert_eq!(second.rule(RuleId(0), 2), "ftp");
        assert_eq!(second.rule(RuleId::NONE, 2), "default");
        assert_eq!(second.rule(RuleId(7), 2), "#7");
        assert_eq!(second.zone(ZoneId(0)), "trust");
        assert_eq!(second.zone(ZoneId(3)), "#3");
    }

    #[test]
    fn rules_of_profiles_are_named_by_their_number() {
        use dataplane::policy::{AlgProfile, AlgProfiles, AlgProtocol};
        let with = |generation, profile: &str, rules: &[&str]| {
            let rules =
                rules.iter().map(|rule| alg::rules::Rule { name: (*rule).into(), ..Default::default() });
            let settings = alg::Profile { rules: alg::CommandPolicy::new(rules), ..Default::default() };
            let profile = AlgProfile {
                name: profile.to_owned(),
                settings: std::sync::Arc::new(settings),
                ..AlgProfile::built_in(AlgProtocol::Ftp)
            };
            Policy {
                alg: AlgProfiles::new(vec![profile], [Some(0), None, None, None]),
                ..policy(generation, &[])
            }
        };
        let first = with(1, "guests", &["no exe", "no scr"]);
        let names = Names::of(&first);
        assert_eq!((names.alg_rule(1), names.alg_rule(2)), ("guests/no scr".into(), "#2".into()));
        let mut second = with(2, "staff", &["any"]);
        second.alg.follow(&first.alg, second.generation);
        let names = names.after(&second);
        assert_eq!((names.alg_rule(1), names.alg_rule(2)), ("guests/no scr".into(), "staff/any".into()));
    }

    #[test]
    fn old_policies_are_forgotten_in_order() {
        let mut names = Names::of(&policy(1, &["one"]));
        for generation in 2..=20 {
            names = names.after(&policy(generation, &["later"]));
        }
        assert_eq!(names.earlier.len(), Names::REMEMBERED);
        assert_eq!(names.rule(RuleId(0), 1), "#0");
        assert_eq!(names.rule(RuleId(0), 4), "later");
    }
}
