//! Link state, devices that are pulled out, and queues that never receive: looked at by the control core, since not every driver
//! tells.
//!
//! A device on vfio-pci is not pulled out under the gateway: the kernel asks for it, and waits. Workers leave it at their next
//! poll, then the gateway lets go of it.

use super::live::Live;
use super::queues::{self, Enough, Queues};
use crate::audit::{DeviceEvent, Records};
use dataplane::dpdk::plan::{Choice, Plan};
use dataplane::dpdk::{EthPort, LetGo};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the devices are looked at.
const EVERY: Duration = Duration::from_millis(250);

/// A device as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// The link carries packets.
    pub up: bool,
    /// Its speed in Mbit/s; 0 if unknown.
    pub mbps: u32,
    /// The device is gone.
    pub removed: bool,
}

/// What differs between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The link came up.
    Up,
    /// The link went down.
    Down,
    /// The device was pulled out. Nothing more is said of it.
    Removed,
}

/// Compares two looks.
pub fn change(before: Seen, now: Seen) -> Option<Change> {
    match (before, now) {
        (Seen { removed: true, .. }, _) => None,
        (_, Seen { removed: true, .. }) => Some(Change::Removed),
        (Seen { up: false, .. }, Seen { up: true, .. }) => Some(Change::Up),
        (Seen { up: true, .. }, Seen { up: false, .. }) => Some(Change::Down),
        _ => None,
    }
}

/// Looks at all devices.
pub struct Links {
    live: Arc<Live>,
    seen: Vec<Seen>,
    /// Devices that were pulled out, and that the kernel or DPDK waits for.
    leaving: Vec<usize>,
    /// Receive queues by port.
    queues: Vec<Queues>,
    looked: Instant,
}

impl Links {
    /// As they are now: nothing is told of that, but that a device is gone already. `plans` is how each was set up.
    pub fn new(live: Arc<Live>, plans: Vec<Plan>) -> Self {
        let seen: Vec<Seen> = (0..live.ports.len()).map(|port| live.look(port)).collect();
        for (port, _) in seen.iter().enumerate().filter(|(_, seen)| seen.up) {
            live.agree(port);
        }
        let seen = seen.into_iter().map(|seen| Seen { removed: false, ..seen }).collect();
        let queues = plans.into_iter().map(|plan| Queues::new(plan, Enough::default())).collect();
        Self { live, seen, leaving: Vec::new(), queues, looked: Instant::now() }
    }

    /// What could not be had of a device when it was set up is an event each.
    pub fn tell_lacks(&self, records: &mut impl Records) {
        for port in 0..self.live.devices.len() {
            for choice in self.live.settings(port).iter().filter(|choice| !choice.lacks.is_empty()) {
                self.tell_lack(port, choice, records);
            }
        }
    }

    fn tell_lack(&self, port: usize, choice: &Choice, records: &mut impl Records) {
        let lack = Some((choice.what, choice.lacks.as_str()));
        records.device(&DeviceEvent { lack, ..self.event("device-lacks", port, 0) });
    }

    /// Looks, if it is time to, and tells what has changed.
    pub fn look(&mut self, records: &mut impl Records) {
        if self.looked.elapsed() < EVERY {
            return;
        }
        self.looked = Instant::now();
        for port in 0..self.seen.len() {
            let now = self.live.look(port);
            let Some(before) = self.seen.get_mut(port) else { continue };
            let change = change(*before, now);
            *before = Seen { removed: before.removed || now.removed, ..now };
            if let Some(change) = change {
                self.tell(port, change, now, records);
                if change == Change::Up
                    && let Some(choice) = self.live.agree(port)
                {
                    self.tell_lack(port, &choice, records);
                }
                if change == Change::Removed {
                    self.leaving.push(port);
                }
            }
        }
        self.look_at_queues(records);
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|port| !self.let_go(*port, records));
        self.leaving = leaving;
    }

    /// Looks at the receive queues of all devices, and tells of those that never receive.
    fn look_at_queues(&mut self, records: &mut impl Records) {
        let live = Arc::clone(&self.live);
        let (shared, fib) = (&*live.shared, live.shared.fib.load());
        let mut told = Vec::new();
        for ((number, queues), seen) in (0_u16..).zip(&mut self.queues).zip(&self.seen) {
            if seen.removed {
                continue;
            }
            let received = || queues::received(shared, &fib, number);
            let arrived = |index| queues::arrived(shared, &fib, number, index);
            let changes = queues.look(received, shared.arena.records(), arrived);
            let port = usize::from(number);
            if !changes.is_empty() {
                live.tell_unused(port, queues.shown());
            }
            told.extend(changes.into_iter().map(|change| (port, change)));
        }
        for (port, change) in told {
            let (kind, queue, packets) = match change {
                queues::Change::Silent { queue, others } => ("queue-silent", queue, others),
                queues::Change::Receives { queue } => ("queue-receives", queue, 0),
            };
            let event = DeviceEvent { queue: Some((queue, packets)), ..self.event(kind, port, 0) };
            match change {
                queues::Change::Silent { .. } => tracing::warn!(
                    "{kind}: {} queue {queue} never receives, the others have {packets} packets",
                    event.device
                ),
                queues::Change::Receives { .. } => tracing::info!("{kind}: {} queue {queue}", event.device),
            }
            records.device(&event);
        }
    }

    /// Gives a device that was pulled out back. False as long as a worker has not left it.
    fn let_go(&self, port: usize, records: &mut impl Records) -> bool {
        match self.live.ports.get(port).map_or(LetGo::Closed, EthPort::let_go) {
            LetGo::Waiting => return false,
            LetGo::Closed => return true,
            LetGo::Released => {}
        }
        let event = self.event("device-released", port, 0);
        tracing::info!("{}: {}", event.kind, event.device);
        records.device(&event);
        true
    }

    fn tell(&self, port: usize, change: Change, now: Seen, records: &mut impl Records) {
        self.live.count(port, change);
        let (kind, mbps) = match change {
            Change::Up => ("link-up", now.mbps),
            Change::Down => ("link-down", 0),
            Change::Removed => ("device-removed", 0),
        };
        let event = self.event(kind, port, mbps);
        match change {
            Change::Up => tracing::info!("{kind}: {}", event.device),
            Change::Down | Change::Removed => tracing::warn!("{kind}: {}", event.device),
        }
        records.device(&event);
    }

    fn event(&self, kind: &'static str, port: usize, mbps: u32) -> DeviceEvent<'_> {
        let on = self.live.interfaces.iter().filter(|(_, at)| usize::from(*at) == port);
        let device = on.clone().next().map_or("", |(view, _)| view.device.as_str());
        let interfaces = on.map(|(view, _)| view.name.as_str()).collect();
        DeviceEvent { kind, device, interfaces, mbps, lack: None, queue: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_once_and_nothing_of_what_is_gone() {
        let up = Seen { up: true, mbps: 1_000, removed: false };
        let down = Seen::default();
        let gone = Seen { removed: true, ..down };
        for (before, now, expected) in [
            (up, up, None),
            (down, up, Some(Change::Up)),
            (up, down, Some(Change::Down)),
            (up, Seen { mbps: 100, ..up }, None),
            (up, gone, Some(Change::Removed)),
            (down, gone, Some(Change::Removed)),
            (gone, gone, None),
            (gone, up, None),
        ] {
            assert_eq!(change(before, now), expected, "{before:?} {now:?}");
        }
    }
}
