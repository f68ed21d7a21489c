//! Pattern: which texts a part of a message may be.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::{Anchored, Input, MatchKind, util::syntax};
use std::sync::Arc;

/// Biggest compiled expression, in bytes.
pub const MAX_PATTERN: usize = 512 * 1024;

/// Longest text that a pattern is asked about, in bytes; of a longer one its first bytes. A rule that denies on the
/// absence of a match does not depend on the rest: [`super::Rule::longer_than`] is there for length.
pub const MAX_TEXT: usize = 4096;

/// Texts that a part of a message must, or must not, match. Two are equal if they are written alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// In lower case, sorted. One of them is the whole text;
    set: Box<[Box<[u8]>]>,
    /// or one of these is found in it.
    expressions: Box<[Expression]>,
    negated: bool,
}

/// A compiled expression, shared by all copies.
#[derive(Clone, Debug)]
struct Expression {
    written: Box<str>,
    dfa: Arc<dense::DFA<Vec<u32>>>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Expression {}

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
                let said = said.to_string();
                // The lines before the last show where.
                let last = said.lines().last().unwrap_or_default();
                BadPattern(last.strip_prefix("error: ").unwrap_or(last).to_owned())
            })?;
        let expression = Expression { written: text.into(), dfa: Arc::new(dfa) };
        Ok(Self { expressions: Box::new([expression]), ..Self::default() })
    }

    /// One of these texts, whole, in any case of its letters.
    #[must_use]
    pub fn set<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut set: Vec<Box<[u8]>> =
            texts.into_iter().map(|t| t.as_ref().to_ascii_lowercase().into_boxed_slice()).collect();
        set.sort_unstable();
        set.dedup();
        Self { set: set.into_boxed_slice(), ..Self::default() }
    }

    /// Matches what this one does, and what the other one would if it were not negated.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let all = self.set.iter().chain(&other.set).cloned();
        let expressions = self.expressions.iter().chain(&other.expressions).cloned().collect();
        Self { expressions, negated: self.negated, ..Self::set(all) }
    }

    /// Matches what this one does not.
    #[must_use]
    pub fn negated(mut self) -> Self {
        self.negated = !self.negated;
        self
    }

    /// What it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let expressions: usize = self.expressions.iter().map(|e| e.dfa.memory_usage()).sum();
        self.set.iter().map(|text| text.len()).sum::<usize>().saturating_add(expressions)
    }

    /// Whether `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let text = text.get(..MAX_TEXT).unwrap_or(text);
        let lower = || text.iter().map(u8::to_ascii_lowercase);
        let listed = self.set.binary_search_by(|known| known.iter().copied().cmp(lower())).is_ok();
        // An automaton has no quit bytes and the search is unanchored: it cannot fail.
        let holds = |e: &Expression| {
            let input = Input::new(text).anchored(Anchored::No).earliest(true);
            e.dfa.try_search_fwd(&input).is_ok_and(|found| found.is_some())
        };
        (listed || self.expressions.iter().any(holds)) != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let both = set.or(exe);
        assert!(both.matches(b"bob") && both.matches(b"b.exe") && !both.matches(b"b"));
        assert!(!both.clone().negated().matches(b"al") && both.negated().matches(b"b"));
    }

    #[test]
    fn they_are_equal_if_they_are_written_alike() {
        let regex = |text| Pattern::regex(text).unwrap();
        assert_eq!(regex("a").or(Pattern::set(["b", "c"])), regex("a").or(Pattern::set(["c", "B"])));
        assert!(regex("a") != regex("b") && regex("a") != regex("a").negated());
        assert!(regex("a").bytes() > 100 && Pattern::set(["ab"]).bytes() == 2);
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
}
