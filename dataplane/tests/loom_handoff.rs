//! Handoff: what one worker puts into a ring comes out at the other once, whole and in its order, however small the ring is.
//!
//! The model can fail. Each of these was tried and caught:
//! - `publish` is relaxed: a place is read before it is filled;
//! - `release` is relaxed, or `push` reads the receiver's word so: a place is filled while it is read;
//! - `push` lets one more in than there are places.
#![cfg(postern_loom)]

mod loom_common;

use dataplane::handoff::Ring;
use loom::thread;
use loom_common::{Witness, explore};

static FULL: Witness = Witness::new("the ring is full");
static AGAIN: Witness = Witness::new("a place is used again");
static HALF: Witness = Witness::new("the receiver sees the first burst without the second");

#[test]
fn what_goes_in_comes_out_once_and_in_order() {
    explore(|| {
        let (sender, mut receiver) = Ring::pair(2);
        // Two bursts, of two and one; boxed, so that what is lost or read twice is noticed.
        let worker = thread::spawn(move || {
            let mut refused = Vec::new();
            for burst in [&[1_u32, 2][..], &[3]] {
                for n in burst {
                    if let Err(back) = sender.push(Box::new(*n)) {
                        refused.push(*back);
                    }
                }
                sender.publish();
            }
            refused
        });
        let mut heard = Vec::new();
        let mut take = || {
            let before = heard.len();
            let count = receiver.look(2);
            receiver.show(count, |n| assert!((1..4).contains(&**n)));
            // As the worker takes them: those that it looked at.
            receiver.take(count, |n| heard.push(*n));
            receiver.release();
            heard.len() - before
        };
        HALF.saw_if(take() == 2);
        take();
        let refused = worker.join().unwrap();
        take();
        FULL.saw_if(!refused.is_empty());
        AGAIN.saw_if(heard == [1, 2, 3]);
        heard.extend(refused);
        assert_eq!(heard, [1, 2, 3]);
    });
    FULL.assert();
    AGAIN.assert();
    HALF.assert();
}
