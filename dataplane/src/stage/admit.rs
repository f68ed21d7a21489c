//! Admit: a packet without a session, at the worker that would own it.
//!
//! An expectation first, then the gateway itself, then policy. Only the home of a tuple creates its session, after looking
//! once more; elsewhere the packet is handed on.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::{Event, Ref};
use crate::fib::Lookup;
use crate::key::{Addrs, FlowKey, Protocol, WorkerId, ZoneId};
use crate::nat::{BindError, BindingHash, BindingId, BindingKey};
use crate::packet::{Parsed, flag, icmp};
use crate::policy::{
    Action, AlgMode, Decision, Destination, Inspection, Mapping, Mode, NatAddress, PoolAddr, ProfileId,
    Query, Source,
};
use crate::port::Port;
use crate::session::{AlgSlot, Init};
use crate::shared::Command;
use crate::stage::seats::Between;
use crate::stage::{Context, Fate, Hit, Item, child, lookup, route};
use crate::table::{Direction, Entry, Hash, Placed, Unique};
use crate::view::{BoundBy, CloseReason, State};
use crate::worker::Local;
use alg::Application;
use alg::{Bound, BoundDatagram};
use core::net::{IpAddr, Ipv4Addr};

/// What came of it.
pub(crate) enum Admission<'a> {
    /// It has a session now, owned by this worker.
    Session(Hit<'a>),
    /// It goes another way.
    Fate(Fate),
}

/// What opening a session takes.
pub(crate) struct Reserve<'p> {
    /// Addresses that the initiator may be translated to; none if it is not translated.
    pub(crate) nat: &'p [NatAddress],
    /// Whether the binding that is made for that is the session's alone.
    pub(crate) mapping: Mapping,
    /// The initiator's binding, as far as it is known.
    pub(crate) binding: Option<BindingId>,
    /// The hash that it is found by, likewise.
    pub(crate) endpoint: Option<BindingHash>,
    /// Hash of the initiator's key.
    pub(crate) hash: Hash,
    /// Who reads it.
    pub(crate) inspect: Inspection,
    /// What says so.
    pub(crate) bound_by: BoundBy,
}

/// Only a lone SYN opens TCP, only a request opens an echo.
pub(crate) fn opens(parsed: &Parsed) -> Result<State, DropReason> {
    match parsed.protocol {
        Protocol::Tcp if parsed.tcp_flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN => {
            Ok(State::TcpSynSent)
        }
        Protocol::Tcp => Err(DropReason::TcpNoSession),
        Protocol::Udp => Ok(State::UdpNew),
        Protocol::Icmp if parsed.icmp_type == icmp::ECHO_REQUEST => Ok(State::IcmpEcho),
        Protocol::Icmp => Err(DropReason::IcmpNoSession),
    }
}

/// The worker at which a session begins: the home of its tuple, unless all sessions of its inside endpoint share a binding.
#[inline]
pub(crate) fn home_of(cx: &Context<'_>, key: &FlowKey, source: &Source<'_>) -> WorkerId {
    match source {
        Source::Bound(_, Mapping::EndpointIndependent) => cx.shared.home.of_endpoint(key.source(), key.sport),
        Source::Bound(_, Mapping::EndpointDependent) | Source::AsIs | Source::Static(_) => {
            cx.shared.home.of_tuple(key)
        }
    }
}

/// How the initiator of a session is seen that an ALG perhaps reads. A phone is called back at the port that one of its servers
/// knows it by, by whomever its messages reach, and speaks to several servers about one call: SIP keeps one port for all.
fn seen_of<'a>(source: Source<'a>, decision: &Decision) -> Source<'a> {
    match (source, decision.inspection, decision.application) {
        (Source::Bound(addresses, _), Inspection::Profile(_), Application::Sip) => {
            Source::Bound(addresses, Mapping::EndpointIndependent)
        }
        _ => source,
    }
}

/// Which of `len` addresses of a pool an inside address is paired with: always the same one (RFC 4787 REQ-2), at every
/// worker.
pub(crate) fn paired_with(inside: IpAddr, len: usize) -> usize {
    if len <= 1 {
        return 0;
    }
    let bits = match inside {
        IpAddr::V4(addr) => u64::from(addr.to_bits()),
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            #[expect(clippy::cast_possible_truncation, reason = "both halves count")]
            let folded = (bits >> 64) as u64 ^ bits as u64;
            folded
        }
    };
    // Fibonacci hashing (Knuth): the high bits of the product depend on all bits.
    let hash = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    // Below `len`, since the hash is below 2^32.
    ((hash * len as u64) >> 32) as usize
}

impl From<BindError> for DropReason {
    fn from(error: BindError) -> Self {
        match error {
            BindError::PortsExhausted => Self::NatPortsExhausted,
            BindError::TableFull => Self::NatBindingsFull,
        }
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Finds or makes the session of a packet that lookup found none for.
    pub(crate) fn admit<'a>(
        &mut self,
        cx: &Context<'a>,
        item: &mut Item<P::Buf>,
    ) -> Result<Admission<'a>, DropReason> {
        if item.parsed.protocol != Protocol::Icmp
            && let Some(met) = child::expected(cx, &item.key)
        {
            return self.admit_child(cx, item, &met);
        }
        route::check_source(cx, item.parsed.src)?;
        let called = Ipv4Addr::from_bits(item.parsed.dst);
        let destination =
            cx.policy.destination_nat(item.key.scope, called, item.key.protocol, item.key.dport);
        let there = cx.fib.lookup(item.parsed.dst);
        // Before anything may answer it (RFC 1122 §3.2.2).
        if there == Lookup::Broadcast {
            return Err(DropReason::Ipv4DirectedBroadcast);
        }
        let is_local = matches!(there, Lookup::Local(_));
        let ours = match destination {
            Destination::Host(..) => false,
            Destination::AsCalled => is_local,
            Destination::Unlisted => is_local || cx.policy.is_translated(called),
        };
        if ours {
            if let Some(admission) = self.look_again(cx, item)? {
                return Ok(admission);
            }
            return self.answer(cx, item).map(Admission::Fate);
        }
        if let Some(fate) = self.check_ttl(cx, item) {
            return Ok(Admission::Fate(fate));
        }
        let state = match opens(&item.parsed) {
            Ok(state) => state,
            Err(reason) => return self.admit_unopened(cx, item, destination, reason),
        };
        let (host, port) = destination.host().unwrap_or((called, item.key.dport));
        let hop = match route::next_hop(cx, host.to_bits()) {
            Ok(hop) => hop,
            Err(reason) => return Ok(Admission::Fate(self.no_route(cx, reason, item))),
        };
        let to = cx.fib.interface(hop.interface).ok_or(DropReason::TxNoPort)?.zone;
        let from = item.key.scope;
        let query = Query {
            from,
            to,
            source: item.key.source(),
            destination: IpAddr::V4(host),
            protocol: item.key.protocol,
            sport: item.key.sport,
            dport: port,
        };
        let verdict = cx.policy.decide(&mut self.memo, &query);
        let source = verdict
            .source(cx.policy, item.key.source(), hop.interface)
            // A translation that has no address to translate to admits nothing.
            .ok_or(DropReason::NatPortsExhausted)?;
        let source = seen_of(source, &verdict.decision);
        let home = home_of(cx, &item.key, &source);
        if home != self.id {
            return Ok(Admission::Fate(Fate::HandOff(home)));
        }
        if let Some(admission) = self.look_again(cx, item)? {
            return Ok(admission);
        }

        let decision = verdict.decision;
        if decision.action != Action::Allow {
            return self.deny(cx, item, to, &decision).map(Admission::Fate);
        }
        if decision.mode == Mode::Packet {
            let translated = destination.host().is_some() || source != Source::AsIs;
            return self.pass_alone(cx, item, &hop, translated).map(Admission::Fate);
        }
        // The answer comes from the host that was meant.
        let mut reverse = item.key.reversed(to);
        if let Addrs::V4(_, opener) = reverse.addrs {
            let seen = if let Source::Static(addr) = source { addr.to_bits() } else { opener };
            reverse.addrs = Addrs::V4(host.to_bits(), seen);
            reverse.sport = port;
        }
        let decision = self.detect_datagram(cx, item, decision)?;
        let (nat, mapping) = source.bound();
        let init = Init {
            owner: self.id,
            state,
            forward: item.key,
            // A binding puts the translated initiator in when the port is known.
            reverse,
            application: decision.application,
            rule: decision.rule,
            policy_generation: cx.policy.generation,
            created: cx.now,
            parent: None,
            expectation: None,
            binding: None,
            alg_slot: None,
            log: decision.log,
        };
        let Decision { inspection: inspect, bound_by, .. } = decision;
        let reserve =
            Reserve { nat, mapping, binding: None, endpoint: None, hash: item.hash, inspect, bound_by };
        let hit = self.open(cx, init, &reserve)?;
        if hit.session.bound_by() == BoundBy::Content {
            self.report_bound(cx, &hit);
        }
        Ok(Admission::Session(hit))
    }

    /// A packet that opens no session: a rule may let it pass by itself, or the connection is picked up.
    fn admit_unopened<'a>(
        &mut self,
        cx: &Context<'a>,
        item: &mut Item<P::Buf>,
        destination: Destination,
        reason: DropReason,
    ) -> Result<Admission<'a>, DropReason> {
        if cx.policy.has_packet_rules
            && let Some(fate) = self.filter(cx, item, destination)?
        {
            return Ok(Admission::Fate(fate));
        }
        if reason == DropReason::TcpNoSession && cx.policy.tcp_pick_up && destination.host().is_none() {
            return self.pick_up(cx, item);
        }
        Err(reason)
    }

    /// Drops what a rule denies or rejects, with its record and its answer.
    pub(crate) fn deny(
        &mut self,
        cx: &Context<'_>,
        item: &mut Item<P::Buf>,
        to: ZoneId,
        decision: &Decision,
    ) -> Result<Fate, DropReason> {
        if decision.log.any() && self.deny_limit.take(cx.now) {
            let generation = cx.policy.generation;
            self.tell(cx, Event::Denied { key: item.key, to: Some(to), rule: decision.rule, generation });
        }
        if decision.action == Action::Reject {
            return Ok(self.reject(cx, item));
        }
        Err(DropReason::PolicyDeny)
    }

    /// An earlier packet of this burst may have made the session.
    pub(crate) fn look_again<'a>(
        &self,
        cx: &Context<'a>,
        item: &mut Item<P::Buf>,
    ) -> Result<Option<Admission<'a>>, DropReason> {
        item.target = lookup::find(cx.shared, item);
        if item.target.is_none() {
            return Ok(None);
        }
        match lookup::owner(cx, self.id, item) {
            lookup::Owner::Mine(hit) => Ok(Some(Admission::Session(hit))),
            lookup::Owner::Other(owner) => Ok(Some(Admission::Fate(Fate::HandOff(owner)))),
            lookup::Owner::Nobody => Err(DropReason::SessionClosed),
        }
    }

    /// Reserves what a session needs, writes it, publishes both keys. What was reserved is given back if it fails.
    pub(crate) fn open<'a>(
        &mut self,
        cx: &Context<'a>,
        mut init: Init,
        reserve: &Reserve<'_>,
    ) -> Result<Hit<'a>, DropReason> {
        let reserved = self.reserve(cx, &mut init, reserve);
        let opened = reserved.and_then(|()| self.publish(cx, &init, reserve.hash));
        if opened.is_err() {
            if let Some(binding) = init.binding {
                self.cancel_binding(cx, binding);
            }
            if let Some(slot) = init.alg_slot {
                self.free_alg(init.forward.protocol, slot.number);
            }
        }
        opened
    }

    fn reserve(&mut self, cx: &Context<'_>, init: &mut Init, want: &Reserve<'_>) -> Result<(), DropReason> {
        if !want.nat.is_empty() {
            let id = match want.binding.filter(|id| self.bindings.retain(*id)) {
                Some(id) => id,
                None => self.bind(cx, init, want)?,
            };
            init.binding = Some(crate::worker::binding_ref(id));
            let binding = self.bindings.get(id).ok_or(DropReason::NatBindingsFull)?;
            init.reverse.set_destination(binding.outside_addr, binding.outside_port);
        }
        if want.inspect == Inspection::Detect {
            init.alg_slot = self.reserve_detector(cx, init);
        }
        if let Inspection::Profile(profile) = want.inspect {
            let found = want.bound_by == BoundBy::Content;
            let between = Between::of(cx, init);
            let full = DropReason::AlgTableFull;
            let slot = match init.forward.protocol {
                Protocol::Udp => {
                    BoundDatagram::for_application(init.application).ok_or(full).and_then(|bound| {
                        let places = &mut self.datagrams;
                        if found { places.alloc_found(bound, between) } else { places.alloc(bound, between) }
                    })
                }
                _ => Bound::for_application(init.application)
                    .ok_or(full)
                    .and_then(|bound| self.algs.alloc(bound, between)),
            };
            if slot.is_err() && found {
                // As if nobody had looked.
                init.application = alg::Application::Unknown;
                self.count(cx, Counter::AlgUndetected, 1);
                return Ok(());
            }
            let number = match slot {
                Ok(number) => number,
                Err(reason) => return self.without_place(cx, init, profile, reason),
            };
            init.alg_slot = Some(AlgSlot { number, profile, by: want.bound_by });
        }
        Ok(())
    }

    /// A session whose ALG has no place for it is refused. Who only watches refuses none: it goes on unread.
    fn without_place(
        &mut self,
        cx: &Context<'_>,
        init: &Init,
        profile: ProfileId,
        reason: DropReason,
    ) -> Result<(), DropReason> {
        let profile = cx.policy.alg.find(profile, init.policy_generation);
        let watches = profile.is_some_and(|p| p.mode == AlgMode::Monitor);
        if self.deny_limit.take(cx.now) {
            let (key, application) = (init.forward, init.application);
            self.tell(cx, Event::AlgNoPlace { key, application, reason, watched: watches });
        }
        if watches {
            self.count(cx, Counter::AlgBlind, 1);
            return Ok(());
        }
        Err(reason)
    }

    /// Gives a session's ALG state back.
    pub(crate) fn free_alg(&mut self, protocol: Protocol, slot: u32) {
        match protocol {
            Protocol::Udp => self.datagrams.free(slot),
            _ => self.algs.free(slot),
        }
    }

    /// The binding of the initiator, made if there is none. One reference is the caller's.
    fn bind(
        &mut self,
        cx: &Context<'_>,
        init: &Init,
        &Reserve { nat, mapping, endpoint, .. }: &Reserve<'_>,
    ) -> Result<BindingId, DropReason> {
        let (protocol, inside) = (init.forward.protocol, (init.forward.source(), init.forward.sport));
        let (before, after) = nat.split_at_checked(paired_with(inside.0, nat.len())).unwrap_or_default();
        let paired = after.first().ok_or(DropReason::NatPortsExhausted)?.pool;
        let addresses = after.iter().chain(before);
        if mapping == Mapping::EndpointDependent {
            return self.bind_alone(cx, init, paired, addresses);
        }
        let key = BindingKey { protocol, addr: inside.0, port: inside.1, pool: paired };
        let hash = endpoint.unwrap_or_else(|| self.bindings.hash(&key));
        if let Some(id) = self.bindings.find_hashed(hash, &key) {
            self.bindings.retain(id);
            return Ok(id);
        }
        let spaces = addresses.filter_map(|a| Some((*a, cx.shared.registry.get(a.pool)?)));
        Ok(self.bindings.create(hash, key, spaces, || self.rng.draw())?)
    }

    /// A binding for the session alone, if possible at a port whose replies come in here.
    fn bind_alone<'n>(
        &mut self,
        cx: &Context<'_>,
        init: &Init,
        paired: PoolAddr,
        addresses: impl Iterator<Item = &'n NatAddress>,
    ) -> Result<BindingId, DropReason> {
        let (protocol, inside) = (init.forward.protocol, (init.forward.source(), init.forward.sport));
        let landings = &self.landings;
        let spaces = addresses.filter_map(|address| {
            let mut reply = init.reverse;
            reply.set_destination(address.addr, 0);
            Some((*address, cx.shared.registry.get(address.pool)?, landings.of(&reply)))
        });
        let random = || self.rng.draw();
        let (id, fits) = self.bindings.create_alone(protocol, inside, paired, spaces, random)?;
        self.count(cx, Counter::NatPortsUnfit, u64::from(!fits));
        Ok(id)
    }

    pub(super) fn publish<'a>(
        &mut self,
        cx: &Context<'a>,
        init: &Init,
        forward: Hash,
    ) -> Result<Hit<'a>, DropReason> {
        let (arena, table) = (&cx.shared.arena, &cx.shared.table);
        let index = arena.alloc(&mut self.magazine).ok_or(DropReason::SessionTableFull)?;
        let Some(session) = arena.get(index) else { return Err(DropReason::SessionTableFull) };
        let version = session.open(init);
        let mut stashed = 0;
        let mut published = None;
        let mut failed = None;
        let ways = [
            (Direction::Forward, &init.forward, forward),
            (Direction::Reverse, &init.reverse, table.hash(&init.reverse)),
        ];
        for (direction, key, hash) in ways {
            let entry = entry(index, direction, version);
            let same = |other: Entry| {
                arena
                    .get(other.index)
                    .is_some_and(|s| s.matches(other.direction, key) && s.state() != State::Closed)
            };
            let mut gave_way = false;
            // One call, so that it is compiled into its only place.
            let inserted = loop {
                match table.insert_unique(hash, entry, same) {
                    Err(Unique::Taken) if !gave_way && self.ends_what_is_over(cx, key, hash) => {
                        gave_way = true;
                    }
                    inserted => break inserted,
                }
            };
            match inserted {
                Ok(placed) => {
                    stashed += u64::from(placed == Placed::Stash);
                    if direction == Direction::Forward {
                        published = Some((hash, entry));
                    }
                }
                Err(unique) => {
                    failed = Some(match unique {
                        Unique::Taken => DropReason::TupleConflict,
                        Unique::Full => DropReason::SessionTableFull,
                    });
                    break;
                }
            }
        }
        if let Some(reason) = failed {
            if let Some((hash, entry)) = published {
                table.remove(hash, entry);
            }
            session.close(CloseReason::None);
            session.free();
            arena.release(&mut self.magazine, index);
            return Err(reason);
        }
        arena.note_mark(&mut self.marks, index);
        self.count(cx, Counter::SessionsOpened, 1);
        if stashed > 0 {
            self.count(cx, Counter::StashInserts, stashed);
        }
        Ok(Hit { session, id: Ref { index, version }, direction: Direction::Forward })
    }

    /// A new session wants a key that another has. One whose connection is over gives way (RFC 1122 §4.2.2.13, RFC 6191):
    /// its slot goes at once, its owner ends it. False if a living one has the key.
    #[cold]
    #[inline(never)]
    fn ends_what_is_over(&mut self, cx: &Context<'_>, key: &FlowKey, hash: Hash) -> bool {
        let (arena, mut over, mut alive) = (&cx.shared.arena, None, false);
        let found = cx.shared.table.find(hash, |other| {
            let Some(session) = arena.get(other.index).filter(|s| s.matches(other.direction, key)) else {
                return false;
            };
            let version = session.version();
            match session.state() {
                State::Closed => return false,
                State::TcpTimeWait | State::TcpReset => {
                    over = Some((Ref { index: other.index, version }, session.owner()));
                }
                _ => alive = true,
            }
            true
        });
        if let (Some(slot), Some((id, owner))) = (found, over) {
            // Nobody else's slot: it names the version that was published.
            cx.shared.table.remove(hash, slot);
            let reason = CloseReason::Fin;
            if owner == self.id {
                self.unlink(cx, id, reason);
            } else if let Some(lane) = cx.shared.lane(owner) {
                let ends = Command::Unlink { session: id, reason, only_if_last_seen: None };
                // With a full ring it ends by its timeout, as it would have anyway.
                let _ = lane.commands.push(ends);
            }
        }
        !alive
    }

    /// Takes back a session that nothing has passed through, with all that it held.
    pub(crate) fn take_back(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
        let (arena, session, id) = (&cx.shared.arena, hit.session, hit.id);
        for direction in [Direction::Forward, Direction::Reverse] {
            let hash = cx.shared.table.hash(&session.key(direction));
            cx.shared.table.remove(hash, entry(id.index, direction, id.version));
        }
        if let Some(binding) = session.binding() {
            self.cancel_binding(cx, binding);
        }
        if let Some(slot) = session.alg_slot() {
            self.free_alg(session.key(Direction::Forward).protocol, slot);
        }
        session.close(CloseReason::None);
        session.free();
        arena.release(&mut self.magazine, id.index);
        self.count(cx, Counter::SessionsFreed, 1);
    }
}

/// The table entry of a session's key.
pub(crate) fn entry(index: u32, direction: Direction, version: u32) -> Entry {
    #[expect(clippy::cast_possible_truncation, reason = "the slot keeps the low half")]
    Entry { index, direction, version: version as u16 }
}
