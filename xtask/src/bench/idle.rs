//! `cargo xtask bench idle`: what the agent does when nobody writes. It sleeps, or the command fails.
//!
//! ```text
//! N files of one line -> agent, until /status says that all sleep -> interval -> /proc/PID/task
//! ```
//!
//! 1. A wake-up is a voluntary switch of a thread: it slept, and ran. Nothing asks the agent anything
//!    in the interval, so that every wake-up is its own.
//! 2. The wake-ups that may be are the sweep's: one of a reader for each sweep of sizes, one of the
//!    control thread for each sweep of names, as `/status` counts them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::generate::pod_directory;
use harness::journal::Container;
use harness::process::say;
use harness::receive::Receiver;
use harness::text::{now_ns, rfc3339_nano};
use serde_json::Value;

use crate::build;
use crate::run::agent::{Agent, Setup, Stages, acknowledged};
use crate::run::duration;

/// Options of `cargo xtask bench idle`.
#[derive(Debug, Args)]
pub(super) struct Idle {
    /// Containers, one file each.
    #[arg(long, default_value_t = 1_000)]
    files: u32,
    /// How long is measured, with the sweep and again without.
    #[arg(long = "for", value_parser = duration, default_value = "30s")]
    duration: Duration,
    /// Time between two sweeps, in place of the agent's default.
    #[arg(long, value_parser = duration)]
    sweep: Option<Duration>,
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// Measures with the sweep on and off.
pub(super) fn run(idle: &Idle) -> Result<()> {
    let binary = match &idle.agent {
        Some(agent) => agent.clone(),
        None => build::run(&build::Build {
            debug: false,
            yes: false,
        })?,
    };
    let directory = std::env::temp_dir().join(format!("tailwake-idle-{}", std::process::id()));
    let measured = both(idle, &binary, &directory);
    std::fs::remove_dir_all(&directory)?;
    measured
}

fn both(idle: &Idle, binary: &Path, directory: &Path) -> Result<()> {
    let node = directory.join("node");
    for number in 0..idle.files {
        lay_out(&node, number)?;
    }
    let sweep = idle.sweep.map_or(String::new(), |sweep| {
        format!("wake: {{sweep: {}ms}}\n", sweep.as_millis())
    });
    let on = one(idle, binary, directory, "sweep-on", &sweep)?;
    let off = one(idle, binary, directory, "sweep-off", "wake: {sweep: 0}\n")?;
    if on > 0 || off > 0 {
        bail!("the agent woke up {on} times beyond its sweeps, {off} times without a sweep");
    }
    Ok(())
}

fn lay_out(node: &Path, number: u32) -> Result<()> {
    let container = Container {
        namespace: "idle".to_owned(),
        pod: format!("idle-{number:05}"),
        name: "app".to_owned(),
    };
    let directory = pod_directory(node, &container, number).join(&container.name);
    std::fs::create_dir_all(&directory)?;
    let line = format!("{} stdout F seq=0 the only line\n", rfc3339_nano(now_ns()));
    let path = directory.join("0.log");
    std::fs::write(&path, line).with_context(|| format!("write {}", path.display()))
}

/// One run; gives the wake-ups beyond the sweeps'.
fn one(idle: &Idle, binary: &Path, directory: &Path, name: &str, wake: &str) -> Result<u64> {
    let receiver = Receiver::start(Vec::new())?;
    let at = directory.join(name);
    let setup = Setup {
        directory: at.clone(),
        pods: directory.join("node/pods"),
        loki: Some(format!("http://{}", receiver.address())),
        search: None,
        stages: Stages::Cri,
    };
    let mut agent = Agent::start_with(binary, &setup, wake)?;
    let begun = asleep(idle, &mut agent, &at)?;
    // The last acknowledgements are written to the positions file within a second.
    std::thread::sleep(SETTLE);
    let before = agent.activity()?;
    std::thread::sleep(idle.duration);
    let after = agent.activity()?;
    let resident = agent.usage()?.resident;
    let ended = agent.status();
    scrape(idle, &agent, name)?;
    agent.end()?;
    let used = after.since(&before);
    let sweeps = |status: &Value, of: &str| status["sweeps"][of].as_u64().unwrap_or(0);
    let files = sweeps(&ended, "files") - sweeps(&begun, "files");
    let names = sweeps(&ended, "names") - sweeps(&begun, "names");
    // A canary's append wakes the canary thread, and by its event a reader.
    let rungs = 2 * (sweeps(&ended, "rungs") - sweeps(&begun, "rungs"));
    let beyond = used.wakeups().saturating_sub(files + names + rungs);
    let seconds = idle.duration.as_secs_f64();
    say(&format!(
        "{name:<9} {} files on {}: CPU {:.3} ms/s, {:.3} wake-ups/s, {:.3} preemptions/s, \
         RSS {:.1} MiB",
        idle.files,
        ended["rung"].as_str().unwrap_or("-"),
        used.run_ns as f64 / 1e6 / seconds,
        used.wakeups() as f64 / seconds,
        used.preemptions() as f64 / seconds,
        resident as f64 / f64::from(1 << 20),
    ));
    say(&format!(
        "{:<9} {} wake-ups in {seconds} s{}; expected {}: {files} sweeps of sizes by readers + \
         {names} sweeps of names by control + {rungs} by the canaries; beyond them {beyond}",
        "",
        used.wakeups(),
        used.by_thread(),
        files + names + rungs,
    ));
    ensure!(
        ended["late_finds"] == begun["late_finds"],
        "a sweep found bytes although nobody wrote"
    );
    Ok(beyond)
}

/// What a look at `/metrics` costs the agent, all its threads together.
fn scrape(idle: &Idle, agent: &Agent, name: &str) -> Result<()> {
    let (before, begun) = (agent.activity()?, Instant::now());
    let mut bytes = 0;
    for _ in 0..SCRAPES {
        bytes = agent.metrics()?.len();
    }
    let (passed, after) = (begun.elapsed(), agent.activity()?);
    say(&format!(
        "{name:<9} a scrape of {} containers: CPU {:.1} ms, {:.1} ms until it is read, {:.1} MiB",
        idle.files,
        after.since(&before).run_ns as f64 / 1e6 / f64::from(SCRAPES),
        passed.as_secs_f64() * 1e3 / f64::from(SCRAPES),
        bytes as f64 / f64::from(1 << 20),
    ));
    Ok(())
}

/// Waits until every file was found, read, acknowledged, and sleeps.
fn asleep(idle: &Idle, agent: &mut Agent, directory: &Path) -> Result<Value> {
    let begun = Instant::now();
    loop {
        agent.check(directory)?;
        let status = agent.status();
        let all = Some(u64::from(idle.files));
        let number = |key: &str| status[key].as_u64();
        if number("files_open") == all
            && number("files_asleep") == all
            && acknowledged(&status, "loki") == all
        {
            return Ok(status);
        }
        if begun.elapsed() > PATIENCE {
            bail!(
                "of {} files {} are open and {} sleep, {:?} lines are acknowledged",
                idle.files,
                status["files_open"],
                status["files_asleep"],
                acknowledged(&status, "loki"),
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// For the files to be found and read.
const PATIENCE: Duration = Duration::from_secs(60);
/// Scrapes that the cost of one is the mean of.
const SCRAPES: u32 = 10;
/// For what follows the last acknowledgement.
const SETTLE: Duration = Duration::from_secs(3);
