//! `wake_selftest RUNG DIR BURSTS`: the wake protocol's stress on the running kernel.
//! Exits 0 when clean, 1 when a burst stayed unread, 2 when the kernel refused the rung.
#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tailwake::wake::Rung;
use tailwake::wake::selftest::{Outcome, run};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rung, dir, bursts] = arguments.as_slice() else {
        anyhow::bail!("usage: wake_selftest fexit|tp_btf|raw_tp|inotify DIR BURSTS");
    };
    let rung = Rung::named(rung).with_context(|| format!("no rung is named {rung}"))?;
    let outcome = run(rung, Path::new(dir), bursts.parse()?)?;
    println!("{outcome}");
    Ok(match outcome {
        Outcome::Ran(tally) if tally.is_clean() => ExitCode::SUCCESS,
        Outcome::Ran(_) => ExitCode::FAILURE,
        Outcome::Refused(_) => ExitCode::from(2),
    })
}
