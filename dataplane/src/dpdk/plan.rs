//! How a device is set up: from what it reports and what is wanted to queues, descriptors, hash, table and offloads. Pure.
//!
//! Each choice comes with words: what was chosen, and what could not be had and why. A device that cannot serve at all is
//! refused with a sentence.

use crate::home::{self, Home};
use crate::key::{FlowKey, Protocol};
use crate::port::Spread;
use dpdk_sys as sys;
use thiserror::Error;

/// Length of a hash key where the device does not say, in bytes.
const KEY_LEN: u8 = 40;
/// Received checksums that a device may have looked at.
pub(super) const RX_CHECKSUMS: u64 =
    sys::POSTERN_RX_IPV4_CKSUM | sys::POSTERN_RX_UDP_CKSUM | sys::POSTERN_RX_TCP_CKSUM;
/// Sent checksums that a device may fill in. What it fills in is in packets with a plain IPv4 header, whose sum is ours.
pub(super) const TX_CHECKSUMS: u64 = sys::POSTERN_TX_TCP_CKSUM | sys::POSTERN_TX_UDP_CKSUM;
/// Software that stands for NICs: what it reports is what they can, and what it is told it tells them.
const NICS_IN_ONE: [&str; 2] = ["net_bonding", "net_failsafe"];
/// All flow types that are asked for.
const FLOWS: u64 = sys::POSTERN_RSS_IP | sys::POSTERN_RSS_TCP | sys::POSTERN_RSS_UDP;

/// What a device reports of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nic {
    /// The driver, as DPDK calls it.
    pub driver: String,
    /// A PCI function. Others are software, and spread packets in ways of their own, but for those that stand for NICs.
    pub pci: bool,
    /// Most receive queues.
    pub rx_queues: u16,
    /// Most transmit queues.
    pub tx_queues: u16,
    /// Limits of a receive queue's descriptors.
    pub rx_desc: DescLimits,
    /// Limits of a transmit queue's descriptors.
    pub tx_desc: DescLimits,
    /// Entries of the redirection table; 0 if it has none that we can write.
    pub reta: u16,
    /// Bytes of the hash key; 0 if it does not say.
    pub key: u8,
    /// Flow types that it can hash, as bits of `rss_hf`.
    pub flows: u64,
    /// Receive offloads.
    pub rx_offloads: u64,
    /// Transmit offloads.
    pub tx_offloads: u64,
    /// The NUMA node of a PCI function, if it has one. Software has none: what it reports is where it was made.
    pub node: Option<u16>,
}

/// How many descriptors a queue may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DescLimits {
    /// Least; 0 if it does not say.
    pub least: u16,
    /// Most; 0 if it does not say.
    pub most: u16,
    /// Of which number it must be a multiple; 0 if it does not say.
    pub multiple: u16,
}

/// What the gateway wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The port's number: ports of one queue are shared out among the workers by it.
    pub number: u16,
    /// Workers.
    pub workers: u16,
    /// Receive descriptors of a queue.
    pub rx_desc: u16,
    /// Transmit descriptors of a queue.
    pub tx_desc: u16,
    /// Spread packets.
    pub spread: Spread,
    /// Use what the device can do for us.
    pub offloads: bool,
    /// Leave checksums of what the gateway itself has written to the device.
    pub tx_checksums: bool,
    /// Have it put TCP segments together.
    pub lro: bool,
    /// Have it cut what another has put together.
    pub tso: bool,
    /// All packets come from one pool.
    pub one_pool: bool,
    /// The NUMA node of each worker's core, where it is known.
    pub nodes: Vec<Option<u16>>,
}

/// A hash that is the same both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rss {
    /// Flow types, as bits of `rss_hf`.
    pub flows: u64,
    /// Bytes of the key.
    pub key: u8,
}

/// A choice in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What it is about.
    pub what: &'static str,
    /// What was chosen.
    pub chosen: String,
    /// What could not be had, and why; empty if nothing lacks.
    pub lacks: String,
}

impl Choice {
    /// A choice without a lack.
    pub fn new(what: &'static str, chosen: impl Into<String>) -> Self {
        Self { what, chosen: chosen.into(), lacks: String::new() }
    }

    /// The same with what lacks.
    #[must_use]
    pub fn but(self, lacks: impl Into<String>) -> Self {
        Self { lacks: lacks.into(), ..self }
    }
}

/// How a device is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues: one for each worker.
    pub tx_queues: u16,
    /// Receive descriptors of a queue.
    pub rx_desc: u16,
    /// Transmit descriptors of a queue.
    pub tx_desc: u16,
    /// The hash that spreads packets over the receive queues, if one does.
    pub rss: Option<Rss>,
    /// Queue by entry of the redirection table; empty to leave it to the driver.
    pub reta: Vec<u16>,
    /// Receive offloads.
    pub rx_offloads: u64,
    /// Transmit offloads.
    pub tx_offloads: u64,
    /// In words.
    pub choices: Vec<Choice>,
    /// The worker that polls the only receive queue.
    first: u16,
}

/// Why a device cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Each worker sends by itself.
    #[error(
        "the device has {most} transmit queue{}, and each of {workers} workers needs one of its own; expected at most {most} core{} in \
         workers under [dataplane]",
        plural(*most), plural(*most)
    )]
    TxQueues {
        /// Queues that it has.
        most: u16,
        /// Workers.
        workers: u16,
    },
    /// No queue to receive with.
    #[error("the device has no receive queue")]
    NoQueue,
}

const fn plural(n: u16) -> &'static str {
    if n == 1 { "" } else { "s" }
}

impl Plan {
    /// The receive queue that a worker polls, if it polls one.
    #[must_use]
    pub fn rx_queue_of(&self, worker: u16) -> Option<u16> {
        match self.rx_queues {
            1 => (worker == self.first).then_some(0),
            queues => (worker < queues).then_some(worker),
        }
    }

    /// The receive queue at which packets of this tuple come in, if the device spreads as it was told. Of one that spreads by a hash
    /// of its own it is as good as any. None of what it does not spread by ports.
    #[must_use]
    pub fn rx_queue_for(&self, key: &FlowKey) -> Option<u16> {
        let flow = match key.protocol {
            Protocol::Tcp => sys::POSTERN_RSS_IPV4_TCP,
            Protocol::Udp => sys::POSTERN_RSS_IPV4_UDP,
            Protocol::Icmp => return None,
        };
        if self.rss.is_some_and(|rss| rss.flows & flow == 0) {
            return None;
        }
        let hash = home::nic_hash(key);
        match u32::try_from(self.reta.len()).unwrap_or(u32::MAX) {
            0 => u16::try_from(hash.checked_rem(u32::from(self.rx_queues))?).ok(),
            entries => self.reta.get((hash % entries) as usize).copied(),
        }
    }

    /// Packet buffers that its rings hold, received and sent. Each member of a device that has some has as many.
    #[must_use]
    pub fn descriptors(&self) -> (u32, u32) {
        let of = |queues: u16, each: u16| u32::from(queues) * u32::from(each);
        (of(self.rx_queues, self.rx_desc), of(self.tx_queues, self.tx_desc))
    }
}

/// Chooses.
///
/// # Errors
/// A sentence that says what the device lacks.
pub fn plan(nic: &Nic, wish: &Wish, home: &Home) -> Result<Plan, Refusal> {
    let workers = wish.workers.max(1);
    if nic.rx_queues == 0 {
        return Err(Refusal::NoQueue);
    }
    let tx_queues = match nic.driver.as_str() {
        // The driver says two of every model, and its older ones have one: what goes to the other never leaves.
        "net_e1000_em" => nic.tx_queues.min(1),
        _ => nic.tx_queues,
    };
    if tx_queues < workers {
        return Err(Refusal::TxQueues { most: tx_queues, workers });
    }
    let first = wish.number % workers;
    let mut choices = Vec::new();
    let (rx_queues, rss, why) = receive_queues(nic, wish.spread, workers);
    let chosen = match (rx_queues, workers) {
        (1, 1) => "1 to receive, 1 to send".to_owned(),
        (1, _) => format!("1 to receive, polled by worker {first}, {workers} to send"),
        _ => format!("{rx_queues} to receive, {workers} to send"),
    };
    choices.push(Choice::new("queues", chosen).but(why));

    let (rx_desc, tx_desc) = (fit(wish.rx_desc, nic.rx_desc), fit(wish.tx_desc, nic.tx_desc));
    let mut lacks = Vec::new();
    for (way, asked, got) in [("receive", wish.rx_desc, rx_desc), ("send", wish.tx_desc, tx_desc)] {
        if asked != got {
            lacks
                .push(format!("{asked} to {way} were asked for, {got} is the nearest that the device takes"));
        }
    }
    let chosen = format!("{rx_desc} to receive and {tx_desc} to send, of each queue");
    choices.push(Choice::new("descriptors", chosen).but(lacks.join("; ")));

    let reta = match rss {
        Some(rss) => {
            choices.push(hash(rss));
            let (reta, choice) = redirection(nic, home, rx_queues);
            choices.push(choice);
            reta
        }
        None => Vec::new(),
    };
    let (rx_offloads, tx_offloads) = offloads(nic, wish, &mut choices);
    let rx_offloads = rx_offloads | merging(nic, wish, &mut choices);
    let tx_offloads = tx_offloads | sent_checksums(nic, wish, &mut choices);
    let cutting = cutting(nic, wish, &mut choices);
    // Buffers freed in bulk are those of packets in one piece.
    let tx_offloads =
        if cutting == 0 { tx_offloads } else { tx_offloads & !sys::POSTERN_TX_FAST_FREE | cutting };
    if let Some(node) = nic.node {
        choices.push(numa(node, &wish.nodes));
    }
    Ok(Plan {
        rx_queues,
        tx_queues: workers,
        rx_desc,
        tx_desc,
        rss,
        reta,
        rx_offloads,
        tx_offloads,
        choices,
        first,
    })
}

/// How many receive queues, by which hash, and why not one for each worker.
fn receive_queues(nic: &Nic, spread: Spread, workers: u16) -> (u16, Option<Rss>, String) {
    let most = nic.rx_queues.min(workers);
    let flows = nic.flows & FLOWS;
    let rss = Rss { flows, key: if nic.key == 0 { KEY_LEN } else { nic.key } };
    if workers == 1 {
        return (1, None, String::new());
    }
    let software = !nic.pci && !NICS_IN_ONE.contains(&nic.driver.as_str());
    // A host that hears of several queues uses all of them for us, however many we receive with.
    let pairs = nic.driver == "net_virtio";
    let passed_over = match spread {
        Spread::Off if software || pairs => {
            "spread = \"off\" is passed over, since whoever is at the other end fills every queue"
        }
        _ => "",
    };
    let but = |why: &str| match (why, passed_over) {
        ("", other) | (other, "") => other.to_owned(),
        (why, passed_over) => format!("{why}; {passed_over}"),
    };
    if software && (spread != Spread::On || flows == 0) {
        // Whoever is at its other end may use any queue: all are polled.
        let why = "no device spreads packets by a hash of ours here: what comes in at another worker than its flow's is handed over";
        return (most, None, but(why));
    }
    if flows == 0 && pairs {
        let why = "the host spreads packets as it likes (no VIRTIO_NET_F_RSS): what comes in at another worker than its flow's is handed over";
        return (most, None, but(why));
    }
    let alone = match (spread, nic.driver.as_str()) {
        _ if flows == 0 => "the device cannot spread flows by a hash",
        _ if nic.rx_queues == 1 => "the device has no more",
        (Spread::Off, _) if !pairs => "spread = \"off\"",
        (Spread::Auto, "net_vmxnet3") => {
            "some hosts grant this driver more and deliver on the first alone; spread = \"on\" takes them all"
        }
        _ if most < workers => {
            let why =
                format!("the device has no more than {most}: what belongs to other workers is handed over");
            return (most, Some(rss), but(&why));
        }
        _ => return (most, Some(rss), but("")),
    };
    (1, None, format!("{alone}: its worker hands packets to their flows' workers"))
}

/// The number of descriptors that comes nearest.
fn fit(asked: u16, limits: DescLimits) -> u16 {
    let multiple = limits.multiple.max(1);
    let most = if limits.most == 0 { u16::MAX } else { limits.most };
    let up = asked.checked_next_multiple_of(multiple).unwrap_or(u16::MAX / multiple * multiple);
    up.max(limits.least).min(most / multiple * multiple)
}

/// What the hash sees.
fn hash(rss: Rss) -> Choice {
    let mut lacks = Vec::new();
    for (name, bit) in [("TCP", sys::POSTERN_RSS_IPV4_TCP), ("UDP", sys::POSTERN_RSS_IPV4_UDP)] {
        if rss.flows & bit == 0 {
            lacks.push(format!("the device does not hash ports of {name}: most of it is handed over"));
        }
    }
    Choice::new("hash", format!("symmetric, a key of {} bytes", rss.key)).but(lacks.join("; "))
}

/// The redirection table, and what it can do.
fn redirection(nic: &Nic, home: &Home, queues: u16) -> (Vec<u16>, Choice) {
    if nic.reta == 0 {
        let why =
            "the device lets nobody write it: what comes in at another worker than its flow's is handed over";
        return (Vec::new(), Choice::new("table", "the driver's own").but(why));
    }
    let (table, share) = home.redirection(nic.reta, queues);
    let choice = Choice::new("table", format!("{} entries", nic.reta));
    let choice = match share {
        share if share >= 1.0 => choice,
        share => choice.but(format!(
            "it cannot be as the gateway's: {:.0} % of flows come in at their worker, the others are handed over",
            share * 100.0
        )),
    };
    (table, choice)
}

/// Offloads that are used.
fn offloads(nic: &Nic, wish: &Wish, choices: &mut Vec<Choice>) -> (u64, u64) {
    if !wish.offloads {
        choices.push(Choice::new("checksums", "in software"));
        return (0, 0);
    }
    // A hypervisor leaves the checksums of its own guests unfilled for a driver that says it knows: they would leave so.
    let guest = matches!(nic.driver.as_str(), "net_virtio" | "net_vmxnet3");
    let rx = if nic.pci && !guest { nic.rx_offloads & RX_CHECKSUMS } else { 0 };
    choices.push(match rx {
        0 if guest => Choice::new("checksums", "in software")
            .but("a hypervisor's device may vouch for checksums that nobody has filled in"),
        0 if nic.pci => Choice::new("checksums", "in software").but("the device does not look at them"),
        0 => Choice::new("checksums", "in software"),
        RX_CHECKSUMS => Choice::new("checksums", "received ones looked at by the device"),
        _ => Choice::new("checksums", "some received ones looked at by the device")
            .but("it does not look at all of IPv4, TCP and UDP"),
    });
    let tx = if wish.one_pool { nic.tx_offloads & sys::POSTERN_TX_FAST_FREE } else { 0 };
    (rx, tx)
}

/// Sent checksums, where they are asked for.
fn sent_checksums(nic: &Nic, wish: &Wish, choices: &mut Vec<Choice>) -> u64 {
    if !wish.tx_checksums {
        return 0;
    }
    let can = nic.tx_offloads & TX_CHECKSUMS == TX_CHECKSUMS;
    choices.push(match can {
        true => Choice::new("sent checksums", "of what the gateway writes filled in by the device"),
        false => Choice::new("sent checksums", "in software")
            .but("the device does not fill in those of TCP and UDP"),
    });
    if can { TX_CHECKSUMS } else { 0 }
}

/// LRO, where it is asked for. Segments must leave as they came: only of a driver that says how long they were.
fn merging(nic: &Nic, wish: &Wish, choices: &mut Vec<Choice>) -> u64 {
    if !wish.lro {
        return 0;
    }
    let why = match nic.driver.as_str() {
        _ if nic.rx_offloads & sys::POSTERN_RX_LRO == 0 => "the device does not put segments together",
        "net_virtio" => "",
        "mlx5_pci" | "mlx5_auxiliary" => "its driver knows the average length of the segments alone",
        "net_vmxnet3" => "the first version of the device does not say how long the segments were",
        _ => "its driver is not known to say how long the segments were",
    };
    if !why.is_empty() {
        choices.push(Choice::new("lro", "off").but(why));
        return 0;
    }
    choices.push(Choice::new("lro", "TCP segments put together by the device"));
    // virtio's host keeps aggregates from a driver that does not take checksums left to hardware too, and DPDK's asks for no more
    // than it is told. It never says of a checksum that it is wrong.
    let left = sys::POSTERN_RX_TCP_CKSUM | sys::POSTERN_RX_UDP_CKSUM;
    sys::POSTERN_RX_LRO | nic.rx_offloads & (sys::POSTERN_RX_SCATTER | left)
}

/// TSO, where it is asked for.
fn cutting(nic: &Nic, wish: &Wish, choices: &mut Vec<Choice>) -> u64 {
    const NEEDED: u64 = sys::POSTERN_TX_TSO | sys::POSTERN_TX_MULTI_SEGS | sys::POSTERN_TX_TCP_CKSUM;
    if !wish.tso {
        return 0;
    }
    let why = match nic.driver.as_str() {
        _ if nic.tx_offloads & NEEDED != NEEDED => "the device does not cut packets of several pieces",
        "net_tap" => "its driver cuts to no segments as long as the MTU",
        _ => "",
    };
    if !why.is_empty() {
        choices.push(Choice::new("tso", "in software").but(why));
        return 0;
    }
    choices.push(Choice::new("tso", "aggregates cut by the device"));
    NEEDED | nic.tx_offloads & sys::POSTERN_TX_IPV4_CKSUM
}

/// Whether device and workers share a NUMA node.
fn numa(node: u16, workers: &[Option<u16>]) -> Choice {
    let far: Vec<_> = workers
        .iter()
        .enumerate()
        .filter_map(|(worker, at)| {
            at.filter(|at| *at != node).map(|at| format!("worker {worker} runs on node {at}"))
        })
        .collect();
    let choice = Choice::new("node", node.to_string());
    if far.is_empty() {
        choice
    } else {
        choice.but(format!("{}: each packet crosses between them", far.join(", ")))
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
