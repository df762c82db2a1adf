//! `tailwake account`: a running agent's account as a table.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::ask::{Said, Where};
use crate::account::{is_clean, table};

/// Options of `tailwake account`.
#[derive(Debug, Args)]
pub(super) struct Account {
    #[command(flatten)]
    agent: Where,
    /// Print the rows as JSON.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if something is lost, unknown, or does not add up.
    #[arg(long)]
    strict: bool,
}

/// Asks and prints.
///
/// # Errors
/// What was asked of whom, and why there is no answer.
pub(super) fn run(account: &Account) -> anyhow::Result<ExitCode> {
    let said = Said::of(account.agent.address()?)?;
    let clean = is_clean(&said.containers, &said.beyond);
    let mut out = std::io::stdout().lock();
    if account.json {
        serde_json::to_writer_pretty(&mut out, &said)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table(&said.containers, &said.beyond))?;
    }
    Ok(if clean || !account.strict {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
