//! How long after a write has returned its bytes lie in the reader's memory.
//!
//! ```text
//! writer (CPU 0): write a line, note when it returned -> wait
//! reader (CPU 1): the agent's reader, ring and wake source -> chunk: note when each line came
//! ```
//!
//! `reader_latency --directory DIR --rung tp_btf`; without a rung files are polled, as others do it.
//!
//! 1. Rested: each write goes to another file, which sleeps. Busy: all go to one file, whose reader
//!    rests between two reads so as not to be woken for each line.
//! 2. No sweep: a line that no wake brings stays unread, and fails the run.
//! 3. What a reader hands on is settled at once: nothing but reading is measured.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tailwake::base::bell::Bell;
use tailwake::base::count::Registry;
use tailwake::base::outputs::OutputId;
use tailwake::base::pool::{Permits, Pool};
use tailwake::base::time::{Clock as _, MachineClock};
use tailwake::discover::Tree;
use tailwake::encode::Outlet;
use tailwake::ledger::Ledger;
use tailwake::ledger::positions::Positions;
use tailwake::machine::MachineFiles;
use tailwake::plan::Plan;
use tailwake::plan::memory::Memory;
use tailwake::tail::eventfd::EventFd;
use tailwake::tail::{MachineRing, Rates, Reader, Ring as _, Roll, Settings};
use tailwake::ticket::{Feed, Feeds};
use tailwake::wake::{Ladder, Rung};

/// Files that rest: each is written to once in 640 ms.
const FILES: usize = 256;
/// Time between two writes.
const RESTED_GAP: Duration = Duration::from_micros(2_500);
const BUSY_GAP: Duration = Duration::from_millis(1);
/// For files to be found, read and fall asleep, and for the last line to come.
const SETTLE: Duration = Duration::from_secs(1);
/// The exit code for a rung that the kernel refuses.
const NOT_LOADED: i32 = 2;

#[derive(Debug, Parser)]
struct Options {
    /// Where the files are made.
    #[arg(long)]
    directory: PathBuf,
    /// By which rung the reader is woken; polling without one.
    #[arg(long)]
    rung: Option<String>,
    /// Milliseconds between two looks at all files, where they are polled.
    #[arg(long, default_value_t = 250)]
    poll_ms: u64,
    /// How the reader reads: `uring` or `pread`.
    #[arg(long, default_value = "uring")]
    io: String,
    /// Writes of each kind.
    #[arg(long, default_value_t = 4_000)]
    writes: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let folder = format!("reader-latency-{}", std::process::id());
    let directory = options.directory.join(folder);
    let measured = measure(&options, &directory);
    let _ = std::fs::remove_dir_all(&directory);
    if !measured? {
        std::process::exit(NOT_LOADED);
    }
    Ok(())
}

/// Both kinds; false when the kernel refuses the rung.
fn measure(options: &Options, directory: &Path) -> anyhow::Result<bool> {
    let paths: Vec<PathBuf> = (0..FILES)
        .map(|number| {
            let pod = format!("bench_pod-{number}_00000000-0000-0000-0000-{number:012}");
            directory.join("pods").join(pod).join("app/0.log")
        })
        .collect();
    for path in &paths {
        let parent = path.parent().context("a log has a directory")?;
        std::fs::create_dir_all(parent)?;
        std::fs::write(path, line(0))?;
    }
    let desk = Desk::new(2 * options.writes);
    let Some(mut side) = Side::new(options, directory, &paths)? else {
        return Ok(false);
    };
    let written = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            stay_on(1);
            let served = side.serve(&desk);
            desk.done.store(true, Ordering::SeqCst);
            served
        });
        stay_on(0);
        let written = write_all(&paths, options.writes, &desk);
        desk.done.store(true, Ordering::SeqCst);
        desk.bell.get().inspect(|bell| bell.ring());
        let served = reading.join();
        let served = served.map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        written.and(served)
    });
    written?;
    let unread = desk.say("rested", 1..=options.writes)
        + desk.say("busy", options.writes + 1..=2 * options.writes);
    anyhow::ensure!(unread == 0, "{unread} lines were not read");
    Ok(true)
}

/// A line of a container log.
fn line(number: usize) -> String {
    format!(
        "2026-01-01T00:00:00.000000000Z stdout F {MARK}{number:08} {:64}\n",
        ""
    )
}

const MARK: &str = "seq=";

/// When each line was written and came, in nanoseconds; by its number, from 1.
#[derive(Debug)]
struct Desk {
    start: Instant,
    wrote: Vec<AtomicU64>,
    came: Vec<AtomicU64>,
    /// First lines that have come.
    first: AtomicU64,
    done: AtomicBool,
    /// Wakes the reader at the end.
    bell: std::sync::OnceLock<Bell>,
}

impl Desk {
    fn new(lines: usize) -> Self {
        let cells = || (0..=lines).map(|_| AtomicU64::new(0)).collect();
        Self {
            start: Instant::now(),
            wrote: cells(),
            came: cells(),
            first: AtomicU64::new(0),
            done: AtomicBool::new(false),
            bell: std::sync::OnceLock::new(),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Notes all lines of these bytes, which lie in memory since before the call.
    fn take(&self, bytes: &[u8]) {
        let now = self.now();
        for line in bytes.split(|byte| *byte == b'\n') {
            let text = std::str::from_utf8(line).unwrap_or_default();
            let number = text.split_once(MARK).and_then(|(_, rest)| rest.get(..8));
            match number.and_then(|digits| digits.parse::<usize>().ok()) {
                Some(0) => drop(self.first.fetch_add(1, Ordering::SeqCst)),
                Some(number) => self.came[number].store(now, Ordering::SeqCst),
                None => {}
            }
        }
    }

    /// Prints one kind's figures in microseconds; gives how many lines were not read.
    fn say(&self, kind: &str, numbers: std::ops::RangeInclusive<usize>) -> usize {
        let of = |cells: &[AtomicU64], number: usize| cells[number].load(Ordering::SeqCst);
        let count = numbers.clone().count();
        let mut all: Vec<u64> = numbers
            .filter(|number| of(&self.came, *number) > 0)
            .map(|number| of(&self.came, number).saturating_sub(of(&self.wrote, number)))
            .collect();
        all.sort_unstable();
        let at = |share: f64| {
            let place = (all.len() as f64 * share) as usize;
            all.get(place.min(all.len().saturating_sub(1)))
                .map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        println!(
            "LATENCY {kind} {:.0} {:.0} {:.0}",
            at(0.5),
            at(0.99),
            at(1.0)
        );
        count - all.len()
    }
}

/// All writes of both kinds, after the reader has read the files and sleeps.
fn write_all(paths: &[PathBuf], writes: usize, desk: &Desk) -> anyhow::Result<()> {
    let open = |path: &PathBuf| OpenOptions::new().append(true).open(path);
    let files = paths.iter().map(open).collect::<Result<Vec<File>, _>>()?;
    let begun = Instant::now();
    while desk.first.load(Ordering::SeqCst) < paths.len() as u64 {
        anyhow::ensure!(!desk.done.load(Ordering::SeqCst), "the reader has ended");
        anyhow::ensure!(begun.elapsed() < 10 * SETTLE, "not all files were found");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(SETTLE);
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for (kind, gap) in [RESTED_GAP, BUSY_GAP].into_iter().enumerate() {
        for round in 0..writes {
            let number = kind * writes + round + 1;
            let mut file = &files[if kind == 0 { round % files.len() } else { 0 }];
            let line = line(number);
            file.write_all(line.as_bytes())?;
            desk.wrote[number].store(desk.now(), Ordering::SeqCst);
            // From half a gap to one and a half, so that no beat comes up with the reader's pace.
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            std::thread::sleep(gap / 2 + gap.mul_f64((dice % 1024) as f64 / 1024.0));
        }
        std::thread::sleep(SETTLE);
    }
    Ok(())
}

/// Who reads.
enum Side {
    Woken(Box<Woken>),
    Polling(Polling),
}

impl Side {
    /// `None` when the kernel refuses the rung.
    fn new(options: &Options, directory: &Path, paths: &[PathBuf]) -> anyhow::Result<Option<Self>> {
        let Some(rung) = &options.rung else {
            let files = paths.iter().map(File::open).collect::<Result<_, _>>()?;
            return Ok(Some(Self::Polling(Polling {
                files,
                read: vec![0; paths.len()],
                every: Duration::from_millis(options.poll_ms),
            })));
        };
        let rung = Rung::named(rung).with_context(|| format!("there is no rung {rung}"))?;
        let woken = Woken::start(rung, &options.io, directory)?;
        Ok(woken.map(|woken| Self::Woken(Box::new(woken))))
    }

    fn serve(&mut self, desk: &Desk) -> anyhow::Result<()> {
        match self {
            Self::Woken(woken) => woken.serve(desk),
            Self::Polling(polling) => polling.serve(desk),
        }
    }
}

/// Looks at each file's size in turn.
struct Polling {
    files: Vec<File>,
    read: Vec<u64>,
    every: Duration,
}

impl Polling {
    fn serve(&mut self, desk: &Desk) -> anyhow::Result<()> {
        let mut bytes = vec![0; 64 << 10];
        while !desk.done.load(Ordering::SeqCst) {
            for (file, read) in self.files.iter().zip(&mut self.read) {
                while file.metadata()?.len() > *read {
                    let length = file.read_at(&mut bytes, *read)?;
                    desk.take(&bytes[..length]);
                    *read += length as u64;
                }
            }
            std::thread::sleep(self.every);
        }
        Ok(())
    }
}

/// The agent's reader, and what it needs of the other rooms.
struct Woken {
    reader: Reader<MachineRing, MachineFiles>,
    feeds: Arc<Feeds>,
    tree: Tree,
    files: MachineFiles,
    bell: Bell,
}

impl Woken {
    fn start(rung: Rung, io: &str, directory: &Path) -> anyhow::Result<Option<Self>> {
        let root = directory.join("pods");
        let plan = plan(rung, io, directory)?;
        let roots = [root.clone()];
        let (mut wakes, report) = Ladder::choose(plan.wake.rung, &roots, 1, 1024);
        let wake = wakes.pop().context("the ladder gave no wake source")?;
        let probed = rung < Rung::Inotify;
        if wake.rung() != rung || (probed && !wake.covers(File::open(&root)?.as_fd())) {
            println!("SKIPPED {report}");
            return Ok(None);
        }
        let eventfd = EventFd::new()?;
        let ring = MachineRing::new(plan.wake.io, wake, eventfd.clone())?;
        let (bell, silent) = (eventfd.bell(), Bell::silent());
        let registry = Registry::default();
        let output = &plan.outputs[0];
        let bells = vec![bell.clone()];
        let names = vec![output.name.clone()];
        let window = output.window_bytes.0;
        let outlet = Outlet::new(
            OutputId(0),
            &output.name,
            window,
            silent.clone(),
            bells,
            &registry,
        );
        let ledger = Ledger::new(names, vec![bell.clone()], Positions::default());
        let feeds = Arc::new(Feeds::new(4096, silent));
        let memory = Memory::threads(&plan, 1).map_err(anyhow::Error::msg)?;
        let (buffers, bytes) = (memory.memory.pool_buffers, plan.limits.buffer_bytes.0);
        let reader = Reader::new(
            Settings::of(
                &plan,
                0,
                &Arc::new(Roll::new(&registry)),
                &Arc::<Rates>::default(),
            ),
            ring,
            MachineFiles::new(plan.allowed_roots()),
            ledger,
            Pool::new(buffers, bytes as usize, bell.clone()),
            Permits::new(memory.memory.permits, bell.clone()),
            bell.clone(),
            vec![Arc::clone(&feeds)],
            vec![Arc::new(outlet)],
            &registry,
        );
        Ok(Some(Self {
            reader,
            feeds,
            tree: Tree::new(&plan, "node", &registry),
            files: MachineFiles::watching(plan.allowed_roots())?,
            bell,
        }))
    }

    /// As the agent's reader thread runs, with the encoder's end of the feeds in the same thread.
    fn serve(&mut self, desk: &Desk) -> anyhow::Result<()> {
        let _ = desk.bell.set(self.bell.clone());
        let mut found = Vec::new();
        self.tree.start(&self.files, &mut found);
        let mut news = found.into_iter();
        let clock = MachineClock::new();
        while !desk.done.load(Ordering::SeqCst) {
            let turn = self
                .reader
                .turn(clock.mono(), clock.wall(), &mut || news.next())?;
            while let Some(feed) = self.feeds.take() {
                if let Feed::Chunk(chunk) = feed {
                    desk.take(chunk.bytes());
                    chunk.ticket.settle();
                }
            }
            if !turn.progress {
                self.reader.ring().park(clock.mono(), turn.deadline)?;
            }
        }
        Ok(())
    }
}

/// The agent's defaults, with one rung and face and without the sweep.
fn plan(rung: Rung, io: &str, directory: &Path) -> anyhow::Result<Plan> {
    let at = directory.display();
    let text = format!(
        "state: \"{at}/state\"\nwake: {{rung: {}, io: {io}, sweep: 0}}\ninputs:\n  pods: {{pods: {{root: \
         \"{at}/pods\"}}, start_at: beginning}}\npipelines:\n  pods:\n    from: [pods]\n    \
         stages: [cri: {{}}]\n    to: [loki]\noutputs:\n  loki:\n    loki: {{url: \
         \"http://127.0.0.1:1/loki/api/v1/push\"}}\n",
        rung.name()
    );
    tailwake::config::parse("config", &text, &|_| None)
        .map_err(|wrong| anyhow::anyhow!("the config is wrong: {wrong}"))
}

/// Keeps the thread on the nth of its CPUs; with one CPU both threads share it.
fn stay_on(nth: usize) {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    if let Some(cpu) = cpus.cycle().nth(nth) {
        let mut one = CpuSet::new();
        one.set(cpu);
        let _ = sched_setaffinity(None, &one);
    }
}
