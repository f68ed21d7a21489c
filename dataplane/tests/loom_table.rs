//! The flow table alone: slots are claimed, cleared and reused; unique entries stay unique.
//!
//! The models can fail. Each of these was tried and caught:
//! - a slot is claimed by a load and a store: `two_claim_in_one_bucket`, `of_one_key_there_are_never_two`;
//! - the claim is relaxed, or a reader loads slots relaxed: `a_slot_is_cleared_and_reused_while_read`;
//! - the stash is counted after it is filled, no second look in `insert_unique`, or a loser that leaves its slot:
//!   `of_one_key_there_are_never_two`;
//! - no SeqCst fence in `insert_unique`: `of_one_key_in_two_buckets_there_are_never_two`.
#![cfg(postern_loom)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a model fails")]

mod loom_common;

use dataplane::sync::{AtomicU32, Ordering};
use dataplane::table::{Direction, Entry, FlowTable, Hash, HashKey, Placed, Seek, Unique};
use loom::thread;
use loom_common::{Arc, Witness, explore};

/// Both choices of these are bucket 0, which has two slots under the checker.
const HASH: Hash = Hash(0x34 << 48);
const OTHER_TAG: Hash = Hash(0x43 << 48);

fn table() -> Arc<FlowTable> {
    Arc::new(FlowTable::new("table", 2, HashKey::new([1, 2, 3, 4])).unwrap())
}

fn entry(index: u32) -> Entry {
    Entry { index, direction: Direction::Forward, version: 1 }
}

fn find(table: &FlowTable, index: u32) -> Option<Entry> {
    table.find(HASH, |e| e.index == index)
}

static STASHED: Witness = Witness::new("the loser of a slot goes to the stash");

#[test]
fn two_claim_in_one_bucket() {
    // With `before` slots taken already: both fit, then one is left for the stash.
    for before in 0..=1 {
        explore(move || {
            let table = table();
            for i in 0..before {
                table.insert(OTHER_TAG, entry(9 + i)).unwrap();
            }
            let worker = {
                let table = Arc::clone(&table);
                thread::spawn(move || {
                    let placed = table.insert(HASH, entry(1)).unwrap();
                    assert_eq!(find(&table, 1), Some(entry(1)), "one's own entry");
                    placed
                })
            };
            let mine = table.insert(HASH, entry(2)).unwrap();
            assert_eq!(find(&table, 2), Some(entry(2)), "one's own entry");
            let theirs = worker.join().unwrap();
            assert_eq!((find(&table, 1), find(&table, 2)), (Some(entry(1)), Some(entry(2))));
            assert_eq!(table.live(), 2 + before as usize);
            let stashed = [mine, theirs].iter().filter(|p| **p == Placed::Stash).count();
            assert_eq!(stashed, before as usize, "the stash is for what does not fit");
            STASHED.saw_if(stashed == 1);
            assert!(table.remove(HASH, entry(1)) && table.remove(HASH, entry(2)));
            assert_eq!(table.live(), before as usize);
        });
    }
    STASHED.assert();
}

static FOUND_OLD: Witness = Witness::new("the reader finds the entry that is about to go");
static FOUND_NEW: Witness = Witness::new("the reader finds the entry in the reused slot");

#[test]
fn a_slot_is_cleared_and_reused_while_read() {
    explore(|| {
        let table = table();
        // What the entries lead to: written before they are published, 10 times the index.
        let records = Arc::new([0, 0, 0, 0].map(AtomicU32::new));
        for i in 1..=2 {
            records[i as usize].store(i * 10, Ordering::Relaxed);
            table.insert(HASH, entry(i)).unwrap();
        }
        let reader = {
            let (table, records) = (Arc::clone(&table), Arc::clone(&records));
            thread::spawn(move || {
                let record = |e: Entry| records[e.index as usize].load(Ordering::Relaxed);
                assert_eq!(find(&table, 2), Some(entry(2)), "an entry that stays is always found");
                let found = table.find(HASH, |e| e.index != 2);
                if let Some(e) = found {
                    assert!(e == entry(1) || e == entry(3), "{e:?} was never inserted");
                    assert_eq!(record(e), e.index * 10, "published before it was written");
                }
                FOUND_OLD.saw_if(found == Some(entry(1)));
                FOUND_NEW.saw_if(found == Some(entry(3)));
            })
        };
        assert!(table.remove(HASH, entry(1)));
        records[3].store(30, Ordering::Relaxed);
        assert_eq!(table.insert(HASH, entry(3)), Ok(Placed::Bucket), "the cleared slot can be used at once");
        reader.join().unwrap();
        assert_eq!((find(&table, 1), find(&table, 3)), (None, Some(entry(3))));
    });
    FOUND_OLD.assert();
    FOUND_NEW.assert();
}

static FOUND_IN_STASH: Witness = Witness::new("the reader finds the entry in the stash");

#[test]
fn who_sees_an_effect_finds_the_stashed_entry() {
    explore(|| {
        let table = table();
        table.insert(HASH, entry(1)).unwrap();
        table.insert(HASH, entry(2)).unwrap();
        let told = Arc::new(AtomicU32::new(0));
        let reader = {
            let (table, told) = (Arc::clone(&table), Arc::clone(&told));
            thread::spawn(move || {
                let expected = told.load(Ordering::Acquire) == 1;
                let found = find(&table, 3);
                assert!(found.is_some() || !expected, "a published entry is not found");
                FOUND_IN_STASH.saw_if(found.is_some());
                assert_eq!(find(&table, 1), Some(entry(1)));
            })
        };
        assert_eq!(table.insert(HASH, entry(3)), Ok(Placed::Stash));
        told.store(1, Ordering::Release);
        reader.join().unwrap();
        assert!(table.remove(HASH, entry(3)) && find(&table, 3).is_none());
    });
    FOUND_IN_STASH.assert();
}

static BOTH_LOST: Witness = Witness::new("both see each other and take theirs back");
static ONE_WON: Witness = Witness::new("one of two wins");

#[test]
fn of_one_key_there_are_never_two() {
    // With 0, 1 or 2 slots taken already: both in the bucket, one in the stash, no room but in the stash.
    for before in 0..=2u32 {
        explore(move || {
            let table = table();
            for i in 0..before {
                table.insert(OTHER_TAG, entry(9 + i)).unwrap();
            }
            let worker = {
                let table = Arc::clone(&table);
                thread::spawn(move || table.insert_unique(HASH, entry(1), |_| true))
            };
            let mine = table.insert_unique(HASH, entry(2), |_| true);
            let theirs = worker.join().unwrap();
            let won = usize::from(mine.is_ok()) + usize::from(theirs.is_ok());
            assert!(won <= 1, "two live entries of one key");
            assert_eq!(table.live(), before as usize + won, "the loser left something behind");
            assert_eq!(find(&table, 2).is_some(), mine.is_ok());
            assert_eq!(find(&table, 1).is_some(), theirs.is_ok());
            BOTH_LOST.saw_if(won == 0);
            ONE_WON.saw_if(won == 1);
            // Whoever tries again afterwards gets what the outcome allows.
            let again = table.insert_unique(HASH, entry(3), |_| true);
            if won == 0 {
                assert!(again.is_ok());
            } else {
                assert_eq!(again, Err(Unique::Taken));
            }
        });
    }
    BOTH_LOST.assert();
    ONE_WON.assert();
}

static APART: Witness = Witness::new("two of one key take different buckets and see each other");

#[test]
fn of_one_key_in_two_buckets_there_are_never_two() {
    // First choice bucket 1, second choice bucket 0.
    const SPREAD: Hash = Hash(0x34 << 48 | 1 << 31);
    const FILLER: Hash = Hash(0x43 << 48 | 1 << 31);
    explore(|| {
        let table = table();
        table.insert(FILLER, entry(8)).unwrap();
        table.insert(FILLER, entry(9)).unwrap();
        // Bucket 1 is full, then has room: who comes early takes bucket 0, who comes late bucket 1. They share no slot
        // that could put them in order.
        let worker = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.insert_unique(SPREAD, entry(1), |_| true))
        };
        assert!(table.remove(FILLER, entry(8)));
        let mine = table.insert_unique(SPREAD, entry(2), |_| true);
        let theirs = worker.join().unwrap();
        let won = usize::from(mine.is_ok()) + usize::from(theirs.is_ok());
        assert!(won <= 1, "two live entries of one key");
        assert_eq!(table.live(), 1 + won, "the loser left something behind");
        APART.saw_if(theirs.is_ok() && table.seek_first(SPREAD) == Seek::Elsewhere);
    });
    APART.assert();
}
