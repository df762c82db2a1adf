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
use crate::base::sync::{ArrayQueue, AtomicBool, AtomicU64, Ordering};

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

/// A fixed number of bytes that are allocated elsewhere: who is about to takes them here first.
#[derive(Clone, Debug)]
pub struct Permits(Arc<Store>);

#[derive(Debug)]
struct Store {
    bytes: u64,
    free: AtomicU64,
    wanted: AtomicBool,
    bell: Bell,
}

impl Permits {
    /// Permits for `bytes` in all; `bell` rings when some come back after an `extend` has failed.
    #[must_use]
    pub fn new(bytes: u64, bell: Bell) -> Self {
        Self(Arc::new(Store {
            bytes,
            free: AtomicU64::new(bytes),
            wanted: AtomicBool::new(false),
            bell,
        }))
    }

    /// Whether a permit is for `bytes`, or for all that there are here.
    #[must_use]
    pub fn suffices(&self, permit: Option<&Permit>, bytes: u64) -> bool {
        permit.map_or(0, |permit| permit.bytes) >= bytes.min(self.0.bytes)
    }

    /// Makes a permit one that suffices; says whether it does. Otherwise it stays as it is, and the
    /// bell will ring. One of other permits goes home, as this stands for all of its bytes.
    #[must_use]
    pub fn extend(&self, permit: &mut Option<Permit>, bytes: u64) -> bool {
        if self.suffices(permit.as_ref(), bytes) {
            return true;
        }
        let own = permit
            .as_ref()
            .filter(|own| Arc::ptr_eq(&own.home, &self.0));
        let has = own.map_or(0, |own| own.bytes);
        let bytes = bytes.min(self.0.bytes);
        // Announced first, then looked again, as in [`Pool::take`].
        if !self.0.take(bytes - has) {
            self.0.wanted.store(true, Ordering::SeqCst);
            if !self.0.take(bytes - has) {
                return false;
            }
        }
        match permit {
            Some(own) if has > 0 => own.bytes = bytes,
            _ => {
                let home = Arc::clone(&self.0);
                *permit = Some(Permit { bytes, home });
            }
        }
        true
    }
}

impl Store {
    fn take(&self, bytes: u64) -> bool {
        let order = Ordering::SeqCst;
        let left = |free: u64| free.checked_sub(bytes);
        self.free.fetch_update(order, order, left).is_ok()
    }
}

/// So many bytes may be allocated; it goes home by being dropped.
#[derive(Debug)]
pub struct Permit {
    bytes: u64,
    home: Arc<Store>,
}

impl Permit {
    /// Takes off what it has beyond `bytes`.
    #[must_use]
    pub fn split_off(&mut self, bytes: u64) -> Option<Self> {
        let beyond = self.bytes.checked_sub(bytes).filter(|beyond| *beyond > 0)?;
        self.bytes = bytes;
        Some(Self {
            bytes: beyond,
            home: Arc::clone(&self.home),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let _ = self.home.free.fetch_add(self.bytes, Ordering::SeqCst);
        if self.home.wanted.swap(false, Ordering::SeqCst) {
            self.home.bell.ring();
        }
    }
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
    #[test]
    fn a_permit_grows_and_goes_home_in_pieces() {
        let permits = Permits::new(100, Bell::silent());
        let (mut first, mut second) = (None, None);
        assert!(permits.extend(&mut first, 30) && permits.extend(&mut first, 90));
        assert!(!permits.extend(&mut second, 20), "10 are left");
        drop(first.as_mut().and_then(|permit| permit.split_off(80)));
        assert!(permits.extend(&mut second, 20));
        // What others gave goes home, and nobody gets more than all of it.
        let others = Permits::new(50, Bell::silent());
        assert!(others.extend(&mut second, 1_000) && !others.extend(&mut None, 1));
        assert!(permits.extend(&mut first, 101) && !permits.extend(&mut None, 1));
        drop(first);
        assert!(permits.extend(&mut second, 60), "all of it is there again");
    }
}
