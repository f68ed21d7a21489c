//! What is asked of a device that does it: packets go to the kernel through a TAP interface, and the kernel looks at their
//! checksums. In a network namespace of its own.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod dpdk_common;

use dataplane::buf::PacketBuf;
use dataplane::dpdk::plan::{self, Wish};
use dataplane::dpdk::{Eal, EthPort, EthQueue, Mbuf, Mempool, PortConfig};
use dataplane::home::Home;
use dataplane::key::Protocol;
use dataplane::packet::build::{self, Ends};
use dataplane::packet::{Parse, Parsed, flag, parse, vlan};
use dataplane::port::{Burst, Port, Spread};
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// The kernel's end.
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Ours.
const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 9, 2];

/// Runs a command of iproute2. False if it fails or is not there.
fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    Command::new(words.next().unwrap_or_default()).args(words).output().is_ok_and(|o| o.status.success())
}

/// Moves this thread into a new network namespace, which ends with it.
fn own_namespace() -> bool {
    // SAFETY: changes nothing but this thread's namespace.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}

struct Tap {
    port: EthPort,
    queue: EthQueue,
    pool: Mempool,
}

impl Tap {
    fn open(eal: &Eal, pool: &Mempool) -> Self {
        let nic = EthPort::nic(eal, "net_tap0").unwrap();
        let wish = Wish {
            number: 0,
            workers: 1,
            rx_desc: 256,
            tx_desc: 256,
            spread: Spread::Auto,
            offloads: true,
            tx_checksums: true,
            lro: true,
            tso: true,
            one_pool: true,
            nodes: Vec::new(),
        };
        let plan = plan::plan(&nic, &wish, &Home::new(1)).unwrap();
        let sent = plan.choices.iter().find(|choice| choice.what == "sent checksums").unwrap();
        assert_eq!(sent.lacks, "", "{nic:?}");
        let tso = plan.choices.iter().find(|choice| choice.what == "tso").unwrap();
        assert!(tso.lacks.contains("as long as the MTU"), "{tso:?}");
        // Shorter ones it cuts to.
        let config = PortConfig {
            tx_offloads: plan.tx_offloads & !dpdk_sys::POSTERN_TX_FAST_FREE
                | dpdk_sys::POSTERN_TX_TSO
                | dpdk_sys::POSTERN_TX_MULTI_SEGS,
            ..PortConfig::planned(&plan, pool.clone())
        };
        let port = EthPort::configure(eal, "net_tap0", &config).unwrap();
        port.start().unwrap();
        let queue = port.queue(0).unwrap();
        assert!(queue.fills_checksums());
        for command in [
            "ip link set pt0 up".to_owned(),
            format!("ip addr add {KERNEL}/24 dev pt0"),
            format!("ip neigh add {OURS} lladdr 02:00:00:00:09:02 dev pt0 nud permanent"),
        ] {
            assert!(run(&command), "{command}");
        }
        Self { port, queue, pool: pool.clone() }
    }

    fn ends(&self) -> Ends {
        Ends::new(OUR_MAC, OURS, self.port.mac(), KERNEL)
    }

    fn tx(&mut self, packet: Mbuf) {
        let mut burst = Burst::new();
        burst.push(packet);
        assert_eq!(self.queue.tx_burst(&mut burst), 1);
    }

    /// The next TCP segment that the kernel sends.
    fn segment(&mut self) -> Parsed {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut burst = Burst::new();
        while Instant::now() < deadline {
            self.queue.rx_burst(&mut burst);
            for packet in burst.drain(..) {
                if let Parse::Ip(parsed) = parse(packet.bytes(), OUR_MAC)
                    && parsed.protocol == Protocol::Tcp
                {
                    return parsed;
                }
            }
        }
        panic!("the kernel sends nothing")
    }

    /// Sends a frame whose checksum is wrong, and left to the device if `left` says of what.
    fn send(&mut self, frame: &[u8], left: Option<Protocol>, tagged: bool) {
        let mut packet = dpdk_common::packet(&mut self.pool, frame);
        assert_eq!(packet.leave_checksum(left), left.is_some());
        assert!(!tagged || vlan::insert(&mut packet, 7));
        self.tx(packet);
    }
}

/// An aggregate that the device cuts reaches a socket of the kernel's, all of it and in its order.
fn segments(tap: &mut Tap) {
    let listener = TcpListener::bind((KERNEL, 5_001)).unwrap();
    let ends = tap.ends();
    let header =
        |seq, ack, flags| build::Tcp { sport: 4_001, dport: 5_001, seq, ack, flags, ..Default::default() };
    let syn = build::tcp(&ends, &header(100, 0, flag::SYN), b"");
    tap.send(&syn, None, false);
    let answer = tap.segment();
    assert!(answer.has(flag::SYN | flag::ACK), "{answer:?}");
    let ack = answer.seq.wrapping_add(1);
    tap.send(&build::tcp(&ends, &header(101, ack, flag::ACK), b""), None, false);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

    let payload: Vec<u8> = (0..7_000_u32).map(|n| (n / 7) as u8).collect();
    let frame = build::tcp(&ends, &header(101, ack, flag::ACK | flag::PSH), &payload);
    let mut pieces =
        frame.chunks(1_500).map(|piece| dpdk_common::packet(&mut tap.pool, piece)).collect::<Vec<_>>();
    let first = pieces.remove(0);
    let mut whole = pieces.into_iter().fold(first, |whole, piece| whole.chain(piece).unwrap());
    whole.set_aggregate(700);
    assert!(tap.queue.cuts(whole.aggregate().unwrap()) && whole.leave_whole());
    let before = tap.port.stats().tx_packets;
    tap.tx(whole);
    let mut came = vec![0; payload.len()];
    stream.read_exact(&mut came).unwrap();
    assert_eq!(came, payload);
    assert!(tap.port.stats().tx_packets - before >= 10, "{:?}", tap.port.stats());
}

/// The kernel takes a datagram whose checksum the device has filled in, and none whose checksum is wrong.
fn checksums(tap: &mut Tap) {
    let socket = UdpSocket::bind((KERNEL, 5_000)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut text = [0; 2_000];
    for length in [1, 2, 700, 1_401] {
        let mut frame = build::udp(&tap.ends(), 4_000, 5_000, &vec![length as u8; length]);
        frame[40] ^= 0x55;
        // One that nobody fills in goes first: the kernel drops it.
        tap.send(&frame, None, false);
        tap.send(&frame, Some(Protocol::Udp), false);
        let (came, from) = socket.recv_from(&mut text).unwrap();
        assert_eq!((came, from.to_string()), (length, format!("{OURS}:4000")));
        assert!(text[..came].iter().all(|byte| *byte == length as u8));
    }
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let nothing = socket.recv_from(&mut text).unwrap_err();
    assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");
}

/// The same behind a tag.
fn tagged_checksums(tap: &mut Tap) {
    if !run("ip link add link pt0 name pt0.7 type vlan id 7") {
        eprintln!("skipped: this kernel has no VLANs");
        return;
    }
    for command in [
        "ip addr flush dev pt0",
        "ip addr add 10.9.0.1/24 dev pt0.7",
        "ip link set pt0.7 up",
        "ip neigh add 10.9.0.2 lladdr 02:00:00:00:09:02 dev pt0.7 nud permanent",
    ] {
        assert!(run(command), "{command}");
    }
    let socket = UdpSocket::bind((KERNEL, 5_000)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut frame = build::udp(&tap.ends(), 4_000, 5_000, b"tagged");
    frame[40] ^= 0x55;
    tap.send(&frame, Some(Protocol::Udp), true);
    let mut text = [0; 100];
    assert_eq!(socket.recv_from(&mut text).unwrap().0, 6);
}

#[test]
fn the_kernel_believes_what_a_tap_fills_in() {
    if !own_namespace() {
        eprintln!("skipped: this user may not make a network namespace");
        return;
    }
    let Ok(eal) = Eal::init(&dpdk_common::config("tap", &["tap:pt0"])) else {
        eprintln!("skipped: this machine has no TAP interfaces");
        return;
    };
    let pool = dpdk_common::pool(&eal, 1023);
    let mut tap = Tap::open(&eal, &pool);
    checksums(&mut tap);
    segments(&mut tap);
    tagged_checksums(&mut tap);
    let Tap { port, queue, pool: handle } = tap;
    drop((queue, handle));
    port.close().unwrap();
    assert_eq!(pool.available(), pool.size());
}
