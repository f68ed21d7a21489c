//! The command policy: which messages of a protocol are allowed, refused, masked or fatal.
//!
//! One form for every ALG: an ALG describes a message as a [`Subject`], the rules are asked in their order, and the
//! first that matches decides. Patterns are compiled once, to automata that read each byte once and need no memory
//! of their own while they match; what would grow too big is refused when it is compiled.
//!
//! - `pattern`: which texts a part of a message may be.

mod pattern;

pub use pattern::{BadPattern, MAX_PATTERN, MAX_TEXT, Pattern};

use crate::contract::{Application, Side};
use crate::tables::Tables;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    #[default]
    Allow,
    /// It does not, and its sender gets the protocol's own refusal.
    Deny,
    /// It goes on with its content made unreadable, as the protocol's ALG says.
    Mask,
    /// The flow is reset.
    Reset,
}

impl Action {
    /// The name in configuration and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Mask => "mask",
            Self::Reset => "reset",
        }
    }
}

/// So many matches in so much time, per initiator address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// This many pass the rule by; the next ones match it.
    pub count: u32,
    /// In this time, in milliseconds.
    pub per_ms: u32,
}

/// One line of the policy. A field that is `None` or empty asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in its policy.
    pub name: Box<str>,
    /// Its number: the rates of all policies are counted by it, and the audit log names the rule by it.
    pub number: u16,
    /// The protocol.
    pub application: Option<Application>,
    /// Who speaks.
    pub from: Option<Side>,
    /// Commands or methods, in any case.
    pub methods: Box<[Box<str>]>,
    /// All that follows the command, or the target of a request.
    pub argument: Option<Pattern>,
    /// The file that the command names.
    pub filename: Option<Pattern>,
    /// The user that the message names; of FTP the one that the session is logged in as, or asks to be.
    pub user: Option<Pattern>,
    /// The domain or host that it names.
    pub domain: Option<Pattern>,
    /// The message is longer than so many bytes.
    pub longer_than: Option<u32>,
    /// The rule matches only above this rate.
    pub rate: Option<Rate>,
    /// What becomes of it. None: the audit log is told, and the rules behind it are asked.
    pub action: Option<Action>,
}

/// What the rules are asked about. Parts that a message does not have are empty; a pattern on an empty part does not
/// match, negated or not.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The protocol.
    pub application: Application,
    /// Who speaks.
    pub from: Side,
    /// Command or method.
    pub method: &'a [u8],
    /// All that follows it, or the target of a request.
    pub argument: &'a [u8],
    /// The file that it names.
    pub filename: &'a [u8],
    /// The user that it names, or that its session has named before.
    pub user: &'a [u8],
    /// The domain that it names.
    pub domain: &'a [u8],
    /// The whole message, in bytes.
    pub size: u32,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the message.
    pub action: Action,
    /// Whether the audit log tells.
    pub log: bool,
    /// The number of the rule that decided, or else of the first that only has it told; none if no rule matched.
    pub rule: Option<u16>,
}

/// The rules, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandPolicy {
    rules: Box<[Rule]>,
}

impl CommandPolicy {
    /// Of these rules, numbered by their place.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let numbered = (0u16..).zip(rules).map(|(number, rule)| Rule { number, ..rule });
        Self { rules: numbered.collect() }
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Gives each rule another number. Those of all policies of a gateway must differ.
    pub fn renumber(&mut self, mut number: impl FnMut(&Rule) -> u16) {
        for rule in &mut self.rules {
            rule.number = number(rule);
        }
    }

    /// Whether any rule is about this protocol: if none is, a message need not be described.
    #[must_use]
    pub fn concerns(&self, application: Application) -> bool {
        self.rules.iter().any(|r| r.application.is_none_or(|a| a == application))
    }

    /// The first rule that matches. `client` is whose rate is counted.
    #[must_use]
    pub fn decide(
        &self,
        subject: &Subject<'_>,
        client: core::net::IpAddr,
        now_ms: u32,
        tables: &mut Tables,
    ) -> Decision {
        let mut told = None;
        for rule in &self.rules {
            if !rule.matches(subject) {
                continue;
            }
            if let Some(rate) = rule.rate
                && tables.rates.count((rule.number, client), rate, now_ms) <= rate.count
            {
                continue;
            }
            let Some(action) = rule.action else {
                told = told.or(Some(rule.number));
                continue;
            };
            return Decision {
                action,
                log: told.is_some() || action != Action::Allow,
                rule: Some(rule.number),
            };
        }
        Decision { action: Action::Allow, log: told.is_some(), rule: told }
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let part = |pattern: &Option<Pattern>, text: &[u8]| {
            pattern.as_ref().is_none_or(|p| !text.is_empty() && p.matches(text))
        };
        self.application.is_none_or(|a| a == subject.application)
            && self.from.is_none_or(|f| f == subject.from)
            && (self.methods.is_empty()
                || self.methods.iter().any(|m| m.as_bytes().eq_ignore_ascii_case(subject.method)))
            && self.longer_than.is_none_or(|n| subject.size > n)
            && part(&self.argument, subject.argument)
            && part(&self.filename, subject.filename)
            && part(&self.user, subject.user)
            && part(&self.domain, subject.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    const CLIENT: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 2));

    fn subject<'a>(method: &'a [u8], argument: &'a [u8]) -> Subject<'a> {
        Subject {
            application: Application::Ftp,
            from: Side::Initiator,
            method,
            argument,
            filename: argument,
            user: b"",
            domain: b"",
            size: 100,
        }
    }

    fn decide(rules: Vec<Rule>, subject: &Subject<'_>) -> (Action, Option<u16>) {
        let decision = CommandPolicy::new(rules).decide(subject, CLIENT, 0, &mut Tables::default());
        (decision.action, decision.rule)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = || {
            vec![
                Rule { application: Some(Application::Sip), action: Some(Action::Reset), ..Rule::default() },
                Rule { from: Some(Side::Responder), action: Some(Action::Reset), ..Rule::default() },
                Rule {
                    methods: Box::new(["RETR".into(), "stor".into()]),
                    filename: Some(Pattern::regex("secret").unwrap()),
                    action: Some(Action::Deny),
                    ..Rule::default()
                },
                Rule { methods: Box::new(["STOR".into()]), action: Some(Action::Mask), ..Rule::default() },
                Rule { longer_than: Some(100), action: Some(Action::Reset), ..Rule::default() },
            ]
        };
        assert_eq!(decide(rules(), &subject(b"retr", b"SECRET.txt")), (Action::Deny, Some(2)));
        assert_eq!(decide(rules(), &subject(b"STOR", b"public")), (Action::Mask, Some(3)));
        assert_eq!(decide(rules(), &subject(b"RETR", b"public")), (Action::Allow, None));
        let long = Subject { size: 101, ..subject(b"RETR", b"public") };
        assert_eq!(decide(rules(), &long), (Action::Reset, Some(4)));
    }

    #[test]
    fn a_pattern_on_what_a_message_does_not_have_never_matches() {
        let rule = |pattern| Rule { user: Some(pattern), action: Some(Action::Deny), ..Rule::default() };
        for pattern in [Pattern::regex("").unwrap(), Pattern::set(["a"]).negated()] {
            assert_eq!(decide(vec![rule(pattern)], &subject(b"RETR", b"x")).0, Action::Allow);
        }
    }

    #[test]
    fn rates_are_counted_per_client_and_forgotten_in_time() {
        let rate = Some(Rate { count: 2, per_ms: 1000 });
        let policy = CommandPolicy::new([Rule { rate, action: Some(Action::Deny), ..Rule::default() }]);
        let mut tables = Tables::default();
        let mut ask = |client, now| policy.decide(&subject(b"USER", b"x"), client, now, &mut tables).action;
        assert_eq!(
            [ask(CLIENT, 0), ask(CLIENT, 1), ask(CLIENT, 2)],
            [Action::Allow, Action::Allow, Action::Deny]
        );
        assert_eq!(ask(IpAddr::from([10, 1, 0, 3]), 3), Action::Allow, "another client");
        assert_eq!(ask(CLIENT, 999), Action::Deny);
        assert_eq!(ask(CLIENT, 1000), Action::Allow, "another second");
    }

    #[test]
    fn a_rule_without_an_action_has_it_told_and_decides_nothing() {
        let policy = CommandPolicy::new([
            Rule::default(),
            Rule { methods: Box::new(["PWD".into()]), action: Some(Action::Allow), ..Rule::default() },
            Rule { methods: Box::new(["STOR".into()]), action: Some(Action::Deny), ..Rule::default() },
        ]);
        let decide = |method| policy.decide(&subject(method, b"x"), CLIENT, 0, &mut Tables::default());
        let told = |action, rule| Decision { action, log: true, rule: Some(rule) };
        assert_eq!(decide(b"USER"), told(Action::Allow, 0));
        assert_eq!(decide(b"PWD"), told(Action::Allow, 1));
        assert_eq!(decide(b"STOR"), told(Action::Deny, 2));
    }

    #[test]
    fn rates_are_counted_by_number() {
        let rate = Some(Rate { count: 1, per_ms: 1000 });
        let policy = |number| {
            let mut policy =
                CommandPolicy::new([Rule { rate, action: Some(Action::Deny), ..Rule::default() }]);
            policy.renumber(|_| number);
            policy
        };
        let mut tables = Tables::default();
        let mut ask =
            |policy: &CommandPolicy| policy.decide(&subject(b"USER", b"x"), CLIENT, 0, &mut tables).rule;
        assert_eq!([ask(&policy(7)), ask(&policy(8)), ask(&policy(7))], [None, None, Some(7)]);
    }

    #[test]
    fn the_policy_says_whom_it_concerns() {
        let policy = CommandPolicy::new([Rule { application: Some(Application::Sip), ..Rule::default() }]);
        assert!(policy.concerns(Application::Sip) && !policy.concerns(Application::Ftp));
        assert!(CommandPolicy::new([Rule::default()]).concerns(Application::Ftp));
        assert!(!CommandPolicy::default().concerns(Application::Ftp));
    }
}
