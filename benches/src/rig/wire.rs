//! What is behind both ports: generator, check and counts.

use crate::rig::buffer::{Packet, Stock};
use crate::rig::flows::{Nat, Place, Walk};
use crate::rig::frame::{Kind, SHORTEST, Writer};
use crate::rig::pace::{Pace, Times};
use crate::rig::probe;
use crate::rig::sample::Sample;
use crate::rig::traffic::{Meter, Tally, Traffic};
use dataplane::buf::PacketBuf;
use dataplane::key::Protocol;
use dataplane::port::Burst;
use dataplane::table::Direction;
use std::cell::RefCell;
use std::mem::take;
use std::rc::Rc;

/// Faults that are kept to be printed.
const FAULTS: usize = 8;

/// Frame lengths, without the FCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All alike.
    Fixed(u16),
    /// 60, 590 and 1514 bytes as 7 : 4 : 1.
    Imix,
}

const IMIX: [u16; 12] = [60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60];

/// Which flows one direction's packets belong to.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Nothing comes.
    Idle,
    /// `left` packets of flows below `flows`, in random order.
    Random {
        /// How many flows.
        flows: u32,
        /// How many packets are still to come.
        left: u64,
    },
    /// One packet each of a range of flows.
    Each {
        /// The next.
        next: u32,
        /// One past the last.
        end: u32,
    },
    /// As `Random`, but every tenth packet is the first of a flow from `next` on.
    Mix {
        /// How many established flows.
        flows: u32,
        /// How many packets are still to come.
        left: u64,
        /// The next new flow.
        next: u32,
    },
}

/// One direction of the traffic.
struct Lane {
    plan: Plan,
    kind: Kind,
    offered: u64,
    delivered: u64,
}

/// Both ports' other side. Aligned, as the station that it belongs to.
#[repr(align(128))]
pub struct Wire {
    stock: Rc<RefCell<Stock>>,
    writer: Writer,
    nat: Nat,
    size: Size,
    burst: usize,
    lanes: [Lane; 2],
    walk: Walk,
    /// The endpoints whose flows come here, if not all do, and the same as a mark for each endpoint.
    only: Vec<u32>,
    is_only: Vec<bool>,
    /// Where each endpoint is seen from outside, as far as it is known.
    places: Vec<Place>,
    /// Look at every packet.
    strict: bool,
    /// Note the translated port of every packet that goes out.
    learn: bool,
    sample: Sample,
    checked: u64,
    faults: Vec<String>,
    wrong: u64,
    /// When packets of the initiators come, if not as many as the worker takes.
    pace: Option<Pace>,
    meter: Meter,
    turn: usize,
}

const fn at(direction: Direction) -> usize {
    direction as usize & 1
}

impl Wire {
    /// No traffic yet.
    #[must_use]
    pub fn new(protocol: Protocol, nat: Nat, stock: Rc<RefCell<Stock>>) -> Self {
        let lane = || Lane { plan: Plan::Idle, kind: Kind::Data, offered: 0, delivered: 0 };
        Self {
            stock,
            writer: Writer::of(protocol, nat),
            nat,
            size: Size::Fixed(SHORTEST as u16),
            burst: dataplane::port::BURST,
            lanes: [lane(), lane()],
            walk: Walk::new(1),
            only: Vec::new(),
            is_only: Vec::new(),
            places: Vec::new(),
            strict: true,
            learn: false,
            sample: Sample::default(),
            checked: 0,
            faults: Vec::new(),
            wrong: 0,
            pace: None,
            meter: Meter::default(),
            turn: 0,
        }
    }

    /// Frame lengths from now on.
    pub fn set_size(&mut self, size: Size) {
        self.size = size;
    }

    /// Most packets that a port gives at once.
    pub fn set_burst(&mut self, burst: usize) {
        self.burst = burst;
    }

    /// Makes room for what is known of so many flows: before any of them comes.
    pub fn make_room(&mut self, flows: u32) {
        let endpoints = self.nat.endpoints(flows) as usize;
        if self.places.len() < endpoints {
            self.places.resize(endpoints, Place::default());
        }
    }

    /// Only flows of these endpoints come from now on.
    pub fn set_only(&mut self, endpoints: Vec<u32>) {
        self.is_only = vec![false; self.places.len()];
        for endpoint in &endpoints {
            if let Some(mark) = self.is_only.get_mut(*endpoint as usize) {
                *mark = true;
            }
        }
        self.only = endpoints;
    }

    /// Where each endpoint is seen from outside, to be read and written: another wire may know more.
    pub fn places_mut(&mut self) -> &mut [Place] {
        &mut self.places
    }

    /// Packet buffers that somebody has.
    #[must_use]
    pub fn out(&self) -> usize {
        self.stock.borrow().out()
    }

    /// Whether each packet is checked rather than a sample.
    pub fn set_strict(&mut self, strict: bool) {
        self.strict = strict;
    }

    /// Whether the translated port is read from every packet that goes out, rather than from those that are checked.
    pub fn set_learn(&mut self, learn: bool) {
        self.learn = learn;
    }

    /// What comes next in one direction.
    pub fn plan(&mut self, direction: Direction, plan: Plan, kind: Kind) {
        let lane = &mut self.lanes[at(direction)];
        (lane.plan, lane.kind) = (plan, kind);
    }

    /// The next new flow of a [`Plan::Mix`].
    #[must_use]
    pub fn next_new(&self) -> Option<u32> {
        match self.lanes[0].plan {
            Plan::Mix { next, .. } => Some(next),
            _ => None,
        }
    }

    /// Counts of both directions together.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lanes.iter().fold(Tally::default(), |t, lane| Tally {
            offered: t.offered + lane.offered,
            delivered: t.delivered + lane.delivered,
        })
    }

    /// Initiators' packets come at this pace from now on.
    pub fn set_pace(&mut self, pace: Option<Pace>) {
        self.pace = pace;
    }

    /// The pace, with what it measured.
    #[must_use]
    pub fn pace(&self) -> Option<&Pace> {
        self.pace.as_ref()
    }

    /// Packets of initiators that are still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        match self.lanes[0].plan {
            Plan::Random { left, .. } | Plan::Mix { left, .. } => left,
            Plan::Each { next, end } => u64::from(end - next),
            Plan::Idle => 0,
        }
    }

    /// Packets that were checked, packets that were wrong, and what was wrong with the first of them.
    #[must_use]
    pub fn verdict(&self) -> (u64, u64, &[String]) {
        (self.checked, self.wrong, &self.faults)
    }

    /// The same, of those since the last time that it was taken: what several measurements share is each one's own.
    pub fn take_verdict(&mut self) -> (u64, u64, Vec<String>) {
        (take(&mut self.checked), take(&mut self.wrong), take(&mut self.faults))
    }

    fn length(&mut self) -> usize {
        usize::from(match self.size {
            Size::Fixed(len) => len,
            Size::Imix => {
                self.turn = if self.turn + 1 == IMIX.len() { 0 } else { self.turn + 1 };
                IMIX.get(self.turn).copied().unwrap_or(60)
            }
        })
    }

    /// A random flow below `flows`.
    fn random(&mut self, flows: u32) -> u32 {
        if self.only.is_empty() {
            return self.walk.below(flows);
        }
        let endpoint = self.only[self.walk.below(self.only.len() as u32) as usize];
        let endpoints = self.nat.endpoints(flows).max(1);
        let flows_of_it = flows.saturating_sub(endpoint).div_ceil(endpoints).max(1);
        endpoint + self.walk.below(flows_of_it) * endpoints
    }

    /// The next flow that a packet belongs to, and whether a mix begins it so.
    fn next_flow(&mut self, direction: Direction) -> Option<(u32, bool)> {
        let (flows, next) = match &mut self.lanes[at(direction)].plan {
            Plan::Random { left: 0, .. } | Plan::Mix { left: 0, .. } | Plan::Idle => return None,
            Plan::Random { flows, left } => {
                *left -= 1;
                (*flows, None)
            }
            Plan::Mix { flows, left, next } => {
                *left -= 1;
                let new = left.is_multiple_of(10).then_some(*next);
                *next += u32::from(new.is_some());
                (*flows, new)
            }
            Plan::Each { next, end } => {
                let here = |flow: u32| self.is_only.get(self.nat.endpoint(flow) as usize) != Some(&false);
                let flow = (*next..*end).find(|flow| here(*flow));
                *next = flow.map_or(*end, |flow| flow + 1);
                return flow.map(|flow| (flow, false));
            }
        };
        Some(next.map_or_else(|| (self.random(flows), false), |new| (new, true)))
    }

    fn receive(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize {
        let room = burst.remaining_capacity().min(self.burst);
        let count = if direction == Direction::Forward
            && let Some(mut pace) = self.pace.take()
        {
            let count = pace.arrivals(probe::cycles(), room, |due| self.arrive(direction, due, burst));
            let taken = probe::cycles();
            for packet in burst.iter_mut() {
                packet.set_times(Times { taken, ..packet.times() });
            }
            self.pace = Some(pace);
            count
        } else {
            (0..room).take_while(|_| self.arrive(direction, 0, burst)).count()
        };
        self.lanes[at(direction)].offered += count as u64;
        count
    }

    /// One packet more, if there is to be one.
    #[inline]
    fn arrive(&mut self, direction: Direction, due: u64, burst: &mut Burst<Packet>) -> bool {
        let mut kind = self.lanes[at(direction)].kind;
        let Some(mut packet) = self.stock.borrow_mut().take() else { return false };
        let Some((flow, begins)) = self.next_flow(direction) else {
            self.stock.borrow_mut().give(packet);
            return false;
        };
        if begins && self.writer.protocol() == Protocol::Tcp {
            kind = Kind::Syn;
        }
        let len = if kind == Kind::Data { self.length() } else { SHORTEST };
        packet.reset(len);
        let place = match direction {
            Direction::Forward => Place::default(),
            Direction::Reverse => self.place_of(flow),
        };
        self.writer.write(packet.bytes_mut(), flow, direction, kind, place);
        if due != 0 {
            packet.set_times(Times { due, taken: 0 });
        }
        burst.push(packet);
        true
    }

    fn place_of(&self, flow: u32) -> Place {
        self.places.get(self.nat.endpoint(flow) as usize).copied().unwrap_or_default()
    }

    fn transmit(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize {
        let count = burst.len();
        let measured = direction == Direction::Forward && self.pace.is_some();
        let now = if measured { probe::cycles() } else { 0 };
        for packet in burst.drain(..) {
            if measured && let Some(pace) = &mut self.pace {
                pace.leaves(packet.times(), now);
            }
            if self.strict {
                self.look(direction, packet.bytes());
            } else {
                if self.learn && direction == Direction::Forward {
                    self.learn_from(packet.bytes());
                }
                if self.sample.takes() {
                    self.look(direction, packet.bytes());
                }
            }
            self.stock.borrow_mut().give(packet);
        }
        self.lanes[at(direction)].delivered += count as u64;
        count
    }

    fn learn_from(&mut self, frame: &[u8]) {
        let flow = self.writer.flow(frame);
        if let Some(place) = self.places.get_mut(self.nat.endpoint(flow) as usize)
            && !place.is_known()
        {
            *place = self.writer.source(frame);
        }
    }

    /// Checks a packet in full. The first packet of an endpoint says at which address of the pool and at which port it is seen:
    /// every later one must say the same, whatever its destination. What is no address of the pool is never right.
    fn look(&mut self, direction: Direction, frame: &[u8]) {
        self.checked += 1;
        let flow = self.writer.flow(frame);
        if direction == Direction::Forward {
            self.learn_from(frame);
        }
        if let Some(fault) = self.writer.fault(frame, direction, self.place_of(flow)) {
            self.wrong += 1;
            if self.faults.len() < FAULTS {
                self.faults.push(fault);
            }
        }
    }

    /// Forgets where endpoints are seen from outside.
    pub fn forget_places(&mut self) {
        self.places.fill(Place::default());
    }

    /// Endpoints that share a translated port of one address with another one, and endpoints that are not at their host's
    /// address: there must be none.
    #[must_use]
    pub fn misplaced(&self) -> usize {
        let mut known: Vec<Place> = self.places.iter().copied().filter(|place| place.is_known()).collect();
        let all = known.len();
        known.sort_unstable();
        known.dedup();
        all - known.len() + self.nat.strays(&self.places)
    }

    /// Whether the end of planning is measured from now on ([`crate::rig::meter::Run::parts`]): it costs a reading of the
    /// counter a burst, within the stages.
    pub fn set_splits(&mut self, splits: bool) {
        self.meter.set_splits(splits);
    }
}

impl Traffic for Wire {
    fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    fn tally(&self) -> Tally {
        Self::tally(self)
    }

    #[inline]
    fn rx(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize {
        self.receive(direction, burst)
    }

    #[inline]
    fn tx(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize {
        self.transmit(direction, burst)
    }
}
