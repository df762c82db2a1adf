//! `cargo xtask tidy`: file length, and which room of the agent may import which.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::build::root;

/// Lines of one file at the most: a file is a room.
const LINES_MAX: usize = 600;

/// Which room of `agent/src` may import which. `base` may be imported by all; a room not named
/// here may import every room (`run`, `cli`: the wiring).
const TABLE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("plan", &[]),
    ("ticket", &[]),
    ("config", &["plan"]),
    ("line", &["ticket"]),
    ("stage", &["plan", "line", "ticket"]),
    ("encode", &["plan", "stage", "ticket"]),
    ("deliver", &["plan", "encode", "ticket"]),
    ("ledger", &["ticket"]),
    ("spool", &["plan", "encode", "ticket", "ledger"]),
    ("account", &["ledger", "ticket"]),
    ("wake", &["plan"]),
    ("roster", &["plan", "ticket"]),
    ("kube", &["plan", "roster"]),
    ("discover", &["plan", "ticket", "roster"]),
    (
        "tail",
        &[
            "plan", "line", "wake", "ticket", "ledger", "discover", "encode",
        ],
    ),
    ("machine", &[]),
    ("guard", &[]),
    ("admin", &[]),
];

/// Rooms that touch neither clock, thread, file nor socket.
const PURE: &[&str] = &[
    "plan", "line", "stage", "encode", "ticket", "ledger", "account", "spool", "roster",
];

/// What pure rooms may not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "tokio::",
    "hyper",
];

/// Checks the tree.
///
/// # Errors
/// All that is against the rules.
pub fn run() -> Result<()> {
    let mut wrong = Vec::new();
    let root = root();
    for crate_dir in ["agent", "agent-ebpf", "harness", "tests/sim", "xtask"] {
        for file in rust_files(&root.join(crate_dir))? {
            let text = fs::read_to_string(&file)?;
            let name = file
                .strip_prefix(&root)
                .unwrap_or(&file)
                .display()
                .to_string();
            if text.lines().count() > LINES_MAX {
                wrong.push(format!(
                    "{name}: over {LINES_MAX} lines; split it by purpose"
                ));
            }
            if let Some(path) = name.strip_prefix("agent/src/") {
                edges(path, &name, &text, &mut wrong);
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    eprintln!("tidy: ok");
    Ok(())
}

fn edges(path: &str, name: &str, text: &str, wrong: &mut Vec<String>) {
    let Some((room, _)) = path.split_once('/') else {
        return;
    };
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let is_test = path.contains("test") || path.contains("fixture");
    if let Some((_, may)) = TABLE.iter().find(|(of, _)| *of == room)
        && !is_test
    {
        for edge in code.split("crate::").skip(1) {
            let end = edge
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(edge.len());
            let to = &edge[..end];
            if to != room && to != "base" && !may.contains(&to) {
                wrong.push(format!("{name}: `{room}` may not import `{to}`"));
            }
        }
    }
    if PURE.contains(&room) && !is_test {
        let bad = IMPURE.iter().filter(|bad| code.contains(**bad));
        wrong.extend(bad.map(|bad| format!("{name}: `{room}` is pure and names `{bad}`")));
    }
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_against_the_table_and_a_clock_in_a_pure_room_are_found() {
        let mut wrong = Vec::new();
        edges(
            "stage/x.rs",
            "x",
            "use crate::deliver::Lane;\nInstant::now()",
            &mut wrong,
        );
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        wrong.clear();
        edges(
            "stage/x.rs",
            "x",
            "use crate::base::time::Mono;",
            &mut wrong,
        );
        assert!(wrong.is_empty());
    }
}
