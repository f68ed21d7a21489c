//! Short waits that save power: a core in them draws less, and its sibling thread gets more.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::hint;
use std::time::{Duration, Instant};

/// WAITPKG in ECX of CPUID leaf 7 (Intel SDM volume 2, CPUID).
const WAITPKG: u32 = 1 << 5;
/// Longest that one instruction may wait, in ticks of the time stamp counter: Linux lets it have no more than that.
const LONGEST: u64 = 100_000;
/// Pauses between two looks at the clock, where the processor has no better way to wait.
const SPINS: u32 = 16;

/// Waits for moments.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    tpause: bool,
}

impl Pause {
    /// The best way that this processor has.
    #[must_use]
    pub fn new() -> Self {
        Self { tpause: __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx & WAITPKG != 0 }
    }

    /// True if the processor sleeps while it waits (TPAUSE), false if it only spins slowly.
    #[must_use]
    pub const fn sleeps(self) -> bool {
        self.tpause
    }

    /// Waits for `time`, about.
    pub fn wait(self, time: Duration) {
        let from = Instant::now();
        while from.elapsed() < time {
            if self.tpause {
                tpause();
            } else {
                (0..SPINS).for_each(|_| hint::spin_loop());
            }
        }
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits in state C0.1, the one that is left quickly, for a part of [`LONGEST`]; an interrupt ends it.
fn tpause() {
    // SAFETY: reads a counter.
    let deadline = unsafe { std::arch::x86_64::_rdtsc() } + LONGEST / 8;
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    let (low, high) = (deadline as u32, (deadline >> 32) as u32);
    // SAFETY: TPAUSE ECX, which the caller has found to exist; it changes flags alone.
    unsafe {
        std::arch::asm!(".byte 0x66, 0x0f, 0xae, 0xf1", in("ecx") 1, in("eax") low, in("edx") high, options(nomem, nostack));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_and_is_not_too_short() {
        for pause in [Pause::new(), Pause { tpause: false }] {
            let from = Instant::now();
            pause.wait(Duration::from_micros(200));
            assert!(from.elapsed() >= Duration::from_micros(200));
        }
    }
}
