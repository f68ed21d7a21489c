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
            Load::Established { .. } | Load::New { .. } => {
                let limit = if matches!(trial.load, Load::New { .. }) { self.new } else { self.carries };
                let rate = trial.rate.min(self.fastest);
                let offered = (rate * trial.seconds) as u64;
                let returned = offered.min((limit * trial.seconds) as u64);
                Outcome { offered, returned, seconds: trial.seconds, ..Outcome::default() }
            }
        };
        if self.moody > 0 && self.trials.is_multiple_of(self.moody) {
            outcome.returned = 0;
        }
        Ok(outcome)
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
        most_burst: 100_000,
        settle: 3.0,
    }
}

fn run(model: &mut Model, settings: &Settings, suites: &[Suite]) -> Vec<Row> {
    let mut lines = 0;
    let mut progress = |_: &str| lines += 1;
    let mut runner = Runner::new(model, settings, &mut progress);
    let rows = suites.iter().flat_map(|suite| runner.run(*suite).unwrap()).collect();
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
