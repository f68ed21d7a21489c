//! What scenarios of FTP share.

use super::gateway::Gateway;
use dataplane::view::ExpectationState;
use std::net::Ipv4Addr;

/// `h1,h2,h3,h4,p1,p2`, as PORT and 227 write an endpoint.
pub fn six(addr: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = addr.octets();
    format!("{a},{b},{c},{d},{},{}", port >> 8, port & 255)
}

/// The published port of the one expectation that waits. Until the server agrees to PORT or EPRT it is not open yet.
pub fn published(gw: &Gateway) -> u16 {
    let waiting: Vec<_> = gw
        .expectations()
        .into_iter()
        .filter(|e| matches!(e.state, ExpectationState::Armed | ExpectationState::Inactive))
        .collect();
    assert_eq!(waiting.len(), 1, "{waiting:#?}");
    waiting[0].published.port
}
