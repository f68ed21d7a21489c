//! One call as it is remembered: what each side has offered, which dialogs it has, and which contacts they hold open.

use crate::contract::{Application, Endpoint, Side};
use crate::sip::sdp::MAX_MEDIA;
use crate::sip::sets::Entry;

/// Most dialogs of one call at once.
pub(super) const MAX_FORKS: usize = 4;
/// Most dialogs of one call that are known to have ended.
pub(super) const MAX_GONE: usize = 2;
/// The highest number of a call in the tags of its pinholes.
const MAX_SERIAL: u32 = (1 << 21) - 1;
/// Most contacts that the dialogs of one call hold open.
pub(super) const MAX_HELD: usize = 4;

/// A media endpoint that one side has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Medium {
    /// As on its own wire.
    pub(super) own: Endpoint,
    /// As the other side addresses it.
    pub(super) published: Endpoint,
    /// Where its RTCP goes, likewise, if it has a port of its own.
    pub(super) rtcp: Option<(Endpoint, Endpoint)>,
    /// The side named its own address: a pinhole may lead there.
    pub(super) is_self: bool,
    /// It takes RTCP at the port of RTP (RFC 5761).
    pub(super) mux: bool,
    pub(super) count: u16,
    pub(super) tcp: bool,
    pub(super) application: Application,
}

/// A contact that a dialog holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Held {
    /// The tag of its pinhole.
    pub(super) tag: u32,
    /// Of which dialog it is; 0: of all.
    pub(super) dialog: u64,
    /// Its number: one that is known at the same tag later is another.
    pub(super) contact: u32,
}

/// One call, or one of its dialogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Call {
    /// The group of sessions that it is of ([`crate::contract::FlowContext::group`]).
    pub(super) flow: u64,
    pub(super) id: u64,
    /// Its part of the tags of its pinholes.
    pub(super) serial: u32,
    pub(super) began_ms: u32,
    /// Until when it is remembered.
    pub(super) until_ms: u32,
    /// An end has said BYE, and nobody has answered: until when that is waited for.
    pub(super) leaves_ms: Option<u32>,
    /// It has ended: it is remembered so that what comes late does not begin it again.
    pub(super) ended: bool,
    /// An INVITE was answered with 2xx, or what asked for a subscription was.
    pub(super) confirmed: bool,
    /// It was begun, or changed, by an INVITE: no subscription ends it.
    pub(super) invited: bool,
    /// Each side's media have pinholes of their own.
    pub(super) both_translated: bool,
    /// Another dialog's media come from the same host: the callee's endpoint is named whole.
    pub(super) exact: bool,
    /// Its number among the dialogs of its call.
    pub(super) fork: u8,
    /// Of the first: one of the dialogs was confirmed.
    pub(super) settled: bool,
    /// Of the first: its pinholes are closed, and others may be open.
    pub(super) shut: bool,
    /// Of the first: a response began it, and the side that would have called has not spoken in it.
    pub(super) unasked: bool,
    /// Who called.
    pub(super) caller: Side,
    /// The caller's tag; 0 for none.
    pub(super) caller_tag: u64,
    /// Of the first: the callee's tag of each dialog; 0 for none.
    pub(super) forks: [u64; MAX_FORKS],
    /// Of the first: the tags of the dialogs that BYE has ended last, while others go on; 0 for none.
    pub(super) gone: [u64; MAX_GONE],
    /// Of the first: the contacts that are held open.
    pub(super) held: [Option<Held>; MAX_HELD],
    pub(super) media: [[Option<Medium>; MAX_MEDIA]; 2],
}

/// How much later `moment` is than `now`; 0 if it is not.
pub(super) fn left(moment: u32, now_ms: u32) -> u32 {
    u32::try_from(moment.wrapping_sub(now_ms).cast_signed()).unwrap_or_default()
}

/// Which entry a dialog has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Other(u8),
}

impl Entry for Call {
    fn key(&self) -> (u64, u64) {
        (self.flow, self.id)
    }

    fn is_live(&self, now_ms: u32) -> bool {
        !self.ended && self.left(now_ms) > 0
    }
}

impl Call {
    /// How much longer it is known without another word.
    pub(super) fn left(&self, now_ms: u32) -> u32 {
        let leaves = self.leaves_ms.map_or(u32::MAX, |leaves| left(leaves, now_ms));
        left(self.until_ms, now_ms).min(leaves)
    }

    /// The same call as the sessions see it whose initiator is at the other end.
    pub(super) fn turned(mut self) -> Self {
        self.media.reverse();
        self.caller = self.caller.other();
        self
    }

    /// The tag of a pinhole of a medium: 2 bits for the dialog, 21 for the call, 3 for the medium, 5 for the part. The highest
    /// is a contact's.
    pub(super) fn tag(&self, media: usize, part: u32) -> u32 {
        let media = u32::try_from(media).unwrap_or_default();
        u32::from(self.fork) << 29 | (self.serial & MAX_SERIAL) << 8 | media << 5 | part & 0x1f
    }

    pub(super) fn side(&self, side: Side) -> &[Option<Medium>; MAX_MEDIA] {
        let [initiator, responder] = &self.media;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    pub(super) fn side_mut(&mut self, side: Side) -> &mut [Option<Medium>; MAX_MEDIA] {
        let [initiator, responder] = &mut self.media;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    /// The callee's tag, of the two of a message: what tells the dialogs of a call apart. A message without one is of the
    /// first. 0 for none.
    pub(super) fn dialog(&self, from_tag: u64, to_tag: u64) -> u64 {
        let tag = if from_tag == self.caller_tag { to_tag } else { from_tag };
        let [first, ..] = self.forks;
        if tag == 0 { first } else { tag }
    }

    /// Where the dialog of a tag is kept, if it is known.
    pub(super) fn place(&self, tag: u64) -> Option<Place> {
        let number = if tag == 0 { 0 } else { self.forks.iter().position(|t| *t == tag)? };
        Some(if number == 0 { Place::First } else { Place::Other(u8::try_from(number).unwrap_or_default()) })
    }

    /// A place for a new dialog, if there is one.
    pub(super) fn new_place(&mut self, tag: u64) -> Option<Place> {
        let number = self.forks.iter().position(|t| *t == 0)?;
        *self.forks.get_mut(number)? = tag;
        self.shut &= number != 0;
        self.place(tag)
    }

    /// A new dialog of this call: the caller's offer goes for it as well.
    pub(super) fn forked(&self, tag: u64, number: u8) -> Self {
        let id = other_id(self.id, tag);
        let (leaves_ms, confirmed) = (None, false);
        let mut fork = Self { id, fork: number, leaves_ms, confirmed, exact: false, settled: false, ..*self };
        *fork.side_mut(self.caller.other()) = [None; MAX_MEDIA];
        fork
    }

    /// The other dialogs of the call than that of `tag`, by their tags.
    pub(super) fn others(&self, tag: u64) -> impl Iterator<Item = u64> + use<> {
        self.forks.into_iter().filter(move |t| *t != 0 && *t != tag)
    }

    /// A dialog is over. Answers whether any is left.
    pub(super) fn over(&mut self, tag: u64) -> bool {
        for fork in self.forks.iter_mut().filter(|t| **t == tag) {
            *fork = 0;
        }
        self.forks.iter().any(|t| *t != 0)
    }

    /// BYE has ended a dialog: what its phone repeats does not begin it again.
    pub(super) fn gone(&mut self, tag: u64) {
        self.gone.rotate_right(1);
        if let Some(newest) = self.gone.first_mut() {
            *newest = tag;
        }
    }

    /// The first dialog is over, and others are not: what is left is the caller's offer.
    pub(super) fn forget_first(&mut self) {
        let callee = self.caller.other();
        *self.side_mut(callee) = [None; MAX_MEDIA];
        (self.confirmed, self.exact, self.shut) = (false, false, true);
    }

    /// Notes a contact that is held open. Answers whether it is new, and which older one of the same side (a bit of the tag)
    /// it takes the place of, where there was no room. None: there is no room at all.
    pub(super) fn hold(&mut self, held: Held, side: u32) -> Option<(bool, Option<Held>)> {
        if let Some(known) = self.held.iter_mut().flatten().find(|h| h.tag == held.tag) {
            let before = core::mem::replace(&mut known.contact, held.contact);
            return Some((before != held.contact, None));
        }
        let free = self.held.iter().position(Option::is_none);
        let same = || self.held.iter().position(|h| h.is_some_and(|h| h.tag & side == held.tag & side));
        let place = free.or_else(same)?;
        let instead = self.held.get_mut(place)?.replace(held);
        Some((true, instead))
    }

    /// Takes out a contact of a dialog; 0: any.
    pub(super) fn take_held(&mut self, dialog: u64) -> Option<Held> {
        let of = |h: &Option<Held>| h.is_some_and(|h| dialog == 0 || h.dialog == dialog);
        self.held.iter_mut().find(|h| of(h))?.take()
    }
}

/// The number of another dialog of a call.
pub(super) fn other_id(id: u64, tag: u64) -> u64 {
    (id ^ tag.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// Text as a number: FNV-1a. Never 0.
pub(super) fn number_of(text: &[u8]) -> u64 {
    let hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    hash.max(1)
}

/// A Call-ID as a number: of the part before its host, which may be translated.
pub(super) fn call_id(text: &[u8]) -> u64 {
    let text = text.trim_ascii();
    let local = text.iter().position(|&b| b == b'@').map_or(text, |at| text.get(..at).unwrap_or_default());
    number_of(local)
}
