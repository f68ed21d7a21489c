//! Who sends to whom: the addresses and ports of every flow.

use std::net::Ipv4Addr;
use thiserror::Error;

/// Address and port, in host order.
pub type End = (u32, u16);

/// Clients and servers. Flow `n` is client `n` modulo their number, from its next port, to the next server once all clients
/// have used up their ports: no two flows are alike until all combinations are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    clients: Run,
    client_ports: (u16, u16),
    servers: Run,
    server_port: u16,
}

/// Addresses in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    count: u32,
}

/// What is wrong with addresses.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Not a range.
    #[error(
        "`{0}` are no addresses: expected one (10.1.0.10) or a range (10.1.0.10-10.1.0.250), all of the same kind"
    )]
    Addresses(String),
    /// Not a range of ports.
    #[error("`{0}` are no ports: expected a range such as 1024-65535")]
    Ports(String),
}

impl Run {
    fn read(text: &str) -> Result<Self, PlanError> {
        let wrong = || PlanError::Addresses(text.to_owned());
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let bits = |text: &str| text.trim().parse::<Ipv4Addr>().map(Ipv4Addr::to_bits).map_err(|_| wrong());
        let (first, last) = (bits(first)?, bits(last)?);
        let count = last.checked_sub(first).and_then(|n| n.checked_add(1)).ok_or_else(wrong)?;
        Ok(Self { first, count })
    }

    fn get(self, n: u32) -> u32 {
        self.first.wrapping_add(n % self.count.max(1))
    }

    fn has(self, address: u32) -> bool {
        address.wrapping_sub(self.first) < self.count
    }
}

impl Plan {
    /// Clients from `clients` and `client_ports`, servers from `servers`, all at `server_port`.
    ///
    /// # Errors
    /// What is no range.
    pub fn read(
        clients: &str,
        client_ports: &str,
        servers: &str,
        server_port: u16,
    ) -> Result<Self, PlanError> {
        let wrong = || PlanError::Ports(client_ports.to_owned());
        let (first, last) = client_ports.split_once('-').unwrap_or((client_ports, client_ports));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let (first, last) = (port(first)?, port(last)?);
        if last < first {
            return Err(wrong());
        }
        Ok(Self {
            clients: Run::read(clients)?,
            client_ports: (first, last),
            servers: Run::read(servers)?,
            server_port,
        })
    }

    fn ports(&self) -> u32 {
        u32::from(self.client_ports.1 - self.client_ports.0) + 1
    }

    /// How many flows there are, none like another.
    #[must_use]
    pub fn flows(&self) -> u64 {
        u64::from(self.clients.count) * u64::from(self.ports()) * u64::from(self.servers.count)
    }

    /// The client of a flow.
    #[must_use]
    pub fn client(&self, flow: u32) -> End {
        let port = flow / self.clients.count.max(1) % self.ports();
        // Below the last port, which is one of 16 bits.
        (self.clients.get(flow), self.client_ports.0.saturating_add(port as u16))
    }

    /// The server of a flow.
    #[must_use]
    pub fn server(&self, flow: u32) -> End {
        let round = u64::from(flow) / (u64::from(self.clients.count.max(1)) * u64::from(self.ports()));
        // Below 2^32, for the flow is.
        (self.servers.get(round as u32), self.server_port)
    }

    /// True for the address of a client.
    #[must_use]
    pub fn is_client(&self, address: u32) -> bool {
        self.clients.has(address)
    }

    /// True for the address of a server.
    #[must_use]
    pub fn is_server(&self, address: u32) -> bool {
        self.servers.has(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_flows_are_alike() {
        let plan = Plan::read("10.1.0.10-10.1.0.16", "1024-1033", "198.51.100.2-198.51.100.4", 9).unwrap();
        assert_eq!(plan.flows(), 7 * 10 * 3);
        let flows: HashSet<_> = (0..210).map(|flow| (plan.client(flow), plan.server(flow))).collect();
        assert_eq!(flows.len(), 210);
        for ((client, port), (server, service)) in flows {
            assert!(plan.is_client(client) && !plan.is_server(client));
            assert!(plan.is_server(server) && !plan.is_client(server));
            assert!((1024..=1033).contains(&port) && service == 9);
        }
        // The next round begins anew.
        assert_eq!((plan.client(210), plan.server(210)), (plan.client(0), plan.server(0)));
    }

    #[test]
    fn all_ports_of_one_host() {
        let plan = Plan::read("10.1.0.2", "1-65535", "192.0.2.1", 9).unwrap();
        assert_eq!(plan.flows(), 65_535);
        assert_eq!(plan.client(65_534), (0x0a01_0002, 65_535));
        assert_eq!(plan.client(u32::MAX).0, 0x0a01_0002);
    }

    #[test]
    fn what_is_no_range_is_said() {
        let read = |clients, ports, servers| Plan::read(clients, ports, servers, 9).unwrap_err().to_string();
        assert!(read("10.1.0.9-10.1.0.2", "1-2", "192.0.2.1").contains("`10.1.0.9-10.1.0.2`"));
        assert!(read("10.1.0.2", "9-2", "192.0.2.1").contains("`9-2` are no ports"));
        assert!(read("10.1.0.2", "0-2", "192.0.2.1").contains("no ports"));
        assert!(read("10.1.0.2", "1-2", "everybody").contains("`everybody`"));
        assert!(read("0.0.0.0-255.255.255.255", "1-2", "192.0.2.1").contains("no addresses"));
    }
}
