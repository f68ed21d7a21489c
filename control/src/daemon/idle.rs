//! What a worker does when its queues are empty.

use crate::config::{Config, Idle};
use std::time::Duration;

/// Longest first wait: what ends a short silence is not kept waiting for long.
const FIRST: Duration = Duration::from_micros(1);

/// What an idle worker shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Poll again at once.
    Poll,
    /// Wait on the core for so long, then poll.
    Pause(Duration),
    /// Give the core away for so long, then poll.
    Sleep(Duration),
}

/// How a worker rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// On the core, or away from it.
    pub how: How,
    /// Empty polls before it rests.
    pub after: u32,
    /// Longest rest: what comes in meanwhile waits no longer.
    pub longest: Duration,
}

/// Where it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It waits on its core.
    Pause,
    /// It gives its core away.
    Sleep,
}

impl Rest {
    /// What the configuration says; none polls without pause.
    pub fn of(config: &Config) -> Option<Self> {
        let dataplane = &config.dataplane;
        let how = match dataplane.idle {
            Idle::Busy => return None,
            Idle::Pause => How::Pause,
            Idle::Sleep => How::Sleep,
            Idle::Auto if config.interfaces.iter().all(|interface| interface.device.is_pci()) => return None,
            Idle::Auto => How::Sleep,
        };
        let longest = Duration::from_micros(u64::from(dataplane.idle_sleep_us));
        Some(Self { how, after: dataplane.idle_polls, longest })
    }
}

/// Counts empty polls.
#[derive(Clone, Copy, Debug)]
pub struct Idling {
    rest: Option<Rest>,
    empty: u32,
    pause: Duration,
}

impl Idling {
    /// A worker that has just begun.
    pub fn new(rest: Option<Rest>) -> Self {
        Self { rest, empty: 0, pause: FIRST }
    }

    /// There was something to do.
    pub fn worked(&mut self) {
        self.empty = 0;
        self.pause = FIRST;
    }

    /// There was nothing to do. Pauses grow from a microsecond, twofold each, to the longest; sleeps are as long as they may
    /// be, since a core that was given away comes back late anyway.
    pub fn idle(&mut self) -> Step {
        let Some(rest) = self.rest else { return Step::Poll };
        if self.empty < rest.after {
            self.empty += 1;
            return Step::Poll;
        }
        match rest.how {
            How::Sleep => Step::Sleep(rest.longest),
            How::Pause => {
                let pause = self.pause.min(rest.longest);
                self.pause = pause.saturating_mul(2);
                Step::Pause(pause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(idle: &str, devices: [&str; 2]) -> Config {
        let [a, b] = devices;
        let text = format!(
            "[dataplane]\n{idle}\n\
             [[interface]]\nname = \"a\"\ndevice = \"{a}\"\nzone = \"x\"\naddresses = [\"10.0.0.1/24\"]\n\
             [[interface]]\nname = \"b\"\ndevice = \"{b}\"\nzone = \"y\"\naddresses = [\"10.0.1.1/24\"]\n"
        );
        Config::parse("test", &text).unwrap()
    }

    #[test]
    fn only_gateways_of_pci_devices_poll_without_pause_unless_told() {
        let how = |idle, devices| Rest::of(&config(idle, devices)).map(|rest| rest.how);
        assert_eq!(how("", ["3b:00.0", "3b:00.1"]), None);
        assert_eq!(how("", ["3b:00.0", "af_packet:b"]), Some(How::Sleep));
        assert_eq!(how("idle = \"busy\"", ["af_packet:a", "af_packet:b"]), None);
        assert_eq!(how("idle = \"sleep\"", ["3b:00.0", "3b:00.1"]), Some(How::Sleep));
        assert_eq!(how("idle = \"pause\"", ["3b:00.0", "3b:00.1"]), Some(How::Pause));
    }

    /// A wait of any kind is never longer than the longest, whatever came before, and work makes the next one short again.
    #[test]
    fn rests_are_bounded_and_begin_short() {
        let micros = Duration::from_micros;
        let rest = Rest { how: How::Pause, after: 3, longest: micros(50) };
        let mut idling = Idling::new(Some(rest));
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(idling.idle(), Step::Poll);
            }
            let pauses: Vec<_> = (0..9).map(|_| idling.idle()).collect();
            let expected = [1, 2, 4, 8, 16, 32, 50, 50, 50].map(|us| Step::Pause(micros(us)));
            assert_eq!(pauses, expected);
            idling.worked();
        }
        let mut idling = Idling::new(Some(Rest { how: How::Sleep, ..rest }));
        let steps: Vec<_> = (0..5).map(|_| idling.idle()).collect();
        assert_eq!(steps[3..], [Step::Sleep(micros(50)); 2]);
        let mut idling = Idling::new(None);
        assert!((0..10_000).all(|_| idling.idle() == Step::Poll));
    }
}
