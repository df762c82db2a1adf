//! Kubelet's tree of one input.
//!
//! ```text
//! root -- pod directories -- container directories -- files, or docker's links
//! ```
//!
//! 1. A directory is watched before it is listed, so that no name is missed between the two.
//! 2. A listing is the truth: what it shows and is not known has come, what is known and not shown
//!    has left. An event says which directory to list, and which known name bears a new file.
//! 3. A container of which nothing was told is counted as missed when it went unseen or within
//!    [`BRIEF_MS`], or when a log of it was.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::leads::Leads;
use super::name::{log_file, pod_directory};
use super::names::Names;
use super::site::{Site, Touched};
use super::standing::Standings;
use super::watches::{Hold, pack};
use super::{Event, Place, Rotated};
use crate::base::files::{Entry, EntryKind, Files};
use crate::base::time::Mono;
use crate::ticket::{Meta, Source, Standing};

/// A directory that goes this soon with nothing seen in it was missed. One that stays longer had
/// nothing: kubelet makes some for containers that never start.
const BRIEF_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) enum Level {
    Root,
    Pod(Box<Pod>),
    Container(Container),
}

#[derive(Debug)]
pub(super) struct Pod {
    namespace: Arc<str>,
    name: Arc<str>,
    uid: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) source: Arc<Source>,
    pub(super) files: Names,
    /// A log's name came.
    came: bool,
    /// It was shut so far: its files are read from their present ends.
    pub(super) reopens: bool,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) level: Level,
    /// It was there to be listed.
    listed: bool,
    /// None where there are no such names, as in nearly all of a node's many directories.
    strays: Option<Box<Strays>>,
    /// When it was found.
    since: Mono,
    /// Something below it was told of, or counted as missed.
    had: bool,
}

/// Names in a directory that need care.
#[derive(Debug, Default)]
struct Strays {
    /// Names that are neither a log nor lead to one, counted once each while they are there.
    odd: BTreeSet<OsString>,
    /// Names that were shown and were gone when they were entered: counted as missed already, should
    /// an event tell of them yet.
    tried: BTreeSet<OsString>,
    /// Names that came since the last listing.
    came: BTreeSet<OsString>,
}

impl Strays {
    fn is_empty(&self) -> bool {
        self.odd.is_empty() && self.tried.is_empty() && self.came.is_empty()
    }
}

impl Directory {
    /// Its strays, to be changed.
    fn with_strays<T>(&mut self, change: impl FnOnce(&mut Strays) -> T) -> T {
        let strays = self.strays.get_or_insert_default();
        let changed = change(strays);
        if strays.is_empty() {
            self.strays = None;
        }
        changed
    }
}

/// The tree.
#[derive(Debug)]
pub(super) struct Pods {
    input: usize,
    node: Arc<str>,
    root: PathBuf,
    pub(super) directories: BTreeMap<Arc<Path>, Directory>,
    /// Directories that are there and could not be listed last time.
    unlisted: BTreeSet<PathBuf>,
    pub(super) leads: Leads,
    /// Whose metadata are known or awaited, where the config asks for them.
    pub(super) standings: Option<Standings>,
}

impl Pods {
    pub(super) fn new(
        input: usize,
        node: Arc<str>,
        root: PathBuf,
        standings: Option<Standings>,
    ) -> Self {
        Self {
            input,
            node,
            root,
            directories: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            leads: Leads::default(),
            standings,
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

    /// Takes down which names came, before any directory is given up: news of a directory above may
    /// be heard first.
    pub(super) fn note(&mut self, path: &Path, touched: &Touched) {
        let Some(directory) = self.directories.get_mut(path) else {
            return;
        };
        let came = touched.names.iter().filter(|(_, came)| **came);
        let names = came.map(|(name, _)| name);
        if let Level::Container(container) = &mut directory.level {
            let mut names = names.map(|name| name.to_string_lossy());
            container.came |= names.any(|name| log_file(&name).is_some());
        } else {
            let names: BTreeSet<OsString> = names.cloned().collect();
            if !names.is_empty() {
                directory.with_strays(|strays| strays.came.extend(names));
            }
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

    /// Whether the root was listed with all that is below it.
    pub(super) fn is_whole(&self) -> bool {
        self.unlisted.is_empty() && self.has(&self.root)
    }

    /// Lists everything.
    pub(super) fn sweep<F: Files>(&mut self, site: &mut Site<'_, F>) {
        let paths: Vec<Arc<Path>> = self.directories.keys().cloned().collect();
        for path in paths {
            self.list(site, &path, &Touched::default());
        }
    }

    /// Packs what the first listing found.
    pub(super) fn pack(&mut self) {
        pack(&mut self.directories);
    }

    fn enter<F: Files>(&mut self, site: &mut Site<'_, F>, path: PathBuf, level: Level) {
        let is_root = matches!(level, Level::Root);
        let path: Arc<Path> = path.into();
        if site.watches.hold_shared(site.files, &path, site.now) == Hold::Missing {
            if !is_root {
                site.tally.miss(site.now, &path.display());
            }
            return;
        }
        if let Level::Pod(pod) = &level {
            self.pod_came(site, &pod.uid, &path);
        }
        let directory = Directory {
            level,
            listed: false,
            strays: None,
            since: site.now,
            had: false,
        };
        self.directories.insert(Arc::clone(&path), directory);
        self.list(site, &path, &Touched::default());
    }

    pub(super) fn list<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        touched: &Touched,
    ) {
        let Some(directory) = self.directories.get_mut(path) else {
            return;
        };
        let mut entries = match site.files.list(path) {
            Ok(entries) => entries,
            Err(error) => {
                let gone = [ErrorKind::NotFound, ErrorKind::NotADirectory];
                if gone.contains(&error.kind()) {
                    self.leave(site, path);
                } else {
                    site.tally.unlisted(site.now, path, &error);
                    self.unlisted.insert(path.to_owned());
                }
                return;
            }
        };
        directory.listed = true;
        self.unlisted.remove(path);
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if matches!(directory.level, Level::Container(_)) {
            return self.list_files(site, path, entries, touched);
        }
        let is_directory = |entry: &Entry| entry.kind == EntryKind::Directory;
        let (shown, others): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(is_directory);
        let shown: BTreeSet<OsString> = shown.into_iter().map(|entry| entry.name).collect();
        let mut odd: Vec<(OsString, bool)> = others.into_iter().map(odd_of).collect();
        self.count_unseen(site, path, &shown);
        self.leave_children(site, path, &shown);
        for name in shown {
            let child = path.join(&name);
            if self.has(&child) {
                continue;
            }
            match self.level_of(site, path, &name.to_string_lossy()) {
                Some(level) => {
                    self.enter(site, child.clone(), level);
                    let entered = self.has(&child);
                    if let Some(directory) = self.directories.get_mut(path) {
                        directory.had = true;
                        if !entered {
                            directory.with_strays(|strays| strays.tried.insert(name));
                        }
                    }
                }
                None => odd.push((name, false)),
            }
        }
        self.count_odd(site, path, odd);
    }

    /// Counts the pods and containers that came and went since the last listing, unless they are
    /// known, or were counted when they could not be entered.
    fn count_unseen<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        shown: &BTreeSet<OsString>,
    ) {
        let Some(directory) = self.directories.get_mut(path) else {
            return;
        };
        if directory.strays.is_none() {
            return;
        }
        let (came, tried) = directory.with_strays(|strays| {
            (
                std::mem::take(&mut strays.came),
                std::mem::take(&mut strays.tried),
            )
        });
        let mut missed = false;
        for name in came.difference(shown).filter(|name| !tried.contains(*name)) {
            let child = path.join(name);
            // What no directory here is called is none of ours.
            if !self.has(&child) && self.bears(path, &name.to_string_lossy()) {
                site.tally.miss(site.now, &child.display());
                missed = true;
            }
        }
        if let Some(directory) = self.directories.get_mut(path) {
            directory.had |= missed;
        }
    }

    /// Counts the names that were not odd before; of `(name, true)` its kind is wrong.
    fn count_odd<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        odd: Vec<(OsString, bool)>,
    ) {
        let Some(directory) = self.directories.get_mut(path) else {
            return;
        };
        if odd.is_empty() && directory.strays.is_none() {
            return;
        }
        directory.with_strays(|strays| {
            for (name, kind) in odd.iter().filter(|(name, _)| !strays.odd.contains(name)) {
                site.tally.odd(site.now, &path.join(name), *kind);
            }
            strays.odd = odd.into_iter().map(|(name, _)| name).collect();
        });
    }

    /// Whether a directory at `parent` may be called so.
    fn bears(&self, parent: &Path, name: &str) -> bool {
        match self.directories.get(parent).map(|parent| &parent.level) {
            Some(Level::Root) => pod_directory(name).is_some(),
            Some(Level::Pod(_)) => true,
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
                Some(Level::Pod(Box::new(Pod {
                    namespace: namespace.into(),
                    name: pod.into(),
                    uid: uid.into(),
                })))
            }
            Level::Pod(of) => {
                let (namespace, pod, uid) = (&of.namespace, &of.name, &of.uid);
                let (standing, facts) = self.standing_of(site, uid);
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
                        facts,
                    },
                    labels: Vec::new(),
                    tag: None,
                    standing,
                };
                Some(Level::Container(Container {
                    source: Arc::new(source),
                    files: Names::default(),
                    came: false,
                    reopens: false,
                }))
            }
            Level::Container(_) => None,
        }
    }

    /// What came is told before what left: a file that was renamed or compressed is known by its
    /// new name before the old one goes.
    fn list_files<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        entries: Vec<Entry>,
        touched: &Touched,
    ) {
        let Some(Directory {
            level: Level::Container(container),
            had,
            ..
        }) = self.directories.get_mut(path)
        else {
            return;
        };
        let source = &container.source;
        let shut = source.standing == Standing::Shut;
        let at_end = std::mem::take(&mut container.reopens);
        let (mut shown, mut odd) = (Vec::new(), Vec::new());
        for entry in entries {
            let is_log = matches!(entry.kind, EntryKind::File | EntryKind::Link);
            match log_file(&entry.name.to_string_lossy()) {
                Some(place) if is_log => shown.push((entry.name, place)),
                Some(_) => odd.push((entry.name, true)),
                None => odd.push(odd_of(entry)),
            }
        }
        let shown = Names::new(shown);
        let gone = |name: &OsStr| Event::Gone {
            source: Arc::clone(source),
            path: path.join(name),
        };
        let came = |name: &OsStr| touched.whole || touched.names.get(name) == Some(&true);
        // A rename puts a new file under a known name. Where no event says which names came, every
        // name that is not rotated is told again when another came, and the reader sees by the
        // inode whether it is the same file.
        let is_new = |name: &OsStr| !container.files.has(name);
        let any = touched.names.is_empty() && shown.names().any(is_new);
        let mut order: Vec<&(OsString, Place)> = shown.iter().collect();
        order.sort_by_key(|(_, place)| *place);
        for (name, place) in order {
            let known = container.files.has(name);
            let again = any && place.rotated == Rotated::Current;
            // A new file may bear the old one's name: the reader tells them apart.
            if known && !again && !came(name) {
                continue;
            }
            *had = true;
            if shut {
                continue;
            }
            let path = path.join(name);
            self.leads.follow(site, &path);
            site.out.push(Event::Found {
                source: Arc::clone(source),
                path,
                place: *place,
                at_start: site.tally.starting,
                at_end,
            });
        }
        let left = container.files.names();
        for name in left.filter(|name| !shown.has(name)) {
            self.leads.forget(site, &path.join(name));
            site.out.push(gone(name));
        }
        container.files = shown;
        self.count_odd(site, path, odd);
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
            at_end: false,
        });
    }

    fn leave_children<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        shown: &BTreeSet<OsString>,
    ) {
        let from = (Bound::Included(path), Bound::Unbounded);
        let below = self.directories.range::<Path, _>(from);
        let below = below.map(|(child, _)| child);
        let gone: Vec<Arc<Path>> = below
            .take_while(|child| child.starts_with(path))
            .filter(|child| child.parent() == Some(path))
            .filter(|child| child.file_name().is_none_or(|name| !shown.contains(name)))
            .cloned()
            .collect();
        gone.iter().for_each(|child| self.leave(site, child));
    }

    fn leave<F: Files>(&mut self, site: &mut Site<'_, F>, path: &Path) {
        self.count_unseen(site, path, &BTreeSet::new());
        self.leave_children(site, path, &BTreeSet::new());
        let Some(directory) = self.directories.remove(path) else {
            return;
        };
        self.unlisted.remove(path);
        site.watches.release(site.files, path);
        // What was there before the first look is not known where nothing stayed to be seen.
        let brief = !directory.listed || site.now.ms_since(directory.since) < BRIEF_MS;
        let missed = match directory.level {
            Level::Root => false,
            Level::Pod(pod) => {
                self.pod_left(site, &pod.uid);
                brief
            }
            Level::Container(container) => {
                for name in container.files.names() {
                    let (source, path) = (Arc::clone(&container.source), path.join(name));
                    self.leads.forget(site, &path);
                    site.out.push(Event::Gone { source, path });
                }
                let source = container.source;
                self.log_left(&source);
                site.out.push(Event::Ended { source });
                container.came || brief
            }
        };
        let missed = missed && !directory.had;
        if missed {
            site.tally.miss(site.now, &path.display());
        }
    }

    /// How much is known, for tests that look for leaks.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.directories.len() + self.unlisted.len() + self.leads.len()
    }
}

/// A name that is no log's, and whether nothing of its kind has a place in the tree.
fn odd_of(entry: Entry) -> (OsString, bool) {
    let kind = matches!(entry.kind, EntryKind::Link | EntryKind::Other);
    (entry.name, kind)
}
