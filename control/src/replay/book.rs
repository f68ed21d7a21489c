//! The book of a replay: every flow of the capture and what became of it, as the packets go by.

use super::events::Events;
use super::frame::{Side, Unfit};
use super::gateway::{Effect, Gateway, Heard};
use super::tuple::{Header, Tuple};
use crate::audit::WallClock;
use crate::audit::clock::Date;
use crate::audit::names::Names;
use crate::audit::record::{Record, destination, source};
use alg::Endpoint;
use dataplane::drop_reason::DropReason;
use dataplane::event::{Event, Ref, Stamped};
use dataplane::key::{Protocol, Tick, WorkerId};
use dataplane::policy::{Decision, Query};
use dataplane::view::SessionView;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

/// Most packets of which a fragment with ports was seen and others are waited for.
const MOST_FRAGMENTED: usize = 4_096;
/// The state of a flow that was picked up.
const MID_STREAM: &str = "mid-stream";
/// The state of a flow that a rule refused.
const DENIED: &str = "denied";
/// The state of a flow that has no session and needs none.
const STATELESS: &str = "stateless";
/// The state of a flow that no rule was asked about.
const NO_SESSION: &str = "no-session";

/// Whether a flow was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A rule or an expectation admitted it.
    Allow,
    /// Nothing did.
    Deny,
}

/// A flow. Pairs are what the initiator sent, then what the responder sent.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its number, from 1, in the order of the capture.
    pub id: u32,
    /// The flow whose ALG announced it.
    pub parent: Option<u32>,
    /// An expectation admitted it.
    pub expected: bool,
    /// `tcp`, `udp`, `icmp`.
    pub protocol: &'static str,
    /// The initiator, as on its own wire.
    pub source: Endpoint,
    /// The responder, as the initiator addresses it.
    pub destination: Endpoint,
    /// What it is taken for.
    pub application: &'static str,
    /// What has bound an ALG to it, if something has.
    pub bound_by: Option<&'static str>,
    /// The last state of its session, or that it was picked up, or why it has none.
    pub state: &'static str,
    /// Whether it was let through.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Packets of the capture.
    pub packets: [u64; 2],
    /// Their bytes, from the IP header on.
    pub bytes: [u64; 2],
    /// Those that were dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Its session.
    session: Option<Ref>,
    /// The initiator, as it was captured.
    initiator: Endpoint,
    /// The capture has not its beginning.
    midway: bool,
}

/// What became of expectations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expectations {
    /// Opened.
    pub opened: u64,
    /// Met by a child.
    pub hit: u64,
    /// Ended unmet.
    pub expired: u64,
    /// Not to be opened, or met by a child that could not be.
    pub refused: u64,
}

/// A packet as the book sees it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where it came from.
    pub side: Side,
    /// Its ends, as captured.
    pub tuple: Option<Tuple>,
    /// Bytes from the IP header on.
    pub bytes: u64,
    /// The gateway could read it, and asked whose it is.
    pub readable: bool,
    /// It is not the first of a connection.
    pub midway: bool,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    /// Flows in the order of the capture.
    pub flows: Vec<Flow>,
    /// Events in order.
    pub events: Events,
    /// Packets of the capture.
    pub packets: u64,
    /// Packets that left.
    pub forwarded: u64,
    /// Packets that were dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Packets that are no business of the gateway, by reason.
    pub ignored: BTreeMap<&'static str, u64>,
    /// Expectations.
    pub expectations: Expectations,
    /// Flows that there was no room for.
    pub flows_lost: u64,
    most_flows: usize,
    names: Names,
    clock: WallClock,
    sessions: HashMap<Ref, u32>,
    /// The newest flow of a tuple, either way.
    tuples: HashMap<Tuple, u32>,
    fragments: HashMap<Fragmented, Tuple>,
}

/// What the fragments of a packet have in common (RFC 791 §3.2).
type Fragmented = (core::net::Ipv4Addr, core::net::Ipv4Addr, u8, u16);

impl Book {
    /// Names of zones and rules.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// A book of at most `most_flows` flows.
    #[must_use]
    pub fn new(gateway: &Gateway, most_flows: usize) -> Self {
        Self {
            flows: Vec::new(),
            events: Events::default(),
            packets: 0,
            forwarded: 0,
            drops: BTreeMap::new(),
            ignored: BTreeMap::new(),
            expectations: Expectations::default(),
            flows_lost: 0,
            most_flows,
            names: Names::of(gateway.policy()),
            clock: WallClock::new(SystemTime::UNIX_EPOCH),
            sessions: HashMap::new(),
            tuples: HashMap::new(),
            fragments: HashMap::new(),
        }
    }

    /// Says what time it is.
    pub fn set_time(&mut self, tick: Tick, wall: SystemTime) {
        self.clock.renew(tick, wall);
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Date {
        self.clock.at(self.clock.now())
    }

    /// The flow of a number.
    #[must_use]
    pub fn flow(&self, id: u32) -> Option<&Flow> {
        self.flows.get(place(id)?)
    }

    fn flow_mut(&mut self, id: u32) -> Option<&mut Flow> {
        self.flows.get_mut(place(id)?)
    }

    /// The newest flow of these ends.
    #[must_use]
    pub fn flow_of(&self, tuple: Tuple) -> Option<u32> {
        self.tuples.get(&tuple.either_way()).copied()
    }

    /// Whether a segment of these ends may be from the middle of a connection: the capture has nothing of it so far, or
    /// nothing that was let through.
    #[must_use]
    pub fn may_be_midway(&self, tuple: Tuple) -> bool {
        let flow = self.flow_of(tuple).and_then(|id| self.flow(id));
        flow.is_none_or(|flow| flow.midway && flow.verdict == Verdict::Deny)
    }

    /// The ends of a fragment, from the fragment that has the ports.
    pub fn ends_of_fragment(&mut self, header: &Header, tuple: Option<Tuple>) -> Option<Tuple> {
        let name = (header.source, header.destination, header.protocol, header.id);
        let Some(tuple) = tuple else { return self.fragments.get(&name).copied() };
        if self.fragments.len() >= MOST_FRAGMENTED {
            self.fragments.clear();
        }
        self.fragments.insert(name, tuple);
        Some(tuple)
    }

    /// Writes down a packet that the gateway never got. Answers its flow.
    pub fn unfit(&mut self, unfit: Unfit, tuple: Option<Tuple>, bytes: u64) -> Option<u32> {
        self.packets += 1;
        let (name, _) = unfit.names();
        if unfit == Unfit::Arp {
            *self.ignored.entry(name).or_default() += 1;
            return None;
        }
        *self.drops.entry(name).or_default() += 1;
        let tuple = tuple?;
        let id = self.flow_of(tuple)?;
        self.count(id, tuple, bytes, &[(name, 1)]);
        Some(id)
    }

    /// Writes down a packet and what it did. Answers its flow.
    pub fn packet(
        &mut self,
        gateway: &Gateway,
        entry: &Entry,
        fed: Option<Tuple>,
        effect: &Effect,
    ) -> Option<u32> {
        self.packets += 1;
        let opened = self.hear(&effect.heard, Some(entry), fed);
        self.tally(effect);
        let tuple = entry.tuple?;
        let refused = effect.drops.first().map(|(reason, _)| *reason);
        let known = opened.or_else(|| self.flow_of(tuple));
        let id = match (known, refused) {
            (Some(id), _) => id,
            (None, Some(reason)) if entry.readable => {
                self.refused(gateway, entry, tuple, reason, &effect.heard)?
            }
            (None, None) if entry.readable && effect.forwarded > 0 => self.passed(gateway, entry, tuple)?,
            _ => return None,
        };
        let drops: Vec<_> = effect.drops.iter().map(|(reason, n)| (reason.name(), *n)).collect();
        self.count(id, tuple, entry.bytes, &drops);
        let session = self.flow(id).and_then(|flow| flow.session);
        if let Some(view) = session.and_then(|session| gateway.session(session)) {
            self.settle(&view);
        }
        Some(id)
    }

    /// Writes down what time did.
    pub fn time(&mut self, effect: &Effect) {
        self.hear(&effect.heard, None, None);
        self.tally(effect);
    }

    /// Writes down the end: what `heard` says is still open closes.
    pub fn finish(&mut self, heard: &[Heard]) {
        for heard in heard {
            if let Heard::Closed(view) = heard {
                self.settle(view);
            }
        }
    }

    fn tally(&mut self, effect: &Effect) {
        self.forwarded += effect.forwarded;
        for (reason, n) in &effect.drops {
            *self.drops.entry(reason.name()).or_default() += n;
        }
    }

    fn count(&mut self, id: u32, tuple: Tuple, bytes: u64, drops: &[(&'static str, u64)]) {
        let Some(flow) = self.flow_mut(id) else { return };
        let way = usize::from(tuple.source != flow.initiator);
        if let (Some(packets), Some(sum)) = (flow.packets.get_mut(way), flow.bytes.get_mut(way)) {
            *packets += 1;
            *sum += bytes;
        }
        for (reason, n) in drops {
            *flow.drops.entry(reason).or_default() += n;
        }
    }

    /// A new flow. None, counted, if there is no room.
    fn add(&mut self, flow: Flow) -> Option<u32> {
        if self.flows.len() >= self.most_flows {
            self.flows_lost += 1;
            return None;
        }
        let id = u32::try_from(self.flows.len() + 1).ok()?;
        self.flows.push(Flow { id, ..flow });
        Some(id)
    }

    /// A flow whose packets a rule lets pass one by one.
    fn passed(&mut self, gateway: &Gateway, entry: &Entry, tuple: Tuple) -> Option<u32> {
        let decision = decision(gateway, entry.side, tuple);
        let rule = decision.map(|d| self.names.rule(d.rule, gateway.policy().generation).into_owned());
        let flow = Flow { state: STATELESS, verdict: Verdict::Allow, rule, ..Flow::between(tuple) };
        let id = self.add(flow)?;
        self.tuples.insert(tuple.either_way(), id);
        Some(id)
    }

    /// A flow that nothing admits.
    fn refused(
        &mut self,
        gateway: &Gateway,
        entry: &Entry,
        tuple: Tuple,
        reason: DropReason,
        heard: &[Heard],
    ) -> Option<u32> {
        let denied = reason == DropReason::PolicyDeny;
        let decision = decision(gateway, entry.side, tuple);
        let told = heard.iter().find_map(|heard| match heard {
            Heard::Event(Stamped { event: Event::Denied { rule, generation, .. }, .. }) => {
                Some((*rule, *generation))
            }
            _ => None,
        });
        let rule = told.or_else(|| decision.map(|d| (d.rule, gateway.policy().generation)));
        let rule = rule.map(|(rule, generation)| self.names.rule(rule, generation).into_owned());
        let flow = Flow {
            application: decision.map_or("unknown", |d| d.application.name()),
            state: if denied { DENIED } else { NO_SESSION },
            verdict: Verdict::Deny,
            rule: rule.filter(|_| denied),
            midway: entry.midway,
            ..Flow::between(tuple)
        };
        let fields = Map::from_iter([
            ("protocol".to_owned(), json!(flow.protocol)),
            ("source".to_owned(), json!(flow.source.to_string())),
            ("destination".to_owned(), json!(flow.destination.to_string())),
            ("rule".to_owned(), json!(flow.rule)),
            ("reason".to_owned(), json!(reason.name())),
        ]);
        let id = self.add(flow);
        if let Some(id) = id {
            self.tuples.insert(tuple.either_way(), id);
        }
        self.events.note(self.now(), "deny", id, fields);
        id
    }

    /// Writes down what control was told. Answers the flow that was opened.
    fn hear(&mut self, heard: &[Heard], entry: Option<&Entry>, fed: Option<Tuple>) -> Option<u32> {
        let mut opened = None;
        for heard in heard {
            match heard {
                Heard::Opened(view) => opened = self.opened(view, entry, fed),
                Heard::Closed(view) => {
                    self.settle(view);
                    let record = Record::closed(view, &self.clock, &self.names);
                    let (flow, parent) = (self.session(view.id), view.parent.and_then(|p| self.session(p)));
                    self.events.record(self.clock.at(self.clock.now()), &record, flow, &[("parent", parent)]);
                }
                Heard::Expired(view) => {
                    self.expectations.expired += 1;
                    let record = Record::expired(view, &self.clock);
                    let parent = self.session(view.parent);
                    self.events.record(
                        self.clock.at(self.clock.now()),
                        &record,
                        parent,
                        &[("parent", parent)],
                    );
                }
                Heard::Event(stamped) => self.event(stamped),
            }
        }
        opened
    }

    fn session(&self, id: Ref) -> Option<u32> {
        self.sessions.get(&id).copied()
    }

    fn opened(&mut self, view: &SessionView, entry: Option<&Entry>, fed: Option<Tuple>) -> Option<u32> {
        let captured = entry.and_then(|entry| entry.tuple).unwrap_or_else(|| Tuple::from(&view.forward));
        let by_initiator = fed.is_none_or(|fed| fed.source == source(&view.forward));
        let midway = view.forward.protocol == Protocol::Tcp && entry.is_some_and(|entry| entry.midway);
        let parent = view.parent.and_then(|parent| self.session(parent));
        let id = self.add(Flow {
            parent,
            expected: view.parent.is_some(),
            protocol: view.forward.protocol.name(),
            source: source(&view.forward),
            destination: destination(&view.forward),
            application: view.application.name(),
            bound_by: bound_by(view),
            state: if midway { MID_STREAM } else { view.state.name() },
            verdict: Verdict::Allow,
            rule: Some(self.names.rule(view.rule, view.policy_generation).into_owned()),
            session: Some(view.id),
            initiator: if by_initiator { captured.source } else { captured.destination },
            midway,
            ..Flow::between(captured)
        });
        if let Some(id) = id {
            self.sessions.insert(view.id, id);
            self.tuples.insert(captured.either_way(), id);
        }
        let record = Record::opened(view, &self.clock, &self.names);
        self.events.record(self.clock.at(view.created), &record, id, &[("parent", parent)]);
        if midway {
            let note = "the capture has not its beginning: no ALG reads it";
            let fields = Map::from_iter([("note".to_owned(), json!(note))]);
            self.events.note(self.now(), MID_STREAM, id, fields);
        }
        id
    }

    /// Takes over the state of a session.
    fn settle(&mut self, view: &SessionView) {
        let flow = self.session(view.id).and_then(|id| self.flow_mut(id));
        if let Some(flow) = flow.filter(|flow| !flow.midway) {
            flow.state = view.last_state.name();
            // It may have said only later what it is.
            (flow.application, flow.bound_by) = (view.application.name(), bound_by(view));
        }
    }

    fn event(&mut self, stamped: &Stamped) {
        let (flow, others) = match &stamped.event {
            Event::AlgMessage { session, .. }
            | Event::AlgDenied { session, .. }
            | Event::AlgBound { session, .. }
            | Event::AlgBlind { session, .. }
            | Event::AlgStreamConflict { session, .. }
            | Event::AlgStreamNoRoom { session, .. } => (self.session(*session), vec![]),
            Event::ExpectationOpened { parent, .. } => {
                self.expectations.opened += 1;
                let parent = self.session(*parent);
                (parent, vec![("parent", parent)])
            }
            Event::ExpectationHit { parent, child, .. } => {
                self.expectations.hit += 1;
                let (parent, child) = (self.session(*parent), self.session(*child));
                (parent, vec![("parent", parent), ("child", child)])
            }
            Event::ExpectationWatched { parent, .. } => {
                let parent = self.session(*parent);
                (parent, vec![("parent", parent)])
            }
            Event::ExpectationRefused { parent, .. } => {
                self.expectations.refused += 1;
                let parent = self.session(*parent);
                (parent, vec![("parent", parent)])
            }
            // Its flow has no session: the record names both ends.
            Event::AlgNoPlace { .. } => (None, vec![]),
            // One for each flow that is refused, not for each packet: see `refused`.
            Event::Denied { .. } | Event::NeighborNeeded { .. } => return,
        };
        if let Some(record) = Record::event(WorkerId(0), stamped, &self.clock, &self.names) {
            self.events.record(self.clock.at(stamped.at), &record, flow, &others);
        }
    }

    /// Adds an event that is about no flow.
    pub fn remark(&mut self, kind: &str, fields: impl IntoIterator<Item = (&'static str, Value)>) {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.events.remark(self.now(), kind, fields);
    }
}

/// What has bound an ALG to a session, if something has.
fn bound_by(view: &SessionView) -> Option<&'static str> {
    Some(view.bound_by.name()).filter(|name| !name.is_empty())
}

impl Flow {
    /// An empty flow between these ends, the initiator first.
    fn between(tuple: Tuple) -> Self {
        Self {
            id: 0,
            parent: None,
            expected: false,
            protocol: Protocol::from_number(tuple.protocol).map_or("ip", Protocol::name),
            source: tuple.source,
            destination: tuple.destination,
            application: "unknown",
            bound_by: None,
            state: NO_SESSION,
            verdict: Verdict::Deny,
            rule: None,
            packets: [0; 2],
            bytes: [0; 2],
            drops: BTreeMap::new(),
            session: None,
            initiator: tuple.source,
            midway: false,
        }
    }
}

/// What the rules say of a flow that begins on a side.
fn decision(gateway: &Gateway, side: Side, tuple: Tuple) -> Option<Decision> {
    let other = if side == Side::Inside { Side::Outside } else { Side::Inside };
    Some(gateway.policy().evaluate(&Query {
        from: gateway.zone(side)?,
        to: gateway.zone(other)?,
        source: tuple.source.addr,
        destination: tuple.destination.addr,
        protocol: Protocol::from_number(tuple.protocol)?,
        sport: tuple.source.port,
        dport: tuple.destination.port,
    }))
}

fn place(id: u32) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}
