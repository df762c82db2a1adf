//! What the ledger knows of one container log.

use std::collections::VecDeque;
use std::sync::Arc;

use super::marks::Mark;
use super::{Identity, LogAccount};
use crate::base::outputs::{OutputId, OutputSet};
use crate::ticket::{FileId, LineFates, Source, Span};

#[derive(Debug)]
pub(super) struct File {
    pub(super) id: FileId,
    pub(super) identity: Identity,
    /// Set when nothing will be appended any more.
    pub(super) end: Option<u64>,
    /// The furthest place that was read.
    pub(super) opened: u64,
    /// What was read, so that each byte counts once.
    pub(super) covered: Mark,
    /// The largest size that stat has said.
    pub(super) seen: u64,
    /// The largest end that the kernel has announced.
    pub(super) kernel: u64,
    /// Bytes of an unfinished line at its end.
    pub(super) unfinished: u64,
    /// It is compressed, and neither seen nor kernel can say its size.
    pub(super) sizeless: bool,
    pub(super) marks: Vec<Mark>,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) source: Arc<Source>,
    pub(super) files: VecDeque<File>,
    pub(super) owing: Vec<u32>,
    /// Its reader waits for some of what is in flight to be settled.
    pub(super) behind: bool,
    /// Outputs that failed, as long as the reader has not been told.
    pub(super) failed: OutputSet,
    /// Outputs whose quiet the reader waits for.
    pub(super) awaited: OutputSet,
    pub(super) account: Box<LogAccount>,
    /// A file of it was in the positions file.
    pub(super) recalled: bool,
    /// A file of it was there at the first listing that nobody remembered.
    pub(super) strange: bool,
}

impl Log {
    /// A span's bytes are on their way to all outputs of its ticket.
    pub(super) fn launch(&mut self, span: &Span, outputs: OutputSet) {
        for output in outputs.iter() {
            self.account.outputs[output.index()].in_flight_bytes += span.end - span.start;
        }
    }

    /// Those who settled the claims must have said what became of each line.
    pub(super) fn prove(&mut self, spans: &[Span], output: OutputId, fates: LineFates) {
        let account = &mut self.account.outputs[output.index()];
        let [delivered, rejected, withheld, spooled] = [
            fates.delivered,
            fates.rejected,
            fates.withheld,
            fates.spooled,
        ]
        .map(u64::from);
        account.delivered_lines += delivered;
        account.rejected_lines += rejected;
        account.withheld_lines += withheld;
        account.spooled_lines += spooled;
        let lines: u64 = spans.iter().map(|span| u64::from(span.lines)).sum();
        account.unproven_lines += lines.saturating_sub(delivered + rejected + withheld + spooled);
    }

    pub(super) fn settle(&mut self, span: &Span, output: OutputId) {
        let account = &mut self.account.outputs[output.index()].settled;
        account.lines += u64::from(span.lines);
        account.bytes += span.end - span.start;
        if let Some(file) = self.files.iter_mut().find(|file| file.id == span.file) {
            file.marks[output.index()].settle(span.start, span.end);
        }
    }
}
