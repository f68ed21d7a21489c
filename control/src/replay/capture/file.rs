//! The two formats of capture files, and the errors of reading them.

use super::link::LinkType;
use pcap_parser::pcap::parse_pcap_header;
use pcap_parser::pcapng::{Block, InterfaceDescriptionBlock, OptionCode, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock;
use std::io::{self, ErrorKind, Read};

/// Longest record or block that is read, in bytes. Link layers end at 64 KiB, offloading NICs a little above.
const LONGEST: u32 = 16 << 20;
/// Most interfaces of one section of a pcapng file.
const MOST_INTERFACES: usize = 4_096;
/// Bytes of a pcap file's header, and of the header of each of its records.
const PCAP_HEADER: usize = 24;
const PCAP_RECORD: usize = 16;
/// The type of a section header, which reads the same in either byte order, and the mark behind its length.
const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// What a block must have: type, length, length again.
const SHORTEST_BLOCK: u32 = 12;

/// Why a capture cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system says no.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// It is no capture.
    #[error("{found}; expected a pcap or pcapng file")]
    NoCapture {
        /// What it is instead.
        found: &'static str,
    },
    /// It ends in the middle of a packet.
    #[error("cut short at byte {at}, after {packets} packets: {missing} more bytes expected")]
    CutShort {
        /// Where it ends.
        at: u64,
        /// Packets before.
        packets: u64,
        /// Bytes that are missing.
        missing: usize,
    },
    /// Something in it makes no sense.
    #[error("bad {what} at byte {at}, after {packets} packets; expected {expected}")]
    Malformed {
        /// What it is.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// Packets before.
        packets: u64,
        /// What it should be.
        expected: &'static str,
    },
}

/// One captured packet. Its buffer is used again for the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Nanoseconds since 1970 in UTC; none where the format has no place for it.
    pub at: Option<u64>,
    /// What it begins with.
    pub link: LinkType,
    /// Bytes that it had on the wire. More than there are in [`Self::data`] if the capture cut it.
    pub wire_len: u32,
    /// The packet, from its link layer on.
    pub data: Vec<u8>,
}

/// An interface of a pcapng section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    snap_len: u32,
    /// Units of a timestamp in a second.
    resolution: u64,
    /// Seconds that are added to it.
    offset: i64,
}

#[derive(Debug)]
enum Format {
    Pcap { link: LinkType, big_endian: bool, nanoseconds: bool },
    PcapNg { big_endian: bool, interfaces: Vec<Interface> },
}

/// An open capture.
#[derive(Debug)]
pub struct Capture<R> {
    input: R,
    format: Format,
    /// Bytes read.
    at: u64,
    packets: u64,
    /// The block that is being read.
    block: Vec<u8>,
}

impl<R: Read> Capture<R> {
    /// Reads the beginning. `input` is read in small pieces: it should be buffered.
    ///
    /// # Errors
    /// It cannot be read, or is no capture.
    pub fn open(mut input: R) -> Result<Self, CaptureError> {
        let mut head = [0; PCAP_HEADER];
        let read = read_up_to(&mut input, &mut head[..4])?;
        if read < 4 {
            return Err(CaptureError::NoCapture {
                found: if read == 0 { "it is empty" } else { "it is too short" },
            });
        }
        let [a, b, c, d, ..] = head;
        if u32::from_be_bytes([a, b, c, d]) == SECTION {
            let format = Format::PcapNg { big_endian: false, interfaces: Vec::new() };
            let mut this = Self { input, format, at: 4, packets: 0, block: Vec::new() };
            this.block.extend_from_slice(&[a, b, c, d]);
            this.section()?;
            return Ok(this);
        }
        if [a, b] == [0x1f, 0x8b] {
            return Err(CaptureError::NoCapture { found: "it is compressed with gzip" });
        }
        let read = 4 + read_up_to(&mut input, &mut head[4..])?;
        let Ok((_, header)) = parse_pcap_header(&head) else {
            return Err(CaptureError::NoCapture { found: "it begins with something else" });
        };
        if read < PCAP_HEADER {
            return Err(CaptureError::NoCapture { found: "it is too short" });
        }
        if header.is_modified_format() {
            return Err(CaptureError::NoCapture { found: "it is a pcap file of a modified format" });
        }
        // The high half says whether a frame check sequence follows: padding to whoever reads IP.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low half")]
        let link = LinkType(header.network.0 as u16);
        let format = Format::Pcap {
            link,
            big_endian: header.is_bigendian(),
            nanoseconds: header.is_nanosecond_precision(),
        };
        Ok(Self { input, format, at: PCAP_HEADER as u64, packets: 0, block: Vec::new() })
    }

    /// Packets read.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Reads the next packet. False at the end of the file.
    ///
    /// # Errors
    /// See [`CaptureError`]. What was read before is good; nothing more can be.
    pub fn next(&mut self, packet: &mut Packet) -> Result<bool, CaptureError> {
        let found = match self.format {
            Format::Pcap { link, big_endian, nanoseconds } => {
                self.record(link, big_endian, nanoseconds, packet)?
            }
            Format::PcapNg { .. } => loop {
                match self.block(packet)? {
                    Some(true) => break true,
                    Some(false) => {}
                    None => break false,
                }
            },
        };
        self.packets += u64::from(found);
        Ok(found)
    }

    fn malformed(&self, at: u64, what: &'static str, expected: &'static str) -> CaptureError {
        CaptureError::Malformed { what, at, packets: self.packets, expected }
    }

    /// Fills the rest of the block from `from` on. Nothing at all may be there only if `may_end`.
    fn fill(&mut self, from: usize, may_end: bool) -> Result<bool, CaptureError> {
        let rest = self.block.get_mut(from..).unwrap_or_default();
        let wanted = rest.len();
        let read = read_up_to(&mut self.input, rest)?;
        self.at += read as u64;
        match read {
            0 if may_end && wanted > 0 => Ok(false),
            _ if read == wanted => Ok(true),
            _ => Err(CaptureError::CutShort { at: self.at, packets: self.packets, missing: wanted - read }),
        }
    }

    /// A record of a pcap file.
    fn record(
        &mut self,
        link: LinkType,
        big_endian: bool,
        nanoseconds: bool,
        packet: &mut Packet,
    ) -> Result<bool, CaptureError> {
        let at = self.at;
        self.block.clear();
        self.block.resize(PCAP_RECORD, 0);
        if !self.fill(0, true)? {
            return Ok(false);
        }
        let [seconds, fraction, captured, wire_len] = [0, 4, 8, 12].map(|i| word(&self.block, i, big_endian));
        if captured > LONGEST {
            return Err(self.malformed(at, "length of a packet", "at most 16 MiB"));
        }
        self.block.clear();
        self.block.resize(captured as usize, 0);
        self.fill(0, false)?;
        let unit = if nanoseconds { 1 } else { 1_000 };
        packet.at = Some(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit);
        packet.link = link;
        packet.wire_len = wire_len;
        core::mem::swap(&mut packet.data, &mut self.block);
        Ok(true)
    }

    /// The rest of a section header, of which the block has the first four bytes.
    fn section(&mut self) -> Result<(), CaptureError> {
        let at = self.at - 4;
        self.block.resize(12, 0);
        self.fill(4, false)?;
        let big_endian = match word(&self.block, 8, true) {
            BYTE_ORDER => true,
            mark if mark == BYTE_ORDER.swap_bytes() => false,
            _ => return Err(self.malformed(at, "section header", "a byte-order mark")),
        };
        self.format = Format::PcapNg { big_endian, interfaces: Vec::new() };
        self.body(at, big_endian)?;
        match parse(&self.block, big_endian) {
            Some(Block::SectionHeader(section)) if section.major_version == 1 => Ok(()),
            Some(Block::SectionHeader(_)) => {
                Err(self.malformed(at, "section header", "version 1 of the format"))
            }
            _ => Err(self.malformed(at, "section header", "its fields")),
        }
    }

    /// The rest of a block, whose type and length are there.
    fn body(&mut self, at: u64, big_endian: bool) -> Result<(), CaptureError> {
        let length = word(&self.block, 4, big_endian);
        let there = self.block.len();
        if !(SHORTEST_BLOCK..=LONGEST).contains(&length)
            || !length.is_multiple_of(4)
            || (length as usize) < there
        {
            return Err(self.malformed(at, "length of a block", "a multiple of 4, from 12 bytes to 16 MiB"));
        }
        self.block.resize(length as usize, 0);
        self.fill(there, false)?;
        if word(&self.block, length as usize - 4, big_endian) != length {
            return Err(self.malformed(at, "end of a block", "its length again"));
        }
        Ok(())
    }

    /// A block of a pcapng file. True if it is a packet; none at the end.
    fn block(&mut self, packet: &mut Packet) -> Result<Option<bool>, CaptureError> {
        let Format::PcapNg { big_endian, .. } = self.format else { return Ok(None) };
        let at = self.at;
        self.block.clear();
        self.block.resize(4, 0);
        if !self.fill(0, true)? {
            return Ok(None);
        }
        if word(&self.block, 0, true) == SECTION {
            self.section()?;
            return Ok(Some(false));
        }
        self.block.resize(8, 0);
        self.fill(4, false)?;
        self.body(at, big_endian)?;
        let block = core::mem::take(&mut self.block);
        let taken = self.take(at, &block, big_endian, packet);
        self.block = block;
        taken.map(Some)
    }

    /// What a whole block says. True if it is a packet.
    fn take(
        &mut self,
        at: u64,
        block: &[u8],
        big_endian: bool,
        packet: &mut Packet,
    ) -> Result<bool, CaptureError> {
        let Some(parsed) = parse(block, big_endian) else {
            return Err(self.malformed(at, "block", "fields that fit into it"));
        };
        let packets = self.packets;
        let Format::PcapNg { interfaces, .. } = &mut self.format else { return Ok(false) };
        let bad = |what, expected| CaptureError::Malformed { what, at, packets, expected };
        match parsed {
            Block::InterfaceDescription(description) => {
                if interfaces.len() >= MOST_INTERFACES {
                    return Err(bad("interface description", "at most 4096 of them"));
                }
                let interface = Interface::read(&description, big_endian).ok_or_else(|| {
                    bad("time resolution of an interface", "at most 10^19 or 2^63 in a second")
                })?;
                interfaces.push(interface);
                Ok(false)
            }
            Block::EnhancedPacket(enhanced) => {
                let interface = usize::try_from(enhanced.if_id).ok().and_then(|id| interfaces.get(id));
                let interface =
                    interface.ok_or_else(|| bad("interface of a packet", "one that was described"))?;
                let units = u64::from(enhanced.ts_high) << 32 | u64::from(enhanced.ts_low);
                packet.at = Some(interface.time(units));
                packet.link = interface.link;
                packet.wire_len = enhanced.origlen;
                packet.data.clear();
                packet.data.extend_from_slice(enhanced.packet_data());
                Ok(true)
            }
            Block::SimplePacket(simple) => {
                let interface = interfaces
                    .first()
                    .ok_or_else(|| bad("simple packet", "an interface that was described"))?;
                let captured = match interface.snap_len {
                    0 => simple.origlen,
                    snap_len => simple.origlen.min(snap_len),
                };
                packet.at = None;
                packet.link = interface.link;
                packet.wire_len = simple.origlen;
                packet.data.clear();
                let data = simple.data.get(..captured as usize).unwrap_or(simple.data);
                packet.data.extend_from_slice(data);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Interface {
    fn read(block: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Option<Self> {
        let option = |code| block.options.iter().find(|option| option.code == code);
        let offset = option(OptionCode::IfTsoffset).and_then(|o| o.value.first_chunk::<8>());
        let offset = offset.map_or(0, |bytes| {
            if big_endian { i64::from_be_bytes(*bytes) } else { i64::from_le_bytes(*bytes) }
        });
        let exponent = option(OptionCode::IfTsresol).and_then(|o| o.value.first().copied()).unwrap_or(6);
        let power = u32::from(exponent & 0x7f);
        let resolution =
            if exponent & 0x80 == 0 { 10_u64.checked_pow(power) } else { 1_u64.checked_shl(power) }?;
        let link = LinkType(u16::try_from(block.linktype.0).ok()?);
        Some(Self { link, snap_len: block.snaplen, resolution, offset })
    }

    /// Nanoseconds since 1970. What is before is 1970, what is too far ahead the last that there is.
    fn time(&self, units: u64) -> u64 {
        let seconds = i128::from(units / self.resolution) + i128::from(self.offset);
        let fraction = u128::from(units % self.resolution) * 1_000_000_000 / u128::from(self.resolution);
        #[expect(clippy::cast_possible_wrap, reason = "below a second")]
        let nanoseconds = seconds * 1_000_000_000 + fraction as i128;
        u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX)
    }
}

fn parse(block: &[u8], big_endian: bool) -> Option<Block<'_>> {
    let parsed = if big_endian { parse_block_be(block) } else { parse_block_le(block) };
    parsed.ok().map(|(_, block)| block)
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return 0 };
    if big_endian { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) }
}

/// Reads until the buffer is full or the input ends.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
