//! Narrow: a router on the way to an end says that a segment is too long for it (RFC 1191).
//!
//! The segment may have been made here, of bytes that were acknowledged to their sender long ago. That sender has nothing to
//! repeat, and takes such an error for a forged one (RFC 5927 §4.1). So the engine itself makes shorter segments from then on,
//! and sends again what it keeps.

use super::{Path, Stream, at};
use crate::stream::half::Half;
use crate::stream::segment::{Departures, Limits, Tally};
use alg::Side;

/// Least room that is believed, of an IP packet behind headers without options: so long a segment every end takes without
/// having said so (RFC 9293 §3.7.1), and no error makes a flow crawl with segments of a few bytes (RFC 5927 §7).
const LEAST: u16 = 536;

/// Most times that a direction is narrowed, a few links one behind the other. The last time takes it to the least: whoever
/// forges errors makes so many repetitions, and no more.
const MOST: u8 = 8;

/// What an error quotes of a segment, and says of the way.
#[derive(Clone, Copy, Debug)]
pub struct TooLong {
    /// Its sequence number, as it left.
    pub seq: u32,
    /// Bytes of payload that it had at most.
    pub len: u16,
    /// Largest IP payload behind headers without options that goes on: MTU less 40.
    pub room: u16,
}

/// What such an error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrowed {
    /// Nothing of the kind is on its way: it is forged, or late.
    Unknown,
    /// Only the engine has what was in the segment: its sender need not hear of it.
    Ours,
    /// It is for the sender to hear of too.
    Theirs,
}

impl Stream {
    /// Hears that a segment of `from` was too long for a link beyond the first, and says what leaves for it. `path` is what
    /// the first links take.
    pub fn narrow(
        &mut self,
        limits: &Limits,
        path: &Path,
        from: Side,
        error: &TooLong,
        out: &mut Departures,
        tally: &mut Tally,
    ) -> Narrowed {
        out.clear();
        let half = self.half(from);
        let Some(start) = half.offset_of_ack(error.seq).filter(|_| !self.reset) else {
            return Narrowed::Theirs;
        };
        // RFC 5927 §4.1: it must quote what was sent and is not acknowledged.
        if !half.is_on_its_way(start) {
            return Narrowed::Unknown;
        }
        // What passes with its own payload is not kept here: its sender makes it shorter.
        if self.passes(from) {
            return Narrowed::Theirs;
        }
        let whose =
            if half.is_told(start + i64::from(error.len)) { Narrowed::Ours } else { Narrowed::Theirs };
        let first = path.room.get(at(from.other())).copied().unwrap_or(0);
        if self.half_mut(from).narrow(error.room, first) {
            tally.narrowed += 1;
            tally.repeated += 1;
            // Segments before the quoted one may be lost as well, since routers do not tell of each.
            let half = self.half_mut(from);
            half.sent = half.acked;
            self.depart_waiting(limits, path, from, out);
        }
        whose
    }
}

impl Half {
    /// Takes `room` for the longest that the way carries, whose first link carries `first`. False if that is no news.
    fn narrow(&mut self, room: u16, first: u16) -> bool {
        let room = if room < LEAST || self.narrowed + 1 >= MOST { LEAST } else { room };
        if room >= self.room(first) {
            return false;
        }
        self.narrowed += 1;
        self.narrow = room;
        true
    }
}
