//! The machine from chunks to sink: joins, passes, graphs, and that every claim is met once.

#![expect(clippy::unwrap_used, reason = "tests")]

mod joins;
mod passes;
mod splits;
mod steps;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{Machine, Program, Record, Sink, Stream, TimeOrigin};
use crate::base::bell::Bell;
use crate::base::count::Registry;
use crate::base::outputs::{OutputId, OutputSet};
use crate::base::pool::Pool;
use crate::base::size::ByteSize;
use crate::base::time::{Mono, Timestamp};
use crate::plan::{Input, InputKind, Limits, Pipeline, Plan, StartAt, Step, Wake};
use crate::ticket::{
    Chunk, Ended, Feed, FileId, LogId, Meta, PassId, Settle, Source, Span, Standing, Ticket,
};

/// When everything is read.
const WALL: Timestamp = Timestamp {
    secs: 1_800_000_000,
    nanos: 0,
};

/// The container log of all tests.
const LOG: LogId = LogId(1);

fn output(place: u8) -> OutputId {
    OutputId(place)
}

fn plan(steps: Vec<Step>, record_max: u64) -> Plan {
    Plan {
        state: PathBuf::new(),
        admin: None,
        inputs: vec![Input {
            name: "pods".to_owned(),
            kind: InputKind::Pods {
                root: PathBuf::new(),
                link_roots: Vec::new(),
                kubernetes: None,
            },
            start_at: StartAt::Beginning,
        }],
        pipelines: vec![Pipeline {
            name: "pods".to_owned(),
            from: vec![0],
            steps,
        }],
        entries: Vec::new(),
        outputs: Vec::new(),
        limits: Limits {
            record_bytes_max: ByteSize(record_max),
            ..Limits::default()
        },
        wake: Wake::default(),
        privileges: crate::plan::Privileges::default(),
    }
}

/// What came of each ticket.
#[derive(Default)]
struct Reports(Mutex<Vec<(Span, OutputId, bool)>>);

impl Settle for Reports {
    fn settled(&self, spans: &[Span], output: OutputId, _: crate::ticket::LineFates) {
        self.0
            .lock()
            .unwrap()
            .extend(spans.iter().map(|span| (*span, output, true)));
    }
    fn failed(&self, spans: &[Span], output: OutputId) {
        self.0
            .lock()
            .unwrap()
            .extend(spans.iter().map(|span| (*span, output, false)));
    }
}

/// A record as an output saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    output: u8,
    stream: Stream,
    offset: u64,
    secs: i64,
    from_line: bool,
    text: Vec<u8>,
    labels: Vec<(String, Vec<u8>)>,
    lines: u32,
    cut: bool,
}

#[derive(Default)]
struct Seer {
    seen: Vec<Seen>,
    claims: Vec<Ticket>,
}

impl Sink for Seer {
    fn emit(&mut self, output: OutputId, record: &mut Record<'_>) {
        self.seen.push(Seen {
            output: output.0,
            stream: record.stream,
            offset: record.offset,
            secs: record.time.secs,
            from_line: record.time_origin == TimeOrigin::Line,
            text: record.text.to_vec(),
            labels: record
                .labels
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_vec()))
                .collect(),
            lines: record.lines,
            cut: record.cut,
        });
        let only = OutputSet::one(output);
        self.claims
            .extend(record.held.iter().map(|claim| claim.split(only)));
        self.claims.push(record.ticket.split(only));
    }
}

/// A machine, a reader that writes chunks by hand, and an output that looks.
struct Bench {
    machine: Machine,
    registry: Registry,
    reports: Arc<Reports>,
    seer: Seer,
    pool: Pool,
    outputs: OutputSet,
    now: Mono,
    given: usize,
}

impl Bench {
    fn new(plan: &Plan, outputs: usize) -> Self {
        let registry = Registry::default();
        Self {
            machine: Machine::new(Program::compile(plan), 4096, &registry, 0),
            registry,
            reports: Arc::default(),
            seer: Seer::default(),
            pool: Pool::new(1, 64 << 10, Bell::silent()),
            outputs: OutputSet::first(outputs),
            now: Mono(0),
            given: 0,
        }
    }

    /// Gives one chunk of `file`, read by `pass`.
    fn chunk(&mut self, file: u64, pass: u32, base: u64, bytes: &[u8], open_tail: bool) {
        let span = Span {
            log: LOG,
            file: FileId(file),
            pass: PassId(pass),
            start: base,
            end: base + bytes.len() as u64,
            lines: bytes.iter().filter(|byte| **byte == b'\n').count() as u32,
        };
        let mut buf = self.pool.take().unwrap();
        buf[..bytes.len()].copy_from_slice(bytes);
        let source = Source {
            log: LOG,
            input: 0,
            key: "default_web_1/app".into(),
            filename: "/logs/0.log".into(),
            meta: Meta {
                namespace: "default".into(),
                ..Meta::default()
            },
            labels: vec![("app".into(), "web".into())],
            tag: None,
            standing: Standing::Read,
        };
        self.given += self.outputs.iter().count();
        let reports = Arc::clone(&self.reports) as Arc<dyn Settle>;
        self.feed(Feed::Chunk(Chunk {
            source: Arc::new(source),
            pass: PassId(pass),
            base,
            buf,
            len: bytes.len(),
            open_tail,
            ticket: Ticket::new(span, self.outputs, reports),
            permit: None,
            held: None,
        }));
    }

    /// Gives a whole file's beginning in one chunk.
    fn text(&mut self, text: &str) {
        self.chunk(1, 1, 0, text.as_bytes(), false);
    }

    fn feed(&mut self, feed: Feed) {
        self.machine.feed(feed, self.now, WALL, &mut self.seer);
    }

    fn tick(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.machine.tick(self.now, WALL, &mut self.seer);
    }

    fn end(&mut self) {
        self.feed(Feed::Ended { log: LOG });
    }

    fn texts(&self) -> Vec<String> {
        let seen = self.seer.seen.iter();
        seen.map(|seen| String::from_utf8_lossy(&seen.text).into_owned())
            .collect()
    }

    /// How many (chunk, output) pairs have been reported so far.
    fn reported(&self) -> usize {
        self.reports.0.lock().unwrap().len()
    }

    /// Acknowledges everything; then every chunk is settled for every output, once.
    fn check_all_settled(&mut self) {
        self.seer.claims.drain(..).for_each(Ticket::settle);
        let reports = self.reports.0.lock().unwrap();
        assert!(reports.iter().all(|(.., settled)| *settled), "{reports:?}");
        assert_eq!(reports.len(), self.given, "{reports:?}");
        assert_eq!(self.machine.held_bytes(), 0);
    }

    fn metric(&self, series: &str) -> u64 {
        let text = self.registry.render();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }
}

/// A CRI line at a second of its own.
fn cri(second: u32, stream: &str, tag: &str, text: &str) -> String {
    format!("2026-11-24T05:15:{second:02}.5Z {stream} {tag} {text}\n")
}

/// Unix seconds of `cri(0, ..)`.
const CRI_SECS: i64 = 1_795_497_300;
