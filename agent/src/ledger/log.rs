//! What the ledger knows of one container log.

use std::collections::VecDeque;
use std::sync::Arc;

use super::marks::Mark;
use super::{Identity, LogAccount};
use crate::base::outputs::{OutputId, OutputSet};
use crate::ticket::{FileId, Source, Span};

#[derive(Debug)]
pub(super) struct File {
    pub(super) id: FileId,
    pub(super) identity: Identity,
    /// Set when nothing will be appended any more.
    pub(super) end: Option<u64>,
    /// Highest offset that was opened once, for the read count.
    pub(super) opened: u64,
    /// The largest size that was seen, for what is lost when it is deleted.
    pub(super) seen: u64,
    pub(super) marks: Vec<Mark>,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) source: Arc<Source>,
    pub(super) files: VecDeque<File>,
    pub(super) owing: Vec<u32>,
    /// By output: bytes that were opened and have not been reported yet.
    pub(super) in_flight: Vec<u64>,
    /// Its reader waits for some of these to be settled.
    pub(super) behind: bool,
    /// Outputs that failed, as long as the reader has not been told.
    pub(super) failed: OutputSet,
    /// Outputs whose quiet the reader waits for.
    pub(super) awaited: OutputSet,
    pub(super) account: LogAccount,
}

impl Log {
    pub(super) fn launch(&mut self, span: &Span, outputs: OutputSet) {
        for output in outputs.iter() {
            self.in_flight[output.index()] += span.end - span.start;
        }
    }

    pub(super) fn count_read(&mut self, span: &Span) {
        let Some(file) = self.files.iter_mut().find(|file| file.id == span.file) else {
            return;
        };
        if span.start >= file.opened {
            file.opened = span.end;
            self.account.read.lines += u64::from(span.lines);
            self.account.read.bytes += span.end - span.start;
        } else {
            self.account.reread_bytes += span.end - span.start;
        }
    }

    pub(super) fn settle(&mut self, span: &Span, output: OutputId) {
        let account = &mut self.account.settled[output.index()];
        account.lines += u64::from(span.lines);
        account.bytes += span.end - span.start;
        if let Some(file) = self.files.iter_mut().find(|file| file.id == span.file) {
            file.marks[output.index()].settle(span.start, span.end);
        }
    }
}
