//! Proves the arm and wake protocol on the running kernel: bursts of appends, none left unread.
//!
//! ```text
//! writers: 1-3 appends to one of a few files -> wait until the reader has read them all
//! reader:  poll -> drain -> arm -> read to the end (and to the expected end) -> poll
//! ```
//!
//! 1. No sweep and no timer reads: a burst that is not announced stays unread, and is counted.
//! 2. Every byte is checked against its position.
//! 3. Reader and writers have a CPU each and the reader looks without sleeping at first, or their
//!    steps would never overlap; [`Fault`] shows that a wrong protocol is then found.
//! 4. Two writers share their CPU with a thread that wakes all the while, so that they lose it at any
//!    step: also between hook and return, where the kernel can be preempted. How often is counted.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use tailwake::wake::{Ladder, Report, Rung, Wake, WakeCounters};

use crate::choice;

/// Writers; each has its own share of the files.
const WRITERS: usize = 2;
/// The least nanoseconds until the thread that takes the CPU from them takes it again.
const JOLT_NS: i64 = 50_000;
/// Files written to in turn.
const FILES: usize = 4;
/// Bytes per append: odd, so that pages are crossed.
const APPEND_BYTES: usize = 101;
/// A burst that is not read after the reader has slept and looked this often counts as unread. Looks
/// and not time: a loaded machine may let a thread wait for seconds.
const PATIENCE: u64 = 50;
/// While a fault is sought, where unread bursts are what is wanted, time is enough.
const PATIENCE_FAULTY: Duration = Duration::from_millis(5);
/// Looks at the wake source without sleeping before each sleep.
const LOOKS: u32 = 2000;
/// Nanoseconds at most between two appends of a burst, and before a woken file is served: about
/// what a wake takes, so that appends fall on every step of the reader.
const APPEND_GAP_NS: u64 = 60_000;
const SERVE_GAP_NS: u64 = 20_000;
/// Reads that may come back short of the expected end.
const SHORT_READS_MAX: u32 = 1_000_000;
/// The bytes are the position modulo this.
const LENGTH_PERIOD: usize = 251;

/// A protocol that is wrong on purpose: the stress must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The protocol as it is.
    None,
    /// Armed after the last read: a write between the two is announced to nobody.
    ArmAfterRead,
    /// The expected end is not waited for.
    IgnoreEnd,
}

/// What came out.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The rung was loaded and run.
    Ran(Tally),
    /// The kernel refused the rung.
    Refused(Report),
}

/// The account of one run.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// The rung that woke every file.
    rung: Rung,
    /// Bursts written.
    bursts: u64,
    /// Times that a writer lost its CPU unasked.
    preempted: u64,
    /// Bursts that nobody announced.
    unread: u64,
    /// Bytes written.
    bytes: u64,
    /// Bytes that were not what was written.
    altered: u64,
    /// Reads that came back short of the announced end and were repeated.
    short_reads: u64,
    /// The wake source's own account.
    counters: WakeCounters,
    /// Events that the probes' ring refused.
    refused: u64,
    /// How long it took.
    took: Duration,
}

impl Tally {
    /// Whether nothing was left unread, altered or refused.
    fn is_clean(&self) -> bool {
        self.unread == 0 && self.altered == 0 && self.refused == 0
    }
}

impl Outcome {
    /// Whether the rung was run and left nothing unread.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Ran(tally) if tally.is_clean())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(report) => write!(out, "SKIP {report}"),
            Self::Ran(tally) => write!(
                out,
                "{} rung {}: bursts {}, writers preempted {}, unread {}, altered {}, bytes {}, events {}, stale {}, \
                 refused {}, overflows {}, short reads {}, {:.1} s",
                if tally.is_clean() { "PASS" } else { "FAIL" },
                tally.rung.name(),
                tally.bursts,
                tally.preempted,
                tally.unread,
                tally.altered,
                tally.bytes,
                tally.counters.events,
                tally.counters.stale,
                tally.refused,
                tally.counters.overflows,
                tally.short_reads,
                tally.took.as_secs_f64()
            ),
        }
    }
}

/// Runs `bursts` bursts on files in `dir` with this rung and no other.
///
/// # Errors
/// When the files cannot be made or read.
pub(crate) fn run(rung: Rung, dir: &Path, bursts: u64) -> anyhow::Result<Outcome> {
    run_with(rung, dir, bursts, Fault::None)
}

/// The same with a fault in the reader.
///
/// # Errors
/// As [`run`].
fn run_with(rung: Rung, dir: &Path, bursts: u64, fault: Fault) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let (mut wakes, report) = Ladder::choose(choice(rung), &[dir.to_owned()], 1, 64);
    if report.rung != rung {
        return Ok(Outcome::Refused(report));
    }
    let mut wake = wakes.pop().context("the ladder gave no wake source")?;
    let begun = Instant::now();
    let paths: Vec<PathBuf> = (0..FILES)
        .map(|i| {
            dir.join(format!(
                "wake-selftest-{}-{fault:?}-{}-{i}",
                rung.name(),
                std::process::id()
            ))
        })
        .collect();
    let outcome = stress(&mut wake, &paths, bursts, fault);
    for path in &paths {
        let _ = std::fs::remove_file(path);
    }
    let (desk, altered, short_reads, all_on_rung) = outcome?;
    anyhow::ensure!(
        all_on_rung,
        "a file was not watched by rung {}",
        rung.name()
    );
    Ok(Outcome::Ran(Tally {
        rung,
        bursts,
        preempted: desk.preempted.load(Ordering::SeqCst),
        unread: desk.unread.load(Ordering::SeqCst),
        bytes: desk.read.iter().map(|r| r.load(Ordering::SeqCst)).sum(),
        altered,
        short_reads,
        counters: wake.counters(),
        refused: wake.meter().refused(),
        took: begun.elapsed(),
    }))
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Desk {
    /// By file: bytes read so far.
    read: [AtomicU64; FILES],
    /// How often the reader has slept and looked.
    looks: AtomicU64,
    unread: AtomicU64,
    preempted: AtomicU64,
    /// Writers that have ended.
    ended: AtomicUsize,
    done: AtomicBool,
}

fn stress(
    wake: &mut Wake,
    paths: &[PathBuf],
    bursts: u64,
    fault: Fault,
) -> anyhow::Result<(Desk, u64, u64, bool)> {
    let append = |path: &PathBuf| OpenOptions::new().create(true).append(true).open(path);
    let writers = paths.iter().map(append).collect::<Result<Vec<File>, _>>()?;
    let files = paths
        .iter()
        .map(File::open)
        .collect::<Result<Vec<File>, _>>()?;
    let mut all_on_rung = true;
    for (token, file) in (0..).zip(&files) {
        wake.watch(token, file, file.metadata()?.ino())?;
        wake.arm(token)?;
        all_on_rung &= wake.rung_of(token) == wake.rung();
    }
    let desk = Desk::default();
    let mut reader = Reader {
        files,
        positions: [0; FILES],
        altered: 0,
        short_reads: 0,
        fault,
    };
    let written = std::thread::scope(|scope| {
        let writing: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (desk, writers) = (&desk, &writers);
                scope.spawn(move || {
                    stay_on(0);
                    let result = write_bursts(number, writers, bursts, desk, fault);
                    let others = desk.ended.fetch_add(1, Ordering::SeqCst) + 1 < WRITERS;
                    if !others || result.is_err() {
                        desk.done.store(true, Ordering::SeqCst);
                    }
                    result
                })
            })
            .collect();
        let jolting = scope.spawn(|| jolt(&desk));
        let reading = scope.spawn(|| {
            stay_on(1);
            let result = reader.serve(wake, &desk);
            desk.done.store(true, Ordering::SeqCst);
            result
        });
        let read = reading
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        let joined = jolting.join();
        joined.map_err(|_| anyhow::anyhow!("the jolting thread panicked"))?;
        writing.into_iter().fold(read, |so_far, writer| {
            let written = writer.join();
            so_far.and(written.map_err(|_| anyhow::anyhow!("a writer panicked"))?)
        })
    });
    written?;
    Ok((desk, reader.altered, reader.short_reads, all_on_rung))
}

/// Takes the writers' CPU from them for a moment, again and again: who has slept goes first.
fn jolt(desk: &Desk) {
    stay_on(0);
    let mut dice = 0x9e6c_63d0_876a_3f6b_u64;
    while !desk.done.load(Ordering::SeqCst) {
        dice = roll(dice);
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: JOLT_NS + (dice % 128) as i64 * 1000,
        };
        let _ = rustix::thread::nanosleep(&moment);
    }
}

/// Times that the calling thread has lost its CPU unasked.
fn preempted() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let key = "nonvoluntary_ctxt_switches:";
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// One writer's share.
fn write_bursts(
    number: usize,
    writers: &[File],
    bursts: u64,
    desk: &Desk,
    fault: Fault,
) -> anyhow::Result<()> {
    let pattern = pattern();
    let mut written = [0u64; FILES];
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64 + number as u64;
    for _ in (0..bursts).skip(number).step_by(WRITERS) {
        dice = roll(dice);
        let which = (dice as usize % (FILES / WRITERS)) * WRITERS + number;
        for append in 0..=(dice >> 8) % 3 {
            let at = (written[which] % LENGTH_PERIOD as u64) as usize;
            (&writers[which]).write_all(&pattern[at..at + APPEND_BYTES])?;
            written[which] += APPEND_BYTES as u64;
            linger((dice >> (16 + 8 * append)) % APPEND_GAP_NS);
        }
        let (since, looks) = (Instant::now(), desk.looks.load(Ordering::SeqCst));
        let over = || match fault {
            Fault::None => desk.looks.load(Ordering::SeqCst) > looks + PATIENCE,
            Fault::ArmAfterRead | Fault::IgnoreEnd => since.elapsed() > PATIENCE_FAULTY,
        };
        while desk.read[which].load(Ordering::Acquire) < written[which] {
            if over() {
                desk.unread.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if desk.done.load(Ordering::SeqCst) {
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
    desk.preempted.fetch_add(preempted(), Ordering::SeqCst);
    Ok(())
}

struct Reader {
    files: Vec<File>,
    positions: [u64; FILES],
    altered: u64,
    short_reads: u64,
    fault: Fault,
}

impl Reader {
    fn serve(&mut self, wake: &mut Wake, desk: &Desk) -> anyhow::Result<()> {
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let mut woken = Vec::new();
        let mut dice = 0x2545_f491_4f6c_dd1d_u64;
        while !desk.done.load(Ordering::SeqCst) {
            let mut looks = 0;
            while wake.drain(&mut woken)? == 0 && looks < LOOKS {
                looks += 1;
            }
            if woken.is_empty() {
                wait(wake, &tick)?;
                desk.looks.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            for token in woken.drain(..) {
                dice = roll(dice);
                linger(dice % SERVE_GAP_NS);
                if self.fault == Fault::ArmAfterRead {
                    self.read_to_end(wake, token)?;
                    linger(SERVE_GAP_NS);
                    wake.arm(token)?;
                } else {
                    wake.arm(token)?;
                    self.read_to_end(wake, token)?;
                }
                let which = token as usize;
                desk.read[which].store(self.positions[which], Ordering::Release);
            }
        }
        Ok(())
    }

    /// Reads to the end of the file and, where the hook named one, to the expected end.
    fn read_to_end(&mut self, wake: &Wake, token: u32) -> anyhow::Result<()> {
        let which = token as usize;
        let mut buffer = [0u8; 8192];
        let mut tries = 0;
        loop {
            let length = self.files[which].read_at(&mut buffer, self.positions[which])?;
            self.check(which, &buffer[..length]);
            self.positions[which] += length as u64;
            if length > 0 {
                continue;
            }
            let end = wake.expected_end(token).unwrap_or(0);
            let satisfied = self.positions[which] >= end || self.fault == Fault::IgnoreEnd;
            if satisfied || tries >= SHORT_READS_MAX {
                return Ok(());
            }
            tries += 1;
            self.short_reads += 1;
        }
    }

    fn check(&mut self, which: usize, bytes: &[u8]) {
        let first = self.positions[which];
        for (at, byte) in (first..).zip(bytes) {
            self.altered += u64::from(u64::from(*byte) != at % LENGTH_PERIOD as u64);
        }
    }
}

/// Position modulo the period, twice over.
fn pattern() -> Vec<u8> {
    (0..=250).cycle().take(2 * LENGTH_PERIOD).collect()
}

/// xorshift64: the run is the same each time, but for the threads' timing.
fn roll(mut dice: u64) -> u64 {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^ dice << 17
}

/// Sleeps until the wake source has news, or for a tick, after which `done` is looked at.
fn wait(wake: &Wake, tick: &Timespec) -> anyhow::Result<()> {
    let polled = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut fds: Vec<PollFd<'_>> = wake.fds().map(polled).collect();
    match poll(&mut fds, Some(tick)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("poll the wake source"),
    }
}

/// Keeps the thread on the nth of its CPUs; with one CPU both threads share it.
fn stay_on(nth: usize) {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let mut cpus = (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .cycle();
    if let Some(cpu) = cpus.nth(nth) {
        let mut one = CpuSet::new();
        one.set(cpu);
        let _ = sched_setaffinity(None, &one);
    }
}

fn linger(nanoseconds: u64) {
    let since = Instant::now();
    while since.elapsed() < Duration::from_nanos(nanoseconds) {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
    use super::*;

    /// A rung that this kernel refuses prints why; one that loads must leave nothing unread.
    fn ten_thousand_bursts(rung: Rung) {
        let outcome = run(rung, &std::env::temp_dir(), 10_000).unwrap();
        println!("{outcome}");
        match outcome {
            Outcome::Ran(tally) => {
                assert!(tally.is_clean(), "{tally:?}");
                assert!(tally.counters.events > 0);
            }
            Outcome::Refused(_) => assert_ne!(rung, Rung::Inotify),
        }
    }

    #[test]
    fn fexit_leaves_no_burst_unread() {
        ten_thousand_bursts(Rung::FexitPerformWrite);
    }

    #[test]
    fn tp_btf_leaves_no_burst_unread() {
        ten_thousand_bursts(Rung::TracepointBtf);
    }

    #[test]
    fn raw_tp_leaves_no_burst_unread() {
        ten_thousand_bursts(Rung::RawTracepoint);
    }

    #[test]
    fn inotify_leaves_no_burst_unread() {
        ten_thousand_bursts(Rung::Inotify);
    }

    /// With one CPU nothing overlaps, and nothing can be found.
    fn finds(rung: Rung, fault: Fault) {
        if std::thread::available_parallelism().unwrap().get() < 2 {
            println!("SKIP {fault:?}: one CPU");
            return;
        }
        let outcome = run_with(rung, &std::env::temp_dir(), 1_000, fault).unwrap();
        println!("{fault:?}: {outcome}");
        match outcome {
            Outcome::Ran(tally) => assert!(tally.unread > 0, "{tally:?}"),
            Outcome::Refused(_) => assert_ne!(rung, Rung::Inotify),
        }
    }

    #[test]
    fn arming_after_the_read_is_found() {
        finds(Rung::Inotify, Fault::ArmAfterRead);
        finds(Rung::TracepointBtf, Fault::ArmAfterRead);
    }

    #[test]
    fn ignoring_the_expected_end_is_found() {
        finds(Rung::TracepointBtf, Fault::IgnoreEnd);
        finds(Rung::RawTracepoint, Fault::IgnoreEnd);
    }
}
