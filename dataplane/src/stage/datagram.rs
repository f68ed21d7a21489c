//! Datagram: the ALG of a UDP session reads its datagrams, one message each.
//!
//! A datagram is checked, read, edited and sent on, or it is dropped: it is never cut. One that an edit makes too large for
//! its egress leaves in fragments. Reassembly comes before this stage, so that a fragment is never read.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::packet::datagram::{replace_payload, turn_round};
use crate::packet::fragment;
use crate::port::Port;
use crate::session::MAX_ALG_SLOTS;
use crate::stage::publish::{Publisher, endpoints, release, side};
use crate::stage::seats::Between;
use crate::stage::share::{Ends, Shares};
use crate::stage::{Context, Fate, Hit, Item, NextHop, route};
use crate::view::CloseReason;
use crate::worker::Local;
use alg::{Blindness, BoundDatagram, DatagramAlg, Denial, Edit, Verdict};
use arrayvec::ArrayVec;

/// Longest datagram that an ALG reads or makes, in bytes of payload: the longest that there is over IPv4.
pub const MAX_DATAGRAM: usize = 65_507;

/// A payload under construction.
type Payload = ArrayVec<u8, MAX_DATAGRAM>;

/// The ALG states of one worker's UDP sessions.
pub(crate) struct Datagrams {
    algs: Box<[Option<BoundDatagram>]>,
    /// Which of them were bound by what they said.
    unpromised: Box<[bool]>,
    found: usize,
    free: Vec<u32>,
    /// Whose sessions they are, by place.
    ends: Box<[Option<Ends>]>,
    shares: Shares,
    payload: Box<Payload>,
    /// A datagram as it came, while the pinholes of what it has become are opened.
    original: Box<Payload>,
}

impl Datagrams {
    /// Room for `capacity` inspected sessions. Nothing grows later. `seed` keys the table of their hosts.
    pub(crate) fn new(capacity: u32, seed: u64) -> Self {
        Self {
            algs: (0..capacity).map(|_| None).collect(),
            unpromised: (0..capacity).map(|_| false).collect(),
            found: 0,
            free: (0..capacity.min(MAX_ALG_SLOTS)).rev().collect(),
            ends: (0..capacity).map(|_| None).collect(),
            shares: Shares::new(capacity, seed),
            payload: Box::default(),
            original: Box::default(),
        }
    }

    /// A place for a session between these hosts, of which each that opens some may have its share.
    pub(crate) fn alloc(&mut self, alg: BoundDatagram, between: Between) -> Result<u32, DropReason> {
        let full = DropReason::AlgTableFull;
        if self.free.is_empty() {
            return Err(full);
        }
        if !self.shares.may_open(between.opener, self.free.len(), between.percent) {
            return Err(DropReason::AlgHostShare);
        }
        let ends = self.shares.open(between.opener, None).ok_or(full)?;
        let slot = self.free.pop().ok_or(full)?;
        *self.algs.get_mut(slot as usize).ok_or(full)? = Some(alg);
        *self.ends.get_mut(slot as usize).ok_or(full)? = Some(ends);
        Ok(slot)
    }

    /// A place for a session that was bound by what it said. Half of the places are not for these: nobody has promised that
    /// they are read.
    pub(crate) fn alloc_found(&mut self, alg: BoundDatagram, between: Between) -> Result<u32, DropReason> {
        let full = DropReason::AlgTableFull;
        if self.found >= self.algs.len() / 2 {
            return Err(full);
        }
        let slot = self.alloc(alg, between)?;
        *self.unpromised.get_mut(slot as usize).ok_or(full)? = true;
        self.found += 1;
        Ok(slot)
    }

    pub(crate) fn free(&mut self, slot: u32) {
        if let Some(alg @ Some(_)) = self.algs.get_mut(slot as usize) {
            *alg = None;
            self.free.push(slot);
            if let Some(ends) = self.ends.get_mut(slot as usize).and_then(Option::take) {
                self.shares.close(ends);
            }
            if let Some(unpromised) = self.unpromised.get_mut(slot as usize) {
                self.found -= usize::from(core::mem::take(unpromised));
            }
        }
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.algs.len() - self.free.len()
    }
}

/// The payload with the edits applied. False if it grows too long, or an edit lies outside it.
fn apply(payload: &[u8], edits: &[Edit], into: &mut Payload) -> bool {
    into.clear();
    let mut at = 0;
    for edit in edits {
        let Some(before) = payload.get(at..edit.start) else { return false };
        if into.try_extend_from_slice(before).is_err() || into.try_extend_from_slice(&edit.with).is_err() {
            return false;
        }
        at = edit.start.saturating_add(edit.len);
    }
    payload.get(at..).is_some_and(|rest| into.try_extend_from_slice(rest).is_ok())
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Feeds a datagram to its session's ALG and applies what it answers.
    pub(crate) fn inspect_datagram(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
    ) -> Result<Option<Fate>, DropReason> {
        // A checksum that is made anew would launder corruption.
        if !item.parsed.l4_checksum_is_valid(item.buf.bytes()) {
            return Err(DropReason::UdpChecksum);
        }
        let Some(profile) = cx.policy.profile_of(hit.session) else {
            // A commit has taken the profile away, or switched it off.
            self.release_datagrams(cx, hit, Blindness::Unbound);
            return Ok(None);
        };
        let slot = hit.session.alg_slot().ok_or(DropReason::AlgTableFull)?;
        let algs = &mut self.datagrams;
        let alg =
            algs.algs.get_mut(slot as usize).and_then(Option::as_mut).ok_or(DropReason::AlgTableFull)?;
        let payload = item.buf.bytes().get(item.parsed.payload_range()).unwrap_or(&[]);
        let mut publisher = Publisher::new(cx, hit, &mut self.bindings, &mut self.rng, &self.ledger);
        publisher.as_seen = !profile.does_all();
        publisher.limits = profile.limits;
        let scratch = &mut *self.scratch;
        scratch.answer.clear();
        let mut call = alg::Context {
            flow: &endpoints(cx, hit),
            profile: &profile.settings,
            gateway: &mut publisher,
            tables: &mut scratch.tables,
        };
        let verdict = alg.inspect(&mut call, side(hit.direction), payload, &mut scratch.answer);
        let (mut reserved, reached) = (publisher.reserved, publisher.reached);
        if let Some(reached) = reached {
            self.refuse_pinhole(cx, hit, reached);
        }
        let verdict = if profile.does_all() { verdict } else { self.restrain(cx, hit, profile, verdict) };
        let denied = match verdict {
            Verdict::Pass => None,
            Verdict::Blind(why) => {
                self.release_datagrams(cx, hit, why);
                None
            }
            Verdict::Refuse(denial) => Some((denial, false)),
            Verdict::Deny(denial) => Some((denial, true)),
            // A datagram ALG has no more to come: this one breaks its contract.
            Verdict::Hold { .. } | Verdict::More { .. } => Some((Denial::Malformed, false)),
        };
        if let Some((denial, ends)) = denied {
            release(&cx.shared.registry, &mut self.bindings, &mut reserved);
            return self.refuse_datagram(cx, hit, item, denial, ends).map(Some);
        }
        if !self.scratch.answer.expectations.is_empty() {
            self.datagrams.original.clear();
            let _ = self.datagrams.original.try_extend_from_slice(payload);
        }
        let edited = !self.scratch.answer.edits.is_empty();
        if edited {
            let fits = apply(payload, &self.scratch.answer.edits, &mut self.datagrams.payload);
            let grown = self.datagrams.payload.len().saturating_sub(payload.len());
            let mtu = cx.fib.interface(hop.interface).map_or(0, |i| i.mtu);
            let leave = self.leaves_checksums(cx, hop);
            if !fits
                || !self.make_room(&mut item.buf, grown)
                || !replace_payload(&mut item.buf, &mut item.parsed, &self.datagrams.payload, leave)
                || !self.may_leave(mtu, item)
            {
                release(&cx.shared.registry, &mut self.bindings, &mut reserved);
                // Its reader has noted what now has not happened. Nobody is answered: nothing is named.
                if let Some(alg) = self.datagrams.algs.get_mut(slot as usize).and_then(Option::as_mut) {
                    let (tables, answer) = (&mut self.scratch.tables, &mut self.scratch.answer);
                    alg.refuse(&endpoints(cx, hit), tables, &[], Denial::NoResources, answer);
                }
                self.deny_event(cx, hit, Denial::NoResources);
                return Err(DropReason::AlgNoRoom);
            }
        }
        if self.open_pinholes(cx, hit, reserved).is_err() {
            if let Some(alg) = self.datagrams.algs.get_mut(slot as usize).and_then(Option::as_mut) {
                let (scratch, original) = (&mut *self.scratch, &self.datagrams.original);
                let (tables, answer) = (&mut scratch.tables, &mut scratch.answer);
                alg.refuse(&endpoints(cx, hit), tables, original, Denial::NoResources, answer);
            }
            return self.refuse_datagram(cx, hit, item, Denial::NoResources, false).map(Some);
        }
        self.report(cx, hit);
        Ok(None)
    }

    /// Nobody reads the session any more: its ALG's state goes, and it goes on like any other.
    fn release_datagrams(&mut self, cx: &Context<'_>, hit: &Hit<'_>, why: Blindness) {
        let slot = hit.session.alg_slot();
        hit.session.unbind();
        if let Some(slot) = slot {
            self.datagrams.free(slot);
        }
        self.go_blind(cx, hit, why, 0);
    }

    /// Lets a datagram be fragmented that the gateway itself has made longer than its egress takes. Its sender, whose datagram
    /// fits, cannot be blamed.
    fn may_leave(&mut self, mtu: u16, item: &mut Item<P::Buf>) -> bool {
        if route::fits(item, mtu) {
            return true;
        }
        item.parsed.df = false;
        let (l3, l4) = (usize::from(item.parsed.l3), usize::from(item.parsed.l4));
        #[expect(clippy::cast_possible_truncation, reason = "any 16 bits")]
        let id = self.rng.draw() as u16;
        fragment::allow(item.buf.bytes_mut(), l4.saturating_sub(l3), id).is_some()
    }

    fn deny_event(&mut self, cx: &Context<'_>, hit: &Hit<'_>, denial: Denial) {
        self.count(cx, Counter::AlgDenied, 1);
        self.report_denied(cx, hit, denial);
    }

    /// Refuses a datagram: its sender gets the protocol's own answer, if there is one. The session lives, or ends too.
    fn refuse_datagram(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        item: &mut Item<P::Buf>,
        denial: Denial,
        ends: bool,
    ) -> Result<Fate, DropReason> {
        self.deny_event(cx, hit, denial);
        if ends {
            self.unlink(cx, hit.id, CloseReason::AlgDenied);
        }
        let reply = &self.scratch.answer.reply;
        if !reply.is_empty() {
            let built = replace_payload(&mut item.buf, &mut item.parsed, reply, false)
                && turn_round(item.buf.bytes_mut(), &item.parsed);
            if built {
                return Ok(Fate::Error(DropReason::AlgDenied));
            }
        }
        Err(DropReason::AlgDenied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(start: usize, len: usize, with: &[u8]) -> Edit {
        Edit { start, len, with: with.iter().copied().collect(), translates: true }
    }

    #[test]
    fn edits_are_applied_in_their_order() {
        let mut out = Payload::new();
        assert!(apply(b"abcdef", &[edit(1, 2, b"XYZ"), edit(5, 1, b"")], &mut out));
        assert_eq!(out.as_slice(), b"aXYZde");
        assert!(apply(b"abc", &[], &mut out));
        assert_eq!(out.as_slice(), b"abc");
    }

    #[test]
    fn edits_that_do_not_fit_are_none() {
        let mut out = Payload::new();
        assert!(!apply(b"abc", &[edit(2, 2, b"x")], &mut out), "beyond the end");
        assert!(!apply(b"abc", &[edit(1, 2, b""), edit(2, 1, b"")], &mut out), "overlapping");
        assert!(!apply(&[0; MAX_DATAGRAM], &[edit(0, 0, b"x")], &mut out), "too long");
    }
}
