//! `posternd`, the daemon of Postern.

use std::process::ExitCode;

fn main() -> ExitCode {
    control::daemon::run(std::env::args_os())
}
