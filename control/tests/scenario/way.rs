//! A client, what it calls, and the server that this leads to: with source NAT, with destination NAT, and with none.

use super::gateway::{Gateway, each_mode};
use super::network::{CLIENT, DMZ_HOST, GW_OUTSIDE, Host, LINKS, NAT, SERVER, SHORT, SMALL, mappings};
use super::tcp::Pair;
use dataplane::drop_reason::DropReason;
use std::net::Ipv4Addr;

/// Who calls whom.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub client: Host,
    /// The server as the client addresses it.
    pub called: (Ipv4Addr, u16),
    pub server: Host,
    /// The client as the server sees it.
    pub client_seen: Ipv4Addr,
}

/// Source NAT, destination NAT, and none, to a service at this port. [`way_text`] makes them so.
pub fn ways(port: u16) -> [Way; 3] {
    let way = |client: Host, called, server, client_seen| Way {
        client,
        called: (called, port),
        server,
        client_seen,
    };
    [
        way(CLIENT, SERVER.addr, SERVER, GW_OUTSIDE),
        way(SERVER, GW_OUTSIDE, CLIENT, SERVER.addr),
        way(CLIENT, DMZ_HOST.addr, DMZ_HOST, CLIENT.addr),
    ]
}

/// A gateway that lets a predefined service through on each of the ways, and nothing else.
pub fn way_text(service: &str) -> String {
    let nat_and_rule = format!(
        r#"
[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.1"]
service = "{service}"
translate = "10.1.0.2"

[[rule]]
name = "{service} only"
from = "any"
to = "any"
service = "{service}"
action = "allow"
log = true
"#
    );
    [SMALL, SHORT, LINKS, NAT, &nat_and_rule].concat()
}

/// Plays a scenario on each of these ways, in every arrangement of workers, and with both mappings where the client is
/// translated. Everything is given back in the end.
pub fn each_way(ways: &[Way], text: &str, scenario: impl Fn(&mut Gateway, Way)) {
    each_mode(|mode| {
        for (way, text) in
            ways.iter().flat_map(|way| mappings(text, !way.plain()).map(move |text| (way, text)))
        {
            println!("{way:?}");
            let mut gw = Gateway::new(mode, &text);
            scenario(&mut gw, *way);
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

impl Way {
    /// The client is reached at its own address.
    pub fn plain(&self) -> bool {
        self.client_seen == self.client.addr
    }

    /// What becomes of a packet of the server's to the client that nobody expects.
    pub fn unexpected(&self) -> DropReason {
        if self.plain() { DropReason::PolicyDeny } else { DropReason::NatNoSession }
    }

    /// A connection of the client's, up to the end of its handshake; the server listens at `listens`.
    pub fn connect(&self, gw: &mut Gateway, from: u16, listens: u16) -> Pair {
        let mut pair = Pair::new((self.client, from), self.called, (self.server, listens));
        pair.handshake(gw);
        assert_eq!(pair.responder.peer.0, self.client_seen);
        pair
    }
}
