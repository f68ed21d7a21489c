//! The programs that drive TRex, against stand-ins for TRex's library: what they ask that for, and what they say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ndr::external::External;
use ndr::generator::Generator;
use ndr::search::Answer;
use ndr::suite::{Row, Runner, Settings, Suite};
use ndr::trial::{Latency, Load, Size, Transport, Trial};

fn trex(more: &[&str]) -> External {
    driven_by("drive_trex.py", more)
}

/// TRex in its stateful mode.
fn astf(more: &[&str]) -> External {
    driven_by("drive_trex_astf.py", &[&["--look", "0.01"][..], more].concat())
}

fn driven_by(program: &str, more: &[&str]) -> External {
    let folder = env!("CARGO_MANIFEST_DIR");
    let path = format!("PYTHONPATH={folder}/tests/stand-in");
    let program = format!("{folder}/{program}");
    let words = ["env", &path, "PYTHONDONTWRITEBYTECODE=1", "python3", &program];
    let ends = ["--clients", "10.1.0.10-10.1.0.250", "--servers", "198.51.100.2"];
    let command: Vec<String> = words.iter().chain(&ends).chain(more).map(|w| (*w).to_owned()).collect();
    External::start(&command).unwrap()
}

fn rows(generator: &mut External, settings: &Settings, suite: Suite) -> Vec<Row> {
    let (mut progress, mut rows) = (|_: &str| (), Vec::new());
    Runner::new(generator, settings, &mut progress).run(suite, &mut |row| rows.push(row)).unwrap();
    rows
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
    for load in
        [Load::New { transport: Transport::Tcp }, Load::Hold { sessions: 5, transport: Transport::Udp }]
    {
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
        seconds: 2.0,
        resolution: 0.01,
        most_frames: Some(100_000.0),
        ..Settings::default()
    };
    let rows = rows(&mut generator, &settings, Suite::Throughput);
    let Answer::Exactly(rate) = rows[0].answer else { panic!("{rows:?}") };
    assert!((9_900.0..=10_000.0).contains(&rate), "{rows:?}");
}

#[test]
fn sessions_become_programs_of_both_ends() {
    let mut generator = astf(&[]);
    let about = generator.about();
    assert_eq!((about.name.as_str(), about.link), ("TRex v0 (stand-in) (ASTF)", Some(10e9)));
    for transport in [Transport::Udp, Transport::Tcp] {
        let fine = generator.run(&trial(Load::New { transport }, 9_000.0)).unwrap();
        assert_eq!((fine.offered, fine.returned, fine.wrong), (18_000, 18_000, 0), "{transport:?}");
        let lossy = generator.run(&trial(Load::New { transport }, 20_000.0)).unwrap();
        assert_eq!((lossy.offered, lossy.returned, lossy.latency), (40_000, 20_000, None), "{transport:?}");
        for (sessions, held) in [(5_000, 5_000), (8_000, 5_000), (1, 1)] {
            let outcome = generator.run(&trial(Load::Hold { sessions, transport }, 1_000.0)).unwrap();
            assert_eq!((outcome.offered, outcome.returned), (u64::from(sessions), held), "{transport:?}");
            assert!((outcome.seconds - f64::from(sessions) / 1_000.0).abs() < 1e-9, "{outcome:?}");
        }
    }
    // A connection that breaks off, and one that gets no object, are no whole ones.
    let mut generator = astf(&["--object", "1024"]);
    let whole = generator.run(&trial(Load::New { transport: Transport::Tcp }, 1_000.0)).unwrap();
    assert_eq!((whole.offered, whole.returned), (2_000, 1_980));
}

#[test]
fn what_stateful_sessions_cannot_do_is_refused() {
    let mut generator = astf(&[]);
    for load in [Load::Established { both: false }, Load::Burst { frames: 5 }] {
        let error = generator.run(&trial(load, 10.0)).unwrap_err().to_string();
        assert!(error.contains("stateful sessions make no trial"), "{error}");
    }
    let long = Load::Hold { sessions: 10_000_000, transport: Transport::Tcp };
    assert!(generator.run(&trial(long, 1_000.0)).unwrap_err().to_string().contains("higher --open"));
    let error = generator.open(7).unwrap_err().to_string();
    assert!(error.contains("no 7 flows stay open"), "{error}");
}

#[test]
fn searches_through_it_find_the_device_s_sessions() {
    let settings = Settings {
        sizes: vec![Size::Fixed(64)],
        losses: vec![0.0],
        seconds: 2.0,
        resolution: 0.01,
        most_new: 50_000.0,
        most_sessions: 20_000,
        open: 2_000.0,
        settle: 0.0,
        ..Settings::default()
    };
    let mut generator = astf(&[]);
    for (suite, most) in [
        (Suite::NewUdp, 10_000.0),
        (Suite::NewTcp, 10_000.0),
        (Suite::Sessions, 5_000.0),
        (Suite::SessionsTcp, 5_000.0),
    ] {
        let rows = rows(&mut generator, &settings, suite);
        let Answer::Exactly(found) = rows[0].answer else { panic!("{rows:?}") };
        assert!((most * 0.985..=most).contains(&found), "{rows:?}");
    }
}
