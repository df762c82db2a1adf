//! Directory watches: one a directory, however many want it.
//!
//! ```text
//! hold -> Files::watch -> WatchId -> the paths it stands for
//!                | refused
//!                v
//!            uncovered: listed and asked for again each UNCOVERED_MS
//! ```
//!
//! 1. A directory that is held is watched, or uncovered, or not there.
//! 2. A watch ends with the last hold of the last path that it stands for.
//! 3. A refusal is said once a cause and while, at the end of a turn, with the cure and with how many
//!    directories it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use smallvec::SmallVec;

use crate::base::count::{Counter, Registry};
use crate::base::files::{Files, WatchId};
use crate::base::quiet::Quiet;
use crate::base::time::Mono;

/// Uncovered directories, and those alone, are listed this often.
pub(super) const UNCOVERED_MS: u64 = 2_000;

/// Why a watch was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Cause {
    /// ENOSPC: the user's watches are used up.
    Watches,
    /// EMFILE: no inotify instance, or no descriptor for it.
    Instances,
    Other,
}

impl Cause {
    const ALL: [Self; 3] = [Self::Watches, Self::Instances, Self::Other];

    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC) => Self::Watches,
            Some(Errno::MFILE | Errno::NFILE) => Self::Instances,
            _ => Self::Other,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Watches => "watches",
            Self::Instances => "instances",
            Self::Other => "other",
        }
    }
}

/// What holding a directory came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is there, watched or uncovered.
    There,
    /// No such directory; nothing is held.
    Missing,
}

#[derive(Debug)]
struct Held {
    holds: u32,
    id: Option<WatchId>,
}

/// All watches of discovery.
#[derive(Debug)]
pub(super) struct Watches {
    held: BTreeMap<Arc<Path>, Held>,
    /// One directory may be known by several paths.
    ids: BTreeMap<WatchId, SmallVec<[Arc<Path>; 1]>>,
    uncovered: BTreeSet<PathBuf>,
    next_look: Mono,
    quiet: Quiet,
    unsaid: BTreeMap<Cause, io::Error>,
    refused: [Arc<Counter>; Cause::ALL.len()],
    watched_now: Arc<Counter>,
    uncovered_now: Arc<Counter>,
}

impl Watches {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            held: BTreeMap::new(),
            ids: BTreeMap::new(),
            uncovered: BTreeSet::new(),
            next_look: Mono(0),
            quiet: Quiet::default(),
            unsaid: BTreeMap::new(),
            refused: Cause::ALL.map(|cause| {
                registry.counter(
                    "tailwake_watches_refused_total",
                    "Directory watches that the system refused.",
                    &[("reason", cause.reason())],
                )
            }),
            watched_now: registry.gauge(
                "tailwake_directories_watched",
                "Directories that are watched.",
                &[],
            ),
            uncovered_now: registry.gauge(
                "tailwake_directories_uncovered",
                "Directories that no watch could be had for; they are listed every 2 s.",
                &[],
            ),
        }
    }

    /// Watches a directory, once more if it is held already.
    pub(super) fn hold<F: Files>(&mut self, files: &F, path: &Path, now: Mono) -> Hold {
        if let Some(held) = self.held.get_mut(path) {
            held.holds += 1;
            return Hold::There;
        }
        self.hold_shared(files, &Arc::from(path), now)
    }

    /// The same with a path that its holder keeps too: a node has tens of thousands of them.
    pub(super) fn hold_shared<F: Files>(&mut self, files: &F, path: &Arc<Path>, now: Mono) -> Hold {
        if let Some(held) = self.held.get_mut(path) {
            held.holds += 1;
            return Hold::There;
        }
        let held = Held { holds: 1, id: None };
        self.held.insert(Arc::clone(path), held);
        let hold = self.arm(files, path, now);
        if hold == Hold::Missing {
            self.held.remove(path);
        }
        hold
    }

    /// Packs what the first listing found.
    pub(super) fn pack(&mut self) {
        pack(&mut self.held);
        pack(&mut self.ids);
    }

    /// Ends a hold.
    pub(super) fn release<F: Files>(&mut self, files: &F, path: &Path) {
        let Some(held) = self.held.get_mut(path) else {
            return;
        };
        held.holds -= 1;
        if held.holds > 0 {
            return;
        }
        let id = held.id;
        self.held.remove(path);
        self.uncovered.remove(path);
        if let Some(id) = id
            && let Some(paths) = self.ids.get_mut(&id)
        {
            paths.retain(|have| **have != *path);
            if paths.is_empty() {
                self.ids.remove(&id);
                files.unwatch(id);
            }
        }
    }

    /// Every directory that is held.
    pub(super) fn held(&self) -> impl Iterator<Item = &Path> {
        self.held.keys().map(|path| &**path)
    }

    /// The directories that a watch stands for.
    pub(super) fn paths(&self, id: WatchId) -> impl Iterator<Item = &Path> {
        let paths = self.ids.get(&id).into_iter().flatten();
        paths.map(|path| &**path)
    }

    /// The watch has ended with its directory. Another may stand in its place: it is watched now.
    pub(super) fn ended<F: Files>(&mut self, files: &F, id: WatchId, now: Mono) -> Vec<PathBuf> {
        let paths: Vec<Arc<Path>> = self.ids.remove(&id).into_iter().flatten().collect();
        for path in &paths {
            if let Some(held) = self.held.get_mut(path) {
                held.id = None;
                self.arm(files, path, now);
            }
        }
        paths.iter().map(|path| path.to_path_buf()).collect()
    }

    fn arm<F: Files>(&mut self, files: &F, path: &Path, now: Mono) -> Hold {
        let error = match files.watch(path) {
            Ok(id) => {
                self.uncovered.remove(path);
                if let Some(held) = self.held.get_mut(path) {
                    held.id = Some(id);
                }
                let paths = self.ids.entry(id).or_default();
                if paths.iter().all(|have| **have != *path) {
                    let shared = self.held.get_key_value(path);
                    paths.push(shared.map_or_else(|| path.into(), |(path, _)| Arc::clone(path)));
                }
                return Hold::There;
            }
            Err(error) => error,
        };
        let gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        if gone.contains(&error.kind()) {
            self.uncovered.remove(path);
            return Hold::Missing;
        }
        if self.uncovered.is_empty() {
            self.next_look = now.plus_ms(UNCOVERED_MS);
        }
        self.uncovered.insert(path.to_owned());
        let cause = Cause::of(&error);
        self.refused[cause as usize].add(1);
        self.unsaid.insert(cause, error);
        Hold::There
    }

    /// Directories to list since no watch tells of them. Each is asked for again, until one is
    /// refused.
    pub(super) fn look<F: Files>(&mut self, files: &F, now: Mono) -> Vec<PathBuf> {
        if self.uncovered.is_empty() || now < self.next_look {
            return Vec::new();
        }
        self.next_look = now.plus_ms(UNCOVERED_MS);
        let paths: Vec<PathBuf> = self.uncovered.iter().cloned().collect();
        for path in &paths {
            self.arm(files, path, now);
            if self.uncovered.contains(path) {
                break;
            }
        }
        if self.uncovered.is_empty() {
            tracing::info!("every directory is watched again");
        }
        paths
    }

    /// The next look, if any directory is uncovered.
    pub(super) fn deadline(&self) -> Option<Mono> {
        (!self.uncovered.is_empty()).then_some(self.next_look)
    }

    /// The end of a turn: gauges are set, and refusals said.
    pub(super) fn settle<F: Files>(&mut self, files: &F, now: Mono) {
        self.watched_now.set(self.ids.len() as u64);
        self.uncovered_now.set(self.uncovered.len() as u64);
        for (cause, error) in std::mem::take(&mut self.unsaid) {
            if let Some(suppressed) = self.quiet.allow(now, cause) {
                self.say(files, cause, &error, suppressed);
            }
        }
    }

    fn say<F: Files>(&self, files: &F, cause: Cause, error: &io::Error, suppressed: u64) {
        let (uncovered, held) = (self.uncovered.len(), self.held.len());
        let value = |name: &str| {
            let path = Path::new("/proc/sys/fs/inotify").join(name);
            let text = files.load(&path).unwrap_or_default();
            String::from_utf8_lossy(&text).trim().parse::<u64>().ok()
        };
        let cure = match cause {
            Cause::Watches => {
                let now = value("max_user_watches");
                let need = now.unwrap_or(0) + 2 * held as u64;
                let now = now.map_or("unknown".to_owned(), |now| now.to_string());
                format!(
                    "fs.inotify.max_user_watches is {now}, for all of this user's processes, and this agent alone needs {held}: `sysctl -w fs.inotify.max_user_watches={need}`"
                )
            }
            Cause::Instances => {
                let now = value("max_user_instances");
                let need = now.unwrap_or(128) * 2;
                let now = now.map_or("unknown".to_owned(), |now| now.to_string());
                format!(
                    "fs.inotify.max_user_instances is {now}, for all of this user's processes, and this agent needs one more: `sysctl -w fs.inotify.max_user_instances={need}`; or no descriptor is free (RLIMIT_NOFILE)"
                )
            }
            Cause::Other => "look at the error; it is tried again by itself".to_owned(),
        };
        tracing::warn!(%error, uncovered, held, suppressed,
            "directories cannot be watched: new files there are found within {UNCOVERED_MS} ms, not at once. {cure}");
    }

    /// How many directories are held, watched and uncovered.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.held.len(), self.ids.len(), self.uncovered.len())
    }
}

/// Makes a map anew whose keys came in order: that leaves half of each node empty.
pub(super) fn pack<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = std::mem::take(map).into_iter().collect();
}
