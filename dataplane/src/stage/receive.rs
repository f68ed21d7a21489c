//! Receive: frames from a port, parsed, to items. ARP goes to the control core.

use crate::buf::PacketBuf;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Frame;
use crate::key::InterfaceId;
use crate::packet::{Parse, parse};
use crate::port::{Burst, Port};
use crate::stage::{Batch, Context, Item};
use crate::worker::Local;

impl<P: Port, A: crate::buf::BufPool<Buf = P::Buf>> Local<P, A> {
    /// Parses a burst. Every frame becomes an item, goes to control, or is dropped and counted.
    pub(crate) fn receive(
        &mut self,
        cx: &Context<'_>,
        ingress: InterfaceId,
        burst: &mut Burst<P::Buf>,
        batch: &mut Batch<P::Buf>,
    ) {
        let Some(interface) = cx.fib.interface(ingress) else {
            self.drop(cx, DropReason::TxNoPort, burst.len());
            burst.clear();
            return;
        };
        let mut bytes = 0u64;
        for mut buf in burst.drain(..) {
            bytes += buf.bytes().len() as u64;
            if !buf.is_linear() {
                self.drop(cx, DropReason::NotLinear, 1);
                continue;
            }
            match parse(buf.bytes(), interface.mac) {
                Parse::Drop(reason) => self.drop(cx, reason, 1),
                Parse::Arp => self.punt(cx, ingress, &buf),
                Parse::Ip(parsed) => {
                    // What the frame has behind the IP packet is padding: it must not travel on.
                    let padding = buf.bytes().len().saturating_sub(parsed.frame_len());
                    if !buf.trim_back(padding) {
                        self.drop(cx, DropReason::Ipv4TotalLength, 1);
                        continue;
                    }
                    let key = parsed.key(interface.zone);
                    let hash = cx.shared.table.hash(&key);
                    cx.shared.table.prefetch(hash);
                    // The batch has room for the burst.
                    let _ = batch.try_push(Item { buf, ingress, parsed, key, hash, target: None, hops: 0 });
                }
            }
        }
        self.count(cx, Counter::RxBytes, bytes);
    }

    fn punt(&mut self, cx: &Context<'_>, interface: InterfaceId, buf: &P::Buf) {
        let Some(lane) = cx.shared.lane(self.id) else { return };
        let head = buf.bytes().get(..crate::event::MAX_PUNT).unwrap_or(buf.bytes());
        let mut frame = Frame { interface, bytes: arrayvec::ArrayVec::new() };
        let copied = frame.bytes.try_extend_from_slice(head).is_ok();
        if copied && lane.punts.push(frame).is_ok() {
            lane.counters.add(Counter::Punted, 1);
        } else {
            lane.counters.add(Counter::PuntsLost, 1);
        }
    }
}
