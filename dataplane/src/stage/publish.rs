//! Publish: the gateway as an ALG sees it, for one message. It reserves translations and looks them up.

use crate::drop_reason::DropReason;
use crate::key::{Protocol, ZoneId};
use crate::nat::{BindingId, BindingKey, Bindings, Registry};
use crate::policy::NatAddress;
use crate::rng::Rng;
use crate::stage::{Context, Hit};
use crate::table::Direction;
use crate::worker::binding_id;
use alg::{Endpoint, FlowContext, Gateway, MAX_EXPECTATIONS, Parity, PublishError, Side, Transport};
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
pub(crate) type Reserved = ArrayVec<(Endpoint, BindingId), { MAX_EXPECTATIONS * 2 }>;

/// The gateway as one call of an ALG sees it.
pub(crate) struct Publisher<'a> {
    cx: Context<'a>,
    bindings: &'a mut Bindings,
    rng: &'a mut Rng,
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
            cx: *cx,
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
            self.cx.policy.destination_nat(self.scope, called, protocol, port) == Some((own, port))
        })
    }
}

/// Where an endpoint that is called from `scope` leads: by destination NAT, or by whatever an ALG has published there.
pub(crate) fn leads_to(
    cx: &Context<'_>,
    scope: ZoneId,
    protocol: Protocol,
    published: Endpoint,
) -> Option<Endpoint> {
    let IpAddr::V4(called) = published.addr else { return None };
    if let Some((host, port)) = cx.policy.destination_nat(scope, called, protocol, published.port) {
        return Some(Endpoint::new(IpAddr::V4(host), port));
    }
    cx.shared.expectations.leads_to(protocol, published)
}

/// The address by which the initiator calls the responder, if it is translated.
pub(crate) fn called(flow: &FlowContext) -> Option<Ipv4Addr> {
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
                    let pool = self.cx.shared.registry.find(called).ok_or(PublishError::PortsExhausted)?;
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
        leads_to(&self.cx, self.scope, protocol(transport), published)
    }

    fn to_outside(&self, transport: Transport, inside: Endpoint) -> Option<Endpoint> {
        let pool = self.initiator?.pool;
        let key = BindingKey { protocol: protocol(transport), addr: inside.addr, port: inside.port, pool };
        let binding = self.bindings.get(self.bindings.find(&key)?)?;
        Some(Endpoint::new(IpAddr::V4(binding.outside_addr), binding.outside_port))
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
