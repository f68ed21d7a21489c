//! Detect: a session that no port and no service binds says by itself what it is, where a profile asks for that.
//!
//! What is looked for stands in [`alg::detect`]. A datagram decides at once, before its session has a place. A connection
//! gets a place when it opens, and is read by a detector until it is known: then its ALG takes the detector's place and
//! reads the same bytes anew; or it turns out to be none of those that were looked for, and goes on as if nobody had.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Event;
use crate::key::{Protocol, Tick};
use crate::policy::{AlgProfiles, Candidates, Decision, Inspection, Policy, ProfileId, RuleId};
use crate::port::Port;
use crate::session::{AlgSlot, Init};
use crate::stage::seats::{Between, Reads};
use crate::stage::{Context, Hit, Item};
use crate::stream::segment::Limits;
use crate::view::BoundBy;
use crate::worker::Local;
use alg::{Application, Bound, Denial, Detection, Detector, Side, detect};

/// What a connection may turn out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detecting {
    detector: Detector,
    candidates: Candidates,
    /// Since when somebody is to speak: since it opened, or was greeted.
    since: Tick,
    /// Since when the beginning of a line is held.
    held_since: Option<Tick>,
}

/// How long somebody may take to speak, in milliseconds: longer than servers look for their client's name.
const SILENCE_MS: u32 = 60_000;
/// How many times as long as the rest of a line is waited for its beginning is held, however its bytes trickle.
const LINE: u32 = 8;
/// Most places that one call of [`Local::time_detectors`] looks at, and most that it gives back. The next call goes on from
/// there.
const LOOKED_AT: usize = 1_024;
const GIVEN_BACK: usize = 64;

impl Detecting {
    /// Whether a beginning was held for so long that it goes on, though more of it comes.
    pub(super) fn has_held_for_long(&self, limits: &Limits, now: Tick) -> bool {
        self.held_since.is_some_and(|since| now.since(since) >= limits.hold_ms.saturating_mul(LINE))
    }

    /// Looks at bytes for what the policy in force still asks for. With the profile of what it is.
    fn look(&mut self, profiles: &AlgProfiles, from: Side, bytes: &[u8]) -> (Detection, Option<ProfileId>) {
        let candidates = self.candidates;
        self.detector.retain(|application| candidates.of(profiles, application).is_some());
        let detection = self.detector.look(from, bytes);
        let profile = match &detection {
            Detection::Is(bound) => candidates.of(profiles, bound.application()),
            _ => None,
        };
        (detection, profile)
    }
}

/// Who asks to look at sessions of a rule of this policy.
fn candidates(policy: &Policy, rule: RuleId, transport: Protocol) -> Option<Candidates> {
    let rule = policy.rules.get(usize::try_from(rule.0).ok()?)?;
    Some(policy.alg.candidates(&rule.profiles, transport))
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// What the first datagram of a session says of it. Of any other packet the decision stays as it is.
    pub(crate) fn detect_datagram(
        &self,
        cx: &Context<'_>,
        item: &Item<P::Buf>,
        decision: Decision,
    ) -> Result<Decision, DropReason> {
        if decision.inspection != Inspection::Detect || item.parsed.protocol != Protocol::Udp {
            return Ok(decision);
        }
        // What is corrupt would decide for good.
        if !item.parsed.l4_checksum_is_valid(item.buf.bytes()) {
            return Err(DropReason::UdpChecksum);
        }
        let payload = item.buf.bytes().get(item.parsed.payload_range()).unwrap_or(&[]);
        let asked = candidates(cx.policy, decision.rule, Protocol::Udp);
        let profile = |application| asked.and_then(|asked| asked.of(&cx.policy.alg, application));
        let found = detect::datagram(payload, |application| profile(application).is_some());
        let found = found.map(|bound| bound.application());
        Ok(match found.and_then(|application| Some((application, profile(application)?))) {
            None => Decision { inspection: Inspection::None, ..decision },
            Some((application, profile)) => Decision {
                application,
                inspection: Inspection::Profile(profile),
                bound_by: BoundBy::Content,
                ..decision
            },
        })
    }

    /// A place for a connection that is to say what it is. None: there is no room for those, and it goes on unread. Nobody
    /// was promised that it is read.
    pub(crate) fn reserve_detector(&mut self, cx: &Context<'_>, init: &Init) -> Option<AlgSlot> {
        let candidates = candidates(cx.policy, init.rule, init.forward.protocol)?;
        let wanted = |application: Application| candidates.of(&cx.policy.alg, application).is_some();
        let detector = Detector::new(wanted)?;
        let detecting = Detecting { detector, candidates, since: cx.now, held_since: None };
        let slot = self.algs.alloc_unknown(detecting, Between::of(cx, init));
        if slot.is_none() {
            self.count(cx, Counter::AlgUndetected, 1);
        }
        slot.map(|number| AlgSlot { number, profile: ProfileId::NONE, by: BoundBy::Nothing })
    }

    /// Shows the detector the first `len` unread bytes of one stream, which are all there are. True: they wait for more.
    pub(super) fn detect(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        slot: u32,
        from: Side,
        len: usize,
    ) -> Result<bool, Denial> {
        let Self { algs, scratch, .. } = &mut *self;
        let Some((inspected, chunks)) = algs.get_mut(slot) else { return Ok(true) };
        let bytes = scratch.unread.get(..len).unwrap_or_default();
        let Reads::Detector(detecting) = &mut inspected.reads else { return Ok(false) };
        let (detection, profile) = if inspected.stream.is_blind() {
            (Detection::Nothing, None)
        } else {
            detecting.look(&cx.policy.alg, from, bytes)
        };
        let goes_on = match (detection, profile) {
            // Nothing finishes a line behind a FIN.
            (Detection::Unsure, _) if !inspected.stream.is_ended(from) => {
                detecting.held_since.get_or_insert(cx.now);
                return Ok(true);
            }
            (Detection::Is(bound), Some(profile)) => {
                self.bind_known(cx, hit, slot, bound, profile);
                true
            }
            (Detection::Goes, _) => {
                (detecting.since, detecting.held_since) = (cx.now, None);
                inspected.stream.decide(chunks, from, bytes, core::iter::empty())
            }
            _ => self.stop_reading(slot),
        };
        if goes_on { Ok(false) } else { Err(Denial::NoResources) }
    }

    /// A connection is known: its ALG reads what the detector has read, and all that follows.
    fn bind_known(&mut self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32, bound: Bound, profile: ProfileId) {
        hit.session.bind_by_content(bound.application(), profile);
        self.algs.bind(slot, bound);
        self.report_bound(cx, hit);
    }

    /// Counts and tells that a session was bound by what it said.
    pub(crate) fn report_bound(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
        self.count(cx, Counter::AlgDetected, 1);
        let application = hit.session.application();
        self.tell(cx, Event::AlgBound { session: hit.id, application });
    }

    /// Nobody reads a connection any more, since it is none of what was looked for or finds no room: what was held of it goes
    /// on. False if there is no room for that.
    pub(super) fn stop_reading(&mut self, slot: u32) -> bool {
        let Self { algs, scratch, .. } = &mut *self;
        let Some((inspected, chunks)) = algs.get_mut(slot) else { return true };
        inspected.stream.set_blind();
        let gone = [Side::Initiator, Side::Responder].into_iter().all(|from| {
            let (_, len) = inspected.stream.copy_unread(chunks, from, &mut scratch.unread);
            let bytes = scratch.unread.get(..len).unwrap_or_default();
            inspected.stream.decide(chunks, from, bytes, core::iter::empty())
        });
        if gone {
            algs.search_is_over(slot);
        }
        gone
    }

    /// The beginning that a connection said was held for long enough. It goes on, and, unless more of a greeting may
    /// follow it, nobody looks any more. False if there is no room for that.
    pub(super) fn let_beginning_go(&mut self, slot: u32, from: Side) -> bool {
        let Self { algs, scratch, .. } = &mut *self;
        let Some((inspected, chunks)) = algs.get_mut(slot) else { return true };
        let (_, len) = inspected.stream.copy_unread(chunks, from, &mut scratch.unread);
        let bytes = scratch.unread.get(..len).unwrap_or_default();
        if let Reads::Detector(detecting) = &mut inspected.reads
            && detecting.detector.goes_on(from, bytes)
        {
            detecting.held_since = None;
            return inspected.stream.decide(chunks, from, bytes, core::iter::empty());
        }
        self.stop_reading(slot)
    }

    /// Time has passed: gives back the places of connections on which nobody speaks.
    pub(crate) fn time_detectors(&mut self, cx: &Context<'_>) {
        let (mut slot, mut given_back) = (self.detector_cursor, 0);
        for _ in 0..LOOKED_AT {
            let Some(next) = self.algs.next_unknown(slot).filter(|_| given_back < GIVEN_BACK) else {
                self.detector_cursor = if given_back < GIVEN_BACK { 0 } else { slot };
                return;
            };
            slot = next.saturating_add(1);
            if self.is_silent(cx, next) && self.stop_reading(next) {
                self.count(cx, Counter::AlgUndetected, 1);
                self.time_stream(cx, next, &cx.policy.streams);
                given_back += 1;
            }
        }
        self.detector_cursor = slot;
    }

    /// Whether nobody has spoken for too long on a connection that is open.
    fn is_silent(&self, cx: &Context<'_>, slot: u32) -> bool {
        let Some(inspected) = self.algs.get(slot) else { return false };
        let Reads::Detector(detecting) = &inspected.reads else { return false };
        let open = inspected.session.is_some_and(|id| cx.shared.arena.resolve_open(id).is_some());
        open && cx.now.since(detecting.since) >= SILENCE_MS
    }
}
