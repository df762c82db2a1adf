//! Build, run, test and measure Tailwake.
//!
//! ```text
//! cargo xtask testbed up|down|status
//! ```

use clap::Parser;
use xtask::testbed;

/// The command line of `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure Tailwake")]
enum Task {
    /// Real Loki, Elasticsearch and OpenSearch on loopback.
    Testbed(testbed::Command),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Testbed(command) => testbed::run(&command),
    }
}
