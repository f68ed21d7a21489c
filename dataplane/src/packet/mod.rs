//! What a packet says, and how it is changed: parsing, checksums, rewriting, and the packets that the gateway itself
//! makes (ICMP errors, echo replies, resets). IPv4 over Ethernet II.
//!
//! Everything here is a pure function of bytes. Nothing allocates (but [`build`], which is for tests and the control
//! core), nothing panics, and no length found in a packet is trusted before it is checked.

pub mod build;
pub mod checksum;
pub mod datagram;
mod field;
pub mod fragment;
pub mod icmp_error;
pub mod ip_options;
pub mod layers;
pub mod limit;
pub mod parse;
pub mod quote;
pub mod reset;
pub mod rewrite;
pub mod segments;
pub mod vlan;

pub use fragment::Fragment;
pub use ip_options::IpOptions;
pub use layers::Layers;
pub use parse::{Parse, Parsed, parse};
pub use quote::Quoted;

/// Bytes of an Ethernet II header.
pub const ETHERNET_LEN: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Bytes of a TCP header without options.
pub const TCP_LEN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;
/// Bytes of the fixed part of an ICMP message.
pub const ICMP_LEN: usize = 8;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// Bits of the TCP flags byte (RFC 9293 §3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// ICMP types that get through (RFC 792).
pub mod icmp {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench. Nobody sends it any more (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

#[cfg(test)]
mod tests;
