//! Where the agent's time goes, by thread and room: `bench --profile`.
//!
//! ```text
//! perf record (cpu-clock) -> perf script (the agent's process) -> thread x (room | library | kernel)
//! ```
//!
//! 1. A sample belongs to the function that it hit. With inlining that is the room that called, for
//!    libraries the library: which room calls it stands in [`LIBRARIES`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::process::say;

use crate::packages::install;

/// Samples a second of CPU time; a prime, so that it beats with no timer.
const RATE: &str = "1997";

/// Rows below this share are summed as one.
const SHARE_MIN: f64 = 0.005;

/// Libraries by their symbols' first word, and the one room that calls them.
const LIBRARIES: [(&str, &str); 9] = [
    ("snap", "encode: snappy"),
    ("flate2", "encode: gzip"),
    ("simd_json", "stage: simd-json"),
    ("prost", "encode: varints"),
    ("memchr", "newlines, searches"),
    ("regex", "stage: regex"),
    ("io_uring", "tail: io_uring"),
    ("aya", "wake: load at start"),
    ("hyper", "deliver: hyper"),
];

/// A running `perf record`.
#[derive(Debug)]
pub(super) struct Profile {
    perf: Child,
    pid: u32,
    data: PathBuf,
}

impl Profile {
    /// Begins to watch the machine: `perf record -p` would miss threads that start later.
    pub(super) fn start(pid: u32, directory: &Path) -> Result<Self> {
        if Command::new("perf").arg("--version").output().is_err() {
            install(&["linux-perf"], "perf", false)?;
        }
        let data = directory.join("perf.data");
        let perf = Command::new("perf")
            .args(["record", "-q", "-a", "-e", "cpu-clock", "-F", RATE, "-o"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start perf record")?;
        Ok(Self { perf, pid, data })
    }

    /// Ends the watch and prints the process's table.
    pub(super) fn end(mut self) -> Result<()> {
        let ended = harness::process::end(&mut self.perf, Duration::from_secs(30))?;
        if !ended || !self.data.is_file() {
            bail!("perf record failed; it needs root or kernel.perf_event_paranoid <= 0");
        }
        let script = Command::new("perf")
            .args(["script", "-F", "comm,ip,sym,dso", "--pid"])
            .arg(self.pid.to_string())
            .arg("-i")
            .arg(&self.data)
            .stderr(Stdio::null())
            .output()?;
        say(&table(&String::from_utf8_lossy(&script.stdout)));
        Ok(())
    }
}

fn table(script: &str) -> String {
    let mut rows: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut all = 0u64;
    for (thread, room) in script.lines().filter_map(sample) {
        *rows.entry((thread, room)).or_default() += 1;
        all += 1;
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
    let mut text = format!("where the time goes ({all} samples)\n");
    let mut rest = 0.0;
    for ((thread, room), samples) in rows {
        let share = samples as f64 / all.max(1) as f64;
        if share < SHARE_MIN {
            rest += share;
        } else {
            text += &format!("  {:>5.1} %  {thread:<8}  {room}\n", share * 100.0);
        }
    }
    text + &format!("  {:>5.1} %  the rest\n", rest * 100.0)
}

/// Thread (without its number) and room of a line `comm address symbol (dso)`.
fn sample(line: &str) -> Option<(String, String)> {
    let (thread, rest) = line.trim().split_once(char::is_whitespace)?;
    let (_, symbol) = rest.trim().split_once(' ')?;
    let thread = thread.trim_end_matches(|c: char| c == '-' || c.is_ascii_digit());
    let thread = if thread == "tailwake" {
        "control"
    } else {
        thread
    };
    Some((thread.to_owned(), room(symbol)))
}

fn room(symbol: &str) -> String {
    if symbol.contains("[kernel") {
        return "kernel".to_owned();
    }
    if symbol.contains("libc.so") {
        let copies = ["memmove", "memcpy", "memcmp", "memset"];
        let copy = copies.iter().any(|name| symbol.contains(name));
        return if copy { "copy, compare" } else { "libc" }.to_owned();
    }
    // `tailwake::stage::json::..`, or `<tailwake::stage::.. as ..>`.
    let path = symbol.trim_start_matches(['<', '&']);
    let mut words = path.split("::");
    let first = words.next().unwrap_or_default();
    let known = LIBRARIES.iter().find(|(name, _)| first.starts_with(name));
    match (first, words.next(), known) {
        ("tailwake", Some(room), _) => room.to_owned(),
        (_, _, Some((_, room))) => (*room).to_owned(),
        ("core" | "alloc" | "std" | "smallvec" | "hashbrown" | "foldhash", ..) => {
            "containers, std".to_owned()
        }
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_by_thread_and_room() {
        let check = |line, thread: &str, want: &str| {
            assert_eq!(sample(line), Some((thread.to_owned(), want.to_owned())));
        };
        check(
            "  encoder-0   55d0 tailwake::stage::json::JsonScratch::object (/x/tailwake)",
            "encoder",
            "stage",
        );
        check(
            "  encoder-0   55d0 snap::compress::Encoder::compress (/x/tailwake)",
            "encoder",
            "encode: snappy",
        );
        check(
            "  reader-0  ffffffff815e64d7 _copy_to_iter ([kernel.kallsyms])",
            "reader",
            "kernel",
        );
        check(
            "  tailwake  7f4ee70490c0 __memmove_avx (/usr/lib/libc.so.6)",
            "control",
            "copy, compare",
        );
    }
}
