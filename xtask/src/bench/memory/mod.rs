//! `cargo xtask bench memory`: what the agent takes at the most, with an output that is dead.
//!
//! ```text
//! N containers, a few of them at full rate -> agent -> living output (a sink that checks each line)
//!                                               `----> dead output, whose window fills
//! /proc/PID/status: VmHWM <= the case's ceiling
//! ```
//!
//! 1. A case counts only if the dead output's window was full and the output detached, every file
//!    was open, and the living output has every line.
//! 2. The ceiling of `small` is [`SMALL_MAX`]; that of `forced` what `tailwake check` prints for its
//!    config and [`BASE`], which is what files and code may take beside the formula.
//! 3. The peak is the kernel's own mark (VmHWM), the start included. Nothing asks for what would print
//!    all containers before it was read; what such looks add is measured after that, and told apart.
//! 4. With `--noisy 0` each line comes alone: then tables and claims are what fills the window.

mod cases;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use harness::process::{Usage, say};
use harness::sink::{Stats, stats};

use super::{QUIET, Sink, root, write};
use crate::build;
use crate::run::agent::{Agent, build_release, config_path};
use crate::run::duration;
use cases::{Case, DEAD};

/// Options of `cargo xtask bench memory`.
#[derive(Debug, Args)]
pub(super) struct Memory {
    /// Which case; both where none is given.
    #[arg(long)]
    case: Option<Case>,
    /// Containers, one file each.
    #[arg(long, default_value_t = 10_000)]
    files: u32,
    /// So many of them are written to as fast as it goes.
    #[arg(long, default_value_t = 8)]
    noisy: u32,
    /// Lines a second of all others together.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// How long is written.
    #[arg(long = "for", value_parser = duration, default_value = "20s")]
    duration: Duration,
    /// What the dead output does.
    #[arg(long, default_value = "mute")]
    dead: Dead,
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// How an output can be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dead {
    /// It takes connections and requests, and never answers.
    Mute,
    /// It refuses connections.
    Refuse,
}

/// The most that the agent may take in the case `small`: 64 MiB (1 MiB = 1,048,576 bytes).
const SMALL_MAX: u64 = 64 << 20;

/// What 10,000 files, code, threads and connections may take beside the formula: what `small` has
/// left above its default `limits.memory` of 36 MiB.
const BASE: u64 = 28 << 20;

/// Runs the cases; fails when one passes its ceiling, or is none.
pub(super) fn run(memory: &Memory) -> Result<()> {
    let release = build_release(&["harness"])?;
    let agent = match &memory.agent {
        Some(agent) => agent.clone(),
        None => build::run(&build::Build {
            debug: false,
            yes: false,
        })?,
    };
    let cases = memory
        .case
        .map_or(vec![Case::Small, Case::Forced], |case| vec![case]);
    let mut over = Vec::new();
    for case in cases {
        let directory =
            std::env::temp_dir().join(format!("tailwake-memory-{}", std::process::id()));
        let bench = Bench {
            memory,
            case,
            agent: &agent,
            harness: release.join("harness"),
            directory: directory.clone(),
        };
        let done = bench.run();
        std::fs::remove_dir_all(&directory)?;
        if let Some(why) = done.with_context(|| format!("case {}", case.name()))? {
            over.push(why);
        }
    }
    ensure!(over.is_empty(), "{}", over.join("; "));
    Ok(())
}

struct Bench<'m> {
    memory: &'m Memory,
    case: Case,
    agent: &'m Path,
    harness: PathBuf,
    directory: PathBuf,
}

impl Bench<'_> {
    /// Runs the case; says how it passed its ceiling, if it did.
    fn run(&self) -> Result<Option<String>> {
        std::fs::create_dir_all(self.directory.join("node/pods"))?;
        say(&format!(
            "{:<8} {} containers, {} of them at full rate, the others {} lines/s; output `{DEAD}` is dead",
            self.case.name(),
            self.memory.files,
            self.memory.noisy,
            self.memory.rate,
        ));
        // Empty files first: they are found at the start.
        self.write(0)?;
        let mut sink = Sink::start(&self.harness)?;
        let dead = Grave::dig(self.memory.dead)?;
        let at = self.directory.join("agent");
        let living = format!("http://{}", sink.address);
        let pods = self.directory.join("node/pods");
        let mut agent = Agent::start_config(self.agent, &at, |admin| {
            self.case.config(&at, &pods, admin, &living, &dead.url)
        })?;
        self.await_files(&mut agent, &at)?;
        let rest = agent.usage()?;
        let writer = self.writer();
        let written = self.watch(&mut agent, &at, &sink, &writer);
        let written = written.and_then(|()| joined(writer));
        let (lines, bytes) = written?;
        let stats = self.settle(&mut agent, &at, &sink, lines)?;
        let usage = agent.usage()?;
        self.judge_lines(&stats, lines)?;
        self.judge_dead(&agent)?;
        let scraped = agent.usage()?;
        agent.end()?;
        sink.end()?;
        self.told([rest, usage, scraped], (lines, bytes))
    }

    /// Prints the figures and holds them against the ceiling.
    fn told(
        &self,
        [rest, usage, scraped]: [Usage; 3],
        (lines, bytes): (u64, u64),
    ) -> Result<Option<String>> {
        let name = self.case.name();
        let formula = self.formula()?;
        let ceiling = match self.case {
            Case::Small => SMALL_MAX,
            Case::Forced => formula + BASE,
        };
        say(&format!(
            "{name:<8} {lines} lines ({:.0} MB) written, all of them at the living output, in order; \
             {:.1} CPU-s",
            bytes as f64 / 1e6,
            usage.cpu_s(),
        ));
        say(&format!(
            "{name:<8} RSS with all files open {:.1} MiB (peak of the start {:.1}); at the end {:.1}, \
             peak {:.1}; peak after two looks at all containers {:.1}",
            mib(rest.resident),
            mib(rest.resident_peak),
            mib(usage.resident),
            mib(usage.resident_peak),
            mib(scraped.resident_peak),
        ));
        say(&format!(
            "{name:<8} the formula says {:.1} MiB; the ceiling here is {:.1} MiB{}",
            mib(formula),
            mib(ceiling),
            match self.case {
                Case::Small => "",
                Case::Forced => ", 28 MiB more for files, code and threads",
            },
        ));
        let over = usage.resident_peak > ceiling;
        Ok(over.then(|| {
            format!(
                "case {name}: the agent's peak is {:.1} MiB; at most {:.1} MiB are allowed",
                mib(usage.resident_peak),
                mib(ceiling)
            )
        }))
    }

    /// The formula's sum, as `tailwake check` prints it for the case's config.
    fn formula(&self) -> Result<u64> {
        let output = Command::new(self.agent)
            .args(["check", "--config"])
            .arg(config_path(&self.directory.join("agent")))
            .output()
            .context("run tailwake check")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with("memory: "));
        let line = line.context("tailwake check prints no memory formula")?;
        say(&format!("{:<8} {line}", self.case.name()));
        sum_of(line).with_context(|| format!("no sum in `{line}`"))
    }

    fn await_files(&self, agent: &mut Agent, at: &Path) -> Result<()> {
        let begun = Instant::now();
        // Seen from outside: what the agent could be asked for prints all containers.
        while descriptors(agent.pid())? < self.memory.files as usize {
            agent.check(at)?;
            if begun.elapsed() > PATIENCE {
                bail!("the agent has not opened all files within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(SETTLE);
        Ok(())
    }

    fn arguments(&self, seconds: u64) -> Vec<String> {
        let Memory {
            files, noisy, rate, ..
        } = self.memory;
        let namespaces = self.case.namespaces();
        [
            "steady".to_owned(),
            root(&self.directory),
            rate.to_string(),
            seconds.to_string(),
            format!("--files={files}"),
            format!("--noisy={noisy}"),
            format!("--namespaces={namespaces}"),
        ]
        .into()
    }

    fn write(&self, seconds: u64) -> Result<(u64, u64)> {
        write_with(&self.harness, &self.arguments(seconds))
    }

    fn writer(&self) -> JoinHandle<Result<(u64, u64)>> {
        let seconds = self.memory.duration.as_secs().max(1);
        let (harness, arguments) = (self.harness.clone(), self.arguments(seconds));
        std::thread::spawn(move || write_with(&harness, &arguments))
    }

    /// Tells how it goes while it is written.
    fn watch(
        &self,
        agent: &mut Agent,
        at: &Path,
        sink: &Sink,
        writer: &JoinHandle<Result<(u64, u64)>>,
    ) -> Result<()> {
        let (begun, mut said) = (Instant::now(), 0);
        while !writer.is_finished() {
            std::thread::sleep(Duration::from_millis(100));
            agent.check(at)?;
            let seconds = begun.elapsed().as_secs();
            if seconds >= said + EVERY_SECS {
                said = seconds;
                progress(seconds, agent, sink)?;
            }
        }
        Ok(())
    }

    /// Waits until the living output has all lines, or nothing has come for a while.
    fn settle(&self, agent: &mut Agent, at: &Path, sink: &Sink, lines: u64) -> Result<Stats> {
        let (begun, mut said) = (Instant::now(), 0);
        let mut moved = (0, Instant::now());
        loop {
            agent.check(at)?;
            let stats = stats(sink.address)?;
            if stats.lines != moved.0 {
                moved = (stats.lines, Instant::now());
            }
            if stats.lines >= lines || moved.1.elapsed() > QUIET {
                return Ok(stats);
            }
            let seconds = begun.elapsed().as_secs();
            if seconds >= said + EVERY_SECS {
                said = seconds;
                progress(seconds, agent, sink)?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn judge_lines(&self, stats: &Stats, lines: u64) -> Result<()> {
        if stats.lines != lines || stats.gaps > 0 || stats.disordered > 0 {
            bail!(
                "{} of {lines} lines came to the living output, {stats:?}",
                stats.lines
            );
        }
        Ok(())
    }

    /// The case is none where all files were not open, or the dead output was not full.
    fn judge_dead(&self, agent: &Agent) -> Result<()> {
        let metric = |name: &str| agent.metric(name).unwrap_or(0);
        let open = metric("tailwake_files_open");
        let files = u64::from(self.memory.files);
        ensure!(open == files, "only {open} of {files} files were open");
        let status = agent.status();
        let output = &status["outputs"][DEAD];
        let acknowledged = output["lines_acknowledged"].as_u64();
        ensure!(
            acknowledged == Some(0),
            "the dead output has acknowledged {acknowledged:?} lines"
        );
        let window = output["window_bytes"].as_u64().unwrap_or(0);
        ensure!(
            output["detached"] == true && window > 0,
            "the dead output's window has never been full ({window} bytes, detached: {}): write more",
            output["detached"]
        );
        say(&format!(
            "{:<8} {open} files open; the dead output is detached and holds {:.1} MiB, error: {}",
            self.case.name(),
            mib(window),
            output["last_error"].as_str().unwrap_or("none yet"),
        ));
        Ok(())
    }
}

/// Where the dead output lies.
struct Grave {
    url: String,
    /// Connections wait in its queue for ever.
    _listener: Option<TcpListener>,
}

impl Grave {
    fn dig(dead: Dead) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let kept = match dead {
            Dead::Mute => Some(listener),
            Dead::Refuse => None,
        };
        Ok(Self {
            url,
            _listener: kept,
        })
    }
}

fn descriptors(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))
        .context("list the agent's descriptors")?
        .count())
}

fn progress(seconds: u64, agent: &Agent, sink: &Sink) -> Result<()> {
    let (usage, stats) = (agent.usage()?, stats(sink.address)?);
    say(&format!(
        "{seconds:>7}s RSS {:.1} MiB, peak {:.1}, {} lines at the living output",
        mib(usage.resident),
        mib(usage.resident_peak),
        stats.lines,
    ));
    Ok(())
}

fn write_with(harness: &Path, arguments: &[String]) -> Result<(u64, u64)> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    write(harness, &arguments)
}

fn joined(writer: JoinHandle<Result<(u64, u64)>>) -> Result<(u64, u64)> {
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer's thread panicked"))?
}

/// The sum in `... = 36MiB of 36MiB`.
fn sum_of(line: &str) -> Option<u64> {
    let (_, rest) = line.rsplit_once(" = ")?;
    let size = rest.split(' ').next()?;
    let unit = size.find(|char: char| !char.is_ascii_digit())?;
    let factor = match &size[unit..] {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    Some(size[..unit].parse::<u64>().ok()? * factor)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// For all files to be found and opened.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the first positions, which are written a second after the files were found.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two lines that tell how it goes.
const EVERY_SECS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_as_check_prints_it() {
        let check = |line, want| assert_eq!(sum_of(line), want, "{line}");
        check(
            "memory: pool 9MiB + joins 4MiB = 13MiB of 36MiB",
            Some(13 << 20),
        );
        check(
            "memory: pool 9MiB = 9217KiB of 36MiB (72 read buffers)",
            Some(9217 << 10),
        );
        check("memory: none", None);
    }
}
