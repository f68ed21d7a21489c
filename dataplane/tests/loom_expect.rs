//! Expectations: met or ended once, by exactly one, and gone from the table afterwards.
//!
//! The models can fail. Each of these was tried and caught:
//! - armed before the slot is in place: a child meets what is then refused, and control's end leaves a slot behind;
//! - the claim word without the version: a claim of the old one takes the new one;
//! - decided by a load and a store: two winners;
//! - the winner leaves a slot, or a refused one stays counted: `assert_gone`;
//! - no fence in `Expectation::write`: `a_view_is_of_one_expectation`;
//! - a child that loses after it has found its place stays there: `two_children_find_their_places_first`.
#![cfg(postern_loom)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a model fails")]

mod loom_common;

use alg::{Application, Endpoint};
use core::net::{IpAddr, Ipv4Addr};
use dataplane::event::Ref;
use dataplane::expect::{Expectations, Init, Met, Reverse};
use dataplane::key::{FlowKey, Protocol, Tick, WorkerId, ZoneId};
use dataplane::policy::{Log, Mapping, RuleId};
use dataplane::table::{Direction, Entry, FlowTable, HashKey, Unique};
use dataplane::view::{ExpectationClass, ExpectationState};
use loom::thread;
use loom_common::{A, Arc, Witness, explore, sample};

fn expectations(capacity: u32) -> Arc<Expectations> {
    Arc::new(Expectations::new(capacity, 1, HashKey::new([1, 2, 3, 4])).unwrap())
}

/// The expectation of a child to `port`. Its parent tells apart who asked for it.
fn init(port: u16, owner: WorkerId, parent: u32) -> Init {
    Init {
        owner,
        by_home: false,
        class: ExpectationClass::AnyPort,
        last_port: 0,
        reverse: None,
        many: false,
        armed: true,
        tag: 0,
        key: FlowKey::v4(
            Protocol::Tcp,
            ZoneId(2),
            (Ipv4Addr::new(198, 51, 100, 2), 0),
            (Ipv4Addr::new(198, 51, 100, 1), port),
        ),
        listener: Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)), port),
        listener_scope: ZoneId(1),
        opener_nat: None,
        opener_mapping: Mapping::EndpointIndependent,
        keeps_port: false,
        parent: Ref { index: parent, version: 1 },
        rule: RuleId(parent),
        policy_generation: 1,
        log: Log::Off,
        application: Application::FtpData,
        binding: None,
        expires: Tick(1),
    }
}

fn child(port: u16) -> FlowKey {
    FlowKey { sport: 20, ..init(port, A, 0).key }
}

/// As `admit`: a packet of the child comes. Whose expectation it has met.
fn meet(e: &Expectations, port: u16) -> Option<u32> {
    meet_by(e, port, &child(port))
}

fn meet_by(e: &Expectations, port: u16, key: &FlowKey) -> Option<u32> {
    let Met { id, record, .. } = e.find(key)?;
    let init = record.init();
    e.claim(id).then(|| {
        assert_eq!(init.listener.port, port, "another expectation's listener");
        assert_eq!(init.rule.0, init.parent.index, "a mixture of two expectations");
        init.parent.index
    })
}

/// Nothing of it is left: neither the count nor the slot.
fn assert_gone(e: &Expectations, port: u16, spare: u32) {
    assert_eq!(e.published(), 0, "what can be met is counted wrong");
    let id = e.open(spare, &init(port, A, 9)).expect("a slot was left behind");
    assert_eq!(e.published(), 1);
    assert!(e.claim(id), "the next one cannot be met");
    e.free(id);
    assert_eq!(e.published(), 0);
}

/// What has been opened since is found, and nobody has met or ended it under the name of an older one.
fn assert_unmet(e: &Expectations, port: u16, id: Ref) {
    assert_eq!(e.find(&child(port)).map(|m| m.id), Some(id));
    assert!(e.claim(id), "it was taken under another one's name");
}

static CLAIMED: Witness = Witness::new("a child comes first");
static EXPIRED: Witness = Witness::new("control comes first");

#[test]
fn two_children_and_control_want_one() {
    explore(|| {
        let e = expectations(2);
        let id = e.open(0, &init(7, A, 1)).unwrap();
        let children = [(); 2].map(|()| {
            let e = Arc::clone(&e);
            thread::spawn(move || meet(&e, 7).is_some())
        });
        let expired = e.expire(id);
        let claimed = children.map(|c| c.join().unwrap());
        let winners = claimed.iter().filter(|c| **c).count() + usize::from(expired);
        assert_eq!(winners, 1, "exactly one may have it");
        let state = if expired { ExpectationState::Expired } else { ExpectationState::Claimed };
        assert_eq!(e.view(0).unwrap().state, state);
        CLAIMED.saw_if(!expired);
        EXPIRED.saw_if(expired);
        assert_gone(&e, 7, 1);
    });
    CLAIMED.assert();
    EXPIRED.assert();
}

static MET_AT_ONCE: Witness = Witness::new("a child meets it while it is opened");
static ENDED_AT_ONCE: Witness = Witness::new("control ends it while it is opened");

#[test]
fn a_child_and_control_come_while_it_is_opened() {
    explore(|| {
        let e = expectations(2);
        let met = {
            let e = Arc::clone(&e);
            thread::spawn(move || meet(&e, 7).is_some())
        };
        let ended = {
            let e = Arc::clone(&e);
            // Control sees it by its record, not by its slot.
            thread::spawn(move || e.view(0).is_some_and(|v| e.expire(v.id)))
        };
        let id = e.open(0, &init(7, A, 1)).unwrap();
        let (met, ended) = (met.join().unwrap(), ended.join().unwrap());
        assert!(!(met && ended), "two winners");
        if !met && !ended {
            assert_unmet(&e, 7, id);
        }
        MET_AT_ONCE.saw_if(met);
        ENDED_AT_ONCE.saw_if(ended);
        assert_gone(&e, 7, 1);
    });
    MET_AT_ONCE.assert();
    ENDED_AT_ONCE.assert();
}

static ONE_REFUSED: Witness = Witness::new("one of two for the same child is refused");
static MET_IN_CONFLICT: Witness = Witness::new("a child meets one of two while they conflict");

#[test]
fn two_are_opened_for_one_child_while_it_comes() {
    explore(|| {
        let e = expectations(3);
        let other = {
            let e = Arc::clone(&e);
            thread::spawn(move || e.open(1, &init(7, A, 2)))
        };
        let met = {
            let e = Arc::clone(&e);
            thread::spawn(move || meet(&e, 7))
        };
        let opened = [e.open(0, &init(7, A, 1)), other.join().unwrap()];
        let met = met.join().unwrap();
        if let Some(parent) = met {
            let by = &opened[parent as usize - 1];
            assert!(by.is_ok(), "a child has met what was refused");
            MET_IN_CONFLICT.saw_if(opened.iter().any(Result::is_err));
        }
        let mut armed = 0;
        for (index, open) in (0..).zip(&opened) {
            match open {
                Ok(id) => armed += usize::from(e.claim(*id)),
                Err(unique) => {
                    assert_eq!(*unique, Unique::Taken);
                    assert_eq!(e.view(index), None, "the refused one is still there");
                    ONE_REFUSED.saw();
                }
            }
        }
        let opened = opened.iter().filter(|o| o.is_ok()).count();
        assert_eq!(armed + usize::from(met.is_some()), opened, "each opened one is met once");
        assert!(armed <= 1, "two for one child");
        assert_gone(&e, 7, 2);
    });
    ONE_REFUSED.assert();
    MET_IN_CONFLICT.assert();
}

static OLD_MET: Witness = Witness::new("the old one is met");
static OLD_ENDED: Witness = Witness::new("the old one has ended and its record is reused");

#[test]
fn a_claim_of_the_old_one_never_takes_the_new_one() {
    explore(|| {
        let e = expectations(2);
        let old = e.open(0, &init(7, A, 1)).unwrap();
        let claimer = {
            let e = Arc::clone(&e);
            thread::spawn(move || e.claim(old))
        };
        // At once, as an opening that is refused does: a child that has found it gets no grace period then.
        let ended = e.expire(old);
        let new = ended.then(|| {
            e.free(old);
            e.open(0, &init(8, A, 2)).unwrap()
        });
        let claimed = claimer.join().unwrap();
        assert_ne!(claimed, ended, "exactly one may have the old one");
        if let Some(new) = new {
            assert_eq!(e.published(), 1);
            assert_unmet(&e, 8, new);
        }
        OLD_MET.saw_if(claimed);
        OLD_ENDED.saw_if(ended);
        assert_gone(&e, 7, 1);
        assert_gone(&e, 8, 1);
    });
    OLD_MET.assert();
    OLD_ENDED.assert();
}

static COPIED: Witness = Witness::new("a listing copies an expectation");

#[test]
fn a_view_is_of_one_expectation() {
    sample(|| {
        let e = expectations(2);
        let old = e.open(0, &init(7, A, 1)).unwrap();
        let reader = {
            let e = Arc::clone(&e);
            thread::spawn(move || {
                let Some(view) = e.view(0) else { return };
                let n = if view.id == old { 7 } else { 8 };
                assert_eq!((view.published.port, view.listener.port), (n, n));
                assert_eq!(view.parent.index, u32::from(n) - 6);
                COPIED.saw();
            })
        };
        assert!(e.expire(old));
        e.free(old);
        e.open(0, &init(8, A, 2)).unwrap();
        reader.join().unwrap();
    });
    COPIED.assert();
}

static BY_OPENER: Witness = Witness::new("the opener comes first");
static BY_LISTENER: Witness = Witness::new("the listener comes first");
static UNMET: Witness = Witness::new("control comes before both");

/// Media: both ends send at once, and control ends it.
#[test]
fn both_ends_of_a_pair_and_control_want_it() {
    explore(|| {
        let e = expectations(2);
        let seen = Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), 30_000);
        let pair = Init { reverse: Some(Reverse { seen, real: seen }), ..init(7, A, 1) };
        let listeners = FlowKey::v4(
            Protocol::Tcp,
            ZoneId(1),
            (Ipv4Addr::new(10, 1, 0, 2), 7),
            (Ipv4Addr::new(198, 51, 100, 2), 30_000),
        );
        let id = e.open(0, &pair).unwrap();
        let ends = [child(7), listeners].map(|key| {
            let e = Arc::clone(&e);
            thread::spawn(move || meet_by(&e, 7, &key).is_some())
        });
        let expired = e.expire(id);
        let [opener, listener] = ends.map(|end| end.join().unwrap());
        assert_eq!(
            [opener, listener, expired].iter().filter(|won| **won).count(),
            1,
            "exactly one may have it"
        );
        BY_OPENER.saw_if(opener);
        BY_LISTENER.saw_if(listener);
        UNMET.saw_if(expired);
        assert!(e.find(&child(7)).is_none() && e.find(&listeners).is_none(), "a slot was left behind");
        assert_gone(&e, 7, 1);
    });
    BY_OPENER.assert();
    BY_LISTENER.assert();
    UNMET.assert();
}

static MET_AFTER_ACTIVATION: Witness = Witness::new("a child comes after the activation");
static TOO_EARLY: Witness = Witness::new("a child comes too early, or not at all");
static ENDED_INACTIVE: Witness = Witness::new("control ends it before it");

#[test]
fn it_is_activated_while_a_child_and_control_come() {
    explore(|| {
        let e = expectations(2);
        let id = e.open(0, &Init { armed: false, ..init(7, A, 1) }).unwrap();
        let met = {
            let e = Arc::clone(&e);
            thread::spawn(move || meet(&e, 7).is_some())
        };
        let ended = {
            let e = Arc::clone(&e);
            thread::spawn(move || e.expire(id))
        };
        let activated = e.activate(id);
        let (met, ended) = (met.join().unwrap(), ended.join().unwrap());
        assert!(!(met && ended), "two winners");
        assert!(activated || !met, "a child has met what was never activated");
        assert!(activated || ended, "neither activated nor ended");
        assert!(met || ended, "nobody has it in the end");
        MET_AFTER_ACTIVATION.saw_if(met);
        TOO_EARLY.saw_if(activated && !met);
        ENDED_INACTIVE.saw_if(!activated);
        assert_gone(&e, 7, 1);
    });
    MET_AFTER_ACTIVATION.assert();
    TOO_EARLY.assert();
    ENDED_INACTIVE.assert();
}

static TAKEN_BACK: Witness = Witness::new("what was prepared is taken back, and its record used again");
static ENDED_PREPARED: Witness = Witness::new("control ends what was prepared");

/// A message whose pinholes cannot all be opened: what was prepared beside another goes at once, without a grace period.
#[test]
fn one_that_is_taken_back_leaves_the_other_and_the_next() {
    explore(|| {
        let e = expectations(3);
        let old = e.open(0, &init(7, A, 1)).unwrap();
        let new = e.open_beside(1, &Init { armed: false, ..init(7, A, 2) }, |id| id == old).unwrap();
        let met = {
            let e = Arc::clone(&e);
            thread::spawn(move || meet(&e, 7))
        };
        let ended = {
            let e = Arc::clone(&e);
            thread::spawn(move || e.expire(new))
        };
        let back = e.withdraw(new);
        let next = back.then(|| e.open(1, &init(8, A, 3)).unwrap());
        let (met, ended) = (met.join().unwrap(), ended.join().unwrap());
        assert_eq!(met, Some(1), "the other is as it was");
        assert_ne!(back, ended, "exactly one may have it");
        if let Some(next) = next {
            assert_unmet(&e, 8, next);
        }
        TAKEN_BACK.saw_if(back);
        ENDED_PREPARED.saw_if(ended);
        assert_gone(&e, 7, 2);
        assert_gone(&e, 8, 2);
    });
    TAKEN_BACK.assert();
    ENDED_PREPARED.assert();
}

static MET_BEFORE: Witness = Witness::new("a child meets what is replaced");
static MET_BETWEEN: Witness = Witness::new("a child comes in between, and meets neither");
static MET_AFTER: Witness = Witness::new("a child meets what has taken its place");

/// A message whose pinholes are all there: the older one ends, and the new one is armed.
#[test]
fn a_child_comes_while_one_takes_the_place_of_another() {
    explore(|| {
        let e = expectations(3);
        let old = e.open(0, &init(7, A, 1)).unwrap();
        let new = e.open_beside(1, &Init { armed: false, ..init(7, A, 2) }, |id| id == old).unwrap();
        let met = {
            let e = Arc::clone(&e);
            thread::spawn(move || meet(&e, 7))
        };
        let ended = e.expire(old);
        assert!(e.activate(new), "nobody else ends it");
        let met = met.join().unwrap();
        assert_eq!(ended, met != Some(1), "exactly one may have the old one");
        assert_eq!(e.claim(new), met != Some(2), "the new one is met once");
        MET_BEFORE.saw_if(met == Some(1));
        MET_BETWEEN.saw_if(met.is_none());
        MET_AFTER.saw_if(met == Some(2));
        assert_gone(&e, 7, 2);
    });
    MET_BEFORE.assert();
    MET_BETWEEN.assert();
    MET_AFTER.assert();
}

static KEPT: Witness = Witness::new("a child keeps an ended one");
static REFUSED: Witness = Witness::new("a child comes too late");

/// One of many uses: control ends it, and frees its record only if no child has it.
#[test]
fn a_child_keeps_the_record_that_control_ends() {
    explore(|| {
        let e = expectations(2);
        let id = e.open(0, &Init { many: true, ..init(7, A, 1) }).unwrap();
        let met = {
            let e = Arc::clone(&e);
            thread::spawn(move || meet(&e, 7).is_some())
        };
        assert!(e.expire(id), "a child does not end one of many uses");
        // What control sees now it may free once the child has passed a grace period: the join stands for it.
        let met = met.join().unwrap();
        assert_eq!(e.get(0).unwrap().is_over(), !met, "free under a child, or kept by nobody");
        assert_eq!(e.view(0).unwrap().children, u32::from(met));
        KEPT.saw_if(met);
        REFUSED.saw_if(!met);
        if met {
            e.child_ended(0);
        }
        assert!(e.get(0).unwrap().is_over());
        assert_gone(&e, 7, 1);
    });
    KEPT.assert();
    REFUSED.assert();
}

static PLACED_AND_LOST: Witness = Witness::new("a child has its place, and another has the expectation");
static ENDED_UNDER_BOTH: Witness = Witness::new("control ends it while both have their places");

/// As `admit_child`: a child's session is placed first, and taken back if it loses. Its name is its index.
fn admit(e: &Expectations, sessions: &FlowTable, index: u32) -> bool {
    let key = FlowKey { sport: 20 + u16::try_from(index).unwrap(), ..child(7) };
    let Some(met) = e.find(&key) else { return false };
    let (hash, entry) = (sessions.hash(&key), Entry { index, direction: Direction::Forward, version: 1 });
    sessions.insert_unique(hash, entry, |other| other.index == index).unwrap();
    let claimed = e.claim(met.id);
    if !claimed {
        PLACED_AND_LOST.saw();
        assert!(sessions.remove(hash, entry), "its place is its own");
    }
    claimed
}

#[test]
fn two_children_find_their_places_first() {
    explore(|| {
        let e = expectations(2);
        let id = e.open(0, &init(7, A, 1)).unwrap();
        let sessions = Arc::new(FlowTable::new("sessions", 2, HashKey::new([1, 2, 3, 4])).unwrap());
        let children = [1, 2].map(|index| {
            let (e, sessions) = (Arc::clone(&e), Arc::clone(&sessions));
            thread::spawn(move || admit(&e, &sessions, index))
        });
        let expired = e.expire(id);
        let claimed = children.map(|c| c.join().unwrap()).into_iter().filter(|claimed| *claimed).count();
        assert_eq!(claimed + usize::from(expired), 1, "exactly one may have it");
        assert_eq!(sessions.live(), claimed, "who has lost is gone");
        assert_eq!(e.view(0).unwrap().children, u32::try_from(claimed).unwrap());
        ENDED_UNDER_BOTH.saw_if(expired);
        assert_gone(&e, 7, 1);
    });
    PLACED_AND_LOST.assert();
    ENDED_UNDER_BOTH.assert();
}
