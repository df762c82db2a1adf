//! Who has new bytes: the ladder of ways in which the kernel tells a reader.
//!
//! ```text
//! Ladder::choose -> one Wake per reader
//! watch(token, file) .. arm(token) -> read to the end -> sleep on fds() -> drain -> woken tokens
//! ```
//!
//! 1. A write that begins after `arm` has returned wakes its token; one before it is seen by a read
//!    that begins after it. So the reader arms, reads once more, and sleeps.
//! 2. Between two arms of a file there is at most one event; an idle file costs nothing.
//! 3. A wake may be false (two files of one inode number), never missing; where the kernel drops
//!    events all tokens are woken, and this is counted.
//! 4. Files that the chosen hooks cannot see, and numbers that another reader holds, take inotify.
//! 5. The slow sweep is the caller's, and is the proof of 1.
//! 6. Probes that no longer announce the agent's own appends are given up while running, by all
//!    readers and for good: inotify needs no privilege.

mod btf;
mod canary;
mod ebpf;
mod flags;
mod inotify;
mod kind;
mod ladder;
mod overlay;
mod preempt;
pub mod shared;
mod slots;
mod survey;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub use canary::Canaries;
pub use ebpf::ProbeTime;
pub use ladder::{Ladder, Report, Skipped};
pub use survey::{Root, Survey, Tried};

use ebpf::{Ear, Probes};
use inotify::Inotify;

/// The rungs, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// fexit on `generic_perform_write` and its kin: fires when the size is final.
    FexitPerformWrite,
    /// BTF tracepoints: fire before the size moves, and say where it will end.
    TracepointBtf,
    /// The same tracepoints without types.
    RawTracepoint,
    /// One-shot inotify watches.
    Inotify,
    /// Nothing wakes; the sweep finds.
    SweepOnly,
}

impl Rung {
    /// All of them, best first.
    pub const ALL: [Self; 5] = [
        Self::FexitPerformWrite,
        Self::TracepointBtf,
        Self::RawTracepoint,
        Self::Inotify,
        Self::SweepOnly,
    ];

    /// Its one name in config, metrics, logs and /status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FexitPerformWrite => "fexit",
            Self::TracepointBtf => "tp_btf",
            Self::RawTracepoint => "raw_tp",
            Self::Inotify => "inotify",
            Self::SweepOnly => "sweep",
        }
    }

    /// The rung of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.name() == name)
    }
}

/// What a reader's wake source has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeCounters {
    /// Events that woke a file.
    pub events: u64,
    /// Events for a file that is no longer watched.
    pub stale: u64,
    /// Overflows of the inotify queue; each woke every file of it.
    pub overflows: u64,
}

impl WakeCounters {
    fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            stale: self.stale + other.stale,
            overflows: self.overflows + other.overflows,
        }
    }
}

/// The probes' own account, over all readers; empty where there are none. Each look is a few
/// system calls.
#[derive(Clone, Debug, Default)]
pub struct Meter(Option<Arc<Probes>>);

impl Meter {
    /// Events that the probes' rings refused: an alarm, for the file's flag was taken back and
    /// only its next write, or the sweep, finds what was written.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let refused = self.0.as_ref().and_then(|probes| probes.refused());
        refused.unwrap_or(0)
    }

    /// Whether the kernel lets the calling thread at the probes' maps; true where there are none.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|probes| probes.refused().is_some())
    }

    /// Whether the probes were given up while running; inotify serves since then.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.0.as_ref().is_some_and(|probes| probes.is_given_up())
    }

    /// Run times of the attached programs; zeros unless the kernel measures.
    #[must_use]
    pub fn times(&self) -> Vec<ProbeTime> {
        self.0
            .as_ref()
            .map_or_else(Vec::new, |probes| probes.times())
    }
}

/// By what a token is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Slot(u32),
    Inotify,
}

/// One reader's wake source.
#[derive(Debug)]
pub struct Wake {
    rung: Rung,
    ear: Option<Ear>,
    inotify: Option<Inotify>,
    /// By token.
    homes: Vec<Option<Home>>,
}

impl Wake {
    fn new(ear: Option<Ear>, inotify: Option<Inotify>) -> Self {
        let rung = ear
            .as_ref()
            .map_or_else(|| below(inotify.as_ref()), Ear::rung);
        Self {
            rung,
            ear,
            inotify,
            homes: Vec::new(),
        }
    }

    /// Canaries on the file systems of these directories, for all readers; none without probes.
    pub fn canaries(&mut self, directories: &[std::path::PathBuf]) -> Canaries {
        Canaries::keep(self, directories)
    }

    /// Goes to inotify when the probes were given up; true the one time that it did. Files that are
    /// watched by then must be watched anew.
    pub fn step_down(&mut self) -> bool {
        let given_up = self.ear.as_ref().is_some_and(Ear::is_given_up);
        if !given_up || self.rung >= Rung::Inotify {
            return false;
        }
        self.rung = below(self.inotify.as_ref());
        true
    }

    /// Nothing wakes; also what a ring leaves behind when it hands its wake source on.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, None)
    }

    /// The rung it stands on.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// The rung that wakes this file: lower than `rung` where the hooks do not see it.
    #[must_use]
    pub fn rung_of(&self, token: u32) -> Rung {
        match self.home(token) {
            Some(Home::Slot(_)) => self.rung,
            Some(Home::Inotify) => Rung::Inotify,
            None => Rung::SweepOnly,
        }
    }

    /// Whether the hooks see writes on the file system of this file; inotify serves where not.
    #[must_use]
    pub fn covers(&self, file: BorrowedFd<'_>) -> bool {
        self.ear.as_ref().is_some_and(|ear| ear.covers(file))
    }

    /// What to poll for reading; the set never changes.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ear
            .iter()
            .map(Ear::fd)
            .chain(self.inotify.iter().map(Inotify::fd))
    }

    /// Begins to watch a file, not armed. Tokens are small numbers; several may name one inode.
    /// The caller keeps `file` open until [`Wake::unwatch`].
    ///
    /// # Errors
    /// The system's, or `Unsupported` on the sweep rung. The sweep then serves the file.
    pub fn watch(&mut self, token: u32, file: impl AsFd, number: u64) -> io::Result<()> {
        let file = file.as_fd();
        self.unwatch(token);
        let home = match &mut self.ear {
            // No slot free, or another reader's number: inotify takes the file.
            Some(ear) if ear.covers(file) => {
                ear.watch(token, number)?.map_or(Home::Inotify, Home::Slot)
            }
            Some(_) | None => Home::Inotify,
        };
        if home == Home::Inotify {
            let inotify = self.inotify.as_mut().ok_or(io::ErrorKind::Unsupported)?;
            inotify.watch(token, file)?;
        }
        let index = token as usize;
        if self.homes.len() <= index {
            self.homes.resize(index + 1, None);
        }
        self.homes[index] = Some(home);
        Ok(())
    }

    /// Ends a watch; a token without one is left alone.
    pub fn unwatch(&mut self, token: u32) {
        let home = self.homes.get_mut(token as usize).and_then(Option::take);
        match (home, &mut self.ear, &mut self.inotify) {
            (Some(Home::Slot(slot)), Some(ear), _) => ear.unwatch(token, slot),
            (Some(Home::Inotify), _, Some(inotify)) => inotify.unwatch(token),
            _ => {}
        }
    }

    /// From now on the next write wakes; read once more after it.
    ///
    /// # Errors
    /// The system's, or `NotFound` for a token without a watch: the sweep serves the file.
    pub fn arm(&mut self, token: u32) -> io::Result<()> {
        match (self.home(token), &mut self.ear, &mut self.inotify) {
            (Some(Home::Slot(slot)), Some(ear), _) => {
                ear.arm(slot);
                Ok(())
            }
            (Some(Home::Inotify), _, Some(inotify)) => inotify.arm(token),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Where the last announced write ends, for hooks that fire before the size moves. A write
    /// that fails never gets there, so the caller bounds its retries.
    #[must_use]
    pub fn expected_end(&self, token: u32) -> Option<u64> {
        match (self.home(token)?, &self.ear) {
            (Home::Slot(slot), Some(ear)) => ear.expected_end(slot),
            (Home::Slot(_) | Home::Inotify, _) => None,
        }
    }

    /// Appends the woken tokens, some perhaps twice; returns how many. Never waits.
    ///
    /// # Errors
    /// The system's.
    pub fn drain(&mut self, woken: &mut Vec<u32>) -> io::Result<usize> {
        let by_probe = self.ear.as_mut().map_or(0, |ear| ear.drain(woken));
        let by_inotify = match &mut self.inotify {
            Some(inotify) => inotify.drain(woken)?,
            None => 0,
        };
        Ok(by_probe + by_inotify)
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> WakeCounters {
        let probe = self.ear.as_ref().map(|ear| ear.counters);
        let inotify = self.inotify.as_ref().map(|inotify| inotify.counters);
        probe.unwrap_or_default().plus(inotify.unwrap_or_default())
    }

    /// The probes' own account.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter(self.ear.as_ref().map(Ear::probes))
    }

    fn home(&self, token: u32) -> Option<Home> {
        self.homes.get(token as usize).copied().flatten()
    }
}

/// The rung without probes.
fn below(inotify: Option<&Inotify>) -> Rung {
    inotify.map_or(Rung::SweepOnly, |_| Rung::Inotify)
}
