//! Answer: packets to the gateway itself, and those that a rule rejects. It answers echo requests; nothing else is there.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::key::Protocol;
use crate::nat::ports::FIRST_PORT;
use crate::packet::{icmp, icmp_error, reset};
use crate::policy::ClosedPorts;
use crate::port::Port;
use crate::stage::route::speaker;
use crate::stage::{Context, Fate, Item};
use crate::worker::Local;
use core::net::Ipv4Addr;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Drops a packet and tells its sender: TCP as a closed port would, anything else by ICMP. Both count against the
    /// rate of ICMP errors.
    pub(crate) fn reject(&mut self, cx: &Context<'_>, item: &mut Item<P::Buf>) -> Fate {
        self.tell_sender(cx, DropReason::PolicyDeny, icmp_error::PROHIBITED, item)
    }

    fn tell_sender(
        &mut self,
        cx: &Context<'_>,
        reason: DropReason,
        code: u8,
        item: &mut Item<P::Buf>,
    ) -> Fate {
        if item.parsed.protocol == Protocol::Tcp {
            // In the name of whom it was meant for: no address of ours is needed.
            let may = reset::may_answer(&item.parsed).then_some(());
            return self.error(cx, reason, Counter::Resets, may, |()| {
                reset::reset_reply(&mut item.buf, &item.parsed)
            });
        }
        let gateway = speaker(cx, item.ingress, item.buf.bytes(), &item.parsed);
        self.error(cx, reason, Counter::IcmpErrors, gateway, |gw| {
            icmp_error::unreachable(&mut item.buf, &item.parsed, gw, code)
        })
    }

    /// A packet to one of our addresses that no session or expectation claims.
    pub(crate) fn answer(&mut self, cx: &Context<'_>, item: &mut Item<P::Buf>) -> Result<Fate, DropReason> {
        if item.parsed.protocol == Protocol::Icmp {
            // An address for translation alone answers nothing.
            if item.parsed.icmp_type != icmp::ECHO_REQUEST || !cx.fib.is_local(item.parsed.dst) {
                return Err(DropReason::IcmpNoSession);
            }
            return if icmp_error::echo_reply(&mut item.buf, &item.parsed) {
                Ok(Fate::Answer)
            } else {
                Err(DropReason::LocalUnsupported)
            };
        }
        let dst = Ipv4Addr::from_bits(item.parsed.dst);
        let translated = !cx.fib.is_local(item.parsed.dst)
            || item.parsed.dport >= FIRST_PORT
                && (cx.policy.is_translated(dst)
                    || cx.policy.interface_nat.iter().flatten().any(|n| n.addr == dst));
        if translated {
            // Somebody may be about to open a session there from inside (RFC 5382 REQ-4): no answer.
            return Err(DropReason::NatNoSession);
        }
        match cx.policy.zone(item.key.scope).closed_ports {
            ClosedPorts::Drop => Err(DropReason::LocalUnsupported),
            ClosedPorts::Reject => {
                Ok(self.tell_sender(cx, DropReason::LocalUnsupported, icmp_error::PORT, item))
            }
        }
    }
}
