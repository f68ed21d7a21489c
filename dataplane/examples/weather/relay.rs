//! The impairment stage: loses, repeats, delays and cuts TCP segments. Watches their SACK blocks.

use crate::Chance;
use crate::wire::{raw, receive, send};
use dataplane::key::Protocol;
use dataplane::packet::{Parse, checksum, flag, parse};
use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

pub fn run(a: &str, b: &str, seed: u64) -> ! {
    let mut chance = Chance(seed);
    let ends = [raw(a), raw(b)];
    let mut sacks = Sacks::new([a, b]);
    let mut waiting: Vec<(Instant, usize, Vec<u8>)> = Vec::new();
    let mut buffer = vec![0; 4_096];
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        let mut fds =
            [0, 1].map(|i: usize| libc::pollfd { fd: ends[i].as_raw_fd(), events: libc::POLLIN, revents: 0 });
        // SAFETY: pointer and count describe the array.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, 1) };
        for (from, end) in ends.iter().enumerate() {
            while let Some(n) = receive(end, &mut buffer) {
                sacks.watch(from, &buffer[..n]);
                for frame in pieces(&buffer[..n], &mut chance) {
                    if frame.1 && chance.percent(4) {
                        continue;
                    }
                    let copies = if frame.1 && chance.percent(4) { 2 } else { 1 };
                    for _ in 0..copies {
                        let delay = if frame.1 { chance.below(4) } else { 0 };
                        let due = Instant::now() + Duration::from_millis(delay);
                        waiting.push((due, 1 - from, frame.0.clone()));
                    }
                }
            }
        }
        let now = Instant::now();
        waiting.sort_by_key(|(due, ..)| *due);
        while waiting.first().is_some_and(|(due, ..)| *due <= now) {
            let (_, to, frame) = waiting.remove(0);
            send(&ends[to], &frame);
        }
    }
}

/// Watches the blocks that segments acknowledge selectively (RFC 2018).
struct Sacks<'a> {
    names: [&'a str; 2],
    /// Most blocks of a segment so far, each way.
    most: [usize; 2],
    /// Where the bytes of a connection end that have passed here, by its tuple.
    ends: HashMap<[u32; 3], u32>,
}

/// Whether `a` lies behind `b` (RFC 9293 §3.4).
fn is_behind(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

impl<'a> Sacks<'a> {
    fn new(names: [&'a str; 2]) -> Self {
        Self { names, most: [0; 2], ends: HashMap::new() }
    }

    /// Says how many blocks come from an interface whenever there are more than ever, and which name what they cannot.
    ///
    /// Of what is acknowledged beside it only the first may tell, of duplicates (RFC 2883 §4). Others are called old where
    /// everything is acknowledged, so that they are left over from before, and wrong elsewhere.
    fn watch(&mut self, from: usize, frame: &[u8]) {
        const SACK: u8 = 5;
        let mac = frame.first_chunk::<6>().copied().unwrap_or_default();
        let Parse::Ip(p) = parse(frame, mac) else { return };
        if p.protocol != Protocol::Tcp {
            return;
        }
        let ports = u32::from(p.sport) << 16 | u32::from(p.dport);
        let control = u32::from(p.tcp_flags & flag::SYN != 0) + u32::from(p.tcp_flags & flag::FIN != 0);
        let end = p.seq.wrapping_add(u32::from(p.payload_len) + control);
        let known = self.ends.entry([p.src, p.dst, ports]).or_insert(end);
        if is_behind(end, *known) {
            *known = end;
        }
        let Some((_, range)) = p.tcp_options(frame).find(|(kind, _)| *kind == SACK) else { return };
        let sent = self.ends.get(&[p.dst, p.src, ports.rotate_left(16)]).copied().unwrap_or_default();
        let blocks = frame[range].chunks_exact(8);
        if blocks.len() > self.most[from] {
            self.most[from] = blocks.len();
            println!("sack from {}: {}", self.names[from], blocks.len());
        }
        for (place, block) in blocks.enumerate() {
            let edge = |at: usize| u32::from_be_bytes(block[at..at + 4].try_into().unwrap());
            let (left, right) = (edge(0), edge(4));
            let (some, told) = (is_behind(right, left), !is_behind(right, p.ack));
            let fault = match is_behind(left, p.ack) || (told && place == 0) {
                true if some && !is_behind(right, sent) => continue,
                false if some && told && p.ack == sent => "old",
                _ => "wrong",
            };
            println!("{fault} sack from {}: {left}-{right}, ack {}, sent {sent}", self.names[from], p.ack);
        }
    }
}

/// A frame, perhaps cut into several segments, and whether it is TCP.
fn pieces(frame: &[u8], chance: &mut Chance) -> Vec<(Vec<u8>, bool)> {
    let mac = frame.first_chunk::<6>().copied().unwrap_or_default();
    let Parse::Ip(p) = parse(frame, mac) else { return vec![(frame.to_vec(), false)] };
    if p.protocol != Protocol::Tcp {
        return vec![(frame.to_vec(), false)];
    }
    let payload = frame[p.payload_range()].to_vec();
    if payload.len() < 2 || !chance.percent(30) {
        return vec![(frame.to_vec(), true)];
    }
    let size = 1 + usize::try_from(chance.below(payload.len() as u64)).unwrap();
    let (l3, l4) = (usize::from(p.l3), usize::from(p.l4));
    let last = (payload.len() - 1) / size;
    let cut = payload.chunks(size).enumerate().map(|(i, piece)| {
        let mut out = frame[..usize::from(p.payload)].to_vec();
        out.extend_from_slice(piece);
        let ip_len = u16::try_from(out.len() - l3).unwrap();
        out[l3 + 2..l3 + 4].copy_from_slice(&ip_len.to_be_bytes());
        let seq = p.seq.wrapping_add(u32::try_from(i * size).unwrap());
        out[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        if i != last {
            out[l4 + 13] &= !(flag::FIN | flag::PSH);
        }
        // The pointer counts from the segment's own beginning; what lies behind it is not urgent.
        let urgent = u16::from_be_bytes([out[l4 + 18], out[l4 + 19]]);
        let urgent = urgent.saturating_sub(u16::try_from(i * size).unwrap());
        out[l4 + 18..l4 + 20].copy_from_slice(&urgent.to_be_bytes());
        if urgent == 0 {
            out[l4 + 13] &= !flag::URG;
        }
        assert!(checksum::ipv4_fill(&mut out[l3..l4]));
        assert!(checksum::l4_fill(p.src, p.dst, Protocol::Tcp, &mut out[l4..]));
        (out, true)
    });
    cut.collect()
}
