//! What happened to one packet, in words: the comments of the written capture.

use super::book::{Book, Flow};
use super::frame::{Side, Unfit};
use super::gateway::{Effect, Heard};
use super::tuple::{self, Tuple};
use crate::audit::names::Names;
use crate::audit::record::escape;
use core::fmt::Write;
use dataplane::event::Event;
use dataplane::packet::{ETHERNET_LEN, Parse, Parsed, parse};
use dataplane::view::{State, opener_text};

/// The comment of a packet that the gateway never got.
#[must_use]
pub fn unfit(unfit: Unfit) -> String {
    let (name, help) = unfit.names();
    let verb = if unfit == Unfit::Arp { "ignored" } else { "dropped" };
    format!("{verb}: {name}: {help}")
}

/// The comment of a packet: what became of it, whose it is, what it made happen, what was changed. `fed` is the frame as
/// it went in, `left` as it went out.
#[must_use]
pub fn packet(
    book: &Book,
    flow: Option<u32>,
    from: Side,
    fed: &[u8],
    left: Option<&[u8]>,
    effect: &Effect,
) -> String {
    let mut text = String::new();
    outcome(&mut text, from, left.is_some(), effect);
    if let Some(flow) = flow.and_then(|id| book.flow(id)) {
        whose(&mut text, flow, fed);
    }
    for heard in &effect.heard {
        happened(&mut text, heard, book.names());
    }
    if let Some(left) = left {
        changes(&mut text, fed, left);
    }
    text
}

/// The comment of a packet that the gateway sent besides the one that it got.
#[must_use]
pub fn own(frame: &[u8]) -> String {
    let what =
        frame.get(ETHERNET_LEN..).and_then(tuple::of).map_or_else(String::new, |t| format!(" {}", ends(t)));
    format!("sent by the gateway itself:{what}")
}

/// Writes cannot fail: the text is in memory.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {{
        if !$text.is_empty() {
            $text.push('\n');
        }
        let _ = write!($text, $($arg)*);
    }};
}

fn outcome(text: &mut String, from: Side, left: bool, effect: &Effect) {
    for (reason, _) in &effect.drops {
        line!(text, "dropped: {}: {}", reason.name(), reason.help());
    }
    let to = if from == Side::Inside { Side::Outside } else { Side::Inside };
    if left && effect.forwarded > 0 {
        line!(text, "forwarded: {} to {}", from.name(), to.name());
    } else if effect.drops.is_empty() {
        line!(text, "held: nothing of it has left yet");
    }
}

fn whose(text: &mut String, flow: &Flow, fed: &[u8]) {
    let sender = fed.get(ETHERNET_LEN..).and_then(tuple::of).map(|t| t.source);
    let end = if sender == Some(flow.source) { "initiator" } else { "responder" };
    line!(text, "flow {}: {} {} > {}, from its {end}", flow.id, flow.protocol, flow.source, flow.destination);
    if let Some(parent) = flow.parent {
        line!(text, "expected: announced by flow {parent}");
    }
    if let Some(rule) = &flow.rule {
        line!(text, "rule: {rule}, application: {}", flow.application);
    }
    line!(text, "state: {}", flow.state);
}

fn happened(text: &mut String, heard: &Heard, names: &Names) {
    match heard {
        Heard::Opened(view) if view.parent.is_some() => {
            line!(text, "lookup: no session; an expectation admits it")
        }
        Heard::Opened(view) if view.state == State::TcpEstablished => {
            line!(text, "lookup: no session; picked up in mid-stream, so no ALG reads it");
        }
        Heard::Opened(view) => {
            line!(
                text,
                "lookup: no session; a rule admits it{}",
                if view.alg { "; an ALG is bound" } else { "" }
            );
        }
        Heard::Closed(view) => line!(text, "session closed: {}", view.close_reason.name()),
        Heard::Expired(view) => {
            line!(text, "expectation expired: {} to {}", view.opener_text(), view.published)
        }
        Heard::Event(stamped) => event(text, &stamped.event, names),
    }
}

fn event(text: &mut String, event: &Event, names: &Names) {
    let by =
        |rule: &Option<u16>| rule.map_or_else(String::new, |r| format!(" by rule {}", names.alg_rule(r)));
    match event {
        Event::AlgMessage { application, fact, watched, .. } if fact.after.is_empty() => {
            let (before, did) = (escape(&fact.before), if *watched { "would refuse" } else { "refused" });
            line!(text, "alg {}: {did} \"{before}\"{}", application.name(), by(&fact.rule));
        }
        Event::AlgMessage { application, fact, .. } if fact.before == fact.after => {
            line!(text, "alg {}: read \"{}\"{}", application.name(), escape(&fact.before), by(&fact.rule));
        }
        Event::AlgMessage { application, fact, watched, .. } => {
            let (before, after) = (escape(&fact.before), escape(&fact.after));
            let (by, did) = (by(&fact.rule), if *watched { "would rewrite" } else { "rewrote" });
            line!(text, "alg {}: {did} \"{before}\" to \"{after}\"{by}", application.name());
        }
        Event::AlgDenied { application, denial, rule, watched, .. } => {
            let did = if *watched { "would refuse" } else { "refused" };
            line!(text, "alg {}: {did}: {}{}", application.name(), denial.name(), by(rule));
        }
        Event::AlgBound { application, .. } => {
            line!(text, "alg {}: reads the session, by what it said first", application.name());
        }
        Event::AlgBlind { application, why, .. } => {
            line!(text, "alg {}: reads no further: {}", application.name(), why.name());
        }
        Event::AlgStreamConflict { application, .. } => {
            line!(
                text,
                "alg {}: repeats bytes and says something else: the first copy counts",
                application.name()
            );
        }
        Event::AlgStreamNoRoom { application, bound, .. } => {
            let (application, bound) = (application.name(), bound.name());
            line!(text, "alg {application}: no room for its bytes ({bound}): they have to be repeated");
        }
        Event::ExpectationOpened { application, class, opener, published, listener, .. } => {
            let (application, opener) = (application.name(), opener_text(*class, *opener));
            line!(
                text,
                "expectation opened: {application} from {opener} to {published}, which is {listener}"
            );
        }
        Event::ExpectationWatched { application, class, opener, published, listener, .. } => {
            let (application, opener) = (application.name(), opener_text(*class, *opener));
            line!(text, "alg would expect: {application} from {opener} to {published}, which is {listener}");
        }
        Event::ExpectationRefused { reason, .. } => line!(text, "expectation refused: {}", reason.name()),
        Event::AlgNoPlace { application, reason, .. } => {
            line!(text, "alg {}: no place for the session: {}", application.name(), reason.name());
        }
        Event::ExpectationHit { .. } | Event::Denied { .. } | Event::NeighborNeeded { .. } => {}
    }
}

/// What differs between the headers of a packet as it came and as it left, but for the TTL.
fn changes(text: &mut String, fed: &[u8], left: &[u8]) {
    let whole = |frame: &[u8]| frame.get(ETHERNET_LEN..).and_then(tuple::of);
    if let (Some(before), Some(after)) = (whole(fed), whole(left)) {
        if before.source != after.source {
            line!(text, "source: {} to {}", before.source, after.source);
        }
        if before.destination != after.destination {
            line!(text, "destination: {} to {}", before.destination, after.destination);
        }
    }
    let (Some(before), Some(after)) = (parsed(fed), parsed(left)) else { return };
    let shift = |name: &str, from: u32, to: u32, text: &mut String| {
        if from != to {
            line!(text, "{name}: {:+}", to.wrapping_sub(from).cast_signed());
        }
    };
    shift("sequence number", before.seq, after.seq, text);
    shift("acknowledgement", before.ack, after.ack, text);
    shift("payload bytes", before.payload_len.into(), after.payload_len.into(), text);
}

fn parsed(frame: &[u8]) -> Option<Parsed> {
    match parse(frame, *frame.first_chunk()?) {
        Parse::Ip(parsed) => Some(parsed),
        _ => None,
    }
}

fn ends(tuple: Tuple) -> String {
    format!("{} > {}", tuple.source, tuple.destination)
}
