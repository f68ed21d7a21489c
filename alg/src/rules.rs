//! The command policy: which messages of a protocol are allowed, refused, masked or fatal.
//!
//! One form for every ALG: an ALG describes a message as a [`Subject`], the rules are asked in their order, and the
//! first that matches decides. Patterns are compiled once, to automata that read each byte once and need no memory
//! of their own while they match; what would grow too big is refused when it is compiled.

use crate::contract::{Application, Side};
use crate::tables::Tables;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::{Anchored, Input, MatchKind, util::syntax};

/// Biggest compiled pattern, in bytes.
pub const MAX_PATTERN: usize = 512 * 1024;

/// Longest text that a pattern is asked about, in bytes; of a longer one its first bytes. A rule that denies on the
/// absence of a match does not depend on the rest: [`Rule::longer_than`] is there for length.
pub const MAX_TEXT: usize = 4096;

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

/// Texts that a part of a message must, or must not, match.
#[derive(Clone, Debug)]
pub struct Pattern {
    test: Test,
    negated: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Regex(Box<dense::DFA<Vec<u32>>>),
    /// In lower case, sorted.
    Set(Box<[Box<[u8]>]>),
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern(String);

impl core::fmt::Display for BadPattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadPattern {}

impl Pattern {
    /// A regular expression over bytes, found anywhere in the text, in any case of its letters.
    ///
    /// # Errors
    /// It is not one, or its automaton would be bigger than [`MAX_PATTERN`].
    pub fn regex(text: &str) -> Result<Self, BadPattern> {
        let dfa = dense::Builder::new()
            .syntax(syntax::Config::new().unicode(false).utf8(false).case_insensitive(true))
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Unanchored)
                    .match_kind(MatchKind::LeftmostFirst)
                    .dfa_size_limit(Some(MAX_PATTERN))
                    .determinize_size_limit(Some(4 * MAX_PATTERN)),
            )
            .build(text)
            .map_err(|e| {
                // What is wrong with the text stands in the innermost error.
                let mut said: &dyn std::error::Error = &e;
                while let Some(source) = said.source() {
                    said = source;
                }
                BadPattern(said.to_string())
            })?;
        Ok(Self { test: Test::Regex(Box::new(dfa)), negated: false })
    }

    /// One of these texts, whole, in any case of its letters.
    #[must_use]
    pub fn set<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut set: Vec<Box<[u8]>> =
            texts.into_iter().map(|t| t.as_ref().to_ascii_lowercase().into_boxed_slice()).collect();
        set.sort_unstable();
        set.dedup();
        Self { test: Test::Set(set.into_boxed_slice()), negated: false }
    }

    /// Matches what this one does not.
    #[must_use]
    pub fn negated(mut self) -> Self {
        self.negated = !self.negated;
        self
    }

    /// Whether `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let text = text.get(..MAX_TEXT).unwrap_or(text);
        let found = match &self.test {
            // The automaton has no quit bytes and the search is unanchored: it cannot fail.
            Test::Regex(dfa) => {
                let input = Input::new(text).anchored(Anchored::No).earliest(true);
                dfa.try_search_fwd(&input).is_ok_and(|found| found.is_some())
            }
            Test::Set(set) => set
                .binary_search_by(|known| known.iter().copied().cmp(text.iter().map(u8::to_ascii_lowercase)))
                .is_ok(),
        };
        found != self.negated
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
#[derive(Clone, Debug, Default)]
pub struct Rule {
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
    /// The user that the command or the message names.
    pub user: Option<Pattern>,
    /// The domain or host that it names.
    pub domain: Option<Pattern>,
    /// The message is longer than so many bytes.
    pub longer_than: Option<u32>,
    /// The rule matches only above this rate.
    pub rate: Option<Rate>,
    /// What becomes of it.
    pub action: Action,
    /// Whether the audit log tells. Anything but `allow` is told in any case.
    pub log: bool,
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
    /// The user that it names.
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
    /// Which rule decided, by its place; none if no rule matched.
    pub rule: Option<u16>,
}

/// The rules, in their order.
#[derive(Clone, Debug, Default)]
pub struct CommandPolicy {
    rules: Box<[Rule]>,
}

impl CommandPolicy {
    /// Of these rules.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: rules.into_iter().collect() }
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
        for (place, rule) in (0u16..).zip(&self.rules) {
            if !rule.matches(subject) {
                continue;
            }
            if let Some(rate) = rule.rate
                && tables.rates.count((place, client), rate.per_ms, now_ms) <= rate.count
            {
                continue;
            }
            let log = rule.log || rule.action != Action::Allow;
            return Decision { action: rule.action, log, rule: Some(place) };
        }
        Decision::default()
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
    fn patterns() {
        let exe = Pattern::regex(r"\.(exe|scr)$").unwrap();
        assert!(exe.matches(b"a.EXE") && exe.matches(b"\xff.scr") && !exe.matches(b"a.exe.txt"));
        assert!(!exe.clone().negated().matches(b"a.exe") && exe.clone().negated().matches(b"a.txt"));
        assert!(Pattern::regex(r"^\x00[\x80-\xff]").unwrap().matches(b"\x00\xe9"));
        let set = Pattern::set(["Alice", "bob", "bob", "al"]);
        for (text, found) in
            [(&b"alice"[..], true), (b"BOB", true), (b"al", true), (b"ali", false), (b"", false)]
        {
            assert_eq!(set.matches(text), found, "{text:?}");
        }
    }

    #[test]
    fn patterns_that_are_none_or_too_big_are_refused() {
        let wrong = Pattern::regex("(a").unwrap_err();
        assert!(wrong.to_string().contains("unclosed group"), "{wrong}");
        let big = Pattern::regex("[ab]*a[ab]{24}x").unwrap_err();
        assert!(big.to_string().contains("limit"), "{big}");
    }

    #[test]
    fn text_beyond_the_bound_is_not_read() {
        let end = Pattern::regex("z").unwrap();
        let mut text = vec![b'a'; MAX_TEXT];
        text.push(b'z');
        assert!(!end.matches(&text) && end.matches(&text[1..]));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = || {
            vec![
                Rule { application: Some(Application::Sip), action: Action::Reset, ..Rule::default() },
                Rule { from: Some(Side::Responder), action: Action::Reset, ..Rule::default() },
                Rule {
                    methods: Box::new(["RETR".into(), "stor".into()]),
                    filename: Some(Pattern::regex("secret").unwrap()),
                    action: Action::Deny,
                    ..Rule::default()
                },
                Rule { methods: Box::new(["STOR".into()]), action: Action::Mask, ..Rule::default() },
                Rule { longer_than: Some(100), action: Action::Reset, ..Rule::default() },
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
        let rule = |pattern| Rule { user: Some(pattern), action: Action::Deny, ..Rule::default() };
        for pattern in [Pattern::regex("").unwrap(), Pattern::set(["a"]).negated()] {
            assert_eq!(decide(vec![rule(pattern)], &subject(b"RETR", b"x")).0, Action::Allow);
        }
    }

    #[test]
    fn rates_are_counted_per_client_and_forgotten_in_time() {
        let rate = Some(Rate { count: 2, per_ms: 1000 });
        let policy = CommandPolicy::new([Rule { rate, action: Action::Deny, ..Rule::default() }]);
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
    fn the_policy_says_whom_it_concerns() {
        let policy = CommandPolicy::new([Rule { application: Some(Application::Sip), ..Rule::default() }]);
        assert!(policy.concerns(Application::Sip) && !policy.concerns(Application::Ftp));
        assert!(CommandPolicy::new([Rule::default()]).concerns(Application::Ftp));
        assert!(!CommandPolicy::default().concerns(Application::Ftp));
    }
}
