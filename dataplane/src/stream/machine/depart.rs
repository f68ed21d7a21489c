//! Depart: what leaves, and with which numbers.

use super::{Event, Kind, Path, Stream, at, is_keep_alive};
use crate::stream::edits::Round;
use crate::stream::segment::{
    Departures, Emission, Limits, MAX_PAYLOAD, Payload, Refusal, Segment, Tally, flags,
};
use alg::Side;
use arrayvec::ArrayVec;

/// Bytes that a timestamp option takes with its padding.
const TIMESTAMP_LEN: u8 = 12;

/// A segment of an older connection: with its own numbers, which the end that has it finds exact, and without bytes.
fn of_older(segment: &Segment<'_>) -> Emission {
    Emission {
        to: segment.from.other(),
        seq: segment.seq,
        ack: segment.ack,
        window: segment.window,
        flags: segment.flags & (flags::ACK | flags::RST),
        urgent: 0,
        timestamp: segment.options.timestamp,
        sack: ArrayVec::new(),
        payload: Payload::NONE,
    }
}

impl Stream {
    /// Says what leaves for the segment that arrived.
    pub fn depart(
        &mut self,
        limits: &Limits,
        path: &Path,
        event: &Event,
        segment: &Segment<'_>,
        out: &mut Departures,
        tally: &mut Tally,
    ) {
        out.clear();
        match event.kind {
            Kind::Syn => Self::depart_syn(segment, out),
            Kind::Reset => self.depart_reset(event, segment, out),
            Kind::Question => {
                let half = self.half(event.from);
                let seq = half.seq(half.current());
                out.onward = self.emission(limits, event.from, seq);
            }
            Kind::Older => out.onward = Some(of_older(segment)),
            Kind::Passed => self.depart_passed(limits, event, segment, out),
            Kind::Bytes => self.depart_bytes(limits, path, event, segment, out, tally),
            // RFC 5961 §3.2, §4, §5.2 and RFC 7323 §5.3 answer with an acknowledgement.
            Kind::Refused(Refusal::Unplaced) => {}
            Kind::Refused(Refusal::Timestamp) if !event.consumes => {}
            // To acknowledge a SYN+ACK is its receiver's: it may not have come, and whoever is told that it did does not repeat it.
            Kind::Refused(_) if event.from == Side::Responder && !self.half(event.from).is_answered() => {}
            Kind::Refused(_) => self.acknowledge(limits, event.from, out, tally),
        }
        if event.kind != Kind::Passed && out.onward.is_none() {
            tally.swallowed += 1;
        }
        // The acknowledgement may have opened the way for what waits for the sender.
        if matches!(event.kind, Kind::Passed | Kind::Bytes) {
            self.depart_waiting(limits, path, event.from.other(), out);
        }
    }

    fn depart_syn(segment: &Segment<'_>, out: &mut Departures) {
        let payload = if segment.payload.is_empty() {
            Payload::Own
        } else {
            // TCP Fast Open is not offered on, so its data is not either: the sender repeats it (RFC 7413 §3). A signature is wrong
            // then, and its receiver drops what nobody could have read.
            Payload::NONE
        };
        // What it acknowledges, if anything, is the other SYN: before that nothing was edited.
        out.onward = Some(Emission {
            to: segment.from.other(),
            seq: segment.seq,
            ack: segment.ack,
            window: segment.window,
            flags: segment.flags,
            urgent: segment.urgent,
            timestamp: segment.options.timestamp,
            sack: ArrayVec::new(),
            payload,
        });
    }

    /// A reset leaves where its receiver expects it.
    fn depart_reset(&mut self, event: &Event, segment: &Segment<'_>, out: &mut Departures) {
        let (from, to) = (segment.from, segment.from.other());
        let half = self.half(from);
        let (seq, behind) = if half.has_begun() { half.reset_at() } else { (segment.seq, None) };
        let ack = match event.ack {
            Some(ack) => {
                let other = self.half(to);
                other.seq(other.edits.unmap(ack.min(other.high), Round::Down))
            }
            None => segment.ack,
        };
        let emission = Emission {
            to,
            seq,
            ack,
            window: segment.window,
            flags: segment.flags & !(flags::URG | flags::PSH | flags::FIN),
            urgent: 0,
            timestamp: segment.options.timestamp,
            sack: ArrayVec::new(),
            payload: Payload::NONE,
        };
        if let Some(seq) = behind {
            let _ = out.made.try_push(Emission { seq, timestamp: None, ..emission.clone() });
        }
        out.onward = Some(emission);
    }

    /// Says what leaves when the gateway resets the connection for what `from` has said: resets to the other end. The packet that
    /// came becomes the one with these numbers, sequence and acknowledgement.
    pub fn depart_refused(&self, from: Side, out: &mut Departures) -> (u32, u32) {
        out.clear();
        let other = self.half(from.other());
        let ((seq, behind), ack) = (self.half(from).reset_at(), other.seq(other.acknowledgement()));
        if let Some(seq) = behind {
            let _ = out.made.try_push(Emission {
                to: from.other(),
                seq,
                ack,
                window: 0,
                flags: flags::RST | flags::ACK,
                urgent: 0,
                timestamp: None,
                sack: ArrayVec::new(),
                payload: Payload::NONE,
            });
        }
        (seq, ack)
    }

    fn depart_passed(&mut self, limits: &Limits, event: &Event, segment: &Segment<'_>, out: &mut Departures) {
        let from = segment.from;
        let half = self.half(from);
        let seq = half.seq(half.edits.map(event.start, Round::Down));
        let Some(mut emission) = self.emission(limits, from, seq) else { return };
        if let Some((ack, window)) = self.stale_ack(event) {
            (emission.ack, emission.window) = (ack, window);
        }
        if self.passes(from.other()) && self.half(from.other()).edits.is_identity() {
            emission.window = segment.window;
        }
        emission.flags = segment.flags;
        emission.urgent = segment.urgent;
        emission.timestamp = segment.options.timestamp;
        emission.payload = Payload::Own;
        self.note(&emission);
        out.onward = Some(emission);
    }

    fn depart_bytes(
        &mut self,
        limits: &Limits,
        path: &Path,
        event: &Event,
        segment: &Segment<'_>,
        out: &mut Departures,
        tally: &mut Tally,
    ) {
        let from = segment.from;
        let keep_alive = is_keep_alive(self.half(from), event, segment.has(flags::FIN));
        let mut ranges = ArrayVec::<(i64, i64), 2>::new();
        if event.repeats && !keep_alive {
            let (start, stop) = self.repeated(from, event);
            if start < stop {
                tally.repeated += 1;
                ranges.push((start, stop));
            }
        }
        let (sent, end) = (self.half(from).sent, self.half(from).end);
        if sent < end {
            match ranges.last_mut() {
                Some(last) if last.1 >= sent => last.1 = end,
                _ => ranges.push((sent, end)),
            }
        }
        let options = event.options.len;
        let again = segment.has(flags::FIN);
        let before = out.made.len();
        for (start, stop) in ranges {
            self.emit(limits, path, from, (start, stop), (event.consumes, options), out);
        }
        self.emit_fin(limits, from, again, before, out);
        // The packet that came carries the first of them.
        if !segment.has(flags::PSH) {
            for emission in out.made.iter_mut().skip(before) {
                emission.flags &= !flags::PSH;
            }
        }
        let emitted = out.made.len() > before;
        if emitted {
            out.onward = Some(out.made.remove(before));
        } else {
            out.onward = self.bare(limits, event, segment, keep_alive);
        }
        if let Some(onward) = &out.onward {
            let onward = onward.clone();
            self.note(&onward);
        }
        let half = self.half(from);
        let advanced = half.acknowledgement() > half.told;
        let nothing_new = !event.stored.fresh;
        if event.consumes && !emitted && !keep_alive && (advanced || nothing_new) {
            self.acknowledge(limits, from, out, tally);
        }
    }

    /// Which kept bytes a segment that repeats asks for, receiver's space.
    fn repeated(&self, from: Side, event: &Event) -> (i64, i64) {
        let half = self.half(from);
        let stop = half.edits.map(event.stop.min(half.decided), Round::Up);
        if half.is_ours() {
            // The sender cannot repeat what it was told has arrived.
            let told = half.edits.map(half.told.min(half.decided), Round::Up);
            (half.acked, stop.max(told).min(half.sent))
        } else {
            (half.acked.max(half.edits.map(event.start, Round::Down)), stop.min(half.sent))
        }
    }

    /// Makes segments of the stream from `from` for a range of the receiver's space, as far as its window and `out` reach.
    fn emit(
        &mut self,
        limits: &Limits,
        path: &Path,
        from: Side,
        (start, stop): (i64, i64),
        (probes, options): (bool, u8),
        out: &mut Departures,
    ) {
        let half = self.half(from);
        let room = half.room(path.room.get(at(from.other())).copied().unwrap_or(0));
        let options = options.max(if self.has_timestamps() { TIMESTAMP_LEN } else { 0 });
        let most = usize::from(room.saturating_sub(u16::from(options)).max(1)).min(MAX_PAYLOAD);
        // Into a closed window goes one byte, to learn when it opens (RFC 9293 §3.8.6.1).
        let closed = half.limit() <= half.acked && probes;
        let stop = stop.min(if closed { half.acked + 1 } else { half.limit() });
        let mut cursor = start;
        // Each turn sends a byte or more.
        while cursor < stop {
            let len = usize::try_from(stop - cursor).unwrap_or(0).min(most);
            let seq = self.half(from).seq(cursor);
            let Some(mut emission) = self.emission(limits, from, seq) else { return };
            emission.payload = Payload::Kept { side: from, at: cursor, len };
            if out.made.try_push(emission).is_err() {
                return;
            }
            cursor += i64::try_from(len).unwrap_or(1);
            let half = self.half_mut(from);
            half.sent = half.sent.max(cursor);
            half.high = half.high.max(cursor);
            let end = half.end;
            self.finish(from, cursor, end, out);
        }
    }

    /// Completes the last made segment, which ends at `cursor`: push and urgent.
    fn finish(&self, from: Side, cursor: i64, end: i64, out: &mut Departures) {
        let half = self.half(from);
        let Some(last) = out.made.last_mut() else { return };
        if cursor == end {
            last.flags |= flags::PSH;
        }
        let Payload::Kept { at: start, .. } = last.payload else { return };
        let pointer = half.urgent.map(|u| half.edits.map(u, Round::Up) - start);
        if let Some(pointer) = pointer.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0) {
            last.urgent = pointer;
            last.flags |= flags::URG;
        }
    }

    /// Adds the FIN of `from`, if all before it has left and it is its turn.
    fn emit_fin(&mut self, limits: &Limits, from: Side, again: bool, before: usize, out: &mut Departures) {
        let half = self.half(from);
        let turn = half.sent == half.end || (again && half.sent > half.end);
        if !half.fin_is_due() || !turn || half.acked > half.end {
            return;
        }
        let end = half.end;
        let reaches = |e: &Emission| match e.payload {
            Payload::Kept { side, at, len } => {
                side == from && at.checked_add_unsigned(len as u64) == Some(end) && len > 0
            }
            Payload::Own => false,
        };
        let ready = out.made.iter_mut().skip(before).find(|e| reaches(e));
        let added = match ready {
            Some(last) => {
                last.flags |= flags::FIN;
                true
            }
            None => match self.emission(limits, from, self.half(from).seq(end)) {
                Some(mut emission) => {
                    emission.flags |= flags::FIN;
                    out.made.try_push(emission).is_ok()
                }
                None => false,
            },
        };
        if added {
            let half = self.half_mut(from);
            half.sent = end + 1;
            half.high = half.high.max(end + 1);
        }
    }

    /// What a segment goes on as that brings no bytes now: an acknowledgement, a probe, or nothing.
    fn bare(
        &mut self,
        limits: &Limits,
        event: &Event,
        segment: &Segment<'_>,
        keep_alive: bool,
    ) -> Option<Emission> {
        let from = segment.from;
        let half = self.half(from);
        let probes = keep_alive || (!event.consumes && event.start < half.told);
        let offset = if probes {
            // Below what the receiver expects: it must answer (RFC 9293 §3.10.7.4), and so say that it lives.
            half.edits.map(event.start, Round::Down).min(half.acked - 1)
        } else if event.start < half.decided {
            half.edits.map(event.start, Round::Down).min(half.current())
        } else {
            half.current()
        };
        let seq = half.seq(offset);
        let mut emission = self.emission(limits, from, seq)?;
        if !event.consumes || keep_alive {
            if let Some((ack, window)) = self.stale_ack(event) {
                (emission.ack, emission.window) = (ack, window);
            }
            return Some(emission);
        }
        // Its bytes stay here, its acknowledgement does not, if it says anything new: else its receiver would count
        // duplicates (RFC 5681 §2).
        let news =
            self.told.get(at(from.other())).copied().flatten() != Some((emission.ack, emission.window));
        news.then_some(emission)
    }

    /// The acknowledgement number of a segment that was overtaken by a later acknowledgement, and the window to the same
    /// right edge.
    fn stale_ack(&self, event: &Event) -> Option<(u32, u16)> {
        let half = self.half(event.from.other());
        let ack = event.ack.filter(|ack| *ack < half.acked)?;
        // What lies before edits that were acknowledged long ago is moved by them all the same, but not out of the stream.
        let ack = half.edits.unmap(ack, Round::Down).max(0);
        Some((half.seq(ack), half.window_field(ack)))
    }

    /// Lets go what waits for its receiver's window.
    pub(super) fn depart_waiting(&mut self, limits: &Limits, path: &Path, from: Side, out: &mut Departures) {
        let half = self.half(from);
        if !half.has_begun() || self.passes(from) {
            return;
        }
        let before = out.made.len();
        let (sent, end) = (half.sent, half.end);
        if sent < end {
            self.emit(limits, path, from, (sent, end), (false, 0), out);
        }
        self.emit_fin(limits, from, false, before, out);
        self.note_made(before, out);
    }

    fn note_made(&mut self, before: usize, out: &Departures) {
        for emission in out.made.iter().skip(before) {
            self.note(emission);
        }
    }

    /// An acknowledgement of the engine's own, to the sender of what was taken in.
    fn acknowledge(&mut self, limits: &Limits, to: Side, out: &mut Departures, tally: &mut Tally) {
        let half = self.half(to.other());
        if !half.has_begun() {
            return;
        }
        let seq = half.seq(half.current());
        let Some(mut emission) = self.emission(limits, to.other(), seq) else { return };
        if let (Some(timestamp), Some(recent)) = (&mut emission.timestamp, self.half(to).recent) {
            timestamp.echo = recent;
        }
        if self.has_sack() {
            let half = self.half(to);
            emission
                .sack
                .extend(half.gaps().map(|(l, r)| (half.seq(l), half.seq(r))).take(emission.sack.capacity()));
        }
        self.note(&emission);
        if out.made.try_push(emission).is_ok() {
            tally.own_acks += 1;
        }
    }

    /// A segment from `from` without bytes: the latest acknowledgement, window and timestamp.
    fn emission(&mut self, limits: &Limits, from: Side, seq: u32) -> Option<Emission> {
        let keeps = !self.passes(from.other());
        let timestamps = self.has_timestamps();
        let timestamp = self.half(from).newest.filter(|_| timestamps);
        let half = self.half_mut(from.other());
        if !half.has_begun() {
            return None;
        }
        half.move_edge(limits, keeps);
        let ack = half.acknowledgement();
        Some(Emission {
            to: from.other(),
            seq,
            ack: half.seq(ack),
            window: half.window_field(ack),
            flags: flags::ACK,
            urgent: 0,
            timestamp,
            sack: ArrayVec::new(),
            payload: Payload::NONE,
        })
    }

    /// Remembers what an end is told.
    fn note(&mut self, emission: &Emission) {
        let half = self.half_mut(emission.to);
        if half.has_begun() {
            half.told = half.told.max(half.acknowledgement());
        }
        if let Some(told) = self.told.get_mut(at(emission.to)) {
            *told = Some((emission.ack, emission.window));
        }
    }

    /// Says what leaves because time has passed, or because something was decided without a segment.
    pub fn depart_late(
        &mut self,
        limits: &Limits,
        path: &Path,
        now: u32,
        out: &mut Departures,
        tally: &mut Tally,
    ) {
        out.clear();
        if self.reset {
            return;
        }
        for from in [Side::Initiator, Side::Responder] {
            // Its sender has what is to be repeated.
            if self.passes(from) {
                continue;
            }
            let again = self.half_mut(from).repeats_now(limits, now);
            if again {
                tally.repeated += 1;
            }
            let half = self.half(from);
            let (sent, end) = (half.sent, half.end);
            let before = out.made.len();
            if sent < end && half.has_begun() {
                self.emit(limits, path, from, (sent, end), (again, 0), out);
            }
            self.emit_fin(limits, from, again, before, out);
            self.note_made(before, out);
        }
    }
}
