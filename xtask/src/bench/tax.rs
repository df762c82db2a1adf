//! `cargo xtask bench tax`: what each wake rung costs other processes, an append, a read, an open.
//!
//! ```text
//! wake_proof tax on this kernel                              -> ns           -> table
//! wake_proof tax in QEMU that counts instructions, per kernel -> instructions -> table, limits -> exit
//! ```
//!
//! 1. Nothing is estimated: a cell is an operation with the agent's own probes less the same without.
//! 2. Limits are in instructions, so only the guests are judged; the host's ns stand beside them.
//! 3. What is known to cost more has a reason and a limit of its own: it is said, and may not grow.
//! 4. inotify and the directory watches are shown, and have no limit: their price is the kernel's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::process::say;

use crate::build::{self, target};
use crate::kernels::{self, SERIES};

/// Options of `cargo xtask bench tax`.
#[derive(Debug, Args)]
pub(super) struct Tax {
    /// Only this machine's own kernel, in ns.
    #[arg(long, conflicts_with = "series")]
    here: bool,
    /// Only this stock kernel in QEMU, in instructions; this machine and Debian's two without it.
    #[arg(long)]
    series: Vec<String>,
    /// How often this machine measures all; the median difference counts.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Where this machine's watched file is made, in place of the target folder.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Seconds after which a guest is ended.
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// Install missing Debian packages without asking (also when CI=true).
    #[arg(long)]
    yes: bool,
}

/// Measures, prints the tables, and fails when a probe costs more than it may.
pub(super) fn run(tax: &Tax) -> Result<()> {
    build::probes(tax.yes)?;
    let mut passed = Vec::new();
    if tax.series.is_empty() {
        let said = here(tax)?;
        for table in Table::of(said.lines().map(str::to_owned)) {
            say(&format!("\nThis machine's kernel, {}:\n", table.title()));
            say(&table.markdown());
        }
    }
    let series = match (tax.here, &tax.series[..]) {
        (true, _) => Vec::new(),
        (false, []) => SERIES.map(str::to_owned).to_vec(),
        (false, chosen) => chosen.to_vec(),
    };
    if !series.is_empty() {
        kernels::tools(tax.yes)?;
    }
    for series in series {
        let counted = kernels::counted(&series, &cases(), tax.limit)?;
        let tables = Table::of(counted.lines.into_iter());
        ensure!(tables.len() == FILES.len(), "the guest left a case out");
        for table in tables {
            say(&format!(
                "\nLinux {}, {}:\n",
                counted.release,
                table.title()
            ));
            say(&table.markdown());
            for (what, known) in table.beyond() {
                if known {
                    say(&format!("Known to be over the limit: {what} ({KNOWN_WHY})"));
                } else {
                    passed.push(format!("{}: {what}", counted.release));
                }
            }
        }
    }
    if !passed.is_empty() {
        bail!("over the limit:\n  {}", passed.join("\n  "));
    }
    Ok(())
}

/// The file systems of the guest.
const FILES: [&str; 4] = ["ext4", "xfs", "btrfs", "tmpfs"];

/// One for each file system, with the others beside it.
fn cases() -> Vec<String> {
    let case = |files: &str| {
        let others = FILES.iter().filter(|other| **other != files);
        let others: Vec<String> = others.map(|other| format!("/m/{other}")).collect();
        let others = others.join(",");
        format!("{files} wake_proof tax --counted --others {others}")
    };
    FILES.iter().map(|files| case(files)).collect()
}

/// What `wake_proof tax` says on this machine.
fn here(tax: &Tax) -> Result<String> {
    let proof = kernels::build_proof()?;
    let directory = tax
        .directory
        .clone()
        .unwrap_or_else(|| target().join("tax"));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("create {}", directory.display()))?;
    let mut command = Command::new(proof);
    command.args(["tax", "--rounds", &tax.rounds.to_string()]);
    command.arg("--directory").arg(&directory);
    if is_other(&directory, Path::new(SHARED_MEMORY)) {
        command.args(["--others", SHARED_MEMORY]);
    }
    eprintln!("measuring {} rounds on this machine", tax.rounds);
    let said = command.output().context("start wake_proof")?;
    ensure!(
        said.status.success(),
        "wake_proof tax failed: {}",
        String::from_utf8_lossy(&said.stderr).trim()
    );
    Ok(String::from_utf8(said.stdout)?)
}

/// A tmpfs that every Linux has.
const SHARED_MEMORY: &str = "/dev/shm";

fn is_other(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    device(other).is_some() && device(one) != device(other)
}

/// Columns: what is measured with, and how the column is headed.
const COLUMNS: [(&str, &str); 7] = [
    ("none", "no agent"),
    ("none-again", "again"),
    ("directory", "directory watch"),
    ("inotify", "inotify"),
    ("raw_tp", "raw_tp"),
    ("tp_btf", "tp_btf"),
    ("fexit", "fexit"),
];

/// Columns that limits hold for.
const PROBES: [&str; 3] = ["raw_tp", "tp_btf", "fexit"];

/// Rows in their order: the cell, its name for people, and what it may cost at the most.
const ROWS: [(&str, &str, Option<i64>); 12] = [
    ("append-watched", "append, event pending", Some(400)),
    ("append-fired", "append that fires", Some(1_000)),
    ("append-unwatched", "append, unwatched", Some(250)),
    (
        "append-shared",
        "append, unwatched, filter byte shared",
        None,
    ),
    ("append-on-", "append on ", Some(250)),
    ("read-watched", "read", Some(0)),
    ("read-unwatched", "read, unwatched", Some(0)),
    ("open-watched", "open + close", Some(0)),
    ("open-unwatched", "open + close, unwatched", Some(0)),
    ("pipe", "write to a pipe", Some(0)),
    ("reader-arm", "the reader arms", None),
    ("reader-drain", "the reader takes the event", None),
];

/// Known to be over: file system, rung, cell, and the limit in place of the row's.
const KNOWN: [(&str, &str, &str, i64); 3] = [
    ("xfs", "raw_tp", "append-watched", 750),
    ("xfs", "raw_tp", "append-fired", 1_350),
    ("xfs", "raw_tp", "append-unwatched", 400),
];

/// Why.
const KNOWN_WHY: &str = "this tracepoint names no inode: without types each of the three pointers to \
                         its number, and then position and length, is read by a helper";

/// The unit of the guests.
const INSTRUCTIONS: &str = "instructions";

/// What two measurements without an agent may differ by, in instructions.
const NOISE: i64 = 10;

/// One file system's figures.
#[derive(Debug, Default)]
struct Table {
    /// The file system that is watched; empty where the guest's `CASE` does not say it.
    files: String,
    unit: String,
    /// By column and cell.
    figures: BTreeMap<String, BTreeMap<String, i64>>,
    /// Columns that there are none of, and why.
    skipped: BTreeMap<String, String>,
}

impl Table {
    /// All that these lines hold.
    fn of(lines: impl Iterator<Item = String>) -> Vec<Self> {
        let (mut tables, mut files) = (Vec::new(), String::new());
        for line in lines {
            let (key, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let table = match key {
                "CASE" => {
                    let name = rest.split(' ').next();
                    name.unwrap_or_default().clone_into(&mut files);
                    continue;
                }
                "UNIT" => {
                    tables.push(Self {
                        files: files.clone(),
                        unit: rest.to_owned(),
                        ..Self::default()
                    });
                    continue;
                }
                _ => match tables.last_mut() {
                    Some(table) => table,
                    None => continue,
                },
            };
            table.hear(key, rest);
        }
        tables
    }

    fn hear(&mut self, key: &str, rest: &str) {
        match key {
            "TAX" => {
                let mut words = rest.split(' ');
                if let (Some(column), Some(cell), Some(Ok(figure))) =
                    (words.next(), words.next(), words.next().map(str::parse))
                {
                    let cells = self.figures.entry(column.to_owned()).or_default();
                    cells.insert(cell.to_owned(), figure);
                }
            }
            "SKIPPED" => {
                let (rung, why) = rest.split_once(' ').unwrap_or((rest, ""));
                self.skipped.insert(rung.to_owned(), why.to_owned());
            }
            _ => {}
        }
    }

    fn title(&self) -> String {
        let Self { files, unit, .. } = self;
        if files.is_empty() {
            return unit.clone();
        }
        format!("{files}, {unit}")
    }

    /// Cells with names and limits, in order.
    fn rows(&self) -> Vec<(String, String, Option<i64>)> {
        let mut rows = Vec::new();
        for (cell, name, limit) in ROWS {
            if !cell.ends_with('-') {
                rows.push((cell.to_owned(), name.to_owned(), limit));
                continue;
            }
            let known = self
                .figures
                .get("none")
                .into_iter()
                .flat_map(BTreeMap::keys);
            let others = known.filter_map(|known| known.strip_prefix(cell));
            rows.extend(others.map(|on| (format!("{cell}{on}"), format!("{name}{on}"), limit)));
        }
        rows
    }

    fn figure(&self, column: &str, cell: &str) -> Option<i64> {
        self.figures.get(column)?.get(cell).copied()
    }

    fn markdown(&self) -> String {
        let shown = |(column, _): &&(&str, &str)| self.figures.contains_key(*column);
        let columns: Vec<_> = COLUMNS.iter().filter(shown).collect();
        let mut text = String::from("| |");
        columns.iter().for_each(|(_, head)| {
            let _ = write!(text, " {head} |");
        });
        // Limits are in instructions.
        let judged = self.unit == INSTRUCTIONS;
        let (head, line) = if judged {
            (" at most |", "---|")
        } else {
            ("", "")
        };
        let _ = writeln!(text, "{head}\n|---|{}{line}", "---|".repeat(columns.len()));
        for (cell, name, limit) in self.rows() {
            let _ = write!(text, "| {name} |");
            for (column, _) in &columns {
                let _ = match self.figure(column, &cell) {
                    Some(figure) if *column == "none" => write!(text, " {figure} |"),
                    Some(figure) => write!(text, " {figure:+} |"),
                    None => write!(text, " |"),
                };
            }
            let _ = match limit.filter(|_| judged) {
                Some(limit) => writeln!(text, " {limit} |"),
                None if judged => writeln!(text, " |"),
                None => writeln!(text),
            };
        }
        for (rung, why) in &self.skipped {
            let _ = writeln!(text, "\nNot {rung}: {why}");
        }
        text
    }

    /// What a probe costs more than it may, and whether it is known and within its own limit.
    fn beyond(&self) -> Vec<(String, bool)> {
        let mut beyond = Vec::new();
        for (cell, name, limit) in self.rows() {
            let Some(limit) = limit else { continue };
            let limit = limit.max(NOISE);
            for rung in PROBES {
                if let Some(figure) = self.figure(rung, &cell).filter(|figure| *figure > limit) {
                    let what = format!("{name} on {}, {rung}: {figure} > {limit}", self.files);
                    beyond.push((what, self.is_known(rung, &cell, figure)));
                }
            }
        }
        beyond
    }

    fn is_known(&self, rung: &str, cell: &str, figure: i64) -> bool {
        KNOWN.iter().any(|(files, by, of, limit)| {
            (*files, *by, *of) == (&*self.files, rung, cell) && figure <= *limit
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
CASE ext4 wake_proof tax --counted
UNIT instructions
SKIPPED tp_btf unknown type
TAX none append-unwatched 2318
TAX none append-on-xfs 2980
TAX none read-watched 5541
TAX fexit append-unwatched 244
TAX fexit append-on-xfs 0
TAX fexit read-watched 5
TAX inotify append-fired 2820";

    fn tables(said: &str) -> Vec<Table> {
        Table::of(said.lines().map(str::to_owned))
    }

    #[test]
    fn a_case_is_a_table_with_a_row_for_each_other_file_system() {
        let tables = tables(SAID);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].title(), "ext4, instructions");
        let text = tables[0].markdown();
        assert!(
            text.contains("| append, unwatched | 2318 | | +244 | 250 |"),
            "{text}"
        );
        assert!(
            text.contains("| append on xfs | 2980 | | +0 | 250 |"),
            "{text}"
        );
        assert!(text.contains("Not tp_btf: unknown type"), "{text}");
    }

    #[test]
    fn only_probes_are_judged_and_noise_is_none() {
        assert_eq!(tables(SAID)[0].beyond(), []);
        let dear = SAID.replace("append-unwatched 244", "append-unwatched 251");
        let what = "append, unwatched on ext4, fexit: 251 > 250".to_owned();
        assert_eq!(tables(&dear)[0].beyond(), [(what, false)]);
    }

    #[test]
    fn what_is_known_may_not_grow() {
        let said =
            |figure| format!("CASE xfs x\nUNIT instructions\nTAX raw_tp append-fired {figure}");
        let known = |figure| tables(&said(figure))[0].beyond()[0].1;
        assert!(known(1_350));
        assert!(!known(1_351));
    }
}
