//! Pick up: TCP whose handshake nobody here has seen.
//!
//! Only where the policy says so ([`crate::policy::Policy::tcp_pick_up`]), and never by default: who can make a gateway
//! believe in a connection has a way through it. Which end has opened the connection is a guess, so the policy is asked
//! about both, the likelier one first. Such a session is never read by an ALG, since nobody knows where its messages
//! begin, and never translated, since nobody knows to which port it was.

use crate::buf::BufPool;
use crate::drop_reason::DropReason;
use crate::event::Event;
use crate::key::FlowKey;
use crate::packet::flag;
use crate::policy::{Action, Mode, NatTarget, Query};
use crate::port::Port;
use crate::session::Init;
use crate::stage::admit::Admission;
use crate::stage::{Context, Fate, Hit, Item, route};
use crate::table::Direction;
use crate::view::State;
use crate::worker::Local;

/// Who sent a packet of a connection, the likelier answer first.
const fn senders(key: &FlowKey, flags: u8) -> &'static [Direction] {
    if flags & flag::SYN != 0 {
        // A SYN+ACK leaves no doubt.
        &[Direction::Reverse]
    } else if key.sport < key.dport {
        // Services have the lower ports.
        &[Direction::Reverse, Direction::Forward]
    } else {
        &[Direction::Forward, Direction::Reverse]
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Makes the session of a segment from the middle of a connection.
    pub(crate) fn pick_up<'a>(
        &mut self,
        cx: &Context<'a>,
        item: &mut Item<P::Buf>,
    ) -> Result<Admission<'a>, DropReason> {
        // A reset leaves nothing to keep a session for.
        if item.parsed.has(flag::RST) {
            return Err(DropReason::TcpNoSession);
        }
        let hop = match route::next_hop(cx, item.parsed.dst) {
            Ok(hop) => hop,
            Err(reason) => return Ok(Admission::Fate(self.no_route(cx, reason, item))),
        };
        let egress = cx.fib.interface(hop.interface).ok_or(DropReason::TxNoPort)?.zone;
        // Without translation both directions of a tuple have the same home.
        let home = cx.shared.home.of_tuple(&item.key);
        if home != self.id {
            return Ok(Admission::Fate(Fate::HandOff(home)));
        }
        if let Some(admission) = self.look_again(cx, item)? {
            return Ok(admission);
        }
        let mut refused = None;
        for sender in senders(&item.key, item.parsed.tcp_flags) {
            let (forward, to) = match sender {
                Direction::Forward => (item.key, egress),
                Direction::Reverse => (item.key.reversed(egress), item.key.scope),
            };
            let (from, source, destination) = (forward.scope, forward.source(), forward.destination());
            let decision = cx.policy.evaluate(&Query {
                from,
                to,
                source,
                destination,
                protocol: forward.protocol,
                sport: forward.sport,
                dport: forward.dport,
            });
            // A rule that looks at single packets makes no session, whoever began.
            if decision.mode == Mode::Packet {
                continue;
            }
            if decision.action != Action::Allow {
                refused.get_or_insert((forward, to, decision));
                continue;
            }
            let nat = cx.policy.source_nat(from, to, source, destination);
            if nat.is_some_and(|nat| nat.translate != NatTarget::Nothing) {
                return Err(DropReason::TcpNoSession);
            }
            let init = Init {
                owner: self.id,
                state: State::TcpEstablished,
                forward,
                reverse: forward.reversed(to),
                application: decision.application,
                rule: decision.rule,
                policy_generation: cx.policy.generation,
                created: cx.now,
                parent: None,
                expectation: None,
                binding: None,
                alg_slot: None,
                log: decision.log,
            };
            let hit = self.publish(cx, &init, cx.shared.table.hash(&forward))?;
            return Ok(Admission::Session(Hit { direction: *sender, ..hit }));
        }
        let Some((key, to, decision)) = refused else { return Err(DropReason::TcpNoSession) };
        if decision.log.any() && self.deny_limit.take(cx.now) {
            let generation = cx.policy.generation;
            self.tell(cx, Event::Denied { key, to: Some(to), rule: decision.rule, generation });
        }
        Err(DropReason::PolicyDeny)
    }
}
