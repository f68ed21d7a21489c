//! `docs/bare-metal.md` explains every message of the tool, and no others.

use clap::CommandFactory as _;
use hugepage_setup::cli::Arguments;
use hugepage_setup::error::Error;
use hugepage_setup::topic::Topic;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn guide() -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/bare-metal.md")).unwrap()
}

/// The first cells of the tables under headings that begin with `heading`: names in backticks.
fn names(guide: &str, heading: &str) -> BTreeSet<String> {
    let section = guide.lines().skip_while(|line| *line != heading).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let cells = section.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.map(str::to_owned).collect()
}

#[test]
fn every_message_is_explained() {
    let mut own: BTreeSet<String> = Topic::ALL.iter().map(|topic| topic.name().to_owned()).collect();
    assert_eq!(own.len(), Topic::ALL.len(), "two messages of one name");
    own.extend(Error::NAMES.map(str::to_owned));
    let guide = guide();
    assert_eq!(names(&guide, "## Messages"), own);
}

#[test]
fn an_explanation_says_what_is_meant_and_what_to_do() {
    let guide = guide();
    let section = guide.lines().skip_while(|line| *line != "## Messages");
    for row in section.filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
}

#[test]
fn every_option_is_explained() {
    let mut own = BTreeSet::new();
    for command in Arguments::command().get_subcommands() {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        own.extend(shown.filter_map(|argument| Some(format!("--{}", argument.get_long()?))));
    }
    own.extend(["--json", "--state", "--dpdk"].map(str::to_owned));
    own.remove("--help");
    assert_eq!(names(&guide(), "## Options"), own);
}
