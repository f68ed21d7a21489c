//! Filter: packets that a rule of mode `packet` judges by themselves. No session, no translation, no home.

use crate::buf::{BufPool, PacketBuf};
use crate::drop_reason::DropReason;
use crate::packet::rewrite;
use crate::policy::{Action, Destination, Mode, NatTarget, Query};
use crate::port::Port;
use crate::stage::{Context, Fate, Item, NextHop, route};
use crate::worker::Local;
use core::net::{IpAddr, Ipv4Addr};

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// What the rules say of a packet that opens no session. None if the first that matches looks at sessions, or if the
    /// packet has no way: then it is dropped for what it is.
    pub(crate) fn filter(
        &mut self,
        cx: &Context<'_>,
        item: &mut Item<P::Buf>,
        destination: Destination,
    ) -> Result<Option<Fate>, DropReason> {
        let called = (Ipv4Addr::from_bits(item.parsed.dst), item.key.dport);
        let (host, dport) = destination.host().unwrap_or(called);
        let Ok(hop) = route::next_hop(cx, host.to_bits()) else { return Ok(None) };
        let to = cx.fib.interface(hop.interface).ok_or(DropReason::TxNoPort)?.zone;
        let (from, source, destined) = (item.key.scope, item.key.source(), IpAddr::V4(host));
        let decision = cx.policy.evaluate(&Query {
            from,
            to,
            source,
            destination: destined,
            protocol: item.key.protocol,
            sport: item.key.sport,
            dport,
        });
        if decision.mode != Mode::Packet {
            return Ok(None);
        }
        if decision.action != Action::Allow {
            return self.deny(cx, item, to, &decision).map(Some);
        }
        let nat = cx.policy.source_nat(from, to, source, destined).map(|nat| nat.translate);
        let translated = destination.host().is_some() || !matches!(nat, None | Some(NatTarget::Nothing));
        self.pass_alone(cx, item, &hop, translated).map(Some)
    }

    /// Sends a packet on as it is, but for its TTL. What should be `translated` must not leave so.
    pub(crate) fn pass_alone(
        &mut self,
        cx: &Context<'_>,
        item: &mut Item<P::Buf>,
        hop: &NextHop,
        translated: bool,
    ) -> Result<Fate, DropReason> {
        if translated {
            return Err(DropReason::PacketRuleNat);
        }
        if let Some(fate) = self.check_mtu(cx, hop.interface, item) {
            return Ok(fate);
        }
        if !rewrite::decrement_ttl(item.buf.bytes_mut(), &item.parsed) {
            return Err(DropReason::TtlExceeded);
        }
        route::finish(cx, hop, &mut item.buf)
    }
}
