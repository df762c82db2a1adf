//! One container log: its files, oldest first, and the passes over them.

use std::sync::Arc;

use super::age::Age;
use super::file::Tail;
use super::rates::Allowance;
use crate::base::outputs::OutputSet;
use crate::base::pool::Permit;
use crate::base::share::Share;
use crate::base::time::{Mono, Timestamp};
use crate::discover::{Place, Rotated};
use crate::line::open::Open;
use crate::ticket::{FileId, PassId, Source, Ticket};

/// A walk over the log for a set of outputs.
#[derive(Debug)]
pub struct Pass {
    /// Its id; never used again.
    pub id: PassId,
    /// For whom.
    pub outputs: OutputSet,
    /// The file it is in.
    pub file: FileId,
    /// The next byte.
    pub offset: u64,
    /// A read to here found nothing that could be taken: an unfinished line or record.
    pub dry: u64,
    /// What the last chunk left open.
    pub open: Open,
    /// The claim that keeps the open record's chunks from settling one by one.
    pub glue: Option<Ticket>,
    /// Ranges that are settled already may lie ahead: they are skipped.
    pub skips: bool,
    /// When whole lines that wait for the end of a record go on without it.
    pub flush: Option<Mono>,
    /// How far on disk the end of a record was looked for that is longer than a buffer.
    pub scan: Option<Box<Scan>>,
    /// Whether what is at its place is read through, though it leaves a record open.
    pub through: Through,
    /// For how long what is open has been so.
    pub age: Age,
    /// It may leave a record open.
    pub permit: Option<Permit>,
    /// It waits for such a permit, and does not read.
    pub waits: bool,
}

/// How far a record's end was looked for.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// The next byte.
    pub at: u64,
    /// What is open before it.
    pub open: Open,
}

/// Whether a record at a pass's place is read through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Through {
    /// Its end is to be looked for.
    #[default]
    No,
    /// Its end was found.
    Found,
    /// Its end is not looked for any more.
    Endless,
}

/// When a log is served again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Then, and not before: its file rests.
    NotBefore(Mono),
    /// Then, or when something happens before.
    AtLatest(Mono),
}

impl Due {
    /// The time.
    #[must_use]
    pub const fn at(self) -> Mono {
        match self {
            Self::NotBefore(at) | Self::AtLatest(at) => at,
        }
    }
}

impl Pass {
    /// A pass at a place between two records.
    #[must_use]
    pub fn new(id: PassId, outputs: OutputSet, (file, offset): (FileId, u64), skips: bool) -> Self {
        Self {
            id,
            outputs,
            file,
            offset,
            dry: 0,
            open: Open::default(),
            glue: None,
            skips,
            flush: None,
            scan: None,
            through: Through::No,
            age: Age::default(),
            permit: None,
            waits: false,
        }
    }

    /// Goes on at the beginning of another file; what is open stays so.
    pub fn enter(&mut self, file: FileId) {
        (self.file, self.offset, self.dry) = (file, 0, 0);
        (self.scan, self.through) = (None, Through::No);
    }

    /// Nothing is open any more; gives the permit back that it had.
    pub fn close(&mut self) -> Option<Permit> {
        (self.open, self.age) = (Open::default(), Age::default());
        self.let_go()
    }

    /// The encoder keeps nothing any more, and what is open holds nothing back.
    pub fn let_go(&mut self) -> Option<Permit> {
        self.through = Through::No;
        if let Some(glue) = self.glue.take() {
            glue.settle();
        }
        self.permit.take()
    }

    /// Whether it stands between two records.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.open.is_none()
    }
}

/// One container log.
#[derive(Debug)]
pub struct Log<H> {
    /// Whose it is.
    pub source: Arc<Source>,
    /// Its files, oldest first.
    pub files: Vec<Tail<H>>,
    /// The passes over them.
    pub passes: Vec<Pass>,
    /// Outputs in no pass: they join when they are attached and nothing is owed to them.
    pub apart: OutputSet,
    /// Where the read under way belongs: the pass, and what was asked for.
    pub reading: Option<Reading>,
    /// What it may read, where there are rates.
    pub(super) allowance: Option<Allowance>,
    /// Its buffers at the encoder, once there were any.
    pub(super) share: Option<Arc<Share>>,
    /// It stands in the ready queue.
    pub queued: bool,
    /// When it is served again, if nothing makes it ready.
    pub due: Option<Due>,
    /// The wait after a read that found bytes, in milliseconds.
    pub pace_ms: u64,
    /// Reads in a row that found bytes.
    pub busy: u32,
    /// Which pass is served next.
    pub turn: usize,
    /// When it fell asleep last.
    pub slept: Mono,
    /// Its directory is gone: no more files will come.
    pub ended: bool,
    /// Its encoder was told so.
    pub said_ended: bool,
}

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// For which pass.
    pub pass: PassId,
    /// In which file.
    pub file: FileId,
    /// From which byte.
    pub offset: u64,
    /// How many bytes were asked for.
    pub asked: usize,
    /// The file is past and quiet: what has no newline is complete too.
    pub last: bool,
    /// Whole lines go on, whatever record is open.
    pub flush: bool,
    /// A record's end is looked for: nothing goes on.
    pub scan: bool,
}

impl<H> Log<H> {
    /// An empty log of `source`, with all `outputs` apart.
    #[must_use]
    pub fn new(source: Arc<Source>, outputs: OutputSet, pace_ms: u64) -> Self {
        Self {
            source,
            // Most logs have one file and one pass most of the time.
            files: Vec::with_capacity(1),
            passes: Vec::with_capacity(1),
            apart: outputs,
            reading: None,
            allowance: None,
            share: None,
            queued: false,
            due: None,
            pace_ms,
            busy: 0,
            turn: 0,
            slept: Mono(0),
            ended: false,
            said_ended: false,
        }
    }

    /// The file's place in `files`.
    #[must_use]
    pub fn place_of(&self, file: FileId) -> Option<usize> {
        self.files.iter().position(|tail| tail.id == file)
    }

    /// The file.
    pub fn file(&mut self, file: FileId) -> Option<&mut Tail<H>> {
        self.files.iter_mut().find(|tail| tail.id == file)
    }

    /// The pass's place in `passes`.
    #[must_use]
    pub fn pass_at(&self, pass: PassId) -> Option<usize> {
        self.passes.iter().position(|have| have.id == pass)
    }

    /// Of several files in one place the last is there now. The others were renamed and deleted
    /// before their new names were seen: they are as old as the youngest name before them.
    pub fn settle_places(&mut self, place: Place) {
        let Some(now) = self.files.iter().rposition(|tail| tail.place == place) else {
            return;
        };
        let older = self.files.iter().map(|tail| tail.place);
        let before = older.filter(|older| *older < place && older.attempt == place.attempt);
        let rotated = before.map(|older| older.rotated).max();
        let rotated = rotated.unwrap_or(Rotated::At(Timestamp::default()));
        for tail in self.files[..now]
            .iter_mut()
            .filter(|tail| tail.place == place)
        {
            tail.place.rotated = rotated;
        }
    }

    /// Two passes that stand at the same clean place; the first is to end in the second.
    #[must_use]
    pub fn meeting(&self) -> Option<(usize, usize)> {
        let ready = |pass: &Pass| pass.is_clean() && !pass.skips;
        for (i, a) in self
            .passes
            .iter()
            .enumerate()
            .filter(|(_, pass)| ready(pass))
        {
            for (j, b) in self.passes.iter().enumerate().skip(i + 1) {
                if ready(b) && (a.file, a.offset) == (b.file, b.offset) {
                    return Some((i, j));
                }
            }
        }
        None
    }

    /// Whether a pass other than `but` stands between two records there.
    #[must_use]
    pub fn is_between(&self, file: FileId, offset: u64, but: PassId) -> bool {
        let mut others = self.passes.iter().filter(|pass| pass.id != but);
        others.any(|pass| pass.is_clean() && (pass.file, pass.offset) == (file, offset))
    }

    /// How far `pass` may read in its file before it reaches a pass that stands between records.
    #[must_use]
    pub fn limit(&self, pass: &Pass) -> u64 {
        let ahead = self.passes.iter().filter(|other| {
            other.is_clean()
                && other.id != pass.id
                && other.file == pass.file
                && other.offset > pass.offset
        });
        ahead
            .map(|other| other.offset - pass.offset)
            .min()
            .unwrap_or(u64::MAX)
    }
}
