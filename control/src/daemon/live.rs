//! The running gateway as the control socket sees it.

use super::check;
use super::clock::Clock;
use super::links::{Change, Seen};
use super::profiles;
use super::reload::{InForce, obstacles};
use crate::audit::Followers;
use crate::config::Config;
use crate::requests::Requests;
use crate::server::{
    AlgView, CountersView, Gateway, InterfaceCounters, InterfaceDetail, InterfaceView, InterfaceWorker,
    Names, PolicyView, Problem, Setting, StatusView, WorkerView, problems,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use dataplane::device::{Device, kernel_interface};
use dataplane::dpdk::EthPort;
use dataplane::dpdk::plan::Choice;
use dataplane::key::{InterfaceId, Tick, WorkerId};
use dataplane::policy::AlgProfile;
use dataplane::shared::{Lane, Shared};
use dataplane::view::{ExpectationState, ExpectationView, SessionView};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Marks a link that is up, above its speed.
const UP: u64 = 1 << 32;

/// The link of a device as the control core saw it last, how often it has changed, and whether the device is still there.
#[derive(Debug, Default)]
pub struct LinkCounts {
    /// Megabits per second, and [`UP`].
    state: AtomicU64,
    ups: AtomicU64,
    downs: AtomicU64,
    removed: AtomicBool,
    /// What both ends agreed on when the link came up last.
    agreed: ArcSwapOption<Choice>,
    /// What is to be said of receive queues that never receive.
    unused: ArcSwapOption<Choice>,
    /// Where the kernel says whether the interface has a carrier that the device stands on.
    carrier: Option<PathBuf>,
}

impl LinkCounts {
    /// Of a device that nobody has looked at yet.
    pub fn of(device: &Device) -> Self {
        let interface = kernel_interface(device);
        let carrier = interface.map(|name| Path::new("/sys/class/net").join(name).join("carrier"));
        Self { carrier, ..Self::default() }
    }

    /// Keeps what the ends of a link that has come up have agreed on. Answers it, if it lacks something.
    fn agree(&self, on: Option<Choice>) -> Option<Arc<Choice>> {
        let on = on.map(Arc::new);
        self.agreed.store(on.clone());
        on.filter(|choice| !choice.lacks.is_empty())
    }

    /// How a device is set up, with what was learned when its link came up, and since.
    fn settings(&self, chosen: &[Choice]) -> Vec<Choice> {
        let learned = [&self.agreed, &self.unused].into_iter().filter_map(|kept| kept.load_full());
        chosen.iter().cloned().chain(learned.map(|choice| (*choice).clone())).collect()
    }

    /// Whether the kernel says that there is no carrier. DPDK's drivers on kernel interfaces (`af_packet`) call their link up
    /// whatever the cable does. The file cannot be read while the interface is down; where there is none, nobody knows.
    fn lacks_carrier(&self) -> bool {
        let Some(path) = &self.carrier else { return false };
        match fs::read_to_string(path) {
            Ok(text) => text.trim() == "0",
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }
}

/// The running gateway.
pub struct Live {
    /// State of the dataplane.
    pub shared: Arc<Shared>,
    /// Names of zones and rules; a reload changes them.
    pub names: Arc<ArcSwap<Names>>,
    /// Time.
    pub clock: Clock,
    /// The configuration file, as given.
    pub file: String,
    /// The core of each worker.
    pub cores: Vec<u16>,
    /// Interfaces and the numbers of their ports. A reload cannot change them.
    pub interfaces: Vec<(InterfaceView, u16)>,
    /// Ports by number.
    pub ports: Vec<EthPort>,
    /// By port: driver, and how it is set up.
    pub devices: Vec<(String, Vec<Choice>)>,
    /// By port. The control core writes.
    pub links: Vec<LinkCounts>,
    /// The configuration in force.
    pub in_force: Arc<ArcSwap<InForce>>,
    /// The way to the control core.
    pub requests: Requests,
    /// The audit records as they are written.
    pub followers: Followers,
}

impl Live {
    /// The interfaces of a configuration with their ports. `macs` are the addresses that they use.
    pub fn interfaces(config: &Config, macs: impl IntoIterator<Item = [u8; 6]>) -> Vec<(InterfaceView, u16)> {
        let view = |interface: &crate::config::Interface, mac| InterfaceView {
            name: interface.name.clone(),
            device: interface.device.to_string(),
            zone: config.zones.get(usize::from(interface.zone.0)).cloned().unwrap_or_default(),
            addresses: interface.addresses.iter().map(ToString::to_string).collect(),
            mac,
            vlan: interface.vlan,
            link_up: false,
            link_mbps: 0,
            mtu: u32::from(interface.mtu),
            counters: None,
            lacks: Vec::new(),
        };
        config
            .interfaces
            .iter()
            .zip(macs)
            .map(|(interface, mac)| (view(interface, mac), interface.port))
            .collect()
    }

    /// A device now. The control core's alone: a driver that is asked by two threads at once may say that a link is down that
    /// is not (e1000 reads its PHY in steps). Others are told what this saw.
    pub fn look(&self, number: usize) -> Seen {
        let Some(port) = self.ports.get(number) else { return Seen::default() };
        let (link, removed) = (port.link(), port.removed());
        let counts = self.links.get(number);
        let up = link.up && !removed && !counts.is_some_and(LinkCounts::lacks_carrier);
        let seen = Seen { up, mbps: link.speed.unwrap_or(0), removed };
        if let Some(counts) = counts {
            let up = if seen.up { UP } else { 0 };
            counts.state.store(up | u64::from(seen.mbps), Ordering::Relaxed);
        }
        seen
    }

    /// Asks a device whose link has come up what both ends have agreed on, for all who ask later. Answers it, if it lacks
    /// something. The control core's alone.
    pub fn agree(&self, number: usize) -> Option<Arc<Choice>> {
        self.links.get(number)?.agree(self.ports.get(number)?.flow_control())
    }

    /// Keeps what is to be said of receive queues that never receive. The control core's alone.
    pub fn tell_unused(&self, number: usize, what: Option<Choice>) {
        if let Some(counts) = self.links.get(number) {
            counts.unused.store(what.map(Arc::new));
        }
    }

    /// How a port is set up.
    pub fn settings(&self, number: usize) -> Vec<Choice> {
        let chosen = self.devices.get(number).map_or(&[][..], |(_, choices)| choices);
        self.links.get(number).map_or_else(|| chosen.to_vec(), |counts| counts.settings(chosen))
    }

    /// Whether the link of a port was up when it was last looked at, and its megabits per second.
    fn link(&self, port: u16) -> (bool, u32) {
        let state =
            self.links.get(usize::from(port)).map_or(0, |counts| counts.state.load(Ordering::Relaxed));
        // The low half.
        (state & UP != 0, state as u32)
    }

    /// Counts a change of a device.
    pub fn count(&self, port: usize, change: Change) {
        let Some(counts) = self.links.get(port) else { return };
        match change {
            Change::Up => counts.ups.fetch_add(1, Ordering::Relaxed),
            Change::Down => counts.downs.fetch_add(1, Ordering::Relaxed),
            Change::Removed => u64::from(counts.removed.swap(true, Ordering::Relaxed)),
        };
    }

    /// What could not be had of a port, in words.
    fn lacks(&self, port: u16) -> Vec<String> {
        let choices = self.settings(usize::from(port));
        let lacking = choices.iter().filter(|choice| !choice.lacks.is_empty());
        lacking.map(|choice| format!("{}: {}; {}", choice.what, choice.chosen, choice.lacks)).collect()
    }

    /// What each worker counted on an interface.
    fn workers_on(&self, id: InterfaceId) -> Vec<InterfaceWorker> {
        let of = |(worker, lane): (WorkerId, &Lane)| {
            let counters = lane.interfaces.get(usize::from(id.0))?;
            let [rx_packets, _, tx_packets, _] = counters.read();
            Some(InterfaceWorker {
                worker: worker.0,
                rx_packets,
                handed_off: counters.handed_off(),
                tx_packets,
            })
        };
        self.lanes().filter_map(of).collect()
    }

    fn lanes(&self) -> impl Iterator<Item = (WorkerId, &Lane)> {
        (0..=u8::MAX).map(WorkerId).zip(self.shared.lanes())
    }
}

impl Gateway for Live {
    fn status(&self) -> StatusView {
        let core = |id: WorkerId| self.cores.get(usize::from(id.0)).copied().map(u32::from);
        let workers = self.lanes().map(|(id, lane)| WorkerView::of(id, core(id), &lane.counters));
        let ids = (0..=u16::MAX).map(InterfaceId);
        let interfaces = self.interfaces.iter().zip(ids).filter_map(|((view, port), id)| {
            let view_port = *port;
            let port = self.ports.get(usize::from(view_port))?;
            let (link_up, link_mbps) = self.link(view_port);
            let s = port.stats();
            // What workers saw is of this interface alone; what the device lost is of all that share it.
            let [rx_packets, rx_bytes, tx_packets, tx_bytes] = self.shared.interface_total(id);
            let counters = InterfaceCounters {
                rx_packets,
                rx_bytes,
                tx_packets,
                tx_bytes,
                rx_missed: s.rx_missed,
                rx_errors: s.rx_errors,
                rx_no_buffer: s.rx_no_buffer,
                tx_errors: s.tx_errors,
                handed_off: self.workers_on(id).iter().map(|worker| worker.handed_off).sum(),
            };
            Some(InterfaceView {
                lacks: self.lacks(view_port),
                link_up,
                link_mbps,
                counters: Some(counters),
                ..view.clone()
            })
        });
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: self.clock.uptime_ms(),
            workers: workers.collect(),
            sessions_in_use: self.shared.sessions_in_use(),
            sessions_capacity: u64::from(self.shared.arena.capacity()),
            expectations_in_use: u64::from(self.shared.expectations.published()),
            expectations_capacity: u64::from(self.shared.expectations.capacity()),
            policy_generation: self.shared.policy.load().generation,
            config_file: self.file.clone(),
            interfaces: interfaces.collect(),
        }
    }

    fn interface(&self, name: &str) -> Option<InterfaceDetail> {
        let ids = (0..=u16::MAX).map(InterfaceId);
        let ((_, port), id) = self.interfaces.iter().zip(ids).find(|((view, _), _)| view.name == name)?;
        let view = self.status().interfaces.into_iter().find(|view| view.name == name)?;
        let (driver, _) = self.devices.get(usize::from(*port))?;
        let counts = self.links.get(usize::from(*port))?;
        let setting = |c: Choice| Setting { what: c.what.to_owned(), chosen: c.chosen, lacks: c.lacks };
        Some(InterfaceDetail {
            view,
            driver: driver.clone(),
            settings: self.settings(usize::from(*port)).into_iter().map(setting).collect(),
            workers: self.workers_on(id),
            link_ups: counts.ups.load(Ordering::Relaxed),
            link_downs: counts.downs.load(Ordering::Relaxed),
            removed: counts.removed.load(Ordering::Relaxed),
            xstats: self.ports.get(usize::from(*port))?.xstats(),
        })
    }

    fn session_capacity(&self) -> u32 {
        self.shared.arena.records()
    }

    fn session(&self, index: u32) -> Option<SessionView> {
        self.shared.arena.view(index)
    }

    fn expectation_capacity(&self) -> u32 {
        self.shared.expectations.capacity()
    }

    fn expectation(&self, index: u32) -> Option<ExpectationView> {
        self.shared.expectations.view(index).filter(|view| view.state != ExpectationState::Free)
    }

    fn counters(&self) -> Vec<CountersView> {
        self.lanes().map(|(id, lane)| CountersView::of(id, &lane.counters)).collect()
    }

    fn names(&self) -> Arc<Names> {
        self.names.load_full()
    }

    fn algs(&self) -> Vec<AlgView> {
        let policy = self.shared.policy.load();
        let view = |profile: &AlgProfile| AlgView {
            name: profile.name.clone(),
            protocol: profile.protocol.name(),
            mode: profile.mode.name(),
            ports: profile.ports().to_vec(),
            default: policy.alg.is_default(profile),
            profile: profile.id,
            since: profile.since,
            options: profiles::options(profile),
        };
        policy.alg.list().iter().map(view).collect()
    }

    fn policy(&self) -> Arc<PolicyView> {
        Arc::clone(&self.in_force.load().view)
    }

    fn check(&self, name: &str, text: &str) -> Result<Config, Vec<Problem>> {
        let checked = Config::parse(name, text).and_then(|config| check::compile(&config).map(|()| config));
        checked.map_err(|report| problems(&report))
    }

    fn restart_needed(&self, candidate: &Config) -> Vec<String> {
        obstacles(&self.in_force.load().config, candidate)
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    fn followers(&self) -> &Followers {
        &self.followers
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_agreed_on_is_told_with_the_settings_and_replaced_by_the_next() {
        let (counts, chosen) = (LinkCounts::default(), [Choice::new("queues", "2")]);
        assert_eq!(counts.settings(&chosen), chosen);
        let off = Choice::new("flow control in force", "off");
        assert_eq!(counts.agree(Some(off.clone())), None, "nothing lacks");
        assert_eq!(counts.settings(&chosen), [chosen[0].clone(), off]);
        let on = Choice::new("flow control in force", "on").but("all wait");
        assert_eq!(counts.agree(Some(on.clone())).as_deref(), Some(&on));
        assert_eq!(counts.settings(&chosen), [chosen[0].clone(), on]);
        // What is learned of its queues later stands behind it, as long as it is so.
        let unused = Choice::new("queues in use", "1 of 2").but("the other never receives");
        counts.unused.store(Some(Arc::new(unused.clone())));
        assert_eq!(counts.settings(&chosen).last(), Some(&unused));
        counts.unused.store(None);
        // A device that does not tell, or no longer.
        assert_eq!(counts.agree(None), None);
        assert_eq!(counts.settings(&chosen), chosen);
    }
}
