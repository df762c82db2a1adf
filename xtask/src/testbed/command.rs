//! `cargo xtask testbed up|down|status`.
//!
//! 1. `up` twice starts nothing twice.
//! 2. A recorded pid counts only while its command line names the server's folder.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::cache::{Cache, make_open};
use super::query::Http;
use super::server::{Kind, Options, STOP_LIMIT, Server, group_lives, signal_group, signal_leader};
use super::step::Refused;

/// The arguments of `cargo xtask testbed`.
#[derive(Debug, Args)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build or fetch what is missing, start all servers and print their addresses.
    Up {
        /// Install a missing Go, Maven or JDK with apt-get (also when CI=true).
        #[arg(long)]
        yes: bool,
    },
    /// Stop the servers; their data stay.
    Down,
    /// Show what runs.
    Status,
}

/// What `up` remembers of a server.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pid: i32,
    port: u16,
    url: String,
}

/// Runs one `cargo xtask testbed` command.
pub fn run(command: &Command) -> Result<()> {
    let cache = Cache::open()?;
    match command.verb {
        Verb::Up { yes } => {
            let install = yes || std::env::var_os("CI").is_some_and(|value| value == "true");
            up(&cache, install)
        }
        Verb::Down => down(&cache),
        Verb::Status => status(&cache),
    }
}

fn up(cache: &Cache, install: bool) -> Result<()> {
    make_open(&cache.state())?;
    let mut failed = Vec::new();
    for kind in SERVERS {
        let dir = dir_of(cache, kind);
        if let Some(record) = running(&dir) {
            say(&format!("{:14} is up       {}", kind.name(), record.url))?;
            continue;
        }
        match start(kind, cache, &dir, install) {
            Ok((url, took)) => {
                let seconds = took.as_secs_f64();
                say(&format!(
                    "{:14} started     {url} ({seconds:.1} s)",
                    kind.name()
                ))?;
            }
            Err(error) if error.downcast_ref::<Refused>().is_some() => {
                say(&format!("{:14} skipped     {error:#}", kind.name()))?;
            }
            Err(error) => {
                say(&format!("{:14} failed      {error:#}", kind.name()))?;
                failed.push(kind.name());
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("not started: {}", failed.join(", "))
    }
}

fn start(kind: Kind, cache: &Cache, dir: &Path, install: bool) -> Result<(String, Duration)> {
    let options = Options {
        install,
        ..Options::default()
    };
    let mut server = Server::start(kind, cache, dir, 0, options)?;
    let record = Record {
        pid: server.pid,
        port: server.port,
        url: server.url.clone(),
    };
    let path = dir.join(RECORD);
    fs::write(&path, serde_json::to_vec(&record)?)
        .with_context(|| format!("write {}", path.display()))?;
    // Only now that `down` can find it may it outlive this process.
    server.detach();
    Ok((record.url, server.start_time))
}

fn down(cache: &Cache) -> Result<()> {
    for kind in SERVERS {
        let dir = dir_of(cache, kind);
        match running(&dir) {
            Some(record) => {
                let how = end(record.pid);
                say(&format!("{:14} {how}", kind.name()))?;
            }
            None => say(&format!("{:14} was not up", kind.name()))?,
        }
        fs::remove_file(dir.join(RECORD)).ok();
    }
    Ok(())
}

fn end(pid: i32) -> &'static str {
    let started = Instant::now();
    signal_leader(pid, Signal::TERM);
    while group_lives(pid) {
        if started.elapsed() > STOP_LIMIT {
            signal_group(pid, Signal::KILL);
            return "killed: it did not stop in time";
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    "stopped"
}

fn status(cache: &Cache) -> Result<()> {
    say(&format!(
        "{:14} {:6} {:>8} {:24} {}",
        "SERVER", "STATE", "PID", "URL", "DIRECTORY"
    ))?;
    for kind in SERVERS {
        let dir = dir_of(cache, kind);
        let line = match running(&dir) {
            Some(record) => {
                let state = if answers(&record.url, kind) {
                    "up"
                } else {
                    "silent"
                };
                (state, record.pid.to_string(), record.url)
            }
            None => ("down", "-".to_owned(), "-".to_owned()),
        };
        let (state, pid, url) = line;
        say(&format!(
            "{:14} {state:6} {pid:>8} {url:24} {}",
            kind.name(),
            dir.display()
        ))?;
    }
    Ok(())
}

fn answers(url: &str, kind: Kind) -> bool {
    Http::new(url)
        .and_then(|http| http.get(kind.ready_path()))
        .is_ok_and(|answer| answer.status == 200)
}

/// The record of a server whose process is alive and ours.
fn running(dir: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()?;
    let cmdline = fs::read(format!("/proc/{}/cmdline", record.pid)).ok()?;
    names_folder(&cmdline, dir).then_some(record)
}

/// Whether one argument of a NUL-separated command line lies below `dir`.
fn names_folder(cmdline: &[u8], dir: &Path) -> bool {
    let folder = format!("{}/", dir.display());
    cmdline.split(|&byte| byte == 0).any(|argument| {
        String::from_utf8_lossy(argument)
            .split_once('=')
            .is_some_and(|(_, value)| value.starts_with(&folder))
    })
}

fn dir_of(cache: &Cache, kind: Kind) -> PathBuf {
    cache.state().join(kind.name())
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("write to standard output")
}

const SERVERS: [Kind; 3] = [Kind::Loki, Kind::Elasticsearch, Kind::OpenSearch];
const RECORD: &str = "server.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_line_below_our_folder_is_ours() {
        let dir = Path::new("/c/state/loki");
        let table: [(&[u8], bool); 5] = [
            (b"/k/loki\0-config.file=/c/state/loki/loki.yaml\0", true),
            (b"java\0-Epath.data=/c/state/loki/data\0", true),
            (b"/k/loki\0-config.file=/c/state/loki2/loki.yaml\0", false),
            (b"vim\0/c/state/loki/loki.yaml\0", false),
            (b"", false),
        ];
        for (cmdline, want) in table {
            assert_eq!(names_folder(cmdline, dir), want);
        }
    }
}
