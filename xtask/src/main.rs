//! Build, run, test and measure Tailwake.
//!
//! ```text
//! cargo xtask build [--debug] [--yes]
//! cargo xtask kernels [--series 6.12]
//! cargo xtask testbed up|down|status
//! ```

use clap::Parser;
use xtask::{build, kernels, testbed};

/// The command line of `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure Tailwake")]
enum Task {
    /// The probes, and the agent around them.
    Build(build::Build),
    /// The wake rungs on a stock kernel in QEMU.
    Kernels(kernels::Kernels),
    /// Real Loki, Elasticsearch and OpenSearch on loopback.
    Testbed(testbed::Command),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Build(build) => build::run(&build).map(drop),
        Task::Kernels(kernels) => kernels::run(&kernels),
        Task::Testbed(command) => testbed::run(&command),
    }
}
