//! What workers tell the control core over bounded rings. Lossy: a full ring counts and goes on. Opening and closing
//! of sessions do not pass here; control reads those from the arena itself.

use crate::drop_reason::DropReason;
use crate::key::{FlowKey, InterfaceId, Tick, ZoneId};
use crate::policy::RuleId;
use crate::stream::segment::Bound;
use crate::view::ExpectationClass;
use alg::{Application, Blindness, Denial, Endpoint, Fact, Side};
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// A session or expectation by index and version; the version tells whether the index still means the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ref {
    /// Index in its arena.
    pub index: u32,
    /// Version of that slot.
    pub version: u32,
}

/// An event.
#[derive(Clone, Debug)]
pub enum Event {
    /// An ALG read (and perhaps rewrote) a message.
    AlgMessage {
        /// The control session.
        session: Ref,
        /// What it is.
        application: Application,
        /// The message.
        fact: Fact,
        /// Nothing of it was done: it went on as it came.
        watched: bool,
    },
    /// An ALG refused a message: it was answered for the other end, or a datagram was dropped, or a TCP session reset.
    AlgDenied {
        /// The control session.
        session: Ref,
        /// What it is.
        application: Application,
        /// Why.
        denial: Denial,
        /// The rule of the command policy that decided, if one did, by its number.
        rule: Option<u16>,
        /// Nothing was refused: the message went on.
        watched: bool,
    },
    /// What a session said has shown what it is, on a port that is no protocol's: its ALG reads it from its first byte, or from behind
    /// a greeting that did not say enough.
    AlgBound {
        /// The session.
        session: Ref,
        /// What it is.
        application: Application,
    },
    /// An ALG cannot read its session any more, which goes on without it.
    AlgBlind {
        /// The session.
        session: Ref,
        /// What it was taken for.
        application: Application,
        /// Why.
        why: Blindness,
    },
    /// A segment repeated bytes of an inspected session and said something else than their first copy, which is what went on.
    /// Told once a session.
    AlgStreamConflict {
        /// The session.
        session: Ref,
        /// What it is.
        application: Application,
        /// Who sent it.
        from: Side,
    },
    /// Bytes of an inspected session found no room: their sender repeats them. Told once a session, and rate-limited at the
    /// worker.
    AlgStreamNoRoom {
        /// The session.
        session: Ref,
        /// What it is.
        application: Application,
        /// Who sent them.
        from: Side,
        /// What was full.
        bound: Bound,
    },
    /// An ALG has no place for a session that it would read. Rate-limited at the worker.
    AlgNoPlace {
        /// Its first packet.
        key: FlowKey,
        /// What it would be.
        application: Application,
        /// Whether all places are taken, or its initiator has its share of them.
        reason: DropReason,
        /// It was not refused: it goes on unread.
        watched: bool,
    },
    /// A pinhole was opened.
    ExpectationOpened {
        /// The pinhole.
        expectation: Ref,
        /// Its parent.
        parent: Ref,
        /// What the child will be.
        application: Application,
        /// Who may open it.
        class: ExpectationClass,
        /// The endpoint that may open it; zeros where the class allows any.
        opener: Endpoint,
        /// Where the opener sends to; of a range its first port.
        published: Endpoint,
        /// Where that leads.
        listener: Endpoint,
        /// Of a range of ports the last, which begins at that of `listener`; else 0.
        last_port: u16,
        /// Who sent the message that asked for it.
        from: Side,
        /// Where that message starts in its stream, as in [`Fact::offset`]; 0 for a datagram.
        offset: u64,
    },
    /// A pinhole would have been opened, had its ALG not only watched.
    ExpectationWatched {
        /// Who would have been its parent.
        parent: Ref,
        /// What the child would have been.
        application: Application,
        /// Who might have opened it.
        class: ExpectationClass,
        /// The endpoint that might have opened it; zeros where the class allows any.
        opener: Endpoint,
        /// Where the opener sends to.
        published: Endpoint,
        /// Where that was to lead.
        listener: Endpoint,
        /// Who sent the message that asks for it.
        from: Side,
        /// Where that message starts in its stream, as in [`Fact::offset`]; 0 for a datagram.
        offset: u64,
    },
    /// A child came through a pinhole.
    ExpectationHit {
        /// The pinhole.
        expectation: Ref,
        /// Its parent.
        parent: Ref,
        /// The child.
        child: Ref,
    },
    /// A pinhole could not be opened.
    ExpectationRefused {
        /// The would-be parent.
        parent: Ref,
        /// What was full.
        reason: DropReason,
        /// It is a limit of the session's profile, and not the gateway's.
        by_profile: bool,
    },
    /// A packet was denied by policy. Rate-limited at the worker.
    Denied {
        /// The packet.
        key: FlowKey,
        /// Egress zone, if there was a route.
        to: Option<ZoneId>,
        /// The rule, or none for the default.
        rule: RuleId,
        /// Generation of the policy that denied it.
        generation: u32,
    },
    /// A worker needs the MAC address of a next hop.
    NeighborNeeded {
        /// Egress.
        interface: InterfaceId,
        /// The neighbour.
        next_hop: Ipv4Addr,
    },
}

/// An event with its time.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// When.
    pub at: Tick,
    /// What.
    pub event: Event,
}

/// Longest frame that a worker hands to control (ARP).
pub const MAX_PUNT: usize = 128;

/// A frame for the control core (ARP), or one of control's to be sent.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where it came in, or where it leaves.
    pub interface: InterfaceId,
    /// From the Ethernet header on.
    pub bytes: ArrayVec<u8, MAX_PUNT>,
}
