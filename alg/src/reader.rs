//! Reader: a protocol of messages in a row, and the one loop that reads them.

use crate::contract::{Answer, Blindness, Context, Denial, Gateway, Side, Verdict};

/// How one step through the bytes ended.
pub(crate) enum Step {
    /// So many bytes are understood: one or more.
    Read(usize),
    /// The message is not complete, and may need an edit or a refusal.
    Unfinished,
    /// The message is refused, and with it the flow.
    Refused(Denial),
}

/// A protocol that reads a stream a message, or a part of one, at a time.
pub(crate) trait Reader {
    /// Why nothing is read any more.
    fn blind(&self) -> Option<Blindness>;

    /// Whether the answer takes what one more step may need.
    fn has_room(answer: &Answer) -> bool;

    /// Reads on. `at` says where `rest`, which is not empty, stands in the call and in its stream.
    fn step<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        at: (usize, u64),
        rest: &[u8],
        answer: &mut Answer,
    ) -> Step;
}

/// Reads the bytes of one call, step by step.
pub(crate) fn read<R: Reader, G: Gateway>(
    reader: &mut R,
    cx: &mut Context<'_, G>,
    from: Side,
    offset: u64,
    bytes: &[u8],
    answer: &mut Answer,
) -> Verdict {
    let mut understood = 0_usize;
    // Each round reads at least one byte, or ends.
    loop {
        if let Some(why) = reader.blind() {
            return Verdict::Blind(why);
        }
        let rest = bytes.get(understood..).unwrap_or_default();
        if rest.is_empty() {
            return Verdict::Pass;
        }
        if understood != 0 && !R::has_room(answer) {
            return Verdict::More { understood };
        }
        let at = (understood, offset.wrapping_add(understood as u64));
        let before = answer.expectations.len();
        let step = reader.step(cx, from, at, rest, answer);
        for request in answer.expectations.iter_mut().skip(before) {
            request.offset = at.1;
        }
        match step {
            Step::Read(count) => understood = understood.saturating_add(count),
            Step::Unfinished => return Verdict::Hold { understood },
            Step::Refused(denial) => return Verdict::Deny(denial),
        }
    }
}
