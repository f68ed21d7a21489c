//! Sessions: published whole, retired in order, and never mistaken for each other when an index is reused.
//!
//! The models can fail. Each of these was tried and caught:
//! - the slots are published before the record is written, or a reader loads slots relaxed:
//!   `who_finds_a_session_sees_all_of_it`;
//! - no fence in `Session::open`: both models of a view;
//! - freed without a grace period, without an advance of the epoch, or with the slots cleared after the grace period:
//!   `a_found_session_stays_what_it_is_until_the_reader_lets_go`;
//! - the version is not compared, or the owner acts without resolving:
//!   `a_handed_over_reference_never_leads_to_another_session`;
//! - no second look in `insert_unique`: two sessions of one tuple;
//! - a loser that leaves its slot: all three models of conflicts; one that leaves its first key: the two in which it
//!   has one by then.
#![cfg(postern_loom)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a model fails")]

mod loom_common;

use dataplane::event::Ref;
use dataplane::key::WorkerId;
use dataplane::session::Session;
use dataplane::sync::{Ordering, fence};
use dataplane::table::Direction;
use dataplane::view::State;
use loom::sync::Mutex;
use loom::thread;
use loom_common::{
    A, Arc, B, Owner, Witness, World, explore, find, forward, free, init, owner, publish, reverse, sample,
    unlink,
};
use std::collections::VecDeque;

/// All of it is session `n`, and nothing of another one.
fn assert_whole(session: &Session, n: u16, owned_by: WorkerId) {
    assert_eq!(session.key(Direction::Forward), forward(n), "forward key");
    assert_eq!(session.key(Direction::Reverse), reverse(n), "reverse key");
    assert_eq!(session.owner(), owned_by, "owner");
    assert_eq!(session.rule(), init(owned_by, n).rule, "rule");
    assert_eq!(session.binding(), init(owned_by, n).binding, "binding");
    assert_eq!(session.policy_generation(), u32::from(n), "policy generation");
}

static FOUND_BY_REVERSE: Witness = Witness::new("a reply finds the session while it is published");

#[test]
fn who_finds_a_session_sees_all_of_it() {
    explore(|| {
        let world = World::new(1, 0);
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                if let Some((id, direction)) = find(&world, &reverse(1)) {
                    assert_eq!(direction, Direction::Reverse);
                    let session = world.arena.resolve(id).unwrap();
                    assert_whole(session, 1, A);
                    assert_eq!(session.state(), State::UdpNew);
                    // The reverse key is published last.
                    assert_eq!(find(&world, &forward(1)), Some((id, Direction::Forward)));
                    FOUND_BY_REVERSE.saw();
                }
            })
        };
        publish(&world, 0, &init(A, 1)).unwrap();
        reader.join().unwrap();
    });
    FOUND_BY_REVERSE.assert();
}

static VIEWED: Witness = Witness::new("a view is taken");
static TORN: Witness = Witness::new("a view is refused because the record changed hands");

#[test]
fn a_view_is_of_one_session() {
    sample(|| {
        let world = World::new(1, 0);
        let id = publish(&world, 0, &init(A, 1)).unwrap();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let Some(view) = world.arena.view(0) else {
                    TORN.saw();
                    return;
                };
                let n = if view.id == id { 1 } else { 2 };
                assert_eq!((view.forward, view.reverse), (forward(n), reverse(n)), "{:?}", view.id);
                assert_eq!((view.rule, view.created), (init(A, n).rule, init(A, n).created));
                assert_eq!(view.policy_generation, u32::from(n));
                VIEWED.saw();
            })
        };
        // At once, as a publication that fails does: a reader of the arena gets no grace period then.
        let session = world.arena.resolve(id).unwrap();
        session.free();
        session.open(&init(A, 2));
        reader.join().unwrap();
    });
    VIEWED.assert();
    TORN.assert();
}

static READ_OLD: Witness = Witness::new("a reader reads the old session");
static READ_NEW: Witness = Witness::new("a reader reads the new session");
static READ_BOTH: Witness = Witness::new("a reader notices that it has read two sessions");

/// The same as [`a_view_is_of_one_session`] over two fields, few enough to explore everything.
#[test]
fn two_fields_are_of_one_session() {
    explore(|| {
        let world = World::new(1, 0);
        let id = publish(&world, 0, &init(A, 1)).unwrap();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let session = world.arena.get(0).unwrap();
                let version = session.version();
                let read = (session.owner(), session.rule());
                fence(Ordering::Acquire);
                if !session.is(version) {
                    READ_BOTH.saw_if(version & 1 == 1);
                } else if version == id.version {
                    assert_eq!(read, (A, init(A, 1).rule));
                    READ_OLD.saw();
                } else {
                    assert_eq!(read, (B, init(B, 2).rule));
                    READ_NEW.saw();
                }
            })
        };
        let session = world.arena.resolve(id).unwrap();
        session.free();
        session.open(&init(B, 2));
        reader.join().unwrap();
    });
    READ_OLD.assert();
    READ_NEW.assert();
    READ_BOTH.assert();
}

/// The owner takes a session out, control waits for the grace period, the owner uses the index for flow `next`.
/// None if the grace period is not over when control looks.
fn replace(world: &World, id: Ref, owned_by: WorkerId, next: u16) -> Option<Ref> {
    unlink(world, id);
    let stamp = world.epochs.now();
    world.epochs.advance();
    if world.epochs.safe() <= stamp {
        return None;
    }
    free(world, id);
    Some(publish(world, id.index, &init(owned_by, next)).unwrap())
}

static HELD: Witness = Witness::new("the reader holds the session when it is unlinked");
static REUSED: Witness = Witness::new("the index is reused while the reader runs");

#[test]
fn a_found_session_stays_what_it_is_until_the_reader_lets_go() {
    explore(|| {
        let world = World::new(1, 1);
        let id = publish(&world, 0, &init(A, 1)).unwrap();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.epochs.online(0);
                let target = find(&world, &forward(1));
                if let Some((found, direction)) = target {
                    assert_eq!((found, direction), (id, Direction::Forward));
                    let session = world.arena.get(found.index).unwrap();
                    assert_whole(session, 1, A);
                    assert!(session.is(id.version), "the record was freed under the reader");
                    match owner(&world, B, &forward(1), target) {
                        Owner::Other(A, resolved) => assert_eq!(resolved, id),
                        Owner::Other(..) | Owner::Mine(..) => panic!("not the owner's"),
                        // The second look is after the unlink.
                        Owner::Nobody => {}
                    }
                    HELD.saw_if(session.state() == State::Closed);
                }
                world.epochs.quiescent(0);
                // The new flow, if it is there, is whole, and the old one is not it.
                if let Some((new, _)) = find(&world, &forward(2)) {
                    assert_eq!((new.index, new.version), (id.index, id.version + 2));
                    assert_whole(world.arena.resolve(new).unwrap(), 2, A);
                    assert_eq!(find(&world, &forward(1)), None);
                    REUSED.saw();
                }
                world.epochs.offline(0);
            })
        };
        let _ = replace(&world, id, A, 2);
        reader.join().unwrap();
    });
    HELD.assert();
    REUSED.assert();
}

static STALE: Witness = Witness::new("a packet arrives with the reference of a session that is no more");
static FRESH: Witness = Witness::new("a packet arrives and its session is alive");

#[test]
fn a_handed_over_reference_never_leads_to_another_session() {
    // The index goes to another flow, or to the same one anew.
    for next in [2, 1] {
        explore(move || {
            let world = World::new(1, 1);
            let id = publish(&world, 0, &init(B, 1)).unwrap();
            let ring = Arc::new(Mutex::new(VecDeque::new()));
            let other = {
                let (world, ring) = (Arc::clone(&world), Arc::clone(&ring));
                thread::spawn(move || {
                    world.epochs.online(0);
                    let target = find(&world, &forward(1));
                    if let Owner::Other(B, _) = owner(&world, A, &forward(1), target) {
                        // Once on the ring nothing holds the session: the grace period does not cover it.
                        ring.lock().unwrap().push_back((forward(1), target));
                    }
                    world.epochs.offline(0);
                })
            };
            let mut live = vec![];
            let receive = |live: Option<Ref>| {
                let Some((key, target)) = ring.lock().unwrap().pop_front() else { return };
                match owner(&world, B, &key, target) {
                    Owner::Mine(session, resolved) => {
                        assert_eq!(Some(resolved), live, "a session that is not there");
                        assert!(session.is(resolved.version), "a reference of another time");
                        assert_eq!(session.key(Direction::Forward), key, "another flow's session");
                        FRESH.saw();
                    }
                    Owner::Nobody => {
                        assert!(live.is_none() || next == 2, "its session is there");
                        STALE.saw();
                    }
                    Owner::Other(..) => panic!("the owner never changes"),
                }
            };
            receive(Some(id));
            live.extend(replace(&world, id, B, next));
            receive(live.last().copied());
            other.join().unwrap();
            receive(live.last().copied());
        });
    }
    STALE.assert();
    FRESH.assert();
}

static NOBODY_WON: Witness = Witness::new("both sessions of one tuple are refused");
static SOMEBODY_WON: Witness = Witness::new("one of two sessions of one tuple is published");

/// Two workers publish sessions that share a key; at most one may stay.
fn conflict(first: dataplane::session::Init, second: dataplane::session::Init) {
    explore(move || {
        let world = World::new(2, 0);
        let worker = {
            let (world, second) = (Arc::clone(&world), second.clone());
            thread::spawn(move || publish(&world, 1, &second))
        };
        let mine = publish(&world, 0, &first);
        let theirs = worker.join().unwrap();
        let won = usize::from(mine.is_ok()) + usize::from(theirs.is_ok());
        assert!(won <= 1, "two sessions of one tuple");
        assert_eq!(world.table.live(), won * 2, "the loser left a key behind");
        assert_eq!(world.arena.take_marks(0).count_ones() as usize, won, "only what is published is marked");
        for (index, published, init) in [(0, mine, &first), (1, theirs, &second)] {
            let session = world.arena.get(index).unwrap();
            match published {
                Ok(id) => {
                    assert_eq!(find(&world, &init.forward), Some((id, Direction::Forward)));
                    assert_eq!(find(&world, &init.reverse), Some((id, Direction::Reverse)));
                }
                Err(_) => assert_eq!(session.version() & 1, 0, "the loser's record is still in use"),
            }
        }
        NOBODY_WON.saw_if(won == 0);
        SOMEBODY_WON.saw_if(won == 1);
    });
}

#[test]
fn two_workers_miss_one_tuple() {
    conflict(init(A, 1), init(B, 1));
    NOBODY_WON.assert();
    SOMEBODY_WON.assert();
}

#[test]
fn keys_conflict_crosswise() {
    let first = init(A, 1);
    let second = dataplane::session::Init { forward: first.reverse, reverse: first.forward, ..init(B, 1) };
    conflict(first, second);
}

#[test]
fn only_the_reverse_keys_conflict() {
    let first = init(A, 1);
    let second = dataplane::session::Init { forward: forward(2), ..init(B, 1) };
    conflict(first, second);
}
