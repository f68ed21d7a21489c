//! The tables that stand once: `[gateway]`, `[dataplane]`, `[limits]`, `[streams]`, `[timeouts]`, `[log]`, `[control]`.

use crate::config::model::{Audit, Control, Dataplane, Gateway, Idle, Limits, Log};
use crate::config::reader::{Reader, Schema, Table};
use crate::config::values;
use core::ops::RangeInclusive;
use dataplane::expect::ExpectationLimits;
use dataplane::policy::{OnCommit, Timeouts};
use dataplane::stream::segment::{Limits as Streams, Overflow};
use tracing::Level;

static GATEWAY: Schema = Schema { table: "[gateway]", keys: &["name", "on_commit"], later: &[] };

pub(super) fn gateway<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Gateway {
    let mut gateway = Gateway::default();
    let Some(table) = reader.section(top, "gateway", &GATEWAY) else { return gateway };
    if let Some(name) = reader.string(&table, "name", "the gateway's name") {
        values::label(reader, "gateway name", &name);
        gateway.name = name.text.to_owned();
    }
    if let Some(text) = reader.string(&table, "on_commit", "one of keep, reevaluate, close") {
        let words =
            [("keep", OnCommit::Keep), ("reevaluate", OnCommit::Reevaluate), ("close", OnCommit::Close)];
        gateway.on_commit = reader.word(&text, "on_commit", &words, &[]).unwrap_or_default();
    }
    gateway
}

static DATAPLANE: Schema = Schema {
    table: "[dataplane]",
    keys: &[
        "workers",
        "sessions",
        "expectations",
        "alg_sessions",
        "bindings",
        "events",
        "idle",
        "idle_polls",
        "idle_sleep_us",
        "memory_mb",
        "eal_args",
        "misroute",
    ],
    later: &[],
};

/// Most workers.
const MOST_WORKERS: usize = 64;
/// Highest core number.
const HIGHEST_CORE: u32 = 1023;
const CORES: &str = "cores by number, such as [1, 2]";
/// 16 Mi sessions are 4 GiB of arena.
const SESSIONS: RangeInclusive<u32> = 1..=16_777_216;

pub(super) fn dataplane<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Dataplane {
    let d = Dataplane::default();
    let Some(table) = reader.section(top, "dataplane", &DATAPLANE) else { return d };
    let sessions = reader.integer(&table, "sessions", SESSIONS).unwrap_or(d.sessions);
    let up_to_sessions = 1..=sessions;
    let eal_arg = "an EAL argument, such as \"--log-level=8\"";
    let mut eal_args = Vec::new();
    reader.list(&table, "eal_args", eal_arg, |reader, entry| {
        let Some(text) = entry.need_text(reader, eal_arg) else { return };
        if text.text.is_empty() || text.text.contains('\0') {
            reader.bad("EAL argument", &text, eal_arg);
        }
        eal_args.push(text.text.to_owned());
    });
    let idle = reader.string(&table, "idle", "one of auto, busy, pause, sleep");
    let words = [("auto", Idle::Auto), ("busy", Idle::Busy), ("pause", Idle::Pause), ("sleep", Idle::Sleep)];
    Dataplane {
        workers: workers(reader, &table),
        sessions,
        expectations: reader
            .integer(&table, "expectations", 1..=1_048_576)
            .unwrap_or(d.expectations.min(sessions)),
        alg_sessions: reader
            .integer(&table, "alg_sessions", up_to_sessions)
            .unwrap_or(d.alg_sessions.min(sessions)),
        bindings: reader.integer(&table, "bindings", SESSIONS).unwrap_or(sessions),
        events: reader.integer(&table, "events", 64..=1_048_576).unwrap_or(d.events),
        idle: idle.and_then(|text| reader.word(&text, "idle mode", &words, &[])).unwrap_or(d.idle),
        idle_polls: reader.integer(&table, "idle_polls", 1..=1_000_000).unwrap_or(d.idle_polls),
        idle_sleep_us: reader.integer(&table, "idle_sleep_us", 1..=10_000).unwrap_or(d.idle_sleep_us),
        memory_mb: reader.integer(&table, "memory_mb", 64..=1_048_576),
        eal_args,
        misroute: reader.boolean(&table, "misroute").unwrap_or(d.misroute),
    }
}

fn workers<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Vec<u16> {
    let mut workers = Vec::new();
    let given = reader.list(table, "workers", CORES, |reader, entry| {
        let core = reader.integer_of(&entry, 0..=HIGHEST_CORE);
        workers.push(core.and_then(|n| u16::try_from(n).ok()).unwrap_or(0));
    });
    let span = table.span_of("workers");
    if given && workers.is_empty() {
        reader.conflict(&span, "\"workers\" is an empty list".into(), CORES);
    } else if workers.len() > MOST_WORKERS {
        let what = format!("\"workers\" names {} workers", workers.len());
        reader.conflict(&span, what, format!("at most {MOST_WORKERS}"));
    }
    workers
}

static LIMITS: Schema = Schema {
    table: "[limits]",
    keys: &[
        "icmp_errors_per_second",
        "deny_events_per_second",
        "expectations_per_flow",
        "expectations_per_host",
        "expectations_per_alg",
        "expectations_per_second",
        "host_share",
    ],
    later: &[],
};

pub(super) fn limits<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Limits {
    let d = Limits::default();
    let Some(table) = reader.section(top, "limits", &LIMITS) else { return d };
    let rate = 0..=1_000_000;
    Limits {
        icmp_errors_per_second: reader
            .integer(&table, "icmp_errors_per_second", rate.clone())
            .unwrap_or(d.icmp_errors_per_second),
        deny_events_per_second: reader
            .integer(&table, "deny_events_per_second", rate)
            .unwrap_or(d.deny_events_per_second),
        expectations: expectation_limits(reader, &table, d.expectations),
        host_share: reader.integer(&table, "host_share", 1..=100).unwrap_or(d.host_share),
    }
}

/// A limit of pinholes: as many as there can be.
pub(super) const EXPECTATIONS: RangeInclusive<u32> = 1..=1_048_576;

fn expectation_limits<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    d: ExpectationLimits,
) -> ExpectationLimits {
    let mut limit = |key, default| reader.integer(table, key, EXPECTATIONS).unwrap_or(default);
    ExpectationLimits {
        per_flow: limit("expectations_per_flow", d.per_flow),
        per_host: limit("expectations_per_host", d.per_host),
        per_alg: limit("expectations_per_alg", d.per_alg),
        per_second: limit("expectations_per_second", d.per_second),
    }
}

static STREAMS: Schema =
    Schema { table: "[streams]", keys: &["hold", "message_bytes", "flow_bytes", "overflow"], later: &[] };

/// A direction of a stream keeps so much: two segments, up to what an ALG can be shown at once.
const FLOW_BYTES: RangeInclusive<u32> = 4_096..=65_536;

pub(super) fn streams<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Streams {
    let d = Streams::default();
    let Some(table) = reader.section(top, "streams", &STREAMS) else { return d };
    let bytes = reader.integer(&table, "flow_bytes", FLOW_BYTES).unwrap_or(d.bytes);
    Streams {
        hold_ms: reader.milliseconds(&table, "hold", 100..=60_000).unwrap_or(d.hold_ms),
        message: reader.integer(&table, "message_bytes", 512..=bytes).unwrap_or(d.message.min(bytes)),
        bytes,
        overflow: overflow(reader, &table).unwrap_or(d.overflow),
        ..d
    }
}

/// What becomes of a session at the bound of its streams.
pub(super) fn overflow<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Overflow> {
    let text = reader.string(table, "overflow", "one of reset, pass")?;
    let words = [("reset", Overflow::Reset), ("pass", Overflow::Pass)];
    reader.word(&text, "overflow", &words, &[])
}

static TIMEOUTS: Schema = Schema {
    table: "[timeouts]",
    keys: &[
        "tcp_syn_sent",
        "tcp_syn_received",
        "tcp_established",
        "tcp_fin_wait",
        "tcp_time_wait",
        "tcp_reset",
        "udp_new",
        "udp_stream",
        "icmp",
        "expectation",
        "port_hold_down",
        "fragment_timeout",
    ],
    later: &[],
};

/// In milliseconds. Ticks wrap at 2^32 ms, and only differences below half of that can be told: 24 days.
const TIMEOUT: RangeInclusive<u32> = 1..=1_000_000_000;

/// RFC 1122 §3.3.2 gives a host two minutes at most.
const FRAGMENT: RangeInclusive<u32> = 100..=120_000;

pub(super) fn timeouts<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Timeouts {
    let mut t = Timeouts::default();
    let Some(table) = reader.section(top, "timeouts", &TIMEOUTS) else { return t };
    for (key, value) in [
        ("tcp_syn_sent", &mut t.tcp_syn_sent),
        ("tcp_syn_received", &mut t.tcp_syn_received),
        ("tcp_established", &mut t.tcp_established),
        ("tcp_fin_wait", &mut t.tcp_fin_wait),
        ("tcp_time_wait", &mut t.tcp_time_wait),
        ("tcp_reset", &mut t.tcp_reset),
        ("udp_new", &mut t.udp_new),
        ("udp_stream", &mut t.udp_stream),
        ("icmp", &mut t.icmp),
        ("expectation", &mut t.expectation),
    ] {
        *value = reader.milliseconds(&table, key, TIMEOUT).unwrap_or(*value);
    }
    // A test may want ports back at once.
    let hold_down = reader.milliseconds(&table, "port_hold_down", 0..=*TIMEOUT.end());
    t.port_hold_down = hold_down.unwrap_or(t.port_hold_down);
    t.fragment = reader.milliseconds(&table, "fragment_timeout", FRAGMENT).unwrap_or(t.fragment);
    t
}

static LOG: Schema = Schema { table: "[log]", keys: &["audit", "level", "deny"], later: &[] };

pub(super) fn log<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Log {
    let mut log = Log::default();
    let Some(table) = reader.section(top, "log", &LOG) else { return log };
    let audit = "\"stdout\", \"off\" or the path of a file";
    if let Some(text) = reader.string(&table, "audit", audit) {
        if text.text.is_empty() || text.text.contains('\0') {
            reader.bad("audit log", &text, audit);
        }
        log.audit = match text.text {
            "stdout" => Audit::Stdout,
            "off" => Audit::Off,
            path => Audit::File(path.into()),
        };
    }
    let words = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let level = reader.string(&table, "level", "one of error, warn, info, debug, trace");
    let level = level.and_then(|text| reader.word(&text, "level", &words, &[]));
    log.level = level.unwrap_or(log.level);
    log.deny = reader.boolean(&table, "deny").unwrap_or(log.deny);
    log
}

static CONTROL: Schema = Schema { table: "[control]", keys: &["socket"], later: &[] };

/// Longest path of a Unix socket on Linux, in bytes (unix(7): 108 with the final zero).
const LONGEST_SOCKET: usize = 107;

pub(super) fn control<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Control {
    let mut control = Control::default();
    let Some(table) = reader.section(top, "control", &CONTROL) else { return control };
    if let Some(text) = reader.string(&table, "socket", "the path of the control socket") {
        let length = text.text.len();
        if !(1..=LONGEST_SOCKET).contains(&length) || text.text.contains('\0') {
            reader.bad("socket", &text, format!("a path of 1 to {LONGEST_SOCKET} bytes"));
        }
        control.socket = text.text.into();
    }
    control
}
