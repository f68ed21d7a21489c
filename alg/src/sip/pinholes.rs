//! The pinholes of a call's media: how they are named, and what becomes of all of them.

use crate::contract::{Answer, Application, MAX_EXPECTATIONS, MAX_ORDERS, Order};
use crate::sip::accounts::MAX_REGISTERED;
use crate::sip::call::{Call, MAX_FORKS, MAX_HELD, Medium};
use crate::sip::contacts::{MAX_CONTACTS, MAX_NEEDS};
use crate::sip::sdp::MAX_MEDIA;

/// The RTCP pinhole's part of a tag; the RTP ones are even.
pub(super) const RTCP: u32 = 1;
/// Marks the pinhole to the responder where the initiator has one too.
pub(super) const RESPONDER: u32 = 1 << 3;
/// Marks what stands in the place of an RTCP pinhole while RTCP comes to the port of RTP: nothing passes, and the port stays
/// the call's.
pub(super) const MUXED: u32 = 1 << 4;
/// Most pinholes of one dialog's media, of all that it has named. A message that names more is refused.
pub(super) const MAX_TAGS: usize = 48;

// Both sides' media, with RTCP, and the contacts of one message.
const _: () = assert!(MAX_MEDIA * 2 * 2 + MAX_CONTACTS < MAX_EXPECTATIONS);
// RTP, RTCP and its place while that comes to RTP, with both ends translated.
const _: () = assert!(MAX_MEDIA * 3 * 2 <= MAX_TAGS);
// All dialogs of a call may close at once, with what its contacts and a description ask for, and each pinhole that mode
// `inspect` leaves out.
const _: () = assert!(
    MAX_FORKS * MAX_TAGS
        + MAX_EXPECTATIONS / 2
        + MAX_EXPECTATIONS
        + 2 * MAX_NEEDS
        + MAX_HELD
        + MAX_CONTACTS
        + MAX_REGISTERED
        < MAX_ORDERS
);

/// Closes all pinholes of a call.
pub(super) fn close(call: &Call, answer: &mut Answer, children: bool) {
    for (place, medium) in media_of(call) {
        stop(call, place, medium, answer, children);
    }
}

/// All pinholes of a call live so long from now.
pub(super) fn prolong(call: &Call, answer: &mut Answer, ms: u32) {
    for (place, medium) in media_of(call) {
        for tag in tags(call, place, medium) {
            order(answer, Order::Lifetime { tag, ms });
        }
    }
}

/// The media of a call by their places: those of both sides, whose pinholes are named alike.
fn media_of(call: &Call) -> impl Iterator<Item = (usize, Medium)> {
    let [initiator, responder] = &call.media;
    initiator.iter().zip(responder).enumerate().filter_map(|(place, both)| {
        let medium = match both {
            (Some(one), Some(other)) => Medium {
                count: one.count.max(other.count),
                mux: one.mux || other.mux,
                application: if other.application == Application::Rtp {
                    Application::Rtp
                } else {
                    one.application
                },
                ..*one
            },
            (one, other) => (*one).or(*other)?,
        };
        Some((place, medium))
    })
}

/// How many pinholes the media of a call have.
pub(super) fn count_of(call: &Call) -> usize {
    media_of(call).map(|(place, medium)| tags(call, place, medium).count()).sum()
}

pub(super) fn stop(call: &Call, place: usize, medium: Medium, answer: &mut Answer, children: bool) {
    for tag in tags(call, place, medium) {
        order(answer, Order::Close { tag, children });
    }
}

/// The tags of a medium's pinholes.
fn tags(call: &Call, place: usize, medium: Medium) -> impl Iterator<Item = u32> {
    let (whole, other) = (call.tag(place, 0), call.both_translated);
    let each = if medium.application == Application::Rtp { 1 } else { 2 };
    let parts = (0..u32::from(medium.count).saturating_mul(2)).step_by(each);
    parts.flat_map(move |part| {
        let muxed = (medium.mux && part & RTCP != 0).then_some(part | MUXED);
        [
            Some(part),
            other.then_some(part | RESPONDER),
            muxed,
            muxed.filter(|_| other).map(|part| part | RESPONDER),
        ]
        .into_iter()
        .flatten()
        .map(move |part| whole | part)
    })
}

/// Gives an order once.
pub(super) fn order(answer: &mut Answer, order: Order) {
    if !answer.orders.contains(&order) {
        answer.orders.try_push(order).ok();
    }
}

/// Which pair of ports of its medium a pinhole is of.
pub(super) const fn pair_of(tag: u32) -> u32 {
    tag >> 1 & 3
}
