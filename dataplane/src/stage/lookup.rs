//! Lookup: which session a packet belongs to, and who owns it.
//!
//! For packets that go the long way, one by one: [`crate::stage::forward`] has asked for what that touches.

use crate::event::Ref;
use crate::key::WorkerId;
use crate::packet::flag;
use crate::shared::Shared;
use crate::stage::{Context, Hit, Item};
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

/// Resolves the session that lookup found, or looks again if it is gone: its owner may have closed it meanwhile, and its
/// index may be another's.
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
