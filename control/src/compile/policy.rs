//! Rules, NAT, timeouts and ALG profiles.

use super::network::prefix;
use crate::config::{
    Alg, AlgSettings, Config, ConfigError, Place, Problem, Report, Target, Translate, Zones,
};
use alg::rules::CommandPolicy;
use core::net::Ipv4Addr;
use dataplane::policy::{
    AlgMode, AlgProfile, AlgProfiles, Compiled, DestinationNat, DestinationTarget, Mode, NatAddress,
    NatTarget, Policy, PoolAddr, ProfileId, Rule, SourceNat, TooLarge, ZoneSet,
};
use ipnet::Ipv4Net;
use std::sync::Arc;

/// Compiles the policy. `nat_address` gives each translated address its place in the gateway's registry of port
/// spaces (the same address, the same place), or none if the registry is full.
///
/// # Errors
/// The registry is full, or the rules would take too much memory.
pub fn compile_policy(
    config: &Config,
    generation: u32,
    nat_address: &mut dyn FnMut(Ipv4Addr) -> Option<PoolAddr>,
) -> Result<Policy, Report> {
    let rules = config.rules.iter().map(|rule| Rule {
        name: rule.name.clone(),
        from: zone_set(&rule.from),
        to: zone_set(&rule.to),
        source: rule.source.clone(),
        destination: rule.destination.clone(),
        services: rule.services.clone(),
        action: rule.action,
        mode: rule.mode,
        log: rule.log,
        profiles: rule.profiles,
    });
    let mut registered = |addr: Ipv4Addr, place: Place, of: &str| match nat_address(addr) {
        Some(pool) => Ok(NatAddress { addr, pool }),
        None => Err(registry_full(config, addr, place, of)),
    };
    let mut interface_nat = Vec::new();
    for interface in &config.interfaces {
        let of = format!(" of interface \"{}\"", interface.name);
        let first = interface.addresses.first();
        interface_nat.push(first.map(|net| registered(net.addr(), interface.place, &of)).transpose()?);
    }
    let (mut source_nat, mut pools) = (Vec::new(), Vec::new());
    for nat in &config.nats {
        let translate = match &nat.translate {
            Translate::Interface => NatTarget::Interface,
            Translate::Nothing => NatTarget::Nothing,
            Translate::Pool(addresses) => {
                let pool = addresses.iter().map(|addr| registered(*addr, nat.place, ""));
                pools.push(pool.collect::<Result<Vec<_>, Report>>()?);
                // Every pool has an address, and the registry ends long before its numbers do.
                NatTarget::Pool(u16::try_from(pools.len() - 1).unwrap_or(u16::MAX))
            }
            Translate::Static { inside, outside } => {
                NatTarget::Static { inside: prefix(*inside), outside: prefix(*outside) }
            }
        };
        source_nat.push(SourceNat {
            from: zone_set(&nat.from),
            to: zone_set(&nat.to),
            source: nat.source.clone(),
            destination: nat.destination.clone(),
            translate,
            mapping: nat.mapping,
        });
    }
    let mut destination_nat = Vec::new();
    for nat in &config.destination_nats {
        let outside = nat.called.first().copied().unwrap_or_default();
        let target = match nat.target {
            Target::Host { addr, port } => {
                // An ALG may publish ports there that no entry leads on.
                for net in &nat.called {
                    registered(net.addr(), nat.place, "")?;
                }
                DestinationTarget::Host { addr, port }
            }
            Target::Network(inside) => {
                DestinationTarget::Network { outside: prefix(outside), inside: prefix(inside) }
            }
            Target::Nothing => DestinationTarget::Nothing,
        };
        destination_nat.push(DestinationNat {
            from: zone_set(&nat.from),
            called: nat.called.iter().copied().map(prefix).collect(),
            services: nat.services.clone(),
            target,
        });
    }
    let mut policy = Policy {
        generation,
        zones: config.zones.clone(),
        zone_settings: config.zone_settings.clone(),
        interface_nat,
        destination_nat,
        translated: runs(config.translated()),
        has_packet_rules: config.rules.iter().any(|rule| rule.mode == Mode::Packet),
        rules: rules.collect(),
        source_nat,
        pools,
        timeouts: config.timeouts,
        streams: config.streams,
        alg: alg_profiles(config),
        expectations: config.limits.expectations,
        host_share: u8::try_from(config.limits.host_share).unwrap_or(100),
        on_commit: config.gateway.on_commit,
        log_default_deny: config.log.deny,
        tcp_pick_up: false,
        compiled: Compiled::default(),
    };
    policy.compile().map_err(|error| too_large(config, &error))?;
    Ok(policy)
}

fn too_large(config: &Config, error: &TooLarge) -> Report {
    Report::from(ConfigError {
        file: config.file.clone(),
        place: None,
        problem: Problem::Conflict {
            what: format!("the policy is too large: {error}"),
            expected: "fewer rules, or rules whose addresses and ports overlap less".into(),
        },
        excerpt: None,
    })
}

/// Networks as runs of addresses, ascending and apart.
fn runs(networks: impl Iterator<Item = Ipv4Net>) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let mut networks: Vec<_> = networks.map(|net| (net.network(), net.broadcast())).collect();
    networks.sort_unstable();
    let mut runs: Vec<(Ipv4Addr, Ipv4Addr)> = Vec::new();
    for (first, last) in networks {
        match runs.last_mut() {
            // It begins within the last run, or right behind it.
            Some((_, end)) if first.to_bits() <= end.to_bits().saturating_add(1) => *end = last.max(*end),
            _ => runs.push((first, last)),
        }
    }
    runs
}

fn registry_full(config: &Config, addr: Ipv4Addr, place: Place, of: &str) -> Report {
    Report::from(ConfigError {
        file: config.file.clone(),
        place: Some(place),
        problem: Problem::Conflict {
            what: format!("no port space is left for {addr}{of}"),
            expected: "fewer translated addresses since the gateway started".into(),
        },
        excerpt: None,
    })
}

fn zone_set(zones: &Zones) -> ZoneSet {
    let Zones::Only(zones) = zones else { return ZoneSet([u64::MAX; 4]) };
    let mut set = [0; 4];
    for zone in zones {
        if let Some(word) = set.get_mut(usize::from(zone.0 / 64)) {
            *word |= 1 << (zone.0 % 64);
        }
    }
    ZoneSet(set)
}

fn alg_profiles(config: &Config) -> AlgProfiles {
    let by_rule = |place: usize| {
        let place = u8::try_from(place).ok();
        config.rules.iter().flat_map(|rule| rule.profiles).any(|named| named.is_some() && named == place)
    };
    let list = config.algs.iter().enumerate().map(|(place, alg)| AlgProfile {
        id: ProfileId::NONE,
        since: 0,
        name: alg.name.clone(),
        protocol: alg.protocol,
        mode: alg.mode,
        ports: alg.ports.clone(),
        detect: alg.detect,
        on_change: alg.on_change,
        by_rule: by_rule(place),
        overflow: alg.overflow,
        limits: alg.limits,
        settings: Arc::new(settings(alg)),
    });
    AlgProfiles::new(list.collect(), config.default_algs)
}

fn settings(alg: &Alg) -> alg::Profile {
    let AlgSettings {
        strict,
        third_party,
        lowest_port,
        ref forbidden_ports,
        encrypted,
        ftp,
        tftp,
        sip,
        rtsp,
    } = alg.settings;
    alg::Profile {
        strict: strict || alg.mode == AlgMode::Strict,
        watch: alg.mode == AlgMode::Monitor,
        third_party,
        lowest_port,
        // The configuration has no more than fit.
        forbidden_ports: forbidden_ports.iter().copied().take(alg::profile::MAX_FORBIDDEN).collect(),
        encrypted,
        rules: CommandPolicy::new(alg.rules.iter().cloned()),
        ftp,
        tftp,
        sip,
        rtsp,
    }
}
