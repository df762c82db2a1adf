//! What the agent's `base::sync` has, over loom.

use std::collections::VecDeque;

use loom::sync::Mutex;
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// A queue of a fixed size; its own inside is not what is modelled.
#[derive(Debug)]
pub struct ArrayQueue<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let items = Mutex::new(VecDeque::new());
        Self { items, capacity }
    }

    fn with<R>(&self, act: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        match self.items.lock() {
            Ok(mut items) => act(&mut items),
            Err(poisoned) => act(&mut poisoned.into_inner()),
        }
    }

    /// Puts an item.
    ///
    /// # Errors
    /// Gives it back when the queue is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.with(|items| {
            if items.len() >= self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        })
    }

    /// The oldest item.
    #[must_use]
    pub fn pop(&self) -> Option<T> {
        self.with(VecDeque::pop_front)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|items| items.len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }
}
