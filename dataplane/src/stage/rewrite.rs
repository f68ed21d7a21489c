//! Rewrite: header translation, TTL, incremental checksums.

use crate::buf::PacketBuf;
use crate::drop_reason::DropReason;
use crate::key::Addrs;
use crate::packet::rewrite;
use crate::session::record::FLAG_NAT;
use crate::stage::{Hit, Item};

/// Puts the session's other side into the headers and takes one from the TTL.
pub(crate) fn rewrite<B: PacketBuf>(hit: &Hit<'_>, item: &mut Item<B>) -> Result<(), DropReason> {
    let frame = item.buf.bytes_mut();
    let parsed = &item.parsed;
    // Nothing is forwarded untranslated by accident: a rewrite that does not fit drops the packet.
    let untranslated = DropReason::Ipv4Truncated;
    if hit.session.flags() & FLAG_NAT != 0 {
        // The answer to this packet arrives as the other key says; what leaves is that key turned round.
        let answer = hit.session.key(hit.direction.other());
        let Addrs::V4(destination, source) = answer.addrs else { return Err(DropReason::EthTypeUnsupported) };
        if (source, answer.dport) != (parsed.src, parsed.sport)
            && !rewrite::set_source(frame, parsed, source, answer.dport)
        {
            return Err(untranslated);
        }
        if (destination, answer.sport) != (parsed.dst, parsed.dport)
            && !rewrite::set_destination(frame, parsed, destination, answer.sport)
        {
            return Err(untranslated);
        }
    }
    if rewrite::decrement_ttl(frame, parsed) { Ok(()) } else { Err(DropReason::TtlExceeded) }
}
