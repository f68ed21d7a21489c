//! Which network devices the host itself is reached through. What cannot be read counts as if it were there.

use super::pci::Nic;
use super::routes::Routes;
use super::ssh::Sessions;
use crate::host::{Host, names};
use serde::Serialize;
use std::collections::BTreeSet;

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
                let unread = sessions.unread.clone();
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

/// An interface and all that lie below it: a bond's members, a bridge's ports, the parent of a VLAN.
fn lower(host: &Host, interface: &str, depth: u32) -> Vec<String> {
    /// Nobody stacks more; a circle shall end.
    const DEEPEST: u32 = 8;
    let mut all = vec![interface.to_owned()];
    if depth < DEEPEST {
        let folder = host.sysfs.join("class/net").join(interface);
        let entries = names(&folder).unwrap_or_default();
        let mut below: Vec<String> =
            entries.iter().filter_map(|name| name.strip_prefix("lower_")).map(str::to_owned).collect();
        // Ports of a bridge have links of their own.
        below.extend(names(&folder.join("brif")).unwrap_or_default());
        below.sort_unstable();
        below.dedup();
        all.extend(below.iter().flat_map(|name| lower(host, name, depth + 1)));
    }
    all
}
