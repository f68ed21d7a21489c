//! A packet that came out of the gateway: read and verified by smoltcp.

use super::network::gateway_mac;
use smoltcp::wire::{
    ArpPacket, EthernetFrame, EthernetProtocol, Icmpv4Packet, IpAddress, IpProtocol, Ipv4Packet, TcpPacket,
    UdpPacket,
};
use std::net::Ipv4Addr;

/// What a TCP header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Seen {
    pub frame: Vec<u8>,
    pub to_mac: [u8; 6],
    /// Address and port. ICMP echo: the identifier at the asking end, 0 at the other.
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
    pub ttl: u8,
    pub protocol: u8,
    /// Of TCP.
    pub tcp: Option<Segment>,
    /// Of ICMP: type, code, and the four bytes behind the checksum.
    pub icmp: Option<(u8, u8, u32)>,
    pub payload: Vec<u8>,
    /// ARP: sender and target.
    pub arp: Option<(Ipv4Addr, Ipv4Addr)>,
}

impl Seen {
    /// Reads a frame that left through `interface`. Panics if anything in it is wrong.
    pub fn read(interface: usize, frame: &[u8]) -> Self {
        let ethernet = EthernetFrame::new_checked(frame).unwrap();
        assert_eq!(ethernet.src_addr().0, gateway_mac(interface), "not from the gateway");
        let mut seen = Self {
            frame: frame.to_vec(),
            to_mac: ethernet.dst_addr().0,
            source: (Ipv4Addr::UNSPECIFIED, 0),
            destination: (Ipv4Addr::UNSPECIFIED, 0),
            ttl: 0,
            protocol: 0,
            tcp: None,
            icmp: None,
            payload: Vec::new(),
            arp: None,
        };
        if ethernet.ethertype() == EthernetProtocol::Arp {
            let arp = ArpPacket::new_checked(ethernet.payload()).unwrap();
            let addr = |bytes: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap());
            seen.arp = Some((addr(arp.source_protocol_addr()), addr(arp.target_protocol_addr())));
            return seen;
        }
        assert_eq!(ethernet.ethertype(), EthernetProtocol::Ipv4);
        let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
        assert!(ip.verify_checksum(), "IPv4 checksum: {frame:02x?}");
        assert_eq!(usize::from(ip.total_len()) + 14, frame.len(), "padding or a wrong total length");
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        let (from, to) = (IpAddress::Ipv4(source), IpAddress::Ipv4(destination));
        seen.source.0 = source;
        seen.destination.0 = destination;
        seen.ttl = ip.hop_limit();
        seen.protocol = ip.next_header().into();
        match ip.next_header() {
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
                assert!(tcp.verify_checksum(&from, &to), "TCP checksum: {frame:02x?}");
                seen.source.1 = tcp.src_port();
                seen.destination.1 = tcp.dst_port();
                let header = usize::from(tcp.header_len());
                seen.tcp = Some(Segment {
                    seq: tcp.seq_number().0 as u32,
                    ack: tcp.ack_number().0 as u32,
                    flags: ip.payload()[13],
                    window: tcp.window_len(),
                    options: ip.payload()[20..header].to_vec(),
                });
                seen.payload = tcp.payload().to_vec();
            }
            IpProtocol::Udp => {
                let udp = UdpPacket::new_checked(ip.payload()).unwrap();
                assert!(udp.verify_checksum(&from, &to), "UDP checksum: {frame:02x?}");
                seen.source.1 = udp.src_port();
                seen.destination.1 = udp.dst_port();
                seen.payload = udp.payload().to_vec();
            }
            IpProtocol::Icmp => {
                let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
                assert!(icmp.verify_checksum(), "ICMP checksum: {frame:02x?}");
                let body = ip.payload();
                let rest = u32::from_be_bytes(body[4..8].try_into().unwrap());
                seen.icmp = Some((body[0], body[1], rest));
                match body[0] {
                    8 => seen.source.1 = (rest >> 16) as u16,
                    0 => seen.destination.1 = (rest >> 16) as u16,
                    _ => {}
                }
                seen.payload = body[8..].to_vec();
            }
            other => panic!("the gateway sent IP protocol {other}"),
        }
        seen
    }

    /// Its TCP header.
    pub fn tcp(&self) -> &Segment {
        self.tcp.as_ref().expect("a TCP segment")
    }

    /// Its payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}
