//! Gather: the fragments of a datagram, until it is whole. From then on it is a packet like any other.
//!
//! All fragments of one datagram meet at one worker, which their addresses, identification and protocol choose, since only the
//! first has the ports. The whole datagram then goes to the owner of its session.

use crate::buf::{BufPool, Packet, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::heap::HeapPool;
use crate::key::{Addrs, FlowKey, InterfaceId, ZoneId};
use crate::packet::fragment::MAX_DATAGRAM;
use crate::packet::{ETHERNET_LEN, Fragment};
use crate::port::Port;
use crate::reassembly::{Added, Reassembly};
use crate::stage::{Context, Item};
use crate::worker::Local;

/// Large buffers of one worker: those of the datagrams that are on their way to another, and one for itself.
const LARGE: usize = 32;

/// Fragments, and the buffers that whole datagrams need.
pub(crate) struct Gathering {
    pub(crate) table: Reassembly,
    pub(crate) large: HeapPool,
}

impl Gathering {
    pub(crate) fn new(chunks: u32) -> Self {
        Self { table: Reassembly::new(chunks), large: HeapPool::reserved(LARGE, ETHERNET_LEN + MAX_DATAGRAM) }
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Takes in a fragment whose datagram meets here. Gives the datagram if it is complete.
    pub(crate) fn gather(
        &mut self,
        cx: &Context<'_>,
        (ingress, scope): (InterfaceId, ZoneId),
        fragment: &Fragment,
        buf: &P::Buf,
    ) -> Option<Item<P::Buf>> {
        let counters = &cx.shared.lane(self.id)?.counters;
        let dropped = &mut |reason: DropReason, n: usize| counters.drop(reason, n as u64);
        let source = FlowKey {
            addrs: Addrs::V4(fragment.src, 0),
            sport: 0,
            dport: 0,
            protocol: fragment.protocol,
            scope,
        };
        let source = cx.shared.table.hash(&source);
        let Gathering { table, large } = &mut self.gathering;
        let slot = match table.add(cx.now, (ingress, scope), source, fragment, buf.bytes(), dropped) {
            Added::Complete(slot) => slot,
            Added::Kept | Added::Refused => return None,
        };
        let Some(mut buf) = large.alloc() else {
            table.discard(slot, DropReason::FragmentTableFull, dropped);
            return None;
        };
        let whole = table.assemble(slot, &mut buf, dropped).ok()?;
        counters.add(Counter::FragmentsJoined, whole.fragments as u64);
        counters.add(Counter::DatagramsReassembled, 1);
        self.understand(cx, whole.ingress, 0, whole.longest, Packet::Large(buf))
    }

    /// Gives up the datagrams whose rest has not come.
    pub(crate) fn give_up_fragments(&mut self, cx: &Context<'_>) {
        if self.gathering.table.is_empty() {
            return;
        }
        let Some(lane) = cx.shared.lane(self.id) else { return };
        self.gathering.table.expire(cx.now, cx.policy.timeouts.fragment, &mut |reason, n| {
            lane.counters.drop(reason, n as u64);
        });
    }

    /// Unfinished datagrams, chunks of their bytes, and large buffers that are out, for tests.
    #[must_use]
    pub fn gathered(&self) -> (usize, usize, usize) {
        let (datagrams, chunks) = self.gathering.table.held();
        (datagrams, chunks, self.gathering.large.live())
    }

    /// Makes room behind a packet: one that its buffer has no room for moves to a large one. False if there is none; the
    /// packet is as it was.
    pub(crate) fn make_room(&mut self, packet: &mut Packet<P::Buf>, more: usize) -> bool {
        if packet.tailroom() >= more {
            return true;
        }
        let frame = packet.bytes();
        let Some(mut large) = self.gathering.large.alloc() else { return false };
        if !large.append(frame.len()) || large.tailroom() < more {
            return false;
        }
        large.bytes_mut().copy_from_slice(frame);
        *packet = Packet::Large(large);
        true
    }
}
