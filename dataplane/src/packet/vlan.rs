//! VLAN: the tag of a frame (IEEE 802.1Q-2018 §9), taken off as it comes and put on as it leaves.
//!
//! The journey sees frames without tags. Priority and drop eligibility of a tag are not kept. A frame with two tags or a
//! service tag (802.1ad) is told apart and never taken for one with one.

use super::field::{get16, put16};
use crate::buf::PacketBuf;

/// EtherType of a customer tag.
pub const TAGGED: u16 = 0x8100;
/// EtherTypes of outer tags: the service tag of 802.1ad, and what switches used before.
const OUTER: [u16; 2] = [0x88A8, 0x9100];
/// Bytes of a tag.
pub const TAG_LEN: usize = 4;
/// Where the tag stands: behind both MAC addresses.
const AT: usize = 12;

/// What stands where a tag would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// None.
    None,
    /// A tag. VLAN 0 is a priority alone: the frame belongs to no VLAN.
    Vlan(u16),
    /// More than one, or one of a service provider.
    Stacked,
    /// The frame ends in it.
    Truncated,
}

/// Looks for a tag.
#[inline]
#[must_use]
pub fn tag(frame: &[u8]) -> Tag {
    match get16(frame, AT) {
        Some(TAGGED) => match (get16(frame, AT + 2), get16(frame, AT + 4)) {
            (Some(_), Some(inner)) if inner == TAGGED || OUTER.contains(&inner) => Tag::Stacked,
            (Some(control), Some(_)) => Tag::Vlan(control & 0x0FFF),
            _ => Tag::Truncated,
        },
        Some(outer) if OUTER.contains(&outer) => Tag::Stacked,
        _ => Tag::None,
    }
}

/// Takes the tag off a frame that has one. False, and nothing changed, if it is too short.
#[must_use]
pub fn strip<B: PacketBuf>(buf: &mut B) -> bool {
    let Some(head) = buf.bytes_mut().get_mut(..AT + TAG_LEN) else { return false };
    head.copy_within(..AT, TAG_LEN);
    buf.trim_front(TAG_LEN)
}

/// Puts a tag on, of priority 0. False, and nothing changed, if there is no room in front.
#[must_use]
pub fn insert<B: PacketBuf>(buf: &mut B, vlan: u16) -> bool {
    if buf.bytes().len() < AT || !buf.prepend(TAG_LEN) {
        return false;
    }
    let frame = buf.bytes_mut();
    if let Some(head) = frame.get_mut(..AT + TAG_LEN) {
        head.copy_within(TAG_LEN.., 0);
    }
    put16(frame, AT, TAGGED).and_then(|()| put16(frame, AT + 2, vlan & 0x0FFF)).is_some()
}
