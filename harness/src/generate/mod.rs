//! The demo node: kubelet's tree of logs with one writing thread per container.
//!
//! ```text
//! record -> parts of 16,384 bytes -> CRI lines -> 0.log (rename, a few late lines, new 0.log)
//!    +----> journal
//! ```
//!
//! 1. The same seed gives the same texts; only times differ.
//! 2. Times of one container strictly increase.
//! 3. A renamed file still gets a few lines before its descriptor is closed, as with containerd.

mod file;
mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use file::{LogFile, containers_link, pod_directory};
pub use record::{Record, Recorder, canonical, sequence_of};

use crate::journal::{self, Container, Entry};
use crate::text::{hash, now_ns};

/// What the demo node does.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where `pods/`, `containers/` and `journal/` are laid out.
    pub directory: PathBuf,
    /// Number of pods, each with one container.
    pub pods: u32,
    /// Records per container; `None` goes on until stopped.
    pub records: Option<u64>,
    /// Records per second of the whole node; 0 is as fast as it goes.
    pub rate: u64,
    /// A log is renamed when it holds that many bytes; 0 never.
    pub rotate_bytes: u64,
    /// Stops by itself after this time.
    pub duration: Option<Duration>,
    /// Seed of the texts.
    pub seed: u64,
    /// Whether some texts are not UTF-8.
    pub invalid_utf8: bool,
    /// Whether every 50th record is followed by a line of [`NOISE`], which stands in no journal: it
    /// counts as unwritten where it arrives.
    pub noise: bool,
}

/// How a line begins that the agent is to drop.
pub const NOISE: &str = "noise ";

/// What the writers have written so far.
#[derive(Debug, Default)]
pub struct Written {
    /// Records.
    pub records: AtomicU64,
    /// Bytes of CRI lines.
    pub bytes: AtomicU64,
    /// Renamed files.
    pub rotations: AtomicU64,
}

/// A running demo node.
#[derive(Debug)]
pub struct Generator {
    stop: Arc<AtomicBool>,
    written: Arc<Written>,
    writers: Vec<JoinHandle<Result<()>>>,
}

impl Generator {
    /// Lays out the tree and starts the writers.
    pub fn start(options: &Options) -> Result<Self> {
        for sub in ["pods", "containers", "journal"] {
            let path = options.directory.join(sub);
            std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(Written::default());
        let mut writers = Vec::new();
        for number in 0..options.pods {
            let writer = Writer::open(options, number, &stop, &written)?;
            let name = format!("writer-{number}");
            let thread = std::thread::Builder::new()
                .name(name)
                .spawn(move || writer.run())?;
            writers.push(thread);
        }
        Ok(Self {
            stop,
            written,
            writers,
        })
    }

    /// What has been written so far.
    #[must_use]
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// Whether every writer has ended by itself.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.writers.iter().all(JoinHandle::is_finished)
    }

    /// Ends the writers and waits for them; the journals are whole afterwards.
    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until the writers have written all their records.
    pub fn wait(self) -> Result<()> {
        for writer in self.writers {
            writer.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        Ok(())
    }
}

/// Where the journals of a demo node stand.
#[must_use]
pub fn journal_directory(directory: &Path) -> PathBuf {
    directory.join("journal")
}

/// The container of a pod's number.
#[must_use]
pub fn container(number: u32) -> Container {
    let namespace = ["default", "shop", "monitoring"][number as usize % 3];
    let name = ["app", "web", "worker"][number as usize / 3 % 3];
    Container {
        namespace: namespace.to_owned(),
        pod: format!("demo-{number:02}"),
        name: name.to_owned(),
    }
}

struct Writer {
    options: Options,
    recorder: Recorder,
    log: LogFile,
    journal: journal::Writer,
    stop: Arc<AtomicBool>,
    written: Arc<Written>,
    last_ns: u64,
    line: Vec<u8>,
}

impl Writer {
    fn open(
        options: &Options,
        number: u32,
        stop: &Arc<AtomicBool>,
        written: &Arc<Written>,
    ) -> Result<Self> {
        let container = container(number);
        let log = LogFile::lay_out(&options.directory, &container, number, options.rotate_bytes)?;
        let journal = journal::Writer::create(&journal_directory(&options.directory), &container)?;
        let seed = options
            .seed
            .wrapping_mul(1_000_003)
            .wrapping_add(u64::from(number));
        Ok(Self {
            options: options.clone(),
            recorder: Recorder::new(seed, options.invalid_utf8),
            log,
            journal,
            stop: Arc::clone(stop),
            written: Arc::clone(written),
            last_ns: 0,
            line: Vec::new(),
        })
    }

    fn run(mut self) -> Result<()> {
        let begun = Instant::now();
        let share = self.options.rate as f64 / f64::from(self.options.pods.max(1));
        let mut done = 0u64;
        while self.options.records.is_none_or(|most| done < most) {
            let elapsed = begun.elapsed();
            let over = self
                .options
                .duration
                .is_some_and(|duration| elapsed >= duration);
            if over || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let due = (elapsed.as_secs_f64() * share) as u64;
            if self.options.rate > 0 && done > due {
                self.journal.flush()?;
                std::thread::sleep(PACE);
                continue;
            }
            done += self.write_next()?;
        }
        self.journal.flush()
    }

    /// Writes a record, perhaps with one of the other stream between its parts.
    fn write_next(&mut self) -> Result<u64> {
        let record = self.recorder.next_record();
        let parts = record.parts();
        let cut = parts.len() > 1;
        let mut time_ns = 0;
        let mut written = 1;
        for (index, part) in parts.iter().enumerate() {
            let full = index + 1 == parts.len();
            let at = self.write_line(&record, part, full)?;
            if index == 0 {
                time_ns = at;
            }
            if !full && self.recorder.interrupts() {
                let other = self.recorder.short_record(record.stream);
                let at = self.write_line(&other, &other.text, true)?;
                self.note(&other, at, false)?;
                written += 1;
            }
        }
        self.note(&record, time_ns, cut)?;
        if self.options.noise && self.recorder.made().is_multiple_of(50) {
            self.write_line(&record, format!("{NOISE}{time_ns}").as_bytes(), true)?;
        }
        Ok(written)
    }

    fn write_line(&mut self, record: &Record, part: &[u8], full: bool) -> Result<u64> {
        let time_ns = now_ns().max(self.last_ns + 1);
        self.last_ns = time_ns;
        self.line.clear();
        file::push_cri(&mut self.line, time_ns, record.stream, full, part);
        self.written
            .bytes
            .fetch_add(self.line.len() as u64, Ordering::Relaxed);
        if self.log.append(&self.line, time_ns)? {
            self.written.rotations.fetch_add(1, Ordering::Relaxed);
        }
        Ok(time_ns)
    }

    fn note(&mut self, record: &Record, time_ns: u64, cut: bool) -> Result<()> {
        let text = String::from_utf8_lossy(&record.text);
        self.journal.append(&Entry {
            stream: record.stream,
            sequence: record.sequence,
            cut,
            time_ns,
            length: u32::try_from(text.len()).unwrap_or(u32::MAX),
            hash: hash(text.as_bytes()),
            fields_hash: canonical(&text).map_or(0, |fields| hash(fields.as_bytes())),
        })?;
        self.written.records.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// How long a writer that is ahead of its rate sleeps.
const PACE: Duration = Duration::from_millis(2);
