//! Which network devices the host itself is reached through. What cannot be read counts as if it were there.

use super::pci::Nic;
use super::routes::Routes;
use super::ssh::Sessions;
use crate::host::{Host, names, soft, soft_number};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Why a device must not be taken from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// A default route leads over it.
    DefaultRoute,
    /// An SSH session comes over it.
    Ssh,
    /// Whether any does cannot be told.
    Unknown,
}

/// How the host is reached.
pub struct Reach {
    /// None if the kernel tells neither routes nor connections.
    known: Option<(Routes, Sessions)>,
    unread: Vec<String>,
}

impl Reach {
    /// Reads it. `connection` is `SSH_CONNECTION`.
    #[must_use]
    pub fn read(host: &Host, connection: Option<&str>) -> Self {
        let sessions = Sessions::read(host, connection).map_err(|error| error.to_string());
        match (Routes::read(host), sessions) {
            (Ok(routes), Ok(sessions)) => {
                let mut unread = sessions.unread.clone();
                let silent =
                    |name: &String| format!("{name} is a tunnel, and does not say over which NIC it goes");
                unread.extend(tunnels(host, &routes, &sessions).iter().map(silent));
                Self { known: Some((routes, sessions)), unread }
            }
            (routes, sessions) => {
                Self { known: None, unread: routes.err().into_iter().chain(sessions.err()).collect() }
            }
        }
    }

    /// What cannot be read.
    #[must_use]
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    /// Why the host needs this device.
    #[must_use]
    pub fn carried_by(&self, host: &Host, nic: &Nic) -> Vec<Carries> {
        let own: BTreeSet<&str> = nic.interfaces.iter().map(|i| i.name.as_str()).collect();
        if own.is_empty() {
            // The kernel does not use it.
            return Vec::new();
        }
        let Some((routes, sessions)) = &self.known else { return vec![Carries::Unknown] };
        let over = |interface: &str| lower(host, interface, 0).iter().any(|name| own.contains(name.as_str()));
        let comes = |session: &super::ssh::Session| {
            session.local.is_some_and(|local| routes.having(local).any(over))
                || session.peer.is_some_and(|peer| routes.egress(peer).any(over))
        };
        let mut carries = Vec::new();
        if routes.defaults().any(over) {
            carries.push(Carries::DefaultRoute);
        }
        if sessions.ssh.iter().any(comes) {
            carries.push(Carries::Ssh);
        }
        // A device without an address and without connections carries nothing, whoever runs.
        if !self.unread.is_empty() && (routes.addressed().any(over) || sessions.all.iter().any(comes)) {
            carries.push(Carries::Unknown);
        }
        carries
    }
}

/// An interface and all that lie below it.
fn lower(host: &Host, interface: &str, depth: u32) -> Vec<String> {
    /// Nobody stacks more; a circle shall end.
    const DEEPEST: u32 = 8;
    let mut all = vec![interface.to_owned()];
    if depth < DEEPEST {
        all.extend(below(host, interface).iter().flat_map(|name| lower(host, name, depth + 1)));
    }
    all
}

/// A bond's members, a bridge's ports, the parent of a VLAN, and what a tunnel is tied to.
fn below(host: &Host, interface: &str) -> BTreeSet<String> {
    let class = host.sysfs.join("class/net");
    let folder = class.join(interface);
    let entries = names(&folder).unwrap_or_default();
    let mut below: BTreeSet<String> =
        entries.iter().filter_map(|name| name.strip_prefix("lower_")).map(str::to_owned).collect();
    // Ports of a bridge have links of their own.
    below.extend(names(&folder.join("brif")).unwrap_or_default());
    if let Some(number) = tied(&folder) {
        let all = names(&class).unwrap_or_default();
        let is_it = |name: &String| soft_number(&class.join(name).join("ifindex")) == Some(number);
        below.extend(all.into_iter().filter(is_it));
    }
    if interface.starts_with("ppp") {
        // An identifier, the other end's address, and the interface; below a line of headings.
        let sessions = soft(&host.procfs.join("net/pppoe")).unwrap_or_default();
        let devices = sessions.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2));
        below.extend(devices.map(str::to_owned));
    }
    below
}

/// The number of another interface that this one says it goes over.
fn tied(folder: &Path) -> Option<u32> {
    let link: u32 = soft_number(&folder.join("iflink"))?;
    (link != 0 && Some(link) != soft_number(&folder.join("ifindex"))).then_some(link)
}

/// Tunnels on the way to this host that do not say over which interface they go: WireGuard's and those of programs.
fn tunnels(host: &Host, routes: &Routes, sessions: &Sessions) -> BTreeSet<String> {
    let mut ways: Vec<&str> = routes.defaults().collect();
    for session in &sessions.ssh {
        ways.extend(session.peer.into_iter().flat_map(|peer| routes.egress(peer)));
        ways.extend(session.local.into_iter().flat_map(|local| routes.having(local)));
    }
    let class = host.sysfs.join("class/net");
    let is_tunnel = |name: &String| {
        let folder = class.join(name);
        let has_device = folder.join("device").is_symlink();
        name != "lo" && !has_device && tied(&folder).is_none() && below(host, name).is_empty()
    };
    ways.into_iter().flat_map(|way| lower(host, way, 0)).filter(is_tunnel).collect()
}
