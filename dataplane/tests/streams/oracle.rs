//! A made-up protocol whose messages say what becomes of them, and the oracle: the whole stream with the edits applied.
//!
//! A message is a byte that says what is done with it, a byte of length, and so many bytes.

/// What is done with a message, by its first byte modulo their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It passes as it comes, piece by piece.
    Pass,
    /// Its bytes are followed by their copy.
    Grow,
    /// The first half of its bytes stays.
    Shrink,
    /// Nothing of it stays.
    Delete,
    /// Every byte becomes another.
    Change,
    /// It is read whole, and passes.
    Keep,
}

impl Done {
    const ALL: [Self; 6] = [Self::Pass, Self::Grow, Self::Shrink, Self::Delete, Self::Change, Self::Keep];

    pub fn of(first: u8) -> Self {
        Self::ALL[usize::from(first) % Self::ALL.len()]
    }
}

/// An edit: start, length, replacement.
pub type Edit = (usize, usize, Vec<u8>);

/// An edit of a whole stream: where it starts there, how many bytes went, and how many came.
pub type Moved = (usize, usize, usize);

/// Where that stands which became of the byte at `offset`, in the stream with the edits applied: begin and end. What an edit replaced
/// became all that the edit has put there.
pub fn image(edits: &[Moved], offset: usize) -> (usize, usize) {
    let (mut came, mut went) = (0, 0);
    for (start, len, with) in edits {
        if offset < *start {
            break;
        }
        if offset < start + len {
            return (start + came - went, start + came - went + with);
        }
        came += with;
        went += len;
    }
    (offset + came - went, offset + came - went + 1)
}

/// Where one direction stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    /// Bytes of the current message that pass unread.
    passing: usize,
}

impl Reader {
    /// Reads unread bytes: how many are understood, and the edits.
    pub fn read(&mut self, bytes: &[u8]) -> (usize, Vec<Edit>) {
        let (mut at, mut edits) = (0, Vec::new());
        loop {
            let here = self.passing.min(bytes.len() - at);
            self.passing -= here;
            at += here;
            let rest = &bytes[at..];
            let [first, len, body @ ..] = rest else { return (at, edits) };
            let len = usize::from(*len);
            let done = Done::of(*first);
            if done == Done::Pass {
                at += 2;
                self.passing = len;
                continue;
            }
            let Some(body) = body.get(..len) else { return (at, edits) };
            match done {
                Done::Pass | Done::Keep => {}
                Done::Grow if len > 0 => edits.push((at + 2, len, [body, body].concat())),
                Done::Shrink if len > 0 => edits.push((at + 2, len, body[..len / 2].to_vec())),
                Done::Delete => edits.push((at, len + 2, Vec::new())),
                Done::Change if len > 0 => {
                    edits.push((at + 2, len, body.iter().map(|b| b ^ 0x5A).collect()));
                }
                Done::Grow | Done::Shrink | Done::Change => {}
            }
            at += 2 + len;
        }
    }
}

/// Applies edits to bytes.
pub fn apply(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    for (start, len, with) in edits {
        out.extend_from_slice(&bytes[at..*start]);
        out.extend_from_slice(with);
        at = start + len;
    }
    out.extend_from_slice(&bytes[at..]);
    out
}

/// What the receiver of this whole stream must get. What is unfinished at its end passes as it is.
pub fn oracle(stream: &[u8]) -> Vec<u8> {
    let (_, edits) = Reader::default().read(stream);
    apply(stream, &edits)
}
