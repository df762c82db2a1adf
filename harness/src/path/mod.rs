//! The path test: the real agent on one forced rung, bursts on files that sleep, none left unread.
//!
//! ```text
//! Node: kubelet's tree, bursts, rotations --> the agent (one rung, one face, no sweep) --> Receiver
//!   ^                                             | /status                                  |
//!   +------------- the next burst after the acknowledgement --------------------------------+
//! ```
//!
//! 1. A rung or a face that is not the demanded one fails the test with the agent's own reason.
//! 2. The next burst of a file is written only after the last one was acknowledged. A burst that is
//!    not acknowledged within the patience fails, with file and offsets.
//! 3. No sweep runs, but where it is the rung. Every wake that `/status` knows is by the demanded rung, and every container
//!    has some.
//! 4. In the closing rounds a line is written only when `/status` says that every open file sleeps,
//!    and each file must have been roused by its rung afterwards.

mod agent;
mod node;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::process::say;
use crate::receive::Receiver;
use agent::{Agent, Watched};
use node::Node;

/// Options of `harness path`.
#[derive(Debug, Clone, Args)]
pub struct Path {
    /// The agent's binary.
    #[arg(long)]
    agent: PathBuf,
    /// Where the tree is laid out; its file system is the one under test. Removed when clean.
    #[arg(long)]
    directory: PathBuf,
    /// The rung that must wake every file.
    #[arg(long)]
    rung: String,
    /// What must read: `uring` or `pread`; `refused`: pread, because the system refuses io_uring.
    #[arg(long, default_value = "uring")]
    io: String,
    /// Reader threads.
    #[arg(long, default_value_t = 1)]
    readers: u64,
    /// Bursts of one to three lines.
    #[arg(long, default_value_t = 10_000)]
    bursts: u64,
    /// Containers.
    #[arg(long, default_value_t = 192)]
    containers: u32,
    /// Seconds after which a burst counts as unread.
    #[arg(long, default_value_t = 20)]
    patience: u64,
    /// Seed of what is written when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Path {
    /// Whether the sweep is the rung: it finds, and nothing wakes.
    fn sweeps(&self) -> bool {
        self.rung == "sweep"
    }

    /// The rungs that must have woken files.
    fn wakers(&self) -> Vec<&str> {
        if self.sweeps() {
            Vec::new()
        } else {
            vec![&self.rung]
        }
    }
}

/// Runs the test and prints its verdict; says whether it passed.
///
/// # Errors
/// The tree cannot be laid out, or the agent cannot be started or ended.
pub fn run(path: &Path) -> Result<bool> {
    let name = format!(
        "path {} {} readers {} in {}",
        path.rung,
        path.io,
        path.readers,
        path.directory.display()
    );
    let directory = path.directory.join(format!("path-{}", std::process::id()));
    let root = directory.join("node");
    let patience = Duration::from_secs(path.patience);
    let receiver = Receiver::start(Vec::new())?;
    let mut node = Node::lay_out(&root, path.containers, path.seed)?;
    let mut agent = Agent::start(path, &directory, &root.join("pods"), receiver.address())?;
    let begun = Instant::now();
    let tested = test(path, patience, &mut node, &mut agent, &receiver);
    let took = begun.elapsed().as_secs_f64();
    match tested {
        Ok(said) => {
            agent.end()?;
            std::fs::remove_dir_all(&directory).context("remove the tree")?;
            say(&format!("PASS {name}: {said}, {took:.1} s"));
            Ok(true)
        }
        Err(error) => {
            let words = agent.last_words();
            let kept = directory.display();
            say(&format!(
                "FAIL {name}: {error:#}; the tree is kept in {kept}\n{words}"
            ));
            Ok(false)
        }
    }
}

fn test(
    path: &Path,
    patience: Duration,
    node: &mut Node,
    agent: &mut Agent,
    receiver: &Receiver,
) -> Result<String> {
    let status = agent.settled(path.containers, patience)?;
    demand(path, &status)?;
    node.write(path.bursts, patience, receiver.tally())
        .map_err(|unread| explain(&unread, agent))?;
    for _ in 0..CLOSING_ROUNDS {
        close(path, patience, node, agent, receiver)?;
    }
    let status = agent.settled(path.containers, patience)?;
    demand(path, &status)?;
    let watched = Watched::all(&status);
    ensure!(
        watched.len() == node.logs.len(),
        "/status shows {} containers, {} are there",
        watched.len(),
        node.logs.len()
    );
    for one in &watched {
        let by = by_rung(&one.wakes);
        ensure!(
            one.rung == path.rung && by == path.wakers(),
            "{} is watched by {} and was woken by {by:?}: {}",
            one.pod,
            one.rung,
            one.wakes
        );
    }
    node.judge(receiver.tally())?;
    let roused = status["roused"].as_u64().unwrap_or(0);
    ensure!(
        path.sweeps() || roused >= path.bursts / ROUSED_SHARE,
        "only {roused} of {} bursts found their file asleep: the wakes prove too little",
        path.bursts
    );
    let how = if path.sweeps() { "found" } else { "roused" };
    Ok(format!(
        "{} bursts, {} lines, {} rotations, none unread; wakes {}, of sleeping files {roused}, \
         all {} files {how} in each of {CLOSING_ROUNDS} closing rounds; wake source {}",
        path.bursts,
        node.lines(),
        node.rotations,
        status["wakes_by_rung"],
        node.logs.len(),
        status["wake_source"],
    ))
}

/// A burst on every file while all sleep: the rung must rouse each.
fn close(
    path: &Path,
    patience: Duration,
    node: &mut Node,
    agent: &mut Agent,
    receiver: &Receiver,
) -> Result<()> {
    let before = Watched::all(&agent.settled(path.containers, patience)?);
    node.round(patience, receiver.tally())
        .map_err(|unread| explain(&unread, agent))?;
    let after = Watched::all(&agent.settled(path.containers, patience)?);
    for log in &node.logs {
        let inode = log.inode()?;
        let roused = |all: &[Watched]| {
            let of = all.iter().find(|one| one.pod == log.container.pod)?;
            of.roused(inode, &path.rung)
        };
        let (was, is) = (roused(&before), roused(&after));
        ensure!(
            was.is_some() && (is > was || path.sweeps()),
            "{} slept, was written to and was not woken by {}: {was:?}, then {is:?}",
            log.path.display(),
            path.rung
        );
    }
    Ok(())
}

/// What holds at every time: rung, face, readers, nothing found late, nothing refused.
fn demand(path: &Path, status: &Value) -> Result<()> {
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    ensure!(
        text("rung") == path.rung,
        "the agent stands on {}: {}",
        text("rung"),
        status["rungs_skipped"]
    );
    let face = if path.io == "uring" {
        "io_uring"
    } else {
        "pread"
    };
    ensure!(text("io") == face, "the agent reads by {}", text("io"));
    ensure!(
        status["readers"].as_u64() == Some(path.readers),
        "the agent has {} readers",
        status["readers"]
    );
    let others = by_rung(&status["wakes_by_rung"]);
    ensure!(
        others.iter().all(|rung| path.wakers().contains(rung)),
        "files were woken by {others:?}: {}",
        status["wakes_by_rung"]
    );
    ensure!(
        path.sweeps() || status["sweeps"]["files"].as_u64() == Some(0),
        "sweeps of files: {}",
        status["sweeps"]["files"]
    );
    let source = &status["wake_source"];
    for (what, count) in [
        ("found late by a sweep", &status["late_finds"]),
        ("refused events", &source["refused"]),
        ("inotify overflows", &source["overflows"]),
    ] {
        ensure!(count.as_u64() == Some(0), "{what}: {count}");
    }
    Ok(())
}

fn by_rung(wakes: &Value) -> Vec<&str> {
    let rungs = wakes.as_object().into_iter().flatten();
    rungs.map(|(rung, _)| rung.as_str()).collect()
}

/// What is known of a burst that nobody read.
fn explain(unread: &node::Unread, agent: &mut Agent) -> anyhow::Error {
    let status = match agent.status() {
        Ok(status) => status,
        Err(error) => return anyhow::anyhow!("{unread}; and no /status: {error:#}"),
    };
    let all = Watched::all(&status);
    let of = all.iter().find(|one| one.pod == unread.pod);
    anyhow::anyhow!(
        "{unread}; /status: {}",
        of.map_or(&Value::Null, |of| &of.whole)
    )
}

/// Times that every sleeping file is written to, at the end.
const CLOSING_ROUNDS: u32 = 3;

/// At least one burst in this many must have found its file asleep. Three in four are written so
/// long after the last that it should be; a busy machine may keep some awake.
const ROUSED_SHARE: u64 = 4;
