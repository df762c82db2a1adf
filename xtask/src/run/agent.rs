//! The agent as a child: its config, its status, what it uses.
//!
//! 1. Whatever `/status` lacks is shown as unknown, never guessed.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::generate::NOISE;
use harness::journal::Container;
use harness::process::{Activity, Usage, activity, end, say, usage};
use serde_json::Value;

/// Where the agent reads and sends.
#[derive(Debug)]
pub struct Setup {
    /// Its state, config and log.
    pub directory: PathBuf,
    /// Root of the pod tree.
    pub pods: PathBuf,
    /// Base URL of Loki, if it sends there.
    pub loki: Option<String>,
    /// Base URL of Elasticsearch, if it sends there.
    pub search: Option<String>,
    /// What its pipeline does.
    pub stages: Stages,
}

/// The pipelines of demo, benches and end-to-end test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stages {
    /// CRI lines alone.
    Cri,
    /// CRI, a field of the JSON text, a label.
    Labels,
    /// A graph: drop, a stage that holds each record until the next or a tick, a nested match, a
    /// copy to both outputs. What it lets through is what went in, without the [`NOISE`].
    Graph,
}

impl Stages {
    fn text(self) -> String {
        match self {
            Self::Cri => "[{cri: {}}]".to_owned(),
            Self::Labels => {
                "[{cri: {}}, {json: {fields: {level: level}}}, {labels: [level]}]".to_owned()
            }
            Self::Graph => format!(
                "\n      - cri: {{}}\n      - drop: {{expression: '^{NOISE}', reason: noise}}\n      \
                 - multiline: {{first_line: '', wait: 200ms}}\n      - match:\n          selector: \
                 '{{namespace=\"shop\"}}'\n          stages:\n            - json: {{fields: {{level: \
                 level}}}}\n            - match: {{selector: '{{container=~\"app|web\"}}', stages: \
                 [{{labels: [level]}}]}}\n      - copy: [[{{output: loki}}], [{{output: search}}]]\n    "
            ),
        }
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    admin: SocketAddr,
}

impl Agent {
    /// Writes the config and starts the binary; its own log goes to `agent.log`.
    pub fn start(binary: &Path, setup: &Setup) -> Result<Self> {
        Self::start_with(binary, setup, "")
    }

    /// The same with more lines of config.
    pub fn start_with(binary: &Path, setup: &Setup, more: &str) -> Result<Self> {
        let text = |admin| config_text(setup, admin) + more;
        Self::start_config(binary, &setup.directory, text)
    }

    /// The same with a config of the caller's, which is told where the admin listener is to be.
    pub fn start_config(
        binary: &Path,
        directory: &Path,
        text: impl FnOnce(SocketAddr) -> String,
    ) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = config_path(directory);
        std::fs::write(&config, text(admin))
            .with_context(|| format!("write {}", config.display()))?;
        let log = std::fs::File::create(directory.join("agent.log"))?;
        let child = Command::new(binary)
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        Ok(Self { child, admin })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `GET /status`, or null while it does not answer.
    #[must_use]
    pub fn status(&self) -> Value {
        let text = harness::serve::get(self.admin, "/status").unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// `GET /metrics`.
    pub fn metrics(&self) -> Result<String> {
        harness::serve::get(self.admin, "/metrics")
    }

    /// One series of `/metrics`, named with its labels as they are printed.
    #[must_use]
    pub fn metric(&self, series: &str) -> Option<u64> {
        let text = harness::serve::get(self.admin, "/metrics").ok()?;
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.find(|line| line.0 == series)?.1.parse().ok()
    }

    /// What its threads have done so far.
    pub fn activity(&self) -> Result<Activity> {
        activity(self.child.id())
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.child.id())
    }

    /// Fails, with the end of its log, when it has ended.
    pub fn check(&mut self, directory: &Path) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = std::fs::read_to_string(directory.join("agent.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!(
            "the agent ended with {status}; its last words:\n{}",
            tail.join("\n")
        )
    }

    /// SIGTERM, and a wait of at most 30 s.
    pub fn end(mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() && !end(&mut self.child, Duration::from_secs(30))? {
            say("the agent did not end within 30 s of SIGTERM and was killed");
        }
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where an agent of this directory has its config.
#[must_use]
pub fn config_path(directory: &Path) -> PathBuf {
    directory.join("tailwake.yaml")
}

/// The config of demo and benches: the one place that names the agent's keys.
#[must_use]
pub fn config_text(setup: &Setup, admin: SocketAddr) -> String {
    let (mut outputs, mut names) = (String::new(), Vec::new());
    if let Some(url) = &setup.loki {
        names.push("loki");
        outputs.push_str(&format!(
            "  loki:\n    loki:\n      url: \"{url}/loki/api/v1/push\"\n      labels: {{namespace: \
             \"{{namespace}}\", pod: \"{{pod}}\", container: \"{{container}}\", stream: \
             \"{{stream}}\"}}\n"
        ));
    }
    if let Some(url) = &setup.search {
        names.push("search");
        outputs.push_str(&format!(
            "  search:\n    elasticsearch: {{urls: [\"{url}\"], index: tailwake-demo}}\n"
        ));
    }
    // The graph ends in its copy.
    let to = match setup.stages {
        Stages::Graph => String::new(),
        Stages::Cri | Stages::Labels => format!("\n    to: [{}]", names.join(", ")),
    };
    let (state, pods) = (setup.directory.join("state"), setup.pods.display());
    format!(
        "state: \"{}\"\nadmin: {{listen: \"{admin}\"}}\ninputs:\n  pods: {{pods: {{root: \
         \"{pods}\"}}, start_at: beginning}}\npipelines:\n  pods:\n    from: [pods]\n    stages: \
         {}{to}\noutputs:\n{outputs}",
        state.display(),
        setup.stages.text(),
    )
}

/// Lines acknowledged at an output, as the agent says.
#[must_use]
pub fn acknowledged(status: &Value, output: &str) -> Option<u64> {
    status["outputs"][output]["lines_acknowledged"].as_u64()
}

/// Lines read per container, as the agent says.
#[must_use]
pub fn read_per_container(status: &Value) -> Vec<(Container, u64)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = status["containers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let of = |item: &Value| {
        let (namespace, pod) = (word(&item["namespace"]), word(&item["pod"]));
        let container = Container {
            namespace,
            pod,
            name: word(&item["container"]),
        };
        item["read_lines"].as_u64().map(|read| (container, read))
    };
    list.iter().filter_map(of).collect()
}

/// Builds packages in release and gives the target directory's `release`.
pub fn build_release(packages: &[&str]) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("workspace root")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--release"]);
    for package in packages {
        command.args(["--package", package]);
    }
    if !command.status().context("cargo build")?.success() {
        bail!("cargo build --release failed");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    Ok(target.join("release"))
}
