//! Lanes on simulated time against a scripted transport: what their tests share.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;

use super::super::*;
use crate::base::bell::Bell;
use crate::base::outputs::OutputSet;
use crate::base::size::ByteSize;
use crate::encode::Item;
use crate::plan::{DeadLetters, ElasticsearchOutput, Limits, LokiOutput, Wake};
use crate::ticket::{FileId, LogId, PassId, Settle, Span, Ticket};

/// Bodies of the tests are one letter an item; so is what is kept of them.
fn letters(
    _: Encoding,
    body: &[u8],
    items: &[Item],
    _: &[std::ops::Range<u32>],
    keep: &[usize],
) -> Result<crate::encode::Recomposed, String> {
    if body.first() == Some(&b'!') {
        return Err("broken body".to_owned());
    }
    let body: Vec<u8> = keep.iter().map(|place| body[*place]).collect();
    let at = |(new, old): (usize, &usize)| {
        let range = new as u32..new as u32 + 1;
        Item {
            range,
            ..items[*old].clone()
        }
    };
    let items = keep.iter().enumerate().map(at).collect();
    Ok((body.into(), items, Vec::new()))
}

/// As text, a letter is a small one; a small one is text already.
fn small(
    encoding: Encoding,
    body: &[u8],
    items: &[Item],
    keep: &[usize],
) -> Result<(Vec<usize>, crate::encode::Recomposed), String> {
    let keep: Vec<usize> = keep
        .iter()
        .copied()
        .filter(|at| body[*at].is_ascii_uppercase())
        .collect();
    let (made, items, groups) = letters(encoding, body, items, &[], &keep)?;
    Ok((keep, (made.to_ascii_lowercase().into(), items, groups)))
}

fn lines(
    _: Encoding,
    body: &[u8],
    _: &[Item],
    _: &[std::ops::Range<u32>],
    keep: &[usize],
) -> Result<Vec<crate::encode::Line>, String> {
    let line = |at: &usize| crate::encode::Line {
        text: vec![body[*at]],
        ..crate::encode::Line::default()
    };
    Ok(keep.iter().map(line).collect())
}

const LETTERS: Bodies = Bodies {
    recompose: letters,
    plain: small,
    look: |_, _, items, _| {
        let entries = items
            .iter()
            .map(|_| crate::encode::Entry::default())
            .collect();
        Ok(crate::encode::Looked {
            entries,
            streams: Vec::new(),
        })
    },
    lines,
};

#[derive(Default)]
pub(super) struct Ledger(pub(super) Mutex<Vec<(u64, bool)>>);

impl Settle for Ledger {
    fn settled(&self, spans: &[Span], _: OutputId, _: crate::ticket::LineFates) {
        self.0.lock().unwrap().push((spans[0].start, true));
    }
    fn failed(&self, spans: &[Span], _: OutputId) {
        self.0.lock().unwrap().push((spans[0].start, false));
    }
}

#[derive(Default)]
pub(super) struct Wire {
    pub(super) flying: Vec<(CallId, Call)>,
    pub(super) sent: Vec<String>,
    pub(super) ended: VecDeque<(CallId, Result<Answer, Failure>)>,
    pub(super) cancelled: Vec<CallId>,
}

impl Transport for Wire {
    fn send(&mut self, id: CallId, call: Call) {
        self.sent
            .push(String::from_utf8(call.body.to_vec()).unwrap());
        self.flying.push((id, call));
    }
    fn cancel(&mut self, id: CallId) {
        self.cancelled.push(id);
    }
    fn poll(&mut self, ended: &mut Vec<(CallId, Result<Answer, Failure>)>) {
        ended.extend(self.ended.drain(..));
    }
}

pub(super) struct Bed {
    pub(super) deliverer: Deliverer,
    pub(super) outlet: Arc<Outlet>,
    pub(super) registry: Registry,
    pub(super) dead: Arc<DeadQueue>,
    pub(super) wire: Wire,
    pub(super) ledger: Arc<Ledger>,
    pub(super) now: Mono,
    pub(super) tickets: u64,
}

impl Bed {
    pub(super) fn new(sink: Sink) -> Self {
        let kind = match sink {
            Sink::Loki => OutputKind::Loki(LokiOutput {
                url: "http://me:secret@l:3100/loki/api/v1/push".to_owned(),
                tenant: Some("t0".to_owned()),
                labels: Vec::new(),
            }),
            Sink::Bulk => OutputKind::Elasticsearch(ElasticsearchOutput {
                urls: vec!["http://a:9200/".to_owned(), "http://b:9200".to_owned()],
                index: "logs".into(),
                shape: crate::plan::Shape::default(),
                filter_path: true,
                template: None,
                compression: crate::plan::Compression::Gzip,
                data_stream: true,
                gzip_level: 1,
            }),
        };
        let output = Output {
            name: "out".to_owned(),
            kind,
            batch_bytes: ByteSize(1 << 20),
            linger_ms: 100,
            window_bytes: ByteSize(1 << 20),
            spool: crate::plan::Spool::Off,
            http: crate::plan::HttpSettings::default(),
            retry: Retry {
                min_ms: 100,
                max_ms: 1000,
            },
            timeout_ms: 10_000,
            dead_letters: Some(DeadLetters::default()),
        };
        let plan = Plan {
            state: "/state".into(),
            admin: None,
            inputs: Vec::new(),
            pipelines: Vec::new(),
            entries: Vec::new(),
            outputs: vec![output],
            limits: Limits::default(),
            wake: Wake::default(),
            privileges: crate::plan::Privileges::default(),
        };
        let registry = Registry::default();
        let (lanes, encoders) = (Bell::silent(), Vec::new());
        let outlet = Outlet::new(OutputId(0), "out", 1 << 20, lanes, encoders, &registry);
        let outlet = Arc::new(outlet);
        let outlets = vec![Arc::clone(&outlet)];
        let dead = Arc::new(DeadQueue::default());
        let deliverer = Deliverer::new(&plan, outlets, &registry, 7, LETTERS, &dead);
        Self {
            deliverer,
            outlet,
            registry,
            dead,
            wire: Wire::default(),
            ledger: Arc::default(),
            now: Mono(0),
            tickets: 0,
        }
    }

    /// Puts a request of one letter and one ticket an item; item `i` also holds `held[i]` before.
    pub(super) fn put_held(&mut self, body: &str, tenant: Option<&str>, held: &[u16]) {
        let outputs = OutputSet::one(OutputId(0));
        let ticket = |i: usize| {
            let (start, lines) = (self.tickets + i as u64, 1);
            let (log, file, pass) = (LogId(0), FileId(0), PassId(0));
            let span = Span {
                log,
                file,
                pass,
                start,
                end: start + 1,
                lines,
            };
            Ticket::new(span, outputs, Arc::clone(&self.ledger) as Arc<dyn Settle>)
        };
        let item = |i: usize| Item {
            range: i as u32..i as u32 + 1,
            group: 0,
            ticket: i as u32,
            held: held.get(i).copied().unwrap_or(0),
            lines: 1,
        };
        let request = Request {
            output: OutputId(0),
            tenant: tenant.map(Arc::from),
            encoder: 0,
            body: Bytes::copy_from_slice(body.as_bytes()),
            encoding: Encoding::Gzip(1),
            inflated: body.len() as u64,
            items: (0..body.len()).map(item).collect(),
            groups: Vec::new(),
            tickets: (0..body.len()).map(ticket).collect(),
            loan: None,
            opened: self.now,
        };
        self.tickets += body.len() as u64;
        self.outlet.put(request).unwrap();
    }

    pub(super) fn put(&mut self, body: &str) {
        self.put_held(body, None, &[]);
    }

    pub(super) fn turn(&mut self) -> Turn {
        let turn = self.deliverer.turn(self.now, &mut self.wire);
        let again = self.deliverer.turn(self.now, &mut self.wire);
        assert!(!again.progress, "a turn leaves nothing undone");
        turn
    }

    pub(super) fn end(&mut self, end: Result<Answer, Failure>) {
        let (id, _) = self.wire.flying.remove(0);
        self.wire.ended.push_back((id, end));
        self.turn();
    }

    pub(super) fn answer(&mut self, status: u16, body: &str) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.end(Ok(Answer {
            status,
            retry_after_ms: None,
            body,
        }));
    }

    /// Goes to the deadline, where the retry is sent.
    pub(super) fn wait(&mut self) -> u64 {
        let deadline = self.turn().deadline.unwrap();
        let waited = deadline.ms_since(self.now);
        assert!(self.wire.flying.is_empty());
        self.now = Mono(deadline.0 - 1);
        assert!(!self.turn().progress, "not before its time");
        self.now = deadline;
        assert!(self.turn().progress);
        waited
    }

    pub(super) fn statuses(&mut self, statuses: &[u16]) {
        let item = |status: &u16| format!(r#"{{"create":{{"status":{status}}}}}"#);
        let items: Vec<String> = statuses.iter().map(item).collect();
        self.answer(
            200,
            &format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(",")),
        );
    }

    pub(super) fn settled(&self) -> Vec<u64> {
        let log = self.ledger.0.lock().unwrap();
        assert!(log.iter().all(|(_, settled)| *settled), "{log:?}");
        log.iter().map(|(start, _)| *start).collect()
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        let status = &self.deliverer.status(self.now)[0];
        (status.acknowledged_lines, status.rejected_lines)
    }

    pub(super) fn assert_done(&mut self) {
        assert!(self.deliverer.idle());
        assert_eq!(self.outlet.window(), 0);
        let status = &self.deliverer.status(self.now)[0];
        assert_eq!(
            (status.in_flight, status.held, status.failing_secs),
            (0, 0, None)
        );
    }
}
