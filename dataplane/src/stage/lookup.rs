//! Lookup: which session a packet belongs to, and who owns it.
//!
//! Packets from other workers come in bursts and are looked up in two passes: tags choose a session and ask for its first
//! line; keys decide. Received packets that go the long way are looked up one by one: [`crate::stage::forward`] has asked
//! for what that touches.

use crate::event::Ref;
use crate::key::WorkerId;
use crate::packet::flag;
use crate::shared::Shared;
use crate::stage::{Batch, Context, Hit, Item};
use crate::table::Direction;
use crate::view::State;

/// Who has a packet's session.
pub(crate) enum Owner<'a> {
    /// This worker.
    Mine(Hit<'a>),
    /// Another one.
    Other(WorkerId),
    /// Nobody: there is none.
    Nobody,
}

/// Finds the sessions of a burst.
pub(crate) fn lookup<B>(cx: &Context<'_>, batch: &mut Batch<B>) {
    let table = &cx.shared.table;
    for item in batch.iter() {
        if item.target.is_none() {
            // The first entry with the right tag is almost always the one.
            let _ = table.find(item.hash, |entry| {
                if let Some(session) = cx.shared.arena.get(entry.index) {
                    crate::prefetch(session);
                }
                true
            });
        }
    }
    for item in batch.iter_mut() {
        if item.target.is_none() {
            item.target = find(cx.shared, item);
        }
    }
}

/// Finds one packet's session.
pub(crate) fn find<B>(shared: &Shared, item: &Item<B>) -> Option<(Ref, Direction)> {
    let mut version = 0;
    let entry = shared.table.find(item.hash, |entry| {
        shared.arena.get(entry.index).is_some_and(|session| {
            version = session.version();
            session.matches(entry.direction, &item.key)
        })
    })?;
    Some((Ref { index: entry.index, version }, entry.direction))
}

/// Resolves the session that lookup found, or looks again if it is gone: it may have been closed, or its index reused,
/// while the packet was on its way from another worker.
pub(crate) fn owner<'a, B>(cx: &Context<'a>, me: WorkerId, item: &mut Item<B>) -> Owner<'a> {
    for _ in 0..2 {
        let Some((id, direction)) = item.target else { break };
        if let Some(session) = cx.shared.arena.resolve(id)
            && session.matches(direction, &item.key)
        {
            let owner = session.owner();
            if owner != me {
                return Owner::Other(owner);
            }
            if session.state() != State::Closed {
                return Owner::Mine(Hit { session, id, direction });
            }
        }
        item.target = find(cx.shared, item);
        if item.target.is_some_and(|(again, _)| again == id) {
            break;
        }
    }
    item.target = None;
    Owner::Nobody
}

/// A new connection on the tuple of one that has ended: the initiator may reuse it (RFC 9293 §3.6.1, RFC 6191).
pub(crate) fn reopens<B>(hit: &Hit<'_>, item: &Item<B>) -> bool {
    hit.direction == Direction::Forward
        && item.parsed.tcp_flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
        && matches!(hit.session.state(), State::TcpTimeWait | State::TcpReset)
}
