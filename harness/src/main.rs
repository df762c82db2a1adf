//! The harness's own processes: a load generator and a sink for the benches.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use harness::{load, process, sink};

/// A process of the benches.
#[derive(Debug, Parser)]
#[command(name = "harness")]
enum Task {
    /// Writes a backlog and prints `lines bytes`.
    Backlog {
        /// Root of the tree.
        root: PathBuf,
        /// Bytes in all.
        bytes: u64,
    },
    /// Writes at a steady rate and prints `lines bytes`.
    Steady {
        /// Root of the tree.
        root: PathBuf,
        /// Lines a second.
        rate: u64,
        /// How long.
        seconds: u64,
    },
    /// Receives until its standard input ends; prints its port first.
    Sink,
}

fn main() -> Result<()> {
    let (lines, bytes) = match Task::parse() {
        Task::Backlog { root, bytes } => load::backlog(&root, bytes)?,
        Task::Steady {
            root,
            rate,
            seconds,
        } => load::steady(&root, rate, Duration::from_secs(seconds))?,
        Task::Sink => {
            let server = sink::start(0)?;
            process::say(&server.address().port().to_string());
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
            return Ok(());
        }
    };
    process::say(&format!("{lines} {bytes}"));
    Ok(())
}
