//! Many seeds, each on one thread, several at a time.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::run::{Summary, run};
use crate::scenario::{SEEDS, Scenario};

/// Exit code of a run with a seed that failed: 3, which neither cargo nor a panic gives.
pub const FAILED: u8 = 3;

/// What many runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    seeds: u64,
    records: u64,
    again: u64,
    late: u64,
    excused: u64,
    taken: u64,
    crashes: u64,
    detaches: u64,
    rotations: u64,
    deletions: u64,
}

impl Total {
    fn add(&mut self, summary: &Summary) {
        self.records += summary.counts.records;
        self.again += summary.counts.again;
        self.late += summary.counts.late;
        self.excused += summary.counts.excused;
        self.taken += summary.counts.taken;
        self.crashes += summary.crashes;
        self.detaches += summary.detaches;
        self.rotations += summary.rotations;
        self.deletions += summary.deletions;
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seeds: {} records, {} again, {} late, {} excused ({} by crashes); {} crashes, {} detaches, \
             {} rotations, {} deletions",
            self.seeds,
            self.records,
            self.again,
            self.late,
            self.excused,
            self.taken,
            self.crashes,
            self.detaches,
            self.rotations,
            self.deletions,
        )
    }
}

/// Runs the seeds below `seeds`, `until_red` only up to the first that fails; gives what they came
/// to, and those that failed with their reason.
#[must_use]
pub fn run_all(seeds: u64, until_red: bool) -> (Total, Vec<(u64, String)>) {
    play(seeds, until_red, &|seed| run(seed, false))
}

/// Plays a scenario with all its seeds, as `run_all` does.
#[must_use]
pub fn run_scenario(scenario: &Scenario, until_red: bool) -> (Total, Vec<(u64, String)>) {
    play(SEEDS, until_red, &|seed| scenario.run(seed, false))
}

fn play(
    seeds: u64,
    until_red: bool,
    one: &(dyn Fn(u64) -> Result<Summary, String> + Sync),
) -> (Total, Vec<(u64, String)>) {
    let total = Total {
        seeds,
        ..Total::default()
    };
    let next = AtomicU64::new(0);
    let found = Mutex::new((total, Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let red = || {
                let found = found.lock().unwrap_or_else(PoisonError::into_inner);
                !found.1.is_empty()
            };
            if seed >= seeds || (until_red && red()) {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(|| one(seed)));
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(Ok(summary)) => found.0.add(&summary),
                Ok(Err(error)) => found.1.push((seed, error)),
                Err(_) => found.1.push((seed, "a panic, printed above".to_owned())),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (total, mut failed) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    (total, failed)
}
