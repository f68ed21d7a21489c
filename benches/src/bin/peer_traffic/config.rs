//! The configuration by which `posternd` does what the rig's worker does, on DPDK ports.

use benches::rig::spec::Spec;
use clap::Args;
use dataplane::key::Protocol;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

/// The ports that `benches/peers/frames.c` attaches to: it gives what the first receives, and takes what the second sends.
const PORTS: [&str; 2] = ["net_null0,size=60", "net_null1,size=60,no-rx=1"];

/// What it is to say.
#[derive(Args, Debug)]
pub struct Ask {
    /// Sessions that fit.
    #[arg(long)]
    sessions: u32,
    /// The worker's core.
    #[arg(long)]
    cpu: u32,
    /// The control socket.
    #[arg(long)]
    socket: PathBuf,
    /// More arguments of the EAL.
    eal_args: Vec<String>,
}

/// The rig's text with these ports, this core and this socket.
fn text(ask: &Ask) -> String {
    let spec = Spec::plain(Protocol::Udp, ask.sessions);
    let Ask { cpu, socket, eal_args, .. } = ask;
    let more = format!("[dataplane]\nworkers = [{cpu}]\nidle = \"busy\"\neal_args = {eal_args:?}\n");
    let mut text = spec.text().replace("[dataplane]\n", &more);
    for (number, port) in PORTS.iter().enumerate() {
        text = text.replace(&format!("\"ring:{number}\""), &format!("\"{port}\""));
    }
    let _ = write!(text, "[control]\nsocket = {socket:?}\n");
    text
}

/// Prints it.
pub fn run(ask: &Ask) -> io::Result<()> {
    print!("{}", text(ask));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::config::Config;

    #[test]
    fn the_daemon_takes_it() {
        let ask = Ask {
            sessions: 1000,
            cpu: 1,
            socket: "/tmp/a b.sock".into(),
            eal_args: ["-d", "plug-in.so"].map(str::to_owned).to_vec(),
        };
        let config = Config::parse("rig", &text(&ask)).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(config.dataplane.eal_args, ask.eal_args);
        assert_eq!(config.control.socket, ask.socket);
        assert!(PORTS.iter().all(|port| text(&ask).contains(port)) && !text(&ask).contains("ring:"));
    }
}
