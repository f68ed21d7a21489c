//! The configuration: one TOML file, read into plain data.
//!
//! [`Config::load`] reads, checks and resolves the whole file, or answers with a [`Report`] of every error, each with
//! its line, its column and what was expected. What a [`Config`] says is consistent: names are resolved, networks do
//! not overlap, next hops are reachable.
//!
//! Words of the language that this release does not carry out are known, and refused by name: nothing that an
//! operator writes is ignored.
//!
//! This module never touches the network or a device. [`crate::compile`] turns a [`Config`] into the snapshots that
//! workers read.

mod error;
mod model;
mod nearest;
mod read;
mod reader;
mod services;
mod source;
mod values;

pub use error::{ConfigError, MOST_ERRORS, Problem, Report};
pub use model::{
    AddressSet, Alg, AlgSettings, Audit, Config, Control, Dataplane, DestinationNat, Gateway, Idle,
    Interface, Limits, Log, NamedService, Nat, Neighbor, NicSettings, PortNeeds, Route, Rule, Target,
    Translate, Zones,
};
pub use source::{Excerpt, Place};

use source::Source;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest file, in bytes: whoever points at a device or a disk image gets a sentence, not a full memory.
pub const LONGEST_FILE: u64 = 16 << 20;

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Report> {
        Self::parse(&path.display().to_string(), &Self::text(path)?)
    }

    /// Reads a file's text, unchecked.
    ///
    /// # Errors
    /// It cannot be read, is too long, or is not UTF-8.
    pub fn text(path: &Path) -> Result<String, Report> {
        let name = path.display().to_string();
        let unreadable = |what: String| ConfigError {
            file: name.clone(),
            place: None,
            problem: Problem::Read(what),
            excerpt: None,
        };
        let bytes = read_bounded(path).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > LONGEST_FILE {
            let what = format!("it is too long; expected at most {} MiB", LONGEST_FILE >> 20);
            return Err(unreadable(what).into());
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => {
                let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or(&[]);
                let text = String::from_utf8_lossy(good);
                let source = Source { file: &name, text: &text };
                let at = text.len();
                let problem = Problem::Syntax("a byte that is not UTF-8; expected UTF-8 text".into());
                let excerpt = Some(source.excerpt(&(at..at)));
                Err(ConfigError { file: name.clone(), place: Some(source.place(at)), problem, excerpt }
                    .into())
            }
        }
    }

    /// Checks the text of a file; `name` stands in messages.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        read::read(Source { file: name, text })
    }
}

/// Reads a file up to one byte beyond the longest.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Validates a file, as `posternd check` does.
///
/// # Errors
/// All that is wrong with it.
pub fn check(path: &Path) -> Result<Config, Report> {
    Config::load(path)
}
