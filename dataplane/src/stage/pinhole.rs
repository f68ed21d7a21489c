//! Pinhole: what an ALG asks for besides edits, for streams and datagrams alike: what a pinhole is to be, orders, records. They are
//! opened by [`super::announce`].

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::{Event, Ref};
use crate::expect::{Init, RANGE_LIFETIME_MS, RANGE_TAG, Reached, Reverse};
use crate::key::{FlowKey, ZoneId};
use crate::policy::{AlgMode, Mapping};
use crate::port::Port;
use crate::session::Session;
use crate::stage::publish::{Seen, endpoints, group, leads_to, protocol};
use crate::stage::{Context, Hit, route};
use crate::table::{Direction, Unique};
use crate::view::{ExpectationClass, State};
use crate::worker::{Local, binding_id};
use alg::profile::WhenEncrypted;
use alg::{
    Application, Blindness, Denial, Endpoint, ExpectationRequest, Fact, MAX_FACTS, Opener, Order, Side,
    Transport, Uses,
};
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr};

/// How a class of openers stands in the key of an expectation.
pub(crate) fn source(opener: Opener, own: IpAddr) -> (ExpectationClass, IpAddr, u16) {
    match opener {
        Opener::Peer(_) => (ExpectationClass::AnyPort, own, 0),
        Opener::Host(_, host) => (ExpectationClass::AnyPort, host, 0),
        Opener::AnyHost(_) => (ExpectationClass::AnyHost, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        Opener::Exact(_, endpoint) => (ExpectationClass::Exact, endpoint.addr, endpoint.port),
    }
}

/// Why a pinhole was not opened.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    pub(super) reason: DropReason,
    /// It is a limit of the session's profile.
    by_profile: bool,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, by_profile: false }
    }
}

impl From<Reached> for Refusal {
    fn from(reached: Reached) -> Self {
        Self { reason: reached.limit.into(), by_profile: reached.by_profile }
    }
}

impl From<Unique> for DropReason {
    fn from(unique: Unique) -> Self {
        match unique {
            Unique::Taken => Self::TupleConflict,
            Unique::Full => Self::SessionTableFull,
        }
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// What is to be opened for a request, but for its port.
    pub(super) fn plan(
        &self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        request: &ExpectationRequest,
    ) -> Result<Init, DropReason> {
        let flow = endpoints(cx, hit);
        let scopes = [Direction::Forward, Direction::Reverse].map(|d| hit.session.key(d).scope);
        let side = request.opener.side();
        let (opener_scope, listener_scope) = match side {
            Side::Initiator => (scopes[0], scopes[1]),
            Side::Responder => (scopes[1], scopes[0]),
        };
        let (class, opener, port) = source(request.opener, flow.own(side).addr);
        let (IpAddr::V4(from), IpAddr::V4(to)) = (opener, request.published.addr) else {
            return Err(DropReason::EthTypeUnsupported);
        };
        let protocol = protocol(request.transport);
        let binding = hit.session.binding().and_then(|b| self.bindings.get(binding_id(b)));
        let seen_at = Seen::of(side, &flow, binding);
        let opener_nat = seen_at.address(&cx.shared.registry);
        let opener_mapping = if let Seen::Bound(_, mapping) = seen_at { mapping } else { Mapping::default() };
        let reverse = request.reverse.and_then(|seen| {
            let real = leads_to(cx, listener_scope, protocol, seen);
            // An endpoint of a translated opener that nobody has published leads nowhere.
            let real = if opener_nat.is_some() { real? } else { real.unwrap_or(seen) };
            (zone_of(cx, real) == Some(opener_scope)).then_some(Reverse { seen, real })
        });
        let lifetime = match request.lifetime_ms {
            0 => cx.policy.timeouts.expectation,
            ms => ms,
        };
        Ok(Init {
            owner: self.id,
            by_home: true,
            class,
            key: FlowKey::v4(protocol, opener_scope, (from, port), (to, request.published.port)),
            last_port: 0,
            listener: request.listener,
            listener_scope,
            reverse,
            opener_nat,
            opener_mapping,
            keeps_port: matches!((seen_at, request.opener), (Seen::Led(_), Opener::Peer(_))),
            many: request.uses == Uses::Many,
            armed: request.armed,
            tag: request.tag,
            parent: group(cx, hit),
            rule: hit.session.rule(),
            policy_generation: hit.session.policy_generation(),
            log: hit.session.log(),
            application: request.application,
            binding: None,
            expires: cx.now.plus(lifetime),
        })
    }

    /// Does with older pinholes, and with the session, what the last message says.
    pub(super) fn obey_orders(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
        let expectations = &cx.shared.expectations;
        let answer = &self.scratch.answer;
        if answer.orders.is_empty() {
            return;
        }
        let parent = group(cx, hit);
        for order in &answer.orders {
            match *order {
                Order::Activate { tag } => {
                    if let Some((id, lifetime)) = self.ledger.find(parent, tag)
                        && expectations.activate(id)
                    {
                        expectations.extend(id, cx.now.plus(lifetime));
                    }
                }
                Order::Close { tag, children } => {
                    // Also those that a newer request has replaced while their child lives: a call's media have moved.
                    // What this message itself has asked for is not meant.
                    let asked = answer.expectations.iter().any(|request| request.tag == tag);
                    let newest = self.ledger.find(parent, tag).filter(|_| asked).map(|(id, _)| id);
                    for id in self.ledger.find_all(parent, tag).filter(|id| Some(*id) != newest) {
                        expectations.expire(id);
                        if children && let Some(record) = expectations.resolve(id) {
                            record.close_children();
                        }
                    }
                }
                Order::Lifetime { tag, ms } => {
                    if let Some((id, _)) = self.ledger.find(parent, tag) {
                        expectations.extend(id, cx.now.plus(ms));
                    }
                }
                Order::KeepSession { ms } => {
                    // What a pinhole has opened may end: the pinhole stays.
                    if let Some(first) = cx.shared.arena.resolve_open(parent) {
                        first.keep_until(cx.now.plus(ms));
                    }
                }
            }
        }
    }

    /// Tells control what the ALG read and changed.
    pub(crate) fn report(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
        let refused = self.scratch.tables.take_refused_calls();
        if refused > 0 {
            self.count(cx, Counter::AlgCallsFull, refused);
        }
        let forgotten = self.scratch.tables.take_forgotten_rates();
        if forgotten > 0 {
            self.count(cx, Counter::AlgRatesForgotten, forgotten);
        }
        let facts = core::mem::take(&mut self.scratch.answer.facts);
        if facts.is_empty() {
            return;
        }
        self.count(cx, Counter::AlgEdits, self.scratch.answer.edits.len() as u64);
        self.tell_facts(cx, hit, facts, false);
    }

    /// Tells control of these messages; if they were watched, they went on as they came.
    pub(crate) fn tell_facts(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        facts: ArrayVec<Fact, MAX_FACTS>,
        watched: bool,
    ) {
        self.count(cx, Counter::AlgMessages, facts.len() as u64);
        self.count(cx, Counter::AlgRules, facts.iter().filter(|fact| fact.rule.is_some()).count() as u64);
        let application = hit.session.application();
        for fact in facts {
            let denied = fact.denial.map(|denial| (denial, fact.rule));
            self.tell(cx, Event::AlgMessage { session: hit.id, application, fact, watched });
            if let Some((denial, rule)) = denied {
                if !watched {
                    self.count(cx, Counter::AlgDenied, 1);
                }
                self.tell(cx, Event::AlgDenied { session: hit.id, application, denial, rule, watched });
            }
        }
    }

    /// Tells control what the ALG read before it refused the last message, and that it did.
    pub(crate) fn report_denied(&mut self, cx: &Context<'_>, hit: &Hit<'_>, denial: Denial) {
        let last = self.scratch.answer.facts.last();
        let rule = last.and_then(|fact| fact.rule).filter(|_| denial == Denial::Policy);
        self.report(cx, hit);
        let application = hit.session.application();
        self.tell(cx, Event::AlgDenied { session: hit.id, application, denial, rule, watched: false });
    }

    /// The ALG reads the session no more: the session says why, and control hears of it once. `offset` is where the message that
    /// says so starts in its stream, if one does.
    pub(crate) fn go_blind(&mut self, cx: &Context<'_>, hit: &Hit<'_>, why: Blindness, offset: u64) {
        if hit.session.blindness().is_some() {
            return;
        }
        hit.session.set_blindness(why);
        self.count(cx, Counter::AlgBlind, 1);
        let application = hit.session.application();
        self.tell(cx, Event::AlgBlind { session: hit.id, application, why });
        // Who only watches opens nothing.
        let profile = cx.policy.profile_of(hit.session).filter(|p| p.mode != AlgMode::Monitor);
        if let (Blindness::Encrypted, Some(WhenEncrypted::Passive(first, last))) =
            (why, profile.map(|profile| profile.settings.encrypted))
        {
            self.open_range(cx, hit, (first, last), offset);
        }
    }

    /// Lets the initiator of a session that nobody can read open connections to these ports of the responder, as long as the
    /// session lives.
    fn open_range(&mut self, cx: &Context<'_>, hit: &Hit<'_>, (first, last): (u16, u16), offset: u64) {
        let flow = endpoints(cx, hit);
        let request = ExpectationRequest {
            tag: RANGE_TAG,
            opener: Opener::Peer(Side::Initiator),
            transport: Transport::Tcp,
            listener: Endpoint::new(flow.responder.addr, first),
            // As the initiator calls the responder. The port stays, so that the reply's own, which nobody can change, is right.
            published: Endpoint::new(flow.responder_translated.addr, 0),
            reverse: None,
            uses: Uses::Many,
            armed: true,
            lifetime_ms: RANGE_LIFETIME_MS,
            application: Application::FtpData,
            group: None,
            offset,
        };
        let opened = self.plan(cx, hit, &request).map_err(Refusal::from).and_then(|init| {
            let init = Init { class: ExpectationClass::PortRange, last_port: last, ..init };
            self.open_alone(cx, hit, &request, &init)
        });
        if let Err(refusal) = opened {
            self.refuse_pinhole(cx, hit, refusal);
        }
    }

    /// Counts and tells that a pinhole was not opened.
    pub(crate) fn refuse_pinhole(&mut self, cx: &Context<'_>, hit: &Hit<'_>, refusal: impl Into<Refusal>) {
        let Refusal { reason, by_profile } = refusal.into();
        self.count(cx, Counter::ExpectationsRefused, 1);
        let limit = match reason {
            DropReason::ExpectationLimitFlow => Some(Counter::ExpectationsOverFlow),
            DropReason::ExpectationLimitHost => Some(Counter::ExpectationsOverHost),
            DropReason::ExpectationLimitAlg => Some(Counter::ExpectationsOverAlg),
            DropReason::ExpectationLimitSecond => Some(Counter::ExpectationsOverSecond),
            _ => None,
        };
        if let Some(limit) = limit {
            self.count(cx, limit, 1);
        }
        self.tell(cx, Event::ExpectationRefused { parent: hit.id, reason, by_profile });
    }

    /// Gives a reference of a binding back.
    pub(crate) fn release_binding(&mut self, cx: &Context<'_>, binding: Ref) {
        self.bindings.release(binding_id(binding), cx.now, &mut self.hold_down);
    }

    /// Gives a reference back with which nothing has left.
    pub(crate) fn cancel_binding(&mut self, cx: &Context<'_>, binding: Ref) {
        self.bindings.cancel(binding_id(binding), &cx.shared.registry);
    }

    /// Takes one more reference of a binding.
    pub(crate) fn retain_binding(&mut self, binding: Ref) -> bool {
        self.bindings.retain(binding_id(binding))
    }
}

/// The zone of the interface that an address is reached through.
fn zone_of(cx: &Context<'_>, endpoint: Endpoint) -> Option<ZoneId> {
    let IpAddr::V4(addr) = endpoint.addr else { return None };
    let hop = route::next_hop(cx, addr.to_bits()).ok()?;
    Some(cx.fib.interface(hop.interface)?.zone)
}

/// Whether the session that opened a pinhole is closed, or its connection is over.
pub(crate) fn parent_is_over(cx: &Context<'_>, parent: Ref) -> bool {
    let state = cx.shared.arena.resolve_open(parent).map(Session::state);
    matches!(state, None | Some(State::TcpTimeWait | State::TcpReset))
}
