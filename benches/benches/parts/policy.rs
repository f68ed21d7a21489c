//! The policy's answer to a new session, by the number of rules before the one that matches.

use benches::rig::flows;
use benches::rig::spec::Spec;
use criterion::{BenchmarkId, Criterion, criterion_group};
use dataplane::key::{Protocol, ZoneId};
use dataplane::policy::{Action, Query};
use std::hint::black_box;
use std::net::Ipv4Addr;

fn policy(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    for rules in [10, 100, 1_000, 10_000] {
        let spec = Spec { rules, ..Spec::plain(Protocol::Udp, 1024) };
        let built = spec.build().unwrap();
        let policy = built.shared.policy.load_full();
        let zone = |name: &str| {
            let at = policy.zones.iter().position(|z| z == name).unwrap();
            ZoneId(u16::try_from(at).unwrap())
        };
        let query = Query {
            from: zone("trust"),
            to: zone("untrust"),
            source: Ipv4Addr::from_bits(flows::inside(7).0).into(),
            destination: Ipv4Addr::from_bits(flows::destination(7)).into(),
            protocol: Protocol::Udp,
            sport: 1,
            dport: flows::SERVICE,
        };
        group.bench_function(BenchmarkId::new("last-of", rules), |b| {
            b.iter(|| {
                let decision = policy.evaluate(black_box(&query));
                assert_eq!(decision.action, Action::Allow);
                decision
            });
        });
    }
    group.finish();
}

criterion_group!(benches, policy);
