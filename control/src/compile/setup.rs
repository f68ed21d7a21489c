//! Sizes of the dataplane.

use crate::config::Config;
use dataplane::shared::Setup;

/// Memory for the streams of inspected sessions, in chunks of 256 bytes. Most sessions hold and keep nothing most of the
/// time.
const CHUNKS_A_SESSION: u32 = 4;
/// Memory of a worker for fragments that wait for others, likewise: 4 MiB, 2,730 fragments of an Ethernet.
const FRAGMENT_CHUNKS: u32 = 16_384;
/// What a worker has in any case: two sessions at their bounds.
const FEWEST_CHUNKS: u32 = 2_048;

/// The dataplane's sizes, for `workers` workers.
#[must_use]
pub fn compile_setup(config: &Config, workers: usize, seed: [u64; 4]) -> Setup {
    let sizes = &config.dataplane;
    // A worker has its own; the configuration says how many there are together.
    let share = |all: u32| all.div_ceil(u32::try_from(workers).unwrap_or(u32::MAX).max(1));
    Setup {
        workers,
        sessions: sizes.sessions,
        expectations: sizes.expectations,
        alg_sessions: share(sizes.alg_sessions),
        stream_chunks: share(sizes.alg_sessions).saturating_mul(CHUNKS_A_SESSION).max(FEWEST_CHUNKS),
        fragment_chunks: FRAGMENT_CHUNKS,
        bindings: share(sizes.bindings),
        events: usize::try_from(sizes.events).unwrap_or(usize::MAX),
        icmp_errors_per_second: config.limits.icmp_errors_per_second,
        deny_events_per_second: config.limits.deny_events_per_second,
        misroute: sizes.misroute,
        seed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_what_each_has_of_its_own() {
        let config = Config::parse(
            "test",
            "[dataplane]\nalg_sessions = 1001\nbindings = 2000\n\
             [[interface]]\nname = \"a\"\ndevice = \"ring:0\"\nzone = \"x\"\naddresses = [\"10.0.0.1/24\"]\n",
        )
        .unwrap();
        let setup = compile_setup(&config, 2, [0; 4]);
        assert_eq!((setup.alg_sessions, setup.bindings), (501, 1000));
        assert_eq!(setup.sessions, config.dataplane.sessions);
    }
}
