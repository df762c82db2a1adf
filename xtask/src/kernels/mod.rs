//! `cargo xtask kernels`: the wake rungs on stock kernels, in QEMU without KVM.
//!
//! ```text
//! agent, harness, wake_proof + their libraries + modules -> initramfs
//! stock kernel + initramfs + empty disks -> QEMU -> EXIT lines -> verdict
//!                                                -> CELL lines -> docs/kernels.md
//! ```
//!
//! 1. The guest runs the binaries that this machine would run, with the probes embedded.
//! 2. A case passes only by its own exit code; a guest that ends without DONE fails.
//! 3. Nothing is installed of the kernel; disks and initramfs are made anew for each run.

mod cpio;
mod guest;
mod matrix;
mod stock;

pub(crate) use guest::tools;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{self, root, target};
use crate::packages::run as run_command;
use crate::path::Case;
use crate::run::agent::build_release;
use guest::{Guest, Pace, Said};
use stock::Kernel;

/// The arguments of `cargo xtask kernels`.
#[derive(Debug, Clone, clap::Args)]
pub struct Kernels {
    /// The kernels' series; Debian's two when none is given.
    #[arg(long)]
    pub series: Vec<String>,
    /// Fails when docs/kernels.md is not what the kernels say, in place of rewriting it.
    #[arg(long)]
    pub check: bool,
    /// Only the races of arming and writing, so many on each rung.
    #[arg(long, value_name = "COUNT")]
    pub races: Option<u64>,
    /// With `--races`: on this machine's own kernel, on each rung that it loads.
    #[arg(long, requires = "races")]
    pub here: bool,
    /// Bursts per case of the path test.
    #[arg(long, default_value_t = 10_000)]
    pub bursts: u64,
    /// Seconds after which a guest is ended, in place of 420 and one for each 20 races.
    #[arg(long)]
    pub limit: Option<u64>,
    /// Runs this agent instead of building one.
    #[arg(long)]
    pub agent: Option<PathBuf>,
    /// Install missing Debian packages without asking (also when CI=true).
    #[arg(long)]
    pub yes: bool,
}

/// All that the issue of a release is tried on.
pub(crate) const SERIES: [&str; 2] = ["6.12", "6.1"];

/// File system, case of the path test, and its share of the bursts: each rung has all of them once.
/// tp_btf on ext4 is missing because ext4 is a module in this flavour, and the build machine's own
/// kernel runs it. `refused`: the guest forbids io_uring.
const PATHS: [(&str, Case, u64); 9] = [
    ("ext4", Case::new("fexit", "uring", 1), 2),
    ("ext4", Case::new("fexit", "refused", 4), 4),
    ("tmpfs", Case::new("fexit", "uring", 4), 8),
    ("xfs", Case::new("fexit", "uring", 1), 8),
    ("btrfs", Case::new("fexit", "pread", 1), 8),
    ("overlay-ext4", Case::new("fexit", "uring", 1), 8),
    ("ext4", Case::new("raw_tp", "uring", 1), 4),
    ("xfs", Case::new("raw_tp", "pread", 4), 8),
    ("ext4", Case::new("inotify", "uring", 1), 8),
];

/// Where the matrix is taken.
const FILES: [&str; 8] = [
    "ext4",
    "xfs",
    "btrfs",
    "tmpfs",
    "overlay-ext4",
    "overlay-xfs",
    "overlay-btrfs",
    "overlay-tmpfs",
];

/// Where the races are run: each hook of each rung once.
const RACES: [(&str, &str); 6] = [
    ("ext4", "fexit"),
    ("xfs", "fexit"),
    ("btrfs", "fexit"),
    ("ext4", "raw_tp"),
    ("xfs", "raw_tp"),
    ("ext4", "inotify"),
];

/// How wake_proof ends when the kernel refuses the rung.
const NOT_LOADED: i32 = 2;

/// Races of each kind when they are not what was asked for.
const RACES_FEW: u64 = 500;

/// One kernel with the agent that was built last, as the suite runs it.
///
/// # Errors
/// A rung does not serve what the page says, or left a burst unread.
pub fn run_default() -> Result<()> {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        kernels: Kernels,
    }
    let agent = target().join("release").join("tailwake").into_os_string();
    let words = "kernels --yes --check --series 6.12 --agent".split(' ');
    let words = words.map(std::ffi::OsString::from).chain([agent]);
    run(&<Line as clap::Parser>::try_parse_from(words)?.kernels)
}

/// What `wake_proof` says when these cases are run on a kernel whose time is counted in instructions.
///
/// # Errors
/// The kernel cannot be had or booted, or a case failed.
pub(crate) fn counted(series: &str, cases: &[String], limit: u64) -> Result<Counted> {
    let proof = build_proof()?;
    let kernel = Kernel::obtain(series)?;
    let guest = Guest {
        kernel: &kernel,
        folder: &target().join("counted"),
        programs: &[("wake_proof", &proof)],
        cases,
        limit,
        pace: Pace::Counted,
    };
    let said = guest.run()?;
    judge(&kernel, cases, &said)?;
    Ok(Counted {
        release: kernel.release.clone(),
        lines: said.lines,
    })
}

/// What came out of [`counted`].
#[derive(Debug)]
pub(crate) struct Counted {
    /// The kernel's release.
    pub(crate) release: String,
    /// All that was said, in order; a case begins with `CASE` and its file system.
    pub(crate) lines: Vec<String>,
}

/// Boots the kernels and judges what they say.
///
/// # Errors
/// The first kernel on which a case failed, or whose table is not the page's.
pub fn run(kernels: &Kernels) -> Result<()> {
    if let Some(count) = kernels.races.filter(|_| kernels.here) {
        build::probes(kernels.yes)?;
        return races_here(&build_proof()?, count);
    }
    tools(kernels.yes)?;
    let agent = match &kernels.agent {
        Some(agent) => agent.clone(),
        None => build::run(&build::Build {
            debug: false,
            yes: kernels.yes,
        })?,
    };
    let harness = build_release(&["harness"])?.join("harness");
    let proof = build_proof()?;
    let programs = [
        ("tailwake", &*agent),
        ("harness", &*harness),
        ("wake_proof", &*proof),
    ];
    let limit = kernels
        .limit
        .unwrap_or(420 + kernels.races.unwrap_or(0) / 20);
    let all = SERIES.map(str::to_owned);
    let chosen = if kernels.series.is_empty() {
        &all[..]
    } else {
        &kernels.series
    };
    for series in chosen {
        let kernel = Kernel::obtain(series)?;
        let cases = cases(kernels, &kernel);
        let guest = Guest {
            kernel: &kernel,
            folder: &target().join("kernels"),
            programs: &programs,
            cases: &cases,
            limit,
            pace: Pace::Free,
        };
        let said = guest.run()?;
        judge(&kernel, &cases, &said)?;
        if kernels.races.is_none() {
            said.matrix.publish(series, kernels.check)?;
        }
    }
    Ok(())
}

/// The rungs of this machine's kernel; one that does not load says why.
fn races_here(proof: &Path, count: u64) -> Result<()> {
    let directory = target().join("races");
    for rung in ["fexit", "tp_btf", "raw_tp", "inotify"] {
        let mut command = Command::new(proof);
        command.args(["races", "--rung", rung, "--count", &count.to_string()]);
        let status = command.arg("--directory").arg(&directory).status()?;
        if !status.success() && status.code() != Some(NOT_LOADED) {
            bail!("the races on {rung} ended with {status}");
        }
    }
    Ok(())
}

fn judge(kernel: &Kernel, cases: &[String], said: &Said) -> Result<()> {
    let failed = cases.iter().filter(|case| !said.passed.contains(case));
    let failed: Vec<&str> = failed.map(String::as_str).collect();
    if !failed.is_empty() {
        bail!("FAIL kernel {}: {}", kernel.release, failed.join(", "));
    }
    eprintln!("PASS kernel {}: {} cases", kernel.release, cases.len());
    Ok(())
}

/// The cases as the guest reads them, and as it says how they ended.
fn cases(kernels: &Kernels, kernel: &Kernel) -> Vec<String> {
    let count = kernels.races.unwrap_or(RACES_FEW);
    let race = |(files, rung)| format!("{files} wake_proof races --rung {rung} --count {count}");
    let races = RACES.into_iter().map(race);
    if kernels.races.is_some() {
        return races.collect();
    }
    let matrix = FILES.map(|files| format!("{files} wake_proof matrix"));
    let paths = PATHS.iter().map(|(files, case, share)| {
        let mut case = *case;
        if case.io == "refused" && !kernel.can_refuse_io_uring() {
            case.io = "pread";
        }
        let words = case.words(kernels.bursts / share).join(" ");
        format!("{files} harness {words} --agent /bin/tailwake")
    });
    matrix.into_iter().chain(races).chain(paths).collect()
}

/// The example that has the wake room written to, with the probes that were built last.
pub(crate) fn build_proof() -> Result<PathBuf> {
    build_example("wake_proof")
}

/// An example of the agent's, with the probes that were built last.
pub(crate) fn build_example(name: &str) -> Result<PathBuf> {
    let words = "build --release --package tailwake --example";
    let mut cargo = Command::new(build::cargo());
    cargo.current_dir(root()).args(words.split(' ')).arg(name);
    run_command(cargo.env(build::OBJECT_VARIABLE, target().join("bpf/probes.o")))?;
    Ok(target().join("release/examples").join(name))
}
