//! The `posternctl` program: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    posternctl::run(std::env::args_os(), &mut out, &mut std::io::stderr())
}
