//! One container as its runtime writes it: CRI lines in two streams, and the rotation of its files.
//!
//! 1. A record is one `F` line, or `P` lines and an `F` line; parts of the two streams are mixed.
//! 2. Writes may be torn in two, announced before the size moves, or announced and never made.
//! 3. After a rename the old file is written to until the new one is there, as by containerd.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::books::{Books, Id};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::{Key, World};

/// Names of the streams in CRI lines.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// Rotations of one container are at least this far apart; kubelet's are 10 s apart.
const ROTATION_MS: u64 = 200;

/// What a container writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Lines of text; some bear a mark by which the plan drops them.
    Plain,
    /// JSON objects.
    Json,
    /// Blocks of lines, which the plan joins.
    Blocks,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) key: Key,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) deleted: bool,
    /// The attempt that wrote it.
    pub(crate) attempt: u32,
    /// It stands for another file, compressed or copied: positions know it by that one's number.
    pub(crate) stands_in: bool,
}

/// Bytes that are under way to a file.
#[derive(Debug)]
struct Pending {
    key: Key,
    bytes: Vec<u8>,
    turns: u64,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    pub(crate) directory: PathBuf,
    /// Oldest first; the last is written to.
    pub(crate) files: Vec<Generation>,
    queue: VecDeque<(Id, Vec<u8>)>,
    pending: Option<Pending>,
    /// Renamed, and the new file is made at this time.
    reopens: Option<u64>,
    pub(crate) attempt: u32,
    pub(crate) rotations: u64,
    /// When the last one was.
    rotated: u64,
    /// It writes no more.
    pub(crate) ended: bool,
}

impl Writer {
    /// A container that has no file yet.
    pub(crate) fn new(number: usize, kind: Kind, directory: &Path) -> Self {
        Self {
            number,
            kind,
            directory: directory.to_owned(),
            files: Vec::new(),
            queue: VecDeque::new(),
            pending: None,
            reopens: None,
            attempt: 0,
            rotations: 0,
            rotated: 0,
            ended: false,
        }
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn current(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.attempt))
    }

    /// Makes the file that is written to.
    pub(crate) fn open(&mut self, world: &World, trace: &Trace) {
        let path = self.current();
        self.open_at(&path, world, trace);
    }

    /// Makes the file that is written to, somewhere else.
    pub(crate) fn open_at(&mut self, path: &Path, world: &World, trace: &Trace) {
        let key = world.create(path);
        trace.say(|| format!("node: {} is made, {key:?}", path.display()));
        self.files.push(Generation {
            key,
            path: path.to_owned(),
            size: 0,
            deleted: false,
            attempt: self.attempt,
            stands_in: false,
        });
    }

    /// Whether bytes are under way, so that time must go on in small steps.
    pub(crate) const fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether nothing is still to be written.
    pub(crate) fn is_done(&self) -> bool {
        self.pending.is_none() && self.queue.is_empty() && self.reopens.is_none()
    }

    /// New records wait to be written, their parts mixed.
    pub(crate) fn compose(&mut self, rng: &mut Rng, books: &mut Books) {
        if self.ended {
            return;
        }
        let mut parts: [VecDeque<(Id, Vec<u8>)>; 2] = Default::default();
        for _ in 0..=rng.below(4) {
            let stream = rng.place(2);
            let id = Id {
                container: self.number,
                stream,
                seq: books.next_seq(self.number, stream),
            };
            let (text, wanted) = self.text(id.seq, rng);
            let cuts = rng.below(6).saturating_sub(3) as usize;
            books.record(id, &text, wanted, 1 + cuts);
            let mut rest = text.as_bytes();
            for _ in 0..cuts {
                let (part, left) = rest.split_at(rng.place(rest.len()));
                parts[stream].push_back((id, line(stream, 'P', part)));
                rest = left;
            }
            parts[stream].push_back((id, line(stream, 'F', rest)));
        }
        while parts.iter().any(|parts| !parts.is_empty()) {
            let stream = rng.place(2);
            let part = parts[stream].pop_front();
            self.queue
                .extend(part.or_else(|| parts[1 - stream].pop_front()));
        }
    }

    /// A text, and which servers are to have it.
    fn text(&self, seq: usize, rng: &mut Rng) -> (String, [bool; 2]) {
        let words = if rng.chance(8) { 60 } else { rng.below(6) };
        let words: String = (0..words)
            .map(|_| format!(" ü{:x}", rng.below(1 << 20)))
            .collect();
        match self.kind {
            Kind::Json => (format!("{{\"seq\":{seq},\"m\":\"P F{words}\"}}"), [true; 2]),
            Kind::Blocks => {
                let first = if rng.chance(30) { " BEGIN" } else { "" };
                (format!("seq={seq}{first}{words}"), [true; 2])
            }
            Kind::Plain => match rng.below(10) {
                0 => (format!("seq={seq} DROP-ME{words}"), [false; 2]),
                1 => (format!("seq={seq} LOKI-ONLY{words}"), [true, false]),
                _ => (format!("seq={seq}{words}"), [true; 2]),
            },
        }
    }

    /// Writes some waiting lines: at once, in two halves, or announced before the size moves.
    pub(crate) fn write(&mut self, world: &World, rng: &mut Rng, books: &mut Books, trace: &Trace) {
        if self.pending.is_some() || self.queue.is_empty() {
            return;
        }
        let ends = world.lock().weather.ends;
        let Some(file) = self.files.last_mut() else {
            return;
        };
        if ends && rng.once_in(500) {
            // The write fails after its hook has fired: the agent looks for its bytes, in the end
            // once more in a file that it had done with.
            books.surprise(self.number);
            world.announce(file.key, 1 + rng.place(50));
            trace.say(|| format!("node: a write to {} fails", file.path.display()));
            return;
        }
        let (from, mut bytes) = (file.size, Vec::new());
        for _ in 0..=rng.below(6) {
            let Some((id, line)) = self.queue.pop_front() else {
                break;
            };
            let start = file.size;
            file.size += line.len() as u64;
            books.line(file.key, start, file.size, id);
            bytes.extend_from_slice(&line);
        }
        trace.say(|| format!("node: {} grows {from}..{}", file.path.display(), file.size));
        let mut late = Vec::new();
        if rng.chance(25) {
            late = bytes.split_off(rng.place(bytes.len()));
        }
        if late.is_empty() && ends && rng.chance(30) {
            world.announce(file.key, bytes.len());
            std::mem::swap(&mut bytes, &mut late);
        }
        if !bytes.is_empty() {
            world.append(file.key, &bytes);
            world.announce(file.key, 0);
        }
        if !late.is_empty() {
            self.pending = Some(Pending {
                key: file.key,
                bytes: late,
                turns: rng.below(4),
            });
        }
    }

    /// Time goes on: late bytes are written, the new file is made.
    pub(crate) fn pass(&mut self, world: &World, now: u64, trace: &Trace) {
        if let Some(pending) = &mut self.pending {
            if pending.turns > 0 {
                pending.turns -= 1;
            } else if let Some(pending) = self.pending.take() {
                world.append(pending.key, &pending.bytes);
                world.announce(pending.key, 0);
            }
        }
        if self.reopens.is_some_and(|at| at <= now) {
            self.reopens = None;
            self.open(world, trace);
        }
    }

    /// When the new file is made.
    pub(crate) const fn reopens(&self) -> Option<u64> {
        self.reopens
    }

    /// The current file is renamed; the new one is made at `reopens`.
    pub(crate) fn rotate(
        &mut self,
        (now, reopens): (u64, u64),
        world: &World,
        books: &mut Books,
        trace: &Trace,
    ) {
        let soon = self.rotated + ROTATION_MS;
        if self.reopens.is_some() || self.ended || now < soon {
            return;
        }
        let Some(file) = self.files.last_mut() else {
            return;
        };
        let unseen = world.is_unseen(file.key);
        if unseen {
            if !books.stands_alone(file.key) {
                return;
            }
            books.surprise(self.number);
        }
        self.rotated = now;
        self.rotations += 1;
        let (minutes, seconds) = (self.rotations / 60, self.rotations % 60);
        let to = format!(
            "{}.20261124-03{minutes:02}{seconds:02}",
            file.path.display()
        );
        let from = std::mem::replace(&mut file.path, PathBuf::from(to));
        world.rename_log(&from, &file.path);
        trace.say(|| format!("node: {} is renamed, {:?}", file.path.display(), file.key));
        if unseen {
            // No line goes to the old file any more: none of its records goes on in the new one.
            return self.open(world, trace);
        }
        self.reopens = Some(reopens);
    }

    /// The container ends and begins again with a new attempt; its old files stay a while.
    pub(crate) fn restart(&mut self, world: &World, trace: &Trace) {
        if self.is_done() && !self.ended && !self.files.is_empty() {
            self.attempt += 1;
            self.open(world, trace);
        }
    }

    /// The oldest file that is not the one written to, if kubelet may delete it.
    pub(crate) fn oldest(&self) -> Option<usize> {
        let at = self.files.iter().position(|file| !file.deleted)?;
        let last = self.files.len() - 1;
        // Kubelet keeps the last file of the attempt before.
        let kept = self.files[at + 1..].iter().any(|file| {
            file.attempt == self.files[at].attempt || file.attempt > 1 + self.files[at].attempt
        });
        (at < last && kept).then_some(at)
    }

    /// Deletes a file.
    pub(crate) fn delete(&mut self, at: usize, world: &World, trace: &Trace) {
        let file = &mut self.files[at];
        file.deleted = true;
        trace.say(|| format!("node: {} is deleted, {:?}", file.path.display(), file.key));
        world.unlink(&file.path);
    }

    /// The container writes its last record, perhaps without a newline at its end.
    pub(crate) fn end(&mut self, world: &World, rng: &mut Rng, books: &mut Books, trace: &Trace) {
        let id = Id {
            container: self.number,
            stream: 0,
            seq: books.next_seq(self.number, 0),
        };
        self.ended = true;
        let Some(file) = self.files.last_mut() else {
            return;
        };
        // Of a buffer's length for some: the file may end where a buffer does.
        let width = if rng.chance(50) { 0 } else { 300 - 42 };
        let text = match self.kind {
            Kind::Json => format!("{{\"seq\":{},\"m\":\"end\"}}", id.seq),
            Kind::Blocks | Kind::Plain => format!("{:width$}", format!("seq={} the end", id.seq)),
        };
        books.record(id, &text, [true; 2], 1);
        let mut bytes = line(0, 'F', text.as_bytes());
        if rng.chance(50) {
            bytes.pop();
        }
        let start = file.size;
        file.size += bytes.len() as u64;
        books.line(file.key, start, file.size, id);
        trace.say(|| format!("node: {} ends at {}", file.path.display(), file.size));
        world.append(file.key, &bytes);
        world.announce(file.key, 0);
    }
}

/// One CRI line.
pub(crate) fn line(stream: usize, tag: char, text: &[u8]) -> Vec<u8> {
    let stream = STREAMS[stream];
    let mut line = format!("2026-11-24T05:00:00.123456789Z {stream} {tag} ").into_bytes();
    line.extend_from_slice(text);
    line.push(b'\n');
    line
}
