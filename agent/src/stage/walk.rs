//! One record's way through the operations.
//!
//! 1. When a walk is over, the claims that the record still has are met: its caller settles them.
//! 2. A step that keeps a record takes its text and claims; the walk is then over.
//! 3. An output is given only records that owe it something.

use std::borrow::Cow;

use super::held::{Held, copy, settle};
use super::json::JsonScratch;
use super::program::{At, END, KEPT, Op, Program, matches};
use super::record::{Json, Record, Sink, Stream, TimeOrigin};
use super::values;
use crate::base::outputs::OutputSet;
use crate::base::time::{Mono, Timestamp};
use crate::line::frame::whole_characters;
use crate::line::{SecondCache, cri, docker};
use crate::plan::{JsonField, MultilineStage};

/// What the steps of one pass keep.
#[derive(Debug, Default)]
pub(super) struct Keep {
    pub(super) holds: Vec<Held>,
    /// Steps whose record has left although more of it may come: of a cut text the rest is left
    /// out, and a long block goes on as a new one.
    pub(super) marks: Vec<(At, Stream)>,
}

impl Keep {
    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.marks.is_empty()
    }

    fn find(&self, op: At, stream: Stream) -> Option<usize> {
        self.holds
            .iter()
            .position(|held| held.op == op && held.stream == stream)
    }

    fn has_mark(&self, op: At, stream: Stream) -> bool {
        self.marks.contains(&(op, stream))
    }

    fn unmark(&mut self, op: At, stream: Stream) {
        self.marks.retain(|mark| *mark != (op, stream));
    }
}

/// What a chunk counts, added up before it is added to the counters.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) frame: crate::line::frame::FrameCounts,
    pub(super) not_cri: u64,
    pub(super) not_docker: u64,
    pub(super) json_errors: u64,
    pub(super) time_errors: u64,
    /// Multiline blocks that were let go before their time.
    pub(super) early: u64,
    /// By place in [`Program::reasons`].
    pub(super) dropped: Vec<u64>,
}

/// Everything a walk needs but the record.
pub(super) struct Walk<'m> {
    pub(super) program: &'m Program,
    pub(super) keep: &'m mut Keep,
    pub(super) scratch: &'m mut JsonScratch,
    pub(super) seconds: &'m mut SecondCache,
    pub(super) counts: &'m mut Counts,
    pub(super) sink: &'m mut dyn Sink,
    pub(super) now: Mono,
    pub(super) wall: Timestamp,
}

impl Walk<'_> {
    /// Walks a line from the beginning of its input, and settles what is left of it.
    pub(super) fn start(&mut self, record: &mut Record<'_>) {
        let root = self.program.root(record.source.input);
        if !self.program.has_head(root) {
            self.limit(record);
        }
        if self.run(record, root) {
            record.end();
        }
        if !record.held.is_empty() {
            settle(&mut record.held);
        }
    }

    /// Walks a held record on from after the step that kept it.
    pub(super) fn resume(&mut self, held: Held) {
        let next = match &self.program.ops.get(held.op as usize) {
            Some(Op::Cri { next } | Op::Docker { next } | Op::Multiline { next, .. }) => *next,
            // No other step keeps records.
            _ => END,
        };
        held.give_back(|record| {
            if self.run(record, next) {
                record.end();
            }
        });
    }

    /// Walks it from `at`; says whether nobody keeps it.
    fn run(&mut self, record: &mut Record<'_>, mut at: At) -> bool {
        let program = self.program;
        while let Some(op) = program.ops.get(at as usize) {
            at = match op {
                Op::Cri { next } => self.cri(record, at, *next),
                Op::Docker { next } => self.docker(record, at, *next),
                Op::Json { fields, next } => {
                    self.json(record, fields);
                    *next
                }
                Op::Labels { fields, next } => {
                    values::set_labels(record, fields);
                    *next
                }
                Op::Drop {
                    stage,
                    reason,
                    next,
                } => {
                    if values::is_dropped(record, stage, self.wall) {
                        self.counts.dropped[*reason] += 1;
                        return true;
                    }
                    *next
                }
                Op::Timestamp { stage, next } => {
                    if !values::set_time(record, stage) {
                        self.counts.time_errors += 1;
                    }
                    *next
                }
                Op::Multiline { stage, next } => self.multiline(record, stage, at, *next),
                Op::Match {
                    matchers,
                    inside,
                    next,
                } => {
                    if matches(matchers, record) {
                        *inside
                    } else {
                        *next
                    }
                }
                Op::Copy(branches) => {
                    let mut ends = true;
                    let ordinal = record.ordinal;
                    for branch in branches {
                        record.ordinal = ordinal.rotate_left(7).wrapping_add(branch.mark);
                        if branch.changes {
                            let mut own = copy(record);
                            ends &= self.run(&mut own, branch.at);
                            record.sent = record.sent.or(own.sent);
                            settle(&mut own.held);
                        } else {
                            ends &= self.run(record, branch.at);
                        }
                    }
                    record.ordinal = ordinal;
                    return ends;
                }
                Op::Output {
                    output,
                    route,
                    next,
                } => {
                    if record.owes(*output) {
                        record.route = *route;
                        self.sink.emit(*output, record);
                        record.sent = record.sent.or(OutputSet::one(*output));
                    }
                    *next
                }
                Op::End { reason } => {
                    self.counts.dropped[*reason] += 1;
                    return true;
                }
            };
        }
        at != KEPT
    }

    fn cri(&mut self, record: &mut Record<'_>, at: At, next: At) -> At {
        let Some(line) = cri::parse(&record.text, self.seconds) else {
            if without_hole(record) {
                return self.cri(record, at, next);
            }
            self.counts.not_cri += 1;
            self.limit(record);
            return next;
        };
        let (partial, kept) = (line.partial, line.text.len());
        record.stream = line.stream;
        record.time = line.time;
        record.time_origin = TimeOrigin::Line;
        record.json = Json::Unknown;
        match &mut record.text {
            Cow::Borrowed(text) => *text = &text[text.len() - kept..],
            Cow::Owned(text) => {
                text.drain(..text.len() - kept);
            }
        }
        // Fast path: a whole line, and nothing of its pass is kept.
        if !partial && self.keep.is_empty() {
            self.limit(record);
            return next;
        }
        self.part(record, partial, at, next)
    }

    fn docker(&mut self, record: &mut Record<'_>, at: At, next: At) -> At {
        let line = match &record.text {
            Cow::Borrowed(text) => docker::parse(text, self.seconds),
            Cow::Owned(text) => docker::parse(text, self.seconds).map(|line| docker::DockerLine {
                text: Cow::Owned(line.text.into_owned()),
                ..line
            }),
        };
        let Some(line) = line else {
            self.counts.not_docker += 1;
            self.limit(record);
            return next;
        };
        record.stream = line.stream;
        record.time = line.time;
        record.time_origin = TimeOrigin::Line;
        record.json = Json::Unknown;
        record.text = line.text;
        self.part(record, line.partial, at, next)
    }

    /// Joins the parts of a text. A text that has reached the limit goes on at once; what still
    /// comes of it is left out.
    fn part(&mut self, record: &mut Record<'_>, partial: bool, at: At, next: At) -> At {
        let max = self.program.record_max;
        if self.keep.has_mark(at, record.stream) {
            if !partial {
                self.keep.unmark(at, record.stream);
            }
            self.counts.frame.bytes_cut += record.text.len() as u64;
            return END;
        }
        self.limit(record);
        match self.keep.find(at, record.stream) {
            None if partial && !record.cut => {
                self.keep.holds.push(Held::take(record, at, None));
                return KEPT;
            }
            None => {}
            Some(place) => {
                let held = &mut self.keep.holds[place];
                let full = record.cut || held.text.len() + record.text.len() > max;
                if partial && !full {
                    held.append(&[], record, max);
                    return KEPT;
                }
                let was_cut = record.cut;
                let out = self.keep.holds.swap_remove(place).join_into(record, max);
                self.counts.frame.bytes_cut += out as u64;
                self.counts.frame.cut += u64::from(record.cut && !was_cut);
            }
        }
        if partial {
            self.keep.marks.push((at, record.stream));
        }
        next
    }

    fn multiline(
        &mut self,
        record: &mut Record<'_>,
        stage: &MultilineStage,
        at: At,
        next: At,
    ) -> At {
        let stream = record.stream;
        let due = Some(self.now.plus_ms(stage.wait_ms));
        let is_first = stage.first_line.is_match(&record.text);
        let place = match (self.keep.find(at, stream), is_first) {
            (Some(place), true) => {
                let before = self.keep.holds.swap_remove(place);
                self.resume(before);
                None
            }
            (place, _) => place,
        };
        let starts = is_first || self.keep.has_mark(at, stream);
        match place {
            // A line before the first block passes by.
            None if !starts => return next,
            None => {
                self.keep.unmark(at, stream);
                self.keep.holds.push(Held::take(record, at, due));
            }
            Some(place) => {
                let held = &mut self.keep.holds[place];
                let was_cut = held.cut || record.cut;
                let out = held.append(b"\n", record, self.program.record_max);
                held.due = due;
                self.counts.frame.bytes_cut += out as u64;
                self.counts.frame.cut += u64::from(held.cut && !was_cut);
            }
        }
        self.leave_full(stage, at, stream);
        KEPT
    }

    /// Lets a block go that can grow no more.
    fn leave_full(&mut self, stage: &MultilineStage, at: At, stream: Stream) {
        let Some(place) = self.keep.find(at, stream) else {
            return;
        };
        let held = &self.keep.holds[place];
        if held.cut || held.lines as usize >= stage.lines_max {
            self.keep.marks.push((at, stream));
            let full = self.keep.holds.swap_remove(place);
            self.resume(full);
        }
    }

    fn json(&mut self, record: &mut Record<'_>, fields: &[JsonField]) {
        match &record.text {
            Cow::Borrowed(text) => {
                let text = *text;
                let Some(object) = self.scratch.object(text) else {
                    self.counts.json_errors += 1;
                    record.json = Json::Other;
                    return;
                };
                if record.json == Json::Unknown {
                    record.json = object.json();
                }
                for field in fields {
                    if let Some(value) = object.get_from(&field.path, text) {
                        values::set_extracted(&mut record.extracted, &field.name, value);
                    }
                }
            }
            Cow::Owned(text) => {
                let Some(object) = self.scratch.object(text) else {
                    self.counts.json_errors += 1;
                    record.json = Json::Other;
                    return;
                };
                if record.json == Json::Unknown {
                    record.json = object.json();
                }
                for field in fields {
                    // The text may move: what is taken from it is taken along.
                    if let Some(value) = object.get(&field.path) {
                        let value = values::into_owned(value);
                        values::set_extracted(&mut record.extracted, &field.name, value);
                    }
                }
            }
        }
    }

    fn limit(&mut self, record: &mut Record<'_>) {
        let max = self.program.record_max;
        if record.text.len() <= max {
            return;
        }
        self.counts.frame.bytes_cut += (record.text.len() - max) as u64;
        self.counts.frame.cut += u64::from(!record.cut);
        record.cut = true;
        record.json = Json::Unknown;
        let kept = whole_characters(&record.text[..max]);
        match &mut record.text {
            Cow::Borrowed(text) => *text = &text[..kept],
            Cow::Owned(text) => text.truncate(kept),
        }
    }
}

/// Takes the NULs away that stand before a line; says whether there were any.
#[cold]
fn without_hole(record: &mut Record<'_>) -> bool {
    let whole = record.text.len();
    let hole = record.text.iter().take_while(|byte| **byte == 0).count();
    match &mut record.text {
        Cow::Borrowed(text) => *text = &text[hole..],
        Cow::Owned(text) => drop(text.drain(..hole)),
    }
    hole > 0 && hole < whole
}
