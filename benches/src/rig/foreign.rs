//! Packets that have left another gateway: whether it has done the same work.
//!
//! They are datagrams of the rig's flows, as [`crate::rig::frame::Writer`] makes them. Addresses, ports, lengths and both
//! checksums are looked at. Ethernet addresses and the time to live are not: not every peer was asked to change them.

use crate::rig::flows;
use crate::rig::frame::{ETHERNET, IPV4, SHORTEST, fold, get16, get32, halves, hex, plain_sum};
use dataplane::key::Protocol;
use std::collections::HashMap;

/// Judges the datagrams of one gateway, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Inspector {
    translates: bool,
    /// The port that each flow was seen at.
    ports: HashMap<u32, u16>,
    /// The flow that a server sees at each port.
    flows: HashMap<(u32, u16), u32>,
}

impl Inspector {
    /// Of a gateway that translates sources to the rig's outside address, or of one that forwards packets as they are.
    #[must_use]
    pub fn new(translates: bool) -> Self {
        Self { translates, ..Self::default() }
    }

    /// What is wrong with a frame, if anything is.
    pub fn fault(&mut self, frame: &[u8]) -> Option<String> {
        let what = self.judge(frame)?;
        Some(format!("{what}: {}", hex(frame, SHORTEST)))
    }

    fn judge(&mut self, frame: &[u8]) -> Option<&'static str> {
        let flow = get32(frame, 42);
        let inside = flows::inside(flows::endpoint(flow));
        let server = flows::destination(flow);
        let (source, port) = (get32(frame, 26), get16(frame, 34));
        let ip = frame.get(ETHERNET..ETHERNET + IPV4).unwrap_or(&[]);
        let l4 = frame.get(ETHERNET + IPV4..SHORTEST).unwrap_or(&[]);
        let shape = [get16(frame, 12), get16(frame, 14), get16(frame, 16), get16(frame, 38)];
        let lengths = [0x0800, 0x4500, (ip.len() + l4.len()) as u16, l4.len() as u16];
        let udp = frame.get(23) == Some(&(Protocol::Udp as u8));
        let pseudo = halves(source) + halves(server) + Protocol::Udp as u32 + l4.len() as u32;
        let checks = [
            ("no datagram of 60 bytes", frame.len() == SHORTEST && udp && shape == lengths),
            ("not translated", !self.translates || source != inside.0),
            ("its source address is wrong", !self.translates || source == flows::OUTSIDE.to_bits()),
            ("its source is not what it was", self.translates || (source, port) == inside),
            ("its destination is wrong", get32(frame, 30) == server && get16(frame, 36) == flows::SERVICE),
            ("its IPv4 checksum is wrong", fold(plain_sum(ip)) == 0xffff),
            // None at all would be valid, and cheaper than what the others do.
            ("it has no transport checksum", get16(frame, 40) != 0),
            ("its transport checksum is wrong", fold(halves(pseudo) + plain_sum(l4)) == 0xffff),
        ];
        if let Some((what, _)) = checks.iter().find(|(_, good)| !good) {
            return Some(what);
        }
        if *self.ports.entry(flow).or_insert(port) != port {
            return Some("its flow had another port before");
        }
        let other = self.flows.entry((server, port)).or_insert(flow);
        (self.translates && *other != flow).then_some("its server sees another flow at the same port")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::frame::{Kind, Writer, put16, put32};
    use dataplane::table::Direction;

    fn arriving(flow: u32) -> [u8; SHORTEST] {
        let mut frame = [0; SHORTEST];
        Writer::new(Protocol::Udp).write(
            &mut frame,
            flow,
            Direction::Forward,
            Kind::Data,
            flows::Place::default(),
        );
        frame
    }

    fn sum(frame: &mut [u8; SHORTEST]) {
        put16(frame, 24, 0);
        let ip = fold(plain_sum(&frame[14..34]));
        put16(frame, 24, !ip);
        put16(frame, 40, 0);
        let pseudo = plain_sum(&frame[26..34]) + Protocol::Udp as u32 + 26;
        let datagram = fold(halves(pseudo) + plain_sum(&frame[34..]));
        put16(frame, 40, !datagram);
    }

    fn translated(flow: u32, port: u16) -> [u8; SHORTEST] {
        let mut frame = arriving(flow);
        put32(&mut frame, 26, flows::OUTSIDE.to_bits());
        put16(&mut frame, 34, port);
        sum(&mut frame);
        frame
    }

    fn fault(translates: bool, frame: &[u8]) -> String {
        Inspector::new(translates).fault(frame).unwrap_or_default()
    }

    #[test]
    fn what_is_right_passes() {
        let mut inspector = Inspector::new(true);
        for flow in [0, 7, 123_456, 999_999] {
            for _ in 0..2 {
                assert_eq!(inspector.fault(&translated(flow, 2000 + flow as u16)), None);
            }
            assert_eq!(fault(false, &arriving(flow)), "");
        }
        // Two flows to two servers may share a port.
        let apart = flows::ENDPOINTS;
        assert_eq!(inspector.fault(&translated(apart, 5)), None);
        assert_eq!(inspector.fault(&translated(2 * apart, 5)), None);
    }

    #[test]
    fn a_peer_that_does_not_translate_is_found() {
        assert!(fault(true, &arriving(7)).starts_with("not translated"));
        let mut port_only = arriving(7);
        put16(&mut port_only, 34, 9);
        sum(&mut port_only);
        assert!(fault(true, &port_only).starts_with("not translated"));
        assert!(fault(false, &translated(7, 9)).starts_with("its source is not what it was"));
    }

    #[test]
    fn each_part_that_is_wrong_is_found() {
        for (at, value, resum, what) in [
            (26, 0xc633_6402, true, "its source address"),
            (30, 0xc612_0009, true, "its destination"),
            (36, 0x1152_001a, true, "its destination"),
            (24, 0, false, "its IPv4 checksum"),
            (46, 1, false, "its transport checksum"),
            (16, 0x002d_0000, true, "no datagram"),
        ] {
            let mut frame = translated(7, 2000);
            let kept = frame;
            put32(&mut frame, at, value);
            if at == 24 {
                frame[26..28].copy_from_slice(&kept[26..28]);
            }
            if resum {
                sum(&mut frame);
            }
            let fault = fault(true, &frame);
            assert!(fault.starts_with(what), "{what}: {fault}");
        }
        let mut none = translated(7, 2000);
        put16(&mut none, 40, 0);
        assert!(fault(true, &none).starts_with("it has no transport checksum"));
        assert!(fault(true, &[]).starts_with("no datagram"));
        assert!(fault(true, &[0; 61]).starts_with("no datagram"));
    }

    #[test]
    fn ports_that_wander_or_are_shared_are_found() {
        let mut inspector = Inspector::new(true);
        assert_eq!(inspector.fault(&translated(7, 2000)), None);
        assert!(inspector.fault(&translated(7, 2001)).unwrap().starts_with("its flow had another port"));
        assert!(inspector.fault(&translated(8, 2000)).unwrap().starts_with("its server sees another flow"));
    }
}
