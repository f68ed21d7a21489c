//! A turn of the plug-in `benches/peers/frames.c` inside another DPDK program: what it is asked for, and what came of it.
//!
//! Both map, or read and write, one file: words of 64 bits, then samples of what has left.

use crate::played::SLOT;
use benches::rig::foreign::Inspector;
use benches::rig::frame::SHORTEST;
use benches::rig::probe;
use clap::Args;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The words, in the order of `struct control`.
#[derive(Clone, Copy)]
enum Word {
    Frames,
    Once,
    Turn,
    Ready,
    Seen,
    Offered,
    Taken,
    Own,
    First,
    Last,
    Samples,
}

const SAMPLES_AT: u64 = 4096;
const SAMPLES: u64 = 256;
/// Fewer samples than this prove nothing.
const LEAST_SAMPLES: u64 = 8;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that may get lost: what is on its way when the counts are read.
const LOSS: f64 = 0.01;

/// What is asked for.
#[derive(Args, Debug)]
pub struct Ask {
    /// The plug-in's file.
    control: PathBuf,
    /// How many flows.
    #[arg(long)]
    flows: u64,
    /// Each flow once, from the first packet to the last, rather than in turns for so many seconds.
    #[arg(long)]
    once: bool,
    /// How long, once every flow has been seen.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Packets must leave as they came.
    #[arg(long)]
    untranslated: bool,
}

/// The plug-in's file.
struct Control(File);

/// The counts of a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counts {
    offered: u64,
    taken: u64,
    /// Cycles of the plug-in, and cycles that went by.
    own: u64,
    cycles: u64,
}

impl Control {
    /// Opens it; makes it if there is none.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(SAMPLES_AT + SAMPLES * SLOT as u64)?;
        Ok(Self(file))
    }

    fn get(&self, word: Word) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, word as u64 * 8)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn put(&self, word: Word, value: u64) -> io::Result<()> {
        self.0.write_all_at(&value.to_le_bytes(), word as u64 * 8)
    }

    /// Waits until a word has a value.
    fn wait(&self, word: Word, what: &str, good: impl Fn(u64) -> bool) -> io::Result<()> {
        let mut last = (self.get(word)?, Instant::now());
        while !good(last.0) {
            sleep(Duration::from_millis(5));
            let now = self.get(word)?;
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                return Err(io::Error::other(what.to_owned()));
            }
        }
        Ok(())
    }

    /// The counts now.
    fn counts(&self) -> io::Result<Counts> {
        let get = |word| self.get(word);
        Ok(Counts {
            offered: get(Word::Offered)?,
            taken: get(Word::Taken)?,
            own: get(Word::Own)?,
            cycles: probe::cycles(),
        })
    }

    /// From the first frame to the last one that has left.
    fn whole(&self) -> io::Result<Counts> {
        Ok(Counts { cycles: self.get(Word::Last)?.saturating_sub(self.get(Word::First)?), ..self.counts()? })
    }

    /// Looks at the samples of this turn; how many there are.
    fn inspect(&self, translated: bool) -> io::Result<u64> {
        let samples = self.get(Word::Samples)?.min(SAMPLES);
        if samples < LEAST_SAMPLES {
            return Err(io::Error::other(format!("only {samples} samples of what left")));
        }
        let mut inspector = Inspector::new(translated);
        for n in 0..samples {
            let mut slot = [0; SLOT];
            self.0.read_exact_at(&mut slot, SAMPLES_AT + n * SLOT as u64)?;
            if let Some(fault) = slot.get(..SHORTEST).and_then(|frame| inspector.fault(frame)) {
                return Err(io::Error::other(fault));
            }
        }
        Ok(samples)
    }
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            offered: self.offered.saturating_sub(before.offered),
            taken: self.taken.saturating_sub(before.taken),
            own: self.own.saturating_sub(before.own),
            cycles: self.cycles.saturating_sub(before.cycles),
        }
    }

    /// Million packets a second, and cycles of the plug-in per packet.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn figures(self, hz: f64) -> Result<(f64, f64), String> {
        let Self { offered, taken, own, cycles } = self;
        let (offered, taken) = (offered as f64, taken as f64);
        if taken == 0.0 || taken < offered * (1.0 - LOSS) {
            return Err(format!("only {taken} of {offered} packets came out"));
        }
        Ok((taken / (cycles.max(1) as f64 / hz) / 1e6, own as f64 / taken))
    }
}

/// Has a turn run, and prints what it came to.
pub fn run(ask: &Ask) -> io::Result<()> {
    let hz = probe::frequency();
    let control = Control::open(&ask.control)?;
    control.wait(Word::Ready, "no port of the program plays the frames", |ready| ready == 1)?;
    control.put(Word::Frames, ask.flows)?;
    control.put(Word::Once, u64::from(ask.once))?;
    let turn = control.get(Word::Turn)? + 1;
    control.put(Word::Turn, turn)?;
    control.wait(Word::Seen, "the program receives nothing", |seen| seen == turn)?;
    control.wait(Word::Offered, "the program takes no more packets", |offered| offered >= ask.flows)?;
    // What is on its way, or what is new: a moment to settle.
    sleep(Duration::from_millis(500));
    let counts = if ask.once {
        control.whole()?
    } else {
        let before = control.counts()?;
        sleep(Duration::from_secs_f64(ask.seconds));
        control.counts()?.since(before)
    };
    // Nothing more to do.
    control.put(Word::Frames, 0)?;
    let (rate, own) = counts.figures(hz).map_err(io::Error::other)?;
    let right = control.inspect(!ask.untranslated)?;
    println!("{rate:.4} {own:.1} {right}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use benches::rig::frame::{Kind, Writer};
    use dataplane::key::Protocol;
    use dataplane::table::Direction;

    #[test]
    fn a_turn_in_which_packets_get_lost_has_no_figure() {
        let counts = Counts { offered: 1000, taken: 995, own: 19_900, cycles: 100_000 };
        let (rate, own) = counts.figures(1e9).unwrap();
        assert!((rate - 9.95).abs() < 1e-9 && (own - 20.0).abs() < 1e-9, "{rate} {own}");
        assert!(Counts { taken: 980, ..counts }.figures(1e9).unwrap_err().contains("only 980 of 1000"));
        assert!(Counts { offered: 0, taken: 0, ..counts }.figures(1e9).is_err());
        let later = Counts { offered: 3000, taken: 2995, own: 59_900, cycles: 300_000 };
        assert_eq!(later.since(counts), Counts { offered: 2000, taken: 2000, own: 40_000, cycles: 200_000 });
    }

    #[test]
    fn samples_are_judged() {
        let path = std::env::temp_dir().join(format!("postern-control-{}", std::process::id()));
        let control = Control::open(&path).unwrap();
        assert!(control.inspect(false).unwrap_err().to_string().contains("only 0 samples"));
        for n in 0..LEAST_SAMPLES {
            let mut slot = [0; SLOT];
            let frame = slot.get_mut(..SHORTEST).unwrap();
            Writer::new(Protocol::Udp).write(
                frame,
                n as u32,
                Direction::Forward,
                Kind::Data,
                benches::rig::flows::Place::default(),
            );
            control.0.write_all_at(&slot, SAMPLES_AT + n * SLOT as u64).unwrap();
        }
        control.put(Word::Samples, LEAST_SAMPLES).unwrap();
        assert_eq!(control.inspect(false).unwrap(), LEAST_SAMPLES);
        assert!(control.inspect(true).unwrap_err().to_string().starts_with("not translated"));
        std::fs::remove_file(&path).unwrap();
    }
}
