//! Arrive: takes a segment in, if it is to be believed.

use super::{Event, Kind, Offer, Stream, at, is_keep_alive};
use crate::stream::chunk::Pool;
use crate::stream::edits::Round;
use crate::stream::half::{Half, Stored, later};
use crate::stream::segment::{Limits, Refusal, Segment, Tally, Timestamp, flags};
use alg::Side;

/// How often the ends of a connection that the gateway has reset are told so again.
const MOST_TOLD_AGAIN: u8 = 8;

/// Furthest behind a SYN that an end which has just got it takes a reset: its first window, which is never scaled (RFC 7323 §2.2).
const FIRST_WINDOW: i64 = 65_535;

impl Event {
    /// Of a segment of which nothing is known yet.
    fn new(segment: &Segment<'_>) -> Self {
        Self {
            from: segment.from,
            kind: Kind::Bytes,
            start: -1,
            stop: -1,
            consumes: !segment.payload.is_empty() || segment.has(flags::FIN),
            repeats: false,
            stored: Stored::default(),
            ack: None,
            options: segment.options,
        }
    }
}

impl Stream {
    /// Takes a segment in. `opening` says whether the connection may still begin: only then does a SYN count.
    pub fn arrive(
        &mut self,
        pool: &mut Pool,
        limits: &Limits,
        now: u32,
        opening: bool,
        segment: &Segment<'_>,
        tally: &mut Tally,
    ) -> Event {
        let from = segment.from;
        let mut event = Event::new(segment);
        event.ack =
            segment.has(flags::ACK).then(|| self.half(from.other()).offset_of_ack(segment.ack)).flatten();
        if segment.has(flags::SYN) {
            event.kind = self.arrive_syn(pool, limits, opening, &event, segment);
            return event;
        }
        let Some(start) = self.half(from).offset(segment.seq) else {
            // A reset that answers a SYN comes before its sender has a first number: it acknowledges that SYN, and nothing else
            // (RFC 9293 §3.10.7.3).
            let reset = segment.has(flags::RST);
            event.kind = if reset && event.ack == Some(0) {
                self.take_reset(pool, from);
                Kind::Reset
            } else if opening && !reset && self.hears_of_older(&event, segment) {
                Kind::Older
            } else {
                Kind::Refused(Refusal::Unplaced)
            };
            return event;
        };
        event.start = start;
        event.stop = start + i64::try_from(segment.payload.len()).unwrap_or(0);
        if self.reset {
            event.kind = self.arrive_behind_reset(pool, &event, segment);
            return event;
        }
        if segment.has(flags::RST) {
            event.kind = self.arrive_reset(pool, from, start, segment.seq);
            return event;
        }
        if let Some(refusal) = self.refuses(&event) {
            event.kind = Kind::Refused(refusal);
            return event;
        }
        let half = self.half_mut(from);
        half.sender_is_heard();
        if let Some(timestamp) = segment.options.timestamp {
            half.note_timestamp(timestamp, start <= half.next);
        }
        event.repeats = event.consumes && start < half.next + i64::from(half.is_ended());
        if self.passes(from) {
            event.kind = Kind::Passed;
            let len = event.stop - start + i64::from(segment.has(flags::FIN));
            self.half_mut(from).pass(start, len);
        } else if event.consumes {
            let fin = segment.has(flags::FIN);
            let half = self.half_mut(from);
            // A keep-alive may carry one byte of garbage, which was acknowledged long ago (RFC 1122 §4.2.3.6).
            if !is_keep_alive(half, &event, fin) {
                event.stored = half.store(pool, limits, now, (start, segment.payload, fin), tally);
                if segment.has(flags::URG) && segment.urgent > 0 {
                    // A segment that is repeated, or late, does not take the pointer back (RFC 9293 §3.8.5).
                    half.urgent = half.urgent.max(Some(start + i64::from(segment.urgent)));
                }
            }
        }
        if let Some(ack) = event.ack {
            let half = self.half_mut(from.other());
            let window = u32::from(segment.window) << half.scale;
            half.acknowledge(pool, ack, window, start);
        }
        event
    }

    /// A SYN begins a stream while the connection opens; once both ends have said where they begin, only an answer to the other's
    /// moves that. Any but a repetition is of a new connection then, and its sender has lost this one, or is forged. It is asked, as by
    /// the end that has the old one still (RFC 5961 §4): who has lost it resets it where it stands (RFC 9293 §3.5.1), at both
    /// ends. Passed on, it might be taken by an end that has lost the old one too, and then neither would be heard.
    fn arrive_syn(
        &mut self,
        pool: &mut Pool,
        limits: &Limits,
        opening: bool,
        event: &Event,
        segment: &Segment<'_>,
    ) -> Kind {
        let from = segment.from;
        let bare = !segment.has(flags::ACK);
        // One that acknowledges another SYN than the other end's is its receiver's to reset (RFC 9293 §3.10.7.3), signed or not.
        let answers = event.ack == Some(0);
        let repeats = self.half(from).began_at(segment.seq) && (bare || answers);
        let both = self.halves.iter().all(Half::has_begun);
        if opening && (answers || bare && (repeats || !both)) {
            self.begin(segment);
            // A window on a SYN is never scaled (RFC 7323 §2.2). The other end hears of it with the SYN.
            let half = self.half_mut(from.other());
            half.acknowledge(pool, event.ack.unwrap_or(0), u32::from(segment.window), -1);
            // It goes on as it came, and what it offers may be more than there is room for.
            half.move_edge(limits, false);
        } else if opening && !bare {
            self.hears_of_older(event, segment);
        } else if !repeats {
            return Kind::Refused(Refusal::Syn);
        }
        Kind::Syn
    }

    /// Whether a segment of an end that has said nothing of this connection is of an older one, which its caller has lost: a
    /// challenge of the SYN, or what it repeats. Its number is what the caller will answer with, and is exact there.
    ///
    /// Where the end may be in the new connection nothing is believed: who forges this would have the caller reset that.
    fn hears_of_older(&mut self, event: &Event, segment: &Segment<'_>) -> bool {
        let older = !self.half(event.from).has_begun()
            && event.ack.is_some_and(|ack| !(0..=FIRST_WINDOW).contains(&ack));
        if older {
            self.older_at = Some(segment.ack);
        }
        older
    }

    /// Notes what a SYN says.
    fn begin(&mut self, segment: &Segment<'_>) {
        let from = segment.from;
        if !self.half(from).began_at(segment.seq) {
            // The server has answered, or the client begins elsewhere, perhaps there.
            self.older_at = None;
        }
        self.half_mut(from).begin(segment.seq);
        let options = &segment.options;
        if let Some(offer) = self.offers.get_mut(at(from)) {
            *offer = Offer {
                window_scale: options.window_scale,
                timestamps: options.timestamp.is_some(),
                sack: options.sack_permitted,
                signed: options.signed,
            };
        }
        let [initiator, responder] = &self.offers;
        // One end alone signs nothing: whoever does not know the option ignores it (RFC 9293 §3.1), and is spoken to as ever.
        if initiator.signed && responder.signed {
            self.blind = true;
        }
        // Both or none (RFC 7323 §2.2); above 14 means 14 (§2.3).
        let scales = match (initiator.window_scale, responder.window_scale) {
            (Some(a), Some(b)) => [a.min(14), b.min(14)],
            _ => [0, 0],
        };
        // A half is scaled as its receiver says.
        for side in [Side::Initiator, Side::Responder] {
            let scale = scales.get(at(side)).copied().unwrap_or_default();
            self.half_mut(side.other()).scale = scale;
        }
        let half = self.half_mut(from.other());
        if let Some(mss) = options.mss {
            half.mss = mss.max(1);
        }
        if let Some(timestamp) = options.timestamp {
            self.half_mut(from).note_timestamp(timestamp, true);
        }
    }

    /// Why a segment is not to be believed, if it is not.
    fn refuses(&self, event: &Event) -> Option<Refusal> {
        let half = self.half(event.from);
        let other = self.half(event.from.other());
        if event.ack.is_some_and(|ack| !other.may_acknowledge(ack)) {
            return Some(Refusal::Acknowledgement);
        }
        // What is next to come always may: who forges an acknowledgement must know both numbers (RFC 9293 §3.10.7.4).
        if !half.may_stand_at(event.start) {
            return Some(Refusal::Acknowledgement);
        }
        let stale = |t: Timestamp| half.recent.is_some_and(|recent| later(recent, t.value));
        if self.has_timestamps() && event.options.timestamp.is_some_and(stale) {
            return Some(Refusal::Timestamp);
        }
        None
    }

    /// A reset counts where its receiver, or the engine on its behalf, expects the sender to be (RFC 5961 §3.2), while the
    /// connection opens too. Another one must not become exact by being moved.
    fn arrive_reset(&mut self, pool: &mut Pool, from: Side, start: i64, seq: u32) -> Kind {
        let half = self.half(from);
        let acknowledged = half.edits.unmap(half.acked, Round::Down);
        let exact = start == half.next + i64::from(half.is_ended())
            || start == half.next
            || start == half.told
            || start == acknowledged;
        if !exact {
            // Of the older connection it is exact, and this one goes on.
            let older = self.older_at.take_if(|at| *at == seq).is_some();
            return if older { Kind::Older } else { Kind::Refused(Refusal::Reset) };
        }
        self.take_reset(pool, from);
        Kind::Reset
    }

    /// An end resets the connection.
    fn take_reset(&mut self, pool: &mut Pool, from: Side) {
        self.clear(pool);
        self.reset_by.get_or_insert(from);
    }

    /// What comes behind a reset: it again, or what an end says that has not taken the other's, since it has some of the bytes
    /// before it and not all, or the reset was lost. Where that end stands is asked of who has reset, whose answer is exact there
    /// (RFC 5961 §3.2, RFC 9293 §3.10.7.1). Its bytes are nobody's any more.
    ///
    /// What no end can have sent moves nothing, and keeps nothing alive.
    fn arrive_behind_reset(&mut self, pool: &mut Pool, event: &Event, segment: &Segment<'_>) -> Kind {
        let from = event.from;
        if segment.has(flags::RST) {
            if !self.half(from).may_stand_at(event.start) {
                return Kind::Refused(Refusal::Unplaced);
            }
            self.take_reset(pool, from);
            return Kind::Reset;
        }
        let asks = self.reset_by == Some(from.other()) && self.may_ask(event);
        let Some(ack) = event.ack.filter(|_| asks) else {
            return Kind::Refused(Refusal::Unplaced);
        };
        if let Some(timestamp) = segment.options.timestamp {
            self.half_mut(from).note_timestamp(timestamp, false);
        }
        let half = self.half_mut(from.other());
        let window = u32::from(segment.window) << half.scale;
        half.acknowledge(pool, ack, window, event.start);
        Kind::Question
    }

    /// Whether a segment can be of an end that has not taken a reset: its numbers are in their windows, and it is not older than
    /// what came before. Beside such numbers a timestamp is never left out (RFC 7323 §3.2).
    fn may_ask(&self, event: &Event) -> bool {
        let stamped = !self.has_timestamps() || event.options.timestamp.is_some();
        event.ack.is_some() && stamped && self.refuses(event).is_none()
    }

    /// Whether a segment of a connection that the gateway has reset is of an end that has not taken that, and is told once more.
    /// Each connection so often at most.
    pub fn is_told_again(&mut self, segment: &Segment<'_>) -> bool {
        let from = segment.from;
        let (Some(start), true) = (self.half(from).offset(segment.seq), self.reset) else { return false };
        let ack = self.half(from.other()).offset_of_ack(segment.ack).filter(|_| segment.has(flags::ACK));
        let event = Event { start, ack, ..Event::new(segment) };
        let again = !segment.has(flags::RST) && self.may_ask(&event) && self.told_again < MOST_TOLD_AGAIN;
        self.told_again += u8::from(again);
        again
    }
}
