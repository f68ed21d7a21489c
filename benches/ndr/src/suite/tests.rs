use super::*;
use crate::generator::About;

/// A device that carries so much, behind a generator that offers so much.
struct Model {
    carries: f64,
    fastest: f64,
    new: f64,
    holds: u32,
    burst: u32,
    link: Option<f64>,
    /// Seconds that it goes on losing frames after too much; none: the generator cannot tell.
    recovers: Option<f64>,
    /// Sessions that the generator has addresses for, if they are few.
    addresses: Option<u64>,
    /// Fails every so many trials whatever the rate.
    moody: u32,
    trials: u32,
    opened: Vec<u32>,
    waited: f64,
}

const MODEL: Model = Model {
    carries: 1e6,
    fastest: 1e9,
    new: 1e5,
    holds: 50_000,
    burst: 777,
    link: None,
    recovers: Some(0.25),
    addresses: None,
    moody: 0,
    trials: 0,
    opened: Vec::new(),
    waited: 0.0,
};

impl Generator for Model {
    fn about(&self) -> About {
        About { name: "model".to_owned(), link: self.link }
    }

    fn open(&mut self, flows: u32) -> Result<(), GeneratorError> {
        self.opened.push(flows);
        Ok(())
    }

    fn run(&mut self, trial: &Trial) -> Result<Outcome, GeneratorError> {
        self.trials += 1;
        let mut outcome = match trial.load {
            Load::Hold { sessions, .. } => {
                let held = sessions.min(self.holds);
                Outcome {
                    offered: sessions.into(),
                    returned: held.into(),
                    seconds: 1.0,
                    ..Outcome::default()
                }
            }
            Load::Burst { frames } => {
                let came = frames.min(self.burst);
                Outcome { offered: frames.into(), returned: came.into(), seconds: 1.0, ..Outcome::default() }
            }
            Load::Recovery { .. } => {
                let offered = (trial.rate * trial.seconds * 1.5) as u64;
                let recovery = self.recovers.map(|seconds| seconds.min(trial.seconds));
                let returned = offered - u64::from(recovery.is_some_and(|s| s > 0.0));
                let seconds = trial.seconds * 2.0;
                Outcome { offered, returned, seconds, recovery, ..Outcome::default() }
            }
            Load::Established { .. } | Load::New { .. } => {
                let limit = if matches!(trial.load, Load::New { .. }) { self.new } else { self.carries };
                let rate = trial.rate.min(self.fastest);
                let offered = (rate * trial.seconds) as u64;
                if let (Load::New { .. }, Some(left)) = (trial.load, self.addresses) {
                    let error = GeneratorError::Addresses { wanted: offered, left };
                    self.addresses = Some(left.checked_sub(offered).ok_or(error)?);
                }
                let returned = offered.min((limit * trial.seconds) as u64);
                Outcome { offered, returned, seconds: trial.seconds, ..Outcome::default() }
            }
        };
        if self.moody > 0 && self.trials.is_multiple_of(self.moody) {
            outcome.returned = 0;
        }
        Ok(outcome)
    }

    fn unused(&self, _: Transport) -> Option<u64> {
        self.addresses
    }

    fn wait(&mut self, seconds: f64) {
        self.waited += seconds;
    }
}

fn settings() -> Settings {
    Settings {
        sizes: vec![Size::Fixed(64), Size::Imix],
        losses: vec![0.0, 0.01],
        flows: 1000,
        both: false,
        seconds: 10.0,
        confirmations: 1,
        resolution: 0.001,
        most_frames: Some(1e7),
        most_new: 1e6,
        most_sessions: 1_000_000,
        open: 1e5,
        most_burst: Some(100_000),
        settle: 3.0,
        ..Settings::default()
    }
}

fn run(model: &mut Model, settings: &Settings, suites: &[Suite]) -> Vec<Row> {
    let mut lines = 0;
    let mut progress = |_: &str| lines += 1;
    let mut runner = Runner::new(model, settings, &mut progress);
    let mut rows = Vec::new();
    for suite in suites {
        runner.run(*suite, &mut |row| rows.push(row)).unwrap();
    }
    assert_eq!(lines, model.trials);
    rows
}

fn exactly(row: &Row, expected: f64, resolution: f64) {
    let Answer::Exactly(load) = row.answer else { panic!("{row:?}") };
    assert!(
        load <= expected * 1.0001 && load >= expected * (1.0 - 1.1 * resolution),
        "{row:?} for {expected}"
    );
}

#[test]
fn ndr_and_pdr_are_found_for_each_size() {
    let mut model = MODEL;
    let rows = run(&mut model, &settings(), &[Suite::Throughput]);
    assert_eq!(rows.len(), 4);
    for row in rows {
        // With a hundredth of loss, a hundredth more is offered.
        exactly(&row, if row.at == 0.0 { 1e6 } else { 1e6 / 0.99 }, 0.001);
        assert!(row.outcome.offered > 0 && row.outcome.loss() <= row.at);
    }
    assert_eq!(model.opened, [1000], "once for all");
}

#[test]
fn a_generator_s_limit_is_not_the_device_s() {
    let mut model = Model { fastest: 4e5, ..MODEL };
    let rows = run(&mut model, &settings(), &[Suite::Throughput, Suite::NewUdp]);
    for row in rows.iter().filter(|row| row.suite == Suite::Throughput) {
        assert!(matches!(row.answer, Answer::AtLeast(load) if (load - 4e5).abs() < 1.0), "{row:?}");
    }
}

#[test]
fn line_rate_is_the_most_that_is_asked_for() {
    // 1 Gbit/s carries 1,488,095 frames of 64 bytes.
    let settings = Settings { most_frames: None, sizes: vec![Size::Fixed(64)], ..settings() };
    let mut model = Model { carries: 1e9, link: Some(1e9), ..MODEL };
    let rows = run(&mut model, &settings, &[Suite::Throughput]);
    assert!(matches!(rows[0].answer, Answer::AtLeast(load) if (load - 1_488_095.2).abs() < 1.0), "{rows:?}");
    let both = Settings { both: true, ..settings };
    let mut model = Model { carries: 1e9, link: Some(1e9), ..MODEL };
    let rows = run(&mut model, &both, &[Suite::Throughput]);
    assert!(matches!(rows[0].answer, Answer::AtLeast(load) if (load - 2_976_190.5).abs() < 1.0), "{rows:?}");
}

#[test]
fn latency_is_measured_at_shares_of_the_ndr() {
    let rows = run(&mut Model { ..MODEL }, &settings(), &[Suite::Throughput, Suite::Latency]);
    let at: Vec<_> = rows.iter().filter(|r| r.suite == Suite::Latency && r.size == Size::Imix).collect();
    assert_eq!(at.len(), LATENCY_AT.len());
    for row in at {
        exactly(row, 1e6 * row.at, 0.002);
        assert_eq!(row.trials, 1);
    }
    // Alone, it searches the rate first.
    let alone = run(&mut Model { ..MODEL }, &settings(), &[Suite::Latency]);
    assert_eq!(alone.len(), 2 * LATENCY_AT.len());
}

#[test]
fn loss_ends_after_two_clean_trials() {
    let settings = Settings { sizes: vec![Size::Fixed(64)], most_frames: Some(2e6), ..settings() };
    let rows = run(&mut Model { ..MODEL }, &settings, &[Suite::Loss]);
    let at: Vec<_> = rows.iter().map(|row| (row.at, row.outcome.loss() > 0.0)).collect();
    assert_eq!(
        at,
        [(1.0, true), (0.9, true), (0.8, true), (0.7, true), (0.6, true), (0.5, false), (0.4, false)]
    );
    assert!((rows[0].outcome.loss() - 0.5).abs() < 1e-6);
}

#[test]
fn bursts_sessions_and_new_sessions_are_found() {
    let mut model = MODEL;
    let settings = Settings { resolution: 1e-6, sizes: vec![Size::Fixed(64)], ..settings() };
    let suites =
        [Suite::Bursts, Suite::NewUdp, Suite::NewTcp, Suite::Sessions, Suite::SessionsTcp, Suite::Throughput];
    let rows = run(&mut model, &settings, &suites);
    assert_eq!(rows[0].answer, Answer::Exactly(777.0));
    exactly(&rows[1], 1e5, 1e-4);
    exactly(&rows[2], 1e5, 1e-4);
    assert_eq!(rows[3].answer, Answer::Exactly(50_000.0));
    assert_eq!((rows[4].suite, rows[4].answer), (Suite::SessionsTcp, Answer::Exactly(50_000.0)));
    assert_eq!(model.opened, [1000, 1000], "held sessions took the place of the flows");
    let made = rows[1..5].iter().map(|row| row.trials).sum::<u32>();
    assert!((model.waited - f64::from(made) * 3.0).abs() < 1e-9, "before each trial that makes sessions");
}

#[test]
fn a_device_that_changes_its_mind_ends_the_search() {
    let settings = Settings { sizes: vec![Size::Fixed(64)], losses: vec![0.0], ..settings() };
    for moody in 1..8 {
        let mut model = Model { moody, ..MODEL };
        let rows = run(&mut model, &settings, &[Suite::Throughput]);
        assert!(rows[0].trials <= MOST_TRIALS, "{rows:?}");
        assert!(rows[0].answer.passed().is_none_or(|load| load <= 1e6), "{rows:?}");
    }
}

#[test]
fn latency_is_the_mean_of_its_trials() {
    let settings = Settings {
        sizes: vec![Size::Fixed(64)],
        latency_trials: 20,
        latency_seconds: Some(120.0),
        ..settings()
    };
    let rows = run(&mut Model { ..MODEL }, &settings, &[Suite::Latency]);
    assert_eq!(rows.len(), LATENCY_AT.len());
    for row in rows {
        exactly(&row, 1e6 * row.at, 0.002);
        assert_eq!((row.trials, row.outcome.seconds), (20, 2400.0));
    }
}

#[test]
fn bursts_are_as_long_as_the_link_carries_in_their_seconds() {
    let sizes = vec![Size::Fixed(64)];
    let settings = Settings { sizes, most_burst: None, burst_trials: 3, ..settings() };
    let mut model = Model { burst: u32::MAX, link: Some(1e9), ..MODEL };
    let rows = run(&mut model, &settings, &[Suite::Bursts]);
    // 2 s of 1,488,095 frames.
    assert_eq!((rows[0].answer, rows[0].trials), (Answer::AtLeast(2_976_190.0), 6));
    let rows = run(&mut Model { burst: u32::MAX, ..MODEL }, &settings, &[Suite::Bursts]);
    assert_eq!(rows[0].answer, Answer::AtLeast(1_000_000.0), "of a link that nobody knows");
}

#[test]
fn the_mean_of_searches_is_no_better_than_the_worst_kind() {
    let found = |answer| Found { answer, outcome: Outcome::default(), trials: 2 };
    let mean = |answers: [Answer; 2]| Found::mean_of(&answers.map(found)).answer;
    assert_eq!(mean([Answer::Exactly(1.0), Answer::Exactly(2.0)]), Answer::Exactly(1.5));
    assert_eq!(mean([Answer::Exactly(1.0), Answer::AtLeast(2.0)]), Answer::AtLeast(1.5));
    assert_eq!(mean([Answer::Below(1.0), Answer::AtLeast(2.0)]), Answer::Below(1.0));
}

#[test]
fn recovery_is_from_a_tenth_more_than_the_ndr() {
    let settings = Settings { sizes: vec![Size::Fixed(64)], recovery_trials: 3, ..settings() };
    let rows = run(&mut Model { ..MODEL }, &settings, &[Suite::Throughput, Suite::Recovery]);
    let row = rows.last().unwrap();
    assert_eq!((row.suite, row.answer, row.trials), (Suite::Recovery, Answer::Exactly(250.0), 3));
    assert!((row.at - 1.1).abs() < 1e-9 && row.holds(), "{row:?}");
    // One that never does, and one that lost nothing.
    let rows = run(&mut Model { recovers: Some(99.0), ..MODEL }, &settings, &[Suite::Recovery]);
    assert_eq!(rows[0].answer, Answer::AtLeast(10_000.0));
    let rows = run(&mut Model { recovers: Some(0.0), ..MODEL }, &settings, &[Suite::Recovery]);
    assert!(rows[0].answer == Answer::Exactly(0.0) && rows[0].holds(), "{rows:?}");
    // No faster than the link.
    let settings = Settings { most_frames: None, ..settings };
    let mut model = Model { carries: 1e9, link: Some(1e9), ..MODEL };
    let rows = run(&mut model, &settings, &[Suite::Recovery]);
    assert!((rows[0].at - 1.0).abs() < 1e-9, "{rows:?}");
    // A generator that cannot tell is no device that recovers at once.
    let mut model = Model { recovers: None, ..MODEL };
    let mut progress = |_: &str| ();
    let mut runner = Runner::new(&mut model, &settings, &mut progress);
    assert!(matches!(runner.run(Suite::Recovery, &mut |_| ()), Err(GeneratorError::Refused(_))));
}

#[test]
fn a_trial_makes_no_more_sessions_than_are_asked_for() {
    // At a million a second for ten seconds it would be ten million.
    let settings = Settings { new_sessions: 500_000, ..settings() };
    let mut model = Model { new: 1e9, ..MODEL };
    let rows = run(&mut model, &settings, &[Suite::NewUdp]);
    assert!((rows[0].outcome.offered as f64 - 5e5).abs() < 2.0, "{rows:?}");
    assert_eq!(rows[0].answer, Answer::AtLeast(1e6));
}

#[test]
fn addresses_that_run_out_leave_a_bound() {
    // A 32nd of them a trial lasts for a search.
    let settings = settings();
    let mut model = Model { addresses: Some(3_200_000), ..MODEL };
    exactly(&run(&mut model, &settings, &[Suite::NewUdp])[0], 1e5, 0.001);
    // A device that changes its mind makes it longer: what has passed until then is a bound.
    let mut model = Model { addresses: Some(3_200_000), new: 300_000.0, ..MODEL };
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    let mut progress = |line: &str| lines.push(line.to_owned());
    let settings = Settings { confirmations: 50, ..settings };
    Runner::new(&mut model, &settings, &mut progress).run(Suite::NewTcp, &mut |row| rows.push(row)).unwrap();
    let Answer::AtLeast(load) = rows[0].answer else { panic!("{rows:?}") };
    assert!((3e5 * 0.998..=3e5).contains(&load), "{rows:?}");
    assert!(lines.last().unwrap().contains("the search ends here"), "{lines:?}");
}

#[test]
fn rows_have_the_limit_of_the_link() {
    let settings = Settings { sizes: vec![Size::Fixed(64)], both: true, ..settings() };
    let mut model = Model { link: Some(1e9), ..MODEL };
    let rows = run(&mut model, &settings, &[Suite::Throughput, Suite::Latency, Suite::Loss, Suite::NewUdp]);
    for row in rows {
        match row.suite {
            Suite::NewUdp => assert_eq!(row.limit, None),
            _ => assert!(row.limit.is_some_and(|limit| (limit - 2_976_190.5).abs() < 1.0), "{row:?}"),
        }
    }
    let rows = run(&mut Model { ..MODEL }, &settings, &[Suite::Throughput]);
    assert_eq!(rows[0].limit, None);
}
