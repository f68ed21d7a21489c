//! Three networks around the gateway, the hosts on them, and the configuration.

use dataplane::packet::build::Ends;
use std::net::Ipv4Addr;

/// Interfaces by number.
pub const INSIDE: usize = 0;
pub const OUTSIDE: usize = 1;
pub const DMZ: usize = 2;

/// The gateway's addresses.
pub const GW_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub const GW_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The MAC address of an interface.
pub const fn gateway_mac(interface: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, interface as u8]
}

/// A host, or what lies behind a router with that MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    pub interface: usize,
    pub mac: [u8; 6],
    pub addr: Ipv4Addr,
}

impl Host {
    const fn new(interface: usize, n: u8, addr: Ipv4Addr) -> Self {
        Self { interface, mac: [2, 0, 0, 1, interface as u8, n], addr }
    }

    /// From this host to `to`, by way of the gateway.
    pub const fn to(&self, to: Ipv4Addr) -> Ends {
        Ends::new(self.mac, self.addr, gateway_mac(self.interface), to)
    }
}

pub const CLIENT: Host = Host::new(INSIDE, 2, Ipv4Addr::new(10, 1, 0, 2));
pub const CLIENT2: Host = Host::new(INSIDE, 3, Ipv4Addr::new(10, 1, 0, 3));
/// Also the router of the outside network.
pub const SERVER: Host = Host::new(OUTSIDE, 2, Ipv4Addr::new(198, 51, 100, 2));
pub const SERVER2: Host = Host::new(OUTSIDE, 3, Ipv4Addr::new(198, 51, 100, 3));
pub const REMOTE: Host = Host { addr: Ipv4Addr::new(203, 0, 113, 9), ..SERVER };
pub const DMZ_HOST: Host = Host::new(DMZ, 2, Ipv4Addr::new(10, 2, 0, 2));
/// No `[[neighbor]]` pins this one.
pub const STRANGER: Host = Host::new(OUTSIDE, 77, Ipv4Addr::new(198, 51, 100, 77));

/// Small tables. In a table of its own, so that a test can ask for smaller ones.
pub const SMALL: &str = "
[dataplane]
sessions = 4096
expectations = 256
alg_sessions = 64
bindings = 4096
events = 4096
";

/// Short lives, in seconds, so that the clock need not move far.
pub const SHORT: &str = "
[timeouts]
tcp_syn_sent = 5
tcp_syn_received = 6
tcp_established = 60
tcp_fin_wait = 12
tcp_time_wait = 10
tcp_reset = 2
udp_new = 5
udp_stream = 20
icmp = 4
expectation = 10
port_hold_down = 8
";
/// Milliseconds after which all has aged, the longest of them twice and the rest of the ports.
pub const AGES: u32 = 140_000;

/// Interfaces, routes, neighbours.
pub const LINKS: &str = r#"
[[interface]]
name = "inside"
device = "ring:0"
zone = "trust"
addresses = ["10.1.0.1/24"]
mac = "02:00:00:00:01:00"

[[interface]]
name = "outside"
device = "ring:1"
zone = "untrust"
addresses = ["198.51.100.1/24"]
mac = "02:00:00:00:01:01"

[[interface]]
name = "dmz"
device = "ring:2"
zone = "dmz"
addresses = ["10.2.0.1/24"]
mtu = 1400
mac = "02:00:00:00:01:02"

[[route]]
to = "0.0.0.0/0"
via = "198.51.100.2"

[[neighbor]]
interface = "inside"
address = "10.1.0.2"
mac = "02:00:00:01:00:02"

[[neighbor]]
interface = "inside"
address = "10.1.0.3"
mac = "02:00:00:01:00:03"

[[neighbor]]
interface = "outside"
address = "198.51.100.2"
mac = "02:00:00:01:01:02"

[[neighbor]]
interface = "outside"
address = "198.51.100.3"
mac = "02:00:00:01:01:03"

[[neighbor]]
interface = "dmz"
address = "10.2.0.2"
mac = "02:00:00:01:02:02"
"#;

/// Source NAT from inside to outside.
pub const NAT: &str = r#"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = "interface"
"#;

/// The same configuration, but that each session that is translated to an interface's address has a port of its own.
pub fn dependent(text: &str) -> String {
    text.replace("translate = \"interface\"", "translate = \"interface\"\nmapping = \"endpoint-dependent\"")
}

/// A configuration as it is, and with the other mapping too where that matters.
pub fn mappings(text: &str, matters: bool) -> impl Iterator<Item = String> + use<> {
    let other = matters.then(|| dependent(text)).filter(|other| other != text);
    [text.to_owned()].into_iter().chain(other)
}

/// Inside may open anything to anywhere.
pub const ALLOW: &str = r#"
[[rule]]
name = "out"
from = "trust"
to = ["untrust", "dmz"]
action = "allow"
log = true
"#;

/// The gateway that most scenarios use.
pub fn standard() -> String {
    [SMALL, SHORT, LINKS, NAT, ALLOW].concat()
}
