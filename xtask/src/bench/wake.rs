//! `cargo xtask bench wake`: how long after a write has returned its bytes lie in the reader's memory.
//!
//! ```text
//! for each (rung, face): reader_latency --rung R --io F -> LATENCY lines -> table
//! ```
//!
//! 1. The agent's own reader reads, woken by the agent's own probes, without the sweep: a line that no
//!    wake brings fails the bench.
//! 2. Beside it the same files are polled every 250 ms, as Promtail polls its own.
//! 3. A rung that this kernel refuses says why and has no row. QEMU's times mean nothing, so that no
//!    guest is asked.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::process::say;

use crate::build::{self, target};
use crate::kernels;

/// Options of `cargo xtask bench wake`.
#[derive(Debug, Args)]
pub(super) struct Latency {
    /// Writes to rested files, and as many to a busy one.
    #[arg(long, default_value_t = 4_000)]
    writes: u32,
    /// Only this rung.
    #[arg(long)]
    rung: Option<String>,
    /// Only this face: `uring` or `pread`.
    #[arg(long)]
    io: Option<String>,
    /// Milliseconds between two looks of who polls.
    #[arg(long, default_value_t = 250)]
    poll_ms: u32,
    /// Where the files are made, in place of the target folder.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Install missing Debian packages without asking (also when CI=true).
    #[arg(long)]
    yes: bool,
}

/// How reader_latency ends when the kernel refuses the rung.
const NOT_LOADED: i32 = 2;

const RUNGS: [&str; 4] = ["fexit", "tp_btf", "raw_tp", "inotify"];
const FACES: [&str; 2] = ["uring", "pread"];

/// Measures each rung by each face, then polling, and prints the table.
pub(super) fn run(latency: &Latency) -> Result<()> {
    build::probes(latency.yes)?;
    let program = kernels::build_example("reader_latency")?;
    let directory = latency.directory.clone();
    let directory = directory.unwrap_or_else(|| target().join("latency"));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("create {}", directory.display()))?;
    let mut rows = Vec::new();
    for rung in chosen(&RUNGS, latency.rung.as_deref())? {
        for io in chosen(&FACES, latency.io.as_deref())? {
            eprintln!("{rung} by {io}: {} writes of each kind", latency.writes);
            let words = ["--rung", rung, "--io", io];
            match one(&program, latency, &directory, &words)? {
                Measured::Row(row) => rows.push(format!("| {rung} | {io} | {row} |")),
                Measured::Refused(why) => {
                    say(&format!("no {rung}: {why}"));
                    break;
                }
            }
        }
    }
    let poll_ms = latency.poll_ms.to_string();
    eprintln!("polling every {poll_ms} ms");
    if let Measured::Row(row) = one(&program, latency, &directory, &["--poll-ms", &poll_ms])? {
        rows.push(format!("| polling, {poll_ms} ms | pread | {row} |"));
    }
    say("\nFrom the write's return to the bytes in the reader's memory, in ms:\n");
    say("| | read by | rested p50 | p99 | most | busy p50 | p99 | most |");
    say("|---|---|---|---|---|---|---|---|");
    rows.iter().for_each(|row| say(row));
    Ok(())
}

/// All, or the one that was asked for.
fn chosen<'a>(all: &'a [&'a str], only: Option<&str>) -> Result<Vec<&'a str>> {
    let wanted = all
        .iter()
        .filter(|name| only.is_none_or(|only| only == **name));
    let wanted: Vec<&str> = wanted.copied().collect();
    ensure!(
        !wanted.is_empty(),
        "there is no {}; choose of {}",
        only.unwrap_or_default(),
        all.join(", ")
    );
    Ok(wanted)
}

/// What came of one run.
#[derive(Debug, PartialEq, Eq)]
enum Measured {
    /// The figures as cells of the table.
    Row(String),
    /// Why the kernel does not load the rung.
    Refused(String),
}

fn one(program: &Path, latency: &Latency, directory: &Path, words: &[&str]) -> Result<Measured> {
    let mut command = Command::new(program);
    command.args(["--writes", &latency.writes.to_string()]);
    command.args(words).arg("--directory").arg(directory);
    let output = command.output().context("start reader_latency")?;
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => Ok(Measured::Row(row(&said)?)),
        Some(NOT_LOADED) => {
            let why = said.lines().find_map(|line| line.strip_prefix("SKIPPED "));
            Ok(Measured::Refused(why.unwrap_or_default().to_owned()))
        }
        _ => bail!(
            "reader_latency {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

/// The cells of both kinds, in ms.
fn row(said: &str) -> Result<String> {
    let mut cells = Vec::new();
    for kind in ["rested", "busy"] {
        let line = said.lines().find_map(|line| {
            let figures = line.strip_prefix("LATENCY ")?;
            figures.strip_prefix(kind)?.strip_prefix(' ')
        });
        for figure in line
            .with_context(|| format!("it said nothing of {kind}"))?
            .split(' ')
        {
            let microseconds: f64 = figure.parse().context("a figure of reader_latency")?;
            cells.push(format!("{:.3}", microseconds / 1e3));
        }
    }
    ensure!(cells.len() == 6, "figures are missing in {said}");
    Ok(cells.join(" | "))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn both_kinds_are_said_in_milliseconds_or_it_is_an_error() {
        let said = "LATENCY rested 27 1892 5333\nLATENCY busy 38517 79284 81348\n";
        let want = "0.027 | 1.892 | 5.333 | 38.517 | 79.284 | 81.348";
        assert_eq!(row(said).unwrap(), want);
        assert!(row("LATENCY rested 27 1892 5333\n").is_err());
        assert!(chosen(&FACES, Some("epoll")).is_err());
    }
}
