//! The read face without io_uring: pread and epoll, for kernels and policies that refuse the ring.
//!
//! Container runtimes block io_uring by default, so this face is tested like the other.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::event::epoll;
use rustix::fs::Timespec;

use super::eventfd::EventFd;
use super::ring::{Event, Ring, Token};
use crate::base::pool::Buffer;
use crate::base::time::Mono;
use crate::wake::{Rung, Wake, WakeCounters};

/// pread and epoll.
#[derive(Debug)]
pub struct PreadRing {
    wake: Wake,
    bell: EventFd,
    epoll: rustix::fd::OwnedFd,
    ended: Vec<Event>,
    woken: Vec<u32>,
}

impl PreadRing {
    /// A face over `wake`, woken by `bell` too.
    ///
    /// # Errors
    /// The system's: no descriptor is free.
    pub fn new(wake: Wake, bell: EventFd) -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&set, &bell, epoll::EventData::new_u64(0), flags)?;
        for fd in wake.fds() {
            epoll::add(&set, fd, epoll::EventData::new_u64(1), flags)?;
        }
        Ok(Self {
            wake,
            bell,
            epoll: set,
            ended: Vec::new(),
            woken: Vec::new(),
        })
    }
}

impl Ring for PreadRing {
    type File = File;

    fn read(&mut self, token: Token, file: &File, offset: u64, mut buf: Buffer, len: usize) {
        let len = len.min(buf.len());
        let result = loop {
            match rustix::io::pread(file, &mut buf[..len], offset) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.map_err(io::Error::from),
            }
        };
        self.ended.push(Event::Read { token, buf, result });
    }

    fn watch(&mut self, token: Token, file: &File, inode: u64) -> io::Result<()> {
        self.wake.watch(token.0, file.as_fd(), inode)
    }

    fn unwatch(&mut self, token: Token) {
        self.wake.unwatch(token.0);
    }

    fn arm(&mut self, token: Token) -> io::Result<()> {
        self.wake.arm(token.0)
    }

    fn expected_end(&self, token: Token) -> Option<u64> {
        self.wake.expected_end(token.0)
    }

    fn rung_of(&self, token: Token) -> Rung {
        self.wake.rung_of(token.0)
    }

    fn step_down(&mut self) -> bool {
        self.wake.step_down()
    }

    fn wake_counters(&self) -> WakeCounters {
        self.wake.counters()
    }

    fn refused(&self) -> u64 {
        self.wake.meter().refused()
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.wake.drain(&mut self.woken)?;
        events.extend(self.woken.drain(..).map(|token| Event::Woken(Token(token))));
        events.append(&mut self.ended);
        Ok(())
    }

    fn park(&mut self, now: Mono, until: Option<Mono>) -> io::Result<()> {
        if !self.ended.is_empty() {
            return Ok(());
        }
        let timeout = until.map(|until| timespec(until.0.saturating_sub(now.0)));
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(8);
        let spare = rustix::buffer::spare_capacity(&mut ready);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.bell.clear();
        Ok(())
    }
}

/// Nanoseconds as the kernel takes them.
pub(super) fn timespec(nanos: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (nanos % 1_000_000_000) as _,
    }
}
