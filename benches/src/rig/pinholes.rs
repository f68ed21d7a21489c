//! Pinholes that wait for children while other traffic runs, which meets none of them.

use alg::{Application, Endpoint};
use core::net::{IpAddr, Ipv4Addr};
use dataplane::event::Ref;
use dataplane::expect::{Init, Reverse};
use dataplane::key::{FlowKey, Protocol, Tick, WorkerId, ZoneId};
use dataplane::policy::{Log, Mapping, RuleId};
use dataplane::shared::Shared;
use dataplane::view::ExpectationClass;

/// Ports of one published address.
const PORTS: u32 = 60_000;
const FIRST_PORT: u16 = 1_024;

/// Arms so many, of the classes by turns, that lead to hosts behind the gateway. Answers how many it did.
pub fn arm(shared: &Shared, count: u32) -> u32 {
    let parent = (0..shared.arena.records()).find_map(|index| shared.arena.view(index)).map(|view| view.id);
    let Some(parent) = parent else { return 0 };
    let share = shared.expectations.share_of(WorkerId(0));
    let opened = (0..count)
        .zip(share)
        .filter(|(n, index)| shared.expectations.open(*index, &pinhole(*n, parent)).is_ok());
    u32::try_from(opened.count()).unwrap_or(u32::MAX)
}

/// The `n`th: as a call's media have them, from one port, from any port of a host, or from any host.
fn pinhole(n: u32, parent: Ref) -> Init {
    let (address, port) = (n / PORTS, n % PORTS);
    let port = FIRST_PORT.saturating_add(u16::try_from(port).unwrap_or_default());
    let published = Ipv4Addr::from_bits(Ipv4Addr::new(203, 0, 113, 0).to_bits() + address);
    let (opener, far) = (Ipv4Addr::new(192, 0, 2, 1), 40_000);
    let (class, source) = match n % 3 {
        0 => (ExpectationClass::Exact, (opener, far)),
        1 => (ExpectationClass::AnyPort, (opener, 0)),
        _ => (ExpectationClass::AnyHost, (Ipv4Addr::UNSPECIFIED, 0)),
    };
    let listener = Endpoint::new(
        IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 200, 0, 0).to_bits() + address)),
        port,
    );
    // Media may be spoken from either end.
    let reverse = (class == ExpectationClass::Exact).then(|| {
        let end = Endpoint::new(IpAddr::V4(opener), far);
        Reverse { seen: end, real: end }
    });
    Init {
        owner: WorkerId(0),
        by_home: false,
        class,
        key: FlowKey::v4(Protocol::Udp, ZoneId(2), source, (published, port)),
        last_port: 0,
        listener,
        listener_scope: ZoneId(1),
        reverse,
        opener_nat: None,
        opener_mapping: Mapping::EndpointIndependent,
        keeps_port: false,
        many: false,
        armed: true,
        tag: n,
        parent,
        rule: RuleId(0),
        policy_generation: 1,
        log: Log::default(),
        application: Application::Rtp,
        binding: None,
        expires: Tick(u32::MAX / 2),
    }
}
