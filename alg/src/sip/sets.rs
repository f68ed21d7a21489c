//! Bounded tables: what is found by a session and a number, and makes room for others once it is over.
//!
//! A table of sets, of which each entry has two to choose from: the emptier one takes it, so that sets fill evenly. An entry
//! whose time is over, or whose session is, makes room; when all of both sets live, a new one is refused.
//!
//! What has changed since [`Sets::commit`] can be taken back: a message that does not go on leaves no trace. So many changes can be;
//! one more is not made, and not forgotten: [`Sets::lacks`] says so, and the message must not go on.

const WAYS: usize = 8;
/// Most changes that can be taken back, where a table needs no more: more than a message makes.
const MOST_CHANGES: usize = 64;

/// What such a table holds.
pub(super) trait Entry: Copy {
    /// The session and the number that it is found by.
    fn key(&self) -> (u64, u64);
    /// Whether it still counts.
    fn is_live(&self, now_ms: u32) -> bool;
}

/// All of both sets live, or too much has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A place as it was before it was changed.
#[derive(Clone, Copy, Debug)]
struct Change<E> {
    set: usize,
    way: usize,
    was: Option<E>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Sets<E> {
    sets: Box<[[Option<E>; WAYS]]>,
    /// The set that [`Self::sweep`] looks at next.
    hand: usize,
    /// What has changed since [`Self::commit`]. Its room is there from the start.
    changes: Vec<Change<E>>,
    most_changes: usize,
    /// A change was not made.
    lacks: bool,
}

impl<E: Entry> Sets<E> {
    /// Room for about so many. Nothing grows later.
    pub(super) fn new(room: usize) -> Self {
        Self::with_changes(room, MOST_CHANGES)
    }

    /// The same, where so many changes can be taken back.
    pub(super) fn with_changes(room: usize, most_changes: usize) -> Self {
        Self {
            sets: vec![[None; WAYS]; room.div_ceil(WAYS).max(1)].into_boxed_slice(),
            hand: 0,
            changes: Vec::with_capacity(most_changes),
            most_changes,
            lacks: false,
        }
    }

    /// The two sets of a key; they may be the same.
    fn places(&self, (flow, id): (u64, u64)) -> [usize; 2] {
        let mixed = (flow ^ id.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        [mixed >> 32, mixed & 0xffff_ffff].map(|half| {
            usize::try_from(half).unwrap_or_default().checked_rem(self.sets.len()).unwrap_or_default()
        })
    }

    fn set(&self, place: usize) -> &[Option<E>] {
        self.sets.get(place).map_or(&[], |set| &set[..])
    }

    /// Where the first entry of a set stands of which this is true.
    fn position(&self, places: [usize; 2], is: impl Fn(&Option<E>) -> bool) -> Option<(usize, usize)> {
        places.into_iter().find_map(|place| Some((place, self.set(place).iter().position(&is)?)))
    }

    /// The entry of a key, if it lives.
    pub(super) fn get(&self, key: (u64, u64), now_ms: u32) -> Option<E> {
        self.peek(key).filter(|e| e.is_live(now_ms))
    }

    /// The entry of a key, also if it is over and has its place yet.
    pub(super) fn peek(&self, key: (u64, u64)) -> Option<E> {
        let entries = self.places(key).map(|place| self.set(place).iter().flatten());
        entries.into_iter().flatten().find(|e| e.key() == key).copied()
    }

    /// No more changes than so many from now on.
    #[cfg(test)]
    pub(super) const fn limit_changes(&mut self, most: usize) {
        self.most_changes = most;
    }

    /// What has changed so far stays.
    pub(super) fn commit(&mut self) {
        self.changes.clear();
    }

    /// Everything is as it was at the last [`Self::commit`].
    pub(super) fn undo(&mut self) {
        while let Some(Change { set, way, was }) = self.changes.pop() {
            if let Some(slot) = self.sets.get_mut(set).and_then(|set| set.get_mut(way)) {
                *slot = was;
            }
        }
        self.lacks = false;
    }

    /// Whether a change was not made, since [`Self::undo`], because it could not have been taken back.
    pub(super) const fn lacks(&self) -> bool {
        self.lacks
    }

    /// Puts something else in a place, and remembers what was there. None: too much has changed.
    fn change(&mut self, (set, way): (usize, usize), to: Option<E>) -> Option<Option<E>> {
        if self.changes.len() >= self.most_changes {
            self.lacks = true;
            return None;
        }
        let slot = self.sets.get_mut(set)?.get_mut(way)?;
        let was = core::mem::replace(slot, to);
        self.changes.push(Change { set, way, was });
        Some(was)
    }

    /// Keeps an entry. `lives` says whether a session does. Answers what it took the place of.
    ///
    /// # Errors
    /// There is no room.
    pub(super) fn put(
        &mut self,
        entry: E,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> Result<Option<E>, Full> {
        let key = entry.key();
        let mut places = self.places(key);
        let over = |e: &Option<E>| e.is_none_or(|e| !e.is_live(now_ms));
        let mut found = self.position(places, |e| e.is_some_and(|e| e.key() == key));
        if found.is_none() {
            let free = |place: usize| self.set(place).iter().filter(|e| over(e)).count();
            if free(places[1]) > free(places[0]) {
                places.reverse();
            }
            let orphan = || self.position(places, |e| e.is_some_and(|e| !lives(e.key().0)));
            found = self.position(places, over).or_else(orphan);
        }
        found.and_then(|place| self.change(place, Some(entry))).ok_or(Full)
    }

    /// Forgets the entry of a key. Answers it.
    pub(super) fn remove(&mut self, key: (u64, u64)) -> Option<E> {
        let place = self.position(self.places(key), |e| e.is_some_and(|e| e.key() == key))?;
        self.change(place, None)?
    }

    /// Forgets what is over in the next set for good, and tells of each.
    pub(super) fn sweep(&mut self, now_ms: u32, lives: impl Fn(u64) -> bool, mut forgotten: impl FnMut(E)) {
        let hand = self.hand;
        self.hand = hand.saturating_add(1).checked_rem(self.sets.len()).unwrap_or_default();
        let Some(set) = self.sets.get_mut(hand) else { return };
        for slot in set {
            if slot.is_some_and(|e| !e.is_live(now_ms) || !lives(e.key().0))
                && let Some(entry) = slot.take()
            {
                forgotten(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Until(u64, u64, u32);

    impl Entry for Until {
        fn key(&self) -> (u64, u64) {
            (self.0, self.1)
        }

        fn is_live(&self, now_ms: u32) -> bool {
            now_ms < self.2
        }
    }

    #[test]
    fn entries_come_and_go() {
        let mut sets = Sets::new(8);
        for id in 0..8 {
            assert_eq!(sets.put(Until(1, id, 100), 0, |_| true), Ok(None));
        }
        let ninth = Until(2, 100, 300);
        assert_eq!(sets.put(ninth, 99, |_| true), Err(Full), "all live");
        assert_eq!(sets.put(Until(1, 4, 400), 99, |_| true), Ok(Some(Until(1, 4, 100))), "its own place");
        assert!(sets.get((1, 3), 99).is_some() && sets.get((2, 3), 99).is_none());
        assert_eq!(sets.get((1, 3), 100), None);
        assert_eq!(sets.put(ninth, 100, |_| true), Ok(Some(Until(1, 0, 100))), "the others are over");
        assert_eq!(sets.get((1, 4), 100), Some(Until(1, 4, 400)), "one is not");
        assert_eq!(sets.remove((1, 4)), Some(Until(1, 4, 400)));
        assert_eq!((sets.get((1, 4), 100), sets.remove((1, 4))), (None, None));
    }

    #[test]
    fn entries_of_sessions_that_are_over_make_room() {
        let mut sets = Sets::new(8);
        for id in 0..8 {
            sets.put(Until(1, id, 100), 0, |_| true).unwrap();
        }
        let other = Until(2, 100, 100);
        assert_eq!(sets.put(other, 0, |flow| flow == 1), Err(Full));
        assert!(sets.put(other, 0, |flow| flow == 2).is_ok());
        assert_eq!(sets.get((2, 100), 0), Some(other));
        assert!(sets.put(other, 0, |_| false).is_ok(), "an entry keeps its own place");
    }

    #[test]
    fn sets_fill_evenly() {
        let mut sets = Sets::new(4096);
        let mut refused = 0;
        for id in 0..3072 {
            refused += u32::from(sets.put(Until(7, id * 0x1_0001, 1), 0, |_| true).is_err());
            sets.commit();
        }
        assert_eq!(refused, 0, "three quarters of the room");
        assert!((0..3072).all(|id| sets.get((7, id * 0x1_0001), 0).is_some()));
    }

    #[test]
    fn a_sweep_finds_what_is_over() {
        let mut sets = Sets::new(64);
        for id in 0..16 {
            sets.put(Until(id & 1, id, if id < 8 { 1 } else { 9 }), 0, |_| true).unwrap();
        }
        let mut found = Vec::new();
        for _ in 0..8 {
            sets.sweep(5, |flow| flow == 0, |e: Until| found.push(e.1));
        }
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15]);
        sets.sweep(5, |_| true, |_| unreachable!("once"));
    }

    #[test]
    fn what_a_message_has_changed_is_taken_back() {
        let mut sets = Sets::new(8);
        for id in 0..8 {
            sets.put(Until(1, id, 100), 0, |_| true).unwrap();
        }
        let before = sets.sets.clone();
        sets.commit();
        sets.remove((1, 2)).unwrap();
        sets.put(Until(2, 50, 500), 0, |_| true).unwrap();
        sets.put(Until(2, 50, 600), 0, |_| true).unwrap();
        sets.put(Until(3, 60, 500), 100, |_| true).unwrap();
        sets.remove((1, 5)).unwrap();
        sets.undo();
        assert_eq!(sets.sets, before);
        sets.undo();
        assert_eq!(sets.sets, before, "once");
        sets.remove((1, 2)).unwrap();
        sets.commit();
        sets.undo();
        assert_eq!(sets.peek((1, 2)), None, "it went on");
    }

    #[test]
    fn no_more_changes_than_can_be_taken_back() {
        let mut sets = Sets::new(8);
        let entry = Until(1, 1, 100);
        for _ in 0..MOST_CHANGES {
            sets.put(entry, 0, |_| true).unwrap();
        }
        let room = sets.changes.capacity();
        assert!(!sets.lacks());
        assert_eq!(sets.put(Until(1, 1, 200), 0, |_| true), Err(Full));
        assert_eq!((sets.remove((1, 1)), sets.get((1, 1), 0)), (None, Some(entry)));
        assert_eq!(sets.changes.capacity(), room, "nothing is allocated");
        assert!(sets.lacks(), "a removal that was not made is not forgotten");
        sets.undo();
        assert!(!sets.lacks());
        assert_eq!(sets.peek((1, 1)), None);
    }
}
