//! The kernel's own generator of live frames. Linux 5.18 or newer.
//!
//! An XDP program makes each frame one of the rig's flows, with its number and both checksums, and passes it on. The kernel
//! reuses frames as forwarding has left them, so all headers are written anew.

use benches::rig::flows;
use core::mem::{offset_of, size_of};
use std::io;
use std::time::Instant;

const MAP_CREATE: i64 = 0;
const PROG_LOAD: i64 = 5;
const PROG_TEST_RUN: i64 = 10;
const ARRAY: u32 = 2;
const XDP: u32 = 6;
const LIVE_FRAMES: u32 = 2;
const FRAME: usize = 60;
/// Words of four bytes that hold all headers, up to the payload.
const WORDS: usize = 11;

/// One instruction of the kernel's virtual machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// Codes: on 64 bits with a register or a constant, on the lower 32 bits, to and from memory.
mod code {
    pub const MOV: u8 = 0xbf;
    pub const PLUS: u8 = 0x0f;
    pub const ADD: u8 = 0x07;
    pub const AND: u8 = 0x57;
    pub const RSH: u8 = 0x77;
    pub const XOR: u8 = 0xa7;
    pub const SET: u8 = 0xb7;
    pub const ADD32: u8 = 0x04;
    pub const PLUS32: u8 = 0x0c;
    pub const MUL32: u8 = 0x24;
    pub const DIV32: u8 = 0x34;
    pub const MOD32: u8 = 0x94;
    pub const TO_NETWORK: u8 = 0xdc;
    pub const LOAD32: u8 = 0x61;
    pub const LOAD64: u8 = 0x79;
    pub const STORE_CONSTANT32: u8 = 0x62;
    pub const STORE16: u8 = 0x6b;
    pub const STORE32: u8 = 0x63;
    pub const STORE64: u8 = 0x7b;
    pub const ADDRESS: u8 = 0x18;
    pub const CALL: u8 = 0x85;
    pub const IF_GREATER: u8 = 0x2d;
    pub const IF_NOT: u8 = 0x55;
    pub const EXIT: u8 = 0x95;
}

/// r0 = the next flow: the number in the map that `counter` is, or a random one.
fn next_flow(flows: u32, counter: Option<i32>) -> Vec<Instruction> {
    use code::*;
    let mut program = match counter {
        Some(map) => vec![
            // The address of the map's first value.
            op(ADDRESS, 8, 2, 0, map),
            op(0, 0, 0, 0, 0),
            op(LOAD64, 0, 8, 0, 0),
            op(MOV, 1, 0, 0, 0),
            op(ADD, 1, 0, 0, 1),
            op(STORE64, 8, 1, 0, 0),
        ],
        // A random number.
        None => vec![op(CALL, 0, 0, 0, 7)],
    };
    program.push(op(MOD32, 0, 0, 0, flows as i32));
    program
}

/// r7 = the flow in r0; r3 = its destination, r5 = its source, r0 = its source port: as `flows` has them.
fn ends() -> Vec<Instruction> {
    use code::*;
    let (source, port) = flows::inside(0);
    vec![
        op(MOV, 7, 0, 0, 0),
        op(MOV, 3, 0, 0, 0),
        op(DIV32, 3, 0, 0, flows::ENDPOINTS as i32),
        op(ADD32, 3, 0, 0, flows::destination(0) as i32),
        op(MOD32, 0, 0, 0, flows::ENDPOINTS as i32),
        op(MOV, 4, 0, 0, 0),
        op(RSH, 4, 0, 0, flows::PER_ADDRESS.trailing_zeros() as i32), // r4 = host
        op(AND, 0, 0, 0, flows::PER_ADDRESS as i32 - 1),              // r0 = slot
        op(MOV, 5, 4, 0, 0),
        op(ADD32, 5, 0, 0, source as i32),
        op(MUL32, 4, 0, 0, flows::STEP as i32),
        op(MOD32, 4, 0, 0, flows::SPREAD as i32),
        op(MUL32, 0, 0, 0, flows::SPREAD as i32),
        op(PLUS32, 0, 4, 0, 0),
        op(ADD32, 0, 0, 0, i32::from(port)),
    ]
}

/// Folds the sum in `to`, which r6 helps with, into a checksum in network order.
fn checksum(to: u8) -> Vec<Instruction> {
    use code::*;
    let fold = [op(MOV, 6, to, 0, 0), op(RSH, 6, 0, 0, 16), op(AND, to, 0, 0, 0xffff), op(PLUS, to, 6, 0, 0)];
    let mut program = [fold, fold].concat();
    program.extend([
        op(XOR, to, 0, 0, 0xffff),
        // Zero means that there is none.
        op(IF_NOT, to, 0, 1, 0),
        op(SET, to, 0, 0, 0xffff),
        op(TO_NETWORK, to, 0, 0, 16),
    ]);
    program
}

/// Adds both halves of `from` to `to`, with the help of r6.
fn add_halves(to: u8, from: u8) -> [Instruction; 6] {
    use code::*;
    [
        op(MOV, 6, from, 0, 0),
        op(RSH, 6, 0, 0, 16),
        op(PLUS, to, 6, 0, 0),
        op(MOV, 6, from, 0, 0),
        op(AND, 6, 0, 0, 0xffff),
        op(PLUS, to, 6, 0, 0),
    ]
}

/// The whole program. The template's addresses, source port, checksums and flow are zero.
fn program(flows: u32, counter: Option<i32>, template: &[u8; FRAME]) -> Vec<Instruction> {
    use code::*;
    let sum = |range: core::ops::Range<usize>| -> i32 {
        let bytes = template.get(range).unwrap_or(&[]);
        bytes.chunks(2).map(|w| i32::from(w[0]) << 8 | w.get(1).map_or(0, |b| i32::from(*b))).sum()
    };
    let mut program = vec![op(MOV, 9, 1, 0, 0)];
    program.extend(next_flow(flows, counter));
    program.extend(ends());
    program.extend([
        op(LOAD32, 2, 9, 0, 0), // r2 = first byte
        op(LOAD32, 1, 9, 4, 0), // r1 = behind the last
        op(MOV, 4, 2, 0, 0),
        op(ADD, 4, 0, 0, FRAME as i32),
    ]);
    let short = program.len();
    program.push(op(IF_GREATER, 4, 1, 0, 0));
    let words = template.chunks_exact(4).take(WORDS).zip((0i16..).step_by(4));
    program.extend(
        words.map(|(w, at)| op(STORE_CONSTANT32, 2, 0, at, i32::from_le_bytes([w[0], w[1], w[2], w[3]]))),
    );
    // r1 = sum of the addresses; r4 = that of the datagram.
    program.push(op(SET, 1, 0, 0, 0));
    program.extend(add_halves(1, 3));
    program.extend(add_halves(1, 5));
    program.push(op(MOV, 4, 1, 0, 0));
    program.extend(add_halves(4, 7));
    program.extend([
        op(PLUS, 4, 0, 0, 0),
        // The pseudo header's protocol and length, and the header: destination port and length.
        op(ADD, 4, 0, 0, 17 + 26 + sum(34..42)),
        op(ADD, 1, 0, 0, sum(14..34)),
    ]);
    program.extend(checksum(4));
    program.extend(checksum(1));
    program.extend([
        op(STORE16, 2, 4, 40, 0),
        op(STORE16, 2, 1, 24, 0),
        op(TO_NETWORK, 5, 0, 0, 32),
        op(STORE32, 2, 5, 26, 0),
        op(TO_NETWORK, 3, 0, 0, 32),
        op(STORE32, 2, 3, 30, 0),
        op(TO_NETWORK, 0, 0, 0, 16),
        op(STORE16, 2, 0, 34, 0),
        op(TO_NETWORK, 7, 0, 0, 32),
        op(STORE32, 2, 7, 42, 0),
        op(SET, 0, 0, 0, 2), // pass
        op(EXIT, 0, 0, 0, 0),
    ]);
    let drop = program.len();
    if let Some(jump) = program.get_mut(short) {
        jump.offset = (drop - short - 1) as i16;
    }
    program.extend([op(SET, 0, 0, 0, 1), op(EXIT, 0, 0, 0, 0)]);
    program
}

#[repr(C)]
#[derive(Default)]
struct Map {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
    rest: [u32; 11],
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

/// A datagram to the interface, but for what the program fills in.
fn template(mac: [u8; 6]) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&mac);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 1]);
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
    frame[36..38].copy_from_slice(&flows::SERVICE.to_be_bytes());
    frame[38..40].copy_from_slice(&26u16.to_be_bytes());
    frame
}

/// Sends them and prints how many, and in how many nanoseconds.
pub fn run(interface: &str, flows: u32, packets: u32, in_order: bool) -> io::Result<()> {
    if !(1..=100_000_000).contains(&flows) {
        return Err(io::Error::other("one flow to a hundred million, please"));
    }
    let read = |name: &str| std::fs::read_to_string(format!("/sys/class/net/{interface}/{name}"));
    let index: u32 = read("ifindex")?.trim().parse().map_err(io::Error::other)?;
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(read("address")?.trim().split(':')) {
        *byte = u8::from_str_radix(text, 16).map_err(io::Error::other)?;
    }
    let counter = if in_order {
        let mut map = Map { kind: ARRAY, key_size: 4, value_size: 8, entries: 1, ..Map::default() };
        Some(bpf(MAP_CREATE, &mut map)? as i32)
    } else {
        None
    };
    let frame = template(mac);
    let code = program(flows, counter, &frame);
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

#[cfg(test)]
mod tests {
    use super::*;
    use benches::rig::foreign::Inspector;

    /// What the program makes of a frame, instruction by instruction, as the kernel's virtual machine would.
    fn frames(flows: u32, count: usize) -> Vec<[u8; FRAME]> {
        use code::*;
        const PACKET: u64 = 1 << 32;
        let program = program(flows, Some(5), &template([2, 0, 0, 0, 0, 1]));
        let mut next = 0u64;
        let mut run = || {
            let mut frame = [0xee; FRAME];
            frame[44..].fill(0);
            let mut r = [0u64; 10];
            let mut at = 0;
            loop {
                let Instruction { code, registers, offset, immediate } = program[at];
                let (to, from) = (usize::from(registers & 15), usize::from(registers >> 4));
                let constant = immediate as i64 as u64;
                let low = |v: u64| v & 0xffff_ffff;
                at += 1;
                let mut put = |r: &[u64], bytes: &[u8]| {
                    let place = (r[to] - PACKET) as usize + offset as usize;
                    frame[place..place + bytes.len()].copy_from_slice(bytes);
                };
                match code {
                    MOV => r[to] = r[from],
                    PLUS => r[to] = r[to].wrapping_add(r[from]),
                    ADD => r[to] = r[to].wrapping_add(constant),
                    AND => r[to] &= constant,
                    RSH => r[to] >>= constant,
                    XOR => r[to] ^= constant,
                    SET => r[to] = constant,
                    ADD32 => r[to] = low(r[to].wrapping_add(constant)),
                    PLUS32 => r[to] = low(r[to].wrapping_add(r[from])),
                    MUL32 => r[to] = low(low(r[to]) * low(constant)),
                    DIV32 => r[to] = low(r[to]) / low(constant),
                    MOD32 => r[to] = low(r[to]) % low(constant),
                    TO_NETWORK if immediate == 16 => r[to] = u64::from((r[to] as u16).to_be()),
                    TO_NETWORK => r[to] = u64::from((r[to] as u32).to_be()),
                    // The context: first byte, and behind the last.
                    LOAD32 => r[to] = PACKET + if offset == 4 { FRAME as u64 } else { 0 },
                    LOAD64 => r[to] = next,
                    STORE_CONSTANT32 => put(&r, &immediate.to_le_bytes()),
                    STORE16 => put(&r, &(r[from] as u16).to_le_bytes()),
                    STORE32 => put(&r, &(r[from] as u32).to_le_bytes()),
                    STORE64 => next = r[from],
                    ADDRESS => at += 1,
                    IF_GREATER if r[to] > r[from] => at += offset as usize,
                    IF_NOT if r[to] != constant => at += offset as usize,
                    IF_GREATER | IF_NOT => {}
                    EXIT => break assert_eq!(r[0], 2),
                    _ => panic!("{code:#x}"),
                }
            }
            frame
        };
        (0..count).map(|_| run()).collect()
    }

    #[test]
    fn frames_are_those_of_the_rig_one_flow_after_the_other() {
        let mut inspector = Inspector::new(false);
        let frames = frames(50_001, 50_003);
        for frame in &frames {
            assert_eq!(inspector.fault(frame), None);
        }
        let flow = |n: usize| u32::from_be_bytes(frames[n][42..46].try_into().unwrap());
        assert_eq!([flow(0), flow(1), flow(50_000), flow(50_001), flow(50_002)], [0, 1, 50_000, 0, 1]);
    }

    #[test]
    fn a_frame_that_is_too_short_is_dropped() {
        let program = program(7, None, &template([2; 6]));
        let jump = program.iter().position(|i| i.code == code::IF_GREATER).unwrap();
        let drop = &program[jump + 1 + program[jump].offset as usize..];
        assert_eq!(drop, [op(code::SET, 0, 0, 0, 1), op(code::EXIT, 0, 0, 0, 0)]);
    }
}
