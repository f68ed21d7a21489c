//! Where a stream stands in its current line, one byte at a time.
//!
//! Owns the few bytes that must be remembered when a line is cut: its first [`HEAD`] bytes, and how far a telnet
//! command before it has come. Whether a line is one that may need an edit is decided on bytes, by [`find_word`].

use arrayvec::ArrayVec;

/// How many first bytes of a line are remembered. `EPSV ALL` and `OPTIONS ` fit.
pub(super) const HEAD: usize = 8;

pub(super) const IAC: u8 = 255;

/// How far a telnet command has come (RFC 854). Subnegotiation is not read: no FTP client sends one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Telnet {
    /// Not in one.
    #[default]
    Outside,
    /// After IAC.
    Command,
    /// After IAC and WILL, WONT, DO or DONT: one option byte follows.
    Choice,
}

/// The position in the current line of one stream; the default is the start of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct LineHead {
    bytes: [u8; HEAD],
    len: u8,
    /// The last byte that was read may be an end, see [`inner_end`].
    ended: bool,
    telnet: Telnet,
}

impl LineHead {
    /// Whether nothing of the line has been read yet.
    pub(super) fn at_start(&self) -> bool {
        self.len == 0
    }

    /// Whether the data byte 255 is all that was read of the line: a doubled IAC.
    pub(super) fn begins_with_iac(&self) -> bool {
        self.head() == [IAC]
    }

    /// Whether the line begins within a telnet command that nobody knows. Some read over the command's byte too.
    pub(super) fn begins_in_telnet(&self, rest: &[u8]) -> bool {
        self.len == 0 && matches!(self.telnet, Telnet::Command) && rest.first().is_some_and(|b| *b != b'\n')
    }

    /// Whether another line begins here for some readers, see [`inner_end`].
    pub(super) fn ends_early(&self) -> bool {
        self.ended
    }

    /// The line's first bytes, as many as were read, at most [`HEAD`]; without the LF.
    pub(super) fn head(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Reads telnet commands that stand before the line's first byte (RFC 959 §4.1.3: IAC IP, IAC DM before ABOR).
    /// Returns how many of `bytes` they are. They never swallow an LF.
    pub(super) fn skip_telnet(&mut self, bytes: &[u8]) -> usize {
        if self.len != 0 {
            return 0;
        }
        for (read, &byte) in bytes.iter().enumerate() {
            self.telnet = match (self.telnet, byte) {
                (Telnet::Outside, IAC) => Telnet::Command,
                (Telnet::Outside, _) => return read,
                (Telnet::Command, 251..=254) => Telnet::Choice,
                (Telnet::Command, 240..=250) => Telnet::Outside,
                (Telnet::Command, IAC) => {
                    // A doubled IAC is the data byte 255: the line has begun.
                    self.telnet = Telnet::Outside;
                    self.push(&[IAC]);
                    return read.saturating_add(1);
                }
                (Telnet::Choice, b) if b != b'\n' => Telnet::Outside,
                // It ends here, unfinished, and the line begins. Whether that is held is not known: nothing is noted.
                (Telnet::Command | Telnet::Choice, _) => return read,
            };
        }
        bytes.len()
    }

    /// Reads more bytes of the line, without its LF.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.telnet = Telnet::Outside;
        self.ended = part.last().map_or(self.ended, |last| matches!(*last, b'\r' | 0));
        let free = self.bytes.get_mut(usize::from(self.len)..).unwrap_or_default();
        for (slot, &byte) in free.iter_mut().zip(part) {
            *slot = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    /// Begins the next line.
    pub(super) fn next_line(&mut self) {
        *self = Self::default();
    }
}

/// What the bytes at the start of a line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match<T> {
    /// None of the words, whatever follows.
    No,
    /// Too few bytes to tell.
    Undecided,
    /// This word, and the blank after it.
    Word(T),
}

/// Compares the start of a line, in any case, with words that a blank must follow.
pub(super) fn find_word<T: Copy>(line: &[u8], words: &[(&[u8], T)]) -> Match<T> {
    let mut answer = Match::No;
    for &(word, value) in words {
        if line.len() <= word.len() {
            if word.get(..line.len()).is_some_and(|w| w.eq_ignore_ascii_case(line)) {
                answer = Match::Undecided;
            }
        } else if let Some((start, rest)) = line.split_at_checked(word.len())
            && start.eq_ignore_ascii_case(word)
            && rest.first().is_some_and(|&b| is_blank(b))
        {
            return Match::Word(value);
        }
    }
    answer
}

/// The same for a server that reads over bytes that are no text, in a word too, and over whatever stands before it: telnet
/// commands, blanks, quotes. [`find_word`] has found none. A word without an argument is none here either. Of a line no more
/// is given than may be held: what is undecided then is too long, however it was cut.
pub(super) fn find_disguised<T>(line: &[u8], words: &[(&[u8], T)]) -> Match<()> {
    let mut word = ArrayVec::<u8, HEAD>::new();
    let may_be = |word: &[u8]| {
        words.iter().any(|(w, _)| w.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word)))
    };
    // Of C's `isspace`, the vertical tab too.
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let is = |word: &[u8]| words.iter().any(|(w, _)| w.eq_ignore_ascii_case(word));
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            b'\n' => return Match::No,
            // Servers do not agree on how many bytes it takes.
            IAC => return Match::Word(()),
            _ if byte.is_ascii_alphanumeric() => {
                if word.try_push(byte).is_err() || !may_be(&word) {
                    return Match::No;
                }
            }
            _ if word.is_empty() || !byte.is_ascii_graphic() && !is_space(byte) => {}
            _ if is(&word) => {
                let behind = line.get(at..).unwrap_or_default();
                return match behind.iter().find(|b| !is_blank(**b) && **b != b'\r') {
                    None => Match::Undecided,
                    Some(b'\n') => Match::No,
                    Some(_) => Match::Word(()),
                };
            }
            _ => return Match::No,
        }
    }
    Match::Undecided
}

/// What separates a command from its argument. RFC 959 has the space; servers take a tab too.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether [`find_disguised`] reads over this byte before a word.
pub(super) fn is_read_over(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && byte != b'\n' && byte != IAC
}

/// How much of a line, or of its beginning, the first `len` of these bytes, reaches to the first CR or NUL, and with it, behind which
/// there is a doubt; all if there is none. Either alone is an end to some readers. `doubts` gets what stands before and what follows.
/// What is `read_over` in front of a line changes no answer: of a run of ends with nothing else between them one is asked about, else
/// the work would grow with its square.
pub(super) fn inner_end(
    bytes: &[u8],
    len: usize,
    read_over: impl Fn(u8) -> bool,
    mut doubts: impl FnMut(&[u8], &[u8]) -> bool,
) -> usize {
    let mut from = 0_usize;
    while let Some(at) = memchr::memchr2(b'\r', 0, bytes.get(from..len).unwrap_or_default()) {
        let start = from.saturating_add(at).saturating_add(1);
        // The last one is the line's own end, or what follows has not come.
        let Some((begun, behind)) = bytes.split_at_checked(start).filter(|_| start < len) else { break };
        if doubts(begun, behind) {
            return start;
        }
        from = start.saturating_add(behind.iter().take_while(|b| read_over(**b)).count());
    }
    len
}

/// The first word of a head: up to a blank or CR, or all of it.
pub(super) fn first_word(head: &[u8]) -> &[u8] {
    let end = head.iter().position(|&b| is_blank(b) || b == b'\r').unwrap_or(head.len());
    head.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [(&[u8], u8); 2] = [(b"PORT", 1), (b"EPRT", 2)];

    #[test]
    fn words_are_decided_at_the_earliest_byte() {
        for undecided in ["", "p", "PO", "pOr", "PORT", "e", "EP", "eprt"] {
            assert_eq!(find_word(undecided.as_bytes(), &WORDS), Match::Undecided, "{undecided}");
        }
        for no in ["X", "PA", "POS", "PORTS", "PORT\r", "PORT\n", "EPS", "\n", " PORT 1"] {
            assert_eq!(find_word(no.as_bytes(), &WORDS), Match::No, "{no:?}");
        }
        assert_eq!(find_word(b"port ", &WORDS), Match::Word(1));
        assert_eq!(find_word(b"EpRt\t|", &WORDS), Match::Word(2));
    }

    #[test]
    fn what_a_server_may_read_over_hides_no_word() {
        for word in [
            &b" PORT 1"[..],
            b"\t\x0b port\t1",
            b"\0PORT 1",
            b"P\xff\xf1ORT 1",
            b"P\xff",
            b" \xff\xf1PORT 1",
            b"PO\0RT 1",
            b"PORT\0 1",
            b"PORT\x0b1",
            b"PORT\r1",
            b"PORT-1",
            b"\"PORT\" 1",
            b"PORT 1",
        ] {
            assert_eq!(find_disguised(word, &WORDS), Match::Word(()), "{word:?}");
        }
        for undecided in [&b""[..], b" ", b"\r", b" PO", b" PORT", b"PORT\r", b"P\x01", b"PORT\0", b"\"EPRT"]
        {
            assert_eq!(find_disguised(undecided, &WORDS), Match::Undecided, "{undecided:?}");
        }
        for no in [
            &b"\r\n"[..],
            b"  \n",
            b" USER",
            b"PORT\r\n",
            b" PORT \r\n",
            b"PORTS",
            b"PO RT",
            b"1PORT",
            b"STOR\xff",
            b"P-ORT",
        ] {
            assert_eq!(find_disguised(no, &WORDS), Match::No, "{no:?}");
        }
    }

    /// How many bytes are looked at for the ends within a line.
    fn work(line: &[u8]) -> usize {
        let mut work = 0;
        let cut = inner_end(line, line.len(), is_read_over, |_, behind| {
            let decides = |n: &usize| !matches!(find_disguised(&behind[..*n], &WORDS), Match::Undecided);
            work += (0..=behind.len()).find(decides).unwrap();
            false
        });
        assert_eq!(cut, line.len());
        work
    }

    #[test]
    fn the_work_for_inner_ends_grows_with_the_line_alone() {
        let units: [&[u8]; 9] =
            [b"\0", b"\r", b"\0\r", b"\0 ", b"\0\"\x01", b"a\0", b"P\0", b"PORT\0", b"P\x01\0O\x01\r"];
        for unit in units {
            for count in [100, 200] {
                let line = [b"NOOP", &unit.repeat(count)[..], b"\r\n"].concat();
                assert!(work(&line) <= 6 * line.len(), "{unit:?}: {} of {}", work(&line), line.len());
            }
        }
    }

    #[test]
    fn a_line_is_cut_where_there_is_a_doubt() {
        let first = |line: &[u8]| {
            inner_end(line, line.len(), is_read_over, |_, behind| {
                !matches!(find_disguised(behind, &WORDS), Match::No)
            })
        };
        for (line, cut) in [
            (&b"STOR x\r"[..], 7),
            (b"STOR x\rPORT 1\r", 7),
            (b"STOR x\0y\r \0 PORT 1\r", 9),
            (b"STOR \0\0\0y\0PO", 10),
            (b"STOR x\r \0", 7),
            (b"STOR x\0y\0", 9),
        ] {
            assert_eq!(first(line), cut, "{line:?}");
        }
    }

    #[test]
    fn telnet_commands_are_skipped_however_cut() {
        // (bytes, how many of them stand before the line)
        let cases: [(&[u8], usize); 7] = [
            (b"ABOR", 0),
            (b"\xff\xf4\xff\xf2ABOR", 4),
            (b"\xff\xfb\x01ABOR", 3),
            (b"\xff\xffABOR", 2),
            (b"\xffABOR", 1),
            (b"\xff\n", 1),
            (b"\xff\xfb\n", 2),
        ];
        for (bytes, expected) in cases {
            for cut in 0..=bytes.len() {
                let mut line = LineHead::default();
                let (first, second) = bytes.split_at(cut);
                let mut read = line.skip_telnet(first);
                if read == first.len() {
                    read += line.skip_telnet(second);
                }
                assert_eq!(read, expected, "{bytes:?} cut at {cut}");
                assert_eq!(line.head(), if bytes.starts_with(b"\xff\xff") { &b"\xff"[..] } else { b"" });
            }
        }
    }

    #[test]
    fn the_head_keeps_the_first_bytes_only() {
        let mut line = LineHead::default();
        assert!(line.at_start());
        line.push(b"EPSV");
        line.push(b" ALL and more");
        line.push(b"and more");
        assert_eq!(line.head(), b"EPSV ALL");
        assert_eq!(first_word(line.head()), b"EPSV");
        line.next_line();
        assert!(line.at_start() && line.head().is_empty());
    }
}
