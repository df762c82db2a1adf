//! A bell: how one thread tells another that there is something to do.
//!
//! Ringing is cheap, may be done by anybody, and is remembered: a bell rung before the other side
//! sleeps wakes it at once.

use std::fmt;
use std::sync::Arc;

/// Something that can be rung. Implemented by event descriptors, parkers, and the simulator.
pub trait Ring: Send + Sync {
    /// Wakes the owner, now or at its next attempt to sleep.
    fn ring(&self);
}

/// A shared bell. `Bell::silent()` rings nobody: tests and the simulator poll instead.
#[derive(Clone)]
pub struct Bell(Option<Arc<dyn Ring>>);

impl Bell {
    /// A bell that rings `target`.
    #[must_use]
    pub fn new(target: Arc<dyn Ring>) -> Self {
        Self(Some(target))
    }

    /// A bell that nobody hears.
    #[must_use]
    pub const fn silent() -> Self {
        Self(None)
    }

    /// Rings.
    pub fn ring(&self) {
        if let Some(target) = &self.0 {
            target.ring();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Bell"
        } else {
            "Bell(silent)"
        })
    }
}
