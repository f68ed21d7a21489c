//! `posternd replay`: a capture through the gateway's pipeline, offline, on the capture's own clock.
//!
//! - [`capture`]: pcap and pcapng files, and link layers.
//! - [`frame`]: which side a packet comes from, and what the capturing host has spoilt.
//! - [`sides`]: which interfaces of the configuration are the two sides.
//! - [`gateway`]: the pipeline itself: a worker on heap buffers and the control core.
//! - [`clock`]: how time passes between packets.
//! - [`peer`]: what the far ends would have sent, had this gateway been there.
//! - [`tuple`], [`book`], [`events`]: flows, and what became of them.
//! - [`report`], [`text`]: the report, for programs and for people.
//! - [`explain`], [`pcapng`]: the written capture, with a comment for each packet.
//!
//! What happened to a packet is read from outside: it goes in alone, and counters, events and the arena's records are
//! looked at before and after. The path itself knows nothing of it.

pub mod book;
pub mod capture;
pub mod clock;
pub mod events;
mod explain;
pub mod frame;
pub mod gateway;
pub mod pcapng;
pub mod peer;
mod report;
pub mod sides;
mod text;
pub mod tuple;

use crate::config::{Config, Report};
use book::{Book, Entry};
use capture::{Capture, CaptureError, Packet};
use clock::Clock;
use dataplane::key::Protocol;
use dataplane::packet::{ETHERNET_LEN, Parse, flag, parse};
use frame::{Side, Sorter};
use gateway::{BuildError, Effect, Gateway, Sent};
use ipnet::{IpNet, Ipv4Net};
use pcapng::{Way, Writer};
use peer::Peers;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use tuple::Header;

/// Bytes that are read from a capture at once.
const BUFFER: usize = 1 << 18;

/// What to replay, and how.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The capture: pcap or pcapng.
    #[arg(long, value_name = "FILE")]
    pub capture: PathBuf,
    /// A network inside; may be repeated. Packets from there enter the interface inside, others the one outside.
    #[arg(long, value_name = "CIDR", required = true)]
    pub inside: Vec<IpNet>,
    /// The interface inside, where the networks and the configuration do not say.
    #[arg(long, value_name = "NAME")]
    pub inside_interface: Option<String>,
    /// The interface outside, likewise.
    #[arg(long, value_name = "NAME")]
    pub outside_interface: Option<String>,
    /// Write the packets as they left, or as they came if they did not, with a comment each: pcapng.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Translate as [[nat]] says. The capture must be from the inside of the gateway.
    #[arg(long)]
    pub nat: bool,
    /// Put every wrong checksum right, not only those that the capturing host left to its NIC.
    #[arg(long)]
    pub fix_checksums: bool,
}

/// Why a replay cannot be done, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The gateway cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The two sides are not clear.
    #[error("{}: {what}", config.display())]
    Sides {
        /// The configuration.
        config: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The capture. What could be read of it was replayed.
    #[error("{}: {source}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CaptureError,
    },
    /// The capture that is written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The report.
    #[error("cannot write the report: {0}")]
    Report(io::Error),
}

impl From<Report> for ReplayError {
    fn from(report: Report) -> Self {
        Self::Build(report.into())
    }
}

impl ReplayError {
    /// It is what was given that is wrong, not the host.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Build(BuildError::Config(_)) | Self::Sides { .. } | Self::Capture { .. })
    }
}

/// Replays, and writes the report to `out`.
///
/// # Errors
/// See [`ReplayError`]. When the capture is broken in the middle, the report on what is before is written all the same.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<(), ReplayError> {
    let mut config = Config::load(&options.config)?;
    if !options.nat {
        config.nats.clear();
        config.destination_nats.clear();
    }
    let wanted = sides::Wanted {
        inside: options.inside_interface.as_deref(),
        outside: options.outside_interface.as_deref(),
    };
    let sides = sides::choose(&config, &options.inside, wanted)
        .map_err(|what| ReplayError::Sides { config: options.config.clone(), what })?;
    let broken = |source| ReplayError::Capture { path: options.capture.clone(), source };
    let file = File::open(&options.capture).map_err(|error| broken(error.into()))?;
    let mut capture = Capture::open(BufReader::with_capacity(BUFFER, file)).map_err(broken)?;

    let gateway = Gateway::new(&config, sides, &options.inside, options.nat)?;
    let names = sides.map(|id| config.interfaces.get(usize::from(id.0)).map_or("", |i| i.name.as_str()));
    let output = options.write.as_deref().map(|path| Output::create(path, names)).transpose()?;
    let headline = headline(options, &config, sides);
    let mut replay = Replay::new(options, &config, gateway, output);
    let mut packet = Packet::default();
    let ended = loop {
        match capture.next(&mut packet) {
            Ok(true) => replay.packet(&packet)?,
            Ok(false) => break Ok(()),
            Err(error) if capture.packets() == 0 => return Err(broken(error)),
            Err(error) => break Err(broken(error)),
        }
    };
    let book = replay.finish()?;
    let written = if options.json { report::write(&book, out) } else { text::write(&book, &headline, out) };
    written.and_then(|()| out.flush()).map_err(ReplayError::Report)?;
    ended
}

fn headline(options: &Options, config: &Config, sides: [dataplane::key::InterfaceId; 2]) -> String {
    let [inside, outside] = sides.map(|id| {
        let interface = config.interfaces.get(usize::from(id.0));
        let zone = interface.and_then(|i| config.zones.get(usize::from(i.zone.0)));
        format!("{} (zone {})", interface.map_or("", |i| &i.name), zone.map_or("", String::as_str))
    });
    let networks: Vec<_> = options.inside.iter().map(IpNet::to_string).collect();
    format!(
        "{}: {} inside, at {inside}; everything else outside, at {outside}; NAT {}",
        options.capture.display(),
        networks.join(", "),
        if options.nat { "as configured" } else { "ignored" }
    )
}

/// The capture that is written.
struct Output {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
}

impl Output {
    fn create(path: &Path, names: [&str; 2]) -> Result<Self, ReplayError> {
        let failed = |source| ReplayError::Write { path: path.to_owned(), source };
        let file = File::create(path).map_err(failed)?;
        let writer = Writer::new(BufWriter::new(file), names).map_err(failed)?;
        Ok(Self { path: path.to_owned(), writer })
    }

    fn packet(
        &mut self,
        place: (Side, Way),
        at: u64,
        frame: &[u8],
        wire_len: usize,
        comment: &str,
    ) -> Result<(), ReplayError> {
        let written = self.writer.packet(place, at, frame, wire_len, comment);
        written.map_err(|source| ReplayError::Write { path: self.path.clone(), source })
    }
}

/// A replay under way.
struct Replay {
    gateway: Gateway,
    sorter: Sorter,
    peers: Peers,
    book: Book,
    clock: Option<Clock>,
    output: Option<Output>,
    /// The frame that is fed.
    frame: Vec<u8>,
}

impl Replay {
    fn new(options: &Options, config: &Config, gateway: Gateway, output: Option<Output>) -> Self {
        let own = config.interfaces.iter().flat_map(|interface| &interface.addresses);
        let own = own.map(|net| Ipv4Net::from(net.addr()));
        let translated = own.chain(config.translated()).filter(|_| options.nat).collect();
        let sorter = Sorter::new(options.inside.clone(), translated, gateway.macs(), options.fix_checksums);
        let most_flows = usize::try_from(config.dataplane.sessions).unwrap_or(usize::MAX);
        let book = Book::new(&gateway, most_flows);
        let peers = Peers::new(options.nat);
        Self { gateway, sorter, peers, book, clock: None, output, frame: Vec::new() }
    }

    /// Time passes until a packet is captured. Answers the time that it counts for.
    fn wait(&mut self, at: Option<u64>) -> Result<u64, ReplayError> {
        let mut clock = self.clock.unwrap_or_else(|| Clock::new(at.unwrap_or(0)));
        // Where the format has no time, no time passes.
        let at = at.unwrap_or(clock.nanoseconds());
        clock.heed(at);
        let silence = clock.nanoseconds();
        self.book.set_time(clock.tick(), clock.wall());
        while clock.step(silence, at, self.gateway.is_alive()) {
            self.book.set_time(clock.tick(), clock.wall());
            let effect = self.gateway.pass_time(clock.tick());
            self.book.time(&effect);
            self.write_own(&effect.sent, clock.nanoseconds())?;
        }
        if self.clock.is_none() {
            // Announcements of the gateway's own, before the first packet.
            let effect = self.gateway.pass_time(clock.tick());
            self.book.time(&effect);
        }
        self.clock = Some(clock);
        Ok(clock.nanoseconds())
    }

    fn packet(&mut self, packet: &Packet) -> Result<(), ReplayError> {
        let now = self.wait(packet.at)?;
        let mut frame = core::mem::take(&mut self.frame);
        let sorted = self.sorter.frame(packet, &mut frame);
        let ip = frame.get(ETHERNET_LEN..).unwrap_or_default();
        let header = Header::read(ip);
        let mut tuple = tuple::of(ip);
        if let Some(header) = header.filter(|header| header.fragment) {
            tuple = self.book.ends_of_fragment(&header, tuple);
        }
        let bytes = header.map_or(ip.len(), |header| header.total) as u64;
        let done = match sorted {
            Err(unfit) => {
                self.book.unfit(unfit, tuple, bytes);
                let cut = (packet.wire_len as usize).saturating_sub(packet.data.len());
                self.write_packet((Side::Outside, Way::In), now, packet, &frame, cut, &explain::unfit(unfit))
            }
            Ok(side) => self.feed(side, now, packet, tuple, bytes, &mut frame),
        };
        self.frame = frame;
        done
    }

    /// Feeds a frame, and writes down what it did.
    fn feed(
        &mut self,
        side: Side,
        now: u64,
        packet: &Packet,
        tuple: Option<tuple::Tuple>,
        bytes: u64,
        frame: &mut [u8],
    ) -> Result<(), ReplayError> {
        if let Some(tuple) = tuple {
            self.peers.adapt(&self.gateway, side, tuple, frame);
        }
        let parsed = match frame.first_chunk().map(|mac| parse(frame, *mac)) {
            Some(Parse::Ip(parsed)) => Some(parsed),
            _ => None,
        };
        let opens = flag::SYN | flag::ACK | flag::RST | flag::FIN;
        let continues =
            parsed.is_some_and(|p| p.protocol == Protocol::Tcp && p.tcp_flags & opens != flag::SYN);
        let midway = continues && tuple.is_some_and(|tuple| self.book.may_be_midway(tuple));
        let effect = self.gateway.feed(side, frame, midway);
        let entry = Entry { side, tuple, bytes, readable: parsed.is_some(), midway };
        let fed = frame.get(ETHERNET_LEN..).and_then(tuple::of);
        let flow = self.book.packet(&self.gateway, &entry, fed, &effect);
        if let Some(tuple) = tuple {
            self.peers.learn(side, tuple, frame, &effect);
        }
        if self.output.is_some() {
            self.write_fed(side, now, packet, frame, flow, &effect)?;
        }
        Ok(())
    }

    /// Writes a packet as it left, or as it came if it did not, and what the gateway sent besides.
    fn write_fed(
        &mut self,
        side: Side,
        now: u64,
        packet: &Packet,
        frame: &[u8],
        flow: Option<u32>,
        effect: &Effect,
    ) -> Result<(), ReplayError> {
        let transit = effect.sent.iter().position(|sent| effect.forwarded > 0 && sent.side != side);
        let left = transit.and_then(|at| effect.sent.get(at));
        let comment =
            explain::packet(&self.book, flow, side, frame, left.map(|sent| sent.frame.as_slice()), effect);
        match left {
            Some(sent) => {
                self.write_packet((sent.side, Way::Out), now, packet, &sent.frame, 0, &comment)?;
            }
            None => self.write_packet((side, Way::In), now, packet, frame, 0, &comment)?,
        }
        for (at, sent) in effect.sent.iter().enumerate() {
            if Some(at) != transit {
                self.write_own(std::slice::from_ref(sent), now)?;
            }
        }
        Ok(())
    }

    /// Writes a packet with the MAC addresses that it was captured with.
    fn write_packet(
        &mut self,
        place: (Side, Way),
        now: u64,
        packet: &Packet,
        frame: &[u8],
        cut: usize,
        comment: &str,
    ) -> Result<(), ReplayError> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let macs = capture::read(packet.link, &packet.data).ok().and_then(|seen| seen.macs);
        match (macs, frame.get(12..)) {
            (Some(macs), Some(rest)) => {
                output.packet(place, now, &[&macs, rest].concat(), frame.len() + cut, comment)
            }
            _ => output.packet(place, now, frame, frame.len() + cut, comment),
        }
    }

    /// Writes packets that the gateway made itself.
    fn write_own(&mut self, sent: &[Sent], now: u64) -> Result<(), ReplayError> {
        let Some(output) = &mut self.output else { return Ok(()) };
        for Sent { side, frame } in sent {
            output.packet((*side, Way::Out), now, frame, frame.len(), &explain::own(frame))?;
        }
        Ok(())
    }

    /// Closes the book.
    fn finish(mut self) -> Result<Book, ReplayError> {
        let heard = self.gateway.finish();
        self.book.finish(&heard);
        let remarks = [
            ("checksums-repaired", self.sorter.repairs.checksums, "left to the NIC of the capturing host"),
            ("lengths-repaired", self.sorter.repairs.lengths, "left to the NIC of the capturing host"),
            ("vlan-tags-removed", self.sorter.repairs.tagged, "the tags were taken off"),
            ("time-ran-backwards", self.clock.map_or(0, |c| c.backwards()), "earlier than the packet before"),
        ];
        for (kind, packets, note) in remarks {
            if packets > 0 {
                self.book.remark(kind, [("packets", json!(packets)), ("note", json!(note))]);
            }
        }
        let ignored: Vec<_> = self.book.ignored.iter().map(|(reason, n)| (*reason, *n)).collect();
        for (reason, packets) in ignored {
            self.book.remark("ignored", [("reason", json!(reason)), ("packets", json!(packets))]);
        }
        let lost = [("flows-lost", self.book.flows_lost), ("events-lost", self.book.events.lost())];
        for (kind, n) in lost {
            if n > 0 {
                self.book.remark(kind, [("count", json!(n))]);
            }
        }
        if let Some(Output { path, writer }) = self.output {
            writer.finish().map_err(|source| ReplayError::Write { path, source })?;
        }
        Ok(self.book)
    }
}
