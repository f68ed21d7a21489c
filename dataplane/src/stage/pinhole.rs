//! Pinhole: what an ALG asks of the gateway, for streams and datagrams alike: translated endpoints, expectations, records.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::{Event, Ref};
use crate::expect::{self, Met};
use crate::key::{FlowKey, Protocol, ZoneId};
use crate::nat::{BindingId, Bindings, Registry};
use crate::policy::{NatAddress, Policy};
use crate::port::Port;
use crate::rng::Rng;
use crate::session::Session;
use crate::stage::{Context, Hit};
use crate::table::{Direction, Unique};
use crate::view::{ExpectationClass, State};
use crate::worker::{Local, binding_id, binding_ref};
use alg::{
    Endpoint, ExpectationRequest, FlowContext, Gateway, MAX_EXPECTATIONS, Opener, Parity, PublishError, Side,
    Transport,
};
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr};

/// The end whose packets travel in this direction.
pub(crate) const fn side(direction: Direction) -> Side {
    match direction {
        Direction::Forward => Side::Initiator,
        Direction::Reverse => Side::Responder,
    }
}

/// A session's endpoints as an ALG is told of them.
pub(crate) fn endpoints(cx: &Context<'_>, hit: &Hit<'_>) -> FlowContext {
    let forward = hit.session.key(Direction::Forward);
    let reverse = hit.session.key(Direction::Reverse);
    FlowContext {
        id: u64::from(hit.id.index) << 32 | u64::from(hit.id.version),
        transport: match forward.protocol {
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        },
        now_ms: cx.now.0,
        initiator: Endpoint::new(forward.source(), forward.sport),
        initiator_translated: Endpoint::new(reverse.destination(), reverse.dport),
        responder: Endpoint::new(reverse.source(), reverse.sport),
        responder_translated: Endpoint::new(forward.destination(), forward.dport),
    }
}

/// Ports that one call published, and their references.
pub(crate) type Reserved = ArrayVec<(Endpoint, BindingId), 8>;

/// The gateway as one call of an ALG sees it.
pub(crate) struct Publisher<'a> {
    registry: &'a Registry,
    bindings: &'a mut Bindings,
    rng: &'a mut Rng,
    policy: &'a Policy,
    /// Translation of the initiator, if it has one.
    initiator: Option<NatAddress>,
    /// Address by which the initiator calls the responder, if that is another than its own.
    responder: Option<Ipv4Addr>,
    /// The initiator's zone.
    scope: ZoneId,
    pub(crate) reserved: Reserved,
}

impl<'a> Publisher<'a> {
    /// The gateway for one message of this session.
    pub(crate) fn new(cx: &Context<'a>, hit: &Hit<'_>, bindings: &'a mut Bindings, rng: &'a mut Rng) -> Self {
        let binding = hit.session.binding().and_then(|b| bindings.get(binding_id(b)));
        Self {
            registry: &cx.shared.registry,
            policy: cx.policy,
            initiator: binding.map(|b| NatAddress { addr: b.outside_addr, pool: b.outside_pool }),
            responder: called(&endpoints(cx, hit)),
            scope: hit.session.key(Direction::Forward).scope,
            reserved: Reserved::new(),
            bindings,
            rng,
        }
    }

    /// Whether destination NAT leads to these endpoints in any case, at the same ports of the address `called`.
    fn leads(&self, called: Ipv4Addr, protocol: Protocol, endpoint: Endpoint, count: u16) -> bool {
        let IpAddr::V4(own) = endpoint.addr else { return false };
        (0..count).all(|i| {
            let port = endpoint.port.wrapping_add(i);
            self.policy.destination_nat(self.scope, called, protocol, port) == Some((own, port))
        })
    }
}

/// The address by which the initiator calls the responder, if it is translated.
fn called(flow: &FlowContext) -> Option<Ipv4Addr> {
    match flow.responder_translated.addr {
        IpAddr::V4(called) if flow.responder.addr != IpAddr::V4(called) => Some(called),
        _ => None,
    }
}

impl Gateway for Publisher<'_> {
    fn publish(
        &mut self,
        side: Side,
        transport: Transport,
        endpoint: Endpoint,
        count: u16,
        parity: Parity,
    ) -> Result<Endpoint, PublishError> {
        let address = match side {
            Side::Initiator => self.initiator,
            Side::Responder => match self.responder {
                Some(called) if !self.leads(called, protocol(transport), endpoint, count) => {
                    let pool = self.registry.find(called).ok_or(PublishError::PortsExhausted)?;
                    Some(NatAddress { addr: called, pool })
                }
                Some(called) => return Ok(Endpoint::new(IpAddr::V4(called), endpoint.port)),
                None => None,
            },
        };
        let Some(address) = address else { return Ok(endpoint) };
        if self.reserved.remaining_capacity() < usize::from(count) {
            return Err(PublishError::TableFull);
        }
        let ports = self.registry.get(address.pool).ok_or(PublishError::PortsExhausted)?;
        let random = self.rng.draw();
        let published = self
            .bindings
            .publish(
                protocol(transport),
                (endpoint.addr, endpoint.port),
                address,
                ports,
                (count, parity),
                random,
            )
            .map_err(|e| match DropReason::from(e) {
                DropReason::NatPortsExhausted => PublishError::PortsExhausted,
                _ => PublishError::TableFull,
            })?;
        for (i, id) in (0u16..).zip(&published.ids) {
            let outside = Endpoint::new(IpAddr::V4(published.addr), published.port.wrapping_add(i));
            // There is room: it was checked above.
            let _ = self.reserved.try_push((outside, *id));
        }
        Ok(Endpoint::new(IpAddr::V4(published.addr), published.port))
    }

    fn to_inside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }

    fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }
}

const fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    }
}

/// Gives back what no expectation has taken. Nothing has left with it.
pub(crate) fn release(registry: &Registry, bindings: &mut Bindings, reserved: &mut Reserved) {
    for (_, id) in reserved.drain(..) {
        bindings.cancel(id, registry);
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Opens the pinholes that one message asks for: all or none. What was published and is not theirs is given back.
    pub(crate) fn expect_all(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        requests: &[ExpectationRequest],
        mut reserved: Reserved,
    ) -> Result<(), Unique> {
        let mut fresh = ArrayVec::<Ref, MAX_EXPECTATIONS>::new();
        let opened = requests.iter().try_for_each(|request| {
            fresh.extend(self.expect(cx, hit, request, &mut reserved)?);
            Ok(())
        });
        release(&cx.shared.registry, &mut self.bindings, &mut reserved);
        if opened.is_err() {
            // What was opened for a message that does not go on must not stay.
            for id in fresh {
                cx.shared.expectations.expire(id);
            }
        }
        opened
    }

    /// Opens one pinhole, if it is not open already. Takes the reference of its published port out of `reserved`.
    fn expect(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        request: &ExpectationRequest,
        reserved: &mut Reserved,
    ) -> Result<Option<Ref>, Unique> {
        let flow = endpoints(cx, hit);
        let scopes = [Direction::Forward, Direction::Reverse].map(|d| hit.session.key(d).scope);
        let (opener_scope, listener_scope) = match request.opener.side() {
            Side::Initiator => (scopes[0], scopes[1]),
            Side::Responder => (scopes[1], scopes[0]),
        };
        let opener = flow.own(request.opener.side()).addr;
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (opener, request.published.addr) else {
            return Err(Unique::Full);
        };
        let key = FlowKey::v4(
            protocol(request.transport),
            opener_scope,
            (source, 0),
            (destination, request.published.port),
        );
        let expires = cx.now.plus(cx.policy.timeouts.expectation);
        if let Some(Met { id, record, .. }) = cx.shared.expectations.find(&key) {
            let armed = record.init();
            if armed.parent == hit.id && armed.listener == request.listener {
                // The same request again (a client that repeats its command) keeps the pinhole that it has.
                cx.shared.expectations.extend(id, expires);
                return Ok(None);
            }
            let parent = cx.shared.arena.resolve_open(armed.parent).map(Session::state);
            if armed.parent == hit.id || matches!(parent, None | Some(State::TcpTimeWait | State::TcpReset)) {
                // A leftover: its parent is over, or wants the port for something else now. The newest counts.
                cx.shared.expectations.expire(id);
            }
        }
        let opener_nat = match request.opener.side() {
            Side::Initiator => {
                let binding = hit.session.binding().and_then(|b| self.bindings.get(binding_id(b)));
                binding.map(|b| NatAddress { addr: b.outside_addr, pool: b.outside_pool })
            }
            Side::Responder => match called(&flow) {
                None => None,
                Some(addr) => {
                    let pool = cx.shared.registry.find(addr).ok_or(Unique::Full)?;
                    Some(NatAddress { addr, pool })
                }
            },
        };
        let position = reserved.iter().position(|(outside, _)| *outside == request.published);
        let binding = position.and_then(|at| reserved.pop_at(at)).map(|(_, id)| id);
        let init = expect::Init {
            owner: self.id,
            by_home: binding.is_none(),
            class: ExpectationClass::AnyPort,
            key,
            last_port: 0,
            listener: request.listener,
            listener_scope,
            reverse: None,
            many: false,
            armed: true,
            tag: 0,
            opener_nat,
            keeps_port: request.opener == Opener::Peer(Side::Responder),
            parent: hit.id,
            rule: hit.session.rule(),
            policy_generation: hit.session.policy_generation(),
            log: hit.session.log(),
            application: request.application,
            binding: binding.map(binding_ref),
            expires,
        };
        let opened = match self.expectation_slots.pop() {
            None => Err(Unique::Full),
            Some(index) => cx.shared.expectations.open(index, &init).inspect_err(|_| {
                self.expectation_slots.push(index);
            }),
        };
        match opened {
            Ok(id) => {
                self.count(cx, Counter::ExpectationsOpened, 1);
                self.tell(
                    cx,
                    Event::ExpectationOpened {
                        expectation: id,
                        parent: hit.id,
                        application: request.application,
                        opener,
                        published: request.published,
                        listener: request.listener,
                    },
                );
                Ok(Some(id))
            }
            Err(unique) => {
                if let Some(id) = binding {
                    self.bindings.cancel(id, &cx.shared.registry);
                }
                self.count(cx, Counter::ExpectationsRefused, 1);
                let reason = match unique {
                    Unique::Taken => DropReason::TupleConflict,
                    Unique::Full => DropReason::SessionTableFull,
                };
                self.tell(cx, Event::ExpectationRefused { parent: hit.id, reason });
                Err(unique)
            }
        }
    }

    /// Tells control what the ALG read and changed.
    pub(crate) fn report(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
        let facts = core::mem::take(&mut self.scratch.answer.facts);
        if facts.is_empty() {
            return;
        }
        self.count(cx, Counter::AlgMessages, facts.len() as u64);
        self.count(cx, Counter::AlgEdits, self.scratch.answer.edits.len() as u64);
        let application = hit.session.application();
        for fact in facts {
            self.tell(cx, Event::AlgMessage { session: hit.id, application, fact });
        }
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
