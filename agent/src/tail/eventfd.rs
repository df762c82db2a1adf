//! The reader's bell: an event descriptor that its one wait point listens to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::base::bell::{Bell, Ring};

/// An event descriptor that others ring.
#[derive(Clone, Debug)]
pub struct EventFd(Arc<OwnedFd>);

impl EventFd {
    /// A new descriptor, not rung.
    ///
    /// # Errors
    /// The system's: no descriptor is free.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// The bell that rings it.
    #[must_use]
    pub fn bell(&self) -> Bell {
        Bell::new(Arc::new(self.clone()))
    }

    /// Takes the ringing back, after it was heard.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // EAGAIN: nobody has rung.
        let _ = rustix::io::read(&*self.0, &mut count);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Ring for EventFd {
    fn ring(&self) {
        // EAGAIN: it has been rung 2^64 - 2 times and not been heard; it will be.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}
