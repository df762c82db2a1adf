//! Proves the wake room on the running kernel, as `cargo xtask kernels` has it proven in QEMU.
//!
//! ```text
//! wake_proof matrix --directory DIR                              which writes each rung announces
//! wake_proof races --directory DIR --rung fexit --count 10000    none of them stays unread
//! wake_proof tax --directory DIR --others DIR,DIR                what each rung costs other processes
//! ```
#![expect(clippy::print_stdout, reason = "an example prints")]

mod matrix;
mod races;
mod tax;
mod ticks;
mod ways;

use std::path::PathBuf;

use clap::Parser;
use tailwake::plan::RungChoice;
use tailwake::wake::Rung;

/// The exit code for a rung that the kernel refuses.
const NOT_LOADED: i32 = 2;

#[derive(Debug, Parser)]
enum Task {
    /// Which writes each rung announces on the directory's file system.
    Matrix {
        /// Where the files are made.
        #[arg(long)]
        directory: PathBuf,
    },
    /// Bursts of appends against the arming reader; one that stays unread is a failure.
    Races {
        /// Where the files are made.
        #[arg(long)]
        directory: PathBuf,
        /// The rung.
        #[arg(long)]
        rung: String,
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        count: u64,
    },
    /// What each rung adds to other processes' appends, reads, opens and writes to pipes.
    Tax {
        /// Where the watched file is made.
        #[arg(long)]
        directory: PathBuf,
        /// Directories on other file systems.
        #[arg(long, value_delimiter = ',')]
        others: Vec<PathBuf>,
        /// How often all is measured; the median difference counts.
        #[arg(long, default_value_t = 1)]
        rounds: usize,
        /// The clock counts instructions (QEMU with -icount shift=0).
        #[arg(long)]
        counted: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Matrix { directory } => matrix::run(&directory),
        Task::Tax {
            directory,
            others,
            rounds,
            counted,
        } => tax::Tax {
            directory: &directory,
            others: &others,
            rounds,
            counted,
        }
        .run(),
        Task::Races {
            directory,
            rung,
            count,
        } => {
            let named = Rung::named(&rung);
            let rung = named.ok_or_else(|| anyhow::anyhow!("there is no rung {rung}"))?;
            let outcome = races::run(rung, &directory, count)?;
            println!("{outcome}");
            if matches!(outcome, races::Outcome::Refused(_)) {
                std::process::exit(NOT_LOADED);
            }
            anyhow::ensure!(outcome.is_clean(), "the rung left a burst unread");
            Ok(())
        }
    }
}

/// The choice that takes this rung alone.
fn choice(rung: Rung) -> RungChoice {
    match rung {
        Rung::FexitPerformWrite => RungChoice::Fexit,
        Rung::TracepointBtf => RungChoice::TpBtf,
        Rung::RawTracepoint => RungChoice::RawTp,
        Rung::Inotify => RungChoice::Inotify,
        Rung::SweepOnly => RungChoice::Sweep,
    }
}
