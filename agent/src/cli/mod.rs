//! The command line.
//!
//! Exit codes: 0 = done, 1 = the agent or the check failed, 2 = the command line is wrong. `probe`
//! has its own.

mod account;
mod ask;
mod deadletter;
mod probe;
mod top;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config;
use crate::machine::allocator;
use crate::run;

/// Node log collector: woken by the kernel, read with io_uring, proven delivered.
#[derive(Debug, Parser)]
#[command(name = "tailwake", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect and deliver until SIGTERM.
    Run {
        /// The config file (native YAML; docs/config.md has every key).
        #[arg(
            long,
            short,
            value_name = "FILE",
            default_value = "/etc/tailwake/tailwake.yaml"
        )]
        config: PathBuf,
        /// How the agent's own log is written to standard error.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
        /// The least level that is logged: error, warn, info, debug, trace.
        #[arg(long, value_name = "LEVEL", default_value = "info")]
        log_level: LevelFilter,
        /// Deliver what is there at the start, print the account, and end: 0 = all of it is proven
        /// delivered, 1 = it is not.
        #[arg(long)]
        once: bool,
        /// With --once: how long it may take; what is in flight then has `limits.grace` besides.
        #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "once")]
        timeout: u64,
    },
    /// Read a config, say all that is wrong with it, and show the plan and its memory ceiling.
    Check {
        /// The config file.
        #[arg(
            long,
            short,
            value_name = "FILE",
            default_value = "/etc/tailwake/tailwake.yaml"
        )]
        config: PathBuf,
    },
    /// Print what each container has written, and what each output has of it, as a running agent knows.
    Account(account::Account),
    /// Show what outputs have refused for good.
    Deadletter(deadletter::DeadLetter),
    /// Watch the account of a running agent.
    Top(top::Top),
    /// Say which wake rungs load on this node, what covers the log roots, and what to change.
    Probe(probe::Probe),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let done =
        match Cli::parse().command {
            Command::Run {
                config,
                log_format,
                log_level,
                once,
                timeout,
            } => {
                allocator::tune();
                start_log(log_format, log_level);
                config::load(&config)
                    .map_err(anyhow::Error::from)
                    .and_then(|plan| {
                        for warning in config::warnings(&plan) {
                            tracing::warn!("{warning}");
                        }
                        let options = run::Options {
                            once_ms: once.then_some(timeout.saturating_mul(1_000)),
                            ..run::Options::default()
                        };
                        run::run(plan, options)
                    })
                    .map(code)
            }
            Command::Check { config } => config::load(&config)
                .map_err(anyhow::Error::from)
                .and_then(|plan| {
                    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
                    let page = config::check(&plan, cpus).map_err(anyhow::Error::msg)?;
                    writeln!(std::io::stdout(), "{page}")?;
                    for warning in config::warnings(&plan) {
                        writeln!(std::io::stdout(), "warning: {warning}")?;
                    }
                    Ok(ExitCode::SUCCESS)
                }),
            Command::Account(account) => account::run(&account),
            Command::Deadletter(letters) => deadletter::run(&letters),
            Command::Top(top) => top::run(&top),
            Command::Probe(probe) => return probe::run(&probe),
        };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tailwake: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn code(proven: bool) -> ExitCode {
    if proven {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn start_log(format: LogFormat, level: LevelFilter) {
    // Below `info` only our own words: what libraries say of each request would be lines to send
    // in further requests, without end, where our own log stands in the tree that we read.
    let others = level.min(LevelFilter::INFO);
    // What kube says of a request, our own words say with its cure.
    let filter = EnvFilter::new(format!("{others},kube_client=off,tailwake={level}"));
    let log = tracing_subscriber::fmt()
        // Colours in a container's log are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
