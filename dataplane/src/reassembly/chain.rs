//! Doubly linked lists through the slots of a table: an item leaves the middle of one as cheaply as its end.

/// No slot.
const NONE: u16 = u16::MAX;

/// A list: its first and last slot, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u16,
    tail: u16,
    len: u16,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl List {
    /// The slot that has been in it longest.
    pub(super) const fn first(&self) -> Option<u16> {
        if self.head == NONE { None } else { Some(self.head) }
    }

    pub(super) const fn len(&self) -> u16 {
        self.len
    }
}

#[derive(Clone, Copy)]
struct Link {
    prev: u16,
    next: u16,
}

/// The links of every slot, for lists of which a slot is in one at most.
pub(super) struct Chain(Box<[Link]>);

impl Chain {
    pub(super) fn new(slots: u16) -> Self {
        Self((0..slots).map(|_| Link { prev: NONE, next: NONE }).collect())
    }

    fn set(&mut self, slot: u16, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.0.get_mut(usize::from(slot)) {
            change(link);
        }
    }

    /// The slot behind this one.
    pub(super) fn next(&self, slot: u16) -> Option<u16> {
        self.0.get(usize::from(slot)).map(|link| link.next).filter(|next| *next != NONE)
    }

    /// Puts a slot that is in no list at the end of one.
    pub(super) fn push(&mut self, list: &mut List, slot: u16) {
        let prev = list.tail;
        self.set(slot, |link| *link = Link { prev, next: NONE });
        if prev == NONE {
            list.head = slot;
        } else {
            self.set(prev, |link| link.next = slot);
        }
        list.tail = slot;
        list.len += 1;
    }

    /// Takes a slot out of the list that it is in.
    pub(super) fn remove(&mut self, list: &mut List, slot: u16) {
        let Some(Link { prev, next }) = self.0.get(usize::from(slot)).copied() else { return };
        if prev == NONE {
            list.head = next;
        } else {
            self.set(prev, |link| link.next = next);
        }
        if next == NONE {
            list.tail = prev;
        } else {
            self.set(next, |link| link.prev = prev);
        }
        list.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A list is a `Vec` that loses items anywhere.
        #[test]
        fn it_is_a_queue_with_removal(ops in proptest::collection::vec((any::<bool>(), 0u16..8), 0..60)) {
            let (mut chain, mut list, mut model) = (Chain::new(8), List::default(), Vec::new());
            for (push, slot) in ops {
                match (push, model.iter().position(|s| *s == slot)) {
                    (true, None) => {
                        chain.push(&mut list, slot);
                        model.push(slot);
                    }
                    (false, Some(at)) => {
                        chain.remove(&mut list, slot);
                        model.remove(at);
                    }
                    _ => {}
                }
                let all: Vec<_> = core::iter::successors(list.first(), |s| chain.next(*s)).collect();
                prop_assert_eq!(&all, &model);
                prop_assert_eq!(usize::from(list.len()), model.len());
            }
        }
    }
}
