//! `cargo xtask run`: a demo node, the agent on it, and the account of every line.
//!
//! ```text
//! build -> generator -> agent -> receiver
//!              |                    |
//!              +----- journal -> account -> exit code
//! ```
//!
//! 1. The exit code is 1 if one written line is missing, altered or out of order.
//! 2. The generator and the receiver share no code with the agent.
//! 3. With a real tree or real servers there is no account; the agent's own figures are shown.

pub mod agent;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use harness::account::Account;
use harness::generate::{Generator, Options, journal_directory};
use harness::journal::read_all;
use harness::process::{interrupted, say};
use harness::proxy::Proxy;
use harness::receive::{Fault, Planned, Receiver};
use harness::tally::Tally;
use harness::wire::Output;
use serde_json::Value;

use agent::{Agent, Setup, Stages};

/// Options of `cargo xtask run`.
#[derive(Debug, Args)]
pub struct Run {
    /// How long lines are written, for example `20s` or `5m`; without it until Ctrl-C.
    #[arg(long = "for", value_parser = duration)]
    duration: Option<Duration>,
    /// Reads this tree of pod logs instead of a demo node's.
    #[arg(long)]
    logs: Option<PathBuf>,
    /// Sends to this Loki (base URL) instead of the embedded receiver.
    #[arg(long)]
    loki: Option<String>,
    /// Sends to this Elasticsearch (base URL) instead of the embedded receiver.
    #[arg(long)]
    elasticsearch: Option<String>,
    /// Starts the testbed's servers and sends to them.
    #[arg(long)]
    testbed: bool,
    /// Spoils one record on its way, to show that the account turns red.
    #[arg(long)]
    inject: Option<Inject>,
    /// Lines a second of the demo node.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Pods of the demo node.
    #[arg(long, default_value_t = 12)]
    pods: u32,
    /// Seed of the demo node's texts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A log of the demo node is renamed at this many bytes.
    #[arg(long, default_value_t = 256 << 10)]
    rotate_bytes: u64,
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// What is done to one record on its way.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Inject {
    /// It is lost.
    Drop,
    /// It changes places with another.
    Swap,
    /// Its text changes.
    Alter,
}

/// Where lines go, and what counts them.
enum Ends {
    Embedded(Receiver),
    Real {
        loki: Option<Proxy>,
        search: Option<Proxy>,
    },
}

impl Ends {
    fn start(run: &Run, loki: Option<&str>, search: Option<&str>) -> Result<Self> {
        if loki.is_none() && search.is_none() {
            return Ok(Self::Embedded(Receiver::start(run.planned())?));
        }
        if run.inject.is_some() {
            bail!("--inject works with the embedded receiver only");
        }
        let proxy = |url: Option<&str>| url.map(Proxy::start).transpose();
        Ok(Self::Real {
            loki: proxy(loki)?,
            search: proxy(search)?,
        })
    }

    fn url(&self, output: Output) -> Option<String> {
        let address = match self {
            Self::Embedded(receiver) => Some(receiver.address()),
            Self::Real { loki, search } => {
                let proxy = if output == Output::Loki { loki } else { search };
                proxy.as_ref().map(Proxy::address)
            }
        };
        address.map(|address| format!("http://{address}"))
    }

    fn tally(&self, output: Output) -> Option<&Tally> {
        match self {
            Self::Embedded(receiver) => Some(receiver.tally()),
            Self::Real { loki, search } => {
                let proxy = if output == Output::Loki { loki } else { search };
                proxy.as_ref().map(Proxy::acknowledged)
            }
        }
    }

    fn acknowledged(&self) -> Vec<(Output, u64)> {
        let of = |output| {
            self.tally(output)
                .map(|tally| (output, tally.distinct(output)))
        };
        OUTPUTS.into_iter().filter_map(of).collect()
    }
}

impl Run {
    fn planned(&self) -> Vec<Planned> {
        let fault = match self.inject {
            None => return Vec::new(),
            Some(Inject::Drop) => Fault::Drop,
            Some(Inject::Swap) => Fault::Swap,
            Some(Inject::Alter) => Fault::Alter,
        };
        vec![Planned {
            output: Output::Loki,
            first: 1,
            count: 1,
            fault,
        }]
    }
}

/// Ten seconds of the demo node, as the suite runs it: with the agent that was built last.
///
/// # Errors
/// A line is missing, altered or out of order.
pub fn demo() -> Result<()> {
    let binary = crate::build::target().join("release").join("tailwake");
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }
    let words = [
        "run".into(),
        "--for".into(),
        "10s".into(),
        "--agent".into(),
        binary.into_os_string(),
    ];
    run(&<Line as clap::Parser>::try_parse_from(words)?.run)
}

/// Runs the demo; an error makes the exit code 1.
pub fn run(run: &Run) -> Result<()> {
    let binary = match &run.agent {
        Some(binary) => binary.clone(),
        None => crate::build::run(&crate::build::Build {
            debug: false,
            yes: false,
        })?,
    };
    let (loki, search) = addresses(run)?;
    let ends = Ends::start(run, loki.as_deref(), search.as_deref())?;
    let directory = std::env::temp_dir().join(format!("tailwake-demo-{}", std::process::id()));
    let setup = Setup {
        pods: run.logs.clone().unwrap_or_else(|| directory.join("pods")),
        directory: directory.clone(),
        loki: ends.url(Output::Loki),
        search: ends.url(Output::Elasticsearch),
        stages: Stages::Labels,
    };
    let stop = interrupted()?;
    let generator = match run.logs {
        Some(_) => None,
        None => Some(Generator::start(&options(run, &directory))?),
    };
    let mut agent = Agent::start(&binary, &setup)?;
    say(&format!(
        "logs, config, agent's log: {}",
        directory.display()
    ));
    watch(
        run,
        &stop,
        generator.as_ref(),
        &mut agent,
        &ends,
        &directory,
    )?;
    let Some(generator) = generator else {
        return agent.end();
    };
    generator.stop()?;
    let journals = read_all(&journal_directory(&directory))?;
    let written: u64 = journals
        .iter()
        .map(|(_, entries)| entries.len() as u64)
        .sum();
    say(&format!(
        "writers stopped after {written} records; waiting for the last acknowledgement"
    ));
    settle(written, &mut agent, &ends, &directory)?;
    let status = agent.status();
    agent.end()?;
    let mut account = Account::default();
    for output in OUTPUTS {
        if let Some(tally) = ends.tally(output) {
            account
                .rows
                .extend(Account::draw(&journals, tally, &[output]).rows);
        }
    }
    account
        .rows
        .sort_by(|a, b| (&a.container, a.output).cmp(&(&b.container, b.output)));
    for (container, read) in agent::read_per_container(&status) {
        account.set_read(&container, read);
    }
    say(&account.to_string());
    if !account.is_clean() {
        bail!(
            "written and acknowledged differ; logs and journal are kept in {}",
            directory.display()
        );
    }
    say(&format!(
        "clean: {written} records written = acknowledged, unaltered and in order"
    ));
    std::fs::remove_dir_all(&directory).context("remove the demo node")
}

fn options(run: &Run, directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        pods: run.pods,
        records: None,
        rate: run.rate,
        rotate_bytes: run.rotate_bytes,
        duration: None,
        seed: run.seed,
        invalid_utf8: true,
        noise: false,
    }
}

/// The base URLs of real servers, if any.
fn addresses(run: &Run) -> Result<(Option<String>, Option<String>)> {
    if !run.testbed {
        return Ok((run.loki.clone(), run.elasticsearch.clone()));
    }
    let (loki, search) = testbed()?;
    Ok((
        Some(run.loki.clone().unwrap_or(loki)),
        Some(run.elasticsearch.clone().unwrap_or(search)),
    ))
}

/// Runs `testbed up` and takes Loki's and Elasticsearch's addresses from what it prints.
fn testbed() -> Result<(String, String)> {
    let output = Command::new(std::env::current_exe()?)
        .args(["testbed", "up"])
        .stderr(Stdio::inherit())
        .output()
        .context("xtask testbed up")?;
    let text = String::from_utf8_lossy(&output.stdout);
    say(text.trim_end());
    let url = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.to_lowercase().starts_with(name));
        let word = line.and_then(|line| line.split(' ').find(|word| word.starts_with("http://")));
        word.map(str::to_owned)
            .with_context(|| format!("the testbed has no {name}"))
    };
    Ok((url("loki")?, url("elasticsearch")?))
}

/// Prints a line a second until the time is over, Ctrl-C, or the agent's end.
fn watch(
    run: &Run,
    stop: &AtomicBool,
    generator: Option<&Generator>,
    agent: &mut Agent,
    ends: &Ends,
    directory: &Path,
) -> Result<()> {
    let begun = Instant::now();
    let mut cpu = agent.usage().map_or(0.0, |usage| usage.cpu_s());
    let mut at = begun;
    while !stop.load(Ordering::Relaxed) && run.duration.is_none_or(|most| begun.elapsed() < most) {
        std::thread::sleep(Duration::from_millis(100));
        if at.elapsed() < Duration::from_secs(1) {
            continue;
        }
        agent.check(directory)?;
        let usage = agent.usage()?;
        let percent = (usage.cpu_s() - cpu) / at.elapsed().as_secs_f64() * 100.0;
        (cpu, at) = (usage.cpu_s(), Instant::now());
        let status = agent.status();
        let mut line = format!("{:>4}s", begun.elapsed().as_secs());
        let mut written = None;
        if let Some(generator) = generator {
            let records = generator.written().records.load(Ordering::Relaxed);
            let bytes = generator.written().bytes.load(Ordering::Relaxed);
            written = Some(records);
            let rotations = generator.written().rotations.load(Ordering::Relaxed);
            line.push_str(&format!(
                "  written {records} ({}, {rotations} rotations)",
                mib(bytes)
            ));
        }
        line.push_str(&format!("  read {}", number(&status["lines_read"])));
        if let Some(bytes) = status["bytes_read"].as_u64() {
            line.push_str(&format!(" ({})", mib(bytes)));
        }
        for (output, count) in ends.acknowledged() {
            let lag = written.map_or(0, |written| written.saturating_sub(count));
            line.push_str(&format!("  {output} {count} (lag {lag})"));
        }
        line.push_str(&format!(
            "  wakes {}  cpu {percent:.1}%  rss {}  rung {}",
            number(&status["wakes"]),
            mib(usage.resident),
            status["rung"].as_str().unwrap_or("-")
        ));
        say(&line);
    }
    Ok(())
}

/// Waits until every output has all records, or nothing has moved for 15 s.
fn settle(written: u64, agent: &mut Agent, ends: &Ends, directory: &Path) -> Result<()> {
    let (mut before, mut moved) = (Vec::new(), Instant::now());
    loop {
        agent.check(directory)?;
        let now = ends.acknowledged();
        if now.iter().all(|(_, count)| *count >= written) {
            return Ok(());
        }
        if now != before {
            (before, moved) = (now, Instant::now());
        }
        if moved.elapsed() > QUIET {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn number(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Reads `20s`, `5m`, `500ms`, or seconds without a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits]
        .parse()
        .map_err(|_| format!("{text}: no number"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        unit => Err(format!("{unit}: not ms, s, m or h")),
    }
}

const OUTPUTS: [Output; 2] = [Output::Loki, Output::Elasticsearch];
/// Without a new acknowledgement for this long the account is drawn as it stands.
const QUIET: Duration = Duration::from_secs(15);
