//! The read face on io_uring: reads, wakes, the bell and the timeout end in one `io_uring_enter`.
//!
//! 1. A buffer given to the kernel stands in `flying` until its completion was taken: its address
//!    is stable and nobody else touches it.
//! 2. Polls are multishot and are put again when the kernel ends them.
//! 3. Dropping the ring waits for the reads under way.
//! 4. From its first submission on the ring takes reads and polls, and nothing can be registered
//!    with it: seccomp does not see what goes through a ring, so the ring itself refuses. Kernels
//!    before 5.10 have no such rings; there it takes all that the thread may do.
//!
//! Deliberately absent: registered buffers. A READ_FIXED of 64 KiB from the page cache costs 90 to
//! 96 % of a READ (3.2 against 3.5 us, `examples/ring_bench.rs`): 5 ms of the 2.7 s of CPU that a GB
//! takes. Registering locks the pool in memory, and where `RLIMIT_MEMLOCK` says ENOMEM there would
//! be a second way to read. Without them nothing is there that ENOMEM could take away.

#![expect(unsafe_code, reason = "submissions hand addresses to the kernel")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use io_uring::register::Restriction;
use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::eventfd::EventFd;
use super::ring::{Event, Ring, Token};
use crate::base::pool::Buffer;
use crate::base::time::Mono;
use crate::wake::{Rung, Wake, WakeCounters};

/// Submissions that fit at once; more are submitted in several calls.
const ENTRIES: u32 = 256;

/// Marks completions of polls; the rest is the place in `polled`.
const POLL: u64 = 1 << 63;

/// io_uring.
pub struct UringRing {
    ring: IoUring,
    wake: Wake,
    bell: EventFd,
    /// Descriptors polled for: the bell first, then the wake source's.
    polled: Vec<RawFd>,
    flying: Vec<Option<(Token, Buffer)>>,
    free: Vec<usize>,
    flights: usize,
    woken: Vec<u32>,
    /// Places in `polled` that are polled no more.
    unpolled: Vec<usize>,
    /// Reads that the ring did not take.
    grounded: Vec<Event>,
}

/// The kernel refused; the wake source comes back for the other face.
#[derive(Debug)]
pub struct Refused {
    /// What the kernel said.
    pub error: io::Error,
    /// The wake source.
    pub wake: Wake,
}

impl UringRing {
    /// A ring over `wake`, woken by `bell` too. `wake` comes back when the kernel refuses.
    ///
    /// # Errors
    /// The system's: `EPERM` or `ENOSYS` where policy or kernel refuse io_uring.
    pub fn new(wake: Wake, bell: EventFd) -> Result<Self, Box<Refused>> {
        let ring = match make() {
            Ok(ring) => ring,
            Err(error) => return Err(Box::new(Refused { error, wake })),
        };
        let mut polled = vec![bell.as_fd().as_raw_fd()];
        polled.extend(wake.fds().map(|fd| fd.as_raw_fd()));
        let mut this = Self {
            ring,
            wake,
            bell,
            polled,
            flying: Vec::new(),
            free: Vec::new(),
            flights: 0,
            woken: Vec::new(),
            unpolled: Vec::new(),
            grounded: Vec::new(),
        };
        for place in 0..this.polled.len() {
            if let Err(error) = this.poll(place) {
                let wake = this.into_wake();
                return Err(Box::new(Refused { error, wake }));
            }
        }
        Ok(this)
    }

    fn into_wake(mut self) -> Wake {
        std::mem::replace(&mut self.wake, Wake::none())
    }

    fn poll(&mut self, place: usize) -> io::Result<()> {
        let fd = types::Fd(self.polled[place]);
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .multi(true)
            .build();
        self.push(&entry.user_data(POLL | place as u64))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what the entry points to stands in `flying`, or is a descriptor that lives
            // as long as the ring.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn land(&mut self, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let data = entry.user_data();
        if data & POLL != 0 {
            let place = (data & !POLL) as usize;
            if place == 0 {
                self.bell.clear();
            }
            if !cqueue::more(entry.flags()) {
                self.unpolled.push(place);
            }
            return;
        }
        let place = data as usize;
        if let Some((token, buf)) = self.flying.get_mut(place).and_then(Option::take) {
            self.free.push(place);
            self.flights -= 1;
            let result = usize::try_from(entry.result())
                .map_err(|_| io::Error::from_raw_os_error(-entry.result()));
            events.push(Event::Read { token, buf, result });
        }
    }

    /// Polls again what has ended to be polled; what the ring does not take now, the next time.
    fn poll_again(&mut self) -> io::Result<()> {
        while let Some(&place) = self.unpolled.last() {
            self.poll(place)?;
            self.unpolled.pop();
        }
        Ok(())
    }
}

/// A ring that takes no more than this face uses, or, where that is refused, any ring.
fn make() -> io::Result<IoUring> {
    match make_restricted() {
        Ok(ring) => Ok(ring),
        Err(error) => {
            let ring = IoUring::builder().setup_clamp().build(ENTRIES)?;
            tracing::info!(%error, "the ring cannot be restricted (Linux 5.10); it takes every operation");
            Ok(ring)
        }
    }
}

fn make_restricted() -> io::Result<IoUring> {
    let ring = IoUring::builder()
        .setup_clamp()
        .setup_r_disabled()
        .build(ENTRIES)?;
    let mut allowed = [
        Restriction::sqe_op(opcode::Read::CODE),
        Restriction::sqe_op(opcode::PollAdd::CODE),
    ];
    let submitter = ring.submitter();
    submitter.register_restrictions(&mut allowed)?;
    submitter.register_enable_rings()?;
    Ok(ring)
}

impl Ring for UringRing {
    type File = File;

    fn read(&mut self, token: Token, file: &File, offset: u64, mut buf: Buffer, len: usize) {
        let len = len.min(buf.len()) as u32;
        let address = buf.as_mut_ptr();
        let place = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            self.flying.len() - 1
        });
        self.flying[place] = Some((token, buf));
        self.flights += 1;
        let fd = types::Fd(file.as_raw_fd());
        let entry = opcode::Read::new(fd, address, len).offset(offset).build();
        if let Err(error) = self.push(&entry.user_data(place as u64))
            && let Some((token, buf)) = self.flying[place].take()
        {
            // It never took off: it has failed, and is tried again like any other read.
            self.free.push(place);
            self.flights -= 1;
            let result = Err(error);
            self.grounded.push(Event::Read { token, buf, result });
        }
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
        // An error is told of when all has been taken that is there.
        let submitted = self.ring.submit();
        let landed: Vec<cqueue::Entry> = self.ring.completion().collect();
        landed.iter().for_each(|entry| self.land(entry, events));
        events.append(&mut self.grounded);
        let polled = self.poll_again();
        let drained = self.wake.drain(&mut self.woken);
        events.extend(self.woken.drain(..).map(|token| Event::Woken(Token(token))));
        submitted.and(polled).and(drained).map(drop)
    }

    fn park(&mut self, now: Mono, until: Option<Mono>) -> io::Result<()> {
        if !self.grounded.is_empty() {
            return Ok(());
        }
        let wait = match until {
            None => self.ring.submit_and_wait(1),
            Some(until) => {
                let nanos = until.0.saturating_sub(now.0);
                let span = types::Timespec::new()
                    .sec(nanos / 1_000_000_000)
                    .nsec((nanos % 1_000_000_000) as u32);
                let args = types::SubmitArgs::new().timespec(&span);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match wait {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl Drop for UringRing {
    fn drop(&mut self) {
        let mut events = Vec::new();
        while self.flights > 0 && self.ring.submit_and_wait(1).is_ok() {
            let landed: Vec<cqueue::Entry> = self.ring.completion().collect();
            landed
                .iter()
                .for_each(|entry| self.land(entry, &mut events));
        }
        // Reads that never landed keep their buffers from being given to anybody else.
        std::mem::forget(std::mem::take(&mut self.flying));
    }
}

impl std::fmt::Debug for UringRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringRing")
            .field("flights", &self.flights)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Skips where the kernel has no ring, or none that can be restricted.
    #[test]
    fn a_ring_takes_reads_and_polls_alone() {
        let Ok(mut ring) = make_restricted() else {
            return;
        };
        let mut answer = |entry: squeue::Entry| {
            // SAFETY: the operations point to nothing.
            unsafe { ring.submission().push(&entry) }.unwrap();
            let submitted = ring.submit_and_wait(1);
            let landed = ring.completion().next().map(|entry| entry.result());
            submitted.map(|_| landed)
        };
        let nop = answer(opcode::Nop::new().build());
        assert!(
            matches!(nop, Ok(Some(code)) if code == -libc::EACCES),
            "{nop:?}"
        );
        let read = opcode::Read::new(types::Fd(-1), std::ptr::null_mut(), 0).build();
        let read = answer(read);
        assert!(
            matches!(read, Ok(Some(code)) if code == -libc::EBADF),
            "{read:?}"
        );
        let refused = ring.submitter().register_eventfd(0).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }
}
