//! Route: the next hop of the translated destination, TTL and MTU.
//!
//! It is found before the packet is changed, so that an ICMP error quotes the packet as its sender sent it. The L2 header
//! is written last.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::fib::Lookup;
use crate::key::{Addrs, InterfaceId};
use crate::packet::icmp_error;
use crate::port::Port;
use crate::stage::{Context, Fate, Hit, Item, NextHop};
use crate::worker::Local;
use core::net::Ipv4Addr;

/// The next hop of an address.
pub(crate) fn next_hop(cx: &Context<'_>, destination: u32) -> Result<NextHop, DropReason> {
    match cx.fib.lookup(destination) {
        Lookup::Forward { interface, next_hop } => {
            let mac = cx
                .fib
                .adjacency_for(interface, next_hop)
                .and_then(|id| cx.fib.adjacency(id))
                .map(|adjacency| adjacency.mac);
            Ok(NextHop { interface, next_hop, mac })
        }
        Lookup::Local(_) => Err(DropReason::LocalUnsupported),
        Lookup::None => Err(DropReason::NoRoute),
    }
}

/// The next hop of a session's packet: remembered in the session, or found and then remembered.
pub(crate) fn of_session(cx: &Context<'_>, hit: &Hit<'_>) -> Result<NextHop, DropReason> {
    let topology = cx.fib.topology();
    if let Some(adjacency) =
        hit.session.adjacency(hit.direction, topology).and_then(|id| cx.fib.adjacency(id))
    {
        return Ok(NextHop {
            interface: adjacency.interface,
            next_hop: adjacency.next_hop,
            mac: Some(adjacency.mac),
        });
    }
    // The other direction's source is where this direction's packets go.
    let Addrs::V4(destination, _) = hit.session.key(hit.direction.other()).addrs else {
        return Err(DropReason::EthTypeUnsupported);
    };
    let found = next_hop(cx, destination)?;
    if let Some(id) = cx.fib.adjacency_for(found.interface, found.next_hop) {
        hit.session.set_adjacency(hit.direction, topology, id);
    }
    Ok(found)
}

/// Writes the L2 header, if the neighbour is known.
pub(crate) fn finish<B: PacketBuf>(cx: &Context<'_>, hop: &NextHop, buf: &mut B) -> Result<Fate, DropReason> {
    let Some(mac) = hop.mac else {
        return Ok(Fate::Wait { interface: hop.interface, next_hop: hop.next_hop });
    };
    let ours = cx.fib.interface(hop.interface).ok_or(DropReason::TxNoPort)?.mac;
    let Some(header) = buf.bytes_mut().first_chunk_mut::<12>() else { return Err(DropReason::EthTruncated) };
    let (destination, source) = header.split_at_mut(6);
    destination.copy_from_slice(&mac);
    source.copy_from_slice(&ours);
    Ok(Fate::Send(hop.interface))
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// RFC 1812 §5.3.1: a packet whose TTL ends here is answered, not forwarded.
    pub(crate) fn check_ttl(&mut self, cx: &Context<'_>, item: &mut Item<P::Buf>) -> Option<Fate> {
        if item.parsed.ttl > 1 {
            return None;
        }
        let gateway = cx.fib.primary(item.ingress);
        Some(self.error(cx, DropReason::TtlExceeded, Counter::IcmpErrors, gateway, |gw| {
            icmp_error::time_exceeded(&mut item.buf, &item.parsed, gw)
        }))
    }

    /// RFC 1191 §4: what does not fit the next link is answered with that link's MTU. The gateway does not fragment.
    pub(crate) fn check_mtu(
        &mut self,
        cx: &Context<'_>,
        egress: InterfaceId,
        item: &mut Item<P::Buf>,
    ) -> Option<Fate> {
        let mtu = cx.fib.interface(egress)?.mtu;
        if item.parsed.ip_len <= mtu {
            return None;
        }
        let gateway = cx.fib.primary(item.ingress);
        Some(self.error(cx, DropReason::FragmentationNeeded, Counter::IcmpErrors, gateway, |gw| {
            icmp_error::fragmentation_needed(&mut item.buf, &item.parsed, gw, mtu)
        }))
    }

    /// Turns a packet into an ICMP error, or a reset, if there is an address to send it from and the rate allows.
    pub(crate) fn error(
        &mut self,
        cx: &Context<'_>,
        reason: DropReason,
        counter: Counter,
        gateway: Option<Ipv4Addr>,
        build: impl FnOnce(Ipv4Addr) -> bool,
    ) -> Fate {
        let Some(gateway) = gateway else { return Fate::Drop(reason) };
        if !self.icmp_limit.take(cx.now) {
            self.count(cx, Counter::IcmpErrorsLimited, 1);
            return Fate::Drop(reason);
        }
        if !build(gateway) {
            return Fate::Drop(reason);
        }
        self.count(cx, counter, 1);
        Fate::Error(reason)
    }
}
