//! What the agent costs who writes, reads and opens files: an operation with a rung less the same
//! operation without an agent.
//!
//! ```text
//! files -> round: without an agent -> each rung: watch, measure, let go -> difference -> median
//! ```
//!
//! 1. The probes are the agent's own, loaded by its ladder, and a file is watched and armed as its
//!    reader does it.
//! 2. A cell is the median of [`OPERATIONS`]; of several rounds the median difference counts, each to
//!    the measurement without an agent of the same round.
//! 3. A tick of `rdtsc` is an instruction where QEMU counts those (`-icount shift=0`), and a part of a
//!    nanosecond elsewhere.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use agent_ebpf::BLOOM_BYTES;
use anyhow::Context as _;
use tailwake::base::files::Files as _;
use tailwake::machine::MachineFiles;
use tailwake::wake::{Ladder, Rung, Wake};

use crate::choice;
use crate::ticks::{Unit, ticks};

/// Operations of a cell.
const OPERATIONS: usize = 150;
/// Operations before those that count.
const WARM: usize = 5;
/// Bytes of an append: a short line.
const APPEND_BYTES: usize = 100;
/// Bytes of a read.
const READ_BYTES: usize = 4096;
/// Files that are made at the most in search of a number that suits.
const SEARCH_MAX: usize = 1_000;
/// Tokens of what is watched.
const WATCHED: u32 = 0;
const SHARER: u32 = 1;

/// The rungs that cost something.
const RUNGS: [Rung; 4] = [
    Rung::Inotify,
    Rung::RawTracepoint,
    Rung::TracepointBtf,
    Rung::FexitPerformWrite,
];

/// Ticks by cell.
type Cells = BTreeMap<String, i64>;

/// What is measured, and where.
#[derive(Debug)]
pub(crate) struct Tax<'a> {
    /// Files of this file system are watched.
    pub(crate) directory: &'a Path,
    /// Directories on other file systems.
    pub(crate) others: &'a [PathBuf],
    /// How often all is measured.
    pub(crate) rounds: usize,
    /// A tick is an instruction.
    pub(crate) counted: bool,
}

impl Tax<'_> {
    /// Prints a line for each cell of each rung.
    ///
    /// # Errors
    /// When files cannot be made, or a rung that was loaded does not serve them.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let ground = Ground::lay(self.directory, self.others)?;
        let unit = Unit::find(self.counted);
        println!("UNIT {}", unit.name());
        ground.measure()?;
        let mut rows: BTreeMap<&str, Vec<Cells>> = BTreeMap::new();
        for _ in 0..self.rounds {
            let base = ground.measure()?;
            let mut add = |name, cells: Cells| {
                let less = |(cell, ticks): (String, i64)| {
                    let base = base.get(bare(&cell)).copied().unwrap_or(0);
                    (cell, ticks - base)
                };
                let cells = cells.into_iter().map(less).collect();
                rows.entry(name).or_default().push(cells);
            };
            add("directory", ground.with_directory_watch()?);
            for rung in RUNGS {
                if let Some(cells) = ground.with(rung)? {
                    add(rung.name(), cells);
                }
            }
            add("none-again", ground.measure()?);
            rows.entry("none").or_default().push(base);
        }
        for (name, rounds) in rows {
            say(name, &rounds, unit);
        }
        ground.clear()
    }
}

/// The cell without an agent that this one is compared with.
fn bare(cell: &str) -> &str {
    match cell {
        "append-fired" => "append-watched",
        "append-shared" => "append-unwatched",
        other => other,
    }
}

fn say(name: &str, rounds: &[Cells], unit: Unit) {
    let Some(first) = rounds.first() else { return };
    for cell in first.keys() {
        let mut all: Vec<i64> = (rounds.iter())
            .filter_map(|cells| cells.get(cell).copied())
            .collect();
        println!("TAX {name} {cell} {:.0}", unit.of(median(&mut all)));
    }
}

fn median(all: &mut [i64]) -> i64 {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

/// The files.
#[derive(Debug)]
struct Ground {
    directory: PathBuf,
    watched: PathBuf,
    /// Beside it; its number does not fall on the same byte of the filter.
    unwatched: PathBuf,
    /// Name of the file system's directory, and a file on it.
    others: Vec<(String, PathBuf)>,
}

impl Ground {
    fn lay(directory: &Path, others: &[PathBuf]) -> anyhow::Result<Self> {
        let folder = |at: &Path| {
            let folder = at.join(format!("tailwake-tax-{}", std::process::id()));
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("create {}", folder.display()))?;
            anyhow::Ok(folder)
        };
        let directory = folder(directory)?;
        let watched = directory.join("watched.log");
        std::fs::write(&watched, b"x")?;
        let byte = filter_byte(&watched)?;
        let elsewhere = |folder: &Path| {
            for number in 0..SEARCH_MAX {
                let path = folder.join(format!("unwatched-{number}.log"));
                std::fs::write(&path, b"x")?;
                if filter_byte(&path)? != byte {
                    return Ok(path);
                }
            }
            anyhow::bail!("every file's number falls on one byte of the filter");
        };
        let unwatched = elsewhere(&directory)?;
        let other = |at: &PathBuf| {
            let name = at.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or("root").to_owned();
            anyhow::Ok((name, elsewhere(&folder(at)?)?))
        };
        let others = others.iter().map(other).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            directory,
            watched,
            unwatched,
            others,
        })
    }

    /// Removes what was made.
    fn clear(&self) -> anyhow::Result<()> {
        let folders = self.others.iter().filter_map(|(_, path)| path.parent());
        for folder in folders.chain([&*self.directory]) {
            std::fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    /// All cells that need no wake source.
    fn measure(&self) -> anyhow::Result<Cells> {
        let mut cells = Cells::new();
        let mut add = |cell: &str, ticks| {
            cells.insert(cell.to_owned(), ticks);
        };
        add("append-watched", appends(&self.watched)?);
        add("append-unwatched", appends(&self.unwatched)?);
        add("read-watched", reads(&self.watched)?);
        add("read-unwatched", reads(&self.unwatched)?);
        add("open-watched", opens(&self.watched)?);
        add("open-unwatched", opens(&self.unwatched)?);
        add("pipe", pipe()?);
        for (name, path) in &self.others {
            add(&format!("append-on-{name}"), appends(path)?);
        }
        Ok(cells)
    }

    /// With the watch that discovery has on a container's directory, and no rung.
    fn with_directory_watch(&self) -> anyhow::Result<Cells> {
        let files = MachineFiles::watching(vec![self.directory.clone()])?;
        files.watch(&self.directory)?;
        self.measure()
    }

    /// With a rung; `None` where the kernel refuses it, which is said.
    fn with(&self, rung: Rung) -> anyhow::Result<Option<Cells>> {
        let roots = [self.directory.clone()];
        let (mut wakes, report) = Ladder::choose(choice(rung), &roots, 1, 64);
        let mut wake = wakes.pop().context("the ladder gave no wake source")?;
        if wake.rung() != rung {
            let why = report.skipped.iter().find(|skipped| skipped.rung == rung);
            println!("SKIPPED {} {}", rung.name(), why.map_or("", |why| &why.why));
            return Ok(None);
        }
        let file = File::open(&self.watched)?;
        wake.watch(WATCHED, &file, file.metadata()?.ino())?;
        anyhow::ensure!(
            wake.rung_of(WATCHED) == rung,
            "{} does not serve {}",
            rung.name(),
            self.watched.display()
        );
        let mut reader = Reader {
            wake,
            watched: &self.watched,
        };
        let (fired, armed, drained) = reader.fire()?;
        // The event of the last of them is pending, and stays so.
        let mut cells = self.measure()?;
        cells.insert("append-fired".to_owned(), fired);
        cells.insert("reader-arm".to_owned(), armed);
        cells.insert("reader-drain".to_owned(), drained);
        if rung < Rung::Inotify {
            let shared = reader.shared(&file, &self.unwatched)?;
            cells.insert("append-shared".to_owned(), shared);
        }
        Ok(Some(cells))
    }
}

/// The reader's part of the protocol.
#[derive(Debug)]
struct Reader<'a> {
    wake: Wake,
    watched: &'a Path,
}

impl Reader<'_> {
    /// Writes that find the file armed, each: ticks of the write, of arming and of taking the event.
    /// Nobody sleeps for the event: waking a thread is the scheduler's price, and hardly the writer's.
    fn fire(&mut self) -> anyhow::Result<(i64, i64, i64)> {
        let file = appending(self.watched)?;
        file.set_len(0)?;
        let bytes = [b'x'; APPEND_BYTES];
        let (mut fired, mut armed, mut drained) = (Vec::new(), Vec::new(), Vec::new());
        let mut woken = Vec::new();
        for round in 0..WARM + OPERATIONS {
            let begun = ticks();
            self.wake.arm(WATCHED)?;
            let ready = ticks();
            (&file).write_all(&bytes)?;
            let wrote = ticks();
            // The last event stays pending.
            if round + 1 == WARM + OPERATIONS {
                break;
            }
            let pending = ticks();
            woken.clear();
            self.wake.drain(&mut woken)?;
            let taken = ticks();
            anyhow::ensure!(woken == [WATCHED], "a write was not announced: {woken:?}");
            if round >= WARM {
                armed.push((ready - begun).cast_signed());
                fired.push((wrote - ready).cast_signed());
                drained.push((taken - pending).cast_signed());
            }
        }
        Ok((median(&mut fired), median(&mut armed), median(&mut drained)))
    }

    /// Appends to a file nobody watches whose number falls on a watched one's byte of the filter: the
    /// hash has to be asked.
    fn shared(&mut self, file: &File, unwatched: &Path) -> anyhow::Result<i64> {
        let number = unwatched.metadata()?.ino() + BLOOM_BYTES as u64;
        self.wake.watch(SHARER, file, number)?;
        appends(unwatched)
    }
}

fn filter_byte(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.ino() % BLOOM_BYTES as u64)
}

/// The median of the operation's ticks.
fn each(mut operation: impl FnMut() -> io::Result<()>) -> anyhow::Result<i64> {
    for _ in 0..WARM {
        operation()?;
    }
    let mut all = Vec::with_capacity(OPERATIONS);
    for _ in 0..OPERATIONS {
        let begun = ticks();
        operation()?;
        all.push((ticks() - begun).cast_signed());
    }
    Ok(median(&mut all))
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

/// Each series begins with an empty file, so that each crosses as many pages.
fn appends(path: &Path) -> anyhow::Result<i64> {
    let file = appending(path)?;
    file.set_len(0)?;
    let bytes = [b'x'; APPEND_BYTES];
    each(|| (&file).write_all(&bytes))
}

fn reads(path: &Path) -> anyhow::Result<i64> {
    let file = File::open(path)?;
    let mut bytes = [0; READ_BYTES];
    each(|| file.read_exact_at(&mut bytes, 0))
}

fn opens(path: &Path) -> anyhow::Result<i64> {
    each(|| File::open(path).map(drop))
}

/// Writes to a pipe, which probes on writes in general would see.
fn pipe() -> anyhow::Result<i64> {
    let (mut reader, mut writer) = io::pipe()?;
    let bytes = [b'x'; APPEND_BYTES];
    let mut taken = [0; APPEND_BYTES];
    let mut all = Vec::with_capacity(OPERATIONS);
    for round in 0..WARM + OPERATIONS {
        let begun = ticks();
        writer.write_all(&bytes)?;
        let ended = ticks();
        reader.read_exact(&mut taken)?;
        if round >= WARM {
            all.push((ended - begun).cast_signed());
        }
    }
    Ok(median(&mut all))
}
