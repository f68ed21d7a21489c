//! Detect: a session that no port and no service binds says by itself what it is, where a profile asks for that.
//!
//! What is looked for stands in [`alg::detect`]. A datagram decides at once, before its session has a place. A connection
//! gets a place when it opens, and is read by a detector until it is known: then its ALG takes the detector's place and
//! reads the same bytes anew; or it turns out to be none of those that were looked for, and goes on as if nobody had.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Event;
use crate::key::Protocol;
use crate::policy::{AlgProfiles, Candidates, Decision, Inspection, Policy, ProfileId, RuleId};
use crate::port::Port;
use crate::session::{AlgSlot, Init};
use crate::stage::inspect::Reads;
use crate::stage::{Context, Hit, Item};
use crate::view::BoundBy;
use crate::worker::Local;
use alg::{Application, Bound, Denial, Detection, Detector, Side, detect};

/// What a connection may turn out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detecting {
    detector: Detector,
    candidates: Candidates,
}

impl Detecting {
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
        let slot = self.algs.alloc_unknown(Detecting { detector, candidates });
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
            (Detection::Unsure, _) if !inspected.stream.is_ended(from) => return Ok(true),
            (Detection::Is(bound), Some(profile)) => {
                self.bind_known(cx, hit, slot, bound, profile);
                true
            }
            (Detection::Goes, _) => inspected.stream.decide(chunks, from, bytes, core::iter::empty()),
            _ => self.let_unknown_go(slot),
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

    /// A connection is none of what was looked for: nobody reads it any more, and what was held of it goes on. False if
    /// there is no room for that.
    pub(super) fn let_unknown_go(&mut self, slot: u32) -> bool {
        let Self { algs, scratch, .. } = &mut *self;
        let Some((inspected, chunks)) = algs.get_mut(slot) else { return true };
        inspected.stream.set_blind();
        [Side::Initiator, Side::Responder].into_iter().all(|from| {
            let (_, len) = inspected.stream.copy_unread(chunks, from, &mut scratch.unread);
            let bytes = scratch.unread.get(..len).unwrap_or_default();
            inspected.stream.decide(chunks, from, bytes, core::iter::empty())
        })
    }
}
