//! Publish: the gateway as an ALG sees it, for one message. It reserves translations and looks them up.

use crate::drop_reason::DropReason;
use crate::event::Ref;
use crate::expect::{ExpectationLimits, Ledger, LedgerEntry, Reached};
use crate::key::{Protocol, ZoneId};
use crate::nat::{Binding, BindingId, BindingKey, Bindings, Registry};
use crate::policy::{Destination, Mapping, NatAddress, NatTarget, PoolAddr};
use crate::rng::Rng;
use crate::stage::{Context, Hit};
use crate::table::Direction;
use crate::worker::binding_id;
use alg::{
    Application, Endpoint, FlowContext, Gateway, MAX_EXPECTATIONS, Parity, PublishError, Side, Transport,
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

/// A session's number, as ALGs know it.
const fn number(id: Ref) -> u64 {
    (id.index as u64) << 32 | id.version as u64
}

/// And back.
#[expect(clippy::cast_possible_truncation, reason = "two halves")]
const fn named(number: u64) -> Ref {
    Ref { index: (number >> 32) as u32, version: number as u32 }
}

/// The first session of the signalling that a session is part of: what its ALG asks for belongs to that one, and so do its
/// calls. One that a pinhole for signalling has opened has the owner of its parent (`child.rs`).
pub(crate) fn group(cx: &Context<'_>, hit: &Hit<'_>) -> Ref {
    let parent = hit.session.parent().filter(|_| hit.session.application() == Application::Sip);
    let is_first = |parent: &Ref| {
        let first = cx.shared.arena.resolve_open(*parent);
        // One whose connection is over stays as long as it has children, and its calls with it.
        first.is_some_and(|first| {
            first.application() == Application::Sip && first.owner() == hit.session.owner()
        })
    };
    parent.filter(is_first).unwrap_or(hit.id)
}

/// Whether the initiator of a session is at the end of the responder of the first one of its group.
fn is_turned(cx: &Context<'_>, hit: &Hit<'_>, group: Ref) -> bool {
    let Some(first) = cx.shared.arena.resolve_open(group).filter(|_| group != hit.id) else { return false };
    let initiator = hit.session.key(Direction::Forward).source();
    let [one, other] = [Direction::Forward, Direction::Reverse].map(|d| first.key(d).source());
    initiator == other && initiator != one
}

/// A session's endpoints as an ALG is told of them.
pub(crate) fn endpoints(cx: &Context<'_>, hit: &Hit<'_>) -> FlowContext {
    let forward = hit.session.key(Direction::Forward);
    let reverse = hit.session.key(Direction::Reverse);
    let group = group(cx, hit);
    FlowContext {
        id: number(hit.id),
        group: number(group),
        turned: is_turned(cx, hit, group),
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
pub(crate) type Reserved = ArrayVec<(Endpoint, BindingId), { MAX_EXPECTATIONS * 2 }>;

/// The gateway as one call of an ALG sees it.
pub(crate) struct Publisher<'a> {
    cx: Context<'a>,
    bindings: &'a mut Bindings,
    rng: &'a mut Rng,
    ledger: &'a Ledger,
    /// How the responder sees the initiator, and the other way round.
    seen: [Seen; 2],
    /// The zone of each.
    scopes: [ZoneId; 2],
    flow: FlowContext,
    /// What each end's own endpoint is [`alone`] known by.
    alone: [Option<BindingId>; 2],
    /// Nobody is told of what is published: every end is known by what it is seen as already, and nothing is reserved.
    pub(crate) as_seen: bool,
    pub(crate) reserved: Reserved,
    /// The limit that [`Gateway::has_room`] has found to be reached, since this was taken last.
    pub(crate) reached: Option<Reached>,
    /// What its pinholes are counted by, but for their host.
    entry: LedgerEntry,
    /// The limits of the session's profile.
    pub(crate) limits: ExpectationLimits,
}

/// How one end of a session is seen by the other.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    /// As it is.
    Plain,
    /// At this address, where policy leads back to it as far as it does.
    Led(Ipv4Addr),
    /// At a port of this address that the session's binding holds, alone or not.
    Bound(NatAddress, Mapping),
}

impl Seen {
    pub(crate) fn of(side: Side, flow: &FlowContext, binding: Option<Binding>) -> Self {
        if let (Side::Initiator, Some(b)) = (side, binding) {
            let address = NatAddress { addr: b.outside_addr, pool: b.outside_pool };
            return Self::Bound(address, b.mapping);
        }
        let (own, seen) = match side {
            Side::Initiator => (flow.initiator.addr, flow.initiator_translated.addr),
            Side::Responder => (flow.responder.addr, flow.responder_translated.addr),
        };
        match seen {
            IpAddr::V4(addr) if seen != own => Self::Led(addr),
            _ => Self::Plain,
        }
    }

    pub(crate) fn address(self, registry: &Registry) -> Option<NatAddress> {
        match self {
            Self::Plain => None,
            // Static addresses have no port space: nothing but what leads there can be published.
            Self::Led(addr) => Some(NatAddress { addr, pool: registry.find(addr).unwrap_or(PoolAddr::NONE) }),
            Self::Bound(address, _) => Some(address),
        }
    }
}

impl<'a> Publisher<'a> {
    /// The gateway for one message of this session.
    pub(crate) fn new(
        cx: &Context<'a>,
        hit: &Hit<'_>,
        bindings: &'a mut Bindings,
        rng: &'a mut Rng,
        ledger: &'a Ledger,
    ) -> Self {
        let flow = endpoints(cx, hit);
        let binding = hit.session.binding().and_then(|b| bindings.get(binding_id(b)));
        Self {
            cx: *cx,
            seen: [Side::Initiator, Side::Responder].map(|side| Seen::of(side, &flow, binding)),
            scopes: [Direction::Forward, Direction::Reverse].map(|d| hit.session.key(d).scope),
            flow,
            alone: [Side::Initiator, Side::Responder].map(|side| alone(cx, hit, bindings, side)),
            as_seen: false,
            reserved: Reserved::new(),
            reached: None,
            entry: LedgerEntry {
                parent: named(flow.group),
                tag: 0,
                host: flow.initiator.addr,
                alg: hit.session.application(),
                profile: hit.session.profile(),
                lifetime_ms: 0,
            },
            limits: ExpectationLimits::NONE,
            bindings,
            rng,
            ledger,
        }
    }

    /// What an endpoint is known by if nothing is published.
    fn seen_as(&self, side: Side, transport: Transport, endpoint: Endpoint) -> Endpoint {
        let (own, seen) = (self.flow.own(side), self.flow.seen(side));
        if endpoint == own && transport == self.flow.transport {
            seen
        } else if endpoint.addr == own.addr {
            Endpoint::new(seen.addr, endpoint.port)
        } else {
            endpoint
        }
    }

    /// The binding of one session alone that stands for this endpoint of a side, and where.
    fn alone(&self, side: Side, transport: Transport, inside: Endpoint) -> Option<(BindingId, Endpoint)> {
        let [initiator, responder] = self.alone;
        let id = if side == Side::Initiator { initiator } else { responder }?;
        Some((id, stands_for(self.bindings, id, transport, inside)?))
    }

    /// Whether policy leads packets from the zone `scope` to these endpoints in any case, at the same ports of the
    /// address `called`.
    fn leads(
        &self,
        scope: ZoneId,
        called: Ipv4Addr,
        protocol: Protocol,
        endpoint: Endpoint,
        count: u16,
    ) -> bool {
        let IpAddr::V4(own) = endpoint.addr else { return false };
        (0..count).all(|i| {
            let port = endpoint.port.wrapping_add(i);
            let meant = self.cx.policy.destination_nat(scope, called, protocol, port);
            meant == Destination::Host(own, port)
        })
    }
}

/// The binding of one session alone that an end of this one is known by, if it is: by its inside endpoint nobody finds it.
/// An initiator's is the session's own, a responder's that of the pinhole that the session has come through.
pub(crate) fn alone(cx: &Context<'_>, hit: &Hit<'_>, bindings: &Bindings, side: Side) -> Option<BindingId> {
    let id = match side {
        Side::Initiator => hit.session.binding()?,
        Side::Responder => {
            let through = cx.shared.expectations.get(hit.session.expectation()?)?;
            // Another worker's is not in these bindings.
            through.binding().filter(|_| through.owner() == hit.session.owner())?
        }
    };
    let id = binding_id(id);
    bindings.get(id).is_some_and(|b| b.mapping == Mapping::EndpointDependent).then_some(id)
}

/// Where such a binding stands for this endpoint.
pub(crate) fn stands_for(
    bindings: &Bindings,
    id: BindingId,
    transport: Transport,
    inside: Endpoint,
) -> Option<Endpoint> {
    let binding = bindings.get(id)?;
    let BindingKey { protocol: of, addr, port, .. } = binding.inside;
    ((of, Endpoint::new(addr, port)) == (protocol(transport), inside))
        .then_some(Endpoint::new(IpAddr::V4(binding.outside_addr), binding.outside_port))
}

/// Where an endpoint that is called from `scope` leads: by destination NAT, or by whatever an ALG has published there.
pub(crate) fn leads_to(
    cx: &Context<'_>,
    scope: ZoneId,
    protocol: Protocol,
    published: Endpoint,
) -> Option<Endpoint> {
    let IpAddr::V4(called) = published.addr else { return None };
    if let Some((host, port)) = cx.policy.destination_nat(scope, called, protocol, published.port).host() {
        return Some(Endpoint::new(IpAddr::V4(host), port));
    }
    cx.shared.expectations.leads_to(protocol, published)
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
        let ([initiator, responder], scopes) = (self.seen, self.scopes);
        let (seen, callers) = match side {
            Side::Initiator => (initiator, scopes[1]),
            Side::Responder => (responder, scopes[0]),
        };
        if self.as_seen {
            return Ok(self.seen_as(side, transport, endpoint));
        }
        if let Seen::Led(addr) = seen
            && self.leads(callers, addr, protocol(transport), endpoint, count)
        {
            return Ok(Endpoint::new(IpAddr::V4(addr), endpoint.port));
        }
        let Some(address) = seen.address(&self.cx.shared.registry) else { return Ok(endpoint) };
        if self.reserved.remaining_capacity() < usize::from(count) {
            return Err(PublishError::TableFull);
        }
        if let (1, Some((id, outside))) = (count, self.alone(side, transport, endpoint))
            && self.bindings.retain(id)
        {
            // There is room: it was checked above.
            let _ = self.reserved.try_push((outside, id));
            return Ok(outside);
        }
        let ports = self.cx.shared.registry.get(address.pool).ok_or(PublishError::PortsExhausted)?;
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

    fn to_inside(&self, transport: Transport, published: Endpoint) -> Option<Endpoint> {
        leads_to(&self.cx, self.scopes[0], protocol(transport), published)
    }

    fn to_outside(&self, transport: Transport, inside: Endpoint) -> Option<Endpoint> {
        let [from, to] = self.scopes;
        let nat = self
            .cx
            .policy
            .source_nat(from, to, inside.addr, self.flow.responder.addr)
            .map(|nat| nat.translate);
        if let Some(NatTarget::Static { inside: net, outside }) = nat {
            return Some(Endpoint::new(net.counterpart(inside.addr, &outside)?, inside.port));
        }
        if let Some((_, outside)) = self.alone(Side::Initiator, transport, inside) {
            return Some(outside);
        }
        let Seen::Bound(NatAddress { pool, .. }, _) = self.seen[0] else { return None };
        let key = BindingKey { protocol: protocol(transport), addr: inside.addr, port: inside.port, pool };
        let binding = self.bindings.get(self.bindings.find(&key)?)?;
        Some(Endpoint::new(IpAddr::V4(binding.outside_addr), binding.outside_port))
    }

    fn has_room(&mut self, listener: IpAddr, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let Context { policy, now, .. } = self.cx;
        let entry = LedgerEntry { host: listener, ..self.entry };
        match self.ledger.would_allow(&policy.expectations, &self.limits, now, &entry, count) {
            Ok(()) => true,
            Err(reached) => {
                self.reached = Some(reached);
                false
            }
        }
    }

    fn lives(&self, flow: u64) -> bool {
        self.cx.shared.arena.resolve_open(named(flow)).is_some()
    }
}

pub(crate) const fn protocol(transport: Transport) -> Protocol {
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
