//! After a commit: the sessions that an older policy admitted.
//!
//! The sweep begins when no worker holds an older policy any more, so that none can admit under it what the sweep has
//! passed. It goes through the arena in steps, and asks owners to unlink. A commit during a sweep begins it anew.

use core::net::{IpAddr, Ipv4Addr};
use dataplane::event::Ref;
use dataplane::key::Addrs;
use dataplane::policy::{Action, NatTarget, OnCommit, Policy, Query};
use dataplane::shared::{Command, Shared};
use dataplane::view::{CloseReason, SessionView, State};

/// Most records that one step looks at.
const STEP: u32 = 4_096;

/// A sweep through the arena.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The next record to look at; none when there is nothing to do.
    next: Option<u32>,
}

impl Sweep {
    /// A policy was published.
    pub fn begin(&mut self, policy: &Policy) {
        self.next = (policy.on_commit != OnCommit::Keep).then_some(0);
    }

    /// One step. Only when no worker holds an older policy. Answers how many sessions were asked to end, and at least 1
    /// while there are more to look at.
    pub fn step(&mut self, shared: &Shared, policy: &Policy) -> usize {
        let Some(first) = self.next else { return 0 };
        let end = shared.arena.records().min(first.saturating_add(STEP));
        let mut work = 0;
        for index in first..end {
            let Some(view) = shared.arena.view(index) else { continue };
            if view.policy_generation == policy.generation
                || view.state == State::Closed
                || stays(shared, policy, &view)
            {
                continue;
            }
            let command = Command::Unlink {
                session: view.id,
                reason: CloseReason::PolicyChange,
                only_if_last_seen: None,
            };
            if shared.lane(view.owner).is_none_or(|lane| lane.commands.push(command).is_err()) {
                // The owner's ring is full: from here on the next time.
                self.next = Some(index);
                return work + 1;
            }
            work += 1;
        }
        self.next = (end < shared.arena.records()).then_some(end);
        work + usize::from(self.next.is_some())
    }
}

/// Whether the policy leaves an older session alone.
fn stays(shared: &Shared, policy: &Policy, view: &SessionView) -> bool {
    match policy.on_commit {
        OnCommit::Keep => true,
        OnCommit::Close => false,
        OnCommit::Reevaluate => match view.parent.and_then(|parent| open(shared, parent)) {
            // What an ALG admitted stays as long as the session that asked for it may.
            Some(parent) => admits(policy, &parent),
            None => admits(policy, view),
        },
    }
}

fn open(shared: &Shared, id: Ref) -> Option<SessionView> {
    shared.arena.view(id.index).filter(|view| view.id == id && view.state != State::Closed)
}

/// Whether the policy would admit a session of these tuples, lead it to the same host, and show its initiator at the
/// same address where that is static.
fn admits(policy: &Policy, view: &SessionView) -> bool {
    let (forward, reverse) = (&view.forward, &view.reverse);
    let host = (reverse.source(), reverse.sport);
    let leads = match forward.addrs {
        Addrs::V4(_, called) => {
            let called = Ipv4Addr::from_bits(called);
            let to = policy.destination_nat(forward.scope, called, forward.protocol, forward.dport);
            let (addr, port) = to.host().unwrap_or((called, forward.dport));
            // A child's way is its expectation's.
            view.parent.is_some() || (IpAddr::V4(addr), port) == host
        }
        Addrs::V6(..) => true,
    };
    let query = Query {
        from: forward.scope,
        to: reverse.scope,
        source: forward.source(),
        destination: host.0,
        protocol: forward.protocol,
        sport: forward.sport,
        dport: host.1,
    };
    // A binding is the session's as long as it lives. A static address is its host's alone.
    let (own, seen) = (forward.source(), reverse.destination());
    let nat = policy.source_nat(query.from, query.to, own, host.0).map(|nat| nat.translate);
    let shown = match nat {
        Some(NatTarget::Static { inside, outside }) => inside.counterpart(own, &outside) == Some(seen),
        _ => view.bound || seen == own,
    };
    leads && (shown || view.parent.is_some()) && policy.evaluate(&query).action == Action::Allow
}
