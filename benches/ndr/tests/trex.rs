//! The program that drives TRex, against a stand-in for TRex's library: what it asks that for, and what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ndr::external::External;
use ndr::generator::Generator;
use ndr::search::Answer;
use ndr::suite::{Runner, Settings, Suite};
use ndr::trial::{Latency, Load, Size, Transport, Trial};

fn trex(more: &[&str]) -> External {
    let folder = env!("CARGO_MANIFEST_DIR");
    let path = format!("PYTHONPATH={folder}/tests/stand-in");
    let program = format!("{folder}/drive_trex.py");
    let words = ["env", &path, "PYTHONDONTWRITEBYTECODE=1", "python3", &program];
    let ends = ["--clients", "10.1.0.10-10.1.0.250", "--servers", "198.51.100.2"];
    let command: Vec<String> = words.iter().chain(&ends).chain(more).map(|w| (*w).to_owned()).collect();
    External::start(&command).unwrap()
}

fn trial(load: Load, rate: f64) -> Trial {
    Trial { number: 1, load, size: Size::Fixed(64), rate, seconds: 2.0 }
}

#[test]
fn trials_become_streams() {
    let mut generator = trex(&[]);
    let about = generator.about();
    assert_eq!((about.name.as_str(), about.link), ("TRex v0 (stand-in)", Some(10e9)));
    generator.open(1000).unwrap();
    let one = Load::Established { both: false };
    let fine = generator.run(&trial(one, 9_000.0)).unwrap();
    assert_eq!((fine.offered, fine.returned, fine.latency), (18_000, 18_000, None));
    // The stream of time stamps is part of the rate.
    let lossy = generator.run(&trial(one, 20_000.0)).unwrap();
    assert_eq!((lossy.offered, lossy.returned), (40_000, 20_000));
    let expected = Latency { p50: 10_000, p90: 10_000, p99: 30_000, p99_9: 200_000, max: 245_000 };
    assert_eq!(lossy.latency, Some(expected));
    let mixed = generator.run(&Trial { size: Size::Imix, ..trial(one, 6_000.0) }).unwrap();
    assert_eq!(mixed.offered, 12_000);
    let burst = generator.run(&trial(Load::Burst { frames: 500 }, 0.0)).unwrap();
    assert_eq!((burst.offered, burst.returned), (500, 500));
}

#[test]
fn what_stateless_streams_cannot_do_is_refused() {
    let mut generator = trex(&[]);
    for load in [Load::New { transport: Transport::Tcp }, Load::Hold { sessions: 5 }] {
        let error = generator.run(&trial(load, 10.0)).unwrap_err().to_string();
        assert!(error.contains("stateless streams make no trial"), "{error}");
    }
    let both = Load::Established { both: true };
    assert!(generator.run(&trial(both, 10.0)).unwrap_err().to_string().contains("--no-nat"));
    assert_eq!(trex(&["--no-nat"]).run(&trial(both, 10.0)).unwrap().offered, 20);
}

#[test]
fn a_search_through_it_finds_the_device_s_rate() {
    let mut generator = trex(&[]);
    let settings = Settings {
        sizes: vec![Size::Fixed(64)],
        losses: vec![0.0],
        flows: 100,
        both: false,
        seconds: 2.0,
        confirmations: 1,
        resolution: 0.01,
        most_frames: Some(100_000.0),
        most_new: 1.0,
        most_sessions: 1,
        open: 1000.0,
        most_burst: 1,
        settle: 0.0,
    };
    let mut progress = |_: &str| ();
    let rows = Runner::new(&mut generator, &settings, &mut progress).run(Suite::Throughput).unwrap();
    let Answer::Exactly(rate) = rows[0].answer else { panic!("{rows:?}") };
    assert!((9_900.0..=10_000.0).contains(&rate), "{rows:?}");
}
