//! Forward: the whole journey of the common packet in one straight line.
//!
//! A packet of an uninspected IPv4 TCP or UDP session that this worker owns, with plain headers and a known next hop,
//! needs of every stage only one answer each. This stage gives all of them from the packet's first 54 bytes
//! and the session's first cache line, a burst at a time:
//!
//! 1. *read*: header words, the hash, prefetch of the first bucket;
//! 2. *seek*: the tag in the first bucket, then in the second; prefetch of the session;
//! 3. *carry*: compare the key, find the next state, translate, count, write the L2 header.
//!
//! A packet whose tag is in neither bucket is a flow's first: [`crate::stage::open`] has a straight line for those.
//!
//! Whatever is not so goes the long way ([`crate::worker::Local::journey`]) at its place in the burst, so that packets of
//! one flow are never reordered. Both ways must give the same packet; a property test compares them.

use crate::buf::PacketBuf;
use crate::drop_reason::DropReason;
use crate::event::Ref;
use crate::fib::{AdjacencyId, Lookup};
use crate::key::{Addrs, FlowKey, InterfaceId, Protocol, WorkerId, ZoneId};
use crate::packet::{ETHERNET_LEN, ETHERTYPE_IPV4, IPV4_LEN, TCP_LEN, UDP_LEN};
use crate::port::BURST;
use crate::session::Session;
use crate::session::record::{FLAG_ALG, STATE_MASK};
use crate::shared::Shared;
use crate::stage::track::{self, Move};
use crate::stage::{Context, Hit};
use crate::table::{Direction, Entry, Hash, Seek};

/// Bytes of the headers that are read: Ethernet, IPv4 without options, TCP without options.
const HEADERS: usize = ETHERNET_LEN + IPV4_LEN + TCP_LEN;
/// `EtherType` IPv4, then version 4 with five words of header, as they stand in a frame.
const PLAIN_IPV4: u32 = {
    let [a, b] = ETHERTYPE_IPV4.to_be_bytes();
    u32::from_le_bytes([a, b, 0x45, 0])
};
const TCP: u8 = Protocol::Tcp as u8;
const UDP: u8 = Protocol::Udp as u8;

/// Which way a packet takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing is known: the long way.
    #[default]
    Long,
    /// To the session that its tag led to.
    Known,
    /// No session has its tag: perhaps it begins one.
    First,
}

/// What is known of one packet: its key, and which session its tag led to. The default knows nothing and means the long
/// way.
#[derive(Clone, Copy, Default)]
pub struct Plan {
    addrs: u64,
    l4: u64,
    hash: u64,
    index: u32,
    version: u16,
    direction: Direction,
    pub(crate) way: Way,
    /// What the packet is to its session's state.
    what: Move,
    /// The tag may stand in the second bucket.
    second: bool,
}

impl Plan {
    /// The packet's key.
    #[expect(clippy::cast_possible_truncation, reason = "the fields of the packed words")]
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey {
            addrs: Addrs::V4((self.addrs >> 32) as u32, self.addrs as u32),
            sport: self.l4 as u16,
            dport: (self.l4 >> 16) as u16,
            protocol: if self.is_tcp() { Protocol::Tcp } else { Protocol::Udp },
            scope: ZoneId((self.l4 >> 48) as u16),
        }
    }

    /// Its hash in the flow table.
    pub(crate) const fn hash(&self) -> Hash {
        Hash(self.hash)
    }

    /// What it is to its session's state.
    pub(crate) const fn what(&self) -> Move {
        self.what
    }

    #[inline]
    const fn is_tcp(&self) -> bool {
        (self.l4 >> 32) as u8 == TCP
    }
}

/// The plans of a burst.
pub(crate) type Plans = [Plan; BURST];

/// Eight bytes of the headers as they stand in memory. One load: byte by byte the compiler would not always find that out.
#[inline(always)]
fn le64(h: &[u8; HEADERS], at: usize) -> u64 {
    h.get(at..).and_then(|tail| tail.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Four bytes likewise.
#[inline(always)]
fn le32(h: &[u8; HEADERS], at: usize) -> u32 {
    h.get(at..).and_then(|tail| tail.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Whether a one's complement sum of 16-bit words, not folded, is all ones (RFC 1071 §1): whether it is a multiple of
/// 65,535, by one multiplication with that number's inverse modulo 2^64 (Granlund and Montgomery, "Division by invariant
/// integers using multiplication", §9). The sum must not be 0.
#[inline(always)]
const fn is_all_ones(sum: u64) -> bool {
    const DIVISOR: u64 = 0xffff;
    // Newton's iteration: each step doubles the number of right bits, of which an odd number is its own inverse to three.
    const INVERSE: u64 = {
        let mut inverse = DIVISOR;
        let mut step = 0;
        while step < 5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(DIVISOR.wrapping_mul(inverse)));
            step += 1;
        }
        inverse
    };
    sum.wrapping_mul(INVERSE) <= u64::MAX / DIVISOR
}

/// Sum of the 16-bit words of a 64-bit word, modulo 65,535, not folded. Byte order does not matter to such sums
/// (RFC 1071 §2).
#[inline(always)]
const fn words(x: u64) -> u64 {
    (x & 0xffff_ffff) + (x >> 32)
}

/// Folds a sum of a few of these to 16 bits. It must be below 2^48.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "folded to 32 and 16 bits")]
const fn fold(x: u64) -> u16 {
    // Both halves of the rotated sum are the folded one; the high half has had the carry of the low one.
    let (x, carry) = (x as u32).overflowing_add((x >> 32) as u32);
    let x = x + carry as u32;
    (x.wrapping_add(x.rotate_left(16)) >> 16) as u16
}

/// The sequence number of a TCP segment whose headers are plain.
fn sequence(frame: &[u8]) -> u32 {
    frame.first_chunk().map_or(0, |h| le32(h, ETHERNET_LEN + IPV4_LEN + 4).swap_bytes())
}

/// A destination address as [`read`] compares it.
#[inline(always)]
const fn mac_word([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([0, 0, a, b, c, d, e, f])
}

/// Reads the headers of a packet. None if they are not plain: the long way finds out what they are.
#[inline(always)]
fn read(frame: &[u8], mac: u64, scope: ZoneId) -> Option<Plan> {
    let h: &[u8; HEADERS] = frame.first_chunk()?;
    // The IPv4 header in words: from the version to the fragment offset, from the TTL to the first half of the destination,
    // and the other half.
    let (first, second, third) = (le64(h, 14), le64(h, 22), le32(h, 30));
    let ip_len = usize::from(((first >> 16) as u16).swap_bytes());
    let protocol = (second >> 8) as u8;
    // 2^64 is 1 modulo 65,535: a carry counts as one.
    let (sum, carry) = first.overflowing_add(second);
    let header = words(sum) + u64::from(third) + u64::from(carry);
    let plain = le64(h, 0) << 16 == mac
        // EtherType, version and header length.
        && le32(h, 12) & 0x00ff_ffff == PLAIN_IPV4
        // Only "don't fragment" may be set.
        && first >> 48 & !0x40 == 0
        && is_all_ones(header)
        && (second & 0xff) > 1
        && ip_len + ETHERNET_LEN <= frame.len();
    let mut what = Move::Datagram;
    let l4_plain = match protocol {
        UDP => {
            ip_len >= IPV4_LEN + UDP_LEN
                && usize::from(u16::from_be_bytes([h[38], h[39]])) == ip_len - IPV4_LEN
        }
        TCP => {
            what = Move::of_segment(h[47]);
            let offset = usize::from(h[46] >> 4) * 4;
            offset >= TCP_LEN && IPV4_LEN + offset <= ip_len
        }
        _ => false,
    };
    if !(plain && l4_plain) {
        return None;
    }
    let addrs = le64(h, 26).swap_bytes();
    let ports = le32(h, 34).swap_bytes().rotate_left(16);
    let l4 = u64::from(ports) | u64::from(protocol) << 32 | 4 << 40 | u64::from(scope.0) << 48;
    Some(Plan { addrs, l4, what, way: Way::Known, ..Plan::default() })
}

/// Plans a burst: reads, hashes, and brings near what carrying will touch. Answers whether some packets are perhaps the
/// first of their flows.
pub(crate) fn plan<'a>(
    shared: &Shared,
    frames: impl Iterator<Item = &'a [u8]>,
    mac: [u8; 6],
    scope: ZoneId,
    plans: &mut Plans,
) -> bool {
    let mac = mac_word(mac);
    let mut count = 0;
    for (frame, plan) in frames.zip(plans.iter_mut()) {
        *plan = read(frame, mac, scope).unwrap_or_default();
        if plan.way != Way::Long {
            let hash = shared.table.hash_words(plan.addrs, plan.l4);
            shared.table.prefetch(hash);
            plan.hash = hash.0;
        }
        count += 1;
    }
    let plans = plans.get_mut(..count).unwrap_or(&mut []);
    let mut later = false;
    for plan in plans.iter_mut().filter(|p| p.way != Way::Long) {
        match shared.table.seek_first(plan.hash()) {
            Seek::Found(entry) => found(shared, plan, entry),
            Seek::Elsewhere => {
                plan.second = true;
                later = true;
                shared.table.prefetch_second(plan.hash());
            }
        }
    }
    let mut first = false;
    if later {
        let nowhere = if shared.table.is_stashing() { Way::Long } else { Way::First };
        for plan in plans.iter_mut().filter(|p| p.second) {
            match shared.table.seek_second(plan.hash()) {
                Seek::Found(entry) => found(shared, plan, entry),
                Seek::Elsewhere => plan.way = nowhere,
            }
            first |= plan.way == Way::First;
        }
    }
    first
}

#[inline(always)]
fn found(shared: &Shared, plan: &mut Plan, entry: Entry) {
    plan.index = entry.index;
    plan.version = entry.version;
    plan.direction = entry.direction;
    if let Some(session) = shared.arena.get(entry.index) {
        crate::prefetch(session);
    }
}

/// Brings near the session that the plan leads to, to be written: the worker that looked it up had it last.
#[inline]
pub(crate) fn prefetch(shared: &Shared, plan: &Plan) {
    if plan.way == Way::Known
        && let Some(session) = shared.arena.get(plan.index)
    {
        crate::prefetch_to_write(session);
    }
}

/// What carrying came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// The packet is ready to leave here.
    To(InterfaceId),
    /// Nothing changed: its session is this worker's.
    Owner(WorkerId),
    /// Nothing changed: it must go the long way.
    LongWay,
    /// It is dropped.
    Drop(DropReason),
}

/// Carries one packet to its egress, whose plan leads to a session, if the plan still holds and the session is this
/// worker's.
#[inline(always)]
pub(crate) fn carry<B: PacketBuf>(cx: &Context<'_>, me: WorkerId, plan: &Plan, buf: &mut B) -> Carried {
    let direction = plan.direction;
    let Some(session) = cx.shared.arena.get(plan.index) else { return Carried::LongWay };
    #[expect(clippy::cast_possible_truncation, reason = "the slot keeps the low half")]
    if session.key_words(direction) != (plan.addrs, plan.l4) || session.version() as u16 != plan.version {
        return Carried::LongWay;
    }
    let owner = session.owner();
    if owner != me {
        return Carried::Owner(owner);
    }
    let now = session.state_and_flags();
    if now & FLAG_ALG != 0 {
        return Carried::LongWay;
    }
    let next = plan.what.leads_to(direction, now & STATE_MASK);
    if next == track::NOWHERE {
        // It is dropped, or begins anew.
        return Carried::LongWay;
    }
    let Some(interface) = pass(cx, session, direction, plan.is_tcp(), buf) else { return Carried::LongWay };
    if next != now & STATE_MASK {
        let id = Ref { index: plan.index, version: session.version() };
        let hit = Hit { session, id, direction };
        if plan.what == Move::Rst {
            track::doubt_number(&hit, now & STATE_MASK, sequence(buf.bytes()));
        }
        track::settle_number(cx, &hit, next);
    }
    Carried::To(interface)
}

/// Finds the next hop of one direction of a session and remembers it: the first answer comes without. None if there is no
/// such next hop, or its MAC address is not known.
#[inline(never)]
fn learn(cx: &Context<'_>, session: &Session, direction: Direction) -> Option<AdjacencyId> {
    // The other direction's source is where this direction's packets go.
    let Addrs::V4(destination, _) = session.key(direction.other()).addrs else { return None };
    let Lookup::Forward { interface, next_hop } = cx.fib.lookup(destination) else { return None };
    let adjacency = cx.fib.adjacency_for(interface, next_hop)?;
    session.set_adjacency(direction, cx.fib.topology(), adjacency);
    Some(adjacency)
}

/// Translates a packet of a session, counts it, writes its L2 header. None, and nothing changed, if its next hop is not
/// known or it does not fit there.
#[inline(always)]
pub(crate) fn pass<B: PacketBuf>(
    cx: &Context<'_>,
    session: &Session,
    direction: Direction,
    is_tcp: bool,
    buf: &mut B,
) -> Option<InterfaceId> {
    let adjacency = match session.adjacency(direction, cx.fib.topology()) {
        Some(adjacency) => adjacency,
        None => learn(cx, session, direction)?,
    };
    let hop = cx.fib.hop(adjacency)?;
    let (answer_addrs, answer_l4) = session.key_words(direction.other());
    let frame_len = buf.bytes().len();
    let h: &mut [u8; HEADERS] = buf.bytes_mut().first_chunk_mut()?;
    let ip_len = u16::from_be_bytes([h[16], h[17]]);
    if ip_len > hop.mtu {
        return None;
    }

    // The answer's key turned round is what leaves.
    let addrs = answer_addrs.rotate_left(32).to_be_bytes();
    #[expect(clippy::cast_possible_truncation, reason = "the ports are the low half")]
    let ports = (answer_l4 as u32).to_be_bytes();
    let (old_addrs, old_ports) = (le64(h, 26), le32(h, 34));
    // RFC 1624 eqn. 3: ~(~HC + ~m + m'), on all words at once.
    let moved = words(u64::from_le_bytes(addrs)) + words(!old_addrs);
    let ports_moved = u64::from(u32::from_le_bytes(ports)) + u64::from(!old_ports);

    h[26..34].copy_from_slice(&addrs);
    h[34..38].copy_from_slice(&ports);
    // One less TTL is the word 0x0001 less (little endian), that is 0xfffe more.
    h[22] -= 1;
    let ip_sum = u16::from_le_bytes([h[24], h[25]]);
    let ip_sum = !fold(u64::from(!ip_sum) + moved + 0xfffe);
    h[24..26].copy_from_slice(&ip_sum.to_le_bytes());
    if is_tcp {
        let sum = u16::from_le_bytes([h[50], h[51]]);
        let sum = !fold(u64::from(!sum) + moved + ports_moved);
        h[50..52].copy_from_slice(&sum.to_le_bytes());
    } else {
        let sum = u16::from_le_bytes([h[40], h[41]]);
        // RFC 768: 0 is no checksum, so none stays none and a computed 0 is sent as all ones.
        if sum != 0 {
            let sum = match !fold(u64::from(!sum) + moved + ports_moved) {
                0 => 0xffff,
                sum => sum,
            };
            h[40..42].copy_from_slice(&sum.to_le_bytes());
        }
    }
    h[..12].copy_from_slice(&hop.header);
    // Padding behind the IP packet does not travel on. It cannot be longer than the frame: `read` has compared them.
    let padding = frame_len.saturating_sub(ETHERNET_LEN + usize::from(ip_len));
    if padding != 0 {
        let _ = buf.trim_back(padding);
    }
    session.touch(direction, u32::from(ip_len), cx.now);
    Some(hop.interface)
}

/// The steps one by one, for those who time them.
pub mod steps {
    use super::{Context, Direction, InterfaceId, Move, PacketBuf, Plan, Session, ZoneId};

    /// Reads the headers of a packet that came in from the zone `scope` for this MAC address. None if they are not plain.
    #[must_use]
    pub fn read(frame: &[u8], mac: [u8; 6], scope: ZoneId) -> Option<Plan> {
        super::read(frame, super::mac_word(mac), scope)
    }

    /// The number of the state that a TCP segment with these flags leads to from another one.
    #[must_use]
    pub fn next(flags: u8, direction: Direction, state: u8) -> u8 {
        Move::of_segment(flags).leads_to(direction, state)
    }

    /// Translates a packet of a session, counts it, writes its L2 header; answers where it leaves.
    pub fn pass<B: PacketBuf>(
        cx: &Context<'_>,
        session: &Session,
        direction: Direction,
        is_tcp: bool,
        buf: &mut B,
    ) -> Option<InterfaceId> {
        super::pass(cx, session, direction, is_tcp, buf)
    }
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_fold_to_their_remainder(sum in prop_oneof![1..1u64 << 48, (1..1u64 << 32).prop_map(|n| n * 0xffff)]) {
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
            prop_assert_ne!(fold(sum), 0, "no sum but 0 folds to 0");
            prop_assert_eq!(is_all_ones(sum), fold(sum) == 0xffff);
        }
    }

    #[test]
    fn sums_at_their_edges() {
        assert_eq!(fold(0), 0);
        for sum in [1, 0xfffe, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, (1 << 48) - 1] {
            let remainder = u16::try_from(sum % 0xffff).unwrap();
            assert_eq!(fold(sum), if remainder == 0 { 0xffff } else { remainder }, "{sum:#x}");
        }
    }
}
