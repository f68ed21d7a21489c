//! The calls of one worker: what each side has offered, by session and Call-ID.
//!
//! A table of sets, of which each call has two to choose from: the emptier one takes it, so that sets fill evenly. A call that
//! was not heard of for its time, or whose session is over, makes room; when all of both sets live, a new call is refused and
//! counted.

use crate::contract::{Application, Endpoint, Side};
use crate::sip::sdp::MAX_MEDIA;

const WAYS: usize = 8;

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
    pub(super) count: u16,
    pub(super) tcp: bool,
    pub(super) application: Application,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Call {
    flow: u64,
    id: u64,
    /// Its part of the tags of its pinholes.
    serial: u32,
    heard_ms: u32,
    /// An INVITE was answered with 2xx.
    pub(super) confirmed: bool,
    /// Each side's media have pinholes of their own.
    pub(super) both_translated: bool,
    pub(super) media: [[Option<Medium>; MAX_MEDIA]; 2],
}

/// How long a call that is not confirmed is remembered without a word: longer than timer C (RFC 3261 §16.6).
pub(super) const EARLY_MS: u32 = 240_000;
/// How long a confirmed one is.
pub(super) const CONFIRMED_MS: u32 = 12 * 3_600_000;

impl Call {
    fn is_live(&self, now_ms: u32) -> bool {
        let limit = if self.confirmed { CONFIRMED_MS } else { EARLY_MS };
        now_ms.wrapping_sub(self.heard_ms) < limit
    }

    /// The tag of a pinhole of a medium.
    pub(super) fn tag(&self, media: usize, part: u32) -> u32 {
        let media = u32::try_from(media).unwrap_or_default();
        (self.serial & 0x000f_ffff) << 8 | media << 5 | part & 0x1f
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
}

/// The table.
#[derive(Debug)]
pub(crate) struct Calls {
    sets: Box<[[Option<Call>; WAYS]]>,
    serial: u32,
    /// How many calls found no room since the last [`Self::take_refused`].
    refused: u64,
}

impl Calls {
    pub(crate) const BYTES_A_CALL: usize = size_of::<Option<Call>>();

    /// Room for about so many.
    pub(crate) fn new(calls: usize) -> Self {
        Self {
            sets: vec![[None; WAYS]; calls.div_ceil(WAYS).max(1)].into_boxed_slice(),
            serial: 0,
            refused: 0,
        }
    }

    /// How many calls found no room since it was asked last.
    pub(crate) fn take_refused(&mut self) -> u64 {
        core::mem::take(&mut self.refused)
    }

    /// The two sets of a call; they may be the same.
    fn places(&self, flow: u64, id: u64) -> [usize; 2] {
        let mixed = (flow ^ id.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        [mixed >> 32, mixed & 0xffff_ffff].map(|half| {
            usize::try_from(half).unwrap_or_default().checked_rem(self.sets.len()).unwrap_or_default()
        })
    }

    fn set(&self, place: usize) -> &[Option<Call>] {
        self.sets.get(place).map_or(&[], |set| &set[..])
    }

    /// Where the first call of a set stands of which this is true.
    fn position(&self, places: [usize; 2], is: impl Fn(&Option<Call>) -> bool) -> Option<(usize, usize)> {
        places.into_iter().find_map(|place| Some((place, self.set(place).iter().position(&is)?)))
    }

    /// The call of a session, if it lives.
    pub(super) fn get(&mut self, flow: u64, id: u64, now_ms: u32) -> Option<Call> {
        let calls = self.places(flow, id).map(|place| self.set(place).iter().flatten());
        calls.into_iter().flatten().find(|c| c.flow == flow && c.id == id && c.is_live(now_ms)).copied()
    }

    /// The call, or a new one that is not in the table yet.
    pub(super) fn get_or_new(&mut self, flow: u64, id: u64, now_ms: u32) -> Call {
        self.get(flow, id, now_ms).unwrap_or_else(|| {
            self.serial = self.serial.wrapping_add(1);
            let serial = self.serial;
            Call {
                flow,
                id,
                serial,
                heard_ms: now_ms,
                confirmed: false,
                both_translated: false,
                media: [[None; MAX_MEDIA]; 2],
            }
        })
    }

    /// Keeps a call. `lives` says whether a session does. False: there is no room.
    #[must_use]
    pub(super) fn put(&mut self, mut call: Call, now_ms: u32, lives: impl Fn(u64) -> bool) -> bool {
        call.heard_ms = now_ms;
        let mut places = self.places(call.flow, call.id);
        let free =
            |place: usize| self.set(place).iter().filter(|c| c.is_none_or(|c| !c.is_live(now_ms))).count();
        if free(places[1]) > free(places[0]) {
            places.reverse();
        }
        let mine = self.position(places, |c| c.is_some_and(|c| c.flow == call.flow && c.id == call.id));
        let late = || self.position(places, |c| c.is_none_or(|c| !c.is_live(now_ms)));
        let orphan = || self.position(places, |c| c.is_some_and(|c| !lives(c.flow)));
        let found = mine.or_else(late).or_else(orphan);
        let Some(slot) = found.and_then(|(place, way)| self.sets.get_mut(place)?.get_mut(way)) else {
            self.refused = self.refused.saturating_add(1);
            return false;
        };
        *slot = Some(call);
        true
    }

    /// Forgets a call.
    pub(super) fn remove(&mut self, call: &Call) {
        let places = self.places(call.flow, call.id);
        if let Some((place, way)) =
            self.position(places, |c| c.is_some_and(|c| c.flow == call.flow && c.id == call.id))
            && let Some(slot) = self.sets.get_mut(place).and_then(|set| set.get_mut(way))
        {
            *slot = None;
        }
    }
}

/// A Call-ID as a number: FNV-1a over the part before its host, which may be translated.
pub(super) fn call_id(text: &[u8]) -> u64 {
    let text = text.trim_ascii();
    let local = text.iter().position(|&b| b == b'@').map_or(text, |at| text.get(..at).unwrap_or_default());
    local.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_and_go() {
        let mut calls = Calls::new(8);
        let ids: Vec<u64> = (0..8).collect();
        for id in &ids {
            let call = calls.get_or_new(1, *id, 0);
            assert!(calls.put(call, 0, |_| true));
        }
        let ninth = calls.get_or_new(2, 100, 0);
        assert!(!calls.put(ninth, 0, |_| true), "all live");
        assert_eq!((calls.take_refused(), calls.take_refused()), (1, 0));
        assert!(calls.get(1, 3, 0).is_some() && calls.get(2, 3, 0).is_none());
        assert!(calls.get(1, 3, EARLY_MS).is_none());
        let kept = Call { confirmed: true, ..calls.get(1, 4, 10).unwrap() };
        assert!(calls.put(kept, 10, |_| true));
        assert!(calls.put(ninth, EARLY_MS, |_| true), "the others are over");
        assert!(calls.get(1, 4, EARLY_MS).is_some(), "a confirmed one is not");
        calls.remove(&kept);
        assert!(calls.get(1, 4, EARLY_MS).is_none());
    }

    #[test]
    fn calls_of_sessions_that_are_over_make_room() {
        let mut calls = Calls::new(8);
        for id in 0..8 {
            let call = Call { confirmed: true, ..calls.get_or_new(1, id, 0) };
            assert!(calls.put(call, 0, |_| true));
        }
        let other = calls.get_or_new(2, 100, 0);
        assert!(!calls.put(other, 0, |flow| flow == 1));
        assert!(calls.put(other, 0, |flow| flow == 2));
        assert!(calls.get(2, 100, 0).is_some());
        let again = calls.get_or_new(2, 100, 0);
        assert!(calls.put(again, 0, |_| false), "a call keeps its own place");
    }

    #[test]
    fn the_host_of_a_call_id_does_not_count() {
        assert_eq!(call_id(b" a1b2@10.1.0.2 "), call_id(b"a1b2@198.51.100.1"));
        assert_ne!(call_id(b"a1b2"), call_id(b"a1b3"));
    }

    #[test]
    fn sets_fill_evenly() {
        let mut calls = Calls::new(4096);
        let mut refused = 0;
        for id in 0..3072 {
            let call = calls.get_or_new(7, id * 0x1_0001, 0);
            refused += u32::from(!calls.put(call, 0, |_| true));
        }
        assert_eq!(refused, 0, "three quarters of the room");
        assert!((0..3072).all(|id| calls.get(7, id * 0x1_0001, 0).is_some()));
        let call = calls.get(7, 0x1_0001, 0).unwrap();
        calls.remove(&call);
        assert_eq!(calls.get(7, 0x1_0001, 0), None);
    }
}
