//! Mode: what of an ALG's answer is done. A profile of mode `inspect` rewrites nothing; one of mode `monitor` does nothing at
//! all, and tells what it would do. The other modes do everything, and do not come here.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Event;
use crate::policy::{AlgMode, AlgProfile};
use crate::port::Port;
use crate::stage::pinhole::source;
use crate::stage::publish::{endpoints, protocol, side};
use crate::stage::{Context, Hit};
use crate::table::Direction;
use crate::worker::Local;
use alg::{Answer, Blindness, Denial, Endpoint, ExpectationRequest, MAX_EXPECTATIONS, Order, Side, Verdict};
use arrayvec::ArrayVec;
use core::net::IpAddr;

/// Pinholes that are left out of an answer.
type LeftOut = ArrayVec<ExpectationRequest, MAX_EXPECTATIONS>;

/// Leaves the translations out of an answer, and the pinholes that nobody could use without them. Answers those.
fn without_translations(answer: &mut Answer, is_reached: impl Fn(&ExpectationRequest) -> bool) -> LeftOut {
    let edits = answer.edits.len();
    answer.edits.retain(|edit| !edit.translates);
    if answer.edits.len() < edits {
        for fact in answer.facts.iter_mut().filter(|fact| !fact.after.is_empty()) {
            fact.after.clone_from(&fact.before);
        }
    }
    let left_out = answer.expectations.iter().filter(|request| !is_reached(request)).copied().collect();
    answer.expectations.retain(|request| is_reached(request));
    left_out
}

/// A verdict that is not executed: what is refused goes on. Behind a message that would have ended the flow nothing is
/// read, as nothing would have come.
const fn watched(verdict: Verdict) -> (Verdict, Option<Denial>) {
    match verdict {
        Verdict::Refuse(denial) => (Verdict::Pass, Some(denial)),
        Verdict::Deny(denial) => (Verdict::Blind(Blindness::Watched), Some(denial)),
        _ => (verdict, None),
    }
}

/// Whether who is to open a pinhole reaches its listener where the unchanged message names it: where no translation
/// stands between them, or one that policy makes of every packet. What another ALG has published does not count: nobody was
/// told of it here.
fn is_reached(cx: &Context<'_>, hit: &Hit<'_>, request: &ExpectationRequest) -> bool {
    let flow = endpoints(cx, hit);
    let opener = request.opener.side();
    let side = opener.other();
    let direction = match opener {
        Side::Initiator => Direction::Forward,
        Side::Responder => Direction::Reverse,
    };
    let scope = hit.session.key(direction).scope;
    let own = request.transport == flow.transport
        && (request.listener, request.published) == (flow.own(side), flow.seen(side));
    let (called, port) = (request.published.addr, request.published.port);
    let led = |called| cx.policy.destination_nat(scope, called, protocol(request.transport), port).host();
    let listener = match called {
        IpAddr::V4(called) => led(called).map(|(host, port)| Endpoint::new(IpAddr::V4(host), port)),
        IpAddr::V6(_) => None,
    };
    request.listener == request.published || own || listener == Some(request.listener)
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Leaves out of the last answer what the profile's mode does not do, and tells of it. Answers what is left of the verdict.
    pub(crate) fn restrain(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        profile: &AlgProfile,
        verdict: Verdict,
    ) -> Verdict {
        match profile.mode {
            AlgMode::Monitor => self.watch(cx, hit, verdict),
            AlgMode::Inspect => {
                self.leave_out_translations(cx, hit);
                verdict
            }
            AlgMode::Off | AlgMode::Full | AlgMode::Strict => verdict,
        }
    }

    fn leave_out_translations(&mut self, cx: &Context<'_>, hit: &Hit<'_>) {
        let answer = &mut self.scratch.answer;
        for request in without_translations(answer, |request| is_reached(cx, hit, request)) {
            // The newest request counts: what the old one opened is not wanted any more, if the message goes on.
            self.scratch.answer.orders.try_push(Order::Close { tag: request.tag, children: false }).ok();
            self.refuse_pinhole(cx, hit, DropReason::ExpectationUntranslated);
        }
    }

    fn watch(&mut self, cx: &Context<'_>, hit: &Hit<'_>, verdict: Verdict) -> Verdict {
        let (verdict, denial) = watched(verdict);
        let answer = &mut self.scratch.answer;
        let facts = core::mem::take(&mut answer.facts);
        // What is refused opens nothing.
        let mut expectations = LeftOut::new();
        let mut would = 1;
        if denial.is_none() {
            expectations = core::mem::take(&mut answer.expectations);
            would = answer.edits.len() + expectations.len() + usize::from(!answer.reply.is_empty());
        }
        answer.clear();
        self.count(cx, Counter::AlgWatched, would as u64);
        let application = hit.session.application();
        let flow = endpoints(cx, hit);
        for request in &expectations {
            let (class, addr, port) = source(request.opener, flow.own(request.opener.side()).addr);
            let event = Event::ExpectationWatched {
                parent: hit.id,
                application: request.application,
                class,
                opener: Endpoint::new(addr, port),
                published: request.published,
                listener: request.listener,
                from: side(hit.direction),
                offset: request.offset,
            };
            self.tell(cx, event);
        }
        let rule = facts.last().and_then(|fact| fact.rule).filter(|_| denial == Some(Denial::Policy));
        self.tell_facts(cx, hit, facts, true);
        if let Some(denial) = denial {
            self.tell(cx, Event::AlgDenied { session: hit.id, application, denial, rule, watched: true });
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alg::{Application, Edit, Fact, Opener, Transport, Uses};

    fn request(tag: u32) -> ExpectationRequest {
        let end = Endpoint::new(IpAddr::from([10, 1, 0, 2]), 40_000);
        ExpectationRequest {
            tag,
            opener: Opener::Peer(Side::Responder),
            transport: Transport::Tcp,
            listener: end,
            published: end,
            reverse: None,
            uses: Uses::Once,
            armed: false,
            lifetime_ms: 0,
            application: Application::FtpData,
            group: None,
            offset: 0,
        }
    }

    fn fact(before: &[u8], after: &[u8]) -> Fact {
        let text = |bytes: &[u8]| bytes.iter().copied().collect();
        let (before, after) = (text(before), text(after));
        Fact { from: Side::Initiator, offset: 0, before, after, rule: None, denial: None }
    }

    fn edit(start: usize, translates: bool) -> Edit {
        Edit { start, len: 1, with: ArrayVec::new(), translates }
    }

    fn full() -> Answer {
        let mut answer = Answer::default();
        answer.edits.extend([edit(0, true), edit(2, false), edit(5, true)]);
        answer.expectations.extend([request(1), request(2), request(3)]);
        answer.orders.push(Order::Activate { tag: 1 });
        answer.facts.extend([fact(b"a", b"b"), fact(b"c", b"")]);
        answer.reply.extend(*b"550 no");
        answer
    }

    #[test]
    fn only_what_translates_is_left_out() {
        let mut answer = full();
        let left_out = without_translations(&mut answer, |request| request.tag == 2);
        assert_eq!(left_out.iter().map(|r| r.tag).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(answer.expectations.iter().map(|r| r.tag).collect::<Vec<_>>(), [2]);
        assert_eq!(answer.edits.as_slice(), [edit(2, false)]);
        assert_eq!(answer.facts.as_slice(), [fact(b"a", b"a"), fact(b"c", b"")], "a refusal is still one");
        assert_eq!((answer.orders.len(), answer.reply.as_slice()), (1, &b"550 no"[..]));
    }

    #[test]
    fn a_fact_stays_where_nothing_is_left_out() {
        let mut answer = full();
        answer.edits.retain(|edit| !edit.translates);
        assert!(without_translations(&mut answer, |_| true).is_empty());
        assert_eq!(answer.facts.as_slice(), [fact(b"a", b"b"), fact(b"c", b"")]);
        assert_eq!(answer.expectations.len(), 3);
    }

    #[test]
    fn what_is_watched_goes_on() {
        let denial = Denial::Policy;
        assert_eq!(watched(Verdict::Refuse(denial)), (Verdict::Pass, Some(denial)));
        assert_eq!(watched(Verdict::Deny(denial)), (Verdict::Blind(Blindness::Watched), Some(denial)));
        for verdict in [
            Verdict::Pass,
            Verdict::Hold { understood: 3 },
            Verdict::More { understood: 3 },
            Verdict::Blind(Blindness::Encrypted),
        ] {
            assert_eq!(watched(verdict), (verdict, None));
        }
    }
}
