//! Pinhole: what an ALG asks for besides edits, for streams and datagrams alike: expectations, orders, records.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::{Event, Ref};
use crate::expect::{
    Expectation, ExpectationLimits, Group, Init, LedgerEntry, RANGE_LIFETIME_MS, RANGE_TAG, Reached, Reverse,
    Wanted,
};
use crate::key::{FlowKey, ZoneId};
use crate::nat::{BindingId, BindingKey};
use crate::policy::{AlgMode, Mapping};
use crate::port::Port;
use crate::session::Session;
use crate::stage::publish::{
    Reserved, Seen, alone, endpoints, group, leads_to, protocol, release, side, stands_for,
};
use crate::stage::{Context, Hit, route};
use crate::table::{Direction, Unique};
use crate::view::{ExpectationClass, ExpectationState, State};
use crate::worker::{Local, binding_id, binding_ref};
use alg::profile::WhenEncrypted;
use alg::{
    Application, Blindness, Denial, Endpoint, ExpectationRequest, Fact, MAX_EXPECTATIONS, MAX_FACTS, Opener,
    Order, Side, Transport, Uses,
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
    reason: DropReason,
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
    /// Opens the pinholes that the last message asks for, all or none, and then obeys its orders. What was published and
    /// is no pinhole's is given back.
    ///
    /// # Errors
    /// Something is full, or a limit is reached: the message must not go on.
    pub(crate) fn open_pinholes(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        mut reserved: Reserved,
    ) -> Result<(), DropReason> {
        let mut opened = self.has_room(cx, hit).map_err(|refusal| {
            self.refuse_pinhole(cx, hit, refusal);
            refusal.reason
        });
        if opened.is_ok() && !self.scratch.answer.expectations.is_empty() {
            let mut fresh = ArrayVec::<Ref, MAX_EXPECTATIONS>::new();
            for number in 0..self.scratch.answer.expectations.len() {
                let Some(request) = self.scratch.answer.expectations.get(number).copied() else { break };
                match self.expect(cx, hit, &request, &mut reserved) {
                    Ok(id) => fresh.extend(id),
                    Err(refusal) => {
                        self.refuse_pinhole(cx, hit, refusal);
                        opened = Err(refusal.reason);
                        break;
                    }
                }
            }
            if opened.is_err() {
                // What was opened for a message that does not go on must not stay.
                for id in fresh {
                    cx.shared.expectations.expire(id);
                }
            }
        }
        release(&cx.shared.registry, &mut self.bindings, &mut reserved);
        if opened.is_ok() {
            self.join_groups(cx, hit);
            self.obey_orders(cx, hit);
        }
        opened
    }

    /// Whether the limits allow all that the last message asks for, and there are records. Asked before anything of it is done:
    /// opening one ends what it replaces.
    fn has_room(&self, cx: &Context<'_>, hit: &Hit<'_>) -> Result<(), Refusal> {
        let requests = &self.scratch.answer.expectations;
        let parent = group(cx, hit);
        let (gateway, profile) = (&cx.policy.expectations, limits(cx, hit));
        let count = requests.len().try_into().unwrap_or(u32::MAX);
        // Mostly there is room for as many, whatever they replace.
        let mut host = None;
        let roomy = requests.len() <= self.ledger.room();
        let roomy = roomy
            && requests.iter().all(|request| {
                let other = host.replace(request.listener.addr) != Some(request.listener.addr);
                let allows = || {
                    let entry = entry(hit, parent, request, 0);
                    self.ledger.would_allow(gateway, &profile, cx.now, &entry, count)
                };
                !other || allows().is_ok()
            });
        if roomy {
            return Ok(());
        }
        let mut wanted = ArrayVec::<Wanted, MAX_EXPECTATIONS>::new();
        for request in requests {
            if wanted.iter().any(|wanted| wanted.entry.tag == request.tag) {
                continue;
            }
            let init = self.plan(cx, hit, request)?;
            let old = self.ledger.find(parent, request.tag).map(|(id, _)| id);
            if old.is_some_and(|id| keeps(cx, id, &init, request.group.map_or(0, |group| group.peer))) {
                continue;
            }
            let ends = |id: &Ref| cx.shared.expectations.resolve(*id).is_some_and(Expectation::may_end);
            let replaces = old.filter(ends).map(|id| id.index);
            // There are as many places.
            wanted.try_push(Wanted { entry: entry(hit, parent, request, 0), replaces }).ok();
        }
        self.ledger.would_allow_all(gateway, &profile, cx.now, &wanted)?;
        if wanted.len() > self.ledger.room() {
            return Err(DropReason::from(Unique::Full).into());
        }
        Ok(())
    }

    /// Now that all pinholes of the message have records, those of a group know each other.
    fn join_groups(&self, cx: &Context<'_>, hit: &Hit<'_>) {
        let parent = group(cx, hit);
        for request in &self.scratch.answer.expectations {
            let Some(group) = request.group else { continue };
            let find = |tag| self.ledger.find(parent, tag).map(|(id, _)| id);
            let Some(id) = find(request.tag) else { continue };
            if let Some(record) = cx.shared.expectations.resolve(id) {
                let next = find(group.next).unwrap_or(id);
                let ends = cx.now.plus(group.ends_ms);
                record.join(&Group { next, idle_ms: group.idle_ms, ends, peer: group.peer });
            }
        }
    }

    /// Opens one pinhole, if it is not open already. Takes the reference of its published port out of `reserved`.
    fn expect(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        request: &ExpectationRequest,
        reserved: &mut Reserved,
    ) -> Result<Option<Ref>, Refusal> {
        let init = self.plan(cx, hit, request)?;
        if let Some((old, _)) = self.ledger.find(init.parent, request.tag) {
            if self.renew(cx, old, &init, request.group.map_or(0, |group| group.peer)) {
                return Ok(None);
            }
            let expectations = &cx.shared.expectations;
            // Another of this message may have ended it already, for its port.
            expectations.expire(old);
            if expectations.resolve(old).is_some_and(Expectation::is_over) {
                self.ledger.replaced(old.index);
            }
        }
        for direction in [Direction::Forward, Direction::Reverse] {
            make_way(cx, &init, direction);
        }
        self.open_planned(cx, hit, request, init, Some(reserved)).map(Some)
    }

    /// Opens what was planned for a request, if the limits allow it, with the published port that is its own.
    fn open_planned(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        request: &ExpectationRequest,
        init: Init,
        reserved: Option<&mut Reserved>,
    ) -> Result<Ref, Refusal> {
        let entry = entry(hit, init.parent, request, init.expires.since(cx.now));
        self.ledger.allows(&cx.policy.expectations, &limits(cx, hit), cx.now, &entry)?;
        let binding = reserved.and_then(|reserved| {
            let position = reserved.iter().position(|(outside, _)| *outside == request.published);
            let own = position.and_then(|at| reserved.pop_at(at)).map(|(_, id)| id);
            own.or_else(|| self.held(cx, hit, request))
        });
        let init = Init { by_home: binding.is_none(), binding: binding.map(binding_ref), ..init };
        let id = self.enter(cx, &init, entry, binding)?;
        self.count(cx, Counter::ExpectationsOpened, 1);
        let event = Event::ExpectationOpened {
            expectation: id,
            parent: init.parent,
            application: request.application,
            class: init.class,
            opener: Endpoint::new(init.key.source(), init.key.sport),
            published: match init.class {
                ExpectationClass::PortRange => Endpoint::new(request.published.addr, request.listener.port),
                _ => request.published,
            },
            listener: request.listener,
            last_port: init.last_port,
            from: side(hit.direction),
            offset: request.offset,
        };
        self.tell(cx, event);
        Ok(id)
    }

    /// One more reference of a port that an earlier message has published for the same listener: the other side has moved
    /// its media, or answers late.
    fn held(&mut self, cx: &Context<'_>, hit: &Hit<'_>, request: &ExpectationRequest) -> Option<BindingId> {
        let side = request.opener.side().other();
        let own = alone(cx, hit, &self.bindings, side)
            .filter(|id| stands_for(&self.bindings, *id, request.transport, request.listener).is_some());
        let id = own.or_else(|| {
            let binding = hit.session.binding().and_then(|b| self.bindings.get(binding_id(b)));
            let seen = Seen::of(side, &endpoints(cx, hit), binding);
            let (protocol, pool) = (protocol(request.transport), seen.address(&cx.shared.registry)?.pool);
            let Endpoint { addr, port } = request.listener;
            self.bindings.find(&BindingKey { protocol, addr, port, pool })
        })?;
        let held = self.bindings.get(id)?;
        let published = Endpoint::new(IpAddr::V4(held.outside_addr), held.outside_port);
        (published == request.published && self.bindings.retain(id)).then_some(id)
    }

    fn enter(
        &mut self,
        cx: &Context<'_>,
        init: &Init,
        entry: LedgerEntry,
        binding: Option<BindingId>,
    ) -> Result<Ref, DropReason> {
        let opened = match self.ledger.take() {
            None => Err(Unique::Full),
            Some(index) => {
                let opened = cx.shared.expectations.open(index, init);
                match opened {
                    Ok(id) => self.ledger.opened(id, entry),
                    Err(_) => self.ledger.put_back(index),
                }
                opened
            }
        };
        opened.map_err(|unique| {
            if let Some(id) = binding {
                self.bindings.cancel(id, &cx.shared.registry);
            }
            unique.into()
        })
    }

    /// What is to be opened for a request, but for its port.
    fn plan(
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

    /// The same request again keeps the pinhole that it has, if that is [the same](keeps).
    fn renew(&self, cx: &Context<'_>, id: Ref, wanted: &Init, peer: u16) -> bool {
        if !keeps(cx, id, wanted, peer) {
            return false;
        }
        let expectations = &cx.shared.expectations;
        if let Some(record) = expectations.resolve(id)
            && record.state() != ExpectationState::Claimed
        {
            // A request does not shorten what an answer has granted.
            let inactive = record.state() == ExpectationState::Inactive;
            if inactive || wanted.expires.since(record.init().expires) > 0 {
                expectations.extend(id, wanted.expires);
            }
            if wanted.armed {
                expectations.activate(id);
            }
        }
        true
    }

    /// Does with older pinholes, and with the session, what the last message says.
    fn obey_orders(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
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
            self.open_planned(cx, hit, &request, init, None)
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

/// Whether a pinhole is what is wanted once more: a client repeats its command, a re-INVITE moves nothing. False if it is for
/// something else, or used up.
fn keeps(cx: &Context<'_>, id: Ref, wanted: &Init, peer: u16) -> bool {
    let Some(record) = cx.shared.expectations.resolve(id) else { return false };
    let has = record.init();
    let same = (has.key, has.listener, has.reverse, has.many)
        == (wanted.key, wanted.listener, wanted.reverse, wanted.many);
    match record.state() {
        ExpectationState::Armed | ExpectationState::Inactive => same,
        ExpectationState::Claimed => {
            let before = record.group().map_or(0, |group| group.peer);
            let moved = before != 0 && peer != 0 && before != peer;
            same && !moved && !record.is_over()
        }
        _ => false,
    }
}

/// What a request is counted by.
fn entry(hit: &Hit<'_>, parent: Ref, request: &ExpectationRequest, lifetime_ms: u32) -> LedgerEntry {
    LedgerEntry {
        parent,
        tag: request.tag,
        host: request.listener.addr,
        alg: hit.session.application(),
        profile: hit.session.profile(),
        lifetime_ms,
    }
}

/// The limits of a session's profile.
fn limits(cx: &Context<'_>, hit: &Hit<'_>) -> ExpectationLimits {
    cx.policy.profile_of(hit.session).map_or(ExpectationLimits::NONE, |p| p.limits)
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

/// Ends a leftover that has the key of one that is to be opened: its parent is over, or wants the port for something else
/// now. The newest counts.
fn make_way(cx: &Context<'_>, init: &Init, direction: Direction) {
    let Some(id) = cx.shared.expectations.holder(init, direction) else { return };
    let Some(held) = cx.shared.expectations.resolve(id).map(crate::expect::Expectation::init) else { return };
    if held.parent == init.parent || parent_is_over(cx, held.parent) {
        cx.shared.expectations.expire(id);
    }
}
