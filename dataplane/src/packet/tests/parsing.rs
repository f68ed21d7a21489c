use super::*;
use crate::key::{FlowKey, Protocol, ZoneId};
use crate::packet::IpOptions;
use crate::packet::build::{self, Tcp};
use crate::packet::flag::{ACK, ECE, FIN, PSH, RST, SYN, URG};
use proptest::prelude::*;

fn key(protocol: Protocol, sport: u16, dport: u16) -> FlowKey {
    let e = ends();
    FlowKey::v4(protocol, ZoneId(3), (e.source, sport), (e.destination, dport))
}

#[test]
fn tcp_fields() {
    let header = Tcp {
        sport: 4000,
        dport: 21,
        seq: 0xDEAD_BEEF,
        ack: 7,
        flags: PSH | ACK,
        window: 99,
        options: &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
    };
    let mut f = build::tcp(&ends(), &header, b"USER x\r\n");
    f.extend_from_slice(&[0xEE; 6]);
    let p = ok(&f);
    assert_eq!(p.key(ZoneId(3)), key(Protocol::Tcp, 4000, 21));
    assert_eq!((p.seq, p.ack, p.tcp_flags, p.window), (0xDEAD_BEEF, 7, PSH | ACK, 99));
    assert_eq!(&f[p.payload_range()], b"USER x\r\n");
    assert_eq!((p.l3, p.l4, p.ttl, p.df, p.options), (14, 34, 64, true, IpOptions::NONE));
    assert_eq!((p.frame_len(), p.ip_len), (f.len() - 6, (f.len() - 20) as u16));
    assert_eq!(p.segment(), 34..f.len() - 6);
    assert!(p.l4_checksum_is_valid(&f) && p.has(ACK) && !p.has(ACK | SYN));
    assert_eq!(p.tcp_options(&f).collect::<Vec<_>>(), [(8, 58..66)]);
    assert_eq!(p.seq_len(), 8);
    f[70] ^= 1;
    assert!(!ok(&f).l4_checksum_is_valid(&f));
}

#[test]
fn udp_fields() {
    let f = build::udp(&ends(), 5060, 69, b"hello");
    let p = ok(&f);
    assert_eq!(p.key(ZoneId(3)), key(Protocol::Udp, 5060, 69));
    assert_eq!(&f[p.payload_range()], b"hello");
    assert!(p.tcp_options(&f).next().is_none());
    // A datagram may end before its IP packet does.
    let mut short = f.clone();
    short[38..40].copy_from_slice(&10u16.to_be_bytes());
    assert_eq!((ok(&short).payload_len, ok(&short).segment()), (2, 34..44));
}

#[test]
fn icmp_identifier_stands_at_the_asking_end() {
    let p = ok(&build::echo_request(&ends(), 77, 1, b"ping"));
    assert_eq!((p.key(ZoneId(3)), p.icmp_type, p.payload_len), (key(Protocol::Icmp, 77, 0), 8, 4));
    let p = ok(&build::echo_reply(&ends(), 77, 1, b"ping"));
    assert_eq!((p.key(ZoneId(3)), p.icmp_type), (key(Protocol::Icmp, 0, 77), 0));
}

#[test]
fn ethernet_rules() {
    let f = build::udp(&ends(), 1, 2, b"");
    assert_eq!(dropped(&f[..13]), DropReason::EthTruncated);
    let mac = |mac: [u8; 6], f: &[u8]| [&mac[..], &f[6..]].concat();
    assert_eq!(dropped(&mac(THEIRS, &f)), DropReason::EthNotForUs);
    assert_eq!(dropped(&mac([0xFF; 6], &f)), DropReason::EthBroadcast);
    assert_eq!(dropped(&mac([1, 0, 0x5E, 0, 0, 1], &f)), DropReason::EthMulticast);
    for t in [0x86DDu16, 0x8100, 46, 1500] {
        let other = [&f[..12], &t.to_be_bytes(), &f[14..]].concat();
        assert_eq!(dropped(&other), DropReason::EthTypeUnsupported);
    }
    let arp = build::arp_request(THEIRS, ends().source, ends().destination);
    assert_eq!(parse(&arp, OURS), Parse::Arp);
    assert_eq!(parse(&mac(OURS, &arp), OURS), Parse::Arp);
    assert_eq!(dropped(&mac(THEIRS, &arp)), DropReason::EthNotForUs);
    assert_eq!(dropped(&arp[..41]), DropReason::ArpInvalid);
    for at in 14..20 {
        let mut bad = arp.clone();
        bad[at] ^= 1;
        assert_eq!(dropped(&bad), DropReason::ArpInvalid);
    }
}

#[test]
fn ipv4_rules() {
    let f = build::udp(&ends(), 1, 2, b"0123456789");
    assert_eq!(dropped(&f[..33]), DropReason::Ipv4Truncated);
    assert_eq!(dropped(&changed(&f, |ip| ip[0] = 0x65)), DropReason::Ipv4Version);
    assert_eq!(dropped(&changed(&f, |ip| ip[0] = 0x44)), DropReason::Ipv4HeaderLength);
    assert_eq!(dropped(&changed(&f, |ip| ip[0] = 0x4F)), DropReason::Ipv4HeaderLength);
    assert_eq!(dropped(&changed(&f, |ip| ip[3] += 1)), DropReason::Ipv4TotalLength);
    assert_eq!(dropped(&changed(&f, |ip| ip[3] = 19)), DropReason::Ipv4TotalLength);
    let mut bad = f.clone();
    bad[24] ^= 1;
    assert_eq!(dropped(&bad), DropReason::Ipv4Checksum);
    for (addr, from, to) in [
        ([0, 0, 0, 0], Some(DropReason::Ipv4ThisNetwork), Some(DropReason::Ipv4ThisNetwork)),
        ([0, 1, 2, 3], Some(DropReason::Ipv4ThisNetwork), Some(DropReason::Ipv4ThisNetwork)),
        ([127, 0, 0, 1], Some(DropReason::Ipv4Loopback), Some(DropReason::Ipv4Loopback)),
        ([224, 0, 0, 1], Some(DropReason::Ipv4SourceInvalid), Some(DropReason::Ipv4Multicast)),
        ([239, 1, 1, 1], Some(DropReason::Ipv4SourceInvalid), Some(DropReason::Ipv4Multicast)),
        ([240, 0, 0, 1], Some(DropReason::Ipv4Reserved), Some(DropReason::Ipv4Reserved)),
        ([255, 255, 255, 254], Some(DropReason::Ipv4Reserved), Some(DropReason::Ipv4Reserved)),
        ([255, 255, 255, 255], Some(DropReason::Ipv4SourceInvalid), Some(DropReason::Ipv4Broadcast)),
        ([1, 0, 0, 1], None, None),
        ([223, 255, 255, 254], None, None),
    ] {
        for (at, expected) in [(12, from), (16, to)] {
            let frame = changed(&f, |ip| ip[at..at + 4].copy_from_slice(&addr));
            let got = match parse(&frame, OURS) {
                Parse::Drop(reason) => Some(reason),
                _ => None,
            };
            assert_eq!(got, expected, "{addr:?} at {at}");
        }
    }
    for (field, len, reason) in [
        ([0x20, 0], 9, DropReason::FragmentMalformed),
        ([0x20, 0], 16, DropReason::FragmentTiny),
        ([0, 1], 16, DropReason::FragmentTiny),
        ([0, 2], 200, DropReason::FragmentTiny),
        ([0x20, 3], 0, DropReason::FragmentMalformed),
        ([0, 3], 0, DropReason::FragmentMalformed),
        ([0x1f, 0xff], 100, DropReason::FragmentTooLong),
    ] {
        let whole = build::ipv4(&ends(), 6, &[], &vec![0; len]);
        assert_eq!(
            dropped(&changed(&whole, |ip| ip[6..8].copy_from_slice(&field))),
            reason,
            "{field:?} {len}"
        );
    }
    let last = build::ipv4(&ends(), 17, &[], &[1; 100]);
    let Parse::Fragment(f2) = parse(&changed(&last, |ip| ip[6..8].copy_from_slice(&[0x40, 4])), OURS) else {
        panic!("no fragment")
    };
    assert_eq!((f2.offset, f2.len, f2.more, f2.df, f2.payload()), (32, 100, false, true, 34..134));
    assert!(!ok(&changed(&f, |ip| ip[6] = 0)).df);
    assert_eq!(dropped(&build::ipv4(&ends(), 47, &[], b"gre")), DropReason::ProtocolUnsupported);
}

#[test]
fn ipv4_options() {
    let with = |options: &[u8]| build::ipv4(&ends(), 17, options, &[0, 1, 0, 2, 0, 8, 0, 0]);
    for (good, kinds) in [
        (&[1, 1, 1, 1][..], IpOptions::NONE),
        (&[0, 9, 9, 9], IpOptions::NONE),
        (&[7, 7, 4, 0, 0, 0, 0], IpOptions::RECORD_ROUTE),
        (&[148, 4, 0, 0], IpOptions::ROUTER_ALERT),
        (&[1, 68, 5, 5, 0, 1, 1], IpOptions::TIMESTAMP),
        (&[134, 6, 0, 0, 0, 1], IpOptions::SECURITY),
        (&[94, 3, 0], IpOptions::OTHER),
        (&[148, 4, 0, 0, 7, 3, 4, 1], IpOptions::ROUTER_ALERT.with(IpOptions::RECORD_ROUTE)),
    ] {
        let p = ok(&with(good));
        assert_eq!(p.options, kinds, "{good:?}");
        assert_eq!((p.sport, p.dport), (1, 2));
        assert_eq!(usize::from(p.l4), 34 + good.len().next_multiple_of(4));
    }
    for bad in [&[131, 7, 4, 1, 2, 3, 4][..], &[1, 137, 7, 4, 1, 2, 3, 4], &[1, 1, 131, 2]] {
        assert_eq!(dropped(&with(bad)), DropReason::Ipv4SourceRoute, "{bad:?}");
    }
    for bad in [
        &[7, 0, 0, 0][..],
        &[7, 1, 0, 0],
        &[7, 5, 4, 0],
        &[1, 1, 1, 7],
        &[7, 2, 1, 1],
        &[7, 3, 3, 1],
        &[68, 4, 4, 0],
        &[68, 3, 5, 1],
        &[148, 3, 0, 1],
    ] {
        assert_eq!(dropped(&with(bad)), DropReason::Ipv4Options, "{bad:?}");
    }
}

#[test]
fn tcp_rules() {
    let f = build::tcp(&ends(), &Tcp::default(), b"");
    let cut = changed(&f, |ip| ip[3] = 39);
    assert_eq!(dropped(&cut), DropReason::TcpTruncated);
    let offset = |n: u8| {
        let mut f = f.clone();
        f[46] = n << 4;
        dropped(&f)
    };
    assert_eq!(offset(4), DropReason::TcpHeaderLength);
    assert_eq!(offset(6), DropReason::TcpHeaderLength);
    for (sport, dport) in [(0, 80), (80, 0)] {
        let f = build::tcp(&ends(), &Tcp { sport, dport, ..Tcp::default() }, b"");
        assert_eq!(dropped(&f), DropReason::TcpPortZero);
    }
    let flags = |flags| parse(&build::tcp(&ends(), &Tcp { flags, ..Tcp::default() }, b""), OURS);
    for bad in
        [0, FIN, PSH, URG, FIN | PSH | URG, ECE, SYN | FIN, SYN | RST, SYN | FIN | ACK, SYN | RST | ACK]
    {
        assert_eq!(flags(bad), Parse::Drop(DropReason::TcpFlags), "{bad:#x}");
    }
    for good in [
        SYN,
        SYN | ACK,
        SYN | ECE | super::super::flag::CWR,
        ACK,
        FIN | ACK,
        FIN | PSH | ACK,
        RST,
        RST | ACK,
        URG | ACK,
    ] {
        assert!(matches!(flags(good), Parse::Ip(_)), "{good:#x}");
    }
}

#[test]
fn udp_rules() {
    let f = build::udp(&ends(), 1, 2, b"0123");
    assert_eq!(dropped(&changed(&f, |ip| ip[3] = 27)), DropReason::UdpTruncated);
    for len in [0, 7, 13] {
        let mut f = f.clone();
        f[39] = len;
        assert_eq!(dropped(&f), DropReason::UdpLength);
    }
    assert_eq!(dropped(&build::udp(&ends(), 0, 2, b"")), DropReason::UdpPortZero);
    assert_eq!(dropped(&build::udp(&ends(), 1, 0, b"")), DropReason::UdpPortZero);
}

#[test]
fn icmp_rules() {
    let f = build::echo_request(&ends(), 1, 2, b"01");
    assert_eq!(dropped(&changed(&f, |ip| ip[3] = 27)), DropReason::IcmpTruncated);
    for (at, value) in [(34, 5), (34, 13), (35, 1)] {
        let mut f = f.clone();
        f[at] = value;
        assert_eq!(dropped(&f), DropReason::IcmpTypeUnsupported);
    }
    let mut quench = f.clone();
    quench[34] = 4;
    assert_eq!(dropped(&quench), DropReason::IcmpSourceQuench);
    let mut f = f;
    f[42] ^= 1;
    assert_eq!(dropped(&f), DropReason::IcmpChecksum);
}

#[test]
fn tcp_options_end_at_what_does_not_fit() {
    let kinds = |options: &[u8]| {
        let f = build::tcp(&ends(), &Tcp { options, ..Tcp::default() }, b"payload");
        ok(&f).tcp_options(&f).map(|(k, r)| (k, f[r].to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&[2, 4, 5, 180, 1, 4, 2, 0, 3, 3, 7]), [(2, vec![5, 180]), (4, vec![])]);
    assert_eq!(kinds(&[4, 2, 2, 8]), [(4, vec![])]);
    assert_eq!(kinds(&[4, 2, 2, 1]), [(4, vec![])]);
    assert_eq!(kinds(&[4, 2, 1, 9]), [(4, vec![])]);
    assert_eq!(kinds(&[]), []);
}

/// A valid frame of any protocol, with any options.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let options = proptest::collection::vec(any::<u8>(), 0..40);
    let payload = proptest::collection::vec(any::<u8>(), 0..100);
    (0u8..4, options, payload, any::<u16>()).prop_map(|(kind, options, payload, id)| match kind {
        0 => build::tcp(&ends(), &Tcp { options: &options, ..Tcp::default() }, &payload),
        1 => build::udp(&ends(), id, 53, &payload),
        2 => build::echo_request(&ends(), id, 1, &payload),
        _ => build::ipv4(&ends(), 6, &options, &build::tcp(&ends(), &Tcp::default(), &payload)[34..]),
    })
}

proptest! {
    #[test]
    fn offsets_lie_in_the_frame_whatever_is_broken(
        frame in any_frame(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(), do_cut: bool, fix_sum: bool,
    ) {
        let mut f = frame;
        for (at, value) in flips {
            let at = at.index(f.len());
            f[at] = value;
        }
        f[..6].copy_from_slice(&OURS);
        if do_cut {
            f.truncate(cut.index(f.len()));
        }
        if fix_sum && f.len() >= 34 {
            f = changed(&f, |_| ());
        }
        if let Parse::Ip(p) = parse(&f, OURS) {
            prop_assert!(p.frame_len() <= f.len());
            prop_assert!(p.l3 == 14 && p.l4 >= 34 && p.l4 <= p.payload);
            prop_assert!(p.payload_range().end <= p.frame_len());
            prop_assert!(p.tcp_options(&f).all(|(_, r)| r.end <= usize::from(p.payload)));
            // And no call on it panics.
            let _ = p.l4_checksum_is_valid(&f);
            let _ = crate::packet::rewrite::set_source(&mut f, &p, 1, 1);
            crate::packet::rewrite::map_sack(&mut f, &p, |a, _| (a & 1 == 0).then_some((a, a)));
        }
    }
}
