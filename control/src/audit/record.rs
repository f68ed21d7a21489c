//! The records of the audit log, field by field. One record is one JSON object on a line of its own.
//!
//! Times are RFC 3339 in UTC. Endpoints are `addr:port`, `[v6]:port`; the port of ICMP echo is the identifier at the
//! asking end and 0 at the answering end. Pairs in brackets are what the initiator sent, then what the responder sent.
//! Fields are only ever added.

use super::DeviceEvent;
use super::clock::{Date, WallClock, elapsed_ms};
use super::names::{Names, id};
use alg::Blindness;
use alg::{Application, Endpoint, Side};
use dataplane::event::{Event, Stamped};
use dataplane::key::{FlowKey, WorkerId};
use dataplane::view::{ExpectationView, SessionView, opener_text};
use serde::Serialize;
use std::borrow::Cow;

/// A record. `kind` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record<'a> {
    /// A session was admitted.
    SessionOpen(SessionOpen<'a>),
    /// A session ended; its totals.
    SessionClose(SessionClose<'a>),
    /// An ALG announced a session that will be admitted.
    ExpectationOpened(ExpectationOpened),
    /// An ALG that only watches would have announced a session.
    ExpectationWatched(ExpectationWatched),
    /// The announced session came.
    ExpectationHit(ExpectationHit),
    /// The announced session did not come in time, or its parent ended.
    ExpectationExpired(ExpectationExpired),
    /// A session that an ALG announced cannot be admitted.
    ExpectationRefused(ExpectationRefused),
    /// Policy refused a packet that would have opened a session.
    Deny(Deny<'a>),
    /// An ALG read a message that it had to understand, and perhaps rewrote it.
    AlgMessage(AlgMessage<'a>),
    /// An ALG refused a message; a TCP session was reset.
    AlgDenied(AlgDenied<'a>),
    /// What a session said first has shown what it is, on a port that is no protocol's.
    AlgBound(AlgBound),
    /// An ALG cannot read a session any more.
    AlgBlind(AlgBlind),
    /// An ALG does not read a session: it is another protocol.
    AlgProtocolConfusion(AlgBlind),
    /// An end of an inspected session repeated bytes and said something else than before.
    AlgStreamConflict(AlgStream),
    /// Bytes of an inspected session found no room: their sender has to repeat them.
    AlgStreamNoRoom(AlgStreamNoRoom),
    /// An ALG has no place for a session that it would read.
    AlgNoPlace(AlgNoPlace),
    /// The link of a device came up.
    LinkUp(LinkUp<'a>),
    /// The link of a device went down.
    LinkDown(Device<'a>),
    /// A device was pulled out, or the kernel asks for it.
    DeviceRemoved(Device<'a>),
    /// The gateway has let go of such a device.
    DeviceReleased(Device<'a>),
    /// Something of a device could not be had.
    DeviceLacks(DeviceLacks<'a>),
    /// A receive queue of a device has never received anything, and should have.
    QueueSilent(QueueSilent<'a>),
    /// Such a queue receives after all.
    QueueReceives(QueueReceives<'a>),
}

/// A device, and the interfaces on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device<'a> {
    /// When.
    pub time: Date,
    /// As configured.
    pub device: &'a str,
    /// Their names.
    pub interfaces: &'a [&'a str],
}

/// The link of a device came up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkUp<'a> {
    /// Which.
    #[serde(flatten)]
    pub device: Device<'a>,
    /// Mbit/s; none if unknown.
    pub mbps: Option<u32>,
}

/// Something of a device could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceLacks<'a> {
    /// Which.
    #[serde(flatten)]
    pub device: Device<'a>,
    /// What it is about.
    pub what: &'a str,
    /// What could not be had, and why.
    pub lacks: &'a str,
}

/// A receive queue that never receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueSilent<'a> {
    /// Of which device.
    #[serde(flatten)]
    pub device: Device<'a>,
    /// Which.
    pub queue: u16,
    /// What the others have received.
    pub packets: u64,
}

/// One that does after all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueReceives<'a> {
    /// Of which device.
    #[serde(flatten)]
    pub device: Device<'a>,
    /// Which.
    pub queue: u16,
}

/// Who talks to whom, admitted by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow<'a> {
    /// `tcp`, `udp`, `icmp`.
    pub protocol: &'static str,
    /// The initiator, as on its own wire.
    pub source: String,
    /// The responder, as the initiator addresses it.
    pub destination: String,
    /// The initiator, as the responder sees it.
    pub translated_source: String,
    /// The responder, as on its own wire.
    pub translated_destination: String,
    /// Zone of the initiator.
    pub from_zone: Cow<'a, str>,
    /// Zone of the responder.
    pub to_zone: Cow<'a, str>,
    /// The rule that admitted it; an expected child has its parent's.
    pub rule: Cow<'a, str>,
    /// What it is taken for.
    pub application: &'static str,
    /// The worker that owns it.
    pub worker: u8,
    /// Generation of the policy that admitted it.
    pub policy_generation: u32,
}

/// A session was admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionOpen<'a> {
    /// When it opened.
    pub time: Date,
    /// The session.
    pub id: String,
    /// The session whose ALG announced it, if one did.
    pub parent: Option<String>,
    /// Who, with whom.
    #[serde(flatten)]
    pub flow: Flow<'a>,
}

/// A session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionClose<'a> {
    /// When it closed.
    pub time: Date,
    /// The session.
    pub id: String,
    /// The session whose ALG announced it, if one did.
    pub parent: Option<String>,
    /// When it opened.
    pub opened: Date,
    /// When its last packet passed.
    pub last_packet: Date,
    /// Milliseconds from open to close.
    pub elapsed_ms: u64,
    /// Who, with whom.
    #[serde(flatten)]
    pub flow: Flow<'a>,
    /// Packets.
    pub packets: [u64; 2],
    /// Bytes (IP length).
    pub bytes: [u64; 2],
    /// State when it was read for this record.
    pub state: &'static str,
    /// Why it ended.
    pub close_reason: &'static str,
}

/// An ALG announced a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectationOpened {
    /// When.
    pub time: Date,
    /// The expectation.
    pub id: String,
    /// The session whose ALG announced it.
    pub parent: String,
    /// What the child will be.
    pub application: &'static str,
    /// Who may open it: the name of a [`dataplane::view::ExpectationClass`].
    pub class: &'static str,
    /// Address that may open it, from any port.
    pub opener: String,
    /// Where the opener sends to; of a range its first port.
    pub published: String,
    /// Where that leads.
    pub listener: String,
    /// Of a range its last port.
    pub last_port: Option<u16>,
    /// Who sent the message that asked for it: `initiator` or `responder`.
    pub from: &'static str,
    /// Where that message starts in its stream: the `offset` of its [`AlgMessage`].
    pub offset: u64,
    /// The worker that owns the parent.
    pub worker: u8,
}

/// An ALG would have announced a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectationWatched {
    /// When.
    pub time: Date,
    /// The session whose ALG would have announced it.
    pub parent: String,
    /// What the child would have been.
    pub application: &'static str,
    /// Address that might have opened it.
    pub opener: String,
    /// Where the opener would have sent to.
    pub published: String,
    /// Where that would have led.
    pub listener: String,
    /// Who sent the message that asks for it: `initiator` or `responder`.
    pub from: &'static str,
    /// Where that message starts in its stream: the `offset` of its [`AlgMessage`].
    pub offset: u64,
    /// The worker that owns the parent.
    pub worker: u8,
}

/// The announced session came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectationHit {
    /// When.
    pub time: Date,
    /// The expectation.
    pub id: String,
    /// The session whose ALG announced it.
    pub parent: String,
    /// The session that came.
    pub child: String,
    /// The worker that owns the child.
    pub worker: u8,
}

/// The announced session did not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectationExpired {
    /// When.
    pub time: Date,
    /// The expectation.
    pub id: String,
    /// The session whose ALG announced it.
    pub parent: String,
    /// What the child would have been.
    pub application: &'static str,
    /// Address that might have opened it.
    pub opener: String,
    /// Where the opener would have sent to.
    pub published: String,
    /// Where that would have led.
    pub listener: String,
    /// The worker that owned it.
    pub worker: u8,
}

/// An announced session cannot be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectationRefused {
    /// When.
    pub time: Date,
    /// The session whose ALG announced it.
    pub parent: String,
    /// What was full.
    pub reason: &'static str,
    /// It is a limit of the session's profile, and not of `[limits]`.
    pub by_profile: bool,
    /// The worker that refused.
    pub worker: u8,
}

/// Policy refused a packet. Rate-limited at the worker: the `policy-deny` counter has them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deny<'a> {
    /// When.
    pub time: Date,
    /// `tcp`, `udp`, `icmp`.
    pub protocol: &'static str,
    /// Source, as the packet arrived.
    pub source: String,
    /// Destination, as the packet arrived.
    pub destination: String,
    /// Zone that it came from.
    pub from_zone: Cow<'a, str>,
    /// Zone that it would have gone to; null without a route.
    pub to_zone: Option<Cow<'a, str>>,
    /// The rule that denied it; `default` if none matched.
    pub rule: Cow<'a, str>,
    /// The worker that dropped it.
    pub worker: u8,
    /// Generation of the policy that denied it.
    pub policy_generation: u32,
}

/// An ALG read a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgMessage<'a> {
    /// When.
    pub time: Date,
    /// The session.
    pub session: String,
    /// What it is.
    pub application: &'static str,
    /// Who sent the message: `initiator` or `responder`.
    pub from: &'static str,
    /// Where the message starts in its stream, in bytes after the SYN.
    pub offset: u64,
    /// The message as it came (its beginning), escaped: see [`escape`].
    pub before: String,
    /// The message as it left; equal to `before` when nothing was rewritten, empty when it was refused.
    pub after: String,
    /// The rule of the profile's command policy that decided, if one did.
    pub rule: Option<Cow<'a, str>>,
    /// The ALG only watches: this is how it would have left.
    pub watched: bool,
    /// The worker that owns the session.
    pub worker: u8,
}

/// An ALG refused a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgDenied<'a> {
    /// When.
    pub time: Date,
    /// The session.
    pub session: String,
    /// What it is.
    pub application: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The rule of the profile's command policy that decided, if one did.
    pub rule: Option<Cow<'a, str>>,
    /// The ALG only watches: the message went on.
    pub watched: bool,
    /// The worker that owns the session.
    pub worker: u8,
}

/// An ALG reads a session because of what it said first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgBound {
    /// When.
    pub time: Date,
    /// The session.
    pub session: String,
    /// What it is.
    pub application: &'static str,
    /// The worker that owns the session.
    pub worker: u8,
}

/// An ALG reads a session no more; it goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgBlind {
    /// When.
    pub time: Date,
    /// The session.
    pub session: String,
    /// What it was taken for.
    pub application: &'static str,
    /// Why: the name of a [`Blindness`].
    pub reason: &'static str,
    /// The worker that owns the session.
    pub worker: u8,
}

/// Something about the streams of an inspected session, said once a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgStream {
    /// When.
    pub time: Date,
    /// The session.
    pub session: String,
    /// What it is.
    pub application: &'static str,
    /// Whose segment it was: `initiator` or `responder`.
    pub from: &'static str,
    /// The worker that owns the session.
    pub worker: u8,
}

/// Bytes of an inspected session found no room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgStreamNoRoom {
    /// When.
    pub time: Date,
    /// The session.
    pub session: String,
    /// What it is.
    pub application: &'static str,
    /// Whose bytes they were: `initiator` or `responder`.
    pub from: &'static str,
    /// What was full: the name of a [`dataplane::stream::segment::Bound`].
    pub bound: &'static str,
    /// The worker that owns the session.
    pub worker: u8,
}

/// An ALG has no place for a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgNoPlace {
    /// When.
    pub time: Date,
    /// `tcp`, `udp`.
    pub protocol: &'static str,
    /// Source, as the packet arrived.
    pub source: String,
    /// Destination, as the packet arrived.
    pub destination: String,
    /// What the session would be.
    pub application: &'static str,
    /// The name of a [`dataplane::drop_reason::DropReason`].
    pub reason: &'static str,
    /// It goes on unread.
    pub watched: bool,
    /// The worker that would own the session.
    pub worker: u8,
}

impl<'a> Flow<'a> {
    fn of(view: &SessionView, names: &'a Names) -> Self {
        let (source, destination) = (source(&view.forward), destination(&view.forward));
        Self {
            protocol: view.forward.protocol.name(),
            source: source.to_string(),
            destination: destination.to_string(),
            translated_source: self::destination(&view.reverse).to_string(),
            translated_destination: self::source(&view.reverse).to_string(),
            from_zone: names.zone(view.forward.scope),
            to_zone: names.zone(view.reverse.scope),
            rule: names.rule(view.rule, view.policy_generation),
            application: view.application.name(),
            worker: view.owner.0,
            policy_generation: view.policy_generation,
        }
    }
}

impl<'a> Record<'a> {
    /// The record of a session that was admitted.
    #[must_use]
    pub fn opened(view: &SessionView, clock: &WallClock, names: &'a Names) -> Self {
        Self::SessionOpen(SessionOpen {
            time: clock.at(view.created),
            id: id(view.id),
            parent: view.parent.map(id),
            flow: Flow::of(view, names),
        })
    }

    /// The record of a session that ends now.
    #[must_use]
    pub fn closed(view: &SessionView, clock: &WallClock, names: &'a Names) -> Self {
        Self::SessionClose(SessionClose {
            time: clock.at(clock.now()),
            id: id(view.id),
            parent: view.parent.map(id),
            opened: clock.at(view.created),
            last_packet: clock.at(view.last_seen),
            elapsed_ms: elapsed_ms(clock.now(), view.created),
            flow: Flow::of(view, names),
            packets: view.packets,
            bytes: view.bytes,
            state: view.last_state.name(),
            close_reason: view.close_reason.name(),
        })
    }

    /// The record of an expectation that ends unmet now.
    #[must_use]
    pub fn expired(view: &ExpectationView, clock: &WallClock) -> Self {
        Self::ExpectationExpired(ExpectationExpired {
            time: clock.at(clock.now()),
            id: id(view.id),
            parent: id(view.parent),
            application: view.application.name(),
            opener: view.opener_text(),
            published: view.published.to_string(),
            listener: view.listener.to_string(),
            worker: view.owner.0,
        })
    }

    /// The record of what became of a device; none for a kind that nobody knows.
    #[must_use]
    pub fn device(event: &'a DeviceEvent<'a>, clock: &WallClock) -> Option<Self> {
        let device =
            Device { time: clock.at(clock.now()), device: event.device, interfaces: &event.interfaces };
        if let Some((queue, packets)) = event.queue {
            return match event.kind {
                "queue-silent" => Some(Self::QueueSilent(QueueSilent { device, queue, packets })),
                "queue-receives" => Some(Self::QueueReceives(QueueReceives { device, queue })),
                _ => None,
            };
        }
        Some(match (event.kind, event.lack) {
            ("link-up", _) => {
                Self::LinkUp(LinkUp { device, mbps: Some(event.mbps).filter(|mbps| *mbps != 0) })
            }
            ("link-down", _) => Self::LinkDown(device),
            ("device-removed", _) => Self::DeviceRemoved(device),
            ("device-released", _) => Self::DeviceReleased(device),
            (_, Some((what, lacks))) => Self::DeviceLacks(DeviceLacks { device, what, lacks }),
            _ => return None,
        })
    }

    /// The record of a worker's event; none for those that are not for the log.
    #[must_use]
    pub fn event(worker: WorkerId, stamped: &Stamped, clock: &WallClock, names: &'a Names) -> Option<Self> {
        let time = clock.at(stamped.at);
        let worker = worker.0;
        Some(match &stamped.event {
            Event::AlgMessage { session, application, fact, watched } => Self::AlgMessage(AlgMessage {
                time,
                session: id(*session),
                application: application.name(),
                from: side(fact.from),
                offset: fact.offset,
                before: escape(&fact.before),
                after: escape(&fact.after),
                rule: fact.rule.map(|rule| names.alg_rule(rule)),
                watched: *watched,
                worker,
            }),
            Event::AlgDenied { session, application, denial, rule, watched } => Self::AlgDenied(AlgDenied {
                time,
                session: id(*session),
                application: application.name(),
                reason: denial.name(),
                rule: rule.map(|rule| names.alg_rule(rule)),
                watched: *watched,
                worker,
            }),
            Event::AlgBound { session, application } => Self::AlgBound(AlgBound {
                time,
                session: id(*session),
                application: application.name(),
                worker,
            }),
            Event::AlgBlind { session, application, why } => {
                let record = AlgBlind {
                    time,
                    session: id(*session),
                    application: application.name(),
                    reason: why.name(),
                    worker,
                };
                match why {
                    Blindness::OtherProtocol => Self::AlgProtocolConfusion(record),
                    _ => Self::AlgBlind(record),
                }
            }
            Event::AlgStreamConflict { session, application, from } => Self::AlgStreamConflict(AlgStream {
                time,
                session: id(*session),
                application: application.name(),
                from: side(*from),
                worker,
            }),
            Event::AlgStreamNoRoom { session, application, from, bound } => {
                Self::AlgStreamNoRoom(AlgStreamNoRoom {
                    time,
                    session: id(*session),
                    application: application.name(),
                    from: side(*from),
                    bound: bound.name(),
                    worker,
                })
            }
            Event::ExpectationOpened {
                expectation,
                parent,
                application,
                class,
                opener,
                published,
                listener,
                last_port,
                from,
                offset,
            } => Self::ExpectationOpened(ExpectationOpened {
                time,
                id: id(*expectation),
                parent: id(*parent),
                application: Application::name(*application),
                class: class.name(),
                opener: opener_text(*class, *opener),
                published: published.to_string(),
                listener: listener.to_string(),
                last_port: Some(*last_port).filter(|port| *port != 0),
                from: side(*from),
                offset: *offset,
                worker,
            }),
            Event::ExpectationWatched {
                parent,
                application,
                class,
                opener,
                published,
                listener,
                from,
                offset,
            } => Self::ExpectationWatched(ExpectationWatched {
                time,
                parent: id(*parent),
                application: Application::name(*application),
                opener: opener_text(*class, *opener),
                published: published.to_string(),
                listener: listener.to_string(),
                from: side(*from),
                offset: *offset,
                worker,
            }),
            Event::ExpectationHit { expectation, parent, child } => Self::ExpectationHit(ExpectationHit {
                time,
                id: id(*expectation),
                parent: id(*parent),
                child: id(*child),
                worker,
            }),
            Event::ExpectationRefused { parent, reason, by_profile } => {
                Self::ExpectationRefused(ExpectationRefused {
                    time,
                    parent: id(*parent),
                    reason: reason.name(),
                    by_profile: *by_profile,
                    worker,
                })
            }
            Event::Denied { key, to, rule, generation } => Self::Deny(Deny {
                time,
                protocol: key.protocol.name(),
                source: source(key).to_string(),
                destination: destination(key).to_string(),
                from_zone: names.zone(key.scope),
                to_zone: to.map(|zone| names.zone(zone)),
                rule: names.rule(*rule, *generation),
                worker,
                policy_generation: *generation,
            }),
            Event::AlgNoPlace { key, application, reason, watched } => Self::AlgNoPlace(AlgNoPlace {
                time,
                protocol: key.protocol.name(),
                source: source(key).to_string(),
                destination: destination(key).to_string(),
                application: application.name(),
                reason: reason.name(),
                watched: *watched,
                worker,
            }),
            Event::NeighborNeeded { .. } => return None,
        })
    }
}

/// An end of a session.
const fn side(side: Side) -> &'static str {
    match side {
        Side::Initiator => "initiator",
        Side::Responder => "responder",
    }
}

/// Source of a key.
#[must_use]
pub fn source(key: &FlowKey) -> Endpoint {
    Endpoint::new(key.source(), key.sport)
}

/// Destination of a key.
#[must_use]
pub fn destination(key: &FlowKey) -> Endpoint {
    Endpoint::new(key.destination(), key.dport)
}

/// Bytes as text that is safe in a log: printable ASCII stands for itself, a backslash is doubled, and everything
/// else is `\r`, `\n`, `\t` or `\xNN`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}"); // writing to a String cannot fail
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_bytes_are_printable_and_distinct() {
        assert_eq!(escape(b"PORT 10,1,0,2,4,1\r\n"), "PORT 10,1,0,2,4,1\\r\\n");
        assert_eq!(escape(b"a\\r\t\"'\x00\x7f\xff"), "a\\\\r\\t\"'\\x00\\x7f\\xff");
    }
}
