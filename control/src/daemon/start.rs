//! From a configuration file to a running gateway, and back to nothing.

use super::clock::Clock;
use super::crew::{Common, Crew};
use super::failure::Failure;
use super::idle::Rest;
use super::journal::Journal;
use super::links::Links;
use super::live::{LinkCounts, Live};
use super::logging::Logging;
use super::reload::{self, InForce, Running};
use super::signals::Signals;
use super::{devices, say, sizes, watch};
use crate::audit::{Followers, Names, WallClock};
use crate::compile::{compile_interfaces, compile_policy, compile_setup};
use crate::core::Core;
use crate::neighbors::Neighbors;
use crate::requests;
use crate::server::{Server, StartError};
use arc_swap::ArcSwap;
use dataplane::dpdk::Eal;
use dataplane::handoff::Grid;
use dataplane::memory;
use dataplane::shared::{MAX_WORKERS, SetupError, Shared};
use dataplane::view::CloseReason;
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// Generation of the first policy.
const FIRST: u32 = 1;

/// Runs the gateway until a signal ends it.
///
/// # Errors
/// One sentence that says what is in the way.
pub fn serve(file: &Path) -> Result<(), Failure> {
    let candidate = reload::read(file)?;
    let config = candidate.config.clone();
    let logging = Logging::start(config.log.level);
    let signals = Signals::listen()?;
    let cores = config.dataplane.worker_cores(last_core());
    let workers = u16::try_from(cores.len())
        .ok()
        .filter(|count| usize::from(*count) <= MAX_WORKERS)
        .ok_or(SetupError::Workers(cores.len()))?;
    leave_cores_to(&cores);

    // What can be known before DPDK takes the devices. Nothing of another daemon is touched.
    nobody_listens(&config.control.socket)?;
    let clock = Clock::start();
    sizes::check(&config, devices::node)?;
    let pools = sizes::wanted(&config, cores.len(), devices::node);
    let shared = {
        // Where the first pool is: `hugepage-setup` counts on it.
        let _near = memory::prefer_node(pools.first().and_then(|pool| pool.node));
        Shared::new(compile_setup(&config, cores.len(), seed()?))?
    };
    let registry = Arc::clone(&shared.registry);
    let policy = compile_policy(&config, FIRST, &mut |addr| registry.register(addr))?;
    let names = Arc::new(Names::of(&policy));
    let followers = Followers::default();
    let wall = WallClock::new(clock.wall);
    let journal = Journal::open(&config.log.audit, wall, Arc::clone(&names), followers.clone())?;

    // Dropped in the opposite order at every return: threads, packets in rings, ports, buffers, DPDK.
    let eal = Eal::init(&sizes::eal(&config, workers, &pools, std::process::id()))?;
    let mut planned = devices::plan(&eal, &config, &cores, &shared.home)?;
    let pools = devices::Pools::create(&eal, &config, &planned)?;
    let ports = devices::configure(&eal, &config, &mut planned, &pools, &shared.home)?;
    let macs: Vec<[u8; 6]> = ports.iter().map(|port| port.mac()).collect();

    let network = compile_interfaces(&config, &macs);
    let neighbors = Neighbors::new(network.interfaces.clone(), &network.neighbors);
    let mut core = Core::new(Arc::clone(&shared), neighbors, journal)?;
    core.publish_network(&network);
    core.publish_policy(policy);

    let grid = Grid::new(cores.len());
    let queues = devices::start(&config, &ports, &mut planned, workers)?;
    let rest = Rest::of(&config);
    let pools = pools.of_workers(&cores);
    let common = Common { eal, shared: Arc::clone(&shared), grid, pools, clock, rest };
    let crew = Crew::start(&common, &cores, queues)?;
    core.announce();

    let names = Arc::new(ArcSwap::new(names));
    let in_force = Arc::new(ArcSwap::from_pointee(InForce::new(FIRST, candidate)));
    let (requests, inbox) = requests::channel();
    let used = network.interfaces.iter().map(|interface| interface.mac);
    let plans = planned.iter().map(|p| p.plan.clone()).collect();
    let live = Live {
        shared: Arc::clone(&shared),
        names: Arc::clone(&names),
        clock,
        file: file.display().to_string(),
        interfaces: Live::interfaces(&config, used),
        links: config.ports().iter().map(|needs| LinkCounts::of(needs.device)).collect(),
        devices: planned.into_iter().map(|p| (p.nic.driver, p.plan.choices)).collect(),
        ports,
        cores,
        in_force: Arc::clone(&in_force),
        requests,
        followers,
    };
    let live = Arc::new(live);
    // Who asks about links is told what these have seen: they look before anybody can ask.
    let mut links = Links::new(Arc::clone(&live), plans);
    let server = Server::start(&config.control.socket, Arc::<Live>::clone(&live))?;
    links.tell_lacks(core.records());

    say(&format_args!(
        "ready: {workers} workers, {} interfaces, {} rules, {:.0} bytes per session, control socket {}",
        config.interfaces.len(),
        config.rules.len(),
        shared.bytes_per_session() + Core::<Journal>::BYTES_PER_SESSION as f64,
        config.control.socket.display()
    ));
    let file = file.to_owned();
    let mut running = Running { file, in_force, macs, names, shared, clock, logging };
    let ended = watch::watch(&mut running, &mut core, inbox, &crew, &signals, &mut links);

    tracing::info!("ending");
    crew.stop();
    let now = clock.now();
    core.records().set_time(now);
    core.close_all(now, CloseReason::Shutdown);
    core.records().flush();
    server.stop();
    drop((links, live, common));
    ended
}

/// The last core that this process may use.
pub(super) fn last_core() -> u16 {
    let last = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).max();
    last.and_then(|core| u16::try_from(core).ok()).unwrap_or(0)
}

/// Moves this thread, and those that it will start, to a core that no worker polls on, if there is one.
fn leave_cores_to(workers: &[u16]) {
    let busy = |core: usize| workers.iter().any(|worker| usize::from(*worker) == core);
    let free = core_affinity::get_core_ids().unwrap_or_default().into_iter().find(|core| !busy(core.id));
    if let Some(core) = free
        && !core_affinity::set_for_current(core)
    {
        tracing::warn!("the control core shares the workers' cores: cannot move to core {}", core.id);
    }
}

/// No other daemon answers on the socket. [`Server::start`] asks again; this is to know it before devices are taken.
fn nobody_listens(socket: &Path) -> Result<(), Failure> {
    match UnixStream::connect(socket) {
        Ok(_) => Err(StartError::Taken(socket.to_owned()).into()),
        Err(_) => Ok(()),
    }
}

/// Random bits from the kernel.
fn seed() -> Result<[u64; 4], Failure> {
    let mut seed = [0; 4];
    let mut read = || -> std::io::Result<()> {
        let mut source = File::open("/dev/urandom")?;
        for word in &mut seed {
            let mut bytes = [0; 8];
            source.read_exact(&mut bytes)?;
            *word = u64::from_ne_bytes(bytes);
        }
        Ok(())
    };
    read().map_err(|source| Failure::System { action: "read /dev/urandom", source })?;
    Ok(seed)
}
