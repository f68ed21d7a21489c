//! A worker: one core's poll loop, and the order of the stages.

mod transmit;

use crate::buf::{BufPool, Packet, PacketBuf};
use crate::counters::{Counter, InterfaceCounters};
use crate::drop_reason::DropReason;
use crate::event::{Event, Ref, Stamped};
use crate::expect::Ledger;
use crate::fib::{Fib, MAX_INTERFACES, PortMap};
use crate::handoff::{Arrivals, Ends, Grid, LargeParcel, Parcel};
use crate::home::Landings;
use crate::key::{InterfaceId, Protocol, Tick, WorkerId};
use crate::nat::{BindingId, Bindings, HoldDown};
use crate::packet::icmp_error;
use crate::packet::limit::TokenBucket;
use crate::policy::{Memo, Policy};
use crate::port::{BURST, Burst, Port};
use crate::rng::Rng;
use crate::session::record::FLAG_ALG;
use crate::session::{Magazine, Marks};
use crate::shared::Shared;
use crate::stage::admit::Admission;
use crate::stage::datagram::Datagrams;
use crate::stage::forward::{Carried, Plan, Way};
use crate::stage::gather::Gathering;
use crate::stage::inspect::{self, Scratch};
use crate::stage::lookup::{self, Owner};
use crate::stage::open::{Opening, Openings};
use crate::stage::queue::{MAX_FRAME, Queue, Waiting};
use crate::stage::receive::Received;
use crate::stage::seats::Algs;
use crate::stage::{Context, Fate, Item, NextHop, Original, forward, receive, rewrite, route, track};
use crate::stream::segment::MAX_EMISSIONS;
use crate::view::{CloseReason, State};
use arc_swap::{ArcSwap, Cache};
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Most handoffs of one packet. Two are needed; a change of policy on the way may cost one more.
const MAX_HOPS: u8 = 4;
/// Most resting ports that are looked at in one poll.
const RESTING: usize = 64;

/// A binding's name as sessions and expectations keep it.
pub(crate) fn binding_ref(id: BindingId) -> Ref {
    let bits = id.to_bits();
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    Ref { index: bits as u32, version: (bits >> 32) as u32 }
}

/// And back.
pub(crate) fn binding_id(id: Ref) -> BindingId {
    BindingId::from_bits(u64::from(id.version) << 32 | u64::from(id.index))
}

/// One worker.
pub struct Worker<P: Port, A: BufPool<Buf = P::Buf>> {
    shared: Arc<Shared>,
    grid: Ends<P::Buf>,
    arrivals: Arrivals<P::Buf>,
    policy: Cache<Arc<ArcSwap<Policy>>, Arc<Policy>>,
    fib: Cache<Arc<ArcSwap<Fib>>, Arc<Fib>>,
    local: Local<P, A>,
    burst: Burst<P::Buf>,
    plans: Box<forward::Plans>,
    online: bool,
    last: Tick,
}

/// What belongs to one worker alone.
pub struct Local<P: Port, A: BufPool<Buf = P::Buf>> {
    pub(crate) id: WorkerId,
    ports: Vec<P>,
    pub(crate) pool: A,
    tx: Vec<Burst<P::Buf>>,
    pub(crate) magazine: Magazine,
    pub(crate) marks: Marks,
    pub(crate) memo: Memo,
    pub(crate) bindings: Bindings,
    /// Ports whose replies come in here.
    pub(crate) landings: Landings,
    pub(crate) hold_down: HoldDown,
    pub(crate) algs: Algs,
    pub(crate) datagrams: Datagrams,
    pub(crate) ledger: Ledger,
    pub(crate) gathering: Gathering,
    /// Packets of the stream engine that leave behind the one under way.
    pub(crate) made: ArrayVec<(NextHop, P::Buf), MAX_EMISSIONS>,
    /// The inspected session at which the round of those that wait goes on. None: no round is due.
    pub(crate) stream_round: Option<u32>,
    /// The first session to look at next that is not known.
    pub(crate) detector_cursor: u32,
    pub(crate) rng: Rng,
    pub(crate) icmp_limit: TokenBucket,
    pub(crate) deny_limit: TokenBucket,
    pub(crate) scratch: Box<Scratch>,
    queue: Queue,
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Worker<P, A> {
    /// A worker over these ports, which the FIB's interfaces name by their place. All it needs is allocated here.
    #[must_use]
    pub fn new(shared: Arc<Shared>, grid: Arc<Grid<P::Buf>>, id: WorkerId, ports: Vec<P>, pool: A) -> Self {
        let setup = &shared.setup;
        let stream = u16::from(id.0);
        let mut room = shared.take_room(id);
        let mut rng = Rng::new(setup.seed, stream);
        let local = Local {
            id,
            tx: (0..MAX_INTERFACES).map(|_| Burst::new()).collect(),
            ports,
            pool,
            magazine: Magazine::default(),
            marks: Marks::default(),
            memo: Memo::default(),
            bindings: Bindings::new(id, &mut room, rng.draw()),
            landings: shared.home.landings(id),
            hold_down: HoldDown::new(Arc::clone(&shared.registry), id, &mut room),
            ledger: Ledger::new(shared.expectations.share_of(id), rng.draw()),
            algs: Algs::new(setup.alg_sessions, setup.stream_chunks, rng.draw()),
            gathering: Gathering::new(setup.fragment_chunks),
            made: ArrayVec::new(),
            stream_round: None,
            detector_cursor: 0,
            datagrams: Datagrams::new(setup.alg_sessions, rng.draw()),
            scratch: Box::new(Scratch::new(setup.alg_sessions as usize, rng.draw())),
            rng,
            icmp_limit: TokenBucket::new(Tick(0), setup.icmp_errors_per_second, setup.icmp_errors_per_second),
            deny_limit: TokenBucket::new(Tick(0), setup.deny_events_per_second, setup.deny_events_per_second),
            queue: Queue::new(),
        };
        // Who comes second to a place in the grid is alone: it hands nothing off.
        let (ends, arrivals) = grid.take(id).unwrap_or_else(|| (Ends::none(), Vec::new()));
        Self {
            policy: Cache::new(Arc::clone(&shared.policy)),
            fib: Cache::new(Arc::clone(&shared.fib)),
            shared,
            grid: ends,
            arrivals,
            local,
            burst: Burst::new(),
            plans: Box::new([Plan::default(); BURST]),
            online: false,
            last: Tick(0),
        }
    }

    /// What belongs to this worker alone, for tests.
    #[must_use]
    pub fn local(&self) -> &Local<P, A> {
        &self.local
    }

    /// One turn: commands, packets from other workers, a burst from each port, then everything is sent. Answers how many
    /// packets and commands there were: 0 means that the worker may rest.
    pub fn poll(&mut self, now: Tick) -> usize {
        let reader = usize::from(self.local.id.0);
        if !self.online {
            self.shared.epochs.online(reader);
            self.online = true;
        }
        let shared = &*self.shared;
        let cx = Context { shared, policy: self.policy.load(), fib: self.fib.load(), now };
        let mut work = self.local.obey(&cx);
        if now != self.last {
            self.last = now;
            self.local.hold_down.expire(now, cx.policy.timeouts.port_hold_down, RESTING);
            let early = self.local.hold_down.take_released_early();
            self.local.count(&cx, Counter::PortsReleasedEarly, early);
            self.local.retry(&cx);
            self.local.give_up_fragments(&cx);
        }

        for ring in &mut self.arrivals {
            let count = ring.look(BURST as u32);
            if count == 0 {
                continue;
            }
            // A parcel stays where it is until its packet is carried: copies cost more than the ring's places.
            ring.show(count, |parcel| {
                parcel.buf.prefetch();
                forward::prefetch(shared, &parcel.plan);
            });
            ring.show(count, |parcel| parcel.buf.prefetch_bytes());
            let mut forwarded = 0;
            let (local, grid) = (&mut self.local, &self.grid);
            ring.take(count, |parcel| forwarded += u64::from(local.arrive(&cx, grid, parcel)));
            ring.release();
            self.local.count(&cx, Counter::Forwarded, forwarded);
            work += count as usize;
        }
        if self.grid.workers() > 1 {
            work += self.local.arrive_large(&cx, &self.grid);
        }
        for number in 0..self.local.ports.len() {
            let Some(port) = self.local.ports.get_mut(number) else { break };
            let received = port.rx_burst(&mut self.burst);
            let wrong = port.refused();
            if wrong > 0 {
                work += wrong;
                let no_room = port.without_room().min(wrong);
                if let Some(lane) = shared.lane(self.local.id) {
                    lane.counters.add(Counter::RxPackets, wrong as u64);
                    lane.counters.drop(DropReason::NicChecksum, (wrong - no_room) as u64);
                    lane.counters.drop(DropReason::SegmentsNoBuffer, no_room as u64);
                }
            }
            if received == 0 {
                continue;
            }
            work += received;
            let map = cx.fib.port(u16::try_from(number).unwrap_or(u16::MAX));
            let (burst, plans) = (&mut self.burst, &mut self.plans);
            if let Some(map) = map.filter(|map| map.has_vlans()) {
                port.planned();
                self.local.sort(&cx, &self.grid, map, burst, plans);
                continue;
            }
            // One that nobody has: every packet is dropped and counted.
            let ingress = map.and_then(PortMap::untagged).unwrap_or(InterfaceId(u16::MAX));
            let first = plan(&cx, ingress, burst, plans);
            port.planned();
            let bytes: usize = burst.iter().map(PacketBuf::total_len).sum();
            self.local.count(&cx, Counter::RxPackets, received as u64);
            self.local.count(&cx, Counter::RxBytes, bytes as u64);
            if let Some(counters) = self.local.counters_of(&cx, ingress) {
                counters.received(received as u64, bytes as u64);
            }
            self.local.process(&cx, &self.grid, ingress, burst, plans, first);
        }
        self.grid.publish();
        self.local.flush(&cx);
        shared.arena.send_marks(&mut self.local.marks);
        shared.epochs.quiescent(reader);
        work
    }

    /// The worker will sleep: nobody waits for it meanwhile.
    pub fn rest(&mut self) {
        self.shared.epochs.offline(usize::from(self.local.id.0));
        self.online = false;
    }

    /// Ends the worker: what is on its way to it is dropped and counted.
    pub fn shut_down(mut self) {
        let mut lost = 0;
        for ring in &mut self.arrivals {
            while ring.pop().is_some() {
                lost += 1;
            }
        }
        while self.grid.large(self.local.id).and_then(ArrayQueue::pop).is_some() {
            lost += 1;
        }
        lost += self.local.queue.len();
        let fragments = &mut self.local.gathering.table;
        fragments.clear(&mut |_, n| lost += n);
        if let Some(lane) = self.shared.lane(self.local.id) {
            lane.counters.drop(DropReason::Shutdown, lost as u64);
        }
        self.rest();
    }
}

/// Plans a received burst. On an interface that the FIB does not know, everything goes the long way. Answers whether some
/// packets are perhaps the first of their flows.
fn plan<B: PacketBuf>(
    cx: &Context<'_>,
    ingress: InterfaceId,
    burst: &Burst<B>,
    plans: &mut forward::Plans,
) -> bool {
    let Some(interface) = cx.fib.interface(ingress) else {
        *plans = [Plan::default(); BURST];
        return false;
    };
    let frames = burst.iter().map(|b| if b.is_linear() { b.bytes() } else { &[] });
    forward::plan(cx.shared, frames, interface.mac, interface.zone, plans)
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Takes the tags off a burst of a port with VLANs, and each interface's packets through the journey, in their order.
    fn sort(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        port: &PortMap,
        burst: &mut Burst<P::Buf>,
        plans: &mut forward::Plans,
    ) {
        let bytes: usize = burst.iter().map(PacketBuf::total_len).sum();
        self.count(cx, Counter::RxPackets, burst.len() as u64);
        self.count(cx, Counter::RxBytes, bytes as u64);
        let mut left = ArrayVec::<(InterfaceId, P::Buf), BURST>::new();
        for mut buf in burst.drain(..) {
            match receive::untag(port, &mut buf) {
                // There are as many as packets at most, here and below.
                Ok(interface) => {
                    let _ = left.try_push((interface, buf));
                }
                Err(reason) => self.drop(cx, reason, 1),
            }
        }
        while let Some(ingress) = left.first().map(|(interface, _)| *interface) {
            let mut others = ArrayVec::new();
            for (interface, buf) in left.drain(..) {
                if interface == ingress {
                    let _ = burst.try_push(buf);
                } else {
                    let _ = others.try_push((interface, buf));
                }
            }
            left = others;
            if let Some(counters) = self.counters_of(cx, ingress) {
                let bytes: usize = burst.iter().map(PacketBuf::total_len).sum();
                counters.received(burst.len() as u64, bytes as u64);
            }
            let first = plan(cx, ingress, burst, plans);
            self.process(cx, grid, ingress, burst, plans, first);
        }
    }

    /// Takes a planned burst of one interface through the journey. `first` says whether some packets are perhaps the first
    /// of their flows.
    #[inline]
    fn process(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        ingress: InterfaceId,
        burst: &mut Burst<P::Buf>,
        plans: &forward::Plans,
        first: bool,
    ) {
        if cx.shared.setup.misroute {
            self.misroute(cx, grid, ingress, burst, plans);
        } else if first {
            let mut openings = Openings::new();
            self.survey(cx, plans.get(..burst.len()).unwrap_or(&[]), &mut openings);
            self.travel(cx, grid, ingress, burst, plans, &openings);
        } else {
            self.travel(cx, grid, ingress, burst, plans, &[]);
        }
    }

    /// This worker's counters of an interface.
    fn counters_of<'a>(&self, cx: &Context<'a>, interface: InterfaceId) -> Option<&'a InterfaceCounters> {
        cx.shared.lane(self.id)?.interfaces.get(usize::from(interface.0))
    }

    /// Takes a received burst through the journey: a straight line where one will do, the long way where not, each
    /// packet at its place. `openings` are what is known of first packets.
    fn travel(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        ingress: InterfaceId,
        burst: &mut Burst<P::Buf>,
        plans: &forward::Plans,
        mut openings: &[Opening<'_>],
    ) {
        let (mut forwarded, mut handed_off) = (0, 0);
        for (number, (mut buf, plan)) in burst.drain(..).zip(plans).enumerate() {
            let mut carried = Carried::LongWay;
            if plan.way == Way::Known {
                carried = forward::carry(cx, self.id, plan, &mut buf);
                // Nearly always: without the detour of a match.
                if let Carried::To(egress) = carried {
                    forwarded += 1;
                    self.transmit(cx, egress, buf);
                    continue;
                }
            } else if let [opening, rest @ ..] = openings
                && opening.number == number
            {
                openings = rest;
                carried = self.begin(cx, plan, opening, &mut buf);
            }
            match carried {
                Carried::To(egress) => {
                    forwarded += 1;
                    self.transmit(cx, egress, buf);
                }
                Carried::Owner(to) => {
                    let parcel = Parcel { buf, plan: *plan, ingress, hops: 1 };
                    match grid.to(to).is_some_and(|ring| ring.push(parcel).is_ok()) {
                        true => handed_off += 1,
                        false => self.drop(cx, DropReason::HandoffFull, 1),
                    }
                }
                Carried::Drop(reason) => self.drop(cx, reason, 1),
                Carried::LongWay => self.long_way(cx, grid, ingress, 0, buf),
            }
        }
        self.count(cx, Counter::Forwarded, forwarded);
        self.handed_off(cx, handed_off, Some(ingress));
    }

    /// Takes a packet that another worker handed over through the journey. Answers whether it leaves by a straight line,
    /// which the caller counts.
    #[inline(always)]
    fn arrive(&mut self, cx: &Context<'_>, grid: &Ends<P::Buf>, mut parcel: Parcel<P::Buf>) -> bool {
        let mut carried = Carried::LongWay;
        if parcel.plan.way == Way::Known {
            carried = forward::carry(cx, self.id, &parcel.plan, &mut parcel.buf);
            // Nearly always, as in `travel`.
            if let Carried::To(egress) = carried {
                self.transmit(cx, egress, parcel.buf);
                return true;
            }
        }
        self.arrive_otherwise(cx, grid, parcel, carried)
    }

    /// The same where it is not carried at once.
    #[inline(never)]
    fn arrive_otherwise(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        mut parcel: Parcel<P::Buf>,
        mut carried: Carried,
    ) -> bool {
        if parcel.plan.way == Way::First
            && let Some(opening) = self.survey_one(cx, &parcel.plan)
        {
            carried = self.begin(cx, &parcel.plan, &opening, &mut parcel.buf);
        }
        match carried {
            Carried::To(egress) => {
                self.transmit(cx, egress, parcel.buf);
                return true;
            }
            Carried::Owner(to) => self.hand_off(cx, grid, to, parcel),
            Carried::Drop(reason) => self.drop(cx, reason, 1),
            Carried::LongWay => self.long_way(cx, grid, parcel.ingress, parcel.hops, parcel.buf),
        }
        false
    }

    pub(crate) fn long_way(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        ingress: InterfaceId,
        hops: u8,
        buf: P::Buf,
    ) {
        match self.receive(cx, ingress, hops, buf) {
            Received::Item(item) => self.dispatch(cx, grid, item),
            Received::Fragment(fragment, from, buf) => {
                let home = cx.shared.home.of_fragment(&fragment);
                if home != self.id {
                    let parcel = Parcel { buf, plan: Plan::default(), ingress: from.0, hops };
                    self.hand_off(cx, grid, home, parcel);
                } else if let Some(item) = self.gather(cx, from, &fragment, &buf) {
                    self.dispatch(cx, grid, item);
                }
            }
            Received::Aggregate(aggregate, ingress, buf) => {
                self.carry_aggregate(cx, grid, (ingress, hops), buf, aggregate);
            }
            Received::Nothing => {}
        }
    }

    /// Takes the datagrams in large buffers that other workers handed over through the journey.
    fn arrive_large(&mut self, cx: &Context<'_>, grid: &Ends<P::Buf>) -> usize {
        let Some(ring) = grid.large(self.id) else { return 0 };
        for n in 0..BURST {
            let Some(LargeParcel { buf, ingress, hops, longest }) = ring.pop() else { return n };
            if let Some(item) = self.understand(cx, ingress, hops, longest, Packet::Large(buf)) {
                self.dispatch(cx, grid, item);
            }
        }
        BURST
    }

    /// Sends one packet through the long way, and does what came of it.
    fn dispatch(&mut self, cx: &Context<'_>, grid: &Ends<P::Buf>, mut item: Item<P::Buf>) {
        item.target = lookup::find(cx.shared, &item);
        match self.journey(cx, &mut item) {
            Ok(Fate::Send(egress)) => {
                self.count(cx, Counter::Forwarded, 1);
                self.depart(cx, egress, item.buf, item.longest);
            }
            Ok(Fate::HandOff(to)) => {
                let Item { buf, ingress, hops, longest, .. } = item;
                match buf {
                    Packet::Port(buf) => {
                        self.hand_off(cx, grid, to, Parcel { buf, plan: Plan::default(), ingress, hops });
                    }
                    Packet::Large(buf) => {
                        self.hand_off_large(cx, grid, to, LargeParcel { buf, ingress, hops, longest });
                    }
                }
            }
            Ok(Fate::Wait { interface, next_hop }) => self.wait(cx, interface, next_hop, item),
            Ok(Fate::Answer) => {
                self.count(cx, Counter::Local, 1);
                self.depart(cx, item.ingress, item.buf, item.longest);
            }
            Ok(Fate::Error(reason)) => {
                self.drop(cx, reason, 1);
                self.depart(cx, item.ingress, item.buf, item.longest);
            }
            Ok(Fate::Reset { egress, reason }) => {
                self.drop(cx, reason, 1);
                self.depart(cx, egress, item.buf, item.longest);
            }
            Ok(Fate::TakenIn) => self.count(cx, Counter::StreamTakenIn, 1),
            Ok(Fate::Drop(reason)) | Err(reason) => self.drop(cx, reason, 1),
        }
        self.send_made(cx);
    }

    /// Sends what the stream engine has made. What cannot leave now is lost, as on a wire: whoever misses it asks again.
    pub(crate) fn send_made(&mut self, cx: &Context<'_>) {
        while let Some((hop, mut buf)) = self.made.pop_at(0) {
            match route::finish(cx, &hop, &mut buf) {
                Ok(Fate::Send(egress)) => self.transmit(cx, egress, buf),
                other => {
                    self.count(cx, Counter::StreamUnsent, 1);
                    if let Ok(Fate::Wait { interface, next_hop }) = other {
                        self.tell(cx, Event::NeighborNeeded { interface, next_hop });
                    }
                }
            }
        }
    }

    /// The journey of one packet, from its lookup to its L2 header: the order of the stages.
    fn journey(&mut self, cx: &Context<'_>, item: &mut Item<P::Buf>) -> Result<Fate, DropReason> {
        if item.parsed.is_icmp_error() {
            return self.relate(cx, item);
        }
        let mut owner = lookup::owner(cx, self.id, item);
        if let Owner::Mine(hit) = &owner
            && lookup::reopens(hit, item)
        {
            self.unlink(cx, hit.id, CloseReason::Fin);
            item.target = None;
            owner = Owner::Nobody;
        }
        let hit = match owner {
            Owner::Mine(hit) => hit,
            Owner::Other(worker) => return Ok(Fate::HandOff(worker)),
            Owner::Nobody => match self.admit(cx, item)? {
                Admission::Session(hit) => hit,
                Admission::Fate(fate) => return Ok(fate),
            },
        };
        if let Some(fate) = self.check_ttl(cx, item) {
            return Ok(fate);
        }
        let hop = match self.route(cx, &hit, item) {
            Ok(hop) => hop,
            Err(fate) => return Ok(fate),
        };
        if let Some(fate) = self.check_mtu(cx, hop.interface, item) {
            return Ok(fate);
        }
        if hop.mac.is_none() {
            item.original = Original::of(item);
        }
        let bytes = u32::from(item.parsed.ip_len);
        let mut state = match track::track(&hit, item) {
            Ok(state) => state,
            Err(reason) => return self.refuse_again(&hit, item, reason),
        };
        if hit.session.flags() & FLAG_ALG != 0 && item.parsed.protocol == Protocol::Udp {
            if let Some(fate) = self.inspect_datagram(cx, &hit, &hop, item)? {
                return Ok(fate);
            }
        } else if hit.session.flags() & FLAG_ALG != 0 {
            inspect::verify(item)?;
            if let Some(fate) = self.inspect(cx, &hit, &hop, item)? {
                return Ok(fate);
            }
            state = self.state_behind(&hit, item)?;
        }
        rewrite::rewrite(&hit, item)?;
        // Only what leaves moves the state: an end that never saw a reset must not lose its session to it.
        if state == State::TcpReset && hit.session.flags() & FLAG_ALG == 0 {
            track::doubt(&hit, hit.session.state(), item.parsed.seq);
        }
        track::settle(cx, &hit, state);
        hit.session.touch(hit.direction, bytes, cx.now);
        route::finish(cx, &hop, &mut item.buf)
    }

    /// Test mode: sends each packet to a random worker first.
    fn misroute(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        ingress: InterfaceId,
        burst: &mut Burst<P::Buf>,
        plans: &forward::Plans,
    ) {
        let workers = u64::try_from(grid.workers()).unwrap_or(1);
        if workers <= 1 {
            // Alone, every packet goes the long way, which is what the straight line is compared with. Nothing is drawn:
            // random numbers then go to the same things as without this mode.
            for buf in burst.drain(..) {
                self.long_way(cx, grid, ingress, 0, buf);
            }
            return;
        }
        for (buf, plan) in burst.drain(..).zip(plans.iter().copied()) {
            let to = WorkerId(u8::try_from(self.rng.draw() % workers).unwrap_or(0));
            let parcel = Parcel { buf, plan, ingress, hops: 0 };
            if to == self.id {
                let forwarded = self.arrive(cx, grid, parcel);
                self.count(cx, Counter::Forwarded, u64::from(forwarded));
            } else {
                self.hand_off(cx, grid, to, parcel);
            }
        }
    }

    pub(crate) fn hand_off(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        to: WorkerId,
        mut parcel: Parcel<P::Buf>,
    ) {
        parcel.hops += 1;
        let (ingress, hops) = (parcel.ingress, parcel.hops);
        let pushed = match grid.to(to) {
            Some(ring) if hops <= MAX_HOPS => ring.push(parcel).is_ok(),
            _ => false,
        };
        if !pushed {
            self.drop(cx, DropReason::HandoffFull, 1);
        }
        // What comes on from a third is no matter of its interface.
        self.handed_off(cx, u64::from(pushed), (hops == 1).then_some(ingress));
    }

    fn hand_off_large(
        &mut self,
        cx: &Context<'_>,
        grid: &Ends<P::Buf>,
        to: WorkerId,
        mut parcel: LargeParcel,
    ) {
        parcel.hops += 1;
        let pushed = match grid.large(to) {
            Some(ring) if parcel.hops <= MAX_HOPS => ring.push(parcel).is_ok(),
            _ => false,
        };
        if !pushed {
            self.drop(cx, DropReason::HandoffFull, 1);
        }
        // Its fragments were counted where they came in.
        self.handed_off(cx, u64::from(pushed), None);
    }

    /// Counts packets that another worker shall have, and at the interface where they came in, if they are that one's matter.
    fn handed_off(&self, cx: &Context<'_>, count: u64, ingress: Option<InterfaceId>) {
        if count == 0 {
            return;
        }
        self.count(cx, Counter::HandedOff, count);
        if let Some(counters) = ingress.and_then(|ingress| self.counters_of(cx, ingress)) {
            counters.hand_off(count);
        }
    }

    fn wait(
        &mut self,
        cx: &Context<'_>,
        interface: InterfaceId,
        next_hop: core::net::Ipv4Addr,
        item: Item<P::Buf>,
    ) {
        let frame = (item.buf.bytes(), item.longest);
        if self.queue.push(cx.now, interface, next_hop, frame, item.original) {
            self.count(cx, Counter::Queued, 1);
            self.tell(cx, Event::NeighborNeeded { interface, next_hop });
        } else {
            self.drop(cx, DropReason::NeighborPending, 1);
            if item.buf.bytes().len() > MAX_FRAME {
                // It never waits: whoever sends no shorter ones would get nothing through.
                self.tell(cx, Event::NeighborNeeded { interface, next_hop });
            }
        }
    }

    /// Sends the packets whose next hop is known by now.
    fn retry(&mut self, cx: &Context<'_>) {
        if self.queue.is_empty() {
            return;
        }
        // Taken out, so that the queue can be walked while packets are sent.
        let mut queue = core::mem::replace(&mut self.queue, Queue::hollow());
        let given_up = queue.retry(cx.now, |waiting, late| {
            let Some(adjacency) =
                cx.fib.adjacency_for(waiting.interface, waiting.next_hop).and_then(|id| cx.fib.adjacency(id))
            else {
                if late {
                    self.give_up(cx, waiting);
                }
                return false;
            };
            let hop = crate::stage::NextHop {
                interface: waiting.interface,
                next_hop: waiting.next_hop,
                mac: Some(adjacency.mac),
            };
            if let Ok(Fate::Send(egress)) = route::address(cx, &hop, &mut waiting.frame)
                && self.cut(cx, egress, &waiting.frame, waiting.longest)
            {
                self.count(cx, Counter::Forwarded, 1);
            } else {
                // Without a buffer this is counted twice over: as pool-empty and as the end of the wait.
                self.drop(cx, DropReason::NeighborUnresolved, 1);
            }
            true
        });
        self.queue = queue;
        if given_up > 0 {
            self.drop(cx, DropReason::NeighborUnresolved, given_up);
        }
    }

    /// Tells the sender of a packet that its next hop does not answer (RFC 1812 §5.2.7.1, RFC 1122 §2.3.2.2).
    fn give_up(&mut self, cx: &Context<'_>, waiting: &Waiting) {
        let Some(Original { ingress, zone, parsed, head }) = &waiting.original else { return };
        let Some(mut buf) = self.copy_of(cx, head) else { return };
        let reason = DropReason::NeighborUnresolved;
        let fate = self.unreachable(cx, reason, icmp_error::HOST, (*ingress, *zone), (&mut buf, parsed));
        if matches!(fate, Fate::Error(_)) {
            self.transmit(cx, *ingress, buf);
        }
    }

    /// An empty packet of our own. None, counted, if there is no buffer.
    pub(crate) fn buffer(&mut self, cx: &Context<'_>) -> Option<P::Buf> {
        let buf = self.pool.alloc();
        if buf.is_none() {
            self.drop(cx, DropReason::PoolEmpty, 1);
        }
        buf
    }

    /// A packet of our own with these bytes. None, counted, if there is no buffer.
    pub(crate) fn copy_of(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Option<P::Buf> {
        let copy = self.pool.alloc().and_then(|mut buf| {
            if !buf.append(bytes.len()) {
                return None;
            }
            buf.bytes_mut().copy_from_slice(bytes);
            Some(buf)
        });
        if copy.is_none() {
            self.drop(cx, DropReason::PoolEmpty, 1);
        }
        copy
    }

    /// Sends an event to control, or counts that its ring is full.
    pub(crate) fn tell(&mut self, cx: &Context<'_>, event: Event) {
        let Some(lane) = cx.shared.lane(self.id) else { return };
        if lane.events.push(Stamped { at: cx.now, event }).is_err() {
            lane.counters.add(Counter::EventsLost, 1);
        }
    }

    pub(crate) fn count(&self, cx: &Context<'_>, counter: Counter, n: u64) {
        if let Some(lane) = cx.shared.lane(self.id) {
            lane.counters.add(counter, n);
        }
    }

    pub(crate) fn drop(&self, cx: &Context<'_>, reason: DropReason, n: usize) {
        if n > 0
            && let Some(lane) = cx.shared.lane(self.id)
        {
            lane.counters.drop(reason, n as u64);
        }
    }

    /// Bindings in use, and ports that rest, for tests.
    #[must_use]
    pub fn ports_held(&self) -> (usize, usize) {
        (self.bindings.len(), self.hold_down.len())
    }
}
