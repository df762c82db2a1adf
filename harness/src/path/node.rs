//! The node under test: containers that write bursts, each after the last was acknowledged.
//!
//! ```text
//! due -> line .. line (at once, or later) -> acknowledged -> rest -> due
//! ```
//!
//! 1. All logs are written by one thread; at any time each of them has at most one burst.
//! 2. Most rests are long enough for the file to fall asleep, the others fall on a reader at work.
//! 3. A log is renamed now and then between two lines, gets one more line, and a new file; what was
//!    renamed before is deleted, so that inode numbers are used again.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::generate::pod_directory;
use crate::journal::{Container, Stream};
use crate::tally::{Key, Tally};
use crate::text::{Random, now_ns, rfc3339_nano, rotation_stamp};
use crate::wire::Output;

/// A container's log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) container: Container,
    pub(super) path: PathBuf,
    key: Key,
    file: File,
    /// Bytes in the current file, and where its last burst begins.
    size: u64,
    burst_from: u64,
    /// Lines written so far; also the next line's number.
    lines: u64,
    /// Lines of this burst still to come; 0 with `since`: it waits for the acknowledgement.
    left: u64,
    since: Option<Instant>,
    /// Bursts until the next rotation.
    until_rotation: u64,
    /// The renamed file that is still there; a late line goes to it before the new file is made.
    renamed: Option<PathBuf>,
    is_renamed: bool,
}

/// All logs.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) logs: Vec<Log>,
    pub(super) rotations: u64,
    due: BTreeSet<(Instant, usize)>,
    random: Random,
    epoch_ns: u64,
}

/// A burst that nobody read.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) pod: String,
    said: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl Log {
    fn open(root: &Path, number: u32) -> Result<Self> {
        let container = Container {
            namespace: "path".to_owned(),
            pod: format!("sleeper-{number:04}"),
            name: "app".to_owned(),
        };
        let directory = pod_directory(root, &container, number).join(&container.name);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let path = directory.join("0.log");
        Ok(Self {
            key: (Output::Loki, container.clone(), Stream::Stdout),
            container,
            file: append(&path)?,
            path,
            size: 0,
            burst_from: 0,
            lines: 0,
            left: 0,
            since: None,
            until_rotation: 1 + u64::from(number) % ROTATION_BURSTS,
            renamed: None,
            is_renamed: false,
        })
    }

    pub(super) fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    fn line(&mut self) -> Result<()> {
        let number = self.lines;
        let time = rfc3339_nano(now_ns());
        let text = format!("{time} stdout F seq={number} a line of the path test\n");
        self.file
            .write_all(text.as_bytes())
            .context("append to a log")?;
        self.size += text.len() as u64;
        self.lines += 1;
        self.left = self.left.saturating_sub(1);
        if std::mem::take(&mut self.is_renamed) {
            self.file = append(&self.path)?;
            (self.size, self.burst_from) = (0, 0);
        }
        Ok(())
    }

    fn rename(&mut self, stamp_ns: u64) -> Result<()> {
        let to = self
            .path
            .with_file_name(format!("0.log.{}", rotation_stamp(stamp_ns)));
        std::fs::rename(&self.path, &to).context("rename a log")?;
        if let Some(older) = self.renamed.replace(to) {
            std::fs::remove_file(older).context("delete a renamed log")?;
        }
        self.is_renamed = true;
        Ok(())
    }

    fn unread(&self, arrived: u64, waited: Duration) -> Unread {
        let Self {
            burst_from, size, ..
        } = self;
        Unread {
            pod: self.container.pod.clone(),
            said: format!(
                "{} bytes {burst_from}..{size} unread after {} s: {arrived} of {} lines came",
                self.path.display(),
                waited.as_secs(),
                self.lines
            ),
        }
    }
}

impl Node {
    /// Makes the tree, all files empty.
    pub(super) fn lay_out(root: &Path, containers: u32, seed: u64) -> Result<Self> {
        let logs = (0..containers).map(|number| Log::open(root, number));
        Ok(Self {
            logs: logs.collect::<Result<_>>()?,
            rotations: 0,
            due: BTreeSet::new(),
            random: Random::new(seed),
            epoch_ns: now_ns(),
        })
    }

    /// Lines written so far.
    pub(super) fn lines(&self) -> u64 {
        self.logs.iter().map(|log| log.lines).sum()
    }

    /// Writes so many bursts over all logs, and waits for the last acknowledgement.
    pub(super) fn write(
        &mut self,
        bursts: u64,
        patience: Duration,
        tally: &Tally,
    ) -> Result<(), Unread> {
        let begun = Instant::now();
        let count = self.logs.len();
        for at in 0..count {
            let spread = self.random.below(REST_MS_MAX);
            self.due.insert((begun + Duration::from_millis(spread), at));
        }
        let (mut left, mut waiting) = (bursts, BTreeSet::new());
        let mut seen = tally.version();
        loop {
            let now = Instant::now();
            while let Some((due, at)) = self.due.first().copied()
                && due <= now
            {
                self.due.pop_first();
                self.step(at, &mut left, &mut waiting)?;
            }
            if self.due.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            for at in self.acknowledged(&waiting, patience, tally)? {
                waiting.remove(&at);
                if left > 0 {
                    let rest = if self.random.below(4) == 0 {
                        self.random.below(BUSY_MS_MAX)
                    } else {
                        REST_MS + self.random.below(REST_MS_MAX - REST_MS)
                    };
                    let due = Instant::now() + Duration::from_millis(rest);
                    self.due.insert((due, at));
                }
            }
            let next = self.due.first().map_or(LOOK, |(due, _)| {
                due.saturating_duration_since(Instant::now()).min(LOOK)
            });
            seen = tally.changed(seen, next);
        }
    }

    /// Writes one line to every log, and waits for all acknowledgements.
    pub(super) fn round(&mut self, patience: Duration, tally: &Tally) -> Result<(), Unread> {
        let mut waiting = BTreeSet::new();
        for at in 0..self.logs.len() {
            let log = &mut self.logs[at];
            (log.left, log.burst_from) = (1, log.size);
            self.put(at)?;
            waiting.insert(at);
        }
        let mut seen = tally.version();
        while !waiting.is_empty() {
            for at in self.acknowledged(&waiting, patience, tally)? {
                waiting.remove(&at);
            }
            seen = tally.changed(seen, LOOK);
        }
        Ok(())
    }

    /// The next line of a log's burst, or the first of a new one.
    fn step(
        &mut self,
        at: usize,
        left: &mut u64,
        waiting: &mut BTreeSet<usize>,
    ) -> Result<(), Unread> {
        let log = &mut self.logs[at];
        if log.left == 0 {
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
            (log.left, log.burst_from) = (1 + self.random.below(3), log.size);
            log.until_rotation -= 1;
            if log.until_rotation == 0 {
                log.until_rotation = ROTATION_BURSTS / 2 + self.random.below(ROTATION_BURSTS);
                self.rotations += 1;
                let stamp_ns = self.epoch_ns + self.rotations * 1_000_000_000;
                log.rename(stamp_ns).map_err(|error| broken(log, &error))?;
            }
        }
        loop {
            self.put(at)?;
            if self.logs[at].left == 0 {
                waiting.insert(at);
                return Ok(());
            }
            match self.random.below(4) {
                // At once: the line meets the event, the arming or the read of the one before.
                0 | 1 => {}
                2 => {
                    let gap = Duration::from_nanos(self.random.below(GAP_NS_MAX));
                    let since = Instant::now();
                    while since.elapsed() < gap {
                        std::hint::spin_loop();
                    }
                }
                _ => {
                    let gap = Duration::from_millis(self.random.below(PACE_MS_MAX));
                    self.due.insert((Instant::now() + gap, at));
                    return Ok(());
                }
            }
        }
    }

    fn put(&mut self, at: usize) -> Result<(), Unread> {
        let log = &mut self.logs[at];
        log.line().map_err(|error| broken(log, &error))?;
        log.since = Some(Instant::now());
        Ok(())
    }

    fn acknowledged(
        &self,
        waiting: &BTreeSet<usize>,
        patience: Duration,
        tally: &Tally,
    ) -> Result<Vec<usize>, Unread> {
        let mut done = Vec::new();
        for at in waiting {
            let log = &self.logs[*at];
            let arrived = tally.arrived(&log.key);
            let waited = log.since.map_or(Duration::ZERO, |since| since.elapsed());
            if arrived >= log.lines {
                done.push(*at);
            } else if waited > patience {
                return Err(log.unread(arrived, waited));
            }
        }
        Ok(done)
    }

    /// Every line came once, unaltered and in order.
    pub(super) fn judge(&self, tally: &Tally) -> Result<()> {
        for log in &self.logs {
            let stream = tally.stream(&log.key).unwrap_or_default();
            let numbers = stream.records.keys().copied();
            ensure!(
                numbers.eq(0..log.lines) && stream.unknown == 0 && stream.empties.is_empty(),
                "{}: {} of {} lines came, {} altered",
                log.container,
                stream.records.len(),
                log.lines,
                stream.unknown
            );
            ensure!(
                stream.disordered == 0 && stream.duplicates == 0,
                "{}: {} lines disordered, {} came twice",
                log.container,
                stream.disordered,
                stream.duplicates
            );
        }
        Ok(())
    }
}

fn broken(log: &Log, error: &anyhow::Error) -> Unread {
    Unread {
        pod: log.container.pod.clone(),
        said: format!("{}: {error:#}", log.path.display()),
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// Bursts between two rotations of a log, on average.
const ROTATION_BURSTS: u64 = 16;
/// The agent's longest wait between two reads of a busy file is 80 ms, so it sleeps after this.
const REST_MS: u64 = 110;
const REST_MS_MAX: u64 = 180;
/// A rest that is to find the reader at work.
const BUSY_MS_MAX: u64 = 30;
/// Between two lines of a burst: about what a wake takes, or what a paced read takes.
const GAP_NS_MAX: u64 = 60_000;
const PACE_MS_MAX: u64 = 90;
/// The longest wait for an acknowledgement before the patience is looked at.
const LOOK: Duration = Duration::from_millis(100);
