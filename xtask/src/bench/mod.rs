//! `cargo xtask bench`: CPU seconds per GB, memory and latency, with every line checked.
//!
//! ```text
//! generator (own process) -> files -> agent | Promtail -> sink (own process)
//! ```
//!
//! 1. Generator, collector and sink are processes of their own, so that each one's CPU is its own.
//! 2. A run with a missing or disordered line has no figures: it fails.
//! 3. CPU is the collector's, user and system, and its probes' own run time in the writers.
//! 4. Both collectors read the same files in the same run.

mod fair;
mod found;
mod idle;
mod memory;
mod probes;
mod profile;
mod promtail;
mod tax;
mod wake;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use harness::process::{Usage, say};
use harness::sink::{Stats, stats};
use harness::text::now_ns;

use crate::run::agent::{Agent, Setup, Stages, build_release};
use crate::run::duration;
use probes::{Cost, Meter};
use profile::Profile;
use promtail::Promtail;

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Files that nobody writes to: the agent wakes for its sweep alone.
    Idle(idle::Idle),
    /// New containers: how long until their first line has been read, idle and beside a busy one.
    Found(found::Found),
    /// 10,000 containers, full rate and a dead output: what the agent takes of memory at the most.
    Memory(memory::Memory),
    /// One pod that writes as fast as it can beside others: what it adds to their latency.
    Fair(fair::Fair),
    /// What each wake rung costs other processes: appends, reads, opens, pipes.
    Tax(tax::Tax),
    /// How long after a write its bytes lie in the reader's memory, by rung, and by polling.
    Wake(wake::Latency),
    #[command(flatten)]
    Load(Load),
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Files that are full when the collector starts.
    Backlog {
        /// GB of CRI lines.
        #[arg(long, default_value_t = 1.0)]
        gb: f64,
        #[command(flatten)]
        common: Common,
    },
    /// 20,000 lines a second over 50 files.
    Steady {
        /// How long, for example `30s`.
        #[arg(long = "for", value_parser = duration, default_value = "30s")]
        duration: Duration,
        /// Lines a second.
        #[arg(long, default_value_t = 20_000)]
        rate: u64,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Where lines go.
    #[arg(long, default_value = "loki")]
    output: To,
    /// Leaves out the JSON and labels stages.
    #[arg(long)]
    no_json: bool,
    /// Shows where the agent's time goes, by thread and room (perf).
    #[arg(long)]
    profile: bool,
    /// A Promtail to pair with; without it the testbed's, which is built once.
    #[arg(long)]
    promtail: Option<PathBuf>,
    /// Runs the agent without a Promtail beside it.
    #[arg(long, conflicts_with = "promtail")]
    alone: bool,
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// The protocol of a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// Loki's push.
    Loki,
    /// Elasticsearch's bulk.
    Elasticsearch,
}

/// What one collector cost.
#[derive(Debug, Clone)]
struct Figures {
    usage: Usage,
    probes: Option<Cost>,
    seconds: f64,
    stats: Stats,
    lines: u64,
    bytes: u64,
}

impl Figures {
    fn cpu_per_gb(&self) -> f64 {
        self.cpu_s() / self.bytes as f64 * 1e9
    }

    fn cpu_s(&self) -> f64 {
        self.usage.cpu_s() + self.probes_s()
    }

    fn probes_s(&self) -> f64 {
        self.probes.as_ref().map_or(0.0, Cost::cpu_s)
    }

    fn print(&self, name: &str, steady: bool) {
        let gb = self.bytes as f64 / 1e9;
        say(&format!(
            "{name:<9} {:>8.2} CPU-s/GB (user {:.2}, system {:.2}, probes {:.3})  {:>9.0} lines/s  \
             {:>5.1}% of a core  peak RSS {:.1} MiB  wire/raw {:.3}",
            self.cpu_per_gb(),
            self.usage.user_s / gb,
            self.usage.system_s / gb,
            self.probes_s() / gb,
            self.lines as f64 / self.seconds,
            self.cpu_s() / self.seconds * 100.0,
            self.usage.resident_peak as f64 / f64::from(1 << 20),
            self.stats.wire_bytes as f64 / self.bytes as f64,
        ));
        if let Some(probes) = &self.probes {
            say(&format!("{:<9} probes: {probes}", ""));
        }
        if steady {
            let (p50, p99) = (
                self.stats.p50_us as f64 / 1e3,
                self.stats.p99_us as f64 / 1e3,
            );
            say(&format!(
                "{:<9} latency write to receipt: p50 {p50:.1} ms  p99 {p99:.1} ms",
                ""
            ));
        }
        let Stats {
            gaps,
            duplicates,
            disordered,
            ..
        } = self.stats;
        say(&format!(
            "{:<9} {} lines, missing {}, gaps {gaps}, disordered {disordered}, \
             duplicates {duplicates}",
            "",
            self.lines,
            self.lines.saturating_sub(self.stats.lines)
        ));
    }

    /// Fails when a line is missing or out of order.
    fn judge(&self, name: &str) -> Result<()> {
        if self.stats.lines != self.lines || self.stats.gaps > 0 || self.stats.disordered > 0 {
            bail!(
                "{name}: {} of {} lines came, {:?}",
                self.stats.lines,
                self.lines,
                self.stats
            );
        }
        Ok(())
    }
}

/// Runs one bench.
pub fn run(bench: &Bench) -> Result<()> {
    let load = match &bench.what {
        What::Idle(idle) => return idle::run(idle),
        What::Found(found) => return found::run(found),
        What::Memory(memory) => return memory::run(memory),
        What::Fair(fair) => return fair::run(fair),
        What::Tax(tax) => return tax::run(tax),
        What::Wake(latency) => return wake::run(latency),
        What::Load(load) => load,
    };
    let (Load::Backlog { common, .. } | Load::Steady { common, .. }) = load;
    let mut packages = vec!["harness"];
    if common.agent.is_none() {
        packages.push("tailwake");
    }
    let release = build_release(&packages)?;
    let agent = common
        .agent
        .clone()
        .unwrap_or_else(|| release.join("tailwake"));
    let harness = release.join("harness");
    let directory = std::env::temp_dir().join(format!("tailwake-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let measured = measure(load, common, &agent, &harness, &directory);
    std::fs::remove_dir_all(&directory)?;
    measured
}

fn measure(
    load: &Load,
    common: &Common,
    agent: &Path,
    harness: &Path,
    directory: &Path,
) -> Result<()> {
    let steady = matches!(load, Load::Steady { .. });
    let mut backlog = None;
    if let Load::Backlog { gb, .. } = load {
        let bytes = (gb * 1e9) as u64;
        backlog = Some(write(
            harness,
            &["backlog", &root(directory), &bytes.to_string()],
        )?);
    }
    let promtail = match &common.promtail {
        _ if common.alone => None,
        Some(binary) => Some(binary.clone()),
        None => Some(promtail::obtain()?),
    };
    let ours = one(load, backlog, harness, directory, |sink| {
        let url = format!("http://{sink}");
        let setup = Setup {
            directory: directory.join("agent"),
            pods: directory.join("node/pods"),
            loki: (common.output == To::Loki).then(|| url.clone()),
            search: (common.output == To::Elasticsearch).then_some(url),
            stages: if common.no_json {
                Stages::Cri
            } else {
                Stages::Labels
            },
        };
        let agent = Agent::start(agent, &setup)?;
        let watch = || Profile::start(agent.pid(), directory);
        let profile = common.profile.then(watch).transpose()?;
        Ok(Collector::Agent { agent, profile })
    })?;
    ours.print("tailwake", steady);
    if let Some(binary) = promtail {
        if steady {
            std::fs::remove_dir_all(directory.join("node"))?;
        }
        let theirs = one(load, backlog, harness, directory, |sink| {
            let at = directory.join("promtail");
            let pods = directory.join("node/pods");
            Ok(Collector::Promtail(Promtail::start(
                &binary,
                &at,
                &pods,
                sink,
                !common.no_json,
            )?))
        })?;
        theirs.print("promtail", steady);
        say(&format!(
            "ratio     CPU per GB 1:{:.1}   peak RSS 1:{:.1}   speed {:.1}:1",
            theirs.cpu_per_gb() / ours.cpu_per_gb(),
            theirs.usage.resident_peak as f64 / ours.usage.resident_peak as f64,
            theirs.seconds / ours.seconds,
        ));
    } else {
        let why = if common.alone {
            "left out"
        } else {
            "not found; give --promtail BIN"
        };
        say(&format!("promtail  {why}"));
    }
    ours.judge("tailwake")
}

/// The collector under measurement.
enum Collector {
    Agent {
        agent: Agent,
        profile: Option<Profile>,
    },
    Promtail(Promtail),
}

impl Collector {
    fn usage(&self) -> Result<Usage> {
        match self {
            Self::Agent { agent, .. } => agent.usage(),
            Self::Promtail(promtail) => promtail.usage(),
        }
    }

    /// What its probes cost; a collector without probes has nothing to say.
    fn probes(&self, meter: &Meter) -> Option<Cost> {
        match self {
            Self::Agent { agent, .. } => Some(meter.read(&agent.status())),
            Self::Promtail(_) => None,
        }
    }

    fn check(&mut self, directory: &Path) -> Result<()> {
        match self {
            Self::Agent { agent, .. } => agent.check(&directory.join("agent")),
            Self::Promtail(promtail) => promtail.check(),
        }
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Agent { agent, profile } => {
                agent.end()?;
                profile.map_or(Ok(()), Profile::end)
            }
            Self::Promtail(promtail) => promtail.end(),
        }
    }
}

/// Runs one collector on the load.
fn one(
    load: &Load,
    backlog: Option<(u64, u64)>,
    harness: &Path,
    directory: &Path,
    start: impl FnOnce(SocketAddr) -> Result<Collector>,
) -> Result<Figures> {
    let mut sink = Sink::start(harness)?;
    std::fs::create_dir_all(directory.join("node/pods"))?;
    if matches!(load, Load::Steady { .. }) {
        // Empty files first, or the latency would be that of finding new files.
        write(harness, &["steady", &root(directory), "0", "0"])?;
    }
    let meter = Meter::start();
    let (begun, begun_ns) = (Instant::now(), now_ns());
    let mut collector = start(sink.address)?;
    let (lines, bytes) = match (load, backlog) {
        (Load::Steady { duration, rate, .. }, _) => {
            let seconds = duration.as_secs().max(1).to_string();
            write(
                harness,
                &["steady", &root(directory), &rate.to_string(), &seconds],
            )?
        }
        (Load::Backlog { .. }, written) => written.context("no backlog was written")?,
    };
    let mut moved = (0, Instant::now());
    let stats = loop {
        let stats = stats(sink.address).context("ask the sink")?;
        collector.check(directory)?;
        if stats.lines != moved.0 {
            moved = (stats.lines, Instant::now());
        }
        if stats.lines >= lines || moved.1.elapsed() > QUIET {
            break stats;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let usage = collector.usage()?;
    let probes = collector.probes(&meter);
    let last = stats.last_ns.saturating_sub(begun_ns) as f64 / 1e9;
    let seconds = if last > 0.0 {
        last
    } else {
        begun.elapsed().as_secs_f64()
    };
    collector.end()?;
    sink.end()?;
    Ok(Figures {
        usage,
        probes,
        seconds,
        stats,
        lines,
        bytes,
    })
}

/// Runs the generator's process; gives lines and bytes.
fn write(harness: &Path, arguments: &[&str]) -> Result<(u64, u64)> {
    let output = Command::new(harness)
        .args(arguments)
        .output()
        .context("run the generator")?;
    let text = String::from_utf8(output.stdout)?;
    let (lines, bytes) = text
        .trim()
        .split_once(' ')
        .context("the generator said nothing")?;
    Ok((lines.parse()?, bytes.parse()?))
}

fn root(directory: &Path) -> String {
    directory.join("node").display().to_string()
}

/// The sink's process; it ends when its standard input closes.
struct Sink {
    child: Child,
    address: SocketAddr,
}

impl Sink {
    fn start(harness: &Path) -> Result<Self> {
        let mut child = Command::new(harness)
            .arg("sink")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the sink")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the sink's output")?).read_line(&mut line)?;
        let port: u16 = line.trim().parse().context("the sink's port")?;
        Ok(Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }

    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().context("wait for the sink")?;
        Ok(())
    }
}

/// Without a new line for this long a run is over.
const QUIET: Duration = Duration::from_secs(20);
