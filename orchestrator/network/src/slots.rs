//! Which slot of a network a VM gets: a pure function of those that are taken.
//!
//! The search begins after the slot that was given last and goes round, so that an address that was just freed is the last to be
//! given again: what a peer remembers of it has time to be forgotten.

use std::collections::BTreeSet;

/// The slots of one network.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    first: u16,
    last: u16,
    given: u16,
    taken: BTreeSet<u16>,
}

impl Slots {
    /// Slots `first..=last`, all free.
    pub(crate) fn new(first: u16, last: u16) -> Self {
        Self {
            first,
            last,
            given: last,
            taken: BTreeSet::new(),
        }
    }

    /// Takes the next free slot, if there is one.
    pub(crate) fn next(&mut self) -> Option<u16> {
        let after = self.given.saturating_add(1);
        let slot = self
            .free_in(after, self.last)
            .or_else(|| self.free_in(self.first, self.given.min(self.last)))?;
        self.take(slot);
        Some(slot)
    }

    /// Takes a certain slot; false where it is taken or is none.
    pub(crate) fn take(&mut self, slot: u16) -> bool {
        let free = (self.first..=self.last).contains(&slot) && self.taken.insert(slot);
        if free {
            self.given = slot;
        }
        free
    }

    /// Frees a slot.
    pub(crate) fn free(&mut self, slot: u16) {
        self.taken.remove(&slot);
    }

    /// Slots in all.
    pub(crate) fn capacity(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)) + usize::from(self.last >= self.first)
    }

    fn free_in(&self, from: u16, to: u16) -> Option<u16> {
        let mut candidate = from;
        if from > to {
            return None;
        }
        for &taken in self.taken.range(from..=to) {
            if taken != candidate {
                break;
            }
            if taken == to {
                return None;
            }
            candidate = taken + 1;
        }
        Some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Next,
        Take(u16),
        Free(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Next),
            1 => (0_u16..40).prop_map(Step::Take),
            3 => (0_u16..40).prop_map(Step::Free),
        ]
    }

    proptest! {
        #[test]
        fn no_slot_is_given_twice_nor_refused_while_one_is_free(
            first in 2_u16..6, len in 0_u16..20, steps in prop::collection::vec(step(), 0..200)
        ) {
            let last = first + len;
            let mut slots = Slots::new(first, last);
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Next => match slots.next() {
                        Some(slot) => {
                            prop_assert!((first..=last).contains(&slot));
                            prop_assert!(model.insert(slot));
                        }
                        None => prop_assert_eq!(model.len(), slots.capacity()),
                    },
                    Step::Take(slot) => {
                        let free = (first..=last).contains(&slot) && !model.contains(&slot);
                        prop_assert_eq!(slots.take(slot), free);
                        if free { model.insert(slot); }
                    }
                    Step::Free(slot) => {
                        slots.free(slot);
                        model.remove(&slot);
                    }
                }
            }
        }

        #[test]
        fn what_was_just_freed_comes_last(len in 1_u16..30, pick in any::<prop::sample::Index>()) {
            let mut slots = Slots::new(2, 2 + len);
            let given: Vec<u16> = (0..len).map(|_| slots.next().unwrap()).collect();
            let freed = given[pick.index(given.len())];
            slots.free(freed);
            prop_assert_ne!(slots.next(), Some(freed), "one other was free");
            prop_assert_eq!(slots.next(), Some(freed));
            prop_assert_eq!(slots.next(), None);
        }
    }
}
