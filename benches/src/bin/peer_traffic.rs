//! Traffic for other gateways, and the plot of what they came to: `benches/peers.sh` drives this.
//!
//! - `pcap`: the rig's flows as a capture file, for a port that plays it in a loop.
//! - `kernel`: live frames into an interface of the kernel, made by an XDP program (`BPF_PROG_TEST_RUN`), each of a random
//!   flow.
//! - `plot`: bars from the table of `peers.sh`.

use benches::plot;
use benches::rig::flows::Walk;
use benches::rig::frame::{Kind, SHORTEST, Writer};
use clap::{Parser, Subcommand};
use dataplane::key::Protocol;
use dataplane::table::Direction;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Traffic for other gateways, and the plot of what they came to.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Writes one datagram of each flow, in random order, as a capture file.
    Pcap {
        /// How many flows.
        flows: u32,
        /// The file.
        file: PathBuf,
    },
    /// Receives datagrams of random flows on an interface, and prints packets and nanoseconds.
    Kernel {
        /// The interface that they come in at.
        interface: String,
        /// How many flows: at most a million.
        flows: u32,
        /// How many packets.
        packets: u32,
    },
    /// Plots the first two columns (and least and most) of a table of tab-separated values.
    Plot {
        /// The table.
        table: PathBuf,
        /// The plot (SVG).
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match &Args::parse().action {
        Action::Pcap { flows, file } => capture(*flows, file),
        Action::Kernel { interface, flows, packets } => kernel::run(interface, *flows, *packets),
        Action::Plot { table, file } => bars(table, file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ethernet, microseconds, one frame after the other without a pause.
fn capture(flows: u32, file: &Path) -> io::Result<()> {
    let mut order: Vec<u32> = (0..flows).collect();
    let mut walk = Walk::new(1);
    for at in (1..flows).rev() {
        order.swap(at as usize, walk.below(at + 1) as usize);
    }
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    let words = |out: &mut BufWriter<_>, words: &[u32]| -> io::Result<()> {
        words.iter().try_for_each(|w| out.write_all(&w.to_le_bytes()))
    };
    words(&mut out, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1])?;
    let writer = Writer::new(Protocol::Udp);
    for flow in order {
        let mut frame = [0; SHORTEST];
        writer.write(&mut frame, flow, Direction::Forward, Kind::Data, 0);
        words(&mut out, &[0, 0, SHORTEST as u32, SHORTEST as u32])?;
        out.write_all(&frame)?;
    }
    out.flush()
}

fn bars(table: &Path, file: &Path) -> io::Result<()> {
    let text = std::fs::read_to_string(table)?;
    let bar = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?.to_owned();
        let mut figure = || fields.next()?.parse().ok();
        Some((name, [figure()?, figure()?, figure()?]))
    };
    let bars: Vec<_> = text.lines().skip(1).filter_map(bar).collect();
    plot::bars(file, "One core, source NAT of UDP, 60 B", "million packets a second", &bars)
        .map_err(io::Error::other)
}

/// The kernel's own generator of live frames. Linux 5.18 or newer.
mod kernel {
    use core::mem::{offset_of, size_of};
    use std::io;
    use std::time::Instant;

    const PROG_LOAD: i64 = 5;
    const PROG_TEST_RUN: i64 = 10;
    const XDP: u32 = 6;
    const LIVE_FRAMES: u32 = 2;
    const FRAME: usize = 60;
    /// Ports of one inside address: so many flows share an address and a destination.
    const PORTS: i32 = 4096;
    const FIRST_PORT: i32 = 20_000;
    /// Words of four bytes that hold all headers.
    const WORDS: usize = 11;

    /// One instruction of the kernel's virtual machine.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Instruction {
        code: u8,
        /// Destination in the low half, source in the high half.
        registers: u8,
        offset: i16,
        immediate: i32,
    }

    const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction { code, registers: from << 4 | to, offset, immediate }
    }

    /// Makes each frame one of a random flow, then passes it on: source port, third octet of both addresses, and the
    /// IPv4 checksum, whose sum is `sum` while both octets are 0. The kernel reuses frames as forwarding left them, so all
    /// headers are written anew.
    fn program(flows: u32, template: &[u8; FRAME], sum: u16) -> Vec<Instruction> {
        const MOV: u8 = 0xbf;
        const ADD: u8 = 0x07;
        const AND: u8 = 0x57;
        const RSH: u8 = 0x77;
        let fold = [
            op(MOV, 4, 5, 0, 0),
            op(RSH, 4, 0, 0, 16),
            op(AND, 5, 0, 0, 0xffff),
            op(0x0f, 5, 4, 0, 0), // r5 += r4
        ];
        let mut code = vec![
            op(MOV, 6, 1, 0, 0),
            op(0x85, 0, 0, 0, 7),            // r0 = a random number
            op(0x94, 0, 0, 0, flows as i32), // r0 %= flows
            op(0x61, 2, 6, 0, 0),            // r2 = first byte
            op(0x61, 3, 6, 4, 0),            // r3 = behind the last
            op(MOV, 4, 2, 0, 0),
            op(ADD, 4, 0, 0, FRAME as i32),
            op(0x2d, 4, 3, 24 + WORDS as i16, 0), // too short: drop
        ];
        let words = template.chunks_exact(4).take(WORDS).zip((0i16..).step_by(4));
        code.extend(words.map(|(w, at)| op(0x62, 2, 0, at, i32::from_le_bytes([w[0], w[1], w[2], w[3]]))));
        code.extend([
            op(MOV, 5, 0, 0, 0),
            op(RSH, 5, 0, 0, PORTS.trailing_zeros() as i32),
            op(AND, 5, 0, 0, 0xff),
            op(AND, 0, 0, 0, PORTS - 1),
            op(ADD, 0, 0, 0, FIRST_PORT),
            op(0xdc, 0, 0, 0, 16), // network order
            op(0x6b, 2, 0, 34, 0),
            op(0x73, 2, 5, 28, 0),
            op(0x73, 2, 5, 32, 0),
            op(0x67, 5, 0, 0, 9), // both octets, each the high one of its word
            op(ADD, 5, 0, 0, i32::from(sum)),
        ]);
        code.extend(fold);
        code.extend(fold);
        code.extend([
            op(0xa7, 5, 0, 0, 0xffff),
            op(0xdc, 5, 0, 0, 16),
            op(0x6b, 2, 5, 24, 0),
            op(0xb7, 0, 0, 0, 2), // pass
            op(0x95, 0, 0, 0, 0),
            op(0xb7, 0, 0, 0, 1), // drop
            op(0x95, 0, 0, 0, 0),
        ]);
        code
    }

    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
    }

    #[repr(C)]
    #[derive(Default)]
    struct TestRun {
        program: u32,
        answer: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_size_in: u32,
        context_size_out: u32,
        context_in: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        padding: u32,
    }

    const _: () = assert!(size_of::<Instruction>() == 8 && offset_of!(TestRun, flags) == 64);

    fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<i64> {
        // SAFETY: the attributes are a struct of the kernel's layout for the command, of the size that is given; what
        // their addresses point at outlives the call.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, command, core::ptr::from_mut(attributes), size_of::<T>()) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
    }

    /// A datagram to the interface, and the sum of its IPv4 header without the checksum.
    fn template(mac: [u8; 6]) -> ([u8; FRAME], u16) {
        let mut frame = [0; FRAME];
        frame[..6].copy_from_slice(&mac);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 1]);
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
        frame[26..34].copy_from_slice(&[10, 1, 0, 2, 198, 18, 0, 1]);
        frame[34..40].copy_from_slice(&[0, 0, 0x11, 0x51, 0, 26]);
        let words = frame[14..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = words.sum();
        (frame, ((sum & 0xffff) + (sum >> 16)) as u16)
    }

    /// Sends them and prints how many, and in how many nanoseconds.
    pub fn run(interface: &str, flows: u32, packets: u32) -> io::Result<()> {
        if !(1..=PORTS as u32 * 256).contains(&flows) {
            return Err(io::Error::other("one flow to a million, please"));
        }
        let read = |name: &str| std::fs::read_to_string(format!("/sys/class/net/{interface}/{name}"));
        let index: u32 = read("ifindex")?.trim().parse().map_err(io::Error::other)?;
        let mut mac = [0; 6];
        for (byte, text) in mac.iter_mut().zip(read("address")?.trim().split(':')) {
            *byte = u8::from_str_radix(text, 16).map_err(io::Error::other)?;
        }
        let (frame, sum) = template(mac);
        let code = program(flows, &frame, sum);
        let mut log = vec![0u8; 1 << 16];
        let mut load = Load {
            kind: XDP,
            count: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: 1,
            log_size: log.len() as u32,
            log: log.as_mut_ptr() as u64,
        };
        let program = bpf(PROG_LOAD, &mut load).map_err(|error| {
            let log = String::from_utf8_lossy(&log);
            io::Error::other(format!("the kernel takes no XDP program: {error}: {}", log.trim_matches('\0')))
        })?;
        // Data, end, metadata, interface and queue that it came in at, egress.
        let context = [0, FRAME as u32, 0, index, 0, 0];
        let mut run = TestRun {
            program: program as u32,
            data_size_in: FRAME as u32,
            data_in: frame.as_ptr() as u64,
            repeat: packets,
            context_size_in: size_of_val(&context) as u32,
            context_in: context.as_ptr() as u64,
            flags: LIVE_FRAMES,
            ..TestRun::default()
        };
        let start = Instant::now();
        bpf(PROG_TEST_RUN, &mut run)?;
        println!("{packets} {}", start.elapsed().as_nanos());
        Ok(())
    }
}
