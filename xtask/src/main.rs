//! Build, run, test and measure Tailwake.
//!
//! ```text
//! cargo xtask build [--debug] [--yes]
//! cargo xtask run [--for 20s] [--logs DIR] [--loki URL] [--elasticsearch URL] [--testbed]
//! cargo xtask test [--all]
//! cargo xtask bench backlog|steady|idle|fair|found|memory|tax|wake
//! cargo xtask testbed up|down|status
//! cargo xtask path [--rung tp_btf] [--io pread] [--readers 4]
//! cargo xtask kernels [--series 6.12]
//! cargo xtask node test|up|down|status
//! cargo xtask sim [--seeds 200] [--seed N] [--defences [--only WORD]]
//! cargo xtask sim --list | --scenarios | --scenario R7 [--seed N]
//! cargo xtask tidy
//! ```

use clap::Parser;
use xtask::{bench, build, kernels, node, path, run, sim, testbed, tests, tidy};

/// The command line of `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure Tailwake")]
enum Task {
    /// The probes, and the agent around them.
    Build(build::Build),
    /// A demo node, the agent on it, and the account of every line.
    Run(run::Run),
    /// The suites, with the end-to-end test on real servers.
    Test(tests::Test),
    /// CPU seconds per GB, memory and latency, each line checked.
    Bench(bench::Bench),
    /// Real Loki, Elasticsearch and OpenSearch on loopback.
    Testbed(testbed::Command),
    /// The agent on one wake rung after the other: no burst is left unread.
    Path(path::Path),
    /// The same on a stock kernel in QEMU, the top rung among them.
    Kernels(kernels::Kernels),
    /// A real Kubernetes of one node, with the agent on it as a DaemonSet.
    Node(node::Command),
    /// The simulator: faults by seed, every record accounted for; and what must turn it red.
    Sim(sim::Sim),
    /// The rules that a compiler cannot keep.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Build(build) => build::run(&build).map(drop),
        Task::Run(run) => run::run(&run),
        Task::Test(test) => tests::run(&test),
        Task::Bench(bench) => bench::run(&bench),
        Task::Testbed(command) => testbed::run(&command),
        Task::Path(path) => path::run(&path),
        Task::Kernels(kernels) => kernels::run(&kernels),
        Task::Node(command) => node::run(&command),
        Task::Sim(sim) => sim::run(&sim),
        Task::Tidy => tidy::run(),
    }
}
