//! The files of one input that path patterns match.
//!
//! ```text
//! bases -- directories in which, or below which, a pattern can match -- paths
//!                                        touch: open, ask, close |
//!                                                                v
//!                        inode -> its paths, one of which is told -> Event
//! ```
//!
//! 1. Only directories that a pattern can match in or below are held. What an event names is looked
//!    at by itself; a whole directory is listed when it comes, when news were lost, and by the sweep.
//! 2. Each path is a log of its own, but that a rotated name belongs to the log of the name it had,
//!    where the patterns match both.
//! 3. One inode is one file: of its paths the one that was told first keeps it, and when that goes
//!    the next in order takes over, in the same log.
//! 4. Directories are not entered through links, the patterns' own beginnings excepted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::globbed::{Logs, Seen, probe};
use super::leads::Leads;
use super::name::is_compressed;
use super::site::{Site, Touched};
use super::watches::Hold;
use super::{Event, Place};
use crate::base::files::{EntryKind, Files};
use crate::base::time::Mono;
use crate::plan::{Glob, glob::Places};
use crate::ticket::Source;

/// Device and inode number.
type Inode = (u64, u64);

/// One input's files.
#[derive(Debug)]
pub(super) struct Globs {
    paths: Vec<Glob>,
    exclude: Vec<Glob>,
    directories: BTreeMap<PathBuf, Way>,
    files: BTreeMap<PathBuf, Inode>,
    inodes: BTreeMap<Inode, Names>,
    /// Directories that are there and could not be listed last time.
    unlisted: BTreeSet<PathBuf>,
    logs: Logs,
    leads: Leads,
}

/// How far the patterns have got in a directory.
#[derive(Clone, Debug)]
struct Way {
    paths: Vec<Places>,
    exclude: Vec<Places>,
}

/// The paths of one file.
#[derive(Debug, Default)]
struct Names {
    paths: BTreeSet<PathBuf>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    path: PathBuf,
    source: Arc<Source>,
}

impl Globs {
    pub(super) fn new(logs: Logs, paths: Vec<Glob>, exclude: Vec<Glob>) -> Self {
        Self {
            paths,
            exclude,
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
            inodes: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            logs,
            leads: Leads::default(),
        }
    }

    /// Directories that everything lies below; none of them below another.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        let mut roots: Vec<PathBuf> = self.paths.iter().flat_map(Glob::bases).collect();
        roots.sort();
        roots.dedup_by(|below, root| below.starts_with(root));
        roots
    }

    /// Whether the root is there.
    pub(super) fn has(&self, root: &Path) -> bool {
        self.directories.contains_key(root)
    }

    /// The root may be there now.
    pub(super) fn enter_root<F: Files>(&mut self, site: &mut Site<'_, F>, root: &Path) {
        let way = self.way_to(root);
        let mut touch = BTreeSet::new();
        self.enter(site, root.to_owned(), way, &mut touch);
        self.settle(site, touch);
    }

    /// Something happened in a directory, or in one that links lead to.
    pub(super) fn hear<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        touched: &Touched,
    ) {
        let mut touch = BTreeSet::new();
        if touched.whole || touched.ended {
            touch.extend(self.leads.inside(path).cloned());
        }
        for name in touched.names.keys() {
            touch.extend(self.leads.to(&path.join(name)).cloned());
        }
        if touched.ended && self.has(path) {
            self.leave(site, path, &mut touch);
            self.enter(site, path.to_owned(), self.way_to(path), &mut touch);
        } else if touched.whole {
            self.list(site, path, &mut touch);
        } else if let Some(way) = self.directories.get(path).cloned() {
            for (name, came) in &touched.names {
                let child = path.join(name);
                self.leave(site, &child, &mut touch);
                let next = self.step(&way, &name.to_string_lossy());
                if self.may_be_file(&next, &child) {
                    touch.insert(child.clone());
                }
                // A link may lead to a directory, which is not entered.
                let may_lie_below = *came && self.may_lie_below(&next);
                if may_lie_below && site.files.links(&child).is_empty() {
                    self.enter(site, child, next, &mut touch);
                }
            }
        }
        self.settle(site, touch);
    }

    /// Whether every root that is there was listed with all that is below it. One that is missing
    /// hides nothing: patterns may name what this node does not have.
    pub(super) fn is_whole(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Lists everything.
    pub(super) fn sweep<F: Files>(&mut self, site: &mut Site<'_, F>) {
        let mut touch = BTreeSet::new();
        let paths: Vec<PathBuf> = self.directories.keys().cloned().collect();
        for path in paths {
            self.list(site, &path, &mut touch);
        }
        self.settle(site, touch);
    }

    /// Logs that nothing came to take the place in end.
    pub(super) fn turn<F: Files>(&mut self, site: &mut Site<'_, F>) -> Option<Mono> {
        self.logs.turn(site)
    }

    fn way_to(&self, path: &Path) -> Way {
        Way {
            paths: self.paths.iter().map(|glob| glob.walk(path)).collect(),
            exclude: self.exclude.iter().map(|glob| glob.walk(path)).collect(),
        }
    }

    fn step(&self, way: &Way, name: &str) -> Way {
        let step = |globs: &[Glob], places: &[Places]| {
            let both = globs.iter().zip(places);
            both.map(|(glob, at)| glob.step(at, name)).collect()
        };
        Way {
            paths: step(&self.paths, &way.paths),
            exclude: step(&self.exclude, &way.exclude),
        }
    }

    fn may_be_file(&self, way: &Way, path: &Path) -> bool {
        let is = |globs: &[Glob], places: &[Places]| {
            let mut both = globs.iter().zip(places);
            both.any(|(glob, at)| glob.is_match(at))
        };
        is(&self.paths, &way.paths)
            && !is(&self.exclude, &way.exclude)
            && !is_compressed(&path.to_string_lossy())
    }

    fn may_lie_below(&self, way: &Way) -> bool {
        let mut excluded = self.exclude.iter().zip(&way.exclude);
        let mut wanted = self.paths.iter().zip(&way.paths);
        wanted.any(|(glob, at)| glob.may_match_below(at))
            && !excluded.any(|(glob, at)| glob.matches_all_below(at))
    }

    /// Holds and lists a directory and what lies below it.
    fn enter<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: PathBuf,
        way: Way,
        touch: &mut BTreeSet<PathBuf>,
    ) {
        let mut todo = vec![(path, way)];
        while let Some((path, way)) = todo.pop() {
            if self.has(&path) || site.watches.hold(site.files, &path, site.now) == Hold::Missing {
                continue;
            }
            self.directories.insert(path.clone(), way);
            todo.extend(self.read(site, &path, touch));
        }
    }

    /// Lists a directory again, and enters what came.
    fn list<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        touch: &mut BTreeSet<PathBuf>,
    ) {
        for (path, way) in self.read(site, path, touch) {
            self.enter(site, path, way, touch);
        }
    }

    /// What a directory shows: paths go to `touch`, directories that are new are given back.
    fn read<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        touch: &mut BTreeSet<PathBuf>,
    ) -> Vec<(PathBuf, Way)> {
        let Some(way) = self.directories.get(path).cloned() else {
            return Vec::new();
        };
        let entries = match site.files.list(path) {
            Ok(entries) => entries,
            Err(error) => {
                let gone = [ErrorKind::NotFound, ErrorKind::NotADirectory];
                if gone.contains(&error.kind()) {
                    self.leave(site, path, touch);
                } else {
                    site.tally.unlisted(site.now, path, &error);
                    self.unlisted.insert(path.to_owned());
                }
                return Vec::new();
            }
        };
        self.unlisted.remove(path);
        let mut new = Vec::new();
        let mut shown = BTreeSet::new();
        for entry in entries {
            let child = path.join(&entry.name);
            let next = self.step(&way, &entry.name.to_string_lossy());
            let is_directory = entry.kind == EntryKind::Directory;
            if is_directory && self.may_lie_below(&next) {
                if !self.has(&child) {
                    new.push((child.clone(), next));
                }
                shown.insert(child);
            } else if !is_directory && self.may_be_file(&next, &child) {
                touch.insert(child);
            }
        }
        let below = self.directories.range(path.to_owned()..);
        let below = below.map(|(child, _)| child);
        let gone = below
            .take_while(|child| child.starts_with(path))
            .filter(|child| child.parent() == Some(path) && !shown.contains(*child));
        for child in gone.cloned().collect::<Vec<_>>() {
            self.leave(site, &child, touch);
        }
        let known = self.files.range(path.to_owned()..);
        let known = known.map(|(child, _)| child);
        let known = known.take_while(|child| child.starts_with(path));
        let known = known.chain(self.leads.below(path));
        touch.extend(known.filter(|child| child.parent() == Some(path)).cloned());
        new
    }

    /// The directory is gone, with all below it.
    fn leave<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        path: &Path,
        touch: &mut BTreeSet<PathBuf>,
    ) {
        if !self.has(path) {
            return;
        }
        let below = self.directories.range(path.to_owned()..);
        let below = below.map(|(child, _)| child);
        let gone = below.take_while(|child| child.starts_with(path));
        for child in gone.cloned().collect::<Vec<_>>() {
            self.directories.remove(&child);
            self.unlisted.remove(&child);
            site.watches.release(site.files, &child);
        }
        let files = self.files.range(path.to_owned()..);
        let files = files.map(|(child, _)| child);
        touch.extend(files.take_while(|child| child.starts_with(path)).cloned());
        touch.extend(self.leads.below(path).cloned());
    }

    /// Looks at paths and tells what has become of them. New names are taken down first, so that a
    /// file that was renamed has a path to go on under when the old one is given up.
    fn settle<F: Files>(&mut self, site: &mut Site<'_, F>, touch: BTreeSet<PathBuf>) {
        let mut now = Vec::new();
        for path in touch {
            self.leads.follow(site, &path);
            match probe(site, &path) {
                Seen::File(inode) => {
                    let names = self.inodes.entry(inode).or_default();
                    names.paths.insert(path.clone());
                    now.push((path, Some(inode)));
                }
                Seen::Nothing => now.push((path, None)),
                Seen::Unknown => {}
            }
        }
        for (path, inode) in &now {
            let was = match inode {
                Some(inode) => self.files.insert(path.clone(), *inode),
                None => self.files.remove(path),
            };
            if let Some(was) = was.filter(|was| Some(*was) != *inode) {
                self.give_up(site, path, was);
            }
        }
        self.tell(site, now);
    }

    /// The path no longer leads to the inode: another path of it takes over, or it is gone.
    fn give_up<F: Files>(&mut self, site: &mut Site<'_, F>, path: &Path, inode: Inode) {
        let Some(names) = self.inodes.get_mut(&inode) else {
            return;
        };
        names.paths.remove(path);
        if names.told.as_ref().is_none_or(|told| told.path != path) {
            if names.paths.is_empty() {
                self.inodes.remove(&inode);
            }
            return;
        }
        let Some(Told { path, source }) = names.told.take() else {
            return;
        };
        if let Some(to) = names.paths.first().cloned() {
            let place = self.logs.place_in(&source, &to);
            names.told = Some(Told {
                path: to.clone(),
                source: Arc::clone(&source),
            });
            let from = path;
            site.out.push(Event::Moved {
                source,
                from,
                to,
                place,
            });
            return;
        }
        self.inodes.remove(&inode);
        self.logs.lose(&source, site.now);
        site.out.push(Event::Gone { source, path });
    }

    /// Tells of the files that no path was told of, the older of a log first.
    fn tell<F: Files>(&mut self, site: &mut Site<'_, F>, now: Vec<(PathBuf, Option<Inode>)>) {
        let mut found: Vec<(Place, PathBuf, Arc<Source>)> = Vec::new();
        for (path, inode) in now {
            let Some(names) = inode.and_then(|inode| self.inodes.get_mut(&inode)) else {
                continue;
            };
            if names.told.is_some() {
                continue;
            }
            let (source, place) = self.logs.gain(site.tally, &path);
            names.told = Some(Told {
                path: path.clone(),
                source: Arc::clone(&source),
            });
            found.push((place, path, source));
        }
        found.sort_by_key(|(place, _, source)| (source.log, *place));
        let at_start = site.tally.starting;
        for (place, path, source) in found {
            site.out.push(Event::Found {
                source,
                path,
                place,
                at_start,
                at_end: false,
            });
        }
    }

    /// How much is known, for tests that look for leaks.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let known = self.files.len() + self.inodes.len() + self.logs.len() + self.unlisted.len();
        self.directories.len() + known + self.leads.len()
    }
}
