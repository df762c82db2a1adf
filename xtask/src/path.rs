//! `cargo xtask path`: the path test on this machine's own kernel, rung by rung.
//!
//! ```text
//! agent with probes + harness -> for each (rung, face, readers): harness path -> PASS or FAIL
//! ```
//!
//! 1. A rung that this kernel refuses fails with the agent's reason; it is never left out.
//! 2. The tree lies in the target folder, whose file system is thus the one under test.

use std::path::{Path as FilePath, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{self, target};
use crate::run::agent::build_release;

/// The arguments of `cargo xtask path`.
#[derive(Debug, Clone, clap::Args)]
pub struct Path {
    /// Only this rung.
    #[arg(long)]
    rung: Option<String>,
    /// Only this face: `uring` or `pread`.
    #[arg(long)]
    io: Option<String>,
    /// So many readers, in place of the table's.
    #[arg(long)]
    readers: Option<u64>,
    /// Bursts per case.
    #[arg(long, default_value_t = 10_000)]
    bursts: u64,
    /// Where the trees are laid out, in place of the target folder.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// One run of the test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) rung: &'static str,
    pub(crate) io: &'static str,
    pub(crate) readers: u64,
}

impl Case {
    pub(crate) const fn new(rung: &'static str, io: &'static str, readers: u64) -> Self {
        Self { rung, io, readers }
    }

    /// What `harness` is told, but for agent and directory.
    pub(crate) fn words(&self, bursts: u64) -> Vec<String> {
        let Self { rung, io, readers } = self;
        let line = format!("path --rung {rung} --io {io} --readers {readers} --bursts {bursts}");
        line.split(' ').map(str::to_owned).collect()
    }
}

/// The rungs that the build machines' kernel loads, each by both faces and with 4 readers once, and
/// the sweep that lies under all.
/// `cargo xtask kernels` has the top one.
const CASES: [Case; 7] = [
    Case::new("tp_btf", "uring", 4),
    Case::new("tp_btf", "pread", 1),
    Case::new("raw_tp", "uring", 1),
    Case::new("raw_tp", "pread", 4),
    Case::new("inotify", "uring", 4),
    Case::new("inotify", "pread", 1),
    Case::new("sweep", "uring", 1),
];

/// All cases with the agent that was built last, as the suite runs them.
///
/// # Errors
/// The first case that failed.
pub fn run_default() -> Result<()> {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        path: Path,
    }
    let agent = target().join("release").join("tailwake").into_os_string();
    let words = ["path".into(), "--agent".into(), agent];
    run(&<Line as clap::Parser>::try_parse_from(words)?.path)
}

/// Runs the cases that were asked for.
///
/// # Errors
/// The first case that failed.
pub fn run(path: &Path) -> Result<()> {
    let agent = match &path.agent {
        Some(agent) => agent.clone(),
        None => build::run(&build::Build {
            debug: false,
            yes: false,
        })?,
    };
    let harness = build_release(&["harness"])?.join("harness");
    let directory = path.directory.clone();
    let directory = directory.unwrap_or_else(|| target().join("path"));
    let mut ran = 0;
    for case in CASES {
        let wanted = |want: &Option<String>, is: &str| want.as_ref().is_none_or(|want| want == is);
        if !wanted(&path.rung, case.rung) || !wanted(&path.io, case.io) {
            continue;
        }
        let readers = path.readers.unwrap_or(case.readers);
        one(
            &harness,
            &agent,
            &directory,
            &Case { readers, ..case },
            path.bursts,
        )?;
        ran += 1;
    }
    if ran == 0 {
        bail!("no case has this rung and face; the cases are {CASES:?}");
    }
    Ok(())
}

fn one(
    harness: &FilePath,
    agent: &FilePath,
    directory: &FilePath,
    case: &Case,
    bursts: u64,
) -> Result<()> {
    let status = Command::new(harness)
        .args(case.words(bursts))
        .arg("--agent")
        .arg(agent)
        .arg("--directory")
        .arg(directory)
        .status()?;
    if !status.success() {
        let Case { rung, io, readers } = case;
        bail!("the path test failed on {rung} by {io} with {readers} readers: {status}");
    }
    Ok(())
}
