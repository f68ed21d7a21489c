//! No text panics, and every error says where it is and what was expected.

#![allow(clippy::unwrap_used, clippy::panic)]

mod film;
mod fuzz_body;

use fuzz_body::config as survives;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const MINIMAL: &str = include_str!("../../docs/examples/minimal.toml");
const REFERENCE: &str = include_str!("../../docs/examples/reference.toml");

/// Words that bend a file more than letters do.
const WORDS: [&str; 24] = [
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "]]",
    "=",
    ",",
    "{",
    "}",
    "\n",
    "#",
    "\"\"\"",
    "0",
    "-1",
    "1e9",
    "true",
    "any",
    "ä",
    "\u{0}",
    "10.0.0.1/8",
    "::1",
    "tcp/1",
    "name",
];

/// The same cases on every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn files_with_words_put_in_and_parts_cut_out(
        reference in any::<bool>(),
        changes in proptest::collection::vec((any::<u16>(), 0..12usize, 0..=WORDS.len()), 1..6),
    ) {
        let mut text: Vec<char> = if reference { REFERENCE } else { MINIMAL }.chars().collect();
        for (at, cut, word) in changes {
            let at = usize::from(at) % (text.len() + 1);
            let end = (at + cut).min(text.len());
            let word = WORDS.get(word).copied().unwrap_or("");
            text.splice(at..end, word.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn lines_dropped_doubled_and_swapped(picks in proptest::collection::vec(any::<u8>(), 1..120)) {
        let lines: Vec<&str> = REFERENCE.lines().collect();
        let text: Vec<&str> = picks.iter().filter_map(|i| lines.get(usize::from(*i)).copied()).collect();
        survives(&text.join("\n"));
    }

    #[test]
    fn values_of_the_wrong_kind(line in 0..200usize, value in 0..WORDS.len()) {
        let text: Vec<String> = REFERENCE.lines().enumerate().map(|(i, text)| match text.split_once('=') {
            Some((key, _)) if i == line => format!("{key}= \"{}\"", WORDS[value].escape_default()),
            _ => text.to_owned(),
        }).collect();
        survives(&text.join("\n"));
    }
}

#[test]
fn deep_nesting_and_large_files_are_refused_in_good_time() {
    survives(&"[".repeat(100_000));
    survives(&format!("a = {}", "[".repeat(100_000)));
    survives(&format!("a = {}", "{a=".repeat(50_000)));
    survives(&"x\n".repeat(500_000));
    survives(&"[[zone]]\n".repeat(50_000));
    survives(&format!("{MINIMAL}{}", "[[interface]]\nzone = \"z\"\n".repeat(20_000)));
}
