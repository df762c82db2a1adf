//! The `Files` seam over the simulated kernel.

use std::io;
use std::path::Path;

use tailwake::base::files::{DirEvent, Entry, Files, Stat, WatchId};
use tailwake::base::time::Timestamp;

use crate::world::{Key, World};

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
        let key = state.find(path).ok_or(io::ErrorKind::NotFound)?;
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
        Ok(copy(self, file.key, offset, into))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let listed = self.lock().list(dir).ok_or(io::ErrorKind::NotFound)?;
        let entry = |(name, kind)| Entry { name, kind };
        Ok(listed.into_iter().map(entry).collect())
    }

    fn watch(&self, dir: &Path) -> io::Result<WatchId> {
        let mut state = self.lock();
        if state.weather.flaky && state.rng.chance(10) {
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
        if state.weather.flaky && state.rng.chance(15) {
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
pub(crate) fn copy(world: &World, key: Key, offset: u64, into: &mut [u8]) -> usize {
    let state = world.lock();
    let Some(node) = state.nodes.get(&key) else {
        return 0;
    };
    let from = node.bytes.get(offset as usize..).unwrap_or_default();
    let take = from.len().min(into.len());
    into[..take].copy_from_slice(&from[..take]);
    take
}
