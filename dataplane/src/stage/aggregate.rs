//! Aggregate: TCP segments that a device has put together (LRO).
//!
//! One of a session that nobody reads, and that fits its way, goes it as one packet: found, translated and counted once. As
//! it leaves it is cut into the segments that it was put together from: by its egress device, or here. Any other is cut before
//! anything else, and its segments go the way of any packet: to an ALG, into an ICMP error, to where packets wait.

use crate::buf::{Aggregate, BufPool, Packet, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::handoff::{Ends, Parcel};
use crate::key::InterfaceId;
use crate::packet::Parsed;
use crate::packet::segments::{self, Segments};
use crate::port::Port;
use crate::session::record::FLAG_ALG;
use crate::stage::forward::Plan;
use crate::stage::lookup::{self, Owner};
use crate::stage::{Context, Fate, Hit, Item, UNFRAGMENTED, rewrite, route, track};
use crate::worker::Local;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Takes an aggregate on its way.
    pub(crate) fn carry_aggregate(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        (ingress, hops): (InterfaceId, u8),
        buf: P::Buf,
        aggregate: Aggregate,
    ) {
        let Some(interface) = cx.fib.interface(ingress) else {
            self.drop(cx, DropReason::TxNoPort, 1);
            return;
        };
        let sized =
            |parsed| if aggregate.segment > 0 { Ok(parsed) } else { Err(DropReason::AggregateInvalid) };
        let parsed = match segments::read(&buf, interface.mac).and_then(sized) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.drop(cx, reason, 1);
                return;
            }
        };
        let key = parsed.key(interface.zone);
        let hash = cx.shared.table.hash(&key);
        let buf = Packet::Port(buf);
        let mut item = Item {
            buf,
            longest: UNFRAGMENTED,
            ingress,
            parsed,
            key,
            hash,
            target: None,
            hops,
            original: None,
        };
        item.target = lookup::find(cx.shared, &item);
        let way = match lookup::owner(cx, self.id, &mut item) {
            Owner::Mine(hit) => self.as_one(cx, &hit, &mut item, aggregate.segment),
            Owner::Other(worker) => {
                if let Packet::Port(buf) = item.buf {
                    self.hand_off(cx, grid, worker, Parcel { buf, plan: Plan::default(), ingress, hops });
                }
                return;
            }
            Owner::Nobody => Ok(None),
        };
        self.count(cx, Counter::Aggregates, 1);
        let Packet::Port(buf) = item.buf else { return };
        match way {
            Ok(Some(egress)) => self.send_aggregate(cx, egress, buf, &parsed, aggregate),
            Ok(None) => {
                self.cut_aggregate(cx, &buf, &parsed, aggregate.segment, false, |this, segment| {
                    this.long_way(cx, grid, ingress, hops, segment);
                });
            }
            Err(reason) => self.drop(cx, reason, 1),
        }
    }

    /// Translates an aggregate and writes its L2 header, if it can go on as one packet. None, and nothing changed, if not.
    fn as_one(
        &self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        item: &mut Item<P::Buf>,
        segment: u16,
    ) -> Result<Option<InterfaceId>, DropReason> {
        let parsed = item.parsed;
        if hit.session.flags() & FLAG_ALG != 0
            || parsed.ttl <= 1
            || !cx.policy.zone(item.key.scope).ip_options.contain(parsed.options)
        {
            return Ok(None);
        }
        let Ok(hop) = route::of_session(cx, hit) else { return Ok(None) };
        let mtu = cx.fib.interface(hop.interface).map_or(0, |interface| interface.mtu);
        let longest = parsed.ip_len - parsed.payload_len + parsed.payload_len.min(segment);
        if hop.mac.is_none() || longest > mtu {
            return Ok(None);
        }
        let Ok(state) = track::track(hit, item) else { return Ok(None) };
        rewrite::rewrite(hit, item)?;
        track::settle(cx, hit, state);
        hit.session.touch(hit.direction, u32::from(parsed.ip_len), cx.now);
        match route::finish(cx, &hop, &mut item.buf)? {
            Fate::Send(egress) => Ok(Some(egress)),
            _ => Err(DropReason::NeighborUnresolved),
        }
    }

    /// Sends an aggregate that is ready to leave: to a device that cuts it, or in segments.
    fn send_aggregate(
        &mut self,
        cx: &Context<'_>,
        egress: InterfaceId,
        mut buf: P::Buf,
        parsed: &Parsed,
        aggregate: Aggregate,
    ) {
        let port = self.port_to(cx, egress);
        let leave = port.is_some_and(Port::fills_checksums);
        // One that is a single segment after all is none for a device.
        let several = parsed.payload_len > aggregate.segment;
        if several && port.is_some_and(|port| port.cuts(aggregate)) && buf.leave_whole() {
            self.count(cx, Counter::Forwarded, 1);
            self.count(cx, Counter::AggregatesSent, 1);
            self.transmit(cx, egress, buf);
            return;
        }
        let whole = self.cut_aggregate(cx, &buf, parsed, aggregate.segment, leave, |this, segment| {
            this.transmit(cx, egress, segment);
        });
        if whole {
            self.count(cx, Counter::Forwarded, 1);
        }
    }

    /// Cuts an aggregate, and does something with each segment. False, and the loss is counted, if not all of them could be
    /// made.
    fn cut_aggregate(
        &mut self,
        cx: &Context<'_>,
        whole: &P::Buf,
        parsed: &Parsed,
        size: u16,
        leave: bool,
        mut each: impl FnMut(&mut Self, P::Buf),
    ) -> bool {
        let Some(mut segments) = Segments::of(whole, parsed, size) else {
            self.drop(cx, DropReason::AggregateInvalid, 1);
            return false;
        };
        // Each turn takes a byte or more of it.
        while !segments.is_done() {
            let Some(mut buf) = self.pool.alloc() else {
                self.drop(cx, DropReason::SegmentsNoBuffer, 1);
                return false;
            };
            if !segments.fill(whole, &mut buf, leave) {
                // Its sender's packets are longer than any that come in here.
                self.drop(cx, DropReason::AggregateInvalid, 1);
                return false;
            }
            self.count(cx, Counter::AggregateSegments, 1);
            each(self, buf);
        }
        true
    }
}
