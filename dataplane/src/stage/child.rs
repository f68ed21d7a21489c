//! Child: the packet that an expectation waits for becomes a session of its own.
//!
//! Either end's packet may be the first. Both ends' packets lead to the same worker, so that of two that come at once the
//! second finds the session that the first has made.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Event;
use crate::expect::{self, Met, Reverse};
use crate::key::{Addrs, FlowKey, WorkerId};
use crate::nat::ports::FIRST_PORT;
use crate::nat::{BindingKey, Published};
use crate::policy::{Mapping, NatAddress};
use crate::port::Port;
use crate::session::Init;
use crate::stage::admit::{Admission, Reserve, opens};
use crate::stage::pinhole::parent_is_over;
use crate::stage::{Context, Fate, Item};
use crate::table::Direction;
use crate::view::{BoundBy, ExpectationClass, ExpectationState, State};
use crate::worker::{Local, binding_ref};
use alg::{Application, Parity};
use core::net::IpAddr;

/// Whether the opener of a child is seen at its own port, without a binding: no other can be given that port, because it
/// is below 1024, or because destination NAT leads to the opener there.
fn keeps_port<B>(cx: &Context<'_>, item: &Item<B>, expected: &expect::Init) -> bool {
    let Some(opener) = expected.opener_nat.filter(|_| expected.keeps_port) else { return false };
    let (protocol, port) = (item.key.protocol, item.key.sport);
    let leads = || cx.policy.destination_nat(expected.listener_scope, opener.addr, protocol, port).host();
    port < FIRST_PORT || leads().is_some_and(|(host, to)| IpAddr::V4(host) == item.key.source() && to == port)
}

/// Who admits a child: the owner of its published port, or else its home, whichever end sends. A called host that is
/// translated may send before it has named the port that it sends from: the worker that its ALG will publish that port
/// with admits it, so that both are the same port. Signalling goes where its parent is: they share their calls.
fn owner<B>(
    cx: &Context<'_>,
    item: &Item<B>,
    expected: &expect::Init,
    translated: bool,
    met: Direction,
) -> WorkerId {
    let named_later = translated && expected.keeps_port;
    let signals = expected.application == Application::Sip;
    if !expected.by_home || named_later || signals {
        return expected.owner;
    }
    if !translated {
        return cx.shared.home.of_tuple(&item.key);
    }
    // The opener's packet, which may be still to come.
    let mut opens = item.key;
    if let (Direction::Reverse, Some(Reverse { real, .. })) = (met, expected.reverse)
        && let (IpAddr::V4(from), IpAddr::V4(to)) = (real.addr, expected.key.destination())
    {
        let FlowKey { protocol, scope, dport, .. } = expected.key;
        opens = FlowKey::v4(protocol, scope, (from, real.port), (to, dport));
    }
    match expected.opener_mapping {
        Mapping::EndpointIndependent => cx.shared.home.of_endpoint(opens.source(), opens.sport),
        Mapping::EndpointDependent => cx.shared.home.of_tuple(&opens),
    }
}

/// Most ranges of sessions that are over which one look-up ends.
const MOST_OVER: usize = 8;

/// Whether what was met is the range of a control session whose connection is over. Its children would keep it for ever.
fn is_over(cx: &Context<'_>, met: &Met<'_>) -> bool {
    let expected = met.record.init();
    if expected.class != ExpectationClass::PortRange || !parent_is_over(cx, expected.parent) {
        return false;
    }
    // A reset that may be forged ends no range: nobody would open it again.
    let parent = cx.shared.arena.resolve_open(expected.parent);
    parent.is_none_or(|parent| parent.state() != State::TcpReset || parent.doubt().is_none())
}

/// What a packet's key meets. Ranges of sessions that are over end here: another session may have the same one open.
pub(crate) fn expected<'a>(cx: &Context<'a>, key: &FlowKey) -> Option<Met<'a>> {
    for _ in 0..MOST_OVER {
        let met = cx.shared.expectations.find(key)?;
        if !is_over(cx, &met) {
            return Some(met);
        }
        cx.shared.expectations.expire(met.id);
    }
    None
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// A packet that an expectation waits for.
    pub(crate) fn admit_child<'a>(
        &mut self,
        cx: &Context<'a>,
        item: &mut Item<P::Buf>,
        met: &Met<'_>,
    ) -> Result<Admission<'a>, DropReason> {
        let (id, expected) = (met.id, met.record.init());
        let keeps_port = keeps_port(cx, item, &expected);
        let nat = expected.opener_nat.filter(|_| !keeps_port);
        let owner = owner(cx, item, &expected, nat.is_some(), met.direction);
        if owner != self.id {
            return Ok(Admission::Fate(Fate::HandOff(owner)));
        }
        let state = opens(&item.parsed)?;
        let parent = cx.shared.arena.resolve_open(expected.parent).ok_or(DropReason::ExpectationGone)?;
        let (reverse, nat) = match (met.direction, expected.reverse) {
            (Direction::Reverse, Some(to)) => (answer_to_listener(item, &expected, to)?, None),
            _ => (answer_to_opener(item, &expected, keeps_port), nat),
        };
        let mut init = Init {
            owner: self.id,
            state,
            forward: item.key,
            reverse,
            application: expected.application,
            rule: expected.rule,
            policy_generation: expected.policy_generation,
            created: cx.now,
            parent: Some(expected.parent),
            // The record holds the published port for as long as the child lives.
            expectation: Some(id.index),
            binding: None,
            alg_slot: None,
            log: expected.log,
        };
        if met.record.state() != ExpectationState::Armed {
            // Another packet was first; this one may belong to what it has made.
            return self.look_again(cx, item)?.ok_or(DropReason::ExpectationGone);
        }
        if met.direction == Direction::Reverse {
            init.binding = self.binding_of_listener(&expected);
        }
        parent.add_child();
        let of_parent = (parent.profile(), parent.policy_generation());
        let inspect = cx.policy.alg.inspection_of_child(of_parent, init.application, init.forward.protocol);
        let mapping = expected.opener_mapping;
        let reserve = Reserve {
            nat: nat.as_slice(),
            mapping,
            // Where an ALG has published the opener's endpoint, that is how the listener knows it.
            binding: nat.filter(|_| mapping == Mapping::EndpointDependent).and_then(|nat| {
                let FlowKey { protocol, sport: port, .. } = item.key;
                self.bindings.find(&BindingKey { protocol, addr: item.key.source(), port, pool: nat.pool })
            }),
            endpoint: None,
            hash: item.hash,
            inspect,
            bound_by: BoundBy::Parent,
        };
        let pair = nat.filter(|_| expected.keeps_port).and_then(|nat| self.side_by_side(cx, &init, nat));
        let opened = self.open(cx, init, &reserve);
        for id in pair.iter().flat_map(|pair| &pair.ids) {
            // The child holds its own, and the other was only to be free.
            self.bindings.cancel(*id, &cx.shared.registry);
        }
        let hit = match opened {
            Ok(hit) => hit,
            Err(reason) => {
                parent.remove_child();
                // It waits on: the opener repeats itself, and what is in the way may be gone by then.
                self.count(cx, Counter::ExpectationsRefused, 1);
                if self.deny_limit.take(cx.now) {
                    self.tell(
                        cx,
                        Event::ExpectationRefused { parent: expected.parent, reason, by_profile: false },
                    );
                }
                return Err(reason);
            }
        };
        // Only now: a one-shot must not be used up by a child that finds no place.
        if !cx.shared.expectations.claim(id) {
            self.take_back(cx, &hit);
            parent.remove_child();
            return self.look_again(cx, item)?.ok_or(DropReason::ExpectationGone);
        }
        met.record.note_child(hit.id);
        self.count(cx, Counter::ExpectationsHit, 1);
        self.tell(cx, Event::ExpectationHit { expectation: id, parent: expected.parent, child: hit.id });
        Ok(Admission::Session(hit))
    }

    /// Bindings for RTP and RTCP of a translated callee that sends one of them before it has named their ports: side by side,
    /// as its ALG will publish them (RFC 3550 §11).
    fn side_by_side(&mut self, cx: &Context<'_>, init: &Init, address: NatAddress) -> Option<Published> {
        let behind = match init.application {
            Application::Rtp => 0,
            Application::Rtcp => 1,
            _ => return None,
        };
        let first = init.forward.sport.checked_sub(behind)?;
        let parity = if first.is_multiple_of(2) { Parity::Even } else { Parity::Odd };
        let ports = cx.shared.registry.get(address.pool)?;
        let (endpoint, random) = ((init.forward.source(), first), self.rng.draw());
        self.bindings.publish(init.forward.protocol, endpoint, address, ports, (2, parity), random).ok()
    }

    /// One more reference of the translation that the listener's side of the child stands on, when the listener opens it:
    /// the opener's, if the listener addresses a translation of it, else the listener's own.
    fn binding_of_listener(&mut self, expected: &expect::Init) -> Option<crate::event::Ref> {
        let opener = expected.reverse.zip(expected.opener_nat).and_then(|(Reverse { real, .. }, nat)| {
            let (protocol, pool) = (expected.key.protocol, nat.pool);
            self.bindings
                .find(&BindingKey { protocol, addr: real.addr, port: real.port, pool })
                .map(binding_ref)
        });
        opener.or(expected.binding).filter(|binding| self.retain_binding(*binding))
    }
}

/// The key of what the listener answers to an opener's first packet, before the opener's own translation.
fn answer_to_opener<B>(item: &Item<B>, expected: &expect::Init, keeps_port: bool) -> FlowKey {
    let mut reverse = item.key.reversed(expected.listener_scope);
    if let (Addrs::V4(_, opener), IpAddr::V4(listener)) = (reverse.addrs, expected.listener.addr) {
        reverse.addrs = Addrs::V4(listener.to_bits(), opener);
        // A range keeps the port.
        if expected.last_port == 0 {
            reverse.sport = expected.listener.port;
        }
    }
    if let (true, Some(NatAddress { addr, .. }), Addrs::V4(listener, _)) =
        (keeps_port, expected.opener_nat, reverse.addrs)
    {
        reverse.addrs = Addrs::V4(listener, addr.to_bits());
    }
    reverse
}

/// The key of what the opener answers to the listener's first packet: it comes to the published endpoint.
fn answer_to_listener<B>(
    item: &Item<B>,
    expected: &expect::Init,
    to: Reverse,
) -> Result<FlowKey, DropReason> {
    let mut reverse = item.key.reversed(expected.key.scope);
    let (IpAddr::V4(opener), IpAddr::V4(published)) = (to.real.addr, expected.key.destination()) else {
        return Err(DropReason::EthTypeUnsupported);
    };
    reverse.addrs = Addrs::V4(opener.to_bits(), published.to_bits());
    reverse.sport = to.real.port;
    reverse.dport = expected.key.dport;
    Ok(reverse)
}
