//! The machine's ring: io_uring where the kernel allows it, pread otherwise.

use std::fs::File;
use std::io;

use super::eventfd::EventFd;
use super::pread::PreadRing;
use super::ring::{Event, Ring, Token};
use super::uring::{Refused, UringRing};
use crate::base::pool::Buffer;
use crate::base::time::Mono;
use crate::plan::IoChoice;
use crate::wake::{Rung, Wake, WakeCounters};

/// One of the two faces.
#[derive(Debug)]
pub enum MachineRing {
    /// io_uring.
    Uring(Box<UringRing>),
    /// pread and epoll.
    Pread(Box<PreadRing>),
}

impl MachineRing {
    /// The face that `choice` and the kernel allow.
    ///
    /// # Errors
    /// The system's: io_uring was demanded and refused, or no descriptor is free.
    pub fn new(choice: IoChoice, wake: Wake, bell: EventFd) -> io::Result<Self> {
        if choice == IoChoice::Pread {
            return Ok(Self::Pread(Box::new(PreadRing::new(wake, bell)?)));
        }
        match UringRing::new(wake, bell.clone()) {
            Ok(ring) => Ok(Self::Uring(Box::new(ring))),
            Err(refused) if choice == IoChoice::Uring => Err(refused.error),
            Err(refused) => {
                let Refused { error, wake } = *refused;
                tracing::info!(%error, "io_uring is refused here; reading with pread and epoll");
                Ok(Self::Pread(Box::new(PreadRing::new(wake, bell)?)))
            }
        }
    }

    /// `io_uring` or `pread`, as in status and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "io_uring",
            Self::Pread(_) => "pread",
        }
    }
}

macro_rules! forward {
    ($self:ident, $ring:ident => $call:expr) => {
        match $self {
            MachineRing::Uring($ring) => $call,
            MachineRing::Pread($ring) => $call,
        }
    };
}

impl Ring for MachineRing {
    type File = File;

    fn read(&mut self, token: Token, file: &File, offset: u64, buf: Buffer, len: usize) {
        forward!(self, ring => ring.read(token, file, offset, buf, len));
    }

    fn watch(&mut self, token: Token, file: &File, inode: u64) -> io::Result<()> {
        forward!(self, ring => ring.watch(token, file, inode))
    }

    fn unwatch(&mut self, token: Token) {
        forward!(self, ring => ring.unwatch(token));
    }

    fn arm(&mut self, token: Token) -> io::Result<()> {
        forward!(self, ring => ring.arm(token))
    }

    fn expected_end(&self, token: Token) -> Option<u64> {
        forward!(self, ring => ring.expected_end(token))
    }

    fn rung_of(&self, token: Token) -> Rung {
        forward!(self, ring => ring.rung_of(token))
    }

    fn step_down(&mut self) -> bool {
        forward!(self, ring => ring.step_down())
    }

    fn wake_counters(&self) -> WakeCounters {
        forward!(self, ring => ring.wake_counters())
    }

    fn refused(&self) -> u64 {
        forward!(self, ring => ring.refused())
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        forward!(self, ring => ring.drain(events))
    }

    fn park(&mut self, now: Mono, until: Option<Mono>) -> io::Result<()> {
        forward!(self, ring => ring.park(now, until))
    }
}
