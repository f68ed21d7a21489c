//! Open: the straight line of a flow's first packet.
//!
//! A datagram or a SYN whose tag is nowhere in the table, that policy allows, that no expectation, no destination NAT and
//! no ALG has to do with, and whose next hop is known. What decides over it is looked up for all of a burst's first
//! packets before any of them is opened, so that the cache lines that opening touches (binding, record, both buckets of
//! the answer's key) are on their way together.
//!
//! Whatever is not so goes the long way ([`crate::stage::admit`]) at its place in the burst. Both ways reserve, write and
//! publish with the same functions, and must give the same packet and the same session; a property test compares them.

use crate::buf::BufPool;
use crate::fib::{AdjacencyId, Lookup};
use crate::key::{Addrs, FlowKey, WorkerId, ZoneId};
use crate::nat::{BindingHash, BindingId, BindingKey, PortHint, PortSpace};
use crate::packet::parse::is_host;
use crate::policy::{Action, Decision, Inspection, Mapping, Mode, NatAddress, Query, Source};
use crate::port::{BURST, Port};
use crate::rng::Rng;
use crate::session::Init;
use crate::stage::admit::{Reserve, home_of, paired_with};
use crate::stage::forward::{Carried, Plan, Way, pass};
use crate::stage::track::Move;
use crate::stage::{Context, route};
use crate::table::Direction;
use crate::view::{BoundBy, State};
use crate::worker::Local;
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr};

/// What was found out about a first packet.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// Which of the burst it is.
    pub(crate) number: usize,
    /// Egress zone.
    to: ZoneId,
    adjacency: AdjacencyId,
    decision: Decision,
    /// How its initiator is seen.
    source: Source<'a>,
    home: WorkerId,
    /// Of its binding's key, if it may share one.
    hash: Option<BindingHash>,
    binding: Option<BindingId>,
}

/// The openings of a burst, in its order.
pub(crate) type Openings<'a> = ArrayVec<Opening<'a>, BURST>;

impl<'a> Opening<'a> {
    /// Addresses of the binding that it may have already; none if it needs none, or one of its own.
    const fn shared(&self) -> &'a [NatAddress] {
        match self.source {
            Source::Bound(addresses, Mapping::EndpointIndependent) => addresses,
            Source::Bound(_, Mapping::EndpointDependent) | Source::AsIs | Source::Static(_) => &[],
        }
    }

    /// The answer's key, but for a binding that is not known yet.
    fn answer(&self, key: &FlowKey) -> FlowKey {
        let mut answer = key.reversed(self.to);
        if let Source::Static(addr) = self.source {
            answer.set_destination(addr, key.sport);
        }
        answer
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Finds out what it can about the first packets of a burst, and brings near what opening them will touch.
    pub(crate) fn survey<'a>(&mut self, cx: &Context<'a>, plans: &[Plan], openings: &mut Openings<'a>) {
        for (number, plan) in plans.iter().enumerate().filter(|(_, plan)| plan.way == Way::First) {
            if let Some(mut opening) = self.look_into(cx, number, plan) {
                let key = plan.key();
                if let Some(key) = binding_key(&key, opening.shared()) {
                    let hash = self.bindings.hash(&key);
                    self.bindings.approach(hash);
                    opening.hash = Some(hash);
                }
                if let Some((_, ports)) = first_choice(cx, key.source(), opening.source.bound().0) {
                    // A new binding has the inside port, if it can.
                    ports.approach(key.protocol, key.sport);
                }
                // There are as many as packets at most.
                let _ = openings.try_push(opening);
            }
        }
        cx.shared.arena.prefetch(&self.magazine, openings.len());
        for hash in openings.iter().filter_map(|opening| opening.hash) {
            self.bindings.approach_slot(hash);
        }
        let mut draws = self.rng.clone();
        for opening in openings {
            let Some(key) = plans.get(opening.number).map(Plan::key) else { continue };
            let mut answer = opening.answer(&key);
            if let (Some(hash), Some(key)) = (opening.hash, binding_key(&key, opening.shared())) {
                opening.binding = self.bindings.find_hashed(hash, &key);
            }
            if let Source::Bound(nat, mapping) = opening.source {
                let binding = opening.binding.and_then(|id| self.bindings.get(id));
                let seen = match binding {
                    Some(binding) => Some((binding.outside_addr, binding.outside_port)),
                    None => self.foresee(cx, &answer, (nat, mapping), &mut draws),
                };
                let Some((addr, port)) = seen else { continue };
                answer.set_destination(addr, port);
            }
            let hash = cx.shared.table.hash(&answer);
            cx.shared.table.prefetch(hash);
            cx.shared.table.prefetch_second(hash);
        }
    }

    /// The endpoint that a new binding of the receiver of this answer will have, most likely. Nothing is taken: the port is chosen
    /// when the packet's turn has come, and another one may have it by then.
    fn foresee(
        &self,
        cx: &Context<'_>,
        answer: &FlowKey,
        (nat, mapping): (&[NatAddress], Mapping),
        draws: &mut Rng,
    ) -> Option<(Ipv4Addr, u16)> {
        let (protocol, inside) = (answer.protocol, answer.dport);
        let (address, ports) = first_choice(cx, answer.destination(), nat)?;
        let draw = || draws.draw();
        let port = match mapping {
            Mapping::EndpointIndependent => ports.foresee(self.id, protocol, PortHint::like(inside), draw),
            Mapping::EndpointDependent => {
                let mut reply = *answer;
                reply.set_destination(address.addr, 0);
                ports.foresee_landing(self.id, protocol, inside, &self.landings.of(&reply), draw)
            }
        };
        Some((address.addr, port?))
    }

    /// The same of one packet alone.
    pub(crate) fn survey_one<'a>(&mut self, cx: &Context<'a>, plan: &Plan) -> Option<Opening<'a>> {
        let mut opening = self.look_into(cx, 0, plan)?;
        if let Some(key) = binding_key(&plan.key(), opening.shared()) {
            let hash = self.bindings.hash(&key);
            opening.binding = self.bindings.find_hashed(hash, &key);
            opening.hash = Some(hash);
        }
        Some(opening)
    }

    /// Whether a first packet may take the straight line, and what decides over it. Changes nothing.
    #[inline]
    fn look_into<'a>(&mut self, cx: &Context<'a>, number: usize, plan: &Plan) -> Option<Opening<'a>> {
        let key = plan.key();
        let Addrs::V4(source, destination) = key.addrs else { return None };
        let plain = matches!(plan.what(), Move::Syn | Move::Datagram)
            && key.sport != 0
            && key.dport != 0
            && is_host(source)
            && is_host(destination);
        let called = Ipv4Addr::from_bits(destination);
        if !plain || cx.policy.is_translated(called) || route::check_source(cx, source).is_err() {
            return None;
        }
        let Lookup::Forward { interface, next_hop } = cx.fib.lookup(destination) else { return None };
        let adjacency = cx.fib.adjacency_for(interface, next_hop)?;
        let to = cx.fib.interface(interface)?.zone;
        let (from, inside) = (key.scope, key.source());
        let verdict = cx.policy.decide(
            &mut self.memo,
            &Query {
                from,
                to,
                source: inside,
                destination: IpAddr::V4(called),
                protocol: key.protocol,
                sport: key.sport,
                dport: key.dport,
            },
        );
        let decision = verdict.decision;
        let source = verdict.source(cx.policy, inside, interface)?;
        let home = home_of(cx, &key, &source);
        let sessions = match decision.mode {
            Mode::Packet => false,
            Mode::Stateful => true,
            Mode::Alg => decision.inspection == Inspection::None,
        };
        if decision.action != Action::Allow || !sessions {
            return None;
        }
        Some(Opening { number, to, adjacency, decision, source, home, hash: None, binding: None })
    }

    /// Opens a session for a planned packet and carries the packet to its egress.
    pub(crate) fn begin(
        &mut self,
        cx: &Context<'_>,
        plan: &Plan,
        opening: &Opening<'_>,
        buf: &mut P::Buf,
    ) -> Carried {
        let key = plan.key();
        // What has come since the survey: an earlier packet of this burst may have opened the session, or the expectation
        // that this one meets.
        if cx.shared.expectations.find(&key).is_some() || cx.shared.table.may_hold(plan.hash()) {
            return Carried::LongWay;
        }
        if opening.home != self.id {
            return Carried::Owner(opening.home);
        }
        let init = Init {
            owner: self.id,
            state: if plan.what() == Move::Syn { State::TcpSynSent } else { State::UdpNew },
            forward: key,
            // A binding puts the translated initiator in when the port is known.
            reverse: opening.answer(&key),
            application: opening.decision.application,
            rule: opening.decision.rule,
            policy_generation: cx.policy.generation,
            created: cx.now,
            parent: None,
            expectation: None,
            binding: None,
            alg_slot: None,
            log: opening.decision.log,
        };
        let (nat, mapping) = opening.source.bound();
        let reserve = Reserve {
            nat,
            mapping,
            binding: opening.binding,
            endpoint: opening.hash,
            hash: plan.hash(),
            // Nobody reads it, or it would have gone the long way.
            inspect: Inspection::None,
            bound_by: BoundBy::Nothing,
        };
        let hit = match self.open(cx, init, &reserve) {
            Ok(hit) => hit,
            Err(reason) => return Carried::Drop(reason),
        };
        hit.session.set_adjacency(Direction::Forward, cx.fib.topology(), opening.adjacency);
        match pass(cx, hit.session, Direction::Forward, plan.what() == Move::Syn, buf) {
            Some(interface) => Carried::To(interface),
            // It does not fit its egress: the long way says so.
            None => Carried::LongWay,
        }
    }
}

/// What the initiator's binding is found by; none if it needs none.
#[inline]
fn binding_key(key: &FlowKey, nat: &[NatAddress]) -> Option<BindingKey> {
    let addr = key.source();
    let paired = nat.get(paired_with(addr, nat.len()))?;
    Some(BindingKey { protocol: key.protocol, addr, port: key.sport, pool: paired.pool })
}

/// The address that an inside address is paired with, and its ports. None if it needs no binding.
#[inline]
fn first_choice<'a>(
    cx: &Context<'a>,
    inside: IpAddr,
    nat: &[NatAddress],
) -> Option<(NatAddress, &'a PortSpace)> {
    let address = *nat.get(paired_with(inside, nat.len()))?;
    Some((address, cx.shared.registry.get(address.pool)?))
}
