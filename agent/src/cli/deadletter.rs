//! `tailwake deadletter`: what outputs have refused for good, out of their files.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::config;
use crate::run::letters;

/// More characters of a line are not shown; `--json` has it whole.
const SHOWN_CHARS: usize = 200;

/// Options of `tailwake deadletter`.
#[derive(Debug, Args)]
pub(super) struct DeadLetter {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Say how many lines each output has refused and why, and show the last ones.
    List(List),
}

#[derive(Debug, Args)]
struct List {
    /// The config file.
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "/etc/tailwake/tailwake.yaml"
    )]
    config: PathBuf,
    /// Only this output.
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// How many of the last ones are shown, for each output.
    #[arg(long, value_name = "N", default_value_t = 10)]
    last: usize,
    /// Print all of them as they are kept: a JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Reads and prints.
///
/// # Errors
/// The config does not load, an output is not in it, or a file cannot be read.
pub(super) fn run(deadletter: &DeadLetter) -> anyhow::Result<ExitCode> {
    let Act::List(list) = &deadletter.act;
    let plan = config::load(&list.config)?;
    let names = plan.outputs.iter().map(|output| output.name.as_str());
    let names: Vec<&str> = match &list.output {
        None => names.collect(),
        Some(name) => {
            let known = names.into_iter().find(|known| known == name);
            vec![known.with_context(|| format!("the config has no output `{name}`"))?]
        }
    };
    let mut out = std::io::stdout().lock();
    for name in names {
        let dir = letters::directory(&plan.state, name);
        let files = letters::files(&dir).with_context(|| format!("list {}", dir.display()))?;
        if list.json {
            for (_, path) in &files {
                let mut file = std::fs::File::open(path)
                    .with_context(|| format!("open {}", path.display()))?;
                std::io::copy(&mut file, &mut out)?;
            }
        } else {
            show(name, &files, list.last, &mut out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(
    name: &str,
    files: &[(u64, PathBuf)],
    most: usize,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = std::collections::VecDeque::new();
    for (_, path) in files {
        let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
        for line in BufReader::new(file).lines() {
            let line = line.with_context(|| format!("read {}", path.display()))?;
            let letter: Value = serde_json::from_str(&line).unwrap_or_default();
            let reason = letter["reason"].as_str().unwrap_or("unreadable").to_owned();
            *reasons.entry(reason).or_default() += 1;
            last.push_back(letter);
            if last.len() > most {
                last.pop_front();
            }
        }
    }
    let all: u64 = reasons.values().sum();
    writeln!(out, "{name}: {all} dead letters in {} files", files.len())?;
    for (reason, count) in &reasons {
        writeln!(out, "  {count:>8}  {reason}")?;
    }
    for letter in &last {
        let text = |key: &str| shown(&letter[key]);
        writeln!(
            out,
            "  {} {} {} {}\n    {}\n    said: {}",
            text("time"),
            text("reason"),
            text("entry_time"),
            text("labels"),
            text("line"),
            text("words"),
        )?;
    }
    Ok(())
}

/// One line of a value, without what a terminal would act on.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(SHOWN_CHARS).collect()
}
