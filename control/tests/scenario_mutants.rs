//! A hundred thousand mutated packets into the whole path: nothing panics, no buffer is lost, every packet is counted
//! once, and what leaves is well formed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::buf::PacketBuf;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::key::Protocol;
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use dataplane::packet::{Parse, build, checksum, parse};
use dataplane::view::{ExpectationView, SessionView};
use scenario::*;
use std::net::IpAddr;

/// Packets for each arrangement of workers: two of three are mutated, a hundred thousand in all.
const PACKETS: usize = 40_000;
/// Longest frame.
const LONGEST: usize = 1_900;

/// FTP as clients and servers speak it, and as nobody should.
const LINES: [&str; 12] = [
    "USER anonymous\r\n",
    "PORT 10,1,0,2,195,81\r\n",
    "EPRT |1|10.1.0.2|50002|\r\n",
    "PASV\r\n",
    "227 Entering Passive Mode (198,51,100,2,195,89).\r\n",
    "229 Extended (|||50009|)\r\n",
    "PORT 10,1,0,2,195,81\r\nPORT 10,1,0,2,195,82\r\nNOOP\r\n",
    "230-Multi\r\n230 line\r\n",
    "P",
    "AUTH TLS\r\n",
    "\u{0}\u{7f}\r\n\r\n\r\n",
    "EPSV\r\n",
];

/// What a sender may know of the gateway's state.
struct Known {
    sessions: Vec<SessionView>,
    expectations: Vec<ExpectationView>,
    ftp: Pair,
}

/// A valid packet of any kind, and where it arrives.
fn valid(known: &Known, noise: &mut XorShift) -> (usize, Vec<u8>) {
    let hosts = [CLIENT, CLIENT2, SERVER, SERVER2, REMOTE, DMZ_HOST, STRANGER];
    let from = hosts[noise.below(hosts.len())];
    let targets =
        [SERVER.addr, REMOTE.addr, GW_OUTSIDE, GW_INSIDE, DMZ_HOST.addr, STRANGER.addr, CLIENT.addr];
    let mut ends = from.to(targets[noise.below(targets.len())]);
    if noise.one_in(16) {
        ends.ttl = noise.below(3) as u8;
    }
    let session = known.sessions.get(noise.below(known.sessions.len().max(1))).filter(|_| !noise.one_in(3));
    let (sport, dport) = match session {
        // To a translated port that is in use.
        Some(view) if from.interface == OUTSIDE => (view.reverse.sport, view.reverse.dport),
        Some(view) => (view.forward.sport, view.forward.dport),
        None => (1_024 + noise.below(200) as u16, [21, 53, 80, 7_000][noise.below(4)]),
    };
    let payload = vec![noise.draw() as u8; [0, 1, 64, 500, 1_400][noise.below(5)]];
    let frame = match noise.below(11) {
        0 | 1 => build::udp(&ends, sport, dport, &payload),
        2 => build::echo_request(&ends, sport, 1, &payload),
        3 => build::echo_reply(&ends, dport, 1, &payload),
        4 | 5 => {
            let flags = [SYN, SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK][noise.below(7)];
            let header = build::Tcp { sport, dport, flags, seq: noise.draw() as u32, ..Default::default() };
            build::tcp(&ends, &header, &payload)
        }
        6..=8 => {
            // The control connection that is open: in order, ahead, behind, acknowledging anything.
            let side = if noise.one_in(2) { Side::Initiator } else { Side::Responder };
            let mut pair = known.ftp.clone();
            pair.sent(side, [0, 0, 0, 5, 0xffff_fff0][noise.below(5)]);
            let end = pair.end_mut(side);
            end.ack = end.ack.wrapping_add([0, 0, 7, 0xffff_ffff][noise.below(4)]);
            let options: &[u8] = if noise.one_in(3) { &[1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 1, 0] } else { &[] };
            let flags = [PSH | ACK, PSH | ACK, ACK, FIN | ACK][noise.below(4)];
            let line = LINES[noise.below(LINES.len())].as_bytes();
            return (pair.end(side).host.interface, pair.frame_with(side, flags, line, options));
        }
        9 if !known.expectations.is_empty() => {
            // The child that is expected.
            let expected = &known.expectations[noise.below(known.expectations.len())];
            let IpAddr::V4(published) = expected.published.addr else { unreachable!() };
            let from = if expected.opener.addr == SERVER.addr { SERVER } else { CLIENT };
            let header =
                build::Tcp { sport: 20, dport: expected.published.port, flags: SYN, ..Default::default() };
            return (from.interface, build::tcp(&from.to(published), &header, b""));
        }
        _ if noise.one_in(2) => build::arp_request(from.mac, from.addr, ends.destination),
        _ => build::arp_reply(from.mac, from.addr, gateway_mac(from.interface), ends.destination),
    };
    (from.interface, frame)
}

/// Damages a frame in a few ways.
fn mutate(frame: &mut Vec<u8>, noise: &mut XorShift) {
    for _ in 0..=noise.below(3) {
        let length = frame.len().max(1);
        // The MAC addresses seldom: behind them it becomes interesting.
        let at = if noise.one_in(20) { noise.below(length) } else { (12 + noise.below(60)).min(length - 1) };
        match noise.below(8) {
            0 | 1 => frame[at] = noise.draw() as u8,
            2 => frame[at] ^= 1 << noise.below(8),
            3 => frame.truncate(noise.below(length + 1).max(1)),
            4 => frame.resize(length + noise.below(64), noise.draw() as u8),
            // Lengths that lie: IP total length, IHL, TCP data offset, UDP length.
            5 if length > 50 => {
                let (at, lie) = [(16, 0), (14, 1), (46, 1), (38, 0)][noise.below(4)];
                if lie == 0 {
                    frame[at..at + 2].copy_from_slice(&(noise.draw() as u16).to_be_bytes());
                } else {
                    frame[at] = noise.draw() as u8;
                }
            }
            6 if length > 50 => {
                let near = u16::from_be_bytes([frame[16], frame[17]]).wrapping_add(noise.below(9) as u16);
                frame[16..18].copy_from_slice(&near.wrapping_sub(4).to_be_bytes());
            }
            7 if noise.one_in(8) => {
                for byte in frame.iter_mut() {
                    *byte = noise.draw() as u8;
                }
            }
            _ => {}
        }
    }
    frame.truncate(LONGEST);
    // Checksums made right again, so that what lies behind them is reached.
    if frame.len() >= 34 && !noise.one_in(4) {
        let header = usize::from(frame[14] & 15) * 4;
        if header >= 20 && frame.len() >= 14 + header {
            let _ = checksum::ipv4_fill(&mut frame[14..14 + header]);
            let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            let protocol = Protocol::from_number(frame[23]).filter(|p| *p != Protocol::Icmp);
            if let Some(protocol) = protocol
                && total > header
                && frame.len() >= 14 + total
            {
                let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                let (source, destination) = (word(26), word(30));
                let _ = checksum::l4_fill(source, destination, protocol, &mut frame[14 + header..14 + total]);
            }
        }
    }
}

/// What leaves is for a neighbour to read.
fn well_formed(bytes: &[u8]) {
    let to = bytes[..6].try_into().unwrap();
    match parse(bytes, to) {
        // A broadcast is ARP only.
        Parse::Ip(_) | Parse::Error(..) | Parse::Arp | Parse::Fragment(_) => {}
        Parse::Drop(reason) => panic!("sent a packet that is dropped for {}: {bytes:02x?}", reason.name()),
    }
}

fn empty(gw: &mut Gateway) {
    for interface in [INSIDE, OUTSIDE, DMZ] {
        while let Some(buf) = gw.recv_raw(interface) {
            well_formed(buf.bytes());
        }
    }
}

const INBOUND: &str = "
[[rule]]
name = \"in\"
from = [\"untrust\", \"dmz\"]
to = [\"dmz\", \"untrust\"]
action = \"allow\"
";

/// Packets of [`login`].
const LOGIN: u64 = 7;

/// A control connection with a passive command open and an active one sent.
fn login(gw: &mut Gateway, port: u16) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, port), (SERVER, 21));
    ftp.say(gw, Side::Initiator, "EPSV\r\n");
    let [high, low] = port.to_be_bytes();
    ftp.say(gw, Side::Initiator, format!("PORT 10,1,0,2,{high},{low}\r\n"));
    ftp
}

fn storm(mode: Mode, seed: u64) {
    let mut noise = XorShift(seed);
    let mut gw = Gateway::new(
        mode,
        &[&standard().replace("alg_sessions = 64", "alg_sessions = 4096"), INBOUND].concat(),
    );
    let mut known = Known { sessions: Vec::new(), expectations: Vec::new(), ftp: login(&mut gw, 40_000) };
    let before = gw.count(Counter::RxPackets);
    let mut injected = 0;
    for n in 0..PACKETS {
        let (interface, mut frame) = valid(&known, &mut noise);
        if !noise.one_in(3) {
            mutate(&mut frame, &mut noise);
        }
        gw.inject_at(interface, noise.below(mode.workers), &frame);
        injected += 1;
        if n % 32 == 31 {
            gw.run();
            empty(&mut gw);
            gw.advance_by(noise.below(40) as u32, 40);
            known.sessions = gw.sessions();
            known.expectations = gw.expectations();
        }
        if n % 200 == 199 {
            // The control connection is in disorder by now, or was reset: another one.
            gw.run();
            empty(&mut gw);
            known.ftp = login(&mut gw, 40_001 + (n / 200) as u16);
            injected += LOGIN;
        }
    }
    gw.run();
    // Until every packet that waited for a neighbour is gone, and all has aged.
    for _ in 0..4 {
        gw.advance_by(AGES / 4, 500);
        empty(&mut gw);
    }
    assert_eq!(gw.count(Counter::RxPackets) - before, injected);
    gw.assert_balance(0);
    gw.assert_empty();
    assert_eq!((gw.dropped(DropReason::TxFull), gw.dropped(DropReason::PoolEmpty)), (0, 0));
    println!(
        "forwarded {}, local {}, punted {}, sessions {}, expectations {}, edits {}, drops {:#?}",
        gw.count(Counter::Forwarded),
        gw.count(Counter::Local),
        gw.count(Counter::Punted),
        gw.count(Counter::SessionsOpened),
        gw.count(Counter::ExpectationsOpened),
        gw.count(Counter::AlgEdits),
        gw.drops()
    );
    // It got everywhere.
    assert!(gw.drops().len() >= 25, "{:?}", gw.drops());
    let reached = [
        Counter::Forwarded,
        Counter::Local,
        Counter::Punted,
        Counter::Queued,
        Counter::SessionsOpened,
        Counter::ExpectationsOpened,
        Counter::AlgEdits,
        Counter::AlgDenied,
        Counter::IcmpErrors,
    ];
    for counter in reached {
        assert!(gw.count(counter) > 0, "{} stayed 0", counter.name());
    }
    let records = gw.core.records();
    assert_eq!(records.opened.len(), records.closed.len());
}

#[test]
fn a_storm_of_mutants() {
    for (seed, mode) in (0x5eed_0000_0000_0001..).zip(scenario::gateway::MODES) {
        println!("{mode:?}");
        storm(mode, seed);
    }
}
