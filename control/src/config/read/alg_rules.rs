//! `[[alg.rule]]`: the command policy of an ALG profile. Patterns are compiled here, once; what is read is what is asked.

use crate::config::reader::{Names, Reader, Schema, Span, Table, Text};
use crate::config::values;
use alg::Side;
use alg::rules::{Action, MAX_PATTERN, Pattern, Rate, Rule};
use dataplane::policy::{AlgProtocol, MAX_ALG_RULES};

static RULE: Schema = Schema {
    table: "[[alg.rule]]",
    keys: &[
        "name",
        "from",
        "command",
        "argument",
        "filename",
        "user",
        "domain",
        "longer_than",
        "rate",
        "action",
    ],
    later: &[],
};

/// Most commands of one rule, and most texts of one pattern.
const MOST_TEXTS: usize = 256;
/// Longest of them, in bytes.
const LONGEST_TEXT: usize = 255;
/// What all patterns of a file may take, in bytes.
const MOST_BYTES: usize = 16 << 20;
/// The commands of TFTP.
const TFTP: [(&str, &str); 2] = [("RRQ", "RRQ"), ("WRQ", "WRQ")];
const COMMANDS: &str = "commands or methods such as [\"STOR\", \"DELE\"]";
const TEXTS: &str = "texts, or expressions behind \"~\", such as [\"passwd\", '~\\.exe$']";
const RATE: &str = "a number and a time such as 10/second, 100/minute or 1000/hour";

/// The rules of one profile. `room` is what the patterns of the file may still take.
pub(super) fn rules<'t>(
    reader: &mut Reader<'t>,
    profile: &Table<'t>,
    protocol: Option<AlgProtocol>,
    room: &mut Room,
) -> Vec<Rule> {
    let mut names = Names::new("alg rule");
    let mut rules = Vec::new();
    for table in reader.items(profile, "rule", &RULE) {
        if rules.len() == MAX_ALG_RULES {
            reader.conflict(
                &table.span,
                "one rule too many for a profile".into(),
                format!("at most {MAX_ALG_RULES}"),
            );
            break;
        }
        for key in ["from", "filename", "user", "domain"] {
            if let Some(why) = protocol.and_then(|protocol| never(protocol, key))
                && !table.lacks(key)
            {
                reader.conflict(&table.span_of(key), why.to_owned(), format!("a rule without \"{key}\""));
            }
        }
        let name = reader.string(&table, "name", "the rule's name");
        if let Some(name) = &name {
            values::label(reader, "alg rule name", name);
            names.take(reader, name);
        }
        let mut part = |reader: &mut Reader<'t>, key| pattern(reader, &table, key, room);
        rules.push(Rule {
            name: name.map_or_else(|| format!("rule {}", rules.len() + 1).into(), |n| n.text.into()),
            number: 0,
            application: protocol.map(AlgProtocol::application),
            from: from(reader, &table),
            argument: part(reader, "argument"),
            filename: part(reader, "filename"),
            user: part(reader, "user"),
            domain: part(reader, "domain"),
            methods: commands(reader, &table, protocol),
            longer_than: reader.integer(&table, "longer_than", 0..=u32::MAX),
            rate: rate(reader, &table),
            action: action(reader, &table),
        });
    }
    rules
}

/// What the patterns of a file may still take, in bytes.
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MOST_BYTES)
    }
}

impl Room {
    /// Takes so much, or notes that it is not there: once a file.
    fn take(&mut self, reader: &mut Reader<'_>, span: &Span, bytes: usize) {
        if self.0 != 0 && bytes >= self.0 {
            let what = format!("the patterns of the file take {} MiB or more", MOST_BYTES >> 20);
            reader.conflict(span, what, "fewer or simpler expressions");
        }
        self.0 = self.0.saturating_sub(bytes);
    }
}

/// Why a rule of this protocol that asks for this part would never match, or not as it reads.
fn never(protocol: AlgProtocol, key: &str) -> Option<&'static str> {
    match (protocol, key) {
        (AlgProtocol::Ftp | AlgProtocol::Tftp, "from") => {
            Some("rules of ftp and tftp are asked about the initiator alone")
        }
        (AlgProtocol::Sip, "filename") => Some("messages of sip name no file"),
        (AlgProtocol::Tftp, "user") => Some("messages of tftp name no user"),
        (AlgProtocol::Rtsp, "user") => Some("messages of rtsp name no user"),
        (AlgProtocol::Tftp, "domain") => Some("messages of tftp name no domain"),
        _ => None,
    }
}

fn action<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Action> {
    let text = reader.need_string(table, "action", "one of allow, deny, mask, reset, log")?;
    let actions = [Action::Allow, Action::Deny, Action::Mask, Action::Reset];
    let [allow, deny, mask, reset] = actions.map(|action| (action.name(), Some(action)));
    reader.word(&text, "action", &[allow, deny, mask, reset, ("log", None)], &[]).flatten()
}

fn from<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Side> {
    let text = reader.string(table, "from", "one of initiator, responder")?;
    let words = [("initiator", Side::Initiator), ("responder", Side::Responder)];
    reader.word(&text, "from", &words, &[])
}

fn commands<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    protocol: Option<AlgProtocol>,
) -> Box<[Box<str>]> {
    let texts = reader.strings(table, "command", COMMANDS).unwrap_or_default();
    too_many(reader, table, "command", texts.len());
    for text in &texts {
        let good = (1..=32).contains(&text.text.len())
            && text.text.bytes().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b));
        if !good {
            reader.bad("command", text, "1 to 32 characters of a command or method, such as STOR");
        } else if protocol == Some(AlgProtocol::Tftp) {
            let upper = text.text.to_ascii_uppercase();
            if !TFTP.iter().any(|(word, _)| *word == upper) {
                reader.word(text, "command", &TFTP, &[]);
            }
        }
    }
    texts.iter().map(|text| text.text.into()).collect()
}

fn too_many<'t>(reader: &mut Reader<'t>, table: &Table<'t>, key: &'static str, count: usize) {
    if count > MOST_TEXTS {
        let what = format!("\"{key}\" has {count} texts");
        reader.conflict(&table.span_of(key), what, format!("at most {MOST_TEXTS}"));
    }
}

/// `10/minute`: more than ten in a minute.
fn rate<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Rate> {
    let text = reader.string(table, "rate", RATE)?;
    let parsed = text.text.split_once('/').and_then(|(count, time)| {
        let per_ms = match time {
            "second" => 1_000,
            "minute" => 60_000,
            "hour" => 3_600_000,
            _ => return None,
        };
        let count = count.parse().ok().filter(|n| (1..=1_000_000).contains(n))?;
        Some(Rate { count, per_ms })
    });
    if parsed.is_none() {
        reader.bad("rate", &text, RATE);
    }
    parsed
}

/// A text, or a list of them, of which one must match; or, with `!` before each, none may.
fn pattern<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &'static str,
    room: &mut Room,
) -> Option<Pattern> {
    let texts = reader.strings(table, key, TEXTS)?;
    too_many(reader, table, key, texts.len());
    let negated = texts.first().is_some_and(|text| text.text.starts_with('!'));
    let mut plain = Vec::new();
    let mut pattern = Pattern::default();
    for text in texts.iter().take(MOST_TEXTS) {
        if text.text.starts_with('!') != negated {
            let what = format!("\"{key}\" has texts with and without \"!\"");
            reader.conflict(&text.span, what, "\"!\" before each of them, or before none");
        }
        let body = text.text.strip_prefix('!').unwrap_or(text.text);
        let expression = body.strip_prefix('~');
        if !(1..=LONGEST_TEXT).contains(&expression.unwrap_or(body).len()) {
            reader.bad(key, text, format!("1 to {LONGEST_TEXT} bytes behind \"!\" and \"~\""));
        } else if let Some(expression) = expression {
            if let Some(compiled) = regex(reader, key, text, expression, room) {
                pattern = pattern.or(compiled);
            }
        } else {
            plain.push(body);
        }
    }
    let plain = Pattern::set(plain);
    room.take(reader, &table.span_of(key), plain.bytes());
    let pattern = pattern.or(plain);
    Some(if negated { pattern.negated() } else { pattern })
}

fn regex(
    reader: &mut Reader<'_>,
    key: &'static str,
    text: &Text<'_>,
    expression: &str,
    room: &mut Room,
) -> Option<Pattern> {
    // Nothing more is compiled for a file that has taken too much already.
    if room.0 == 0 {
        return None;
    }
    match Pattern::regex(expression) {
        Ok(pattern) => {
            room.take(reader, &text.span, pattern.bytes());
            Some(pattern)
        }
        Err(error) => {
            reader.bad(key, text, format!("a regular expression behind \"~\" ({error})"));
            room.0 = room.0.saturating_sub(MAX_PATTERN);
            None
        }
    }
}
