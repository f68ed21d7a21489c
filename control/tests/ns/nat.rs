//! A service behind source NAT, destination NAT, both and none.

use super::gateway::{Config, Gateway};
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};

/// Where the client calls the server that stands behind destination NAT. ARP is answered for it.
pub const CALLED: &str = "10.1.0.100";

/// How packets are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    Source,
    Destination,
    Both,
    None,
}

impl Nat {
    pub const ALL: [Self; 4] = [Self::Source, Self::Destination, Self::Both, Self::None];

    pub fn translates_the_client(self) -> bool {
        matches!(self, Self::Source | Self::Both)
    }

    pub fn translates_the_server(self) -> bool {
        matches!(self, Self::Destination | Self::Both)
    }

    /// Where the client calls.
    pub fn called(self) -> &'static str {
        if self.translates_the_server() { CALLED } else { SERVER }
    }

    /// A gateway that lets one predefined service through, and `more` tables of its configuration.
    pub fn start(self, world: &World, service: &'static str, more: &str) -> Gateway {
        self.start_all(world, &[service], more)
    }

    /// The same with several services.
    pub fn start_all(self, world: &World, services: &[&'static str], more: &str) -> Gateway {
        if !self.translates_the_client() {
            world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}"));
        }
        let mut tables = more.to_owned();
        if self.translates_the_server() {
            tables += &format!(
                "\n[[nat]]\ntype = \"destination\"\nfrom = \"trust\"\ndestination = [\"{CALLED}\"]\n\
                 service = {services:?}\ntranslate = \"{SERVER}\"\n"
            );
        }
        let source_nat = self.translates_the_client();
        // Once a test: the configuration wants words that live for ever.
        let more = tables.leak();
        Gateway::start(world, &Config { source_nat, more, misroute: true, ..Config::allowing(services) })
    }

    /// What counts the server's packets that nobody expects.
    pub fn unexpected(self) -> &'static str {
        if self.translates_the_client() { "nat-no-session" } else { "policy-deny" }
    }
}
