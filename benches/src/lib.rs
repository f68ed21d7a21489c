//! What the benchmarks share: flows that look like traffic, and a gateway that publishes ports without keeping any.

pub mod gateway;
pub mod plot;
#[cfg(target_arch = "x86_64")]
pub mod rig;

use alg::{Endpoint, FlowContext, Gateway, Parity, PublishError, Side, Transport};
use dataplane::key::{FlowKey, Protocol, ZoneId};
use std::net::{IpAddr, Ipv4Addr};

/// Key number `n`: clients of one /16 that open TCP connections to a few servers.
#[must_use]
pub fn key(n: u32) -> FlowKey {
    let client = Ipv4Addr::from_bits(0x0a01_0000 | (n & 0xffff));
    let server = Ipv4Addr::from_bits(0xc633_6400 | (n % 200 + 2));
    let port = 1024 + u16::try_from((n >> 16) % 60_000).unwrap_or(0);
    FlowKey::v4(Protocol::Tcp, ZoneId(0), (client, port), (server, 443))
}

/// An FTP control connection from 10.1.0.2 to 198.51.100.2 that is translated to 198.51.100.1.
#[must_use]
pub fn ftp_flow() -> FlowContext {
    let end = |a: [u8; 4], port| Endpoint::new(IpAddr::from(a), port);
    FlowContext {
        id: 1,
        group: 1,
        turned: false,
        transport: Transport::Tcp,
        now_ms: 0,
        initiator: end([10, 1, 0, 2], 40_000),
        initiator_translated: end([198, 51, 100, 1], 20_001),
        responder: end([198, 51, 100, 2], 21),
        responder_translated: end([198, 51, 100, 2], 21),
    }
}

/// Publishes every endpoint of the initiator on the same outside port.
#[derive(Debug, Default)]
pub struct OnePort;

impl Gateway for OnePort {
    fn publish(
        &mut self,
        side: Side,
        _transport: Transport,
        endpoint: Endpoint,
        _count: u16,
        _parity: Parity,
    ) -> Result<Endpoint, PublishError> {
        Ok(match side {
            Side::Initiator => Endpoint::new(IpAddr::from([198, 51, 100, 1]), 30_001),
            Side::Responder => endpoint,
        })
    }

    fn to_inside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }

    fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_differ() {
        let keys: HashSet<_> = (0..1_000_000).map(key).collect();
        assert_eq!(keys.len(), 1_000_000);
    }
}
