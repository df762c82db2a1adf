//! A lane that pushes to a Loki with limits (`harness::limits`), on simulated time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use harness::limits::{Limits, Loki, read};
use harness::wire::loki::{Line, Pair, Timestamp};
use prost::Message as _;

use crate::base::bell::Bell;
use crate::base::count::Registry;
use crate::base::outputs::{OutputId, OutputSet};
use crate::base::size::ByteSize;
use crate::base::time::Mono;
use crate::deliver::{Answer, Bodies, Call, CallId, DeadQueue, Deliverer, Failure, Transport};
use crate::encode::outlet::Outlet;
use crate::encode::{Encoding, Item, Request};
use crate::plan::{DeadLetters, LokiOutput, Output, OutputKind, Plan, Retry};
use crate::ticket::{FileId, LogId, PassId, Settle, Span, Ticket};

/// The wall clock at the start, in seconds: 20 s of its day are gone.
pub(super) const START_SECS: u64 = 86_400 * 20_775 + 20;

#[derive(Default)]
struct Ledger(Mutex<Vec<(u64, u32, u32)>>);

impl Settle for Ledger {
    fn settled(&self, spans: &[Span], _: OutputId, fates: crate::ticket::LineFates) {
        let told = (spans[0].start, fates.delivered, fates.rejected);
        self.0.lock().unwrap().push(told);
    }
    fn failed(&self, spans: &[Span], _: OutputId) {
        assert!(spans.is_empty(), "{spans:?} failed");
    }
}

/// (stream, seconds before now, line)
pub(super) type Said<'a> = (&'a str, i64, &'a str);

/// Status and words for a push of these lines; `None` = Loki's own.
type Instead = dyn Fn(&[String]) -> Option<(u16, String)>;

#[derive(Default)]
struct Wire {
    flying: Vec<(CallId, Call)>,
    ended: Vec<(CallId, Result<Answer, Failure>)>,
}

impl Transport for Wire {
    fn send(&mut self, id: CallId, call: Call) {
        self.flying.push((id, call));
    }
    fn cancel(&mut self, _: CallId) {}
    fn poll(&mut self, ended: &mut Vec<(CallId, Result<Answer, Failure>)>) {
        ended.append(&mut self.ended);
    }
}

pub(super) struct Bed {
    pub(super) deliverer: Deliverer,
    pub(super) outlet: Arc<Outlet>,
    wire: Wire,
    pub(super) loki: Loki,
    pub(super) dead: Arc<DeadQueue>,
    ledger: Arc<Ledger>,
    pub(super) now: Mono,
    pub(super) requests: usize,
    pub(super) put: u64,
    /// Answers that are given instead of Loki's, by what the request holds.
    pub(super) instead: Box<Instead>,
    /// By line: why it was refused for good, as the server knows.
    pub(super) refused: BTreeSet<String>,
    /// In the order of storing, by stream.
    pub(super) stored: BTreeMap<String, Vec<String>>,
    pub(super) letters: BTreeMap<String, &'static str>,
}

fn plan() -> Plan {
    let loki = LokiOutput {
        url: "http://l/push".to_owned(),
        tenant: None,
        labels: Vec::new(),
    };
    let output = Output {
        name: "out".to_owned(),
        kind: OutputKind::Loki(loki),
        batch_bytes: ByteSize(1 << 20),
        linger_ms: 100,
        window_bytes: ByteSize(1 << 20),
        spool: crate::plan::Spool::Off,
        http: crate::plan::HttpSettings::default(),
        retry: Retry::default(),
        timeout_ms: 10_000,
        dead_letters: Some(DeadLetters::default()),
    };
    Plan {
        state: "/state".into(),
        admin: None,
        inputs: Vec::new(),
        pipelines: Vec::new(),
        entries: Vec::new(),
        outputs: vec![output],
        limits: crate::plan::Limits::default(),
        wake: crate::plan::Wake::default(),
        privileges: crate::plan::Privileges::default(),
    }
}

impl Bed {
    pub(super) fn new(limits: Limits) -> Self {
        let (plan, registry) = (plan(), Registry::default());
        let window = 1 << 20;
        let outlet = Outlet::new(
            OutputId(0),
            "out",
            window,
            Bell::silent(),
            Vec::new(),
            &registry,
        );
        let (outlet, dead) = (Arc::new(outlet), Arc::new(DeadQueue::default()));
        let outlets = vec![Arc::clone(&outlet)];
        Self {
            deliverer: Deliverer::new(&plan, outlets, &registry, 7, Bodies::ENCODED, &dead),
            outlet,
            wire: Wire::default(),
            loki: Loki::new(limits),
            dead,
            ledger: Arc::default(),
            now: Mono(0),
            requests: 0,
            put: 0,
            instead: Box::new(|_| None),
            refused: BTreeSet::new(),
            stored: BTreeMap::new(),
            letters: BTreeMap::new(),
        }
    }

    pub(super) fn wall_ns(&self) -> u64 {
        START_SECS * 1_000_000_000 + self.now.0
    }

    /// A request of these entries, by stream in the order in which those come.
    pub(super) fn put(&mut self, said: &[Said<'_>]) {
        let mut streams: Vec<&str> = Vec::new();
        for (stream, ..) in said {
            if !streams.contains(stream) {
                streams.push(stream);
            }
        }
        let (mut raw, mut items, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for (group, stream) in streams.iter().enumerate() {
            let labels = field(0x0a, format!("{{app=\"{stream}\"}}").as_bytes());
            let own = said.iter().filter(|(of, ..)| of == stream);
            let entries: Vec<Vec<u8>> = own.map(|it| self.entry(it.1, it.2)).collect();
            let bytes = entries.iter().map(Vec::len).sum::<usize>() + labels.len();
            raw.push(0x0a);
            prost::encoding::encode_varint(bytes as u64, &mut raw);
            groups.push(raw.len() as u32..(raw.len() + labels.len()) as u32);
            raw.extend(labels);
            for entry in entries {
                let start = raw.len() as u32;
                raw.extend(entry);
                items.push(Item {
                    range: start..raw.len() as u32,
                    group: group as u32,
                    ticket: 0,
                    held: 0,
                    lines: 1,
                });
            }
        }
        let span = Span {
            log: LogId(0),
            file: FileId(0),
            pass: PassId(0),
            start: self.put,
            end: self.put + 1,
            lines: said.len() as u32,
        };
        self.put += 1;
        let sink = Arc::clone(&self.ledger) as Arc<dyn Settle>;
        let request = Request {
            output: OutputId(0),
            tenant: None,
            encoder: 0,
            body: snap::raw::Encoder::new().compress_vec(&raw).unwrap().into(),
            encoding: Encoding::Snappy,
            inflated: raw.len() as u64,
            items,
            groups,
            tickets: vec![Ticket::new(span, OutputSet::one(OutputId(0)), sink)],
            loan: None,
            opened: self.now,
        };
        self.outlet.put(request).unwrap();
    }

    pub(super) fn entry(&self, age: i64, line: &str) -> Vec<u8> {
        let ns = self.wall_ns() as i64 - age * 1_000_000_000;
        let pair = line.starts_with("meta").then(|| Pair {
            name: "k".to_owned(),
            value: "v".to_owned(),
        });
        let line = Line {
            timestamp: Some(Timestamp {
                seconds: ns.div_euclid(1_000_000_000),
                nanos: ns.rem_euclid(1_000_000_000) as i32,
            }),
            line: line.to_owned(),
            metadata: pair.into_iter().collect(),
        };
        field(0x12, &line.encode_to_vec())
    }

    /// Until nothing is left, or this many seconds have gone by.
    pub(super) fn run(&mut self, secs: u64) {
        let end = self.now.plus_ms(secs * 1_000);
        while self.now <= end {
            let turn = self.deliverer.turn(self.now, &mut self.wire);
            let flying = std::mem::take(&mut self.wire.flying);
            if !flying.is_empty() {
                for (id, call) in flying {
                    let answer = self.answer(&call);
                    self.wire.ended.push((id, Ok(answer)));
                }
                self.now = self.now.plus_ms(1);
            } else if let Some(deadline) = turn.deadline {
                self.now = deadline.max(self.now.plus_ms(1));
            } else if !turn.progress {
                break;
            }
        }
        while let Some(letter) = self.dead.take() {
            let text = String::from_utf8(letter.line.text).unwrap();
            assert!(!letter.line.time.is_empty() && letter.line.labels.starts_with("{app="));
            assert_eq!(
                self.letters.insert(text, letter.reason),
                None,
                "a second letter"
            );
        }
    }

    pub(super) fn answer(&mut self, call: &Call) -> Answer {
        self.requests += 1;
        let push = read(&call.body).unwrap();
        let entries = push.streams.iter().flat_map(|stream| &stream.entries);
        let lines: Vec<String> = entries.map(|entry| entry.line.clone()).collect();
        let (status, body) = (self.instead)(&lines).unwrap_or_else(|| {
            let verdict = self.loki.push(self.wall_ns(), &push);
            let mut at = 0;
            for stream in &push.streams {
                let held = self.stored.entry(stream.labels.clone()).or_default();
                for entry in &stream.entries {
                    if verdict.stored[at] && !held.contains(&entry.line) {
                        held.push(entry.line.clone());
                    }
                    if verdict.refused[at] {
                        self.refused.insert(entry.line.clone());
                    }
                    at += 1;
                }
            }
            (verdict.status, verdict.words)
        });
        Answer {
            status,
            retry_after_ms: None,
            body: Bytes::from(body),
        }
    }

    pub(super) fn lines(&self) -> BTreeSet<String> {
        self.loki
            .entries()
            .map(|(_, _, line)| line.to_owned())
            .collect()
    }

    /// Everything has ended, and the rejected are those that are not stored.
    pub(super) fn assert_done(&mut self, lines: &[&str]) {
        let stored = self.lines();
        for line in lines {
            let rejected = self.letters.contains_key(*line);
            assert!(!rejected || !stored.contains(*line), "{line} is stored");
        }
        self.assert_whole(lines);
    }

    /// Everything has ended, stored or rejected. What was stored, and was too old by the time at which
    /// it was asked again, may be both.
    pub(super) fn assert_whole(&mut self, lines: &[&str]) {
        assert!(self.deliverer.idle(), "{:?}", self.deliverer);
        assert_eq!(self.outlet.window(), 0);
        let stored = self.lines();
        for line in lines {
            let rejected = self.letters.contains_key(*line);
            assert!(
                rejected || stored.contains(*line),
                "{line}: {:?}",
                self.letters
            );
        }
        let status = &self.deliverer.status(self.now)[0];
        assert_eq!(status.rejected_lines, self.letters.len() as u64);
        let all = status.acknowledged_lines + status.rejected_lines;
        assert_eq!((all, status.slow_streams), (lines.len() as u64, 0));
        let told = self.ledger.0.lock().unwrap();
        let fates: u32 = told
            .iter()
            .map(|(_, delivered, rejected)| delivered + rejected)
            .sum();
        assert_eq!((told.len() as u64, u64::from(fates)), (self.put, all));
    }
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}
