//! `cargo xtask node`: a real Kubernetes of one node, with the agent on it as a DaemonSet.
//!
//! ```text
//! programs (Go, Debian), images (agent, printer, pause)      outside, with the network
//! namespace -> Loki, Elasticsearch, control plane, node      inside, on a loopback of their own
//!           -> scenario -> account
//! ```
//!
//! 1. Nothing touches the machine's own logs, container engine, addresses or processes.
//! 2. However a run ends, it leaves no process, mount or cgroup.
//! 3. A failed test keeps its folder and names it.

mod account;
mod cluster;
mod image;
mod manifests;
mod namespace;
mod scenario;
mod tar;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use harness::process::{interrupted, say};
use serde::{Deserialize, Serialize};

use crate::build::{self, target};
use crate::packages::{install, may_install, output};
use crate::run::agent::build_release;
use crate::testbed::{Cache, Kind, Options, Server, node_programs, obtain};
use cluster::Cluster;
use image::Image;
pub(crate) use image::libraries;
use namespace::Namespace;

/// The arguments of `cargo xtask node`.
#[derive(Debug, Args)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Builds what is missing and starts node, servers and agent, to look at and play with.
    Up(Source),
    /// Ends them; what they wrote stays.
    Down,
    /// Shows node and pods.
    Status,
    /// The scenario: what containers printed against what Loki and Elasticsearch hold.
    Test(Source),
    /// What runs within the namespaces.
    #[command(hide = true)]
    Inside(Inside),
}

#[derive(Debug, Clone, Args)]
struct Source {
    /// Runs this agent instead of building one.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Install a missing Go, JDK or Debian package without asking (also when CI=true).
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct Inside {
    /// `up` or `test`.
    verb: String,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    cgroup: String,
}

/// What `up` remembers.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pid: u32,
    cgroup: String,
}

/// Programs and the packages that bring them.
const TOOLS: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("openssl", "openssl"),
    ("strip", "binutils"),
];

/// The scenario with the agent that was built last, as the suite runs it.
///
/// # Errors
/// A printed record is missing, altered or under another name.
pub fn run_default() -> Result<()> {
    test(&Source {
        agent: Some(target().join("release").join("tailwake")),
        yes: true,
    })
}

/// Runs one `cargo xtask node` command.
///
/// # Errors
/// What could not be built, started or accounted for.
pub fn run(command: &Command) -> Result<()> {
    match &command.verb {
        Verb::Up(source) => up(source),
        Verb::Down => down(),
        Verb::Status => status(),
        Verb::Test(source) => test(source),
        Verb::Inside(inside) => run_inside(inside),
    }
}

fn test(source: &Source) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("tailwake-node-{}", std::process::id()));
    prepare(source, &dir)?;
    let stop = interrupted()?;
    let mut namespace = Namespace::start(&["test"], &dir, None)?;
    let passed = loop {
        if let Some(passed) = namespace.ended()? {
            break passed;
        }
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted; {} is kept", dir.display());
        }
        std::thread::sleep(POLL_EVERY);
    };
    drop(namespace);
    if !passed {
        bail!("the node test failed; {} is kept", dir.display());
    }
    fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))
}

fn up(source: &Source) -> Result<()> {
    let dir = state()?;
    if running(&dir).is_some() {
        return status();
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).context("clear the last node's folder")?;
    }
    prepare(source, &dir)?;
    let log = dir.join("out.log");
    let mut namespace = Namespace::start(&["up"], &dir, Some(&log))?;
    let begun = Instant::now();
    while !dir.join(READY).exists() {
        if namespace.ended()?.is_some() || begun.elapsed() > UP_LIMIT {
            bail!("the node did not come up:\n{}", fs::read_to_string(&log)?);
        }
        std::thread::sleep(POLL_EVERY);
    }
    let record = Record {
        pid: namespace.pid(),
        cgroup: namespace.cgroup().to_owned(),
    };
    fs::write(dir.join(RECORD), serde_json::to_vec(&record)?)?;
    namespace.keep();
    status()
}

fn down() -> Result<()> {
    let dir = state()?;
    let Some(record) = running(&dir) else {
        say("no node runs");
        return Ok(());
    };
    let pid = i32::try_from(record.pid)?;
    let pid = rustix::process::Pid::from_raw(pid).context("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    namespace::remove(&record.cgroup)?;
    say(&format!("the node is down; {} stays", dir.display()));
    Ok(())
}

fn status() -> Result<()> {
    let dir = state()?;
    let Some(record) = running(&dir) else {
        say("no node runs");
        return Ok(());
    };
    let children = format!("/proc/{0}/task/{0}/children", record.pid);
    let inner = fs::read_to_string(children)?.trim().to_owned();
    let programs = node_programs(&Cache::open()?, false)?;
    let line = format!(
        "nsenter -t {inner} -n {} --kubeconfig {}",
        programs.join("kubectl").display(),
        dir.join("admin.kubeconfig").display()
    );
    say(&line);
    let mut words: Vec<&str> = line.split(' ').collect();
    words.extend(["get", "nodes,pods", "-A", "-o", "wide"]);
    say(&output(Process::new(words[0]).args(&words[1..]))?);
    say(&format!("pod logs: {}", dir.join("log/pods").display()));
    Ok(())
}

/// The record of a node whose process is alive and ours.
fn running(dir: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()?;
    let line = fs::read(format!("/proc/{}/cmdline", record.pid)).ok()?;
    let name = dir.display().to_string();
    let ours = line
        .split(|byte| *byte == 0)
        .any(|word| word == name.as_bytes());
    ours.then_some(record)
}

/// All that needs the network or the compiler: programs, servers, images.
fn prepare(source: &Source, dir: &Path) -> Result<()> {
    let yes = may_install(source.yes);
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        install(&missing, "a container engine and its tools", yes)?;
    }
    let agent = match &source.agent {
        Some(agent) => agent.clone(),
        None => build::run(&build::Build { debug: false, yes })?,
    };
    let harness = build_release(&["harness"])?.join("harness");
    let cache = Cache::open()?;
    node_programs(&cache, yes)?;
    obtain(Kind::Loki, &cache, yes)?;
    obtain(Kind::Elasticsearch, &cache, yes)?;
    fs::create_dir_all(dir)?;
    let images = [
        Image {
            name: "localhost/tailwake:test",
            program: &agent,
            entrypoint: &["/bin/tailwake"],
        },
        Image {
            name: "localhost/printer:test",
            program: &harness,
            entrypoint: &["/bin/harness", "print", "--journal", "/journal"],
        },
        Image {
            name: "localhost/pause:test",
            program: &harness,
            entrypoint: &["/bin/harness", "pause"],
        },
    ];
    image::write(&dir.join("images.tar"), &images)
}

fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.iter().any(|folder| folder.join(program).is_file())
}

/// Node and servers, from within the namespaces.
#[derive(Debug)]
struct Stage {
    loki: Server,
    search: Server,
    cluster: Cluster,
}

fn run_inside(inside: &Inside) -> Result<()> {
    output(Process::new("mount").args(["-t", "proc", "proc", "/proc"]))?;
    let stage = raise(inside)?;
    match inside.verb.as_str() {
        "up" => {
            scenario::start_agent(&stage)?;
            fs::write(inside.dir.join(READY), "")?;
            loop {
                std::thread::park();
            }
        }
        _ => scenario::run(stage),
    }
}

fn raise(inside: &Inside) -> Result<Stage> {
    let begun = Instant::now();
    let cache = Cache::open()?;
    let programs = node_programs(&cache, false)?;
    // The servers' addresses are loopback's, which is down in a new network.
    output(Process::new("ip").args(["link", "set", "lo", "up"]))?;
    let dir = inside.dir.clone();
    let servers = std::thread::spawn(move || -> Result<(Server, Server)> {
        let start =
            |kind: Kind| Server::start(kind, &cache, &dir.join(kind.name()), 0, Options::default());
        Ok((start(Kind::Loki)?, start(Kind::Elasticsearch)?))
    });
    let cluster = Cluster::start(&inside.dir, &programs, &inside.cgroup)?;
    say(&format!(
        "node Ready after {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    let servers = servers.join();
    let (loki, search) =
        servers.map_err(|_| anyhow::anyhow!("starting the servers panicked"))??;
    say(&format!(
        "Loki and Elasticsearch after {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    Ok(Stage {
        loki,
        search,
        cluster,
    })
}

fn state() -> Result<PathBuf> {
    Ok(Cache::open()?.state().join("node"))
}

const RECORD: &str = "node.json";
const READY: &str = "ready";
const POLL_EVERY: Duration = Duration::from_millis(100);
// Elasticsearch took 52 s on a busy machine.
const UP_LIMIT: Duration = Duration::from_secs(300);
