//! Tests of parsing, rewriting and answering, against frames that smoltcp built and checks.

mod answer;
mod layers;
mod parsing;
mod rewriting;
mod segments;

use super::build::Ends;
use super::{Parse, Parsed, checksum, parse};
use crate::drop_reason::DropReason;
use core::net::Ipv4Addr;

pub(super) const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

pub(super) fn ends() -> Ends {
    Ends::new(THEIRS, Ipv4Addr::new(10, 1, 0, 2), OURS, Ipv4Addr::new(198, 51, 100, 2))
}

pub(super) fn ok(frame: &[u8]) -> Parsed {
    match parse(frame, OURS) {
        Parse::Ip(p) => p,
        other => panic!("{other:?}"),
    }
}

pub(super) fn dropped(frame: &[u8]) -> DropReason {
    match parse(frame, OURS) {
        Parse::Drop(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// Applies `change` to the IPv4 packet and makes its header checksum right again.
pub(super) fn changed(frame: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut f = frame.to_vec();
    change(&mut f[14..]);
    let len = (usize::from(f[14] & 15) * 4).clamp(20, f.len() - 14);
    assert!(checksum::ipv4_fill(&mut f[14..14 + len]));
    f
}

/// Both checksums, computed afresh by smoltcp.
pub(super) fn assert_sums(frame: &[u8]) {
    use smoltcp::wire::{Icmpv4Packet, Ipv4Packet, TcpPacket, UdpPacket};
    let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
    assert!(ip.verify_checksum(), "IPv4 header checksum");
    let (s, d) = (ip.src_addr().into(), ip.dst_addr().into());
    match frame[14 + 9] {
        1 => assert!(Icmpv4Packet::new_checked(ip.payload()).unwrap().verify_checksum(), "ICMP checksum"),
        6 => assert!(TcpPacket::new_checked(ip.payload()).unwrap().verify_checksum(&s, &d), "TCP checksum"),
        _ => assert!(UdpPacket::new_checked(ip.payload()).unwrap().verify_checksum(&s, &d), "UDP checksum"),
    }
}
