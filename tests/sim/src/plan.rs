//! The plan of a run: copy to two outputs, a nested match, a stage that holds and ticks, drops.
//!
//! Small buffers, batches and windows, so that every boundary is hit.

use tailwake::base::size::ByteSize;
use tailwake::config;
use tailwake::plan::Plan;

use crate::rng::Rng;

/// Where the pods are.
pub(crate) const ROOT: &str = "/pods";

/// Where links may lead.
pub(crate) const LINKED: &str = "/docker";

const TEXT: &str = r#"
state: /state
limits: {memory: 64MiB, readers: READERS, encoders: ENCODERS}
wake: {pace: PACEms, sweep: SWEEPms}
inputs: {pods: {pods: {root: /pods, link_roots: [/docker]}}}
pipelines:
  pods:
    from: [pods]
    stages:
      - cri: {}
      - drop: {expression: 'DROP-ME', reason: marked}
      - match:
          selector: '{namespace="shop"}'
          stages:
            - match:
                selector: '{container=~"java.*"}'
                stages:
                  - multiline: {first_line: '^seq=\d+ BEGIN', wait: 60ms, lines_max: 5}
      - copy:
          - - output: loki
          - - drop: {expression: 'LOKI-ONLY', reason: loki_only}
            - output: search
outputs:
  loki:
    loki: {url: "http://loki/loki/api/v1/push"}
    linger: LINGERms
    retry: {min: 10ms, max: 200ms}
    timeout: 400ms
  search:
    elasticsearch: {urls: ["http://a", "http://b"], data_stream: logs, gzip_level: LEVEL}
    linger: LINGERms
    retry: {min: 10ms, max: 200ms}
    timeout: 400ms
"#;

/// Asks the API for labels, and holds files for as long as it takes.
const KUBERNETES: &str =
    ", kubernetes: {on_missing_metadata: wait, metadata_wait: 1h, labels: [app]}}}}";

/// What the labels of Loki's streams are then.
const LABELS: &str = "/push\", labels: {namespace: \"{namespace}\", pod: \"{pod}\", \
                      container: \"{container}\", stream: \"{stream}\", app: \"{labels.app}\"}}";

/// A plan with numbers drawn from `rng`; `sweeps` where watches may be refused, `asks` where the
/// Kubernetes API is asked. Sizes are below what a config may say, so that chunks, batches and windows
/// end everywhere.
pub(crate) fn plan(rng: &mut Rng, sweeps: bool, asks: bool) -> Result<Plan, String> {
    let mut of = |numbers: &[u64]| numbers[rng.place(numbers.len())];
    let text = if asks {
        TEXT.replace("[/docker]}}}", &format!("[/docker]{KUBERNETES}"))
            .replace("/push\"}", LABELS)
    } else {
        TEXT.to_owned()
    };
    let text = text
        .replace("READERS", &of(&[1, 2]).to_string())
        .replace("ENCODERS", &of(&[1, 2, 3]).to_string())
        .replace("PACE", &of(&[1, 5, 20]).to_string())
        .replace("SWEEP", if sweeps { "400" } else { "0" })
        .replace("LINGER", &of(&[5, 50]).to_string())
        .replace("LEVEL", &of(&[0, 1]).to_string());
    let parsed = config::parse("sim", &text, &|_| None);
    let mut plan = parsed.map_err(|error| format!("the plan: {error}"))?;
    plan.limits.memory = ByteSize(1 << 20);
    plan.limits.record_bytes_max = ByteSize(8 << 10);
    plan.limits.buffer_bytes = ByteSize(of(&[300, 300, 700]));
    for output in &mut plan.outputs {
        output.batch_bytes = ByteSize(of(&[500, 1_500, 8_000]));
        output.window_bytes = ByteSize(of(&[1_000, 3_000, 10_000]));
    }
    Ok(plan)
}
