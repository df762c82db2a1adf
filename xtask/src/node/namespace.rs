//! The namespaces that everything of a node test runs in, seen from outside.
//!
//! ```text
//! xtask -> unshare (network, mounts, PIDs) -> xtask node inside -> servers, control plane, node
//!    '-------- one process to kill --------'
//! ```
//!
//! 1. The machine's own /var/log, /run, addresses and processes are out of reach in there.
//! 2. However this ends, the kernel ends all that runs in there; cgroups are removed afterwards.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cluster::cgroups;

/// The namespaces' only door: `unshare`, whose end is the end of all.
#[derive(Debug)]
pub(super) struct Namespace {
    child: Child,
    cgroup: String,
    detached: bool,
}

impl Namespace {
    /// Runs this very program in there as `node inside <words>`.
    pub(super) fn start(words: &[&str], dir: &Path, log: Option<&Path>) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a node needs root: namespaces, cgroups, mounts"
        );
        remove_stale()?;
        let cgroup = format!("{CGROUP}{}", std::process::id());
        // Without a log there is one who waits: with his end, also by SIGKILL, this ends too.
        let mut command = match log {
            Some(_) => Command::new("unshare"),
            None => Command::new("setpriv"),
        };
        if log.is_none() {
            command.args(["--pdeathsig", "KILL", "unshare"]);
        }
        command
            .args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--propagation",
                "private",
            ])
            .arg("--kill-child=KILL")
            .arg(std::env::current_exe()?)
            .args(["node", "inside"])
            .args(words)
            .arg("--dir")
            .arg(dir)
            .args(["--cgroup", &cgroup])
            .stdin(Stdio::null())
            // Ctrl-C is for the one who waits; it ends this child then.
            .process_group(0);
        if let Some(log) = log {
            let log = fs::File::create(log)?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        let child = command.spawn().context("start unshare")?;
        Ok(Self {
            child,
            cgroup,
            detached: log.is_some(),
        })
    }

    /// The process to kill.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The cgroup to remove afterwards.
    pub(super) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Whether it ended, and well.
    pub(super) fn ended(&mut self) -> Result<Option<bool>> {
        Ok(self.child.try_wait()?.map(|status| status.success()))
    }

    /// Lets it outlive this value.
    pub(super) fn keep(mut self) {
        self.detached = true;
        std::mem::forget(self);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = remove(&self.cgroup);
    }
}

/// Removes a cgroup in every hierarchy with all below it, once its processes are gone.
pub(super) fn remove(cgroup: &str) -> Result<()> {
    let begun = Instant::now();
    for path in cgroups(cgroup)? {
        while path.exists() && !remove_tree(&path) {
            if begun.elapsed() > REMOVE_LIMIT {
                bail!("{} is not empty", path.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Removes folders from the leaves up; false when one is not empty yet.
fn remove_tree(root: &Path) -> bool {
    let mut folders = vec![root.to_path_buf()];
    let mut at = 0;
    while let Some(folder) = folders.get(at).cloned() {
        folders.extend(folders_in(&folder));
        at += 1;
    }
    folders
        .iter()
        .rev()
        .all(|folder| fs::remove_dir(folder).is_ok())
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Removes what a killed `xtask` left: the names bear its process id.
fn remove_stale() -> Result<()> {
    for sample in cgroups("")? {
        for folder in folders_in(&sample) {
            let name = folder
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if let Some(pid) = name.strip_prefix(CGROUP)
                && !Path::new("/proc").join(pid).exists()
            {
                remove_tree(&folder);
            }
        }
    }
    Ok(())
}

const CGROUP: &str = "tailwake-node-";
const REMOVE_LIMIT: Duration = Duration::from_secs(10);
