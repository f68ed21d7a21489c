//! Announce: the pinholes that one message asks for, all of them or none.
//!
//! What the limits and the records allow is asked first. Then each new pinhole is prepared: it has its record, its port and its place
//! in the table, and nobody can meet it; what it is to take the place of stands beside it, untouched. When all are prepared nothing
//! can fail any more: the older ones end, and the new ones are armed. Where one cannot be prepared, because another session has its
//! port or the table is full, the others are taken back, and all is as it was: the media of a call go on.
//!
//! What one call of an ALG asks for may name one port many times: a client that sends its commands ahead. Each of those takes back
//! the one before at once, so that no more than one of them has a record and a place.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::{Event, Ref};
use crate::expect::{Expectation, ExpectationLimits, Group, Init, LedgerEntry, Wanted};
use crate::key::Tick;
use crate::nat::{BindingId, BindingKey};
use crate::port::Port;
use crate::stage::pinhole::{Refusal, parent_is_over};
use crate::stage::publish::{Reserved, Seen, alone, endpoints, group, protocol, release, side, stands_for};
use crate::stage::{Context, Hit};
use crate::table::{Direction, Unique};
use crate::view::{ExpectationClass, ExpectationState};
use crate::worker::{Local, binding_id, binding_ref};
use alg::{Endpoint, ExpectationRequest, MAX_EXPECTATIONS};
use arrayvec::ArrayVec;
use core::net::IpAddr;

/// Most that one new pinhole ends: what its tag has meant, and leftovers that have one of its two keys. Of more its port is taken.
const MOST_ENDED: usize = 6;

/// What a request comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// What it asks for is open already.
    Stays,
    /// It has its record and its place, and opens with the others.
    Opens,
    /// A later one of the message has its port, or its tag: it is taken back, and what it would have ended ends all the same.
    GivesWay,
}

/// What one request becomes, once all of its message can be done.
struct Prepared {
    /// Which request of the message it is.
    number: usize,
    tag: u32,
    id: Ref,
    fate: Fate,
    /// What its tag has meant.
    old: Option<Ref>,
    /// What ends when it opens, with that.
    ends: ArrayVec<Ref, MOST_ENDED>,
    class: ExpectationClass,
    opener: Endpoint,
    expires: Tick,
    binding: Option<BindingId>,
}

/// All of a message.
type AllPrepared = ArrayVec<Prepared, MAX_EXPECTATIONS>;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Opens the pinholes that the last message asks for, all or none, and then obeys its orders. What was published and
    /// is no pinhole's is given back.
    ///
    /// # Errors
    /// Something is full, a port is taken, or a limit is reached: the message must not go on, and nothing has changed.
    pub(crate) fn open_pinholes(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        mut reserved: Reserved,
    ) -> Result<(), DropReason> {
        let mut all = AllPrepared::new();
        let prepared = self.prepare_all(cx, hit, &mut reserved, &mut all);
        if let Err(refusal) = prepared {
            for prepared in &mut all {
                if prepared.fate == Fate::Opens {
                    self.withdraw(cx, hit, prepared);
                }
                if let Some(id) = prepared.binding {
                    self.bindings.cancel(id, &cx.shared.registry);
                }
            }
            release(&cx.shared.registry, &mut self.bindings, &mut reserved);
            self.refuse_pinhole(cx, hit, refusal);
            return Err(refusal.reason);
        }
        release(&cx.shared.registry, &mut self.bindings, &mut reserved);
        self.open_prepared(cx, hit, &all);
        self.join_groups(cx, hit);
        self.obey_orders(cx, hit);
        Ok(())
    }

    fn prepare_all(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        reserved: &mut Reserved,
        all: &mut AllPrepared,
    ) -> Result<(), Refusal> {
        if self.scratch.answer.expectations.is_empty() {
            return Ok(());
        }
        self.has_room(cx, hit)?;
        for number in 0..self.scratch.answer.expectations.len() {
            let Some(request) = self.scratch.answer.expectations.get(number).copied() else { break };
            let prepared = self.prepare(cx, hit, (number, &request), reserved, all)?;
            // There are as many places as requests.
            all.try_push(prepared).ok();
        }
        Ok(())
    }

    /// Whether the limits allow all that the last message asks for, and there are records.
    fn has_room(&self, cx: &Context<'_>, hit: &Hit<'_>) -> Result<(), Refusal> {
        let requests = &self.scratch.answer.expectations;
        let parent = group(cx, hit);
        let (gateway, profile) = (&cx.policy.expectations, limits(cx, hit));
        let count = requests.len().try_into().unwrap_or(u32::MAX);
        // Mostly there is room for as many, whatever they replace.
        let mut host = None;
        let roomy = requests.len() <= self.ledger.room();
        let roomy = roomy
            && requests.iter().all(|request| {
                let other = host.replace(request.listener.addr) != Some(request.listener.addr);
                let allows = || {
                    let entry = entry(hit, parent, request, 0);
                    self.ledger.would_allow(gateway, &profile, cx.now, &entry, count)
                };
                !other || allows().is_ok()
            });
        if roomy {
            return Ok(());
        }
        let mut wanted = ArrayVec::<Wanted, MAX_EXPECTATIONS>::new();
        for request in requests {
            if wanted.iter().any(|wanted| wanted.entry.tag == request.tag) {
                continue;
            }
            let init = self.plan(cx, hit, request)?;
            let old = self.ledger.find(parent, request.tag).map(|(id, _)| id);
            if old.is_some_and(|id| keeps(cx, id, &init, request.group.map_or(0, |group| group.peer))) {
                continue;
            }
            let ends = |id: &Ref| cx.shared.expectations.resolve(*id).is_some_and(Expectation::may_end);
            let replaces = old.filter(ends).map(|id| id.index);
            // There are as many places.
            wanted.try_push(Wanted { entry: entry(hit, parent, request, 0), replaces }).ok();
        }
        self.ledger.would_allow_all(gateway, &profile, cx.now, &wanted)?;
        if wanted.len() > self.ledger.room() {
            return Err(DropReason::from(Unique::Full).into());
        }
        Ok(())
    }

    /// Makes one pinhole that nobody can meet yet, or finds the one that stays. Takes the reference of its published port out of
    /// `reserved`. An earlier one of the message that has its key or its tag is taken back.
    fn prepare(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        (number, request): (usize, &ExpectationRequest),
        reserved: &mut Reserved,
        all: &mut AllPrepared,
    ) -> Result<Prepared, Refusal> {
        let init = self.plan(cx, hit, request)?;
        // What this message has said of the tag before counts, and not what an earlier one has.
        let earlier = all.iter().rev().find(|prepared| prepared.tag == request.tag).map(|p| p.id);
        let old = earlier.or_else(|| self.ledger.find(init.parent, request.tag).map(|(id, _)| id));
        let mut prepared = Prepared {
            number,
            tag: request.tag,
            id: old.unwrap_or(Ref { index: 0, version: 0 }),
            fate: Fate::Opens,
            old,
            ends: ArrayVec::new(),
            class: init.class,
            opener: Endpoint::new(init.key.source(), init.key.sport),
            expires: init.expires,
            binding: None,
        };
        let peer = request.group.map_or(0, |group| group.peer);
        let goes_on =
            |id: Ref| keeps(cx, id, &init, peer) && !all.iter().any(|other| other.ends.contains(&id));
        if old.is_some_and(goes_on) {
            prepared.fate = Fate::Stays;
            return Ok(prepared);
        }
        let ends = &mut prepared.ends;
        ends.extend(old);
        for direction in [Direction::Forward, Direction::Reverse] {
            cx.shared.expectations.holders(&init, direction, |id, held| {
                if !ends.contains(&id) && gives_way(cx, held, init.parent) {
                    ends.try_push(id).ok();
                }
            });
        }
        let position = reserved.iter().position(|(outside, _)| *outside == request.published);
        let own = position.and_then(|at| reserved.pop_at(at)).map(|(_, id)| id);
        prepared.binding = own.or_else(|| self.held(cx, hit, request));
        for other in all.iter_mut() {
            if other.fate == Fate::Opens && prepared.ends.contains(&other.id) {
                self.withdraw(cx, hit, other);
                other.fate = Fate::GivesWay;
            }
        }
        let binding = prepared.binding.map(binding_ref);
        let init = Init { armed: false, by_home: binding.is_none(), binding, ..init };
        match self.enter(cx, &init, |id| prepared.ends.contains(&id)) {
            Ok(id) => Ok(Prepared { id, ..prepared }),
            Err(unique) => {
                if let Some(id) = prepared.binding {
                    self.bindings.cancel(id, &cx.shared.registry);
                }
                Err(DropReason::from(unique).into())
            }
        }
    }

    /// A record and a place in the table, beside what `yields`.
    fn enter(&mut self, cx: &Context<'_>, init: &Init, yields: impl Fn(Ref) -> bool) -> Result<Ref, Unique> {
        let index = self.ledger.take().ok_or(Unique::Full)?;
        let opened = cx.shared.expectations.open_beside(index, init, yields);
        if opened.is_err() {
            self.ledger.put_back(index);
        }
        opened
    }

    /// What was prepared takes the place of what was there.
    fn open_prepared(&mut self, cx: &Context<'_>, hit: &Hit<'_>, all: &[Prepared]) {
        let expectations = &cx.shared.expectations;
        let (parent, profile) = (group(cx, hit), limits(cx, hit));
        for prepared in all {
            let Some(request) = self.scratch.answer.expectations.get(prepared.number).copied() else {
                continue;
            };
            if prepared.fate == Fate::Stays {
                renew(cx, prepared.id, prepared.expires, request.armed);
                continue;
            }
            for id in &prepared.ends {
                expectations.expire(*id);
            }
            if let Some(old) = prepared.old
                && expectations.resolve(old).is_some_and(Expectation::is_over)
            {
                self.ledger.replaced(old.index);
            }
            let entry = entry(hit, parent, &request, prepared.expires.since(cx.now));
            self.ledger.charge(&cx.policy.expectations, &profile, cx.now, &entry);
            if prepared.fate == Fate::GivesWay {
                self.ledger.supersede(parent, prepared.tag);
                // The message that named its port goes on: the port rests.
                if let Some(id) = prepared.binding {
                    self.release_binding(cx, binding_ref(id));
                }
                continue;
            }
            self.ledger.opened(prepared.id, entry);
            if request.armed {
                expectations.activate(prepared.id);
            }
            self.tell_opened(cx, hit, &request, (prepared.id, parent), (prepared.class, prepared.opener, 0));
        }
    }

    /// Nobody has met what was prepared: its record and its place are free again. The reference of its port is the caller's.
    fn withdraw(&mut self, cx: &Context<'_>, hit: &Hit<'_>, prepared: &mut Prepared) {
        if cx.shared.expectations.withdraw(prepared.id) {
            self.ledger.put_back(prepared.id.index);
        } else if let Some(request) = self.scratch.answer.expectations.get(prepared.number) {
            // Another session has just ended it, for a port that both have: control frees it, with its port.
            self.ledger.ended(prepared.id, entry(hit, group(cx, hit), request, 0));
            prepared.binding = None;
        }
    }

    /// Opens one that no ALG has asked for, without a port of its own, if the limits allow it.
    pub(super) fn open_alone(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        request: &ExpectationRequest,
        init: &Init,
    ) -> Result<(), Refusal> {
        let entry = entry(hit, init.parent, request, init.expires.since(cx.now));
        self.ledger.allows(&cx.policy.expectations, &limits(cx, hit), cx.now, &entry)?;
        let id = self.enter(cx, init, |_| false).map_err(DropReason::from)?;
        self.ledger.opened(id, entry);
        let opener = Endpoint::new(init.key.source(), init.key.sport);
        self.tell_opened(cx, hit, request, (id, init.parent), (init.class, opener, init.last_port));
        Ok(())
    }

    /// Counts and tells that a pinhole was opened.
    fn tell_opened(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        request: &ExpectationRequest,
        (expectation, parent): (Ref, Ref),
        (class, opener, last_port): (ExpectationClass, Endpoint, u16),
    ) {
        self.count(cx, Counter::ExpectationsOpened, 1);
        let event = Event::ExpectationOpened {
            expectation,
            parent,
            application: request.application,
            class,
            opener,
            published: match class {
                ExpectationClass::PortRange => Endpoint::new(request.published.addr, request.listener.port),
                _ => request.published,
            },
            listener: request.listener,
            last_port,
            from: side(hit.direction),
            offset: request.offset,
        };
        self.tell(cx, event);
        cx.shared.expectations.announced(expectation);
    }

    /// Now that all pinholes of the message have records, those of a group know each other.
    fn join_groups(&self, cx: &Context<'_>, hit: &Hit<'_>) {
        let parent = group(cx, hit);
        for request in &self.scratch.answer.expectations {
            let Some(group) = request.group else { continue };
            let find = |tag| self.ledger.find(parent, tag).map(|(id, _)| id);
            let Some(id) = find(request.tag) else { continue };
            if let Some(record) = cx.shared.expectations.resolve(id) {
                let next = find(group.next).unwrap_or(id);
                let ends = cx.now.plus(group.ends_ms);
                record.join(&Group { next, idle_ms: group.idle_ms, ends, peer: group.peer });
            }
        }
    }

    /// One more reference of a port that an earlier message has published for the same listener: the other side has moved
    /// its media, or answers late.
    fn held(&mut self, cx: &Context<'_>, hit: &Hit<'_>, request: &ExpectationRequest) -> Option<BindingId> {
        let side = request.opener.side().other();
        let own = alone(cx, hit, &self.bindings, side)
            .filter(|id| stands_for(&self.bindings, *id, request.transport, request.listener).is_some());
        let id = own.or_else(|| {
            let binding = hit.session.binding().and_then(|b| self.bindings.get(binding_id(b)));
            let seen = Seen::of(side, &endpoints(cx, hit), binding);
            let (protocol, pool) = (protocol(request.transport), seen.address(&cx.shared.registry)?.pool);
            let Endpoint { addr, port } = request.listener;
            self.bindings.find(&BindingKey { protocol, addr, port, pool })
        })?;
        let held = self.bindings.get(id)?;
        let published = Endpoint::new(IpAddr::V4(held.outside_addr), held.outside_port);
        (published == request.published && self.bindings.retain(id)).then_some(id)
    }
}

/// Whether a pinhole is what is wanted once more: a client repeats its command, a re-INVITE moves nothing. False if it is for
/// something else, or used up.
fn keeps(cx: &Context<'_>, id: Ref, wanted: &Init, peer: u16) -> bool {
    let Some(record) = cx.shared.expectations.resolve(id) else { return false };
    let has = record.init();
    let same = (has.key, has.listener, has.reverse, has.many)
        == (wanted.key, wanted.listener, wanted.reverse, wanted.many);
    match record.state() {
        ExpectationState::Armed | ExpectationState::Inactive => same,
        ExpectationState::Claimed => {
            let before = record.group().map_or(0, |group| group.peer);
            let moved = before != 0 && peer != 0 && before != peer;
            same && !moved && !record.is_over()
        }
        _ => false,
    }
}

/// The same request again keeps the pinhole that it has.
fn renew(cx: &Context<'_>, id: Ref, expires: Tick, armed: bool) {
    let expectations = &cx.shared.expectations;
    let Some(record) = expectations.resolve(id) else { return };
    let state = record.state();
    if state == ExpectationState::Claimed {
        return;
    }
    // A request does not shorten what an answer has granted.
    if state == ExpectationState::Inactive || expires.since(record.init().expires) > 0 {
        expectations.extend(id, expires);
    }
    if armed {
        expectations.activate(id);
    }
}

/// Whether a leftover that has the key of one that is to be opened ends for it: its parent is over, or wants the port for
/// something else now. The newest counts.
fn gives_way(cx: &Context<'_>, held: &Expectation, parent: Ref) -> bool {
    let of = held.init().parent;
    of == parent || parent_is_over(cx, of)
}

/// What a request is counted by.
fn entry(hit: &Hit<'_>, parent: Ref, request: &ExpectationRequest, lifetime_ms: u32) -> LedgerEntry {
    LedgerEntry {
        parent,
        tag: request.tag,
        host: request.listener.addr,
        alg: hit.session.application(),
        profile: hit.session.profile(),
        lifetime_ms,
    }
}

/// The limits of a session's profile.
fn limits(cx: &Context<'_>, hit: &Hit<'_>) -> ExpectationLimits {
    cx.policy.profile_of(hit.session).map_or(ExpectationLimits::NONE, |p| p.limits)
}
