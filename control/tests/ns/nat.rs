//! A service behind source NAT, destination NAT, both and none; and a host inside that is called from outside.

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
        // Once a test: the configuration wants words that live for ever.
        let more = more.to_owned().leak();
        self.start_with(world, Config { more, ..Config::allowing(services) })
    }

    /// The same with a configuration of one's own, but for what concerns the translation.
    pub fn start_with(self, world: &World, config: Config) -> Gateway {
        if !self.translates_the_client() {
            world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}"));
        }
        let mut tables = config.more.to_owned();
        if self.translates_the_server() {
            tables += &destination("trust", CALLED, &config.services, SERVER);
        }
        let source_nat = self.translates_the_client();
        Gateway::start(world, &Config { source_nat, more: tables.leak(), misroute: true, ..config })
    }

    /// What counts the server's packets that nobody expects.
    pub fn unexpected(self) -> &'static str {
        if self.translates_the_client() { "nat-no-session" } else { "policy-deny" }
    }
}

/// An entry that leads those of a zone who call an address to a host.
fn destination(from: &str, called: &str, services: &[&str], host: &str) -> String {
    format!(
        "\n[[nat]]\ntype = \"destination\"\nfrom = \"{from}\"\ndestination = [\"{called}\"]\n\
         service = {services:?}\ntranslate = \"{host}\"\n"
    )
}

/// An address outside that is a host's inside, one for one. ARP is answered for it.
const ITS_OWN: &str = "198.51.100.10";
/// The rule that lets those outside call.
pub const INCOMING: &str = "incoming";

/// How the client's host is called from outside. It may call nobody itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Its services at the gateway's address; whatever it calls is translated to that, too.
    Destination,
    /// At an address of its own.
    Static,
    /// As it is.
    Plain,
}

impl Published {
    pub const ALL: [Self; 3] = [Self::Destination, Self::Static, Self::Plain];

    /// Where it is called.
    pub fn called(self) -> &'static str {
        match self {
            Self::Destination => OUTSIDE,
            Self::Static => ITS_OWN,
            Self::Plain => CLIENT,
        }
    }

    /// A gateway that lets these services in and nothing out, with `more` tables of its configuration.
    pub fn start(self, world: &World, services: &[&str], more: &str) -> Gateway {
        let mut tables = format!(
            "{more}\n[[rule]]\nname = \"{INCOMING}\"\nfrom = \"untrust\"\nto = \"trust\"\nservice = {services:?}\n\
             action = \"allow\"\nlog = true\n"
        );
        match self {
            Self::Destination => tables += &destination("untrust", OUTSIDE, services, CLIENT),
            Self::Static => {
                tables += &format!(
                    "\n[[nat]]\ntype = \"static\"\nfrom = \"untrust\"\ndestination = \"{ITS_OWN}\"\n\
                     translate = \"{CLIENT}\"\n"
                );
            }
            Self::Plain => world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}")),
        }
        let (source_nat, more) = (self == Self::Destination, tables.leak());
        Gateway::start(world, &Config { source_nat, more, misroute: true, ..Config::allowing(&["icmp"]) })
    }
}
