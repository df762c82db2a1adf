//! The machine's files, of which some cannot be read for a while.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::base::files::{DirEvent, Entry, Files, Stat, WatchId};
use crate::machine::MachineFiles;

/// How many of the next reads outside the ring fail.
pub(super) type Failing = Rc<Cell<usize>>;

pub(super) struct FlakyFiles {
    inner: MachineFiles,
    failing: Failing,
}

impl FlakyFiles {
    pub(super) fn new(failing: Failing) -> Self {
        let inner = MachineFiles::new(vec![std::env::temp_dir()]);
        Self { inner, failing }
    }
}

impl Files for FlakyFiles {
    type File = File;

    fn open_log(&self, path: &Path) -> io::Result<File> {
        self.inner.open_log(path)
    }
    fn stat(&self, file: &File) -> io::Result<Stat> {
        self.inner.stat(file)
    }
    fn read_at(&self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if let Some(left) = self.failing.get().checked_sub(1) {
            self.failing.set(left);
            return Err(io::Error::other("the disk ails"));
        }
        self.inner.read_at(file, offset, into)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }
    fn watch(&self, dir: &Path) -> io::Result<WatchId> {
        self.inner.watch(dir)
    }
    fn unwatch(&self, watch: WatchId) {
        self.inner.unwatch(watch);
    }
    fn events(&self, events: &mut Vec<DirEvent>) -> io::Result<()> {
        self.inner.events(events)
    }
    fn load(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.inner.load(path)
    }
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.inner.replace(path, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
}
