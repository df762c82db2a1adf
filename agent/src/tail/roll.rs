//! The roll: by which rung each open file is watched, and how often that rung woke it.
//!
//! ```text
//! reader: enter -> Entry (woke, late, asleep) .. leave        /status: of(log), asleep
//! ```
//!
//! 1. A wake is a few relaxed additions; the lock is taken when a file comes or leaves, or is asked for.
//! 2. It has an entry for each open file; a closed file's wakes are added to its log's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::SmallVec;

use crate::base::bell::Bell;
use crate::base::count::{Counter, Registry};
use crate::ticket::LogId;
use crate::wake::{Rung, WakeCounters};

/// How many rungs there are.
const RUNGS: usize = Rung::ALL.len();

/// One open file.
#[derive(Debug)]
pub struct Entry {
    /// Its inode number.
    pub inode: u64,
    /// What wakes it.
    pub rung: Rung,
    /// Events that its rung had for it.
    pub wakes: Counter,
    /// Those that found it asleep.
    pub roused: Counter,
    /// Times that only the sweep found it.
    pub late: Counter,
    asleep: AtomicBool,
    overlooked: AtomicBool,
}

impl Entry {
    /// Whether it is armed, and was read to its end after that.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Whether the sweep alone has found it of late, so that it is swept more often.
    #[must_use]
    pub fn is_overlooked(&self) -> bool {
        self.overlooked.load(Ordering::Relaxed)
    }

    pub(super) fn set_overlooked(&self, overlooked: bool) {
        self.overlooked.store(overlooked, Ordering::Relaxed);
    }

    pub(super) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
    }
}

/// One container log.
#[derive(Clone, Debug, Default)]
pub struct LogRoll {
    /// Its open files, in the order in which they were found.
    pub files: SmallVec<[Arc<Entry>; 1]>,
    /// Wakes of closed files by rung, in the order of [`Rung::ALL`]; none before there was one.
    past: Option<Box<[u64; RUNGS]>>,
}

impl LogRoll {
    /// Wakes by rung, files that are closed by now included.
    #[must_use]
    pub fn wakes(&self) -> Vec<(Rung, u64)> {
        let mut wakes = self.past.as_deref().copied().unwrap_or_default();
        for file in &self.files {
            wakes[file.rung as usize] += file.wakes.get();
        }
        Rung::ALL.into_iter().zip(wakes).collect()
    }

    /// The lowest rung that one of its open files is watched by.
    #[must_use]
    pub fn rung(&self) -> Option<Rung> {
        self.files.iter().map(|file| file.rung).max()
    }
}

/// The roll of all readers, and what their wake sources count.
#[derive(Debug)]
pub struct Roll {
    logs: Mutex<BTreeMap<LogId, LogRoll>>,
    wakes: [Arc<Counter>; RUNGS],
    /// Wakes of sleeping files.
    pub roused: Arc<Counter>,
    events: Arc<Counter>,
    stale: Arc<Counter>,
    overflows: Arc<Counter>,
    /// Events that the probes' rings refused, as of the last look at them.
    pub refused: Arc<Counter>,
    /// Sweeps that were done, over all readers.
    pub sweeps: Arc<Counter>,
    /// Sweeps that a refusal called for.
    pub alarms: Arc<Counter>,
    /// How often somebody has asked for the sizes of the files.
    asked: AtomicU64,
    /// By reader: the last question that it has answered.
    answered: Mutex<Vec<u64>>,
    /// Who asks.
    asker: OnceLock<Bell>,
    /// Rounds of the canaries.
    pub rounds: Arc<Counter>,
    /// Rungs that were given up while running.
    pub stepdowns: Arc<Counter>,
}

impl Roll {
    /// An empty roll.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let count = |name, help| registry.counter(name, help, &[]);
        Self {
            logs: Mutex::default(),
            wakes: Rung::ALL.map(|rung| {
                registry.counter(
                    "tailwake_wakes_total",
                    "Files woken, by rung.",
                    &[("rung", rung.name())],
                )
            }),
            roused: count(
                "tailwake_wakes_roused_total",
                "Wakes that found their file asleep.",
            ),
            events: count(
                "tailwake_wake_events_total",
                "Events of the wake sources that woke a file.",
            ),
            stale: count(
                "tailwake_wake_stale_total",
                "Events for files that were no longer watched.",
            ),
            overflows: count(
                "tailwake_wake_overflows_total",
                "Overflows of inotify queues; each woke every file of its reader.",
            ),
            refused: count(
                "tailwake_wake_refused_total",
                "Events that the probes' rings refused: an alarm.",
            ),
            sweeps: registry.counter(
                "tailwake_sweeps_total",
                "Sweeps of all sizes or names.",
                &[("of", "files")],
            ),
            rounds: registry.counter(
                "tailwake_sweeps_total",
                "Sweeps of all sizes or names.",
                &[("of", "rungs")],
            ),
            stepdowns: count(
                "tailwake_rung_stepdowns_total",
                "Rungs that were given up while running.",
            ),
            alarms: count(
                "tailwake_sweep_alarms_total",
                "Sweeps because a probe's ring had refused an event.",
            ),
            asked: AtomicU64::new(0),
            answered: Mutex::default(),
            asker: OnceLock::new(),
        }
    }

    /// Who is rung when a reader has answered.
    pub fn tell(&self, asker: Bell) {
        let _ = self.asker.set(asker);
    }

    /// Asks the readers for the sizes of their files; each answers in its next turn, for which it is
    /// to be rung. Gives the question's number.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether the first `readers` readers have answered the question.
    #[must_use]
    pub fn is_answered(&self, question: u64, readers: usize) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.len() >= readers && answered.iter().all(|answer| *answer >= question)
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn answer(&self, reader: usize, question: u64) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let readers = answered.len().max(reader + 1);
        answered.resize(readers, 0);
        answered[reader] = question;
        drop(answered);
        if let Some(asker) = self.asker.get() {
            asker.ring();
        }
    }

    /// A file was opened.
    pub(super) fn enter(&self, log: LogId, rung: Rung, inode: u64) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            inode,
            rung,
            wakes: Counter::default(),
            roused: Counter::default(),
            late: Counter::default(),
            asleep: AtomicBool::new(false),
            overlooked: AtomicBool::new(false),
        });
        let mut logs = self.lock();
        logs.entry(log).or_default().files.push(Arc::clone(&entry));
        entry
    }

    /// A file was closed.
    pub(super) fn leave(&self, log: LogId, entry: &Arc<Entry>) {
        let mut logs = self.lock();
        let Some(roll) = logs.get_mut(&log) else {
            return;
        };
        roll.files.retain(|other| !Arc::ptr_eq(other, entry));
        roll.past.get_or_insert_default()[entry.rung as usize] += entry.wakes.get();
    }

    /// A log has ended.
    pub(super) fn forget(&self, log: LogId) {
        self.lock().remove(&log);
    }

    /// The file's rung had an event for it.
    pub(super) fn woke(&self, entry: &Entry, was_asleep: bool) {
        entry.wakes.add(1);
        entry.roused.add(u64::from(was_asleep));
        self.roused.add(u64::from(was_asleep));
        self.wakes[entry.rung as usize].add(1);
    }

    /// What a wake source has counted between two looks at it.
    pub(super) fn count(&self, before: WakeCounters, now: WakeCounters) {
        self.events.add(now.events - before.events);
        self.stale.add(now.stale - before.stale);
        self.overflows.add(now.overflows - before.overflows);
    }

    /// What the wake sources of all readers have done.
    #[must_use]
    pub fn counters(&self) -> WakeCounters {
        WakeCounters {
            events: self.events.get(),
            stale: self.stale.get(),
            overflows: self.overflows.get(),
        }
    }

    /// Wakes by rung, over all files.
    #[must_use]
    pub fn wakes(&self) -> Vec<(Rung, u64)> {
        let wakes = self.wakes.iter().map(|count| count.get());
        Rung::ALL.into_iter().zip(wakes).collect()
    }

    /// One log's, where a file of it is or was open.
    #[must_use]
    pub fn of(&self, log: LogId) -> Option<LogRoll> {
        self.lock().get(&log).cloned()
    }

    /// How many files are open, and how many of them sleep.
    #[must_use]
    pub fn asleep(&self) -> (usize, usize) {
        let logs = self.lock();
        let files = logs.values().flat_map(|roll| &roll.files);
        files.fold((0, 0), |(open, asleep), file| {
            (open + 1, asleep + usize::from(file.is_asleep()))
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LogId, LogRoll>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_files_wakes_stay_with_its_log() {
        let registry = Registry::default();
        let (roll, log) = (Roll::new(&registry), LogId(1));
        let old = roll.enter(log, Rung::TracepointBtf, 7);
        let new = roll.enter(log, Rung::Inotify, 8);
        roll.woke(&old, true);
        roll.woke(&old, false);
        roll.woke(&new, true);
        new.set_asleep(true);
        assert_eq!((roll.asleep(), old.roused.get()), ((2, 1), 1));
        roll.leave(log, &old);
        let of = roll.of(log).unwrap_or_default();
        assert_eq!(of.rung(), Some(Rung::Inotify));
        let woken = |wakes: Vec<(Rung, u64)>| -> Vec<_> {
            wakes.into_iter().filter(|(_, count)| *count > 0).collect()
        };
        let want = [(Rung::TracepointBtf, 2), (Rung::Inotify, 1)];
        assert_eq!(woken(of.wakes()), want);
        assert_eq!(woken(roll.wakes()), want);
        assert_eq!(registry.value("tailwake_wakes_total"), 3);
        roll.forget(log);
        assert_eq!(roll.of(log).map(|of| of.files.len()), None);
    }
}
