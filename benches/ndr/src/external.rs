//! Another generator, driven by a program that speaks one JSON object a line.
//!
//! | we write | it answers |
//! |---|---|
//! | `{"op":"about"}` | `{"name":"TRex v3.04","link":1e10}`; `link` in bits a second may be missing |
//! | `{"op":"open","flows":1000}` | `{}` |
//! | `{"op":"trial","trial":{...}}` ([`crate::trial::Trial`]) | an [`Outcome`]: `{"offered":...,"returned":...,"wrong":0,"seconds":...}` |
//!
//! Anything may be answered by `{"error":"a sentence"}`. The program ends when its input does.

use crate::generator::{About, Generator, GeneratorError};
use crate::trial::{Outcome, Trial};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Longest answer, in bytes.
const LINE: u64 = 1 << 20;

/// The program, running.
pub struct External {
    program: String,
    about: About,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request<'a> {
    About,
    Open { flows: u32 },
    Trial { trial: &'a Trial },
}

#[derive(Deserialize)]
struct AboutAnswer {
    name: String,
    link: Option<f64>,
}

#[derive(Deserialize)]
struct Nothing {}

impl External {
    /// Runs the program, and asks what it is.
    ///
    /// # Errors
    /// It cannot be run, or does not answer as above.
    pub fn start(command: &[String]) -> Result<Self, GeneratorError> {
        let program = command.join(" ");
        let failed = |what: String| GeneratorError::Program { program: program.clone(), what };
        let (name, args) = command.split_first().ok_or_else(|| failed("has no command".to_owned()))?;
        let mut child = Command::new(name)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("has no input or output".to_owned()));
        };
        let about = About { name: program.clone(), link: None };
        let mut this = Self { program, about, child, to: Some(to), from: BufReader::new(from) };
        let answer: AboutAnswer = this.ask(&Request::About)?;
        this.about = About { name: answer.name, link: answer.link };
        Ok(this)
    }

    fn failed(&self, what: impl Into<String>) -> GeneratorError {
        GeneratorError::Program { program: self.program.clone(), what: what.into() }
    }

    fn ask<T: for<'a> Deserialize<'a>>(&mut self, request: &Request<'_>) -> Result<T, GeneratorError> {
        let mut line = serde_json::to_string(request).map_err(|error| self.failed(error.to_string()))?;
        line.push('\n');
        let written =
            self.to.as_mut().map_or(Ok(()), |to| to.write_all(line.as_bytes()).and_then(|()| to.flush()));
        if let Err(error) = written {
            return Err(self.failed(format!("takes no more requests: {error}")));
        }
        line.clear();
        match self.from.by_ref().take(LINE).read_line(&mut line) {
            Ok(0) => return Err(self.failed("ended without an answer")),
            Err(error) => return Err(self.failed(format!("cannot be read: {error}"))),
            Ok(_) => {}
        }
        let value: serde_json::Value = serde_json::from_str(&line).map_err(|_| {
            self.failed(format!("answers no JSON: {}", line.trim().chars().take(200).collect::<String>()))
        })?;
        if let Some(sentence) = value.get("error").and_then(serde_json::Value::as_str) {
            return Err(GeneratorError::Refused(sentence.to_owned()));
        }
        serde_json::from_value(value).map_err(|error| self.failed(format!("answers something else: {error}")))
    }
}

impl Generator for External {
    fn about(&self) -> About {
        self.about.clone()
    }

    fn open(&mut self, flows: u32) -> Result<(), GeneratorError> {
        self.ask::<Nothing>(&Request::Open { flows }).map(|_| ())
    }

    fn run(&mut self, trial: &Trial) -> Result<Outcome, GeneratorError> {
        self.ask(&Request::Trial { trial })
    }
}

impl Drop for External {
    fn drop(&mut self) {
        // The end of its input tells it to go.
        drop(self.to.take());
        if let Err(error) = self.child.wait() {
            eprintln!("postern-ndr: {} was not waited for: {error}", self.program);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Load, Size};

    /// A program of the shell that answers line by line.
    fn shell(script: &str) -> Result<External, GeneratorError> {
        External::start(&["sh".to_owned(), "-c".to_owned(), script.to_owned()])
    }

    const TRIAL: Trial = Trial {
        number: 1,
        load: Load::Established { both: false },
        size: Size::Fixed(64),
        rate: 10.0,
        seconds: 1.0,
    };

    #[test]
    fn requests_and_answers_are_lines() {
        let mut other = shell(
            r#"read -r a; echo '{"name":"other","link":1e9}'
               read -r b; case $b in *'"flows":5'*) echo '{}';; *) echo '{"error":"which flows?"}';; esac
               read -r c; case $c in *'"trial":{'*'"fixed":64'*'"rate":10.0'*) echo '{"offered":10,"returned":9,"wrong":0,"seconds":1.0}';; esac"#,
        )
        .unwrap();
        assert_eq!(other.about(), About { name: "other".to_owned(), link: Some(1e9) });
        other.open(5).unwrap();
        let outcome = other.run(&TRIAL).unwrap();
        assert_eq!((outcome.offered, outcome.returned, outcome.latency), (10, 9, None));
        // It is gone.
        let error = other.run(&TRIAL).unwrap_err().to_string();
        assert!(
            error.contains("takes no more requests") || error.contains("ended without an answer"),
            "{error}"
        );
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let mut other =
            shell(r#"read a; echo '{"name":"o"}'; read b; echo '{"error":"no TCP here"}'; read c; echo moo; read d; echo '{"offered":"x"}'; read e"#)
                .unwrap();
        let refused = other.run(&TRIAL).unwrap_err();
        assert_eq!(refused.to_string(), "the generator refuses: no TCP here");
        assert!(other.run(&TRIAL).unwrap_err().to_string().contains("answers no JSON: moo"));
        assert!(other.run(&TRIAL).unwrap_err().to_string().contains("answers something else"));
    }

    #[test]
    fn a_program_that_is_not_there_is_a_sentence() {
        let error = External::start(&["/nonexistent/trex".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("`/nonexistent/trex` cannot be run"), "{error}");
        assert!(External::start(&[]).is_err());
    }
}
