//! What the guide says of each key: its default, its range, its words. Each is asked of the parser, in a table that has no
//! other fault.

use super::{code, docs, errors, known, opening, sections};
use control::config::Config;
use dataplane::policy::{ALL_PORTS, AlgProtocol};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A good file, on which every table can stand.
const GROUND: &str = r#"
[[interface]]
name = "inside"
device = "null:0"
zone = "trust"
addresses = ["10.1.0.1/24"]
[[interface]]
name = "outside"
device = "null:1"
zone = "untrust"
addresses = ["198.51.100.1/24"]
"#;

/// The lines that a table needs.
fn needs(section: &str) -> &'static [(&'static str, &'static str)] {
    match section {
        "[[interface]]" => &[("name", "\"x\""), ("device", "\"null:7\""), ("zone", "\"lab\"")],
        "[[route]]" => &[("to", "\"192.0.2.0/24\""), ("via", "\"10.1.0.9\"")],
        "[[neighbor]]" => {
            &[("interface", "\"inside\""), ("address", "\"10.1.0.9\""), ("mac", "\"02:00:00:00:00:09\"")]
        }
        "[[zone]]" => &[("name", "\"dmz\"")],
        "[[address]]" => &[("name", "\"x\""), ("prefixes", "[\"10.9.0.0/16\"]")],
        "[[service]]" => &[("name", "\"x\""), ("protocol", "\"tcp\""), ("ports", "[7]")],
        "[[alg]]" => &[("name", "\"x\""), ("protocol", "\"ftp\"")],
        "[[alg.rule]]" => &[("action", "\"deny\"")],
        "[[rule]]" => &[("from", "\"any\""), ("to", "\"any\""), ("action", "\"allow\"")],
        "[[nat]]" => {
            &[("type", "\"source\""), ("from", "\"any\""), ("to", "\"any\""), ("translate", "\"interface\"")]
        }
        _ => &[],
    }
}

/// What `[[nat]]` needs if it is of another type.
const DESTINATION: &[(&str, &str)] = &[
    ("type", "\"destination\""),
    ("from", "\"untrust\""),
    ("destination", "[\"198.51.100.7\"]"),
    ("translate", "\"10.1.0.2\""),
];
const STATIC: &[(&str, &str)] = &[
    ("type", "\"static\""),
    ("from", "\"untrust\""),
    ("destination", "\"198.51.100.7\""),
    ("translate", "\"10.1.0.2\""),
];

/// A table with these lines at the end of a good file. A later line takes the place of an earlier one of the same key.
fn file(section: &str, lines: &[(&str, &str)]) -> String {
    let mut text = format!("{GROUND}{}\n", opening(section));
    for (n, (key, value)) in lines.iter().enumerate() {
        if !lines[n + 1..].iter().any(|(later, _)| later == key) {
            writeln!(text, "{key} = {value}").unwrap();
        }
    }
    text
}

#[track_caller]
fn parse(text: &str) -> Config {
    Config::parse("guide.toml", text).unwrap_or_else(|report| panic!("{report}\n{text}"))
}

/// A key of a table, as the guide has it.
struct Key {
    section: String,
    name: String,
    value: String,
    default: String,
    /// What its table needs.
    needs: Vec<(&'static str, &'static str)>,
}

impl Key {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (section, rows) in sections(&docs("operator-guide.md")) {
            for row in rows {
                let [name, value, default, meaning] = row.try_into().unwrap();
                let mut needs = needs(&section).to_vec();
                // `FTP: ...`: a key of one protocol.
                let of = AlgProtocol::ALL.iter().find(|p| {
                    let protocol = p.name().to_uppercase();
                    meaning.starts_with(&format!("{protocol}: "))
                        || meaning.starts_with(&format!("{protocol} over "))
                });
                if let Some(protocol) = of {
                    let quoted = match protocol {
                        AlgProtocol::Ftp => "\"ftp\"",
                        AlgProtocol::Tftp => "\"tftp\"",
                        AlgProtocol::Sip => "\"sip\"",
                        AlgProtocol::Rtsp => "\"rtsp\"",
                    };
                    needs.push(("protocol", quoted));
                }
                let name = code(&name).unwrap().to_owned();
                all.push(Self { section: section.clone(), name, value, default, needs });
            }
        }
        all
    }

    fn find(section: &str, name: &str) -> Self {
        Self::all().into_iter().find(|key| key.section == section && key.name == name).unwrap()
    }

    /// The file with the key's table, with these lines more. Another type needs other lines.
    fn file(&self, more: &[(&str, &str)]) -> String {
        let whole = more.iter().any(|(key, _)| *key == "type") && self.name != "type";
        let needs = if whole { &[] } else { self.needs.as_slice() };
        file(&self.section, &[needs, more].concat())
    }

    /// Whether the parser takes this value. What it has against it names the key, or is about it.
    #[track_caller]
    fn takes(&self, more: &[(&str, &str)], value: &str) -> bool {
        let lines = [more, &[(self.name.as_str(), value)]].concat();
        errors(&self.file(&lines)).is_empty()
    }

    /// Ends that are taken, and what lies just beyond them and is not.
    #[track_caller]
    fn bounded(&self, more: &[(&str, &str)], good: &[String], bad: &[String]) {
        for value in good {
            assert!(self.takes(more, value), "{self} = {value} is refused: {:?}", {
                let lines = [more, &[(self.name.as_str(), value.as_str())]].concat();
                errors(&self.file(&lines))
            });
        }
        for value in bad {
            assert!(!self.takes(more, value), "{self} = {value} is taken");
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.section, self.name)
    }
}

#[test]
fn every_table_stands_by_itself() {
    for key in Key::all() {
        parse(&key.file(&[]));
    }
    for nat in [DESTINATION, STATIC] {
        parse(&file("[[nat]]", nat));
    }
}

/// Defaults that are no value: what the parser makes of a table without the key.
const NOTHING: &[(&str, &str, &str)] = &[
    ("[dataplane]", "memory_mb", "memory_mb: None"),
    ("[[interface]]", "addresses", "addresses: []"),
    ("[[interface]]", "vlan", "vlan: None"),
    ("[[interface]]", "mac", "mac: None"),
    ("[[address]]", "members", "AddressSet { name: \"x\", prefixes: [Prefix { addr: 10.9.0.0, len: 16 }] }"),
    ("[[service]]", "application", "application: Unknown"),
    ("[[service]]", "members", "services: [NamedService { name: \"x\", services: [Service {"),
    ("[[alg]]", "forbidden_ports", "forbidden_ports: []"),
    ("[[alg]]", "passive_ports", "encrypted: Allow"),
    ("[[alg]]", "ports", "ports: None"),
    ("[[alg]]", "overflow", "overflow: None"),
    ("[[alg]]", "limits", "per_alg: 4294967295"),
    ("[[alg]]", "max_dialogs", "max_dialogs: 4294967295"),
    ("[[alg]]", "call_idle", "call_idle_s: 4294967295"),
    ("[[alg]]", "rule", "rules: [] }]"),
    ("[alg.limits]", "per_session", "per_flow: 4294967295"),
    ("[alg.limits]", "per_host", "per_host: 4294967295"),
    ("[alg.limits]", "total", "per_alg: 4294967295"),
    ("[alg.limits]", "per_second", "per_second: 4294967295"),
    ("[[alg.rule]]", "from", "from: None, methods"),
    ("[[alg.rule]]", "command", "methods: [], argument"),
    ("[[alg.rule]]", "argument", "argument: None, filename"),
    ("[[alg.rule]]", "filename", "filename: None, user"),
    ("[[alg.rule]]", "user", "user: None, domain"),
    ("[[alg.rule]]", "domain", "domain: None, longer_than"),
    ("[[alg.rule]]", "longer_than", "longer_than: None, rate"),
    ("[[alg.rule]]", "rate", "rate: None, action"),
    ("[[rule]]", "alg", "profiles: [None, None, None, None]"),
];

type Lines = &'static [(&'static str, &'static str)];
type Cases = &'static [(Lines, &'static str)];

/// Defaults that depend on other keys: with these lines, a table without the key is one with this value.
const CASES: &[(&str, &str, &str, Cases)] = &[
    (
        "[dataplane]",
        "expectations",
        "`65536`, at most `sessions`",
        &[(&[], "65536"), (&[("sessions", "1000")], "1000")],
    ),
    (
        "[dataplane]",
        "alg_sessions",
        "`16384`, at most `sessions`",
        &[(&[], "16384"), (&[("sessions", "1000")], "1000")],
    ),
    ("[dataplane]", "bindings", "as `sessions`", &[(&[], "262144"), (&[("sessions", "1000")], "1000")]),
    (
        "[streams]",
        "message_bytes",
        "`16384`, at most `flow_bytes`",
        &[(&[], "16384"), (&[("flow_bytes", "8192")], "8192")],
    ),
    ("[[route]]", "interface", "the one that `via` is on", &[(&[], "\"inside\"")]),
    ("[[alg]]", "default", "`true` for the first profile of its protocol", &[(&[], "true")]),
    ("[[alg]]", "early_media", "as `ringing`", &[(&[], "240"), (&[("ringing", "600")], "600")]),
    ("[[alg.rule]]", "name", "`\"rule N\"`, counted from 1", &[(&[], "\"rule 1\"")]),
    ("[[rule]]", "name", "`\"rule N\"`, counted from 1", &[(&[], "\"rule 1\"")]),
    (
        "[[rule]]",
        "log",
        "`true`; `false` where mode `packet` allows",
        &[
            (&[], "true"),
            (&[("mode", "\"packet\"")], "false"),
            (&[("mode", "\"packet\""), ("action", "\"deny\"")], "true"),
        ],
    ),
    ("[[nat]]", "source", "`\"any\"` for `source`, none for the others", &[(&[], "\"any\"")]),
    ("[[nat]]", "destination", "`\"any\"` for `source`, required for the others", &[(&[], "\"any\"")]),
    ("[[nat]]", "service", "`\"any\"` for `destination`, none for the others", &[(DESTINATION, "\"any\"")]),
];

/// Defaults that a test of their own knows.
const APART: [(&str, &str); 2] = [("[dataplane]", "workers"), ("[[service]]", "source_ports")];

#[test]
fn a_table_without_a_key_is_one_with_its_default() {
    let mut literal = 0;
    for key in Key::all() {
        if key.default.starts_with("required") || APART.contains(&(key.section.as_str(), &key.name)) {
            continue;
        }
        let same = |more: &[(&str, &str)], value: &str| {
            let given = [more, &[(key.name.as_str(), value)]].concat();
            assert_eq!(parse(&key.file(more)), parse(&key.file(&given)), "{key} = {value}");
        };
        let here =
            |(section, name): (&str, &str)| section == key.section.as_str() && name == key.name.as_str();
        if let Some((_, _, shown)) = NOTHING.iter().find(|(s, n, _)| here((s, n))) {
            let parsed = format!("{:?}", parse(&key.file(&[])));
            assert!(parsed.contains(shown), "{key}: no {shown} in {parsed}");
        } else if let Some((_, _, cell, cases)) = CASES.iter().find(|(s, n, ..)| here((s, n))) {
            assert_eq!(key.default, *cell, "{key}");
            for (more, value) in *cases {
                same(more, value);
            }
        } else {
            let value = code(&key.default).unwrap_or_else(|| panic!("{key}: what is {}?", key.default));
            same(&[], value);
            literal += 1;
        }
    }
    assert!(literal >= 50, "only {literal} defaults");
}

#[test]
fn defaults_that_are_no_value_of_their_key() {
    // The last core, whatever the machine.
    let workers = Key::find("[dataplane]", "workers");
    assert_eq!(workers.default, "the machine's last core");
    assert_eq!(parse(&workers.file(&[])).dataplane.worker_cores(7), [7]);

    let sources = Key::find("[[service]]", "source_ports");
    assert_eq!(sources.default, "all; none for `icmp`");
    assert_eq!(parse(&sources.file(&[])).services[0].services[0].source_ports, ALL_PORTS);
    let icmp = |more: &[(&str, &str)]| {
        file("[[service]]", &[&[("name", "\"x\""), ("protocol", "\"icmp\"")], more].concat())
    };
    parse(&icmp(&[]));
    for key in ["ports", "source_ports"] {
        assert!(!errors(&icmp(&[(key, "[7]")])).is_empty(), "{key} for icmp");
    }

    // The second profile of a protocol is not its default, and the second rule has its own number.
    let twice = |section: &str, first: Lines, second: &[(&str, &str)]| {
        let mut text = file(section, first);
        writeln!(text, "{section}").unwrap();
        for (key, value) in second {
            writeln!(text, "{key} = {value}").unwrap();
        }
        parse(&text)
    };
    let alg = &[("name", "\"y\""), ("protocol", "\"ftp\"")];
    let first = needs("[[alg]]");
    assert_eq!(
        twice("[[alg]]", first, alg),
        twice("[[alg]]", first, &[alg.as_slice(), &[("default", "false")]].concat())
    );
    assert_ne!(
        twice("[[alg]]", &[("name", "\"x\""), ("protocol", "\"ftp\""), ("default", "false")], alg),
        twice("[[alg]]", first, alg)
    );
    let rule = needs("[[rule]]");
    assert_eq!(twice("[[rule]]", rule, rule).rules[1].name, "rule 2");

    // The ports of each protocol, and which it is.
    let ports = AlgProtocol::ALL.map(|protocol| {
        let texts: Vec<_> = protocol.ports().iter().map(u16::to_string).collect();
        format!("{}: {}", protocol.name(), texts.join(", "))
    });
    let ports = ports.join("; ");
    assert!(docs("operator-guide.md").contains(&format!("are the protocol's own ({ports})")), "{ports}");

    // What an entry of another type has not.
    for (nat, key, value) in [
        (DESTINATION, "source", "\"any\""),
        (DESTINATION, "to", "\"any\""),
        (STATIC, "source", "\"any\""),
        (STATIC, "to", "\"any\""),
        (STATIC, "service", "\"any\""),
        (needs("[[nat]]"), "service", "\"any\""),
        (DESTINATION, "mapping", "\"endpoint-independent\""),
        (STATIC, "mapping", "\"endpoint-independent\""),
    ] {
        let told = errors(&file("[[nat]]", &[nat, &[(key, value)]].concat()));
        assert!(told.iter().any(|sentence| sentence.contains(key)), "{nat:?} with {key}: {told:?}");
    }
    for nat in [DESTINATION, STATIC] {
        let without: Vec<_> = nat.iter().filter(|(key, _)| *key != "destination").copied().collect();
        let told = errors(&file("[[nat]]", &without));
        assert!(told.iter().any(|sentence| sentence.contains("has no \"destination\"")), "{told:?}");
    }
}

/// What a key does when it has another value: a default that nobody reads would be the same as any.
#[test]
fn another_value_than_the_default_makes_another_configuration() {
    let mut changed = 0;
    for key in Key::all() {
        let Some(default) = key.default.split('`').nth(1).filter(|_| key.default.starts_with('`')) else {
            continue;
        };
        let values = key.value.split([',', ' ']).filter_map(code);
        let ends = bounds(&key.value).into_iter().flat_map(|bound| match bound {
            Bound::Number(low, high) => vec![low, high],
            _ => Vec::new(),
        });
        let values: Vec<String> = values.map(ToOwned::to_owned).chain(ends).collect();
        let is_word = |value: &str| value.starts_with('"') || ["true", "false"].contains(&value);
        for value in values.iter().filter(|v| *v != default && (is_word(v) || v.parse::<f64>().is_ok())) {
            let needs = match value.as_str() {
                "\"passive\"" => ("passive_ports", "\"2000-2009\""),
                _ => (key.name.as_str(), value.as_str()),
            };
            let lines = [(key.name.as_str(), value.as_str()), needs];
            let lines = &lines[..if needs == lines[0] { 1 } else { 2 }];
            let told = errors(&key.file(lines));
            if !told.is_empty() {
                // A file's path, or two zones' names: no word of the language.
                panic!("{key} = {value}: {told:?}");
            }
            let (with, without) = (parse(&key.file(lines)), parse(&key.file(&[])));
            assert_ne!(with, without, "{key} = {value} does nothing");
            changed += 1;
        }
    }
    assert!(changed >= 60, "only {changed} other values");
}

/// A bound that the guide states of a value.
#[derive(Debug, PartialEq, Eq)]
enum Bound {
    /// The number itself.
    Number(String, String),
    /// The number itself, up to what another key says.
    UpTo(String, String),
    /// Each number of a list, or of a range in it.
    Each(String, String),
    /// The length of a text.
    Length(usize, usize),
    /// Most entries of a list.
    Most(usize),
}

/// What a cell of the guide states: every `A to B`, every `at most N`. Panics where it says so otherwise.
fn bounds(cell: &str) -> Vec<Bound> {
    let words: Vec<&str> = cell.split(' ').map(|word| word.trim_matches([',', ';', ')', '('])).collect();
    let mut found = Vec::new();
    for (n, window) in words.windows(3).enumerate() {
        let before = n.checked_sub(1).map(|n| words[n]);
        let after = words.get(n + 3).copied();
        match window {
            ["at", "most", most] if most.parse::<f64>().is_ok() => {
                found.push(Bound::Most(most.parse().unwrap()));
            }
            [low, "to", high] if low.parse::<f64>().is_ok() => {
                let (low, high) = ((*low).to_owned(), (*high).to_owned());
                found.push(match (before, code(&high), after) {
                    (Some("each"), None, _) => Bound::Each(low, high),
                    (None, Some(key), None) => Bound::UpTo(low, key.to_owned()),
                    (_, None, Some("printable" | "bytes")) => {
                        Bound::Length(low.parse().unwrap(), high.parse().unwrap())
                    }
                    (None, None, None) => Bound::Number(low, high),
                    _ => panic!("what is {cell}?"),
                });
            }
            _ => {}
        }
    }
    let said = cell.matches(" to ").count() + cell.matches("at most").count();
    assert_eq!(found.len(), said, "what is {cell}?");
    found
}

/// One unit of a number's last place below and above.
fn beyond(low: &str, high: &str) -> [String; 2] {
    if low.contains('.') {
        // Seconds, to the millisecond.
        let (low, high): (f64, f64) = (low.parse().unwrap(), high.parse().unwrap());
        return [format!("{:.3}", low - 0.001), format!("{:.3}", high + 0.001)];
    }
    let (low, high): (i64, i64) = (low.parse().unwrap(), high.parse().unwrap());
    [(low - 1).to_string(), (high + 1).to_string()]
}

#[test]
fn ends_of_a_range_are_taken_and_what_lies_beyond_is_not() {
    let mut checked = Vec::new();
    for key in Key::all() {
        for bound in bounds(&key.value) {
            checked.push(format!("{key}"));
            match bound {
                Bound::Number(low, high) => {
                    let bad = beyond(&low, &high);
                    key.bounded(&[], &[low, high], &bad);
                }
                Bound::UpTo(low, other) => {
                    let limit = "8000";
                    let bad = beyond(&low, limit);
                    key.bounded(&[(&other, limit)], &[low, limit.to_owned()], &bad);
                }
                Bound::Each(low, high) => {
                    let [below, above] = beyond(&low, &high);
                    let one = |value: &String| format!("[{value}]");
                    key.bounded(&[], &[one(&low), one(&high)], &[one(&below), one(&above)]);
                    if key.value.contains("ranges") {
                        let range = |low: &String, high: &String| format!("[\"{low}-{high}\"]");
                        key.bounded(&[], &[range(&low, &high)], &[range(&below, &high), range(&low, &above)]);
                    }
                }
                Bound::Length(low, high) => {
                    let text = |length: usize| format!("\"{}\"", "n".repeat(length));
                    key.bounded(&[], &[text(low), text(high)], &[text(low - 1), text(high + 1)]);
                }
                Bound::Most(most) => {
                    let list = |length: usize| format!("[{}]", vec!["7"; length].join(", "));
                    key.bounded(&[], &[list(most)], &[list(most + 1)]);
                }
            }
        }
    }
    // Those with a unit of their own are among them.
    for key in [
        "[gateway] name",
        "[dataplane] workers",
        "[dataplane] alg_sessions",
        "[streams] message_bytes",
        "[[interface]] vlan",
        "[[interface]] mtu",
        "[[service]] ports",
        "[[alg]] ports",
        "[[alg]] longest_registration",
        "[control] socket",
    ] {
        assert!(checked.iter().any(|checked| checked == key), "{key} has no range");
    }
    assert!(checked.len() >= 40, "only {} ranges", checked.len());
}

/// `A *name* is ... at most 63 in all, and not `any`.`
#[test]
fn names_are_what_the_guide_says_names_are() {
    let mut checked = 0;
    for key in Key::all().iter().filter(|key| key.value.starts_with("a name")) {
        let quoted = |name: &str| format!("\"{name}\"");
        let good = ["n".to_owned(), format!("n-_.9{}", "x".repeat(58))];
        let bad = ["", "any", "9n", "-n", "n n", "n/n", &"n".repeat(64)];
        key.bounded(&[], &good.map(|name| quoted(&name)), &bad.map(quoted));
        checked += 1;
    }
    assert!(checked >= 6, "only {checked} names");
}

#[test]
fn words_are_those_of_the_parser() {
    let mut checked = 0;
    for key in Key::all() {
        // Lists of words: `"a"`, `"b"`.
        let words: Option<BTreeSet<String>> = key
            .value
            .split(", ")
            .map(|word| Some(code(word)?.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
            .collect();
        let Some(words) = words else { continue };
        assert_eq!(known(&key.file(&[(&key.name, "\"zzz\"")])), words, "{key}");
        checked += 1;
    }
    assert!(checked >= 7, "only {checked} keys with words");
}
