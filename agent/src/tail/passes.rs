//! Which outputs walk a log, and from where: passes begin at watermarks and end with their outputs.
//!
//! An output that is apart joins when it is attached and nothing of the log is owed to it, so that
//! nothing is sent twice but after a crash.

use super::log::Pass;
use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;
use crate::base::outputs::{OutputId, OutputSet};
use crate::ledger::Notice;
use crate::ticket::{Feed, FileId, LogId, PassId};

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// A file that had ended was written to after all: passes that went on come back for it.
    pub(super) fn reopen(&mut self, id: LogId, file: FileId) {
        self.ledger.set_end(id, file, None);
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let on = log.passes.iter().filter(|pass| pass.file != file);
        let on = on.fold(OutputSet::NONE, |on, pass| on.or(pass.outputs));
        on.iter().for_each(|output| self.part(id, output));
        self.join(id);
    }

    pub(super) fn new_pass(&mut self) -> PassId {
        self.next_pass += 1;
        PassId(self.next_pass)
    }

    /// Who was detached leaves the passes; who is owed nothing and has an empty window comes back.
    pub(super) fn heed_outputs(&mut self) {
        let mut notices = std::mem::take(&mut self.notices);
        self.ledger.notices(self.settings.number, &mut notices);
        for notice in notices.drain(..) {
            match notice {
                Notice::Failed(log, output) => {
                    self.part(log, output);
                    self.join(log);
                }
                Notice::Quiet(log, _) => self.join(log),
                Notice::Settled(log) => self.make_ready(log),
            }
        }
        self.notices = notices;
        for outlet in self.outlets.clone() {
            let output = OutputSet::one(outlet.output);
            // What was read before the detach must be gone, or it would overtake what is read again.
            let empty = outlet.is_detached() && outlet.window() == 0;
            if empty && self.ledger.is_free(outlet.output) {
                outlet.attach();
            }
            let attached = !outlet.is_detached();
            if attached == self.attached.has(outlet.output) {
                continue;
            }
            let logs: Vec<LogId> = self.logs.keys().copied().collect();
            if attached {
                self.attached = self.attached.or(output);
                logs.into_iter().for_each(|log| self.join(log));
            } else {
                // Each log lets it go when it is served next.
                self.attached = self.attached.without(output);
                logs.into_iter().for_each(|log| self.make_ready(log));
            }
        }
    }

    /// The output leaves its pass.
    pub(super) fn part(&mut self, id: LogId, output: OutputId) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let one = OutputSet::one(output);
        log.apart = log.apart.or(one);
        let Some(at) = log.passes.iter().position(|pass| pass.outputs.has(output)) else {
            return;
        };
        let pass = &mut log.passes[at];
        pass.outputs = pass.outputs.without(one);
        if let Some(glue) = &mut pass.glue {
            glue.forsake(one);
        }
        if pass.outputs.is_empty() {
            let gone = log.passes.remove(at);
            let (pass, permit) = (gone.id, gone.permit);
            self.feed(Feed::Abandoned {
                log: id,
                pass,
                permit,
            });
        }
    }

    /// Every output that is apart, attached, and owed nothing begins a pass at its watermark.
    pub(super) fn join(&mut self, id: LogId) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        if log.files.is_empty() {
            return;
        }
        // By place: the pass that was begun there just now.
        let mut begun: Option<((FileId, u64), PassId)> = None;
        for output in log.apart.and(self.attached).iter() {
            if !self.ledger.is_quiet(id, output) {
                continue;
            }
            let Some(place) = self.place_of_watermark(id, output) else {
                continue;
            };
            let (_, ahead) = self.ledger.next_unsettled(id, place.0, output, place.1);
            let pass = self.new_pass();
            let Some(log) = self.logs.get_mut(&id) else {
                return;
            };
            let newest = log.files.last().is_some_and(|tail| tail.id == place.0);
            let one = OutputSet::one(output);
            log.apart = log.apart.without(one);
            log.said_ended = false;
            self.count.rejoins.add(1);
            let skips = ahead.is_some() || !newest;
            // Outputs that have nothing settled ahead are one pass from the start.
            let same = begun.filter(|(at, _)| *at == place && !skips);
            let same = same.and_then(|(_, id)| log.passes.iter_mut().find(|pass| pass.id == id));
            if let Some(same) = same {
                same.outputs = same.outputs.or(one);
                continue;
            }
            if !skips {
                begun = Some((place, pass));
            }
            // One at a time: most logs never have a second.
            log.passes.reserve_exact(1);
            log.passes.push(Pass::new(pass, one, place, skips));
        }
        self.make_ready(id);
    }

    /// The oldest place in the log that the output has not settled.
    fn place_of_watermark(&self, id: LogId, output: OutputId) -> Option<(FileId, u64)> {
        let log = self.logs.get(&id)?;
        let mut place = None;
        for tail in &log.files {
            let (at, _) = self.ledger.next_unsettled(id, tail.id, output, 0);
            place = Some((tail.id, at));
            if tail.end != Some(at) {
                break;
            }
        }
        place
    }
}
