//! A flood of datagrams for tests in network namespaces: many flows, at a steady rate.
//!
//! `flood INTERFACE MAC FROM TO FLOWS FILL_RATE RATE`: sends frames from the interface to the gateway's MAC, UDP of the
//! hosts FROM, FROM + 1, … (32,768 flows each) to port 9 of TO. First each flow once, at `FILL_RATE` packets a second; says
//! `filled`; again for each line that it reads, until a line `go`; then random flows at `RATE`, until its input ends.
//!
//! Not part of the product: an example so that `cargo build --examples` makes it beside the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dataplane::packet::checksum;
use std::io::{BufRead, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Frames of one system call.
const BATCH: usize = 32;
/// Bytes of a frame: the shortest of Ethernet, without its checksum.
const FRAME: usize = 60;
/// Flows of one host: its source ports from here on.
const FIRST_PORT: u32 = 32_768;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let [interface, mac, from, to, flows, fill, rate] = words[..] else {
        panic!("see the source for the arguments");
    };
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let mut flood = Flood::new(interface, mac, from.parse().expect("FROM"), to.parse().expect("TO"));
    let flows = number(flows);
    let mut lines = std::io::stdin().lock().lines();
    loop {
        flood.pace(number(fill), flows, |sent| (sent < flows).then_some(sent));
        println!("filled");
        std::io::stdout().flush().unwrap();
        match lines.next() {
            None => return,
            Some(line) if line.as_deref().is_ok_and(|l| l == "go") => break,
            Some(_) => {}
        }
    }
    drop(lines);
    let over = std::sync::Arc::new(AtomicBool::new(false));
    let told = std::sync::Arc::clone(&over);
    std::thread::spawn(move || {
        while std::io::stdin().read_line(&mut String::new()).is_ok_and(|n| n > 0) {}
        told.store(true, Ordering::Relaxed);
    });
    let mut at = 1_u32;
    flood.pace(number(rate), flows, |_| {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (!over.load(Ordering::Relaxed))
            .then(|| u32::try_from((u64::from(at) * u64::from(flows)) >> 32).unwrap())
    });
}

/// A raw socket, and the frames that it sends.
struct Flood {
    socket: OwnedFd,
    frames: Box<[[u8; FRAME]; BATCH]>,
    from: u32,
}

impl Flood {
    fn new(interface: &str, mac: &str, from: Ipv4Addr, to: Ipv4Addr) -> Self {
        let mut frame = [0; FRAME];
        for (byte, text) in frame.iter_mut().zip(mac.split(':')) {
            *byte = u8::from_str_radix(text, 16).expect("a MAC");
        }
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..16].copy_from_slice(&[0x45, 0]);
        frame[16..18].copy_from_slice(&46_u16.to_be_bytes());
        frame[22..24].copy_from_slice(&[64, 17]);
        frame[30..34].copy_from_slice(&to.octets());
        frame[36..38].copy_from_slice(&9_u16.to_be_bytes());
        frame[38..40].copy_from_slice(&26_u16.to_be_bytes());
        Self { socket: socket(interface), frames: Box::new([frame; BATCH]), from: from.to_bits() }
    }

    /// Sends at `rate` packets a second what `next` says, given how many were sent, until it says none. Behind its time it
    /// does not catch up: what could not be sent in time is not offered.
    fn pace(&mut self, rate: u32, flows: u32, mut next: impl FnMut(u32) -> Option<u32>) {
        assert!(flows > 0 && rate > 0);
        let apart = Duration::from_secs_f64(BATCH as f64 / f64::from(rate));
        let mut due = Instant::now();
        let mut sent = 0_u32;
        loop {
            let mut batch = 0;
            for frame in self.frames.iter_mut() {
                let Some(flow) = next(sent) else { break };
                let host = self.from + flow / FIRST_PORT;
                let port = u16::try_from(FIRST_PORT + flow % FIRST_PORT).unwrap();
                frame[26..30].copy_from_slice(&host.to_be_bytes());
                frame[34..36].copy_from_slice(&port.to_be_bytes());
                assert!(checksum::ipv4_fill(&mut frame[14..34]));
                sent = sent.wrapping_add(1);
                batch += 1;
            }
            if batch == 0 {
                return;
            }
            self.send(batch);
            due += apart;
            let now = Instant::now();
            if due > now {
                std::thread::sleep(due - now);
            } else {
                due = now;
            }
        }
    }

    /// Sends the first `count` frames. What the interface does not take is lost, as on a wire.
    fn send(&mut self, count: usize) {
        let mut parts =
            self.frames.each_mut().map(|f| libc::iovec { iov_base: f.as_mut_ptr().cast(), iov_len: FRAME });
        let mut messages = parts.each_mut().map(|part| {
            // SAFETY: all zeros is a message without an address, control data or parts.
            let mut message: libc::mmsghdr = unsafe { core::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        });
        let count = u32::try_from(count.min(BATCH)).unwrap();
        // SAFETY: `count` headers lie there, each with one part that lies in `frames`; all live over the call.
        unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    }
}

/// A raw socket that only sends.
fn socket(interface: &str) -> OwnedFd {
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: the name ends with a zero and lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert!(index > 0, "no interface {interface}");
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is ours and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeros is a valid address structure.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
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
