//! What must hold of each segment that leaves, by the script's own account of what the gate has heard.

use super::super::oracle::image;
use super::{Out, Script, Sent, at, number, position};
use alg::Side;
use dataplane::stream::edits::MAX_EDITS;
use dataplane::stream::segment::flags::{FIN, RST, URG};
use dataplane::stream::segment::{Arrival, Refusal, Timestamp};

/// What the gate has heard from an end.
#[derive(Default)]
pub(super) struct Heard {
    /// Its newest timestamp.
    newest: Option<Timestamp>,
    /// Its timestamp that older ones are told by.
    pub recent: Option<u32>,
    /// Where its urgent data end.
    urgent: Option<usize>,
    /// Which of its bytes came.
    came: Vec<bool>,
    /// What it has acknowledged of the other stream.
    pub acknowledged: usize,
    /// Behind the last byte, or the FIN, of its stream that left for the other end.
    pub left: usize,
    /// So many of its edits were not acknowledged at once that the engine joins some: numbers inside those are coarse.
    coarse: bool,
}

impl Heard {
    pub(super) fn note(&mut self, timestamp: Timestamp, in_order: bool) {
        if self.newest.is_none_or(|newest| !later(newest.value, timestamp.value)) {
            self.newest = Some(timestamp);
        }
        if in_order && self.recent.is_none_or(|recent| later(timestamp.value, recent)) {
            self.recent = Some(timestamp.value);
        }
    }
}

/// Whether timestamp `a` is later than `b`.
pub(super) fn later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// The first of `0..most` for which something holds, as it does for all behind it; else `most`.
fn first(most: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

impl Script {
    /// How much of what a side says has come in order.
    pub(super) fn came(&self, from: Side) -> usize {
        self.gate.read[at(from)] + self.gate.stream.unread(from)
    }

    /// Notes what a segment has said, of whose sender `next` bytes had come in order before it.
    pub(super) fn note(&mut self, sent: &Sent, next: usize) {
        let heard = &mut self.heard[at(sent.from)];
        let old = sent.timestamp.zip(heard.recent).is_some_and(|(t, recent)| later(recent, t.value));
        let want = if old { Arrival::Refused(Refusal::Timestamp) } else { Arrival::Taken };
        assert_eq!(self.gate.arrival, want, "{sent:?}");
        if old {
            return;
        }
        if let Some(timestamp) = sent.timestamp {
            heard.note(timestamp, sent.start <= next);
        }
        heard.urgent = heard.urgent.max(sent.urgent);
        heard.acknowledged = heard.acknowledged.max(sent.got);
        let stop = sent.start + sent.payload.len();
        if heard.came.len() < stop {
            heard.came.resize(stop, false);
        }
        heard.came[sent.start.min(stop)..stop].fill(true);
        let acknowledged = self.heard[at(sent.from.other())].acknowledged;
        let edits = &self.gate.edits[at(sent.from)];
        let open = edits.iter().filter(|(start, _, _)| image(edits, *start).1 > acknowledged).count();
        self.heard[at(sent.from)].coarse |= open > MAX_EDITS;
    }

    /// What leaves is what was decided, in segments that the receiver takes. `answers`: it leaves for a segment of that side.
    pub(super) fn check(&mut self, out: &Out, answers: Option<Side>) {
        assert!(out.flags & RST == 0);
        assert!(out.payload.len() <= self.mss, "{} bytes in a segment", out.payload.len());
        let from = out.to.other();
        let decided = &self.gate.decided[at(from)];
        let start = position(from, out.seq, decided.len());
        if !out.payload.is_empty() {
            let start = usize::try_from(start).expect("bytes begin behind the SYN");
            let want = decided.get(start..start + out.payload.len());
            assert_eq!(want, Some(&out.payload[..]), "at {start}");
            self.check_urgent(out, start);
        }
        let end = &self.ends[at(out.to)];
        let ack = position(out.to, out.ack, end.sent);
        let most = end.sent as i64 + i64::from(end.fin);
        assert!((0..=most).contains(&ack), "told of {ack}, sent {}", end.sent);
        for (left, right) in &out.sack {
            // Only what came, behind what is missing.
            let [left, right] = [left, right].map(|n| position(out.to, *n, end.sent));
            assert!(ack < left && left < right, "{left}..{right} beside {ack}");
            let block = usize::try_from(left).unwrap()..usize::try_from(right).unwrap();
            let came = self.heard[at(out.to)].came.get(block);
            assert!(came.is_some_and(|came| came.iter().all(|came| *came)), "{left}..{right} has not come");
        }
        self.check_timestamp(out, answers);
        let fin = i64::from(out.flags & FIN != 0);
        let stop = start + out.payload.len() as i64 + fin;
        if fin > 0 || !out.payload.is_empty() {
            let heard = &mut self.heard[at(from)];
            heard.left = heard.left.max(usize::try_from(stop).unwrap());
        }
    }

    /// The pointer stands where its byte went, on every segment that begins before that.
    fn check_urgent(&self, out: &Out, start: usize) {
        let from = out.to.other();
        let (heard, read) = (&self.heard[at(from)], self.gate.read[at(from)]);
        let end = heard.urgent.map(|urgent| {
            if urgent > read {
                // As far behind what is decided as it was said.
                self.gate.decided[at(from)].len() + urgent - read
            } else {
                image(&self.gate.edits[at(from)], urgent - 1).1
            }
        });
        let pointer = end.filter(|end| *end > start).map_or(0, |end| end - start);
        let (has, says) = (out.has(URG), usize::from(out.urgent));
        if heard.coarse {
            assert!(
                (pointer == 0 || has) && says >= pointer,
                "urgent by {says} instead of {pointer} or more"
            );
        } else {
            assert_eq!((has, says), (pointer > 0, pointer), "at {start}");
        }
    }

    /// What leaves has the newest clock of its sender; what the engine says itself echoes what its addressee sent last in order.
    fn check_timestamp(&self, out: &Out, answers: Option<Side>) {
        let sender = self.heard[at(out.to.other())].newest;
        let own = !out.onward && out.payload.is_empty() && out.flags & FIN == 0 && answers == Some(out.to);
        let want = sender.map(|newest| match self.heard[at(out.to)].recent {
            Some(echo) if own => Timestamp { echo, ..newest },
            _ => newest,
        });
        assert_eq!(out.timestamp, want, "{out:?}");
    }

    /// Blocks of an end name to the sender no byte of which the end has not all that became of it, and no less than they can.
    pub(super) fn check_sack(&self, sent: &Sent, late: bool, outs: &[Out]) {
        let Some(onward) = outs.iter().find(|out| out.onward) else { return };
        let of = sent.from.other();
        let (end, edits, read) = (&self.ends[at(of)], &self.gate.edits[at(of)], self.gate.read[at(of)]);
        let ack = usize::try_from(position(of, onward.ack, end.sent)).unwrap_or(0);
        for (place, (left, right)) in sent.sack.iter().copied().enumerate() {
            let [own, l, r] = [sent.got, left, right].map(|n| number(of, n));
            let mapped = self.gate.stream.map_sack(sent.from, own, place == 0, (l, r));
            let mapped =
                mapped.map(|(l, r)| [l, r].map(|n| usize::try_from(position(of, n, end.sent)).unwrap()));
            if right > self.heard[at(of)].left {
                assert_eq!(mapped, None, "{left}..{right} has not left");
                continue;
            }
            let twice = right <= sent.got;
            if let Some([l, r]) = mapped {
                assert!(l < r && r <= read, "{l}..{r} of {read} that are decided");
                assert!(twice || ack < l, "{l} was told to have come: {ack}");
                let exact = left <= image(edits, l).0 && image(edits, r - 1).1 <= right;
                assert!(exact, "{left}..{right} became {l}..{r} by {edits:?}");
            }
            if twice {
                let same = Some([left, right]).filter(|_| place == 0);
                let unknown = same.is_some() && !edits.is_empty();
                assert!(unknown || mapped == same, "{left}..{right} in place {place} became {mapped:?}");
                continue;
            }
            let whole =
                [first(read, |o| image(edits, o).0 >= left), first(read, |o| image(edits, o).1 > right)];
            let reach = |[l, r]: [usize; 2]| (image(edits, l).0, image(edits, r - 1).1);
            let some = whole[0] < whole[1] && reach(whole).0 < reach(whole).1;
            if some && whole[0] > ack && !late && !self.heard[at(of)].coarse {
                assert_eq!(mapped.map(reach), Some(reach(whole)), "{left}..{right} by {edits:?}");
            }
        }
    }

    /// Resets leave for where the other end stands: at what it has acknowledged, or behind all that was sent to it.
    pub(super) fn check_resets(&self, from: Side, outs: &[Out]) {
        let (heard, other) = (&self.heard[at(from)], &self.heard[at(from.other())]);
        let mut at_: Vec<i64> = Vec::new();
        for out in outs {
            assert!(out.has(RST) && out.to == from.other() && out.payload.is_empty(), "{out:?}");
            at_.push(position(from, out.seq, heard.left));
            let end = &self.ends[at(out.to)];
            let ack = position(out.to, out.ack, end.sent);
            assert!(ack <= end.sent as i64 + i64::from(end.fin_sent), "told of {ack}, sent {}", end.sent);
        }
        at_.sort_unstable();
        let mut want = vec![other.acknowledged as i64, heard.left as i64];
        want.dedup();
        assert_eq!(at_, want);
    }
}
