//! One container: what it writes, and the rotation of its files.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::rng::Rng;
use super::world::World;
use crate::base::time::Timestamp;
use crate::discover::{Event, Place, Rotated};
use crate::ticket::{LogId, Meta, Source};

/// Names of the streams in CRI lines.
pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// Ends a container's last line in place of a newline.
pub(super) const LAST: &str = "<last>";

/// Which piece of which record a line is.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) start: u64,
    pub(super) stream: usize,
    pub(super) seq: usize,
}

/// One file.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) key: u64,
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) lines: Vec<Line>,
    pub(super) size: u64,
    pub(super) deleted: bool,
}

/// Bytes that are under way to a file.
#[derive(Debug)]
struct Pending {
    generation: usize,
    bytes: Vec<u8>,
    turns: u64,
}

/// One container.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) source: Arc<Source>,
    pub(super) files: Vec<Generation>,
    /// Texts by stream and number.
    pub(super) records: [Vec<String>; 2],
    queue: VecDeque<(usize, usize, String)>,
    pending: Option<Pending>,
    /// Renamed, and the new file is made at this time.
    reopens: Option<u64>,
    rotations: i64,
}

fn current() -> Place {
    Place {
        attempt: 0,
        rotated: Rotated::Current,
    }
}

impl Writer {
    pub(super) fn new(log: u32, world: &World) -> Self {
        let source = Source {
            log: LogId(log),
            input: 0,
            key: format!("log{log}").into(),
            filename: format!("/logs/{log}/0.log").into(),
            meta: Meta::default(),
            labels: Vec::new(),
            tag: None,
        };
        let mut writer = Self {
            source: Arc::new(source),
            files: Vec::new(),
            records: Default::default(),
            queue: VecDeque::new(),
            pending: None,
            reopens: None,
            rotations: 0,
        };
        writer.open(world);
        writer
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(&*self.source.filename)
    }

    fn open(&mut self, world: &World) {
        self.files.push(Generation {
            key: world.create(&self.path()),
            path: self.path(),
            place: current(),
            lines: Vec::new(),
            size: 0,
            deleted: false,
        });
    }

    /// Whether bytes are under way, so that time must go on in small steps.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether something is still to be written.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_none() && self.queue.is_empty() && self.reopens.is_none()
    }

    /// New records wait to be written, their parts mixed.
    pub(super) fn compose(&mut self, rng: &mut Rng) {
        let mut parts: [VecDeque<(usize, usize, String)>; 2] = Default::default();
        for _ in 0..=rng.below(4) {
            let stream = rng.below(2) as usize;
            let seq = self.records[stream].len();
            let mut text = format!("seq={seq}");
            let words = if rng.chance(8) { 60 } else { rng.below(6) };
            for _ in 0..words {
                let _ = write!(text, " P{:x}", rng.below(1 << 20));
            }
            self.records[stream].push(text.clone());
            for _ in 0..rng.below(6).saturating_sub(3) {
                let cut = rng.below(text.len() as u64) as usize;
                let rest = text.split_off(cut);
                parts[stream].push_back((stream, seq, line(stream, 'P', &text)));
                text = rest;
            }
            parts[stream].push_back((stream, seq, line(stream, 'F', &text)));
        }
        while parts.iter().any(|parts| !parts.is_empty()) {
            let stream = rng.below(2) as usize;
            let part = parts[stream].pop_front();
            self.queue
                .extend(part.or_else(|| parts[1 - stream].pop_front()));
        }
    }

    /// Writes some waiting lines: at once, in two halves, or announced before the size moves.
    pub(super) fn write(&mut self, world: &World, rng: &mut Rng) {
        if self.pending.is_some() || self.queue.is_empty() {
            return;
        }
        let generation = self.files.len() - 1;
        let file = &mut self.files[generation];
        let mut bytes = Vec::new();
        for _ in 0..=rng.below(6) {
            let Some((stream, seq, line)) = self.queue.pop_front() else {
                break;
            };
            let start = file.size;
            file.size += line.len() as u64;
            file.lines.push(Line { start, stream, seq });
            bytes.extend_from_slice(line.as_bytes());
        }
        let mut late = Vec::new();
        if rng.chance(25) {
            late = bytes.split_off(rng.below(bytes.len() as u64) as usize);
        }
        let announced = rng.chance(30);
        if !bytes.is_empty() && announced && late.is_empty() {
            world.announce(self.files[generation].key, bytes.len() as u64);
            std::mem::swap(&mut bytes, &mut late);
        }
        if !bytes.is_empty() {
            world.append(self.files[generation].key, &bytes);
            // A hook after the write: the size has moved when it fires.
            world.announce(self.files[generation].key, 0);
        }
        if !late.is_empty() {
            self.pending = Some(Pending {
                generation,
                bytes: late,
                turns: rng.below(4),
            });
        }
    }

    /// Time goes on: late bytes are written, the new file is made.
    pub(super) fn pass(&mut self, world: &World, now: u64, news: &mut Vec<Event>) {
        if let Some(pending) = &mut self.pending {
            if pending.turns > 0 {
                pending.turns -= 1;
            } else if let Some(pending) = self.pending.take() {
                let key = self.files[pending.generation].key;
                world.append(key, &pending.bytes);
                world.announce(key, 0);
            }
        }
        if self.reopens.is_some_and(|at| at <= now) {
            self.reopens = None;
            self.open(world);
            news.push(Event::Found {
                source: Arc::clone(&self.source),
                path: self.path(),
                place: current(),
                at_start: false,
            });
        }
    }

    /// The current file is renamed; the new one is made at `reopens`.
    pub(super) fn rotate(&mut self, world: &World, reopens: u64, news: &mut Vec<Event>) {
        if self.reopens.is_some() {
            return;
        }
        self.rotations += 1;
        let at = Timestamp {
            secs: self.rotations,
            nanos: 0,
        };
        let from = self.path();
        let to = PathBuf::from(format!("{}.{:04}", from.display(), self.rotations));
        let place = Place {
            attempt: 0,
            rotated: Rotated::At(at),
        };
        world.rename_log(&from, &to);
        if let Some(file) = self.files.last_mut() {
            (file.path, file.place) = (to.clone(), place);
        }
        self.reopens = Some(reopens);
        news.push(Event::Moved {
            source: Arc::clone(&self.source),
            from,
            to,
            place,
        });
    }

    /// The oldest rotated file that is still there.
    pub(super) fn oldest(&self) -> Option<usize> {
        let at = self.files.iter().position(|file| !file.deleted)?;
        (at + 1 < self.files.len()).then_some(at)
    }

    /// Deletes a file.
    pub(super) fn delete(&mut self, at: usize, world: &World, news: &mut Vec<Event>) {
        let file = &mut self.files[at];
        file.deleted = true;
        world.delete(&file.path);
        news.push(Event::Gone {
            source: Arc::clone(&self.source),
            path: file.path.clone(),
        });
    }

    /// The container ends in the middle of a line and all its files go.
    pub(super) fn end(&mut self, world: &World, news: &mut Vec<Event>) {
        let seq = self.records[0].len();
        // Of a buffer's length for every other run: the file may end where a buffer does.
        let width = if seq.is_multiple_of(2) { 0 } else { 300 - 46 };
        let text = format!("{:width$}", format!("seq={seq} the end"));
        let bytes = line(0, 'F', &text).replace('\n', LAST);
        self.records[0].push(text);
        let last = self.files.len() - 1;
        let file = &mut self.files[last];
        file.lines.push(Line {
            start: file.size,
            stream: 0,
            seq,
        });
        file.size += bytes.len() as u64;
        world.append(file.key, bytes.as_bytes());
        world.announce(file.key, 0);
        for at in 0..self.files.len() {
            if !self.files[at].deleted {
                self.delete(at, world, news);
            }
        }
        news.push(Event::Ended {
            source: Arc::clone(&self.source),
        });
    }

    /// What discovery finds when it lists everything.
    pub(super) fn listing(&self) -> impl Iterator<Item = Event> + '_ {
        let there = self.files.iter().filter(|file| !file.deleted);
        there.map(|file| Event::Found {
            source: Arc::clone(&self.source),
            path: file.path.clone(),
            place: file.place,
            at_start: true,
        })
    }
}

fn line(stream: usize, tag: char, text: &str) -> String {
    let stream = STREAMS[stream];
    format!("2026-11-24T05:00:00.123456789Z {stream} {tag} {text}\n")
}
