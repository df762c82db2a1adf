//! How much of the pool one log has.
//!
//! 1. Whoever found a share full is rung when something of it has come home.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::base::bell::Bell;

/// How many buffers of a log are at its encoder.
#[derive(Debug)]
pub struct Share {
    chunks: AtomicUsize,
    wanted: AtomicBool,
    reader: Bell,
}

/// One buffer of a log; counted as long as this lives.
#[derive(Debug)]
pub struct Held(Arc<Share>);

impl Share {
    /// Nothing held yet; `reader` is rung when a share that was full has room.
    #[must_use]
    pub fn new(reader: Bell) -> Arc<Self> {
        Arc::new(Self {
            chunks: AtomicUsize::new(0),
            wanted: AtomicBool::new(false),
            reader,
        })
    }

    /// One buffer more.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> Held {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(self))
    }

    /// Whether fewer than `most` are held. Otherwise the reader is rung when that may have changed.
    #[must_use]
    pub fn has_room(&self, most: usize) -> bool {
        if self.chunks.load(Ordering::SeqCst) < most {
            return true;
        }
        // Announced first, then looked at again: what came home in between is seen.
        self.wanted.store(true, Ordering::SeqCst);
        self.chunks.load(Ordering::SeqCst) < most
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.chunks.fetch_sub(1, Ordering::SeqCst);
        if self.0.wanted.swap(false, Ordering::SeqCst) {
            self.0.reader.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_what_is_held() {
        let share = Share::new(Bell::silent());
        let held = [share.hold(), share.hold()];
        assert!(share.has_room(3) && !share.has_room(2));
        drop(held);
        assert!(share.has_room(1));
    }
}
