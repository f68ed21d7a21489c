//! Links: several interfaces on one port by their VLAN, and jumbo frames.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use dataplane::buf::PacketBuf;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::key::InterfaceId;
use dataplane::packet::build;
use scenario::kept::Kept;
use scenario::*;
use std::net::Ipv4Addr;

/// Interfaces by number; the first three are on port 0, the last on port 1.
const LAB: u16 = 1;
const GUEST: u16 = 2;
const UPLINK: u16 = 3;
const LAB_VLAN: u16 = 100;
const GUEST_VLAN: u16 = 200;
const UPLINK_VLAN: u16 = 4_094;

const TRUNKS: &str = r#"
[[interface]]
name = "inside"
device = "ring:0"
zone = "trust"
addresses = ["10.1.0.1/24"]
mac = "02:00:00:00:01:00"

[[interface]]
name = "lab"
device = "ring:0"
vlan = 100
zone = "lab"
addresses = ["10.100.0.1/24"]
mac = "02:00:00:00:01:00"

[[interface]]
name = "guest"
device = "ring:0"
vlan = 200
zone = "guest"
addresses = ["10.200.0.1/24"]
mtu = 1400
mac = "02:00:00:00:01:00"

[[interface]]
name = "uplink"
device = "ring:1"
vlan = 4094
zone = "untrust"
addresses = ["198.51.100.1/24"]
mac = "02:00:00:00:01:01"

[[neighbor]]
interface = "inside"
address = "10.1.0.2"
mac = "02:00:00:01:00:02"

[[neighbor]]
interface = "lab"
address = "10.100.0.2"
mac = "02:00:00:01:00:22"

[[neighbor]]
interface = "guest"
address = "10.200.0.2"
mac = "02:00:00:01:00:42"

[[neighbor]]
interface = "uplink"
address = "198.51.100.2"
mac = "02:00:00:01:01:02"

[[nat]]
type = "source"
from = ["trust", "lab", "guest"]
to = "untrust"
translate = "interface"

[[rule]]
name = "any"
from = "any"
to = "any"
action = "allow"
"#;

const LAB_HOST: Host =
    Host { interface: INSIDE, mac: [2, 0, 0, 1, 0, 0x22], addr: Ipv4Addr::new(10, 100, 0, 2) };
const GUEST_HOST: Host =
    Host { interface: INSIDE, mac: [2, 0, 0, 1, 0, 0x42], addr: Ipv4Addr::new(10, 200, 0, 2) };

fn text() -> String {
    [SMALL, SHORT, TRUNKS].concat()
}

/// The frame with tags behind its addresses: EtherType and control field each.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for (ethertype, control) in tags {
        out.extend(ethertype.to_be_bytes());
        out.extend(control.to_be_bytes());
    }
    out.extend(&frame[12..]);
    out
}

fn in_vlan(frame: &[u8], vlan: u16) -> Vec<u8> {
    tagged(frame, &[(0x8100, vlan)])
}

/// The next frame that left a port: its tag, and what it is without.
fn next(gw: &mut Gateway, port: usize) -> Option<(Option<u16>, Seen)> {
    let buf = gw.recv_raw(port)?;
    let frame = buf.bytes();
    if frame[12..14] != [0x81, 0] {
        return Some((None, Seen::read(port, frame)));
    }
    let control = u16::from_be_bytes([frame[14], frame[15]]);
    assert_eq!(control >> 12, 0, "priority 0");
    Some((Some(control), Seen::read(port, &[&frame[..12], &frame[16..]].concat())))
}

/// Puts in one frame; exactly one leaves, through `out` and in that VLAN.
fn pass(gw: &mut Gateway, port: usize, frame: &[u8], out: usize, vlan: Option<u16>) -> Seen {
    gw.inject(port, frame);
    gw.run();
    let (tag, seen) = next(gw, out).unwrap_or_else(|| panic!("nothing came out: {:?}", gw.drops()));
    assert_eq!(tag, vlan);
    assert!(gw.recv_raw(INSIDE).is_none() && gw.recv_raw(OUTSIDE).is_none(), "nothing else leaves");
    seen
}

#[test]
fn tagged_in_tagged_out() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        for (host, vlan) in [(CLIENT, None), (LAB_HOST, Some(LAB_VLAN)), (GUEST_HOST, Some(GUEST_VLAN))] {
            let tag = |frame: &[u8]| vlan.map_or_else(|| frame.to_vec(), |id| in_vlan(frame, id));
            let question = build::udp(&host.to(SERVER.addr), 5000, 53, b"?");
            // The first takes the long way, the others the straight line.
            for _ in 0..3 {
                let out = pass(&mut gw, INSIDE, &tag(&question), OUTSIDE, Some(UPLINK_VLAN));
                assert_eq!((out.source.0, out.destination, out.ttl), (GW_OUTSIDE, (SERVER.addr, 53), 63));
                let answer = build::udp(&SERVER.to(GW_OUTSIDE), 53, out.source.1, b"!");
                let back = pass(&mut gw, OUTSIDE, &in_vlan(&answer, UPLINK_VLAN), INSIDE, vlan);
                assert_eq!((back.destination, back.to_mac), ((host.addr, 5000), host.mac));
            }
        }
        // Between two VLANs of one port.
        let across = build::udp(&LAB_HOST.to(GUEST_HOST.addr), 7, 7, b"x");
        let seen = pass(&mut gw, INSIDE, &in_vlan(&across, LAB_VLAN), INSIDE, Some(GUEST_VLAN));
        assert_eq!((seen.source.0, seen.to_mac), (LAB_HOST.addr, GUEST_HOST.mac));
        // Priority and drop eligibility are no part of the VLAN; VLAN 0 is none.
        let frame = tagged(&across, &[(0x8100, 0xf000 | LAB_VLAN)]);
        pass(&mut gw, INSIDE, &frame, INSIDE, Some(GUEST_VLAN));
        let priority = build::udp(&CLIENT.to(GUEST_HOST.addr), 7, 7, b"x");
        pass(&mut gw, INSIDE, &tagged(&priority, &[(0x8100, 0xe000)]), INSIDE, Some(GUEST_VLAN));
        assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn one_burst_of_many_vlans_keeps_each_flow_in_order() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let hosts = [(CLIENT, None), (LAB_HOST, Some(LAB_VLAN)), (GUEST_HOST, Some(GUEST_VLAN))];
        for n in 0..60_u8 {
            let (host, vlan) = hosts[usize::from(n) % 3];
            let frame = build::udp(&host.to(SERVER.addr), 5000, 53, &[n]);
            gw.inject(INSIDE, &vlan.map_or_else(|| frame.clone(), |id| in_vlan(&frame, id)));
        }
        gw.run();
        let mut seen: Vec<Vec<u8>> = vec![Vec::new(); 3];
        while let Some((vlan, packet)) = next(&mut gw, OUTSIDE) {
            assert_eq!(vlan, Some(UPLINK_VLAN));
            seen[usize::from(packet.payload[0]) % 3].push(packet.payload[0]);
        }
        for of_host in &seen {
            assert_eq!(of_host.len(), 20);
            // Misrouted packets may overtake each other.
            assert!(mode.misroute || of_host.is_sorted(), "{of_host:?}");
        }
        gw.drain();
    });
}

#[test]
fn frames_that_no_interface_takes() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let frame = build::udp(&LAB_HOST.to(SERVER.addr), 5000, 53, b"?");
        for (port, frame, reason) in [
            (INSIDE, in_vlan(&frame, 101), DropReason::VlanUnknown),
            (INSIDE, in_vlan(&frame, 0xfff), DropReason::VlanUnknown),
            (INSIDE, tagged(&frame, &[(0x8100, LAB_VLAN), (0x8100, 7)]), DropReason::VlanStacked),
            (INSIDE, tagged(&frame, &[(0x88a8, LAB_VLAN), (0x8100, 7)]), DropReason::VlanStacked),
            (INSIDE, tagged(&frame, &[(0x88a8, LAB_VLAN)]), DropReason::VlanStacked),
            (INSIDE, tagged(&frame, &[(0x8100, LAB_VLAN), (0x88a8, 7)]), DropReason::VlanStacked),
            (INSIDE, in_vlan(&frame, LAB_VLAN)[..17].to_vec(), DropReason::EthTruncated),
            (OUTSIDE, build::udp(&SERVER.to(GW_OUTSIDE), 1, 2, b""), DropReason::VlanMissing),
            (OUTSIDE, in_vlan(&build::udp(&SERVER.to(GW_OUTSIDE), 1, 2, b""), 0), DropReason::VlanMissing),
        ] {
            gw.refuse(port, &frame, reason);
        }
        gw.assert_balance(0);
        gw.drain();

        // A port without VLANs takes a priority, and no VLAN.
        let mut gw = Gateway::new(mode, &standard());
        let frame = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?");
        for _ in 0..2 {
            gw.pass(INSIDE, &in_vlan(&frame, 0), OUTSIDE);
        }
        gw.refuse(INSIDE, &in_vlan(&frame, 7), DropReason::VlanUnknown);
        gw.refuse(INSIDE, &tagged(&frame, &[(0x8100, 0), (0x8100, 0)]), DropReason::VlanStacked);
        gw.inject(INSIDE, &in_vlan(&build::arp_request(CLIENT.mac, CLIENT.addr, GW_INSIDE), 0));
        gw.run();
        assert!(gw.recv(INSIDE).unwrap().arp.is_some());
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn neighbours_of_each_vlan() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let asked = Ipv4Addr::new(10, 100, 0, 1);
        let request = build::arp_request(LAB_HOST.mac, LAB_HOST.addr, asked);
        let reply = pass(&mut gw, INSIDE, &in_vlan(&request, LAB_VLAN), INSIDE, Some(LAB_VLAN));
        assert_eq!(reply.arp, Some((asked, LAB_HOST.addr)));
        // The address is another VLAN's.
        for frame in [in_vlan(&request, GUEST_VLAN), request.clone()] {
            gw.inject(INSIDE, &frame);
            gw.run();
            assert!(gw.recv_raw(INSIDE).is_none());
        }
        // Asked for in its own VLAN, and used there.
        let new = Host { addr: Ipv4Addr::new(10, 100, 0, 77), mac: [2, 0, 0, 1, 0, 0x77], ..LAB_HOST };
        let frame = build::udp(&GUEST_HOST.to(new.addr), 7, 7, b"hello");
        let request = pass(&mut gw, INSIDE, &in_vlan(&frame, GUEST_VLAN), INSIDE, Some(LAB_VLAN));
        assert_eq!(request.arp, Some((asked, new.addr)));
        gw.inject(
            INSIDE,
            &in_vlan(&build::arp_reply(new.mac, new.addr, gateway_mac(INSIDE), asked), LAB_VLAN),
        );
        gw.run();
        gw.advance(1);
        let (vlan, seen) = next(&mut gw, INSIDE).unwrap();
        assert_eq!((vlan, seen.to_mac, seen.text().as_str()), (Some(LAB_VLAN), new.mac, "hello"));
        gw.assert_balance(0);
    });
}

#[test]
fn the_mtu_is_without_the_tag_and_errors_go_back_tagged() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let full = in_vlan(&build::udp(&LAB_HOST.to(SERVER.addr), 5000, 53, &[1; 1472]), LAB_VLAN);
        assert_eq!(full.len(), 1518);
        for _ in 0..2 {
            gw.inject(INSIDE, &full);
            gw.run();
            assert_eq!(gw.recv_raw(OUTSIDE).unwrap().bytes().len(), 1518);
        }
        let big = build::udp(&LAB_HOST.to(GUEST_HOST.addr), 7, 7, &[1; 1373]);
        let error = pass(&mut gw, INSIDE, &in_vlan(&big, LAB_VLAN), INSIDE, Some(LAB_VLAN));
        assert_eq!((error.icmp, error.to_mac), (Some((3, 4, 1400)), LAB_HOST.mac));
        assert_eq!(error.payload, big[14..14 + error.payload.len()]);
        gw.drain();
    });
}

#[test]
fn counters_are_those_of_the_interface() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let before = gw.count(Counter::TxBytes);
        let count = |gw: &Gateway, id: u16| gw.shared.interface_total(InterfaceId(id));
        let start: Vec<_> = (0..4).map(|id| count(&gw, id)).collect();
        let frame = build::udp(&LAB_HOST.to(SERVER.addr), 5000, 53, b"?");
        for _ in 0..3 {
            pass(&mut gw, INSIDE, &in_vlan(&frame, LAB_VLAN), OUTSIDE, Some(UPLINK_VLAN));
        }
        gw.refuse(INSIDE, &in_vlan(&frame, 101), DropReason::VlanUnknown);
        let more = |id: u16| {
            let now = count(&gw, id);
            [0, 1, 2, 3].map(|i| now[i] - start[usize::from(id)][i])
        };
        assert_eq!(more(0), [0; 4]);
        assert_eq!(more(LAB), [3, 3 * 43, 0, 0], "without tags");
        assert_eq!(more(GUEST), [0; 4]);
        assert_eq!(more(UPLINK), [0, 0, 3, 3 * 43]);
        assert_eq!(gw.count(Counter::TxBytes) - before, 3 * 47, "with tags");
        gw.drain();
    });
}

#[test]
fn jumbo_frames() {
    each_mode(|mode| {
        let text = standard().replace("zone = \"trust\"\n", "zone = \"trust\"\nmtu = 9000\n");
        let text = text.replace("zone = \"untrust\"\n", "zone = \"untrust\"\nmtu = 9216\n");
        let sizes = Sizes { room: 9_216 + 22, ..Sizes::default() };
        let mut gw = Gateway::with(mode, &text, sizes, Kept::default());
        let jumbo = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &[7; 8_972]);
        assert_eq!(jumbo.len(), 9_014);
        let mut out = gw.pass(INSIDE, &jumbo, OUTSIDE);
        for _ in 0..2 {
            out = gw.pass(INSIDE, &jumbo, OUTSIDE);
            assert_eq!((out.frame.len(), out.payload.len()), (9_014, 8_972));
        }
        // The way back is narrower, and the DMZ is no jumbo link at all.
        let large = build::udp(&SERVER.to(GW_OUTSIDE), 53, out.source.1, &[8; 8_973]);
        assert_eq!(gw.pass(OUTSIDE, &large, OUTSIDE).icmp, Some((3, 4, 9_000)));
        let large = build::udp(&SERVER.to(GW_OUTSIDE), 53, out.source.1, &[8; 8_972]);
        assert_eq!(gw.pass(OUTSIDE, &large, INSIDE).payload, [8; 8_972]);
        let error = gw.pass(INSIDE, &build::udp(&CLIENT.to(DMZ_HOST.addr), 7, 7, &[9; 4_000]), INSIDE);
        assert_eq!((error.icmp, error.frame.len()), (Some((3, 4, 1_400)), 14 + 576));
        // One that waits for its neighbour is kept whole.
        gw.inject(INSIDE, &build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, &[6; 8_972]));
        gw.run();
        assert!(gw.recv(OUTSIDE).unwrap().arp.is_some());
        gw.inject(OUTSIDE, &build::arp_reply(STRANGER.mac, STRANGER.addr, gateway_mac(OUTSIDE), GW_OUTSIDE));
        gw.run();
        gw.advance(1);
        assert_eq!(gw.recv(OUTSIDE).unwrap().payload, [6; 8_972]);
        gw.assert_balance(0);
    });
}
