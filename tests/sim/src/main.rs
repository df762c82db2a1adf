//! Plays seeds: `sim --seeds N [--first]` plays 0..N on all processors, to the first failure
//! if so wished; `sim --seed N` prints one's trace.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = words.get(1).and_then(|word| word.parse::<u64>().ok());
    match (words.first().map(String::as_str), number) {
        (Some("--seed"), Some(seed)) => match sim::run(seed, true) {
            Ok(summary) => {
                for line in &summary.trace {
                    writeln!(out, "{line}")?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                writeln!(out, "{error}")?;
                Ok(ExitCode::from(sim::FAILED))
            }
        },
        (Some("--seeds"), Some(seeds)) => {
            let (total, failed) = sim::run_all(seeds, words.iter().any(|word| word == "--first"));
            for (seed, error) in failed.iter().take(20) {
                writeln!(out, "seed {seed}: {error}")?;
            }
            writeln!(out, "{total}, {} failed", failed.len())?;
            Ok(ExitCode::from(if failed.is_empty() {
                0
            } else {
                sim::FAILED
            }))
        }
        _ => {
            writeln!(io::stderr(), "sim --seeds N [--first] | --seed N")?;
            Ok(ExitCode::from(2))
        }
    }
}
