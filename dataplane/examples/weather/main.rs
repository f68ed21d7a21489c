//! Bad weather for tests in network namespaces, and two ends that talk FTP through it.
//!
//! - `weather relay A B SEED`: carries frames between two interfaces of its namespace; loses, repeats, delays and cuts TCP
//!   segments as the seed says. Kernels without netem need one. Prints how many SACK blocks went which way,
//!   and those that name what was never sent, or what is acknowledged already.
//! - `weather tag A B VLAN`: carries frames from A to B with a tag of that VLAN, and those of that VLAN from B to A without
//!   it; others end there. Kernels without 8021q need one.
//! - `weather server PORT SEED`, `weather client ADDRESS:PORT SEED ROUNDS OWN SEEN_OWN SEEN_PEER`: the kernel's own TCP at both
//!   ends; what each hears is compared with what the other said, with the edits that the gateway must make. Some commands
//!   come with urgent data, whose mark must stand where it was set.
//!
//! Not part of the product: an example so that `cargo build --examples` makes it beside the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod relay;
mod tag;
mod talk;
mod wire;

/// SplitMix64.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }

    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["relay", a, b, seed] => relay::run(a, b, seed.parse().expect("a seed")),
        ["tag", a, b, vlan] => tag::run(a, b, vlan.parse().expect("a VLAN")),
        ["server", port, seed] => talk::server(port.parse().expect("a port"), seed.parse().expect("a seed")),
        ["client", to, seed, rounds, own, seen, peer] => {
            talk::client(to, seed.parse().expect("a seed"), rounds.parse().expect("rounds"), own, seen, peer);
        }
        _ => panic!("see the source for the arguments"),
    }
}
