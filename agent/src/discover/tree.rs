//! Kubelet's tree, kept by directory watches.
//!
//! ```text
//! root -- pod directories -- container directories -- files
//! ```
//!
//! 1. A directory is watched before it is listed, so that no name is missed between the two.
//! 2. A listing is the truth: what it shows and is not known has come, what is known and not shown
//!    has left. An event only says which directory to list, or names what came.
//! 3. A watch that the system refuses is tried again by the sweep, which lists everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::name::{log_file, pod_directory};
use super::{Event, Place};
use crate::base::count::{Counter, Registry};
use crate::base::files::{DirEvent, Entry, EntryKind, Files, WatchId};
use crate::base::quiet::Quiet;
use crate::base::time::Mono;
use crate::plan::{InputKind, Plan};
use crate::ticket::{LogId, Meta, Source};

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The next sweep.
    pub deadline: Option<Mono>,
}

#[derive(Debug)]
enum Level {
    Root {
        input: usize,
    },
    Pod {
        input: usize,
        namespace: Arc<str>,
        pod: Arc<str>,
        uid: Arc<str>,
    },
    Container {
        source: Arc<Source>,
        files: BTreeMap<OsString, Place>,
    },
}

#[derive(Debug)]
struct Directory {
    level: Level,
    watch: Option<WatchId>,
    /// Names that are neither a log nor lead to one, counted once each while they are there.
    odd: BTreeSet<OsString>,
}

/// Names that came since a directory was listed last.
#[derive(Debug)]
enum Came {
    /// These: a known name among them may be another file by now, whose first name is gone already.
    Names(BTreeSet<OsString>),
    /// Events were lost: any.
    Unknown,
}

impl Default for Came {
    fn default() -> Self {
        Self::Names(BTreeSet::new())
    }
}

impl Came {
    fn add(&mut self, name: OsString) {
        if let Self::Names(names) = self {
            let _ = names.insert(name);
        }
    }

    fn has(&self, name: &OsString) -> bool {
        match self {
            Self::Names(names) => names.contains(name),
            Self::Unknown => true,
        }
    }
}

/// Kubelet's tree.
#[derive(Debug)]
pub struct Tree {
    node: Arc<str>,
    roots: Vec<PathBuf>,
    sweep_ms: u64,
    next_sweep: Mono,
    directories: BTreeMap<PathBuf, Directory>,
    watches: BTreeMap<WatchId, PathBuf>,
    next_log: u32,
    starting: bool,
    now: Mono,
    /// Directories that are there and could not be listed last time.
    unlisted: BTreeSet<PathBuf>,
    quiet: Quiet,
    refused: Arc<Counter>,
    sweeps: Arc<Counter>,
    late: Arc<Counter>,
    overflows: Arc<Counter>,
    list_errors: Arc<Counter>,
    odd_names: Arc<Counter>,
    odd_kinds: Arc<Counter>,
}

impl Tree {
    /// The trees of the plan's inputs, not listed yet. `node` becomes the sources' node.
    #[must_use]
    pub fn new(plan: &Plan, node: &str, registry: &Registry) -> Self {
        let count = |name, help| registry.counter(name, help, &[]);
        let skipped = |reason| {
            let help = "Names in kubelet's tree that are no log, once each.";
            registry.counter("tailwake_names_skipped_total", help, &[("reason", reason)])
        };
        let root = |kind: &InputKind| match kind {
            InputKind::Pods { root } => root.clone(),
        };
        Self {
            node: node.into(),
            roots: plan.inputs.iter().map(|input| root(&input.kind)).collect(),
            sweep_ms: plan.wake.sweep_ms,
            next_sweep: Mono(0).plus_ms(plan.wake.sweep_ms),
            directories: BTreeMap::new(),
            watches: BTreeMap::new(),
            next_log: 0,
            starting: true,
            now: Mono(0),
            unlisted: BTreeSet::new(),
            quiet: Quiet::default(),
            refused: count(
                "tailwake_watches_refused_total",
                "Directory watches refused.",
            ),
            sweeps: registry.counter(
                "tailwake_sweeps_total",
                "Sweeps of all sizes or names.",
                &[("of", "names")],
            ),
            late: count(
                "tailwake_discovery_late_finds_total",
                "Names only the sweep found.",
            ),
            overflows: count(
                "tailwake_watch_overflows_total",
                "Times directory events were lost.",
            ),
            list_errors: count(
                "tailwake_list_errors_total",
                "Listings of directories that failed.",
            ),
            odd_names: skipped("name"),
            odd_kinds: skipped("kind"),
        }
    }

    /// The first listing: what it finds was there before the agent.
    pub fn start<F: Files>(&mut self, files: &F, out: &mut Vec<Event>) {
        for (input, root) in self.roots.clone().into_iter().enumerate() {
            self.enter(files, root, Level::Root { input }, out);
        }
        self.starting = false;
    }

    /// Takes up what happened, and sweeps when it is time.
    pub fn turn<F: Files>(&mut self, files: &F, now: Mono, out: &mut Vec<Event>) -> Turn {
        self.now = now;
        let mut events = Vec::new();
        if let Err(error) = files.events(&mut events)
            && let Some(suppressed) = self.quiet.allow(now, "events")
        {
            tracing::warn!(%error, suppressed, "cannot read directory events; the sweep finds what came");
        }
        let mut stale: BTreeMap<PathBuf, Came> = BTreeMap::new();
        for event in events {
            match event {
                DirEvent::Came(watch, name) => {
                    if let Some(path) = self.watches.get(&watch) {
                        stale.entry(path.clone()).or_default().add(name);
                    }
                }
                DirEvent::Left(watch, _) => {
                    if let Some(path) = self.watches.get(&watch) {
                        let _ = stale.entry(path.clone()).or_default();
                    }
                }
                DirEvent::Ended(watch) => {
                    if let Some(path) = self.watches.remove(&watch) {
                        if let Some(directory) = self.directories.get_mut(&path) {
                            directory.watch = None;
                        }
                        let _ = stale.entry(path).or_default();
                    }
                }
                DirEvent::Overflow => {
                    self.overflows.add(1);
                    let all = self.directories.keys();
                    stale.extend(all.map(|path| (path.clone(), Came::Unknown)));
                }
            }
        }
        for (path, came) in stale {
            self.list(files, &path, &came, out);
        }
        if self.sweep_ms > 0 && now >= self.next_sweep {
            self.next_sweep = now.plus_ms(self.sweep_ms);
            self.sweeps.add(1);
            let before = out.len();
            self.sweep(files, out);
            self.late.add((out.len() - before) as u64);
        }
        Turn {
            deadline: (self.sweep_ms > 0).then_some(self.next_sweep),
        }
    }

    /// Lists everything again and tries refused watches again.
    pub fn sweep<F: Files>(&mut self, files: &F, out: &mut Vec<Event>) {
        for (input, root) in self.roots.clone().into_iter().enumerate() {
            if !self.directories.contains_key(&root) {
                self.enter(files, root, Level::Root { input }, out);
            }
        }
        let paths: Vec<PathBuf> = self.directories.keys().cloned().collect();
        for path in paths {
            self.watch(files, &path);
            self.list(files, &path, &Came::default(), out);
        }
    }

    fn enter<F: Files>(&mut self, files: &F, path: PathBuf, level: Level, out: &mut Vec<Event>) {
        let (watch, odd) = (None, BTreeSet::new());
        self.directories
            .insert(path.clone(), Directory { level, watch, odd });
        self.watch(files, &path);
        self.list(files, &path, &Came::default(), out);
    }

    fn watch<F: Files>(&mut self, files: &F, path: &Path) {
        let Some(directory) = self.directories.get_mut(path) else {
            return;
        };
        if directory.watch.is_some() {
            return;
        }
        match files.watch(path) {
            Ok(watch) => {
                directory.watch = Some(watch);
                self.watches.insert(watch, path.to_owned());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                self.refused.add(1);
                if let Some(suppressed) = self.quiet.allow(self.now, ("watch", error.kind())) {
                    tracing::warn!(path = %path.display(), %error, suppressed,
                        "cannot watch a directory; the sweep serves it. If this is ENOSPC or EMFILE, raise fs.inotify.max_user_watches or max_user_instances");
                }
            }
        }
    }

    /// Whether every root was listed with all that is below it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let listed = |root: &PathBuf| self.directories.contains_key(root);
        self.unlisted.is_empty() && self.roots.iter().all(listed)
    }

    fn list<F: Files>(&mut self, files: &F, path: &Path, came: &Came, out: &mut Vec<Event>) {
        let Some(directory) = self.directories.get(path) else {
            return;
        };
        self.unlisted.remove(path);
        let mut entries = match files.list(path) {
            Ok(entries) => entries,
            Err(error) => {
                let gone = error.kind() == std::io::ErrorKind::NotFound;
                if gone && !matches!(directory.level, Level::Root { .. }) {
                    self.leave(files, path, out);
                } else if gone {
                    self.leave_children(files, path, &BTreeSet::new(), out);
                    self.directories.remove(path);
                } else {
                    self.list_errors.add(1);
                    self.unlisted.insert(path.to_owned());
                    if let Some(suppressed) = self.quiet.allow(self.now, ("list", error.kind())) {
                        tracing::warn!(path = %path.display(), %error, suppressed,
                            "cannot list a directory; logs that came into it are not found until \
                             the sweep can: give the agent the right to read it");
                    }
                }
                return;
            }
        };
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Level::Container { .. } = directory.level {
            return self.list_files(path, entries, came, out);
        }
        let (shown, others): (Vec<Entry>, Vec<Entry>) = entries
            .into_iter()
            .partition(|entry| entry.kind == EntryKind::Directory);
        let shown: BTreeSet<OsString> = shown.into_iter().map(|entry| entry.name).collect();
        self.leave_children(files, path, &shown, out);
        let mut odd: Vec<(OsString, bool)> = others
            .into_iter()
            .map(|entry| (entry.name, entry.kind == EntryKind::Other))
            .collect();
        for name in shown {
            let child = path.join(&name);
            if self.directories.contains_key(&child) {
                continue;
            }
            match self.level_of(path, &name.to_string_lossy()) {
                Some(level) => self.enter(files, child, level, out),
                None => odd.push((name, false)),
            }
        }
        self.count_odd(path, odd);
    }

    /// Counts the names that were not odd before; of `(name, true)` its kind is wrong.
    fn count_odd(&mut self, path: &Path, odd: Vec<(OsString, bool)>) {
        let Some(directory) = self.directories.get_mut(path) else {
            return;
        };
        for (name, kind) in &odd {
            if directory.odd.contains(name) {
                continue;
            }
            if !kind {
                // Kubelet's own `.gz` and `.tmp` files are such names: nothing to be said.
                self.odd_names.add(1);
                continue;
            }
            self.odd_kinds.add(1);
            if let Some(suppressed) = self.quiet.allow(self.now, "kind") {
                tracing::warn!(path = %path.join(name).display(), suppressed,
                    "neither a regular file nor a directory of kubelet's tree; it is not read and \
                     no link is followed: remove it, or have the runtime write a regular file");
            }
        }
        directory.odd = odd.into_iter().map(|(name, _)| name).collect();
    }

    fn level_of(&mut self, parent: &Path, name: &str) -> Option<Level> {
        match &self.directories.get(parent)?.level {
            Level::Root { input } => {
                let (namespace, pod, uid) = pod_directory(name)?;
                let (namespace, pod, uid) = (namespace.into(), pod.into(), uid.into());
                Some(Level::Pod {
                    input: *input,
                    namespace,
                    pod,
                    uid,
                })
            }
            Level::Pod {
                input,
                namespace,
                pod,
                uid,
            } => {
                let log = LogId(self.next_log);
                self.next_log += 1;
                let source = Source {
                    log,
                    input: *input,
                    key: format!("{namespace}_{pod}_{uid}/{name}").into(),
                    filename: parent.join(name).join("0.log").to_string_lossy().into(),
                    meta: Meta {
                        namespace: Arc::clone(namespace),
                        pod: Arc::clone(pod),
                        uid: Arc::clone(uid),
                        container: name.into(),
                        node: Arc::clone(&self.node),
                    },
                    labels: Vec::new(),
                    tag: None,
                };
                Some(Level::Container {
                    source: Arc::new(source),
                    files: BTreeMap::new(),
                })
            }
            Level::Container { .. } => None,
        }
    }

    /// Names that left are told first as gone; the reader knows a renamed file by its inode.
    fn list_files(&mut self, path: &Path, entries: Vec<Entry>, news: &Came, out: &mut Vec<Event>) {
        let starting = self.starting;
        let Some(Directory {
            level: Level::Container { source, files },
            ..
        }) = self.directories.get_mut(path)
        else {
            return;
        };
        let mut shown = BTreeMap::new();
        let mut odd = Vec::new();
        for Entry { name, kind } in entries {
            match log_file(&name.to_string_lossy()) {
                Some(place) if kind == EntryKind::File => drop(shown.insert(name, place)),
                Some(_) => odd.push((name, true)),
                None => odd.push((name, kind == EntryKind::Other)),
            }
        }
        // A rename puts a new file under a known name: every name that is not rotated is told
        // again when another came, and the reader sees by the inode whether it is the same file.
        let came = shown.keys().any(|name| !files.contains_key(name));
        let mut order: Vec<(&OsString, &Place)> = shown.iter().collect();
        order.sort_by_key(|(_, place)| **place);
        for (name, place) in order {
            let current = place.rotated == super::Rotated::Current;
            if !files.contains_key(name) || (came && current) || news.has(name) {
                let (source, path) = (Arc::clone(source), path.join(name));
                out.push(Event::Found {
                    source,
                    path,
                    place: *place,
                    at_start: starting,
                });
            }
        }
        // What left comes last: a file that was compressed is known by its copy before its name goes.
        for name in files.keys().filter(|name| !shown.contains_key(*name)) {
            out.push(Event::Gone {
                source: Arc::clone(source),
                path: path.join(name),
            });
        }
        *files = shown;
        self.count_odd(path, odd);
    }

    fn leave_children<F: Files>(
        &mut self,
        files: &F,
        path: &Path,
        shown: &BTreeSet<OsString>,
        out: &mut Vec<Event>,
    ) {
        let children = self
            .directories
            .range(path.to_owned()..)
            .map(|(child, _)| child);
        let gone: Vec<PathBuf> = children
            .take_while(|child| child.starts_with(path))
            .filter(|child| child.parent() == Some(path))
            .filter(|child| child.file_name().is_none_or(|name| !shown.contains(name)))
            .cloned()
            .collect();
        gone.iter().for_each(|child| self.leave(files, child, out));
    }

    fn leave<F: Files>(&mut self, files: &F, path: &Path, out: &mut Vec<Event>) {
        self.leave_children(files, path, &BTreeSet::new(), out);
        let Some(directory) = self.directories.remove(path) else {
            return;
        };
        self.unlisted.remove(path);
        if let Some(watch) = directory.watch {
            self.watches.remove(&watch);
            files.unwatch(watch);
        }
        if let Level::Container { source, files, .. } = directory.level {
            for name in files.keys() {
                out.push(Event::Gone {
                    source: Arc::clone(&source),
                    path: path.join(name),
                });
            }
            out.push(Event::Ended { source });
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::machine::MachineFiles;

    const PLAN: &str = "state: /nowhere\ninputs: {pods: {pods: {root: ROOT}}}\n\
        pipelines: {pods: {from: [pods], to: [loki]}}\n\
        outputs: {loki: {loki: {url: \"http://127.0.0.1:1/loki/api/v1/push\"}}}\n";

    fn told(events: &[Event]) -> Vec<String> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let say = |event: &Event| match event {
            Event::Found { path, at_start, .. } => format!("found {} {at_start}", name(path)),
            Event::Moved { to, .. } => format!("moved {}", name(to)),
            Event::Gone { path, .. } => format!("gone {}", name(path)),
            Event::Ended { source } => format!("ended {}", source.key),
        };
        events.iter().map(say).collect()
    }

    #[test]
    fn a_containers_life_is_told_in_order_and_what_is_no_log_is_counted_once() {
        let root = std::env::temp_dir().join(format!("tailwake-tree-{}", std::process::id()));
        let dir = root.join("ns_pod.a_uid").join("app");
        std::fs::create_dir_all(dir.join("7.log")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.join("8.log")).unwrap();
        std::fs::write(dir.join("0.log"), b"x").unwrap();
        let text = PLAN.replace("ROOT", &root.display().to_string());
        let plan = crate::config::parse("test", &text, &|_| None).unwrap();
        let (files, registry) = (MachineFiles::watching().unwrap(), Registry::default());
        let mut tree = Tree::new(&plan, "node", &registry);
        let mut events = Vec::new();
        tree.start(&files, &mut events);
        assert_eq!(told(&events), ["found 0.log true"]);
        assert_eq!(registry.value("tailwake_names_skipped_total"), 2);

        std::fs::rename(dir.join("0.log"), dir.join("0.log.20261124-030301")).unwrap();
        std::fs::write(dir.join("0.log"), b"y").unwrap();
        events.clear();
        tree.turn(&files, Mono(1), &mut events);
        assert_eq!(
            told(&events),
            ["found 0.log.20261124-030301 false", "found 0.log false"]
        );

        std::fs::remove_dir_all(&root).unwrap();
        events.clear();
        tree.turn(&files, Mono(2), &mut events);
        let want = [
            "gone 0.log",
            "gone 0.log.20261124-030301",
            "ended ns_pod.a_uid/app",
        ];
        assert_eq!(told(&events), want);
        assert_eq!(registry.value("tailwake_names_skipped_total"), 2);
    }
}
