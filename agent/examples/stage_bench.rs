//! What framing and the head of the steps cost: CPU-seconds per GB on lines of about 270 bytes.
//!
//! `cargo run --release -p tailwake --example stage_bench`

use std::path::PathBuf;
use std::sync::Arc;

use tailwake::base::bell::Bell;
use tailwake::base::count::Registry;
use tailwake::base::outputs::{OutputId, OutputSet};
use tailwake::base::pool::Pool;
use tailwake::base::time::{Clock, MachineClock, Mono, Timestamp};
use tailwake::plan::{
    Input, InputKind, JsonField, JsonStage, LabelField, Limits, Pipeline, Plan, Stage, StartAt,
    Step, Wake,
};
use tailwake::stage::{Machine, Program, Record, Sink};
use tailwake::ticket::{
    Chunk, Feed, FileId, LogId, Meta, PassId, Settle, Source, Span, Standing, Ticket,
};

/// The default read buffer.
const BUFFER_BYTES: usize = 128 << 10;

struct Nobody;

impl Settle for Nobody {
    fn settled(&self, _: &[Span], _: OutputId, _: tailwake::ticket::LineFates) {}
    fn failed(&self, _: &[Span], _: OutputId) {}
}

/// Reads what an encoder would read, and keeps nothing.
#[derive(Default)]
struct Sum(u64);

impl Sink for Sum {
    fn emit(&mut self, _: OutputId, record: &mut Record<'_>) {
        let labels: usize = record.labels.iter().map(|(_, value)| value.len()).sum();
        self.0 += record.text.len() as u64 + labels as u64 + u64::from(record.time.nanos & 1);
    }
}

fn lines() -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut count = 0;
    loop {
        let line = format!(
            "2026-11-24T05:15:{:02}.{:09}Z stdout F {{\"level\":\"{}\",\"ts\":{}.{:03},\
             \"caller\":\"server/handler.go:{}\",\"msg\":\"request served\",\"method\":\"GET\",\
             \"path\":\"/api/v1/items/{}\",\"status\":{},\"duration_ms\":{}.{},\
             \"trace_id\":\"{:032x}\",\"user\":\"u{}\"}}\n",
            count / 100 % 60,
            count * 7_919_993 % 1_000_000_000,
            ["info", "warn", "error", "debug"][count % 4],
            1_795_497_301 + count,
            count % 1000,
            count % 900,
            count * 31,
            200 + count % 300,
            count % 40,
            count % 10,
            count * 0x9e37_79b9_7f4a,
            count % 5000,
        );
        if bytes.len() + line.len() > BUFFER_BYTES {
            return (bytes, count as u64);
        }
        bytes.extend_from_slice(line.as_bytes());
        count += 1;
    }
}

fn plan(stages: Vec<Stage>) -> Plan {
    let mut steps: Vec<Step> = stages.into_iter().map(Step::Stage).collect();
    steps.push(Step::Output(OutputId(0)));
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
        limits: Limits::default(),
        wake: Wake::default(),
        privileges: tailwake::plan::Privileges::default(),
    }
}

fn measure(name: &str, stages: Vec<Stage>, bytes: &[u8], count: u64) {
    let mut machine = Machine::new(
        Program::compile(&plan(stages)),
        1 << 20,
        &Registry::default(),
        0,
    );
    let pool = Pool::new(1, BUFFER_BYTES, Bell::silent());
    let source = Arc::new(Source {
        log: LogId(1),
        input: 0,
        key: "default_web_1/app".into(),
        filename: "/logs/0.log".into(),
        meta: Meta::default(),
        labels: Vec::new(),
        tag: None,
        standing: Standing::Read,
    });
    let settle: Arc<dyn Settle> = Arc::new(Nobody);
    let (clock, mut sum) = (MachineClock::new(), Sum::default());
    let (rounds, tries) = (1500u64, 3);
    let mut best = f64::INFINITY;
    for _ in 0..tries {
        let start = clock.mono();
        let mut base = 0;
        for _ in 0..rounds {
            let Some(mut buf) = pool.take() else { return };
            buf[..bytes.len()].copy_from_slice(bytes);
            let end = base + bytes.len() as u64;
            let span = Span {
                log: LogId(1),
                file: FileId(1),
                pass: PassId(1),
                start: base,
                end,
                lines: u32::try_from(count).unwrap_or(u32::MAX),
            };
            let chunk = Chunk {
                source: Arc::clone(&source),
                pass: PassId(1),
                base,
                buf,
                len: bytes.len(),
                open_tail: false,
                ticket: Ticket::new(span, OutputSet::first(1), Arc::clone(&settle)),
                permit: None,
                held: None,
            };
            machine.feed(Feed::Chunk(chunk), Mono(0), Timestamp::default(), &mut sum);
            base = end;
        }
        best = best.min((clock.mono().0 - start.0) as f64);
    }
    let total = (rounds * count) as f64;
    let per_byte = best / (rounds as f64 * bytes.len() as f64);
    let mut out = std::io::stdout().lock();
    // A bench that cannot print has nobody to tell.
    let _ = std::io::Write::write_fmt(
        &mut out,
        format_args!(
            "{name:<18} {:7.1} ns/line {per_byte:6.3} s/GB  (sum {})\n",
            best / total,
            sum.0
        ),
    );
}

fn main() {
    let (bytes, count) = lines();
    let names = ["level", "status"];
    let json = Stage::Json(JsonStage {
        fields: names
            .iter()
            .map(|name| JsonField {
                name: (*name).into(),
                path: vec![(*name).into()],
            })
            .collect(),
    });
    let labels = Stage::Labels(vec![LabelField {
        label: "level".into(),
        from: "level".into(),
    }]);
    measure("frame", Vec::new(), &bytes, count);
    measure("cri", vec![Stage::Cri], &bytes, count);
    measure("cri+json", vec![Stage::Cri, json.clone()], &bytes, count);
    measure(
        "cri+json+labels",
        vec![Stage::Cri, json, labels],
        &bytes,
        count,
    );
}
