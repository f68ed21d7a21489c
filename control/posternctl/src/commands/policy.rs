//! `policy check`.

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

/// Reads a configuration: its name for messages, and its text.
pub(crate) fn read(path: &Path) -> Result<(String, String), Error> {
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
    Ok((name, text))
}

/// Lets the daemon check it. Problems go to `err`, one a line; in JSON everything goes to `out`.
pub(crate) async fn check(
    client: &mut Client,
    file: String,
    text: String,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome, Error> {
    let problems = client.check_policy(file.clone(), text).await?.problems;
    let outcome = if problems.is_empty() { Outcome::Done } else { Outcome::Problems };
    if as_json {
        let problems: Vec<_> = problems.into_iter().map(Problem::from).collect();
        json::document(out, &Checked { file, ok: problems.is_empty(), problems })?;
    } else if problems.is_empty() {
        writeln!(out, "{file}: ok")?;
    } else {
        for problem in &problems {
            writeln!(err, "{}", line(&file, problem))?;
        }
    }
    Ok(outcome)
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
