//! What needs no root: `posternd check`, and refusing a broken file.

use super::command::{Output, run};
use super::gateway::{Config, POSTERND};
use std::fs;
use std::path::Path;
use std::process::Command;

fn check(text: &str, run_it: bool) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("posternd.toml");
    fs::write(&path, text).unwrap();
    let mut command = Command::new("timeout");
    command.args(["20", POSTERND]).arg(if run_it { "--config" } else { "check" }).arg(&path);
    (run(&mut command), path.display().to_string())
}

/// Refused with 2, and the first error is at this line and column.
#[track_caller]
fn refused(text: &str, place: &str, words: &[&str]) {
    for run_it in [false, true] {
        let (output, path) = check(text, run_it);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            output.stderr.contains(&format!("{path}:{place}: ")),
            "no {path}:{place} in:\n{}",
            output.stderr
        );
        for word in words {
            assert!(output.stderr.contains(word), "nothing about {word:?} in:\n{}", output.stderr);
        }
    }
}

fn good() -> String {
    Config::allowing(&["ftp", "tcp/80"]).text(Path::new("/nonexistent"))
}

#[test]
fn a_good_file_passes_the_check() {
    check(&good(), false).0.expect_ok("posternd check");
}

#[test]
fn an_unknown_key_is_named_with_what_was_expected() {
    refused(&format!("[gateway]\nnaem = \"x\"\n{}", good()), "2:1", &["naem", "expected", "name"]);
}

#[test]
fn a_syntax_error_is_named_with_its_place() {
    refused(&format!("[gateway\n{}", good()), "1:9", &[]);
}

#[test]
fn a_service_that_does_not_exist_is_named() {
    let text = good().replace("\"tcp/80\"", "\"tcp/99999\"");
    let line = text.lines().position(|l| l.contains("tcp/99999")).unwrap() + 1;
    let column = text.lines().nth(line - 1).unwrap().find("\"tcp/99999\"").unwrap() + 1;
    refused(&text, &format!("{line}:{column}"), &["tcp/99999", "expected"]);
}

#[test]
fn a_file_that_is_not_there_is_a_sentence() {
    let output = run(Command::new("timeout").args(["20", POSTERND, "check", "/nonexistent/posternd.toml"]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stderr.contains("/nonexistent/posternd.toml"), "{}", output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}
