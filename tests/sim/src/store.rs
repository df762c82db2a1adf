//! A spool's directory in memory: it forgets what was not synced, tears, fills up and fails.
//!
//! 1. What `sync` returned for is there after a power cut; of all else any part may be, the end first to be
//!    missing. A kill takes nothing.
//! 2. A removed file may be there again after a power cut.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tailwake::base::store::Store;

use crate::rng::Rng;
use crate::world::eio;

/// A directory that outlives the agent.
#[derive(Clone, Debug)]
pub(crate) struct SimStore(Rc<RefCell<Inside>>);

#[derive(Clone, Debug)]
struct Inside {
    files: BTreeMap<String, Content>,
    removed: BTreeMap<String, Content>,
    sick: Sick,
    rng: Rng,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// What the disk refuses for the time being.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sick {
    /// No byte more can be written.
    pub(crate) full: bool,
    pub(crate) sync: bool,
    pub(crate) read: bool,
    /// Nothing can be removed or renamed.
    pub(crate) remove: bool,
    pub(crate) list: bool,
}

impl SimStore {
    /// An empty directory.
    pub(crate) fn new(rng: Rng) -> Self {
        Self(Rc::new(RefCell::new(Inside {
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            sick: Sick::default(),
            rng,
        })))
    }

    /// What it refuses from now on.
    pub(crate) fn sick(&self, sick: Sick) {
        self.0.borrow_mut().sick = sick;
    }

    /// Some ill, or none, by its own numbers; says which where it changes.
    pub(crate) fn change(&self) -> Option<Sick> {
        let inside = &mut *self.0.borrow_mut();
        if !inside.rng.once_in(40) {
            return None;
        }
        let mut sick = Sick::default();
        match inside.rng.below(10) {
            0 => sick.full = true,
            1 => sick.sync = true,
            2 => sick.read = true,
            3 => sick.remove = true,
            4 => (sick.full, sick.remove) = (true, true),
            5 => sick.list = true,
            _ => {}
        }
        inside.sick = sick;
        Some(sick)
    }

    /// The agent is killed, or the power is cut.
    pub(crate) fn crash(&self) {
        let inside = &mut *self.0.borrow_mut();
        if inside.rng.chance(50) {
            return;
        }
        inside.cut_power();
    }

    /// A directory of its own with what a power cut would leave at the least.
    pub(crate) fn durable(&self) -> Self {
        let mut inside = self.0.borrow().clone();
        inside.sick = Sick::default();
        for it in inside.files.values_mut() {
            it.now.clone_from(&it.synced);
        }
        Self(Rc::new(RefCell::new(inside)))
    }
}

impl Inside {
    fn cut_power(&mut self) {
        for (name, it) in std::mem::take(&mut self.removed) {
            if self.rng.chance(50) {
                self.files.entry(name).or_insert(it);
            }
        }
        for it in self.files.values_mut() {
            let (old, new) = (it.synced.len(), it.now.len());
            let more = new.saturating_sub(old);
            let some = self.rng.below(more as u64 + 1) as usize;
            match self.rng.below(4) {
                0 => it.now.clone_from(&it.synced),
                1 => {}
                // Torn: old bytes are as they were, the end is cut.
                2 => {
                    it.now.truncate(old + some);
                    let keep = old.min(it.now.len());
                    it.now[..keep].copy_from_slice(&it.synced[..keep]);
                }
                // The size is there, the bytes are not.
                _ => it.now[(old + some).min(new)..].fill(0),
            }
            it.synced.clone_from(&it.now);
        }
    }
}

impl Store for SimStore {
    type File = String;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let inside = self.0.borrow();
        if inside.sick.list {
            return Err(eio());
        }
        let files = inside.files.iter();
        Ok(files
            .map(|(name, it)| (name.clone(), it.now.len() as u64))
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<String> {
        let mut inside = self.0.borrow_mut();
        if inside.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inside.files.insert(name.to_owned(), Content::default());
        Ok(name.to_owned())
    }

    fn open(&self, name: &str) -> io::Result<String> {
        let found = self.0.borrow().files.contains_key(name);
        found
            .then(|| name.to_owned())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, file: &String, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let inside = self.0.borrow();
        if inside.sick.read {
            return Err(eio());
        }
        let bytes = inside.files.get(file).map_or(&[][..], |it| &it.now);
        let from = bytes.get(at as usize..).unwrap_or_default();
        let take = from.len().min(into.len());
        into[..take].copy_from_slice(&from[..take]);
        Ok(take)
    }

    fn write_at(&self, file: &String, at: u64, bytes: &[u8]) -> io::Result<()> {
        let inside = &mut *self.0.borrow_mut();
        let it = inside.files.get_mut(file).ok_or_else(eio)?;
        let (at, end) = (at as usize, at as usize + bytes.len());
        // A full disk takes what overwrites, and a part of what is new.
        let full = inside.sick.full && end > it.now.len();
        let take = if full {
            inside.rng.place(bytes.len())
        } else {
            bytes.len()
        };
        it.now.resize(it.now.len().max(at + take), 0);
        it.now[at..at + take].copy_from_slice(&bytes[..take]);
        if full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn cut(&self, file: &String, size: u64) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        let it = inside.files.get_mut(file).ok_or_else(eio)?;
        it.now.truncate(size as usize);
        Ok(())
    }

    fn sync(&self, file: &String) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        if inside.sick.sync {
            return Err(eio());
        }
        let it = inside.files.get_mut(file).ok_or_else(eio)?;
        it.synced.clone_from(&it.now);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        if inside.sick.remove {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let gone = inside.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        inside.removed.insert(name.to_owned(), gone);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        if inside.sick.remove {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let moved = inside.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inside.files.insert(to.to_owned(), moved);
        Ok(())
    }
}
