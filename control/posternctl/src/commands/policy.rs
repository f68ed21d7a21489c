//! `policy show`, `policy check`, `policy diff`, `policy commit`.

use crate::client::Client;
use crate::{Error, Outcome, json};
use control_api::{MAX_POLICY_BYTES, v1};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The outcome in JSON.
#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
}

/// A problem in JSON. Line and column are null where it belongs to none.
#[derive(Serialize)]
struct Problem {
    line: Option<u32>,
    column: Option<u32>,
    message: String,
    expected: Option<String>,
}

/// What `policy show` says in JSON.
#[derive(Serialize)]
struct Shown {
    generation: u32,
    file: String,
    toml: String,
}

/// What `policy diff` says in JSON.
#[derive(Serialize)]
struct Different {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
    generation: u32,
    diff: String,
    restart_needed: Vec<String>,
}

/// What `policy commit` says in JSON.
#[derive(Serialize)]
struct Committed {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
    generation: u32,
}

/// A configuration: its name for messages, and its text.
#[derive(Default)]
pub(crate) struct Candidate {
    name: String,
    text: String,
}

/// Reads a configuration.
pub(crate) fn read(path: &Path) -> Result<Candidate, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let (name, input): (_, Box<dyn Read>) = if path == Path::new("-") {
        ("<stdin>".to_owned(), Box::new(io::stdin()))
    } else {
        (path.display().to_string(), Box::new(File::open(path).map_err(failed)?))
    };
    let mut text = String::new();
    input.take(MAX_POLICY_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAX_POLICY_BYTES {
        return Err(Error::TooLarge { path: path.to_owned(), limit: MAX_POLICY_BYTES });
    }
    Ok(Candidate { name, text })
}

/// Prints the configuration in force, as it was given.
pub(crate) async fn show(client: &mut Client, as_json: bool, out: &mut dyn Write) -> Result<Outcome, Error> {
    let v1::ShowPolicyResponse { generation, file_name: file, toml } =
        client.show_policy(v1::ShowPolicyRequest {}).await?;
    if as_json {
        json::document(out, &Shown { generation, file, toml })?;
        return Ok(Outcome::Done);
    }
    // A comment of its own, so that the whole is a configuration again.
    writeln!(out, "# generation {generation} of {file}")?;
    out.write_all(toml.as_bytes())?;
    if !toml.ends_with('\n') {
        writeln!(out)?;
    }
    Ok(Outcome::Done)
}

/// Lets the daemon check it. Problems go to `err`, one a line; in JSON everything goes to `out`.
pub(crate) async fn check(
    client: &mut Client,
    Candidate { name: file, text: toml }: Candidate,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome, Error> {
    let request = v1::CheckPolicyRequest { file_name: file.clone(), toml };
    let problems = client.check_policy(request).await?.problems;
    let outcome = outcome_of(&problems);
    if as_json {
        json::document(out, &Checked { file, ok: problems.is_empty(), problems: in_json(problems) })?;
    } else if problems.is_empty() {
        writeln!(out, "{file}: ok")?;
    } else {
        print(&file, &problems, err)?;
    }
    Ok(outcome)
}

/// Prints what a commit would change, as a unified diff.
pub(crate) async fn diff(
    client: &mut Client,
    Candidate { name: file, text: toml }: Candidate,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome, Error> {
    let request = v1::DiffPolicyRequest { file_name: file.clone(), toml };
    let v1::DiffPolicyResponse { problems, generation, diff, restart_needed } =
        client.diff_policy(request).await?;
    let outcome = match (outcome_of(&problems), diff.is_empty()) {
        (Outcome::Done, false) => Outcome::Different,
        (outcome, _) => outcome,
    };
    if as_json {
        let (ok, problems) = (problems.is_empty(), in_json(problems));
        json::document(out, &Different { file, ok, problems, generation, diff, restart_needed })?;
        return Ok(outcome);
    }
    print(&file, &problems, err)?;
    out.write_all(diff.as_bytes())?;
    for sentence in &restart_needed {
        writeln!(err, "{file}: {sentence}: that needs a restart")?;
    }
    Ok(outcome)
}

/// Puts it in force.
pub(crate) async fn commit(
    client: &mut Client,
    Candidate { name: file, text: toml }: Candidate,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome, Error> {
    let request = v1::CommitPolicyRequest { file_name: file.clone(), toml };
    let v1::CommitPolicyResponse { problems, generation } = client.commit_policy(request).await?;
    let outcome = outcome_of(&problems);
    if as_json {
        let (ok, problems) = (problems.is_empty(), in_json(problems));
        json::document(out, &Committed { file, ok, problems, generation })?;
    } else if problems.is_empty() {
        writeln!(out, "{file}: in force as generation {generation}")?;
    } else {
        print(&file, &problems, err)?;
        writeln!(err, "{file}: nothing was changed; generation {generation} stays in force")?;
    }
    Ok(outcome)
}

fn outcome_of(problems: &[v1::Problem]) -> Outcome {
    if problems.is_empty() { Outcome::Done } else { Outcome::Problems }
}

fn in_json(problems: Vec<v1::Problem>) -> Vec<Problem> {
    problems.into_iter().map(Problem::from).collect()
}

/// One problem a line.
fn print(file: &str, problems: &[v1::Problem], err: &mut dyn Write) -> io::Result<()> {
    problems.iter().try_for_each(|problem| writeln!(err, "{}", line(file, problem)))
}

/// `FILE:LINE:COLUMN: MESSAGE; expected WHAT`, as far as it is known: the same as `posternd check` prints.
fn line(file: &str, problem: &v1::Problem) -> String {
    let v1::Problem { line, column, message, expected } = problem;
    let place = match (line, column) {
        (0, _) => file.to_owned(),
        (line, 0) => format!("{file}:{line}"),
        (line, column) => format!("{file}:{line}:{column}"),
    };
    if expected.is_empty() {
        format!("{place}: {message}")
    } else {
        format!("{place}: {message}; expected {expected}")
    }
}

impl From<v1::Problem> for Problem {
    fn from(p: v1::Problem) -> Self {
        Self {
            line: Some(p.line).filter(|&line| line != 0),
            column: Some(p.column).filter(|&column| column != 0),
            message: p.message,
            expected: Some(p.expected).filter(|expected| !expected.is_empty()),
        }
    }
}
