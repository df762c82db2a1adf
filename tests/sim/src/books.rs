//! The account: what was written, what each server holds, and what may be said of the difference.
//!
//! ```text
//! writer --record, line--> Books <--arrived-- servers
//!                            ^---- audit(file, range) <- stored positions
//! ```
//!
//! 1. A record arrives with its exact text, or the run fails.
//! 2. Records of one container and stream arrive first in the order of writing, unless the server
//!    itself refused one alone (`late`).
//! 3. A record arrives again only if something explains it (`again`): a crash, an answer that did
//!    not come, a detached output.
//! 4. What the plan drops never arrives; what a server rejects, or a crash takes with a deleted
//!    file, is excused and counted.

use std::collections::{BTreeMap, BTreeSet};

use harness::journal::Stream;
use harness::wire::Arrived;
use serde_json::Value;

use crate::world::Key;

/// Outputs of the plan: Loki, then Elasticsearch.
pub(crate) const OUTPUTS: usize = 2;

/// Their names.
pub(crate) const NAMES: [&str; OUTPUTS] = ["loki", "search"];

/// A record by container, stream and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) container: usize,
    pub(crate) stream: usize,
    pub(crate) seq: usize,
}

/// What may be said of one record at one server.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    arrived: u32,
    /// It may arrive again.
    again: bool,
    /// It may arrive after younger ones.
    late: bool,
    /// It need not arrive.
    excused: bool,
}

#[derive(Debug)]
struct Record {
    text: String,
    /// Which servers are to have it.
    wanted: [bool; OUTPUTS],
    fates: [Fate; OUTPUTS],
    files: Vec<Key>,
    /// Lines of it that are not written yet.
    unwritten: usize,
}

#[derive(Debug, Default)]
struct Written {
    records: [Vec<Record>; 2],
    /// By output and stream: the highest number that has arrived.
    last: [[Option<usize>; 2]; OUTPUTS],
}

#[derive(Clone, Copy, Debug)]
struct Line {
    start: u64,
    end: u64,
    id: Id,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Records written.
    pub records: u64,
    /// Records that arrived again, explained.
    pub again: u64,
    /// Records that arrived late, explained.
    pub late: u64,
    /// Records that need not arrive, for each server: rejected by it, or gone with a file in a crash.
    pub excused: u64,
    /// Those of them that a crash took: their file was deleted, and only a descriptor held it.
    pub taken: u64,
}

/// The account of one run.
#[derive(Debug, Default)]
pub(crate) struct Books {
    names: BTreeMap<(String, String, String), usize>,
    written: Vec<Written>,
    files: BTreeMap<Key, Vec<Line>>,
    /// Containers of which a file was renamed before the agent had opened it: it reads the
    /// successor first and comes back.
    surprised: BTreeSet<usize>,
    /// Empty records may come, which nobody counts.
    pub(crate) blanks: bool,
    pub(crate) counts: Counts,
}

impl Books {
    /// A new container.
    pub(crate) fn container(&mut self, namespace: &str, pod: &str, name: &str) -> usize {
        let key = (namespace.to_owned(), pod.to_owned(), name.to_owned());
        // A pod may bear the name of one that is gone.
        if let Some(container) = self.names.get(&key) {
            return *container;
        }
        let container = self.written.len();
        self.names.insert(key, container);
        self.written.push(Written::default());
        container
    }

    /// The number that the container's next record in this stream will have.
    pub(crate) fn next_seq(&self, container: usize, stream: usize) -> usize {
        self.written[container].records[stream].len()
    }

    /// A record will be written, in this many lines.
    pub(crate) fn record(&mut self, id: Id, text: &str, wanted: [bool; OUTPUTS], lines: usize) {
        self.counts.records += 1;
        self.written[id.container].records[id.stream].push(Record {
            text: text.to_owned(),
            wanted,
            fates: Default::default(),
            files: Vec::new(),
            unwritten: lines,
        });
    }

    /// A line of a record stands at `start..end` of a file.
    pub(crate) fn line(&mut self, key: Key, start: u64, end: u64, id: Id) {
        let record = &mut self.written[id.container].records[id.stream][id.seq];
        record.unwritten -= 1;
        if record.files.last() != Some(&key) {
            record.files.push(key);
        }
        let line = Line { start, end, id };
        self.files.entry(key).or_default().push(line);
    }

    /// The lines of one file stand in another from now on.
    pub(crate) fn moved(&mut self, from: Key, to: Key) {
        let lines = self.files.remove(&from).unwrap_or_default();
        for line in &lines {
            let files = &mut self.written[line.id.container].records[line.id.stream][line.id.seq];
            let files = files.files.iter_mut().filter(|key| **key == from);
            files.for_each(|key| *key = to);
        }
        self.files.insert(to, lines);
    }

    /// A file is cut: the lines beyond stand nowhere any more.
    pub(crate) fn cut(&mut self, key: Key, to: u64) {
        if let Some(lines) = self.files.get_mut(&key) {
            lines.retain(|line| line.end <= to);
        }
    }

    /// Records that some server wants and does not hold, each once for each such server.
    pub(crate) fn unheld(&self) -> usize {
        let lines = self.files.values().flatten();
        let ids: BTreeSet<Id> = lines.map(|line| line.id).collect();
        let all = ids
            .iter()
            .flat_map(|id| (0..OUTPUTS).map(move |output| (*id, output)));
        all.filter(|(id, output)| !self.is_held(*id, *output))
            .count()
    }

    /// What no server will ever have of a file; says how many bytes each of them misses.
    pub(crate) fn give_up(&mut self, key: Key) -> [u64; OUTPUTS] {
        let mut bytes = [0; OUTPUTS];
        for (output, bytes) in bytes.iter_mut().enumerate() {
            let lost = self
                .lines(key)
                .filter(|line| !self.is_held(line.id, output));
            let lost: Vec<Line> = lost.copied().collect();
            *bytes = lost.iter().map(|line| line.end - line.start).sum();
            let ids: Vec<Id> = lost.iter().map(|line| line.id).collect();
            self.excuse(&ids, output);
        }
        bytes
    }

    fn at(&self, id: Id) -> &Record {
        &self.written[id.container].records[id.stream][id.seq]
    }

    fn fate(&mut self, id: Id, output: usize) -> &mut Fate {
        &mut self.written[id.container].records[id.stream][id.seq].fates[output]
    }

    fn is_held(&self, id: Id, output: usize) -> bool {
        let record = self.at(id);
        let fate = record.fates[output];
        !record.wanted[output] || fate.arrived > 0 || fate.excused
    }

    /// The records that an item bears.
    pub(crate) fn read(&self, arrived: &Arrived) -> Result<Vec<Id>, String> {
        let from = &arrived.container;
        let key = (from.namespace.clone(), from.pod.clone(), from.name.clone());
        let torn = |text: &str| format!("torn or unknown, from {from}: {text:?}");
        let container = *self.names.get(&key).ok_or_else(|| torn(&arrived.text))?;
        let stream = usize::from(arrived.stream == Stream::Stderr);
        let mut ids = Vec::new();
        for text in arrived.text.split('\n') {
            if text.is_empty() && self.blanks {
                continue;
            }
            let seq = seq_of(text).ok_or_else(|| torn(text))?;
            let written = self.written[container].records[stream].get(seq);
            let whole = written.is_some_and(|written| {
                if arrived.merged {
                    canonical(&written.text).as_deref() == Some(text)
                } else {
                    written.text == text
                }
            });
            if !whole {
                let want = written.map(|written| &written.text);
                return Err(format!("{}; written: {want:?}", torn(text)));
            }
            ids.push(Id {
                container,
                stream,
                seq,
            });
        }
        Ok(ids)
    }

    /// Whether the server holds all of these.
    pub(crate) fn has(&self, ids: &[Id], output: usize) -> bool {
        ids.iter().all(|id| self.at(*id).fates[output].arrived > 0)
    }

    /// The server stores a record.
    pub(crate) fn store(&mut self, id: Id, output: usize) -> Result<(), String> {
        let what = |why: &str| Err(format!("{} has {id:?} {why}", NAMES[output]));
        if !self.at(id).wanted[output] {
            return what("which the plan drops");
        }
        let surprised = self.surprised.contains(&id.container);
        let fate = self.fate(id, output);
        fate.arrived += 1;
        if fate.arrived > 1 {
            let again = fate.again || surprised;
            self.counts.again += 1;
            return if again { Ok(()) } else { what("again") };
        }
        let late = fate.late || fate.excused || surprised;
        let last = &mut self.written[id.container].last[output][id.stream];
        if last.is_some_and(|last| last > id.seq) {
            if !late {
                let after = *last;
                return what(&format!("after {after:?}"));
            }
            self.counts.late += 1;
        }
        *last = (*last).max(Some(id.seq));
        Ok(())
    }

    /// A file of the container was renamed before an agent had opened it.
    pub(crate) fn surprise(&mut self, container: usize) {
        self.surprised.insert(container);
    }

    /// Whether any was.
    pub(crate) fn has_surprises(&self) -> bool {
        !self.surprised.is_empty()
    }

    /// The answer for these does not reach the agent, so that they may come again.
    pub(crate) fn may_repeat(&mut self, ids: &[Id], output: usize) {
        ids.iter()
            .for_each(|id| self.fate(*id, output).again = true);
    }

    /// The server refuses these alone: younger ones may overtake them.
    pub(crate) fn may_be_late(&mut self, ids: &[Id], output: usize) {
        ids.iter().for_each(|id| self.fate(*id, output).late = true);
    }

    /// The server rejects these for good.
    pub(crate) fn excuse(&mut self, ids: &[Id], output: usize) {
        for id in ids {
            let fate = self.fate(*id, output);
            let new = !fate.excused && fate.arrived == 0;
            fate.excused = true;
            self.counts.excused += u64::from(new);
        }
    }

    /// Everything that this server holds may come again.
    pub(crate) fn may_all_repeat(&mut self, output: usize) {
        let records = self.written.iter_mut().flat_map(|it| &mut it.records);
        records
            .flatten()
            .for_each(|record| record.fates[output].again = true);
    }

    /// A crash: what no server has of a deleted file is lost, and all may come again.
    pub(crate) fn crash(&mut self, deleted: &[Key]) {
        for output in 0..OUTPUTS {
            self.may_all_repeat(output);
            for key in deleted {
                let ids: Vec<Id> = self.lines(*key).map(|line| line.id).collect();
                let lost: Vec<Id> = ids
                    .into_iter()
                    .filter(|id| !self.is_held(*id, output))
                    .collect();
                let before = self.counts.excused;
                self.excuse(&lost, output);
                self.counts.taken += self.counts.excused - before;
            }
        }
    }

    fn lines(&self, key: Key) -> impl Iterator<Item = &Line> {
        self.files.get(&key).into_iter().flatten()
    }

    /// Whether every server has the whole file.
    pub(crate) fn is_settled(&self, key: Key) -> bool {
        let outputs = 0..OUTPUTS;
        outputs
            .into_iter()
            .all(|output| self.audit(key, output, 0, u64::MAX).is_none())
    }

    /// Whether no record of the file goes on in another one: a crash after its deletion would leave
    /// that record's rest alone.
    pub(crate) fn stands_alone(&self, key: Key) -> bool {
        let goes_on = |record: &Record| record.files.len() > 1 || record.unwritten > 0;
        !self.lines(key).any(|line| goes_on(self.at(line.id)))
    }

    /// The first record with bytes in the range that the server does not hold.
    pub(crate) fn audit(&self, key: Key, output: usize, from: u64, to: u64) -> Option<String> {
        let mut lines = self.lines(key);
        let missed = lines
            .find(|line| line.start < to && line.end > from && !self.is_held(line.id, output))?;
        Some(format!("{missed:?}"))
    }

    /// What somebody misses.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (key, lines) in &self.files {
            for (output, name) in NAMES.iter().enumerate() {
                let mut missed = lines.iter().filter(|line| !self.is_held(line.id, output));
                if let Some(first) = missed.next() {
                    let more = missed.count();
                    missing.push(format!(
                        "{name} misses {first:?} of {key:?} and {more} more"
                    ));
                }
            }
        }
        missing
    }
}

/// The number in a text: `seq=7 ...` or `{"seq":7,...}`.
fn seq_of(text: &str) -> Option<usize> {
    if let Some(rest) = text.strip_prefix("seq=") {
        return rest.split(' ').next()?.parse().ok();
    }
    let value: Value = serde_json::from_str(text).ok()?;
    usize::try_from(value.get("seq")?.as_u64()?).ok()
}

fn canonical(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(value.to_string())
}
