//! What a generator is asked for, and what it says of it. Both cross to other programs as JSON.

use serde::{Deserialize, Serialize};

/// Frames of a trial, by their length with the FCS, as RFC 2544 counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// All alike.
    Fixed(u16),
    /// 64, 594 and 1518 bytes as 7 to 4 to 1.
    Imix,
}

/// Shortest frame of Ethernet, with the FCS.
pub const SHORTEST: u16 = 64;
/// Longest frame of Ethernet without tags, with the FCS.
pub const LONGEST: u16 = 1518;
/// The mixture's frames in the order in which they are sent.
pub const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64];
/// What a frame takes of its link besides: preamble, start delimiter, gap.
const ON_THE_LINK: f64 = 20.0;

impl Size {
    /// Reads `64` to `1518`, or `imix`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(len) if (SHORTEST..=LONGEST).contains(&len) => Ok(Self::Fixed(len)),
            _ if text.eq_ignore_ascii_case("imix") => Ok(Self::Imix),
            _ => Err(format!("`{text}` is no frame size: expected 64 to 1518 (with the FCS), or imix")),
        }
    }

    /// Length of frame number `n`, with the FCS.
    #[must_use]
    pub fn of(self, n: u64) -> u16 {
        match self {
            Self::Fixed(len) => len,
            Self::Imix => IMIX.get((n % IMIX.len() as u64) as usize).copied().unwrap_or(SHORTEST),
        }
    }

    /// Bits that a frame takes of its link, on average.
    #[must_use]
    pub fn bits_on_the_link(self) -> f64 {
        let bytes = match self {
            Self::Fixed(len) => f64::from(len),
            Self::Imix => IMIX.iter().map(|len| f64::from(*len)).sum::<f64>() / IMIX.len() as f64,
        };
        (bytes + ON_THE_LINK) * 8.0
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(len) => write!(f, "{len}"),
            Self::Imix => f.write_str("imix"),
        }
    }
}

/// Transport protocol of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// One datagram makes a session.
    Udp,
    /// A handshake makes a session, and FIN both ways ends it.
    Tcp,
}

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Load {
    /// Datagrams of flows that were opened before ([`crate::generator::Generator::open`]), in random order.
    Established {
        /// Both directions, half of the rate each. Otherwise from the client's side alone.
        both: bool,
    },
    /// The same at the rate for as long as the trial says, and then at half of it for as long. [`Outcome::recovery`] is what is
    /// wanted.
    Recovery {
        /// Both directions.
        both: bool,
    },
    /// That many datagrams of such flows, one right after the other.
    Burst {
        /// Frames.
        frames: u32,
    },
    /// New sessions; the rate counts them. `returned` counts those that came about. UDP: the first datagram arrived, and later one
    /// back did, which finds no way without its session (the validation of RFC 9693). TCP: connections that were opened and
    /// closed, to the last segment.
    New {
        /// Of which protocol.
        transport: Transport,
    },
    /// Opens so many new sessions at the rate; once all are open, says something in each. `returned` counts the sessions in which
    /// that arrived, so none is counted that was not there to the end. UDP: a datagram back, which finds no way without its
    /// session. TCP: the handshakes, then data from the client and in answer, then FIN both ways.
    Hold {
        /// Sessions.
        sessions: u32,
        /// Of which protocol.
        transport: Transport,
    },
}

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Tells the frames of this trial from those of others.
    pub number: u16,
    /// What is offered.
    pub load: Load,
    /// Frames. TCP's have no payload, whatever this says.
    pub size: Size,
    /// Frames or sessions a second, all directions together; 0 for bursts, which are as fast as they can be.
    pub rate: f64,
    /// How long. Bursts and holds end when they are done.
    pub seconds: f64,
}

/// Nanoseconds that frames took, by share of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
    /// The slowest.
    pub max: u64,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Frames or sessions that the generator sent.
    pub offered: u64,
    /// Of these, what came out of the device as it should.
    pub returned: u64,
    /// Frames that came out wrong: other addresses or ports than they must have, a bad checksum, a flow that is not theirs.
    pub wrong: u64,
    /// Seconds that sending took.
    pub seconds: f64,
    /// How long frames took, where the generator can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Of a recovery trial: seconds from the change of the rate until the last frame was sent that was lost. 0: none was;
    /// the trial's `seconds`: the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<f64>,
}

impl Latency {
    /// The mean of each figure; of the slowest, the slowest.
    fn mean(all: &[Self]) -> Option<Self> {
        let count = u128::try_from(all.len()).ok().filter(|count| *count > 0)?;
        let mean =
            |of: fn(&Self) -> u64| (all.iter().map(|l| u128::from(of(l))).sum::<u128>() / count) as u64;
        Some(Self {
            p50: mean(|l| l.p50),
            p90: mean(|l| l.p90),
            p99: mean(|l| l.p99),
            p99_9: mean(|l| l.p99_9),
            max: all.iter().map(|l| l.max).max()?,
        })
    }
}

impl Outcome {
    /// Share of what was offered that did not come back.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.offered == 0 {
            return 1.0;
        }
        self.offered.saturating_sub(self.returned) as f64 / self.offered as f64
    }

    /// Several trials as one: their frames and seconds together, the mean of what was measured in each.
    #[must_use]
    pub fn together(all: &[Self]) -> Self {
        let latencies: Vec<Latency> = all.iter().filter_map(|outcome| outcome.latency).collect();
        let recoveries: Vec<f64> = all.iter().filter_map(|outcome| outcome.recovery).collect();
        Self {
            offered: all.iter().map(|outcome| outcome.offered).sum(),
            returned: all.iter().map(|outcome| outcome.returned).sum(),
            wrong: all.iter().map(|outcome| outcome.wrong).sum(),
            seconds: all.iter().map(|outcome| outcome.seconds).sum(),
            latency: Latency::mean(&latencies),
            recovery: (!recoveries.is_empty())
                .then(|| recoveries.iter().sum::<f64>() / recoveries.len() as f64),
        }
    }

    /// What was really offered a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.offered as f64 / self.seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_alike() {
        for text in ["64", "594", "1518", "imix"] {
            assert_eq!(Size::read(text).unwrap().to_string(), text);
        }
        for text in ["63", "1519", "", "big", "-1", "64.5"] {
            assert!(Size::read(text).unwrap_err().contains("64 to 1518"), "{text}");
        }
    }

    #[test]
    fn the_link_carries_what_the_standard_says() {
        // RFC 2544's appendix: 14,880 frames of 64 bytes a second fill 10 Mbit/s, 812 of 1518.
        let fps = |len| (10e6 / Size::Fixed(len).bits_on_the_link()) as u32;
        assert_eq!((fps(64), fps(1518)), (14_880, 812));
        assert_eq!(Size::Imix.of(6), 1518);
        assert_eq!(Size::Imix.of(12), 64);
    }

    #[test]
    fn a_trial_without_frames_lost_them_all() {
        assert!((Outcome::default().loss() - 1.0).abs() < f64::EPSILON);
        let outcome = Outcome { offered: 1000, returned: 999, seconds: 2.0, ..Outcome::default() };
        assert!((outcome.loss() - 0.001).abs() < 1e-12);
        assert!((outcome.rate() - 500.0).abs() < 1e-9);
    }

    #[test]
    fn several_trials_are_their_mean() {
        let outcome = |offered, ns, recovery| Outcome {
            offered,
            returned: offered - 1,
            seconds: 2.0,
            latency: Some(Latency { p50: ns, p90: ns, p99: ns, p99_9: ns, max: ns }),
            recovery,
            ..Outcome::default()
        };
        let all = Outcome::together(&[outcome(10, 100, Some(0.5)), outcome(30, 200, Some(1.5))]);
        let latency = Some(Latency { p50: 150, p90: 150, p99: 150, p99_9: 150, max: 200 });
        let expected =
            Outcome { offered: 40, returned: 38, wrong: 0, seconds: 4.0, latency, recovery: Some(1.0) };
        assert_eq!(all, expected);
        assert_eq!(Outcome::together(&[]), Outcome::default());
    }

    #[test]
    fn trials_cross_as_json() {
        let trial = Trial {
            number: 7,
            load: Load::New { transport: Transport::Tcp },
            size: Size::Imix,
            rate: 1000.0,
            seconds: 2.5,
        };
        let text = serde_json::to_string(&trial).unwrap();
        assert_eq!(
            text,
            r#"{"number":7,"load":{"kind":"new","transport":"tcp"},"size":"imix","rate":1000.0,"seconds":2.5}"#
        );
        assert_eq!(serde_json::from_str::<Trial>(&text).unwrap(), trial);
        let hold = Load::Hold { sessions: 5, transport: Transport::Tcp };
        let text = serde_json::to_string(&hold).unwrap();
        assert_eq!(text, r#"{"kind":"hold","sessions":5,"transport":"tcp"}"#);
        let fixed = serde_json::to_string(&Size::Fixed(64)).unwrap();
        assert_eq!(fixed, r#"{"fixed":64}"#);
    }
}
