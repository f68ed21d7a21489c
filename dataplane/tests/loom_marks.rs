//! Marks: what a worker tells control by a mark is never lost, and what it wrote before is seen.
//!
//! The model can fail. Each of these was tried and caught:
//! - `take_marks` loads, then stores zero: a mark is lost;
//! - `mark` sets the summary before the mark: a mark is lost;
//! - `mark` is relaxed: the mark comes before the change.
#![cfg(postern_loom)]

mod loom_common;

use dataplane::session::Arena;
use dataplane::sync::{AtomicU32, Ordering};
use loom::thread;
use loom_common::{Arc, Witness, explore};

static TAKEN_IN_TWO: Witness = Witness::new("control takes one mark before the other is set");
static TAKEN_AGAIN: Witness = Witness::new("a session is marked again after its mark was taken");

#[test]
fn a_mark_is_never_lost() {
    explore(|| {
        let arena = Arc::new(Arena::new(1, 0).unwrap());
        // Each worker changes its session, then marks it: twice the one, once the other.
        let state = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let workers = [(0u32, 2u32), (1, 1)].map(|(index, changes)| {
            let (arena, state) = (Arc::clone(&arena), Arc::clone(&state));
            thread::spawn(move || {
                for change in 1..=changes {
                    state[index as usize].store(change, Ordering::Relaxed);
                    arena.mark(index);
                }
            })
        });
        let mut known = [0; 2];
        let mut take = || {
            let marks = if arena.take_summary(0) == 0 { 0 } else { arena.take_marks(0) };
            for index in 0..2 {
                if marks & (1 << index) != 0 {
                    known[index] = state[index].load(Ordering::Relaxed);
                    assert_ne!(known[index], 0, "the mark came before the change");
                }
            }
            marks
        };
        let first = take();
        for worker in workers {
            worker.join().unwrap();
        }
        let second = take();
        assert_eq!(take(), 0);
        assert_eq!(first | second, 0b11, "a mark is lost");
        assert_eq!(known, [2, 1], "control does not know the last change");
        TAKEN_IN_TWO.saw_if(first.count_ones() == 1);
        TAKEN_AGAIN.saw_if(first & second == 1);
    });
    TAKEN_IN_TWO.assert();
    TAKEN_AGAIN.assert();
}
