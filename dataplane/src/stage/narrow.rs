//! Narrow: an ICMP error says that a segment of an inspected session is too long for a link further on.
//!
//! The stream engine makes segments of its own, and repeats what was acknowledged to its sender: such an error is for it to hear
//! of ([`crate::stream::machine`]). Whoever knows the tuple can forge one, so that it must quote what is on its way
//! (RFC 5927 §4.1); of a session that is not inspected only the sender knows that.

use super::inspect::path;
use crate::buf::{BufPool, PacketBuf};
use crate::drop_reason::DropReason;
use crate::packet::Quoted;
use crate::port::Port;
use crate::stage::publish::side;
use crate::stage::{Context, Fate, Hit, Item, emit};
use crate::stream::segment::Tally;
use crate::stream::{Narrowed, TooLong};
use crate::worker::Local;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Has the stream engine hear of an error that travels as `hit` does. None: it goes on to the sender of what it quotes.
    pub(super) fn narrow(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        item: &Item<P::Buf>,
        quoted: &Quoted,
    ) -> Result<Option<Fate>, DropReason> {
        let frame = item.buf.bytes();
        let Some((seq, mtu)) = quoted.seq(frame).zip(quoted.next_hop_mtu(frame, &item.parsed)) else {
            return Ok(None);
        };
        let Some(slot) = hit.session.alg_slot() else { return Ok(None) };
        let (limits, way) = (cx.policy.streams, path(cx, hit));
        let error = TooLong { seq, len: quoted.most_payload(frame), room: mtu.saturating_sub(emit::HEADERS) };
        let from = side(hit.direction).other();
        let Some(mut departures) = self.scratch.departures.take() else { return Ok(None) };
        let mut tally = Tally::default();
        let stream = self.algs.get_mut(slot).map(|(inspected, _)| &mut inspected.stream);
        let narrowed = stream.map(|s| s.narrow(&limits, &way, from, &error, &mut departures, &mut tally));
        self.count_tally(cx, &tally);
        if tally.narrowed > 0 {
            self.make(cx, hit, slot, &departures);
        }
        self.scratch.departures = Some(departures);
        match narrowed {
            Some(Narrowed::Unknown) => Err(DropReason::IcmpErrorSequence),
            Some(Narrowed::Ours) => Ok(Some(Fate::TakenIn)),
            Some(Narrowed::Theirs) | None => Ok(None),
        }
    }
}
