#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use super::super::fixture::{Told, chunk, record};
use super::super::request::Request;
use super::*;
use crate::base::bell::Bell;
use crate::base::outputs::{OUTPUTS_MAX, OutputSet};
use crate::base::size::ByteSize;
use crate::plan::{ElasticsearchOutput, Limits, LokiOutput, Output, OutputKind, Retry, Wake};
use crate::ticket::Ticket;

/// Emits each line to every output; a line `@tenant text` sets the tenant.
#[derive(Debug)]
struct Lines;

impl Process for Lines {
    fn feed(&mut self, feed: Feed, _: Mono, _: Timestamp, sink: &mut dyn Sink) {
        let Feed::Chunk(chunk) = feed else { return };
        for line in chunk
            .bytes()
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            for output in 0..OUTPUTS_MAX as u8 {
                let mut record = record(&chunk.source, &chunk.ticket, line);
                if let Some(rest) = line.strip_prefix(b"@") {
                    let tenant = rest.split(|byte| *byte == b' ').next().unwrap();
                    record.tenant = Some(std::str::from_utf8(tenant).unwrap().into());
                }
                sink.emit(OutputId(output), &mut record);
            }
        }
        chunk.ticket.settle();
    }

    fn tick(&mut self, _: Mono, _: Timestamp, _: &mut dyn Sink) {}

    fn deadline(&self) -> Option<Mono> {
        None
    }
}

struct Bench {
    worker: Worker<Lines>,
    outlets: Vec<Arc<Outlet>>,
    queue: VecDeque<Feed>,
    told: Arc<Told>,
    now: Mono,
    at: u64,
}

fn plan(windows: &[u64], batch_bytes: u64) -> Plan {
    let kind = |at: usize| match at % 2 {
        0 => OutputKind::Loki(LokiOutput {
            url: String::new(),
            tenant: None,
            labels: Vec::new(),
        }),
        _ => OutputKind::Elasticsearch(ElasticsearchOutput {
            urls: Vec::new(),
            index: "i".into(),
            data_stream: false,
            shape: crate::plan::Shape::default(),
            filter_path: true,
            template: None,
            compression: crate::plan::Compression::Gzip,
            gzip_level: 1,
        }),
    };
    let output = |(at, window): (usize, &u64)| Output {
        name: format!("o{at}"),
        kind: kind(at),
        batch_bytes: ByteSize(batch_bytes),
        linger_ms: 100,
        window_bytes: ByteSize(*window),
        spool: crate::plan::Spool::Off,
        retry: Retry::default(),
        timeout_ms: 1,
        http: crate::plan::HttpSettings::default(),
        dead_letters: None,
    };
    Plan {
        state: "/x".into(),
        admin: None,
        inputs: Vec::new(),
        pipelines: Vec::new(),
        entries: Vec::new(),
        outputs: windows.iter().enumerate().map(output).collect(),
        limits: Limits::default(),
        wake: Wake::default(),
        privileges: crate::plan::Privileges::default(),
    }
}

fn outlets(windows: &[u64], registry: &Registry) -> Vec<Arc<Outlet>> {
    let outlet = |(at, window): (usize, &u64)| {
        let (id, name) = (OutputId(at as u8), format!("o{at}"));
        Arc::new(Outlet::new(
            id,
            &name,
            *window,
            Bell::silent(),
            Vec::new(),
            registry,
        ))
    };
    windows.iter().enumerate().map(outlet).collect()
}

impl Bench {
    /// One output for each window; even ones are Loki's.
    fn new(windows: &[u64], batch_bytes: u64) -> Self {
        let registry = Registry::default();
        let (plan, outlets) = (plan(windows, batch_bytes), outlets(windows, &registry));
        Self {
            worker: Worker::with(0, &plan, Lines, outlets.clone(), &registry),
            outlets,
            queue: VecDeque::new(),
            told: Arc::new(Told::default()),
            now: Mono(1_000_000_000),
            at: 0,
        }
    }

    fn chunk(&mut self, text: &str) {
        let chunk = chunk(&self.told, self.at, text.as_bytes(), self.outlets.len());
        self.queue.push_back(Feed::Chunk(chunk));
        self.at += 1;
    }

    fn turn(&mut self, after_ms: u64) -> Turn {
        self.now = self.now.plus_ms(after_ms);
        let queue = &mut self.queue;
        self.worker
            .turn(self.now, Timestamp::default(), &mut || queue.pop_front())
    }

    /// What lies in an outlet, as (lines, tenant); its claims are settled.
    fn settle(&self, output: usize) -> Vec<(u64, Option<String>)> {
        let mut all = Vec::new();
        while let Some(request) = self.outlets[output].take() {
            self.outlets[output].release(request.held_bytes());
            all.push((
                request.lines(),
                request.tenant.as_deref().map(str::to_owned),
            ));
            request
                .tickets
                .into_iter()
                .for_each(crate::ticket::Ticket::settle);
        }
        all
    }
}

const WIDE: u64 = 1 << 30;

#[test]
fn a_lone_line_goes_at_once_and_the_next_lingers() {
    let mut bench = Bench::new(&[WIDE], 1 << 20);
    bench.chunk("one");
    let turn = bench.turn(0);
    assert_eq!(
        turn,
        Turn {
            progress: true,
            deadline: None,
            blocked: false
        }
    );
    assert_eq!(bench.settle(0), [(1, None)]);
    assert_eq!(bench.told.take(), [(true, 0, 0)]);
    bench.chunk("two\nthree");
    let due = bench.now.plus_ms(110);
    assert_eq!(bench.turn(10).deadline, Some(due));
    assert_eq!(bench.settle(0), []);
    bench.turn(99);
    assert_eq!(bench.settle(0), []);
    bench.turn(1);
    assert_eq!(bench.settle(0), [(2, None)]);
    assert_eq!(bench.told.take(), [(true, 1, 0)]);
}

#[test]
fn a_batch_is_sealed_at_its_size() {
    let mut bench = Bench::new(&[WIDE, WIDE], 300);
    let line = "x".repeat(120);
    bench.chunk(&[line.as_str(); 6].join("\n"));
    bench.turn(0);
    // 30 bytes of labels and tags, 137 an entry.
    assert_eq!(bench.settle(0), vec![(2, None); 3]);
    assert_eq!(bench.settle(1), vec![(1, None); 6]);
    assert_eq!(bench.told.take(), [(true, 0, 0), (true, 0, 1)]);
}

#[test]
fn a_turn_takes_a_bounded_number_of_feeds() {
    let mut bench = Bench::new(&[WIDE], 1 << 20);
    (0..FEEDS_MAX + 4).for_each(|_| bench.chunk("x"));
    assert!(bench.turn(0).progress);
    assert_eq!((bench.queue.len(), bench.settle(0).len()), (4, 0));
    bench.turn(0);
    assert_eq!(bench.settle(0), [(FEEDS_MAX as u64 + 4, None)]);
}

#[test]
fn tenants_have_batches_of_their_own_in_bounded_number() {
    let mut bench = Bench::new(&[WIDE], 1 << 20);
    let lines: Vec<String> = (0..66).map(|tenant| format!("@t{tenant} x")).collect();
    bench.chunk(&lines.join("\n"));
    bench.turn(0);
    let sealed = bench.settle(0);
    assert_eq!(sealed.len(), 66);
    // The oldest is the first by place among equals; evicted ones went first.
    assert_eq!(sealed[0], (1, Some("t0".into())));
    assert_eq!(bench.told.take(), [(true, 0, 0)]);
}

#[test]
fn the_only_output_blocks_the_encoder_and_loses_nothing() {
    let mut bench = Bench::new(&[1], 10);
    (0..4).for_each(|_| bench.chunk("a line"));
    let turn = bench.turn(0);
    assert!(turn.blocked && turn.deadline.is_some());
    assert_eq!(bench.queue.len(), 2, "one in the window, one that waits");
    for _ in 0..100 {
        assert!(bench.turn(50).blocked);
    }
    assert!(!bench.outlets[0].is_detached());
    let mut lines = 0;
    for _ in 0..4 {
        lines += bench.settle(0).len();
        bench.turn(0);
    }
    lines += bench.settle(0).len();
    assert_eq!((lines, bench.queue.len()), (4, 0));
    assert_eq!(bench.told.take(), [0, 1, 2, 3].map(|at| (true, at, 0)));
}

/// With an output down and a line a chunk, windows held five times their bytes.
#[test]
fn a_window_counts_tables_and_claims_and_not_bodies_alone() {
    let mut bench = Bench::new(&[1_000], 10);
    (0..FEEDS_MAX).for_each(|_| bench.chunk("a line"));
    assert!(bench.turn(0).blocked);
    let mut bodies = 0;
    while let Some(request) = bench.outlets[0].take() {
        assert!(request.held_bytes() > 2 * request.body.len() as u64);
        bodies += request.body.len();
    }
    assert!(bodies < 500, "{bodies}");
}

#[test]
fn a_slow_output_is_detached_after_its_share_of_a_second() {
    let mut bench = Bench::new(&[1, WIDE], 10);
    (0..5).for_each(|_| bench.chunk("a line"));
    assert!(bench.turn(0).blocked);
    assert!(bench.turn(100).blocked && bench.turn(100).blocked);
    assert!(!bench.outlets[0].is_detached());
    // More than 200 ms now: the other output goes on, and the slow one keeps what it has begun.
    assert!(!bench.turn(1).blocked);
    assert!(bench.outlets[0].is_detached());
    assert_eq!(bench.queue.len(), 0);
    assert_eq!(bench.settle(1).len(), 5);
    let told = bench.told.take();
    let want = [2, 3, 4].map(|at| (false, at, 0));
    assert_eq!(told[..3], want, "what came after fails for the slow one");
    assert_eq!(told[3..], [0, 1, 2, 3, 4].map(|at| (true, at, 1)));
    // What was begun is still delivered, and it takes records again once attached.
    assert_eq!(bench.settle(0).len(), 1);
    bench.turn(0);
    assert_eq!(bench.settle(0).len(), 1);
    assert_eq!(bench.told.take(), [(true, 0, 0), (true, 1, 0)]);
    bench.outlets[0].attach();
    bench.chunk("again");
    bench.turn(1000);
    assert_eq!((bench.settle(0).len(), bench.settle(1).len()), (1, 1));
    assert_eq!(bench.told.take(), [(true, 5, 0), (true, 5, 1)]);
}

#[test]
fn short_waits_far_apart_do_not_detach() {
    let mut bench = Bench::new(&[1, WIDE], 10);
    for _ in 0..10 {
        (0..2).for_each(|_| bench.chunk("a line"));
        assert!(bench.turn(0).blocked);
        bench.turn(150);
        bench.settle(0);
        assert!(!bench.turn(0).blocked);
        bench.settle(0);
        bench.turn(900);
    }
    assert!(!bench.outlets[0].is_detached());
}

#[test]
fn a_detached_output_finishes_what_it_has_begun_and_refuses_other_chunks_whole() {
    let mut bench = Bench::new(&[WIDE, WIDE], 1 << 20);
    (0..FEEDS_MAX + 1).for_each(|_| bench.chunk("a\nb\nc"));
    bench.turn(0);
    bench.outlets[0].detach();
    let begun = &bench.told;
    let late = chunk(begun, 99, b"d", 2);
    // A record that a stage had held: one of a chunk that was begun, one of a chunk that was not.
    late.ticket.begin(OutputSet::first(1));
    bench.queue.push_back(Feed::Chunk(late));
    bench.turn(0);
    let refused = [(false, FEEDS_MAX as u64, 0)];
    assert_eq!(bench.told.take(), refused);
    bench.turn(100);
    assert_eq!(bench.settle(0), [(3 * FEEDS_MAX as u64 + 1, None)]);
    assert_eq!(bench.settle(1), [(3 * FEEDS_MAX as u64 + 4, None)]);
}

/// Passes of two outputs have met while a record was held in both.
#[test]
fn a_claim_of_another_output_makes_a_detached_one_refuse_nothing() {
    let mut bench = Bench::new(&[WIDE, WIDE], 1 << 20);
    let (begun, others) = (
        chunk(&bench.told, 0, b"a", 1),
        chunk(&bench.told, 1, b"a", 2),
    );
    begun.ticket.begin(OutputSet::first(1));
    bench.outlets[0].detach();
    let mut held = record(&begun.source, &begun.ticket, b"a");
    held.held
        .push(others.ticket.split(OutputSet::one(OutputId(1))));
    bench.worker.outputs.emit(OutputId(0), &mut held);
    held.held.drain(..).for_each(Ticket::settle);
    drop(held);
    begun.ticket.settle();
    others.ticket.settle();
    bench.turn(100);
    assert_eq!(bench.settle(0).len(), 1);
    assert!(bench.told.take().contains(&(true, 0, 0)));
}

#[test]
fn an_output_that_no_claim_covers_is_skipped() {
    let mut bench = Bench::new(&[WIDE, WIDE], 1 << 20);
    let chunk = chunk(&bench.told, 0, b"a", 1);
    bench.queue.push_back(Feed::Chunk(chunk));
    bench.turn(0);
    assert_eq!((bench.settle(0).len(), bench.settle(1).len()), (1, 0));
    assert_eq!(bench.told.take(), [(true, 0, 0)]);
}

#[test]
fn drain_seals_what_is_open_and_says_when_all_is_out() {
    let mut bench = Bench::new(&[1], 1 << 20);
    (0..FEEDS_MAX).for_each(|_| bench.chunk("x"));
    bench.queue.push_back(Feed::Ended {
        log: crate::ticket::LogId(1),
    });
    bench.turn(0);
    assert!(bench.worker.drain(bench.now, Timestamp::default()));
    assert_eq!(bench.settle(0), [(FEEDS_MAX as u64, None)]);
}

#[test]
fn a_request_that_is_dropped_fails_its_chunks() {
    let mut bench = Bench::new(&[WIDE], 1 << 20);
    bench.chunk("x");
    bench.turn(0);
    let request: Request = bench.outlets[0].take().unwrap();
    drop(request);
    assert_eq!(bench.told.take(), [(false, 0, 0)]);
}

#[test]
fn items_of_held_records_name_all_their_chunks() {
    use super::super::seal::Claims;
    let told = Arc::new(Told::default());
    let chunks: Vec<_> = (0..3).map(|at| chunk(&told, at, b"x", 1)).collect();
    let mut claims = Claims::default();
    let mut check = |at: usize, held: &[usize], want: (u32, u16)| {
        let mut record = record(&chunks[at].source, &chunks[at].ticket, b"x");
        let set = OutputSet::first(1);
        record
            .held
            .extend(held.iter().map(|at| chunks[*at].ticket.split(set)));
        let claim = claims.claim(OutputId(0), &record);
        assert_eq!((claim.ticket, claim.held), want);
        record
            .held
            .into_iter()
            .for_each(crate::ticket::Ticket::settle);
    };
    check(0, &[], (0, 0));
    check(0, &[], (0, 0));
    check(1, &[0], (2, 1));
    check(1, &[0], (2, 1));
    check(1, &[], (2, 0));
    check(2, &[1], (4, 1));
    check(2, &[0, 1], (7, 2));
    claims
        .take()
        .into_iter()
        .for_each(crate::ticket::Ticket::settle);
    chunks.into_iter().for_each(|chunk| chunk.ticket.settle());
    assert_eq!(told.take(), [0, 1, 2].map(|at| (true, at, 0)));
}

#[test]
fn with_the_plans_stages_cri_lines_become_documents_and_a_held_part_keeps_its_chunk() {
    use crate::plan::{Pipeline, Stage, Step};
    let registry = Registry::default();
    let mut plan = plan(&[WIDE, WIDE], 1 << 20);
    plan.inputs = vec![crate::plan::Input {
        name: "pods".into(),
        kind: crate::plan::InputKind::Pods {
            root: "/x".into(),
            link_roots: Vec::new(),
            kubernetes: None,
        },
        start_at: crate::plan::StartAt::Beginning,
    }];
    plan.pipelines = vec![Pipeline {
        name: "p".into(),
        from: vec![0],
        steps: vec![
            Step::Stage(Stage::Cri),
            Step::Output(OutputId(0)),
            Step::Output(OutputId(1)),
        ],
    }];
    let outlets = outlets(&[WIDE, WIDE], &registry);
    let program = Program::compile(&plan);
    let mut worker = Worker::new(0, &plan, program, 1 << 20, outlets.clone(), &registry);
    let told = Arc::new(Told::default());
    let texts = [
        "2026-11-24T05:00:00.5Z stdout P {\"a\":\n",
        "2026-11-24T05:00:00.6Z stdout F 1}\n2026-11-24T05:00:00.7Z stderr F plain\n",
    ];
    let mut base = 0;
    let mut feeds: VecDeque<Feed> = texts
        .iter()
        .map(|text| {
            let chunk = chunk(&told, base, text.as_bytes(), 2);
            base += text.len() as u64;
            Feed::Chunk(chunk)
        })
        .collect();
    worker.turn(Mono(1), Timestamp::default(), &mut || feeds.pop_front());
    for outlet in &outlets {
        let request = outlet.take().unwrap();
        let places: Vec<_> = request
            .items
            .iter()
            .map(|item| (item.ticket, item.held))
            .collect();
        assert_eq!(places, [(1, 1), (1, 0)]);
        if request.groups.is_empty() {
            let raw = super::super::compress::inflate(request.encoding, &request.body).unwrap();
            let raw = String::from_utf8(raw).unwrap();
            let documents: Vec<serde_json::Value> = raw
                .lines()
                .skip(1)
                .step_by(2)
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(
                (&documents[0]["a"], &documents[0]["log"]["offset"]),
                (&1.into(), &0.into())
            );
            assert_eq!(documents[1]["message"], "plain");
            assert_eq!(documents[1]["stream"], "stderr");
        }
        assert_eq!(told.take(), [], "nothing is settled before it is delivered");
        request
            .tickets
            .into_iter()
            .for_each(crate::ticket::Ticket::settle);
        let output = outlet.output.0;
        assert_eq!(
            told.take(),
            [(true, 0, output), (true, texts[0].len() as u64, output)]
        );
    }
}
