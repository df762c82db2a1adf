//! The harness's own processes: a load generator and a sink for the benches, the path test, and what
//! runs in the containers of a test node.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use harness::{load, path, print, process, sink};

/// A process of benches and tests.
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
        /// So many of the files are written to as fast as it goes.
        #[arg(long, default_value_t = 0)]
        noisy: u32,
        /// Files.
        #[arg(long, default_value_t = load::FILES)]
        files: u32,
        /// Namespaces that they lie in.
        #[arg(long, default_value_t = 1)]
        namespaces: u32,
    },
    /// Makes containers of one line and prints `lines bytes`.
    Births {
        /// Root of the tree.
        root: PathBuf,
        /// How many.
        count: u32,
        /// Milliseconds from one to the next.
        every_ms: u64,
        /// Lines a second that another container writes meanwhile.
        busy: u64,
    },
    /// Receives until its standard input ends; prints its port first.
    Sink,
    /// The agent on one forced rung: bursts on sleeping files, none left unread.
    Path(path::Path),
    /// Prints numbered records and keeps a journal of them.
    Print(print::Print),
    /// Holds a pod's namespaces.
    Pause,
}

fn main() -> Result<ExitCode> {
    let (lines, bytes) = match Task::parse() {
        Task::Backlog { root, bytes } => load::backlog(&root, bytes)?,
        Task::Steady {
            root,
            rate,
            seconds,
            noisy,
            files,
            namespaces,
        } => {
            let shape = load::Shape {
                files,
                namespaces,
                noisy,
            };
            load::steady(&root, rate, Duration::from_secs(seconds), shape)?
        }
        Task::Births {
            root,
            count,
            every_ms,
            busy,
        } => load::births(&root, count, Duration::from_millis(every_ms), busy)?,
        Task::Path(path) => {
            let passed = path::run(&path)?;
            return Ok(if passed {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Task::Print(print) => return print::run(&print),
        Task::Pause => loop {
            std::thread::park();
        },
        Task::Sink => {
            let server = sink::start(0)?;
            process::say(&server.address().port().to_string());
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    process::say(&format!("{lines} {bytes}"));
    Ok(ExitCode::SUCCESS)
}
