//! A flow that its ALG, or a bound, refuses: a reset to each end, and again to whoever has not taken it.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::key::Protocol;
use crate::packet::{reset, rewrite as fields};
use crate::port::Port;
use crate::stage::inspect::verify;
use crate::stage::publish::side;
use crate::stage::{Context, Fate, Hit, Item, MOST_KEPT, NextHop, emit, rewrite, route};
use crate::view::{CloseReason, State};
use crate::worker::Local;
use alg::Denial;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Refuses the flow: resets both ends, closes the session for all but its record.
    pub(super) fn refuse(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
        denial: Denial,
    ) -> Result<Fate, DropReason> {
        let dropped = DropReason::AlgDenied;
        hit.session.set_state(State::TcpReset);
        hit.session.set_close_reason(CloseReason::AlgDenied);
        cx.shared.arena.mark(hit.id.index);
        self.count(cx, Counter::AlgDenied, 1);
        self.report_denied(cx, hit, denial);

        // To the sender, in its own spaces: the packet as it came, turned round.
        let frame = item.buf.bytes();
        let head = frame.get(..MOST_KEPT).unwrap_or(frame);
        if let Some(mut reply) = self.copy_of(cx, head)
            && reset::reset_reply(&mut reply, &item.parsed)
        {
            self.transmit(cx, item.ingress, reply);
        }
        // To the addressee, in the spaces that it knows.
        let slot = hit.session.alg_slot().ok_or(dropped)?;
        let mut departures = self.scratch.departures.take().ok_or(dropped)?;
        let numbers = self.algs.get_mut(slot).map(|(inspected, chunks)| {
            let numbers = inspected.stream.depart_refused(side(hit.direction), &mut departures);
            inspected.stream.clear(chunks);
            numbers
        });
        // Nothing of it waits any more, nor counts as its hosts'.
        self.algs.note(slot);
        self.make(cx, hit, slot, &departures);
        self.scratch.departures = Some(departures);
        let (seq, ack) = numbers.ok_or(dropped)?;
        let built = fields::set_seq_ack(item.buf.bytes_mut(), &item.parsed, seq, ack)
            && rewrite::rewrite(hit, item).is_ok()
            && reset::reset_forward(&mut item.buf, &item.parsed);
        if !built {
            return Err(dropped);
        }
        match route::finish(cx, hop, &mut item.buf) {
            Ok(Fate::Send(egress)) => Ok(Fate::Reset { egress, reason: dropped }),
            _ => Err(dropped),
        }
    }

    /// A segment that tracking has refused. Of a connection that the gateway has reset, an end that goes on has not taken that: the
    /// reset was lost, or was not exact where it stands, and it asks (RFC 5961 §3.2). It is told again at the number that it
    /// acknowledges, as by a closed port (RFC 9293 §3.10.7.1). The session is as old as it was.
    ///
    /// # Errors
    /// It is dropped for `reason`, or for a wrong checksum.
    #[cold]
    pub(crate) fn refuse_again(
        &mut self,
        hit: &Hit<'_>,
        item: &mut Item<P::Buf>,
        reason: DropReason,
    ) -> Result<Fate, DropReason> {
        let refused =
            hit.session.close_reason() == CloseReason::AlgDenied && item.parsed.protocol == Protocol::Tcp;
        let slot = hit.session.alg_slot().filter(|_| refused).ok_or(reason)?;
        verify(item)?;
        let segment = emit::segment(side(hit.direction), &item.parsed, item.buf.bytes());
        let (inspected, _) = self.algs.get_mut(slot).ok_or(reason)?;
        if inspected.stream.is_told_again(&segment) && reset::reset_reply(&mut item.buf, &item.parsed) {
            return Ok(Fate::Reset { egress: item.ingress, reason });
        }
        Err(reason)
    }
}
