//! The agent as a child of a test: started, asked, awaited, ended.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bed::Bed;
use crate::sink::Sink;

/// How long something may take that is awaited: far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message of one cause comes once in this time.
const QUIET: Duration = Duration::from_secs(10);

/// What the agent is to do.
pub(crate) struct Setup {
    pub(crate) stages: &'static str,
    pub(crate) start_at: &'static str,
    /// The input's kind, if it is not the bed's tree.
    pub(crate) kind: Option<String>,
    /// Names and the rest of each output.
    pub(crate) outputs: Vec<(&'static str, String)>,
    /// Whole lines of the config.
    pub(crate) more: &'static str,
    pub(crate) args: &'static [&'static str],
    /// Its standard error, if it is not `agent.log`.
    pub(crate) log: Option<PathBuf>,
    /// Another user, without rights of its own.
    pub(crate) user: Option<u32>,
    /// Variables of its environment.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Setup {
    /// Reads CRI and sends to `good`.
    pub(crate) fn to(good: &Sink) -> Self {
        Self {
            stages: "[{cri: {}}]",
            start_at: "beginning",
            kind: None,
            outputs: vec![("good", good.loki())],
            more: "",
            args: &[],
            log: None,
            user: None,
            variables: Vec::new(),
        }
    }

    /// And to `bad`, with little room and little patience.
    pub(crate) fn and(mut self, output: String) -> Self {
        let rest = "batch_bytes: 1KiB, window_bytes: 16KiB, timeout: 300ms, \
                    retry: {min: 50ms, max: 200ms}";
        self.more = "limits: {buffer_bytes: 4KiB, grace: 200ms}";
        self.outputs.push(("bad", format!("{output}, {rest}")));
        self
    }

    fn text(&self, bed: &Bed) -> String {
        let names: Vec<&str> = self.outputs.iter().map(|(name, _)| *name).collect();
        let outputs = self.outputs.iter();
        let outputs: String = outputs
            .map(|(name, rest)| format!("  {name}: {{{rest}}}\n"))
            .collect();
        let tree = || format!("pods: {{root: {}}}", bed.path("pods").display());
        let kind = self.kind.clone().unwrap_or_else(tree);
        format!(
            "state: {}\nadmin: {{listen: \"127.0.0.1:0\"}}\ninputs: {{pods: {{{kind}, start_at: {}}}}}\n\
             pipelines: {{main: {{from: [pods], stages: {}, to: [{}]}}}}\noutputs:\n{outputs}{}\n",
            bed.path("state").display(),
            self.start_at,
            self.stages,
            names.join(", "),
            self.more,
        )
    }
}

/// Writes the config; gives its path.
pub(crate) fn config(bed: &Bed, setup: &Setup) -> PathBuf {
    let config = bed.path("tailwake.yaml");
    std::fs::write(&config, setup.text(bed)).unwrap();
    config
}

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
    begun: Instant,
}

impl Agent {
    pub(crate) fn start(bed: &Bed, setup: &Setup) -> Self {
        Self::start_with(bed, setup, |log| std::fs::File::create(log).unwrap().into())
    }

    /// `errors` makes its standard error; what it says must come to stand in the log.
    pub(crate) fn start_with(
        bed: &Bed,
        setup: &Setup,
        errors: impl FnOnce(&Path) -> Stdio,
    ) -> Self {
        let config = config(bed, setup);
        let log = setup.log.clone().unwrap_or_else(|| bed.path("agent.log"));
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_tailwake"));
        if setup.user.is_some() {
            // The build's directory may be closed to others.
            let copy = bed.path("tailwake");
            std::fs::copy(&program, &copy).unwrap();
            program = copy;
        }
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(&config);
        command.args(setup.args).stdin(Stdio::null());
        // Whatever proxy the machine has, loopback is spoken to.
        command.env("NO_PROXY", "*");
        command.envs(setup.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::null()).stderr(errors(&log));
        if let Some(user) = setup.user {
            command.uid(user).gid(user);
        }
        let mut agent = Self {
            child: command.spawn().unwrap(),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            begun: Instant::now(),
        };
        agent.admin = agent.until("it listens", |agent| {
            let said = agent.said();
            let at = said.split_once("address=")?.1;
            at.split_whitespace().next()?.parse().ok()
        });
        agent
    }

    /// All that it has said.
    pub(crate) fn said(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Polls until `look` gives something.
    pub(crate) fn until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "waited for: {what} (ended: {ended:?}); status {}\nmetrics {}\nit said:\n{}",
                self.status(),
                self.get("/metrics").unwrap_or_default(),
                self.said()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Polls until the condition holds.
    pub(crate) fn awaits(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.until(what, |agent| holds(agent).then_some(()));
    }

    /// Awaits that a sink has just these texts of a pod, each once and in order.
    pub(crate) fn awaits_texts(&mut self, sink: &Sink, pod: &str, want: &[String]) {
        self.awaits(&format!("{} lines of {pod}", want.len()), |_| {
            sink.texts(pod).len() >= want.len()
        });
        let texts = sink.texts(pod);
        let differs = texts.iter().zip(want).position(|(text, want)| text != want);
        let at = differs.unwrap_or(texts.len().min(want.len()));
        let near = |texts: &[String]| texts.iter().skip(at).take(5).cloned().collect::<Vec<_>>();
        assert!(
            texts == want,
            "{pod}: {} lines for {}; from {at} on {:?} for {:?}",
            texts.len(),
            want.len(),
            near(&texts),
            near(want)
        );
    }

    /// Awaits that a sink has all these texts of a pod, in order by what came first. An output that
    /// was detached in the middle of a chunk gets the chunk's beginning twice.
    pub(crate) fn awaits_each(&mut self, sink: &Sink, pod: &str, want: &[String]) {
        let first = || {
            let mut seen = BTreeSet::new();
            let mut texts = sink.texts(pod);
            texts.retain(|text| seen.insert(text.clone()));
            texts
        };
        self.awaits(&format!("{} different lines of {pod}", want.len()), |_| {
            first().len() >= want.len()
        });
        let texts = first();
        let differs = texts.iter().zip(want).position(|(text, want)| text != want);
        assert!(texts == want, "{pod}: {} from {differs:?} on", texts.len());
    }

    /// A metric's series that bear all of `labels`, added up.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.get("/metrics").unwrap_or_default();
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with([' ', '{']) && labels.iter().all(|label| rest.contains(label))
        });
        let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        series.filter_map(value).sum()
    }

    pub(crate) fn awaits_metric(&mut self, name: &str, labels: &[&str], want: u64) {
        self.awaits(&format!("{name} {labels:?} = {want}"), |agent| {
            agent.metric(name, labels) >= want
        });
        assert_eq!(self.metric(name, labels), want, "{name} {labels:?}");
    }

    pub(crate) fn status(&self) -> Value {
        let text = self.get("/status").unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// The body of a 200.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        harness::serve::get(self.admin, path)
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The message was said, and no more often than the rate limit lets it be.
    pub(crate) fn assert_said_once(&mut self, words: &str) {
        self.awaits(&format!("it says `{words}`"), |agent| {
            agent.said().contains(words)
        });
        // On a machine so slow that the test outlasts the limit, it may be said again.
        let most = 1 + self.begun.elapsed().as_secs() / QUIET.as_secs();
        let times = self.said().matches(words).count() as u64;
        assert!(
            (1..=most).contains(&times),
            "{times} times `{words}`:\n{}",
            self.said()
        );
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn end(mut self) {
        let ended = harness::process::end(&mut self.child, PATIENCE).unwrap();
        assert!(ended, "it did not end by itself; it said:\n{}", self.said());
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
