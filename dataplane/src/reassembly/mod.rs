//! Reassembly of IPv4 fragments (RFC 791 §3.2, RFC 815's task): the datagrams of which one worker has some fragments.
//!
//! Everything is bounded and reserved at start: datagrams, datagrams of one source, fragments of one datagram, bytes. What
//! fragments hold is copied here, so that an unfinished datagram keeps no buffer from its port. Where a bound is reached
//! the oldest goes: fragments of one datagram arrive close together, hence whoever floods the table with beginnings loses
//! those before anybody else's datagram has had the time to be complete.
//!
//! Fragments that overlap, or that disagree on where the datagram ends, spoil it (RFC 5722): what has come of it is dropped,
//! and so is what comes later. A fragment that repeats another's place is ignored.

mod chain;

use crate::buf::PacketBuf;
use crate::drop_reason::DropReason;
use crate::key::{InterfaceId, Protocol, Tick, ZoneId};
use crate::packet::fragment::{self, Fragment, MAX_DATAGRAM, MAX_HEADER};
use crate::packet::{ETHERNET_LEN, IPV4_LEN};
use crate::stream::chunk::{Pool, Queue};
use crate::table::Hash;
use arrayvec::ArrayVec;
use chain::{Chain, List};

/// Datagrams of which a worker holds fragments.
pub const DATAGRAMS: u16 = 512;
/// Those of one source.
pub const PER_SOURCE: u16 = 64;
/// Fragments of one datagram: the longest has 45 on an Ethernet.
pub const FRAGMENTS: usize = 64;
/// Lists that sources are spread over. Two sources that share one share the bound.
const SOURCES: usize = 1_024;

/// What the fragments of a datagram have in common. The zone is part of it, so that nobody outside completes what began
/// inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    scope: ZoneId,
    protocol: Protocol,
    id: u16,
    src: u32,
    dst: u32,
}

/// The bytes of one fragment.
struct Piece {
    offset: u16,
    len: u16,
    bytes: Queue,
}

/// A datagram that is not complete.
struct Partial {
    key: Key,
    /// The list of its source.
    source: u16,
    since: Tick,
    /// Frame and IP header of the first fragment, and where it came in.
    head: ArrayVec<u8, { ETHERNET_LEN + MAX_HEADER }>,
    ingress: InterfaceId,
    /// By their offset. None lies on another.
    pieces: ArrayVec<Piece, FRAGMENTS>,
    /// Bytes in them.
    have: u32,
    /// Bytes of its payload, once its last fragment is there.
    end: Option<u16>,
    /// Longest fragment, and longest with DF, in bytes of IP.
    longest: u16,
    longest_df: u16,
    /// Which values of the ECN field there are: one bit each.
    ecn: u8,
    /// Nothing of it is wanted any more.
    spoilt: bool,
}

/// What came of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It waits for others.
    Kept,
    /// Its datagram is complete: [`Reassembly::assemble`] or [`Reassembly::discard`] it.
    Complete(u16),
    /// It is dropped, and was counted.
    Refused,
}

/// A datagram that was put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Where its first fragment came in.
    pub ingress: InterfaceId,
    /// Of how many fragments.
    pub fragments: usize,
    /// Longest of them, in bytes of IP. With DF, no longer ones may be sent.
    pub longest: u16,
}

/// The table of one worker. What it drops it reports as reason and number of fragments.
pub struct Reassembly {
    slots: Box<[Option<Partial>]>,
    free: Vec<u16>,
    /// All, the oldest first.
    ages: (Chain, List),
    /// By their source, the oldest first.
    sources: (Chain, Box<[List]>),
    chunks: Pool,
}

impl Reassembly {
    /// Room for [`DATAGRAMS`] datagrams, and for `chunks` chunks of 248 bytes in all of them.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        Self {
            slots: (0..DATAGRAMS).map(|_| None).collect(),
            free: (0..DATAGRAMS).rev().collect(),
            ages: (Chain::new(DATAGRAMS), List::default()),
            sources: (Chain::new(DATAGRAMS), vec![List::default(); SOURCES].into_boxed_slice()),
            chunks: Pool::new(chunks),
        }
    }

    /// No fragment waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ages.1.len() == 0
    }

    /// Datagrams, and chunks of their bytes.
    #[must_use]
    pub const fn held(&self) -> (usize, usize) {
        (self.ages.1.len() as usize, self.chunks.capacity() - self.chunks.left())
    }

    /// Takes in a fragment of `frame`. `source` is a keyed hash of where it comes from: zone and source address.
    pub fn add(
        &mut self,
        now: Tick,
        (ingress, scope): (InterfaceId, ZoneId),
        source: Hash,
        f: &Fragment,
        frame: &[u8],
        dropped: &mut impl FnMut(DropReason, usize),
    ) -> Added {
        let key = Key { scope, protocol: f.protocol, id: f.id, src: f.src, dst: f.dst };
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of lists")]
        let source = (source.0 % SOURCES as u64) as u16;
        let Some(slot) = self.find(source, &key).or_else(|| self.begin(now, ingress, source, key, dropped))
        else {
            dropped(DropReason::FragmentTableFull, 1);
            return Added::Refused;
        };
        match self.insert(slot, ingress, f, frame, dropped) {
            Ok(complete) => {
                if complete {
                    Added::Complete(slot)
                } else {
                    Added::Kept
                }
            }
            Err(reason) => {
                dropped(reason, 1);
                Added::Refused
            }
        }
    }

    fn find(&self, source: u16, key: &Key) -> Option<u16> {
        let (chain, lists) = &self.sources;
        // At most as many as one source may have.
        let of_source = core::iter::successors(lists.get(usize::from(source))?.first(), |s| chain.next(*s));
        of_source.into_iter().find(|s| self.partial(*s).is_some_and(|p| p.key == *key))
    }

    fn partial(&self, slot: u16) -> Option<&Partial> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    /// A slot for a datagram that is new.
    fn begin(
        &mut self,
        now: Tick,
        ingress: InterfaceId,
        source: u16,
        key: Key,
        dropped: &mut impl FnMut(DropReason, usize),
    ) -> Option<u16> {
        let list = self.sources.1.get(usize::from(source))?;
        if list.len() >= PER_SOURCE
            && let Some(oldest) = list.first()
        {
            self.discard(oldest, DropReason::FragmentSourceLimit, dropped);
        }
        if self.free.is_empty()
            && let Some(oldest) = self.ages.1.first()
        {
            self.discard(oldest, DropReason::FragmentTableFull, dropped);
        }
        let slot = self.free.pop()?;
        *self.slots.get_mut(usize::from(slot))? = Some(Partial {
            key,
            source,
            since: now,
            head: ArrayVec::new(),
            ingress,
            pieces: ArrayVec::new(),
            have: 0,
            end: None,
            longest: 0,
            longest_df: 0,
            ecn: 0,
            spoilt: false,
        });
        self.ages.0.push(&mut self.ages.1, slot);
        self.sources.0.push(self.sources.1.get_mut(usize::from(source))?, slot);
        Some(slot)
    }

    /// Puts a fragment in its place. True if the datagram is complete.
    fn insert(
        &mut self,
        slot: u16,
        ingress: InterfaceId,
        f: &Fragment,
        frame: &[u8],
        dropped: &mut impl FnMut(DropReason, usize),
    ) -> Result<bool, DropReason> {
        let bytes = frame.get(f.payload()).ok_or(DropReason::FragmentMalformed)?;
        let partial = self.partial(slot).ok_or(DropReason::FragmentTableFull)?;
        let at = match place(partial, f) {
            Ok(at) => at,
            Err(DropReason::FragmentDuplicate) => return Err(DropReason::FragmentDuplicate),
            Err(reason) => {
                self.spoil(slot, reason, dropped);
                return Err(reason);
            }
        };
        let bytes = self.store(slot, bytes, dropped).ok_or(DropReason::FragmentTableFull)?;
        let partial = self.slots.get_mut(usize::from(slot)).and_then(Option::as_mut);
        let partial = partial.ok_or(DropReason::FragmentTableFull)?;
        // There is room: `place` has looked.
        let _ = partial.pieces.try_insert(at, Piece { offset: f.offset, len: f.len, bytes });
        partial.have += u32::from(f.len);
        partial.longest = partial.longest.max(f.ip_len());
        if f.df {
            partial.longest_df = partial.longest_df.max(f.ip_len());
        }
        partial.ecn |= 1 << f.ecn;
        if !f.more {
            partial.end = Some(f.offset + f.len);
        }
        if f.offset == 0 {
            partial.ingress = ingress;
            partial.head.clear();
            let head = frame.get(..f.payload().start).ok_or(DropReason::FragmentMalformed)?;
            let _ = partial.head.try_extend_from_slice(head);
        }
        Ok(partial.end.is_some_and(|end| u32::from(end) == partial.have))
    }

    /// Copies a fragment's bytes. Where they find no room the oldest datagrams make it. None if this one was among those.
    fn store(
        &mut self,
        slot: u16,
        bytes: &[u8],
        dropped: &mut impl FnMut(DropReason, usize),
    ) -> Option<Queue> {
        let mut queue = Queue::default();
        // Each turn ends a datagram, or is the last.
        while !queue.push(&mut self.chunks, bytes) {
            let oldest = self.ages.1.first()?;
            self.discard(oldest, DropReason::FragmentTableFull, dropped);
            if oldest == slot {
                return None;
            }
        }
        Some(queue)
    }

    /// Drops what has come of a datagram, and remembers that it is not wanted until its time is over.
    fn spoil(&mut self, slot: u16, reason: DropReason, dropped: &mut impl FnMut(DropReason, usize)) {
        let Some(partial) = self.slots.get_mut(usize::from(slot)).and_then(Option::as_mut) else { return };
        dropped(reason, partial.pieces.len());
        for mut piece in partial.pieces.drain(..) {
            piece.bytes.clear(&mut self.chunks);
        }
        partial.spoilt = true;
    }

    /// Drops a datagram, and gives its slot back.
    pub fn discard(&mut self, slot: u16, reason: DropReason, dropped: &mut impl FnMut(DropReason, usize)) {
        self.spoil(slot, reason, dropped);
        self.release(slot);
    }

    fn release(&mut self, slot: u16) {
        let Some(partial) = self.slots.get_mut(usize::from(slot)).and_then(Option::take) else { return };
        self.ages.0.remove(&mut self.ages.1, slot);
        if let Some(list) = self.sources.1.get_mut(usize::from(partial.source)) {
            self.sources.0.remove(list, slot);
        }
        self.free.push(slot);
    }

    /// Drops the datagrams of which a fragment has waited longer than `timeout` milliseconds.
    pub fn expire(&mut self, now: Tick, timeout: u32, dropped: &mut impl FnMut(DropReason, usize)) {
        // Each turn ends a datagram, or is the last.
        while let Some(oldest) = self.ages.1.first()
            && self.partial(oldest).is_none_or(|p| now.since(p.since) >= timeout)
        {
            self.discard(oldest, DropReason::FragmentTimeout, dropped);
        }
    }

    /// Drops everything, because the worker ends.
    pub fn clear(&mut self, dropped: &mut impl FnMut(DropReason, usize)) {
        while let Some(oldest) = self.ages.1.first() {
            self.discard(oldest, DropReason::Shutdown, dropped);
        }
    }

    /// Puts a complete datagram into an empty buffer, as the frame that it would have come in, and forgets it.
    ///
    /// # Errors
    /// It is too long or fits no buffer, or its fragments say of congestion what no sender's can (RFC 3168 §5.3). Then
    /// its fragments were counted as dropped.
    pub fn assemble<B: PacketBuf>(
        &mut self,
        slot: u16,
        buf: &mut B,
        dropped: &mut impl FnMut(DropReason, usize),
    ) -> Result<Whole, DropReason> {
        let partial = self.partial(slot).ok_or(DropReason::FragmentTableFull)?;
        let whole =
            Whole { ingress: partial.ingress, fragments: partial.pieces.len(), longest: partial.longest };
        let joined = join(partial, &self.chunks, buf);
        match joined {
            Ok(()) => {
                // Nothing of it is dropped.
                self.discard(slot, DropReason::FragmentTimeout, &mut |_, _| ());
                Ok(whole)
            }
            Err(reason) => {
                self.discard(slot, reason, dropped);
                Err(reason)
            }
        }
    }
}

/// Where among the pieces a fragment belongs.
///
/// # Errors
/// [`DropReason::FragmentDuplicate`] if it is there. Otherwise the datagram is of no use any more.
fn place(partial: &Partial, f: &Fragment) -> Result<usize, DropReason> {
    let (start, end) = (u32::from(f.offset), u32::from(f.offset) + u32::from(f.len));
    if partial.spoilt {
        return Err(DropReason::FragmentOverlap);
    }
    let at = partial.pieces.partition_point(|p| u32::from(p.offset) < start);
    let behind = partial.pieces.get(at);
    let is_last = |p: &Piece| partial.end == Some(p.offset + p.len);
    if behind.is_some_and(|p| (p.offset, p.len) == (f.offset, f.len) && is_last(p) != f.more) {
        return Err(DropReason::FragmentDuplicate);
    }
    let ahead = at.checked_sub(1).and_then(|at| partial.pieces.get(at));
    let overlaps = ahead.is_some_and(|p| u32::from(p.offset) + u32::from(p.len) > start)
        || behind.is_some_and(|p| u32::from(p.offset) < end);
    // The datagram has one end, and nothing lies behind it.
    let disagrees = match partial.end {
        Some(known) => !f.more || end > u32::from(known),
        None => !f.more && behind.is_some(),
    };
    if overlaps || disagrees {
        return Err(DropReason::FragmentOverlap);
    }
    if partial.pieces.is_full() {
        return Err(DropReason::FragmentTooMany);
    }
    Ok(at)
}

/// Writes a complete datagram: the first fragment's header, made that of the whole, and all bytes.
fn join<B: PacketBuf>(partial: &Partial, chunks: &Pool, buf: &mut B) -> Result<(), DropReason> {
    let ecn = congestion(partial.ecn).ok_or(DropReason::FragmentEcn)?;
    let header_len = partial.head.len().saturating_sub(ETHERNET_LEN);
    let ip_len = header_len + partial.have as usize;
    let (Ok(header), Ok(length)) = (u8::try_from(header_len), u16::try_from(ip_len)) else {
        return Err(DropReason::FragmentTooLong);
    };
    if header_len < IPV4_LEN || ip_len > MAX_DATAGRAM {
        return Err(DropReason::FragmentTooLong);
    }
    if !buf.append(ETHERNET_LEN + ip_len) {
        return Err(DropReason::FragmentTableFull);
    }
    let frame = buf.bytes_mut();
    let (head, mut rest) =
        frame.split_at_mut_checked(partial.head.len()).ok_or(DropReason::FragmentTableFull)?;
    head.copy_from_slice(&partial.head);
    for piece in &partial.pieces {
        let (place, tail) =
            rest.split_at_mut_checked(usize::from(piece.len)).ok_or(DropReason::FragmentTableFull)?;
        if piece.bytes.copy(chunks, 0, place) != place.len() {
            return Err(DropReason::FragmentTableFull);
        }
        rest = tail;
    }
    // The sender forbade further fragments if it forbade them of the longest (Linux does it so too).
    let df = partial.longest_df == partial.longest;
    fragment::make_whole(frame, header, length, df, ecn).ok_or(DropReason::FragmentTooLong)
}

/// The ECN field of a datagram, by the set of its fragments' fields (RFC 3168 §5.3): congestion that one met is the
/// datagram's; none if another's sender says that it cannot be told.
const fn congestion(set: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1;
    const ECT_1: u8 = 1 << 1;
    const CE: u8 = 1 << 3;
    if set & CE != 0 {
        return if set & NOT_ECT == 0 { Some(3) } else { None };
    }
    if set & NOT_ECT != 0 {
        return Some(0);
    }
    Some(if set & ECT_1 != 0 { 1 } else { 2 })
}
