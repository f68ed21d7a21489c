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
    pages_2m: u64,
    memory: Vec<Memory>,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Device {
    interface: String,
    address: String,
}

/// What lies on a NUMA node; on any, where no device names its own.
#[derive(Debug, Deserialize)]
struct Node {
    node: Option<u32>,
    packets_mb: u64,
    packets_pages_2m: u64,
    pages_2m: u64,
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
        need.pages_told = true;
        need.pages_2m = match told.nodes.as_slice() {
            // Where the NICs are, whatever the daemon calls it: their node may have no memory.
            [node] => vec![Pages { node: None, ..pages(node, &need) }],
            nodes => nodes.iter().map(|node| pages(node, &need)).collect(),
        };
    }
    need.told = Some(summary(file, &told));
    Ok(need)
}

/// Pages of 2 MiB on a node. Packets may lie on pages of 1 GiB, if enough of those are asked for there.
fn pages(told: &Node, need: &Need) -> Pages {
    let here = |pages: &&Pages| told.node.is_none() || pages.node.is_none() || pages.node == told.node;
    let gigantic = need.pages_1g.iter().filter(here).map(|pages| pages.count).max().unwrap_or(0);
    let enough = gigantic.saturating_mul(1 << 10) >= told.packets_mb;
    let packets = if enough { told.packets_pages_2m } else { 0 };
    Pages { node: told.node, count: told.pages_2m.saturating_sub(packets) }
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
    let on = |node: &Node| Some(format!("{} on node {}", node.pages_2m, node.node?));
    let nodes: Vec<String> = told.nodes.iter().filter_map(on).collect();
    let nodes = if nodes.is_empty() { String::new() } else { format!("; {}", nodes.join(", ")) };
    format!(
        "{} asks for {} pages of 2 MiB ({}{nodes}), NICs {devices}, cores {}",
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
