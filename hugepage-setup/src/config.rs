//! What a configuration asks for. `posternd` says it, so that the language has one reader, and sizes one place where
//! they are computed: that of the daemon which will run.

use crate::error::Error;
use crate::host::cpu_text;
use crate::need::{Address, Need, Pages};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `posternd needs` answers, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Told {
    cores: Vec<u32>,
    devices: Vec<Device>,
    packets_mb: u64,
    pages_2m: u64,
    memory: Vec<Memory>,
}

#[derive(Debug, Deserialize)]
struct Device {
    interface: String,
    address: String,
}

#[derive(Debug, Deserialize)]
struct Memory {
    what: String,
    pages_2m: u64,
}

/// Fills in what the configuration asks for, where no option does. Without a configuration: the same again.
///
/// # Errors
/// There is no `posternd`, or it refuses the file: then its words are the error.
pub fn resolve(need: &Need) -> Result<Need, Error> {
    let Some(file) = &need.config else { return Ok(need.clone()) };
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut need = need.clone();
    // systemd starts it elsewhere.
    need.config = Some(absolute(file));
    need.posternd = need.posternd.as_deref().map(absolute);
    need.asked = Some(need.arguments());

    let told = ask(&program(&need), file)?;
    if need.bind.is_empty() {
        need.bind = told
            .devices
            .iter()
            .map(|device| device.address.parse::<Address>())
            .collect::<Result<_, _>>()
            .map_err(Error::Config)?;
    }
    if need.cores.is_empty() {
        need.cores = told.cores.clone();
    }
    if need.pages_2m.is_empty() {
        need.pages_2m.push(Pages { node: None, count: pages(&told, &need) });
    }
    need.told = Some(summary(file, &told));
    Ok(need)
}

/// Pages of 2 MiB. Packets may lie on pages of 1 GiB, if enough of those are asked for.
fn pages(told: &Told, need: &Need) -> u64 {
    let gigantic = need.pages_1g.iter().map(|pages| pages.count).max().unwrap_or(0);
    if gigantic.saturating_mul(1 << 10) < told.packets_mb {
        return told.pages_2m;
    }
    let packets = told.memory.iter().filter(|memory| memory.what == "packets").map(|memory| memory.pages_2m);
    told.pages_2m.saturating_sub(packets.sum())
}

fn summary(file: &Path, told: &Told) -> String {
    let memory: Vec<String> = told
        .memory
        .iter()
        .filter(|memory| memory.pages_2m > 0)
        .map(|memory| format!("{} for {}", memory.pages_2m, memory.what))
        .collect();
    let devices: Vec<String> =
        told.devices.iter().map(|device| format!("{} ({})", device.address, device.interface)).collect();
    let devices = if devices.is_empty() { "none on PCI".to_owned() } else { devices.join(", ") };
    format!(
        "{} asks for {} pages of 2 MiB ({}), NICs {devices}, cores {}",
        file.display(),
        told.pages_2m,
        memory.join(", "),
        cpu_text(&told.cores)
    )
}

/// The one that is named, the one beside this program, or the one on the path.
fn program(need: &Need) -> PathBuf {
    if let Some(program) = &need.posternd {
        return program.clone();
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("posternd"));
    beside.filter(|program| program.exists()).unwrap_or_else(|| "posternd".into())
}

fn ask(program: &Path, file: &Path) -> Result<Told, Error> {
    let output = Command::new(program)
        .arg("needs")
        .arg(file)
        .output()
        .map_err(|source| Error::NoPosternd { program: program.to_owned(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let silent = || format!("{} says nothing and ends with {}", program.display(), output.status);
        return Err(Error::Config(if said.is_empty() { silent() } else { said }));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Config(format!("{} speaks another language: {error}", program.display())))
}
