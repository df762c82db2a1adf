//! The node in memory: files with inode numbers that are used again, and the kernel's wakes.
//!
//! 1. A freed inode number goes to the next file, as on ext4.
//! 2. An armed file wakes once; a write may be announced before the size moves.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rng::Rng;
use crate::base::files::{DirEvent, Entry, Files, Stat, WatchId};
use crate::base::pool::Buffer;
use crate::base::time::{Mono, Timestamp};
use crate::tail::{Event, Ring, Token};
use crate::wake::{Rung, WakeCounters};

#[derive(Debug, Default)]
struct Node {
    inode: u64,
    born_ns: Option<i64>,
    bytes: Vec<u8>,
    links: u64,
    opens: u64,
    announced: u64,
}

#[derive(Debug)]
struct Watched {
    key: u64,
    armed: bool,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    nodes: BTreeMap<u64, Node>,
    free: Vec<u64>,
    next_inode: u64,
    next_key: u64,
    watched: BTreeMap<Token, Watched>,
    woken: Vec<Token>,
    /// Events told and refused in the agent's life; the next `refusals` are refused.
    events: u64,
    refused: u64,
    refusals: u64,
    births: bool,
}

impl State {
    fn tidy(&mut self, key: u64) {
        if let Some(node) = self.nodes.get(&key)
            && node.links == 0
            && node.opens == 0
        {
            self.free.push(node.inode);
            self.nodes.remove(&key);
        }
    }
}

/// The node, shared by writers and the agent.
#[derive(Clone, Default)]
pub(super) struct World(Arc<Mutex<State>>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// An open file; the last one closed frees a deleted file's number.
#[derive(Debug)]
pub(super) struct Handle {
    world: World,
    key: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if let Some(node) = state.nodes.get_mut(&self.key) {
            node.opens -= 1;
        }
        state.tidy(self.key);
    }
}

impl World {
    /// An empty node; `births` says whether its file system has birth times.
    pub(super) fn new(births: bool) -> Self {
        let world = Self::default();
        world.lock().births = births;
        world
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an empty file; gives its key, which is never used again.
    pub(super) fn create(&self, path: &Path) -> u64 {
        let mut state = self.lock();
        let fresh = state.next_inode + 100;
        let inode = state.free.pop().unwrap_or(fresh);
        state.next_inode += u64::from(inode == fresh);
        state.next_key += 1;
        let key = state.next_key;
        let born_ns = state.births.then_some(key as i64 * 1_000);
        let node = Node {
            inode,
            born_ns,
            links: 1,
            ..Node::default()
        };
        state.nodes.insert(key, node);
        state.names.insert(path.to_owned(), key);
        key
    }

    /// Announces `more` bytes: armed readers wake before the size moves.
    pub(super) fn announce(&self, key: u64, more: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(node) = state.nodes.get_mut(&key) {
            node.announced = node.bytes.len() as u64 + more;
        }
        for (token, watched) in &mut state.watched {
            if watched.key == key && watched.armed {
                if state.refusals > 0 {
                    // As the probe does: the flag is taken back, and nobody knows.
                    (state.refusals, state.refused) = (state.refusals - 1, state.refused + 1);
                    continue;
                }
                watched.armed = false;
                state.woken.push(*token);
            }
        }
    }

    /// The wake source loses the next `count` events.
    #[cfg(test)]
    pub(super) fn refuse(&self, count: u64) {
        self.lock().refusals = count;
    }

    /// The bytes are there.
    pub(super) fn append(&self, key: u64, bytes: &[u8]) {
        if let Some(node) = self.lock().nodes.get_mut(&key) {
            node.bytes.extend_from_slice(bytes);
        }
    }

    /// Renames a file.
    pub(super) fn rename_log(&self, from: &Path, to: &Path) {
        let mut state = self.lock();
        if let Some(key) = state.names.remove(from) {
            state.names.insert(to.to_owned(), key);
        }
    }

    /// Deletes a name.
    pub(super) fn delete(&self, path: &Path) {
        let mut state = self.lock();
        if let Some(key) = state.names.remove(path) {
            if let Some(node) = state.nodes.get_mut(&key) {
                node.links -= 1;
            }
            state.tidy(key);
        }
    }

    /// The inode number of a file.
    pub(super) fn inode(&self, key: u64) -> u64 {
        self.lock().nodes.get(&key).map_or(0, |node| node.inode)
    }

    fn copy(&self, key: u64, offset: u64, into: &mut [u8]) -> usize {
        let state = self.lock();
        let Some(node) = state.nodes.get(&key) else {
            return 0;
        };
        let from = node.bytes.get(offset as usize..).unwrap_or_default();
        let take = from.len().min(into.len());
        into[..take].copy_from_slice(&from[..take]);
        take
    }
}

impl Files for World {
    type File = Handle;

    fn open_log(&self, path: &Path) -> io::Result<Handle> {
        let mut state = self.lock();
        let key = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if let Some(node) = state.nodes.get_mut(&key) {
            node.opens += 1;
        }
        let world = self.clone();
        Ok(Handle { world, key })
    }

    fn stat(&self, file: &Handle) -> io::Result<Stat> {
        let state = self.lock();
        let node = state.nodes.get(&file.key).ok_or(io::ErrorKind::NotFound)?;
        Ok(Stat {
            device: 1,
            inode: node.inode,
            born_ns: node.born_ns,
            size: node.bytes.len() as u64,
            links: node.links,
            modified: Timestamp::default(),
        })
    }

    fn read_at(&self, file: &Handle, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.copy(file.key, offset, into))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn watch(&self, _: &Path) -> io::Result<WatchId> {
        Ok(WatchId(0))
    }

    fn unwatch(&self, _: WatchId) {}

    fn events(&self, _: &mut Vec<DirEvent>) -> io::Result<()> {
        Ok(())
    }

    fn load(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn replace(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Pending {
    token: Token,
    key: u64,
    offset: u64,
    buf: Buffer,
    len: usize,
    /// The bytes were copied; the end is not told yet.
    done: Option<usize>,
}

/// The kernel's side of one agent's life.
#[derive(Debug)]
pub(super) struct SimRing {
    world: World,
    rng: Rng,
    /// Watches and reads fail now and then.
    flaky: bool,
    reads: Vec<Pending>,
    told: Vec<Event>,
}

impl SimRing {
    /// A ring over `world`; what an earlier one watched is gone.
    pub(super) fn new(world: World, rng: Rng, flaky: bool) -> Self {
        let mut state = world.lock();
        state.watched.clear();
        state.woken.clear();
        (state.events, state.refused) = (0, 0);
        drop(state);
        Self {
            world,
            rng,
            flaky,
            reads: Vec::new(),
            told: Vec::new(),
        }
    }
}

impl Ring for SimRing {
    type File = Handle;

    fn read(&mut self, token: Token, file: &Handle, offset: u64, buf: Buffer, len: usize) {
        self.reads.push(Pending {
            token,
            key: file.key,
            offset,
            buf,
            len,
            done: None,
        });
    }

    fn watch(&mut self, token: Token, file: &Handle, _: u64) -> io::Result<()> {
        if self.flaky && self.rng.chance(30) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let watched = Watched {
            key: file.key,
            armed: false,
        };
        self.world.lock().watched.insert(token, watched);
        Ok(())
    }

    fn unwatch(&mut self, token: Token) {
        self.world.lock().watched.remove(&token);
    }

    fn arm(&mut self, token: Token) -> io::Result<()> {
        if let Some(watched) = self.world.lock().watched.get_mut(&token) {
            watched.armed = true;
        }
        Ok(())
    }

    fn expected_end(&self, token: Token) -> Option<u64> {
        let state = self.world.lock();
        let key = state.watched.get(&token)?.key;
        state.nodes.get(&key).map(|node| node.announced)
    }

    fn rung_of(&self, token: Token) -> Rung {
        if self.world.lock().watched.contains_key(&token) {
            Rung::TracepointBtf
        } else {
            Rung::SweepOnly
        }
    }

    fn wake_counters(&self) -> WakeCounters {
        WakeCounters {
            events: self.world.lock().events,
            ..WakeCounters::default()
        }
    }

    fn refused(&self) -> u64 {
        self.world.lock().refused
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let woken = std::mem::take(&mut self.world.lock().woken);
        self.told.extend(woken.into_iter().map(Event::Woken));
        for mut read in std::mem::take(&mut self.reads) {
            // The bytes are copied now or later, and told now or later still.
            if read.done.is_none() && self.rng.chance(80) {
                let into = &mut read.buf[..read.len];
                read.done = Some(self.world.copy(read.key, read.offset, into));
            }
            match read.done {
                Some(count) if self.rng.chance(80) => {
                    let fails = self.flaky && self.rng.chance(1);
                    self.told.push(Event::Read {
                        token: read.token,
                        buf: read.buf,
                        result: if fails {
                            Err(io::ErrorKind::Interrupted.into())
                        } else {
                            Ok(count)
                        },
                    });
                }
                _ => self.reads.push(read),
            }
        }
        while !self.told.is_empty() && !self.rng.chance(10) {
            let at = self.rng.below(self.told.len() as u64) as usize;
            let event = self.told.swap_remove(at);
            self.world.lock().events += u64::from(matches!(event, Event::Woken(_)));
            events.push(event);
        }
        Ok(())
    }

    fn park(&mut self, _: Mono, _: Option<Mono>) -> io::Result<()> {
        Ok(())
    }
}
