//! What the tests of this room share: a source, claims that are watched, records.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use smallvec::SmallVec;

use crate::base::bell::Bell;
use crate::base::outputs::{OutputId, OutputSet};
use crate::base::pool::Pool;
use crate::base::time::Timestamp;
use crate::stage::{Json, Record, Stream, TimeOrigin};
use crate::ticket::{
    Chunk, Facts, FileId, LogId, Meta, PassId, Settle, Source, Span, Standing, Ticket,
};

/// Who was told what: (settled, start of the span, output).
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<(bool, u64, u8)>>);

impl Settle for Told {
    fn settled(&self, spans: &[Span], output: OutputId, _: crate::ticket::LineFates) {
        self.0
            .lock()
            .unwrap()
            .push((true, spans[0].start, output.0));
    }
    fn failed(&self, spans: &[Span], output: OutputId) {
        self.0
            .lock()
            .unwrap()
            .push((false, spans[0].start, output.0));
    }
}

impl Told {
    /// What was told since the last call, sorted.
    pub(crate) fn take(&self) -> Vec<(bool, u64, u8)> {
        let mut told = std::mem::take(&mut *self.0.lock().unwrap());
        told.sort_unstable();
        told
    }
}

pub(crate) fn source(labels: &[(&str, &str)]) -> Arc<Source> {
    let labels = labels.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v)));
    Arc::new(Source {
        log: LogId(1),
        input: 0,
        key: "default_web-1_0a1b/app".into(),
        filename: "/var/log/pods/default_web-1_0a1b/app/0.log".into(),
        meta: Meta {
            namespace: "default".into(),
            pod: "web-1".into(),
            uid: "0a1b".into(),
            container: "app".into(),
            node: "node-1".into(),
            facts: None,
        },
        labels: labels.collect(),
        tag: None,
        standing: Standing::Read,
    })
}

pub(crate) fn ticket(told: &Arc<Told>, start: u64, outputs: usize) -> Ticket {
    let span = Span {
        log: LogId(1),
        file: FileId(1),
        pass: PassId(1),
        start,
        end: start + 1,
        lines: 1,
    };
    let sink = Arc::clone(told) as Arc<dyn Settle>;
    Ticket::new(span, OutputSet::first(outputs), sink)
}

/// A chunk with these bytes, the number of outputs in its claim.
pub(crate) fn chunk(told: &Arc<Told>, start: u64, text: &[u8], outputs: usize) -> Chunk {
    let mut buf = Pool::new(1, text.len().max(1), Bell::silent())
        .take()
        .unwrap();
    buf[..text.len()].copy_from_slice(text);
    Chunk {
        source: source(&[]),
        pass: PassId(1),
        base: start,
        buf,
        len: text.len(),
        open_tail: false,
        ticket: ticket(told, start, outputs),
        permit: None,
        held: None,
    }
}

pub(crate) fn record<'c>(
    source: &'c Arc<Source>,
    ticket: &'c Ticket,
    text: &'c [u8],
) -> Record<'c> {
    Record {
        source,
        stream: Stream::Stdout,
        offset: 7,
        ordinal: 0,
        route: 0,
        time: Timestamp {
            secs: 1_795_496_400,
            nanos: 123_456_789,
        },
        time_origin: TimeOrigin::Line,
        text: text.into(),
        json: Json::Unknown,
        labels: SmallVec::new(),
        structured: SmallVec::new(),
        extracted: SmallVec::new(),
        tenant: None,
        cut: false,
        lines: 1,
        ticket,
        held: SmallVec::new(),
        sent: OutputSet::NONE,
    }
}

/// The same source with what the API says of its pod.
pub(crate) fn with_facts(source: &Source) -> Arc<Source> {
    let pairs = |list: &[(&str, &str)]| {
        let pairs = list.iter();
        pairs.map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
    };
    let mut source = source.clone();
    source.meta.facts = Some(Arc::new(Facts {
        labels: pairs(&[("app", "web"), ("app.kubernetes.io/name", "shop")]),
        annotations: pairs(&[("team", "a\"b")]),
        owner_kind: "Deployment".into(),
        owner: "web".into(),
    }));
    Arc::new(source)
}
