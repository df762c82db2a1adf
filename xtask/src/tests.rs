//! `cargo xtask test`: the suites in order, each with its time.
//!
//! 1. What CI runs is exactly this; it installs what it needs.
//! 2. A suite that fails ends the run; the table still says what was run.
//! 3. Budgets are for two quiet cores with caches, and add up to 20 minutes; a suite that took longer
//!    is marked, and does not fail for it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::build::{self, root};
use crate::run::agent::build_release;
use crate::testbed::{Cache, node_programs};
use crate::{e2e, kernels, node, path, refusals, run, shapes, sim, tidy};

/// The arguments of `cargo xtask test`.
#[derive(Debug, Clone, clap::Args)]
pub struct Test {
    /// Everything, as before an issue is closed: also a real Kubernetes node (whose first build takes
    /// some 10 minutes) and 1,000 seeds of the simulator.
    #[arg(long)]
    pub all: bool,
    /// Only the suites whose name holds this word.
    #[arg(long, value_name = "WORD")]
    pub only: Option<String>,
}

type Suite = (&'static str, u64, Box<dyn Fn() -> Result<()>>);

/// Runs the suites.
///
/// # Errors
/// The first suite that failed.
pub fn run(test: &Test) -> Result<()> {
    let cargo = |args: &'static [&'static str]| move || cargo(args);
    let mut suites: Vec<Suite> = vec![
        ("format", 10, Box::new(cargo(&["fmt", "--all", "--check"]))),
        ("tidy", 10, Box::new(tidy::run)),
        ("build", 280, Box::new(build_all)),
        (
            "lints",
            120,
            Box::new(cargo(&["clippy", "-q", "--workspace", "--all-targets"])),
        ),
        ("unit", 130, Box::new(cargo(&["test", "-q", "--workspace"]))),
        ("simulator", 60, Box::new(|| sim::seeds(200))),
        ("scenarios", 20, Box::new(sim::scenarios)),
        ("defences", 220, Box::new(sim::defences)),
        ("least privilege", 40, Box::new(least_privilege)),
        ("demo node", 30, Box::new(run::demo)),
        ("wake rungs", 100, Box::new(path::run_default)),
        ("stock kernel", 120, Box::new(kernels::run_default)),
        ("real servers", 180, Box::new(e2e::run)),
        ("kubernetes api", 60, Box::new(kubernetes_api)),
    ];
    if test.all {
        let trips = &["test", "-q", "-p", "xtask", "--", "--ignored"];
        suites.push(("round trips", 240, Box::new(cargo(trips))));
        // Loki's words depend on the order of its streams in two of the rounds.
        suites.push(("refusals", 90, Box::new(refusals::run)));
        suites.push(("bulk shapes", 240, Box::new(shapes::run)));
        suites.push(("real node", 240, Box::new(node::run_default)));
        suites.push(("many seeds", 600, Box::new(|| sim::seeds(1_000))));
    }
    if let Some(word) = &test.only {
        suites.retain(|(name, ..)| name.contains(word.as_str()));
    }
    let mut table = String::new();
    let budgets: u64 = suites.iter().map(|(_, budget, _)| budget).sum();
    let all = Instant::now();
    for (name, budget, suite) in suites {
        eprintln!("=== {name}");
        let begun = Instant::now();
        let done = suite();
        let took = begun.elapsed();
        table.push_str(&row(name, took, budget, done.is_ok()));
        if let Err(error) = done {
            eprintln!("\n{table}");
            bail!("suite `{name}`: {error:#}");
        }
    }
    eprintln!(
        "\n{table}{:<20} {:>14.1} s of {budgets} s",
        "in all",
        all.elapsed().as_secs_f64()
    );
    Ok(())
}

fn row(name: &str, took: Duration, budget: u64, passed: bool) -> String {
    let over = took.as_secs() > budget;
    let word = match (passed, over) {
        (false, _) => "FAILED",
        (true, true) => "OVER",
        (true, false) => "passed",
    };
    format!(
        "{name:<20} {word}  {:>6.1} s of {budget} s\n",
        took.as_secs_f64()
    )
}

/// The agent with probes, and the harness that stands around it.
fn build_all() -> Result<()> {
    build::run(&release())?;
    build_release(&["harness"]).map(drop)
}

fn release() -> build::Build {
    build::Build {
        debug: false,
        yes: std::env::var_os("CI").is_some(),
    }
}

pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    let status = Command::new(build::cargo())
        .current_dir(root())
        .args(args)
        .status()?;
    if !status.success() {
        bail!("cargo {} ended with {status}", args.join(" "));
    }
    Ok(())
}

/// The tests that need a rung again with the probes embedded: the guard has something to lose, a rung
/// can go deaf, and the races are run on what this kernel loads.
fn least_privilege() -> Result<()> {
    let status = Command::new(build::cargo())
        .current_dir(root())
        .args([
            "test",
            "-q",
            "-p",
            "tailwake",
            "--test",
            "guard",
            "--test",
            "probe",
            "--test",
            "stepdown",
            "--example",
            "wake_proof",
        ])
        .env(build::OBJECT_VARIABLE, build::target().join("bpf/probes.o"))
        .status()?;
    if !status.success() {
        bail!("the guard's tests with probes ended with {status}");
    }
    Ok(())
}

/// The client of the Kubernetes API with its lints, and the watch of pods against a real API server.
fn kubernetes_api() -> Result<()> {
    let lints = ["clippy", "-q", "-p", "tailwake", "--features", "kube"];
    cargo(&[&lints[..], &["--all-targets"]].concat())?;
    let programs = node_programs(&Cache::open()?, std::env::var_os("CI").is_some())?;
    let status = Command::new(build::cargo())
        .current_dir(root())
        .args(["test", "-q", "-p", "tailwake", "--features", "kube"])
        .args(["--test", "kube", "--", "--nocapture"])
        .env("TAILWAKE_KUBE_PROGRAMS", programs)
        .status()?;
    if !status.success() {
        bail!("the watch of pods ended with {status}");
    }
    Ok(())
}
