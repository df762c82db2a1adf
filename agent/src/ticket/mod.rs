//! What a piece of a log file still owes to each output.
//!
//! ```text
//! reader: Ticket::new(span, outputs) -> Chunk -> encoder
//!   encoder: ticket.split(one output) -> batch item -> Request -> lane: settle()   once an output
//!   encoder: held record keeps ticket.split(all)    -> later the same
//!   encoder: the chunk's own ticket.settle() when all its lines have been looked at
//! last claim of an output settled -> Settle::settled(span, output)
//! any claim dropped instead       -> Settle::failed(span, output)
//! ```
//!
//! 1. An output's span is settled only when every claim on it was settled by `settle`.
//! 2. A claim that is dropped (panic, shutdown, detached output) fails its outputs: nothing advances.
//! 3. Exactly one report is made for each output of a ticket, of all its spans at once.
//! 4. An output has *begun* a ticket when a record of it is in a batch of the output's. What is begun
//!    is finished, also by an output that is detached meanwhile: else the whole would come twice.

pub mod chunk;
pub mod source;

use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

pub use chunk::{Chunk, Ended, Feed, Feeds};
pub use source::{Facts, FileId, LogId, Meta, PassId, Source, Standing};

use crate::base::outputs::{OutputId, OutputSet};

/// A piece of one generation of one file, as read by one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The container log.
    pub log: LogId,
    /// The file, one generation of it.
    pub file: FileId,
    /// The pass that read it.
    pub pass: PassId,
    /// Offset of the first byte.
    pub start: u64,
    /// Offset after the last byte.
    pub end: u64,
    /// Lines that end in the piece.
    pub lines: u32,
}

/// What has become of a line, for one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFate {
    /// The output has stored it.
    Delivered,
    /// The output has refused it for good, which was counted.
    Rejected,
    /// On purpose it does not go there: by the plan, beyond a rate, or as the rest of a cut record.
    Withheld,
    /// It is in the output's spool, on the disk.
    Spooled,
}

/// Lines by their fate. A record that lies in several tickets counts in each of them with all its
/// lines: the sum may be more than the lines of the spans, never less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineFates {
    /// Stored by the output.
    pub delivered: u32,
    /// Refused for good.
    pub rejected: u32,
    /// Not sent there on purpose.
    pub withheld: u32,
    /// In its spool.
    pub spooled: u32,
}

/// Who is told how a ticket ended, once an output.
pub trait Settle: Send + Sync {
    /// Every byte of the spans is settled for `output`, all at once; `fates` is what those who
    /// settled the claims did with the lines.
    fn settled(&self, spans: &[Span], output: OutputId, fates: LineFates);
    /// Some claim was dropped: `output` must be given the spans again.
    fn failed(&self, spans: &[Span], output: OutputId);
}

/// Usually one; more where a record lies across chunks or files.
type Spans = SmallVec<[Span; 1]>;

struct Owed {
    spans: Mutex<Spans>,
    sink: Arc<dyn Settle>,
    /// By output, as far as there are any: windows hold these by the thousand.
    outputs: SmallVec<[Debt; 2]>,
    /// Outputs of which a claim was dropped.
    failed: AtomicU16,
    /// Outputs that have a record of it in a batch.
    begun: AtomicU16,
}

/// What is owed to one output.
#[derive(Default)]
struct Debt {
    /// Claims outstanding.
    claims: AtomicU32,
    /// Lines by [`LineFate`].
    fates: [AtomicU32; 4],
}

impl Owed {
    fn fates_of(&self, output: OutputId) -> LineFates {
        let fates = &self.outputs[output.index()].fates;
        let of = |fate: LineFate| fates[fate as usize].load(Ordering::Relaxed);
        LineFates {
            delivered: of(LineFate::Delivered),
            rejected: of(LineFate::Rejected),
            withheld: of(LineFate::Withheld),
            spooled: of(LineFate::Spooled),
        }
    }
}

/// A claim on a span for a set of outputs. Not `Clone`: `split` says for whom the new claim is.
pub struct Ticket {
    owed: Arc<Owed>,
    outputs: OutputSet,
}

impl Ticket {
    /// What a claim keeps in memory, if it is the last of its chunk, in bytes.
    pub const HELD_BYTES: usize = size_of::<Self>() + size_of::<Owed>();

    /// The first claim on a span: its reports go to `sink`, one for each of `outputs`.
    #[must_use]
    pub fn new(span: Span, outputs: OutputSet, sink: Arc<dyn Settle>) -> Self {
        let last = outputs.iter().last().map_or(0, |output| output.index() + 1);
        let debt = |at: usize| Debt {
            claims: AtomicU32::new(u32::from(outputs.has(OutputId(at as u8)))),
            ..Debt::default()
        };
        let debts = (0..last).map(debt).collect();
        let spans = Mutex::new(Spans::from_buf([span]));
        let owed = Owed {
            spans,
            sink,
            outputs: debts,
            failed: AtomicU16::new(0),
            begun: AtomicU16::new(0),
        };
        Self {
            owed: Arc::new(owed),
            outputs,
        }
    }

    /// The ticket is about `span` too: a record goes on in it. So both advance together or not at
    /// all, and no watermark ever stands inside a record.
    pub fn extend(&self, span: Span) {
        let mut spans = self
            .owed
            .spans
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match spans.last_mut() {
            Some(last) if last.file == span.file && last.end == span.start => {
                last.end = span.end;
                last.lines += span.lines;
            }
            _ => spans.push(span),
        }
    }

    /// Drops the claim for `outputs` alone: they fail.
    pub fn forsake(&mut self, outputs: OutputSet) {
        let kept = self.outputs.without(outputs);
        self.outputs = self.outputs.and(outputs);
        self.release(true);
        self.outputs = kept;
    }

    /// A further claim for those of `outputs` that this one covers.
    #[must_use]
    pub fn split(&self, outputs: OutputSet) -> Self {
        let outputs = self.outputs.and(outputs);
        for output in outputs.iter() {
            self.owed.outputs[output.index()]
                .claims
                .fetch_add(1, Ordering::Relaxed);
        }
        Self {
            owed: Arc::clone(&self.owed),
            outputs,
        }
    }

    /// A record of it is in a batch of these outputs.
    pub fn begin(&self, outputs: OutputSet) {
        // Relaxed: one encoder has all chunks of a log.
        self.owed.begun.fetch_or(outputs.bits(), Ordering::Relaxed);
    }

    /// Whether the output has begun it.
    #[must_use]
    pub fn is_begun(&self, output: OutputId) -> bool {
        OutputSet::from_bits(self.owed.begun.load(Ordering::Relaxed)).has(output)
    }

    /// Whether a claim of the output was dropped: all of it will come again.
    #[must_use]
    pub fn is_failed(&self, output: OutputId) -> bool {
        OutputSet::from_bits(self.owed.failed.load(Ordering::Relaxed)).has(output)
    }

    /// Says what became of lines of it, for all outputs of this claim that are in `outputs`; before
    /// the claim is settled.
    pub fn note(&self, fate: LineFate, outputs: OutputSet, lines: u32) {
        for output in self.outputs.and(outputs).iter() {
            // Relaxed: the settling that follows orders it.
            let fates = &self.owed.outputs[output.index()].fates;
            let _ = fates[fate as usize].fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// This claim is met: delivered, dropped on purpose, or rejected for good after it was counted.
    pub fn settle(mut self) {
        self.release(false);
    }

    /// The outputs this claim is for.
    #[must_use]
    pub const fn outputs(&self) -> OutputSet {
        self.outputs
    }

    /// Its first span.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        let spans = self
            .owed
            .spans
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        spans.first().copied()
    }

    /// The file that its first span lies in.
    #[must_use]
    pub fn file(&self) -> Option<FileId> {
        self.span().map(|span| span.file)
    }

    /// Whether both are claims on the very same ticket.
    #[must_use]
    pub fn same_chunk(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owed, &other.owed)
    }

    fn release(&mut self, dropped: bool) {
        let outputs = std::mem::take(&mut self.outputs);
        if dropped {
            self.owed.failed.fetch_or(outputs.bits(), Ordering::AcqRel);
        }
        for output in outputs.iter() {
            // AcqRel: the last one out sees every failure that was noted before.
            let claims = &self.owed.outputs[output.index()].claims;
            if claims.fetch_sub(1, Ordering::AcqRel) == 1 {
                let failed = OutputSet::from_bits(self.owed.failed.load(Ordering::Acquire));
                let spans = self
                    .owed
                    .spans
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                if failed.has(output) {
                    self.owed.sink.failed(&spans, output);
                } else {
                    self.owed
                        .sink
                        .settled(&spans, output, self.owed.fates_of(output));
                }
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.outputs.is_empty() {
            self.release(true);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({:?} for {:?})", self.owed.spans, self.outputs)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<(bool, u8)>>);

    impl Settle for Log {
        fn settled(&self, _: &[Span], output: OutputId, _: LineFates) {
            self.0.lock().unwrap().push((true, output.0));
        }
        fn failed(&self, _: &[Span], output: OutputId) {
            self.0.lock().unwrap().push((false, output.0));
        }
    }

    fn ticket(log: &Arc<Log>) -> Ticket {
        let span = Span {
            log: LogId(1),
            file: FileId(1),
            pass: PassId(1),
            start: 0,
            end: 9,
            lines: 1,
        };
        Ticket::new(
            span,
            OutputSet::first(2),
            Arc::clone(log) as Arc<dyn Settle>,
        )
    }

    #[test]
    fn an_output_is_settled_once_when_its_last_claim_is() {
        let log = Arc::new(Log::default());
        let root = ticket(&log);
        let (first, second) = (
            root.split(OutputSet::first(2)),
            root.split(OutputSet::one(OutputId(1))),
        );
        root.settle();
        first.settle();
        assert_eq!(*log.0.lock().unwrap(), [(true, 0)]);
        second.settle();
        assert_eq!(*log.0.lock().unwrap(), [(true, 0), (true, 1)]);
    }

    #[test]
    fn a_dropped_claim_fails_its_outputs_and_no_other() {
        let log = Arc::new(Log::default());
        let root = ticket(&log);
        drop(root.split(OutputSet::one(OutputId(0))));
        root.settle();
        assert_eq!(*log.0.lock().unwrap(), [(false, 0), (true, 1)]);
    }
}
