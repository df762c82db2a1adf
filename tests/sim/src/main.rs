//! Plays seeds and scenarios.
//!
//! `--seeds N [--first]` plays 0..N on all processors, to the first failure if so wished; `--seed N`
//! prints one's trace. `--scenarios` plays all scenarios, `--scenario R7 [--first]` one, with
//! `--seed N` one seed of it with its trace; `--list` says what they are.

use std::io::{self, Write};
use std::process::ExitCode;

use sim::{FAILED, Scenario, Summary, Total};

/// What is to be played.
enum Play {
    Seed(u64),
    Seeds(u64),
    Scenarios,
    Scenario(&'static Scenario),
    ScenarioSeed(&'static Scenario, u64),
    List,
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let first = words.iter().any(|word| word == "--first");
    let Some(play) = parse(&words) else {
        let usage = "sim --seeds N [--first] | --seed N | --scenarios | --scenario R7 [--seed N] \
                     [--first] | --list";
        writeln!(io::stderr(), "{usage}")?;
        return Ok(ExitCode::from(2));
    };
    let red = match play {
        Play::Seed(seed) => trace(&mut out, sim::run(seed, true))?,
        Play::ScenarioSeed(scenario, seed) => trace(&mut out, scenario.run(seed, true))?,
        Play::Seeds(seeds) => report(&mut out, "", sim::run_all(seeds, first))?,
        Play::Scenario(one) => report(&mut out, one.name, sim::run_scenario(one, first))?,
        Play::Scenarios => {
            let mut red = false;
            for one in sim::ALL {
                red |= report(&mut out, one.name, sim::run_scenario(one, first))?;
            }
            red
        }
        Play::List => {
            for one in sim::ALL {
                writeln!(out, "{:<4} {}", one.name, one.about)?;
            }
            false
        }
    };
    Ok(ExitCode::from(if red { FAILED } else { 0 }))
}

fn parse(words: &[String]) -> Option<Play> {
    let value = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1)
    };
    let number = |flag| value(flag).and_then(|word| word.parse::<u64>().ok());
    if let Some(name) = value("--scenario") {
        let scenario = Scenario::find(name)?;
        return Some(match number("--seed") {
            Some(seed) => Play::ScenarioSeed(scenario, seed),
            None => Play::Scenario(scenario),
        });
    }
    match words.first().map(String::as_str) {
        Some("--seed") => number("--seed").map(Play::Seed),
        Some("--seeds") => number("--seeds").map(Play::Seeds),
        Some("--scenarios") => Some(Play::Scenarios),
        Some("--list") => Some(Play::List),
        _ => None,
    }
}

/// Prints a run's trace; says whether it failed.
fn trace(out: &mut impl Write, done: Result<Summary, String>) -> io::Result<bool> {
    let red = done.is_err();
    match done {
        Ok(summary) => summary
            .trace
            .iter()
            .try_for_each(|line| writeln!(out, "{line}"))?,
        Err(error) => writeln!(out, "{error}")?,
    }
    Ok(red)
}

/// Prints what many runs came to; says whether one failed.
fn report(
    out: &mut impl Write,
    name: &str,
    (total, failed): (Total, Vec<(u64, String)>),
) -> io::Result<bool> {
    for (seed, error) in failed.iter().take(20) {
        writeln!(out, "{name} seed {seed}: {error}")?;
    }
    let space = if name.is_empty() { "" } else { " " };
    writeln!(out, "{name}{space}{total}, {} failed", failed.len())?;
    Ok(!failed.is_empty())
}
