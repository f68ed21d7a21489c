//! Obey: what the control core asks of a worker. Sessions and expectations end here.
//!
//! Commands name sessions that have been idle for long, so that nothing of them is near: a batch is taken, and what it will
//! touch is asked for, before any of it is done.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::event::{Frame, Ref};
use crate::port::Port;
use crate::session::Session;
use crate::shared::Command;
use crate::stage::Context;
use crate::stage::admit::entry;
use crate::table::{Direction, Hash, Seek};
use crate::view::{CloseReason, ExpectationState, State};
use crate::worker::{Local, binding_id};
use arrayvec::ArrayVec;

/// Commands that are taken at once.
const BATCH: usize = 32;
/// Most batches in one poll.
const BATCHES: usize = 8;
/// Most frames in one poll.
const FRAMES: usize = 64;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Does what control asks. Answers how much that was.
    pub(crate) fn obey(&mut self, cx: &Context<'_>) -> usize {
        let Some(lane) = cx.shared.lane(self.id) else { return 0 };
        let mut work = 0;
        for _ in 0..BATCHES {
            let mut batch = ArrayVec::<Command, BATCH>::new();
            while !batch.is_full()
                && let Some(command) = lane.commands.pop()
            {
                batch.push(command);
            }
            work += batch.len();
            self.do_all(cx, &batch);
            if !batch.is_full() {
                break;
            }
        }
        work += self.time_streams(cx);
        for _ in 0..FRAMES {
            let Some(Frame { interface, bytes }) = lane.frames.pop() else { break };
            work += 1;
            if let Some(buf) = self.copy_of(cx, &bytes) {
                self.transmit(cx, interface, buf);
            }
        }
        work
    }

    fn do_all(&mut self, cx: &Context<'_>, batch: &[Command]) {
        let arena = &cx.shared.arena;
        for command in batch {
            if let Command::Unlink { session: id, .. } | Command::Free(id) = command
                && let Some(session) = arena.get(id.index)
            {
                session.prefetch_whole();
            }
        }
        let binding = |id: Ref| arena.resolve(id).and_then(Session::binding).map(binding_id);
        // By command, of sessions that are to leave the table.
        let mut keys = [None::<[Hash; 2]>; BATCH];
        for (command, keys) in batch.iter().zip(&mut keys) {
            match command {
                Command::Unlink { session: id, .. } => {
                    *keys = arena.resolve(*id).map(|session| hashes(cx, session));
                    for hash in keys.iter().flatten() {
                        cx.shared.table.prefetch(*hash);
                    }
                }
                Command::Free(id) => {
                    if let Some(binding) = binding(*id) {
                        self.bindings.approach_id(binding);
                    }
                }
                Command::FreeExpectation(_) | Command::Streams => {}
            }
        }
        for (command, keys) in batch.iter().zip(&keys) {
            for hash in keys.iter().flatten() {
                if cx.shared.table.seek_first(*hash) == Seek::Elsewhere {
                    cx.shared.table.prefetch_second(*hash);
                }
            }
            if let Command::Free(id) = command
                && let Some(binding) = binding(*id)
            {
                self.bindings.approach_end(binding);
            }
        }
        for (command, keys) in batch.iter().zip(&keys) {
            match *command {
                Command::Unlink { session, reason, only_if_last_seen } => {
                    // A child may have come since control has looked, as a packet may.
                    let idle = |s: &Session, seen| seen == s.last_seen() && s.children() == 0;
                    let idle = arena
                        .resolve(session)
                        .is_some_and(|s| only_if_last_seen.is_none_or(|seen| idle(s, seen)));
                    if let Some(keys) = keys.filter(|_| idle) {
                        self.unlink_hashed(cx, session, reason, keys);
                    }
                }
                Command::Free(session) => self.free(cx, session),
                Command::FreeExpectation(id) => self.free_expectation(cx, id),
                Command::Streams => {
                    self.begin_round();
                    self.time_detectors(cx);
                }
            }
        }
    }

    /// Takes a session out of the table. Its record stays for control.
    pub(crate) fn unlink(&mut self, cx: &Context<'_>, id: Ref, reason: CloseReason) {
        let Some(session) = cx.shared.arena.resolve(id) else { return };
        self.unlink_hashed(cx, id, reason, hashes(cx, session));
    }

    /// The same with the hashes of its keys.
    fn unlink_hashed(&mut self, cx: &Context<'_>, id: Ref, reason: CloseReason, keys: [Hash; 2]) {
        let Some(session) = cx.shared.arena.resolve(id) else { return };
        if session.owner() != self.id || session.state() == State::Closed {
            return;
        }
        for (direction, hash) in [Direction::Forward, Direction::Reverse].into_iter().zip(keys) {
            cx.shared.table.remove(hash, entry(id.index, direction, id.version));
        }
        let reason = match (session.close_reason(), session.state(), reason) {
            (CloseReason::None, State::TcpTimeWait, CloseReason::Timeout) => CloseReason::Fin,
            (CloseReason::None, State::TcpReset, CloseReason::Timeout | CloseReason::Fin) => {
                CloseReason::Reset
            }
            (CloseReason::None, _, reason) => reason,
            (earlier, ..) => earlier,
        };
        session.close(reason);
        cx.shared.arena.note_mark(&mut self.marks, id.index);
    }

    /// Gives back all that a closed session held, then its index.
    fn free(&mut self, cx: &Context<'_>, id: Ref) {
        let Some(session) = cx.shared.arena.resolve(id) else { return };
        if session.owner() != self.id || session.state() != State::Closed {
            return;
        }
        if let Some(binding) = session.binding() {
            self.release_binding(cx, binding);
        }
        if let Some(slot) = session.alg_slot() {
            self.free_alg(session.key(Direction::Forward).protocol, slot);
        }
        if let Some(expectation) = session.expectation() {
            cx.shared.expectations.child_ended(expectation);
        }
        if let Some(parent) = session.parent().and_then(|p| cx.shared.arena.resolve_open(p)) {
            parent.remove_child();
        }
        session.free();
        cx.shared.arena.release(&mut self.magazine, id.index);
        self.count(cx, Counter::SessionsFreed, 1);
    }

    fn free_expectation(&mut self, cx: &Context<'_>, id: Ref) {
        let Some(expectation) = cx.shared.expectations.resolve(id) else { return };
        let init = expectation.init();
        if init.owner != self.id || !expectation.is_over() {
            return;
        }
        if expectation.state() == ExpectationState::Expired && expectation.is_announced() {
            self.count(cx, Counter::ExpectationsExpired, 1);
        }
        if let Some(binding) = init.binding {
            self.release_binding(cx, binding);
        }
        cx.shared.expectations.free(id);
        self.ledger.freed(id.index);
    }
}

/// The hashes of both keys.
fn hashes(cx: &Context<'_>, session: &Session) -> [Hash; 2] {
    [Direction::Forward, Direction::Reverse].map(|direction| cx.shared.table.hash(&session.key(direction)))
}
