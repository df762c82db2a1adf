//! The fixed set of buffers that bytes off disk live in.
//!
//! ```text
//! Pool::take -> Buffer -> (ring reads into it) -> Chunk -> encoder drops it -> back in the pool
//! ```
//!
//! 1. A pool makes all its buffers at its start and never another.
//! 2. No free buffer, no read: taking fails, and the bell rings when one comes back.
//! 3. A buffer goes home by being dropped, on whichever thread that is.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::base::bell::Bell;
use crate::base::sync::{ArrayQueue, AtomicBool, Ordering};

/// A fixed set of equal buffers.
#[derive(Clone, Debug)]
pub struct Pool {
    home: Arc<Home>,
}

#[derive(Debug)]
struct Home {
    free: ArrayQueue<Box<[u8]>>,
    starved: AtomicBool,
    bell: Bell,
    buffer_bytes: usize,
}

impl Pool {
    /// `count` buffers of `buffer_bytes` bytes each; `bell` rings when a buffer comes back after a
    /// `take` has failed.
    #[must_use]
    pub fn new(count: usize, buffer_bytes: usize, bell: Bell) -> Self {
        let free = ArrayQueue::new(count.max(1));
        for _ in 0..count.max(1) {
            // The queue was made for exactly this many.
            let _ = free.push(vec![0u8; buffer_bytes].into_boxed_slice());
        }
        Self {
            home: Arc::new(Home {
                free,
                starved: AtomicBool::new(false),
                bell,
                buffer_bytes,
            }),
        }
    }

    /// A free buffer, or none: then the bell will ring.
    #[must_use]
    pub fn take(&self) -> Option<Buffer> {
        if let Some(bytes) = self.home.free.pop() {
            return Some(Buffer {
                bytes: Some(bytes),
                home: Arc::clone(&self.home),
            });
        }
        // Announce the hunger first, then look again: a buffer that came home in between is seen.
        self.starve();
        let bytes = self.home.free.pop()?;
        Some(Buffer {
            bytes: Some(bytes),
            home: Arc::clone(&self.home),
        })
    }

    /// The bell rings when the next buffer comes home.
    fn starve(&self) {
        self.home.starved.store(true, Ordering::SeqCst);
    }

    /// How many buffers are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.home.free.len()
    }

    /// How many buffers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.home.free.capacity()
    }

    /// The size of each buffer in bytes.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.home.buffer_bytes
    }
}

/// One buffer of a pool; its address is stable while it lives.
pub struct Buffer {
    /// `None` only inside `drop`.
    bytes: Option<Box<[u8]>>,
    home: Arc<Home>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            let _ = self.home.free.push(bytes);
            if self.home.starved.swap(false, Ordering::SeqCst) {
                self.home.bell.ring();
            }
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

/// A fixed number of permits: a pool of buffers without bytes.
#[derive(Clone, Debug)]
pub struct Permits(Pool);

impl Permits {
    /// `count` permits, one at the least; `bell` rings when one comes back after a `take` has failed.
    #[must_use]
    pub fn new(count: usize, bell: Bell) -> Self {
        Self(Pool::new(count, 0, bell))
    }

    /// A permit, if `reserve` are left after it (of a single one, none needs to be); or none: then the
    /// bell will ring.
    #[must_use]
    pub fn take(&self, reserve: usize) -> Option<Permit> {
        let reserve = reserve.min(self.0.count() - 1);
        if self.0.free() <= reserve {
            // Announced first, then looked again, as in [`Pool::take`].
            self.0.starve();
            if self.0.free() <= reserve {
                return None;
            }
        }
        self.0.take().map(|home| Permit { _home: home })
    }
}

/// One permit; it goes home by being dropped.
#[derive(Debug)]
pub struct Permit {
    _home: Buffer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pool_gives_nothing_until_a_buffer_comes_home() {
        let pool = Pool::new(2, 16, Bell::silent());
        let (first, second) = (pool.take(), pool.take());
        assert!(first.is_some() && second.is_some() && pool.take().is_none());
        drop(first);
        assert_eq!(pool.free(), 1);
        assert!(pool.take().is_some());
    }
}
