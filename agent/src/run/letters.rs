//! Dead letters on disk: NDJSON files of each output, the oldest dropped when there are too many.
//!
//! ```text
//! DeadQueue -> STATE/dead/OUTPUT/00000007.ndjson --file_bytes--> 00000008.ndjson, 00000004 goes
//! ```
//!
//! 1. On the disk thread alone. What cannot be written is counted as lost, and nobody waits.
//! 2. A file holds whole lines: what a full disk cut off is cut away.
//! 3. An output has `files` files of little more than `file_bytes` at the most; what goes with the oldest
//!    is counted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::count::{Counter, Registry};
use crate::base::quiet::Quiet;
use crate::base::time::{Clock as _, MachineClock};
use crate::deliver::{DeadQueue, Letter, dead};
use crate::plan::{DeadLetters, Plan};

/// Letters are written in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// The directory of an output's dead letters.
#[must_use]
pub fn directory(state: &Path, output: &str) -> PathBuf {
    state.join("dead").join(output)
}

/// An output's files, oldest first.
///
/// # Errors
/// The directory cannot be listed; one that is not there is empty.
pub fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_ours = path.extension().is_some_and(|end| end == "ndjson");
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if let (true, Some(number)) = (is_ours, number) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Makes the directories, while it may still be done; says which could not be made.
pub(super) fn prepare(plan: &Plan) {
    for output in plan.outputs.iter().filter(|it| it.dead_letters.is_some()) {
        let dir = directory(&plan.state, &output.name);
        if let Err(error) = fs::create_dir_all(&dir) {
            tracing::error!(path = %dir.display(), %error,
                "cannot make the directory of dead letters: rejected lines are counted, and kept nowhere");
        }
    }
}

/// The files of all outputs.
#[derive(Debug)]
pub(super) struct Letters {
    queue: Arc<DeadQueue>,
    books: BTreeMap<Arc<str>, Book>,
    clock: MachineClock,
    quiet: Quiet,
}

#[derive(Debug)]
struct Book {
    dir: PathBuf,
    limits: DeadLetters,
    open: Option<Open>,
    piece: Vec<u8>,
    /// Letters and lines in the piece.
    waiting: (u64, u64),
    written: Arc<Counter>,
    lost: Arc<Counter>,
    dropped: Arc<Counter>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

impl Letters {
    pub(super) fn new(
        plan: &Plan,
        queue: Arc<DeadQueue>,
        clock: MachineClock,
        registry: &Registry,
    ) -> Self {
        let book = |output: &crate::plan::Output| {
            let book = Book::new(&plan.state, &output.name, output.dead_letters?, registry);
            Some((Arc::from(output.name.as_str()), book))
        };
        Self {
            queue,
            books: plan.outputs.iter().filter_map(book).collect(),
            clock,
            quiet: Quiet::default(),
        }
    }

    /// Writes what waits.
    pub(super) fn drain(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let now = self.clock.wall();
        let time = jiff::Timestamp::new(now.secs, now.nanos.cast_signed()).unwrap_or_default();
        let time = time.to_string();
        let mut touched = Vec::new();
        while let Some(letter) = self.queue.take() {
            let name = Arc::clone(&letter.output);
            let Some(book) = self.books.get_mut(&name) else {
                continue;
            };
            if !touched.contains(&name) {
                touched.push(name);
            }
            if let Err(error) = book.push(&letter, &time) {
                complain(&mut self.quiet, self.clock, &book.dir, &error);
            }
        }
        for name in touched {
            if let Some(book) = self.books.get_mut(&name)
                && let Err(error) = book.flush(true)
            {
                complain(&mut self.quiet, self.clock, &book.dir, &error);
            }
        }
    }
}

fn complain(quiet: &mut Quiet, clock: MachineClock, dir: &Path, error: &io::Error) {
    if let Some(suppressed) = quiet.allow(clock.mono(), error.raw_os_error()) {
        tracing::error!(path = %dir.display(), %error, suppressed,
            "cannot write dead letters: rejected lines are counted and kept nowhere, delivery goes on; \
             make room on the disk of `state`, or give the agent the right to write there");
    }
}

impl Book {
    fn new(state: &Path, output: &str, limits: DeadLetters, registry: &Registry) -> Self {
        let labels = [("output", output)];
        let counter = |name, help| registry.counter(name, help, &labels);
        Self {
            dir: directory(state, output),
            limits,
            open: None,
            piece: Vec::new(),
            waiting: (0, 0),
            written: counter(
                "tailwake_deadletters_total",
                "Rejected records that were written to the output's dead letters.",
            ),
            lost: dead::lost_counter(output, registry),
            dropped: counter(
                "tailwake_deadletters_dropped_total",
                "Dead letters that went with the oldest file of their output.",
            ),
        }
    }

    fn push(&mut self, letter: &Letter, time: &str) -> io::Result<()> {
        self.piece.extend_from_slice(letter.json(time).as_bytes());
        self.piece.push(b'\n');
        self.waiting.0 += 1;
        self.waiting.1 += u64::from(letter.lines);
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        self.flush(false)
    }

    /// Writes the piece; what cannot be written is lost, counted.
    fn flush(&mut self, syncs: bool) -> io::Result<()> {
        let done = self.write(syncs);
        self.piece.clear();
        let (letters, lines) = std::mem::take(&mut self.waiting);
        match &done {
            Ok(()) => self.written.add(letters),
            Err(_) => self.lost.add(lines),
        }
        done
    }

    fn write(&mut self, syncs: bool) -> io::Result<()> {
        let limit = self.limits.file_bytes.0;
        if self.open.as_ref().is_none_or(|open| open.bytes >= limit) {
            self.open = None;
            self.open = Some(self.next()?);
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if let Err(error) = open.file.write_all(&self.piece) {
            // Half a line would spoil the file.
            let _ = open.file.set_len(open.bytes);
            self.open = None;
            return Err(error);
        }
        open.bytes += self.piece.len() as u64;
        if syncs { open.file.sync_data() } else { Ok(()) }
    }

    /// The newest file while there is room in it, else a new one; the oldest go.
    fn next(&mut self) -> io::Result<Open> {
        let mut files = files(&self.dir)?;
        let newest = files.last().cloned();
        let appended = |path: &Path| {
            let file = File::options().append(true).create(true).open(path)?;
            let bytes = file.metadata()?.len();
            Ok::<_, io::Error>(Open { file, bytes })
        };
        if let Some((_, path)) = &newest {
            let open = appended(path)?;
            if open.bytes < self.limits.file_bytes.0 {
                return Ok(open);
            }
        }
        let number = newest.map_or(1, |(number, _)| number + 1);
        while files.len() as u64 >= self.limits.files {
            let (_, oldest) = files.remove(0);
            let letters = fs::read(&oldest).map(|bytes| memchr::memchr_iter(b'\n', &bytes).count());
            fs::remove_file(&oldest)?;
            self.dropped.add(letters.unwrap_or(0) as u64);
        }
        appended(&self.dir.join(format!("{number:08}.ndjson")))
    }
}

#[cfg(test)]
#[path = "letters_tests.rs"]
mod tests;
