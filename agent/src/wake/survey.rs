//! What the ladder could stand on here: every rung tried, every root looked at, nothing kept.
//!
//! 1. A rung is tried as the agent would: loaded, attached, and detached again.
//! 2. A root is covered when a file in it would be woken by the rung itself, not by inotify.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::kind::{self, FileSystems, Kinds};
use super::{Ladder, Rung, Wake};
use crate::plan::RungChoice;

/// The probe rungs by their choice, best first.
const TRIED: [(Rung, RungChoice); 3] = [
    (Rung::FexitPerformWrite, RungChoice::Fexit),
    (Rung::TracepointBtf, RungChoice::TpBtf),
    (Rung::RawTracepoint, RungChoice::RawTp),
];

/// A rung and how it fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub rung: Rung,
    /// Why it does not load, and the cure; `None` when it loads.
    pub why_not: Option<String>,
}

/// A root and what would wake its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// As it was given.
    pub path: PathBuf,
    /// What was looked at: the root, or its nearest parent that is there.
    pub seen: PathBuf,
    /// Its file system, by name or magic number.
    pub file_system: String,
    /// Major and minor.
    pub device: (u32, u32),
    /// The kernel functions by which the best rung sees writes there; empty when it does not.
    pub hooks: &'static [&'static str],
    /// The rung that would wake its files.
    pub rung: Rung,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Whether this binary carries the probes.
    pub embedded: bool,
    /// The probe rungs, best first.
    pub rungs: Vec<Tried>,
    /// The rung that `wake.rung: auto` would take.
    pub best: Rung,
    /// The roots.
    pub roots: Vec<Root>,
}

impl Survey {
    /// Tries every rung on these roots.
    #[must_use]
    pub fn take(roots: &[PathBuf]) -> Self {
        let mut rungs = Vec::new();
        let mut best: Option<Wake> = None;
        for (rung, choice) in TRIED {
            let (mut wakes, report) = Ladder::choose(choice, roots, 1, 8);
            let skipped = report.skipped.into_iter().find(|skip| skip.rung == rung);
            let why_not = skipped.map(|skip| skip.why);
            if why_not.is_none() && best.is_none() {
                best = wakes.pop();
            }
            rungs.push(Tried { rung, why_not });
        }
        let best = best
            .or_else(|| Ladder::choose(RungChoice::Inotify, roots, 1, 8).0.pop())
            .unwrap_or_else(Wake::none);
        Self {
            embedded: super::ebpf::is_embedded(),
            rungs,
            best: best.rung(),
            roots: roots.iter().map(|root| Root::look(root, &best)).collect(),
        }
    }

    /// Whether a probe rung serves every root.
    #[must_use]
    pub fn probes_serve_all(&self) -> bool {
        self.roots.iter().all(|root| root.rung < Rung::Inotify)
    }
}

impl Root {
    fn look(path: &Path, best: &Wake) -> Self {
        let seen = path.ancestors().find(|at| at.exists());
        let seen = seen.unwrap_or(Path::new("."));
        let device = std::fs::metadata(seen).map_or(0, |found| found.dev());
        let covered = File::open(seen).is_ok_and(|dir| best.covers(dir.as_fd()));
        let fallback = best.rung().max(Rung::Inotify);
        let rung = if covered { best.rung() } else { fallback };
        Self {
            path: path.to_owned(),
            seen: seen.to_owned(),
            file_system: statfs(seen).map_or("unknown".to_owned(), |found| kind::name(&found)),
            device: (rustix::fs::major(device), rustix::fs::minor(device)),
            hooks: hooks(rung, FileSystems::under(&[seen]).kinds),
            rung,
        }
    }
}

/// What `ebpf::attach` hooks for this rung and file system.
fn hooks(rung: Rung, kinds: Kinds) -> &'static [&'static str] {
    const EXT4: &[&str] = &[
        "ext4_da_write_end",
        "ext4_write_end",
        "ext4_journalled_write_end",
    ];
    match rung {
        Rung::FexitPerformWrite if kinds.ext4 || kinds.tmpfs => &["generic_perform_write"],
        Rung::FexitPerformWrite if kinds.xfs => &["iomap_file_buffered_write"],
        Rung::FexitPerformWrite if kinds.btrfs => &["pagecache_isize_extended"],
        Rung::TracepointBtf | Rung::RawTracepoint if kinds.ext4 => EXT4,
        Rung::TracepointBtf | Rung::RawTracepoint if kinds.xfs => &["xfs_file_buffered_write"],
        Rung::FexitPerformWrite
        | Rung::TracepointBtf
        | Rung::RawTracepoint
        | Rung::Inotify
        | Rung::SweepOnly => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_not_there_counts_as_its_nearest_parent() {
        let survey = Survey::take(&[PathBuf::from("/proc/tailwake-none/pods")]);
        let root = &survey.roots[0];
        assert_eq!((&*root.seen, root.hooks.len()), (Path::new("/proc"), 0));
        assert!(root.rung >= Rung::Inotify && !survey.probes_serve_all());
        assert_eq!(survey.rungs.len(), 3);
        assert_eq!(root.file_system, "proc");
    }
}
