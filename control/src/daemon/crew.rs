//! The worker threads: started together, ended together.

use super::clock::Clock;
use super::failure::Failure;
use super::idle::{Idling, Rest, Step};
use dataplane::dpdk::pause::Pause;
use dataplane::dpdk::{Eal, EthQueue, LcoreError, Mbuf, Mempool, lcore};
use dataplane::handoff::Grid;
use dataplane::key::WorkerId;
use dataplane::shared::Shared;
use dataplane::worker::Worker;
use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Pause between two looks at whether the other workers have stopped.
const STOPPING: Duration = Duration::from_micros(100);

/// What all workers share.
#[derive(Clone)]
pub struct Common {
    /// DPDK.
    pub eal: Eal,
    /// The gateway's state.
    pub shared: Arc<Shared>,
    /// Rings among the workers.
    pub grid: Arc<Grid<Mbuf>>,
    /// Where each worker takes packets of its own from.
    pub pools: Vec<Mempool>,
    /// Time.
    pub clock: Clock,
    /// What an idle worker does; none polls without pause.
    pub rest: Option<Rest>,
}

/// Running workers. Dropping it stops them.
pub struct Crew {
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
}

/// When to stop, and who still polls.
struct Gate {
    stop: AtomicBool,
    polling: AtomicUsize,
}

impl Crew {
    /// Starts worker `i` on core `cores[i]` with `queues[i]`. When this returns, all of them poll.
    ///
    /// # Errors
    /// A core that does not exist or is not ours, or no thread. Those that were started are stopped.
    pub fn start(common: &Common, cores: &[u16], queues: Vec<Vec<EthQueue>>) -> Result<Self, Failure> {
        let gate = Gate { stop: AtomicBool::new(false), polling: AtomicUsize::new(0) };
        let mut crew = Self { gate: Arc::new(gate), threads: Vec::with_capacity(cores.len()) };
        let (tell, told) = channel();
        let each = cores.iter().zip(queues).zip(&common.pools);
        for (((core, queues), pool), number) in each.zip(0..=u8::MAX) {
            let task = Task {
                common: common.clone(),
                pool: pool.clone(),
                id: WorkerId(number),
                core: usize::from(*core),
                queues,
                tell: tell.clone(),
            };
            // Counted before it runs, so that nobody who stops believes to be the last too early.
            let place = Place::take(&crew.gate);
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || task.work(place))
                .map_err(|source| Failure::System { action: "start a worker's thread", source })?;
            crew.threads.push(thread);
        }
        drop(tell);
        // Ends when all have told, or are gone without a word.
        let mut ready = 0;
        for (worker, result) in told {
            result.map_err(|source| Failure::Worker { worker: worker.0, source })?;
            ready += 1;
        }
        if ready < crew.threads.len() { Err(Failure::WorkerLost) } else { Ok(crew) }
    }

    /// True while every worker is there.
    pub fn is_whole(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Stops them: they finish their poll, and what is on its way between them is dropped and counted.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.gate.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker ended with a panic");
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.join();
    }
}

/// A worker's place among those that poll. Given back when dropped, however its thread ends.
struct Place(Arc<Gate>);

impl Place {
    fn take(gate: &Arc<Gate>) -> Self {
        gate.polling.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(gate))
    }

    fn stopped(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.polling.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What one thread is given.
struct Task {
    common: Common,
    pool: Mempool,
    id: WorkerId,
    core: usize,
    queues: Vec<EthQueue>,
    tell: Sender<(WorkerId, Result<(), LcoreError>)>,
}

impl Task {
    /// The thread.
    fn work(self, place: Place) {
        let Self { common, pool, id, core, queues, tell } = self;
        let Common { eal, shared, grid, clock, rest, .. } = common;
        // Lives longer than the worker: its packets go back through this lcore's cache.
        let _lcore = match lcore::register(&eal, Some(core)) {
            Ok(lcore) => lcore,
            Err(error) => {
                drop(queues);
                let _ = tell.send((id, Err(error)));
                return;
            }
        };
        let mut worker = Worker::new(shared, grid, id, queues, pool);
        let _ = tell.send((id, Ok(()))); // nobody listens: we are about to be stopped
        drop(tell);

        let (mut idling, pause) = (Idling::new(rest), Pause::new());
        while !place.stopped() {
            if worker.poll(clock.now()) > 0 {
                idling.worked();
                continue;
            }
            // One poll after a rest: what ended the silence comes in bursts.
            match idling.idle() {
                Step::Poll => hint::spin_loop(),
                Step::Pause(time) => pause.wait(time),
                Step::Sleep(time) => {
                    worker.rest();
                    thread::sleep(time);
                }
            }
        }
        // Nobody hands over any more once nobody polls.
        let gate = Arc::clone(&place.0);
        drop(place);
        worker.rest();
        while gate.polling.load(Ordering::Acquire) > 0 {
            thread::sleep(STOPPING);
        }
        worker.shut_down();
    }
}
