//! Build, run, test and measure Tailwake.
//!
//! ```text
//! cargo xtask run [--for 20s]
//! cargo xtask bench backlog|steady
//! ```

use clap::Parser;
use xtask::{bench, run};

/// The command line of `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure Tailwake")]
enum Task {
    /// A demo node, the agent on it, and the account of every line.
    Run(run::Run),
    /// CPU seconds per GB, memory and latency, each line checked.
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Run(run) => run::run(&run),
        Task::Bench(bench) => bench::run(&bench),
    }
}
