#![expect(clippy::unwrap_used, reason = "tests")]
//! Lanes on simulated time against a scripted transport.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::base::bell::Bell;
use crate::base::outputs::OutputSet;
use crate::base::size::ByteSize;
use crate::encode::Item;
use crate::plan::{ElasticsearchOutput, Limits, LokiOutput, Wake};
use crate::ticket::{FileId, LogId, PassId, Settle, Span, Ticket};

/// Bodies of the tests are one letter an item; so is what is kept of them.
fn letters(
    _: Encoding,
    body: &[u8],
    items: &[Item],
    _: &[std::ops::Range<u32>],
    keep: &[usize],
) -> Result<super::super::Recomposed, String> {
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

#[derive(Default)]
struct Ledger(Mutex<Vec<(u64, bool)>>);

impl Settle for Ledger {
    fn settled(&self, spans: &[Span], _: OutputId, _: crate::ticket::LineFates) {
        self.0.lock().unwrap().push((spans[0].start, true));
    }
    fn failed(&self, spans: &[Span], _: OutputId) {
        self.0.lock().unwrap().push((spans[0].start, false));
    }
}

#[derive(Default)]
struct Wire {
    flying: Vec<(CallId, Call)>,
    sent: Vec<String>,
    ended: VecDeque<(CallId, Result<Answer, Failure>)>,
    cancelled: Vec<CallId>,
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

struct Bed {
    deliverer: Deliverer,
    outlet: Arc<Outlet>,
    registry: Registry,
    wire: Wire,
    ledger: Arc<Ledger>,
    now: Mono,
    tickets: u64,
}

impl Bed {
    fn new(sink: Sink) -> Self {
        let kind = match sink {
            Sink::Loki => OutputKind::Loki(LokiOutput {
                url: "http://me:secret@l:3100/loki/api/v1/push".to_owned(),
                tenant: Some("t0".to_owned()),
                labels: Vec::new(),
            }),
            Sink::Bulk => OutputKind::Elasticsearch(ElasticsearchOutput {
                urls: vec!["http://a:9200/".to_owned(), "http://b:9200".to_owned()],
                index: "logs".into(),
                data_stream: true,
                shape: crate::plan::Shape::default(),
                filter_path: true,
                template: None,
                compression: crate::plan::Compression::Gzip,
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
            retry: Retry {
                min_ms: 100,
                max_ms: 1000,
            },
            timeout_ms: 10_000,
            http: crate::plan::HttpSettings::default(),
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
        let deliverer = Deliverer::new(&plan, outlets, &registry, 7, letters);
        Self {
            deliverer,
            outlet,
            registry,
            wire: Wire::default(),
            ledger: Arc::default(),
            now: Mono(0),
            tickets: 0,
        }
    }

    /// Puts a request of one letter and one ticket an item; item `i` also holds `held[i]` before.
    fn put_held(&mut self, body: &str, tenant: Option<&str>, held: &[u16]) {
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

    fn put(&mut self, body: &str) {
        self.put_held(body, None, &[]);
    }

    fn turn(&mut self) -> Turn {
        let turn = self.deliverer.turn(self.now, &mut self.wire);
        let again = self.deliverer.turn(self.now, &mut self.wire);
        assert!(!again.progress, "a turn leaves nothing undone");
        turn
    }

    fn end(&mut self, end: Result<Answer, Failure>) {
        let (id, _) = self.wire.flying.remove(0);
        self.wire.ended.push_back((id, end));
        self.turn();
    }

    fn answer(&mut self, status: u16, body: &str) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.end(Ok(Answer {
            status,
            retry_after_ms: None,
            body,
        }));
    }

    /// Goes to the deadline, where the retry is sent.
    fn wait(&mut self) -> u64 {
        let deadline = self.turn().deadline.unwrap();
        let waited = deadline.ms_since(self.now);
        assert!(self.wire.flying.is_empty());
        self.now = Mono(deadline.0 - 1);
        assert!(!self.turn().progress, "not before its time");
        self.now = deadline;
        assert!(self.turn().progress);
        waited
    }

    fn statuses(&mut self, statuses: &[u16]) {
        let item = |status: &u16| format!(r#"{{"create":{{"status":{status}}}}}"#);
        let items: Vec<String> = statuses.iter().map(item).collect();
        self.answer(
            200,
            &format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(",")),
        );
    }

    fn settled(&self) -> Vec<u64> {
        let log = self.ledger.0.lock().unwrap();
        assert!(log.iter().all(|(_, settled)| *settled), "{log:?}");
        log.iter().map(|(start, _)| *start).collect()
    }

    fn counts(&self) -> (u64, u64) {
        let status = &self.deliverer.status(self.now)[0];
        (status.acknowledged_lines, status.rejected_lines)
    }

    fn assert_done(&mut self) {
        assert!(self.deliverer.idle());
        assert_eq!(self.outlet.window(), 0);
        let status = &self.deliverer.status(self.now)[0];
        assert_eq!(
            (status.in_flight, status.held, status.failing_secs),
            (0, 0, None)
        );
    }
}

#[test]
fn requests_of_a_lane_go_one_by_one_in_order_and_lanes_fly_together() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("ab");
    bed.put("cd");
    bed.put_held("ef", Some("other"), &[]);
    bed.turn();
    assert_eq!(bed.wire.sent, ["ab", "ef"]);
    // Six bytes of bodies, and what is held beside them.
    assert!(bed.outlet.window() > 6);
    bed.answer(204, "");
    assert_eq!(bed.wire.sent, ["ab", "ef", "cd"]);
    bed.answer(204, "");
    assert_eq!(bed.settled(), [0, 1, 4, 5]);
    bed.answer(204, "");
    assert_eq!(bed.counts(), (6, 0));
    bed.assert_done();
}

#[test]
fn calls_bear_the_right_headers_and_no_secret_in_the_url() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("a");
    bed.put_held("b", Some("t9"), &[]);
    bed.turn();
    let (one, other) = (&bed.wire.flying[0].1, &bed.wire.flying[1].1);
    assert_eq!(&*one.url, "http://l:3100/loki/api/v1/push");
    assert!(one.headers.contains(&("x-scope-orgid", "t0".into())));
    assert!(one.headers.iter().all(|(name, _)| *name != "authorization"));
    assert!(other.headers.contains(&("x-scope-orgid", "t9".into())));
    assert!(!format!("{one:?}").contains("secret"));
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("a");
    bed.put("b");
    bed.turn();
    bed.answer(200, r#"{"errors":false}"#);
    let call = &bed.wire.flying[0].1;
    assert_eq!(&*call.url, format!("http://b:9200{BULK_PATH}"));
    assert!(call.headers.contains(&("content-encoding", "gzip".into())));
    assert!(
        call.headers
            .contains(&("content-type", "application/x-ndjson".into()))
    );
}

#[test]
fn a_failure_is_retried_with_growing_waits_without_end() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("ab");
    bed.put("cd");
    bed.turn();
    for full in [100, 200, 400, 800, 1000, 1000, 1000] {
        bed.end(Err(Failure::Connect("refused".to_owned())));
        let waited = bed.wait();
        assert!((full / 2..=full).contains(&waited), "{waited} of {full}");
    }
    let status = bed.deliverer.status(bed.now).remove(0);
    assert_eq!((status.retries, status.in_flight), (7, 1));
    assert!(status.failing_secs.is_some_and(|secs| secs >= 2));
    assert_eq!(status.last_error.as_deref(), Some("connect: refused"));
    assert!(bed.settled().is_empty());
    bed.answer(204, "");
    bed.answer(500, "");
    assert!(bed.wait() <= 100, "a success begins the waits again");
    bed.answer(204, "");
    assert_eq!(bed.settled(), [0, 1, 2, 3]);
    bed.assert_done();
}

#[test]
fn retry_after_is_followed_up_to_five_minutes() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("a");
    bed.turn();
    for (wish, least) in [(7_000, 7_000), (u64::MAX, 300_000), (0, 1)] {
        let (status, body) = (429, Bytes::new());
        bed.end(Ok(Answer {
            status,
            retry_after_ms: Some(wish),
            body,
        }));
        let wait = bed.wait();
        assert!((least..=300_000).contains(&wait), "{wish}: {wait}");
    }
}

#[test]
fn only_the_items_that_were_put_off_go_again() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("abcde");
    bed.put("z");
    bed.turn();
    bed.statuses(&[201, 429, 400, 409, 503]);
    assert_eq!(bed.settled(), [0, 2, 3]);
    assert_eq!(bed.counts(), (2, 1));
    bed.wait();
    bed.statuses(&[429, 201]);
    bed.wait();
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.wire.sent, ["abcde", "be", "b", "z"]);
    assert_eq!(bed.settled(), [0, 2, 3, 4, 1]);
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.counts(), (5, 1));
    bed.assert_done();
    let text = bed.registry.render();
    for line in [
        "tailwake_rejected_lines_total{output=\"out\",reason=\"bad_item\"} 1",
        "tailwake_request_retries_total{output=\"out\",reason=\"busy\"} 2",
        "tailwake_acknowledged_lines_total{output=\"out\"} 5",
        "tailwake_acknowledge_latency_ms_count{output=\"out\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn a_missing_index_is_given_up_after_ten_tries_and_a_block_never() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("ab");
    bed.turn();
    for _ in 1..10 {
        bed.statuses(&[404, 403]);
        bed.wait();
    }
    bed.statuses(&[404, 403]);
    assert_eq!((bed.settled(), bed.counts()), (vec![0], (0, 1)));
    for _ in 0..20 {
        bed.wait();
        bed.statuses(&[403]);
    }
    assert_eq!(bed.wire.sent.last().unwrap(), "b");
    assert_eq!(bed.settled(), [0]);
}

#[test]
fn a_request_that_is_too_large_goes_in_halves_in_order() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("abcde");
    bed.put("z");
    bed.turn();
    bed.answer(413, "too large");
    bed.answer(204, "");
    bed.answer(413, "");
    bed.answer(413, "");
    assert_eq!(bed.counts(), (2, 1));
    bed.answer(204, "");
    bed.answer(204, "");
    assert_eq!(bed.wire.sent, ["abcde", "ab", "cde", "c", "de", "z"]);
    assert_eq!(bed.settled(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(bed.counts(), (5, 1));
    bed.assert_done();
}

#[test]
fn the_item_that_spoils_a_bulk_is_found_by_halves() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("abXd");
    bed.turn();
    while !bed.wire.flying.is_empty() {
        let bad = bed.wire.sent.last().unwrap().contains('X');
        let (status, body) = if bad {
            (400, "{}")
        } else {
            (200, r#"{"errors":false}"#)
        };
        bed.answer(status, body);
    }
    assert_eq!(bed.wire.sent, ["abXd", "ab", "Xd", "X", "d"]);
    assert_eq!((bed.settled(), bed.counts()), (vec![0, 1, 2, 3], (3, 1)));
    bed.assert_done();
}

#[test]
fn an_answer_that_cannot_be_read_means_the_whole_again() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("ab");
    bed.turn();
    for body in [
        "",
        "garbage",
        r#"{"errors":true,"items":[{"create":{"status":201}}]}"#,
    ] {
        bed.answer(200, body);
        bed.wait();
    }
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.wire.sent, ["ab", "ab", "ab", "ab"]);
    assert_eq!(bed.settled(), [0, 1]);
    bed.assert_done();
}

#[test]
fn loki_400_counts_every_line_of_the_request() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("abc");
    bed.turn();
    bed.answer(400, "max entry size exceeded");
    assert_eq!((bed.settled(), bed.counts()), (vec![0, 1, 2], (0, 3)));
    bed.assert_done();
}

#[test]
fn a_ticket_that_several_items_name_waits_for_all_of_them() {
    let mut bed = Bed::new(Sink::Bulk);
    // The second item has bytes of the first chunk too, the third of both before.
    bed.put_held("abc", None, &[0, 1, 2]);
    bed.turn();
    bed.statuses(&[201, 201, 429]);
    assert!(bed.settled().is_empty());
    bed.wait();
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.settled(), [0, 1, 2]);
    bed.assert_done();
}

#[test]
fn a_body_that_cannot_be_taken_apart_is_dropped_and_its_claims_fail() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("!bc");
    bed.turn();
    bed.statuses(&[201, 429, 201]);
    let log = bed.ledger.0.lock().unwrap().clone();
    assert_eq!(log, [(0, true), (2, true), (1, false)]);
    bed.assert_done();
}

#[test]
fn a_call_that_the_transport_forgets_is_given_up_and_its_late_end_ignored() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("a");
    bed.now = Mono(5);
    let deadline = bed.turn().deadline.unwrap();
    assert_eq!(deadline.ms_since(bed.now), 10_000 + GIVE_UP_MS);
    bed.now = deadline;
    bed.turn();
    let (id, _) = bed.wire.flying.remove(0);
    assert_eq!(bed.wire.cancelled, [id]);
    let late = Answer {
        status: 204,
        retry_after_ms: None,
        body: Bytes::new(),
    };
    bed.wire.ended.push_back((id, Ok(late)));
    bed.turn();
    assert!(bed.settled().is_empty());
    bed.wait();
    bed.answer(204, "");
    assert_eq!(bed.settled(), [0]);
    bed.assert_done();
}

#[test]
fn what_is_unsettled_at_the_end_fails() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("ab");
    bed.turn();
    let ledger = Arc::clone(&bed.ledger);
    drop(bed);
    assert_eq!(*ledger.0.lock().unwrap(), [(0, false), (1, false)]);
}

#[test]
fn lanes_are_bounded_and_what_waits_is_taken_later() {
    let mut bed = Bed::new(Sink::Loki);
    for tenant in 0..LANES_MAX + 3 {
        bed.put_held("a", Some(&tenant.to_string()), &[]);
    }
    bed.turn();
    assert_eq!(bed.wire.flying.len(), LANES_MAX);
    assert!(!bed.deliverer.idle());
    while !bed.wire.flying.is_empty() {
        bed.answer(204, "");
    }
    assert_eq!(bed.settled().len(), LANES_MAX + 3);
    bed.assert_done();
}

proptest! {
    /// Whatever is answered, each ticket is settled exactly once, each line is acknowledged or
    /// rejected once, and the window is given back.
    #[test]
    fn every_line_ends_once(
        sizes in proptest::collection::vec(1usize..6, 1..5),
        script in proptest::collection::vec((0u8..8, proptest::collection::vec(0u8..5, 6)), 0..40),
    ) {
        let mut bed = Bed::new(Sink::Bulk);
        for size in &sizes {
            bed.put(&"abcdef"[..*size]);
        }
        bed.turn();
        let mut script = script.into_iter();
        while !bed.deliverer.idle() {
            if bed.wire.flying.is_empty() {
                bed.wait();
            }
            let count = bed.wire.sent.last().unwrap().len();
            match script.next() {
                Some((0, _)) => bed.answer(413, ""),
                Some((1, _)) => bed.answer(400, ""),
                Some((2, _)) => bed.answer(503, ""),
                Some((3, _)) => bed.end(Err(Failure::Timeout)),
                Some((4, _)) => bed.answer(200, "{"),
                Some((_, items)) => {
                    let status = |item: &u8| [201, 429, 400, 404, 409][usize::from(*item)];
                    let statuses: Vec<u16> = items.iter().map(status).take(count).collect();
                    bed.statuses(&statuses);
                }
                None => bed.answer(200, r#"{"errors":false}"#),
            }
        }
        let mut settled = bed.settled();
        settled.sort_unstable();
        let lines: usize = sizes.iter().sum();
        prop_assert_eq!(settled, (0..lines as u64).collect::<Vec<_>>());
        let (acknowledged, rejected) = bed.counts();
        prop_assert_eq!(acknowledged + rejected, lines as u64);
        bed.assert_done();
    }
}
