//! What the models of the session path share: a small world, and the steps of a worker in it.
//!
//! `publish`, `unlink`, `free`, `find` and `owner` take the same steps in the same order as the stages `admit` and
//! `lookup` and the worker's `unlink` and `free`. Those need a whole worker with ports and a policy, whose state says
//! nothing about the races here and would only make the models slow.
#![allow(dead_code, missing_docs, reason = "shared by test binaries that each use a part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use alg::Application;
use core::net::Ipv4Addr;
use dataplane::epoch::Epochs;
use dataplane::event::Ref;
use dataplane::key::{FlowKey, Protocol, Tick, WorkerId, ZoneId};
use dataplane::policy::{Log, RuleId};
use dataplane::session::{Arena, Init, Session};
use dataplane::table::{Direction, Entry, FlowTable, HashKey, Unique};
use dataplane::view::{CloseReason, State};
pub use loom::sync::Arc;
pub use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Explores all interleavings with at most three preemptions, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
pub fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Explores the first 60,000 interleavings: for what reads so many words that all would take days.
pub fn sample(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 20_000;
    builder.max_permutations = Some(60_000);
    builder.check(model);
}

/// Counts how often an interleaving that the model is about came up: a model that never reaches it proves nothing.
pub struct Witness(AtomicUsize, &'static str);

impl Witness {
    pub const fn new(what: &'static str) -> Self {
        Self(AtomicUsize::new(0), what)
    }

    pub fn saw(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub fn saw_if(&self, came_up: bool) {
        self.0.fetch_add(usize::from(came_up), Relaxed);
    }

    #[track_caller]
    pub fn assert(&self) {
        assert!(self.0.load(Relaxed) > 0, "the model never reached: {}", self.1);
    }
}

pub const A: WorkerId = WorkerId(0);
pub const B: WorkerId = WorkerId(1);

/// What the workers share.
pub struct World {
    pub arena: Arena,
    pub table: FlowTable,
    pub epochs: Epochs,
}

impl World {
    /// `sessions` records, and epochs with `readers` readers.
    pub fn new(sessions: u32, readers: usize) -> Arc<Self> {
        Arc::new(Self {
            arena: Arena::new(sessions, 0).unwrap(),
            table: FlowTable::new("table", 2, HashKey::new([1, 2, 3, 4])).unwrap(),
            epochs: Epochs::new(readers),
        })
    }
}

/// Initiator's packets of flow `n`.
pub fn forward(n: u16) -> FlowKey {
    FlowKey::v4(
        Protocol::Udp,
        ZoneId(1),
        (Ipv4Addr::new(10, 1, 0, 2), n),
        (Ipv4Addr::new(198, 51, 100, 2), 53),
    )
}

/// Responder's packets of flow `n`.
pub fn reverse(n: u16) -> FlowKey {
    forward(n).reversed(ZoneId(2))
}

/// Session `n`. Whatever can be, is derived from `n`: a reader can tell whether it sees one session or two.
pub fn init(owner: WorkerId, n: u16) -> Init {
    Init {
        owner,
        state: State::UdpNew,
        forward: forward(n),
        reverse: reverse(n),
        application: Application::Unknown,
        rule: RuleId(u32::from(n)),
        policy_generation: u32::from(n),
        created: Tick(u32::from(n)),
        parent: None,
        binding: Some(Ref { index: u32::from(n), version: 1 }),
        expectation: None,
        alg_slot: None,
        log: Log::Off,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the slot keeps the low half")]
pub fn entry(id: Ref, direction: Direction) -> Entry {
    Entry { index: id.index, direction, version: id.version as u16 }
}

/// As `admit`: writes the session, publishes both keys, or leaves nothing behind.
pub fn publish(world: &World, index: u32, init: &Init) -> Result<Ref, Unique> {
    let (arena, table) = (&world.arena, &world.table);
    let session = arena.get(index).unwrap();
    let id = Ref { index, version: session.open(init) };
    let mut published = None;
    for (direction, key) in [(Direction::Forward, &init.forward), (Direction::Reverse, &init.reverse)] {
        let same = |other: Entry| {
            arena
                .get(other.index)
                .is_some_and(|s| s.matches(other.direction, key) && s.state() != State::Closed)
        };
        match table.insert_unique(table.hash(key), entry(id, direction), same) {
            Ok(_) => {
                published.get_or_insert((table.hash(key), entry(id, direction)));
            }
            Err(unique) => {
                if let Some((hash, entry)) = published {
                    table.remove(hash, entry);
                }
                session.close(CloseReason::None);
                session.free();
                return Err(unique);
            }
        }
    }
    arena.mark(index);
    Ok(id)
}

/// As the worker: takes the session out of the table. Its record stays.
pub fn unlink(world: &World, id: Ref) {
    let session = world.arena.resolve(id).unwrap();
    for direction in [Direction::Forward, Direction::Reverse] {
        let hash = world.table.hash(&session.key(direction));
        assert!(world.table.remove(hash, entry(id, direction)), "its slot is gone before it is");
    }
    session.close(CloseReason::Admin);
    world.arena.mark(id.index);
}

/// As the worker, on control's word.
pub fn free(world: &World, id: Ref) {
    world.arena.resolve(id).unwrap().free();
}

/// As `lookup`: finds a packet's session.
pub fn find(world: &World, key: &FlowKey) -> Option<(Ref, Direction)> {
    let mut version = 0;
    let entry = world.table.find(world.table.hash(key), |entry| {
        world.arena.get(entry.index).is_some_and(|session| {
            version = session.version();
            session.matches(entry.direction, key)
        })
    })?;
    Some((Ref { index: entry.index, version }, entry.direction))
}

/// Who has a packet's session.
pub enum Owner<'a> {
    Mine(&'a Session, Ref),
    Other(WorkerId, Ref),
    Nobody,
}

/// As `lookup`: resolves what was found, or looks again.
pub fn owner<'a>(
    world: &'a World,
    me: WorkerId,
    key: &FlowKey,
    mut target: Option<(Ref, Direction)>,
) -> Owner<'a> {
    for _ in 0..2 {
        let Some((id, direction)) = target else { break };
        if let Some(session) = world.arena.resolve(id)
            && session.matches(direction, key)
        {
            let owner = session.owner();
            if owner != me {
                return Owner::Other(owner, id);
            }
            if session.state() != State::Closed {
                return Owner::Mine(session, id);
            }
        }
        target = find(world, key);
        if target.is_some_and(|(again, _)| again == id) {
            break;
        }
    }
    Owner::Nobody
}
