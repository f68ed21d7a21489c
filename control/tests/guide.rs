//! docs/operator-guide.md says what the program does: its tables are held against the parser and the code, so that
//! they cannot drift; and so is the list of stages in docs/architecture.md.

#![allow(clippy::unwrap_used, clippy::panic)]

use control::config::Config;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::view::CloseReason;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use toml::{Table, Value};

#[path = "guide/audit.rs"]
mod audit;
#[path = "guide/keys.rs"]
mod keys;

fn docs(file: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file)).unwrap()
}

/// The smallest file that is good.
const BASE: &str = "[[interface]]\nname = \"inside\"\ndevice = \"null:0\"\nzone = \"trust\"\naddresses = [\"10.1.0.1/24\"]\n";

/// What the parser says is wrong, one sentence each.
fn errors(text: &str) -> Vec<String> {
    match Config::parse("guide.toml", text) {
        Ok(_) => Vec::new(),
        Err(report) => report.errors.iter().map(|error| error.problem.to_string()).collect(),
    }
}

/// The words that the parser expects where it finds one that nobody knows.
fn known(text: &str) -> BTreeSet<String> {
    let sentence = errors(text).into_iter().find(|sentence| sentence.contains("zzz")).unwrap();
    let (_, expected) = sentence.split_once("; expected ").unwrap_or_else(|| panic!("{sentence}"));
    let words = expected.trim_start_matches("one of ").split(['(', ';']).next().unwrap();
    words.split(',').map(|word| word.trim().to_owned()).collect()
}

/// The rows of the tables under the heading that starts with `heading`, cell by cell.
fn rows(guide: &str, heading: &str) -> Vec<Vec<String>> {
    let level = heading.bytes().take_while(|b| *b == b'#').count();
    let mut section = guide.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| {
        let hashes = line.bytes().take_while(|b| *b == b'#').count();
        hashes == 0 || hashes > level
    });
    let mut rows = Vec::new();
    while let Some(line) = section.next() {
        if line.starts_with("|---") {
            let table = section.by_ref().take_while(|line| line.starts_with('|'));
            rows.extend(table.map(|line| {
                line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
            }));
        }
    }
    assert!(!rows.is_empty(), "no table under {heading}");
    rows
}

/// What stands between backquotes; none if there is more.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|code| !code.contains('`'))
}

/// How a table is opened: one within another needs that other.
fn opening(name: &str) -> String {
    match name {
        "[[alg.rule]]" | "[alg.limits]" => format!("[[alg]]\nname = \"a\"\nprotocol = \"sip\"\n{name}"),
        _ => name.to_owned(),
    }
}

/// The tables of the language with their keys, by the guide: `[log]` → rows.
fn sections(guide: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let headings = guide.lines().filter(|line| line.starts_with("### `["));
    let section = |line: &str| {
        let name = line.trim_start_matches("### ").trim_matches('`').to_owned();
        (name, rows(guide, line))
    };
    headings.map(section).collect()
}

#[test]
fn every_table_and_key_of_the_parser_stands_in_the_guide_and_no_other() {
    let guide = docs("operator-guide.md");
    let sections = sections(&guide);
    let whole = sections.keys().filter(|name| !name.contains('.'));
    let names: BTreeSet<String> = whole.map(|name| name.trim_matches(['[', ']']).to_owned()).collect();
    assert_eq!(names, known(&format!("zzz = 1\n{BASE}")), "tables");
    for (name, rows) in &sections {
        let keys: BTreeSet<String> = rows.iter().map(|row| code(&row[0]).unwrap().to_owned()).collect();
        assert_eq!(keys.len(), rows.len(), "{name} has a key twice");
        assert_eq!(keys, known(&format!("{BASE}{}\nzzz = 1\n", opening(name))), "keys of {name}");
        for row in rows {
            assert_eq!(row.len(), 4, "{name} {}", row[0]);
            assert!(row.iter().all(|cell| !cell.is_empty()), "{name} {}", row[0]);
        }
    }
}

#[test]
fn defaults_are_those_of_the_reference_and_required_keys_are_required() {
    // What the reference states as defaults is compared with the code by a test of its own.
    let reference: Table = docs("examples/reference.toml").parse().unwrap();
    let once = ["[gateway]", "[dataplane]", "[limits]", "[streams]", "[timeouts]", "[log]", "[control]"];
    for (name, rows) in sections(&docs("operator-guide.md")) {
        let mut required = BTreeSet::new();
        for row in &rows {
            let key = code(&row[0]).unwrap();
            if row[2].starts_with("required") {
                required.insert(key.to_owned());
            }
            // `X`, or `X` and a remark.
            let literal = row[2].split('`').nth(1).filter(|_| row[2].starts_with('`'));
            if let Some(literal) = literal.filter(|_| once.contains(&name.as_str())) {
                let stated: Table = format!("value = {literal}").parse().unwrap();
                let in_reference = &reference[name.trim_matches(['[', ']'])][key];
                assert_eq!(&stated["value"], in_reference, "{name} {key}");
            }
        }
        // An empty table lacks what is required, and nothing else.
        let text = if name == "[[interface]]" { String::new() } else { BASE.to_owned() };
        let missing: BTreeSet<String> = errors(&format!("{text}{}\n", opening(&name)))
            .iter()
            .filter_map(|sentence| Some(sentence.split_once(" has no \"")?.1.split_once('"')?.0.to_owned()))
            .collect();
        assert!(missing.is_subset(&required), "{name}: {missing:?} are required, not only {required:?}");
        if name != "[[nat]]" && name != "[[service]]" {
            assert_eq!(missing, required, "{name}"); // others need a type first
        }
    }
}

#[test]
fn every_example_is_read() {
    let guide = docs("operator-guide.md");
    let blocks: Vec<&str> =
        guide.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() > sections(&guide).len(), "a table without an example");
    // An example of one table stands in this file.
    let others = "[[interface]]\nname = \"outside\"\ndevice = \"null:1\"\nzone = \"untrust\"\naddresses = [\"198.51.100.1/24\"]\n";
    let mut seen = BTreeSet::new();
    for block in blocks {
        let table: Table = block.parse().unwrap_or_else(|error| panic!("{error}\n{block}"));
        seen.extend(table.keys().cloned());
        let whole = table.get("interface").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        let text = match (whole, table.contains_key("interface")) {
            (true, _) => block.to_owned(),
            (false, true) => format!("{others}{block}"),
            (false, false) => format!("{BASE}{others}{block}"),
        };
        assert_eq!(errors(&text), Vec::<String>::new(), "\n{block}");
    }
    let whole = sections(&guide).into_keys().filter(|name| !name.contains('.'));
    let tables: BTreeSet<String> = whole.map(|name| name.trim_matches(['[', ']']).to_owned()).collect();
    assert_eq!(seen, tables, "tables with an example");
}

/// Names and their meaning, as two columns.
fn column<'a>(items: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Vec<String>> {
    items.into_iter().map(|(name, help)| vec![format!("`{name}`"), help.to_owned()]).collect()
}

#[test]
fn every_drop_reason_counter_and_close_reason_is_explained_in_its_own_words() {
    let guide = docs("operator-guide.md");
    let reasons = column(DropReason::ALL.iter().map(|r| (r.name(), r.help())));
    assert_eq!(rows(&guide, "## Drop reasons"), reasons);
    let counters = column(Counter::ALL.iter().map(|c| (c.name(), c.help())));
    assert_eq!(rows(&guide, "## Counters"), counters);
    for reason in CloseReason::ALL.iter().filter(|reason| **reason != CloseReason::None) {
        assert!(guide.contains(&format!("\n| `{}` | ", reason.name())), "close reason {}", reason.name());
    }
}

#[test]
fn the_reference_has_every_key() {
    let reference: Table = docs("examples/reference.toml").parse().unwrap();
    for (name, rows) in sections(&docs("operator-guide.md")) {
        // `alg.rule` stands within tables of `alg`.
        let mut tables = vec![&reference];
        for part in name.trim_matches(['[', ']']).split('.') {
            let within = tables.iter().filter_map(|table| table.get(part));
            tables = within
                .flat_map(|value| match value {
                    Value::Array(all) => all.iter().filter_map(Value::as_table).collect(),
                    other => vec![other.as_table().unwrap()],
                })
                .collect();
        }
        for row in rows {
            let key = code(&row[0]).unwrap();
            assert!(tables.iter().any(|table| table.contains_key(key)), "{name} {key}");
        }
    }
}

#[test]
fn the_error_that_is_shown_is_the_one_that_is_given() {
    let guide = docs("operator-guide.md");
    let shown = guide.lines().find(|line| line.starts_with("new.toml:31:1: ")).unwrap();
    let table = "[[rule]]\nfrom = \"any\"\nto = \"any\"\naction = \"allow\"\ncolour = 1\n";
    let given = errors(&format!("{BASE}{table}"));
    assert_eq!(given, [shown.trim_start_matches("new.toml:31:1: ")]);
}

#[test]
fn every_stage_of_the_journey_stands_in_the_architecture_and_no_other() {
    let stages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dataplane/src/stage");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut files: BTreeSet<String> = std::fs::read_dir(stages).unwrap().map(name).collect();
    files.remove("mod.rs");
    let documented: BTreeSet<String> = rows(&docs("architecture.md"), "## The journey")
        .iter()
        .map(|row| {
            let file = code(&row[1]).unwrap().to_owned();
            assert_eq!(row[0].replace(' ', "_") + ".rs", file);
            file
        })
        .collect();
    assert_eq!(documented, files);
}

#[test]
fn advice_names_what_exists() {
    let guide = docs("operator-guide.md");
    let mut names: BTreeSet<String> = DropReason::ALL.iter().map(|r| r.name().to_owned()).collect();
    names.extend(Counter::ALL.iter().map(|c| c.name().to_owned()));
    names.insert("RX LOST".to_owned());
    for row in rows(&guide, "## When something does not work") {
        for name in row[0].split('`').skip(1).step_by(2) {
            assert!(names.contains(name), "{name} is nothing that grows");
        }
    }
}

#[test]
fn the_verbs_are_those_of_posternctl() {
    let guide = docs("operator-guide.md");
    let help = |words: &[&str]| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = ["posternctl"].iter().chain(words).chain(&["--help"]).map(Into::into);
        assert_eq!(posternctl::code(args, &mut out, &mut err), 0);
        String::from_utf8(out).unwrap()
    };
    let commands = |text: &str| -> Vec<String> {
        let list = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        let list = list.take_while(|line| !line.is_empty());
        let names = list.filter_map(|line| line.split_whitespace().next().map(ToOwned::to_owned));
        names.filter(|name| name != "help").collect()
    };
    let mut verbs = 0;
    for noun in commands(&help(&[])) {
        let mut of_noun = commands(&help(&[&noun]));
        if of_noun.is_empty() {
            of_noun.push(String::new());
        }
        for verb in of_noun {
            let command = format!("{noun} {verb}");
            let quoted = format!("`{}`", command.trim());
            let heading = guide.lines().any(|line| line.starts_with("### ") && line.contains(&quoted));
            assert!(heading, "no heading with {quoted}");
            verbs += 1;
        }
    }
    assert!(verbs >= 14, "only {verbs} verbs");
    for line in help(&["session", "list"]).lines().filter(|line| line.trim_start().starts_with("--")) {
        let option = line.split_whitespace().next().unwrap();
        assert!(guide.contains(option), "nothing about {option}");
    }
}

#[test]
fn options_and_reasons_of_a_replay_are_those_of_the_code() {
    use clap::Args;
    use control::replay::Options;
    use control::replay::frame::Unfit;

    let guide = docs("operator-guide.md");
    let rows = rows(&guide, "## Replay");
    let command = Options::augment_args(clap::Command::new("replay"));
    let options: Vec<String> = command
        .get_arguments()
        .map(|option| {
            let value = option.get_value_names().filter(|_| option.get_action().takes_values());
            let value = value.map_or(String::new(), |names| format!(" {}", names[0]));
            format!("`--{}{value}`", option.get_long().unwrap())
        })
        .collect();
    let documented: Vec<&str> =
        rows.iter().map(|row| row[0].as_str()).filter(|c| c.starts_with("`--")).collect();
    assert_eq!(documented, options);
    for (name, help) in Unfit::ALL.map(Unfit::names) {
        let row = [format!("`{name}`"), help.to_owned()];
        assert!(rows.iter().any(|r| *r == row), "{row:?}");
    }
}
