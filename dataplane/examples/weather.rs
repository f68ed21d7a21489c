//! Bad weather for tests in network namespaces, and two ends that talk FTP through it.
//!
//! - `weather relay A B SEED`: carries frames between two interfaces of its namespace; loses, repeats, delays and cuts TCP
//!   segments as the seed says. Kernels without netem need one.
//! - `weather tag A B VLAN`: carries frames from A to B with a tag of that VLAN, and those of that VLAN from B to A without
//!   it; others end there. Kernels without 8021q need one.
//! - `weather server PORT SEED`, `weather client ADDRESS:PORT SEED ROUNDS OWN SEEN_OWN SEEN_PEER`: the kernel's own TCP at both
//!   ends; what each hears is compared with what the other said, with the edits that the gateway must make.
//!
//! Not part of the product: an example so that `cargo build --examples` makes it beside the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dataplane::key::Protocol;
use dataplane::packet::{Parse, checksum, flag, parse};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }

    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["relay", a, b, seed] => relay(a, b, seed.parse().expect("a seed")),
        ["tag", a, b, vlan] => tag(a, b, vlan.parse().expect("a VLAN")),
        ["server", port, seed] => server(port.parse().expect("a port"), seed.parse().expect("a seed")),
        ["client", to, seed, rounds, own, seen, peer] => {
            client(to, seed.parse().expect("a seed"), rounds.parse().expect("rounds"), own, seen, peer);
        }
        _ => panic!("see the source for the arguments"),
    }
}

/// A raw socket on an interface, without what it sends itself.
fn raw(interface: &str) -> OwnedFd {
    let name = std::ffi::CString::new(interface).unwrap();
    let protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
    // SAFETY: the name ends with a zero and lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert!(index > 0, "no interface {interface}");
    // SAFETY: no pointers.
    let fd =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, i32::from(protocol)) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is ours and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    // SAFETY: value and length describe a C int that lives over the call.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            core::ptr::from_ref(&on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap(),
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: all zeros is a valid address structure.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).unwrap();
    // SAFETY: pointer and length describe the address, which lives over the call.
    let bound = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            core::ptr::from_ref(&address).cast(),
            libc::socklen_t::try_from(size_of_val(&address)).unwrap(),
        )
    };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    fd
}

/// The next frame, if there is one.
fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: pointer and length describe the buffer.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(n).ok()
}

fn send(fd: &OwnedFd, frame: &[u8]) {
    // SAFETY: pointer and length describe the frame. A frame that does not go out is lost, as on a wire.
    unsafe { libc::send(fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
}

/// As [`receive`], with the VLAN of the frame's outer tag, which the kernel takes off.
fn receive_tagged(fd: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, Option<u16>)> {
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a message without an address, control data or parts.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message's part and control data describe buffers that live over the call.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    let n = usize::try_from(n).ok()?;
    // SAFETY: the kernel has filled the control data of this message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Some((n, None));
    }
    // SAFETY: the only control data asked for is of this type, behind its header, and perhaps not aligned.
    let said: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let tagged = said.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Some((n, tagged.then_some(said.tp_vlan_tci & 0xfff)))
}

fn tag(a: &str, b: &str, vlan: u16) -> ! {
    let ends = [raw(a), raw(b)];
    let on: libc::c_int = 1;
    // SAFETY: value and length describe a C int that lives over the call.
    let set = unsafe {
        libc::setsockopt(
            ends[1].as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            core::ptr::from_ref(&on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap(),
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let mut buffer = vec![0; 16_384];
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        let mut fds =
            [0, 1].map(|i: usize| libc::pollfd { fd: ends[i].as_raw_fd(), events: libc::POLLIN, revents: 0 });
        // SAFETY: pointer and count describe the array.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, 10) };
        while let Some(n) = receive(&ends[0], &mut buffer) {
            let (addresses, rest) = buffer[..n].split_at(12);
            send(&ends[1], &[addresses, &[0x81, 0x00], &vlan.to_be_bytes(), rest].concat());
        }
        while let Some((n, of)) = receive_tagged(&ends[1], &mut buffer) {
            if of == Some(vlan) {
                send(&ends[0], &buffer[..n]);
            }
        }
    }
}

fn relay(a: &str, b: &str, seed: u64) -> ! {
    let mut chance = Chance(seed);
    let ends = [raw(a), raw(b)];
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
        assert!(checksum::ipv4_fill(&mut out[l3..l4]));
        assert!(checksum::l4_fill(p.src, p.dst, Protocol::Tcp, &mut out[l4..]));
        (out, true)
    });
    cut.collect()
}

/// Writes in pieces of every size.
fn write_cut(stream: &mut TcpStream, mut text: &[u8], chance: &mut Chance) {
    while !text.is_empty() {
        let most = if chance.percent(50) { 1 } else { 1 + chance.below(40) };
        let (now, later) = text.split_at(text.len().min(usize::try_from(most).unwrap()));
        stream.write_all(now).unwrap();
        text = later;
    }
}

/// Answers each command. Prints what it hears, line by line.
fn server(port: u16, seed: u64) {
    let mut chance = Chance(seed);
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    println!("ready");
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    write_cut(&mut stream, b"220 ready\r\n", &mut chance);
    let own = stream.local_addr().unwrap().ip().to_string().replace('.', ",");
    let reader = BufReader::new(stream.try_clone().unwrap());
    for line in reader.lines() {
        let line = line.unwrap();
        println!("{line}");
        let reply = match line.as_str() {
            "PASV" => format!("227 Entering Passive Mode ({own},195,89).\r\n"),
            _ => format!("200 {line}\r\n"),
        };
        write_cut(&mut stream, reply.as_bytes(), &mut chance);
    }
}

/// Rounds of commands that may wait for their replies. The ALG refuses whoever has more than 32 commands unanswered.
const AHEAD: u32 = 4;

/// Says its commands up to [`AHEAD`] rounds before their replies; checks every reply.
fn client(to: &str, seed: u64, rounds: u32, own: &str, seen: &str, peer: &str) {
    let mut chance = Chance(seed);
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut out = stream.try_clone().unwrap();
    let (own, seen, peer) = (own.to_owned(), seen.to_owned(), peer.to_owned());
    let (answered, may_go_on) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        for round in 0..rounds {
            if round >= AHEAD {
                may_go_on.recv().unwrap();
            }
            let comma = own.replace('.', ",");
            let text = format!(
                "NOOP {round}\r\nPORT {comma},195,81\r\nPASV\r\nEPRT |1|{own}|50001|\r\nPWD\r\nSTAT {round}\r\n"
            );
            write_cut(&mut out, text.as_bytes(), &mut chance);
        }
        out.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut lines = BufReader::new(stream).lines();
    let mut next = || lines.next().expect("a line").expect("in time");
    assert_eq!(next(), "220 ready");
    let numbers = |text: &str, separator: char| text.split(separator).all(|n| n.parse::<u16>().is_ok());
    for round in 0..rounds {
        assert_eq!(next(), format!("200 NOOP {round}"));
        let port = next();
        let rest = port.strip_prefix(&format!("200 PORT {},", seen.replace('.', ",")));
        assert!(rest.is_some_and(|r| numbers(r, ',')), "{port}");
        let passive = next();
        let rest = passive
            .strip_prefix(&format!("227 Entering Passive Mode ({},", peer.replace('.', ",")))
            .and_then(|r| r.strip_suffix(")."));
        assert!(rest.is_some_and(|r| numbers(r, ',')), "{passive}");
        let eprt = next();
        let rest = eprt.strip_prefix(&format!("200 EPRT |1|{seen}|")).and_then(|r| r.strip_suffix('|'));
        assert!(rest.is_some_and(|r| numbers(r, ',')), "{eprt}");
        assert_eq!(next(), "200 PWD");
        assert_eq!(next(), format!("200 STAT {round}"));
        answered.send(()).ok();
    }
    assert!(lines.next().is_none(), "nothing follows");
    writer.join().unwrap();
    println!("whole");
}
