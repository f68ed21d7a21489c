//! Relate: an ICMP error that is about a packet of a session goes back to that packet's sender.
//!
//! The session is found by the quoted tuple turned round, at its owner. The error is translated outside and inside, so
//! that the sender recognises its own packet (RFC 5508 REQ-4, REQ-5; RFC 4787 REQ-12; RFC 5382 REQ-10). It may come from
//! any router on the way; routers behind a translated end show that end's translated address. Nothing of the session
//! changes: neither state nor stamp nor counters, since whoever knows the tuple can forge an error. Whether a sequence
//! number is in the window (RFC 5927 §4.1) is for the end to see, which knows; its number is translated for that. Of an inspected
//! session the stream engine knows as well, and hears of what is too long for a link ([`super::narrow`]).

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::key::Addrs;
use crate::packet::{Quoted, rewrite};
use crate::port::Port;
use crate::stage::{Context, Fate, Item, lookup, route};
use crate::worker::Local;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// The journey of an ICMP error.
    pub(crate) fn relate(&mut self, cx: &Context<'_>, item: &mut Item<P::Buf>) -> Result<Fate, DropReason> {
        let hit = match lookup::owner(cx, self.id, item) {
            lookup::Owner::Mine(hit) => hit,
            lookup::Owner::Other(worker) => return Ok(Fate::HandOff(worker)),
            lookup::Owner::Nobody => return Err(DropReason::IcmpErrorNoSession),
        };
        route::check_source(cx, item.parsed.src)?;
        // No error answers an error (RFC 1122 §3.2.2).
        if item.parsed.ttl <= 1 {
            return Err(DropReason::TtlExceeded);
        }
        let hop = route::of_session(cx, &hit)?;
        if cx.fib.interface(hop.interface).is_none_or(|egress| !route::fits(item, egress.mtu)) {
            return Err(DropReason::FragmentationNeeded);
        }
        // The error goes the way of the answers; the packet that it quotes went the other way.
        let answer = hit.session.key(hit.direction);
        let sent = hit.session.key(hit.direction.other());
        let (Addrs::V4(near, _), Addrs::V4(_, called)) = (answer.addrs, sent.addrs) else {
            return Err(DropReason::EthTypeUnsupported);
        };
        let from = if near == called { item.parsed.src } else { called };
        let quoted = Quoted::read(item.buf.bytes(), &item.parsed)?;
        if let Some(fate) = self.narrow(cx, &hit, item, &quoted)? {
            return Ok(fate);
        }
        let seq = quoted.seq(item.buf.bytes()).and_then(|seq| self.original_seq(&hit, hit.direction, seq));
        let frame = item.buf.bytes_mut();
        // Nothing goes on half translated.
        if !quoted.translate(frame, &item.parsed, from, &sent, seq)
            || !rewrite::decrement_ttl(frame, &item.parsed)
        {
            return Err(DropReason::IcmpErrorTruncated);
        }
        let fate = route::finish(cx, &hop, &mut item.buf)?;
        self.count(cx, Counter::IcmpErrorsRelated, 1);
        Ok(fate)
    }
}
