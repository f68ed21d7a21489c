//! Ageing: the life of sessions and expectations as the control core sees it.
//!
//! Control finds sessions by the marks that their owners set in the arena, which cannot be lost. It arms each in a wheel
//! for as long as its state allows, looks at its last-seen stamp when the time comes, and asks the owner to unlink it
//! until it has. Then it writes the close record from the final counters, waits for the grace period, and tells the
//! owner to free the index. So every session that opened has exactly one close record.

mod wheel;

use crate::audit::Records;
use dataplane::event::Ref;
use dataplane::expect::{Expectation, Group, RANGE_LIFETIME_MS};
use dataplane::key::{Tick, WorkerId};
use dataplane::memory::NoMemory;
use dataplane::policy::Timeouts;
use dataplane::session::Session;
use dataplane::shared::{Command, Shared};
use dataplane::view::{CloseReason, ExpectationState, ExpectationView, State};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use wheel::Wheel;

/// Nothing of the record was recorded yet: no session has this version until it wraps. (0 would say that the first
/// session's closing was.)
const NEVER: u32 = u32::MAX;
/// How soon an owner that has not done what it was asked is asked again, in milliseconds.
const AGAIN: u32 = 1_000;
/// How often expectations are looked at, in milliseconds.
const EXPECTATIONS_EVERY: u32 = 100;
/// Most expectations of one group: RTP and RTCP, for either end's packets, and one more that keeps a port.
const MOST_OF_GROUP: usize = 6;
/// Most expectations that one turn looks at.
const EXPECTATIONS_AT_ONCE: u32 = 16_384;

/// A vector of `len` copies, or the sentence that says that there is no memory.
fn filled<T: Clone>(what: &'static str, len: usize, value: T) -> Result<Vec<T>, NoMemory> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| NoMemory {
        what,
        bytes: u64::try_from(len * size_of::<T>()).unwrap_or(u64::MAX),
        available: 0,
    })?;
    vec.resize(len, value);
    Ok(vec)
}

/// The positions of the ones in the `number`-th word of a bitmap.
fn ones(number: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(number * 64 + bit)
    })
}

/// What waits for its grace period.
struct Retired {
    epoch: u64,
    owner: WorkerId,
    id: Ref,
}

/// The ager.
pub struct Ager {
    shared: Arc<Shared>,
    wheel: Wheel,
    /// Per record: the version whose opening was recorded (odd), that version less one once its closing was, or
    /// [`NEVER`].
    recorded: Vec<u32>,
    retired: VecDeque<Retired>,
    /// A session that is due and whose owner's ring was full.
    refused: Option<u32>,
    /// Per expectation: the version that is being retired.
    ending: Vec<u32>,
    retired_expectations: VecDeque<Retired>,
    expectations_at: Tick,
    /// The first expectation to look at next.
    next_expectation: u32,
    /// Expectations whose end was recorded and whose children still live.
    ended: HashSet<Ref>,
    /// Expectations that ended before they were announced, and since which epoch that is known.
    unannounced: HashMap<Ref, u64>,
    /// Those whose end is to be recorded.
    over: Vec<ExpectationView>,
}

impl Ager {
    /// An ager of these sessions.
    ///
    /// # Errors
    /// No memory.
    pub fn new(shared: Arc<Shared>) -> Result<Self, NoMemory> {
        let records = shared.arena.records() as usize;
        Ok(Self {
            wheel: Wheel::new(records)?,
            recorded: filled("ageing", records, NEVER)?,
            retired: VecDeque::new(),
            refused: None,
            ending: filled("ageing of expectations", shared.expectations.capacity() as usize, 0)?,
            retired_expectations: VecDeque::new(),
            expectations_at: Tick(0),
            next_expectation: 0,
            ended: HashSet::new(),
            unannounced: HashMap::new(),
            over: Vec::new(),
            shared,
        })
    }

    /// Bytes that ageing takes per session.
    pub const BYTES_PER_SESSION: usize = Wheel::BYTES + size_of::<u32>();

    /// One turn: takes the marks, asks for what is due to be unlinked, frees what has had its grace period. Answers how
    /// much there was to do.
    pub fn turn(&mut self, now: Tick, timeouts: &Timeouts, records: &mut impl Records) -> usize {
        let mut work = self.take_marks(now, timeouts, records);
        while let Some(index) = self.refused.take().or_else(|| self.wheel.due(now)) {
            if !self.visit(index, now, timeouts) {
                // Its owner's ring is full. What else is due waits with it: the ring has room again at the next turn.
                self.refused = Some(index);
                break;
            }
            work += 1;
        }
        if self.next_expectation != 0 || now.since(self.expectations_at) >= EXPECTATIONS_EVERY {
            self.expectations_at = now;
            work += self.end_expectations(now);
        }
        work + self.free()
    }

    /// Records the end of the expectations that the last turn found over. What the workers have told must have been heard since
    /// then: their opening comes first.
    pub fn tell_ends(&mut self, records: &mut impl Records) {
        for view in self.over.drain(..) {
            records.expectation_expired(&view);
        }
    }

    fn take_marks(&mut self, now: Tick, timeouts: &Timeouts, records: &mut impl Records) -> usize {
        let mut work = 0;
        for number in 0..self.shared.arena.summary_words() {
            for word in ones(number, self.shared.arena.take_summary(number)) {
                for index in ones(word, self.shared.arena.take_marks(word)) {
                    work += 1;
                    self.look(u32::try_from(index).unwrap_or(u32::MAX), now, timeouts, records);
                }
            }
        }
        work
    }

    /// Looks at a marked session: it is new, its timeout became shorter, or it is closed.
    fn look(&mut self, index: u32, now: Tick, timeouts: &Timeouts, records: &mut impl Records) {
        let Some(view) = self.shared.arena.view(index) else { return };
        let Some(recorded) = self.recorded.get_mut(index as usize) else { return };
        let closed_version = view.id.version & !1;
        if *recorded == closed_version {
            return;
        }
        if *recorded != view.id.version {
            *recorded = view.id.version;
            records.session_opened(&view);
        }
        if view.state == State::Closed {
            *recorded = closed_version;
            records.session_closed(&view);
            self.wheel.disarm(index);
            let epoch = self.shared.epochs.now();
            self.retired.push_back(Retired { epoch, owner: view.owner, id: view.id });
        } else {
            let group = self.shared.arena.get(index).and_then(|session| self.group_of(session));
            let patience = group.map_or_else(|| timeouts.of(view.state), |group| group.idle_ms);
            self.wheel.arm(index, now, view.last_seen.plus(patience));
        }
    }

    /// Looks at a session whose time may have come. False if its owner could not be asked.
    fn visit(&mut self, index: u32, now: Tick, timeouts: &Timeouts) -> bool {
        let Some(session) = self.shared.arena.get(index) else { return true };
        let version = session.version();
        if version & 1 == 0 || session.state() == State::Closed {
            return true;
        }
        let last_seen = session.last_seen();
        let group = self.group_of(session);
        let patience = group.map_or_else(|| timeouts.of(session.state()), |group| group.idle_ms);
        if session.children() > 0 {
            // A live child keeps its parent: an FTP control session idles while its data connection works.
            self.wheel.arm(index, now, now.plus(patience.max(AGAIN)));
            return true;
        }
        if let Some(until) = session.kept_until()
            && until.since(now) > 0
        {
            // Its ALG knows how long it is to live: as long as a registration.
            self.wheel.arm(index, now, until);
            return true;
        }
        if now.since(last_seen) < patience {
            self.wheel.arm(index, now, last_seen.plus(patience));
            return true;
        }
        if let Some(seen) = group.and_then(|group| self.last_seen_of(session, &group, now))
            && now.since(seen) < patience
        {
            // Another of its group is not idle: RTCP tells of a call on hold.
            self.wheel.arm(index, now, seen.plus(patience));
            return true;
        }
        let command = Command::Unlink {
            session: Ref { index, version },
            reason: CloseReason::Timeout,
            only_if_last_seen: Some(last_seen),
        };
        let asked = self.ask(session.owner(), command);
        if asked {
            // Look again, until the owner has done it.
            self.wheel.arm(index, now, now.plus(AGAIN));
            if let Some(group) = group {
                // What of it nobody has met yet is not wanted either: its ports go together.
                self.members(&group).for_each(|(id, _)| {
                    self.shared.expectations.expire(id);
                });
            }
        }
        asked
    }

    /// With which others a session ages, if it does: as the expectation says that it came through.
    fn group_of(&self, session: &Session) -> Option<Group> {
        self.shared.expectations.get(session.expectation()?)?.group().filter(|group| group.idle_ms != 0)
    }

    /// The expectations of a group, each once; or those that are left of it.
    fn members(&self, group: &Group) -> impl Iterator<Item = (Ref, &Expectation)> {
        let expectations = &self.shared.expectations;
        let mut next = Some(group.next);
        let turns = std::iter::from_fn(move || {
            let id = next?;
            let record = expectations.resolve(id)?;
            next = record.group().map(|group| group.next).filter(|next| *next != group.next);
            Some((id, record))
        });
        turns.take(MOST_OF_GROUP)
    }

    /// When a packet of any of a session's group has passed last, if it is still one of it: media that have moved age alone.
    fn last_seen_of(&self, session: &Session, group: &Group, now: Tick) -> Option<Tick> {
        let own = session.expectation()?;
        self.members(group).find(|(id, _)| id.index == own)?;
        let children = self.members(group).filter_map(|(_, record)| record.child());
        let open = children.filter_map(|child| self.shared.arena.resolve_open(child));
        open.map(Session::last_seen).min_by_key(|seen| now.since(*seen))
    }

    fn ask(&self, owner: WorkerId, command: Command) -> bool {
        self.shared.lane(owner).is_some_and(|lane| lane.commands.push(command).is_ok())
    }

    /// Ends expectations whose time is over or whose parent is gone, and retires those that nothing needs any more. One
    /// slice of them: a million are not looked at in one turn.
    fn end_expectations(&mut self, now: Tick) -> usize {
        let mut work = 0;
        let capacity = self.shared.expectations.capacity();
        let first = self.next_expectation;
        let end = capacity.min(first.saturating_add(EXPECTATIONS_AT_ONCE));
        self.next_expectation = if end == capacity { 0 } else { end };
        for index in first..end {
            let Some(view) = self.shared.expectations.view(index) else { continue };
            if self.ending.get(index as usize) == Some(&view.id.version) {
                continue;
            }
            // In the middle of a message that may come to nothing: its worker takes it back, or announces it.
            let announced = self.is_announced(view.id);
            if !announced && matches!(view.state, ExpectationState::Armed | ExpectationState::Inactive) {
                continue;
            }
            // Its call has lasted as long as it may.
            let group = self.shared.expectations.resolve(view.id).and_then(Expectation::group);
            let ended = group.is_some_and(|group| now == group.ends || now.since(group.ends) > 0);
            let over = match view.state {
                ExpectationState::Free => false,
                ExpectationState::Claimed => {
                    self.end_children(&view, ended);
                    view.children == 0
                }
                ExpectationState::Expired => {
                    if !self.is_known(view.id) {
                        continue;
                    }
                    if self.is_announced(view.id) && self.ended.insert(view.id) {
                        // A worker ended it, to make room for another or at its ALG's word.
                        self.over.push(view.clone());
                    }
                    self.end_children(&view, ended);
                    view.children == 0
                }
                ExpectationState::Armed | ExpectationState::Inactive => {
                    let parent = self.shared.arena.resolve(view.parent);
                    let orphan = parent.is_none_or(|p| p.state() == State::Closed);
                    let mut late = now == view.expires || now.since(view.expires) > 0;
                    if late && !orphan && view.lives_with_parent() {
                        // Its end is the longest that a clock of 32 bits can name.
                        self.shared.expectations.extend(view.id, now.plus(RANGE_LIFETIME_MS));
                        late = false;
                    }
                    let expired = (orphan || late || ended) && self.shared.expectations.expire(view.id);
                    if expired {
                        self.ended.insert(view.id);
                        self.over.push(view.clone());
                    }
                    expired && view.children == 0
                }
            };
            if over {
                work += 1;
                if let Some(ending) = self.ending.get_mut(index as usize) {
                    *ending = view.id.version;
                }
                self.ended.remove(&view.id);
                self.unannounced.remove(&view.id);
                let epoch = self.shared.epochs.now();
                self.retired_expectations.push_back(Retired { epoch, owner: view.owner, id: view.id });
            }
        }
        work
    }

    fn is_announced(&self, id: Ref) -> bool {
        self.shared.expectations.resolve(id).is_some_and(Expectation::is_announced)
    }

    /// Whether it is known if one that has ended was announced. What another session has ended in the middle of its message may still
    /// be: its worker is done with that after a grace period.
    fn is_known(&mut self, id: Ref) -> bool {
        if self.is_announced(id) {
            return true;
        }
        let since = *self.unannounced.entry(id).or_insert_with(|| self.shared.epochs.now());
        since < self.shared.epochs.safe()
    }

    /// Asks the owners of an expectation's children to end them, if their parent's ALG wants it or their call has `ended`.
    /// Asked at every look until they have.
    fn end_children(&self, view: &ExpectationView, ended: bool) {
        if !(view.closing || ended) || view.children == 0 {
            return;
        }
        let ask = |session: Ref, owner: WorkerId| {
            let reason = if view.closing { CloseReason::ParentClosed } else { CloseReason::MaxCall };
            self.ask(owner, Command::Unlink { session, reason, only_if_last_seen: None });
        };
        let is_child = |session: &Session| session.expectation() == Some(view.id.index);
        if view.children == 1
            && let Some(child) = view.child
            && let Some(session) = self.shared.arena.resolve_open(child)
            && is_child(session)
        {
            ask(child, session.owner());
            return;
        }
        for index in 0..self.shared.arena.records() {
            let Some(session) = self.shared.arena.get(index) else { continue };
            let id = Ref { index, version: session.version() };
            if self.shared.arena.resolve_open(id).is_some_and(is_child) {
                ask(id, session.owner());
            }
        }
    }

    /// Tells owners to free what has had its grace period.
    fn free(&mut self) -> usize {
        let mut work = 0;
        if !(self.retired.is_empty() && self.retired_expectations.is_empty() && self.unannounced.is_empty()) {
            self.shared.epochs.advance();
        }
        let safe = self.shared.epochs.safe();
        while let Some(first) = self.retired.front()
            && first.epoch < safe
            && self.ask(first.owner, Command::Free(first.id))
        {
            self.retired.pop_front();
            work += 1;
        }
        while let Some(first) = self.retired_expectations.front()
            && first.epoch < safe
            && self.ask(first.owner, Command::FreeExpectation(first.id))
        {
            self.retired_expectations.pop_front();
            work += 1;
        }
        work
    }

    /// Writes the close record of every session that is still open, after that of every expectation that is still
    /// armed. The workers must have stopped.
    pub fn close_all(
        &mut self,
        now: Tick,
        reason: CloseReason,
        timeouts: &Timeouts,
        records: &mut impl Records,
    ) {
        self.take_marks(now, timeouts, records);
        self.tell_ends(records);
        for index in 0..self.shared.expectations.capacity() {
            let Some(view) = self.shared.expectations.view(index) else { continue };
            // The end of one that a worker has ended, and that was not looked at since.
            let unseen = view.state == ExpectationState::Expired
                && self.ending.get(index as usize) != Some(&view.id.version)
                && !self.ended.contains(&view.id);
            if (self.shared.expectations.expire(view.id) || unseen) && self.is_announced(view.id) {
                self.ended.insert(view.id);
                records.expectation_expired(&view);
            }
        }
        for index in 0..self.shared.arena.records() {
            let Some(mut view) = self.shared.arena.view(index) else { continue };
            let Some(recorded) = self.recorded.get_mut(index as usize) else { continue };
            if *recorded == view.id.version {
                *recorded = view.id.version & !1;
                if view.close_reason == CloseReason::None {
                    view.close_reason = reason;
                }
                records.session_closed(&view);
            }
        }
    }
}
