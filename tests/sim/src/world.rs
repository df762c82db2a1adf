//! The node's file system and kernel in memory: names, inodes, directory watches, armed files.
//!
//! ```text
//! node: create, append, announce, rename, unlink, make and remove directories
//! agent: files.rs (open, stat, list, watch, replace) and ring.rs (read, arm)
//! ```
//!
//! 1. A freed inode number goes to the next file, as on ext4; a key is never used again.
//! 2. An armed file wakes once; a write may be announced before the size moves.
//! 3. What belongs to a process (watches, armed files, queued events) goes with it in a crash; names
//!    and bytes stay. The state file has what the last finished `replace` wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tailwake::base::files::{DirEvent, EntryKind, WatchId};
use tailwake::tail::Token;

use crate::rng::Rng;

/// A file's number in the simulation: never used again, unlike its inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u64);

/// An inode.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) inode: u64,
    pub(crate) born_ns: Option<i64>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) links: u64,
    pub(crate) opens: u64,
    /// Where the last announced write ends.
    pub(crate) announced: u64,
}

/// A watched file of one reader.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) key: Key,
    pub(crate) armed: bool,
}

/// How unkind the kernel is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Directory and file watches are refused, events overflow, reads fail.
    pub(crate) flaky: bool,
    /// The file system has birth times.
    pub(crate) births: bool,
    /// Hooks store where a write ends; some fire before the size moves.
    pub(crate) ends: bool,
}

/// Everything that the kernel knows.
#[derive(Debug)]
pub(crate) struct State {
    names: BTreeMap<PathBuf, Key>,
    directories: BTreeSet<PathBuf>,
    pub(crate) nodes: BTreeMap<Key, Node>,
    free: Vec<u64>,
    next_inode: u64,
    next_key: u64,
    watches: BTreeMap<WatchId, PathBuf>,
    next_watch: i32,
    events: Vec<DirEvent>,
    pub(crate) armed: BTreeMap<(usize, Token), Armed>,
    /// By reader.
    pub(crate) woken: Vec<Vec<Token>>,
    /// An agent runs.
    alive: bool,
    /// The state file.
    pub(crate) positions: Option<Vec<u8>>,
    /// Symbolic links, and where they lead.
    links: BTreeMap<PathBuf, PathBuf>,
    pub(crate) ills: Ills,
    pub(crate) weather: Weather,
    pub(crate) rng: Rng,
}

/// What the kernel refuses for the time being, whatever the weather.
#[derive(Debug, Default)]
pub(crate) struct Ills {
    /// Opens fail so: `EMFILE`.
    pub(crate) open: Option<Errno>,
    /// Reads of these files fail: the disk is sick.
    pub(crate) read: BTreeSet<Key>,
    /// `fstat` of these files fails.
    pub(crate) stat: BTreeSet<Key>,
    /// Directories cannot be watched: `ENOSPC`.
    pub(crate) watch: bool,
    /// No file can be watched.
    pub(crate) rungs: bool,
    /// No write wakes anybody: the probes are gone.
    pub(crate) deaf: bool,
    /// Names come and leave unannounced: the queue of events overflows.
    pub(crate) overflow: bool,
    /// State files cannot be written: the disk is full.
    pub(crate) full: bool,
}

/// An error number of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Errno {
    /// Too many open files.
    Emfile = 24,
}

/// The input/output error of a sick disk.
pub(crate) fn eio() -> std::io::Error {
    std::io::Error::from_raw_os_error(5)
}

/// The node's kernel, shared by the node and the agent.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    /// A file system with nothing but `root`.
    pub(crate) fn new(root: &Path, weather: Weather, rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(State {
            names: BTreeMap::new(),
            directories: BTreeSet::from([root.to_owned()]),
            nodes: BTreeMap::new(),
            free: Vec::new(),
            next_inode: 100,
            next_key: 0,
            watches: BTreeMap::new(),
            next_watch: 0,
            events: Vec::new(),
            armed: BTreeMap::new(),
            woken: Vec::new(),
            alive: false,
            positions: None,
            links: BTreeMap::new(),
            ills: Ills::default(),
            weather,
            rng,
        })))
    }

    /// The kernel's own view.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent's process is gone.
    pub(crate) fn stop(&self) {
        self.lock().alive = false;
    }

    /// Whether an agent runs that does not have the file open.
    pub(crate) fn is_unseen(&self, key: Key) -> bool {
        let state = self.lock();
        state.alive && state.nodes.get(&key).is_some_and(|it| it.opens == 0)
    }

    /// A process with this many readers begins; what the one before had is gone.
    pub(crate) fn restart(&self, readers: usize) {
        let mut state = self.lock();
        state.alive = true;
        state.watches.clear();
        state.events.clear();
        state.armed.clear();
        state.woken = vec![Vec::new(); readers];
    }

    /// Makes a directory.
    pub(crate) fn make_directory(&self, path: &Path) {
        let mut state = self.lock();
        state.directories.insert(path.to_owned());
        state.tell(path, true);
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&self, path: &Path) {
        let mut state = self.lock();
        state.directories.remove(path);
        let own = state.watches.iter().find(|(_, of)| *of == path);
        if let Some(id) = own.map(|(id, _)| *id) {
            state.watches.remove(&id);
            state.events.push(DirEvent::Ended(id));
        }
        state.tell(path, false);
    }

    /// Makes an empty file.
    pub(crate) fn create(&self, path: &Path) -> Key {
        let mut state = self.lock();
        let inode = state.free.pop().unwrap_or_else(|| {
            state.next_inode += 1;
            state.next_inode
        });
        state.next_key += 1;
        let key = Key(state.next_key);
        let born_ns = state.weather.births.then_some(key.0 as i64 * 1_000);
        let node = Node {
            inode,
            born_ns,
            links: 1,
            ..Node::default()
        };
        state.nodes.insert(key, node);
        state.names.insert(path.to_owned(), key);
        state.tell(path, true);
        key
    }

    /// Renames a file.
    pub(crate) fn rename_log(&self, from: &Path, to: &Path) {
        let mut state = self.lock();
        if let Some(key) = state.names.remove(from) {
            state.names.insert(to.to_owned(), key);
            state.tell(from, false);
            state.tell(to, true);
        }
    }

    /// Deletes a name.
    pub(crate) fn unlink(&self, path: &Path) {
        let mut state = self.lock();
        if let Some(key) = state.names.remove(path) {
            if let Some(node) = state.nodes.get_mut(&key) {
                node.links -= 1;
            }
            state.tidy(key);
            state.tell(path, false);
        }
    }

    /// A write of `more` bytes is announced: armed readers wake.
    pub(crate) fn announce(&self, key: Key, more: usize) {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(node) = state.nodes.get_mut(&key) {
            node.announced = (node.bytes.len() + more) as u64;
        }
        if state.ills.deaf {
            return;
        }
        for ((reader, token), armed) in &mut state.armed {
            if armed.key == key && armed.armed {
                armed.armed = false;
                state.woken[*reader].push(*token);
            }
        }
    }

    /// The bytes are there.
    pub(crate) fn append(&self, key: Key, bytes: &[u8]) {
        if let Some(node) = self.lock().nodes.get_mut(&key) {
            node.bytes.extend_from_slice(bytes);
        }
    }

    /// The file is cut to this length.
    pub(crate) fn truncate(&self, key: Key, to: usize) {
        if let Some(node) = self.lock().nodes.get_mut(&key) {
            node.bytes.truncate(to);
            node.announced = node.announced.min(to as u64);
        }
    }

    /// What stands in a file.
    pub(crate) fn bytes(&self, key: Key) -> Vec<u8> {
        let state = self.lock();
        let node = state.nodes.get(&key);
        node.map(|node| node.bytes.clone()).unwrap_or_default()
    }

    /// Makes a symbolic link, or leads it elsewhere.
    pub(crate) fn link(&self, path: &Path, to: &Path) {
        let mut state = self.lock();
        state.links.insert(path.to_owned(), to.to_owned());
        state.tell(path, true);
    }

    /// Removes a symbolic link.
    pub(crate) fn unlink_link(&self, path: &Path) {
        let mut state = self.lock();
        state.links.remove(path);
        state.tell(path, false);
    }

    /// Whether some process has the file open.
    pub(crate) fn is_open(&self, key: Key) -> bool {
        self.lock().nodes.get(&key).is_some_and(|it| it.opens > 0)
    }

    /// Whether directory events wait.
    pub(crate) fn has_events(&self) -> bool {
        !self.lock().events.is_empty()
    }

    /// Whether a file of this reader has woken.
    pub(crate) fn has_woken(&self, reader: usize) -> bool {
        !self.lock().woken[reader].is_empty()
    }

    /// Descriptors, armed files and directory watches that are held: all the agent's.
    pub(crate) fn held(&self) -> (u64, usize, usize) {
        let state = self.lock();
        let opens = state.nodes.values().map(|node| node.opens).sum();
        (opens, state.armed.len(), state.watches.len())
    }
}

impl State {
    /// An inode that nobody names or holds is free.
    pub(crate) fn tidy(&mut self, key: Key) {
        if let Some(node) = self.nodes.get(&key)
            && node.links == 0
            && node.opens == 0
        {
            self.free.push(node.inode);
            self.nodes.remove(&key);
        }
    }

    /// The file of a name.
    pub(crate) fn find(&self, path: &Path) -> Option<Key> {
        self.names.get(path).copied()
    }

    /// Where a link leads.
    pub(crate) fn lead(&self, path: &Path) -> Option<PathBuf> {
        self.links.get(path).cloned()
    }

    /// What stands in a directory, if it is there.
    pub(crate) fn list(&self, dir: &Path) -> Option<Vec<(OsString, EntryKind)>> {
        if !self.directories.contains(dir) {
            return None;
        }
        let inside = |path: &&PathBuf| path.parent() == Some(dir);
        let name = |path: &PathBuf| path.file_name().map(OsString::from).unwrap_or_default();
        let files = self.names.keys().filter(inside);
        let all = files.map(|path| (name(path), EntryKind::File));
        let directories = self.directories.iter().filter(inside);
        let directories = directories.map(|path| (name(path), EntryKind::Directory));
        let links = self.links.keys().filter(inside);
        let links = links.map(|path| (name(path), EntryKind::Link));
        Some(all.chain(directories).chain(links).collect())
    }

    /// Watches a directory; the same directory has the same watch.
    pub(crate) fn watch(&mut self, dir: &Path) -> Option<WatchId> {
        if !self.directories.contains(dir) {
            return None;
        }
        if let Some((id, _)) = self.watches.iter().find(|(_, of)| *of == dir) {
            return Some(*id);
        }
        self.next_watch += 1;
        let id = WatchId(self.next_watch);
        self.watches.insert(id, dir.to_owned());
        Some(id)
    }

    /// Ends a watch.
    pub(crate) fn unwatch(&mut self, id: WatchId) {
        if self.watches.remove(&id).is_some() {
            self.events.push(DirEvent::Ended(id));
        }
    }

    /// What happened in watched directories.
    pub(crate) fn take_events(&mut self) -> Vec<DirEvent> {
        std::mem::take(&mut self.events)
    }

    /// A name came to its directory or left it.
    fn tell(&mut self, path: &Path, came: bool) {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let Some((id, _)) = self.watches.iter().find(|(_, of)| *of == dir) else {
            return;
        };
        if self.ills.overflow || (self.weather.flaky && self.rng.chance(5)) {
            self.events = vec![DirEvent::Overflow];
            return;
        }
        self.events.push(if came {
            DirEvent::Came(*id, name.to_owned())
        } else {
            DirEvent::Left(*id, name.to_owned())
        });
    }
}
