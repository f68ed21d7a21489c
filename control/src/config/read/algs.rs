//! `[[alg]]`: the profiles of the ALGs.

use super::{alg_rules, settings};
use crate::config::model::{Alg, AlgSettings};
use crate::config::reader::{Names, Reader, Schema, Table, Text};
use crate::config::values;
use alg::profile::{MAX_FORBIDDEN, WhenEncrypted};
use alg::sip::{Rewrite, SipOptions};
use dataplane::expect::ExpectationLimits;
use dataplane::key::Protocol;
use dataplane::policy::{AlgMode, AlgProtocol, BUILT_IN, MAX_PROFILES, OnChange, RuleProfiles};
use dataplane::stream::segment::Overflow;

/// Keys of every protocol, and behind them those of one.
static ALG: Schema = Schema {
    table: "[[alg]]",
    keys: &[
        "name",
        "protocol",
        "mode",
        "ports",
        "detect",
        "default",
        "on_change",
        "overflow",
        "strict",
        "third_party",
        "lowest_port",
        "forbidden_ports",
        "blind",
        "passive_ports",
        "bare_lf",
        "mask_greeting",
        "mask_syst",
        "correct_passive_address",
        "quit_closes_data",
        "longest_line",
        "read",
        "write",
        "rewrite",
        "unknown_methods",
        "pass_malformed",
        "bye_closes_media",
        "mask_software",
        "max_dialogs",
        "max_call",
        "media_idle",
        "transaction",
        "ringing",
        "early_media",
        "disconnect",
        "call_idle",
        "longest_registration",
        "longest_message",
        "other_source",
        "teardown_closes_media",
        "limits",
        "rule",
    ],
    later: &[],
};

static LIMITS: Schema =
    Schema { table: "[alg.limits]", keys: &["per_session", "per_host", "total", "per_second"], later: &[] };

/// Protocols of the language without an ALG in this release.
const LATER_ALGS: [&str; 7] = ["dns", "pptp", "irc", "h323", "http", "tls", "smtp"];
const PORTS: &str = "ports such as [21, 2121]";
const PASSIVE: &str = "ports such as \"50000-50999\"";
const FORBIDDEN: &str = "ports such as [3389, \"5900-5999\"]";
/// A file's profiles, at most: each protocol may need one of its own besides.
const MOST: usize = MAX_PROFILES - AlgProtocol::ALL.len();

/// The profiles, and the places of the default ones.
#[derive(Default)]
pub(super) struct Algs {
    pub(super) list: Vec<Alg>,
    pub(super) defaults: RuleProfiles,
}

pub(super) fn algs<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Algs {
    let mut names = Names::new("alg");
    let mut chosen = [const { None }; AlgProtocol::ALL.len()];
    let mut algs = Algs::default();
    let mut room = alg_rules::Room::default();
    for table in reader.items(top, "alg", &ALG) {
        let name = super::objects::item_name(reader, &table, "alg name", &mut names);
        if name == BUILT_IN {
            let what = format!("\"{BUILT_IN}\" is the profile of a protocol that the file leaves alone");
            reader.conflict(&table.span_of("name"), what, "another name");
        }
        if algs.list.len() == MOST {
            reader.conflict(&table.span, "one profile too many".into(), format!("at most {MOST}"));
            break;
        }
        let protocol = protocol(reader, &table);
        let mode = mode(reader, &table);
        let alg = Alg {
            name: name.to_owned(),
            protocol: protocol.unwrap_or(AlgProtocol::Ftp),
            mode,
            ports: ports(reader, &table),
            on_change: on_change(reader, &table),
            detect: reader.boolean(&table, "detect").unwrap_or_default(),
            overflow: overflow(reader, &table, protocol, mode),
            limits: limits(reader, &table),
            settings: options(reader, &table, protocol),
            rules: alg_rules::rules(reader, &table, protocol, &mut room),
        };
        // The first of a protocol, unless it says that it is not the default, or another that it is.
        let default = reader.boolean(&table, "default");
        if let Some(protocol) = protocol {
            let number = protocol as usize;
            let place = u8::try_from(algs.list.len()).ok();
            let (Some(default_of), Some(chosen)) = (algs.defaults.get_mut(number), chosen.get_mut(number))
            else {
                continue;
            };
            match (default, chosen.is_some()) {
                (Some(true), true) => {
                    let what = format!("a second default profile of {}", protocol.name());
                    reader.conflict(&table.span_of("default"), what, "one default profile a protocol");
                }
                (Some(true), false) => {
                    *chosen = Some(());
                    *default_of = place;
                }
                (None, false) if default_of.is_none() => *default_of = place,
                _ => {}
            }
        }
        algs.list.push(alg);
    }
    algs
}

fn protocol<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<AlgProtocol> {
    let text = reader.need_string(table, "protocol", "one of ftp, tftp, sip, rtsp")?;
    reader.word(&text, "alg protocol", &AlgProtocol::ALL.map(|p| (p.name(), p)), &LATER_ALGS)
}

fn mode<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> AlgMode {
    let words = AlgMode::ALL.map(|mode| (mode.name(), mode));
    let known = words.map(|(word, _)| word).join(", ");
    let text = reader.string(table, "mode", &format!("one of {known}"));
    text.and_then(|text| reader.word(&text, "mode", &words, &[])).unwrap_or_default()
}

fn on_change<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> OnChange {
    let text = reader.string(table, "on_change", "one of keep, drop");
    let words = [("keep", OnChange::Keep), ("drop", OnChange::Drop)];
    text.and_then(|text| reader.word(&text, "on_change", &words, &[])).unwrap_or_default()
}

fn overflow<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    protocol: Option<AlgProtocol>,
    mode: AlgMode,
) -> Option<Overflow> {
    let overflow = settings::overflow(reader, table);
    let span = table.span_of("overflow");
    if protocol.is_some_and(|protocol| !protocol.runs_over(Protocol::Tcp)) && !table.lacks("overflow") {
        let expected = "a protocol over TCP, or no \"overflow\"";
        reader.conflict(&span, "\"overflow\" is of streams alone".into(), expected);
    }
    if (mode, overflow) == (AlgMode::Monitor, Some(Overflow::Reset)) {
        let what = "a profile of mode monitor ends no session".into();
        reader.conflict(&span, what, "overflow = \"pass\", or no \"overflow\"");
    }
    overflow
}

fn limits<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> ExpectationLimits {
    let none = ExpectationLimits::NONE;
    let Some(table) = reader.section(table, "limits", &LIMITS) else { return none };
    let mut limit = |key, none| reader.integer(&table, key, settings::EXPECTATIONS).unwrap_or(none);
    ExpectationLimits {
        per_flow: limit("per_session", none.per_flow),
        per_host: limit("per_host", none.per_host),
        per_alg: limit("total", none.per_alg),
        per_second: limit("per_second", none.per_second),
    }
}

fn ports<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Vec<u16>> {
    let mut ports = Vec::new();
    let given = reader.list(table, "ports", PORTS, |reader, entry| {
        let port = reader.integer_of(&entry, 1..=65_535);
        ports.extend(port.and_then(|port| u16::try_from(port).ok()));
    });
    given.then_some(ports)
}

/// Which protocol a key is of, if it is of one alone.
fn owner(key: &str) -> Option<AlgProtocol> {
    match key {
        "passive_ports"
        | "bare_lf"
        | "mask_greeting"
        | "mask_syst"
        | "correct_passive_address"
        | "quit_closes_data"
        | "longest_line" => Some(AlgProtocol::Ftp),
        "read" | "write" => Some(AlgProtocol::Tftp),
        "rewrite"
        | "unknown_methods"
        | "pass_malformed"
        | "bye_closes_media"
        | "mask_software"
        | "max_dialogs"
        | "max_call"
        | "media_idle"
        | "transaction"
        | "ringing"
        | "early_media"
        | "disconnect"
        | "call_idle"
        | "longest_registration"
        | "longest_message" => Some(AlgProtocol::Sip),
        "other_source" | "teardown_closes_media" => Some(AlgProtocol::Rtsp),
        _ => None,
    }
}

fn options<'t>(reader: &mut Reader<'t>, table: &Table<'t>, protocol: Option<AlgProtocol>) -> AlgSettings {
    let mut s = AlgSettings::default();
    for key in ALG.keys.iter().filter(|key| !table.lacks(key)) {
        if let (Some(own), Some(protocol)) = (owner(key), protocol)
            && own != protocol
        {
            let what = format!("\"{key}\" is of {} alone", own.name());
            let expected = format!("protocol {}, or no \"{key}\"", own.name());
            reader.conflict(&table.span_of(key), what, expected);
        }
    }
    for (key, value) in [
        ("strict", &mut s.strict),
        ("third_party", &mut s.third_party),
        ("bare_lf", &mut s.ftp.bare_lf),
        ("mask_greeting", &mut s.ftp.mask_greeting),
        ("mask_syst", &mut s.ftp.mask_syst),
        ("correct_passive_address", &mut s.ftp.correct_passive_address),
        ("quit_closes_data", &mut s.ftp.quit_closes_data),
        ("read", &mut s.tftp.read),
        ("write", &mut s.tftp.write),
        ("unknown_methods", &mut s.sip.unknown_methods),
        ("pass_malformed", &mut s.sip.pass_malformed),
        ("bye_closes_media", &mut s.sip.bye_closes_media),
        ("mask_software", &mut s.sip.mask_software),
        ("other_source", &mut s.rtsp.other_source),
        ("teardown_closes_media", &mut s.rtsp.teardown_closes_media),
    ] {
        *value = reader.boolean(table, key).unwrap_or(*value);
    }
    for (key, range, value) in [
        ("lowest_port", 1..=65_535, &mut s.lowest_port),
        ("longest_line", 512..=16_384, &mut s.ftp.longest_line),
        ("longest_message", 1_024..=65_535, &mut s.sip.longest_message),
    ] {
        let number = reader.integer(table, key, range).and_then(|n| u16::try_from(n).ok());
        *value = number.unwrap_or(*value);
    }
    sip_limits(reader, table, &mut s.sip);
    if let Some(text) = reader.string(table, "rewrite", "one of minimal, full") {
        let words = [("minimal", Rewrite::Minimal), ("full", Rewrite::Full)];
        s.sip.rewrite = reader.word(&text, "rewrite", &words, &[]).unwrap_or(s.sip.rewrite);
    }
    reader.list(table, "forbidden_ports", FORBIDDEN, |reader, entry| {
        let range = match entry.text() {
            Some(text) => values::ports(reader, &text),
            None => reader.integer_of(&entry, 1..=65_535).and_then(|n| u16::try_from(n).ok()).map(|n| (n, n)),
        };
        s.forbidden_ports.extend(range);
    });
    if s.forbidden_ports.len() > MAX_FORBIDDEN {
        let what = format!("\"forbidden_ports\" names {} ranges", s.forbidden_ports.len());
        reader.conflict(&table.span_of("forbidden_ports"), what, format!("at most {MAX_FORBIDDEN}"));
    }
    s.encrypted = encrypted(reader, table, protocol, &s);
    s
}

/// How many calls a session of SIP may have, and how long they and their media live.
fn sip_limits<'t>(reader: &mut Reader<'t>, table: &Table<'t>, s: &mut SipOptions) {
    s.max_dialogs = reader.integer(table, "max_dialogs", 1..=1_000_000).unwrap_or(s.max_dialogs);
    let minutes = reader.integer(table, "max_call", 3..=7_200);
    s.max_call_s = minutes.map_or(s.max_call_s, |minutes| minutes * 60);
    let minutes = reader.integer(table, "call_idle", 3..=7_200);
    s.call_idle_s = minutes.map_or(s.call_idle_s, |minutes| minutes * 60);
    for (key, range, value) in [
        ("media_idle", 10..=2_550, &mut s.media_idle_s),
        ("transaction", 8..=600, &mut s.transaction_s),
        ("ringing", 60..=3_600, &mut s.ringing_s),
        ("disconnect", 8..=3_600, &mut s.disconnect_s),
        ("longest_registration", 60..=604_800, &mut s.longest_registration_s),
    ] {
        *value = reader.integer(table, key, range).unwrap_or(*value);
    }
    // Media do not wait for longer than their call.
    s.early_media_s = reader.integer(table, "early_media", 10..=3_600).unwrap_or(s.ringing_s);
}

/// What becomes of encrypted control sessions: `blind`, and the range that one of its words needs.
fn encrypted<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    protocol: Option<AlgProtocol>,
    s: &AlgSettings,
) -> WhenEncrypted {
    let ports = reader.string(table, "passive_ports", PASSIVE).and_then(|text| values::ports(reader, &text));
    let word = reader.string(table, "blind", "one of allow, deny, passive").and_then(|text| {
        let (first, last) = ports.unwrap_or_default();
        let words = [
            ("allow", WhenEncrypted::Allow),
            ("deny", WhenEncrypted::Deny),
            ("passive", WhenEncrypted::Passive(first, last)),
        ];
        reader.word(&text, "blind", &words, &[])
    });
    let word = word.unwrap_or_default();
    let WhenEncrypted::Passive(first, last) = word else {
        if !table.lacks("passive_ports") {
            let what = "\"passive_ports\" without blind = \"passive\"".to_owned();
            reader.conflict(&table.span_of("passive_ports"), what, "both, or neither");
        }
        return word;
    };
    if let Some(other) = protocol.filter(|protocol| *protocol != AlgProtocol::Ftp) {
        let what = format!("blind = \"passive\" for {}", other.name());
        reader.conflict(&table.span_of("blind"), what, "allow or deny: passive is of ftp alone");
    } else if table.lacks("passive_ports") {
        let what = "blind = \"passive\" without \"passive_ports\"".to_owned();
        reader.conflict(&table.span_of("blind"), what, PASSIVE);
    } else if ports.is_some() {
        let overlaps = |(from, to): &(u16, u16)| *from <= last && first <= *to;
        if first < s.lowest_port || s.forbidden_ports.iter().any(overlaps) {
            let what = format!("\"passive_ports\" {first}-{last} that no pinhole may lead to");
            let expected = "ports from \"lowest_port\" up, and none of \"forbidden_ports\"";
            reader.conflict(&table.span_of("passive_ports"), what, expected);
        }
    }
    word
}

/// The places of the profiles that a list of names means, one a protocol.
pub(super) fn named<'t>(reader: &mut Reader<'t>, texts: &[Text<'t>], profiles: &[Alg]) -> RuleProfiles {
    let mut places = RuleProfiles::default();
    for text in texts {
        let Some(place) = profiles.iter().position(|alg| alg.name == text.text) else {
            let known = profiles.iter().map(|alg| alg.name.as_str());
            reader.unknown("alg", text, known, "");
            continue;
        };
        let Some(protocol) = profiles.get(place).map(|alg| alg.protocol) else { continue };
        let Some(cell) = places.get_mut(protocol as usize) else { continue };
        if cell.is_some() {
            let what = format!("a second profile of {}", protocol.name());
            reader.conflict(&text.span, what, "one profile a protocol");
        }
        *cell = u8::try_from(place).ok();
    }
    places
}
