//! What a rig is made of: a configuration text, compiled as the daemon compiles it.

use crate::rig::flows::{ENDPOINTS, Nat};
use crate::rig::frame::mac;
use control::audit::Records;
use control::compile::{compile_interfaces, compile_policy, compile_setup};
use control::config::{Config, Report};
use control::core::Core;
use control::neighbors::Neighbors;
use dataplane::event::Stamped;
use dataplane::key::{Protocol, WorkerId};
use dataplane::memory::NoMemory;
use dataplane::policy::AlgProtocol;
use dataplane::shared::{Setup, SetupError, Shared};
use dataplane::view::{ExpectationView, SessionView};
use std::fmt::Write as _;
use std::sync::Arc;

/// The rig cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// Its configuration is wrong.
    #[error("the rig's configuration: {0}")]
    Config(#[from] Report),
    /// The gateway could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] NoMemory),
}

/// When sessions end that are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeouts {
    /// As by default: later than any run here.
    Default,
    /// Those that nobody has answered, and whose handshake is not whole, after so many seconds.
    Opening(u32),
    /// These and established ones over TCP after so many seconds. UDP that was answered has its default.
    Both(u32),
}

/// What is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Sessions that fit.
    pub sessions: u32,
    /// Rules that do not match, before the one that does.
    pub rules: u32,
    /// ALGs: all on, each at its protocol's port, or all off.
    pub algs: bool,
    /// When sessions end that are not used.
    pub timeouts: Timeouts,
    /// Workers.
    pub workers: u8,
    /// Sessions whose messages an ALG may read: their pinholes must fit too. 0: as many as the dataplane has by default.
    pub inspected: u32,
    /// Pinholes that there is room for beside those ([`crate::rig::gateway::Rig::arm`]).
    pub pinholes: u32,
    /// Who shares a translated port with whom.
    pub nat: Nat,
    /// Source NAT maps each session by itself. With an endpoint for each flow the ports are as many either way.
    pub dependent: bool,
}

/// Bindings where endpoints are shared: more than there are endpoints.
const SHARED_BINDINGS: u32 = 65_536;
const _: () = assert!(SHARED_BINDINGS > ENDPOINTS);

/// Calls that the table of a worker holds for each inspected session: a set of it must not be full before the table is.
const CALLS_A_SESSION: u32 = 8;
/// Pinholes for each inspected session, those that wait to be freed included.
const PINHOLES_A_SESSION: u32 = 64;

/// The state that workers share, and the control core that published policy and network to it.
pub struct Built {
    /// The shared state.
    pub shared: Arc<Shared>,
    /// Control.
    pub core: Core<Count>,
}

impl Spec {
    /// One worker, ten rules, ALGs on and reading nothing, one outside address that all share; sessions do not end.
    #[must_use]
    pub const fn plain(protocol: Protocol, sessions: u32) -> Self {
        Self {
            protocol,
            sessions,
            rules: 10,
            algs: true,
            timeouts: Timeouts::Default,
            workers: 1,
            inspected: 0,
            pinholes: 0,
            nat: Nat::Shared,
            dependent: false,
        }
    }

    /// Builds it.
    ///
    /// # Errors
    /// See [`RigError`].
    pub fn build(&self) -> Result<Built, RigError> {
        let config = Config::parse("rig", &self.text())?;
        let default = Setup::default();
        let sizes = &config.dataplane;
        let setup = match self.inspected {
            0 => Setup { sessions: sizes.sessions, bindings: sizes.bindings, ..default },
            _ => compile_setup(&config, usize::from(self.workers.max(1)), default.seed),
        };
        let expectations = setup.expectations.saturating_add(self.pinholes);
        let setup = Setup { workers: usize::from(self.workers.max(1)), expectations, ..setup };
        let shared = Shared::new(setup)?;
        let network = compile_interfaces(&config, &[]);
        let registry = Arc::clone(&shared.registry);
        let policy = compile_policy(&config, 1, &mut |address| registry.register(address))?;
        let neighbors = Neighbors::new(network.interfaces.clone(), &network.neighbors);
        let mut core = Core::new(Arc::clone(&shared), neighbors, Count::default())?;
        core.publish_policy(policy);
        core.publish_network(&network);
        Ok(Built { shared, core })
    }

    fn sizes(&self) -> String {
        match self.inspected {
            0 => String::new(),
            n => format!(
                "alg_sessions = {}\nexpectations = {}\nevents = 8192\n",
                n.saturating_mul(CALLS_A_SESSION),
                n.saturating_mul(PINHOLES_A_SESSION)
            ),
        }
    }

    /// Bindings that fit: one of its own for each session, or more than there are endpoints.
    const fn bindings(&self) -> u32 {
        match self.nat {
            Nat::Shared => SHARED_BINDINGS,
            Nat::Own(_) => self.sessions,
        }
    }

    /// The configuration text.
    #[must_use]
    pub fn text(&self) -> String {
        let network = self.nat.network();
        let mut text = format!(
            r#"
[dataplane]
sessions = {}
bindings = {}
{}[[interface]]
name = "inside"
device = "ring:0"
zone = "trust"
addresses = ["10.0.0.1/24"]
mac = "{}"
[[interface]]
name = "outside"
device = "ring:1"
zone = "untrust"
addresses = ["198.51.100.1/24"]
mac = "{}"
[[route]]
to = "{network}"
via = "10.0.0.2"
[[route]]
to = "0.0.0.0/0"
via = "198.51.100.2"
[[neighbor]]
interface = "inside"
address = "10.0.0.2"
mac = "{}"
[[neighbor]]
interface = "outside"
address = "198.51.100.2"
mac = "{}"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = {}
mapping = "{}"
[log]
audit = "off"
"#,
            self.sessions,
            self.bindings(),
            self.sizes(),
            mac_text(mac::GATEWAY_INSIDE),
            mac_text(mac::GATEWAY_OUTSIDE),
            mac_text(mac::INSIDE),
            mac_text(mac::OUTSIDE),
            self.nat.translate(),
            if self.dependent { "endpoint-dependent" } else { "endpoint-independent" },
        );
        let mode = if self.algs { "full" } else { "off" };
        for protocol in AlgProtocol::ALL {
            let (name, ports) = (protocol.name(), protocol.ports());
            let _ = write!(
                text,
                "[[alg]]\nname = \"{name}\"\nprotocol = \"{name}\"\nmode = \"{mode}\"\nports = {ports:?}\n"
            );
        }
        if self.inspected > 0 {
            // Messages come faster than any network has them, from few hosts.
            text.push_str("[limits]\nexpectations_per_second = 1048576\nhost_share = 100\n");
        }
        if self.inspected > 0 || self.timeouts != Timeouts::Default {
            text.push_str("[timeouts]\n");
        }
        if self.inspected > 0 {
            // And one address has no ports for so many calls if each rests for minutes.
            text.push_str("port_hold_down = 0\n");
        }
        let opening = &["udp_new", "tcp_syn_sent", "tcp_syn_received"][..];
        // Where established ones end soon the opening ones do too: control has a session armed for the state that it saw it in first.
        let (names, established, seconds) = match self.timeouts {
            Timeouts::Default => (&[][..], &[][..], 0),
            Timeouts::Opening(seconds) => (opening, &[][..], seconds),
            Timeouts::Both(seconds) => (opening, &["tcp_established"][..], seconds),
        };
        for name in names.iter().chain(established) {
            let _ = writeln!(text, "{name} = {seconds}");
        }
        for n in 0..self.rules {
            // Every other one has the right zones and the wrong service, the others the wrong source.
            let (source, service) = match n % 2 {
                0 => (format!("10.{}.{}.0/24", 2 + n / 256, n % 256), "any".to_owned()),
                _ => (network.to_owned(), format!("tcp/{}", 10_000 + n)),
            };
            let _ = write!(
                text,
                "[[rule]]\nfrom = \"trust\"\nto = \"untrust\"\nsource = \"{source}\"\nservice = \"{service}\"\naction = \"deny\"\n"
            );
        }
        let _ = write!(
            text,
            "[[rule]]\nfrom = \"trust\"\nto = \"untrust\"\nsource = \"{network}\"\naction = \"allow\"\n"
        );
        text
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// Counts records and writes none.
#[derive(Debug, Default)]
pub struct Count {
    /// Sessions that control saw open.
    pub opened: u64,
    /// Sessions that control saw close.
    pub closed: u64,
}

impl Records for Count {
    fn session_opened(&mut self, _: &SessionView) {
        self.opened += 1;
    }

    fn session_closed(&mut self, _: &SessionView) {
        self.closed += 1;
    }

    fn expectation_expired(&mut self, _: &ExpectationView) {}

    fn event(&mut self, _: WorkerId, _: &Stamped) {}
}
