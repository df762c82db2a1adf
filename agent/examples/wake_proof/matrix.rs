//! Which writes each rung announces on a file system, and whether their end is known.
//!
//! ```text
//! prepare -> settle (read to the end, armed, asleep) -> act | drain, arm, read to the end -> verdict
//! ```
//!
//! 1. The reader keeps the agent's protocol and nothing else: no sweep, no timer, no second look.
//! 2. It looks all the while the writer writes, so that a hook which fires before the size has moved
//!    and names no end leaves bytes unread.
//! 3. Every rung's event is there when the writer's call returns: a look after that which finds
//!    nothing is the proof that nothing was announced.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tailwake::wake::{Ladder, Rung, Wake};

use crate::choice;
use crate::ways::{Way, Writer};

/// Acts per cell.
const ACTS: u32 = 20;
/// Looks for an announced end that does not come.
const LOOKS_MAX: u32 = 10_000_000;

/// The rungs that wake.
const RUNGS: [Rung; 4] = [
    Rung::FexitPerformWrite,
    Rung::TracepointBtf,
    Rung::RawTracepoint,
    Rung::Inotify,
];

/// What came of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Each act woke, and the reads that followed found all there is.
    End,
    /// Each act woke, yet something stayed unread.
    Woken,
    /// So many of the acts woke.
    Some(u32),
    /// None did.
    Unseen,
    /// The system refuses this way here.
    Refused(Option<i32>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => out.write_str("end"),
            Self::Woken => out.write_str("woken"),
            Self::Some(acts) => write!(out, "{acts}/{ACTS}"),
            Self::Unseen => out.write_str("unseen"),
            Self::Refused(code) => write!(out, "errno={}", code.unwrap_or(0)),
        }
    }
}

/// Prints a line for each rung that does not serve files here, and for each cell of those that do.
///
/// # Errors
/// When files cannot be made or read.
pub(crate) fn run(directory: &Path) -> anyhow::Result<()> {
    for rung in RUNGS {
        let (mut wakes, report) = Ladder::choose(choice(rung), &[directory.to_owned()], 1, 64);
        let mut wake = wakes.pop().context("the ladder gave no wake source")?;
        if wake.rung() != rung {
            let why = report.skipped.iter().find(|skipped| skipped.rung == rung);
            println!("ROW {} {}", rung.name(), why.map_or("", |why| &why.why));
            continue;
        }
        for way in Way::ALL {
            let path = directory.join(format!("proof-{}-{}", rung.name(), way.name()));
            let verdict = cell(&mut wake, way, &path)
                .with_context(|| format!("{} by {}", path.display(), way.name()))?;
            println!("CELL {} {} {verdict}", rung.name(), way.name());
        }
    }
    Ok(())
}

fn cell(wake: &mut Wake, way: Way, path: &PathBuf) -> anyhow::Result<Verdict> {
    let mut writer = Writer::create(way, path)?;
    let file = File::open(path)?;
    wake.watch(0, &file, file.metadata()?.ino())?;
    anyhow::ensure!(
        wake.rung_of(0) == wake.rung(),
        "the rung does not serve the file"
    );
    let mut reader = Reader { file, position: 0 };
    let (mut woken, mut unread) = (0, 0);
    for _ in 0..ACTS {
        writer.prepare()?;
        reader.settle(wake)?;
        match reader.watch_one(wake, &mut writer)? {
            Ok(woke) => woken += u32::from(woke),
            Err(error) => {
                wake.unwatch(0);
                std::fs::remove_file(path)?;
                return Ok(Verdict::Refused(error.raw_os_error()));
            }
        }
        unread += u32::from(reader.size()? != reader.position);
    }
    wake.unwatch(0);
    std::fs::remove_file(path)?;
    Ok(match woken {
        ACTS if unread == 0 => Verdict::End,
        ACTS => Verdict::Woken,
        0 => Verdict::Unseen,
        some => Verdict::Some(some),
    })
}

struct Reader {
    file: File,
    position: u64,
}

impl Reader {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whatever was announced is taken back, all is read, and the file is armed.
    fn settle(&mut self, wake: &mut Wake) -> io::Result<()> {
        let mut woken = Vec::new();
        while self.position != self.size()? || wake.drain(&mut woken)? > 0 {
            self.position = self.size()?;
        }
        wake.arm(0)
    }

    /// One act of the writer, on a thread of its own; whether it woke, or why it was refused.
    fn watch_one(
        &mut self,
        wake: &mut Wake,
        writer: &mut Writer,
    ) -> anyhow::Result<io::Result<bool>> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let result = writer.act();
                done.store(true, Ordering::SeqCst);
                result
            });
            let (mut woken, mut woke) = (Vec::new(), false);
            loop {
                let last = done.load(Ordering::SeqCst);
                woken.clear();
                if wake.drain(&mut woken)? > 0 {
                    woke = true;
                    wake.arm(0)?;
                    self.read_to_end(wake)?;
                } else if last {
                    break;
                }
            }
            let result = writing.join();
            let result = result.map_err(|_| anyhow::anyhow!("the writer panicked"))?;
            Ok(result.map(|()| woke))
        })
    }

    /// The file's size stands for its bytes: what is below it can be read.
    fn read_to_end(&mut self, wake: &Wake) -> io::Result<()> {
        self.position = self.size()?;
        let end = wake.expected_end(0).unwrap_or(0);
        for _ in 0..LOOKS_MAX {
            if self.position >= end {
                break;
            }
            self.position = self.size()?;
        }
        Ok(())
    }
}
