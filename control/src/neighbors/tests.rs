use super::*;
use dataplane::key::ZoneId;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const A: [u8; 6] = [2, 0, 0, 0, 0, 0xA];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xB];
const IF: InterfaceId = InterfaceId(0);

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, n)
}

fn interfaces() -> Vec<Interface> {
    vec![Interface {
        name: "inside".into(),
        port: 0,
        vlan: None,
        zone: ZoneId(0),
        mac: OURS,
        mtu: 1500,
        addresses: vec![(Ipv4Addr::new(192, 0, 2, 1), 24), (ip(1), 24)],
    }]
}

fn machine() -> Neighbors {
    let mut n = Neighbors::new(interfaces(), &[(IF, ip(9), [9; 6])]);
    assert_eq!(n.take_changes().map(|t| t.len()), Some(1));
    n
}

fn frame(bytes: &[u8]) -> Frame {
    to_frame(IF, bytes).unwrap()
}

fn ticks(n: &mut Neighbors, at: u32) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    n.tick(Tick(at), &mut |f| out.push(f.bytes.to_vec()));
    out
}

fn mac(n: &Neighbors, host: u8) -> Option<[u8; 6]> {
    let id = n.table().find(IF, ip(host))?;
    n.table().get(id).map(|a| a.mac)
}

#[test]
fn asks_once_learns_and_publishes() {
    let mut n = machine();
    let q = n.needed(Tick(0), IF, ip(2)).unwrap();
    assert_eq!(q.bytes.as_slice(), build::arp_request(OURS, ip(1), ip(2)));
    assert!(n.needed(Tick(10), IF, ip(2)).is_none());
    assert!(n.take_changes().is_none());
    assert!(n.frame(Tick(20), &frame(&build::arp_reply(A, ip(2), OURS, ip(1)))).is_none());
    let table = n.take_changes().unwrap();
    let id = table.find(IF, ip(2)).unwrap();
    assert_eq!(table.get(id).unwrap().mac, A);
    assert!(n.take_changes().is_none());
    // The same again is no change; another MAC is, under the same number.
    assert!(n.frame(Tick(30), &frame(&build::arp_reply(A, ip(2), OURS, ip(1)))).is_none());
    assert!(n.take_changes().is_none());
    assert!(n.frame(Tick(40), &frame(&build::arp_request(B, ip(2), ip(2)))).is_none());
    let table = n.take_changes().unwrap();
    assert_eq!(table.get(id).unwrap().mac, B);
    assert_eq!((n.counters().learnt, n.counters().moved), (1, 1));
}

#[test]
fn three_tries_then_a_pause() {
    let mut n = machine();
    assert!(n.needed(Tick(0), IF, ip(2)).is_some());
    assert!(ticks(&mut n, 999).is_empty());
    assert_eq!(ticks(&mut n, 1000), [build::arp_request(OURS, ip(1), ip(2))]);
    assert_eq!(ticks(&mut n, 2000).len(), 1);
    assert!(ticks(&mut n, 3000).is_empty());
    assert_eq!(n.counters().failed, 1);
    assert!(n.needed(Tick(7999), IF, ip(2)).is_none());
    assert!(n.needed(Tick(8000), IF, ip(2)).is_some());
    // A late answer is an answer.
    for at in [9000, 10_000, 11_000] {
        ticks(&mut n, at);
    }
    assert!(n.frame(Tick(11_001), &frame(&build::arp_reply(A, ip(2), OURS, ip(1)))).is_none());
    assert_eq!(mac(&n, 2), Some(A));
    // One that nobody asks for is forgotten.
    assert!(n.needed(Tick(0), IF, ip(3)).is_some());
    for at in [1000, 2000, 3000, 8000] {
        ticks(&mut n, at);
    }
    assert_eq!((n.entries.len(), n.unresolved), (1, 0));
}

#[test]
fn old_neighbours_are_probed_by_unicast_and_forgotten() {
    let mut n = machine();
    assert!(n.frame(Tick(0), &frame(&build::arp_request(A, ip(2), ip(1)))).is_some());
    assert!(n.take_changes().is_some());
    assert!(ticks(&mut n, 29_999).is_empty());
    assert_eq!(ticks(&mut n, 30_000), [build::arp_probe(OURS, ip(1), A, ip(2))]);
    assert_eq!(mac(&n, 2), Some(A));
    assert!(n.frame(Tick(30_500), &frame(&build::arp_reply(A, ip(2), OURS, ip(1)))).is_none());
    assert!(n.take_changes().is_none());
    assert!(ticks(&mut n, 60_000).is_empty());
    for at in [60_500, 61_500, 62_500] {
        assert_eq!(ticks(&mut n, at).len(), 1);
        assert_eq!(mac(&n, 2), Some(A));
    }
    assert!(ticks(&mut n, 63_500).is_empty());
    assert_eq!(mac(&n, 2), None);
    assert!(n.take_changes().is_some());
    assert_eq!(n.table().topology(), 1);
}

#[test]
fn answers_requests_for_our_addresses_only() {
    let mut n = machine();
    let reply = n.frame(Tick(0), &frame(&build::arp_request(A, ip(2), ip(1)))).unwrap();
    assert_eq!(reply.bytes.as_slice(), build::arp_reply(OURS, ip(1), A, ip(2)));
    assert_eq!(mac(&n, 2), Some(A));
    assert!(n.frame(Tick(0), &frame(&build::arp_request(B, ip(3), ip(4)))).is_none());
    assert_eq!(mac(&n, 3), None);
    // A probe is answered, and teaches nothing.
    let none = Ipv4Addr::UNSPECIFIED;
    let reply = n.frame(Tick(0), &frame(&build::arp_request(B, none, ip(1)))).unwrap();
    assert_eq!(reply.bytes.as_slice(), build::arp_reply(OURS, ip(1), B, none));
    assert_eq!((n.entries.len(), n.counters().replies), (1, 2));
}

#[test]
fn refuses_what_is_not_a_neighbour() {
    let mut n = machine();
    let off = Ipv4Addr::new(10, 2, 0, 2);
    for (mac, sender) in [
        ([0; 6], ip(2)),
        ([1, 0, 0x5E, 0, 0, 1], ip(2)),
        ([0xFF; 6], ip(2)),
        (A, off),
        (A, ip(0)),
        (A, ip(255)),
        (A, Ipv4Addr::new(224, 0, 0, 1)),
    ] {
        assert!(n.frame(Tick(0), &frame(&build::arp_request(mac, sender, ip(1)))).is_none(), "{sender}");
        assert!(n.frame(Tick(0), &frame(&build::arp_reply(mac, sender, OURS, ip(1)))).is_none());
    }
    // What nobody asked for teaches nothing.
    assert!(n.frame(Tick(0), &frame(&build::arp_reply(A, ip(2), OURS, ip(1)))).is_none());
    let good = build::arp_request(A, ip(2), ip(1));
    assert!(n.frame(Tick(0), &frame(&good[..41])).is_none());
    let elsewhere = Frame { interface: InterfaceId(5), ..frame(&good) };
    assert!(n.frame(Tick(0), &elsewhere).is_none());
    assert!(n.entries.is_empty() && n.take_changes().is_none());
    assert_eq!(n.counters().refused, 15);
    for host in [ip(1), ip(9), Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED] {
        assert!(n.needed(Tick(0), IF, host).is_none());
    }
    assert!(n.needed(Tick(0), InterfaceId(5), ip(2)).is_none());
}

#[test]
fn pinned_neighbours_stay() {
    let mut n = machine();
    assert!(n.frame(Tick(0), &frame(&build::arp_request(A, ip(9), ip(1)))).is_some());
    assert_eq!(mac(&n, 9), Some([9; 6]));
    assert!(n.entries.is_empty() && n.take_changes().is_none());
}

#[test]
fn conflicts_are_counted_and_defended_now_and_then() {
    let mut n = machine();
    let claim = frame(&build::arp_request(A, ip(1), ip(1)));
    let defence = n.frame(Tick(0), &claim).unwrap();
    assert_eq!(defence.bytes.as_slice(), build::arp_request(OURS, ip(1), ip(1)));
    assert!(n.frame(Tick(9_999), &claim).is_none());
    assert!(n.frame(Tick(10_000), &claim).is_some());
    // Our own announcement that comes back is no conflict.
    assert!(n.frame(Tick(10_001), &defence).is_none());
    assert_eq!(n.counters().conflicts, 3);
    assert!(n.entries.is_empty());
}

#[test]
fn scans_fill_half_of_the_table() {
    let mut big = interfaces();
    big[0].addresses = vec![(Ipv4Addr::new(10, 0, 0, 1), 8)];
    let mut n = Neighbors::new(big, &[]);
    let host = |i: u32| Ipv4Addr::from_bits(0x0A01_0000 + i);
    let asked = (1..=CAPACITY as u32).filter(|i| n.needed(Tick(0), IF, host(*i)).is_some()).count();
    assert_eq!((asked, n.counters().full as usize), (CAPACITY / 2, CAPACITY / 2));
    let us = Ipv4Addr::new(10, 0, 0, 1);
    for i in 10_000..10_000 + CAPACITY as u32 {
        let _ = n.frame(Tick(0), &frame(&build::arp_request(A, host(i), us)));
    }
    assert_eq!((n.entries.len(), n.table().len()), (CAPACITY, CAPACITY / 2));
    for at in [1000, 2000, 3000, 8000] {
        ticks(&mut n, at);
    }
    assert_eq!((n.entries.len(), n.unresolved), (CAPACITY / 2, 0));
}

#[test]
fn reload_keeps_what_still_holds() {
    let mut n = machine();
    assert!(n.frame(Tick(0), &frame(&build::arp_request(A, ip(2), ip(1)))).is_some());
    assert!(n.take_changes().is_some());
    n.reload(interfaces(), &[(IF, ip(8), [8; 6])]);
    assert_eq!((mac(&n, 2), mac(&n, 8), mac(&n, 9)), (Some(A), Some([8; 6]), None));
    assert_eq!(n.take_changes().map(|t| t.topology()), Some(2));
    let mut other = interfaces();
    other[0].mtu = 9000;
    n.reload(other, &[]);
    assert!(n.table().is_empty() && n.entries.is_empty());
    assert_eq!(n.table().topology(), 3);
}

#[test]
fn announces_every_address() {
    let mut out = Vec::new();
    machine().announce(&mut |f| out.push(f.bytes.to_vec()));
    let second = build::arp_request(OURS, ip(1), ip(1));
    assert_eq!(out.len(), 2);
    assert_eq!(out[1], second);
}

#[test]
fn answers_for_addresses_of_translation() {
    let mut n = machine();
    let ask = |target: u8| frame(&build::arp_request(A, ip(7), ip(target)));
    assert!(n.frame(Tick(0), &ask(10)).is_none());
    n.proxy(&[(IF, ip(10))]);
    let reply = n.frame(Tick(0), &ask(10)).unwrap();
    assert_eq!(reply.bytes.as_slice(), build::arp_reply(OURS, ip(10), A, ip(7)).as_slice());
    assert_eq!(mac(&n, 7), Some(A), "who asks wants to talk");
    assert!(n.needed(Tick(0), IF, ip(10)).is_none(), "nobody is asked for our own");
    let mut announced = Vec::new();
    n.announce(&mut |f| announced.push(f.bytes.to_vec()));
    assert_eq!(announced.len(), 3);
    assert_eq!(announced[2], build::arp_request(OURS, ip(10), ip(10)).to_vec());
    // Somebody else has it: it is defended.
    assert!(n.frame(Tick(0), &frame(&build::arp_request(B, ip(10), ip(1)))).is_some());
    assert_eq!(n.counters().conflicts, 1);
    n.proxy(&[]);
    assert!(n.frame(Tick(0), &ask(10)).is_none());
}
