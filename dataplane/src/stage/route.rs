//! Route: the next hop of the translated destination, TTL and MTU.
//!
//! It is found before the packet is changed, so that an ICMP error quotes the packet as its sender sent it. The L2 header
//! is written last.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::fib::Lookup;
use crate::key::{Addrs, InterfaceId, ZoneId};
use crate::packet::{Parsed, icmp_error};
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
        Lookup::Broadcast => Err(DropReason::Ipv4DirectedBroadcast),
        Lookup::None => Err(DropReason::NoRoute),
    }
}

/// Nothing comes from the gateway's own addresses, nor from broadcast addresses of its networks (RFC 1812 §5.3.7).
pub(crate) fn check_source(cx: &Context<'_>, source: u32) -> Result<(), DropReason> {
    match cx.fib.lookup(source) {
        Lookup::Local(_) => Err(DropReason::Ipv4SourceOurs),
        Lookup::Broadcast => Err(DropReason::Ipv4SourceInvalid),
        Lookup::Forward { .. } | Lookup::None => Ok(()),
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

/// Whether a packet can leave through a link of this MTU: as it is, or in fragments. One that came in fragments with "don't
/// fragment" may leave in such as it came in.
pub(crate) const fn fits<B>(item: &Item<B>, mtu: u16) -> bool {
    item.parsed.ip_len <= mtu || !item.parsed.df || item.longest <= mtu
}

/// Writes the L2 header, if the neighbour is known.
pub(crate) fn finish<B: PacketBuf>(cx: &Context<'_>, hop: &NextHop, buf: &mut B) -> Result<Fate, DropReason> {
    address(cx, hop, buf.bytes_mut())
}

/// The same of a frame.
pub(crate) fn address(cx: &Context<'_>, hop: &NextHop, frame: &mut [u8]) -> Result<Fate, DropReason> {
    let Some(mac) = hop.mac else {
        return Ok(Fate::Wait { interface: hop.interface, next_hop: hop.next_hop });
    };
    let ours = cx.fib.interface(hop.interface).ok_or(DropReason::TxNoPort)?.mac;
    let Some(header) = frame.first_chunk_mut::<12>() else { return Err(DropReason::EthTruncated) };
    let (destination, source) = header.split_at_mut(6);
    destination.copy_from_slice(&mac);
    source.copy_from_slice(&ours);
    Ok(Fate::Send(hop.interface))
}

/// Who tells the sender of a packet that came in on an interface of an error. None if no error may be sent about it.
pub(crate) fn speaker(
    cx: &Context<'_>,
    ingress: InterfaceId,
    frame: &[u8],
    parsed: &Parsed,
) -> Option<Ipv4Addr> {
    let (called, sender) = (Ipv4Addr::from_bits(parsed.dst), Ipv4Addr::from_bits(parsed.src));
    icmp_error::may_answer(frame, parsed).then(|| cx.fib.speaks_as(ingress, called, sender)).flatten()
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// RFC 1812 §5.3.1: a packet whose TTL ends here is answered, not forwarded.
    pub(crate) fn check_ttl(&mut self, cx: &Context<'_>, item: &mut Item<P::Buf>) -> Option<Fate> {
        if item.parsed.ttl > 1 {
            return None;
        }
        let gateway = speaker(cx, item.ingress, item.buf.bytes(), &item.parsed);
        Some(self.error(cx, DropReason::TtlExceeded, Counter::IcmpErrors, gateway, |gw| {
            icmp_error::time_exceeded(&mut item.buf, &item.parsed, gw)
        }))
    }

    /// RFC 1191 §4: what does not fit the next link and must not be fragmented is answered with that link's MTU.
    pub(crate) fn check_mtu(
        &mut self,
        cx: &Context<'_>,
        egress: InterfaceId,
        item: &mut Item<P::Buf>,
    ) -> Option<Fate> {
        let mtu = cx.fib.interface(egress)?.mtu;
        if fits(item, mtu) {
            return None;
        }
        let gateway = speaker(cx, item.ingress, item.buf.bytes(), &item.parsed);
        Some(self.error(cx, DropReason::FragmentationNeeded, Counter::IcmpErrors, gateway, |gw| {
            icmp_error::fragmentation_needed(&mut item.buf, &item.parsed, gw, mtu)
        }))
    }

    /// Drops a packet that cannot be delivered, and says so to its sender where its zone wants that: "destination
    /// unreachable" with a code of RFC 792 (RFC 1812 §5.2.7.1).
    pub(crate) fn unreachable(
        &mut self,
        cx: &Context<'_>,
        reason: DropReason,
        code: u8,
        (ingress, zone): (InterfaceId, ZoneId),
        (buf, parsed): (&mut impl PacketBuf, &Parsed),
    ) -> Fate {
        let wanted = cx.policy.zone(zone).unreachables;
        let gateway = wanted.then(|| speaker(cx, ingress, buf.bytes(), parsed)).flatten();
        self.error(cx, reason, Counter::IcmpErrors, gateway, |gw| {
            icmp_error::unreachable(buf, parsed, gw, code)
        })
    }

    /// The next hop of a session's packet; where its route is gone, its sender is told.
    pub(crate) fn route(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        item: &mut Item<P::Buf>,
    ) -> Result<NextHop, Fate> {
        of_session(cx, hit).map_err(|reason| self.no_route(cx, reason, item))
    }

    /// What becomes of a packet without a next hop.
    pub(crate) fn no_route(&mut self, cx: &Context<'_>, reason: DropReason, item: &mut Item<P::Buf>) -> Fate {
        match reason {
            DropReason::NoRoute => {
                let from = (item.ingress, item.key.scope);
                self.unreachable(cx, reason, icmp_error::NET, from, (&mut item.buf, &item.parsed))
            }
            reason => Fate::Drop(reason),
        }
    }

    /// Turns a packet into an ICMP error, or a reset, if there is somebody to send it and the rate allows: what is never
    /// answered takes nothing from those who are.
    pub(crate) fn error<S>(
        &mut self,
        cx: &Context<'_>,
        reason: DropReason,
        counter: Counter,
        speaker: Option<S>,
        build: impl FnOnce(S) -> bool,
    ) -> Fate {
        let Some(speaker) = speaker else { return Fate::Drop(reason) };
        if !self.icmp_limit.take(cx.now) {
            self.count(cx, Counter::IcmpErrorsLimited, 1);
            return Fate::Drop(reason);
        }
        if !build(speaker) {
            return Fate::Drop(reason);
        }
        self.count(cx, counter, 1);
        Fate::Error(reason)
    }
}
