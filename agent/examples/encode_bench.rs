//! What encoding costs: CPU seconds for a gigabyte of lines, an output kind each.
//!
//! ```text
//! cargo run --release --example encode_bench
//! ```
//!
//! JSON lines of about 270 bytes go through one encoder, 128 KiB a chunk, with no stages before
//! it. The bulk numbers contain the look at each line as JSON.

use std::io::Write as _;
use std::sync::Arc;

use smallvec::SmallVec;
use tailwake::base::bell::Bell;
use tailwake::base::count::Registry;
use tailwake::base::outputs::{OutputId, OutputSet};
use tailwake::base::pool::Pool;
use tailwake::base::size::ByteSize;
use tailwake::base::time::{Mono, Timestamp};
use tailwake::encode::{Outlet, Process, Worker};
use tailwake::plan::{
    Compression, DatePart, ElasticsearchOutput, FieldShape, Ids, JsonBody, Limits, LokiOutput,
    Output, OutputKind, Pattern, PatternPart, Plan, Retry, Shape, Wake,
};
use tailwake::stage::{Json, Record, Sink, Stream, TimeOrigin};
use tailwake::ticket::{
    Chunk, Feed, FileId, LogId, Meta, PassId, Settle, Source, Span, Standing, Ticket,
};

const CHUNK: usize = 128 << 10;
const CHUNKS: usize = 4_000;

/// Emits each line as it is.
struct Lines;

impl Process for Lines {
    fn feed(&mut self, feed: Feed, _: Mono, wall: Timestamp, sink: &mut dyn Sink) {
        let Feed::Chunk(chunk) = feed else { return };
        let (bytes, mut start) = (chunk.bytes(), 0);
        for end in memchr::memchr_iter(b'\n', bytes) {
            let mut record = Record {
                source: &chunk.source,
                stream: Stream::Stdout,
                offset: chunk.base + start as u64,
                ordinal: 0,
                route: 0,
                time: wall,
                time_origin: TimeOrigin::Line,
                text: bytes[start..end].into(),
                json: Json::Unknown,
                labels: SmallVec::new(),
                structured: SmallVec::new(),
                extracted: SmallVec::new(),
                tenant: None,
                cut: false,
                lines: 1,
                ticket: &chunk.ticket,
                held: SmallVec::new(),
                sent: tailwake::base::outputs::OutputSet::NONE,
            };
            sink.emit(OutputId(0), &mut record);
            start = end + 1;
        }
        chunk.ticket.settle();
    }

    fn tick(&mut self, _: Mono, _: Timestamp, _: &mut dyn Sink) {}

    fn deadline(&self) -> Option<Mono> {
        None
    }
}

struct Nobody;

impl Settle for Nobody {
    fn settled(&self, _: &[Span], _: OutputId, _: tailwake::ticket::LineFates) {}
    fn failed(&self, _: &[Span], _: OutputId) {}
}

fn plan(kind: OutputKind) -> Plan {
    Plan {
        state: "/nowhere".into(),
        admin: None,
        inputs: Vec::new(),
        pipelines: Vec::new(),
        entries: Vec::new(),
        outputs: vec![Output {
            name: "bench".into(),
            kind,
            batch_bytes: ByteSize(1 << 20),
            linger_ms: 1_000,
            window_bytes: ByteSize(1 << 30),
            spool: tailwake::plan::Spool::Off,
            retry: Retry::default(),
            timeout_ms: 1,
            http: tailwake::plan::HttpSettings::default(),
            dead_letters: None,
        }],
        limits: Limits::default(),
        wake: Wake::default(),
        privileges: tailwake::plan::Privileges::default(),
    }
}

/// Fills the chunk with lines whose numbers differ; says how many bytes are whole lines.
fn fill(buf: &mut [u8], seed: &mut u64) -> usize {
    let mut len = 0;
    loop {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (user, ms, id) = (*seed >> 50, *seed >> 54, *seed);
        let line = format!(
            "{{\"level\":\"info\",\"ts\":\"2026-11-24T05:00:00.{:06}Z\",\
             \"caller\":\"http/server.go:214\",\"msg\":\"request completed\",\
             \"method\":\"GET\",\"path\":\"/api/v1/users/{user}/orders\",\"status\":200,\
             \"duration_ms\":{ms},\"trace_id\":\"{id:016x}\",\"user_agent\":\
             \"Mozilla/5.0 (X11; Linux x86_64)\",\"bytes\":{}}}\n",
            id % 1_000_000,
            id % 90_000
        );
        if len + line.len() > buf.len() {
            return len;
        }
        buf[len..len + line.len()].copy_from_slice(line.as_bytes());
        len += line.len();
    }
}

fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn run(name: &str, kind: OutputKind) -> std::io::Result<()> {
    let (plan, registry) = (plan(kind), Registry::default());
    let (id, bell) = (OutputId(0), Bell::silent());
    let outlet = Arc::new(Outlet::new(
        id,
        "bench",
        1 << 30,
        bell,
        Vec::new(),
        &registry,
    ));
    let mut worker = Worker::with(0, &plan, Lines, vec![Arc::clone(&outlet)], &registry);
    let pool = Pool::new(1, CHUNK, Bell::silent());
    let source = Arc::new(Source {
        log: LogId(1),
        input: 0,
        key: "default_web-1_0a1b/app".into(),
        filename: "/var/log/pods/default_web-1_0a1b/app/0.log".into(),
        meta: Meta {
            namespace: "default".into(),
            pod: "web-1".into(),
            uid: "0a1b2c3d-0000-4000-8000-000000000000".into(),
            container: "app".into(),
            node: "node-1".into(),
            facts: None,
        },
        labels: vec![("job".into(), "default/app".into())],
        tag: None,
        standing: Standing::Read,
    });
    let settle: Arc<dyn Settle> = Arc::new(Nobody);
    let (mut seed, mut spent, mut bytes) = (1, 0.0, 0);
    for at in 0..CHUNKS {
        let Some(mut buf) = pool.take() else { break };
        let len = fill(&mut buf, &mut seed);
        let span = Span {
            log: LogId(1),
            file: FileId(1),
            pass: PassId(1),
            start: bytes,
            end: bytes + len as u64,
            lines: 1,
        };
        let mut chunk = Some(Feed::Chunk(Chunk {
            source: Arc::clone(&source),
            pass: PassId(1),
            base: bytes,
            buf,
            len,
            open_tail: false,
            ticket: Ticket::new(span, OutputSet::first(1), Arc::clone(&settle)),
            permit: None,
            held: None,
        }));
        bytes += len as u64;
        let (now, wall) = (
            Mono(at as u64),
            Timestamp {
                secs: 1_795_496_400,
                nanos: at as u32,
            },
        );
        let before = cpu();
        worker.turn(now, wall, &mut || chunk.take());
        spent += cpu() - before;
        while let Some(request) = outlet.take() {
            outlet.release(request.body.len() as u64);
            request.tickets.into_iter().for_each(Ticket::settle);
        }
    }
    let counters = &outlet.counters;
    writeln!(
        std::io::stdout(),
        "{name}: {:.2} CPU-s/GB of lines, {} lines of {} B, inflated {:.2}x, sent {:.3}x",
        spent / (bytes as f64 / 1e9),
        counters.records.get(),
        bytes / counters.records.get().max(1),
        counters.inflated.get() as f64 / bytes as f64,
        counters.compressed.get() as f64 / bytes as f64,
    )
}

fn main() -> std::io::Result<()> {
    let labels = Vec::new();
    let loki = LokiOutput {
        url: String::new(),
        tenant: None,
        labels,
    };
    run("loki snappy", OutputKind::Loki(loki))?;
    let bulk = ElasticsearchOutput {
        urls: Vec::new(),
        index: "logs".into(),
        data_stream: true,
        shape: Shape::default(),
        filter_path: true,
        template: None,
        compression: Compression::None,
        gzip_level: 1,
    };
    let with = |name: &str, change: &dyn Fn(&mut ElasticsearchOutput)| {
        let mut bulk = bulk.clone();
        change(&mut bulk);
        run(name, OutputKind::Elasticsearch(bulk))
    };
    with("bulk, plain", &|_| ())?;
    with("bulk, plain, ids", &|bulk| bulk.shape.ids = Ids::Timed)?;
    with("bulk, plain, daily index", &|bulk| {
        let text = |text: &str| PatternPart::Text(text.into());
        let date = |part| PatternPart::Date(part);
        bulk.index = Pattern(vec![
            text("logs-"),
            PatternPart::Field("namespace".into()),
            date(DatePart::Year),
            date(DatePart::Month),
            date(DatePart::Day),
        ]);
    })?;
    with("bulk, plain, ecs", &|bulk| {
        bulk.shape.fields = FieldShape::Ecs
    })?;
    with("bulk, plain, nested", &|bulk| {
        bulk.shape.json = JsonBody::Nest("parsed".into());
    })?;
    with("bulk, plain, as text", &|bulk| {
        bulk.shape.json = JsonBody::Text
    })?;
    for level in 1..=6 {
        with(&format!("bulk, gzip {level}"), &|bulk| {
            (bulk.compression, bulk.gzip_level) = (Compression::Gzip, level);
        })?;
    }
    with("bulk, gzip 1, ids", &|bulk| {
        (bulk.compression, bulk.shape.ids) = (Compression::Gzip, Ids::Timed);
    })?;
    with("bulk, zstd 1", &|bulk| bulk.compression = Compression::Zstd)?;
    with("bulk, zstd 1, ids", &|bulk| {
        (bulk.compression, bulk.shape.ids) = (Compression::Zstd, Ids::Timed);
    })?;
    Ok(())
}
