//! Each reason for which a packet is dropped, produced on the whole path. The last test knows where, and fails if there is
//! one that no test produces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use control::compile::compile_interfaces;
use control::config::Config;
use dataplane::buf::{BufPool, PacketBuf};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::handoff::RING;
use dataplane::packet::flag::{ACK, FIN, RST, SYN};
use dataplane::packet::{build, checksum};
use dataplane::stage::datagram::MAX_DATAGRAM;
use dataplane::table::{Direction, Entry};
use dataplane::view::CloseReason;
use scenario::fragments::{identified, join, split};
use scenario::gateway::MODES;
use scenario::kept::Kept;
use scenario::sip::{Carrier, Line, WAYS, sip_text};
use scenario::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

type Drops = BTreeSet<&'static str>;

fn reasons<R: control::audit::Records>(gw: &Gateway<R>) -> Drops {
    gw.drops().into_keys().collect()
}

/// The frame with bytes of its IP header changed and the header's checksum made right again.
fn header(mut frame: Vec<u8>, change: impl Fn(&mut [u8])) -> Vec<u8> {
    change(&mut frame[14..34]);
    assert!(checksum::ipv4_fill(&mut frame[14..34]));
    frame
}

/// Malformed and unwelcome frames.
fn malformed() -> Vec<(Vec<u8>, DropReason)> {
    use DropReason::*;
    let ends = CLIENT.to(SERVER.addr);
    let udp = || build::udp(&ends, 5000, 53, b"payload");
    let tcp = |flags| build::tcp(&ends, &build::Tcp { flags, ..Default::default() }, b"");
    let ping = || build::echo_request(&ends, 1, 1, b"x");
    let from = |addr| build::udp(&Host { addr, ..CLIENT }.to(SERVER.addr), 5000, 53, b"");
    let to = |addr| build::udp(&CLIENT.to(addr), 5000, 53, b"");
    let with = |mut frame: Vec<u8>, at: usize, bytes: &[u8]| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let ip = |protocol, payload: &[u8]| build::ipv4(&ends, protocol, &[], payload);
    vec![
        (vec![0; 13], EthTruncated),
        (with(udp(), 5, &[9]), EthNotForUs),
        (with(udp(), 12, &[0x86, 0xdd]), EthTypeUnsupported),
        (with(udp(), 0, &[0xff; 6]), EthBroadcast),
        (with(udp(), 0, &[1, 0, 0x5e, 0, 0, 5]), EthMulticast),
        (with(build::arp_request(CLIENT.mac, CLIENT.addr, GW_INSIDE), 14, &[0, 6]), ArpInvalid),
        (build::arp_request(CLIENT.mac, CLIENT.addr, GW_INSIDE)[..41].to_vec(), ArpInvalid),
        (udp()[..33].to_vec(), Ipv4Truncated),
        (with(udp(), 14, &[0x65]), Ipv4Version),
        (with(udp(), 14, &[0x44]), Ipv4HeaderLength),
        (header(udp(), |h| h[2..4].copy_from_slice(&1000_u16.to_be_bytes())), Ipv4TotalLength),
        (header(udp(), |h| h[2..4].copy_from_slice(&19_u16.to_be_bytes())), Ipv4TotalLength),
        (with(udp(), 24, &[0xde, 0xad]), Ipv4Checksum),
        (build::ipv4(&ends, 17, &[7, 2], b""), Ipv4Options),
        (build::ipv4(&ends, 17, &[131, 3, 4], b""), Ipv4SourceRoute),
        (build::ipv4(&ends, 17, &[137, 3, 4], b""), Ipv4SourceRoute),
        (build::ipv4(&ends, 17, &[148, 4, 0, 0], &udp()[34..]), Ipv4OptionsDenied),
        (header(udp(), |h| h[6..8].copy_from_slice(&[0x20, 0])), FragmentMalformed),
        (header(udp(), |h| h[6..8].copy_from_slice(&[0x1f, 0xff])), FragmentTooLong),
        (header(ip(6, &[0; 16]), |h| h[6..8].copy_from_slice(&[0x20, 0])), FragmentTiny),
        (header(ip(6, &[0; 16]), |h| h[6..8].copy_from_slice(&[0, 1])), FragmentTiny),
        (from(Ipv4Addr::LOCALHOST), Ipv4Loopback),
        (to(Ipv4Addr::LOCALHOST), Ipv4Loopback),
        (to(Ipv4Addr::new(0, 1, 2, 3)), Ipv4ThisNetwork),
        (to(Ipv4Addr::new(240, 0, 0, 1)), Ipv4Reserved),
        (from(Ipv4Addr::new(10, 1, 0, 255)), Ipv4SourceInvalid),
        (from(GW_OUTSIDE), Ipv4SourceOurs),
        (to(Ipv4Addr::new(224, 0, 0, 5)), Ipv4Multicast),
        (to(Ipv4Addr::BROADCAST), Ipv4Broadcast),
        (to(Ipv4Addr::new(10, 1, 0, 255)), Ipv4DirectedBroadcast),
        (to(Ipv4Addr::new(198, 51, 100, 0)), Ipv4DirectedBroadcast),
        (ip(47, b"GRE"), ProtocolUnsupported),
        (ip(6, &[0; 19]), TcpTruncated),
        (with(tcp(SYN), 46, &[0x40]), TcpHeaderLength),
        (with(tcp(SYN), 46, &[0xf0]), TcpHeaderLength),
        (tcp(0), TcpFlags),
        (tcp(SYN | FIN), TcpFlags),
        (tcp(SYN | RST), TcpFlags),
        (tcp(FIN), TcpFlags),
        (with(tcp(SYN), 34, &[0, 0]), TcpPortZero),
        (ip(17, &[0; 7]), UdpTruncated),
        (with(udp(), 38, &[0, 7]), UdpLength),
        (with(udp(), 38, &[1, 0]), UdpLength),
        (with(udp(), 36, &[0, 0]), UdpPortZero),
        (ip(1, &[8, 0, 0]), IcmpTruncated),
        (with(ping(), 36, &[0xde, 0xad]), IcmpChecksum),
        (ip(1, &[13, 0, 0, 0, 0, 0, 0, 0]), IcmpTypeUnsupported),
        (build::udp(&CLIENT.to(GW_INSIDE), 5000, 53, b""), LocalUnsupported),
        (tcp(ACK), TcpNoSession),
        (build::echo_reply(&ends, 1, 1, b"x"), IcmpNoSession),
    ]
}

fn each_malformed(mode: Mode) -> Drops {
    let mut gw = Gateway::new(mode, &standard());
    for (n, (frame, reason)) in malformed().into_iter().enumerate() {
        println!("{n}: {}", reason.name());
        gw.refuse(INSIDE, &frame, reason);
    }
    gw.assert_balance(0);
    gw.drain();
    reasons(&gw)
}

#[test]
fn malformed_and_unwelcome() {
    each_mode(|mode| {
        each_malformed(mode);
    });
}

fn sized(change: &[(&str, u32)]) -> String {
    let mut text = SMALL.to_owned();
    for (key, value) in change {
        let line = text.lines().find(|l| l.starts_with(key)).unwrap().to_owned();
        text = text.replace(&line, &format!("{key} = {value}"));
    }
    [&text, SHORT, LINKS, NAT, ALLOW].concat()
}

fn session_table_full(mode: Mode) -> Drops {
    let mut gw = Gateway::new(mode, &sized(&[("sessions", 64), ("alg_sessions", 8)]));
    let records = u64::from(gw.shared.arena.records());
    assert!(records >= 64);
    let mut opened = 0;
    // One endpoint, so one worker: it gets at least what was configured, whatever the others hoard.
    while gw.dropped(DropReason::SessionTableFull) == 0 {
        gw.inject(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 1_000 + opened, b"?"));
        gw.run();
        opened += u16::from(gw.recv(OUTSIDE).is_some());
    }
    assert!(opened >= 64 && u64::from(opened) <= records, "{opened}");
    gw.assert_silent();
    gw.assert_balance(0);
    let drops = reasons(&gw);
    gw.drain();
    gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
    drops
}

#[test]
fn the_session_table_is_full() {
    each_mode(|mode| {
        session_table_full(mode);
    });
}

fn bindings_full(mode: Mode) -> Drops {
    let mut gw = Gateway::new(mode, &sized(&[("bindings", 4)]));
    let mut opened = 0;
    for sport in 2_000..2_040 {
        gw.inject(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), sport, 53, b"?"));
        gw.run();
        opened += usize::from(gw.recv(OUTSIDE).is_some());
    }
    assert_eq!(opened, 4 * mode.workers, "each worker has its share");
    assert_eq!(gw.dropped(DropReason::NatBindingsFull), 40 - opened as u64);
    let drops = reasons(&gw);
    assert_eq!(drops.len(), 1, "{drops:?}");
    gw.assert_balance(0);
    gw.drain();
    drops
}

#[test]
fn the_table_of_bindings_is_full() {
    each_mode(|mode| {
        bindings_full(mode);
    });
}

fn ports_exhausted() -> Drops {
    let sizes = [("sessions", 70_000), ("bindings", 70_000)];
    let mut gw = Gateway::new(MODES[0], &sized(&sizes));
    let mut frames = [CLIENT, CLIENT2].map(|c| build::udp(&c.to(SERVER.addr), 5000, 53, b"?"));
    let mut opened = 0_u32;
    for frame in &mut frames {
        for sport in 1..=40_000_u16 {
            frame[34..36].copy_from_slice(&sport.to_be_bytes());
            frame[40..42].fill(0);
            gw.inject(INSIDE, frame);
            if sport % 1_000 == 0 {
                gw.run();
                opened += std::iter::from_fn(|| gw.recv_raw(OUTSIDE)).count() as u32;
            }
        }
    }
    assert_eq!(opened, 65_536 - 1_024, "every port but the privileged ones");
    assert_eq!(gw.dropped(DropReason::NatPortsExhausted), 80_000 - u64::from(opened));
    assert_eq!(gw.ports_in_use(), opened);
    gw.assert_balance(0);
    let drops = reasons(&gw);
    // Ports come back 64 a millisecond at most.
    gw.advance_by(20_000, 500);
    gw.advance_by(2_000, 1);
    gw.assert_empty();
    drops
}

#[test]
fn every_translated_port_is_taken() {
    ports_exhausted();
}

fn alg_table_full(mode: Mode) -> Drops {
    let mut gw = Gateway::new(mode, &sized(&[("alg_sessions", 1)]));
    for sport in 40_000..40_008 {
        let pair = Pair::new((CLIENT, sport), (SERVER.addr, 21), (SERVER, 21));
        gw.inject(INSIDE, &pair.frame(Side::Initiator, SYN, b""));
    }
    gw.run();
    let opened = std::iter::from_fn(|| gw.recv(OUTSIDE)).count();
    assert_eq!(opened, mode.workers);
    assert_eq!(gw.dropped(DropReason::AlgTableFull), 8 - opened as u64);
    assert_eq!(gw.ports_held(), (opened, 0), "what was refused holds no port, nor lets one rest");
    gw.assert_balance(0);
    gw.drain();
    reasons(&gw)
}

#[test]
fn the_table_of_alg_states_is_full() {
    each_mode(|mode| {
        alg_table_full(mode);
    });
}

/// The two workers of a gateway, polled apart.
fn handoff_full() -> Drops {
    let mut gw = Gateway::new(MODES[2], &standard());
    let total = RING + 100;
    for _ in 0..total {
        gw.inject(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"));
    }
    let owner = usize::from(gw.shared.home.of_endpoint(CLIENT.addr.into(), 5000).0);
    let now = gw.now;
    while gw.workers[1 - owner].poll(now) > 0 {}
    assert_eq!(gw.dropped(DropReason::HandoffFull), 100);
    assert_eq!(gw.count(Counter::HandedOff), RING as u64);
    gw.run();
    assert_eq!(std::iter::from_fn(|| gw.recv_raw(OUTSIDE)).count(), RING);
    gw.assert_balance(0);
    gw.drain();
    reasons(&gw)
}

#[test]
fn the_ring_between_workers_is_full() {
    handoff_full();
}

fn shut_down() -> Drops {
    let mut gw = Gateway::new(MODES[2], &standard());
    let owner = usize::from(gw.shared.home.of_endpoint(CLIENT.addr.into(), 5000).0);
    for _ in 0..5 {
        gw.inject(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"));
    }
    let now = gw.now;
    while gw.workers[1 - owner].poll(now) > 0 {}
    gw.workers.remove(owner).shut_down();
    assert_eq!(gw.drops(), [("shutdown", 5)].into());
    gw.assert_balance(0);
    assert_eq!(gw.pool.live(), 0);
    let drops = reasons(&gw);

    // So is what waits for its neighbour.
    let mut gw = Gateway::new(MODES[0], &standard());
    gw.inject(INSIDE, &build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, b"?"));
    gw.run();
    gw.workers.remove(0).shut_down();
    assert_eq!(gw.drops(), [("shutdown", 1)].into());
    gw.assert_balance(0);
    drops
}

#[test]
fn packets_in_flight_when_a_worker_ends() {
    shut_down();
}

fn pool_empty(mode: Mode) -> Drops {
    let sizes = Sizes { pool: 16, ..Sizes::default() };
    let mut gw = Gateway::with(mode, &standard(), sizes, Kept::default());
    gw.inject(INSIDE, &build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, b"?"));
    let now = gw.now;
    for _ in 0..2 {
        for worker in &mut gw.workers {
            worker.poll(now);
        }
    }
    // The packet waits for its neighbour in a copy; the request for it finds no buffer.
    let hold: Vec<_> = std::iter::from_fn(|| gw.pool.alloc()).collect();
    assert_eq!(hold.len(), 16);
    gw.run();
    assert_eq!(gw.drops(), [("pool-empty", 1)].into());
    gw.assert_silent();
    drop(hold);
    gw.advance(1_500);
    assert!(gw.recv(OUTSIDE).unwrap().arp.is_some(), "asked again");
    gw.drain_all();
    reasons(&gw)
}

#[test]
fn no_buffer_for_a_packet_of_our_own() {
    each_mode(|mode| {
        pool_empty(mode);
    });
}

fn tx_full(mode: Mode) -> Drops {
    let sizes = Sizes { depth: 2, ..Sizes::default() };
    let mut gw = Gateway::with(mode, &standard(), sizes, Kept::default());
    let frame = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?");
    for _ in 0..3 {
        gw.inject(INSIDE, &frame);
        gw.run();
    }
    assert_eq!(gw.drops(), [("tx-full", 1)].into());
    assert_eq!((gw.count(Counter::TxPackets), gw.count(Counter::TxBytes)), (2, 2 * 43));
    assert_eq!(gw.pool.live(), 2, "what was refused is free");
    while gw.recv(OUTSIDE).is_some() {}
    gw.assert_balance(0);
    gw.drain();
    reasons(&gw)
}

#[test]
fn a_port_takes_no_more() {
    each_mode(|mode| {
        tx_full(mode);
    });
}

fn tx_no_port(mode: Mode) -> Drops {
    // An interface that the workers have no port for. The daemon refuses such a reload.
    let more = "
[[interface]]
name = \"late\"
device = \"ring:9\"
zone = \"late\"
addresses = [\"10.9.0.1/24\"]
[[neighbor]]
interface = \"late\"
address = \"10.9.0.2\"
mac = \"02:00:00:09:00:02\"
[[rule]]
from = \"trust\"
to = \"late\"
action = \"allow\"
";
    let mut gw = Gateway::new(mode, &standard());
    let text = [&standard(), more].concat();
    let config = Config::parse("late.toml", &text).unwrap();
    gw.core.publish_network(&compile_interfaces(&config, &[]));
    gw.reload(&text);
    gw.refuse(
        INSIDE,
        &build::udp(&CLIENT.to(Ipv4Addr::new(10, 9, 0, 2)), 5000, 53, b"?"),
        DropReason::TxNoPort,
    );
    gw.drain();
    reasons(&gw)
}

#[test]
fn an_interface_without_a_port() {
    each_mode(|mode| {
        tx_no_port(mode);
    });
}

/// The parent is freed while its expectation still stands: control looks at expectations ten times a second.
fn expectation_gone(mode: Mode) -> Drops {
    let mut gw = Gateway::new(mode, &standard());
    let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
    ftp.say(&mut gw, Side::Initiator, "PORT 10,1,0,2,195,81\r\n");
    ftp.say(&mut gw, Side::Responder, "200 PORT command successful.\r\n");
    let published = gw.expectations()[0].published.port;
    ftp.reset(&mut gw, Side::Initiator);
    while !gw.sessions().is_empty() {
        gw.advance_by(50, 50);
    }
    let child = Pair::new((SERVER, 20), (GW_OUTSIDE, published), (CLIENT, 50_001));
    let syn = child.frame(Side::Initiator, SYN, b"");
    gw.refuse(OUTSIDE, &syn, DropReason::ExpectationGone);
    gw.assert_balance(0);
    gw.drain();
    reasons(&gw)
}

#[test]
fn an_expectation_without_its_parent() {
    each_mode(|mode| {
        expectation_gone(mode);
    });
}

/// A SIP message that is as long as may be read, and longer when its addresses are the gateway's.
fn alg_no_room(mode: Mode) -> Drops {
    let profile = "[[alg]]\nname = \"sip\"\nprotocol = \"sip\"\nlongest_message = 65535\nmax_dialogs = 1\n";
    let mut gw = Gateway::new(mode, &[&sip_text(), profile].concat());
    let mut line = Line::new(&mut gw, WAYS[0], Carrier::Udp);
    let mut invite = |call: &str, length: usize| {
        let bare = line.caller.sdp();
        let padded = |more: usize| {
            let lines = vec![format!("a=x-padding:{}", "p".repeat(100)); more / 114];
            let last = format!("a=y:{}", "p".repeat(more % 114));
            [bare.as_str(), &lines.join("\r\n"), "\r\n", &last, "\r\n"].concat()
        };
        let mut request = |body: &str| line.caller.request("INVITE", "sip:bob@198.51.100.2", call, &[], body);
        // The length of the body is five digits in both.
        let room = length - request(&padded(60_000)).len();
        let text = request(&padded(60_000 + room));
        assert_eq!(text.len(), length);
        identified(line.frame(Side::Initiator, &text), 7)
    };
    let feed = |gw: &mut Gateway, frame: &[u8]| {
        for piece in split(frame, 1_480) {
            gw.inject(INSIDE, &piece);
        }
        gw.run();
    };
    feed(&mut gw, &invite("long", MAX_DATAGRAM));
    gw.assert_silent();
    assert_eq!(gw.drops(), [("alg-no-room", 1)].into());
    assert_eq!(gw.count(Counter::AlgDenied), 1);
    assert_eq!(gw.expectations(), [], "what it would have opened is not");
    assert_eq!(gw.ports_held(), (1, 0), "nor are ports kept for it: only the session's own");
    let drops = reasons(&gw);
    // With as much room as addresses and ports may grow, the same message leaves: of the call before nothing is remembered, or this
    // one would be one too many.
    feed(&mut gw, &invite("fits", MAX_DATAGRAM - 100));
    let left: Vec<_> = std::iter::from_fn(|| gw.recv_raw(OUTSIDE)).map(|b| b.bytes().to_vec()).collect();
    let seen = Seen::read(OUTSIDE, &join(&left, 1_500));
    assert!((MAX_DATAGRAM - 99..=MAX_DATAGRAM).contains(&seen.payload.len()), "{}", seen.payload.len());
    assert_eq!(gw.drops(), [("alg-no-room", 1)].into());
    gw.assert_balance(0);
    gw.drain();
    drops
}

#[test]
fn a_message_that_grows_beyond_a_datagram() {
    each_mode(|mode| {
        alg_no_room(mode);
    });
}

/// What a worker meets that finds the entry of a record which its owner closes at that moment. The owner takes entries away
/// before it closes, so that only two threads can meet so; here they stay for as long as it takes.
fn session_closed(mode: Mode) -> Drops {
    let mut gw = Gateway::new(mode, &standard());
    let frame = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?");
    let seen = gw.pass(INSIDE, &frame, OUTSIDE);
    let answer = build::udp(&SERVER.to(GW_OUTSIDE), 53, seen.source.1, b"!");
    gw.pass(OUTSIDE, &answer, INSIDE);
    let (view, shared) = (gw.session(), gw.shared.clone());
    shared.arena.resolve(view.id).unwrap().close(CloseReason::Admin);
    gw.refuse(INSIDE, &frame, DropReason::SessionClosed);
    gw.refuse(OUTSIDE, &answer, DropReason::SessionClosed);
    assert_eq!(gw.count(Counter::SessionsOpened), 1, "the tuple is not opened twice");
    let drops = reasons(&gw);
    for (direction, key) in [(Direction::Forward, view.forward), (Direction::Reverse, view.reverse)] {
        let entry = Entry { index: view.id.index, direction, version: view.id.version as u16 };
        assert!(shared.table.remove(shared.table.hash(&key), entry));
    }
    shared.arena.mark(view.id.index);
    gw.run();
    // As soon as it is gone the tuple opens again.
    gw.pass(INSIDE, &frame, OUTSIDE);
    gw.assert_balance(0);
    gw.drain();
    drops
}

#[test]
fn a_session_that_is_being_closed() {
    each_mode(|mode| {
        session_closed(mode);
    });
}

/// Reasons that other scenarios produce, each with its test.
const ELSEWHERE: &[(&str, &str)] = &[
    ("udp-checksum", "scenario_tftp::a_wrong_checksum_is_not_laundered"),
    ("alg-host-share", "scenario_shares::a_host_that_opens_many_sessions_leaves_places_to_others"),
    ("expectation-limit-flow", "scenario_limits::a_flood_of_data_ports_is_refused_and_the_session_lives"),
    (
        "expectation-limit-host",
        "scenario_limits::a_flood_of_calls_that_lead_to_one_phone_is_answered_with_503",
    ),
    ("expectation-limit-alg", "scenario_limits::a_flood_from_many_hosts_reaches_what_all_sessions_may_have"),
    (
        "expectation-limit-second",
        "scenario_limits::a_burst_of_transfers_reaches_what_may_be_opened_in_a_second",
    ),
    ("expectation-untranslated", "scenario_modes_alg::inspect_refuses_the_pinhole_that_nat_hides"),
    ("ttl-exceeded", "scenario_gateway::time_runs_out"),
    ("fragmentation-needed", "scenario_gateway::fragmentation_needed"),
    ("neighbor-pending", "scenario_gateway::packets_wait_for_their_neighbour"),
    ("no-route", "scenario_unreachable::there_is_no_route"),
    ("neighbor-unresolved", "scenario_gateway::a_neighbour_that_does_not_answer"),
    ("packet-rule-nat", "scenario_mode::what_nat_would_translate_does_not_leave_untranslated"),
    ("policy-deny", "scenario_flows::rules_in_their_order_and_default_deny"),
    ("tcp-state-invalid", "scenario_flows::what_no_tcp_session_admits"),
    ("tuple-conflict", "scenario_flows::a_taken_reverse_tuple_is_a_conflict"),
    ("nat-no-session", "scenario_flows::unsolicited_packets_from_outside"),
    ("vlan-unknown", "scenario_links::frames_that_no_interface_takes"),
    ("vlan-missing", "scenario_links::frames_that_no_interface_takes"),
    ("vlan-stacked", "scenario_links::frames_that_no_interface_takes"),
    ("icmp-source-quench", "scenario_icmp_errors::what_is_wrong_or_about_nothing"),
    ("icmp-error-truncated", "scenario_icmp_errors::what_is_wrong_or_about_nothing"),
    ("icmp-error-quote", "scenario_icmp_errors::what_is_wrong_or_about_nothing"),
    ("icmp-error-addressee", "scenario_icmp_errors::what_is_wrong_or_about_nothing"),
    ("icmp-error-sequence", "scenario_path_mtu::a_forged_error_changes_nothing_and_goes_no_further"),
    ("icmp-error-no-session", "scenario_icmp_errors::what_is_wrong_or_about_nothing"),
    ("fragment-overlap", "scenario_fragments::overlaps_spoil_the_datagram"),
    ("fragment-duplicate", "scenario_fragments::in_any_order_and_repeated"),
    ("fragment-too-many", "scenario_fragments::more_fragments_than_a_datagram_may_have"),
    ("fragment-ecn", "scenario_fragments::congestion_is_kept_and_contradictions_are_not"),
    ("fragment-timeout", "scenario_fragments::one_that_never_comes"),
    ("fragment-source-limit", "scenario_fragments::a_flood_of_beginnings_stops_nobody"),
    ("fragment-table-full", "scenario_fragments::a_flood_of_beginnings_stops_nobody"),
    ("tcp-checksum", "scenario_ftp::a_wrong_checksum_is_not_laundered"),
    ("alg-denied", "scenario_ftp::refused_messages_reset_both_ends"),
    (
        "stream-ack-invalid",
        "scenario_stream::an_acknowledgement_of_held_bytes_by_their_receiver_is_not_believed",
    ),
    ("stream-timestamp-old", "scenario_stream::a_segment_from_before_is_not_read"),
    ("stream-reset-inexact", "scenario_ftp::a_reset_that_does_not_pass_closes_nothing"),
    ("stream-syn-strange", "scenario_half_open::a_client_that_dials_again_ends_what_was_read_of_it"),
    ("stream-unplaced", "scenario_stream::nothing_is_read_before_its_senders_syn"),
    // Heap buffers are linear; DPDK rings chain mbufs.
    ("not-linear", "dataplane/tests/dpdk_scenario_ring::no_mbuf_is_lost"),
    ("aggregate-invalid", "dpdk_offloads::devices_do_what_they_are_asked_and_the_gateway_the_rest"),
    ("segments-no-buffer", "dpdk_offloads::devices_do_what_they_are_asked_and_the_gateway_the_rest"),
    // Only a NIC looks at checksums.
    ("nic-checksum", "dataplane/tests/nic_checksums::broken_packets_are_counted"),
];

/// The source of the tests of a crate, by its file.
fn source(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = match file.split_once('/') {
        Some((krate, file)) => root.join("..").join(krate).join(file),
        None => root.join("tests").join(file),
    };
    let path = path.with_extension("rs");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A test that another file names is there, is a test, and its file has the reason in it.
#[test]
fn tests_elsewhere_exist() {
    for (name, place) in ELSEWHERE {
        let reason = DropReason::ALL.iter().find(|r| r.name() == *name);
        let reason = reason.unwrap_or_else(|| panic!("{name} is no reason any more"));
        let (file, test) = place.rsplit_once("::").unwrap();
        let source = source(file);
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| line.starts_with(&format!("fn {test}(")));
        let at = at.unwrap_or_else(|| panic!("{place} is gone; {name} has no test"));
        let head = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        assert!(head.into_iter().any(|line| *line == "#[test]"), "{place} is no test");
        let named = source.contains(&format!("\"{name}\"")) || mentions(&source, &format!("{reason:?}"));
        assert!(named, "{place} says nothing of {name}");
    }
}

/// Whether a word stands in a text, and not as a part of another.
fn mentions(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn every_reason_has_its_test() {
    let mut seen = Drops::new();
    let mode = MODES[2];
    for drops in [
        each_malformed(mode),
        session_table_full(mode),
        bindings_full(mode),
        ports_exhausted(),
        alg_table_full(mode),
        handoff_full(),
        shut_down(),
        pool_empty(mode),
        tx_full(mode),
        tx_no_port(mode),
        expectation_gone(mode),
        alg_no_room(mode),
        session_closed(mode),
    ] {
        seen.extend(drops);
    }
    seen.extend(ELSEWHERE.iter().map(|(name, _)| *name));
    let missing: Vec<_> =
        DropReason::ALL.iter().map(|r| r.name()).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no test produces {missing:?}");
}
