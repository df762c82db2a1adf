//! Kubelet's tree of one input.
//!
//! ```text
//! root -- pod directories -- container directories -- files, or docker's links
//! ```
//!
//! 1. A directory is watched before it is listed, so that no name is missed between the two.
//! 2. A listing is the truth: what it shows and is not known has come, what is known and not shown
//!    has left. An event says which directory to list, and which known name bears a new file.
//! 3. A container of which nothing was told is counted as missed when it went unseen, or when a log
//!    of it was.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::leads::Leads;
use super::name::{log_file, pod_directory};
use super::site::{Site, Touched};
use super::watches::Hold;
use super::{Event, Place, Rotated};
use crate::base::files::{Entry, EntryKind, Files};
use crate::ticket::{Meta, Source};

#[derive(Debug)]
enum Level {
    Root,
    Pod {
        namespace: Arc<str>,
        pod: Arc<str>,
        uid: Arc<str>,
    },
    Container(Container),
}

#[derive(Debug)]
struct Container {
    source: Arc<Source>,
    files: BTreeMap<OsString, Place>,
    /// Names that are no log, counted once each.
    odd: BTreeSet<OsString>,
    /// A log's name came.
    came: bool,
    /// A file was told of.
    told: bool,
}

#[derive(Debug)]
struct Directory {
    level: Level,
    /// It was there to be listed.
    listed: bool,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Pods {
    input: usize,
    node: Arc<str>,
    root: PathBuf,
    directories: BTreeMap<PathBuf, Directory>,
    leads: Leads,
}

impl Pods {
    pub(super) fn new(input: usize, node: Arc<str>, root: PathBuf) -> Self {
        Self {
            input,
            node,
            root,
            directories: BTreeMap::new(),
            leads: Leads::default(),
        }
    }

    pub(super) fn roots(&self) -> Vec<PathBuf> {
        vec![self.root.clone()]
    }

    /// Whether the root is there.
    pub(super) fn has(&self, root: &Path) -> bool {
        self.directories.contains_key(root)
    }

    /// The root may be there now.
    pub(super) fn enter_root<F: Files>(&mut self, site: &mut Site<'_, F>, root: &Path) {
        self.enter(site, root.to_owned(), Level::Root);
    }

    /// Takes down that logs came, before any directory is given up: news of a directory above may
    /// be heard first.
    pub(super) fn note(&mut self, path: &Path, touched: &Touched) {
        let directory = self.directories.get_mut(path);
        if let Some(Level::Container(container)) = directory.map(|found| &mut found.level) {
            let came = touched.names.iter().filter(|(_, came)| **came);
            let mut names = came.map(|(name, _)| name.to_string_lossy());
            container.came |= names.any(|name| log_file(&name).is_some());
        }
    }

    /// Something happened in a directory, or in one that links lead to.
    pub(super) fn hear<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        touched: &Touched,
    ) {
        let links: BTreeSet<PathBuf> = if touched.whole || touched.ended {
            self.leads.inside(path).cloned().collect()
        } else {
            let names = touched.names.keys();
            let to = names.flat_map(|name| self.leads.to(&path.join(name)));
            to.cloned().collect()
        };
        if touched.ended && self.has(path) {
            self.leave(site, path);
            match path.parent() {
                Some(parent) if path != self.root => self.list(site, parent, &Touched::default()),
                _ => self.enter(site, path.to_owned(), Level::Root),
            }
        } else if self.has(path) {
            self.list(site, path, touched);
        }
        for link in links {
            self.tell_again(site, &link);
        }
    }

    /// Lists everything.
    pub(super) fn sweep<F: Files>(&mut self, site: &mut Site<'_, F>) {
        let paths: Vec<PathBuf> = self.directories.keys().cloned().collect();
        for path in paths {
            self.list(site, &path, &Touched::default());
        }
    }

    fn enter<F: Files>(&mut self, site: &mut Site<'_, F>, path: PathBuf, level: Level) {
        let is_root = matches!(level, Level::Root);
        if site.watches.hold(site.files, &path, site.now) == Hold::Missing {
            if !is_root {
                site.tally.miss(site.now, &path.display());
            }
            return;
        }
        let listed = false;
        self.directories
            .insert(path.clone(), Directory { level, listed });
        self.list(site, &path, &Touched::default());
    }

    fn list<F: Files>(&mut self, site: &mut Site<'_, F>, path: &Path, touched: &Touched) {
        let Some(directory) = self.directories.get_mut(path) else {
            return;
        };
        let mut entries = match site.files.list(path) {
            Ok(entries) => entries,
            Err(error) => {
                let gone = [ErrorKind::NotFound, ErrorKind::NotADirectory];
                if gone.contains(&error.kind()) {
                    self.leave(site, path);
                } else if let Some(suppressed) = site.tally.may_say(site.now, "list") {
                    tracing::warn!(path = %path.display(), %error, suppressed,
                        "cannot list a directory; tried again by the sweep");
                }
                return;
            }
        };
        directory.listed = true;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if matches!(directory.level, Level::Container(_)) {
            return self.list_files(site, path, entries, touched);
        }
        let is_directory = |entry: &Entry| entry.kind == EntryKind::Directory;
        let shown = entries.into_iter().filter(is_directory);
        let shown: BTreeSet<OsString> = shown.map(|entry| entry.name).collect();
        let known = |name: &OsStr| self.directories.contains_key(&path.join(name));
        let came = touched.names.iter().filter(|(_, came)| **came);
        let unseen = came.filter(|(name, _)| !shown.contains(*name) && !known(name));
        let unseen: Vec<OsString> = unseen.map(|(name, _)| name.clone()).collect();
        self.leave_children(site, path, &shown);
        for name in shown {
            let child = path.join(&name);
            if self.directories.contains_key(&child) {
                continue;
            }
            match self.level_of(site, path, &name.to_string_lossy()) {
                Some(level) => self.enter(site, child, level),
                None => site.tally.skipped.add(1),
            }
        }
        for name in unseen {
            // What came and went under a name that no directory here bears is none of ours.
            if self.bears(path, &name.to_string_lossy()) {
                site.tally.miss(site.now, &path.join(&name).display());
            }
        }
    }

    /// Whether a directory at `parent` may be called so.
    fn bears(&self, parent: &Path, name: &str) -> bool {
        match self.directories.get(parent).map(|parent| &parent.level) {
            Some(Level::Root) => pod_directory(name).is_some(),
            Some(Level::Pod { .. }) => true,
            Some(Level::Container(_)) | None => false,
        }
    }

    fn level_of<F: Files>(
        &self,
        site: &mut Site<'_, F>,
        parent: &Path,
        name: &str,
    ) -> Option<Level> {
        match &self.directories.get(parent)?.level {
            Level::Root => {
                let (namespace, pod, uid) = pod_directory(name)?;
                Some(Level::Pod {
                    namespace: namespace.into(),
                    pod: pod.into(),
                    uid: uid.into(),
                })
            }
            Level::Pod {
                namespace,
                pod,
                uid,
            } => {
                let source = Source {
                    log: site.tally.log(),
                    input: self.input,
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
                Some(Level::Container(Container {
                    source: Arc::new(source),
                    files: BTreeMap::new(),
                    odd: BTreeSet::new(),
                    came: false,
                    told: false,
                }))
            }
            Level::Container(_) => None,
        }
    }

    /// Names that left are told first as gone; the reader knows a renamed file by its inode.
    fn list_files<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        entries: Vec<Entry>,
        touched: &Touched,
    ) {
        let Some(Directory {
            level: Level::Container(container),
            ..
        }) = self.directories.get_mut(path)
        else {
            return;
        };
        let source = &container.source;
        let mut shown = BTreeMap::new();
        let mut odd = BTreeSet::new();
        for entry in entries {
            let is_log = matches!(entry.kind, EntryKind::File | EntryKind::Link);
            match log_file(&entry.name.to_string_lossy()) {
                Some(place) if is_log => drop(shown.insert(entry.name, place)),
                _ => drop(odd.insert(entry.name)),
            }
        }
        site.tally
            .skipped
            .add(odd.difference(&container.odd).count() as u64);
        container.odd = odd;
        let came = |name: &OsStr| touched.whole || touched.names.get(name) == Some(&true);
        for name in container.files.keys() {
            let left = !shown.contains_key(name);
            // A new file may bear the old one's name by now.
            if left || came(name) {
                let (source, path) = (Arc::clone(source), path.join(name));
                site.out.push(Event::Gone { source, path });
            }
            if left {
                self.leads.forget(site, &path.join(name));
            }
        }
        // A rename puts a new file under a known name: every name that is not rotated is told
        // again when another came, and the reader sees by the inode whether it is the same file.
        let any = shown.keys().any(|name| !container.files.contains_key(name));
        let mut order: Vec<(&OsString, &Place)> = shown.iter().collect();
        order.sort_by_key(|(_, place)| **place);
        for (name, place) in order {
            let again = came(name) || (any && place.rotated == Rotated::Current);
            if !container.files.contains_key(name) || again {
                let (source, path) = (Arc::clone(source), path.join(name));
                self.leads.follow(site, &path);
                site.out.push(Event::Found {
                    source,
                    path,
                    place: *place,
                    at_start: site.tally.starting,
                });
                container.told = true;
            }
        }
        container.files = shown;
    }

    /// Another file may stand where a link leads.
    fn tell_again<F: Files>(&mut self, site: &mut Site<'_, F>, link: &Path) {
        let container = link.parent().and_then(|dir| self.directories.get(dir));
        let Some(Level::Container(container)) = container.map(|found| &found.level) else {
            return;
        };
        let place = link.file_name().and_then(|name| container.files.get(name));
        let Some(place) = place.copied() else {
            return;
        };
        self.leads.follow(site, link);
        let (source, path) = (Arc::clone(&container.source), link.to_owned());
        site.out.push(Event::Gone {
            source: Arc::clone(&source),
            path: path.clone(),
        });
        site.out.push(Event::Found {
            source,
            path,
            place,
            at_start: site.tally.starting,
        });
    }

    fn leave_children<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        shown: &BTreeSet<OsString>,
    ) {
        let below = self.directories.range(path.to_owned()..);
        let below = below.map(|(child, _)| child);
        let gone: Vec<PathBuf> = below
            .take_while(|child| child.starts_with(path))
            .filter(|child| child.parent() == Some(path))
            .filter(|child| child.file_name().is_none_or(|name| !shown.contains(name)))
            .cloned()
            .collect();
        gone.iter().for_each(|child| self.leave(site, child));
    }

    fn leave<F: Files>(&mut self, site: &mut Site<'_, F>, path: &Path) {
        self.leave_children(site, path, &BTreeSet::new());
        let Some(directory) = self.directories.remove(path) else {
            return;
        };
        site.watches.release(site.files, path);
        let missed = match directory.level {
            Level::Root => false,
            Level::Pod { .. } => !directory.listed,
            Level::Container(container) => {
                for name in container.files.keys() {
                    let (source, path) = (Arc::clone(&container.source), path.join(name));
                    self.leads.forget(site, &path);
                    site.out.push(Event::Gone { source, path });
                }
                let source = container.source;
                site.out.push(Event::Ended { source });
                !container.told && (container.came || !directory.listed)
            }
        };
        if missed {
            site.tally.miss(site.now, &path.display());
        }
    }

    /// How much is known, for tests that look for leaks.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.directories.len() + self.leads.len()
    }
}
