//! The `Files` seam over the simulated kernel.

use std::io;
use std::path::{Path, PathBuf};

use tailwake::base::files::{DirEvent, Entry, Files, Refusal, Stat, WatchId};
use tailwake::base::time::Timestamp;

use crate::plan::{LINKED, ROOT};
use crate::world::{Key, World, eio};

/// An open file; the last one closed frees a deleted file's number.
#[derive(Debug)]
pub(crate) struct Handle {
    world: World,
    pub(crate) key: Key,
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

impl Files for World {
    type File = Handle;

    fn open_log(&self, path: &Path) -> io::Result<Handle> {
        let mut state = self.lock();
        if let Some(errno) = state.ills.open {
            return Err(io::Error::from_raw_os_error(errno as i32));
        }
        let target = state.lead(path).unwrap_or_else(|| path.to_owned());
        if !target.starts_with(ROOT) && !target.starts_with(LINKED) {
            return Err(Refusal::OutOfRoots.into());
        }
        let key = state.find(&target).ok_or(io::ErrorKind::NotFound)?;
        if let Some(node) = state.nodes.get_mut(&key) {
            node.opens += 1;
        }
        let world = self.clone();
        Ok(Handle { world, key })
    }

    fn links(&self, path: &Path) -> Vec<PathBuf> {
        self.lock().lead(path).into_iter().collect()
    }

    fn stat(&self, file: &Handle) -> io::Result<Stat> {
        let state = self.lock();
        if state.ills.stat.contains(&file.key) {
            return Err(eio());
        }
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
        copy(self, file.key, offset, into)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let listed = self.lock().list(dir).ok_or(io::ErrorKind::NotFound)?;
        let entry = |(name, kind)| Entry { name, kind };
        Ok(listed.into_iter().map(entry).collect())
    }

    fn watch(&self, dir: &Path) -> io::Result<WatchId> {
        let mut state = self.lock();
        if state.ills.watch || (state.weather.flaky && state.rng.chance(10)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(state.watch(dir).ok_or(io::ErrorKind::NotFound)?)
    }

    fn unwatch(&self, watch: WatchId) {
        self.lock().unwatch(watch);
    }

    fn events(&self, events: &mut Vec<DirEvent>) -> io::Result<()> {
        events.append(&mut self.lock().take_events());
        Ok(())
    }

    fn load(&self, _: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let bytes = state.positions.clone();
        Ok(bytes.ok_or(io::ErrorKind::NotFound)?)
    }

    fn replace(&self, _: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        if state.ills.full || (state.weather.flaky && state.rng.chance(15)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.positions = Some(bytes.to_vec());
        Ok(())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Copies a file's bytes; says how many.
///
/// # Errors
/// The disk is sick.
pub(crate) fn copy(world: &World, key: Key, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let state = world.lock();
    if state.ills.read.contains(&key) {
        return Err(eio());
    }
    let Some(node) = state.nodes.get(&key) else {
        return Ok(0);
    };
    let from = node.bytes.get(offset as usize..).unwrap_or_default();
    let take = from.len().min(into.len());
    into[..take].copy_from_slice(&from[..take]);
    Ok(take)
}
