//! Writes pcapng: one section, two Ethernet interfaces, a comment with each packet.

use super::frame::Side;
use std::io::{self, Write};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
/// Of a section: the program.
const USER_APPLICATION: u16 = 4;
/// Of an interface.
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const TIME_RESOLUTION: u16 = 9;
/// Timestamps count 10^-9 seconds.
const NANOSECONDS: u8 = 9;
/// Of a packet: its direction in the two lowest bits.
const FLAGS: u16 = 2;
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// Longest comment: option lengths have 16 bits.
const LONGEST_COMMENT: usize = 65_000;

/// Which way a packet went through an interface of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It came in.
    In,
    /// It left.
    Out,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the beginning. `names` are those of the interfaces inside and outside.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, names: [&str; 2]) -> io::Result<Self> {
        let mut this = Self { out, block: Vec::new() };
        this.begin(SECTION);
        this.put(&0x1a2b_3c4d_u32.to_le_bytes());
        this.put(&1_u16.to_le_bytes());
        this.put(&0_u16.to_le_bytes());
        this.put(&u64::MAX.to_le_bytes()); // of no length that would be known now
        this.option(USER_APPLICATION, concat!("posternd replay ", env!("CARGO_PKG_VERSION")).as_bytes());
        this.end()?;
        for (name, side) in names.into_iter().zip([Side::Inside, Side::Outside]) {
            this.begin(INTERFACE);
            this.put(&ETHERNET.to_le_bytes());
            this.put(&0_u16.to_le_bytes());
            this.put(&0_u32.to_le_bytes()); // packets are whole
            this.option(NAME, name.as_bytes());
            this.option(DESCRIPTION, side.name().as_bytes());
            this.option(TIME_RESOLUTION, &[NANOSECONDS]);
            this.end()?;
        }
        Ok(this)
    }

    /// Writes a packet. `at` is nanoseconds since 1970; `wire_len` its length before the capture cut it.
    ///
    /// # Errors
    /// Those of the output.
    pub fn packet(
        &mut self,
        (side, way): (Side, Way),
        at: u64,
        frame: &[u8],
        wire_len: usize,
        comment: &str,
    ) -> io::Result<()> {
        self.begin(ENHANCED_PACKET);
        let interface = match side {
            Side::Inside => 0_u32,
            Side::Outside => 1,
        };
        self.put(&interface.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "two halves")]
        let (high, low) = ((at >> 32) as u32, at as u32);
        self.put(&high.to_le_bytes());
        self.put(&low.to_le_bytes());
        self.put(&size(frame.len()).to_le_bytes());
        self.put(&size(wire_len.max(frame.len())).to_le_bytes());
        self.padded(frame);
        let mut end = comment.len().min(LONGEST_COMMENT);
        while !comment.is_char_boundary(end) {
            end -= 1;
        }
        self.option(COMMENT, comment.get(..end).unwrap_or_default().as_bytes());
        let direction = if way == Way::In { INBOUND } else { OUTBOUND };
        self.option(FLAGS, &direction.to_le_bytes());
        self.end()
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.put(&kind.to_le_bytes());
        self.put(&[0; 4]); // the length, when it is known
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.put(bytes);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.put(&code.to_le_bytes());
        self.put(&len.to_le_bytes());
        self.padded(value);
    }

    fn end(&mut self) -> io::Result<()> {
        self.option(END_OF_OPTIONS, &[]);
        let len = size(self.block.len() + 4).to_le_bytes();
        self.put(&len);
        if let Some(place) = self.block.get_mut(4..8) {
            place.copy_from_slice(&len);
        }
        self.out.write_all(&self.block)
    }
}

/// A length. Frames and options are far shorter than 4 GiB.
fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
