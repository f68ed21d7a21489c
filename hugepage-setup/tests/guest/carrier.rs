//! A cable that is pulled out and put back while the gateway runs: QEMU takes the carrier away from the outside NIC.

use crate::cable::in_place;
use crate::command::wait_until;
use crate::gateway::{Gateway, of_workers};
use crate::machine::Machine;
use crate::nics::Pair;
use crate::peers;
use crate::world::{CLIENT, INSIDE, Place, SERVER, World};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A neighbour that nobody has asked for before the cable is out.
const OTHER: &str = "198.51.100.3";
/// The server's port.
const PORT: u16 = 5003;
/// Datagrams to a neighbour that is known, and to one that is not.
const SENT: u64 = 8;
const ASKED: u64 = 3;
/// How long the gateway may take to see a change. It looks four times a second; the guest is slow.
const SEES: Duration = Duration::from_secs(30);

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::from((address.parse::<Ipv4Addr>().unwrap(), port))
}

/// A socket at a place that waits half a second for what it reads.
fn socket(place: Place, address: &str, port: u16) -> UdpSocket {
    let socket = in_place(place, || UdpSocket::bind(at(address, port)).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Datagrams that wait at a socket.
fn arrived(socket: &UdpSocket) -> u64 {
    let mut room = [0; 64];
    (0..).take_while(|_| socket.recv(&mut room).is_ok()).count() as u64
}

/// The outside link is told down and up again, once each. While it is down nothing arrives and every packet is accounted
/// for, the inside goes on, and who asks for a new neighbour gets no answer. Then sessions go on, and new ones come.
#[track_caller]
pub fn comes_and_goes(world: &World, machine: &mut Machine, gateway: &Gateway, pair: &Pair) {
    world.ip(Place::Server, &format!("addr add {OTHER}/24 dev eth0"));
    let [server, other] = [SERVER, OTHER].map(|address| socket(Place::Server, address, PORT));
    let client = socket(Place::Client, CLIENT, 0);
    let send = |to: &str, count: u64| {
        for _ in 0..count {
            client.send_to(b"a datagram", at(to, PORT)).unwrap();
        }
    };
    send(SERVER, 1);
    assert_eq!(arrived(&server), 1, "before anything happens");
    let shown =
        |machine: &mut Machine, name: &str| gateway.control(machine, &format!("interface show {name}"));
    let changes = |shown: &Value| ["link_downs", "link_ups"].map(|count| shown[count].as_u64().unwrap());
    let [downs, ups] = changes(&shown(machine, "outside"));
    let before = gateway.counters(machine);

    machine.set_link(&pair.cable(Place::Server), false);
    wait_until("the link is told down", SEES, || changes(&shown(machine, "outside")) == [downs + 1, ups]);
    assert_eq!(shown(machine, "outside")["link_up"], false);
    assert_eq!(shown(machine, "inside")["link_up"], true);
    send(SERVER, SENT);
    send(OTHER, ASKED);
    peers::ping(world, &["-c", "2", "-i", "0.2", "-W", "5", INSIDE]).expect_ok("ping the gateway inside");
    assert_eq!((arrived(&server), arrived(&other)), (0, 0), "through a cable that is out");
    let grown = |machine: &mut Machine, counter: &str| {
        let after = gateway.counters(machine);
        let all = |counters: &[Value]| of_workers(counters, counter).iter().sum::<u64>();
        all(&after) - all(&before)
    };
    // Whoever waited for the neighbour is given up when it has not answered.
    wait_until("the neighbour is given up", SEES, || grown(machine, "neighbor-unresolved") >= ASKED);
    // An emulated NIC takes what it is given and loses it, as a cable would; one that keeps it is full in the end.
    let accounted: u64 =
        ["tx-packets", "tx-full", "neighbor-unresolved"].map(|counter| grown(machine, counter)).iter().sum();
    assert!(accounted >= SENT + ASKED, "{accounted} of {} packets are accounted for", SENT + ASKED);

    machine.set_link(&pair.cable(Place::Server), true);
    wait_until("the link is told up", SEES, || changes(&shown(machine, "outside")) == [downs + 1, ups + 1]);
    assert_eq!(shown(machine, "outside")["link_up"], true);
    // Nobody asks for a neighbour again for a while that has not answered.
    for (name, to, socket) in
        [("the session goes on", SERVER, &server), ("a new neighbour answers", OTHER, &other)]
    {
        wait_until(name, SEES, || {
            send(to, 1);
            arrived(socket) > 0
        });
    }
    let records = gateway.audited(machine, "link-up");
    let of_outside = records.iter().filter(|record| record["interfaces"][0] == "outside");
    let told: Vec<&str> = of_outside
        .filter_map(|record| record["kind"].as_str())
        .filter(|kind| kind.starts_with("link-"))
        .collect();
    assert!(told.ends_with(&["link-down", "link-up"]), "{told:?}");
    assert_eq!(told.len() as u64, downs + ups + 2, "{told:?}");
    world.ip(Place::Server, &format!("addr del {OTHER}/24 dev eth0"));
}
