//! One long outside command, with progress lines and an end.
//!
//! 1. Its output goes to a file; the terminal sees a line every ten seconds.
//! 2. It never runs longer than its limit: then it is killed and reported.
//! 3. A registry that refuses a version is told apart from a build that fails.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The registry does not serve this version: skip the server, nothing is broken here.
#[derive(Debug)]
pub struct Refused {
    /// What was asked for.
    pub what: String,
    /// The registry's own words.
    pub answer: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the registry refuses {}: {}", self.what, self.answer)
    }
}

impl std::error::Error for Refused {}

/// Runs `command` to its end, at most `limit` long, saying now and then how it goes.
pub(super) fn run(what: &str, command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    let started = Instant::now();
    eprintln!("testbed: {what} ...");
    let mut child = command.spawn().with_context(|| format!("start {what}"))?;
    let mut said = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!(
                "{what}: not done after {} s, see {}",
                limit.as_secs(),
                log.display()
            );
        }
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            eprintln!(
                "testbed: {what}: {} s {}",
                started.elapsed().as_secs(),
                last_line(log)
            );
        }
        std::thread::sleep(POLL_EVERY);
    };
    if status.success() {
        eprintln!(
            "testbed: {what}: done in {:.1} s",
            started.elapsed().as_secs_f64()
        );
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    if let Some(answer) = refusal(&text) {
        return Err(Refused {
            what: what.to_owned(),
            answer: answer.to_owned(),
        }
        .into());
    }
    bail!("{what} failed ({status}):\n{}", tail(&text, TAIL_LINES))
}

/// The line in which a Go proxy or Maven repository says that it does not serve something.
fn refusal(text: &str) -> Option<&str> {
    const SIGNS: [&str; 7] = [
        "403 Forbidden",
        "410 Gone",
        "404 Not Found",
        "status code: 403",
        "Could not find artifact",
        "during a previous attempt",
        "status code: 451",
    ];
    text.lines()
        .find(|line| SIGNS.iter().any(|sign| line.contains(sign)))
}

/// The last `count` lines of a text.
pub(super) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().next_back().unwrap_or_default();
    line.chars().take(80).collect()
}

const PROGRESS_EVERY: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(100);
const TAIL_LINES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_failures() {
        let table = [
            ("go: x@v1: reading http://r/x: 403 Forbidden", true),
            ("[ERROR] Could not find artifact a:b:zip:1 in central", true),
            ("main.go:3:1: undefined: x", false),
            ("", false),
        ];
        for (text, want) in table {
            assert_eq!(refusal(text).is_some(), want, "{text}");
        }
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
        assert_eq!(tail("", 5), "");
    }
}
