//! What this core and its memory do just now, so that readers can compare machines, and see that a run was disturbed.

use benches::rig::flows::Walk;
use benches::rig::probe;
use std::hint::black_box;
use std::io;

/// Additions, and reads.
const ADDITIONS: u32 = 20_000_000;
const READS: u32 = 2_000_000;
/// Words of a cache line, and lines of the chase: 64 MiB, more than a core's share of the last cache.
const LINE: usize = 16;
const LINES: u32 = 1 << 20;

/// Cycles of an addition that waits for the one before it: one cycle of the core, in cycles of the counter.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn addition() -> f64 {
    let mut sum = black_box(1u64);
    let from = probe::cycles();
    for _ in 0..ADDITIONS / 8 {
        // The sum is opaque to the compiler between two of them, and stays in its register.
        for _ in 0..8 {
            // SAFETY: an addition of a register to itself and a constant; it touches no memory.
            unsafe { core::arch::asm!("add {0}, 1", inout(reg) sum, options(nomem, nostack)) };
        }
    }
    let spent = probe::cycles() - from;
    black_box(sum);
    spent as f64 / f64::from(ADDITIONS)
}

/// Cycles of a read whose address is what the one before has read, all lines in random order.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn chase() -> f64 {
    // One circle through all lines (Sattolo).
    let mut order: Vec<u32> = (0..LINES).collect();
    let mut walk = Walk::new(7);
    for at in (1..LINES).rev() {
        order.swap(at as usize, walk.below(at) as usize);
    }
    let mut lines = vec![0u32; LINES as usize * LINE];
    for (at, next) in order.iter().enumerate() {
        if let Some(word) = lines.get_mut(at * LINE) {
            *word = next * LINE as u32;
        }
    }
    let mut at = 0;
    let from = probe::cycles();
    for _ in 0..READS {
        at = lines.get(at as usize).copied().unwrap_or(0);
    }
    let spent = probe::cycles() - from;
    black_box(at);
    spent as f64 / f64::from(READS)
}

/// Prints them.
pub fn run() -> io::Result<()> {
    let hz = probe::frequency();
    println!("{hz:.0} {:.3} {:.1}", addition(), chase() / hz * 1e9);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_take_time() {
        assert!(addition() > 0.0 && chase() > 0.0);
    }
}
