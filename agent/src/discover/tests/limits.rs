//! What the system refuses, and what it loses.

use std::cell::Cell;
use std::io;

use super::*;
use crate::base::files::{DirEvent, Entry, Stat, WatchId};
use crate::discover::watches::UNCOVERED_MS;

/// The machine's files with a limit of watches, and a queue that can overflow.
struct Odd {
    inner: MachineFiles,
    left: Cell<usize>,
    refusal: Cell<i32>,
    overflow: Cell<bool>,
    lists: Cell<usize>,
}

impl Odd {
    fn new(inner: MachineFiles) -> Self {
        Self {
            inner,
            left: Cell::new(usize::MAX),
            refusal: Cell::new(28),
            overflow: Cell::new(false),
            lists: Cell::new(0),
        }
    }
}

impl Files for Odd {
    type File = std::fs::File;

    fn open_log(&self, path: &Path) -> io::Result<Self::File> {
        self.inner.open_log(path)
    }

    fn links(&self, path: &Path) -> Vec<PathBuf> {
        self.inner.links(path)
    }

    fn stat(&self, file: &Self::File) -> io::Result<Stat> {
        self.inner.stat(file)
    }

    fn read_at(&self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(file, offset, into)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.lists.set(self.lists.get() + 1);
        self.inner.list(dir)
    }

    fn watch(&self, dir: &Path) -> io::Result<WatchId> {
        if self.left.get() == 0 {
            return Err(io::Error::from_raw_os_error(self.refusal.get()));
        }
        let watch = self.inner.watch(dir)?;
        self.left.set(self.left.get() - 1);
        Ok(watch)
    }

    fn unwatch(&self, watch: WatchId) {
        self.inner.unwatch(watch);
    }

    fn events(&self, events: &mut Vec<DirEvent>) -> io::Result<()> {
        self.inner.events(events)?;
        if self.overflow.replace(false) {
            events.clear();
            events.push(DirEvent::Overflow);
        }
        Ok(())
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

const PODS: &str = "pods: {root: DIR/pods}";

#[test]
fn uncovered_directories_are_listed_and_covered_again_by_themselves() {
    // ENOSPC: no more watches; EMFILE: no more instances.
    for errno in [28, 24] {
        let mut ground = Ground::with("refuse", PODS, Odd::new);
        ground.files.refusal.set(errno);
        ground.write("pods/ns_a_uid/app/0.log");
        ground.files.left.set(1);
        assert_eq!(ground.start(), ["there pods/ns_a_uid/app/0.log"]);
        assert_eq!(ground.tree.counts(), (3, 1, 2, 3));
        assert_eq!(ground.value("tailwake_directories_uncovered"), 2);
        assert_eq!(ground.value("tailwake_watches_refused_total"), 2);
        // Nothing tells of the new file; no directory is listed before its time.
        ground.write("pods/ns_a_uid/app/1.log");
        let lists = ground.files.lists.get();
        assert_eq!(ground.turn(), [""; 0]);
        assert_eq!(ground.files.lists.get(), lists);
        let app = "pods/ns_a_uid/app";
        let want = [format!("found {app}/0.log"), format!("found {app}/1.log")];
        assert_eq!(ground.later(UNCOVERED_MS), want);
        // The two uncovered ones were listed, the root was not.
        assert_eq!(ground.files.lists.get(), lists + 2);
        ground.files.left.set(usize::MAX);
        ground.write("pods/ns_a_uid/app/2.log");
        assert!(!ground.later(UNCOVERED_MS).is_empty());
        assert_eq!(ground.value("tailwake_directories_uncovered"), 0);
        assert_eq!(ground.value("tailwake_directories_watched"), 3);
        let lists = ground.files.lists.get();
        ground.write("pods/ns_a_uid/app/3.log");
        assert!(!ground.turn().is_empty());
        assert_eq!(ground.later(UNCOVERED_MS), [""; 0]);
        assert_eq!(ground.files.lists.get(), lists + 1);
    }
}

#[test]
fn after_an_overflow_everything_is_looked_at_once() {
    let mut ground = Ground::with("overflow", PODS, Odd::new);
    ground.write("pods/ns_a_uid/app/0.log");
    ground.start();
    ground.files.overflow.set(true);
    ground.remove("pods/ns_a_uid/app/0.log");
    ground.write("pods/ns_a_uid/app/0.log");
    ground.write("pods/ns_b_uid/app/0.log");
    let want = [
        "found pods/ns_b_uid/app/0.log",
        "found pods/ns_a_uid/app/0.log",
    ];
    assert_eq!(ground.turn(), want);
    assert_eq!(ground.value("tailwake_watch_overflows_total"), 1);
    assert_eq!(ground.turn(), [""; 0]);
}
