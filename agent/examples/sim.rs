//! Plays seeds of the simulator: `sim --seeds N` plays 0..N, `sim --seed N` prints one's trace.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = words.get(1).and_then(|word| word.parse::<u64>().ok());
    match (words.first().map(String::as_str), number) {
        (Some("--seed"), Some(seed)) => match tailwake::sim::run(seed, true) {
            Ok(summary) => {
                for line in &summary.trace {
                    writeln!(out, "{line}")?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                writeln!(out, "{error}")?;
                Ok(ExitCode::FAILURE)
            }
        },
        (Some("--seeds"), Some(seeds)) => {
            let mut failed = 0;
            let (mut records, mut again, mut disordered) = (0, 0, 0);
            for seed in 0..seeds {
                match tailwake::sim::run(seed, false) {
                    Ok(summary) => {
                        records += summary.records;
                        again += summary.again;
                        disordered += summary.disordered;
                    }
                    Err(error) => {
                        failed += 1;
                        writeln!(out, "seed {seed}: {error}")?;
                    }
                }
            }
            writeln!(
                out,
                "{seeds} seeds, {failed} failed, {records} records, {again} sent again, \
                 {disordered} out of order after a fault"
            )?;
            Ok(ExitCode::from(u8::from(failed > 0)))
        }
        _ => {
            writeln!(io::stderr(), "sim --seeds N | --seed N")?;
            Ok(ExitCode::from(2))
        }
    }
}
