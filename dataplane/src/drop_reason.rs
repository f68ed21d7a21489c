//! Why a packet was dropped: one enum, one reason a packet, one counter a worker and reason.

macro_rules! drop_reasons {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Why a packet was dropped. Indexes the per-worker counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $doc] $variant,)* }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in counters, logs and RPCs.
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

drop_reasons! {
    NotLinear = "not-linear", "The packet came in several pieces of memory, and is no aggregate of segments.";
    AggregateInvalid = "aggregate-invalid", "An aggregate (`lro`) that is no TCP with data, has its headers in several pieces, or whose lengths do not fit.";
    EthTruncated = "eth-truncated", "Shorter than an Ethernet header.";
    EthNotForUs = "eth-not-for-us", "Unicast to another MAC address.";
    VlanUnknown = "vlan-unknown", "A VLAN that no interface of the port has.";
    VlanMissing = "vlan-missing", "No VLAN, on a port whose interfaces all have one.";
    VlanStacked = "vlan-stacked", "More than one VLAN tag, or one of a service provider (802.1ad).";
    EthTypeUnsupported = "eth-type-unsupported", "Neither IPv4 nor ARP.";
    EthBroadcast = "eth-broadcast", "IP in a broadcast frame.";
    EthMulticast = "eth-multicast", "IP in a multicast frame.";
    ArpInvalid = "arp-invalid", "ARP that is truncated or of another hardware or protocol type.";
    Ipv4Truncated = "ipv4-truncated", "Shorter than its IPv4 header says.";
    Ipv4Version = "ipv4-version", "The version field is not 4.";
    Ipv4HeaderLength = "ipv4-header-length", "IHL below 5 or beyond the packet.";
    Ipv4TotalLength = "ipv4-total-length", "Total length below the header's or beyond the packet.";
    Ipv4Checksum = "ipv4-checksum", "Wrong IPv4 header checksum.";
    NicChecksum = "nic-checksum", "A wrong checksum of the IPv4 header, of TCP or of UDP, found by the NIC.";
    Ipv4Options = "ipv4-options", "Malformed options.";
    Ipv4SourceRoute = "ipv4-source-route", "A loose or strict source route, which would go around policy.";
    Ipv4OptionsDenied = "ipv4-options-denied", "Options that the zone does not admit.";
    FragmentMalformed = "fragment-malformed", "A fragment without bytes, or one that ends between units of eight though others follow.";
    FragmentTooLong = "fragment-too-long", "A fragment that reaches beyond 65,535 bytes (ping of death).";
    FragmentTiny = "fragment-tiny", "A fragment that cuts a TCP header (RFC 1858, RFC 3128).";
    FragmentOverlap = "fragment-overlap", "Fragments of a datagram that overlap (teardrop), or disagree on its end: all of it is dropped.";
    FragmentDuplicate = "fragment-duplicate", "A fragment in the place of one that is there.";
    FragmentTooMany = "fragment-too-many", "A datagram in more than 64 fragments.";
    FragmentEcn = "fragment-ecn", "Fragments of a datagram whose ECN fields contradict each other (RFC 3168).";
    FragmentTimeout = "fragment-timeout", "The rest of its datagram did not come in time.";
    FragmentSourceLimit = "fragment-source-limit", "Of 64 unfinished datagrams of one source at a worker, the oldest, when another began.";
    FragmentTableFull = "fragment-table-full", "No room to put a datagram together; of the unfinished ones the oldest went.";
    Ipv4ThisNetwork = "ipv4-this-network", "Source or destination is in 0.0.0.0/8.";
    Ipv4Loopback = "ipv4-loopback", "Source or destination is in 127.0.0.0/8.";
    Ipv4Reserved = "ipv4-reserved", "Source or destination is in 240.0.0.0/4.";
    Ipv4SourceInvalid = "ipv4-source-invalid", "Source is a multicast or a broadcast address.";
    Ipv4SourceOurs = "ipv4-source-ours", "Source is an address of the gateway itself.";
    Ipv4Multicast = "ipv4-multicast", "To a multicast address.";
    Ipv4Broadcast = "ipv4-broadcast", "To 255.255.255.255.";
    Ipv4DirectedBroadcast = "ipv4-directed-broadcast", "To the broadcast or the network address of a connected network.";
    ProtocolUnsupported = "protocol-unsupported", "Not TCP, UDP or ICMP.";
    TcpTruncated = "tcp-truncated", "Shorter than its TCP header says.";
    TcpHeaderLength = "tcp-header-length", "Data offset below 5 or beyond the packet.";
    TcpFlags = "tcp-flags", "A combination of flags that no TCP sends (null, SYN+FIN, SYN+RST, FIN without ACK).";
    TcpPortZero = "tcp-port-zero", "TCP port 0.";
    TcpChecksum = "tcp-checksum", "Wrong TCP checksum on a flow that is inspected.";
    UdpTruncated = "udp-truncated", "Shorter than a UDP header.";
    UdpLength = "udp-length", "The UDP length field does not fit the packet.";
    UdpPortZero = "udp-port-zero", "UDP port 0.";
    UdpChecksum = "udp-checksum", "Wrong UDP checksum on a session that is inspected.";
    IcmpTruncated = "icmp-truncated", "Shorter than its ICMP header.";
    IcmpChecksum = "icmp-checksum", "Wrong ICMP checksum.";
    IcmpTypeUnsupported = "icmp-type-unsupported", "ICMP that is neither an echo nor an error about another packet.";
    IcmpSourceQuench = "icmp-source-quench", "ICMP source quench, which nobody may send any more.";
    IcmpErrorTruncated = "icmp-error-truncated", "An ICMP error that quotes less than a header and eight bytes.";
    IcmpErrorQuote = "icmp-error-quote", "An ICMP error whose quoted header is wrong, or of a packet that can have no session.";
    IcmpErrorAddressee = "icmp-error-addressee", "An ICMP error to another host than the sender of the packet that it quotes.";
    IcmpErrorSequence = "icmp-error-sequence", "An ICMP fragmentation needed about a segment that an inspected session has not on its way: forged, or late.";
    IcmpErrorNoSession = "icmp-error-no-session", "An ICMP error about a packet of no session.";
    TtlExceeded = "ttl-exceeded", "TTL ran out here; an ICMP time exceeded was sent if the rate allowed.";
    FragmentationNeeded = "fragmentation-needed", "Larger than the egress MTU, and its sender forbids fragments; an ICMP fragmentation needed was sent if the rate allowed.";
    NoRoute = "no-route", "No route to the destination; an ICMP net unreachable was sent if zone and rate allowed.";
    NeighborPending = "neighbor-pending", "The queue of packets that wait for this next hop is full, or none is free.";
    NeighborUnresolved = "neighbor-unresolved", "The next hop did not answer ARP in time; an ICMP host unreachable was sent if zone and rate allowed.";
    LocalUnsupported = "local-unsupported", "To an address of the gateway, and nothing there answers this; the zone says whether its sender is told.";
    PolicyDeny = "policy-deny", "A rule denies it, or no rule allows it.";
    PacketRuleNat = "packet-rule-nat", "A rule of mode packet lets it pass, and NAT would have to translate it.";
    TcpNoSession = "tcp-no-session", "TCP without a session, and not a lone SYN.";
    IcmpNoSession = "icmp-no-session", "Echo reply without a session.";
    TcpStateInvalid = "tcp-state-invalid", "Flags that do not fit the state of the TCP session.";
    SessionTableFull = "session-table-full", "The configured number of sessions is reached.";
    SessionClosed = "session-closed", "The session is closed and waits to be freed.";
    TupleConflict = "tuple-conflict", "The new session's other tuple is already taken.";
    NatPortsExhausted = "nat-ports-exhausted", "No free port in this worker's blocks of the translated address.";
    NatBindingsFull = "nat-bindings-full", "The table of bindings is full.";
    NatNoSession = "nat-no-session", "To a translated port that no session or expectation claims.";
    HandoffFull = "handoff-full", "The ring to the worker that owns the flow is full.";
    AlgDenied = "alg-denied", "The ALG refused the message; a TCP session was reset.";
    AlgTableFull = "alg-table-full", "No room for the ALG's state of one more session.";
    AlgHostShare = "alg-host-share", "The host has opened as many sessions that ALGs read as `host_share` lets it.";
    ExpectationLimitFlow = "expectation-limit-flow", "A control session has as many pinholes as its profile or `[limits]` lets it.";
    ExpectationLimitHost = "expectation-limit-host", "As many pinholes lead to the host as the profile or `[limits]` lets.";
    ExpectationLimitAlg = "expectation-limit-alg", "All sessions of the profile, or of the protocol, have as many pinholes as it or `[limits]` lets them.";
    ExpectationLimitSecond = "expectation-limit-second", "Pinholes come faster than the profile or `[limits]` lets them.";
    ExpectationUntranslated = "expectation-untranslated", "A pinhole that nobody reaches without a translation, and its ALG's mode rewrites nothing.";
    AlgNoRoom = "alg-no-room", "What an ALG made of a datagram is longer than 65,507 bytes, or a packet fits no buffer.";
    StreamAckInvalid = "stream-ack-invalid", "Inspected stream: acknowledges what was never sent, or what is older than any window, or is outside of its sender's.";
    StreamTimestampOld = "stream-timestamp-old", "Inspected stream: a timestamp from before (PAWS); it was answered with an acknowledgement.";
    StreamResetInexact = "stream-reset-inexact", "Inspected stream: a reset that is not where its receiver expects one; its sender was asked.";
    StreamSynStrange = "stream-syn-strange", "Inspected stream: a SYN of another connection than the one that is open; its sender was asked.";
    StreamUnplaced = "stream-unplaced", "Inspected stream: before its sender's SYN, or behind a reset.";
    ExpectationGone = "expectation-gone", "The expectation was taken or expired while the packet was on its way.";
    TxFull = "tx-full", "The port did not take the packet.";
    TxNoPort = "tx-no-port", "The egress interface has no port on this worker, or its device was pulled out.";
    SegmentsNoBuffer = "segments-no-buffer", "No buffer for segments of an aggregate (`lro`): all of it is lost, or the rest of it.";
    PoolEmpty = "pool-empty", "No buffer for a packet of our own.";
    Shutdown = "shutdown", "In flight when the gateway stopped.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_numbered() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
        }
    }
}
