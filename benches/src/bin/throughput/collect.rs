//! Fixed runs for callgrind, counted in the stages alone. The gate subtracts two of different length.

use crate::cases::{Case, SEVERAL, Workload};
use benches::rig::crew::{Crew, Traffic};
use benches::rig::frame::Kind;
use benches::rig::gateway::{Rig, Time};
use benches::rig::spec::RigError;
use benches::rig::wire::Plan;
use dataplane::table::Direction;

/// Virtual time: new flows a millisecond.
const NEW_PER_MS: u32 = 2000;
/// Virtual time: messages a millisecond, as many as a core reads. The control core takes a turn in each.
const MESSAGES_PER_MS: u32 = 200;
/// Virtual time: established packets a millisecond.
const STEADY_PER_MS: u32 = 6400;

/// Runs it: `packets` packets, new flows, or messages. Answers wrong and lost packets.
///
/// # Errors
/// See [`RigError`].
pub fn run(case: &Case, packets: u32) -> Result<(u64, u64), RigError> {
    if case.workload == Workload::Handoff {
        let mut crew = Crew::new(&case.spec(), case.flows)?;
        let together = crew.collected(Traffic::Asymmetric, u64::from(packets));
        // Fewer handoffs would be another journey than the one that is named.
        let short = u64::from(packets / u32::from(SEVERAL) * u32::from(SEVERAL)) - together.handed_off;
        return Ok((together.wrong, together.run.lost() + short));
    }
    if case.workload == Workload::Alg {
        return messages(case, packets);
    }
    let new = case.workload == Workload::New;
    let flows = if new { packets } else { case.flows };
    // The frequency only matters where time is real.
    let mut rig = Rig::new(&Case { flows, ..case.clone() }.spec(), 1e9)?;
    rig.set_control(false);
    rig.set_time(Time::Packets(NEW_PER_MS));
    let first = rig.open(0, 1, !new);
    let unarmed = u64::from(case.pinholes - rig.arm(case.pinholes));
    rig.set_collects(new);
    let mut opened = rig.open(1, flows, !new);
    opened.add(&first);
    if !new {
        rig.wire().borrow_mut().set_size(case.size);
        rig.set_time(Time::Packets(STEADY_PER_MS));
        let plan = Plan::Random { flows, left: u64::from(packets) };
        rig.wire().borrow_mut().plan(Direction::Forward, plan, Kind::Data);
        rig.set_collects(true);
        rig.run();
    }
    let wire = rig.wire().borrow();
    let unopened = u64::from(flows) - opened.opened;
    Ok((wire.verdict().1, wire.tally().offered - wire.tally().delivered + unopened + unarmed))
}

/// Messages of an exchange.
fn messages(case: &Case, messages: u32) -> Result<(u64, u64), RigError> {
    let mut rig = Rig::talking(&case.spec(), 1e9, (case.exchange, case.split), case.flows)?;
    rig.set_time(Time::Packets(MESSAGES_PER_MS));
    rig.set_collects(true);
    rig.talk(messages / case.flows.max(1));
    let dropped = rig.drops().iter().map(|(_, n)| n).sum();
    Ok((rig.traffic().borrow().verdict().1, dropped))
}
