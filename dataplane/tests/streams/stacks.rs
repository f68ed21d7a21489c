//! Two TCP stacks of smoltcp with the gate between them, over links that lose, repeat, reorder and cut. Time is a number, and
//! all chance comes from a seed.

use super::gate::{Gate, Out, at};
use super::oracle::{image, oracle};
use alg::Side;
use dataplane::stream::segment::{Limits, Options, Segment, Timestamp, flags};
use dataplane::stream::{Narrowed, TooLong};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{self, Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

const ADDRESSES: [Ipv4Address; 2] = [Ipv4Address::new(10, 0, 0, 1), Ipv4Address::new(10, 0, 0, 2)];
const SIDES: [Side; 2] = [Side::Initiator, Side::Responder];
const PORT: u16 = 21;

/// SplitMix64: chance that a seed decides.
pub struct Chance(pub u64);

impl Chance {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// How a connection is made hard.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: u64,
    pub repeat: u64,
    /// Longest delay of a link, in milliseconds. Each packet draws its own: that is reordering.
    pub delay: u64,
    /// Segments are cut to at most this many bytes on their way to the gate; 0 leaves them.
    pub cut: usize,
    /// The maximum segment size on the SYNs that the gate sees.
    pub mss: u16,
    /// Receive buffer of each stack.
    pub window: [usize; 2],
    pub nagle: bool,
    pub ack_delay: bool,
    pub timestamps: bool,
    /// Most bytes that an application writes at once.
    pub write: usize,
}

#[derive(Default)]
struct Nic {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl smoltcp::phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl smoltcp::phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let r = f(&mut bytes);
        self.0.push_back(bytes);
        r
    }
}

impl Device for Nic {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        self.rx.pop_front().map(|bytes| (Rx(bytes), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = 1_500;
        caps.checksum = ChecksumCapabilities::default();
        caps.checksum.tcp = Checksum::Both;
        caps
    }
}

thread_local! {
    /// The stacks' clock for timestamps.
    static CLOCK: Cell<u32> = const { Cell::new(0) };
}

struct Host {
    interface: Interface,
    nic: Nic,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// It closes first.
    first: bool,
    /// What it still has to say.
    says: VecDeque<u8>,
    heard: Vec<u8>,
}

impl Host {
    fn new(side: Side, weather: &Weather, says: &[u8], seed: u64) -> Self {
        let mut nic = Nic::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut nic, Instant::from_millis(0));
        interface.update_ip_addrs(|a| {
            a.push(IpCidr::new(IpAddress::Ipv4(ADDRESSES[at(side)]), 24)).unwrap();
        });
        let buffer = |n: usize| SocketBuffer::new(vec![0; n]);
        let mut socket = Socket::new(buffer(weather.window[at(side)]), buffer(4_096));
        socket.set_nagle_enabled(weather.nagle);
        socket.set_ack_delay(weather.ack_delay.then(|| Duration::from_millis(40)));
        if weather.timestamps {
            socket.set_tsval_generator(Some(|| CLOCK.get()));
        }
        let mut sockets = SocketSet::new(Vec::new());
        match side {
            Side::Initiator => {
                let remote = (IpAddress::Ipv4(ADDRESSES[1]), PORT);
                socket.connect(interface.context(), remote, 40_000).unwrap();
            }
            Side::Responder => socket.listen(PORT).unwrap(),
        }
        let handle = sockets.add(socket);
        let says = says.iter().copied().collect();
        Self { interface, nic, sockets, handle, first: false, says, heard: Vec::new() }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket>(self.handle)
    }

    /// The application writes and reads; the stack sends.
    fn turn(&mut self, now: u64, write: usize) {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        if socket.can_recv() {
            let heard = &mut self.heard;
            socket
                .recv(|bytes| {
                    heard.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        if !self.says.is_empty() && socket.can_send() {
            let room = socket.send_capacity() - socket.send_queue();
            let some: Vec<u8> = self.says.iter().copied().take(write.min(room)).collect();
            let sent = socket.send_slice(&some).unwrap();
            self.says.drain(..sent);
        }
        // smoltcp stops probing a closed window, and repeating, when both ends close with bytes on the way: one closes
        // first, the other when it has heard that.
        let may_close = self.first || socket.state() == tcp::State::CloseWait;
        if self.says.is_empty() && may_close && socket.state() != tcp::State::SynSent && socket.may_send() {
            socket.close();
        }
        let now = Instant::from_millis(i64::try_from(now).unwrap());
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
    }

    /// How much it has of what the other says.
    fn has(&self) -> usize {
        self.heard.len() + self.sockets.get::<Socket>(self.handle).recv_queue()
    }

    /// Whether it has the other's FIN, which is behind all that it hears.
    fn took_fin(&self) -> bool {
        use tcp::State::{CloseWait, Closed, Closing, LastAck, TimeWait};
        let state = self.sockets.get::<Socket>(self.handle).state();
        matches!(state, CloseWait | Closing | LastAck | TimeWait | Closed)
    }

    fn is_done(&mut self) -> bool {
        !matches!(
            self.socket().state(),
            tcp::State::Established
                | tcp::State::SynSent
                | tcp::State::SynReceived
                | tcp::State::Listen
                | tcp::State::FinWait1
                | tcp::State::FinWait2
                | tcp::State::CloseWait
                | tcp::State::Closing
                | tcp::State::LastAck
        )
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both streams arrived whole, and both stacks closed.
    Closed,
    /// Both streams arrived whole.
    Whole,
    /// Nothing moves any more, and it is a sender's turn, which is silent ([`World::owes`]).
    Silent,
    /// Nothing moves any more.
    Stalled,
    /// A stack has taken a FIN before the bytes in front of it ([`Seen::early`]).
    Early,
}

/// Packets that the links carry at once, more are lost. Where each byte is cut off on its own, its acknowledgement makes smoltcp
/// send all of them again: without a bound that grows and grows.
const QUEUE: usize = 5_000;

/// Who has not sent for so long what it has not heard acknowledged, does not repeat it: milliseconds. smoltcp waits a minute
/// at most between two tries.
const SILENT: u64 = 1_000_000;

/// Where nothing has arrived for so long, nothing moves any more, in milliseconds. Bad weather and a tiny window may let a byte
/// through every few minutes.
const STALLED: u64 = 3 * SILENT;

/// What the wire has seen of an end. Offsets are of its own stream.
#[derive(Debug, Default)]
struct Seen {
    /// Number of its SYN.
    isn: Option<u32>,
    /// What it was told has arrived. Its FIN takes one.
    told: i64,
    /// When it last sent the first byte, or the FIN, that it was not told of.
    tried: u64,
    /// Window field of its last segment, and of the last that left for it.
    windows: [u16; 2],
    /// It took a FIN while bytes before that were missing. smoltcp cuts a segment to its window, and takes the FIN all the same.
    early: bool,
}

impl Seen {
    fn offset(&self, seq: u32) -> Option<i64> {
        let from_start = seq.wrapping_sub(self.isn?.wrapping_add(1));
        Some(i32::from_ne_bytes(from_start.to_ne_bytes()).into())
    }

    /// It sends a segment.
    fn sends(&mut self, now: u64, repr: &TcpRepr<'_>) {
        if repr.control == TcpControl::Syn {
            self.isn = Some(number(repr.seq_number));
        } else if let Some(start) = self.offset(number(repr.seq_number))
            && (start..start + repr.segment_len() as i64).contains(&self.told)
        {
            self.tried = now;
        }
    }

    /// A segment reaches it.
    fn hears(&mut self, repr: &TcpRepr<'_>) {
        let ack = repr.ack_number.and_then(|ack| self.offset(number(ack)));
        self.told = self.told.max(ack.unwrap_or(0));
    }
}

/// Where a packet is on its way.
#[derive(Clone, Debug)]
enum Leg {
    ToGate(Side, Vec<u8>),
    ToHost(Side, Vec<u8>),
}

pub struct World {
    weather: Weather,
    chance: Chance,
    hosts: [Host; 2],
    pub gate: Gate,
    legs: BTreeMap<(u64, u64), Leg>,
    now: u64,
    count: u64,
    says: [Vec<u8>; 2],
    /// What each host must hear.
    wants: [Vec<u8>; 2],
    /// That takes into account that nobody reads any more.
    unread: bool,
    seen: [Seen; 2],
    /// Tells each segment (`POSTERN_STREAM_TRACE`).
    loud: bool,
    /// Without the gate, to see what the stacks do alone (`POSTERN_STREAM_BARE`).
    bare: bool,
    /// After so many packets the links to the hosts take so many bytes of TCP behind a header without options.
    pub narrow: Option<(u64, u16)>,
}

fn parse(packet: &[u8]) -> TcpRepr<'_> {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    let sums = ChecksumCapabilities::default();
    let ends = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
    TcpRepr::parse(&tcp, &ends.0, &ends.1, &sums).unwrap()
}

fn build(from: Side, repr: &TcpRepr<'_>) -> Vec<u8> {
    let (source, destination) = (ADDRESSES[at(from)], ADDRESSES[at(from.other())]);
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Tcp,
        payload_len: repr.buffer_len(),
        hop_limit: 64,
    };
    let sums = ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.buffer_len() + repr.buffer_len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    ip.emit(&mut packet, &sums);
    let ends = (IpAddress::Ipv4(source), IpAddress::Ipv4(destination));
    repr.emit(&mut TcpPacket::new_unchecked(packet.payload_mut()), &ends.0, &ends.1, &sums);
    bytes
}

fn number(n: TcpSeqNumber) -> u32 {
    u32::from_ne_bytes(n.0.to_ne_bytes())
}

fn seq_number(n: u32) -> TcpSeqNumber {
    TcpSeqNumber(i32::from_ne_bytes(n.to_ne_bytes()))
}

impl World {
    pub fn new(seed: u64, weather: Weather, says: [Vec<u8>; 2]) -> Self {
        let mut chance = Chance(seed);
        let mut hosts = [0, 1].map(|i| Host::new(SIDES[i], &weather, &says[i], chance.draw()));
        hosts[chance.below(2) as usize].first = true;
        let bare = std::env::var_os("POSTERN_STREAM_BARE").is_some();
        let wants = [1, 0].map(|i: usize| if bare { says[i].clone() } else { oracle(&says[i]) });
        Self {
            weather,
            chance,
            hosts,
            // In bad weather the rest of a message may take minutes.
            gate: Gate::with_limits(Limits { hold_ms: 1 << 30, ..Limits::default() }),
            legs: BTreeMap::new(),
            now: 0,
            count: 0,
            says,
            wants,
            unread: false,
            seen: Default::default(),
            loud: std::env::var_os("POSTERN_STREAM_TRACE").is_some(),
            bare,
            narrow: None,
        }
    }

    /// Puts a packet on a link.
    fn carry(&mut self, leg: Leg) {
        let lost = self.chance.percent(self.weather.loss);
        if lost || self.legs.len() >= QUEUE {
            return;
        }
        let copies = if self.chance.percent(self.weather.repeat) { 2 } else { 1 };
        for _ in 0..copies {
            let due = self.now + 1 + self.chance.below(self.weather.delay);
            self.count += 1;
            self.legs.insert((due, self.count), leg.clone());
        }
    }

    /// What a host sends, cut as the weather says.
    fn sent(&mut self, side: Side, packet: &[u8]) {
        let mut repr = parse(packet);
        self.seen[at(side)].sends(self.now, &repr);
        if repr.control == TcpControl::Syn {
            repr.max_seg_size = Some(self.weather.mss);
        }
        let cut = if self.weather.cut == 0 { usize::MAX } else { self.weather.cut };
        if repr.payload.len() <= cut {
            let packet = build(side, &repr);
            self.carry(Leg::ToGate(side, packet));
            return;
        }
        let pieces = repr.payload.chunks(cut);
        let last = pieces.len() - 1;
        for (i, piece) in pieces.enumerate() {
            let mut part = repr;
            part.seq_number = repr.seq_number + i * cut;
            part.payload = piece;
            if i != last {
                part.control = TcpControl::None;
            }
            let packet = build(side, &part);
            self.carry(Leg::ToGate(side, packet));
        }
    }

    fn through(&mut self, side: Side, packet: &[u8]) {
        if self.bare {
            self.carry(Leg::ToHost(side.other(), packet.to_vec()));
            return;
        }
        let repr = parse(packet);
        self.seen[at(side)].windows[0] = repr.window_len;
        let mut bits = match repr.control {
            TcpControl::None => 0,
            TcpControl::Psh => flags::PSH,
            TcpControl::Syn => flags::SYN,
            TcpControl::Fin => flags::FIN,
            TcpControl::Rst => flags::RST,
        };
        if repr.ack_number.is_some() {
            bits |= flags::ACK;
        }
        let timestamp = repr.timestamp.map(|t| Timestamp { value: t.tsval, echo: t.tsecr });
        let segment = Segment {
            from: side,
            seq: number(repr.seq_number),
            ack: repr.ack_number.map_or(0, number),
            window: repr.window_len,
            flags: bits,
            urgent: 0,
            options: Options {
                mss: repr.max_seg_size,
                window_scale: repr.window_scale,
                sack_permitted: repr.sack_permitted,
                timestamp,
                signed: false,
                len: u8::try_from(repr.header_len() - 20).unwrap(),
            },
            payload: repr.payload,
        };
        self.gate.now = u32::try_from(self.now).unwrap();
        let outs = self.gate.step(&segment);
        self.want();
        if self.loud {
            eprintln!("{:>7} {segment:02x?}", self.now);
            outs.iter().for_each(|o| eprintln!("        -> {o:02x?}"));
        }
        for out in outs {
            self.leave(&out, out.onward.then_some(&repr));
        }
    }

    /// Once nobody reads any more, a host must hear what was decided by then, and then all as it was said.
    fn want(&mut self) {
        if self.gate.stream.is_blind() && !self.unread {
            self.unread = true;
            self.wants = [1, 0].map(|i: usize| {
                let rest = &self.says[i][self.gate.read[i]..];
                [self.gate.decided[i].as_slice(), rest].concat()
            });
        }
    }

    /// Each segment that leaves has what its receiver must hear at its number, as far as that does not have it. What a stack
    /// makes of them then is its own.
    fn check(&self, out: &Out) {
        let to = at(out.to);
        let fin = out.has(flags::FIN);
        if out.payload.is_empty() && !fin || out.has(flags::SYN) || out.has(flags::RST) {
            return;
        }
        let (want, has) = (&self.wants[to], self.hosts[to].has());
        let start = self.seen[1 - to].offset(out.seq).unwrap();
        let stop = start + out.payload.len() as i64;
        let from = start.max(has as i64);
        if from < stop {
            let (from, stop) = (from as usize, stop as usize);
            let fresh = &out.payload[out.payload.len() - (stop - from)..];
            assert_eq!(want.get(from..stop), Some(fresh), "what leaves at {start}: {out:?}, {self:?}");
        }
        assert!(!fin || stop == want.len() as i64, "a FIN at {stop} of {}: {out:?}, {self:?}", want.len());
    }

    /// Whether an end has got what the other was told has arrived. What is unfinished is told of, and waits for the rest.
    fn has_what_was_told(&self, to: usize) -> bool {
        let (seen, len) = (&self.seen[1 - to], self.says[1 - to].len());
        if seen.told > len as i64 {
            return self.hosts[to].heard.len() == self.wants[to].len() && self.hosts[to].took_fin();
        }
        let all = self.bare || self.gate.stream.is_blind();
        let told = (seen.told as usize).min(if all { len } else { self.gate.read[1 - to] });
        image(&self.gate.edits[1 - to], told).0 <= self.hosts[to].heard.len()
    }

    /// Whose turn it is where nothing moves any more: whether all that is missing is what its sender has not heard acknowledged,
    /// and has not sent for long. TCP repeats such bytes, or asks whether there is room for them, without an end (RFC 6298 §5,
    /// RFC 9293 §3.8.6.1), whatever it was told. What it was told has arrived is there, and it knows of the room that there is.
    fn owes(&self) -> bool {
        (0..2).all(|to| {
            let seen = &self.seen[1 - to];
            let knows = seen.windows[1] > 0 || self.seen[to].windows[0] == 0;
            self.hosts[to].heard.len() == self.wants[to].len()
                || self.has_what_was_told(to) && knows && seen.tried + SILENT < self.now
        })
    }

    fn leave(&mut self, out: &Out, own: Option<&TcpRepr<'_>>) {
        self.check(out);
        self.seen[at(out.to)].windows[1] = out.window;
        let from = out.to.other();
        let control = if out.has(flags::RST) {
            TcpControl::Rst
        } else if out.has(flags::SYN) {
            TcpControl::Syn
        } else if out.has(flags::FIN) {
            TcpControl::Fin
        } else if out.has(flags::PSH) && !out.payload.is_empty() {
            TcpControl::Psh
        } else {
            TcpControl::None
        };
        let mut sack_ranges = [None; 3];
        let blocks: Vec<_> = match own {
            Some(own) => {
                let blocks = own.sack_ranges.iter().flatten().enumerate();
                let ack = own.ack_number.map_or(0, number);
                let map = |(place, block): (usize, &(u32, u32))| {
                    if self.gate.over {
                        return Some(*block);
                    }
                    self.gate.stream.map_sack(from, ack, place == 0, *block)
                };
                blocks.filter_map(map).collect()
            }
            None => out.sack.clone(),
        };
        for (place, block) in sack_ranges.iter_mut().zip(blocks) {
            *place = Some(block);
        }
        let ports = if from == Side::Initiator { (40_000, PORT) } else { (PORT, 40_000) };
        let repr = TcpRepr {
            src_port: ports.0,
            dst_port: ports.1,
            control,
            seq_number: seq_number(out.seq),
            ack_number: out.has(flags::ACK).then(|| seq_number(out.ack)),
            window_len: out.window,
            window_scale: own.and_then(|o| o.window_scale),
            max_seg_size: own.and_then(|o| o.max_seg_size),
            sack_permitted: own.is_some_and(|o| o.sack_permitted),
            sack_ranges,
            timestamp: out.timestamp.map(|t| TcpTimestampRepr { tsval: t.value, tsecr: t.echo }),
            payload: &out.payload,
        };
        let mss = usize::from(self.weather.mss).max(1);
        // What passes as it came is as long as its sender made it.
        let own = self.gate.stream.is_blind() && out.onward;
        assert!(own || out.payload.len() <= mss, "{} bytes, the receiver takes {mss}", out.payload.len());
        let len = repr.buffer_len() - 20;
        if let Some((_, room)) =
            self.narrow.filter(|(after, room)| self.count >= *after && len > (*room).into())
        {
            self.bounce(out, room);
            return;
        }
        let packet = build(from, &repr);
        self.carry(Leg::ToHost(out.to, packet));
    }

    /// A segment does not fit its link. A router says so, but not always.
    fn bounce(&mut self, out: &Out, room: u16) {
        if self.chance.percent(self.weather.loss) {
            return;
        }
        let error = TooLong { seq: out.seq, len: out.payload.len().try_into().unwrap(), room };
        let (whose, outs) = self.gate.narrow(out.to.other(), &error);
        assert_ne!(whose, Narrowed::Unknown, "it has just left: {out:?}");
        for out in outs {
            self.leave(&out, None);
        }
    }

    /// Runs until both are done. Panics where the streams part from the oracle.
    pub fn run(&mut self) -> End {
        let mut tick = 0;
        let mut heard_all = None;
        let mut checked = [0; 2];
        let mut end = End::Whole;
        let mut moved = (0, [0; 4]);
        for _ in 0..4_000_000 {
            CLOCK.set(u32::try_from(self.now).unwrap());
            for side in SIDES {
                let host = &mut self.hosts[at(side)];
                host.turn(self.now, self.weather.write);
                while let Some(packet) = self.hosts[at(side)].nic.tx.pop_front() {
                    self.sent(side, &packet);
                }
            }
            for ((seen, host), want) in self.seen.iter_mut().zip(&self.hosts).zip(&self.wants) {
                seen.early |= host.took_fin() && host.has() < want.len();
            }
            for i in 0..2 {
                let (heard, want) = (&self.hosts[i].heard, &self.wants[i]);
                let before = core::mem::replace(&mut checked[i], heard.len());
                if want.get(before..heard.len()) != heard.get(before..) {
                    if self.seen[i].early {
                        return End::Early;
                    }
                    let part = heard.iter().zip(want).position(|(a, b)| a != b).unwrap_or(want.len());
                    let (heard, want) = (&heard[part..], &want[part..]);
                    let want = &want[..want.len().min(60)];
                    panic!("{:?} at {part} heard {heard:02x?}, not {want:02x?}..: {self:?}", SIDES[i]);
                }
            }
            // A stack that is through answers a repeated FIN with a reset, which may be lost.
            // And smoltcp forgets a FIN when three duplicate acknowledgements ask for it. Its streams are whole all the same.
            if self.hosts.iter_mut().all(Host::is_done) {
                end = End::Closed;
                break;
            }
            if (0..2).all(|i| self.hosts[i].heard.len() == self.wants[i].len()) {
                let since = *heard_all.get_or_insert(self.now);
                if self.gate.stream.is_reset() {
                    break;
                }
                if self.now - since > 100_000 {
                    assert!(
                        (0..2).all(|to| self.has_what_was_told(to)),
                        "an end was told of a FIN: {self:?}"
                    );
                    break;
                }
            }
            let mut next = tick + 100;
            if let Some(((due, _), _)) = self.legs.first_key_value() {
                next = next.min(*due);
            }
            for host in &mut self.hosts {
                let now = Instant::from_millis(i64::try_from(self.now).unwrap());
                if let Some(delay) = host.interface.poll_delay(now, &host.sockets) {
                    next = next.min(self.now + delay.total_millis().max(1));
                }
                let socket = host.sockets.get::<Socket>(host.handle);
                if !host.says.is_empty() && socket.can_send() {
                    next = next.min(self.now + 1);
                }
            }
            self.now = next.max(self.now + 1);
            let [a, b] = [0, 1].map(|i| [self.hosts[i].heard.len() as i64, self.seen[i].told]);
            let there = [a[0], a[1], b[0], b[1]];
            if moved.1 != there {
                moved = (self.now, there);
            }
            if self.now - moved.0 > STALLED {
                return if self.seen.iter().any(|seen| seen.early) {
                    End::Early
                } else if self.owes() {
                    End::Silent
                } else {
                    End::Stalled
                };
            }
            while let Some(entry) = self.legs.first_entry()
                && entry.key().0 <= self.now
            {
                match entry.remove() {
                    Leg::ToGate(side, packet) => self.through(side, &packet),
                    Leg::ToHost(side, packet) => {
                        self.seen[at(side)].hears(&parse(&packet));
                        self.hosts[at(side)].nic.rx.push_back(packet);
                    }
                }
            }
            if self.now >= tick + 100 {
                tick = self.now;
                self.gate.now = u32::try_from(self.now).unwrap();
                let outs = self.gate.tick();
                self.want();
                for out in outs {
                    self.leave(&out, None);
                }
            }
        }
        if self.seen.iter().any(|seen| seen.early) {
            return End::Early;
        }
        for (host, want) in self.hosts.iter().zip(&self.wants) {
            assert_eq!(&host.heard, want, "all was heard: {self:?}");
        }
        // Nothing may leak, whatever happened.
        self.gate.stream.clear(&mut self.gate.pool);
        assert_eq!(self.gate.pool.left(), self.gate.pool.capacity());
        end
    }
}

/// One stack and scripted segments to it, nothing between: it says four bytes and closes, and hears that the first has arrived, each
/// time beside another window. How many segments it then sends for the others while nobody answers.
pub fn tries_behind(windows: &[u16]) -> usize {
    let weather = Weather {
        loss: 0,
        repeat: 0,
        delay: 1,
        cut: 0,
        mss: 1_460,
        window: [100; 2],
        nagle: false,
        ack_delay: false,
        timestamps: false,
        write: 100,
    };
    let mut host = Host::new(Side::Initiator, &weather, b"four", 1);
    host.first = true;
    let mut seen = Seen::default();
    // Answers how often it has sent what it has not heard acknowledged.
    let mut turn = |now: u64, answer: Option<(TcpControl, usize, u16)>| {
        if let Some((control, ack, window_len)) = answer {
            let repr = TcpRepr {
                src_port: PORT,
                dst_port: 40_000,
                control,
                seq_number: TcpSeqNumber(0) + usize::from(control == TcpControl::None),
                ack_number: Some(seq_number(seen.isn.unwrap()) + 1 + ack),
                window_len,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: &[],
            };
            seen.hears(&repr);
            host.nic.rx.push_back(build(Side::Responder, &repr));
        }
        CLOCK.set(u32::try_from(now).unwrap());
        host.turn(now, weather.write);
        let mut tries = 0;
        while let Some(packet) = host.nic.tx.pop_front() {
            seen.tried = 0;
            seen.sends(now, &parse(&packet));
            tries += usize::from(seen.tried == now);
        }
        tries
    };
    turn(1, None);
    turn(2, Some((TcpControl::Syn, 0, 100)));
    assert_eq!(turn(3, None), 1, "the bytes and the FIN");
    for window in windows {
        turn(4, Some((TcpControl::None, 1, *window)));
    }
    (1..SILENT / 100).map(|n| turn(n * 100, None)).sum()
}

impl core::fmt::Debug for World {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let states = [0, 1].map(|i| self.hosts[i].sockets.get::<Socket>(self.hosts[i].handle).state());
        let heard = [0, 1].map(|i| self.hosts[i].heard.len());
        let Self { now, weather, seen, .. } = self;
        write!(f, "{states:?} heard {heard:?} at {now} in {weather:?}, {seen:?}: {:?}", self.gate.stream)
    }
}
