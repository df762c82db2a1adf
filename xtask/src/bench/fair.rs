//! `cargo xtask bench fair`: what one pod that writes as fast as it can adds to the others' latency.
//!
//! 1. Both runs are of the same agent and the same quiet writers; the second has the noisy one too.
//! 2. The sink keeps up: it is a process of its own that only counts.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use harness::process::say;
use harness::sink::{Stats, stats};

use super::{QUIET, Sink, root, write};
use crate::run::agent::{Agent, Setup, Stages, build_release};
use crate::run::duration;

/// Options of `cargo xtask bench fair`.
#[derive(Debug, Args)]
pub(super) struct Fair {
    /// How long each run writes.
    #[arg(long = "for", value_parser = duration, default_value = "5s")]
    duration: Duration,
    /// Lines a second of the quiet writers together.
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// Runs the bench; fails when lines are missing or more is added than [`ADDED_MS_MAX`].
pub(super) fn run(fair: &Fair) -> Result<()> {
    let mut packages = vec!["harness"];
    if fair.agent.is_none() {
        packages.push("tailwake");
    }
    let release = build_release(&packages)?;
    let agent = fair
        .agent
        .clone()
        .unwrap_or_else(|| release.join("tailwake"));
    let harness = release.join("harness");
    let mut figures = Vec::new();
    for noise in [false, true] {
        let at = std::env::temp_dir().join(format!("tailwake-fair-{}", std::process::id()));
        std::fs::create_dir_all(at.join("node/pods"))?;
        let done = one(fair, noise, &agent, &harness, &at);
        std::fs::remove_dir_all(&at)?;
        let (stats, lines, bytes) = done?;
        say(&format!(
            "{:<8} {lines} lines, {:.0} MB written, missing {}; the quiet pods' p99 {:.0} ms",
            if noise { "noisy" } else { "quiet" },
            bytes as f64 / 1e6,
            lines.saturating_sub(stats.lines),
            stats.others_p99_us as f64 / 1e3,
        ));
        if stats.lines != lines || stats.disordered > 0 {
            bail!("lines are missing or out of order: there are no figures");
        }
        figures.push(stats.others_p99_us);
    }
    let added = figures[1].saturating_sub(figures[0]) / 1000;
    say(&format!("added    {added} ms"));
    if added > ADDED_MS_MAX {
        bail!("one pod adds {added} ms to the others' p99; at most {ADDED_MS_MAX} are allowed");
    }
    Ok(())
}

/// What a pod may add to another's p99.
const ADDED_MS_MAX: u64 = 100;

fn one(
    fair: &Fair,
    noise: bool,
    agent: &std::path::Path,
    harness: &std::path::Path,
    at: &std::path::Path,
) -> Result<(Stats, u64, u64)> {
    let mut sink = Sink::start(harness)?;
    // Empty files first, or the latency would be that of finding new files.
    write(harness, &["steady", &root(at), "0", "0"])?;
    let setup = Setup {
        directory: at.join("agent"),
        pods: at.join("node/pods"),
        loki: Some(format!("http://{}", sink.address)),
        search: None,
        stages: Stages::Labels,
    };
    let mut agent = Agent::start(agent, &setup)?;
    let seconds = fair.duration.as_secs().max(1).to_string();
    let (root, rate) = (root(at), fair.rate.to_string());
    let mut arguments = vec!["steady", &root, &rate, &seconds];
    if noise {
        arguments.extend(["--noisy", "1"]);
    }
    let (lines, bytes) = write(harness, &arguments)?;
    let mut moved = (0, Instant::now());
    let stats = loop {
        let stats = stats(sink.address)?;
        agent.check(&setup.directory)?;
        if stats.lines != moved.0 {
            moved = (stats.lines, Instant::now());
        }
        if stats.lines >= lines || moved.1.elapsed() > QUIET {
            break stats;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    agent.end()?;
    sink.end()?;
    Ok((stats, lines, bytes))
}
