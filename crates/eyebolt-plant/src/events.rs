use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// What happens, and when: two things of one instant in the order in which they were planned.
#[derive(Debug)]
pub(crate) struct Events<E> {
    heap: BinaryHeap<Reverse<(Duration, u64, Slot)>>,
    slots: Vec<Option<E>>,
    free: Vec<usize>,
    planned: u64,
}

type Slot = usize;

impl<E> Default for Events<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), planned: 0 }
    }
}

impl<E> Events<E> {
    pub(crate) fn plan(&mut self, at: Duration, event: E) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(event);
        self.planned += 1;
        self.heap.push(Reverse((at, self.planned, slot)));
    }

    pub(crate) fn next(&mut self) -> Option<(Duration, E)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.slots[slot].take()?))
    }
}
