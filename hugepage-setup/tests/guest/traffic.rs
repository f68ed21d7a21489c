//! What the client and the server say to each other through the gateway, and that all of it arrives.

use crate::cable::in_place;
use crate::command::run;
use crate::peers::noise;
use crate::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a TCP transfer.
const BYTES: usize = 4 << 20;
/// Sockets that send datagrams, each a session of its own.
pub const FLOWS: u16 = 32;
/// Datagrams of each.
const DATAGRAMS: u32 = 64;
/// All of them.
pub const SENT: u64 = FLOWS as u64 * DATAGRAMS as u64;
/// Time between two datagrams.
const PACE: Duration = Duration::from_millis(2);
/// How long the last ones may be on their way.
const LATE: Duration = Duration::from_secs(10);

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::from((address.parse::<Ipv4Addr>().unwrap(), port))
}

/// A TCP connection on which both ends send at once: every byte arrives, and the server sees the translated address.
#[track_caller]
pub fn tcp_both_ways() {
    let listener = in_place(Place::Server, || TcpListener::bind(at(SERVER, 5001)).unwrap());
    let [up, down] = [1, 2].map(|seed| noise(seed, BYTES));
    let (to_server, to_client) = thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (stream, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), at(OUTSIDE, 0).ip(), "not translated");
            exchange(&stream, &down)
        });
        let client = in_place(Place::Client, || {
            TcpStream::connect_timeout(&at(SERVER, 5001), Duration::from_secs(20)).unwrap()
        });
        let got = exchange(&client, &up);
        (server.join().unwrap(), got)
    });
    assert!(to_server == up, "{} of {BYTES} bytes reached the server as they were sent", to_server.len());
    assert!(to_client == down, "{} of {BYTES} bytes reached the client as they were sent", to_client.len());
}

/// Sends all of it while it reads until the other end is done.
fn exchange(stream: &TcpStream, content: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = stream;
            stream.write_all(content).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::with_capacity(content.len());
        let mut stream = stream;
        stream.read_to_end(&mut got).unwrap();
        got
    })
}

/// A numbered datagram: flow, number, and bytes that follow from both; between 6 bytes and the longest that fits.
fn datagram(flow: u16, number: u32) -> Vec<u8> {
    let length = 6 + (usize::from(flow) * 131 + number as usize * 53) % 1467;
    let mut bytes = flow.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(noise(u64::from(flow) << 32 | u64::from(number), length - 6));
    bytes
}

/// Flow and number of a datagram, which must be as it was sent.
#[track_caller]
fn number(bytes: &[u8]) -> (u16, u32) {
    let (flow, rest) = bytes.split_first_chunk().unwrap_or_else(|| panic!("{} bytes arrived", bytes.len()));
    let (number, _) = rest.split_first_chunk().unwrap_or_else(|| panic!("{} bytes arrived", bytes.len()));
    let (flow, number) = (u16::from_be_bytes(*flow), u32::from_be_bytes(*number));
    assert!(bytes == datagram(flow, number), "datagram {number} of flow {flow} is not as it was sent");
    (flow, number)
}

/// Numbered datagrams of many flows to a server that sends each back: none is lost, doubled, changed or overtaken, on
/// either way.
#[track_caller]
pub fn udp_packet_by_packet() {
    let server = in_place(Place::Server, || UdpSocket::bind(at(SERVER, 5002)).unwrap());
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let open = || (0..FLOWS).map(|_| UdpSocket::bind(at(CLIENT, 0)).unwrap()).collect::<Vec<_>>();
    let clients = in_place(Place::Client, open);
    for client in &clients {
        client.connect(at(SERVER, 5002)).unwrap();
        client.set_read_timeout(Some(LATE)).unwrap();
    }
    let done = AtomicBool::new(false);
    let (seen, returned) = thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let (mut seen, mut room) = (Vec::new(), [0; 2048]);
            while !done.load(Ordering::Acquire) {
                let Ok((length, from)) = server.recv_from(&mut room) else { continue };
                seen.push(number(&room[..length]));
                server.send_to(&room[..length], from).unwrap();
            }
            seen
        });
        let readers: Vec<_> = clients.iter().map(|client| scope.spawn(|| receive(client))).collect();
        let began = Instant::now();
        for (at, (number, flow)) in
            (0..DATAGRAMS).flat_map(|number| (0..FLOWS).map(move |flow| (number, flow))).enumerate()
        {
            let due = PACE * u32::try_from(at).unwrap();
            thread::sleep(due.saturating_sub(began.elapsed()));
            clients[usize::from(flow)].send(&datagram(flow, number)).unwrap();
        }
        let returned: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        done.store(true, Ordering::Release);
        (echo.join().unwrap(), returned)
    });
    for flow in 0..FLOWS {
        let all: Vec<(u16, u32)> = (0..DATAGRAMS).map(|number| (flow, number)).collect();
        let at_server: Vec<_> = seen.iter().copied().filter(|(of, _)| *of == flow).collect();
        assert_eq!(at_server, all, "flow {flow}: what the server got is not what was sent");
        assert_eq!(returned[usize::from(flow)], all, "flow {flow}: what came back is not what was sent");
    }
}

/// What comes back to a socket: as many as were sent, and whatever comes right after.
fn receive(client: &UdpSocket) -> Vec<(u16, u32)> {
    let (mut got, mut room) = (Vec::new(), [0; 2048]);
    while got.len() < DATAGRAMS as usize {
        let Ok(length) = client.recv(&mut room) else { return got };
        got.push(number(&room[..length]));
    }
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while let Ok(length) = client.recv(&mut room) {
        got.push(number(&room[..length]));
    }
    got
}

/// Datagrams that [`send_broken`] sends.
pub const BROKEN: u64 = 8;
/// Sends datagrams of one flow from the client's interface to the MAC address, each with a wrong UDP checksum.
const SEND_BROKEN: &str = r#"
import socket, struct, sys
mac, source, server, count = sys.argv[1:]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
def total(data):
    s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
ends = socket.inet_aton(source) + socket.inet_aton(server)
udp = struct.pack("!HHHH", 5555, 5002, 24, 0) + b"wrong checksum.."
right = total(ends + struct.pack("!HH", 17, len(udp)) + udp)
udp = udp[:6] + struct.pack("!H", right ^ 0x0101) + udp[8:]
ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ends
ip = ip[:10] + struct.pack("!H", total(ip)) + ip[12:]
frame = bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("0200000000c1") + b"\x08\x00" + ip + udp
for _ in range(int(count)):
    raw.send(frame)
"#;

/// Datagrams with a wrong checksum from the client to the NIC with this address.
#[track_caller]
pub fn send_broken(world: &World, mac: &str) {
    let words = ["-c", SEND_BROKEN, mac, CLIENT, SERVER, &BROKEN.to_string()];
    run(world.limited(Place::Client, 20, "python3").args(words)).expect_ok("send wrong checksums");
    thread::sleep(Duration::from_secs(1));
}

#[test]
fn datagrams_are_numbered_and_of_every_length() {
    assert_eq!(number(&datagram(7, 40)), (7, 40));
    let lengths: Vec<usize> = (0..DATAGRAMS).map(|number| datagram(3, number).len()).collect();
    assert!(lengths.iter().all(|length| (6..=1472).contains(length)), "{lengths:?}");
    assert!(lengths.iter().any(|length| *length > 1400) && lengths.iter().any(|length| *length < 100));
}

#[test]
#[should_panic(expected = "not as it was sent")]
fn a_changed_datagram_is_seen() {
    let mut bytes = datagram(7, 40);
    *bytes.last_mut().unwrap() ^= 1;
    number(&bytes);
}
