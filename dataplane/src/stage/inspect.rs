//! Inspect: the ALG of a session reads its streams.
//!
//! The one place where what an ALG answers is applied: edits, lengths, checksums, sequence shifts, expectations, facts,
//! refusals. Sessions without an ALG pay one bit test.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::{Event, Ref};
use crate::expect;
use crate::key::{FlowKey, Protocol, WorkerId, ZoneId};
use crate::nat::{BindingId, Bindings, Registry};
use crate::packet::{checksum, flag, reset, rewrite as fields};
use crate::policy::{NatAddress, Policy};
use crate::port::Port;
use crate::rng::Rng;
use crate::session::Session;
use crate::stage::{Context, Fate, Hit, Item, NextHop, rewrite, route};
use crate::stream::engine::Payload;
use crate::stream::{Engine, Outcome, Segment};
use crate::table::{Direction, Unique};
use crate::view::{CloseReason, State};
use crate::worker::{Local, binding_id, binding_ref};
use alg::{
    Answer, Denial, Endpoint, ExpectationRequest, FlowContext, Gateway, MAX_EXPECTATIONS, Parity,
    PublishError, Side, Transport,
};
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr};

const fn side(direction: Direction) -> Side {
    match direction {
        Direction::Forward => Side::Initiator,
        Direction::Reverse => Side::Responder,
    }
}

fn endpoints(hit: &Hit<'_>) -> FlowContext {
    let forward = hit.session.key(Direction::Forward);
    let reverse = hit.session.key(Direction::Reverse);
    FlowContext {
        initiator: Endpoint::new(forward.source(), forward.sport),
        initiator_translated: Endpoint::new(reverse.destination(), reverse.dport),
        responder: Endpoint::new(reverse.source(), reverse.sport),
        responder_translated: Endpoint::new(forward.destination(), forward.dport),
    }
}

/// The slab of ALG states of one worker.
pub(crate) struct Algs {
    engines: Box<[Option<Engine>]>,
    free: Vec<u32>,
}

impl Algs {
    /// Room for `capacity` inspected sessions. Nothing grows later.
    pub(crate) fn new(capacity: u32) -> Self {
        Self { engines: (0..capacity).map(|_| None).collect(), free: (0..capacity).rev().collect() }
    }

    pub(crate) fn alloc(&mut self, engine: Engine) -> Option<u32> {
        let slot = self.free.pop()?;
        *self.engines.get_mut(slot as usize)? = Some(engine);
        Some(slot)
    }

    pub(crate) fn free(&mut self, slot: u32) {
        if let Some(engine @ Some(_)) = self.engines.get_mut(slot as usize) {
            *engine = None;
            self.free.push(slot);
        }
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Engine> {
        self.engines.get_mut(slot as usize)?.as_mut()
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.engines.len() - self.free.len()
    }
}

/// Whether a connection in this state may still say where its streams begin.
const fn opening(state: State) -> bool {
    matches!(state, State::TcpSynSent | State::TcpSimultaneous | State::TcpSynReceived)
}

/// What an inspection needs and the path does not: kept with the worker, so that nothing big lies on the stack.
#[derive(Default)]
pub(crate) struct Scratch {
    answer: Answer,
    payload: Payload,
}

/// The edited message fits neither the buffer nor the MTU.
const NO_ROOM: (Denial, DropReason) = (Denial::NoResources, DropReason::AlgNoRoom);

/// Ports that one call published, and their references.
type Reserved = ArrayVec<(Endpoint, BindingId), 8>;

/// The gateway as one call of an ALG sees it.
struct Publisher<'a> {
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
    reserved: Reserved,
}

impl Publisher<'_> {
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
fn called(hit: &Hit<'_>) -> Option<Ipv4Addr> {
    let flow = endpoints(hit);
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
}

const fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    }
}

/// Gives back what no expectation has taken. Nothing has left with it.
fn release(registry: &Registry, bindings: &mut Bindings, reserved: &mut Reserved) {
    for (_, id) in reserved.drain(..) {
        bindings.cancel(id, registry);
    }
}

/// Checks a packet of an inspected session before anything believes it: a checksum that is made anew would launder
/// corruption.
pub(crate) fn verify<B: PacketBuf>(item: &Item<B>) -> Result<(), DropReason> {
    if item.parsed.l4_checksum_is_valid(item.buf.bytes()) { Ok(()) } else { Err(DropReason::TcpChecksum) }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// The acknowledgement number of an inspected session's packet in its addressee's own space. Before tracking.
    pub(crate) fn translate_ack_of(&mut self, hit: &Hit<'_>, item: &mut Item<P::Buf>) -> u32 {
        let (parsed, from) = (item.parsed, side(hit.direction));
        let engine = hit.session.alg_slot().and_then(|slot| self.algs.get_mut(slot));
        let Some(engine) = engine else { return parsed.ack };
        if !parsed.has(flag::ACK) {
            return parsed.ack;
        }
        engine.acknowledge(from, parsed.ack)
    }

    /// Feeds a packet to the session's ALG and applies what it answers. `ack` is what [`Self::translate_ack_of`] said.
    pub(crate) fn inspect(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
        ack: u32,
    ) -> Result<Option<Fate>, DropReason> {
        let from = side(hit.direction);
        let slot = hit.session.alg_slot().ok_or(DropReason::AlgTableFull)?;
        let engine = self.algs.get_mut(slot).ok_or(DropReason::AlgTableFull)?;
        let parsed = item.parsed;
        // Only what tracking let through begins a stream, and only while the connection opens: a forged SYN moves none.
        if parsed.has(flag::SYN) && opening(hit.session.state()) {
            engine.syn(from, parsed.seq);
        }
        let binding = hit.session.binding().and_then(|b| self.bindings.get(binding_id(b)));
        let mut publisher = Publisher {
            registry: &cx.shared.registry,
            policy: cx.policy,
            responder: called(hit),
            scope: hit.session.key(Direction::Forward).scope,
            initiator: binding.map(|b| NatAddress { addr: b.outside_addr, pool: b.outside_pool }),
            bindings: &mut self.bindings,
            rng: &mut self.rng,
            reserved: Reserved::new(),
        };
        let segment = Segment {
            from,
            seq: parsed.seq,
            syn: parsed.has(flag::SYN),
            fin: parsed.has(flag::FIN),
            payload: item.buf.bytes().get(parsed.payload_range()).unwrap_or(&[]),
        };
        let Scratch { answer, payload } = &mut *self.scratch;
        let outcome = engine.read(&endpoints(hit), &segment, &mut publisher, answer, payload);
        let mut reserved = publisher.reserved;
        let seq = match outcome {
            Outcome::Pass { seq } => seq,
            Outcome::Replace { seq } => {
                let mtu = cx.fib.interface(hop.interface).map_or(0, |i| i.mtu);
                if !replace(&mut item.buf, &mut item.parsed, payload, mtu) {
                    release(&cx.shared.registry, &mut self.bindings, &mut reserved);
                    return self.refuse(cx, hit, hop, item, ack, NO_ROOM).map(Some);
                }
                seq
            }
            other => {
                release(&cx.shared.registry, &mut self.bindings, &mut reserved);
                return match other {
                    Outcome::OutOfOrder => Err(DropReason::AlgOutOfOrder),
                    Outcome::EditsFull => Err(DropReason::AlgEditsFull),
                    Outcome::Deny(denial) => {
                        self.refuse(cx, hit, hop, item, ack, (denial, DropReason::AlgDenied)).map(Some)
                    }
                    _ => self.refuse(cx, hit, hop, item, ack, NO_ROOM).map(Some),
                };
            }
        };
        let requests = core::mem::take(&mut self.scratch.answer.expectations);
        let mut fresh = ArrayVec::<Ref, MAX_EXPECTATIONS>::new();
        let opened = requests.iter().try_for_each(|request| {
            fresh.extend(self.expect(cx, hit, request, &mut reserved)?);
            Ok::<(), Unique>(())
        });
        release(&cx.shared.registry, &mut self.bindings, &mut reserved);
        if opened.is_err() {
            // All or nothing: what was opened for a message that does not go on must not stay.
            for id in fresh {
                cx.shared.expectations.expire(id);
            }
            let denial = (Denial::NoResources, DropReason::AlgDenied);
            return self.refuse(cx, hit, hop, item, ack, denial).map(Some);
        }
        self.report(cx, hit);

        if let Some(engine) = self.algs.get_mut(slot)
            && engine.moves_acks_of(from)
        {
            let _ = fields::map_sack(item.buf.bytes_mut(), &item.parsed, |left, right| {
                Some((engine.translate_ack(from, left), engine.translate_ack(from, right)))
            });
        }
        if (seq, ack) != (parsed.seq, parsed.ack)
            && !fields::set_seq_ack(item.buf.bytes_mut(), &item.parsed, seq, ack)
        {
            return Err(DropReason::TcpTruncated);
        }
        if matches!(outcome, Outcome::Replace { .. }) {
            let segment = item.parsed.segment();
            let filled = item
                .buf
                .bytes_mut()
                .get_mut(segment)
                .is_some_and(|s| checksum::l4_fill(parsed.src, parsed.dst, Protocol::Tcp, s));
            if !filled {
                return Err(DropReason::TcpTruncated);
            }
        }
        Ok(None)
    }

    /// Opens one pinhole, if it is not open already. Takes the reference of its published port out of `reserved`.
    fn expect(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        request: &ExpectationRequest,
        reserved: &mut Reserved,
    ) -> Result<Option<Ref>, Unique> {
        let flow = endpoints(hit);
        let scopes = [Direction::Forward, Direction::Reverse].map(|d| hit.session.key(d).scope);
        let (opener_scope, listener_scope) = match request.opener {
            Side::Initiator => (scopes[0], scopes[1]),
            Side::Responder => (scopes[1], scopes[0]),
        };
        let opener = flow.own(request.opener).addr;
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
        if let Some((id, armed)) = cx.shared.expectations.find(&key) {
            let armed = armed.init();
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
        let opener_nat = match request.opener {
            Side::Initiator => {
                let binding = hit.session.binding().and_then(|b| self.bindings.get(binding_id(b)));
                binding.map(|b| NatAddress { addr: b.outside_addr, pool: b.outside_pool })
            }
            Side::Responder => match called(hit) {
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
            key,
            listener: request.listener,
            listener_scope,
            opener_nat,
            keeps_port: request.opener == Side::Responder,
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
    fn report(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
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

    /// Refuses the flow: resets both ends, closes the session for all but its record.
    fn refuse(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
        ack: u32,
        (denial, dropped): (Denial, DropReason),
    ) -> Result<Fate, DropReason> {
        hit.session.set_state(State::TcpReset);
        hit.session.set_close_reason(CloseReason::AlgDenied);
        cx.shared.arena.mark(hit.id.index);
        self.count(cx, Counter::AlgDenied, 1);
        self.report(cx, hit);
        let application = hit.session.application();
        self.tell(cx, Event::AlgDenied { session: hit.id, application, denial });

        // To the sender, in its own spaces: the packet as it came, turned round.
        if let Some(mut reply) = self.copy_of(cx, item.buf.bytes())
            && reset::reset_reply(&mut reply, &item.parsed)
        {
            self.transmit(cx, item.ingress, reply);
        }
        // To the addressee, in the spaces that it knows.
        let engine = hit.session.alg_slot().and_then(|slot| self.algs.get_mut(slot));
        let seq = engine.map_or(item.parsed.seq, |e| e.translate_seq(side(hit.direction), item.parsed.seq));
        let built = fields::set_seq_ack(item.buf.bytes_mut(), &item.parsed, seq, ack)
            && rewrite::rewrite(hit, item).is_ok()
            && reset::reset_forward(&mut item.buf, &item.parsed);
        if !built {
            return Err(dropped);
        }
        match route::finish(cx, hop, &mut item.buf) {
            Ok(Fate::Send(egress)) => Ok(Fate::Reset { egress, reason: dropped }),
            _ => Err(dropped),
        }
    }
}

/// Puts a new payload into a packet: room, bytes, lengths, the IP header's checksum. TCP's is the caller's.
fn replace<B: PacketBuf>(buf: &mut B, parsed: &mut crate::packet::Parsed, payload: &[u8], mtu: u16) -> bool {
    let old = usize::from(parsed.payload_len);
    let header = usize::from(parsed.ip_len).saturating_sub(old);
    let Some(ip_len) = u16::try_from(header + payload.len()).ok().filter(|len| *len <= mtu) else {
        return false;
    };
    let resized = match payload.len().checked_sub(old) {
        Some(more) => buf.append(more),
        None => buf.trim_back(old - payload.len()),
    };
    if !resized {
        return false;
    }
    let Ok(payload_len) = u16::try_from(payload.len()) else { return false };
    parsed.payload_len = payload_len;
    parsed.ip_len = ip_len;
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let range = parsed.payload_range();
    let frame = buf.bytes_mut();
    let Some(place) = frame.get_mut(range) else { return false };
    place.copy_from_slice(payload);
    let Some(header) = frame.get_mut(l3..l4) else { return false };
    let Some(length) = header.get_mut(2..4) else { return false };
    length.copy_from_slice(&ip_len.to_be_bytes());
    checksum::ipv4_fill(header)
}

/// The ALG state that a session holds, for tests: whether the worker's slab is empty again.
impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Inspected sessions of this worker.
    #[must_use]
    pub fn inspected(&self) -> usize {
        self.algs.used()
    }

    /// The worker's number.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
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
