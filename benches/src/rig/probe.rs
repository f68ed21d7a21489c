//! The time stamp counter, and callgrind's switch. x86-64 only, as the figures are.

use std::time::{Duration, Instant};

/// The time stamp counter, after all earlier instructions have completed: what was begun before is not charged to what
/// comes after.
#[inline]
#[must_use]
pub fn cycles() -> u64 {
    // SAFETY: neither instruction touches memory; both exist on every x86-64.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// Cycles of the time stamp counter per second, measured.
#[must_use]
pub fn frequency() -> f64 {
    let (start, from) = (Instant::now(), cycles());
    while start.elapsed() < Duration::from_millis(50) {
        std::hint::spin_loop();
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let counted = (cycles() - from) as f64;
    counted / start.elapsed().as_secs_f64()
}

/// Bytes of reserved hugepages that this process has mapped. 0 where the kernel does not say.
#[must_use]
pub fn hugepages() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    ["Private_Hugetlb:", "Shared_Hugetlb:"].iter().filter_map(|name| of(name)).sum::<u64>() * 1024
}

/// The calibration loop, two figures in TSC cycles. What they say beside each run tells a slow machine from a slow
/// gateway.
#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    /// Per multiply that depends on the one before: 3 core cycles on current cores. It shows the clock.
    pub latency: f64,
    /// Per round of eight independent chains of add, shift and exclusive or. It shows whether somebody else uses the core's other
    /// thread, which slows all real work and does not slow the first loop.
    pub width: f64,
}

/// Runs it: a fraction of a millisecond.
#[must_use]
pub fn calibration() -> Calibration {
    const STEPS: u32 = 100_000;
    let mut x = 3u64;
    let from = cycles();
    for _ in 0..STEPS {
        x = std::hint::black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    let latency = cycles() - from;
    std::hint::black_box(x);

    let mut chains: [u64; 8] = std::hint::black_box([1, 2, 3, 4, 5, 6, 7, 8]);
    let from = cycles();
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = chain.wrapping_add(*chain >> 7) ^ 0x55;
        }
        // Keeps the loop scalar and in order; costs nothing.
        std::hint::black_box(&mut x);
    }
    let width = cycles() - from;
    std::hint::black_box(chains);
    #[expect(clippy::cast_precision_loss, reason = "ratios")]
    let per_step = |spent: u64| spent as f64 / f64::from(STEPS);
    Calibration { latency: per_step(latency), width: per_step(width) }
}

/// What two readings in a row cost, in cycles: how far a port's own measurement disturbs.
#[must_use]
pub fn overhead() -> u64 {
    (0..1000)
        .map(|_| {
            let from = cycles();
            cycles() - from
        })
        .min()
        .unwrap_or(0)
}

/// Turns callgrind's collection on or off (its client request `TOGGLE_COLLECT`). Outside valgrind it does nothing.
#[inline]
pub fn toggle_collect() {
    /// "CT", then the third request of callgrind's.
    const TOGGLE_COLLECT: u64 = 0x4354_0002;
    let request: [u64; 6] = [TOGGLE_COLLECT, 0, 0, 0, 0, 0];
    // SAFETY: valgrind's marker for x86-64. The rotations of rdi add up to 128 bits, the exchange is with itself: on a
    // real CPU nothing changes but flags and rdx, which are declared. Under valgrind the request is read through rax.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") request.as_ptr(),
            inout("rdx") 0u64 => _,
            out("rdi") _,
        );
    }
}
