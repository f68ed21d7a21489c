//! Real TCP stacks on both sides of the stream engine, in every weather: both byte streams are the oracle's, and so is each segment
//! that leaves for one of them.
//!
//! Segment sizes are drawn from 1 up to what a link carries, windows from 1 up to some that have to be scaled. smoltcp itself cannot do
//! some of these:
//! - It sends 48 bytes at once to whoever takes fewer (`MIN_REMOTE_MSS`: room for options). To a smaller segment size its segments
//!   are cut on their way to the engine as often as not; what the engine makes is never longer than the size that was named.
//! - It stops repeating ([`End::Silent`]). Its fast retransmission is a whole segment whatever the window (`pending_fast_retransmit` in
//!   its `tcp.rs`), so that bytes are on their way which its receiver has no room for. An acknowledgement of some of them beside a window
//!   of zero puts the probe timer in the place of the retransmission timer (`set_for_zero_window_probe`: `ack_len > 0`). A probe begins
//!   behind what is on its way, hence never is what is missing, and the window that opens stops that timer too (`set_for_idle`). What is
//!   on its way comes again only when the application says more, and one that has closed does not. This needs no engine: a test below
//!   has it with one stack and three scripted acknowledgements. Real stacks go on, as RFC 9293 §3.8.6 asks of a sender whose window
//!   shrinks: Linux keeps its retransmission timer and repeats the first segment into the closed window (`tcp_retransmit_timer`).
//! - It takes a FIN behind bytes that it has no room for, and counts it in the place of the first of them ([`End::Early`]).
//!
//! The harness tells these by what it has seen on the wire ([`World::owes`]), never by how often the stacks do so alone. With an
//! engine they come more often: what it acknowledges of a stream that it edits stands still where its receiver takes in the grown part,
//! and three of the same start a fast retransmission. All other stalls are the engine's and fail.
//!
//! Every build runs the same seeds. Others: `POSTERN_STREAMS=1000..2000 cargo test -p dataplane --test stream_stacks` runs these in the
//! place of all tests' own, and names those that fail. One that does is to be looked at (`1000..1001`, and `POSTERN_STREAM_TRACE=1`),
//! and becomes a test of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use streams::stacks::{Chance, End, Weather, World, tries_behind};

/// A stream of whole messages, and sometimes one that its sender does not finish.
fn stream(chance: &mut Chance, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let want = 1 + chance.below(most);
    while (bytes.len() as u64) < want {
        let op = chance.draw() as u8;
        let len = if chance.percent(80) { chance.below(12) } else { chance.below(255) } as usize;
        bytes.extend([op, len as u8]);
        bytes.extend((0..len).map(|_| chance.draw() as u8));
    }
    if chance.percent(20) {
        bytes.truncate(bytes.len() - 1);
    }
    bytes
}

/// A number of a range: often an end of it, and otherwise a small one as likely as a large one.
fn of_range(chance: &mut Chance, range: core::ops::RangeInclusive<u64>) -> usize {
    let (least, most) = (*range.start(), *range.end());
    let drawn = match chance.below(10) {
        0 => least,
        1 => most,
        _ => {
            // As many digits as any other, and any number with as many.
            let bits = chance.below(u64::from((most - least + 1).ilog2()) + 1);
            least + (1 << bits) - 1 + chance.below(1 << bits)
        }
    };
    drawn.min(most) as usize
}

/// Windows from here on have to be scaled (RFC 7323 §2).
const SCALED: u64 = 1 << 16;

fn weather(chance: &mut Chance) -> Weather {
    let tiny = chance.percent(40);
    let most = if chance.percent(20) { 4 * SCALED } else { SCALED - 1 };
    let window = |chance: &mut Chance| of_range(chance, if tiny { 1..=TINY - 1 } else { TINY..=most });
    Weather {
        loss: chance.pick(&[0, 0, 2, 10, 25]),
        repeat: chance.pick(&[0, 0, 5, 30]),
        delay: chance.pick(&[1, 5, 60]),
        cut: if chance.percent(30) { 0 } else { of_range(chance, 1..=1_460) },
        mss: of_range(chance, 1..=1_460) as u16,
        window: [window(chance), window(chance)],
        nagle: chance.percent(50),
        ack_delay: chance.percent(50),
        timestamps: chance.percent(50),
        write: of_range(chance, 1..=4_096),
    }
}

/// A window below this makes smoltcp stall now and then.
const TINY: u64 = 256;

/// Fewer seeds than this say nothing of how many stall, close, let the engine go or narrow.
const FEW: usize = 24;

/// Answers how the connection ended, and whether a window was tiny.
fn run(seed: u64) -> (End, bool) {
    let (end, tiny, _) = run_until(seed, false);
    (end, tiny)
}

/// The same; `blind`: at some point nobody reads any more. Answers too whether the engine was let go.
fn run_until(seed: u64, blind: bool) -> (End, bool, bool) {
    let mut chance = Chance(seed);
    let weather = weather(&mut chance);
    let tiny = weather.window.iter().any(|w| (*w as u64) < TINY);
    let most = if weather.window.iter().any(|w| *w < 100) || weather.mss < 10 { 120 } else { 3_000 };
    let says = [stream(&mut chance, most), stream(&mut chance, most)];
    let total = says.iter().map(Vec::len).sum::<usize>() as u64;
    let mut world = World::new(seed, weather, says);
    // In half of them before anything is edited.
    world.gate.blind_behind =
        blind.then(|| if chance.percent(50) { 0 } else { chance.below(total) as usize });
    let end = world.run();
    assert_ne!(end, End::Stalled, "seed {seed}: {world:?}");
    if is_smoltcps(end) {
        eprintln!("seed {seed}: {end:?}, {world:?}");
    }
    (end, tiny, world.gate.over)
}

/// Whether a connection ended by what its stacks alone did.
fn is_smoltcps(end: End) -> bool {
    matches!(end, End::Silent | End::Early)
}

/// The stall of a closed sender (see the head), without the engine. Where smoltcp has mended it, the head is to be shorter.
#[test]
fn smoltcp_alone_forgets_what_is_on_its_way_where_the_window_closes_and_opens() {
    assert!(tries_behind(&[100]) > 10, "the window stays open");
    assert_eq!(tries_behind(&[0]), 0, "it stays closed");
    assert_eq!(tries_behind(&[0, 100]), 0, "it opens again");
}

/// The seeds to try: so many, or those that `POSTERN_STREAMS` names as `from..to`.
fn seeds(many: u64) -> core::ops::Range<u64> {
    let named = std::env::var("POSTERN_STREAMS").ok();
    let range = named.as_deref().and_then(|r| r.split_once(".."));
    range.map_or(0..many, |(from, to)| from.parse().unwrap()..to.parse().unwrap())
}

#[test]
fn both_streams_are_the_oracles_in_every_weather() {
    let (mut failed, mut ends) = (Vec::new(), Vec::new());
    for seed in seeds(60) {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(end) => ends.push(end),
            Err(_) => failed.push(seed),
        }
    }
    let count = |which: &dyn Fn(&(End, bool)) -> bool| ends.iter().filter(|e| which(e)).count();
    let (tiny, stalled) = (count(&|e| e.1), count(&|e| is_smoltcps(e.0)));
    let closed = count(&|e| e.0 == End::Closed);
    eprintln!(
        "{} ended, {closed} of them closed; {tiny} with a tiny window, {stalled} of them stalled",
        ends.len()
    );
    assert!(failed.is_empty(), "failed with the seeds {failed:?}");
    assert!(ends.len() < FEW || stalled * 10 <= tiny, "{stalled} of {tiny} stalled");
    assert!(ends.len() < FEW || closed * 2 >= ends.len(), "{closed} of {} closed", ends.len());
}

/// Streams of a few messages in weather that only cuts: how they ended.
fn run_fair(seed: u64, cut: usize, mss: u16, window: usize) -> End {
    let mut chance = Chance(seed);
    let weather = Weather {
        loss: 0,
        repeat: 0,
        delay: 1,
        cut,
        mss,
        window: [window; 2],
        nagle: false,
        ack_delay: false,
        timestamps: chance.percent(50),
        write: 4_096,
    };
    let says = [stream(&mut chance, 120), stream(&mut chance, 120)];
    World::new(seed, weather, says).run()
}

/// The weathers that are drawn have few of the smallest sizes: here is each of them.
#[test]
fn both_streams_are_the_oracles_at_each_small_segment_size_and_window() {
    let mut failed = Vec::new();
    for size in 1..=64_u16 {
        let end = std::panic::catch_unwind(|| run_fair(size.into(), size.into(), size, 2_048));
        if !end.is_ok_and(|end| matches!(end, End::Closed | End::Whole)) {
            failed.push(format!("segments of {size}"));
        }
    }
    for window in 1..=16 {
        let end = std::panic::catch_unwind(|| run_fair(window as u64, 0, 1_460, window));
        if !end.is_ok_and(|end| end != End::Stalled) {
            failed.push(format!("windows of {window}"));
        }
    }
    assert!(failed.is_empty(), "failed with {failed:?}");
}

/// Answers how often the engine had to make its segments shorter.
fn run_narrow(seed: u64) -> u32 {
    let mut chance = Chance(seed);
    let weather = Weather {
        cut: 0,
        mss: 1_460,
        window: [0; 2].map(|_| of_range(&mut chance, 2_048..=SCALED - 1)),
        ..weather(&mut chance)
    };
    let says = [stream(&mut chance, 6_000), stream(&mut chance, 6_000)];
    let mut world = World::new(seed, weather, says);
    world.narrow = Some((chance.below(30), 536 + chance.below(900) as u16));
    let end = world.run();
    assert!(matches!(end, End::Closed | End::Whole), "{end:?}: {world:?}");
    world.gate.tally.narrowed
}

/// Neither stack is told, so that only what the engine makes of their segments gets through.
#[test]
fn both_streams_arrive_though_the_way_becomes_too_narrow_for_their_segments() {
    let (mut failed, mut narrowed) = (Vec::new(), 0);
    for seed in seeds(24) {
        match std::panic::catch_unwind(|| run_narrow(seed)) {
            Ok(times) => narrowed += times,
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "failed with the seeds {failed:?}");
    assert!(seeds(24).count() < FEW || narrowed > 5, "{narrowed} times");
}

#[test]
fn a_stream_that_nobody_reads_any_more_loses_nothing_and_is_let_go() {
    let (mut failed, mut ends) = (Vec::new(), Vec::new());
    for seed in seeds(32) {
        match std::panic::catch_unwind(|| run_until(seed, true)) {
            Ok(end) => ends.push(end),
            Err(_) => failed.push(seed),
        }
    }
    let count = |which: &dyn Fn(&(End, bool, bool)) -> bool| ends.iter().filter(|e| which(e)).count();
    let (tiny, stalled) = (count(&|e| e.1), count(&|e| is_smoltcps(e.0)));
    assert!(failed.is_empty(), "failed with the seeds {failed:?}");
    assert!(ends.len() < FEW || stalled * 10 <= tiny, "{stalled} of {tiny} stalled");
    let over = count(&|e| e.2);
    assert!(
        ends.len() < FEW || over * 3 >= ends.len(),
        "{over} of {} went on without the engine",
        ends.len()
    );
}
