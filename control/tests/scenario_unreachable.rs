//! What the gateway says of what cannot be delivered: no route, a next hop that does not answer, nobody at its own
//! address. And of what it says nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::packet::flag::{ACK, FIN, RST, SYN};
use dataplane::packet::{build, checksum};
use scenario::*;
use std::net::Ipv4Addr;

/// Where nothing leads if there is no default route.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn without_default_route() -> String {
    let start = LINKS.find("[[route]]").unwrap();
    let end = start + LINKS[start..].find("[[neighbor]]").unwrap();
    [SMALL, SHORT, &LINKS[..start], &LINKS[end..], NAT, ALLOW].concat()
}

fn zone(name: &str, setting: &str) -> String {
    format!("\n[[zone]]\nname = \"{name}\"\n{setting}\n")
}

/// An error of the gateway about a frame as it arrived.
fn assert_error(seen: &Seen, from: Ipv4Addr, to: Host, code: u8, frame: &[u8]) {
    assert_eq!((seen.source.0, seen.destination.0, seen.to_mac), (from, to.addr, to.mac));
    assert_eq!(seen.icmp, Some((3, code, 0)));
    let quoted = seen.payload.len();
    assert!(quoted >= 28.min(frame.len() - 14), "the header and eight bytes");
    assert_eq!(seen.payload, frame[14..14 + quoted], "as it arrived");
}

#[test]
fn there_is_no_route() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &without_default_route());
        let frame = build::udp(&CLIENT.to(NOWHERE), 5000, 53, b"anybody?");
        let seen = gw.pass(INSIDE, &frame, INSIDE);
        assert_error(&seen, GW_INSIDE, CLIENT, 0, &frame);
        assert_eq!((gw.drops(), gw.count(Counter::IcmpErrors)), ([("no-route", 1)].into(), 1));
        assert_eq!(gw.sessions(), []);
        gw.assert_balance(0);

        let silent = [&without_default_route(), &*zone("trust", "unreachables = false")].concat();
        gw.reload(&silent);
        gw.refuse(INSIDE, &frame, DropReason::NoRoute);
        gw.drain();
    });
}

#[test]
fn the_route_of_a_session_is_gone() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let frame = build::udp(&CLIENT.to(REMOTE.addr), 5000, 53, b"still there?");
        gw.pass(INSIDE, &frame, OUTSIDE);
        gw.reroute(&without_default_route());
        let seen = gw.pass(INSIDE, &frame, INSIDE);
        assert_error(&seen, GW_INSIDE, CLIENT, 0, &frame);
        gw.reroute(&standard());
        gw.pass(INSIDE, &frame, OUTSIDE);
        gw.drain();
    });
}

#[test]
fn the_next_hop_does_not_answer() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let udp = build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, &[7; 500]);
        let header = build::Tcp { sport: 6000, dport: 80, flags: SYN, ..Default::default() };
        let tcp = build::tcp(&CLIENT2.to(STRANGER.addr), &header, b"");
        for frame in [&udp, &tcp] {
            gw.inject(INSIDE, frame);
        }
        gw.run();
        // ARP gives up after some seconds, and then each sender hears of its own packet, as it sent it.
        gw.advance(4_000);
        let mut answers: Vec<Seen> = std::iter::from_fn(|| gw.recv(INSIDE)).collect();
        answers.sort_by_key(|seen| seen.destination.0);
        assert_eq!(answers.len(), 2, "{:?}", gw.drops());
        assert_error(&answers[0], GW_INSIDE, CLIENT, 1, &udp);
        assert_error(&answers[1], GW_INSIDE, CLIENT2, 1, &tcp);
        assert_eq!(gw.dropped(DropReason::NeighborUnresolved), 2);
        assert_eq!(gw.count(Counter::IcmpErrors), 2);
        gw.assert_balance(0);
        gw.drain_all();
        assert_eq!(gw.pool.live(), 0);
    });
}

#[test]
fn nobody_hears_of_it_where_the_zone_is_silent_or_the_rate_is_used_up() {
    let limits = "[limits]\nicmp_errors_per_second = 1\n";
    for (text, answers) in [
        ([&standard(), &*zone("trust", "unreachables = false")].concat(), 0),
        ([SMALL, SHORT, limits, LINKS, NAT, ALLOW].concat(), 1),
    ] {
        let mut gw = Gateway::new(scenario::gateway::MODES[0], &text);
        for n in 0..3 {
            gw.inject(INSIDE, &build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, &[n]));
        }
        gw.run();
        gw.advance(4_000);
        assert_eq!(std::iter::from_fn(|| gw.recv(INSIDE)).count(), answers);
        assert_eq!(gw.dropped(DropReason::NeighborUnresolved), 3);
        gw.assert_balance(0);
        gw.drain_all();
    }
}

#[test]
fn an_icmp_error_that_cannot_be_delivered_is_dropped_in_silence() {
    each_mode(|mode| {
        let more = "[[nat]]\ntype = \"destination\"\nfrom = \"untrust\"\ndestination = [\"198.51.100.1\"]\n\
                    service = [\"udp/53\"]\ntranslate = \"10.1.0.2:53\"\n[[rule]]\nfrom = \"untrust\"\nto = \"trust\"\n\
                    action = \"allow\"\n";
        let mut gw = Gateway::new(mode, &[&standard(), more].concat());
        // The caller's neighbour is not known when the error about its packet comes.
        let called = gw.pass(OUTSIDE, &build::udp(&STRANGER.to(GW_OUTSIDE), 5000, 53, b"?"), INSIDE);
        let error = build::icmp_error(&CLIENT.to(STRANGER.addr), 3, 3, 0, &called.frame[14..]);
        gw.inject(INSIDE, &error);
        gw.run();
        gw.advance(4_000);
        assert_eq!(gw.drops(), [("neighbor-unresolved", 1)].into());
        assert_eq!(gw.count(Counter::IcmpErrors), 0);
        gw.drain_all();
    });
}

#[test]
fn nobody_is_at_the_gateways_address() {
    each_mode(|mode| {
        let reject = [&standard(), &*zone("trust", "closed_ports = \"reject\"")].concat();
        let mut gw = Gateway::new(mode, &reject);
        let udp = build::udp(&CLIENT.to(GW_INSIDE), 5000, 161, b"public");
        assert_error(&gw.pass(INSIDE, &udp, INSIDE), GW_INSIDE, CLIENT, 3, &udp);
        let segment = |host: Host, to, flags| {
            let header =
                build::Tcp { sport: 40_000, dport: 22, seq: 77, ack: 99, flags, ..Default::default() };
            build::tcp(&host.to(to), &header, b"")
        };
        for (flags, answer) in [(SYN, (0, 78, RST | ACK)), (FIN | ACK, (99, 0, RST))] {
            let seen = gw.pass(INSIDE, &segment(CLIENT, GW_INSIDE, flags), INSIDE);
            let tcp = seen.tcp();
            assert_eq!((tcp.seq, tcp.ack, tcp.flags), answer);
            assert_eq!((seen.source, seen.destination), ((GW_INSIDE, 22), (CLIENT.addr, 40_000)));
        }
        assert_eq!(gw.drops(), [("local-unsupported", 3)].into());
        // Never in answer to a reset; and the other zone is silent, at ports that source NAT uses in any case.
        gw.refuse(INSIDE, &segment(CLIENT, GW_INSIDE, RST), DropReason::LocalUnsupported);
        gw.refuse(OUTSIDE, &segment(SERVER, GW_OUTSIDE, SYN), DropReason::LocalUnsupported);
        let everywhere = [&*reject, &zone("untrust", "closed_ports = \"reject\"")].concat();
        gw.reload(&everywhere);
        assert_eq!(gw.pass(OUTSIDE, &segment(SERVER, GW_OUTSIDE, SYN), OUTSIDE).tcp().flags, RST | ACK);
        let unsolicited = build::udp(&SERVER.to(GW_OUTSIDE), 5000, 20_000, b"?");
        gw.refuse(OUTSIDE, &unsolicited, DropReason::NatNoSession);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn no_answer_to_what_is_for_everyone_or_from_no_host() {
    each_mode(|mode| {
        let all: String =
            ["trust", "untrust", "dmz"].map(|name| zone(name, "closed_ports = \"reject\"")).concat();
        let mut gw = Gateway::new(mode, &[&without_default_route(), &*all].concat());
        let mut last_hop = CLIENT.to(Ipv4Addr::new(10, 1, 0, 255));
        last_hop.ttl = 1;
        gw.refuse(INSIDE, &build::udp(&last_hop, 5000, 53, b"?"), DropReason::Ipv4DirectedBroadcast);
        let mut in_broadcast = build::udp(&CLIENT.to(NOWHERE), 5000, 53, b"?");
        in_broadcast[..6].fill(0xff);
        gw.refuse(INSIDE, &in_broadcast, DropReason::EthBroadcast);
        let mut later = build::udp(&CLIENT.to(NOWHERE), 5000, 53, b"?");
        later[20..22].copy_from_slice(&[0, 9]);
        assert!(checksum::ipv4_fill(&mut later[14..34]));
        // Alone it is no packet, and nobody is told.
        gw.inject(INSIDE, &later);
        gw.advance(5_000);
        gw.assert_silent();
        assert_eq!(gw.dropped(DropReason::FragmentTimeout), 1);
        let smurf = Host { addr: Ipv4Addr::new(10, 1, 0, 255), ..CLIENT };
        gw.refuse(INSIDE, &build::udp(&smurf.to(NOWHERE), 5000, 53, b"?"), DropReason::Ipv4SourceInvalid);
        let about = build::udp(&CLIENT.to(NOWHERE), 5000, 53, b"?");
        let error = build::icmp_error(&CLIENT2.to(CLIENT.addr), 3, 1, 0, &about[14..]);
        gw.refuse(INSIDE, &error, DropReason::IcmpErrorNoSession);
        assert_eq!((gw.count(Counter::IcmpErrors), gw.count(Counter::Resets)), (0, 0));
        gw.assert_balance(0);
    });
}

#[test]
fn options_pass_as_the_zone_says() {
    each_mode(|mode| {
        let text =
            [&standard(), &*zone("trust", "ip_options = [\"record-route\", \"router-alert\"]")].concat();
        let mut gw = Gateway::new(mode, &text);
        let with = |host: Host, to, options: &[u8], ports: [u16; 2]| {
            let udp = build::udp(&host.to(to), ports[0], ports[1], b"?");
            build::ipv4(&host.to(to), 17, options, &udp[34..])
        };
        for options in [&[7, 7, 4, 0, 0, 0, 0][..], &[148, 4, 0, 0], &[1, 1, 1, 0]] {
            let frame = with(CLIENT, SERVER.addr, options, [5000, 53]);
            let out = gw.pass(INSIDE, &frame, OUTSIDE);
            let length = options.len().next_multiple_of(4);
            assert_eq!(out.frame[34..34 + length], frame[34..34 + length], "they travel on as they are");
            assert_eq!(out.source.0, GW_OUTSIDE);
        }
        let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        gw.refuse(
            INSIDE,
            &with(CLIENT, SERVER.addr, &[68, 8, 5, 0, 0, 0, 0, 0], [5000, 53]),
            DropReason::Ipv4OptionsDenied,
        );
        // The answer comes from a zone that admits none.
        let answer = with(SERVER, GW_OUTSIDE, &[7, 7, 4, 0, 0, 0, 0], [53, out.source.1]);
        gw.refuse(OUTSIDE, &answer, DropReason::Ipv4OptionsDenied);
        gw.assert_balance(0);
        gw.drain();
    });
}

/// Two addresses inside, one in a VLAN beside it, and an interface without any.
fn many_addresses() -> String {
    let links = LINKS
        .replace("[\"10.1.0.1/24\"]", "[\"10.1.0.1/24\", \"10.1.1.1/24\"]")
        .replace("zone = \"dmz\"\naddresses = [\"10.2.0.1/24\"]\nmtu = 1400", "zone = \"dmz\"");
    let links = &links[..links.find("[[neighbor]]\ninterface = \"dmz\"").unwrap()];
    let lab = "[[interface]]\nname = \"lab\"\ndevice = \"ring:0\"\nvlan = 100\nzone = \"trust\"\n\
               addresses = [\"10.100.0.1/24\"]\nmac = \"02:00:00:00:01:00\"\n";
    let links = links.replacen("[[route]]", &format!("{lab}\n[[route]]"), 1);
    let rules = "[[rule]]\nname = \"no\"\nfrom = \"any\"\nto = \"any\"\naction = \"reject\"\n";
    let zones = ["trust", "dmz"].map(|name| zone(name, "closed_ports = \"reject\"")).concat();
    [SMALL, SHORT, &links, rules, &zones].concat()
}

/// In a VLAN.
fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// RFC 1812 §4.3.2.4.
#[test]
fn an_error_comes_from_an_address_of_the_interface_that_it_leaves_by() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &many_addresses());
        let second = Ipv4Addr::new(10, 1, 1, 1);
        let neighbour = Host { addr: Ipv4Addr::new(10, 1, 1, 9), ..CLIENT };
        let far = Host { addr: Ipv4Addr::new(10, 77, 0, 9), ..CLIENT };
        let lab = Host { addr: Ipv4Addr::new(10, 100, 0, 9), ..CLIENT };
        let mut error = |host: Host, to, vlan: Option<u16>| {
            let mut header = host.to(to);
            if to == REMOTE.addr {
                header.ttl = 1;
            }
            let frame = build::udp(&header, 5000, 161, b"?");
            gw.inject(INSIDE, &vlan.map_or_else(|| frame.clone(), |vlan| tagged(&frame, vlan)));
            gw.run();
            let buf = gw.recv_raw(INSIDE).unwrap_or_else(|| panic!("no error: {:?}", gw.drops()));
            let bytes = dataplane::buf::PacketBuf::bytes(&buf).to_vec();
            let seen = match vlan {
                None => Seen::read(INSIDE, &bytes),
                Some(vlan) => {
                    assert_eq!(bytes[12..16], [&[0x81, 0], &vlan.to_be_bytes()[..]].concat());
                    Seen::read(INSIDE, &[&bytes[..12], &bytes[16..]].concat())
                }
            };
            assert_eq!((seen.destination.0, seen.to_mac), (host.addr, host.mac));
            (seen.icmp.map(|(kind, code, _)| (kind, code)).unwrap(), seen.source.0)
        };
        let (time, port) = ((11, 0), (3, 3));
        // In transit: the address next to the sender, or the first.
        assert_eq!(error(CLIENT, REMOTE.addr, None), (time, GW_INSIDE));
        assert_eq!(error(neighbour, REMOTE.addr, None), (time, second));
        assert_eq!(error(far, REMOTE.addr, None), (time, GW_INSIDE));
        assert_eq!(error(lab, REMOTE.addr, Some(100)), (time, Ipv4Addr::new(10, 100, 0, 1)));
        // To the gateway: the address that was called, unless it is of another interface.
        assert_eq!(error(CLIENT, second, None), (port, second));
        assert_eq!(error(neighbour, GW_INSIDE, None), (port, GW_INSIDE));
        assert_eq!(error(neighbour, GW_OUTSIDE, None), (port, second));
        assert_eq!(error(lab, GW_INSIDE, Some(100)), (port, Ipv4Addr::new(10, 100, 0, 1)));
        gw.assert_balance(0);
    });
}

#[test]
fn an_interface_without_addresses_answers_all_the_same() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &many_addresses());
        let host = Host { interface: DMZ, addr: Ipv4Addr::new(10, 2, 0, 2), ..CLIENT };
        // A reset needs no address of ours.
        let header = build::Tcp { sport: 40_000, dport: 80, seq: 77, flags: SYN, ..Default::default() };
        let seen = gw.pass(DMZ, &build::tcp(&host.to(SERVER.addr), &header, b""), DMZ);
        assert_eq!((seen.source, seen.destination), ((SERVER.addr, 80), (host.addr, 40_000)));
        assert_eq!((seen.tcp().flags, seen.tcp().ack, seen.to_mac), (RST | ACK, 78, host.mac));
        // An error comes from the router's (RFC 1812 §4.3.2.4).
        let udp = build::udp(&host.to(SERVER.addr), 5000, 53, b"?");
        assert_error(&gw.pass(DMZ, &udp, DMZ), GW_INSIDE, host, 13, &udp);
        assert_eq!((gw.count(Counter::Resets), gw.count(Counter::IcmpErrors)), (1, 1));
        gw.assert_balance(0);
    });
}

#[test]
fn what_is_never_answered_takes_nothing_from_the_rate() {
    let more =
        format!("{}\n[limits]\nicmp_errors_per_second = 1\n", zone("trust", "closed_ports = \"reject\""));
    let mut gw = Gateway::new(scenario::gateway::MODES[0], &[&standard(), &*more].concat());
    let header = build::Tcp { sport: 40_000, dport: 22, flags: RST, ..Default::default() };
    for _ in 0..20 {
        gw.refuse(INSIDE, &build::tcp(&CLIENT.to(GW_INSIDE), &header, b""), DropReason::LocalUnsupported);
    }
    assert_eq!(gw.count(Counter::IcmpErrorsLimited), 0);
    let udp = build::udp(&CLIENT.to(GW_INSIDE), 5000, 161, b"public");
    assert_error(&gw.pass(INSIDE, &udp, INSIDE), GW_INSIDE, CLIENT, 3, &udp);
    gw.inject(INSIDE, &udp);
    gw.run();
    gw.assert_silent();
    assert_eq!((gw.count(Counter::IcmpErrors), gw.count(Counter::IcmpErrorsLimited)), (1, 1));
}
