//! Per-worker counters. The worker writes, anyone reads; each worker's block has cache lines of its own.

use crate::drop_reason::DropReason;
use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// What a worker counts besides drops.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Counter { $(#[doc = $doc] $variant,)* }

        impl Counter {
            /// All, in the order of their number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in listings.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for an operator.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

counters! {
    RxPackets = "rx-packets", "Packets received from ports.";
    RxBytes = "rx-bytes", "Bytes received from ports.";
    TxPackets = "tx-packets", "Packets that ports took.";
    TxBytes = "tx-bytes", "Bytes of packets that ports took.";
    Forwarded = "forwarded", "Transit packets that left for their next hop.";
    Local = "local", "Packets to the gateway itself that were answered.";
    Punted = "punted", "Frames handed to the control core.";
    PuntsLost = "punts-lost", "Frames for the control core that found its ring full.";
    EventsLost = "events-lost", "Events that found the ring to the control core full.";
    HandedOff = "handed-off", "Packets handed to the worker that owns their flow.";
    Queued = "queued", "Packets set aside for a next hop that is not resolved yet.";
    SessionsOpened = "sessions-opened", "Sessions opened.";
    SessionsFreed = "sessions-freed", "Sessions freed.";
    ExpectationsOpened = "expectations-opened", "Expectations opened.";
    ExpectationsHit = "expectations-hit", "Expectations that a child met.";
    ExpectationsExpired = "expectations-expired", "Expectations that ended unmet.";
    ExpectationsRefused = "expectations-refused", "Expectations, or children that met one, that could not be opened.";
    ExpectationsOverFlow = "expectations-over-flow", "Of those, because of the limit of their control session.";
    ExpectationsOverHost = "expectations-over-host", "Of those, because of the limit of the host that they were to lead to.";
    ExpectationsOverAlg = "expectations-over-alg", "Of those, because of the limit of their profile, or of their protocol.";
    ExpectationsOverSecond = "expectations-over-second", "Of those, because of the limit of a second.";
    AlgMessages = "alg-messages", "Messages that an ALG reported.";
    AlgEdits = "alg-edits", "Edits that an ALG made.";
    AlgRules = "alg-rules", "Messages about which a rule of an ALG's profile decided.";
    AlgDenied = "alg-denied", "Messages that an ALG refused. It answered for the other end, or a datagram was dropped, or a TCP session reset.";
    AlgWatched = "alg-watched", "What ALGs of mode `monitor` would have done: edits, pinholes, replies, refusals.";
    AlgCallsFull = "alg-calls-full", "SIP calls, contacts and registrations that found no room in the tables, and messages that change more than can be taken back: their messages were refused (503), or what a registrar agreed to opened nothing.";
    AlgRatesForgotten = "alg-rates-forgotten", "Clients whose rate was forgotten before its time was over, because a worker counts 2,048 at once.";
    AlgBlind = "alg-blind", "Sessions that their ALG cannot read any more.";
    AlgDetected = "alg-detected", "Sessions that were bound to an ALG by what they said, on a port that is no protocol's.";
    AlgUndetected = "alg-undetected", "Sessions that were to be looked at for an ALG's protocol, and were not, because there was no room, or they had not said within a minute what they are.";
    StreamTakenIn = "stream-taken-in", "Packets of inspected sessions that did not go on themselves: their bytes wait for the rest of a message, or had come before; and ICMP errors that are for the stream engine alone.";
    StreamMade = "stream-made", "Packets that the stream engine made.";
    StreamUnsent = "stream-unsent", "Packets that the stream engine made and that could not leave: no route, or no neighbour yet.";
    StreamOwnAcks = "stream-own-acks", "Acknowledgements that the stream engine sent on behalf of a receiver.";
    StreamRepeated = "stream-repeated", "Times that bytes were sent again from the kept copy.";
    StreamNarrowed = "stream-narrowed", "Times that the stream engine makes shorter segments, since a router said that they are too long for a link further on.";
    StreamOutOfOrder = "stream-out-of-order", "Segments of inspected sessions that wait for bytes before them.";
    StreamForgotten = "stream-forgotten", "Times that bytes were forgotten that waited for bytes before them: too long, or their room was needed. Their sender repeats them.";
    StreamNoRoom = "stream-no-room", "Segments of inspected sessions whose bytes found no room; their sender repeats them.";
    StreamReleased = "stream-released", "Unfinished messages that went on unread: held too long, or ended.";
    StreamConflicts = "stream-conflicts", "Repeated segments that did not say what the first copy said; the first copy went on.";
    IcmpErrors = "icmp-errors", "ICMP errors sent.";
    IcmpErrorsLimited = "icmp-errors-limited", "ICMP errors and resets not sent because of the rate limit.";
    IcmpErrorsRelated = "icmp-errors-related", "ICMP errors about sessions, translated and passed on.";
    Aggregates = "aggregates", "Packets that a device had put together from TCP segments (`lro`). Each counts as one packet.";
    AggregatesSent = "aggregates-sent", "Aggregates that left whole, for the device to cut (`tso`).";
    AggregateSegments = "aggregate-segments", "Segments that the other aggregates were cut to.";
    FragmentsJoined = "fragments-joined", "Fragments that were put together to whole datagrams.";
    DatagramsReassembled = "datagrams-reassembled", "Datagrams that were put together from them.";
    DatagramsFragmented = "datagrams-fragmented", "Datagrams that left in fragments, because their egress takes no packets that long.";
    FragmentsMade = "fragments-made", "Fragments that they left in.";
    Resets = "resets", "TCP resets sent where a rule, or a zone with `closed_ports`, rejects.";
    NatPortsUnfit = "nat-ports-unfit", "Translated ports of endpoint-dependent NAT whose replies come in at another worker than their session's, because none that fits was free.";
    PortsReleasedEarly = "ports-released-early", "Translated ports given back before their hold-down because the queue was full.";
    StashInserts = "stash-inserts", "Flow table inserts that had to use the stash.";
}

/// One worker's counters.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    counts: [AtomicU64; Counter::COUNT],
    drops: [AtomicU64; DropReason::COUNT],
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; Counter::COUNT],
            drops: [const { AtomicU64::new(0) }; DropReason::COUNT],
        }
    }
}

// Workers' counters stand side by side: none ends in a line that another begins in.
const _: () = assert!(size_of::<WorkerCounters>().is_multiple_of(128));

/// What one worker received and sent on one interface. Bytes are those of frames without VLAN tags.
#[derive(Debug, Default)]
pub struct InterfaceCounters {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    handed_off: AtomicU64,
}

impl InterfaceCounters {
    /// Counts packets that came in here and went to another worker. Only the worker itself may call this.
    pub fn hand_off(&self, packets: u64) {
        add(&self.handed_off, packets);
    }

    /// Packets that came in here and went to another worker.
    #[must_use]
    pub fn handed_off(&self) -> u64 {
        self.handed_off.load(Ordering::Relaxed)
    }

    /// Counts what came in. Only the worker itself may call this.
    pub fn received(&self, packets: u64, bytes: u64) {
        add(&self.rx_packets, packets);
        add(&self.rx_bytes, bytes);
    }

    /// Counts what left. Only the worker itself may call this.
    pub fn sent(&self, packets: u64, bytes: u64) {
        add(&self.tx_packets, packets);
        add(&self.tx_bytes, bytes);
    }

    /// Packets and bytes received, packets and bytes sent.
    #[must_use]
    pub fn read(&self) -> [u64; 4] {
        [&self.rx_packets, &self.rx_bytes, &self.tx_packets, &self.tx_bytes]
            .map(|cell| cell.load(Ordering::Relaxed))
    }
}

/// Adds without a locked instruction: there is one writer.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl WorkerCounters {
    /// Adds `n`. Only the worker itself may call this.
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(cell) = self.counts.get(counter as usize) {
            add(cell, n);
        }
    }

    /// Counts dropped packets. Only the worker itself may call this.
    pub fn drop(&self, reason: DropReason, n: u64) {
        if let Some(cell) = self.drops.get(reason as usize) {
            add(cell, n);
        }
    }

    /// Reads a counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts.get(counter as usize).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Reads a drop counter.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Sum of all drop counters.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }
}
