//! The stages of the journey, one file each, named by their verb. Their order is [`crate::worker::Local::journey`].

pub mod admit;
pub mod aggregate;
pub mod announce;
pub mod answer;
pub mod child;
pub mod datagram;
pub mod depart;
pub mod detect;
pub mod emit;
pub mod filter;
pub mod forward;
pub mod gather;
pub mod inspect;
pub mod let_go;
pub mod lookup;
pub mod mode;
pub mod narrow;
pub mod obey;
pub mod open;
pub mod pick_up;
pub mod pinhole;
pub mod publish;
pub mod queue;
pub mod receive;
pub mod refuse;
pub mod relate;
pub mod rewrite;
pub mod route;
pub mod seats;
pub mod share;
pub mod tally;
pub mod track;

use crate::buf::{Packet, PacketBuf};
use crate::event::Ref;
use crate::fib::Fib;
use crate::key::{FlowKey, InterfaceId, Tick, WorkerId, ZoneId};
use crate::packet::Parsed;
use crate::policy::Policy;
use crate::session::Session;
use crate::shared::Shared;
use crate::table::{Direction, Hash};
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// A packet and what is known of it.
pub struct Item<B> {
    /// The packet.
    pub buf: Packet<B>,
    /// Of a datagram that came in fragments: the longest of them, in bytes of IP. [`UNFRAGMENTED`] of any other.
    pub longest: u16,
    /// Where it came in.
    pub ingress: InterfaceId,
    /// Its headers.
    pub parsed: Parsed,
    /// Its key. Of an ICMP error: that of the packets that answer the one it is about.
    pub key: FlowKey,
    /// The flow table's hash of its key.
    pub hash: Hash,
    /// The session that it was found to belong to.
    pub target: Option<(Ref, Direction)>,
    /// How often it was handed on.
    pub hops: u8,
    /// How it arrived, if it will wait for its next hop.
    pub original: Option<Original>,
}

/// [`Item::longest`] of a packet that came as one.
pub const UNFRAGMENTED: u16 = u16::MAX;

/// What is kept of a packet as it arrived: enough to tell its sender that it could not be delivered.
#[derive(Clone, Debug)]
pub struct Original {
    /// Where it came in.
    pub ingress: InterfaceId,
    /// The zone that it came from.
    pub zone: ZoneId,
    /// Its headers.
    pub parsed: Parsed,
    /// The start of its frame.
    pub head: ArrayVec<u8, MOST_KEPT>,
}

/// Bytes that are kept of a packet that waits: Ethernet, the longest IPv4 header, and more than the eight bytes behind
/// it that an ICMP error must quote (RFC 792).
pub const MOST_KEPT: usize = 128;

impl Original {
    /// Of a packet that nothing was changed in yet. None for an ICMP error, about which nobody is told.
    pub(crate) fn of<B: PacketBuf>(item: &Item<B>) -> Option<Self> {
        let frame = item.buf.bytes();
        let mut head = ArrayVec::new();
        head.try_extend_from_slice(frame.get(..MOST_KEPT).unwrap_or(frame)).ok()?;
        let keep = !item.parsed.is_icmp_error();
        keep.then(|| Self { ingress: item.ingress, zone: item.key.scope, parsed: item.parsed, head })
    }
}

/// What a stage may look at.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Arenas, tables, registry.
    pub shared: &'a Shared,
    /// Policy of this burst.
    pub policy: &'a Policy,
    /// FIB of this burst.
    pub fib: &'a Fib,
    /// Time of this burst.
    pub now: Tick,
}

/// A packet's session, which this worker owns.
#[derive(Clone, Copy)]
pub struct Hit<'a> {
    /// The record.
    pub session: &'a Session,
    /// Its name.
    pub id: Ref,
    /// Whose packet it is.
    pub direction: Direction,
}

/// Where a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Egress.
    pub interface: InterfaceId,
    /// Neighbour.
    pub next_hop: Ipv4Addr,
    /// Its MAC address, if known.
    pub mac: Option<[u8; 6]>,
}

/// What becomes of a packet that is not dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Out of this interface, its L2 header written.
    Send(InterfaceId),
    /// It waits for its next hop's MAC address.
    Wait {
        /// Egress.
        interface: InterfaceId,
        /// Neighbour.
        next_hop: Ipv4Addr,
    },
    /// To the worker that owns the flow.
    HandOff(WorkerId),
    /// The stream engine has taken it in: its bytes wait, or were there already.
    TakenIn,
    /// It became our answer and goes back where it came from.
    Answer,
    /// It is dropped.
    Drop(crate::drop_reason::DropReason),
    /// It is dropped, and its buffer became a reset that goes on.
    Reset {
        /// Egress.
        egress: InterfaceId,
        /// Why.
        reason: crate::drop_reason::DropReason,
    },
    /// It is dropped, and its buffer became an error message that goes back where it came from.
    Error(crate::drop_reason::DropReason),
}
