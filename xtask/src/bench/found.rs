//! `cargo xtask bench found`: how soon a new container is read, from the making of its directory on.
//!
//! ```text
//! time -> mkdir pod, container; create 0.log; one line with the time -> agent -> sink: now - time
//! ```
//!
//! 1. What is measured ends when the sink has the line: reading it came before that, so what is said
//!    is never shorter than the time to the read. Batches linger for [`LINGER`], not their default.
//! 2. Each container is new; none has more than its one line.
//! 3. The second run has a container beside them that writes all the while.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use harness::process::say;
use harness::sink::{Stats, stats};

use super::{QUIET, Sink, root, write};
use crate::build;
use crate::run::agent::{Agent, build_release};
use crate::run::duration;

/// Options of `cargo xtask bench found`.
#[derive(Debug, Args)]
pub(super) struct Found {
    /// New containers of each run.
    #[arg(long, default_value_t = 400)]
    containers: u32,
    /// Time from one to the next.
    #[arg(long, value_parser = duration, default_value = "20ms")]
    every: Duration,
    /// Lines a second of the busy container.
    #[arg(long, default_value_t = 20_000)]
    busy: u64,
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// A new container is read within this, in microseconds.
const FOUND_US_MAX: u64 = 10_000;

/// How long a batch waits for more lines.
const LINGER: &str = "1ms";

/// Runs both; fails when a line is missing, or one in a hundred took longer than [`FOUND_US_MAX`].
pub(super) fn run(found: &Found) -> Result<()> {
    ensure!(
        found.containers >= 100,
        "a p99 needs 100 containers or more"
    );
    let release = build_release(&["harness"])?;
    let agent = match &found.agent {
        Some(agent) => agent.clone(),
        None => build::run(&build::Build {
            debug: false,
            yes: false,
        })?,
    };
    let harness = release.join("harness");
    let mut slow = Vec::new();
    for (name, busy) in [("idle", 0), ("busy", found.busy)] {
        let at = std::env::temp_dir().join(format!("tailwake-found-{}", std::process::id()));
        std::fs::create_dir_all(at.join("node/pods"))?;
        let done = one(found, busy, &agent, &harness, &at);
        std::fs::remove_dir_all(&at)?;
        let stats = done?;
        let ms = |us: u64| us as f64 / 1e3;
        say(&format!(
            "{name:<5} {} new containers beside {busy} lines/s: directory made to line received p50 \
             {:.1} ms, p99 {:.1} ms",
            stats.others,
            ms(stats.others_p50_us),
            ms(stats.others_p99_us),
        ));
        if stats.others_p99_us > FOUND_US_MAX {
            slow.push(format!("{name}: p99 {:.1} ms", ms(stats.others_p99_us)));
        }
    }
    ensure!(
        slow.is_empty(),
        "new containers are read too late: {}; at most {:.1} ms are allowed",
        slow.join(", "),
        FOUND_US_MAX as f64 / 1e3
    );
    Ok(())
}

fn one(found: &Found, busy: u64, agent: &Path, harness: &Path, at: &Path) -> Result<Stats> {
    let mut sink = Sink::start(harness)?;
    let directory = at.join("agent");
    let pods = at.join("node/pods");
    let url = format!("http://{}/loki/api/v1/push", sink.address);
    let mut agent = Agent::start_config(agent, &directory, |admin| {
        format!(
            "state: \"{}\"\nadmin: {{listen: \"{admin}\"}}\ninputs:\n  pods: {{pods: {{root: \
             \"{}\"}}}}\npipelines:\n  pods: {{from: [pods], stages: [{{cri: {{}}}}], to: [loki]}}\n\
             outputs:\n  loki: {{linger: {LINGER}, loki: {{url: \"{url}\"}}}}\n",
            directory.join("state").display(),
            pods.display(),
        )
    })?;
    let begun = Instant::now();
    while agent.status().is_null() {
        agent.check(&directory)?;
        ensure!(begun.elapsed() < QUIET, "the agent does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let every_ms = found.every.as_millis().max(1).to_string();
    let (count, busy) = (found.containers.to_string(), busy.to_string());
    let arguments = ["births", &root(at), &count, &every_ms, &busy];
    let (lines, _) = write(harness, &arguments)?;
    let mut moved = (0, Instant::now());
    let stats = loop {
        let stats = stats(sink.address)?;
        agent.check(&directory)?;
        if stats.lines != moved.0 {
            moved = (stats.lines, Instant::now());
        }
        if stats.lines >= lines || moved.1.elapsed() > QUIET {
            break stats;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if stats.lines != lines || stats.others != u64::from(found.containers) {
        bail!(
            "{} of {lines} lines came, of them {} of {count} new containers",
            stats.lines,
            stats.others
        );
    }
    agent.end()?;
    sink.end()?;
    Ok(stats)
}
