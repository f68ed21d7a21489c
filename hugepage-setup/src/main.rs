//! `hugepage-setup`: prepares a host for Postern. See `docs/bare-metal.md`.
#![forbid(unsafe_code)]

use clap::Parser;
use hugepage_setup::cli::{self, Arguments};
use hugepage_setup::kernel::Linux;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kernel = Linux::new(arguments.roots.host());
    match cli::run(&arguments, &kernel) {
        Ok(answer) => {
            // A closed pipe (`| head`) is no error worth a message.
            let _ = std::io::stdout().write_all(answer.text.as_bytes());
            ExitCode::from(answer.code)
        }
        Err(error) => {
            if arguments.json {
                let _ = std::io::stdout().write_all(cli::error_json(&error).as_bytes());
            }
            eprintln!("hugepage-setup: {error}");
            ExitCode::from(cli::FAILED)
        }
    }
}
