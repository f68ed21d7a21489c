//! From the gateway's types to the schema's.

use super::gateway::{
    AlgView, Count, CountersView, InterfaceCounters, InterfaceDetail, InterfaceView, InterfaceWorker,
    Problem, Setting, StatusView, WorkerView,
};
use crate::audit::clock::elapsed_ms;
use crate::audit::names::{Names, id};
use crate::audit::record::{destination, source};
use control_api::v1;
use dataplane::key::Tick;
use dataplane::view::{ExpectationView, SessionView};

pub(super) fn status(view: StatusView) -> v1::StatusResponse {
    v1::StatusResponse {
        version: view.version,
        uptime_ms: view.uptime_ms,
        workers: view.workers.into_iter().map(worker).collect(),
        sessions: Some(v1::Usage { in_use: view.sessions_in_use, capacity: view.sessions_capacity }),
        expectations: Some(v1::Usage {
            in_use: view.expectations_in_use,
            capacity: view.expectations_capacity,
        }),
        policy_generation: view.policy_generation,
        config_file: view.config_file,
        interfaces: view.interfaces.into_iter().map(interface).collect(),
    }
}

fn worker(view: WorkerView) -> v1::Worker {
    v1::Worker {
        id: view.id.into(),
        core: view.core,
        rx_packets: view.rx_packets,
        tx_packets: view.tx_packets,
        sessions_opened: view.sessions_opened,
        drops: view.drops,
    }
}

pub(super) fn interface(view: InterfaceView) -> v1::Interface {
    v1::Interface {
        name: view.name,
        device: view.device,
        zone: view.zone,
        addresses: view.addresses,
        mac: view.mac.map(|byte| format!("{byte:02x}")).join(":"),
        link_up: view.link_up,
        link_mbps: view.link_mbps,
        mtu: view.mtu,
        vlan: view.vlan.map_or(0, u32::from),
        counters: view.counters.map(interface_counters),
        lacks: view.lacks,
    }
}

pub(super) fn interface_detail(detail: InterfaceDetail) -> v1::ShowInterfaceResponse {
    let setting = |Setting { what, chosen, lacks }| v1::Setting { what, chosen, lacks };
    let worker = |w: InterfaceWorker| v1::InterfaceWorker {
        worker: u32::from(w.worker),
        rx_packets: w.rx_packets,
        handed_off: w.handed_off,
        tx_packets: w.tx_packets,
    };
    let xstat = |(name, value)| v1::Counter { name, value, help: String::new() };
    v1::ShowInterfaceResponse {
        interface: Some(interface(detail.view)),
        driver: detail.driver,
        settings: detail.settings.into_iter().map(setting).collect(),
        workers: detail.workers.into_iter().map(worker).collect(),
        link_ups: detail.link_ups,
        link_downs: detail.link_downs,
        removed: detail.removed,
        xstats: detail.xstats.into_iter().map(xstat).collect(),
    }
}

fn interface_counters(c: InterfaceCounters) -> v1::InterfaceCounters {
    v1::InterfaceCounters {
        rx_packets: c.rx_packets,
        rx_bytes: c.rx_bytes,
        tx_packets: c.tx_packets,
        tx_bytes: c.tx_bytes,
        rx_missed: c.rx_missed,
        rx_errors: c.rx_errors,
        rx_no_buffer: c.rx_no_buffer,
        tx_errors: c.tx_errors,
        handed_off: c.handed_off,
    }
}

pub(super) fn alg(view: AlgView, sessions: u64) -> v1::Alg {
    v1::Alg {
        protocol: view.protocol.to_owned(),
        mode: view.mode.to_owned(),
        ports: view.ports.into_iter().map(u32::from).collect(),
        name: view.name,
        default: view.default,
        sessions,
        options: view
            .options
            .into_iter()
            .map(|(key, value)| v1::AlgOption { key: key.to_owned(), value })
            .collect(),
    }
}

/// What the ALGs of all workers counted.
pub(super) fn alg_counters(workers: Vec<CountersView>) -> Vec<v1::Counter> {
    let mut sums: Vec<v1::Counter> = Vec::new();
    let all = workers.into_iter().flat_map(|worker| worker.counters);
    for c in all.filter(|c| c.name.starts_with("alg-") || c.name.starts_with("expectations-")) {
        match sums.iter_mut().find(|sum| sum.name == c.name) {
            Some(sum) => sum.value = sum.value.saturating_add(c.value),
            None => sums.push(counter(c)),
        }
    }
    sums
}

fn counter(c: Count) -> v1::Counter {
    v1::Counter { name: c.name.to_owned(), value: c.value, help: c.help.to_owned() }
}

fn endpoint(of: alg::Endpoint) -> Option<v1::Endpoint> {
    Some(v1::Endpoint { address: of.addr.to_string(), port: of.port.into() })
}

pub(super) fn session(view: &SessionView, names: &Names, now: Tick) -> v1::Session {
    v1::Session {
        id: id(view.id),
        parent: view.parent.map(id).unwrap_or_default(),
        worker: view.owner.0.into(),
        protocol: view.forward.protocol.name().to_owned(),
        state: view.state.name().to_owned(),
        source: endpoint(source(&view.forward)),
        destination: endpoint(destination(&view.forward)),
        translated_source: endpoint(destination(&view.reverse)),
        translated_destination: endpoint(source(&view.reverse)),
        from_zone: names.zone(view.forward.scope).into_owned(),
        to_zone: names.zone(view.reverse.scope).into_owned(),
        rule: names.rule(view.rule, view.policy_generation).into_owned(),
        application: view.application.name().to_owned(),
        alg: view.alg,
        policy_generation: view.policy_generation,
        age_ms: elapsed_ms(now, view.created),
        idle_ms: elapsed_ms(now, view.last_seen),
        forward_packets: view.packets[0],
        reverse_packets: view.packets[1],
        forward_bytes: view.bytes[0],
        reverse_bytes: view.bytes[1],
        children: view.children.into(),
        alg_blind: view.blindness.map_or("", alg::Blindness::name).to_owned(),
        alg_bound_by: view.bound_by.name().to_owned(),
    }
}

pub(super) fn expectation(view: &ExpectationView, now: Tick) -> v1::Expectation {
    v1::Expectation {
        id: id(view.id),
        state: view.state.name().to_owned(),
        worker: view.owner.0.into(),
        parent: id(view.parent),
        opener: view.opener_text(),
        published: endpoint(view.published),
        listener: endpoint(view.listener),
        application: view.application.name().to_owned(),
        expires_in_ms: view.expires.since(now).into(),
        class: view.class.name().to_owned(),
        tag: view.tag,
        one_shot: !view.many,
        uses: view.uses,
        children: view.children,
        protocol: view.protocol.name().to_owned(),
        last_port: view.last_port.into(),
        reverse: view.reverse.and_then(endpoint),
    }
}

pub(super) fn counters(view: CountersView, all: bool) -> v1::WorkerCounters {
    let counts =
        |counts: Vec<Count>| counts.into_iter().filter(|c| all || c.value != 0).map(counter).collect();
    v1::WorkerCounters {
        worker: view.worker.0.into(),
        counters: counts(view.counters),
        drops: counts(view.drops),
    }
}

pub(super) fn problem(problem: Problem) -> v1::Problem {
    v1::Problem {
        line: problem.line,
        column: problem.column,
        message: problem.message,
        expected: problem.expected,
    }
}
