//! A queue with the bell of who takes from it.
//!
//! 1. The bell rings after the item is in: who takes the ringing back and then looks misses none.

use crate::base::bell::Bell;
use crate::base::sync::ArrayQueue;

/// The queue.
#[derive(Debug)]
pub struct Belled<T> {
    queue: ArrayQueue<T>,
    bell: Bell,
}

impl<T> Belled<T> {
    /// An empty queue of this size.
    #[must_use]
    pub fn new(capacity: usize, bell: Bell) -> Self {
        let queue = ArrayQueue::new(capacity);
        Self { queue, bell }
    }

    /// Puts an item and rings.
    ///
    /// # Errors
    /// Gives the item back when the queue is full.
    pub fn put(&self, item: T) -> Result<(), T> {
        self.queue.push(item)?;
        self.bell.ring();
        Ok(())
    }

    /// The oldest item.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
